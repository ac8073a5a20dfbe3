/* output.c - handlers whose answers go to a queue. The body says what to do: {"text","answer","type","status","fill","commit","stream",
 * "sql","rows"}. */
#include <cicada/function.h>
#include <stdlib.h>
#include <string.h>

static int note(struct cicada_context *ctx, const char *text)
{
    return cicada_execute(ctx, "INSERT INTO event_test.notes (text, request_id) VALUES ($1, $2)",
                          CICADA_PARAMS(cicada_text(text), cicada_text(cicada_request_id(ctx))));
}

/* A JSON string of so many bytes, quotes included, handed over. */
static void fill(struct cicada_response *res, int64_t size)
{
    char *body = malloc((size_t)size); /* no NUL behind it */

    memset(body, 'x', (size_t)size);
    body[0] = body[size - 1] = '"';
    cicada_response_body_take(res, body, (size_t)size, free);
}

static void write_answer(struct cicada_json body, struct cicada_response *res)
{
    const char *answer = cicada_json_get_string(body, "answer");
    const char *type = cicada_json_get_string(body, "type");
    int64_t number;

    if (cicada_json_get_int64(body, "status", &number))
        cicada_response_status(res, (int32_t)number);
    if (type != NULL)
        cicada_response_header(res, "Content-Type", type);
    if (answer != NULL)
        cicada_response_body(res, answer, strlen(answer));
    if (cicada_json_get_int64(body, "fill", &number))
        fill(res, number);
}

static int answer(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    struct cicada_json body = cicada_request_json(req);
    const char *text = cicada_json_get_string(body, "text");
    int64_t number;

    if (text != NULL && note(ctx, text) != CICADA_OK)
        return CICADA_FAIL;
    if (cicada_json_get_int64(body, "commit", &number) && cicada_commit(ctx) != CICADA_OK)
        return CICADA_FAIL;
    write_answer(body, res);
    if (cicada_request_query(req, "stream") != NULL || cicada_json_get_int64(body, "stream", &number))
        return cicada_stream_write(res, "{}", 2);
    return CICADA_OK;
}
CICADA_FUNCTION(answer);

/* What is set in the transaction, as text. */
static int settings(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    struct cicada_result *row;

    (void)req;
    if (cicada_query(ctx,
                     "SELECT current_setting('cicada.depth', true) AS depth,"
                     " current_setting('cicada.traceparent', true) AS traceparent",
                     CICADA_NO_PARAMS, &row) != CICADA_OK)
        return CICADA_FAIL;
    cicada_write_row(res, NULL, row, 0);
    return CICADA_OK;
}
CICADA_FUNCTION(settings);

static int count_row(void *arg, const struct cicada_result *row)
{
    (void)row;
    ++*(int64_t *)arg;
    return CICADA_OK;
}

/* Reads so many rows one by one, with a savepoint open; then runs `sql`, if there is one. */
static int reader(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    struct cicada_json body = cicada_request_json(req);
    const char *sql = cicada_json_get_string(body, "sql");
    int64_t rows = 0, count = 0;

    (void)cicada_json_get_int64(body, "rows", &rows);
    if (cicada_savepoint(ctx) != CICADA_OK ||
        cicada_query_each(ctx, "SELECT generate_series(1, $1::int)", CICADA_PARAMS(cicada_int64(rows)),
                          count_row, &count) != CICADA_OK)
        return CICADA_FAIL;
    if (sql != NULL && cicada_execute(ctx, sql, CICADA_NO_PARAMS) != CICADA_OK)
        return CICADA_FAIL;
    if (cicada_json_get_int64(body, "release", &rows) &&
        (cicada_savepoint_release(ctx) != CICADA_OK || cicada_savepoint_release(ctx) != CICADA_OK))
        return CICADA_FAIL;
    cicada_write_begin_object(res, NULL);
    cicada_write_int64(res, "count", count);
    cicada_write_end(res);
    return CICADA_OK;
}
CICADA_FUNCTION(reader, .flags = CICADA_READ_ONLY);
