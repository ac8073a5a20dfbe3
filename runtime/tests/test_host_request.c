/* request, and JSON as handlers see it, through the table that they get. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/host/context.h"
#include "runtime/host/request.h"

static void test_body_kinds(void **state)
{
    static const struct {
        const char *type, *body;
        enum body_kind kind;
    } cases[] = {
        {NULL, "", BODY_NO_JSON},
        {"application/json", "", BODY_NO_JSON},
        {NULL, "x", BODY_JSON},
        {"", "x", BODY_JSON},
        {"application/json", "x", BODY_JSON},
        {" Application/JSON ; charset=utf-8", "x", BODY_JSON},
        {"application/problem+json", "x", BODY_JSON},
        {"multipart/form-data; boundary=b", "{", BODY_NO_JSON},
        {"Multipart/mixed", "{", BODY_NO_JSON},
        {"application/x-www-form-urlencoded", "a=b", BODY_NO_JSON},
        {"application/x-www-form-urlencoded", "{", BODY_JSON},
        {"application/x-www-form-urlencoded; charset=utf-8", "\r\n\t [", BODY_JSON},
        {"application/x-www-form-urlencoded", "   ", BODY_NO_JSON},
        {"text/plain", "{", BODY_MAYBE},
        {"image/png", "x", BODY_MAYBE},
        {"application/jsonx", "x", BODY_MAYBE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(request_body_kind(cases[i].type, cases[i].body, strlen(cases[i].body)),
                         cases[i].kind);
}

static void test_request_ids(void **state)
{
    char id[REQUEST_ID_MAX + 2];

    (void)state;
    memset(id, 'a', sizeof(id));
    id[REQUEST_ID_MAX] = '\0';
    assert_int_equal(request_id_len(id), REQUEST_ID_MAX);
    id[REQUEST_ID_MAX] = 'a';
    id[REQUEST_ID_MAX + 1] = '\0';
    assert_int_equal(request_id_len(id), 0);
    assert_int_equal(request_id_len("A-z.0_9"), 7);
    assert_int_equal(request_id_len(""), 0);
    assert_int_equal(request_id_len("a b"), 0);
    assert_int_equal(request_id_len("a\n"), 0);
}

/* A request with this body, on which the test may call the SDK. */
static struct cicada_request *make(struct cicada_request *request, struct arena *arena, const char *type,
                                   const char *body)
{
    const struct http_header headers[] = {{"Content-Type", type}, {"X-Two", "1"}, {"x-two", "2"}};
    const struct request_source source = {"HEAD", "/p", "a=1&a=2", headers, 3, body, strlen(body)};
    struct err err = ERR_INIT;

    arena_init(arena);
    assert_int_equal(request_init(request, &sdk_calls, arena, &source, &err), 0);
    return request;
}

static void test_request_calls(void **state)
{
    struct cicada_request request;
    struct arena arena;
    const char *name, *value;
    size_t len;

    (void)state;
    make(&request, &arena, "text/plain", "abc");
    assert_string_equal(cicada_request_method(&request), "GET");
    assert_string_equal(cicada_request_path(&request), "/p");
    assert_string_equal(cicada_request_query(&request, "a"), "1");
    assert_null(cicada_request_query(&request, "A"));
    assert_string_equal(cicada_request_header(&request, "x-TWO"), "1");
    assert_null(cicada_request_header(&request, "X-Three"));
    assert_true(cicada_request_header_at(&request, 2, &name, &value));
    assert_string_equal(name, "x-two");
    assert_string_equal(value, "2");
    assert_false(cicada_request_header_at(&request, 3, &name, &value));
    assert_true(cicada_request_query_at(&request, 1, &name, &value));
    assert_string_equal(value, "2");
    assert_null(cicada_request_parameter(&request, "id"));
    assert_string_equal(cicada_request_body(&request, &len), "abc");
    assert_int_equal(len, 3);
    request_release(&request);
    arena_release(&arena);
}

static void test_json_calls(void **state)
{
    struct cicada_request request;
    struct cicada_json body, item, absent;
    struct arena arena;
    int64_t integer = 5;
    double number;
    bool truth;
    size_t len;

    (void)state;
    make(&request, &arena, "text/plain",
         "{\"i\":9007199254740993,\"f\":1.10,\"e\":1e2,\"s\":\"\\u00e4\\n\",\"t\":true,\"z\":null,\"a\":[1,["
         "2],{}]}");
    body = cicada_request_json(&request);
    assert_int_equal(cicada_json_type(body), CICADA_JSON_OBJECT);
    assert_int_equal(cicada_json_count(body), 7);
    assert_true(cicada_json_get_int64(body, "i", &integer));
    assert_int_equal(integer, 9007199254740993);
    assert_false(cicada_json_get_int64(body, "f", &integer));
    assert_false(cicada_json_get_int64(body, "s", &integer));
    assert_int_equal(integer, 9007199254740993);
    assert_true(cicada_json_double(cicada_json_member(body, "e"), &number));
    assert_true(number == 100);
    assert_memory_equal(cicada_json_raw(cicada_json_member(body, "f"), &len), "1.10", 4);
    assert_int_equal(len, 4);
    assert_string_equal(cicada_json_get_string(body, "s"), "ä\n");
    assert_true(cicada_json_bool(cicada_json_member(body, "t"), &truth) && truth);
    assert_false(cicada_json_bool(cicada_json_member(body, "i"), &truth));
    assert_int_equal(cicada_json_type(cicada_json_member(body, "z")), CICADA_JSON_NULL);
    item = cicada_json_first(cicada_json_member(body, "a"));
    assert_null(cicada_json_name(item, NULL));
    assert_int_equal(cicada_json_type(item), CICADA_JSON_NUMBER);
    item = cicada_json_next(item);
    assert_int_equal(cicada_json_type(item), CICADA_JSON_ARRAY);
    assert_int_equal(cicada_json_type(cicada_json_next(cicada_json_next(item))), CICADA_JSON_ABSENT);
    assert_string_equal(cicada_json_name(cicada_json_first(body), &len), "i");
    absent = cicada_json_member(cicada_json_member(body, "no"), "where");
    assert_int_equal(cicada_json_type(absent), CICADA_JSON_ABSENT);
    assert_int_equal(cicada_json_type(cicada_json_member(item, "name")), CICADA_JSON_ABSENT);
    assert_null(cicada_json_string(absent, NULL));
    assert_false(request.json_malformed);
    request_release(&request);
    arena_release(&arena);
}

static void test_json_that_is_none(void **state)
{
    struct cicada_request request;
    struct arena arena;
    struct err err = ERR_INIT;

    (void)state;
    make(&request, &arena, "text/plain", "no json");
    assert_int_equal(request_parse_declared_json(&request, &err), 0); /* not declared: nobody asked */
    assert_false(request.json_malformed);
    assert_int_equal(cicada_json_type(cicada_request_json(&request)), CICADA_JSON_ABSENT);
    assert_true(request.json_malformed);
    request_release(&request);
    arena_release(&arena);

    make(&request, &arena, "application/json", "no json");
    assert_int_equal(request_parse_declared_json(&request, &err), -1);
    assert_int_equal(cicada_json_type(cicada_request_json(&request)), CICADA_JSON_ABSENT);
    request_release(&request);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_body_kinds),        cmocka_unit_test(test_request_ids),
        cmocka_unit_test(test_request_calls),     cmocka_unit_test(test_json_calls),
        cmocka_unit_test(test_json_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
