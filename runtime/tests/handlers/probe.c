/* probe.c - what tests of the runtime ask for by ?do=...: each branch is one thing a handler may do, right or wrong. */
#include <cicada/function.h>
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

/* Everything the request has, as JSON. */
static int echo(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    const char *name, *value;
    struct cicada_json body = cicada_request_json(req);
    size_t len;

    (void)cicada_request_body(req, &len);
    cicada_write_begin_object(res, NULL);
    cicada_write_string(res, "method", cicada_request_method(req));
    cicada_write_string(res, "path", cicada_request_path(req));
    cicada_write_string(res, "id", cicada_request_parameter(req, "id"));
    cicada_write_int64(res, "bodyBytes", (int64_t)len);
    cicada_write_int64(res, "jsonType", cicada_json_type(body));
    cicada_write_begin_object(res, "query");
    for (size_t i = 0; cicada_request_query_at(req, i, &name, &value); i++)
        cicada_write_string(res, name, value);
    cicada_write_end(res);
    cicada_write_string(res, "traceparent", cicada_traceparent(ctx));
    cicada_write_string(res, "requestId", cicada_request_id(ctx));
    cicada_write_string(res, "function", cicada_function_name(ctx));
    cicada_write_string(res, "namespace", cicada_function_namespace(ctx));
    cicada_write_string(res, "state", cicada_state(ctx));
    cicada_write_bool(res, "inTime", cicada_deadline_left_ms(ctx) > 0);
    cicada_write_end(res);
    return CICADA_OK;
}

/* Inserts a note, then does what `then` says. */
static int write_note(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    const char *then = cicada_request_query(req, "then");
    struct cicada_result *note;

    if (cicada_query(ctx, "INSERT INTO runtime_test.notes (text) VALUES ($1) RETURNING id, text",
                     CICADA_PARAMS(cicada_text(cicada_request_query(req, "text"))), &note) != CICADA_OK)
        return CICADA_FAIL;
    sleep_ms(number(req, "ms"));
    cicada_write_row(res, NULL, note, 0);
    if (then == NULL)
        return CICADA_OK;
    if (strcmp(then, "fail") == 0)
        return CICADA_FAIL;
    if (strcmp(then, "409") == 0)
        cicada_response_status(res, 409);
    if (strcmp(then, "mistake") == 0)
        cicada_write_end(res);
    if (strcmp(then, "ignore") == 0) /* an error that the handler does not care about */
        (void)cicada_execute(ctx, "SELECT 1 / 0", CICADA_NO_PARAMS);
    if (strcmp(then, "sleep") == 0)
        return cicada_execute(ctx, "SELECT pg_sleep(30)", CICADA_NO_PARAMS);
    if (strcmp(then, "deferred") == 0) /* breaks a constraint that is checked at COMMIT */
        return cicada_execute(ctx, "INSERT INTO runtime_test.answers (note_id) VALUES (-1)",
                              CICADA_NO_PARAMS);
    if (strcmp(then, "big") == 0) {
        char *data = calloc(1, 100000);
        cicada_response_body(res, data, 100000);
        free(data);
    }
    return CICADA_OK;
}

/* Inserts a note and answers with what is hard to keep as it is; `n`: so many bytes instead. */
static int created(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    long count = number(req, "n");
    char *bytes = malloc((size_t)count + 255);

    if (cicada_execute(ctx, "INSERT INTO runtime_test.notes (text) VALUES ('created')", CICADA_NO_PARAMS) !=
        CICADA_OK)
        count = -1;
    for (long i = 0; i < count + 255; i++)
        bytes[i] = (char)(i % 255 + 1);
    cicada_response_status(res, 201);
    cicada_response_header(res, "Location", "/notes/1");
    cicada_response_header(res, "Set-Cookie", "a=1");
    cicada_response_header(res, "Set-Cookie", "b=2: 3");
    cicada_response_header(res, "Content-Type", "application/x-probe; v=\"1\"");
    cicada_response_body(res, bytes, (size_t)(count > 0 ? count : 255));
    free(bytes);
    return count >= 0 ? CICADA_OK : CICADA_FAIL;
}

/* The event, as JSON; ?name= is a further attribute. */
static int event(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    static const char *const names[] = {"specversion", "id",   "source",          "type",
                                        "subject",     "time", "datacontenttype", "dataschema"};
    const char *name = cicada_request_query(req, "name");
    size_t len;
    const char *body = cicada_request_body(req, &len);

    cicada_write_begin_object(res, NULL);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        cicada_write_string(res, names[i], cicada_event_attribute(ctx, names[i]));
    cicada_write_string(res, "named", name ? cicada_event_attribute(ctx, name) : NULL);
    cicada_write_int64(res, "attempt", cicada_event_attempt(ctx));
    cicada_write_string(res, "contentType", cicada_request_header(req, "Content-Type"));
    cicada_write_string_n(res, "body", body, len);
    cicada_write_end(res);
    return CICADA_OK;
}

static int types(struct cicada_context *ctx, struct cicada_response *res)
{
    struct cicada_result *row;

    if (cicada_query(
            ctx,
            "SELECT true AS b, 9007199254740993::bigint AS i, 1.10::numeric AS n, 'NaN'::float8 AS nan,"
            " '{\"a\": 1}'::jsonb AS j, NULL::text AS nil, $1::text AS t, $2::bigint AS p, $3::float8 AS d,"
            " $4::boolean AS f, $5::text AS np",
            CICADA_PARAMS(cicada_text("a\"b"), cicada_int64(INT64_MIN), cicada_double(0.1),
                          cicada_bool(false), cicada_null()),
            &row) != CICADA_OK)
        return CICADA_FAIL;
    cicada_write_row(res, NULL, row, 0);
    return CICADA_OK;
}

static int probe(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    const char *what = cicada_request_query(req, "do");

    if (number(req, "status") != 0) /* beside what else is asked for */
        cicada_response_status(res, (int32_t)number(req, "status"));
    if (what == NULL || strcmp(what, "echo") == 0)
        return echo(req, ctx, res);
    if (strcmp(what, "sleep") == 0) {
        sleep_ms(number(req, "ms"));
        cicada_response_header(res, "Content-Type", "text/plain");
        cicada_response_body(res, "slept\n", 6);
        return CICADA_OK;
    }
    if (strcmp(what, "note") == 0)
        return write_note(req, ctx, res);
    if (strcmp(what, "types") == 0)
        return types(ctx, res);
    if (strcmp(what, "fail") == 0)
        return CICADA_FAIL;
    if (strcmp(what, "commit") == 0)
        return cicada_execute(ctx, "COMMIT", CICADA_NO_PARAMS);
    if (strcmp(what, "select") == 0)
        return cicada_execute(ctx, "SELECT 1", CICADA_NO_PARAMS);
    if (strcmp(what, "sql") == 0)
        return cicada_execute(ctx, cicada_request_query(req, "sql"), CICADA_NO_PARAMS);
    if (strcmp(what, "slow") == 0) /* a statement of ?ms= with the parameter ?text= */
        return cicada_execute(ctx, "SELECT pg_sleep($1::float8 / 1000), $2::text FROM generate_series(1, 1)",
                              CICADA_PARAMS(cicada_double((double)number(req, "ms")),
                                            cicada_text(cicada_request_query(req, "text"))));
    if (strcmp(what, "header") == 0) { /* the value of the header ?name= */
        const char *value = cicada_request_header(req, cicada_request_query(req, "name"));
        cicada_write_begin_object(res, NULL);
        cicada_write_string(res, "header", value);
        cicada_write_string(res, "traceparent", cicada_traceparent(ctx));
        cicada_write_end(res);
        return CICADA_OK;
    }
    if (strcmp(what, "created") == 0)
        return created(req, ctx, res);
    if (strcmp(what, "event") == 0)
        return event(req, ctx, res);
    if (strcmp(what, "body") == 0) {
        size_t len;
        const char *body = cicada_request_body(req, &len);
        cicada_response_body(res, body, len);
        return CICADA_OK;
    }
    return cicada_problem(res, 400, "unknown_probe", "there is no probe %s", what);
}

static int probe_init(struct cicada_context *ctx, void **ret_state)
{
    cicada_log(ctx, CICADA_LOG_INFO, "probe begins in %s", cicada_function_namespace(ctx));
    *ret_state = strdup("made by init");
    return CICADA_OK;
}

static void probe_shutdown(void *state)
{
    free(state);
}

CICADA_FUNCTION(probe, .init = probe_init, .shutdown = probe_shutdown);

static int refuses_init(struct cicada_context *ctx, void **ret_state)
{
    (void)ret_state;
    cicada_log(ctx, CICADA_LOG_ERROR, "the model file is missing");
    return CICADA_FAIL;
}

static int refuses(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    return probe(req, ctx, res);
}

CICADA_FUNCTION(refuses, .init = refuses_init);
