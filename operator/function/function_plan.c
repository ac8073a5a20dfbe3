#include "operator/function/function_plan.h"

#include <stdlib.h>
#include <string.h>

#include "operator/function/function_conditions.h"
#include "operator/function/function_deployment.h"
#include "operator/function/function_service.h"
#include "operator/function/trigger_plan.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

/* Objects that are going, and strangers in the way, are looked at again, because not all of them are watched. */
#define RECHECK_LEAVING_MS 1000
#define RECHECK_FOREIGN_MS 30000

static struct plan_action *add_action(struct function_plan *plan, enum plan_verb verb,
                                      const struct kube_resource *resource)
{
    if (plan->action_count == PLAN_ACTIONS_MAX) {
        abort();
    }
    struct plan_action *action = &plan->actions[plan->action_count++];
    action->verb = verb;
    action->resource = resource;
    return action;
}

static void add_apply(struct function_plan *plan, const struct kube_resource *resource, cJSON **intent)
{
    add_action(plan, PLAN_APPLY, resource)->body = steal_ptr(intent);
}

static void add_scale(struct function_plan *plan, int replicas)
{
    add_action(plan, PLAN_SCALE, &kube_deployments)->replicas = replicas;
}

static void requeue_within(struct function_plan *plan, int64_t ms)
{
    if (ms > 0 && (plan->requeue_after_ms == 0 || ms < plan->requeue_after_ms)) {
        plan->requeue_after_ms = ms;
    }
}

static bool intent_differs(const struct child_head *head, const cJSON *intent)
{
    return !str_equal_or_both_null(head->intent, function_intent_sealed_hash(intent));
}

/* An object that depends on nothing but its intent: made, changed, or removed (intent NULL). Takes *intent. */
static void plan_child(struct function_plan *plan, const struct kube_resource *resource,
                       const struct child_head *head, enum child_claim claim, cJSON **intent)
{
    if (!head) {
        if (*intent) {
            add_apply(plan, resource, intent);
        }
        return;
    }
    switch (claim) {
    case CHILD_ABSENT:
        break;
    case CHILD_OURS:
        if (!*intent) {
            add_action(plan, PLAN_DELETE, resource)->uid = xstrdup(head->base.uid);
        } else if (intent_differs(head, *intent) || child_head_drifted(head)) {
            add_apply(plan, resource, intent);
        }
        break;
    case CHILD_LEAVING:
        requeue_within(plan, *intent ? RECHECK_LEAVING_MS : 0);
        break;
    case CHILD_FOREIGN:
        requeue_within(plan, *intent ? RECHECK_FOREIGN_MS : 0);
        break;
    }
}

/* ---- Deployment and its replicas ---- */

/* A new Deployment comes up with one replica: the server's default, since no intent names replicas. */
static int first_replicas(const struct function_spec *spec)
{
    if (spec->replicas >= 0) {
        return spec->replicas;
    }
    return spec->initial_replicas > 0 ? spec->initial_replicas : spec->min_replicas;
}

static void plan_new_deployment(const struct function_world *world, struct function_plan *plan,
                                cJSON **intent)
{
    int replicas = first_replicas(world->function->spec);
    add_apply(plan, &kube_deployments, intent);
    if (replicas != 1) {
        add_scale(plan, replicas);
    }
}

static void plan_template(const struct function_world *world, const struct function_facts *facts,
                          struct function_plan *plan, cJSON **intent)
{
    bool drifted = child_head_drifted(&world->deployment->head);
    if (!drifted && !intent_differs(&world->deployment->head, *intent)) {
        return;
    }
    /* The same spec asks for something else: the operator's own defaults changed. Not all pods of a cluster at once. */
    if (facts->is_current && !drifted && !world->may_roll) {
        plan->wants_roll = true;
        return;
    }
    add_apply(plan, &kube_deployments, intent);
}

static void plan_replicas(const struct function_world *world, const struct function_facts *facts,
                          struct function_plan *plan)
{
    const struct function_spec *spec = world->function->spec;
    int current = world->deployment->replicas;
    if (spec->replicas >= 0) {
        if (current != spec->replicas) {
            add_scale(plan, spec->replicas);
        }
        return;
    }
    /* A new generation is proven also while nobody calls; one that failed is tried again only when somebody does. */
    if (!facts->proven && !facts->failed_before && current < facts->proof_replicas &&
        !(facts->is_current && function_facts_can_serve(facts))) {
        add_scale(plan, facts->proof_replicas);
    }
}

static void plan_proof(const struct function_world *world, const struct function_facts *facts,
                       struct function_plan *plan)
{
    if (!facts->is_current || facts->proven || !function_facts_can_serve(facts)) {
        return;
    }
    cJSON *patch = cJSON_CreateObject(), *metadata = json_add_object(patch, "metadata");
    json_add_string(metadata, "uid", world->deployment->head.base.uid);
    json_add_string(json_add_object(metadata, "annotations"), ANNOTATION_PROVEN,
                    world->function->spec_template);
    add_action(plan, PLAN_ANNOTATE, &kube_deployments)->body = patch;
}

static void plan_deployment(const struct function_world *world, const struct function_facts *facts,
                            struct function_plan *plan)
{
    CLEANUP_JSON cJSON *intent = function_deployment_build(world->function->spec, world->settings);
    switch (facts->deployment) {
    case CHILD_ABSENT:
        plan_new_deployment(world, plan, &intent);
        break;
    case CHILD_OURS:
        plan_template(world, facts, plan, &intent);
        plan_replicas(world, facts, plan);
        plan_proof(world, facts, plan);
        break;
    case CHILD_LEAVING:
        requeue_within(plan, RECHECK_LEAVING_MS);
        break;
    case CHILD_FOREIGN:
        requeue_within(plan, RECHECK_FOREIGN_MS);
        break;
    }
}

/* ---- routes ---- */

static cJSON *build_ingress(const struct function_world *world)
{
    const struct function_spec *spec = world->function->spec;
    bool skip[FUNCTION_HOSTS_MAX] = {false};
    for (size_t i = 0; i < spec->host_count; i++) {
        skip[i] = world->host_owners[i] != NULL;
    }
    return spec->host_count ? function_service_build_ingress(spec, skip) : NULL;
}

static void plan_ingress_status(const struct function_world *world, const struct function_facts *facts,
                                struct function_plan *plan)
{
    const struct function_spec *spec = world->function->spec;
    if (!world->ingress || facts->ingress != CHILD_OURS || spec->host_count == 0 ||
        function_names_is_foreign_class(spec) || world->publish_address_count == 0) {
        return;
    }
    char hash[INTENT_HASH_SIZE];
    function_service_hash_addresses(world->publish_addresses, world->publish_address_count, hash);
    if (!str_equal_or_both_null(world->ingress->addresses_hash, hash)) {
        add_action(plan, PLAN_APPLY_STATUS, &kube_ingresses)->body = function_service_build_ingress_status(
            spec, world->publish_addresses, world->publish_address_count);
    }
}

/* Endpoints are never written empty: while no gateway is known, what is there stays. */
static void plan_endpoints(const struct function_world *world, const struct function_facts *facts,
                           struct function_plan *plan)
{
    const struct function_spec *spec = world->function->spec;
    bool wanted = function_names_is_foreign_class(spec);
    if (wanted && world->gateway_ip_count == 0) {
        return;
    }
    CLEANUP_JSON cJSON *intent =
        wanted ? function_service_build_endpoints(spec, world->gateway_ips, world->gateway_ip_count) : NULL;
    plan_child(plan, &function_endpoints_resource, world->endpoints ? &world->endpoints->head : NULL,
               facts->endpoints, &intent);
}

static void plan_routes(const struct function_world *world, const struct function_facts *facts,
                        struct function_plan *plan)
{
    CLEANUP_JSON cJSON *service = function_service_build(world->function->spec, world->settings);
    plan_child(plan, &kube_services, world->service ? &world->service->head : NULL, facts->service, &service);
    plan_endpoints(world, facts, plan);
    CLEANUP_JSON cJSON *ingress = build_ingress(world);
    bool removed = !ingress;
    plan_child(plan, &kube_ingresses, world->ingress ? &world->ingress->head : NULL, facts->ingress,
               &ingress);
    if (!removed) {
        plan_ingress_status(world, facts, plan);
    }
}

/* ---- status ---- */

/* What the Deployment is asked for once the plan is carried out. */
static int planned_replicas(const struct function_world *world, const struct function_plan *plan)
{
    const struct cached_deployment *ours = world->deployment;
    if (ours && child_claim_of(&ours->head, world->function->base.uid) != CHILD_OURS) {
        ours = NULL;
    }
    int replicas = ours ? ours->replicas : 0;
    for (size_t i = 0; i < plan->action_count; i++) {
        const struct plan_action *action = &plan->actions[i];
        if (action->verb == PLAN_SCALE) {
            replicas = action->replicas;
        } else if (action->verb == PLAN_APPLY && action->resource == &kube_deployments && !ours) {
            replicas = 1;
        }
    }
    return replicas;
}

static void clear_event(struct plan_event *event)
{
    free(event->reason);
    free(event->message);
    memset(event, 0, sizeof *event);
}

static void fill_event(struct plan_event *event, bool warning, const char *reason, const char *message)
{
    clear_event(event);
    *event = (struct plan_event){.warning = warning, .reason = xstrdup(reason), .message = xstrdup(message)};
}

static bool begins(const struct condition *old, const struct condition *now)
{
    return now->status == CONDITION_FALSE &&
           (old->status != CONDITION_FALSE || strcmp(now->reason, old->reason) != 0);
}

static void set_events(struct function_plan *plan, const struct function_status *before)
{
    const struct condition *conditions = plan->status.conditions, *old = before->conditions;
    const struct condition *ready = &conditions[CONDITION_READY];
    const struct condition *triggers = &conditions[CONDITION_TRIGGERS_READY];
    clear_event(&plan->event);
    clear_event(&plan->trigger_event);
    if (begins(&old[CONDITION_READY], ready) ||
        (ready->status == CONDITION_TRUE && old[CONDITION_READY].status != CONDITION_TRUE)) {
        fill_event(&plan->event, ready->status == CONDITION_FALSE, ready->reason, ready->message);
    }
    if (begins(&old[CONDITION_TRIGGERS_READY], triggers) && strcmp(ready->reason, triggers->reason) != 0) {
        fill_event(&plan->trigger_event, true, triggers->reason, triggers->message);
    }
}

static void finish_status(const struct function_world *world, struct function_plan *plan)
{
    const struct cached_function *function = world->function;
    function_status_stamp(&plan->status, &function->status, function->generation, world->now_ms);
    plan->write_status = !function_status_equal(&plan->status, &function->status);
    set_events(plan, &function->status);
}

static void plan_living(const struct function_world *world, struct function_plan *plan)
{
    struct function_facts facts;
    bool valid = world->function->spec != NULL;
    if (valid) {
        function_facts_find(world, &facts);
        plan_deployment(world, &facts, plan);
        plan_routes(world, &facts, plan);
        requeue_within(plan, facts.recheck_after_ms);
        requeue_within(plan, trigger_plan_recheck_ms(world));
    }
    function_conditions_fill(world, valid ? &facts : NULL, planned_replicas(world, plan), &plan->status);
    finish_status(world, plan);
    CLEANUP_FREE char *left_behind = trigger_plan_left_behind(world);
    if (left_behind) {
        fill_event(&plan->trigger_event, true, PLAN_LEFT_BEHIND, left_behind);
    }
}

/* The status is that of a version which this ends: the next one, which the watch tells of, gets its own. */
static void finish_finalizer(struct function_plan *plan, const struct finalizer_plan *finalizer)
{
    plan->write_status = false;
    clear_event(&plan->event);
    clear_event(&plan->trigger_event);
    if (finalizer->left_behind) {
        fill_event(&plan->trigger_event, true, PLAN_LEFT_BEHIND, finalizer->left_behind);
    }
}

void function_plan_compute(const struct function_world *world, struct function_plan *ret_plan)
{
    struct finalizer_plan finalizer;
    memset(ret_plan, 0, sizeof *ret_plan);
    trigger_plan_finalizer(world, &finalizer);
    requeue_within(ret_plan, finalizer.requeue_after_ms);
    if (finalizer.step != FINALIZER_KEEP) {
        add_action(ret_plan, PLAN_FINALIZER, &kube_functions)->body =
            trigger_plan_finalizer_patch(world->function, finalizer.step);
    }
    if (!world->function->deleting) {
        plan_living(world, ret_plan);
    }
    if (finalizer.step != FINALIZER_KEEP) {
        finish_finalizer(ret_plan, &finalizer);
    }
    free(finalizer.left_behind);
}

void function_plan_refused(const struct function_world *world, struct function_plan *plan,
                           enum condition_type type, const char *reason, const char *message)
{
    condition_set(&plan->status.conditions[type], CONDITION_FALSE, reason, "%s", message);
    function_conditions_sum_up(&plan->status);
    finish_status(world, plan);
}

void function_plan_release(struct function_plan *plan)
{
    for (size_t i = 0; i < plan->action_count; i++) {
        cJSON_Delete(plan->actions[i].body);
        free(plan->actions[i].uid);
    }
    function_status_release(&plan->status);
    clear_event(&plan->event);
    clear_event(&plan->trigger_event);
    memset(plan, 0, sizeof *plan);
}
