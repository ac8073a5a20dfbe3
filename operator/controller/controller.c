#include "operator/controller/controller.h"

#include "operator/queue/thread.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

enum outcome {
    OUTCOME_SUCCESS,
    OUTCOME_REQUEUE_AFTER,
    OUTCOME_CONFLICT,
    OUTCOME_ERROR,
    OUTCOME_TERMINAL,
    OUTCOME_COUNT
};

static const char *const outcome_names[OUTCOME_COUNT] = {
    [OUTCOME_SUCCESS] = "success", [OUTCOME_REQUEUE_AFTER] = "requeue_after", [OUTCOME_CONFLICT] = "conflict",
    [OUTCOME_ERROR] = "error",     [OUTCOME_TERMINAL] = "terminal",
};

struct controller {
    char *name;
    struct workqueue *queue;
    int worker_count;
    reconcile_fn *reconcile;
    void *arg;
    struct metrics *own_metrics; /* when the program gave none */
    struct metric *outcomes[OUTCOME_COUNT];
    struct metric *duration, *depth;
    pthread_t *threads;
    bool is_started;
};

static void register_metrics(struct controller *controller, struct metrics *metrics)
{
    static const char *const by_controller[] = {"controller", NULL};
    static const char *const by_outcome[] = {"controller", "result", NULL};
    struct metric_family *outcomes = metrics_counter(metrics, "cicada_operator_reconcile_total",
                                                     "Reconciliations by their result.", by_outcome);
    struct metric_family *duration = metrics_histogram(metrics, "cicada_operator_reconcile_duration_seconds",
                                                       "Time that one reconciliation took.", by_controller,
                                                       metrics_latency_bounds, metrics_latency_bound_count);
    struct metric_family *depth = metrics_gauge(metrics, "cicada_operator_workqueue_depth",
                                                "Keys that wait for a worker.", by_controller);
    const char *labels[] = {controller->name, NULL};
    controller->duration = metric_family_get(duration, labels);
    controller->depth = metric_family_get(depth, labels);
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        labels[1] = outcome_names[i];
        controller->outcomes[i] = metric_family_get(outcomes, labels);
    }
}

struct controller *controller_new(const char *name, struct workqueue *queue, int workers,
                                  reconcile_fn *reconcile, void *arg, struct metrics *metrics)
{
    struct controller *controller = xcalloc(1, sizeof(*controller));
    controller->name = xstrdup(name);
    controller->queue = queue;
    controller->worker_count = workers;
    controller->reconcile = reconcile;
    controller->arg = arg;
    controller->threads = xcalloc((size_t)workers, sizeof(*controller->threads));
    if (!metrics)
        metrics = controller->own_metrics = metrics_new();
    register_metrics(controller, metrics);
    return controller;
}

void controller_free(struct controller *controller)
{
    if (!controller)
        return;
    metrics_free(controller->own_metrics);
    free(controller->threads);
    free(controller->name);
    free(controller);
}

/* What a reconciliation's end means for the queue: the one place where that is decided. */
static enum outcome settle(struct controller *controller, const struct object_key *key, int rc,
                           const struct reconcile_result *result, const struct err *err)
{
    struct workqueue *queue = controller->queue;
    if (rc == 0) {
        workqueue_forget(queue, key->namespace, key->name);
        if (result->requeue_after_ms <= 0)
            return OUTCOME_SUCCESS;
        workqueue_add_after(queue, key->namespace, key->name, result->requeue_after_ms);
        return OUTCOME_REQUEUE_AFTER;
    }
    switch (err->code) {
    case ERR_INVALID:
        log_info("%s: not tried again until it changes: %s", controller->name, err->msg);
        workqueue_forget(queue, key->namespace, key->name);
        return OUTCOME_TERMINAL;
    case ERR_CONFLICT:
    case ERR_GONE:
    case ERR_NOT_FOUND:
    case ERR_CANCELLED:
        log_debug("%s: tried again: %s", controller->name, err->msg);
        workqueue_add_backoff(queue, key->namespace, key->name);
        return OUTCOME_CONFLICT;
    default:
        log_warn("%s: tried again: %s: %s", controller->name, err_code_name(err->code), err->msg);
        if (err->retry_after_ms > 0)
            workqueue_add_after(queue, key->namespace, key->name, err->retry_after_ms);
        else
            workqueue_add_backoff(queue, key->namespace, key->name);
        return OUTCOME_ERROR;
    }
}

static void process(struct controller *controller, const struct object_key *key)
{
    struct reconcile_result result = {0};
    struct err err = ERR_INIT;
    CLEANUP_FREE char *object = xasprintf("%s%s%s", key->namespace, key->namespace[0] ? "/" : "", key->name);
    log_scope_set(object, /* request_id= */ NULL);
    int64_t started_us = clock_monotonic_us();
    int rc = controller->reconcile(controller->arg, key, &result, &err);
    metric_observe(controller->duration, (double)(clock_monotonic_us() - started_us) / 1e6);
    metric_add(controller->outcomes[settle(controller, key, rc, &result, &err)], 1);
    log_scope_clear();
}

static void *run(void *arg)
{
    struct controller *controller = arg;
    struct object_key key;
    while (workqueue_get(controller->queue, &key)) {
        metric_set(controller->depth, (double)workqueue_depth(controller->queue));
        process(controller, &key);
        workqueue_done(controller->queue, &key);
        object_key_release(&key);
        metric_set(controller->depth, (double)workqueue_depth(controller->queue));
    }
    return NULL;
}

void controller_start(struct controller *controller)
{
    controller->is_started = true;
    for (int i = 0; i < controller->worker_count; i++) {
        CLEANUP_FREE char *name = xasprintf("%.11s-%d", controller->name, i);
        controller->threads[i] = thread_start(name, run, controller);
    }
}

void controller_stop(struct controller *controller)
{
    workqueue_shutdown(controller->queue);
    if (!controller->is_started)
        return;
    for (int i = 0; i < controller->worker_count; i++)
        pthread_join(controller->threads[i], NULL);
    controller->is_started = false;
}
