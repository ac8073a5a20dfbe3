/* How many replicas: decisions from figures, and figures from two readings of a gateway. */
#include "operator/autoscaler/autoscaler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator/autoscaler/gateway_report.h"
#include "runtime/base/mem.h"

/* concurrency 10 at 70 %: a replica carries 7 */
static const struct autoscaler_settings usual = {.max_replicas = 10,
                                                 .awake_min = 1,
                                                 .concurrency = 10,
                                                 .target_utilization = 70,
                                                 .idle_ms = 60000,
                                                 .window_ms = 60000};

/* A Function over time: each call is one second later. */
struct film {
    struct autoscaler_history history;
    struct autoscaler_settings settings;
    struct autoscaler_state state;
    int64_t now_ms, last_request_ms;
};

static struct film film_new(const struct autoscaler_settings *settings, int replicas)
{
    return (struct film){.settings = *settings,
                         .state = {.replicas = replicas, .may_sleep = true},
                         .now_ms = 1000000,
                         .last_request_ms = 1000000};
}

static int film_show(struct film *film, struct autoscaler_load load)
{
    film->now_ms += 1000;
    load.at_ms = film->now_ms;
    autoscaler_observe(&film->history, &film->settings, &film->state, &load);
    return autoscaler_decide(&film->history, &film->settings, &film->state, &load);
}

/* One second with this load, seen by every gateway; what is decided is done. */
static int film_second(struct film *film, double mean, int64_t waiting)
{
    if (mean > 0 || waiting > 0) {
        film->last_request_ms = film->now_ms + 1000;
    }
    struct autoscaler_load load = {.mean = mean,
                                   .in_flight = (int64_t)mean - waiting > 0 ? (int64_t)mean - waiting : 0,
                                   .waiting = waiting,
                                   .quiet_ms = film->now_ms + 1000 - film->last_request_ms,
                                   .any = true,
                                   .complete = true};
    int replicas = film_show(film, load);
    if (replicas != film->state.replicas) {
        autoscaler_wrote(&film->history, replicas, film->now_ms);
        film->state.replicas = replicas;
    }
    return replicas;
}

static int film_seconds(struct film *film, int seconds, double mean)
{
    for (int i = 0; i < seconds; i++) {
        film_second(film, mean, 0);
    }
    return film->state.replicas;
}

static void film_end(struct film *film)
{
    autoscaler_history_release(&film->history);
}

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

static void test_a_rise_counts_within_seconds_and_a_fall_after_the_window(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 1);
    film_seconds(&film, 60, 3);
    assert_int_equal(film_seconds(&film, 6, 35), 5);
    /* The short window has forgotten it, the long one has not: (6 x 35 + ...) / 60 is below 7, so that one replica is enough. */
    assert_int_equal(film_seconds(&film, 6, 3), 1);
    film_seconds(&film, 60, 35);
    assert_int_equal(film_seconds(&film, 20, 3), 4);
    assert_int_equal(film_seconds(&film, 40, 3), 1);
    film_end(&film);
}

static void test_waiting_requests_count_at_once(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 1);
    film_seconds(&film, 60, 1);
    assert_int_equal(film_second(&film, 40, 30), 6); /* ceil((10 in flight + 30 waiting) / 7) */
    film_end(&film);
}

static void test_scale_down_waits_for_the_delay(void **state)
{
    (void)state;
    struct autoscaler_settings settings = usual;
    settings.scale_down_delay_ms = 120000;
    struct film film = film_new(&settings, 1);
    assert_int_equal(film_seconds(&film, 60, 35), 5);
    /* The window has forgotten after a minute; the last moment that wanted five was shortly after the fall. */
    assert_int_equal(film_seconds(&film, 119, 3), 5);
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

static void test_missing_figures_change_nothing(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 1);
    assert_int_equal(film_seconds(&film, 60, 35), 5);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(film_show(&film, (struct autoscaler_load){.quiet_ms = INT64_MAX}), 5);
    }
    /* Of two gateways one was read: more is believed, less is not. */
    for (int i = 0; i < 70; i++) {
        assert_int_equal(film_show(&film, (struct autoscaler_load){.mean = 1, .any = true}), 5);
    }
    struct autoscaler_load more = {.mean = 50, .in_flight = 50, .waiting = 6, .any = true};
    assert_int_equal(film_show(&film, more), 8);
    film_end(&film);
}

static void test_the_current_scale_is_the_start(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 6); /* a new operator knows no past */
    assert_int_equal(film_show(&film, (struct autoscaler_load){.quiet_ms = INT64_MAX}), 6);
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

/* ---- reports ---- */

static void free_report_p(struct gateway_report **report)
{
    gateway_report_free(*report);
}
#define CLEANUP_REPORT CLEANUP(free_report_p)

static struct gateway_report *report(const char *text)
{
    struct gateway_report *parsed = NULL;
    struct err err = ERR_INIT;
    if (gateway_report_parse(text, strlen(text), &parsed, &err)) {
        fail_msg("%s", err.msg);
    }
    return parsed;
}

#define FIRST                                                                                                \
    "{\"gateway\":\"g\",\"uptimeMs\":10000,\"draining\":false,\"functions\":["                               \
    "{\"namespace\":\"shop\",\"name\":\"b\",\"inFlight\":3,\"waiting\":1,\"inFlightMs\":5000,"               \
    "\"waitingMs\":1000,\"arrivals\":9,\"idleMs\":0},"                                                       \
    "{\"namespace\":\"shop\",\"name\":\"a\",\"inFlight\":0,\"waiting\":0,\"inFlightMs\":70,"                 \
    "\"waitingMs\":0,\"arrivals\":1,\"idleMs\":800}]}"
#define SECOND                                                                                               \
    "{\"uptimeMs\":12000,\"functions\":[{\"namespace\":\"shop\",\"name\":\"b\",\"inFlight\":1,"              \
    "\"waiting\":0,\"inFlightMs\":9000,\"waitingMs\":2000,\"idleMs\":0,\"later\":{}}]}"

static void test_load_between_two_readings(void **state)
{
    (void)state;
    CLEANUP_REPORT struct gateway_report *first = report(FIRST), *second = report(SECOND);
    struct gateway_load load = gateway_report_load(first, second, "shop/b");
    assert_true(load.mean > 2.49 && load.mean < 2.51); /* (11000 - 6000) / 2000 */
    assert_int_equal(load.in_flight, 1);
    assert_int_equal(load.waiting, 0);
    assert_int_equal(load.idle_ms, 0);
}

static void test_load_of_one_reading_is_the_moment(void **state)
{
    (void)state;
    CLEANUP_REPORT struct gateway_report *first = report(FIRST);
    struct gateway_load load = gateway_report_load(NULL, first, "shop/b");
    assert_true(load.mean > 3.99 && load.mean < 4.01);
    assert_int_equal(load.waiting, 1);
    assert_int_equal(gateway_report_load(NULL, first, "shop/a").idle_ms, 800);
}

static void test_unlisted_functions_are_idle_since_the_start(void **state)
{
    (void)state;
    CLEANUP_REPORT struct gateway_report *second = report(SECOND);
    CLEANUP_REPORT struct gateway_report *old = report("{\"uptimeMs\":90000000,\"functions\":[]}");
    assert_int_equal(gateway_report_load(NULL, second, "shop/none").idle_ms, 12000);
    assert_int_equal(gateway_report_load(NULL, old, "shop/none").idle_ms, 3600000);
    assert_true(gateway_report_load(NULL, old, "shop/none").mean == 0);
}

static void test_bad_reports(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{}",
        "{\"uptimeMs\":1}",
        "{\"uptimeMs\":-1,\"functions\":[]}",
        "{\"uptimeMs\":\"1\",\"functions\":[]}",
        "{\"uptimeMs\":1,\"functions\":{}}",
        "{\"uptimeMs\":1,\"functions\":[1]}",
        "{\"uptimeMs\":1,\"functions\":[{\"name\":\"a\"}]}",
        "{\"uptimeMs\":1,\"functions\":[{\"namespace\":\"a\",\"name\":\"b\"},{}]}",
        "{\"uptimeMs\":1,\"functions\":[]} x",
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct gateway_report *parsed = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(gateway_report_parse(texts[i], strlen(texts[i]), &parsed, &err), -1);
        assert_null(parsed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replicas_follow_the_load),
        cmocka_unit_test(test_a_rise_counts_within_seconds_and_a_fall_after_the_window),
        cmocka_unit_test(test_waiting_requests_count_at_once),
        cmocka_unit_test(test_scale_down_waits_for_the_delay),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_a_proof_keeps_its_pods),
        cmocka_unit_test(test_from_zero_to_one_is_the_gateways_step),
        cmocka_unit_test(test_sleep_after_the_quiet_time),
        cmocka_unit_test(test_a_change_of_replicas_is_activity),
        cmocka_unit_test(test_the_delay_holds_for_sleep_too),
        cmocka_unit_test(test_no_sleep_while_something_forbids_it),
        cmocka_unit_test(test_missing_figures_change_nothing),
        cmocka_unit_test(test_the_current_scale_is_the_start),
        cmocka_unit_test(test_the_history_is_bounded),
        cmocka_unit_test(test_load_between_two_readings),
        cmocka_unit_test(test_load_of_one_reading_is_the_moment),
        cmocka_unit_test(test_unlisted_functions_are_idle_since_the_start),
        cmocka_unit_test(test_bad_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
