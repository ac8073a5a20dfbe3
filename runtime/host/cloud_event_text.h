/* cloud_event_text.h - an event as a document: CloudEvents' JSON format, structured mode, with the data inside.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_HOST_CLOUD_EVENT_TEXT_H
#define CICADA_HOST_CLOUD_EVENT_TEXT_H

#include "runtime/base/strbuf.h"
#include "runtime/host/cloud_event.h"

#define CLOUD_EVENT_BATCH_TYPE "application/cloudevents-batch+json"

/* Most bytes that cloud_event_print() makes of it. */
size_t cloud_event_text_max(const struct cloud_event *event);
/* data_is_json: the data is one JSON value, and becomes a member as it is. */
void cloud_event_print(const struct cloud_event *event, bool data_is_json, struct strbuf *out);

#endif
