/* request.h - a request as handlers see it: a view of what the connection received, valid as long as that is.
 *
 * Threads: the connection's, which also runs the handler.
 */
#ifndef CICADA_HOST_REQUEST_H
#define CICADA_HOST_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/base/json_reader.h"
#include "runtime/host/arena.h"
#include "runtime/host/field_list.h"
#include "runtime/http/http_server.h"
#include "runtime/sdk/cicada/function.h"

#define REQUEST_JSON_DEPTH_MAX 64
#define REQUEST_ID_MAX         128

enum body_kind {
    BODY_NO_JSON, /* multipart, a form, or empty */
    BODY_JSON,    /* declared, or nothing is: parsed before the handler runs */
    BODY_MAYBE,   /* another type: parsed when the handler asks for JSON */
};

struct cicada_request {
    const struct cicada_calls *calls; /* first: the SDK reads it */
    const char *method;               /* HEAD is GET here */
    const char *raw_path, *raw_query; /* "" if there is none */
    struct field_list headers, query, parameters;
    const char *body;
    size_t body_len;
    enum body_kind body_kind;
    struct json_doc *json; /* NULL: not parsed, or no JSON */
    bool is_batch;         /* the body is an array of events */
    bool json_malformed;   /* and its type says JSON, or the handler asked for it */
    struct err json_error; /* why; last, because it is not to be cleared with each request */
};

/* What the connection received; borrowed for as long as the request is used. A NUL follows the body. */
struct request_source {
    const char *method, *raw_path, *query;
    const struct http_header *headers;
    size_t header_count;
    const char *body;
    size_t body_len;
};

/* Empty, as before request_init(). */
void request_clear(struct cicada_request *request);
/* Decodes the query; copies nothing else. ERR_INVALID: the query is malformed (*request may be released). */
int request_init(struct cicada_request *request, const struct cicada_calls *calls, struct arena *arena,
                 const struct request_source *source, struct err *err) MUST_CHECK;
void request_release(struct cicada_request *request); /* the JSON document; the rest is the arena's */
/* The handler sees no header of that name. */
void request_drop_header(struct cicada_request *request, const char *name);
/* Another body, borrowed like the first, before JSON was parsed; a NUL follows it. content_type NULL: none. The request had a
 * Content-Type. */
void request_replace_body(struct cicada_request *request, const char *content_type, const char *body,
                          size_t len);

/* Parses the body if its type says that it is JSON. ERR_INVALID: it is not. */
int request_parse_declared_json(struct cicada_request *request, struct err *err) MUST_CHECK;

/* 1 to 128 characters of [A-Za-z0-9._-]: how many; 0: it is something else. */
size_t request_id_len(const char *id);
enum body_kind request_body_kind(const char *content_type, const char *body, size_t len);

/* The calls of the SDK. */
const char *request_method(const struct cicada_request *request);
const char *request_path(const struct cicada_request *request);
const char *request_parameter(const struct cicada_request *request, const char *name);
const char *request_query(const struct cicada_request *request, const char *name);
bool request_query_at(const struct cicada_request *request, size_t index, const char **ret_name,
                      const char **ret_value);
const char *request_header(const struct cicada_request *request, const char *name);
bool request_header_at(const struct cicada_request *request, size_t index, const char **ret_name,
                       const char **ret_value);
const char *request_body(const struct cicada_request *request, size_t *ret_len);
const struct cicada_json_node *request_json(struct cicada_request *request);

#endif
