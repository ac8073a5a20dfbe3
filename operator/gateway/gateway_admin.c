#include "operator/gateway/gateway_admin.h"

#include <string.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define THREADS         8
#define BODY_MAX_BYTES  0
#define TIMEOUT_MS      5000
#define KEEP_ALIVE_MS   15000 /* the operator reads /statz each second */
#define STATZ_MAX_BYTES (16u << 20)

struct gateway_admin {
    struct http_server *server;
    struct gateway *gateway;
    struct metrics *metrics;
};

static void respond_text(struct http_request *req, int status, const char *type, const char *text, size_t len)
{
    const struct http_header header = {"Content-Type", type};
    struct err err = ERR_INIT;
    if (http_request_respond(req, status, &header, 1, text, len, &err) < 0) {
        log_debug("admin port: %s", err.msg);
    }
}

static void respond_plain(struct http_request *req, int status, const char *text)
{
    respond_text(req, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void respond_built(struct http_request *req, const char *type, int failed, const struct strbuf *text)
{
    if (failed) {
        respond_plain(req, 500, "too large\n");
    } else {
        respond_text(req, 200, type, text->buf, text->len);
    }
}

static void serve_admin(void *arg, struct http_request *req)
{
    const struct gateway_admin *admin = arg;
    const char *path = http_request_raw_path(req), *method = http_request_method(req);
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, STATZ_MAX_BYTES);
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        respond_plain(req, 405, "GET only\n");
    } else if (strcmp(path, "/livez") == 0) {
        respond_plain(req, 200, "ok\n");
    } else if (strcmp(path, "/readyz") == 0) {
        bool ready = gateway_ready(admin->gateway);
        respond_plain(req, ready ? 200 : 503, ready ? "ok\n" : "not ready\n");
    } else if (strcmp(path, "/metrics") == 0) {
        int failed = metrics_render(admin->metrics, &text);
        respond_built(req, "text/plain; version=0.0.4; charset=utf-8", failed, &text);
    } else if (strcmp(path, "/statz") == 0) {
        int failed = gateway_statz(admin->gateway, &text);
        respond_built(req, "application/json", failed, &text);
    } else {
        respond_plain(req, 404, "/livez /readyz /metrics /statz\n");
    }
}

int gateway_admin_start(const char *listen, struct gateway *gateway, struct metrics *metrics,
                        struct gateway_admin **ret_admin, struct err *err)
{
    struct gateway_admin *admin = xcalloc(1, sizeof(*admin));
    admin->gateway = gateway;
    admin->metrics = metrics;
    struct http_server_settings settings = {
        .listen = listen,
        .threads = THREADS,
        .max_body_bytes = BODY_MAX_BYTES,
        .header_timeout_ms = TIMEOUT_MS,
        .keep_alive_timeout_ms = KEEP_ALIVE_MS,
        .close_when_busy = true,
        .handler = serve_admin,
        .handler_arg = admin,
    };
    if (http_server_start(&settings, &admin->server, err) < 0) {
        free(admin);
        return -1;
    }
    *ret_admin = admin;
    return 0;
}

int gateway_admin_port(const struct gateway_admin *admin)
{
    return http_server_port(admin->server);
}

void gateway_admin_stop(struct gateway_admin *admin)
{
    if (admin) {
        http_server_stop(admin->server);
        free(admin);
    }
}
