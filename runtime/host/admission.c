#include "runtime/host/admission.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "runtime/base/monotonic_cond.h"

/* On the stack of the thread that waits. */
struct waiter {
    struct waiter *next;
    pthread_cond_t cond;
    bool granted; /* the place was handed over: `working` counts it already */
};

/* Who works and who waits, in one word: a place is taken and given back by one atomic step while nobody waits. */
#define WAITING_ONE  ((uint64_t)1 << 32)
#define WORKING_MASK (WAITING_ONE - 1)

struct admission {
    _Atomic uint64_t state; /* `waiting` changes with the mutex held only */
    int limit, places;
    pthread_mutex_t mutex;
    struct waiter *first, **last; /* the queue, guarded by mutex; last: where the next one is linked */
};

static int working(uint64_t state)
{
    return (int)(state & WORKING_MASK);
}

static int waiting(uint64_t state)
{
    return (int)(state / WAITING_ONE);
}

struct admission *admission_new(int limit, int places)
{
    struct admission *admission = xcalloc(1, sizeof(*admission));

    pthread_mutex_init(&admission->mutex, NULL);
    admission->limit = limit;
    admission->places = places;
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
    atomic_fetch_sub(&admission->state, WAITING_ONE);
}

static enum admission_result wait_for_place(struct admission *admission, int64_t deadline_ms)
{
    struct waiter waiter = {.next = NULL, .granted = false};
    bool in_time = true;

    monotonic_cond_init(&waiter.cond);
    *admission->last = &waiter;
    admission->last = &waiter.next;
    while (!waiter.granted && in_time)
        in_time = monotonic_cond_wait(&waiter.cond, &admission->mutex, deadline_ms);
    if (!waiter.granted)
        unlink_waiter(admission, &waiter);
    pthread_cond_destroy(&waiter.cond);
    return waiter.granted ? ADMISSION_ENTERED : ADMISSION_LATE;
}

bool admission_try_enter(struct admission *admission)
{
    uint64_t state = atomic_load_explicit(&admission->state, memory_order_relaxed);

    do {
        if (working(state) >= admission->limit) /* as long as anybody waits, too */
            return false;
    } while (!atomic_compare_exchange_weak(&admission->state, &state, state + 1));
    return true;
}

/* Takes a place, or joins those who wait, whichever there is room for. False: for neither. */
static bool take_or_join(struct admission *admission, bool *ret_joined)
{
    uint64_t state = atomic_load(&admission->state);

    do {
        *ret_joined = working(state) >= admission->limit;
        if (*ret_joined && waiting(state) >= admission->places)
            return false;
    } while (
        !atomic_compare_exchange_weak(&admission->state, &state, state + (*ret_joined ? WAITING_ONE : 1)));
    return true;
}

enum admission_result admission_enter(struct admission *admission, int64_t deadline_ms)
{
    enum admission_result result = ADMISSION_ENTERED;
    bool joined;

    if (admission_try_enter(admission))
        return ADMISSION_ENTERED;
    pthread_mutex_lock(&admission->mutex);
    if (!take_or_join(admission, &joined))
        result = ADMISSION_FULL;
    else if (joined)
        result = wait_for_place(admission, deadline_ms);
    pthread_mutex_unlock(&admission->mutex);
    return result;
}

/* False: somebody waits. */
static bool try_leave(struct admission *admission)
{
    uint64_t state = atomic_load_explicit(&admission->state, memory_order_relaxed);

    do {
        if (waiting(state) > 0)
            return false;
    } while (!atomic_compare_exchange_weak(&admission->state, &state, state - 1));
    return true;
}

void admission_leave(struct admission *admission)
{
    if (try_leave(admission))
        return;
    pthread_mutex_lock(&admission->mutex);
    if (admission->first != NULL) { /* the place changes hands and is never free in between */
        struct waiter *waiter = admission->first;
        unlink_waiter(admission, waiter);
        waiter->granted = true;
        pthread_cond_signal(&waiter->cond);
    } else {
        atomic_fetch_sub(&admission->state, 1); /* who waited has given up */
    }
    pthread_mutex_unlock(&admission->mutex);
}

int admission_working(const struct admission *admission)
{
    return working(atomic_load(&admission->state));
}

int admission_waiting(const struct admission *admission)
{
    return waiting(atomic_load(&admission->state));
}
