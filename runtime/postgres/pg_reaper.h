/* pg_reaper.h - a thread that sends cancel requests and closes connections.
 *
 * PQcancel() makes a connection of its own and waits for the server, which a request that ran out of time can't. The jobs of
 * one connection are done in order: first the cancel request, then the close.
 *
 * Threads: every function from any thread, but for init, start and release.
 */
#ifndef CICADA_POSTGRES_PG_REAPER_H
#define CICADA_POSTGRES_PG_REAPER_H

#include <pthread.h>
#include <stdbool.h>

#include "runtime/postgres/pg_connection.h"

struct pg_reaper_job {
    struct pg_reaper_job *next;
    PGcancel *cancel;                 /* or NULL */
    struct pg_connection *connection; /* or NULL */
};

struct pg_reaper {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct pg_reaper_job *first, **end; /* guarded by lock */
    int64_t stopping_ms;                /* since when; 0: not; guarded by lock */
    pthread_t thread;
    bool started;
};

void pg_reaper_init(struct pg_reaper *reaper);
void pg_reaper_start(struct pg_reaper *reaper);
/* Does what is left, then ends. A cancel request under way is bounded by tcp_user_timeout; after PG_REAPER_STOP_MS no further
 * one is begun. */
#define PG_REAPER_STOP_MS 2000
void pg_reaper_release(struct pg_reaper *reaper);

/* Takes ownership of both; either may be NULL. */
void pg_reaper_submit(struct pg_reaper *reaper, PGcancel *cancel, struct pg_connection *connection);

#endif
