/* gateway_metrics.h - the gateway's metric families, and per function the pointers that the hot path updates.
 *
 * Series of a function appear with its first request and go when it is forgotten.
 *
 * Threads: updates from any thread; lookups are lock-free after the first of their kind.
 */
#ifndef CICADA_GATEWAY_GATEWAY_METRICS_H
#define CICADA_GATEWAY_GATEWAY_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "runtime/base/metrics.h"

enum cold_phase { COLD_DECIDE, COLD_START, COLD_PROBE, COLD_HANDLER, COLD_PHASES };

struct gateway_metrics {
    struct metric_family *requests, *duration, *held, *handshakes, *certificates;
    struct metric *cold_start[COLD_PHASES];
    struct metric *connections[3]; /* public, internal, tls */
    struct metric *upstream_connections, *websockets, *upstream_retries, *upstream_failures, *probes, *wakes,
        *shed;
};

/* A TLS handshake ended; result: a literal, "full", "resumed" or why it failed. */
void gateway_metrics_handshake(struct gateway_metrics *metrics, const char *result);

void gateway_metrics_init(struct gateway_metrics *metrics, struct metrics *registry);

#define FUNCTION_METRIC_CODES 16

struct function_metrics;
struct function_metrics *function_metrics_new(struct gateway_metrics *metrics, const char *namespace,
                                              const char *name);
/* Also removes the series: nobody may use them any more. */
void function_metrics_free(struct function_metrics *function);

/* A request ended: status 499 means the client went first. */
void function_metrics_count(struct function_metrics *function, int status, int64_t duration_us);
void function_metrics_held(struct function_metrics *function, int change);
/* A request that came while nothing could serve got its answer's head. */
void function_metrics_cold(struct function_metrics *function, int64_t duration_us);
/* What was counted so far; *ret_p50_s and *ret_p99_s are NaN before the first request, *ret_cold_us is 0 before the first cold start. */
void function_metrics_figures(struct function_metrics *function, double *ret_requests, double *ret_p50_s,
                              double *ret_p99_s, int64_t *ret_cold_us);

#endif
