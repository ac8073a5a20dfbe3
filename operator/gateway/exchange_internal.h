/* exchange_internal.h - what the parts of an exchange share: exchange_start.c (from a head to a request that may be sent),
 * exchange.c (hold, hand over, end), exchange_stream.c (the answer and both bodies) and exchange_tunnel.c (WebSocket).
 */
#ifndef CICADA_GATEWAY_EXCHANGE_INTERNAL_H
#define CICADA_GATEWAY_EXCHANGE_INTERNAL_H

#include "operator/gateway/exchange.h"

struct exchange *exchange_new(struct client_conn *client);
/* The request is ready: asks for a slot. */
void exchange_begin(struct exchange *exchange);

void exchange_set_state(struct exchange *exchange, enum exchange_state state);
/* Something moved: the longest silence starts anew. */
void exchange_progress(struct exchange *exchange);

/* Answers with a problem of ours; nothing of an answer has been sent yet. The exchange is over afterwards. */
void exchange_reject(struct exchange *exchange, const struct gateway_problem *problem);
/* The answer can't be completed: the client must see that. The exchange is over afterwards. */
void exchange_cut(struct exchange *exchange);
/* The answer is complete. pod_clean: the connection to the pod may be used again. */
void exchange_complete(struct exchange *exchange, bool pod_clean);
/* The pod's connection broke or talks nonsense. may_retry: it may be that the request never reached the handler. */
void exchange_pod_failed(struct exchange *exchange, bool may_retry, const char *code);

/* ---- tunnels (exchange_tunnel.c) ---- */
/* head grants a WebSocket; data[0..len) came after it. */
void exchange_tunnel_begin(struct exchange *exchange, const struct h1_head *head, char *data, size_t len);
void exchange_tunnel_from_client(struct exchange *exchange);
void exchange_tunnel_from_pod(struct exchange *exchange);
/* A receiver took all that was kept for it. */
void exchange_tunnel_took(struct exchange *exchange);
void exchange_tunnel_pod_deaf(struct exchange *exchange); /* it takes no more */

/* "handler;dur=1.2", and the phases of a cold start or the time in line before it. Counts them, too. */
#define SERVER_TIMING_SIZE 160
void exchange_server_timing(struct exchange *exchange, char out[SERVER_TIMING_SIZE]);

#define CHUNK_LINE_SIZE 20
/* The line before a chunk; returns its length. */
size_t chunk_line(char out[CHUNK_LINE_SIZE], size_t len);

#endif
