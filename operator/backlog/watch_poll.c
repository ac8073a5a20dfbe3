/* What queues hold, each second, and at once for those that a notification came for. */
#include <stdio.h>
#include <string.h>

#include "operator/backlog/backlog_internal.h"
#include "runtime/base/clock.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_array.h"

#define QUEUES_PER_CALL 256
#define ARRAY_MAX_BYTES (QUEUES_PER_CALL * (STORE_QUEUE_SIZE + 4))
#define AWAKE_POLL_MAX  4000 /* below BACKLOG_KNOWN_MS */
#define AWAKE_POLL_SHARE                                                                                     \
    4 /* of the time, at most a part of so many goes into counting for those that are awake */

enum poll_group { POLL_HEARD, POLL_ASLEEP, POLL_AWAKE };

struct poll {
    struct database_watch *watch;
    int64_t now_ms;
    struct strbuf queues, sleep_ids;
    struct work_trigger *asked[QUEUES_PER_CALL];
    size_t count;
    bool failed;
};

/* ---- by queue ---- */

static void index_queues(struct database_watch *watch)
{
    struct work_trigger *first;

    HASH_CLEAR(by_queue, watch->queues);
    for (struct work *work = watch->works; work != NULL; work = work->next) {
        for (size_t i = 0; i < work->trigger_count; i++) {
            struct work_trigger *trigger = &work->triggers[i];
            trigger->same_queue = NULL;
            if (trigger->queue[0] == '\0')
                continue;
            HASH_FIND(by_queue, watch->queues, trigger->queue, strlen(trigger->queue), first);
            if (first != NULL) {
                trigger->same_queue = first->same_queue;
                first->same_queue = trigger;
            } else {
                HASH_ADD_KEYPTR(by_queue, watch->queues, trigger->queue, strlen(trigger->queue), trigger);
            }
        }
    }
    watch->queues_changed = false;
}

static bool any_asleep(const struct work_trigger *first)
{
    for (; first != NULL; first = first->same_queue)
        if (!first->work->awake)
            return true;
    return false;
}

void watch_heard(void *arg, const char *payload)
{
    struct database_watch *watch = arg;
    int64_t queue_id;

    if (strcmp(payload, STORE_PING) == 0) {
        watch->pinged_ms = 0;
        watch->heard_any = true;
        return;
    }
    if (!parse_int64(payload, 1, INT32_MAX, &queue_id))
        return;
    for (struct work_trigger *trigger = watch->queues; trigger != NULL; trigger = trigger->by_queue.next) {
        if (trigger->queue_id != queue_id)
            continue;
        trigger->work->heard_ms = clock_monotonic_ms();
        /* Of one that has something due anyhow there is nothing new to hear. */
        if (any_asleep(trigger) && trigger->figures.due == 0)
            trigger->heard = watch->any_heard = true;
    }
}

/* ---- one call ---- */

static bool is_consumer(const struct work_trigger *trigger, const char *consumer)
{
    char text[STORE_HOLDER_SIZE];

    snprintf(text, sizeof(text), "%s/%s, trigger %s", trigger->who.namespace, trigger->who.function,
             trigger->who.trigger);
    return strcmp(text, consumer) == 0;
}

static void take_stats(void *arg, const struct store_stats *stats)
{
    struct poll *poll = arg;
    struct work_trigger *first;

    HASH_FIND(by_queue, poll->watch->queues, stats->queue, strlen(stats->queue), first);
    for (struct work_trigger *trigger = first; trigger != NULL; trigger = trigger->same_queue) {
        if (!is_consumer(trigger, stats->consumer)) {
            if (trigger->done) { /* somebody has released it, or made it anew */
                trigger->done = false;
                trigger->retry_ms = 0;
            }
            continue;
        }
        trigger->queue_id = stats->queue_id;
        trigger->answered = true;
        trigger->figures = (struct figures){
            .due = stats->due,
            .delayed = stats->delayed,
            .leased = stats->leased,
            .blocked = stats->blocked,
            .dead = stats->dead,
            .capped = stats->capped,
            .oldest_s = stats->oldest_s,
            .read_ms = poll->now_ms,
        };
    }
}

/* A queue that is not there holds nothing, and one of somebody else nothing for us. */
static void note_asked(const struct poll *poll, struct work_trigger *first)
{
    first->heard = false;
    for (struct work_trigger *trigger = first; trigger != NULL; trigger = trigger->same_queue) {
        if (!trigger->answered && !poll->failed)
            trigger->figures = (struct figures){.read_ms = poll->now_ms};
        trigger->answered = false;
    }
}

static void ask(struct poll *poll)
{
    struct pg_error error = {0};
    const char *sleep_ids = poll->sleep_ids.len > 0 ? pg_array_end(&poll->sleep_ids) : NULL;

    poll->now_ms = clock_monotonic_ms();
    if (store_stats(poll->watch->session, pg_array_end(&poll->queues), sleep_ids, take_stats, poll, &error) !=
        0) {
        watch_count_error(poll->watch, "poll", &error);
        poll->failed = true;
        if (error.failure == PG_FAILURE_SQL)
            poll->watch->schema_ready = false; /* has it been taken away? */
    }
    for (size_t i = 0; i < poll->count; i++)
        note_asked(poll, poll->asked[i]);
    strbuf_clear(&poll->queues);
    strbuf_clear(&poll->sleep_ids);
    poll->count = 0;
}

/* ---- a round ---- */

static bool belongs(const struct work_trigger *first, enum poll_group group)
{
    if (group == POLL_HEARD)
        return first->heard;
    return any_asleep(first) == (group == POLL_ASLEEP);
}

static void poll_group(struct poll *poll, enum poll_group group)
{
    for (struct work_trigger *first = poll->watch->queues; first != NULL && !poll->failed;
         first = first->by_queue.next) {
        if (!belongs(first, group))
            continue;
        poll->asked[poll->count++] = first;
        pg_array_add_text(&poll->queues, first->queue);
        /* Where something is due nobody needs a notification: it is said each second. */
        if (group == POLL_ASLEEP && first->queue_id != 0 && first->figures.due == 0 && !poll->watch->deaf)
            pg_array_add_number(&poll->sleep_ids, first->queue_id);
        if (poll->count == QUEUES_PER_CALL)
            ask(poll);
    }
    if (poll->count > 0 && !poll->failed)
        ask(poll);
}

static void wake_those_with_something_due(struct database_watch *watch)
{
    const struct backlog_settings *settings = &watch->backlog->settings;

    for (const struct work *work = watch->works; work != NULL; work = work->next) {
        int64_t due = 0;
        for (size_t i = 0; i < work->trigger_count; i++)
            due += work->triggers[i].figures.due;
        if (due > 0 && !work->awake && !work->removing && settings->due != NULL &&
            !stop_is_set(&watch->backlog->stop))
            settings->due(settings->arg, work->spec->namespace, work->spec->name);
    }
}

/* Those that sleep are polled each second, whatever the others cost: these are counted less often when that takes long. */
void watch_poll(struct database_watch *watch)
{
    struct poll poll = {.watch = watch};
    int64_t start_ms = clock_monotonic_ms(), took_ms;
    bool asleep_due = start_ms >= watch->poll_ms;

    if (watch->queues_changed)
        index_queues(watch);
    if (!asleep_due && !watch->any_heard)
        return;
    strbuf_init(&poll.queues, ARRAY_MAX_BYTES);
    strbuf_init(&poll.sleep_ids, ARRAY_MAX_BYTES);
    watch->any_heard = false;
    poll_group(&poll, asleep_due ? POLL_ASLEEP : POLL_HEARD);
    if (!poll.failed)
        wake_those_with_something_due(watch);
    if (asleep_due)
        watch->poll_ms = start_ms + BACKLOG_POLL_MS;
    if (asleep_due && !poll.failed && start_ms >= watch->awake_poll_ms) {
        poll_group(&poll, POLL_AWAKE);
        took_ms = (clock_monotonic_ms() - start_ms) * AWAKE_POLL_SHARE;
        watch->awake_poll_ms = start_ms + (took_ms < BACKLOG_POLL_MS  ? BACKLOG_POLL_MS
                                           : took_ms > AWAKE_POLL_MAX ? AWAKE_POLL_MAX
                                                                      : took_ms);
    }
    if (!poll.failed)
        watch->reconnect_ms = 0;
    strbuf_release(&poll.queues);
    strbuf_release(&poll.sleep_ids);
}
