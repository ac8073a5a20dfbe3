/* workqueue.h - keys waiting to be reconciled.
 *
 * A key is in the queue at most once. A key being processed is never handed to a second worker; if it is added
 * meanwhile it is queued again when workqueue_done() is called. Adding after workqueue_shutdown() does nothing, nor does it while
 * the queue is closed: a program whose turn to work has not come would fill it for ever.
 * Failures back off per key: 5 ms * 2^n up to 1000 s (ceiling configurable), and an overall bucket of 10/s, burst 100; the longer wait applies.
 * After client-go util/workqueue.
 *
 * Threads: every function may be called from any thread. No callback runs while the lock is held.
 * Ownership: keys are copied in; workqueue_get() returns a copy that the caller releases with object_key_release().
 */
#ifndef CICADA_QUEUE_WORKQUEUE_H
#define CICADA_QUEUE_WORKQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/clock.h"

struct object_key {
    char *namespace; /* "" for cluster-scoped */
    char *name;
};
void object_key_release(struct object_key *key);

struct workqueue;
struct workqueue *workqueue_new(const struct clock *clock, int64_t max_backoff_ms);
void workqueue_free(struct workqueue *queue);  /* NULL is fine; no worker may still be inside */
void workqueue_close(struct workqueue *queue); /* a new one is open */
void workqueue_open(struct workqueue *queue);
void workqueue_add(struct workqueue *queue, const char *namespace, const char *name);
void workqueue_add_after(struct workqueue *queue, const char *namespace, const char *name, int64_t delay_ms);
void workqueue_add_backoff(struct workqueue *queue, const char *namespace, const char *name);
void workqueue_forget(struct workqueue *queue, const char *namespace, const char *name);
bool workqueue_get(struct workqueue *queue, struct object_key *ret_key); /* blocks; false: shut down */
void workqueue_done(struct workqueue *queue, const struct object_key *key);
void workqueue_shutdown(struct workqueue *queue);
size_t workqueue_depth(struct workqueue *queue);

#endif
