/* h1_partial.h - the beginning of a message that waits for the rest of its head. Most heads come in one piece and need none.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_GATEWAY_H1_PARTIAL_H
#define CICADA_GATEWAY_H1_PARTIAL_H

#include "operator/gateway/h1_head.h"
#include "runtime/base/strbuf.h"

struct h1_partial {
    struct h1_scan scan;
    struct strbuf bytes;
};

struct h1_partial *h1_partial_new(enum h1_kind kind, size_t cap_bytes);
void h1_partial_free(struct h1_partial *partial); /* NULL is fine */

#endif
