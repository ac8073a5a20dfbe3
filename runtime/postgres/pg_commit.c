#include "runtime/postgres/pg_commit.h"

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/postgres/pg_batch.h"
#include "runtime/postgres/pg_error.h"

#define ASK_AGAIN_MIN_MS 10
#define ASK_AGAIN_MAX_MS 500

/* A standby may be behind: it does not count. */
#define STATUS_QUERY                                                                                         \
    "SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN "                                              \
    "pg_catalog.pg_xact_status($1::pg_catalog.xid8) END"

/* A backend that still waits for its next command never got the COMMIT. Ending it settles the matter, and frees its locks.
 * One that is at work is left alone: it may be committing. */
#define END_IDLE_QUERY                                                                                       \
    "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"                           \
    " WHERE backend_xid = $1::pg_catalog.xid8::pg_catalog.xid AND state LIKE 'idle in transaction%'"

enum xact_status { XACT_COMMITTED, XACT_ABORTED, XACT_IN_PROGRESS, XACT_UNKNOWN };

static enum xact_status parse_status(const PGresult *result)
{
    if (!result || pq.PQntuples(result) != 1 || pq.PQgetisnull(result, 0, 0))
        return XACT_UNKNOWN;
    const char *text = pq.PQgetvalue(result, 0, 0);
    if (strcmp(text, "committed") == 0)
        return XACT_COMMITTED;
    if (strcmp(text, "aborted") == 0)
        return XACT_ABORTED;
    return strcmp(text, "in progress") == 0 ? XACT_IN_PROGRESS : XACT_UNKNOWN;
}

/* False: this connection failed too. */
static bool ask(struct pg_connection *connection, const char *sql, const char *xid, int64_t deadline_ms,
                enum xact_status *ret_status)
{
    CLEANUP_PG_BATCH struct pg_batch batch;
    pg_batch_init(&batch, connection, deadline_ms);
    const char *params[] = {xid};
    pg_batch_command(&batch, PG_BATCH_STATEMENT, sql, 1, params);
    if (pg_batch_run(&batch) != PG_FLIGHT_OK) {
        connection->doubtful = true;
        return false;
    }
    *ret_status = parse_status(batch.results[PG_BATCH_STATEMENT]);
    return true;
}

/* Asks on one connection until it is known, the deadline passes or the connection fails. */
static bool ask_until_known(struct pg_pool *pool, struct pg_connection *connection, const char *xid,
                            int64_t deadline_ms, enum xact_status *ret_status)
{
    for (int64_t wait_ms = ASK_AGAIN_MIN_MS;; wait_ms *= 2) {
        if (!ask(connection, STATUS_QUERY, xid, deadline_ms, ret_status))
            return false;
        if (*ret_status != XACT_IN_PROGRESS)
            return true;
        enum xact_status ignored;
        if (!ask(connection, END_IDLE_QUERY, xid, deadline_ms, &ignored))
            return false;
        int left_ms = deadline_left_ms(deadline_ms);
        if (left_ms == 0)
            return true;
        if (wait_ms > ASK_AGAIN_MAX_MS)
            wait_ms = ASK_AGAIN_MAX_MS;
        (void)stop_wait(&pool->stop, left_ms > 0 && left_ms < wait_ms ? left_ms : wait_ms);
    }
}

int pg_commit_resolve(struct pg_pool *pool, const char *xid, int64_t deadline_ms, struct pg_error *error)
{
    enum xact_status status = XACT_UNKNOWN;
    bool known = false;
    while (!known && deadline_left_ms(deadline_ms) != 0) {
        struct pg_connection *connection;
        struct pg_error ignored;
        if (pg_pool_borrow(pool, deadline_ms, &connection, &ignored) < 0)
            break;
        known = ask_until_known(pool, connection, xid, deadline_ms, &status);
        pg_pool_return(pool, connection);
    }
    if (known && status == XACT_COMMITTED)
        return 0;
    if (known && status == XACT_ABORTED)
        pg_error_set(error, PG_FAILURE_LOST,
                     "the database connection was lost and the transaction rolled back");
    else
        pg_error_set(error, PG_FAILURE_COMMIT_UNKNOWN, "the database connection was lost during COMMIT");
    return -1;
}
