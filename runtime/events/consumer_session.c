/* The control connection: made, lost, and the triggers that are registered by it. */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/events/consumer_internal.h"
#include "runtime/events/event_store.h"

#define RECONNECT_MIN_MS 100
#define RECONNECT_MAX_MS 5000
#define REGISTER_MS      5000 /* who has the queue, or refuses it, is asked again */

void consumer_explain(struct consumer *consumer, const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&consumer->mutex);
    va_start(args, format);
    vsnprintf(consumer->problem, sizeof(consumer->problem), format, args);
    va_end(args);
    pthread_mutex_unlock(&consumer->mutex);
}

/* ---- the control connection ---- */

/* What was not begun is forgotten: its leases belong to the connection. */
void consumer_disconnect(struct consumer *consumer)
{
    struct held *next;

    pg_session_close(steal_ptr(&consumer->session));
    consumer->must_pause = true;
    pthread_mutex_lock(&consumer->mutex);
    for (struct held *held = consumer->hand.first; held != NULL; held = next) {
        next = held->next;
        held->orphan = true;
        if (held->state != HELD_IN_LINE)
            continue;
        consumer->counts.lost++;
        hand_remove(&consumer->hand, held);
    }
    for (size_t i = 0; i < consumer->settings.trigger_count; i++) {
        consumer->triggers[i].queue_id = 0;
        consumer->triggers[i].register_ms = consumer->triggers[i].claim_ms = 0;
        consumer->triggers[i].alone_waits = false;
    }
    pthread_mutex_unlock(&consumer->mutex);
}

void consumer_report_failure(struct consumer *consumer, const char *what, const struct pg_error *error)
{
    log_warn("events: %s: %s%s%s", what, error->sqlstate, error->sqlstate[0] ? " " : "", error->message);
    if (pg_session_is_lost(consumer->session)) {
        consumer_explain(consumer, "%s", error->message);
        consumer_disconnect(consumer);
    }
}

/* The payload is a queue's id, of which this database may have many. */
static void hear(void *arg, const char *payload)
{
    struct consumer *consumer = arg;
    int64_t id;

    if (!parse_int64(payload, 1, INT32_MAX, &id))
        return;
    for (size_t i = 0; i < consumer->settings.trigger_count; i++)
        consumer->heard = consumer->heard || consumer->triggers[i].queue_id == id;
}

/* False: not connected. */
bool consumer_connect(struct consumer *consumer)
{
    struct pg_error error = {0};
    int64_t now_ms = clock_monotonic_ms();

    consumer->session = pg_session_open(consumer->settings.pool, &consumer->stop, &error);
    if (consumer->session == NULL) {
        consumer_explain(consumer, "%s", error.message);
        consumer->must_pause = true;
        return false;
    }
    pg_session_on_notification(consumer->session, hear, consumer);
    consumer->heard = false;
    consumer->extend_ms = now_ms + consumer->settings.lease_ms / 3;
    consumer->maintain_ms = now_ms + CONSUMER_MAINTAIN_MS; /* first what waits */
    consumer->purge_ms = consumer->purge_ms > 0 ? consumer->purge_ms : now_ms + CONSUMER_PURGE_MS;
    consumer->asleep_ms = 0;
    consumer->looks = 0;
    if (pg_session_can_listen(consumer->session) && event_store_listen(consumer->session, &error) != 0) {
        consumer_report_failure(consumer, "LISTEN", &error);
        return consumer->session != NULL;
    }
    return true;
}

/* Longer from time to time, up to a limit; half of it by chance, so that replicas do not knock together. */
void consumer_pause_before_connect(struct consumer *consumer)
{
    int64_t pause_ms = consumer->reconnect_ms * 2;
    struct pollfd fds[] = {
        {.fd = consumer->wake_fd, .events = POLLIN},
        {.fd = stop_fd(&consumer->stop), .events = POLLIN},
    };
    eventfd_t ignored;

    if (pause_ms < RECONNECT_MIN_MS)
        pause_ms = RECONNECT_MIN_MS;
    if (pause_ms > RECONNECT_MAX_MS)
        pause_ms = RECONNECT_MAX_MS;
    if (poll(fds, ARRAY_SIZE(fds), (int)random_from_half(pause_ms)) != 0) {
        (void)eventfd_read(consumer->wake_fd, &ignored); /* a worker has finished; the pause begins anew */
        return;
    }
    consumer->reconnect_ms = pause_ms;
    consumer->must_pause = false;
}

/* ---- triggers ---- */

static void register_trigger(struct consumer *consumer, size_t number)
{
    const struct consumer_settings *settings = &consumer->settings;
    const struct consumer_trigger *wanted = &settings->triggers[number];
    const struct event_consumer who = {settings->namespace, settings->function, wanted->name};
    struct trigger *trigger = &consumer->triggers[number];
    bool named = wanted->queue != NULL;
    char holder[EVENT_STORE_HOLDER_SIZE];
    struct pg_error error = {0};
    int queue_id;

    trigger->register_ms = clock_monotonic_ms() + REGISTER_MS;
    if (event_store_consume(consumer->session, wanted->queue, &who, wanted->ordered, &queue_id, holder,
                            &error) != 0) {
        consumer_explain(consumer, "%s %s: %s", named ? "queue" : "trigger",
                         named ? wanted->queue : wanted->name, error.message);
        consumer_report_failure(consumer, wanted->name, &error);
        return;
    }
    if (holder[0] != '\0') {
        log_warn("trigger %s: queue %s is consumed by %s", wanted->name, named ? wanted->queue : "of its own",
                 holder);
        consumer_explain(consumer, "queue %s is consumed by %s", named ? wanted->queue : wanted->name,
                         holder);
        return;
    }
    trigger->queue_id = queue_id;
}

/* Those that are due; all is well once the last one is registered. */
void consumer_register_triggers(struct consumer *consumer)
{
    size_t registered = 0;

    for (size_t i = 0; i < consumer->settings.trigger_count && consumer->session != NULL; i++) {
        struct trigger *trigger = &consumer->triggers[i];
        if (trigger->queue_id == 0 && clock_monotonic_ms() >= trigger->register_ms)
            register_trigger(consumer, i);
        registered += trigger->queue_id != 0;
    }
    if (consumer->session != NULL && registered == consumer->settings.trigger_count)
        consumer_explain(consumer, "%s", "");
}
