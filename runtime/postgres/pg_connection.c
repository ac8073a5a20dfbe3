#include "runtime/postgres/pg_connection.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_flight.h"

/* The first with pg_current_xact_id_if_assigned() and pg_xact_status(). */
#define SERVER_VERSION_MIN 130000

/* Set once per connection. What the server refuses is done without, together with its group, but for a group that is needed. */
static const struct session_setting {
    const char *command;
    bool ends_group;
    bool needed; /* the group that ends here */
} session_settings[] = {
    {"SET standard_conforming_strings = on", false, false}, /* the lexer relies on it */
    {"SET datestyle = ISO", false, false},                  /* the form JSON wants */
    {"SET default_transaction_read_only = on", true, true}, /* who wants to write says so: BEGIN READ WRITE */
    {"SET idle_in_transaction_session_timeout = 60000", false, false},
    {"SET tcp_keepalives_idle = 30", false, false},
    {"SET tcp_keepalives_interval = 10", false, false},
    {"SET tcp_keepalives_count = 3", false, false},
    {"SET tcp_user_timeout = 30000", true, false},
    {"SET client_connection_check_interval = 5000", true, false}, /* PostgreSQL 14, where it can tell */
};

/* Parameters that the server reports by itself when they change, and that a later invocation would notice. */
static const char *const reported_parameters[] = {
    "application_name", "client_encoding",       "DateStyle",
    "IntervalStyle",    "session_authorization", "standard_conforming_strings",
    "TimeZone",         "search_path",           "default_transaction_read_only", /* PostgreSQL 14 */
};

static uint64_t hash_session(const PGconn *conn)
{
    uint64_t hash = HASH_FNV1A_START;
    for (size_t i = 0; i < ARRAY_SIZE(reported_parameters); i++) {
        const char *value = pq.PQparameterStatus(conn, reported_parameters[i]);
        hash = hash_fnv1a(hash, value ? value : "", value ? strlen(value) + 1 : 1);
    }
    return hash;
}

static void ignore_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

/* SQLSTATE at the end of the last line, where PQERRORS_SQLSTATE puts it ("FATAL:  28P01"); libpq has no other way to tell. */
static bool message_sqlstate(const char *message, char ret_sqlstate[6])
{
    size_t len = strlen(message);
    while (len > 0 && isspace((unsigned char)message[len - 1]))
        len--;
    if (len < 7 || message[len - 6] != ' ')
        return false;
    for (size_t i = len - 5; i < len; i++) {
        if (!isdigit((unsigned char)message[i]) && !isupper((unsigned char)message[i]))
            return false;
    }
    (void)snprintf(ret_sqlstate, 6, "%.5s", message + len - 5);
    return true;
}

/* A word for people. Only `authentication` is decided upon, and that rests on the SQLSTATE. */
static struct pg_outage classify_failure(const PGconn *conn)
{
    static const struct {
        const char *sqlstate_start, *reason;
    } by_sqlstate[] = {
        {"28", "authentication"},
        {"3D000", "database_missing"},
        {"53300", "too_many_connections"},
        {"57P", "starting"}, /* or shutting down */
    };
    static const struct {
        const char *text, *reason;
    } by_text[] = {
        {"Connection refused", "refused"},
        {"No such file or directory", "refused"}, /* the Unix socket of a server that does not run */
        {"Connection timed out", "timeout"},
        {"could not translate host name", "name"},
        {"SSL", "tls"},
        {"certificate", "tls"},
        {"session is", "read_only"}, /* target_session_attrs not met */
        {"server is", "read_only"},
    };
    if (pq.PQconnectionNeedsPassword(conn))
        return (struct pg_outage){"authentication", true};
    const char *message = pq.PQerrorMessage(conn);
    char sqlstate[6];
    if (message_sqlstate(message, sqlstate)) {
        for (size_t i = 0; i < ARRAY_SIZE(by_sqlstate); i++) {
            if (str_starts_with(sqlstate, by_sqlstate[i].sqlstate_start))
                return (struct pg_outage){by_sqlstate[i].reason, i == 0};
        }
        return (struct pg_outage){"rejected", false};
    }
    for (size_t i = 0; i < ARRAY_SIZE(by_text); i++) {
        if (strstr(message, by_text[i].text))
            return (struct pg_outage){by_text[i].reason, false};
    }
    return (struct pg_outage){"unreachable", false};
}

/* Waits for what libpq asks for; false: time is up or `stop` was set. */
static bool wait_socket(PGconn *conn, short events, int64_t deadline_ms, const struct stop *stop)
{
    for (;;) {
        int left_ms = deadline_left_ms(deadline_ms);
        struct pollfd fds[] = {
            {.fd = pq.PQsocket(conn), .events = events},
            {.fd = stop_fd(stop), .events = POLLIN},
        };
        int ready = poll(fds, ARRAY_SIZE(fds), left_ms);
        if (ready < 0 && errno == EINTR)
            continue;
        return ready > 0 && fds[1].revents == 0;
    }
}

/* The socket part; reading host names may block inside libpq for as long as the resolver does. */
static PGconn *connect_host(const struct pg_url_params *params, bool remote_only, int64_t deadline_ms,
                            const struct stop *stop, struct pg_outage *ret_outage)
{
    *ret_outage = (struct pg_outage){"timeout", false};
    PGconn *conn = pq.PQconnectStartParams(params->keywords, params->values, /* expand_dbname= */ 0);
    if (!conn)
        return NULL;
    pq.PQsetErrorVerbosity(conn, PQERRORS_SQLSTATE);
    pq.PQsetNoticeReceiver(conn, ignore_notice, NULL);
    PostgresPollingStatusType status =
        pq.PQstatus(conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
    while (status == PGRES_POLLING_READING || status == PGRES_POLLING_WRITING) {
        short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (!wait_socket(conn, events, deadline_ms, stop)) {
            pq.PQfinish(conn);
            return NULL;
        }
        if (remote_only && pg_peer_is_near(pq.PQsocket(conn))) { /* no password was sent yet */
            *ret_outage = (struct pg_outage){"refused", false};
            pq.PQfinish(conn);
            return NULL;
        }
        status = pq.PQconnectPoll(conn);
    }
    if (status == PGRES_POLLING_OK && pq.PQserverVersion(conn) >= SERVER_VERSION_MIN)
        return conn;
    *ret_outage =
        status == PGRES_POLLING_OK ? (struct pg_outage){"server_too_old", false} : classify_failure(conn);
    pq.PQfinish(conn);
    return NULL;
}

/* All settings travel together, each group with its own Sync, so that a refused one does not take other groups along. They are SET
 * commands, because a server whose session is new looks up much before its first function and nothing before a SET. */
static bool set_up_session(PGconn *conn, int64_t deadline_ms)
{
    struct pg_flight flight;
    bool refused = false; /* one of the group */
    pg_flight_begin(&flight, conn, deadline_ms);
    for (size_t i = 0; i < ARRAY_SIZE(session_settings); i++) {
        pg_flight_query(&flight, session_settings[i].command, 0, NULL, NULL);
        if (session_settings[i].ends_group)
            pg_flight_sync(&flight);
    }
    for (size_t i = 0; i < ARRAY_SIZE(session_settings); i++) {
        CLEANUP_PGRESULT PGresult *result = NULL;
        if (pg_flight_next(&flight, &result) != PG_FLIGHT_OK)
            return false;
        refused = refused || pq.PQresultStatus(result) != PGRES_COMMAND_OK;
        if (!session_settings[i].ends_group)
            continue;
        if ((refused && session_settings[i].needed) || pg_flight_end(&flight) != PG_FLIGHT_OK)
            return false;
        refused = false;
    }
    return true;
}

static struct pg_connection *connection_new(PGconn *conn, bool pooler, int64_t deadline_ms)
{
    if (pq.PQsetnonblocking(conn, 1) != 0 || !pq.PQenterPipelineMode(conn))
        return NULL;
    struct pg_connection *connection = xcalloc(1, sizeof(*connection));
    connection->conn = conn;
    connection->pooler = pooler;
    if (!pooler && !set_up_session(conn, deadline_ms)) {
        free(connection);
        return NULL;
    }
    connection->cancel = pq.PQgetCancel(conn);
    connection->session_hash = hash_session(conn);
    connection->guards_reading =
        !pooler && str_equal_or_both_null("on", pq.PQparameterStatus(conn, "default_transaction_read_only"));
    connection->idle_since_ms = clock_monotonic_ms();
    return connection;
}

struct pg_connection *pg_connection_open(const struct pg_url *url, const char *application_name, bool pooler,
                                         int64_t timeout_ms, const struct stop *stop,
                                         struct pg_outage *ret_outage)
{
    *ret_outage = (struct pg_outage){"stopped", false};
    for (size_t i = 0; i < pg_url_host_count(url) && !stop_is_set(stop); i++) {
        struct pg_url_params params;
        pg_url_params(url, i, application_name, &params);
        int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
        PGconn *conn = connect_host(&params, pg_url_is_remote_only(url), deadline_ms, stop, ret_outage);
        if (!conn)
            continue;
        struct pg_connection *connection = connection_new(conn, pooler, deadline_ms);
        if (connection)
            return connection;
        pq.PQfinish(conn);
        *ret_outage = (struct pg_outage){"unreachable", false};
    }
    return NULL;
}

void pg_connection_close(struct pg_connection *connection)
{
    if (!connection)
        return;
    if (connection->cancel)
        pq.PQfreeCancel(connection->cancel);
    pq.PQfinish(connection->conn);
    pg_statements_clear(&connection->statements);
    free(connection);
}

enum pg_flight_outcome pg_connection_learn_run(struct pg_connection *connection, int64_t deadline_ms)
{
    struct pg_flight flight;
    CLEANUP_PGRESULT PGresult *result = NULL;
    if (connection->pooler || connection->run_asked)
        return PG_FLIGHT_OK;
    pg_flight_begin(&flight, connection->conn, deadline_ms);
    pg_flight_query(&flight, "SELECT " PG_SERVER_RUN_SQL, 0, NULL, NULL);
    pg_flight_sync(&flight);
    enum pg_flight_outcome outcome = pg_flight_next(&flight, &result);
    if (outcome == PG_FLIGHT_OK)
        outcome = pg_flight_end(&flight);
    connection->run_asked = true;
    if (outcome == PG_FLIGHT_OK && pq.PQresultStatus(result) == PGRES_TUPLES_OK && pq.PQntuples(result) == 1)
        (void)snprintf(connection->server_run, sizeof(connection->server_run), "%s",
                       pq.PQgetvalue(result, 0, 0));
    return outcome;
}

bool pg_connection_is_alive(struct pg_connection *connection)
{
    struct pollfd fd = {.fd = pq.PQsocket(connection->conn), .events = POLLIN};
    /* Notices and changed parameters may wait there; an end of file stays readable. */
    for (int attempt = 0; attempt < 3; attempt++) {
        if (poll(&fd, 1, 0) == 0)
            return pq.PQstatus(connection->conn) == CONNECTION_OK;
        if (!pq.PQconsumeInput(connection->conn))
            return false;
        (void)pq.PQisBusy(connection->conn); /* takes in what was read */
    }
    return false;
}

bool pg_connection_is_unchanged(const struct pg_connection *connection)
{
    return connection->pooler || hash_session(connection->conn) == connection->session_hash;
}
