/* kube_client_internal.h - what kube_client.c and kube_client_stream.c share.
 *
 * Threads: as kube_client.h.
 */
#ifndef CICADA_KUBE_KUBE_CLIENT_INTERNAL_H
#define CICADA_KUBE_KUBE_CLIENT_INTERNAL_H

#include <stdatomic.h>

#include "operator/kube/kube_client.h"

struct kube_client {
    struct kube_transport *transport;
    struct kube_client *parent; /* owner of transport and counters; NULL: this one */
    atomic_llong timeout_ms;    /* of one call; of a stream: longest silence */
    atomic_llong reads, writes, unreadable;
};

void kube_client_count(struct kube_client *client, const char *method);
void kube_client_count_unreadable(struct kube_client *client, int64_t count);

#endif
