/* What ends the wait for a pod: limits, failures, the client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

#include "operator/tests/support_gateway_many.h"
#include "operator/tests/support_gateway_world.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

static void test_count_is_bounded(void **state)
{
    (void)state;
    enum { DEPTH = 20 };
    struct test_world world;
    struct test_many many;
    struct test_answer answer;
    char value[512];
    test_world_start_asleep(&world, "\"queueDepth\":20,\"http\":{}");
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
    test_world_stop(&world);
}

static void test_bytes_are_bounded(void **state)
{
    (void)state;
    enum { COUNT = 8 };
    struct test_world world;
    struct test_client clients[COUNT];
    test_world_start_asleep(&world, "\"limits\":{\"holdBytes\":65536,\"bodyBytes\":1000000},\"http\":{}");
    CLEANUP_FREE char *text =
        xasprintf("POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 15000\r\n\r\n%015000d", 0);
    /* What comes in one piece with the head is held in memory: four of these, at most, if they come whole. */
    int refused = 0;
    for (int i = 0; i < COUNT; i++) {
        test_client_open(&clients[i], world.test.port);
        test_client_send(&clients[i], text);
        if (test_client_readable(&clients[i], 100)) {
            test_expect_answer(&clients[i], 503, "hold_bytes_full");
            test_client_close(&clients[i]);
            refused++;
        }
    }
    assert_in_range(refused, 1, 4);
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    for (int i = 0; i < COUNT; i++) {
        if (clients[i].fd >= 0) {
            test_expect_answer(&clients[i], 200, "15000 ");
            test_client_close(&clients[i]);
        }
    }
    test_world_stop(&world);
}

/* A body that is held stays in the kernel but for its first piece. */
static void test_large_bodies_stay_in_the_kernel(void **state)
{
    (void)state;
    enum { SIZE = 8 << 20 };
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    test_world_start_asleep(&world, "\"limits\":{\"holdBytes\":131072,\"bodyBytes\":16777216},\"http\":{}");
    int small = 64 * 1024;
    CLEANUP_FREE char *body = xcalloc(1, SIZE);
    memset(body, 'b', SIZE);
    test_world_send_and_wait(
        &world, &client, "POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 8388608\r\n\r\n");
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
    test_world_stop(&world);
}

static void test_time_is_bounded(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    char value[512];
    test_world_start_asleep(&world, "\"holdSeconds\":1,\"http\":{}");
    int64_t start_ms = clock_monotonic_ms();
    test_world_send_and_wait(&world, &client, TEST_REQUEST("GET", "/x"));
    test_read_status(&client, 503, "\"code\":\"hold_timeout\"", &answer);
    assert_in_range(test_elapsed_ms(start_ms), 990, 1800);
    assert_true(test_answer_header(&answer, "Retry-After", value)[0] != '\0');
    test_answer_release(&answer);
    assert_int_equal(test_gateway_statz(&world.test, "waiting"), 0);
    /* The connection goes on. */
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_expect_answer(&client, 200, NULL);
    test_client_close(&client);
    test_world_stop(&world);
}

static void set_delay(const struct test_world *world, const char *uid, enum gateway_pod_state state,
                      const char *delay)
{
    struct gateway_pod pod = {
        .namespace = "shop", .function = "f", .name = uid, .uid = uid, .state = state, .delay_code = delay};
    gateway_pod_set(world->test.gateway, &pod);
}

static void expect_hold_timeout(struct test_world *world, const char *detail)
{
    struct test_client client;
    struct test_answer answer;
    CLEANUP_FREE char *member =
        xasprintf("\"detail\":\"No replica could take the request within %s.\"", detail);
    test_world_send_and_wait(world, &client, TEST_REQUEST("GET", "/x"));
    test_read_status(&client, 503, member, &answer);
    assert_non_null(strstr(answer.body.buf, "\"code\":\"hold_timeout\""));
    test_answer_release(&answer);
    test_client_close(&client);
}

/* What the pod that is to come waits for is told at the end of the wait, as long as that is true. */
static void test_the_delay_is_told(void **state)
{
    (void)state;
    struct test_world world;
    test_world_start_asleep(&world, "\"holdSeconds\":1,\"http\":{}");
    set_delay(&world, "uid-0", GATEWAY_POD_TERMINATING, "SomethingElse");
    set_delay(&world, "uid-1", GATEWAY_POD_PENDING, "DatabaseUnreachable");
    expect_hold_timeout(&world, "holdSeconds: DatabaseUnreachable");
    set_delay(&world, "uid-1", GATEWAY_POD_PENDING, NULL);
    expect_hold_timeout(&world, "holdSeconds");
    test_world_stop(&world);
}

static void test_a_client_that_goes_leaves_the_line(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client gone, half, reset, stays;
    test_world_start_asleep(&world, "\"http\":{}");
    test_world_send_and_wait(&world, &gone, TEST_REQUEST("GET", "/x?n=1"));
    test_world_send_and_wait(&world, &half, TEST_REQUEST("GET", "/x?n=2"));
    test_world_send_and_wait(&world, &reset, TEST_REQUEST("GET", "/x?n=3"));
    test_world_send_and_wait(&world, &stays, TEST_REQUEST("GET", "/x?n=4"));
    test_client_close(&gone);
    shutdown(half.fd, SHUT_WR); /* a FIN while waiting means gone */
    test_client_reset(&reset);
    test_world_wait_statz(&world, "waiting", 1);
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    test_expect_answer(&stays, 200, NULL);
    int order[TEST_UPSTREAM_ORDER_MAX];
    assert_int_equal(test_upstream_order(world.upstream, order), 1);
    assert_int_equal(order[0], 4);
    test_gateway_wait_metric(
        &world.test, "cicada_gateway_requests_total{namespace=\"shop\",function=\"f\",code=\"499\"}", 3);
    test_client_close(&half);
    test_client_close(&stays);
    test_world_stop(&world);
}

static void test_after_hand_over_a_fin_changes_nothing(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    test_world_start_asleep(&world, "\"http\":{}");
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    test_client_open(&client, world.test.port);
    test_client_send(&client, TEST_REQUEST("GET", "/sleep/200"));
    test_wait_until(test_upstream_works, world.upstream, "request in the pod");
    shutdown(client.fd, SHUT_WR);
    test_expect_answer(&client, 200, NULL);
    assert_true(test_client_ended(&client, TEST_WAIT_MS));
    test_client_close(&client);
    test_world_stop(&world);
}

/* A pod by hand: it has one connection at a time, so that the test says when that breaks. */
struct hand_pod {
    int listener, fd;
    struct sockaddr_in address;
};

static void hand_pod_open(struct hand_pod *pod)
{
    socklen_t len = sizeof(pod->address);
    pod->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    pod->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = TEST_WAIT_MS / 1000};
    setsockopt(pod->listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)); /* accepted ones inherit it */
    assert_int_equal(bind(pod->listener, (struct sockaddr *)&pod->address, sizeof(pod->address)), 0);
    assert_int_equal(listen(pod->listener, 8), 0);
    assert_int_equal(getsockname(pod->listener, (struct sockaddr *)&pod->address, &len), 0);
}

static void hand_pod_accept(struct hand_pod *pod)
{
    pod->fd = accept(pod->listener, NULL, NULL);
    assert_true(pod->fd >= 0);
}

static void hand_pod_take(struct hand_pod *pod)
{
    char request[4096];
    assert_true(recv(pod->fd, request, sizeof(request), 0) > 0); /* short, written in one piece */
}

static void hand_pod_answer(struct hand_pod *pod)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_int_equal(send(pod->fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL), sizeof(answer) - 1);
}

/* A pod has the request, on a connection that was used before, and the gateway has seen the client's FIN. */
static void start_half_closed(struct test_world *world, struct hand_pod *pod, struct test_client *client)
{
    test_world_start_with(world, "\"http\":{}", &(struct gateway_settings){.loops = 1});
    gateway_pod_remove(world->test.gateway, "uid-1");
    hand_pod_open(pod);
    test_gateway_pod(&world->test, "f-2", "uid-2", &pod->address, GATEWAY_POD_READY, NULL);
    test_client_open(client, world->test.port);
    test_client_send(client, TEST_REQUEST("GET", "/x"));
    hand_pod_accept(pod);
    hand_pod_take(pod);
    hand_pod_answer(pod);
    test_expect_answer(client, 200, NULL);
    test_client_send(client, TEST_REQUEST("GET", "/x"));
    hand_pod_take(pod);
    shutdown(client->fd, SHUT_WR);
    /* What the one loop answers now, it reads after the FIN. */
    test_call_status(world->test.port, "GET /x HTTP/1.1\r\nHost: nobody.test\r\n\r\n", 404);
}

static void end_half_closed(struct test_world *world, struct hand_pod *pod, struct test_client *client)
{
    test_client_close(client);
    close(pod->fd);
    test_world_stop(world);
}

static void test_a_half_closed_client_is_not_forgotten_when_its_request_is_sent_again(void **state)
{
    (void)state;
    struct test_world world;
    struct hand_pod pod;
    struct test_client client;
    start_half_closed(&world, &pod, &client);
    close(pod.fd);
    hand_pod_accept(&pod);
    hand_pod_take(&pod);
    hand_pod_answer(&pod);
    test_expect_answer(&client, 200, NULL);
    close(pod.listener);
    end_half_closed(&world, &pod, &client);
}

static void test_a_client_that_went_does_not_go_back_in_line(void **state)
{
    (void)state;
    struct test_world world;
    struct hand_pod pod;
    struct test_client client;
    start_half_closed(&world, &pod, &client);
    close(pod.listener); /* what is sent again finds nobody */
    shutdown(pod.fd, SHUT_RDWR);
    test_gateway_wait_metric(
        &world.test, "cicada_gateway_requests_total{namespace=\"shop\",function=\"f\",code=\"499\"}", 1);
    assert_int_equal(test_world_statz(&world, "waiting"), 0);
    assert_true(test_client_ended(&client, TEST_WAIT_MS));
    end_half_closed(&world, &pod, &client);
}

static void test_failures_end_the_wait_at_once(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    test_world_start_asleep(&world, "\"http\":{}");
    test_world_send_and_wait(&world, &client, TEST_REQUEST("GET", "/x"));
    int64_t start_ms = clock_monotonic_ms();
    test_gateway_pod(&world.test, "f-1", "uid-1", NULL, GATEWAY_POD_PENDING, "ErrImageNeverPull");
    test_expect_answer(&client, 503, "\"code\":\"ErrImageNeverPull\"");
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_expect_answer(&client, 503, "\"code\":\"ErrImageNeverPull\"");
    gateway_pod_remove(world.test.gateway, "uid-1");
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_world_wait_statz(&world, "waiting", 1);
    gateway_function_blocked(world.test.gateway, "shop", "f", "QuotaExceeded");
    test_expect_answer(&client, 503, "\"code\":\"QuotaExceeded\"");
    gateway_function_blocked(world.test.gateway, "shop", "f", NULL);
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_world_wait_statz(&world, "waiting", 1);
    test_gateway_function(&world.test, "shop", "f", "\"replicas\":0,\"http\":{}");
    test_expect_answer(&client, 503, "\"code\":\"ScaledToZeroByUser\"");
    int wakes = atomic_load(&world.test.wakes);
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_expect_answer(&client, 503, "\"code\":\"ScaledToZeroByUser\"");
    assert_int_equal(atomic_load(&world.test.wakes), wakes);
    test_gateway_function(&world.test, "shop", "f", "\"http\":{}");
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_world_wait_statz(&world, "waiting", 1);
    gateway_function_remove(world.test.gateway, "shop", "f");
    test_expect_answer(&client, 503, "\"code\":\"function_deleted\"");
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_expect_answer(&client, 404, "\"code\":\"no_route\"");
    assert_true(test_elapsed_ms(start_ms) < 5000);
    test_client_close(&client);
    test_world_stop(&world);
}

static void test_requests_outlive_a_change_of_the_function(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    test_world_start_asleep(&world, "\"http\":{}");
    test_world_send_and_wait(&world, &client, TEST_REQUEST("GET", "/x"));
    test_gateway_function(&world.test, "shop", "f", "\"concurrency\":3,\"timeoutSeconds\":9,\"http\":{}");
    assert_false(test_client_readable(&client, 50));
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    test_expect_answer(&client, 200, NULL);
    assert_int_equal(test_gateway_statz(&world.test, "arrivals"), 1);
    test_client_close(&client);
    test_world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_count_is_bounded),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_large_bodies_stay_in_the_kernel),
        cmocka_unit_test(test_time_is_bounded),
        cmocka_unit_test(test_the_delay_is_told),
        cmocka_unit_test(test_a_client_that_goes_leaves_the_line),
        cmocka_unit_test(test_after_hand_over_a_fin_changes_nothing),
        cmocka_unit_test(test_a_half_closed_client_is_not_forgotten_when_its_request_is_sent_again),
        cmocka_unit_test(test_a_client_that_went_does_not_go_back_in_line),
        cmocka_unit_test(test_failures_end_the_wait_at_once),
        cmocka_unit_test(test_requests_outlive_a_change_of_the_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
