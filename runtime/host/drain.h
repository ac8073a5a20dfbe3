/* drain.h - when a process that leaves may go: decided from what is known, without waiting or acting.
 *
 * It may go when nothing is in flight and either every gateway has acknowledged the goodbye, and what they sent before has come
 * to be known, or no request came for a while; and in any case at the end of the time given.
 */
#ifndef CICADA_HOST_DRAIN_H
#define CICADA_HOST_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#define DRAIN_QUIET_MS 2000
/* What a gateway sent before it acknowledged may still be on its way to a thread: it counts as in flight once its head was
 * read. */
#define DRAIN_SETTLE_MS 50

struct drain_view {
    int64_t elapsed_ms; /* since the signal */
    int64_t limit_ms;   /* drainSeconds */
    int64_t idle_ms;    /* since the last request began or ended */
    bool busy;          /* a request or a late handler is in flight */
    bool acknowledged;  /* by every gateway, and there is one */
};

enum drain_decision { DRAIN_WAIT, DRAIN_DONE, DRAIN_TIMED_OUT };

enum drain_decision drain_decide(const struct drain_view *view);

#endif
