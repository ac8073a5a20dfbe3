#include "runtime/host/request_metrics.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/mem.h"

/* A small handler answers within 100 us, a waiting one at the deadline. */
static const int64_t duration_bounds_us[] = {100,     250,     500,     1000,     2500,     5000,
                                             10000,   25000,   50000,   100000,   250000,   500000,
                                             1000000, 2500000, 5000000, 10000000, 30000000, 60000000};
_Static_assert(ARRAY_SIZE(duration_bounds_us) + 1 == REQUEST_DURATIONS, "and one for longer ones");

struct request_metrics {
    struct metric_family *by_code;
    _Atomic(struct metric *) codes[REQUEST_STATUS_MAX - REQUEST_STATUS_MIN + 1]; /* NULL: not answered yet */
    struct metric *duration, *retries;
};

/* The metric of a status, made when it is first asked for. Two threads that make it at once get the same. */
static struct metric *code_metric(struct request_metrics *requests, int status)
{
    _Atomic(struct metric *) *slot = &requests->codes[status - REQUEST_STATUS_MIN];
    struct metric *metric = atomic_load_explicit(slot, memory_order_acquire);

    if (metric == NULL) {
        char code[8];
        const char *const labels[] = {code};
        snprintf(code, sizeof(code), "%d", status);
        metric = metric_family_get(requests->by_code, labels);
        atomic_store_explicit(slot, metric, memory_order_release);
    }
    return metric;
}

struct request_metrics *request_metrics_new(struct metrics *metrics)
{
    static const char *const code_labels[] = {"code", NULL};
    static const int own_statuses[] = {200, 400, 404, 408, 413, 500, 503, 504};
    struct request_metrics *requests = xcalloc(1, sizeof(*requests));
    double bounds[ARRAY_SIZE(duration_bounds_us)];
    struct metric_family *family;

    for (size_t i = 0; i < ARRAY_SIZE(bounds); i++)
        bounds[i] = (double)duration_bounds_us[i] / 1e6;
    requests->by_code = metrics_counter(metrics, "cicada_runtime_requests_total",
                                        "Requests that the function answered, by status.", code_labels);
    family = metrics_histogram(metrics, "cicada_runtime_request_duration_seconds",
                               "From the request's head to the answer sent, waiting included.", NULL, bounds,
                               ARRAY_SIZE(bounds));
    requests->duration = metric_family_get(family, NULL);
    family = metrics_counter(
        metrics, "cicada_runtime_retries_total",
        "Invocations begun anew after a serialization failure, a deadlock, or DDL by others.", NULL);
    requests->retries = metric_family_get(family, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(own_statuses); i++)
        request_metrics_expect(requests, own_statuses[i]);
    return requests;
}

void request_metrics_free(struct request_metrics *requests)
{
    free(requests);
}

void request_metrics_expect(struct request_metrics *requests, int status)
{
    (void)code_metric(requests, status);
}

void request_metrics_answered(struct request_metrics *requests, int status, int64_t took_us)
{
    assert(status >= REQUEST_STATUS_MIN && status <= REQUEST_STATUS_MAX);
    metric_add(code_metric(requests, status), 1);
    metric_observe(requests->duration, (double)took_us / 1e6);
}

void request_tally_add(struct request_tally *tally, int64_t took_us)
{
    size_t bucket = 0;

    while (bucket < ARRAY_SIZE(duration_bounds_us) && took_us > duration_bounds_us[bucket])
        bucket++;
    atomic_fetch_add_explicit(&tally->durations[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&tally->took_us, (uint64_t)took_us, memory_order_relaxed);
}

void request_metrics_collect(struct request_metrics *requests, struct request_tally *tally, int status)
{
    uint64_t counts[REQUEST_DURATIONS], total = 0;
    uint64_t took_us = atomic_exchange_explicit(&tally->took_us, 0, memory_order_relaxed);

    for (size_t i = 0; i < REQUEST_DURATIONS; i++) {
        counts[i] = atomic_exchange_explicit(&tally->durations[i], 0, memory_order_relaxed);
        total += counts[i];
    }
    if (total == 0 && took_us == 0)
        return;
    metric_add(code_metric(requests, status), (double)total);
    metric_observe_counts(requests->duration, counts, (double)took_us / 1e6);
}

void request_metrics_retried(struct request_metrics *requests, int retries)
{
    metric_add(requests->retries, retries);
}

int64_t request_metrics_served(struct request_metrics *requests)
{
    return (int64_t)metric_value(requests->duration);
}
