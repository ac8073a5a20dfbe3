/* When a Function is put to sleep, and when not. */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "operator/tests/support_film.h"
#include "runtime/base/mem.h"

static void test_from_zero_to_one_is_the_gateways_step(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 0);
    assert_int_equal(film_second(&film, 5, 5), 0);
    film_end(&film);
}

static void test_sleep_after_the_quiet_time(void **state)
{
    (void)state;
    struct autoscaler_settings settings = usual;
    settings.idle_ms = 5000;
    struct film film = film_new(&settings, 3);
    film_seconds(&film, 70, 1);
    assert_int_equal(film_seconds(&film, 4, 0), 1);
    assert_int_equal(film_second(&film, 0, 0), 0);
    film_end(&film);
}

/* The gateways' figures may be from before it: a pod that was just asked for is not taken away. */
static void test_a_change_of_replicas_is_activity(void **state)
{
    (void)state;
    struct autoscaler_settings settings = usual;
    settings.idle_ms = 5000;
    struct film film = film_new(&settings, 1);
    film.last_request_ms -= 3600000;
    assert_int_equal(film_seconds(&film, 5, 0), 1);
    assert_int_equal(film_second(&film, 0, 0), 0);
    film.state.replicas = 1; /* somebody woke it */
    assert_int_equal(film_seconds(&film, 5, 0), 1);
    assert_int_equal(film_second(&film, 0, 0), 0);
    film_end(&film);
}

/* Put to zero and woken between two looks, without our knowing: the number is the same, and the figures may be from before. */
static void test_a_wake_between_two_looks_is_a_change(void **state)
{
    (void)state;
    struct autoscaler_settings settings = usual;
    settings.idle_ms = 5000;
    struct film film = film_new(&settings, 1);
    film.last_request_ms -= 3600000;
    assert_int_equal(film_seconds(&film, 5, 0), 1);
    film.state.generation += 2;
    assert_int_equal(film_seconds(&film, 5, 0), 1);
    assert_int_equal(film_second(&film, 0, 0), 0);
    film_end(&film);
}

static void test_the_delay_holds_for_sleep_too(void **state)
{
    (void)state;
    struct autoscaler_settings settings = usual;
    settings.idle_ms = 1000;
    settings.scale_down_delay_ms = 30000;
    struct film film = film_new(&settings, 1);
    film_seconds(&film, 5, 1);
    assert_int_equal(film_seconds(&film, 29, 0), 1);
    assert_int_equal(film_second(&film, 0, 0), 0);
    film_end(&film);
}

static void test_no_sleep_while_something_forbids_it(void **state)
{
    (void)state;
    static const struct {
        struct autoscaler_load load;
        bool may_sleep;
        int min_replicas, replicas;
    } rows[] = {
        {{.quiet_ms = 3600000, .any = true, .complete = true}, true, 0, 0},
        {{.quiet_ms = 3600000, .any = true, .complete = true},
         false,
         0,
         1}, /* the newest template is not proven */
        {{.quiet_ms = 3600000, .any = true, .complete = true}, true, 1, 1},
        {{.quiet_ms = 3600000, .any = true}, true, 0, 1}, /* a gateway could not be read */
        {{.quiet_ms = INT64_MAX}, true, 0, 1},            /* there is none */
        {{.quiet_ms = 59999, .any = true, .complete = true}, true, 0, 1},
        {{.quiet_ms = 3600000, .in_flight = 1, .any = true, .complete = true}, true, 0, 1},
        {{.quiet_ms = 3600000, .waiting = 1, .any = true, .complete = true}, true, 0, 1},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct film film = film_new(&usual, 1);
        film.settings.min_replicas = rows[i].min_replicas;
        film.state.may_sleep = rows[i].may_sleep;
        (void)film_show(&film, rows[i].load);
        film.now_ms += 600000;
        assert_int_equal(film_show(&film, rows[i].load), rows[i].replicas);
        film_end(&film);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_zero_to_one_is_the_gateways_step),
        cmocka_unit_test(test_sleep_after_the_quiet_time),
        cmocka_unit_test(test_a_change_of_replicas_is_activity),
        cmocka_unit_test(test_a_wake_between_two_looks_is_a_change),
        cmocka_unit_test(test_the_delay_holds_for_sleep_too),
        cmocka_unit_test(test_no_sleep_while_something_forbids_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
