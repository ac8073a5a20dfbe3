/* kube_pod.h - what the gateway keeps of a function's pod: whose it is, where it runs, whether it can serve, and why not.
 *
 * A projection for the informer (cache/informer.h): immutable and reference-counted through `object`, but for the two that
 * kube_pod_inherit() sets on the informer's thread.
 */
#ifndef CICADA_GATEWAY_KUBE_POD_H
#define CICADA_GATEWAY_KUBE_POD_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "operator/cache/informer.h"
#include "operator/gateway/gateway.h"

#define KUBE_MANAGED_BY_LABEL "app.kubernetes.io/managed-by"
#define KUBE_FUNCTION_LABEL   "cicada.dev/function"
/* What the operator makes for Functions. */
#define KUBE_FUNCTION_SELECTOR KUBE_MANAGED_BY_LABEL "=cicada," KUBE_FUNCTION_LABEL
#define KUBE_FUNCTION_PORT     8080

struct kube_pod {
    struct cached_object object;
    char *function;
    char *node; /* NULL: not scheduled yet */
    bool has_address;
    struct in_addr address;
    enum gateway_pod_state state;
    uint64_t template;    /* kube_template() */
    char *waiting_reason; /* the function's container waits: "ImagePullBackOff", ...; NULL: it does not */
    char *exit_reason;    /* from its last termination message: "HandlerLoadFailed", ...; NULL: none */
    char *
        pending_reason; /* why its conditions say that it is not scheduled, or not ready: "Unschedulable", ... */
    int exits;          /* of its container, so far */
    atomic_int exits_when_ready; /* `exits` when it was last seen ready: see kube_pod_inherit() */
    atomic_bool pull_backed_off; /* its image could not be pulled more than once */
};

/* What a pod template, or a pod, says of which template it is (annotation cicada.dev/template): equal for equal ones, 0 if it does not. */
uint64_t kube_template(const cJSON *object);

/* For informer_settings.project; NULL if the object is no function's pod. */
struct cached_object *kube_pod_project(void *arg, const cJSON *tree);
static inline struct kube_pod *kube_pod_of(struct cached_object *object)
{
    return (struct kube_pod *)(void *)object;
}

/* What the pod's past adds: exits count against it only until it is ready; the first failed pull does not, later ones do.
 * Called on the informer's thread for each change, before kube_pod_failure(); old may be NULL. */
void kube_pod_inherit(struct kube_pod *pod, const struct kube_pod *old);
/* Why the pod can't start, as a code for callers; NULL: it serves, or may still start. Valid as long as the pod. */
const char *kube_pod_failure(const struct kube_pod *pod);
/* What it waits for before it can serve, as a code for callers; NULL: nothing is known. Valid as long as the pod. */
const char *kube_pod_delay(const struct kube_pod *pod);
/* The pod as the core takes it; borrows from `pod`. */
void kube_pod_to_gateway(const struct kube_pod *pod, struct gateway_pod *ret_pod);

#endif
