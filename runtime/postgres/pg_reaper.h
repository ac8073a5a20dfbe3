/* pg_reaper.h - a thread that sends cancel requests and closes connections.
 *
 * Both wait for the network, which a request that ran out of time can't. The jobs of one connection are done in order: first the
 * cancel request, then the close. A request that is not done within PG_CANCEL_MS is left behind; while PG_CANCEL_LEFT_MAX are, no
 * further one is sent: the server will notice the closed connections.
 *
 * Threads: every function from any thread, but for init, start and release.
 */
#ifndef CICADA_POSTGRES_PG_REAPER_H
#define CICADA_POSTGRES_PG_REAPER_H

#include <pthread.h>
#include <stdbool.h>

#include "runtime/postgres/pg_cancel.h"
#include "runtime/postgres/pg_connection.h"

#define PG_CANCEL_MS       500
#define PG_CANCEL_LEFT_MAX 4

struct pg_reaper_job {
    struct pg_reaper_job *next;
    PGcancel *cancel;                 /* or NULL */
    struct pg_connection *connection; /* or NULL */
};

struct pg_reaper {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct pg_reaper_job *first, **end; /* guarded by lock */
    bool stopping;                      /* guarded by lock */
    pthread_t thread;
    bool started;
    struct pg_cancel *left[PG_CANCEL_LEFT_MAX]; /* under way for too long; of the thread alone */
};

void pg_reaper_init(struct pg_reaper *reaper);
void pg_reaper_start(struct pg_reaper *reaper);
void pg_reaper_release(struct pg_reaper *reaper); /* does what is left, then ends */

/* Takes ownership of both; either may be NULL. */
void pg_reaper_submit(struct pg_reaper *reaper, PGcancel *cancel, struct pg_connection *connection);

#endif
