/* How many replicas: one row or test for each rule and its edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator/tests/support_film.h"
#include "runtime/base/mem.h"

static void test_replicas_follow_the_load(void **state)
{
    (void)state;
    static const struct {
        double mean;
        int replicas;
    } rows[] = {{0.1, 1}, {7, 1}, {7.1, 2}, {14, 2}, {15, 3}, {69, 10}, {500, 10}};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct film film = film_new(&usual, 1);
        assert_int_equal(film_seconds(&film, 10, rows[i].mean), rows[i].replicas);
        film_end(&film);
    }
}

/* Above the target but with slots free, the mean of the window decides; and a fall counts as it leaves the window. */
static void test_a_small_change_counts_as_the_window_says(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 5);
    film_seconds(&film, 120, 30);
    assert_decision(&film, 5, AUTOSCALER_LOAD);
    assert_int_equal(film_seconds(&film, 20, 44), 5); /* (40 x 30 + 20 x 44) / 60 is below 35 */
    assert_int_equal(film_seconds(&film, 10, 44), 6);
    assert_int_equal(film_seconds(&film, 60, 44), 7);
    assert_decision(&film, 7, AUTOSCALER_LOAD);
    assert_int_equal(film_seconds(&film, 30, 10), 4);
    assert_int_equal(film_seconds(&film, 30, 10), 2);
    assert_true(film.decision.panic_since_ms == 0);
    film_end(&film);
}

/* Load 3 for two minutes on that many replicas, then another; what is said a second later, of a target of 7 and slots of 10 each. */
static void test_what_is_panic(void **state)
{
    (void)state;
    static const struct {
        int ready, utilization;
        double mean; /* of each of six seconds */
        int64_t waiting;
        bool panic;
    } rows[] = {
        {1, 70, 10, 0, false},  /* every slot is taken, and nobody waited */
        {1, 70, 10.5, 0, true}, /* somebody always did */
        {2, 70, 20, 0, false},  {2, 70, 21, 0, true},
        {5, 70, 49, 0, false},  {5, 40, 39, 0, false}, /* below twice what is meant to be used: 5 x 4 x 2 */
        {5, 40, 40, 0, true},   {5, 100, 50, 0, false},
        {5, 100, 51, 0, true},  {0, 70, 9, 0, false}, /* none ready counts as one */
        {0, 70, 11, 0, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct film film = film_new(&usual, rows[i].ready ? rows[i].ready : 1);
        film.settings.min_replicas = film.state.replicas; /* so that the number stays */
        film.settings.max_replicas = film.state.replicas;
        film.settings.target_utilization = rows[i].utilization;
        film.state.ready = rows[i].ready;
        film_seconds(&film, 120, 3);
        assert_true(film.decision.panic_since_ms == 0);
        film_seconds(&film, 6, rows[i].mean);
        assert_int_equal(film.decision.panic_since_ms != 0, rows[i].panic);
        film_end(&film);
    }
}

static void test_panic_keeps_its_high_water(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 1);
    film_seconds(&film, 60, 3);
    assert_int_equal(film_seconds(&film, 6, 35), 5);
    assert_decision(&film, 5, AUTOSCALER_PANIC);
    /* Above it again, and its time begins anew. */
    film_seconds(&film, 30, 3);
    assert_int_equal(film_second(&film, 100, 60), 10);
    assert_int_equal(film_seconds(&film, 59, 0.5), 10);
    assert_decision(&film, 10, AUTOSCALER_PANIC);
    /* Then the mean decides, and goes down by halves. */
    assert_int_equal(film_seconds(&film, 20, 0.5), 1);
    assert_decision(&film, 1, AUTOSCALER_LOAD);
    assert_true(film.decision.panic_since_ms == 0);
    film_end(&film);
}

/* Panic that begins while many are starting does not take them back. */
static void test_panic_begins_with_what_there_is(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 9);
    film.state.ready = 1;
    film.settings.min_replicas = 9;
    film_show(&film, (struct autoscaler_load){.mean = 30, .in_flight = 30, .any = true, .complete = true});
    film.settings.min_replicas = 0;
    film_show(&film, (struct autoscaler_load){.mean = 30, .in_flight = 30, .any = true, .complete = true});
    assert_decision(&film, 9, AUTOSCALER_PANIC);
    film_end(&film);
}

static void test_waiting_requests_count_at_once(void **state)
{
    (void)state;
    static const struct {
        int64_t waiting; /* of a load of 40, in the first second of it */
        int ready;
        double mean;
        int replicas;
    } rows[] = {
        {0, 2, 40, 2},  /* nobody waits: the window says (119 x 3 + 40) / 60, and nothing hurries */
        {20, 2, 40, 4}, /* as many wait as are at work: a slot for each */
        {40, 0, 10, 4}, /* none is ready: those who wait are all there is to know */
        {20, 2, 12, 2}, /* a moment that the second's mean does not bear out */
        {1, 2, 40, 4},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct film film = film_new(&usual, 2);
        film.settings.min_replicas = 2;
        film_seconds(&film, 120, 3);
        film.state.ready = rows[i].ready;
        struct autoscaler_load load = {.mean = rows[i].mean,
                                       .in_flight = 40 - rows[i].waiting,
                                       .waiting = rows[i].waiting,
                                       .any = true,
                                       .complete = true};
        assert_int_equal(film_show(&film, load), rows[i].replicas);
        film_end(&film);
    }
}

/* A lone request that wakes a Function of one request per replica gets one, whatever the utilisation. */
static void test_a_lone_request_gets_one_replica(void **state)
{
    (void)state;
    struct autoscaler_settings settings = usual;
    settings.concurrency = 1;
    struct film film = film_new(&settings, 0);
    film_second(&film, 0, 0);
    film.state.replicas = 1;
    struct autoscaler_load load = {.mean = 0.6, .waiting = 1, .any = true, .complete = true};
    assert_int_equal(film_show(&film, load), 1);
    assert_true(film.decision.panic_since_ms == 0);
    film_end(&film);
}

static void test_activation(void **state)
{
    (void)state;
    struct autoscaler_settings settings = usual;
    settings.activation_replicas = 4;
    settings.idle_ms = 300000;
    struct film film = film_new(&settings, 0);
    film_second(&film, 0, 0);
    film.state = (struct autoscaler_state){.replicas = 1, .ready = 0, .may_sleep = true};
    assert_int_equal(film_second(&film, 0, 0), 1); /* woken by hand, or to prove itself: no load */
    assert_int_equal(film_second(&film, 0.2, 0), 4);
    assert_decision(&film, 4, AUTOSCALER_ACTIVATION);
    assert_int_equal(film_seconds(&film, 57, 0.2), 4);
    assert_int_equal(film_seconds(&film, 5, 0.2), 1);
    film_end(&film);
    /* One that was met awake was not woken just now. */
    film = film_new(&settings, 1);
    assert_int_equal(film_seconds(&film, 10, 0.2), 1);
    film_end(&film);
    /* The maximum is above it. */
    settings.max_replicas = 3;
    film = film_new(&settings, 0);
    film_second(&film, 0, 0);
    film.state.replicas = 1;
    assert_int_equal(film_second(&film, 1, 0), 3);
    assert_decision(&film, 3, AUTOSCALER_MAX);
    film_end(&film);
}

static void test_not_less_than_half_at_once(void **state)
{
    (void)state;
    static const int steps[] = {5, 2, 1};
    struct film film = film_new(&usual, 1);
    film_seconds(&film, 120, 69);
    assert_int_equal(film.state.replicas, 10);
    film.settings.concurrency = 100; /* now one is enough */
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        film_second(&film, 69, 0);
        assert_decision(&film, steps[i], steps[i] > 1 ? AUTOSCALER_RATE : AUTOSCALER_LOAD);
    }
    film_end(&film);
}

/* Replicas that are ready but no longer asked for do not hold the number up. */
static void test_half_is_of_what_is_asked_for(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 2);
    film.settings.min_replicas = 2;
    film_seconds(&film, 70, 0.5);
    film.settings.min_replicas = 0;
    film.state.ready = 10;
    assert_int_equal(film_second(&film, 0.5, 0), 1);
    film_end(&film);
}

static void test_scale_down_waits_for_the_delay(void **state)
{
    (void)state;
    struct autoscaler_settings settings = usual;
    settings.scale_down_delay_ms = 120000;
    struct film film = film_new(&settings, 1);
    assert_int_equal(film_seconds(&film, 120, 33), 5);
    /* The window has forgotten after a minute; the last moment that wanted five was shortly after the fall. */
    assert_int_equal(film_seconds(&film, 119, 3), 5);
    assert_decision(&film, 5, AUTOSCALER_DELAY);
    assert_int_equal(film_seconds(&film, 70, 3), 1);
    film_end(&film);
}

static void test_limits(void **state)
{
    (void)state;
    struct autoscaler_settings settings = usual;
    settings.min_replicas = 2;
    settings.max_replicas = 4;
    struct film film = film_new(&settings, 0);
    assert_int_equal(film_second(&film, 0, 0), 2); /* also from zero: nobody calls, and two are asked for */
    assert_int_equal(film_seconds(&film, 600, 0), 2);
    assert_int_equal(film_seconds(&film, 10, 100), 4);
    film.settings.max_replicas = 3;
    assert_int_equal(film_seconds(&film, 1, 100), 3);
    film.settings.awake_min = 9; /* a proof never goes beyond the maximum */
    assert_int_equal(film_seconds(&film, 1, 0), 3);
    film_end(&film);
}

static void test_a_proof_keeps_its_pods(void **state)
{
    (void)state;
    struct autoscaler_settings settings = usual;
    settings.awake_min = 3;
    struct film film = film_new(&settings, 3);
    film.state.may_sleep = false;
    assert_int_equal(film_seconds(&film, 300, 0), 3);
    film_end(&film);
}

static void test_missing_figures_change_nothing(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 1);
    assert_int_equal(film_seconds(&film, 120, 33), 5);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(film_show(&film, (struct autoscaler_load){.quiet_ms = INT64_MAX}), 5);
    }
    assert_decision(&film, 5, AUTOSCALER_NO_DATA);
    /* When they are back, nothing is known of what was; the scale that is there is the start. */
    assert_int_equal(film_second(&film, 1, 0), 5);
    assert_decision(&film, 5, AUTOSCALER_FOUND);
    assert_true(film.decision.panic_since_ms == 0);
    film_end(&film);
}

/* Of two gateways one was read: more is believed, less is not; nor is it once both are back. */
static void test_incomplete_figures(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 1);
    assert_int_equal(film_seconds(&film, 120, 33), 5);
    for (int i = 0; i < 70; i++) {
        assert_int_equal(film_show(&film, (struct autoscaler_load){.mean = 1, .any = true}), 5);
    }
    assert_int_equal(film_second(&film, 33, 0), 5);
    assert_decision(&film, 5, AUTOSCALER_LOAD);
    struct autoscaler_load more = {.mean = 150, .in_flight = 90, .waiting = 60, .any = true};
    assert_int_equal(film_show(&film, more), 10);
    film_end(&film);
}

static void test_the_current_scale_is_the_start(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 6); /* a new operator knows no past */
    assert_int_equal(film_show(&film, (struct autoscaler_load){.quiet_ms = INT64_MAX}), 6);
    assert_int_equal(film_seconds(&film, 60, 3), 6);
    assert_decision(&film, 6, AUTOSCALER_FOUND);
    assert_int_equal(film_seconds(&film, 10, 3), 1);
    film_end(&film);
    film = film_new(&usual, 6); /* but quiet is quiet */
    film.settings.idle_ms = 5000;
    assert_int_equal(film_seconds(&film, 6, 0), 0);
    film_end(&film);
}

/* A sample counts for the time since the one before it, but not for longer than a panic window. */
static void test_means_are_weighted_by_time(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 3);
    film.settings.min_replicas = 3;
    film_seconds(&film, 60, 6);
    film.now_ms += 4000;
    film_second(&film, 18, 0);
    assert_true(film.decision.stable > 6.99 && film.decision.stable < 7.01); /* (55 x 6 + 5 x 18) / 60 */
    assert_true(film.decision.burst > 15.99 && film.decision.burst < 16.01); /* (1 x 6 + 5 x 18) / 6 */
    film.now_ms += 40000;
    film_second(&film, 0, 0);
    assert_true(film.decision.stable > 6.2); /* of 25 s that are known: (14 x 6 + 5 x 18 + 6 x 0) / 25 */
    film_end(&film);
}

static void test_the_history_is_bounded(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 1);
    film.settings.scale_down_delay_ms = 3600000;
    film_seconds(&film, 20000, 3);
    assert_true(film.history.count <= 3601);
    film.settings.scale_down_delay_ms = 0;
    film_seconds(&film, 1, 3);
    assert_true(film.history.count <= 61);
    film.state.replicas = 0;
    film_second(&film, 0, 0);
    assert_int_equal(film.history.count, 0);
    film_end(&film);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replicas_follow_the_load),
        cmocka_unit_test(test_a_small_change_counts_as_the_window_says),
        cmocka_unit_test(test_what_is_panic),
        cmocka_unit_test(test_panic_keeps_its_high_water),
        cmocka_unit_test(test_panic_begins_with_what_there_is),
        cmocka_unit_test(test_waiting_requests_count_at_once),
        cmocka_unit_test(test_a_lone_request_gets_one_replica),
        cmocka_unit_test(test_activation),
        cmocka_unit_test(test_not_less_than_half_at_once),
        cmocka_unit_test(test_half_is_of_what_is_asked_for),
        cmocka_unit_test(test_scale_down_waits_for_the_delay),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_a_proof_keeps_its_pods),
        cmocka_unit_test(test_missing_figures_change_nothing),
        cmocka_unit_test(test_incomplete_figures),
        cmocka_unit_test(test_the_current_scale_is_the_start),
        cmocka_unit_test(test_means_are_weighted_by_time),
        cmocka_unit_test(test_the_history_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
