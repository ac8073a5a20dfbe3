#include "runtime/postgres/pg_batch.h"

#include <assert.h>

#include "runtime/base/mem.h"

void pg_batch_clear(struct pg_batch *batch)
{
    memset(batch, 0, offsetof(struct pg_batch, steps));
}

void pg_batch_init(struct pg_batch *batch, struct pg_connection *connection, int64_t deadline_ms)
{
    pg_batch_clear(batch);
    batch->connection = connection;
    batch->result_max_bytes = PG_RESULT_MAX_BYTES;
    pg_flight_begin(&batch->flight, connection->conn, deadline_ms);
}

void pg_batch_release(struct pg_batch *batch)
{
    pg_result_free(steal_ptr(&batch->result));
    pg_flight_clear_p(&batch->xid);
    pg_flight_clear_p(&batch->commit);
    pg_flight_clear_p(&batch->description);
    pg_flight_clear_p(&batch->error);
}

static void add_step(struct pg_batch *batch, enum pg_batch_role role, unsigned prepares)
{
    assert(batch->count < PG_BATCH_STEPS_MAX);
    batch->steps[batch->count].role = role;
    batch->steps[batch->count].prepares = prepares;
    batch->has_statement |= role == PG_BATCH_STATEMENT;
    batch->count++;
}

/* Sent as text, not prepared. */
static void send_text(struct pg_batch *batch, enum pg_batch_role role, const struct pg_command *command)
{
    pg_flight_query(&batch->flight, command->sql, command->param_count, command->param_types,
                    command->params);
    add_step(batch, role, 0);
}

void pg_batch_command(struct pg_batch *batch, enum pg_batch_role role, const char *sql, int param_count,
                      const char *const *params)
{
    send_text(batch, role, &(struct pg_command){.sql = sql, .param_count = param_count, .params = params});
}

void pg_batch_set_local(struct pg_batch *batch, const char *name, int64_t value)
{
    char command[96];
    (void)snprintf(command, sizeof(command), "SET LOCAL %s = %lld", name, (long long)value);
    pg_batch_command(batch, PG_BATCH_CONTROL, command, 0, NULL);
}

static void prepare(struct pg_batch *batch, enum pg_batch_role role, const struct pg_command *command,
                    unsigned *ret_number)
{
    unsigned evicted;
    char name[PG_STATEMENTS_NAME_SIZE];
    *ret_number = pg_statements_add(&batch->connection->statements, command->sql, &evicted);
    if (evicted) {
        char deallocate[sizeof("DEALLOCATE ") + PG_STATEMENTS_NAME_SIZE];
        pg_statement_name('c', evicted, name);
        (void)snprintf(deallocate, sizeof(deallocate), "DEALLOCATE %s", name);
        pg_batch_command(batch, PG_BATCH_CONTROL, deallocate, 0, NULL);
    }
    pg_statement_name('c', *ret_number, name);
    pg_flight_prepare(&batch->flight, name, command->sql, command->param_count, command->param_types);
    add_step(batch, role, *ret_number);
}

void pg_batch_statement(struct pg_batch *batch, enum pg_batch_role role, const struct pg_command *command,
                        bool preparable)
{
    if (!preparable || batch->connection->pooler ||
        strnlen(command->sql, PG_STATEMENT_CACHED_BYTES + 1) > PG_STATEMENT_CACHED_BYTES) {
        send_text(batch, role, command);
        return;
    }
    char name[PG_STATEMENTS_NAME_SIZE];
    unsigned number = pg_statements_find(&batch->connection->statements, command->sql);
    if (number && role == PG_BATCH_STATEMENT)
        batch->statement_was_prepared = true;
    if (!number)
        prepare(batch, role, command, &number);
    pg_statement_name('c', number, name);
    pg_flight_execute(&batch->flight, name, command->param_count, command->params);
    add_step(batch, role, 0);
}

void pg_batch_control(struct pg_batch *batch, enum pg_control control, const char *sql)
{
    struct pg_connection *connection = batch->connection;
    char name[PG_STATEMENTS_NAME_SIZE];
    if (connection->pooler) {
        pg_batch_command(batch, PG_BATCH_CONTROL, sql, 0, NULL);
        return;
    }
    if (control == PG_CONTROL_TIMEOUT)
        pg_statement_name('t', connection->timeouts_prepared, name);
    else
        pg_statement_name('b', control, name);
    if (!(connection->prepared_controls & (1u << control))) {
        pg_flight_prepare(&batch->flight, name, sql, 0, NULL);
        add_step(batch, PG_BATCH_CONTROL, 0);
        connection->prepared_controls |=
            1u << control; /* if it fails, the connection is doubtful or starts anew */
    }
    pg_flight_execute(&batch->flight, name, 0, NULL);
    add_step(batch, PG_BATCH_CONTROL, 0);
}

void pg_batch_describe(struct pg_batch *batch, const struct pg_command *command)
{
    pg_flight_prepare(&batch->flight, "", command->sql, command->param_count, command->param_types);
    add_step(batch, PG_BATCH_DESCRIBE, 0);
    pg_flight_describe(&batch->flight, "");
    add_step(batch, PG_BATCH_DESCRIBE, 0);
}

void pg_batch_forget_statements(struct pg_batch *batch)
{
    struct pg_connection *connection = batch->connection;
    pg_batch_command(batch, PG_BATCH_CONTROL, "DEALLOCATE ALL", 0, NULL);
    pg_statements_clear(&connection->statements);
    connection->prepared_controls = 0;
    connection->statements_stale = false;
}

void pg_batch_flush(struct pg_batch *batch)
{
    pg_flight_flush(&batch->flight);
}

void pg_batch_commit(struct pg_batch *batch)
{
    pg_batch_command(batch, PG_BATCH_COMMIT, "COMMIT", 0, NULL);
}

static enum pg_flight_outcome hand_over(struct pg_batch *batch, PGresult **row)
{
    pg_result_finish(batch->result, steal_ptr(row));
    int rc = batch->each(batch->each_arg, batch->result);
    pg_result_clear(batch->result);
    batch->flight.deadline_ms = *batch->each_deadline_ms;
    return rc < 0 ? PG_FLIGHT_STOPPED : PG_FLIGHT_OK;
}

/* Rows are taken one by one; what ends them is left in *result. */
static enum pg_flight_outcome take_rows(struct pg_batch *batch, PGresult **result)
{
    for (;;) {
        enum pg_flight_outcome outcome = PG_FLIGHT_OK;
        if (pg_result_append(batch->result, *result, batch->result_max_bytes) < 0)
            return PG_FLIGHT_TOO_LARGE;
        if (pq.PQresultStatus(*result) != PGRES_SINGLE_TUPLE)
            return PG_FLIGHT_OK;
        if (batch->each)
            outcome = hand_over(batch, result);
        else
            pq.PQclear(steal_ptr(result));
        if (outcome == PG_FLIGHT_OK)
            outcome = pg_flight_next(&batch->flight, result);
        if (outcome != PG_FLIGHT_OK)
            return outcome;
    }
}

static enum pg_flight_outcome take_error(struct pg_batch *batch, int step, PGresult **result)
{
    if (batch->steps[step].prepares)
        pg_statements_remove(&batch->connection->statements, batch->steps[step].prepares);
    if (batch->steps[step].role == PG_BATCH_STATEMENT)
        pg_result_free(steal_ptr(&batch->result));
    if (pq.PQresultStatus(*result) == PGRES_PIPELINE_ABORTED)
        return PG_FLIGHT_OK;
    enum pg_error_origin origin = pg_flight_error_origin(*result);
    if (origin == PG_ERROR_LIBPQ)
        return PG_FLIGHT_LOST;
    if (!batch->error) {
        batch->error_role = batch->steps[step].role;
        batch->error = steal_ptr(result);
    }
    return origin == PG_ERROR_SERVER_FATAL ? PG_FLIGHT_LOST : PG_FLIGHT_OK;
}

static enum pg_flight_outcome run_step(struct pg_batch *batch, int step)
{
    enum pg_batch_role role = batch->steps[step].role;
    bool answers = role == PG_BATCH_STATEMENT && !batch->steps[step].prepares;
    if (answers) {
        batch->result = pg_result_new();
        pg_flight_single_rows(&batch->flight);
    }
    CLEANUP_PGRESULT PGresult *result = NULL;
    enum pg_flight_outcome outcome = pg_flight_next(&batch->flight, &result);
    if (outcome == PG_FLIGHT_OK && answers)
        outcome = take_rows(batch, &result);
    if (outcome != PG_FLIGHT_OK) {
        pg_result_free(steal_ptr(&batch->result));
        return outcome;
    }
    ExecStatusType status = pq.PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        return take_error(batch, step, &result);
    if (answers)
        pg_result_finish(batch->result, steal_ptr(&result));
    else if (role == PG_BATCH_XID && !batch->steps[step].prepares)
        batch->xid = steal_ptr(&result);
    else if (role == PG_BATCH_COMMIT)
        batch->commit = steal_ptr(&result);
    else if (role == PG_BATCH_DESCRIBE) { /* the second answer is the one asked for */
        pg_flight_clear_p(&batch->description);
        batch->description = steal_ptr(&result);
    }
    return PG_FLIGHT_OK;
}

enum pg_flight_outcome pg_batch_run(struct pg_batch *batch)
{
    pg_flight_sync(&batch->flight);
    for (int step = 0; step < batch->count; step++) {
        enum pg_flight_outcome outcome = run_step(batch, step);
        if (outcome != PG_FLIGHT_OK)
            return outcome;
    }
    return pg_flight_end(&batch->flight);
}

const char *pg_batch_sqlstate(const struct pg_batch *batch)
{
    const char *sqlstate = batch->error ? pq.PQresultErrorField(batch->error, PG_DIAG_SQLSTATE) : NULL;
    return sqlstate ? sqlstate : "";
}
