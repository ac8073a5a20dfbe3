/* Ticks where the clock is changed: tables, and the rule of Debian's cron(8) played minute by minute. */
#include <string.h>

#include "operator/schedule/cron.h"
#include "operator/tests/support_schedule.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_test.h"

#define TICKS_MAX 8

/* All ticks of (after, until]; as many as are named. */
struct row {
    const char *text, *zone, *after, *until;
    const char *ticks[TICKS_MAX];
};

static void assert_row(const struct row *row)
{
    CLEANUP_TIME_ZONE struct time_zone *zone = zone_named(row->zone);
    struct cron cron = cron_of(row->text);
    CLEANUP_STRBUF struct strbuf got, expected;
    strbuf_init(&got, 65536);
    strbuf_init(&expected, 65536);
    int64_t tick_s = cron_next(&cron, zone, instant(row->after));
    for (; tick_s <= instant(row->until); tick_s = cron_next(&cron, zone, tick_s)) {
        char text[RFC3339_SIZE];
        format_rfc3339(tick_s * 1000, text);
        (void)strbuf_appendf(&got, " %s", text);
    }
    for (size_t i = 0; i < TICKS_MAX && row->ticks[i]; i++) {
        (void)strbuf_appendf(&expected, " %s", row->ticks[i]);
    }
    if (strcmp(got.buf, expected.buf) != 0) {
        fail_msg("%s in %s:%s, not%s", row->text, row->zone, got.buf, expected.buf);
    }
}

/* 02:00 to 02:59:59 do not exist on 29 March: 01:59:59 is followed by 03:00:00, at 01:00 UTC. */
static void test_berlin_in_march(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"0 2 * * *",
         "Europe/Berlin",
         "2026-03-28T00:00:00Z",
         "2026-03-30T12:00:00Z",
         {"2026-03-28T01:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"}},
        {"30 2 * * *",
         "Europe/Berlin",
         "2026-03-28T12:00:00Z",
         "2026-03-30T12:00:00Z",
         {"2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
        {"59 1 * * *",
         "Europe/Berlin",
         "2026-03-29T00:00:00Z",
         "2026-03-29T12:00:00Z",
         {"2026-03-29T00:59:00Z"}},
        {"0 3 * * *",
         "Europe/Berlin",
         "2026-03-29T00:00:00Z",
         "2026-03-29T12:00:00Z",
         {"2026-03-29T01:00:00Z"}},
        /* several at once: one after another */
        {"0,30 2 * * *",
         "Europe/Berlin",
         "2026-03-29T00:00:00Z",
         "2026-03-29T12:00:00Z",
         {"2026-03-29T01:00:00Z", "2026-03-29T01:00:01Z"}},
        {"0 1,2,3 * * *",
         "Europe/Berlin",
         "2026-03-28T12:00:00Z",
         "2026-03-29T12:00:00Z",
         {"2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:00:01Z"}},
        {"0-59/20 1-3 * * *",
         "Europe/Berlin",
         "2026-03-29T00:20:00Z",
         "2026-03-29T12:00:00Z",
         {"2026-03-29T00:40:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:00:01Z", "2026-03-29T01:00:02Z",
          "2026-03-29T01:00:03Z", "2026-03-29T01:20:00Z", "2026-03-29T01:40:00Z"}},
        {"0 2 29 3 *",
         "Europe/Berlin",
         "2026-01-01T00:00:00Z",
         "2026-12-31T00:00:00Z",
         {"2026-03-29T01:00:00Z"}},
        /* these follow the clock: nothing runs for what does not exist */
        {"*/30 2 * * *",
         "Europe/Berlin",
         "2026-03-28T12:00:00Z",
         "2026-03-30T12:00:00Z",
         {"2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z"}},
        {"30 * * * *",
         "Europe/Berlin",
         "2026-03-29T00:00:00Z",
         "2026-03-29T02:00:00Z",
         {"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"}},
        {"@hourly",
         "Europe/Berlin",
         "2026-03-28T23:00:00Z",
         "2026-03-29T02:00:00Z",
         {"2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_row(&rows[i]);
    }
}

/* 02:00 to 02:59:59 come twice on 25 October, from 00:00 and from 01:00 UTC. */
static void test_berlin_in_october(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"0 2 * * *",
         "Europe/Berlin",
         "2026-10-24T12:00:00Z",
         "2026-10-26T12:00:00Z",
         {"2026-10-25T00:00:00Z", "2026-10-26T01:00:00Z"}},
        {"59 2 * * *",
         "Europe/Berlin",
         "2026-10-24T12:00:00Z",
         "2026-10-25T12:00:00Z",
         {"2026-10-25T00:59:00Z"}},
        {"0 3 * * *",
         "Europe/Berlin",
         "2026-10-24T12:00:00Z",
         "2026-10-25T12:00:00Z",
         {"2026-10-25T02:00:00Z"}},
        {"0-59/30 1-3 * * *",
         "Europe/Berlin",
         "2026-10-24T12:00:00Z",
         "2026-10-25T12:00:00Z",
         {"2026-10-24T23:00:00Z", "2026-10-24T23:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z",
          "2026-10-25T02:00:00Z", "2026-10-25T02:30:00Z"}},
        {"*/30 2 * * *",
         "Europe/Berlin",
         "2026-10-24T12:00:00Z",
         "2026-10-25T12:00:00Z",
         {"2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"}},
        {"@hourly",
         "Europe/Berlin",
         "2026-10-24T23:30:00Z",
         "2026-10-25T02:30:00Z",
         {"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_row(&rows[i]);
    }
}

static void test_other_zones(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"30 2 * * *",
         "America/New_York",
         "2026-03-08T00:00:00Z",
         "2026-03-09T12:00:00Z",
         {"2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"}},
        {"30 1 * * *",
         "America/New_York",
         "2026-11-01T00:00:00Z",
         "2026-11-02T12:00:00Z",
         {"2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"}},
        /* half an hour: 02:00 to 02:30 is left out, 01:30 to 02:00 comes twice */
        {"15,45 2 * * *",
         "Australia/Lord_Howe",
         "2026-10-03T12:00:00Z",
         "2026-10-04T00:00:00Z",
         {"2026-10-03T15:30:00Z", "2026-10-03T15:45:00Z"}},
        {"15,45 1 * * *",
         "Australia/Lord_Howe",
         "2026-04-04T12:00:00Z",
         "2026-04-05T00:00:00Z",
         {"2026-04-04T14:15:00Z", "2026-04-04T14:45:00Z"}},
        {"45 * * * *",
         "Australia/Lord_Howe",
         "2026-04-04T14:00:00Z",
         "2026-04-04T16:00:00Z",
         {"2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"}},
        {"30 2 * * *",
         "Asia/Kathmandu",
         "2026-03-29T00:00:00Z",
         "2026-03-30T00:00:00Z",
         {"2026-03-29T20:45:00Z"}},
        /* at midnight: a Sunday without 00:00 to 00:59, a Saturday with 23:00 to 23:59 twice */
        {"@daily",
         "America/Santiago",
         "2026-09-05T00:00:00Z",
         "2026-09-07T12:00:00Z",
         {"2026-09-05T04:00:00Z", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"}},
        {"@weekly",
         "America/Santiago",
         "2026-09-05T00:00:00Z",
         "2026-09-07T12:00:00Z",
         {"2026-09-06T04:00:00Z"}},
        {"30 23 * * 6",
         "America/Santiago",
         "2026-04-04T12:00:00Z",
         "2026-04-06T12:00:00Z",
         {"2026-04-05T02:30:00Z"}},
        {"@daily",
         "America/Santiago",
         "2026-04-04T12:00:00Z",
         "2026-04-06T12:00:00Z",
         {"2026-04-05T04:00:00Z", "2026-04-06T04:00:00Z"}},
        {"0 0 6 9 *",
         "America/Santiago",
         "2026-01-01T00:00:00Z",
         "2026-12-31T00:00:00Z",
         {"2026-09-06T04:00:00Z"}},
        /* three hours forward are a correction: 02:00 to 04:59 of 18 October are left out */
        {"30 1,3 * * *",
         "Antarctica/Casey",
         "2009-10-17T12:00:00Z",
         "2009-10-18T15:00:00Z",
         {"2009-10-17T17:30:00Z", "2009-10-18T14:30:00Z"}},
        /* three hours back are none: 23:00 to 01:59 comes twice */
        {"30 1,23 * * *",
         "Antarctica/Casey",
         "2010-03-04T10:00:00Z",
         "2010-03-05T15:00:00Z",
         {"2010-03-04T12:30:00Z", "2010-03-04T14:30:00Z"}},
        /* a whole day */
        {"0 12 * * *",
         "Pacific/Apia",
         "2011-12-29T12:00:00Z",
         "2012-01-01T00:00:00Z",
         {"2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z", "2011-12-31T22:00:00Z"}},
        {"0 12 * * *",
         "Pacific/Kwajalein",
         "1993-08-20T00:00:00Z",
         "1993-08-23T00:00:00Z",
         {"1993-08-21T00:00:00Z", "1993-08-22T00:00:00Z", "1993-08-23T00:00:00Z"}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_row(&rows[i]);
    }
}

/* Where the present lies between the ticks of one change does not matter. */
static void test_ticks_do_not_depend_on_where_one_begins(void **state)
{
    (void)state;
    CLEANUP_TIME_ZONE struct time_zone *zone = zone_named("Europe/Berlin");
    static const char *const texts[] = {"0-59 0-23 * * *", "0-59/7 1-3 * * *", "* * * * *", "0 2 * * *"};
    static const char *const changes[] = {"2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"};
    for (size_t t = 0; t < ARRAY_SIZE(texts) * ARRAY_SIZE(changes); t++) {
        struct cron cron = cron_of(texts[t / 2]);
        int64_t from_s = instant(changes[t % 2]) - 5 * 3600, until_s = from_s + 10 * 3600;
        struct cron_walk walk;
        cron_walk_init(&walk, &cron, zone, from_s);
        int64_t tick_s = cron_walk_next(&walk);
        for (int64_t at_s = from_s; at_s < until_s; at_s++) {
            if (at_s == tick_s) {
                int64_t next_s = cron_walk_next(&walk);
                assert_true(next_s > tick_s);
                tick_s = next_s;
            }
            if (cron_next(&cron, zone, at_s) != tick_s) {
                fail_msg("%s after %lld: %lld, not %lld", texts[t / 2], (long long)at_s,
                         (long long)cron_next(&cron, zone, at_s), (long long)tick_s);
            }
        }
    }
}

/* ---- the daemon, minute by minute ---- */

/* What cron(8) does, in the terms of its source: it wakes each minute of the zone's clock, compares that with the minute it has come to
 * ("virtual"), and says which minutes' jobs are run now, those with '*' in minute or hour ("wild") and the others apart. */
struct daemon {
    const struct cron *cron;
    int64_t virtual_minute;
    int64_t *runs; /* the minute, of UTC, of each run */
    size_t run_count, runs_max;
};

static bool is_due(const struct cron *cron, int64_t local_minute)
{
    CLEANUP_TIME_ZONE struct time_zone *utc = zone_named("UTC");
    struct local_time local;
    time_zone_local(utc, local_minute * 60, &local);
    bool day = cron->days >> local.day & 1, weekday = cron->weekdays >> local.weekday & 1;
    return cron->minutes >> local.minute & 1 && cron->hours >> local.hour & 1 &&
           cron->months >> local.month & 1 && (cron->either_day ? day || weekday : day && weekday);
}

static void run_minute(struct daemon *daemon, int64_t local_minute, bool wild, bool others,
                       int64_t now_minute)
{
    if (is_due(daemon->cron, local_minute) && (daemon->cron->follows_clock ? wild : others)) {
        assert_true(daemon->run_count < daemon->runs_max);
        daemon->runs[daemon->run_count++] = now_minute;
    }
}

static void wake(struct daemon *daemon, int64_t clock_minute, int64_t now_minute)
{
    int64_t ahead = clock_minute - daemon->virtual_minute;
    if (ahead > 0 && ahead <= 5) {
        while (daemon->virtual_minute < clock_minute) {
            run_minute(daemon, ++daemon->virtual_minute, true, true, now_minute);
        }
    } else if (ahead > 5 && ahead <= 180) {
        run_minute(daemon, clock_minute, true, false, now_minute);
        while (daemon->virtual_minute < clock_minute) {
            run_minute(daemon, ++daemon->virtual_minute, false, true, now_minute);
        }
    } else if (ahead <= 0 && ahead > -180) {
        run_minute(daemon, clock_minute, true, false, now_minute);
    } else {
        daemon->virtual_minute = clock_minute;
        run_minute(daemon, clock_minute, true, true, now_minute);
    }
}

#define RUN_MINUTES (36 * 60)
#define RUNS_MAX    (2 * RUN_MINUTES)

/* From midnight to noon of the day after a change (and a bit). Runs of the same minute are the ticks that come one after another from that
 * minute on. */
static void assert_as_daemon(const char *text, const struct cron *cron, const struct time_zone *zone,
                             int64_t change_s)
{
    static int64_t runs[RUNS_MAX];
    int64_t from_minute = change_s / 60 - RUN_MINUTES / 2;
    struct daemon daemon = {.cron = cron, .runs = runs, .runs_max = RUNS_MAX};
    for (int64_t minute = from_minute; minute <= from_minute + RUN_MINUTES; minute++) {
        int64_t clock_minute = minute + time_zone_span_at(zone, minute * 60).offset_s / 60;
        if (minute == from_minute) {
            daemon.virtual_minute = clock_minute;
        } else {
            wake(&daemon, clock_minute, minute);
        }
    }
    struct cron_walk walk;
    cron_walk_init(&walk, cron, zone, from_minute * 60);
    int64_t before_s = INT64_MIN;
    for (size_t i = 0; i < daemon.run_count; i++) {
        int64_t tick_s = cron_walk_next(&walk), run_s = runs[i] * 60;
        int64_t expected_s = run_s > before_s ? run_s : before_s + 1;
        if (tick_s != expected_s) {
            fail_msg("%s: run %zu at %lld, tick at %lld", text, i, (long long)expected_s, (long long)tick_s);
        }
        before_s = tick_s;
    }
    assert_true(cron_walk_next(&walk) > (from_minute + RUN_MINUTES) * 60);
}

/* A field by chance; more often than not one that is fixed. */
static void add_field(struct strbuf *text, uint64_t *random, unsigned values)
{
    unsigned first = (unsigned)pseudo_random(random) % values;
    unsigned last = first + (unsigned)pseudo_random(random) % (values - first);
    switch (pseudo_random(random) % 5) {
    case 0:
        (void)strbuf_appendf(text, "*/%u ", 1 + first % 6);
        break;
    case 1:
        (void)strbuf_appendf(text, "%u ", first);
        break;
    case 2:
        (void)strbuf_appendf(text, "0-%u ", values - 1);
        break;
    default:
        (void)strbuf_appendf(text, "%u-%u/%u ", first, last, 1 + last % 7);
    }
}

static void test_ticks_are_the_runs_of_the_daemon(void **state)
{
    (void)state;
    static const struct {
        const char *zone, *change;
    } changes[] = {
        {"Europe/Berlin", "2026-03-29T01:00:00Z"},       {"Europe/Berlin", "2026-10-25T01:00:00Z"},
        {"America/New_York", "2026-03-08T07:00:00Z"},    {"America/New_York", "2026-11-01T06:00:00Z"},
        {"Australia/Lord_Howe", "2026-10-03T15:30:00Z"}, {"Australia/Lord_Howe", "2026-04-04T15:00:00Z"},
        {"America/Santiago", "2026-09-06T04:00:00Z"},    {"America/Santiago", "2026-04-05T03:00:00Z"},
        {"Asia/Kathmandu", "1985-12-31T18:30:00Z"},      {"Antarctica/Troll", "2026-03-29T01:00:00Z"},
        {"Antarctica/Troll", "2026-10-25T01:00:00Z"},    {"Antarctica/Casey", "2009-10-17T18:00:00Z"},
        {"Antarctica/Casey", "2010-03-04T15:00:00Z"},    {"Pacific/Apia", "2011-12-30T10:00:00Z"},
        {"Pacific/Kwajalein", "1969-09-30T13:00:00Z"},   {"America/Nuuk", "2026-03-29T01:00:00Z"},
    };
    uint64_t random = 11;
    for (size_t c = 0; c < ARRAY_SIZE(changes); c++) {
        CLEANUP_TIME_ZONE struct time_zone *zone = zone_named(changes[c].zone);
        int64_t change_s = instant(changes[c].change);
        struct time_zone_span span = time_zone_span_at(zone, change_s);
        assert_true(span.start_s == change_s &&
                    span.offset_s != time_zone_span_at(zone, change_s - 1).offset_s);
        for (int i = 0; i < 60; i++) {
            CLEANUP_STRBUF struct strbuf text;
            strbuf_init(&text, CRON_TEXT_MAX_BYTES);
            add_field(&text, &random, 60);
            add_field(&text, &random, 24);
            (void)strbuf_append_str(&text, i % 3 ? "* * *" : "*/2 * 0-5");
            struct cron cron = cron_of(text.buf);
            assert_as_daemon(text.buf, &cron, zone, change_s);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_berlin_in_march),
        cmocka_unit_test(test_berlin_in_october),
        cmocka_unit_test(test_other_zones),
        cmocka_unit_test(test_ticks_do_not_depend_on_where_one_begins),
        cmocka_unit_test(test_ticks_are_the_runs_of_the_daemon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
