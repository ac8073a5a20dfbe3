#include "runtime/host/admission.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "runtime/base/monotonic_cond.h"

/* On the stack of the thread that waits. */
struct waiter {
    struct waiter *next;
    pthread_cond_t cond;
    bool granted; /* the place was handed over: `working` counts it already */
};

struct admission {
    pthread_mutex_t mutex;
    int limit;
    int working; /* guarded by mutex, as all below */
    int waiting;
    struct waiter *first, **last; /* the queue; last: where the next one is linked */
};

struct admission *admission_new(int limit)
{
    struct admission *admission = xcalloc(1, sizeof(*admission));

    pthread_mutex_init(&admission->mutex, NULL);
    admission->limit = limit;
    admission->last = &admission->first;
    return admission;
}

void admission_free(struct admission *admission)
{
    if (admission == NULL)
        return;
    pthread_mutex_destroy(&admission->mutex);
    free(admission);
}

static void unlink_waiter(struct admission *admission, struct waiter *waiter)
{
    struct waiter **link = &admission->first;

    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
    if (admission->last == &waiter->next)
        admission->last = link;
    admission->waiting--;
}

static enum admission_result wait_for_place(struct admission *admission, int64_t deadline_ms)
{
    struct waiter waiter = {.next = NULL, .granted = false};
    bool in_time = true;

    monotonic_cond_init(&waiter.cond);
    *admission->last = &waiter;
    admission->last = &waiter.next;
    admission->waiting++;
    while (!waiter.granted && in_time)
        in_time = monotonic_cond_wait(&waiter.cond, &admission->mutex, deadline_ms);
    if (!waiter.granted)
        unlink_waiter(admission, &waiter);
    pthread_cond_destroy(&waiter.cond);
    return waiter.granted ? ADMISSION_ENTERED : ADMISSION_LATE;
}

enum admission_result admission_enter(struct admission *admission, int64_t deadline_ms)
{
    enum admission_result result = ADMISSION_ENTERED;

    pthread_mutex_lock(&admission->mutex);
    if (admission->working < admission->limit)
        admission->working++;
    else if (admission->waiting >= admission->limit)
        result = ADMISSION_FULL;
    else
        result = wait_for_place(admission, deadline_ms);
    pthread_mutex_unlock(&admission->mutex);
    return result;
}

void admission_leave(struct admission *admission)
{
    pthread_mutex_lock(&admission->mutex);
    if (admission->first != NULL) { /* the place changes hands and is never free in between */
        struct waiter *waiter = admission->first;
        unlink_waiter(admission, waiter);
        waiter->granted = true;
        pthread_cond_signal(&waiter->cond);
    } else {
        admission->working--;
    }
    pthread_mutex_unlock(&admission->mutex);
}

int admission_working(struct admission *admission)
{
    int working;

    pthread_mutex_lock(&admission->mutex);
    working = admission->working;
    pthread_mutex_unlock(&admission->mutex);
    return working;
}

int admission_waiting(struct admission *admission)
{
    int waiting;

    pthread_mutex_lock(&admission->mutex);
    waiting = admission->waiting;
    pthread_mutex_unlock(&admission->mutex);
    return waiting;
}
