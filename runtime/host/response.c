#include "runtime/host/response.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/mem.h"

#define BODY_USUAL_BYTES 512 /* needs no memory but the arena's */

void response_init(struct cicada_response *response, const struct cicada_calls *calls, struct arena *arena,
                   const char *request_id, int success_status, size_t max_bytes)
{
    memset(response, 0, offsetof(struct cicada_response, mistake));
    response->mistake[0] = '\0';
    response->in_array[0] = response->has_items[0] = false;
    response->calls = calls;
    response->arena = arena;
    response->request_id = request_id;
    response->status = success_status;
    response->max_bytes = max_bytes;
    /* Room for an error body under any limit; response_check() looks at the limit itself. */
    strbuf_init_with(&response->body, arena_alloc(arena, BODY_USUAL_BYTES), BODY_USUAL_BYTES,
                     max_bytes > PROBLEM_MAX_BYTES ? max_bytes : PROBLEM_MAX_BYTES);
}

void response_reset(struct cicada_response *response, int success_status)
{
    struct invocation *invocation = response->invocation;

    response_release(response);
    response_init(response, response->calls, response->arena, response->request_id, success_status,
                  response->max_bytes);
    response->invocation = invocation;
}

static void release_taken(struct cicada_response *response)
{
    void *data = steal_ptr(&response->taken.data);

    response->taken.len = 0;
    if (data != NULL && response->taken.release != NULL)
        response->taken.release(data);
}

void response_release(struct cicada_response *response)
{
    release_taken(response);
    strbuf_release(&response->body);
}

void response_mistake(struct cicada_response *response, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (response->mistake[0] == '\0')
        vsnprintf(response->mistake, sizeof(response->mistake), format, args);
    va_end(args);
}

void response_clear_body(struct cicada_response *response)
{
    strbuf_clear(&response->body);
    release_taken(response);
    if (response->is_problem) /* its type goes with it; the handler's own stays */
        response->content_type = NULL;
    response->is_problem = false;
    response->writing = false;
    response->depth = 0;
    response->has_items[0] = false;
}

int response_check(const struct cicada_response *response, struct err *err)
{
    if (response->mistake[0] != '\0')
        return err_set(err, ERR_INVALID, "%s", response->mistake);
    if (response->depth > 0)
        return err_set(err, ERR_INVALID, "JSON: %d objects or arrays were not ended", response->depth);
    if (strbuf_failed(&response->body) || response->taken.len > response->max_bytes ||
        (!response->is_problem && response->body.len > response->max_bytes))
        return err_set(err, ERR_TOO_LARGE, "the body is larger than %zu bytes", response->max_bytes);
    return 0;
}

/* False: it is too late to change what was sent. */
static bool is_open(struct cicada_response *response)
{
    if (response->begun)
        response_mistake(response, "status, headers or body were set after the answer had begun");
    return !response->begun;
}

void response_status(struct cicada_response *response, int32_t status)
{
    if (!is_open(response))
        return;
    if (status < 200 || status > 599)
        response_mistake(response, "status %d is not within 200 and 599", (int)status);
    else
        response->status = status;
}

static bool is_ours(const char *name)
{
    static const char *const names[] = {"Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive",
                                        "Upgrade",        "Trailer",           "Date",       "X-Request-Id"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (http_name_is(name, names[i]))
            return true;
    return false;
}

static void add_header(struct cicada_response *response, const char *name, const char *value)
{
    response->head_bytes += strlen(name) + strlen(value);
    if (http_name_is(name, "Content-Type"))
        response->content_type = arena_strdup(response->arena, value);
    else if (response->header_count == RESPONSE_HEADERS_MAX)
        response_mistake(response, "more than %d headers", RESPONSE_HEADERS_MAX);
    else
        response->headers[response->header_count++] =
            (struct http_header){arena_strdup(response->arena, name), arena_strdup(response->arena, value)};
}

void response_header(struct cicada_response *response, const char *name, const char *value)
{
    if (!is_open(response))
        return;
    if (!http_header_is_valid(name, value))
        response_mistake(response, "header \"%.40s\": name or value has a character that is not allowed",
                         name);
    else if (is_ours(name))
        response_mistake(response, "header %s belongs to the runtime", name);
    else if (strlen(name) + strlen(value) > RESPONSE_HEADER_MAX_BYTES)
        response_mistake(response, "header %.40s is longer than %d bytes", name, RESPONSE_HEADER_MAX_BYTES);
    else if (response->head_bytes + strlen(name) + strlen(value) > RESPONSE_HEAD_MAX_BYTES)
        response_mistake(response, "the headers are longer than %d bytes together", RESPONSE_HEAD_MAX_BYTES);
    else
        add_header(response, name, value);
}

void response_body(struct cicada_response *response, const void *data, size_t len)
{
    if (!is_open(response))
        return;
    response_clear_body(response);
    if (len > 0)
        (void)strbuf_append(&response->body, data, len); /* too large shows in response_check() */
}

void response_body_take(struct cicada_response *response, void *data, size_t len, void (*release)(void *))
{
    if (is_open(response)) {
        response_clear_body(response);
        response->taken.data = data;
        response->taken.len = data != NULL ? len : 0;
        response->taken.release = release;
    } else if (data != NULL && release != NULL) {
        release(data);
    }
}

const char *response_bytes(const struct cicada_response *response, size_t *ret_len)
{
    *ret_len = response->taken.data != NULL ? response->taken.len : response->body.len;
    return response->taken.data != NULL ? response->taken.data : response->body.buf;
}

void response_drop_bytes(struct cicada_response *response)
{
    strbuf_clear(&response->body);
    release_taken(response);
}

static void put_problem(struct cicada_response *response, const struct problem *problem)
{
    response_clear_body(response);
    response->status = problem->status;
    response->content_type = PROBLEM_CONTENT_TYPE;
    response->is_problem = true;
    problem_print(problem, response->request_id, &response->body);
}

static bool is_code(const char *code)
{
    size_t len = strspn(code, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return len > 0 && len <= 64 && code[len] == '\0';
}

void response_problem(struct cicada_response *response, int32_t status, const char *code, const char *detail)
{
    struct problem problem = {.status = status, .code = code, .detail = detail, .component = "function"};

    if (!is_open(response))
        return;
    if (status < 400 || status > 599)
        response_mistake(response, "cicada_problem(): status %d is not within 400 and 599", (int)status);
    else if (!is_code(code))
        response_mistake(response, "cicada_problem(): code \"%.40s\" has other characters than a-z, 0-9, _",
                         code);
    else
        put_problem(response, &problem);
}

void response_set_problem(struct cicada_response *response, const struct problem *problem, int retry_after_s)
{
    char seconds[16];

    response->header_count = 0;
    response->head_bytes = 0;
    response->mistake[0] = '\0';
    response->replayed = false;
    put_problem(response, problem);
    if (retry_after_s > 0) {
        snprintf(seconds, sizeof(seconds), "%d", retry_after_s);
        response_header(response, "Retry-After", seconds);
    }
}

const char *response_content_type(const struct cicada_response *response)
{
    size_t len;

    (void)response_bytes(response, &len);
    if (response->content_type != NULL || len == 0)
        return response->content_type;
    return response->writing ? "application/json" : "application/octet-stream";
}

#define RESPONSE_HEADERS_ALL (RESPONSE_HEADERS_MAX + 3)

static size_t collect_headers(const struct cicada_response *response, const char *content_type,
                              struct http_header headers[RESPONSE_HEADERS_ALL])
{
    size_t count = 0;

    if (content_type != NULL)
        headers[count++] = (struct http_header){"Content-Type", content_type};
    if (response->replayed)
        headers[count++] = (struct http_header){"Idempotency-Replayed", "true"};
    headers[count++] = (struct http_header){"X-Request-Id", response->request_id};
    for (size_t i = 0; i < response->header_count; i++)
        headers[count++] = response->headers[i];
    return count;
}

int response_send(const struct cicada_response *response, struct http_request *http, struct err *err)
{
    struct http_header headers[RESPONSE_HEADERS_ALL];
    size_t count = collect_headers(response, response_content_type(response), headers);
    size_t len;
    const char *body = response_bytes(response, &len);

    return http_request_respond(http, response->status, headers, count, body, len, err);
}

int response_stream_begin(struct cicada_response *response, struct http_request *http, struct err *err)
{
    struct http_header headers[RESPONSE_HEADERS_ALL];
    const char *content_type = response_content_type(response);
    size_t count;

    if (content_type == NULL) /* the bytes come with the call that begins it */
        content_type = "application/octet-stream";
    count = collect_headers(response, content_type, headers);
    response->begun = true;
    return http_request_stream_begin(http, response->status, headers, count, err);
}
