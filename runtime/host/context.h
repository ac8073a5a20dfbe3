/* context.h - the context of one handler call, or of init. */
#ifndef CICADA_HOST_CONTEXT_H
#define CICADA_HOST_CONTEXT_H

#include <stdint.h>

#include "runtime/host/database.h"
#include "runtime/sdk/cicada/function.h"

struct cicada_context {
    const struct cicada_calls *calls; /* first: the SDK reads it */
    const char *function, *namespace; /* borrowed, as all below */
    const char *request_id, *traceparent;
    void *state;
    int64_t deadline_ms;
    struct database *database;
    struct invocation *invocation; /* NULL: of init */
    char last_error[512];          /* last line logged at error level; "": none */
};

/* The table that every handler gets. */
extern const struct cicada_calls sdk_calls;

#endif
