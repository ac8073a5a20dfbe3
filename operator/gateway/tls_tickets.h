/* tls_tickets.h - the keys that session tickets are sealed with: of one process, shared by its loops, and gone after two hours.
 *
 * A key seals for an hour and opens for one more; then it is overwritten, by the first handshake that finds it over age. Whoever
 * takes the memory of a gateway can open no connection of TLS 1.2 that began earlier than that. Another process knows other keys:
 * what it sealed is shaken hands for anew.
 *
 * Threads: any.
 */
#ifndef CICADA_GATEWAY_TLS_TICKETS_H
#define CICADA_GATEWAY_TLS_TICKETS_H

#include "runtime/base/clock.h"

#define TLS_TICKETS_SEAL_MS 3600000

struct ssl_ctx_st;
struct tls_tickets;

struct tls_tickets *tls_tickets_new(const struct clock *clock);
void tls_tickets_free(struct tls_tickets *tickets); /* NULL is fine; no context uses it */
/* From now on the context's sessions seal and open with these. */
void tls_tickets_use(struct tls_tickets *tickets, struct ssl_ctx_st *context);

#endif
