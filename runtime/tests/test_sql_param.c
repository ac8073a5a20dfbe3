/* JSON values as the text of a parameter: every kind of JSON for every kind of type. */
#include "runtime/tests/support_test.h"

#include <string.h>

#include "runtime/base/json_reader.h"
#include "runtime/base/mem.h"
#include "runtime/sql/sql_param.h"

#define INT4           23
#define TEXT           25
#define JSON           114
#define JSONB          3802
#define INT4_ARRAY     1007
#define TEXT_ARRAY     1009
#define JSON_ARRAY_OID 199
#define JSONB_ARRAY    3807
#define BOX_ARRAY      1020
#define OIDVECTOR      30
#define NULL_TEXT      "<NULL>"

static struct sql_types *types;

static int setup(void **state)
{
    (void)state;
    types = sql_types_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sql_types_free(types);
    return 0;
}

static int convert(const char *json, unsigned type, struct strbuf *out, bool *ret_null, struct err *err)
{
    struct json_doc *doc;
    int rc;

    assert_int_equal(json_reader_parse(json, strlen(json), 64, &doc, err), 0);
    rc = sql_param_from_json(json_doc_root(doc), types, type, out, ret_null, err);
    json_doc_free(doc);
    return rc;
}

static void gives(const char *json, unsigned type, const char *expected)
{
    CLEANUP_STRBUF struct strbuf out;
    struct err err = ERR_INIT;
    bool null;

    strbuf_init(&out, 4096);
    if (convert(json, type, &out, &null, &err) != 0)
        fail_msg("%s for %u: %s", json, type, err.msg);
    assert_string_equal(null ? NULL_TEXT : out.buf, expected);
}

static void refused(const char *json, unsigned type, const char *message)
{
    CLEANUP_STRBUF struct strbuf out;
    struct err err = ERR_INIT;
    bool null;

    strbuf_init(&out, 4096);
    if (convert(json, type, &out, &null, &err) == 0)
        fail_msg("%s for %u gave %s", json, type, out.buf);
    assert_string_equal(err.msg, message);
}

static void test_scalars(void **state)
{
    (void)state;
    gives("null", INT4, NULL_TEXT);
    gives("null", TEXT, NULL_TEXT);
    gives("null", INT4_ARRAY, NULL_TEXT);
    gives("null", JSONB, NULL_TEXT);
    gives("1", INT4, "1");
    gives("1.10", INT4, "1.10"); /* the source text, whatever the type */
    gives("12345678901234567890.123456789012345678901234567890", TEXT,
          "12345678901234567890.123456789012345678901234567890");
    gives("-0.0e-7", TEXT, "-0.0e-7");
    gives("true", TEXT, "true");
    gives("false", INT4, "false");
    gives("\"\"", TEXT, "");
    gives("\"a\\n\\u00e9\\\"\"", TEXT, "a\n\xC3\xA9\"");
    gives("\"null\"", TEXT, "null");
}

static void test_json(void **state)
{
    static const unsigned both[] = {JSON, JSONB};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
        gives("1.10", both[i], "1.10");
        gives("\"a\\n\"", both[i], "\"a\\n\"");
        gives("\"null\"", both[i], "\"null\"");
        gives("[1, null]", both[i], "[1, null]");
        gives("{\"a\": {\"b\": 1.0}}", both[i], "{\"a\": {\"b\": 1.0}}");
        gives("true", both[i], "true");
    }
}

static void test_arrays(void **state)
{
    (void)state;
    gives("[]", INT4_ARRAY, "{}");
    gives("[1,null,3]", INT4_ARRAY, "{\"1\",NULL,\"3\"}");
    gives("[\"a\",\"\",\"NULL\",\"x,y\",\"{\"]", TEXT_ARRAY, "{\"a\",\"\",\"NULL\",\"x,y\",\"{\"}");
    gives("[\"\\\"\",\"\\\\\",\"a\\\\\\\"b\"]", TEXT_ARRAY, "{\"\\\"\",\"\\\\\",\"a\\\\\\\"b\"}");
    gives("[[1,2],[3,4]]", INT4_ARRAY, "{{\"1\",\"2\"},{\"3\",\"4\"}}");
    gives("[\"(1,1),(0,0)\",\"(2,2),(1,1)\"]", BOX_ARRAY, "{\"(1,1),(0,0)\";\"(2,2),(1,1)\"}");
    gives("[{\"a\":1},[2],\"x\",null]", JSONB_ARRAY, "{\"{\\\"a\\\":1}\",\"[2]\",\"\\\"x\\\"\",NULL}");
    gives("[[1]]", JSON_ARRAY_OID, "{\"[1]\"}");
    gives("\"{1,2}\"", INT4_ARRAY, "{1,2}"); /* text is PostgreSQL's own form */
}

static void test_refused(void **state)
{
    (void)state;
    refused("{}", TEXT, "must not be an object");
    refused("{\"a\":1}", INT4_ARRAY, "must not be an object");
    refused("[1]", INT4, "must not be an array");
    refused("[1]", TEXT, "must not be an array");
    refused("[1]", OIDVECTOR, "must not be an array");
    refused("[1,{}]", INT4_ARRAY, "an element must not be an object");
    gives("[[[[[[1]]]]]]", INT4_ARRAY, "{{{{{{\"1\"}}}}}}");
    refused("[[[[[[[1]]]]]]]", INT4_ARRAY, "has more than 6 dimensions");
}

static void test_overflow_shows(void **state)
{
    CLEANUP_STRBUF struct strbuf out;
    struct err err = ERR_INIT;
    bool null;

    (void)state;
    strbuf_init(&out, 4);
    assert_int_equal(convert("[null,null,1]", INT4_ARRAY, &out, &null, &err), 0);
    assert_true(strbuf_failed(&out));
}

static void test_texts(void **state)
{
    static const char *const texts[] = {"a", "", "b\"\\"};
    CLEANUP_STRBUF struct strbuf out;

    (void)state;
    strbuf_init(&out, 100);
    sql_param_from_texts(texts, ARRAY_SIZE(texts), ',', &out);
    assert_string_equal(out.buf, "{\"a\",\"\",\"b\\\"\\\\\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars), cmocka_unit_test(test_json),           cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_overflow_shows), cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
