/* Bounds of connections, draining, stopping, and what keeps a gateway from starting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operator/tests/support_gateway_many.h"
#include "operator/tests/support_gateway_world.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

static void test_connections_to_a_pod_are_bounded(void **state)
{
    (void)state;
    struct test_world world;
    struct test_many many;
    test_world_start_with(&world, "\"concurrency\":4,\"http\":{}", &(struct gateway_settings){.loops = 4});
    for (int round = 0; round < 10; round++) {
        test_many_send(&many, &world.test, 40, "/sleep/2", false);
        assert_int_equal(test_many_read(&many, 200), 40);
        test_many_close(&many);
    }
    assert_in_range(test_upstream_in_flight_max(world.upstream), 1, 4);
    /* (2 x 4 + 4) / 1, and for a moment one more per loop. */
    assert_in_range(test_upstream_open_max(world.upstream), 1, 16);
    test_world_stop(&world);
}

static void test_too_many_clients_are_shed(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client clients[5];
    struct test_answer answer;
    test_world_start_with(&world, "\"http\":{}",
                          &(struct gateway_settings){.loops = 1, .max_connections = 4});
    for (int i = 0; i < 5; i++) {
        test_client_open(&clients[i], world.test.port);
        if (i < 4) {
            test_client_send(&clients[i], TEST_REQUEST("GET", "/x"));
            test_client_read(&clients[i], &answer, false);
            assert_int_equal(answer.status, 200);
            test_answer_release(&answer);
        }
    }
    test_client_read(&clients[4], &answer, false);
    assert_int_equal(answer.status, 503);
    assert_true(test_answer_has(&answer, "too_many_connections"));
    assert_true(test_client_ended(&clients[4], TEST_WAIT_MS));
    test_answer_release(&answer);
    for (int i = 0; i < 5; i++) {
        test_client_close(&clients[i]);
    }
    test_world_stop(&world);
}

static bool is_quiet(void *gateway)
{
    return gateway_quiet(gateway, 0);
}

static void test_drain(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client held, kept;
    struct test_answer answer;
    test_world_start(&world, "\"concurrency\":1,\"http\":{}");
    test_client_open(&kept, world.test.port);
    test_client_send(&kept, TEST_REQUEST("GET", "/x"));
    test_client_read(&kept, &answer, false);
    assert_false(answer.closed);
    test_answer_release(&answer);
    gateway_pod_remove(world.test.gateway, "uid-1");
    test_client_open(&held, world.test.port);
    test_client_send(&held, TEST_REQUEST("GET", "/x"));
    test_wait_until(test_world_one_waiting, &world, "held");
    gateway_drain(world.test.gateway);
    assert_false(gateway_ready(world.test.gateway));
    assert_false(gateway_quiet(world.test.gateway, 0));
    /* It serves what it holds, what comes on kept connections, and what comes on new ones. */
    test_gateway_pod(&world.test, "f-2", "uid-2", &world.address, GATEWAY_POD_READY, NULL);
    test_client_read(&held, &answer, false);
    assert_int_equal(answer.status, 200);
    assert_true(answer.closed);
    test_answer_release(&answer);
    test_client_send(&kept, TEST_REQUEST("GET", "/x"));
    test_client_read(&kept, &answer, false);
    assert_int_equal(answer.status, 200);
    assert_true(answer.closed);
    test_answer_release(&answer);
    test_call(world.test.port, TEST_REQUEST("GET", "/x"), 200, &answer);
    assert_true(answer.closed);
    test_answer_release(&answer);
    assert_true(test_client_ended(&held, TEST_WAIT_MS));
    assert_true(test_client_ended(&kept, TEST_WAIT_MS));
    test_wait_until(test_upstream_is_alone, world.upstream, "no idle connection is kept");
    assert_false(gateway_quiet(world.test.gateway, 60000));
    assert_false(test_client_readable(&(struct test_client){.fd = -1}, 150));
    assert_true(gateway_quiet(world.test.gateway, 100));
    test_client_close(&held);
    test_client_close(&kept);
    test_world_stop(&world);
}

/* An answer that the client is slow to take is still on its way when the pod has long been done. */
static void test_drain_waits_for_answers_to_leave(void **state)
{
    (void)state;
    enum { STEP = 16 * 1024, SIZE_MAX_TRIED = 32 * 1024 * 1024 };
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    test_world_start(&world, "\"http\":{}");
    size_t size = 0;
    /* The kernel takes much for a client that reads nothing: sizes are tried until something stays here. */
    for (bool left = true; left;) {
        char request[128];
        size += STEP;
        assert_true(size < SIZE_MAX_TRIED);
        snprintf(request, sizeof(request), TEST_REQUEST("GET", "/size/%zu"), size);
        test_client_open(&client, world.test.port);
        test_client_send(&client, request);
        assert_true(test_client_readable(&client, TEST_WAIT_MS));
        test_wait_until(test_world_nothing_going_on, &world, "taken from the pod");
        left = gateway_quiet(world.test.gateway, 0);
        if (left) {
            test_client_close(&client);
        }
    }
    gateway_drain(world.test.gateway);
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.body.len, size);
    test_answer_release(&answer);
    test_client_close(&client);
    test_wait_until(is_quiet, world.test.gateway, "quiet");
    test_world_stop(&world);
}

/* Stopping in the middle of everything leaves nothing behind (the sanitizers look). */
static void test_stop_in_the_middle(void **state)
{
    (void)state;
    struct test_world world;
    struct test_many many;
    struct test_client clients[3];
    test_world_start(&world, "\"concurrency\":2,\"http\":{}");
    test_many_send(&many, &world.test, 10, "/hang", false);
    for (int i = 0; i < 3; i++) {
        test_client_open(&clients[i], world.test.port);
    }
    test_client_send(&clients[0], "GET / HTT");
    test_client_send(&clients[1],
                     "POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 10\r\n\r\nhalf");
    test_gateway_pod(&world.test, "f-2", "uid-2", NULL, GATEWAY_POD_PENDING, NULL);
    test_world_stop(&world);
    test_many_close(&many);
    for (int i = 0; i < 3; i++) {
        test_client_close(&clients[i]);
    }
}

static bool has_left(void *gateway)
{
    return gateway_left(gateway, /* patience_ms= */ 10000);
}

/* It was quiet, and at that moment requests come: on a connection that was kept, and on one that waits to be accepted. Both are
 * answered; who says nothing is let go. */
static void test_a_request_at_the_last_moment_is_answered(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client kept, silent, fresh;
    struct test_answer answer;
    test_world_start_with(&world, "\"http\":{}", &(struct gateway_settings){.loops = 1});
    struct test_client *const served[] = {&kept, &silent};
    for (size_t i = 0; i < ARRAY_SIZE(served); i++) {
        test_client_open(served[i], world.test.port);
        test_client_send(served[i], TEST_REQUEST("GET", "/x"));
        test_client_read(served[i], &answer, false);
        test_answer_release(&answer);
    }
    test_wait_until(is_quiet, world.test.gateway, "quiet");
    gateway_drain(world.test.gateway);
    test_client_send(&kept, TEST_REQUEST("GET", "/sleep/100"));
    test_client_open(&fresh, world.test.port);
    test_client_send(&fresh, TEST_REQUEST("GET", "/sleep/100"));
    gateway_leave(world.test.gateway);
    test_wait_until(has_left, world.test.gateway, "left");
    gateway_stop(world.test.gateway);
    test_expect_answer(&kept, 200, "");
    test_expect_answer(&fresh, 200, "");
    assert_true(test_client_ended(&silent, TEST_WAIT_MS));
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)world.test.port)};
    int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(late, (const struct sockaddr *)&address, sizeof(address)), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(late);
    test_client_close(&kept);
    test_client_close(&fresh);
    test_client_close(&silent);
    test_world_stop(&world);
}

/* One that never said anything keeps it for so long and no longer. */
static void test_leaving_has_no_endless_patience(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client mute;
    test_world_start(&world, "\"http\":{}");
    test_client_open(&mute, world.test.port);
    gateway_drain(world.test.gateway);
    gateway_leave(world.test.gateway);
    int64_t left_ms = -1, start_ms = clock_monotonic_ms();
    while (left_ms < 0 && clock_monotonic_ms() - start_ms < TEST_WAIT_MS) {
        left_ms = gateway_left(world.test.gateway, 100) ? clock_monotonic_ms() - start_ms : -1;
    }
    assert_true(left_ms >= 99);
    test_client_close(&mute);
    test_world_stop(&world);
}

/* Held for longer than the drain may last: it is told, not cut off. */
static void test_who_is_held_at_the_end_is_told(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    test_world_start_asleep(&world, "\"http\":{}");
    test_world_send_and_wait(&world, &client, TEST_REQUEST("GET", "/x"));
    gateway_drain(world.test.gateway);
    gateway_stop(world.test.gateway);
    test_expect_answer(&client, 503, "\"code\":\"gateway_stopping\"");
    assert_true(test_client_ended(&client, TEST_WAIT_MS));
    test_client_close(&client);
    test_world_stop(&world);
}

static void test_start_errors(void **state)
{
    (void)state;
    static const char *const listens[] = {"nonsense", "127.0.0.1", "127.0.0.1:99999", "1.2.3.4.5:80",
                                          "192.0.2.1:0"};
    for (size_t i = 0; i < ARRAY_SIZE(listens); i++) {
        struct metrics *metrics = metrics_new();
        struct gateway_settings settings = {.public_listen = listens[i], .loops = 1, .metrics = metrics};
        struct gateway *gateway;
        struct err err = ERR_INIT;
        assert_int_equal(gateway_new(&settings, &gateway, &err), 0);
        assert_int_equal(gateway_start(gateway, &err), -1);
        assert_true(err.msg[0] != '\0');
        gateway_free(gateway);
        metrics_free(metrics);
    }
}

/* The loops share their port among themselves, and with nobody else. */
static void test_a_port_is_not_shared_with_another_gateway(void **state)
{
    (void)state;
    struct test_world world;
    struct err err = ERR_INIT;
    struct gateway *gateway;
    struct metrics *metrics = metrics_new();
    test_world_start_with(&world, "\"http\":{}", &(struct gateway_settings){.loops = 2});
    CLEANUP_FREE char *listen = xasprintf("127.0.0.1:%d", world.test.port);
    struct gateway_settings settings = {.public_listen = listen, .loops = 2, .metrics = metrics};
    assert_int_equal(gateway_new(&settings, &gateway, &err), 0);
    assert_int_equal(gateway_start(gateway, &err), -1);
    assert_int_equal(err.sys_errno, EADDRINUSE);
    gateway_free(gateway);
    metrics_free(metrics);
    test_world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections_to_a_pod_are_bounded),
        cmocka_unit_test(test_too_many_clients_are_shed),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_waits_for_answers_to_leave),
        cmocka_unit_test(test_stop_in_the_middle),
        cmocka_unit_test(test_who_is_held_at_the_end_is_told),
        cmocka_unit_test(test_a_request_at_the_last_moment_is_answered),
        cmocka_unit_test(test_leaving_has_no_endless_patience),
        cmocka_unit_test(test_start_errors),
        cmocka_unit_test(test_a_port_is_not_shared_with_another_gateway),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
