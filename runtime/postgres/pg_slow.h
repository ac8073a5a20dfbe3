/* pg_slow.h - tells the pool's owner of statements that took long.
 *
 * Threads: any. No lock is held while the owner is told.
 */
#ifndef CICADA_POSTGRES_PG_SLOW_H
#define CICADA_POSTGRES_PG_SLOW_H

#include "runtime/postgres/pg_batch.h"
#include "runtime/postgres/pg_pool.h"

/* Before the flight; 0 if nobody wants to know. */
int64_t pg_slow_begin(const struct pg_pool *pool);
/* After it. batch->result may be NULL; error NULL: it succeeded. */
void pg_slow_end(const struct pg_pool *pool, int64_t begin_us, const char *sql, const struct pg_batch *batch,
                 const struct pg_error *error);

#endif
