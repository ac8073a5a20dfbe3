/* announce_check.h - whether what a pod says of itself is to be believed.
 *
 * A pod is known by its UID in the pod cache; it speaks from the address that it announces. What must hold: the API shows no other
 * address for it, no other pod has that address, and it lies in the range of the pod's node where that is known. The
 * questions to the API server cost a few milliseconds and are asked only before the API itself shows the pod's address.
 *
 * Threads: all functions from any thread.
 */
#ifndef CICADA_GATEWAY_ANNOUNCE_CHECK_H
#define CICADA_GATEWAY_ANNOUNCE_CHECK_H

#include <netinet/in.h>

#include "operator/gateway/kube_node_ranges.h"
#include "operator/gateway/kube_pod.h"
#include "operator/kube/kube_client.h"
#include "runtime/base/err.h"

enum announce_verdict {
    ANNOUNCE_BELIEVED,
    ANNOUNCE_NOT_YET, /* what is known does not suffice: ask again */
    ANNOUNCE_REFUSED,
};

struct announce_check {
    struct kube_client *client;
    struct kube_node_ranges *ranges;
    const char *const *namespaces; /* in which pods may be listed */
    size_t namespace_count;        /* 0: all */
};

/* pod->node is not NULL. *ret_reason: why it is not believed, for the answer and the log; err: the failed question behind a NOT_YET. */
enum announce_verdict announce_check_address(const struct announce_check *check, const struct kube_pod *pod,
                                             struct in_addr from, const char **ret_reason, struct err *err);

#endif
