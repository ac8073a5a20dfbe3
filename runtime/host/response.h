/* response.h - the answer a handler builds: status, headers, body; JSON piece by piece.
 *
 * A mistake of the handler (status out of range, member without a name, ...) is kept, the first one wins, and makes the
 * answer 500: see response_check().
 *
 * Threads: one owner at a time.
 */
#ifndef CICADA_HOST_RESPONSE_H
#define CICADA_HOST_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/strbuf.h"
#include "runtime/host/arena.h"
#include "runtime/http/http_server.h"
#include "runtime/http/problem.h"
#include "runtime/sdk/cicada/function.h"

#define RESPONSE_HEADERS_MAX      48
#define RESPONSE_HEADER_MAX_BYTES 8192
#define RESPONSE_HEAD_MAX_BYTES   24576 /* names and values together: a gateway takes heads up to 32 KiB */
#define RESPONSE_DEPTH_MAX        64

struct cicada_response {
    const struct cicada_calls *calls; /* first: the SDK reads it */
    struct arena *arena;
    const char *request_id;
    int status;
    size_t header_count;
    size_t head_bytes;        /* names and values set so far */
    const char *content_type; /* NULL: by the body */
    struct strbuf body;       /* empty if there is a taken one */
    struct {
        void *data; /* NULL: none */
        size_t len;
        void (*release)(void *data);
    } taken; /* a body that was handed over */
    size_t max_bytes;
    struct invocation *invocation; /* whose answer it is; NULL: nobody's who could stream */
    bool begun;                    /* status and headers are on their way */
    bool is_problem;
    bool replayed; /* a stored answer: the caller is told */
    bool writing;  /* the body is JSON, written piece by piece */
    int depth;     /* open objects and arrays */
    /* From here on only what was written is to be read: clearing all of it would cost each request 20 lines of cache. */
    char mistake[200];                     /* "": none */
    bool in_array[RESPONSE_DEPTH_MAX + 1]; /* by depth, from 1 */
    bool has_items[RESPONSE_DEPTH_MAX + 1];
    struct http_header headers[RESPONSE_HEADERS_MAX]; /* without Content-Type */
};

void response_init(struct cicada_response *response, const struct cicada_calls *calls, struct arena *arena,
                   const char *request_id, int success_status, size_t max_bytes);
void response_reset(struct cicada_response *response, int success_status); /* as after response_init() */
void response_release(struct cicada_response *response);

/* ERR_INVALID: a mistake; ERR_TOO_LARGE: the body is above the limit. */
int response_check(const struct cicada_response *response, struct err *err) MUST_CHECK;
/* Replaces all, headers too. retry_after_s 0: no Retry-After. */
void response_set_problem(struct cicada_response *response, const struct problem *problem, int retry_after_s);
/* As it is sent; NULL: none. */
const char *response_content_type(const struct cicada_response *response);
/* Its body; valid until the response changes. */
const char *response_bytes(const struct cicada_response *response, size_t *ret_len);
/* Streaming: status and headers, once; then what is there of the body, which is empty again afterwards. */
int response_stream_begin(struct cicada_response *response, struct http_request *http,
                          struct err *err) MUST_CHECK;
void response_drop_bytes(struct cicada_response *response);
/* Sends it. ERR_IO: the peer is gone. */
int response_send(const struct cicada_response *response, struct http_request *http,
                  struct err *err) MUST_CHECK;

/* The calls of the SDK. */
void response_status(struct cicada_response *response, int32_t status);
void response_header(struct cicada_response *response, const char *name, const char *value);
void response_body(struct cicada_response *response, const void *data, size_t len);
void response_body_take(struct cicada_response *response, void *data, size_t len, void (*release)(void *));
void response_problem(struct cicada_response *response, int32_t status, const char *code, const char *detail);

/* For response_json.c. */
void response_mistake(struct cicada_response *response, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void response_clear_body(struct cicada_response *response);

#endif
