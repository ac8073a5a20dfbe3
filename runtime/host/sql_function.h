/* sql_function.h - a function whose answers SQL statements make: prepared at the start, bound and run for each request.
 *
 * All statements run in order, in the invocation's transaction, and see the same parameters; the rows of the last one are the
 * answer, as the Function's `result` says. GET and HEAD run READ ONLY.
 *
 * Where nothing can refuse the answer after the commit (one statement that only reads, or that promises no result), COMMIT
 * travels with the statement: one round trip. Elsewhere the rows are looked at first.
 *
 * Threads: prepared by one, before it is invoked; invoked by many at once.
 */
#ifndef CICADA_HOST_SQL_FUNCTION_H
#define CICADA_HOST_SQL_FUNCTION_H

#include <stdatomic.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/host/invocation.h"
#include "runtime/host/spec.h"
#include "runtime/sql/sql_plan.h"
#include "runtime/sql/sql_text.h"
#include "runtime/sql/sql_types.h"

struct sql_function {
    const struct function_spec *spec; /* borrowed */
    struct sql_text text;
    struct sql_types *types;
    struct sql_plan plan;
    atomic_bool needs_transaction; /* a column's JSON needs the server, by the plan or by DDL since */
};

/* Reads the statements. ERR_INVALID: "line 2, column 7: ...". */
int sql_function_init(struct sql_function *self, const struct function_spec *spec,
                      struct err *err) MUST_CHECK;
void sql_function_release(struct sql_function *self); /* also one that is all zero */

/* One attempt to have the server prepare them. REJECTED: *err is for the author. UNAVAILABLE: *error. */
enum sql_plan_outcome sql_function_prepare(struct sql_function *self, struct pg_pool *pool,
                                           int64_t deadline_ms, struct pg_error *error, struct err *err);

extern const struct invoker_ops sql_function_ops; /* self: struct sql_function, prepared */

#endif
