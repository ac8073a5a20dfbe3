/* stop.h - cancellation: a flag that threads wait on, once set never cleared.
 *
 * Threads: stop_set() from any thread (also from a signal-handling thread, not from a signal handler); all other
 * functions from any thread. The fd becomes readable when the stop is set and stays so: poll it, never read it.
 */
#ifndef CICADA_BASE_STOP_H
#define CICADA_BASE_STOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct stop {
    atomic_bool set;
    int event_fd;
};

void stop_init(struct stop *stop);
void stop_release(struct stop *stop);
void stop_set(struct stop *stop);
bool stop_is_set(const struct stop *stop);
int stop_fd(const struct stop *stop);
/* Waits at most timeout_ms (-1: for ever); true if the stop is set. The only sleep in the code base. */
bool stop_wait(const struct stop *stop, int64_t timeout_ms);

#endif
