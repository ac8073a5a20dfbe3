#include "operator/gateway/kube_catalog.h"

#include <pthread.h>
#include <string.h>

#include "operator/gateway/kube_projection.h"
#include "operator/queue/thread.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

/* The pod cache is the data path: a lost watch is resumed within a second. */
#define WATCH_BACKOFF_MAX_MS  1000
#define SYNC_INTERVAL_MS      10 /* between looks until all is synced: a start is seen by those who wait for it */
#define SUPERVISE_INTERVAL_MS 2000
#define GATEWAY_SELECTOR      "app.kubernetes.io/name=cicada,app.kubernetes.io/component=gateway"

/* Watches of one namespace (or of all) follow each other in this order. */
enum { WATCH_FUNCTIONS, WATCH_PODS, WATCH_DEPLOYMENTS, WATCHES_PER_NAMESPACE };

struct watch {
    struct informer *informer;
    const char *plural;
    char *namespace; /* NULL: all */
    bool failing;    /* as last logged; supervisor's thread only */
};

struct kube_catalog {
    struct gateway *gateway;
    struct kube_certificates *certificates;
    const char *identity;
    void (*on_pod_node)(void *arg, const char *node, const struct in_addr *address);
    void *arg;
    struct watch *watches; /* WATCHES_PER_NAMESPACE for each namespace, then that of the gateways */
    size_t watch_count;
    const struct stop *stop;
    pthread_t supervisor;
    bool started;
    pthread_mutex_t mu;
    pthread_cond_t pods_changed;
    uint64_t pod_changes; /* guarded by mu */
    bool waits_ended;     /* guarded by mu */
};

/* ---- changes, on the informers' threads ---- */

static const char *secret_of(const struct kube_function *function)
{
    return function && function->spec && function->spec->has_http ? function->spec->tls_secret_name : NULL;
}

static void name_certificate(struct kube_catalog *catalog, const struct kube_function *old,
                             const struct kube_function *new)
{
    const char *before = secret_of(old), *now = secret_of(new);
    if (catalog->certificates && (before || now)) {
        kube_certificates_named(catalog->certificates, new ? &new->object : &old->object, before, now);
    }
}

static void function_changed(void *arg, struct cached_object *old_object, struct cached_object *new_object)
{
    struct kube_catalog *catalog = arg;
    const struct kube_function *old = (void *)old_object, *new = (void *)new_object;
    bool same =
        old && new &&strcmp(old->object.uid, new->object.uid) == 0 && old->generation == new->generation;
    if (same && !old->spec == !new->spec) {
        return; /* only its status */
    }
    name_certificate(catalog, old, new);
    if (new &&new->spec) {
        gateway_function_set(catalog->gateway, new->spec);
        return;
    }
    if (new &&new->error) {
        log_warn("Function %s/%s is not routed: %s", new->object.namespace, new->object.name, new->error);
    }
    if (old && old->spec) {
        gateway_function_remove(catalog->gateway, old->object.namespace, old->object.name);
    }
}

static void pods_have_changed(struct kube_catalog *catalog)
{
    pthread_mutex_lock(&catalog->mu);
    catalog->pod_changes++;
    pthread_cond_broadcast(&catalog->pods_changed);
    pthread_mutex_unlock(&catalog->mu);
}

static void pod_changed(void *arg, struct cached_object *old_object, struct cached_object *new_object)
{
    struct kube_catalog *catalog = arg;
    const struct kube_pod *old = (void *)old_object;
    if (!new_object) {
        gateway_pod_remove(catalog->gateway, old_object->uid);
        pods_have_changed(catalog);
        return;
    }
    struct kube_pod *new = kube_pod_of(new_object);
    kube_pod_inherit(new, old);
    struct gateway_pod pod;
    kube_pod_to_gateway(new, &pod);
    gateway_pod_set(catalog->gateway, &pod);
    pods_have_changed(catalog);
    bool has_news = !old || !old->node || old->has_address != new->has_address;
    if (catalog->on_pod_node && new->node && has_news) {
        catalog->on_pod_node(catalog->arg, new->node, new->has_address ? &new->address : NULL);
    }
}

static void deployment_changed(void *arg, struct cached_object *old_object, struct cached_object *new_object)
{
    struct kube_catalog *catalog = arg;
    const struct kube_deployment *old = (void *)old_object, *new = (void *)new_object;
    const struct cached_object *object = new ? &new->object : &old->object;
    const char *before = old ? old->blocked_code : NULL, *after = new ? new->blocked_code : NULL;
    if (before != after) { /* literals, of one place each */
        gateway_function_blocked(catalog->gateway, object->namespace, object->name, after);
    }
    uint64_t template = new ? new->template : 0;
    if ((old ? old->template : 0) != template) {
        gateway_function_template(catalog->gateway, object->namespace, object->name, template);
    }
}

struct peer_count {
    const char *identity;
    int serving, before; /* before: of them, those whose names come before ours */
};

static void count_serving(void *arg, struct cached_object *object)
{
    struct peer_count *count = arg;
    bool serving = ((const struct kube_peer *)(void *)object)->serving;
    count->serving += serving;
    count->before += serving && strcmp(object->name, count->identity) < 0;
}

static void peer_changed(void *arg, struct cached_object *old, struct cached_object *new)
{
    (void)old, (void)new;
    struct kube_catalog *catalog = arg;
    struct peer_count count = {.identity = catalog->identity};
    informer_each(catalog->watches[catalog->watch_count - 1].informer, count_serving, &count);
    gateway_peers_set(catalog->gateway, count.serving > 0 ? count.serving : 1, count.before);
}

/* ---- life cycle ---- */

struct kind {
    const struct kube_resource *resource;
    const char *label_selector;
    struct cached_object *(*project)(void *arg, const cJSON *tree);
    void (*on_change)(void *arg, struct cached_object *old, struct cached_object *new);
};

static const struct kind kinds[WATCHES_PER_NAMESPACE] = {
    [WATCH_FUNCTIONS] = {&kube_functions, NULL, kube_function_project, function_changed},
    [WATCH_PODS] = {&kube_pods, KUBE_FUNCTION_SELECTOR, kube_pod_project, pod_changed},
    [WATCH_DEPLOYMENTS] = {&kube_deployments, KUBE_FUNCTION_SELECTOR, kube_deployment_project,
                           deployment_changed},
};
static const struct kind kind_of_peers = {&kube_pods, GATEWAY_SELECTOR, kube_peer_project, peer_changed};

static void add_watch(struct kube_catalog *catalog, struct kube_client *client, const struct kind *kind,
                      const char *namespace)
{
    catalog->watches[catalog->watch_count++] = (struct watch){
        .plural = kind->resource->plural,
        .namespace = xstrdup_or_null(namespace),
        .informer = informer_new(client,
                                 &(struct informer_settings){
                                     .resource = kind->resource,
                                     .namespace = namespace,
                                     .label_selector = kind->label_selector,
                                     .max_backoff_ms = WATCH_BACKOFF_MAX_MS,
                                     .project = kind->project,
                                     .on_change = kind->on_change,
                                     .arg = catalog,
                                 }),
    };
}

struct kube_catalog *kube_catalog_new(const struct kube_catalog_settings *settings)
{
    struct kube_catalog *catalog = xcalloc(1, sizeof(*catalog));
    catalog->gateway = settings->gateway;
    catalog->certificates = settings->certificates;
    catalog->identity = settings->identity;
    catalog->on_pod_node = settings->on_pod_node;
    catalog->arg = settings->arg;
    pthread_mutex_init(&catalog->mu, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&catalog->pods_changed, &attributes);
    pthread_condattr_destroy(&attributes);
    size_t namespaces = settings->namespace_count > 0 ? settings->namespace_count : 1;
    catalog->watches = xcalloc(namespaces * WATCHES_PER_NAMESPACE + 1, sizeof(*catalog->watches));
    for (size_t i = 0; i < namespaces; i++) {
        for (size_t kind = 0; kind < WATCHES_PER_NAMESPACE; kind++) {
            add_watch(catalog, settings->client, &kinds[kind],
                      settings->namespace_count > 0 ? settings->namespaces[i] : NULL);
        }
    }
    add_watch(catalog, settings->client, &kind_of_peers, settings->system_namespace);
    return catalog;
}

static bool all_synced(const struct kube_catalog *catalog)
{
    for (size_t i = 0; i < catalog->watch_count; i++) {
        if (!informer_synced(catalog->watches[i].informer)) {
            return false;
        }
    }
    return true;
}

static void log_failures(struct kube_catalog *catalog)
{
    for (size_t i = 0; i < catalog->watch_count; i++) {
        struct watch *watch = &catalog->watches[i];
        const char *where = watch->namespace ? watch->namespace : "all namespaces";
        struct err err = ERR_INIT;
        bool failing = informer_failing(watch->informer, &err);
        if (failing && !watch->failing) {
            log_warn("watch of %s in %s: %s", watch->plural, where, err.msg);
        } else if (!failing && watch->failing) {
            log_info("watch of %s in %s goes on", watch->plural, where);
        }
        watch->failing = failing;
    }
}

/* Tells the core once all is known, and people when a watch fails. */
static void *supervise(void *arg)
{
    struct kube_catalog *catalog = arg;
    bool synced = false;
    do {
        if (!synced && all_synced(catalog) &&
            (!catalog->certificates || kube_certificates_settled(catalog->certificates))) {
            synced = true;
            gateway_catalog_synced(catalog->gateway);
            log_info("catalogue synced");
        }
        log_failures(catalog);
    } while (!stop_wait(catalog->stop, synced ? SUPERVISE_INTERVAL_MS : SYNC_INTERVAL_MS));
    return NULL;
}

void kube_catalog_start(struct kube_catalog *catalog, const struct stop *stop)
{
    catalog->stop = stop;
    for (size_t i = 0; i < catalog->watch_count; i++) {
        informer_start(catalog->watches[i].informer, stop);
    }
    catalog->supervisor = thread_start("catalog", supervise, catalog);
    catalog->started = true;
}

void kube_catalog_join(struct kube_catalog *catalog)
{
    if (!catalog->started) {
        return;
    }
    pthread_join(catalog->supervisor, NULL);
    for (size_t i = 0; i < catalog->watch_count; i++) {
        informer_join(catalog->watches[i].informer);
    }
    catalog->started = false;
}

void kube_catalog_free(struct kube_catalog *catalog)
{
    if (!catalog) {
        return;
    }
    for (size_t i = 0; i < catalog->watch_count; i++) {
        informer_free(catalog->watches[i].informer);
        free(catalog->watches[i].namespace);
    }
    free(catalog->watches);
    pthread_cond_destroy(&catalog->pods_changed);
    pthread_mutex_destroy(&catalog->mu);
    free(catalog);
}

/* ---- questions ---- */

struct kube_pod *kube_catalog_pod(struct kube_catalog *catalog, const char *namespace, const char *name)
{
    for (size_t i = WATCH_PODS; i + 1 < catalog->watch_count; i += WATCHES_PER_NAMESPACE) {
        const struct watch *watch = &catalog->watches[i];
        if (!watch->namespace || strcmp(watch->namespace, namespace) == 0) {
            struct cached_object *object = informer_get(watch->informer, namespace, name);
            return object ? kube_pod_of(object) : NULL;
        }
    }
    return NULL;
}

void kube_catalog_pod_again(struct kube_catalog *catalog, const struct kube_pod *pod)
{
    struct gateway_pod again;
    kube_pod_to_gateway(pod, &again);
    gateway_pod_set(catalog->gateway, &again);
}

uint64_t kube_catalog_pod_changes(struct kube_catalog *catalog)
{
    pthread_mutex_lock(&catalog->mu);
    uint64_t changes = catalog->pod_changes;
    pthread_mutex_unlock(&catalog->mu);
    return changes;
}

bool kube_catalog_pod_wait(struct kube_catalog *catalog, uint64_t seen, int64_t deadline_ms)
{
    struct timespec until = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    pthread_mutex_lock(&catalog->mu);
    while (catalog->pod_changes == seen && !catalog->waits_ended) {
        if (pthread_cond_timedwait(&catalog->pods_changed, &catalog->mu, &until) != 0) {
            break;
        }
    }
    bool changed = catalog->pod_changes != seen && !catalog->waits_ended;
    pthread_mutex_unlock(&catalog->mu);
    return changed;
}

void kube_catalog_pod_wait_end(struct kube_catalog *catalog)
{
    pthread_mutex_lock(&catalog->mu);
    catalog->waits_ended = true;
    pthread_cond_broadcast(&catalog->pods_changed);
    pthread_mutex_unlock(&catalog->mu);
}
