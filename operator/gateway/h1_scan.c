#include <string.h>

#include "operator/gateway/h1_head.h"

#define H1_EMPTY_LINES_MAX 2 /* before a request line (RFC 9112 2.2 asks for one) */

/* ---- faults ---- */

struct fault_text {
    int status;
    const char *code, *detail;
};

static const struct fault_text fault_texts[] = {
    [H1_FAULT_NONE] = {200, "ok", "No fault."},
    [H1_FAULT_SYNTAX] = {400, "malformed_request", "The request is not well-formed HTTP/1.1."},
    [H1_FAULT_LENGTH] = {400, "malformed_length",
                         "Content-Length is malformed, repeated, or given beside Transfer-Encoding."},
    [H1_FAULT_HOST] = {400, "malformed_host", "Exactly one well-formed Host is needed."},
    [H1_FAULT_CODING] = {501, "coding_not_supported", "The only transfer coding understood is chunked."},
    [H1_FAULT_METHOD] = {501, "method_not_supported", "The method is not known here."},
    [H1_FAULT_VERSION] = {505, "version_not_supported", "HTTP/1.1 and HTTP/1.0 are understood."},
    [H1_FAULT_TARGET_TOO_LONG] = {414, "uri_too_long", "The request target is longer than 8192 bytes."},
    [H1_FAULT_HEAD_TOO_LARGE] = {431, "headers_too_large",
                                 "The request's headers are larger than 16384 bytes."},
    [H1_FAULT_TOO_MANY_HEADERS] = {431, "too_many_headers", "The request has more than 56 headers."},
    [H1_FAULT_CHUNK] = {400, "malformed_chunk", "The chunked body is malformed."},
};

int h1_fault_status(enum h1_fault fault)
{
    return fault_texts[fault].status;
}

const char *h1_fault_code(enum h1_fault fault)
{
    return fault_texts[fault].code;
}

const char *h1_fault_detail(enum h1_fault fault)
{
    return fault_texts[fault].detail;
}

size_t h1_headers_max(enum h1_kind kind)
{
    return kind == H1_REQUEST ? H1_REQUEST_HEADERS_MAX : H1_RESPONSE_HEADERS_MAX;
}

/* ---- finding the end ---- */

void h1_scan_init(struct h1_scan *scan, enum h1_kind kind)
{
    *scan = (struct h1_scan){.kind = kind};
}

static size_t head_bytes_max(enum h1_kind kind)
{
    return kind == H1_REQUEST ? H1_REQUEST_HEAD_BYTES_MAX : H1_RESPONSE_HEAD_BYTES_MAX;
}

/* A line of `len` bytes without its CRLF is complete. */
static enum h1_fault scan_line(struct h1_scan *scan, const char *line, size_t len, size_t line_end,
                               bool *ret_done)
{
    *ret_done = false;
    bool first = scan->line_start == scan->start;
    if (first && len == 0) {
        if (scan->kind == H1_RESPONSE || line_end > 2 * H1_EMPTY_LINES_MAX) {
            return H1_FAULT_SYNTAX;
        }
        scan->start = (uint32_t)line_end;
        return H1_FAULT_NONE;
    }
    if (len == 0) {
        *ret_done = true;
        return H1_FAULT_NONE;
    }
    if (first) {
        return H1_FAULT_NONE;
    }
    if ((line[0] == ' ' || line[0] == '\t')) {
        return H1_FAULT_SYNTAX; /* folded */
    }
    return ++scan->headers > h1_headers_max(scan->kind) ? H1_FAULT_TOO_MANY_HEADERS : H1_FAULT_NONE;
}

/* Limits that hold for a complete line (its end is exclusive) as for what is there of one, so that the verdict does not
 * depend on how the bytes came. */
static enum h1_fault scan_limits(const struct h1_scan *scan, size_t end)
{
    bool first = scan->line_start == scan->start;
    if (scan->kind == H1_REQUEST && first && end - scan->start > H1_TARGET_BYTES_MAX + 2) {
        return H1_FAULT_TARGET_TOO_LONG; /* method and version are short: an over-long line is an over-long target */
    }
    return end - scan->start > head_bytes_max(scan->kind) ? H1_FAULT_HEAD_TOO_LARGE : H1_FAULT_NONE;
}

enum h1_fault h1_scan_feed(struct h1_scan *scan, const char *data, size_t len, size_t *ret_end)
{
    *ret_end = 0;
    size_t limit = head_bytes_max(scan->kind) + 2 * H1_EMPTY_LINES_MAX + 1;
    size_t usable = len < limit ? len : limit;
    while (scan->scanned < usable) {
        const char *newline = memchr(data + scan->scanned, '\n', usable - scan->scanned);
        if (!newline) {
            scan->scanned = (uint32_t)usable;
            break;
        }
        size_t end = (size_t)(newline - data) + 1;
        enum h1_fault fault = scan_limits(scan, end);
        if (fault != H1_FAULT_NONE) {
            return fault;
        }
        size_t line_len = end - scan->line_start - 1;
        if (line_len == 0 || newline[-1] != '\r') {
            return H1_FAULT_SYNTAX; /* bare LF */
        }
        bool done;
        fault = scan_line(scan, data + scan->line_start, line_len - 1, end, &done);
        if (fault != H1_FAULT_NONE) {
            return fault;
        }
        scan->scanned = scan->line_start = (uint32_t)end;
        if (done) {
            *ret_end = end;
            return H1_FAULT_NONE;
        }
    }
    return scan_limits(scan, usable);
}
