/* gateway_report.h - one reading of a gateway's /statz (operator/PROTOCOLS.md), and what two of them say about a Function. Pure.
 *
 * Threads: a report is immutable after gateway_report_parse().
 */
#ifndef CICADA_AUTOSCALER_GATEWAY_REPORT_H
#define CICADA_AUTOSCALER_GATEWAY_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define GATEWAY_REPORT_MAX_BYTES (32u << 20)
/* A Function that a gateway does not list has been idle for at most this long. */
#define GATEWAY_REPORT_UNLISTED_IDLE_MS 3600000

struct gateway_figures {
    char *key;                        /* "namespace/name" */
    int64_t in_flight, waiting;       /* at this moment */
    int64_t in_flight_ms, waiting_ms; /* integrals since the gateway's start */
    int64_t idle_ms;
};

struct gateway_report {
    int64_t uptime_ms;
    struct gateway_figures *figures; /* in order of their keys */
    size_t count;
};

int gateway_report_parse(const char *text, size_t len, struct gateway_report **ret_report,
                         struct err *err) MUST_CHECK;
void gateway_report_free(struct gateway_report *report); /* NULL is fine */

struct gateway_load {
    double mean; /* in flight and waiting, on average between the readings */
    int64_t in_flight, waiting, idle_ms;
};

/* before: the reading before of the same gateway, NULL if there is none; one from before a restart is not used. */
struct gateway_load gateway_report_load(const struct gateway_report *before, const struct gateway_report *now,
                                        const char *key);

#endif
