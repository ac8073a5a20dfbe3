/* parent.h - the process that was started: it stays small and of one thread, and keeps a worker, its child, at work.
 *
 * Signals to end are passed on to the worker. A worker that crashed is reported (log and termination message) and started
 * again: at once, then after growing delays, and after RESTART_CRASHES_MAX crashes within a minute no more. A worker that ends
 * by itself has said why: its exit code is passed on. Orphans of the worker are reaped.
 */
#ifndef CICADA_HOST_PARENT_H
#define CICADA_HOST_PARENT_H

#include <stdint.h>

#include "runtime/host/crash_board.h"

#define PARENT_MARGIN_MS                                                                                     \
    3500 /* beyond drainSeconds, for a worker that was told to end; the kubelet gives 5 s */

struct parent_settings {
    const char *function;        /* what the worker serves, until it tells better */
    int64_t drain_ms;            /* likewise */
    const char *termination_log; /* path */
    int (*work)(void *arg);      /* in the worker: all it does; returns its exit code */
    void *arg;
    struct crash_board *board;
};

/* Until the worker has ended for good: the exit code. The caller has started no thread and never will. Returns in the worker as well,
 * with what work() returned. */
int parent_run(const struct parent_settings *settings);

#endif
