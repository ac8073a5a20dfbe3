#include "operator/function/function_conditions.h"

#include <stdlib.h>
#include <string.h>

#include "operator/function/trigger_plan.h"
#include "operator/function/trigger_status.h"
#include "runtime/base/mem.h"

/* True: the check has an answer and has set the condition. */
typedef bool condition_check(const struct function_world *world, const struct function_facts *facts,
                             struct condition *condition);

/* ---- Deployed ---- */

static bool deployed_not_owned(const struct function_world *world, const struct function_facts *facts,
                               struct condition *condition)
{
    if (facts->deployment != CHILD_FOREIGN) {
        return false;
    }
    condition_set(condition, CONDITION_FALSE, "NotOwned",
                  "Deployment %s/%s exists and was not made for this Function",
                  world->function->base.namespace, world->function->base.name);
    return true;
}

static bool deployed_not_yet(const struct function_world *world, const struct function_facts *facts,
                             struct condition *condition)
{
    if (facts->deployment == CHILD_OURS && facts->is_current) {
        return false;
    }
    condition_set(condition, CONDITION_UNKNOWN, "Deploying",
                  "waiting for a pod of generation %lld to be able to serve",
                  (long long)world->function->generation);
    return true;
}

static bool deployed_serving(const struct function_world *world, const struct function_facts *facts,
                             struct condition *condition)
{
    (void)world;
    bool enough = facts->proven ? facts->ready > 0 : function_facts_can_serve(facts);
    if (!enough) {
        return false;
    }
    condition_set(condition, CONDITION_TRUE, "Proven", "pods of this generation were able to serve");
    return true;
}

/* What the Deployment's status and its pods tell is of an older template until its controller has caught up. */
static bool is_observed(const struct function_world *world)
{
    return world->deployment->observed_generation >= world->deployment->generation;
}

static bool deployed_pod_failure(const struct function_world *world, const struct function_facts *facts,
                                 struct condition *condition)
{
    if (!facts->has_failure || (facts->proven && facts->ready > 0)) {
        return false;
    }
    const struct condition *before = &world->function->status.conditions[CONDITION_DEPLOYED];
    if (facts->failure.is_back_off && facts->failed_before &&
        strcmp(before->reason, facts->failure.reason) == 0) {
        condition_copy(condition, before);
        return true;
    }
    condition_set(condition, CONDITION_FALSE, facts->failure.reason, "%s", facts->failure.message);
    return true;
}

static bool deployed_no_pods_made(const struct function_world *world, const struct function_facts *facts,
                                  struct condition *condition)
{
    if (!is_observed(world) || !world->deployment->replica_failure || world->deployment->replicas == 0 ||
        facts->ready > 0) {
        return false;
    }
    /* Nothing but the text tells a quota from a policy, or from a ServiceAccount that is not there. */
    const char *failure = world->deployment->replica_failure;
    condition_set(condition, CONDITION_FALSE,
                  strstr(failure, "exceeded quota") ? "QuotaExceeded" : "ReplicaFailure", "%s", failure);
    return true;
}

static bool deployed_too_slow(const struct function_world *world, const struct function_facts *facts,
                              struct condition *condition)
{
    if (!is_observed(world) || facts->proven || !world->deployment->progress_failure) {
        return false;
    }
    condition_set(condition, CONDITION_FALSE, "ProgressDeadlineExceeded", "%s",
                  world->deployment->progress_failure);
    return true;
}

/* A failure stays until a pod serves: a function that was put to sleep failing is no better for it. */
static bool deployed_failed_before(const struct function_world *world, const struct function_facts *facts,
                                   struct condition *condition)
{
    if (!facts->failed_before) {
        return false;
    }
    condition_copy(condition, &world->function->status.conditions[CONDITION_DEPLOYED]);
    return true;
}

static bool deployed_proven(const struct function_world *world, const struct function_facts *facts,
                            struct condition *condition)
{
    (void)world;
    if (facts->proven) {
        condition_set(condition, CONDITION_TRUE, "Proven", "pods of this generation were able to serve");
    } else if (facts->proof_replicas == 0) {
        condition_set(condition, CONDITION_TRUE, "Accepted",
                      "the Deployment was accepted; no proof is asked for");
    } else {
        return false;
    }
    return true;
}

static bool deployed_proving(const struct function_world *world, const struct function_facts *facts,
                             struct condition *condition)
{
    (void)facts;
    condition_set(condition, CONDITION_UNKNOWN, "Deploying",
                  "waiting for a pod of generation %lld to be able to serve",
                  (long long)world->function->generation);
    return true;
}

static condition_check *const deployed_checks[] = {
    deployed_not_owned, deployed_not_yet,       deployed_serving, deployed_pod_failure, deployed_no_pods_made,
    deployed_too_slow,  deployed_failed_before, deployed_proven,  deployed_proving,
};

/* ---- Routed ---- */

static bool routed_conflict(const struct function_world *world, const struct function_facts *facts,
                            struct condition *condition)
{
    (void)facts;
    const struct function_spec *spec = world->function->spec;
    for (size_t i = 0; i < spec->host_count; i++) {
        if (world->host_owners[i]) {
            condition_set(condition, CONDITION_FALSE, "RouteConflict",
                          "host %s with path %s belongs to Function %s", spec->hosts[i], spec->path,
                          world->host_owners[i]);
            return true;
        }
    }
    return false;
}

static bool routed_not_owned(const struct function_world *world, const struct function_facts *facts,
                             struct condition *condition)
{
    bool wants_ingress = world->function->spec->host_count > 0;
    bool wants_endpoints = function_names_is_foreign_class(world->function->spec);
    const char *kind = facts->service == CHILD_FOREIGN                        ? "Service"
                       : wants_ingress && facts->ingress == CHILD_FOREIGN     ? "Ingress"
                       : wants_endpoints && facts->endpoints == CHILD_FOREIGN ? "Endpoints"
                                                                              : NULL;
    if (!kind) {
        return false;
    }
    condition_set(condition, CONDITION_FALSE, "NotOwned",
                  "%s %s/%s exists and was not made for this Function", kind, world->function->base.namespace,
                  world->function->base.name);
    return true;
}

static bool routed_waiting(const struct function_world *world, const struct function_facts *facts,
                           struct condition *condition)
{
    if (facts->service != CHILD_LEAVING && facts->ingress != CHILD_LEAVING) {
        return false;
    }
    condition_set(condition, CONDITION_UNKNOWN, "Waiting",
                  "the old Service or Ingress %s/%s is still being deleted", world->function->base.namespace,
                  world->function->base.name);
    return true;
}

static bool routed_fine(const struct function_world *world, const struct function_facts *facts,
                        struct condition *condition)
{
    (void)facts;
    if (world->function->spec->has_http) {
        condition_set(condition, CONDITION_TRUE, "Routed", "requests reach the function through the gateway");
    } else {
        condition_set(condition, CONDITION_TRUE, "Internal", "reached from inside the cluster only");
    }
    return true;
}

static condition_check *const routed_checks[] = {routed_conflict, routed_not_owned, routed_waiting,
                                                 routed_fine};

/* ---- the rest ---- */

static void run_checks(condition_check *const *checks, size_t count, const struct function_world *world,
                       const struct function_facts *facts, struct condition *condition)
{
    for (size_t i = 0; i < count; i++) {
        if (checks[i](world, facts, condition)) {
            return;
        }
    }
}

/* What was said of this number and spec before. A new leader does not know why it is so, and need not write to everybody for that. */
static bool active_as_before(const struct function_world *world, int replicas, struct condition *condition)
{
    const struct function_status *before = &world->function->status;
    const struct condition *active = &before->conditions[CONDITION_ACTIVE];
    if (active->status != CONDITION_TRUE || before->desired_replicas != replicas ||
        before->observed_generation != world->function->generation) {
        return false;
    }
    condition_copy(condition, active);
    return true;
}

static void set_active(const struct function_world *world, int replicas, struct condition *condition)
{
    const struct function_spec *spec = world->function->spec;
    bool is_pinned = spec && spec->replicas >= 0;
    if (replicas == 0 && is_pinned) {
        condition_set(condition, CONDITION_FALSE, "ScaledToZeroByUser",
                      "spec.replicas is 0: requests are refused until it is raised or removed");
    } else if (replicas == 0) {
        condition_set(condition, CONDITION_FALSE, "Asleep", "no pods; the next request starts one");
    } else if (is_pinned) {
        condition_set(condition, CONDITION_TRUE, "Awake", "as many replicas as spec.replicas says");
    } else if (world->scaled_why && world->deployment && world->deployment->replicas == replicas) {
        condition_set(condition, CONDITION_TRUE, "Awake", "%s", world->scaled_why);
    } else if (!active_as_before(world, replicas, condition)) {
        condition_set(condition, CONDITION_TRUE, "Awake", "there are pods, or they are being started");
    }
}

static void set_invalid(const struct function_world *world, struct function_status *status)
{
    struct condition *conditions = status->conditions;
    condition_set(&conditions[CONDITION_CONFIGURATION_VALID], CONDITION_FALSE, "InvalidSpec", "%s",
                  world->function->spec_error);
    static const enum condition_type unseen[] = {CONDITION_DEPLOYED, CONDITION_ROUTED};
    for (size_t i = 0; i < ARRAY_SIZE(unseen); i++) {
        condition_set(&conditions[unseen[i]], CONDITION_UNKNOWN, "InvalidSpec",
                      "what runs is left as it is until the spec is valid");
    }
}

void function_conditions_sum_up(struct function_status *status)
{
    static const enum condition_type parts[] = {CONDITION_CONFIGURATION_VALID, CONDITION_DEPLOYED,
                                                CONDITION_ROUTED, CONDITION_TRIGGERS_READY};
    static const enum condition_status bad[] = {CONDITION_FALSE, CONDITION_UNKNOWN};
    struct condition *ready = &status->conditions[CONDITION_READY];
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(parts); j++) {
            const struct condition *part = &status->conditions[parts[j]];
            if (part->status == bad[i]) {
                condition_set(ready, part->status, part->reason, "%s", part->message);
                return;
            }
        }
    }
    condition_set(ready, CONDITION_TRUE, "Ready", "the function can serve");
}

void function_conditions_fill(const struct function_world *world, const struct function_facts *facts,
                              int replicas, struct function_status *status)
{
    struct condition *conditions = status->conditions;
    const struct cached_function *function = world->function;
    if (facts) {
        condition_set(&conditions[CONDITION_CONFIGURATION_VALID], CONDITION_TRUE, "Valid",
                      "the spec is valid");
        run_checks(deployed_checks, ARRAY_SIZE(deployed_checks), world, facts,
                   &conditions[CONDITION_DEPLOYED]);
        run_checks(routed_checks, ARRAY_SIZE(routed_checks), world, facts, &conditions[CONDITION_ROUTED]);
        trigger_plan_condition(world, &conditions[CONDITION_TRIGGERS_READY]);
        trigger_status_fill(function->spec, world->triggers.backlog, &function->status, status);
        status->url = function_names_url(function->spec, world->settings);
    } else {
        set_invalid(world, status);
        status->url = xstrdup_or_null(function->status.url);
    }
    const struct cached_deployment *deployment = world->deployment;
    if (deployment && child_claim_of(&deployment->head, function->base.uid) == CHILD_OURS) {
        status->replicas = deployment->status_replicas;
    }
    status->desired_replicas = replicas;
    set_active(world, status->desired_replicas, &conditions[CONDITION_ACTIVE]);
    status->selector = function_names_selector(function->base.name);
    function_conditions_sum_up(status);
}
