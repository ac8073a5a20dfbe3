#include "operator/gateway/h1_head.h"

#include <http_parser.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define H1_LENGTH_DIGITS_MAX 18

/* ---- slices ---- */

bool h1_slice_equal_nocase(struct h1_slice slice, const char *text)
{
    return ascii_equal_nocase(slice.at, slice.len, text);
}

static bool is_ows(char c)
{
    return c == ' ' || c == '\t';
}

static struct h1_slice trim(const char *at, size_t len)
{
    while (len > 0 && is_ows(*at)) {
        at++;
        len--;
    }
    while (len > 0 && is_ows(at[len - 1])) {
        len--;
    }
    return (struct h1_slice){at, len};
}

/* Takes the next element off a comma-separated list; false at its end. */
static bool list_next(struct h1_slice *list, struct h1_slice *ret_element)
{
    if (list->len == 0) {
        return false;
    }
    const char *comma = memchr(list->at, ',', list->len);
    size_t len = comma ? (size_t)(comma - list->at) : list->len;
    *ret_element = trim(list->at, len);
    size_t taken = comma ? len + 1 : len;
    list->at += taken;
    list->len -= taken;
    return true;
}

bool h1_list_has(struct h1_slice list, const char *token)
{
    struct h1_slice element;
    while (list_next(&list, &element)) {
        if (h1_slice_equal_nocase(element, token)) {
            return true;
        }
    }
    return false;
}

/* ---- parsing: http_parser ---- */

struct collector {
    struct h1_head *head;
    bool too_many;
    bool complete;
};

static int on_url(http_parser *parser, const char *at, size_t len)
{
    struct collector *collector = parser->data;
    collector->head->target = (struct h1_slice){at, len};
    return 0;
}

static int on_status(http_parser *parser, const char *at, size_t len)
{
    struct collector *collector = parser->data;
    collector->head->reason = (struct h1_slice){at, len};
    return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t len)
{
    struct collector *collector = parser->data;
    struct h1_head *head = collector->head;
    if (head->header_count >= h1_headers_max(head->kind)) {
        collector->too_many = true;
        return -1;
    }
    head->headers[head->header_count++] = (struct h1_header){.name = {at, len}, .value = {at, 0}};
    return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t len)
{
    struct collector *collector = parser->data;
    struct h1_head *head = collector->head;
    if (head->header_count > 0) {
        head->headers[head->header_count - 1].value = trim(at, len);
    }
    return 0;
}

static int on_headers_complete(http_parser *parser)
{
    struct collector *collector = parser->data;
    collector->complete = true;
    parser->upgrade = 0;
    return 1; /* bodies are h1_body's */
}

static const http_parser_settings parser_settings = {
    .on_url = on_url,
    .on_status = on_status,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
};

static enum h1_fault fault_of_errno(enum http_errno code)
{
    switch (code) {
    case HPE_INVALID_METHOD:
        return H1_FAULT_METHOD;
    case HPE_INVALID_VERSION:
        return H1_FAULT_VERSION;
    case HPE_INVALID_CONTENT_LENGTH:
    case HPE_UNEXPECTED_CONTENT_LENGTH:
        return H1_FAULT_LENGTH;
    case HPE_INVALID_TRANSFER_ENCODING:
        return H1_FAULT_CODING;
    case HPE_HEADER_OVERFLOW:
        return H1_FAULT_HEAD_TOO_LARGE;
    default:
        return H1_FAULT_SYNTAX;
    }
}

static enum h1_fault run_parser(struct h1_head *head, const char *data, size_t len)
{
    struct collector collector = {.head = head};
    http_parser parser;
    http_parser_init(&parser, head->kind == H1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE);
    parser.data = &collector;
    http_parser_execute(&parser, &parser_settings, data, len);
    if (collector.too_many) {
        return H1_FAULT_TOO_MANY_HEADERS;
    }
    if (!collector.complete) {
        enum http_errno code = HTTP_PARSER_ERRNO(&parser);
        return fault_of_errno(code);
    }
    if (parser.http_major != 1 || parser.http_minor > 1) {
        return H1_FAULT_VERSION;
    }
    head->minor = parser.http_minor;
    head->status = (int)parser.status_code;
    return H1_FAULT_NONE;
}

/* ---- parsing: what http_parser lets through ---- */

static enum h1_fault check_request_line(struct h1_head *head, const char *data)
{
    static const char version[] = " HTTP/1.";
    const char *target = head->target.at;
    if (!target || target <= data || target[-1] != ' ') {
        return H1_FAULT_SYNTAX;
    }
    head->method_text = (struct h1_slice){data, (size_t)(target - data) - 1};
    if (memchr(data, ' ', head->method_text.len)) {
        return H1_FAULT_SYNTAX;
    }
    const char *after = target + head->target.len;
    if (memcmp(after, version, sizeof(version) - 1) != 0 || memcmp(after + sizeof(version), "\r\n", 2) != 0) {
        return H1_FAULT_SYNTAX;
    }
    for (size_t i = 0; i < head->target.len; i++) {
        unsigned char c = (unsigned char)target[i];
        if (c <= 0x20 || c >= 0x7F || c == '#') {
            return H1_FAULT_SYNTAX;
        }
    }
    static const struct {
        const char *text;
        enum h1_method method;
    } methods[] = {{"GET", H1_METHOD_GET},
                   {"HEAD", H1_METHOD_HEAD},
                   {"OPTIONS", H1_METHOD_OPTIONS},
                   {"CONNECT", H1_METHOD_CONNECT},
                   {"TRACE", H1_METHOD_CONNECT}};
    head->method = H1_METHOD_OTHER;
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        size_t len = strlen(methods[i].text);
        if (head->method_text.len == len && memcmp(data, methods[i].text, len) == 0) {
            head->method = methods[i].method;
        }
    }
    /* CONNECT and TRACE have no place at a reverse proxy. */
    return head->method == H1_METHOD_CONNECT ? H1_FAULT_METHOD : H1_FAULT_NONE;
}

/* Lengths are compared first: this is done for each header. */
#define NAME(text, id)                                                                                       \
    {                                                                                                        \
        text, sizeof(text) - 1, id                                                                           \
    }
static enum h1_name name_id(struct h1_slice name)
{
    static const struct {
        const char *text;
        size_t len;
        enum h1_name id;
    } names[] = {
        NAME("host", H1_NAME_HOST),
        NAME("content-length", H1_NAME_CONTENT_LENGTH),
        NAME("transfer-encoding", H1_NAME_TRANSFER_ENCODING),
        NAME("connection", H1_NAME_CONNECTION),
        NAME("keep-alive", H1_NAME_HOP),
        NAME("proxy-connection", H1_NAME_HOP),
        NAME("proxy-authenticate", H1_NAME_HOP),
        NAME("proxy-authorization", H1_NAME_HOP),
        NAME("te", H1_NAME_HOP),
        NAME("trailer", H1_NAME_HOP),
        NAME("http2-settings", H1_NAME_HOP),
        NAME("upgrade", H1_NAME_UPGRADE),
        NAME("expect", H1_NAME_EXPECT),
        NAME("date", H1_NAME_DATE),
        NAME("x-request-id", H1_NAME_REQUEST_ID),
        NAME("traceparent", H1_NAME_TRACEPARENT),
        NAME("tracestate", H1_NAME_TRACESTATE),
        NAME("forwarded", H1_NAME_FORWARDED),
    };
    char first = (char)(name.at[0] | 0x20);
    if (first == 'x') {
        if (name.len > 12 && strncasecmp(name.at, "x-forwarded-", 12) == 0) {
            return H1_NAME_FORWARDED;
        }
        if (name.len > 9 && strncasecmp(name.at, "x-cicada-", 9) == 0) {
            return H1_NAME_CICADA;
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (names[i].len == name.len && names[i].text[0] == first &&
            strncasecmp(name.at, names[i].text, name.len) == 0) {
            return names[i].id;
        }
    }
    return H1_NAME_OTHER;
}

static bool parse_length(struct h1_slice value, uint64_t *ret_length)
{
    if (value.len == 0 || value.len > H1_LENGTH_DIGITS_MAX) {
        return false;
    }
    uint64_t length = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] < '0' || value.at[i] > '9') {
            return false;
        }
        length = length * 10 + (uint64_t)(value.at[i] - '0');
    }
    *ret_length = length;
    return true;
}

struct seen {
    int hosts, lengths, codings;
    bool close, keep_alive, connection;
};

static enum h1_fault check_header(struct h1_head *head, struct h1_header *header, struct seen *seen)
{
    if (header->name.len == 0 || memchr(header->name.at, ' ', header->name.len)) {
        return H1_FAULT_SYNTAX;
    }
    header->id = name_id(header->name);
    switch (header->id) {
    case H1_NAME_HOST:
        seen->hosts++;
        head->host = header->value;
        break;
    case H1_NAME_CONTENT_LENGTH:
        if (seen->lengths++ > 0 || !parse_length(header->value, &head->content_length)) {
            return H1_FAULT_LENGTH;
        }
        head->has_content_length = true;
        break;
    case H1_NAME_TRANSFER_ENCODING:
        if (seen->codings++ > 0 || !h1_slice_equal_nocase(header->value, "chunked")) {
            return H1_FAULT_CODING;
        }
        break;
    case H1_NAME_CONNECTION:
        seen->connection = true;
        seen->close |= h1_list_has(header->value, "close");
        seen->keep_alive |= h1_list_has(header->value, "keep-alive");
        head->connection_upgrade |= h1_list_has(header->value, "upgrade");
        break;
    case H1_NAME_EXPECT:
        *(h1_slice_equal_nocase(header->value, "100-continue") ? &head->expect_continue
                                                               : &head->expect_other) = true;
        break;
    case H1_NAME_UPGRADE:
        head->upgrade_websocket |= h1_list_has(header->value, "websocket");
        break;
    default:
        break;
    }
    return H1_FAULT_NONE;
}

static void mark_listed(struct h1_head *head)
{
    for (size_t i = 0; i < head->header_count; i++) {
        if (head->headers[i].id != H1_NAME_CONNECTION) {
            continue;
        }
        struct h1_slice list = head->headers[i].value, token;
        while (list_next(&list, &token)) {
            for (size_t j = 0; j < head->header_count; j++) {
                struct h1_header *header = &head->headers[j];
                header->listed |= token.len == header->name.len && token.len > 0 &&
                                  strncasecmp(token.at, header->name.at, token.len) == 0;
            }
        }
    }
}

static bool is_valid_host(struct h1_slice host)
{
    if (host.len == 0 || host.len > 261) { /* 253 and ":65535", or a little more */
        return false;
    }
    for (size_t i = 0; i < host.len; i++) {
        char c = host.at[i];
        bool ok =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._:[]", c);
        if (!ok || c == '\0') {
            return false;
        }
    }
    return true;
}

/* "http://host/path" becomes Host and "/path" (RFC 9112 3.2.2): the target wins over the header. */
static enum h1_fault take_absolute_form(struct h1_head *head)
{
    struct h1_slice target = head->target;
    if (target.len > 0 && target.at[0] == '/') {
        return H1_FAULT_NONE;
    }
    size_t scheme = target.len > 7 && strncasecmp(target.at, "http://", 7) == 0    ? 7
                    : target.len > 8 && strncasecmp(target.at, "https://", 8) == 0 ? 8
                                                                                   : 0;
    if (scheme == 0) {
        return H1_FAULT_SYNTAX; /* "*" and authorities have nobody to go to */
    }
    size_t end = scheme;
    while (end < target.len && target.at[end] != '/' && target.at[end] != '?') {
        end++;
    }
    head->host = (struct h1_slice){target.at + scheme, end - scheme};
    head->target = (struct h1_slice){target.at + end, target.len - end};
    return H1_FAULT_NONE;
}

static enum h1_fault decide_request(struct h1_head *head, const struct seen *seen, const char *data)
{
    enum h1_fault fault = check_request_line(head, data);
    if (fault != H1_FAULT_NONE) {
        return fault;
    }
    if (seen->hosts != 1 || !is_valid_host(head->host)) {
        return H1_FAULT_HOST;
    }
    if ((fault = take_absolute_form(head)) != H1_FAULT_NONE) {
        return fault;
    }
    if (!is_valid_host(head->host)) {
        return H1_FAULT_HOST;
    }
    head->framing = seen->codings > 0          ? H1_BODY_CHUNKED
                    : head->content_length > 0 ? H1_BODY_LENGTH
                                               : H1_BODY_NONE;
    return H1_FAULT_NONE;
}

static enum h1_fault decide_response(struct h1_head *head, const struct seen *seen)
{
    if (head->status < 100 || head->status > 999) {
        return H1_FAULT_SYNTAX;
    }
    head->framing = seen->codings > 0          ? H1_BODY_CHUNKED
                    : head->has_content_length ? H1_BODY_LENGTH
                                               : H1_BODY_UNTIL_CLOSE;
    bool tells_body = seen->codings > 0 || head->content_length > 0;
    if (head->status < 200 && tells_body) {
        return H1_FAULT_LENGTH;
    }
    if (head->status == 204 && tells_body) {
        head->keep_alive = false; /* it may be on its way */
    }
    if (head->status < 200 || head->status == 204 || head->status == 304) {
        h1_head_without_body(head);
    }
    return H1_FAULT_NONE;
}

void h1_head_without_body(struct h1_head *head)
{
    head->framing = H1_BODY_NONE;
}

enum h1_fault h1_head_parse(struct h1_head *head, enum h1_kind kind, const char *data, size_t len)
{
    /* The header array is not cleared: header_count says what is valid. */
    memset(head, 0, offsetof(struct h1_head, headers));
    memset(&head->header_count, 0, sizeof(*head) - offsetof(struct h1_head, header_count));
    head->kind = kind;
    enum h1_fault fault = run_parser(head, data, len);
    struct seen seen = {0};
    for (size_t i = 0; fault == H1_FAULT_NONE && i < head->header_count; i++) {
        fault = check_header(head, &head->headers[i], &seen);
    }
    if (fault != H1_FAULT_NONE) {
        return fault;
    }
    if (seen.codings > 0 && (seen.lengths > 0 || head->minor == 0)) {
        return H1_FAULT_LENGTH;
    }
    if (seen.connection) {
        mark_listed(head);
    }
    head->keep_alive = !seen.close && (head->minor == 1 || seen.keep_alive);
    return kind == H1_REQUEST ? decide_request(head, &seen, data) : decide_response(head, &seen);
}
