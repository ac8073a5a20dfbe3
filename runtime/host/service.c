#include "runtime/host/service.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/host/admission.h"
#include "runtime/host/path_template.h"

#define RETRY_AFTER_S 1

struct service {
    struct service_settings settings;
    char *object; /* "namespace/name", for the log */
    struct admission *admission;
    struct workers *workers;
    struct metric_family *requests;
    struct metric *duration;
    _Atomic int64_t served, busy_us;
    pthread_mutex_t mutex;
    struct invocation *running; /* guarded by mutex: handlers at work, newest first */
};

struct service *service_new(const struct service_settings *settings)
{
    static const char *const request_labels[] = {"code", NULL};
    struct service *service = xcalloc(1, sizeof(*service));
    struct metric_family *duration;

    service->settings = *settings;
    service->object = xasprintf("%s/%s", settings->target.namespace, settings->target.name);
    service->admission = admission_new(settings->spec->concurrency);
    service->workers = workers_new(settings->spec->concurrency, SERVICE_STACK_BYTES);
    pthread_mutex_init(&service->mutex, NULL);
    service->requests = metrics_counter(settings->metrics, "cicada_runtime_requests_total",
                                        "Requests answered on the function port, by status.", request_labels);
    duration = metrics_histogram(settings->metrics, "cicada_runtime_request_duration_seconds",
                                 "From the request's headers to the answer, waiting included.", NULL,
                                 metrics_latency_bounds, metrics_latency_bound_count);
    service->duration = metric_family_get(duration, NULL);
    return service;
}

bool service_free(struct service *service, int64_t deadline_ms)
{
    if (service == NULL)
        return true;
    if (!workers_stop(service->workers, deadline_ms))
        return false;
    workers_free(service->workers);
    admission_free(service->admission);
    pthread_mutex_destroy(&service->mutex);
    free(service->object);
    free(service);
    return true;
}

static void running_add(struct service *service, struct invocation *invocation)
{
    pthread_mutex_lock(&service->mutex);
    invocation->previous = NULL;
    invocation->next = service->running;
    if (service->running != NULL)
        service->running->previous = invocation;
    service->running = invocation;
    pthread_mutex_unlock(&service->mutex);
}

static void running_remove(struct service *service, struct invocation *invocation)
{
    pthread_mutex_lock(&service->mutex);
    if (invocation->previous != NULL)
        invocation->previous->next = invocation->next;
    else
        service->running = invocation->next;
    if (invocation->next != NULL)
        invocation->next->previous = invocation->previous;
    pthread_mutex_unlock(&service->mutex);
}

/* On a worker's thread. */
static void run_work(struct work *work)
{
    struct invocation *invocation = container_of(work, struct invocation, work);
    struct service *service = invocation->owner;
    int64_t start_us = clock_monotonic_us();

    log_scope_set(service->object, invocation->request_id);
    invocation_run(invocation);
    log_scope_clear();
    atomic_fetch_add(&service->busy_us, clock_monotonic_us() - start_us);
    running_remove(service, invocation);
    admission_leave(service->admission);
    invocation_finish(invocation);
    invocation_unref(invocation);
}

/* An answer of the runtime's own, in place of the handler's. Only while the worker does not own the response. */
static void set_problem(struct invocation *invocation, int status, const char *code, const char *detail)
{
    struct problem problem = {.status = status, .code = code, .detail = detail, .component = "runtime"};

    response_set_problem(&invocation->response, &problem, status == 503 ? RETRY_AFTER_S : 0);
}

/* Sends an answer while the invocation's own response is out of reach (its handler is late). */
static int send_late(struct invocation *invocation, struct http_request *http, enum invocation_state state,
                     struct err *err)
{
    struct arena arena;
    struct cicada_response response;
    struct problem late = {504, "deadline_exceeded", "the function did not answer in time", "runtime"};
    struct problem unknown = {500, "commit_unknown", "the end of the transaction was not confirmed in time",
                              "runtime"};
    int rc;

    arena_init(&arena);
    response_init(&response, &sdk_calls, &arena, invocation->request_id, 200, PROBLEM_MAX_BYTES);
    response_set_problem(&response, state == INVOCATION_GIVEN_UP ? &late : &unknown, /* retry_after_s= */ 0);
    rc = response_send(&response, http, err);
    response_release(&response);
    arena_release(&arena);
    return rc;
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
    struct err err = ERR_INIT;
    const char *template = service->settings.spec->path_template;
    const char *traceparent;
    bool matched = true;

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
    traceparent = request_header(request, "traceparent");
    invocation->context.traceparent = traceparent ? traceparent : "";
    return true;
}

/* Hands it to a worker. False: the response says why not. */
static bool submit(struct service *service, struct invocation *invocation)
{
    struct err err = ERR_INIT;

    switch (admission_enter(service->admission, invocation->deadline_ms)) {
    case ADMISSION_ENTERED:
        break;
    case ADMISSION_FULL:
        set_problem(invocation, 503, "too_many_requests_waiting",
                    "all places for waiting requests are taken");
        return false;
    case ADMISSION_LATE:
        set_problem(invocation, 503, "no_capacity_in_time", "no place became free in time");
        return false;
    }
    invocation->owner = service;
    invocation->work.run = run_work;
    invocation_ref(invocation); /* the worker's */
    running_add(service, invocation);
    if (workers_submit(service->workers, &invocation->work, &err) == 0)
        return true;
    log_error("request refused: %s", err.msg);
    running_remove(service, invocation);
    invocation_unref(invocation);
    admission_leave(service->admission);
    set_problem(invocation, 503, "no_thread", "no thread could be started");
    return false;
}

static void count_answer(struct service *service, int status, int64_t start_us)
{
    char code[8];
    const char *const labels[] = {code};

    snprintf(code, sizeof(code), "%d", status);
    metric_add(metric_family_get(service->requests, labels), 1);
    metric_observe(service->duration, (double)(clock_monotonic_us() - start_us) / 1e6);
    atomic_fetch_add(&service->served, 1);
}

void service_handle(void *arg, struct http_request *http)
{
    struct service *service = arg;
    int64_t start_us = clock_monotonic_us();
    int64_t deadline_ms = start_us / 1000 + service->settings.spec->timeout_ms;
    struct invocation *invocation =
        invocation_new(&service->settings.target, http_request_header(http, "X-Request-Id"), deadline_ms);
    enum invocation_state state = INVOCATION_DONE;
    struct err err = ERR_INIT;
    int status, rc;

    log_scope_set(service->object, invocation->request_id);
    if (read_request(service, invocation, http) && submit(service, invocation))
        state = invocation_wait(invocation, service->settings.stuck_grace_ms);
    if (state == INVOCATION_DONE) {
        status = invocation->response.status;
        rc = response_send(&invocation->response, http, &err);
    } else {
        status = state == INVOCATION_GIVEN_UP ? 504 : 500;
        rc = send_late(invocation, http, state, &err);
        log_warn("answered %d: the handler did not return in time", status);
        database_cancel(&invocation->database);
    }
    if (rc != 0)
        log_debug("the answer did not reach the peer: %s", err.msg);
    count_answer(service, status, start_us);
    invocation_unref(invocation);
    log_scope_clear();
}

void service_figures(struct service *service, struct service_figures *ret_figures)
{
    ret_figures->in_flight = admission_working(service->admission);
    ret_figures->waiting = admission_waiting(service->admission);
    ret_figures->served = atomic_load(&service->served);
    ret_figures->busy_ms = atomic_load(&service->busy_us) / 1000;
}

bool service_stuck(struct service *service, char ret_request_id[REQUEST_ID_MAX + 1])
{
    int64_t limit_ms = clock_monotonic_ms() - service->settings.stuck_grace_ms;
    bool stuck = false;

    pthread_mutex_lock(&service->mutex);
    for (struct invocation *at = service->running; at != NULL && !stuck; at = at->next) {
        stuck = at->deadline_ms <= limit_ms;
        if (stuck)
            snprintf(ret_request_id, REQUEST_ID_MAX + 1, "%s", at->request_id);
    }
    pthread_mutex_unlock(&service->mutex);
    return stuck;
}
