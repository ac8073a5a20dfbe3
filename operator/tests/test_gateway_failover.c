/* Pods that refuse, break, hang, leave; deadlines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operator/tests/support_gateway_world.h"
#include "runtime/base/clock.h"

static void expect_problem(int port, const char *text, int status, const char *code)
{
    struct test_answer answer;
    test_call(port, text, status, &answer);
    if (!test_answer_has(&answer, code)) {
        fail_msg("%s expected: %s", code, answer.body.buf);
    }
    test_answer_release(&answer);
}

static void test_a_pod_that_refuses_is_passed_over(void **state)
{
    (void)state;
    struct test_world world;
    struct test_upstream *other = test_upstream_new();
    struct sockaddr_in address = test_upstream_address(other);
    test_world_start(&world, "\"concurrency\":4,\"http\":{}");
    test_upstream_refuse(world.upstream);
    test_gateway_pod(&world.test, "f-2", "uid-2", &address, GATEWAY_POD_READY, NULL);
    for (int i = 0; i < 20; i++) {
        test_call_status(world.test.port,
                         "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 2\r\n\r\nhi", 200);
    }
    assert_int_equal(test_upstream_requests(other), 20);
    assert_int_equal(atomic_load(&world.test.wakes), 0);
    test_world_stop(&world);
    test_upstream_free(other);
}

static void test_the_only_pod_refuses_and_comes_back(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    test_world_start(&world, "\"http\":{}");
    test_upstream_refuse(world.upstream);
    test_client_open(&client, world.test.port);
    test_client_send(&client, TEST_REQUEST("POST", "/x"));
    test_wait_until(test_world_one_waiting, &world, "request back in line");
    assert_int_equal(test_world_statz(&world, "arrivals"), 1); /* it came once */
    test_wait_until(test_world_woken, &world, "woken");
    assert_false(test_client_readable(&client, 100));
    test_upstream_listen(world.upstream);
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    test_client_close(&client);
    test_world_stop(&world);
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
    struct test_world world;
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
    test_wait_until(test_world_one_waiting, &world, "request back in line");
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
    test_world_stop(&world);
}

static void test_what_is_sent_again(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    test_world_start_with(&world, "\"http\":{}", &(struct gateway_settings){.loops = 1});
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
    test_world_stop(&world);
}

#define HONOURS_KEYS       "\"http\":{\"idempotency\":\"Optional\"},\"database\":{\"secretRef\":{\"name\":\"db\"}}"
#define KEYED_REQUEST(key) "POST /drop HTTP/1.1\r\nHost: f.shop.fn.test\r\n" key "Content-Length: 2\r\n\r\nhi"

/* How often a POST reaches the pod whose kept connection breaks under it. */
static int posts_sent(const char *members, const char *text)
{
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    test_world_start_with(&world, members, &(struct gateway_settings){.loops = 1});
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
    test_world_stop(&world);
    return sent;
}

static void test_a_key_that_the_function_honours_is_sent_again(void **state)
{
    (void)state;
    static const char honours[] = HONOURS_KEYS;
    assert_int_equal(posts_sent(honours, KEYED_REQUEST("idempotency-key: \"k\"\r\n")), 2);
    assert_int_equal(posts_sent(honours, KEYED_REQUEST("")), 1);
    /* The function would not get to see this one. */
    assert_int_equal(
        posts_sent(honours, KEYED_REQUEST("Idempotency-Key: \"k\"\r\nConnection: Idempotency-Key\r\n")), 1);
    assert_int_equal(posts_sent("\"http\":{}", KEYED_REQUEST("Idempotency-Key: \"k\"\r\n")), 1);
}

/* How often the pod gets a request that is sent in two parts onto a kept connection, which ends with what `raw` says. */
static int sent_in_parts(const char *raw, const char *first, const char *rest)
{
    struct test_world world;
    struct test_client client;
    test_world_start_with(&world, HONOURS_KEYS, &(struct gateway_settings){.loops = 1});
    test_call_status(world.test.port, TEST_REQUEST("GET", "/x"), 200);
    test_upstream_set_raw(world.upstream, raw);
    int before = test_upstream_requests(world.upstream);
    test_client_open(&client, world.test.port);
    test_client_send(&client, first);
    if (rest[0]) {
        test_wait_until(test_upstream_works, world.upstream, "the head is with the pod");
        test_client_send(&client, rest);
    }
    test_expect_answer(&client, 502, "upstream_closed");
    int sent = test_upstream_requests(world.upstream) - before;
    assert_int_equal(test_upstream_connections(world.upstream), sent); /* the first was the kept one */
    test_client_close(&client);
    test_world_stop(&world);
    return sent;
}

static void test_what_is_not_sent_again(void **state)
{
    (void)state;
    static const char keyed[] =
        "POST /raw/close HTTP/1.1\r\nHost: f.shop.fn.test\r\nIdempotency-Key: \"k\"\r\n"
        "Content-Length: 4\r\n\r\n";
    /* Nothing came back: once more. */
    assert_int_equal(sent_in_parts("", TEST_REQUEST("GET", "/raw/close"), ""), 2);
    assert_int_equal(sent_in_parts("", TEST_REQUEST("OPTIONS", "/raw/close"), ""), 2);
    assert_int_equal(sent_in_parts("", TEST_REQUEST("DELETE", "/raw/close"), ""), 1);
    /* A byte of an answer came, or an interim one. */
    assert_int_equal(sent_in_parts("H", TEST_REQUEST("GET", "/raw/close"), ""), 1);
    assert_int_equal(sent_in_parts("HTTP/1.1 103 E\r\n\r\n", TEST_REQUEST("GET", "/raw/close"), ""), 1);
    /* A part of the body has left, and is not here any more. */
    assert_int_equal(sent_in_parts("", keyed, "body"), 1);
}

static void test_half_an_answer_is_seen_as_such(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    test_world_start(&world, "\"http\":{}");
    test_client_open(&client, world.test.port);
    test_client_send(&client, TEST_REQUEST("GET", "/part"));
    assert_false(test_client_try_read(&client, &answer, false));
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    test_client_close(&client);
    test_wait_until(test_world_nothing_going_on, &world, "slot given back");
    test_world_stop(&world);
}

static void test_deadlines(void **state)
{
    (void)state;
    struct test_world world;
    struct gateway_settings settings = {
        .loops = 2, .client_header_timeout_ms = 300, .client_idle_timeout_ms = 500};
    struct test_client client;
    struct test_answer answer;
    test_world_start_with(&world, "\"timeoutSeconds\":1,\"idleTimeoutSeconds\":1,\"http\":{}", &settings);
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
    test_wait_until(test_world_nothing_going_on, &world, "slots given back");
    test_world_stop(&world);
}

static void test_idle_connections_to_pods_end(void **state)
{
    (void)state;
    struct test_world world;
    test_world_start_with(&world, "\"http\":{}",
                          &(struct gateway_settings){.loops = 1, .upstream_idle_timeout_ms = 200});
    test_call_status(world.test.port, TEST_REQUEST("GET", "/x"), 200);
    assert_int_equal(test_upstream_open(world.upstream), 1);
    test_wait_until(test_upstream_is_alone, world.upstream, "idle connection closed");
    test_world_stop(&world);
}

struct leaving {
    struct gateway *gateway;
    const char *uid;
};

static bool may_leave(void *arg)
{
    struct leaving *leaving = arg;
    return gateway_pod_goodbye(leaving->gateway, leaving->uid);
}

static void test_goodbye(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    test_world_start(&world, "\"http\":{}");
    for (int i = 0; i < 8; i++) {
        test_call_status(world.test.port, TEST_REQUEST("GET", "/x"), 200);
    }
    test_client_open(&client, world.test.port);
    test_client_send(&client, TEST_REQUEST("GET", "/gate"));
    test_wait_until(test_upstream_works, world.upstream, "request in flight");
    assert_false(gateway_pod_goodbye(world.test.gateway, "uid-9"));
    assert_false(gateway_pod_goodbye(world.test.gateway, "uid-1")); /* it must not leave with that request */
    /* Idle ones are closed by now; the kernel may need a moment to tell. */
    struct test_client second;
    test_client_open(&second, world.test.port);
    test_client_send(&second, TEST_REQUEST("GET", "/x"));
    test_wait_until(test_world_one_waiting, &world, "the next request waits");
    test_upstream_open_gate(world.upstream, 1);
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200); /* what is in flight ends well */
    test_answer_release(&answer);
    test_wait_until(test_upstream_is_alone, world.upstream, "no connection kept");
    /* The request is given back a moment after its connection was closed: a pod asks again, too. */
    struct leaving leaving = {world.test.gateway, "uid-1"};
    test_wait_until(may_leave, &leaving, "the pod may leave");
    struct test_upstream *other = test_upstream_new();
    struct sockaddr_in address = test_upstream_address(other);
    test_gateway_pod(&world.test, "f-2", "uid-2", &address, GATEWAY_POD_READY, NULL);
    test_client_read(&second, &answer, false);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    assert_int_equal(test_upstream_requests(other), 1);
    test_client_close(&client);
    test_client_close(&second);
    test_world_stop(&world);
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
    struct test_world world;
    struct test_upstream *pods[6];
    pthread_t threads[4];
    test_world_start(&world, "\"concurrency\":2,\"http\":{}");
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
        test_wait_until(may_leave, &(struct leaving){world.test.gateway, before},
                        "its goodbye is acknowledged");
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
    test_world_stop(&world);
    for (int i = 0; i < 6; i++) {
        assert_in_range(test_upstream_in_flight_max(pods[i]), 1, 2);
        test_upstream_free(pods[i]);
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
        cmocka_unit_test(test_what_is_not_sent_again),
        cmocka_unit_test(test_half_an_answer_is_seen_as_such),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_idle_connections_to_pods_end),
        cmocka_unit_test(test_goodbye),
        cmocka_unit_test(test_pods_come_and_go_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
