#include "runtime/http/http_message.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

/* Status line, Date, Connection, framing, empty line; the longest reason phrase has 31 bytes. */
#define HEAD_OWN_MAX_BYTES 256
#define DATE_SIZE          30

static const struct {
    int status;
    const char *text;
} reason_phrases[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

const char *http_status_text(int status)
{
    for (size_t i = 0; i < ARRAY_SIZE(reason_phrases); i++) {
        if (reason_phrases[i].status == status) {
            return reason_phrases[i].text;
        }
    }
    return "Unknown";
}

bool http_status_has_body(int status)
{
    return status != 204 && status != 304;
}

/* Formatted once a second and thread. */
static const char *date_now(void)
{
    static _Thread_local char text[DATE_SIZE];
    static _Thread_local time_t formatted = -1;
    time_t now = time(NULL);
    if (now != formatted) {
        struct tm parts;
        gmtime_r(&now, &parts);
        strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
        formatted = now;
    }
    return text;
}

static bool is_token(const char *text)
{
    static const bool allowed[256] = {
        ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['!'] = true,  ['#'] = true,
        ['$'] = true,         ['%'] = true,         ['&'] = true,         ['\''] = true, ['*'] = true,
        ['+'] = true,         ['-'] = true,         ['.'] = true,         ['^'] = true,  ['_'] = true,
        ['`'] = true,         ['|'] = true,         ['~'] = true,
    };
    const char *p = text;
    while (allowed[(unsigned char)*p]) {
        p++;
    }
    return *p == '\0' && p > text;
}

bool http_name_is(const char *name, const char *expected)
{
    return (name[0] | 0x20) == (expected[0] | 0x20) && strcasecmp(name, expected) == 0;
}

static bool is_field_value(const char *text)
{
    static const bool refused[256] = {[0 ... 8] = true, [10 ... 0x1F] = true, [0x7F] = true};
    const char *p = text;
    while (!refused[(unsigned char)*p]) {
        p++;
    }
    return *p == '\0';
}

bool http_header_is_valid(const char *name, const char *value)
{
    return is_token(name) && is_field_value(value);
}

static bool is_servers_own(const char *name)
{
    static const char *const names[] = {"Connection", "Content-Length",    "Date",
                                        "Keep-Alive", "Transfer-Encoding", "Upgrade"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (http_name_is(name, names[i])) {
            return true;
        }
    }
    return false;
}

static int check_head(const struct http_response_head *head, const struct http_header *headers, size_t count,
                      struct err *err)
{
    if (head->status < 200 || head->status > 599) {
        return err_set(err, ERR_INVALID, "HTTP status %d is not within 200 to 599", head->status);
    }
    for (size_t i = 0; i < count; i++) {
        if (!http_header_is_valid(headers[i].name, headers[i].value)) {
            return err_set(err, ERR_INVALID,
                           "response header \"%.64s\" has a name or value that HTTP does not allow",
                           headers[i].name);
        }
    }
    return 0;
}

/* An upper limit, so that the head needs no check of its room piece by piece. */
static size_t head_max_bytes(const struct http_header *headers, size_t count)
{
    size_t bytes = HEAD_OWN_MAX_BYTES;
    for (size_t i = 0; i < count; i++) {
        bytes += strlen(headers[i].name) + strlen(headers[i].value) + strlen(": \r\n");
    }
    return bytes;
}

static char *put(char *at, const char *text)
{
    size_t len = strlen(text);
    memcpy(at, text, len);
    return at + len;
}

/* Without printf(), which would take as long as all the rest of an answer. */
static char *put_own(char *at, const struct http_response_head *head)
{
    at = put(at, "HTTP/1.1 ");
    at += format_uint64((uint64_t)head->status, at);
    at = put(at, " ");
    at = put(at, http_status_text(head->status));
    at = put(at, "\r\nDate: ");
    at = put(at, date_now());
    at = put(at, head->keep_alive ? "\r\nConnection: keep-alive\r\n" : "\r\nConnection: close\r\n");
    if (head->framing == HTTP_FRAMING_LENGTH) {
        at = put(at, "Content-Length: ");
        at += format_uint64(head->length, at);
        at = put(at, "\r\n");
    } else if (head->framing == HTTP_FRAMING_CHUNKED) {
        at = put(at, "Transfer-Encoding: chunked\r\n");
    }
    return at;
}

int http_response_head_append(struct strbuf *out, const struct http_response_head *head,
                              const struct http_header *headers, size_t header_count, struct err *err)
{
    if (check_head(head, headers, header_count, err) < 0) {
        return -1;
    }
    char *start = strbuf_reserve(out, head_max_bytes(headers, header_count));
    if (!start) {
        return err_set(err, ERR_TOO_LARGE, "response headers are larger than %zu bytes", out->cap);
    }
    char *at = put_own(start, head);
    for (size_t i = 0; i < header_count; i++) {
        if (!is_servers_own(headers[i].name)) {
            at = put(at, headers[i].name);
            at = put(at, ": ");
            at = put(at, headers[i].value);
            at = put(at, "\r\n");
        }
    }
    at = put(at, "\r\n");
    strbuf_advance(out, (size_t)(at - start));
    return 0;
}

bool http_list_has(const char *list, const char *token)
{
    while (*list) {
        list += strspn(list, ", \t");
        size_t len = strcspn(list, ", \t");
        if (len > 0 && ascii_equal_nocase(list, len, token)) {
            return true;
        }
        list += len;
    }
    return false;
}

/* What http_request_headers_check() has seen so far. */
struct seen {
    int hosts;
    const char *content_length, *transfer_encoding;
};

static int see_header(const struct http_header *header, struct seen *seen, struct err *err)
{
    if (!is_token(header->name)) {
        return err_set(err, ERR_INVALID, "malformed header name");
    }
    if (http_name_is(header->name, "Host")) {
        seen->hosts++;
    } else if (http_name_is(header->name, "Content-Length")) {
        if (seen->content_length) {
            return err_set(err, ERR_INVALID, "repeated Content-Length");
        }
        seen->content_length = header->value;
    } else if (http_name_is(header->name, "Transfer-Encoding")) {
        if (seen->transfer_encoding) {
            return err_set(err, ERR_INVALID, "repeated Transfer-Encoding");
        }
        seen->transfer_encoding = header->value;
    }
    return 0;
}

int http_request_headers_check(const struct http_header *headers, size_t count, bool version_1_1,
                               struct http_body_framing *ret_framing, struct err *err)
{
    struct seen seen = {0};
    for (size_t i = 0; i < count; i++) {
        if (see_header(&headers[i], &seen, err) < 0) {
            return -1;
        }
    }
    if (seen.hosts > 1 || (seen.hosts == 0 && version_1_1)) {
        return err_set(err, ERR_INVALID, seen.hosts > 1 ? "repeated Host" : "missing Host");
    }
    struct http_body_framing framing = {0};
    if (seen.transfer_encoding) {
        if (seen.content_length) {
            return err_set(err, ERR_INVALID, "Transfer-Encoding together with Content-Length");
        }
        if (!version_1_1 || strcasecmp(seen.transfer_encoding, "chunked") != 0) {
            return err_set(err, ERR_INVALID, "unsupported Transfer-Encoding");
        }
        framing.chunked = true;
    }
    if (seen.content_length) {
        const char *text = seen.content_length;
        if (*text == '-' || !parse_int64(text, 0, INT64_MAX, &framing.content_length)) {
            return err_set(err, ERR_INVALID, "malformed Content-Length");
        }
    }
    *ret_framing = framing;
    return 0;
}
