#include "runtime/host/request.h"

#include <string.h>
#include <strings.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/host/url.h"

size_t request_id_len(const char *id)
{
    static const bool allowed[256] = {
        ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['0' ... '9'] = true,
        ['.'] = true,         ['_'] = true,         ['-'] = true,
    };
    size_t len = 0;

    while (allowed[(unsigned char)id[len]])
        len++;
    return len <= REQUEST_ID_MAX && id[len] == '\0' ? len : 0;
}

static char first_visible(const char *body, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (strchr(" \t\r\n", body[i]) == NULL || body[i] == '\0')
            return body[i];
    return '\0';
}

/* The type itself, without parameters: `media` has its length. */
static bool is_type(const char *media, size_t len, const char *type)
{
    return ascii_equal_nocase(media, len, type);
}

enum body_kind request_body_kind(const char *content_type, const char *body, size_t len)
{
    size_t type_len;

    if (len == 0)
        return BODY_NO_JSON;
    if (content_type == NULL)
        return BODY_JSON;
    content_type += strspn(content_type, " \t");
    type_len = strcspn(content_type, "; \t");
    if (type_len == 0 || is_type(content_type, type_len, "application/json") ||
        (type_len > 5 && is_type(content_type + type_len - 5, 5, "+json")))
        return BODY_JSON;
    if (strncasecmp(content_type, "multipart/", strlen("multipart/")) == 0)
        return BODY_NO_JSON;
    if (is_type(content_type, type_len,
                "application/x-www-form-urlencoded")) { /* what a bare `curl -d` sends */
        char first = first_visible(body, len);
        return first == '{' || first == '[' ? BODY_JSON : BODY_NO_JSON;
    }
    return BODY_MAYBE;
}

static const char *field_find(const struct field_list *list, const char *name, bool any_case)
{
    for (size_t i = 0; i < list->count; i++) {
        const char *candidate = list->fields[i].name;
        if (any_case ? http_name_is(candidate, name) : strcmp(candidate, name) == 0)
            return list->fields[i].value;
    }
    return NULL;
}

static bool field_at(const struct field_list *list, size_t index, const char **ret_name,
                     const char **ret_value)
{
    if (index >= list->count)
        return false;
    *ret_name = list->fields[index].name;
    *ret_value = list->fields[index].value;
    return true;
}

static void list_headers(struct cicada_request *request, struct arena *arena,
                         const struct request_source *source)
{
    struct field *fields = arena_alloc(arena, source->header_count * sizeof(*fields));

    for (size_t i = 0; i < source->header_count; i++) {
        fields[i].name = source->headers[i].name;
        fields[i].value = source->headers[i].value;
    }
    request->headers.fields = fields;
    request->headers.count = source->header_count;
}

void request_clear(struct cicada_request *request)
{
    memset(request, 0, offsetof(struct cicada_request, json_error));
}

int request_init(struct cicada_request *request, const struct cicada_calls *calls, struct arena *arena,
                 const struct request_source *source, struct err *err)
{
    request_clear(request);
    request->calls = calls;
    request->method = strcmp(source->method, "HEAD") == 0 ? "GET" : source->method;
    request->raw_path = source->raw_path;
    request->raw_query = source->query ? source->query : "";
    request->body = source->body;
    request->body_len = source->body_len;
    list_headers(request, arena, source);
    request->body_kind =
        request_body_kind(request_header(request, "Content-Type"), request->body, request->body_len);
    return url_query_parse(arena, source->query, &request->query, err);
}

void request_drop_header(struct cicada_request *request, const char *name)
{
    struct field_list *headers = &request->headers;
    size_t kept = 0;

    for (size_t i = 0; i < headers->count; i++)
        if (!http_name_is(headers->fields[i].name, name))
            headers->fields[kept++] = headers->fields[i];
    headers->count = kept;
}

void request_replace_body(struct cicada_request *request, const char *content_type, const char *body,
                          size_t len)
{
    struct field_list *headers = &request->headers;

    request_drop_header(request, "Content-Type"); /* which makes room for one */
    if (content_type != NULL)
        headers->fields[headers->count++] = (struct field){"Content-Type", content_type};
    request->body = body;
    request->body_len = len;
    request->body_kind = request_body_kind(content_type, body, len);
}

void request_release(struct cicada_request *request)
{
    json_doc_free(steal_ptr(&request->json));
}

static int parse_json(struct cicada_request *request, struct err *err)
{
    if (json_reader_parse(request->body, request->body_len, REQUEST_JSON_DEPTH_MAX, &request->json, err) == 0)
        return 0;
    request->json_malformed = true;
    request->json_error = *err;
    return -1;
}

int request_parse_declared_json(struct cicada_request *request, struct err *err)
{
    if (request->body_kind != BODY_JSON || request->json != NULL) /* the latter: run again */
        return 0;
    return parse_json(request, err);
}

const char *request_method(const struct cicada_request *request)
{
    return request->method;
}

const char *request_path(const struct cicada_request *request)
{
    return request->raw_path;
}

const char *request_parameter(const struct cicada_request *request, const char *name)
{
    return field_find(&request->parameters, name, false);
}

const char *request_query(const struct cicada_request *request, const char *name)
{
    return field_find(&request->query, name, false);
}

bool request_query_at(const struct cicada_request *request, size_t index, const char **ret_name,
                      const char **ret_value)
{
    return field_at(&request->query, index, ret_name, ret_value);
}

const char *request_header(const struct cicada_request *request, const char *name)
{
    return field_find(&request->headers, name, true);
}

bool request_header_at(const struct cicada_request *request, size_t index, const char **ret_name,
                       const char **ret_value)
{
    return field_at(&request->headers, index, ret_name, ret_value);
}

const char *request_body(const struct cicada_request *request, size_t *ret_len)
{
    if (ret_len != NULL)
        *ret_len = request->body_len;
    return request->body;
}

const struct cicada_json_node *request_json(struct cicada_request *request)
{
    struct err err = ERR_INIT;

    if (request->json == NULL && request->body_kind == BODY_MAYBE && !request->json_malformed)
        (void)parse_json(request, &err); /* the request knows that it is malformed, and why */
    /* The SDK's node is the reader's node under a name of its own. */
    return request->json ? (const struct cicada_json_node *)(const void *)json_doc_root(request->json) : NULL;
}
