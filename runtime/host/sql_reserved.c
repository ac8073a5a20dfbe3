#include "runtime/host/sql_reserved.h"

#include <string.h>
#include <strings.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/host/cloud_event_text.h"

#define TEXT_MAX_BYTES (16u << 20) /* far beyond what a head can make */

enum repeats { REPEATS_MAKE_ARRAYS, REPEATS_ARE_JOINED };

static void put_string(struct strbuf *out, const char *text)
{
    strbuf_append_json_string(out, text, strlen(text));
}

/* The next of that name from `index` on; list->count: there is none. */
static size_t find(const struct field_list *list, size_t index, const char *name)
{
    while (index < list->count && strcmp(list->fields[index].name, name) != 0)
        index++;
    return index;
}

static void put_array(const struct field_list *list, size_t first, const char *name, struct strbuf *out)
{
    char before = '[';

    for (size_t i = first; i < list->count; i = find(list, i + 1, name)) {
        strbuf_append_char(out, before);
        put_string(out, list->fields[i].value);
        before = ',';
    }
    strbuf_append_char(out, ']');
}

static void put_joined(const struct field_list *list, size_t first, const char *name, struct strbuf *out)
{
    CLEANUP_STRBUF struct strbuf joined;

    strbuf_init(&joined, TEXT_MAX_BYTES);
    for (size_t i = first; i < list->count; i = find(list, i + 1, name)) {
        strbuf_append_str(&joined, i == first ? "" : ", ");
        strbuf_append_str(&joined, list->fields[i].value);
    }
    put_string(out, joined.buf);
}

static void put_fields(const struct field_list *list, enum repeats repeats, struct strbuf *out)
{
    char before = '{';

    for (size_t i = 0; i < list->count; i++) {
        const char *name = list->fields[i].name;

        if (find(list, 0, name) < i)
            continue;
        strbuf_append_char(out, before);
        put_string(out, name);
        strbuf_append_char(out, ':');
        if (find(list, i + 1, name) == list->count)
            put_string(out, list->fields[i].value);
        else if (repeats == REPEATS_ARE_JOINED)
            put_joined(list, i, name, out);
        else
            put_array(list, i, name, out);
        before = ',';
    }
    strbuf_append_str(out, before == '{' ? "{}" : "}");
}

static bool is_secret(const char *name)
{
    return strcasecmp(name, "Authorization") == 0 || strcasecmp(name, "Cookie") == 0;
}

/* A copy with names in lower case, without what is secret. */
static struct field_list open_headers(const struct field_list *headers, struct arena *arena)
{
    struct field_list copy = {arena_alloc(arena, (headers->count + 1) * sizeof(*copy.fields)), 0};

    for (size_t i = 0; i < headers->count; i++) {
        char *name;

        if (is_secret(headers->fields[i].name))
            continue;
        name = arena_strdup(arena, headers->fields[i].name);
        ascii_lower(name);
        copy.fields[copy.count++] = (struct field){name, headers->fields[i].value};
    }
    return copy;
}

/* ---- the event ---- */

static void put_event(const struct cloud_event *event, const struct cicada_request *request,
                      struct strbuf *out)
{
    cloud_event_print(event, cloud_event_has_json(event) && request->json != NULL, out);
}

static const char *copy_event(const struct cicada_request *request, const struct cloud_event *event,
                              bool in_array, struct arena *arena)
{
    CLEANUP_STRBUF struct strbuf text;

    strbuf_init(&text, cloud_event_text_max(event));
    if (in_array)
        strbuf_append_char(&text, '[');
    put_event(event, request, &text);
    if (in_array)
        strbuf_append_char(&text, ']');
    return arena_strndup(arena, text.buf, text.len);
}

/* An array of all that the invocation brings. */
static const char *events_text(const struct cicada_request *request, const struct cloud_event *event,
                               struct arena *arena)
{
    if (request->is_batch)
        return arena_strndup(arena, request->body, request->body_len);
    return event != NULL ? copy_event(request, event, /* in_array= */ true, arena) : NULL;
}

static const char *event_text(const struct cicada_request *request, const struct cloud_event *event,
                              struct arena *arena)
{
    return event != NULL ? copy_event(request, event, /* in_array= */ false, arena) : NULL;
}

const char *sql_reserved_text(enum sql_reserved reserved, const struct cicada_request *request,
                              const struct cloud_event *event, struct arena *arena)
{
    CLEANUP_STRBUF struct strbuf text;
    struct field_list headers;

    strbuf_init(&text, TEXT_MAX_BYTES);
    switch (reserved) {
    case SQL_RESERVED_QUERY:
        put_fields(&request->query, REPEATS_MAKE_ARRAYS, &text);
        break;
    case SQL_RESERVED_PATH:
        put_fields(&request->parameters, REPEATS_MAKE_ARRAYS, &text);
        break;
    case SQL_RESERVED_HEADERS:
        headers = open_headers(&request->headers, arena);
        put_fields(&headers, REPEATS_ARE_JOINED, &text);
        break;
    case SQL_RESERVED_EVENT:
        return event_text(request, event, arena);
    case SQL_RESERVED_EVENTS:
        return events_text(request, event, arena);
    case SQL_RESERVED_BODY:
    case SQL_RESERVED_NONE:
        if (request->json == NULL || json_node_type(json_doc_root(request->json)) == JSON_NULL)
            return NULL;
        return arena_strndup(arena, request->body, request->body_len);
    }
    return arena_strndup(arena, text.buf, text.len);
}
