/* http_message.h - texts of HTTP/1.1 messages, without any socket. Internal to runtime/http. */
#ifndef CICADA_HTTP_HTTP_MESSAGE_H
#define CICADA_HTTP_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/strbuf.h"
#include "runtime/http/http_server.h"

enum http_framing {
    HTTP_FRAMING_NONE,    /* no body and no length: 204, 304 */
    HTTP_FRAMING_LENGTH,  /* Content-Length */
    HTTP_FRAMING_CHUNKED, /* Transfer-Encoding: chunked */
    HTTP_FRAMING_CLOSE,   /* until the connection closes */
};

struct http_response_head {
    int status;
    enum http_framing framing;
    size_t length;
    bool keep_alive;
};

/* Appends status line and headers up to the empty line. Those that belong to the server (Connection, Content-Length, Date,
 * Keep-Alive, Transfer-Encoding, Upgrade) are left out of `headers`. ERR_INVALID for a status, name or value that HTTP
 * does not allow: nothing is appended then. */
int http_response_head_append(struct strbuf *out, const struct http_response_head *head,
                              const struct http_header *headers, size_t header_count,
                              struct err *err) MUST_CHECK;

/* 204 and 304 never have one. */
bool http_status_has_body(int status);
/* True if the comma-separated list has the token, case ignored. */
bool http_list_has(const char *list, const char *token);

/* How the body of a request is delimited, from its headers. */
struct http_body_framing {
    bool chunked;
    int64_t content_length; /* 0 without a body; 0 if chunked */
};
/* ERR_INVALID for what a strict parser must refuse: see http_server.h. version_1_1: the request says HTTP/1.1. */
int http_request_headers_check(const struct http_header *headers, size_t count, bool version_1_1,
                               struct http_body_framing *ret_framing, struct err *err) MUST_CHECK;

#endif
