/* Savepoints: errors that can be taken back. */
#include "runtime/base/mem.h"
#include "runtime/postgres/pg_error.h"
#include "runtime/postgres/pg_transaction.h"

static void add_command(const struct pg_transaction *tx, struct pg_batch *batch,
                        const struct pg_savepoint_command *command)
{
    char sql[160];
    if (command->verb == PG_SAVEPOINT_SETTING) {
        const struct pg_setting *setting = &tx->part_settings[command->number];
        (void)snprintf(sql, sizeof(sql), "SET LOCAL %s = '%s'", setting->name, setting->value);
    } else {
        (void)snprintf(sql, sizeof(sql), "%s c%d",
                       command->verb == PG_SAVEPOINT_RELEASE ? "RELEASE SAVEPOINT" : "SAVEPOINT",
                       command->number);
    }
    pg_batch_command(batch, PG_BATCH_CONTROL, sql, 0, NULL);
    if (command->verb == PG_SAVEPOINT_SET_READ_ONLY)
        pg_batch_command(batch, PG_BATCH_CONTROL, "SET TRANSACTION READ ONLY", 0, NULL);
}

void pg_savepoint_add_unsent(const struct pg_transaction *tx, struct pg_batch *batch)
{
    for (int i = 0; i < tx->unsent_count; i++)
        add_command(tx, batch, &tx->unsent[i]);
}

/* A flight of control commands, none of which has a reason to fail. */
static int run_control(struct pg_transaction *tx, struct pg_batch *batch, struct pg_error *error)
{
    enum pg_flight_outcome outcome = pg_batch_run(batch);
    if (outcome != PG_FLIGHT_OK || batch->error)
        return pg_query_fail(tx, batch, outcome, error);
    return 0;
}

/* Where among the unsent it stands that this savepoint is to be set; -1: it is set. */
static int find_unsent(const struct pg_transaction *tx, int number)
{
    for (int i = tx->unsent_count - 1; i >= 0; i--) {
        enum pg_savepoint_verb verb = tx->unsent[i].verb;
        if ((verb == PG_SAVEPOINT_SET || verb == PG_SAVEPOINT_SET_READ_ONLY) &&
            tx->unsent[i].number == number)
            return i;
    }
    return -1;
}

/* It was not sent yet: nothing was done since, and nothing needs to be. False: it was. */
static bool drop_unsent(struct pg_transaction *tx, int number)
{
    int at = find_unsent(tx, number);
    if (at >= 0)
        tx->unsent_count = at;
    return at >= 0;
}

static int leave_unsent(struct pg_transaction *tx, enum pg_savepoint_verb verb, int number,
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
    tx->unsent[tx->unsent_count++] = (struct pg_savepoint_command){verb, number};
    return 0;
}

static int set_savepoint(struct pg_transaction *tx, enum pg_savepoint_verb verb, struct pg_error *error)
{
    if (pg_transaction_check(tx, error) < 0)
        return -1;
    if (tx->savepoints == PG_SAVEPOINTS_MAX)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_REFUSED, "too many nested savepoints");
    if (leave_unsent(tx, verb, tx->savepoints + 1, error) < 0)
        return -1;
    tx->savepoints++;
    return 0;
}

/* With those inside it. */
static int undo_to(struct pg_transaction *tx, int number, struct pg_error *error)
{
    tx->savepoints = number - 1;
    if (drop_unsent(tx, number))
        return 0;
    /* What is unsent belongs to savepoints inside this one. */
    tx->unsent_count = 0;
    CLEANUP_PG_BATCH struct pg_batch batch;
    pg_batch_init(&batch, tx->connection, tx->deadline_ms);
    char sql[48];
    (void)snprintf(sql, sizeof(sql), "ROLLBACK TO SAVEPOINT c%d", number);
    pg_batch_command(&batch, PG_BATCH_CONTROL, sql, 0, NULL);
    add_command(tx, &batch, &(struct pg_savepoint_command){PG_SAVEPOINT_RELEASE, number});
    if (run_control(tx, &batch, error) < 0)
        return -1;
    tx->state = PG_TRANSACTION_OPEN;
    return 0;
}

int pg_savepoint(struct pg_transaction *tx, struct pg_error *error)
{
    return set_savepoint(tx, PG_SAVEPOINT_SET, error);
}

int pg_savepoint_read_only(struct pg_transaction *tx, struct pg_error *error)
{
    return set_savepoint(tx, PG_SAVEPOINT_SET_READ_ONLY, error);
}

static int refuse_without(struct pg_transaction *tx, struct pg_error *error)
{
    return pg_transaction_fail_with(tx, error, PG_FAILURE_REFUSED, "there is no savepoint");
}

int pg_savepoint_release(struct pg_transaction *tx, struct pg_error *error)
{
    if (pg_transaction_check(tx, error) < 0)
        return -1;
    if (tx->savepoints == tx->part)
        return refuse_without(tx, error);
    int number = tx->savepoints--;
    return drop_unsent(tx, number) ? 0 : leave_unsent(tx, PG_SAVEPOINT_RELEASE, number, error);
}

int pg_savepoint_rollback(struct pg_transaction *tx, struct pg_error *error)
{
    if (tx->state != PG_TRANSACTION_INTERRUPTED && pg_transaction_check(tx, error) < 0)
        return -1;
    if (tx->savepoints == tx->part)
        return refuse_without(tx, error);
    return undo_to(tx, tx->savepoints, error);
}

/* ---- parts ---- */

int pg_part_begin(struct pg_transaction *tx, const struct pg_setting *settings, int setting_count,
                  struct pg_error *error)
{
    if (set_savepoint(tx, PG_SAVEPOINT_SET, error) < 0)
        return -1;
    tx->part = tx->savepoints;
    tx->part_settings = settings;
    for (int i = 0; i < setting_count; i++) {
        if (leave_unsent(tx, PG_SAVEPOINT_SETTING, i, error) < 0)
            return -1;
    }
    return 0;
}

/* All that is unsent belongs to the part, but for the release of the one before it. */
static int keep_part(struct pg_transaction *tx, int number, struct pg_error *error)
{
    if (pg_transaction_check(tx, error) < 0)
        return -1;
    tx->savepoints = number - 1;
    if (drop_unsent(tx, number))
        return 0;
    tx->unsent_count = 0;
    return leave_unsent(tx, PG_SAVEPOINT_RELEASE, number, error);
}

int pg_part_end(struct pg_transaction *tx, bool keep, struct pg_error *error)
{
    int number = tx->part, rc = 0;
    tx->part = 0;
    if (number == 0 || tx->state == PG_TRANSACTION_ENDED)
        return 0;
    if (keep)
        rc = keep_part(tx, number, error);
    else if (tx->state == PG_TRANSACTION_INTERRUPTED || pg_transaction_check(tx, error) == 0)
        rc = undo_to(tx, number, error);
    else
        rc = -1;
    return rc;
}
