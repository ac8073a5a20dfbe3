/* workers.h - the runtime's own threads, which run handlers: started when needed, at most `max_threads`.
 *
 * Threads: any.
 */
#ifndef CICADA_HOST_WORKERS_H
#define CICADA_HOST_WORKERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct workers;

/* Embedded in what is to be done; the caller's until submitted, free again when run() begins. */
struct work {
    struct work *next;
    void (*run)(struct work *work);
};

struct workers *workers_new(int max_threads, size_t stack_bytes);
/* Queues it. ERR_UNAVAILABLE: there is no thread and none could be started. */
int workers_submit(struct workers *workers, struct work *work, struct err *err) MUST_CHECK;
/* Lets queued work finish and joins. False: some was still running at the deadline, and `workers` must not be freed. */
bool workers_stop(struct workers *workers, int64_t deadline_ms) MUST_CHECK;
void workers_free(struct workers *workers); /* after workers_stop(); NULL is fine */

#endif
