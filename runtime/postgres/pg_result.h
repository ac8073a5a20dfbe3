/* pg_result.h - results from inside: filled row by row, so that a result beyond the limit is noticed before memory is out.
 *
 * Values lie one behind the other in one buffer. Each result is in the list of its transaction until it is freed.
 */
#ifndef CICADA_POSTGRES_PG_RESULT_H
#define CICADA_POSTGRES_PG_RESULT_H

#include <stdint.h>

#include "runtime/postgres/postgres.h"
#include "runtime/postgres/pq_api.h"

/* Of one result (values and their index), and of all results that a transaction holds. */
#define PG_RESULT_MAX_BYTES ((size_t)64 << 20)
/* What a result takes beside its rows: libpq's block for names and types. */
#define PG_RESULT_SHAPE_BYTES ((size_t)2048)

struct pg_result_cell {
    uint32_t offset;
    int32_t len; /* -1: NULL */
};

struct pg_result {
    PGresult *shape; /* names, types and command tag; no rows */
    int rows, columns;
    char *data;
    size_t data_len, data_alloc;
    struct pg_result_cell *cells;
    size_t cell_count, cell_alloc;
    struct pg_result *next, **link; /* *link == this; NULL: in no list */
    size_t bytes, *total;           /* what it adds to the total of that list */
};

struct pg_result *pg_result_new(void);
/* Copies the rows of `rows`: one, in single-row mode. -1: the limit is exceeded. */
int pg_result_append(struct pg_result *result, const PGresult *rows, size_t max_bytes) MUST_CHECK;
/* Takes ownership of the result that ended the rows. */
void pg_result_finish(struct pg_result *result, PGresult *shape);
void pg_result_clear(struct pg_result *result); /* as after pg_result_new(), but keeps its memory */
/* total: the bytes of all results in the list. */
void pg_result_link(struct pg_result *result, struct pg_result **list, size_t *total);

#endif
