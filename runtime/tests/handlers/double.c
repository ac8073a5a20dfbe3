/* double.c - what the test double of the SDK and the runtime must answer alike, by ?do=... */
#include <cicada/function.h>
#include <stdlib.h>
#include <string.h>

static bool is(struct cicada_request *req, const char *value)
{
    return strcmp(cicada_request_query(req, "do"), value) == 0;
}

static void write_value(struct cicada_response *res, const char *name, struct cicada_json json)
{
    int64_t integer = 0;
    double number = 0;
    bool boolean = false;
    size_t len = 0;
    const char *text;

    cicada_write_begin_object(res, name);
    cicada_write_int64(res, "type", cicada_json_type(json));
    cicada_write_int64(res, "count", (int64_t)cicada_json_count(json));
    cicada_write_string(res, "name", cicada_json_name(json, NULL));
    text = cicada_json_string(json, &len);
    cicada_write_string_n(res, "string", text, len);
    if (cicada_json_int64(json, &integer))
        cicada_write_int64(res, "integer", integer);
    if (cicada_json_double(json, &number))
        cicada_write_double(res, "double", number);
    if (cicada_json_bool(json, &boolean))
        cicada_write_bool(res, "bool", boolean);
    text = cicada_json_raw(json, &len);
    if (text != NULL)
        cicada_write_raw(res, "raw", text, len);
    cicada_write_begin_array(res, "children");
    for (struct cicada_json child = cicada_json_first(json); cicada_json_type(child) != CICADA_JSON_ABSENT;
         child = cicada_json_next(child))
        write_value(res, NULL, child);
    cicada_write_end(res);
    cicada_write_end(res);
}

static int request(struct cicada_request *req, struct cicada_response *res)
{
    size_t len;
    const char *body = cicada_request_body(req, &len);

    cicada_response_header(res, "X-Given", cicada_request_header(req, "x-given"));
    cicada_response_status(res, 202);
    cicada_write_begin_object(res, NULL);
    cicada_write_string(res, "method", cicada_request_method(req));
    cicada_write_string(res, "path", cicada_request_path(req));
    cicada_write_string(res, "none", cicada_request_query(req, "none"));
    cicada_write_string_n(res, "body", body, len);
    write_value(res, "json", cicada_request_json(req));
    write_value(res, "member", cicada_json_member(cicada_request_json(req), "b"));
    cicada_write_end(res);
    return CICADA_OK;
}

static int event(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    cicada_write_begin_object(res, NULL);
    cicada_write_string(res, "specversion", cicada_event_attribute(ctx, "specversion"));
    cicada_write_string(res, "id", cicada_event_id(ctx));
    cicada_write_string(res, "source", cicada_event_source(ctx));
    cicada_write_string(res, "type", cicada_event_type(ctx));
    cicada_write_string(res, "subject", cicada_event_subject(ctx));
    cicada_write_string(res, "time", cicada_event_time(ctx));
    cicada_write_string(res, "extension", cicada_event_attribute(ctx, "comexample"));
    cicada_write_int64(res, "attempt", cicada_event_attempt(ctx));
    write_value(res, "data", cicada_request_json(req));
    cicada_write_end(res);
    return CICADA_OK;
}

static int insert(struct cicada_context *ctx, int64_t id)
{
    return cicada_execute(ctx, "INSERT INTO double_test.item VALUES ($1)", CICADA_PARAMS(cicada_int64(id)));
}

static int rows(struct cicada_context *ctx, struct cicada_response *res)
{
    struct cicada_result *result;

    if (insert(ctx, 1) != CICADA_OK || cicada_query(ctx,
                                                    "SELECT id, 1.50::numeric AS n, true AS yes, '{\"a\": "
                                                    "1}'::jsonb AS j, NULL::int AS nil, 'NaN'::float8 AS nan,"
                                                    " 'x\"y' AS text FROM double_test.item",
                                                    CICADA_NO_PARAMS, &result) != CICADA_OK)
        return CICADA_FAIL;
    cicada_write_begin_array(res, NULL);
    cicada_write_int64(res, NULL, cicada_result_rows(result));
    cicada_write_int64(res, NULL, cicada_result_columns(result));
    cicada_write_int64(res, NULL, cicada_result_affected(result));
    cicada_write_int64(res, NULL, cicada_result_column(result, "text"));
    cicada_write_int64(res, NULL, cicada_result_column(result, "nothing"));
    cicada_write_string(res, NULL, cicada_result_get(result, 0, "n"));
    cicada_write_string(res, NULL, cicada_result_get(result, 1, "n"));
    cicada_write_row(res, NULL, result, 0);
    cicada_write_end(res);
    return CICADA_OK;
}

/* The second insert of the same id violates the key. */
static int database(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    bool inside = is(req, "undo") || is(req, "undo-late");

    if (insert(ctx, 1) != CICADA_OK)
        return CICADA_FAIL;
    if (is(req, "no-savepoint"))
        return cicada_savepoint_rollback(ctx);
    if (inside && cicada_savepoint(ctx) != CICADA_OK)
        return CICADA_FAIL;
    if (insert(ctx, 1) == CICADA_OK)
        return cicada_problem(res, 500, "impossible", "two of them");
    if (is(req, "undo") && cicada_savepoint_rollback(ctx) != CICADA_OK)
        return CICADA_FAIL;
    cicada_write_begin_object(res, NULL);
    cicada_write_string(res, "sqlstate", cicada_error_sqlstate(ctx));
    cicada_write_string(res, "constraint", cicada_error_constraint(ctx));
    cicada_write_bool(res, "usable", insert(ctx, 2) == CICADA_OK);
    cicada_write_end(res);
    if (is(req, "violation"))
        return CICADA_FAIL;
    if (is(req, "violation-told"))
        return cicada_problem(res, 410, "told", "by the handler");
    return CICADA_OK;
}

static int commit(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    if (insert(ctx, 1) != CICADA_OK)
        return CICADA_FAIL;
    if (is(req, "commit-deferred") &&
        cicada_execute(ctx, "INSERT INTO double_test.late VALUES (1), (1)", CICADA_NO_PARAMS) != CICADA_OK)
        return CICADA_FAIL;
    if (cicada_commit(ctx) != CICADA_OK)
        return CICADA_OK; /* the answer follows the database all the same */
    if (is(req, "commit-fail"))
        return CICADA_FAIL;
    if (is(req, "commit-late"))
        return insert(ctx, 2);
    cicada_write_bool(res, NULL, insert(ctx, 2) == CICADA_OK);
    return CICADA_OK;
}

static int stream(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    if (insert(ctx, 1) != CICADA_OK)
        return CICADA_FAIL;
    if (is(req, "stream-404"))
        cicada_response_status(res, 404);
    cicada_write_begin_array(res, NULL);
    cicada_write_int64(res, NULL, 1);
    if (cicada_stream_write(res, NULL, 0) != CICADA_OK)
        return CICADA_FAIL;
    cicada_write_bool(res, NULL, insert(ctx, 2) == CICADA_OK);
    if (is(req, "stream-header"))
        cicada_response_header(res, "X-Late", "1");
    if (!is(req, "stream-open"))
        cicada_write_end(res);
    return is(req, "stream-fail") ? CICADA_FAIL : CICADA_OK;
}

static int mistakes(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    if (insert(ctx, 1) != CICADA_OK)
        return CICADA_FAIL;
    if (is(req, "mistake-name"))
        cicada_write_int64(res, "name", 1);
    if (is(req, "mistake-end"))
        cicada_write_end(res);
    if (is(req, "mistake-open"))
        cicada_write_begin_array(res, NULL);
    if (is(req, "mistake-two")) {
        cicada_write_null(res, NULL);
        cicada_write_null(res, NULL);
    }
    if (is(req, "mistake-raw"))
        cicada_write_raw(res, NULL, "{\"a\":01}", 8);
    if (is(req, "mistake-status"))
        cicada_response_status(res, 700);
    if (is(req, "mistake-header"))
        cicada_response_header(res, "X-A", "b\r\nc");
    if (is(req, "mistake-ours"))
        cicada_response_header(res, "connection", "close");
    if (is(req, "mistake-code"))
        return cicada_problem(res, 400, "Not A Code", "%s", "");
    return CICADA_OK;
}

static int answers(struct cicada_request *req, struct cicada_response *res)
{
    cicada_write_begin_array(res, NULL); /* dropped by what replaces it */
    if (is(req, "answer-body"))
        cicada_response_body(res, "text", 4);
    if (is(req, "answer-take")) {
        char *data = malloc(4);
        memcpy(data, "take", 4);
        cicada_response_body_take(res, data, 4, free);
    }
    if (is(req, "answer-empty"))
        cicada_response_body(res, "", 0);
    if (is(req, "answer-problem"))
        return cicada_problem(res, 418, "teapot", "short and \"stout\"");
    if (is(req, "answer-fail"))
        return CICADA_FAIL;
    if (is(req, "answer-doubles")) {
        cicada_write_double(res, NULL, 0.1);
        cicada_write_double(res, NULL, 1.0 / 3);
        cicada_write_double(res, NULL, 1e300);
        cicada_write_double(res, NULL, 1e300 * 1e300);
        cicada_write_end(res);
    }
    return CICADA_OK;
}

static int both(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    const char *what = cicada_request_query(req, "do");

    if (strcmp(what, "request") == 0)
        return request(req, res);
    if (strcmp(what, "event") == 0 || strcmp(what, "no-event") == 0)
        return event(req, ctx, res);
    if (strcmp(what, "rows") == 0)
        return rows(ctx, res);
    if (strncmp(what, "commit", 6) == 0)
        return commit(req, ctx, res);
    if (strncmp(what, "stream", 6) == 0)
        return stream(req, ctx, res);
    if (strncmp(what, "mistake", 7) == 0)
        return mistakes(req, ctx, res);
    if (strncmp(what, "answer", 6) == 0)
        return answers(req, res);
    return database(req, ctx, res);
}
CICADA_FUNCTION(both);

static int each(void *arg, const struct cicada_result *row)
{
    struct cicada_response *res = (struct cicada_response *)arg;

    cicada_write_row(res, NULL, row, 0);
    return cicada_stream_write(res, "\n", 1);
}

static int lines(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    if (is(req, "insert"))
        return insert(ctx, 1);
    cicada_write_begin_array(res, NULL);
    if (cicada_query_each(ctx, "SELECT g AS n, 'a' AS t FROM generate_series(1, 3) g", CICADA_NO_PARAMS, each,
                          res) != CICADA_OK)
        return CICADA_FAIL;
    cicada_write_end(res);
    return CICADA_OK;
}
CICADA_FUNCTION(lines, .flags = CICADA_READ_ONLY);
