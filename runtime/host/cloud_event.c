#include "runtime/host/cloud_event.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/base64.h"
#include "runtime/base/json_reader.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/host/arena.h"
#include "runtime/host/request.h"
#include "runtime/host/url.h"

#define SPEC_VERSION  "1.0"
#define MEDIA_TYPE    "application/cloudevents"
#define HEADER_PREFIX "ce-"

/* An event while it is read. */
struct reader {
    struct cicada_request *request;
    struct arena *arena;
    struct cloud_event *event;
    size_t extensions_max;
    const char *spec_version;
    struct err *err;
};

static const struct {
    const char *name;
    size_t offset;
} known_attributes[] = {
    {"id", offsetof(struct cloud_event, id)},
    {"source", offsetof(struct cloud_event, source)},
    {"type", offsetof(struct cloud_event, type)},
    {"subject", offsetof(struct cloud_event, subject)},
    {"time", offsetof(struct cloud_event, time)},
    {"datacontenttype", offsetof(struct cloud_event, content_type)},
    {"dataschema", offsetof(struct cloud_event, data_schema)},
};

/* NULL: it is an extension. */
static const char **known_attribute(struct cloud_event *event, const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(known_attributes); i++)
        if (strcmp(known_attributes[i].name, name) == 0)
            return (const char **)(void *)((char *)event + known_attributes[i].offset);
    return NULL;
}

static const char *extension(const struct cloud_event *event, const char *name)
{
    for (size_t i = 0; i < event->extensions.count; i++)
        if (strcmp(event->extensions.fields[i].name, name) == 0)
            return event->extensions.fields[i].value;
    return NULL;
}

const char *cloud_event_attribute(const struct cloud_event *event, const char *name)
{
    if (event == NULL)
        return NULL;
    if (strcmp(name, "specversion") == 0)
        return SPEC_VERSION;
    for (size_t i = 0; i < ARRAY_SIZE(known_attributes); i++)
        if (strcmp(known_attributes[i].name, name) == 0)
            return *(const char *const *)(const void *)((const char *)event + known_attributes[i].offset);
    return extension(event, name);
}

bool cloud_event_has_json(const struct cloud_event *event)
{
    const char *type = event->content_type;
    const char *slash = type ? strchr(type, '/') : NULL;
    size_t len;

    if (type == NULL)
        return true;
    if (slash == NULL)
        return false;
    len = strcspn(slash + 1, "; \t");
    return ascii_equal_nocase(slash + 1, len, "json") ||
           (len > 5 && ascii_equal_nocase(slash + 1 + len - 5, 5, "+json"));
}

/* ---- attributes ---- */

static int refuse(const struct reader *reader, const char *name, const char *why)
{
    return err_set(reader->err, ERR_INVALID, "the event's attribute \"%.*s\" %s", CLOUD_EVENT_NAME_MAX_BYTES,
                   name, why);
}

static int check_name(const struct reader *reader, const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");

    if (len == 0 || name[len] != '\0')
        return refuse(reader, name, "has a name of other characters than a to z and 0 to 9");
    if (len > CLOUD_EVENT_NAME_MAX_BYTES)
        return refuse(reader, name, "has a name that is too long");
    return 0;
}

/* Control characters are those of ASCII, and U+0080 to U+009F. */
static bool has_control_character(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++)
        if (*at < 0x20 || *at == 0x7F || (at[0] == 0xC2 && at[1] < 0xA0))
            return true;
    return false;
}

static int check_value(const struct reader *reader, const char *name, const char *value, bool may_be_empty)
{
    size_t len = strlen(value);

    if (len == 0 && !may_be_empty)
        return refuse(reader, name, "is empty");
    if (len > CLOUD_EVENT_VALUE_MAX_BYTES)
        return refuse(reader, name, "is too long");
    if (!is_valid_utf8(value, len))
        return refuse(reader, name, "is not UTF-8");
    if (has_control_character(value))
        return refuse(reader, name, "has a control character");
    return 0;
}

static int add_extension(struct reader *reader, const char *name, const char *value)
{
    struct field_list *extensions = &reader->event->extensions;

    if (extension(reader->event, name) != NULL)
        return refuse(reader, name, "is there more than once");
    if (extensions->count == reader->extensions_max)
        return err_set(reader->err, ERR_TOO_LARGE, "the event has more than %d extensions",
                       CLOUD_EVENT_EXTENSIONS_MAX);
    extensions->fields[extensions->count++] = (struct field){name, value};
    return 0;
}

/* Name and value live as long as the event. */
static int set_attribute(struct reader *reader, const char *name, const char *value)
{
    bool is_version = strcmp(name, "specversion") == 0;
    const char **place = is_version ? &reader->spec_version : known_attribute(reader->event, name);

    if (check_name(reader, name) != 0 ||
        check_value(reader, name, value, /* may_be_empty= */ place == NULL) != 0)
        return -1;
    if (place == NULL)
        return add_extension(reader, name, value);
    if (*place != NULL)
        return refuse(reader, name, "is there more than once");
    *place = value;
    return 0;
}

static int check_event(const struct reader *reader)
{
    const struct cloud_event *event = reader->event;
    int64_t ignored;

    if (reader->spec_version == NULL)
        return refuse(reader, "specversion", "is missing");
    if (strcmp(reader->spec_version, SPEC_VERSION) != 0)
        return refuse(reader, "specversion", "is not " SPEC_VERSION);
    if (event->id == NULL)
        return refuse(reader, "id", "is missing");
    if (event->source == NULL)
        return refuse(reader, "source", "is missing");
    if (event->type == NULL)
        return refuse(reader, "type", "is missing");
    if (event->time != NULL && !parse_rfc3339(event->time, &ignored))
        return refuse(reader, "time", "is no time of RFC 3339");
    return 0;
}

static void expect_extensions(struct reader *reader, size_t count)
{
    reader->extensions_max = count < CLOUD_EVENT_EXTENSIONS_MAX ? count : CLOUD_EVENT_EXTENSIONS_MAX;
    reader->event->extensions.fields =
        arena_alloc(reader->arena, reader->extensions_max * sizeof(struct field));
}

/* ---- binary mode ---- */

/* What stands between quotes, as older senders write it; all of a value without them. */
static int unquote(const struct reader *reader, const char *name, const char *value, const char **ret_text)
{
    char *text;
    size_t len = 0;

    *ret_text = value;
    if (value[0] != '"')
        return 0;
    text = arena_alloc(reader->arena, strlen(value));
    for (value++; *value != '"'; value++) {
        if (*value == '\\')
            value++;
        if (*value == '\0')
            return refuse(reader, name, "lacks its closing quote");
        text[len++] = *value;
    }
    if (value[1] != '\0')
        return refuse(reader, name, "goes on behind its closing quote");
    text[len] = '\0';
    *ret_text = text;
    return 0;
}

static int take_header(struct reader *reader, const struct field *header)
{
    char *name = arena_strdup(reader->arena, header->name + strlen(HEADER_PREFIX));
    const char *text, *value;

    ascii_lower(name);
    if (strcmp(name, "data") == 0 || strcmp(name, "datacontenttype") == 0)
        return refuse(reader, name, "is no header: the data is the body, its type is in Content-Type");
    if (unquote(reader, name, header->value, &text) != 0)
        return -1;
    if (url_decode(reader->arena, text, strlen(text), /* plus_is_space= */ false, &value, reader->err) != 0)
        return err_wrap(reader->err, "the event's attribute \"%.*s\"", CLOUD_EVENT_NAME_MAX_BYTES, name);
    return set_attribute(reader, name, value);
}

static bool is_event_header(const struct field *header)
{
    return strncasecmp(header->name, HEADER_PREFIX, strlen(HEADER_PREFIX)) == 0;
}

static int read_binary(struct reader *reader)
{
    const struct cicada_request *request = reader->request;
    const char *content_type = request_header(request, "Content-Type");

    expect_extensions(reader, request->headers.count);
    for (size_t i = 0; i < request->headers.count; i++)
        if (is_event_header(&request->headers.fields[i]) &&
            take_header(reader, &request->headers.fields[i]) != 0)
            return -1;
    if (content_type != NULL && content_type[0] != '\0' &&
        set_attribute(reader, "datacontenttype", content_type) != 0)
        return -1;
    if (request->body_len > 0) {
        reader->event->data = request->body;
        reader->event->data_len = request->body_len;
    }
    return 0;
}

/* ---- structured mode ---- */

static void set_data(struct reader *reader, const char *data, size_t len)
{
    reader->event->data = arena_strndup(reader->arena, data, len);
    reader->event->data_len = len;
}

static int take_base64(struct reader *reader, const struct json_node *node)
{
    const char *encoded = json_node_string(node, NULL);
    CLEANUP_FREE char *bytes = NULL;
    char *data;
    size_t len;

    if (encoded == NULL)
        return refuse(reader, "data_base64", "is no string");
    if (base64_decode(encoded, &bytes, &len, reader->err) != 0)
        return err_wrap(reader->err, "the event's \"data_base64\"");
    data = arena_alloc(reader->arena, len + 1);
    memcpy(data, bytes, len + 1);
    reader->event->data = data;
    reader->event->data_len = len;
    return 0;
}

/* JSON as it stands in the document; text of any other type is a string there. */
static int take_data(struct reader *reader, const struct json_node *node)
{
    struct cloud_event *event = reader->event;
    bool is_json = cloud_event_has_json(event);
    size_t len;
    const char *text = is_json ? json_node_raw(node, &len) : json_node_string(node, &len);

    if (!is_json && json_node_type(node) == JSON_NULL)
        return 0;
    if (text == NULL)
        return refuse(reader, "data", "is no string, though its datacontenttype is not JSON");
    set_data(reader, text, len);
    if (event->content_type == NULL)
        event->content_type = "application/json";
    return 0;
}

/* Booleans and integers as their text: what a header would have. */
static int take_member(struct reader *reader, const struct json_node *node)
{
    const char *name = arena_strdup(reader->arena, json_node_name(node, NULL));
    bool is_text = strcmp(name, "specversion") == 0 || known_attribute(reader->event, name) != NULL;
    enum json_type type = json_node_type(node);
    size_t len;
    const char *text = json_node_string(node, &len);

    if (type == JSON_NULL) /* as if it were not there */
        return 0;
    if (type != JSON_STRING && is_text)
        return refuse(reader, name, "is no string");
    if (type == JSON_ARRAY || type == JSON_OBJECT)
        return refuse(reader, name, "is neither a string nor an integer nor a boolean");
    if (type != JSON_STRING)
        text = json_node_raw(node, &len);
    if (type == JSON_NUMBER && strcspn(text, ".eE") < len)
        return refuse(reader, name, "is a number, but no integer");
    return set_attribute(reader, name, arena_strndup(reader->arena, text, len));
}

static int take_document(struct reader *reader, const struct json_node *root)
{
    const struct json_node *data = NULL, *base64 = NULL;

    if (json_node_type(root) != JSON_OBJECT)
        return err_set(reader->err, ERR_INVALID, "the event is no JSON object");
    expect_extensions(reader, json_node_count(root));
    for (const struct json_node *node = json_node_first(root); node != NULL; node = json_node_next(node)) {
        const char *name = json_node_name(node, NULL);

        if (strcmp(name, "data") == 0)
            data = node;
        else if (strcmp(name, "data_base64") == 0)
            base64 = json_node_type(node) == JSON_NULL ? NULL : node;
        else if (take_member(reader, node) != 0)
            return -1;
    }
    if (data != NULL && base64 != NULL)
        return err_set(reader->err, ERR_INVALID, "the event has both \"data\" and \"data_base64\"");
    if (base64 != NULL)
        return take_base64(reader, base64);
    return data != NULL ? take_data(reader, data) : 0;
}

static int read_structured(struct reader *reader)
{
    struct cicada_request *request = reader->request;
    struct cloud_event *event = reader->event;
    struct json_doc *doc = NULL;
    int rc;

    if (json_reader_parse(request->body, request->body_len, REQUEST_JSON_DEPTH_MAX + 1, &doc, reader->err) !=
        0)
        return err_wrap(reader->err, "the event is no JSON");
    rc = take_document(reader, json_doc_root(doc));
    json_doc_free(doc);
    if (rc == 0)
        request_replace_body(request, event->content_type, event->data ? event->data : "", event->data_len);
    return rc;
}

/* ---- requests ---- */

enum cloud_event_mode cloud_event_mode(const struct cicada_request *request)
{
    const char *type = request_header(request, "Content-Type");
    size_t len;

    if (strcmp(request->method, "POST") != 0)
        return CLOUD_EVENT_NONE;
    if (type != NULL) {
        type += strspn(type, " \t");
        len = strcspn(type, "; \t");
        if (ascii_equal_nocase(type, len, MEDIA_TYPE "+json"))
            return CLOUD_EVENT_STRUCTURED;
        if (strncasecmp(type, MEDIA_TYPE, strlen(MEDIA_TYPE)) == 0)
            return CLOUD_EVENT_UNSUPPORTED;
    }
    return request_header(request, HEADER_PREFIX "specversion") != NULL ? CLOUD_EVENT_BINARY
                                                                        : CLOUD_EVENT_NONE;
}

int cloud_event_read(struct cicada_request *request, enum cloud_event_mode mode, struct arena *arena,
                     const struct cloud_event **ret_event, struct err *err)
{
    struct cloud_event *event = arena_alloc(arena, sizeof(*event));
    struct reader reader = {.request = request, .arena = arena, .event = event, .err = err};

    memset(event, 0, sizeof(*event));
    if ((mode == CLOUD_EVENT_STRUCTURED ? read_structured(&reader) : read_binary(&reader)) != 0 ||
        check_event(&reader) != 0)
        return -1;
    *ret_event = event;
    return 0;
}
