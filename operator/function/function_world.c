#include "operator/function/function_world.h"

#include <string.h>

#include "operator/function/function_deployment.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

enum child_claim child_claim_of(const struct child_head *head, const char *function_uid)
{
    if (!head) {
        return CHILD_ABSENT;
    }
    bool ours = head->owner_uid && strcmp(head->owner_uid, function_uid) == 0;
    if (ours) {
        return head->deleting ? CHILD_LEAVING : CHILD_OURS;
    }
    return head->owner_is_namesake ? CHILD_LEAVING : CHILD_FOREIGN;
}

static bool is_failure_of_pods(const char *reason)
{
    static const char *const reasons[] = {
        "ImagePullFailed",          "HandlerLoadFailed", "ContainerExited", "HandlerStuck",   "SecretMissing",
        "DatabaseUnreachable",      "Unschedulable",     "QuotaExceeded",   "ReplicaFailure", "InvalidSpec",
        "ProgressDeadlineExceeded", "SqlRejected",       "SchemaMissing"};
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        if (strcmp(reason, reasons[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Made by a Deployment of the same name that was deleted since, for the same spec, and about to go. (One that orphans it leaves its
 * pods to the next, which then counts them itself.) */
static bool is_left_over(const struct cached_pod *pod, const struct cached_deployment *deployment)
{
    return pod->created_ms < deployment->created_ms && deployment->ready_replicas == 0;
}

static void find_pods(const struct function_world *world, struct function_facts *facts)
{
    const char *image = function_deployment_image(world->function->spec, world->settings);
    for (size_t i = 0; i < world->pod_count; i++) {
        const struct cached_pod *pod = world->pods[i];
        if (!pod->template || !str_equal_or_both_null(pod->template, world->deployment->template) ||
            is_left_over(pod, world->deployment)) {
            continue;
        }
        if (pod->ready && !pod->deleting) {
            facts->ready++;
        }
        struct pod_failure failure;
        if (pod_failure_find(pod, image, world->now_ms, &failure)) {
            if (!facts->has_failure) {
                facts->failure = failure;
                facts->has_failure = true;
            }
        } else if (failure.due_in_ms &&
                   (!facts->recheck_after_ms || failure.due_in_ms < facts->recheck_after_ms)) {
            facts->recheck_after_ms = failure.due_in_ms;
        }
    }
}

/* How many pods prove a generation. One that failed before is tried with whatever a wake brings. */
static int count_proof_replicas(const struct function_world *world, const struct function_facts *facts)
{
    const struct function_spec *spec = world->function->spec;
    int count = spec->initial_replicas;
    if (spec->replicas >= 0 && spec->replicas < count) {
        count = spec->replicas;
    }
    if (facts->failed_before && world->deployment && world->deployment->replicas < count) {
        count = world->deployment->replicas > 0 ? world->deployment->replicas : 1;
    }
    return count;
}

void function_facts_find(const struct function_world *world, struct function_facts *ret_facts)
{
    memset(ret_facts, 0, sizeof *ret_facts);
    const struct cached_function *function = world->function;
    const char *uid = function->base.uid;
    ret_facts->deployment = child_claim_of(world->deployment ? &world->deployment->head : NULL, uid);
    ret_facts->service = child_claim_of(world->service ? &world->service->head : NULL, uid);
    ret_facts->endpoints = child_claim_of(world->endpoints ? &world->endpoints->head : NULL, uid);
    ret_facts->ingress = child_claim_of(world->ingress ? &world->ingress->head : NULL, uid);

    const struct condition *deployed = &function->status.conditions[CONDITION_DEPLOYED];
    ret_facts->failed_before = deployed->status == CONDITION_FALSE &&
                               deployed->generation == function->generation &&
                               is_failure_of_pods(deployed->reason);
    ret_facts->proof_replicas = count_proof_replicas(world, ret_facts);
    if (ret_facts->deployment == CHILD_OURS) {
        const struct cached_deployment *deployment = world->deployment;
        ret_facts->is_current = str_equal_or_both_null(deployment->spec_template, function->spec_template);
        ret_facts->proven = str_equal_or_both_null(deployment->proven, function->spec_template);
        find_pods(world, ret_facts);
    }
}
