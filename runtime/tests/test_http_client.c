#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/stop.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/http/http_client.h"
#include "runtime/http/http_server.h"
#include "runtime/tests/support_socket.h"
#include "runtime/tests/support_test.h"

#define MAX_BYTES 100000

/* ---- a server that says what it was asked ---- */

static struct http_server *server;
static struct stop stop;

static void handler(void *arg, struct http_request *req)
{
    (void)arg;
    struct err err = ERR_INIT;
    const char *path = http_request_raw_path(req);
    const char *body = NULL;
    size_t len = 0;
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 1u << 20);
    if (http_request_body(req, clock_monotonic_ms() + 5000, &body, &len, &err) < 0) {
        return;
    }
    if (strcmp(path, "/show") == 0) {
        strbuf_appendf(&out, "%s %s?%s\n", http_request_method(req), path,
                       http_request_query(req) ? http_request_query(req) : "");
        for (size_t i = 0; i < http_request_header_count(req); i++) {
            const struct http_header *header = &http_request_headers(req)[i];
            strbuf_appendf(&out, "%s: %s\n", header->name, header->value);
        }
        strbuf_appendf(&out, "[%.*s]", (int)len, body);
        (void)!http_request_respond(req, 200, NULL, 0, out.buf, out.len, &err);
    } else if (strcmp(path, "/busy") == 0) {
        static const struct http_header headers[] = {{"Retry-After", "3"}};
        (void)!http_request_respond(req, 429, headers, 1, "slow down", 9, &err);
    } else if (strcmp(path, "/redirect") == 0) {
        static const struct http_header headers[] = {{"Location", "/show"}};
        (void)!http_request_respond(req, 302, headers, 1, NULL, 0, &err);
    } else if (strcmp(path, "/pieces") == 0) {
        (void)!http_request_stream_begin(req, 200, NULL, 0, &err);
        for (int i = 0; i < 50; i++) {
            char line[32];
            snprintf(line, sizeof(line), "line %d\n", i);
            (void)!http_request_stream_chunk(req, line, strlen(line), &err);
        }
        (void)!http_request_stream_end(req, &err);
    } else {
        (void)!http_request_respond(req, 404, NULL, 0, "none", 4, &err);
    }
}

/* ---- helpers ---- */

static struct http_client *client_for(int port)
{
    CLEANUP_FREE char *url = xasprintf("http://127.0.0.1:%d", port);
    const struct http_client_settings settings = {.base_url = url, .connect_timeout_ms = 1000, .stop = &stop};
    return http_client_new(&settings);
}

static struct http_client_request get(const char *path)
{
    return (struct http_client_request){
        .method = "GET", .path_and_query = path, .timeout_ms = 5000, .max_response_bytes = MAX_BYTES};
}

static int set_up(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    const struct http_server_settings settings = {.listen = "127.0.0.1:0",
                                                  .threads = 16,
                                                  .max_body_bytes = 1 << 20,
                                                  .header_timeout_ms = 5000,
                                                  .keep_alive_timeout_ms = 5000,
                                                  .handler = handler};
    assert_ok(http_server_start(&settings, &server, &err));
    stop_init(&stop);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_server_stop(server);
    stop_release(&stop);
    return 0;
}

/* ---- requests ---- */

static void sends_what_it_is_given(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = client_for(http_server_port(server));
    struct http_client_response response;
    struct http_client_request request = get("/show?a=%2F&b=c");
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_int_equal(response.status, 200);
    assert_int_equal(response.retry_after_ms, 0);
    CLEANUP_FREE char *expected = xasprintf(
        "GET /show?a=%%2F&b=c\nHost: 127.0.0.1:%d\nUser-Agent: cicada/%s\nAccept: application/json\n[]",
        http_server_port(server), CICADA_VERSION);
    assert_string_equal(response.body.buf, expected);
    http_client_response_release(&response);

    static const char *const methods[] = {"POST", "PUT", "PATCH", "DELETE"};
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        request = (struct http_client_request){.method = methods[i],
                                               .path_and_query = "/show",
                                               .bearer_token = "token",
                                               .content_type = "application/apply-patch+yaml",
                                               .accept = "text/x",
                                               .body = "body",
                                               .body_len = 4,
                                               .timeout_ms = 5000,
                                               .max_response_bytes = MAX_BYTES};
        assert_ok(http_client_request(client, &request, &response, &err));
        assert_true(str_starts_with(response.body.buf, methods[i]));
        assert_non_null(strstr(response.body.buf, "\nAuthorization: Bearer token\n"));
        assert_non_null(strstr(response.body.buf, "\nContent-Type: application/apply-patch+yaml\n"));
        assert_non_null(strstr(response.body.buf, "\nAccept: text/x\n"));
        assert_non_null(strstr(response.body.buf, "\nContent-Length: 4\n"));
        assert_true(str_ends_with(response.body.buf, "[body]"));
        http_client_response_release(&response);
    }
    /* Without a body: a length where the method has one by nature, and never curl's own content type. */
    static const char *const lengths[] = {"\nContent-Length: 0\n", "\nContent-Length: 0\n",
                                          "\nContent-Length: 0\n", "DELETE"};
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        request = get("/show");
        request.method = methods[i];
        assert_ok(http_client_request(client, &request, &response, &err));
        assert_true(str_starts_with(response.body.buf, methods[i]));
        assert_non_null(strstr(response.body.buf, lengths[i]));
        assert_null(strstr(response.body.buf, "Content-Type"));
        http_client_response_release(&response);
    }
    request = get("/show");
    request.method = "HEAD";
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_int_equal(response.status, 200);
    assert_int_equal(response.body.len, 0);
    http_client_response_release(&response);
    http_client_free(client);
    http_client_free(NULL);
}

static void large_bodies_go_without_expect(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = client_for(http_server_port(server));
    size_t len = 1 << 20; /* from here on curl would ask first */
    CLEANUP_FREE char *body = xmalloc(len);
    memset(body, 'b', len);
    struct http_client_request request = get("/show");
    request.method = "POST";
    request.body = body;
    request.body_len = len;
    request.max_response_bytes = 2u << 20;
    struct http_client_response response;
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_null(strstr(response.body.buf, "Expect"));
    http_client_response_release(&response);
    http_client_free(client);
}

static void any_status_is_an_answer(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = client_for(http_server_port(server));
    struct http_client_response response;
    struct http_client_request request = get("/nothing");
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_int_equal(response.status, 404);
    assert_string_equal(response.body.buf, "none");
    http_client_response_release(&response);
    request = get("/busy");
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_int_equal(response.status, 429);
    assert_int_equal(response.retry_after_ms, 3000);
    http_client_response_release(&response);
    request = get("/redirect");
    assert_ok(http_client_request(client, &request, &response, &err));
    assert_int_equal(response.status, 302);
    http_client_response_release(&response);
    http_client_free(client);
}

static void refuses_requests_that_would_be_others(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = client_for(http_server_port(server));
    struct http_client_response response;
    static const char *const paths[] = {"", "show", "/a b", "/a\r\nX: y", "/\x01", "@evil/"};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        struct http_client_request request = get(paths[i]);
        assert_fails(http_client_request(client, &request, &response, &err), ERR_INVALID);
        http_client_response_release(&response);
    }
    struct http_client_request request = get("/show");
    request.bearer_token = "a\r\nX: y";
    assert_fails(http_client_request(client, &request, &response, &err), ERR_INVALID);
    request.bearer_token = NULL;
    request.accept = "a\nb";
    assert_fails(http_client_request(client, &request, &response, &err), ERR_INVALID);
    request.accept = NULL;
    request.content_type = "a\nb";
    assert_fails(http_client_request(client, &request, &response, &err), ERR_INVALID);
    http_client_free(client);
}

/* The environment's proxies are not for us. */
static void takes_no_proxy(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    struct http_client *client = client_for(http_server_port(server));
    struct http_client_response response;
    struct http_client_request request = get("/show");
    assert_ok(http_client_request(client, &request, &response, &err));
    http_client_response_release(&response);
    http_client_free(client);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

/* ---- a server that misbehaves: each connection, or each request of it, gets the next of its answers ---- */

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
    struct http_client *client = client_for(socket_server_port(faulty));
    struct http_client_response response;
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        struct http_client_request request = get("/");
        assert_fails(http_client_request(client, &request, &response, &err), ERR_UNAVAILABLE);
        assert_int_equal(response.status, 0);
        assert_int_equal(response.body.len, 0);
    }
    socket_server_stop(faulty);
    struct http_client_request request = get("/"); /* nobody listens now */
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
        struct http_client *client = client_for(socket_server_port(slow));
        for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
            struct http_client_response response;
            struct http_client_request request = get("/");
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
        struct http_client *client = client_for(socket_server_port(closing));
        for (int i = 0; i < 4; i++) {
            struct http_client_response response;
            struct http_client_request request = get("/");
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
    struct http_client *client = client_for(socket_server_port(closing));
    for (int i = 0; i < 2; i++) {
        struct http_client_response response;
        struct http_client_request request = get("/");
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
    struct http_client *client = client_for(socket_server_port(once));
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        struct http_client_response response;
        struct http_client_request request = get("/");
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
    struct http_client *client = client_for(socket_server_port(large));
    struct http_client_response response;
    struct http_client_request request = get("/");
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
    struct http_client *client = client_for(socket_server_port(silent));
    struct http_client_response response;
    struct http_client_request request = get("/");
    request.timeout_ms = 150;
    int64_t begin_ms = clock_monotonic_ms();
    assert_fails(http_client_request(client, &request, &response, &err), ERR_TIMEOUT);
    assert_in_range(clock_monotonic_ms() - begin_ms, 145, 2000);
    stop_set(&script.hold);
    http_client_free(client);
    socket_server_stop(silent);
    stop_release(&script.hold);
}

/* ---- cancelling ---- */

static void *set_stop_soon(void *arg)
{
    usleep(100000);
    stop_set(arg);
    return NULL;
}

static int collect(void *arg, const char *data, size_t len, struct err *err)
{
    return strbuf_append(arg, data, len) < 0 ? err_set(err, ERR_TOO_LARGE, "collected too much") : 0;
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
        struct http_client_request request = get("/");
        CLEANUP_STRBUF struct strbuf got;
        strbuf_init(&got, 100);
        int64_t begin_ms = clock_monotonic_ms();
        if (streaming) {
            assert_fails(http_client_stream(client, &request, collect, &got, &response, &err), ERR_CANCELLED);
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

/* ---- streams ---- */

static void streams_hand_over_bytes_as_they_come(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = client_for(http_server_port(server));
    struct http_client_response response;
    struct http_client_request request = get("/pieces");
    request.max_response_bytes = 4; /* is for collected answers only */
    CLEANUP_STRBUF struct strbuf got;
    strbuf_init(&got, 10000);
    assert_ok(http_client_stream(client, &request, collect, &got, &response, &err));
    assert_int_equal(response.status, 200);
    assert_int_equal(response.body.len, 0);
    assert_true(str_starts_with(got.buf, "line 0\nline 1\n"));
    assert_true(str_ends_with(got.buf, "line 49\n"));
    http_client_response_release(&response);
    http_client_free(client);
}

static void streams_collect_other_statuses(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = client_for(http_server_port(server));
    struct http_client_response response;
    struct http_client_request request = get("/busy");
    CLEANUP_STRBUF struct strbuf got;
    strbuf_init(&got, 100);
    assert_ok(http_client_stream(client, &request, collect, &got, &response, &err));
    assert_int_equal(response.status, 429);
    assert_int_equal(response.retry_after_ms, 3000);
    assert_string_equal(response.body.buf, "slow down");
    assert_int_equal(got.len, 0);
    http_client_response_release(&response);
    http_client_free(client);
}

static void a_callback_can_end_the_stream(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_client *client = client_for(http_server_port(server));
    struct http_client_response response;
    struct http_client_request request = get("/pieces");
    CLEANUP_STRBUF struct strbuf got;
    strbuf_init(&got, 3);
    assert_fails(http_client_stream(client, &request, collect, &got, &response, &err), ERR_TOO_LARGE);
    assert_string_equal(err.msg, "collected too much");
    request = get("/show"); /* the client goes on */
    assert_ok(http_client_request(client, &request, &response, &err));
    http_client_response_release(&response);
    http_client_free(client);
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
    struct http_client *client = client_for(socket_server_port(ending));
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        struct http_client_response response;
        struct http_client_request request = get("/");
        CLEANUP_STRBUF struct strbuf got;
        strbuf_init(&got, 100);
        if (i < 2) {
            assert_ok(http_client_stream(client, &request, collect, &got, &response, &err));
        } else {
            assert_fails(http_client_stream(client, &request, collect, &got, &response, &err),
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
    struct http_client *client = client_for(socket_server_port(slow));
    struct http_client_response response;
    struct http_client_request request = get("/");
    request.timeout_ms = 250;
    CLEANUP_STRBUF struct strbuf got;
    strbuf_init(&got, 100);
    int64_t begin_ms = clock_monotonic_ms();
    assert_fails(http_client_stream(client, &request, collect, &got, &response, &err), ERR_TIMEOUT);
    assert_string_equal(got.buf, "xxxxxx");
    assert_in_range(clock_monotonic_ms() - begin_ms, 600, 3000);
    stop_set(&hold);
    http_client_free(client);
    socket_server_stop(slow);
    stop_release(&hold);
}

static void *request_many(void *arg)
{
    struct err err = ERR_INIT;
    for (int i = 0; i < 100; i++) {
        struct http_client_response response;
        struct http_client_request request = get("/show");
        if (http_client_request(arg, &request, &response, &err) < 0 || response.status != 200) {
            abort();
        }
        http_client_response_release(&response);
    }
    return NULL;
}

static void many_threads_share_a_client(void **state)
{
    (void)state;
    struct http_client *client = client_for(http_server_port(server));
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, request_many, client), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
    }
    http_client_free(client);
}

int main(void)
{
    http_client_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_what_it_is_given),
        cmocka_unit_test(large_bodies_go_without_expect),
        cmocka_unit_test(any_status_is_an_answer),
        cmocka_unit_test(refuses_requests_that_would_be_others),
        cmocka_unit_test(takes_no_proxy),
        cmocka_unit_test(breaks_in_the_answer_are_errors),
        cmocka_unit_test(answers_may_come_in_any_pieces),
        cmocka_unit_test(a_connection_closed_meanwhile_is_no_error),
        cmocka_unit_test(a_reused_connection_that_breaks_is_tried_again),
        cmocka_unit_test(connections_are_reused),
        cmocka_unit_test(large_answers_are_refused),
        cmocka_unit_test(silence_ends_at_the_timeout),
        cmocka_unit_test(stop_ends_calls_at_once),
        cmocka_unit_test(streams_hand_over_bytes_as_they_come),
        cmocka_unit_test(streams_collect_other_statuses),
        cmocka_unit_test(a_callback_can_end_the_stream),
        cmocka_unit_test(streams_end_in_different_ways),
        cmocka_unit_test(streams_end_after_silence_only),
        cmocka_unit_test(many_threads_share_a_client),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
