#include "operator/function/operator_admin.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/version.h"
#include "runtime/http/http_server.h"

#define ADMIN_THREADS         4
#define ADMIN_TIMEOUT_MS      5000
#define ADMIN_KEEP_ALIVE_MS   15000
#define SCALER_SILENCE_MAX_MS 60000

struct operator_admin {
    struct operator_admin_sources sources;
    struct metric *is_leader, *writes, *reads, *unreadable, *functions;
    struct http_server *server;
};

static void respond(struct http_request *req, int status, const char *type, const char *text, size_t len)
{
    const struct http_header header = {"Content-Type", type};
    struct err err = ERR_INIT;
    if (http_request_respond(req, status, &header, 1, text, len, &err)) {
        log_debug("admin port: %s", err.msg);
    }
}

static void respond_plain(struct http_request *req, int status, const char *text)
{
    respond(req, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* The client counts; Prometheus wants to see it. */
static void catch_up(struct metric *counter, int64_t value)
{
    double more = (double)value - metric_value(counter);
    if (more > 0) {
        metric_add(counter, more);
    }
}

static void respond_metrics(struct operator_admin *admin, struct http_request *req)
{
    const struct operator_admin_sources *sources = &admin->sources;
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, METRICS_TEXT_MAX_BYTES);
    metric_set(admin->is_leader, lease_is_leader(sources->lease) ? 1 : 0);
    metric_set(admin->functions, (double)function_cache_count(sources->cache, CACHE_FUNCTION));
    catch_up(admin->writes, kube_client_writes(sources->client));
    catch_up(admin->reads, kube_client_reads(sources->client));
    catch_up(admin->unreadable, kube_client_unreadable(sources->client));
    if (metrics_render(sources->metrics, &text)) {
        respond_plain(req, 500, "too large\n");
    } else {
        respond(req, 200, "text/plain; version=0.0.4; charset=utf-8", text.buf, text.len);
    }
}

static void serve_admin(void *arg, struct http_request *req)
{
    struct operator_admin *admin = arg;
    const struct operator_admin_sources *sources = &admin->sources;
    const char *path = http_request_raw_path(req), *method = http_request_method(req);
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        respond_plain(req, 405, "GET only\n");
    } else if (strcmp(path, "/livez") == 0) {
        bool alive = function_scaler_silence_ms(sources->scaler) < SCALER_SILENCE_MAX_MS;
        respond_plain(req, alive ? 200 : 503, alive ? "ok\n" : "the scaler hangs\n");
    } else if (strcmp(path, "/readyz") == 0) {
        bool ready = function_cache_synced(sources->cache);
        respond_plain(req, ready ? 200 : 503, ready ? "ok\n" : "caches are being filled\n");
    } else if (strcmp(path, "/metrics") == 0) {
        respond_metrics(admin, req);
    } else {
        respond_plain(req, 404, "/livez /readyz /metrics\n");
    }
}

static struct metric *plain_metric(struct metric_family *family)
{
    return metric_family_get(family, NULL);
}

static void make_metrics(struct operator_admin *admin, struct metrics *metrics)
{
    static const char *const version_label[] = {"version", NULL};
    metric_set(
        metric_family_get(metrics_gauge(metrics, "cicada_build_info", "What runs; always 1.", version_label),
                          (const char *const[]){CICADA_VERSION}),
        1);
    admin->is_leader =
        plain_metric(metrics_gauge(metrics, "cicada_operator_leader", "1 on the operator that leads.", NULL));
    admin->functions =
        plain_metric(metrics_gauge(metrics, "cicada_operator_functions", "Functions there are.", NULL));
    admin->writes =
        plain_metric(metrics_counter(metrics, "cicada_operator_api_writes_total",
                                     "Requests to the API server that write, the Lease included.", NULL));
    admin->reads = plain_metric(metrics_counter(metrics, "cicada_operator_api_reads_total",
                                                "Requests to the API server that read.", NULL));
    admin->unreadable =
        plain_metric(metrics_counter(metrics, "cicada_operator_api_unreadable_total",
                                     "Objects taken for absent because their JSON can't be read.", NULL));
}

int operator_admin_start(const char *listen, const struct operator_admin_sources *sources,
                         struct operator_admin **ret_admin, struct err *err)
{
    struct operator_admin *admin = xcalloc(1, sizeof *admin);
    admin->sources = *sources;
    make_metrics(admin, sources->metrics);
    struct http_server_settings settings = {.listen = listen,
                                            .threads = ADMIN_THREADS,
                                            .header_timeout_ms = ADMIN_TIMEOUT_MS,
                                            .keep_alive_timeout_ms = ADMIN_KEEP_ALIVE_MS,
                                            .close_when_busy = true,
                                            .handler = serve_admin,
                                            .handler_arg = admin};
    if (http_server_start(&settings, &admin->server, err)) {
        free(admin);
        return -1;
    }
    *ret_admin = admin;
    return 0;
}

int operator_admin_port(const struct operator_admin *admin)
{
    return http_server_port(admin->server);
}

void operator_admin_stop(struct operator_admin *admin)
{
    if (admin) {
        http_server_stop(admin->server);
        free(admin);
    }
}
