/* kube_waker.h - brings functions from zero replicas to one, by the guarded scale patch of PROTOCOLS.md.
 *
 * A wake is posted to a queue that holds each function once; workers patch, so that many functions that are called at the same moment do
 * not wait for each other. It has no memory: the core asks again each second while requests wait. What has lain in the queue until nobody
 * waits is dropped.
 *
 * Threads: kube_waker_wake() from any thread, does not block; the rest from the owner's.
 */
#ifndef CICADA_GATEWAY_KUBE_WAKER_H
#define CICADA_GATEWAY_KUBE_WAKER_H

#include "operator/gateway/gateway.h"
#include "operator/kube/kube_client.h"
#include "runtime/base/metrics.h"

#define KUBE_GATEWAY_FIELD_MANAGER "cicada-gateway"

struct kube_waker;
struct kube_waker *kube_waker_new(struct kube_client *client, struct metrics *metrics); /* both borrowed */
/* gateway: is told what was woken; borrowed until kube_waker_stop(). */
void kube_waker_start(struct kube_waker *waker, struct gateway *gateway);
/* arg: the waker; fits struct gateway_waker. */
void kube_waker_wake(void *arg, const char *namespace, const char *name);
/* Joins the workers; wakes from now on do nothing. A patch under way is finished, or ended by the client's stop. */
void kube_waker_stop(struct kube_waker *waker);
void kube_waker_free(struct kube_waker *waker); /* NULL is fine */

#endif
