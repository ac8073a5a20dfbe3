/* Heads: what is accepted, what is refused and how, whatever the pieces they come in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/gateway/h1_head.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"

/* Feeds `text` in pieces of `piece` bytes and parses what was found. */
static enum h1_fault read_head(struct h1_head *head, enum h1_kind kind, const char *text, size_t len,
                               size_t piece, size_t *ret_end)
{
    struct h1_scan scan;
    h1_scan_init(&scan, kind);
    *ret_end = 0;
    for (size_t have = 0; have < len;) {
        have = len - have < piece ? len : have + piece;
        enum h1_fault fault = h1_scan_feed(&scan, text, have, ret_end);
        if (fault != H1_FAULT_NONE) {
            return fault;
        }
        if (*ret_end > 0) {
            return h1_head_parse(head, kind, text + scan.start, *ret_end - scan.start);
        }
    }
    return H1_FAULT_NONE;
}

static const size_t pieces[] = {1, 2, 7, SIZE_MAX};

struct request_case {
    const char *text;
    enum h1_fault fault;
};

#define LINE "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"

static const struct request_case request_cases[] = {
    {LINE HOST "\r\n", H1_FAULT_NONE},
    {"\r\n" LINE HOST "\r\n", H1_FAULT_NONE},
    {"\r\n\r\n" LINE HOST "\r\n", H1_FAULT_NONE},
    {"\r\n\r\n\r\n" LINE HOST "\r\n", H1_FAULT_SYNTAX},
    {"GET / HTTP/1.0\r\n" HOST "\r\n", H1_FAULT_NONE},
    {"GET http://b:80/x?y HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_NONE},
    {"PROPFIND /x HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_NONE},
    /* request line */
    {"GET  / HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_SYNTAX},
    {"GET /  HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_SYNTAX},
    {" GET / HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_METHOD},
    {"GET / HTTP/1.1 \r\n" HOST "\r\n", H1_FAULT_VERSION},
    {"GET /\r\n\r\n", H1_FAULT_VERSION},
    {"GET / HTTP/2.0\r\n" HOST "\r\n", H1_FAULT_VERSION},
    {"GET / HTTP/1.2\r\n" HOST "\r\n", H1_FAULT_VERSION},
    {"GET / HTTP/1.11\r\n" HOST "\r\n", H1_FAULT_VERSION},
    {"GET / http/1.1\r\n" HOST "\r\n", H1_FAULT_SYNTAX},
    {"GET /a b HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_SYNTAX},
    {"GET /a#b HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_SYNTAX},
    {"GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_SYNTAX},
    {"GET /a\tb HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_SYNTAX},
    {"GET a HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_SYNTAX},
    {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_SYNTAX},
    {"GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_SYNTAX},
    {"GET http://u@a/ HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_HOST},
    {"GET http:///x HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_HOST},
    {"CONNECT a:80 HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_METHOD},
    {"TRACE / HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_METHOD},
    {"FOO / HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_METHOD},
    {"get / HTTP/1.1\r\n" HOST "\r\n", H1_FAULT_METHOD},
    /* line ends and folds */
    {"GET / HTTP/1.1\n" HOST "\r\n", H1_FAULT_SYNTAX},
    {LINE "Host: a\n\r\n", H1_FAULT_SYNTAX},
    {LINE HOST "\n", H1_FAULT_SYNTAX},
    {LINE HOST "A: b\rc\r\n\r\n", H1_FAULT_SYNTAX},
    {LINE HOST "A: b\r\n c\r\n\r\n", H1_FAULT_SYNTAX},
    {LINE HOST "A: b\r\n\tc\r\n\r\n", H1_FAULT_SYNTAX},
    {LINE " A: b\r\n" HOST "\r\n", H1_FAULT_SYNTAX},
    /* names and values */
    {LINE HOST "A : b\r\n\r\n", H1_FAULT_SYNTAX},
    {LINE HOST "A b: c\r\n\r\n", H1_FAULT_SYNTAX},
    {LINE HOST "A\t: b\r\n\r\n", H1_FAULT_SYNTAX},
    {LINE HOST ": b\r\n\r\n", H1_FAULT_SYNTAX},
    {LINE HOST "A\r\n\r\n", H1_FAULT_SYNTAX},
    {LINE HOST "A(: b\r\n\r\n", H1_FAULT_SYNTAX},
    {LINE HOST "A: b\x01\r\n\r\n", H1_FAULT_SYNTAX},
    {LINE HOST "A: b\x7f\r\n\r\n", H1_FAULT_SYNTAX},
    {LINE HOST "A:\r\n\r\n", H1_FAULT_NONE},
    {LINE HOST "A: \xe9\r\n\r\n", H1_FAULT_NONE},
    {LINE HOST "A:\tb\t\r\n\r\n", H1_FAULT_NONE},
    /* Host */
    {LINE "\r\n", H1_FAULT_HOST},
    {LINE "Host:\r\n\r\n", H1_FAULT_HOST},
    {LINE HOST HOST "\r\n", H1_FAULT_HOST},
    {LINE "Host: a/b\r\n\r\n", H1_FAULT_HOST},
    {LINE "Host: a b\r\n\r\n", H1_FAULT_HOST},
    {LINE "Host: a, b\r\n\r\n", H1_FAULT_HOST},
    {LINE "Host: u@a\r\n\r\n", H1_FAULT_HOST},
    {LINE "Host: a:8080\r\n\r\n", H1_FAULT_NONE},
    {LINE "Host: [::1]:80\r\n\r\n", H1_FAULT_NONE},
    {"GET / HTTP/1.0\r\n\r\n", H1_FAULT_HOST},
    /* lengths */
    {LINE HOST "Content-Length: 5\r\n\r\n", H1_FAULT_NONE},
    {LINE HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", H1_FAULT_LENGTH},
    {LINE HOST "Content-Length: 5\r\ncontent-length: 6\r\n\r\n", H1_FAULT_LENGTH},
    {LINE HOST "Content-Length: 5, 5\r\n\r\n", H1_FAULT_LENGTH},
    {LINE HOST "Content-Length: +5\r\n\r\n", H1_FAULT_LENGTH},
    {LINE HOST "Content-Length: -5\r\n\r\n", H1_FAULT_LENGTH},
    {LINE HOST "Content-Length: 5a\r\n\r\n", H1_FAULT_LENGTH},
    {LINE HOST "Content-Length: 0x5\r\n\r\n", H1_FAULT_LENGTH},
    {LINE HOST "Content-Length:\r\n\r\n", H1_FAULT_LENGTH},
    {LINE HOST "Content-Length: 99999999999999999999999\r\n\r\n", H1_FAULT_LENGTH},
    {LINE HOST "Content-Length: 9999999999999999999\r\n\r\n", H1_FAULT_LENGTH},
    /* codings */
    {LINE HOST "Transfer-Encoding: chunked\r\n\r\n", H1_FAULT_NONE},
    {LINE HOST "Transfer-Encoding: Chunked\r\n\r\n", H1_FAULT_NONE},
    {LINE HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", H1_FAULT_LENGTH},
    {LINE HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", H1_FAULT_LENGTH},
    {LINE HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", H1_FAULT_CODING},
    {LINE HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", H1_FAULT_CODING},
    {LINE HOST "Transfer-Encoding: chunked, identity\r\n\r\n", H1_FAULT_CODING},
    {LINE HOST "Transfer-Encoding: gzip\r\n\r\n", H1_FAULT_CODING},
    {LINE HOST "Transfer-Encoding: xchunked\r\n\r\n", H1_FAULT_CODING},
    {LINE HOST "Transfer-Encoding: \"chunked\"\r\n\r\n", H1_FAULT_CODING},
    {LINE HOST "Transfer-Encoding:\r\n\r\n", H1_FAULT_CODING},
    {"POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", H1_FAULT_LENGTH},
    /* upgrades do not derail the parser */
    {LINE HOST "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n", H1_FAULT_NONE},
    {LINE HOST "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\n", H1_FAULT_NONE},
};

static void test_requests_are_judged_alike_in_any_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(request_cases); i++) {
        for (size_t p = 0; p < ARRAY_SIZE(pieces); p++) {
            struct h1_head head;
            size_t end;
            const char *text = request_cases[i].text;
            enum h1_fault fault = read_head(&head, H1_REQUEST, text, strlen(text), pieces[p], &end);
            if (fault != request_cases[i].fault || (fault == H1_FAULT_NONE && end != strlen(text))) {
                fail_msg("case %zu in pieces of %zu: %s, expected %s (end %zu): %s", i, pieces[p],
                         h1_fault_code(fault), h1_fault_code(request_cases[i].fault), end, text);
            }
        }
    }
}

static void test_nul_bytes_are_refused(void **state)
{
    (void)state;
    static const char text[] = LINE HOST "A: b\0c\r\n\r\n";
    static const char host[] = LINE "Host: a\0b\r\n\r\n";
    struct h1_head head;
    size_t end;
    assert_int_equal(read_head(&head, H1_REQUEST, text, sizeof(text) - 1, SIZE_MAX, &end), H1_FAULT_SYNTAX);
    assert_int_equal(read_head(&head, H1_REQUEST, host, sizeof(host) - 1, SIZE_MAX, &end), H1_FAULT_SYNTAX);
}

static void test_a_request_is_taken_apart(void **state)
{
    (void)state;
    static const char text[] =
        "HEAD http://Shop.example:80?x=1 HTTP/1.1\r\nhOsT: other\r\nConnection: close, X-Mine\r\n"
        "X-Mine: 1\r\nX-Forwarded-For: 1.2.3.4\r\nx-cicada-a: b\r\nTE: trailers\r\n"
        "Expect: 100-Continue\r\nContent-Length: 7\r\n\r\nrest";
    struct h1_head head;
    size_t end;
    assert_int_equal(read_head(&head, H1_REQUEST, text, sizeof(text) - 1, 7, &end), H1_FAULT_NONE);
    assert_string_equal(text + end, "rest");
    assert_int_equal(head.method, H1_METHOD_HEAD);
    assert_memory_equal(head.host.at, "Shop.example:80", 15);
    assert_int_equal(head.host.len, 15);
    assert_memory_equal(head.target.at, "?x=1", 4);
    assert_int_equal(head.target.len, 4);
    assert_false(head.keep_alive);
    assert_true(head.expect_continue);
    assert_int_equal(head.framing, H1_BODY_LENGTH);
    assert_int_equal(head.content_length, 7);
    assert_int_equal(head.header_count, 8);
    static const enum h1_name ids[] = {H1_NAME_HOST,      H1_NAME_CONNECTION,    H1_NAME_OTHER,
                                       H1_NAME_FORWARDED, H1_NAME_CICADA,        H1_NAME_HOP,
                                       H1_NAME_EXPECT,    H1_NAME_CONTENT_LENGTH};
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        assert_int_equal(head.headers[i].id, ids[i]);
        assert_int_equal(head.headers[i].listed, i == 2);
    }
}

static void test_keep_alive_by_version(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" HOST "\r\n", true},
        {"GET / HTTP/1.0\r\n" HOST "\r\n", false},
        {"GET / HTTP/1.0\r\n" HOST "Connection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.1\r\n" HOST "Connection: foo,close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: keep-alive\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: notclose\r\n\r\n", true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct h1_head head;
        size_t end;
        assert_int_equal(read_head(&head, H1_REQUEST, cases[i].text, strlen(cases[i].text), SIZE_MAX, &end),
                         H1_FAULT_NONE);
        assert_int_equal(head.keep_alive, cases[i].keep);
    }
}

/* The limits, exactly: `extra` bytes or headers above them. */
static char *request_with(size_t target_len, size_t headers, size_t value_len)
{
    struct strbuf out;
    strbuf_init(&out, 1 << 20);
    strbuf_append_str(&out, "GET /");
    for (size_t i = 1; i < target_len; i++) {
        strbuf_append_char(&out, 'a');
    }
    strbuf_append_str(&out, " HTTP/1.1\r\nHost: a\r\n");
    for (size_t i = 1; i < headers; i++) {
        strbuf_append_str(&out, "A: ");
        for (size_t v = 0; v < value_len; v++) {
            strbuf_append_char(&out, 'v');
        }
        strbuf_append_str(&out, "\r\n");
    }
    strbuf_append_str(&out, "\r\n");
    return strbuf_detach(&out, NULL);
}

static void expect_fault(const char *text, enum h1_fault expected)
{
    for (size_t p = 0; p < ARRAY_SIZE(pieces); p++) {
        struct h1_head head;
        size_t end;
        assert_int_equal(read_head(&head, H1_REQUEST, text, strlen(text), pieces[p], &end), expected);
    }
}

static void test_limits(void **state)
{
    (void)state;
    static const struct {
        size_t target_len, headers, value_len;
        enum h1_fault fault;
    } cases[] = {
        {1, H1_REQUEST_HEADERS_MAX, 1, H1_FAULT_NONE},
        {1, H1_REQUEST_HEADERS_MAX + 1, 1, H1_FAULT_TOO_MANY_HEADERS},
        {H1_TARGET_BYTES_MAX - 13, 1, 0, H1_FAULT_NONE},
        {H1_TARGET_BYTES_MAX - 12, 1, 0, H1_FAULT_TARGET_TOO_LONG},
        {60000, 1, 0, H1_FAULT_TARGET_TOO_LONG},
        {1, 2, H1_REQUEST_HEAD_BYTES_MAX - 32, H1_FAULT_NONE},
        {1, 2, H1_REQUEST_HEAD_BYTES_MAX - 31, H1_FAULT_HEAD_TOO_LARGE},
        {1, 40, 1000, H1_FAULT_HEAD_TOO_LARGE},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_FREE char *text = request_with(cases[i].target_len, cases[i].headers, cases[i].value_len);
        expect_fault(text, cases[i].fault);
    }
}

static void test_answers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum h1_fault fault;
        int status;
        enum h1_framing framing;
        bool keep_alive;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", H1_FAULT_NONE, 200, H1_BODY_LENGTH, true},
        {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", H1_FAULT_NONE, 200, H1_BODY_LENGTH, true},
        {"HTTP/1.1 200 OK\r\n\r\n", H1_FAULT_NONE, 200, H1_BODY_UNTIL_CLOSE, true},
        {"HTTP/1.0 200 OK\r\n\r\n", H1_FAULT_NONE, 200, H1_BODY_UNTIL_CLOSE, false},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", H1_FAULT_NONE, 200,
         H1_BODY_CHUNKED, false},
        {"HTTP/1.1 204 No Content\r\n\r\n", H1_FAULT_NONE, 204, H1_BODY_NONE, true},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", H1_FAULT_NONE, 304, H1_BODY_NONE, true},
        {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", H1_FAULT_NONE, 103, H1_BODY_NONE, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", H1_FAULT_LENGTH, 0, 0,
         0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", H1_FAULT_LENGTH, 0, 0, 0},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", H1_FAULT_CODING, 0, 0, 0},
        {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", H1_FAULT_LENGTH, 0, 0, 0},
        {"HTTP/1.1 103 Early\r\nContent-Length: 2\r\n\r\n", H1_FAULT_LENGTH, 0, 0, 0},
        {"HTTP/1.1 101 Switching\r\nContent-Length: 0\r\n\r\n", H1_FAULT_NONE, 101, H1_BODY_NONE, true},
        {"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", H1_FAULT_NONE, 204, H1_BODY_NONE, true},
        {"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", H1_FAULT_NONE, 204, H1_BODY_NONE, false},
        {"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", H1_FAULT_NONE, 204, H1_BODY_NONE, false},
        {"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", H1_FAULT_SYNTAX, 0, 0, 0},
        {"HTTP/1.1 200 OK\nA: b\n\n", H1_FAULT_SYNTAX, 0, 0, 0},
        {"HTTP/2.0 200 OK\r\n\r\n", H1_FAULT_VERSION, 0, 0, 0},
        {"HTTP/1.1 099 No\r\n\r\n", H1_FAULT_SYNTAX, 0, 0, 0},
        {"\r\nHTTP/1.1 200 OK\r\n\r\n", H1_FAULT_SYNTAX, 0, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (size_t p = 0; p < ARRAY_SIZE(pieces); p++) {
            struct h1_head head;
            size_t end;
            enum h1_fault fault =
                read_head(&head, H1_RESPONSE, cases[i].text, strlen(cases[i].text), pieces[p], &end);
            if (fault != cases[i].fault) {
                fail_msg("case %zu: %s: %s", i, h1_fault_code(fault), cases[i].text);
            }
            if (fault == H1_FAULT_NONE) {
                assert_int_equal(head.status, cases[i].status);
                assert_int_equal(head.framing, cases[i].framing);
                assert_int_equal(head.keep_alive, cases[i].keep_alive);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_are_judged_alike_in_any_pieces),
        cmocka_unit_test(test_nul_bytes_are_refused),
        cmocka_unit_test(test_a_request_is_taken_apart),
        cmocka_unit_test(test_keep_alive_by_version),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
