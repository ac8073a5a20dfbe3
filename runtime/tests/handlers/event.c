/* event.c - handlers of events that note each run and then do what the payload says: {"text","status","detail","retryAfter","sql","sleepMs",
 * "commit","crash","header","otherwise"}. */
#include <cicada/function.h>
#include <stdlib.h>
#include <time.h>

static void sleep_ms(int64_t ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) != 0)
        continue;
}

static int note(struct cicada_context *ctx, const char *text)
{
    return cicada_execute(ctx, "INSERT INTO event_test.notes (text, request_id) VALUES ($1, $2)",
                          CICADA_PARAMS(cicada_text(text), cicada_text(cicada_request_id(ctx))));
}

static int handle_event(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    struct cicada_json body = cicada_request_json(req);
    const char *sql = cicada_json_get_string(body, "sql");
    const char *detail = cicada_json_get_string(body, "detail");
    const char *retry_after = cicada_json_get_string(body, "retryAfter");
    const char *header = cicada_json_get_string(body, "header");
    int64_t number = 0;

    if (cicada_json_get_int64(body, "sleepMs", &number))
        sleep_ms(number);
    if (note(ctx, header != NULL ? cicada_request_header(req, header)
                                 : cicada_json_get_string(body, "text")) != CICADA_OK)
        return CICADA_FAIL;
    if (cicada_json_get_int64(body, "crash", &number))
        abort();
    if (sql != NULL && cicada_execute(ctx, sql, CICADA_NO_PARAMS) != CICADA_OK) {
        if (!cicada_json_get_int64(body, "otherwise", &number))
            return CICADA_FAIL;
        (void)cicada_commit(ctx); /* in vain */
        return cicada_problem(res, (int)number, "otherwise", "as the event asks if its SQL fails");
    }
    if (cicada_json_get_int64(body, "commit", &number) && cicada_commit(ctx) != CICADA_OK)
        return CICADA_FAIL;
    if (!cicada_json_get_int64(body, "status", &number))
        return CICADA_OK;
    cicada_problem(res, (int)number, "as_asked", "as the event asks%s", detail != NULL ? detail : "");
    if (retry_after != NULL)
        cicada_response_header(res, "Retry-After", retry_after);
    return CICADA_FAIL;
}
CICADA_FUNCTION(handle_event);

/* Takes them one by one; "fail" fails the event with that status, "sql" may fail, "stop" ends the call early. */
static int handle_batch(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    int64_t count = (int64_t)cicada_event_count(ctx), number = 0;

    if (cicada_json_count(cicada_request_json(req)) != (size_t)count)
        return cicada_problem(res, 500, "no_array", "the body is not the array of the events");
    while (cicada_event_next(ctx)) {
        struct cicada_json data = cicada_event_json(ctx);
        const char *sql = cicada_json_get_string(data, "sql");

        (void)cicada_execute(ctx, "INSERT INTO event_test.notes (text, request_id) VALUES ($1, $2)",
                             CICADA_PARAMS(cicada_text(cicada_json_get_string(data, "text")),
                                           cicada_text(cicada_event_id(ctx))));
        if (cicada_json_get_int64(data, "crash", &number))
            abort();
        if (cicada_json_get_int64(data, "whole", &number) && count > 1)
            return cicada_problem(res, 422, "as_asked", "the batch fails");
        if (cicada_json_get_int64(data, "fail", &number) &&
            cicada_event_fail(ctx, (int)number, "event %s fails", cicada_event_id(ctx)) != CICADA_OK)
            return CICADA_FAIL;
        if (sql != NULL)
            (void)cicada_execute(ctx, sql, CICADA_NO_PARAMS);
        if (cicada_json_get_int64(data, "commit", &number) && cicada_commit(ctx) != CICADA_OK)
            return CICADA_FAIL;
        if (cicada_json_get_int64(data, "stop", &number))
            return CICADA_OK;
    }
    cicada_log(ctx, CICADA_LOG_INFO, "a batch of %lld", (long long)count);
    return CICADA_OK;
}
CICADA_FUNCTION(handle_batch);
