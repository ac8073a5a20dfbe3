#include "operator/gateway/kube_pod.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define FUNCTION_CONTAINER        "function"
#define TERMINATION_MESSAGE_DEPTH 4
#define REASON_MAX_BYTES          63
#define TEMPLATE_ANNOTATION       "cicada.dev/template"

/* After these the kubelet goes on trying, but nothing changes before a person has changed something. ErrImagePull is not among
 * them: it is the first try's. From the second on it takes turns with ImagePullBackOff. */
static const char *const hopeless_reasons[] = {
    "ImagePullBackOff",     "ErrImageNeverPull", "InvalidImageName",  "CreateContainerConfigError",
    "CreateContainerError", "ImageInspectError", "RunContainerError",
};
/* One exit may be bad luck (a database that restarts, a node under pressure); for these reasons of the runtime's it is not. */
static const char *const definite_exits[] = {"HandlerLoadFailed", "SqlRejected", "SchemaMissing",
                                             "InvalidSpec"};

static void pod_release(struct cached_object *object)
{
    struct kube_pod *pod = kube_pod_of(object);
    free(pod->function);
    free(pod->node);
    free(pod->waiting_reason);
    free(pod->exit_reason);
    free(pod->pending_reason);
    cached_object_release_names(object);
    free(pod);
}

/* The gateway speaks IPv4; in a dual-stack cluster that may be the second address. */
static void read_address(struct kube_pod *pod, const cJSON *status)
{
    const char *text = json_string(status, "podIP");
    pod->has_address = text && inet_pton(AF_INET, text, &pod->address) == 1;
    const cJSON *item;
    cJSON_ArrayForEach(item, json_array(status, "podIPs"))
    {
        if (pod->has_address) {
            return;
        }
        text = json_string(item, "ip");
        pod->has_address = text && inet_pton(AF_INET, text, &pod->address) == 1;
    }
}

/* NULL: it has no such condition. */
static const cJSON *find_condition(const cJSON *status, const char *type)
{
    const cJSON *condition;
    cJSON_ArrayForEach(condition, json_array(status, "conditions"))
    {
        const char *name = json_string(condition, "type");
        if (name && strcmp(name, type) == 0) {
            return condition;
        }
    }
    return NULL;
}

static bool condition_is(const cJSON *condition, const char *value)
{
    const char *text = json_string(condition, "status");
    return text && strcmp(text, value) == 0;
}

/* A pod that has ended for good (evicted, node gone) keeps its Ready condition at times; its phase tells. */
static enum gateway_pod_state read_state(const cJSON *tree)
{
    const cJSON *status = json_object(tree, "status");
    const char *phase = json_string(status, "phase");
    if (json_string(json_object(tree, "metadata"), "deletionTimestamp") ||
        (phase && (strcmp(phase, "Failed") == 0 || strcmp(phase, "Succeeded") == 0))) {
        return GATEWAY_POD_TERMINATING;
    }
    return condition_is(find_condition(status, "Ready"), "True") ? GATEWAY_POD_READY : GATEWAY_POD_PENDING;
}

static bool is_reason(const char *text)
{
    size_t len = strlen(text);
    if (len == 0 || len > REASON_MAX_BYTES || !isupper((unsigned char)text[0])) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i])) {
            return false;
        }
    }
    return true;
}

/* The runtime leaves {"reason","message"} when it ends for a reason of its own. Only the reason goes to callers: the message may
 * name what is inside the image. */
static char *termination_reason(const cJSON *terminated)
{
    const char *text = json_string(terminated, "message");
    if (!text) {
        return NULL;
    }
    struct err ignored = ERR_INIT;
    CLEANUP_JSON cJSON *tree = NULL;
    if (json_parse(text, strlen(text), TERMINATION_MESSAGE_DEPTH, &tree, &ignored) < 0) {
        return NULL; /* whatever the container printed */
    }
    const char *reason = json_string(tree, "reason");
    return reason && is_reason(reason) ? xstrdup(reason) : NULL;
}

/* The kubelet's own cache of Secrets and ConfigMaps may be late on a busy node ("failed to sync secret cache: timed out..."): it tries
 * again within a second, so that is no failure. Only its text tells this from a Secret that is not there. */
static char *waiting_reason(const cJSON *waiting)
{
    const char *message = json_string(waiting, "message");
    bool kubelet_is_late = message && str_starts_with(message, "failed to sync ");
    return kubelet_is_late ? NULL : xstrdup_or_null(json_string(waiting, "reason"));
}

static void read_container(struct kube_pod *pod, const cJSON *status)
{
    const cJSON *container;
    cJSON_ArrayForEach(container, json_array(status, "containerStatuses"))
    {
        const char *name = json_string(container, "name");
        if (!name || strcmp(name, FUNCTION_CONTAINER) != 0) {
            continue; /* an injected one */
        }
        const cJSON *state = json_object(container, "state");
        const cJSON *ended = json_object(state, "terminated");
        const cJSON *ended_before = json_object(json_object(container, "lastState"), "terminated");
        /* The count is of restarts: an exit shows in it once the next try is made. */
        pod->exits = (int)json_int64(container, "restartCount", 0) + (ended ? 1 : 0);
        pod->waiting_reason = waiting_reason(json_object(state, "waiting"));
        pod->exit_reason = termination_reason(ended ? ended : ended_before);
        return;
    }
}

/* Ready=False has "ContainersNotReady" as its reason also while there is no node. */
static char *pending_reason(const cJSON *status)
{
    static const char *const types[] = {"PodScheduled", "Ready"};
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        const cJSON *condition = find_condition(status, types[i]);
        const char *reason = json_string(condition, "reason");
        if (condition_is(condition, "False") && reason && is_reason(reason)) {
            return xstrdup(reason);
        }
    }
    return NULL;
}

uint64_t kube_template(const cJSON *object)
{
    const char *text =
        json_string(json_object(json_object(object, "metadata"), "annotations"), TEMPLATE_ANNOTATION);
    return text ? hash_fnv1a(HASH_FNV1A_START, text, strlen(text)) : 0;
}

struct cached_object *kube_pod_project(void *arg, const cJSON *tree)
{
    (void)arg;
    const cJSON *labels = json_object(json_object(tree, "metadata"), "labels");
    const char *function = json_string(labels, KUBE_FUNCTION_LABEL);
    if (!function) {
        return NULL;
    }
    struct kube_pod *pod = xcalloc(1, sizeof(*pod));
    cached_object_init(&pod->object, tree, pod_release);
    const cJSON *status = json_object(tree, "status");
    pod->function = xstrdup(function);
    pod->node = xstrdup_or_null(json_string(json_object(tree, "spec"), "nodeName"));
    pod->state = read_state(tree);
    pod->template = kube_template(tree);
    pod->pending_reason = pending_reason(status);
    read_address(pod, status);
    read_container(pod, status);
    return &pod->object;
}

static bool waits_for(const struct kube_pod *pod, const char *reason)
{
    return pod->waiting_reason && strcmp(pod->waiting_reason, reason) == 0;
}

void kube_pod_inherit(struct kube_pod *pod, const struct kube_pod *old)
{
    if (old && strcmp(old->object.uid, pod->object.uid) != 0) {
        old = NULL;
    }
    bool backed_off = old && (atomic_load(&old->pull_backed_off) || waits_for(old, "ImagePullBackOff"));
    atomic_store(&pod->pull_backed_off, backed_off);
    if (pod->state == GATEWAY_POD_READY) {
        atomic_store(&pod->exits_when_ready, pod->exits);
    } else if (old) {
        atomic_store(&pod->exits_when_ready, atomic_load(&old->exits_when_ready));
    }
}

/* The entry of the list that equals text (NULL: none does). */
static const char *find_in(const char *const *list, size_t count, const char *text)
{
    for (size_t i = 0; text && i < count; i++) {
        if (strcmp(text, list[i]) == 0) {
            return list[i];
        }
    }
    return NULL;
}

const char *kube_pod_failure(const struct kube_pod *pod)
{
    if (pod->state != GATEWAY_POD_PENDING) {
        return NULL;
    }
    const char *hopeless = find_in(hopeless_reasons, ARRAY_SIZE(hopeless_reasons), pod->waiting_reason);
    if (hopeless) {
        return hopeless;
    }
    if (waits_for(pod, "ErrImagePull") && atomic_load(&pod->pull_backed_off)) {
        return "ErrImagePull";
    }
    int exits = pod->exits - atomic_load(&pod->exits_when_ready);
    bool backing_off = waits_for(pod, "CrashLoopBackOff");
    bool definite = find_in(definite_exits, ARRAY_SIZE(definite_exits), pod->exit_reason) != NULL;
    if (backing_off || exits >= 2 || (definite && exits >= 1)) {
        return pod->exit_reason ? pod->exit_reason : "ContainerExited";
    }
    return NULL;
}

/* What tells most comes first: an exit that may be bad luck, then why there is no container yet, then the pod's conditions. */
const char *kube_pod_delay(const struct kube_pod *pod)
{
    if (pod->state != GATEWAY_POD_PENDING) {
        return NULL;
    }
    bool has_exited = pod->exits > atomic_load(&pod->exits_when_ready);
    return has_exited && pod->exit_reason ? pod->exit_reason
           : pod->waiting_reason          ? pod->waiting_reason
                                          : pod->pending_reason;
}

void kube_pod_to_gateway(const struct kube_pod *pod, struct gateway_pod *ret_pod)
{
    *ret_pod = (struct gateway_pod){
        .namespace = pod->object.namespace,
        .function = pod->function,
        .name = pod->object.name,
        .uid = pod->object.uid,
        .has_address = pod->has_address,
        .address = {.sin_family = AF_INET, .sin_port = htons(KUBE_FUNCTION_PORT), .sin_addr = pod->address},
        .state = pod->state,
        .failure_code = kube_pod_failure(pod),
        .delay_code = kube_pod_delay(pod),
        .template = pod->template,
    };
}
