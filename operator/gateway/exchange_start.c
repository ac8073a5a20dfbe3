#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "operator/gateway/exchange_internal.h"
#include "operator/gateway/websocket.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define TRACEPARENT_SIZE      (TRACEPARENT_BYTES + 1)
#define RETRY_AFTER_CATALOG_S 2

/* Ids of this request: the client's or new ones. The storage must outlive the facts. */
struct identity {
    char request_id[REQUEST_ID_HEX];
    char traceparent[TRACEPARENT_SIZE];
    char client[INET_ADDRSTRLEN];
};

static void identify(struct worker *worker, const struct client_conn *client, const struct h1_head *head,
                     struct identity *identity, struct request_facts *facts)
{
    facts->request_id = head_request_id(head);
    if (facts->request_id.len == 0) {
        worker_random_hex(worker, identity->request_id, REQUEST_ID_HEX);
        facts->request_id = (struct h1_slice){identity->request_id, REQUEST_ID_HEX};
    }
    facts->traceparent = head_traceparent(head);
    facts->keep_tracestate = facts->traceparent.len > 0;
    if (facts->traceparent.len == 0) {
        /* Not sampled: nobody here records spans, and the function may still decide otherwise for its own. */
        memcpy(identity->traceparent, "00-", 3);
        worker_random_hex(worker, identity->traceparent + 3, 32);
        identity->traceparent[35] = '-';
        worker_random_hex(worker, identity->traceparent + 36, 16);
        memcpy(identity->traceparent + 52, "-00", 4);
        facts->traceparent = (struct h1_slice){identity->traceparent, TRACEPARENT_BYTES};
    }
    facts->client_address = client_conn_address(client, identity->client);
    facts->proto = client->listener == LISTENER_TLS ? "https" : "http";
    facts->from_proxy = address_ranges_have(worker->gateway->trusted_proxies,
                                            worker->gateway->trusted_proxy_count, client->peer);
}

/* ---- why a request gets no further ---- */

static bool is_method_allowed(const struct function_spec *spec, const struct h1_head *head)
{
    if (!spec->has_http || spec->method_count == 0) {
        return true;
    }
    for (size_t i = 0; i < spec->method_count; i++) {
        const char *method = spec->methods[i];
        if (strlen(method) == head->method_text.len &&
            memcmp(method, head->method_text.at, head->method_text.len) == 0) {
            return true;
        }
        if (head->method == H1_METHOD_HEAD && strcmp(method, "GET") == 0) {
            return true;
        }
    }
    return false;
}

#define ALLOW_SIZE 512
static void write_allow(const struct function_spec *spec, char out[ALLOW_SIZE])
{
    struct strbuf allow;
    strbuf_init_fixed(&allow, out, ALLOW_SIZE);
    bool get = false, head = false;
    for (size_t i = 0; i < spec->method_count; i++) {
        strbuf_appendf(&allow, "%s%s", i > 0 ? ", " : "", spec->methods[i]);
        get |= strcmp(spec->methods[i], "GET") == 0;
        head |= strcmp(spec->methods[i], "HEAD") == 0;
    }
    if (get && !head) {
        strbuf_append_str(&allow, ", HEAD");
    }
}

#define DETAIL_SIZE 512
/* Names what to call instead. */
static const char *bare_name_detail(struct h1_slice host, char out[DETAIL_SIZE])
{
    const char *end = memchr(host.at, ':', host.len);
    size_t len = end ? (size_t)(end - host.at) : host.len;
    while (len > 0 && host.at[len - 1] == '.') {
        len--;
    }
    snprintf(out, DETAIL_SIZE,
             "Call it by %.*s.<namespace>: the gateway does not know the caller's namespace.", (int)len,
             host.at);
    return out;
}

/* What was agreed on in the handshake, by that name's certificate, holds for that name alone. */
static bool is_misdirected(const struct client_conn *client, const struct h1_head *head,
                           struct gateway_problem *ret_problem)
{
    const char *name = client_conn_tls_name(client);
    if (client->listener != LISTENER_TLS || (name && route_host_is(head->host, name))) {
        return false;
    }
    *ret_problem =
        (struct gateway_problem){.status = 421,
                                 .code = "misdirected_request",
                                 .detail = "The Host is not the name that the TLS connection was made for."};
    return true;
}

static bool has_route_problem(enum route_result result, struct h1_slice host, char detail[DETAIL_SIZE],
                              struct gateway_problem *ret_problem)
{
    switch (result) {
    case ROUTE_FOUND:
        return false;
    case ROUTE_NONE:
        *ret_problem = (struct gateway_problem){
            .status = 404, .code = "no_route", .detail = "No function has this host and path."};
        return true;
    case ROUTE_BARE_NAME:
        *ret_problem = (struct gateway_problem){
            .status = 404, .code = "namespace_missing", .detail = bare_name_detail(host, detail)};
        return true;
    case ROUTE_BAD_PATH:
        *ret_problem = (struct gateway_problem){.status = 400,
                                                .code = "dot_segments",
                                                .detail = "The path has \".\" or \"..\" among its elements."};
        return true;
    }
    return false;
}

static bool has_websocket_problem(enum websocket_wish wish, struct gateway_problem *ret_problem)
{
    if (wish == WEBSOCKET_MALFORMED) {
        *ret_problem = (struct gateway_problem){
            .status = 400,
            .code = "malformed_websocket",
            .detail = "A WebSocket is asked for by one well-formed Sec-WebSocket-Key and without a body."};
    } else if (wish == WEBSOCKET_OTHER_VERSION) {
        *ret_problem = (struct gateway_problem){.status = 426,
                                                .code = "websocket_version",
                                                .detail = "Version 13 of WebSocket is understood.",
                                                .websocket_version = true};
    }
    return wish == WEBSOCKET_MALFORMED || wish == WEBSOCKET_OTHER_VERSION;
}

static bool has_request_problem(const struct exchange *exchange, const struct h1_head *head,
                                char allow[ALLOW_SIZE], struct gateway_problem *ret_problem)
{
    const struct function_spec *spec = exchange->spec;
    bool too_large = (head->framing == H1_BODY_LENGTH && head->content_length > (uint64_t)spec->body_bytes) ||
                     exchange->upload_bytes > (uint64_t)spec->body_bytes;
    if (!is_method_allowed(spec, head)) {
        write_allow(spec, allow);
        *ret_problem = (struct gateway_problem){.status = 405,
                                                .code = "method_not_allowed",
                                                .detail = "The function does not take this method.",
                                                .allow = allow};
    } else if (too_large) {
        *ret_problem =
            (struct gateway_problem){.status = 413,
                                     .code = "body_too_large",
                                     .detail = "The body is larger than the function's limits.bodyBytes."};
    } else if (head->expect_other) {
        *ret_problem = (struct gateway_problem){.status = 417,
                                                .code = "expectation_failed",
                                                .detail = "The only expectation understood is 100-continue."};
    } else {
        return false;
    }
    return true;
}

/* ---- from a head to a request ---- */

/* What came of the body together with the head. */
static enum h1_fault take_early_body(struct exchange *exchange, char *data, size_t len, size_t *ret_body)
{
    size_t taken;
    enum h1_fault fault = h1_body_feed(&exchange->upload, data, len, ret_body, &taken);
    if (fault == H1_FAULT_NONE) {
        exchange->upload_bytes = *ret_body;
        client_conn_keep(exchange->client, data + taken, len - taken);
    }
    return fault;
}

static void append_early_body(struct exchange *exchange, struct strbuf *out, const char *body, size_t len)
{
    char line[CHUNK_LINE_SIZE];
    if (!exchange->upload_chunked) {
        strbuf_append(out, body, len);
        return;
    }
    if (len > 0) {
        strbuf_append(out, line, chunk_line(line, len));
        strbuf_append(out, body, len);
        strbuf_append(out, "\r\n", 2);
    }
    if (exchange->upload.complete) {
        strbuf_append_str(out, "0\r\n\r\n");
    }
}

/* An exact copy: it may be held for long. */
static void keep_request(struct exchange *exchange, const struct strbuf *built, size_t head_len, size_t id_at)
{
    exchange->request = xmemdup(built->buf, built->len);
    exchange->request_len = (uint32_t)built->len;
    exchange->request_head_len = (uint32_t)head_len;
    exchange->request_id.at = exchange->request + id_at;
    exchange->waiter.bytes = built->len;
}

static void take_head(struct exchange *exchange, const struct h1_head *head, enum websocket_wish wish)
{
    exchange->keep_alive = head->keep_alive;
    exchange->http10 = head->minor == 0;
    exchange->head_only = head->method == H1_METHOD_HEAD;
    exchange->websocket = wish != WEBSOCKET_NOT_ASKED;
    exchange->expect_continue = head->expect_continue && head->minor > 0;
    exchange->upload_chunked = head->framing == H1_BODY_CHUNKED;
    h1_body_init(&exchange->upload, head->framing, head->content_length);
}

static void reject_fault(struct exchange *exchange, enum h1_fault fault)
{
    struct gateway_problem problem = {
        .status = h1_fault_status(fault), .code = h1_fault_code(fault), .detail = h1_fault_detail(fault)};
    exchange->upload.complete = false; /* where this request ends is not known */
    exchange_reject(exchange, &problem);
}

/* Whether sending it twice has the effect of once. The runtime looks at the key for all methods that may have one. */
static bool is_repeatable(const struct function_spec *spec, const struct h1_head *head)
{
    if (head->method == H1_METHOD_GET || head->method == H1_METHOD_HEAD ||
        head->method == H1_METHOD_OPTIONS) {
        return true;
    }
    for (size_t i = 0; spec->idempotency != FUNCTION_IDEMPOTENCY_NONE && i < head->header_count; i++) {
        /* One that Connection lists stays behind, and the function would not know. */
        if (!head->headers[i].listed && h1_slice_equal_nocase(head->headers[i].name, "Idempotency-Key")) {
            return true;
        }
    }
    return false;
}

bool exchange_start(struct client_conn *client, const struct h1_head *head, char *data, size_t len)
{
    struct worker *worker = client->worker;
    struct route_match match = {0};
    enum route_result result = route_table_match(worker_routes(worker), client->listener == LISTENER_INTERNAL,
                                                 head->host, head->target, &match);
    if ((result == ROUTE_NONE || result == ROUTE_BARE_NAME) && !atomic_load(&worker->gateway->synced)) {
        return false;
    }
    struct exchange *exchange = exchange_new(client);
    enum websocket_wish wish = websocket_wish(head);
    struct identity identity;
    struct request_facts facts;
    struct gateway_problem problem;
    char allow[ALLOW_SIZE], detail[DETAIL_SIZE];
    identify(worker, client, head, &identity, &facts);
    exchange->request_id = facts.request_id;
    take_head(exchange, head, wish);
    size_t body_len;
    enum h1_fault fault = take_early_body(exchange, data, len, &body_len);
    if (fault != H1_FAULT_NONE) {
        reject_fault(exchange, fault);
        return true;
    }
    if (result == ROUTE_FOUND) {
        exchange->function = function_state_ref(match.function);
        exchange->spec = function_spec_ref(match.spec);
    }
    if (is_misdirected(client, head, &problem) || has_route_problem(result, head->host, detail, &problem) ||
        has_request_problem(exchange, head, allow, &problem) || has_websocket_problem(wish, &problem)) {
        exchange_reject(exchange, &problem);
        return true;
    }
    facts.websocket = exchange->websocket;
    strbuf_clear(&worker->build);
    size_t id_at = request_write(&worker->build, head, &match, &facts);
    size_t head_len = worker->build.len;
    append_early_body(exchange, &worker->build, data, body_len);
    assert(!strbuf_failed(&worker->build)); /* a head at its limit and one reading fit */
    keep_request(exchange, &worker->build, head_len, id_at);
    exchange->replayable = exchange->upload.complete && is_repeatable(exchange->spec, head);
    exchange_begin(exchange);
    return true;
}

/* ---- requests whose head never became one ---- */

static void refuse(struct client_conn *client, const struct gateway_problem *problem)
{
    struct exchange *exchange = exchange_new(client);
    char request_id[REQUEST_ID_HEX];
    worker_random_hex(client->worker, request_id, sizeof(request_id));
    exchange->request_id = (struct h1_slice){request_id, sizeof(request_id)};
    exchange_reject(exchange, problem); /* nothing says that the request is complete: the connection closes */
}

void exchange_refuse_fault(struct client_conn *client, enum h1_fault fault)
{
    struct gateway_problem problem = {
        .status = h1_fault_status(fault), .code = h1_fault_code(fault), .detail = h1_fault_detail(fault)};
    refuse(client, &problem);
}

void exchange_refuse_plain(struct client_conn *client)
{
    struct gateway_problem problem = {
        .status = 400, .code = "plain_http", .detail = "This port speaks HTTPS; the request came in clear."};
    client->arrived_us = clock_monotonic_us();
    refuse(client, &problem);
}

void exchange_refuse_timeout(struct client_conn *client)
{
    struct gateway_problem problem = {
        .status = 408, .code = "header_timeout", .detail = "The request's head came too slowly."};
    client->arrived_us = clock_monotonic_us();
    refuse(client, &problem);
}

void exchange_refuse_unrouted(struct client_conn *client)
{
    struct gateway_problem problem = {
        .status = 503,
        .code = "catalog_incomplete",
        .detail = "The gateway has not read all functions yet, and knows none for this request.",
        .retry_after_seconds = RETRY_AFTER_CATALOG_S};
    refuse(client, &problem);
}
