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
        {"INSERT INTO test_tx.item SELECT g, 'a' FROM generate_series(101, 105) g", 5},
        {"UPDATE test_tx.item SET name = 'b' WHERE id > 102", 3},
        {"DELETE FROM test_tx.item WHERE id = 101 RETURNING id", 1},
        {"UPDATE test_tx.item SET name = 'c' WHERE false", 0},
        {"SELECT * FROM test_tx.item", 0},
        {"CREATE TABLE test_tx.other (id int)", 0},
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
    static const char *const statements[] = {"COMMIT", "SET search_path = x", "COPY test_tx.item TO STDOUT",
                                             "SELECT 1; SELECT 2"};
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    for (size_t i = 0; i < ARRAY_SIZE(statements); i++) {
        struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
        (void)pgtest_query(tx, "INSERT INTO test_tx.item VALUES (5, 'never')");
        struct pg_error error = pgtest_query_fails(tx, statements[i], PG_FAILURE_REFUSED);
        assert_string_equal(pg_error_code(&error), "statement_refused");
        (void)pgtest_commit_fails(tx, PG_FAILURE_REFUSED);
        pg_transaction_free(tx);
    }
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_tx.item WHERE id = 5"), 0);
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
        {"INSERT INTO test_tx.item VALUES (-1, 's3cret')", "23514",
         "new row for relation \"item\" violates check constraint \"item_id_check\""},
        {"INSERT INTO test_tx.item VALUES (9, NULL)", "23502",
         "null value in column \"name\" of relation \"item\" violates not-null constraint"},
        {"SELECT nothing FROM test_tx.item", "42703", "column \"nothing\" does not exist"},
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
            pgtest_exec("CREATE TABLE test_tx.missing (id int)");
        if (i < 2)
            assert_string_equal(
                pgtest_query_fails(tx, "SELECT * FROM test_tx.missing", PG_FAILURE_SQL).sqlstate, "42P01");
        else
            (void)pgtest_query(tx, "SELECT * FROM test_tx.missing");
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
    pgtest_exec("CREATE TABLE test_tx.shape (a int); INSERT INTO test_tx.shape VALUES (1)");
    struct pg_pool *pool = pgtest_pool_with(NULL, 1, PG_REPEATABLE_READ, 2000);
    struct pg_pool_stats stats;
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    assert_int_equal(pg_result_columns(pgtest_query(tx, "SELECT * FROM test_tx.shape")), 1);
    pgtest_commit(tx);
    pg_transaction_free(tx);

    pgtest_exec("ALTER TABLE test_tx.shape ADD COLUMN b int");
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    assert_int_equal(pg_result_columns(pgtest_query(tx, "SELECT * FROM test_tx.shape")), 2);
    pgtest_commit(tx);
    pg_transaction_free(tx);

    /* As a later statement it fails, because what came before is gone; the next transaction works, on the same connection. */
    pgtest_exec("ALTER TABLE test_tx.shape ADD COLUMN c int");
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "SELECT 1");
    assert_string_equal(pgtest_query_fails(tx, "SELECT * FROM test_tx.shape", PG_FAILURE_SQL).sqlstate,
                        "0A000");
    pg_transaction_free(tx);
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    (void)pgtest_query(tx, "SELECT 1");
    assert_int_equal(pg_result_columns(pgtest_query(tx, "SELECT * FROM test_tx.shape")), 3);
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
        cmocka_unit_test(test_commit_writes_and_reads),
        cmocka_unit_test(test_free_rolls_back),
        cmocka_unit_test(test_error_is_kept),
        cmocka_unit_test(test_deferred_constraint_fails_commit),
        cmocka_unit_test(test_deadline_cancels),
        cmocka_unit_test(test_terminated_backend_is_lost),
        cmocka_unit_test(test_server_that_refuses_to_begin),
        cmocka_unit_test(test_parameters_and_results),
        cmocka_unit_test(test_large_messages),
        cmocka_unit_test(test_affected),
        cmocka_unit_test(test_too_large_result),
        cmocka_unit_test(test_refused_statements),
        cmocka_unit_test(test_messages_hold_no_values),
        cmocka_unit_test(test_read_only_and_isolation),
        cmocka_unit_test(test_serialization_failure),
        cmocka_unit_test(test_nothing_used),
        cmocka_unit_test(test_more_statements_than_are_kept),
        cmocka_unit_test(test_prepared_limits),
        cmocka_unit_test(test_results_that_fill_all_room),
        cmocka_unit_test(test_making_room_keeps_the_isolation),
        cmocka_unit_test(test_failed_prepare_is_forgotten),
        cmocka_unit_test(test_stale_plan_is_made_anew),
        cmocka_unit_test(test_lost_prepared_statements),
        cmocka_unit_test(test_own_limit_is_no_deadline),
        cmocka_unit_test(test_no_deadline),
        cmocka_unit_test(test_silent_server_meets_the_deadline),
        cmocka_unit_test(test_silent_server_is_not_waited_for),
        cmocka_unit_test(test_cancel_from_another_thread),
        cmocka_unit_test(test_idle_session_is_ended_by_the_server),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
