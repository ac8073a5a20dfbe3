/* operator_admin.h - the operator's admin port: /livez, /readyz, /metrics; and the metrics of the program as a whole.
 *
 * Threads: the HTTP server's own.
 */
#ifndef CICADA_FUNCTION_OPERATOR_ADMIN_H
#define CICADA_FUNCTION_OPERATOR_ADMIN_H

#include "operator/controller/controller.h"
#include "operator/function/function_cache.h"
#include "operator/function/function_scaler.h"

/* Borrowed until operator_admin_stop(). */
struct operator_admin_sources {
    struct metrics *metrics;
    const struct kube_client *client;
    struct function_cache *cache;
    const struct function_scaler *scaler;
    const struct lease *lease;
};

struct operator_admin;
int operator_admin_start(const char *listen, const struct operator_admin_sources *sources,
                         struct operator_admin **ret_admin, struct err *err) MUST_CHECK;
int operator_admin_port(const struct operator_admin *admin);
void operator_admin_stop(struct operator_admin *admin); /* frees; NULL is fine */

#endif
