/* One transaction per invocation, against a real server. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_result.h"
#include "runtime/tests/support_pg_proxy.h"
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
    assert_in_range(clock_monotonic_ms() - start_ms, 200, 2000);
    pg_transaction_free(tx);
    pgtest_wait_int(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'", 0);
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

/* As a server does that has become a standby meanwhile. */
static void test_server_that_refuses_to_begin(void **state)
{
    (void)state;
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    struct pg_pool *pool = pgtest_pool(pg_proxy_url(proxy), 1);
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_REPLACE, "BEGIN ISO", 9, "BEGUN ISO");
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    struct pg_error error =
        pgtest_query_fails(tx, "INSERT INTO test_tx.item VALUES (8, 'x')", PG_FAILURE_LOST);
    assert_string_equal(error.sqlstate, "42601");
    pg_transaction_free(tx);
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "SELECT 1");
    pg_transaction_free(tx);
    struct pg_pool_stats stats;
    pg_pool_stats(pool, &stats);
    assert_int_equal(stats.connects, 2);
    pg_pool_free(pool);
    pg_proxy_free(proxy);
}

static void test_read_only_and_isolation(void **state)
{
    (void)state;
    static const char *const names[] = {[PG_READ_COMMITTED] = "read committed",
                                        [PG_REPEATABLE_READ] = "repeatable read",
                                        [PG_SERIALIZABLE] = "serializable"};
    for (enum pg_isolation isolation = PG_READ_COMMITTED; isolation <= PG_SERIALIZABLE; isolation++) {
        struct pg_pool *pool = pgtest_pool_with(NULL, 1, isolation, 2000);
        struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(5000));
        assert_string_equal(pgtest_value(tx, "SHOW transaction_isolation"), names[isolation]);
        assert_string_equal(pgtest_value(tx, "SHOW transaction_read_only"), "on");
        struct pg_error error =
            pgtest_query_fails(tx, "INSERT INTO test_tx.item VALUES (6, 'x')", PG_FAILURE_SQL);
        assert_string_equal(error.sqlstate, "25006");
        pg_transaction_free(tx);
        tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
        assert_string_equal(pgtest_value(tx, "SHOW transaction_isolation"), names[isolation]);
        assert_string_equal(pgtest_value(tx, "SHOW transaction_read_only"), "off");
        pg_transaction_free(tx);
        pg_pool_free(pool);
    }
}

static void test_serialization_failure(void **state)
{
    (void)state;
    pgtest_exec("INSERT INTO test_tx.item VALUES (50, 'a') ON CONFLICT DO NOTHING");
    struct pg_pool *pool = pgtest_pool_with(NULL, 1, PG_REPEATABLE_READ, 2000);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "SELECT * FROM test_tx.item");
    pgtest_exec("UPDATE test_tx.item SET name = 'b' WHERE id = 50");
    struct pg_error error =
        pgtest_query_fails(tx, "UPDATE test_tx.item SET name = 'c' WHERE id = 50", PG_FAILURE_SQL);
    assert_string_equal(error.sqlstate, "40001");
    assert_int_equal(pg_error_http_status(&error), 503);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void test_nothing_used(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    pgtest_commit(tx);
    assert_false(pg_transaction_used(tx));
    (void)pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_REFUSED); /* it has ended */
    (void)pgtest_commit_fails(tx, PG_FAILURE_REFUSED);
    pg_transaction_free(tx);
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    pg_transaction_rollback(tx);
    pg_transaction_rollback(tx);
    (void)pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_REFUSED);
    pg_transaction_free(tx);
    tx = pg_transaction_new(pool, false, pgtest_deadline(0));
    (void)pgtest_commit_fails(tx, PG_FAILURE_DEADLINE);
    pg_transaction_free(tx);
    pg_transaction_free(NULL);
    struct pg_pool_stats stats;
    pg_pool_stats(pool, &stats);
    assert_int_equal(stats.commits + stats.rollbacks, 0);
    pg_pool_free(pool);
}

/* ---- time ---- */

static void test_own_limit_is_no_deadline(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "SET LOCAL statement_timeout = 30");
    struct pg_error error = pgtest_query_fails(tx, "SELECT pg_sleep(5)", PG_FAILURE_SQL);
    assert_string_equal(error.sqlstate, "57014");
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void test_no_deadline(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, DEADLINE_NONE);
    assert_string_equal(pgtest_value(tx, "SHOW statement_timeout"), "0");
    pgtest_commit(tx);
    pg_transaction_free(tx);
    /* A far deadline raises the limit on idling between statements. */
    tx = pg_transaction_new(pool, false, pgtest_deadline(600000));
    assert_true(
        strtol(pgtest_value(
                   tx, "SELECT setting FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"),
               NULL, 10) > 600000);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void test_silent_server_meets_the_deadline(void **state)
{
    (void)state;
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    struct pg_pool *pool = pgtest_pool(pg_proxy_url(proxy), 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(300));
    (void)pgtest_query(tx, "SELECT 1");
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_HOLD, "SELECT 2", 8, NULL);
    int64_t start_ms = clock_monotonic_ms();
    (void)pgtest_query_fails(tx, "SELECT 2", PG_FAILURE_DEADLINE);
    pg_transaction_free(tx);
    assert_true(clock_monotonic_ms() - start_ms < 2000);
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "SELECT 2");
    pg_transaction_free(tx);
    pg_pool_free(pool);
    pg_proxy_free(proxy);
}

/* Whoever takes the cancel request may be silent too: nobody waits for it, not even who frees the pool. */
static void test_silent_server_is_not_waited_for(void **state)
{
    (void)state;
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    struct pg_pool *pool = pgtest_pool(pg_proxy_url(proxy), 6);
    struct pg_transaction *txs[6];
    int64_t start_ms = clock_monotonic_ms();
    for (int i = 0; i < 6; i++) {
        txs[i] = pg_transaction_new(pool, false, pgtest_deadline(2500));
        (void)pgtest_query(txs[i], "SELECT 1");
    }
    pg_proxy_stall(proxy, true);
    for (int i = 0; i < 6; i++)
        pg_transaction_cancel(txs[i]);
    for (int i = 0; i < 6; i++)
        pg_transaction_free(txs[i]);
    pg_pool_free(pool);
    assert_true(clock_monotonic_ms() - start_ms < 9000);
    pg_proxy_free(proxy);
}

static void *cancel_soon(void *arg)
{
    pgtest_sleep_ms(100);
    pg_transaction_cancel(arg);
    return NULL;
}

static void test_cancel_from_another_thread(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(20000));
    int64_t pid = strtoll(pgtest_value(tx, "SELECT pg_backend_pid()"), NULL, 10),
            start_ms = clock_monotonic_ms();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, tx), 0);
    (void)pgtest_query_fails(tx, "SELECT pg_sleep(15)", PG_FAILURE_DEADLINE);
    assert_in_range(clock_monotonic_ms() - start_ms, 50, 8000);
    (void)pthread_join(thread, NULL);
    (void)pgtest_commit_fails(tx, PG_FAILURE_DEADLINE);
    pg_transaction_free(tx);
    /* The request may have reached the session late: it is not lent again. */
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    assert_int_not_equal(strtoll(pgtest_value(tx, "SELECT pg_backend_pid()"), NULL, 10), pid);
    pg_transaction_free(tx);
    /* Before anything was sent it only makes later calls fail. */
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    pg_transaction_cancel(tx);
    (void)pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_DEADLINE);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void test_idle_session_is_ended_by_the_server(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "SET LOCAL idle_in_transaction_session_timeout = 30");
    pgtest_sleep_ms(150);
    struct pg_error error = pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_LOST);
    assert_int_equal(pg_error_http_status(&error), 503);
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
        cmocka_unit_test(test_server_that_refuses_to_begin),
        cmocka_unit_test(test_read_only_and_isolation),
        cmocka_unit_test(test_serialization_failure),
        cmocka_unit_test(test_nothing_used),
        cmocka_unit_test(test_own_limit_is_no_deadline),
        cmocka_unit_test(test_no_deadline),
        cmocka_unit_test(test_silent_server_meets_the_deadline),
        cmocka_unit_test(test_silent_server_is_not_waited_for),
        cmocka_unit_test(test_cancel_from_another_thread),
        cmocka_unit_test(test_idle_session_is_ended_by_the_server),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
