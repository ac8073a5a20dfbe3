/* kube_client.h - the Kubernetes API: resources, verbs, errors.
 *
 * Non-2xx answers become err.code by their Status object: 404 NOT_FOUND, 409 CONFLICT or ALREADY_EXISTS (by reason),
 * 410 GONE, 422 INVALID, 429 THROTTLED (+ retry_after_ms), 403 FORBIDDEN, 401 UNAUTHORIZED, 5xx UNAVAILABLE; Status.message is
 * err.msg. A 500 that begins "failed to create typed patch object" (1.20 on duplicate or unknown pod fields) is INVALID.
 *
 * Threads: a client may be used from any thread. All calls have deadlines and end at once when the client's stop is set.
 */
#ifndef CICADA_KUBE_KUBE_CLIENT_H
#define CICADA_KUBE_KUBE_CLIENT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "operator/kube/kube_transport.h"
#include "runtime/base/err.h"
#include "runtime/base/stop.h"

struct kube_resource {
    const char *group; /* "" for core */
    const char *version;
    const char *plural;
    const char *kind;
    bool namespaced;
};
extern const struct kube_resource kube_functions;   /* cicada.dev/v1alpha1 */
extern const struct kube_resource kube_deployments; /* apps/v1 */
extern const struct kube_resource kube_pods, kube_services, kube_nodes, kube_secrets, kube_namespaces;
extern const struct kube_resource kube_ingresses; /* networking.k8s.io/v1 */
extern const struct kube_resource kube_leases;    /* coordination.k8s.io/v1 */
extern const struct kube_resource kube_events;    /* core v1 Events */

struct kube_client;

struct kube_client_config;
/* The kubeconfig of `path` if one is given; else the in-cluster service account if its files are there (token re-read each
 * minute and after a 401, CA file); else the kubeconfig of $KUBECONFIG. Kubeconfigs: client certificates, tokens, token files;
 * inline -data or files; exec plugins refused. */
int kube_client_config_load(const char *kubeconfig_path, struct kube_client_config **ret_config,
                            struct err *err) MUST_CHECK;
void kube_client_config_free(struct kube_client_config *config);
/* The pod's or the context's; "default" */
const char *kube_client_config_namespace(const struct kube_client_config *config);

struct kube_client *kube_client_new(const struct kube_client_config *config, const struct stop *stop);
/* For tests: any transport. The client owns it. */
struct kube_client *kube_client_new_with_transport(struct kube_transport *transport);
/* Another handle on the same transport and counters with a time limit of its own per call (30 s otherwise); freed before its
 * parent. A stop of the parent ends its calls too. */
struct kube_client *kube_client_new_derived(struct kube_client *parent, int64_t timeout_ms);
/* For calls that begin after it. */
void kube_client_set_timeout(struct kube_client *client, int64_t timeout_ms);
void kube_client_free(struct kube_client *client);

/* Objects come back as trees without metadata.managedFields; the caller frees with cJSON_Delete(). ret may be NULL where
 * the answer does not matter. namespace NULL for cluster-scoped resources and for lists over all namespaces. */
int kube_get(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
             const char *name, cJSON **ret_object, struct err *err) MUST_CHECK;
int kube_create(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                const cJSON *object, cJSON **ret_object, struct err *err) MUST_CHECK;
/* PUT; the object's resourceVersion is the precondition. */
int kube_update(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                const char *name, const cJSON *object, cJSON **ret_object, struct err *err) MUST_CHECK;
/* Server-side apply with force. subresource: NULL or "status". */
int kube_apply(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
               const char *name, const char *subresource, const char *field_manager, const cJSON *intent,
               cJSON **ret_object, struct err *err) MUST_CHECK;
/* PATCH with a JSON patch (RFC 6902) or a merge patch (RFC 7386). subresource: NULL, "scale", "status". */
int kube_json_patch(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                    const char *name, const char *subresource, const char *field_manager, const cJSON *patch,
                    cJSON **ret_object, struct err *err) MUST_CHECK;
int kube_merge_patch(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                     const char *name, const char *subresource, const char *field_manager, const cJSON *patch,
                     cJSON **ret_object, struct err *err) MUST_CHECK;
/* GET .../scale: spec.replicas (0 when absent). */
int kube_scale_get(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                   const char *name, int *ret_replicas, char **ret_resource_version,
                   struct err *err) MUST_CHECK;
/* uid: precondition, NULL for none. Background propagation. */
int kube_delete(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
                const char *name, const char *uid, struct err *err) MUST_CHECK;
/* One page; label/field selectors NULL for none; continue_token NULL for the first. Items are handed out one at a time
 * (each parsed alone: memory stays at one object); on_item returning -1 ends the call with its error. on_item may keep the tree (it owns it). */
typedef int kube_item_fn(void *arg, cJSON *object, struct err *err);
struct kube_list_options {
    const char *label_selector, *field_selector, *continue_token, *resource_version;
    int limit; /* 0: none */
};
struct kube_list_meta {
    char *resource_version, *continue_token; /* owned; continue_token NULL: last page */
};
void kube_list_meta_release(struct kube_list_meta *meta);
int kube_list(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
              const struct kube_list_options *options, kube_item_fn *on_item, void *arg,
              struct kube_list_meta *ret_meta, struct err *err) MUST_CHECK;
/* Raw GET of a path such as "/version"; parsed JSON. */
int kube_get_path(struct kube_client *client, const char *path, cJSON **ret_tree, struct err *err) MUST_CHECK;

/* Watch from a resourceVersion until the server ends it (0), or an error. Used by the reflector (cache/). */
enum kube_watch_type { KUBE_WATCH_ADDED, KUBE_WATCH_MODIFIED, KUBE_WATCH_DELETED, KUBE_WATCH_BOOKMARK };
typedef int kube_watch_fn(void *arg, enum kube_watch_type type, cJSON *object /* callee owns */,
                          struct err *err);
int kube_watch(struct kube_client *client, const struct kube_resource *resource, const char *namespace,
               const struct kube_list_options *options, int timeout_seconds, kube_watch_fn *on_event,
               void *arg, struct err *err) MUST_CHECK;

/* Requests sent so far, by verb class: for metrics and the zero-writes check. */
int64_t kube_client_writes(const struct kube_client *client);
int64_t kube_client_reads(const struct kube_client *client);
/* Objects in lists and watches that were taken for absent because their JSON can't be read (kube_object.h). */
int64_t kube_client_unreadable(const struct kube_client *client);

#endif
