/* gateway.h - the gateway's core: it knows functions and their pods, routes requests, holds them while nothing can serve,
 * hands them over, and says which function must be woken. It knows no Kubernetes: a catalogue feeds it through the calls
 * below (operator/gateway/kube_*.c in the cluster, processes in cicada-local), and it calls back through struct gateway_waker.
 *
 * Threads: loops run on threads of the core's own. Every function below may be called from any thread and does not block
 * on I/O. The waker's functions are called from loop threads and must not block: they post and return.
 */
#ifndef CICADA_GATEWAY_GATEWAY_H
#define CICADA_GATEWAY_GATEWAY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "operator/function/function_spec.h"
#include "runtime/base/err.h"
#include "runtime/base/metrics.h"
#include "runtime/base/strbuf.h"

struct gateway;

struct gateway_waker {
    /* A request waits and no pod is usable: bring the function from zero to one. Called at once for the first waiter, then once a
     * second while that lasts, and when the last pod went. Repeats are cheap and harmless. */
    void (*wake)(void *arg, const char *namespace, const char *name);
    void *arg;
};

struct gateway_settings {
    const char *public_listen;        /* "0.0.0.0:8080" */
    const char *internal_listen;      /* "0.0.0.0:8081"; NULL: none */
    const char *tls_listen;           /* "0.0.0.0:8443"; NULL: no TLS */
    const char *trusted_proxies;      /* whose X-Forwarded-* and Forwarded are believed; NULL: nobody's */
    int loops;                        /* 0: one per core (sched_getaffinity) */
    const char *domain;               /* "<name>.<namespace>.<domain>"; NULL: no such routes */
    const char *cluster_domain;       /* "cluster.local" */
    const char *identity;             /* pod name, for /statz */
    int64_t client_header_timeout_ms; /* 10000: whole request head */
    int64_t client_idle_timeout_ms;   /* 75000: between requests */
    int64_t upstream_idle_timeout_ms; /* 50000: shorter than the runtime's 60000 */
    int max_connections;              /* clients; 0: nine tenths of RLIMIT_NOFILE */
    struct metrics *metrics;          /* borrowed */
    struct gateway_waker waker;
};

int gateway_new(const struct gateway_settings *settings, struct gateway **ret_gateway,
                struct err *err) MUST_CHECK;
int gateway_start(struct gateway *gateway, struct err *err) MUST_CHECK; /* binds and starts the loops */
int gateway_public_port(const struct gateway *gateway);
int gateway_internal_port(const struct gateway *gateway);
int gateway_tls_port(const struct gateway *gateway);

/* ---- catalogue → core ---- */
/* Adds or replaces; takes a reference of its own. The held requests of a replaced function stay. */
void gateway_function_set(struct gateway *gateway, struct function_spec *spec);
/* Its held requests get 503 function_deleted... if it is gone for good. */
void gateway_function_remove(struct gateway *gateway, const char *namespace, const char *name);
/* While the catalogue has not yet been read in full, requests that match no route are held (bounded by time) instead of 404. */
void gateway_catalog_synced(struct gateway *gateway);

enum gateway_pod_state {
    GATEWAY_POD_PENDING, /* exists; probe its address if it has one; usable once a probe or an announcement says so */
    GATEWAY_POD_READY,       /* the platform calls it ready: usable */
    GATEWAY_POD_TERMINATING, /* nothing new goes there */
};
struct gateway_pod {
    const char *namespace, *function;
    const char *name, *uid;
    bool has_address;
    struct sockaddr_in address; /* function port */
    enum gateway_pod_state state;
    const char *
        failure_code; /* NULL, or why it can't start: "ImagePullBackOff", "CreateContainerConfigError", "ContainerExited", ... */
    const char *delay_code; /* NULL, or what it waits for before it can serve: "DatabaseUnreachable" */
    uint64_t template; /* the same for pods that were made alike: what stops one of them stops all; 0: not known */
};
void gateway_pod_set(struct gateway *gateway, const struct gateway_pod *pod); /* adds or replaces, by uid */
void gateway_pod_remove(struct gateway *gateway, const char *uid);
/* A verified announcement: usable at this address from now on. False: no such pod here (or terminating). */
bool gateway_pod_announced(struct gateway *gateway, const char *uid, const struct sockaddr_in *address);
/* Says goodbye: nothing new goes there, idle connections to it are closed before this returns (at most 200 ms). False: unknown, or requests
 * that were given to it are not answered yet, of which it may not have read a byte: to be asked again. */
bool gateway_pod_goodbye(struct gateway *gateway, const char *uid);
/* Why the Deployment makes no pods (ReplicaFailure: quota ...): waiters get 503 with this code at once while no pod is usable; NULL clears. */
void gateway_function_blocked(struct gateway *gateway, const char *namespace, const char *name,
                              const char *code);
/* The template that new pods of the function are made from, as in struct gateway_pod: failures of others don't count. 0: not known. */
void gateway_function_template(struct gateway *gateway, const char *namespace, const char *name,
                               uint64_t template);
/* Whether a wake that was asked for is still wanted, however long it lay in a queue: nobody may wait any more, and waking then would
 * bring back what was just put to sleep. */
bool gateway_function_wake_wanted(struct gateway *gateway, const char *namespace, const char *name);
/* The waker's call brought the function from zero to one, a moment ago: the phase `decide` of its held requests ends here. */
void gateway_function_woken(struct gateway *gateway, const char *namespace, const char *name);
/* How many gateways share the pods (>= 1): a share of a pod is ceil(concurrency / gateways). place: this one's number among them, from
 * 0, in an order that all agree on: it says whose the slots are that can't be shared evenly. */
void gateway_peers_set(struct gateway *gateway, int gateways, int place);
int gateway_peers(struct gateway *gateway); /* as last set */

/* The certificate of a Secret that Functions name in http.tlsSecretName: shown from the next handshake on. *ret_changed: it is another
 * than before. On failure (certificates_set()) the one before stays. */
int gateway_certificate_set(struct gateway *gateway, const char *namespace, const char *secret,
                            const char *chain_pem, const char *key_pem, bool *ret_changed,
                            struct err *err) MUST_CHECK;
void gateway_certificate_remove(struct gateway *gateway, const char *namespace, const char *secret);

/* ---- out ---- */
int gateway_statz(struct gateway *gateway, struct strbuf *out); /* operator/PROTOCOLS.md */
/* For people to look at: what one function has answered so far. */
struct gateway_function_figures {
    int64_t requests;
    double p50_ms, p99_ms; /* of all answers, held time included; NaN: none yet */
    double cold_ms;        /* the last cold start, arrival to the answer's head; 0: none yet */
    int in_flight, waiting;
};
bool gateway_function_figures(struct gateway *gateway, const char *namespace, const char *name,
                              struct gateway_function_figures *ret_figures); /* false: unknown */
bool gateway_ready(const struct gateway *gateway); /* started, catalogue synced, not draining */

/* SIGTERM: not ready, answers close their connections, keeps serving all that comes and all that it holds; quiet when nothing is
 * in flight or waiting, all answers have left, and no request came for quiet_ms. */
void gateway_drain(struct gateway *gateway);
bool gateway_quiet(const struct gateway *gateway, int64_t quiet_ms);
/* After that: accepts no more connections and closes those that had an answer and say nothing. What comes on the others is still
 * served. Left: all that came until then is answered, and every connection is closed, or patience_ms have passed for those on which no
 * request is complete. */
void gateway_leave(struct gateway *gateway);
bool gateway_left(const struct gateway *gateway, int64_t patience_ms);
void gateway_stop(struct gateway *gateway); /* closes everything, joins the loops */
void gateway_free(struct gateway *gateway);

#endif
