/* invocation_stream.h - what a handler does before it returns: it commits, and sends its answer piece by piece.
 *
 * Both take the invocation out of the watchdog's reach while the transaction ends, and both are final: nothing takes a
 * commit back, and after the first piece there is no other answer. From then on only silence is limited: each piece moves the
 * time at which the watchdog cuts the connection (INVOCATION_STREAMING to INVOCATION_CUT).
 *
 * Threads: the handler's, which is the connection's.
 */
#ifndef CICADA_HOST_INVOCATION_STREAM_H
#define CICADA_HOST_INVOCATION_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/host/invocation.h"

/* 0: committed, and the connection to the database is given back. -1: not, and the answer tells why. */
int invocation_commit(struct invocation *invocation);

/* Sends what is written of the response, then `data`; the first time after status, headers and the end of the transaction (but for
 * READ ONLY ones). -1: nothing more can be sent. */
int invocation_stream(struct invocation *invocation, const void *data, size_t len);

/* After the handler returned, if invocation->streamed: the rest and the end, or the connection is cut. */
void invocation_stream_end(struct invocation *invocation, int handler_result);

#endif
