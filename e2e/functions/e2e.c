/* e2e.c - handlers of the end-to-end tests' own: what the shop does not do. */
#include <cicada/function.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/* Works for ?ms= milliseconds, and says 500 if another call was at work in this process meanwhile. */
static int handle_exclusive(struct cicada_request *req, struct cicada_context *ctx,
                            struct cicada_response *res)
{
    static atomic_int at_work;
    const char *text = cicada_request_query(req, "ms");
    long ms = text ? strtol(text, NULL, 10) : 100;

    (void)ctx;
    if (ms < 0 || ms > 30000)
        return cicada_problem(res, 422, "bad_ms", "ms must be between 0 and 30000");
    int others = atomic_fetch_add(&at_work, 1);
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
    atomic_fetch_sub(&at_work, 1);
    if (others > 0)
        return cicada_problem(res, 500, "not_alone", "%d others were at work", others);
    cicada_write_begin_object(res, NULL);
    cicada_write_int64(res, "ms", ms);
    cicada_write_end(res);
    return CICADA_OK;
}
CICADA_FUNCTION(handle_exclusive);

/* Works for ?ms= milliseconds, then writes ?id= as a row of e2e_requests: what was done for a request can be counted afterwards. */
static int handle_record(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    const char *id = cicada_request_query(req, "id"), *text = cicada_request_query(req, "ms");
    const char *pod = getenv("POD_NAME");
    long ms = text ? strtol(text, NULL, 10) : 0;
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    if (id == NULL || ms < 0 || ms > 60000)
        return cicada_problem(res, 422, "bad_query", "id is missing, or ms is not between 0 and 60000");
    nanosleep(&pause, NULL);
    if (cicada_query(ctx, "INSERT INTO e2e_requests (id, pod) VALUES ($1, $2)",
                     CICADA_PARAMS(cicada_text(id), cicada_text(pod)), NULL) != CICADA_OK)
        return CICADA_FAIL;
    cicada_write_begin_object(res, NULL);
    cicada_write_string(res, "id", id);
    cicada_write_string(res, "pod", pod);
    cicada_write_end(res);
    return CICADA_OK;
}
CICADA_FUNCTION(handle_record);

static int crash(struct cicada_context *ctx, void **ret_state)
{
    (void)ctx;
    (void)ret_state;
    /* A trap is a real fault: the kernel ignores a signal that PID 1 of a container sends itself. */
    __builtin_trap();
    return CICADA_FAIL;
}

static int handle_crash_at_start(struct cicada_request *req, struct cicada_context *ctx,
                                 struct cicada_response *res)
{
    (void)req;
    (void)ctx;
    return cicada_problem(res, 500, "unreachable", "init never returns");
}
CICADA_FUNCTION(handle_crash_at_start, .init = crash);

static int handle_crash_on_request(struct cicada_request *req, struct cicada_context *ctx,
                                   struct cicada_response *res)
{
    (void)ctx;
    if (cicada_request_query(req, "crash") != NULL)
        __builtin_trap();
    cicada_write_begin_object(res, NULL);
    cicada_write_end(res);
    return CICADA_OK;
}
CICADA_FUNCTION(handle_crash_on_request);
