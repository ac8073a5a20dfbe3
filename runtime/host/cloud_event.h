/* cloud_event.h - an event as a function sees it, whatever brought it: CloudEvents 1.0.
 *
 * All text is UTF-8 without control characters, ends in NUL, and belongs to the invocation's arena or to what lives longer.
 *
 * An event that comes by HTTP is a POST in one of the modes of the HTTP binding: binary (`ce-specversion` and the other attributes
 * are headers, the body is the data) or structured (Content-Type: application/cloudevents+json, the body is a document with both).
 * Once it was read, both are the same: the request has the data as its body, and the data's type as its Content-Type.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_HOST_CLOUD_EVENT_H
#define CICADA_HOST_CLOUD_EVENT_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/host/field_list.h"

#define CLOUD_EVENT_NAME_MAX_BYTES  64 /* of an attribute; the specification advises 20 */
#define CLOUD_EVENT_VALUE_MAX_BYTES 8192
#define CLOUD_EVENT_EXTENSIONS_MAX  64

struct arena;
struct cicada_request;

struct cloud_event {
    const char *id, *source, *type;
    const char *subject;      /* NULL: none, as below */
    const char *time;         /* RFC 3339 */
    const char *content_type; /* datacontenttype */
    const char *data_schema;
    const char *data; /* NULL: none */
    size_t data_len;
    struct field_list extensions; /* names in lower case: "cicadaattempt", "traceparent" */
};

/* By its name in CloudEvents: "id", "datacontenttype", an extension. NULL: there is none, or no event (NULL). */
const char *cloud_event_attribute(const struct cloud_event *event, const char *name);
/* Whether the data is JSON by its type: that is, or ends in, "json"; without a type it is JSON. */
bool cloud_event_has_json(const struct cloud_event *event);

enum cloud_event_mode {
    CLOUD_EVENT_NONE, /* the request does not say that it is an event */
    CLOUD_EVENT_BINARY,
    CLOUD_EVENT_STRUCTURED,
    CLOUD_EVENT_UNSUPPORTED, /* a batch, or in another format than JSON */
};
enum cloud_event_mode cloud_event_mode(const struct cicada_request *request);
/* mode: binary or structured; the latter changes body and Content-Type of the request. ERR_INVALID, ERR_TOO_LARGE: what is wrong
 * with the event. */
int cloud_event_read(struct cicada_request *request, enum cloud_event_mode mode, struct arena *arena,
                     const struct cloud_event **ret_event, struct err *err) MUST_CHECK;

#endif
