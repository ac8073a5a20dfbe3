#include "operator/function/function_scaler.h"

#include <stdlib.h>
#include <string.h>

#include "operator/autoscaler/gateway_stats.h"
#include "operator/function/function_execute.h"
#include "operator/function/function_world.h"
#include "operator/queue/thread.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define TICK_MS 1000

/* What is remembered of a Function from tick to tick. */
struct memory {
    char *uid; /* of the Function */
    struct autoscaler_history history;
};

struct function_scaler {
    struct kube_client *client;
    struct function_cache *cache;
    struct gateway_stats *stats;
    struct stop stop;
    pthread_t thread;
    bool is_started;
    atomic_llong beat_ms;    /* 0: not running */
    struct memory *memories; /* in order of uid; scaler's thread only, like all below */
    size_t memory_count;
    struct metric *ups, *downs, *sleeps, *failures, *unread;
};

static struct metric *new_scale_metric(struct metric_family *family, const char *direction)
{
    return metric_family_get(family, (const char *const[]){direction});
}

struct function_scaler *function_scaler_new(struct kube_client *client, struct function_cache *cache,
                                            int gateway_admin_port, struct metrics *metrics)
{
    static const char *const direction_label[] = {"direction", NULL};
    struct function_scaler *scaler = xcalloc(1, sizeof *scaler);
    scaler->client = client;
    scaler->cache = cache;
    stop_init(&scaler->stop);
    scaler->stats = gateway_stats_new(gateway_admin_port, &scaler->stop);
    struct metric_family *changes =
        metrics_counter(metrics, "cicada_autoscaler_changes_total", "Changes of replicas by the autoscaler.",
                        direction_label);
    scaler->ups = new_scale_metric(changes, "up");
    scaler->downs = new_scale_metric(changes, "down");
    scaler->sleeps = new_scale_metric(changes, "zero");
    scaler->failures = metric_family_get(metrics_counter(metrics, "cicada_autoscaler_failures_total",
                                                         "Changes that the API server did not take.", NULL),
                                         NULL);
    scaler->unread =
        metric_family_get(metrics_gauge(metrics, "cicada_autoscaler_unread_gateways",
                                        "Gateways whose figures could not be read in the last tick.", NULL),
                          NULL);
    return scaler;
}

static void release_memory(struct memory *memory)
{
    free(memory->uid);
    autoscaler_history_release(&memory->history);
}

void function_scaler_free(struct function_scaler *scaler)
{
    if (!scaler) {
        return;
    }
    for (size_t i = 0; i < scaler->memory_count; i++) {
        release_memory(&scaler->memories[i]);
    }
    free(scaler->memories);
    gateway_stats_free(scaler->stats);
    stop_release(&scaler->stop);
    free(scaler);
}

/* ---- one tick ---- */

static void read_gateways(struct function_scaler *scaler)
{
    size_t pod_count, count = 0;
    struct cached_pod **pods = function_cache_gateways(scaler->cache, &pod_count);
    struct gateway_address *gateways = xcalloc(pod_count + 1, sizeof *gateways);
    for (size_t i = 0; i < pod_count; i++) {
        bool over = pods[i]->phase &&
                    (strcmp(pods[i]->phase, "Succeeded") == 0 || strcmp(pods[i]->phase, "Failed") == 0);
        if (pods[i]->ip && !over) {
            gateways[count++] = (struct gateway_address){
                .uid = pods[i]->base.uid, .ip = pods[i]->ip, .ready = pods[i]->ready && !pods[i]->deleting};
        }
    }
    metric_set(scaler->unread, (double)gateway_stats_poll(scaler->stats, gateways, count));
    for (size_t i = 0; i < pod_count; i++) {
        cached_object_unref(&pods[i]->base);
    }
    free(pods);
    free(gateways);
}

struct function_list {
    struct cached_function **functions;
    size_t count;
};

static void collect_function(void *arg, struct cached_object *object)
{
    struct function_list *list = arg;
    struct cached_function *function = container_of(object, struct cached_function, base);
    if (function->spec && !function->deleting) {
        list->functions = xreallocarray(list->functions, list->count + 1, sizeof(struct cached_function *));
        list->functions[list->count++] =
            container_of(cached_object_ref(object), struct cached_function, base);
    }
}

static int compare_functions(const void *a, const void *b)
{
    struct cached_function *const *left = a, *const *right = b;
    return strcmp((*left)->base.uid, (*right)->base.uid);
}

/* Both lists are in order of uid: what is no longer there is forgotten, what is new begins. */
static void match_memories(struct function_scaler *scaler, const struct function_list *list)
{
    struct memory *memories = xcalloc(list->count + 1, sizeof *memories);
    size_t old = 0;
    for (size_t i = 0; i < list->count; i++) {
        const char *uid = list->functions[i]->base.uid;
        while (old < scaler->memory_count && strcmp(scaler->memories[old].uid, uid) < 0) {
            release_memory(&scaler->memories[old++]);
        }
        if (old < scaler->memory_count && strcmp(scaler->memories[old].uid, uid) == 0) {
            memories[i] = scaler->memories[old++];
        } else {
            memories[i].uid = xstrdup(uid);
        }
    }
    while (old < scaler->memory_count) {
        release_memory(&scaler->memories[old++]);
    }
    free(scaler->memories);
    scaler->memories = memories;
    scaler->memory_count = list->count;
}

static bool has_failed(const struct cached_function *function)
{
    const struct condition *deployed = &function->status.conditions[CONDITION_DEPLOYED];
    return deployed->status == CONDITION_FALSE && deployed->generation == function->generation;
}

/* Waking scales the newest ReplicaSet only, so a Function whose newest template is not proven keeps its older pods; one that failed
 * and serves nothing may go. */
static struct autoscaler_state read_state(const struct cached_function *function,
                                          const struct cached_deployment *deployment, bool *ret_proving)
{
    const char *wanted = function->spec_template;
    bool current = str_equal_or_both_null(deployment->spec_template, wanted);
    bool proven = current && (str_equal_or_both_null(deployment->proven, wanted) ||
                              function->spec->initial_replicas == 0);
    bool failed = current && has_failed(function);
    *ret_proving = !proven && !failed;
    return (struct autoscaler_state){.replicas = deployment->replicas,
                                     .may_sleep = proven || (failed && deployment->ready_replicas == 0)};
}

static struct autoscaler_settings read_settings(const struct function_spec *spec, bool proving)
{
    return (struct autoscaler_settings){
        .min_replicas = spec->min_replicas,
        .max_replicas = spec->max_replicas,
        .awake_min = proving && spec->initial_replicas > 1 ? spec->initial_replicas : 1,
        .concurrency = spec->concurrency,
        .target_utilization = spec->target_utilization,
        .idle_ms = spec->idle_seconds * 1000LL,
        .window_ms = spec->window_seconds * 1000LL,
        .scale_down_delay_ms = spec->scale_down_delay_seconds * 1000LL,
    };
}

static bool write_scale(struct function_scaler *scaler, const struct cached_deployment *deployment,
                        int replicas, const struct autoscaler_load *load)
{
    const struct cached_object *object = &deployment->head.base;
    struct err err = ERR_INIT;
    if (function_execute_scale(scaler->client, object->namespace, object->name, object->resource_version,
                               replicas, &err)) {
        bool moved_on = err.code == ERR_CONFLICT || err.code == ERR_NOT_FOUND;
        if (!moved_on && err.code != ERR_CANCELLED) {
            metric_add(scaler->failures, 1);
            log_warn("%s/%s: scaling to %d failed: %s", object->namespace, object->name, replicas, err.msg);
        }
        return false;
    }
    metric_add(replicas == 0                     ? scaler->sleeps
               : replicas > deployment->replicas ? scaler->ups
                                                 : scaler->downs,
               1);
    log_info("%s/%s: %d -> %d replicas (load %.1f, waiting %lld)", object->namespace, object->name,
             deployment->replicas, replicas, load->mean, (long long)load->waiting);
    return true;
}

static void scale_one(struct function_scaler *scaler, const struct cached_function *function,
                      const struct cached_deployment *deployment, struct autoscaler_history *history)
{
    if (function->spec->replicas >= 0 ||
        child_claim_of(&deployment->head, function->base.uid) != CHILD_OURS) {
        return;
    }
    if (deployment->replicas == 0 && function->spec->min_replicas == 0) {
        autoscaler_history_release(history); /* asleep, which most are: nothing to decide */
        return;
    }
    bool proving;
    struct autoscaler_state state = read_state(function, deployment, &proving);
    struct autoscaler_settings settings = read_settings(function->spec, proving);
    struct autoscaler_load load =
        gateway_stats_load(scaler->stats, function->base.namespace, function->base.name);
    autoscaler_observe(history, &settings, &state, &load);
    int replicas = autoscaler_decide(history, &settings, &state, &load);
    if (replicas != state.replicas && write_scale(scaler, deployment, replicas, &load)) {
        autoscaler_wrote(history, replicas, load.at_ms);
    }
}

/* Writes may be slow when the API server is: each Function is a heartbeat, not only each tick. */
static void beat(struct function_scaler *scaler)
{
    atomic_store(&scaler->beat_ms, clock_monotonic_ms());
}

static void tick(struct function_scaler *scaler)
{
    struct function_list list = {.count = 0};
    beat(scaler);
    read_gateways(scaler);
    function_cache_each(scaler->cache, CACHE_FUNCTION, collect_function, &list);
    if (list.count > 1) {
        qsort(list.functions, list.count, sizeof(struct cached_function *), compare_functions);
    }
    match_memories(scaler, &list);
    for (size_t i = 0; i < list.count; i++) {
        beat(scaler);
        const struct cached_object *object = &list.functions[i]->base;
        struct cached_object *child =
            function_cache_get(scaler->cache, CACHE_DEPLOYMENT, object->namespace, object->name);
        if (child && !stop_is_set(&scaler->stop)) {
            scale_one(scaler, list.functions[i], container_of(child, struct cached_deployment, head.base),
                      &scaler->memories[i].history);
        }
        cached_object_unref(child);
        cached_object_unref(&list.functions[i]->base);
    }
    free(list.functions);
}

static void *run(void *arg)
{
    struct function_scaler *scaler = arg;
    int64_t next_ms = clock_monotonic_ms();
    while (!stop_is_set(&scaler->stop)) {
        int64_t now_ms = clock_monotonic_ms();
        tick(scaler);
        /* A tick that took long is not made up for. */
        next_ms = next_ms + TICK_MS > now_ms ? next_ms + TICK_MS : now_ms;
        stop_wait(&scaler->stop, deadline_left_ms(next_ms));
    }
    return NULL;
}

void function_scaler_start(struct function_scaler *scaler)
{
    scaler->is_started = true;
    scaler->thread = thread_start("scaler", run, scaler);
}

void function_scaler_stop(struct function_scaler *scaler)
{
    stop_set(&scaler->stop);
    if (scaler->is_started) {
        pthread_join(scaler->thread, NULL);
        scaler->is_started = false;
        atomic_store(&scaler->beat_ms, 0);
    }
}

int64_t function_scaler_silence_ms(const struct function_scaler *scaler)
{
    int64_t beat_ms = atomic_load(&scaler->beat_ms);
    return beat_ms ? clock_monotonic_ms() - beat_ms : 0;
}
