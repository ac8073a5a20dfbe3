/* http_post.h - one POST over a connection of its own: all the HTTP client that the runtime needs (libcurl would more
 * than double its time to start).
 *
 * Threads: any; blocks until the answer's status line, the deadline, or the stop.
 */
#ifndef CICADA_HOST_HTTP_POST_H
#define CICADA_HOST_HTTP_POST_H

#include <netinet/in.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/stop.h"

#define HTTP_POST_ANSWER_MAX_BYTES 1024

struct http_post {
    struct sockaddr_in address;
    const char *host; /* for the Host header */
    const char *path;
    const char *body; /* application/json */
    int64_t connect_timeout_ms, answer_timeout_ms;
};

/* ERR_IO, ERR_TIMEOUT, ERR_CANCELLED; ERR_INVALID: what answered is no HTTP server. */
int http_post_send(const struct http_post *post, const struct stop *stop, int *ret_status,
                   struct err *err) MUST_CHECK;

#endif
