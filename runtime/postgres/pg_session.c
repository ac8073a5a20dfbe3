#include "runtime/postgres/pg_session.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/postgres/pg_batch.h"
#include "runtime/postgres/pg_error.h"
#include "runtime/postgres/pg_pool.h"

#define LOCK_TIMEOUT_MS    2000
#define READ_ONLY_SQLSTATE "25006"

struct pg_session {
    struct pg_connection *connection;
    const struct stop *stop;
    size_t result_max_bytes;
    bool lost;
    pg_session_heard_fn *heard; /* NULL: nobody wants to know */
    void *heard_arg;
    char *hint; /* NULL: none */
};

struct pg_session *pg_session_open(struct pg_pool *pool, const struct stop *stop, struct pg_error *error)
{
    struct err err = ERR_INIT;
    struct pg_outage outage;
    if (pq_api_load(pool->without_ldap, &err) != 0) {
        pg_error_set(error, PG_FAILURE_UNREACHABLE, "%s", err.msg);
        return NULL;
    }
    struct pg_connection *connection = pg_connection_open(pool->url, pool->application_name, pool->pooler,
                                                          pool->connect_timeout_ms, stop, &outage);
    if (!connection) {
        pg_error_set(error, outage.authentication ? PG_FAILURE_AUTHENTICATION : PG_FAILURE_UNREACHABLE,
                     "no connection: %s", outage.reason);
        return NULL;
    }
    struct pg_session *session = xcalloc(1, sizeof(*session));
    session->connection = connection;
    session->stop = stop;
    session->result_max_bytes = PG_RESULT_MAX_BYTES;
    return session;
}

void pg_session_close(struct pg_session *session)
{
    if (!session)
        return;
    pg_connection_close(session->connection);
    free(session->hint);
    free(session);
}

bool pg_session_is_lost(const struct pg_session *session)
{
    return session->lost;
}

void pg_session_set_result_max(struct pg_session *session, size_t max_bytes)
{
    session->result_max_bytes = max_bytes < PG_RESULT_MAX_BYTES ? max_bytes : PG_RESULT_MAX_BYTES;
}

bool pg_session_can_listen(const struct pg_session *session)
{
    return !session->connection->pooler;
}

static void describe_loss(struct pg_error *error, const struct pg_batch *batch,
                          enum pg_flight_outcome outcome)
{
    if (batch->error) /* the server's last word */
        pg_error_set_result(error, PG_FAILURE_LOST, batch->error);
    else
        pg_error_set(error, PG_FAILURE_LOST, "%s",
                     outcome == PG_FLIGHT_DEADLINE    ? "no answer in time"
                     : outcome == PG_FLIGHT_TOO_LARGE ? "the answer has too many bytes"
                                                      : "the connection was lost");
}

void pg_session_on_notification(struct pg_session *session, pg_session_heard_fn *heard, void *arg)
{
    session->heard = heard;
    session->heard_arg = arg;
}

const char *pg_session_hint(const struct pg_session *session)
{
    return session->hint ? session->hint : "";
}

static void keep_hint(struct pg_session *session, const PGresult *error)
{
    const char *hint = pq.PQresultErrorField(error, PG_DIAG_MESSAGE_HINT);
    free(session->hint);
    session->hint = xstrdup_or_null(hint);
}

/* The server gives up before we do: then it is the transaction that fails, and not the session. */
static void add_settings(struct pg_batch *batch, int64_t deadline_ms)
{
    int64_t left_ms = deadline_ms - clock_monotonic_ms();
    int64_t limit_ms = left_ms - left_ms / 4 > 1 ? left_ms - left_ms / 4 : 1;
    pg_batch_command(batch, PG_BATCH_CONTROL, "SET LOCAL synchronous_commit = off", 0, NULL);
    pg_batch_set_local(batch, "lock_timeout", limit_ms < LOCK_TIMEOUT_MS ? limit_ms : LOCK_TIMEOUT_MS);
    pg_batch_set_local(batch, "statement_timeout", limit_ms);
}

/* ROLLBACK, and nothing that was prepared is relied on: one of them may have been out of date. False: the session is of no further use. */
static bool roll_back(struct pg_session *session, int64_t deadline_ms)
{
    CLEANUP_PG_BATCH struct pg_batch batch;
    pg_batch_init(&batch, session->connection, deadline_ms);
    pg_batch_command(&batch, PG_BATCH_CONTROL, "ROLLBACK", 0, NULL);
    if (!session->connection->pooler)
        pg_batch_forget_statements(&batch);
    return pg_batch_run(&batch) == PG_FLIGHT_OK && !batch.error;
}

int pg_session_run(struct pg_session *session, const struct pg_command *commands, size_t count,
                   int64_t deadline_ms, struct pg_result **ret_result, struct pg_error *error)
{
    struct pg_connection *connection = session->connection;
    CLEANUP_PG_BATCH struct pg_batch batch;

    assert(count >= 1 && count <= PG_SESSION_COMMANDS_MAX);
    pg_batch_init(&batch, connection, deadline_ms);
    batch.result_max_bytes = session->result_max_bytes;
    if (session->lost) {
        pg_error_set(error, PG_FAILURE_LOST, "the connection was lost");
        return -1;
    }
    pg_batch_command(&batch, PG_BATCH_CONTROL, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", 0, NULL);
    add_settings(&batch, deadline_ms);
    for (size_t i = 0; i < count; i++)
        pg_batch_statement(&batch, i + 1 < count ? PG_BATCH_CONTROL : PG_BATCH_STATEMENT, &commands[i],
                           /* preparable= */ commands[i].param_count > 0);
    pg_batch_commit(&batch);
    enum pg_flight_outcome outcome = pg_batch_run(&batch);
    if (outcome != PG_FLIGHT_OK) {
        session->lost = true;
        describe_loss(error, &batch, outcome);
        return -1;
    }
    if (batch.error) {
        pg_error_set_result(error, PG_FAILURE_SQL, batch.error);
        keep_hint(session, batch.error);
        /* READ WRITE is refused by a standby: another server may have taken over. */
        session->lost = strcmp(error->sqlstate, READ_ONLY_SQLSTATE) == 0 || !roll_back(session, deadline_ms);
        return -1;
    }
    if (ret_result)
        *ret_result = steal_ptr(&batch.result);
    return 0;
}

/* Takes what has come; true if a notification was among it. */
static bool take_notifications(struct pg_session *session)
{
    PGconn *conn = session->connection->conn;
    PGnotify *notify;
    bool any = false;
    if (!pq.PQconsumeInput(conn)) {
        session->lost = true;
        return false;
    }
    while ((notify = pq.PQnotifies(conn)) != NULL) {
        if (session->heard)
            session->heard(session->heard_arg, notify->extra);
        pq.PQfreemem(notify);
        any = true;
    }
    return any;
}

bool pg_session_wait(struct pg_session *session, int wake_fd, int64_t deadline_ms)
{
    while (!session->lost) {
        if (take_notifications(session))
            return true;
        if (session->lost)
            break;
        struct pollfd fds[] = {
            {.fd = pq.PQsocket(session->connection->conn), .events = POLLIN},
            {.fd = wake_fd, .events = POLLIN},
            {.fd = stop_fd(session->stop), .events = POLLIN},
        };
        int ready = poll(fds, ARRAY_SIZE(fds), deadline_left_ms(deadline_ms));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0 || fds[1].revents != 0 || fds[2].revents != 0)
            return false;
    }
    return false;
}
