/* Bodies: where they end and what is in them, whatever the pieces they come in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/gateway/h1_body.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"

static enum h1_fault read_body(struct h1_body *body, const char *text, size_t len, size_t piece,
                               struct strbuf *out, size_t *ret_taken)
{
    *ret_taken = 0;
    for (size_t at = 0; at < len && !body->complete;) {
        size_t count = len - at < piece ? len - at : piece, body_len, taken;
        CLEANUP_FREE char *copy = xmemdup(text + at, count);
        enum h1_fault fault = h1_body_feed(body, copy, count, &body_len, &taken);
        if (fault != H1_FAULT_NONE) {
            return fault;
        }
        strbuf_append(out, copy, body_len);
        *ret_taken += taken;
        at += count;
    }
    return H1_FAULT_NONE;
}

struct chunk_case {
    const char *text;
    const char *body; /* NULL: refused */
    bool complete;
    const char *rest;
};

static const struct chunk_case chunk_cases[] = {
    {"5\r\nhello\r\n0\r\n\r\n", "hello", true, ""},
    {"5\r\nhello\r\n0\r\n\r\nGET", "hello", true, "GET"},
    {"1\r\na\r\n02\r\nbc\r\nA\r\n0123456789\r\n0\r\n\r\n", "abc0123456789", true, ""},
    {"0\r\n\r\n", "", true, ""},
    {"000\r\n\r\n", "", true, ""},
    {"5;ext=1\r\nhello\r\n0;x\r\n\r\n", "hello", true, ""},
    {"5 ; ext=\"a b\"\r\nhello\r\n0\r\n\r\n", "hello", true, ""},
    {"5  \r\nhello\r\n0\r\n\r\n", "hello", true, ""},
    {"5 5\r\nhello\r\n0\r\n\r\n", NULL, false, ""},
    {"5\t\r\nhello\r\n0\r\n\r\n", NULL, false, ""},
    {"5 x\r\nhello\r\n0\r\n\r\n", NULL, false, ""},
    {"5\r\nhello\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\nrest", "hello", true, "rest"},
    {"5\r\nhel", "hel", false, ""},
    {"5\r\nhello\r\n0\r\n", "hello", false, ""},
    {"5\r\nhelloX\n0\r\n\r\n", NULL, false, ""},
    {"5\r\nhello\n0\r\n\r\n", NULL, false, ""},
    {"5\r\nhello0\r\n\r\n", NULL, false, ""},
    {"5\nhello\r\n0\r\n\r\n", NULL, false, ""},
    {"\r\nhello", NULL, false, ""},
    {"x\r\n", NULL, false, ""},
    {"-5\r\n", NULL, false, ""},
    {"0x5\r\nhello\r\n", NULL, false, ""},
    {" 5\r\nhello\r\n", NULL, false, ""},
    {";\r\n", NULL, false, ""},
    {"5g\r\n", NULL, false, ""},
    {"fffffffffffffffff\r\n", NULL, false, ""},
    {"1000000000000000\r\n", NULL, false, ""},
    {"5;\x01\r\nhello\r\n", NULL, false, ""},
    {"5;a\n\r\nhello\r\n", NULL, false, ""},
    {"0\r\nA: b\n\r\n", NULL, false, ""},
    {"0\r\n\n", NULL, false, ""},
    {"0\r\nA\rB\r\n\r\n", NULL, false, ""},
    {"0\r\nA\r\n\r\n", NULL, false, ""},
    {"0\r\nA : b\r\n\r\n", NULL, false, ""},
    {"0\r\nA: b\r\n c\r\n\r\n", NULL, false, ""},
    {"0\r\n: b\r\n\r\n", NULL, false, ""},
    {"0\r\nA:\r\n\r\n", "", true, ""},
};

static void test_chunked_bodies(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 2, 7, SIZE_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(chunk_cases); i++) {
        for (size_t p = 0; p < ARRAY_SIZE(pieces); p++) {
            const struct chunk_case *chunk = &chunk_cases[i];
            struct h1_body body;
            CLEANUP_STRBUF struct strbuf out;
            size_t taken;
            strbuf_init(&out, 1 << 16);
            h1_body_init(&body, H1_BODY_CHUNKED, 0);
            enum h1_fault fault = read_body(&body, chunk->text, strlen(chunk->text), pieces[p], &out, &taken);
            if ((fault == H1_FAULT_NONE) != (chunk->body != NULL)) {
                fail_msg("case %zu in pieces of %zu: %s: %s", i, pieces[p], h1_fault_code(fault),
                         chunk->text);
            }
            if (chunk->body) {
                assert_string_equal(out.buf, chunk->body);
                assert_int_equal(body.complete, chunk->complete);
                assert_string_equal(chunk->text + taken, chunk->rest);
            }
        }
    }
}

static void test_chunk_lines_and_trailers_are_limited(void **state)
{
    (void)state;
    static const struct {
        const char *start;
        size_t fill, limit;
    } cases[] = {{"5;", H1_CHUNK_LINE_BYTES_MAX - 1, H1_CHUNK_LINE_BYTES_MAX},
                 {"0\r\n", H1_TRAILER_BYTES_MAX, H1_TRAILER_BYTES_MAX + 1}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (size_t extra = 0; extra < 2; extra++) {
            struct h1_body body;
            CLEANUP_STRBUF struct strbuf text, out;
            size_t taken;
            strbuf_init(&text, 1 << 16);
            strbuf_init(&out, 1 << 16);
            strbuf_append_str(&text, cases[i].start);
            for (size_t n = 0; n < cases[i].fill + extra; n++) {
                strbuf_append_char(&text, 'a');
            }
            h1_body_init(&body, H1_BODY_CHUNKED, 0);
            enum h1_fault fault = read_body(&body, text.buf, text.len, SIZE_MAX, &out, &taken);
            assert_int_equal(fault, extra == 0 ? H1_FAULT_NONE : H1_FAULT_CHUNK);
        }
    }
}

static void test_other_framings(void **state)
{
    (void)state;
    struct h1_body body;
    char data[] = "hello world";
    size_t body_len, taken;
    h1_body_init(&body, H1_BODY_LENGTH, 5);
    assert_false(body.complete);
    assert_false(h1_body_end_of_stream(&body));
    assert_int_equal(h1_body_feed(&body, data, sizeof(data) - 1, &body_len, &taken), H1_FAULT_NONE);
    assert_int_equal(body_len, 5);
    assert_int_equal(taken, 5);
    assert_true(body.complete);
    h1_body_init(&body, H1_BODY_LENGTH, 0);
    assert_true(body.complete);
    h1_body_init(&body, H1_BODY_NONE, 0);
    assert_true(body.complete);
    assert_int_equal(h1_body_feed(&body, data, 3, &body_len, &taken), H1_FAULT_NONE);
    assert_int_equal(taken, 0);
    h1_body_init(&body, H1_BODY_UNTIL_CLOSE, 0);
    assert_int_equal(h1_body_feed(&body, data, 3, &body_len, &taken), H1_FAULT_NONE);
    assert_int_equal(body_len, 3);
    assert_false(body.complete);
    assert_true(h1_body_end_of_stream(&body));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunked_bodies),
        cmocka_unit_test(test_chunk_lines_and_trailers_are_limited),
        cmocka_unit_test(test_other_framings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
