/* Zones of the machine's zoneinfo: against a table, and against libc in a process of its own. */
#include "operator/schedule/time_zone.h"

#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "operator/tests/support_schedule.h"
#include "runtime/tests/support_test.h"

static void test_local_times(void **state)
{
    (void)state;
    static const struct {
        const char *zone, *utc, *local; /* local: as if it were UTC */
    } rows[] = {
        {"UTC", "2026-11-29T12:00:00Z", "2026-11-29T12:00:00Z"},
        {"Europe/Berlin", "2026-03-29T00:59:59Z", "2026-03-29T01:59:59Z"},
        {"Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29T03:00:00Z"},
        {"Europe/Berlin", "2026-10-25T00:59:59Z", "2026-10-25T02:59:59Z"},
        {"Europe/Berlin", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"},
        {"Europe/Berlin", "1893-03-31T23:06:32Z", "1893-04-01T00:06:32Z"},
        {"Europe/Berlin", "2999-07-01T00:00:00Z", "2999-07-01T02:00:00Z"},
        {"America/New_York", "2026-03-08T07:00:00Z", "2026-03-08T03:00:00Z"},
        {"America/New_York", "2026-11-01T06:00:00Z", "2026-11-01T01:00:00Z"},
        {"Australia/Lord_Howe", "2026-04-04T15:00:00Z", "2026-04-05T01:30:00Z"},
        {"Australia/Lord_Howe", "2026-10-03T15:30:00Z", "2026-10-04T02:30:00Z"},
        {"Asia/Kathmandu", "2026-01-01T00:00:00Z", "2026-01-01T05:45:00Z"},
        {"America/Santiago", "2026-04-05T03:00:00Z", "2026-04-04T23:00:00Z"},
        {"America/Santiago", "2026-09-06T04:00:00Z", "2026-09-06T01:00:00Z"},
        {"Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T23:59:59Z"},
        {"Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31T00:00:00Z"},
        {"Africa/Monrovia", "1960-01-01T00:00:00Z", "1959-12-31T23:15:30Z"},
        {"America/Nuuk", "2050-03-27T01:00:00Z", "2050-03-27T00:00:00Z"},
        {"Europe/Dublin", "2050-01-01T00:00:00Z", "2050-01-01T00:00:00Z"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP_TIME_ZONE struct time_zone *zone = zone_named(rows[i].zone);
        struct local_time local;
        time_zone_local(zone, instant(rows[i].utc), &local);
        int64_t as_if_utc = instant(rows[i].utc) + local.offset_s;
        if (as_if_utc != instant(rows[i].local)) {
            fail_msg("%s %s: offset %d", rows[i].zone, rows[i].utc, (int)local.offset_s);
        }
        char text[64];
        snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02dZ", local.year, local.month, local.day,
                 local.hour, local.minute, local.second);
        assert_string_equal(text, rows[i].local);
    }
}

/* ---- libc as oracle ---- */

#define ORACLE_RANDOM 2000
#define ORACLE_MAX    6000

/* In the child: one zone for the process, as libc has it. */
static void answer_instants(const char *zone, const int64_t *instants, size_t count, int fd)
{
    setenv("TZ", zone, 1);
    tzset();
    for (size_t i = 0; i < count; i++) {
        time_t at = (time_t)instants[i];
        struct tm tm;
        localtime_r(&at, &tm);
        struct local_time local = {.year = tm.tm_year + 1900,
                                   .month = tm.tm_mon + 1,
                                   .day = tm.tm_mday,
                                   .hour = tm.tm_hour,
                                   .minute = tm.tm_min,
                                   .second = tm.tm_sec,
                                   .weekday = tm.tm_wday,
                                   .offset_s = (int32_t)tm.tm_gmtoff};
        if (write(fd, &local, sizeof(local)) != sizeof(local)) {
            _exit(1);
        }
    }
    _exit(0);
}

static void read_all(int fd, void *out, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = read(fd, (char *)out + done, size - done);
        assert_true(got > 0);
        done += (size_t)got;
    }
}

static void ask_libc(const char *zone, const int64_t *instants, size_t count, struct local_time *answers)
{
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        answer_instants(zone, instants, count, ends[1]);
    }
    close(ends[1]);
    read_all(ends[0], answers, count * sizeof(*answers));
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Both sides of each change from 1850 to 2150, and any instants in these and 500 more years. */
static size_t choose_instants(const struct time_zone *zone, int64_t instants[ORACLE_MAX])
{
    int64_t from = instant("1850-01-01T00:00:00Z"), until = instant("2150-01-01T00:00:00Z");
    uint64_t random = 1;
    size_t count = 0;
    for (struct time_zone_span span = time_zone_span_at(zone, from); span.end_s < until;
         span = time_zone_span_at(zone, span.end_s)) {
        assert_in_range(count, 0, ORACLE_MAX - ORACLE_RANDOM - 3);
        instants[count++] = span.end_s - 1;
        instants[count++] = span.end_s;
        instants[count++] = span.end_s + 3600;
    }
    uint64_t range = (uint64_t)(instant("2650-01-01T00:00:00Z") - from);
    for (size_t i = 0; i < ORACLE_RANDOM; i++) {
        uint64_t any = pseudo_random(&random) << 31 ^ pseudo_random(&random);
        instants[count++] = from + (int64_t)(any % range);
    }
    return count;
}

static const char *const oracle_zones[] = {
    "Europe/Berlin",     "Europe/Dublin",     "America/New_York",  "America/Santiago",  "America/Nuuk",
    "America/St_Johns",  "Asia/Kathmandu",    "Asia/Tehran",       "Asia/Gaza",         "Australia/Lord_Howe",
    "Africa/Cairo",      "Africa/Casablanca", "Africa/Monrovia",   "Antarctica/Casey",  "Antarctica/Troll",
    "Pacific/Apia",      "Pacific/Chatham",   "Pacific/Kwajalein", "Etc/GMT+12",        "Europe/Brussels",
    "America/Anchorage", "Asia/Manila",       "Europe/Lisbon",     "America/Sao_Paulo",
};

static void test_local_times_are_those_of_libc(void **state)
{
    (void)state;
    static int64_t instants[ORACLE_MAX];
    static struct local_time answers[ORACLE_MAX];
    for (size_t z = 0; z < ARRAY_SIZE(oracle_zones); z++) {
        CLEANUP_TIME_ZONE struct time_zone *zone = zone_named(oracle_zones[z]);
        size_t count = choose_instants(zone, instants);
        ask_libc(oracle_zones[z], instants, count, answers);
        for (size_t i = 0; i < count; i++) {
            struct local_time local;
            time_zone_local(zone, instants[i], &local);
            if (memcmp(&local, &answers[i], sizeof(local)) != 0) {
                fail_msg("%s at %lld: %04d-%02d-%02d %02d:%02d:%02d, offset %d; libc: %04d-%02d-%02d "
                         "%02d:%02d:%02d, offset %d",
                         oracle_zones[z], (long long)instants[i], local.year, local.month, local.day,
                         local.hour, local.minute, local.second, (int)local.offset_s, answers[i].year,
                         answers[i].month, answers[i].day, answers[i].hour, answers[i].minute,
                         answers[i].second, (int)answers[i].offset_s);
            }
        }
    }
}

/* ---- the way back ---- */

static void test_instants_of_local_times(void **state)
{
    (void)state;
    static const struct {
        const char *zone;
        struct local_time local;
        const char *first, *second; /* NULL: there is none */
    } rows[] = {
        {"UTC", {2026, 2, 28, 23, 59, 59, 0, 0}, "2026-02-28T23:59:59Z", NULL},
        {"UTC", {2026, 2, 29, 0, 0, 0, 0, 0}, NULL, NULL},
        {"UTC", {2026, 1, 1, 24, 0, 0, 0, 0}, NULL, NULL},
        {"UTC", {2026, 13, 1, 0, 0, 0, 0, 0}, NULL, NULL},
        {"UTC", {20000, 1, 1, 0, 0, 0, 0, 0}, NULL, NULL},
        {"UTC", {9999, 12, 31, 23, 59, 59, 0, 0}, "9999-12-31T23:59:59Z", NULL},
        {"Europe/Berlin", {2026, 3, 29, 1, 59, 59, 0, 0}, "2026-03-29T00:59:59Z", NULL},
        {"Europe/Berlin", {2026, 3, 29, 2, 0, 0, 0, 0}, NULL, NULL},
        {"Europe/Berlin", {2026, 3, 29, 2, 59, 59, 0, 0}, NULL, NULL},
        {"Europe/Berlin", {2026, 3, 29, 3, 0, 0, 0, 0}, "2026-03-29T01:00:00Z", NULL},
        {"Europe/Berlin", {2026, 10, 25, 1, 59, 59, 0, 0}, "2026-10-24T23:59:59Z", NULL},
        {"Europe/Berlin", {2026, 10, 25, 2, 0, 0, 0, 0}, "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"},
        {"Europe/Berlin", {2026, 10, 25, 2, 59, 59, 0, 0}, "2026-10-25T00:59:59Z", "2026-10-25T01:59:59Z"},
        {"Europe/Berlin", {2026, 10, 25, 3, 0, 0, 0, 0}, "2026-10-25T02:00:00Z", NULL},
        {"Australia/Lord_Howe", {2026, 4, 5, 1, 45, 0, 0, 0}, "2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"},
        {"America/Santiago", {2026, 9, 6, 0, 0, 0, 0, 0}, NULL, NULL},
        {"Pacific/Apia", {2011, 12, 30, 12, 0, 0, 0, 0}, NULL, NULL},
        {"Asia/Manila",
         {1844, 12, 31, 12, 0, 0, 0, 0},
         NULL, /* the day that was left out */
         NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP_TIME_ZONE struct time_zone *zone = zone_named(rows[i].zone);
        int64_t instants[2] = {0, 0};
        size_t count = time_zone_instants(zone, &rows[i].local, instants);
        size_t expected = rows[i].second ? 2 : rows[i].first ? 1 : 0;
        if (count != expected || (expected > 0 && instants[0] != instant(rows[i].first)) ||
            (expected > 1 && instants[1] != instant(rows[i].second))) {
            fail_msg("row %zu: %zu instants, %lld %lld", i, count, (long long)instants[0],
                     (long long)instants[1]);
        }
    }
}

/* Every instant is one of those that its local time is. */
static void test_there_and_back(void **state)
{
    (void)state;
    static int64_t instants[ORACLE_MAX];
    for (size_t z = 0; z < ARRAY_SIZE(oracle_zones); z++) {
        CLEANUP_TIME_ZONE struct time_zone *zone = zone_named(oracle_zones[z]);
        size_t count = choose_instants(zone, instants);
        for (size_t i = 0; i < count; i++) {
            struct local_time local;
            int64_t back[2] = {0, 0};
            time_zone_local(zone, instants[i], &local);
            size_t found = time_zone_instants(zone, &local, back);
            assert_true(found >= 1 && (back[0] == instants[i] || (found == 2 && back[1] == instants[i])));
            assert_true(found == 1 || back[0] < back[1]);
        }
    }
}

static void test_instants_far_away_are_the_nearest_known(void **state)
{
    (void)state;
    CLEANUP_TIME_ZONE struct time_zone *zone = zone_named("Europe/Berlin");
    struct local_time local;
    time_zone_local(zone, INT64_MIN, &local);
    assert_int_equal(local.year, 1);
    time_zone_local(zone, INT64_MAX, &local);
    assert_int_equal(local.year, 10000); /* an hour into it, there */
    assert_int_equal(local.offset_s, 3600);
    assert_true(time_zone_span_at(zone, INT64_MIN).start_s == INT64_MIN);
}

/* ---- names and files ---- */

static void test_names(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct time_zone *zone = NULL;
    static const char *const bad[] = {
        "",
        "/etc/localtime",
        "../zoneinfo/UTC",
        "Europe/../UTC",
        "Europe//Berlin",
        "Europe/",
        "tzdata.zi",
        "Europe Berlin",
        "localtime",
        "posixrules",
        "Europe/B\xC3\xA9rlin",
        "A234567890123456789012345678901234567890123456789012345678901234567890",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_fails(time_zone_load(TIME_ZONE_DIRECTORY, bad[i], &zone, &err), ERR_INVALID);
        assert_non_null(strstr(err.msg, "is not the name of a time zone"));
    }
    static const char *const unknown[] = {"Europe/Atlantis", "Europe", "europe/berlin",
                                          "Europe/Berlin/Mitte"};
    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
        assert_fails(time_zone_load(TIME_ZONE_DIRECTORY, unknown[i], &zone, &err), ERR_NOT_FOUND);
        assert_non_null(strstr(err.msg, unknown[i]));
    }
    assert_null(zone);
}

static void test_utc_needs_no_file(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const names[] = {"UTC", "Etc/UTC"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP_TIME_ZONE struct time_zone *zone = NULL;
        assert_ok(time_zone_load("/nonexistent", names[i], &zone, &err));
        assert_int_equal(time_zone_span_at(zone, 0).offset_s, 0);
    }
}

/* The zone may well exist: nobody's manifest is wrong then. */
static void test_a_missing_database_is_no_unknown_zone(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct time_zone *zone = NULL;
    assert_fails(time_zone_load("/nonexistent", "Europe/Berlin", &zone, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "/nonexistent/Europe/Berlin"));
}

static void write_file(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void test_files_that_are_no_zones(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct time_zone *zone = NULL;
    char folder[] = "/tmp/cicada-zones-XXXXXX";
    assert_non_null(mkdtemp(folder));
    CLEANUP_FREE char *path = xasprintf("%s/Large", folder);
    CLEANUP_FREE char *large = xcalloc(1, TIME_ZONE_FILE_MAX_BYTES + 1);
    write_file(path, large, TIME_ZONE_FILE_MAX_BYTES + 1);
    assert_fails(time_zone_load(folder, "Large", &zone, &err), ERR_TOO_LARGE);
    write_file(path, "Large\n", 6);
    assert_fails(time_zone_load(folder, "Large", &zone, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "\"Large\""));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void test_zones_with_leap_seconds_are_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct time_zone *zone = NULL;
    const struct tzif tzif = {.version = '2', .kind_count = 1, .leap_count = 2, .footer = "\nUTC0\n"};
    unsigned char data[TZIF_MAX_BYTES];
    assert_fails(time_zone_parse(data, tzif_write(&tzif, data), &zone, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "leap seconds"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_local_times),
        cmocka_unit_test(test_local_times_are_those_of_libc),
        cmocka_unit_test(test_instants_of_local_times),
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_instants_far_away_are_the_nearest_known),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_utc_needs_no_file),
        cmocka_unit_test(test_a_missing_database_is_no_unknown_zone),
        cmocka_unit_test(test_files_that_are_no_zones),
        cmocka_unit_test(test_zones_with_leap_seconds_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
