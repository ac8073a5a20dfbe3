/* The statements of a transaction. */
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "runtime/postgres/pg_error.h"
#include "runtime/postgres/pg_slow.h"
#include "runtime/postgres/pg_transaction.h"

/* The transaction's id once it has one, NULL before it wrote anything. */
#define XID_QUERY "SELECT pg_catalog.pg_current_xact_id_if_assigned()"
/* Behind a pooler nobody knows in which run of the server the session began. */
#define XID_RUN_QUERY                                                                                        \
    "SELECT xid, CASE WHEN xid IS NOT NULL THEN " PG_SERVER_RUN_SQL                                          \
    " END FROM pg_catalog.pg_current_xact_id_if_assigned() AS xid"

/* Farther deadlines are none for the server, which counts in 32 bits. */
#define SERVER_LIMIT_MAX_MS ((int64_t)1 << 30)
#define PARAMS_MAX          65535 /* of the protocol */
#define VANISHED_MARGIN_MS  ((int64_t)5000)

struct statement {
    const struct pg_command *command;
    bool preparable;
    bool is_query; /* as sql_guard.h has it */
    bool last;     /* with COMMIT in the same flight */
    bool describe; /* is described, not run */
    bool rows_unwanted;
    pg_row_fn *each;
    void *each_arg;
};

/* What is left of the deadline for the server; 0: no limit. */
static int64_t server_limit_ms(const struct pg_transaction *tx)
{
    int64_t left = pg_transaction_left_ms(tx);
    if (left > SERVER_LIMIT_MAX_MS)
        return 0;
    int64_t margin = left / 10 < PG_SERVER_MARGIN_MS ? left / 10 : PG_SERVER_MARGIN_MS;
    return left - margin > 1 ? left - margin : 1;
}

/* Most transactions have about the same time before them: one SET is kept prepared for these, with a limit that is up to a
 * fiftieth less. It is made for the longest so far. */
static void add_statement_timeout(struct pg_transaction *tx, struct pg_batch *batch, int64_t limit)
{
    struct pg_connection *connection = tx->connection;
    if (connection->prepared_timeout_ms < limit - limit / 50) {
        connection->prepared_timeout_ms = limit - limit / 100;
        connection->prepared_controls &= ~(1u << PG_CONTROL_TIMEOUT);
        connection->timeouts_prepared++;
        (void)snprintf(connection->prepared_timeout_sql, sizeof(connection->prepared_timeout_sql),
                       "SET LOCAL statement_timeout = %lld", (long long)connection->prepared_timeout_ms);
    }
    tx->statement_timeout_ms =
        limit < connection->prepared_timeout_ms ? limit : connection->prepared_timeout_ms;
    if (tx->statement_timeout_ms != connection->prepared_timeout_ms) {
        pg_batch_set_local(batch, "statement_timeout", limit);
        return;
    }
    pg_batch_control(batch, PG_CONTROL_TIMEOUT, connection->prepared_timeout_sql);
}

/* What a connection without a pooler sets once. Of a client that vanished only the pooler could hear: then this limit frees what it has
 * locked, soon after its deadline. */
static void add_session_settings(const struct pg_transaction *tx, struct pg_batch *batch)
{
    int64_t left = pg_transaction_left_ms(tx), idle = PG_IDLE_IN_TRANSACTION_MS;
    if (left < PG_IDLE_IN_TRANSACTION_MS - VANISHED_MARGIN_MS)
        idle = (left > 0 ? left : 0) + VANISHED_MARGIN_MS;
    pg_batch_command(batch, PG_BATCH_CONTROL, "SET LOCAL standard_conforming_strings = on", 0, NULL);
    pg_batch_command(batch, PG_BATCH_CONTROL, "SET LOCAL datestyle = ISO", 0, NULL);
    pg_batch_set_local(batch, "idle_in_transaction_session_timeout", idle);
}

/* BEGIN and the limits of this transaction. */
static void add_begin(struct pg_transaction *tx, struct pg_batch *batch)
{
    static const char *const begin[][2] = {
        [PG_READ_COMMITTED] = {"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
                               "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"},
        [PG_REPEATABLE_READ] = {"BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE",
                                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"},
        [PG_SERIALIZABLE] = {"BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE",
                             "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"},
    };
    pg_batch_control(batch, PG_CONTROL_BEGIN + 2 * (unsigned)tx->isolation + tx->read_only,
                     begin[tx->isolation][tx->read_only]);
    if (tx->pool->pooler)
        add_session_settings(tx, batch);
    for (int i = 0; i < tx->setting_count; i++) {
        char command[160];
        (void)snprintf(command, sizeof(command), "SET LOCAL %s = '%s'", tx->settings[i].name,
                       tx->settings[i].value);
        pg_batch_command(batch, PG_BATCH_CONTROL, command, 0, NULL);
    }
    int64_t limit = server_limit_ms(tx), left = pg_transaction_left_ms(tx);
    if (limit == 0)
        return;
    add_statement_timeout(tx, batch, limit); /* SET takes no snapshot, unlike a SELECT of set_config() */
    if (left > PG_IDLE_IN_TRANSACTION_MS / 2)
        pg_batch_set_local(batch, "idle_in_transaction_session_timeout",
                           left + PG_IDLE_IN_TRANSACTION_MS / 2);
}

/* The session's own statement_timeout, near enough to what is left: set for the longest so far, as in add_statement_timeout(). False:
 * less is left than that. */
static bool add_lone_timeout(struct pg_transaction *tx, struct pg_batch *batch)
{
    struct pg_connection *connection = tx->connection;
    int64_t limit = server_limit_ms(tx);
    if (limit == 0 || limit < connection->lone_timeout_ms)
        return false;
    if (connection->lone_timeout_ms >= limit - limit / 50)
        return true;
    char command[64];
    connection->lone_timeout_ms = limit - limit / 100;
    (void)snprintf(command, sizeof(command), "SET statement_timeout = %lld",
                   (long long)connection->lone_timeout_ms);
    pg_batch_command(batch, PG_BATCH_CONTROL, command, 0, NULL);
    return true;
}

/* A query that is the whole of a READ ONLY transaction needs no BEGIN and COMMIT, which are most of the server's work for a small one: the
 * session's default is READ ONLY. One statement has one snapshot at every level; Serializable is more than that. */
static bool add_lone(struct pg_transaction *tx, struct pg_batch *batch, const struct statement *statement)
{
    if (!statement->last || !statement->is_query || !tx->read_only || tx->isolation == PG_SERIALIZABLE ||
        tx->unsent_count > 0 || !tx->connection->guards_reading || tx->connection->session_changed ||
        !add_lone_timeout(tx, batch))
        return false;
    pg_batch_statement(batch, PG_BATCH_STATEMENT, statement->command, statement->preparable);
    batch->is_lone = true;
    return true;
}

static void add_statement(struct pg_transaction *tx, struct pg_batch *batch,
                          const struct statement *statement)
{
    pg_savepoint_add_unsent(tx, batch);
    if (statement->describe) {
        pg_batch_describe(batch, statement->command);
        return;
    }
    /* A reader that is slow makes the server wait, and it is the reader's time that is limited. */
    if (statement->each) {
        pg_batch_set_local(batch, "statement_timeout", 0);
        if (!tx->pool->pooler) /* which is the one that the server sends to */
            pg_batch_set_local(batch, "tcp_user_timeout", 0);
    }
    pg_batch_statement(batch, PG_BATCH_STATEMENT, statement->command, statement->preparable);
    if (statement->each) {
        pg_batch_set_local(batch, "statement_timeout", tx->statement_timeout_ms);
        if (!tx->pool->pooler)
            pg_batch_set_local(batch, "tcp_user_timeout", PG_TCP_USER_TIMEOUT_MS);
    }
    /* Without it a lost COMMIT could not be resolved; in the same flight it costs no round trip. */
    if (!tx->read_only && !tx->xid[0]) {
        tx->xid_asked = false; /* what was said before is no longer true */
        const char *sql = tx->pool->pooler ? XID_RUN_QUERY : XID_QUERY;
        pg_batch_statement(batch, PG_BATCH_XID, &(struct pg_command){.sql = sql}, /* preparable= */ true);
    }
    if (!statement->last)
        return;
    /* What was written must be known of before COMMIT begins. Otherwise one answer is less work than two. */
    if (!tx->read_only)
        pg_batch_flush(batch);
    pg_batch_commit(batch);
}

/* A prepared statement's plan or name is no longer what the connection thinks it is, after DDL or DISCARD by others. */
static bool is_stale(const struct pg_batch *batch)
{
    const char *sqlstate = pg_batch_sqlstate(batch);
    if (batch->error_role == PG_BATCH_COMMIT || batch->connection->pooler)
        return false;
    /* Of a new plan, 0A000 has its ordinary meaning: the feature is not supported. */
    if (strcmp(sqlstate, "0A000") == 0)
        return batch->error_role == PG_BATCH_STATEMENT && batch->statement_was_prepared;
    return strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "42P05") == 0;
}

/* Ends the failed transaction and forgets all prepared statements. */
static enum pg_flight_outcome start_anew(struct pg_transaction *tx)
{
    CLEANUP_PG_BATCH struct pg_batch batch;
    pg_batch_init(&batch, tx->connection, tx->deadline_ms);
    pg_batch_command(&batch, PG_BATCH_CONTROL, "ROLLBACK", 0, NULL);
    pg_batch_forget_statements(&batch);
    enum pg_flight_outcome outcome = pg_batch_run(&batch);
    return outcome == PG_FLIGHT_OK && batch.error ? PG_FLIGHT_LOST : outcome;
}

static void begin_batch(struct pg_transaction *tx, struct pg_batch *batch, const struct statement *statement)
{
    pg_batch_init(batch, tx->connection, tx->deadline_ms);
    batch->result_max_bytes = PG_RESULT_MAX_BYTES - tx->results_bytes;
    if (batch->result_max_bytes > tx->result_max_bytes)
        batch->result_max_bytes = tx->result_max_bytes;
    batch->rows_unwanted = statement->rows_unwanted;
    batch->each = statement->each;
    batch->each_arg = statement->each_arg;
    batch->each_deadline_ms = &tx->deadline_ms;
}

static enum pg_flight_outcome begin_and_run(struct pg_transaction *tx, const struct statement *statement,
                                            struct pg_batch *batch)
{
    if (!add_lone(tx, batch, statement)) {
        add_begin(tx, batch);
        add_statement(tx, batch, statement);
    }
    enum pg_flight_outcome outcome = pg_batch_run(batch);
    if (batch->is_lone && (outcome != PG_FLIGHT_OK || batch->error))
        tx->connection->lone_timeout_ms = 0; /* a SET in the same flight was taken back */
    return outcome;
}

/* The first statement, with BEGIN. Nothing was done yet if it fails, so that a stale one is prepared anew and run again. */
static enum pg_flight_outcome run_first(struct pg_transaction *tx, const struct statement *statement,
                                        struct pg_batch *batch)
{
    enum pg_flight_outcome outcome = begin_and_run(tx, statement, batch);
    if (outcome != PG_FLIGHT_OK || !is_stale(batch))
        return outcome;
    pg_batch_release(batch);
    begin_batch(tx, batch, statement);
    outcome = start_anew(tx);
    if (outcome != PG_FLIGHT_OK)
        return outcome;
    return begin_and_run(tx, statement, batch);
}

static enum pg_flight_outcome run_next(struct pg_transaction *tx, const struct statement *statement,
                                       struct pg_batch *batch)
{
    add_statement(tx, batch, statement);
    enum pg_flight_outcome outcome = pg_batch_run(batch);
    /* Too late to run anything again here; the next transaction prepares anew. */
    if (is_stale(batch))
        tx->connection->statements_stale = true;
    return outcome;
}

/* An error that the server raised for a statement or COMMIT, as the caller shall see it. */
static void set_sql_error(struct pg_transaction *tx, const struct pg_batch *batch, struct pg_error *error)
{
    pg_error_set_result(error, PG_FAILURE_SQL, batch->error);
    error->stale = is_stale(batch);
    error->at_commit = batch->error_role == PG_BATCH_COMMIT;
    if (strcmp(error->sqlstate, "57014") != 0)
        return;
    /* Cancelled by us, or by the server on our behalf? Or by a limit that the function set? */
    (void)pthread_mutex_lock(&tx->lock);
    bool cancelled = tx->cancelled;
    (void)pthread_mutex_unlock(&tx->lock);
    if (cancelled || pg_transaction_left_ms(tx) <= 2 * PG_SERVER_MARGIN_MS)
        pg_error_set(error, PG_FAILURE_DEADLINE, "the deadline passed while a statement ran");
}

/* By a savepoint. What began to commit ends, whatever comes. */
static bool can_be_taken_back(const struct pg_transaction *tx, const struct pg_error *error)
{
    return tx->savepoints > 0 && !tx->committing && error->failure == PG_FAILURE_SQL;
}

int pg_query_fail(struct pg_transaction *tx, const struct pg_batch *batch, enum pg_flight_outcome outcome,
                  struct pg_error *error)
{
    bool rejected = outcome == PG_FLIGHT_OK && batch->error_role == PG_BATCH_CONTROL;
    if (outcome == PG_FLIGHT_OK && !rejected) {
        set_sql_error(tx, batch, error);
        if (!can_be_taken_back(tx, error))
            return pg_transaction_fail(tx, error);
        tx->first_error = *error;
        tx->state = PG_TRANSACTION_INTERRUPTED;
        return -1;
    }
    tx->connection->doubtful = true;
    if (outcome != PG_FLIGHT_LOST && !rejected)
        pg_transaction_abandon(tx);
    if (outcome == PG_FLIGHT_DEADLINE)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_DEADLINE,
                                        "the deadline passed while a statement ran");
    if (outcome == PG_FLIGHT_TOO_LARGE)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_TOO_LARGE, "the result has too many bytes");
    if (outcome == PG_FLIGHT_STOPPED)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_REFUSED, "the reading of rows was ended");
    /* A server that is a standby by now rejects BEGIN READ WRITE: as good as gone. */
    pg_error_set(error, PG_FAILURE_LOST, "%s",
                 rejected ? "the database refused to begin a transaction"
                          : "the database connection was lost");
    (void)snprintf(error->sqlstate, sizeof(error->sqlstate), "%.5s", pg_batch_sqlstate(batch));
    return pg_transaction_fail(tx, error);
}

static int run(struct pg_transaction *tx, const struct statement *statement, struct pg_batch *batch,
               struct pg_error *error)
{
    bool first = !tx->used;
    tx->used = true;
    tx->state = PG_TRANSACTION_OPEN;
    if (statement->last)
        pg_commit_begin(tx);
    enum pg_flight_outcome outcome = first ? run_first(tx, statement, batch) : run_next(tx, statement, batch);
    pg_commit_keep_xid(tx, batch->xid);
    tx->unsent_count = 0;
    if (statement->last)
        return pg_commit_finish(tx, batch, outcome, error);
    if (outcome != PG_FLIGHT_OK || batch->error)
        return pg_query_fail(tx, batch, outcome, error);
    if (pq.PQtransactionStatus(tx->connection->conn) != PQTRANS_INTRANS)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_NOT_COMMITTED,
                                        "the transaction ended inside a statement");
    return 0;
}

static int take_connection(struct pg_transaction *tx, struct pg_error *error)
{
    if (pg_transaction_take_connection(tx, error) < 0)
        return pg_transaction_fail(tx, error);
    if (tx->read_only) /* only who writes needs the run: the start and readers do not wait for it */
        return 0;
    enum pg_flight_outcome outcome = pg_connection_learn_run(tx->connection, tx->deadline_ms);
    return outcome == PG_FLIGHT_OK ? 0 : pg_query_fail(tx, &(struct pg_batch){0}, outcome, error);
}

/* The batch is to be cleared before, and released, whatever comes. */
static int send(struct pg_transaction *tx, struct statement *statement, struct pg_batch *batch,
                struct pg_error *error)
{
    if (pg_transaction_check(tx, error) < 0)
        return -1;
    struct sql_guard_report report;
    sql_guard_cache_check(&tx->pool->guarded, statement->command->sql, &report);
    if (report.refusal)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_REFUSED, report.refusal);
    if (report.changes_session && tx->pool->pooler)
        return pg_transaction_fail_with(
            tx, error, PG_FAILURE_REFUSED,
            "it leaves something in the session, which the pooler gives to others");
    if (statement->command->param_count < 0 || statement->command->param_count > PARAMS_MAX)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_REFUSED, "too many parameters");
    if (!tx->used && take_connection(tx, error) < 0)
        return -1;
    statement->preparable = report.preparable;
    statement->is_query = report.is_query;
    if (report.changes_session && !statement->describe)
        tx->connection->session_changed = true;
    tx->changed |= report.changes_transaction || report.changes_session;
    begin_batch(tx, batch, statement);
    int64_t begin_us = pg_slow_begin(tx->pool);
    int rc = run(tx, statement, batch, error);
    pg_slow_end(tx->pool, begin_us, statement->command->sql, batch, rc < 0 ? error : NULL);
    return rc;
}

static int query(struct pg_transaction *tx, struct statement *statement, struct pg_result **ret_result,
                 struct pg_error *error)
{
    CLEANUP_PG_BATCH struct pg_batch batch;
    pg_batch_clear(&batch);
    if (ret_result && tx->results_bytes >= PG_RESULT_MAX_BYTES && pg_transaction_check(tx, error) == 0)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_TOO_LARGE,
                                        "the results of the transaction have too many bytes");
    if (send(tx, statement, &batch, error) < 0)
        return -1;
    if (!ret_result)
        return 0;
    pg_result_link(batch.result, &tx->results, &tx->results_bytes);
    *ret_result = steal_ptr(&batch.result);
    return 0;
}

int pg_run(struct pg_transaction *tx, const struct pg_command *command, struct pg_result **ret_result,
           struct pg_error *error)
{
    struct statement statement = {.command = command};
    return query(tx, &statement, ret_result, error);
}

int pg_run_commit(struct pg_transaction *tx, const struct pg_command *command, struct pg_result **ret_result,
                  struct pg_error *error)
{
    struct statement statement = {.command = command, .last = true, .rows_unwanted = !ret_result};
    return query(tx, &statement, ret_result, error);
}

int pg_query(struct pg_transaction *tx, const char *sql, int param_count, const char *const *params,
             struct pg_result **ret_result, struct pg_error *error)
{
    const struct pg_command command = {.sql = sql, .param_count = param_count, .params = params};
    return pg_run(tx, &command, ret_result, error);
}

int pg_query_each(struct pg_transaction *tx, const char *sql, int param_count, const char *const *params,
                  pg_row_fn *each, void *arg, struct pg_error *error)
{
    const struct pg_command command = {.sql = sql, .param_count = param_count, .params = params};
    struct statement statement = {.command = &command, .each = each, .each_arg = arg};
    CLEANUP_PG_BATCH struct pg_batch batch;
    pg_batch_clear(&batch);
    return send(tx, &statement, &batch, error);
}

int pg_query_commit(struct pg_transaction *tx, const char *sql, int param_count, const char *const *params,
                    struct pg_result **ret_result, struct pg_error *error)
{
    const struct pg_command command = {.sql = sql, .param_count = param_count, .params = params};
    return pg_run_commit(tx, &command, ret_result, error);
}

static void read_description(const PGresult *answer, struct pg_description *ret)
{
    *ret = (struct pg_description){.param_count = pq.PQnparams(answer), .column_count = pq.PQnfields(answer)};
    ret->param_types = xcalloc((size_t)ret->param_count + 1, sizeof(*ret->param_types));
    ret->column_names = xcalloc((size_t)ret->column_count + 1, sizeof(*ret->column_names));
    ret->column_types = xcalloc((size_t)ret->column_count + 1, sizeof(*ret->column_types));
    for (int i = 0; i < ret->param_count; i++)
        ret->param_types[i] = pq.PQparamtype(answer, i);
    for (int i = 0; i < ret->column_count; i++) {
        ret->column_names[i] = xstrdup(pq.PQfname(answer, i));
        ret->column_types[i] = pq.PQftype(answer, i);
    }
}

int pg_describe(struct pg_transaction *tx, const struct pg_command *command,
                struct pg_description *ret_description, struct pg_error *error)
{
    struct statement statement = {.command = command, .describe = true};
    CLEANUP_PG_BATCH struct pg_batch batch;
    pg_batch_clear(&batch);
    if (send(tx, &statement, &batch, error) < 0)
        return -1;
    read_description(batch.description, ret_description);
    return 0;
}

void pg_description_release(struct pg_description *description)
{
    for (int i = 0; i < description->column_count; i++)
        free(description->column_names[i]);
    free(steal_ptr(&description->param_types));
    free(steal_ptr(&description->column_names));
    free(steal_ptr(&description->column_types));
    description->param_count = description->column_count = 0;
}
