#include "operator/function/function_scaler.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "operator/autoscaler/gateway_stats.h"
#include "operator/autoscaler/scaler.h"
#include "operator/function/function_execute.h"
#include "operator/function/function_scaling.h"
#include "operator/function/function_world.h"
#include "operator/queue/thread.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/monotonic_cond.h"
#include "runtime/base/text.h"

#define TICK_MS   1000
#define WAKES_MAX 10000 /* the next tick finds the others */

/* A Function that events wait for. */
struct wake {
    UT_hash_handle hh;
    char *namespace, *name;
    char key[]; /* "namespace/name" */
};

struct function_scaler {
    struct kube_client *client;
    struct function_cache *cache;
    struct event_recorder *recorder;
    struct backlog *backlog; /* NULL: nobody watches databases */
    struct gateway_stats *stats;
    struct scaler *scaler; /* its thread's only, once that runs */
    struct stop stop;
    pthread_t thread;
    bool is_started;
    atomic_llong beat_ms; /* 0: not running */
    pthread_mutex_t mu;
    pthread_cond_t woken;
    struct wake *wakes; /* guarded by mu */
};

/* Writes may be slow when the API server is: each Function is a heartbeat, not only each tick. */
static void beat(struct function_scaler *scaler)
{
    atomic_store(&scaler->beat_ms, clock_monotonic_ms());
}

/* ---- the platform: Deployments, and gateways that are read over HTTP ---- */

static size_t read_gateways(void *arg)
{
    struct function_scaler *scaler = arg;
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
    size_t unread = gateway_stats_poll(scaler->stats, gateways, count);
    for (size_t i = 0; i < pod_count; i++) {
        cached_object_unref(&pods[i]->base);
    }
    free(pods);
    free(gateways);
    return unread;
}

static struct autoscaler_load read_load(void *arg, const char *namespace, const char *name)
{
    const struct function_scaler *scaler = arg;
    struct autoscaler_load load = gateway_stats_load(scaler->stats, namespace, name);
    if (scaler->backlog) {
        struct backlog_load backlog = backlog_load(scaler->backlog, namespace, name);
        load.events = (struct autoscaler_events){.any = backlog.any_triggers,
                                                 .known = backlog.known,
                                                 .busy = backlog.busy,
                                                 .behind = backlog.behind,
                                                 .wanted = backlog.wanted,
                                                 .held = backlog.held};
    }
    return load;
}

static int write_scale(void *arg, const struct scaler_target *target, int replicas, struct err *err)
{
    const struct function_scaler *scaler = arg;
    const struct cached_deployment *deployment = target->object;
    return function_execute_scale(scaler->client, target->namespace, target->name,
                                  deployment->head.base.resource_version, replicas, err);
}

static void tell_change(void *arg, const struct scaler_target *target,
                        const struct autoscaler_decision *decision)
{
    const struct function_scaler *scaler = arg;
    int before = target->state.replicas, replicas = decision->replicas;
    const char *reason = replicas == 0 ? "ScaledToZero" : replicas > before ? "ScaledUp" : "ScaledDown";
    /* Without the load: Events of the same text are counted in one object. */
    CLEANUP_FREE char *message =
        xasprintf("%d -> %d replicas: %s", before, replicas, autoscaler_reason_text(decision->reason));
    event_recorder_emit(scaler->recorder, FUNCTION_API_VERSION, "Function", target->namespace, target->name,
                        target->id, "Normal", reason, message);
}

static bool has_failed(const struct cached_function *function)
{
    const struct condition *deployed = &function->status.conditions[CONDITION_DEPLOYED];
    return deployed->status == CONDITION_FALSE && deployed->generation == function->generation;
}

/* It has triggers, and nobody can tell what waits for them. */
static bool is_unwatched(const struct function_scaler *scaler, const struct cached_function *function)
{
    return function->spec->trigger_count > 0 && scaler->backlog &&
           !backlog_load(scaler->backlog, function->base.namespace, function->base.name).any_triggers;
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
                                     .ready = deployment->ready_replicas,
                                     .generation = deployment->generation,
                                     .may_sleep = proven || (failed && deployment->ready_replicas == 0)};
}

static void visit_one(const struct function_scaler *scaler, const struct cached_function *function,
                      const struct cached_deployment *deployment, scaler_visit *visit, void *visitor)
{
    if (function->spec->replicas >= 0 ||
        child_claim_of(&deployment->head, function->base.uid) != CHILD_OURS) {
        return;
    }
    bool proving;
    struct autoscaler_state state = read_state(function, deployment, &proving);
    state.may_sleep = state.may_sleep && !is_unwatched(scaler, function);
    struct scaler_target target = {
        .id = function->base.uid,
        .namespace = function->base.namespace,
        .name = function->base.name,
        .settings = function_scaling_settings(function->spec, proving),
        .state = state,
        .has_triggers = function->spec->trigger_count > 0,
        .object = deployment,
    };
    visit(visitor, &target);
}

static void visit_function(struct function_scaler *scaler, const struct cached_function *function,
                           scaler_visit *visit, void *visitor)
{
    struct cached_object *child =
        function_cache_get(scaler->cache, CACHE_DEPLOYMENT, function->base.namespace, function->base.name);
    if (child && !stop_is_set(&scaler->stop)) {
        visit_one(scaler, function, container_of(child, struct cached_deployment, head.base), visit, visitor);
    }
    cached_object_unref(child);
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

/* The list is collected first: writing to the API server must not happen under the cache's lock. */
static void each_function(void *arg, scaler_visit *visit, void *visitor)
{
    struct function_scaler *scaler = arg;
    struct function_list list = {.count = 0};
    function_cache_each(scaler->cache, CACHE_FUNCTION, collect_function, &list);
    for (size_t i = 0; i < list.count; i++) {
        beat(scaler);
        visit_function(scaler, list.functions[i], visit, visitor);
        cached_object_unref(&list.functions[i]->base);
    }
    free(list.functions);
}

/* ---- who events wait for ---- */

void function_scaler_wake(struct function_scaler *scaler, const char *namespace, const char *name)
{
    CLEANUP_FREE char *key = xasprintf("%s/%s", namespace, name);
    struct wake *wake;
    pthread_mutex_lock(&scaler->mu);
    HASH_FIND_STR(scaler->wakes, key, wake);
    if (!wake && HASH_COUNT(scaler->wakes) < WAKES_MAX) {
        wake = xcalloc(1, sizeof *wake + strlen(key) + 1);
        memcpy(wake->key, key, strlen(key) + 1);
        wake->namespace = xstrdup(namespace);
        wake->name = xstrdup(name);
        HASH_ADD_STR(scaler->wakes, key, wake);
        pthread_cond_signal(&scaler->woken);
    }
    pthread_mutex_unlock(&scaler->mu);
}

static struct wake *take_wakes(struct function_scaler *scaler)
{
    pthread_mutex_lock(&scaler->mu);
    struct wake *wakes = scaler->wakes;
    scaler->wakes = NULL;
    pthread_mutex_unlock(&scaler->mu);
    return wakes;
}

static void look_at(void *visitor, const struct scaler_target *target)
{
    if (target->state.replicas == 0) {
        scaler_look(visitor, target);
    }
}

static void wake_one(struct function_scaler *scaler, const struct wake *wake)
{
    struct cached_object *object =
        function_cache_get(scaler->cache, CACHE_FUNCTION, wake->namespace, wake->name);
    const struct cached_function *function =
        object ? container_of(object, const struct cached_function, base) : NULL;
    if (function && function->spec && !function->deleting) {
        beat(scaler);
        visit_function(scaler, function, look_at, scaler->scaler);
    }
    cached_object_unref(object);
}

/* Those that sleep get their first replica at once; more is the next tick's. act: false on the way out. */
static void wake_all(struct function_scaler *scaler, bool act)
{
    struct wake *wakes = take_wakes(scaler), *wake, *next;
    HASH_ITER(hh, wakes, wake, next)
    {
        if (act) {
            wake_one(scaler, wake);
        }
        /* What is freed is in the table no more. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        HASH_DEL(wakes, wake);
        free(wake->namespace);
        free(wake->name);
        free(wake);
    }
}

static void wait_for_wake(struct function_scaler *scaler, int64_t deadline_ms)
{
    pthread_mutex_lock(&scaler->mu);
    while (!scaler->wakes && !stop_is_set(&scaler->stop) &&
           monotonic_cond_wait(&scaler->woken, &scaler->mu, deadline_ms)) {}
    pthread_mutex_unlock(&scaler->mu);
}

/* ---- the thread ---- */

struct function_scaler *function_scaler_new(struct kube_client *client, struct function_cache *cache,
                                            struct event_recorder *recorder, struct backlog *backlog,
                                            int gateway_admin_port, struct metrics *metrics)
{
    struct function_scaler *scaler = xcalloc(1, sizeof *scaler);
    scaler->client = client;
    scaler->cache = cache;
    scaler->recorder = recorder;
    scaler->backlog = backlog;
    pthread_mutex_init(&scaler->mu, NULL);
    monotonic_cond_init(&scaler->woken);
    stop_init(&scaler->stop);
    scaler->stats = gateway_stats_new(gateway_admin_port, &scaler->stop);
    struct scaler_platform platform = {.read_gateways = read_gateways,
                                       .load = read_load,
                                       .each = each_function,
                                       .write = write_scale,
                                       .wrote = tell_change,
                                       .arg = scaler};
    scaler->scaler = scaler_new(&platform, metrics);
    return scaler;
}

void function_scaler_free(struct function_scaler *scaler)
{
    if (!scaler) {
        return;
    }
    wake_all(scaler, false);
    pthread_cond_destroy(&scaler->woken);
    pthread_mutex_destroy(&scaler->mu);
    scaler_free(scaler->scaler);
    gateway_stats_free(scaler->stats);
    stop_release(&scaler->stop);
    free(scaler);
}

static void *run(void *arg)
{
    struct function_scaler *scaler = arg;
    int64_t next_ms = clock_monotonic_ms();
    while (!stop_is_set(&scaler->stop)) {
        int64_t now_ms = clock_monotonic_ms();
        if (now_ms >= next_ms) {
            beat(scaler);
            scaler_pass(scaler->scaler);
            /* A tick that took long is not made up for. */
            next_ms = next_ms + TICK_MS > now_ms ? next_ms + TICK_MS : now_ms;
        }
        wake_all(scaler, true);
        wait_for_wake(scaler, next_ms);
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
    pthread_mutex_lock(&scaler->mu);
    pthread_cond_signal(&scaler->woken);
    pthread_mutex_unlock(&scaler->mu);
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

char *function_scaler_told(struct function_scaler *scaler, const char *uid, int replicas)
{
    return scaler_told(scaler->scaler, uid, replicas);
}
