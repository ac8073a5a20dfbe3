/* kube_node_ranges.h - which range a node's pods have their addresses from (spec.podCIDRs), read once per node and kept.
 *
 * Not every network takes pod addresses from there (Calico's own allocator, clouds). One pod whose address by the API lies
 * outside tells so, and all ranges count as unknown from then on, as they do without the right to read nodes.
 *
 * Threads: all functions from any thread; new/start/stop/free from the owner's.
 */
#ifndef CICADA_GATEWAY_KUBE_NODE_RANGES_H
#define CICADA_GATEWAY_KUBE_NODE_RANGES_H

#include <netinet/in.h>

#include "operator/kube/kube_client.h"
#include "runtime/base/err.h"

enum kube_node_range { KUBE_NODE_UNKNOWN, KUBE_NODE_INSIDE, KUBE_NODE_OUTSIDE };

struct kube_node_ranges;
struct kube_node_ranges *kube_node_ranges_new(struct kube_client *client); /* borrowed */
void kube_node_ranges_start(struct kube_node_ranges *ranges);
/* Reads the node in the background if it is not known yet. Does not block. */
void kube_node_ranges_prefetch(struct kube_node_ranges *ranges, const char *name);
/* The API says that a pod of that node has this address. Does not block. */
void kube_node_ranges_saw(struct kube_node_ranges *ranges, const char *name, struct in_addr address);
/* Reads the node if need be. -1: the API server can't be asked now. */
int kube_node_ranges_check(struct kube_node_ranges *ranges, const char *name, struct in_addr address,
                           enum kube_node_range *ret_range, struct err *err) MUST_CHECK;
void kube_node_ranges_stop(struct kube_node_ranges *ranges);
void kube_node_ranges_free(struct kube_node_ranges *ranges); /* NULL is fine */

#endif
