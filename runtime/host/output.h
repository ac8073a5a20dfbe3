/* output.h - a function's output: a successful answer becomes an event of the queue `output.queue`, in the invocation's own transaction.
 *
 * Of events, and of HTTP requests other than GET and HEAD. The JSON of the answer is the payload. null, [] and an empty body send nothing, nor
 * does an answer of 400 or above, or one that was stored before. What can't be a payload is 500 `output_not_storable`, and nothing of
 * the invocation stays. So is an answer that begins, or a commit, before the handler has returned.
 *
 *     output_declare()         at the start of the function: the queue is there
 *     output_begin()           before a request is run: how deep in a chain of events its own ones are
 *     output_is_due()          whether this invocation's answer is to be sent on, should it succeed
 *     output_take()            once it has succeeded: the payload, if there is one
 *     output_end_with()        the transaction's last statement and COMMIT, with the payload in the same flight; or
 *     output_send()            the payload as a statement of its own, where others follow
 *     output_answer_refusal()  should the server have refused it
 *
 * Threads: that of the invocation.
 */
#ifndef CICADA_HOST_OUTPUT_H
#define CICADA_HOST_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/host/invocation.h"

#define OUTPUT_MAX_BYTES (256u << 10) /* as cicada.enqueue() has it */

/* The extension of an event that says how many events were before it in its chain. */
#define OUTPUT_DEPTH_ATTRIBUTE "cicadadepth"
#define OUTPUT_DEPTH_MAX       1000 /* far above where a chain ends */

/* -1: the database could not be asked, or it may not be made: 42501. */
int output_declare(struct pg_pool *pool, const char *queue, int64_t deadline_ms,
                   struct pg_error *error) MUST_CHECK;

/* Of a request by HTTP, and of the event that it may bring. ERR_INVALID: that event says something impossible of its depth. */
int output_begin(struct invocation *invocation, struct err *err) MUST_CHECK;

bool output_is_due(const struct invocation *invocation);

/* Sets invocation->output. False: the answer can't be a payload, and the response says so. */
bool output_take(struct invocation *invocation);

/* What the last statement does beside: a call such as "cicada.event_settle($1, $2, $3)" with its parameters; NULL: nothing. */
struct output_company {
    const char *call;
    int param_count; /* at most OUTPUT_COMPANY_MAX */
    const char *const *params;
};
#define OUTPUT_COMPANY_MAX 6
/* Instead of database_end(): the payload, if there is one, before the call. */
int output_end_with(struct invocation *invocation, const struct output_company *company) MUST_CHECK;

/* As database_run(). Without a payload nothing is done. */
int output_send(struct invocation *invocation) MUST_CHECK;

/* After output_end_with() or output_send() has failed. True: by the payload, and the response says so. */
bool output_answer_refusal(struct invocation *invocation);

#endif
