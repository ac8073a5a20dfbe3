/* host_metrics.h - what the runtime tells Prometheus.
 *
 * Requests are counted as they are answered (request_metrics.h). All else is read where it is kept, when /metrics is asked
 * for. Every family is there from the start, at 0. The table in runtime/README.md lists them.
 *
 * Threads: any.
 */
#ifndef CICADA_HOST_HOST_METRICS_H
#define CICADA_HOST_HOST_METRICS_H

#include <stdint.h>

#include "runtime/base/metrics.h"
#include "runtime/host/event_service.h"
#include "runtime/host/request_metrics.h"
#include "runtime/host/service.h"
#include "runtime/http/http_server.h"
#include "runtime/postgres/postgres.h"

struct host_metrics;

/* start_us: clock_monotonic_us() of the worker's start; restarts: how many workers came before this one. */
struct host_metrics *host_metrics_new(struct metrics *metrics, int64_t start_us, int restarts);
void host_metrics_free(struct host_metrics *host);

struct request_metrics *host_metrics_requests(struct host_metrics *host);
/* A phase of the start ended just now: "admin", "load", "listen" or "serving". */
void host_metrics_phase_ended(struct host_metrics *host, const char *phase);

/* Where figures are kept; each may be NULL, and must live until it is replaced. */
struct host_metrics_sources {
    struct service *service;
    struct http_server *server;
    struct pg_pool *pool;
    struct event_service *events;
};
void host_metrics_watch(struct host_metrics *host, const struct host_metrics_sources *sources);
/* Brings all up to date with the sources. */
void host_metrics_update(struct host_metrics *host);

#endif
