/* pg_batch.h - one flight of a transaction: the runtime's own commands around one statement of the function.
 *
 * Statements are prepared on first use and executed by name afterwards; a batch keeps the connection's list of prepared
 * statements true to what the server answered.
 *
 * Threads: none of its own; belongs to its transaction.
 */
#ifndef CICADA_POSTGRES_PG_BATCH_H
#define CICADA_POSTGRES_PG_BATCH_H

#include "runtime/postgres/pg_connection.h"
#include "runtime/postgres/pg_flight.h"
#include "runtime/postgres/pg_result.h"

#define PG_BATCH_STEPS_MAX 48

/* What a command is for: decides what its error means and whether its result is kept. */
enum pg_batch_role {
    PG_BATCH_CONTROL,
    PG_BATCH_STATEMENT,
    PG_BATCH_DESCRIBE,
    PG_BATCH_XID,
    PG_BATCH_COMMIT,
    PG_BATCH_ROLES
};

struct pg_batch {
    struct pg_connection *connection;
    struct pg_flight flight;
    int count;
    size_t result_max_bytes;
    pg_row_fn *each; /* STATEMENT's rows go there instead of into `result`; or NULL */
    void *each_arg;
    const int64_t *each_deadline_ms; /* read anew after each row */
    bool has_statement, rows_unwanted;
    bool is_lone;                /* the statement is a transaction by itself: no BEGIN, no COMMIT */
    bool statement_was_prepared; /* by an earlier batch */
    struct pg_result *result;    /* of STATEMENT, if it succeeded */
    PGresult *xid, *commit;      /* of XID and COMMIT, if they succeeded */
    PGresult *description;       /* of DESCRIBE, if it succeeded */
    PGresult *error;             /* the first that the server raised */
    enum pg_batch_role error_role;
    /* Last, because it is not to be cleared: `count` says how many there are. */
    struct {
        enum pg_batch_role role;
        unsigned prepares; /* number of the statement that this step prepares, or 0 */
    } steps[PG_BATCH_STEPS_MAX];
};

/* Nothing to release; before it is known whether there will be a connection. */
void pg_batch_clear(struct pg_batch *batch);
void pg_batch_init(struct pg_batch *batch, struct pg_connection *connection, int64_t deadline_ms);
void pg_batch_release(struct pg_batch *batch);
#define CLEANUP_PG_BATCH CLEANUP(pg_batch_release)

/* Sent as text, not prepared. */
void pg_batch_command(struct pg_batch *batch, enum pg_batch_role role, const char *sql, int param_count,
                      const char *const *params);
/* SET LOCAL, of a number. */
void pg_batch_set_local(struct pg_batch *batch, const char *name, int64_t value);
/* One of the runtime's own, prepared once per connection. */
void pg_batch_control(struct pg_batch *batch, enum pg_control control, const char *sql);
/* preparable: prepared once per connection. */
void pg_batch_statement(struct pg_batch *batch, enum pg_batch_role role, const struct pg_command *command,
                        bool preparable);
/* Asks for the types of parameters and columns, without running it. */
void pg_batch_describe(struct pg_batch *batch, const struct pg_command *command);
/* Forgets all prepared statements, here and on the server. */
void pg_batch_forget_statements(struct pg_batch *batch);
/* The results of what comes before are sent without waiting for the rest. */
void pg_batch_flush(struct pg_batch *batch);
void pg_batch_commit(struct pg_batch *batch);
/* Sends all and reads all. PG_FLIGHT_OK also if a command failed: see error. */
enum pg_flight_outcome pg_batch_run(struct pg_batch *batch) MUST_CHECK;

/* SQLSTATE of the error; "" if there is none. */
const char *pg_batch_sqlstate(const struct pg_batch *batch);

#endif
