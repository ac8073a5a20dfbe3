/* What comes to the TLS port and is no TLS, or none that is spoken here: refused, and others are unaffected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>

#include "operator/tests/support_gateway_tls.h"
#include "operator/tests/support_gateway_world.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define OWN_NAME   "f.shop.fn.test"
#define IDLE_COUNT 2000
#define KEPT_COUNT 1000
#define KEPT_KB    40 /* at most, of one */

static void start(struct test_tls_scene *scene)
{
    test_tls_scene_start(scene, "\"http\":{\"hosts\":[\"shop.example.com\"],\"tlsSecretName\":\"s\"}", 1,
                         OWN_NAME);
}

static void expect_service(struct test_tls_scene *scene)
{
    struct test_client client;
    test_tls_open(&client, scene->world.test.tls_port, scene->context, OWN_NAME);
    test_client_send(&client, TEST_REQUEST("GET", "/echo"));
    test_expect_answer(&client, 200, NULL);
    test_client_close(&client);
}

static void test_http_in_clear_is_told(void **state)
{
    (void)state;
    struct test_tls_scene scene;
    start(&scene);
    static const char *const requests[] = {TEST_REQUEST("GET", "/x"), "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
                                           "HEAD / HTTP/1.0\r\n\r\n"};
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        struct test_client client;
        struct test_answer answer;
        char value[512];
        test_client_open(&client, scene.world.test.tls_port);
        test_client_send(&client, requests[i]);
        test_client_read(&client, &answer, false); /* nobody has looked at the method */
        assert_int_equal(answer.status, 400);
        assert_string_equal(test_answer_header(&answer, "Connection", value), "close");
        assert_true(test_answer_has(&answer, "plain_http"));
        test_answer_release(&answer);
        assert_true(test_client_ended(&client, 5000));
        test_client_close(&client);
        expect_service(&scene);
    }
    test_tls_scene_stop(&scene);
}

/* Each ends the connection, at once or with the client's own end, with an alert at most before it. */
static void test_bytes_that_are_no_hello(void **state)
{
    (void)state;
    struct test_tls_scene scene;
    start(&scene);
    static const struct {
        const char *bytes;
        size_t len;
        bool waits; /* for more: the client goes first */
    } cases[] = {
        {"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 16, false},
        {"\x16\x03\x01\xff\xff\x01\x00\xff\xfb\x03\x03", 11, false}, /* longer than a record may be */
        {"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", 10, false},     /* a hello of one byte */
        {"\x17\x03\x03\x00\x05hello", 10, false},                    /* data before any handshake */
        {"\x15\x03\x01\x00\x02\x02\x28", 7, false},                  /* an alert */
        {"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00", 16, false}, /* SSL 2 */
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11, true}, /* the beginning of a hello */
        {"\x16", 1, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct test_client client;
        char rest[512];
        test_client_open(&client, scene.world.test.tls_port);
        assert_true(test_client_try_send(&client, cases[i].bytes, cases[i].len));
        if (cases[i].waits) {
            assert_false(test_client_readable(&client, 50));
            expect_service(&scene);
            shutdown(client.fd, SHUT_WR);
        }
        ssize_t got;
        size_t total = 0;
        while ((got = test_client_receive(&client, rest, sizeof(rest))) > 0) {
            assert_int_equal(total == 0 ? rest[0] : 0x15, 0x15); /* an alert, not an answer */
            total += (size_t)got;
        }
        assert_true(total <= 64);
        test_client_close(&client);
        expect_service(&scene);
    }
    test_tls_scene_stop(&scene);
}

static void expect_alert(struct test_tls_scene *scene, SSL_CTX *context, int expected)
{
    struct test_client client;
    int alert = 0;
    assert_false(test_tls_try_open(&client, scene->world.test.tls_port, context, OWN_NAME, &alert));
    assert_int_equal(alert, expected);
    test_client_close(&client);
    SSL_CTX_free(context);
    expect_service(scene);
}

static void test_other_versions_and_protocols(void **state)
{
    (void)state;
    struct test_tls_scene scene;
    start(&scene);
    SSL_CTX *old = test_tls_context(&scene.authority);
    SSL_CTX_set_security_level(old, 0);
    assert_int_equal(SSL_CTX_set_min_proto_version(old, TLS1_VERSION), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(old, TLS1_1_VERSION), 1);
    expect_alert(&scene, old, SSL_AD_PROTOCOL_VERSION);
    SSL_CTX *h2 = test_tls_context(&scene.authority);
    assert_int_equal(SSL_CTX_set_alpn_protos(h2, (const unsigned char *)"\x02h2", 3), 0);
    expect_alert(&scene, h2, SSL_AD_NO_APPLICATION_PROTOCOL);
    test_tls_scene_stop(&scene);
}

/* Half a handshake each, and nothing more: others are served as before. */
static void test_many_that_do_not_go_on(void **state)
{
    (void)state;
    struct test_tls_scene scene;
    struct test_client *idle = xcalloc(IDLE_COUNT, sizeof(*idle));
    start(&scene);
    for (int i = 0; i < IDLE_COUNT; i++) {
        test_client_open(&idle[i], scene.world.test.tls_port);
        assert_true(test_client_try_send(&idle[i], "\x16\x03\x01\x02", 4));
    }
    for (int i = 0; i < 20; i++) {
        int64_t start_ms = clock_monotonic_ms();
        expect_service(&scene);
        assert_true(test_elapsed_ms(start_ms) < 2000);
    }
    for (int i = 0; i < IDLE_COUNT; i++) {
        test_client_close(&idle[i]);
    }
    free(idle);
    test_tls_scene_stop(&scene);
}

/* Between two requests a connection holds its session and no buffer. */
static void test_kept_connections_are_small(void **state)
{
    (void)state;
    struct test_tls_scene scene;
    struct test_client *kept = xcalloc(KEPT_COUNT, sizeof(*kept));
    start(&scene);
    expect_service(&scene);
    long before_kb = test_memory_kb();
    for (int i = 0; i < KEPT_COUNT; i++) {
        test_tls_open(&kept[i], scene.world.test.tls_port, scene.context, OWN_NAME);
        test_client_send(&kept[i], TEST_REQUEST("GET", "/echo"));
        test_expect_answer(&kept[i], 200, NULL);
        SSL_free(kept[i].ssl); /* the gateway's memory counts, not the client's; nothing is sent */
        kept[i].ssl = NULL;
    }
    long grown_kb = test_memory_kb() - before_kb;
    print_message("%d kept TLS connections: %ld KB\n", KEPT_COUNT, grown_kb);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they keep what was freed for a while */
    assert_true(grown_kb < (long)KEPT_COUNT * KEPT_KB);
#endif
    for (int i = 0; i < KEPT_COUNT; i++) {
        test_client_close(&kept[i]);
    }
    free(kept);
    test_tls_scene_stop(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_in_clear_is_told),        cmocka_unit_test(test_bytes_that_are_no_hello),
        cmocka_unit_test(test_other_versions_and_protocols), cmocka_unit_test(test_many_that_do_not_go_on),
        cmocka_unit_test(test_kept_connections_are_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
