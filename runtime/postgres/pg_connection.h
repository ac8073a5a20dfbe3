/* pg_connection.h - one connection to the server: opened without blocking beyond a limit, set up, checked, closed.
 *
 * A connection stays in libpq's pipeline mode for life.
 *
 * Threads: one owner at a time. A connection's cancel handle is taken under the lock of the transaction that holds it.
 */
#ifndef CICADA_POSTGRES_PG_CONNECTION_H
#define CICADA_POSTGRES_PG_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/stop.h"
#include "runtime/postgres/pg_flight.h"
#include "runtime/postgres/pg_statements.h"
#include "runtime/postgres/pg_url.h"
#include "runtime/postgres/pq_api.h"

/* A transaction that must stay idle for longer (its deadline is farther away) raises the limit for itself. */
#define PG_IDLE_IN_TRANSACTION_MS ((int64_t)60000)
#define PG_TCP_USER_TIMEOUT_MS    ((int64_t)30000)

/* An expression whose text stays the same for as long as the server keeps its memory. After a crash, or on a standby that took over, it is
 * another: when the postmaster started, and the lowest pid of the server's own processes, which any crash ends. */
#define PG_SERVER_RUN_SQL                                                                                    \
    "pg_catalog.concat(pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()), ' ',"           \
    " (SELECT pg_catalog.min(pid) FROM pg_catalog.pg_stat_get_activity(NULL)"                                \
    " WHERE datid IS NULL AND usesysid IS NULL))"
#define PG_SERVER_RUN_SIZE 64

/* The runtime's own commands that begin a transaction: prepared by names of their own, beside the function's statements. To make
 * room among those takes a snapshot, after which BEGIN could not set the isolation level. */
enum pg_control {
    PG_CONTROL_BEGIN, /* the first of six: by isolation level and access mode */
    PG_CONTROL_TIMEOUT = PG_CONTROL_BEGIN + 6,
};

struct pg_connection {
    PGconn *conn;
    PGcancel *cancel;      /* NULL once taken */
    bool doubtful;         /* results or a cancel request may be under way: only good to be closed */
    bool session_changed;  /* works, but is not to be lent again */
    bool statements_stale; /* works, once all prepared statements are forgotten */
    bool pooler; /* each transaction may meet another session: nothing is set, prepared or compared */
    bool
        guards_reading; /* outside of BEGIN a statement can't write, and the server would tell if that were changed */
    int64_t
        lone_timeout_ms;   /* statement_timeout of the session, for statements outside of BEGIN; 0: not set */
    uint64_t session_hash; /* of the parameters that the server reports */
    bool run_asked;        /* pg_connection_learn_run() was called */
    char server_run
        [PG_SERVER_RUN_SIZE]; /* all through the session, which no crash survives; empty: not known */
    int64_t idle_since_ms;
    int64_t expires_ms; /* set by the pool */
    struct pg_statements statements;
    unsigned prepared_controls;  /* bits by enum pg_control */
    int64_t prepared_timeout_ms; /* of PG_CONTROL_TIMEOUT; 0: none yet */
    char prepared_timeout_sql[64];
    unsigned timeouts_prepared; /* so many names of it are used up */
    struct pg_connection *next; /* in the pool's list of idle ones */
};

/* Why no connection could be had. */
struct pg_outage {
    const char *reason; /* "refused", "timeout", "authentication"...: a literal */
    bool authentication;
};

/* After pq_api_load(). Tries the hosts in order, each for at most timeout_ms. NULL: *ret_outage says why. `stop` ends it early. */
struct pg_connection *pg_connection_open(const struct pg_url *url, const char *application_name, bool pooler,
                                         int64_t timeout_ms, const struct stop *stop,
                                         struct pg_outage *ret_outage);
void pg_connection_close(struct pg_connection *connection); /* NULL is fine; no round trip */

/* Asks once for the server's run, in a round trip, outside of a transaction; behind a pooler never. Where the server does not tell, the
 * outcome of a COMMIT whose answer is lost is known less often. */
enum pg_flight_outcome pg_connection_learn_run(struct pg_connection *connection,
                                               int64_t deadline_ms) MUST_CHECK;

/* Without a round trip: false if the server has closed it or said something that needs a new one. */
bool pg_connection_is_alive(struct pg_connection *connection);
/* The session is as it was after the set-up, as far as the server reports. */
bool pg_connection_is_unchanged(const struct pg_connection *connection);

#endif
