#include "runtime/host/event_service.h"

#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/host/event_service_internal.h"
#include "runtime/host/service.h"
#include "runtime/host/watchdog.h"

#define LEASE_MS                                                                                             \
    30000 /* extended by a third of it: what a pod that vanished had is run elsewhere after this time */
#define LEASE_MARGIN_MS 20000 /* beyond the time-out, of a lease that can't be extended */

/* On the watchdog's thread: there is nobody to be answered. */
static void give_up(void *arg, struct invocation *invocation)
{
    const struct event_service *service = arg;

    invocation_set_log_scope(invocation, service->object);
    log_warn("the handler did not return in time");
    database_cancel(&invocation->database);
    log_scope_clear();
}

static void list_triggers(struct event_service *service)
{
    const struct function_spec *spec = service->settings.spec;
    const struct invocation_target *target = &service->settings.target;
    bool batches = target->ops->takes_batches == NULL || target->ops->takes_batches(target->invoker);

    for (size_t i = 0; i < spec->trigger_count; i++) {
        const struct spec_trigger *from = &spec->triggers[i];
        service->triggers[i] = (struct consumer_trigger){
            .name = from->name,
            .queue = from->queue,
            .ordered = from->ordered,
            .batch_size = batches ? from->batch_size : 1,
            .delivery = {from->max_attempts, from->backoff_ms, from->max_backoff_ms},
        };
    }
}

static int start_consumer(struct event_service *service, struct err *err)
{
    const struct function_spec *spec = service->settings.spec;
    bool fixed = spec->isolation != PG_READ_COMMITTED; /* a lease that is extended fails their settlement */
    const struct consumer_settings settings = {
        .pool = service->settings.target.pool,
        .namespace = service->settings.target.namespace,
        .function = service->settings.target.name,
        .triggers = service->triggers,
        .trigger_count = spec->trigger_count,
        .concurrency = spec->event_concurrency,
        .lease_ms = fixed ? spec->timeout_ms + LEASE_MARGIN_MS : LEASE_MS,
        .lease_fixed = fixed,
        .group_most = fixed ? 1 : EVENT_GROUP_MAX, /* of one snapshot, the later ones would conflict */
        .stack_bytes = SERVICE_STACK_BYTES,
        .run = event_run,
        .run_arg = service,
    };

    list_triggers(service);
    return consumer_start(&settings, &service->consumer, err);
}

static void release(struct event_service *service)
{
    consumer_free(service->consumer);
    watchdog_free(service->watchdog);
    free(service->object);
    free(service);
}

int event_service_start(const struct event_service_settings *settings, struct event_service **ret_service,
                        struct err *err)
{
    struct event_service *service = xcalloc(1, sizeof(*service));
    const struct watchdog_settings watchdog = {
        .timeout_ms = settings->spec->timeout_ms,
        .grace_ms = settings->stuck_grace_ms,
        .answer = give_up,
        .answer_arg = service,
        .lanes = settings->spec->event_concurrency,
    };

    service->settings = *settings;
    service->object = xasprintf("%s/%s", settings->target.namespace, settings->target.name);
    trace_ids_init(&service->trace_ids);
    atomic_init(&service->draining, false);
    atomic_init(&service->group_most, EVENT_GROUP_MAX);
    if (watchdog_new(&watchdog, &service->watchdog, err) != 0 || start_consumer(service, err) != 0) {
        release(service);
        return -1;
    }
    *ret_service = service;
    return 0;
}

void event_service_drain(struct event_service *service)
{
    if (service == NULL)
        return;
    atomic_store(&service->draining, true);
    consumer_drain(service->consumer);
}

bool event_service_is_drained(struct event_service *service)
{
    return service == NULL || consumer_is_drained(service->consumer);
}

bool event_service_stop(struct event_service *service, int64_t deadline_ms)
{
    if (service == NULL)
        return true;
    if (!consumer_stop(service->consumer, deadline_ms))
        return false;
    release(service);
    return true;
}

bool event_service_stuck(struct event_service *service, char ret_request_id[REQUEST_ID_MAX + 1])
{
    return service != NULL && watchdog_stuck(service->watchdog, ret_request_id);
}

void event_service_figures(struct event_service *service, struct consumer_figures *ret_figures,
                           struct consumer_counts *ret_counts)
{
    consumer_figures(service->consumer, ret_figures);
    if (ret_counts != NULL)
        consumer_counts(service->consumer, ret_counts);
}
