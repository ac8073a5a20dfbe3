#include "operator/function/function_objects.h"

#include <stdlib.h>
#include <string.h>

#include "operator/function/function_deployment.h"
#include "operator/function/function_service.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define PROJECTED_TEXT_MAX 4096 /* of messages: what Kubernetes keeps of a termination message */
#define ADDRESSES_MAX      64

static char *dup_cut(const char *text)
{
    return text ? xstrndup(text, PROJECTED_TEXT_MAX) : NULL;
}

static char *dup_member(const cJSON *object, const char *name)
{
    return xstrdup_or_null(json_string(object, name));
}

/* Wall; 0: it has none. */
static int64_t read_time_ms(const cJSON *metadata, const char *name)
{
    const char *text = json_string(metadata, name);
    int64_t time_ms = 0;
    return text && parse_rfc3339(text, &time_ms) ? time_ms : 0;
}

/* ---- children ---- */

static const cJSON *controlling_owner(const cJSON *metadata)
{
    const cJSON *owner;
    cJSON_ArrayForEach(owner, json_array(metadata, "ownerReferences"))
    {
        if (json_bool(owner, "controller", false)) {
            return owner;
        }
    }
    return NULL;
}

/* Of spec and subsets, member by member, in any order; replicas belong to /scale. */
static uint64_t hash_content(const cJSON *tree)
{
    const cJSON *member, *subsets = json_array(tree, "subsets");
    uint64_t hash = subsets ? json_hash(subsets) : 0;
    cJSON_ArrayForEach(member, json_object(tree, "spec"))
    {
        if (strcmp(member->string, "replicas") != 0) {
            uint64_t value = json_hash(member);
            hash += hash_fnv1a(hash_fnv1a(HASH_FNV1A_START, member->string, strlen(member->string)), &value,
                               sizeof value);
        }
    }
    return hash ? hash : 1;
}

static void init_head(struct child_head *head, const cJSON *tree, void (*release)(struct cached_object *self))
{
    cached_object_init(&head->base, tree, release);
    const cJSON *metadata = json_object(tree, "metadata"), *owner = controlling_owner(metadata);
    const char *kind = json_string(owner, "kind"), *name = json_string(owner, "name");
    const char *version = json_string(owner, "apiVersion");
    head->owner_uid = dup_member(owner, "uid");
    head->owner_is_namesake = kind && name && version && strcmp(kind, "Function") == 0 &&
                              str_starts_with(version, "cicada.dev/") && strcmp(name, head->base.name) == 0;
    head->intent = dup_member(json_object(metadata, "annotations"), ANNOTATION_INTENT);
    head->deleting = json_string(metadata, "deletionTimestamp") != NULL;
    head->content = hash_content(tree);
    atomic_init(&head->accepted, 0);
}

static void release_head(struct child_head *head)
{
    cached_object_release_names(&head->base);
    free(head->owner_uid);
    free(head->intent);
}

static void add_address(struct cached_child *child, const char *address)
{
    if (address && child->address_count < ADDRESSES_MAX) {
        child->addresses =
            xreallocarray(child->addresses, child->address_count + 1, sizeof *child->addresses);
        child->addresses[child->address_count++] = xstrdup(address);
    }
}

static void collect_addresses(struct cached_child *child, const cJSON *tree)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, json_array(json_object(json_object(tree, "status"), "loadBalancer"), "ingress"))
    {
        add_address(child, json_string(item, "ip") ? json_string(item, "ip") : json_string(item, "hostname"));
    }
}

static void release_child(struct cached_object *self)
{
    struct cached_child *child =
        container_of(container_of(self, struct child_head, base), struct cached_child, head);
    release_head(&child->head);
    free(child->class_name);
    free(child->addresses_hash);
    for (size_t i = 0; i < child->address_count; i++) {
        free(child->addresses[i]);
    }
    free(child->addresses);
    free(child);
}

struct cached_object *function_objects_project_child(void *arg, const cJSON *tree)
{
    (void)arg;
    struct cached_child *child = xcalloc(1, sizeof *child);
    init_head(&child->head, tree, release_child);
    const cJSON *spec = json_object(tree, "spec"), *item;
    const cJSON *annotations = json_object(json_object(tree, "metadata"), "annotations");
    child->class_name = dup_member(spec, "ingressClassName");
    if (!child->class_name) {
        child->class_name = dup_member(annotations, "kubernetes.io/ingress.class");
    }
    collect_addresses(child, tree);
    char hash[INTENT_HASH_SIZE];
    function_service_hash_addresses((const char *const *)child->addresses, child->address_count, hash);
    child->addresses_hash = xstrdup(hash);
    if (child->address_count == 0) {
        cJSON_ArrayForEach(item, json_array(spec, "externalIPs"))
        {
            add_address(child, cJSON_GetStringValue(item));
        }
    }
    return &child->head.base;
}

/* ---- Function ---- */

static void release_function(struct cached_object *self)
{
    struct cached_function *function = container_of(self, struct cached_function, base);
    cached_object_release_names(&function->base);
    function_spec_unref(function->spec);
    free(function->spec_error);
    for (size_t i = 0; i < function->other_finalizer_count; i++) {
        free(function->other_finalizers[i]);
    }
    free(function->other_finalizers);
    function_status_release(&function->status);
    free(function);
}

static void read_finalizers(struct cached_function *function, const cJSON *metadata)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, json_array(metadata, "finalizers"))
    {
        const char *name = cJSON_GetStringValue(item);
        if (name && strcmp(name, FINALIZER_TRIGGERS) == 0) {
            function->has_finalizer = true;
        } else if (name) {
            function->other_finalizers = xreallocarray(function->other_finalizers,
                                                       function->other_finalizer_count + 1, sizeof(char *));
            function->other_finalizers[function->other_finalizer_count++] = xstrdup(name);
        }
    }
}

struct cached_object *function_objects_project_function(void *arg, const cJSON *tree)
{
    (void)arg;
    struct cached_function *function = xcalloc(1, sizeof *function);
    cached_object_init(&function->base, tree, release_function);
    const cJSON *metadata = json_object(tree, "metadata");
    function->generation = json_int64(metadata, "generation", 0);
    function->deleting = json_string(metadata, "deletionTimestamp") != NULL;
    function->deleted_ms = read_time_ms(metadata, "deletionTimestamp");
    read_finalizers(function, metadata);
    struct err err = ERR_INIT;
    if (function_spec_parse(tree, &function->spec, &err)) {
        function->spec_error = xstrdup(err.msg);
    } else {
        function_deployment_spec_template(function->spec, function->spec_template);
    }
    function_status_parse(tree, &function->status);
    return &function->base;
}

/* ---- Deployment ---- */

static void release_deployment(struct cached_object *self)
{
    struct cached_deployment *deployment =
        container_of(container_of(self, struct child_head, base), struct cached_deployment, head);
    release_head(&deployment->head);
    free(deployment->template);
    free(deployment->spec_template);
    free(deployment->proven);
    free(deployment->replica_failure);
    free(deployment->progress_failure);
    free(deployment);
}

static void read_deployment_conditions(struct cached_deployment *deployment, const cJSON *status)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, json_array(status, "conditions"))
    {
        const char *type = json_string(item, "type"), *value = json_string(item, "status");
        const char *reason = json_string(item, "reason");
        if (!type || !value) {
            continue;
        }
        if (strcmp(type, "ReplicaFailure") == 0 && strcmp(value, "True") == 0 &&
            !deployment->replica_failure) {
            deployment->replica_failure = dup_cut(json_string(item, "message"));
        }
        if (strcmp(type, "Progressing") == 0 && strcmp(value, "False") == 0 && reason &&
            strcmp(reason, "ProgressDeadlineExceeded") == 0 && !deployment->progress_failure) {
            deployment->progress_failure = dup_cut(json_string(item, "message"));
        }
    }
}

struct cached_object *function_objects_project_deployment(void *arg, const cJSON *tree)
{
    (void)arg;
    struct cached_deployment *deployment = xcalloc(1, sizeof *deployment);
    init_head(&deployment->head, tree, release_deployment);
    const cJSON *metadata = json_object(tree, "metadata"),
                *annotations = json_object(metadata, "annotations");
    const cJSON *spec = json_object(tree, "spec"), *status = json_object(tree, "status");
    const cJSON *template = json_object(json_object(spec, "template"), "metadata");
    deployment->template = dup_member(json_object(template, "annotations"), ANNOTATION_TEMPLATE);
    deployment->spec_template = dup_member(annotations, ANNOTATION_SPEC_TEMPLATE);
    deployment->proven = dup_member(annotations, ANNOTATION_PROVEN);
    deployment->replicas = (int)json_int64(spec, "replicas", 1);
    deployment->created_ms = read_time_ms(metadata, "creationTimestamp");
    deployment->generation = json_int64(metadata, "generation", 0);
    deployment->observed_generation = json_int64(status, "observedGeneration", 0);
    deployment->status_replicas = (int)json_int64(status, "replicas", 0);
    deployment->updated_replicas = (int)json_int64(status, "updatedReplicas", 0);
    deployment->ready_replicas = (int)json_int64(status, "readyReplicas", 0);
    deployment->available_replicas = (int)json_int64(status, "availableReplicas", 0);
    read_deployment_conditions(deployment, status);
    return &deployment->head.base;
}

/* ---- Pod ---- */

static void release_end(struct container_end *end)
{
    free(end->reason);
    free(end->message);
}

static void release_pod(struct cached_object *self)
{
    struct cached_pod *pod = container_of(self, struct cached_pod, base);
    cached_object_release_names(&pod->base);
    free(pod->function);
    free(pod->template);
    free(pod->phase);
    free(pod->ip);
    free(pod->waiting_reason);
    free(pod->waiting_message);
    release_end(&pod->ended);
    release_end(&pod->before);
    free(pod->unschedulable);
    free(pod);
}

static void read_end(struct container_end *end, const cJSON *terminated)
{
    if (terminated) {
        end->present = true;
        end->exit_code = (int)json_int64(terminated, "exitCode", 0);
        end->signal = (int)json_int64(terminated, "signal", 0);
        end->reason = dup_member(terminated, "reason");
        end->message = dup_cut(json_string(terminated, "message"));
    }
}

static void read_container(struct cached_pod *pod, const cJSON *status)
{
    const cJSON *container;
    cJSON_ArrayForEach(container, json_array(status, "containerStatuses"))
    {
        const char *name = json_string(container, "name");
        if (!name || strcmp(name, CONTAINER_NAME) != 0) {
            continue;
        }
        const cJSON *state = json_object(container, "state");
        pod->waiting_reason = dup_member(json_object(state, "waiting"), "reason");
        pod->waiting_message = dup_cut(json_string(json_object(state, "waiting"), "message"));
        read_end(&pod->ended, json_object(state, "terminated"));
        read_end(&pod->before, json_object(json_object(container, "lastState"), "terminated"));
        /* The count is of restarts: an exit shows in it once the next try is made. */
        pod->exits = (int)json_int64(container, "restartCount", 0) + (pod->ended.present ? 1 : 0);
        break;
    }
}

static void read_pod_conditions(struct cached_pod *pod, const cJSON *status)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, json_array(status, "conditions"))
    {
        const char *type = json_string(item, "type"), *value = json_string(item, "status");
        const char *reason = json_string(item, "reason"), *since = json_string(item, "lastTransitionTime");
        if (!type || !value) {
            continue;
        }
        if (strcmp(type, "Ready") == 0) {
            pod->ready = strcmp(value, "True") == 0;
        }
        if (strcmp(type, "PodScheduled") == 0 && strcmp(value, "False") == 0 && reason &&
            strcmp(reason, "Unschedulable") == 0 && !pod->unschedulable) {
            const char *message = json_string(item, "message");
            pod->unschedulable = dup_cut(message ? message : "");
            if (!since || !parse_rfc3339(since, &pod->unschedulable_since_ms)) {
                pod->unschedulable_since_ms = 0;
            }
        }
    }
}

struct cached_object *function_objects_project_pod(void *arg, const cJSON *tree)
{
    (void)arg;
    struct cached_pod *pod = xcalloc(1, sizeof *pod);
    cached_object_init(&pod->base, tree, release_pod);
    const cJSON *metadata = json_object(tree, "metadata"), *status = json_object(tree, "status");
    pod->function = dup_member(json_object(metadata, "labels"), LABEL_FUNCTION);
    pod->template = dup_member(json_object(metadata, "annotations"), ANNOTATION_TEMPLATE);
    pod->created_ms = read_time_ms(metadata, "creationTimestamp");
    pod->deleting = json_string(metadata, "deletionTimestamp") != NULL;
    pod->phase = dup_member(status, "phase");
    pod->ip = dup_member(status, "podIP");
    read_container(pod, status);
    read_pod_conditions(pod, status);
    return &pod->base;
}

static bool end_differs(const struct container_end *a, const struct container_end *b)
{
    return a->present != b->present || a->exit_code != b->exit_code || a->signal != b->signal ||
           !str_equal_or_both_null(a->message, b->message);
}

bool function_objects_pod_differs(const struct cached_pod *a, const struct cached_pod *b)
{
    return a->deleting != b->deleting || a->ready != b->ready || a->exits != b->exits ||
           !str_equal_or_both_null(a->phase, b->phase) || !str_equal_or_both_null(a->template, b->template) ||
           !str_equal_or_both_null(a->waiting_reason, b->waiting_reason) ||
           !str_equal_or_both_null(a->waiting_message, b->waiting_message) ||
           end_differs(&a->ended, &b->ended) || end_differs(&a->before, &b->before) ||
           !str_equal_or_both_null(a->unschedulable, b->unschedulable);
}
