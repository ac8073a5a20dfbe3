#include "runtime/base/monotonic_cond.h"

#include <errno.h>
#include <time.h>

#include "runtime/base/clock.h"

void monotonic_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

bool monotonic_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline_ms)
{
    struct timespec until;

    if (deadline_ms == DEADLINE_NONE) {
        pthread_cond_wait(cond, mutex);
        return true;
    }
    until.tv_sec = (time_t)(deadline_ms / 1000);
    until.tv_nsec = (long)(deadline_ms % 1000) * 1000000L;
    return pthread_cond_timedwait(cond, mutex, &until) != ETIMEDOUT;
}
