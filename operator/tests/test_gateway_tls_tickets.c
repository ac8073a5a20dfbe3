/* Session tickets: whose are known, and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operator/gateway/certificates.h"
#include "operator/gateway/tls.h"
#include "operator/gateway/tls_tickets.h"
#include "operator/tests/support_gateway_tls.h"

#define NAME   "a.example.com"
#define MINUTE 60000

struct fake_clock {
    struct clock base;
    int64_t now_ms;
};

static int64_t fake_now(const struct clock *self)
{
    return ((const struct fake_clock *)self)->now_ms;
}

struct scene {
    struct fake_clock clock;
    struct certificates *certificates;
    struct tls_tickets *tickets;
    struct tls_context *loops[2]; /* of one gateway */
    SSL_CTX *client;
    struct test_authority authority;
};

static struct certificate *find(void *arg, const char *name)
{
    (void)name;
    return certificates_get(((struct scene *)arg)->certificates, "shop", "s");
}

static struct tls_context *new_loop(struct scene *scene, struct tls_tickets *tickets)
{
    struct err err = ERR_INIT;
    struct tls_context *context = NULL;
    if (tls_context_new(&(struct tls_settings){.find = find, .arg = scene, .tickets = tickets}, &context,
                        &err) < 0) {
        fail_msg("%s", err.msg);
    }
    return context;
}

static void start(struct scene *scene, int version)
{
    struct test_pem pem;
    struct err err = ERR_INIT;
    int64_t not_after_s;
    bool changed;
    *scene = (struct scene){.clock = {.base = {.monotonic_ms = fake_now}, .now_ms = MINUTE}};
    scene->certificates = certificates_new();
    test_authority_init(&scene->authority);
    test_authority_issue(&scene->authority, NAME, /* days= */ 10, /* serial= */ 1, &pem);
    assert_int_equal(
        certificates_set(scene->certificates, "shop", "s", pem.chain, pem.key, &not_after_s, &changed, &err),
        0);
    test_pem_release(&pem);
    scene->tickets = tls_tickets_new(&scene->clock.base);
    for (int i = 0; i < 2; i++) {
        scene->loops[i] = new_loop(scene, scene->tickets);
    }
    scene->client = test_tls_context(&scene->authority);
    SSL_CTX_set_max_proto_version(scene->client, version);
}

static void stop(struct scene *scene)
{
    SSL_CTX_free(scene->client);
    tls_context_free(scene->loops[0]);
    tls_context_free(scene->loops[1]);
    tls_tickets_free(scene->tickets);
    certificates_free(scene->certificates);
    test_authority_release(&scene->authority);
}

/* One connection with the session, NULL: none; its own takes that one's place. True: it was resumed. */
static bool meet(struct scene *scene, struct tls_context *loop, SSL_SESSION **session)
{
    int fds[2];
    char byte;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct tls_session *ours = tls_session_new(loop, fds[0]);
    SSL *client = SSL_new(scene->client);
    SSL_set_fd(client, fds[1]);
    SSL_set_tlsext_host_name(client, NAME);
    if (*session) {
        SSL_set_session(client, *session);
    }
    enum tls_progress progress = TLS_WAITS;
    for (int i = 0; i < 10; i++) {
        (void)SSL_connect(client);
        progress = progress == TLS_WAITS ? tls_session_handshake(ours) : progress;
    }
    assert_int_equal(progress, TLS_DONE);
    assert_true(SSL_is_init_finished(client));
    (void)SSL_read(client, &byte, 1); /* a ticket of 1.3 comes with what is read */
    bool resumed = SSL_session_reused(client) == 1;
    assert_int_equal(resumed, tls_session_resumed(ours));
    SSL_SESSION_free(*session);
    *session = SSL_get1_session(client);
    SSL_set_quiet_shutdown(client, 1);
    SSL_shutdown(client);
    SSL_free(client);
    tls_session_free(ours);
    close(fds[0]);
    close(fds[1]);
    return resumed;
}

static void live_for_hours(int version)
{
    struct scene scene;
    SSL_SESSION *session = NULL, *first;
    start(&scene, version);
    assert_false(meet(&scene, scene.loops[0], &session));
    first = SSL_SESSION_dup(session);
    assert_true(meet(&scene, scene.loops[1], &session)); /* the other loop knows it */
    /* Whoever comes back often enough never shakes hands anew: each meeting gives a ticket of the newest key. */
    for (int i = 0; i < 10; i++) {
        scene.clock.now_ms += 50LL * MINUTE;
        assert_true(meet(&scene, scene.loops[i % 2], &session));
    }
    /* 500 minutes later nobody knows the first. */
    assert_false(meet(&scene, scene.loops[0], &first));
    /* Sealed by a key of 59 minutes: opened for one more hour, however seldom anybody comes. */
    scene.clock.now_ms += 300LL * MINUTE;
    assert_false(meet(&scene, scene.loops[0], &first)); /* the key is made now */
    scene.clock.now_ms += 59LL * MINUTE;
    assert_true(meet(&scene, scene.loops[0], &first));
    SSL_SESSION *late = SSL_SESSION_dup(first);
    scene.clock.now_ms += 60LL * MINUTE;
    assert_true(meet(&scene, scene.loops[1], &first));
    scene.clock.now_ms += 2LL * MINUTE;
    assert_false(meet(&scene, scene.loops[1], &late));
    SSL_SESSION_free(late);
    SSL_SESSION_free(first);
    SSL_SESSION_free(session);
    stop(&scene);
}

static void test_keys_live_for_two_hours(void **state)
{
    (void)state;
    live_for_hours(TLS1_2_VERSION);
    live_for_hours(TLS1_3_VERSION);
}

/* What another gateway sealed costs a handshake, and nothing else. */
static void test_tickets_of_another_gateway(void **state)
{
    (void)state;
    struct scene scene;
    SSL_SESSION *session = NULL;
    start(&scene, TLS1_3_VERSION);
    struct tls_tickets *tickets = tls_tickets_new(&scene.clock.base);
    struct tls_context *other = new_loop(&scene, tickets);
    assert_false(meet(&scene, scene.loops[0], &session));
    assert_false(meet(&scene, other, &session));
    assert_true(meet(&scene, other, &session));
    SSL_SESSION_free(session);
    tls_context_free(other);
    tls_tickets_free(tickets);
    stop(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_live_for_two_hours),
        cmocka_unit_test(test_tickets_of_another_gateway),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
