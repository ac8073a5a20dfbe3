/* heads.h - the heads that the gateway writes: requests to pods, answers to clients, problems of its own.
 *
 * Threads: none of its own. Writing appends to a strbuf; the caller tests strbuf_failed() once.
 */
#ifndef CICADA_GATEWAY_HEADS_H
#define CICADA_GATEWAY_HEADS_H

#include <stdbool.h>
#include <stdint.h>

#include "operator/gateway/h1_head.h"
#include "operator/gateway/route.h"
#include "runtime/base/strbuf.h"

#define REQUEST_ID_BYTES_MAX 128
#define TRACEPARENT_BYTES    55

struct request_facts {
    const char *client_address; /* for X-Forwarded-For */
    const char *proto;          /* "http" or "https" */
    bool from_proxy;            /* what the client says of whom it stands for is believed, and passed on */
    struct h1_slice request_id;
    struct h1_slice traceparent;
    bool keep_tracestate; /* the trace is the client's own */
    bool websocket;       /* asks for one */
};

/* The client's id if it is well-formed, else an empty slice. The same for traceparent (W3C, version 00 and later). */
struct h1_slice head_request_id(const struct h1_head *head);
struct h1_slice head_traceparent(const struct h1_head *head);

/* The request as a pod gets it. Returns where in `out` the request id stands. */
size_t request_write(struct strbuf *out, const struct h1_head *head, const struct route_match *match,
                     const struct request_facts *facts);

struct answer_facts {
    bool close; /* this is the connection's last answer */
    bool client_http10;
    bool chunked;   /* sent chunked to the client */
    bool websocket; /* grants one: a 101 */
    struct h1_slice request_id;
    const char *server_timing;
    const char *date; /* used if the pod sent none */
};
/* head: the pod's, with framing decided. */
void answer_write(struct strbuf *out, const struct h1_head *head, const struct answer_facts *facts);

struct gateway_problem {
    int status;
    const char *code;        /* stable: people branch on it */
    const char *detail;      /* a sentence; NULL: none */
    int retry_after_seconds; /* 0: none */
    const char *allow;       /* for 405; NULL: none */
    bool websocket_version;  /* for 426: names the one that is understood */
};
/* An answer of the gateway's own, body included unless head_only. */
void gateway_problem_write(struct strbuf *out, const struct gateway_problem *problem, bool head_only,
                           const struct answer_facts *facts);

#endif
