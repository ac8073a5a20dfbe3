/* The text of cron expressions. When they are due: test_cron_ticks.c, test_cron_changes.c. */
#include "operator/schedule/cron.h"

#include <string.h>

#include "operator/tests/support_schedule.h"
#include "runtime/tests/support_test.h"

#define ALL_MINUTES  ((UINT64_C(1) << 60) - 1)
#define ALL_HOURS    ((1u << 24) - 1)
#define ALL_DAYS     0xFFFFFFFEu
#define ALL_MONTHS   0x1FFEu
#define ALL_WEEKDAYS 0x7Fu

static void test_bit_sets(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        struct cron cron;
    } rows[] = {
        {"* * * * *", {ALL_MINUTES, ALL_HOURS, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, false, true}},
        {"0 0 1 1 0", {1, 1, 2, 2, 1, true, false}},
        {"59 23 31 12 7", {UINT64_C(1) << 59, 1u << 23, 1u << 31, 1u << 12, 1, true, false}},
        {"  5\t4  3 2\t* ", {32, 16, 8, 4, ALL_WEEKDAYS, false, false}},
        {"0-4,8-12 8-11 * * *", {0x1F1F, 0xF00, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, false, false}},
        {"*/20 0-23/12 * * *",
         {1 | 1 << 20 | UINT64_C(1) << 40, 1 | 1 << 12, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, false, true}},
        {"0 */7 * * *", {1, 1 | 1 << 7 | 1 << 14 | 1 << 21, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, false, true}},
        {"0 0 */10 * *",
         {1, 1, 1u << 1 | 1u << 11 | 1u << 21 | 1u << 31, ALL_MONTHS, ALL_WEEKDAYS, false, false}},
        {"5-59/99 0 * * *", {1 << 5, 1, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, false, false}},
        {"0 0 * jan,MAR-May Mon-fri", {1, 1, ALL_DAYS, 1 << 1 | 7 << 3, 0x3E, false, false}},
        {"0 0 * Dec sUn", {1, 1, ALL_DAYS, 1 << 12, 1, false, false}},
        {"0 0 * * 5-7", {1, 1, ALL_DAYS, ALL_MONTHS, 1 << 5 | 1 << 6 | 1, false, false}},
        {"0 0 * * 0-7", {1, 1, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, false, false}},
        {"0 0 * * */2", {1, 1, ALL_DAYS, ALL_MONTHS, 1 | 1 << 2 | 1 << 4 | 1 << 6, false, false}},
        {"0 0 * * */7", {1, 1, ALL_DAYS, ALL_MONTHS, 1, false, false}},
        /* what counts is how a field begins */
        {"0 0 1,* * 1", {1, 1, ALL_DAYS, ALL_MONTHS, 2, true, false}},
        {"0 0 */31,2 * 1", {1, 1, 6, ALL_MONTHS, 2, false, false}},
        {"0 0 1 * *,1", {1, 1, 2, ALL_MONTHS, ALL_WEEKDAYS, false, false}},
        {"0,* 0,* * * *", {ALL_MINUTES, ALL_HOURS, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, false, false}},
        {"@hourly", {1, ALL_HOURS, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, false, true}},
        {"@daily", {1, 1, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, false, false}},
        {"@midnight", {1, 1, ALL_DAYS, ALL_MONTHS, ALL_WEEKDAYS, false, false}},
        {"@weekly", {1, 1, ALL_DAYS, ALL_MONTHS, 1, false, false}},
        {"@monthly", {1, 1, 2, ALL_MONTHS, ALL_WEEKDAYS, false, false}},
        {"@yearly", {1, 1, 2, 2, ALL_WEEKDAYS, false, false}},
        {" @Annually ", {1, 1, 2, 2, ALL_WEEKDAYS, false, false}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct cron cron = cron_of(rows[i].text), expected = rows[i].cron;
        if (cron.minutes != expected.minutes || cron.hours != expected.hours || cron.days != expected.days ||
            cron.months != expected.months || cron.weekdays != expected.weekdays ||
            cron.either_day != expected.either_day || cron.follows_clock != expected.follows_clock) {
            fail_msg("%s: minutes %llx hours %x days %x months %x weekdays %x either %d clock %d",
                     rows[i].text, (unsigned long long)cron.minutes, cron.hours, cron.days, cron.months,
                     cron.weekdays, cron.either_day, cron.follows_clock);
        }
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "column 1, minute: a value is missing"},
        {"   ", "column 4, minute: a value is missing"},
        {"* * * *", "column 8, day of the week: a value is missing"},
        {"* * * * * *", "column 11: something follows the fifth field"},
        {"* * * * * root", "column 11: something follows the fifth field"},
        {"60 * * * *", "column 1, minute: 60 is not within 0 and 59"},
        {"0 24 * * *", "column 3, hour: 24 is not within 0 and 23"},
        {"0 0 0 * *", "column 5, day of the month: 0 is not within 1 and 31"},
        {"0 0 32 * *", "column 5, day of the month: 32 is not within 1 and 31"},
        {"0 0 1 0 *", "column 7, month: 0 is not within 1 and 12"},
        {"0 0 1 13 *", "column 7, month: 13 is not within 1 and 12"},
        {"0 0 * * 8", "column 9, day of the week: 8 is not within 0 and 7"},
        {"0 0 * * 1-8", "column 11, day of the week: 8 is not within 0 and 7"},
        {"99999999999999999999 * * * *", "column 1, minute: 99999999999999999999 is not within 0 and 59"},
        {"-1 * * * *", "column 1, minute: unexpected '-'"},
        {"*-5 * * * *", "column 2, minute: unexpected '-'"},
        {"*5 * * * *", "column 2, minute: unexpected '5'"},
        {"1, * * * *", "column 3, minute: a value is missing"},
        {"1,,2 * * * *", "column 3, minute: unexpected ','"},
        {",1 * * * *", "column 1, minute: unexpected ','"},
        {"1-2-3 * * * *", "column 4, minute: unexpected '-'"},
        {"1- * * * *", "column 3, minute: a value is missing"},
        {"5-1 * * * *", "column 1, minute: the range ends before it begins"},
        {"0 0 * * fri-sun",
         "column 9, day of the week: the range ends before it begins (Sunday is 0, and 7 at the end)"},
        {"1/20 * * * *", "column 2, minute: a step needs a range or '*' before it"},
        {"*/0 * * * *", "column 3, minute: 0 is not within 1 and 999"},
        {"*/ * * * *", "column 3, minute: a value is missing"},
        {"*/x * * * *", "column 3, minute: \"x\" is no number"},
        {"*/2/3 * * * *", "column 4, minute: unexpected '/'"},
        {"*/1000 * * * *", "column 3, minute: 1000 is not within 1 and 999"},
        {"1x * * * *", "column 1, minute: \"1x\" is no number"},
        {"0 0 * january *",
         "column 7, month: \"january\" is no number and no name (the first three letters)"},
        {"0 0 * mon *", "column 7, month: \"mon\" is no number and no name (the first three letters)"},
        {"0 jan * * *", "column 3, hour: \"jan\" is no number"},
        {"0 0 * */jan *", "column 9, month: \"jan\" is no number"},
        {"0 0 ? * *", "column 5, day of the month: unexpected '?'"},
        {"0 0 L * *", "column 5, day of the month: \"L\" is no number"},
        {"0 0 * * 1#2", "column 10, day of the week: unexpected '#'"},
        {"0 0 * * *\n", "column 10, day of the week: unexpected character"},
        {"\xC3\xA4 * * * *", "column 1, minute: unexpected character"},
        {"0 0 31 2 *", "column 5, day of the month: no month of the fourth field has such a day"},
        {"0 0 30,31 feb *", "column 5, day of the month: no month of the fourth field has such a day"},
        {"0 0 31 4,jun,9,11 *", "column 5, day of the month: no month of the fourth field has such a day"},
        {"0 0 31 2 */2", "column 5, day of the month: no month of the fourth field has such a day"},
        {"@reboot", "@reboot is no time"},
        {"@", "after '@' comes hourly, daily, midnight, weekly, monthly, yearly or annually"},
        {"@fortnightly", "after '@' comes hourly, daily, midnight, weekly, monthly, yearly or annually"},
        {"@daily 0", "something follows the word with '@'"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct err err = ERR_INIT;
        struct cron cron;
        if (cron_parse(rows[i].text, &cron, &err) == 0) {
            fail_msg("\"%s\" is taken", rows[i].text);
        }
        assert_int_equal(err.code, ERR_INVALID);
        assert_string_equal(err.msg, rows[i].message);
    }
}

/* Both day fields are restricted: the day of the week is enough. */
static void test_31_february_or_monday(void **state)
{
    (void)state;
    CLEANUP_TIME_ZONE struct time_zone *utc = zone_named("UTC");
    struct cron cron = cron_of("0 0 31 2 1");
    assert_int_equal(cron_next(&cron, utc, instant("2026-01-01T00:00:00Z")), instant("2026-02-02T00:00:00Z"));
}

static void test_length(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct cron cron;
    char text[CRON_TEXT_MAX_BYTES + 2];
    memset(text, ' ', sizeof(text));
    memcpy(text, "* * * * *", 9);
    text[CRON_TEXT_MAX_BYTES] = '\0';
    assert_ok(cron_parse(text, &cron, &err));
    text[CRON_TEXT_MAX_BYTES] = ' ';
    text[CRON_TEXT_MAX_BYTES + 1] = '\0';
    assert_fails(cron_parse(text, &cron, &err), ERR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bit_sets),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_31_february_or_monday),
        cmocka_unit_test(test_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
