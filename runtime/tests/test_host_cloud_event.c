/* Events in requests: both modes of the HTTP binding, and what is refused. */
#include "runtime/tests/support_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/host/cloud_event.h"
#include "runtime/host/context.h"
#include "runtime/host/request.h"

#define STRUCTURED "application/cloudevents+json"

/* A request, and the event in it. */
struct fixture {
    struct arena arena;
    struct http_header headers[80];
    size_t header_count;
    struct cicada_request request;
    const struct cloud_event *event;
};

static struct fixture *make(void)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));

    arena_init(&fixture->arena);
    return fixture;
}

static void release(struct fixture *fixture)
{
    request_release(&fixture->request);
    arena_release(&fixture->arena);
    free(fixture);
}

static void add_header(struct fixture *fixture, const char *name, const char *value)
{
    fixture->headers[fixture->header_count++] = (struct http_header){name, value};
}

static int read_body(struct fixture *fixture, const char *body, size_t len, struct err *err)
{
    const struct request_source source = {"POST", "/", NULL, fixture->headers, fixture->header_count,
                                          body,   len};
    enum cloud_event_mode mode;

    if (request_init(&fixture->request, &sdk_calls, &fixture->arena, &source, err) != 0)
        return -1;
    mode = cloud_event_mode(&fixture->request);
    assert_true(mode == CLOUD_EVENT_BINARY || mode == CLOUD_EVENT_STRUCTURED);
    return cloud_event_read(&fixture->request, mode, &fixture->arena, &fixture->event, err);
}

/* With what every event must have, unless the test has that itself. */
static struct fixture *make_binary(void)
{
    struct fixture *fixture = make();

    add_header(fixture, "ce-specversion", "1.0");
    add_header(fixture, "CE-Id", "7");
    add_header(fixture, "ce-source", "/shop");
    add_header(fixture, "ce-type", "com.example.paid");
    return fixture;
}

static void attribute_is(const struct fixture *fixture, const char *name, const char *value)
{
    const char *found = cloud_event_attribute(fixture->event, name);

    if (!str_equal_or_both_null(found, value))
        fail_msg("%s: expected %s, got: %s", name, value ? value : "none", found ? found : "none");
}

static void data_is(const struct fixture *fixture, const char *type, const char *data, size_t len)
{
    assert_int_equal(fixture->request.body_len, len);
    assert_memory_equal(fixture->request.body, data, len + 1); /* the NUL, too */
    assert_int_equal(fixture->event->data_len, len);
    if (len > 0)
        assert_memory_equal(fixture->event->data, data, len);
    attribute_is(fixture, "datacontenttype", type);
    assert_true(str_equal_or_both_null(request_header(&fixture->request, "Content-Type"), type));
}

/* ---- binary mode ---- */

static void test_binary(void **state)
{
    struct fixture *fixture = make_binary();
    struct err err = ERR_INIT;

    (void)state;
    add_header(fixture, "ce-subject", "Euro%20%E2%82%AC%20%f0%9f%98%80");
    add_header(fixture, "ce-time", "2026-11-29T07:00:00.123456789+01:00");
    add_header(fixture, "ce-dataschema", "https://example.com/paid?v=1%25");
    add_header(fixture, "ce-comexample", "a+b");
    add_header(fixture, "ce-empty", "");
    add_header(fixture, "cea", "no attribute");
    add_header(fixture, "Content-Type", "application/json; charset=utf-8");
    assert_ok(read_body(fixture, "{\"a\":1}", 7, &err));
    attribute_is(fixture, "specversion", "1.0");
    attribute_is(fixture, "id", "7");
    attribute_is(fixture, "source", "/shop");
    attribute_is(fixture, "type", "com.example.paid");
    attribute_is(fixture, "subject", "Euro \xE2\x82\xAC \xF0\x9F\x98\x80");
    attribute_is(fixture, "time", "2026-11-29T07:00:00.123456789+01:00");
    attribute_is(fixture, "dataschema", "https://example.com/paid?v=1%");
    attribute_is(fixture, "comexample", "a+b");
    attribute_is(fixture, "empty", "");
    attribute_is(fixture, "a", NULL);
    attribute_is(fixture, "Id", NULL);
    assert_int_equal(fixture->event->extensions.count, 2);
    data_is(fixture, "application/json; charset=utf-8", "{\"a\":1}", 7);
    release(fixture);
}

static void test_binary_without_data(void **state)
{
    struct fixture *fixture = make_binary();
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(read_body(fixture, "", 0, &err));
    assert_null(fixture->event->data);
    assert_null(cloud_event_attribute(NULL, "id"));
    data_is(fixture, NULL, "", 0);
    assert_true(cloud_event_has_json(fixture->event));
    release(fixture);
}

/* As senders of before 1.0.1 write them. */
static void test_quoted_values(void **state)
{
    static const char *const values[][2] = {
        {"\"a b\"", "a b"}, {"\"a\\\"b\\\\%20\"", "a\"b\\ "}, {"\"\"", ""}, {"a\"b", "a\"b"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        struct fixture *fixture = make_binary();
        struct err err = ERR_INIT;

        add_header(fixture, "ce-comexample", values[i][0]);
        assert_ok(read_body(fixture, "", 0, &err));
        attribute_is(fixture, "comexample", values[i][1]);
        release(fixture);
    }
}

static void test_refused_headers(void **state)
{
    static const char name_of_65[] = "ce-a23456789b123456789c123456789d123456789e123456789f123456789g12345";
    static const struct {
        const char *name, *value, *message;
    } cases[] = {
        {"ce-a_b", "1", "\"a_b\" has a name of other characters"},
        {"ce-", "1", "\"\" has a name of other characters"},
        {name_of_65, "1", "has a name that is too long"},
        {"ce-id", "8", "\"id\" is there more than once"},
        {"ce-specversion", "1.0", "\"specversion\" is there more than once"},
        {"ce-subject", "", "\"subject\" is empty"},
        {"ce-subject", "\"\"", "\"subject\" is empty"},
        {"ce-subject", "a%0Ab", "\"subject\" has a control character"},
        {"ce-subject", "%C2%85", "\"subject\" has a control character"},
        {"ce-subject", "%7f", "\"subject\" has a control character"},
        {"ce-subject", "%C0%A0", "\"subject\": the decoded text is not UTF-8"},
        {"ce-subject", "\xFF", "\"subject\": the decoded text is not UTF-8"},
        {"ce-subject", "%00", "\"subject\": a NUL"},
        {"ce-subject", "100%", "\"subject\": '%' is not followed"},
        {"ce-subject", "\"a", "\"subject\" lacks its closing quote"},
        {"ce-subject", "\"a\\\"", "\"subject\" lacks its closing quote"},
        {"ce-subject", "\"a\"b", "\"subject\" goes on behind its closing quote"},
        {"ce-time", "yesterday", "\"time\" is no time of RFC 3339"},
        {"ce-data", "{}", "\"data\" is no header"},
        {"ce-datacontenttype", "text/plain", "\"datacontenttype\" is no header"},
        {"Content-Type", "text/\tplain", "\"datacontenttype\" has a control character"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture *fixture = make_binary();
        struct err err = ERR_INIT;

        add_header(fixture, cases[i].name, cases[i].value);
        assert_fails(read_body(fixture, "", 0, &err), ERR_INVALID);
        if (strstr(err.msg, cases[i].message) == NULL)
            fail_msg("%s: expected %s, got: %s", cases[i].name, cases[i].message, err.msg);
        release(fixture);
    }
}

static void test_what_is_missing(void **state)
{
    static const char *const names[] = {"specversion", "id", "source", "type"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct fixture *fixture = make();
        CLEANUP_FREE char *body =
            xstrdup("{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/s\",\"type\":\"t\"}");
        CLEANUP_FREE char *message = xasprintf("\"%s\" is missing", names[i]);
        struct err err = ERR_INIT;

        *strstr(body, names[i]) = 'x';
        add_header(fixture, "Content-Type", STRUCTURED);
        assert_fails(read_body(fixture, body, strlen(body), &err), ERR_INVALID);
        assert_non_null(strstr(err.msg, message));
        release(fixture);
    }
}

static void test_limits(void **state)
{
    CLEANUP_FREE char *longest = xcalloc(1, CLOUD_EVENT_VALUE_MAX_BYTES + 2);
    char names[CLOUD_EVENT_EXTENSIONS_MAX + 1][16];

    (void)state;
    memset(longest, 'a', CLOUD_EVENT_VALUE_MAX_BYTES);
    for (int too_many = 0; too_many <= 1; too_many++) {
        struct fixture *fixture = make_binary();
        struct err err = ERR_INIT;

        for (int i = 0; i < CLOUD_EVENT_EXTENSIONS_MAX + too_many; i++) {
            snprintf(names[i], sizeof(names[i]), "ce-x%d", i);
            add_header(fixture, names[i], longest);
        }
        if (too_many == 0)
            assert_ok(read_body(fixture, "", 0, &err));
        else
            assert_fails(read_body(fixture, "", 0, &err), ERR_TOO_LARGE);
        release(fixture);
    }
    longest[CLOUD_EVENT_VALUE_MAX_BYTES] = 'a';
    {
        struct fixture *fixture = make_binary();
        struct err err = ERR_INIT;

        add_header(fixture, "ce-x", longest);
        assert_fails(read_body(fixture, "", 0, &err), ERR_INVALID);
        assert_non_null(strstr(err.msg, "\"x\" is too long"));
        release(fixture);
    }
}

/* ---- structured mode ---- */

/* An event with these members beside the required ones. */
static int read_with(struct fixture *fixture, const char *members, struct err *err)
{
    char *body =
        xasprintf("{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/shop\",\"type\":\"t\"%s}", members);
    size_t len = strlen(body);
    char *kept = arena_strndup(&fixture->arena, body, len);

    free(body);
    add_header(fixture, "Content-Type", "Application/CloudEvents+JSON; charset=UTF-8");
    return read_body(fixture, kept, len, err);
}

static void test_structured(void **state)
{
    struct fixture *fixture = make();
    struct err err = ERR_INIT;

    (void)state;
    add_header(fixture, "ce-id", "of the header"); /* the document counts */
    assert_ok(read_with(fixture,
                        ",\"subject\":\"a\\u00e4\\\"\",\"time\":null,\"dataschema\":\"urn:x\","
                        "\"comexample\":\"x y\",\"count\":-17,\"flag\":true,\"unset\":null,"
                        "\"data\" : { \"a\" : [1, 2.50] } ",
                        &err));
    attribute_is(fixture, "id", "7");
    attribute_is(fixture, "subject", "a\xC3\xA4\"");
    attribute_is(fixture, "time", NULL);
    attribute_is(fixture, "dataschema", "urn:x");
    attribute_is(fixture, "comexample", "x y");
    attribute_is(fixture, "count", "-17");
    attribute_is(fixture, "flag", "true");
    attribute_is(fixture, "unset", NULL);
    data_is(fixture, "application/json", "{ \"a\" : [1, 2.50] }", 19);
    assert_int_equal(fixture->request.body_kind, BODY_JSON);
    release(fixture);
}

static void test_data_of_all_types(void **state)
{
    static const struct {
        const char *members, *type, *data;
        size_t len;
    } cases[] = {
        {"", NULL, "", 0},
        {",\"datacontenttype\":\"text/plain\"", "text/plain", "", 0},
        {",\"data\":null", "application/json", "null", 4},
        {",\"data\":\"<a/>\"", "application/json", "\"<a/>\"", 6},
        {",\"datacontenttype\":\"text/json\",\"data\":1", "text/json", "1", 1},
        {",\"datacontenttype\":\"a/b+JSON ; v=1\",\"data\":[]", "a/b+JSON ; v=1", "[]", 2},
        {",\"datacontenttype\":\"application/xml\",\"data\":\"<a b=\\\"c\\\"/>\"", "application/xml",
         "<a b=\"c\"/>", 10},
        {",\"datacontenttype\":\"application/xml\",\"data\":null", "application/xml", "", 0},
        {",\"datacontenttype\":\"application/x\",\"data_base64\":\"AP8B\"", "application/x", "\0\xFF\1", 3},
        {",\"datacontenttype\":\"application/json\",\"data_base64\":\"e30=\"", "application/json", "{}", 2},
        {",\"data_base64\":\"e30=\"", NULL, "{}", 2},
        {",\"data_base64\":null,\"data\":{}", "application/json", "{}", 2},
        {",\"data\":{},\"datacontenttype\":\"application/vnd.x+json\"", "application/vnd.x+json", "{}", 2},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture *fixture = make();
        struct err err = ERR_INIT;

        assert_ok(read_with(fixture, cases[i].members, &err));
        data_is(fixture, cases[i].type, cases[i].data, cases[i].len);
        release(fixture);
    }
}

static void test_refused_documents(void **state)
{
    static const char *const cases[][2] = {
        {",\"a_b\":\"1\"", "\"a_b\" has a name of other characters"},
        {",\"A\":\"1\"", "\"A\" has a name of other characters"},
        {",\"\":\"1\"", "\"\" has a name of other characters"},
        {",\"x\":[]", "\"x\" is neither a string nor an integer nor a boolean"},
        {",\"x\":{}", "\"x\" is neither"},
        {",\"x\":1.5", "\"x\" is a number, but no integer"},
        {",\"x\":1e3", "\"x\" is a number, but no integer"},
        {",\"subject\":7", "\"subject\" is no string"},
        {",\"subject\":\"\"", "\"subject\" is empty"},
        {",\"subject\":\"a\\nb\"", "\"subject\" has a control character"},
        {",\"id\":\"8\"", "the event is no JSON: "},
        {",\"data\":1,\"data_base64\":\"\"", "both \"data\" and \"data_base64\""},
        {",\"data_base64\":7", "\"data_base64\" is no string"},
        {",\"data_base64\":\"a\"", "\"data_base64\": not base64"},
        {",\"datacontenttype\":\"text/plain\",\"data\":{}", "\"data\" is no string"},
        {",\"datacontenttype\":\"json\",\"data\":{}", "\"data\" is no string"},
        {",", "the event is no JSON: "},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture *fixture = make();
        struct err err = ERR_INIT;

        assert_fails(read_with(fixture, cases[i][0], &err), ERR_INVALID);
        if (strstr(err.msg, cases[i][1]) == NULL)
            fail_msg("%s: expected %s, got: %s", cases[i][0], cases[i][1], err.msg);
        release(fixture);
    }
}

static void test_other_documents(void **state)
{
    static const char *const bodies[][2] = {
        {"", "the event is no JSON"},
        {"[]", "the event is no JSON object"},
        {"{}", "\"specversion\" is missing"},
        {"{\"specversion\":\"0.3\"}", "\"specversion\" is not 1.0"},
        {"{\"specversion\":1.0}", "\"specversion\" is no string"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        struct fixture *fixture = make();
        struct err err = ERR_INIT;

        add_header(fixture, "Content-Type", STRUCTURED);
        assert_fails(read_body(fixture, bodies[i][0], strlen(bodies[i][0]), &err), ERR_INVALID);
        if (strstr(err.msg, bodies[i][1]) == NULL)
            fail_msg("%s: expected %s, got: %s", bodies[i][0], bodies[i][1], err.msg);
        release(fixture);
    }
}

/* As deep as a body may be. */
static void test_depth(void **state)
{
    (void)state;
    for (int deeper = 0; deeper <= 1; deeper++) {
        struct fixture *fixture = make();
        struct strbuf members;
        struct err err = ERR_INIT;

        strbuf_init(&members, 1024);
        strbuf_append_str(&members, ",\"data\":");
        for (int i = 0; i < REQUEST_JSON_DEPTH_MAX + deeper; i++)
            strbuf_append_char(&members, '[');
        for (int i = 0; i < REQUEST_JSON_DEPTH_MAX + deeper; i++)
            strbuf_append_char(&members, ']');
        if (deeper == 0)
            assert_ok(read_with(fixture, members.buf, &err));
        else
            assert_fails(read_with(fixture, members.buf, &err), ERR_INVALID);
        assert_int_equal(request_parse_declared_json(&fixture->request, &err), deeper == 0 ? 0 : -1);
        strbuf_release(&members);
        release(fixture);
    }
}

/* ---- which requests are events ---- */

static void test_modes(void **state)
{
    static const struct {
        const char *method, *type;
        bool has_header;
        enum cloud_event_mode mode;
    } cases[] = {
        {"POST", NULL, false, CLOUD_EVENT_NONE},
        {"POST", "application/json", false, CLOUD_EVENT_NONE},
        {"POST", "application/json", true, CLOUD_EVENT_BINARY},
        {"POST", NULL, true, CLOUD_EVENT_BINARY},
        {"PUT", NULL, true, CLOUD_EVENT_NONE},
        {"GET", STRUCTURED, true, CLOUD_EVENT_NONE},
        {"POST", STRUCTURED, false, CLOUD_EVENT_STRUCTURED},
        {"POST", STRUCTURED ";charset=utf-8", true, CLOUD_EVENT_STRUCTURED},
        {"POST", "APPLICATION/cloudevents+JSON ; a=b", false, CLOUD_EVENT_STRUCTURED},
        {"POST", "application/cloudevents-batch+json", false, CLOUD_EVENT_UNSUPPORTED},
        {"POST", "application/cloudevents+avro", true, CLOUD_EVENT_UNSUPPORTED},
        {"POST", "application/cloudevents", false, CLOUD_EVENT_UNSUPPORTED},
        {"POST", "application/cloudevent", false, CLOUD_EVENT_NONE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture *fixture = make();
        struct request_source source = {cases[i].method, "/", NULL, fixture->headers, 0, "", 0};
        struct err err = ERR_INIT;

        if (cases[i].type != NULL)
            add_header(fixture, "content-type", cases[i].type);
        if (cases[i].has_header)
            add_header(fixture, "Ce-SpecVersion", "1.0");
        source.header_count = fixture->header_count;
        assert_ok(request_init(&fixture->request, &sdk_calls, &fixture->arena, &source, &err));
        assert_int_equal(cloud_event_mode(&fixture->request), cases[i].mode);
        release(fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_binary_without_data),
        cmocka_unit_test(test_quoted_values),
        cmocka_unit_test(test_refused_headers),
        cmocka_unit_test(test_what_is_missing),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_structured),
        cmocka_unit_test(test_data_of_all_types),
        cmocka_unit_test(test_refused_documents),
        cmocka_unit_test(test_other_documents),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
