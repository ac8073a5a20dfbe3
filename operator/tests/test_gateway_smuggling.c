/* Requests that two parsers might read differently: raw bytes, what is answered, and what the pod gets to see of it (RFC 9112). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>

#include "operator/tests/support_gateway_world.h"
#include "runtime/base/mem.h"

#define TO   "Host: f.shop.fn.test\r\n"
#define POST "POST /echo HTTP/1.1\r\n" TO
#define GET  "GET /x HTTP/1.1\r\n" TO
#define NEXT "GET /next HTTP/1.1\r\n" TO "\r\n" /* the request that may be smuggled, or must not be reached */

struct smuggling_case {
    const char *text;
    const char *statuses; /* in order; a minus at the end: then the connection is closed */
    const char *heard;    /* by the pod */
    size_t len;           /* of text; 0: its strlen() */
};

#define WITH_NUL(text) (text), "400-", "", sizeof(text) - 1

static const struct smuggling_case length_cases[] = {
    {POST "Content-Length: 5\r\n\r\nhello" NEXT, "200 200",
     "POST /echo [Content-Length: 5] hello\nGET /next ", 0},
    {POST "Content-Length: 00005\r\n\r\nhello", "200", "POST /echo [Content-Length: 5] hello", 0},
    {POST "Content-Length:   5  \r\n\r\nhello", "200", "POST /echo [Content-Length: 5] hello", 0},
    {POST "Content-Length: 5\t\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: 5, 5\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: 5,\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: +5\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: -0\r\n\r\n" NEXT, "400-", "", 0},
    {POST "Content-Length: 0x5\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: 5 0\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: 5.0\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: 1e1\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: \"5\"\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: \xd9\xa5\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length:\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: 18446744073709551621\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: 999999999999999999\r\n\r\nhello" NEXT, "413-", "", 0},
    {POST "Content-Length : 5\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length\t: 5\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "Content-Length: 5\x0b\r\n\r\nhello" NEXT, "400-", "", 0},
    {POST "\x0b"
          "Content-Length: 5\r\n\r\nhello" NEXT,
     "400-", "", 0},
    {POST "Content_Length: 5\r\n\r\n" NEXT, "200 200", "POST /echo \nGET /next ", 0},
    {POST "Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello" NEXT, "200 200",
     "POST /echo [Content-Length: 5] hello\nGET /next ", 0},
    /* A body where none is usual is still the body. */
    {"GET /echo HTTP/1.1\r\n" TO "Content-Length: 44\r\n\r\n" NEXT NEXT, "200 200",
     "GET /echo [Content-Length: 44] " NEXT "\nGET /next ", 0},
    {"GET /x HTTP/1.0\r\n" TO "Content-Length: 2\r\nConnection: keep-alive\r\n\r\nhi" NEXT, "200 200",
     "GET /x [Content-Length: 2] hi\nGET /next ", 0},
};

static const struct smuggling_case coding_cases[] = {
    {POST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" NEXT, "200 200",
     "POST /echo [Transfer-Encoding: chunked] hello\nGET /next ", 0},
    {POST "Transfer-Encoding: ChunKed\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200",
     "POST /echo [Transfer-Encoding: chunked] hello", 0},
    {POST "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200",
     "POST /echo [Transfer-Encoding: chunked] hello", 0},
    {POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" NEXT, "501-", "", 0},
    {POST "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" NEXT, "501-", "", 0},
    {POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" NEXT, "501-", "", 0},
    {POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" NEXT, "501-", "", 0},
    {POST "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n" NEXT, "501-", "", 0},
    {POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n" NEXT, "501-", "", 0},
    {POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" NEXT, "501-", "", 0},
    {POST "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n0\r\n\r\n" NEXT,
     "501-", "", 0},
    {POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, "501-", "", 0},
    {POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n" NEXT, "501-", "", 0},
    {POST "Transfer-Encoding:\r\n\r\n0\r\n\r\n" NEXT, "501-", "", 0},
    {POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {POST "Transfer-Encoding\r\n: chunked\r\n\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {POST "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {POST "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {POST "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {POST "Transfer-Encoding: chunked\nX: y\r\n\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {POST "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" NEXT, "200 200",
     "POST /echo [Content-Length: 5] 0\r\n\r\n\nGET /next ", 0},
    {"POST /echo HTTP/1.0\r\n" TO "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, "400-", "", 0},
};

#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static const struct smuggling_case chunk_cases[] = {
    {CHUNKED "5;a=b\r\nhello\r\n0;c\r\n\r\n" NEXT, "200 200",
     "POST /echo [Transfer-Encoding: chunked] hello\nGET /next ", 0},
    {CHUNKED "00000000000000000000005\r\nhello\r\n0\r\n\r\n", "200",
     "POST /echo [Transfer-Encoding: chunked] hello", 0},
    {CHUNKED "5\r\nhello\r\n0\r\nContent-Length: 9\r\nX-Evil: 1\r\n\r\n" NEXT, "200 200",
     "POST /echo [Transfer-Encoding: chunked] hello\nGET /next ", 0},
    {CHUNKED "5\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "5;\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "5\rhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "5;a\rb\r\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "0x5\r\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "+5\r\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "-5\r\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED " 5\r\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "5_0\r\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "\r\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "100000000000000005\r\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "ffffffffffffffff\r\nhello\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "5\r\nhelloworld\r\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "5\r\nhello\n0\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "0\r\n\n" NEXT, "400-", "", 0},
    {CHUNKED "0\r\nX : y\r\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "0\r\nX: y\n\r\n" NEXT, "400-", "", 0},
    {CHUNKED "0\r\n" NEXT, "400-", "", 0}, /* its first line is no trailer */
};

static const struct smuggling_case head_cases[] = {
    {"GET /x HTTP/1.1\r\n\r\n" NEXT, "400-", "", 0},
    {"GET /x HTTP/1.1\r\nHost:\r\n\r\n" NEXT, "400-", "", 0},
    {"GET /x HTTP/1.1\r\nHost : f.shop.fn.test\r\n\r\n" NEXT, "400-", "", 0},
    {"GET /x HTTP/1.1\r\n Host: f.shop.fn.test\r\n\r\n" NEXT, "400-", "", 0},
    {GET "Host: f.shop.fn.test\r\n\r\n" NEXT, "400-", "", 0},
    {GET "Host: other.test\r\n\r\n" NEXT, "400-", "", 0},
    {"GET /x HTTP/1.1\r\nHost: f.shop.fn.test, other.test\r\n\r\n" NEXT, "400-", "", 0},
    {"GET /x HTTP/1.1\r\nHost: other.test@f.shop.fn.test\r\n\r\n" NEXT, "400-", "", 0},
    {"GET /x HTTP/1.1\r\nHost: f.shop.fn.test/x\r\n\r\n" NEXT, "400-", "", 0},
    {GET "Connection: Host\r\n\r\n", "200", "GET /x ", 0},
    /* line ends */
    {"GET /x HTTP/1.1\n" TO "\r\n" NEXT, "400-", "", 0},
    {"GET /x HTTP/1.1\r\nHost: f.shop.fn.test\n\r\n" NEXT, "400-", "", 0},
    {GET "\n" NEXT, "400-", "", 0},
    {"\n" GET "\r\n", "400-", "", 0},
    {"GET /x HTTP/1.1\r\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {GET "A: b\r\r\n\r\n" NEXT, "400-", "", 0},
    {GET "A: b\rc\r\n\r\n" NEXT, "400-", "", 0},
    {GET "\r\r\n" NEXT, "400-", "", 0},
    {GET "A: b\r\n c: d\r\n\r\n" NEXT, "400-", "", 0},
    {GET "A: b\r\n\t\r\n\r\n" NEXT, "400-", "", 0},
    {GET "\r\n\r\n" NEXT, "200 200", "GET /x \nGET /next ",
     0}, /* an empty line before a request is nothing */
    /* control characters */
    {WITH_NUL(GET "A: b\0c\r\n\r\n" NEXT)},
    {WITH_NUL(GET "A\0: b\r\n\r\n" NEXT)},
    {WITH_NUL("GET /x\0y HTTP/1.1\r\n" TO "\r\n" NEXT)},
    {WITH_NUL("GET /x HTTP/1.1\r\nHost: f.shop.fn.test\0.other\r\n\r\n" NEXT)},
    {"\0" GET "\r\n", "501-", "", sizeof("\0" GET "\r\n") - 1},
    {GET "A: b\x01"
         "c\r\n\r\n" NEXT,
     "400-", "", 0},
    {GET "A: b\x7f\r\n\r\n" NEXT, "400-", "", 0},
    {GET "A: b\x0c\r\n\r\n" NEXT, "400-", "", 0},
    {GET "Connection: a\x01\r\n\r\n" NEXT, "400-", "", 0},
    {GET "Connection: close\x01\r\n\r\n" NEXT, "400-", "", 0},
    {GET "Connection: keep-alive,\x01\r\n\r\n" NEXT, "400-", "", 0},
    {GET "Upgrade: a\x01\r\n\r\n" NEXT, "400-", "", 0},
    {"GET /\x01 HTTP/1.1\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {"GET /x\x0bHTTP/1.1\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {"GET\t/x\tHTTP/1.1\r\n" TO "\r\n" NEXT, "501-", "", 0},
    /* names */
    {GET "A b: c\r\n\r\n" NEXT, "400-", "", 0},
    {GET "A\x80: c\r\n\r\n" NEXT, "400-", "", 0},
    {GET ": c\r\n\r\n" NEXT, "400-", "", 0},
    {GET "no colon\r\n\r\n" NEXT, "400-", "", 0},
    /* targets */
    {"GET http://f.shop.fn.test/abs HTTP/1.1\r\nHost: other.test\r\n\r\n" NEXT, "200 200",
     "GET /abs \nGET /next ", 0},
    {"GET http://other.test/abs HTTP/1.1\r\n" TO "\r\n" NEXT, "404 200", "GET /next ", 0},
    {"GET http://f.shop.fn.test HTTP/1.1\r\n" TO "\r\n", "200", "GET / ", 0},
    {"GET http://f.shop.fn.test?q HTTP/1.1\r\n" TO "\r\n", "200", "GET /?q ", 0},
    {"GET http://x@f.shop.fn.test/ HTTP/1.1\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {"GET http:///x HTTP/1.1\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {"GET http:/x HTTP/1.1\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {"GET ftp://f.shop.fn.test/x HTTP/1.1\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {"GET f.shop.fn.test:80 HTTP/1.1\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {"OPTIONS * HTTP/1.1\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {"CONNECT f.shop.fn.test:80 HTTP/1.1\r\n" TO "\r\n" NEXT, "501-", "", 0},
    {"GET /a\\..\\b HTTP/1.1\r\n" TO "\r\n", "200", "GET /a\\..\\b ", 0},
    {"GET /x#y HTTP/1.1\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {"GET  /x HTTP/1.1\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {"GET /x  HTTP/1.1\r\n" TO "\r\n" NEXT, "400-", "", 0},
    {"GET /x HTTP/1.1 \r\n" TO "\r\n" NEXT, "505-", "", 0},
    {"GET /x HTTP/1.1 x\r\n" TO "\r\n" NEXT, "505-", "", 0},
    {"GET /x\r\n" TO "\r\n" NEXT, "505-", "", 0},
    {"GET /x HTTP/01.1\r\n" TO "\r\n" NEXT, "505-", "", 0},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "501-", "", 0},
};

static const struct smuggling_case sequence_cases[] = {
    {GET "Connection: close\r\n\r\n" NEXT, "200-", "GET /x ", 0},
    {GET "Connection: keep-alive, close\r\n\r\n" NEXT, "200-", "GET /x ", 0},
    {"GET /x HTTP/1.0\r\n" TO "\r\n" NEXT, "200-", "GET /x ", 0},
    {GET "\r\nSMUGGLED\r\n\r\n" NEXT, "200 501-", "GET /x ", 0},
    {POST "Content-Length: 3\r\n\r\nhello" NEXT, "200 501-", "POST /echo [Content-Length: 3] hel", 0},
    {POST "Content-Length: 1001\r\n\r\n" NEXT, "413-", "", 0},
    {POST "Content-Length: 5\r\nExpect: wonders\r\n\r\n" NEXT, "417 501-", "", 0},
    {GET "Expect: wonders\r\n\r\n" NEXT, "417 200", "GET /next ", 0},
    {POST "Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello" NEXT, "200 200",
     "POST /echo [Content-Length: 5] hello\nGET /next ", 0},
    {"GET /x HTTP/1.1\r\nHost: nobody.test\r\n\r\n" NEXT, "404 200", "GET /next ", 0},
    {"POST /x HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 5\r\n\r\nhello" NEXT, "404 200", "GET /next ",
     0},
    {"POST /x HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 500\r\n\r\nhello" NEXT, "404-", "", 0},
    {NEXT "GET /x HTTP/1.1\r\nHost : a\r\n\r\n" NEXT, "200 400-", "GET /next ", 0},
};

static void run_case(struct test_world *world, const struct smuggling_case *one)
{
    struct test_client client;
    CLEANUP_STRBUF struct strbuf statuses;
    strbuf_init(&statuses, 4096);
    test_client_open(&client, world->test.port);
    assert_true(test_client_try_send(&client, one->text, one->len > 0 ? one->len : strlen(one->text)));
    bool closed = false;
    for (const char *at = one->statuses; at && !closed; at = strchr(at + 1, ' ')) {
        struct test_answer answer;
        test_client_read(&client, &answer, false);
        strbuf_appendf(&statuses, "%s%d", statuses.len > 0 ? " " : "", answer.status);
        closed = answer.closed;
        test_answer_release(&answer);
    }
    if (closed && test_client_ended(&client, TEST_WAIT_MS)) {
        strbuf_append_char(&statuses, '-');
    } else if (test_client_readable(&client, 2)) {
        strbuf_append_str(&statuses, " and more");
    }
    test_client_close(&client);
    test_wait_until(test_world_nothing_going_on, world, "all of it over");
    CLEANUP_FREE char *heard = test_upstream_heard(world->upstream);
    if (strcmp(statuses.buf, one->statuses) != 0 || strcmp(heard, one->heard) != 0) {
        fail_msg("%s\nanswered %s, expected %s\nthe pod heard:\n%s\nexpected:\n%s", one->text, statuses.buf,
                 one->statuses, heard, one->heard);
    }
}

static void run_cases(const struct smuggling_case *cases, size_t count)
{
    struct test_world world;
    test_world_start(&world, "\"limits\":{\"bodyBytes\":1000},\"http\":{}");
    test_upstream_record(world.upstream);
    for (size_t i = 0; i < count; i++) {
        run_case(&world, &cases[i]);
    }
    test_world_stop(&world);
}

static void test_lengths(void **state)
{
    (void)state;
    run_cases(length_cases, ARRAY_SIZE(length_cases));
}

static void test_codings(void **state)
{
    (void)state;
    run_cases(coding_cases, ARRAY_SIZE(coding_cases));
}

static void test_chunks(void **state)
{
    (void)state;
    run_cases(chunk_cases, ARRAY_SIZE(chunk_cases));
}

static void test_heads(void **state)
{
    (void)state;
    run_cases(head_cases, ARRAY_SIZE(head_cases));
}

static void test_what_follows(void **state)
{
    (void)state;
    run_cases(sequence_cases, ARRAY_SIZE(sequence_cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths), cmocka_unit_test(test_codings),      cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_heads),   cmocka_unit_test(test_what_follows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
