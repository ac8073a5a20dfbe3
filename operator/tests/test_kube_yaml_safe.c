#include "operator/kube/yaml_safe.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/yaml.h"

static void expect(const char *json, const char *expected)
{
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 4096);
    assert_int_equal(yaml_safe_from_json(json, strlen(json), &out), 0);
    assert_string_equal(out.buf, expected);
}

static void test_only_what_yaml_misreads_is_escaped(void **state)
{
    (void)state;
    expect("", "");
    expect("{\"a\":\"b\\n\"}", "{\"a\":\"b\\n\"}");
    expect("\"\x7f\"", "\"\\u007f\"");
    expect("\"\xc2\x80\xc2\x85\xc2\x9f\xc2\xa0\"", "\"\\u0080\\u0085\\u009f\xc2\xa0\"");
    expect("\"\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa\"", "\"\\u2028\\u2029\xe2\x80\xaa\"");
    expect("\"\xef\xbb\xbf\xef\xbf\xbd\xef\xbf\xbe\xef\xbf\xbf\"", "\"\\ufeff\xef\xbf\xbd\\ufffe\\uffff\"");
    expect("\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"", "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
}

/* Every code point that JSON text may hold, through a YAML parser and back. */
static void test_every_character_survives_a_yaml_parser(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, 1 << 20);
    for (unsigned code = 1; code <= 0x2100; code++) {
        if (code < 0x80)
            strbuf_append_char(&text, (char)code);
        else if (code < 0x800)
            strbuf_appendf(&text, "%c%c", (int)(0xc0 | code >> 6), (int)(0x80 | (code & 0x3f)));
        else
            strbuf_appendf(&text, "%c%c%c", (int)(0xe0 | code >> 12), (int)(0x80 | (code >> 6 & 0x3f)),
                           (int)(0x80 | (code & 0x3f)));
    }
    strbuf_append_str(&text, "\xef\xbb\xbf\xef\xbf\xbe\xf0\x9f\x98\x80");
    CLEANUP_JSON cJSON *tree = cJSON_CreateObject();
    json_add_string(tree, "text", text.buf);
    CLEANUP_FREE char *json = json_print_dup(tree);
    CLEANUP_STRBUF struct strbuf safe;
    strbuf_init(&safe, 1 << 20);
    assert_int_equal(yaml_safe_from_json(json, strlen(json), &safe), 0);
    CLEANUP_JSON cJSON *from_json = NULL, *from_yaml = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(json_parse(safe.buf, safe.len, 4, &from_json, &err), 0);
    assert_string_equal(json_string(from_json, "text"), text.buf);
    int rc = yaml_document_parse(safe.buf, safe.len, &from_yaml, &err);
    assert_string_equal(err.msg, "");
    assert_int_equal(rc, 0);
    assert_string_equal(json_string(from_yaml, "text"), text.buf);
}

static void test_the_cap_is_kept(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 4);
    assert_int_equal(yaml_safe_from_json("\"\x7f\"", 3, &out), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_yaml_misreads_is_escaped),
        cmocka_unit_test(test_every_character_survives_a_yaml_parser),
        cmocka_unit_test(test_the_cap_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
