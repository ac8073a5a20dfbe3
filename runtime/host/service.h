/* service.h - the function port: from a request on a connection to the handler's answer on it.
 *
 * Threads: service_handle() runs on the connections' threads, many at once; the figures may be read from any thread.
 */
#ifndef CICADA_HOST_SERVICE_H
#define CICADA_HOST_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/host/access_log.h"
#include "runtime/host/crash_board.h"
#include "runtime/host/invocation.h"
#include "runtime/host/request_metrics.h"
#include "runtime/host/spec.h"
#include "runtime/http/http_server.h"

struct service;

/* For the threads of the function port: what handlers may count on, and what is below them. */
#define SERVICE_STACK_BYTES ((8u << 20) + (128u << 10))

struct service_settings {
    const struct function_spec *spec; /* borrowed, as all below */
    int lanes;                        /* threads of the server whose requests it handles */
    struct invocation_target target;
    struct crash_board *board; /* NULL: none */
    int64_t stuck_grace_ms;    /* how late a handler may be before service_stuck() names it */
    struct request_metrics *metrics;
    struct access_log access_log;
};

struct service_figures {
    int in_flight; /* handlers at work, late ones too */
    int waiting;   /* for a place */
    int64_t served;
    int64_t busy_ms;
};

int service_new(const struct service_settings *settings, struct service **ret_service,
                struct err *err) MUST_CHECK;
void service_free(struct service *service); /* no request may be left on a connection; NULL is fine */

/* For struct http_server_settings; arg is the service. */
void service_handle(void *arg, struct http_request *http);

/* Brings the metrics up to date, too. */
void service_figures(struct service *service, struct service_figures *ret_figures);
/* True if a handler is later than its deadline and the grace; ret_request_id names its request. */
bool service_stuck(struct service *service, char ret_request_id[REQUEST_ID_MAX + 1]);

#endif
