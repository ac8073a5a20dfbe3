/* kube_catalog.h - feeds the gateway's core from the Kubernetes API: Functions, their pods, their Deployments, the other gateways.
 *
 * Each kind is an informer (a thread of its own); while the API server is away the core keeps what it knows. The first time
 * that all of them are synced, gateway_catalog_synced() is called.
 *
 * Threads: all functions from any thread; new/start/join/free from the owner's.
 */
#ifndef CICADA_GATEWAY_KUBE_CATALOG_H
#define CICADA_GATEWAY_KUBE_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "operator/gateway/gateway.h"
#include "operator/gateway/kube_certificates.h"
#include "operator/gateway/kube_pod.h"
#include "operator/kube/kube_client.h"
#include "runtime/base/stop.h"

struct kube_catalog;

struct kube_catalog_settings {
    struct kube_client *client;             /* borrowed */
    struct gateway *gateway;                /* borrowed */
    const char *system_namespace;           /* where the gateways run */
    const char *identity;                   /* this gateway's pod; borrowed */
    const char *const *namespaces;          /* whose Functions are served; copied */
    size_t namespace_count;                 /* 0: all */
    struct kube_certificates *certificates; /* borrowed; told which Secrets Functions name. NULL: no TLS */
    /* Called on an informer's thread when a function's pod is given to a node, and when the API first shows its address (NULL: it has
     * none yet). Must not block. NULL: nobody asks. */
    void (*on_pod_node)(void *arg, const char *node, const struct in_addr *address);
    void *arg;
};

struct kube_catalog *kube_catalog_new(const struct kube_catalog_settings *settings);
void kube_catalog_start(struct kube_catalog *catalog,
                        const struct stop *stop); /* stop: also ends its threads */
void kube_catalog_join(struct kube_catalog *catalog);
void kube_catalog_free(struct kube_catalog *catalog); /* NULL is fine */

/* A pod of a function, with a reference for the caller, or NULL. */
struct kube_pod *kube_catalog_pod(struct kube_catalog *catalog, const char *namespace, const char *name);
/* Gives the core a pod as the API has it, once more. */
void kube_catalog_pod_again(struct kube_catalog *catalog, const struct kube_pod *pod);
/* To wait for a pod: read the count, look the pod up, wait for the count to differ (true), or for the deadline or the end (false). */
uint64_t kube_catalog_pod_changes(struct kube_catalog *catalog);
bool kube_catalog_pod_wait(struct kube_catalog *catalog, uint64_t seen, int64_t deadline_ms);
/* Ends all waits, now and from now on; for shutdown. */
void kube_catalog_pod_wait_end(struct kube_catalog *catalog);

#endif
