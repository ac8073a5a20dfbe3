/* pg_wait.h - waiting on a condition until a monotonic deadline. */
#ifndef CICADA_POSTGRES_PG_WAIT_H
#define CICADA_POSTGRES_PG_WAIT_H

#include <pthread.h>
#include <stdint.h>

#include "runtime/base/clock.h"

static inline void pg_wait_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
}

/* The caller looks at its own state afterwards; why the wait ended is not told. */
static inline void pg_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline_ms)
{
    if (deadline_ms == DEADLINE_NONE) {
        (void)pthread_cond_wait(cond, lock);
        return;
    }
    struct timespec until = {.tv_sec = deadline_ms / 1000, .tv_nsec = (deadline_ms % 1000) * 1000000};
    (void)pthread_cond_timedwait(cond, lock, &until);
}

#endif
