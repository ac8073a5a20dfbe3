/* runtime.h - the whole worker: starts the parts in order, waits for a signal, drains, ends.
 *
 * Start: admin port; handler and its init; the database's pool beside the rest; function port; announcement. Each later
 * part exists only if the ones before it came up, and they end in reverse order.
 */
#ifndef CICADA_HOST_RUNTIME_H
#define CICADA_HOST_RUNTIME_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/host/access_log.h"
#include "runtime/host/crash_board.h"

struct runtime_options {
    char *spec, *spec_file;
    char *database_url, *database_url_file;
    char *listen, *admin_listen;
    char *function_dir;
    char *function_name, *function_namespace;
    char *gateway;
    char *pod_name, *pod_uid;
    char *termination_log;
    char *log_level;
    char *access_log_text;
    struct access_log access_log; /* what the text says */
    int64_t slow_statement_ms;    /* 0: none is logged */
    int64_t stuck_grace_ms;
    bool migrate;
    char *grant_to;
};

/* Serves until one of `signals` arrives, which the caller has blocked in every thread, or until it can't go on. What it
 * works on is on the board. Returns the exit code; *ret_abandoned: code of the function still runs in some thread, so the process must end by _exit(). */
int runtime_run(const struct runtime_options *options, struct crash_board *board, const sigset_t *signals,
                bool *ret_abandoned);

#endif
