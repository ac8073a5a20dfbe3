#include "operator/kube/kube_watch_decoder.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"

struct record {
    struct strbuf text; /* "ADDED a@1;" ... */
    int fail_at;        /* number of the event that is refused; 0: none */
    int count;
};

static int on_event(void *arg, enum kube_watch_type type, cJSON *object, struct err *err)
{
    static const char *const names[] = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"};
    struct record *record = arg;
    CLEANUP_JSON cJSON *owned = object;
    const cJSON *metadata = json_object(owned, "metadata");
    const char *name = json_string(metadata, "name");
    assert_null(json_get(metadata, "managedFields"));
    strbuf_appendf(&record->text, "%s %s@%s;", names[type], name ? name : "-",
                   json_string(metadata, "resourceVersion"));
    if (++record->count == record->fail_at)
        return err_set(err, ERR_CONFLICT, "refused");
    return 0;
}

/* Feeds text in pieces of `step` bytes; returns what feeding returned last. */
static int decode(const char *text, size_t len, size_t step, struct record *record, struct err *err)
{
    CLEANUP(kube_watch_decoder_release) struct kube_watch_decoder decoder;
    strbuf_init(&record->text, 1 << 20);
    record->count = 0;
    kube_watch_decoder_init(&decoder, on_event, record);
    for (size_t at = 0; at < len; at += step) {
        if (kube_watch_decoder_feed(&decoder, text + at, len - at < step ? len - at : step, err) != 0)
            return -1;
    }
    return 0;
}

static const size_t steps[] = {1, 2, 7, 4096};

static void expect(const char *text, const char *events, enum err_code code)
{
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct record record = {0};
        struct err err = ERR_INIT;
        int rc = decode(text, strlen(text), steps[i], &record, &err);
        assert_string_equal(record.text.buf, events);
        assert_int_equal(rc, code == ERR_NONE ? 0 : -1);
        assert_int_equal(err.code, code);
        strbuf_release(&record.text);
    }
}

#define EVENT(type, name, version)                                                                           \
    "{\"type\":\"" type "\",\"object\":{\"kind\":\"Pod\",\"metadata\":{\"name\":\"" name                     \
    "\",\"resourceVersion\":\"" version "\",\"managedFields\":[{\"manager\":\"x\"}]}}}\n"

static void test_events_of_every_type(void **state)
{
    (void)state;
    expect(EVENT("ADDED", "a", "1") EVENT("MODIFIED", "a", "2")
               EVENT("DELETED", "a",
                     "3") "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n",
           "ADDED a@1;MODIFIED a@2;DELETED a@3;BOOKMARK -@9;", ERR_NONE);
}

static void test_empty_lines_and_crlf(void **state)
{
    (void)state;
    expect("\n\r\n{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"1\"}}}"
           "\r\n\n",
           "ADDED a@1;", ERR_NONE);
    expect("", "", ERR_NONE);
}

static void test_a_line_without_its_end_is_no_event(void **state)
{
    (void)state;
    expect(EVENT("ADDED", "a", "1") "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"b\"}}}",
           "ADDED a@1;", ERR_NONE);
}

static void test_error_events(void **state)
{
    (void)state;
    expect(EVENT("ADDED", "a", "1") "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,"
                                    "\"reason\":\"Expired\"}}\n" EVENT("ADDED", "b", "2"),
           "ADDED a@1;", ERR_GONE);
    expect("{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":500,\"message\":\"etcd\"}}\n", "",
           ERR_UNAVAILABLE);
    expect("{\"type\":\"ERROR\",\"object\":{}}\n", "", ERR_UNAVAILABLE);
}

static void test_what_is_no_event(void **state)
{
    (void)state;
    expect("nonsense\n", "", ERR_INVALID);
    expect("[]\n", "", ERR_INVALID);
    expect("{}\n", "", ERR_INVALID);
    expect("{\"type\":\"ADDED\"}\n", "", ERR_INVALID);
    expect("{\"type\":\"ADDED\",\"object\":[]}\n", "", ERR_INVALID);
    expect("{\"type\":\"RENAMED\",\"object\":{}}\n", "", ERR_INVALID);
    expect("{\"type\":1,\"object\":{}}\n", "", ERR_INVALID);
    expect(EVENT("ADDED", "a", "1") "{\"type\":\"ADDED\",\"object\":{}\n", "ADDED a@1;", ERR_INVALID);
    expect("{\"type\":\"ADDED\",\"object\":{}}{}\n", "", ERR_INVALID);
    expect("{\"type\":\"ADDED\",\"object\":{\"a\":1,\"a\":2}}\n", "", ERR_INVALID);
}

static void test_an_object_that_no_parser_of_ours_reads_is_gone(void **state)
{
    (void)state;
    expect(EVENT("ADDED", "a",
                 "1") "{\"type\":\"MODIFIED\",\"object\":{\"spec\":{\"x\":\"\\u0000\"},\"metadata\":{"
                      "\"name\":\"a\",\"resourceVersion\":\"2\"}}}\n" EVENT("ADDED", "b", "3"),
           "ADDED a@1;DELETED a@2;ADDED b@3;", ERR_NONE);
    expect("{\"object\" : { \"metadata\" :{ \"resourceVersion\" : \"2\" , \"name\" : \"a\" } , \"x\" : "
           "[1e999]} ,"
           " \"type\" : \"DELETED\"}\n",
           "DELETED a@2;", ERR_NONE);
    expect("{\"type\":\"ERROR\",\"object\":{\"message\":\"\\u0000\",\"metadata\":{},\"code\":410}}\n", "",
           ERR_INVALID);
}

static void test_the_callback_can_end_it(void **state)
{
    (void)state;
    static const char text[] = EVENT("ADDED", "a", "1") EVENT("ADDED", "b", "2") EVENT("ADDED", "c", "3");
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct record record = {.fail_at = 2};
        struct err err = ERR_INIT;
        assert_int_equal(decode(text, strlen(text), steps[i], &record, &err), -1);
        assert_int_equal(err.code, ERR_CONFLICT);
        assert_string_equal(record.text.buf, "ADDED a@1;ADDED b@2;");
        strbuf_release(&record.text);
    }
}

static char *long_event(size_t line_bytes, size_t *ret_len)
{
    static const char head[] =
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"1\"},\"x\":\"";
    static const char tail[] = "\"}}";
    char *text = xmalloc(line_bytes + 2);
    memset(text, 'x', line_bytes);
    memcpy(text, head, sizeof(head) - 1);
    memcpy(text + line_bytes - (sizeof(tail) - 1), tail, sizeof(tail)); /* with its NUL */
    text[line_bytes] = '\n';
    text[line_bytes + 1] = '\0';
    *ret_len = line_bytes + 1;
    return text;
}

static void test_lines_have_a_limit(void **state)
{
    (void)state;
    static const size_t large_steps[] = {4096, 16u << 20};
    for (size_t i = 0; i < ARRAY_SIZE(large_steps); i++) {
        struct record record = {0};
        struct err err = ERR_INIT;
        size_t len;
        CLEANUP_FREE char *fits = long_event(KUBE_WATCH_LINE_MAX_BYTES, &len);
        assert_int_equal(decode(fits, len, large_steps[i], &record, &err), 0);
        assert_string_equal(record.text.buf, "ADDED a@1;");
        strbuf_release(&record.text);
        CLEANUP_FREE char *above = long_event(KUBE_WATCH_LINE_MAX_BYTES + 1, &len);
        assert_int_equal(decode(above, len, large_steps[i], &record, &err), -1);
        assert_int_equal(err.code, ERR_TOO_LARGE);
        strbuf_release(&record.text);
    }
}

static void test_a_line_that_never_ends_is_refused(void **state)
{
    (void)state;
    struct record record = {0};
    struct err err = ERR_INIT;
    CLEANUP_FREE char *text = xmalloc(KUBE_WATCH_LINE_MAX_BYTES + 8192);
    memset(text, ' ', KUBE_WATCH_LINE_MAX_BYTES + 8192);
    assert_int_equal(decode(text, KUBE_WATCH_LINE_MAX_BYTES + 8192, 4096, &record, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    strbuf_release(&record.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_of_every_type),
        cmocka_unit_test(test_empty_lines_and_crlf),
        cmocka_unit_test(test_a_line_without_its_end_is_no_event),
        cmocka_unit_test(test_error_events),
        cmocka_unit_test(test_what_is_no_event),
        cmocka_unit_test(test_an_object_that_no_parser_of_ours_reads_is_gone),
        cmocka_unit_test(test_the_callback_can_end_it),
        cmocka_unit_test(test_lines_have_a_limit),
        cmocka_unit_test(test_a_line_that_never_ends_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
