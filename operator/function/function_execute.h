/* function_execute.h - carries out a plan through the API server. Stops at the first error; every action may be repeated.
 *
 * Threads: any; one plan per Function at a time.
 */
#ifndef CICADA_FUNCTION_FUNCTION_EXECUTE_H
#define CICADA_FUNCTION_FUNCTION_EXECUTE_H

#include "operator/function/function_gather.h"
#include "operator/function/function_plan.h"

/* *ret_failed: the action that failed, on error. */
int function_execute_actions(const struct function_sources *sources, const struct function_world *world,
                             const struct function_plan *plan, const struct plan_action **ret_failed,
                             struct err *err) MUST_CHECK;
/* Writes the plan's status. A Function that is gone meanwhile is no error; ERR_CONFLICT: it changed meanwhile. */
int function_execute_status(const struct function_sources *sources, const struct function_world *world,
                            const struct function_plan *plan, struct err *err) MUST_CHECK;

/* deployments/<name>/scale, if the Deployment still has that resourceVersion (else ERR_CONFLICT). */
int function_execute_scale(struct kube_client *client, const char *namespace, const char *name,
                           const char *resource_version, int replicas, struct err *err) MUST_CHECK;

#endif
