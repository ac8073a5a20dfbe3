#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/stop.h"
#include "runtime/base/strbuf.h"
#include "runtime/http/http_client.h"
#include "runtime/tests/support_http_client.h"
#include "runtime/tests/support_socket.h"
#include "runtime/tests/support_test.h"

static struct stop stop;

static int set_up(void **state)
{
    (void)state;
    stop_init(&stop);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    stop_release(&stop);
    return 0;
}

/* A server that misbehaves: each connection, or each request of it, gets the next of the answers. */
struct script {
    const char *const *answers; /* NULL: closes without an answer */
    int count;
    bool one_connection; /* all answers on one connection, then close */
    size_t piece;        /* bytes per send, 0: all at once */
    int64_t hold_ms;     /* quiet after the answer, before closing */
    atomic_int requests;
    struct stop hold;
};

static void send_in_pieces(int fd, const char *text, size_t piece)
{
    size_t len = strlen(text);
    piece = piece ? piece : len;
    for (size_t at = 0; at < len; at += piece) {
        if (send(fd, text + at, len - at < piece ? len - at : piece, MSG_NOSIGNAL) < 0) {
            return;
        }
        if (piece < len) {
            usleep(200);
        }
    }
}

static void serve_script(void *arg, int fd, int number)
{
    (void)number;
    struct script *script = arg;
    char request[4096];
    do {
        if (!socket_read_request(fd, request, sizeof(request))) {
            return;
        }
        int index = atomic_fetch_add(&script->requests, 1);
        const char *answer = index < script->count ? script->answers[index] : NULL;
        if (!answer) {
            return;
        }
        send_in_pieces(fd, answer, script->piece);
    } while (script->one_connection);
    if (script->hold_ms > 0) {
        stop_wait(&script->hold, script->hold_ms);
    }
}

#define OK(body_len, body) "HTTP/1.1 200 OK\r\nContent-Length: " #body_len "\r\n\r\n" body

static void breaks_in_the_answer_are_errors(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nContent-",
        "not http at all\r\n\r\n",
        NULL,
    };
    struct script script = {.answers = answers, .count = ARRAY_SIZE(answers)};
    struct socket_server *faulty = socket_server_start(serve_script, &script);
    struct http_client *client = test_client(socket_server_port(faulty), &stop);
    struct http_client_response response;
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        struct http_client_request request = test_get("/");
        assert_fails(http_client_request(client, &request, &response, &err), ERR_UNAVAILABLE);
        assert_int_equal(response.status, 0);
        assert_int_equal(response.body.len, 0);
    }
    socket_server_stop(faulty);
    struct http_client_request request = test_get("/"); /* nobody listens now */
    assert_fails(http_client_request(client, &request, &response, &err), ERR_UNAVAILABLE);
    http_client_free(client);
}

static void answers_may_come_in_any_pieces(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const answers[] = {
        "HTTP/1.1 100 Continue\r\nRetry-After: 9\r\n\r\nHTTP/1.1 503 Unavailable\r\nretry-after:  2 "
        "\r\nContent-Length: 4\r\n\r\nbusy",
        "HTTP/1.1 503 U\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\nTransfer-Encoding: "
        "chunked\r\n\r\n2;x=y\r\nbu\r\n2\r\nsy\r\n0\r\nT: v\r\n\r\n",
        "HTTP/1.0 503 U\r\nRetry-After: 99999999\r\n\r\nbusy",
    };
    static const int64_t retry_after_ms[] = {2000, 0, 0};
    for (size_t piece = 1; piece <= 7; piece += 3) {
        struct script script = {.answers = answers, .count = ARRAY_SIZE(answers), .piece = piece};
        struct socket_server *slow = socket_server_start(serve_script, &script);
        struct http_client *client = test_client(socket_server_port(slow), &stop);
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
            struct http_client_response response;
            struct http_client_request request = test_get("/");
            assert_ok(http_client_request(client, &request, &response, &err));
            assert_int_equal(response.status, 503);
            assert_string_equal(response.body.buf, "busy");
            assert_int_equal(response.retry_after_ms, retry_after_ms[i]);
            http_client_response_release(&response);
        }
        http_client_free(client);
        socket_server_stop(slow);
    }
}

/* The server closes after each answer, and says so only by doing it: the next request finds a dead connection. */
static void a_connection_closed_meanwhile_is_no_error(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const answers[] = {OK(1, "a"), OK(1, "b"), OK(1, "c"), OK(1, "d")};
    for (int posting = 0; posting < 2; posting++) {
        struct script script = {.answers = answers, .count = ARRAY_SIZE(answers)};
        struct socket_server *closing = socket_server_start(serve_script, &script);
        struct http_client *client = test_client(socket_server_port(closing), &stop);
        for (int i = 0; i < 4; i++) {
            struct http_client_response response;
            struct http_client_request request = test_get("/");
            if (posting) {
                request.method = "POST";
                request.body = "x";
                request.body_len = 1;
            }
            assert_ok(http_client_request(client, &request, &response, &err));
            assert_int_equal(response.body.buf[0], 'a' + i);
            http_client_response_release(&response);
            if (i % 2 == 0) {
                usleep(10000); /* with and without having seen the close */
            }
        }
        http_client_free(client);
        socket_server_stop(closing);
    }
}

/* The close crosses the request on the wire: the server reads it and closes. libcurl tries once more. */
static void a_reused_connection_that_breaks_is_tried_again(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const answers[] = {OK(1, "a"), NULL, OK(1, "b")};
    struct script script = {.answers = answers, .count = ARRAY_SIZE(answers), .one_connection = true};
    struct socket_server *closing = socket_server_start(serve_script, &script);
    struct http_client *client = test_client(socket_server_port(closing), &stop);
    for (int i = 0; i < 2; i++) {
        struct http_client_response response;
        struct http_client_request request = test_get("/");
        assert_ok(http_client_request(client, &request, &response, &err));
        assert_int_equal(response.body.buf[0], 'a' + i);
        http_client_response_release(&response);
    }
    assert_int_equal(atomic_load(&script.requests), 3);
    http_client_free(client);
    socket_server_stop(closing);
}

static void connections_are_reused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const answers[] = {OK(1, "a"), "HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n",
                                          OK(1, "c")};
    struct script script = {.answers = answers, .count = ARRAY_SIZE(answers), .one_connection = true};
    struct socket_server *once = socket_server_start(serve_script, &script);
    struct http_client *client = test_client(socket_server_port(once), &stop);
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        struct http_client_response response;
        struct http_client_request request = test_get("/");
        assert_ok(http_client_request(client, &request, &response, &err));
        http_client_response_release(&response);
    }
    http_client_free(client);
    socket_server_stop(once);
}

static void large_answers_are_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const answers[] = {
        OK(5, "12345"), OK(6, "123456"),
        "HTTP/1.1 500 E\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n2\r\n56\r\n0\r\n\r\n"};
    struct script script = {.answers = answers, .count = ARRAY_SIZE(answers)};
    struct socket_server *large = socket_server_start(serve_script, &script);
    struct http_client *client = test_client(socket_server_port(large), &stop);
    struct http_client_response response;
    struct http_client_request request = test_get("/");
    request.max_response_bytes = 5;
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_string_equal(response.body.buf, "12345");
    http_client_response_release(&response);
    assert_fails(http_client_request(client, &request, &response, &err), ERR_TOO_LARGE);
    assert_int_equal(response.body.len, 0);
    assert_fails(http_client_request(client, &request, &response, &err), ERR_TOO_LARGE);
    http_client_free(client);
    socket_server_stop(large);
}

static void silence_ends_at_the_timeout(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const answers[] = {"", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"};
    struct script script = {.answers = answers, .count = ARRAY_SIZE(answers), .hold_ms = 5000};
    stop_init(&script.hold);
    struct socket_server *silent = socket_server_start(serve_script, &script);
    struct http_client *client = test_client(socket_server_port(silent), &stop);
    struct http_client_response response;
    struct http_client_request request = test_get("/");
    request.timeout_ms = 150;
    int64_t begin_ms = clock_monotonic_ms();
    assert_fails(http_client_request(client, &request, &response, &err), ERR_TIMEOUT);
    assert_in_range(clock_monotonic_ms() - begin_ms, 145, 2000);
    stop_set(&script.hold);
    http_client_free(client);
    socket_server_stop(silent);
    stop_release(&script.hold);
}

static void *set_stop_soon(void *arg)
{
    usleep(100000);
    stop_set(arg);
    return NULL;
}

static void stop_ends_calls_at_once(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"};
    for (int streaming = 0; streaming < 2; streaming++) {
        struct script script = {.answers = answers, .count = 1, .hold_ms = 5000};
        stop_init(&script.hold);
        struct socket_server *silent = socket_server_start(serve_script, &script);
        struct stop cancel;
        stop_init(&cancel);
        CLEANUP_FREE char *url = xasprintf("http://127.0.0.1:%d", socket_server_port(silent));
        const struct http_client_settings settings = {
            .base_url = url, .connect_timeout_ms = 1000, .stop = &cancel};
        struct http_client *client = http_client_new(&settings);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, set_stop_soon, &cancel), 0);
        struct http_client_response response;
        struct http_client_request request = test_get("/");
        CLEANUP_STRBUF struct strbuf got;
        strbuf_init(&got, 100);
        int64_t begin_ms = clock_monotonic_ms();
        if (streaming) {
            assert_fails(http_client_stream(client, &request, test_collect, &got, &response, &err),
                         ERR_CANCELLED);
            assert_string_equal(got.buf, "abc");
        } else {
            assert_fails(http_client_request(client, &request, &response, &err), ERR_CANCELLED);
        }
        assert_in_range(clock_monotonic_ms() - begin_ms, 90, 1000);
        pthread_join(thread, NULL);
        assert_fails(http_client_request(client, &request, &response, &err), ERR_CANCELLED);
        http_client_response_release(&response);
        stop_set(&script.hold);
        http_client_free(client);
        socket_server_stop(silent);
        stop_release(&script.hold);
        stop_release(&cancel);
    }
}

static void streams_end_in_different_ways(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    };
    struct script script = {.answers = answers, .count = ARRAY_SIZE(answers)};
    struct socket_server *ending = socket_server_start(serve_script, &script);
    struct http_client *client = test_client(socket_server_port(ending), &stop);
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        struct http_client_response response;
        struct http_client_request request = test_get("/");
        CLEANUP_STRBUF struct strbuf got;
        strbuf_init(&got, 100);
        if (i < 2) {
            assert_ok(http_client_stream(client, &request, test_collect, &got, &response, &err));
        } else {
            assert_fails(http_client_stream(client, &request, test_collect, &got, &response, &err),
                         ERR_UNAVAILABLE);
        }
        assert_string_equal(got.buf, "abc");
        http_client_response_release(&response);
    }
    http_client_free(client);
    socket_server_stop(ending);
}

/* Longer than the timeout in all, but never silent for that long; then silent. */
static void serve_slowly(void *arg, int fd, int number)
{
    (void)number;
    char request[4096];
    if (!socket_read_request(fd, request, sizeof(request))) {
        return;
    }
    send_in_pieces(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0);
    for (int i = 0; i < 6; i++) {
        usleep(60000);
        send_in_pieces(fd, "1\r\nx\r\n", 0);
    }
    stop_wait(arg, 5000);
}

static void streams_end_after_silence_only(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct stop hold;
    stop_init(&hold);
    struct socket_server *slow = socket_server_start(serve_slowly, &hold);
    struct http_client *client = test_client(socket_server_port(slow), &stop);
    struct http_client_response response;
    struct http_client_request request = test_get("/");
    request.timeout_ms = 250;
    CLEANUP_STRBUF struct strbuf got;
    strbuf_init(&got, 100);
    int64_t begin_ms = clock_monotonic_ms();
    assert_fails(http_client_stream(client, &request, test_collect, &got, &response, &err), ERR_TIMEOUT);
    assert_string_equal(got.buf, "xxxxxx");
    assert_in_range(clock_monotonic_ms() - begin_ms, 600, 3000);
    stop_set(&hold);
    http_client_free(client);
    socket_server_stop(slow);
    stop_release(&hold);
}

int main(void)
{
    http_client_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(breaks_in_the_answer_are_errors),
        cmocka_unit_test(answers_may_come_in_any_pieces),
        cmocka_unit_test(a_connection_closed_meanwhile_is_no_error),
        cmocka_unit_test(a_reused_connection_that_breaks_is_tried_again),
        cmocka_unit_test(connections_are_reused),
        cmocka_unit_test(large_answers_are_refused),
        cmocka_unit_test(silence_ends_at_the_timeout),
        cmocka_unit_test(stop_ends_calls_at_once),
        cmocka_unit_test(streams_end_in_different_ways),
        cmocka_unit_test(streams_end_after_silence_only),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
