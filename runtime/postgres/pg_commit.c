/* COMMIT, and what became of one whose answer was lost. */
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/postgres/pg_error.h"
#include "runtime/postgres/pg_slow.h"
#include "runtime/postgres/pg_transaction.h"

#define ASK_AGAIN_MIN_MS 10
#define ASK_AGAIN_MAX_MS 500

/* A standby may be behind: it does not count. A server that crashed and recovered gives ids that it had not yet written down
 * to other transactions, so there "committed" may be another's; but what was committed before the crash is never told as
 * anything else. */
#define STATUS_QUERY                                                                                         \
    "SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN "                                              \
    "pg_catalog.pg_xact_status($1::pg_catalog.xid8) END, " PG_SERVER_RUN_SQL

/* A backend that still waits for its next command never got the COMMIT. Ending it settles the matter, and frees its locks.
 * One that is at work is left alone: it may be committing. */
#define END_IDLE_QUERY                                                                                       \
    "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"                           \
    " WHERE backend_xid = $1::pg_catalog.xid8::pg_catalog.xid AND state LIKE 'idle in transaction%'"

enum xact_status { XACT_COMMITTED, XACT_ABORTED, XACT_IN_PROGRESS, XACT_UNKNOWN };

/* ---- a lost COMMIT ---- */

static enum xact_status parse_status(const struct pg_transaction *tx, const struct pg_result *result)
{
    if (!result || pg_result_is_null(result, 0, 0))
        return XACT_UNKNOWN;
    const char *text = pg_result_value(result, 0, 0, NULL);
    bool same_run = tx->server_run[0] && strcmp(tx->server_run, pg_result_value(result, 0, 1, NULL)) == 0;
    if (strcmp(text, "committed") == 0)
        return same_run ? XACT_COMMITTED : XACT_UNKNOWN;
    if (strcmp(text, "aborted") == 0)
        return XACT_ABORTED;
    if (strcmp(text, "in progress") == 0)
        return same_run ? XACT_IN_PROGRESS : XACT_ABORTED;
    return XACT_UNKNOWN;
}

/* False: this connection failed too. */
static bool ask(struct pg_transaction *tx, struct pg_connection *connection, const char *sql,
                enum xact_status *ret_status)
{
    CLEANUP_PG_BATCH struct pg_batch batch;
    pg_batch_init(&batch, connection, tx->deadline_ms);
    const char *params[] = {tx->xid};
    pg_batch_command(&batch, PG_BATCH_STATEMENT, sql, 1, params);
    if (pg_batch_run(&batch) != PG_FLIGHT_OK) {
        connection->doubtful = true;
        return false;
    }
    if (ret_status)
        *ret_status = parse_status(tx, batch.result);
    return true;
}

/* Asks on one connection until it is known, the deadline passes or the connection fails. */
static bool ask_until_known(struct pg_transaction *tx, struct pg_connection *connection,
                            enum xact_status *ret_status)
{
    for (int64_t wait_ms = ASK_AGAIN_MIN_MS;; wait_ms *= 2) {
        if (!ask(tx, connection, STATUS_QUERY, ret_status))
            return false;
        if (*ret_status != XACT_IN_PROGRESS)
            return true;
        if (!ask(tx, connection, END_IDLE_QUERY, /* ret_status= */ NULL))
            return false;
        int left_ms = deadline_left_ms(tx->deadline_ms);
        if (left_ms == 0)
            return true;
        if (wait_ms > ASK_AGAIN_MAX_MS)
            wait_ms = ASK_AGAIN_MAX_MS;
        (void)stop_wait(&tx->pool->stop, left_ms > 0 && left_ms < wait_ms ? left_ms : wait_ms);
    }
}

/* On another connection, until the deadline. */
static enum xact_status learn_status(struct pg_transaction *tx)
{
    while (deadline_left_ms(tx->deadline_ms) != 0) {
        struct pg_connection *connection;
        struct pg_error why;
        if (pg_pool_borrow(tx->pool, tx->deadline_ms, &connection, &why) < 0) {
            /* The pool gives up sooner than the deadline; here it is worth asking again, a server that restarts included. */
            if (why.failure == PG_FAILURE_UNREACHABLE)
                continue;
            break;
        }
        enum xact_status status;
        bool answered = ask_until_known(tx, connection, &status);
        pg_pool_return(tx->pool, connection);
        if (answered)
            return status;
    }
    return XACT_UNKNOWN;
}

/* ---- COMMIT ---- */

void pg_commit_keep_xid(struct pg_transaction *tx, const PGresult *xid)
{
    if (!xid || pq.PQntuples(xid) != 1)
        return;
    tx->xid_asked = true;
    if (!pq.PQgetisnull(xid, 0, 0))
        (void)snprintf(tx->xid, sizeof(tx->xid), "%s", pq.PQgetvalue(xid, 0, 0));
    if (pq.PQnfields(xid) > 1 && !pq.PQgetisnull(xid, 0, 1)) /* behind a pooler */
        (void)snprintf(tx->server_run, sizeof(tx->server_run), "%s", pq.PQgetvalue(xid, 0, 1));
}

void pg_commit_begin(struct pg_transaction *tx)
{
    (void)pthread_mutex_lock(&tx->lock);
    tx->committing = true;
    (void)pthread_mutex_unlock(&tx->lock);
}

static int end_committed(struct pg_transaction *tx)
{
    tx->state = PG_TRANSACTION_ENDED;
    pg_pool_count(tx->pool, PG_OUTCOME_COMMIT);
    if (tx->connection)
        pg_transaction_give_back(tx);
    return 0;
}

/* COMMIT was sent and its answer did not come, by no fault of what came before it. */
static int resolve(struct pg_transaction *tx, bool answer_lost, struct pg_error *error)
{
    if (!tx->connection->pooler)
        memcpy(tx->server_run, tx->connection->server_run, sizeof(tx->server_run));
    tx->connection->doubtful = true;
    pg_transaction_give_back(tx); /* makes room in the pool for the connection that asks */
    enum xact_status status = tx->xid[0] ? learn_status(tx) : XACT_UNKNOWN;
    if (status == XACT_COMMITTED && !answer_lost)
        return end_committed(tx);
    if (status == XACT_ABORTED)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_LOST,
                                        "the database connection was lost and the transaction rolled back");
    return pg_transaction_fail_with(
        tx, error, PG_FAILURE_COMMIT_UNKNOWN,
        status == XACT_COMMITTED
            ? "the transaction was committed, but the rows of its last statement were lost"
            : "the answer to COMMIT was lost and its outcome could not be learned");
}

int pg_commit_finish(struct pg_transaction *tx, const struct pg_batch *batch, enum pg_flight_outcome outcome,
                     struct pg_error *error)
{
    if (batch->is_lone && outcome == PG_FLIGHT_OK && !batch->error)
        return end_committed(tx);
    if (batch->commit) {
        if (outcome != PG_FLIGHT_OK)
            tx->connection->doubtful = true;
        /* COMMIT of a failed transaction succeeds, with the tag ROLLBACK. */
        if (strcmp(pq.PQcmdStatus(batch->commit), "COMMIT") == 0)
            return end_committed(tx);
        return pg_transaction_fail_with(tx, error, PG_FAILURE_NOT_COMMITTED,
                                        "the database rolled back instead of committing");
    }
    /* An error before COMMIT makes the server skip it. Without a transaction id there is nothing to be lost. */
    bool skipped = batch->error && batch->error_role != PG_BATCH_COMMIT;
    bool nothing_written = tx->read_only || (tx->xid_asked && !tx->xid[0]);
    if (outcome == PG_FLIGHT_OK || skipped || nothing_written)
        return pg_query_fail(tx, batch, outcome, error);
    bool answer_lost = batch->has_statement && !batch->rows_unwanted && !batch->result;
    if (outcome != PG_FLIGHT_LOST && answer_lost)
        pg_transaction_abandon(tx); /* it still runs, or sends too many rows */
    return resolve(tx, answer_lost, error);
}

int pg_transaction_commit(struct pg_transaction *tx, struct pg_error *error)
{
    if (pg_transaction_check(tx, error) < 0)
        return -1;
    if (tx->state == PG_TRANSACTION_NEW) {
        tx->state = PG_TRANSACTION_ENDED;
        return 0;
    }
    if (pq.PQtransactionStatus(tx->connection->conn) != PQTRANS_INTRANS)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_NOT_COMMITTED,
                                        "there is no transaction to commit");
    pg_commit_begin(tx);
    CLEANUP_PG_BATCH struct pg_batch batch;
    pg_batch_init(&batch, tx->connection, tx->deadline_ms);
    pg_batch_commit(&batch);
    int64_t begin_us = pg_slow_begin(tx->pool);
    int rc = pg_commit_finish(tx, &batch, pg_batch_run(&batch), error);
    pg_slow_end(tx->pool, begin_us, "COMMIT", &batch, rc < 0 ? error : NULL);
    return rc;
}
