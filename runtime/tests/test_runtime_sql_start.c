/* The real runtime with SQL functions: statements that the server rejects, a database that is away or slow at the start, DDL by
 * others under way, large results, concurrency. */
#include "runtime/tests/support_test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_runtime.h"

#ifdef __SANITIZE_THREAD__
#define AT_ONCE_MS 3000 /* ThreadSanitizer sleeps for a second at the exit of each process */
#else
#define AT_ONCE_MS 1000
#endif

static struct runtime_process process;

static void start(const char *sql, const char *more, const char *url, bool serving)
{
    CLEANUP_FREE char *spec = xasprintf("{\"sql\":\"%s\",\"database\":{\"poolSize\":4}%s}", sql, more);
    const struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = spec, .database_url = url ? url : getenv("TEST_DATABASE_URL")};

    runtime_process_start(&process, &settings, serving);
}

static int setup(void **state)
{
    (void)state;
    free(database_value(
        "DROP SCHEMA IF EXISTS runtime_sql_start CASCADE; CREATE SCHEMA runtime_sql_start;"
        "CREATE TABLE runtime_sql_start.t (id int PRIMARY KEY, v text);"
        "INSERT INTO runtime_sql_start.t SELECT i, 'v' || i FROM generate_series(1, 100) AS i"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    runtime_process_release(&process);
    free(database_value("DROP SCHEMA IF EXISTS runtime_sql_start CASCADE"));
    return 0;
}

/* ---- rejected statements ---- */

static void rejects_at(const char *url, const char *sql, const char *more, const char *message)
{
    CLEANUP_FREE char *expected = xasprintf("{\"reason\":\"SqlRejected\",\"message\":\"%s\"}", message);
    CLEANUP_FREE char *written = NULL;

    start(sql, more, url, /* serving= */ false);
    assert_int_equal(runtime_process_wait(&process), 1);
    written = runtime_process_read(process.termination_path);
    assert_string_equal(written, expected);
    runtime_process_release(&process);
}

static void rejects(const char *sql, const char *more, const char *message)
{
    rejects_at(NULL, sql, more, message);
}

static void test_rejected_by_the_lexer(void **state)
{
    (void)state;
    rejects("SELECT 1;\\n  DROP TABLE t", "",
            "line 2, column 3: a function does not change the schema or maintain tables");
    rejects("SELECT $1", "", "line 1, column 8: write :name, not $n");
    rejects("COMMIT", "", "line 1, column 1: transaction control belongs to the runtime");
    rejects("SELECT :_event", "",
            "line 1, column 8: :_event and :_events are there for events only, not for requests");
    rejects("", "", "line 1, column 1: there is no statement");
}

/* The server takes the statement, but does not let a type be looked up that is not built in: no outage, and no end of it. */
static void test_rejected_types(void **state)
{
    CLEANUP_FREE char *owner = test_database_url(NULL, 0, "runtime_sql_types");
    CLEANUP_FREE char *url = test_database_url("runtime_sql_types", 0, "runtime_sql_types");

    (void)state;
    test_role_create("runtime_sql_types");
    test_database_create("runtime_sql_types", NULL);
    test_database_exec(owner, "CREATE TYPE mood AS ENUM ('good', 'bad');"
                              "REVOKE SELECT ON pg_catalog.pg_type FROM PUBLIC");
    rejects_at(url, "SELECT :m::mood", "",
               "the types of parameters and columns can't be looked up: permission denied for table pg_type "
               "(42501)");
    test_database_drop("runtime_sql_types");
    test_role_drop("runtime_sql_types");
}

static void test_rejected_by_the_server(void **state)
{
    (void)state;
    rejects("SELECT 1;\\nSELECT :a::int,\\n  nope FROM runtime_sql_start.t", "",
            "line 3, column 3: column \\\"nope\\\" does not exist (42703)");
    rejects("SELECT \\u00e4 FROM\\n  missing", "",
            "line 2, column 3: relation \\\"missing\\\" does not exist (42P01)");
    rejects("SELECT :long_parameter_name::int +\\n :b::text", "",
            "line 1, column 34: operator does not exist: integer + text (42883)");
    rejects("SELECT 1 +", "", "line 1, column 11: syntax error at end of input (42601)");
    rejects("\\n INSERRT INTO runtime_sql_start.t VALUES (:a)", "",
            "line 2, column 2: syntax error at or near \\\"INSERRT\\\" (42601)");
    rejects("SELECT (:a b c)", "", "line 1, column 12: syntax error at or near \\\"b\\\" (42601)");
    rejects("SELECT ARRAY[:a]", "",
            "line 1, column 14: syntax error at or near \\\":\\\"; within brackets a parameter is written "
            ":(name) (42601)");
    rejects("SELECT id FROM :t", "", "line 1, column 16: syntax error at or near \\\":t\\\" (42601)");
}

static void test_untyped_parameters(void **state)
{
    (void)state;
    rejects("SELECT\\n  :x IS NULL", "",
            "line 2, column 3: could not determine data type of parameter :x; write :x::type, such as "
            ":x::text (42P18)");
    rejects(
        "SELECT 1; SELECT :a::int,\\n:b, :c IS NULL", "",
        "line 2, column 5: could not determine data type of parameter :c; write :c::type, such as :c::text "
        "(42P18)");
    rejects("SELECT id FROM runtime_sql_start.t WHERE id = :x OR v = :x", "",
            "line 1, column 55: operator does not exist: text = integer (42883)");
    rejects("INSERT INTO runtime_sql_start.t VALUES (:a, :a)", "",
            "line 1, column 45: inconsistent types deduced for parameter :a; write :a::type, such as "
            ":a::text (42P08)");
}

static void test_columns_that_fit_no_result(void **state)
{
    (void)state;
    rejects("SELECT 1;\\n SELECT 1 AS a, 2 AS b, 3 AS a", "",
            "line 2, column 2: column \\\"a\\\": two columns of the result have this name; give one another, "
            "with AS");
    rejects("SELECT 1 AS a, 2 AS a", ",\"result\":\"Row\"",
            "line 1, column 1: column \\\"a\\\": two columns of the result have this name; give one another, "
            "with AS");
    rejects("SELECT 1, 2", ",\"result\":\"Value\"",
            "line 1, column 1: result: Value needs a last statement that gives one column");
    rejects("TRUNCATE runtime_sql_start.t", ",\"result\":\"Value\"",
            "line 1, column 1: result: Value needs a last statement that gives one column");
    rejects("DELETE FROM runtime_sql_start.t", ",\"result\":\"Row\"",
            "line 1, column 1: result: Row needs a last statement that gives rows (RETURNING)");
    rejects("SELECT ROW(1, 2) AS r", "",
            "line 1, column 1: column \\\"r\\\": its type is record, whose fields only the statement knows: "
            "write to_json(...) around it");
}

/* ---- a database that is away, slow, or unwilling ---- */

static bool says_unreachable(void *arg)
{
    struct runtime_process *at = arg;
    struct http_answer answer = http_ask(at->admin_port, "GET", "/readyz", "", NULL);
    bool says = answer.status == 503 &&
                http_answer_has(&answer, "{\"reason\":\"DatabaseUnreachable\",\"message\":\"");

    http_answer_release(&answer);
    return says;
}

static bool serves(void *arg)
{
    struct runtime_process *at = arg;
    struct http_answer answer = http_ask(at->port, "GET", "/", "", NULL);
    bool ok = answer.status == 200;

    http_answer_release(&answer);
    return ok;
}

static bool refuses_connections(void)
{
    struct http_answer answer = http_ask(process.port, "GET", "/", "", NULL);
    bool refused = answer.status == 0;

    http_answer_release(&answer);
    return refused;
}

static void ends_at_once(void)
{
    int64_t start_ms = clock_monotonic_ms();

    assert_int_equal(runtime_process_stop(&process), 0);
    assert_true(clock_monotonic_ms() - start_ms < AT_ONCE_MS);
    runtime_process_release(&process);
}

static void test_database_away_at_the_start(void **state)
{
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());

    (void)state;
    pg_proxy_refuse(proxy, true);
    start("SELECT 1 AS a", "", pg_proxy_url(proxy), /* serving= */ false);
    wait_until(says_unreachable, &process, "/readyz tells of the outage");
    assert_true(refuses_connections());
    pg_proxy_refuse(proxy, false);
    wait_until(serves, &process, "it serves");
    http_expect(process.admin_port, "GET", "/readyz", NULL, 200, "ok");
    runtime_process_release(&process);
    pg_proxy_refuse(proxy, true);
    start("SELECT 1 AS a", "", pg_proxy_url(proxy), /* serving= */ false);
    wait_until(says_unreachable, &process, "/readyz tells of the outage");
    ends_at_once();
    pg_proxy_free(proxy);
}

/* The server takes the connection and says nothing. */
static void test_silent_database_at_the_start(void **state)
{
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());

    (void)state;
    pg_proxy_stall(proxy, true);
    start("SELECT 1 AS a", "", pg_proxy_url(proxy), /* serving= */ false);
    wait_until(says_unreachable, &process, "/readyz tells of the outage");
    assert_true(refuses_connections());
    ends_at_once();
    pg_proxy_free(proxy);
}

static void test_locked_table_at_the_start(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(30000));

    (void)state;
    (void)pgtest_query(tx, "LOCK TABLE runtime_sql_start.t IN ACCESS EXCLUSIVE MODE");
    start("SELECT count(*) FROM runtime_sql_start.t", "", NULL, /* serving= */ false);
    wait_until(says_unreachable, &process, "/readyz tells of the delay");
    pg_transaction_free(tx);
    pg_pool_free(pool);
    wait_until(serves, &process, "it serves");
    runtime_process_release(&process);
}

static void test_rejected_role(void **state)
{
    CLEANUP_FREE char *url =
        xasprintf("postgresql://nobody_here:secret@127.0.0.1:%d/postgres", pgtest_port());
    CLEANUP_FREE char *message = NULL;

    (void)state;
    start("SELECT 1 AS a", "", url, /* serving= */ false);
    assert_int_equal(runtime_process_wait(&process), 1);
    message = runtime_process_read(process.termination_path);
    assert_non_null(strstr(message, "{\"reason\":\"DatabaseUnreachable\",\"message\":\"authentication: "));
    runtime_process_release(&process);
}

/* ---- DDL by others ---- */

static void expect(const char *method, const char *target, const char *body, int status, const char *text)
{
    http_expect(process.port, method, target, body, status, text);
}

static void exec(const char *sql)
{
    free(database_value(sql));
}

/* Several times: connections that prepared before the change, and others. */
static void expect_on_all_connections(const char *target, int status, const char *text)
{
    for (int i = 0; i < 8; i++)
        expect("GET", target, NULL, status, text);
}

static void test_columns_change(void **state)
{
    (void)state;
    start("SELECT * FROM runtime_sql_start.t WHERE id = :id", ",\"result\":\"Row\"", NULL, true);
    expect_on_all_connections("/?id=1", 200, "{\"id\":1,\"v\":\"v1\"}");
    exec("ALTER TABLE runtime_sql_start.t ADD n numeric DEFAULT 1.50");
    expect_on_all_connections("/?id=1", 200, "{\"id\":1,\"v\":\"v1\",\"n\":1.50}");
    exec("CREATE TYPE runtime_sql_start.pair AS (a int, b text); ALTER TABLE runtime_sql_start.t DROP n,"
         " ADD p runtime_sql_start.pair DEFAULT ROW(1, 'x')"); /* which only the server can encode */
    expect_on_all_connections("/?id=1", 200, "{\"id\":1,\"v\":\"v1\",\"p\":{\"a\":1,\"b\":\"x\"}}");
    exec("ALTER TABLE runtime_sql_start.t DROP p, ALTER v TYPE text[] USING ARRAY[v]");
    expect_on_all_connections("/?id=1", 200, "{\"id\":1,\"v\":[\"v1\"]}");
    exec("ALTER TABLE runtime_sql_start.t ALTER v TYPE text USING v[1]");
    expect_on_all_connections("/?id=1", 200, "{\"id\":1,\"v\":\"v1\"}");
    runtime_process_release(&process);
    start("SELECT * FROM runtime_sql_start.t JOIN (SELECT 7 AS w) AS x ON true WHERE id = :id", "", NULL,
          true);
    expect_on_all_connections("/?id=1", 200, "[{\"id\":1,\"v\":\"v1\",\"w\":7}]");
    exec("ALTER TABLE runtime_sql_start.t ADD w int"); /* a name that is there already */
    expect_on_all_connections("/?id=1", 500, "\"code\":\"result_changed\"");
    exec("ALTER TABLE runtime_sql_start.t DROP w");
    expect_on_all_connections("/?id=1", 200, "[{\"id\":1,\"v\":\"v1\",\"w\":7}]");
    runtime_process_release(&process);
}

/* A value is made for the type that the parameter had at the start. Should the column be of another one since, the statement
 * fails rather than store something else: as jsonb, the text 1 would be a number. */
static void test_parameter_types_stay(void **state)
{
    CLEANUP_FREE char *text = NULL, *count = NULL;

    (void)state;
    exec("CREATE TABLE runtime_sql_start.notes (note text)");
    start("INSERT INTO runtime_sql_start.notes VALUES (:note)", ",\"result\":\"None\"", NULL, true);
    expect("POST", "/", "{\"note\":\"1\"}", 204, "");
    text = database_value("SELECT note FROM runtime_sql_start.notes");
    assert_string_equal(text, "1");
    exec("ALTER TABLE runtime_sql_start.notes ALTER note TYPE jsonb USING to_jsonb(note)");
    for (int i = 0; i < 8; i++)
        expect("POST", "/", "{\"note\":\"1\"}", 500, "\"code\":\"statement_invalid\"");
    count = database_value("SELECT count(*) FROM runtime_sql_start.notes");
    assert_string_equal(count, "1");
    runtime_process_release(&process);
}

/* ---- large results, many callers ---- */

static void test_large_results(void **state)
{
    CLEANUP_FREE char *count = NULL;
    struct http_answer answer;

    (void)state;
    exec("CREATE TABLE runtime_sql_start.big (n int)");
    start("INSERT INTO runtime_sql_start.big VALUES (:n) RETURNING repeat('x', :n) AS x",
          ",\"result\":\"Row\",\"limits\":{\"responseBytes\":20000}", NULL, true);
    answer = http_ask(process.port, "POST", "/", "",
                      "{\"n\":19992}"); /* {"x":"..."} takes 8 more: all that fits */
    assert_int_equal(answer.status, 200);
    assert_int_equal(strlen(answer.body), 20000);
    http_answer_release(&answer);
    expect("POST", "/", "{\"n\":19993}", 500, "\"code\":\"result_too_large\"");
    expect("POST", "/", "{\"n\":30000000}", 500, "\"code\":\"result_too_large\"");
    count = database_value("SELECT count(*) FROM runtime_sql_start.big");
    assert_string_equal(count, "1");
    runtime_process_release(&process);
    start("SELECT i AS n FROM generate_series(1, :n::int) AS i", ",\"limits\":{\"responseBytes\":20000}",
          NULL, true);
    expect("GET", "/?n=1500", NULL, 200, "{\"n\":1500}]"); /* in memory it is larger than that */
    expect("GET", "/?n=3000", NULL, 500, "\"code\":\"result_too_large\"");
    expect("GET", "/?n=1000000", NULL, 500, "\"code\":\"result_too_large\"");
    answer = http_ask(process.port, "GET", "/?n=3000", "Accept: text/csv\r\n", NULL); /* 16,896 bytes */
    assert_int_equal(answer.status, 200);
    assert_int_equal(strlen(answer.body), 3 + 3 * 9 + 4 * 90 + 5 * 900 + 6 * 2001);
    http_answer_release(&answer);
    expect("GET", "/?n=1", NULL, 200, "[{\"n\":1}]");
    runtime_process_release(&process);
}

static void test_late_statement(void **state)
{
    (void)state;
    exec("CREATE TABLE runtime_sql_start.late (n int)");
    start("INSERT INTO runtime_sql_start.late SELECT 1 FROM pg_sleep(:s)",
          ",\"result\":\"None\",\"timeoutSeconds\":1", NULL, true);
    expect("POST", "/", "{\"s\":30}", 504, "\"code\":\"deadline_exceeded\"");
    expect("POST", "/", "{\"s\":0}", 204, "");
    {
        CLEANUP_FREE char *count = database_value("SELECT count(*) FROM runtime_sql_start.late");
        assert_string_equal(count, "1");
    }
    runtime_process_release(&process);
    start("SELECT 1 AS a FROM pg_sleep(:s)", ",\"timeoutSeconds\":1", NULL, true);
    expect("GET", "/?s=30", NULL, 504, "\"code\":\"deadline_exceeded\"");
    expect("GET", "/?s=0", NULL, 200, "[{\"a\":1}]");
    runtime_process_release(&process);
}

/* What travels with its COMMIT and gets no answer: a reader failed, a writer's outcome is not known, and is not denied. */
static void test_lost_answers(void **state)
{
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());

    (void)state;
    exec("CREATE TABLE runtime_sql_start.lost (n int)");
    start("INSERT INTO runtime_sql_start.lost VALUES (:n)", ",\"result\":\"None\",\"timeoutSeconds\":1",
          pg_proxy_url(proxy), true);
    expect("POST", "/", "{\"n\":1}", 204, "");
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT_ANSWER, "COMMIT", 6, NULL);
    expect("POST", "/", "{\"n\":2}", 500, "\"code\":\"commit_unknown\"");
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_HOLD_ANSWER, "COMMIT", 6, NULL);
    expect("POST", "/", "{\"n\":3}", 500, "\"code\":\"commit_unknown\"");
    expect("POST", "/", "{\"n\":4}", 204, "");
    {
        CLEANUP_FREE char *sum = database_value("SELECT sum(n) FROM runtime_sql_start.lost");
        assert_string_equal(sum, "10"); /* all were committed */
    }
    runtime_process_release(&process);
    /* A reader has no COMMIT: it is known by its parameter. */
    start("SELECT count(*) AS n FROM runtime_sql_start.lost WHERE :who::text <> ''", ",\"timeoutSeconds\":1",
          pg_proxy_url(proxy), true);
    expect("GET", "/?who=me", NULL, 200, "[{\"n\":4}]");
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT_ANSWER, "unlucky", 7, NULL);
    expect("GET", "/?who=unlucky", NULL, 503, "\"code\":\"database_connection_lost\"");
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_HOLD, "unlucky", 7, NULL);
    expect("GET", "/?who=unlucky", NULL, 504, "\"code\":\"deadline_exceeded\"");
    expect("GET", "/?who=me", NULL, 200, "[{\"n\":4}]");
    runtime_process_release(&process);
    pg_proxy_free(proxy);
}

/* With a key the record belongs to the same transaction, so that COMMIT waits for it. */
static void test_idempotency_key(void **state)
{
    struct http_answer answer;

    (void)state;
    exec("CREATE TABLE runtime_sql_start.once (n int)");
    start("INSERT INTO runtime_sql_start.once VALUES (:n)",
          ",\"result\":\"None\",\"http\":{\"idempotency\":\"Optional\"}", NULL, true);
    for (int i = 0; i < 3; i++) {
        answer = http_ask(process.port, "POST", "/", "Idempotency-Key: \"k\"\r\n", "{\"n\":1}");
        assert_int_equal(answer.status, 204);
        assert_int_equal(http_answer_has(&answer, "Idempotency-Replayed: true"), i > 0);
        http_answer_release(&answer);
    }
    expect("POST", "/", "{\"n\":1}", 204, "");
    {
        CLEANUP_FREE char *count = database_value("SELECT count(*) FROM runtime_sql_start.once");
        assert_string_equal(count, "2");
    }
    runtime_process_release(&process);
    exec("DROP SCHEMA cicada CASCADE");
}

#define CALLERS          12
#define CALLS_PER_CALLER 40

struct caller {
    pthread_t thread;
    int number, wrong;
};

static void *call_main(void *arg)
{
    struct caller *caller = arg;

    for (int i = 0; i < CALLS_PER_CALLER; i++) {
        CLEANUP_FREE char *body = xasprintf("{\"id\":%d,\"by\":\"%d\"}", 1 + i % 100, caller->number);
        CLEANUP_FREE char *expected =
            xasprintf("{\"id\":%d,\"v\":\"v%d\",\"by\":\"%d\"}", 1 + i % 100, 1 + i % 100, caller->number);
        struct http_answer answer = http_ask(process.port, "POST", "/", "", body);

        /* Beyond twice the concurrency callers are turned away, and come again. */
        if (answer.status == 503)
            i--;
        else
            caller->wrong += answer.status != 200 || strcmp(answer.body, expected) != 0;
        http_answer_release(&answer);
    }
    return NULL;
}

static void test_many_callers(void **state)
{
    struct caller callers[CALLERS] = {0};
    CLEANUP_FREE char *count = NULL;

    (void)state;
    exec("CREATE TABLE runtime_sql_start.calls (by text)");
    start("INSERT INTO runtime_sql_start.calls VALUES (:by); SELECT id, v, :by::text AS by FROM "
          "runtime_sql_start.t WHERE id = :id",
          ",\"result\":\"Row\"", NULL, true);
    for (int i = 0; i < CALLERS; i++) {
        callers[i].number = i;
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_main, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].wrong, 0);
    }
    count = database_value("SELECT count(*) FROM runtime_sql_start.calls");
    assert_string_equal(count, "480");
    assert_int_equal(runtime_process_stop(&process),
                     0); /* with its sanitizers' verdict, where there is one */
    runtime_process_release(&process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rejected_by_the_lexer),
        cmocka_unit_test(test_rejected_types),
        cmocka_unit_test(test_rejected_by_the_server),
        cmocka_unit_test(test_untyped_parameters),
        cmocka_unit_test(test_columns_that_fit_no_result),
        cmocka_unit_test(test_database_away_at_the_start),
        cmocka_unit_test(test_silent_database_at_the_start),
        cmocka_unit_test(test_locked_table_at_the_start),
        cmocka_unit_test(test_rejected_role),
        cmocka_unit_test(test_columns_change),
        cmocka_unit_test(test_parameter_types_stay),
        cmocka_unit_test(test_large_results),
        cmocka_unit_test(test_late_statement),
        cmocka_unit_test(test_lost_answers),
        cmocka_unit_test(test_idempotency_key),
        cmocka_unit_test(test_many_callers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
