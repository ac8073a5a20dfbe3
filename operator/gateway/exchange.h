/* exchange.h - one request on its way: held, handed to a pod, answered.
 *
 *   held ──> connecting ──> awaiting ──> answering ──> over
 *     ^__________|______________|  └───> tunnel ─────> over      (a WebSocket was granted: bytes both ways)
 *      the pod can't be reached; a kept connection was stale
 *   any up to awaiting ──> rejecting ──> over
 *
 * exchange_set_state() alone moves an exchange and sets the state's deadline: hold time, time to connect, time to the first byte,
 * longest silence. Both bodies stream: whoever can't take more stops its source being read.
 *
 * Ownership: an exchange belongs to its client's connection; it holds its slot (waiter), its pod's connection, and references on
 * function and spec. When the client goes while a grant is under way, the exchange lives on alone until the grant arrives.
 * Threads: its loop's; only the waiter is touched by others.
 */
#ifndef CICADA_GATEWAY_EXCHANGE_H
#define CICADA_GATEWAY_EXCHANGE_H

#include "operator/gateway/client_conn.h"
#include "operator/gateway/h1_body.h"
#include "operator/gateway/upstream_conn.h"

enum exchange_state {
    EXCHANGE_NEW,
    EXCHANGE_HELD,
    EXCHANGE_CONNECTING,
    EXCHANGE_AWAITING,
    EXCHANGE_ANSWERING,
    EXCHANGE_TUNNEL,
    EXCHANGE_REJECTING, /* a problem of ours is going out */
    EXCHANGE_OVER,
};

/* One direction of a tunnel. */
enum tunnel_flow {
    TUNNEL_FLOWS,
    TUNNEL_ENDED, /* its source ended; the receiver has yet to get what came before */
    TUNNEL_PASSED /* the receiver was told, or takes no more */
};

struct exchange {
    struct worker *worker;
    struct client_conn *client;     /* NULL: gone, see above */
    struct upstream_conn *upstream; /* connecting and later */
    struct function_state *function;
    struct function_spec *spec;
    struct waiter waiter;
    struct loop_post settled;
    enum exchange_state state;
    struct h1_body upload, answer;
    struct h1_partial *answer_in; /* NULL: nothing is kept */
    char *request;                /* head and what came of the body at once, as the pod gets it */
    uint32_t request_len, request_head_len;
    struct h1_slice request_id; /* in request, once that is there */
    bool keep_alive, http10, head_only, upload_chunked, expect_continue;
    bool replayable;    /* method and body allow sending it twice */
    bool fresh_only;    /* a kept connection was stale: the next one is new */
    bool upload_broken; /* the pod takes no more of the body */
    bool answer_seen;   /* a byte came from the pod */
    bool answer_begun;  /* a byte went to the client */
    bool answer_chunked, close_after, pod_keeps;
    bool websocket;            /* asks for one */
    uint8_t interims;          /* interim answers skipped */
    enum tunnel_flow up, down; /* to the pod, to the client */
    int status;
    uint64_t upload_bytes;
    int64_t arrived_us, held_us, handed_us; /* held_us: the waker had been asked; 0: never held */
};

/* head is the worker's; data[0..len) is what came after it. Returns false if the request must wait for routes (nothing was
 * done). */
bool exchange_start(struct client_conn *client, const struct h1_head *head, char *data, size_t len);
/* The request's head was refused. */
void exchange_refuse_fault(struct client_conn *client, enum h1_fault fault);
void exchange_refuse_plain(struct client_conn *client); /* HTTP in clear where TLS is spoken */
void exchange_refuse_timeout(struct client_conn *client);
void exchange_refuse_unrouted(struct client_conn *client);

/* ---- from the client's connection ---- */
void exchange_client_readable(struct exchange *exchange);
void exchange_client_took(struct exchange *exchange, bool all); /* of what was kept for it */
void exchange_client_ended(struct exchange *exchange);          /* FIN seen */
void exchange_abort(struct exchange *exchange);                 /* the connection is closing */
void exchange_deadline(struct exchange *exchange);
void exchange_give_up(
    struct exchange *exchange); /* the gateway ends: if it is still in line, its client is told */

static inline bool exchange_is_tunnel(const struct exchange *exchange)
{
    return exchange->state == EXCHANGE_TUNNEL;
}

/* ---- from the pod's connection ---- */
void exchange_connected(struct exchange *exchange);
void exchange_connect_failed(struct exchange *exchange);
void exchange_upload_took(struct exchange *exchange, bool all);
void exchange_upload_broken(struct exchange *exchange);
void exchange_answer_readable(struct exchange *exchange);

#endif
