/* What a schedule owes. */
#include "operator/schedule/schedule.h"

#include <string.h>

#include "operator/tests/support_schedule.h"
#include "runtime/tests/support_test.h"

static struct schedule_decision decide(const char *text, const struct time_zone *zone,
                                       enum schedule_missed missed, const char *last_tick, const char *now)
{
    const struct schedule schedule = {.cron = cron_of(text), .zone = zone, .missed = missed};
    struct schedule_decision decision;
    memset(&decision, 0xA5, sizeof(decision)); /* all that is meant must be written */
    schedule_decide(&schedule, instant(last_tick), instant(now), &decision);
    return decision;
}

static const enum schedule_missed policies[] = {SCHEDULE_SKIP, SCHEDULE_RUN_ONCE, SCHEDULE_RUN_ALL};

static void test_nothing_is_due_before_its_time(void **state)
{
    (void)state;
    CLEANUP_TIME_ZONE struct time_zone *utc = zone_named("UTC");
    static const char *const moments[] = {"2026-01-01T02:00:00Z", "2026-01-02T01:59:59Z",
                                          "2025-06-01T00:00:00Z"}; /* set back */
    for (size_t i = 0; i < ARRAY_SIZE(policies) * ARRAY_SIZE(moments); i++) {
        struct schedule_decision decision =
            decide("0 2 * * *", utc, policies[i / 3], "2026-01-01T02:00:00Z", moments[i % 3]);
        assert_int_equal(decision.due_count, 0);
        assert_int_equal(decision.skipped, 0);
        assert_false(decision.skipped_more);
        assert_true(decision.last_tick_s == instant("2026-01-01T02:00:00Z"));
        assert_true(decision.next_s == instant("2026-01-02T02:00:00Z"));
    }
}

/* Each is due once from its instant on, with every policy, however late within the minute one looks. */
static void test_a_tick_that_is_on_time_is_due(void **state)
{
    (void)state;
    CLEANUP_TIME_ZONE struct time_zone *utc = zone_named("UTC");
    static const char *const moments[] = {"2026-01-02T02:00:00Z", "2026-01-02T02:00:59Z"};
    for (size_t i = 0; i < ARRAY_SIZE(policies) * ARRAY_SIZE(moments); i++) {
        struct schedule_decision decision =
            decide("0 2 * * *", utc, policies[i / 2], "2026-01-01T02:00:00Z", moments[i % 2]);
        assert_int_equal(decision.due_count, 1);
        assert_true(decision.due_s[0] == instant("2026-01-02T02:00:00Z"));
        assert_true(decision.last_tick_s == decision.due_s[0]);
        assert_int_equal(decision.skipped, 0);
        assert_true(decision.next_s == instant("2026-01-03T02:00:00Z"));
    }
}

static void test_missed_ticks(void **state)
{
    (void)state;
    CLEANUP_TIME_ZONE struct time_zone *utc = zone_named("UTC");
    static const struct {
        const char *text;
        enum schedule_missed missed;
        const char *last_tick, *now;
        size_t due_count;
        const char *first_due; /* NULL: none */
        int64_t skipped;
        const char *last, *next;
    } rows[] = {
        {"0 2 * * *", SCHEDULE_SKIP, "2026-01-01T02:00:00Z", "2026-01-02T02:01:00Z", 0, NULL, 1,
         "2026-01-02T02:00:00Z", "2026-01-03T02:00:00Z"},
        {"0 2 * * *", SCHEDULE_RUN_ONCE, "2026-01-01T02:00:00Z", "2026-01-02T02:01:00Z", 1,
         "2026-01-02T02:00:00Z", 0, "2026-01-02T02:00:00Z", "2026-01-03T02:00:00Z"},
        {"0 2 * * *", SCHEDULE_RUN_ALL, "2026-01-01T02:00:00Z", "2026-01-02T02:01:00Z", 1,
         "2026-01-02T02:00:00Z", 0, "2026-01-02T02:00:00Z", "2026-01-03T02:00:00Z"},
        /* five days away */
        {"0 2 * * *", SCHEDULE_SKIP, "2026-01-01T02:00:00Z", "2026-01-06T12:00:00Z", 0, NULL, 5,
         "2026-01-06T02:00:00Z", "2026-01-07T02:00:00Z"},
        {"0 2 * * *", SCHEDULE_RUN_ONCE, "2026-01-01T02:00:00Z", "2026-01-06T12:00:00Z", 1,
         "2026-01-06T02:00:00Z", 4, "2026-01-06T02:00:00Z", "2026-01-07T02:00:00Z"},
        {"0 2 * * *", SCHEDULE_RUN_ALL, "2026-01-01T02:00:00Z", "2026-01-06T12:00:00Z", 5,
         "2026-01-02T02:00:00Z", 0, "2026-01-06T02:00:00Z", "2026-01-07T02:00:00Z"},
        /* back as the next one is due: that one counts for all */
        {"0 2 * * *", SCHEDULE_SKIP, "2026-01-01T02:00:00Z", "2026-01-06T02:00:30Z", 1,
         "2026-01-06T02:00:00Z", 4, "2026-01-06T02:00:00Z", "2026-01-07T02:00:00Z"},
        {"0 2 * * *", SCHEDULE_RUN_ONCE, "2026-01-01T02:00:00Z", "2026-01-06T02:00:30Z", 1,
         "2026-01-06T02:00:00Z", 4, "2026-01-06T02:00:00Z", "2026-01-07T02:00:00Z"},
        {"0 2 * * *", SCHEDULE_RUN_ALL, "2026-01-01T02:00:00Z", "2026-01-06T02:00:30Z", 5,
         "2026-01-02T02:00:00Z", 0, "2026-01-06T02:00:00Z", "2026-01-07T02:00:00Z"},
        /* as many as may be, and one more */
        {"* * * * *", SCHEDULE_RUN_ALL, "2026-01-01T00:00:00Z", "2026-01-01T16:40:00Z", 1000,
         "2026-01-01T00:01:00Z", 0, "2026-01-01T16:40:00Z", "2026-01-01T16:41:00Z"},
        {"* * * * *", SCHEDULE_RUN_ALL, "2026-01-01T00:00:00Z", "2026-01-01T16:41:30Z", 1000,
         "2026-01-01T00:02:00Z", 1, "2026-01-01T16:41:00Z", "2026-01-01T16:42:00Z"},
        {"* * * * *", SCHEDULE_RUN_ONCE, "2026-01-01T00:00:00Z", "2026-01-01T16:41:30Z", 1,
         "2026-01-01T16:41:00Z", 1000, "2026-01-01T16:41:00Z", "2026-01-01T16:42:00Z"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct schedule_decision decision =
            decide(rows[i].text, utc, rows[i].missed, rows[i].last_tick, rows[i].now);
        bool same = decision.due_count == rows[i].due_count && decision.skipped == rows[i].skipped &&
                    !decision.skipped_more && decision.last_tick_s == instant(rows[i].last) &&
                    decision.next_s == instant(rows[i].next);
        if (!same || (rows[i].first_due && decision.due_s[0] != instant(rows[i].first_due))) {
            fail_msg("row %zu: %zu due, %lld skipped", i, decision.due_count, (long long)decision.skipped);
        }
        for (size_t d = 1; d < decision.due_count; d++) {
            assert_true(decision.due_s[d - 1] < decision.due_s[d]);
        }
    }
}

/* A year away with a tick each minute: the newest are due, and the others are not counted to the end. */
static void test_more_than_is_counted(void **state)
{
    (void)state;
    CLEANUP_TIME_ZONE struct time_zone *utc = zone_named("UTC");
    static const size_t due[] = {1, 1, SCHEDULE_RUN_ALL_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
        struct schedule_decision decision =
            decide("* * * * *", utc, policies[i], "2025-01-01T00:00:00Z", "2026-01-01T00:00:10Z");
        assert_int_equal(decision.due_count, due[i]);
        assert_true(decision.due_s[due[i] - 1] == instant("2026-01-01T00:00:00Z"));
        assert_true(decision.due_s[0] == instant("2026-01-01T00:00:00Z") - ((int64_t)due[i] - 1) * 60);
        assert_int_equal(decision.skipped, SCHEDULE_COUNT_MAX - due[i]);
        assert_true(decision.skipped_more);
    }
}

/* From second to second, through a change of the clock, with any policy: each tick once. */
static void test_each_tick_once(void **state)
{
    (void)state;
    CLEANUP_TIME_ZONE struct time_zone *zone = zone_named("Europe/Berlin");
    for (size_t i = 0; i < ARRAY_SIZE(policies) * 2; i++) {
        const struct schedule schedule = {
            .cron = cron_of("0-59/15 1-3 * * *"), .zone = zone, .missed = policies[i / 2]};
        int64_t from_s = instant(i % 2 ? "2026-03-28T23:30:00Z" : "2026-10-24T22:30:00Z");
        int64_t last_s = from_s, expected_s = from_s;
        for (int64_t now_s = from_s; now_s < from_s + 6 * 3600; now_s += 1 + now_s % 7) {
            struct schedule_decision decision;
            schedule_decide(&schedule, last_s, now_s, &decision);
            for (size_t d = 0; d < decision.due_count; d++) {
                expected_s = cron_next(&schedule.cron, zone, expected_s);
                assert_true(decision.due_s[d] == expected_s);
            }
            assert_int_equal(decision.skipped, 0);
            assert_true(decision.last_tick_s == expected_s);
            assert_true(decision.next_s == cron_next(&schedule.cron, zone, expected_s));
            last_s = decision.last_tick_s;
        }
        assert_true(expected_s > from_s + 2 * 3600);
    }
}

static void test_a_clock_beyond_all_time(void **state)
{
    (void)state;
    CLEANUP_TIME_ZONE struct time_zone *utc = zone_named("UTC");
    const struct schedule schedule = {.cron = cron_of("@yearly"), .zone = utc, .missed = SCHEDULE_RUN_ALL};
    struct schedule_decision decision;
    schedule_decide(&schedule, 0, INT64_MAX, &decision);
    assert_int_equal(decision.due_count, SCHEDULE_RUN_ALL_MAX);
    assert_true(decision.last_tick_s == instant("9999-01-01T00:00:00Z"));
    assert_int_equal(decision.skipped, 9999 - 1970 - SCHEDULE_RUN_ALL_MAX);
    assert_true(decision.next_s == CRON_NEVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_due_before_its_time),
        cmocka_unit_test(test_a_tick_that_is_on_time_is_due),
        cmocka_unit_test(test_missed_ticks),
        cmocka_unit_test(test_more_than_is_counted),
        cmocka_unit_test(test_each_tick_once),
        cmocka_unit_test(test_a_clock_beyond_all_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
