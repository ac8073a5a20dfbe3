/* trace_context.h - W3C Trace Context: the trace that an invocation belongs to.
 *
 * A valid `traceparent` is continued: its trace id and its sampled flag stay, and the span id is the invocation's own, so
 * that what the handler calls with it has this invocation as parent. Without one, or with one that is not valid, a new trace
 * is started, not sampled. What is passed on is always version 00; of a later version what 00 knows is taken.
 *
 * Threads: one source of ids serves all.
 */
#ifndef CICADA_HOST_TRACE_CONTEXT_H
#define CICADA_HOST_TRACE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/http/http_server.h"

#define TRACEPARENT_SIZE 56
#define TRACE_ID_SIZE    33

/* Ids that differ from each other, and from other processes' by chance. No secret: who sees one may guess the next. */
struct trace_ids {
    uint64_t seed;
    _Atomic uint64_t count;
};

struct trace_context {
    char traceparent[TRACEPARENT_SIZE]; /* to pass on */
    char trace_id[TRACE_ID_SIZE];
    uint64_t span_id; /* the invocation's */
    bool continued;
};

void trace_ids_init(struct trace_ids *ids);
/* Never 0. */
uint64_t trace_ids_next(struct trace_ids *ids);

/* The one `traceparent` among the headers; NULL: none, or several. */
const char *trace_context_parent(const struct http_header *headers, size_t count);
/* parent NULL: there is none. */
void trace_context_begin(struct trace_context *context, struct trace_ids *ids, const char *parent);
/* What is passed on of one as it stands. False: it is not valid. */
bool trace_context_read(const char *parent, char ret_traceparent[TRACEPARENT_SIZE]);

#endif
