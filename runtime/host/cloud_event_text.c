#include "runtime/host/cloud_event_text.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define ATTRIBUTES_MAX_BYTES (16u << 20) /* far beyond what a head can make */

size_t cloud_event_text_max(const struct cloud_event *event)
{
    return ATTRIBUTES_MAX_BYTES + TEXT_JSON_ESCAPE_SIZE * event->data_len;
}

static void put_string(struct strbuf *out, const char *text)
{
    strbuf_append_json_string(out, text, strlen(text));
}

static void put_attribute(struct strbuf *out, const char *name, const char *value)
{
    if (value == NULL)
        return;
    strbuf_append_char(out, ',');
    put_string(out, name);
    strbuf_append_char(out, ':');
    put_string(out, value);
}

static void put_data(const struct cloud_event *event, bool is_json, struct strbuf *out)
{
    if (is_json) {
        strbuf_append_str(out, ",\"data\":");
        strbuf_append(out, event->data, event->data_len);
    } else if (is_valid_utf8(event->data, event->data_len) &&
               memchr(event->data, '\0', event->data_len) == NULL) { /* which jsonb can't hold */
        put_attribute(out, "data", event->data);
    } else {
        strbuf_append_str(out, ",\"data_base64\":\"");
        strbuf_append_base64(out, event->data, event->data_len);
        strbuf_append_char(out, '"');
    }
}

void cloud_event_print(const struct cloud_event *event, bool data_is_json, struct strbuf *out)
{
    static const char *const names[] = {"id",   "source",          "type",      "subject",
                                        "time", "datacontenttype", "dataschema"};

    strbuf_append_str(out, "{\"specversion\":\"1.0\"");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        put_attribute(out, names[i], cloud_event_attribute(event, names[i]));
    for (size_t i = 0; i < event->extensions.count; i++)
        put_attribute(out, event->extensions.fields[i].name, event->extensions.fields[i].value);
    if (event->data != NULL)
        put_data(event, data_is_json, out);
    strbuf_append_char(out, '}');
}
