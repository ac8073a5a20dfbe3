#include "runtime/host/event_calls.h"

#include "runtime/base/json_reader.h"
#include "runtime/host/event_batch.h"
#include "runtime/host/invocation.h"

static const struct cloud_event *current_of(const struct invocation *invocation)
{
    const struct event_item *item;

    if (invocation == NULL || invocation->batch == NULL)
        return invocation != NULL ? invocation->event : NULL;
    item = event_batch_current(invocation->batch);
    return item != NULL ? &item->cloud : NULL;
}

const char *event_call_attribute(const struct cicada_context *ctx, const char *name)
{
    return cloud_event_attribute(current_of(ctx->invocation), name);
}

size_t event_call_count(const struct cicada_context *ctx)
{
    const struct invocation *invocation = ctx->invocation;

    if (invocation == NULL)
        return 0;
    return invocation->batch != NULL ? invocation->batch->count : invocation->event != NULL;
}

static bool next_of_batch(struct invocation *invocation)
{
    struct event_batch *batch = invocation->batch;

    if (!event_batch_next(batch, &invocation->database))
        return false;
    if (batch->taken > 1)
        batch->node = json_node_next(batch->node);
    else
        batch->node = json_node_first(json_doc_root(invocation->request.json));
    return true;
}

bool event_call_next(struct cicada_context *ctx)
{
    struct invocation *invocation = ctx->invocation;

    if (invocation == NULL)
        return false;
    if (invocation->batch != NULL)
        return next_of_batch(invocation);
    if (invocation->event == NULL || invocation->event_taken)
        return false;
    invocation->event_taken = true;
    return true;
}

const char *event_call_data(const struct cicada_context *ctx, size_t *ret_len)
{
    const struct cloud_event *event = current_of(ctx->invocation);

    if (ret_len != NULL)
        *ret_len = event != NULL ? event->data_len : 0;
    return event != NULL && event->data != NULL ? event->data : "";
}

const struct cicada_json_node *event_call_json(struct cicada_context *ctx)
{
    const struct cloud_event *event = current_of(ctx->invocation);

    if (event == NULL)
        return NULL;
    if (ctx->invocation->batch == NULL)
        return request_json(&ctx->invocation->request);
    return (const struct cicada_json_node *)(const void *)json_node_member(ctx->invocation->batch->node,
                                                                           "data");
}

int event_call_fail(struct cicada_context *ctx, int32_t status, const char *text)
{
    struct invocation *invocation = ctx->invocation;
    bool valid = status == 0 || (status >= 400 && status <= 599);

    if (invocation == NULL || !valid)
        return CICADA_FAIL;
    if (invocation->batch != NULL)
        return event_batch_fail(invocation->batch, ctx->database, status, text) == 0 ? CICADA_OK
                                                                                     : CICADA_FAIL;
    if (invocation->event == NULL || ctx->database->ended || invocation->event_failed)
        return invocation->event_failed ? CICADA_OK : CICADA_FAIL;
    invocation->event_failed = true;
    invocation->event_status = status;
    invocation->event_failure = arena_strdup(&invocation->arena, text);
    return CICADA_OK;
}
