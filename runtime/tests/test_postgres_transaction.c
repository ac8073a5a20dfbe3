/* One transaction per invocation, against a real server. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/tests/support_postgres.h"

static int set_up(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA IF EXISTS test_tx CASCADE; CREATE SCHEMA test_tx;"
                "CREATE TABLE test_tx.item (id int PRIMARY KEY, name text NOT NULL, CHECK (id > 0));"
                "CREATE TABLE test_tx.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA test_tx CASCADE");
    return 0;
}

static void test_commit_writes_and_reads(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 2);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    assert_false(pg_transaction_used(tx));
    struct pg_result *result;
    struct pg_error error;
    const char *params[] = {"1", "chair"};
    assert_int_equal(pg_query(tx,
                              "INSERT INTO test_tx.item VALUES ($1, $2) RETURNING id, name, NULL AS nothing",
                              2, params, &result, &error),
                     0);
    assert_true(pg_transaction_used(tx));
    assert_int_equal(pg_result_rows(result), 1);
    assert_int_equal(pg_result_columns(result), 3);
    assert_int_equal(pg_result_affected(result), 1);
    assert_string_equal(pg_result_column_name(result, 1), "name");
    assert_int_equal(pg_result_column(result, "name"), 1);
    assert_int_equal(pg_result_column(result, "NAME"), -1);
    assert_int_equal(pg_result_column_type(result, 0), 23);
    size_t len;
    assert_string_equal(pg_result_value(result, 0, 1, &len), "chair");
    assert_int_equal(len, 5);
    assert_true(pg_result_is_null(result, 0, 2));
    pg_result_free(result);
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_tx.item"), 0);
    assert_string_equal(pgtest_value(tx, "SELECT name FROM test_tx.item WHERE id = 1"), "chair");
    pgtest_commit(tx);
    pg_transaction_free(tx);
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_tx.item WHERE id = 1"), 1);
    struct pg_pool_stats stats;
    pg_pool_stats(pool, &stats);
    assert_int_equal(stats.commits, 1);
    assert_int_equal(stats.idle, 1);
    pg_pool_free(pool);
}

static void test_free_rolls_back(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "INSERT INTO test_tx.item VALUES (2, 'table')");
    pg_transaction_free(tx);
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_tx.item WHERE id = 2"), 0);
    pgtest_wait_for(pool, 1, 1);
    pg_pool_free(pool);
}

static void test_error_is_kept(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "INSERT INTO test_tx.item VALUES (3, 'lamp')");
    struct pg_error error =
        pgtest_query_fails(tx, "INSERT INTO test_tx.item VALUES (3, 'secret')", PG_FAILURE_SQL);
    assert_string_equal(error.sqlstate, "23505");
    assert_string_equal(error.constraint, "item_pkey");
    assert_null(strstr(error.message, "secret"));
    assert_int_equal(pg_error_http_status(&error), 409);
    error = pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_SQL);
    assert_string_equal(error.sqlstate, "23505");
    error = pgtest_commit_fails(tx, PG_FAILURE_SQL);
    assert_string_equal(error.sqlstate, "23505");
    pg_transaction_free(tx);
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_tx.item WHERE id = 3"), 0);
    pg_pool_free(pool);
}

static void test_deferred_constraint_fails_commit(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "INSERT INTO test_tx.late VALUES (1), (1)");
    struct pg_error error = pgtest_commit_fails(tx, PG_FAILURE_SQL);
    assert_string_equal(error.sqlstate, "23505");
    pg_transaction_free(tx);
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_tx.late"), 0);
    pgtest_wait_for(pool, 1, 1);
    pg_pool_free(pool);
}

static void test_deadline_cancels(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    pgtest_wait_for(pool, 1, 1);
    int64_t start_ms = clock_monotonic_ms();
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(300));
    struct pg_error error = pgtest_query_fails(tx, "SELECT pg_sleep(10)", PG_FAILURE_DEADLINE);
    assert_int_equal(pg_error_http_status(&error), 504);
    assert_in_range(clock_monotonic_ms() - start_ms, 200, 600);
    pg_transaction_free(tx);
    assert_int_equal(
        pgtest_int(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"),
        0);
    pg_pool_free(pool);
}

static void test_terminated_backend_is_lost(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "INSERT INTO test_tx.item VALUES (4, 'gone')");
    pgtest_kill("cicada test");
    (void)pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_LOST);
    (void)pgtest_commit_fails(tx, PG_FAILURE_LOST);
    pg_transaction_free(tx);
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    assert_string_equal(pgtest_value(tx, "SELECT count(*) FROM test_tx.item WHERE id = 4"), "0");
    pgtest_commit(tx);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commit_writes_and_reads),
        cmocka_unit_test(test_free_rolls_back),
        cmocka_unit_test(test_error_is_kept),
        cmocka_unit_test(test_deferred_constraint_fails_commit),
        cmocka_unit_test(test_deadline_cancels),
        cmocka_unit_test(test_terminated_backend_is_lost),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
