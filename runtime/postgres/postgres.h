/* postgres.h - connections to the function's database and the one transaction of an invocation.
 *
 * libpq is loaded (dlopen "libpq.so.5") the first time a pool is started, beside the rest of the start, because linking it
 * doubles the time to start. Connections are opened lazily, off the request path, by the pool's own thread.
 *
 * A transaction belongs to one invocation: it begins with the first statement, and ends with
 * pg_transaction_commit() or _rollback(). COMMIT is checked: PQTRANS_INTRANS before, command tag COMMIT after; a
 * connection that died after COMMIT was sent is resolved by pg_xact_status() on another connection within the deadline.
 *
 * Threads: a pool is used by many threads; a transaction by one at a time.
 */
#ifndef CICADA_POSTGRES_POSTGRES_H
#define CICADA_POSTGRES_POSTGRES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct pg_pool;
struct pg_transaction;
struct pg_result;
struct pg_error;

enum pg_isolation { PG_READ_COMMITTED, PG_REPEATABLE_READ, PG_SERIALIZABLE };

/* A statement or COMMIT that took long; borrowed for the call. */
struct pg_slow_statement {
    const char *sql;              /* as it was given: $1, not its value */
    int64_t took_us;              /* without the wait for a connection */
    int64_t rows;                 /* returned, or affected */
    const struct pg_error *error; /* NULL: it succeeded */
};
/* On the thread that ran it. */
typedef void pg_slow_statement_fn(const struct pg_slow_statement *slow);

struct pg_pool_settings {
    const char *url; /* libpq URI or key=value list; checked against an allow-list of keys */
    int size;        /* most connections at once */
    enum pg_isolation isolation;
    bool
        pooler; /* PgBouncer in transaction mode is in between: nothing is left in a session, nothing relied on */
    /* libldap may be left out when libpq is loaded, which halves that: no other code of this process loads a library that needs it. */
    bool without_ldap;
    /* Hosts that are this machine or its link (loopback, link-local, Unix sockets), by whatever name, are refused: the URL is a stranger's. */
    bool remote_only;
    int64_t connect_timeout_ms;
    const char *application_name;            /* "cicada shop/create-order" */
    int64_t slow_statement_ms;               /* what takes as long is told to: */
    pg_slow_statement_fn *on_slow_statement; /* NULL: nobody */
};

/* What a failed database call was. Beside err.code: INVALID (statement refused), UNAVAILABLE, TIMEOUT, INTERNAL. */
enum pg_failure {
    PG_FAILURE_NONE,
    PG_FAILURE_SQL,            /* the server raised an error: sqlstate is set */
    PG_FAILURE_REFUSED,        /* transaction control, COPY, session SET... refused before it was sent */
    PG_FAILURE_UNREACHABLE,    /* no connection could be had */
    PG_FAILURE_AUTHENTICATION, /* the server rejected the password or role (28xxx) */
    PG_FAILURE_LOST,           /* the connection died before COMMIT was sent: nothing was written */
    PG_FAILURE_DEADLINE,       /* the invocation's deadline passed */
    PG_FAILURE_NOT_COMMITTED,  /* status before COMMIT was not INTRANS, or COMMIT's tag was not COMMIT */
    PG_FAILURE_TOO_LARGE,      /* the result has more bytes than it may have */
    PG_FAILURE_COMMIT_UNKNOWN, /* died after COMMIT was sent and its outcome could not be learned */
};
struct pg_error {
    enum pg_failure failure;
    char sqlstate[6];
    char message[256];   /* primary message of the server, without values (no DETAIL) */
    char constraint[64]; /* constraint_name, if any */
    int position;        /* where in the statement, in characters from 1; 0: not said */
    int parameter;       /* n of the $n whose value was refused; 0: none, or not said */
    bool busy;           /* all connections were lent: none was had in time */
    bool stale;          /* a prepared statement was out of date, after DDL or DISCARD by others */
    bool at_commit;      /* raised by COMMIT itself, not by the statement that came with it */
};

/* None. Without clearing the room for texts. */
static inline void pg_error_clear(struct pg_error *error)
{
    error->failure = PG_FAILURE_NONE;
    error->sqlstate[0] = error->message[0] = error->constraint[0] = '\0';
    error->position = error->parameter = 0;
    error->busy = error->stale = error->at_commit = false;
}

int pg_pool_new(const struct pg_pool_settings *settings, struct pg_pool **ret_pool, struct err *err)
    __attribute__((warn_unused_result));  /* ERR_INVALID: the URL; does not connect yet */
void pg_pool_start(struct pg_pool *pool); /* begins to load libpq and open the first connection in a thread */
/* Ends the thread that connects; nothing can be borrowed any more. False: it still hangs at the deadline (libpq resolves names
 * without a time limit), and the pool must not be freed. NULL is fine, also for pg_pool_free(). */
bool pg_pool_stop(struct pg_pool *pool, int64_t deadline_ms) __attribute__((warn_unused_result));
void pg_pool_free(struct pg_pool *pool); /* no transaction may be left; waits for that thread */

struct pg_pool_stats {
    int open, idle, lent, waiting;
    int64_t connects, connect_failures;
    int64_t first_connect_us; /* clock_monotonic_us() of the first; 0: none yet */
    /* How transactions ended; each that had a statement is in one of them. */
    int64_t commits, rollbacks;
    int64_t failures;       /* by an error, or the deadline */
    int64_t unreachable;    /* no connection could be had */
    int64_t lost;           /* the connection died, and nothing was written */
    int64_t commit_unknown; /* the connection died, and nobody knows */
};
void pg_pool_stats(struct pg_pool *pool, struct pg_pool_stats *ret);
/* The last connection failure while none is open: "refused", "timeout", "authentication", ...; NULL if fine or not tried. */
const char *pg_pool_outage(struct pg_pool *pool);
/* True while the server rejects the password or role and no connection is open; the host exits so that its restart reads the
 * Secret anew. */
bool pg_pool_authentication_failed(struct pg_pool *pool);

/* No connection is taken before the first statement. deadline_ms: monotonic, of the whole invocation. */
struct pg_transaction *pg_transaction_new(struct pg_pool *pool, bool read_only, int64_t deadline_ms);
/* Rolls back if still open; gives the connection back (or closes it if its state is doubtful). NULL is fine. */
void pg_transaction_free(struct pg_transaction *tx);
/* Instead of the pool's; before the first statement. */
void pg_transaction_set_isolation(struct pg_transaction *tx, enum pg_isolation isolation);
bool pg_transaction_used(const struct pg_transaction *tx); /* a statement was sent */
/* Another part may begin: it has neither ended nor failed, and no part has left anything to those after it (SET LOCAL, a temporary
 * table; what functions of the database do is not seen). */
bool pg_transaction_is_open(const struct pg_transaction *tx);
/* A parameter of the server that is set for one transaction (SET LOCAL). */
struct pg_setting {
    const char *name;
    const char *value; /* letters, digits, '.', '_' and '-' only */
};
#define PG_TRANSACTION_SETTINGS_MAX 2
/* Sent with BEGIN, before the first statement; borrowed until then. */
void pg_transaction_set_local(struct pg_transaction *tx, const struct pg_setting *settings, int count);

/* A statement with its parameters. One text is always given with the same types. */
struct pg_command {
    const char *sql;
    int param_count;
    const char *const *params;   /* text; NULL = SQL NULL */
    const unsigned *param_types; /* OIDs, 0: the server infers it; NULL: all of them */
};

/* One statement, $1.. parameters as text (NULL = SQL NULL), prepared and cached per connection. BEGIN (with isolation and
 * statement_timeout) travels in the same flight as the first statement. After an error the transaction is failed: every
 * later call returns the first error again. *ret_result: freed by the caller, or with the transaction. */
int pg_query(struct pg_transaction *tx, const char *sql, int param_count, const char *const *params,
             struct pg_result **ret_result, struct pg_error *error) __attribute__((warn_unused_result));
/* The last statement, with COMMIT in the same flight: a transaction of one statement takes one round trip. 0: committed, and
 * the transaction has ended. -1: as from pg_query() or pg_transaction_commit(). ret_result NULL: nobody needs the rows, so that
 * losing them with the connection is no failure. */
int pg_query_commit(struct pg_transaction *tx, const char *sql, int param_count, const char *const *params,
                    struct pg_result **ret_result, struct pg_error *error)
    __attribute__((warn_unused_result));
/* The same two for parameters of fixed types: what the server infers after DDL by others may be something else. */
int pg_run(struct pg_transaction *tx, const struct pg_command *command, struct pg_result **ret_result,
           struct pg_error *error) __attribute__((warn_unused_result));
int pg_run_commit(struct pg_transaction *tx, const struct pg_command *command, struct pg_result **ret_result,
                  struct pg_error *error) __attribute__((warn_unused_result));

/* Rows one by one, as they come: at most one is in memory. `each` gets a result of one row that is valid during the call, and must
 * not use the transaction; -1 ends the reading, and the transaction with it (REFUSED). The server sets no limit to the time
 * that such a statement takes: it waits for the reader. The deadline holds for each row, and `each` may move it. */
typedef int pg_row_fn(void *arg, const struct pg_result *row);
int pg_query_each(struct pg_transaction *tx, const char *sql, int param_count, const char *const *params,
                  pg_row_fn *each, void *arg, struct pg_error *error) __attribute__((warn_unused_result));
void pg_transaction_set_deadline(struct pg_transaction *tx, int64_t deadline_ms); /* of what comes */

/* What a statement takes and gives, without running it: prepared by the server, in this transaction. Types are OIDs;
 * params of the command is not looked at. */
struct pg_description {
    int param_count;
    unsigned *param_types;
    int column_count; /* 0: no rows */
    char **column_names;
    unsigned *column_types;
};
int pg_describe(struct pg_transaction *tx, const struct pg_command *command,
                struct pg_description *ret_description, struct pg_error *error)
    __attribute__((warn_unused_result));
void pg_description_release(struct pg_description *description);

/* Results from now on have at most this many bytes (64 MiB unless said); more is TOO_LARGE. */
void pg_transaction_limit_result(struct pg_transaction *tx, size_t max_bytes);
/* All there are, which nobody uses any more; results from now on have the limit that they had first. */
void pg_transaction_free_results(struct pg_transaction *tx);

/* Savepoints, nested at most PG_SAVEPOINTS_MAX deep; the calls mean the innermost. While one is open, an error that the server
 * raises for a statement (PG_FAILURE_SQL) can be taken back: every call returns it until pg_savepoint_rollback(), and the
 * transaction is as it was when the savepoint was set. Setting and releasing take no round trip of their own. */
#define PG_SAVEPOINTS_MAX 16
int pg_savepoint(struct pg_transaction *tx, struct pg_error *error) __attribute__((warn_unused_result));
/* The transaction is READ ONLY until this one is released or rolled back: the server restores what was before. */
int pg_savepoint_read_only(struct pg_transaction *tx, struct pg_error *error)
    __attribute__((warn_unused_result));
int pg_savepoint_release(struct pg_transaction *tx, struct pg_error *error)
    __attribute__((warn_unused_result));
int pg_savepoint_rollback(struct pg_transaction *tx, struct pg_error *error)
    __attribute__((warn_unused_result));

/* Parts of one transaction, one after the other, each of which is kept or undone by itself: behind a savepoint that the part's own
 * savepoints never reach. Beginning and keeping one take no round trip of their own; one that sends no statement costs nothing.
 * settings: set for this part, borrowed until it ends. An error that the server raised for a statement is the part's alone;
 * any other is that of the whole transaction. The results of a part stay, as all of the transaction do. */
int pg_part_begin(struct pg_transaction *tx, const struct pg_setting *settings, int setting_count,
                  struct pg_error *error) __attribute__((warn_unused_result));
/* Undoing never fails where the transaction goes on: -1 tells that it does not. */
int pg_part_end(struct pg_transaction *tx, bool keep, struct pg_error *error)
    __attribute__((warn_unused_result));

int pg_transaction_commit(struct pg_transaction *tx, struct pg_error *error)
    __attribute__((warn_unused_result));
void pg_transaction_rollback(struct pg_transaction *tx);
/* Another thread asks the statement in progress to be cancelled (the answer 504 was sent already); later calls fail with
 * DEADLINE. Nothing happens once COMMIT was sent, unless the transaction is read-only. The transaction must not be freed meanwhile. */
void pg_transaction_cancel(struct pg_transaction *tx);

int pg_result_rows(const struct pg_result *result);
int pg_result_columns(const struct pg_result *result);
int64_t pg_result_affected(const struct pg_result *result); /* 0 if none */
const char *pg_result_column_name(const struct pg_result *result, int column);
unsigned pg_result_column_type(const struct pg_result *result, int column); /* OID */
int pg_result_column(const struct pg_result *result, const char *name);     /* -1: absent */
bool pg_result_is_null(const struct pg_result *result, int row, int column);
const char *pg_result_value(const struct pg_result *result, int row, int column,
                            size_t *ret_len); /* text form */
/* The same for who can't be sure of the answer, since the owner of a database may put functions of his own in the place of ours. What is
 * NULL or not there is "", 0 and false; so is what is no number or no truth value. */
const char *pg_result_text(const struct pg_result *result, int row, int column);
int64_t pg_result_int64(const struct pg_result *result, int row, int column);
bool pg_result_bool(const struct pg_result *result, int row, int column);
void pg_result_free(struct pg_result *result);
static inline void pg_result_free_p(struct pg_result **result)
{
    pg_result_free(*result);
}
#define CLEANUP_PG_RESULT CLEANUP(pg_result_free_p)

/* By the libcrypto that libpq brings along, which is in memory once a pool was started. false: this libpq has none. */
#define PG_SHA256_BYTES 32
bool pg_sha256(const void *data, size_t len, unsigned char ret_digest[PG_SHA256_BYTES]);

/* HTTP status for a failure, and a stable code such as "unique_violation", "database_unreachable", "commit_unknown". */
int pg_error_http_status(const struct pg_error *error);
const char *pg_error_code(const struct pg_error *error);

#endif
