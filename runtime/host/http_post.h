/* http_post.h - one POST over a connection of its own: all the HTTP client that the runtime needs (libcurl would more
 * than double its time to start).
 *
 * Threads: any; blocks until the answer's head, the deadline, or the stop.
 */
#ifndef CICADA_HOST_HTTP_POST_H
#define CICADA_HOST_HTTP_POST_H

#include <netinet/in.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/stop.h"

#define HTTP_POST_ANSWER_MAX_BYTES 1024
#define HTTP_POST_GATEWAYS_MAX     10000

struct http_post {
    struct sockaddr_in address;
    const char *host; /* for the Host header */
    const char *path;
    const char *body; /* application/json */
    int64_t connect_timeout_ms, answer_timeout_ms;
};

struct http_post_answer {
    int status;
    int gateways; /* X-Cicada-Gateways: how many there are, by the one that answers; 0: it does not say */
};

/* ERR_IO, ERR_TIMEOUT, ERR_CANCELLED; ERR_INVALID: what answered is no HTTP server. */
int http_post_send(const struct http_post *post, const struct stop *stop, struct http_post_answer *ret_answer,
                   struct err *err) MUST_CHECK;

#endif
