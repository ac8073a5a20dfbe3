/* support_gateway_tls.h - certificates made at test time, and clients that speak TLS to a gateway under test.
 *
 * Everything fails the test by itself (cmocka); nothing waits longer than TEST_WAIT_MS.
 */
#ifndef CICADA_TESTS_SUPPORT_GATEWAY_TLS_H
#define CICADA_TESTS_SUPPORT_GATEWAY_TLS_H

#include <openssl/ssl.h>

#include "operator/tests/support_gateway_world.h"

/* An authority of the test's own. */
struct test_authority {
    X509 *certificate;
    EVP_PKEY *key;
};

struct test_pem {
    char *chain, *key;
};

void test_authority_init(struct test_authority *authority);
void test_authority_release(struct test_authority *authority);
/* names: "a.example.com,*.b.example.com". days: until it expires; may be negative. serial tells certificates of one name apart. */
void test_authority_issue(const struct test_authority *authority, const char *names, int days, long serial,
                          struct test_pem *ret_pem);
char *test_key_pem(EVP_PKEY *key); /* for the caller to free */
void test_pem_release(struct test_pem *pem);
/* Gives it to the gateway as Secret namespace/secret, and expects success. */
void test_gateway_certificate(struct test_gateway *test, const struct test_authority *authority,
                              const char *namespace, const char *secret, const char *names, long serial);

/* A client's settings: trusts the authority, offers http/1.1. */
SSL_CTX *test_tls_context(const struct test_authority *authority);
/* Connects and shakes hands; name NULL: no SNI. False: the handshake failed, *ret_alert is the alert that came (0: none). */
bool test_tls_try_open(struct test_client *client, int port, SSL_CTX *context, const char *name,
                       int *ret_alert);
/* The same on a connection that is there already. */
bool test_tls_shake_hands(struct test_client *client, SSL_CTX *context, const char *name, int *ret_alert);
void test_tls_open(struct test_client *client, int port, SSL_CTX *context, const char *name);
long test_tls_serial(const struct test_client *client); /* of the certificate that was shown */

/* A world with TLS on so many loops, whose function f has these fields (http.tlsSecretName is "s"); that Secret has a certificate for
 * `name`. */
struct test_tls_scene {
    struct test_world world;
    struct test_authority authority;
    SSL_CTX *context; /* of clients */
};
void test_tls_scene_start(struct test_tls_scene *scene, const char *fields, int loops, const char *name);
void test_tls_scene_stop(struct test_tls_scene *scene);

#endif
