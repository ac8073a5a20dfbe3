/* monotonic_cond.h - a condition variable whose timed wait takes a deadline of clock_monotonic_ms(). */
#ifndef CICADA_BASE_MONOTONIC_COND_H
#define CICADA_BASE_MONOTONIC_COND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

void monotonic_cond_init(pthread_cond_t *cond);
/* False: the deadline passed. As with pthread_cond_wait(), true may come for no reason. */
bool monotonic_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline_ms);

#endif
