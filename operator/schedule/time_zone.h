/* time_zone.h - a time zone as the zoneinfo database describes it: which local time an instant is, which instants a local time is.
 *
 * Reads TZif files (RFC 8536 and 9636, versions 1 to 4): the 64-bit part, and the rule in the last line for what comes after it. libc
 * has no part in it: one zone per process, under a lock, and an unknown name means UTC there.
 *
 * Instants are Unix time, without leap seconds. One outside of [TIME_ZONE_MIN_S, TIME_ZONE_MAX_S] is taken for the nearest inside.
 * A change of the clock is a change of the offset: local times are skipped (a gap) or come twice.
 *
 * Threads: a zone is never changed after it was read; any number of threads may use it. The owner frees it when none does.
 */
#ifndef CICADA_SCHEDULE_TIME_ZONE_H
#define CICADA_SCHEDULE_TIME_ZONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/mem.h"

#define TIME_ZONE_DIRECTORY      "/usr/share/zoneinfo"
#define TIME_ZONE_NAME_MAX_BYTES 64
#define TIME_ZONE_FILE_MAX_BYTES 65536            /* the largest of the database has some 4,000 */
#define TIME_ZONE_MIN_S          (-62135596800LL) /* 0001-01-01T00:00:00Z */
#define TIME_ZONE_MAX_S          253402300799LL   /* 9999-12-31T23:59:59Z */
#define TIME_ZONE_OFFSET_MAX_S   (26 * 3600)      /* no offset is this far from UTC */

struct time_zone;

/* Whether it can be a zone's name. */
bool time_zone_is_name(const char *name);
/* The zone of that name in a directory such as TIME_ZONE_DIRECTORY. UTC and Etc/UTC need no file. ERR_NOT_FOUND: there is no such
 * zone. ERR_INVALID: it can't be a zone's name, or the file is malformed or counts leap seconds. ERR_IO: also if the directory is
 * not there. The caller frees it. */
int time_zone_load(const char *directory, const char *name, struct time_zone **ret_zone,
                   struct err *err) MUST_CHECK;
/* The same of a file's content. */
int time_zone_parse(const void *data, size_t len, struct time_zone **ret_zone, struct err *err) MUST_CHECK;
void time_zone_free(struct time_zone *zone);

static inline void time_zone_free_p(struct time_zone **zone)
{
    time_zone_free(*zone);
}
#define CLEANUP_TIME_ZONE CLEANUP(time_zone_free_p)

/* A stretch of time with one offset. Neighbours may have the same. */
struct time_zone_span {
    int64_t start_s;  /* INT64_MIN: there is none before */
    int64_t end_s;    /* the first second after it; INT64_MAX: there is none */
    int32_t offset_s; /* local time minus UTC */
};

/* The one that an instant lies in. The next is that of its end. */
struct time_zone_span time_zone_span_at(const struct time_zone *zone, int64_t utc_s);

struct local_time {
    int year, month, day; /* month and day begin with 1 */
    int hour, minute, second;
    int weekday; /* 0: Sunday */
    int32_t offset_s;
};

void time_zone_local(const struct time_zone *zone, int64_t utc_s, struct local_time *ret_local);
/* The instants that are the year, month, day, hour, minute and second of *local, in order; how many: 0 in a gap and for what is no time
 * (31 April, 24:00), 1 usually, 2 if the clock was set back. */
size_t time_zone_instants(const struct time_zone *zone, const struct local_time *local, int64_t ret_utc_s[2]);

#endif
