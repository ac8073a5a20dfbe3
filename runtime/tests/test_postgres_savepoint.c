/* Savepoints, rows one by one, and what results may take together; against a real server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_postgres.h"

static int set_up(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA IF EXISTS test_sp CASCADE; CREATE SCHEMA test_sp;"
                "CREATE TABLE test_sp.item (id int PRIMARY KEY)");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA test_sp CASCADE");
    return 0;
}

static void set(struct pg_transaction *tx)
{
    struct pg_error error;
    if (pg_savepoint(tx, &error) < 0)
        fail_msg("%s", error.message);
}

static void keep(struct pg_transaction *tx)
{
    struct pg_error error;
    if (pg_savepoint_release(tx, &error) < 0)
        fail_msg("%s", error.message);
}

static void undo(struct pg_transaction *tx)
{
    struct pg_error error;
    if (pg_savepoint_rollback(tx, &error) < 0)
        fail_msg("%s", error.message);
}

static void insert(struct pg_transaction *tx, int id)
{
    char sql[64];
    (void)snprintf(sql, sizeof(sql), "INSERT INTO test_sp.item VALUES (%d)", id);
    (void)pgtest_query(tx, sql);
}

static void expect_items(const char *expected)
{
    CLEANUP_FREE char *sql = xasprintf(
        "SELECT (coalesce(string_agg(id::text, ' ' ORDER BY id), '') = '%s')::int FROM test_sp.item",
        expected);
    assert_int_equal(pgtest_int(sql), 1);
    pgtest_exec("TRUNCATE test_sp.item");
}

/* For what is inside; what was before it comes back by either end of it. */
static void test_read_only_within(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_error error;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));

        if (i > 0)
            insert(tx, 1);
        assert_int_equal(pg_savepoint_read_only(tx, &error), 0);
        set(tx); /* the handler's own */
        error = pgtest_query_fails(tx, "INSERT INTO test_sp.item VALUES (5)", PG_FAILURE_SQL);
        assert_string_equal(error.sqlstate, "25006");
        undo(tx);
        set(tx);
        error =
            pgtest_query_fails(tx, "SELECT set_config('transaction_read_only', 'off', true)", PG_FAILURE_SQL);
        assert_string_equal(error.sqlstate, "25001");
        undo(tx);
        undo(tx);
        insert(tx, 2);
        assert_int_equal(pg_savepoint_read_only(tx, &error), 0);
        (void)pgtest_query(tx, "SELECT 1");
        keep(tx);
        insert(tx, 3);
        assert_int_equal(pg_transaction_commit(tx, &error), 0);
        pg_transaction_free(tx);
        expect_items(i > 0 ? "1 2 3" : "2 3");
    }
    pg_pool_free(pool);
}

static void test_error_is_taken_back(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    struct pg_error error;

    (void)state;
    insert(tx, 1);
    set(tx);
    insert(tx, 2);
    error = pgtest_query_fails(tx, "INSERT INTO test_sp.item VALUES (1)", PG_FAILURE_SQL);
    assert_string_equal(error.sqlstate, "23505");
    error = pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_SQL); /* until it is taken back */
    assert_string_equal(error.sqlstate, "23505");
    assert_int_equal(pg_savepoint(tx, &error), -1);
    assert_int_equal(pg_savepoint_release(tx, &error), -1);
    (void)pgtest_commit_fails(tx, PG_FAILURE_SQL);
    undo(tx);
    insert(tx, 3);
    pgtest_commit(tx);
    pg_transaction_free(tx);
    expect_items("1 3");
    struct pg_pool_stats stats;
    pg_pool_stats(pool, &stats);
    assert_int_equal(stats.commits, 1);
    assert_int_equal(stats.failures, 0);
    assert_int_equal(stats.connects, 1);
    pg_pool_free(pool);
}

/* As the very first statement too, and one that fails while it is prepared. */
static void test_first_statement_fails(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
        set(tx);
        (void)pgtest_query_fails(tx, "SELECT * FROM test_sp.missing", PG_FAILURE_SQL);
        undo(tx);
        insert(tx, i);
        pgtest_commit(tx);
        pg_transaction_free(tx);
    }
    expect_items("0 1");
    pg_pool_free(pool);
}

static void test_nested(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    struct pg_error error;

    (void)state;
    set(tx);
    insert(tx, 1);
    set(tx);
    insert(tx, 2);
    set(tx);
    insert(tx, 3);
    undo(tx); /* without 3 */
    insert(tx, 4);
    keep(tx); /* 2 and 4 belong to the outermost now */
    set(tx);
    undo(tx);
    set(tx);
    insert(tx, 5);
    (void)pgtest_query_fails(tx, "SELECT 1 / 0", PG_FAILURE_SQL);
    undo(tx);
    keep(tx);
    pgtest_commit(tx);
    pg_transaction_free(tx);
    expect_items("1 2 4");

    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    set(tx);
    insert(tx, 1);
    set(tx);
    insert(tx, 2);
    keep(tx);
    undo(tx); /* the outer one takes back what was released into it */
    insert(tx, 3);
    set(tx);
    insert(tx, 4);
    pgtest_commit(tx); /* what is open is committed as well */
    pg_transaction_free(tx);
    expect_items("3 4");

    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    for (int i = 0; i < PG_SAVEPOINTS_MAX; i++)
        set(tx);
    insert(tx, 1);
    assert_int_equal(pg_savepoint(tx, &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_REFUSED);
    pg_transaction_free(tx);

    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    insert(tx, 1);
    assert_int_equal(pg_savepoint_rollback(tx, &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_REFUSED);
    assert_int_equal(pg_savepoint_release(tx, &error), -1);
    pg_transaction_free(tx);
    expect_items("");
    pg_pool_free(pool);
}

/* Many of them, one after the other; nothing of them is left open on the server. */
static void test_one_for_each_item(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(10000));

    (void)state;
    for (int i = 0; i < 300; i++) {
        set(tx);
        if (i % 3 == 0) {
            (void)pgtest_query_fails(tx, "SELECT 1 / 0", PG_FAILURE_SQL);
            undo(tx);
        } else {
            if (i % 3 == 1)
                insert(tx, i);
            keep(tx);
        }
    }
    for (int i = 0; i < 30; i++) { /* more than may wait to be sent */
        for (int depth = 0; depth < PG_SAVEPOINTS_MAX; depth++)
            set(tx);
        for (int depth = 0; depth < PG_SAVEPOINTS_MAX; depth++)
            keep(tx);
    }
    assert_string_equal(pgtest_value(tx, "SELECT count(*) FROM test_sp.item"), "100");
    pgtest_commit(tx);
    pg_transaction_free(tx);
    pgtest_exec("TRUNCATE test_sp.item");
    pg_pool_free(pool);
}

static void test_what_is_lost_stays_lost(void **state)
{
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    struct pg_pool *pool = pgtest_pool(pg_proxy_url(proxy), 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    struct pg_error error;

    (void)state;
    insert(tx, 1);
    set(tx);
    insert(tx, 2);
    pgtest_kill("cicada test");
    (void)pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_LOST);
    assert_int_equal(pg_savepoint_rollback(tx, &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_LOST);
    pg_transaction_free(tx);

    tx = pg_transaction_new(pool, false, pgtest_deadline(400));
    set(tx);
    (void)pgtest_query_fails(tx, "SELECT pg_sleep(5)", PG_FAILURE_DEADLINE);
    assert_int_equal(pg_savepoint_rollback(tx, &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_DEADLINE);
    pg_transaction_free(tx);

    tx = pg_transaction_new(pool, false, pgtest_deadline(5000)); /* the connection dies at ROLLBACK TO */
    set(tx);
    (void)pgtest_query_fails(tx, "SELECT 1 / 0", PG_FAILURE_SQL);
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT, "ROLLBACK TO", 11, NULL);
    assert_int_equal(pg_savepoint_rollback(tx, &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_LOST);
    (void)pgtest_commit_fails(tx, PG_FAILURE_LOST);
    pg_transaction_free(tx);

    tx = pg_transaction_new(pool, false, pgtest_deadline(5000)); /* never taken back */
    insert(tx, 3);
    set(tx);
    (void)pgtest_query_fails(tx, "SELECT 1 / 0", PG_FAILURE_SQL);
    pg_transaction_free(tx);
    expect_items("");
    pg_pool_free(pool);
    pg_proxy_free(proxy);
}

/* The transaction's id is known, so that a lost COMMIT is resolved as without savepoints. */
static void test_lost_commit_is_resolved(void **state)
{
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    struct pg_pool *pool = pgtest_pool(pg_proxy_url(proxy), 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));

    (void)state;
    set(tx);
    insert(tx, 1);
    undo(tx);
    set(tx);
    (void)pgtest_query_fails(tx, "SELECT 1 / 0", PG_FAILURE_SQL);
    undo(tx);
    insert(tx, 2);
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT_ANSWER, "COMMIT", 6, NULL);
    pgtest_commit(tx);
    pg_transaction_free(tx);
    expect_items("2");
    pg_pool_free(pool);
    pg_proxy_free(proxy);
}

/* ---- rows one by one ---- */

struct reading {
    struct pg_transaction *tx;
    int rows, stop_at;
    int64_t sum, sleep_ms;
};

static int read_row(void *arg, const struct pg_result *row)
{
    struct reading *reading = arg;

    assert_int_equal(pg_result_rows(row), 1);
    assert_int_equal(pg_result_columns(row), 2);
    assert_string_equal(pg_result_column_name(row, 1), "text");
    assert_int_equal(pg_result_column_type(row, 0), 23);
    reading->rows++;
    reading->sum += strtol(pg_result_value(row, 0, 0, NULL), NULL, 10);
    if (reading->sleep_ms > 0) {
        pg_transaction_set_deadline(reading->tx, pgtest_deadline(500));
        pgtest_sleep_ms(reading->sleep_ms);
    }
    return reading->rows == reading->stop_at ? -1 : 0;
}

static int each(struct reading *reading, const char *sql, struct pg_error *error)
{
    return pg_query_each(reading->tx, sql, 0, NULL, read_row, reading, error);
}

#define ROWS(count) "SELECT g AS n, repeat('x', 1000) AS text FROM generate_series(1, " #count ") g"

static void test_rows_one_by_one(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct reading reading = {.tx = pg_transaction_new(pool, true, pgtest_deadline(20000))};
    struct pg_error error;

    (void)state;
    /* 100 MB, which a result could not hold; then a statement with its ordinary limits. */
    assert_int_equal(each(&reading, ROWS(100000), &error), 0);
    assert_int_equal(reading.rows, 100000);
    assert_int_equal(reading.sum, 5000050000);
    assert_string_not_equal(pgtest_value(reading.tx, "SHOW statement_timeout"), "0");
    assert_string_equal(pgtest_value(reading.tx, "SHOW tcp_user_timeout"), "30000");
    assert_int_equal(each(&reading, ROWS(0), &error), 0);
    pgtest_commit(reading.tx);
    pg_transaction_free(reading.tx);

    reading = (struct reading){.tx = pg_transaction_new(pool, true, pgtest_deadline(20000))};
    assert_int_equal(
        each(&reading, "SELECT 10 / (3 - g) AS n, 'x' AS text FROM generate_series(1, 9) g", &error), -1);
    assert_string_equal(error.sqlstate, "22012");
    assert_int_equal(reading.rows, 2);
    pg_transaction_free(reading.tx);
    pg_pool_free(pool);
}

static void test_slow_reader_is_not_late(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct reading reading = {.tx = pg_transaction_new(pool, true, pgtest_deadline(300)), .sleep_ms = 60};
    struct pg_error error;

    (void)state;
    pgtest_wait_for(pool, 1, 1);
    /* The deadline moves with each row, and the statement takes longer than the first one. */
    pg_transaction_set_deadline(reading.tx, pgtest_deadline(300));
    assert_int_equal(each(&reading, ROWS(10), &error), 0);
    assert_int_equal(reading.rows, 10);
    pgtest_commit(reading.tx);
    pg_transaction_free(reading.tx);

    reading = (struct reading){.tx = pg_transaction_new(pool, true, pgtest_deadline(20000)), .sleep_ms = 1};
    int64_t start_ms = clock_monotonic_ms();
    assert_int_equal(
        each(
            &reading,
            "SELECT g AS n, repeat('x', 20000) || pg_sleep(g * g)::text AS text FROM generate_series(0, 5) g",
            &error),
        -1);
    assert_int_equal(error.failure, PG_FAILURE_DEADLINE);
    assert_in_range(clock_monotonic_ms() - start_ms, 400, 3000);
    pg_transaction_free(reading.tx);
    pgtest_wait_int(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(g%' AND pid <> pg_backend_pid()",
        0);
    pg_pool_free(pool);
}

static void test_reading_that_is_ended(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct reading reading = {.tx = pg_transaction_new(pool, true, pgtest_deadline(20000)), .stop_at = 3};
    struct pg_error error;

    (void)state;
    assert_int_equal(each(&reading, ROWS(10000000), &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_REFUSED);
    assert_int_equal(reading.rows, 3);
    (void)pgtest_query_fails(reading.tx, "SELECT 1", PG_FAILURE_REFUSED);
    pg_transaction_free(reading.tx);
    pgtest_wait_int("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, 10000000)%'"
                    " AND pid <> pg_backend_pid()",
                    0);
    pg_pool_free(pool);
}

/* ---- results together ---- */

static void test_results_together_are_limited(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(20000));

    (void)state;
    for (int i = 0; i < 3; i++)
        (void)pgtest_query(tx, "SELECT repeat('z', 20000000)");
    (void)pgtest_query_fails(tx, "SELECT repeat('z', 20000000)", PG_FAILURE_TOO_LARGE);
    pg_transaction_free(tx);
    tx = pg_transaction_new(pool, true, pgtest_deadline(20000));
    for (int i = 0; i < 6; i++) /* what is freed counts no more */
        pg_result_free(pgtest_query(tx, "SELECT repeat('z', 20000000)"));
    pgtest_commit(tx);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_only_within),
        cmocka_unit_test(test_error_is_taken_back),
        cmocka_unit_test(test_first_statement_fails),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_one_for_each_item),
        cmocka_unit_test(test_what_is_lost_stays_lost),
        cmocka_unit_test(test_lost_commit_is_resolved),
        cmocka_unit_test(test_rows_one_by_one),
        cmocka_unit_test(test_slow_reader_is_not_late),
        cmocka_unit_test(test_reading_that_is_ended),
        cmocka_unit_test(test_results_together_are_limited),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
