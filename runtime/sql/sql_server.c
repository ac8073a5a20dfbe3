#include "runtime/sql/sql_server.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/sql/sql_scalar.h"

/* [{"v":"(1,chair)"},...]; returns how many. */
static int put_values(const struct pg_result *result, int rows, int column, struct strbuf *out)
{
    int count = 0;
    (void)strbuf_append_char(out, '[');
    for (int row = 0; row < rows; row++) {
        if (pg_result_is_null(result, row, column))
            continue;
        size_t len;
        const char *text = pg_result_value(result, row, column, &len);
        (void)strbuf_append_str(out, count++ ? ",{\"v\":" : "{\"v\":");
        sql_scalar_put_string(text, len, out);
        (void)strbuf_append_char(out, '}');
    }
    (void)strbuf_append_char(out, ']');
    return count;
}

static int fail(struct pg_error *error, enum pg_failure failure, const char *message)
{
    *error = (struct pg_error){.failure = failure};
    (void)snprintf(error->message, sizeof(error->message), "%s", message);
    return -1;
}

/* undefined_object, invalid_schema_name: renamed or dropped since it was asked for. */
static bool name_is_gone(const struct pg_error *error)
{
    return strcmp(error->sqlstate, "42704") == 0 || strcmp(error->sqlstate, "3F000") == 0;
}

int sql_server_encode(const struct pg_result *result, int rows, int column, struct sql_types *types,
                      const struct sql_type *type, struct pg_transaction *tx, struct pg_result **ret_json,
                      struct pg_error *error)
{
    CLEANUP_STRBUF struct strbuf values;
    strbuf_init(&values, SQL_SERVER_INPUT_MAX_BYTES);
    int count = put_values(result, rows, column, &values);
    *ret_json = NULL;
    if (strbuf_failed(&values))
        return fail(error, PG_FAILURE_TOO_LARGE, "the values of a column have too many bytes");
    if (count == 0)
        return 0;
    CLEANUP_FREE char *sql = xasprintf(
        "SELECT pg_catalog.to_json(v) FROM pg_catalog.json_to_recordset($1::pg_catalog.json) AS r(v %s)",
        sql_types_name(types, type->oid));
    const char *params[] = {values.buf};
    struct pg_result *json;
    if (pg_query(tx, sql, 1, params, &json, error) < 0) {
        if (name_is_gone(error))
            sql_types_forget(types, type->oid);
        return -1;
    }
    if (pg_result_rows(json) != count) {
        pg_result_free(json);
        return fail(error, PG_FAILURE_REFUSED,
                    "the server encoded another number of values than it was given");
    }
    *ret_json = json;
    return 0;
}
