/* The real runtime with SQL functions, over HTTP against PostgreSQL: parameters, results, idioms, injection. */
#include "runtime/tests/support_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_runtime.h"

#define SCHEMA                                                                                               \
    "DROP SCHEMA IF EXISTS runtime_sql CASCADE; CREATE SCHEMA runtime_sql;"                                  \
    "CREATE TABLE runtime_sql.orders (id int PRIMARY KEY, status text, amount numeric, tags text[],"         \
    " meta jsonb, created timestamptz DEFAULT '2026-01-02 03:04:05.678+00', CHECK (amount < 1000));"         \
    "INSERT INTO runtime_sql.orders (id, status, amount, tags, meta)"                                        \
    " SELECT i, CASE i % 2 WHEN 0 THEN 'paid' ELSE 'new' END, i + 0.50, ARRAY['t' || i], '{\"n\": 1}'"       \
    " FROM generate_series(1, 6) AS i;"                                                                      \
    "CREATE TABLE runtime_sql.log (id serial, text text);"

/* One function at a time: its process is killed when the next one starts, and at the end. */
static struct runtime_process process;

static int port_of(const char *spec)
{
    const struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = spec, .database_url = getenv("TEST_DATABASE_URL")};

    if (process.pid > 0)
        runtime_process_release(&process);
    runtime_process_start(&process, &settings, /* serving= */ true);
    return process.port;
}

static int port_for(const char *sql, const char *more)
{
    CLEANUP_FREE char *spec = xasprintf("{\"sql\":\"%s\",\"database\":{\"poolSize\":2}%s}", sql, more);
    return port_of(spec);
}

static int setup(void **state)
{
    (void)state;
    free(database_value(SCHEMA));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    runtime_process_release(&process);
    free(database_value("DROP SCHEMA runtime_sql CASCADE"));
    return 0;
}

/* The whole body, and nothing else. */
static void body_is(int port, const char *method, const char *target, const char *headers, const char *body,
                    const char *expected)
{
    struct http_answer answer = http_ask(port, method, target, headers, body);

    if (answer.status != 200 || strcmp(answer.body, expected) != 0)
        fail_msg("%s: expected %s, got: %s", target, expected, answer.text);
    http_answer_release(&answer);
}

static void get_is(int port, const char *target, const char *expected)
{
    body_is(port, "GET", target, "", NULL, expected);
}

static void post_is(int port, const char *body, const char *expected)
{
    body_is(port, "POST", "/", "", body, expected);
}

static void count_is(const char *sql, const char *expected)
{
    CLEANUP_FREE char *value = database_value(sql);
    assert_string_equal(value, expected);
}

/* ---- where values come from ---- */

static void test_sources(void **state)
{
    int port = port_for("SELECT :a::text AS a, :b::text AS b, :c::text AS c",
                        ",\"result\":\"Row\",\"http\":{\"pathTemplate\":\"/x/{a}\"}");

    (void)state;
    body_is(port, "POST", "/x/1?b=2", "", "{\"c\":3,\"unused\":{}}", "{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\"}");
    body_is(port, "POST", "/x/%2F%3a?b=%2B+%26&ignored", "", "{\"c\":\"\"}",
            "{\"a\":\"/:\",\"b\":\"+ &\",\"c\":\"\"}");
    body_is(port, "POST", "/x/1?b=&c=", "", NULL, "{\"a\":\"1\",\"b\":\"\",\"c\":\"\"}");
    http_expect(port, "POST", "/x/1?b=2", "{}", 400, "\"code\":\"missing_parameter\",\"detail\":\"\\\"c\\\"");
    http_expect(port, "POST", "/x/1?b=2", "[3]", 400, "\"code\":\"missing_parameter\"");
    http_expect(port, "POST", "/x/1?b=2", NULL, 400, "\"code\":\"missing_parameter\"");
    http_expect(port, "POST", "/x/1?a=1&b=2", "{\"c\":3}", 400,
                "\"code\":\"ambiguous_parameter\",\"detail\":\"\\\"a\\\"");
    http_expect(port, "POST", "/x/1?b=2", "{\"a\":1,\"c\":3}", 400, "\"code\":\"ambiguous_parameter\"");
    http_expect(port, "POST", "/x/1?b=2", "{\"b\":1,\"c\":3}", 400, "\"code\":\"ambiguous_parameter\"");
    http_expect(port, "POST", "/x/1?b=2&b=2", "{\"c\":3}", 400, "\"code\":\"ambiguous_parameter\"");
    http_expect(port, "POST", "/x/1?b=2", "{\"c\":", 400, "\"code\":\"malformed_json\"");
    http_expect(port, "POST", "/x/1?b=2", "{\"c\":3,\"c\":3}", 400, "\"code\":\"malformed_json\"");
    http_expect(port, "POST", "/y/1?b=2", "{\"c\":3}", 404, "\"code\":\"unknown_path\"");
}

static void test_body_types(void **state)
{
    int port = port_for("SELECT :a::text AS a", ",\"result\":\"Row\",\"parameters\":[{\"name\":\"a\"}]");

    (void)state;
    body_is(port, "POST", "/", "Content-Type: text/plain\r\n", "{\"a\":1}", "{\"a\":\"1\"}");
    body_is(port, "POST", "/", "Content-Type: application/x-www-form-urlencoded\r\n", "{\"a\":1}",
            "{\"a\":\"1\"}");
    body_is(port, "POST", "/", "Content-Type: application/x-www-form-urlencoded\r\n", "a=1", "{\"a\":null}");
    body_is(port, "POST", "/", "Content-Type: multipart/form-data; boundary=x\r\n", "{\"a\":1}",
            "{\"a\":null}");
    {
        struct http_answer answer = http_ask(port, "POST", "/", "Content-Type: text/plain\r\n", "a=1");
        assert_int_equal(answer.status, 400);
        assert_true(http_answer_has(&answer, "\"code\":\"malformed_json\""));
        http_answer_release(&answer);
    }
}

static void test_defaults(void **state)
{
    int port = port_for("SELECT :a::int AS a, :b::int AS b, :c::text IS NULL AS c",
                        ",\"result\":\"Row\",\"parameters\":[{\"name\":\"a\",\"default\":\"7\"},"
                        "{\"name\":\"c\"},{\"name\":\"unused\"}]");

    (void)state;
    get_is(port, "/?b=1", "{\"a\":7,\"b\":1,\"c\":true}");
    get_is(port, "/?b=1&a=8&c=", "{\"a\":8,\"b\":1,\"c\":false}");
    http_expect(port, "GET", "/?a=1", NULL, 400,
                "\"code\":\"missing_parameter\",\"detail\":\"\\\"b\\\" is missing\"");
    post_is(port, "{\"b\":1,\"a\":null}", "{\"a\":null,\"b\":1,\"c\":true}"); /* given, if only as null */
}

static void test_values(void **state)
{
    int port = port_for("SELECT :n::numeric AS n, :j AS j, :t AS t, :i::int AS i "
                        "FROM (SELECT :j::jsonb, :t::text) AS x",
                        ",\"result\":\"Row\",\"parameters\":[{\"name\":\"n\"},{\"name\":\"j\"},{\"name\":"
                        "\"t\"},{\"name\":\"i\"}]");

    (void)state;
    post_is(port, "{\"n\":123456789012345678901234567890.10}",
            "{\"n\":123456789012345678901234567890.10,\"j\":null,\"t\":null,\"i\":null}");
    post_is(port, "{\"n\":\"1.50\",\"t\":1.50}", "{\"n\":1.50,\"j\":null,\"t\":\"1.50\",\"i\":null}");
    post_is(port, "{\"j\":{\"a\":[1.0,null]},\"t\":true}",
            "{\"n\":null,\"j\":{\"a\": [1.0, null]},\"t\":\"true\",\"i\":null}");
    post_is(port, "{\"j\":\"text\",\"i\":\"5\"}", "{\"n\":null,\"j\":\"text\",\"t\":null,\"i\":5}");
    post_is(port, "{\"j\":null}", "{\"n\":null,\"j\":null,\"t\":null,\"i\":null}");
    get_is(port, "/?j=%7B%22a%22%3A1%7D&t=", "{\"n\":null,\"j\":{\"a\": 1},\"t\":\"\",\"i\":null}");
    http_expect(port, "POST", "/", "{\"t\":{}}", 400, "\"detail\":\"\\\"t\\\" must not be an object\"");
    http_expect(port, "POST", "/", "{\"i\":[1]}", 400, "\"detail\":\"\\\"i\\\" must not be an array\"");
    http_expect(port, "POST", "/", "{\"i\":1.5}", 400, "\"code\":\"invalid_parameter\"");
    http_expect(port, "GET", "/?j=x", NULL, 400, "\"code\":\"invalid_parameter\"");
    http_expect(port, "GET", "/?i=", NULL, 400,
                "\"detail\":\"\\\"i\\\": invalid input syntax for type integer\"");
    http_expect(
        port, "GET", "/?i=99999999999", NULL, 422,
        "\"code\":\"data_exception\",\"detail\":\"\\\"i\\\": value is out of range for type integer\"");
    http_expect(port, "GET", "/?n=1&i=2&t=%22", NULL, 200, "\"t\":\"\\\"\"");
    port = port_for("SELECT :d::date AS d, :at::timestamptz AS at", "");
    http_expect(port, "GET", "/?d=soon&at=now", NULL, 422,
                "\"code\":\"data_exception\",\"detail\":\"\\\"d\\\": invalid input syntax for type date\"");
    http_expect(port, "GET", "/?d=2026-02-28&at=2026-02-30T25:00", NULL, 422,
                "\"detail\":\"\\\"at\\\": date/time field value out of range\"");
    http_expect(port, "POST", "/", "{\"d\":\"x\\\" y \\\"z\",\"at\":\"now\"}", 422,
                "\"detail\":\"\\\"d\\\": invalid input syntax for type date\"");
}

/* A 400 names the parameter and never the value. */
static void test_refused_values_stay_secret(void **state)
{
    int port = port_for("SELECT :i::int AS i", ",\"result\":\"Row\"");
    struct http_answer answer = http_ask(port, "GET", "/?i=4111x1111", "", NULL);
    CLEANUP_FREE char *log = NULL;

    (void)state;
    assert_int_equal(answer.status, 400);
    assert_false(http_answer_has(&answer, "4111"));
    http_answer_release(&answer);
    log = runtime_process_read(process.log_path);
    assert_null(strstr(log, "4111"));
}

static void test_arrays(void **state)
{
    int port = port_for("SELECT :i::int[] AS i, :t::text[] AS t, :j::jsonb[] AS j",
                        ",\"result\":\"Row\","
                        "\"parameters\":[{\"name\":\"i\"},{\"name\":\"t\"},{\"name\":\"j\"}]");

    (void)state;
    post_is(port, "{\"i\":[1,null,3],\"t\":[\"a\\\"b\\\\\",\"\",\"NULL\",\"{\"]}",
            "{\"i\":[1,null,3],\"t\":[\"a\\\"b\\\\\",\"\",\"NULL\",\"{\"],\"j\":null}");
    post_is(port, "{\"i\":[[1,2],[3,4]],\"j\":[{\"a\":1},[2],\"x\",null]}",
            "{\"i\":[[1,2],[3,4]],\"t\":null,\"j\":[{\"a\": 1},[2],\"x\",null]}");
    post_is(port, "{\"i\":[]}", "{\"i\":[],\"t\":null,\"j\":null}");
    get_is(port, "/?i=1&i=2&t=a,b", "{\"i\":[1,2],\"t\":[\"a,b\"],\"j\":null}");
    get_is(port, "/?i=%7B1,2%7D&t=", "{\"i\":[1,2],\"t\":[\"\"],\"j\":null}");
    http_expect(port, "POST", "/", "{\"i\":[\"x\"]}", 400, "\"code\":\"invalid_parameter\"");
    http_expect(port, "POST", "/", "{\"i\":[{}]}", 400, "an element must not be an object");
}

static void test_reserved(void **state)
{
    int port = port_for("SELECT :_query AS q, :_path AS p, :_body AS b, :_headers - "
                        "'{host,connection,content-length}'::text[] AS h",
                        ",\"result\":\"Row\",\"http\":{\"pathTemplate\":\"/{id}\"}");

    (void)state;
    body_is(port, "POST", "/7?a=1&b=2&b=3&_body=x",
            "Authorization: secret\r\nCOOKIE: secret\r\nX-One: 1\r\nx-two: a\r\nX-Two: b\r\n", "{\"k\": 1.0}",
            "{\"q\":{\"a\": \"1\", \"b\": [\"2\", \"3\"], \"_body\": \"x\"},\"p\":{\"id\": "
            "\"7\"},\"b\":{\"k\": 1.0},"
            "\"h\":{\"x-one\": \"1\", \"x-two\": \"a, b\"}}");
    body_is(port, "GET", "/7", "", NULL, "{\"q\":{},\"p\":{\"id\": \"7\"},\"b\":null,\"h\":{}}");
    port = port_for("SELECT :_body->>'a' AS a, (:_body)['b'] AS b, :_body::json AS c", ",\"result\":\"Row\"");
    post_is(port, "{\"a\":1,\"b\":[2]}", "{\"a\":\"1\",\"b\":[2],\"c\":{\"a\": 1, \"b\": [2]}}");
    post_is(port, "[1,2]", "{\"a\":null,\"b\":null,\"c\":[1, 2]}");
}

/* ---- results ---- */

static void test_rows(void **state)
{
    int port = port_for("SELECT id, status FROM runtime_sql.orders WHERE id <= :n ORDER BY id", "");

    (void)state;
    get_is(port, "/?n=2", "[{\"id\":1,\"status\":\"new\"},{\"id\":2,\"status\":\"paid\"}]");
    get_is(port, "/?n=0", "[]");
    http_expect(port, "GET", "/?n=0", NULL, 200, "Content-Type: application/json\r\n");
    http_expect(port, "GET", "/?n=0", NULL, 200, "Vary: Accept\r\n");
    body_is(port, "HEAD", "/?n=2", "", NULL, "");
    port = port_for("UPDATE runtime_sql.orders SET status = status WHERE id = 1", "");
    post_is(port, NULL, "[]");
}

static void test_row(void **state)
{
    int port = port_for("SELECT id, amount, tags, meta, created AT TIME ZONE 'UTC' AS created FROM "
                        "runtime_sql.orders WHERE id >= :from AND id <= :to",
                        ",\"result\":\"Row\",\"http\":{\"successStatus\":203}");
    struct http_answer answer = http_ask(port, "GET", "/?from=3&to=3", "", NULL);

    (void)state;
    assert_int_equal(answer.status, 203);
    assert_string_equal(answer.body, "{\"id\":3,\"amount\":3.50,\"tags\":[\"t3\"],\"meta\":{\"n\": "
                                     "1},\"created\":\"2026-01-02T03:04:05.678\"}");
    assert_false(http_answer_has(&answer, "Vary:"));
    http_answer_release(&answer);
    http_expect(port, "GET", "/?from=3&to=2", NULL, 404, "\"code\":\"no_row\"");
    http_expect(port, "GET", "/?from=3&to=4", NULL, 500, "\"code\":\"too_many_rows\"");
}

static void test_value(void **state)
{
    int port = port_for("SELECT amount FROM runtime_sql.orders WHERE id >= :from AND id <= :to",
                        ",\"result\":\"Value\"");

    (void)state;
    get_is(port, "/?from=2&to=2", "2.50");
    http_expect(port, "GET", "/?from=3&to=2", NULL, 404, "\"code\":\"no_row\"");
    http_expect(port, "GET", "/?from=3&to=4", NULL, 500, "\"code\":\"too_many_rows\"");
    port = port_for("SELECT NULL::int", ",\"result\":\"Value\"");
    get_is(port, "/", "null");
    port = port_for("SELECT o FROM runtime_sql.orders AS o WHERE id = 1",
                    ",\"result\":\"Value\""); /* needs the server */
    http_expect(port, "GET", "/", NULL, 200,
                "{\"id\":1,\"status\":\"new\",\"amount\":1.50,\"tags\":[\"t1\"],\"meta\":{\"n\": "
                "1},\"created\":\"2026-01-02T");
}

static void test_none(void **state)
{
    int port = port_for("INSERT INTO runtime_sql.log (text) VALUES (:text)", ",\"result\":\"None\"");
    struct http_answer answer = http_ask(port, "POST", "/", "", "{\"text\":\"silent\"}");

    (void)state;
    assert_int_equal(answer.status, 204);
    assert_string_equal(answer.body, "");
    assert_false(http_answer_has(&answer, "Content-Type"));
    http_answer_release(&answer);
    count_is("SELECT count(*) FROM runtime_sql.log WHERE text = 'silent'", "1");
    http_expect(port, "GET", "/?text=x", NULL, 500, "\"code\":\"read_only_transaction\"");
    count_is("SELECT count(*) FROM runtime_sql.log WHERE text = 'x'", "0");
    port =
        port_for("INSERT INTO runtime_sql.orders (id, amount) VALUES (:id, :amount)", ",\"result\":\"None\"");
    http_expect(port, "POST", "/", "{\"id\":1,\"amount\":1}", 409, "\"code\":\"unique_violation\"");
    http_expect(port, "POST", "/", "{\"id\":100,\"amount\":1000}", 422, "\"code\":\"check_violation\"");
    http_expect(port, "POST", "/", "{\"id\":\"x\",\"amount\":1000}", 400, "\"code\":\"invalid_parameter\"");
    port = port_for("SELECT pg_notify('nobody', :text)", ",\"result\":\"None\""); /* its column is nobody's */
    http_expect(port, "POST", "/", "{\"text\":\"x\"}", 204, "");
}

/* Several rows, where one is promised, are not committed. */
static void test_refused_result_is_rolled_back(void **state)
{
    int port = port_for(
        "INSERT INTO runtime_sql.log (text) SELECT 'torn' FROM generate_series(1, :n::int) RETURNING text",
        ",\"result\":\"Row\"");

    (void)state;
    http_expect(port, "POST", "/", "{\"n\":2}", 500, "\"code\":\"too_many_rows\"");
    count_is("SELECT count(*) FROM runtime_sql.log WHERE text = 'torn'", "0");
    http_expect(port, "POST", "/", "{\"n\":0}", 404, "\"code\":\"no_row\"");
    post_is(port, "{\"n\":1}", "{\"text\":\"torn\"}");
    count_is("SELECT count(*) FROM runtime_sql.log WHERE text = 'torn'", "1");
}

static void test_statements(void **state)
{
    int port = port_for(
        "INSERT INTO runtime_sql.log (text) VALUES (:a); INSERT INTO runtime_sql.log (text) VALUES (:b || "
        ":a); "
        "SELECT string_agg(text, ',' ORDER BY id) AS all FROM runtime_sql.log WHERE text LIKE '%' || :a",
        ",\"result\":\"Row\"");

    (void)state;
    post_is(port, "{\"a\":\"multi\",\"b\":\"b\"}", "{\"all\":\"multi,bmulti\"}");
    port = port_for("INSERT INTO runtime_sql.log (text) VALUES ('half'); SELECT 1 / :n::int AS x",
                    ",\"result\":\"Row\"");
    http_expect(port, "POST", "/", "{\"n\":0}", 422, "\"code\":\"data_exception\"");
    count_is("SELECT count(*) FROM runtime_sql.log WHERE text = 'half'", "0");
    post_is(port, "{\"n\":1}", "{\"x\":1}");
    count_is("SELECT count(*) FROM runtime_sql.log WHERE text = 'half'", "1");
    http_expect(port, "GET", "/?n=1", NULL, 500, "\"code\":\"read_only_transaction\"");
}

static void test_csv(void **state)
{
    int port = port_for("SELECT id, CASE id WHEN 1 THEN 'a,\\\"b\\\"' WHEN 2 THEN NULL ELSE '' END AS "
                        "\\\"t,x\\\" FROM runtime_sql.orders WHERE id <= :n ORDER BY id",
                        "");
    static const char csv[] = "Accept: text/csv\r\n";

    (void)state;
    body_is(port, "GET", "/?n=3", csv, NULL, "id,\"t,x\"\r\n1,\"a,\"\"b\"\"\"\r\n2,\r\n3,\"\"\r\n");
    body_is(port, "GET", "/?n=0", csv, NULL, "id,\"t,x\"\r\n");
    body_is(port, "POST", "/?n=0", csv, NULL, "id,\"t,x\"\r\n");
    body_is(port, "GET", "/?n=0", "Accept: text/csv;q=0.5, application/json\r\n", NULL, "[]");
    {
        struct http_answer answer = http_ask(port, "GET", "/?n=0", csv, NULL);
        assert_true(http_answer_has(&answer, "Content-Type: text/csv; charset=utf-8; header=present\r\n"));
        assert_true(http_answer_has(&answer, "Vary: Accept\r\n"));
        http_answer_release(&answer);
    }
    port = port_for("SELECT id FROM runtime_sql.orders WHERE id = 1", ",\"result\":\"Row\"");
    body_is(port, "GET", "/", csv, NULL, "{\"id\":1}"); /* of Rows only */
}

/* ---- idioms of the README ---- */

static void test_optional_filter(void **state)
{
    int port = port_for(
        "SELECT id FROM runtime_sql.orders WHERE (:status::text IS NULL OR status = :status) ORDER BY id",
        ",\"parameters\":[{\"name\":\"status\"}]");

    (void)state;
    get_is(port, "/", "[{\"id\":1},{\"id\":2},{\"id\":3},{\"id\":4},{\"id\":5},{\"id\":6}]");
    get_is(port, "/?status=paid", "[{\"id\":2},{\"id\":4},{\"id\":6}]");
    get_is(port, "/?status=", "[]");
}

static void test_any_of_ids(void **state)
{
    int port = port_for("SELECT id FROM runtime_sql.orders WHERE id = ANY(:ids) ORDER BY id", "");

    (void)state;
    post_is(port, "{\"ids\":[5,1,99]}", "[{\"id\":1},{\"id\":5}]");
    post_is(port, "{\"ids\":[]}", "[]");
    get_is(port, "/?ids=2", "[{\"id\":2}]");
    get_is(port, "/?ids=2&ids=3", "[{\"id\":2},{\"id\":3}]");
}

static void test_interval(void **state)
{
    int port = port_for("SELECT now() - :age::interval < now() - '23 hours'::interval AS older",
                        ",\"result\":\"Row\"");

    (void)state;
    get_is(port, "/?age=1+day", "{\"older\":true}");
    get_is(port, "/?age=PT22H", "{\"older\":false}");
    http_expect(port, "GET", "/?age=soon", NULL, 422, "\"code\":\"data_exception\""); /* 22007, not 22P02 */
}

static void test_errors_of_statements(void **state)
{
    int port =
        port_for("DO $$ BEGIN RAISE 'no tea here' USING ERRCODE = 'PT418'; END $$", ",\"result\":\"None\"");

    (void)state;
    http_expect(port, "POST", "/", NULL, 418, "\"code\":\"raised_status\"");
    http_expect(port, "POST", "/", NULL, 418, "\"detail\":\"no tea here\"");
    port = port_for("DO $$ BEGIN RAISE 'secret'; END $$", ",\"result\":\"None\"");
    http_expect(port, "POST", "/", NULL, 400, "\"code\":\"raise_exception\",\"component\"");
    port = port_for("SELECT :t::text::int AS x", ""); /* the statement's own cast */
    http_expect(port, "GET", "/?t=x", NULL, 422, "\"code\":\"data_exception\"");
}

/* ---- injection ---- */

static void test_injection(void **state)
{
    static const char *const attempts[] = {
        "'; DROP TABLE runtime_sql.orders; --",
        "' OR '1'='1",
        "\\\\'; SELECT 1 --",
        "$1",
        ":t",
        "$$",
        "1); DELETE FROM runtime_sql.log; --",
        "\\u0027\\u003b",
        "\\\\",
        "%27",
        "NULL",
        "{\\\"a\\\",\\\"b\\\"}",
        "/*",
        "--",
    };
    int port = port_for(
        "SELECT :t::text AS t, count(*) AS n FROM runtime_sql.orders WHERE status = :t OR status = ANY(:a)",
        ",\"result\":\"Row\"");

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(attempts); i++) {
        CLEANUP_FREE char *body = xasprintf("{\"t\":\"%s\",\"a\":[\"%s\"]}", attempts[i], attempts[i]);
        struct http_answer answer = http_ask(port, "POST", "/", "", body);

        if (answer.status != 200 || !http_answer_has(&answer, "\"n\":0}"))
            fail_msg("%s: %s", body, answer.text);
        http_answer_release(&answer);
    }
    count_is("SELECT count(*) FROM runtime_sql.orders", "6");
    http_expect(port, "POST", "/", "{\"t\":\"\\u0000\",\"a\":[]}", 400, "\"code\":\"malformed_json\"");
    http_expect(port, "GET", "/?t=%00&a=x", NULL, 400, "\"code\":\"bad_request\"");
    http_expect(port, "GET", "/?t=%FF&a=x", NULL, 400, "\"code\":\"bad_request\"");
}

/* DDL by others that concerns a later statement: the whole is run once more, on each connection that has prepared it. */
static void test_columns_change_behind_the_first_statement(void **state)
{
    int port;

    (void)state;
    free(database_value(
        "CREATE TABLE runtime_sql.later AS SELECT 1 AS id; CREATE TABLE runtime_sql.visits (id int)"));
    port = port_for(
        "INSERT INTO runtime_sql.visits VALUES (:id); SELECT * FROM runtime_sql.later WHERE id = :id",
        ",\"result\":\"Row\",\"http\":{\"idempotency\":\"Optional\"}");
    for (int i = 0; i < 4; i++)
        post_is(port, "{\"id\":1}", "{\"id\":1}");
    free(database_value("ALTER TABLE runtime_sql.later ADD n int DEFAULT 2"));
    for (int i = 0; i < 4; i++)
        post_is(port, "{\"id\":1}", "{\"id\":1,\"n\":2}");
    free(database_value("ALTER TABLE runtime_sql.later DROP n"));
    body_is(port, "POST", "/", "Idempotency-Key: k\r\n", "{\"id\":1}", "{\"id\":1}");
    count_is("SELECT count(*) FROM runtime_sql.visits", "9"); /* each once */
    free(database_value("DROP SCHEMA cicada CASCADE"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_body_types),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_refused_values_stay_secret),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_reserved),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_row),
        cmocka_unit_test(test_value),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_refused_result_is_rolled_back),
        cmocka_unit_test(test_statements),
        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_optional_filter),
        cmocka_unit_test(test_any_of_ids),
        cmocka_unit_test(test_interval),
        cmocka_unit_test(test_errors_of_statements),
        cmocka_unit_test(test_columns_change_behind_the_first_statement),
        cmocka_unit_test(test_injection),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
