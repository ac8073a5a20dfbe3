#include "operator/gateway/kube_projection.h"

#include <string.h>

#include "operator/gateway/kube_pod.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

static void function_release(struct cached_object *object)
{
    struct kube_function *function = (struct kube_function *)(void *)object;
    function_spec_unref(function->spec);
    free(function->error);
    cached_object_release_names(object);
    free(function);
}

struct cached_object *kube_function_project(void *arg, const cJSON *tree)
{
    (void)arg;
    struct kube_function *function = xcalloc(1, sizeof(*function));
    cached_object_init(&function->object, tree, function_release);
    const cJSON *metadata = json_object(tree, "metadata");
    function->generation = json_int64(metadata, "generation", 0);
    if (json_string(metadata, "deletionTimestamp")) {
        return &function->object;
    }
    struct err err = ERR_INIT;
    if (function_spec_parse(tree, &function->spec, &err) < 0) {
        function->error = xstrdup(err.msg);
    }
    return &function->object;
}

static void plain_release(struct cached_object *object)
{
    cached_object_release_names(object);
    free(object);
}

/* The condition that `status.conditions` holds as true, or NULL. */
static const cJSON *true_condition(const cJSON *tree, const char *type)
{
    const cJSON *condition;
    cJSON_ArrayForEach(condition, json_array(json_object(tree, "status"), "conditions"))
    {
        const char *name = json_string(condition, "type"), *value = json_string(condition, "status");
        if (name && value && strcmp(name, type) == 0 && strcmp(value, "True") == 0) {
            return condition;
        }
    }
    return NULL;
}

struct cached_object *kube_deployment_project(void *arg, const cJSON *tree)
{
    (void)arg;
    struct kube_deployment *deployment = xcalloc(1, sizeof(*deployment));
    cached_object_init(&deployment->object, tree, plain_release);
    deployment->template = kube_template(json_object(json_object(tree, "spec"), "template"));
    const cJSON *failure = true_condition(tree, "ReplicaFailure");
    if (failure) {
        /* Kubernetes has one reason (FailedCreate) for all; its quota plug-in has used these words since 1.0. */
        const char *message = json_string(failure, "message");
        deployment->blocked_code =
            message && strstr(message, "exceeded quota") ? "QuotaExceeded" : "ReplicaFailure";
    }
    return &deployment->object;
}

struct cached_object *kube_peer_project(void *arg, const cJSON *tree)
{
    (void)arg;
    struct kube_peer *peer = xcalloc(1, sizeof(*peer));
    cached_object_init(&peer->object, tree, plain_release);
    peer->serving = true_condition(tree, "Ready") != NULL &&
                    json_string(json_object(tree, "metadata"), "deletionTimestamp") == NULL;
    return &peer->object;
}
