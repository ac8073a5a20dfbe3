/* Failures as HTTP statuses and codes: the table of docs/reference/errors.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/postgres/postgres.h"

static void test_sqlstates(void **state)
{
    (void)state;
    static const struct {
        const char *sqlstate;
        int status;
        const char *code;
    } cases[] = {
        {"23505", 409, "unique_violation"},
        {"23503", 409, "foreign_key_violation"},
        {"23001", 409, "restrict_violation"},
        {"23P01", 409, "exclusion_violation"},
        {"23502", 422, "not_null_violation"},
        {"23514", 422, "check_violation"},
        {"23000", 409, "integrity_constraint_violation"},
        {"22P02", 422, "data_exception"},
        {"22001", 422, "data_exception"},
        {"44000", 422, "with_check_option_violation"},
        {"42501", 403, "insufficient_privilege"},
        {"42P01", 500, "statement_invalid"},
        {"P0001", 400, "raise_exception"},
        {"P0002", 404, "no_data_found"},
        {"P0003", 500, "database_error"},
        {"40001", 503, "serialization_failure"},
        {"40P01", 503, "deadlock_detected"},
        {"40003", 503, "transaction_rollback"},
        {"55P03", 503, "lock_not_available"},
        {"53300", 503, "insufficient_resources"},
        {"08006", 503, "connection_exception"},
        {"57014", 504, "query_canceled"},
        {"57P01", 503, "database_shutdown"},
        {"25006", 500, "read_only_transaction"},
        {"0A000", 500, "feature_not_supported"},
        {"XX000", 500, "database_error"},
        {"", 500, "database_error"},
        {"PT404", 404, "raised_status"},
        {"PT599", 599, "raised_status"},
        {"PT400", 400, "raised_status"},
        {"PT399", 500, "database_error"},
        {"PT600", 500, "database_error"},
        {"PT4x4", 500, "database_error"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pg_error error = {.failure = PG_FAILURE_SQL};
        (void)snprintf(error.sqlstate, sizeof(error.sqlstate), "%s", cases[i].sqlstate);
        if (pg_error_http_status(&error) != cases[i].status ||
            strcmp(pg_error_code(&error), cases[i].code) != 0)
            fail_msg("%s: %d %s", cases[i].sqlstate, pg_error_http_status(&error), pg_error_code(&error));
    }
}

static void test_failures(void **state)
{
    (void)state;
    static const struct {
        enum pg_failure failure;
        int status;
        const char *code;
    } cases[] = {
        {PG_FAILURE_REFUSED, 500, "statement_refused"},
        {PG_FAILURE_UNREACHABLE, 503, "database_unreachable"},
        {PG_FAILURE_AUTHENTICATION, 503, "database_authentication"},
        {PG_FAILURE_LOST, 503, "database_connection_lost"},
        {PG_FAILURE_DEADLINE, 504, "deadline_exceeded"},
        {PG_FAILURE_NOT_COMMITTED, 500, "transaction_failed"},
        {PG_FAILURE_TOO_LARGE, 500, "result_too_large"},
        {PG_FAILURE_COMMIT_UNKNOWN, 500, "commit_unknown"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        /* A SQLSTATE that came along does not matter. */
        struct pg_error error = {.failure = cases[i].failure, .sqlstate = "23505"};
        assert_int_equal(pg_error_http_status(&error), cases[i].status);
        assert_string_equal(pg_error_code(&error), cases[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sqlstates), cmocka_unit_test(test_failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
