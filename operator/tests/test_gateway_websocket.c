/* WebSockets: which requests become one, bytes both ways, how they end, what they count as. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <sys/socket.h>

#include "operator/tests/support_gateway_world.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define TO        "Host: f.shop.fn.test\r\n"
#define KEY       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION   "Sec-WebSocket-Version: 13\r\n"
#define UPGRADE   "Connection: Upgrade\r\nUpgrade: websocket\r\n"
#define ASK(path) "GET " path " HTTP/1.1\r\n" TO UPGRADE KEY VERSION "\r\n"

static void open_websocket(struct test_world *world, struct test_client *client, const char *text)
{
    struct test_answer answer;
    test_client_open(client, world->test.port);
    test_client_send(client, text);
    test_client_read(client, &answer, false);
    assert_int_equal(answer.status, 101);
    test_answer_release(&answer);
}

/* The next bytes are exactly these. */
static void expect_bytes(struct test_client *client, const char *text)
{
    size_t len = strlen(text);
    char piece[65536];
    while (client->in.len < len) {
        assert_true(test_client_readable(client, TEST_WAIT_MS));
        ssize_t got = recv(client->fd, piece, sizeof(piece), 0);
        if (got <= 0) {
            fail_msg("%s expected, got: %s", text, client->in.buf);
        }
        strbuf_append(&client->in, piece, (size_t)got);
    }
    assert_memory_equal(client->in.buf, text, len);
    strbuf_consume(&client->in, len);
}

/* How many bytes come before the stream's end; *ret_reset: it was not an orderly one. */
static size_t drain(struct test_client *client, bool *ret_reset)
{
    CLEANUP_FREE char *piece = xmalloc(65536);
    size_t total = client->in.len;
    ssize_t got = -1;
    while (test_client_readable(client, TEST_WAIT_MS) && (got = recv(client->fd, piece, 65536, 0)) > 0) {
        total += (size_t)got;
    }
    *ret_reset = got < 0;
    return total;
}

static void test_a_sleeping_function_is_woken_for_it(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    char value[512];
    test_world_start_asleep(&world, "\"http\":{}");
    test_client_open(&client, world.test.port);
    test_client_send(&client, "GET /ws/head?a=b HTTP/1.1\r\n" TO
                              "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" KEY VERSION
                              "Sec-WebSocket-Protocol: chat, x\r\nOrigin: http://a.test\r\n\r\n");
    test_wait_until(test_world_one_waiting, &world, "in line");
    test_wait_until(test_world_woken, &world, "woken");
    test_gateway_pod(&world.test, "f-1", "uid-1", &world.address, GATEWAY_POD_READY, NULL);
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 101);
    assert_string_equal(test_answer_header(&answer, "Connection", value), "Upgrade");
    assert_string_equal(test_answer_header(&answer, "Upgrade", value), "websocket");
    assert_string_equal(test_answer_header(&answer, "Sec-WebSocket-Accept", value),
                        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_string_equal(test_answer_header(&answer, "Sec-WebSocket-Protocol", value), "chat");
    assert_int_equal(strlen(test_answer_header(&answer, "X-Request-Id", value)), 32);
    assert_true(strstr(test_answer_header(&answer, "Server-Timing", value), "decide") != NULL);
    test_answer_release(&answer);
    expect_bytes(&client,
                 "GET /ws/head?a=b HTTP/1.1\r\n" TO KEY VERSION
                 "Sec-WebSocket-Protocol: chat, x\r\nOrigin: http://a.test\r\n" UPGRADE "X-Request-Id: ");
    test_client_close(&client);
    test_world_wait_statz(&world, "inFlight", 0);
    test_world_stop(&world);
}

static void test_what_it_counts_as(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client, second;
    struct test_answer answer;
    test_world_start(&world, "\"concurrency\":1,\"http\":{}");
    open_websocket(&world, &client, ASK("/ws/echo"));
    for (int i = 0; i < 3; i++) {
        test_client_send(&client, "ping");
        expect_bytes(&client, "ping");
    }
    assert_int_equal(test_world_statz(&world, "inFlight"), 1);
    assert_true(test_gateway_metric(&world.test, "cicada_gateway_websockets ") == 1);
    assert_true(test_gateway_metric(
                    &world.test,
                    "cicada_gateway_requests_total{namespace=\"shop\",function=\"f\",code=\"101\"}") == 1);
    test_world_send_and_wait(&world, &second, TEST_REQUEST("GET", "/x")); /* it has the only slot */
    test_client_close(&client);
    test_client_read(&second, &answer, false);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    test_client_close(&second);
    test_wait_until(test_world_nothing_going_on, &world, "slot given back");
    test_gateway_wait_metric(&world.test, "cicada_gateway_websockets ", 0);
    test_gateway_wait_metric(
        &world.test, "cicada_gateway_requests_total{namespace=\"shop\",function=\"f\",code=\"101\"}", 1);
    test_world_stop(&world);
}

static void test_which_requests_ask_for_one(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
        const char *code;
    } cases[] = {
        {"GET /ws/echo HTTP/1.1\r\n" TO UPGRADE KEY VERSION "Content-Length: 0\r\n\r\n", 101, NULL},
        {"GET /ws/echo HTTP/1.1\r\n" TO "Connection: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nUpgrade: "
         "x, WebSocket\r\n" KEY VERSION "\r\n",
         101, NULL},
        /* refused here */
        {"GET /ws/echo HTTP/1.1\r\n" TO UPGRADE VERSION "\r\n", 400, "malformed_websocket"},
        {"GET /ws/echo HTTP/1.1\r\n" TO UPGRADE KEY KEY VERSION "\r\n", 400, "malformed_websocket"},
        {"GET /ws/echo HTTP/1.1\r\n" TO UPGRADE VERSION "Sec-WebSocket-Key: short==\r\n\r\n", 400,
         "malformed_websocket"},
        {"GET /ws/echo HTTP/1.1\r\n" TO UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ--\r\n\r\n",
         400, "malformed_websocket"},
        {"GET /ws/echo HTTP/1.1\r\n" TO
         "Connection: Upgrade, Sec-WebSocket-Key\r\nUpgrade: websocket\r\n" KEY VERSION "\r\n",
         400, "malformed_websocket"},
        {"GET /ws/echo HTTP/1.1\r\n" TO UPGRADE KEY VERSION VERSION "\r\n", 400, "malformed_websocket"},
        {"GET /ws/echo HTTP/1.1\r\n" TO UPGRADE KEY VERSION "Content-Length: 3\r\n\r\nabc", 400,
         "malformed_websocket"},
        {"GET /ws/echo HTTP/1.1\r\n" TO UPGRADE KEY VERSION "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400, "malformed_websocket"},
        {"GET /ws/echo HTTP/1.1\r\n" TO UPGRADE KEY "\r\n", 426, "websocket_version"},
        {"GET /ws/echo HTTP/1.1\r\n" TO UPGRADE KEY "Sec-WebSocket-Version: 8\r\n\r\n", 426,
         "websocket_version"},
        /* ordinary requests: the pod hears nothing of an upgrade */
        {"GET /head HTTP/1.1\r\n" TO "Upgrade: websocket\r\n" KEY VERSION "\r\n", 200, NULL},
        {"GET /head HTTP/1.1\r\n" TO "Connection: Upgrade\r\n" KEY VERSION "\r\n", 200, NULL},
        {"GET /head HTTP/1.1\r\n" TO "Connection: Upgrade\r\nUpgrade: websockets\r\n" KEY VERSION "\r\n", 200,
         NULL},
        {"GET /head HTTP/1.1\r\n" TO
         "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
         200, NULL},
        {"GET /head HTTP/1.0\r\n" TO UPGRADE KEY VERSION "\r\n", 200, NULL},
        {"POST /head HTTP/1.1\r\n" TO UPGRADE KEY VERSION "Content-Length: 0\r\n\r\n", 200, NULL},
    };
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct test_client client;
        struct test_answer answer;
        int before = test_upstream_requests(world.upstream);
        char value[512];
        test_client_open(&client, world.test.port);
        test_client_send(&client, cases[i].text);
        test_client_read(&client, &answer, false);
        if (answer.status != cases[i].status) {
            fail_msg("case %zu: %s%s", i, answer.head.buf, answer.body.buf);
        }
        assert_int_equal(test_upstream_requests(world.upstream) - before, cases[i].code ? 0 : 1);
        if (cases[i].code) {
            assert_true(test_answer_has(&answer, cases[i].code));
            assert_true(test_client_ended(&client, TEST_WAIT_MS));
            assert_string_equal(test_answer_header(&answer, "Sec-WebSocket-Version", value),
                                cases[i].status == 426 ? "13" : "");
        } else if (cases[i].status == 200) {
            assert_false(test_answer_has(&answer, "\r\nUpgrade:"));
            assert_false(test_answer_has(&answer, "\r\nConnection:"));
            assert_false(test_answer_has(&answer, "Settings"));
        }
        test_answer_release(&answer);
        test_client_close(&client);
    }
    test_world_stop(&world);
}

static void test_other_answers_are_ordinary_ones(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *body;
        int status;
    } cases[] = {
        {"HTTP/1.1 401 No\r\nContent-Length: 2\r\nWWW-Authenticate: x\r\n\r\nno", "no", 401},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", 200},
        {"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nUpgrade: websocket\r\nConnection: "
         "upgrade\r\nSec-WebSocket-Version: 99\r\n\r\n",
         "", 426},
        {"HTTP/1.1 101 Switching\r\n\r\n", "malformed_answer", 502},
        {"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n", "malformed_answer", 502},
        {"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", "malformed_answer", 502},
    };
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct test_client client;
        struct test_answer answer;
        int before = test_upstream_requests(world.upstream);
        test_upstream_set_raw(world.upstream, cases[i].raw);
        test_client_open(&client, world.test.port);
        /* What comes behind it may be frames: it is nobody's next request. */
        test_client_send(&client, ASK("/raw") TEST_REQUEST("GET", "/x"));
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, cases[i].status);
        assert_true(test_answer_has(&answer, cases[i].body));
        assert_true(answer.closed);
        assert_true(test_client_ended(&client, TEST_WAIT_MS));
        assert_int_equal(test_upstream_requests(world.upstream) - before, 1);
        test_answer_release(&answer);
        test_client_close(&client);
    }
    test_wait_until(test_world_nothing_going_on, &world, "slots given back");
    /* A 101 that nobody asked for. */
    test_upstream_set_raw(world.upstream,
                          "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
    test_call_status(world.test.port, TEST_REQUEST("GET", "/raw"), 502);
    test_world_stop(&world);
}

/* Bytes that come in one piece with a head belong to the tunnel. */
static void test_early_bytes_are_passed_on(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    test_world_start(&world, "\"http\":{}");
    open_websocket(&world, &client, ASK("/ws/greet") "early");
    expect_bytes(&client, "helloearly");
    test_client_close(&client);
    test_world_stop(&world);
}

/* A client that sends before it knows gets to read all of an answer that is none of a WebSocket's. */
static void test_early_bytes_cost_no_answer(void **state)
{
    (void)state;
    enum { SIZE = 3000000 };
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    test_world_start(&world, "\"http\":{}");
    test_client_open(&client, world.test.port);
    test_client_send(&client, ASK("/size/3000000"));
    assert_true(test_client_readable(&client, TEST_WAIT_MS));
    test_client_send(&client, "frames"); /* nobody reads them */
    (void)poll(NULL, 0, 200);
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body.len, SIZE);
    test_answer_release(&answer);
    test_client_close(&client);
    test_world_stop(&world);
}

static bool pod_counted(void *upstream)
{
    return test_upstream_tunnel_bytes(upstream) >= 0;
}

static void test_each_direction_ends_on_its_own(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    bool reset;
    test_world_start(&world, "\"http\":{}");
    /* The client first: the pod still says how much it got. */
    open_websocket(&world, &client, ASK("/ws/count"));
    CLEANUP_FREE char *piece = xcalloc(1, 3000000);
    memset(piece, 'p', 3000000);
    assert_true(test_client_try_send(&client, piece, 3000000));
    shutdown(client.fd, SHUT_WR);
    expect_bytes(&client, "3000000");
    assert_true(test_client_ended(&client, TEST_WAIT_MS));
    test_client_close(&client);
    test_world_wait_statz(&world, "inFlight", 0);
    /* The pod first: the client still gets rid of all it has. */
    open_websocket(&world, &client, ASK("/ws/send/5000000"));
    assert_int_equal(drain(&client, &reset), 5000000);
    assert_false(reset);
    assert_int_equal(test_world_statz(&world, "inFlight"), 1);
    assert_true(test_client_try_send(&client, piece, 3000000));
    test_client_close(&client);
    test_wait_until(pod_counted, world.upstream, "the pod saw the client's end");
    assert_int_equal(test_upstream_tunnel_bytes(world.upstream), 3000000);
    test_world_wait_statz(&world, "inFlight", 0);
    /* The pod closes: the client sees it, and what it answers to that ends the rest. */
    open_websocket(&world, &client, ASK("/ws/close"));
    assert_true(test_client_ended(&client, TEST_WAIT_MS));
    test_client_close(&client);
    test_world_wait_statz(&world, "inFlight", 0);
    test_world_stop(&world);
}

static void test_breaking_off_is_passed_on(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    bool reset;
    test_world_start(&world, "\"http\":{}");
    open_websocket(&world, &client, ASK("/ws/reset"));
    test_client_send(&client, "go");
    assert_int_equal(drain(&client, &reset), 0);
    test_client_close(&client);
    test_world_wait_statz(&world, "inFlight", 0);
    test_gateway_wait_metric(&world.test, "cicada_gateway_upstream_failures_total", 1);
    open_websocket(&world, &client, ASK("/ws/echo"));
    test_client_send(&client, "ping");
    expect_bytes(&client, "ping");
    test_client_reset(&client);
    test_world_wait_statz(&world, "inFlight", 0);
    test_wait_until(test_upstream_is_alone, world.upstream, "the pod's connection closed");
    test_world_stop(&world);
}

/* Who takes nothing stops the other side; all arrives later. */
static void test_backpressure(void **state)
{
    (void)state;
    enum { PIECE = 100000, PIECES_MAX = 1000 };
    struct test_world world;
    struct test_client client;
    int small = 32 * 1024;
    bool reset;
    char expected[32];
    CLEANUP_FREE char *piece = xcalloc(1, PIECE);
    test_world_start(&world, "\"http\":{}");
    open_websocket(&world, &client, ASK("/ws/stall"));
    size_t sent = 0;
    struct pollfd room = {.fd = client.fd, .events = POLLOUT};
    while (poll(&room, 1, 300) > 0) {
        ssize_t got = send(client.fd, piece, PIECE, MSG_NOSIGNAL | MSG_DONTWAIT);
        assert_true(got > 0);
        sent += (size_t)got;
        assert_true(sent <
                    (size_t)PIECE *
                        PIECES_MAX); /* the kernel's buffers and one reading, not the gateway's memory */
    }
    for (int i = 0; i < 5; i++) { /* others are served meanwhile */
        test_call_status(world.test.port, TEST_REQUEST("GET", "/x"), 200);
    }
    test_upstream_open_gate(world.upstream, 1);
    shutdown(client.fd, SHUT_WR);
    snprintf(expected, sizeof(expected), "%zu", sent);
    expect_bytes(&client, expected);
    test_client_close(&client);
    test_client_open(&client, world.test.port);
    setsockopt(client.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    test_client_send(&client, ASK("/ws/send/50000000"));
    (void)poll(NULL, 0, 300);
    assert_int_equal(test_upstream_tunnel_bytes(world.upstream), -1);
    shutdown(client.fd, SHUT_WR);
    assert_true(drain(&client, &reset) > 50000000);
    assert_false(reset);
    test_client_close(&client);
    test_world_wait_statz(&world, "inFlight", 0);
    test_world_stop(&world);
}

static void test_silence_ends_it(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client, quiet;
    test_world_start(&world, "\"timeoutSeconds\":1,\"idleTimeoutSeconds\":1,\"http\":{}");
    open_websocket(&world, &client, ASK("/ws/echo"));
    open_websocket(&world, &quiet, ASK("/ws/stall"));
    int64_t start_ms = clock_monotonic_ms();
    while (test_elapsed_ms(start_ms) < 2500) {
        test_client_send(&client, "ping");
        expect_bytes(&client, "ping");
        (void)poll(NULL, 0, 200);
    }
    assert_true(test_client_ended(&quiet, 0)); /* long ago */
    assert_int_equal(test_world_statz(&world, "inFlight"), 1);
    start_ms = clock_monotonic_ms();
    assert_true(test_client_ended(&client, TEST_WAIT_MS));
    assert_in_range(test_elapsed_ms(start_ms), 500, 3000);
    test_client_close(&client);
    test_client_close(&quiet);
    /* A pod that says neither yes nor no. */
    test_client_open(&client, world.test.port);
    test_client_send(&client, ASK("/hang"));
    test_expect_answer(&client, 504, "function_timeout");
    test_client_close(&client);
    test_world_stop(&world);
}

/* A gateway that is to leave waits for it; at its limit it ends. */
static void test_drain(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    test_world_start(&world, "\"http\":{}");
    open_websocket(&world, &client, ASK("/ws/echo"));
    gateway_drain(world.test.gateway);
    (void)poll(NULL, 0, 100);
    test_client_send(&client, "ping");
    expect_bytes(&client, "ping");
    assert_false(gateway_quiet(world.test.gateway, 0));
    gateway_stop(world.test.gateway);
    assert_true(test_client_ended(&client, TEST_WAIT_MS));
    test_client_close(&client);
    test_world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sleeping_function_is_woken_for_it),
        cmocka_unit_test(test_what_it_counts_as),
        cmocka_unit_test(test_which_requests_ask_for_one),
        cmocka_unit_test(test_other_answers_are_ordinary_ones),
        cmocka_unit_test(test_early_bytes_are_passed_on),
        cmocka_unit_test(test_early_bytes_cost_no_answer),
        cmocka_unit_test(test_each_direction_ends_on_its_own),
        cmocka_unit_test(test_breaking_off_is_passed_on),
        cmocka_unit_test(test_backpressure),
        cmocka_unit_test(test_silence_ends_it),
        cmocka_unit_test(test_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
