#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/tests/support_test.h"

static void assert_sane(const struct strbuf *sb)
{
    assert_non_null(sb->buf);
    assert_true(sb->len <= sb->cap);
    assert_int_equal(sb->buf[sb->len], '\0');
    assert_true(sb->alloc == 0 ? sb->len == 0 : sb->len < sb->alloc);
}

static void begins_empty(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf sb;
    strbuf_init(&sb, 10);
    assert_sane(&sb);
    assert_string_equal(sb.buf, "");
    strbuf_clear(&sb);
    strbuf_truncate(&sb, 0);
    strbuf_consume(&sb, 0);
    assert_non_null(strbuf_reserve(&sb, 0));
    strbuf_advance(&sb, 0);
    assert_int_equal(strbuf_append(&sb, NULL, 0), 0);
    assert_sane(&sb);
    CLEANUP_FREE char *text = strbuf_detach(&sb, NULL);
    assert_string_equal(text, "");
}

static void grows_up_to_its_cap(void **state)
{
    (void)state;
    for (size_t cap = 0; cap < 300; cap++) {
        CLEANUP_STRBUF struct strbuf sb;
        strbuf_init(&sb, cap);
        for (size_t i = 0; i < cap; i++) {
            assert_int_equal(strbuf_append_char(&sb, (char)('a' + i % 26)), 0);
            assert_sane(&sb);
        }
        assert_false(strbuf_failed(&sb));
        assert_int_equal(strbuf_append_char(&sb, '!'), -1);
        assert_true(strbuf_failed(&sb));
        assert_int_equal(sb.len, cap);
        assert_true(sb.alloc <= cap + 1);
        assert_sane(&sb);
    }
}

static void overflow_stays_until_clear(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf sb;
    strbuf_init(&sb, 4);
    assert_int_equal(strbuf_append_str(&sb, "abc"), 0);
    assert_int_equal(strbuf_append_str(&sb, "de"), -1);
    assert_string_equal(sb.buf, "abc");
    assert_int_equal(strbuf_append_char(&sb, 'd'), -1);
    assert_int_equal(strbuf_appendf(&sb, "%d", 1), -1);
    assert_null(strbuf_reserve(&sb, 0));
    strbuf_clear(&sb);
    assert_int_equal(strbuf_appendf(&sb, "%d", 1234), 0);
    assert_string_equal(sb.buf, "1234");
}

static void formats_short_and_long(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf sb;
    strbuf_init(&sb, 2000);
    char text[1001];
    memset(text, 'x', 1000);
    text[1000] = '\0';
    assert_int_equal(strbuf_appendf(&sb, "%s", text), 0);
    assert_int_equal(sb.len, 1000);
    assert_string_equal(sb.buf, text);
    assert_int_equal(strbuf_appendf(&sb, "%s%s", text, "y"), -1);
    assert_int_equal(sb.len, 1000);
    assert_sane(&sb);
}

static void appends_numbers(void **state)
{
    (void)state;
    static const struct {
        uint64_t value;
        const char *text;
    } cases[] = {
        {0, "0"}, {9, "9"}, {10, "10"}, {4294967296, "4294967296"}, {UINT64_MAX, "18446744073709551615"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CLEANUP_STRBUF struct strbuf sb;
        strbuf_init(&sb, 20);
        assert_int_equal(strbuf_append_uint(&sb, cases[i].value), 0);
        assert_string_equal(sb.buf, cases[i].text);
        assert_sane(&sb);
    }
    char storage[4];
    struct strbuf small;
    strbuf_init_fixed(&small, storage, sizeof(storage));
    assert_int_equal(strbuf_append_uint(&small, 1234), -1);
    assert_string_equal(small.buf, "");
}

static void consumes_at_the_front(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf sb;
    strbuf_init(&sb, 100);
    strbuf_append_str(&sb, "line 1\nline 2\n");
    strbuf_consume(&sb, 7);
    assert_string_equal(sb.buf, "line 2\n");
    strbuf_consume(&sb, 7);
    assert_int_equal(sb.len, 0);
    assert_sane(&sb);
}

static void reserve_and_advance(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf sb;
    strbuf_init(&sb, 10);
    char *room = strbuf_reserve(&sb, 10);
    assert_non_null(room);
    assert_sane(&sb);
    memcpy(room, "0123456789", 10);
    strbuf_advance(&sb, 10);
    assert_string_equal(sb.buf, "0123456789");
    assert_sane(&sb);
    assert_null(strbuf_reserve(&sb, 1));
}

static void escapes_json(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
        size_t len;
    } cases[] = {
        {"", "\"\"", 0},
        {"plain", "\"plain\"", 5},
        {"a\"b\\c/d", "\"a\\\"b\\\\c/d\"", 7},
        {"\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\"", 5},
        {"\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\"", 3},
        {"a\0b", "\"a\\u0000b\"", 3},
        {"h\xC3\xA9\xF0\x9F\x98\x80", "\"h\xC3\xA9\xF0\x9F\x98\x80\"", 7},
        {"\xC3", "\"\xEF\xBF\xBD\"", 1},
        {"\xFFx\xC0\xAF", "\"\xEF\xBF\xBDx\xEF\xBF\xBD\xEF\xBF\xBD\"", 4},
        {"\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"", 3},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_STRBUF struct strbuf sb;
        strbuf_init(&sb, 100);
        assert_int_equal(strbuf_append_json_string(&sb, cases[i].in, cases[i].len), 0);
        assert_string_equal(sb.buf, cases[i].out);
    }
}

static void cuts_json_between_characters(void **state)
{
    (void)state;
    static const char text[] = "a\"\xE2\x82\xAC\x01z"; /* 1, 2, 3, 6 and 1 bytes as JSON */
    static const char *const expected[] = {
        [5] = "\"\xE2\x80\xA6\"",
        [6] = "\"a\xE2\x80\xA6\"",
        [7] = "\"a\xE2\x80\xA6\"",
        [8] = "\"a\\\"\xE2\x80\xA6\"",
        [10] = "\"a\\\"\xE2\x80\xA6\"",
        [11] = "\"a\\\"\xE2\x82\xAC\xE2\x80\xA6\"",
        [14] = "\"a\\\"\xE2\x82\xAC\xE2\x80\xA6\"",
        [15] = "\"a\\\"\xE2\x82\xAC\\u0001z\"",
        [99] = "\"a\\\"\xE2\x82\xAC\\u0001z\"",
    };
    for (size_t max_bytes = 5; max_bytes < ARRAY_SIZE(expected); max_bytes++) {
        CLEANUP_STRBUF struct strbuf sb;
        strbuf_init(&sb, 100);
        assert_int_equal(strbuf_append_json_cut(&sb, text, sizeof(text) - 1, max_bytes), 0);
        assert_true(sb.len <= max_bytes);
        if (expected[max_bytes]) {
            assert_string_equal(sb.buf, expected[max_bytes]);
        }
    }
    CLEANUP_STRBUF struct strbuf full;
    strbuf_init(&full, 6);
    strbuf_append_str(&full, "12");
    assert_int_equal(strbuf_append_json_cut(&full, text, sizeof(text) - 1, 6), -1);
    assert_string_equal(full.buf, "12");
}

static void composite_appends_are_whole_or_nothing(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf sb;
    strbuf_init(&sb, 10);
    strbuf_append_str(&sb, "abc");
    assert_int_equal(strbuf_append_json_string(&sb, "123456", 6), -1);
    assert_string_equal(sb.buf, "abc");
    strbuf_clear(&sb);
    assert_int_equal(strbuf_append_json_string(&sb, "\n\n\n\n\n", 5), -1);
    assert_string_equal(sb.buf, "");
    strbuf_clear(&sb);
    assert_int_equal(strbuf_append_percent_encoded(&sb, "ab    "), -1);
    assert_string_equal(sb.buf, "");
    strbuf_clear(&sb);
    assert_int_equal(strbuf_append_json_string(&sb, "12345678", 8), 0);
}

static void encodes_base64(void **state)
{
    static const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xFF\xFE\xFB\xEF", "//777w=="},
    };
    struct strbuf sb;
    (void)state;
    strbuf_init(&sb, 10);
    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        strbuf_clear(&sb);
        assert_int_equal(strbuf_append_base64(&sb, vectors[i][0], strlen(vectors[i][0])), 0);
        assert_string_equal(sb.buf, vectors[i][1]);
    }
    strbuf_clear(&sb);
    assert_int_equal(strbuf_append_base64(&sb, "foobarfoo", 9), -1);
    assert_string_equal(sb.buf, "");
    assert_true(strbuf_failed(&sb));
    strbuf_release(&sb);
}

static void percent_encodes(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf sb;
    strbuf_init(&sb, 100);
    strbuf_append_percent_encoded(&sb, "aZ09-._~ /?&=+%\xC3\xA9");
    assert_string_equal(sb.buf, "aZ09-._~%20%2F%3F%26%3D%2B%25%C3%A9");
}

static void fixed_storage_never_allocates(void **state)
{
    (void)state;
    char storage[8];
    struct strbuf sb;
    strbuf_init_fixed(&sb, storage, sizeof(storage));
    assert_int_equal(strbuf_append_str(&sb, "1234567"), 0);
    assert_ptr_equal(sb.buf, storage);
    assert_int_equal(strbuf_append_char(&sb, '8'), -1);
    assert_string_equal(storage, "1234567");
    assert_sane(&sb);
}

static void lent_storage_is_left_when_it_is_full(void **state)
{
    (void)state;
    static const size_t caps[] = {0, 5, 9, 10, 11, 100};
    for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
        char storage[10];
        size_t appended = 0;
        CLEANUP_STRBUF struct strbuf sb;
        strbuf_init_with(&sb, storage, sizeof(storage), caps[i]);
        assert_sane(&sb);
        while (strbuf_append_char(&sb, 'x') == 0) {
            appended++;
            assert_sane(&sb);
            assert_true((sb.buf == storage) == (appended < sizeof(storage)));
        }
        assert_int_equal(appended, caps[i]);
        size_t len;
        CLEANUP_FREE char *text = strbuf_detach(&sb, &len); /* its own memory, whoever had it */
        assert_true(text != storage);
        assert_int_equal(len, caps[i]);
        assert_int_equal(strspn(text, "x"), caps[i]);
    }
}

static void detaching_hands_over(void **state)
{
    (void)state;
    struct strbuf sb;
    strbuf_init(&sb, 100);
    strbuf_append_str(&sb, "text");
    size_t len;
    CLEANUP_FREE char *text = strbuf_detach(&sb, &len);
    assert_string_equal(text, "text");
    assert_int_equal(len, 4);
    assert_sane(&sb);
    strbuf_append_str(&sb, "more");
    assert_string_equal(sb.buf, "more");
    strbuf_release(&sb);
    strbuf_release(&sb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_empty),
        cmocka_unit_test(grows_up_to_its_cap),
        cmocka_unit_test(overflow_stays_until_clear),
        cmocka_unit_test(formats_short_and_long),
        cmocka_unit_test(appends_numbers),
        cmocka_unit_test(consumes_at_the_front),
        cmocka_unit_test(reserve_and_advance),
        cmocka_unit_test(escapes_json),
        cmocka_unit_test(cuts_json_between_characters),
        cmocka_unit_test(composite_appends_are_whole_or_nothing),
        cmocka_unit_test(percent_encodes),
        cmocka_unit_test(encodes_base64),
        cmocka_unit_test(fixed_storage_never_allocates),
        cmocka_unit_test(lent_storage_is_left_when_it_is_full),
        cmocka_unit_test(detaching_hands_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
