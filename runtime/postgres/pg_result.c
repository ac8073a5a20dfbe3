#include "runtime/postgres/pg_result.h"

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

struct pg_result *pg_result_new(PGresult *rows, struct pg_result **list)
{
    struct pg_result *result = xmalloc(sizeof(*result));
    *result = (struct pg_result){.rows = rows, .next = *list, .link = list};
    if (result->next)
        result->next->link = &result->next;
    *list = result;
    return result;
}

void pg_result_free(struct pg_result *result)
{
    if (!result)
        return;
    *result->link = result->next;
    if (result->next)
        result->next->link = result->link;
    pq.PQclear(result->rows);
    free(result);
}

int pg_result_rows(const struct pg_result *result)
{
    return pq.PQntuples(result->rows);
}

int pg_result_columns(const struct pg_result *result)
{
    return pq.PQnfields(result->rows);
}

int64_t pg_result_affected(const struct pg_result *result)
{
    /* The tag of SELECT and FETCH counts rows read. */
    int64_t count;
    const char *tag = pq.PQcmdStatus(result->rows);
    if (str_starts_with(tag, "SELECT") || str_starts_with(tag, "FETCH") ||
        !parse_int64(pq.PQcmdTuples(result->rows), 0, INT64_MAX, &count))
        return 0;
    return count;
}

const char *pg_result_column_name(const struct pg_result *result, int column)
{
    return pq.PQfname(result->rows, column);
}

unsigned pg_result_column_type(const struct pg_result *result, int column)
{
    return pq.PQftype(result->rows, column);
}

int pg_result_column(const struct pg_result *result, const char *name)
{
    int count = pg_result_columns(result);
    for (int column = 0; column < count; column++) {
        if (strcmp(pg_result_column_name(result, column), name) == 0)
            return column;
    }
    return -1;
}

bool pg_result_is_null(const struct pg_result *result, int row, int column)
{
    return pq.PQgetisnull(result->rows, row, column) != 0;
}

const char *pg_result_value(const struct pg_result *result, int row, int column, size_t *ret_len)
{
    const char *value = pq.PQgetvalue(result->rows, row, column);
    if (ret_len)
        *ret_len = value ? (size_t)pq.PQgetlength(result->rows, row, column) : 0;
    return value;
}
