/* pg_pool.h - the pool from inside: lending and taking back. postgres.h has what the host sees.
 *
 * A connection is idle (on a stack, last in first out, so that surplus ones grow old), lent to one owner, or with one of the
 * pool's two threads:
 *
 *     connector   opens connections while somebody waits or none is open, looks after idle ones
 *     reaper      sends cancel requests and closes what must not be lent again
 *
 * Neither ever runs on the request path. Who waits is served in order; a connection given back goes to the first.
 *
 * Locks: pool->lock is a leaf: no I/O and no callback while it is held.
 */
#ifndef CICADA_POSTGRES_PG_POOL_H
#define CICADA_POSTGRES_PG_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/stop.h"
#include "runtime/postgres/pg_connection.h"
#include "runtime/postgres/pg_reaper.h"
#include "runtime/postgres/postgres.h"
#include "runtime/postgres/sql_guard_cache.h"

#define PG_POOL_SIZE_MAX 1000

/* How the connector keeps house; a test may change it before the pool starts. */
struct pg_housekeeping {
    int64_t check_interval_ms; /* idle connections are looked at this often */
    int64_t surplus_idle_ms;   /* those beyond the first are closed after being idle for so long */
    int64_t max_age_ms;        /* a connection is closed at this age, or up to a sixth later */
};

struct pg_waiter {
    struct pg_waiter *next;
    pthread_cond_t wake;
    struct pg_connection *connection; /* handed over */
};

/* How a transaction ended. */
enum pg_outcome {
    PG_OUTCOME_COMMIT,
    PG_OUTCOME_ROLLBACK,
    PG_OUTCOME_FAILURE,
    PG_OUTCOME_UNREACHABLE,
    PG_OUTCOME_LOST,
    PG_OUTCOME_COMMIT_UNKNOWN,
    PG_OUTCOMES,
};

struct pg_pool {
    /* Fixed after pg_pool_new(). */
    struct pg_url *url;
    char *application_name;
    int size;
    enum pg_isolation isolation;
    bool pooler;
    bool without_ldap;
    int64_t connect_timeout_ms;
    int64_t slow_statement_us;
    pg_slow_statement_fn *on_slow_statement;
    struct pg_housekeeping housekeeping;
    struct stop stop;
    struct pg_reaper reaper;
    struct sql_guard_cache guarded; /* any thread, without the lock */

    pthread_mutex_t lock;
    pthread_t connector; /* the rest is guarded by lock */
    bool started, connector_ended;
    pthread_cond_t connector_wake, connector_end;
    struct pg_connection *idle; /* the first is lent next, the last is idle for the longest */
    int idle_count;
    int open; /* idle, lent, or being looked at */
    struct pg_waiter *waiters_first, **waiters_end;
    int waiting;
    struct pg_outage
        outage; /* of the last attempt to connect; reason NULL: it succeeded, or there was none */
    int64_t outage_since_ms;
    int64_t connects, connect_failures, first_connect_us;

    _Atomic int64_t outcomes[PG_OUTCOMES]; /* not under the lock */
};

/* Waits in line for a connection, at most until the deadline. While the server can't be reached: at most for the time that a
 * connect may take, and once the outage is older than that, only for one more attempt. -1: UNREACHABLE, AUTHENTICATION or DEADLINE in *error. */
int pg_pool_borrow(struct pg_pool *pool, int64_t deadline_ms, struct pg_connection **ret_connection,
                   struct pg_error *error) __attribute__((warn_unused_result));
/* Takes it back, or closes it if it is not fit to be lent again. */
void pg_pool_return(struct pg_pool *pool, struct pg_connection *connection);

void pg_pool_count(struct pg_pool *pool, enum pg_outcome outcome);

/* For the connector (pg_connector.c). */
void pg_pool_put_locked(struct pg_pool *pool,
                        struct pg_connection *connection); /* to the first waiter, or idle */
void pg_pool_wake_waiters_locked(struct pg_pool *pool);
void *pg_connector_run(void *arg); /* struct pg_pool */

#endif
