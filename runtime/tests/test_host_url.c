/* url and path_template: what comes in the request line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/host/path_template.h"
#include "runtime/host/url.h"

static void test_decode(void **state)
{
    static const struct {
        const char *text, *decoded; /* NULL: refused */
    } cases[] = {
        {"", ""},       {"a%20b", "a b"}, {"a+b", "a b"},    {"%c3%A4", "ä"}, {"%2F%2e", "/."},
        {"%", NULL},    {"%4", NULL},     {"%4g", NULL},     {"%00", NULL},   {"%ff", NULL},
        {"%%20", NULL}, {"%25", "%"},     {"\xc3\xa4", "ä"}, {"\xc3", NULL},  {"%ed%a0%80", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct arena arena;
        struct err err = ERR_INIT;
        const char *decoded = NULL;
        int rc;
        arena_init(&arena);
        rc = url_decode(&arena, cases[i].text, strlen(cases[i].text), true, &decoded, &err);
        assert_int_equal(rc, cases[i].decoded ? 0 : -1);
        if (rc == 0)
            assert_string_equal(decoded, cases[i].decoded);
        arena_release(&arena);
    }
}

static void expect_query(const char *query, const char *expected)
{
    CLEANUP_STRBUF struct strbuf text;
    struct arena arena;
    struct field_list list;
    struct err err = ERR_INIT;

    arena_init(&arena);
    strbuf_init(&text, 1000);
    assert_int_equal(url_query_parse(&arena, query, &list, &err), 0);
    for (size_t i = 0; i < list.count; i++)
        strbuf_appendf(&text, "<%s|%s>", list.fields[i].name, list.fields[i].value);
    assert_string_equal(text.buf, expected);
    arena_release(&arena);
}

static void test_query(void **state)
{
    CLEANUP_STRBUF struct strbuf many;
    struct arena arena;
    struct field_list list;
    struct err err = ERR_INIT;

    (void)state;
    expect_query(NULL, "");
    expect_query("", "");
    expect_query("&&", "");
    expect_query("a", "<a|>");
    expect_query("a=", "<a|>");
    expect_query("a=1&b&a=2=3&", "<a|1><b|><a|2=3>");
    expect_query("%61=%26+x", "<a|& x>");
    expect_query("=x", "<|x>");

    arena_init(&arena);
    strbuf_init(&many, 10000);
    for (int i = 0; i <= URL_QUERY_FIELDS_MAX; i++)
        strbuf_append_str(&many, "a&");
    assert_int_equal(url_query_parse(&arena, many.buf, &list, &err), -1);
    assert_int_equal(url_query_parse(&arena, "a=%zz", &list, &err), -1);
    arena_release(&arena);
}

static void test_template_check(void **state)
{
    static const char *const good[] = {"/", "/a", "/{id}", "/users/{user_id}/orders/{order}", "/a/"};
    static const char *const bad[] = {"",       "a",      "//",   "/a//b", "/{}",     "/{1}",
                                      "/{a-b}", "/x{id}", "/{id", "/id}",  "/{a}/{a}"};
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_int_equal(path_template_check(good[i], &err), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(path_template_check(bad[i], &err), -1);
}

static void expect_match(const char *template, const char *path, const char *expected)
{
    CLEANUP_STRBUF struct strbuf text;
    struct arena arena;
    struct field_list list = {0};
    struct err err = ERR_INIT;
    bool matched;

    arena_init(&arena);
    strbuf_init(&text, 1000);
    if (path_template_match(template, path, &arena, &matched, &list, &err) != 0)
        strbuf_append_str(&text, "error");
    else if (!matched)
        strbuf_append_str(&text, "no");
    for (size_t i = 0; i < list.count; i++)
        strbuf_appendf(&text, "<%s|%s>", list.fields[i].name, list.fields[i].value);
    assert_string_equal(text.buf, expected);
    arena_release(&arena);
}

static void test_template_match(void **state)
{
    (void)state;
    expect_match("/", "/", "");
    expect_match("/", "/a", "no");
    expect_match("/{id}", "/7", "<id|7>");
    expect_match("/{id}", "/7/", "<id|7>");
    expect_match("/{id}", "/", "no");
    expect_match("/{id}", "//", "no");
    expect_match("/{id}", "", "no");
    expect_match("/{id}", "/a%2Fb", "<id|a/b>");
    expect_match("/{id}", "/a+b", "<id|a+b>");
    expect_match("/{id}", "/%zz", "error");
    expect_match("/users/{u}/orders/{o}", "/users/1/orders/2", "<u|1><o|2>");
    expect_match("/users/{u}/orders/{o}", "/users/1/order/2", "no");
    expect_match("/users/{u}/orders/{o}", "/users/1/orders", "no");
    expect_match("/users/{u}", "/%75sers/1", "<u|1>");
}

static void test_arena_blocks_are_apart(void **state)
{
    struct arena arena;
    unsigned char *blocks[200];

    (void)state;
    arena_init(&arena);
    for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
        size_t size = i % 7 == 0 ? 3 * ARENA_CHUNK_BYTES + i : i;
        blocks[i] = arena_alloc(&arena, size);
        assert_int_equal((uintptr_t)blocks[i] % _Alignof(max_align_t), 0);
        memset(blocks[i], (int)i, size);
    }
    for (size_t i = 0; i < ARRAY_SIZE(blocks); i++)
        for (size_t at = 0; at < i; at++)
            assert_int_equal(blocks[i][at], i);
    assert_string_equal(arena_strndup(&arena, "abc", 2), "ab");
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_template_check),
        cmocka_unit_test(test_template_match),
        cmocka_unit_test(test_arena_blocks_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
