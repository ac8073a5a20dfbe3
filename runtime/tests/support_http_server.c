#include "runtime/tests/support_http_server.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_socket.h"
#include "runtime/tests/support_test.h"

struct http_server *served_server;
int served_port;
struct stop served_gate;
atomic_int served_calls;
struct served_figures served_figures;
char *served_large_body;

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

/* As many bytes of headers as the query says, and a body that went out by one write with a smaller head. */
static void handle_large_head(struct http_request *req)
{
    struct err err = ERR_INIT;
    int64_t head_bytes = 0;
    CLEANUP_STRBUF struct strbuf value;
    strbuf_init(&value, 200000);
    assert_true(parse_int64(http_request_query(req), 0, 200000, &head_bytes));
    while (value.len < (size_t)head_bytes) {
        strbuf_append_char(&value, 'v');
    }
    const struct http_header headers[] = {{"X-Large", value.buf}};
    if (http_request_respond(req, 200, headers, 1, served_large_body, 65536, &err) < 0 &&
        err.code != ERR_TOO_LARGE) {
        abort();
    }
}

static void do_what_the_path_says(struct http_request *req)
{
    const char *path = http_request_raw_path(req);
    if (strcmp(path, "/echo") == 0) {
        handle_echo(req);
    } else if (strcmp(path, "/silent") == 0) {
        return;
    } else if (strcmp(path, "/large") == 0) {
        answer(req, 200, served_large_body, LARGE_BODY_BYTES);
    } else if (strcmp(path, "/large-head") == 0) {
        handle_large_head(req);
    } else if (strcmp(path, "/stream") == 0 || strcmp(path, "/stream-cut") == 0) {
        handle_stream(req, strcmp(path, "/stream") == 0);
    } else if (strcmp(path, "/abort") == 0) {
        http_request_abort(req);
    } else if (strcmp(path, "/close") == 0) {
        http_request_close_after(req);
        answer_text(req, 200, "bye");
    } else if (strcmp(path, "/wait") == 0) {
        stop_wait(&served_gate, 10000);
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

static void handler(void *arg, struct http_request *req)
{
    (void)arg;
    atomic_fetch_add(&served_calls, 1);
    do_what_the_path_says(req);
    atomic_store(&served_figures.received_bytes, http_request_received_bytes(req));
    atomic_store(&served_figures.sent_bytes, http_request_sent_bytes(req));
    atomic_store(&served_figures.reused, http_request_is_reused(req));
}

struct http_server_settings served_settings(void)
{
    return (struct http_server_settings){.listen = "127.0.0.1:0",
                                         .threads = 8,
                                         .max_body_bytes = BODY_MAX_BYTES,
                                         .component = "test",
                                         .header_timeout_ms = 300,
                                         .keep_alive_timeout_ms = 700,
                                         .handler = handler};
}

void served_start_with(const struct http_server_settings *settings)
{
    struct err err = ERR_INIT;
    assert_ok(http_server_start(settings, &served_server, &err));
    served_port = http_server_port(served_server);
    assert_in_range(served_port, 1, 65535);
    stop_init(&served_gate);
    atomic_store(&served_calls, 0);
}

int served_start(void **state)
{
    (void)state;
    struct http_server_settings settings = served_settings();
    served_start_with(&settings);
    return 0;
}

int served_stop(void **state)
{
    (void)state;
    stop_set(&served_gate);
    http_server_stop(served_server);
    served_server = NULL;
    stop_release(&served_gate);
    return 0;
}

bool served_still_open(int fd)
{
    bool closed;
    CLEANUP_FREE char *rest = socket_read_all(fd, 50, &closed);
    assert_string_equal(rest, "");
    return !closed;
}

void assert_status(const char *text, int status)
{
    char expected[32];
    snprintf(expected, sizeof(expected), "HTTP/1.1 %d ", status);
    if (strncmp(text, expected, strlen(expected)) != 0) {
        fail_msg("not %d: %.200s", status, text);
    }
}

const char *body_of(const char *text)
{
    const char *end = strstr(text, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

bool served_wait_for_in_flight(int count)
{
    int64_t deadline_ms = clock_monotonic_ms() + 5000;
    while (http_server_in_flight(served_server) != count && deadline_left_ms(deadline_ms) > 0) {
        usleep(1000);
    }
    return http_server_in_flight(served_server) == count;
}

int served_group_setup(void **state)
{
    (void)state;
    served_large_body = xmalloc(LARGE_BODY_BYTES + 1);
    for (size_t i = 0; i < LARGE_BODY_BYTES; i++) {
        served_large_body[i] = (char)('A' + i % 26);
    }
    return 0;
}

int served_group_teardown(void **state)
{
    (void)state;
    free(served_large_body);
    return 0;
}
