#include "runtime/postgres/pg_transaction.h"

#include <assert.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/postgres/pg_error.h"

/* A ROLLBACK may take this long, also after the deadline, before the connection is closed instead. */
#define ROLLBACK_MS 1000

struct pg_transaction *pg_transaction_new(struct pg_pool *pool, bool read_only, int64_t deadline_ms)
{
    struct pg_transaction *tx = xcalloc(1, sizeof(*tx));
    tx->pool = pool;
    tx->read_only = read_only;
    tx->isolation = pool->isolation;
    tx->deadline_ms = deadline_ms;
    tx->result_max_bytes = PG_RESULT_MAX_BYTES;
    (void)pthread_mutex_init(&tx->lock, NULL);
    return tx;
}

void pg_transaction_free_results(struct pg_transaction *tx)
{
    while (tx->results)
        pg_result_free(tx->results);
    tx->results_bytes = 0;
    tx->result_max_bytes = PG_RESULT_MAX_BYTES;
}

void pg_transaction_free(struct pg_transaction *tx)
{
    if (!tx)
        return;
    pg_transaction_rollback(tx);
    pg_transaction_free_results(tx);
    (void)pthread_mutex_destroy(&tx->lock);
    free(tx);
}

void pg_transaction_set_isolation(struct pg_transaction *tx, enum pg_isolation isolation)
{
    tx->isolation = isolation;
}

void pg_transaction_set_local(struct pg_transaction *tx, const struct pg_setting *settings, int count)
{
    assert(count <= PG_TRANSACTION_SETTINGS_MAX);
    tx->settings = settings;
    tx->setting_count = count;
}

void pg_transaction_limit_result(struct pg_transaction *tx, size_t max_bytes)
{
    tx->result_max_bytes = max_bytes < PG_RESULT_MAX_BYTES ? max_bytes : PG_RESULT_MAX_BYTES;
}

void pg_transaction_set_deadline(struct pg_transaction *tx, int64_t deadline_ms)
{
    tx->deadline_ms = deadline_ms;
}

bool pg_transaction_used(const struct pg_transaction *tx)
{
    return tx->used;
}

bool pg_transaction_is_open(const struct pg_transaction *tx)
{
    return (tx->state == PG_TRANSACTION_NEW || tx->state == PG_TRANSACTION_OPEN) && !tx->changed;
}

int64_t pg_transaction_left_ms(const struct pg_transaction *tx)
{
    return tx->deadline_ms == DEADLINE_NONE ? INT64_MAX : tx->deadline_ms - clock_monotonic_ms();
}

int pg_transaction_check(struct pg_transaction *tx, struct pg_error *error)
{
    if (tx->state == PG_TRANSACTION_FAILED || tx->state == PG_TRANSACTION_INTERRUPTED) {
        *error = tx->first_error;
        return -1;
    }
    if (tx->state == PG_TRANSACTION_ENDED) {
        pg_error_set(error, PG_FAILURE_REFUSED, "the transaction has ended");
        return -1;
    }
    (void)pthread_mutex_lock(&tx->lock);
    bool cancelled = tx->cancelled;
    (void)pthread_mutex_unlock(&tx->lock);
    if (cancelled || pg_transaction_left_ms(tx) <= 0)
        return pg_transaction_fail_with(tx, error, PG_FAILURE_DEADLINE, "the deadline has passed");
    return 0;
}

/* ---- the connection ---- */

int pg_transaction_take_connection(struct pg_transaction *tx, struct pg_error *error)
{
    struct pg_connection *connection;
    if (pg_pool_borrow(tx->pool, tx->deadline_ms, &connection, error) < 0)
        return -1;
    (void)pthread_mutex_lock(&tx->lock);
    tx->connection = connection;
    (void)pthread_mutex_unlock(&tx->lock);
    return 0;
}

void pg_transaction_give_back(struct pg_transaction *tx)
{
    (void)pthread_mutex_lock(&tx->lock);
    struct pg_connection *connection = tx->connection;
    tx->connection = NULL;
    /* A cancel request may reach the session late, whoever has it by then. */
    if (tx->cancelled)
        connection->doubtful = true;
    (void)pthread_mutex_unlock(&tx->lock);
    pg_pool_return(tx->pool, connection);
}

/* With the lock held. A connection is cancelled once at most, because it is closed afterwards. */
static void send_cancel(struct pg_transaction *tx)
{
    tx->cancelled = true;
    if (tx->connection && tx->connection->cancel)
        pg_reaper_submit(&tx->pool->reaper, steal_ptr(&tx->connection->cancel), NULL);
}

void pg_transaction_cancel(struct pg_transaction *tx)
{
    (void)pthread_mutex_lock(&tx->lock);
    /* A cancelled COMMIT may report success for what is not yet replicated; one that only read has nothing to replicate. */
    if (!tx->committing || tx->read_only)
        send_cancel(tx);
    (void)pthread_mutex_unlock(&tx->lock);
}

void pg_transaction_abandon(struct pg_transaction *tx)
{
    (void)pthread_mutex_lock(&tx->lock);
    send_cancel(tx);
    (void)pthread_mutex_unlock(&tx->lock);
}

/* ---- the end ---- */

static void roll_back(struct pg_transaction *tx)
{
    struct pg_connection *connection = tx->connection;
    PGTransactionStatusType status = pq.PQtransactionStatus(connection->conn);
    if (!connection->doubtful && (status == PQTRANS_INTRANS || status == PQTRANS_INERROR)) {
        CLEANUP_PG_BATCH struct pg_batch batch;
        pg_batch_init(&batch, connection, clock_monotonic_ms() + ROLLBACK_MS);
        pg_batch_command(&batch, PG_BATCH_CONTROL, "ROLLBACK", 0, NULL);
        if (connection->statements_stale)
            pg_batch_forget_statements(&batch);
        if (pg_batch_run(&batch) != PG_FLIGHT_OK)
            connection->doubtful = true;
    }
    pg_transaction_give_back(tx);
}

static enum pg_outcome outcome_of(enum pg_failure failure)
{
    switch (failure) {
    case PG_FAILURE_UNREACHABLE:
    case PG_FAILURE_AUTHENTICATION:
        return PG_OUTCOME_UNREACHABLE;
    case PG_FAILURE_LOST:
        return PG_OUTCOME_LOST;
    case PG_FAILURE_COMMIT_UNKNOWN:
        return PG_OUTCOME_COMMIT_UNKNOWN;
    default:
        return PG_OUTCOME_FAILURE;
    }
}

int pg_transaction_fail(struct pg_transaction *tx, const struct pg_error *error)
{
    tx->first_error = *error;
    tx->state = PG_TRANSACTION_FAILED;
    pg_pool_count(tx->pool, outcome_of(error->failure));
    if (tx->connection)
        roll_back(tx);
    return -1;
}

int pg_transaction_fail_with(struct pg_transaction *tx, struct pg_error *error, enum pg_failure failure,
                             const char *message)
{
    pg_error_set(error, failure, "%s", message);
    return pg_transaction_fail(tx, error);
}

void pg_transaction_rollback(struct pg_transaction *tx)
{
    if (tx->state == PG_TRANSACTION_OPEN || tx->state == PG_TRANSACTION_INTERRUPTED) {
        pg_pool_count(tx->pool, tx->state == PG_TRANSACTION_OPEN ? PG_OUTCOME_ROLLBACK : PG_OUTCOME_FAILURE);
        roll_back(tx);
    }
    if (tx->state != PG_TRANSACTION_FAILED)
        tx->state = PG_TRANSACTION_ENDED;
}
