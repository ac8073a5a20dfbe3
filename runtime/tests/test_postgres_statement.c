/* Statements of a transaction: parameters, results, what is refused, what is kept prepared; against a real server. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_result.h"
#include "runtime/tests/support_postgres.h"

static int set_up(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA IF EXISTS test_st CASCADE; CREATE SCHEMA test_st;"
                "CREATE TABLE test_st.item (id int PRIMARY KEY, name text NOT NULL, CHECK (id > 0))");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA test_st CASCADE");
    return 0;
}
/* ---- statements ---- */

static void test_parameters_and_results(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    const size_t size = 3 << 20;
    char *large = xmalloc(size + 1);
    memset(large, 'x', size);
    large[size] = '\0';
    const char *params[] = {NULL, large, "7", ""};
    struct pg_result *first, *second;
    struct pg_error error;
    assert_int_equal(
        pg_query(tx, "SELECT $1::int, $2::text, $3::int + 1, $4::text", 4, params, &first, &error), 0);
    assert_true(pg_result_is_null(first, 0, 0));
    size_t len;
    const char *value = pg_result_value(first, 0, 1, &len);
    assert_int_equal(len, size);
    assert_memory_equal(value, large, size);
    assert_string_equal(pg_result_value(first, 0, 2, NULL), "8");
    assert_string_equal(pg_result_value(first, 0, 3, &len), "");
    assert_int_equal(len, 0);
    assert_false(pg_result_is_null(first, 0, 3));
    /* Outside of the result there is nothing. */
    assert_null(pg_result_value(first, 1, 0, &len));
    assert_null(pg_result_value(first, 0, 4, NULL));
    assert_null(pg_result_value(first, -1, -1, NULL));
    assert_true(pg_result_is_null(first, 5, 5));
    assert_null(pg_result_column_name(first, 4));
    assert_int_equal(pg_result_column_type(first, -1), 0);
    free(large);

    second = pgtest_query(
        tx, "SELECT g, CASE WHEN g % 2 = 0 THEN repeat('y', g) END FROM generate_series(1, 2000) g");
    assert_int_equal(pg_result_rows(second), 2000);
    assert_int_equal(pg_result_affected(second), 0);
    for (int row = 0; row < 2000; row++) {
        assert_int_equal(strtol(pg_result_value(second, row, 0, NULL), NULL, 10), row + 1);
        assert_int_equal(pg_result_is_null(second, row, 1), row % 2 == 0);
        (void)pg_result_value(second, row, 1, &len);
        assert_int_equal(len, row % 2 == 0 ? 0 : row + 1);
    }
    pg_result_free(first);
    struct pg_result *empty = pgtest_query(tx, "SELECT 1 AS one WHERE false");
    assert_int_equal(pg_result_rows(empty), 0);
    assert_string_equal(pg_result_column_name(empty, 0), "one");
    pgtest_commit(tx);
    assert_string_equal(pg_result_value(second, 9, 1, NULL), "yyyyyyyyyy"); /* outlives the connection */
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

/* More than the socket takes at once; and a text too long to be kept as a prepared statement. */
static void test_large_messages(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(20000));
    const size_t size = 48u << 20;
    char *large = xmalloc(size + 1);
    memset(large, 'x', size);
    large[size] = '\0';
    const char *params[] = {large};
    struct pg_result *result;
    struct pg_error error;
    assert_int_equal(pg_query(tx, "SELECT length($1::text)", 1, params, &result, &error), 0);
    assert_string_equal(pg_result_value(result, 0, 0, NULL), "50331648");
    memcpy(large, "SELECT '", 8);
    memcpy(large + 20000, "'", 2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(strlen(pgtest_value(tx, large)), 20000 - 8);
    assert_string_equal(
        pgtest_value(tx, "SELECT count(*) FROM pg_prepared_statements WHERE length(statement) > 10000"), "0");
    free(large);
    assert_int_equal(pg_query(tx, "SELECT 1", 65536, params, &result, &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_REFUSED);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void test_affected(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        int affected;
    } cases[] = {
        {"INSERT INTO test_st.item SELECT g, 'a' FROM generate_series(101, 105) g", 5},
        {"UPDATE test_st.item SET name = 'b' WHERE id > 102", 3},
        {"DELETE FROM test_st.item WHERE id = 101 RETURNING id", 1},
        {"UPDATE test_st.item SET name = 'c' WHERE false", 0},
        {"SELECT * FROM test_st.item", 0},
        {"CREATE TABLE test_st.other (id int)", 0},
        {"DO $$ BEGIN RAISE NOTICE 'x'; END $$", 0},
        {"SET LOCAL work_mem = '1MB'", 0},
    };
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(pg_result_affected(pgtest_query(tx, cases[i].sql)), cases[i].affected);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void test_too_large_result(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(20000));
    struct pg_error error = pgtest_query_fails(
        tx, "SELECT repeat('z', 1000000) FROM generate_series(1, 100000)", PG_FAILURE_TOO_LARGE);
    assert_string_equal(pg_error_code(&error), "result_too_large");
    pg_transaction_free(tx);
    tx = pg_transaction_new(pool, true, pgtest_deadline(5000));
    assert_string_equal(pgtest_value(tx, "SELECT 1"), "1");
    pg_transaction_free(tx);
    pgtest_wait_int("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT repeat%'", 0);
    pg_pool_free(pool);
}

static void test_refused_statements(void **state)
{
    (void)state;
    static const char *const statements[] = {"COMMIT", "SET search_path = x", "COPY test_st.item TO STDOUT",
                                             "SELECT 1; SELECT 2"};
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    for (size_t i = 0; i < ARRAY_SIZE(statements); i++) {
        struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
        (void)pgtest_query(tx, "INSERT INTO test_st.item VALUES (5, 'never')");
        struct pg_error error = pgtest_query_fails(tx, statements[i], PG_FAILURE_REFUSED);
        assert_string_equal(pg_error_code(&error), "statement_refused");
        (void)pgtest_commit_fails(tx, PG_FAILURE_REFUSED);
        pg_transaction_free(tx);
    }
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_st.item WHERE id = 5"), 0);
    pg_pool_free(pool);
}

static void test_messages_hold_no_values(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *sqlstate, *message;
    } cases[] = {
        {"SELECT 's3cret'::int", "22P02", "invalid input syntax for type integer: \"\""},
        {"SELECT 'a\"s3cret\"b'::int", "22P02", "invalid input syntax for type integer: \"\""},
        {"DO $$ BEGIN RAISE 'Wert »s3cret«' USING ERRCODE = '22P02'; END $$", "22P02", "data exception"},
        {"SELECT '99999999999'::int", "22003", "value \"\" is out of range for type integer"},
        {"INSERT INTO test_st.item VALUES (-1, 's3cret')", "23514",
         "new row for relation \"item\" violates check constraint \"item_id_check\""},
        {"INSERT INTO test_st.item VALUES (9, NULL)", "23502",
         "null value in column \"name\" of relation \"item\" violates not-null constraint"},
        {"SELECT nothing FROM test_st.item", "42703", "column \"nothing\" does not exist"},
        {"DO $$ BEGIN RAISE 'no stock' USING ERRCODE = 'PT409', DETAIL = 's3cret'; END $$", "PT409",
         "no stock"},
    };
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
        struct pg_error error = pgtest_query_fails(tx, cases[i].sql, PG_FAILURE_SQL);
        assert_string_equal(error.sqlstate, cases[i].sqlstate);
        assert_string_equal(error.message, cases[i].message);
        pg_transaction_free(tx);
    }
    /* Cut between characters, not in the middle of one. */
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    struct pg_error error =
        pgtest_query_fails(tx, "DO $$ BEGIN RAISE '%', repeat('ä', 200); END $$", PG_FAILURE_SQL);
    assert_int_equal(strlen(error.message), 254);
    assert_true(is_valid_utf8(error.message, strlen(error.message)));
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

/* ---- prepared statements ---- */

static void test_more_statements_than_are_kept(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    for (int round = 0; round < 2; round++) {
        struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(10000));
        for (int i = 0; i < 100; i++) {
            char sql[64], expected[16];
            (void)snprintf(sql, sizeof(sql), "SELECT %d", i);
            (void)snprintf(expected, sizeof(expected), "%d", i);
            assert_string_equal(pgtest_value(tx, sql), expected);
        }
        assert_string_equal(
            pgtest_value(tx, "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'c%'"), "64");
        assert_string_equal(
            pgtest_value(tx, "SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE 'c%'"),
            "2"); /* BEGIN and SET */
        pgtest_commit(tx);
        pg_transaction_free(tx);
    }
    pg_pool_free(pool);
}

/* One prepared SET serves most transactions; none gets more time than it has left, nor much less. */
static void test_prepared_limits(void **state)
{
    static const int left_ms[] = {10000, 9990, 500, 10000, 30000, 29900, 2000, 30000};
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    for (size_t i = 0; i < ARRAY_SIZE(left_ms); i++) {
        struct pg_transaction *tx = pg_transaction_new(pool, i % 2, pgtest_deadline(left_ms[i]));
        long limit_ms = strtol(
            pgtest_value(tx, "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"), NULL, 10);
        assert_in_range(limit_ms, left_ms[i] / 2, left_ms[i] - left_ms[i] / 100);
        pgtest_commit(tx);
        pg_transaction_free(tx);
    }
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(10000));
    /* READ WRITE and READ ONLY, and a SET for each of the two that were the longest so far. */
    assert_string_equal(
        pgtest_value(tx, "SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE 'c%'"), "4");
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

/* Room is made for statements without taking a snapshot before BEGIN. */
static void test_making_room_keeps_the_isolation(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool_with(NULL, 1, PG_SERIALIZABLE, 2000);
    for (int i = 0; i < 150; i++) {
        struct pg_transaction *tx = pg_transaction_new(pool, i % 2, pgtest_deadline(10000));
        char sql[64];
        (void)snprintf(sql, sizeof(sql), "SELECT %d, current_setting('transaction_isolation')", i);
        assert_string_equal(pg_result_value(pgtest_query(tx, sql), 0, 1, NULL), "serializable");
        pgtest_commit(tx);
        pg_transaction_free(tx);
    }
    struct pg_pool_stats stats;
    pg_pool_stats(pool, &stats);
    assert_int_equal(stats.connects, 1);
    pg_pool_free(pool);
}

static void test_failed_prepare_is_forgotten(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    for (int i = 0; i < 3; i++) {
        struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
        if (i == 2)
            pgtest_exec("CREATE TABLE test_st.missing (id int)");
        if (i < 2)
            assert_string_equal(
                pgtest_query_fails(tx, "SELECT * FROM test_st.missing", PG_FAILURE_SQL).sqlstate, "42P01");
        else
            (void)pgtest_query(tx, "SELECT * FROM test_st.missing");
        pg_transaction_free(tx);
    }
    struct pg_pool_stats stats;
    pg_pool_stats(pool, &stats);
    assert_int_equal(stats.connects, 1);
    pg_pool_free(pool);
}

static void test_stale_plan_is_made_anew(void **state)
{
    (void)state;
    pgtest_exec("CREATE TABLE test_st.shape (a int); INSERT INTO test_st.shape VALUES (1)");
    struct pg_pool *pool = pgtest_pool_with(NULL, 1, PG_REPEATABLE_READ, 2000);
    struct pg_pool_stats stats;
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    assert_int_equal(pg_result_columns(pgtest_query(tx, "SELECT * FROM test_st.shape")), 1);
    pgtest_commit(tx);
    pg_transaction_free(tx);

    pgtest_exec("ALTER TABLE test_st.shape ADD COLUMN b int");
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    assert_int_equal(pg_result_columns(pgtest_query(tx, "SELECT * FROM test_st.shape")), 2);
    pgtest_commit(tx);
    pg_transaction_free(tx);

    /* As a later statement it fails, because what came before is gone; the next transaction works, on the same connection. */
    pgtest_exec("ALTER TABLE test_st.shape ADD COLUMN c int");
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "SELECT 1");
    assert_string_equal(pgtest_query_fails(tx, "SELECT * FROM test_st.shape", PG_FAILURE_SQL).sqlstate,
                        "0A000");
    pg_transaction_free(tx);
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "SELECT 1");
    assert_int_equal(pg_result_columns(pgtest_query(tx, "SELECT * FROM test_st.shape")), 3);
    pg_transaction_free(tx);
    pg_pool_stats(pool, &stats);
    assert_int_equal(stats.connects, 1);
    pg_pool_free(pool);
}

static void test_lost_prepared_statements(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    for (int i = 0; i < 2; i++) {
        struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(5000));
        assert_string_equal(pgtest_value(tx, "SELECT 42"), "42");
        (void)pgtest_query(tx, "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$");
        pgtest_commit(tx);
        pg_transaction_free(tx);
    }
    struct pg_pool_stats stats;
    pg_pool_stats(pool, &stats);
    assert_int_equal(stats.connects, 1);
    assert_int_equal(stats.failures, 0);
    pg_pool_free(pool);
}

/* ---- room ---- */

/* Results are kept until the end: once they have all the room that there is, the next one is refused before it is asked for. */
static void test_results_that_fill_all_room(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, /* read_only= */ true, pgtest_deadline(60000));
    struct pg_error error;
    struct pg_result *result;
    CLEANUP_FREE char *sql = xasprintf("SELECT repeat('x', %zu)", (size_t)PG_RESULT_MAX_BYTES - 1000);
    (void)pgtest_query(tx, sql);
    memset(&error, 0xFF, sizeof(error));
    assert_int_equal(pg_query(tx, "SELECT 1", 0, NULL, &result, &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_TOO_LARGE);
    assert_string_equal(error.message, "the results of the transaction have too many bytes");
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameters_and_results),
        cmocka_unit_test(test_large_messages),
        cmocka_unit_test(test_affected),
        cmocka_unit_test(test_too_large_result),
        cmocka_unit_test(test_refused_statements),
        cmocka_unit_test(test_messages_hold_no_values),
        cmocka_unit_test(test_more_statements_than_are_kept),
        cmocka_unit_test(test_prepared_limits),
        cmocka_unit_test(test_making_room_keeps_the_isolation),
        cmocka_unit_test(test_failed_prepare_is_forgotten),
        cmocka_unit_test(test_stale_plan_is_made_anew),
        cmocka_unit_test(test_lost_prepared_statements),
        cmocka_unit_test(test_results_that_fill_all_room),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
