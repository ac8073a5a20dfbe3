/* The pool's thread that opens connections and looks after idle ones. */
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/monotonic_cond.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_pool.h"

#define BACKOFF_MIN_MS       100
#define BACKOFF_MAX_MS       5000
#define BACKOFF_MAX_ASKED_MS 1000 /* while somebody waits */

static bool needs_connection(const struct pg_pool *pool)
{
    if (pool->open >= pool->size)
        return false;
    return pool->open == 0 || pool->waiters_first != NULL;
}

static int64_t backoff_ms(int failures)
{
    int64_t delay_ms = failures < 8 ? (int64_t)BACKOFF_MIN_MS << (failures - 1) : BACKOFF_MAX_MS;
    if (delay_ms > BACKOFF_MAX_MS)
        delay_ms = BACKOFF_MAX_MS;
    return random_from_half(delay_ms);
}

/* Called and returns with the lock held. */
static bool open_one(struct pg_pool *pool)
{
    (void)pthread_mutex_unlock(&pool->lock);
    struct err err = ERR_INIT;
    struct pg_outage outage = {"libpq_missing", false};
    struct pg_connection *connection = NULL;
    if (pq_api_load(pool->without_ldap, &err) == 0)
        connection = pg_connection_open(pool->url, pool->application_name, pool->pooler,
                                        pool->connect_timeout_ms, &pool->stop, &outage);
    (void)pthread_mutex_lock(&pool->lock);
    if (connection) {
        int64_t age_ms = pool->housekeeping.max_age_ms;
        connection->expires_ms =
            clock_monotonic_ms() + age_ms + (int64_t)(random_u64() % (uint64_t)(age_ms / 6 + 1));
        pool->outage = (struct pg_outage){0};
        pool->outage_since_ms = 0;
        pool->open++;
        if (pool->connects++ == 0)
            pool->first_connect_us = clock_monotonic_us();
        pg_pool_put_locked(pool, connection);
        return true;
    }
    if (pool->outage_since_ms == 0)
        pool->outage_since_ms = clock_monotonic_ms();
    pool->outage = outage;
    pool->connect_failures++;
    pg_pool_wake_waiters_locked(pool);
    return false;
}

/* Lock held, at least one idle. */
static struct pg_connection *take_longest_idle(struct pg_pool *pool)
{
    struct pg_connection **link = &pool->idle;
    while ((*link)->next)
        link = &(*link)->next;
    pool->idle_count--;
    return steal_ptr(link);
}

/* Takes each idle connection out for a moment; what is dead, over-age or surplus is closed. Lock as in open_one(). */
static void check_idle(struct pg_pool *pool)
{
    int64_t now_ms = clock_monotonic_ms();
    for (int left = pool->idle_count; left > 0 && pool->idle; left--) {
        struct pg_connection *connection = take_longest_idle(pool);
        bool surplus =
            pool->idle_count > 0 && now_ms - connection->idle_since_ms > pool->housekeeping.surplus_idle_ms;
        (void)pthread_mutex_unlock(&pool->lock);
        bool keep = !surplus && now_ms < connection->expires_ms && pg_connection_is_alive(connection);
        if (!keep)
            pg_connection_close(connection);
        (void)pthread_mutex_lock(&pool->lock);
        if (!keep)
            pool->open--;
        else /* to the front: after a whole round the order is as before */
            pg_pool_put_locked(pool, connection);
    }
}

void *pg_connector_run(void *arg)
{
    struct pg_pool *pool = arg;
    int failures = 0;
    int64_t failed_ms = 0, delay_ms = 0,
            next_check_ms = clock_monotonic_ms() + pool->housekeeping.check_interval_ms;
    (void)pthread_mutex_lock(&pool->lock);
    while (!stop_is_set(&pool->stop)) {
        int64_t now_ms = clock_monotonic_ms(), until_ms = next_check_ms;
        if (needs_connection(pool)) {
            bool soon = pool->waiters_first && delay_ms > BACKOFF_MAX_ASKED_MS;
            int64_t attempt_ms = failed_ms + (soon ? BACKOFF_MAX_ASKED_MS : delay_ms);
            if (now_ms >= attempt_ms) {
                failures = open_one(pool) ? 0 : failures + 1;
                failed_ms = clock_monotonic_ms();
                delay_ms = failures > 0 ? backoff_ms(failures) : 0;
                continue;
            }
            until_ms = attempt_ms < until_ms ? attempt_ms : until_ms;
        }
        if (now_ms >= next_check_ms) {
            check_idle(pool);
            next_check_ms = now_ms + pool->housekeeping.check_interval_ms;
            continue;
        }
        (void)monotonic_cond_wait(&pool->connector_wake, &pool->lock, until_ms);
    }
    pool->connector_ended = true;
    (void)pthread_cond_broadcast(&pool->connector_end);
    (void)pthread_mutex_unlock(&pool->lock);
    return NULL;
}
