/* http_server_internal.h - what http_server.c (threads, connections) and http_request.c (one request) share. */
#ifndef CICADA_HTTP_HTTP_SERVER_INTERNAL_H
#define CICADA_HTTP_HTTP_SERVER_INTERNAL_H

#include <civetweb.h>
#include <stdatomic.h>

#include "runtime/base/stop.h"
#include "runtime/http/http_server.h"

/* Request line and headers together. */
#define HTTP_REQUEST_HEAD_MAX_BYTES 32768

struct http_server {
    struct http_server_settings settings;
    struct mg_context *civetweb;
    struct stop stop; /* wakes every thread of this server out of poll() */
    int port;
    atomic_int in_flight, connections;
    atomic_bool draining;
    _Atomic int64_t last_activity_ms;
    atomic_bool started;
    char start_error[256]; /* what CivetWeb logged; written by http_server_start()'s thread only */
};

/* Checks the request, has the handler serve it, and leaves the connection as the answer said. */
void http_request_serve(struct http_server *server, struct mg_connection *connection);
/* Answers a request that CivetWeb could not read; CivetWeb closes the connection then. */
void http_connection_refuse(const struct http_server *server, struct mg_connection *connection, int status,
                            const char *detail);

#endif
