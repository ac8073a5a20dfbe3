/* pg_cancel.h - a cancel request that is waited for only so long.
 *
 * PQcancel() connects and then waits for the server to close, with no limit of its own: a server or proxy that accepts and stays
 * silent would hold the caller for ever. So each call has a thread of its own, which is left behind if it takes too long; it
 * touches nothing but the call, and ends when the kernel gives the connection up.
 *
 * Threads: start, is_done and unref belong to one thread.
 */
#ifndef CICADA_POSTGRES_PG_CANCEL_H
#define CICADA_POSTGRES_PG_CANCEL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/postgres/pq_api.h"

struct pg_cancel;

struct pg_cancel *pg_cancel_start(
    PGcancel *cancel); /* takes ownership; NULL: no thread could be had, nothing was sent */
bool pg_cancel_wait(struct pg_cancel *call, int64_t timeout_ms); /* true: done */
void pg_cancel_unref(struct pg_cancel *call); /* NULL is fine; also while it is under way */

#endif
