/* idempotency.h - one effect and one answer for each Idempotency-Key: the steps of an invocation that has one.
 *
 *     idempotency_read_key()   before the invocation runs: which key, if any; that of the header, or the event's own
 *     idempotency_begin()      first statement of the transaction: lock, and look whether it was answered already
 *     idempotency_commit()     the record, with COMMIT in the same flight
 *     idempotency_purge()      now and then, after an answer: expired records go, a few at a time
 *
 * Why it is exact: the record and the handler's effects are one transaction, and the record's primary key is (function, key).
 * The lock in front of it makes a concurrent repeat 409 instead of a second run. The SQL is in runtime/schema/cicada.sql.
 *
 * Threads: those of the invocation.
 */
#ifndef CICADA_HOST_IDEMPOTENCY_H
#define CICADA_HOST_IDEMPOTENCY_H

#include <stdbool.h>

#include "runtime/host/invocation.h"

#define IDEMPOTENCY_BODY_MAX_BYTES (256u << 10)
#define IDEMPOTENCY_PURGE_EVERY    32 /* stored answers */
#define IDEMPOTENCY_PURGE_ROWS     64 /* at most, each time: more than come in meanwhile */

/* Sets invocation->idempotency_key; NULL: the request has none, or needs none (GET, HEAD). False: the response says why the
 * request is refused. */
bool idempotency_read_key(struct invocation *invocation);

enum idempotency_outcome {
    IDEMPOTENCY_NEW,      /* go on */
    IDEMPOTENCY_ANSWERED, /* the response is the answer: the stored one, or why there is none */
    IDEMPOTENCY_FAILED,   /* database->error */
};
enum idempotency_outcome idempotency_begin(struct invocation *invocation);

/* False: the answer can't be stored, and the response says so. */
bool idempotency_can_store(struct invocation *invocation);
/* Instead of database_end(): the transaction with the answer in it. */
int idempotency_commit(struct invocation *invocation) MUST_CHECK;

void idempotency_purge(struct pg_pool *pool);

#endif
