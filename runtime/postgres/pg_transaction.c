#include <assert.h>
#include <pthread.h>
#include <stdbool.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/postgres/pg_batch.h"
#include "runtime/postgres/pg_commit.h"
#include "runtime/postgres/pg_error.h"
#include "runtime/postgres/pg_pool.h"
#include "runtime/postgres/pg_result.h"
#include "runtime/postgres/postgres.h"
#include "runtime/postgres/sql_guard.h"

/* The server gives up this much before the deadline (but at most a tenth of what is left), so that its answer still arrives
 * and the connection need not be thrown away. */
#define SERVER_MARGIN_MS 100
/* A ROLLBACK may take this long, also after the deadline, before the connection is closed instead. */
#define ROLLBACK_MS 1000

enum state { STATE_NEW, STATE_OPEN, STATE_FAILED, STATE_ENDED };

struct pg_transaction {
    struct pg_pool *pool;
    bool read_only;
    int64_t deadline_ms;
    enum state state;
    bool used;
    struct pg_error first_error; /* in STATE_FAILED */
    char xid[PG_XID_SIZE];       /* empty until it is known */
    struct pg_result *results;

    pthread_mutex_t lock; /* against pg_transaction_cancel(); guards the rest, and connection->cancel */
    struct pg_connection *connection;
    bool cancelled, committing;
};

struct pg_transaction *pg_transaction_new(struct pg_pool *pool, bool read_only, int64_t deadline_ms)
{
    struct pg_transaction *tx = xcalloc(1, sizeof(*tx));
    tx->pool = pool;
    tx->read_only = read_only;
    tx->deadline_ms = deadline_ms;
    (void)pthread_mutex_init(&tx->lock, NULL);
    return tx;
}

void pg_transaction_free(struct pg_transaction *tx)
{
    if (!tx)
        return;
    pg_transaction_rollback(tx);
    while (tx->results)
        pg_result_free(tx->results);
    (void)pthread_mutex_destroy(&tx->lock);
    free(tx);
}

bool pg_transaction_used(const struct pg_transaction *tx)
{
    return tx->used;
}

static bool is_cancelled(struct pg_transaction *tx)
{
    (void)pthread_mutex_lock(&tx->lock);
    bool cancelled = tx->cancelled;
    (void)pthread_mutex_unlock(&tx->lock);
    return cancelled;
}

/* ---- the connection ---- */

static int take_connection(struct pg_transaction *tx, struct pg_error *error)
{
    struct pg_connection *connection;
    if (pg_pool_borrow(tx->pool, tx->deadline_ms, &connection, error) < 0)
        return -1;
    (void)pthread_mutex_lock(&tx->lock);
    tx->connection = connection;
    (void)pthread_mutex_unlock(&tx->lock);
    return 0;
}

static void give_back(struct pg_transaction *tx)
{
    (void)pthread_mutex_lock(&tx->lock);
    struct pg_connection *connection = tx->connection;
    tx->connection = NULL;
    /* A cancel request may hit the session late, whoever has it by then. */
    if (tx->cancelled)
        connection->doubtful = true;
    (void)pthread_mutex_unlock(&tx->lock);
    pg_pool_return(tx->pool, connection);
}

/* With the lock held. A connection is cancelled once at most, because it is closed afterwards. */
static void cancel_locked(struct pg_transaction *tx)
{
    tx->cancelled = true;
    /* Never a COMMIT: the server may then report success for what is not replicated. */
    if (tx->connection && tx->connection->cancel && !tx->committing)
        pg_reaper_submit(&tx->pool->reaper, steal_ptr(&tx->connection->cancel), NULL);
}

void pg_transaction_cancel(struct pg_transaction *tx)
{
    (void)pthread_mutex_lock(&tx->lock);
    cancel_locked(tx);
    (void)pthread_mutex_unlock(&tx->lock);
}

static void roll_back(struct pg_transaction *tx)
{
    struct pg_connection *connection = tx->connection;
    PGTransactionStatusType status = pq.PQtransactionStatus(connection->conn);
    if (!connection->doubtful && (status == PQTRANS_INTRANS || status == PQTRANS_INERROR)) {
        CLEANUP_PG_BATCH struct pg_batch batch;
        pg_batch_init(&batch, connection, clock_monotonic_ms() + ROLLBACK_MS);
        pg_batch_command(&batch, PG_BATCH_CONTROL, "ROLLBACK", 0, NULL);
        if (pg_batch_run(&batch) != PG_FLIGHT_OK)
            connection->doubtful = true;
    }
    give_back(tx);
}

/* Keeps the error for every later call, rolls back at once and gives the connection to others. Returns -1. */
static int fail(struct pg_transaction *tx, const struct pg_error *error)
{
    tx->first_error = *error;
    tx->state = STATE_FAILED;
    pg_pool_count(tx->pool, PG_OUTCOME_FAILURE);
    if (tx->connection)
        roll_back(tx);
    return -1;
}

static int fail_with(struct pg_transaction *tx, struct pg_error *error, enum pg_failure failure,
                     const char *message)
{
    pg_error_set(error, failure, "%s", message);
    return fail(tx, error);
}

/* ---- statements ---- */

static int64_t left_ms(const struct pg_transaction *tx)
{
    return tx->deadline_ms == DEADLINE_NONE ? 0 : tx->deadline_ms - clock_monotonic_ms();
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
    pg_batch_prepared(batch, PG_BATCH_CONTROL, begin[tx->pool->isolation][tx->read_only], 0, NULL);
    int64_t left = left_ms(tx);
    if (left <= 0)
        return;
    /* SET takes no snapshot, unlike a SELECT of set_config(). */
    int64_t margin = left / 10 < SERVER_MARGIN_MS ? left / 10 : SERVER_MARGIN_MS;
    char command[96];
    (void)snprintf(command, sizeof(command), "SET LOCAL statement_timeout = %lld",
                   (long long)(left - margin));
    pg_batch_command(batch, PG_BATCH_CONTROL, command, 0, NULL);
    if (left > PG_IDLE_IN_TRANSACTION_MS / 2) {
        (void)snprintf(command, sizeof(command), "SET LOCAL idle_in_transaction_session_timeout = %lld",
                       (long long)(left + PG_IDLE_IN_TRANSACTION_MS / 2));
        pg_batch_command(batch, PG_BATCH_CONTROL, command, 0, NULL);
    }
}

struct statement {
    const char *sql;
    int param_count;
    const char *const *params;
    bool preparable;
};

static void add_statement(struct pg_transaction *tx, struct pg_batch *batch,
                          const struct statement *statement)
{
    if (statement->preparable)
        pg_batch_prepared(batch, PG_BATCH_STATEMENT, statement->sql, statement->param_count,
                          statement->params);
    else
        pg_batch_command(batch, PG_BATCH_STATEMENT, statement->sql, statement->param_count,
                         statement->params);
    /* Without it a lost COMMIT could not be resolved; in the same flight it costs no round trip. */
    if (!tx->read_only && !tx->xid[0])
        pg_batch_prepared(batch, PG_BATCH_XID, PG_XID_QUERY, 0, NULL);
}

/* The statement's plan or name is no longer what the connection thinks it is, after DDL or DISCARD by others. */
static bool is_stale(const struct pg_batch *batch)
{
    static const char *const states[] = {"0A000", "26000", "42P05"};
    const char *sqlstate = batch->error ? pq.PQresultErrorField(batch->error, PG_DIAG_SQLSTATE) : NULL;
    for (size_t i = 0; sqlstate && i < ARRAY_SIZE(states); i++) {
        if (strcmp(sqlstate, states[i]) == 0)
            return true;
    }
    return false;
}

/* The first statement, with BEGIN. Nothing was done yet if it fails, so that a stale one is prepared anew and run again. */
static enum pg_flight_outcome run_first(struct pg_transaction *tx, const struct statement *statement,
                                        struct pg_batch *batch)
{
    struct pg_connection *connection = tx->connection;
    pg_batch_init(batch, connection, tx->deadline_ms);
    add_begin(tx, batch);
    add_statement(tx, batch, statement);
    enum pg_flight_outcome outcome = pg_batch_run(batch);
    bool ours = batch->error_role != PG_BATCH_STATEMENT;
    if (outcome != PG_FLIGHT_OK || !is_stale(batch) || !(ours || batch->statement_was_prepared))
        return outcome;
    pg_batch_release(batch);
    pg_batch_init(batch, connection, tx->deadline_ms);
    if (pq.PQtransactionStatus(connection->conn) != PQTRANS_IDLE)
        pg_batch_command(batch, PG_BATCH_CONTROL, "ROLLBACK", 0, NULL);
    pg_batch_command(batch, PG_BATCH_CONTROL, "DEALLOCATE ALL", 0, NULL);
    pg_statements_clear(&connection->statements);
    add_begin(tx, batch);
    add_statement(tx, batch, statement);
    return pg_batch_run(batch);
}

static enum pg_flight_outcome run_next(struct pg_transaction *tx, const struct statement *statement,
                                       struct pg_batch *batch)
{
    pg_batch_init(batch, tx->connection, tx->deadline_ms);
    add_statement(tx, batch, statement);
    enum pg_flight_outcome outcome = pg_batch_run(batch);
    /* Too late to run anything again; the next transaction finds another connection. */
    if (is_stale(batch))
        tx->connection->doubtful = true;
    return outcome;
}

/* The error of a statement or of COMMIT, as the caller shall see it. */
static void set_sql_error(struct pg_transaction *tx, const PGresult *result, struct pg_error *error)
{
    pg_error_set_result(error, PG_FAILURE_SQL, result);
    /* Cancelled by us, or by the server on our behalf? Or by a limit that the function set? */
    bool cancelled = strcmp(error->sqlstate, "57014") == 0;
    if (cancelled && (is_cancelled(tx) || left_ms(tx) <= 2 * SERVER_MARGIN_MS))
        pg_error_set(error, PG_FAILURE_DEADLINE, "the deadline passed while a statement ran");
}

static int fail_batch(struct pg_transaction *tx, const struct pg_batch *batch, enum pg_flight_outcome outcome,
                      struct pg_error *error)
{
    if (outcome == PG_FLIGHT_DEADLINE) {
        pg_transaction_cancel(tx);
        tx->connection->doubtful = true;
        return fail_with(tx, error, PG_FAILURE_DEADLINE, "the deadline passed while a statement ran");
    }
    bool rejected = outcome == PG_FLIGHT_OK && batch->error_role == PG_BATCH_CONTROL;
    if (outcome == PG_FLIGHT_OK && !rejected) {
        set_sql_error(tx, batch->error, error);
        return fail(tx, error);
    }
    /* A server that is a standby by now rejects BEGIN READ WRITE: as good as gone. */
    tx->connection->doubtful = true;
    pg_error_set(error, PG_FAILURE_LOST,
                 rejected ? "the database refused to begin a transaction"
                          : "the database connection was lost");
    const char *sqlstate = batch->error ? pq.PQresultErrorField(batch->error, PG_DIAG_SQLSTATE) : NULL;
    if (sqlstate)
        (void)snprintf(error->sqlstate, sizeof(error->sqlstate), "%.5s", sqlstate);
    return fail(tx, error);
}

static void keep_xid(struct pg_transaction *tx, const PGresult *result)
{
    if (result && pq.PQntuples(result) == 1 && !pq.PQgetisnull(result, 0, 0))
        (void)snprintf(tx->xid, sizeof(tx->xid), "%s", pq.PQgetvalue(result, 0, 0));
}

/* May the transaction go on? */
static int check_open(struct pg_transaction *tx, struct pg_error *error)
{
    if (tx->state == STATE_FAILED) {
        *error = tx->first_error;
        return -1;
    }
    if (tx->state == STATE_ENDED) {
        pg_error_set(error, PG_FAILURE_REFUSED, "the transaction has ended");
        return -1;
    }
    if (is_cancelled(tx) || deadline_left_ms(tx->deadline_ms) == 0)
        return fail_with(tx, error, PG_FAILURE_DEADLINE, "the deadline has passed");
    return 0;
}

int pg_query(struct pg_transaction *tx, const char *sql, int param_count, const char *const *params,
             struct pg_result **ret_result, struct pg_error *error)
{
    if (check_open(tx, error) < 0)
        return -1;
    struct sql_guard_report report;
    sql_guard_check(sql, &report);
    if (report.refusal)
        return fail_with(tx, error, PG_FAILURE_REFUSED, report.refusal);
    bool first = tx->state == STATE_NEW;
    if (first && take_connection(tx, error) < 0)
        return fail(tx, error);

    struct statement statement = {sql, param_count, params, report.preparable};
    tx->used = true;
    tx->state = STATE_OPEN;
    CLEANUP_PG_BATCH struct pg_batch batch;
    enum pg_flight_outcome outcome =
        first ? run_first(tx, &statement, &batch) : run_next(tx, &statement, &batch);
    if (report.changes_session)
        tx->connection->doubtful = true;
    if (outcome != PG_FLIGHT_OK || batch.error)
        return fail_batch(tx, &batch, outcome, error);
    if (pq.PQtransactionStatus(tx->connection->conn) != PQTRANS_INTRANS)
        return fail_with(tx, error, PG_FAILURE_NOT_COMMITTED, "the transaction ended inside a statement");
    keep_xid(tx, batch.results[PG_BATCH_XID]);
    *ret_result = pg_result_new(steal_ptr(&batch.results[PG_BATCH_STATEMENT]), &tx->results);
    return 0;
}

/* ---- the end ---- */

static int end_committed(struct pg_transaction *tx)
{
    tx->state = STATE_ENDED;
    pg_pool_count(tx->pool, PG_OUTCOME_COMMIT);
    if (tx->connection)
        give_back(tx);
    return 0;
}

/* The answer to COMMIT did not come. */
static int resolve(struct pg_transaction *tx, struct pg_error *error)
{
    tx->connection->doubtful = true;
    give_back(tx); /* makes room in the pool for the connection that asks */
    int resolved = -1;
    if (!tx->xid[0]) /* no transaction id, hence no row written */
        pg_error_set(error, PG_FAILURE_LOST, "the database connection was lost; nothing was written");
    else
        resolved = pg_commit_resolve(tx->pool, tx->xid, tx->deadline_ms, error);
    if (resolved == 0)
        return end_committed(tx);
    if (error->failure == PG_FAILURE_COMMIT_UNKNOWN)
        pg_pool_count(tx->pool, PG_OUTCOME_COMMIT_UNKNOWN);
    return fail(tx, error);
}

int pg_transaction_commit(struct pg_transaction *tx, struct pg_error *error)
{
    if (check_open(tx, error) < 0)
        return -1;
    if (tx->state == STATE_NEW) {
        tx->state = STATE_ENDED;
        return 0;
    }
    if (pq.PQtransactionStatus(tx->connection->conn) != PQTRANS_INTRANS)
        return fail_with(tx, error, PG_FAILURE_NOT_COMMITTED, "there is no transaction to commit");
    (void)pthread_mutex_lock(&tx->lock);
    tx->committing = true;
    (void)pthread_mutex_unlock(&tx->lock);

    CLEANUP_PG_BATCH struct pg_batch batch;
    pg_batch_init(&batch, tx->connection, tx->deadline_ms);
    pg_batch_command(&batch, PG_BATCH_STATEMENT, "COMMIT", 0, NULL);
    enum pg_flight_outcome outcome = pg_batch_run(&batch);
    PGresult *answer = batch.results[PG_BATCH_STATEMENT];
    if (answer) {
        if (outcome != PG_FLIGHT_OK)
            tx->connection->doubtful = true;
        if (strcmp(pq.PQcmdStatus(answer), "COMMIT") == 0)
            return end_committed(tx);
        return fail_with(tx, error, PG_FAILURE_NOT_COMMITTED,
                         "the database rolled back instead of committing");
    }
    if (outcome != PG_FLIGHT_OK)
        return resolve(tx, error);
    set_sql_error(tx, batch.error, error);
    return fail(tx, error);
}

void pg_transaction_rollback(struct pg_transaction *tx)
{
    if (tx->state == STATE_OPEN) {
        pg_pool_count(tx->pool, PG_OUTCOME_ROLLBACK);
        roll_back(tx);
    }
    if (tx->state != STATE_FAILED)
        tx->state = STATE_ENDED;
}
