#include "runtime/postgres/pg_cancel.h"

#include <pthread.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/monotonic_cond.h"

struct pg_cancel {
    PGcancel *cancel;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool done; /* guarded by lock, as is refs: one of the caller, one of the thread */
    int refs;
};

void pg_cancel_unref(struct pg_cancel *call)
{
    if (!call)
        return;
    (void)pthread_mutex_lock(&call->lock);
    bool last = --call->refs == 0;
    (void)pthread_mutex_unlock(&call->lock);
    if (!last)
        return;
    pq.PQfreeCancel(call->cancel);
    (void)pthread_cond_destroy(&call->wake);
    (void)pthread_mutex_destroy(&call->lock);
    free(call);
}

static void *cancel_run(void *arg)
{
    struct pg_cancel *call = arg;
    char text[256];
    /* A server that does not take the request will notice the closed connection instead. */
    (void)pq.PQcancel(call->cancel, text, sizeof(text));
    (void)pthread_mutex_lock(&call->lock);
    call->done = true;
    (void)pthread_cond_signal(&call->wake);
    (void)pthread_mutex_unlock(&call->lock);
    pg_cancel_unref(call);
    return NULL;
}

struct pg_cancel *pg_cancel_start(PGcancel *cancel)
{
    struct pg_cancel *call = xcalloc(1, sizeof(*call));
    call->cancel = cancel;
    call->refs = 2;
    (void)pthread_mutex_init(&call->lock, NULL);
    monotonic_cond_init(&call->wake);
    pthread_t thread;
    if (pthread_create(&thread, NULL, cancel_run, call) != 0) {
        call->refs = 1;
        pg_cancel_unref(call);
        return NULL;
    }
    (void)pthread_detach(thread);
    return call;
}

bool pg_cancel_wait(struct pg_cancel *call, int64_t timeout_ms)
{
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    (void)pthread_mutex_lock(&call->lock);
    while (!call->done && deadline_left_ms(deadline_ms) > 0)
        (void)monotonic_cond_wait(&call->wake, &call->lock, deadline_ms);
    bool done = call->done;
    (void)pthread_mutex_unlock(&call->lock);
    return done;
}
