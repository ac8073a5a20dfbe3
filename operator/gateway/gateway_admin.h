/* gateway_admin.h - the gateway's admin port: /livez, /readyz, /metrics, /statz.
 *
 * Threads: an http_server's.
 */
#ifndef CICADA_GATEWAY_GATEWAY_ADMIN_H
#define CICADA_GATEWAY_GATEWAY_ADMIN_H

#include "operator/gateway/gateway.h"
#include "runtime/http/http_server.h"

struct gateway_admin;
/* gateway, metrics: borrowed until the stop. */
int gateway_admin_start(const char *listen, struct gateway *gateway, struct metrics *metrics,
                        struct gateway_admin **ret_admin, struct err *err) MUST_CHECK;
int gateway_admin_port(const struct gateway_admin *admin);
void gateway_admin_stop(struct gateway_admin *admin); /* stops and frees; NULL is fine */

#endif
