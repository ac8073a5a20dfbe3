#include "operator/cache/reflector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "operator/queue/thread.h"
#include "operator/tests/support_fake_apiserver.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define PATIENCE_MS 5000
#define LIST        "GET /api/v1/pods?limit=500 "
#define NEXT_PAGE   "&continue="
#define WATCH       "watch=true"

struct fixture {
    struct fake_apiserver *server;
    struct stop stop;
    struct kube_client *client;
    struct reflector_settings settings;
    pthread_t thread;
    atomic_int lists, failures, objects;
    _Atomic enum err_code last_failure;
};

static void on_list_begin(void *arg)
{
    (void)arg;
}

static int on_object(void *arg, const cJSON *object, struct err *err)
{
    struct fixture *fixture = arg;
    (void)object, (void)err;
    atomic_fetch_add(&fixture->objects, 1);
    return 0;
}

static void on_list_end(void *arg)
{
    struct fixture *fixture = arg;
    atomic_fetch_add(&fixture->lists, 1);
}

static void on_alive(void *arg)
{
    (void)arg;
}

static void on_failed(void *arg, const struct err *err)
{
    struct fixture *fixture = arg;
    atomic_store(&fixture->last_failure, err->code);
    atomic_fetch_add(&fixture->failures, 1);
}

static void *run(void *arg)
{
    static const struct reflector_sink sink = {
        .list_begin = on_list_begin,
        .object = on_object,
        .deleted = on_object,
        .list_end = on_list_end,
        .alive = on_alive,
        .failed = on_failed,
    };
    struct fixture *fixture = arg;
    reflector_run(&fixture->settings, &sink, fixture, &fixture->stop);
    return NULL;
}

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    fixture->server = fake_apiserver_start();
    stop_init(&fixture->stop);
    fixture->client =
        fake_apiserver_client(fixture->server, /* token_file= */ NULL, /* clock= */ NULL, &fixture->stop);
    fixture->settings = (struct reflector_settings){
        .client = fixture->client, .resource = &kube_pods, .max_backoff_ms = 20, .relist_after_ms = 100000};
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    stop_set(&fixture->stop);
    pthread_join(fixture->thread, NULL);
    kube_client_free(fixture->client);
    fake_apiserver_stop(fixture->server);
    stop_release(&fixture->stop);
    free(fixture);
    return 0;
}

static void always(struct fixture *fixture, const char *match, int status, const char *body)
{
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = match, .status = status, .body = body, .times = -1});
}

static void start(struct fixture *fixture)
{
    fixture->thread = thread_start("reflector", run, fixture);
}

static void expect_requests(struct fixture *fixture, const char *match, int count)
{
    if (!fake_apiserver_wait(fixture->server, match, count, PATIENCE_MS))
        fail_msg("%s: %d of %d", match, fake_apiserver_count(fixture->server, match), count);
}

#define EMPTY_LIST "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[]}"

static void test_a_watch_that_keeps_failing_ends_in_a_relist(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.relist_after_ms = 100;
    always(fixture, LIST, 200, EMPTY_LIST);
    always(fixture, WATCH, 500, "{\"message\":\"etcd is unwell\"}");
    start(fixture);
    expect_requests(fixture, LIST, 2);
    assert_true(fake_apiserver_count(fixture->server, WATCH) > 3);
    assert_int_equal(atomic_load(&fixture->last_failure), ERR_UNAVAILABLE);
}

static void test_throttling_never_asks_for_more(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.relist_after_ms = 50;
    always(fixture, LIST, 200, EMPTY_LIST);
    always(fixture, WATCH, 429, "{}");
    start(fixture);
    expect_requests(fixture, WATCH, 20);
    assert_int_equal(fake_apiserver_count(fixture->server, LIST), 1);
}

static void test_a_watch_that_ends_at_once_does_not_spin(void **state)
{
    struct fixture *fixture = *state;
    always(fixture, LIST, 200, EMPTY_LIST);
    always(fixture, WATCH, 200, "");
    int64_t started_ms = clock_monotonic_ms();
    start(fixture);
    expect_requests(fixture, WATCH, 10);
    assert_true(clock_monotonic_ms() - started_ms >= 90); /* nine times at least half of 20 ms */
    assert_int_equal(fake_apiserver_count(fixture->server, LIST), 1);
}

static void test_expiry_after_expiry_does_not_spin(void **state)
{
    struct fixture *fixture = *state;
    always(fixture, LIST, 200, EMPTY_LIST);
    always(fixture, WATCH, 410, "{}");
    int64_t started_ms = clock_monotonic_ms();
    start(fixture);
    expect_requests(fixture, LIST, 10);
    assert_true(clock_monotonic_ms() - started_ms >= 90); /* nine times at least half of 20 ms */
}

static void test_pages_that_always_expire(void **state)
{
    struct fixture *fixture = *state;
    always(fixture, LIST, 200,
           "{\"metadata\":{\"resourceVersion\":\"10\",\"continue\":\"t\"},\"items\":[{}]}");
    always(fixture, NEXT_PAGE, 410, "{}");
    start(fixture);
    expect_requests(fixture, NEXT_PAGE, 4);
    while (atomic_load(&fixture->failures) == 0)
        sched_yield();
    assert_int_equal(atomic_load(&fixture->last_failure), ERR_GONE);
    assert_int_equal(atomic_load(&fixture->lists), 0);
}

static void test_a_list_without_a_version_is_none(void **state)
{
    struct fixture *fixture = *state;
    always(fixture, LIST, 200, "{\"metadata\":{},\"items\":[]}");
    start(fixture);
    expect_requests(fixture, LIST, 2);
    assert_int_equal(atomic_load(&fixture->last_failure), ERR_INVALID);
    assert_int_equal(atomic_load(&fixture->lists), 0);
    assert_int_equal(fake_apiserver_count(fixture->server, WATCH), 0);
}

static void test_an_event_without_a_version_breaks_the_watch(void **state)
{
    struct fixture *fixture = *state;
    always(fixture, LIST, 200, EMPTY_LIST);
    always(fixture, WATCH, 200, "{\"type\":\"ADDED\",\"object\":{\"metadata\":{}}}\n");
    start(fixture);
    expect_requests(fixture, "resourceVersion=10&watch=true", 2);
    assert_int_equal(atomic_load(&fixture->last_failure), ERR_INVALID);
    assert_int_equal(atomic_load(&fixture->objects), 0);
}

int main(void)
{
    http_client_global_init();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_watch_that_keeps_failing_ends_in_a_relist),
        TEST(test_throttling_never_asks_for_more),
        TEST(test_a_watch_that_ends_at_once_does_not_spin),
        TEST(test_expiry_after_expiry_does_not_spin),
        TEST(test_pages_that_always_expire),
        TEST(test_a_list_without_a_version_is_none),
        TEST(test_an_event_without_a_version_breaks_the_watch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
