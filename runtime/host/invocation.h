/* invocation.h - one call of the handler: request, context, response, transaction, and who may still touch them.
 *
 * Two threads share it, each with a reference: the connection's, which waits for the outcome and sends the answer, and the
 * worker's, which runs the handler. At the deadline the connection's thread gives the invocation up and answers 504;
 * the worker then finds it given up, rolls back, and drops what the handler made. Once the worker has begun to end the
 * transaction, the connection's thread waits for the result instead: an answer never contradicts the database.
 *
 *     RUNNING --handler returned--> ENDING --transaction ended--> DONE
 *      |   ^--serialization failure--'
 *      `---deadline passed---> GIVEN_UP
 *
 * A retryable invocation whose transaction failed with 40001 or 40P01 begins anew, with a fresh response and a new
 * transaction, as long as there is time and INVOCATION_ATTEMPTS_MAX allows.
 */
#ifndef CICADA_HOST_INVOCATION_H
#define CICADA_HOST_INVOCATION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "runtime/host/context.h"
#include "runtime/host/request.h"
#include "runtime/host/response.h"
#include "runtime/host/workers.h"

#define INVOCATION_ATTEMPTS_MAX 5

enum invocation_state { INVOCATION_RUNNING, INVOCATION_ENDING, INVOCATION_DONE, INVOCATION_GIVEN_UP };

struct invocation;

/* Who makes the answers: a handler in C (c_function.h), or SQL. */
struct invoker_ops {
    /* Builds invocation->response, with invocation->database; neither commits nor rolls back. On a worker's thread, many
     * at once. CICADA_FAIL: as from a handler. */
    int (*invoke)(void *self, struct invocation *invocation);
    /* Whether the transaction of this request is READ ONLY; before invoke(). */
    bool (*reads_only)(void *self, const struct invocation *invocation);
};

/* What the invocations of one function have in common; borrowed. */
struct invocation_target {
    const struct invoker_ops *ops;
    void *invoker; /* self of the ops */
    const char *name, *namespace;
    bool retryable; /* run again after a serialization failure or a deadlock */
    int success_status;
    size_t response_max_bytes;
    struct pg_pool *pool; /* NULL: no database */
};

struct invocation {
    struct work work;
    const struct invocation_target *target;
    atomic_int references;
    struct arena arena;
    int64_t deadline_ms;
    char request_id[REQUEST_ID_MAX + 1];
    struct cicada_request request;
    struct cicada_context context;
    struct cicada_response response; /* the worker's until DONE */
    struct database database;
    int retries; /* the worker's until DONE */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum invocation_state state;        /* guarded by mutex */
    void *owner;                        /* for the run callback: borrowed */
    struct invocation *previous, *next; /* the owner's list */
};

/* One reference, the caller's. request_id NULL or not well-formed: a new one is made. */
struct invocation *invocation_new(const struct invocation_target *target, const char *request_id,
                                  int64_t deadline_ms);
void invocation_ref(struct invocation *invocation);
void invocation_unref(struct invocation *invocation);

/* Worker: runs the handler, ends the transaction, settles the response. The waiting connection learns of it by
 * invocation_finish(), after the worker gave back what it holds: who gets the answer finds the place free. */
void invocation_run(struct invocation *invocation);
void invocation_finish(struct invocation *invocation);
/* Connection: waits. DONE: the response is the caller's to send. GIVEN_UP: it came too late. ENDING: the end of the
 * transaction took longer than `grace_ms` beyond the deadline. */
enum invocation_state invocation_wait(struct invocation *invocation, int64_t grace_ms);

#endif
