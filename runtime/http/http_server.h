/* http_server.h - CivetWeb, wrapped whole: no mg_* name is used outside of this folder.
 *
 * For admin ports (operator, gateway, runtime) and for the runtime's function port. Settings follow measured rules:
 * tcp_nodelay, one write per answer, no document root, keep-alive on, own deadlines on bodies, thread stacks of at
 * least 1 MiB (pthread_attr_setstacksize is wrapped in http_guard.c, because CivetWeb asks for 100 KB; so is poll, for
 * exact deadlines and a prompt stop).
 *
 * Strictness that CivetWeb 1.15 lacks is added before the handler runs: Transfer-Encoding together with
 * Content-Length, repeated or malformed Content-Length, missing Host under HTTP/1.1: 400; more than 64 headers: 431; the
 * connection is closed. A body above max_body_bytes is not read: the handler learns it from http_request_body(). `Expect: 100-continue` is answered before the body is read.
 *
 * Threads: the handler runs on CivetWeb's worker threads, many at once; one worker belongs to one connection until
 * it closes. Ownership: struct http_request is valid during the handler call only.
 */
#ifndef CICADA_HTTP_HTTP_SERVER_H
#define CICADA_HTTP_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct http_server;
struct http_request;

struct http_header {
    const char *name;
    const char *value;
};

#define HTTP_HEADERS_MAX 64

/* Everything below is borrowed from the request. */
const char *http_request_method(const struct http_request *req);
/* Percent-encoded, as received, without query. */
const char *http_request_raw_path(const struct http_request *req);
const char *http_request_query(const struct http_request *req); /* without '?'; NULL if none */
/* The first of that name, case ignored, or NULL. */
const char *http_request_header(const struct http_request *req, const char *name);
size_t http_request_header_count(const struct http_request *req);
const struct http_header *http_request_headers(const struct http_request *req);
const char *http_request_remote_ip(const struct http_request *req);
bool http_request_is_reused(const struct http_request *req); /* not the first of its connection */
/* The thread that serves it, as a number below settings.threads: figures that are kept by lane cost no other thread its line of cache.
 * Nearly always a lane is one thread's; it may be that of several. */
#define HTTP_LANE_BYTES 64
unsigned http_request_lane(const struct http_request *req);
/* Reads the body to its end or `deadline_ms` (monotonic). ERR_TOO_LARGE, ERR_TIMEOUT, ERR_IO (peer gone), ERR_INVALID.
 * The bytes belong to the request. May be called once more: gives the same bytes. */
int http_request_body(struct http_request *req, int64_t deadline_ms, const char **ret_body, size_t *ret_len,
                      struct err *err) MUST_CHECK;

/* Sends the whole answer by one write (two above 64 KiB). Content-Length, Date and Connection are added. For HEAD,
 * 204 and 304 the body is not sent. Exactly one answer per request; a handler that sends none gives 500. */
int http_request_respond(struct http_request *req, int status, const struct http_header *headers,
                         size_t header_count, const void *body, size_t body_len, struct err *err) MUST_CHECK;
/* Streaming: headers first, chunks after (Transfer-Encoding: chunked; HTTP/1.0: until close), then end. abort: cuts the
 * connection, so that the peer sees an incomplete answer. */
int http_request_stream_begin(struct http_request *req, int status, const struct http_header *headers,
                              size_t header_count, struct err *err) MUST_CHECK;
int http_request_stream_chunk(struct http_request *req, const void *data, size_t len,
                              struct err *err) MUST_CHECK;
int http_request_stream_end(struct http_request *req, struct err *err) MUST_CHECK;
void http_request_abort(struct http_request *req);
/* For each chunk: a peer that takes longer for it loses its connection (30 s unless said). */
void http_request_stream_timeout(struct http_request *req, int64_t timeout_ms);
/* For another thread, while the handler's own streams: resets the connection, so that what it writes fails from now on. */
void http_request_cut(const struct http_request *req);
/* Bytes so far of the two bodies, without heads and framing. */
size_t http_request_received_bytes(const struct http_request *req);
size_t http_request_sent_bytes(const struct http_request *req);
/* For another thread, while the handler's own keeps off `req` until the answer is complete: the next answer is sent without
 * waiting (a peer that does not read loses it) and ends the connection; the handler gives none then. */
void http_request_answer_from_elsewhere(struct http_request *req);
/* This answer says `Connection: close`. */
void http_request_close_after(struct http_request *req);

typedef void http_handler_fn(void *arg, struct http_request *req);

struct http_server_settings {
    const char *listen; /* "0.0.0.0:8080", IPv4 only; borrowed for the start; port 0 picks a free one */
    int threads;        /* worker threads = connections served at once */
    int64_t max_body_bytes;
    const char *component;         /* in errors of this layer, "runtime"; borrowed; NULL: none */
    int64_t header_timeout_ms;     /* whole request line and headers */
    int64_t keep_alive_timeout_ms; /* idle between requests */
    size_t stack_bytes;            /* of a worker thread; less than 1 MiB: 1 MiB */
    bool close_when_busy;          /* answers carry Connection: close when fewer than 2 workers are free */
    http_handler_fn *handler;
    void *handler_arg;
};

int http_server_start(const struct http_server_settings *settings, struct http_server **ret_server,
                      struct err *err) MUST_CHECK;
int http_server_port(const struct http_server *server);
int http_server_in_flight(const struct http_server *server);   /* requests inside the handler */
int http_server_connections(const struct http_server *server); /* open, idle ones too */
/* Requests that were answered without the handler: malformed, too large a head, too slow. */
int64_t http_server_refused(const struct http_server *server);
/* Since the last request began or ended; 0 while one is in flight. */
int64_t http_server_idle_ms(const struct http_server *server);
/* From now on each answer closes its connection. */
void http_server_drain(struct http_server *server);
/* Stops and frees; NULL is fine. Requests in flight lose their connection, their handlers are waited for; without any it
 * takes some 10 ms. */
void http_server_stop(struct http_server *server);

/* Case ignored; quick for names that differ at once. */
bool http_name_is(const char *name, const char *expected);
/* A name and a value as HTTP allows them: nothing in them ends the header. */
bool http_header_is_valid(const char *name, const char *value);
/* Reason phrase of RFC 9110, "Unknown" for others. */
const char *http_status_text(int status);

#endif
