/* cloud_event.h - an event as a function sees it, whatever brought it: CloudEvents 1.0.
 *
 * All text is UTF-8, ends in NUL, and belongs to the invocation's arena or to what lives longer.
 */
#ifndef CICADA_HOST_CLOUD_EVENT_H
#define CICADA_HOST_CLOUD_EVENT_H

#include <stddef.h>

#include "runtime/host/field_list.h"

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

#endif
