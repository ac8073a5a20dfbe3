#include "operator/gateway/keeper.h"

#include "operator/gateway/prober.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define KEEPER_PROBES_PER_LOOK 64

struct keeper {
    struct worker *worker;
    struct function_state *function;
    struct loop_post attend, close;
    atomic_bool attending; /* `attend` is posted */
    struct loop_timer timer;
    LIST_HEAD(, probe) probes;
};

static void forget_probe(struct probe *probe, void *arg)
{
    (void)arg;
    LIST_REMOVE(probe, link);
    probe_free(probe);
}

static bool is_probed(const struct keeper *keeper, const struct pod *pod)
{
    const struct probe *probe;
    LIST_FOREACH(probe, &keeper->probes, link)
    {
        if (probe->pod == pod) {
            return true;
        }
    }
    return false;
}

static void start_probes(struct keeper *keeper)
{
    struct pod *pods[KEEPER_PROBES_PER_LOOK];
    size_t count = function_pods_to_probe(keeper->function, pods, KEEPER_PROBES_PER_LOOK);
    for (size_t i = 0; i < count; i++) {
        if (is_probed(keeper, pods[i])) {
            pod_unref(pods[i]);
            continue;
        }
        struct probe *probe = probe_new(keeper->worker, keeper->function, pods[i], forget_probe, NULL);
        LIST_INSERT_HEAD(&keeper->probes, probe, link);
        probe_start(probe);
    }
}

static void look(struct keeper *keeper)
{
    int64_t now_ms = clock_monotonic_ms();
    bool again;
    if (function_wake_due(keeper->function, now_ms, &again)) {
        worker_wake(keeper->worker, keeper->function);
    }
    start_probes(keeper);
    if (again) {
        loop_timer_set(keeper->worker->loop, &keeper->timer, now_ms + GATEWAY_WAKE_PERIOD_MS);
    }
}

static void attend(struct loop_post *post)
{
    struct keeper *keeper = container_of(post, struct keeper, attend);
    atomic_store(&keeper->attending, false);
    struct probe *probe = LIST_FIRST(&keeper->probes);
    while (probe) {
        struct probe *next = LIST_NEXT(probe, link);
        probe_hurry(probe);
        probe = next;
    }
    look(keeper);
}

void keeper_attend(void *arg)
{
    struct keeper *keeper = arg;
    if (!atomic_exchange(&keeper->attending, true)) {
        loop_post(keeper->worker->loop, &keeper->attend);
    }
}

static void timer_fired(struct loop_timer *timer)
{
    look(container_of(timer, struct keeper, timer));
}

void keeper_free(struct keeper *keeper)
{
    struct probe *probe;
    while ((probe = LIST_FIRST(&keeper->probes))) {
        forget_probe(probe, NULL);
    }
    loop_timer_close(keeper->worker->loop, &keeper->timer);
    struct function_metrics *metrics = keeper->function->metrics;
    function_state_unref(keeper->function);
    function_metrics_free(metrics);
    free(keeper);
}

static void close_now(struct loop_post *post)
{
    keeper_free(container_of(post, struct keeper, close));
}

void keeper_close(struct keeper *keeper)
{
    /* Posts run in order: an `attend` posted before has run by then, and nobody posts another for a forgotten function. */
    loop_post(keeper->worker->loop, &keeper->close);
}

struct keeper *keeper_new(struct worker *worker, struct function_state *function)
{
    struct keeper *keeper = xcalloc(1, sizeof(*keeper));
    keeper->worker = worker;
    keeper->function = function;
    keeper->attend.run = attend;
    keeper->close.run = close_now;
    atomic_init(&keeper->attending, false);
    loop_timer_init(&keeper->timer, timer_fired);
    LIST_INIT(&keeper->probes);
    return keeper;
}
