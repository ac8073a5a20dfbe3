#include "runtime/http/http_server.h"

#include <arpa/inet.h>
#include <civetweb.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/http/http_guard.h"
#include "runtime/http/http_server_internal.h"

/* CivetWeb's own limits stay behind ours. */
#define LIMIT_SLACK_MS 1000

/* ---- CivetWeb's callbacks ---- */

static struct http_server *server_of(const struct mg_connection *connection)
{
    return mg_get_user_data(mg_get_context(connection));
}

static int on_begin_request(struct mg_connection *connection)
{
    struct http_server *server = server_of(connection);
    struct http_lane *lane = mg_get_thread_pointer(connection);
    http_guard_end();
    atomic_fetch_add(&lane->in_flight, 1);
    http_request_serve(server, connection, (unsigned)(lane - server->lanes));
    int64_t now = clock_coarse_ms();
    atomic_store_explicit(&lane->last_activity_ms, now, memory_order_relaxed);
    atomic_fetch_sub(&lane->in_flight, 1);
    http_guard_begin_idle(now + server->settings.keep_alive_timeout_ms, server->settings.header_timeout_ms);
    return 200; /* handled; the number is for an access log that we do not keep */
}

/* CivetWeb's own page is no JSON, and is made with gmtime(), which is not safe with threads. */
static int on_error(struct mg_connection *connection, int status, const char *message)
{
    http_connection_refuse(server_of(connection), connection,
                           status == 411 ? 400 : status, /* Content-Length: abc */
                           message);
    return 0;
}

static int on_connection(const struct mg_connection *connection, void **connection_data)
{
    (void)connection_data;
    struct http_server *server = server_of(connection);
    http_guard_taken();
    http_guard_begin_idle(clock_monotonic_ms() + server->settings.header_timeout_ms,
                          /* first_byte_timeout_ms= */ 0);
    return 0;
}

static void on_connection_closed(const struct mg_connection *connection)
{
    http_guard_end();
    http_crowd_closed(&server_of(connection)->crowd);
}

static void *on_thread(const struct mg_context *context, int thread_type)
{
    struct http_server *server = mg_get_user_data(context);
    http_guard_thread_init(stop_fd(&server->stop), &server->crowd);
    if (thread_type == 0) {
        http_guard_begin(DEADLINE_NONE); /* the thread that accepts */
    }
    if (thread_type != 1) {
        return NULL;
    }
    return &server->lanes[atomic_fetch_add(&server->lanes_taken, 1) % (unsigned)server->settings.threads];
}

static int on_log(const struct mg_connection *connection, const char *message)
{
    struct http_server *server = server_of(connection);
    if (!atomic_load(&server->started)) {
        if (server->start_error[0]) {
            return 1; /* the first message names the cause */
        }
        snprintf(server->start_error, sizeof(server->start_error), "%s", message);
    } else {
        log_debug("civetweb: %s", message);
    }
    return 1; /* it is not to be written to a file */
}

/* ---- life cycle ---- */

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void init_library(void)
{
    mg_init_library(0);
}

/* "127.0.0.1:80" or ":80"; this CivetWeb is built without IPv6 and without names. */
static int check_listen(const char *listen, struct err *err)
{
    const char *colon = strrchr(listen, ':');
    struct in_addr address;
    int64_t port;
    if (!colon || !parse_int64(colon + 1, 0, 65535, &port)) {
        return err_set(err, ERR_INVALID, "listen address \"%.100s\" is not ADDRESS:PORT", listen);
    }
    CLEANUP_FREE char *host = xstrndup(listen, (size_t)(colon - listen));
    if (*host && inet_pton(AF_INET, host, &address) != 1) {
        return err_set(err, ERR_INVALID, "listen address \"%.100s\" is not an IPv4 address and a port",
                       listen);
    }
    return 0;
}

static struct mg_context *start_civetweb(struct http_server *server, struct err *err)
{
    const struct http_server_settings *settings = &server->settings;
    char threads[24], request_timeout[24], keep_alive_timeout[24], head_max[24];
    snprintf(threads, sizeof(threads), "%d", settings->threads);
    snprintf(request_timeout, sizeof(request_timeout), "%" PRId64,
             settings->header_timeout_ms + LIMIT_SLACK_MS);
    snprintf(keep_alive_timeout, sizeof(keep_alive_timeout), "%" PRId64,
             settings->keep_alive_timeout_ms + settings->header_timeout_ms + LIMIT_SLACK_MS);
    snprintf(head_max, sizeof(head_max), "%d", HTTP_REQUEST_HEAD_MAX_BYTES);
    const char *listen = settings->listen[0] == ':' ? settings->listen + 1 : settings->listen;
    const char *options[] = {"listening_ports",
                             listen,
                             "num_threads",
                             threads,
                             "request_timeout_ms",
                             request_timeout,
                             "enable_keep_alive",
                             settings->keep_alive_timeout_ms > 0 ? "yes" : "no",
                             "keep_alive_timeout_ms",
                             keep_alive_timeout,
                             "max_request_size",
                             head_max,
                             "tcp_nodelay",
                             "1",
                             "connection_queue",
                             "512",
                             "listen_backlog",
                             "1024",
                             "decode_url",
                             "no",
                             "enable_directory_listing",
                             "no",
                             NULL};
    struct mg_callbacks callbacks;
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.begin_request = on_begin_request;
    callbacks.init_connection = on_connection;
    callbacks.connection_closed = on_connection_closed;
    callbacks.init_thread = on_thread;
    callbacks.http_error = on_error;
    callbacks.log_message = on_log;
    char text[256] = "";
    struct mg_init_data init = {
        .callbacks = &callbacks, .user_data = server, .configuration_options = options};
    struct mg_error_data error;
    memset(&error, 0, sizeof(error)); /* its members differ between versions of CivetWeb */
    error.text = text;
    error.text_buffer_size = sizeof(text);
    http_guard_stack_bytes(settings->stack_bytes);
    struct mg_context *context = mg_start2(&init, &error);
    http_guard_stack_bytes(0);
    if (!context) {
        err_set(err, ERR_IO, "cannot listen on %s: %s", settings->listen,
                server->start_error[0] ? server->start_error : text);
    }
    return context;
}

int http_server_start(const struct http_server_settings *settings, struct http_server **ret_server,
                      struct err *err)
{
    if (check_listen(settings->listen, err) < 0) {
        return -1;
    }
    pthread_once(&library_once, init_library);
    struct http_server *server = xcalloc(1, sizeof(*server));
    server->settings = *settings;
    server->lanes =
        xcalloc_aligned((size_t)settings->threads, sizeof(*server->lanes), alignof(struct http_lane));
    server->requests = block_cache_new(sizeof(struct http_request));
    server->start_ms = clock_coarse_ms();
    stop_init(&server->stop);
    http_crowd_init(&server->crowd, settings->threads);
    server->civetweb = start_civetweb(server, err);
    if (!server->civetweb) {
        stop_release(&server->stop);
        http_crowd_release(&server->crowd);
        block_cache_free(server->requests);
        free(server->lanes);
        free(server);
        return -1;
    }
    atomic_store(&server->started, true);
    server->settings.listen = NULL; /* borrowed for the start only */
    struct mg_server_port port;
    server->port = mg_get_server_ports(server->civetweb, 1, &port) == 1 ? port.port : 0;
    *ret_server = server;
    return 0;
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

int http_server_in_flight(const struct http_server *server)
{
    int in_flight = 0;
    for (int i = 0; i < server->settings.threads; i++) {
        in_flight += atomic_load(&server->lanes[i].in_flight);
    }
    return in_flight;
}

int http_server_connections(const struct http_server *server)
{
    return atomic_load(&server->crowd.open);
}

int64_t http_server_refused(const struct http_server *server)
{
    return atomic_load(&server->refused);
}

int64_t http_server_idle_ms(const struct http_server *server)
{
    int64_t last_ms = server->start_ms;
    for (int i = 0; i < server->settings.threads; i++) {
        /* In this order: one that ends meanwhile has been active just now. */
        if (atomic_load(&server->lanes[i].in_flight) > 0) {
            return 0;
        }
        int64_t lane_ms = atomic_load(&server->lanes[i].last_activity_ms);
        last_ms = lane_ms > last_ms ? lane_ms : last_ms;
    }
    int64_t idle_ms = clock_coarse_ms() - last_ms;
    return idle_ms > 0 ? idle_ms : 0;
}

void http_server_drain(struct http_server *server)
{
    atomic_store(&server->draining, true);
}

void http_server_stop(struct http_server *server)
{
    if (!server) {
        return;
    }
    stop_set(&server->stop);
    mg_stop(server->civetweb);
    stop_release(&server->stop);
    http_crowd_release(&server->crowd);
    block_cache_free(server->requests);
    free(server->lanes);
    free(server);
}
