/* function_state.h - one function as the gateway sees it: its pods, what is in flight, who waits, and the figures.
 *
 * A request asks for a slot (function_admit): it gets one at once, waits in line, or is refused. A gateway may use
 * ceil(concurrency / gateways) slots of each pod. If that does not come out even, slots are dealt: those that are its own are used up,
 * on all pods, before others, so that gateways meet in a pod only when it must be. Waiters are served first come, first served, as slots appear; each is told once
 * through waiter->settled, without any lock held, from whatever thread made the slot.
 * `attend` is called, without any lock held, when somebody has to look after the function: a request waits and no pod is
 * usable, or there is a pod to probe.
 *
 * Ownership: reference-counted; pods and waiting requests hold none of their own on it (the registry keeps it alive
 * while it has any), requests in flight do.
 * Threads: any, unless said otherwise. `mu` is a leaf lock, taken for a few dozen instructions.
 */
#ifndef CICADA_GATEWAY_FUNCTION_STATE_H
#define CICADA_GATEWAY_FUNCTION_STATE_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "operator/function/function_spec.h"
#include "operator/gateway/gateway.h"
#include "runtime/base/strbuf.h"

#define GATEWAY_CODE_SIZE      48 /* a failure code with its NUL; longer ones are cut */
#define GATEWAY_WAKE_PERIOD_MS 1000
#define PROBE_PERIOD_WAITED_MS 20   /* requests wait */
#define PROBE_PERIOD_NEW_MS    100  /* nobody waits, but the pod is new */
#define PROBE_PERIOD_IDLE_MS   1000 /* neither, or it is known to fail */

/* ---- pods ---- */

struct upstream_pool; /* upstream_conn.h: idle connections, one per loop */

struct pod {
    atomic_int refs;
    UT_hash_handle by_uid;           /* the registry's */
    struct function_state *function; /* borrowed: the registry keeps it as long as it lists the pod */
    char *uid;
    struct upstream_pool
        *pools;             /* [loops], made by upstream_pools_new(); each belongs to its loop's thread */
    atomic_int connections; /* open ones, of all loops */
    atomic_uint epoch;      /* moves when idle connections are to be closed: older ones are not kept */
    /* guarded by function->mu */
    struct sockaddr_in address;
    bool has_address;
    enum gateway_pod_state state;
    bool usable;          /* requests may go there; implies has_address, not leaving */
    bool leaving;         /* said goodbye */
    bool leaving_unready; /* ... and was seen not ready since: ready again means a new process */
    bool removed;
    char failure_code[GATEWAY_CODE_SIZE]; /* empty: none */
    char delay_code[GATEWAY_CODE_SIZE];   /* empty: none is known, or it was usable since */
    uint64_t template;                    /* 0: not known */
    int in_flight;
    int dealt;         /* slots that are this gateway's own; see function->deal_is_old */
    size_t index;      /* in function->pods */
    int64_t seen_ms;   /* first heard of */
    int64_t usable_us; /* when it last became usable; 0: never yet */
};

struct pod *pod_ref(struct pod *pod);
void pod_unref(struct pod *pod); /* NULL is fine */

/* ---- waiters ---- */

enum waiter_state { WAITER_NONE, WAITER_QUEUED, WAITER_GRANTED, WAITER_REFUSED };

struct waiter {
    TAILQ_ENTRY(waiter) link;
    enum waiter_state state;     /* guarded by mu while queued */
    bool counted;                /* has been counted as an arrival */
    bool cold;                   /* waited while no pod was usable */
    size_t bytes;                /* held in memory for it */
    struct pod *pod;             /* GRANTED: a reference */
    struct sockaddr_in address;  /* GRANTED: the pod's */
    int64_t woken_us, usable_us; /* GRANTED: the function's and the pod's */
    char *refused_code;          /* REFUSED (with status 503): the waiter's owner frees it */
    void (*settled)(struct waiter *waiter);
};
TAILQ_HEAD(waiter_queue, waiter);

struct function_metrics; /* gateway_metrics.h */

/* The gateways that share the pods, and which of them this one is. */
struct function_peers {
    int gateways, place; /* >= 1; 0 <= place < gateways */
};

struct function_state {
    atomic_int refs;
    UT_hash_handle by_key; /* the registry's; key "namespace/name" */
    char *key;
    char *namespace, *name;
    void (*attend)(void *arg);
    void *attend_arg;
    struct function_metrics *metrics; /* borrowed from whoever made the state; may be NULL */

    pthread_mutex_t mu;
    /* all below guarded by mu */
    struct function_spec *spec; /* NULL: only pods are known, or it was removed */
    struct function_peers peers;
    int share;                   /* slots per pod */
    bool deal_is_old;            /* pods or peers have changed: pod->dealt is made anew when it is used */
    atomic_int connection_bound; /* per pod; written with mu held */
    struct pod **pods;           /* the usable ones first */
    size_t pod_count, pod_alloc, usable_count;
    char blocked_code[GATEWAY_CODE_SIZE]; /* why there are no pods; empty: none */
    uint64_t template;                    /* of pods that are made from now on; 0: not known */
    struct waiter_queue waiters;
    int waiting, in_flight;
    size_t held_bytes;
    uint64_t random;
    int64_t asked_ms;  /* when the waker was last called; 0: never */
    int64_t woken_us;  /* when it last brought the function from zero to one; 0: never */
    bool wake_at_once; /* the last pod went */
    /* figures */
    int64_t changed_us; /* integrals are up to date until then */
    int64_t in_flight_us, waiting_us;
    uint64_t arrivals;
    int64_t active_us; /* last time a request began or ended; 0: never */
};

struct function_state *function_state_new(const char *namespace, const char *name);
struct function_state *function_state_ref(struct function_state *function);
void function_state_unref(struct function_state *function); /* NULL is fine */

/* ---- what the catalogue says ---- */

void function_set_spec(struct function_state *function, struct function_spec *spec,
                       struct function_peers peers); /* NULL: removed */
void function_set_peers(struct function_state *function, struct function_peers peers);
void function_set_blocked(struct function_state *function, const char *code);
void function_set_template(struct function_state *function, uint64_t template);
void function_woken(struct function_state *function, int64_t now_us);
/* Adds the pod to the function: takes over the reference. */
void function_add_pod(struct function_state *function, struct pod *pod);
/* pools: taken over. */
struct pod *pod_new(const char *uid, struct upstream_pool *pools, int64_t now_ms);
/* The outcome tells whether idle connections to it must be closed: its address changed, or nothing new goes there. */
bool function_update_pod(struct function_state *function, struct pod *pod, const struct gateway_pod *news);
void function_remove_pod(struct function_state *function,
                         struct pod *pod); /* drops the function's reference */
bool function_pod_announced(struct function_state *function, struct pod *pod,
                            const struct sockaddr_in *address);
/* How many requests are given to it, or about to be, and not answered: they only become fewer. */
int function_pod_goodbye(struct function_state *function, struct pod *pod);

/* ---- what the data path sees ---- */

/* A connection to that address succeeded. False: the pod is not what it was. */
bool function_pod_usable(struct function_state *function, struct pod *pod, const struct sockaddr_in *address);
void function_pod_unreachable(struct function_state *function, struct pod *pod);
/* *ret_period_ms: how much time there may be between two attempts: little while requests wait, some while it is new. */
bool function_pod_wants_probe(struct function_state *function, struct pod *pod,
                              struct sockaddr_in *ret_address, int64_t *ret_period_ms, int64_t now_ms);
/* References on up to max pods that want probing. */
size_t function_pods_to_probe(struct function_state *function, struct pod **ret_pods, size_t max);

enum admission { ADMIT_GRANTED, ADMIT_QUEUED, ADMIT_REFUSED };
/* front: it was in line before (its pod failed); limits do not apply. *ret_wake: call the waker now. */
enum admission function_admit(struct function_state *function, struct waiter *waiter, bool front,
                              bool *ret_wake);
/* True: it left the line. False: settled() was called or is about to be. */
bool function_leave(struct function_state *function, struct waiter *waiter);
/* What the pods that are to come wait for, while none is usable; empty: nothing is known. */
void function_delay(struct function_state *function, char ret_code[GATEWAY_CODE_SIZE]);
/* Gives the slot back and drops the reference on the pod. */
void function_release(struct function_state *function, struct waiter *waiter);
/* Whether the waker is due now; moves the time of the last call. *ret_again: somebody still waits for a first pod. */
bool function_wake_due(struct function_state *function, int64_t now_ms, bool *ret_again);
/* A wake that was due is still: somebody waits with no pod usable, or asked within the last second. */
bool function_wake_wanted(struct function_state *function, int64_t now_ms);

/* ---- figures ---- */
/* Appends a JSON object for /statz; nothing and false if it had no request within idle_limit_us. */
bool function_statz(struct function_state *function, int64_t now_us, int64_t idle_limit_us, bool comma,
                    struct strbuf *out);
bool function_is_forgettable(struct function_state *function, int64_t now_us, int64_t idle_limit_us);

#endif
