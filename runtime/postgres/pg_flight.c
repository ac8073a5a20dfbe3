#include "runtime/postgres/pg_flight.h"

#include <errno.h>
#include <poll.h>

#include "runtime/base/clock.h"

/* With TLS, decrypted bytes may wait inside OpenSSL while the socket is silent: never sleep longer than this then. */
#define TLS_POLL_MS 20

void pg_flight_begin(struct pg_flight *flight, PGconn *conn, int64_t deadline_ms)
{
    *flight = (struct pg_flight){.conn = conn, .deadline_ms = deadline_ms};
}

void pg_flight_query(struct pg_flight *flight, const char *sql, int param_count, const unsigned *param_types,
                     const char *const *params)
{
    if (!pq.PQsendQueryParams(flight->conn, sql, param_count, param_types, params, NULL, NULL, /* text */ 0))
        flight->broken = true;
}

void pg_flight_prepare(struct pg_flight *flight, const char *name, const char *sql, int param_count,
                       const unsigned *param_types)
{
    if (!pq.PQsendPrepare(flight->conn, name, sql, param_types ? param_count : 0, param_types))
        flight->broken = true;
}

void pg_flight_execute(struct pg_flight *flight, const char *name, int param_count, const char *const *params)
{
    if (!pq.PQsendQueryPrepared(flight->conn, name, param_count, params, NULL, NULL, /* text */ 0))
        flight->broken = true;
}

void pg_flight_describe(struct pg_flight *flight, const char *name)
{
    if (!pq.PQsendDescribePrepared(flight->conn, name))
        flight->broken = true;
}

void pg_flight_flush(struct pg_flight *flight)
{
    if (!pq.PQsendFlushRequest(flight->conn))
        flight->broken = true;
}

void pg_flight_single_rows(struct pg_flight *flight)
{
    (void)pq.PQsetSingleRowMode(flight->conn); /* fails for a command that the server skips */
}

void pg_flight_sync(struct pg_flight *flight)
{
    if (!pq.PQpipelineSync(flight->conn))
        flight->broken = true;
}

static int poll_slice_ms(const struct pg_flight *flight, int left_ms)
{
    if (!pq.PQsslInUse(flight->conn))
        return left_ms;
    return left_ms < 0 || left_ms > TLS_POLL_MS ? TLS_POLL_MS : left_ms;
}

/* Until PQgetResult() does not block. */
static enum pg_flight_outcome wait_result(struct pg_flight *flight)
{
    if (flight->broken)
        return PG_FLIGHT_LOST;
    while (pq.PQisBusy(flight->conn)) {
        int unsent = pq.PQflush(flight->conn);
        int left_ms = deadline_left_ms(flight->deadline_ms);
        if (unsent < 0)
            return PG_FLIGHT_LOST;
        if (left_ms == 0)
            return PG_FLIGHT_DEADLINE;
        struct pollfd fd = {.fd = pq.PQsocket(flight->conn), .events = POLLIN};
        if (unsent > 0)
            fd.events |= POLLOUT;
        if (poll(&fd, 1, poll_slice_ms(flight, left_ms)) < 0 && errno != EINTR)
            return PG_FLIGHT_LOST;
        /* What the server said before it closed the connection is still there to be read. */
        if (!pq.PQconsumeInput(flight->conn) && pq.PQisBusy(flight->conn))
            return PG_FLIGHT_LOST;
    }
    return PG_FLIGHT_OK;
}

enum pg_flight_outcome pg_flight_next(struct pg_flight *flight, PGresult **ret_result)
{
    enum pg_flight_outcome outcome = wait_result(flight);
    if (outcome != PG_FLIGHT_OK)
        return outcome;
    PGresult *result = pq.PQgetResult(flight->conn);
    if (!result)
        return PG_FLIGHT_LOST; /* nothing is under way: libpq has given up the connection */
    /* A NULL follows the last result of a command (never waited for), but not the Sync. */
    ExecStatusType status = pq.PQresultStatus(result);
    if (status != PGRES_SINGLE_TUPLE && status != PGRES_PIPELINE_SYNC) {
        PGresult *end = pq.PQisBusy(flight->conn) ? NULL : pq.PQgetResult(flight->conn);
        if (end)
            pq.PQclear(end);
    }
    *ret_result = result;
    return PG_FLIGHT_OK;
}

enum pg_flight_outcome pg_flight_end(struct pg_flight *flight)
{
    PGresult *result;
    enum pg_flight_outcome outcome = pg_flight_next(flight, &result);
    if (outcome != PG_FLIGHT_OK)
        return outcome;
    ExecStatusType status = pq.PQresultStatus(result);
    pq.PQclear(result);
    return status == PGRES_PIPELINE_SYNC ? PG_FLIGHT_OK : PG_FLIGHT_LOST;
}

enum pg_error_origin pg_flight_error_origin(const PGresult *result)
{
    const char *severity = pq.PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (!severity)
        return PG_ERROR_LIBPQ;
    return strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0 ? PG_ERROR_SERVER_FATAL
                                                                            : PG_ERROR_SERVER;
}
