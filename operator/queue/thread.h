/* thread.h - how the long-lived threads of the operator's libraries are started: named, with a small stack.
 *
 * Threads: any.
 */
#ifndef CICADA_QUEUE_THREAD_H
#define CICADA_QUEUE_THREAD_H

#include <pthread.h>

/* name is cut at 15 bytes. Aborts if the system has no thread left, as for memory: a program without its loops is of no use. */
pthread_t thread_start(const char *name, void *(*run)(void *arg), void *arg);

#endif
