#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/http/http_message.h"
#include "runtime/tests/support_test.h"

static void builds_response_heads(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const struct http_header headers[] = {{"Content-Type", "text/plain"},
                                                 {"connection", "upgrade"},
                                                 {"CONTENT-LENGTH", "99"},
                                                 {"X-Empty", ""},
                                                 {"Date", "never"},
                                                 {"transfer-encoding", "gzip"},
                                                 {"Keep-Alive", "5"},
                                                 {"Upgrade", "h2c"}};
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 4096);
    const struct http_response_head head = {
        .status = 404, .framing = HTTP_FRAMING_LENGTH, .length = 7, .keep_alive = true};
    assert_ok(http_response_head_append(&out, &head, headers, ARRAY_SIZE(headers), &err));
    const char *date = strstr(out.buf, "Date: ");
    assert_non_null(date);
    assert_memory_equal(date + strlen("Date: ") + 26, "GMT\r\n", 5);
    CLEANUP_STRBUF struct strbuf expected;
    strbuf_init(&expected, 4096);
    strbuf_appendf(
        &expected,
        "HTTP/1.1 404 Not Found\r\n%.35s\r\nConnection: keep-alive\r\nContent-Length: 7\r\nContent-Type: "
        "text/plain\r\nX-Empty: \r\n\r\n",
        date);
    assert_string_equal(out.buf, expected.buf);

    static const struct {
        enum http_framing framing;
        const char *has, *lacks;
    } framings[] = {
        {HTTP_FRAMING_NONE, "Connection: close\r\n\r\n", "Content-Length"},
        {HTTP_FRAMING_CHUNKED, "Transfer-Encoding: chunked\r\n", "Content-Length"},
        {HTTP_FRAMING_CLOSE, "Connection: close\r\n\r\n", "Transfer-Encoding"},
        {HTTP_FRAMING_LENGTH, "Content-Length: 0\r\n", "Transfer-Encoding"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(framings); i++) {
        strbuf_clear(&out);
        const struct http_response_head other = {.status = 200, .framing = framings[i].framing};
        assert_ok(http_response_head_append(&out, &other, NULL, 0, &err));
        assert_non_null(strstr(out.buf, framings[i].has));
        assert_null(strstr(out.buf, framings[i].lacks));
    }
}

static void refuses_what_would_split_a_response(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const struct http_header bad[] = {{"X", "a\r\nSet-Cookie: b"},
                                             {"X", "a\nb"},
                                             {"X\r\nY", "a"},
                                             {"X Y", "a"},
                                             {"X:", "a"},
                                             {"", "a"},
                                             {"X", "\x01"},
                                             {"X", "\x7f"},
                                             {"\xC3\xA4", "a"}};
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 4096);
    struct http_response_head head = {.status = 200, .framing = HTTP_FRAMING_LENGTH};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_fails(http_response_head_append(&out, &head, &bad[i], 1, &err), ERR_INVALID);
        assert_int_equal(out.len, 0);
    }
    static const struct http_header good = {"X-a!#$%&'*+.^_`|~9", "tab\tand \xC3\xA4"};
    assert_ok(http_response_head_append(&out, &head, &good, 1, &err));
    strbuf_clear(&out);
    static const int statuses[] = {-1, 0, 100, 101, 199, 600, 1000};
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        head.status = statuses[i];
        assert_fails(http_response_head_append(&out, &head, NULL, 0, &err), ERR_INVALID);
    }
    CLEANUP_FREE char *large = xmalloc(5000);
    memset(large, 'x', 4999);
    large[4999] = '\0';
    head.status = 200;
    struct http_header huge = {"X", large};
    assert_fails(http_response_head_append(&out, &head, &huge, 1, &err), ERR_TOO_LARGE);
    assert_int_equal(out.len, 0);
}

static void knows_statuses(void **state)
{
    (void)state;
    assert_string_equal(http_status_text(200), "OK");
    assert_string_equal(http_status_text(503), "Service Unavailable");
    assert_string_equal(http_status_text(299), "Unknown");
    assert_true(http_status_has_body(200));
    assert_false(http_status_has_body(204));
    assert_false(http_status_has_body(304));
}

static void searches_lists(void **state)
{
    (void)state;
    assert_true(http_list_has("keep-alive", "keep-alive"));
    assert_true(http_list_has(" Upgrade ,\tKeep-Alive ", "keep-alive"));
    assert_false(http_list_has("keep-alive-not", "keep-alive"));
    assert_false(http_list_has("", "close"));
    assert_false(http_list_has(", ,", "close"));
}

#define HOST                                                                                                 \
    {                                                                                                        \
        "Host", "a"                                                                                          \
    }

static void frames_requests_strictly(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const struct {
        struct http_header headers[3];
        size_t count;
        bool version_1_1, ok, chunked;
        int64_t length;
    } cases[] = {
        {{HOST}, 1, true, true, false, 0},
        {{{"X", "y"}}, 1, true, false, false, 0},
        {{{"X", "y"}}, 1, false, true, false, 0},
        {{HOST, {"host", "b"}}, 2, true, false, false, 0},
        {{HOST, {"content-length", "5"}}, 2, true, true, false, 5},
        {{HOST, {"Content-Length", "0"}}, 2, true, true, false, 0},
        {{HOST, {"Content-Length", "+5"}}, 2, true, false, false, 0},
        {{HOST, {"Content-Length", "-0"}}, 2, true, false, false, 0},
        {{HOST, {"Content-Length", "5abc"}}, 2, true, false, false, 0},
        {{HOST, {"Content-Length", "5,5"}}, 2, true, false, false, 0},
        {{HOST, {"Content-Length", ""}}, 2, true, false, false, 0},
        {{HOST, {"Content-Length", "99999999999999999999"}}, 2, true, false, false, 0},
        {{HOST, {"Content-Length", "5"}, {"Content-Length", "5"}}, 3, true, false, false, 0},
        {{HOST, {"Transfer-Encoding", "Chunked"}}, 2, true, true, true, 0},
        {{HOST, {"Transfer-Encoding", "identity"}}, 2, true, false, false, 0},
        {{HOST, {"Transfer-Encoding", "gzip, chunked"}}, 2, true, false, false, 0},
        {{HOST, {"Transfer-Encoding", "chunked"}}, 2, false, false, false, 0},
        {{HOST, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}},
         3,
         true,
         false,
         false,
         0},
        {{HOST, {"Transfer-Encoding", "chunked"}, {"Content-Length", "5"}}, 3, true, false, false, 0},
        {{HOST, {"X(", "5"}}, 2, true, false, false, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct http_body_framing framing;
        int result = http_request_headers_check(cases[i].headers, cases[i].count, cases[i].version_1_1,
                                                &framing, &err);
        if (result != (cases[i].ok ? 0 : -1)) {
            fail_msg("case %zu", i);
        }
        if (result == 0) {
            assert_int_equal(framing.chunked, cases[i].chunked);
            assert_int_equal(framing.content_length, cases[i].length);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builds_response_heads),    cmocka_unit_test(refuses_what_would_split_a_response),
        cmocka_unit_test(knows_statuses),           cmocka_unit_test(searches_lists),
        cmocka_unit_test(frames_requests_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
