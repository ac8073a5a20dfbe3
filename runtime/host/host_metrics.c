#include "runtime/host/host_metrics.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/version.h"

struct host_metrics {
    int64_t start_us;
    struct request_metrics *requests;
    pthread_mutex_t mutex; /* of updates, so that no counter is raised twice by the same difference */
    struct host_metrics_sources sources; /* guarded by mutex */
    struct metric *in_flight, *waiting, *connections;
    struct metric *busy_seconds, *refused;
    struct metric_family *phases, *pool_connections, *transactions, *events;
    struct metric *events_in_flight, *events_in_line;
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

static struct metric *labelled(struct metric_family *family, const char *value)
{
    const char *const labels[] = {value};
    return metric_family_get(family, labels);
}

/* Each of these values of its label is there from the start; values: NULL-terminated. */
static void begin_at_0(struct metric_family *family, const char *const *values)
{
    for (; *values != NULL; values++)
        (void)labelled(family, *values);
}

static void add_process(struct host_metrics *host, struct metrics *metrics, int restarts)
{
    static const char *const version_label[] = {"version", NULL};
    static const char *const phase_label[] = {"phase", NULL};
    static const char *const phases[] = {"admin", "load", "database", "listen", "serving", NULL};
    struct metric_family *build =
        metrics_gauge(metrics, "cicada_build_info", "What runs; always 1.", version_label);

    metric_set(labelled(build, CICADA_VERSION), 1);
    metric_add(counter(metrics, "cicada_runtime_worker_restarts_total",
                       "Workers that were started because the one before crashed."),
               restarts);
    host->phases = metrics_gauge(
        metrics, "cicada_runtime_start_phase_seconds",
        "When each phase of the start had ended, from the start of the worker on; 0: not yet.", phase_label);
    begin_at_0(host->phases, phases);
}

static void add_requests(struct host_metrics *host, struct metrics *metrics)
{
    host->requests = request_metrics_new(metrics);
    host->refused =
        counter(metrics, "cicada_runtime_refused_requests_total",
                "Requests that the function never saw: malformed, too large a head, too slow a head.");
    host->in_flight = gauge(metrics, "cicada_runtime_in_flight", "Handlers at work.");
    host->waiting = gauge(metrics, "cicada_runtime_waiting", "Requests that wait for a place.");
    host->busy_seconds = counter(metrics, "cicada_runtime_busy_seconds_total", "Time handlers were at work.");
    host->connections =
        gauge(metrics, "cicada_runtime_connections", "Open connections of the function port.");
}

static void add_pool(struct host_metrics *host, struct metrics *metrics)
{
    static const char *const state_label[] = {"state", NULL};
    static const char *const states[] = {"idle", "lent", NULL};
    static const char *const outcome_label[] = {"outcome", NULL};
    static const char *const outcomes[] = {"committed", "rolled_back",    "failed", "unreachable",
                                           "lost",      "commit_unknown", NULL};

    host->pool_connections = metrics_gauge(metrics, "cicada_runtime_pool_connections",
                                           "Open connections to the database, by state.", state_label);
    begin_at_0(host->pool_connections, states);
    host->pool_waiting =
        gauge(metrics, "cicada_runtime_pool_waiting", "Invocations that wait for a connection.");
    host->connects =
        counter(metrics, "cicada_runtime_pool_connects_total", "Connections opened to the database.");
    host->connect_failures = counter(metrics, "cicada_runtime_pool_connect_failures_total",
                                     "Connections that could not be opened.");
    host->transactions = metrics_counter(metrics, "cicada_runtime_transactions_total",
                                         "Transactions of invocations, by outcome.", outcome_label);
    begin_at_0(host->transactions, outcomes);
}

static void add_events(struct host_metrics *host, struct metrics *metrics)
{
    static const char *const outcome_label[] = {"outcome", NULL};
    static const char *const outcomes[] = {"done", "retried", "dead", "lost", NULL};

    host->events = metrics_counter(metrics, "cicada_runtime_events_total",
                                   "Runs of events of queues, by what became of the event.", outcome_label);
    begin_at_0(host->events, outcomes);
    host->events_in_flight = gauge(metrics, "cicada_runtime_events_in_flight", "Events at work.");
    host->events_in_line = gauge(metrics, "cicada_runtime_events_in_line", "Events claimed and not begun.");
}

struct host_metrics *host_metrics_new(struct metrics *metrics, int64_t start_us, int restarts)
{
    struct host_metrics *host = xcalloc(1, sizeof(*host));

    host->start_us = start_us;
    pthread_mutex_init(&host->mutex, NULL);
    add_process(host, metrics, restarts);
    add_requests(host, metrics);
    add_pool(host, metrics);
    add_events(host, metrics);
    return host;
}

void host_metrics_free(struct host_metrics *host)
{
    if (host == NULL)
        return;
    request_metrics_free(host->requests);
    pthread_mutex_destroy(&host->mutex);
    free(host);
}

struct request_metrics *host_metrics_requests(struct host_metrics *host)
{
    return host->requests;
}

static void set_phase(struct host_metrics *host, const char *phase, int64_t end_us)
{
    metric_set(labelled(host->phases, phase), (double)(end_us - host->start_us) / 1e6);
}

void host_metrics_phase_ended(struct host_metrics *host, const char *phase)
{
    set_phase(host, phase, clock_monotonic_us());
}

void host_metrics_watch(struct host_metrics *host, const struct host_metrics_sources *sources)
{
    pthread_mutex_lock(&host->mutex);
    host->sources = *sources;
    pthread_mutex_unlock(&host->mutex);
}

/* Brings a counter up to a figure that is counted elsewhere. */
static void raise_to(struct metric *metric, double value)
{
    double missing = value - metric_value(metric);
    if (missing > 0)
        metric_add(metric, missing);
}

static void update_service(struct host_metrics *host, struct service *service)
{
    struct service_figures figures;

    service_figures(service, &figures);
    metric_set(host->in_flight, figures.in_flight);
    metric_set(host->waiting, figures.waiting);
    raise_to(host->busy_seconds, (double)figures.busy_ms / 1000.0);
}

static void update_pool(struct host_metrics *host, struct pg_pool *pool)
{
    struct pg_pool_stats stats;

    pg_pool_stats(pool, &stats);
    metric_set(labelled(host->pool_connections, "idle"), stats.idle);
    metric_set(labelled(host->pool_connections, "lent"), stats.lent);
    metric_set(host->pool_waiting, stats.waiting);
    raise_to(host->connects, (double)stats.connects);
    raise_to(host->connect_failures, (double)stats.connect_failures);
    raise_to(labelled(host->transactions, "committed"), (double)stats.commits);
    raise_to(labelled(host->transactions, "rolled_back"), (double)stats.rollbacks);
    raise_to(labelled(host->transactions, "failed"), (double)stats.failures);
    raise_to(labelled(host->transactions, "unreachable"), (double)stats.unreachable);
    raise_to(labelled(host->transactions, "lost"), (double)stats.lost);
    raise_to(labelled(host->transactions, "commit_unknown"), (double)stats.commit_unknown);
    if (stats.first_connect_us != 0)
        set_phase(host, "database", stats.first_connect_us);
}

static void update_events(struct host_metrics *host, struct event_service *events)
{
    struct consumer_figures figures;
    struct consumer_counts counts;

    event_service_figures(events, &figures, &counts);
    metric_set(host->events_in_flight, figures.at_work);
    metric_set(host->events_in_line, figures.in_line);
    raise_to(labelled(host->events, "done"), (double)counts.done);
    raise_to(labelled(host->events, "retried"), (double)counts.retried);
    raise_to(labelled(host->events, "dead"), (double)counts.buried);
    raise_to(labelled(host->events, "lost"), (double)counts.lost);
}

void host_metrics_update(struct host_metrics *host)
{
    pthread_mutex_lock(&host->mutex);
    if (host->sources.service != NULL)
        update_service(host, host->sources.service);
    if (host->sources.server != NULL) {
        metric_set(host->connections, http_server_connections(host->sources.server));
        raise_to(host->refused, (double)http_server_refused(host->sources.server));
    }
    if (host->sources.pool != NULL)
        update_pool(host, host->sources.pool);
    if (host->sources.events != NULL)
        update_events(host, host->sources.events);
    pthread_mutex_unlock(&host->mutex);
}
