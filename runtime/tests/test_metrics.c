#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/tests/support_test.h"

static const char *const path_and_code[] = {"path", "code", NULL};

static char *rendered(struct metrics *metrics)
{
    struct strbuf out;
    strbuf_init(&out, METRICS_TEXT_MAX_BYTES);
    assert_int_equal(metrics_render(metrics, &out), 0);
    return strbuf_detach(&out, NULL);
}

static struct metric *get2(struct metric_family *family, const char *a, const char *b)
{
    return metric_family_get(family, (const char *const[]){a, b});
}

static void renders_counters_and_gauges(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    struct metric_family *requests =
        metrics_counter(metrics, "cicada_requests_total", "Requests\nof all\\kinds \"here\".", path_and_code);
    struct metric_family *depth = metrics_gauge(metrics, "cicada_queue_depth", "Depth.", NULL);
    metric_add(get2(requests, "/a", "200"), 1);
    metric_add(get2(requests, "/a", "200"), 2);
    metric_add(get2(requests, "q\"b\\n\n\xFF\xC3\xA9", ""), 0.5);
    metric_set(metric_family_get(depth, NULL), -3);
    metric_add(metric_family_get(depth, NULL), 1e15);
    CLEANUP_FREE char *text = rendered(metrics);
    assert_string_equal(text,
                        "# HELP cicada_requests_total Requests\\nof all\\\\kinds \"here\".\n"
                        "# TYPE cicada_requests_total counter\n"
                        "cicada_requests_total{path=\"/a\",code=\"200\"} 3\n"
                        "cicada_requests_total{path=\"q\\\"b\\\\n\\n\xEF\xBF\xBD\xC3\xA9\",code=\"\"} 0.5\n"
                        "# HELP cicada_queue_depth Depth.\n"
                        "# TYPE cicada_queue_depth gauge\n"
                        "cicada_queue_depth 999999999999997\n");
    assert_true(metric_value(get2(requests, "/a", "200")) == 3);
    metrics_free(metrics);
    metrics_free(NULL);
}

static void renders_histograms(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    static const double bounds[] = {0.5, 1, 2.5};
    static const char *const labels[] = {"path", NULL};
    struct metric_family *family = metrics_histogram(metrics, "cicada_seconds", "Time.", labels, bounds, 3);
    struct metric *metric = metric_family_get(family, (const char *const[]){"/"});
    static const double values[] = {0.25, 0.5, 0.75, 2, 100};
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        metric_observe(metric, values[i]);
    }
    assert_true(metric_value(metric) == 5);
    struct metric *collected = metric_family_get(family, (const char *const[]){"/c"});
    metric_observe_counts(collected, (const uint64_t[]){2, 0, 1, 4}, 402.75);
    assert_true(metric_value(collected) == 7);
    metrics_histogram(metrics, "cicada_plain", "Plain.", NULL, bounds, 1);
    CLEANUP_FREE char *text = rendered(metrics);
    assert_string_equal(text, "# HELP cicada_seconds Time.\n"
                              "# TYPE cicada_seconds histogram\n"
                              "cicada_seconds_bucket{path=\"/\",le=\"0.5\"} 2\n"
                              "cicada_seconds_bucket{path=\"/\",le=\"1\"} 3\n"
                              "cicada_seconds_bucket{path=\"/\",le=\"2.5\"} 4\n"
                              "cicada_seconds_bucket{path=\"/\",le=\"+Inf\"} 5\n"
                              "cicada_seconds_sum{path=\"/\"} 103.5\n"
                              "cicada_seconds_count{path=\"/\"} 5\n"
                              "cicada_seconds_bucket{path=\"/c\",le=\"0.5\"} 2\n"
                              "cicada_seconds_bucket{path=\"/c\",le=\"1\"} 2\n"
                              "cicada_seconds_bucket{path=\"/c\",le=\"2.5\"} 3\n"
                              "cicada_seconds_bucket{path=\"/c\",le=\"+Inf\"} 7\n"
                              "cicada_seconds_sum{path=\"/c\"} 402.75\n"
                              "cicada_seconds_count{path=\"/c\"} 7\n"
                              "# HELP cicada_plain Plain.\n"
                              "# TYPE cicada_plain histogram\n"
                              "cicada_plain_bucket{le=\"0.5\"} 0\n"
                              "cicada_plain_bucket{le=\"+Inf\"} 0\n"
                              "cicada_plain_sum 0\n"
                              "cicada_plain_count 0\n");
    metrics_free(metrics);
}

static void shows_values_that_are_not_finite(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    struct metric *metric = metric_family_get(metrics_gauge(metrics, "g", "G.", NULL), NULL);
    static const double values[] = {NAN, INFINITY, -INFINITY};
    static const char *const texts[] = {"g NaN\n", "g +Inf\n", "g -Inf\n"};
    for (size_t i = 0; i < 3; i++) {
        metric_set(metric, values[i]);
        CLEANUP_FREE char *text = rendered(metrics);
        assert_non_null(strstr(text, texts[i]));
    }
    metrics_free(metrics);
}

static void removes_by_label_prefix(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    struct metric_family *family = metrics_counter(metrics, "c_total", "C.", path_and_code);
    char path[16];
    for (int i = 0; i < 100; i++) { /* more than the table begins with */
        snprintf(path, sizeof(path), "/%d", i % 10);
        char code[16];
        snprintf(code, sizeof(code), "%d", i / 10);
        metric_add(get2(family, path, code), i);
    }
    assert_true(metric_value(get2(family, "/3", "4")) == 43);
    metric_family_remove(family, (const char *const[]){"/3"}, 1);
    metric_family_remove(family, (const char *const[]){"/9", "9"}, 2); /* the last in the list */
    metric_family_remove(family, (const char *const[]){"/x"}, 1);
    CLEANUP_FREE char *text = rendered(metrics);
    assert_null(strstr(text, "\"/3\""));
    assert_null(strstr(text, "path=\"/9\",code=\"9\""));
    assert_non_null(strstr(text, "path=\"/9\",code=\"8\""));
    assert_true(metric_value(get2(family, "/4", "3")) == 34);
    assert_true(metric_value(get2(family, "/3", "4")) == 0); /* made anew */
    CLEANUP_FREE char *again = rendered(metrics);
    assert_non_null(strstr(again, "c_total{path=\"/3\",code=\"4\"} 0\n"));
    metric_family_remove(family, NULL, 0);
    CLEANUP_FREE char *none = rendered(metrics);
    assert_string_equal(none, ""); /* a family without metrics shows nothing */
    metrics_free(metrics);
}

/* In a process of its own: it is to abort. */
static void a_name_is_registered_once(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL); /* cmocka has a handler */
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        struct metrics *metrics = metrics_new();
        metrics_counter(metrics, "c_total", "C.", NULL);
        metrics_gauge(metrics, "c_total", "Another.", NULL);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void rendering_has_a_cap(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    metrics_counter(metrics, "c_total", "C.", NULL);
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 20);
    assert_int_equal(metrics_render(metrics, &out), -1);
    metrics_free(metrics);
}

static void latency_bounds_ascend(void **state)
{
    (void)state;
    assert_true(metrics_latency_bounds[0] == 0.001);
    assert_true(metrics_latency_bounds[metrics_latency_bound_count - 1] == 60);
    for (size_t i = 1; i < metrics_latency_bound_count; i++) {
        assert_true(metrics_latency_bounds[i - 1] < metrics_latency_bounds[i]);
    }
}

#define THREADS 4
#define ROUNDS  5000

struct shared {
    struct metrics *metrics;
    struct metric_family *counters, *times;
};

static void *update(void *arg)
{
    struct shared *shared = arg;
    static const char *const paths[] = {"/a", "/b", "/c"};
    for (int i = 0; i < ROUNDS; i++) {
        metric_add(get2(shared->counters, paths[i % 3], "x"), 1);
        metric_observe(metric_family_get(shared->times, NULL), 0.5);
        if (i % 1000 == 0) {
            CLEANUP_FREE char *text = rendered(shared->metrics);
            assert_non_null(text);
        }
    }
    return NULL;
}

static void no_update_is_lost(void **state)
{
    (void)state;
    static const double bounds[] = {1};
    struct shared shared = {.metrics = metrics_new()};
    shared.counters = metrics_counter(shared.metrics, "c_total", "C.", path_and_code);
    shared.times = metrics_histogram(shared.metrics, "t", "T.", NULL, bounds, 1);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, update, &shared), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    double sum = metric_value(get2(shared.counters, "/a", "x")) +
                 metric_value(get2(shared.counters, "/b", "x")) +
                 metric_value(get2(shared.counters, "/c", "x"));
    assert_true(sum == THREADS * ROUNDS);
    assert_true(metric_value(metric_family_get(shared.times, NULL)) == THREADS * ROUNDS);
    CLEANUP_FREE char *text = rendered(shared.metrics);
    assert_non_null(strstr(text, "t_sum 10000\n"));
    metrics_free(shared.metrics);
}

static void quantiles_lie_within_their_bucket(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_new();
    static const double bounds[] = {1, 2, 4};
    struct metric *metric = metric_family_get(
        metrics_histogram(metrics, "cicada_wait_seconds", "Time.", NULL, bounds, ARRAY_SIZE(bounds)), NULL);
    assert_true(isnan(metric_quantile(metric, 0.5)));
    for (int i = 0; i < 10; i++) {
        metric_observe(metric, i < 5 ? 0.5 : 3);
    }
    assert_true(metric_quantile(metric, 0.5) == 1);
    assert_true(metric_quantile(metric, 0.25) == 0.5);
    assert_true(metric_quantile(metric, 0.9) == 3.6);
    assert_true(metric_quantile(metric, 1) == 4);
    metric_observe(metric, 100);
    assert_true(metric_quantile(metric, 1) == 4); /* beyond the last bound nothing is known */
    metrics_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_counters_and_gauges),
        cmocka_unit_test(renders_histograms),
        cmocka_unit_test(quantiles_lie_within_their_bucket),
        cmocka_unit_test(shows_values_that_are_not_finite),
        cmocka_unit_test(removes_by_label_prefix),
        cmocka_unit_test(a_name_is_registered_once),
        cmocka_unit_test(rendering_has_a_cap),
        cmocka_unit_test(latency_bounds_ascend),
        cmocka_unit_test(no_update_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
