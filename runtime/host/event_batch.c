#include "runtime/host/event_batch.h"

#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/host/cloud_event_text.h"
#include "runtime/host/event_result.h"
#include "runtime/host/output.h"

#define STATUS_OF_FAILURE 500 /* unless the handler says another */

void event_item_init(struct event_item *item, const struct event *event, const char *traceparent)
{
    format_int64(event->lease.id, item->id);
    snprintf(item->attempt, sizeof(item->attempt), "%d", event->attempt);
    snprintf(item->depth, sizeof(item->depth), "%d", event->depth);
    item->event = event;
    item->failed = false;
    item->extensions[0] = (struct field){"cicadaattempt", item->attempt};
    item->extensions[1] = (struct field){OUTPUT_DEPTH_ATTRIBUTE, item->depth};
    item->extensions[2] = (struct field){"traceparent", traceparent};
    item->settings[0] = (struct pg_setting){"cicada.depth", item->depth};
    item->settings[1] = (struct pg_setting){"cicada.traceparent", traceparent};
    item->cloud = (struct cloud_event){
        .id = item->id,
        .source = event->source,
        .type = event->type,
        .subject = event->subject,
        .time = event->time,
        .content_type = "application/json",
        .data = event->payload,
        .data_len = event->payload_len,
        .extensions = {item->extensions, ARRAY_SIZE(item->extensions)},
    };
}

void event_batch_print(const struct event_batch *batch, struct strbuf *out)
{
    for (size_t i = 0; i < batch->count; i++) {
        strbuf_append_char(out, i == 0 ? '[' : ',');
        cloud_event_print(&batch->items[i].cloud, /* data_is_json= */ true, out);
    }
    strbuf_append_char(out, ']');
}

void event_batch_reset(struct event_batch *batch)
{
    batch->taken = 0;
    batch->has_current = batch->open = false;
    for (size_t i = 0; i < batch->count; i++)
        batch->items[i].failed = false;
}

struct event_item *event_batch_current(const struct event_batch *batch)
{
    return batch->has_current ? &batch->items[batch->taken - 1] : NULL;
}

static void describe_failure(struct event_result *ret_failure, const struct database *database, int status,
                             const char *text)
{
    *ret_failure = (struct event_result){.retry_after_ms = -1};
    if ((status == 0 && database->failed) || event_result_is_unreachable(database)) {
        event_result_read_error(ret_failure, &database->error);
        return;
    }
    ret_failure->status = status != 0 ? status : STATUS_OF_FAILURE;
    snprintf(ret_failure->error, sizeof(ret_failure->error), "%d: %s", ret_failure->status, text);
}

int event_batch_fail(struct event_batch *batch, const struct database *database, int status, const char *text)
{
    struct event_item *item = event_batch_current(batch);

    if (!batch->open)
        return -1;
    if (!item->failed)
        describe_failure(&item->failure, database, status, text);
    item->failed = true;
    return 0;
}

/* A query that failed, and that the handler says nothing of, is the failure of the event; unless DDL by others is to blame. */
int event_batch_close(struct event_batch *batch, struct database *database)
{
    struct event_item *item = event_batch_current(batch);

    if (!batch->open)
        return database->failed ? -1 : 0;
    if (database->failed && database->error.stale)
        return -1;
    if (database->failed)
        (void)event_batch_fail(batch, database, /* status= */ 0, "");
    batch->open = false;
    return database_part_end(database, /* keep= */ !item->failed);
}

bool event_batch_next(struct event_batch *batch, struct database *database)
{
    struct event_item *item;

    if (event_batch_close(batch, database) != 0 || batch->taken == batch->count || database->ended) {
        batch->has_current = false;
        return false;
    }
    item = &batch->items[batch->taken];
    batch->has_current = batch->open =
        database_part_begin(database, item->settings, (int)ARRAY_SIZE(item->settings)) == 0;
    batch->taken += batch->open;
    return batch->open;
}

bool event_batch_is_done(const struct event_batch *batch, size_t index)
{
    return batch->taken == 0 || (index < batch->taken && !batch->items[index].failed);
}

void event_batch_settle(const struct event_batch *batch, struct settlement *settlement)
{
    for (size_t i = 0; i < batch->count; i++)
        if (event_batch_is_done(batch, i))
            settlement_add(settlement, &batch->items[i].event->lease);
}
