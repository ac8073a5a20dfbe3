/* stacked_thread.h - a thread with a stack of a given size.
 *
 * Threads: any.
 */
#ifndef CICADA_BASE_STACKED_THREAD_H
#define CICADA_BASE_STACKED_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* 0, or why there is none, as pthread_create() tells. */
int stacked_thread_start(pthread_t *ret_thread, size_t stack_bytes, void *(*run)(void *arg), void *arg);

#endif
