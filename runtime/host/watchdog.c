#include "runtime/host/watchdog.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/monotonic_cond.h"

/* The invocations of one lane (http_server.h), so that a request touches no line of cache that another's needs. */
struct lane {
    alignas(HTTP_LANE_BYTES)
        pthread_mutex_t mutex;  /* may be taken with the watchdog's held, not the other way round */
    struct invocation *at_work; /* newest first */
    pthread_cond_t answered;    /* an answer is complete */
};

struct watchdog {
    struct lane *lanes; /* settings.lanes */
    pthread_mutex_t mutex;
    _Atomic int64_t wake_ms; /* when the thread looks again by itself; written with the mutex held */
    bool stopping;           /* guarded by mutex */
    pthread_cond_t wake;     /* an earlier deadline came, or stopping */
    pthread_t thread;
    struct watchdog_settings settings;
};

/* Its lane's mutex is held but while it answers. */
static void answer(struct watchdog *watchdog, struct lane *lane, struct invocation *invocation)
{
    invocation->watch = WATCH_ANSWERING;
    pthread_mutex_unlock(&lane->mutex);
    watchdog->settings.answer(watchdog->settings.answer_arg, invocation);
    pthread_mutex_lock(&lane->mutex);
    invocation->watch = WATCH_ANSWERED; /* it could not leave meanwhile */
    pthread_cond_broadcast(&lane->answered);
}

/* One that is late, and is ours to answer now; NULL: none is. *wake_ms: when to look again. */
static struct invocation *find_late(const struct watchdog *watchdog, const struct lane *lane, int64_t now_ms,
                                    int64_t *wake_ms)
{
    int64_t grace_ms = watchdog->settings.grace_ms;

    for (struct invocation *at = lane->at_work; at != NULL; at = at->next) {
        int64_t due_ms;

        if (invocation_give_up(at, now_ms, grace_ms))
            return at;
        due_ms = invocation_due_ms(at, now_ms, grace_ms);
        if (due_ms < *wake_ms)
            *wake_ms = due_ms;
    }
    return NULL;
}

/* Answers all that are late. The watchdog's mutex is held, and given up while one is answered. */
static void look(struct watchdog *watchdog)
{
    int64_t now_ms = clock_monotonic_ms(), wake_ms = now_ms + watchdog->settings.timeout_ms;

    /* Before the lanes: who comes to one that was looked at already sees this. */
    atomic_store(&watchdog->wake_ms, wake_ms);
    for (int i = 0; i < watchdog->settings.lanes; i++) {
        struct lane *lane = &watchdog->lanes[i];
        struct invocation *late;

        pthread_mutex_lock(&lane->mutex);
        while ((late = find_late(watchdog, lane, now_ms, &wake_ms)) != NULL) {
            pthread_mutex_unlock(&watchdog->mutex);
            answer(watchdog, lane, late);
            pthread_mutex_unlock(&lane->mutex);
            pthread_mutex_lock(&watchdog->mutex);
            pthread_mutex_lock(&lane->mutex);
        }
        pthread_mutex_unlock(&lane->mutex);
    }
    if (wake_ms < atomic_load(&watchdog->wake_ms))
        atomic_store(&watchdog->wake_ms, wake_ms);
}

static void *watch(void *arg)
{
    struct watchdog *watchdog = arg;

    pthread_mutex_lock(&watchdog->mutex);
    while (!watchdog->stopping) {
        look(watchdog);
        if (!watchdog->stopping)
            (void)monotonic_cond_wait(&watchdog->wake, &watchdog->mutex, atomic_load(&watchdog->wake_ms));
    }
    pthread_mutex_unlock(&watchdog->mutex);
    return NULL;
}

static void release(struct watchdog *watchdog)
{
    for (int i = 0; i < watchdog->settings.lanes; i++) {
        pthread_cond_destroy(&watchdog->lanes[i].answered);
        pthread_mutex_destroy(&watchdog->lanes[i].mutex);
    }
    pthread_cond_destroy(&watchdog->wake);
    pthread_mutex_destroy(&watchdog->mutex);
    free(watchdog->lanes);
    free(watchdog);
}

int watchdog_new(const struct watchdog_settings *settings, struct watchdog **ret_watchdog, struct err *err)
{
    struct watchdog *watchdog = xcalloc(1, sizeof(*watchdog));

    watchdog->settings = *settings;
    watchdog->lanes = xcalloc_aligned((size_t)settings->lanes, sizeof(struct lane), alignof(struct lane));
    for (int i = 0; i < settings->lanes; i++) {
        pthread_mutex_init(&watchdog->lanes[i].mutex, NULL);
        pthread_cond_init(&watchdog->lanes[i].answered, NULL);
    }
    pthread_mutex_init(&watchdog->mutex, NULL);
    monotonic_cond_init(&watchdog->wake);
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

static struct lane *lane_of(const struct watchdog *watchdog, const struct invocation *invocation)
{
    return &watchdog->lanes[invocation->lane];
}

/* The thread sleeps too long for it. */
static void wake_at(struct watchdog *watchdog, int64_t due_ms)
{
    pthread_mutex_lock(&watchdog->mutex);
    if (due_ms < atomic_load(&watchdog->wake_ms)) {
        atomic_store(&watchdog->wake_ms, due_ms);
        pthread_cond_signal(&watchdog->wake);
    }
    pthread_mutex_unlock(&watchdog->mutex);
}

void watchdog_add(struct watchdog *watchdog, struct invocation *invocation)
{
    struct lane *lane = lane_of(watchdog, invocation);

    pthread_mutex_lock(&lane->mutex);
    invocation->watch = WATCH_SILENT;
    invocation->previous = NULL;
    invocation->next = lane->at_work;
    if (lane->at_work != NULL)
        lane->at_work->previous = invocation;
    lane->at_work = invocation;
    pthread_mutex_unlock(&lane->mutex);
    if (invocation->deadline_ms < atomic_load(&watchdog->wake_ms))
        wake_at(watchdog, invocation->deadline_ms);
}

bool watchdog_remove(struct watchdog *watchdog, struct invocation *invocation)
{
    struct lane *lane = lane_of(watchdog, invocation);
    bool was_answered;

    pthread_mutex_lock(&lane->mutex);
    while (invocation->watch == WATCH_ANSWERING)
        pthread_cond_wait(&lane->answered, &lane->mutex);
    was_answered = invocation->watch == WATCH_ANSWERED;
    if (invocation->previous != NULL)
        invocation->previous->next = invocation->next;
    else
        lane->at_work = invocation->next;
    if (invocation->next != NULL)
        invocation->next->previous = invocation->previous;
    pthread_mutex_unlock(&lane->mutex);
    return was_answered;
}

static bool has_stuck(struct lane *lane, int64_t limit_ms, char ret_request_id[REQUEST_ID_MAX + 1])
{
    bool stuck = false;

    pthread_mutex_lock(&lane->mutex);
    for (struct invocation *at = lane->at_work; at != NULL && !stuck; at = at->next) {
        stuck = atomic_load(&at->due_ms) <= limit_ms;
        if (stuck)
            snprintf(ret_request_id, REQUEST_ID_MAX + 1, "%s", at->request_id);
    }
    pthread_mutex_unlock(&lane->mutex);
    return stuck;
}

bool watchdog_stuck(struct watchdog *watchdog, char ret_request_id[REQUEST_ID_MAX + 1])
{
    int64_t limit_ms = clock_monotonic_ms() - watchdog->settings.grace_ms;

    for (int i = 0; i < watchdog->settings.lanes; i++)
        if (has_stuck(&watchdog->lanes[i], limit_ms, ret_request_id))
            return true;
    return false;
}
