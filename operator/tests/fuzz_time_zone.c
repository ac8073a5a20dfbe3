/* A TZif file from any bytes. What is taken has spans without a hole, local times that lead back, and ticks that are increasing. */
#include <string.h>

#include "operator/schedule/cron.h"
#include "runtime/base/mem.h"

#define SPANS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth) {
        abort();
    }
}

static bool same_time(const struct local_time *a, const struct local_time *b)
{
    return a->year == b->year && a->month == b->month && a->day == b->day && a->hour == b->hour &&
           a->minute == b->minute && a->second == b->second;
}

/* Of more than two instants that a local time is, the first two are told. */
static void check_instant(const struct time_zone *zone, int64_t utc_s)
{
    struct local_time local, again;
    int64_t instants[2];
    time_zone_local(zone, utc_s, &local);
    size_t count = time_zone_instants(zone, &local, instants);
    require(count == 1 || (count == 2 && instants[0] < instants[1]));
    for (size_t i = 0; i < count; i++) {
        time_zone_local(zone, instants[i], &again);
        require(same_time(&local, &again));
    }
}

static void check_ticks(const struct time_zone *zone, const char *text, int64_t after_s)
{
    struct err err = ERR_INIT;
    struct cron cron;
    struct cron_walk walk;
    require(cron_parse(text, &cron, &err) == 0);
    cron_walk_init(&walk, &cron, zone, after_s);
    for (int i = 0; i < 4; i++) {
        int64_t tick_s = cron_walk_next(&walk);
        require(tick_s > after_s);
        if (tick_s == CRON_NEVER) {
            return;
        }
        after_s = tick_s;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    CLEANUP_TIME_ZONE struct time_zone *zone = NULL;
    CLEANUP_FREE uint8_t *exact = xmemdup(data, size); /* so that a read beyond the end is seen */
    if (time_zone_parse(exact, size, &zone, &err) < 0) {
        require(!zone && (err.code == ERR_INVALID || err.code == ERR_TOO_LARGE) && err.msg[0] != '\0');
        return 0;
    }
    struct time_zone_span span = time_zone_span_at(zone, TIME_ZONE_MIN_S);
    for (int i = 0; i < SPANS_MAX && span.end_s <= TIME_ZONE_MAX_S; i++) {
        int64_t end_s = span.end_s;
        require(span.start_s < end_s);
        if (end_s - 2 * TIME_ZONE_OFFSET_MAX_S > TIME_ZONE_MIN_S && /* years 1 to 9999, there, too */
            end_s + 2 * TIME_ZONE_OFFSET_MAX_S < TIME_ZONE_MAX_S) {
            check_instant(zone, end_s - 1);
            check_instant(zone, end_s);
            check_ticks(zone, "0-59/20 * * * *", end_s - 3600);
            check_ticks(zone, "30 1-3 * * *", end_s - 3600);
        }
        span = time_zone_span_at(zone, end_s);
        require(span.start_s == end_s);
    }
    return 0;
}
