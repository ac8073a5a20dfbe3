/* cron.h - five-field cron expressions, as Debian's cron(8) and crontab(5) read them, and when they are due.
 *
 * minute (0-59) hour (0-23) day-of-month (1-31) month (1-12 or jan-dec) day-of-week (0-7 or sun-sat; 0 and 7 are Sunday). A field is a
 * list of values, of ranges (8-11), and of ranges or '*' with a step (0-23/2). Or @hourly, @daily, @midnight, @weekly, @monthly, @yearly,
 * @annually. If neither day field begins with '*', a day is one that either of them has; else one that both have. What is malformed, or
 * can never be (31 February), is refused.
 *
 * A tick is an instant in Unix time at which an expression is due. Ticks are strictly increasing. Their local times are whole minutes, and
 * where the clock of the zone is changed, they are those at which cron(8) would run the job:
 * - An expression whose minute or hour field begins with '*' follows the clock: what is skipped is left out, what comes twice is due twice.
 * - Of any other, what falls into a gap of less than three hours is due at the instant of the change, one after another: where an instant
 *   is taken by the tick before, a tick comes a second after that. What comes twice, within three hours, is due the first time only.
 * - Larger changes are corrections of the clock: what is skipped is left out, what comes twice is due twice, for all.
 * This holds for changes that are more than three hours apart, as all in the zoneinfo database are.
 *
 * Threads: values, no state; a zone must outlive what uses it.
 */
#ifndef CICADA_SCHEDULE_CRON_H
#define CICADA_SCHEDULE_CRON_H

#include <stdbool.h>
#include <stdint.h>

#include "operator/schedule/time_zone.h"
#include "runtime/base/err.h"

#define CRON_TEXT_MAX_BYTES 512
#define CRON_NEVER          INT64_MAX
/* How far ahead a tick is looked for. The rarest, 29 February on one weekday, comes every 28 years, and once in 40 where a year such as 2100
 * is in between. */
#define CRON_SEARCH_YEARS 44

/* Bit sets: bit n is the value n. */
struct cron {
    uint64_t minutes;
    uint32_t hours, days;
    uint16_t months;
    uint8_t weekdays; /* bit 0: Sunday */
    bool either_day;  /* one of days and weekdays is enough */
    bool follows_clock;
};

/* ERR_INVALID (column and reason), ERR_TOO_LARGE. */
int cron_parse(const char *text, struct cron *ret_cron, struct err *err) MUST_CHECK;

/* The first tick after after_s; CRON_NEVER: none within CRON_SEARCH_YEARS, or until TIME_ZONE_MAX_S. */
int64_t cron_next(const struct cron *cron, const struct time_zone *zone, int64_t after_s);

/* For the newest ticks of (after_s, until_s], at most max_count of them: they are all of (the result, until_s]. It looks at some 40 times
 * max_count ticks, however many there are. */
int64_t cron_newest(const struct cron *cron, const struct time_zone *zone, int64_t after_s, int64_t until_s,
                    int64_t max_count);

/* One tick after another; cheaper than as many calls of cron_next(). */
struct cron_walk {
    const struct cron *cron;
    const struct time_zone *zone;
    struct time_zone_span span; /* where it is */
    int64_t cursor_s;           /* local: what is before it is done */
    int64_t last_s;             /* the tick before */
    int64_t after_s;
};
void cron_walk_init(struct cron_walk *walk, const struct cron *cron, const struct time_zone *zone,
                    int64_t after_s);
int64_t cron_walk_next(struct cron_walk *walk); /* as cron_next() */

#endif
