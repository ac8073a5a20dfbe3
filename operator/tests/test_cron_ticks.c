/* When expressions are due where no clock is changed. With changes: test_cron_changes.c. */
#include <string.h>

#include "operator/schedule/cron.h"
#include "operator/tests/support_schedule.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_test.h"

static void assert_tick(const char *text, int64_t tick_s, const char *expected)
{
    char got[RFC3339_SIZE];
    format_rfc3339(tick_s * 1000, got);
    if (tick_s != instant(expected)) {
        fail_msg("%s: %s, not %s", text, got, expected);
    }
}

static void test_next(void **state)
{
    (void)state;
    static const struct {
        const char *text, *zone, *after, *next;
    } rows[] = {
        {"* * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"},
        {"* * * * *", "UTC", "2026-01-01T00:00:59Z", "2026-01-01T00:01:00Z"},
        {"0 2 * * *", "UTC", "2026-01-01T01:59:59Z", "2026-01-01T02:00:00Z"},
        {"0 2 * * *", "UTC", "2026-01-01T02:00:00Z", "2026-01-02T02:00:00Z"},
        {"*/7 * * * *", "UTC", "2026-01-01T00:56:00Z", "2026-01-01T01:00:00Z"},
        {"*/7 * * * *", "UTC", "2026-01-01T00:49:00Z", "2026-01-01T00:56:00Z"},
        {"59 23 31 12 *", "UTC", "2026-12-31T23:58:59Z", "2026-12-31T23:59:00Z"},
        {"59 23 31 12 *", "UTC", "2026-12-31T23:59:00Z", "2027-12-31T23:59:00Z"},
        {"0 0 31 * *", "UTC", "2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"},
        {"0 0 1,15 * fri", "UTC", "2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z"},
        {"0 0 1,15 * fri", "UTC", "2026-01-09T00:00:00Z", "2026-01-15T00:00:00Z"},
        {"0 0 */2 * fri", "UTC", "2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z"},
        {"0 0 */2 * fri", "UTC", "2026-01-09T00:00:00Z", "2026-01-23T00:00:00Z"},
        {"@weekly", "UTC", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"},
        {"0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
        {"0 0 29 2 *", "UTC", "2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"},
        {"0 0 29 2 *", "UTC", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"},
        {"0 0 29 2 */7", "UTC", "2032-02-29T00:00:00Z", "2060-02-29T00:00:00Z"},
        {"0 0 29 2 */7", "UTC", "2088-02-29T00:00:00Z", "2128-02-29T00:00:00Z"}, /* 40 years */
        {"0 2 * * *", "Asia/Kathmandu", "2026-01-01T00:00:00Z", "2026-01-01T20:15:00Z"},
        {"0 0 1 1 *", "Pacific/Kiritimati", "2026-01-01T00:00:00Z", "2026-12-31T10:00:00Z"},
        {"0 2 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"},
        {"0 2 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z"},
        {"0 2 * * *", "Europe/Berlin", "2400-07-01T00:00:00Z", "2400-07-02T00:00:00Z"},
        {"0 0 1 1 *", "UTC", "1900-01-01T00:00:00Z", "1901-01-01T00:00:00Z"},
        {"0 0 1 1 *", "UTC", "1600-01-01T12:00:00Z", "1601-01-01T00:00:00Z"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP_TIME_ZONE struct time_zone *zone = zone_named(rows[i].zone);
        struct cron cron = cron_of(rows[i].text);
        assert_tick(rows[i].text, cron_next(&cron, zone, instant(rows[i].after)), rows[i].next);
    }
}

static void test_the_ends_of_time(void **state)
{
    (void)state;
    CLEANUP_TIME_ZONE struct time_zone *zone = zone_named("Europe/Berlin");
    struct cron minutely = cron_of("* * * * *"), yearly = cron_of("@yearly");
    assert_true(cron_next(&minutely, zone, INT64_MAX) == CRON_NEVER);
    assert_true(cron_next(&minutely, zone, TIME_ZONE_MAX_S) == CRON_NEVER);
    assert_true(cron_next(&yearly, zone, TIME_ZONE_MAX_S) == CRON_NEVER);
    assert_true(cron_next(&minutely, zone, TIME_ZONE_MAX_S - 3600) == TIME_ZONE_MAX_S - 3599);
    int64_t first_s = cron_next(&minutely, zone, INT64_MIN);
    assert_in_range(first_s - TIME_ZONE_MIN_S, 1, 60);
    struct cron_walk walk;
    cron_walk_init(&walk, &yearly, zone, TIME_ZONE_MAX_S);
    assert_true(cron_walk_next(&walk) == CRON_NEVER);
    assert_true(cron_walk_next(&walk) == CRON_NEVER); /* and stays there */
}

/* ---- against brute force ---- */

#define VALUES_MAX 64

/* A field by chance: its text, and which values it means. */
static bool add_field(struct strbuf *text, uint64_t *random, int low, int high, bool values[VALUES_MAX])
{
    memset(values, 0, VALUES_MAX);
    int shape = (int)(pseudo_random(random) % 4), step = 1 + (int)(pseudo_random(random) % 20);
    if (shape == 0 || shape == 1) {
        for (int value = low; value <= high; value += shape == 0 ? 1 : step) {
            values[value] = true;
        }
        (void)(shape == 0 ? strbuf_append_str(text, "* ") : strbuf_appendf(text, "*/%d ", step));
        return true;
    }
    int parts = 1 + (int)(pseudo_random(random) % 3), span = high - low + 1;
    for (int part = 0; part < parts; part++) {
        int first = low + (int)(pseudo_random(random) % (unsigned)span);
        int last = shape == 2 ? first : first + (int)(pseudo_random(random) % (unsigned)(high - first + 1));
        (void)strbuf_appendf(text, part > 0 ? ",%d" : "%d", first);
        if (last > first) {
            (void)strbuf_appendf(text, "-%d/%d", last, step);
        }
        for (int value = first; value <= last; value += step) {
            values[value] = true;
        }
    }
    (void)strbuf_append_char(text, ' ');
    return false;
}

struct chance {
    struct strbuf text;
    bool minutes[VALUES_MAX], hours[VALUES_MAX], days[VALUES_MAX], months[VALUES_MAX], weekdays[VALUES_MAX];
    bool either;
};

static void chance_init(struct chance *chance, uint64_t *random)
{
    strbuf_init(&chance->text, CRON_TEXT_MAX_BYTES);
    (void)add_field(&chance->text, random, 0, 59, chance->minutes);
    (void)add_field(&chance->text, random, 0, 23, chance->hours);
    bool any_day = add_field(&chance->text, random, 1, 31, chance->days);
    (void)add_field(&chance->text, random, 1, 12, chance->months);
    bool any_weekday = add_field(&chance->text, random, 0, 7, chance->weekdays);
    chance->either = !any_day && !any_weekday;
}

static bool chance_has(const struct chance *chance, const struct local_time *local)
{
    bool day = chance->days[local->day];
    bool weekday = chance->weekdays[local->weekday] || (local->weekday == 0 && chance->weekdays[7]);
    return chance->minutes[local->minute] && chance->hours[local->hour] && chance->months[local->month] &&
           (chance->either ? day || weekday : day && weekday);
}

#define EXPRESSIONS   300
#define BRUTE_MINUTES (40 * 1440)

/* Minute by minute, from any minute in a stretch without changes. */
static void test_brute_force_finds_the_same(void **state)
{
    (void)state;
    static const struct {
        const char *zone, *from;
    } places[] = {{"UTC", "2027-12-20T00:00:00Z"},
                  {"Asia/Kathmandu", "2024-02-10T00:00:00Z"},
                  {"Europe/Berlin", "2026-05-01T00:00:00Z"},
                  {"America/New_York", "2026-05-20T00:00:00Z"}};
    uint64_t random = 7;
    int found = 0;
    for (size_t p = 0; p < ARRAY_SIZE(places); p++) {
        CLEANUP_TIME_ZONE struct time_zone *zone = zone_named(places[p].zone);
        for (int i = 0; i < EXPRESSIONS; i++) {
            struct err err = ERR_INIT;
            struct chance chance;
            struct cron cron;
            chance_init(&chance, &random);
            bool can_be = cron_parse(chance.text.buf, &cron, &err) == 0;
            int64_t from_s = instant(places[p].from) + (int64_t)(pseudo_random(&random) % (20 * 86400));
            int64_t minute_s = from_s - from_s % 60, until_s = minute_s + BRUTE_MINUTES * 60;
            struct local_time local;
            do {
                minute_s += 60;
                time_zone_local(zone, minute_s, &local);
            } while (minute_s < until_s && !chance_has(&chance, &local));
            int64_t next_s = can_be ? cron_next(&cron, zone, from_s) : CRON_NEVER;
            if (minute_s < until_s ? next_s != minute_s : next_s < until_s) {
                fail_msg("%s in %s after %lld: %lld, not %lld", chance.text.buf, places[p].zone,
                         (long long)from_s, (long long)next_s, (long long)minute_s);
            }
            found += minute_s < until_s;
            strbuf_release(&chance.text);
        }
    }
    assert_in_range(found, EXPRESSIONS, 4 * EXPRESSIONS - 1); /* both kinds were there */
}

/* ---- the newest ---- */

static void test_newest(void **state)
{
    (void)state;
    static const struct {
        const char *text, *after, *until;
        int64_t max;
        const char *first; /* of those that are left */
    } rows[] = {
        {"0 2 * * *", "2026-01-01T12:00:00Z", "2026-01-05T12:00:00Z", 1, "2026-01-05T02:00:00Z"},
        {"0 2 * * *", "2026-01-01T12:00:00Z", "2026-01-05T02:00:00Z", 1, "2026-01-05T02:00:00Z"},
        {"0 2 * * *", "2026-01-01T12:00:00Z", "2026-01-05T01:59:59Z", 1, "2026-01-04T02:00:00Z"},
        {"0 2 * * *", "2026-01-01T12:00:00Z", "2026-01-05T12:00:00Z", 3, "2026-01-03T02:00:00Z"},
        {"0 2 * * *", "2026-01-01T12:00:00Z", "2026-01-05T12:00:00Z", 4, "2026-01-02T02:00:00Z"},
        {"0 2 * * *", "2026-01-01T12:00:00Z", "2026-01-05T12:00:00Z", 100, "2026-01-02T02:00:00Z"},
        {"* * * * *", "1970-01-01T00:00:00Z", "2026-01-01T00:00:30Z", 1000, "2025-12-31T07:21:00Z"},
        {"0 0 29 2 *", "1970-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 2, "2020-02-29T00:00:00Z"},
        {"0 0 29 2 *", "0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 1, "2024-02-29T00:00:00Z"},
    };
    CLEANUP_TIME_ZONE struct time_zone *utc = zone_named("UTC");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct cron cron = cron_of(rows[i].text);
        int64_t after_s =
            cron_newest(&cron, utc, instant(rows[i].after), instant(rows[i].until), rows[i].max);
        assert_tick(rows[i].text, cron_next(&cron, utc, after_s), rows[i].first);
    }
}

static void test_newest_of_none(void **state)
{
    (void)state;
    CLEANUP_TIME_ZONE struct time_zone *utc = zone_named("UTC");
    struct cron cron = cron_of("0 2 * * *");
    int64_t after_s = instant("2026-01-01T02:00:00Z");
    assert_true(cron_newest(&cron, utc, after_s, after_s + 86399, 1) == after_s);
    assert_true(cron_newest(&cron, utc, after_s, after_s - 86400, 1) == after_s);
    assert_true(cron_newest(&cron, utc, after_s, after_s + 86400, 0) == after_s + 86400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_the_ends_of_time),
        cmocka_unit_test(test_brute_force_finds_the_same),
        cmocka_unit_test(test_newest),
        cmocka_unit_test(test_newest_of_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
