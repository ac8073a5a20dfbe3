/* Answers of pods that break the rules: what the client gets, and that the next request on that connection gets its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>

#include "operator/gateway/h1_head.h"
#include "operator/tests/support_gateway_world.h"
#include "runtime/base/mem.h"

#define OK "HTTP/1.1 200 OK\r\n"

struct hostile_case {
    const char *raw;
    int status;       /* of what the client gets */
    const char *body; /* all of it; of a 502: a piece. NULL: the answer is cut */
    bool kept;        /* the connection to the pod */
    const char *request;
};

#define RAW        TEST_REQUEST("GET", "/raw")
#define RAW_HEAD   TEST_REQUEST("HEAD", "/raw")
#define RAW_CLOSE  TEST_REQUEST("GET", "/raw/close")
#define RAW_RESET  TEST_REQUEST("GET", "/raw/reset")
#define RAW_LATE   TEST_REQUEST("GET", "/raw/late")
#define MALFORMED  502, "malformed_answer", false, RAW
#define SMUGGLED   OK "Content-Length: 6\r\n\r\nsecret"
#define INTERIM    "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
#define INTERIM_8  INTERIM INTERIM INTERIM INTERIM INTERIM INTERIM INTERIM INTERIM
#define INTERIM_16 INTERIM_8 INTERIM_8

static const struct hostile_case cases[] = {
    /* lengths */
    {OK "Content-Length: 2\r\n\r\nok", 200, "ok", true, RAW},
    {OK "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED},
    {OK "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", MALFORMED},
    {OK "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", MALFORMED},
    {OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", MALFORMED},
    {OK "Content-Length: 2, 2\r\n\r\nok", MALFORMED},
    {OK "Content-Length: +2\r\n\r\nok", MALFORMED},
    {OK "Content-Length: 0x2\r\n\r\nok", MALFORMED},
    {OK "Content-Length: \r\n\r\nok", MALFORMED},
    {OK "Content-Length: 99999999999999999999\r\n\r\nok", MALFORMED},
    {OK "Content-Length : 2\r\n\r\nok", MALFORMED},
    {OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", MALFORMED},
    {OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED},
    {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED},
    /* heads */
    {"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", MALFORMED},
    {OK "A: b\r\n c\r\nContent-Length: 2\r\n\r\nok", MALFORMED},
    {OK "A: b\rc\r\nContent-Length: 2\r\n\r\nok", MALFORMED},
    {OK "A: b\x01\r\nContent-Length: 2\r\n\r\nok", MALFORMED},
    {OK "no colon\r\n\r\n", MALFORMED},
    {"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", MALFORMED},
    {"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", MALFORMED},
    {"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", MALFORMED},
    {"HTTP/1.1 000 No\r\n\r\n", MALFORMED},
    {"SSH-2.0-x\r\n", 502, "upstream_closed", false, RAW_CLOSE},
    {"", 502, "upstream_closed", false, RAW_CLOSE},
    {"", 502, "upstream_closed", false, RAW_RESET},
    {"HTTP/1.1 200 OK\r\nContent-", 502, "upstream_closed", false, RAW_CLOSE},
    {"HTTP/1.1 200 OK\r\nContent-", 502, "upstream_closed", false, RAW_RESET},
    /* interim answers */
    {INTERIM_16 OK "Content-Length: 2\r\n\r\nok", 200, "ok", true, RAW},
    {INTERIM_16 INTERIM OK "Content-Length: 2\r\n\r\nok", MALFORMED},
    {"HTTP/1.1 103 Early\r\nContent-Length: 2\r\n\r\nok" OK "Content-Length: 2\r\n\r\nok", MALFORMED},
    {"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" OK "\r\n", MALFORMED},
    {"HTTP/1.1 100 Continue\r\n\r\n", 502, "upstream_closed", false, RAW_CLOSE},
    /* bodies where there are none */
    {"HTTP/1.1 204 No Content\r\n\r\n", 204, "", true, RAW},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", 204, "", false, RAW},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", 204, "", false, RAW},
    {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, "", false, RAW},
    {"HTTP/1.1 204 No Content\r\n\r\n" SMUGGLED, 204, "", false, RAW},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", 304, "", true, RAW},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", 304, "", false, RAW},
    {OK "Content-Length: 2\r\n\r\n", 200, "", true, RAW_HEAD},
    {OK "Content-Length: 2\r\n\r\nok", 200, "", false, RAW_HEAD},
    {OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "", false, RAW_HEAD},
    /* bytes after the end */
    {OK "Content-Length: 2\r\n\r\nok" SMUGGLED, 200, "ok", false, RAW},
    {OK "Content-Length: 0\r\n\r\n" SMUGGLED, 200, "", false, RAW},
    {OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" SMUGGLED, 200, "ok", false, RAW},
    {OK "Content-Length: 2\r\n\r\nok", 200, "ok", false, RAW_LATE},
    /* ends */
    {OK "Content-Length: 2\r\n\r\nok", 200, "ok", false, RAW_RESET},
    {OK "Content-Length: 5\r\n\r\nok", 200, NULL, false, RAW_RESET},
    {OK "Content-Length: 5\r\n\r\nok", 200, NULL, false, RAW_CLOSE},
    {OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", 200, NULL, false, RAW_CLOSE},
    {OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", 200, NULL, false, RAW_CLOSE},
    {OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: y\r\n\r\n", 200, "ok", true, RAW},
    {OK "\r\nok", 200, "ok", false, RAW_CLOSE},
    {OK "\r\nok", 200, NULL, false, RAW_RESET},
};

static void run_case(struct test_world *world, const struct hostile_case *one)
{
    struct test_client client;
    struct test_answer answer;
    char value[512];
    test_call_status(world->test.port, TEST_REQUEST("GET", "/x"), 200); /* one connection is there */
    int before = test_upstream_connections(world->upstream);
    test_upstream_set_raw(world->upstream, one->raw);
    test_client_open(&client, world->test.port);
    test_client_send(&client, one->request);
    bool head_only = one->request[0] == 'H';
    bool complete = test_client_try_read(&client, &answer, head_only);
    bool same = answer.status == one->status && complete == (one->body != NULL);
    if (same && one->body) {
        same = one->status == 502 ? test_answer_has(&answer, one->body)
                                  : strcmp(answer.body.buf, one->body) == 0;
    }
    if (!same || test_answer_header(&answer, "X-Trailer", value)[0]) {
        fail_msg("%s\nanswered: %s%s", one->raw, answer.head.buf, answer.body.buf);
    }
    test_answer_release(&answer);
    test_client_close(&client);
    test_wait_until(test_world_nothing_going_on, world, "slot given back");
    if (one->kept !=
        (test_upstream_connections(world->upstream) == before && test_upstream_open(world->upstream) == 1)) {
        (void)poll(NULL, 0, 100); /* for what comes late, and for the kernel to tell */
    }
    test_call(world->test.port, TEST_REQUEST("GET", "/x"), 200, &answer);
    assert_string_equal(answer.body.buf, "ok"); /* its own answer */
    test_answer_release(&answer);
    if (one->kept != (test_upstream_connections(world->upstream) == before)) {
        fail_msg("%s\nkept: %d", one->raw, !one->kept);
    }
}

static void test_answers_that_break_the_rules(void **state)
{
    (void)state;
    struct test_world world;
    test_world_start_with(&world, "\"http\":{}", &(struct gateway_settings){.loops = 1});
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        run_case(&world, &cases[i]);
    }
    test_world_stop(&world);
}

static char *repeated(const char *start, const char *line, int count, const char *end)
{
    struct strbuf out;
    strbuf_init(&out, 1 << 20);
    strbuf_append_str(&out, start);
    for (int i = 0; i < count; i++) {
        strbuf_append_str(&out, line);
    }
    strbuf_append_str(&out, end);
    return strbuf_detach(&out, NULL);
}

static void test_heads_without_end(void **state)
{
    (void)state;
    static const char end[] = "Content-Length: 2\r\n\r\nok";
    static const char long_line[] =
        "X-Long: "
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123"
        "4567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123"
        "45678"
        "9\r\n";
    const struct {
        char *raw;
        int status;
    } heads[] = {
        {repeated(OK, "A: b\r\n", H1_RESPONSE_HEADERS_MAX - 1, end), 200},
        {repeated(OK, "A: b\r\n", H1_RESPONSE_HEADERS_MAX, end), 502},
        {repeated(OK, long_line, 120, end), 200},
        {repeated(OK, long_line, 127, ""), 502}, /* never ends: cut by its size, or by time */
        {repeated(OK "X: ", "0123456789", 4000, "\r\n\r\n"), 502},
    };
    struct test_world world;
    test_world_start(&world, "\"timeoutSeconds\":1,\"http\":{}");
    for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
        struct test_answer answer;
        test_upstream_set_raw(world.upstream, heads[i].raw);
        struct test_client client;
        test_client_open(&client, world.test.port);
        test_client_send(&client, RAW);
        test_client_read(&client, &answer, false);
        if (answer.status != heads[i].status && !(i == 3 && answer.status == 504)) {
            fail_msg("head %zu: %d", i, answer.status);
        }
        test_answer_release(&answer);
        test_client_close(&client);
        free(heads[i].raw);
    }
    test_call_status(world.test.port, TEST_REQUEST("GET", "/x"), 200);
    test_world_stop(&world);
}

/* A pod that answers while the body is still coming, and reads on: the client gets the answer, and neither connection is used
 * again. */
static void test_an_answer_before_the_body(void **state)
{
    (void)state;
    struct test_world world;
    struct test_client client;
    struct test_answer answer;
    test_world_start_with(&world, "\"http\":{}", &(struct gateway_settings){.loops = 1});
    test_client_open(&client, world.test.port);
    test_client_send(&client,
                     "POST /early HTTP/1.1\r\nHost: f.shop.fn.test\r\nContent-Length: 10\r\n\r\nhalf");
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 413);
    assert_true(answer.closed);
    test_answer_release(&answer);
    test_client_send(&client, "rest..");
    assert_true(test_client_ended(&client, TEST_WAIT_MS));
    test_client_close(&client);
    test_call_status(world.test.port, TEST_REQUEST("GET", "/x"), 200);
    assert_int_equal(test_upstream_connections(world.upstream), 2);
    test_world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_that_break_the_rules),
        cmocka_unit_test(test_heads_without_end),
        cmocka_unit_test(test_an_answer_before_the_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
