/* schedule.h - what a schedule owes at a moment: which ticks are due, how many were missed for good, when the next one is. Pure.
 *
 * A tick is on time for SCHEDULE_ON_TIME_S after it: so long an evaluator may be away (a new leader, a slow database) without a tick
 * being missed. What becomes of older ones is the schedule's to say:
 *   SCHEDULE_SKIP      they are left out.
 *   SCHEDULE_RUN_ONCE  they count as one: the newest of them is due, unless a tick that is on time is due at the same moment.
 *   SCHEDULE_RUN_ALL   all are due, the newest SCHEDULE_RUN_ALL_MAX of them.
 * Ticks that are on time are due with each of the three.
 *
 * The state is one instant, the last tick: all ticks until then are done. A schedule that is new begins with the present one. To advance it
 * only from a smaller value, in the transaction that makes the tick's event, is what makes one event of each tick, whoever evaluates.
 *
 * Threads: values, no state.
 */
#ifndef CICADA_SCHEDULE_SCHEDULE_H
#define CICADA_SCHEDULE_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "operator/schedule/cron.h"

#define SCHEDULE_ON_TIME_S   60
#define SCHEDULE_RUN_ALL_MAX 1000
#define SCHEDULE_COUNT_MAX   100000 /* more ticks than these are not counted */

enum schedule_missed { SCHEDULE_SKIP, SCHEDULE_RUN_ONCE, SCHEDULE_RUN_ALL };

struct schedule {
    struct cron cron;
    const struct time_zone *zone;
    enum schedule_missed missed;
};

struct schedule_decision {
    int64_t due_s[SCHEDULE_RUN_ALL_MAX]; /* ascending */
    size_t due_count;
    int64_t skipped;     /* ticks that came and are not due */
    bool skipped_more;   /* and others, which nobody counted */
    int64_t last_tick_s; /* the newest tick that came, due or skipped; as before if none did */
    int64_t next_s;      /* the first tick to come; CRON_NEVER */
};

/* last_tick_s after now_s (the clock was set back): nothing is due until the first tick after last_tick_s. */
void schedule_decide(const struct schedule *schedule, int64_t last_tick_s, int64_t now_s,
                     struct schedule_decision *ret_decision);

#endif
