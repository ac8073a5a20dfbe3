#include "operator/kube/kube_list_scanner.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"

struct record {
    struct strbuf names; /* "a;b;" */
    int fail_at;
    int count;
};

static int on_item(void *arg, cJSON *object, struct err *err)
{
    struct record *record = arg;
    CLEANUP_JSON cJSON *owned = object;
    const cJSON *metadata = json_object(owned, "metadata");
    const char *name = json_string(metadata, "name");
    assert_null(json_get(metadata, "managedFields"));
    strbuf_appendf(&record->names, "%s;", name ? name : "-");
    return ++record->count == record->fail_at ? err_set(err, ERR_CONFLICT, "refused") : 0;
}

static int scan(const char *text, size_t len, size_t step, struct record *record,
                struct kube_list_meta *ret_meta, struct err *err)
{
    CLEANUP(kube_list_scanner_release) struct kube_list_scanner scanner;
    strbuf_init(&record->names, 1 << 20);
    kube_list_scanner_init(&scanner, on_item, record);
    for (size_t at = 0; at < len; at += step) {
        if (kube_list_scanner_feed(&scanner, text + at, len - at < step ? len - at : step, err) != 0)
            return -1;
    }
    return kube_list_scanner_finish(&scanner, ret_meta, err);
}

static const size_t steps[] = {1, 2, 7, 4096};

static void expect(const char *text, const char *names, const char *resource_version,
                   const char *continue_token)
{
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct record record = {0};
        struct kube_list_meta meta = {0};
        struct err err = ERR_INIT;
        int rc = scan(text, strlen(text), steps[i], &record, &meta, &err);
        assert_string_equal(err.msg, "");
        assert_int_equal(rc, 0);
        assert_string_equal(record.names.buf, names);
        assert_string_equal(meta.resource_version ? meta.resource_version : "none", resource_version);
        assert_string_equal(meta.continue_token ? meta.continue_token : "none", continue_token);
        kube_list_meta_release(&meta);
        strbuf_release(&record.names);
    }
}

static void expect_error(const char *text, enum err_code code)
{
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct record record = {0};
        struct kube_list_meta meta = {0};
        struct err err = ERR_INIT;
        assert_int_equal(scan(text, strlen(text), steps[i], &record, &meta, &err), -1);
        if (err.code != code)
            print_message("%s: %s\n", text, err.msg);
        assert_int_equal(err.code, code);
        strbuf_release(&record.names);
    }
}

static void test_lists(void **state)
{
    (void)state;
    expect("{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"7\",\"continue\":"
           "\"tok\"},"
           "\"items\":[{\"metadata\":{\"name\":\"a\",\"managedFields\":[{}]}},{\"metadata\":{\"name\":\"b\"}}"
           "]}\n",
           "a;b;", "7", "tok");
    expect("{\"items\":[],\"metadata\":{\"resourceVersion\":\"7\",\"continue\":\"\"}}", "", "7", "none");
    expect("{\"items\":null,\"metadata\":{\"resourceVersion\":\"7\"}}", "", "7", "none");
    expect(" {\t\"metadata\" : { \"resourceVersion\" : \"7\" } , \"items\" : [ { } , "
           "{\"metadata\":{\"name\":\"b\"} } ] }\r\n ",
           "-;b;", "7", "none");
    expect("{}", "", "none", "none");
    expect("{\"a\":1,\"b\":-1.5e3,\"c\":true,\"d\":null,\"e\":\"x\",\"f\":[1,[2]],\"g\":{}}", "", "none",
           "none");
}

static void test_braces_and_quotes_in_strings(void **state)
{
    (void)state;
    expect("{\"kind\":\"}]{[\\\"\\\\\",\"items\":[{\"metadata\":{\"name\":\"a}\\\"]\\\\\"}},"
           "{\"metadata\":{\"name\":\"b\"},\"x\":\"\\u005d\\\\\\\"}\"}],\"metadata\":{\"resourceVersion\":"
           "\"1\"}}",
           "a}\"]\\;b;", "1", "none");
}

/* The API server keeps such objects; whoever may write one must not end the list of all. */
static void test_an_item_that_no_parser_of_ours_reads_is_left_out(void **state)
{
    (void)state;
    expect(
        "{\"items\":[{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"1\"}},"
        "{\"metadata\":{\"annotations\":{\"x\":\"\\u0000}\\\"\"},\"name\":\"b\",\"resourceVersion\":\"2\"}},"
        "{\"metadata\":{\"name\":\"c\",\"resourceVersion\":\"3\"}}],\"metadata\":{\"resourceVersion\":"
        "\"4\"}}",
        "a;c;", "4", "none");
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, 1 << 20);
    strbuf_append_str(&text, "{\"items\":[{\"spec\":");
    for (int i = 0; i < 5000; i++)
        strbuf_append_str(&text, "{\"a\":[");
    for (int i = 0; i < 5000; i++)
        strbuf_append_str(&text, "]}");
    strbuf_append_str(&text, ",\"metadata\":{\"resourceVersion\":\"2\",\"name\":\"deep\"}},"
                             "{\"metadata\":{\"name\":\"c\"}}],\"metadata\":{\"resourceVersion\":\"4\"}}");
    expect(text.buf, "c;", "4", "none");
}

static void test_what_is_no_list(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "[]",
        "x",
        "{\"items\":{}}",
        "{\"items\":1}",
        "{\"items\":[1]}",
        "{\"items\":[[]]}",
        "{\"items\":[{}{}]}",
        "{\"items\":[{},]}",
        "{\"items\":[,{}]}",
        "{\"items\":[{}],}",
        "{,}",
        "{\"a\" 1}",
        "{\"a\"::1}",
        "{a:1}",
        "{1:2}",
        "{\"a\":}",
        "{\"a\":tru}",
        "{\"a\":[1,}]}",
        "{\"a\":1}}",
        "{\"a\":1} x",
        "{\"items\":[{\"a\":1,\"a\":2}]}",
        "{\"items\":[{]]}",
        "{\"\\x\":1}",
        "{\"items\":[{\"a\":01}]}",
        "{\"items\":[{\"metadata\":{\"name\":\"\\u0000\",\"resourceVersion\":\"1\"}}]}",
        "{\"items\":[{\"metadata\":{\"name\":\"a\"},\"a\":01}]}",
        "{\"items\":[{\"metadata\":[\"name\"],\"a\":01}]}",
        "{\"items\":[{\"metadata\":{\"name\":{},\"resourceVersion\":\"1\"},\"a\":01}]}",
        "{{}:1}",
        "{\"a\":1:2}",
        "{\"items\":[}]}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++)
        expect_error(broken[i], ERR_INVALID);
}

static void test_every_cut_is_noticed(void **state)
{
    (void)state;
    static const char text[] =
        "{\"kind\":\"L\",\"items\":[{\"metadata\":{\"name\":\"a\"}},{}],\"metadata\":{}}";
    for (size_t len = 0; len < strlen(text); len++) {
        struct record record = {0};
        struct kube_list_meta meta = {0};
        struct err err = ERR_INIT;
        assert_int_equal(scan(text, len, 3, &record, &meta, &err), -1);
        assert_int_equal(err.code, ERR_UNAVAILABLE);
        strbuf_release(&record.names);
    }
}

static void test_the_callback_can_end_it(void **state)
{
    (void)state;
    static const char text[] = "{\"items\":[{},{},{}]}";
    struct record record = {.fail_at = 2};
    struct kube_list_meta meta = {0};
    struct err err = ERR_INIT;
    assert_int_equal(scan(text, strlen(text), 4096, &record, &meta, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(record.count, 2);
    strbuf_release(&record.names);
}

static void test_an_item_has_a_limit(void **state)
{
    (void)state;
    static const char head[] = "{\"items\":[{\"x\":\"";
    size_t len = sizeof(head) + KUBE_ITEM_MAX_BYTES;
    CLEANUP_FREE char *text = xmalloc(len);
    memset(text, 'x', len);
    memcpy(text, head, sizeof(head) - 1);
    struct record record = {0};
    struct kube_list_meta meta = {0};
    struct err err = ERR_INIT;
    assert_int_equal(scan(text, len, 16384, &record, &meta, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    strbuf_release(&record.names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_braces_and_quotes_in_strings),
        cmocka_unit_test(test_an_item_that_no_parser_of_ours_reads_is_left_out),
        cmocka_unit_test(test_what_is_no_list),
        cmocka_unit_test(test_every_cut_is_noticed),
        cmocka_unit_test(test_the_callback_can_end_it),
        cmocka_unit_test(test_an_item_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
