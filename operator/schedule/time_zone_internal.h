/* time_zone_internal.h - what a zone is made of; for the files of time_zone. */
#ifndef CICADA_SCHEDULE_TIME_ZONE_INTERNAL_H
#define CICADA_SCHEDULE_TIME_ZONE_INTERNAL_H

#include "operator/schedule/time_zone.h"
#include "operator/schedule/time_zone_rule.h"

struct time_zone_change {
    int64_t at_s;
    int32_t offset_s; /* from then on */
};

struct time_zone {
    struct time_zone_change *changes; /* ascending */
    size_t change_count;
    int32_t first_offset_s; /* before them */
    bool has_rule;          /* after them; else the last offset stays */
    struct time_zone_rule rule;
};

#endif
