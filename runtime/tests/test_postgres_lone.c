/* A query that is the whole of a reading transaction: sent without BEGIN and COMMIT, and as safe as with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_postgres.h"

static int set_up(void **state)
{
    (void)state;
    pgtest_exec(
        "DROP SCHEMA IF EXISTS test_lone CASCADE; CREATE SCHEMA test_lone;"
        "CREATE TABLE test_lone.item (id int PRIMARY KEY);"
        "CREATE FUNCTION test_lone.write() RETURNS int LANGUAGE sql AS"
        " 'INSERT INTO test_lone.item VALUES (1) RETURNING id';"
        "CREATE FUNCTION test_lone.unlock() RETURNS int LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM set_config('default_transaction_read_only', 'off', false); RETURN 1; END $$;"
        "CREATE PROCEDURE test_lone.escape() LANGUAGE plpgsql AS"
        " $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; INSERT INTO test_lone.item VALUES (2); END $$");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA test_lone CASCADE");
    return 0;
}

/* Runs it as the whole of a reading transaction: "" and the value, or the SQLSTATE. */
static char *ask(struct pg_pool *pool, const char *sql, int64_t left_ms, enum pg_isolation isolation,
                 char ret_sqlstate[6])
{
    struct pg_transaction *tx = pg_transaction_new(pool, /* read_only= */ true, pgtest_deadline(left_ms));
    struct pg_result *result;
    struct pg_error error;
    char *value = NULL;
    ret_sqlstate[0] = '\0';
    pg_transaction_set_isolation(tx, isolation);
    if (pg_query_commit(tx, sql, 0, NULL, &result, &error) == 0) {
        const char *text = pg_result_rows(result) ? pg_result_value(result, 0, 0, NULL) : "";
        value = xstrdup(text ? text : "");
        pg_result_free(result);
    } else {
        (void)snprintf(ret_sqlstate, 6, "%s", error.sqlstate);
    }
    pg_transaction_free(tx);
    return value;
}

static void expect_answer(struct pg_pool *pool, const char *sql, int64_t left_ms, const char *expected)
{
    char sqlstate[6];
    CLEANUP_FREE char *value = ask(pool, sql, left_ms, PG_READ_COMMITTED, sqlstate);
    assert_non_null(value);
    assert_string_equal(value, expected);
}

static void expect_sqlstate(struct pg_pool *pool, const char *sql, const char *expected)
{
    char sqlstate[6];
    CLEANUP_FREE char *value = ask(pool, sql, 5000, PG_READ_COMMITTED, sqlstate);
    assert_null(value);
    assert_string_equal(sqlstate, expected);
}

static void expect_level(struct pg_pool *pool, enum pg_isolation isolation, const char *expected)
{
    char sqlstate[6];
    CLEANUP_FREE char *value =
        ask(pool, "SELECT current_setting('transaction_isolation')", 5000, isolation, sqlstate);
    assert_non_null(value);
    assert_string_equal(value, expected);
}

/* The level tells: a lone query has the session's default, and one snapshot, which is all that Repeatable Read promises. */
static void test_it_is_sent_alone(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    expect_level(pool, PG_REPEATABLE_READ, "read committed");
    expect_level(pool, PG_SERIALIZABLE, "serializable");
    expect_answer(pool, "VALUES (1)", 5000, "1");
    struct pg_pool_stats stats;
    pg_pool_stats(pool, &stats);
    assert_int_equal(stats.commits, 3);
    assert_int_equal(stats.rollbacks + stats.failures, 0);
    pg_pool_free(pool);
}

static void test_it_can_not_write(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    expect_answer(pool, "SHOW default_transaction_read_only", 5000, "on");
    expect_sqlstate(pool, "SELECT test_lone.write()", "25006");
    expect_sqlstate(
        pool, "WITH new AS (INSERT INTO test_lone.item VALUES (3) RETURNING id) SELECT id FROM new", "25006");
    expect_sqlstate(pool, "CALL test_lone.escape()", "2D000"); /* in a block COMMIT is refused */
    /* A function that lifts the guard loses its connection to others. */
    expect_answer(pool, "SELECT test_lone.unlock()", 5000, "1");
    expect_sqlstate(pool, "SELECT test_lone.write()", "25006");
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_lone.item"), 0);
    pg_pool_free(pool);
}

static void test_writers_write_between_readers(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    for (int i = 10; i < 13; i++) {
        expect_answer(pool, "SELECT 1", 5000, "1");
        struct pg_transaction *tx = pg_transaction_new(pool, /* read_only= */ false, pgtest_deadline(5000));
        CLEANUP_FREE char *sql = xasprintf("INSERT INTO test_lone.item VALUES (%d)", i);
        pg_result_free(pgtest_query(tx, sql));
        pgtest_commit(tx);
        pg_transaction_free(tx);
    }
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_lone.item WHERE id >= 10"), 3);
    pg_pool_free(pool);
}

/* statement_timeout is what is left, a little less; a deadline that is nearer than the session's takes a block. */
static void test_statement_timeout(void **state)
{
    (void)state;
    static const char setting[] =
        "SELECT extract(epoch FROM current_setting('statement_timeout')::interval) * 1000";
    char sqlstate[6];
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    const int64_t left_ms[] = {10000, 10000, 3000, 60000, 10000};
    for (size_t i = 0; i < ARRAY_SIZE(left_ms); i++) {
        CLEANUP_FREE char *value = ask(pool, setting, left_ms[i], PG_READ_COMMITTED, sqlstate);
        assert_non_null(value);
        double timeout_ms = strtod(value, NULL);
        assert_true(timeout_ms <= (double)left_ms[i] && timeout_ms >= (double)left_ms[i] * 0.9);
    }
    int64_t begin_ms = clock_monotonic_ms();
    CLEANUP_FREE char *late = ask(pool, "SELECT pg_sleep(5)", 300, PG_READ_COMMITTED, sqlstate);
    assert_null(late);
    assert_true(clock_monotonic_ms() - begin_ms < 1500);
    /* After an error, which took a SET in the same flight back, the limit is set anew. */
    expect_sqlstate(pool, "SELECT 1/0", "22012");
    CLEANUP_FREE char *again = ask(pool, setting, 10000, PG_READ_COMMITTED, sqlstate);
    assert_true(again && strtod(again, NULL) >= 9000);
    pg_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_sent_alone),
        cmocka_unit_test(test_it_can_not_write),
        cmocka_unit_test(test_writers_write_between_readers),
        cmocka_unit_test(test_statement_timeout),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
