#include "runtime/postgres/pg_pool.h"

#include <assert.h>
#include <stdatomic.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/monotonic_cond.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_error.h"

int pg_pool_new(const struct pg_pool_settings *settings, struct pg_pool **ret_pool, struct err *err)
{
    if (settings->size < 1 || settings->size > PG_POOL_SIZE_MAX)
        return err_set(err, ERR_INVALID, "pool size must be 1 to %d", PG_POOL_SIZE_MAX);
    if (settings->connect_timeout_ms <= 0)
        return err_set(err, ERR_INVALID, "connect timeout must be positive");
    struct pg_url *url;
    if (pg_url_parse(settings->url, &url, err) < 0)
        return -1;
    struct pg_pool *pool = xcalloc(1, sizeof(*pool));
    pool->url = url;
    if (settings->remote_only)
        pg_url_set_remote_only(url);
    pool->application_name = xstrdup(settings->application_name ? settings->application_name : "cicada");
    pool->size = settings->size;
    pool->isolation = settings->isolation;
    pool->pooler = settings->pooler;
    pool->without_ldap = settings->without_ldap;
    pool->connect_timeout_ms = pg_url_connect_timeout_ms(url, settings->connect_timeout_ms);
    pool->slow_statement_us = settings->slow_statement_ms * 1000;
    pool->on_slow_statement = settings->on_slow_statement;
    pool->housekeeping = (struct pg_housekeeping){
        .check_interval_ms = 5000,
        .surplus_idle_ms = 60000,
        .max_age_ms = (int64_t)30 * 60 * 1000,
    };
    stop_init(&pool->stop);
    pg_reaper_init(&pool->reaper);
    (void)pthread_mutex_init(&pool->lock, NULL);
    monotonic_cond_init(&pool->connector_wake);
    monotonic_cond_init(&pool->connector_end);
    pool->waiters_end = &pool->waiters_first;
    *ret_pool = pool;
    return 0;
}

void pg_pool_start(struct pg_pool *pool)
{
    pg_reaper_start(&pool->reaper);
    (void)pthread_mutex_lock(&pool->lock);
    pool->started = pthread_create(&pool->connector, NULL, pg_connector_run, pool) == 0;
    if (!pool->started)
        abort(); /* as in pg_reaper_start() */
    (void)pthread_mutex_unlock(&pool->lock);
}

static struct pg_connection *pop_idle(struct pg_pool *pool)
{
    struct pg_connection *connection = pool->idle;
    pool->idle = connection->next;
    pool->idle_count--;
    return connection;
}

bool pg_pool_stop(struct pg_pool *pool, int64_t deadline_ms)
{
    if (!pool)
        return true;
    stop_set(&pool->stop);
    (void)pthread_mutex_lock(&pool->lock);
    (void)pthread_cond_signal(&pool->connector_wake);
    while (pool->started && !pool->connector_ended && clock_monotonic_ms() < deadline_ms)
        (void)monotonic_cond_wait(&pool->connector_end, &pool->lock, deadline_ms);
    bool ended = !pool->started || pool->connector_ended;
    (void)pthread_mutex_unlock(&pool->lock);
    return ended;
}

void pg_pool_free(struct pg_pool *pool)
{
    if (!pool)
        return;
    assert(!pool->waiters_first);
    (void)!pg_pool_stop(pool, DEADLINE_NONE);
    if (pool->started)
        (void)pthread_join(pool->connector, NULL);
    assert(pool->open == pool->idle_count); /* no transaction is left */
    while (pool->idle)
        pg_connection_close(pop_idle(pool));
    pg_reaper_release(&pool->reaper);
    stop_release(&pool->stop);
    (void)pthread_cond_destroy(&pool->connector_wake);
    (void)pthread_cond_destroy(&pool->connector_end);
    (void)pthread_mutex_destroy(&pool->lock);
    sql_guard_cache_release(&pool->guarded);
    pg_url_free(pool->url);
    free(pool->application_name);
    free(pool);
}

/* ---- lending ---- */

static void enqueue(struct pg_pool *pool, struct pg_waiter *waiter, bool first)
{
    if (first) {
        waiter->next = pool->waiters_first;
        pool->waiters_first = waiter;
        if (!waiter->next)
            pool->waiters_end = &waiter->next;
    } else {
        waiter->next = NULL;
        *pool->waiters_end = waiter;
        pool->waiters_end = &waiter->next;
    }
    pool->waiting++;
    (void)pthread_cond_signal(&pool->connector_wake);
}

static void dequeue(struct pg_pool *pool, struct pg_waiter *waiter)
{
    for (struct pg_waiter **link = &pool->waiters_first; *link; link = &(*link)->next) {
        if (*link != waiter)
            continue;
        *link = waiter->next;
        if (!waiter->next)
            pool->waiters_end = link;
        pool->waiting--;
        return;
    }
}

void pg_pool_put_locked(struct pg_pool *pool, struct pg_connection *connection)
{
    struct pg_waiter *waiter = pool->waiters_first;
    if (waiter) {
        dequeue(pool, waiter);
        waiter->connection = connection;
        (void)pthread_cond_signal(&waiter->wake);
        return;
    }
    connection->next = pool->idle;
    pool->idle = connection;
    pool->idle_count++;
}

void pg_pool_wake_waiters_locked(struct pg_pool *pool)
{
    for (struct pg_waiter *waiter = pool->waiters_first; waiter; waiter = waiter->next)
        (void)pthread_cond_signal(&waiter->wake);
}

/* Nothing that is open could come back, and the server is not to be reached. */
static bool is_out_of_reach(const struct pg_pool *pool)
{
    return pool->open == 0 && pool->outage.reason != NULL;
}

struct wait {
    int64_t start_ms, deadline_ms;
    int64_t failures_before; /* connect_failures when the wait began */
};

/* Should a waiter give up? *ret_until_ms: when to look again. */
static bool has_failed(const struct pg_pool *pool, const struct wait *wait, int64_t *ret_until_ms,
                       struct pg_error *error)
{
    int64_t now_ms = clock_monotonic_ms();
    *ret_until_ms = wait->deadline_ms;
    if (is_out_of_reach(pool)) {
        if (pool->outage.authentication) {
            pg_error_set(error, PG_FAILURE_AUTHENTICATION, "the database rejected the role or its password");
            return true;
        }
        /* A server that restarts is worth waiting for, a dead one is not. */
        int64_t patience_ms = wait->start_ms + pool->connect_timeout_ms;
        bool hopeless = pool->connect_failures > wait->failures_before &&
                        now_ms >= pool->outage_since_ms + pool->connect_timeout_ms;
        if (hopeless || now_ms >= patience_ms || now_ms >= wait->deadline_ms) {
            pg_error_set(error, PG_FAILURE_UNREACHABLE, "the database can't be reached: %s",
                         pool->outage.reason);
            return true;
        }
        *ret_until_ms = patience_ms < wait->deadline_ms ? patience_ms : wait->deadline_ms;
        return false;
    }
    if (now_ms < wait->deadline_ms)
        return false;
    if (pool->open == 0) {
        pg_error_set(error, PG_FAILURE_UNREACHABLE, "the database can't be reached: timeout");
    } else {
        pg_error_set(error, PG_FAILURE_DEADLINE, "no database connection became free in time");
        error->busy = true;
    }
    return true;
}

/* One turn in the line. `again`: an earlier turn got a dead connection, so this one goes first. */
static struct pg_connection *take(struct pg_pool *pool, struct wait *wait, bool again, struct pg_error *error)
{
    struct pg_waiter waiter = {0};
    monotonic_cond_init(&waiter.wake);
    (void)pthread_mutex_lock(&pool->lock);
    if (pool->idle && (again || !pool->waiters_first)) {
        waiter.connection = pop_idle(pool);
    } else {
        if (!again)
            wait->failures_before = pool->connect_failures;
        enqueue(pool, &waiter, again);
        int64_t until_ms;
        while (!waiter.connection && !has_failed(pool, wait, &until_ms, error))
            (void)monotonic_cond_wait(&waiter.wake, &pool->lock, until_ms);
        if (!waiter.connection)
            dequeue(pool, &waiter);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    (void)pthread_cond_destroy(&waiter.wake);
    return waiter.connection;
}

static void drop(struct pg_pool *pool, struct pg_connection *connection)
{
    (void)pthread_mutex_lock(&pool->lock);
    pool->open--;
    (void)pthread_cond_signal(&pool->connector_wake);
    (void)pthread_mutex_unlock(&pool->lock);
    pg_reaper_submit(&pool->reaper, NULL, connection);
}

int pg_pool_borrow(struct pg_pool *pool, int64_t deadline_ms, struct pg_connection **ret_connection,
                   struct pg_error *error)
{
    struct wait wait = {.start_ms = clock_monotonic_ms(), .deadline_ms = deadline_ms};
    for (bool again = false;; again = true) {
        struct pg_connection *connection = take(pool, &wait, again, error);
        if (!connection)
            return -1;
        if (pg_connection_is_alive(connection)) {
            *ret_connection = connection;
            return 0;
        }
        drop(pool, connection);
    }
}

void pg_pool_return(struct pg_pool *pool, struct pg_connection *connection)
{
    int64_t now_ms = clock_monotonic_ms();
    /* The one place that decides whether a connection is lent again. */
    bool fit = !connection->doubtful && !connection->session_changed && !connection->statements_stale &&
               now_ms < connection->expires_ms && pq.PQstatus(connection->conn) == CONNECTION_OK &&
               pq.PQtransactionStatus(connection->conn) == PQTRANS_IDLE &&
               pg_connection_is_unchanged(connection);
    if (!fit) {
        drop(pool, connection);
        return;
    }
    connection->idle_since_ms = now_ms;
    (void)pthread_mutex_lock(&pool->lock);
    pg_pool_put_locked(pool, connection);
    (void)pthread_mutex_unlock(&pool->lock);
}

/* ---- figures ---- */

void pg_pool_count(struct pg_pool *pool, enum pg_outcome outcome)
{
    atomic_fetch_add_explicit(&pool->outcomes[outcome], 1, memory_order_relaxed);
}

static int64_t counted(struct pg_pool *pool, enum pg_outcome outcome)
{
    return atomic_load_explicit(&pool->outcomes[outcome], memory_order_relaxed);
}

void pg_pool_stats(struct pg_pool *pool, struct pg_pool_stats *ret)
{
    (void)pthread_mutex_lock(&pool->lock);
    *ret = (struct pg_pool_stats){
        .open = pool->open,
        .idle = pool->idle_count,
        .lent = pool->open - pool->idle_count,
        .waiting = pool->waiting,
        .connects = pool->connects,
        .connect_failures = pool->connect_failures,
        .first_connect_us = pool->first_connect_us,
        .commits = counted(pool, PG_OUTCOME_COMMIT),
        .rollbacks = counted(pool, PG_OUTCOME_ROLLBACK),
        .failures = counted(pool, PG_OUTCOME_FAILURE),
        .unreachable = counted(pool, PG_OUTCOME_UNREACHABLE),
        .lost = counted(pool, PG_OUTCOME_LOST),
        .commit_unknown = counted(pool, PG_OUTCOME_COMMIT_UNKNOWN),
    };
    (void)pthread_mutex_unlock(&pool->lock);
}

const char *pg_pool_outage(struct pg_pool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    const char *reason = is_out_of_reach(pool) ? pool->outage.reason : NULL;
    (void)pthread_mutex_unlock(&pool->lock);
    return reason;
}

bool pg_pool_authentication_failed(struct pg_pool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    bool failed = is_out_of_reach(pool) && pool->outage.authentication;
    (void)pthread_mutex_unlock(&pool->lock);
    return failed;
}
