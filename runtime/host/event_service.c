#include "runtime/host/event_service.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/host/cloud_event.h"
#include "runtime/host/crash_watch.h"
#include "runtime/host/output.h"
#include "runtime/host/service.h"
#include "runtime/host/watchdog.h"

#define LEASE_MS                                                                                             \
    30000 /* extended by a third of it: what a pod that vanished had is run elsewhere after this time */
#define LEASE_MARGIN_MS    20000 /* beyond the time-out, of a lease that can't be extended */
#define HEADERS_MAX        64
#define HEADERS_JSON_DEPTH 2
#define ANSWER_MAX_BYTES   400 /* that are kept with an event that failed */

struct event_service {
    struct event_service_settings settings;
    char *object; /* "namespace/name", for the log */
    struct consumer_trigger triggers[SPEC_TRIGGERS_MAX];
    struct trace_ids trace_ids;
    struct watchdog *watchdog;
    struct consumer *consumer;
};

/* What an invocation of an event needs for as long as it lasts. */
struct run {
    struct invocation invocation;
    struct event_settlement settlement;
    struct cloud_event cloud_event;
    struct pg_setting settings[PG_TRANSACTION_SETTINGS_MAX];
    char request_id[REQUEST_ID_MAX + 1];
    char id[24], attempt[16], depth[16];
    struct field extensions[3];
};

/* ---- an event as a request ---- */

static void describe_event(struct run *run, const struct event *event)
{
    struct cloud_event *cloud = &run->cloud_event;

    snprintf(run->id, sizeof(run->id), "%" PRId64, event->lease.id);
    snprintf(run->attempt, sizeof(run->attempt), "%d", event->attempt);
    snprintf(run->depth, sizeof(run->depth), "%d", event->depth);
    run->extensions[0] = (struct field){"cicadaattempt", run->attempt};
    run->extensions[1] = (struct field){OUTPUT_DEPTH_ATTRIBUTE, run->depth};
    run->extensions[2] = (struct field){"traceparent", run->invocation.trace.traceparent};
    *cloud = (struct cloud_event){
        .id = run->id,
        .source = event->source,
        .type = event->type,
        .subject = event->subject,
        .time = event->time,
        .content_type = "application/json",
        .data = event->payload,
        .data_len = event->payload_len,
        .extensions = {run->extensions, ARRAY_SIZE(run->extensions)},
    };
    run->invocation.event = cloud;
}

/* The event's own headers, after the Content-Type. Returns how many. */
static size_t read_headers(struct arena *arena, const struct event *event, struct http_header *headers)
{
    struct json_doc *doc = NULL;
    struct err err = ERR_INIT;
    size_t count = 0;

    headers[count++] = (struct http_header){"Content-Type", "application/json"};
    if (event->headers == NULL)
        return count;
    if (json_reader_parse(event->headers, strlen(event->headers), HEADERS_JSON_DEPTH, &doc, &err) != 0) {
        log_warn("headers of the event: %s", err.msg); /* enqueue() has checked them */
        return count;
    }
    for (const struct json_node *node = json_node_first(json_doc_root(doc));
         node != NULL && count < HEADERS_MAX; node = json_node_next(node)) {
        size_t len;
        const char *name = json_node_name(node, &len), *value = json_node_string(node, NULL);
        if (name != NULL && value != NULL)
            headers[count++] =
                (struct http_header){arena_strndup(arena, name, len), arena_strdup(arena, value)};
    }
    json_doc_free(doc);
    return count;
}

static int make_request(struct run *run, const struct event *event, struct err *err)
{
    struct invocation *invocation = &run->invocation;
    struct http_header headers[HEADERS_MAX];
    const struct request_source source = {
        .method = "POST",
        .raw_path = "/",
        .headers = headers,
        .header_count = read_headers(&invocation->arena, event, headers),
        .body = event->payload,
        .body_len = event->payload_len,
    };

    return request_init(&invocation->request, &sdk_calls, &invocation->arena, &source, err);
}

/* What the handler's transaction passes on to events that it sends. */
static void set_transaction(struct run *run)
{
    run->settings[0] = (struct pg_setting){"cicada.depth", run->depth};
    run->settings[1] = (struct pg_setting){"cicada.traceparent", run->invocation.trace.traceparent};
    run->invocation.database.settings = run->settings;
    run->invocation.database.setting_count = 2;
}

static void begin(struct event_service *service, struct run *run, int worker, const struct event *event)
{
    const struct consumer_trigger *trigger = &service->triggers[event->trigger];
    struct invocation *invocation = &run->invocation;

    snprintf(run->request_id, sizeof(run->request_id), "%s-%" PRId64 "-%d",
             trigger->queue != NULL ? trigger->queue : trigger->name, event->lease.id, event->attempt);
    invocation_init(invocation, &service->settings.target, /* http= */ NULL, run->request_id,
                    clock_monotonic_us(), service->settings.spec->timeout_ms);
    invocation->lane = (unsigned)worker;
    invocation_trace(invocation, &service->trace_ids, event->traceparent);
    event_settlement_init(&run->settlement, &event->lease);
    invocation->settlement = &run->settlement;
    describe_event(run, event);
    set_transaction(run);
}

/* ---- how it ended ---- */

static int64_t retry_after_ms(const struct cicada_response *response)
{
    int64_t seconds;

    for (size_t i = 0; i < response->header_count; i++)
        if (http_name_is(response->headers[i].name, "Retry-After") &&
            parse_int64(response->headers[i].value, 0, OUTCOME_RETRY_AFTER_MAX_MS / 1000, &seconds))
            return seconds * 1000;
    return -1;
}

static void read_database_error(const struct pg_error *error, struct event_result *ret_result)
{
    bool unknown = error->failure == PG_FAILURE_COMMIT_UNKNOWN;

    ret_result->by_database = true;
    ret_result->lost = unknown || strcmp(error->sqlstate, EVENT_LOST_SQLSTATE) == 0;
    ret_result->unreachable = error->failure == PG_FAILURE_UNREACHABLE ||
                              error->failure == PG_FAILURE_AUTHENTICATION ||
                              error->failure == PG_FAILURE_LOST;
    snprintf(ret_result->sqlstate, sizeof(ret_result->sqlstate), "%s", error->sqlstate);
    snprintf(ret_result->error, sizeof(ret_result->error), "%s%s%s: %s", pg_error_code(error),
             error->sqlstate[0] ? " " : "", error->sqlstate, error->message);
}

/* As much of it as fits, if it is text. */
static void read_answer(const struct cicada_response *response, struct event_result *ret_result)
{
    size_t len;
    const char *body = response_bytes(response, &len);

    ret_result->status = response->status;
    ret_result->retry_after_ms = retry_after_ms(response);
    if (len > ANSWER_MAX_BYTES)
        len = utf8_cut_len(body, ANSWER_MAX_BYTES);
    if (!is_valid_utf8(body, len) || memchr(body, '\0', len) != NULL)
        len = 0;
    snprintf(ret_result->error, sizeof(ret_result->error), "%d: %.*s", response->status, (int)len,
             len > 0 ? body : "");
}

static void read_result(const struct invocation *invocation, struct event_result *ret_result)
{
    enum invocation_state state = atomic_load(&invocation->state);

    *ret_result = (struct event_result){.settled = invocation->settled, .retry_after_ms = -1};
    if (invocation->settled)
        return;
    if (invocation->by_database || invocation->database.commit_failed) {
        read_database_error(&invocation->database.error, ret_result);
    } else if (state == INVOCATION_UNCONFIRMED) {
        ret_result->lost = true;
    } else if (state == INVOCATION_GIVEN_UP) {
        ret_result->status = 504;
        snprintf(ret_result->error, sizeof(ret_result->error), "the function did not return in time");
    } else {
        read_answer(&invocation->response, ret_result);
    }
}

/* ---- on a worker ---- */

static void run_invocation(struct event_service *service, struct invocation *invocation)
{
    watchdog_add(service->watchdog, invocation);
    crash_watch_enter(service->settings.board, invocation->request_id);
    invocation_run(invocation);
    crash_watch_leave(service->settings.board);
    (void)watchdog_remove(service->watchdog, invocation);
}

static void run_event(void *arg, int worker, const struct event *event, struct event_result *ret_result)
{
    struct event_service *service = arg;
    struct run run;
    struct err err = ERR_INIT;

    begin(service, &run, worker, event);
    invocation_set_log_scope(&run.invocation, service->object);
    if (make_request(&run, event, &err) == 0) {
        run_invocation(service, &run.invocation);
        read_result(&run.invocation, ret_result);
    } else { /* can't be: the path has no query */
        *ret_result = (struct event_result){.status = 500, .retry_after_ms = -1};
        snprintf(ret_result->error, sizeof(ret_result->error), "%s", err.msg);
    }
    invocation_release(&run.invocation);
    log_scope_clear();
}

/* On the watchdog's thread: there is nobody to be answered. */
static void give_up(void *arg, struct invocation *invocation)
{
    const struct event_service *service = arg;

    invocation_set_log_scope(invocation, service->object);
    log_warn("the handler did not return in time");
    database_cancel(&invocation->database);
    log_scope_clear();
}

/* ---- start and end ---- */

static void list_triggers(struct event_service *service)
{
    const struct function_spec *spec = service->settings.spec;

    for (size_t i = 0; i < spec->trigger_count; i++) {
        const struct spec_trigger *from = &spec->triggers[i];
        service->triggers[i] = (struct consumer_trigger){
            .name = from->name,
            .queue = from->queue,
            .ordered = from->ordered,
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
        .stack_bytes = SERVICE_STACK_BYTES,
        .run = run_event,
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
    if (watchdog_new(&watchdog, &service->watchdog, err) != 0 || start_consumer(service, err) != 0) {
        release(service);
        return -1;
    }
    *ret_service = service;
    return 0;
}

void event_service_drain(struct event_service *service)
{
    if (service != NULL)
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
