/* Bodies that stream: large ones in constant memory, both ways at once, and as slow as the slower side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "operator/tests/support_gateway.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define LARGE_BYTES     (100u << 20)
#define MEMORY_SLACK_KB 12000

struct world {
    struct test_gateway test;
    struct test_upstream *upstream;
};

static void start(struct world *world)
{
    world->upstream = test_upstream_new();
    test_gateway_start(&world->test, NULL);
    test_gateway_function(&world->test, "shop", "f",
                          "\"timeoutSeconds\":300,\"limits\":{\"bodyBytes\":1073741824},\"http\":{}");
    struct sockaddr_in address = test_upstream_address(world->upstream);
    test_gateway_pod(&world->test, "f-1", "uid-1", &address, GATEWAY_POD_READY, NULL);
    gateway_catalog_synced(world->test.gateway);
}

static void stop(struct world *world)
{
    test_gateway_stop(&world->test);
    test_upstream_free(world->upstream);
}

static unsigned pattern_sum(const char *piece, size_t len, unsigned sum)
{
    for (size_t i = 0; i < len; i++) {
        sum = sum * 31 + (unsigned char)piece[i];
    }
    return sum;
}

static void upload(struct world *world, bool chunked)
{
    enum { PIECE = 60000 };
    struct test_client client;
    struct test_answer answer;
    CLEANUP_FREE char *piece = xmalloc(PIECE);
    for (int i = 0; i < PIECE; i++) {
        piece[i] = (char)(i * 7 % 251);
    }
    char head[256], line[32];
    size_t count = LARGE_BYTES / PIECE;
    unsigned sum = 0;
    if (chunked) {
        snprintf(head, sizeof(head),
                 "POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    } else {
        snprintf(head, sizeof(head),
                 "POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: %zu\r\n\r\n",
                 count * PIECE);
    }
    test_client_open(&client, world->test.port);
    test_client_send(&client, head);
    snprintf(line, sizeof(line), "%x\r\n", PIECE);
    for (size_t i = 0; i < count; i++) {
        sum = pattern_sum(piece, PIECE, sum);
        assert_true(!chunked || test_client_try_send(&client, line, strlen(line)));
        assert_true(test_client_try_send(&client, piece, PIECE));
        assert_true(!chunked || test_client_try_send(&client, "\r\n", 2));
    }
    if (chunked) {
        test_client_send(&client, "0\r\n\r\n");
    }
    test_client_read(&client, &answer, false);
    CLEANUP_FREE char *expected = xasprintf("%zu %u", count * PIECE, sum);
    assert_string_equal(answer.body.buf, expected);
    test_answer_release(&answer);
    test_client_close(&client);
}

static void test_large_uploads_in_constant_memory(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    upload(&world, false);
    long before = test_peak_memory_kb();
    upload(&world, false);
    upload(&world, true);
    assert_true(test_peak_memory_kb() - before < MEMORY_SLACK_KB);
    stop(&world);
}

/* Reads an answer of unknown size without keeping it; returns how many bytes came after the head. */
static size_t drain_answer(struct test_client *client, size_t stop_at)
{
    CLEANUP_FREE char *piece = xmalloc(1 << 16);
    size_t total = 0;
    while (total < stop_at && test_client_readable(client, TEST_WAIT_MS)) {
        ssize_t got = recv(client->fd, piece, 1 << 16, 0);
        if (got <= 0) {
            break;
        }
        total += (size_t)got;
    }
    return total;
}

static void test_large_answers_in_constant_memory(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    start(&world);
    long before = 0;
    for (int i = 0; i < 3; i++) {
        static const char *const requests[] = {TEST_REQUEST("GET", "/size/10000000"),
                                               TEST_REQUEST("GET", "/size/104857600"),
                                               TEST_REQUEST("GET", "/chunks/2000/50000")};
        static const size_t sizes[] = {10000000, 104857600, 100000000};
        test_client_open(&client, world.test.port);
        test_client_send(&client, requests[i]);
        assert_true(drain_answer(&client, sizes[i]) >= sizes[i]);
        test_client_close(&client);
        before = i == 0 ? test_peak_memory_kb() : before;
    }
    assert_true(test_peak_memory_kb() - before < MEMORY_SLACK_KB);
    stop(&world);
}

/* A client that does not read stops the pod, not the gateway's memory; later it gets every byte. */
static void test_a_slow_reader_holds_the_pod_back(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    int small = 32 * 1024;
    start(&world);
    long before = test_peak_memory_kb();
    test_client_open(&client, world.test.port);
    setsockopt(client.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    test_client_send(&client, TEST_REQUEST("GET", "/size/104857600"));
    assert_true(test_client_readable(&client, TEST_WAIT_MS));
    int64_t until_ms = clock_monotonic_ms() + 400;
    while (clock_monotonic_ms() < until_ms) {
        (void)poll(NULL, 0, 50);
        assert_int_equal(test_upstream_in_flight(world.upstream), 1);
    }
    assert_true(test_peak_memory_kb() - before < MEMORY_SLACK_KB);
    /* Others are served meanwhile. */
    for (int i = 0; i < 10; i++) {
        test_call_status(world.test.port, TEST_REQUEST("GET", "/x"), 200);
    }
    assert_true(drain_answer(&client, 104857600) >= 104857600);
    test_client_close(&client);
    stop(&world);
}

struct sender {
    struct test_client *client;
    size_t count;
};

static void *send_pieces(void *arg)
{
    struct sender *sender = arg;
    CLEANUP_FREE char *piece = xmalloc(40010);
    memcpy(piece, "9c40\r\n", 6);
    memset(piece + 6, 'd', 40000);
    memcpy(piece + 40006, "\r\n", 2);
    for (size_t i = 0; i < sender->count; i++) {
        if (!test_client_try_send(sender->client, piece, 40008)) {
            return NULL;
        }
    }
    (void)test_client_try_send(sender->client, "0\r\n\r\n", 5);
    return NULL;
}

static void test_both_ways_at_once(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    struct test_answer answer;
    pthread_t thread;
    start(&world);
    test_client_open(&client, world.test.port);
    test_client_send(&client,
                     "POST /duplex HTTP/1.1\r\nHost: f.shop.fn.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    struct sender sender = {&client, 1000};
    assert_int_equal(pthread_create(&thread, NULL, send_pieces, &sender), 0);
    test_client_read(&client, &answer, false);
    pthread_join(thread, NULL);
    assert_int_equal(answer.body.len, 40000000);
    assert_true(answer.closed); /* the answer began before the request's end was known */
    test_answer_release(&answer);
    test_client_close(&client);
    stop(&world);
}

/* Each piece comes back before the next is sent: nothing is buffered on the way. */
static void test_pieces_are_not_held_back(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    char piece[64], back[512];
    start(&world);
    test_client_open(&client, world.test.port);
    test_client_send(&client,
                     "POST /duplex HTTP/1.1\r\nHost: f.shop.fn.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    size_t have = 0;
    for (int i = 0; i < 10; i++) {
        snprintf(piece, sizeof(piece), "6\r\nping-%d\r\n", i);
        test_client_send(&client, piece);
        have = 0;
        while (have < strlen(piece) || memmem(back, have, piece + 3, 6) == NULL) {
            assert_true(test_client_readable(&client, TEST_WAIT_MS));
            ssize_t got = recv(client.fd, back + have, sizeof(back) - have, 0);
            assert_true(got > 0);
            have += (size_t)got;
        }
    }
    test_client_send(&client, "0\r\n\r\n");
    assert_true(drain_answer(&client, 5) >= 5);
    test_client_close(&client);
    stop(&world);
}

/* A pod that answers before it has read the body, and closes: the client gets to read that answer. */
static void test_an_early_answer_arrives(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    for (int i = 0; i < 10; i++) {
        struct test_client client;
        struct test_answer answer;
        CLEANUP_FREE char *body = xcalloc(1, 3000000);
        memset(body, 'e', 3000000);
        test_client_open(&client, world.test.port);
        test_client_send(&client,
                         "POST /early HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 3000000\r\n\r\n");
        (void)test_client_try_send(&client, body, 300000 + (size_t)i * 100000);
        test_client_read(&client, &answer, false);
        assert_true(answer.status == 413 ||
                    answer.status == 502); /* 502: the pod's RST overtook its answer */
        assert_true(answer.closed);
        test_answer_release(&answer);
        test_client_close(&client);
    }
    stop(&world);
}

static bool nothing_in_flight(void *world)
{
    return test_gateway_statz(&((struct world *)world)->test, "inFlight") == 0;
}

static void test_a_client_that_goes_in_the_middle(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    start(&world);
    test_client_open(&client, world.test.port);
    test_client_send(&client, TEST_REQUEST("GET", "/size/104857600"));
    assert_true(drain_answer(&client, 100000) >= 100000);
    test_client_close(&client);
    test_wait_until(nothing_in_flight, &world, "slot given back after an aborted download");
    test_client_open(&client, world.test.port);
    test_client_send(&client,
                     "POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 1000000\r\n\r\nhalf");
    test_client_close(&client);
    test_wait_until(nothing_in_flight, &world, "slot given back after an aborted upload");
    stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_uploads_in_constant_memory),
        cmocka_unit_test(test_large_answers_in_constant_memory),
        cmocka_unit_test(test_a_slow_reader_holds_the_pod_back),
        cmocka_unit_test(test_both_ways_at_once),
        cmocka_unit_test(test_pieces_are_not_held_back),
        cmocka_unit_test(test_an_early_answer_arrives),
        cmocka_unit_test(test_a_client_that_goes_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
