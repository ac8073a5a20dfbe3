/* test_local_scaling.c - from zero, up with the load, and back to zero, by the shared scaler. */
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "operator/tests/support_local.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_test.h"

#define RUNTIME "cicada-runtime"
#define AT_ONCE 50
#define LOAD    6

/* All are answered, by one process that their first one started. */
static void test_many_requests_wake_one_process(void **state)
{
    struct local *local = *state;
    static struct http_call calls[AT_ONCE];
    local_sql(local, "one", "SELECT 1 AS one", "  scaling: {maxReplicas: 1}\n");
    local_start(local, NULL);
    local_await_children(local, RUNTIME, 0);
    for (size_t i = 0; i < AT_ONCE; i++) {
        http_call_start(&calls[i], local->port, "GET", "/fn/default/one/", NULL);
    }
    int answered = 0;
    for (size_t i = 0; i < AT_ONCE; i++) {
        http_call_join(&calls[i]);
        answered += calls[i].answer.status == 200;
        http_answer_release(&calls[i].answer);
    }
    assert_int_equal(answered, AT_ONCE);
    assert_int_equal(local_child_count(local, RUNTIME), 1);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* Sleeps after idleSeconds, not before; wakes again, and a request at any moment of that is answered. */
static void test_idle_goes_to_zero_and_back(void **state)
{
    struct local *local = *state;
    local_sql(local, "one", "SELECT 1 AS one", "  scaling: {idleSeconds: 1}\n");
    local_start(local, NULL);
    for (int round = 0; round < 2; round++) {
        local_expect(local, "/fn/default/one/", 200, "\"one\"");
        int64_t answered_ms = clock_monotonic_ms();
        assert_int_equal(local_child_count(local, RUNTIME), 1);
        local_await_children(local, RUNTIME, 0);
        assert_true(clock_monotonic_ms() - answered_ms >= 1000);
        assert_true(clock_monotonic_ms() - answered_ms < 6000);
    }
    /* Around the moment at which it goes to sleep. */
    for (int64_t gap_ms = 900; gap_ms <= 2100; gap_ms += 300) {
        local_expect(local, "/fn/default/one/", 200, "\"one\"");
        poll(NULL, 0, (int)gap_ms);
    }
    local_expect(local, "/fn/default/one/", 200, "\"one\"");
    assert_int_equal(local_stop(local, SIGTERM), 0);
    assert_int_equal(local_log_count(local, "ended by itself"), 0);
}

struct loader {
    pthread_t thread;
    const struct local *local;
    atomic_bool stop;
    int answered, failed;
};

static void *keep_asking(void *arg)
{
    struct loader *loader = arg;
    while (!atomic_load(&loader->stop)) {
        struct http_answer answer = http_ask(loader->local->port, "GET", "/fn/default/slow/", "", NULL);
        *(answer.status == 200 ? &loader->answered : &loader->failed) += 1;
        http_answer_release(&answer);
    }
    return NULL;
}

static void test_load_means_more_replicas(void **state)
{
    struct local *local = *state;
    struct loader loaders[LOAD];
    local_sql(local, "slow", "SELECT pg_sleep(0.3)::text AS s",
              "  concurrency: 1\n  scaling: {maxReplicas: 3, idleSeconds: 1, windowSeconds: 6}\n");
    local_start(local, NULL);
    for (size_t i = 0; i < LOAD; i++) {
        loaders[i] = (struct loader){.local = local};
        assert_int_equal(pthread_create(&loaders[i].thread, NULL, keep_asking, &loaders[i]), 0);
    }
    local_await_children(local, RUNTIME, 3);
    poll(NULL, 0, 1500);
    assert_int_equal(local_child_count(local, RUNTIME), 3); /* maxReplicas */
    for (size_t i = 0; i < LOAD; i++) {
        atomic_store(&loaders[i].stop, true);
    }
    for (size_t i = 0; i < LOAD; i++) {
        pthread_join(loaders[i].thread, NULL);
        assert_int_equal(loaders[i].failed, 0);
        assert_true(loaders[i].answered > 0);
    }
    local_await_children(local, RUNTIME, 0);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

static void test_min_replicas(void **state)
{
    struct local *local = *state;
    local_sql(local, "one", "SELECT 1 AS one", "  scaling: {minReplicas: 2, idleSeconds: 1}\n");
    local_start(local, NULL);
    local_await_children(local, RUNTIME, 2); /* without any request */
    poll(NULL, 0, 3000);
    assert_int_equal(local_child_count(local, RUNTIME), 2);
    local_sql(local, "one", "SELECT 1 AS one", "  scaling: {minReplicas: 0, idleSeconds: 1}\n");
    local_await_children(local, RUNTIME, 0);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* A number of one's own is not scaled; 0 switches off, and taking the field away gives control back. */
static void test_pinned(void **state)
{
    struct local *local = *state;
    local_sql(local, "one", "SELECT 1 AS one", "  replicas: 3\n  scaling: {idleSeconds: 1}\n");
    local_start(local, NULL);
    local_await_children(local, RUNTIME, 3);
    poll(NULL, 0, 2500);
    assert_int_equal(local_child_count(local, RUNTIME), 3);
    local_sql(local, "one", "SELECT 1 AS one", "  replicas: 1\n  scaling: {idleSeconds: 1}\n");
    local_await_children(local, RUNTIME, 1);
    local_expect(local, "/fn/default/one/", 200, "\"one\"");
    local_sql(local, "one", "SELECT 1 AS one", "  replicas: 0\n  scaling: {idleSeconds: 1}\n");
    local_await_children(local, RUNTIME, 0);
    local_expect(local, "/fn/default/one/", 503, "ScaledToZeroByUser");
    assert_int_equal(local_child_count(local, RUNTIME), 0);
    local_sql(local, "one", "SELECT 1 AS one", "  scaling: {idleSeconds: 1}\n");
    local_await_outcome(local, "/fn/default/one/", 200, "\"one\"");
    local_await_children(local, RUNTIME, 0);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, local_setup, local_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_many_requests_wake_one_process),
        CASE(test_idle_goes_to_zero_and_back),
        CASE(test_load_means_more_replicas),
        CASE(test_min_replicas),
        CASE(test_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
