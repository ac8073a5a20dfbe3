#include <string.h>
#include <sys/socket.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_http_server.h"
#include "runtime/tests/support_socket.h"
#include "runtime/tests/support_test.h"

static void answers_and_keeps_the_connection(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(served_port);
    for (int i = 0; i < 3; i++) {
        socket_send_text(fd, GET("/"));
        CLEANUP_FREE char *text = socket_read_answer(fd);
        assert_status(text, 200);
        assert_non_null(strstr(text, "\r\nConnection: keep-alive\r\n"));
        assert_non_null(strstr(text, "\r\nContent-Length: 5\r\n"));
        assert_non_null(strstr(text, "\r\nDate: "));
        assert_non_null(strstr(text, "\r\nContent-Type: text/plain\r\n"));
        assert_string_equal(body_of(text), "hello");
    }
    assert_true(served_still_open(fd));
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    CLEANUP_FREE char *text = socket_exchange(
        served_port,
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\noneGET /show HTTP/1.1\r\nHost: t\r\n\r\n"
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nthree\r\n0\r\n\r\n" GET(
            "/close"));
    const char *first = strstr(text, "\r\n\r\none"), *second = strstr(text, "GET /show"),
               *third = strstr(text, "three"), *last = strstr(text, "bye");
    assert_true(first && second && third && last && first < second && second < third && third < last);
}

static void shows_the_request_as_it_came(void **state)
{
    (void)state;
    CLEANUP_FREE char *text = socket_exchange(
        served_port,
        "GET /show/a%2Fb/../c?x=1&y=%20 HTTP/1.1\r\nHost: t:1\r\nX-Twice: a \r\nx-twice:b\r\nX-Empty:\r\n"
        "Connection: close\r\n\r\n");
    assert_status(text, 200);
    assert_string_equal(body_of(text),
                        "GET /show/a%2Fb/../c ? x=1&y=%20 from 127.0.0.1\nHost=t:1;\nX-Twice=a;\nx-twice=b;\n"
                        "X-Empty=;\nConnection=close;\nfirst x-twice: a\n");
}

static void the_connection_ends_when_it_was_said(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        bool open;
    } cases[] = {
        {GET("/close"), false},
        {"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: t\r\nConnection: Keep-Alive, Upgrade\r\nUpgrade: h2c\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: t\r\nConnection: keep-alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true},
        {"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n", true},
        {"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx", true},
        {"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx", false}, /* the body was not read */
        {GET("/silent"), false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_FD int fd = socket_connect(served_port);
        socket_send_text(fd, cases[i].request);
        shutdown(fd, cases[i].open ? -1 : SHUT_WR);
        CLEANUP_FREE char *text = socket_read_answer(fd);
        assert_non_null(
            strstr(text, cases[i].open ? "\r\nConnection: keep-alive\r\n" : "\r\nConnection: close\r\n"));
        if (served_still_open(fd) != cases[i].open) {
            fail_msg("case %zu", i);
        }
    }
}

static void answers_without_a_body(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(served_port);
    static const struct {
        const char *request;
        int status;
        const char *has, *lacks;
    } cases[] = {
        {"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n", 200, "Content-Length: 5\r\n", "hello"},
        {"HEAD /stream HTTP/1.1\r\nHost: t\r\n\r\n", 200, "Transfer-Encoding: chunked\r\n", "one"},
        {GET("/204"), 204, "Connection: keep-alive", "Content-Length"},
        {GET("/304"), 304, "Connection: keep-alive", "Content-Length"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        socket_send_text(fd, cases[i].request);
        CLEANUP_FREE char *text = socket_read_all(fd, 50, NULL);
        assert_status(text, cases[i].status);
        assert_non_null(strstr(text, cases[i].has));
        assert_null(strstr(text, cases[i].lacks));
        assert_string_equal(body_of(text), "");
    }
    socket_send_text(fd, GET("/")); /* the connection is in step */
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_string_equal(body_of(text), "hello");
}

static void streams(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(served_port);
    socket_send_text(fd, GET("/stream"));
    CLEANUP_FREE char *text = socket_read_all(fd, 100, NULL);
    assert_non_null(strstr(text, "\r\nTransfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(text, "\r\nX-Kind: stream\r\n"));
    assert_null(strstr(text, "Content-Length"));
    assert_string_equal(body_of(text), "4\r\none,\r\n3\r\ntwo\r\n0\r\n\r\n");
    socket_send_text(fd, GET("/"));
    CLEANUP_FREE char *next = socket_read_answer(fd);
    assert_string_equal(body_of(next), "hello");

    CLEANUP_FREE char *old =
        socket_exchange(served_port, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_null(strstr(old, "Transfer-Encoding"));
    assert_non_null(strstr(old, "Connection: close"));
    assert_string_equal(body_of(old), "one,two");

    CLEANUP_FREE char *cut = socket_exchange(served_port, GET("/stream-cut"));
    assert_string_equal(body_of(cut), "4\r\none,\r\n3\r\ntwo\r\n");
    CLEANUP_FREE char *aborted = socket_exchange(served_port, GET("/abort"));
    assert_string_equal(aborted, "");
}

static void large_answers_arrive_whole(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(served_port);
    for (int i = 0; i < 2; i++) {
        socket_send_text(fd, GET("/large"));
        CLEANUP_FREE char *text = socket_read_answer(fd);
        assert_int_equal(strlen(body_of(text)), LARGE_BODY_BYTES);
        assert_memory_equal(body_of(text), served_large_body, LARGE_BODY_BYTES);
    }
}

static void large_heads_lose_no_body(void **state)
{
    (void)state;
    static const char *const requests[] = {GET("/large-head?1000"), GET("/large-head?60000"),
                                           GET("/large-head?66000"), GET("/large-head?120000")};
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        CLEANUP_FD int fd = socket_connect(served_port);
        socket_send_text(fd, requests[i]);
        CLEANUP_FREE char *text = socket_read_answer(fd);
        assert_status(text, 200);
        assert_int_equal(strlen(body_of(text)), 65536);
        assert_true(served_still_open(fd));
    }
}

static void misuse_is_refused_not_sent(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(served_port);
    socket_send_text(fd, GET("/misuse"));
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_status(text, 200);
    assert_string_equal(body_of(text), "first");
    assert_true(served_still_open(fd));
    CLEANUP_FREE char *silent = socket_exchange(served_port, GET("/silent"));
    assert_status(silent, 500);
    assert_non_null(strstr(silent, "\"code\":\"internal_server_error\""));
}

static void handlers_have_a_whole_stack(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(served_port);
    socket_send_text(fd, GET("/stack"));
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_string_equal(body_of(text), "deep");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_server(answers_and_keeps_the_connection), with_server(pipelined_requests_are_answered_in_order),
        with_server(shows_the_request_as_it_came),     with_server(the_connection_ends_when_it_was_said),
        with_server(answers_without_a_body),           with_server(streams),
        with_server(large_answers_arrive_whole),       with_server(large_heads_lose_no_body),
        with_server(misuse_is_refused_not_sent),       with_server(handlers_have_a_whole_stack),
    };
    return cmocka_run_group_tests(tests, served_group_setup, served_group_teardown);
}
