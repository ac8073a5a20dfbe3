#include "runtime/base/civil_date.h"

#include "runtime/base/mem.h"
#include "runtime/tests/support_test.h"

static void test_known_days(void **state)
{
    (void)state;
    static const struct {
        struct civil_date date;
        int64_t days;
        int weekday;
    } rows[] = {
        {{1970, 1, 1}, 0, 4},       {{1969, 12, 31}, -1, 3},    {{2000, 2, 29}, 11016, 2},
        {{2026, 11, 29}, 20786, 0}, {{1900, 3, 1}, -25508, 4},  {{1, 1, 1}, -719162, 1},
        {{0, 1, 1}, -719528, 6},    {{-1, 12, 31}, -719529, 5}, {{9999, 12, 31}, 2932896, 5},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(civil_date_days(rows[i].date), rows[i].days);
        assert_int_equal(civil_weekday(rows[i].days), rows[i].weekday);
    }
    assert_int_equal(civil_date_days((struct civil_date){2026, 4, 31}),
                     civil_date_days((struct civil_date){2026, 5, 1}));
}

/* Day by day from the year 0 on: a calendar of its own. */
static void test_each_day_for_500_years(void **state)
{
    (void)state;
    int64_t days = civil_date_days((struct civil_date){0, 1, 1});
    int weekday = 6;
    for (int year = 0; year < 500; year++) {
        int in_year = 0;
        for (int month = 1; month <= 12; month++) {
            for (int day = 1; day <= civil_month_length(year, month); day++, in_year++) {
                struct civil_date date = civil_date_from_days(days);
                assert_true(date.year == year && date.month == month && date.day == day);
                assert_true(civil_date_days(date) == days && civil_weekday(days) == weekday);
                days++;
                weekday = (weekday + 1) % 7;
            }
        }
        assert_int_equal(in_year, year % 400 == 0 || (year % 4 == 0 && year % 100 != 0) ? 366 : 365);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_days),
        cmocka_unit_test(test_each_day_for_500_years),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
