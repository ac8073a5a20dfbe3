#include "operator/gateway/registry.h"

#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

struct registry {
    struct registry_ops ops;
    char *domain, *cluster_domain;
    atomic_uint_fast64_t version;
    pthread_mutex_t mu;
    /* all below guarded by mu */
    struct function_state *functions;
    struct pod *pods;
    struct function_peers peers;
    struct route_table *routes;
    uint64_t routes_version;
};

struct registry *registry_new(const char *domain, const char *cluster_domain, const struct registry_ops *ops)
{
    struct registry *registry = xcalloc(1, sizeof(*registry));
    registry->ops = *ops;
    registry->domain = xstrdup_or_null(domain);
    registry->cluster_domain = xstrdup_or_null(cluster_domain);
    atomic_init(&registry->version, 1);
    pthread_mutex_init(&registry->mu, NULL);
    registry->peers = (struct function_peers){.gateways = 1};
    return registry;
}

void registry_free(struct registry *registry)
{
    if (!registry) {
        return;
    }
    route_table_unref(registry->routes);
    HASH_CLEAR(by_uid, registry->pods);
    struct function_state *function, *next;
    HASH_ITER(by_key, registry->functions, function, next)
    {
        HASH_DELETE(by_key, registry->functions, function);
        registry->ops.abandon(registry->ops.arg, function);
    }
    pthread_mutex_destroy(&registry->mu);
    free(registry->domain);
    free(registry->cluster_domain);
    free(registry);
}

/* ---- finding; mu held ---- */

static struct function_state *find_function(struct registry *registry, const char *namespace,
                                            const char *name)
{
    CLEANUP_FREE char *key = xasprintf("%s/%s", namespace, name);
    struct function_state *function;
    HASH_FIND(by_key, registry->functions, key, strlen(key), function);
    return function;
}

static struct function_state *ensure_function(struct registry *registry, const char *namespace,
                                              const char *name)
{
    struct function_state *function = find_function(registry, namespace, name);
    if (!function) {
        function = function_state_new(namespace, name);
        registry->ops.adopt(registry->ops.arg, function);
        HASH_ADD_KEYPTR(by_key, registry->functions, function->key, strlen(function->key), function);
    }
    return function;
}

static struct pod *find_pod(struct registry *registry, const char *uid)
{
    struct pod *pod;
    HASH_FIND(by_uid, registry->pods, uid, strlen(uid), pod);
    return pod;
}

/* ---- functions ---- */

/* Status changes come as updates of the same generation: nothing to do for anybody. */
static bool is_same_spec(const struct function_spec *old, const struct function_spec *spec)
{
    return old && spec->generation > 0 && old->generation == spec->generation &&
           old->deleting == spec->deleting && old->uid && spec->uid && strcmp(old->uid, spec->uid) == 0;
}

void registry_set_function(struct registry *registry, struct function_spec *spec)
{
    pthread_mutex_lock(&registry->mu);
    struct function_state *function = ensure_function(registry, spec->namespace, spec->name);
    /* Only this module sets specs, always with mu held: reading without the function's lock is safe here. */
    if (!is_same_spec(function->spec, spec)) {
        function_set_spec(function, spec, registry->peers);
        atomic_fetch_add(&registry->version, 1);
    }
    pthread_mutex_unlock(&registry->mu);
}

void registry_remove_function(struct registry *registry, const char *namespace, const char *name)
{
    pthread_mutex_lock(&registry->mu);
    struct function_state *function = find_function(registry, namespace, name);
    if (function && function->spec) {
        function_set_spec(function, NULL, registry->peers);
        atomic_fetch_add(&registry->version, 1);
    }
    pthread_mutex_unlock(&registry->mu);
}

void registry_set_blocked(struct registry *registry, const char *namespace, const char *name,
                          const char *code)
{
    pthread_mutex_lock(&registry->mu);
    struct function_state *function =
        code ? ensure_function(registry, namespace, name) : find_function(registry, namespace, name);
    if (function) {
        function_set_blocked(function, code);
    }
    pthread_mutex_unlock(&registry->mu);
}

void registry_set_template(struct registry *registry, const char *namespace, const char *name,
                           uint64_t template)
{
    pthread_mutex_lock(&registry->mu);
    struct function_state *function =
        template ? ensure_function(registry, namespace, name) : find_function(registry, namespace, name);
    if (function) {
        function_set_template(function, template);
    }
    pthread_mutex_unlock(&registry->mu);
}

bool registry_wake_wanted(struct registry *registry, const char *namespace, const char *name)
{
    int64_t now_ms = clock_monotonic_ms();
    pthread_mutex_lock(&registry->mu);
    struct function_state *function = find_function(registry, namespace, name);
    bool wanted = function && function_wake_wanted(function, now_ms);
    pthread_mutex_unlock(&registry->mu);
    return wanted;
}

void registry_function_woken(struct registry *registry, const char *namespace, const char *name)
{
    int64_t now_us = clock_monotonic_us();
    pthread_mutex_lock(&registry->mu);
    struct function_state *function = find_function(registry, namespace, name);
    if (function) {
        function_woken(function, now_us);
    }
    pthread_mutex_unlock(&registry->mu);
}

void registry_set_gateways(struct registry *registry, int gateways, int place)
{
    gateways = gateways > 1 ? gateways : 1;
    pthread_mutex_lock(&registry->mu);
    registry->peers = (struct function_peers){.gateways = gateways, .place = place % gateways};
    struct function_state *function, *next;
    HASH_ITER(by_key, registry->functions, function, next)
    {
        function_set_peers(function, registry->peers);
    }
    pthread_mutex_unlock(&registry->mu);
}

int registry_gateways(struct registry *registry)
{
    pthread_mutex_lock(&registry->mu);
    int gateways = registry->peers.gateways;
    pthread_mutex_unlock(&registry->mu);
    return gateways;
}

/* ---- pods ---- */

void registry_set_pod(struct registry *registry, const struct gateway_pod *news)
{
    pthread_mutex_lock(&registry->mu);
    struct pod *pod = find_pod(registry, news->uid);
    if (!pod) {
        struct function_state *function = ensure_function(registry, news->namespace, news->function);
        pod = pod_new(news->uid, registry->ops.make_pools(registry->ops.arg), clock_monotonic_ms());
        HASH_ADD_KEYPTR(by_uid, registry->pods, pod->uid, strlen(pod->uid), pod);
        function_add_pod(function, pod);
    }
    if (function_update_pod(pod->function, pod, news)) {
        registry->ops.close_idle(registry->ops.arg, pod);
    }
    pthread_mutex_unlock(&registry->mu);
}

void registry_remove_pod(struct registry *registry, const char *uid)
{
    pthread_mutex_lock(&registry->mu);
    struct pod *pod = find_pod(registry, uid);
    if (pod) {
        HASH_DELETE(by_uid, registry->pods, pod);
        registry->ops.close_idle(registry->ops.arg, pod);
        function_remove_pod(pod->function, pod);
    }
    pthread_mutex_unlock(&registry->mu);
}

bool registry_pod_announced(struct registry *registry, const char *uid, const struct sockaddr_in *address)
{
    pthread_mutex_lock(&registry->mu);
    struct pod *pod = find_pod(registry, uid);
    bool known = pod && function_pod_announced(pod->function, pod, address);
    pthread_mutex_unlock(&registry->mu);
    return known;
}

bool registry_pod_goodbye(struct registry *registry, const char *uid, struct pod **ret_pod,
                          int *ret_in_flight)
{
    pthread_mutex_lock(&registry->mu);
    struct pod *pod = find_pod(registry, uid);
    if (pod) {
        *ret_in_flight = function_pod_goodbye(pod->function, pod);
        *ret_pod = pod_ref(pod);
    }
    pthread_mutex_unlock(&registry->mu);
    return pod != NULL;
}

struct function_state *registry_function(struct registry *registry, const char *namespace, const char *name,
                                         int *ret_in_flight, int *ret_waiting)
{
    pthread_mutex_lock(&registry->mu);
    struct function_state *function = find_function(registry, namespace, name);
    if (function) {
        function_state_ref(function);
        pthread_mutex_lock(&function->mu);
        *ret_in_flight = function->in_flight;
        *ret_waiting = function->waiting;
        pthread_mutex_unlock(&function->mu);
    }
    pthread_mutex_unlock(&registry->mu);
    return function;
}

/* ---- routes ---- */

uint64_t registry_version(const struct registry *registry)
{
    return atomic_load_explicit(&registry->version, memory_order_acquire);
}

static struct route_table *build_routes(struct registry *registry)
{
    CLEANUP_FREE struct route_function *functions =
        xcalloc(HASH_CNT(by_key, registry->functions) + 1, sizeof(*functions));
    size_t count = 0;
    struct function_state *function, *next;
    HASH_ITER(by_key, registry->functions, function, next)
    {
        if (function->spec) {
            functions[count++] = (struct route_function){.function = function, .spec = function->spec};
        }
    }
    return route_table_new(functions, count, registry->domain, registry->cluster_domain);
}

struct route_table *registry_routes(struct registry *registry, uint64_t *ret_version)
{
    pthread_mutex_lock(&registry->mu);
    uint64_t version = registry_version(registry);
    if (!registry->routes || registry->routes_version != version) {
        struct route_table *old = registry->routes;
        registry->routes = build_routes(registry);
        registry->routes_version = version;
        route_table_unref(old);
    }
    struct route_table *table = route_table_ref(registry->routes);
    pthread_mutex_unlock(&registry->mu);
    *ret_version = version;
    return table;
}

/* ---- upkeep ---- */

/* One reference, ours: no table and no request can bring it back, and only this module hands out new ones. */
static struct function_state *find_forgettable(struct registry *registry, int64_t now_us,
                                               int64_t idle_limit_us)
{
    struct function_state *function, *next;
    HASH_ITER(by_key, registry->functions, function, next)
    {
        if (!function->spec && atomic_load(&function->refs) == 1 &&
            function_is_forgettable(function, now_us, idle_limit_us)) {
            return function;
        }
    }
    return NULL;
}

void registry_sweep(struct registry *registry, int64_t idle_limit_us)
{
    int64_t now_us = clock_monotonic_us();
    struct function_state *function;
    pthread_mutex_lock(&registry->mu);
    while ((function = find_forgettable(registry, now_us, idle_limit_us))) {
        HASH_DELETE(by_key, registry->functions, function);
        registry->ops.abandon(registry->ops.arg, function);
    }
    pthread_mutex_unlock(&registry->mu);
}

void registry_statz(struct registry *registry, int64_t now_us, int64_t idle_limit_us, struct strbuf *out)
{
    bool comma = false;
    pthread_mutex_lock(&registry->mu);
    struct function_state *function, *next;
    HASH_ITER(by_key, registry->functions, function, next)
    {
        comma |= function_statz(function, now_us, idle_limit_us, comma, out);
    }
    pthread_mutex_unlock(&registry->mu);
}
