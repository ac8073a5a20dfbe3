#include "runtime/postgres/pg_result.h"

#include <assert.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

struct pg_result *pg_result_new(void)
{
    return xcalloc(1, sizeof(struct pg_result));
}

void pg_result_link(struct pg_result *result, struct pg_result **list, size_t *total)
{
    result->bytes = PG_RESULT_SHAPE_BYTES + result->data_len + result->cell_count * sizeof(*result->cells);
    if (result->bytes > PG_RESULT_MAX_BYTES - *total)
        result->bytes = PG_RESULT_MAX_BYTES - *total; /* the next one is refused */
    result->total = total;
    *total += result->bytes;
    result->next = *list;
    result->link = list;
    if (result->next)
        result->next->link = &result->next;
    *list = result;
}

void pg_result_free(struct pg_result *result)
{
    if (!result)
        return;
    if (result->link) {
        *result->link = result->next;
        *result->total -= result->bytes;
    }
    if (result->next)
        result->next->link = result->link;
    if (result->shape)
        pq.PQclear(result->shape);
    free(result->data);
    free(result->cells);
    free(result);
}

/* Room for `more` in an array that grows by half. */
static void *grow(void *array, size_t *alloc, size_t used, size_t more, size_t first, size_t size)
{
    if (used + more <= *alloc)
        return array;
    size_t alloc_new = *alloc > 0 ? *alloc + *alloc / 2 : first;
    if (alloc_new < used + more)
        alloc_new = used + more;
    *alloc = alloc_new;
    return xreallocarray(array, alloc_new, size);
}

static int append_row(struct pg_result *result, const PGresult *rows, int row, size_t max_bytes)
{
    int columns = pq.PQnfields(rows);
    size_t bytes = 0;
    for (int column = 0; column < columns; column++)
        bytes += (size_t)pq.PQgetlength(rows, row, column) + 1;
    size_t count = result->cell_count + (size_t)columns;
    if (result->data_len + bytes + count * sizeof(*result->cells) > max_bytes)
        return -1;
    result->data = grow(result->data, &result->data_alloc, result->data_len, bytes, 512, 1);
    result->cells = grow(result->cells, &result->cell_alloc, result->cell_count, (size_t)columns, 16,
                         sizeof(*result->cells));
    for (int column = 0; column < columns; column++) {
        struct pg_result_cell *cell = &result->cells[result->cell_count++];
        *cell = (struct pg_result_cell){.offset = (uint32_t)result->data_len, .len = -1};
        if (pq.PQgetisnull(rows, row, column))
            continue;
        cell->len = pq.PQgetlength(rows, row, column);
        memcpy(result->data + result->data_len, pq.PQgetvalue(rows, row, column), (size_t)cell->len + 1);
        result->data_len += (size_t)cell->len + 1;
    }
    result->rows++;
    return 0;
}

int pg_result_append(struct pg_result *result, const PGresult *rows, size_t max_bytes)
{
    int count = pq.PQntuples(rows);
    for (int row = 0; row < count; row++) {
        if (append_row(result, rows, row, max_bytes) < 0)
            return -1;
    }
    return 0;
}

void pg_result_finish(struct pg_result *result, PGresult *shape)
{
    result->shape = shape;
    result->columns = pq.PQnfields(shape);
    assert(result->cell_count == (size_t)result->rows * (size_t)result->columns);
}

void pg_result_clear(struct pg_result *result)
{
    if (result->shape)
        pq.PQclear(steal_ptr(&result->shape));
    result->rows = result->columns = 0;
    result->data_len = result->cell_count = 0;
}

int pg_result_rows(const struct pg_result *result)
{
    return result->rows;
}

int pg_result_columns(const struct pg_result *result)
{
    return result->columns;
}

int64_t pg_result_affected(const struct pg_result *result)
{
    /* The tag of SELECT and FETCH counts rows read. */
    int64_t count;
    const char *tag = pq.PQcmdStatus(result->shape);
    if (str_starts_with(tag, "SELECT") || str_starts_with(tag, "FETCH") ||
        !parse_int64(pq.PQcmdTuples(result->shape), 0, INT64_MAX, &count))
        return 0;
    return count;
}

const char *pg_result_column_name(const struct pg_result *result, int column)
{
    return column >= 0 && column < result->columns ? pq.PQfname(result->shape, column) : NULL;
}

unsigned pg_result_column_type(const struct pg_result *result, int column)
{
    return column >= 0 && column < result->columns ? pq.PQftype(result->shape, column) : 0;
}

int pg_result_column(const struct pg_result *result, const char *name)
{
    for (int column = 0; column < result->columns; column++) {
        if (strcmp(pg_result_column_name(result, column), name) == 0)
            return column;
    }
    return -1;
}

/* NULL: outside of the result. */
static const struct pg_result_cell *cell_at(const struct pg_result *result, int row, int column)
{
    if (row < 0 || row >= result->rows || column < 0 || column >= result->columns)
        return NULL;
    return &result->cells[(size_t)row * (size_t)result->columns + (size_t)column];
}

bool pg_result_is_null(const struct pg_result *result, int row, int column)
{
    const struct pg_result_cell *cell = cell_at(result, row, column);
    return !cell || cell->len < 0;
}

const char *pg_result_value(const struct pg_result *result, int row, int column, size_t *ret_len)
{
    const struct pg_result_cell *cell = cell_at(result, row, column);
    bool null = !cell || cell->len < 0;
    if (ret_len)
        *ret_len = null ? 0 : (size_t)cell->len;
    return null ? NULL : result->data + cell->offset;
}

const char *pg_result_text(const struct pg_result *result, int row, int column)
{
    const char *text = pg_result_value(result, row, column, NULL);
    return text ? text : "";
}

int64_t pg_result_int64(const struct pg_result *result, int row, int column)
{
    int64_t value = 0;
    (void)parse_int64(pg_result_text(result, row, column), INT64_MIN, INT64_MAX, &value);
    return value;
}

bool pg_result_bool(const struct pg_result *result, int row, int column)
{
    return pg_result_text(result, row, column)[0] == 't';
}
