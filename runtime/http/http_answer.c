/* The answer to a request: one write, or a stream. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/base/clock.h"
#include "runtime/base/text.h"
#include "runtime/http/http_guard.h"
#include "runtime/http/http_server_internal.h"
#include "runtime/http/problem.h"

#define RESPONSE_HEAD_MAX_BYTES 65536
/* Up to here head and body, or a chunk, go out by one write. */
#define ONE_WRITE_MAX_BYTES 65536
#define WRITE_STEP_BYTES    (1u << 20)

int http_answer_write(struct http_request *req, const void *data, size_t len, struct err *err)
{
    const char *at = data;
    while (len > 0) {
        size_t step = len < WRITE_STEP_BYTES ? len : WRITE_STEP_BYTES;
        http_guard_begin(clock_coarse_ms() + (req->from_elsewhere ? 0 : req->write_timeout_ms));
        int sent = mg_write(req->connection, at, step);
        http_guard_end();
        if (sent != (int)step) {
            req->close = true;
            return err_set(err, ERR_IO, "the client is gone");
        }
        at += step;
        len -= step;
    }
    return 0;
}

/* CivetWeb closes after the answer exactly if this is false: the Connection header must say the same. */
static bool keeps_alive(struct http_request *req)
{
    struct http_server *server = req->server;
    if (req->close || req->body_state != BODY_COMPLETE || atomic_load(&server->draining)) {
        return false;
    }
    if (server->settings.close_when_busy && atomic_load(&server->crowd.open) > server->settings.threads - 2) {
        return false;
    }
    if (server->settings.keep_alive_timeout_ms <= 0 || http_request_header(req, "Upgrade")) {
        return false;
    }
    const char *connection = http_request_header(req, "Connection");
    return connection ? http_list_has(connection, "keep-alive") : req->version_1_1;
}

static int append_head(struct http_request *req, struct strbuf *out, int status, enum http_framing framing,
                       size_t length, const struct http_header *headers, size_t header_count, struct err *err)
{
    if (!keeps_alive(req) || framing == HTTP_FRAMING_CLOSE) {
        req->close = true;
    }
    struct http_response_head head = {
        .status = status, .framing = framing, .length = length, .keep_alive = !req->close};
    return http_response_head_append(out, &head, headers, header_count, err);
}

int http_request_respond(struct http_request *req, int status, const struct http_header *headers,
                         size_t header_count, const void *body, size_t body_len, struct err *err)
{
    if (req->answer != ANSWER_NONE) {
        return err_set(err, ERR_INTERNAL, "a second answer to one request");
    }
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init_with(&out, req->answer_storage, sizeof(req->answer_storage),
                     RESPONSE_HEAD_MAX_BYTES + ONE_WRITE_MAX_BYTES);
    bool has_body = http_status_has_body(status);
    if (append_head(req, &out, status, has_body ? HTTP_FRAMING_LENGTH : HTTP_FRAMING_NONE, body_len, headers,
                    header_count, err) < 0) {
        return -1;
    }
    req->answer = ANSWER_DONE;
    if (req->is_head || !has_body) {
        body_len = 0;
    }
    bool together = body_len <= ONE_WRITE_MAX_BYTES && strbuf_append(&out, body, body_len) == 0;
    int rc = http_answer_write(req, out.buf, out.len, err);
    if (rc == 0 && !together) {
        rc = http_answer_write(req, body, body_len, err);
    }
    if (rc == 0) {
        req->sent_bytes = body_len;
    }
    if (req->from_elsewhere && req->socket >= 0) {
        /* CivetWeb closes it only when the handler returns; the peer is to see the end now. */
        shutdown(req->socket, SHUT_WR);
    }
    return rc;
}

void http_request_answer_from_elsewhere(struct http_request *req)
{
    http_guard_thread_init(stop_fd(&req->server->stop), &req->server->crowd);
    req->from_elsewhere = true;
    req->close = true;
}

int http_request_stream_begin(struct http_request *req, int status, const struct http_header *headers,
                              size_t header_count, struct err *err)
{
    if (req->answer != ANSWER_NONE) {
        return err_set(err, ERR_INTERNAL, "a second answer to one request");
    }
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, RESPONSE_HEAD_MAX_BYTES);
    enum http_framing framing = !http_status_has_body(status) ? HTTP_FRAMING_NONE
                                : req->version_1_1            ? HTTP_FRAMING_CHUNKED
                                                              : HTTP_FRAMING_CLOSE;
    if (append_head(req, &out, status, framing, 0, headers, header_count, err) < 0) {
        return -1;
    }
    req->answer = ANSWER_STREAMING;
    req->streamed = framing;
    req->sends_body = framing != HTTP_FRAMING_NONE && !req->is_head;
    return http_answer_write(req, out.buf, out.len, err);
}

static int write_chunk(struct http_request *req, const char *data, size_t len, struct err *err)
{
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, ONE_WRITE_MAX_BYTES + 32);
    strbuf_appendf(&out, "%zx\r\n", len);
    strbuf_append(&out, data, len);
    strbuf_append_str(&out, "\r\n");
    return http_answer_write(req, out.buf, out.len, err);
}

int http_request_stream_chunk(struct http_request *req, const void *data, size_t len, struct err *err)
{
    if (req->answer != ANSWER_STREAMING) {
        return err_set(err, ERR_INTERNAL, "a chunk outside of a streamed answer");
    }
    if (!req->sends_body) {
        return 0;
    }
    const char *at = data;
    while (len > 0) {
        size_t step = len < ONE_WRITE_MAX_BYTES ? len : ONE_WRITE_MAX_BYTES;
        if ((req->streamed == HTTP_FRAMING_CLOSE ? http_answer_write(req, at, step, err)
                                                 : write_chunk(req, at, step, err)) < 0) {
            return -1;
        }
        req->sent_bytes += step;
        at += step;
        len -= step;
    }
    return 0;
}

int http_request_stream_end(struct http_request *req, struct err *err)
{
    if (req->answer != ANSWER_STREAMING) {
        return err_set(err, ERR_INTERNAL, "the end of an answer that is not streamed");
    }
    req->answer = ANSWER_DONE;
    return req->sends_body && req->streamed == HTTP_FRAMING_CHUNKED
               ? http_answer_write(req, "0\r\n\r\n", 5, err)
               : 0;
}

void http_request_stream_timeout(struct http_request *req, int64_t timeout_ms)
{
    req->write_timeout_ms = timeout_ms;
}

/* Ends a connection with a reset, though CivetWeb has it open: it is not connected any more. */
static void reset_connection(int socket)
{
    const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    if (socket >= 0) {
        (void)connect(socket, &nowhere, sizeof(nowhere));
    }
}

void http_request_abort(struct http_request *req)
{
    /* Without a length and without chunks an orderly end would look like the whole. */
    if (req->answer == ANSWER_STREAMING && req->streamed == HTTP_FRAMING_CLOSE) {
        reset_connection(req->socket);
    }
    req->answer = ANSWER_DONE;
    req->close = true;
}

void http_request_cut(const struct http_request *req)
{
    reset_connection(req->socket);
}

void http_request_close_after(struct http_request *req)
{
    req->close = true;
}

static const struct http_header problem_headers[] = {{"Content-Type", PROBLEM_CONTENT_TYPE}};

/* The code is the status text: bad_request. */
static void append_problem(const struct http_server *server, struct strbuf *out, int status,
                           const char *detail)
{
    char code[48];
    snprintf(code, sizeof(code), "%s", http_status_text(status));
    ascii_lower(code);
    for (char *p = code; *p; p++) {
        *p = *p == ' ' ? '_' : *p;
    }
    struct problem problem = {
        .status = status, .code = code, .detail = detail, .component = server->settings.component};
    problem_print(&problem, /* request_id= */ NULL, out);
}

void http_answer_refuse(struct http_request *req, int status, const char *detail)
{
    CLEANUP_STRBUF struct strbuf body;
    strbuf_init(&body, PROBLEM_MAX_BYTES);
    append_problem(req->server, &body, status, detail);
    struct err err = ERR_INIT;
    http_request_close_after(req);
    (void)!http_request_respond(req, status, problem_headers, 1, body.buf, body.len, &err);
}

void http_connection_refuse(struct http_server *server, struct mg_connection *connection, int status,
                            const char *detail)
{
    atomic_fetch_add(&server->refused, 1);
    if (http_guard_expired()) {
        status = 408;
        detail = "the request head did not arrive in time";
    }
    struct err err = ERR_INIT;
    CLEANUP_STRBUF struct strbuf body, out;
    strbuf_init(&body, PROBLEM_MAX_BYTES);
    strbuf_init(&out, RESPONSE_HEAD_MAX_BYTES);
    append_problem(server, &body, status, detail);
    struct http_response_head head = {.status = status, .framing = HTTP_FRAMING_LENGTH, .length = body.len};
    if (http_response_head_append(&out, &head, problem_headers, 1, &err) == 0) {
        strbuf_append(&out, body.buf, body.len);
        http_guard_begin(clock_monotonic_ms() + HTTP_WRITE_TIMEOUT_MS);
        mg_write(connection, out.buf, out.len);
    }
}
