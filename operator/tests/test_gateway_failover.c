/* Pods that refuse, break, hang, leave; deadlines; draining and stopping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operator/tests/support_gateway.h"
#include "operator/tests/support_gateway_many.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

struct world {
    struct test_gateway test;
    struct test_upstream *upstream;
    struct sockaddr_in address;
};

static void start_with(struct world *world, const char *members, const struct gateway_settings *settings)
{
    world->upstream = test_upstream_new();
    world->address = test_upstream_address(world->upstream);
    test_gateway_start(&world->test, settings);
    test_gateway_function(&world->test, "shop", "f", members);
    test_gateway_pod(&world->test, "f-1", "uid-1", &world->address, GATEWAY_POD_READY, NULL);
    gateway_catalog_synced(world->test.gateway);
}

static void start(struct world *world, const char *members)
{
    start_with(world, members, NULL);
}

static void stop(struct world *world)
{
    test_gateway_stop(&world->test);
    test_upstream_free(world->upstream);
}

static void expect_problem(int port, const char *text, int status, const char *code)
{
    struct test_answer answer;
    test_call(port, text, status, &answer);
    if (!test_answer_has(&answer, code)) {
        fail_msg("%s expected: %s", code, answer.body.buf);
    }
    test_answer_release(&answer);
}

static int64_t statz(struct world *world, const char *key)
{
    return test_gateway_statz(&world->test, key);
}

/* Asked of the pod: the gateway gives a slot back a moment after the answer was read. */
static bool pod_works(void *upstream)
{
    return test_upstream_in_flight(upstream) == 1;
}

static bool one_waiting(void *world)
{
    return statz(world, "waiting") == 1;
}

static bool nothing_going_on(void *world)
{
    return statz(world, "inFlight") <= 0 && statz(world, "waiting") <= 0;
}

static void test_a_pod_that_refuses_is_passed_over(void **state)
{
    (void)state;
    struct world world;
    struct test_upstream *other = test_upstream_new();
    struct sockaddr_in address = test_upstream_address(other);
    start(&world, "\"concurrency\":4,\"http\":{}");
    test_upstream_refuse(world.upstream);
    test_gateway_pod(&world.test, "f-2", "uid-2", &address, GATEWAY_POD_READY, NULL);
    for (int i = 0; i < 20; i++) {
        test_call_status(world.test.port,
                         "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 2\r\n\r\nhi", 200);
    }
    assert_int_equal(test_upstream_requests(other), 20);
    assert_int_equal(atomic_load(&world.test.wakes), 0);
    stop(&world);
    test_upstream_free(other);
}

static void test_the_only_pod_refuses_and_comes_back(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    struct test_answer answer;
    start(&world, "\"http\":{}");
    test_upstream_refuse(world.upstream);
    test_client_open(&client, world.test.port);
    test_client_send(&client, TEST_REQUEST("POST", "/x"));
    test_wait_until(one_waiting, &world, "request back in line");
    assert_int_equal(statz(&world, "arrivals"), 1); /* it came once */
    assert_true(atomic_load(&world.test.wakes) >= 1);
    assert_false(test_client_readable(&client, 100));
    test_upstream_listen(world.upstream);
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    test_client_close(&client);
    stop(&world);
}

/* An address that swallows SYNs: a listener whose queue is full. */
static int full_listener(struct sockaddr_in *ret_address, int fillers[4])
{
    socklen_t len = sizeof(*ret_address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *ret_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)ret_address, sizeof(*ret_address)), 0);
    assert_int_equal(listen(fd, 0), 0);
    getsockname(fd, (struct sockaddr *)ret_address, &len);
    for (int i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(fillers[i], (struct sockaddr *)ret_address, sizeof(*ret_address));
    }
    return fd;
}

static void test_a_pod_that_hangs_is_given_up(void **state)
{
    (void)state;
    struct world world;
    struct sockaddr_in address;
    struct test_upstream *other = test_upstream_new();
    int fillers[4], fd = full_listener(&address, fillers);
    world.upstream = other;
    world.address = address;
    test_gateway_start(&world.test, NULL);
    test_gateway_function(&world.test, "shop", "f", "\"http\":{}");
    test_gateway_pod(&world.test, "f-1", "uid-1", &address, GATEWAY_POD_READY, NULL);
    gateway_catalog_synced(world.test.gateway);
    struct test_client client;
    struct test_answer answer;
    int64_t start_ms = clock_monotonic_ms();
    test_client_open(&client, world.test.port);
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_wait_until(one_waiting, &world, "request back in line");
    assert_in_range(clock_monotonic_ms() - start_ms, 1000, 4000);
    address = test_upstream_address(other);
    test_gateway_pod(&world.test, "f-2", "uid-2", &address, GATEWAY_POD_PENDING, NULL);
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    test_client_close(&client);
    for (int i = 0; i < 4; i++) {
        close(fillers[i]);
    }
    close(fd);
    stop(&world);
}

static void test_what_is_sent_again(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    struct test_answer answer;
    start_with(&world, "\"http\":{}", &(struct gateway_settings){.loops = 1});
    test_client_open(&client, world.test.port);
    for (int i = 0; i < 20; i++) {
        /* The pod closes idle connections: the gateway hears of it and opens another, whatever the method. */
        const char *text = i % 2 ? TEST_REQUEST("POST", "/x") : TEST_REQUEST("GET", "/x");
        test_client_send(&client, text);
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, 200);
        test_answer_release(&answer);
        test_upstream_drop_idle(world.upstream);
    }
    /* A kept connection that breaks under the request: GET is sent once more on a new one, POST is not. */
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_client_read(&client, &answer, false);
    test_answer_release(&answer);
    int before = test_upstream_requests(world.upstream);
    test_client_send(&client, TEST_REQUEST("GET", "/drop"));
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 502);
    test_answer_release(&answer);
    assert_int_equal(test_upstream_requests(world.upstream), before + 2);
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    before = test_upstream_requests(world.upstream);
    test_client_send(&client, TEST_REQUEST("POST", "/drop"));
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 502);
    assert_true(test_answer_has(&answer, "upstream_closed"));
    test_answer_release(&answer);
    assert_int_equal(test_upstream_requests(world.upstream), before + 1);
    test_client_close(&client);
    stop(&world);
}

#define KEYED_REQUEST(key) "POST /drop HTTP/1.1\r\nHost: f.shop.fn.test\r\n" key "Content-Length: 2\r\n\r\nhi"

/* How often a POST reaches the pod whose kept connection breaks under it. */
static int posts_sent(const char *members, const char *text)
{
    struct world world;
    struct test_client client;
    struct test_answer answer;
    start_with(&world, members, &(struct gateway_settings){.loops = 1});
    test_client_open(&client, world.test.port);
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_client_read(&client, &answer, false);
    test_answer_release(&answer);
    int before = test_upstream_requests(world.upstream);
    test_client_send(&client, text);
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 502);
    test_answer_release(&answer);
    int sent = test_upstream_requests(world.upstream) - before;
    test_client_close(&client);
    stop(&world);
    return sent;
}

static void test_a_key_that_the_function_honours_is_sent_again(void **state)
{
    (void)state;
    static const char honours[] = "\"http\":{\"idempotency\":\"Optional\"},"
                                  "\"database\":{\"secretRef\":{\"name\":\"db\"}}";
    assert_int_equal(posts_sent(honours, KEYED_REQUEST("idempotency-key: \"k\"\r\n")), 2);
    assert_int_equal(posts_sent(honours, KEYED_REQUEST("")), 1);
    assert_int_equal(posts_sent("\"http\":{}", KEYED_REQUEST("Idempotency-Key: \"k\"\r\n")), 1);
}

static void test_half_an_answer_is_seen_as_such(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    struct test_answer answer;
    start(&world, "\"http\":{}");
    test_client_open(&client, world.test.port);
    test_client_send(&client, TEST_REQUEST("GET", "/part"));
    assert_false(test_client_try_read(&client, &answer, false));
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    test_client_close(&client);
    test_wait_until(nothing_going_on, &world, "slot given back");
    stop(&world);
}

static void test_deadlines(void **state)
{
    (void)state;
    struct world world;
    struct gateway_settings settings = {
        .loops = 2, .client_header_timeout_ms = 300, .client_idle_timeout_ms = 500};
    struct test_client client;
    struct test_answer answer;
    start_with(&world, "\"timeoutSeconds\":1,\"idleTimeoutSeconds\":1,\"http\":{}", &settings);
    int port = world.test.port;
    int64_t start_ms = clock_monotonic_ms();
    expect_problem(port, TEST_REQUEST("GET", "/hang"), 504, "function_timeout");
    assert_in_range(clock_monotonic_ms() - start_ms, 990, 2500);
    expect_problem(port, "POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 10\r\n\r\nhalf",
                   408, "request_timeout");
    /* Silence in the middle of an answer. */
    test_upstream_set_raw(world.upstream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    test_client_open(&client, port);
    test_client_send(&client, TEST_REQUEST("GET", "/raw"));
    assert_false(test_client_try_read(&client, &answer, false));
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    test_client_close(&client);
    /* A head that does not come, one that comes byte by byte, and a connection that says nothing more. */
    expect_problem(port, "GET / HTTP/1.1\r\nHost:", 408, "header_timeout");
    test_client_open(&client, port);
    start_ms = clock_monotonic_ms();
    for (int i = 0; i < 20 && test_client_try_send(&client, "G", 1) && !test_client_readable(&client, 50);
         i++) {}
    assert_true(test_client_readable(&client, 100));
    assert_in_range(clock_monotonic_ms() - start_ms, 290, 900);
    test_client_close(&client);
    test_client_open(&client, port);
    start_ms = clock_monotonic_ms();
    assert_true(test_client_ended(&client, TEST_WAIT_MS));
    assert_in_range(clock_monotonic_ms() - start_ms, 250, 900);
    test_client_close(&client);
    test_client_open(&client, port);
    test_client_send(&client, TEST_REQUEST("GET", "/x"));
    test_client_read(&client, &answer, false);
    test_answer_release(&answer);
    start_ms = clock_monotonic_ms();
    assert_true(test_client_ended(&client, TEST_WAIT_MS));
    assert_in_range(clock_monotonic_ms() - start_ms, 450, 1200);
    test_client_close(&client);
    test_wait_until(nothing_going_on, &world, "slots given back");
    stop(&world);
}

static bool no_connection(void *upstream)
{
    return test_upstream_open(upstream) == 0;
}

static void test_idle_connections_to_pods_end(void **state)
{
    (void)state;
    struct world world;
    start_with(&world, "\"http\":{}",
               &(struct gateway_settings){.loops = 1, .upstream_idle_timeout_ms = 200});
    test_call_status(world.test.port, TEST_REQUEST("GET", "/x"), 200);
    assert_int_equal(test_upstream_open(world.upstream), 1);
    test_wait_until(no_connection, world.upstream, "idle connection closed");
    stop(&world);
}

static void test_goodbye(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    struct test_answer answer;
    start(&world, "\"http\":{}");
    for (int i = 0; i < 8; i++) {
        test_call_status(world.test.port, TEST_REQUEST("GET", "/x"), 200);
    }
    test_client_open(&client, world.test.port);
    test_client_send(&client, TEST_REQUEST("GET", "/gate"));
    test_wait_until(pod_works, world.upstream, "request in flight");
    assert_false(gateway_pod_goodbye(world.test.gateway, "uid-9"));
    assert_true(gateway_pod_goodbye(world.test.gateway, "uid-1"));
    /* Idle ones are closed by now; the kernel may need a moment to tell. */
    struct test_client second;
    test_client_open(&second, world.test.port);
    test_client_send(&second, TEST_REQUEST("GET", "/x"));
    test_wait_until(one_waiting, &world, "the next request waits");
    test_upstream_open_gate(world.upstream, 1);
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200); /* what is in flight ends well */
    test_answer_release(&answer);
    test_wait_until(no_connection, world.upstream, "no connection kept");
    struct test_upstream *other = test_upstream_new();
    struct sockaddr_in address = test_upstream_address(other);
    test_gateway_pod(&world.test, "f-2", "uid-2", &address, GATEWAY_POD_READY, NULL);
    test_client_read(&second, &answer, false);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    assert_int_equal(test_upstream_requests(other), 1);
    test_client_close(&client);
    test_client_close(&second);
    stop(&world);
    test_upstream_free(other);
}

/* A pod is deleted under load, its successor is there: no request fails. */
struct load {
    int port;
    atomic_bool stop;
    atomic_int good, bad;
};

static void *run_load(void *arg)
{
    struct load *load = arg;
    while (!atomic_load(&load->stop)) {
        struct test_client client;
        struct test_answer answer;
        test_client_open(&client, load->port);
        for (int i = 0; i < 20; i++) {
            const char *text = i % 2 ? TEST_REQUEST("POST", "/x") : TEST_REQUEST("GET", "/x");
            bool good = test_client_try_send(&client, text, strlen(text)) &&
                        test_client_try_read(&client, &answer, false) && answer.status == 200;
            atomic_fetch_add(good ? &load->good : &load->bad, 1);
            test_answer_release(&answer);
            if (!good) {
                break;
            }
        }
        test_client_close(&client);
    }
    return NULL;
}

static bool enough_good(void *arg)
{
    struct load *load = arg;
    return atomic_load(&load->good) >= 300;
}

static void test_pods_come_and_go_under_load(void **state)
{
    (void)state;
    struct world world;
    struct test_upstream *pods[6];
    pthread_t threads[4];
    start(&world, "\"concurrency\":2,\"http\":{}");
    struct load load = {.port = world.test.port};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_load, &load), 0);
    }
    for (int i = 0; i < 6; i++) {
        char uid[32], before[32];
        snprintf(uid, sizeof(uid), "uid-%d", i + 2);
        snprintf(before, sizeof(before), "uid-%d", i + 1);
        pods[i] = test_upstream_new();
        struct sockaddr_in address = test_upstream_address(pods[i]);
        test_gateway_pod(&world.test, uid, uid, &address, GATEWAY_POD_PENDING, NULL);
        struct sockaddr_in old = i == 0 ? world.address : test_upstream_address(pods[i - 1]);
        test_gateway_pod(&world.test, before, before, &old, GATEWAY_POD_TERMINATING, NULL);
        assert_true(gateway_pod_goodbye(world.test.gateway, before));
        atomic_store(&load.good, 0);
        test_wait_until(enough_good, &load, "requests go on");
        gateway_pod_remove(world.test.gateway, before);
        if (i > 0) {
            test_upstream_refuse(pods[i - 1]);
        }
    }
    atomic_store(&load.stop, true);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&load.bad), 0);
    stop(&world);
    for (int i = 0; i < 6; i++) {
        assert_in_range(test_upstream_in_flight_max(pods[i]), 1, 2);
        test_upstream_free(pods[i]);
    }
}

static void test_connections_to_a_pod_are_bounded(void **state)
{
    (void)state;
    struct world world;
    struct test_many many;
    start_with(&world, "\"concurrency\":4,\"http\":{}", &(struct gateway_settings){.loops = 4});
    for (int round = 0; round < 10; round++) {
        test_many_send(&many, &world.test, 40, "/sleep/2", false);
        assert_int_equal(test_many_read(&many, 200), 40);
        test_many_close(&many);
    }
    assert_in_range(test_upstream_in_flight_max(world.upstream), 1, 4);
    /* (2 x 4 + 4) / 1, and for a moment one more per loop. */
    assert_in_range(test_upstream_open_max(world.upstream), 1, 16);
    stop(&world);
}

static void test_too_many_clients_are_shed(void **state)
{
    (void)state;
    struct world world;
    struct test_client clients[5];
    struct test_answer answer;
    start_with(&world, "\"http\":{}", &(struct gateway_settings){.loops = 1, .max_connections = 4});
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
    stop(&world);
}

static void test_drain(void **state)
{
    (void)state;
    struct world world;
    struct test_client held, kept;
    struct test_answer answer;
    start(&world, "\"concurrency\":1,\"http\":{}");
    test_client_open(&kept, world.test.port);
    test_client_send(&kept, TEST_REQUEST("GET", "/x"));
    test_client_read(&kept, &answer, false);
    assert_false(answer.closed);
    test_answer_release(&answer);
    gateway_pod_remove(world.test.gateway, "uid-1");
    test_client_open(&held, world.test.port);
    test_client_send(&held, TEST_REQUEST("GET", "/x"));
    test_wait_until(one_waiting, &world, "held");
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
    test_wait_until(no_connection, world.upstream, "no idle connection is kept");
    assert_false(gateway_quiet(world.test.gateway, 60000));
    assert_false(test_client_readable(&(struct test_client){.fd = -1}, 150));
    assert_true(gateway_quiet(world.test.gateway, 100));
    test_client_close(&held);
    test_client_close(&kept);
    stop(&world);
}

/* Stopping in the middle of everything leaves nothing behind (the sanitizers look). */
static void test_stop_in_the_middle(void **state)
{
    (void)state;
    struct world world;
    struct test_many many;
    struct test_client clients[3];
    start(&world, "\"concurrency\":2,\"http\":{}");
    test_many_send(&many, &world.test, 10, "/hang", false);
    for (int i = 0; i < 3; i++) {
        test_client_open(&clients[i], world.test.port);
    }
    test_client_send(&clients[0], "GET / HTT");
    test_client_send(&clients[1],
                     "POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 10\r\n\r\nhalf");
    test_gateway_pod(&world.test, "f-2", "uid-2", NULL, GATEWAY_POD_PENDING, NULL);
    stop(&world);
    test_many_close(&many);
    for (int i = 0; i < 3; i++) {
        test_client_close(&clients[i]);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pod_that_refuses_is_passed_over),
        cmocka_unit_test(test_the_only_pod_refuses_and_comes_back),
        cmocka_unit_test(test_a_pod_that_hangs_is_given_up),
        cmocka_unit_test(test_what_is_sent_again),
        cmocka_unit_test(test_a_key_that_the_function_honours_is_sent_again),
        cmocka_unit_test(test_half_an_answer_is_seen_as_such),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_idle_connections_to_pods_end),
        cmocka_unit_test(test_goodbye),
        cmocka_unit_test(test_pods_come_and_go_under_load),
        cmocka_unit_test(test_connections_to_a_pod_are_bounded),
        cmocka_unit_test(test_too_many_clients_are_shed),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_stop_in_the_middle),
        cmocka_unit_test(test_start_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
