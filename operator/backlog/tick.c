/* Schedules: when they are due by the database's clock, and the events that it makes then. */
#include <string.h>

#include "operator/backlog/backlog_internal.h"
#include "runtime/base/clock.h"

#define LOOK_MS  60000 /* so often it is looked whether somebody else has ticked, or the clock was set */
#define RETRY_MS 1000
#define MICROS   1000000

static int64_t floor_seconds(int64_t us)
{
    return us / MICROS - (us % MICROS < 0);
}

static void free_decision(struct schedule_decision **decision)
{
    free(*decision);
}

void tick_release(struct work_trigger *trigger)
{
    time_zone_free(steal_ptr(&trigger->zone));
    free(steal_ptr(&trigger->expression));
}

static enum schedule_missed missed_of(const struct function_trigger *wanted)
{
    switch (wanted->missed) {
    case TRIGGER_MISSED_RUN_ONCE:
        return SCHEDULE_RUN_ONCE;
    case TRIGGER_MISSED_RUN_ALL:
        return SCHEDULE_RUN_ALL;
    case TRIGGER_MISSED_SKIP:
        break;
    }
    return SCHEDULE_SKIP;
}

bool tick_prepare(struct database_watch *watch, struct work_trigger *trigger)
{
    const struct function_trigger *wanted = trigger->wanted;
    struct err err = ERR_INIT;

    if (trigger->zone != NULL)
        return true;
    if (cron_parse(wanted->cron, &trigger->schedule.cron, &err) != 0 ||
        time_zone_load(watch->backlog->settings.zoneinfo_directory, wanted->time_zone, &trigger->zone,
                       &err) != 0) {
        problem_set(&trigger->reason, &trigger->message, BACKLOG_INVALID, "trigger %s: %s", wanted->name,
                    err.msg);
        return false;
    }
    trigger->schedule.zone = trigger->zone;
    trigger->schedule.missed = missed_of(wanted);
    trigger->expression = xasprintf("%s %s", wanted->cron, wanted->time_zone);
    return true;
}

/* When it is looked at next: as the tick comes, or sooner. */
static void note_next(struct work_trigger *trigger, const struct schedule_decision *decision, int64_t now_us)
{
    int64_t now_ms = clock_monotonic_ms(), left_ms;

    trigger->next_run_s = decision->next_s == CRON_NEVER ? 0 : decision->next_s;
    trigger->tick_ms = now_ms + LOOK_MS;
    if (trigger->next_run_s == 0)
        return;
    left_ms = decision->next_s * 1000 - now_us / 1000 + 1;
    if (left_ms < LOOK_MS)
        trigger->tick_ms = now_ms + (left_ms > 0 ? left_ms : 0);
}

static int make_events(struct database_watch *watch, struct work_trigger *trigger,
                       const struct schedule_decision *decision, struct pg_error *error)
{
    const struct store_ticks ticks = {
        .due_s = decision->due_s,
        .due_count = decision->due_count,
        .last_tick_s = decision->last_tick_s,
        .skipped = decision->skipped,
    };
    const char *const labels[] = {trigger->who.namespace, trigger->who.function, trigger->who.trigger};
    bool ours;

    if (store_schedule_tick(watch->session, &trigger->who, trigger->expression, &ticks, &ours, error) != 0)
        return -1;
    if (ours)
        metric_add(metric_family_get(watch->backlog->metrics.ticks, labels), (double)decision->due_count);
    return 0;
}

/* What fails for good keeps a problem until a tick can be made. */
static void fail(struct database_watch *watch, struct work_trigger *trigger, const struct pg_error *error)
{
    watch_trigger_failed(watch, trigger, "tick", error, watch->session);
    trigger->tick_ms = clock_monotonic_ms() + RETRY_MS;
}

static void look(struct database_watch *watch, struct work_trigger *trigger)
{
    CLEANUP(free_decision) struct schedule_decision *decision = xmalloc(sizeof(*decision));
    int64_t last_tick_us, last_tick_s, now_us;
    struct pg_error error = {0};

    if (store_schedule_look(watch->session, &trigger->who, trigger->expression, &last_tick_us, &now_us,
                            &error) != 0) {
        fail(watch, trigger, &error);
        return;
    }
    last_tick_s = floor_seconds(last_tick_us);
    schedule_decide(&trigger->schedule, last_tick_s, floor_seconds(now_us), decision);
    if (decision->last_tick_s > last_tick_s && make_events(watch, trigger, decision, &error) != 0) {
        fail(watch, trigger, &error);
        return;
    }
    problem_clear(&trigger->reason, &trigger->message);
    note_next(trigger, decision, now_us);
    if (decision->due_count > 0)
        watch->poll_ms = 0; /* there is something due now */
}

void watch_tick(struct database_watch *watch)
{
    for (struct work *work = watch->works; work != NULL; work = work->next) {
        for (size_t i = 0; i < work->trigger_count && !work->removing; i++) {
            struct work_trigger *trigger = &work->triggers[i];
            if (trigger->wanted->source == TRIGGER_SCHEDULE && trigger->done &&
                clock_monotonic_ms() >= trigger->tick_ms && !pg_session_is_lost(watch->session))
                look(watch, trigger);
        }
    }
}

int64_t watch_next_tick_ms(const struct database_watch *watch)
{
    int64_t next_ms = INT64_MAX;

    for (const struct work *work = watch->works; work != NULL; work = work->next)
        for (size_t i = 0; i < work->trigger_count && !work->removing; i++)
            if (work->triggers[i].wanted->source == TRIGGER_SCHEDULE && work->triggers[i].done &&
                work->triggers[i].tick_ms < next_ms)
                next_ms = work->triggers[i].tick_ms;
    return next_ms;
}
