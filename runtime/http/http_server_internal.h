/* http_server_internal.h - what http_server.c (threads, connections), http_request.c (one request) and http_answer.c
 * (its answer) share. */
#ifndef CICADA_HTTP_HTTP_SERVER_INTERNAL_H
#define CICADA_HTTP_HTTP_SERVER_INTERNAL_H

#include <civetweb.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "runtime/base/block_cache.h"
#include "runtime/base/stop.h"
#include "runtime/base/strbuf.h"
#include "runtime/http/http_crowd.h"
#include "runtime/http/http_message.h"
#include "runtime/http/http_server.h"

/* Request line and headers together. */
#define HTTP_REQUEST_HEAD_MAX_BYTES 32768

/* What each thread of CivetWeb writes with each request: in a line of cache of its own. All of them together tell the server's. */
struct http_lane {
    alignas(HTTP_LANE_BYTES) atomic_int in_flight;
    _Atomic int64_t last_activity_ms; /* clock_coarse_ms(); 0: none yet */
};

struct http_server {
    struct http_server_settings settings;
    struct http_lane *lanes;      /* settings.threads */
    struct block_cache *requests; /* of struct http_request */
    atomic_uint lanes_taken;
    struct mg_context *civetweb;
    struct stop stop; /* wakes every thread of this server out of poll() */
    int port;
    struct http_crowd crowd;
    _Atomic int64_t refused; /* requests that the handler never saw */
    atomic_bool draining;
    int64_t start_ms;
    atomic_bool started;
    char start_error[256]; /* what CivetWeb logged; written by http_server_start()'s thread only */
};

enum body_state { BODY_UNREAD, BODY_COMPLETE, BODY_FAILED };
enum answer_state { ANSWER_NONE, ANSWER_STREAMING, ANSWER_DONE };

#define HTTP_ANSWER_USUAL_BYTES 2048 /* head and body; needs no other memory */

/* What each request touches comes first. */
struct http_request {
    struct http_server *server;
    struct mg_connection *connection;
    const struct mg_request_info *info;
    unsigned lane;
    int socket; /* -1: not known */
    size_t header_count;
    bool version_1_1, is_head;
    bool reused;                /* not the first request of its connection */
    bool expects_continue;      /* and was not told to yet: the client holds the body back */
    bool close;                 /* the connection ends with this answer */
    bool from_elsewhere;        /* another thread answers */
    bool sends_body;            /* streaming: not HEAD, 204, 304 */
    enum http_framing streamed; /* streaming */
    struct http_body_framing framing;
    enum body_state body_state;
    enum answer_state answer;
    size_t sent_bytes;        /* of the answer's body */
    int64_t write_timeout_ms; /* for each write of the answer */
    struct strbuf body;
    char answer_storage[HTTP_ANSWER_USUAL_BYTES];
    struct http_header headers[HTTP_HEADERS_MAX];
    struct err body_err; /* if BODY_FAILED */
};

/* Checks the request, has the handler serve it, and leaves the connection as the answer said. lane: the calling thread's. */
void http_request_serve(struct http_server *server, struct mg_connection *connection, unsigned lane);
/* Answers a request that CivetWeb could not read; CivetWeb closes the connection then. */
void http_connection_refuse(struct http_server *server, struct mg_connection *connection, int status,
                            const char *detail);

/* A client that takes longer for one write of an answer loses its connection. */
#define HTTP_WRITE_TIMEOUT_MS 30000

/* For http_request.c: bytes as they are, and an answer of this layer itself, which ends the connection. */
int http_answer_write(struct http_request *req, const void *data, size_t len, struct err *err) MUST_CHECK;
void http_answer_refuse(struct http_request *req, int status, const char *detail);

#endif
