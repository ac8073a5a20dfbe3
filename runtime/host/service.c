#include "runtime/host/service.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/block_cache.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/host/admission.h"
#include "runtime/host/crash_watch.h"
#include "runtime/host/idempotency.h"
#include "runtime/host/output.h"
#include "runtime/host/path_template.h"
#include "runtime/host/watchdog.h"

#define RETRY_AFTER_S 1
/* With `concurrency` at work and as many and these waiting it is what all gateways together may send at once (operator/PROTOCOLS.md). */
#define PLACES_SPARE 4

/* What each request changes, by the thread that serves it (http_server.h). */
struct lane {
    alignas(HTTP_LANE_BYTES) struct trace_ids trace_ids;
    _Atomic int64_t busy_us;
    struct request_tally tally;
};

struct service {
    struct service_settings settings;
    char *object; /* "namespace/name", for the log */
    struct admission *admission;
    struct watchdog *watchdog;
    struct lane *lanes; /* settings.lanes */
    struct block_cache *invocations;
    pthread_mutex_t
        figures_mutex; /* of who collects them: what is on its way from a lane to the metrics is not missed */
    atomic_uint stored; /* answers with an Idempotency-Key */
};

static void answer_late(void *arg, struct invocation *invocation);

int service_new(const struct service_settings *settings, struct service **ret_service, struct err *err)
{
    struct service *service = xcalloc(1, sizeof(*service));
    int64_t timeout_ms = settings->spec->timeout_ms, idle_timeout_ms = settings->target.idle_timeout_ms;
    const struct watchdog_settings watchdog = {
        .timeout_ms = timeout_ms < idle_timeout_ms ? timeout_ms : idle_timeout_ms,
        .grace_ms = settings->stuck_grace_ms,
        .answer = answer_late,
        .answer_arg = service,
        .lanes = settings->lanes,
    };

    service->settings = *settings;
    if (watchdog_new(&watchdog, &service->watchdog, err) != 0) {
        free(service);
        return -1;
    }
    service->object = xasprintf("%s/%s", settings->target.namespace, settings->target.name);
    pthread_mutex_init(&service->figures_mutex, NULL);
    service->admission =
        admission_new(settings->spec->concurrency, settings->spec->concurrency + PLACES_SPARE);
    service->lanes = xcalloc_aligned((size_t)settings->lanes, sizeof(struct lane), alignof(struct lane));
    service->invocations = block_cache_new(sizeof(struct invocation));
    for (int i = 0; i < settings->lanes; i++)
        trace_ids_init(&service->lanes[i].trace_ids);
    request_metrics_expect(settings->metrics, settings->spec->success_status);
    *ret_service = service;
    return 0;
}

void service_free(struct service *service)
{
    if (service == NULL)
        return;
    watchdog_free(service->watchdog);
    admission_free(service->admission);
    pthread_mutex_destroy(&service->figures_mutex);
    block_cache_free(service->invocations);
    free(service->lanes);
    free(service->object);
    free(service);
}

/* An answer of the runtime's own, in place of the handler's. */
static void set_problem(struct invocation *invocation, int status, const char *code, const char *detail)
{
    struct problem problem = {.status = status, .code = code, .detail = detail, .component = "runtime"};

    response_set_problem(&invocation->response, &problem, status == 503 ? RETRY_AFTER_S : 0);
}

static int read_source(struct invocation *invocation, struct http_request *http,
                       struct request_source *source, struct err *err)
{
    source->method = http_request_method(http);
    source->raw_path = http_request_raw_path(http);
    source->query = http_request_query(http);
    source->headers = http_request_headers(http);
    source->header_count = http_request_header_count(http);
    return http_request_body(http, invocation->deadline_ms, &source->body, &source->body_len, err);
}

/* False: the response says what is wrong with the request. */
static bool read_request(struct service *service, struct invocation *invocation, struct http_request *http)
{
    struct cicada_request *request = &invocation->request;
    struct request_source source;
    struct err err;
    const char *template = service->settings.spec->path_template;
    bool matched = true;

    err_clear(&err);
    if (read_source(invocation, http, &source, &err) != 0) {
        if (err.code == ERR_TOO_LARGE)
            set_problem(invocation, 413, "body_too_large", err.msg);
        else if (err.code == ERR_TIMEOUT)
            set_problem(invocation, 408, "body_timeout", "the body did not arrive in time");
        else
            set_problem(invocation, 400, "bad_request", err.msg);
        http_request_close_after(http);
        return false;
    }
    if (request_init(request, &sdk_calls, &invocation->arena, &source, &err) != 0 ||
        (template != NULL && path_template_match(template, request->raw_path, &invocation->arena, &matched,
                                                 &request->parameters, &err) != 0)) {
        set_problem(invocation, 400, "bad_request", err.msg);
        return false;
    }
    if (!matched) {
        set_problem(invocation, 404, "unknown_path", "the path does not match the function's pathTemplate");
        return false;
    }
    if (!invocation->trace.continued) /* it tells of another trace */
        request_drop_header(request, "tracestate");
    return true;
}

/* Once there is a place, because an event may be a document of JSON (invocation.c). False: the response says what is wrong with it. */
static bool read_event(struct invocation *invocation)
{
    struct cicada_request *request = &invocation->request;
    enum cloud_event_mode mode = cloud_event_mode(request);
    struct err err;

    if (mode == CLOUD_EVENT_NONE)
        return true;
    err_clear(&err);
    if (mode == CLOUD_EVENT_UNSUPPORTED) {
        set_problem(
            invocation, 415, "unsupported_event_format",
            "an event is application/cloudevents+json, one at a time, or has its attributes in headers");
        return false;
    }
    if (cloud_event_read(request, mode, &invocation->arena, &invocation->event, &err) != 0) {
        set_problem(invocation, 400, "invalid_event", err.msg);
        return false;
    }
    return true;
}

/* False: the response says what is wrong with the event. */
static bool begin_output(struct invocation *invocation)
{
    struct err err;

    err_clear(&err);
    if (output_begin(invocation, &err) == 0)
        return true;
    set_problem(invocation, 400, "invalid_event", err.msg);
    return false;
}

static struct lane *lane_of(const struct service *service, const struct invocation *invocation)
{
    return &service->lanes[invocation->lane];
}

/* For a place. False: the response says why there is none. */
static bool wait_for_place(struct service *service, struct invocation *invocation)
{
    int64_t begin_us = clock_monotonic_us();
    enum admission_result result = admission_enter(service->admission, invocation->deadline_ms);

    invocation->waited_us = clock_monotonic_us() - begin_us;
    switch (result) {
    case ADMISSION_ENTERED:
        return true;
    case ADMISSION_FULL:
        set_problem(invocation, 503, "too_many_requests_waiting",
                    "all places for waiting requests are taken");
        return false;
    case ADMISSION_LATE:
    default:
        set_problem(invocation, 503, "no_capacity_in_time", "no place became free in time");
        return false;
    }
}

static bool admit(struct service *service, struct invocation *invocation)
{
    return admission_try_enter(service->admission) || wait_for_place(service, invocation);
}

/* False: the watchdog has answered. Who gets the answer finds the place free; one that is streamed is complete, or cut. */
static bool run(struct service *service, struct invocation *invocation)
{
    /* Without a body to read and a place to wait for, it has only just begun. */
    bool is_late = invocation->request.body_len > 0 || invocation->waited_us > 0;
    int64_t begin_us = is_late ? clock_monotonic_us() : invocation->start_us;
    bool answered;

    if (!read_event(invocation) || !begin_output(invocation) || !idempotency_read_key(invocation)) {
        admission_leave(service->admission);
        return true;
    }
    watchdog_add(service->watchdog, invocation);
    crash_watch_enter(service->settings.board, invocation->request_id);
    invocation_run(invocation);
    crash_watch_leave(service->settings.board);
    if (invocation->retries > 0)
        request_metrics_retried(service->settings.metrics, invocation->retries);
    answered = watchdog_remove(service->watchdog, invocation);
    atomic_fetch_add_explicit(&lane_of(service, invocation)->busy_us, clock_monotonic_us() - begin_us,
                              memory_order_relaxed);
    admission_leave(service->admission);
    return !answered || invocation->streamed;
}

/* After the answer was sent. */
static void record(struct service *service, int status, const struct invocation *invocation)
{
    int64_t took_us = clock_monotonic_us() - invocation->start_us;

    if (status == service->settings.target.success_status)
        request_tally_add(&lane_of(service, invocation)->tally, took_us);
    else
        request_metrics_answered(service->settings.metrics, status, took_us);
    if (access_log_wants(&service->settings.access_log, status, invocation->trace.span_id))
        access_log_write(invocation->http, status, took_us, invocation->waited_us);
}

static const struct problem *late_answer(struct invocation *invocation)
{
    static const struct problem late = {504, "deadline_exceeded", "the function did not answer in time",
                                        "runtime"};
    static const struct problem committed = {504, "deadline_exceeded_after_commit",
                                             "the function committed its changes, and did not answer in time",
                                             "runtime"};
    static const struct problem unknown = {500, "commit_unknown",
                                           "the end of the transaction was not confirmed in time", "runtime"};

    if (atomic_load(&invocation->state) != INVOCATION_GIVEN_UP)
        return &unknown;
    return atomic_load(&invocation->database.committed) ? &committed : &late;
}

/* A stream that was silent for too long; its own thread does the rest. */
static void cut(struct invocation *invocation)
{
    log_warn("cutting the answer: it was silent for too long");
    http_request_cut(invocation->http);
    database_cancel(&invocation->database);
    log_scope_clear();
}

/* On the watchdog's thread, while the handler still uses all of the invocation but `http`. */
static void answer_late(void *arg, struct invocation *invocation)
{
    struct service *service = arg;
    const struct problem *problem = late_answer(invocation);
    struct arena arena;
    struct cicada_response response;
    struct err err = ERR_INIT;

    invocation_set_log_scope(invocation, service->object);
    if (atomic_load(&invocation->state) == INVOCATION_CUT) {
        cut(invocation);
        return;
    }
    log_warn("answering %d: the handler did not return in time", problem->status);
    arena_init(&arena);
    response_init(&response, &sdk_calls, &arena, invocation->request_id, 200, PROBLEM_MAX_BYTES);
    response_set_problem(&response, problem, /* retry_after_s= */ 0);
    http_request_answer_from_elsewhere(invocation->http);
    if (response_send(&response, invocation->http, &err) != 0)
        log_debug("the answer did not reach the peer: %s", err.msg);
    record(service, problem->status, invocation);
    database_cancel(&invocation->database);
    response_release(&response);
    arena_release(&arena);
    log_scope_clear();
}

void service_handle(void *arg, struct http_request *http)
{
    struct service *service = arg;
    struct invocation *invocation = block_cache_take(service->invocations);
    struct err err;

    err_clear(&err);
    invocation_init(invocation, &service->settings.target, http, http_request_header(http, "X-Request-Id"),
                    clock_monotonic_us(), service->settings.spec->timeout_ms);
    invocation->lane = http_request_lane(http);
    invocation_trace(invocation, &lane_of(service, invocation)->trace_ids,
                     trace_context_parent(http_request_headers(http), http_request_header_count(http)));
    invocation_set_log_scope(invocation, service->object);
    if (!read_request(service, invocation, http) || !admit(service, invocation) || run(service, invocation)) {
        if (!invocation->streamed && response_send(&invocation->response, http, &err) != 0)
            log_debug("the answer did not reach the peer: %s", err.msg);
        record(service, invocation->response.status, invocation);
    }
    if (invocation->stored && atomic_fetch_add(&service->stored, 1) % IDEMPOTENCY_PURGE_EVERY == 0)
        idempotency_purge(service->settings.target.pool);
    invocation_release(invocation);
    block_cache_give(service->invocations, invocation);
    log_scope_clear();
}

void service_figures(struct service *service, struct service_figures *ret_figures)
{
    int64_t busy_us = 0;

    pthread_mutex_lock(&service->figures_mutex);
    for (int i = 0; i < service->settings.lanes; i++) {
        struct lane *lane = &service->lanes[i];
        busy_us += atomic_load_explicit(&lane->busy_us, memory_order_relaxed);
        request_metrics_collect(service->settings.metrics, &lane->tally,
                                service->settings.target.success_status);
    }
    ret_figures->served = request_metrics_served(service->settings.metrics);
    pthread_mutex_unlock(&service->figures_mutex);
    ret_figures->in_flight = admission_working(service->admission);
    ret_figures->waiting = admission_waiting(service->admission);
    ret_figures->busy_ms = busy_us / 1000;
}

bool service_stuck(struct service *service, char ret_request_id[REQUEST_ID_MAX + 1])
{
    return watchdog_stuck(service->watchdog, ret_request_id);
}
