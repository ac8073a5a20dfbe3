/* sql_plan.h - what the server says of the statements of an SQL function: the types of their parameters, the columns of the
 * last one, and whether that fits the result that the function promises.
 *
 * Types are the server's inference, but for the reserved names, which are jsonb. They are kept: what DDL by others makes
 * of the same text later may be something else.
 *
 * Ownership: sql_plan_release() frees all. Threads: read-only once made.
 */
#ifndef CICADA_SQL_SQL_PLAN_H
#define CICADA_SQL_SQL_PLAN_H

#include <stdbool.h>

#include "runtime/base/err.h"
#include "runtime/postgres/postgres.h"
#include "runtime/sql/sql_text.h"
#include "runtime/sql/sql_types.h"

enum sql_result { SQL_RESULT_ROWS, SQL_RESULT_ROW, SQL_RESULT_VALUE, SQL_RESULT_NONE };

struct sql_plan {
    struct pg_description statements[SQL_STATEMENTS_MAX]; /* as those of the sql_text */
    int statement_count;
    bool needs_server; /* a column can't be encoded without its transaction */
};

enum sql_plan_outcome {
    SQL_PLAN_READY,
    SQL_PLAN_REJECTED, /* err: "line 2, column 7: ...", for the author; no place if types can't be looked up */
    SQL_PLAN_UNAVAILABLE, /* *error: the server could not say; worth asking again */
};

/* Asks about each statement, within the transaction, which may be read-only. Only READY needs a release. */
enum sql_plan_outcome sql_plan_make(const struct sql_text *text, enum sql_result result,
                                    struct sql_types *types, struct pg_transaction *tx,
                                    struct sql_plan *ret_plan, struct pg_error *error, struct err *err);
void sql_plan_release(struct sql_plan *plan);

/* The description of the statement whose rows are the answer. */
const struct pg_description *sql_plan_last(const struct sql_plan *plan);
/* Whether rows of these columns can be that result; NULL: they can, else why not, with the name it is about in *ret_name, or NULL there. */
const char *sql_plan_misfit(enum sql_result result, int column_count, const char *const *names,
                            const char **ret_name);

#endif
