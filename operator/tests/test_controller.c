#include "operator/controller/controller.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define PATIENCE_MS 5000

struct fixture {
    struct metrics *metrics;
    struct workqueue *queue;
    struct controller *controller;
    atomic_int calls;
    atomic_int fails_left; /* calls that still fail, with: */
    enum err_code code;
    int64_t retry_after_ms;
    int64_t requeue_after_ms; /* of the first success */
    atomic_int running, most_running;
    int64_t work_ms;
    atomic_llong last_ms;
};

static void sleep_ms(int64_t ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static int reconcile(void *arg, const struct object_key *key, struct reconcile_result *ret, struct err *err)
{
    struct fixture *fixture = arg;
    (void)key;
    int running = atomic_fetch_add(&fixture->running, 1) + 1;
    int most = atomic_load(&fixture->most_running);
    while (running > most && !atomic_compare_exchange_weak(&fixture->most_running, &most, running))
        continue;
    sleep_ms(fixture->work_ms);
    atomic_store(&fixture->last_ms, clock_monotonic_ms());
    int rc = 0;
    if (atomic_fetch_sub(&fixture->fails_left, 1) > 0) {
        rc = err_set(err, fixture->code, "as the test wants it");
        err->retry_after_ms = fixture->retry_after_ms;
    } else if (fixture->requeue_after_ms > 0) {
        ret->requeue_after_ms = fixture->requeue_after_ms;
        fixture->requeue_after_ms = 0;
    }
    atomic_fetch_sub(&fixture->running, 1);
    atomic_fetch_add(&fixture->calls, 1);
    return rc;
}

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    fixture->metrics = metrics_new();
    fixture->queue = workqueue_new(&clock_system, /* max_backoff_ms= */ 1000000);
    fixture->controller =
        controller_new("functions", fixture->queue, /* workers= */ 3, reconcile, fixture, fixture->metrics);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    controller_stop(fixture->controller);
    controller_free(fixture->controller);
    workqueue_free(fixture->queue);
    metrics_free(fixture->metrics);
    free(fixture);
    return 0;
}

static void wait_for_calls(struct fixture *fixture, int calls)
{
    int64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;
    while (atomic_load(&fixture->calls) < calls && clock_monotonic_ms() < until_ms)
        sleep_ms(1);
    assert_int_equal(atomic_load(&fixture->calls), calls);
}

static void expect_metric(struct fixture *fixture, const char *line)
{
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, METRICS_TEXT_MAX_BYTES);
    assert_int_equal(metrics_render(fixture->metrics, &text), 0);
    if (!strstr(text.buf, line))
        fail_msg("%s is not in\n%s", line, text.buf);
}

static void expect_result(struct fixture *fixture, const char *result, int count)
{
    CLEANUP_FREE char *line = xasprintf(
        "cicada_operator_reconcile_total{controller=\"functions\",result=\"%s\"} %d\n", result, count);
    expect_metric(fixture, line);
}

static void test_all_results_are_there_from_the_start(void **state)
{
    struct fixture *fixture = *state;
    static const char *const results[] = {"success", "requeue_after", "conflict", "error", "terminal"};
    for (size_t i = 0; i < ARRAY_SIZE(results); i++)
        expect_result(fixture, results[i], 0);
    expect_metric(fixture, "cicada_operator_workqueue_depth{controller=\"functions\"} 0\n");
}

static void test_success(void **state)
{
    struct fixture *fixture = *state;
    controller_start(fixture->controller);
    workqueue_add(fixture->queue, "shop", "a");
    workqueue_add(fixture->queue, "shop", "b");
    wait_for_calls(fixture, 2);
    sleep_ms(30);
    controller_stop(fixture->controller);
    assert_int_equal(atomic_load(&fixture->calls), 2);
    expect_result(fixture, "success", 2);
    expect_metric(fixture, "cicada_operator_reconcile_duration_seconds_count{controller=\"functions\"} 2\n");
    expect_metric(fixture, "cicada_operator_workqueue_depth{controller=\"functions\"} 0\n");
}

static void test_requeue_after(void **state)
{
    struct fixture *fixture = *state;
    fixture->requeue_after_ms = 50;
    int64_t started_ms = clock_monotonic_ms();
    controller_start(fixture->controller);
    workqueue_add(fixture->queue, "shop", "a");
    wait_for_calls(fixture, 2);
    assert_in_range(atomic_load(&fixture->last_ms) - started_ms, 50, 1000);
    controller_stop(fixture->controller);
    expect_result(fixture, "requeue_after", 1);
    expect_result(fixture, "success", 1);
}

static void expect_retried(struct fixture *fixture, enum err_code code, const char *result)
{
    fixture->code = code;
    atomic_store(&fixture->fails_left, 4);
    int64_t started_ms = clock_monotonic_ms();
    controller_start(fixture->controller);
    workqueue_add(fixture->queue, "shop", "a");
    wait_for_calls(fixture, 5);
    assert_in_range(clock_monotonic_ms() - started_ms, 5 + 10 + 20 + 40, 1000);
    controller_stop(fixture->controller);
    expect_result(fixture, result, 4);
    expect_result(fixture, "success", 1);
}

static void test_errors_back_off(void **state)
{
    expect_retried(*state, ERR_UNAVAILABLE, "error");
}

static void test_conflicts_back_off_quietly(void **state)
{
    expect_retried(*state, ERR_CONFLICT, "conflict");
}

static void test_not_found_is_a_conflict(void **state)
{
    expect_retried(*state, ERR_NOT_FOUND, "conflict");
}

static void test_retry_after_is_obeyed(void **state)
{
    struct fixture *fixture = *state;
    fixture->code = ERR_THROTTLED;
    fixture->retry_after_ms = 100;
    atomic_store(&fixture->fails_left, 1);
    int64_t started_ms = clock_monotonic_ms();
    controller_start(fixture->controller);
    workqueue_add(fixture->queue, "shop", "a");
    wait_for_calls(fixture, 2);
    assert_in_range(atomic_load(&fixture->last_ms) - started_ms, 100, 1000);
    controller_stop(fixture->controller);
    expect_result(fixture, "error", 1);
}

static void test_invalid_waits_for_a_change(void **state)
{
    struct fixture *fixture = *state;
    fixture->code = ERR_INVALID;
    atomic_store(&fixture->fails_left, 1);
    controller_start(fixture->controller);
    workqueue_add(fixture->queue, "shop", "a");
    wait_for_calls(fixture, 1);
    sleep_ms(60);
    assert_int_equal(atomic_load(&fixture->calls), 1);
    workqueue_add(fixture->queue, "shop", "a");
    wait_for_calls(fixture, 2);
    controller_stop(fixture->controller);
    expect_result(fixture, "terminal", 1);
    expect_result(fixture, "success", 1);
}

static void test_stop_finishes_what_is_in_progress(void **state)
{
    struct fixture *fixture = *state;
    fixture->work_ms = 100;
    controller_start(fixture->controller);
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        workqueue_add(fixture->queue, "shop", names[i]);
    while (atomic_load(&fixture->running) < 3)
        sleep_ms(1);
    controller_stop(fixture->controller);
    assert_int_equal(atomic_load(&fixture->calls), 3);
    assert_int_equal(atomic_load(&fixture->running), 0);
    assert_int_equal(atomic_load(&fixture->most_running), 3);
}

static void test_without_a_registry(void **state)
{
    struct fixture *fixture = *state;
    struct workqueue *queue = workqueue_new(&clock_system, 1000);
    struct controller *controller = controller_new("a-name-that-is-too-long-for-a-thread", queue,
                                                   /* workers= */ 1, reconcile, fixture, /* metrics= */ NULL);
    controller_start(controller);
    workqueue_add(queue, "", "cluster-scoped");
    wait_for_calls(fixture, 1);
    controller_stop(controller);
    controller_stop(controller);
    controller_free(controller);
    workqueue_free(queue);
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_all_results_are_there_from_the_start),
        TEST(test_success),
        TEST(test_requeue_after),
        TEST(test_errors_back_off),
        TEST(test_conflicts_back_off_quietly),
        TEST(test_not_found_is_a_conflict),
        TEST(test_retry_after_is_obeyed),
        TEST(test_invalid_waits_for_a_change),
        TEST(test_stop_finishes_what_is_in_progress),
        TEST(test_without_a_registry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
