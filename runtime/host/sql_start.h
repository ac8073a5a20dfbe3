/* sql_start.h - the start of an SQL function: its statements are prepared on a thread of their own, beside the rest of the
 * start, and again and again while the database is away.
 *
 * Threads: one owner; the fd is polled by it.
 */
#ifndef CICADA_HOST_SQL_START_H
#define CICADA_HOST_SQL_START_H

#include "runtime/host/lifecycle.h"
#include "runtime/host/sql_function.h"

struct sql_start;

enum sql_start_outcome {
    SQL_START_READY,
    SQL_START_REJECTED,       /* err: for the author */
    SQL_START_AUTHENTICATION, /* the server rejects the role or its password */
};

/* `pool` was started. While the database is away, `lifecycle` says so. Both, and the function, live until sql_start_end()
 * returned true, or as long as the process. */
struct sql_start *sql_start_begin(struct sql_function *function, struct pg_pool *pool,
                                  struct lifecycle *lifecycle);
int sql_start_fd(const struct sql_start *start); /* readable once there is an outcome */
enum sql_start_outcome sql_start_outcome(struct sql_start *start, struct err *err); /* only then */
/* Frees it; false: it is still at work, may be for seconds, and is left alone. NULL is fine. */
bool sql_start_end(struct sql_start *start);

#endif
