#include "operator/gateway/announce.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdatomic.h>
#include <string.h>

#include "operator/gateway/kube_log_turn.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/http/http_server.h"

#define THREADS           24
#define WAITING_MAX       16 /* of those threads; the rest answers at once */
#define BODY_MAX_BYTES    4096
#define BODY_DEPTH        4
#define HEADER_TIMEOUT_MS 2000
#define BODY_TIMEOUT_MS   2000
#define KEEP_ALIVE_MS     1000
#define UNKNOWN_POD_MS    5000 /* how long the pod cache is waited for */
#define CALL_TIMEOUT_MS   2000 /* of the questions to the API server */
#define UID_MAX_BYTES     64
#define ANSWER_MAX_BYTES  1024

struct announce {
    struct announce_settings settings;
    struct announce_check check;
    struct http_server *server;
    atomic_int waiting;
    struct kube_log_turn refused;
    struct metric_family *results;
    struct metric *duration;
};

/* What a pod says; strings are borrowed from the body's tree. */
struct announcement {
    bool goodbye;
    const char *namespace, *function, *pod_name, *pod_uid;
    struct in_addr from;
};

struct answer {
    int status;
    const char *code;   /* for metrics and programs */
    const char *detail; /* for people */
};

static const struct answer accepted = {200, "accepted", NULL};
static const struct answer not_known_yet = {202, "unknown", NULL};

static void respond(struct http_request *req, const struct answer *answer)
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
    const struct http_header type = {"Content-Type",
                                     refused ? "application/problem+json" : "application/json"};
    struct err err = ERR_INIT;
    http_request_close_after(req); /* a pod has one thing to say; its connection would hold a thread */
    if (http_request_respond(req, answer->status, &type, 1, body.buf, body.len, &err) < 0) {
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
    /* A pod that never came to listen says goodbye without one. */
    bool is_port = out->goodbye || json_int64(tree, "port", 0) == KUBE_FUNCTION_PORT;
    return is_port ? NULL : "port must be 8080";
}

/* ---- deciding ---- */

static bool is_the_pod(const struct kube_pod *pod, const struct announcement *said)
{
    return pod && strcmp(pod->object.uid, said->pod_uid) == 0 && pod->node;
}

/* The pod once the cache knows it and its node, with a reference; NULL if that takes too long. */
static struct kube_pod *await_pod(struct announce *announce, const struct announcement *said)
{
    struct kube_catalog *catalog = announce->settings.catalog;
    int64_t deadline_ms = clock_monotonic_ms() + UNKNOWN_POD_MS;
    bool may_wait = atomic_fetch_add(&announce->waiting, 1) < WAITING_MAX;
    struct kube_pod *pod = NULL;
    for (;;) {
        uint64_t seen = kube_catalog_pod_changes(catalog);
        pod = kube_catalog_pod(catalog, said->namespace, said->pod_name);
        if (is_the_pod(pod, said)) {
            break;
        }
        if (pod) {
            cached_object_unref(&pod->object);
            pod = NULL;
        }
        if (!may_wait || !kube_catalog_pod_wait(catalog, seen, deadline_ms)) {
            break;
        }
    }
    atomic_fetch_sub(&announce->waiting, 1);
    return pod;
}

/* The API may have shown the pod's own, different address while the announcement was verified: that one counts. */
static bool drop_if_contradicted(struct announce *announce, const struct announcement *said)
{
    struct kube_pod *pod = kube_catalog_pod(announce->settings.catalog, said->namespace, said->pod_name);
    bool contradicted = pod && strcmp(pod->object.uid, said->pod_uid) == 0 && pod->has_address &&
                        pod->address.s_addr != said->from.s_addr;
    if (contradicted) {
        kube_catalog_pod_again(announce->settings.catalog, pod);
    }
    if (pod) {
        cached_object_unref(&pod->object);
    }
    return contradicted;
}

static struct answer act(struct announce *announce, const struct announcement *said)
{
    struct gateway *gateway = announce->settings.gateway;
    if (said->goodbye) {
        return gateway_pod_goodbye(gateway, said->pod_uid) ? accepted : not_known_yet;
    }
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(KUBE_FUNCTION_PORT), .sin_addr = said->from};
    if (!gateway_pod_announced(gateway, said->pod_uid, &address)) {
        return not_known_yet; /* the cache has it, the core is about to */
    }
    if (drop_if_contradicted(announce, said)) {
        return (struct answer){403, "refused", "the pod has another address"};
    }
    return accepted;
}

static struct answer decide(struct announce *announce, const struct announcement *said)
{
    struct kube_pod *pod = await_pod(announce, said);
    if (!pod) {
        return not_known_yet;
    }
    struct answer answer = not_known_yet;
    struct err err = ERR_INIT;
    const char *reason = NULL;
    int64_t start_us = clock_monotonic_us();
    if (strcmp(pod->function, said->function) != 0) {
        answer = (struct answer){403, "refused", "the pod is another function's"};
    } else if (!said->goodbye && pod->state == GATEWAY_POD_TERMINATING) {
        answer = (struct answer){403, "refused", "the pod is about to go"};
    } else {
        switch (announce_check_address(&announce->check, pod, said->from, &reason, &err)) {
        case ANNOUNCE_BELIEVED:
            answer = act(announce, said);
            break;
        case ANNOUNCE_NOT_YET:
            log_debug("announcement of %s/%s: %s: %s", said->namespace, said->pod_name, reason, err.msg);
            break;
        case ANNOUNCE_REFUSED:
            answer = (struct answer){403, "refused", reason};
            break;
        }
    }
    metric_observe(announce->duration, (double)(clock_monotonic_us() - start_us) / 1e6);
    cached_object_unref(&pod->object);
    return answer;
}

/* ---- the server ---- */

static struct answer serve(struct announce *announce, struct http_request *req, struct announcement *said)
{
    const char *path = http_request_raw_path(req), *text;
    size_t len;
    said->goodbye = strcmp(path, "/goodbye") == 0;
    if (!said->goodbye && strcmp(path, "/announce") != 0) {
        return (struct answer){404, "not_found", "POST /announce or /goodbye"};
    }
    if (strcmp(http_request_method(req), "POST") != 0) {
        return (struct answer){405, "method_not_allowed", "POST /announce or /goodbye"};
    }
    if (!announce->settings.enabled) {
        return (struct answer){403, "disabled", "announcements are turned off"};
    }
    struct err err = ERR_INIT;
    CLEANUP_JSON cJSON *tree = NULL;
    if (http_request_body(req, clock_monotonic_ms() + BODY_TIMEOUT_MS, &text, &len, &err) < 0 ||
        json_parse(text, len, BODY_DEPTH, &tree, &err) < 0) {
        return (struct answer){400, "malformed", "the body must be a JSON object"};
    }
    const char *wrong = read_announcement(tree, said);
    if (wrong) {
        return (struct answer){400, "malformed", wrong};
    }
    if (inet_pton(AF_INET, http_request_remote_ip(req), &said->from) != 1) {
        return (struct answer){403, "refused", "not from an IPv4 address"};
    }
    struct answer answer = decide(announce, said);
    int64_t refused = answer.status == 403 ? kube_log_turn_take(&announce->refused) : 0;
    if (refused > 0) {
        log_warn("%s of %s/%s from %s is refused: %s (%lld refusals since the last such line)", path + 1,
                 said->namespace, said->pod_name, http_request_remote_ip(req), answer.detail,
                 (long long)refused);
    }
    return answer;
}

static void handle(void *arg, struct http_request *req)
{
    struct announce *announce = arg;
    struct announcement said = {0};
    struct answer answer = serve(announce, req, &said);
    respond(req, &answer);
    const char *const labels[] = {said.goodbye ? "goodbye" : "announce", answer.code};
    metric_add(metric_family_get(announce->results, labels), 1);
}

static void announce_free(struct announce *announce)
{
    kube_client_free(announce->check.client);
    kube_log_turn_release(&announce->refused);
    free(announce);
}

int announce_start(const struct announce_settings *settings, struct announce **ret_announce, struct err *err)
{
    static const char *const labels[] = {"kind", "result", NULL};
    struct announce *announce = xcalloc(1, sizeof(*announce));
    announce->settings = *settings;
    announce->check = (struct announce_check){
        .client = kube_client_new_derived(settings->client, CALL_TIMEOUT_MS),
        .ranges = settings->ranges,
        .namespaces = settings->namespaces,
        .namespace_count = settings->namespace_count,
    };
    kube_log_turn_init(&announce->refused);
    announce->results =
        metrics_counter(settings->metrics, "cicada_gateway_announcements_total",
                        "What pods said of themselves, by kind and by what came of it.", labels);
    announce->duration = metric_family_get(
        metrics_histogram(settings->metrics, "cicada_gateway_announcement_check_duration_seconds",
                          "Time from knowing the pod to the answer.", /* label_names= */ NULL,
                          metrics_latency_bounds, metrics_latency_bound_count),
        /* label_values= */ NULL);
    struct http_server_settings server = {
        .listen = settings->listen,
        .threads = THREADS,
        .max_body_bytes = BODY_MAX_BYTES,
        .header_timeout_ms = HEADER_TIMEOUT_MS,
        .keep_alive_timeout_ms = KEEP_ALIVE_MS,
        .handler = handle,
        .handler_arg = announce,
    };
    if (http_server_start(&server, &announce->server, err) < 0) {
        announce_free(announce);
        return -1;
    }
    *ret_announce = announce;
    return 0;
}

int announce_port(const struct announce *announce)
{
    return http_server_port(announce->server);
}

void announce_stop(struct announce *announce)
{
    if (!announce) {
        return;
    }
    kube_catalog_pod_wait_end(announce->settings.catalog);
    http_server_stop(announce->server);
    announce_free(announce);
}
