/* gateway_internal.h - what the parts of the data path share: the gateway, and one worker per loop.
 *
 * Ownership: the gateway owns all; it is freed when every loop has ended.
 * Threads: a worker's fields belong to its loop's thread unless marked atomic.
 */
#ifndef CICADA_GATEWAY_GATEWAY_INTERNAL_H
#define CICADA_GATEWAY_GATEWAY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "operator/gateway/address_range.h"
#include "operator/gateway/certificates.h"
#include "operator/gateway/gateway.h"
#include "operator/gateway/gateway_metrics.h"
#include "operator/gateway/h1_head.h"
#include "operator/gateway/loop.h"
#include "operator/gateway/registry.h"
#include "operator/gateway/route.h"
#include "operator/gateway/tls.h"
#include "operator/gateway/tls_tickets.h"

#define GATEWAY_STRINGS      6
#define WORKER_SCRATCH_BYTES (64 * 1024) /* one reading */
#define WORKER_BUILD_BYTES   (256 * 1024)
#define REQUEST_ID_HEX       32
#define DATE_SIZE            32
#define STATZ_IDLE_LIMIT_US  INT64_C(3600000000) /* a function not listed was idle for at least that */

enum listener { LISTENER_PUBLIC, LISTENER_INTERNAL, LISTENER_TLS, LISTENERS };

struct client_conn;
struct upstream_conn;
TAILQ_HEAD(client_list, client_conn);
LIST_HEAD(upstream_list, upstream_conn);

struct acceptor {
    struct loop_watch watch;
    struct worker *worker;
    enum listener listener;
};

struct worker {
    struct gateway *gateway;
    int index;
    struct loop *loop;
    pthread_t thread;
    bool started;
    struct acceptor acceptors[LISTENERS];
    struct loop_timer tick, accept_pause;
    unsigned ticks;
    struct loop_post routes_changed, drain_begun, leave_begun;
    atomic_bool routes_changed_pending;
    atomic_bool left; /* accepts no more, and every request that had come by then is counted in exchanges */
    struct client_list clients, route_waiters; /* every client is in one of them */
    int route_waiter_count;
    struct upstream_list upstreams;
    struct tls_context *tls; /* NULL: no TLS listener */
    struct loop_post handshakes_over;
    int handshakes; /* steps of handshakes in this turn */
    struct route_table *routes;
    uint64_t routes_version;
    uint64_t random[2];
    char date[DATE_SIZE];
    int64_t date_ms;
    char *scratch; /* [WORKER_SCRATCH_BYTES] */
    struct strbuf build;
    struct h1_head head;
    atomic_int
        exchanges; /* requests being worked on; those that wait for routes, and answers still to be sent, included */
    atomic_llong last_request_ms;
    atomic_int route_waiting; /* route_waiter_count, for other threads */
};

struct gateway {
    struct gateway_settings settings; /* its strings are those in `owned` */
    char *owned[GATEWAY_STRINGS];
    struct registry *registry;
    struct certificates *certificates;
    struct tls_tickets
        *tickets; /* one for all loops: whichever a client meets when it comes back knows its ticket */
    struct address_range trusted_proxies[ADDRESS_RANGES_MAX];
    size_t trusted_proxy_count;
    struct gateway_metrics metrics;
    struct function_metrics *unrouted; /* requests of no function */
    struct worker *workers;
    int loops;
    int64_t started_us, leaving_ms; /* leaving_ms: its caller's */
    int ports[LISTENERS];
    atomic_int clients;
    atomic_bool running, synced, draining, leaving;
};

int worker_init(struct worker *worker, struct gateway *gateway, int index, struct err *err) MUST_CHECK;
int worker_listen(struct worker *worker, enum listener listener, const struct sockaddr_in *address,
                  struct err *err) MUST_CHECK;
int worker_start(struct worker *worker, struct err *err) MUST_CHECK;
void worker_stop(struct worker *worker); /* joins */
/* When no loop runs any more: closes every connection. What that leads to runs in the loops' next turns. */
void worker_close_all(struct worker *worker);
void worker_release(struct worker *worker);

/* The TLS context; find the certificate for a name as the routes of this moment say. */
int worker_start_tls(struct worker *worker, struct err *err) MUST_CHECK;
/* Signing takes a millisecond with some keys: a turn has room for so many, and the rest come up in the next. */
bool worker_may_shake_hands(struct worker *worker);

/* The routes of this moment; borrowed until the next call. */
const struct route_table *worker_routes(struct worker *worker);
void worker_random_hex(struct worker *worker, char *out, size_t digits); /* no NUL */
const char *worker_date(struct worker *worker);
void worker_wake(struct worker *worker, struct function_state *function);

#endif
