/* Requests for functions that sleep: held, the function woken, its pod found, the line released; and every way that ends
 * otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/socket.h>

#include "operator/tests/support_gateway.h"
#include "operator/tests/support_gateway_many.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

struct world {
    struct test_gateway test;
    struct test_upstream *upstream;
    struct sockaddr_in address;
};

static void start(struct world *world, const char *members)
{
    world->upstream = test_upstream_new();
    world->address = test_upstream_address(world->upstream);
    test_gateway_start(&world->test, NULL);
    test_gateway_function(&world->test, "shop", "f", members);
    gateway_catalog_synced(world->test.gateway);
}

static void stop(struct world *world)
{
    test_gateway_stop(&world->test);
    test_upstream_free(world->upstream);
}

static int64_t elapsed_ms(int64_t since_ms)
{
    return clock_monotonic_ms() - since_ms;
}

static void read_status(struct test_client *client, int status, const char *code, struct test_answer *answer)
{
    test_client_read(client, answer, false);
    if (answer->status != status || (code && !test_answer_has(answer, code))) {
        fail_msg("%d %s expected, got: %s%s", status, code ? code : "", answer->head.buf, answer->body.buf);
    }
}

static void expect_answer(struct test_client *client, int status, const char *code)
{
    struct test_answer answer;
    read_status(client, status, code, &answer);
    test_answer_release(&answer);
}

struct expected_statz {
    struct test_gateway *test;
    const char *key;
    int64_t value;
};

static bool statz_is(void *arg)
{
    const struct expected_statz *expected = arg;
    return test_gateway_statz(expected->test, expected->key) == expected->value;
}

static void wait_statz(struct world *world, const char *key, int64_t value)
{
    struct expected_statz expected = {&world->test, key, value};
    test_wait_until(statz_is, &expected, key);
}

static void open_and_send(struct world *world, struct test_client *client, const char *text)
{
    int64_t waiting = test_gateway_statz(&world->test, "waiting");
    test_client_open(client, world->test.port);
    test_client_send(client, text);
    wait_statz(world, "waiting", (waiting < 0 ? 0 : waiting) + 1);
}

static void test_held_until_announced_first_come_first_served(void **state)
{
    (void)state;
    enum { COUNT = 40 };
    struct world world;
    struct test_many many;
    start(&world, "\"concurrency\":1,\"http\":{}");
    test_many_send(&many, &world.test, COUNT, "/x", true);
    assert_int_equal(test_gateway_statz(&world.test, "waiting"), COUNT);
    assert_int_equal(atomic_load(&world.test.wakes), 1);
    test_gateway_pod(&world.test, "f-1", "uid-1", NULL, GATEWAY_POD_PENDING, NULL);
    assert_false(gateway_pod_announced(world.test.gateway, "uid-2", &world.address));
    assert_true(gateway_pod_announced(world.test.gateway, "uid-1", &world.address));
    assert_int_equal(test_many_read(&many, 200), COUNT);
    int order[TEST_UPSTREAM_ORDER_MAX];
    assert_int_equal(test_upstream_order(world.upstream, order), COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(order[i], i);
    }
    assert_int_equal(test_upstream_in_flight_max(world.upstream), 1);
    assert_in_range(test_upstream_open_max(world.upstream), 1, 6);
    test_many_close(&many);
    stop(&world);
}

/* Asked of the pod: the gateway gives a slot back a moment after the answer was read. */
static bool pod_works(void *upstream)
{
    return test_upstream_in_flight(upstream) == 1;
}

static void test_server_timing_names_the_phases(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    struct test_answer answer;
    char timing[512];
    start(&world, "\"concurrency\":1,\"http\":{}");
    open_and_send(&world, &client, TEST_REQUEST("GET", "/sleep/30"));
    assert_false(test_client_readable(&client, 60));
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    read_status(&client, 200, NULL, &answer);
    test_answer_header(&answer, "Server-Timing", timing);
    double decide, begin, probe, handler;
    assert_int_equal(sscanf(timing, "decide;dur=%lf, start;dur=%lf, probe;dur=%lf, handler;dur=%lf", &decide,
                            &begin, &probe, &handler),
                     4);
    assert_true(decide < 1000 && begin >= 55 && probe < 1000 && handler >= 29);
    test_answer_release(&answer);
    test_client_close(&client);
    test_gateway_wait_metric(&world.test, "cicada_gateway_cold_start_seconds_count{phase=\"start\"}", 1);
    /* In line behind another: no cold start. */
    struct test_client first, second;
    test_client_open(&first, world.test.port);
    test_client_send(&first, TEST_REQUEST("GET", "/gate"));
    test_wait_until(pod_works, world.upstream, "request in the pod");
    open_and_send(&world, &second, TEST_REQUEST("GET", "/x"));
    test_upstream_open_gate(world.upstream, 1);
    expect_answer(&first, 200, NULL);
    read_status(&second, 200, NULL, &answer);
    assert_int_equal(strncmp(test_answer_header(&answer, "Server-Timing", timing), "queue;dur=", 10), 0);
    test_answer_release(&answer);
    test_client_close(&first);
    test_client_close(&second);
    stop(&world);
}

static void read_phases(struct test_client *client, double *ret_phases)
{
    struct test_answer answer;
    char timing[512];
    read_status(client, 200, NULL, &answer);
    test_answer_header(&answer, "Server-Timing", timing);
    if (sscanf(timing, "decide;dur=%lf, start;dur=%lf, probe;dur=%lf, handler;dur=%lf", &ret_phases[0],
               &ret_phases[1], &ret_phases[2], &ret_phases[3]) != 4) {
        fail_msg("Server-Timing: %s", timing);
    }
    test_answer_release(&answer);
}

/* The call that wakes a function takes 100 ms here, its pod as long to start, and its address is known early. */
static void test_decide_ends_when_the_function_was_woken(void **state)
{
    (void)state;
    struct world world;
    struct test_client first, second;
    double phases[4];
    start(&world, "\"concurrency\":2,\"http\":{}");
    test_upstream_refuse(world.upstream);
    int64_t start_ms = clock_monotonic_ms();
    open_and_send(&world, &first, TEST_REQUEST("GET", "/x"));
    assert_false(test_client_readable(&first, 100));
    gateway_function_woken(world.test.gateway, "shop", "f");
    gateway_function_woken(world.test.gateway, "shop", "nobody");
    open_and_send(&world, &second, TEST_REQUEST("GET", "/x"));
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_PENDING, NULL);
    assert_false(test_client_readable(&first, 100));
    test_upstream_listen(world.upstream);
    assert_true(gateway_pod_announced(world.test.gateway, "uid-1", &world.address));
    read_phases(&first, phases);
    double total = (double)elapsed_ms(start_ms) + 1;
    assert_true(phases[0] >= 99 && phases[1] >= 99);
    assert_true(phases[2] >= 0 && phases[3] >= 0 && phases[0] + phases[1] + phases[2] + phases[3] <= total);
    /* This one came when it had been woken: there was nothing left to decide. */
    read_phases(&second, phases);
    assert_true(phases[0] < 90 && phases[1] >= 90);
    test_client_close(&first);
    test_client_close(&second);
    stop(&world);
}

static bool woken_again(void *arg)
{
    struct world *world = arg;
    return atomic_load(&world->test.wakes) >= 2;
}

static bool woken_thrice(void *arg)
{
    struct world *world = arg;
    return atomic_load(&world->test.wakes) >= 3;
}

static void test_wakes_at_once_and_each_second(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    start(&world, "\"http\":{}");
    int64_t start_ms = clock_monotonic_ms();
    open_and_send(&world, &client, TEST_REQUEST("GET", "/x"));
    assert_int_equal(atomic_load(&world.test.wakes), 1);
    assert_true(elapsed_ms(start_ms) < 500);
    test_wait_until(woken_again, &world, "second wake");
    assert_in_range(elapsed_ms(start_ms), 990, 1900);
    /* The last pod goes: at once. */
    start_ms = clock_monotonic_ms();
    test_gateway_pod(&world.test, "f-1", "uid-1", NULL, GATEWAY_POD_PENDING, NULL);
    gateway_pod_remove(world.test.gateway, "uid-1");
    test_wait_until(woken_thrice, &world, "third wake");
    assert_true(elapsed_ms(start_ms) < 500);
    test_gateway_pod(&world.test, "f-2", "uid-2", &world.address, GATEWAY_POD_READY, NULL);
    expect_answer(&client, 200, NULL);
    int wakes = atomic_load(&world.test.wakes);
    assert_false(test_client_readable(&client, 1200));
    assert_int_equal(atomic_load(&world.test.wakes), wakes);
    test_client_close(&client);
    stop(&world);
}

static void test_a_pod_is_found_by_probing(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    start(&world, "\"http\":{}");
    test_upstream_refuse(world.upstream);
    open_and_send(&world, &client, TEST_REQUEST("GET", "/x"));
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_PENDING, NULL);
    if (test_client_readable(&client, 300)) {
        expect_answer(&client, 0, "nothing");
    }
    int64_t start_ms = clock_monotonic_ms();
    test_upstream_listen(world.upstream);
    expect_answer(&client, 200, NULL);
    assert_true(elapsed_ms(start_ms) < 200); /* refused attempts come every 5 to 20 ms */
    assert_in_range((int)test_gateway_metric(&world.test, "cicada_gateway_probes_total"), 10, 80);
    /* The probe's connection took the request, unless that is on another loop. */
    assert_in_range(test_upstream_connections(world.upstream), 1, 2);
    test_client_close(&client);
    stop(&world);
}

static void test_nobody_waits_nobody_probes_much(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    start(&world, "\"http\":{}");
    test_upstream_refuse(world.upstream);
    /* One that failed is not new in any useful sense. */
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_PENDING, "ContainerExited");
    test_client_open(&client, world.test.port);
    assert_false(test_client_readable(&client, 1500));
    double probes = test_gateway_metric(&world.test, "cicada_gateway_probes_total");
    assert_true(probes >= 1 && probes <= 16);
    test_client_close(&client);
    stop(&world);
}

static void test_count_is_bounded(void **state)
{
    (void)state;
    enum { DEPTH = 20 };
    struct world world;
    struct test_many many;
    struct test_answer answer;
    char value[512];
    start(&world, "\"queueDepth\":20,\"http\":{}");
    test_many_send(&many, &world.test, DEPTH, "/x", false);
    test_call(world.test.port, TEST_REQUEST("GET", "/x"), 503, &answer);
    assert_true(test_answer_has(&answer, "\"code\":\"queue_full\""));
    assert_string_equal(test_answer_header(&answer, "Retry-After", value), "1");
    assert_false(answer.closed);
    test_answer_release(&answer);
    assert_int_equal(test_gateway_statz(&world.test, "arrivals"),
                     DEPTH); /* the refused one was not accepted */
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    assert_int_equal(test_many_read(&many, 200), DEPTH);
    test_many_close(&many);
    stop(&world);
}

static void test_bytes_are_bounded(void **state)
{
    (void)state;
    enum { COUNT = 8 };
    struct world world;
    struct test_client clients[COUNT];
    start(&world, "\"limits\":{\"holdBytes\":65536,\"bodyBytes\":1000000},\"http\":{}");
    CLEANUP_FREE char *text =
        xasprintf("POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 15000\r\n\r\n%015000d", 0);
    /* What comes in one piece with the head is held in memory: four of these, at most, if they come whole. */
    int refused = 0;
    for (int i = 0; i < COUNT; i++) {
        test_client_open(&clients[i], world.test.port);
        test_client_send(&clients[i], text);
        if (test_client_readable(&clients[i], 100)) {
            expect_answer(&clients[i], 503, "hold_bytes_full");
            test_client_close(&clients[i]);
            refused++;
        }
    }
    assert_in_range(refused, 1, 4);
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    for (int i = 0; i < COUNT; i++) {
        if (clients[i].fd >= 0) {
            expect_answer(&clients[i], 200, "15000 ");
            test_client_close(&clients[i]);
        }
    }
    stop(&world);
}

/* A body that is held stays in the kernel but for its first piece. */
static void test_large_bodies_stay_in_the_kernel(void **state)
{
    (void)state;
    enum { SIZE = 8 << 20 };
    struct world world;
    struct test_client client;
    struct test_answer answer;
    start(&world, "\"limits\":{\"holdBytes\":131072,\"bodyBytes\":16777216},\"http\":{}");
    int small = 64 * 1024;
    CLEANUP_FREE char *body = xcalloc(1, SIZE);
    memset(body, 'b', SIZE);
    open_and_send(&world, &client,
                  "POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 8388608\r\n\r\n");
    setsockopt(client.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    size_t sent = 0;
    for (;;) {
        ssize_t count = send(client.fd, body + sent, SIZE - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count <= 0 && !test_client_readable(&client, 100)) {
            break;
        }
        assert_true(count > 0);
        sent += (size_t)count;
        assert_true(sent < SIZE);
    }
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    assert_true(test_client_try_send(&client, body + sent, SIZE - sent));
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    assert_int_equal(strncmp(answer.body.buf, "8388608 ", 8), 0);
    test_answer_release(&answer);
    test_client_close(&client);
    stop(&world);
}

static void test_time_is_bounded(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    struct test_answer answer;
    char value[512];
    start(&world, "\"holdSeconds\":1,\"http\":{}");
    int64_t start_ms = clock_monotonic_ms();
    open_and_send(&world, &client, TEST_REQUEST("GET", "/x"));
    read_status(&client, 503, "\"code\":\"hold_timeout\"", &answer);
    assert_in_range(elapsed_ms(start_ms), 990, 1800);
    assert_true(test_answer_header(&answer, "Retry-After", value)[0] != '\0');
    test_answer_release(&answer);
    assert_int_equal(test_gateway_statz(&world.test, "waiting"), 0);
    /* The connection goes on. */
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    expect_answer(&client, 200, NULL);
    test_client_close(&client);
    stop(&world);
}

static void test_a_client_that_goes_leaves_the_line(void **state)
{
    (void)state;
    struct world world;
    struct test_client gone, half, reset, stays;
    start(&world, "\"http\":{}");
    open_and_send(&world, &gone, TEST_REQUEST("GET", "/x?n=1"));
    open_and_send(&world, &half, TEST_REQUEST("GET", "/x?n=2"));
    open_and_send(&world, &reset, TEST_REQUEST("GET", "/x?n=3"));
    open_and_send(&world, &stays, TEST_REQUEST("GET", "/x?n=4"));
    test_client_close(&gone);
    shutdown(half.fd, SHUT_WR); /* a FIN while waiting means gone */
    test_client_reset(&reset);
    wait_statz(&world, "waiting", 1);
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    expect_answer(&stays, 200, NULL);
    int order[TEST_UPSTREAM_ORDER_MAX];
    assert_int_equal(test_upstream_order(world.upstream, order), 1);
    assert_int_equal(order[0], 4);
    test_gateway_wait_metric(
        &world.test, "cicada_gateway_requests_total{namespace=\"shop\",function=\"f\",code=\"499\"}", 3);
    test_client_close(&half);
    test_client_close(&stays);
    stop(&world);
}

static void test_after_hand_over_a_fin_changes_nothing(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    start(&world, "\"http\":{}");
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    test_client_open(&client, world.test.port);
    test_client_send(&client, TEST_REQUEST("GET", "/sleep/200"));
    test_wait_until(pod_works, world.upstream, "request in the pod");
    shutdown(client.fd, SHUT_WR);
    expect_answer(&client, 200, NULL);
    assert_true(test_client_ended(&client, TEST_WAIT_MS));
    test_client_close(&client);
    stop(&world);
}

static void test_failures_end_the_wait_at_once(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    start(&world, "\"http\":{}");
    open_and_send(&world, &client, TEST_REQUEST("GET", "/x"));
    int64_t start_ms = clock_monotonic_ms();
    test_gateway_pod(&world.test, "f-1", "uid-1", NULL, GATEWAY_POD_PENDING, "ErrImageNeverPull");
    expect_answer(&client, 503, "\"code\":\"ErrImageNeverPull\"");
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    expect_answer(&client, 503, "\"code\":\"ErrImageNeverPull\"");
    gateway_pod_remove(world.test.gateway, "uid-1");
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    wait_statz(&world, "waiting", 1);
    gateway_function_blocked(world.test.gateway, "shop", "f", "QuotaExceeded");
    expect_answer(&client, 503, "\"code\":\"QuotaExceeded\"");
    gateway_function_blocked(world.test.gateway, "shop", "f", NULL);
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    wait_statz(&world, "waiting", 1);
    test_gateway_function(&world.test, "shop", "f", "\"replicas\":0,\"http\":{}");
    expect_answer(&client, 503, "\"code\":\"ScaledToZeroByUser\"");
    int wakes = atomic_load(&world.test.wakes);
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    expect_answer(&client, 503, "\"code\":\"ScaledToZeroByUser\"");
    assert_int_equal(atomic_load(&world.test.wakes), wakes);
    test_gateway_function(&world.test, "shop", "f", "\"http\":{}");
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    wait_statz(&world, "waiting", 1);
    gateway_function_remove(world.test.gateway, "shop", "f");
    expect_answer(&client, 503, "\"code\":\"function_deleted\"");
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    expect_answer(&client, 404, "\"code\":\"no_route\"");
    assert_true(elapsed_ms(start_ms) < 5000);
    test_client_close(&client);
    stop(&world);
}

static void test_requests_outlive_a_change_of_the_function(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    start(&world, "\"http\":{}");
    open_and_send(&world, &client, TEST_REQUEST("GET", "/x"));
    test_gateway_function(&world.test, "shop", "f", "\"concurrency\":3,\"timeoutSeconds\":9,\"http\":{}");
    assert_false(test_client_readable(&client, 50));
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    expect_answer(&client, 200, NULL);
    assert_int_equal(test_gateway_statz(&world.test, "arrivals"), 1);
    test_client_close(&client);
    stop(&world);
}

static void test_before_the_catalogue_is_read_requests_wait(void **state)
{
    (void)state;
    struct world world;
    struct test_client known, unknown, gone;
    world.upstream = test_upstream_new();
    world.address = test_upstream_address(world.upstream);
    test_gateway_start(&world.test, NULL);
    assert_false(gateway_ready(world.test.gateway));
    test_client_open(&known, world.test.port);
    test_client_open(&unknown, world.test.port);
    test_client_open(&gone, world.test.port);
    test_client_send(&known, "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 5\r\n\r\nhello");
    test_client_send(&unknown, "GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n");
    test_client_send(&gone, TEST_REQUEST("GET", "/x"));
    assert_false(test_client_readable(&known, 100));
    assert_false(gateway_quiet(world.test.gateway, 0));
    test_client_close(&gone);
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY,
                     NULL); /* pods may come first */
    test_gateway_function(&world.test, "shop", "f", "\"http\":{}");
    expect_answer(&known, 200, "hello");
    assert_false(test_client_readable(&unknown, 50));
    gateway_catalog_synced(world.test.gateway);
    expect_answer(&unknown, 404, "no_route");
    assert_true(gateway_ready(world.test.gateway));
    assert_int_equal(test_upstream_requests(world.upstream), 1);
    test_client_close(&known);
    test_client_close(&unknown);
    stop(&world);
}

static bool two_in_flight(void *upstream)
{
    return test_upstream_in_flight(upstream) == 2;
}

static void test_statz_is_what_the_operator_reads(void **state)
{
    (void)state;
    struct world world;
    struct test_many many;
    start(&world, "\"concurrency\":2,\"http\":{}");
    assert_int_equal(test_gateway_statz(&world.test, "waiting"),
                     -1); /* not listed: idle since the gateway started */
    assert_true(test_gateway_statz(&world.test, "uptimeMs") >= 0);
    test_many_send(&many, &world.test, 5, "/gate", false);
    assert_int_equal(test_gateway_statz(&world.test, "waiting"), 5);
    assert_int_equal(test_gateway_statz(&world.test, "idleMs"), 0);
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    wait_statz(&world, "inFlight", 2);
    assert_int_equal(test_gateway_statz(&world.test, "waiting"), 3);
    test_gateway_wait_metric(&world.test, "cicada_gateway_held_requests{namespace=\"shop\",function=\"f\"}",
                             3);
    test_wait_until(two_in_flight, world.upstream, "two requests in the pod");
    test_upstream_open_gate(world.upstream, 5);
    assert_int_equal(test_many_read(&many, 200), 5);
    wait_statz(&world, "inFlight", 0);
    assert_int_equal(test_gateway_statz(&world.test, "arrivals"), 5);
    assert_int_equal(test_upstream_in_flight_max(world.upstream), 2);
    test_many_close(&many);
    stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held_until_announced_first_come_first_served),
        cmocka_unit_test(test_server_timing_names_the_phases),
        cmocka_unit_test(test_decide_ends_when_the_function_was_woken),
        cmocka_unit_test(test_wakes_at_once_and_each_second),
        cmocka_unit_test(test_a_pod_is_found_by_probing),
        cmocka_unit_test(test_nobody_waits_nobody_probes_much),
        cmocka_unit_test(test_count_is_bounded),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_large_bodies_stay_in_the_kernel),
        cmocka_unit_test(test_time_is_bounded),
        cmocka_unit_test(test_a_client_that_goes_leaves_the_line),
        cmocka_unit_test(test_after_hand_over_a_fin_changes_nothing),
        cmocka_unit_test(test_failures_end_the_wait_at_once),
        cmocka_unit_test(test_requests_outlive_a_change_of_the_function),
        cmocka_unit_test(test_before_the_catalogue_is_read_requests_wait),
        cmocka_unit_test(test_statz_is_what_the_operator_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
