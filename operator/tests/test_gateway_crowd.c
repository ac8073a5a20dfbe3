/* Many who want little: idle connections, heads and bodies that come a byte at a time. Nobody else may notice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "operator/tests/support_gateway_world.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

enum { IDLE = 10000, SLOW = 300, MEASURED = 301 };

#define IDLE_MEMORY_KB (16 * 1024)

/* ---- a process of its own that holds the connections: its descriptors are not the gateway's ---- */

struct crowd {
    pid_t pid;
    int fd; /* the parent's end: a port goes in, a byte comes out when all are open; closing it ends them */
};

static void raise_descriptors(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static bool open_one(const struct sockaddr_in *address, int index)
{
    static const char half[] = "GET /x HTTP/1.1\r\nHost: f.shop.fn.test\r\nX-Half: ";
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        return false;
    }
    /* Every other one says nothing, the rest stop in the middle of a head. */
    return index % 2 == 0 || send(fd, half, sizeof(half) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(half) - 1;
}

static void hold_connections(int fd)
{
    int port;
    char done = 0;
    if (read(fd, &port, sizeof(port)) != sizeof(port)) {
        _exit(1);
    }
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    raise_descriptors();
    for (int i = 0; i < IDLE; i++) {
        if (!open_one(&address, i)) {
            _exit(2);
        }
    }
    if (write(fd, &done, 1) != 1 || read(fd, &done, 1) != 0) {
        _exit(3);
    }
    _exit(0);
}

/* Before there are threads. */
static void crowd_start(struct crowd *crowd)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    crowd->pid = fork();
    assert_true(crowd->pid >= 0);
    if (crowd->pid == 0) {
        close(fds[0]);
        hold_connections(fds[1]);
    }
    close(fds[1]);
    crowd->fd = fds[0];
}

static void crowd_gather(struct crowd *crowd, int port)
{
    char done;
    struct pollfd poller = {.fd = crowd->fd, .events = POLLIN};
    assert_int_equal(write(crowd->fd, &port, sizeof(port)), sizeof(port));
    assert_true(poll(&poller, 1, 60000) > 0);
    assert_int_equal(read(crowd->fd, &done, 1), 1);
}

static void crowd_end(struct crowd *crowd)
{
    int status;
    close(crowd->fd);
    assert_int_equal(waitpid(crowd->pid, &status, 0), crowd->pid);
    assert_int_equal(status, 0);
}

/* ---- what others notice ---- */

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Of a request on a kept connection, in microseconds. */
static int64_t median_us(struct test_client *client, const char *text)
{
    int64_t times[MEASURED];
    for (int i = 0; i < MEASURED; i++) {
        struct test_answer answer;
        int64_t start_us = clock_monotonic_us();
        test_client_send(client, text);
        test_client_read(client, &answer, false);
        times[i] = clock_monotonic_us() - start_us;
        assert_int_equal(answer.status, 200);
        test_answer_release(&answer);
    }
    qsort(times, MEASURED, sizeof(times[0]), by_value);
    return times[MEASURED / 2];
}

static void test_idle_connections(void **state)
{
    (void)state;
    struct test_world world;
    struct crowd crowd;
    struct test_client client;
    raise_descriptors();
    crowd_start(&crowd);
    test_world_start_with(&world, "\"http\":{}",
                          &(struct gateway_settings){.loops = 2, .client_header_timeout_ms = 60000});
    test_client_open(&client, world.test.port);
    (void)median_us(&client, TEST_REQUEST("GET", "/x"));
    int64_t alone_us = median_us(&client, TEST_REQUEST("GET", "/x"));
    long before_kb = test_memory_kb();
    crowd_gather(&crowd, world.test.port);
    test_gateway_wait_metric(&world.test, "cicada_gateway_client_connections{listener=\"public\"}", IDLE + 1);
    long grown_kb = test_memory_kb() - before_kb;
    int64_t beside_us = median_us(&client, TEST_REQUEST("GET", "/x"));
    print_message("%d idle connections: %ld KB, median of a request %lld us alone, %lld us beside them\n",
                  IDLE, grown_kb, (long long)alone_us, (long long)beside_us);
#ifndef __SANITIZE_THREAD__ /* which keeps more about memory than the memory is */
    assert_true(grown_kb < IDLE_MEMORY_KB);
#endif
    assert_true(beside_us < 3 * alone_us + 1000);
    crowd_end(&crowd);
    test_gateway_wait_metric(&world.test, "cicada_gateway_client_connections{listener=\"public\"}", 1);
    assert_true(test_gateway_metric(&world.test, "cicada_gateway_shed_connections_total") == 0);
    test_client_close(&client);
    test_world_stop(&world);
}

/* A byte on each of them; counts those that were told 408 already. */
static int drip(struct test_client *clients, int count, const char *text, int at)
{
    int ended = 0;
    for (int i = 0; i < count; i++) {
        ended += test_client_readable(&clients[i], 0) || !test_client_try_send(&clients[i], text + at, 1);
    }
    return ended;
}

static void test_heads_a_byte_at_a_time(void **state)
{
    (void)state;
    static const char text[] = "GET /x HTTP/1.1\r\nHost: f.shop.fn.test\r\nX-Slow: "
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    struct test_world world;
    struct test_client normal;
    CLEANUP_FREE struct test_client *clients = xcalloc(SLOW, sizeof(*clients));
    test_world_start_with(&world, "\"http\":{}",
                          &(struct gateway_settings){.loops = 2, .client_header_timeout_ms = 1000});
    test_client_open(&normal, world.test.port);
    (void)median_us(&normal, TEST_REQUEST("GET", "/x"));
    int64_t alone_us = median_us(&normal, TEST_REQUEST("GET", "/x"));
    for (int i = 0; i < SLOW; i++) {
        test_client_open(&clients[i], world.test.port);
    }
    int64_t start_ms = clock_monotonic_ms();
    assert_int_equal(drip(clients, SLOW, text, 0), 0);
    int64_t beside_us = median_us(&normal, TEST_REQUEST("GET", "/x"));
    int ended = 0;
    for (int at = 1; ended < SLOW && at < (int)sizeof(text) - 1; at++) {
        (void)poll(NULL, 0, 50);
        ended = drip(clients, SLOW, text, at);
    }
    assert_int_equal(ended, SLOW);
    assert_in_range(test_elapsed_ms(start_ms), 950, 6000);
    for (int i = 0; i < SLOW; i++) {
        test_expect_answer(&clients[i], 408, "header_timeout");
        test_client_close(&clients[i]);
    }
    assert_true(beside_us < 3 * alone_us + 1000);
    assert_true(test_gateway_metric(&world.test, "cicada_gateway_requests_total{namespace=\"\",function=\"\","
                                                 "code=\"408\"}") == SLOW);
    test_client_close(&normal);
    test_world_stop(&world);
}

/* Slow bodies have the slots of their own function, for timeoutSeconds at most; another function's requests do not notice. */
static void test_bodies_a_byte_at_a_time(void **state)
{
    (void)state;
    enum { SLOTS = 4 };
    struct test_world world;
    struct test_upstream *other = test_upstream_new();
    struct test_client clients[SLOTS], normal, waits;
    test_world_start(&world, "\"concurrency\":4,\"timeoutSeconds\":2,\"http\":{}");
    test_gateway_function(&world.test, "shop", "g", "\"http\":{}");
    gateway_pod_set(world.test.gateway, &(struct gateway_pod){.namespace = "shop",
                                                              .function = "g",
                                                              .name = "g-1",
                                                              .uid = "uid-g",
                                                              .has_address = true,
                                                              .address = test_upstream_address(other),
                                                              .state = GATEWAY_POD_READY});
    test_client_open(&normal, world.test.port);
    static const char request[] = "GET /x HTTP/1.1\r\nHost: g.shop.fn.test\r\n\r\n";
    (void)median_us(&normal, request);
    int64_t alone_us = median_us(&normal, request);
    for (int i = 0; i < SLOTS; i++) {
        test_client_open(&clients[i], world.test.port);
        test_client_send(&clients[i],
                         "POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 1000\r\n\r\n");
    }
    test_world_wait_statz(&world, "inFlight", SLOTS);
    int64_t start_ms = clock_monotonic_ms();
    test_world_send_and_wait(&world, &waits, TEST_REQUEST("GET", "/x"));
    assert_int_equal(drip(clients, SLOTS, "b", 0), 0);
    int64_t beside_us = median_us(&normal, request);
    while (drip(clients, SLOTS, "b", 0) < SLOTS) {
        assert_true(test_elapsed_ms(start_ms) < 8000);
        (void)poll(NULL, 0, 50);
    }
    for (int i = 0; i < SLOTS; i++) {
        test_expect_answer(&clients[i], 408, "request_timeout");
        test_client_close(&clients[i]);
    }
    test_expect_answer(&waits, 200, NULL);
    assert_true(beside_us < 3 * alone_us + 1000);
    test_client_close(&waits);
    test_client_close(&normal);
    test_world_stop(&world);
    test_upstream_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle_connections),
        cmocka_unit_test(test_heads_a_byte_at_a_time),
        cmocka_unit_test(test_bodies_a_byte_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
