#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/json_reader.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/tests/support_test.h"

static struct json_doc *parse(const char *text)
{
    struct err err = ERR_INIT;
    struct json_doc *doc;
    assert_ok(json_reader_parse(text, strlen(text), 64, &doc, &err));
    return doc;
}

/* From memory that ends where the text does, so that AddressSanitizer sees a byte too many. */
static int parse_exact(const char *text, size_t len, int max_depth, struct err *err)
{
    CLEANUP_FREE char *copy = malloc(len ? len : 1);
    memcpy(copy, text, len);
    struct json_doc *doc;
    int result = json_reader_parse(copy, len, max_depth, &doc, err);
    if (result == 0) {
        json_doc_free(doc);
    }
    return result;
}

static void reads_a_document(void **state)
{
    (void)state;
    static const char text[] = " {\"a\": [1, \"two\", {\"x\": null}], \"b\":true,\"c\":false ,\"d\":{} }\n";
    struct json_doc *doc = parse(text);
    const struct json_node *root = json_doc_root(doc);
    assert_int_equal(json_node_type(root), JSON_OBJECT);
    assert_int_equal(json_node_count(root), 4);
    assert_null(json_node_name(root, NULL));
    assert_null(json_node_next(root));

    const struct json_node *a = json_node_first(root);
    assert_string_equal(json_node_name(a, NULL), "a");
    assert_int_equal(json_node_type(a), JSON_ARRAY);
    assert_int_equal(json_node_count(a), 3);
    const struct json_node *one = json_node_first(a);
    int64_t number;
    assert_true(json_node_int64(one, &number));
    assert_int_equal(number, 1);
    assert_null(json_node_name(one, NULL));
    const struct json_node *two = json_node_next(one);
    size_t len;
    assert_string_equal(json_node_string(two, &len), "two");
    assert_int_equal(len, 3);
    assert_null(json_node_string(one, NULL));
    const struct json_node *object = json_node_next(two);
    assert_null(json_node_next(object));
    assert_int_equal(json_node_type(json_node_member(object, "x")), JSON_NULL);

    const struct json_node *b = json_node_next(a);
    assert_int_equal(json_node_type(b), JSON_TRUE);
    assert_int_equal(json_node_type(json_node_member(root, "c")), JSON_FALSE);
    const struct json_node *d = json_node_member(root, "d");
    assert_int_equal(json_node_count(d), 0);
    assert_null(json_node_first(d));
    assert_null(json_node_next(d));
    assert_null(json_node_member(root, "A"));
    assert_null(json_node_member(a, "x"));

    const char *raw = json_node_raw(a, &len);
    assert_int_equal(len, strlen("[1, \"two\", {\"x\": null}]"));
    assert_memory_equal(raw, "[1, \"two\", {\"x\": null}]", len);
    raw = json_node_raw(two, &len);
    assert_memory_equal(raw, "\"two\"", len);
    raw = json_node_raw(root, &len);
    assert_ptr_equal(raw, text + 1);
    assert_int_equal(len, strlen(text) - 2);
    json_doc_free(doc);
    json_doc_free(NULL);
}

static void reads_scalars_at_the_root(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const struct {
        const char *text;
        enum json_type type;
    } cases[] = {{"null", JSON_NULL},   {"true", JSON_TRUE},      {"false", JSON_FALSE},
                 {"-0", JSON_NUMBER},   {"12.5e-3", JSON_NUMBER}, {"\"\"", JSON_STRING},
                 {" [ ] ", JSON_ARRAY}, {"\t{\r}\n", JSON_OBJECT}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct json_doc *doc = parse(cases[i].text);
        assert_int_equal(json_node_type(json_doc_root(doc)), cases[i].type);
        json_doc_free(doc);
        assert_ok(parse_exact(cases[i].text, strlen(cases[i].text), 1, &err));
    }
}

static void decodes_strings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *value;
    } cases[] = {
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e9\\u20AC\"", "A\xC3\xA9\xE2\x82\xAC"},
        {"\"\\ud83d\\uDE00\"", "\xF0\x9F\x98\x80"},
        {"\"\xF0\x9F\x98\x80 h\xC3\xA9\"", "\xF0\x9F\x98\x80 h\xC3\xA9"},
        {"\"\x7f\\u0001\"", "\x7f\x01"},
        {"\"\\udbff\\udfff\"", "\xF4\x8F\xBF\xBF"},
        {"\"\\uFFFF\\ud7ff\\ue000\"", "\xEF\xBF\xBF\xED\x9F\xBF\xEE\x80\x80"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct json_doc *doc = parse(cases[i].text);
        size_t len;
        assert_string_equal(json_node_string(json_doc_root(doc), &len), cases[i].value);
        assert_int_equal(len, strlen(cases[i].value));
        json_doc_free(doc);
    }
    struct json_doc *doc = parse("{\"\\u0061b\": 1, \"\": 2}");
    assert_non_null(json_node_member(json_doc_root(doc), "ab"));
    const struct json_node *empty = json_node_member(json_doc_root(doc), "");
    assert_non_null(empty);
    size_t len = 9;
    assert_string_equal(json_node_name(empty, &len), "");
    assert_int_equal(len, 0);
    json_doc_free(doc);
}

static void reads_integers_exactly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"-0.0e5", true, 0},
        {"9007199254740993", true, 9007199254740993},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"1.0", true, 1},
        {"1.5", false, 0},
        {"1.50e1", true, 15},
        {"15000e-3", true, 15},
        {"15000e-4", false, 0},
        {"1e3", true, 1000},
        {"1E+3", true, 1000},
        {"1e18", true, 1000000000000000000},
        {"1e19", false, 0},
        {"0e999999999999999999999", true, 0},
        {"1e999999999999999999999", false, 0},
        {"1e-999999999999999999999", false, 0},
        {"0.000000000000000000000000000001e30", true, 1},
        {"100000000000000000000000000000e-29", true, 1},
        {"\"1\"", false, 0},
        {"true", false, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct json_doc *doc = parse(cases[i].text);
        int64_t value = 77;
        if (json_node_int64(json_doc_root(doc), &value) != cases[i].ok) {
            fail_msg("%s", cases[i].text);
        }
        assert_int_equal(value, cases[i].ok ? cases[i].value : 77);
        json_doc_free(doc);
    }
}

static void reads_doubles(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        double value;
    } cases[] = {
        {"1.5", true, 1.5},
        {"-2e-3", true, -0.002},
        {"1e400", false, 0},
        {"1e-400", true, 0},
        {"null", false, 0},
        {"3.1415926535897932384626433832795028841971693993751058209749445923078164062862", true,
         3.141592653589793},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct json_doc *doc = parse(cases[i].text);
        double value = 77;
        assert_int_equal(json_node_double(json_doc_root(doc), &value), cases[i].ok);
        assert_true(value == (cases[i].ok ? cases[i].value : 77));
        json_doc_free(doc);
    }
}

static void refuses_what_is_not_json(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "line 1 column 1: unexpected end of text"},
        {"  ", "line 1 column 3: unexpected end of text"},
        {"{", "line 1 column 2: unexpected end of text"},
        {"[1,", "line 1 column 4: unexpected end of text"},
        {"[1,]", "line 1 column 4: a value is expected"},
        {"[,1]", "line 1 column 2: a value is expected"},
        {"[1 2]", "line 1 column 4: ',' or ']' is expected"},
        {"{\"a\":1,}", "line 1 column 8: a name in quotes is expected"},
        {"{\"a\" 1}", "line 1 column 6: ':' is expected"},
        {"{a:1}", "line 1 column 2: a name in quotes is expected"},
        {"{\"a\":1 \"b\":2}", "line 1 column 8: ',' or '}' is expected"},
        {"[1}", "line 1 column 3: ',' or ']' is expected"},
        {"1 2", "line 1 column 3: text after the end of the value"},
        {"{}\n x", "line 2 column 2: text after the end of the value"},
        {"01", "line 1 column 2: a number must not begin with 0"},
        {"-01", "line 1 column 3: a number must not begin with 0"},
        {"-", "line 1 column 2: unexpected end of text"},
        {"-a", "line 1 column 2: a digit is missing in a number"},
        {"+1", "line 1 column 1: a value is expected"},
        {"1.", "line 1 column 3: unexpected end of text"},
        {"[1.]", "line 1 column 4: a digit is missing in a number"},
        {".5", "line 1 column 1: a value is expected"},
        {"[1e]", "line 1 column 4: a digit is missing in a number"},
        {"[1e+]", "line 1 column 5: a digit is missing in a number"},
        {"NaN", "line 1 column 1: a value is expected"},
        {"tru", "line 1 column 1: unknown word"},
        {"nul", "line 1 column 1: unknown word"},
        {"falsE", "line 1 column 1: unknown word"},
        {"truex", "line 1 column 5: text after the end of the value"},
        {"\"abc", "line 1 column 5: unexpected end of text"},
        {"\"a\tb\"", "line 1 column 3: control character in a string"},
        {"\"a\nb\"", "line 1 column 3: control character in a string"},
        {"\"\\", "line 1 column 3: unexpected end of text"},
        {"\"\\x\"", "line 1 column 2: unknown escape"},
        {"\"\\u12g4\"", "line 1 column 2: \\u needs four hexadecimal digits"},
        {"\"\\u12", "line 1 column 2: \\u needs four hexadecimal digits"},
        {"\"\\u0000\"", "line 1 column 2: \\u0000 is not allowed"},
        {"\"\\ud800\"", "line 1 column 2: lone surrogate"},
        {"\"\\udc00\"", "line 1 column 2: lone surrogate"},
        {"\"\\ud800\\u0041\"", "line 1 column 2: lone surrogate"},
        {"\"\\ud800\\n\"", "line 1 column 2: lone surrogate"},
        {"\"\xFF\"", "line 1 column 2: invalid UTF-8"},
        {"\"\xC0\x80\"", "line 1 column 2: invalid UTF-8"},
        {"\"\xED\xA0\x80\"", "line 1 column 2: invalid UTF-8"},
        {"\"\xE2\x82", "line 1 column 2: invalid UTF-8"},
        {"\xEF\xBB\xBF{}", "line 1 column 1: a value is expected"},
        {"// x\n1", "line 1 column 1: a value is expected"},
        {"'a'", "line 1 column 1: a value is expected"},
        {"{\"a\":1,\n \"a\":2}", "line 2 column 6: duplicate name \"a\""},
        {"{\"a\":1,\"\\u0061\":2}", "line 1 column 17: duplicate name \"a\""},
        {"[{\"b\":{\"x\":1,\"x\":1}}]", "line 1 column 18: duplicate name \"x\""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_fails(parse_exact(cases[i].text, strlen(cases[i].text), 64, &err), ERR_INVALID);
        assert_string_equal(err.msg, cases[i].message);
    }
    assert_fails(parse_exact("[\"a\0b\"]", 7, 64, &err), ERR_INVALID);
    assert_fails(parse_exact("1\0", 2, 64, &err), ERR_INVALID);
}

/* No prefix of a document is a document. */
static void refuses_every_cut(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const char text[] =
        "{\"a\":[1.5e+3,\"\\u00e9\\ud83d\\ude00\xE2\x82\xAC\",true,false,null,{}],\"b\":{\"c\":[]}}";
    for (size_t len = 0; len < strlen(text); len++) {
        assert_fails(parse_exact(text, len, 64, &err), ERR_INVALID);
    }
    assert_ok(parse_exact(text, strlen(text), 64, &err));
}

static void limits_depth(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    assert_ok(parse_exact("[[[]]]", 6, 3, &err));
    assert_fails(parse_exact("[[[]]]", 6, 2, &err), ERR_INVALID);
    assert_string_equal(err.msg, "line 1 column 3: nested too deeply");
    assert_ok(parse_exact("1", 1, 0, &err));
    assert_fails(parse_exact("[]", 2, 0, &err), ERR_INVALID);
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, 4u << 20);
    for (int i = 0; i < JSON_READER_DEPTH_MAX; i++) {
        strbuf_append_str(&text, "{\"a\":[");
    }
    assert_fails(parse_exact(text.buf, text.len, 1000000, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "nested too deeply"));
}

static void finds_duplicates_among_many(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    for (int count = 2; count < 40; count++) {
        for (int twin = 1; twin < count; twin += 3) {
            CLEANUP_STRBUF struct strbuf text;
            strbuf_init(&text, 10000);
            for (int i = 0; i < count; i++) {
                strbuf_appendf(&text, "%c\"name%d\":%d", i ? ',' : '{', i == twin ? 0 : i, i);
            }
            strbuf_append_char(&text, '}');
            assert_fails(parse_exact(text.buf, text.len, 2, &err), ERR_INVALID);
            assert_non_null(strstr(err.msg, "duplicate name \"name0\""));
        }
    }
}

/* 100,000 names of one object take no quadratic time, and neither does the message of an error at the end. */
static void large_objects_take_little_time(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, 8u << 20);
    for (int i = 0; i < 100000; i++) {
        strbuf_appendf(&text, "%c\"n%d\":%d", i ? ',' : '{', i, i);
    }
    strbuf_append_char(&text, '}');
    int64_t start = clock_monotonic_ms();
    struct json_doc *doc;
    assert_ok(json_reader_parse(text.buf, text.len, 2, &doc, &err));
    assert_int_equal(json_node_count(json_doc_root(doc)), 100000);
    const struct json_node *last = json_node_member(json_doc_root(doc), "n99999");
    int64_t value;
    assert_true(json_node_int64(last, &value));
    assert_int_equal(value, 99999);
    json_doc_free(doc);
    text.len--;
    strbuf_append_str(&text, ",\"n5\":1}");
    assert_fails(json_reader_parse(text.buf, text.len, 2, &doc, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "duplicate name \"n5\""));
    assert_true(clock_monotonic_ms() - start < 3000);
}

static void limits_the_number_of_values(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    size_t len = 2 * (JSON_READER_NODES_MAX - 1) + 1;
    CLEANUP_FREE char *text = xmalloc(len + 2);
    memset(text, '1', len + 2);
    for (size_t i = 2; i < len + 2; i += 2) {
        text[i] = ',';
    }
    text[0] = '[';
    text[len - 1] = ']';
    struct json_doc *doc;
    assert_ok(json_reader_parse(text, len, 2, &doc, &err));
    assert_int_equal(json_node_count(json_doc_root(doc)), JSON_READER_NODES_MAX - 1);
    json_doc_free(doc);
    text[len - 1] = ',';
    text[len + 1] = ']';
    assert_fails(json_reader_parse(text, len + 2, 2, &doc, &err), ERR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_document),
        cmocka_unit_test(reads_scalars_at_the_root),
        cmocka_unit_test(decodes_strings),
        cmocka_unit_test(reads_integers_exactly),
        cmocka_unit_test(reads_doubles),
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(refuses_every_cut),
        cmocka_unit_test(limits_depth),
        cmocka_unit_test(finds_duplicates_among_many),
        cmocka_unit_test(large_objects_take_little_time),
        cmocka_unit_test(limits_the_number_of_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
