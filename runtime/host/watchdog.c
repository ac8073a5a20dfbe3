#include "runtime/host/watchdog.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/monotonic_cond.h"

struct watchdog {
    /* What each request needs is in one line of cache, which goes from core to core. */
    pthread_mutex_t mutex;
    struct invocation *at_work; /* guarded by mutex, as all below; newest first */
    int64_t wake_ms;            /* when the thread looks again by itself */
    bool stopping;
    pthread_cond_t wake;     /* an earlier deadline came, or stopping */
    pthread_cond_t answered; /* an answer is complete */
    pthread_t thread;
    struct watchdog_settings settings;
};

/* Unlocks the mutex while it answers. */
static void answer(struct watchdog *watchdog, struct invocation *invocation)
{
    invocation->watch = WATCH_ANSWERING;
    pthread_mutex_unlock(&watchdog->mutex);
    watchdog->settings.answer(watchdog->settings.answer_arg, invocation);
    pthread_mutex_lock(&watchdog->mutex);
    invocation->watch = WATCH_ANSWERED; /* it could not leave meanwhile */
    pthread_cond_broadcast(&watchdog->answered);
}

/* One that is late, and is ours to answer now; NULL: none is, and wake_ms tells when to look again. */
static struct invocation *find_late(struct watchdog *watchdog)
{
    int64_t now_ms = clock_monotonic_ms();
    int64_t grace_ms = watchdog->settings.grace_ms;

    watchdog->wake_ms = now_ms + watchdog->settings.timeout_ms;
    for (struct invocation *at = watchdog->at_work; at != NULL; at = at->next) {
        int64_t due_ms;

        if (invocation_give_up(at, now_ms, grace_ms))
            return at;
        due_ms = invocation_due_ms(at, grace_ms);
        if (due_ms < watchdog->wake_ms)
            watchdog->wake_ms = due_ms;
    }
    return NULL;
}

static void *watch(void *arg)
{
    struct watchdog *watchdog = arg;
    struct invocation *late;

    pthread_mutex_lock(&watchdog->mutex);
    while (!watchdog->stopping) {
        late = find_late(watchdog);
        if (late != NULL)
            answer(watchdog, late);
        else
            (void)monotonic_cond_wait(&watchdog->wake, &watchdog->mutex, watchdog->wake_ms);
    }
    pthread_mutex_unlock(&watchdog->mutex);
    return NULL;
}

static void release(struct watchdog *watchdog)
{
    pthread_cond_destroy(&watchdog->wake);
    pthread_cond_destroy(&watchdog->answered);
    pthread_mutex_destroy(&watchdog->mutex);
    free(watchdog);
}

int watchdog_new(const struct watchdog_settings *settings, struct watchdog **ret_watchdog, struct err *err)
{
    struct watchdog *watchdog = xcalloc(1, sizeof(*watchdog));

    watchdog->settings = *settings;
    pthread_mutex_init(&watchdog->mutex, NULL);
    monotonic_cond_init(&watchdog->wake);
    pthread_cond_init(&watchdog->answered, NULL);
    if (pthread_create(&watchdog->thread, NULL, watch, watchdog) != 0) {
        release(watchdog);
        return err_set(err, ERR_UNAVAILABLE, "no thread could be started");
    }
    *ret_watchdog = watchdog;
    return 0;
}

void watchdog_free(struct watchdog *watchdog)
{
    if (watchdog == NULL)
        return;
    pthread_mutex_lock(&watchdog->mutex);
    watchdog->stopping = true;
    pthread_cond_signal(&watchdog->wake);
    pthread_mutex_unlock(&watchdog->mutex);
    pthread_join(watchdog->thread, NULL);
    release(watchdog);
}

void watchdog_add(struct watchdog *watchdog, struct invocation *invocation)
{
    pthread_mutex_lock(&watchdog->mutex);
    invocation->watch = WATCH_SILENT;
    invocation->previous = NULL;
    invocation->next = watchdog->at_work;
    if (watchdog->at_work != NULL)
        watchdog->at_work->previous = invocation;
    watchdog->at_work = invocation;
    if (invocation->deadline_ms < watchdog->wake_ms) {
        watchdog->wake_ms = invocation->deadline_ms;
        pthread_cond_signal(&watchdog->wake);
    }
    pthread_mutex_unlock(&watchdog->mutex);
}

bool watchdog_remove(struct watchdog *watchdog, struct invocation *invocation)
{
    bool was_answered;

    pthread_mutex_lock(&watchdog->mutex);
    while (invocation->watch == WATCH_ANSWERING)
        pthread_cond_wait(&watchdog->answered, &watchdog->mutex);
    was_answered = invocation->watch == WATCH_ANSWERED;
    if (invocation->previous != NULL)
        invocation->previous->next = invocation->next;
    else
        watchdog->at_work = invocation->next;
    if (invocation->next != NULL)
        invocation->next->previous = invocation->previous;
    pthread_mutex_unlock(&watchdog->mutex);
    return was_answered;
}

bool watchdog_stuck(struct watchdog *watchdog, char ret_request_id[REQUEST_ID_MAX + 1])
{
    int64_t limit_ms = clock_monotonic_ms() - watchdog->settings.grace_ms;
    bool stuck = false;

    pthread_mutex_lock(&watchdog->mutex);
    for (struct invocation *at = watchdog->at_work; at != NULL && !stuck; at = at->next) {
        stuck = atomic_load(&at->due_ms) <= limit_ms;
        if (stuck)
            snprintf(ret_request_id, REQUEST_ID_MAX + 1, "%s", at->request_id);
    }
    pthread_mutex_unlock(&watchdog->mutex);
    return stuck;
}
