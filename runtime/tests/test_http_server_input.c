#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_http_server.h"
#include "runtime/tests/support_socket.h"
#include "runtime/tests/support_test.h"

static void reads_bodies_in_any_pieces(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 7, 1000, BODY_MAX_BYTES};
    CLEANUP_FREE char *sent = xmalloc(BODY_MAX_BYTES);
    for (size_t i = 0; i < BODY_MAX_BYTES; i++) {
        sent[i] = (char)('a' + i % 23);
    }
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (int chunked = 0; chunked < 2; chunked++) {
            size_t len = sizes[i] < 100 ? 300 : BODY_MAX_BYTES;
            CLEANUP_STRBUF struct strbuf request;
            strbuf_init(&request, 10u << 20);
            strbuf_append_str(&request, "POST /echo HTTP/1.1\r\nHost: t\r\n");
            if (!chunked) {
                strbuf_appendf(&request, "Content-Length: %zu\r\n\r\n", len);
                strbuf_append(&request, sent, len);
            } else {
                strbuf_append_str(&request, "Transfer-Encoding: chunked\r\n\r\n");
                for (size_t at = 0; at < len; at += sizes[i]) {
                    size_t step = len - at < sizes[i] ? len - at : sizes[i];
                    strbuf_appendf(&request, "%zX\r\n", step);
                    strbuf_append(&request, sent + at, step);
                    strbuf_append_str(&request, "\r\n");
                }
                strbuf_append_str(&request, "0\r\n\r\n");
            }
            CLEANUP_FD int fd = socket_connect(served_port);
            size_t piece = sizes[i] < 100 ? sizes[i] : request.len;
            for (size_t at = 0; at < request.len; at += piece) {
                socket_send(fd, request.buf + at, request.len - at < piece ? request.len - at : piece);
            }
            CLEANUP_FREE char *text = socket_read_answer(fd);
            assert_status(text, 200);
            assert_int_equal(strlen(body_of(text)), len);
            assert_memory_equal(body_of(text), sent, len);
            assert_non_null(strstr(text, "Connection: keep-alive"));
        }
    }
}

static void refuses_large_bodies(void **state)
{
    (void)state;
    /* By length: at once, and although the client goes on sending. */
    CLEANUP_FREE char *data = xcalloc(1, 2u << 20);
    CLEANUP_FD int fd = socket_connect(served_port);
    socket_send_text(fd, "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 2097152\r\n\r\n");
    (void)!send(fd, data, 2u << 20, MSG_NOSIGNAL);
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_status(text, 413);
    assert_string_equal(body_of(text), "TooLarge");
    assert_non_null(strstr(text, "Connection: close"));
    /* Chunked: when the limit is passed. At the limit it is fine. */
    for (int extra = 0; extra < 2; extra++) {
        CLEANUP_FD int chunked = socket_connect(served_port);
        char head[200];
        snprintf(head, sizeof(head),
                 "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n",
                 BODY_MAX_BYTES + extra);
        socket_send_text(chunked, head);
        socket_send(chunked, data, (size_t)BODY_MAX_BYTES + (size_t)extra);
        socket_send_text(chunked, "\r\n0\r\n\r\n");
        CLEANUP_FREE char *reply = socket_read_answer(chunked);
        assert_status(reply, extra ? 413 : 200);
        if (extra) {
            assert_string_equal(body_of(reply), "TooLarge");
        }
        assert_int_equal(served_still_open(chunked), !extra);
    }
}

static void says_what_is_wrong_with_a_body(void **state)
{
    (void)state;
    static const struct {
        const char *body, *code;
    } cases[] = {
        {"5\r\nabc", "IO"},
        {"xyz\r\n", "Invalid"},
        {"5\r\nabcdeXX", "Invalid"},
        {"-1\r\n", "Invalid"},
        {"5;ext=1\r\n", "Invalid"},
        {"ffffffffffffffffff\r\n", "Invalid"},
        {"", "IO"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_FD int fd = socket_connect(served_port);
        socket_send_text(fd, "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
        socket_send_text(fd, cases[i].body);
        if (strcmp(cases[i].code, "IO") == 0) {
            shutdown(fd, SHUT_WR);
        }
        CLEANUP_FREE char *text = socket_read_answer(fd);
        assert_status(text, 400);
        assert_string_equal(body_of(text), cases[i].code);
        assert_false(served_still_open(fd));
    }
    CLEANUP_FD int fd = socket_connect(served_port);
    socket_send_text(fd, "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc");
    shutdown(fd, SHUT_WR);
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_string_equal(body_of(text), "IO");
}

/* One byte every 20 ms: CivetWeb alone would go on for as long as that lasts. */
static void dribble(int fd, int64_t for_ms)
{
    int64_t end_ms = clock_monotonic_ms() + for_ms;
    while (deadline_left_ms(end_ms) > 0 && send(fd, "1", 1, MSG_NOSIGNAL) == 1) {
        char peek;
        if (recv(fd, &peek, 1, MSG_PEEK | MSG_DONTWAIT) >= 0) {
            return;
        }
        usleep(20000);
    }
}

static void bodies_keep_the_handlers_deadline(void **state)
{
    (void)state;
    static const char *const framings[] = {"Content-Length: 90000", "Transfer-Encoding: chunked"};
    for (int dribbling = 0; dribbling < 2; dribbling++) {
        for (size_t i = 0; i < ARRAY_SIZE(framings); i++) {
            char head[200];
            snprintf(head, sizeof(head), "POST /echo?200 HTTP/1.1\r\nHost: t\r\n%s\r\n\r\n%s", framings[i],
                     i ? "9000\r\n" : "");
            CLEANUP_FD int fd = socket_connect(served_port);
            int64_t begin_ms = clock_monotonic_ms();
            socket_send_text(fd, head);
            if (dribbling) {
                dribble(fd, 5000);
            }
            CLEANUP_FREE char *text = socket_read_answer(fd);
            assert_in_range(clock_monotonic_ms() - begin_ms, 195, 1200);
            assert_status(text, 400);
            assert_string_equal(body_of(text), "Timeout");
        }
    }
}

static void bodies_may_take_longer_than_headers(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(served_port);
    socket_send_text(fd, "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na");
    usleep(400000); /* above header_timeout_ms */
    socket_send_text(fd, "b\r\n0\r\n\r\n");
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_string_equal(body_of(text), "ab");
}

static void headers_have_a_deadline_too(void **state)
{
    (void)state;
    for (int reused = 0; reused < 2; reused++) {
        CLEANUP_FD int fd = socket_connect(served_port);
        if (reused) {
            socket_send_text(fd, GET("/"));
            CLEANUP_FREE char *text = socket_read_answer(fd);
            assert_non_null(text);
            usleep(350000); /* idle for longer than headers may take */
        }
        int64_t begin_ms = clock_monotonic_ms();
        socket_send_text(fd, "GET /");
        dribble(fd, 5000);
        bool closed;
        CLEANUP_FREE char *text = socket_read_all(fd, 2000, &closed);
        assert_true(closed);
        assert_status(text, 408);
        assert_in_range(clock_monotonic_ms() - begin_ms, 295, 1300);
        assert_int_equal(atomic_load(&served_calls), reused);
    }
}

static void idle_connections_are_closed(void **state)
{
    (void)state;
    CLEANUP_FD int fresh = socket_connect(served_port);
    CLEANUP_FD int used = socket_connect(served_port);
    socket_send_text(used, GET("/"));
    CLEANUP_FREE char *text = socket_read_answer(used);
    assert_non_null(text);
    int64_t begin_ms = clock_monotonic_ms();
    bool closed;
    CLEANUP_FREE char *nothing = socket_read_all(fresh, 5000, &closed);
    assert_string_equal(nothing, "");
    assert_true(closed);
    assert_in_range(clock_monotonic_ms() - begin_ms, 250, 690); /* header_timeout_ms */
    CLEANUP_FREE char *nothing_more = socket_read_all(used, 5000, &closed);
    assert_string_equal(nothing_more, "");
    assert_true(closed);
    assert_in_range(clock_monotonic_ms() - begin_ms, 650, 1700); /* keep_alive_timeout_ms */
}

static void continues_when_asked(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(served_port);
    socket_send_text(fd,
                     "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    CLEANUP_FREE char *go_on = socket_read_answer(fd);
    assert_string_equal(go_on, "HTTP/1.1 100 Continue\r\n\r\n");
    socket_send_text(fd, "body");
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_status(text, 200);
    assert_string_equal(body_of(text), "body");
    assert_true(served_still_open(fd));
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 400000\r\nExpect: 100-continue\r\n\r\n", 413},
        {"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: something\r\n\r\n", 417},
        {"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
         200}, /* body not wanted */
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_FD int other = socket_connect(served_port);
        int64_t begin_ms = clock_monotonic_ms();
        socket_send_text(other, cases[i].request);
        bool closed;
        CLEANUP_FREE char *reply = socket_read_all(other, 3000, &closed);
        assert_status(reply, cases[i].status);
        assert_true(closed);
        assert_true(clock_monotonic_ms() - begin_ms < 450);
    }
}

static void refuses_ambiguous_requests(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: +3\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3x\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: abc\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: -3\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: t\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: t\r\nX: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : t\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: t\r\nX : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: t\nX: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: t\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: t\n\n",
        "GET / HTTP/1.1\r\nHost: t\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: t\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: t\r\nX\x80: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: t\r\nX(y): a\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        CLEANUP_FD int fd = socket_connect(served_port);
        socket_send_text(fd, requests[i]);
        shutdown(fd, SHUT_WR);
        bool closed;
        CLEANUP_FREE char *text = socket_read_all(fd, 3000, &closed);
        if (!str_starts_with(text, "HTTP/1.1 400 Bad Request\r\n") ||
            !strstr(text, "\r\nContent-Type: application/problem+json\r\n") ||
            !strstr(text, "\"code\":\"bad_request\",") || !strstr(text, ",\"component\":\"test\"}\n") ||
            !closed) {
            fail_msg("%s: %s", requests[i], text);
        }
    }
    assert_int_equal(atomic_load(&served_calls), 0);
}

static void takes_64_headers_and_no_more(void **state)
{
    (void)state;
    for (int count = 63; count < 67; count++) {
        CLEANUP_STRBUF struct strbuf request;
        strbuf_init(&request, 10000);
        strbuf_append_str(&request, "GET /show HTTP/1.1\r\nHost: t\r\n");
        for (int i = 1; i < count; i++) {
            strbuf_appendf(&request, "X-%d: %d\r\n", i, i);
        }
        strbuf_append_str(&request, "\r\n");
        CLEANUP_FD int fd = socket_connect(served_port);
        socket_send(fd, request.buf, request.len);
        CLEANUP_FREE char *text = socket_read_answer(fd);
        assert_status(text, count <= 64 ? 200 : 431);
        if (count <= 64) {
            CLEANUP_FREE char *last = xasprintf("X-%d=%d;\n", count - 1, count - 1);
            assert_non_null(strstr(text, last));
        }
    }
}

static void takes_heads_of_32_kib_and_no_more(void **state)
{
    (void)state;
    for (int len = 32700; len <= 32900; len += 100) {
        CLEANUP_STRBUF struct strbuf request;
        strbuf_init(&request, 100000);
        strbuf_append_str(&request, "GET / HTTP/1.1\r\nHost: t\r\nX: ");
        while (request.len < (size_t)len - 4) {
            strbuf_append_char(&request, 'x');
        }
        strbuf_append_str(&request, "\r\n\r\n");
        CLEANUP_FD int fd = socket_connect(served_port);
        socket_send(fd, request.buf, request.len);
        CLEANUP_FREE char *text = socket_read_all(fd, 100, NULL);
        assert_status(text, len < 32768 ? 200 : 400);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_server(reads_bodies_in_any_pieces),          with_server(refuses_large_bodies),
        with_server(says_what_is_wrong_with_a_body),      with_server(bodies_keep_the_handlers_deadline),
        with_server(bodies_may_take_longer_than_headers), with_server(headers_have_a_deadline_too),
        with_server(idle_connections_are_closed),         with_server(continues_when_asked),
        with_server(refuses_ambiguous_requests),          with_server(takes_64_headers_and_no_more),
        with_server(takes_heads_of_32_kib_and_no_more),
    };
    return cmocka_run_group_tests(tests, served_group_setup, served_group_teardown);
}
