#include "operator/gateway/heads.h"

#include <string.h>

#include "runtime/base/mem.h"

/* ---- pieces ---- */

static void append_slice(struct strbuf *out, struct h1_slice slice)
{
    strbuf_append(out, slice.at, slice.len);
}

static void append_header(struct strbuf *out, const char *name, struct h1_slice value)
{
    strbuf_append_str(out, name);
    append_slice(out, value);
    strbuf_append(out, "\r\n", 2);
}

static void append_header_text(struct strbuf *out, const char *name, const char *value)
{
    append_header(out, name, (struct h1_slice){value, strlen(value)});
}

/* As it came: one reservation, since this is most of the work. */
static void copy_header(struct strbuf *out, const struct h1_header *header)
{
    size_t len = header->name.len + 2 + header->value.len + 2;
    char *room = strbuf_reserve(out, len);
    if (!room) {
        return;
    }
    memcpy(room, header->name.at, header->name.len);
    room += header->name.len;
    memcpy(room, ": ", 2);
    memcpy(room + 2, header->value.at, header->value.len);
    memcpy(room + 2 + header->value.len, "\r\n", 2);
    strbuf_advance(out, len);
}

/* The runtime's CivetWeb refuses a request with a tab anywhere; a space means the same. */
static void replace_tabs(struct strbuf *out, size_t start)
{
    char *tab = out->buf + start;
    while (out->len > start && (tab = memchr(tab, '\t', (size_t)(out->buf + out->len - tab)))) {
        *tab++ = ' ';
    }
}

static void copy_header_to_pod(struct strbuf *out, const struct h1_header *header)
{
    size_t start = out->len;
    copy_header(out, header);
    replace_tabs(out, start);
}

static void append_length(struct strbuf *out, uint64_t length)
{
    strbuf_append_str(out, "Content-Length: ");
    strbuf_append_uint(out, length);
    strbuf_append(out, "\r\n", 2);
}

static const struct h1_header *find_header(const struct h1_head *head, enum h1_name id)
{
    for (size_t i = 0; i < head->header_count; i++) {
        if (head->headers[i].id == id) {
            return &head->headers[i];
        }
    }
    return NULL;
}

/* ---- identity of a request ---- */

struct h1_slice head_request_id(const struct h1_head *head)
{
    const struct h1_slice none = {"", 0};
    const struct h1_header *header = find_header(head, H1_NAME_REQUEST_ID);
    if (!header || header->value.len == 0 || header->value.len > REQUEST_ID_BYTES_MAX) {
        return none;
    }
    for (size_t i = 0; i < header->value.len; i++) {
        char c = header->value.at[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                  c == '_' || c == '-';
        if (!ok) {
            return none;
        }
    }
    return header->value;
}

static bool is_hex(const char *at, size_t len, bool *ret_zero)
{
    *ret_zero = true;
    for (size_t i = 0; i < len; i++) {
        if (!((at[i] >= '0' && at[i] <= '9') || (at[i] >= 'a' && at[i] <= 'f'))) {
            return false;
        }
        *ret_zero &= at[i] == '0';
    }
    return true;
}

struct h1_slice head_traceparent(const struct h1_head *head)
{
    const struct h1_slice none = {"", 0};
    const struct h1_header *header = find_header(head, H1_NAME_TRACEPARENT);
    if (!header || header->value.len < TRACEPARENT_BYTES) {
        return none;
    }
    const char *at = header->value.at;
    bool zero_version, zero_trace, zero_parent, zero_flags;
    bool shape = at[2] == '-' && at[35] == '-' && at[52] == '-' && is_hex(at, 2, &zero_version) &&
                 is_hex(at + 3, 32, &zero_trace) && is_hex(at + 36, 16, &zero_parent) &&
                 is_hex(at + 53, 2, &zero_flags);
    if (!shape || zero_trace || zero_parent || memcmp(at, "ff", 2) == 0) {
        return none;
    }
    /* Version 00 ends here; a later one may go on after another dash. */
    bool ends = header->value.len == TRACEPARENT_BYTES || (!zero_version && at[TRACEPARENT_BYTES] == '-');
    return ends && !memchr(at, '\t', header->value.len) ? header->value : none;
}

static const char websocket_headers[] = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

/* ---- requests ---- */

static bool is_forwarded_to_pod(const struct h1_header *header, const struct request_facts *facts)
{
    switch (header->id) {
    case H1_NAME_OTHER:
    case H1_NAME_DATE:
        return !header->listed;
    case H1_NAME_TRACESTATE:
        return !header->listed && facts->keep_tracestate;
    default:
        return false; /* written anew, or meant for this hop, or ours to say */
    }
}

/* "name: a, b, " of all headers of that name; false: there is none, and nothing was written. */
static bool append_chain(struct strbuf *out, const struct h1_head *head, const char *name)
{
    bool any = false;
    for (size_t i = 0; i < head->header_count; i++) {
        const struct h1_header *header = &head->headers[i];
        if (header->id != H1_NAME_FORWARDED || header->value.len == 0 ||
            !h1_slice_equal_nocase(header->name, name)) {
            continue;
        }
        if (!any) {
            strbuf_append_str(out, name);
            strbuf_append(out, ": ", 2);
        }
        append_slice(out, header->value);
        strbuf_append(out, ", ", 2);
        any = true;
    }
    return any;
}

/* The first of that name; else what is known here. */
static void append_told(struct strbuf *out, const struct h1_head *head, const char *name,
                        struct h1_slice ours)
{
    for (size_t i = 0; i < head->header_count; i++) {
        const struct h1_header *header = &head->headers[i];
        if (header->id == H1_NAME_FORWARDED && header->value.len > 0 &&
            h1_slice_equal_nocase(header->name, name)) {
            ours = header->value;
            break;
        }
    }
    strbuf_append_str(out, name);
    append_header(out, ": ", ours);
}

/* Whom the request comes from: as a proxy before us tells it, with that proxy added, or as it is seen here. */
static void append_forwarded(struct strbuf *out, const struct h1_head *head,
                             const struct request_facts *facts)
{
    size_t start = out->len;
    struct h1_slice proto = {facts->proto, strlen(facts->proto)};
    if (!facts->from_proxy) {
        append_header_text(out, "X-Forwarded-For: ", facts->client_address);
        append_header(out, "X-Forwarded-Proto: ", proto);
        append_header(out, "X-Forwarded-Host: ", head->host);
        return;
    }
    append_header_text(
        out, append_chain(out, head, "X-Forwarded-For") ? "" : "X-Forwarded-For: ", facts->client_address);
    append_told(out, head, "X-Forwarded-Proto", proto);
    append_told(out, head, "X-Forwarded-Host", head->host);
    if (append_chain(out, head, "Forwarded")) {
        append_header_text(out, "for=", facts->client_address);
    }
    replace_tabs(out, start);
}

size_t request_write(struct strbuf *out, const struct h1_head *head, const struct route_match *match,
                     const struct request_facts *facts)
{
    append_slice(out, head->method_text);
    strbuf_append(out, " /", match->rest.len > 0 && match->rest.at[0] == '/' ? 1 : 2);
    append_slice(out, match->rest);
    strbuf_append_str(out, " HTTP/1.1\r\n");
    append_header(out, "Host: ", head->host);
    if (head->framing == H1_BODY_CHUNKED) {
        strbuf_append_str(out, "Transfer-Encoding: chunked\r\n");
    } else if (head->has_content_length) {
        append_length(out, head->content_length);
    }
    for (size_t i = 0; i < head->header_count; i++) {
        if (is_forwarded_to_pod(&head->headers[i], facts)) {
            copy_header_to_pod(out, &head->headers[i]);
        }
    }
    if (facts->websocket) {
        strbuf_append_str(out, websocket_headers);
    }
    append_header(out, "X-Request-Id: ", facts->request_id);
    size_t id_at = out->len - 2 - facts->request_id.len;
    append_header(out, "traceparent: ", facts->traceparent);
    append_forwarded(out, head, facts);
    if (match->prefix.len > 0) {
        append_header(out, "X-Forwarded-Prefix: ", match->prefix);
    }
    strbuf_append(out, "\r\n", 2);
    return id_at;
}

/* ---- answers ---- */

static void append_ours(struct strbuf *out, const struct answer_facts *facts)
{
    append_header(out, "X-Request-Id: ", facts->request_id);
    if (facts->server_timing[0]) {
        append_header_text(out, "Server-Timing: ", facts->server_timing);
    }
    if (facts->close) {
        strbuf_append_str(out, "Connection: close\r\n");
    } else if (facts->client_http10) {
        strbuf_append_str(out, "Connection: keep-alive\r\n");
    }
    strbuf_append(out, "\r\n", 2);
}

static bool is_forwarded_to_client(const struct h1_header *header)
{
    switch (header->id) {
    case H1_NAME_CONTENT_LENGTH:
    case H1_NAME_TRANSFER_ENCODING:
    case H1_NAME_CONNECTION:
    case H1_NAME_HOP:
    case H1_NAME_UPGRADE:
    case H1_NAME_REQUEST_ID:
        return false;
    default:
        return !header->listed;
    }
}

void answer_write(struct strbuf *out, const struct h1_head *head, const struct answer_facts *facts)
{
    strbuf_append_str(out, "HTTP/1.1 ");
    strbuf_append_uint(out, (uint64_t)head->status);
    strbuf_append_char(out, ' ');
    append_slice(out, head->reason);
    strbuf_append(out, "\r\n", 2);
    if (facts->websocket) {
        strbuf_append_str(out, websocket_headers);
    } else if (facts->chunked) {
        strbuf_append_str(out, "Transfer-Encoding: chunked\r\n");
    } else if (head->has_content_length && head->framing != H1_BODY_CHUNKED && head->status != 204) {
        append_length(out, head->content_length);
    }
    bool dated = false;
    for (size_t i = 0; i < head->header_count; i++) {
        if (is_forwarded_to_client(&head->headers[i])) {
            copy_header(out, &head->headers[i]);
            dated |= head->headers[i].id == H1_NAME_DATE;
        }
    }
    if (!dated) {
        append_header_text(out, "Date: ", facts->date);
    }
    append_ours(out, facts);
}

/* ---- problems ---- */

static const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {400, "Bad Request"},           {404, "Not Found"},
        {405, "Method Not Allowed"},    {408, "Request Timeout"},
        {413, "Content Too Large"},     {414, "URI Too Long"},
        {417, "Expectation Failed"},    {421, "Misdirected Request"},
        {426, "Upgrade Required"},      {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"}, {501, "Not Implemented"},
        {502, "Bad Gateway"},           {503, "Service Unavailable"},
        {504, "Gateway Timeout"},       {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        if (texts[i].status == status) {
            return texts[i].text;
        }
    }
    return "Error";
}

static void gateway_problem_body(struct strbuf *body, const struct gateway_problem *problem,
                                 struct h1_slice request_id)
{
    strbuf_appendf(body, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"code\":",
                   status_text(problem->status), problem->status);
    strbuf_append_json_string(body, problem->code, strlen(problem->code));
    strbuf_append_str(body, ",\"component\":\"gateway\"");
    if (problem->detail) {
        strbuf_append_str(body, ",\"detail\":");
        strbuf_append_json_string(body, problem->detail, strlen(problem->detail));
    }
    strbuf_append_str(body, ",\"requestId\":");
    strbuf_append_json_string(body, request_id.at, request_id.len);
    strbuf_append_str(body, "}\n");
}

void gateway_problem_write(struct strbuf *out, const struct gateway_problem *problem, bool head_only,
                           const struct answer_facts *facts)
{
    char storage[1024];
    struct strbuf body;
    strbuf_init_fixed(&body, storage, sizeof(storage));
    gateway_problem_body(&body, problem, facts->request_id);
    strbuf_appendf(out, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\n", problem->status,
                   status_text(problem->status));
    append_length(out, body.len);
    strbuf_append_str(out, "Cache-Control: no-store\r\n");
    append_header_text(out, "Date: ", facts->date);
    if (problem->retry_after_seconds > 0) {
        strbuf_appendf(out, "Retry-After: %d\r\n", problem->retry_after_seconds);
    }
    if (problem->allow) {
        append_header_text(out, "Allow: ", problem->allow);
    }
    if (problem->websocket_version) {
        strbuf_append_str(out, websocket_headers);
        append_header_text(out, "Sec-WebSocket-Version: ", "13");
    }
    append_ours(out, facts);
    if (!head_only) {
        strbuf_append(out, body.buf, body.len);
    }
}
