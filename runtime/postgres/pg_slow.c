#include "runtime/postgres/pg_slow.h"

#include "runtime/base/clock.h"

int64_t pg_slow_begin(const struct pg_pool *pool)
{
    return pool->on_slow_statement ? clock_monotonic_us() : 0;
}

static int64_t rows_of(const struct pg_result *result)
{
    if (!result)
        return 0;
    return pg_result_columns(result) > 0 ? pg_result_rows(result) : pg_result_affected(result);
}

void pg_slow_end(const struct pg_pool *pool, int64_t begin_us, const char *sql, const struct pg_batch *batch,
                 const struct pg_error *error)
{
    if (begin_us == 0)
        return;
    int64_t took_us = clock_monotonic_us() - begin_us;
    if (took_us < pool->slow_statement_us)
        return;
    const struct pg_slow_statement slow = {
        .sql = sql, .took_us = took_us, .rows = rows_of(batch->result), .error = error};
    pool->on_slow_statement(&slow);
}
