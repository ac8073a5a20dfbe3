/* function_cache.h - everything that the operator watches, as one: Functions, their children, the gateways.
 *
 * One informer per kind and watched namespace. Changes put the Functions concerned into the work queue. What the operator itself wrote is seen at
 * once (function_cache_wrote), so that a decision is never made on a state from before one's own write; such an entry lives until
 * the watch delivers something newer.
 *
 * Threads: all functions from any thread. Ownership: objects are returned with a reference for the caller.
 */
#ifndef CICADA_FUNCTION_FUNCTION_CACHE_H
#define CICADA_FUNCTION_FUNCTION_CACHE_H

#include "operator/function/function_hosts.h"
#include "operator/function/function_objects.h"
#include "operator/queue/workqueue.h"

enum cache_kind {
    CACHE_FUNCTION,
    CACHE_DEPLOYMENT,
    CACHE_POD,
    CACHE_SERVICE,
    CACHE_ENDPOINTS,
    CACHE_INGRESS,
    CACHE_KIND_COUNT
};

struct function_cache_settings {
    struct kube_client *client;
    const char *const *namespaces; /* borrowed until function_cache_free() */
    size_t namespace_count;        /* 0: all */
    const char *system_namespace;  /* where the gateways run */
    const char *gateway_service;   /* whose addresses Ingresses show; NULL: it is not watched */
    struct workqueue *queue;
    /* An Ingress of class `cicada` that no Function made appeared or changed; on a watch's thread. */
    void (*on_foreign_ingress)(void *arg, const struct cached_child *ingress);
    /* The container of a Function's pod ended, seen as it happened; NULL is fine. On a watch's thread. */
    void (*on_pod_exit)(void *arg, const struct cached_pod *pod);
    void *arg;
};

struct function_cache;
struct function_cache *function_cache_new(const struct function_cache_settings *settings);
void function_cache_start(struct function_cache *cache, const struct stop *stop);
bool function_cache_wait_synced(struct function_cache *cache, const struct stop *stop, int64_t timeout_ms);
bool function_cache_synced(const struct function_cache *cache);
/* True, with an error of one of them, while a watch waits to try again. For a program to log. */
bool function_cache_failing(const struct function_cache *cache, struct err *ret_err);
void function_cache_join(struct function_cache *cache); /* after the stop was set */
void function_cache_free(struct function_cache *cache);

struct cached_object *function_cache_get(struct function_cache *cache, enum cache_kind kind,
                                         const char *namespace, const char *name);
/* tree: the API server's answer to a write. based_on: the version that the decision saw, NULL: absent. What a child then
 * holds is accepted: a later change of it by somebody else is told from it (child_head_drifted). */
void function_cache_wrote(struct function_cache *cache, enum cache_kind kind, const char *based_on,
                          const cJSON *tree);
/* Pods of a Function, in order of their names; references. The caller frees the array. */
struct cached_pod **function_cache_pods(struct function_cache *cache, const char *namespace, const char *name,
                                        size_t *ret_count);
/* Adds every Function but the claims' own. */
void function_cache_claim_hosts(struct function_cache *cache, struct host_claims *claims);
/* fn runs under the store's read lock: short. */
void function_cache_each(struct function_cache *cache, enum cache_kind kind,
                         void (*fn)(void *arg, struct cached_object *object), void *arg);
size_t function_cache_count(struct function_cache *cache, enum cache_kind kind);
/* All gateway pods, terminating ones included; references. The caller frees the array. */
struct cached_pod **function_cache_gateways(struct function_cache *cache, size_t *ret_count);
/* The Service of gateway_service, or NULL. */
struct cached_child *function_cache_gateway_service(struct function_cache *cache);
/* Whether the Ingress is of class `cicada` and not made for a Function. */
bool function_cache_is_foreign_ingress(const struct cached_child *ingress);

#endif
