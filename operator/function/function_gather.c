#include "operator/function/function_gather.h"

#include <stdlib.h>
#include <string.h>

#include "operator/function/trigger_gather.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

static const struct cached_child *as_child(struct cached_object *object)
{
    return object ? container_of(object, struct cached_child, head.base) : NULL;
}

/* Looks past the label selector of the caches, and past a watch that is behind: an apply with force would take over what it finds. */
static int find_uncached(const struct function_sources *sources, const struct kube_resource *resource,
                         struct cached_object *(*project)(void *arg, const cJSON *tree),
                         const char *namespace, const char *name, struct cached_object **ret_object,
                         struct err *err)
{
    CLEANUP_JSON cJSON *tree = NULL;
    if (kube_get(sources->client, resource, namespace, name, &tree, err)) {
        if (err->code != ERR_NOT_FOUND) {
            return err_wrap(err, "%s %s/%s", resource->kind, namespace, name);
        }
        err_clear(err);
        return 0;
    }
    *ret_object = project(NULL, tree);
    /* Ours without its labels: no hash, so that it is applied again and gets them back. */
    struct child_head *head = container_of(*ret_object, struct child_head, base);
    free(head->intent);
    head->intent = NULL;
    return 0;
}

static int gather_children(const struct function_sources *sources, struct function_gathered *gathered,
                           struct err *err)
{
    const char *namespace = gathered->function->namespace, *name = gathered->function->name;
    struct function_cache *cache = sources->cache;
    gathered->deployment = function_cache_get(cache, CACHE_DEPLOYMENT, namespace, name);
    gathered->service = function_cache_get(cache, CACHE_SERVICE, namespace, name);
    gathered->endpoints = function_cache_get(cache, CACHE_ENDPOINTS, namespace, name);
    gathered->ingress = function_cache_get(cache, CACHE_INGRESS, namespace, name);
    const struct function_spec *spec = gathered->world.function->spec;
    if (!spec || gathered->world.function->deleting) {
        return 0;
    }
    if (!gathered->deployment &&
        find_uncached(sources, &kube_deployments, function_objects_project_deployment, namespace, name,
                      &gathered->deployment, err)) {
        return -1;
    }
    if (!gathered->service && find_uncached(sources, &kube_services, function_objects_project_child,
                                            namespace, name, &gathered->service, err)) {
        return -1;
    }
    if (!gathered->endpoints && function_names_is_foreign_class(spec) &&
        find_uncached(sources, &function_endpoints_resource, function_objects_project_child, namespace, name,
                      &gathered->endpoints, err)) {
        return -1;
    }
    if (!gathered->ingress && spec->host_count > 0 &&
        find_uncached(sources, &kube_ingresses, function_objects_project_child, namespace, name,
                      &gathered->ingress, err)) {
        return -1;
    }
    return 0;
}

static void gather_hosts(const struct function_sources *sources, struct function_gathered *gathered)
{
    const struct function_spec *spec = gathered->world.function->spec;
    if (!spec || spec->host_count == 0) {
        return;
    }
    struct host_claims claims;
    host_claims_init(&claims, spec);
    function_cache_claim_hosts(sources->cache, &claims);
    gathered->host_count = spec->host_count;
    gathered->host_owners = xcalloc(spec->host_count, sizeof(char *));
    for (size_t i = 0; i < spec->host_count; i++) {
        gathered->host_owners[i] = host_claims_other_owner(&claims, i);
    }
    host_claims_release(&claims);
    gathered->world.host_owners = (const char *const *)gathered->host_owners;
}

static int compare_texts(const void *a, const void *b)
{
    const char *const *left = a, *const *right = b;
    return strcmp(*left, *right);
}

static void gather_gateways(const struct function_sources *sources, struct function_gathered *gathered)
{
    struct function_world *world = &gathered->world;
    gathered->gateways = function_cache_gateways(sources->cache, &gathered->gateway_count);
    gathered->gateway_ips = xcalloc(gathered->gateway_count + 1, sizeof(char *));
    for (size_t i = 0; i < gathered->gateway_count; i++) {
        const struct cached_pod *pod = gathered->gateways[i];
        if (pod->ready && !pod->deleting && pod->ip) {
            gathered->gateway_ips[world->gateway_ip_count++] = pod->ip;
        }
    }
    if (world->gateway_ip_count > 1) {
        qsort(gathered->gateway_ips, world->gateway_ip_count, sizeof(char *), compare_texts);
    }
    world->gateway_ips = gathered->gateway_ips;
    world->publish_addresses = sources->publish_addresses;
    world->publish_address_count = sources->publish_address_count;
    gathered->gateway_service = function_cache_gateway_service(sources->cache);
    if (world->publish_address_count == 0 && gathered->gateway_service) {
        world->publish_addresses = (const char *const *)gathered->gateway_service->addresses;
        world->publish_address_count = gathered->gateway_service->address_count;
    }
}

/* Why the Deployment has its number of replicas. */
static void gather_scale(const struct function_sources *sources, struct function_gathered *gathered)
{
    struct function_world *world = &gathered->world;
    if (sources->scaler && world->deployment) {
        gathered->scaled_why =
            function_scaler_told(sources->scaler, world->function->base.uid, world->deployment->replicas);
        world->scaled_why = gathered->scaled_why;
    }
}

int function_gather(const struct function_sources *sources, const char *namespace, const char *name,
                    int64_t now_ms, struct function_gathered *ret, struct err *err)
{
    memset(ret, 0, sizeof *ret);
    struct function_world *world = &ret->world;
    world->settings = sources->settings;
    world->now_ms = now_ms;
    ret->function = function_cache_get(sources->cache, CACHE_FUNCTION, namespace, name);
    if (!ret->function) {
        if (sources->backlog) {
            backlog_forget(sources->backlog, namespace, name);
        }
        return 0;
    }
    world->function = container_of(ret->function, struct cached_function, base);
    if (gather_children(sources, ret, err)) {
        return -1;
    }
    world->deployment =
        ret->deployment ? container_of(ret->deployment, struct cached_deployment, head.base) : NULL;
    world->service = as_child(ret->service);
    world->endpoints = as_child(ret->endpoints);
    world->ingress = as_child(ret->ingress);
    ret->pods = function_cache_pods(sources->cache, namespace, name, &world->pod_count);
    world->pods = (const struct cached_pod *const *)ret->pods;
    gather_hosts(sources, ret);
    gather_gateways(sources, ret);
    gather_scale(sources, ret);
    trigger_gather(sources, ret);
    return 0;
}

static void release_pods(struct cached_pod **pods, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cached_object_unref(&pods[i]->base);
    }
    free(pods);
}

void function_gathered_release(struct function_gathered *gathered)
{
    cached_object_unref(gathered->function);
    cached_object_unref(gathered->deployment);
    cached_object_unref(gathered->service);
    cached_object_unref(gathered->endpoints);
    cached_object_unref(gathered->ingress);
    cached_object_unref(gathered->gateway_service ? &gathered->gateway_service->head.base : NULL);
    release_pods(gathered->pods, gathered->world.pod_count);
    release_pods(gathered->gateways, gathered->gateway_count);
    free(gathered->gateway_ips);
    free(gathered->scaled_why);
    trigger_gather_release(gathered);
    for (size_t i = 0; i < gathered->host_count; i++) {
        free(gathered->host_owners[i]);
    }
    free(gathered->host_owners);
    memset(gathered, 0, sizeof *gathered);
}
