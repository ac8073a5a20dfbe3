/* The input is "<expression>\n<zone><instant>": a byte that picks a zone, and up to eight of an instant. What is taken has ticks that are
 * increasing, the same one by one and in a walk; one that follows the clock is due at minutes that its fields name. */
#include <string.h>

#include "operator/schedule/cron.h"
#include "runtime/base/mem.h"

#define TICKS 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth) {
        abort();
    }
}

/* A file without changes, and the rule in its last line. */
static struct time_zone *zone_of_rule(const char *rule)
{
    struct err err = ERR_INIT;
    struct time_zone *zone = NULL;
    unsigned char file[256] = "TZif2";
    size_t len = 0;
    for (int part = 0; part < 2; part++) {
        memcpy(file + len, "TZif2", 5);
        file[len + 39] = 1; /* one kind of time: offset 0 */
        file[len + 43] = 1; /* one byte of names */
        len += 44 + 6 + 1;
    }
    len += (size_t)snprintf((char *)file + len, sizeof(file) - len, "\n%s\n", rule);
    require(time_zone_parse(file, len, &zone, &err) == 0);
    return zone;
}

static const struct time_zone *pick_zone(uint8_t byte)
{
    static const char *const rules[] = {"UTC0", "CET-1CEST,M3.5.0,M10.5.0/3",
                                        "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
                                        "<-04>4<-03>,M9.1.6/24,M4.1.6/24", "ABC4DEF-20,J60,J300"};
    static struct time_zone *zones[ARRAY_SIZE(rules)];
    size_t index = byte % ARRAY_SIZE(rules);
    if (!zones[index]) {
        zones[index] = zone_of_rule(rules[index]);
    }
    return zones[index];
}

static void check_tick(const struct cron *cron, const struct time_zone *zone, int64_t tick_s)
{
    struct local_time local;
    time_zone_local(zone, tick_s, &local);
    require(!cron->follows_clock || (local.second == 0 && cron->minutes >> local.minute & 1 &&
                                     cron->hours >> local.hour & 1 && cron->months >> local.month & 1 &&
                                     (cron->days >> local.day & 1 || cron->weekdays >> local.weekday & 1)));
}

static void check_ticks(const struct cron *cron, const struct time_zone *zone, int64_t after_s)
{
    int64_t ticks[TICKS], before_s = after_s;
    struct cron_walk walk;
    cron_walk_init(&walk, cron, zone, after_s);
    for (size_t i = 0; i < TICKS; i++) {
        ticks[i] = cron_walk_next(&walk);
        require(ticks[i] == cron_next(cron, zone, before_s));
        if (ticks[i] == CRON_NEVER) {
            return;
        }
        require(ticks[i] > before_s);
        check_tick(cron, zone, ticks[i]);
        before_s = ticks[i];
    }
    int64_t newest_s = cron_newest(cron, zone, after_s, ticks[TICKS - 1], 2);
    require(cron_next(cron, zone, newest_s) == ticks[TICKS - 2]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *newline = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t len = newline ? (size_t)(newline - data) : size, rest = newline ? size - len - 1 : 0;
    CLEANUP_FREE char *text = xstrndup((const char *)data, len);
    struct err err = ERR_INIT;
    struct cron cron;
    if (cron_parse(text, &cron, &err) < 0) {
        require(err.code == ERR_TOO_LARGE || (err.code == ERR_INVALID && err.msg[0] != '\0'));
        return 0;
    }
    require(cron.minutes && cron.hours && cron.days && cron.months && cron.weekdays);
    int64_t after_s = 1774746000; /* 29 March 2026, 01:00 UTC */
    if (rest > 1) {
        memcpy(&after_s, newline + 2, rest - 1 < sizeof(after_s) ? rest - 1 : sizeof(after_s));
    }
    check_ticks(&cron, pick_zone(rest > 0 ? newline[1] : 1), after_s);
    return 0;
}
