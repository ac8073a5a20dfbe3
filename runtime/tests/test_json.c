#include <math.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/json_reader.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_test.h"

static cJSON *tree_of(const char *text)
{
    struct err err = ERR_INIT;
    cJSON *tree;
    assert_ok(json_parse(text, strlen(text), JSON_DEPTH_MAX, &tree, &err));
    return tree;
}

static void parses_and_prints(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {" { } ", "{}"},
        {"[]", "[]"},
        {"null", "null"},
        {"[true,false,null]", "[true,false,null]"},
        {"{\"b\":1,\"a\":[{\"x\":\"y\"}]}", "{\"b\":1,\"a\":[{\"x\":\"y\"}]}"},
        {"[1,-1,0,-0,2147483648,1234567890123456,9007199254740992,-9007199254740992]",
         "[1,-1,0,0,2147483648,1234567890123456,9007199254740992,-9007199254740992]"},
        {"[1.5,0.1,1e-7,1e21]", "[1.5,0.1,1e-07,1e+21]"},
        {"9007199254740993", "9007199254740992"}, /* documented: a tree has doubles */
        {"\"\\u0001\\\"\\\\\\/\\n\xC3\xA9\\ud83d\\ude00\"",
         "\"\\u0001\\\"\\\\/\\n\xC3\xA9\xF0\x9F\x98\x80\""},
        {"{\"\":{\"\\n\":1}}", "{\"\":{\"\\n\":1}}"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_JSON cJSON *tree = tree_of(cases[i].in);
        CLEANUP_FREE char *text = json_print_dup(tree);
        assert_string_equal(text, cases[i].out);
        CLEANUP_JSON cJSON *again = tree_of(text);
        assert_true(json_covers(tree, again) && json_covers(again, tree));
        assert_true(json_hash(tree) == json_hash(again));
    }
}

static void refuses_with_a_position(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    cJSON *tree = NULL;
    assert_fails(json_parse("{\"a\":1,\n\"a\":2}", 15, 8, &tree, &err), ERR_INVALID);
    assert_string_equal(err.msg, "line 2 column 5: duplicate name \"a\"");
    assert_fails(json_parse("[[1]]", 5, 1, &tree, &err), ERR_INVALID);
    assert_fails(json_parse("[1e400]", 7, 8, &tree, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "out of range"));
    assert_fails(json_parse("{\"a\":[1,-1e999]}", 16, 8, &tree, &err), ERR_INVALID);
    assert_null(tree);
    assert_fails(json_check("[1,]", 4, 8, &err), ERR_INVALID);
    assert_ok(json_check("[1]", 3, 8, &err));
}

static void getters_take_only_their_type(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *tree = tree_of("{\"s\":\"text\",\"n\":42,\"f\":1.5,\"big\":1e300,\"t\":true,\"o\":{"
                                       "\"p\":{\"q\":\"deep\"}},\"a\":[1],\"z\":null}");
    assert_string_equal(json_string(tree, "s"), "text");
    assert_null(json_string(tree, "S"));
    assert_null(json_string(tree, "n"));
    assert_null(json_string(tree, "z"));
    assert_null(json_string(NULL, "s"));
    assert_null(json_string(json_array(tree, "a"), "s"));
    assert_non_null(json_get(tree, "z"));
    assert_null(json_get(tree, "absent"));
    assert_non_null(json_object(tree, "o"));
    assert_null(json_object(tree, "a"));
    assert_null(json_array(tree, "o"));
    assert_int_equal(json_int64(tree, "n", -1), 42);
    assert_int_equal(json_int64(tree, "f", -1), -1);
    assert_int_equal(json_int64(tree, "big", -1), -1);
    assert_int_equal(json_int64(tree, "s", -1), -1);
    assert_int_equal(json_int64(NULL, "n", -1), -1);
    assert_true(json_bool(tree, "t", false));
    assert_true(json_bool(tree, "n", true));
    assert_false(json_bool(tree, "absent", false));
    assert_string_equal(cJSON_GetStringValue(json_path(tree, "o", "p", "q", NULL)), "deep");
    assert_null(json_path(tree, "o", "x", "q", NULL));
    assert_null(json_path(NULL, "o", NULL));
    assert_ptr_equal(json_path(tree, NULL), tree);
}

static void builds_trees(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *tree = cJSON_CreateObject();
    assert_null(json_add_string(tree, "none", NULL));
    assert_null(json_add_copy(tree, "none", NULL));
    json_add_string(tree, "s", "x");
    json_add_int64(tree, "exact", 9007199254740993);
    json_add_int64(tree, "min", INT64_MIN);
    json_add_int64(tree, "n", -5);
    json_add_bool(tree, "t", true);
    cJSON *array = json_add_array(json_add_object(tree, "o"), "a");
    json_append_string(array, "e");
    json_add_int64(json_append_object(array), "i", 1);
    json_append_copy(array, json_get(tree, "t"));
    json_add_copy(tree, "copy", json_object(tree, "o"));
    CLEANUP_FREE char *text = json_print_dup(tree);
    assert_string_equal(
        text, "{\"s\":\"x\",\"exact\":9007199254740993,\"min\":-9223372036854775808,\"n\":-5,\"t\":true,"
              "\"o\":{\"a\":[\"e\",{\"i\":1},true]},\"copy\":{\"a\":[\"e\",{\"i\":1},true]}}");
    assert_true(json_int64(tree, "exact", 0) == 9007199254740993);
    assert_true(json_int64(tree, "min", 0) == INT64_MIN);
}

static void printing_has_limits(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    CLEANUP_JSON cJSON *tree = tree_of("[\"0123456789\"]");
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 13);
    assert_fails(json_print(tree, &out, &err), ERR_TOO_LARGE);
    strbuf_release(&out);
    strbuf_init(&out, 14);
    assert_ok(json_print(tree, &out, &err));
    strbuf_release(&out);
    strbuf_init(&out, 1u << 20);
    CLEANUP_JSON cJSON *nan = cJSON_CreateNumber(NAN);
    assert_fails(json_print(nan, &out, &err), ERR_INVALID);
    CLEANUP_JSON cJSON *deep = cJSON_CreateArray();
    cJSON *inner = deep;
    for (int i = 1; i < JSON_READER_DEPTH_MAX; i++) {
        cJSON *next = cJSON_CreateArray();
        cJSON_AddItemToArray(inner, next);
        inner = next;
    }
    assert_ok(json_print(deep, &out, &err));
    cJSON_AddItemToArray(inner, cJSON_CreateArray());
    assert_fails(json_print(deep, &out, &err), ERR_INVALID);
}

static void covers(void **state)
{
    (void)state;
    static const struct {
        const char *live, *intent;
        bool covered;
    } cases[] = {
        {"{\"a\":1,\"b\":{\"c\":2,\"d\":3}}", "{\"b\":{\"c\":2}}", true},
        {"{\"a\":1}", "{}", true},
        {"{\"a\":1}", "{\"a\":2}", false},
        {"{\"a\":1}", "{\"A\":1}", false},
        {"{\"a\":1}", "{\"a\":1,\"b\":null}", false},
        {"{\"a\":null}", "{\"a\":null}", true},
        {"{\"a\":\"1\"}", "{\"a\":1}", false},
        {"{\"a\":true}", "{\"a\":false}", false},
        {"[1,2]", "[1,2]", true},
        {"[1,2]", "[1]", false},
        {"[1]", "[1,2]", false},
        {"[2,1]", "[1,2]", false},
        {"[{\"n\":\"x\",\"p\":\"TCP\"}]", "[{\"n\":\"x\"}]", true},
        {"1.0", "1", true},
        {"[]", "{}", false},
        {"\"a\"", "\"b\"", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_JSON cJSON *live = tree_of(cases[i].live);
        CLEANUP_JSON cJSON *intent = tree_of(cases[i].intent);
        assert_int_equal(json_covers(live, intent), cases[i].covered);
    }
    CLEANUP_JSON cJSON *raw = cJSON_CreateObject();
    json_add_int64(raw, "n", INT64_C(1) << 60);
    CLEANUP_JSON cJSON *parsed = tree_of("{\"n\":1152921504606846976}");
    assert_true(json_covers(parsed, raw));
    assert_true(json_covers(raw, parsed));
}

static void hashes_ignore_only_the_order_of_members(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *a = tree_of("{\"a\":1,\"b\":[1,2,{\"x\":\"y\",\"z\":null}]}");
    CLEANUP_JSON cJSON *b = tree_of("{\"b\":[1,2,{\"z\":null,\"x\":\"y\"}],\"a\":1.0}");
    assert_true(json_hash(a) == json_hash(b));
    static const char *const others[] = {"{\"a\":1,\"b\":[2,1,{\"x\":\"y\",\"z\":null}]}",
                                         "{\"a\":2,\"b\":[1,2,{\"x\":\"y\",\"z\":null}]}",
                                         "{\"a\":1,\"b\":[1,2,{\"x\":\"y\",\"z\":false}]}",
                                         "{\"a\":1,\"b\":[1,2],\"x\":\"y\",\"z\":null}",
                                         "{\"a\":\"1\",\"b\":[1,2,{\"x\":\"y\",\"z\":null}]}",
                                         "{\"ab\":1}",
                                         "[[],[]]",
                                         "[[[]]]",
                                         "[\"a\",\"b\"]",
                                         "[\"ab\"]",
                                         "{}",
                                         "[]",
                                         "null",
                                         "\"\"",
                                         "0",
                                         "true",
                                         "false"};
    uint64_t seen[ARRAY_SIZE(others)];
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        CLEANUP_JSON cJSON *other = tree_of(others[i]);
        seen[i] = json_hash(other);
        assert_true(seen[i] != json_hash(a));
        for (size_t j = 0; j < i; j++) {
            assert_true(seen[i] != seen[j]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_and_prints),
        cmocka_unit_test(refuses_with_a_position),
        cmocka_unit_test(getters_take_only_their_type),
        cmocka_unit_test(builds_trees),
        cmocka_unit_test(printing_has_limits),
        cmocka_unit_test(covers),
        cmocka_unit_test(hashes_ignore_only_the_order_of_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
