/* pg_transaction.h - a transaction from inside, shared by its files:
 *
 *     pg_transaction.c   its life: connection, cancellation, failure, rollback
 *     pg_query.c         statements: BEGIN with the first, errors, stale plans
 *     pg_savepoint.c     savepoints, which make an error one that can be taken back
 *     pg_commit.c        COMMIT, and what became of one whose answer was lost
 */
#ifndef CICADA_POSTGRES_PG_TRANSACTION_H
#define CICADA_POSTGRES_PG_TRANSACTION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/postgres/pg_batch.h"
#include "runtime/postgres/pg_pool.h"
#include "runtime/postgres/postgres.h"

#define PG_XID_SIZE 24 /* a 64-bit number as text */

/* The server gives up this much before the deadline (but at most a tenth of what is left), so that its answer still arrives
 * and the connection need not be thrown away. */
#define PG_SERVER_MARGIN_MS ((int64_t)100)

/* What a savepoint or a part needs of the server next; it travels with the next statement. */
struct pg_savepoint_command {
    enum pg_savepoint_verb {
        PG_SAVEPOINT_SET,
        PG_SAVEPOINT_SET_READ_ONLY, /* and what comes inside it is */
        PG_SAVEPOINT_RELEASE,
        PG_SAVEPOINT_SETTING,
    } verb;
    int number; /* of the savepoint, or of the part's setting */
};
/* Before the first statement there is nothing but savepoints to be set, and the settings of a part. */
#define PG_SAVEPOINT_COMMANDS_MAX (PG_SAVEPOINTS_MAX + PG_TRANSACTION_SETTINGS_MAX)

enum pg_transaction_state {
    PG_TRANSACTION_NEW,
    PG_TRANSACTION_OPEN,
    PG_TRANSACTION_INTERRUPTED, /* by an error inside a savepoint, until that is rolled back */
    PG_TRANSACTION_FAILED,
    PG_TRANSACTION_ENDED
};

struct pg_transaction {
    struct pg_pool *pool;
    bool read_only;
    enum pg_isolation isolation;
    int64_t deadline_ms;
    int64_t statement_timeout_ms; /* of the server, once it began; 0: none */
    size_t result_max_bytes;
    enum pg_transaction_state state;
    bool used;
    bool changed;                      /* by a statement that leaves something behind until its end */
    const struct pg_setting *settings; /* to be set when it begins; borrowed */
    int setting_count;
    struct pg_error first_error;            /* in PG_TRANSACTION_FAILED and _INTERRUPTED */
    int savepoints;                         /* open: 1 to this number */
    int part;                               /* the part's own savepoint; 0: there is no part */
    const struct pg_setting *part_settings; /* borrowed */
    struct pg_savepoint_command unsent[PG_SAVEPOINT_COMMANDS_MAX];
    int unsent_count;
    bool xid_asked;        /* the server was asked for the transaction's id after the last statement... */
    char xid[PG_XID_SIZE]; /* ...and said this; empty: none, nothing was written */
    char server_run[PG_SERVER_RUN_SIZE]; /* in which the transaction has its id */
    struct pg_result *results;
    size_t results_bytes; /* of all of them */

    pthread_mutex_t lock; /* against pg_transaction_cancel(); guards the rest, and connection->cancel */
    struct pg_connection *connection; /* NULL but while the state is OPEN */
    bool cancelled;
    bool committing; /* a COMMIT was sent: it must not be cancelled */
};

/* 0: the transaction may go on. -1: it has failed, ended, or run out of time. */
int pg_transaction_check(struct pg_transaction *tx, struct pg_error *error) MUST_CHECK;
int64_t pg_transaction_left_ms(const struct pg_transaction *tx); /* <= 0: none; INT64_MAX: no limit */

int pg_transaction_take_connection(struct pg_transaction *tx, struct pg_error *error) MUST_CHECK;
void pg_transaction_give_back(struct pg_transaction *tx);
/* Keeps the error for every later call, rolls back at once and gives the connection to others. Returns -1. */
int pg_transaction_fail(struct pg_transaction *tx, const struct pg_error *error);
int pg_transaction_fail_with(struct pg_transaction *tx, struct pg_error *error, enum pg_failure failure,
                             const char *message);
/* For the owner when the deadline has passed: asks the server to stop, whatever it does; the connection is of no further use. */
void pg_transaction_abandon(struct pg_transaction *tx);

/* pg_savepoint.c: what is to be done before the next statement; done with it, if the statement's batch was answered. */
void pg_savepoint_add_unsent(const struct pg_transaction *tx, struct pg_batch *batch);

/* pg_query.c: fails the transaction for what went wrong in a batch. Returns -1. */
int pg_query_fail(struct pg_transaction *tx, const struct pg_batch *batch, enum pg_flight_outcome outcome,
                  struct pg_error *error);

/* pg_commit.c: keeps the transaction id that came with a batch. */
void pg_commit_keep_xid(struct pg_transaction *tx, const PGresult *xid);
void pg_commit_begin(struct pg_transaction *tx); /* from now on nobody cancels */
/* Ends the transaction by the outcome of a batch that held COMMIT. */
int pg_commit_finish(struct pg_transaction *tx, const struct pg_batch *batch, enum pg_flight_outcome outcome,
                     struct pg_error *error) MUST_CHECK;

#endif
