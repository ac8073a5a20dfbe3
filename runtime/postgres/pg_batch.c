#include "runtime/postgres/pg_batch.h"

#include <assert.h>

#include "runtime/base/mem.h"

void pg_batch_init(struct pg_batch *batch, struct pg_connection *connection, int64_t deadline_ms)
{
    *batch = (struct pg_batch){.connection = connection};
    pg_flight_begin(&batch->flight, connection->conn, deadline_ms);
}

void pg_batch_release(struct pg_batch *batch)
{
    for (size_t i = 0; i < ARRAY_SIZE(batch->results); i++)
        pg_flight_clear_p(&batch->results[i]);
    pg_flight_clear_p(&batch->error);
}

static void add_step(struct pg_batch *batch, enum pg_batch_role role, unsigned prepares)
{
    assert(batch->count < PG_BATCH_STEPS_MAX);
    batch->steps[batch->count].role = role;
    batch->steps[batch->count].prepares = prepares;
    batch->count++;
}

void pg_batch_command(struct pg_batch *batch, enum pg_batch_role role, const char *sql, int param_count,
                      const char *const *params)
{
    pg_flight_query(&batch->flight, sql, param_count, params);
    add_step(batch, role, 0);
}

static void prepare(struct pg_batch *batch, enum pg_batch_role role, const char *sql, unsigned *ret_number)
{
    unsigned evicted;
    char name[PG_STATEMENTS_NAME_SIZE];
    *ret_number = pg_statements_add(&batch->connection->statements, sql, &evicted);
    if (evicted) {
        char command[sizeof("DEALLOCATE ") + PG_STATEMENTS_NAME_SIZE];
        pg_statement_name(evicted, name);
        (void)snprintf(command, sizeof(command), "DEALLOCATE %s", name);
        pg_batch_command(batch, PG_BATCH_CONTROL, command, 0, NULL);
    }
    pg_statement_name(*ret_number, name);
    pg_flight_prepare(&batch->flight, name, sql);
    add_step(batch, role, *ret_number);
}

void pg_batch_prepared(struct pg_batch *batch, enum pg_batch_role role, const char *sql, int param_count,
                       const char *const *params)
{
    if (strnlen(sql, PG_STATEMENT_CACHED_BYTES + 1) > PG_STATEMENT_CACHED_BYTES) {
        pg_batch_command(batch, role, sql, param_count, params);
        return;
    }
    char name[PG_STATEMENTS_NAME_SIZE];
    unsigned number = pg_statements_find(&batch->connection->statements, sql);
    if (number && role == PG_BATCH_STATEMENT)
        batch->statement_was_prepared = true;
    if (!number)
        prepare(batch, role, sql, &number);
    pg_statement_name(number, name);
    pg_flight_execute(&batch->flight, name, param_count, params);
    add_step(batch, role, 0);
}

static bool is_success(ExecStatusType status)
{
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* Takes ownership of the result. */
static void take_result(struct pg_batch *batch, int step, PGresult *result)
{
    enum pg_batch_role role = batch->steps[step].role;
    unsigned prepares = batch->steps[step].prepares;
    ExecStatusType status = pq.PQresultStatus(result);
    PGresult **place = NULL;
    if (is_success(status)) {
        if (!prepares && role != PG_BATCH_CONTROL)
            place = &batch->results[role];
    } else {
        if (prepares)
            pg_statements_remove(&batch->connection->statements, prepares);
        if (status != PGRES_PIPELINE_ABORTED && !batch->error) {
            batch->error_role = role;
            place = &batch->error;
        }
    }
    if (!place) {
        pq.PQclear(result);
        return;
    }
    pg_flight_clear_p(place);
    *place = result;
}

enum pg_flight_outcome pg_batch_run(struct pg_batch *batch)
{
    pg_flight_sync(&batch->flight);
    for (int step = 0; step < batch->count; step++) {
        PGresult *result;
        enum pg_flight_outcome outcome = pg_flight_next(&batch->flight, &result);
        if (outcome != PG_FLIGHT_OK)
            return outcome;
        take_result(batch, step, result);
        if (batch->error && pg_result_is_fatal(batch->error))
            return PG_FLIGHT_LOST;
    }
    return pg_flight_end(&batch->flight);
}
