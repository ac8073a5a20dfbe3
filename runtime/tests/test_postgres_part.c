/* Parts of one transaction, each kept or undone by itself; against a real server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_postgres.h"

static const struct pg_setting settings[] = {{"test_part.who", "me"}};

static int set_up(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA IF EXISTS test_part CASCADE; CREATE SCHEMA test_part;"
                "CREATE TABLE test_part.item (id int PRIMARY KEY, who text DEFAULT "
                "current_setting('test_part.who', true))");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA test_part CASCADE");
    return 0;
}

static void begin(struct pg_transaction *tx)
{
    struct pg_error error;
    if (pg_part_begin(tx, settings, 1, &error) < 0)
        fail_msg("%s", error.message);
}

static void end(struct pg_transaction *tx, bool keep)
{
    struct pg_error error;
    if (pg_part_end(tx, keep, &error) < 0)
        fail_msg("%s", error.message);
}

static void insert(struct pg_transaction *tx, int id)
{
    char sql[64];
    (void)snprintf(sql, sizeof(sql), "INSERT INTO test_part.item VALUES (%d)", id);
    (void)pgtest_query(tx, sql);
}

static void commit(struct pg_transaction *tx, struct pg_pool *pool)
{
    struct pg_error error;
    if (pg_transaction_commit(tx, &error) < 0)
        fail_msg("%s", error.message);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void expect_items(const char *expected)
{
    CLEANUP_FREE char *sql =
        xasprintf("SELECT (coalesce(string_agg(id || coalesce(who, '-'), ' ' ORDER BY id), '') = '%s')"
                  "::int FROM test_part.item",
                  expected);
    assert_int_equal(pgtest_int(sql), 1);
    pgtest_exec("TRUNCATE test_part.item");
}

static void test_each_is_kept_or_undone(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    struct pg_error error;

    (void)state;
    for (int i = 1; i <= 6; i++) {
        begin(tx);
        if (i != 4) /* one that does nothing */
            insert(tx, i);
        if (i == 2)
            error = pgtest_query_fails(tx, "INSERT INTO test_part.item VALUES (1)", PG_FAILURE_SQL);
        end(tx, i % 2 == 1 || i == 4);
        assert_true(pg_transaction_is_open(tx));
    }
    assert_string_equal(error.sqlstate, "23505");
    commit(tx, pool);
    expect_items("1me 3me 5me");
}

/* The part's savepoints are its own, and nothing of it is left open; those outside are not reached. */
static void test_savepoints_inside_and_outside(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    struct pg_error error;

    (void)state;
    assert_int_equal(pg_savepoint(tx, &error), 0);
    insert(tx, 1);
    begin(tx);
    assert_int_equal(pg_savepoint(tx, &error), 0);
    insert(tx, 2);
    assert_int_equal(pg_savepoint_rollback(tx, &error), 0);
    insert(tx, 3);
    assert_int_equal(pg_savepoint(tx, &error), 0);
    insert(tx, 4);
    end(tx, true);
    begin(tx);
    assert_int_equal(pg_savepoint(tx, &error), 0);
    insert(tx, 5);
    end(tx, false);
    assert_int_equal(pg_savepoint_release(tx, &error), 0);
    begin(tx);
    assert_int_equal(pg_savepoint_release(tx, &error),
                     -1); /* there is none: the whole transaction has failed */
    assert_false(pg_transaction_is_open(tx));
    assert_int_equal(pg_part_end(tx, false, &error), -1);
    pg_transaction_free(tx);
    expect_items("");
    tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    begin(tx);
    insert(tx, 6);
    end(tx, true);
    commit(tx, pool);
    expect_items("6me");
}

/* A setting is not seen by the parts after it. */
static void test_what_is_left_behind_is_told(void **state)
{
    static const char *const statements[] = {"SET LOCAL test_part.who = 'you'",
                                             "SELECT set_config('test_part.who', 'you', true)",
                                             "CREATE TEMP TABLE test_part_temporary (i int) ON COMMIT DROP",
                                             "SET CONSTRAINTS ALL DEFERRED",
                                             "SELECT set_config('test_part.who', 'you', false)",
                                             "SELECT pg_advisory_lock(1)",
                                             "DECLARE c CURSOR FOR SELECT 1"};
    struct pg_pool *pool = pgtest_pool(NULL, 1);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(statements); i++) {
        struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
        begin(tx);
        (void)pgtest_query(tx, "SELECT 1");
        assert_true(pg_transaction_is_open(tx));
        (void)pgtest_query(tx, statements[i]);
        assert_false(pg_transaction_is_open(tx));
        end(tx, true);
        pg_transaction_free(tx);
    }
    pg_pool_free(pool);
}

/* They are the handler's until it returns. */
static void test_results_outlive_their_part(void **state)
{
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(5000));
    struct pg_result *kept, *undone;

    (void)state;
    begin(tx);
    kept = pgtest_query(tx, "SELECT repeat('k', 1000)");
    end(tx, true);
    begin(tx);
    undone = pgtest_query(tx, "SELECT repeat('u', 1000)");
    end(tx, false);
    (void)pgtest_query(tx, "SELECT repeat('x', 1000)");
    assert_int_equal(strspn(pg_result_value(kept, 0, 0, NULL), "k"), 1000);
    assert_int_equal(strspn(pg_result_value(undone, 0, 0, NULL), "u"), 1000);
    pg_transaction_free_results(tx);
    assert_string_equal(pg_result_value(pgtest_query(tx, "SELECT 'y'"), 0, 0, NULL), "y");
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_is_kept_or_undone),
        cmocka_unit_test(test_savepoints_inside_and_outside),
        cmocka_unit_test(test_results_outlive_their_part),
        cmocka_unit_test(test_what_is_left_behind_is_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
