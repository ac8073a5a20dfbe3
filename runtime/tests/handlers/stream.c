/* stream.c - handlers that take errors back, commit before they return, hand bodies over and stream, by ?do=... */
#include <cicada/function.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long number(struct cicada_request *req, const char *name)
{
    const char *text = cicada_request_query(req, name);
    return text ? strtol(text, NULL, 10) : 0;
}

static bool is(struct cicada_request *req, const char *name, const char *value)
{
    const char *text = cicada_request_query(req, name);
    return text != NULL && strcmp(text, value) == 0;
}

static void sleep_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) != 0)
        continue;
}

static int insert(struct cicada_context *ctx, const char *id)
{
    return cicada_execute(ctx, "INSERT INTO stream_test.notes VALUES ($1)", CICADA_PARAMS(cicada_text(id)));
}

/* ---- the transaction ---- */

/* Inserts each digit of ?ids=; what is there already is left out. */
static int insert_each(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    int64_t inserted = 0;

    for (const char *p = cicada_request_query(req, "ids"); *p != '\0'; p++) {
        char id[2] = {*p, '\0'};

        if (cicada_savepoint(ctx) != CICADA_OK)
            return CICADA_FAIL;
        if (insert(ctx, id) == CICADA_OK) {
            inserted++;
            if (cicada_savepoint_release(ctx) != CICADA_OK)
                return CICADA_FAIL;
        } else if (strcmp(cicada_error_sqlstate(ctx), "23505") != 0 ||
                   cicada_savepoint_rollback(ctx) != CICADA_OK) {
            return CICADA_FAIL;
        }
    }
    cicada_write_int64(res, NULL, inserted);
    return CICADA_OK;
}

static int nest(struct cicada_request *req, struct cicada_context *ctx)
{
    for (long i = number(req, "depth"); i > 0; i--)
        if (cicada_savepoint(ctx) != CICADA_OK)
            return CICADA_FAIL;
    return insert(ctx, "1");
}

static int commit(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    struct cicada_result *row;

    if (cicada_query(ctx, "INSERT INTO stream_test.notes VALUES ($1) RETURNING id",
                     CICADA_PARAMS(cicada_text(cicada_request_query(req, "id"))), &row) != CICADA_OK)
        return CICADA_FAIL;
    if (is(req, "then", "deferred"))
        (void)cicada_execute(ctx, "INSERT INTO stream_test.late VALUES (1), (1)", CICADA_NO_PARAMS);
    if (cicada_commit(ctx) != CICADA_OK && !is(req, "anyway", "1"))
        return CICADA_FAIL;
    if (is(req, "then", "sleep"))
        sleep_ms(number(req, "ms"));
    if (is(req, "then", "fail"))
        return CICADA_FAIL;
    if (is(req, "then", "409"))
        return cicada_problem(res, 409, "too_late", "what was committed stays");
    if (is(req, "then", "query") && insert(ctx, "9") != CICADA_OK)
        return CICADA_FAIL;
    if (is(req, "then", "twice") && cicada_commit(ctx) != CICADA_OK)
        return CICADA_FAIL;
    cicada_write_row(res, NULL, row, 0); /* results stay */
    return CICADA_OK;
}

/* ---- bodies that are handed over ---- */

static atomic_long releases;

static void count_release(void *data)
{
    free(data);
    releases++;
}

static int take(struct cicada_request *req, struct cicada_response *res)
{
    size_t len = (size_t)number(req, "bytes");
    char *data = malloc(len + 1);

    memset(data, 'x', len);
    cicada_response_header(res, "Content-Type", "text/plain");
    cicada_response_body_take(res, data, len, count_release);
    if (is(req, "then", "again")) {
        static char constant[] = "constant";
        cicada_response_body_take(res, constant, 8, NULL);
    }
    if (is(req, "then", "json"))
        cicada_write_int64(res, NULL, 7);
    if (is(req, "then", "stream"))
        return cicada_stream_write(res, "y", 1);
    if (is(req, "then", "problem"))
        return cicada_problem(res, 409, "planned", "as planned");
    return is(req, "then", "fail") ? CICADA_FAIL : CICADA_OK;
}

static int count_releases(struct cicada_response *res)
{
    cicada_write_int64(res, NULL, releases);
    return CICADA_OK;
}

/* ---- streams ---- */

/* ?pieces= of ?bytes= each, ?ms= apart; with ?id= it writes a note first. */
static int pieces(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    size_t len = (size_t)number(req, "bytes");
    char *piece = malloc(len + 1);
    int rc = CICADA_OK;

    memset(piece, 'p', len);
    cicada_response_header(res, "Content-Type", "text/plain");
    if (is(req, "then", "status"))
        cicada_response_status(res, 404);
    if (cicada_request_query(req, "id") != NULL)
        rc = insert(ctx, cicada_request_query(req, "id"));
    if (rc == CICADA_OK && is(req, "then", "deferred"))
        rc = cicada_execute(ctx, "INSERT INTO stream_test.late VALUES (1), (1)", CICADA_NO_PARAMS);
    for (long i = 0; i < number(req, "pieces") && rc == CICADA_OK; i++) {
        rc = cicada_stream_write(res, piece, len);
        sleep_ms(number(req, "ms"));
    }
    free(piece);
    if (rc != CICADA_OK) {
        cicada_log(ctx, CICADA_LOG_INFO, "the stream failed");
        return rc;
    }
    if (is(req, "then", "query"))
        cicada_write_bool(res, NULL, insert(ctx, "8") == CICADA_OK);
    if (is(req, "then", "header"))
        cicada_response_header(res, "X-Late", "1");
    return is(req, "then", "fail") ? CICADA_FAIL : CICADA_OK;
}

/* A JSON array, written with the writer and sent every three elements. */
static int json(struct cicada_request *req, struct cicada_response *res)
{
    cicada_write_begin_array(res, NULL);
    for (long i = 1; i <= number(req, "pieces"); i++) {
        cicada_write_int64(res, NULL, i);
        if (i % 3 == 0 && cicada_stream_write(res, NULL, 0) != CICADA_OK)
            return CICADA_FAIL;
    }
    if (!is(req, "then", "open"))
        cicada_write_end(res);
    return CICADA_OK;
}

static int writer(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    if (is(req, "do", "each"))
        return insert_each(req, ctx, res);
    if (is(req, "do", "nest"))
        return nest(req, ctx);
    if (is(req, "do", "commit"))
        return commit(req, ctx, res);
    if (is(req, "do", "take"))
        return take(req, res);
    if (is(req, "do", "releases"))
        return count_releases(res);
    if (is(req, "do", "json"))
        return json(req, res);
    if (is(req, "do", "rows"))
        return cicada_query_each(ctx, "SELECT 1", CICADA_NO_PARAMS, NULL, NULL);
    return pieces(req, ctx, res);
}
CICADA_FUNCTION(writer);

/* ---- a reader ---- */

struct reading {
    struct cicada_context *ctx;
    struct cicada_response *res;
    struct cicada_request *req;
    long rows;
};

static int send_row(void *arg, const struct cicada_result *row)
{
    struct reading *reading = arg;
    size_t len;
    const char *text = cicada_result_text(row, 0, 0, &len);

    reading->rows++;
    sleep_ms(number(reading->req, "ms"));
    if (is(reading->req, "then", "query") && reading->rows == 2)
        return cicada_execute(reading->ctx, "SELECT 1", CICADA_NO_PARAMS);
    if (is(reading->req, "then", "stop") && reading->rows == 2)
        return 17;
    return cicada_stream_write(reading->res, text, len);
}

static int reader(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    struct reading reading = {.ctx = ctx, .res = res, .req = req};

    if (is(req, "do", "insert"))
        return insert(ctx, "7");
    if (is(req, "do", "commit"))
        return commit(req, ctx, res);
    cicada_response_header(res, "Content-Type", "text/csv");
    /* ?fail= is the row at which the server divides by zero */
    if (cicada_query_each(
            ctx, "SELECT g || repeat(',x', $3) || E'\\n', 1 / (g - $2) FROM generate_series(1, $1::int) g",
            CICADA_PARAMS(cicada_int64(number(req, "rows")), cicada_int64(number(req, "fail")),
                          cicada_int64(number(req, "wide"))),
            send_row, &reading) != CICADA_OK)
        return is(req, "anyway", "1") ? CICADA_OK : CICADA_FAIL;
    if (is(req, "then", "count")) { /* the transaction goes on while rows are streamed */
        struct cicada_result *count;
        if (cicada_query(ctx, "SELECT 'end,' || count(*) FROM stream_test.notes", CICADA_NO_PARAMS, &count) !=
            CICADA_OK)
            return CICADA_FAIL;
        return cicada_stream_write(res, cicada_result_text(count, 0, 0, NULL), 5);
    }
    return CICADA_OK;
}
CICADA_FUNCTION(reader, .flags = CICADA_READ_ONLY);
