/* TZif: what its versions and its last line mean, and files that are malformed. */
#include <string.h>

#include "operator/tests/support_schedule.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_test.h"

static int32_t offset_at(const struct time_zone *zone, const char *rfc3339)
{
    return time_zone_span_at(zone, instant(rfc3339)).offset_s;
}

/* Offset 60 until 1000, 120 until 2000, 180 from then on. */
static const struct tzif sound = {.version = '2',
                                  .times = {1000, 2000},
                                  .kinds = {1, 2},
                                  .time_count = 2,
                                  .offsets = {60, 120, 180},
                                  .kind_count = 3,
                                  .footer = "\nABC-1\n"};

static struct time_zone *parsed(const struct tzif *tzif)
{
    struct err err = ERR_INIT;
    struct time_zone *zone = NULL;
    unsigned char data[TZIF_MAX_BYTES];
    size_t len = tzif_write(tzif, data);
    CLEANUP_FREE unsigned char *exact = xmemdup(data, len); /* so that ASan sees a byte too many */
    assert_ok(time_zone_parse(exact, len, &zone, &err));
    return zone;
}

static void test_the_table_and_what_is_around_it(void **state)
{
    (void)state;
    static const struct {
        int64_t at_s, start_s, end_s;
        int32_t offset_s;
    } rows[] = {
        {INT64_MIN, INT64_MIN, 1000, 60}, {999, INT64_MIN, 1000, 60},    {1000, 1000, 2000, 120},
        {1999, 1000, 2000, 120},          {2000, 2000, INT64_MAX, 3600}, {INT64_MAX, 2000, INT64_MAX, 3600},
    };
    CLEANUP_TIME_ZONE struct time_zone *zone = parsed(&sound);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct time_zone_span span = time_zone_span_at(zone, rows[i].at_s);
        assert_true(span.start_s == rows[i].start_s && span.end_s == rows[i].end_s);
        assert_int_equal(span.offset_s, rows[i].offset_s);
    }
}

static void test_versions(void **state)
{
    (void)state;
    for (char version = '1'; version <= '4'; version++) {
        struct tzif tzif = sound;
        tzif.version = version;
        CLEANUP_TIME_ZONE struct time_zone *zone = parsed(&tzif);
        assert_int_equal(time_zone_span_at(zone, 1500).offset_s, 120);
        /* Version 1 knows no rule: the last offset stays. */
        assert_int_equal(time_zone_span_at(zone, 2500).offset_s, version == '1' ? 180 : 3600);
    }
}

static void test_without_a_rule_the_last_offset_stays(void **state)
{
    (void)state;
    struct tzif tzif = sound;
    tzif.footer = "\n\n";
    CLEANUP_TIME_ZONE struct time_zone *zone = parsed(&tzif);
    assert_int_equal(time_zone_span_at(zone, INT64_MAX).offset_s, 180);
}

static void test_times_beyond_32_bits(void **state)
{
    (void)state;
    struct tzif tzif = sound;
    tzif.times[0] = -(INT64_C(1) << 59);
    tzif.times[1] = INT64_C(1) << 34;
    CLEANUP_TIME_ZONE struct time_zone *zone = parsed(&tzif);
    assert_int_equal(time_zone_span_at(zone, TIME_ZONE_MIN_S).offset_s, 120);
    assert_int_equal(time_zone_span_at(zone, (INT64_C(1) << 34) - 1).offset_s, 120);
    assert_int_equal(time_zone_span_at(zone, INT64_C(1) << 34).offset_s, 3600);
}

/* ---- the last line ---- */

static void test_rules(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *at;
        int32_t offset_s;
    } rows[] = {
        {"UTC0", "2026-07-01T00:00:00Z", 0},
        {"<-03>3", "2026-07-01T00:00:00Z", -10800},
        {"<+0545>-5:45", "2026-07-01T00:00:00Z", 20700},
        {"ABC+1:02:03", "2026-07-01T00:00:00Z", -3723},
        {"CET-1CEST,M3.5.0,M10.5.0/3", "2026-03-29T00:59:59Z", 3600},
        {"CET-1CEST,M3.5.0,M10.5.0/3", "2026-03-29T01:00:00Z", 7200},
        {"CET-1CEST,M3.5.0,M10.5.0/3", "2026-10-25T00:59:59Z", 7200},
        {"CET-1CEST,M3.5.0,M10.5.0/3", "2026-10-25T01:00:00Z", 3600},
        /* in the south it begins in one year and ends in the next */
        {"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "2026-01-01T00:00:00Z", 39600},
        {"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "2026-04-04T15:00:00Z", 37800},
        {"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "2026-10-03T15:29:59Z", 37800},
        {"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "2026-10-03T15:30:00Z", 39600},
        /* standard time in summer, an hour less in winter */
        {"IST-1GMT0,M10.5.0,M3.5.0/1", "2026-01-01T00:00:00Z", 0},
        {"IST-1GMT0,M10.5.0,M3.5.0/1", "2026-07-01T00:00:00Z", 3600},
        /* on the evening before, or days later */
        {"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "2026-03-29T00:59:59Z", -7200},
        {"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "2026-03-29T01:00:00Z", -3600},
        {"ABC0DEF,0/167,J365/167", "2026-01-06T21:59:59Z", 3600},
        {"ABC0DEF,0/167,J365/167", "2026-01-07T22:59:59Z", 0},
        {"ABC0DEF,0/167,J365/167", "2026-01-07T23:00:00Z", 3600},
        {"ABC0DEF,J365/160,J365/167", "2027-01-06T16:00:00Z", 3600},
        {"ABC0DEF,J365/160,J365/167", "2027-01-06T22:00:00Z", 0},
        {"ABC0DEF,0/-167,10/0", "2025-12-25T01:00:00Z", 3600},
        /* day 60 with and without the leap day */
        {"ABC0DEF,J60/0,J90/0", "2028-02-29T12:00:00Z", 0},
        {"ABC0DEF,J60/0,J90/0", "2028-03-01T00:00:00Z", 3600},
        {"ABC0DEF,59/0,90/0", "2028-02-29T00:00:00Z", 3600},
        {"ABC0DEF,59/0,90/0", "2027-03-01T00:00:00Z", 3600},
        {"ABC0DEF,59/0,90/0", "2027-02-28T23:59:59Z", 0},
        /* summer without end: RFC 8536, 3.3.1 */
        {"EST5EDT,0/0,J365/25", "2026-01-01T05:00:00Z", -14400},
        {"EST5EDT,0/0,J365/25", "2026-01-01T04:59:59Z", -14400},
        {"EST5EDT,0/0,J365/25", "2026-07-01T00:00:00Z", -14400},
        /* and one that ends as it begins */
        {"ABC0DEF,M3.1.0/2,M3.1.0/3", "2026-03-01T02:00:00Z", 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP_TIME_ZONE struct time_zone *zone = zone_of_rule(rows[i].rule);
        if (offset_at(zone, rows[i].at) != rows[i].offset_s) {
            fail_msg("%s at %s: %d", rows[i].rule, rows[i].at, (int)offset_at(zone, rows[i].at));
        }
    }
}

static void test_malformed_rules(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *column;
    } rows[] = {
        {"C-1", "column 2"},
        {"CET", "column 4"},
        {"CET-25", "column 5"},
        {"CET-1:60", "column 7"},
        {"<+1", "column 4"},
        {"<+01-1", "column 7"},
        {"CET-1 ", "column 6"},
        {"CET-1CEST", "column 10"},
        {"CET-1CEST,M3.5.0", "column 17"},
        {"CET-1CEST,M0.5.0,M10.5.0", "column 12"},
        {"CET-1CEST,M13.5.0,M10.5.0", "column 12"},
        {"CET-1CEST,M3.6.0,M10.5.0", "column 14"},
        {"CET-1CEST,M3.5.7,M10.5.0", "column 16"},
        {"CET-1CEST,M3.5,M10.5.0", "column 15"},
        {"CET-1CEST,J0,J10", "column 12"},
        {"CET-1CEST,366,J10", "column 11"},
        {"CET-1CEST,M3.5.0/168,M10.5.0", "column 18"},
        {"CET-1CEST,M3.5.0,M10.5.0/3,", "column 27"},
        {"CET-1CEST,M3.5.0,M10.5.0/", "column 26"},
        {"CET-1CEST,M3.5.0\n,M10.5.0", "column 17"},
        {"CET-99999999999999999999", "column 5"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct err err = ERR_INIT;
        struct time_zone *zone = NULL;
        CLEANUP_FREE char *footer = xasprintf("\n%s\n", rows[i].rule);
        struct tzif tzif = sound;
        tzif.footer = footer;
        unsigned char data[TZIF_MAX_BYTES];
        assert_fails(time_zone_parse(data, tzif_write(&tzif, data), &zone, &err), ERR_INVALID);
        if (!strstr(err.msg, rows[i].column)) {
            fail_msg("%s: %s", rows[i].rule, err.msg);
        }
    }
}

/* ---- malformed files ---- */

static void assert_refused(const unsigned char *data, size_t len, const char *why)
{
    struct err err = ERR_INIT;
    struct time_zone *zone = NULL;
    CLEANUP_FREE unsigned char *exact = xmemdup(data, len);
    assert_fails(time_zone_parse(exact, len, &zone, &err), ERR_INVALID);
    if (!strstr(err.msg, why)) {
        fail_msg("%s, not: %s", err.msg, why);
    }
}

static void test_malformed_parts(void **state)
{
    (void)state;
    struct tzif tzif[12];
    const char *why[ARRAY_SIZE(tzif)];
    for (size_t i = 0; i < ARRAY_SIZE(tzif); i++) {
        tzif[i] = sound;
    }
    size_t n = 0;
    tzif[n].version = '5', why[n++] = "version";
    tzif[n].second = '3', why[n++] = "two headers";
    tzif[n].kind_count = 0, why[n++] = "numbers of parts";
    tzif[n].kinds[1] = 3, why[n++] = "change 2";
    tzif[n].times[1] = 1000, why[n++] = "change 2";
    tzif[n].times[0] = 3000, why[n++] = "change 2";
    tzif[n].offsets[2] = 93600, why[n++] = "93600 seconds";
    tzif[n].offsets[2] = INT32_MIN, why[n++] = "-2147483648 seconds";
    tzif[n].leap_count = 1, why[n++] = "leap seconds";
    tzif[n].footer = NULL, why[n++] = "last line";
    tzif[n].footer = "\nABC-1", why[n++] = "last line";
    tzif[n].footer = "ABC-1\n", why[n++] = "last line";
    assert_int_equal(n, ARRAY_SIZE(tzif));
    for (size_t i = 0; i < n; i++) {
        unsigned char data[TZIF_MAX_BYTES];
        size_t len = tzif_write(&tzif[i], data);
        assert_refused(data, len, why[i]);
    }
}

/* Positions of the second header and what is behind it, in a file of tzif_write(). */
#define SECOND_HEADER 54
#define SECOND_COUNTS (SECOND_HEADER + 20)
#define SECOND_BLOCK  (SECOND_HEADER + 44)
#define SECOND_KINDS  (SECOND_BLOCK + 2 * 9)

static void test_malformed_bytes(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        unsigned char byte;
        const char *why;
    } rows[] = {
        {0, 't', "begin"},
        {SECOND_HEADER, 't', "begin"},
        {SECOND_COUNTS + 3, 2, "numbers of parts"},        /* flags of UT */
        {SECOND_COUNTS + 7, 2, "numbers of parts"},        /* flags of standard time */
        {SECOND_COUNTS + 12, 0xFF, "shorter"},             /* changes: 2^32 */
        {SECOND_COUNTS + 23, 0, "numbers of parts"},       /* bytes of names */
        {SECOND_KINDS + 4, 2, "kind of its times"},        /* summer: yes, no, or what? */
        {SECOND_KINDS + 5, 4, "kind of its times"},        /* name outside of the names */
        {SECOND_KINDS + 18 + 3, 'D', "kind of its times"}, /* name without an end */
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        unsigned char data[TZIF_MAX_BYTES];
        size_t len = tzif_write(&sound, data);
        data[rows[i].at] = rows[i].byte;
        assert_refused(data, len, rows[i].why);
    }
}

static void test_every_shorter_file_is_refused(void **state)
{
    (void)state;
    unsigned char data[TZIF_MAX_BYTES];
    size_t whole = tzif_write(&sound, data);
    for (size_t len = 0; len < whole; len++) {
        struct err err = ERR_INIT;
        struct time_zone *zone = NULL;
        CLEANUP_FREE unsigned char *exact = xmemdup(data, len);
        assert_fails(time_zone_parse(exact, len, &zone, &err), ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table_and_what_is_around_it),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_without_a_rule_the_last_offset_stays),
        cmocka_unit_test(test_times_beyond_32_bits),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_malformed_rules),
        cmocka_unit_test(test_malformed_parts),
        cmocka_unit_test(test_malformed_bytes),
        cmocka_unit_test(test_every_shorter_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
