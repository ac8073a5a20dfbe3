/* kube_transport.h - what carries requests to the API server: libcurl in programs, a script in tests.
 *
 * Nothing above it knows libcurl. Lists and watches come through stream(), everything else through request().
 *
 * Threads: both calls from any thread.
 */
#ifndef CICADA_KUBE_KUBE_TRANSPORT_H
#define CICADA_KUBE_KUBE_TRANSPORT_H

#include "runtime/http/http_client.h"

struct kube_transport;

struct kube_transport_ops {
    /* As http_client_request() and http_client_stream(), without the bearer token (the transport adds it). */
    int (*request)(struct kube_transport *self, const struct http_client_request *request,
                   struct http_client_response *ret, struct err *err);
    int (*stream)(struct kube_transport *self, const struct http_client_request *request,
                  http_client_bytes_fn *on_bytes, void *arg, struct http_client_response *ret,
                  struct err *err);
    void (*free)(struct kube_transport *self);
};

struct kube_transport {
    const struct kube_transport_ops *ops;
};

#endif
