/* pg_commit.h - what became of a COMMIT whose answer was lost. */
#ifndef CICADA_POSTGRES_PG_COMMIT_H
#define CICADA_POSTGRES_PG_COMMIT_H

#include <stdint.h>

#include "runtime/postgres/pg_pool.h"

#define PG_XID_SIZE 24 /* a 64-bit number as text */

/* SQL for the transaction's id, as soon as it has one: NULL until it writes. */
#define PG_XID_QUERY "SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text"

/* Asks another connection, until the deadline. 0: it was committed. -1: PG_FAILURE_LOST if it was rolled back,
 * PG_FAILURE_COMMIT_UNKNOWN if that can't be learned. */
int pg_commit_resolve(struct pg_pool *pool, const char *xid, int64_t deadline_ms, struct pg_error *error)
    __attribute__((warn_unused_result));

#endif
