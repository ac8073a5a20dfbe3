/* The real runtime with SQL functions: statements that the server rejects, a database that is away or slow at the start. */
#include "runtime/tests/support_test.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
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
    runtime_process_start_sql(&process, sql, more, url, serving);
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
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
