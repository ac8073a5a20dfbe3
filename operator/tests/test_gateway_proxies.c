/* Proxies before the gateway: whose word on the client is passed on, and whose is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "operator/gateway/address_range.h"
#include "operator/tests/support_gateway_world.h"
#include "runtime/base/mem.h"

#define START "GET /head HTTP/1.1\r\nHost: f.shop.fn.test\r\n"
#define TOLD                                                                                                 \
    "X-Forwarded-For: 203.0.113.9, 198.51.100.1\r\nX-Forwarded-For: 192.0.2.4\r\n"                           \
    "X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example.com\r\n"                                     \
    "Forwarded: for=203.0.113.9;proto=https\r\nX-Forwarded-Prefix: /mine\r\nX-Cicada-Anything: x\r\n"

/* The pod hears each of these lines once, and no other that says whence the request comes. */
static void expect_heard(const char *trusted, const char *headers, const char *const *lines)
{
    struct test_world world;
    struct test_answer answer;
    size_t found = 0, expected = 0;
    test_world_start_with(&world, "\"http\":{}",
                          &(struct gateway_settings){.loops = 1, .trusted_proxies = trusted});
    CLEANUP_FREE char *request = xasprintf(START "%s\r\n", headers);
    test_call(world.test.port, request, 200, &answer);
    for (; lines[expected]; expected++) {
        if (!test_answer_has(&answer, lines[expected])) {
            fail_msg("the pod did not hear <%s> but\n%s", lines[expected], answer.body.buf);
        }
    }
    for (const char *at = answer.body.buf; (at = strcasestr(at, "forwarded")) != NULL; at++) {
        const char *line = at;
        while (line > answer.body.buf && line[-1] != '\n') {
            line--;
        }
        bool is_name = strncasecmp(line, "forwarded:", 10) == 0 || strncasecmp(line, "x-forwarded-", 12) == 0;
        found += is_name && memchr(line, ':', (size_t)(at - line)) == NULL;
    }
    assert_int_equal(found, expected);
    assert_null(strcasestr(answer.body.buf, "x-cicada-anything"));
    test_answer_release(&answer);
    test_world_stop(&world);
}

static void test_a_client_is_not_believed(void **state)
{
    (void)state;
    static const char *const own[] = {"X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: http\r\n",
                                      "X-Forwarded-Host: f.shop.fn.test\r\n", NULL};
    expect_heard(NULL, TOLD, own);
    expect_heard("10.0.0.0/8, 192.168.1.1", TOLD, own); /* others are trusted */
    expect_heard(NULL, "", own);
}

static void test_a_trusted_proxy_is_believed(void **state)
{
    (void)state;
    static const char *const chain[] = {
        "X-Forwarded-For: 203.0.113.9, 198.51.100.1, 192.0.2.4, 127.0.0.1\r\n",
        "X-Forwarded-Proto: https\r\n", "X-Forwarded-Host: shop.example.com\r\n",
        "Forwarded: for=203.0.113.9;proto=https, for=127.0.0.1\r\n", NULL};
    static const char *const own[] = {"X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: http\r\n",
                                      "X-Forwarded-Host: f.shop.fn.test\r\n", NULL};
    expect_heard("10.0.0.0/8, 127.0.0.0/8", TOLD, chain);
    expect_heard("127.0.0.1", TOLD, chain);
    expect_heard("127.0.0.1", "", own); /* it says nothing: as it is seen here */
}

/* What Connection lists is for this hop alone, whoever sends it: a client must not take a proxy's word away. */
static void test_a_listed_header_of_a_proxy(void **state)
{
    (void)state;
    static const char *const chain[] = {"X-Forwarded-For: 203.0.113.9, 127.0.0.1\r\n",
                                        "X-Forwarded-Proto: https\r\n",
                                        "X-Forwarded-Host: f.shop.fn.test\r\n", NULL};
    expect_heard(
        "127.0.0.1",
        "Connection: X-Forwarded-For\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n", chain);
}

static void test_ranges(void **state)
{
    (void)state;
    struct address_range ranges[ADDRESS_RANGES_MAX];
    size_t count;
    struct err err = ERR_INIT;
    static const struct {
        const char *ranges, *address;
        bool has;
    } cases[] = {
        {"10.0.0.0/8", "10.255.0.1", true},
        {"10.0.0.0/8", "11.0.0.1", false},
        {"10.1.2.3", "10.1.2.3", true},
        {"10.1.2.3", "10.1.2.4", false},
        {"0.0.0.0/0", "203.0.113.1", true},
        {"", "10.1.2.3", false},
        {" 10.1.2.3/32 , 10.2.0.0/16 ", "10.2.9.9", true},
        {"10.1.2.3/31", "10.1.2.2", true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct in_addr address;
        assert_int_equal(inet_pton(AF_INET, cases[i].address, &address), 1);
        assert_int_equal(address_ranges_parse(cases[i].ranges, ranges, &count, &err), 0);
        assert_int_equal(address_ranges_have(ranges, count, address), cases[i].has);
    }
    static const char *const wrong[] = {"10.0.0.0/33",
                                        "10.0.0.0/-1",
                                        "10.0.0",
                                        "fd00::/8",
                                        "10.0.0.0/8,,",
                                        "proxy.example.com",
                                        "10.0.0.0/8 10.1.0.0/16",
                                        "10.0.0.0/"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        if (address_ranges_parse(wrong[i], ranges, &count, &err) == 0) {
            fail_msg("<%s> is taken for ranges", wrong[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_client_is_not_believed),
        cmocka_unit_test(test_a_trusted_proxy_is_believed),
        cmocka_unit_test(test_a_listed_header_of_a_proxy),
        cmocka_unit_test(test_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
