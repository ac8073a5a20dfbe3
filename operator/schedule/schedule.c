#include "operator/schedule/schedule.h"

/* The instant after which ticks are due, given that there is a tick between last_tick_s and now_s. */
static int64_t due_after(const struct schedule *schedule, int64_t last_tick_s, int64_t now_s)
{
    const struct cron *cron = &schedule->cron;
    int64_t on_time_s = now_s - SCHEDULE_ON_TIME_S;
    if (schedule->missed == SCHEDULE_RUN_ALL) {
        return cron_newest(cron, schedule->zone, last_tick_s, now_s, SCHEDULE_RUN_ALL_MAX);
    }
    if (last_tick_s >= on_time_s) {
        return last_tick_s;
    }
    if (schedule->missed == SCHEDULE_RUN_ONCE && cron_next(cron, schedule->zone, on_time_s) > now_s) {
        return cron_newest(cron, schedule->zone, last_tick_s, now_s, 1);
    }
    return on_time_s;
}

/* How many ticks there are after last_tick_s until now_s; one more than SCHEDULE_COUNT_MAX: too many. */
static int64_t count_ticks(const struct schedule *schedule, int64_t last_tick_s, int64_t now_s)
{
    struct cron_walk walk;
    cron_walk_init(&walk, &schedule->cron, schedule->zone, last_tick_s);
    int64_t count = 0;
    while (count <= SCHEDULE_COUNT_MAX && cron_walk_next(&walk) <= now_s) {
        count++;
    }
    return count;
}

void schedule_decide(const struct schedule *schedule, int64_t last_tick_s, int64_t now_s,
                     struct schedule_decision *ret_decision)
{
    const struct cron *cron = &schedule->cron;
    struct schedule_decision *decision = ret_decision;
    now_s = now_s < TIME_ZONE_MAX_S ? now_s : TIME_ZONE_MAX_S;
    decision->due_count = 0;
    decision->skipped = 0;
    decision->skipped_more = false;
    decision->last_tick_s = last_tick_s;
    decision->next_s = cron_next(cron, schedule->zone, last_tick_s);
    if (decision->next_s > now_s) {
        return;
    }
    struct cron_walk walk;
    cron_walk_init(&walk, cron, schedule->zone, due_after(schedule, last_tick_s, now_s));
    while ((decision->next_s = cron_walk_next(&walk)) <= now_s) {
        decision->due_s[decision->due_count++] = decision->next_s;
    }
    decision->last_tick_s =
        decision->due_count > 0
            ? decision->due_s[decision->due_count - 1]
            : cron_next(cron, schedule->zone, cron_newest(cron, schedule->zone, last_tick_s, now_s, 1));
    int64_t came = count_ticks(schedule, last_tick_s, now_s);
    decision->skipped_more = came > SCHEDULE_COUNT_MAX;
    decision->skipped = came - decision->skipped_more - (int64_t)decision->due_count;
}
