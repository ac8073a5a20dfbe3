#include "operator/function/function_reconcile.h"

#include <string.h>

#include "operator/function/function_deployment.h"
#include "operator/function/function_execute.h"
#include "operator/function/function_plan.h"
#include "operator/function/function_pod_failure.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

/* How long a Function waits for its turn in an upgrade before it asks again, and over how long that is spread. */
#define ROLL_RETRY_MS  5000
#define ROLL_SPREAD_MS 5000

#define FORBIDDEN_RETRY_MS 30000

static bool is_rollout_complete(const struct cached_deployment *deployment)
{
    return !deployment || (deployment->observed_generation >= deployment->generation &&
                           deployment->updated_replicas >= deployment->replicas &&
                           deployment->available_replicas >= deployment->replicas &&
                           deployment->status_replicas <= deployment->replicas);
}

/* A change of the operator's own defaults: in turn with the other Functions. */
static void plan_in_turn(struct function_reconciler *reconciler, struct function_world *world,
                         struct function_plan *plan)
{
    const struct cached_object *function = &world->function->base;
    function_plan_compute(world, plan);
    if (!plan->wants_roll) {
        if (is_rollout_complete(world->deployment)) {
            rollout_gate_leave(reconciler->gate, function->namespace, function->name);
        }
        return;
    }
    if (rollout_gate_enter(reconciler->gate, function->namespace, function->name,
                           world->deployment->replicas > 0, clock_monotonic_ms())) {
        function_plan_release(plan);
        world->may_roll = true;
        function_plan_compute(world, plan);
        return;
    }
    int64_t retry_ms =
        ROLL_RETRY_MS + (int64_t)(world->function->generation * 977 + world->now_ms) % ROLL_SPREAD_MS;
    if (plan->requeue_after_ms == 0 || plan->requeue_after_ms > retry_ms) {
        plan->requeue_after_ms = retry_ms;
    }
}

/* What the server's refusal means for the Function. False: it says nothing about the Function. */
static bool take_refusal(const struct function_world *world, struct function_plan *plan,
                         const struct plan_action *failed, const struct err *err)
{
    if (world->function->deleting) {
        return false;
    }
    if (err->code == ERR_INVALID) {
        function_plan_refused(world, plan, CONDITION_CONFIGURATION_VALID, "InvalidSpec", err->msg);
        return true;
    }
    if (err->code == ERR_FORBIDDEN) {
        enum condition_type type = failed->resource == &kube_deployments ? CONDITION_DEPLOYED
                                   : failed->resource == &kube_functions ? CONDITION_TRIGGERS_READY
                                                                         : CONDITION_ROUTED;
        function_plan_refused(world, plan, type, "Forbidden", err->msg);
        return true;
    }
    return false;
}

static void emit(struct function_reconciler *reconciler, const struct function_world *world,
                 const struct plan_event *event)
{
    const struct cached_object *function = &world->function->base;
    if (event->reason) {
        event_recorder_emit(reconciler->recorder, FUNCTION_API_VERSION, "Function", function->namespace,
                            function->name, function->uid, event->warning ? "Warning" : "Normal",
                            event->reason, event->message);
    }
}

static int show(struct function_reconciler *reconciler, const struct function_world *world,
                const struct function_plan *plan, struct err *err)
{
    const struct cached_object *function = &world->function->base;
    if (plan->write_status && function_execute_status(&reconciler->sources, world, plan, err)) {
        return -1;
    }
    emit(reconciler, world, &plan->event);
    emit(reconciler, world, &plan->trigger_event);
    /* A namespace on its way out takes no Event. */
    if (plan->trigger_event.reason && strcmp(plan->trigger_event.reason, PLAN_LEFT_BEHIND) == 0) {
        log_warn("%s/%s: %s", function->namespace, function->name, plan->trigger_event.message);
    }
    return 0;
}

static int carry_out(struct function_reconciler *reconciler, struct function_world *world,
                     struct function_plan *plan, struct err *err)
{
    const struct plan_action *failed = NULL;
    int result = function_execute_actions(&reconciler->sources, world, plan, &failed, err);
    if (result == 0) {
        return show(reconciler, world, plan, err);
    }
    if (!take_refusal(world, plan, failed, err)) {
        return -1;
    }
    /* The refusal is found again; that it could not be shown must be tried again. */
    struct err status_err = ERR_INIT;
    if (show(reconciler, world, plan, &status_err)) {
        *err = status_err;
        return -1;
    }
    if (err->code == ERR_FORBIDDEN) {
        /* A quota or a policy, which people change in minutes, or a namespace on its way out: no haste, no noise. */
        err_clear(err);
        plan->requeue_after_ms = FORBIDDEN_RETRY_MS;
        return 0;
    }
    return -1;
}

int function_reconcile(void *arg, const struct object_key *key, struct reconcile_result *ret, struct err *err)
{
    struct function_reconciler *reconciler = arg;
    struct function_gathered gathered;
    struct function_plan plan = {.action_count = 0};
    int result =
        function_gather(&reconciler->sources, key->namespace, key->name, clock_wall_ms(), &gathered, err);
    if (result == 0 && gathered.world.function) {
        plan_in_turn(reconciler, &gathered.world, &plan);
        result = carry_out(reconciler, &gathered.world, &plan, err);
        ret->requeue_after_ms = plan.requeue_after_ms;
    } else if (result == 0) {
        rollout_gate_leave(reconciler->gate, key->namespace, key->name);
    }
    function_plan_release(&plan);
    function_gathered_release(&gathered);
    return result;
}

void function_reconcile_foreign_ingress(struct event_recorder *recorder, const struct cached_child *ingress)
{
    const struct cached_object *object = &ingress->head.base;
    event_recorder_emit(
        recorder, "networking.k8s.io/v1", "Ingress", object->namespace, object->name, object->uid, "Warning",
        "NotServed",
        "routes of class cicada come from Functions only (spec.http.hosts); this Ingress is not served");
}

void function_reconcile_pod_exit(struct function_reconciler *reconciler, const struct cached_pod *pod)
{
    const struct function_sources *sources = &reconciler->sources;
    struct cached_object *object =
        function_cache_get(sources->cache, CACHE_FUNCTION, pod->base.namespace, pod->function);
    const struct function_spec *spec =
        object ? container_of(object, const struct cached_function, base)->spec : NULL;
    struct pod_failure failure;
    if (spec && pod_failure_passing_exit(pod, function_deployment_image(spec, sources->settings), &failure)) {
        event_recorder_emit(reconciler->recorder, FUNCTION_API_VERSION, "Function", object->namespace,
                            object->name, object->uid, "Warning", failure.reason, failure.message);
    }
    cached_object_unref(object);
}
