/* kube_certificates.h - the certificates of the Secrets that Functions name in http.tlsSecretName, read for the core.
 *
 * Secrets are read one by one (get; no list, no watch): at once when a Function that names one is new or changed, and again after 45 to
 * 60 s, so that a renewed certificate is shown without a restart. While a Secret can't be used what was read of it before stays in
 * use; that is logged once, told to each Function that names it by an Event, and is the metric cicada_gateway_tls_secret_problem until it
 * is repaired. A Secret that no Function names any more is forgotten.
 *
 * Threads: all functions from any thread; new/start/stop/free from the owner's.
 */
#ifndef CICADA_GATEWAY_KUBE_CERTIFICATES_H
#define CICADA_GATEWAY_KUBE_CERTIFICATES_H

#include <stdbool.h>

#include "operator/cache/informer.h"
#include "operator/controller/controller.h"
#include "operator/gateway/gateway.h"
#include "operator/kube/kube_client.h"

struct kube_certificates;

/* recorder: started and stopped by the caller, and outlives this. reread_ms: 0 for the usual interval. */
struct kube_certificates *kube_certificates_new(struct kube_client *client, struct gateway *gateway,
                                                struct event_recorder *recorder, struct metrics *metrics,
                                                int64_t reread_ms);
void kube_certificates_start(struct kube_certificates *certificates);
void kube_certificates_stop(struct kube_certificates *certificates); /* joins */
void kube_certificates_free(struct kube_certificates *certificates); /* NULL is fine */

/* What a Function named before and names now, each NULL for nothing; now is read at once. */
void kube_certificates_named(struct kube_certificates *certificates, const struct cached_object *function,
                             const char *before, const char *now);
/* Every Secret named so far was asked for, a few times if the API server had no answer: one that it can't give (it is encrypted, and its
 * key is away) keeps no gateway from serving. */
bool kube_certificates_settled(struct kube_certificates *certificates);

#endif
