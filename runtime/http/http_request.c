#include <civetweb.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "runtime/base/clock.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/http/http_guard.h"
#include "runtime/http/http_message.h"
#include "runtime/http/http_server_internal.h"

/* Bytes of a body of known length that are read at once; of a chunked one. */
#define SIZED_STEP_BYTES 65536
#define BODY_STEP_BYTES  16384
/* An answer that comes before the body was read reaches the client only if its body is taken for a while. */
#define LINGER_MS        500
#define LINGER_MAX_BYTES (4u << 20)
/* Requests behind an answer that closes the connection would have the same effect. */
#define UNSENT_LINGER_MS 30000
#define UNSENT_STEP_MS   5 /* no event tells what the client has taken */

static void http_request_init(struct http_request *req, struct http_server *server,
                              struct mg_connection *connection, unsigned lane)
{
    /* Field by field: zeroing all headers would cost more than the rest. */
    req->server = server;
    req->connection = connection;
    req->info = mg_get_request_info(connection);
    req->lane = lane;
    req->header_count = 0;
    req->version_1_1 = strcmp(req->info->http_version, "1.1") == 0;
    req->is_head = strcmp(req->info->request_method, "HEAD") == 0;
    req->framing = (struct http_body_framing){0};
    req->expects_continue = false;
    req->body_state = BODY_UNREAD;
    strbuf_init(&req->body, (size_t)server->settings.max_body_bytes);
    req->reused = mg_get_user_connection_data(connection) != NULL;
    req->answer = ANSWER_NONE;
    req->sent_bytes = 0;
    req->write_timeout_ms = HTTP_WRITE_TIMEOUT_MS;
    req->close = false;
    req->from_elsewhere = false;
    req->socket = http_guard_socket();
    req->sends_body = false;
    req->streamed = HTTP_FRAMING_NONE;
}

const char *http_request_method(const struct http_request *req)
{
    return req->info->request_method;
}

const char *http_request_raw_path(const struct http_request *req)
{
    return req->info->local_uri_raw;
}

const char *http_request_query(const struct http_request *req)
{
    return req->info->query_string;
}

const char *http_request_header(const struct http_request *req, const char *name)
{
    for (size_t i = 0; i < req->header_count; i++) {
        if (http_name_is(req->headers[i].name, name)) {
            return req->headers[i].value;
        }
    }
    return NULL;
}

size_t http_request_header_count(const struct http_request *req)
{
    return req->header_count;
}

const struct http_header *http_request_headers(const struct http_request *req)
{
    return req->headers;
}

const char *http_request_remote_ip(const struct http_request *req)
{
    return req->info->remote_addr;
}

bool http_request_is_reused(const struct http_request *req)
{
    return req->reused;
}

unsigned http_request_lane(const struct http_request *req)
{
    return req->lane;
}

size_t http_request_received_bytes(const struct http_request *req)
{
    return req->body.len;
}

size_t http_request_sent_bytes(const struct http_request *req)
{
    return req->sent_bytes;
}

/* ---- the body ---- */

static int body_failed(struct http_request *req)
{
    struct err *err = &req->body_err;
    req->body_state = BODY_FAILED;
    req->close = true;
    if (http_guard_expired()) {
        return err_set(err, ERR_TIMEOUT, "the request body did not arrive in time");
    }
    if (stop_is_set(&req->server->stop)) {
        return err_set(err, ERR_IO, "the server is stopping");
    }
    if (req->framing.chunked && !http_guard_peer_closed()) {
        return err_set(err, ERR_INVALID, "malformed chunked body");
    }
    return err_set(err, ERR_IO, "the client ended the connection within the request body");
}

static int body_too_large(struct http_request *req)
{
    req->body_state = BODY_FAILED;
    req->close = true;
    return err_set(&req->body_err, ERR_TOO_LARGE, "the request body is larger than %" PRId64 " bytes",
                   req->server->settings.max_body_bytes);
}

static int guarded_read(struct http_request *req, int64_t deadline_ms, char *out, size_t len)
{
    http_guard_begin(deadline_ms);
    int got = mg_read(req->connection, out, len);
    http_guard_end();
    return got;
}

static int read_sized(struct http_request *req, int64_t deadline_ms)
{
    while (req->body.len < (size_t)req->framing.content_length) {
        size_t left = (size_t)req->framing.content_length - req->body.len;
        size_t step = left < SIZED_STEP_BYTES ? left : SIZED_STEP_BYTES;
        int got = guarded_read(req, deadline_ms, strbuf_reserve(&req->body, step), step);
        if (got <= 0) {
            return body_failed(req);
        }
        strbuf_advance(&req->body, (size_t)got);
    }
    return 0;
}

static int read_chunked(struct http_request *req, int64_t deadline_ms)
{
    for (;;) {
        size_t room = req->body.cap - req->body.len;
        size_t step = room < BODY_STEP_BYTES ? room : BODY_STEP_BYTES;
        /* At the limit one byte more tells whether this was the end. */
        char beyond;
        char *out = room > 0 ? strbuf_reserve(&req->body, step) : &beyond;
        int got = guarded_read(req, deadline_ms, out, room > 0 ? step : 1);
        if (got == 0) {
            return 0;
        }
        if (got < 0) {
            return body_failed(req);
        }
        if (room == 0) {
            return body_too_large(req);
        }
        strbuf_advance(&req->body, (size_t)got);
    }
}

static int read_body(struct http_request *req, int64_t deadline_ms)
{
    if (req->framing.content_length > req->server->settings.max_body_bytes) {
        return body_too_large(req);
    }
    if (req->expects_continue) {
        static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
        req->expects_continue = false;
        if (http_answer_write(req, line, sizeof(line) - 1, &req->body_err) < 0) {
            req->body_state = BODY_FAILED;
            return -1;
        }
    }
    if ((req->framing.chunked ? read_chunked(req, deadline_ms) : read_sized(req, deadline_ms)) < 0) {
        return -1;
    }
    req->body_state = BODY_COMPLETE;
    return 0;
}

int http_request_body(struct http_request *req, int64_t deadline_ms, const char **ret_body, size_t *ret_len,
                      struct err *err)
{
    if (req->body_state == BODY_FAILED ||
        (req->body_state == BODY_UNREAD && read_body(req, deadline_ms) < 0)) {
        *err = req->body_err;
        return -1;
    }
    *ret_body = req->body.buf;
    *ret_len = req->body.len;
    return 0;
}

/* Closing a socket with unread data resets the connection, and the answer may be lost with it: take some of the body. */
static void linger(struct http_request *req)
{
    if (req->body_state == BODY_COMPLETE || req->expects_continue || http_guard_peer_closed()) {
        return;
    }
    int64_t deadline_ms = clock_monotonic_ms() + LINGER_MS;
    char dropped[BODY_STEP_BYTES];
    for (size_t total = 0; total < LINGER_MAX_BYTES; total += sizeof(dropped)) {
        if (guarded_read(req, deadline_ms, dropped, sizeof(dropped)) <= 0) {
            break;
        }
    }
}

/* Takes and drops what there is, or comes within a step. False: the peer is gone. */
static bool drop_input(int fd, size_t *total)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN | POLLRDHUP};
    char dropped[BODY_STEP_BYTES];
    if (poll(&entry, 1, UNSENT_STEP_MS) == 0) {
        return true;
    }
    ssize_t got = recv(fd, dropped, sizeof(dropped), MSG_DONTWAIT);
    *total += got > 0 ? (size_t)got : 0;
    return got > 0 || (got < 0 && errno == EAGAIN);
}

/* Likewise with requests behind this one, which nobody will read, be they here or on their way: if the client has not even been
 * sent all of the answer, until it has taken it. */
static void let_answer_arrive(struct http_request *req)
{
    int fd = http_guard_socket(), unsent = 0, unread = 0, untaken = 1;
    if (req->body_state != BODY_COMPLETE || req->from_elsewhere || fd < 0 ||
        ioctl(fd, SIOCOUTQNSD, &unsent) < 0 || ioctl(fd, FIONREAD, &unread) < 0 ||
        (unsent == 0 && unread == 0)) {
        return;
    }
    shutdown(fd, SHUT_WR);
    int64_t deadline_ms = clock_monotonic_ms() + UNSENT_LINGER_MS;
    for (size_t total = 0; total < LINGER_MAX_BYTES && drop_input(fd, &total);) {
        if (ioctl(fd, SIOCOUTQ, &untaken) < 0 || untaken == 0 || deadline_left_ms(deadline_ms) == 0 ||
            stop_is_set(&req->server->stop)) {
            return;
        }
    }
}

/* Optional space at the end is not part of a value. The text is CivetWeb's buffer of this request, ours to write. */
static void trim_end(const char *value, const char *end)
{
    union {
        const char *borrowed;
        char *writable;
    } last = {.borrowed = end};
    while (last.borrowed > value && last.borrowed[-1] == ' ') {
        *--last.writable = '\0';
    }
}

/* CivetWeb's parser ends quietly at a folded line or at the 65th header, and takes bare line feeds and spaces before the colon.
 * It works in place: a well-formed line "name: value\r\n" leaves NULs for the colon and the line end, and nothing else. So the
 * lines must adjoin, and the empty line must follow the last. */
static int take_headers(struct http_request *req, struct err *err)
{
    const struct mg_request_info *info = req->info;
    const char *limit = info->request_method + HTTP_REQUEST_HEAD_MAX_BYTES;
    const char *line_end = info->http_version + strlen(info->http_version);
    for (int i = 0; i < info->num_headers; i++) {
        const char *name = info->http_headers[i].name, *value = info->http_headers[i].value;
        const char *colon = name + strlen(name);
        if (name != line_end + 2 || (value > colon + 1 && colon[1] == '\0')) {
            return err_set(err, ERR_INVALID, "malformed header line");
        }
        line_end = value + strlen(value);
        trim_end(value, line_end);
        req->headers[i] = (struct http_header){.name = name, .value = value};
    }
    req->header_count = (size_t)info->num_headers;
    bool complete = line_end + 3 < limit && line_end[1] == '\0' && line_end[3] == '\0' &&
                    line_end[2] == (info->num_headers > 0 ? '\r' : '\0');
    if (complete) {
        return 0;
    }
    if (info->num_headers == HTTP_HEADERS_MAX) {
        return err_set(err, ERR_TOO_LARGE, "more than %d headers", HTTP_HEADERS_MAX);
    }
    return err_set(err, ERR_INVALID, "malformed header line");
}

/* ---- one request ---- */

static void serve(struct http_request *req)
{
    struct http_server *server = req->server;
    struct err err;
    err_clear(&err);
    if (take_headers(req, &err) < 0 ||
        http_request_headers_check(req->headers, req->header_count, req->version_1_1, &req->framing, &err) <
            0) {
        atomic_fetch_add(&server->refused, 1);
        http_answer_refuse(req, err.code == ERR_TOO_LARGE ? 431 : 400, err.msg);
        return;
    }
    const char *expect = http_request_header(req, "Expect");
    req->expects_continue = expect && req->version_1_1;
    if (expect && strcasecmp(expect, "100-continue") != 0) {
        atomic_fetch_add(&server->refused, 1);
        http_answer_refuse(req, 417, "only 100-continue is supported");
        return;
    }
    if (!req->framing.chunked && req->framing.content_length == 0) {
        req->body_state = BODY_COMPLETE;
        req->expects_continue = false;
    }
    server->settings.handler(server->settings.handler_arg, req);
    if (req->answer == ANSWER_STREAMING) {
        http_request_abort(req);
    } else if (req->answer == ANSWER_NONE) {
        http_answer_refuse(req, 500, "the handler gave no answer");
    }
}

void http_request_serve(struct http_server *server, struct mg_connection *connection, unsigned lane)
{
    struct http_request *req = block_cache_take(server->requests);
    http_request_init(req, server, connection, lane);
    serve(req);
    mg_set_user_connection_data(connection, server); /* tells the next request that it is not the first */
    if (req->close) {
        linger(req);
        let_answer_arrive(req);
        mg_disable_connection_keep_alive(connection);
    }
    strbuf_release(&req->body);
    block_cache_give(server->requests, req);
}
