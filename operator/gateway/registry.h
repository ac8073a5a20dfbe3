/* registry.h - all functions and pods by name and uid, and the route table made of them.
 *
 * Every change that matters to routing moves `version`; a loop that sees another version than its own fetches the
 * table, and the first to do so after a change builds it: a thousand changes at start-up make one table.
 *
 * Threads: any. Lock order: registry, then one function's.
 */
#ifndef CICADA_GATEWAY_REGISTRY_H
#define CICADA_GATEWAY_REGISTRY_H

#include "operator/gateway/function_state.h"
#include "operator/gateway/route.h"

struct registry;

struct registry_ops {
    /* A function became known: gives it metrics and somebody who attends to it. No lock of a function is held. */
    void (*adopt)(void *arg, struct function_state *function);
    /* It is forgotten: takes over the last reference. */
    void (*abandon)(void *arg, struct function_state *function);
    struct upstream_pool *(*make_pools)(void *arg);
    /* Idle connections to the pod are to be closed. Borrowed. */
    void (*close_idle)(void *arg, struct pod *pod);
    void *arg;
};

struct registry *registry_new(const char *domain, const char *cluster_domain, const struct registry_ops *ops);
void registry_free(struct registry *registry); /* no loop runs any more */

void registry_set_function(struct registry *registry, struct function_spec *spec);
void registry_remove_function(struct registry *registry, const char *namespace, const char *name);
void registry_set_blocked(struct registry *registry, const char *namespace, const char *name,
                          const char *code);
void registry_set_template(struct registry *registry, const char *namespace, const char *name,
                           uint64_t template);
bool registry_wake_wanted(struct registry *registry, const char *namespace, const char *name);
void registry_function_woken(struct registry *registry, const char *namespace, const char *name);
void registry_set_pod(struct registry *registry, const struct gateway_pod *news);
void registry_remove_pod(struct registry *registry, const char *uid);
bool registry_pod_announced(struct registry *registry, const char *uid, const struct sockaddr_in *address);
/* *ret_pod: a reference, for closing its idle connections. *ret_in_flight: as function_pod_goodbye() says. */
bool registry_pod_goodbye(struct registry *registry, const char *uid, struct pod **ret_pod,
                          int *ret_in_flight);
void registry_set_gateways(struct registry *registry, int gateways, int place);
int registry_gateways(struct registry *registry);

/* A reference, and what is in flight and waiting at this moment; NULL: unknown. */
struct function_state *registry_function(struct registry *registry, const char *namespace, const char *name,
                                         int *ret_in_flight, int *ret_waiting);

uint64_t registry_version(const struct registry *registry);
/* A reference on the current table. */
struct route_table *registry_routes(struct registry *registry, uint64_t *ret_version);

/* Forgets functions without spec, pods and recent requests. */
void registry_sweep(struct registry *registry, int64_t idle_limit_us);
void registry_statz(struct registry *registry, int64_t now_us, int64_t idle_limit_us, struct strbuf *out);

#endif
