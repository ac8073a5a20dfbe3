#include "runtime/host/sql_start.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/stop.h"

/* An attempt waits for a connection and for answers. Short at first, so that /readyz soon tells that there is no database; longer
 * when there is one that is slow. */
#define ATTEMPT_MIN_MS 500
#define ATTEMPT_MAX_MS 16000
#define PAUSE_MS       50 /* beside the pool's own back-off */

struct sql_start {
    struct sql_function *function;
    struct pg_pool *pool;
    struct lifecycle *lifecycle;
    pthread_t thread;
    bool joined;
    struct stop stop, over;
    enum sql_start_outcome outcome; /* the thread's, until it was joined, as err */
    struct err err;
};

static void tell(struct sql_start *start, const struct pg_error *error, char last[sizeof(error->message)])
{
    if (strcmp(last, error->message) == 0)
        return;
    memcpy(last, error->message, sizeof(error->message));
    lifecycle_delay(start->lifecycle, "DatabaseUnreachable", "the statements can't be prepared yet",
                    error->message);
}

static enum sql_start_outcome prepare(struct sql_start *start)
{
    char last[sizeof(((struct pg_error *)0)->message)] = "";
    int64_t attempt_ms = ATTEMPT_MIN_MS;
    struct pg_error error;

    do {
        enum sql_plan_outcome outcome = sql_function_prepare(
            start->function, start->pool, clock_monotonic_ms() + attempt_ms, &error, &start->err);

        if (outcome == SQL_PLAN_READY)
            return SQL_START_READY;
        if (outcome == SQL_PLAN_REJECTED)
            return SQL_START_REJECTED;
        if (error.failure == PG_FAILURE_AUTHENTICATION)
            return SQL_START_AUTHENTICATION;
        if (error.failure == PG_FAILURE_DEADLINE && attempt_ms < ATTEMPT_MAX_MS)
            attempt_ms *= 2;
        tell(start, &error, last);
    } while (!stop_wait(&start->stop, PAUSE_MS));
    return SQL_START_REJECTED; /* nobody asks any more */
}

static void *start_main(void *arg)
{
    struct sql_start *start = arg;

    start->outcome = prepare(start);
    stop_set(&start->over);
    return NULL;
}

struct sql_start *sql_start_begin(struct sql_function *function, struct pg_pool *pool,
                                  struct lifecycle *lifecycle)
{
    struct sql_start *start = xcalloc(1, sizeof(*start));

    start->function = function;
    start->pool = pool;
    start->lifecycle = lifecycle;
    stop_init(&start->stop);
    stop_init(&start->over);
    if (pthread_create(&start->thread, NULL, start_main, start) != 0)
        abort(); /* as for the pool's threads: without memory for them nothing works */
    return start;
}

int sql_start_fd(const struct sql_start *start)
{
    return stop_fd(&start->over);
}

static void join(struct sql_start *start)
{
    if (!start->joined)
        (void)pthread_join(start->thread, NULL);
    start->joined = true;
}

enum sql_start_outcome sql_start_outcome(struct sql_start *start, struct err *err)
{
    join(start); /* it is at its end, and what it wrote may be read then */
    if (start->outcome == SQL_START_REJECTED)
        *err = start->err;
    return start->outcome;
}

bool sql_start_end(struct sql_start *start)
{
    if (start == NULL)
        return true;
    stop_set(&start->stop);
    if (!stop_is_set(&start->over)) {
        (void)pthread_detach(start->thread);
        return false;
    }
    join(start);
    stop_release(&start->stop);
    stop_release(&start->over);
    free(start);
    return true;
}
