#include "operator/function/function_cache.h"

#include <stdlib.h>
#include <string.h>

#include "operator/function/function_names.h"
#include "operator/function/written_objects.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define MAX_BACKOFF_MS 30000
/* Who changes a child against us may do so again at once, and for ever: one round a second is enough. */
#define DRIFT_DELAY_MS   1000
#define GATEWAY_SELECTOR "app.kubernetes.io/name=cicada,app.kubernetes.io/component=gateway"

/* The argument of one kind's handlers. */
struct kind_watch {
    struct function_cache *cache;
    enum cache_kind kind;
    struct informer **informers; /* one per namespace */
};

struct function_cache {
    struct function_cache_settings settings;
    size_t informers_per_kind;
    struct kind_watch watches[CACHE_KIND_COUNT];
    struct informer *gateways, *gateway_service;
    struct written_objects *written;
};

struct kind_table {
    const struct kube_resource *resource;
    struct cached_object *(*project)(void *arg, const cJSON *tree);
    const char *label_selector;
    void (*on_change)(void *arg, struct cached_object *old, struct cached_object *new);
};

/* ---- handlers ---- */

/* The version that was written, for the caller to free; NULL if nothing was. */
static char *forget_written(struct kind_watch *watch, const struct cached_object *object)
{
    return written_objects_forget(watch->cache->written, (int)watch->kind, object->namespace, object->name);
}

static const struct cached_function *as_function(struct cached_object *object)
{
    return object ? container_of(object, const struct cached_function, base) : NULL;
}

struct host_news {
    struct workqueue *queue;
    const struct function_spec *old, *new; /* NULL: none */
};

static void queue_if_overlapping(void *arg, struct cached_object *object)
{
    struct host_news *news = arg;
    const struct function_spec *spec = as_function(object)->spec;
    if (spec && ((news->old && function_hosts_overlap(spec, news->old)) ||
                 (news->new &&function_hosts_overlap(spec, news->new)))) {
        workqueue_add(news->queue, object->namespace, object->name);
    }
}

/* Our own status writes change nothing that a decision depends on. */
static void on_function(void *arg, struct cached_object *old, struct cached_object *new)
{
    struct kind_watch *watch = arg;
    struct function_cache *cache = watch->cache;
    const struct cached_object *any = new ? new : old;
    free(forget_written(watch, any));
    const struct cached_function *before = as_function(old), *now = as_function(new);
    if (before && now && before->generation == now->generation && before->deleting == now->deleting &&
        before->has_finalizer == now->has_finalizer && strcmp(old->uid, new->uid) == 0) {
        return;
    }
    workqueue_add(cache->settings.queue, any->namespace, any->name);
    struct host_news news = {
        .queue = cache->settings.queue, .old = before ? before->spec : NULL, .new = now ? now->spec : NULL};
    bool hosts = (news.old && news.old->host_count) || (news.new &&news.new->host_count);
    if (hosts && !(news.old && news.new &&function_hosts_equal(news.old, news.new))) {
        function_cache_each(cache, CACHE_FUNCTION, queue_if_overlapping, &news);
    }
}

/* What our own writes leave, and what is there when the object is met first, is as it should be. */
static void inherit_accepted(struct child_head *old, struct child_head *new, const char *written_version)
{
    bool ours = written_version && strcmp(written_version, new->base.resource_version) == 0;
    bool known =
        old && strcmp(old->base.uid, new->base.uid) == 0 && str_equal_or_both_null(old->intent, new->intent);
    uint64_t accepted = known && !ours ? atomic_load(&old->accepted) : new->content;
    atomic_store(&new->accepted, accepted);
}

static void on_child(void *arg, struct cached_object *old, struct cached_object *new)
{
    struct kind_watch *watch = arg;
    const struct cached_object *any = new ? new : old;
    CLEANUP_FREE char *written_version = forget_written(watch, any);
    int64_t delay_ms = 0;
    if (new) {
        struct child_head *head = container_of(new, struct child_head, base);
        inherit_accepted(old ? container_of(old, struct child_head, base) : NULL, head, written_version);
        delay_ms = child_head_drifted(head) ? DRIFT_DELAY_MS : 0;
    }
    workqueue_add_after(watch->cache->settings.queue, any->namespace, any->name, delay_ms);
    if (watch->kind == CACHE_INGRESS && new && watch->cache->settings.on_foreign_ingress) {
        const struct cached_child *ingress = container_of(new, const struct cached_child, head.base);
        if (function_cache_is_foreign_ingress(ingress)) {
            watch->cache->settings.on_foreign_ingress(watch->cache->settings.arg, ingress);
        }
    }
}

static const struct cached_pod *as_pod(struct cached_object *object)
{
    return object ? container_of(object, const struct cached_pod, base) : NULL;
}

static void on_pod(void *arg, struct cached_object *old, struct cached_object *new)
{
    const struct kind_watch *watch = arg;
    const struct function_cache_settings *settings = &watch->cache->settings;
    const struct cached_pod *before = as_pod(old), *now = as_pod(new), *any = now ? now : before;
    if (!any->function || (before && now && !function_objects_pod_differs(before, now))) {
        return;
    }
    workqueue_add(settings->queue, any->base.namespace, any->function);
    if (settings->on_pod_exit && before && now && now->exits > before->exits) {
        settings->on_pod_exit(settings->arg, now);
    }
}

static void queue_if_routed(void *arg, struct cached_object *object)
{
    const struct function_spec *spec = as_function(object)->spec;
    if (spec && spec->host_count > 0) {
        workqueue_add(arg, object->namespace, object->name);
    }
}

/* Addresses of gateways are in Endpoints and in the status of Ingresses. */
static void on_gateway(void *arg, struct cached_object *old, struct cached_object *new)
{
    struct function_cache *cache = arg;
    const struct cached_pod *before = as_pod(old), *now = as_pod(new);
    if (before && now && before->ready == now->ready && before->deleting == now->deleting &&
        str_equal_or_both_null(before->ip, now->ip)) {
        return;
    }
    function_cache_each(cache, CACHE_FUNCTION, queue_if_routed, cache->settings.queue);
}

static void on_gateway_service(void *arg, struct cached_object *old, struct cached_object *new)
{
    (void)old;
    (void)new;
    struct function_cache *cache = arg;
    function_cache_each(cache, CACHE_FUNCTION, queue_if_routed, cache->settings.queue);
}

/* ---- life ---- */

/* Ingresses are watched without a selector: one of our class that no Function made deserves an Event. */
static const struct kind_table kinds[CACHE_KIND_COUNT] = {
    [CACHE_FUNCTION] = {&kube_functions, function_objects_project_function, NULL, on_function},
    [CACHE_DEPLOYMENT] = {&kube_deployments, function_objects_project_deployment, LABEL_FUNCTION, on_child},
    [CACHE_POD] = {&kube_pods, function_objects_project_pod, LABEL_FUNCTION, on_pod},
    [CACHE_SERVICE] = {&kube_services, function_objects_project_child, LABEL_FUNCTION, on_child},
    [CACHE_ENDPOINTS] = {&function_endpoints_resource, function_objects_project_child, LABEL_FUNCTION,
                         on_child},
    [CACHE_INGRESS] = {&kube_ingresses, function_objects_project_child, NULL, on_child},
};

static struct informer *new_informer(struct function_cache *cache, enum cache_kind kind,
                                     const char *namespace)
{
    struct informer_settings settings = {.resource = kinds[kind].resource,
                                         .namespace = namespace,
                                         .label_selector = kinds[kind].label_selector,
                                         .max_backoff_ms = MAX_BACKOFF_MS,
                                         .project = kinds[kind].project,
                                         .on_change = kinds[kind].on_change,
                                         .arg = &cache->watches[kind]};
    return informer_new(cache->settings.client, &settings);
}

static void new_gateway_informers(struct function_cache *cache)
{
    struct informer_settings pods = {.resource = &kube_pods,
                                     .namespace = cache->settings.system_namespace,
                                     .label_selector = GATEWAY_SELECTOR,
                                     .max_backoff_ms = MAX_BACKOFF_MS,
                                     .project = function_objects_project_pod,
                                     .on_change = on_gateway,
                                     .arg = cache};
    cache->gateways = informer_new(cache->settings.client, &pods);
    if (!cache->settings.gateway_service) {
        return;
    }
    CLEANUP_FREE char *selector = xasprintf("metadata.name=%s", cache->settings.gateway_service);
    struct informer_settings service = {.resource = &kube_services,
                                        .namespace = cache->settings.system_namespace,
                                        .field_selector = selector,
                                        .max_backoff_ms = MAX_BACKOFF_MS,
                                        .project = function_objects_project_child,
                                        .on_change = on_gateway_service,
                                        .arg = cache};
    cache->gateway_service = informer_new(cache->settings.client, &service);
}

struct function_cache *function_cache_new(const struct function_cache_settings *settings)
{
    struct function_cache *cache = xcalloc(1, sizeof *cache);
    cache->settings = *settings;
    cache->informers_per_kind = settings->namespace_count ? settings->namespace_count : 1;
    cache->written = written_objects_new(&clock_system);
    for (int kind = 0; kind < CACHE_KIND_COUNT; kind++) {
        struct kind_watch *watch = &cache->watches[kind];
        watch->cache = cache;
        watch->kind = (enum cache_kind)kind;
        watch->informers = xcalloc(cache->informers_per_kind, sizeof(struct informer *));
        for (size_t i = 0; i < cache->informers_per_kind; i++) {
            watch->informers[i] =
                new_informer(cache, watch->kind, settings->namespace_count ? settings->namespaces[i] : NULL);
        }
    }
    new_gateway_informers(cache);
    return cache;
}

/* Calls fn for each informer there is. */
static void each_informer(const struct function_cache *cache,
                          void (*fn)(void *arg, struct informer *informer), void *arg)
{
    for (int kind = 0; kind < CACHE_KIND_COUNT; kind++) {
        for (size_t i = 0; i < cache->informers_per_kind; i++) {
            fn(arg, cache->watches[kind].informers[i]);
        }
    }
    fn(arg, cache->gateways);
    if (cache->gateway_service) {
        fn(arg, cache->gateway_service);
    }
}

struct start {
    const struct stop *stop;
};

static void start_one(void *arg, struct informer *informer)
{
    const struct start *start = arg;
    informer_start(informer, start->stop);
}

void function_cache_start(struct function_cache *cache, const struct stop *stop)
{
    struct start start = {.stop = stop};
    each_informer(cache, start_one, &start);
}

struct sync_wait {
    const struct stop *stop;
    int64_t deadline_ms;
    bool synced;
};

static void wait_one(void *arg, struct informer *informer)
{
    struct sync_wait *wait = arg;
    wait->synced =
        wait->synced && informer_wait_synced(informer, wait->stop, deadline_left_ms(wait->deadline_ms));
}

bool function_cache_wait_synced(struct function_cache *cache, const struct stop *stop, int64_t timeout_ms)
{
    struct sync_wait wait = {.stop = stop, .deadline_ms = clock_monotonic_ms() + timeout_ms, .synced = true};
    each_informer(cache, wait_one, &wait);
    return wait.synced;
}

static void check_one(void *arg, struct informer *informer)
{
    bool *synced = arg;
    *synced = *synced && informer_synced(informer);
}

bool function_cache_synced(const struct function_cache *cache)
{
    bool synced = true;
    each_informer(cache, check_one, &synced);
    return synced;
}

struct failing {
    bool found;
    struct err *err;
};

static void find_failing(void *arg, struct informer *informer)
{
    struct failing *failing = arg;
    failing->found = failing->found || informer_failing(informer, failing->err);
}

bool function_cache_failing(const struct function_cache *cache, struct err *ret_err)
{
    struct failing failing = {.err = ret_err};
    each_informer(cache, find_failing, &failing);
    return failing.found;
}

static void join_one(void *arg, struct informer *informer)
{
    (void)arg;
    informer_join(informer);
}

void function_cache_join(struct function_cache *cache)
{
    each_informer(cache, join_one, NULL);
}

static void free_one(void *arg, struct informer *informer)
{
    (void)arg;
    informer_free(informer);
}

void function_cache_free(struct function_cache *cache)
{
    if (!cache) {
        return;
    }
    each_informer(cache, free_one, NULL);
    for (int kind = 0; kind < CACHE_KIND_COUNT; kind++) {
        free(cache->watches[kind].informers);
    }
    written_objects_free(cache->written);
    free(cache);
}

/* ---- reading ---- */

static struct informer *informer_of(const struct function_cache *cache, enum cache_kind kind,
                                    const char *namespace)
{
    if (cache->settings.namespace_count == 0) {
        return cache->watches[kind].informers[0];
    }
    for (size_t i = 0; i < cache->settings.namespace_count; i++) {
        if (strcmp(cache->settings.namespaces[i], namespace) == 0) {
            return cache->watches[kind].informers[i];
        }
    }
    return NULL;
}

struct cached_object *function_cache_get(struct function_cache *cache, enum cache_kind kind,
                                         const char *namespace, const char *name)
{
    struct cached_object *written = written_objects_get(cache->written, (int)kind, namespace, name);
    struct informer *informer = informer_of(cache, kind, namespace);
    return written || !informer ? written : informer_get(informer, namespace, name);
}

/* The watch already has what was written, or the write changed nothing. */
static void accept_content(enum cache_kind kind, struct cached_object *object)
{
    if (object && kind != CACHE_FUNCTION && kind != CACHE_POD) {
        struct child_head *head = container_of(object, struct child_head, base);
        atomic_store(&head->accepted, head->content);
    }
}

void function_cache_wrote(struct function_cache *cache, enum cache_kind kind, const char *based_on,
                          const cJSON *tree)
{
    struct cached_object *object = kinds[kind].project(NULL, tree);
    struct informer *informer = informer_of(cache, kind, object->namespace);
    accept_content(kind, object);
    written_objects_put(cache->written, (int)kind, object);
    /* If the watch had moved on before the entry was there, its handler will not drop it: look after putting it in. */
    struct cached_object *now = informer ? informer_get(informer, object->namespace, object->name) : NULL;
    bool seen = now && strcmp(now->resource_version, object->resource_version) == 0;
    bool unchanged = informer && str_equal_or_both_null(now ? now->resource_version : NULL, based_on);
    if (seen || !unchanged) {
        free(written_objects_forget(cache->written, (int)kind, object->namespace, object->name));
    } else {
        /* Should the watch never tell of it, somebody must look again. */
        workqueue_add_after(cache->settings.queue, object->namespace, object->name,
                            WRITTEN_OBJECTS_MAX_AGE_MS + 1);
    }
    if (seen) {
        accept_content(kind, now);
    }
    cached_object_unref(now);
    cached_object_unref(object);
}

void function_cache_each(struct function_cache *cache, enum cache_kind kind,
                         void (*fn)(void *arg, struct cached_object *object), void *arg)
{
    for (size_t i = 0; i < cache->informers_per_kind; i++) {
        informer_each(cache->watches[kind].informers[i], fn, arg);
    }
}

size_t function_cache_count(struct function_cache *cache, enum cache_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < cache->informers_per_kind; i++) {
        count += informer_count(cache->watches[kind].informers[i]);
    }
    return count;
}

struct pod_list {
    const char *namespace, *function; /* NULL: all */
    struct cached_pod **pods;
    size_t count;
};

static void collect_pod(void *arg, struct cached_object *object)
{
    struct pod_list *list = arg;
    struct cached_pod *pod = container_of(object, struct cached_pod, base);
    if (list->function && (!pod->function || strcmp(pod->function, list->function) != 0 ||
                           strcmp(object->namespace, list->namespace) != 0)) {
        return;
    }
    list->pods = xreallocarray(list->pods, list->count + 1, sizeof(struct cached_pod *));
    list->pods[list->count++] = container_of(cached_object_ref(object), struct cached_pod, base);
}

static int compare_pods(const void *a, const void *b)
{
    struct cached_pod *const *left = a, *const *right = b;
    return strcmp((*left)->base.name, (*right)->base.name);
}

static struct cached_pod **list_pods(struct informer *informer, struct pod_list *list, size_t *ret_count)
{
    if (informer) {
        informer_each(informer, collect_pod, list);
    }
    if (list->count > 1) {
        qsort(list->pods, list->count, sizeof(struct cached_pod *), compare_pods);
    }
    *ret_count = list->count;
    return list->pods;
}

struct cached_pod **function_cache_pods(struct function_cache *cache, const char *namespace, const char *name,
                                        size_t *ret_count)
{
    struct pod_list list = {.namespace = namespace, .function = name};
    return list_pods(informer_of(cache, CACHE_POD, namespace), &list, ret_count);
}

struct cached_pod **function_cache_gateways(struct function_cache *cache, size_t *ret_count)
{
    struct pod_list list = {.pods = NULL};
    return list_pods(cache->gateways, &list, ret_count);
}

struct cached_child *function_cache_gateway_service(struct function_cache *cache)
{
    struct cached_object *object =
        cache->gateway_service ? informer_get(cache->gateway_service, cache->settings.system_namespace,
                                              cache->settings.gateway_service)
                               : NULL;
    return object ? container_of(object, struct cached_child, head.base) : NULL;
}

static void claim_hosts(void *arg, struct cached_object *object)
{
    struct host_claims *claims = arg;
    const struct cached_function *function = as_function(object);
    if (function->spec && !function->deleting && strcmp(function->base.uid, claims->spec->uid) != 0) {
        host_claims_add(claims, function->spec);
    }
}

void function_cache_claim_hosts(struct function_cache *cache, struct host_claims *claims)
{
    function_cache_each(cache, CACHE_FUNCTION, claim_hosts, claims);
}

bool function_cache_is_foreign_ingress(const struct cached_child *ingress)
{
    return ingress->class_name && strcmp(ingress->class_name, INGRESS_CLASS_CICADA) == 0 &&
           !ingress->head.owner_is_namesake;
}
