#include "operator/gateway/kube_waker.h"

#include <pthread.h>
#include <string.h>

#include "operator/gateway/kube_log_turn.h"
#include "operator/queue/thread.h"
#include "operator/queue/workqueue.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/stop.h"

#define WORKERS              4
#define ATTEMPTS             3    /* patches in a row while the scale is seen to be zero */
#define CALL_TIMEOUT_MS      5000 /* a worker that hangs holds up a fourth of all wakes */
#define QUEUE_MAX_BACKOFF_MS 1000
#define KEEP_WARM_INTERVAL_MS                                                                                \
    30000 /* shorter than the idle limits of API servers and of balancers before them */

enum wake_result { WAKE_DONE, WAKE_AWAKE, WAKE_ABSENT, WAKE_FAILED, WAKE_DROPPED };
static const char *const result_names[] = {"woken", "awake", "absent", "failed", "dropped"};

struct kube_waker {
    struct kube_client *client;
    struct gateway *gateway;
    struct workqueue *queue;
    cJSON *patch; /* read-only once made */
    struct metric *results[ARRAY_SIZE(result_names)];
    struct metric_family *duration;
    pthread_t workers[WORKERS];
    pthread_t warm_thread;
    struct stop stop;
    bool started;
    struct kube_log_turn failures;
};

/* A Scale at zero has no `replicas` at all: the test refuses every other state, so a wake never lowers what somebody raised. */
static cJSON *make_patch(void)
{
    cJSON *patch = cJSON_CreateArray();
    cJSON *test = json_append_object(patch);
    json_add_string(test, "op", "test");
    json_add_string(test, "path", "/spec");
    json_add_object(test, "value");
    cJSON *add = json_append_object(patch);
    json_add_string(add, "op", "add");
    json_add_string(add, "path", "/spec/replicas");
    json_add_int64(add, "value", 1);
    return patch;
}

struct kube_waker *kube_waker_new(struct kube_client *client, struct metrics *metrics)
{
    struct kube_waker *waker = xcalloc(1, sizeof(*waker));
    waker->client = kube_client_new_derived(client, CALL_TIMEOUT_MS);
    waker->queue = workqueue_new(&clock_system, QUEUE_MAX_BACKOFF_MS);
    waker->patch = make_patch();
    stop_init(&waker->stop);
    kube_log_turn_init(&waker->failures);
    static const char *const labels[] = {"result", NULL};
    struct metric_family *wakes = metrics_counter(
        metrics, "cicada_gateway_scale_patches_total",
        "Patches from zero to one by result: woken, awake (it was already), absent (no Deployment), failed; "
        "dropped: none was made, since nobody waited any more when its turn came.",
        labels);
    for (size_t i = 0; i < ARRAY_SIZE(result_names); i++) {
        waker->results[i] = metric_family_get(wakes, &result_names[i]);
    }
    waker->duration =
        metrics_histogram(metrics, "cicada_gateway_scale_patch_duration_seconds",
                          "Time that a wake took with the API server, retries included.",
                          /* label_names= */ NULL, metrics_latency_bounds, metrics_latency_bound_count);
    return waker;
}

static enum wake_result wake_once(struct kube_waker *waker, const struct object_key *key, struct err *err)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        err_clear(err);
        if (kube_json_patch(waker->client, &kube_deployments, key->namespace, key->name, "scale",
                            KUBE_GATEWAY_FIELD_MANAGER, waker->patch, /* ret_object= */ NULL, err) == 0) {
            return WAKE_DONE;
        }
        if (err->code == ERR_NOT_FOUND) {
            return WAKE_ABSENT; /* the operator makes the Deployment, and makes it awake */
        }
        if (err->code != ERR_INVALID) {
            return WAKE_FAILED;
        }
        int replicas = 0;
        char *version = NULL;
        struct err read_err = ERR_INIT;
        if (kube_scale_get(waker->client, &kube_deployments, key->namespace, key->name, &replicas, &version,
                           &read_err) < 0) {
            *err = read_err;
            return WAKE_FAILED;
        }
        free(version);
        if (replicas >= 1) {
            return WAKE_AWAKE;
        }
    }
    return WAKE_FAILED;
}

static void wake(struct kube_waker *waker, const struct object_key *key)
{
    struct err err = ERR_INIT;
    int64_t start_us = clock_monotonic_us();
    bool wanted = gateway_function_wake_wanted(waker->gateway, key->namespace, key->name);
    enum wake_result result = wanted ? wake_once(waker, key, &err) : WAKE_DROPPED;
    if (result == WAKE_DONE) {
        gateway_function_woken(waker->gateway, key->namespace, key->name);
    }
    int64_t took_us = clock_monotonic_us() - start_us;
    if (wanted) {
        metric_observe(metric_family_get(waker->duration, NULL), (double)took_us / 1e6);
    }
    metric_add(waker->results[result], 1);
    log_debug("wake %s/%s: %s after %lld us", key->namespace, key->name, result_names[result],
              (long long)took_us);
    if (result == WAKE_FAILED && err.code != ERR_CANCELLED) {
        /* With the API server away every function with waiters fails each second. */
        int64_t failures = kube_log_turn_take(&waker->failures);
        if (failures > 0) {
            log_warn("can't wake %s/%s: %s (%lld failures since the last such line)", key->namespace,
                     key->name, err.msg, (long long)failures);
        }
    }
}

static void *run_worker(void *arg)
{
    struct kube_waker *waker = arg;
    struct object_key key;
    while (workqueue_get(waker->queue, &key)) {
        wake(waker, &key);
        workqueue_done(waker->queue, &key);
        object_key_release(&key);
    }
    return NULL;
}

/* After a quiet night the first request should not pay for a TCP and a TLS handshake: a connection is kept in use. */
static void *run_warm(void *arg)
{
    struct kube_waker *waker = arg;
    do {
        cJSON *version = NULL;
        struct err err = ERR_INIT;
        if (kube_get_path(waker->client, "/version", &version, &err) == 0) {
            cJSON_Delete(version);
        } else {
            log_debug("API server: %s", err.msg);
        }
    } while (!stop_wait(&waker->stop, KEEP_WARM_INTERVAL_MS));
    return NULL;
}

void kube_waker_start(struct kube_waker *waker, struct gateway *gateway)
{
    waker->gateway = gateway;
    waker->warm_thread = thread_start("api-warm", run_warm, waker);
    for (int i = 0; i < WORKERS; i++) {
        waker->workers[i] = thread_start("waker", run_worker, waker);
    }
    waker->started = true;
}

void kube_waker_wake(void *arg, const char *namespace, const char *name)
{
    struct kube_waker *waker = arg;
    workqueue_add(waker->queue, namespace, name);
}

void kube_waker_stop(struct kube_waker *waker)
{
    stop_set(&waker->stop);
    workqueue_shutdown(waker->queue);
    if (waker->started) {
        for (int i = 0; i < WORKERS; i++) {
            pthread_join(waker->workers[i], NULL);
        }
        pthread_join(waker->warm_thread, NULL);
        waker->started = false;
    }
}

void kube_waker_free(struct kube_waker *waker)
{
    if (!waker) {
        return;
    }
    workqueue_free(waker->queue);
    kube_client_free(waker->client);
    cJSON_Delete(waker->patch);
    stop_release(&waker->stop);
    kube_log_turn_release(&waker->failures);
    free(waker);
}
