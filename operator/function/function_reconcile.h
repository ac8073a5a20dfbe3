/* function_reconcile.h - brings one Function to where its spec wants it: gather, plan, execute, show.
 *
 * Threads: function_reconcile() runs on the controller's workers, never twice at once for one Function.
 */
#ifndef CICADA_FUNCTION_FUNCTION_RECONCILE_H
#define CICADA_FUNCTION_FUNCTION_RECONCILE_H

#include "operator/controller/controller.h"
#include "operator/function/function_gather.h"
#include "operator/function/rollout_gate.h"

struct function_reconciler {
    struct function_sources sources;
    struct event_recorder *recorder;
    struct rollout_gate *gate;
};

/* A reconcile_fn; arg is a struct function_reconciler. */
int function_reconcile(void *arg, const struct object_key *key, struct reconcile_result *ret,
                       struct err *err);

/* Tells of an Ingress of class `cicada` that nobody serves, because no Function made it. */
void function_reconcile_foreign_ingress(struct event_recorder *recorder, const struct cached_child *ingress);

/* Tells of a crash that the pod recovers from, so that no condition shows it. */
void function_reconcile_pod_exit(struct function_reconciler *reconciler, const struct cached_pod *pod);

#endif
