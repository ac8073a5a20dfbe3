/* event_calls.h - the calls of the SDK that concern events; see runtime/sdk/cicada/function.h. */
#ifndef CICADA_HOST_EVENT_CALLS_H
#define CICADA_HOST_EVENT_CALLS_H

#include "runtime/sdk/cicada/function.h"

const char *event_call_attribute(const struct cicada_context *ctx, const char *name);
bool event_call_next(struct cicada_context *ctx);
size_t event_call_count(const struct cicada_context *ctx);
const char *event_call_data(const struct cicada_context *ctx, size_t *ret_len);
const struct cicada_json_node *event_call_json(struct cicada_context *ctx);
int event_call_fail(struct cicada_context *ctx, int32_t status, const char *text);

#endif
