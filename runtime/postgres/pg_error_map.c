/* What a failed database call means to an HTTP caller. docs/reference/errors.md shows the table. */
#include <stdbool.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/postgres/postgres.h"

struct answer {
    const char *start; /* of the SQLSTATE: five characters name one error, two a class */
    int status;
    const char *code;
};

/* The first that fits counts. */
static const struct answer by_sqlstate[] = {
    {"23505", 409, "unique_violation"},
    {"23503", 409, "foreign_key_violation"},
    {"23001", 409, "restrict_violation"},
    {"23P01", 409, "exclusion_violation"},
    {"23502", 422, "not_null_violation"},
    {"23514", 422, "check_violation"},
    {"23", 409, "integrity_constraint_violation"},
    {"22", 422, "data_exception"},
    {"44000", 422, "with_check_option_violation"},
    {"42501", 403, "insufficient_privilege"},
    {"P0001", 400, "raise_exception"},
    {"P0002", 404, "no_data_found"},
    {"40001", 503, "serialization_failure"},
    {"40P01", 503, "deadlock_detected"},
    {"40", 503, "transaction_rollback"},
    {"55P03", 503, "lock_not_available"},
    {"53", 503, "insufficient_resources"},
    {"08", 503, "connection_exception"},
    {"57014", 504, "query_canceled"},
    {"57P", 503, "database_shutdown"},
    {"25P03", 503, "transaction_timeout"},
    {"25006", 500, "read_only_transaction"},
    {"28", 503, "database_authentication"},
    {"0A", 500, "feature_not_supported"},
    {"42", 500, "statement_invalid"},
    {"", 500, "database_error"},
};

static const struct {
    int status;
    const char *code;
} by_failure[] = {
    [PG_FAILURE_NONE] = {200, "ok"},
    [PG_FAILURE_REFUSED] = {500, "statement_refused"},
    [PG_FAILURE_UNREACHABLE] = {503, "database_unreachable"},
    [PG_FAILURE_AUTHENTICATION] = {503, "database_authentication"},
    [PG_FAILURE_LOST] = {503, "database_connection_lost"},
    [PG_FAILURE_DEADLINE] = {504, "deadline_exceeded"},
    [PG_FAILURE_NOT_COMMITTED] = {500, "transaction_failed"},
    [PG_FAILURE_TOO_LARGE] = {500, "result_too_large"},
    [PG_FAILURE_COMMIT_UNKNOWN] = {500, "commit_unknown"},
};

/* PT404 and the like: the statement chose the status (400 to 599). 0: it did not. */
static int chosen_status(const char *sqlstate)
{
    int64_t status;
    if (!str_starts_with(sqlstate, "PT") || !parse_int64(sqlstate + 2, 400, 599, &status))
        return 0;
    return (int)status;
}

static const struct answer *find(const char *sqlstate)
{
    const struct answer *answer = by_sqlstate;
    while (!str_starts_with(sqlstate, answer->start))
        answer++;
    return answer;
}

int pg_error_http_status(const struct pg_error *error)
{
    if (error->failure != PG_FAILURE_SQL)
        return by_failure[error->failure].status;
    int chosen = chosen_status(error->sqlstate);
    return chosen > 0 ? chosen : find(error->sqlstate)->status;
}

const char *pg_error_code(const struct pg_error *error)
{
    if (error->failure != PG_FAILURE_SQL)
        return by_failure[error->failure].code;
    return chosen_status(error->sqlstate) > 0 ? "raised_status" : find(error->sqlstate)->code;
}
