#include "runtime/host/admin.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/host/termination.h"
#include "runtime/http/http_server.h"

#define HEADER_TIMEOUT_MS     10000
#define KEEP_ALIVE_TIMEOUT_MS 60000
/* An escape makes at most six bytes of one. */
#define STATZ_MAX_BYTES (512 + 6 * (CRASH_TEXT_SIZE + CONSUMER_PROBLEM_SIZE))

struct admin {
    struct admin_settings settings;
    int64_t started_ms;
    _Atomic(struct service *) service;
    _Atomic(struct event_service *) events;
    struct http_server *server;
};

static void respond(struct http_request *http, int status, const char *content_type,
                    const struct strbuf *body)
{
    const struct http_header headers[] = {{"Content-Type", content_type}, {"Allow", "GET, HEAD"}};
    struct err err = ERR_INIT;

    if (http_request_respond(http, status, headers, status == 405 ? 2 : 1, body->buf, body->len, &err) != 0)
        log_debug("admin: %s", err.msg);
}

static void answer_livez(struct admin *admin, struct http_request *http)
{
    CLEANUP_STRBUF struct strbuf body;

    (void)admin;
    strbuf_init(&body, 16);
    strbuf_append_str(&body, "ok\n");
    respond(http, 200, "text/plain", &body);
}

static void answer_readyz(struct admin *admin, struct http_request *http)
{
    CLEANUP_STRBUF struct strbuf body;
    struct lifecycle_view view;

    lifecycle_look(admin->settings.lifecycle, &view);
    strbuf_init(&body, TERMINATION_MAX_BYTES);
    if (view.phase == LIFECYCLE_SERVING) {
        strbuf_append_str(&body, "ok\n");
        respond(http, 200, "text/plain", &body);
        return;
    }
    termination_print(view.reason, view.message, &body);
    respond(http, 503, "application/json", &body);
}

static void answer_metrics(struct admin *admin, struct http_request *http)
{
    CLEANUP_STRBUF struct strbuf body;

    host_metrics_update(admin->settings.host_metrics);
    strbuf_init(&body, METRICS_TEXT_MAX_BYTES);
    if (metrics_render(admin->settings.metrics, &body) != 0)
        strbuf_clear(&body);
    respond(http, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static void answer_statz(struct admin *admin, struct http_request *http)
{
    CLEANUP_STRBUF struct strbuf body;
    const struct crash_board *board = admin->settings.board;
    struct service *service = atomic_load(&admin->service);
    struct event_service *event_service = atomic_load(&admin->events);
    struct service_figures figures = {0};
    struct consumer_figures events = {0};
    struct lifecycle_view view;

    if (service != NULL)
        service_figures(service, &figures);
    if (event_service != NULL)
        event_service_figures(event_service, &events, NULL);
    lifecycle_look(admin->settings.lifecycle, &view);
    strbuf_init(&body, STATZ_MAX_BYTES);
    strbuf_appendf(&body,
                   "{\"inFlight\":%d,\"waiting\":%d,\"served\":%" PRId64 ",\"busyMs\":%" PRId64
                   ",\"eventsInFlight\":%d,\"eventsInLine\":%d"
                   ",\"uptimeMs\":%" PRId64 ",\"ready\":%s,\"draining\":%s,\"restarts\":%d",
                   figures.in_flight, figures.waiting, figures.served, figures.busy_ms, events.at_work,
                   events.in_line, clock_monotonic_ms() - admin->started_ms,
                   view.phase == LIFECYCLE_SERVING ? "true" : "false",
                   view.phase == LIFECYCLE_DRAINING ? "true" : "false", board->restarts);
    if (board->last_crash[0] != '\0') {
        strbuf_append_str(&body, ",\"lastCrash\":");
        strbuf_append_json_string(&body, board->last_crash, strlen(board->last_crash));
    }
    if (events.problem[0] != '\0') {
        strbuf_append_str(&body, ",\"eventsProblem\":");
        strbuf_append_json_string(&body, events.problem, strlen(events.problem));
    }
    strbuf_append_str(&body, "}\n");
    respond(http, 200, "application/json", &body);
}

static void handle(void *arg, struct http_request *http)
{
    static const struct {
        const char *path;
        void (*answer)(struct admin *admin, struct http_request *http);
    } routes[] = {
        {"/livez", answer_livez},
        {"/readyz", answer_readyz},
        {"/metrics", answer_metrics},
        {"/statz", answer_statz},
    };
    CLEANUP_STRBUF struct strbuf nothing;
    const char *method = http_request_method(http);

    strbuf_init(&nothing, 16);
    for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
        if (strcmp(http_request_raw_path(http), routes[i].path) != 0)
            continue;
        if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
            respond(http, 405, "text/plain", &nothing);
        else
            routes[i].answer(arg, http);
        return;
    }
    respond(http, 404, "text/plain", &nothing);
}

int admin_start(const struct admin_settings *settings, struct admin **ret_admin, struct err *err)
{
    struct admin *admin = xcalloc(1, sizeof(*admin));
    struct http_server_settings server = {
        .listen = settings->listen,
        .threads = ADMIN_THREADS,
        .max_body_bytes = 0,
        .component = "runtime",
        .header_timeout_ms = HEADER_TIMEOUT_MS,
        .keep_alive_timeout_ms = KEEP_ALIVE_TIMEOUT_MS,
        .close_when_busy = true,
        .handler = handle,
        .handler_arg = admin,
    };

    admin->settings = *settings;
    admin->started_ms = clock_monotonic_ms();
    if (http_server_start(&server, &admin->server, err) != 0) {
        free(admin);
        return -1;
    }
    *ret_admin = admin;
    return 0;
}

void admin_set_service(struct admin *admin, struct service *service)
{
    atomic_store(&admin->service, service);
}

void admin_set_events(struct admin *admin, struct event_service *events)
{
    atomic_store(&admin->events, events);
}

void admin_stop(struct admin *admin)
{
    if (admin == NULL)
        return;
    http_server_stop(admin->server);
    free(admin);
}
