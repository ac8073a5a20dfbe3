/* kube_projection.h - what the gateway keeps of Functions, Deployments and gateway pods: the fields that it uses.
 *
 * Projections for informers (cache/informer.h): immutable, reference-counted through `object`.
 */
#ifndef CICADA_GATEWAY_KUBE_PROJECTION_H
#define CICADA_GATEWAY_KUBE_PROJECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "operator/cache/informer.h"
#include "operator/function/function_spec.h"

struct kube_function {
    struct cached_object object;
    int64_t generation;
    struct function_spec *spec; /* NULL: not valid, or being deleted: not routed */
    char *error;                /* why it is not valid; NULL: it is */
};
struct cached_object *kube_function_project(void *arg, const cJSON *tree);

struct kube_deployment {
    struct cached_object object;
    const char *
        blocked_code; /* why it makes no pods ("QuotaExceeded", "ReplicaFailure"); NULL: nothing is in the way */
    uint64_t template; /* of its pods from now on: kube_template() */
};
struct cached_object *kube_deployment_project(void *arg, const cJSON *tree);

struct kube_peer {
    struct cached_object object;
    bool serving; /* ready and not about to go */
};
struct cached_object *kube_peer_project(void *arg, const cJSON *tree);

#endif
