#include "operator/gateway/announce_check.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/json.h"

/* Who else has the address, by the API. */
struct holders {
    const char *own_uid;
    bool running;     /* a pod that will keep it */
    bool terminating; /* one that is about to give it back */
};

static int look_at_holder(void *arg, cJSON *object, struct err *err)
{
    (void)err;
    struct holders *holders = arg;
    CLEANUP_JSON cJSON *pod = object;
    const cJSON *metadata = json_object(pod, "metadata");
    const char *uid = json_string(metadata, "uid"), *phase = json_string(json_object(pod, "status"), "phase");
    bool ended = phase && (strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0);
    if ((uid && strcmp(uid, holders->own_uid) == 0) || ended) {
        return 0;
    }
    if (json_string(metadata, "deletionTimestamp")) {
        holders->terminating = true;
    } else {
        holders->running = true;
    }
    return 0;
}

/* resourceVersion 0: from the API server's memory. That may be a moment old, as any answer is once it has arrived. */
static int find_holders(const struct announce_check *check, struct in_addr address, struct holders *holders,
                        struct err *err)
{
    char text[INET_ADDRSTRLEN], selector[sizeof("status.podIP=") + INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address, text, sizeof(text));
    snprintf(selector, sizeof(selector), "status.podIP=%s", text);
    struct kube_list_options options = {.field_selector = selector, .resource_version = "0"};
    size_t count = check->namespace_count > 0 ? check->namespace_count : 1;
    for (size_t i = 0; i < count; i++) {
        struct kube_list_meta meta = {0};
        const char *namespace = check->namespace_count > 0 ? check->namespaces[i] : NULL;
        if (kube_list(check->client, &kube_pods, namespace, &options, look_at_holder, holders, &meta, err) <
            0) {
            return err_wrap(err, "pods with address %s", text);
        }
        kube_list_meta_release(&meta);
    }
    return 0;
}

enum announce_verdict announce_check_address(const struct announce_check *check, const struct kube_pod *pod,
                                             struct in_addr from, const char **ret_reason, struct err *err)
{
    if (pod->has_address) {
        *ret_reason = "the pod has another address";
        return pod->address.s_addr == from.s_addr ? ANNOUNCE_BELIEVED : ANNOUNCE_REFUSED;
    }
    enum kube_node_range range = KUBE_NODE_UNKNOWN;
    if (kube_node_ranges_check(check->ranges, pod->node, from, &range, err) < 0) {
        *ret_reason = "the node's address range can't be read";
        return ANNOUNCE_NOT_YET;
    }
    if (range == KUBE_NODE_OUTSIDE) {
        *ret_reason = "the address is not one of the pod's node";
        return ANNOUNCE_REFUSED;
    }
    struct holders holders = {.own_uid = pod->object.uid};
    if (find_holders(check, from, &holders, err) < 0) {
        *ret_reason = "the pods with this address can't be read";
        return ANNOUNCE_NOT_YET;
    }
    if (holders.running || holders.terminating) {
        *ret_reason = "another pod has this address";
        return holders.running ? ANNOUNCE_REFUSED : ANNOUNCE_NOT_YET;
    }
    return ANNOUNCE_BELIEVED;
}
