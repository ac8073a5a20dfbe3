/* SPDX-License-Identifier: Apache-2.0
 *
 * cicada/function.h - what a Cicada function written in C (or C++) sees. This one header is the whole SDK.
 *
 * A function is a shared object with a handler:
 *
 *     #include <cicada/function.h>
 *
 *     static int hello(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
 *     {
 *         const char *name = cicada_request_query(req, "name");
 *
 *         cicada_write_begin_object(res, NULL);
 *         cicada_write_string(res, "greeting", name ? name : "world");
 *         cicada_write_string(res, "requestId", cicada_request_id(ctx));
 *         cicada_write_end(res);
 *         return CICADA_OK;
 *     }
 *     CICADA_FUNCTION(hello);
 *
 *     gcc -shared -fPIC -I<where this header is> -o hello.so hello.c         # spec.handler: hello.so:hello
 *
 * And with the database:
 *
 *     static int rename_user(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
 *     {
 *         const char *id = cicada_request_parameter(req, "id");              // http.pathTemplate: /users/{id}
 *         const char *name = cicada_json_get_string(cicada_request_json(req), "name");
 *         struct cicada_result *user;
 *
 *         if (name == NULL)
 *             return cicada_problem(res, 422, "missing_field", "name is required");
 *         if (cicada_query(ctx, "UPDATE users SET name = $2 WHERE id = $1 RETURNING id, name",
 *                          CICADA_PARAMS(cicada_text(id), cicada_text(name)), &user) != CICADA_OK)
 *             return CICADA_FAIL;                                            // answered by its SQLSTATE
 *         if (cicada_result_rows(user) == 0)
 *             return cicada_problem(res, 404, "unknown_user", "there is no user %s", id);
 *         cicada_write_row(res, NULL, user, 0);
 *         return CICADA_OK;
 *     }
 *     CICADA_FUNCTION(rename_user);
 *
 * Threads. The handler is called on many threads at once, as many as the Function's `concurrency`. Request, context and
 * response belong to one call and to the thread that runs it. The stack has 8 MiB.
 *
 * Lifetimes. Everything a call below returns (strings, JSON values, results) is borrowed: it is valid until the handler
 * returns, and is never freed by it. Everything passed in is copied before the call returns; the one exception is
 * cicada_response_body_take(). Text is UTF-8 and ends in NUL.
 *
 * Transaction. The first cicada_query() of a call opens a transaction. It is committed when the handler returns CICADA_OK
 * with a status below 400, and rolled back otherwise. The answer leaves after the commit; if that fails, the caller gets
 * an error, whatever the handler said. BEGIN, COMMIT, SAVEPOINT and the like are refused as SQL: cicada_savepoint() takes
 * back an error, cicada_commit() gives the connection away before slow work, cicada_stream_write() sends an answer while it
 * is made. If the Function is `retryable`, a handler whose transaction fell victim to others (40001, 40P01) is run again, with a
 * fresh response, unless it has committed.
 *
 * Time. The answer must be ready within the Function's `timeoutSeconds`: cicada_deadline_left_ms() tells what is left. A
 * late call is answered 504 and rolled back; a handler that is 10 s late ends the process, since a thread can't be killed.
 * Once an answer is being streamed, only silence is limited: `idleTimeoutSeconds`.
 *
 * Errors. A handler that returns CICADA_FAIL is answered with the status it set, if that is 400 or above
 * (cicada_problem() does that), else by the SQLSTATE of the query that failed, else 500 `handler_failed`.
 *
 * Compatibility. There is no library to link: each call goes through a table of functions that the runtime passes in
 * (struct cicada_calls). A runtime loads functions built with the header of its own release or an older one.
 */
#ifndef CICADA_FUNCTION_H
#define CICADA_FUNCTION_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
#include <initializer_list>
#define CICADA_EXTERN   extern "C"
#define CICADA_OPTIONAL = nullptr
#define CICADA_NO_FLAGS = 0
extern "C" {
#else
#define CICADA_EXTERN   extern
#define CICADA_OPTIONAL /* NULL unless given */
#define CICADA_NO_FLAGS /* 0 unless given */
#endif

/* Raised when something here changes or goes away; additions at the end only make struct cicada_calls larger. */
#define CICADA_ABI_VERSION 1

#define CICADA_OK   0
#define CICADA_FAIL (-1)

#if defined(__GNUC__)
#define CICADA_EXPORT           __attribute__((visibility("default")))
#define CICADA_FORMAT(at, args) __attribute__((format(printf, at, args)))
#else
#define CICADA_EXPORT
#define CICADA_FORMAT(at, args)
#endif

/* All opaque. */
struct cicada_request;
struct cicada_context;
struct cicada_response;
struct cicada_result;
struct cicada_json_node;

struct cicada_calls;

/* For cicada_query_each(). */
typedef int cicada_row_fn(void *arg, const struct cicada_result *row);

/* One JSON value of the request's body, passed by value. A value that is not there ("absent") is a value too: every
 * accessor takes it and says no, so that lookups chain. */
struct cicada_json {
    const struct cicada_calls *calls;
    const struct cicada_json_node *node; /* NULL: absent */
};

#define CICADA_JSON_ABSENT 0
#define CICADA_JSON_NULL   1
#define CICADA_JSON_BOOL   2
#define CICADA_JSON_NUMBER 3
#define CICADA_JSON_STRING 4
#define CICADA_JSON_ARRAY  5
#define CICADA_JSON_OBJECT 6

/* One parameter of a statement: made by cicada_text(), cicada_int64(), ... below. */
struct cicada_param {
    int32_t kind;
    int32_t reserved;
    int64_t integer;
    double number;
    const char *text;
};

#define CICADA_PARAM_NULL   0
#define CICADA_PARAM_TEXT   1
#define CICADA_PARAM_INT64  2
#define CICADA_PARAM_DOUBLE 3
#define CICADA_PARAM_BOOL   4

#define CICADA_LOG_DEBUG 0
#define CICADA_LOG_INFO  1
#define CICADA_LOG_WARN  2
#define CICADA_LOG_ERROR 3

/* ---- What a shared object exports -------------------------------------------------------------------------------- */

typedef int cicada_handler_fn(struct cicada_request *req, struct cicada_context *ctx,
                              struct cicada_response *res);
/* Runs once, before the first request, on one thread: *ret_state is what cicada_state() gives to handlers, shared by all
 * threads. Request and database are not there yet. CICADA_FAIL: the function does not start, and the last line
 * logged with CICADA_LOG_ERROR is shown as its reason. */
typedef int cicada_init_fn(struct cicada_context *ctx, void **ret_state);
/* Runs once, after the last handler returned. */
typedef void cicada_shutdown_fn(void *state);

/* Flags of a function. */
#define CICADA_READ_ONLY                                                                                     \
    1u /* its transactions are READ ONLY; it may stream rows: cicada_query_each(), cicada_stream_write() */

struct cicada_function {
    uint32_t abi_version; /* CICADA_ABI_VERSION */
    uint32_t size;        /* of this struct */
    uint32_t calls_size;  /* of struct cicada_calls, as the function knows it */
    uint32_t reserved;
    const char *name;
    cicada_handler_fn *handle;
    cicada_init_fn *init CICADA_OPTIONAL;
    cicada_shutdown_fn *shutdown CICADA_OPTIONAL;
    uint32_t flags CICADA_NO_FLAGS;
};

/* CICADA_FUNCTION(handler) or CICADA_FUNCTION(handler, .init = f, .shutdown = g, .flags = CICADA_READ_ONLY), once per handler, at file
 * level. What is left out is NULL or 0; in C++ the order is this one. */
#define CICADA_FUNCTION(...) CICADA_FUNCTION_(__VA_ARGS__, )
#define CICADA_FUNCTION_(handler, ...)                                                                       \
    CICADA_EXTERN CICADA_EXPORT const struct cicada_function cicada_function_##handler;                      \
    const struct cicada_function cicada_function_##handler = {                                               \
        .abi_version = CICADA_ABI_VERSION,                                                                   \
        .size = (uint32_t)sizeof(struct cicada_function),                                                    \
        .calls_size = (uint32_t)sizeof(struct cicada_calls),                                                 \
        .reserved = 0,                                                                                       \
        .name = #handler,                                                                                    \
        .handle = handler,                                                                                   \
        __VA_ARGS__}

/* ---- The table: filled by the runtime, called by the functions below it ------------------------------------------- */

struct cicada_calls {
    uint32_t version; /* CICADA_ABI_VERSION of the runtime */
    uint32_t size;    /* sizeof(struct cicada_calls) of the runtime */

    const char *(*request_method)(const struct cicada_request *req);
    const char *(*request_path)(const struct cicada_request *req);
    const char *(*request_parameter)(const struct cicada_request *req, const char *name);
    const char *(*request_query)(const struct cicada_request *req, const char *name);
    bool (*request_query_at)(const struct cicada_request *req, size_t index, const char **ret_name,
                             const char **ret_value);
    const char *(*request_header)(const struct cicada_request *req, const char *name);
    bool (*request_header_at)(const struct cicada_request *req, size_t index, const char **ret_name,
                              const char **ret_value);
    const char *(*request_body)(const struct cicada_request *req, size_t *ret_len);
    const struct cicada_json_node *(*request_json)(struct cicada_request *req);

    int32_t (*json_type)(const struct cicada_json_node *node);
    const struct cicada_json_node *(*json_member)(const struct cicada_json_node *node, const char *name);
    const struct cicada_json_node *(*json_first)(const struct cicada_json_node *node);
    const struct cicada_json_node *(*json_next)(const struct cicada_json_node *node);
    size_t (*json_count)(const struct cicada_json_node *node);
    const char *(*json_name)(const struct cicada_json_node *node, size_t *ret_len);
    const char *(*json_string)(const struct cicada_json_node *node, size_t *ret_len);
    const char *(*json_raw)(const struct cicada_json_node *node, size_t *ret_len);
    bool (*json_int64)(const struct cicada_json_node *node, int64_t *ret_value);
    bool (*json_double)(const struct cicada_json_node *node, double *ret_value);
    bool (*json_bool)(const struct cicada_json_node *node, bool *ret_value);

    int64_t (*context_deadline_left_ms)(const struct cicada_context *ctx);
    const char *(*context_request_id)(const struct cicada_context *ctx);
    const char *(*context_traceparent)(const struct cicada_context *ctx);
    const char *(*context_function)(const struct cicada_context *ctx);
    const char *(*context_namespace)(const struct cicada_context *ctx);
    void *(*context_state)(const struct cicada_context *ctx);
    void (*context_log)(struct cicada_context *ctx, int32_t level, const char *text);

    int (*query)(struct cicada_context *ctx, const char *sql, const struct cicada_param *params,
                 size_t param_count, struct cicada_result **ret_result);
    const char *(*error_sqlstate)(const struct cicada_context *ctx);
    const char *(*error_constraint)(const struct cicada_context *ctx);
    const char *(*error_message)(const struct cicada_context *ctx);
    int32_t (*result_rows)(const struct cicada_result *result);
    int32_t (*result_columns)(const struct cicada_result *result);
    int64_t (*result_affected)(const struct cicada_result *result);
    int32_t (*result_column)(const struct cicada_result *result, const char *name);
    const char *(*result_column_name)(const struct cicada_result *result, int32_t column);
    const char *(*result_text)(const struct cicada_result *result, int32_t row, int32_t column,
                               size_t *ret_len);

    void (*response_status)(struct cicada_response *res, int32_t status);
    void (*response_header)(struct cicada_response *res, const char *name, const char *value);
    void (*response_body)(struct cicada_response *res, const void *data, size_t len);
    void (*response_problem)(struct cicada_response *res, int32_t status, const char *code,
                             const char *detail);
    void (*write_begin)(struct cicada_response *res, const char *name, bool array);
    void (*write_end)(struct cicada_response *res);
    void (*write_string)(struct cicada_response *res, const char *name, const char *text, size_t len);
    void (*write_int64)(struct cicada_response *res, const char *name, int64_t value);
    void (*write_double)(struct cicada_response *res, const char *name, double value);
    void (*write_bool)(struct cicada_response *res, const char *name, bool value);
    void (*write_null)(struct cicada_response *res, const char *name);
    void (*write_raw)(struct cicada_response *res, const char *name, const char *json, size_t len);
    void (*write_row)(struct cicada_response *res, const char *name, const struct cicada_result *result,
                      int32_t row);

    int (*savepoint)(struct cicada_context *ctx);
    int (*savepoint_release)(struct cicada_context *ctx);
    int (*savepoint_rollback)(struct cicada_context *ctx);
    int (*commit)(struct cicada_context *ctx);
    int (*query_each)(struct cicada_context *ctx, const char *sql, const struct cicada_param *params,
                      size_t param_count, cicada_row_fn *each, void *arg);
    void (*response_body_take)(struct cicada_response *res, void *data, size_t len, void (*release)(void *));
    int (*stream_write)(struct cicada_response *res, const void *data, size_t len);

    const char *(*event_attribute)(const struct cicada_context *ctx, const char *name);

    bool (*event_next)(struct cicada_context *ctx);
    size_t (*event_count)(const struct cicada_context *ctx);
    const char *(*event_data)(const struct cicada_context *ctx, size_t *ret_len);
    const struct cicada_json_node *(*event_json)(struct cicada_context *ctx);
    int (*event_fail)(struct cicada_context *ctx, int32_t status, const char *text);
};

/* Every opaque object begins with the address of the table. */
static inline const struct cicada_calls *cicada_calls_of(const void *object)
{
    return *(const struct cicada_calls *const *)object;
}

/* ---- Request ----------------------------------------------------------------------------------------------------- */

/* "GET", "POST", ... HEAD arrives as "GET": the runtime leaves the body out of the answer. */
static inline const char *cicada_request_method(const struct cicada_request *req)
{
    return cicada_calls_of(req)->request_method(req);
}
/* What follows `http.path`, percent-encoded as it was sent, beginning with '/', without the query. */
static inline const char *cicada_request_path(const struct cicada_request *req)
{
    return cicada_calls_of(req)->request_path(req);
}
/* What stood for {name} of `http.pathTemplate`, percent-decoded. NULL: the template has no such name. */
static inline const char *cicada_request_parameter(const struct cicada_request *req, const char *name)
{
    return cicada_calls_of(req)->request_parameter(req, name);
}
/* First query parameter of that name, decoded ('+' is a space). NULL: absent. `?a` and `?a=` are the empty string. */
static inline const char *cicada_request_query(const struct cicada_request *req, const char *name)
{
    return cicada_calls_of(req)->request_query(req, name);
}
/* All of them, in order: false when index is past the last. */
static inline bool cicada_request_query_at(const struct cicada_request *req, size_t index,
                                           const char **ret_name, const char **ret_value)
{
    return cicada_calls_of(req)->request_query_at(req, index, ret_name, ret_value);
}
/* First header of that name, in any case. NULL: absent. */
static inline const char *cicada_request_header(const struct cicada_request *req, const char *name)
{
    return cicada_calls_of(req)->request_header(req, name);
}
static inline bool cicada_request_header_at(const struct cicada_request *req, size_t index,
                                            const char **ret_name, const char **ret_value)
{
    return cicada_calls_of(req)->request_header_at(req, index, ret_name, ret_value);
}
/* The whole body; a NUL follows the last byte. Never NULL. */
static inline const char *cicada_request_body(const struct cicada_request *req, size_t *ret_len)
{
    return cicada_calls_of(req)->request_body(req, ret_len);
}
/* The body as JSON. Absent when the body is empty, multipart, or a form. Any other body is taken as JSON whatever its type
 * says; if it is not, the caller gets 400 `malformed_json`: before the handler runs when the type says JSON or there is
 * none, else in place of the handler's answer (a handler that takes other types just doesn't call this). */
static inline struct cicada_json cicada_request_json(struct cicada_request *req)
{
    struct cicada_json json;
    json.calls = cicada_calls_of(req);
    json.node = json.calls->request_json(req);
    return json;
}

/* ---- JSON values ------------------------------------------------------------------------------------------------- */

static inline int cicada_json_type(struct cicada_json json) /* CICADA_JSON_... */
{
    return json.node ? (int)json.calls->json_type(json.node) : CICADA_JSON_ABSENT;
}
/* Member of an object; absent if there is none or `object` is something else. Names are case-sensitive. */
static inline struct cicada_json cicada_json_member(struct cicada_json object, const char *name)
{
    object.node = object.node ? object.calls->json_member(object.node, name) : NULL;
    return object;
}
/* Members or elements, in order; absent after the last. */
static inline struct cicada_json cicada_json_first(struct cicada_json parent)
{
    parent.node = parent.node ? parent.calls->json_first(parent.node) : NULL;
    return parent;
}
static inline struct cicada_json cicada_json_next(struct cicada_json sibling)
{
    sibling.node = sibling.node ? sibling.calls->json_next(sibling.node) : NULL;
    return sibling;
}
static inline size_t cicada_json_count(struct cicada_json parent)
{
    return parent.node ? parent.calls->json_count(parent.node) : 0;
}
/* The name of a member; NULL for others. ret_len may be NULL, here and below. */
static inline const char *cicada_json_name(struct cicada_json json, size_t *ret_len)
{
    return json.node ? json.calls->json_name(json.node, ret_len) : NULL;
}
/* NULL if it is no string. */
static inline const char *cicada_json_string(struct cicada_json json, size_t *ret_len)
{
    return json.node ? json.calls->json_string(json.node, ret_len) : NULL;
}
/* The value's source text, NOT ended by NUL: numbers as they were written, "1.10" or "12345678901234567890". */
static inline const char *cicada_json_raw(struct cicada_json json, size_t *ret_len)
{
    return json.node ? json.calls->json_raw(json.node, ret_len) : NULL;
}
/* False (and *ret_value is left alone) if it is no number, no integer, or does not fit. Exact: never through a double. */
static inline bool cicada_json_int64(struct cicada_json json, int64_t *ret_value)
{
    return json.node && json.calls->json_int64(json.node, ret_value);
}
static inline bool cicada_json_double(struct cicada_json json, double *ret_value)
{
    return json.node && json.calls->json_double(json.node, ret_value);
}
static inline bool cicada_json_bool(struct cicada_json json, bool *ret_value)
{
    return json.node && json.calls->json_bool(json.node, ret_value);
}
static inline const char *cicada_json_get_string(struct cicada_json object, const char *name)
{
    return cicada_json_string(cicada_json_member(object, name), NULL);
}
static inline bool cicada_json_get_int64(struct cicada_json object, const char *name, int64_t *ret_value)
{
    return cicada_json_int64(cicada_json_member(object, name), ret_value);
}

/* ---- Context ----------------------------------------------------------------------------------------------------- */

static inline int64_t cicada_deadline_left_ms(const struct cicada_context *ctx) /* never below 0 */
{
    return cicada_calls_of(ctx)->context_deadline_left_ms(ctx);
}
/* Also in the answer's X-Request-Id, in every log line, and in error bodies. */
static inline const char *cicada_request_id(const struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->context_request_id(ctx);
}
/* W3C trace context of this request, to pass on: a header value that names this call as the parent; "" in init. */
static inline const char *cicada_traceparent(const struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->context_traceparent(ctx);
}
static inline const char *cicada_function_name(const struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->context_function(ctx);
}
static inline const char *cicada_function_namespace(const struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->context_namespace(ctx);
}
/* What init left in *ret_state; NULL without init. */
static inline void *cicada_state(const struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->context_state(ctx);
}
/* One line of at most 1,023 bytes in the log, with function and request id. Put no secret in it. */
CICADA_FORMAT(3, 4)
static inline void cicada_log(struct cicada_context *ctx, int level, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    cicada_calls_of(ctx)->context_log(ctx, (int32_t)level, text);
}

/* ---- Event ------------------------------------------------------------------------------------------------------- */
/* A call may bring an event (CloudEvents 1.0): from a queue, or as a POST in binary or structured mode. Its data is the request's
 * body, whatever brought it: cicada_request_json(), cicada_request_body(), and the header Content-Type.
 *
 *     if (strcmp(cicada_event_type(ctx), "com.example.order.paid") == 0)
 *         ...cicada_json_get_int64(cicada_request_json(req), "order_id", &order_id)
 *
 * Source and id together name the event: one that comes again has the same. What a handler does in the database is done once if the
 * event is of a queue, or the Function has `http.idempotency` (its answer is stored then, as with an Idempotency-Key); elsewhere
 * (mail, HTTP) source and id are there to serve as key. */

/* By its name in CloudEvents, in lower case: "dataschema", "datacontenttype", or an extension, whose value is text here whatever
 * its type. NULL: the event has no such attribute, or the call brings no event. */
static inline const char *cicada_event_attribute(const struct cicada_context *ctx, const char *name)
{
    return cicada_calls_of(ctx)->event_attribute(ctx, name);
}
/* These three every event has; NULL: the call brings none. */
static inline const char *cicada_event_id(const struct cicada_context *ctx)
{
    return cicada_event_attribute(ctx, "id");
}
static inline const char *cicada_event_source(const struct cicada_context *ctx)
{
    return cicada_event_attribute(ctx, "source");
}
static inline const char *cicada_event_type(const struct cicada_context *ctx)
{
    return cicada_event_attribute(ctx, "type");
}
static inline const char *cicada_event_subject(const struct cicada_context *ctx)
{
    return cicada_event_attribute(ctx, "subject");
}
static inline const char *cicada_event_time(const struct cicada_context *ctx) /* RFC 3339 */
{
    return cicada_event_attribute(ctx, "time");
}
/* Which delivery of an event from a queue this is, from 1 (the extension `cicadaattempt`). 0: it has no number. */
static inline int cicada_event_attempt(const struct cicada_context *ctx)
{
    const char *text = cicada_event_attribute(ctx, "cicadaattempt");
    int attempt = 0;
    for (; text != NULL && *text >= '0' && *text <= '9' && attempt < 100000000; text++)
        attempt = attempt * 10 + (*text - '0');
    return text != NULL && *text == '\0' ? attempt : 0;
}

/* Batches. A trigger whose `delivery.batchSize` is above 1 brings several events in one call. The body is an array of all of them (JSON, each
 * as in structured mode, with `data` inside), for handlers that do all with a few statements. Or they are taken one by one:
 *
 *     while (cicada_event_next(ctx)) {
 *         int64_t order_id;
 *
 *         if (!cicada_json_get_int64(cicada_event_json(ctx), "order_id", &order_id))
 *             cicada_event_fail(ctx, 422, "order_id is missing");
 *         else if (pay(ctx, order_id) != CICADA_OK)                      // a query failed
 *             cicada_event_fail(ctx, 0, "");                             // its SQLSTATE tells
 *     }
 *     return CICADA_OK;
 *
 * The same loop serves a call that brings one event, and none.
 *
 * Each event that is taken has a part of the transaction of its own: one that failed is undone with all that was written since it
 * was taken, until the next one is, and the others are committed. What is written before the first and after the last belongs to all. Events that
 * were not taken when the handler returns are not done: they come again, and no attempt is spent. A handler that takes none has
 * worked on all. CICADA_FAIL, a status of 400 or above, or a commit that fails is no event's own fault: then nothing of the call stays, and each
 * event comes in a call of its own. `timeoutSeconds` is for all of them together.
 *
 * Begins the next event, which is current from here on: the calls above tell about it. False: there is none, or no query can succeed
 * any more; return. */
static inline bool cicada_event_next(struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->event_next(ctx);
}
/* How many events the call brings. */
static inline size_t cicada_event_count(const struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->event_count(ctx);
}
/* The current event's data, of a batch or not. */
static inline const char *cicada_event_data(const struct cicada_context *ctx,
                                            size_t *ret_len) /* never NULL */
{
    return cicada_calls_of(ctx)->event_data(ctx, ret_len);
}
static inline struct cicada_json cicada_event_json(struct cicada_context *ctx) /* absent: it is no JSON */
{
    struct cicada_json json;
    json.calls = cicada_calls_of(ctx);
    json.node = json.calls->event_json(ctx);
    return json;
}
/* The current event has failed, with a text for people. status as of an answer: 503 lets it run again, 422 makes it a dead letter; 0: by the
 * error of the last query, else 500. An event that no batch brought fails with the call, whatever the handler returns.
 * A query that failed fails its event by itself. CICADA_FAIL: none is current, or cicada_commit() has made it stay. */
CICADA_FORMAT(3, 4)
static inline int cicada_event_fail(struct cicada_context *ctx, int status, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return cicada_calls_of(ctx)->event_fail(ctx, (int32_t)status, text);
}

/* ---- Database ---------------------------------------------------------------------------------------------------- */

static inline struct cicada_param cicada_null(void)
{
    struct cicada_param param = {CICADA_PARAM_NULL, 0, 0, 0, NULL};
    return param;
}
static inline struct cicada_param cicada_text(const char *text) /* NULL is SQL NULL */
{
    struct cicada_param param = {CICADA_PARAM_TEXT, 0, 0, 0, text};
    return param;
}
static inline struct cicada_param cicada_int64(int64_t value)
{
    struct cicada_param param = {CICADA_PARAM_INT64, 0, value, 0, NULL};
    return param;
}
static inline struct cicada_param cicada_double(double value)
{
    struct cicada_param param = {CICADA_PARAM_DOUBLE, 0, 0, value, NULL};
    return param;
}
static inline struct cicada_param cicada_bool(bool value)
{
    struct cicada_param param = {CICADA_PARAM_BOOL, 0, value ? 1 : 0, 0, NULL};
    return param;
}

/* The parameters of one statement, $1 first; CICADA_NO_PARAMS for none. */
#ifdef __cplusplus
} /* extern "C": templates can't be */
template <class... Params> char (&cicada_params_counted(const Params &...))[sizeof...(Params)];
extern "C" {
#define CICADA_PARAMS(...)                                                                                   \
    std::initializer_list<struct cicada_param>{__VA_ARGS__}.begin(),                                         \
        sizeof(cicada_params_counted(__VA_ARGS__)) /* not evaluated: each argument is used once */
#else
#define CICADA_PARAMS(...)                                                                                   \
    ((const struct cicada_param[]){__VA_ARGS__}),                                                            \
        (sizeof((const struct cicada_param[]){__VA_ARGS__}) / sizeof(struct cicada_param))
#endif
#define CICADA_NO_PARAMS NULL, 0

/* Most parameters of one statement; more is refused. */
#define CICADA_PARAMS_MAX 256

/* Runs one statement inside the transaction of this call. Parameters travel apart from the text, so injection is
 * impossible as long as `sql` is a constant. CICADA_FAIL: the transaction is lost (unless there is a savepoint), later queries fail
 * with the same error, and `return CICADA_FAIL` answers it fittingly (unique violation 409, no database 503, ...). All results
 * of a call together have at most 64 MiB. */
static inline int cicada_query(struct cicada_context *ctx, const char *sql, const struct cicada_param *params,
                               size_t param_count, struct cicada_result **ret_result)
{
    return cicada_calls_of(ctx)->query(ctx, sql, params, param_count, ret_result);
}
/* The same for a statement whose result nobody reads; it takes no memory. */
static inline int cicada_execute(struct cicada_context *ctx, const char *sql,
                                 const struct cicada_param *params, size_t param_count)
{
    return cicada_query(ctx, sql, params, param_count, NULL);
}

/* Savepoints: an error that can be taken back. While one is open, a query that the server answered with an error makes later calls
 * fail only until cicada_savepoint_rollback(), after which the transaction is as it was when the savepoint was set:
 *
 *     cicada_savepoint(ctx);
 *     if (cicada_execute(ctx, "INSERT ...", ...) == CICADA_OK)
 *         cicada_savepoint_release(ctx);
 *     else if (strcmp(cicada_error_sqlstate(ctx), "23505") != 0 || cicada_savepoint_rollback(ctx) != CICADA_OK)
 *         return CICADA_FAIL;
 *
 * They nest, at most 16 deep; the calls mean the innermost. What is still open at the end is committed with the rest. Setting
 * and releasing take no round trip. A lost connection and a deadline that passed can't be taken back: CICADA_FAIL. */
#define CICADA_SAVEPOINTS_MAX 16
static inline int cicada_savepoint(struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->savepoint(ctx);
}
/* Keeps what was done since; it belongs to the transaction, or to the savepoint around this one. */
static inline int cicada_savepoint_release(struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->savepoint_release(ctx);
}
/* Undoes what was done since, and ends the savepoint. */
static inline int cicada_savepoint_rollback(struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->savepoint_rollback(ctx);
}

/* Commits now and gives the connection back: before slow work outside of the database. Later calls of the database are
 * refused; results that are there stay. From here on no failure of the handler takes the commit back: its answer is sent as it
 * is. CICADA_FAIL: not committed (or the answer to COMMIT was lost); return: the answer tells, whatever the handler returns.
 * Not where the answer is part of the transaction, which then gets 500: requests with an Idempotency-Key that the Function
 * honours, and what its `output` sends on. */
static inline int cicada_commit(struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->commit(ctx);
}

/* Only in handlers declared CICADA_READ_ONLY: the rows of one statement, one by one as they come, of any number. `each` is called
 * on this thread with a result of one row (row 0), which is valid during that call; it must not use the database. What it returns
 * other than CICADA_OK ends the reading, and the transaction with it: CICADA_FAIL. */
static inline int cicada_query_each(struct cicada_context *ctx, const char *sql,
                                    const struct cicada_param *params, size_t param_count,
                                    cicada_row_fn *each, void *arg)
{
    return cicada_calls_of(ctx)->query_each(ctx, sql, params, param_count, each, arg);
}
/* Why the last query failed: SQLSTATE ("23505"; "" if the server raised none), violated constraint ("" if none), and
 * the server's message, for the log rather than for callers. */
static inline const char *cicada_error_sqlstate(const struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->error_sqlstate(ctx);
}
static inline const char *cicada_error_constraint(const struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->error_constraint(ctx);
}
static inline const char *cicada_error_message(const struct cicada_context *ctx)
{
    return cicada_calls_of(ctx)->error_message(ctx);
}

static inline int cicada_result_rows(const struct cicada_result *result)
{
    return (int)cicada_calls_of(result)->result_rows(result);
}
static inline int cicada_result_columns(const struct cicada_result *result)
{
    return (int)cicada_calls_of(result)->result_columns(result);
}
static inline int64_t cicada_result_affected(
    const struct cicada_result *result) /* rows an UPDATE, ... touched */
{
    return cicada_calls_of(result)->result_affected(result);
}
static inline int cicada_result_column(const struct cicada_result *result,
                                       const char *name) /* -1: no such column */
{
    return (int)cicada_calls_of(result)->result_column(result, name);
}
static inline const char *cicada_result_column_name(const struct cicada_result *result, int column)
{
    return cicada_calls_of(result)->result_column_name(result, (int32_t)column);
}
/* PostgreSQL's text form. NULL: SQL NULL, or no such row or column. */
static inline const char *cicada_result_text(const struct cicada_result *result, int row, int column,
                                             size_t *ret_len)
{
    return cicada_calls_of(result)->result_text(result, (int32_t)row, (int32_t)column, ret_len);
}
/* The same by column name. */
static inline const char *cicada_result_get(const struct cicada_result *result, int row, const char *column)
{
    return cicada_result_text(result, row, cicada_result_column(result, column), NULL);
}

/* ---- Response ---------------------------------------------------------------------------------------------------- */
/* A mistake in here (a status out of range, a member without a name, a header with a line break) is logged and answered
 * 500 `invalid_response`, and the transaction is rolled back: no call needs its result checked. A body above the
 * Function's `limits.responseBytes` is answered 500 `result_too_large` likewise. */

/* 200 to 599; the default is the Function's `http.successStatus`, 200 if that is not set. */
static inline void cicada_response_status(struct cicada_response *res, int status)
{
    cicada_calls_of(res)->response_status(res, (int32_t)status);
}
/* Adds a header, at most 48 and 24 KiB together; Content-Type replaces. Content-Length, Connection, Transfer-Encoding, Date and X-Request-Id are the
 * runtime's. */
static inline void cicada_response_header(struct cicada_response *res, const char *name, const char *value)
{
    cicada_calls_of(res)->response_header(res, name, value);
}
/* The whole body; replaces what was there. Without a Content-Type it is application/octet-stream. */
static inline void cicada_response_body(struct cicada_response *res, const void *data, size_t len)
{
    cicada_calls_of(res)->response_body(res, data, len);
}

/* The same without a copy: `data` belongs to the runtime from here on, which gives it to `release` (NULL: data lives for ever) once
 * it was sent or is not needed; on this thread, at the latest after the handler returned. It must not change meanwhile. */
static inline void cicada_response_body_take(struct cicada_response *res, void *data, size_t len,
                                             void (*release)(void *))
{
    cicada_calls_of(res)->response_body_take(res, data, len, release);
}

/* Streaming: sends a piece of the answer now. What was written as body or JSON so far goes before it, so that
 * cicada_stream_write(res, NULL, 0) sends that alone; what the handler leaves written goes last.
 *
 * The first call fixes status and headers and commits: CICADA_FAIL if that fails, and then the answer tells, as with
 * cicada_commit(). After it calls of the database are refused; only in handlers declared CICADA_READ_ONLY they go on. With a
 * status of 400 or above it rolls back instead.
 *
 * It returns when the piece is on its way, and waits for a slow peer; `timeoutSeconds` no longer applies. CICADA_FAIL: the
 * peer is gone, or did not read or was not written to for the Function's `idleTimeoutSeconds`; return then. If the handler fails
 * after the first piece, the connection is cut, so that the answer is visibly incomplete. `limits.responseBytes` does not
 * hold for all pieces together. HEAD gets no piece. Not for requests with an Idempotency-Key that the Function honours, nor for
 * an answer that its `output` sends on. */
static inline int cicada_stream_write(struct cicada_response *res, const void *data, size_t len)
{
    return cicada_calls_of(res)->stream_write(res, data, len);
}

/* JSON, piece by piece, as the body (application/json). `name` is the member's name inside an object, else NULL.
 *     cicada_write_begin_object(res, NULL);  cicada_write_int64(res, "id", 7);  cicada_write_end(res);     {"id":7}  */
static inline void cicada_write_begin_object(struct cicada_response *res, const char *name)
{
    cicada_calls_of(res)->write_begin(res, name, false);
}
static inline void cicada_write_begin_array(struct cicada_response *res, const char *name)
{
    cicada_calls_of(res)->write_begin(res, name, true);
}
static inline void cicada_write_end(struct cicada_response *res)
{
    cicada_calls_of(res)->write_end(res);
}
static inline void cicada_write_string(struct cicada_response *res, const char *name,
                                       const char *text) /* NULL: null */
{
    cicada_calls_of(res)->write_string(res, name, text, SIZE_MAX);
}
static inline void cicada_write_string_n(struct cicada_response *res, const char *name, const char *text,
                                         size_t len)
{
    cicada_calls_of(res)->write_string(res, name, text, len);
}
static inline void cicada_write_int64(struct cicada_response *res, const char *name, int64_t value)
{
    cicada_calls_of(res)->write_int64(res, name, value);
}
static inline void cicada_write_double(struct cicada_response *res, const char *name, double value)
{
    cicada_calls_of(res)->write_double(res, name, value); /* infinities and NaN: null */
}
static inline void cicada_write_bool(struct cicada_response *res, const char *name, bool value)
{
    cicada_calls_of(res)->write_bool(res, name, value);
}
static inline void cicada_write_null(struct cicada_response *res, const char *name)
{
    cicada_calls_of(res)->write_null(res, name);
}
/* Text that is JSON already (a jsonb column, cicada_json_raw()); it is checked. */
static inline void cicada_write_raw(struct cicada_response *res, const char *name, const char *json,
                                    size_t len)
{
    cicada_calls_of(res)->write_raw(res, name, json, len);
}
/* One row as an object: booleans, numbers, json and NULL as what they are, all else as PostgreSQL's text. */
static inline void cicada_write_row(struct cicada_response *res, const char *name,
                                    const struct cicada_result *result, int row)
{
    cicada_calls_of(res)->write_row(res, name, result, (int32_t)row);
}

/* An error answer, RFC 9457 (application/problem+json), in place of any body so far:
 *     {"type":"about:blank","title":"Conflict","status":409,"code":"out_of_stock","detail":"...",
 *      "component":"function","requestId":"..."}
 * `code` is for programs: lower case and '_'. The detail is for people, at most 511 bytes. Returns CICADA_FAIL. */
CICADA_FORMAT(4, 5)
static inline int cicada_problem(struct cicada_response *res, int status, const char *code,
                                 const char *format, ...)
{
    char detail[512];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof(detail), format, args);
    va_end(args);
    cicada_calls_of(res)->response_problem(res, (int32_t)status, code, detail);
    return CICADA_FAIL;
}

#ifdef __cplusplus
}
#endif

#endif
