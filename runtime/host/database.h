/* database.h - the database as one invocation sees it: its transaction, its last error, its results.
 *
 * Threads: the handler's thread owns it, but for database_cancel(), which any thread may call meanwhile.
 */
#ifndef CICADA_HOST_DATABASE_H
#define CICADA_HOST_DATABASE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/host/arena.h"
#include "runtime/postgres/postgres.h"
#include "runtime/sdk/cicada/function.h"

#define DATABASE_SQL_MAX_BYTES   (64u << 10)
#define DATABASE_PARAM_MAX_BYTES (64u << 20)

struct database {
    struct arena *arena;
    struct pg_pool *pool; /* NULL: the Function has none */
    int64_t deadline_ms;
    bool failed;           /* it can't be committed */
    bool commit_failed;    /* by database_commit() */
    bool ended;            /* before database_end(), which has nothing left to do */
    bool called_late;      /* after that */
    bool reading;          /* inside database_query_each() */
    bool read_only;        /* for the handler */
    bool reads_within;     /* only until the last statement of the runtime's own, by a savepoint */
    int savepoints;        /* of the handler's, open */
    int savepoints_before; /* a part of the transaction, which is open */
    atomic_bool committed; /* before the handler returned; any thread may read it */
    int runs;              /* of database_execute(), in this transaction */
    const struct pg_setting
        *settings; /* of each transaction; borrowed; NULL: none. Set after database_init() */
    int setting_count;
    struct pg_transaction *
        shared; /* its transaction is a part of this one, of which it is kept or undone; borrowed; NULL: it has one of its own. Set after
                    database_init() */
    struct pg_transaction
        *transaction;      /* guarded by mutex for others than the owner; NULL: no database, or none begun */
    bool cancelling;       /* guarded by mutex: another thread is inside pg_transaction_cancel() */
    struct pg_error error; /* of the first failure */
    pthread_mutex_t mutex;
    pthread_cond_t cancelled;
};

struct cicada_result {
    const struct cicada_calls *calls; /* first: the SDK reads it */
    const struct pg_result *rows;     /* freed with the transaction */
};

/* pool NULL: the Function has no database. */
void database_init(struct database *database, struct pg_pool *pool, struct arena *arena, int64_t deadline_ms);
void database_release(struct database *database); /* after database_end() */

/* A new transaction, after database_init() or database_end(); forgets an error. Takes no connection. */
void database_begin(struct database *database, bool read_only);
/* In a transaction that writes: it is READ ONLY for the handler, until database_end_with() or database_commit_with(), whose
 * statement may write. */
void database_read_within(struct database *database);
/* That ends: what comes may write. */
int database_read_no_more(struct database *database);
/* Ends the transaction: COMMIT if `commit`, else ROLLBACK. Without a statement so far both do nothing. On failure
 * database->error tells why. Results are gone afterwards. Of a part: keeps or undoes it. */
int database_end(struct database *database, bool commit);
/* The last statement, with COMMIT in the same flight; else as database_end(). */
int database_end_with(struct database *database, const char *sql, int param_count, const char *const *params);
/* Before database_end(), which comes all the same: the connection is given back, results stay, later calls are refused. */
int database_commit(struct database *database);
/* The same, with a last statement of the runtime's own. */
int database_commit_with(struct database *database, const char *sql, int param_count,
                         const char *const *params);
void database_roll_back(struct database *database);
/* A new deadline for what comes, by the owner. */
void database_prolong(struct database *database, int64_t deadline_ms);
/* The answer was given: the statement in progress need not go on. */
void database_cancel(struct database *database);

/* A statement of the runtime's own, with parameters as text. On failure database->error tells why, and the transaction is of
 * no further use. The result lives as long as the transaction. */
int database_run(struct database *database, const char *sql, int param_count, const char *const *params,
                 struct pg_result **ret_result);
/* The same with types, and, if `commit`, with COMMIT in the same flight: then the transaction has ended, whatever comes; ret_result
 * may be NULL, see pg_query_commit(). */
int database_execute(struct database *database, const struct pg_command *command, bool commit,
                     struct pg_result **ret_result);

/* The calls of the SDK. ret_result NULL: nobody reads the rows. */
int database_query(struct database *database, const struct cicada_calls *calls, const char *sql,
                   const struct cicada_param *params, size_t param_count, struct cicada_result **ret_result);
int database_query_each(struct database *database, const struct cicada_calls *calls, const char *sql,
                        const struct cicada_param *params, size_t param_count, cicada_row_fn *each,
                        void *arg);
int database_savepoint(struct database *database);
int database_savepoint_release(struct database *database);
int database_savepoint_rollback(struct database *database);

/* A part of the transaction, which is one of its own (postgres.h): for one event of several. settings: borrowed until it ends. */
int database_part_begin(struct database *database, const struct pg_setting *settings, int setting_count);
/* Undone, it takes an error of its own with it, which stays to be read. -1: the whole transaction has failed. */
int database_part_end(struct database *database, bool keep);
int32_t result_rows(const struct cicada_result *result);
int32_t result_columns(const struct cicada_result *result);
int64_t result_affected(const struct cicada_result *result);
int32_t result_column(const struct cicada_result *result, const char *name);
const char *result_column_name(const struct cicada_result *result, int32_t column);
const char *result_text(const struct cicada_result *result, int32_t row, int32_t column, size_t *ret_len);

#endif
