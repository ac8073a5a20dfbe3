/* time_zone_rule.h - internal to time_zone: the rule that a zone follows after the last change in its table, as POSIX writes it in TZ:
 * "CET-1CEST,M3.5.0,M10.5.0/3".
 *
 * Threads: values, no state.
 */
#ifndef CICADA_SCHEDULE_TIME_ZONE_RULE_H
#define CICADA_SCHEDULE_TIME_ZONE_RULE_H

#include <stdbool.h>

#include "operator/schedule/time_zone.h"

enum time_zone_day_kind {
    TIME_ZONE_DAY_WITHOUT_LEAP, /* J60: 1 March, in every year */
    TIME_ZONE_DAY_FROM_ZERO,    /* 59: 29 February or 1 March */
    TIME_ZONE_DAY_OF_WEEK,      /* M3.5.0: the last Sunday of March */
};

/* When a change happens in each year, in the local time before it. */
struct time_zone_change_rule {
    enum time_zone_day_kind kind;
    int month, week, day; /* month and week: of TIME_ZONE_DAY_OF_WEEK */
    int time_s;           /* from the day's midnight; may be on other days */
};

struct time_zone_rule {
    int32_t standard_s, summer_s; /* offsets */
    bool has_summer;
    struct time_zone_change_rule begin, end; /* of summer time */
};

int time_zone_rule_parse(const char *text, size_t len, struct time_zone_rule *ret_rule,
                         struct err *err) MUST_CHECK;
/* utc_s within [TIME_ZONE_MIN_S, TIME_ZONE_MAX_S] */
struct time_zone_span time_zone_rule_span(const struct time_zone_rule *rule, int64_t utc_s);

#endif
