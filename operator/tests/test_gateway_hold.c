/* Requests for functions that sleep: held, the function woken, its pod found, the line released. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/socket.h>

#include "operator/tests/support_gateway_many.h"
#include "operator/tests/support_gateway_world.h"
#include "runtime/base/clock.h"

static void test_held_until_announced_first_come_first_served(void **state)
{
    (void)state;
    enum { COUNT = 40 };
    struct test_world world;
    struct test_many many;
    test_world_start_asleep(&world, "\"concurrency\":1,\"http\":{}");
    int64_t start_ms = clock_monotonic_ms();
    test_many_send(&many, &world.test, COUNT, "/x", true);
    assert_int_equal(test_gateway_statz(&world.test, "waiting"), COUNT);
    test_wait_until(test_world_woken, &world, "woken");
    assert_true(atomic_load(&world.test.wakes) <= 1 + test_elapsed_ms(start_ms) / 1000);
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
    test_world_stop(&world);
}

static void test_server_timing_names_the_phases(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    char timing[512];
    test_world_start_asleep(&world, "\"concurrency\":1,\"http\":{}");
    test_world_send_and_wait(&world, &client, TEST_REQUEST("GET", "/sleep/30"));
    assert_false(test_client_readable(&client, 60));
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    test_read_status(&client, 200, NULL, &answer);
    test_answer_header(&answer, "Server-Timing", timing);
    double decide, begin, probe, handler;
    assert_int_equal(sscanf(timing, "decide;dur=%lf, start;dur=%lf, probe;dur=%lf, handler;dur=%lf", &decide,
                            &begin, &probe, &handler),
                     4);
    assert_true(decide < 1000 && begin >= 55 && probe < 1000 && handler >= 29);
    test_answer_release(&answer);
    test_client_close(&client);
    test_gateway_wait_metric(&world.test, "cicada_gateway_cold_start_seconds_count{phase=\"start\"}", 1);
    /* The same for people. */
    test_gateway_wait_metric(&world.test, "cicada_gateway_request_duration_seconds_count", 1);
    struct gateway_function_figures figures;
    assert_true(gateway_function_figures(world.test.gateway, "shop", "f", &figures));
    assert_int_equal(figures.requests, 1);
    assert_true(figures.cold_ms >= 84 && figures.p50_ms > 50 && figures.p99_ms >= figures.p50_ms);
    assert_int_equal(figures.in_flight + figures.waiting, 0);
    assert_false(gateway_function_figures(world.test.gateway, "shop", "nobody", &figures));
    /* In line behind another: no cold start. */
    struct test_client first, second;
    test_client_open(&first, world.test.port);
    test_client_send(&first, TEST_REQUEST("GET", "/gate"));
    test_wait_until(test_upstream_works, world.upstream, "request in the pod");
    test_world_send_and_wait(&world, &second, TEST_REQUEST("GET", "/x"));
    test_upstream_open_gate(world.upstream, 1);
    test_expect_answer(&first, 200, NULL);
    test_read_status(&second, 200, NULL, &answer);
    assert_int_equal(strncmp(test_answer_header(&answer, "Server-Timing", timing), "queue;dur=", 10), 0);
    test_answer_release(&answer);
    test_client_close(&first);
    test_client_close(&second);
    test_world_stop(&world);
}

static void read_phases(struct test_client *client, double *ret_phases)
{
    struct test_answer answer;
    char timing[512];
    test_read_status(client, 200, NULL, &answer);
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
    struct test_world world;
    struct test_client first, second;
    double phases[4];
    test_world_start_asleep(&world, "\"concurrency\":2,\"http\":{}");
    test_upstream_refuse(world.upstream);
    int64_t start_ms = clock_monotonic_ms();
    test_world_send_and_wait(&world, &first, TEST_REQUEST("GET", "/x"));
    assert_false(test_client_readable(&first, 100));
    gateway_function_woken(world.test.gateway, "shop", "f");
    gateway_function_woken(world.test.gateway, "shop", "nobody");
    test_world_send_and_wait(&world, &second, TEST_REQUEST("GET", "/x"));
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_PENDING, NULL);
    assert_false(test_client_readable(&first, 100));
    test_upstream_listen(world.upstream);
    assert_true(gateway_pod_announced(world.test.gateway, "uid-1", &world.address));
    read_phases(&first, phases);
    double total = (double)test_elapsed_ms(start_ms) + 1;
    assert_true(phases[0] >= 99 && phases[1] >= 99);
    assert_true(phases[2] >= 0 && phases[3] >= 0 && phases[0] + phases[1] + phases[2] + phases[3] <= total);
    /* This one came when it had been woken: there was nothing left to decide. */
    read_phases(&second, phases);
    assert_true(phases[0] < 90 && phases[1] >= 90);
    test_client_close(&first);
    test_client_close(&second);
    test_world_stop(&world);
}

static bool woken_again(void *arg)
{
    struct test_world *world = arg;
    return atomic_load(&world->test.wakes) >= 2;
}

/* Of a wake that lay in the waker's queue meanwhile. */
static void test_a_wake_is_wanted_while_somebody_waits(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    test_world_start_asleep(&world, "\"holdSeconds\":60,\"http\":{}");
    struct gateway *gateway = world.test.gateway;
    assert_false(gateway_function_wake_wanted(gateway, "shop", "f"));
    assert_false(gateway_function_wake_wanted(gateway, "shop", "nobody"));
    test_world_send_and_wait(&world, &client, TEST_REQUEST("GET", "/x"));
    test_wait_until(woken_again, &world, "second wake");
    assert_true(gateway_function_wake_wanted(gateway, "shop", "f"));
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    test_expect_answer(&client, 200, NULL);
    assert_false(gateway_function_wake_wanted(gateway, "shop", "f")); /* a pod is usable */
    assert_false(test_client_readable(&client, 1100));
    gateway_pod_remove(gateway, "uid-1");
    assert_false(gateway_function_wake_wanted(gateway, "shop", "f")); /* put to sleep, and nobody asks */
    /* Who is refused does not wait, and the function is tried all the same. */
    gateway_function_blocked(gateway, "shop", "f", "QuotaExceeded");
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_expect_answer(&client, 503, "QuotaExceeded");
    assert_true(gateway_function_wake_wanted(gateway, "shop", "f"));
    test_client_close(&client);
    test_world_stop(&world);
}

static bool woken_thrice(void *arg)
{
    struct test_world *world = arg;
    return atomic_load(&world->test.wakes) >= 3;
}

static void test_wakes_at_once_and_each_second(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    test_world_start_asleep(&world, "\"http\":{}");
    int64_t start_ms = clock_monotonic_ms();
    test_world_send_and_wait(&world, &client, TEST_REQUEST("GET", "/x"));
    test_wait_until(test_world_woken, &world, "first wake");
    assert_true(test_elapsed_ms(start_ms) < 500);
    test_wait_until(woken_again, &world, "second wake");
    assert_in_range(test_elapsed_ms(start_ms), 990, 1900);
    /* The last pod goes: at once. */
    start_ms = clock_monotonic_ms();
    test_gateway_pod(&world.test, "f-1", "uid-1", NULL, GATEWAY_POD_PENDING, NULL);
    gateway_pod_remove(world.test.gateway, "uid-1");
    test_wait_until(woken_thrice, &world, "third wake");
    assert_true(test_elapsed_ms(start_ms) < 500);
    test_gateway_pod(&world.test, "f-2", "uid-2", &world.address, GATEWAY_POD_READY, NULL);
    test_expect_answer(&client, 200, NULL);
    int wakes = atomic_load(&world.test.wakes);
    assert_false(test_client_readable(&client, 1200));
    assert_int_equal(atomic_load(&world.test.wakes), wakes);
    test_client_close(&client);
    test_world_stop(&world);
}

static void test_a_pod_is_found_by_probing(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    test_world_start_asleep(&world, "\"http\":{}");
    test_upstream_refuse(world.upstream);
    test_world_send_and_wait(&world, &client, TEST_REQUEST("GET", "/x"));
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_PENDING, NULL);
    if (test_client_readable(&client, 300)) {
        test_expect_answer(&client, 0, "nothing");
    }
    int64_t start_ms = clock_monotonic_ms();
    test_upstream_listen(world.upstream);
    test_expect_answer(&client, 200, NULL);
    assert_true(test_elapsed_ms(start_ms) < 200); /* refused attempts come every 5 to 20 ms */
    assert_in_range((int)test_gateway_metric(&world.test, "cicada_gateway_probes_total"), 10, 80);
    /* The probe's connection took the request, unless that is on another loop. */
    assert_in_range(test_upstream_connections(world.upstream), 1, 2);
    test_client_close(&client);
    test_world_stop(&world);
}

static void test_nobody_waits_nobody_probes_much(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    test_world_start_asleep(&world, "\"http\":{}");
    test_upstream_refuse(world.upstream);
    /* One that failed is not new in any useful sense. */
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_PENDING, "ContainerExited");
    test_client_open(&client, world.test.port);
    assert_false(test_client_readable(&client, 1500));
    double probes = test_gateway_metric(&world.test, "cicada_gateway_probes_total");
    assert_true(probes >= 1 && probes <= 16);
    test_client_close(&client);
    test_world_stop(&world);
}

static void test_before_the_catalogue_is_read_requests_wait(void **state)
{
    (void)state;
    struct test_world world;
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
    test_expect_answer(&known, 200, "hello");
    assert_false(test_client_readable(&unknown, 50));
    gateway_catalog_synced(world.test.gateway);
    test_expect_answer(&unknown, 404, "no_route");
    assert_true(gateway_ready(world.test.gateway));
    assert_int_equal(test_upstream_requests(world.upstream), 1);
    test_client_close(&known);
    test_client_close(&unknown);
    test_world_stop(&world);
}

static bool two_in_flight(void *upstream)
{
    return test_upstream_in_flight(upstream) == 2;
}

static void test_statz_is_what_the_operator_reads(void **state)
{
    (void)state;
    struct test_world world;
    struct test_many many;
    test_world_start_asleep(&world, "\"concurrency\":2,\"http\":{}");
    assert_int_equal(test_gateway_statz(&world.test, "waiting"),
                     -1); /* not listed: idle since the gateway started */
    assert_true(test_gateway_statz(&world.test, "uptimeMs") >= 0);
    test_many_send(&many, &world.test, 5, "/gate", false);
    assert_int_equal(test_gateway_statz(&world.test, "waiting"), 5);
    assert_int_equal(test_gateway_statz(&world.test, "idleMs"), 0);
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    test_world_wait_statz(&world, "inFlight", 2);
    assert_int_equal(test_gateway_statz(&world.test, "waiting"), 3);
    test_gateway_wait_metric(&world.test, "cicada_gateway_held_requests{namespace=\"shop\",function=\"f\"}",
                             3);
    test_wait_until(two_in_flight, world.upstream, "two requests in the pod");
    test_upstream_open_gate(world.upstream, 5);
    assert_int_equal(test_many_read(&many, 200), 5);
    test_world_wait_statz(&world, "inFlight", 0);
    assert_int_equal(test_gateway_statz(&world.test, "arrivals"), 5);
    assert_int_equal(test_upstream_in_flight_max(world.upstream), 2);
    test_many_close(&many);
    test_world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held_until_announced_first_come_first_served),
        cmocka_unit_test(test_server_timing_names_the_phases),
        cmocka_unit_test(test_decide_ends_when_the_function_was_woken),
        cmocka_unit_test(test_a_wake_is_wanted_while_somebody_waits),
        cmocka_unit_test(test_wakes_at_once_and_each_second),
        cmocka_unit_test(test_a_pod_is_found_by_probing),
        cmocka_unit_test(test_nobody_waits_nobody_probes_much),
        cmocka_unit_test(test_before_the_catalogue_is_read_requests_wait),
        cmocka_unit_test(test_statz_is_what_the_operator_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
