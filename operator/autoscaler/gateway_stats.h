/* gateway_stats.h - reads /statz of every gateway and adds up what they say about a Function.
 *
 * A gateway that can't be read makes the figures incomplete: nobody is put to sleep on them. One that is neither ready nor
 * readable for GATEWAY_STATS_LOST_MS is taken for gone (its node died; its pod object may stay for ever).
 *
 * Threads: none of its own; one owner.
 */
#ifndef CICADA_AUTOSCALER_GATEWAY_STATS_H
#define CICADA_AUTOSCALER_GATEWAY_STATS_H

#include "operator/autoscaler/autoscaler.h"
#include "runtime/base/stop.h"

#define GATEWAY_STATS_LOST_MS 120000

/* A gateway pod that exists, terminating ones included. */
struct gateway_address {
    const char *uid, *ip;
    bool ready;
};

struct gateway_stats;
struct gateway_stats *gateway_stats_new(int port, const struct stop *stop);
void gateway_stats_free(struct gateway_stats *stats); /* NULL is fine */
/* Reads all of them, one after the other, over kept connections. Returns how many could not be read. */
size_t gateway_stats_poll(struct gateway_stats *stats, const struct gateway_address *gateways, size_t count);
/* As of the last poll. */
struct autoscaler_load gateway_stats_load(const struct gateway_stats *stats, const char *namespace,
                                          const char *name);

#endif
