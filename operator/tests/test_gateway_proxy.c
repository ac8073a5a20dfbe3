/* What goes through: heads rewritten, methods and limits held, problems told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/tests/support_gateway_world.h"
#include "runtime/base/mem.h"

static void expect_in_body(const struct test_answer *answer, const char *const *texts)
{
    for (; *texts; texts++) {
        if (!test_answer_has(answer, *texts)) {
            fail_msg("\"%s\" missing in: %s", *texts, answer->body.buf);
        }
    }
}

static void test_heads_are_rewritten(void **state)
{
    (void)state;
    struct test_world world;
    struct test_answer answer;
    char value[512];
    test_world_start(&world, "\"http\":{\"hosts\":[\"a.test\"],\"path\":\"/api\"}");
    test_call(
        world.test.port,
        "GET /api/head?q=1 HTTP/1.1\r\nHost: A.test:80\r\nAccept: x\r\nX-Forwarded-For: 9.9.9.9\r\n"
        "X-Forwarded-Proto: https\r\nForwarded: for=9.9.9.9\r\nX-Cicada-Event: 1\r\nConnection: X-Hop, "
        "keep-alive\r\n"
        "X-Hop: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nProxy-Authorization: p\r\nUpgrade: "
        "h2c\r\nHTTP2-Settings: s\r\n"
        "X-Request-Id: my.id_1-2\r\nAuthorization: Bearer t\r\nCookie: c=1\r\n"
        "traceparent: 00-0123456789abcdef0123456789abcdef-0123456789abcdef-01\r\ntracestate: k=v\r\n\r\n",
        200, &answer);
    static const char *const kept[] = {
        "GET /head?q=1 HTTP/1.1\r\nHost: A.test:80\r\n",
        "\r\nAccept: x\r\n",
        "\r\nX-Forwarded-For: 127.0.0.1\r\n",
        "\r\nX-Forwarded-Proto: http\r\n",
        "\r\nX-Forwarded-Host: A.test:80\r\n",
        "\r\nX-Forwarded-Prefix: /api\r\n",
        "\r\nX-Request-Id: my.id_1-2\r\n",
        "\r\nAuthorization: Bearer t\r\n",
        "\r\nCookie: c=1\r\n",
        "\r\ntraceparent: 00-0123456789abcdef0123456789abcdef-0123456789abcdef-01\r\n",
        "\r\ntracestate: k=v\r\n",
        NULL};
    expect_in_body(&answer, kept);
    static const char *const gone[] = {"9.9.9.9",    "https",  "X-Cicada", "X-Hop",    "\r\nTE:",
                                       "Keep-Alive", "Proxy-", "Upgrade",  "Settings", "\r\nConnection:"};
    for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
        assert_false(test_answer_has(&answer, gone[i]));
    }
    assert_string_equal(test_answer_header(&answer, "X-Request-Id", value), "my.id_1-2");
    assert_string_equal(test_answer_header(&answer, "X-Up", value), "1");
    assert_int_equal(strncmp(test_answer_header(&answer, "Server-Timing", value), "handler;dur=", 12), 0);
    assert_true(test_answer_header(&answer, "Date", value)[0] != '\0');
    test_answer_release(&answer);
    test_world_stop(&world);
}

static void test_ids_are_made_when_missing_or_malformed(void **state)
{
    (void)state;
    static const char *const requests[] = {
        TEST_REQUEST("GET", "/head"),
        "GET /head HTTP/1.1\r\nHost: f.shop.fn.test\r\nX-Request-Id: a b\r\ntraceparent: "
        "00-zz\r\ntracestate: k=v\r\n\r\n",
        "GET /head HTTP/1.1\r\nHost: f.shop.fn.test\r\nX-Request-Id:\r\n"
        "traceparent: 00-00000000000000000000000000000000-0123456789abcdef-01\r\ntracestate: k=v\r\n\r\n",
        "GET /head HTTP/1.1\r\nHost: f.shop.fn.test\r\nX-Request-Id: <b>\r\n"
        "traceparent: ff-0123456789abcdef0123456789abcdef-0123456789abcdef-01\r\ntracestate: k=v\r\n\r\n",
    };
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        struct test_answer answer;
        char id[512];
        test_call(world.test.port, requests[i], 200, &answer);
        test_answer_header(&answer, "X-Request-Id", id);
        assert_int_equal(strlen(id), 32);
        assert_true(test_answer_has(&answer, id));
        const char *trace = strstr(answer.body.buf, "\r\ntraceparent: 00-");
        assert_non_null(trace);
        assert_int_equal(strcspn(trace + 2, "\r"), strlen("traceparent: ") + 55);
        assert_memory_not_equal(trace + 18, "00000000000000000000000000000000", 32);
        assert_false(test_answer_has(&answer, "tracestate"));
        test_answer_release(&answer);
    }
    test_world_stop(&world);
}

static void test_methods(void **state)
{
    (void)state;
    struct test_world world;
    struct test_answer answer;
    char value[512];
    test_world_start(&world, "\"http\":{\"methods\":[\"GET\",\"POST\"]}");
    test_call_status(world.test.port, TEST_REQUEST("GET", "/x"), 200);
    test_call_status(world.test.port, TEST_REQUEST("HEAD", "/x"), 200);
    test_call_status(world.test.port, TEST_REQUEST("POST", "/x"), 200);
    test_call(world.test.port, TEST_REQUEST("DELETE", "/x"), 405, &answer);
    assert_string_equal(test_answer_header(&answer, "Allow", value), "GET, POST, HEAD");
    assert_true(test_answer_has(&answer, "\"code\":\"method_not_allowed\""));
    test_answer_release(&answer);
    test_call(world.test.internal_port, "DELETE / HTTP/1.1\r\nHost: f.shop\r\n\r\n", 405, &answer);
    test_answer_release(&answer);
    test_call(world.test.port, TEST_REQUEST("OPTIONS", "/x"), 405, &answer);
    test_answer_release(&answer);
    test_world_stop(&world);
}

static void test_problems(void **state)
{
    (void)state;
    static const struct {
        bool internal;
        const char *text;
        int status;
        const char *code;
        bool closed;
    } cases[] = {
        {false, "GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n", 404, "no_route", false},
        {false, "GET / HTTP/1.1\r\nHost: f.shop\r\n\r\n", 404, "no_route", false},
        {true, "GET / HTTP/1.1\r\nHost: f\r\n\r\n", 404, "namespace_missing", false},
        {false, "GET /a/../b HTTP/1.1\r\nHost: f.shop.fn.test\r\n\r\n", 400, "dot_segments", false},
        {false, "GET / HTTP/1.1\r\n\r\n", 400, "malformed_host", true},
        {false, "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400, "malformed_request", true},
        {false, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
         "malformed_length", true},
        {false, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "coding_not_supported",
         true},
        {false, "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "method_not_supported", true},
        {false, "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "version_not_supported", true},
        {false, "POST /x HTTP/1.1\r\nHost: f.shop.fn.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400,
         "malformed_chunk", true},
        {false, "POST /x HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 101\r\n\r\n", 413,
         "body_too_large", true},
        {false,
         "POST /x HTTP/1.1\r\nHost: f.shop.fn.test\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n",
         413, "body_too_large", true},
        {false, "GET /x HTTP/1.1\r\nHost: f.shop.fn.test\r\nExpect: wonders\r\n\r\n", 417,
         "expectation_failed", false},
        {false, "GET /drop HTTP/1.1\r\nHost: f.shop.fn.test\r\n\r\n", 502, "upstream_closed", false},
    };
    struct test_world world;
    test_world_start(&world, "\"limits\":{\"bodyBytes\":100},\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct test_answer answer;
        char value[512], id[512];
        CLEANUP_FREE char *code = xasprintf("\"code\":\"%s\"", cases[i].code);
        test_call(cases[i].internal ? world.test.internal_port : world.test.port, cases[i].text,
                  cases[i].status, &answer);
        if (!test_answer_has(&answer, code) || answer.closed != cases[i].closed) {
            fail_msg("case %zu: %s%s", i, answer.head.buf, answer.body.buf);
        }
        assert_string_equal(test_answer_header(&answer, "Content-Type", value), "application/problem+json");
        assert_true(test_answer_has(&answer, "\"component\":\"gateway\""));
        test_answer_header(&answer, "X-Request-Id", id);
        assert_int_equal(strlen(id), 32);
        assert_true(test_answer_has(&answer, id));
        test_answer_release(&answer);
    }
    test_world_stop(&world);
}

static void test_a_bare_name_is_answered_with_the_whole(void **state)
{
    (void)state;
    static const char *const hosts[] = {"create-order", "Create-Order.:8081", "f[\"", "-"};
    struct test_world world;
    struct test_answer answer;
    test_world_start(&world, "\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
        CLEANUP_FREE char *text = xasprintf("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i]);
        CLEANUP_FREE char *name = xasprintf("\"Call it by %.*s.<namespace>: ", i < 2 ? 12 : 1, hosts[i]);
        test_call(world.test.internal_port, text, i == 2 ? 400 : 404, &answer);
        assert_int_equal(test_answer_has(&answer, name), i != 2);
        test_answer_release(&answer);
    }
    test_world_stop(&world);
}

/* CivetWeb would refuse them. */
static void test_tabs_become_spaces(void **state)
{
    (void)state;
    struct test_world world;
    struct test_answer answer;
    test_world_start(&world, "\"http\":{}");
    test_call(world.test.port,
              "GET /head HTTP/1.1\r\nHost:\tf.shop.fn.test\t\r\nA:\t\tb\tc \td\t\r\nCookie: e\tf\r\n"
              "traceparent: 01-0123456789abcdef0123456789abcdef-0123456789abcdef-01-\tx\r\n\r\n",
              200, &answer);
    assert_true(test_answer_has(&answer, "\r\nA: b c  d\r\n"));
    assert_true(test_answer_has(&answer, "\r\nCookie: e f\r\n"));
    assert_false(test_answer_has(&answer, "\t"));
    test_answer_release(&answer);
    test_world_stop(&world);
}

static void test_head_limits(void **state)
{
    (void)state;
    static const struct {
        int status, headers, value_len, path_len;
    } cases[] = {{200, 56, 1, 1}, {431, 57, 1, 1}, {431, 20, 1000, 1}, {414, 1, 1, 9000}, {200, 1, 1, 8000}};
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_STRBUF struct strbuf text;
        strbuf_init(&text, 1 << 17);
        strbuf_append_str(&text, "GET /");
        for (int c = 1; c < cases[i].path_len; c++) {
            strbuf_append_char(&text, 'p');
        }
        strbuf_append_str(&text, " HTTP/1.1\r\nHost: f.shop.fn.test\r\n");
        for (int h = 1; h < cases[i].headers; h++) {
            strbuf_appendf(&text, "X-%d: %0*d\r\n", h, cases[i].value_len, h);
        }
        strbuf_append_str(&text, "\r\n");
        test_call_status(world.test.port, text.buf, cases[i].status);
    }
    test_world_stop(&world);
}

static void test_metrics_count(void **state)
{
    (void)state;
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
    for (int i = 0; i < 3; i++) {
        test_call_status(world.test.port, TEST_REQUEST("GET", "/x"), 200);
    }
    test_call_status(world.test.port, TEST_REQUEST("GET", "/status/418"), 418);
    test_call_status(world.test.port, "GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n", 404);
    static const struct {
        const char *name;
        double value;
    } expected[] = {
        {"cicada_gateway_requests_total{namespace=\"shop\",function=\"f\",code=\"200\"}", 3},
        {"cicada_gateway_requests_total{namespace=\"shop\",function=\"f\",code=\"418\"}", 1},
        {"cicada_gateway_requests_total{namespace=\"\",function=\"\",code=\"404\"}", 1},
        {"cicada_gateway_request_duration_seconds_count{namespace=\"shop\",function=\"f\"}", 4},
        {"cicada_gateway_client_connections{listener=\"public\"}", 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        test_gateway_wait_metric(&world.test, expected[i].name, expected[i].value);
    }
    test_world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads_are_rewritten),
        cmocka_unit_test(test_ids_are_made_when_missing_or_malformed),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_problems),
        cmocka_unit_test(test_a_bare_name_is_answered_with_the_whole),
        cmocka_unit_test(test_tabs_become_spaces),
        cmocka_unit_test(test_head_limits),
        cmocka_unit_test(test_metrics_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
