/* retry.c - transactions that fall victim to others, by ?do=...: each attempt counts itself in a sequence, which no rollback
 * turns back. */
#include <cicada/function.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long number(struct cicada_request *req, const char *name)
{
    const char *text = cicada_request_query(req, name);
    return text ? strtol(text, NULL, 10) : 0;
}

static void sleep_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) != 0)
        continue;
}

/* Two first attempts wait for each other here, so that they do collide; who comes later or again passes. */
struct meeting {
    pthread_mutex_t mutex;
    pthread_cond_t all_here;
    int here;
};

static void meet(struct meeting *meeting)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    pthread_mutex_lock(&meeting->mutex);
    if (++meeting->here >= 2)
        pthread_cond_broadcast(&meeting->all_here);
    while (meeting->here < 2 && pthread_cond_timedwait(&meeting->all_here, &meeting->mutex, &until) == 0)
        continue;
    pthread_mutex_unlock(&meeting->mutex);
}

static long next_attempt(struct cicada_context *ctx)
{
    struct cicada_result *row;

    if (cicada_query(ctx, "SELECT nextval('retry_test.attempts')", CICADA_NO_PARAMS, &row) != CICADA_OK)
        return -1;
    return strtol(cicada_result_text(row, 0, 0, NULL), NULL, 10);
}

/* Fails with the SQLSTATE ?state= in the attempts up to ?until=, at once or (?at=commit) at COMMIT. */
static int planned(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    const char *at = cicada_request_query(req, "at");
    long attempt = next_attempt(ctx);
    char first[32];

    if (attempt < 0)
        return CICADA_FAIL;
    snprintf(first, sizeof(first), "of %ld", attempt);
    cicada_response_header(res, "X-Attempt", first);
    cicada_response_status(res, attempt == 1 ? 202 : 200);
    cicada_write_begin_object(res, NULL); /* not ended by an attempt that fails: a mistake, if it were kept */
    cicada_write_int64(res, "attempt", attempt);
    sleep_ms(number(req, "ms"));
    if (attempt <= number(req, "until")) {
        if (cicada_execute(ctx, at ? "INSERT INTO retry_test.late VALUES ($1)" : "SELECT retry_test.fail($1)",
                           CICADA_PARAMS(cicada_text(cicada_request_query(req, "state")))) != CICADA_OK)
            return CICADA_FAIL;
    }
    cicada_write_end(res);
    return cicada_execute(ctx, "INSERT INTO retry_test.done VALUES ($1)",
                          CICADA_PARAMS(cicada_int64(attempt)));
}

/* Adds 1 to the counter in two statements, between which others may do the same. */
static int increment(struct cicada_context *ctx, struct cicada_response *res, struct meeting *meeting)
{
    struct cicada_result *row;

    if (next_attempt(ctx) < 0 || cicada_query(ctx, "SELECT n FROM retry_test.counter WHERE id = 1",
                                              CICADA_NO_PARAMS, &row) != CICADA_OK)
        return CICADA_FAIL;
    meet(meeting);
    cicada_write_row(res, NULL, row, 0);
    return cicada_execute(ctx, "UPDATE retry_test.counter SET n = $1::int + 1 WHERE id = 1",
                          CICADA_PARAMS(cicada_text(cicada_result_text(row, 0, 0, NULL))));
}

/* Write skew: reads both rows and writes one of them. Both writes are through before one commits. */
static int skew(struct cicada_request *req, struct cicada_context *ctx, struct meeting *before,
                struct meeting *after)
{
    if (next_attempt(ctx) < 0 ||
        cicada_execute(ctx, "SELECT sum(n) FROM retry_test.counter", CICADA_NO_PARAMS) != CICADA_OK)
        return CICADA_FAIL;
    meet(before);
    if (cicada_execute(ctx, "UPDATE retry_test.counter SET n = n + 10 WHERE id = $1",
                       CICADA_PARAMS(cicada_text(cicada_request_query(req, "id")))) != CICADA_OK)
        return CICADA_FAIL;
    meet(after);
    return CICADA_OK;
}

/* Updates two rows in the order ?id= and the other one. */
static int deadlock(struct cicada_request *req, struct cicada_context *ctx, struct meeting *meeting)
{
    static const char update[] = "UPDATE retry_test.counter SET n = n + 1 WHERE id = $1";
    long id = number(req, "id");

    if (next_attempt(ctx) < 0 ||
        cicada_execute(ctx, "SET LOCAL deadlock_timeout = 50", CICADA_NO_PARAMS) != CICADA_OK ||
        cicada_execute(ctx, update, CICADA_PARAMS(cicada_int64(id))) != CICADA_OK)
        return CICADA_FAIL;
    meet(meeting);
    return cicada_execute(ctx, update, CICADA_PARAMS(cicada_int64(3 - id)));
}

static int retry(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    static struct meeting increments = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    static struct meeting reads = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    static struct meeting writes = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    static struct meeting locks = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    const char *what = cicada_request_query(req, "do");

    if (strcmp(what, "planned") == 0)
        return planned(req, ctx, res);
    if (strcmp(what, "increment") == 0)
        return increment(ctx, res, &increments);
    if (strcmp(what, "skew") == 0)
        return skew(req, ctx, &reads, &writes);
    return deadlock(req, ctx, &locks);
}
CICADA_FUNCTION(retry);
