/* h1_head.h - heads of HTTP/1.1 messages, strictly.
 *
 * A head is found first (h1_scan_feed(), any number of pieces) and parsed whole. http_parser checks tokens, target and
 * version; what it lets through and the next parser might read differently is refused here: bare LF, folded lines,
 * spaces before a colon or around the target, repeated or malformed lengths, Content-Length beside Transfer-Encoding,
 * codings other than chunked, missing or repeated Host. No type of http_parser is in this interface.
 *
 * Ownership: slices of a head borrow the bytes given to h1_head_parse().
 * Threads: none of its own.
 */
#ifndef CICADA_GATEWAY_H1_HEAD_H
#define CICADA_GATEWAY_H1_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define H1_TARGET_BYTES_MAX        8192
#define H1_REQUEST_HEAD_BYTES_MAX  16384
#define H1_RESPONSE_HEAD_BYTES_MAX 32768
#define H1_REQUEST_HEADERS_MAX     56
#define H1_RESPONSE_HEADERS_MAX    128

/* Why a message is refused; H1_FAULT_NONE is 0. */
enum h1_fault {
    H1_FAULT_NONE,
    H1_FAULT_SYNTAX,
    H1_FAULT_LENGTH,
    H1_FAULT_HOST,
    H1_FAULT_CODING,
    H1_FAULT_METHOD,
    H1_FAULT_VERSION,
    H1_FAULT_TARGET_TOO_LONG,
    H1_FAULT_HEAD_TOO_LARGE,
    H1_FAULT_TOO_MANY_HEADERS,
    H1_FAULT_CHUNK,
};

struct h1_slice {
    const char *at;
    size_t len;
};

/* Headers that a proxy treats in a way of their own. */
enum h1_name {
    H1_NAME_OTHER,
    H1_NAME_HOST,
    H1_NAME_CONTENT_LENGTH,
    H1_NAME_TRANSFER_ENCODING,
    H1_NAME_CONNECTION,
    H1_NAME_HOP, /* Keep-Alive, Proxy-*, TE, Trailer, HTTP2-Settings */
    H1_NAME_UPGRADE,
    H1_NAME_EXPECT,
    H1_NAME_DATE,
    H1_NAME_REQUEST_ID,
    H1_NAME_TRACEPARENT,
    H1_NAME_TRACESTATE,
    H1_NAME_FORWARDED, /* Forwarded, X-Forwarded-* */
    H1_NAME_CICADA,    /* X-Cicada-* */
};

struct h1_header {
    struct h1_slice name, value; /* value without space around it */
    enum h1_name id;
    bool listed; /* named by Connection: meant for this hop only */
};

enum h1_kind { H1_REQUEST, H1_RESPONSE };
enum h1_framing { H1_BODY_NONE, H1_BODY_LENGTH, H1_BODY_CHUNKED, H1_BODY_UNTIL_CLOSE };
enum h1_method {
    H1_METHOD_GET,
    H1_METHOD_HEAD,
    H1_METHOD_OPTIONS,
    H1_METHOD_CONNECT,
    H1_METHOD_OTHER,
};

struct h1_head {
    enum h1_kind kind;
    int minor; /* HTTP/1.<minor> */
    enum h1_method method;
    struct h1_slice method_text, target; /* requests */
    int status;                          /* responses */
    struct h1_slice reason;
    struct h1_header headers[H1_RESPONSE_HEADERS_MAX];
    size_t header_count;
    enum h1_framing framing;
    uint64_t content_length; /* framing H1_BODY_LENGTH, or told by an answer without a body (HEAD, 304) */
    bool has_content_length;
    bool keep_alive;
    bool expect_continue, expect_other;
    bool upgrade_websocket, connection_upgrade; /* what Upgrade and Connection list */
    struct h1_slice host;
};

/* ---- finding the end (h1_scan.c) ---- */
size_t h1_headers_max(enum h1_kind kind);
struct h1_scan {
    enum h1_kind kind;
    uint32_t start;      /* of the head: empty lines before a request are skipped */
    uint32_t line_start; /* of the line that is not complete yet */
    uint32_t scanned;    /* bytes looked at */
    uint32_t headers;    /* lines complete */
};
void h1_scan_init(struct h1_scan *scan, enum h1_kind kind);
/* data is everything since h1_scan_init(), len grows from call to call. *ret_end 0: more is needed; else the head is
 * data[scan->start .. *ret_end). */
enum h1_fault h1_scan_feed(struct h1_scan *scan, const char *data, size_t len, size_t *ret_end);

/* ---- parsing ---- */
enum h1_fault h1_head_parse(struct h1_head *head, enum h1_kind kind, const char *data, size_t len);
/* An answer's body depends on the request: none for HEAD, 1xx, 204, 304. */
void h1_head_without_body(struct h1_head *head);

/* What the client is told; for responses the caller has a word of its own. */
int h1_fault_status(enum h1_fault fault);
const char *h1_fault_code(enum h1_fault fault);   /* "malformed_request", ... */
const char *h1_fault_detail(enum h1_fault fault); /* a sentence */

/* Space-free, case-insensitive search in a comma-separated list. */
bool h1_list_has(struct h1_slice list, const char *token);
bool h1_slice_equal_nocase(struct h1_slice slice, const char *text);

#endif
