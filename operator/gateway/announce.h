/* announce.h - the port where pods of functions say that they can serve, and that they go (PROTOCOLS.md).
 *
 * An announcement is verified (announce_check.h) and then given to the core. A pod that the cache does not have yet is
 * waited for.
 *
 * Threads: an http_server's; all functions from the owner's.
 */
#ifndef CICADA_GATEWAY_ANNOUNCE_H
#define CICADA_GATEWAY_ANNOUNCE_H

#include <stdbool.h>

#include "operator/gateway/announce_check.h"
#include "operator/gateway/gateway.h"
#include "operator/gateway/kube_catalog.h"
#include "runtime/base/metrics.h"

struct announce_settings {
    const char *listen;      /* "0.0.0.0:9091" */
    bool enabled;            /* false: every announcement is refused */
    struct gateway *gateway; /* all borrowed */
    struct kube_catalog *catalog;
    struct kube_node_ranges *ranges;
    struct kube_client *client;
    const char *const *namespaces;
    size_t namespace_count; /* 0: all */
    struct metrics *metrics;
};

struct announce;
int announce_start(const struct announce_settings *settings, struct announce **ret_announce,
                   struct err *err) MUST_CHECK;
int announce_port(const struct announce *announce);
void announce_stop(struct announce *announce); /* stops and frees; NULL is fine; ends the catalogue's waits */

#endif
