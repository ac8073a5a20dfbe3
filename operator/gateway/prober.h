/* prober.h - finds out when a pod that is not usable yet takes connections.
 *
 * Nonblocking connects to its address: refused, again after 5 ms growing to 20 ms while requests wait, to 100 ms while the
 * pod is new, else to 1 s; hanging, a second attempt beside the first, each with a deadline that grows from 100 ms to
 * 2 s. A pod's port listens only when it can serve, so a connection means usable; it is kept for the first request.
 *
 * Threads: the worker's loop.
 */
#ifndef CICADA_GATEWAY_PROBER_H
#define CICADA_GATEWAY_PROBER_H

#include "operator/gateway/gateway_internal.h"

#define PROBE_ATTEMPTS 2

struct probe;

struct probe_attempt {
    struct loop_watch watch;
    struct probe *probe;
    struct sockaddr_in address;
    int64_t started_ms, deadline_ms;
};

struct probe {
    LIST_ENTRY(probe) link; /* the owner's */
    struct worker *worker;
    struct function_state *function; /* borrowed from the owner */
    struct pod *pod;                 /* a reference */
    struct loop_timer timer;
    struct loop_post gone;
    struct probe_attempt attempts[PROBE_ATTEMPTS];
    int64_t delay_ms, next_ms, timeout_ms;
    void (*ended)(struct probe *probe,
                  void *arg); /* it is usable, or needs no probing; the owner forgets it */
    void *arg;
};

/* Takes over the reference on pod. May end within. */
void probe_start(struct probe *probe);
struct probe *probe_new(struct worker *worker, struct function_state *function, struct pod *pod,
                        void (*ended)(struct probe *probe, void *arg), void *arg);
void probe_hurry(struct probe *probe); /* requests wait since a moment ago, or it changed */
void probe_free(struct probe *probe);  /* the memory goes at the end of the turn */

#endif
