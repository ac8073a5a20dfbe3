/* When expressions are due, for cron.h. */
#include "operator/schedule/cron.h"

#include "runtime/base/civil_date.h"

#define DAY_S        86400LL
#define DAY_MINUTES  1440
#define SEARCH_S     (CRON_SEARCH_YEARS * 366 * DAY_S)
#define CHANGE_MAX_S (3 * 3600)
/* A walk begins this long before the first tick that is asked for, so that it has seen a change that moved that tick or took it: three
 * hours of repeated time, and the few minutes in which ticks wait for each other. */
#define LOOK_BACK_S (4 * 3600)

static int64_t divide_floor(int64_t value, int64_t by)
{
    return value / by - (value % by < 0);
}

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool has_day(const struct cron *cron, struct civil_date date, int64_t days)
{
    bool day = cron->days >> date.day & 1, weekday = cron->weekdays >> civil_weekday(days) & 1;
    return cron->either_day ? day || weekday : day && weekday;
}

/* The first minute of a day that is not before `minute`; DAY_MINUTES: none. */
static int first_minute(const struct cron *cron, int minute)
{
    int hour = minute / 60;
    uint64_t minutes = cron->minutes >> minute % 60;
    if (cron->hours >> hour & 1 && minutes) {
        return minute + __builtin_ctzll(minutes);
    }
    uint32_t hours = cron->hours >> (hour + 1);
    return hours ? (hour + 1 + __builtin_ctz(hours)) * 60 + __builtin_ctzll(cron->minutes) : DAY_MINUTES;
}

/* The first local time in [from_s, until_s) that the fields allow. */
static int64_t first_match(const struct cron *cron, int64_t from_s, int64_t until_s)
{
    int64_t from_minute = divide_floor(from_s + 59, 60);
    int64_t days = divide_floor(from_minute, DAY_MINUTES);
    int minute = (int)(from_minute - days * DAY_MINUTES);
    while (days * DAY_S < until_s) {
        struct civil_date date = civil_date_from_days(days);
        if (!(cron->months >> date.month & 1)) {
            days += civil_month_length(date.year, date.month) - date.day + 1;
        } else {
            minute = has_day(cron, date, days) ? first_minute(cron, minute) : DAY_MINUTES;
            if (minute < DAY_MINUTES) {
                int64_t match_s = days * DAY_S + minute * 60;
                return match_s < until_s ? match_s : CRON_NEVER;
            }
            days++;
        }
        minute = 0;
    }
    return CRON_NEVER;
}

void cron_walk_init(struct cron_walk *walk, const struct cron *cron, const struct time_zone *zone,
                    int64_t after_s)
{
    after_s = min_of(max_of(after_s, TIME_ZONE_MIN_S), TIME_ZONE_MAX_S);
    int64_t start_s = cron->follows_clock ? after_s + 1 : after_s - LOOK_BACK_S;
    struct time_zone_span span = time_zone_span_at(zone, start_s);
    *walk = (struct cron_walk){.cron = cron,
                               .zone = zone,
                               .span = span,
                               .cursor_s = start_s + span.offset_s,
                               .last_s = INT64_MIN,
                               .after_s = after_s};
}

/* The next tick within the span that the walk is in. The cursor is behind the span's start after a gap, and ahead of it after a
 * repetition. */
static int64_t next_in_span(struct cron_walk *walk, int64_t until_s)
{
    const struct time_zone_span *span = &walk->span;
    int64_t end_s = min_of(span->end_s, until_s + 1) + span->offset_s;
    int64_t match_s = first_match(walk->cron, walk->cursor_s, end_s);
    if (match_s == CRON_NEVER) {
        walk->cursor_s = max_of(walk->cursor_s, end_s);
        return CRON_NEVER;
    }
    walk->cursor_s = match_s + 60;
    walk->last_s = max_of(max_of(match_s - span->offset_s, span->start_s), walk->last_s + 1);
    return walk->last_s;
}

static void enter_next_span(struct cron_walk *walk)
{
    walk->span = time_zone_span_at(walk->zone, walk->span.end_s);
    int64_t local_s = walk->span.start_s + walk->span.offset_s;
    int64_t ahead_s = local_s - walk->cursor_s; /* of what is done */
    if (walk->cron->follows_clock || ahead_s >= CHANGE_MAX_S || ahead_s < -CHANGE_MAX_S) {
        walk->cursor_s = local_s;
    }
}

int64_t cron_walk_next(struct cron_walk *walk)
{
    int64_t until_s = min_of(max_of(walk->after_s, walk->last_s) + SEARCH_S, TIME_ZONE_MAX_S);
    for (;;) {
        int64_t tick_s = next_in_span(walk, until_s);
        if (tick_s > until_s && walk->span.end_s > until_s) {
            return CRON_NEVER;
        }
        if (tick_s == CRON_NEVER) {
            enter_next_span(walk);
        } else if (tick_s > walk->after_s) {
            return tick_s;
        }
    }
}

int64_t cron_next(const struct cron *cron, const struct time_zone *zone, int64_t after_s)
{
    struct cron_walk walk;
    cron_walk_init(&walk, cron, zone, after_s);
    return cron_walk_next(&walk);
}

/* Whether (after_s, until_s] has more ticks than that. */
static bool has_more(const struct cron *cron, const struct time_zone *zone, int64_t after_s, int64_t until_s,
                     int64_t count)
{
    struct cron_walk walk;
    cron_walk_init(&walk, cron, zone, after_s);
    int64_t ticks = 0;
    while (ticks <= count && cron_walk_next(&walk) <= until_s) {
        ticks++;
    }
    return ticks > count;
}

int64_t cron_newest(const struct cron *cron, const struct time_zone *zone, int64_t after_s, int64_t until_s,
                    int64_t max_count)
{
    after_s = min_of(max_of(after_s, TIME_ZONE_MIN_S), TIME_ZONE_MAX_S);
    until_s = min_of(max_of(until_s, after_s), TIME_ZONE_MAX_S);
    if (!has_more(cron, zone, after_s, until_s, max_count)) {
        return after_s;
    }
    int64_t more_s = after_s, enough_s = until_s; /* after the one there are more, after the other not */
    while (enough_s - more_s > 1) {
        int64_t middle_s = more_s + (enough_s - more_s) / 2;
        if (has_more(cron, zone, middle_s, until_s, max_count)) {
            more_s = middle_s;
        } else {
            enough_s = middle_s;
        }
    }
    return enough_s;
}
