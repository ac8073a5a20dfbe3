#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/stop.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/http/http_server.h"
#include "runtime/tests/support_socket.h"
#include "runtime/tests/support_test.h"

#define BODY_MAX_BYTES   100000
#define LARGE_BODY_BYTES (3u << 20)
#define GET(path)        "GET " path " HTTP/1.1\r\nHost: t\r\n\r\n"

static struct http_server *server;
static int port;
static struct stop gate; /* what /wait waits for */
static atomic_int handler_calls;
static char *large_body;

/* ---- the handler's paths ---- */

static void answer(struct http_request *req, int status, const void *body, size_t len)
{
    struct err err = ERR_INIT;
    static const struct http_header headers[] = {{"Content-Type", "text/plain"}};
    if (http_request_respond(req, status, headers, 1, body, len, &err) < 0 && err.code != ERR_IO) {
        fprintf(stderr, "respond: %s\n", err.msg);
        abort();
    }
}

static void answer_text(struct http_request *req, int status, const char *text)
{
    answer(req, status, text, strlen(text));
}

static void handle_echo(struct http_request *req)
{
    struct err err = ERR_INIT;
    const char *body, *again;
    size_t len, again_len;
    int64_t wait_ms = 5000;
    if (http_request_query(req)) {
        assert_true(parse_int64(http_request_query(req), 0, 100000, &wait_ms));
    }
    if (http_request_body(req, clock_monotonic_ms() + wait_ms, &body, &len, &err) < 0) {
        struct err second = ERR_INIT;
        if (http_request_body(req, clock_monotonic_ms() + 5000, &again, &again_len, &second) == 0 ||
            second.code != err.code) {
            abort();
        }
        answer_text(req, err.code == ERR_TOO_LARGE ? 413 : 400, err_code_name(err.code));
        return;
    }
    if (http_request_body(req, 0, &again, &again_len, &err) < 0 || again != body || again_len != len) {
        abort();
    }
    answer(req, 200, body, len);
}

static void handle_stream(struct http_request *req, bool end)
{
    struct err err = ERR_INIT;
    static const struct http_header headers[] = {{"X-Kind", "stream"}};
    if (http_request_stream_begin(req, 200, headers, 1, &err) == 0 &&
        http_request_stream_chunk(req, "one,", 4, &err) == 0 &&
        http_request_stream_chunk(req, "", 0, &err) == 0 &&
        http_request_stream_chunk(req, "two", 3, &err) == 0 && end) {
        (void)!http_request_stream_end(req, &err);
    }
}

static void handle_misuse(struct http_request *req)
{
    struct err err = ERR_INIT;
    static const struct http_header bad[] = {{"X", "a\r\nY: b"}};
    bool ok = http_request_respond(req, 200, bad, 1, "x", 1, &err) < 0 && err.code == ERR_INVALID;
    ok = ok && http_request_respond(req, 100, NULL, 0, NULL, 0, &err) < 0 && err.code == ERR_INVALID;
    ok = ok && http_request_stream_chunk(req, "x", 1, &err) < 0 && err.code == ERR_INTERNAL;
    ok = ok && http_request_stream_end(req, &err) < 0 && err.code == ERR_INTERNAL;
    answer_text(req, ok ? 200 : 500, "first");
    ok = http_request_respond(req, 200, NULL, 0, "second", 6, &err) < 0 && err.code == ERR_INTERNAL;
    ok = ok && http_request_stream_begin(req, 200, NULL, 0, &err) < 0 && err.code == ERR_INTERNAL;
    if (!ok) {
        abort();
    }
}

static void handle_show(struct http_request *req)
{
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 100000);
    strbuf_appendf(&out, "%s %s ? %s from %s\n", http_request_method(req), http_request_raw_path(req),
                   http_request_query(req) ? http_request_query(req) : "-", http_request_remote_ip(req));
    for (size_t i = 0; i < http_request_header_count(req); i++) {
        const struct http_header *header = &http_request_headers(req)[i];
        strbuf_appendf(&out, "%s=%s;\n", header->name, header->value);
    }
    const char *first = http_request_header(req, "x-twice");
    strbuf_appendf(&out, "first x-twice: %s\n", first ? first : "-");
    answer(req, 200, out.buf, out.len);
}

/* As much stack as a function may use. */
static void handle_stack(struct http_request *req)
{
    volatile char large[512 * 1024];
    for (size_t i = 0; i < sizeof(large); i += 1024) {
        large[i] = 1;
    }
    answer_text(req, large[1024] == 1 ? 200 : 500, "deep");
}

static void handler(void *arg, struct http_request *req)
{
    (void)arg;
    atomic_fetch_add(&handler_calls, 1);
    const char *path = http_request_raw_path(req);
    if (strcmp(path, "/echo") == 0) {
        handle_echo(req);
    } else if (strcmp(path, "/silent") == 0) {
        return;
    } else if (strcmp(path, "/large") == 0) {
        answer(req, 200, large_body, LARGE_BODY_BYTES);
    } else if (strcmp(path, "/stream") == 0 || strcmp(path, "/stream-cut") == 0) {
        handle_stream(req, strcmp(path, "/stream") == 0);
    } else if (strcmp(path, "/abort") == 0) {
        http_request_abort(req);
    } else if (strcmp(path, "/close") == 0) {
        http_request_close_after(req);
        answer_text(req, 200, "bye");
    } else if (strcmp(path, "/wait") == 0) {
        stop_wait(&gate, 10000);
        answer_text(req, 200, "waited");
    } else if (strcmp(path, "/misuse") == 0) {
        handle_misuse(req);
    } else if (str_starts_with(path, "/show")) {
        handle_show(req);
    } else if (strcmp(path, "/stack") == 0) {
        handle_stack(req);
    } else if (strcmp(path, "/204") == 0) {
        answer_text(req, 204, "not sent");
    } else if (strcmp(path, "/304") == 0) {
        answer_text(req, 304, "not sent");
    } else {
        answer_text(req, 200, "hello");
    }
}

/* ---- helpers ---- */

static struct http_server_settings default_settings(void)
{
    return (struct http_server_settings){.listen = "127.0.0.1:0",
                                         .threads = 8,
                                         .max_body_bytes = BODY_MAX_BYTES,
                                         .header_timeout_ms = 300,
                                         .keep_alive_timeout_ms = 700,
                                         .handler = handler};
}

static void start_with(const struct http_server_settings *settings)
{
    struct err err = ERR_INIT;
    assert_ok(http_server_start(settings, &server, &err));
    port = http_server_port(server);
    assert_in_range(port, 1, 65535);
    stop_init(&gate);
    atomic_store(&handler_calls, 0);
}

static int start(void **state)
{
    (void)state;
    struct http_server_settings settings = default_settings();
    start_with(&settings);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    stop_set(&gate);
    http_server_stop(server);
    server = NULL;
    stop_release(&gate);
    return 0;
}

/* True if the connection is still open a moment after an answer. */
static bool still_open(int fd)
{
    bool closed;
    CLEANUP_FREE char *rest = socket_read_all(fd, 50, &closed);
    assert_string_equal(rest, "");
    return !closed;
}

static void assert_status(const char *text, int status)
{
    char expected[32];
    snprintf(expected, sizeof(expected), "HTTP/1.1 %d ", status);
    if (strncmp(text, expected, strlen(expected)) != 0) {
        fail_msg("not %d: %.200s", status, text);
    }
}

static const char *body_of(const char *text)
{
    const char *end = strstr(text, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

static bool wait_for_in_flight(int count)
{
    int64_t deadline_ms = clock_monotonic_ms() + 5000;
    while (http_server_in_flight(server) != count && deadline_left_ms(deadline_ms) > 0) {
        usleep(1000);
    }
    return http_server_in_flight(server) == count;
}

/* ---- tests ---- */

static void answers_and_keeps_the_connection(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(port);
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
    assert_true(still_open(fd));
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    CLEANUP_FREE char *text = socket_exchange(
        port,
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
        port,
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
        CLEANUP_FD int fd = socket_connect(port);
        socket_send_text(fd, cases[i].request);
        shutdown(fd, cases[i].open ? -1 : SHUT_WR);
        CLEANUP_FREE char *text = socket_read_answer(fd);
        assert_non_null(
            strstr(text, cases[i].open ? "\r\nConnection: keep-alive\r\n" : "\r\nConnection: close\r\n"));
        if (still_open(fd) != cases[i].open) {
            fail_msg("case %zu", i);
        }
    }
}

static void answers_without_a_body(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(port);
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
            CLEANUP_FD int fd = socket_connect(port);
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
    /* By length: before the handler, and although the client goes on sending. */
    CLEANUP_FREE char *data = xcalloc(1, 2u << 20);
    CLEANUP_FD int fd = socket_connect(port);
    socket_send_text(fd, "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 2097152\r\n\r\n");
    (void)!send(fd, data, 2u << 20, MSG_NOSIGNAL);
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_status(text, 413);
    assert_non_null(strstr(text, "Content-Type: application/problem+json\r\n"));
    assert_non_null(strstr(text, "\"code\":\"ContentTooLarge\""));
    assert_non_null(strstr(text, "Connection: close"));
    assert_int_equal(atomic_load(&handler_calls), 0);
    /* Chunked: when the limit is passed. At the limit it is fine. */
    for (int extra = 0; extra < 2; extra++) {
        CLEANUP_FD int chunked = socket_connect(port);
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
        assert_int_equal(still_open(chunked), !extra);
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
        CLEANUP_FD int fd = socket_connect(port);
        socket_send_text(fd, "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
        socket_send_text(fd, cases[i].body);
        if (strcmp(cases[i].code, "IO") == 0) {
            shutdown(fd, SHUT_WR);
        }
        CLEANUP_FREE char *text = socket_read_answer(fd);
        assert_status(text, 400);
        assert_string_equal(body_of(text), cases[i].code);
        assert_false(still_open(fd));
    }
    CLEANUP_FD int fd = socket_connect(port);
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
            CLEANUP_FD int fd = socket_connect(port);
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
    CLEANUP_FD int fd = socket_connect(port);
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
        CLEANUP_FD int fd = socket_connect(port);
        if (reused) {
            socket_send_text(fd, GET("/"));
            CLEANUP_FREE char *text = socket_read_answer(fd);
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
        assert_int_equal(atomic_load(&handler_calls), reused);
    }
}

static void idle_connections_are_closed(void **state)
{
    (void)state;
    CLEANUP_FD int fresh = socket_connect(port);
    CLEANUP_FD int used = socket_connect(port);
    socket_send_text(used, GET("/"));
    CLEANUP_FREE char *text = socket_read_answer(used);
    int64_t begin_ms = clock_monotonic_ms();
    bool closed;
    CLEANUP_FREE char *nothing = socket_read_all(fresh, 5000, &closed);
    assert_true(closed);
    assert_in_range(clock_monotonic_ms() - begin_ms, 250, 690); /* header_timeout_ms */
    CLEANUP_FREE char *nothing_more = socket_read_all(used, 5000, &closed);
    assert_true(closed);
    assert_in_range(clock_monotonic_ms() - begin_ms, 650, 1700); /* keep_alive_timeout_ms */
}

static void continues_when_asked(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(port);
    socket_send_text(fd,
                     "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    CLEANUP_FREE char *go_on = socket_read_answer(fd);
    assert_string_equal(go_on, "HTTP/1.1 100 Continue\r\n\r\n");
    socket_send_text(fd, "body");
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_status(text, 200);
    assert_string_equal(body_of(text), "body");
    assert_true(still_open(fd));
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
        CLEANUP_FD int other = socket_connect(port);
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
        CLEANUP_FD int fd = socket_connect(port);
        socket_send_text(fd, requests[i]);
        shutdown(fd, SHUT_WR);
        bool closed;
        CLEANUP_FREE char *text = socket_read_all(fd, 3000, &closed);
        if (!str_starts_with(text, "HTTP/1.1 400 Bad Request\r\n") ||
            !strstr(text, "\"code\":\"BadRequest\"") || !closed) {
            fail_msg("%s: %s", requests[i], text);
        }
    }
    assert_int_equal(atomic_load(&handler_calls), 0);
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
        CLEANUP_FD int fd = socket_connect(port);
        socket_send(fd, request.buf, request.len);
        CLEANUP_FREE char *text = socket_read_answer(fd);
        assert_status(text, count <= 64 ? 200 : 400);
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
        CLEANUP_FD int fd = socket_connect(port);
        socket_send(fd, request.buf, request.len);
        CLEANUP_FREE char *text = socket_read_all(fd, 100, NULL);
        assert_non_null(strstr(text, len < 32768 ? " 200 " : " 4"));
    }
}

static void streams(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(port);
    socket_send_text(fd, GET("/stream"));
    CLEANUP_FREE char *text = socket_read_all(fd, 100, NULL);
    assert_non_null(strstr(text, "\r\nTransfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(text, "\r\nX-Kind: stream\r\n"));
    assert_null(strstr(text, "Content-Length"));
    assert_string_equal(body_of(text), "4\r\none,\r\n3\r\ntwo\r\n0\r\n\r\n");
    socket_send_text(fd, GET("/"));
    CLEANUP_FREE char *next = socket_read_answer(fd);
    assert_string_equal(body_of(next), "hello");

    CLEANUP_FREE char *old = socket_exchange(port, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_null(strstr(old, "Transfer-Encoding"));
    assert_non_null(strstr(old, "Connection: close"));
    assert_string_equal(body_of(old), "one,two");

    CLEANUP_FREE char *cut = socket_exchange(port, GET("/stream-cut"));
    assert_string_equal(body_of(cut), "4\r\none,\r\n3\r\ntwo\r\n");
    CLEANUP_FREE char *aborted = socket_exchange(port, GET("/abort"));
    assert_string_equal(aborted, "");
}

static void large_answers_arrive_whole(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(port);
    for (int i = 0; i < 2; i++) {
        socket_send_text(fd, GET("/large"));
        CLEANUP_FREE char *text = socket_read_answer(fd);
        assert_int_equal(strlen(body_of(text)), LARGE_BODY_BYTES);
        assert_memory_equal(body_of(text), large_body, LARGE_BODY_BYTES);
    }
}

static void misuse_is_refused_not_sent(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(port);
    socket_send_text(fd, GET("/misuse"));
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_status(text, 200);
    assert_string_equal(body_of(text), "first");
    assert_true(still_open(fd));
    CLEANUP_FREE char *silent = socket_exchange(port, GET("/silent"));
    assert_status(silent, 500);
    assert_non_null(strstr(silent, "\"code\":\"InternalServerError\""));
}

static void handlers_have_a_whole_stack(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(port);
    socket_send_text(fd, GET("/stack"));
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_string_equal(body_of(text), "deep");
}

static void counts_what_is_in_flight(void **state)
{
    (void)state;
    assert_int_equal(http_server_in_flight(server), 0);
    usleep(30000);
    assert_in_range(http_server_idle_ms(server), 25, 5000);
    CLEANUP_FD int fd = socket_connect(port);
    socket_send_text(fd, GET("/wait"));
    assert_true(wait_for_in_flight(1));
    usleep(30000);
    assert_int_equal(http_server_idle_ms(server), 0);
    stop_set(&gate);
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_string_equal(body_of(text), "waited");
    assert_true(wait_for_in_flight(0));
    assert_in_range(http_server_idle_ms(server), 0, 25);
}

static void draining_closes_after_each_answer(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(port);
    socket_send_text(fd, GET("/"));
    CLEANUP_FREE char *before = socket_read_answer(fd);
    assert_non_null(strstr(before, "Connection: keep-alive"));
    http_server_drain(server);
    socket_send_text(fd, GET("/"));
    CLEANUP_FREE char *after = socket_read_answer(fd);
    assert_non_null(strstr(after, "Connection: close"));
    assert_false(still_open(fd));
    CLEANUP_FREE char *fresh = socket_exchange(port, GET("/")); /* still served */
    assert_status(fresh, 200);
}

static void busy_servers_let_connections_go(void **state)
{
    (void)state;
    struct http_server_settings settings = default_settings();
    settings.threads = 4;
    settings.close_when_busy = true;
    start_with(&settings);
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = socket_connect(port);
        socket_send_text(fds[i], GET("/"));
        CLEANUP_FREE char *text = socket_read_answer(fds[i]);
        assert_non_null(strstr(text, "Connection: keep-alive"));
    }
    for (int i = 0; i < 20; i++) { /* a third connection leaves one worker free: it is not kept */
        CLEANUP_FREE char *text = socket_exchange(port, GET("/"));
        assert_non_null(strstr(text, "Connection: close"));
    }
    close(fds[0]);
    int64_t deadline_ms = clock_monotonic_ms() + 2000;
    bool kept = false;
    while (!kept && deadline_left_ms(deadline_ms) > 0) { /* until its worker has seen the end */
        CLEANUP_FD int fd = socket_connect(port);
        socket_send_text(fd, GET("/"));
        CLEANUP_FREE char *text = socket_read_answer(fd);
        kept = strstr(text, "Connection: keep-alive") != NULL;
    }
    assert_true(kept);
    close(fds[1]);
    stop(state);
}

static void stops_at_once_with_idle_connections(void **state)
{
    (void)state;
    struct http_server_settings settings = default_settings();
    settings.keep_alive_timeout_ms = 60000;
    settings.header_timeout_ms = 60000;
    start_with(&settings);
    CLEANUP_FD int fresh = socket_connect(port);
    CLEANUP_FD int used = socket_connect(port);
    CLEANUP_FD int sending = socket_connect(port);
    socket_send_text(used, GET("/"));
    CLEANUP_FREE char *text = socket_read_answer(used);
    socket_send_text(sending, "POST /echo?60000 HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nx");
    assert_true(wait_for_in_flight(1));
    int64_t begin_ms = clock_monotonic_ms();
    stop(state);
    assert_true(clock_monotonic_ms() - begin_ms < 1000);
    bool closed;
    CLEANUP_FREE char *rest = socket_read_all(fresh, 1000, &closed);
    assert_true(closed);
    http_server_stop(NULL);
}

static void says_why_it_cannot_listen(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_server *second;
    struct http_server_settings settings = default_settings();
    char taken[32];
    snprintf(taken, sizeof(taken), "127.0.0.1:%d", port);
    settings.listen = taken;
    assert_fails(http_server_start(&settings, &second, &err), ERR_IO);
    assert_non_null(strstr(err.msg, taken));
    assert_non_null(strstr(err.msg, "Address already in use"));
    static const char *const bad[] = {
        "",        "127.0.0.1", "127.0.0.1:",      "127.0.0.1:x",  "127.0.0.1:65536", "localhost:80",
        "[::]:80", "1.2.3:80",  "127.0.0.1:80,81", "127.0.0.1:80s"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        settings.listen = bad[i];
        assert_fails(http_server_start(&settings, &second, &err), ERR_INVALID);
    }
    settings.listen = ":0";
    assert_ok(http_server_start(&settings, &second, &err));
    CLEANUP_FREE char *text = socket_exchange(http_server_port(second), GET("/close"));
    assert_status(text, 200);
    http_server_stop(second);
}

static void *send_many(void *arg)
{
    int fd = socket_connect(port);
    for (int i = 0; i < 200; i++) {
        char body[32], request[128];
        snprintf(body, sizeof(body), "%s-%d", (const char *)arg, i);
        snprintf(request, sizeof(request), "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: %zu\r\n\r\n%s",
                 strlen(body), body);
        socket_send_text(fd, request);
        CLEANUP_FREE char *text = socket_read_answer(fd);
        if (strcmp(body_of(text), body) != 0) {
            abort();
        }
    }
    close(fd);
    return NULL;
}

static void many_connections_at_once(void **state)
{
    (void)state;
    static char names[6][2] = {"a", "b", "c", "d", "e", "f"};
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, names[i]), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&handler_calls), 1200);
}

/* Clients that vanish at every moment, then one that is served as ever. */
static void survives_clients_that_vanish(void **state)
{
    (void)state;
    static const char *const beginnings[] = {
        "",
        "G",
        "GET / HTTP/1.1\r\n",
        GET("/"),
        GET("/large"),
        GET("/stream"),
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 50000\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5",
    };
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(beginnings); i++) {
            CLEANUP_FD int fd = socket_connect(port);
            socket_send_text(fd, beginnings[i]);
            if (round % 2 == 0) {
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            }
        }
    }
    CLEANUP_FREE char *text = socket_exchange(port, GET("/close"));
    assert_status(text, 200);
    assert_true(wait_for_in_flight(0));
}

static int make_large_body(void **state)
{
    (void)state;
    large_body = xmalloc(LARGE_BODY_BYTES + 1);
    for (size_t i = 0; i < LARGE_BODY_BYTES; i++) {
        large_body[i] = (char)('A' + i % 26);
    }
    return 0;
}

static int free_large_body(void **state)
{
    (void)state;
    free(large_body);
    return 0;
}

#define with_server(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_server(answers_and_keeps_the_connection),
        with_server(pipelined_requests_are_answered_in_order),
        with_server(shows_the_request_as_it_came),
        with_server(the_connection_ends_when_it_was_said),
        with_server(answers_without_a_body),
        with_server(reads_bodies_in_any_pieces),
        with_server(refuses_large_bodies),
        with_server(says_what_is_wrong_with_a_body),
        with_server(bodies_keep_the_handlers_deadline),
        with_server(bodies_may_take_longer_than_headers),
        with_server(headers_have_a_deadline_too),
        with_server(idle_connections_are_closed),
        with_server(continues_when_asked),
        with_server(refuses_ambiguous_requests),
        with_server(takes_64_headers_and_no_more),
        with_server(takes_heads_of_32_kib_and_no_more),
        with_server(streams),
        with_server(large_answers_arrive_whole),
        with_server(misuse_is_refused_not_sent),
        with_server(handlers_have_a_whole_stack),
        with_server(counts_what_is_in_flight),
        with_server(draining_closes_after_each_answer),
        cmocka_unit_test(busy_servers_let_connections_go),
        cmocka_unit_test(stops_at_once_with_idle_connections),
        with_server(says_why_it_cannot_listen),
        with_server(many_connections_at_once),
        with_server(survives_clients_that_vanish),
    };
    return cmocka_run_group_tests(tests, make_large_body, free_large_body);
}
