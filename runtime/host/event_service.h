/* event_service.h - the events of a function's queues: each becomes an invocation, whose transaction settles it.
 *
 * A handler sees an event as a POST of its payload, with the event's headers and the attributes of CloudEvents 1.0. Nobody gets its answer: the
 * status decides what becomes of the event (runtime/events/outcome.h).
 *
 * Threads: a consumer's (runtime/events/consumer.h), and a watchdog of its own. The functions below on the runtime's.
 */
#ifndef CICADA_HOST_EVENT_SERVICE_H
#define CICADA_HOST_EVENT_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/events/consumer.h"
#include "runtime/host/crash_board.h"
#include "runtime/host/invocation.h"
#include "runtime/host/spec.h"

struct event_service;

struct event_service_settings {
    const struct function_spec *spec; /* borrowed; it has triggers */
    struct invocation_target target;  /* with a pool, which was started */
    struct crash_board *board;
    int64_t stuck_grace_ms;
};

int event_service_start(const struct event_service_settings *settings, struct event_service **ret_service,
                        struct err *err) MUST_CHECK;
/* Takes no more events. NULL is fine, also below. */
void event_service_drain(struct event_service *service);
bool event_service_is_drained(struct event_service *service);
/* False: a handler is still at work at the deadline, and nothing was freed. */
bool event_service_stop(struct event_service *service, int64_t deadline_ms) MUST_CHECK;

/* True if a handler is later than its deadline and the grace; ret_request_id names its request. */
bool event_service_stuck(struct event_service *service, char ret_request_id[REQUEST_ID_MAX + 1]);

/* ret_counts (or NULL): of all triggers. */
void event_service_figures(struct event_service *service, struct consumer_figures *ret_figures,
                           struct consumer_counts *ret_counts);

#endif
