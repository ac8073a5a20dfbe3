/* Headers, each a line, an empty line, and a body: what a POST has. If it says that it is an event, in binary or structured mode, it is refused
 * with a message, or all that is promised of an event holds, and its JSON form, as `:_event` has it, is the same event again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/host/cloud_event.h"
#include "runtime/host/context.h"
#include "runtime/host/request.h"
#include "runtime/host/sql_reserved.h"

#define HEADERS_MAX 80

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool same(const char *a, const char *b)
{
    return str_equal_or_both_null(a, b);
}

static void check_text(const char *text)
{
    size_t len = text ? strlen(text) : 0;

    require(is_valid_utf8(text ? text : "", len) && len <= CLOUD_EVENT_VALUE_MAX_BYTES);
    for (size_t i = 0; i < len; i++)
        require((unsigned char)text[i] >= ' ' && text[i] != 0x7F);
}

static void check_event(const struct cloud_event *event, const struct cicada_request *request)
{
    static const char *const names[] = {"id", "source", "type", "subject", "datacontenttype", "dataschema"};
    int64_t ignored;

    require(event->id != NULL && event->source != NULL && event->type != NULL);
    require(event->time == NULL || parse_rfc3339(event->time, &ignored));
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const char *value = cloud_event_attribute(event, names[i]);
        require(value == NULL || value[0] != '\0');
        check_text(value);
    }
    require(event->extensions.count <= CLOUD_EVENT_EXTENSIONS_MAX);
    for (size_t i = 0; i < event->extensions.count; i++) {
        const struct field *field = &event->extensions.fields[i];
        size_t len = strlen(field->name);
        require(len > 0 && len <= CLOUD_EVENT_NAME_MAX_BYTES);
        require(strspn(field->name, "abcdefghijklmnopqrstuvwxyz0123456789") == len);
        require(cloud_event_attribute(event, field->name) == field->value);
        check_text(field->value);
    }
    require(event->data != NULL || event->data_len == 0);
    require(request->body_len == event->data_len && request->body[request->body_len] == '\0');
    require(event->data_len == 0 || memcmp(request->body, event->data, event->data_len) == 0);
    if (event->content_type != NULL)
        require(same(event->content_type, request_header(request, "Content-Type")));
}

static void check_same(const struct cloud_event *event, const struct cloud_event *again)
{
    require(same(event->id, again->id) && same(event->source, again->source));
    require(same(event->type, again->type) && same(event->subject, again->subject));
    require(same(event->time, again->time) && same(event->data_schema, again->data_schema));
    require(event->content_type == NULL || same(event->content_type, again->content_type));
    require(event->extensions.count == again->extensions.count);
    for (size_t i = 0; i < event->extensions.count; i++)
        require(same(event->extensions.fields[i].name, again->extensions.fields[i].name) &&
                same(event->extensions.fields[i].value, again->extensions.fields[i].value));
    require((event->data == NULL) == (again->data == NULL) && event->data_len == again->data_len);
    if (event->data != NULL && again->data != NULL)
        require(memcmp(event->data, again->data, event->data_len) == 0);
}

static void check_json(const struct cloud_event *event, struct cicada_request *request, struct arena *arena)
{
    const struct http_header header = {"Content-Type", "application/cloudevents+json"};
    struct request_source source = {.method = "POST", .raw_path = "/", .headers = &header, .header_count = 1};
    struct cicada_request second;
    const struct cloud_event *again = NULL;
    struct err err = ERR_INIT;

    /* Data that is not the JSON that it is to be is answered before anybody asks for the event. */
    if (event->data != NULL && cloud_event_has_json(event) && request_json(request) == NULL)
        return;
    source.body = sql_reserved_text(SQL_RESERVED_EVENT, request, event, arena);
    source.body_len = strlen(source.body);
    require(request_init(&second, &sdk_calls, arena, &source, &err) == 0);
    require(cloud_event_read(&second, CLOUD_EVENT_STRUCTURED, arena, &again, &err) == 0);
    check_event(again, &second);
    check_same(event, again);
    request_release(&second);
}

static void check_request(const struct request_source *source)
{
    struct cicada_request request;
    const struct cloud_event *event = NULL;
    enum cloud_event_mode mode;
    struct arena arena;
    struct err err = ERR_INIT;

    arena_init(&arena);
    require(request_init(&request, &sdk_calls, &arena, source, &err) == 0);
    mode = cloud_event_mode(&request);
    if (mode == CLOUD_EVENT_BINARY || mode == CLOUD_EVENT_STRUCTURED) {
        if (cloud_event_read(&request, mode, &arena, &event, &err) == 0) {
            check_event(event, &request);
            check_json(event, &request, &arena);
        } else {
            require((err.code == ERR_INVALID || err.code == ERR_TOO_LARGE) && err.msg[0] != '\0');
        }
    }
    request_release(&request);
    arena_release(&arena);
}

/* Ends the line at `at` and returns the next one's start. */
static char *end_line(char *at, char *end)
{
    char *newline = memchr(at, '\n', (size_t)(end - at));

    if (newline == NULL)
        return end;
    *newline = '\0';
    return newline + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = xmalloc(size + 1);
    char *at = text, *end = text + size;
    struct http_header headers[HEADERS_MAX];
    struct request_source source = {.method = "POST", .raw_path = "/", .headers = headers};

    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    while (at < end && source.header_count < HEADERS_MAX) {
        char *line = at, *colon;

        at = end_line(line, end);
        colon = strstr(line, ": ");
        if (line[0] == '\0')
            break;
        if (colon == NULL)
            continue;
        *colon = '\0';
        if (http_header_is_valid(line, colon + 2))
            headers[source.header_count++] = (struct http_header){line, colon + 2};
    }
    source.body = at;
    source.body_len = (size_t)(end - at);
    check_request(&source);
    return 0;
}
