/* The wake from zero to one against a fake API server. */
#include "operator/gateway/kube_waker.h"

#include "operator/tests/test_kube_catalog_fixture.h"

#define PATCH "PATCH /apis/apps/v1/namespaces/shop/deployments/create-order/scale?"
#define READ  "GET /apis/apps/v1/namespaces/shop/deployments/create-order/scale"
#define ASLEEP                                                                                               \
    "{\"kind\":\"Scale\",\"metadata\":{\"name\":\"create-order\",\"resourceVersion\":\"7\"},\"spec\":{}}"
#define AWAKE                                                                                                \
    "{\"kind\":\"Scale\",\"metadata\":{\"name\":\"create-order\",\"resourceVersion\":\"7\"},\"spec\":{"      \
    "\"replicas\":3}}"
#define REFUSED                                                                                              \
    "{\"kind\":\"Status\",\"status\":\"Failure\",\"reason\":\"Invalid\",\"code\":422,\"message\":\"the "     \
    "server rejected our request\"}"

struct waking {
    struct fixture *fixture;
    struct metrics *metrics;
    struct kube_waker *waker;
};

static struct waking begin(void)
{
    struct waking waking = {.fixture = fixture_new(), .metrics = metrics_new()};
    fake_apiserver_answer(waking.fixture->server,
                          &(struct fake_answer){.match = "GET /version", .body = "{}", .times = -1});
    waking.waker = kube_waker_new(waking.fixture->client, waking.metrics);
    kube_waker_start(waking.waker, &waking.fixture->gateway);
    return waking;
}

static void end(struct waking *waking)
{
    kube_waker_stop(waking->waker);
    kube_waker_free(waking->waker);
    metrics_free(waking->metrics);
    fixture_free(waking->fixture);
}

static int wakes(struct waking *waking, const char *result)
{
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, 1 << 20);
    assert_int_equal(metrics_render(waking->metrics, &text), 0);
    CLEANUP_FREE char *line = xasprintf("cicada_gateway_scale_patches_total{result=\"%s\"} ", result);
    const char *at = strstr(text.buf, line);
    assert_non_null(at);
    return (int)strtol(at + strlen(line), NULL, 10);
}

static void await_wakes(struct waking *waking, const char *result, int count)
{
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (wakes(waking, result) < count && clock_monotonic_ms() < deadline_ms) {
        pause_ms(2);
    }
    assert_int_equal(wakes(waking, result), count);
}

static void asleep_is_woken(void **state)
{
    (void)state;
    struct waking waking = begin();
    fake_apiserver_answer(waking.fixture->server, &(struct fake_answer){.match = PATCH, .body = AWAKE});
    kube_waker_wake(waking.waker, "shop", "create-order");
    await_wakes(&waking, "woken", 1);
    CLEANUP_FREE char *request = fake_apiserver_request(waking.fixture->server, PATCH);
    assert_non_null(strstr(request, "fieldManager=cicada-gateway"));
    assert_non_null(strstr(request, "application/json-patch+json"));
    assert_non_null(strstr(request, "[{\"op\":\"test\",\"path\":\"/spec\",\"value\":{}},"
                                    "{\"op\":\"add\",\"path\":\"/spec/replicas\",\"value\":1}]"));
    assert_int_equal(fake_apiserver_count(waking.fixture->server, READ), 0);
    await_record(&waking.fixture->gateway, "function shop/create-order woken");
    end(&waking);
}

static void awake_is_left_alone(void **state)
{
    (void)state;
    struct waking waking = begin();
    fake_apiserver_answer(waking.fixture->server,
                          &(struct fake_answer){.match = PATCH, .status = 422, .body = REFUSED});
    fake_apiserver_answer(waking.fixture->server, &(struct fake_answer){.match = READ, .body = AWAKE});
    kube_waker_wake(waking.waker, "shop", "create-order");
    await_wakes(&waking, "awake", 1);
    assert_int_equal(recorded(&waking.fixture->gateway, "function shop/create-order woken"), 0);
    end(&waking);
}

/* Put to sleep again between the patch and the look. */
static void a_race_with_sleep_is_tried_again(void **state)
{
    (void)state;
    struct waking waking = begin();
    fake_apiserver_answer(waking.fixture->server,
                          &(struct fake_answer){.match = PATCH, .status = 422, .body = REFUSED});
    fake_apiserver_answer(waking.fixture->server, &(struct fake_answer){.match = PATCH, .body = AWAKE});
    fake_apiserver_answer(waking.fixture->server, &(struct fake_answer){.match = READ, .body = ASLEEP});
    kube_waker_wake(waking.waker, "shop", "create-order");
    await_wakes(&waking, "woken", 1);
    assert_int_equal(fake_apiserver_count(waking.fixture->server, PATCH), 2);
    end(&waking);
}

static void failures_end(void **state)
{
    (void)state;
    struct waking waking = begin();
    fake_apiserver_answer(waking.fixture->server,
                          &(struct fake_answer){.match = PATCH, .status = 404, .body = "{}"});
    kube_waker_wake(waking.waker, "shop", "create-order");
    await_wakes(&waking, "absent", 1);
    fake_apiserver_answer(waking.fixture->server,
                          &(struct fake_answer){.match = PATCH, .status = 403, .body = "{}"});
    kube_waker_wake(waking.waker, "shop", "create-order");
    await_wakes(&waking, "failed", 1);
    fake_apiserver_answer(waking.fixture->server,
                          &(struct fake_answer){.match = PATCH, .status = 422, .body = REFUSED, .times = -1});
    fake_apiserver_answer(waking.fixture->server,
                          &(struct fake_answer){.match = READ, .body = ASLEEP, .times = -1});
    kube_waker_wake(waking.waker, "shop", "create-order");
    await_wakes(&waking, "failed", 2);
    end(&waking);
}

/* Its turn came late: the request is served, and the function may be asleep again. */
static void one_that_nobody_waits_for_is_dropped(void **state)
{
    (void)state;
    struct waking waking = begin();
    waking.fixture->gateway.wakes_unwanted = true;
    kube_waker_wake(waking.waker, "shop", "create-order");
    await_wakes(&waking, "dropped", 1);
    assert_int_equal(fake_apiserver_count(waking.fixture->server, PATCH), 0);
    assert_int_equal(recorded(&waking.fixture->gateway, "function shop/create-order woken"), 0);
    end(&waking);
}

/* Calls that pile up while one is under way make one more, not one each; other functions do not wait for it. */
static void wakes_are_joined(void **state)
{
    (void)state;
    struct waking waking = begin();
    fake_apiserver_answer(waking.fixture->server,
                          &(struct fake_answer){.match = PATCH, .body = "", .ending = FAKE_END_HANG});
    fake_apiserver_answer(waking.fixture->server,
                          &(struct fake_answer){.match = PATCH, .body = AWAKE, .times = -1});
    fake_apiserver_answer(waking.fixture->server,
                          &(struct fake_answer){.match = "deployments/other/scale", .body = AWAKE});
    kube_waker_wake(waking.waker, "shop", "create-order");
    assert_true(fake_apiserver_wait(waking.fixture->server, PATCH, 1, WAIT_MS));
    for (int i = 0; i < 100; i++) {
        kube_waker_wake(waking.waker, "shop", "create-order");
    }
    kube_waker_wake(waking.waker, "shop", "other");
    await_wakes(&waking, "woken", 1);
    assert_int_equal(fake_apiserver_count(waking.fixture->server, PATCH), 1);
    fake_apiserver_push(waking.fixture->server, PATCH, "");
    assert_true(fake_apiserver_wait(waking.fixture->server, PATCH, 2, WAIT_MS));
    await_wakes(&waking, "woken", 3);
    pause_ms(20);
    assert_int_equal(fake_apiserver_count(waking.fixture->server, PATCH), 2);
    end(&waking);
}

/* With a call that hangs the end is as quick: the client's stop ends it. */
static void stops_during_a_call(void **state)
{
    (void)state;
    struct waking waking = begin();
    fake_apiserver_answer(waking.fixture->server,
                          &(struct fake_answer){.match = PATCH, .ending = FAKE_END_HANG});
    kube_waker_wake(waking.waker, "shop", "create-order");
    assert_true(fake_apiserver_wait(waking.fixture->server, PATCH, 1, WAIT_MS));
    int64_t began_ms = clock_monotonic_ms();
    stop_set(&waking.fixture->stop);
    kube_waker_stop(waking.waker);
    assert_true(clock_monotonic_ms() - began_ms < 1000);
    end(&waking);
}

int main(void)
{
    http_client_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asleep_is_woken),
        cmocka_unit_test(awake_is_left_alone),
        cmocka_unit_test(one_that_nobody_waits_for_is_dropped),
        cmocka_unit_test(a_race_with_sleep_is_tried_again),
        cmocka_unit_test(failures_end),
        cmocka_unit_test(wakes_are_joined),
        cmocka_unit_test(stops_during_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
