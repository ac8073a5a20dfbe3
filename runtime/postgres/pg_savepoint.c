/* Savepoints: errors that can be taken back. */
#include "runtime/base/mem.h"
#include "runtime/postgres/pg_error.h"
#include "runtime/postgres/pg_transaction.h"

static void write_command(const struct pg_savepoint_command *command, char *ret_sql, size_t size)
{
    (void)snprintf(ret_sql, size, "%s c%d", command->release ? "RELEASE SAVEPOINT" : "SAVEPOINT",
                   command->number);
}

void pg_savepoint_add_unsent(const struct pg_transaction *tx, struct pg_batch *batch)
{
    char sql[48];
    for (int i = 0; i < tx->unsent_count; i++) {
        write_command(&tx->unsent[i], sql, sizeof(sql));
        pg_batch_command(batch, PG_BATCH_CONTROL, sql, 0, NULL);
        if (tx->unsent[i].read_only)
            pg_batch_command(batch, PG_BATCH_CONTROL, "SET TRANSACTION READ ONLY", 0, NULL);
    }
}

/* A flight of control commands, none of which has a reason to fail. */
static int run_control(struct pg_transaction *tx, struct pg_batch *batch, struct pg_error *error)
{
    enum pg_flight_outcome outcome = pg_batch_run(batch);
    if (outcome != PG_FLIGHT_OK || batch->error)
        return pg_query_fail(tx, batch, outcome, error);
    return 0;
}

static bool last_unsent_is(const struct pg_transaction *tx, bool release, int number)
{
    if (tx->unsent_count == 0)
        return false;
    const struct pg_savepoint_command *last = &tx->unsent[tx->unsent_count - 1];
    return last->release == release && last->number == number;
}

static int leave_unsent(struct pg_transaction *tx, const struct pg_savepoint_command *command,
                        struct pg_error *error)
{
    if (tx->unsent_count == PG_SAVEPOINT_COMMANDS_MAX && tx->used) {
        CLEANUP_PG_BATCH struct pg_batch batch;
        pg_batch_init(&batch, tx->connection, tx->deadline_ms);
        pg_savepoint_add_unsent(tx, &batch);
        if (run_control(tx, &batch, error) < 0)
            return -1;
        tx->unsent_count = 0;
    }
    tx->unsent[tx->unsent_count++] = *command;
    return 0;
}

static int begin_savepoint(struct pg_transaction *tx, bool read_only, struct pg_error *error)
{
    const struct pg_savepoint_command command = {.number = tx->savepoints + 1, .read_only = read_only};
    if (pg_transaction_check(tx, error) < 0)
        return -1;
    if (tx->savepoints == PG_SAVEPOINTS_MAX)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_REFUSED, "too many nested savepoints");
    if (leave_unsent(tx, &command, error) < 0)
        return -1;
    tx->savepoints++;
    return 0;
}

int pg_savepoint(struct pg_transaction *tx, struct pg_error *error)
{
    return begin_savepoint(tx, /* read_only= */ false, error);
}

int pg_savepoint_read_only(struct pg_transaction *tx, struct pg_error *error)
{
    return begin_savepoint(tx, /* read_only= */ true, error);
}

static int refuse_without(struct pg_transaction *tx, struct pg_error *error)
{
    return pg_transaction_fail_with(tx, error, PG_FAILURE_REFUSED, "there is no savepoint");
}

int pg_savepoint_release(struct pg_transaction *tx, struct pg_error *error)
{
    if (pg_transaction_check(tx, error) < 0)
        return -1;
    if (tx->savepoints == 0)
        return refuse_without(tx, error);
    int number = tx->savepoints--;
    if (last_unsent_is(tx, /* release= */ false, number)) { /* nothing was done since */
        tx->unsent_count--;
        return 0;
    }
    return leave_unsent(tx, &(struct pg_savepoint_command){.release = true, .number = number}, error);
}

int pg_savepoint_rollback(struct pg_transaction *tx, struct pg_error *error)
{
    if (tx->state != PG_TRANSACTION_INTERRUPTED && pg_transaction_check(tx, error) < 0)
        return -1;
    if (tx->savepoints == 0)
        return refuse_without(tx, error);
    int number = tx->savepoints--;
    if (last_unsent_is(tx, /* release= */ false, number)) {
        tx->unsent_count--;
        return 0;
    }
    /* What is unsent belongs to savepoints inside this one. */
    tx->unsent_count = 0;
    CLEANUP_PG_BATCH struct pg_batch batch;
    pg_batch_init(&batch, tx->connection, tx->deadline_ms);
    char sql[48];
    (void)snprintf(sql, sizeof(sql), "ROLLBACK TO SAVEPOINT c%d", number);
    pg_batch_command(&batch, PG_BATCH_CONTROL, sql, 0, NULL);
    write_command(&(struct pg_savepoint_command){.release = true, .number = number}, sql, sizeof(sql));
    pg_batch_command(&batch, PG_BATCH_CONTROL, sql, 0, NULL);
    if (run_control(tx, &batch, error) < 0)
        return -1;
    tx->state = PG_TRANSACTION_OPEN;
    return 0;
}
