/* client_conn.h - a client's connection: reads heads, one request after another, and hands each to an exchange.
 *
 *   handshake ──> waiting                              on the TLS listener; failed: flushing, so that the alert is read
 *   waiting ──> head ──> exchange ──> waiting ...      between requests; a head is coming; a request is worked on
 *                 └──> unrouted ──> head               the catalogue is not complete: the request waits for a route
 *   any ──> flushing ──> lingering ──> closed          the last answer goes out; what still comes is dropped
 *
 * client_set_state() alone moves a connection; each state has one deadline. Pipelined requests wait in `in`.
 *
 * Threads: its loop's.
 */
#ifndef CICADA_GATEWAY_CLIENT_CONN_H
#define CICADA_GATEWAY_CLIENT_CONN_H

#include <netinet/in.h>

#include "operator/gateway/client_socket.h"
#include "operator/gateway/gateway_internal.h"
#include "operator/gateway/h1_partial.h"
#include "operator/gateway/heads.h"

struct exchange;

enum client_state {
    CLIENT_HANDSHAKE,
    CLIENT_WAITING,
    CLIENT_HEAD,
    CLIENT_UNROUTED,
    CLIENT_EXCHANGE,
    CLIENT_FLUSHING,
    CLIENT_LINGERING,
    CLIENT_CLOSED,
};

struct client_conn {
    struct client_socket socket;
    struct loop_timer timer;
    struct loop_post gone, resume;
    struct worker *worker;
    TAILQ_ENTRY(client_conn) link;
    struct in_addr peer;
    enum client_state state;
    uint8_t listener;
    bool served; /* it has had an answer */
    bool owing;  /* an answer is complete, but has not left yet */
    bool resume_pending;
    bool unread;           /* flushing: it may still be sending */
    uint32_t lingered;     /* bytes dropped */
    int64_t arrived_us;    /* of the current request's head */
    struct h1_partial *in; /* an incomplete head, or requests that came too early; NULL: nothing */
    struct exchange *exchange;
};

void client_conn_accepted(struct worker *worker, enum listener listener, int fd,
                          const struct sockaddr_in *peer);
void client_conn_close(struct client_conn *client);
/* Reads what has come on connections between two requests, and closes those on which nothing has and that had an answer before. */
void client_conn_leave(struct worker *worker);

/* ---- for the exchange ---- */
/* -1: the connection is broken. */
int client_conn_write(struct client_conn *client, struct iovec *iov, int count);
void client_conn_want_read(struct client_conn *client, bool want);
/* Bytes after the request's end: the next ones. */
void client_conn_keep(struct client_conn *client, const char *data, size_t len);
/* What client_conn_keep() kept; NULL: nothing. The caller frees it. */
struct h1_partial *client_conn_take_kept(struct client_conn *client);
/* Nothing more is written: the client sees the end, and may go on sending. */
void client_conn_end(struct client_conn *client);
/* The answer is out. keep: the next request may come; else unread: more of this request may come and is to be dropped. */
void client_conn_answered(struct client_conn *client, bool keep, bool unread);
void client_conn_deadline(struct client_conn *client, int64_t deadline_ms); /* while CLIENT_EXCHANGE */
/* What it asked for in its handshake; NULL: plain. Borrowed. */
const char *client_conn_tls_name(const struct client_conn *client);
const char *client_conn_address(const struct client_conn *client, char out[INET_ADDRSTRLEN]);

/* Routes changed or the catalogue is complete: requests that wait for a route are looked at again. */
void client_conn_retry_routes(struct worker *worker);

#endif
