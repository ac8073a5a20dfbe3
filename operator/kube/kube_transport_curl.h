/* kube_transport_curl.h - the transport of programs: http_client with the bearer token of a kube_client_config.
 *
 * A token file is read again when what is known of it is a minute old, and once after a 401. While it cannot be read the last
 * token stays in use.
 *
 * Threads: any.
 */
#ifndef CICADA_KUBE_KUBE_TRANSPORT_CURL_H
#define CICADA_KUBE_KUBE_TRANSPORT_CURL_H

#include "operator/kube/kube_client.h"
#include "runtime/base/clock.h"

/* config is copied; clock and stop are borrowed. */
struct kube_transport *kube_transport_curl_new(const struct kube_client_config *config,
                                               const struct clock *clock, const struct stop *stop);

#endif
