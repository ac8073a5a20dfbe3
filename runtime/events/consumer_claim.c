/* How much the consumer claims, and of which trigger. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/events/consumer_internal.h"
#include "runtime/events/event_store.h"

#define CLAIM_AGAIN_MS   1000 /* after one that failed */
#define UNDEFINED_OBJECT "42704"

/* ---- room ---- */

/* What workers have in hand, in loads: those of a trigger that is run in batches are larger. With the mutex held. */
static int count_loads(const struct consumer *consumer)
{
    int events[CONSUMER_TRIGGERS_MAX] = {0}, loads = 0;

    for (const struct held *held = consumer->hand.first; held != NULL; held = held->next)
        events[held->job.event->trigger] += held->state != HELD_FINISHED;
    for (size_t i = 0; i < consumer->settings.trigger_count; i++) {
        int load = consumer_load(consumer, (int)i);
        loads += (events[i] + load - 1) / load;
    }
    return loads;
}

/* With the mutex held. */
static int count_free_loads(const struct consumer *consumer, bool *ret_idle)
{
    int most = consumer->settings.concurrency;
    bool alone_waits = false;

    *ret_idle = hand_count(&consumer->hand) == 0;
    for (size_t i = 0; i < consumer->settings.trigger_count; i++)
        alone_waits = alone_waits || consumer->triggers[i].alone_waits;
    if (hand_is_exclusive(&consumer->hand) || (alone_waits && !*ret_idle) ||
        consumer->hand.bytes > CONSUMER_HAND_BYTES)
        return 0;
    if (!consumer->settings.lease_fixed && consumer->run_us < CONSUMER_AHEAD_RUN_US)
        most *= 2;
    return most - count_loads(consumer);
}

bool consumer_has_room(struct consumer *consumer)
{
    bool idle;
    int loads;

    pthread_mutex_lock(&consumer->mutex);
    loads = count_free_loads(consumer, &idle);
    pthread_mutex_unlock(&consumer->mutex);
    return loads > 0;
}

/* How many events of a trigger may be claimed, while `others` want as much, itself among them. */
static int count_room(struct consumer *consumer, size_t trigger, int others, bool *ret_idle)
{
    int most;

    pthread_mutex_lock(&consumer->mutex);
    most =
        (count_free_loads(consumer, ret_idle) + others - 1) / others * consumer_load(consumer, (int)trigger);
    pthread_mutex_unlock(&consumer->mutex);
    return most < CONSUMER_CLAIM_MAX ? most : CONSUMER_CLAIM_MAX;
}

/* ---- claims ---- */

/* False: it goes to no worker, and is freed. */
static bool is_to_be_run(struct consumer *consumer, struct event *event)
{
    const struct consumer_trigger *trigger = &consumer->settings.triggers[event->trigger];
    const struct event_decision spent = {.verdict = EVENT_BURY, .reason = "attempts"};

    if (consumer->session == NULL) { /* lost since the claim, and its leases with it */
        consumer_count(consumer, &consumer->counts.lost);
        event_free(event);
        return false;
    }
    if (!outcome_is_spent(&trigger->delivery, event->attempt))
        return true;
    consumer_give_up(consumer, event, &spent,
                     "its last run ended without a word: the process died, or lost the lease");
    event_free(event);
    return false;
}

/* All at once, so that a worker gets a whole load. */
static void take(struct consumer *consumer, struct event **events, int count)
{
    int left = 0;

    for (int i = 0; i < count; i++)
        if (is_to_be_run(consumer, events[i]))
            events[left++] = events[i];
    pthread_mutex_lock(&consumer->mutex);
    for (int i = 0; i < left; i++) {
        if (consumer->session != NULL) {
            hand_add(&consumer->hand, events[i]);
            continue;
        }
        consumer->counts.lost++;
        event_free(events[i]);
    }
    if (left == 1)
        pthread_cond_signal(&consumer->line);
    else if (left > 1)
        pthread_cond_broadcast(&consumer->line);
    pthread_mutex_unlock(&consumer->mutex);
}

/* Returns how many came. */
static int claim_from(struct consumer *consumer, size_t number, int most, bool idle)
{
    struct trigger *trigger = &consumer->triggers[number];
    const struct event_claim claim = {trigger->queue_id, most, consumer->settings.lease_ms, idle};
    struct event *events[CONSUMER_CLAIM_MAX];
    struct pg_error error = {0};
    int found = event_store_claim(consumer->session, &claim, events, &trigger->alone_waits, &error);

    if (found < 0) {
        trigger->claim_ms = clock_monotonic_ms() + CLAIM_AGAIN_MS;
        if (strcmp(error.sqlstate, UNDEFINED_OBJECT) == 0)
            trigger->queue_id = 0; /* the queue is gone, and will be declared anew */
        consumer_report_failure(consumer, "claim", &error);
        return 0;
    }
    consumer->reconnect_ms = 0;
    for (int i = 0; i < found; i++)
        events[i]->trigger = (int)number;
    take(consumer, events, found);
    return found;
}

int consumer_claim(struct consumer *consumer)
{
    size_t triggers = consumer->settings.trigger_count, first = consumer->first++ % triggers;
    int found = 0;

    for (size_t i = 0; i < triggers; i++)
        if (consumer->triggers[i].alone_waits)
            first = i;
    for (size_t i = 0; i < triggers && consumer->session != NULL; i++) {
        size_t number = (first + i) % triggers;
        bool idle;
        int left = count_room(consumer, number, (int)(triggers - i), &idle);
        consumer_extend_if_due(consumer);
        if (left > 0 && consumer->session != NULL && consumer->triggers[number].queue_id != 0 &&
            clock_monotonic_ms() >= consumer->triggers[number].claim_ms)
            found += claim_from(consumer, number, left, idle);
    }
    return found;
}
