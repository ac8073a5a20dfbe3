#include <limits.h>

#include "runtime/base/clock.h"
#include "runtime/tests/support_test.h"

static void time_moves_on(void **state)
{
    (void)state;
    int64_t us = clock_monotonic_us(), ms = clock_monotonic_ms();
    assert_true(us > 0 && ms >= us / 1000);
    assert_true(clock_monotonic_us() >= us);
    assert_true(clock_wall_ms() > 1600000000000);
    assert_true(clock_wall_us() / 1000 >= clock_wall_ms() - 1000);
    assert_true(clock_system.monotonic_ms(&clock_system) >= ms);
    assert_true(clock_system.wall_ms(&clock_system) > 1600000000000);
}

static void what_is_left_fits_poll(void **state)
{
    (void)state;
    int64_t now = clock_monotonic_ms();
    assert_int_equal(deadline_left_ms(DEADLINE_NONE), -1);
    assert_int_equal(deadline_left_ms(now - 1), 0);
    assert_int_equal(deadline_left_ms(0), 0);
    assert_int_equal(deadline_left_ms(INT64_MIN), 0);
    assert_in_range(deadline_left_ms(now + 100000), 90000, 100000);
    assert_int_equal(deadline_left_ms(DEADLINE_NONE - 1), INT_MAX);
}

static void coarse_time_is_a_little_behind(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        int64_t before_ms = clock_monotonic_ms(), coarse_ms = clock_coarse_ms();
        assert_in_range(coarse_ms, before_ms - 50, clock_monotonic_ms());
    }
    assert_int_equal(deadline_left_at_ms(100, 40), 60);
    assert_int_equal(deadline_left_at_ms(100, 100), 0);
    assert_int_equal(deadline_left_at_ms(DEADLINE_NONE, 40), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_moves_on),
        cmocka_unit_test(what_is_left_fits_poll),
        cmocka_unit_test(coarse_time_is_a_little_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
