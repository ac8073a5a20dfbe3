/* The real runtime with SQL functions under way: DDL by others, large results, late and lost answers, concurrency. */
#include "runtime/tests/support_test.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_runtime.h"

static struct runtime_process process;

static void start(const char *sql, const char *more, const char *url)
{
    runtime_process_start_sql(&process, sql, more, url, /* serving= */ true);
}

static int setup(void **state)
{
    (void)state;
    free(database_value(
        "DROP SCHEMA IF EXISTS runtime_sql_change CASCADE; CREATE SCHEMA runtime_sql_change;"
        "CREATE TABLE runtime_sql_change.t (id int PRIMARY KEY, v text);"
        "INSERT INTO runtime_sql_change.t SELECT i, 'v' || i FROM generate_series(1, 100) AS i"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    runtime_process_release(&process);
    free(database_value("DROP SCHEMA IF EXISTS runtime_sql_change CASCADE"));
    return 0;
}

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
    start("SELECT * FROM runtime_sql_change.t WHERE id = :id", ",\"result\":\"Row\"", NULL);
    expect_on_all_connections("/?id=1", 200, "{\"id\":1,\"v\":\"v1\"}");
    exec("ALTER TABLE runtime_sql_change.t ADD n numeric DEFAULT 1.50");
    expect_on_all_connections("/?id=1", 200, "{\"id\":1,\"v\":\"v1\",\"n\":1.50}");
    exec("CREATE TYPE runtime_sql_change.pair AS (a int, b text); ALTER TABLE runtime_sql_change.t DROP n,"
         " ADD p runtime_sql_change.pair DEFAULT ROW(1, 'x')"); /* which only the server can encode */
    expect_on_all_connections("/?id=1", 200, "{\"id\":1,\"v\":\"v1\",\"p\":{\"a\":1,\"b\":\"x\"}}");
    exec("ALTER TABLE runtime_sql_change.t DROP p, ALTER v TYPE text[] USING ARRAY[v]");
    expect_on_all_connections("/?id=1", 200, "{\"id\":1,\"v\":[\"v1\"]}");
    exec("ALTER TABLE runtime_sql_change.t ALTER v TYPE text USING v[1]");
    expect_on_all_connections("/?id=1", 200, "{\"id\":1,\"v\":\"v1\"}");
    runtime_process_release(&process);
    start("SELECT * FROM runtime_sql_change.t JOIN (SELECT 7 AS w) AS x ON true WHERE id = :id", "", NULL);
    expect_on_all_connections("/?id=1", 200, "[{\"id\":1,\"v\":\"v1\",\"w\":7}]");
    exec("ALTER TABLE runtime_sql_change.t ADD w int"); /* a name that is there already */
    expect_on_all_connections("/?id=1", 500, "\"code\":\"result_changed\"");
    exec("ALTER TABLE runtime_sql_change.t DROP w");
    expect_on_all_connections("/?id=1", 200, "[{\"id\":1,\"v\":\"v1\",\"w\":7}]");
    runtime_process_release(&process);
}

/* A value is made for the type that the parameter had at the start. Should the column be of another one since, the statement
 * fails rather than store something else: as jsonb, the text 1 would be a number. */
static void test_parameter_types_stay(void **state)
{
    CLEANUP_FREE char *text = NULL, *count = NULL;

    (void)state;
    exec("CREATE TABLE runtime_sql_change.notes (note text)");
    start("INSERT INTO runtime_sql_change.notes VALUES (:note)", ",\"result\":\"None\"", NULL);
    expect("POST", "/", "{\"note\":\"1\"}", 204, "");
    text = database_value("SELECT note FROM runtime_sql_change.notes");
    assert_string_equal(text, "1");
    exec("ALTER TABLE runtime_sql_change.notes ALTER note TYPE jsonb USING to_jsonb(note)");
    for (int i = 0; i < 8; i++)
        expect("POST", "/", "{\"note\":\"1\"}", 500, "\"code\":\"statement_invalid\"");
    count = database_value("SELECT count(*) FROM runtime_sql_change.notes");
    assert_string_equal(count, "1");
    runtime_process_release(&process);
}

/* ---- large results, many callers ---- */

static void test_large_results(void **state)
{
    CLEANUP_FREE char *count = NULL;
    struct http_answer answer;

    (void)state;
    exec("CREATE TABLE runtime_sql_change.big (n int)");
    start("INSERT INTO runtime_sql_change.big VALUES (:n) RETURNING repeat('x', :n) AS x",
          ",\"result\":\"Row\",\"limits\":{\"responseBytes\":20000}", NULL);
    answer = http_ask(process.port, "POST", "/", "",
                      "{\"n\":19992}"); /* {"x":"..."} takes 8 more: all that fits */
    assert_int_equal(answer.status, 200);
    assert_int_equal(strlen(answer.body), 20000);
    http_answer_release(&answer);
    expect("POST", "/", "{\"n\":19993}", 500, "\"code\":\"result_too_large\"");
    expect("POST", "/", "{\"n\":30000000}", 500, "\"code\":\"result_too_large\"");
    count = database_value("SELECT count(*) FROM runtime_sql_change.big");
    assert_string_equal(count, "1");
    runtime_process_release(&process);
    start("SELECT i AS n FROM generate_series(1, :n::int) AS i", ",\"limits\":{\"responseBytes\":20000}",
          NULL);
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
    exec("CREATE TABLE runtime_sql_change.late (n int)");
    start("INSERT INTO runtime_sql_change.late SELECT 1 FROM pg_sleep(:s)",
          ",\"result\":\"None\",\"timeoutSeconds\":2", NULL);
    expect("POST", "/", "{\"s\":30}", 504, "\"code\":\"deadline_exceeded\"");
    expect("POST", "/", "{\"s\":0}", 204, "");
    {
        CLEANUP_FREE char *count = database_value("SELECT count(*) FROM runtime_sql_change.late");
        assert_string_equal(count, "1");
    }
    runtime_process_release(&process);
    start("SELECT 1 AS a FROM pg_sleep(:s)", ",\"timeoutSeconds\":2", NULL);
    expect("GET", "/?s=30", NULL, 504, "\"code\":\"deadline_exceeded\"");
    expect("GET", "/?s=0", NULL, 200, "[{\"a\":1}]");
    runtime_process_release(&process);
}

/* What travels with its COMMIT and gets no answer: a reader failed, a writer's outcome is not known, and is not denied. */
static void test_lost_answers(void **state)
{
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());

    (void)state;
    exec("CREATE TABLE runtime_sql_change.lost (n int)");
    start("INSERT INTO runtime_sql_change.lost VALUES (:n)", ",\"result\":\"None\",\"timeoutSeconds\":2",
          pg_proxy_url(proxy));
    expect("POST", "/", "{\"n\":1}", 204, "");
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT_ANSWER, "COMMIT", 6, NULL);
    expect("POST", "/", "{\"n\":2}", 500, "\"code\":\"commit_unknown\"");
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_HOLD_ANSWER, "COMMIT", 6, NULL);
    expect("POST", "/", "{\"n\":3}", 500, "\"code\":\"commit_unknown\"");
    expect("POST", "/", "{\"n\":4}", 204, "");
    {
        CLEANUP_FREE char *sum = database_value("SELECT sum(n) FROM runtime_sql_change.lost");
        assert_string_equal(sum, "10"); /* all were committed */
    }
    runtime_process_release(&process);
    /* A reader has no COMMIT: it is known by its parameter. */
    start("SELECT count(*) AS n FROM runtime_sql_change.lost WHERE :who::text <> ''", ",\"timeoutSeconds\":2",
          pg_proxy_url(proxy));
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
    exec("CREATE TABLE runtime_sql_change.once (n int)");
    start("INSERT INTO runtime_sql_change.once VALUES (:n)",
          ",\"result\":\"None\",\"http\":{\"idempotency\":\"Optional\"}", NULL);
    for (int i = 0; i < 3; i++) {
        answer = http_ask(process.port, "POST", "/", "Idempotency-Key: \"k\"\r\n", "{\"n\":1}");
        assert_int_equal(answer.status, 204);
        assert_int_equal(http_answer_has(&answer, "Idempotency-Replayed: true"), i > 0);
        http_answer_release(&answer);
    }
    expect("POST", "/", "{\"n\":1}", 204, "");
    {
        CLEANUP_FREE char *count = database_value("SELECT count(*) FROM runtime_sql_change.once");
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
    exec("CREATE TABLE runtime_sql_change.calls (by text)");
    start("INSERT INTO runtime_sql_change.calls VALUES (:by); SELECT id, v, :by::text AS by FROM "
          "runtime_sql_change.t WHERE id = :id",
          ",\"result\":\"Row\"", NULL);
    for (int i = 0; i < CALLERS; i++) {
        callers[i].number = i;
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_main, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].wrong, 0);
    }
    count = database_value("SELECT count(*) FROM runtime_sql_change.calls");
    assert_string_equal(count, "480");
    assert_int_equal(runtime_process_stop(&process),
                     0); /* with its sanitizers' verdict, where there is one */
    runtime_process_release(&process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_change), cmocka_unit_test(test_parameter_types_stay),
        cmocka_unit_test(test_large_results),  cmocka_unit_test(test_late_statement),
        cmocka_unit_test(test_lost_answers),   cmocka_unit_test(test_idempotency_key),
        cmocka_unit_test(test_many_callers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
