/* What streams, by TLS: WebSockets, large bodies, slow readers, requests in a row, and ends that come from either side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "operator/tests/support_gateway_tls.h"
#include "operator/tests/support_gateway_world.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define OWN_NAME        "f.shop.fn.test"
#define TO              "Host: " OWN_NAME "\r\n"
#define MEGABYTE        (1u << 20)
#define LARGE_BYTES     (40u * MEGABYTE)
#define MEMORY_SLACK_KB 12000
#define ASK(path)                                                                                            \
    "GET " path " HTTP/1.1\r\n" TO "Connection: Upgrade\r\nUpgrade: websocket\r\n"                           \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

static void start(struct test_tls_scene *scene)
{
    test_tls_scene_start(scene, "\"limits\":{\"bodyBytes\":1073741824},\"http\":{\"tlsSecretName\":\"s\"}", 2,
                         OWN_NAME);
}

static void open_client(struct test_tls_scene *scene, struct test_client *client)
{
    test_tls_open(client, scene->world.test.tls_port, scene->context, OWN_NAME);
}

static void expect_granted(struct test_client *client)
{
    struct test_answer answer;
    test_client_read(client, &answer, false);
    assert_int_equal(answer.status, 101);
    test_answer_release(&answer);
}

/* How many bytes come until the end, which is told. */
static size_t drain(struct test_client *client)
{
    CLEANUP_FREE char *piece = xmalloc(65536);
    size_t total = client->in.len;
    ssize_t got;
    strbuf_clear(&client->in);
    while ((got = test_client_receive(client, piece, 65536)) > 0) {
        total += (size_t)got;
    }
    if (got < 0) {
        fail_msg("the end after %zu bytes was not told", total);
    }
    return total;
}

static void expect_bytes(struct test_client *client, const char *text)
{
    for (; *text; text++) {
        char byte = client->in.len > 0 ? client->in.buf[0] : 0;
        if (client->in.len > 0) {
            strbuf_consume(&client->in, 1);
        } else {
            assert_int_equal(test_client_receive(client, &byte, 1), 1);
        }
        assert_int_equal(byte, *text);
    }
}

static bool pod_counted(void *upstream)
{
    return test_upstream_tunnel_bytes(upstream) >= 0;
}

/* ---- WebSockets ---- */

static void test_websocket_both_ways(void **state)
{
    (void)state;
    struct test_tls_scene scene;
    struct test_client client;
    CLEANUP_FREE char *piece = xcalloc(1, 3 * MEGABYTE);
    start(&scene);
    open_client(&scene, &client);
    test_client_send(&client, ASK("/ws/echo"));
    expect_granted(&client);
    for (int i = 0; i < 100; i++) {
        test_client_send(&client, "ping");
        expect_bytes(&client, "ping");
    }
    SSL_shutdown(client.ssl);
    assert_int_equal(drain(&client), 0);
    test_client_close(&client);
    /* The client first: the pod still says how much it got. */
    open_client(&scene, &client);
    test_client_send(&client, ASK("/ws/count"));
    expect_granted(&client);
    assert_true(test_client_try_send(&client, piece, 3 * MEGABYTE));
    SSL_shutdown(client.ssl);
    expect_bytes(&client, "3145728");
    assert_int_equal(drain(&client), 0);
    test_client_close(&client);
    /* The pod first: the client still gets rid of all it has. */
    open_client(&scene, &client);
    test_client_send(&client, ASK("/ws/send/5000000"));
    expect_granted(&client);
    assert_int_equal(drain(&client), 5000000);
    assert_true(test_client_try_send(&client, piece, 3 * MEGABYTE));
    SSL_shutdown(client.ssl);
    test_wait_until(pod_counted, scene.world.upstream, "the pod saw the client's end");
    assert_int_equal(test_upstream_tunnel_bytes(scene.world.upstream), 3 * MEGABYTE);
    test_client_close(&client);
    test_world_wait_statz(&scene.world, "inFlight", 0);
    test_tls_scene_stop(&scene);
}

static void test_websocket_backpressure(void **state)
{
    (void)state;
    struct test_tls_scene scene;
    struct test_client client;
    start(&scene);
    open_client(&scene, &client);
    test_client_send(&client, ASK("/ws/send/50000000"));
    (void)poll(NULL, 0, 300);
    assert_int_equal(test_upstream_tunnel_bytes(scene.world.upstream), -1);
    expect_granted(&client);
    assert_int_equal(drain(&client), 50000000);
    SSL_shutdown(client.ssl);
    test_wait_until(pod_counted, scene.world.upstream, "the pod saw the client's end");
    test_client_close(&client);
    test_world_wait_statz(&scene.world, "inFlight", 0);
    test_tls_scene_stop(&scene);
}

/* ---- a socket without room ---- */

static uint16_t port_of(int fd, int (*name)(int, struct sockaddr *restrict, socklen_t *restrict))
{
    struct sockaddr_in address = {0};
    socklen_t len = sizeof(address);
    return name(fd, (struct sockaddr *)&address, &len) == 0 ? ntohs(address.sin_port) : 0;
}

/* The gateway is in this process: its end of the client's connection. */
static int gateway_fd_of(const struct test_client *client)
{
    uint16_t port = port_of(client->fd, getsockname);
    for (int fd = 3; fd < 1024; fd++) {
        if (port_of(fd, getpeername) == port) {
            return fd;
        }
    }
    fail_msg("the gateway has not accepted it");
    return -1;
}

/* A connection both of whose ends have room for next to nothing. */
static void open_narrow(struct test_tls_scene *scene, struct test_client *client)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)scene->world.test.tls_port)};
    int narrow = 1, alert;
    *client = (struct test_client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    strbuf_init(&client->in, MEGABYTE);
    setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &narrow, sizeof(narrow));
    assert_int_equal(connect(client->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_true(test_tls_shake_hands(client, scene->context, OWN_NAME, &alert));
    setsockopt(gateway_fd_of(client), SOL_SOCKET, SO_SNDBUF, &narrow, sizeof(narrow));
}

/* Both sides have ended, and the last byte has just filled the socket: that the stream is over is told when there is room again. Which
 * sizes fill it is the kernel's to say; of these about a third did. */
static void test_the_end_waits_for_room(void **state)
{
    (void)state;
    enum { SIZE_FIRST = 3000, SIZES = 60 };
    struct test_tls_scene scene;
    start(&scene);
    for (size_t size = SIZE_FIRST; size < SIZE_FIRST + SIZES; size++) {
        struct test_client client;
        CLEANUP_FREE char *request = xasprintf(ASK("/ws/send/%zu"), size);
        open_narrow(&scene, &client);
        test_client_send(&client, request);
        SSL_shutdown(client.ssl);
        expect_granted(&client);
        test_wait_until(test_upstream_is_alone, scene.world.upstream, "the pod saw both ends");
        (void)poll(NULL, 0, 2);
        assert_int_equal(drain(&client), size);
        test_client_close(&client);
    }
    test_world_wait_statz(&scene.world, "inFlight", 0);
    test_tls_scene_stop(&scene);
}

/* ---- bodies ---- */

static void upload(struct test_tls_scene *scene, bool chunked)
{
    enum { PIECE = 60000 };
    struct test_client client;
    size_t count = LARGE_BYTES / PIECE;
    CLEANUP_FREE char *piece = xcalloc(1, PIECE);
    CLEANUP_FREE char *head =
        chunked ? xstrdup("POST /count HTTP/1.1\r\n" TO "Transfer-Encoding: chunked\r\n\r\n")
                : xasprintf("POST /count HTTP/1.1\r\n" TO "Content-Length: %zu\r\n\r\n", count * PIECE);
    CLEANUP_FREE char *line = xasprintf("%x\r\n", PIECE), *expected = xasprintf("%zu ", count * PIECE);
    open_client(scene, &client);
    test_client_send(&client, head);
    for (size_t i = 0; i < count; i++) {
        assert_true(!chunked || test_client_try_send(&client, line, strlen(line)));
        assert_true(test_client_try_send(&client, piece, PIECE));
        assert_true(!chunked || test_client_try_send(&client, "\r\n", 2));
    }
    assert_true(!chunked || test_client_try_send(&client, "0\r\n\r\n", 5));
    test_expect_answer(&client, 200, expected);
    test_client_close(&client);
}

static void download(struct test_tls_scene *scene, const char *request, size_t size)
{
    struct test_client client;
    open_client(scene, &client);
    test_client_send(&client, request);
    assert_true(drain(&client) >= size);
    test_client_close(&client);
}

static void test_large_bodies_in_constant_memory(void **state)
{
    (void)state;
    struct test_tls_scene scene;
    start(&scene);
    upload(&scene, false);
    download(&scene, "GET /size/1000000 HTTP/1.0\r\n" TO "\r\n", 1000000);
    long before = test_peak_memory_kb();
    (void)before;
    upload(&scene, false);
    upload(&scene, true);
    download(&scene, "GET /size/41943040 HTTP/1.0\r\n" TO "\r\n", LARGE_BYTES);
    download(&scene, "GET /chunks/800/50000 HTTP/1.1\r\n" TO "Connection: close\r\n\r\n", 40000000);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they keep what was freed for a while */
    assert_true(test_peak_memory_kb() - before < MEMORY_SLACK_KB);
#endif
    test_tls_scene_stop(&scene);
}

/* A client that does not read stops the pod, not the gateway's memory; later it gets every byte. */
static void test_a_slow_reader_holds_the_pod_back(void **state)
{
    (void)state;
    struct test_tls_scene scene;
    struct test_client client;
    start(&scene);
    long before = test_peak_memory_kb();
    open_narrow(&scene, &client);
    test_client_send(&client, "GET /size/41943040 HTTP/1.0\r\n" TO "\r\n");
    for (int i = 0; i < 8; i++) {
        (void)poll(NULL, 0, 50);
        assert_int_equal(test_upstream_in_flight(scene.world.upstream), 1);
    }
    assert_true(test_peak_memory_kb() - before < MEMORY_SLACK_KB);
    test_call_status(scene.world.test.port, TEST_REQUEST("GET", "/x"), 200); /* others are served meanwhile */
    test_client_close(&client);
    download(&scene, "GET /size/41943040 HTTP/1.0\r\n" TO "\r\n", LARGE_BYTES);
    test_world_wait_statz(&scene.world, "inFlight", 0);
    test_tls_scene_stop(&scene);
}

/* Each piece comes back before the next is sent: nothing is buffered on the way. */
static void test_pieces_are_not_held_back(void **state)
{
    (void)state;
    struct test_tls_scene scene;
    struct test_client client;
    struct test_answer answer;
    start(&scene);
    open_client(&scene, &client);
    test_client_send(&client,
                     "POST /duplex HTTP/1.1\r\n" TO "Transfer-Encoding: chunked\r\n\r\n6\r\nping-0\r\n");
    test_client_read(&client, &answer, /* head_only= */ true);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    expect_bytes(&client, "6\r\nping-0\r\n");
    for (int i = 1; i < 10; i++) {
        CLEANUP_FREE char *piece = xasprintf("6\r\nping-%d\r\n", i);
        test_client_send(&client, piece);
        expect_bytes(&client, piece);
    }
    test_client_send(&client, "0\r\n\r\n");
    expect_bytes(&client, "0\r\n\r\n");
    test_client_close(&client);
    test_tls_scene_stop(&scene);
}

/* ---- ends, and what comes in a row ---- */

/* The client says that it will send nothing more; the whole answer still comes, and then the gateway's end. */
static void test_a_client_that_has_ended_gets_its_answer(void **state)
{
    (void)state;
    struct test_tls_scene scene;
    struct test_client client;
    struct test_answer answer;
    start(&scene);
    for (int closes = 0; closes < 2; closes++) { /* its socket, too */
        open_client(&scene, &client);
        test_client_send(&client, TEST_REQUEST("GET", "/size/20000000"));
        char begun[4096];
        ssize_t got = test_client_receive(&client, begun, sizeof(begun));
        assert_true(got > 0);
        strbuf_append(&client.in, begun, (size_t)got);
        SSL_shutdown(client.ssl);
        if (closes) {
            shutdown(client.fd, SHUT_WR);
        }
        (void)poll(NULL, 0, 50);
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.body.len, 20000000);
        assert_false(answer.closed);
        test_answer_release(&answer);
        assert_int_equal(drain(&client), 0);
        test_client_close(&client);
    }
    test_gateway_wait_metric(&scene.world.test, "cicada_gateway_client_connections{listener=\"tls\"}", 0);
    test_tls_scene_stop(&scene);
}

/* Half a request that will never be whole: nobody waits for an answer to it. */
static void test_a_client_that_ends_within_a_request(void **state)
{
    (void)state;
    static const char *const halves[] = {
        "GET / HTTP/1.1\r\nHost: ", "POST /count HTTP/1.1\r\n" TO "Content-Length: 10\r\n\r\nhalf",
        "POST /count HTTP/1.1\r\n" TO "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"};
    struct test_tls_scene scene;
    start(&scene);
    for (size_t i = 0; i < ARRAY_SIZE(halves); i++) {
        struct test_client client;
        char byte;
        open_client(&scene, &client);
        test_client_send(&client, halves[i]);
        (void)poll(NULL, 0, 20);
        SSL_shutdown(client.ssl);
        assert_true(test_client_receive(&client, &byte, 1) <= 0);
        test_client_close(&client);
        test_wait_until(test_upstream_is_alone, scene.world.upstream, "the pod heard of it");
    }
    test_gateway_wait_metric(&scene.world.test, "cicada_gateway_client_connections{listener=\"tls\"}", 0);
    test_tls_scene_stop(&scene);
}

/* All sent before the first answer is read, in full records and torn ones, with the client's end behind them. */
static void test_requests_in_a_row(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    struct test_tls_scene scene;
    struct test_client client;
    struct test_answer answer;
    CLEANUP_STRBUF struct strbuf all;
    start(&scene);
    strbuf_init(&all, MEGABYTE);
    for (int i = 0; i < COUNT; i++) {
        strbuf_appendf(&all, "POST /echo HTTP/1.1\r\n" TO "Content-Length: 4\r\n\r\n%04d", i);
    }
    open_client(&scene, &client);
    assert_true(test_client_try_send(&client, all.buf, 100));
    assert_true(test_client_try_send(&client, all.buf + 100, all.len - 100));
    SSL_shutdown(client.ssl);
    for (int i = 0; i < COUNT; i++) {
        CLEANUP_FREE char *expected = xasprintf("%04d", i);
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, 200);
        assert_string_equal(answer.body.buf, expected);
        test_answer_release(&answer);
    }
    assert_int_equal(drain(&client), 0);
    test_client_close(&client);
    test_tls_scene_stop(&scene);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_websocket_both_ways),
        cmocka_unit_test(test_websocket_backpressure),
        cmocka_unit_test(test_the_end_waits_for_room),
        cmocka_unit_test(test_large_bodies_in_constant_memory),
        cmocka_unit_test(test_a_slow_reader_holds_the_pod_back),
        cmocka_unit_test(test_pieces_are_not_held_back),
        cmocka_unit_test(test_a_client_that_has_ended_gets_its_answer),
        cmocka_unit_test(test_a_client_that_ends_within_a_request),
        cmocka_unit_test(test_requests_in_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
