#include "operator/gateway/announce_port.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/http/http_server.h"

#define BODY_MAX_BYTES    4096
#define BODY_DEPTH        4
#define HEADER_TIMEOUT_MS 2000
#define BODY_TIMEOUT_MS   2000
#define KEEP_ALIVE_MS     1000
#define UID_MAX_BYTES     64
#define ANSWER_MAX_BYTES  1024
#define PORT_MAX          65535

struct announce_port {
    struct announce_port_settings settings;
    struct http_server *server;
    struct metric_family *results;
};

const struct announce_answer announce_accepted = {200, "accepted", NULL};
const struct announce_answer announce_not_known_yet = {202, "unknown", NULL};

/* gateways: how many there are; 0: not to be told. */
static void respond(struct http_request *req, const struct announce_answer *answer, int gateways)
{
    char storage[ANSWER_MAX_BYTES];
    struct strbuf body;
    strbuf_init_fixed(&body, storage, sizeof(storage));
    bool refused = answer->status >= 400;
    if (refused) {
        strbuf_appendf(
            &body, "{\"title\":\"%s\",\"status\":%d,\"code\":\"%s\",\"component\":\"gateway\",\"detail\":",
            http_status_text(answer->status), answer->status, answer->code);
        const char *detail = answer->detail ? answer->detail : "";
        strbuf_append_json_string(&body, detail, strlen(detail));
        strbuf_append_char(&body, '}');
    } else {
        strbuf_appendf(&body, "{\"code\":\"%s\"}", answer->code);
    }
    char number[16];
    snprintf(number, sizeof(number), "%d", gateways);
    const struct http_header headers[] = {
        {"Content-Type", refused ? "application/problem+json" : "application/json"},
        {"X-Cicada-Gateways", number},
    };
    struct err err = ERR_INIT;
    http_request_close_after(req); /* a pod has one thing to say; its connection would hold a thread */
    if (http_request_respond(req, answer->status, headers, gateways > 0 ? 2 : 1, body.buf, body.len, &err) <
        0) {
        log_debug("answer to %s: %s", http_request_remote_ip(req), err.msg); /* it asks again, or is gone */
    }
}

/* ---- reading ---- */

static bool is_uid(const char *text)
{
    size_t len = strlen(text);
    if (len == 0 || len > UID_MAX_BYTES) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && text[i] != '-') {
            return false;
        }
    }
    return true;
}

/* What is wrong with it, or NULL. */
static const char *read_announcement(const cJSON *tree, struct announcement *out)
{
    out->namespace = json_string(tree, "namespace");
    out->function = json_string(tree, "function");
    out->pod_name = json_string(tree, "podName");
    out->pod_uid = json_string(tree, "podUID");
    int64_t port = json_int64(tree, "port", 0);
    out->port = port > 0 && port <= PORT_MAX ? (int)port : 0;
    if (!out->namespace || !is_dns_label(out->namespace)) {
        return "namespace must be a DNS label";
    }
    if (!out->function || !is_dns_label(out->function)) {
        return "function must be a DNS label";
    }
    if (!out->pod_name || !is_dns_subdomain(out->pod_name)) {
        return "podName must be a DNS name";
    }
    if (!out->pod_uid || !is_uid(out->pod_uid)) {
        return "podUID must be a UID";
    }
    return out->goodbye || out->port ? NULL : "port must be a port";
}

/* ---- the server ---- */

static struct announce_answer malformed(const char *detail)
{
    return (struct announce_answer){400, "malformed", detail};
}

/* tree: holds what `said` borrows. */
static struct announce_answer serve(struct announce_port *port, struct http_request *req,
                                    struct announcement *said, cJSON **tree)
{
    const char *path = http_request_raw_path(req), *text;
    size_t len;
    said->goodbye = strcmp(path, "/goodbye") == 0;
    if (!said->goodbye && strcmp(path, "/announce") != 0) {
        return (struct announce_answer){404, "not_found", "POST /announce or /goodbye"};
    }
    if (strcmp(http_request_method(req), "POST") != 0) {
        return (struct announce_answer){405, "method_not_allowed", "POST /announce or /goodbye"};
    }
    struct err err = ERR_INIT;
    if (http_request_body(req, clock_monotonic_ms() + BODY_TIMEOUT_MS, &text, &len, &err) < 0 ||
        json_parse(text, len, BODY_DEPTH, tree, &err) < 0) {
        return malformed("the body must be a JSON object");
    }
    const char *wrong = read_announcement(*tree, said);
    if (wrong) {
        return malformed(wrong);
    }
    if (inet_pton(AF_INET, http_request_remote_ip(req), &said->from) != 1) {
        return (struct announce_answer){403, "refused", "not from an IPv4 address"};
    }
    return port->settings.decide(port->settings.arg, said);
}

static void handle(void *arg, struct http_request *req)
{
    struct announce_port *port = arg;
    struct announcement said = {0};
    CLEANUP_JSON cJSON *tree = NULL;
    struct announce_answer answer = serve(port, req, &said, &tree);
    bool is_told = said.goodbye && answer.status == 200 && port->settings.gateways;
    respond(req, &answer, is_told ? port->settings.gateways(port->settings.arg) : 0);
    const char *const labels[] = {said.goodbye ? "goodbye" : "announce", answer.code};
    metric_add(metric_family_get(port->results, labels), 1);
}

int announce_port_start(const struct announce_port_settings *settings, struct announce_port **ret_port,
                        struct err *err)
{
    static const char *const labels[] = {"kind", "result", NULL};
    struct announce_port *port = xcalloc(1, sizeof(*port));
    port->settings = *settings;
    port->results = metrics_counter(settings->metrics, "cicada_gateway_announcements_total",
                                    "What pods said of themselves, by kind and by what came of it.", labels);
    struct http_server_settings server = {
        .listen = settings->listen,
        .threads = settings->threads,
        .max_body_bytes = BODY_MAX_BYTES,
        .header_timeout_ms = HEADER_TIMEOUT_MS,
        .keep_alive_timeout_ms = KEEP_ALIVE_MS,
        .handler = handle,
        .handler_arg = port,
    };
    if (http_server_start(&server, &port->server, err) < 0) {
        free(port);
        return -1;
    }
    *ret_port = port;
    return 0;
}

int announce_port_number(const struct announce_port *port)
{
    return http_server_port(port->server);
}

void announce_port_stop(struct announce_port *port)
{
    if (!port) {
        return;
    }
    http_server_stop(port->server);
    free(port);
}
