/* pg_flight.h - commands that travel to the server together, and their results in order.
 *
 * A flight is a libpq pipeline that ends in one Sync: begin, send commands, finish, then take one result per command. After
 * an error the server skips the rest of the flight (status PGRES_PIPELINE_ABORTED). Nothing blocks beyond the deadline:
 * the socket is non-blocking, and sending also reads, so that two full buffers can't wait for each other.
 *
 * After any outcome but PG_FLIGHT_OK the connection is of no further use, since results are still under way.
 *
 * Threads: none of its own; belongs to its connection.
 */
#ifndef CICADA_POSTGRES_PG_FLIGHT_H
#define CICADA_POSTGRES_PG_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/mem.h"
#include "runtime/postgres/pq_api.h"

enum pg_flight_outcome {
    PG_FLIGHT_OK,
    PG_FLIGHT_LOST,
    PG_FLIGHT_DEADLINE,
    PG_FLIGHT_TOO_LARGE, /* more rows than a result may hold */
    PG_FLIGHT_STOPPED,   /* who reads the rows wants no more */
};

struct pg_flight {
    PGconn *conn;
    int64_t deadline_ms;
    bool broken; /* a command could not be handed over: the connection is dead */
};

void pg_flight_begin(struct pg_flight *flight, PGconn *conn, int64_t deadline_ms);
/* params: text, NULL = SQL NULL. param_types: OIDs, 0 or no array at all: the server's inference. */
void pg_flight_query(struct pg_flight *flight, const char *sql, int param_count, const unsigned *param_types,
                     const char *const *params);
void pg_flight_prepare(struct pg_flight *flight, const char *name, const char *sql, int param_count,
                       const unsigned *param_types);
void pg_flight_execute(struct pg_flight *flight, const char *name, int param_count,
                       const char *const *params);
void pg_flight_describe(struct pg_flight *flight, const char *name);
/* The results so far shall be sent before the next command runs. */
void pg_flight_flush(struct pg_flight *flight);
void pg_flight_sync(struct pg_flight *flight);

/* The rows of the next command come one by one: each as a result of status PGRES_SINGLE_TUPLE, then one that ends them. */
void pg_flight_single_rows(struct pg_flight *flight);
/* The next result. The caller clears it. */
enum pg_flight_outcome pg_flight_next(struct pg_flight *flight, PGresult **ret_result) MUST_CHECK;
/* Takes the result of the Sync, after which the transaction status is known. */
enum pg_flight_outcome pg_flight_end(struct pg_flight *flight) MUST_CHECK;

/* What an error result tells about the connection. */
enum pg_error_origin {
    PG_ERROR_SERVER,       /* of one command; the connection works on */
    PG_ERROR_SERVER_FATAL, /* the server's last word */
    PG_ERROR_LIBPQ,        /* made up by libpq because the connection broke: says nothing about any command */
};
enum pg_error_origin pg_flight_error_origin(const PGresult *result);

static inline void pg_flight_clear_p(PGresult **result)
{
    if (*result)
        pq.PQclear(*result);
}
#define CLEANUP_PGRESULT CLEANUP(pg_flight_clear_p)

#endif
