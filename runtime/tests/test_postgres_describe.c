/* pg_describe, where errors are, which parameter was refused, and the limit of a result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/postgres/postgres.h"
#include "runtime/tests/support_postgres.h"

#define TIMEOUT_MS 10000

struct fixture {
    struct pg_pool *pool;
    struct pg_transaction *tx;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct pg_pool_settings settings = {
        .url = getenv("TEST_DATABASE_URL"), .size = 1, .connect_timeout_ms = TIMEOUT_MS};
    struct err err = ERR_INIT;

    assert_int_equal(pg_pool_new(&settings, &fixture->pool, &err), 0);
    pg_pool_start(fixture->pool);
    fixture->tx = pg_transaction_new(fixture->pool, false, clock_monotonic_ms() + TIMEOUT_MS);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    pg_transaction_free(fixture->tx);
    pg_pool_free(fixture->pool);
    free(fixture);
    return 0;
}

static int describe(struct fixture *fixture, const char *sql, struct pg_description *ret_description,
                    struct pg_error *error)
{
    const struct pg_command command = {.sql = sql};
    return pg_describe(fixture->tx, &command, ret_description, error);
}

static void test_types_and_columns(void **state)
{
    struct fixture *fixture = *state;
    struct pg_description description;
    struct pg_error error;
    struct pg_result *result;

    assert_int_equal(describe(fixture, "SELECT $1::int AS a, $2 || 'x' AS b WHERE $3 = ANY(ARRAY[1.5])",
                              &description, &error),
                     0);
    assert_int_equal(description.param_count, 3);
    assert_int_equal(description.param_types[0], 23);
    assert_int_equal(description.param_types[1], 25);
    assert_int_equal(description.param_types[2], 1700);
    assert_int_equal(description.column_count, 2);
    assert_string_equal(description.column_names[1], "b");
    assert_int_equal(description.column_types[0], 23);
    pg_description_release(&description);
    assert_int_equal(describe(fixture, "UPDATE pg_temp.nothing SET a = 1", &description, &error), -1);
    assert_string_equal(error.sqlstate, "42P01");
    assert_int_equal(error.position, 8);
    assert_int_equal(pg_query(fixture->tx, "SELECT 1", 0, NULL, &result, &error), -1); /* it failed */
}

static void test_nothing_runs(void **state)
{
    struct fixture *fixture = *state;
    struct pg_description description;
    struct pg_result *result;
    struct pg_error error;

    assert_int_equal(describe(fixture, "SELECT 1 / 0", &description, &error), 0);
    pg_description_release(&description);
    assert_int_equal(describe(fixture, "NOTIFY nobody", &description, &error), 0);
    assert_int_equal(description.column_count, 0);
    pg_description_release(&description);
    assert_int_equal(pg_query(fixture->tx, "SELECT 1", 0, NULL, &result, &error), 0);
}

static void test_type_that_nobody_knows(void **state)
{
    struct fixture *fixture = *state;
    struct pg_description description;
    struct pg_error error;

    assert_int_equal(describe(fixture, "SELECT $1 IS NULL", &description, &error), -1);
    assert_string_equal(error.sqlstate, "42P18");
}

static int fails(struct fixture *fixture, const char *sql, const char *value, struct pg_error *error)
{
    struct pg_result *result;

    pg_transaction_free(fixture->tx);
    fixture->tx = pg_transaction_new(fixture->pool, false, clock_monotonic_ms() + TIMEOUT_MS);
    return pg_query(fixture->tx, sql, 1, &value, &result, error);
}

static void test_which_parameter_was_refused(void **state)
{
    struct fixture *fixture = *state;
    struct pg_error error;

    assert_int_equal(fails(fixture, "SELECT $1::int", "x = $2", &error), -1);
    assert_string_equal(error.sqlstate, "22P02");
    assert_int_equal(error.parameter, 1);
    assert_int_equal(fails(fixture, "SELECT $1::text::int", "x", &error),
                     -1); /* in the statement's own cast */
    assert_string_equal(error.sqlstate, "22P02");
    assert_int_equal(error.parameter, 0);
}

static void test_limit_of_a_result(void **state)
{
    struct fixture *fixture = *state;
    struct pg_result *result;
    struct pg_error error;

    pg_transaction_limit_result(fixture->tx, 10000);
    assert_int_equal(pg_query(fixture->tx, "SELECT repeat('x', 9000)", 0, NULL, &result, &error), 0);
    assert_int_equal(pg_query(fixture->tx, "SELECT repeat('x', 100) FROM generate_series(1, 1000)", 0, NULL,
                              &result, &error),
                     -1);
    assert_int_equal(error.failure, PG_FAILURE_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_types_and_columns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_type_that_nobody_knows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_which_parameter_was_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limit_of_a_result, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
