/* support_schedule.h - zones, instants and expressions for tests, or the test fails. */
#ifndef CICADA_TESTS_SUPPORT_SCHEDULE_H
#define CICADA_TESTS_SUPPORT_SCHEDULE_H

#include "operator/schedule/cron.h"

/* Of the machine's zoneinfo; the caller frees it. */
struct time_zone *zone_named(const char *name);
/* A zone that is a rule and nothing else, as "CET-1CEST,M3.5.0,M10.5.0/3". */
struct time_zone *zone_of_rule(const char *rule);

int64_t instant(const char *rfc3339);
struct cron cron_of(const char *text);

/* Numbers that look random and are the same in each run. */
uint64_t pseudo_random(uint64_t *state);

/* A TZif file being made. */
struct tzif {
    char version;     /* '1' to '4' */
    char second;      /* version of the second header; 0: the same */
    int64_t times[4]; /* of the 64-bit part; version 1: of the only one */
    unsigned char kinds[4];
    uint32_t time_count;
    int32_t offsets[3];
    uint32_t kind_count;
    uint32_t leap_count;
    const char *footer; /* with its line feeds; NULL: none */
};
#define TZIF_MAX_BYTES 1024
size_t tzif_write(const struct tzif *tzif, unsigned char out[TZIF_MAX_BYTES]);

#endif
