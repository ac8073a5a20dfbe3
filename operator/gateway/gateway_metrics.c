#include "operator/gateway/gateway_metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"

static const char *const function_labels[] = {"namespace", "function", NULL};
static const char *const request_labels[] = {"namespace", "function", "code", NULL};
static const char *const listener_labels[] = {"listener", NULL};
static const char *const result_labels[] = {"result", NULL};
static const char *const secret_labels[] = {"namespace", "secret", NULL};
static const char *const phase_labels[] = {"phase", NULL};

static struct metric *single(struct metric_family *family)
{
    return metric_family_get(family, NULL);
}

void gateway_metrics_init(struct gateway_metrics *metrics, struct metrics *registry)
{
    static const char *const phases[COLD_PHASES] = {"decide", "start", "probe", "handler"};
    static const char *const listeners[] = {"public", "internal", "tls"};
    metrics->requests =
        metrics_counter(registry, "cicada_gateway_requests_total",
                        "Requests answered; code 499: the client went first.", request_labels);
    metrics->duration = metrics_histogram(
        registry, "cicada_gateway_request_duration_seconds",
        "Time from a request's head to the end of its answer; of a WebSocket, to its beginning.",
        function_labels, metrics_latency_bounds, metrics_latency_bound_count);
    metrics->held = metrics_gauge(registry, "cicada_gateway_held_requests",
                                  "Requests that wait for a replica.", function_labels);
    struct metric_family *cold =
        metrics_histogram(registry, "cicada_gateway_cold_start_seconds",
                          "Phases of requests that came while nothing could serve.", phase_labels,
                          metrics_latency_bounds, metrics_latency_bound_count);
    for (int i = 0; i < COLD_PHASES; i++) {
        metrics->cold_start[i] = metric_family_get(cold, (const char *[]){phases[i]});
    }
    struct metric_family *connections = metrics_gauge(registry, "cicada_gateway_client_connections",
                                                      "Open connections of clients.", listener_labels);
    for (int i = 0; i < 3; i++) {
        metrics->connections[i] = metric_family_get(connections, (const char *[]){listeners[i]});
    }
    metrics->handshakes =
        metrics_counter(registry, "cicada_gateway_tls_handshakes_total",
                        "TLS handshakes by their end: full, resumed, or why they failed.", result_labels);
    metrics->certificates =
        metrics_gauge(registry, "cicada_gateway_tls_certificate_expiry_timestamp_seconds",
                      "When the certificate of a Secret that is in use expires.", secret_labels);
    metrics->upstream_connections = single(metrics_gauge(registry, "cicada_gateway_upstream_connections",
                                                         "Open connections to function pods.", NULL));
    metrics->websockets =
        single(metrics_gauge(registry, "cicada_gateway_websockets",
                             "Open WebSockets; requests_total counts each when it was granted.", NULL));
    metrics->upstream_retries = single(metrics_counter(registry, "cicada_gateway_upstream_retries_total",
                                                       "Requests that were sent to a pod again.", NULL));
    metrics->upstream_failures =
        single(metrics_counter(registry, "cicada_gateway_upstream_failures_total",
                               "Requests answered 502 or 504, or cut, because of a pod.", NULL));
    metrics->probes = single(metrics_counter(registry, "cicada_gateway_probes_total",
                                             "Connection attempts to pods not yet usable.", NULL));
    metrics->wakes = single(
        metrics_counter(registry, "cicada_gateway_wakes_total", "Times a function was asked to wake.", NULL));
    metrics->shed = single(metrics_counter(registry, "cicada_gateway_shed_connections_total",
                                           "Connections refused because there are too many.", NULL));
}

void gateway_metrics_handshake(struct gateway_metrics *metrics, const char *result)
{
    metric_add(metric_family_get(metrics->handshakes, (const char *[]){result}), 1);
}

/* ---- per function ---- */

struct code_metric {
    atomic_int code; /* 0: free */
    _Atomic(struct metric *) metric;
};

struct function_metrics {
    struct gateway_metrics *metrics;
    char *namespace, *name;
    _Atomic(struct metric *) duration, held;
    atomic_llong cold_us; /* of the last cold start */
    struct code_metric codes[FUNCTION_METRIC_CODES];
};

struct function_metrics *function_metrics_new(struct gateway_metrics *metrics, const char *namespace,
                                              const char *name)
{
    struct function_metrics *function = xcalloc(1, sizeof(*function));
    function->metrics = metrics;
    function->namespace = xstrdup(namespace);
    function->name = xstrdup(name);
    return function;
}

void function_metrics_free(struct function_metrics *function)
{
    if (!function) {
        return;
    }
    const char *labels[] = {function->namespace, function->name};
    if (function->namespace[0]) {
        metric_family_remove(function->metrics->requests, labels, 2);
        metric_family_remove(function->metrics->duration, labels, 2);
        metric_family_remove(function->metrics->held, labels, 2);
    }
    free(function->namespace);
    free(function->name);
    free(function);
}

static struct metric *cached(_Atomic(struct metric *) *slot, struct metric_family *family,
                             const char *const *labels)
{
    struct metric *metric = atomic_load_explicit(slot, memory_order_acquire);
    if (!metric) {
        metric = metric_family_get(family, labels);
        atomic_store_explicit(slot, metric, memory_order_release);
    }
    return metric;
}

static struct metric *code_metric_get(struct function_metrics *function, int status)
{
    char text[12];
    snprintf(text, sizeof(text), "%d", status);
    return metric_family_get(function->metrics->requests,
                             (const char *[]){function->namespace, function->name, text});
}

static struct metric *code_metric(struct function_metrics *function, int status)
{
    for (size_t i = 0; i < ARRAY_SIZE(function->codes); i++) {
        struct code_metric *slot = &function->codes[i];
        int code = atomic_load_explicit(&slot->code, memory_order_acquire);
        if (code == 0 && atomic_compare_exchange_strong(&slot->code, &code, status)) {
            code = status;
        }
        if (code != status) {
            continue;
        }
        struct metric *metric = atomic_load_explicit(&slot->metric, memory_order_acquire);
        if (!metric) {
            metric = code_metric_get(function, status);
            atomic_store_explicit(&slot->metric, metric, memory_order_release);
        }
        return metric;
    }
    return code_metric_get(function, status);
}

void function_metrics_count(struct function_metrics *function, int status, int64_t duration_us)
{
    const char *labels[] = {function->namespace, function->name};
    metric_add(code_metric(function, status), 1);
    metric_observe(cached(&function->duration, function->metrics->duration, labels),
                   (double)duration_us / 1e6);
}

void function_metrics_held(struct function_metrics *function, int change)
{
    const char *labels[] = {function->namespace, function->name};
    metric_add(cached(&function->held, function->metrics->held, labels), change);
}

void function_metrics_cold(struct function_metrics *function, int64_t duration_us)
{
    atomic_store_explicit(&function->cold_us, duration_us, memory_order_relaxed);
}

void function_metrics_figures(struct function_metrics *function, double *ret_requests, double *ret_p50_s,
                              double *ret_p99_s, int64_t *ret_cold_us)
{
    struct metric *duration = atomic_load_explicit(&function->duration, memory_order_acquire);
    *ret_requests = duration ? metric_value(duration) : 0;
    *ret_p50_s = duration ? metric_quantile(duration, 0.5) : NAN;
    *ret_p99_s = duration ? metric_quantile(duration, 0.99) : NAN;
    *ret_cold_us = atomic_load_explicit(&function->cold_us, memory_order_relaxed);
}
