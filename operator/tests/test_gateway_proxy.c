/* What goes through: heads rewritten, bodies framed, connections kept, methods and limits held, problems told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/tests/support_gateway.h"
#include "runtime/base/mem.h"

struct world {
    struct test_gateway test;
    struct test_upstream *upstream;
};

static void start(struct world *world, const char *members)
{
    world->upstream = test_upstream_new();
    test_gateway_start(&world->test, NULL);
    test_gateway_function(&world->test, "shop", "f", members);
    struct sockaddr_in address = test_upstream_address(world->upstream);
    test_gateway_pod(&world->test, "f-1", "uid-1", &address, GATEWAY_POD_READY, NULL);
    gateway_catalog_synced(world->test.gateway);
}

static void stop(struct world *world)
{
    test_gateway_stop(&world->test);
    test_upstream_free(world->upstream);
}

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
    struct world world;
    struct test_answer answer;
    char value[512];
    start(&world, "\"http\":{\"hosts\":[\"a.test\"],\"path\":\"/api\"}");
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
    stop(&world);
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
    struct world world;
    start(&world, "\"http\":{}");
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
    stop(&world);
}

static void test_bodies_in_every_framing(void **state)
{
    (void)state;
    struct world world;
    struct test_answer answer;
    start(&world, "\"http\":{}");
    int port = world.test.port;
    test_call(port, "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 5\r\n\r\nhello", 200,
              &answer);
    assert_string_equal(answer.body.buf, "hello");
    test_answer_release(&answer);
    test_call(port,
              "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nTransfer-Encoding: chunked\r\n\r\n"
              "2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: t\r\n\r\n",
              200, &answer);
    assert_string_equal(answer.body.buf, "hello");
    test_answer_release(&answer);
    test_call(port, "POST /head HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 0\r\n\r\n", 200, &answer);
    assert_true(test_answer_has(&answer, "\r\nContent-Length: 0\r\n"));
    test_answer_release(&answer);
    test_call(port, TEST_REQUEST("GET", "/chunks/3/1000"), 200, &answer);
    assert_true(answer.chunked);
    assert_int_equal(answer.body.len, 3000);
    test_answer_release(&answer);
    test_call(port, TEST_REQUEST("GET", "/open/70000"), 200, &answer); /* open-ended becomes chunked */
    assert_true(answer.chunked);
    assert_false(answer.closed);
    assert_int_equal(answer.body.len, 70000);
    test_answer_release(&answer);
    test_call(port, TEST_REQUEST("GET", "/status/204"), 204, &answer);
    assert_null(strcasestr(answer.head.buf, "Content-Length"));
    test_answer_release(&answer);
    test_call(port, TEST_REQUEST("HEAD", "/x"), 200, &answer);
    test_answer_release(&answer);
    stop(&world);
}

static void test_interim_and_odd_answers(void **state)
{
    (void)state;
    static const struct {
        const char *raw;
        int status;
        const char *body;
    } cases[] = {
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 "
         "OK\r\nContent-Length: 2\r\n\r\nok",
         200, "ok"},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: x\r\n\r\n", 304, ""},
        {"HTTP/1.1 299\r\nContent-Length: 1\r\nConnection: X-Gone\r\nX-Gone: 1\r\n\r\na", 299, "a"},
        {"HTTP/1.1 101 Switching\r\n\r\n", 502, "malformed_answer"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 502, "malformed_answer"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 502, "malformed_answer"},
        {"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", 502, "malformed_answer"},
        {"garbage\r\n\r\n", 502, "malformed_answer"},
    };
    struct world world;
    start(&world, "\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct test_answer answer;
        test_upstream_set_raw(world.upstream, cases[i].raw);
        test_call(world.test.port, TEST_REQUEST("GET", "/raw"), cases[i].status, &answer);
        assert_true(test_answer_has(&answer, cases[i].body));
        assert_null(strcasestr(answer.head.buf, "X-Gone"));
        test_answer_release(&answer);
    }
    stop(&world);
}

static void test_connections_are_kept_on_both_sides(void **state)
{
    (void)state;
    struct world world;
    start(&world, "\"http\":{}");
    struct test_client client;
    test_client_open(&client, world.test.port);
    for (int i = 0; i < 20; i++) {
        struct test_answer answer;
        test_client_send(&client, i % 2 ? TEST_REQUEST("GET", "/chunks/2/10") : TEST_REQUEST("GET", "/x"));
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, 200);
        test_answer_release(&answer);
    }
    assert_int_equal(test_upstream_connections(world.upstream), 1);
    test_client_close(&client);
    stop(&world);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    struct world world;
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, 1 << 20);
    start(&world, "\"http\":{}");
    for (int i = 0; i < COUNT; i++) {
        if (i % 3 == 0) { /* one that the gateway answers itself */
            strbuf_appendf(&text, "GET /%d HTTP/1.1\r\nHost: nobody.test\r\n\r\n", i);
        } else {
            strbuf_appendf(&text,
                           "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 4\r\n\r\n%04d", i);
        }
    }
    struct test_client client;
    test_client_open(&client, world.test.port);
    test_client_send(&client, text.buf);
    for (int i = 0; i < COUNT; i++) {
        struct test_answer answer;
        char expected[16];
        snprintf(expected, sizeof(expected), "%04d", i);
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, i % 3 == 0 ? 404 : 200);
        assert_true(i % 3 == 0 || strcmp(answer.body.buf, expected) == 0);
        test_answer_release(&answer);
    }
    test_client_close(&client);
    stop(&world);
}

/* The rest of a second request comes after the first was answered. */
static void test_half_a_pipelined_request(void **state)
{
    (void)state;
    static const char second[] =
        "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 5\r\n\r\nhello";
    struct world world;
    start(&world, "\"http\":{}");
    for (size_t cut = 1; cut < sizeof(second) - 1; cut += 9) {
        struct test_client client;
        struct test_answer answer;
        CLEANUP_FREE char *first = xasprintf("%s%.*s", TEST_REQUEST("GET", "/x"), (int)cut, second);
        test_client_open(&client, world.test.port);
        test_client_send(&client, first);
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, 200);
        test_answer_release(&answer);
        (void)test_client_readable(&client, 5);
        test_client_send(&client, second + cut);
        test_client_read(&client, &answer, false);
        assert_string_equal(answer.body.buf, "hello");
        test_answer_release(&answer);
        test_client_close(&client);
    }
    stop(&world);
}

static void test_http10_and_close(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool stays, chunked;
    } cases[] = {
        {"GET /x HTTP/1.0\r\nHost: f.shop.fn.test\r\n\r\n", false, false},
        {"GET /x HTTP/1.0\r\nHost: f.shop.fn.test\r\nConnection: keep-alive\r\n\r\n", true, false},
        {"GET /chunks/2/10 HTTP/1.0\r\nHost: f.shop.fn.test\r\nConnection: keep-alive\r\n\r\n", false, false},
        {"GET /open/10 HTTP/1.0\r\nHost: f.shop.fn.test\r\n\r\n", false, false},
        {"GET /x HTTP/1.1\r\nHost: f.shop.fn.test\r\nConnection: close\r\n\r\n", false, false},
        {"GET /chunks/2/10 HTTP/1.1\r\nHost: f.shop.fn.test\r\nConnection: close\r\n\r\n", false, true},
        {"GET /close HTTP/1.1\r\nHost: f.shop.fn.test\r\n\r\n", true, false},
    };
    struct world world;
    start(&world, "\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct test_client client;
        struct test_answer answer;
        test_client_open(&client, world.test.port);
        test_client_send(&client, cases[i].text);
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, 200);
        assert_true(answer.body.len > 0);
        assert_int_equal(answer.chunked, cases[i].chunked);
        if (cases[i].stays == answer.closed ||
            test_client_ended(&client, cases[i].stays ? 50 : TEST_WAIT_MS) == cases[i].stays) {
            fail_msg("case %zu: %s", i, answer.head.buf);
        }
        test_answer_release(&answer);
        test_client_close(&client);
    }
    stop(&world);
}

/* A pod that says "Connection: close" loses that connection and stays in use. */
static void test_close_of_the_pod_closes_one_connection(void **state)
{
    (void)state;
    struct world world;
    start(&world, "\"http\":{}");
    for (int i = 0; i < 5; i++) {
        test_call_status(world.test.port, TEST_REQUEST("POST", "/close"), 200);
    }
    assert_int_equal(test_upstream_connections(world.upstream), 5);
    assert_int_equal(atomic_load(&world.test.wakes), 0);
    stop(&world);
}

static void test_methods(void **state)
{
    (void)state;
    struct world world;
    struct test_answer answer;
    char value[512];
    start(&world, "\"http\":{\"methods\":[\"GET\",\"POST\"]}");
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
    stop(&world);
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
        {false,
         "GET /x HTTP/1.1\r\nHost: f.shop.fn.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 501,
         "upgrade_not_supported", false},
        {false, "GET /drop HTTP/1.1\r\nHost: f.shop.fn.test\r\n\r\n", 502, "upstream_closed", false},
    };
    struct world world;
    start(&world, "\"limits\":{\"bodyBytes\":100},\"http\":{}");
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
    stop(&world);
}

static void test_a_bare_name_is_answered_with_the_whole(void **state)
{
    (void)state;
    static const char *const hosts[] = {"create-order", "Create-Order.:8081", "f[\"", "-"};
    struct world world;
    struct test_answer answer;
    start(&world, "\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
        CLEANUP_FREE char *text = xasprintf("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i]);
        CLEANUP_FREE char *name = xasprintf("\"Call it by %.*s.<namespace>: ", i < 2 ? 12 : 1, hosts[i]);
        test_call(world.test.internal_port, text, i == 2 ? 400 : 404, &answer);
        assert_int_equal(test_answer_has(&answer, name), i != 2);
        test_answer_release(&answer);
    }
    stop(&world);
}

/* CivetWeb would refuse them. */
static void test_tabs_become_spaces(void **state)
{
    (void)state;
    struct world world;
    struct test_answer answer;
    start(&world, "\"http\":{}");
    test_call(world.test.port,
              "GET /head HTTP/1.1\r\nHost:\tf.shop.fn.test\t\r\nA:\t\tb\tc \td\t\r\nCookie: e\tf\r\n"
              "traceparent: 01-0123456789abcdef0123456789abcdef-0123456789abcdef-01-\tx\r\n\r\n",
              200, &answer);
    assert_true(test_answer_has(&answer, "\r\nA: b c  d\r\n"));
    assert_true(test_answer_has(&answer, "\r\nCookie: e f\r\n"));
    assert_false(test_answer_has(&answer, "\t"));
    test_answer_release(&answer);
    stop(&world);
}

static void test_head_limits(void **state)
{
    (void)state;
    static const struct {
        int status, headers, value_len, path_len;
    } cases[] = {{200, 56, 1, 1}, {431, 57, 1, 1}, {431, 20, 1000, 1}, {414, 1, 1, 9000}, {200, 1, 1, 8000}};
    struct world world;
    start(&world, "\"http\":{}");
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
    stop(&world);
}

static void test_chunked_body_over_the_limit(void **state)
{
    (void)state;
    struct world world;
    start(&world, "\"limits\":{\"bodyBytes\":1000},\"http\":{}");
    struct test_client client;
    struct test_answer answer;
    char piece[700];
    test_client_open(&client, world.test.port);
    test_client_send(&client,
                     "POST /count HTTP/1.1\r\nHost: f.shop.fn.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    snprintf(piece, sizeof(piece), "200\r\n%0512d\r\n", 0);
    test_client_send(&client, piece);
    assert_false(test_client_readable(&client, 50));
    test_client_send(&client, piece);
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 413);
    assert_true(answer.closed);
    test_answer_release(&answer);
    test_client_close(&client);
    stop(&world);
}

static void test_continue_is_answered_on_hand_over(void **state)
{
    (void)state;
    struct world world;
    start(&world, "\"http\":{}");
    struct test_client client;
    struct test_answer answer;
    test_client_open(&client, world.test.port);
    test_client_send(
        &client,
        "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 100);
    test_answer_release(&answer);
    test_client_send(&client, "hello");
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body.buf, "hello");
    test_answer_release(&answer);
    /* Who sent the body at once needs no 100. */
    test_client_send(&client, "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nExpect: "
                              "100-continue\r\nContent-Length: 5\r\n\r\nhello");
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    test_client_close(&client);
    stop(&world);
}

static void test_requests_in_pieces(void **state)
{
    (void)state;
    static const char text[] =
        "\r\nPOST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    static const size_t sizes[] = {1, 2, 7};
    struct world world;
    start(&world, "\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct test_client client;
        struct test_answer answer;
        test_client_open(&client, world.test.port);
        for (size_t at = 0; at < sizeof(text) - 1; at += sizes[i]) {
            size_t len = sizeof(text) - 1 - at < sizes[i] ? sizeof(text) - 1 - at : sizes[i];
            assert_true(test_client_try_send(&client, text + at, len));
            (void)test_client_readable(&client, 1);
        }
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, 200);
        assert_string_equal(answer.body.buf, "hello");
        test_answer_release(&answer);
        test_client_close(&client);
    }
    stop(&world);
}

static void test_metrics_count(void **state)
{
    (void)state;
    struct world world;
    start(&world, "\"http\":{}");
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
    stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads_are_rewritten),
        cmocka_unit_test(test_ids_are_made_when_missing_or_malformed),
        cmocka_unit_test(test_bodies_in_every_framing),
        cmocka_unit_test(test_interim_and_odd_answers),
        cmocka_unit_test(test_connections_are_kept_on_both_sides),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(test_half_a_pipelined_request),
        cmocka_unit_test(test_http10_and_close),
        cmocka_unit_test(test_close_of_the_pod_closes_one_connection),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_problems),
        cmocka_unit_test(test_a_bare_name_is_answered_with_the_whole),
        cmocka_unit_test(test_tabs_become_spaces),
        cmocka_unit_test(test_head_limits),
        cmocka_unit_test(test_chunked_body_over_the_limit),
        cmocka_unit_test(test_continue_is_answered_on_hand_over),
        cmocka_unit_test(test_requests_in_pieces),
        cmocka_unit_test(test_metrics_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
