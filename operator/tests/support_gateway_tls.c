#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/tests/support_gateway_tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include "runtime/base/mem.h"

#define DAY_S 86400

/* ---- certificates ---- */

static void add_extension(X509 *certificate, X509 *issuer, int id, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, id, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static X509 *make_certificate(EVP_PKEY *key, const char *name, int days, long serial, const X509_NAME *issuer)
{
    X509 *certificate = X509_new();
    assert_non_null(certificate);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -100L * DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(certificate), (long)days * DAY_S);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, issuer ? issuer : subject);
    X509_set_pubkey(certificate, key);
    return certificate;
}

void test_authority_init(struct test_authority *authority)
{
    authority->key = EVP_EC_gen("P-256");
    authority->certificate = make_certificate(authority->key, "test authority", 100, 1, NULL);
    add_extension(authority->certificate, authority->certificate, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(authority->certificate, authority->key, EVP_sha256()) > 0);
}

void test_authority_release(struct test_authority *authority)
{
    X509_free(authority->certificate);
    EVP_PKEY_free(authority->key);
}

static char *bio_text(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *text = xstrndup(data, (size_t)len);
    BIO_free(bio);
    return text;
}

char *test_key_pem(EVP_PKEY *key)
{
    BIO *text = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(text, key, NULL, NULL, 0, NULL, NULL), 1);
    return bio_text(text);
}

void test_authority_issue(const struct test_authority *authority, const char *names, int days, long serial,
                          struct test_pem *ret_pem)
{
    char alternatives[1024] = "";
    for (const char *name = names; *name;) {
        size_t len = strcspn(name, ","), have = strlen(alternatives);
        snprintf(alternatives + have, sizeof(alternatives) - have, "%sDNS:%.*s", have ? "," : "", (int)len,
                 name);
        name += len + (name[len] == ',');
    }
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate =
        make_certificate(key, "test", days, serial, X509_get_subject_name(authority->certificate));
    add_extension(certificate, authority->certificate, NID_subject_alt_name, alternatives);
    assert_true(X509_sign(certificate, authority->key, EVP_sha256()) > 0);
    BIO *chain = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(chain, certificate), 1);
    assert_int_equal(PEM_write_bio_X509(chain, authority->certificate), 1);
    *ret_pem = (struct test_pem){.chain = bio_text(chain), .key = test_key_pem(key)};
    X509_free(certificate);
    EVP_PKEY_free(key);
}

void test_pem_release(struct test_pem *pem)
{
    free(pem->chain);
    free(pem->key);
}

void test_gateway_certificate(struct test_gateway *test, const struct test_authority *authority,
                              const char *namespace, const char *secret, const char *names, long serial)
{
    struct err err = ERR_INIT;
    struct test_pem pem;
    bool changed = false;
    test_authority_issue(authority, names, /* days= */ 10, serial, &pem);
    if (gateway_certificate_set(test->gateway, namespace, secret, pem.chain, pem.key, &changed, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    assert_true(changed);
    test_pem_release(&pem);
}

/* ---- clients ---- */

SSL_CTX *test_tls_context(const struct test_authority *authority)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    assert_non_null(context);
    assert_int_equal(X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority->certificate), 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_AUTO_RETRY);
    static const unsigned char protocols[] = "\x02h2\x08http/1.1";
    assert_int_equal(SSL_CTX_set_alpn_protos(context, protocols, sizeof(protocols) - 1), 0);
    return context;
}

bool test_tls_shake_hands(struct test_client *client, SSL_CTX *context, const char *name, int *ret_alert)
{
    struct timeval limit = {.tv_sec = TEST_WAIT_MS / 1000};
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    client->ssl = SSL_new(context);
    assert_non_null(client->ssl);
    SSL_set_fd(client->ssl, client->fd);
    if (name) {
        SSL_set_tlsext_host_name(client->ssl, name);
        SSL_set1_host(client->ssl, name);
    }
    ERR_clear_error();
    if (SSL_connect(client->ssl) == 1) {
        return true;
    }
    int reason = ERR_GET_REASON(ERR_peek_error());
    *ret_alert = reason >= SSL_AD_REASON_OFFSET ? reason - SSL_AD_REASON_OFFSET : 0;
    ERR_clear_error();
    return false;
}

bool test_tls_try_open(struct test_client *client, int port, SSL_CTX *context, const char *name,
                       int *ret_alert)
{
    test_client_open(client, port);
    return test_tls_shake_hands(client, context, name, ret_alert);
}

void test_tls_open(struct test_client *client, int port, SSL_CTX *context, const char *name)
{
    int alert = 0;
    if (!test_tls_try_open(client, port, context, name, &alert)) {
        fail_msg("handshake for %s failed, alert %d, verification %ld", name, alert,
                 SSL_get_verify_result(client->ssl));
    }
}

long test_tls_serial(const struct test_client *client)
{
    X509 *shown = SSL_get1_peer_certificate(client->ssl);
    assert_non_null(shown);
    long serial = ASN1_INTEGER_get(X509_get0_serialNumber(shown));
    X509_free(shown);
    return serial;
}

void test_tls_scene_start(struct test_tls_scene *scene, const char *fields, int loops, const char *name)
{
    test_world_start_with(&scene->world, fields,
                          &(struct gateway_settings){.loops = loops, .tls_listen = "127.0.0.1:0"});
    test_authority_init(&scene->authority);
    scene->context = test_tls_context(&scene->authority);
    test_gateway_certificate(&scene->world.test, &scene->authority, "shop", "s", name, 1);
}

void test_tls_scene_stop(struct test_tls_scene *scene)
{
    SSL_CTX_free(scene->context);
    test_authority_release(&scene->authority);
    test_world_stop(&scene->world);
}
