#include "operator/function/function_execute.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"

/* What an action needs to know of those before it. */
struct execution {
    const struct function_sources *sources;
    const struct function_world *world;
    const char *namespace, *name;
    char *deployment_version; /* newest known; NULL: none */
    char *made_uid;           /* of the Deployment, if this plan made it */
};

static enum cache_kind kind_of(const struct kube_resource *resource)
{
    return resource == &kube_deployments ? CACHE_DEPLOYMENT
           : resource == &kube_services  ? CACHE_SERVICE
           : resource == &kube_ingresses ? CACHE_INGRESS
           : resource == &kube_functions ? CACHE_FUNCTION
                                         : CACHE_ENDPOINTS;
}

static const char *version_seen(const struct function_world *world, enum cache_kind kind)
{
    const struct cached_child *child = kind == CACHE_SERVICE   ? world->service
                                       : kind == CACHE_INGRESS ? world->ingress
                                                               : world->endpoints;
    const struct child_head *head = child ? &child->head : NULL;
    if (kind == CACHE_FUNCTION) {
        return world->function->base.resource_version;
    }
    if (kind == CACHE_DEPLOYMENT) {
        head = world->deployment ? &world->deployment->head : NULL;
    }
    return head ? head->base.resource_version : NULL;
}

static void note_answer(struct execution *execution, const struct kube_resource *resource,
                        const cJSON *answer)
{
    enum cache_kind kind = kind_of(resource);
    function_cache_wrote(execution->sources->cache, kind, version_seen(execution->world, kind), answer);
    if (kind == CACHE_DEPLOYMENT && !execution->deployment_version) {
        execution->made_uid = xstrdup_or_null(json_string(json_object(answer, "metadata"), "uid"));
    }
    if (kind == CACHE_DEPLOYMENT) {
        free(execution->deployment_version);
        execution->deployment_version =
            xstrdup_or_null(json_string(json_object(answer, "metadata"), "resourceVersion"));
    }
}

/* If the Deployment's metadata still has `value` as its member `precondition`. */
static int write_scale(struct kube_client *client, const char *namespace, const char *name,
                       const char *precondition, const char *value, int replicas, struct err *err)
{
    CLEANUP_JSON cJSON *patch = cJSON_CreateObject();
    json_add_string(json_add_object(patch, "metadata"), precondition, value);
    json_add_int64(json_add_object(patch, "spec"), "replicas", replicas);
    return kube_merge_patch(client, &kube_deployments, namespace, name, "scale", MANAGER_CHILDREN, patch,
                            NULL, err);
}

int function_execute_scale(struct kube_client *client, const char *namespace, const char *name,
                           const char *resource_version, int replicas, struct err *err)
{
    return write_scale(client, namespace, name, "resourceVersion", resource_version, replicas, err);
}

/* Nobody has decided anything about a Deployment that was made a moment ago, but its controller may have written to it already. */
static int execute_scale(struct execution *execution, const struct plan_action *action, struct err *err)
{
    bool made = execution->made_uid != NULL;
    return write_scale(execution->sources->client, execution->namespace, execution->name,
                       made ? "uid" : "resourceVersion",
                       made ? execution->made_uid : execution->deployment_version, action->replicas, err);
}

static int execute_write(struct execution *execution, const struct plan_action *action, struct err *err)
{
    struct kube_client *client = execution->sources->client;
    CLEANUP_JSON cJSON *answer = NULL;
    int result;
    if (action->verb == PLAN_ANNOTATE || action->verb == PLAN_FINALIZER) {
        result = kube_merge_patch(client, action->resource, execution->namespace, execution->name, NULL,
                                  MANAGER_CHILDREN, action->body, &answer, err);
    } else {
        bool status = action->verb == PLAN_APPLY_STATUS;
        result = kube_apply(client, action->resource, execution->namespace, execution->name,
                            status ? "status" : NULL, status ? MANAGER_STATUS : MANAGER_CHILDREN,
                            action->body, &answer, err);
    }
    if (result == 0) {
        note_answer(execution, action->resource, answer);
    }
    return result;
}

static int execute_action(struct execution *execution, const struct plan_action *action, struct err *err)
{
    struct kube_client *client = execution->sources->client;
    switch (action->verb) {
    case PLAN_APPLY:
    case PLAN_APPLY_STATUS:
    case PLAN_ANNOTATE:
    case PLAN_FINALIZER:
        return execute_write(execution, action, err);
    case PLAN_SCALE:
        return execute_scale(execution, action, err);
    case PLAN_DELETE:
        if (kube_delete(client, action->resource, execution->namespace, execution->name, action->uid, err)) {
            if (err->code != ERR_NOT_FOUND) {
                return -1;
            }
            err_clear(err);
        }
        return 0;
    }
    return err_set(err, ERR_INTERNAL, "unknown action %d", (int)action->verb);
}

int function_execute_actions(const struct function_sources *sources, const struct function_world *world,
                             const struct function_plan *plan, const struct plan_action **ret_failed,
                             struct err *err)
{
    struct execution execution = {
        .sources = sources,
        .world = world,
        .namespace = world->function->base.namespace,
        .name = world->function->base.name,
        .deployment_version = xstrdup_or_null(version_seen(world, CACHE_DEPLOYMENT)),
    };
    int result = 0;
    for (size_t i = 0; i < plan->action_count && result == 0; i++) {
        const struct plan_action *action = &plan->actions[i];
        result = execute_action(&execution, action, err);
        if (result) {
            *ret_failed = action;
            err_wrap(err, "%s %s/%s", action->resource->kind, execution.namespace, execution.name);
        }
    }
    free(execution.deployment_version);
    free(execution.made_uid);
    return result;
}

int function_execute_status(const struct function_sources *sources, const struct function_world *world,
                            const struct function_plan *plan, struct err *err)
{
    const struct cached_object *function = &world->function->base;
    CLEANUP_JSON cJSON *intent = function_status_intent(&plan->status, function->namespace, function->name,
                                                        function->resource_version);
    CLEANUP_JSON cJSON *answer = NULL;
    if (kube_apply(sources->client, &kube_functions, function->namespace, function->name, "status",
                   MANAGER_STATUS, intent, &answer, err)) {
        if (err->code != ERR_NOT_FOUND) {
            return err_wrap(err, "status of Function %s/%s", function->namespace, function->name);
        }
        err_clear(err);
        return 0;
    }
    function_cache_wrote(sources->cache, CACHE_FUNCTION, function->resource_version, answer);
    return 0;
}
