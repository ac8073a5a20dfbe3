/* invocation.h - one call of the handler: request, context, response, transaction, and who may answer.
 *
 * It lives on the stack of the connection's thread, which runs the handler and sends the answer. When the deadline passes while
 * the handler is at work, the watchdog's thread gives the invocation up and answers 504 in its place; the connection's thread
 * finds it given up when the handler returns, rolls back, and drops what the handler made. Once the connection's
 * thread has begun to end the transaction, its result is waited for instead: an answer never contradicts the database.
 *
 *     RUNNING --handler returned--> ENDING --transaction ended--> (answered by its own thread)
 *      |   ^--serialization failure--'  |
 *      |                                `--deadline and grace passed--> UNCONFIRMED   \
 *      `---deadline passed-------------------------------------------> GIVEN_UP      / (answered by the watchdog)
 *
 * An answer that is sent while it is made (invocation_stream.h) goes from ENDING to STREAMING, and from there to STREAMED when the
 * handler returned, or to CUT by the watchdog. Its own thread ends or cuts it.
 *
 * A retryable invocation whose transaction failed with 40001 or 40P01 begins anew, with a fresh response and a new
 * transaction, as long as there is time and INVOCATION_ATTEMPTS_MAX allows. So does one whose handler had not
 * begun yet, and one of whose statements was out of date, if nothing but the transaction can have been changed.
 */
#ifndef CICADA_HOST_INVOCATION_H
#define CICADA_HOST_INVOCATION_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/events/settlement.h"
#include "runtime/host/cloud_event.h"
#include "runtime/host/context.h"
#include "runtime/host/request.h"
#include "runtime/host/response.h"
#include "runtime/host/spec.h"
#include "runtime/host/trace_context.h"

#define INVOCATION_ATTEMPTS_MAX  5
#define INVOCATION_STORAGE_BYTES 2048 /* headers of a usual request, a small answer, and a bit more */

enum invocation_state {
    INVOCATION_RUNNING,
    INVOCATION_ENDING,
    INVOCATION_GIVEN_UP,    /* the handler came too late */
    INVOCATION_UNCONFIRMED, /* the end of the transaction came too late */
    INVOCATION_STREAMING,   /* the answer has begun, and is limited by silence only */
    INVOCATION_STREAMED,    /* the handler has returned, the rest is sent */
    INVOCATION_CUT,         /* the answer was silent for too long */
};

struct invocation;
struct event_batch;

/* Who makes the answers: a handler in C (c_function.h), or SQL. */
struct invoker_ops {
    /* Builds invocation->response, with invocation->database. Does not roll back, and commits only what reads, or after
     * invocation_begin_end() and with an answer that nothing can refuse any more. On the connection's thread, many at once.
     * CICADA_FAIL: as from a handler. */
    int (*invoke)(void *self, struct invocation *invocation);
    /* Whether the transaction of this request is READ ONLY; before invoke(). */
    bool (*reads_only)(void *self, const struct invocation *invocation);
    /* Whether it takes several events at once; NULL: it does. */
    bool (*takes_batches)(const void *self);
    bool repeatable; /* a run whose transaction is rolled back has left nothing behind */
};

/* What the invocations of one function have in common; borrowed. */
struct invocation_target {
    const struct invoker_ops *ops;
    void *invoker; /* self of the ops */
    const char *name, *namespace;
    bool retryable; /* run again after a serialization failure or a deadlock */
    int success_status;
    size_t response_max_bytes;
    int64_t idle_timeout_ms;      /* longest silence of an answer that is streamed */
    enum idempotency idempotency; /* not NONE: there is a pool */
    const char *output_queue;     /* NULL: answers are sent nowhere else; else there is a pool */
    struct pg_pool *pool;         /* NULL: no database */
};

struct invocation {
    const struct invocation_target *target;
    struct arena arena;
    unsigned lane; /* of its thread (http_server.h); 0 unless its maker says so */
    int64_t start_us, deadline_ms;
    int64_t waited_us; /* for a place */
    char request_id[REQUEST_ID_MAX + 1];
    struct trace_context trace;
    struct cicada_request request;
    struct cicada_context context;
    struct cicada_response response;
    struct database database;
    const struct cloud_event *event; /* NULL: none, or a batch; set before invocation_run() */
    struct event_batch *batch;       /* of events; NULL: none */
    struct settlement *settlement;   /* of events of queues, to be committed with their effects; NULL: none */
    const struct event_lease *lease; /* of the one that is no batch */
    bool kept;                       /* it is to be committed with others, whose transaction it shares */
    bool belongs_alone;              /* it failed there, and may well succeed in a transaction of its own */
    bool event_taken;                /* the one that is no batch, by the handler... */
    bool event_failed;               /* ...which has said so, */
    int event_status;                /* as of an answer; 0: by the error of the database */
    const char *event_failure;       /* and why */
    const char *idempotency_key, *fingerprint; /* NULL: none; not known yet */
    const char *output;                        /* the answer as JSON, to be sent on; NULL: nothing is */
    bool invoked;                              /* this attempt has reached the handler... */
    bool answered;                             /* ...or has the answer without it */
    bool stored;                               /* the answer was committed with its key */
    bool settled;                              /* the settlement was committed */
    bool by_database;                          /* an error of the database is the answer */
    bool
        not_storable; /* the handler wanted to commit or to answer before the answer could be stored or sent on */
    bool streamed;              /* the answer has begun before the handler returned */
    const char *stream_failure; /* why no more can be sent; NULL: it can */
    _Atomic int64_t due_ms;     /* the deadline, or the end of the silence that a stream may keep */
    int retries;
    _Atomic enum invocation_state state;
    struct http_request *http; /* where the answer goes; borrowed. NULL: nobody gets it */
    /* The watchdog's, guarded by its lane's mutex. */
    enum { WATCH_SILENT, WATCH_ANSWERING, WATCH_ANSWERED } watch;
    struct invocation *previous, *next;
    alignas(max_align_t) unsigned char storage[INVOCATION_STORAGE_BYTES]; /* of the arena */
};

/* request_id NULL or not well-formed: a new one is made. `http` is not looked at. start_us: monotonic, when it has begun. */
void invocation_init(struct invocation *invocation, const struct invocation_target *target,
                     struct http_request *http, const char *request_id, int64_t start_us, int64_t timeout_ms);
/* Which trace it belongs to; before it runs. parent: the caller's traceparent, or NULL. */
void invocation_trace(struct invocation *invocation, struct trace_ids *ids, const char *parent);
/* Whose lines come in the log from now on, on this thread. object: "namespace/name". */
void invocation_set_log_scope(const struct invocation *invocation, const char *object);
/* Rolls back what is left. */
void invocation_release(struct invocation *invocation);

/* The event, or those of the batch that are done, go with the transaction. */
void invocation_settle_events(struct invocation *invocation);

/* The end of the transaction begins: from here on its outcome is waited for. False: the watchdog has taken the answer away. */
bool invocation_begin_end(struct invocation *invocation);

/* Runs the handler, ends the transaction, settles the response: it may be sent, unless the watchdog has answered. */
void invocation_run(struct invocation *invocation);

/* False: it is in another state than `from`; the watchdog has taken the answer away. */
bool invocation_enter(struct invocation *invocation, enum invocation_state from, enum invocation_state to);

/* For the watchdog: when it is to look; DEADLINE_NONE: there is nothing to wait for. */
int64_t invocation_due_ms(const struct invocation *invocation, int64_t now_ms, int64_t grace_ms);
/* For the watchdog: if it is late, takes the answer away from the invocation's own thread. */
bool invocation_give_up(struct invocation *invocation, int64_t now_ms, int64_t grace_ms);

#endif
