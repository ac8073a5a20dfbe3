/* event_service_internal.h - what the service's files share: its start and end (event_service.c), and runs of events (event_run.c). */
#ifndef CICADA_HOST_EVENT_SERVICE_INTERNAL_H
#define CICADA_HOST_EVENT_SERVICE_INTERNAL_H

#include <stdatomic.h>

#include "runtime/host/event_service.h"

struct event_service {
    struct event_service_settings settings;
    char *object; /* "namespace/name", for the log */
    struct consumer_trigger triggers[SPEC_TRIGGERS_MAX];
    struct trace_ids trace_ids;
    struct watchdog *watchdog;
    struct consumer *consumer;
    atomic_bool draining;
    atomic_int group_most; /* events of one transaction, as conflicts allow */
};

#define EVENT_GROUP_MAX 32 /* each has a subtransaction, of which the server keeps 64 at hand */

/* consumer_settings.run; arg: the service. */
void event_run(void *arg, int worker, struct event_job *const *jobs, size_t count);

#endif
