#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "operator/cache/backoff.h"

static void expect_step(struct backoff *backoff, int64_t *now_ms, int64_t step_ms)
{
    static const uint64_t randoms[] = {0, 1, 12345678901234567, UINT64_MAX};
    struct backoff copy;
    int64_t delay_ms = 0;
    for (size_t i = 0; i < sizeof(randoms) / sizeof(randoms[0]); i++) {
        copy = *backoff;
        delay_ms = backoff_next(&copy, *now_ms, randoms[i]);
        assert_in_range(delay_ms, step_ms / 2, step_ms);
    }
    *backoff = copy;
    *now_ms += delay_ms;
}

static void test_it_doubles_to_the_limit(void **state)
{
    (void)state;
    struct backoff backoff;
    int64_t now_ms = 1000000;
    backoff_init(&backoff, 30000);
    static const int64_t steps_ms[] = {800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000};
    for (size_t i = 0; i < sizeof(steps_ms) / sizeof(steps_ms[0]); i++)
        expect_step(&backoff, &now_ms, steps_ms[i]);
}

static void test_two_quiet_minutes_start_it_anew(void **state)
{
    (void)state;
    struct backoff backoff;
    int64_t now_ms = 1000000;
    backoff_init(&backoff, 30000);
    expect_step(&backoff, &now_ms, 800);
    expect_step(&backoff, &now_ms, 1600);
    now_ms += 110000;
    expect_step(&backoff, &now_ms, 3200);
    now_ms += 121000;
    expect_step(&backoff, &now_ms, 800);
}

static void test_small_limits(void **state)
{
    (void)state;
    struct backoff backoff;
    int64_t now_ms = 1000000;
    backoff_init(&backoff, 1000);
    expect_step(&backoff, &now_ms, 800);
    expect_step(&backoff, &now_ms, 1000);
    backoff_init(&backoff, 10);
    expect_step(&backoff, &now_ms, 10);
    backoff_init(&backoff, 0);
    expect_step(&backoff, &now_ms, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_doubles_to_the_limit),
        cmocka_unit_test(test_two_quiet_minutes_start_it_anew),
        cmocka_unit_test(test_small_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
