/* Bodies framed, connections kept, requests in pieces and in a row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/tests/support_gateway_world.h"
#include "runtime/base/mem.h"

static void test_bodies_in_every_framing(void **state)
{
    (void)state;
    struct test_world world;
    struct test_answer answer;
    test_world_start(&world, "\"http\":{}");
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
    test_world_stop(&world);
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
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct test_answer answer;
        test_upstream_set_raw(world.upstream, cases[i].raw);
        test_call(world.test.port, TEST_REQUEST("GET", "/raw"), cases[i].status, &answer);
        assert_true(test_answer_has(&answer, cases[i].body));
        assert_null(strcasestr(answer.head.buf, "X-Gone"));
        test_answer_release(&answer);
    }
    test_world_stop(&world);
}

static void test_connections_are_kept_on_both_sides(void **state)
{
    (void)state;
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
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
    test_world_stop(&world);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    struct test_world world;
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, 1 << 20);
    test_world_start(&world, "\"http\":{}");
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
    test_world_stop(&world);
}

/* The rest of a second request comes after the first was answered. */
static void test_half_a_pipelined_request(void **state)
{
    (void)state;
    static const char second[] =
        "POST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 5\r\n\r\nhello";
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
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
    test_world_stop(&world);
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
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
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
    test_world_stop(&world);
}

/* A pod that says "Connection: close" loses that connection and stays in use. */
static void test_close_of_the_pod_closes_one_connection(void **state)
{
    (void)state;
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
    for (int i = 0; i < 5; i++) {
        test_call_status(world.test.port, TEST_REQUEST("POST", "/close"), 200);
    }
    assert_int_equal(test_upstream_connections(world.upstream), 5);
    assert_int_equal(atomic_load(&world.test.wakes), 0);
    test_world_stop(&world);
}

static void test_chunked_body_over_the_limit(void **state)
{
    (void)state;
    struct test_world world;
    test_world_start(&world, "\"limits\":{\"bodyBytes\":1000},\"http\":{}");
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
    test_world_stop(&world);
}

static void test_continue_is_answered_on_hand_over(void **state)
{
    (void)state;
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
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
    test_world_stop(&world);
}

static void test_requests_in_pieces(void **state)
{
    (void)state;
    static const char text[] =
        "\r\nPOST /echo HTTP/1.1\r\nHost: f.shop.fn.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    static const size_t sizes[] = {1, 2, 7};
    struct test_world world;
    test_world_start(&world, "\"http\":{}");
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
    test_world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies_in_every_framing),
        cmocka_unit_test(test_interim_and_odd_answers),
        cmocka_unit_test(test_connections_are_kept_on_both_sides),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(test_half_a_pipelined_request),
        cmocka_unit_test(test_http10_and_close),
        cmocka_unit_test(test_close_of_the_pod_closes_one_connection),
        cmocka_unit_test(test_chunked_body_over_the_limit),
        cmocka_unit_test(test_continue_is_answered_on_hand_over),
        cmocka_unit_test(test_requests_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
