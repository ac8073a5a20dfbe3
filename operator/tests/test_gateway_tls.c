/* TLS at the gateway: which certificate a name gets, renewal, both directions of bodies, ends, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "operator/gateway/certificates.h"
#include "operator/tests/support_gateway_tls.h"
#include "operator/tests/support_gateway_world.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define OWN_NAME "f.shop.fn.test"

struct world {
    struct test_gateway test;
    struct test_upstream *upstream;
    struct test_authority authority;
    SSL_CTX *context;
};

static void start_with(struct world *world, const struct gateway_settings *settings)
{
    world->upstream = test_upstream_new();
    test_gateway_start(&world->test, settings);
    test_gateway_function(&world->test, "shop", "f",
                          "\"limits\":{\"bodyBytes\":1073741824},\"http\":{\"hosts\":[\"shop.example.com\","
                          "\"*.shop.example.com\"],"
                          "\"tlsSecretName\":\"shop-tls\"}");
    struct sockaddr_in address = test_upstream_address(world->upstream);
    test_gateway_pod(&world->test, "f-1", "uid-1", &address, GATEWAY_POD_READY, NULL);
    gateway_catalog_synced(world->test.gateway);
    test_authority_init(&world->authority);
    world->context = test_tls_context(&world->authority);
    test_gateway_certificate(&world->test, &world->authority, "shop", "shop-tls",
                             OWN_NAME ",shop.example.com,*.shop.example.com", 1);
}

static void start(struct world *world)
{
    start_with(world, &(struct gateway_settings){.loops = 2, .tls_listen = "127.0.0.1:0"});
}

static void stop(struct world *world)
{
    SSL_CTX_free(world->context);
    test_authority_release(&world->authority);
    test_gateway_stop(&world->test);
    test_upstream_free(world->upstream);
}

static void open_own(struct world *world, struct test_client *client)
{
    test_tls_open(client, world->test.tls_port, world->context, OWN_NAME);
}

/* ---- requests ---- */

static void test_requests_over_one_connection(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    struct test_answer answer;
    start(&world);
    open_own(&world, &client);
    const unsigned char *protocol;
    unsigned protocol_len;
    SSL_get0_alpn_selected(client.ssl, &protocol, &protocol_len);
    assert_int_equal(protocol_len, 8);
    assert_memory_equal(protocol, "http/1.1", 8);
    for (int i = 0; i < 20; i++) {
        test_client_send(&client, TEST_REQUEST("GET", "/head"));
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, 200);
        assert_true(test_answer_has(&answer, "x-forwarded-proto: https\r\n"));
        assert_true(test_answer_has(&answer, "x-forwarded-host: " OWN_NAME "\r\n"));
        test_answer_release(&answer);
    }
    /* In one record, and torn apart. */
    test_client_send(&client, TEST_REQUEST("GET", "/status/201") TEST_REQUEST("GET", "/status/202"));
    for (int status = 201; status <= 202; status++) {
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, status);
        test_answer_release(&answer);
    }
    for (const char *at = TEST_REQUEST("GET", "/echo"); *at; at++) {
        assert_true(test_client_try_send(&client, at, 1));
    }
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    test_client_close(&client);
    assert_int_equal(test_gateway_metric(&world.test, "cicada_gateway_tls_handshakes_total{result=\"full\"}"),
                     1);
    stop(&world);
}

static void test_a_host_that_is_not_the_name(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    struct test_answer answer;
    start(&world);
    test_tls_open(&client, world.test.tls_port, world.context, "a.shop.example.com");
    static const struct {
        const char *host;
        int status;
    } cases[] = {{"a.shop.example.com", 200},
                 {"A.Shop.Example.com.:8443", 200},
                 {"b.shop.example.com", 421},
                 {OWN_NAME, 421},
                 {"x.example.org", 421}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_FREE char *request = xasprintf("GET /echo HTTP/1.1\r\nHost: %s\r\n\r\n", cases[i].host);
        test_client_send(&client, request);
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, cases[i].status);
        assert_true(cases[i].status == 200 || test_answer_has(&answer, "misdirected_request"));
        test_answer_release(&answer);
    }
    test_client_close(&client);
    stop(&world);
}

/* ---- which certificate ---- */

static long serial_for(struct world *world, const char *name)
{
    struct test_client client;
    int alert = 0;
    SSL_CTX *any = SSL_CTX_new(TLS_client_method()); /* the wrong one shall be seen, too */
    long serial = test_tls_try_open(&client, world->test.tls_port, any, name, &alert)
                      ? test_tls_serial(&client)
                      : -alert;
    test_client_close(&client);
    SSL_CTX_free(any);
    return serial;
}

static void add_function(struct world *world, const char *namespace, const char *name, int created_s,
                         const char *hosts, const char *secret)
{
    CLEANUP_FREE char *members =
        xasprintf("\"http\":{\"hosts\":[%s]%s%s%s}", hosts, secret ? ",\"tlsSecretName\":\"" : "",
                  secret ? secret : "", secret ? "\"" : "");
    struct function_spec *spec = test_spec(namespace, name, created_s, members);
    gateway_function_set(world->test.gateway, spec);
    function_spec_unref(spec);
}

static void test_the_owner_of_a_host_decides(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    test_gateway_certificate(&world.test, &world.authority, "shop", "one", "one.example.com", 11);
    test_gateway_certificate(&world.test, &world.authority, "shop", "other", "one.example.com", 12);
    test_gateway_certificate(&world.test, &world.authority, "thief", "mine",
                             "one.example.com,*.shop.example.com", 66);
    add_function(&world, "shop", "plain", 1, "\"one.example.com\"", NULL);
    add_function(&world, "shop", "one", 2, "\"one.example.com\"", "one");
    add_function(&world, "shop", "two", 3, "\"one.example.com\"", "other");
    add_function(&world, "thief", "t", 9, "\"one.example.com\",\"shop.example.com\",\"f.shop.fn.test\"",
                 "mine");
    add_function(&world, "thief", "u", 9, "\"x.shop.example.com\"", "mine");
    add_function(&world, "poor", "p", 9, "\"y.shop.example.com\"", NULL);
    add_function(&world, "shop", "same", 9, "\"z.shop.example.com\"", NULL);
    assert_int_equal(serial_for(&world, "one.example.com"), 11); /* the oldest that names a Secret */
    assert_int_equal(serial_for(&world, "ONE.example.com"), 11);
    assert_int_equal(serial_for(&world, "shop.example.com"), 1);
    assert_int_equal(serial_for(&world, OWN_NAME), 1); /* a name of ours is nobody else's */
    assert_int_equal(serial_for(&world, "a.shop.example.com"), 1);
    assert_int_equal(serial_for(&world, "x.shop.example.com"), 66); /* its own host, beside the wildcard */
    assert_int_equal(serial_for(&world, "y.shop.example.com"), -SSL_AD_UNRECOGNIZED_NAME);
    assert_int_equal(serial_for(&world, "z.shop.example.com"), 1); /* same owner as the wildcard */
    assert_int_equal(serial_for(&world, "a.b.shop.example.com"), -SSL_AD_UNRECOGNIZED_NAME);
    assert_int_equal(serial_for(&world, "unknown.example.org"), -SSL_AD_UNRECOGNIZED_NAME);
    assert_int_equal(serial_for(&world, NULL), -SSL_AD_UNRECOGNIZED_NAME);
    gateway_certificate_remove(world.test.gateway, "shop", "one");
    assert_int_equal(serial_for(&world, "one.example.com"), -SSL_AD_UNRECOGNIZED_NAME);
    test_gateway_wait_metric(&world.test, "cicada_gateway_tls_handshakes_total{result=\"no_name\"}", 1);
    stop(&world);
}

static void expect_refused(struct world *world, const char *chain, const char *key, const char *message)
{
    struct err err = ERR_INIT;
    bool changed = false;
    assert_int_equal(
        gateway_certificate_set(world->test.gateway, "shop", "shop-tls", chain, key, &changed, &err), -1);
    if (!strstr(err.msg, message)) {
        fail_msg("\"%s\" does not say \"%s\"", err.msg, message);
    }
    assert_int_equal(serial_for(world, OWN_NAME), 1);
}

static void test_what_is_broken_replaces_nothing(void **state)
{
    (void)state;
    struct world world;
    struct test_pem good, other, expired;
    struct err err = ERR_INIT;
    bool changed = true;
    start(&world);
    test_authority_issue(&world.authority, OWN_NAME, 10, 2, &good);
    test_authority_issue(&world.authority, OWN_NAME, 10, 3, &other);
    test_authority_issue(&world.authority, OWN_NAME, -1, 4, &expired);
    CLEANUP_FREE char *cut = xstrndup(good.chain, strlen(good.chain) - 200);
    CLEANUP_FREE char *large = xcalloc(1, CERTIFICATE_PEM_BYTES_MAX + 2);
    memset(large, ' ', CERTIFICATE_PEM_BYTES_MAX + 1);
    expect_refused(&world, "", good.key, "no certificate");
    expect_refused(&world, good.key, good.key, "certificate");
    expect_refused(&world, cut, good.key, "malformed");
    expect_refused(&world, good.chain, "", "private key");
    expect_refused(&world, good.chain, "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n",
                   "private key");
    expect_refused(&world, good.chain, other.key, "not the key");
    expect_refused(&world, expired.chain, expired.key, "expired");
    expect_refused(&world, large, good.key, "more than");
    EVP_PKEY *huge = EVP_RSA_gen(CERTIFICATE_KEY_BITS_MAX + 8);
    CLEANUP_FREE char *huge_pem = test_key_pem(huge);
    EVP_PKEY_free(huge);
    expect_refused(&world, good.chain, huge_pem, "bits");
    assert_int_equal(
        gateway_certificate_set(world.test.gateway, "shop", "shop-tls", good.chain, good.key, &changed, &err),
        0);
    assert_true(changed);
    assert_int_equal(serial_for(&world, OWN_NAME), 2);
    assert_int_equal(
        gateway_certificate_set(world.test.gateway, "shop", "shop-tls", good.chain, good.key, &changed, &err),
        0);
    assert_false(changed);
    /* Where there is nothing better an expired one is shown: the client then says what is wrong. */
    gateway_certificate_remove(world.test.gateway, "shop", "shop-tls");
    assert_int_equal(gateway_certificate_set(world.test.gateway, "shop", "shop-tls", expired.chain,
                                             expired.key, &changed, &err),
                     0);
    assert_int_equal(serial_for(&world, OWN_NAME), 4);
    test_pem_release(&good);
    test_pem_release(&other);
    test_pem_release(&expired);
    stop(&world);
}

/* ---- renewal under load ---- */

struct load {
    struct world *world;
    atomic_bool stop;
    atomic_int answers, failed;
};

static void *run_load(void *arg)
{
    struct load *load = arg;
    while (!atomic_load(&load->stop)) {
        struct test_client client;
        int alert;
        bool good =
            test_tls_try_open(&client, load->world->test.tls_port, load->world->context, OWN_NAME, &alert);
        for (int i = 0; good && i < 5; i++) {
            struct test_answer answer;
            good = test_client_try_send(&client, TEST_REQUEST("GET", "/sleep/1"),
                                        strlen(TEST_REQUEST("GET", "/sleep/1"))) &&
                   test_client_try_read(&client, &answer, false) && answer.status == 200;
            if (good) {
                test_answer_release(&answer);
            }
            atomic_fetch_add(good ? &load->answers : &load->failed, 1);
        }
        atomic_fetch_add(&load->failed, good ? 0 : 1);
        test_client_close(&client);
    }
    return NULL;
}

static void test_renewal_under_load(void **state)
{
    (void)state;
    enum { THREADS = 4, RENEWALS = 40 };
    struct world world;
    struct load load = {.world = &world};
    pthread_t threads[THREADS];
    start(&world);
    struct test_client old;
    struct test_answer answer;
    open_own(&world, &old);
    test_client_send(&old, TEST_REQUEST("GET", "/echo")); /* one that never asked anything is closed sooner */
    test_client_read(&old, &answer, false);
    test_answer_release(&answer);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_load, &load), 0);
    }
    for (long serial = 2; serial < 2 + RENEWALS; serial++) {
        test_gateway_certificate(&world.test, &world.authority, "shop", "shop-tls", OWN_NAME, serial);
        assert_int_equal(serial_for(&world, OWN_NAME), serial);
        (void)poll(NULL, 0, 20);
    }
    atomic_store(&load.stop, true);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&load.failed), 0);
    assert_true(atomic_load(&load.answers) > 50);
    test_client_send(&old, TEST_REQUEST("GET", "/echo")); /* made before all of them */
    test_client_read(&old, &answer, false);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    test_client_close(&old);
    stop(&world);
}

/* ---- resumption ---- */

static void resume_with(struct world *world, int version)
{
    struct test_client client;
    struct test_answer answer;
    SSL_CTX *context = test_tls_context(&world->authority);
    SSL_CTX_set_max_proto_version(context, version);
    SSL_SESSION *session = NULL;
    for (int i = 0; i < 8; i++) { /* whichever loop it meets */
        test_client_open(&client, world->test.tls_port);
        client.ssl = SSL_new(context);
        SSL_set_fd(client.ssl, client.fd);
        SSL_set_tlsext_host_name(client.ssl, OWN_NAME);
        if (session) {
            SSL_set_session(client.ssl, session);
        }
        assert_int_equal(SSL_connect(client.ssl), 1);
        assert_int_equal(SSL_version(client.ssl), version);
        assert_int_equal(SSL_session_reused(client.ssl), session ? 1 : 0);
        test_client_send(&client, TEST_REQUEST("GET", "/echo")); /* a ticket of 1.3 comes with what is read */
        test_client_read(&client, &answer, false);
        assert_int_equal(answer.status, 200);
        test_answer_release(&answer);
        SSL_SESSION_free(session);
        session = SSL_get1_session(client.ssl);
        SSL_set_quiet_shutdown(client.ssl, 1); /* an end that is not told must not spoil the session */
        SSL_shutdown(client.ssl);
        test_client_close(&client);
    }
    SSL_SESSION_free(session);
    SSL_CTX_free(context);
}

static void test_sessions_are_resumed(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    resume_with(&world, TLS1_2_VERSION);
    resume_with(&world, TLS1_3_VERSION);
    test_gateway_wait_metric(&world.test, "cicada_gateway_tls_handshakes_total{result=\"resumed\"}", 14);
    stop(&world);
}

/* ---- ends ---- */

static void test_ends_are_told(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    struct test_answer answer;
    char byte;
    start(&world);
    /* Ours: an answer that ends with the connection ends properly, */
    open_own(&world, &client);
    test_client_send(&client, "GET /open/100000 HTTP/1.0\r\nHost: " OWN_NAME "\r\n\r\n");
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.body.len, 100000);
    assert_int_equal(test_client_receive(&client, &byte, 1), 0);
    assert_int_equal(SSL_get_shutdown(client.ssl), SSL_RECEIVED_SHUTDOWN);
    test_answer_release(&answer);
    test_client_close(&client);
    /* and one that breaks off does not. */
    open_own(&world, &client);
    test_client_send(&client, "GET /part HTTP/1.0\r\nHost: " OWN_NAME "\r\n\r\n");
    ssize_t got;
    char piece[4096];
    while ((got = test_client_receive(&client, piece, sizeof(piece))) > 0) {}
    assert_int_equal(got, -1);
    test_client_close(&client);
    /* The client's, between requests. */
    open_own(&world, &client);
    SSL_shutdown(client.ssl);
    assert_int_equal(test_client_receive(&client, &byte, 1), 0);
    test_client_close(&client);
    /* The client's after its request: the answer is still delivered. */
    open_own(&world, &client);
    test_client_send(&client, TEST_REQUEST("GET", "/sleep/100"));
    test_wait_until(test_upstream_works, world.upstream, "handed over"); /* before that it counts as gone */
    SSL_shutdown(client.ssl);
    shutdown(client.fd, SHUT_WR);
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 200);
    test_answer_release(&answer);
    test_client_close(&client);
    test_gateway_wait_metric(&world.test, "cicada_gateway_client_connections{listener=\"tls\"}", 0);
    stop(&world);
}

static void test_a_client_that_goes_half_way(void **state)
{
    (void)state;
    struct world world;
    struct test_client client;
    start(&world);
    open_own(&world, &client);
    test_client_send(&client,
                     "POST /count HTTP/1.1\r\nHost: " OWN_NAME "\r\nContent-Length: 1000000\r\n\r\nhalf");
    test_client_close(&client);
    open_own(&world, &client);
    test_client_send(&client, TEST_REQUEST("GET", "/size/104857600"));
    char piece[4096];
    assert_true(test_client_receive(&client, piece, sizeof(piece)) > 0);
    test_client_reset(&client);
    open_own(&world, &client);
    test_client_send(&client, TEST_REQUEST("GET", "/hang"));
    test_client_close(&client);
    test_gateway_wait_metric(&world.test, "cicada_gateway_client_connections{listener=\"tls\"}", 0);
    stop(&world);
}

/* One reading takes several full records, and the end behind them: nothing of it is left for the loop to see. */
static void test_an_end_behind_full_records(void **state)
{
    (void)state;
    enum { RECORD = 16384 };
    struct world world;
    struct test_client client;
    struct test_answer answer;
    char expected[] = "16384", got[sizeof(expected)] = "";
    CLEANUP_FREE char *piece = xcalloc(1, RECORD);
    start(&world);
    open_own(&world, &client);
    test_client_send(&client,
                     "GET /ws/count HTTP/1.1\r\nHost: " OWN_NAME
                     "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    test_client_read(&client, &answer, false);
    assert_int_equal(answer.status, 101);
    test_answer_release(&answer);
    BIO *sent = BIO_new(BIO_s_mem()); /* the session's */
    SSL_set0_wbio(client.ssl, sent);
    assert_int_equal(SSL_write(client.ssl, piece, RECORD), RECORD);
    SSL_shutdown(client.ssl);
    char *bytes;
    long len = BIO_get_mem_data(sent, &bytes);
    assert_int_equal(send(client.fd, bytes, (size_t)len, 0), len);
    for (size_t i = 0; i < strlen(expected); i++) { /* what the pod says at the end */
        assert_int_equal(test_client_receive(&client, &got[i], 1), 1);
    }
    assert_string_equal(got, expected);
    test_client_close(&client);
    stop(&world);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_over_one_connection),
        cmocka_unit_test(test_a_host_that_is_not_the_name),
        cmocka_unit_test(test_the_owner_of_a_host_decides),
        cmocka_unit_test(test_what_is_broken_replaces_nothing),
        cmocka_unit_test(test_renewal_under_load),
        cmocka_unit_test(test_sessions_are_resumed),
        cmocka_unit_test(test_ends_are_told),
        cmocka_unit_test(test_a_client_that_goes_half_way),
        cmocka_unit_test(test_an_end_behind_full_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
