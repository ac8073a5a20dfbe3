#include "runtime/host/host_metrics.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/base/mem.h"

struct host_metrics {
    pthread_mutex_t
        mutex; /* one update at a time, so that no counter is raised twice by the same difference */
    struct metric *in_flight, *waiting;
    struct metric *busy_seconds;
    struct metric_family *start_phases, *connections, *transactions;
    struct metric *pool_waiting, *connects, *connect_failures;
};

static struct metric *gauge(struct metrics *metrics, const char *name, const char *help)
{
    return metric_family_get(metrics_gauge(metrics, name, help, NULL), NULL);
}

static struct metric *counter(struct metrics *metrics, const char *name, const char *help)
{
    return metric_family_get(metrics_counter(metrics, name, help, NULL), NULL);
}

struct host_metrics *host_metrics_new(struct metrics *metrics, int restarts)
{
    static const char *const phase_labels[] = {"phase", NULL};
    static const char *const state_labels[] = {"state", NULL};
    static const char *const outcome_labels[] = {"outcome", NULL};
    struct host_metrics *host = xcalloc(1, sizeof(*host));

    pthread_mutex_init(&host->mutex, NULL);
    host->in_flight = gauge(metrics, "cicada_runtime_in_flight", "Handlers at work.");
    host->waiting = gauge(metrics, "cicada_runtime_waiting", "Requests that wait for a place.");
    host->busy_seconds = counter(metrics, "cicada_runtime_busy_seconds_total", "Time handlers were at work.");
    host->start_phases = metrics_gauge(metrics, "cicada_runtime_start_phase_seconds",
                                       "How long each phase of the start took.", phase_labels);
    host->connections = metrics_gauge(metrics, "cicada_runtime_pool_connections",
                                      "Connections to the database, by state.", state_labels);
    host->pool_waiting =
        gauge(metrics, "cicada_runtime_pool_waiting", "Invocations that wait for a connection.");
    host->connects =
        counter(metrics, "cicada_runtime_pool_connects_total", "Connections opened to the database.");
    host->connect_failures = counter(metrics, "cicada_runtime_pool_connect_failures_total",
                                     "Connections that could not be opened.");
    host->transactions = metrics_counter(metrics, "cicada_runtime_transactions_total",
                                         "Transactions of invocations, by outcome.", outcome_labels);
    metric_add(counter(metrics, "cicada_runtime_worker_restarts_total",
                       "Workers that were started because the one before crashed."),
               restarts);
    return host;
}

void host_metrics_free(struct host_metrics *host)
{
    if (host == NULL)
        return;
    pthread_mutex_destroy(&host->mutex);
    free(host);
}

void host_metrics_start_phase(struct host_metrics *host, const char *phase, int64_t took_us)
{
    const char *const labels[] = {phase};
    metric_set(metric_family_get(host->start_phases, labels), (double)took_us / 1e6);
}

static struct metric *labelled(struct metric_family *family, const char *value)
{
    const char *const labels[] = {value};
    return metric_family_get(family, labels);
}

/* Brings a counter up to a figure that is counted elsewhere. */
static void raise_to(struct metric *metric, double value)
{
    double missing = value - metric_value(metric);
    if (missing > 0)
        metric_add(metric, missing);
}

static void update_pool(struct host_metrics *host, struct pg_pool *pool)
{
    struct pg_pool_stats stats;

    pg_pool_stats(pool, &stats);
    metric_set(labelled(host->connections, "idle"), stats.idle);
    metric_set(labelled(host->connections, "lent"), stats.lent);
    metric_set(host->pool_waiting, stats.waiting);
    raise_to(host->connects, (double)stats.connects);
    raise_to(host->connect_failures, (double)stats.connect_failures);
    raise_to(labelled(host->transactions, "committed"), (double)stats.commits);
    raise_to(labelled(host->transactions, "rolled_back"), (double)stats.rollbacks);
    raise_to(labelled(host->transactions, "failed"), (double)stats.failures);
    raise_to(labelled(host->transactions, "unknown"), (double)stats.commit_unknown);
}

void host_metrics_update(struct host_metrics *host, struct service *service, struct pg_pool *pool)
{
    struct service_figures figures;

    pthread_mutex_lock(&host->mutex);
    if (service != NULL) {
        service_figures(service, &figures);
        metric_set(host->in_flight, figures.in_flight);
        metric_set(host->waiting, figures.waiting);
        raise_to(host->busy_seconds, (double)figures.busy_ms / 1000.0);
    }
    if (pool != NULL)
        update_pool(host, pool);
    pthread_mutex_unlock(&host->mutex);
}
