/* What the consumer's thread does, turn by turn. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/events/consumer_internal.h"
#include "runtime/events/event_store.h"

#define POLL_MS       1000 /* the truth, whatever was notified */
#define LOOKS_AWAKE   3    /* claims that find nothing before it sleeps... */
#define LOOK_PAUSE_MS 5    /* ...so far apart */
#define PURGE_ROWS    1000 /* deduplication keys of one purge */

/* ---- the hand, for this thread ---- */

static void remove_held(struct consumer *consumer, struct held *held)
{
    pthread_mutex_lock(&consumer->mutex);
    hand_remove(&consumer->hand, held);
    pthread_mutex_unlock(&consumer->mutex);
}

static int count_hand(struct consumer *consumer)
{
    int count;

    pthread_mutex_lock(&consumer->mutex);
    count = hand_count(&consumer->hand);
    pthread_mutex_unlock(&consumer->mutex);
    return count;
}

static bool is_draining(struct consumer *consumer)
{
    bool draining;

    pthread_mutex_lock(&consumer->mutex);
    draining = consumer->draining;
    pthread_mutex_unlock(&consumer->mutex);
    return draining;
}

void consumer_count(struct consumer *consumer, int64_t *number)
{
    pthread_mutex_lock(&consumer->mutex);
    (*number)++;
    pthread_mutex_unlock(&consumer->mutex);
}

static const char *name_of(const struct consumer *consumer, const struct event *event)
{
    return consumer->settings.triggers[event->trigger].name;
}

/* ---- what has finished ---- */

/* The first of which something is to be decided: what is done is only counted. */
static struct held *first_undone(struct consumer *consumer)
{
    struct held *held, *next;

    pthread_mutex_lock(&consumer->mutex);
    for (held = consumer->hand.finished > 0 ? consumer->hand.first : NULL; held != NULL; held = next) {
        next = held->next;
        if (held->state != HELD_FINISHED)
            continue;
        if (!held->job.result.settled)
            break;
        consumer->counts.done++;
        hand_remove(&consumer->hand, held);
    }
    pthread_mutex_unlock(&consumer->mutex);
    return held;
}

static int tell_store(struct consumer *consumer, const struct event *event,
                      const struct event_decision *decision, const char *text, struct pg_error *error)
{
    if (decision->verdict == EVENT_BURY)
        return event_store_bury(consumer->session, &event->lease, decision->reason, text, error);
    return event_store_retry(consumer->session, &event->lease, decision->delay_ms, decision->spend, text,
                             error);
}

void consumer_give_up(struct consumer *consumer, const struct event *event,
                      const struct event_decision *decision, const char *text)
{
    struct pg_error error = {0};
    bool bury = decision->verdict == EVENT_BURY;
    int rc = tell_store(consumer, event, decision, text, &error);

    if (rc < 0 && str_starts_with(error.sqlstate, "22")) /* not every database can hold every text */
        rc = tell_store(consumer, event, decision, "its error can't be stored in this database", &error);
    if (rc < 0) { /* its lease decides */
        consumer_report_failure(consumer, bury ? "dead letter" : "retry", &error);
        return;
    }
    if (rc == 0)
        consumer_count(consumer, &consumer->counts.lost);
    else if (bury)
        consumer_count(consumer, &consumer->counts.buried);
    else
        consumer_count(consumer, &consumer->counts.retried);
    if (bury && rc > 0)
        log_warn("trigger %s: event %" PRId64 " is a dead letter: %s", name_of(consumer, event),
                 event->lease.id, decision->reason);
}

static void give_back(struct consumer *consumer, const struct event *event)
{
    struct pg_error error = {0};

    if (event_store_give_back(consumer->session, &event->lease, 1, &error) != 0)
        consumer_report_failure(consumer, "giving back", &error);
}

static void decide(struct consumer *consumer, struct held *held)
{
    const struct event *event = held->job.event;
    const struct event_decision decision = outcome_decide(
        &held->job.result, &consumer->settings.triggers[event->trigger].delivery, event->attempt,
        event->lease.epoch - event->attempt, random_u64()); /* each claim has an epoch of its own */

    if (decision.verdict == EVENT_FORGET && !held->orphan)
        log_warn("trigger %s: event %" PRId64 " is left to its lease: %s", name_of(consumer, event),
                 event->lease.id, held->job.result.error);
    if (decision.verdict == EVENT_FORGET || held->orphan || consumer->session == NULL)
        consumer_count(consumer, &consumer->counts.lost);
    else if (decision.verdict == EVENT_GIVE_BACK)
        give_back(consumer, event);
    else
        consumer_give_up(consumer, event, &decision, held->job.result.error);
}

/* ---- leases ---- */

/* Those of the control connection, in line or (unless in_line_only) at work. The caller frees *ret_leases. */
static size_t collect_leases(struct consumer *consumer, bool in_line_only, struct event_lease **ret_leases)
{
    size_t found = 0;

    pthread_mutex_lock(&consumer->mutex);
    *ret_leases = xcalloc((size_t)hand_count(&consumer->hand) + 1, sizeof(**ret_leases));
    for (const struct held *held = consumer->hand.first; held != NULL; held = held->next)
        if (!held->orphan && (held->state == HELD_IN_LINE || (held->state == HELD_AT_WORK && !in_line_only)))
            (*ret_leases)[found++] = held->job.event->lease;
    pthread_mutex_unlock(&consumer->mutex);
    return found;
}

static void lose(struct consumer *consumer, int64_t id)
{
    pthread_mutex_lock(&consumer->mutex);
    for (struct held *held = consumer->hand.first; held != NULL; held = held->next) {
        if (held->job.event->lease.id != id || held->orphan)
            continue;
        log_warn("trigger %s: the lease of event %" PRId64 " is lost", name_of(consumer, held->job.event),
                 id);
        held->orphan = true;
        if (held->state == HELD_IN_LINE) {
            consumer->counts.lost++;
            hand_remove(&consumer->hand, held);
        }
        break;
    }
    pthread_mutex_unlock(&consumer->mutex);
}

static void extend_leases(struct consumer *consumer)
{
    CLEANUP_FREE struct event_lease *leases = NULL;
    CLEANUP_FREE int64_t *lost = NULL;
    struct pg_error error = {0};
    size_t number;
    int lost_count;

    consumer->extend_ms = clock_monotonic_ms() + consumer->settings.lease_ms / 3;
    number = collect_leases(consumer, consumer->settings.lease_fixed, &leases);
    if (number == 0)
        return;
    lost = xcalloc(number, sizeof(*lost));
    lost_count =
        event_store_extend(consumer->session, leases, number, consumer->settings.lease_ms, lost, &error);
    if (lost_count < 0)
        consumer_report_failure(consumer, "extending leases", &error);
    for (int i = 0; i < lost_count; i++)
        lose(consumer, lost[i]);
}

void consumer_extend_if_due(struct consumer *consumer)
{
    if (consumer->session != NULL && clock_monotonic_ms() >= consumer->extend_ms)
        extend_leases(consumer);
}

static void decide_finished(struct consumer *consumer)
{
    struct held *held;

    while ((held = first_undone(consumer)) != NULL) {
        consumer_extend_if_due(consumer);
        decide(consumer, held);
        remove_held(consumer, held);
    }
}

/* Takes what is in line out of the workers' reach first. */
static void give_back_line(struct consumer *consumer)
{
    CLEANUP_FREE struct event_lease *leases = NULL;
    struct pg_error error = {0};
    struct held *next;
    size_t number = 0;

    pthread_mutex_lock(&consumer->mutex);
    leases = xcalloc((size_t)consumer->hand.in_line + 1, sizeof(*leases));
    for (struct held *held = consumer->hand.first; held != NULL; held = next) {
        next = held->next;
        if (held->state != HELD_IN_LINE)
            continue;
        leases[number++] = held->job.event->lease;
        hand_remove(&consumer->hand, held);
    }
    pthread_mutex_unlock(&consumer->mutex);
    if (number > 0 && event_store_give_back(consumer->session, leases, number, &error) != 0)
        consumer_report_failure(consumer, "giving back", &error);
}

/* ---- turns ---- */

static void maintain(struct consumer *consumer)
{
    struct pg_error error = {0};
    int64_t now_ms = clock_monotonic_ms();
    bool purges = now_ms >= consumer->purge_ms;

    if (now_ms < consumer->maintain_ms)
        return;
    consumer->maintain_ms = now_ms + CONSUMER_MAINTAIN_MS;
    if (purges)
        consumer->purge_ms = now_ms + CONSUMER_PURGE_MS;
    if (event_store_maintain(consumer->session, &error) != 0 ||
        (purges && event_store_purge(consumer->session, PURGE_ROWS, &error) != 0))
        consumer_report_failure(consumer, "maintenance", &error);
}

static void publish_sleep(struct consumer *consumer)
{
    int ids[CONSUMER_TRIGGERS_MAX];
    struct pg_error error = {0};
    size_t number = 0;

    for (size_t i = 0; i < consumer->settings.trigger_count; i++)
        if (consumer->triggers[i].queue_id != 0)
            ids[number++] = consumer->triggers[i].queue_id;
    consumer->asleep_ms = clock_monotonic_ms();
    if (number > 0 && pg_session_can_listen(consumer->session) &&
        event_store_sleep(consumer->session, ids, number, &error) != 0)
        consumer_report_failure(consumer, "sleep", &error);
}

static int64_t sooner(int64_t a_ms, int64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}

/* Until a worker has finished, an event was sent, or something is due. */
static void wait_for_news(struct consumer *consumer, int64_t until_ms)
{
    static const struct pg_error lost = {.failure = PG_FAILURE_LOST, .message = "the connection was lost"};
    eventfd_t ignored;

    if (count_hand(consumer) > 0)
        until_ms = sooner(until_ms, consumer->extend_ms);
    consumer->heard = false;
    while (pg_session_wait(consumer->session, consumer->wake_fd, until_ms) && !consumer->heard)
        continue; /* another's queue */
    if (consumer->heard)
        consumer->asleep_ms = 0;
    (void)eventfd_read(consumer->wake_fd, &ignored);
    if (pg_session_is_lost(consumer->session))
        consumer_report_failure(consumer, "control connection", &lost);
}

/* There is room, and nothing to be had. Whoever has just worked looks a few times before it sleeps: notifications cost those who send. */
static void rest(struct consumer *consumer)
{
    int64_t now_ms = clock_monotonic_ms();

    if (++consumer->looks <= LOOKS_AWAKE)
        wait_for_news(consumer, now_ms + LOOK_PAUSE_MS);
    else if (consumer->asleep_ms == 0 || now_ms - consumer->asleep_ms >= POLL_MS)
        publish_sleep(consumer); /* and looks once more */
    else
        wait_for_news(consumer, consumer->asleep_ms + POLL_MS);
}

static void work(struct consumer *consumer)
{
    consumer_extend_if_due(consumer);
    if (consumer->session != NULL)
        maintain(consumer);
    if (consumer->session != NULL)
        consumer_register_triggers(consumer);
    if (consumer->session == NULL)
        return;
    if (!consumer_has_room(consumer)) {
        wait_for_news(consumer, consumer->maintain_ms);
    } else if (consumer_claim(consumer) > 0) {
        consumer->looks = 0;
        consumer->asleep_ms = 0;
    } else if (consumer->session != NULL) {
        rest(consumer);
    }
}

static void drain(struct consumer *consumer)
{
    give_back_line(consumer);
    consumer_extend_if_due(consumer);
    if (consumer->session != NULL)
        wait_for_news(consumer, clock_monotonic_ms() + POLL_MS);
}

void consumer_turns(struct consumer *consumer)
{
    consumer_explain(consumer, "%s", "connecting");
    while (!stop_is_set(&consumer->stop)) {
        decide_finished(consumer);
        bool draining = is_draining(consumer);
        if (consumer->session == NULL) {
            if (draining || consumer->must_pause || !consumer_connect(consumer))
                consumer_pause_before_connect(consumer);
            continue;
        }
        if (draining)
            drain(consumer);
        else
            work(consumer);
    }
    if (consumer->session != NULL)
        give_back_line(consumer);
    consumer_disconnect(consumer);
}
