#include "operator/gateway/certificates.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <uthash.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

struct certificate {
    atomic_int refs;
    X509 *leaf;
    STACK_OF(X509) * chain; /* without the leaf */
    EVP_PKEY *key;
    int64_t not_after_s;
};

struct entry {
    UT_hash_handle hh;
    char *key; /* "namespace/secret" */
    struct certificate *certificate;
};

struct certificates {
    pthread_mutex_t mu;
    struct entry *entries; /* guarded by mu */
};

/* ---- one certificate ---- */

void certificate_unref(struct certificate *certificate)
{
    if (!certificate || atomic_fetch_sub_explicit(&certificate->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    X509_free(certificate->leaf);
    sk_X509_pop_free(certificate->chain, X509_free);
    EVP_PKEY_free(certificate->key);
    free(certificate);
}

bool certificate_use(const struct certificate *certificate, SSL *session)
{
    return SSL_use_cert_and_key(session, certificate->leaf, certificate->key, certificate->chain,
                                /* override= */ 1) == 1;
}

/* ---- reading ---- */

/* An encrypted key would otherwise ask on the terminal. */
static int no_password(char *buffer, int size, int writing, void *arg)
{
    (void)buffer, (void)size, (void)writing, (void)arg;
    return -1;
}

static int read_chain(struct certificate *certificate, const char *pem, struct err *err)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *next;
    int count = 0;
    while (bio && (next = PEM_read_bio_X509(bio, NULL, no_password, NULL))) {
        if (count++ == 0) {
            certificate->leaf = next;
        } else if (count > CERTIFICATE_CHAIN_MAX || !sk_X509_push(certificate->chain, next)) {
            X509_free(next);
            BIO_free(bio);
            return err_set(err, ERR_TOO_LARGE, "tls.crt has more than %d certificates",
                           CERTIFICATE_CHAIN_MAX);
        }
    }
    /* Text between and after certificates is fine; one that begins and is none is not. */
    bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    BIO_free(bio);
    if (count == 0 || !ended) {
        return err_set(err, ERR_INVALID, "tls.crt holds %s",
                       count == 0 ? "no certificate in PEM" : "a malformed certificate");
    }
    return 0;
}

static int read_key(struct certificate *certificate, const char *pem, struct err *err)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    certificate->key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (!certificate->key) {
        return err_set(err, ERR_INVALID, "tls.key holds no unencrypted private key in PEM");
    }
    int bits = EVP_PKEY_get_bits(certificate->key);
    return bits > CERTIFICATE_KEY_BITS_MAX ? err_set(err, ERR_TOO_LARGE, "tls.key has %d bits, more than %d",
                                                     bits, CERTIFICATE_KEY_BITS_MAX)
                                           : 0;
}

static int read_dates(struct certificate *certificate, struct err *err)
{
    struct tm parts;
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate->leaf), &parts) != 1) {
        return err_set(err, ERR_INVALID, "tls.crt has no date of expiry");
    }
    certificate->not_after_s = timegm(&parts);
    return 0;
}

/* Whether a session takes it: keys that are too small for the library are refused here, not at a client's handshake. */
static int try_use(const struct certificate *certificate, struct err *err)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    bool taken = context && SSL_CTX_use_cert_and_key(context, certificate->leaf, certificate->key,
                                                     certificate->chain, 1) == 1;
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    SSL_CTX_free(context);
    int result =
        taken ? 0
              : err_set(err, ERR_INVALID, "tls.crt can't be used: %s", reason ? reason : "unknown reason");
    ERR_clear_error();
    return result;
}

static int certificate_read(const char *chain_pem, const char *key_pem, struct certificate **ret_certificate,
                            struct err *err)
{
    if (strlen(chain_pem) > CERTIFICATE_PEM_BYTES_MAX || strlen(key_pem) > CERTIFICATE_PEM_BYTES_MAX) {
        return err_set(err, ERR_TOO_LARGE, "tls.crt or tls.key has more than %u bytes",
                       CERTIFICATE_PEM_BYTES_MAX);
    }
    struct certificate *certificate = xcalloc(1, sizeof(*certificate));
    atomic_init(&certificate->refs, 1);
    certificate->chain = sk_X509_new_null();
    ERR_clear_error();
    if (read_chain(certificate, chain_pem, err) < 0 || read_key(certificate, key_pem, err) < 0 ||
        read_dates(certificate, err) < 0) {
        certificate_unref(certificate);
        return -1;
    }
    bool is_pair = X509_check_private_key(certificate->leaf, certificate->key) == 1;
    ERR_clear_error();
    if (!is_pair) {
        certificate_unref(certificate);
        return err_set(err, ERR_INVALID, "tls.key is not the key of tls.crt");
    }
    if (try_use(certificate, err) < 0) {
        certificate_unref(certificate);
        return -1;
    }
    *ret_certificate = certificate;
    return 0;
}

/* ---- all of them ---- */

struct certificates *certificates_new(void)
{
    struct certificates *certificates = xcalloc(1, sizeof(*certificates));
    pthread_mutex_init(&certificates->mu, NULL);
    return certificates;
}

static void free_entry(struct entry *entry)
{
    certificate_unref(entry->certificate);
    free(entry->key);
    free(entry);
}

void certificates_free(struct certificates *certificates)
{
    if (!certificates) {
        return;
    }
    struct entry *entry = certificates->entries;
    HASH_CLEAR(hh, certificates->entries); /* leaves the list that runs through the entries */
    while (entry) {
        struct entry *next = entry->hh.next;
        free_entry(entry);
        entry = next;
    }
    pthread_mutex_destroy(&certificates->mu);
    free(certificates);
}

/* mu held */
static struct entry *find_entry(struct certificates *certificates, const char *namespace, const char *secret)
{
    CLEANUP_FREE char *key = xasprintf("%s/%s", namespace, secret);
    struct entry *entry;
    HASH_FIND_STR(certificates->entries, key, entry);
    return entry;
}

static bool is_same(const struct certificate *a, const struct certificate *b)
{
    if (X509_cmp(a->leaf, b->leaf) != 0 || EVP_PKEY_eq(a->key, b->key) != 1 ||
        sk_X509_num(a->chain) != sk_X509_num(b->chain)) {
        return false;
    }
    for (int i = 0; i < sk_X509_num(a->chain); i++) {
        if (X509_cmp(sk_X509_value(a->chain, i), sk_X509_value(b->chain, i)) != 0) {
            return false;
        }
    }
    return true;
}

int certificates_set(struct certificates *certificates, const char *namespace, const char *secret,
                     const char *chain_pem, const char *key_pem, int64_t *ret_not_after_s, bool *ret_changed,
                     struct err *err)
{
    struct certificate *certificate = NULL;
    if (certificate_read(chain_pem, key_pem, &certificate, err) < 0) {
        return -1;
    }
    assert(certificate);
    int64_t now_s = clock_wall_ms() / 1000;
    struct certificate *unused = NULL;
    int result = 0;
    *ret_not_after_s = certificate->not_after_s;
    pthread_mutex_lock(&certificates->mu);
    struct entry *entry = find_entry(certificates, namespace, secret);
    bool worse = entry && certificate->not_after_s <= now_s && entry->certificate->not_after_s > now_s;
    if (worse) {
        result = err_set(err, ERR_INVALID, "tls.crt has expired; the one before has not and stays");
        unused = certificate;
    } else if (!entry) {
        entry = xcalloc(1, sizeof(*entry));
        entry->key = xasprintf("%s/%s", namespace, secret);
        entry->certificate = certificate;
        HASH_ADD_KEYPTR(hh, certificates->entries, entry->key, strlen(entry->key), entry);
        *ret_changed = true;
    } else {
        *ret_changed = !is_same(entry->certificate, certificate);
        unused = *ret_changed ? entry->certificate : certificate;
        entry->certificate = *ret_changed ? certificate : entry->certificate;
    }
    pthread_mutex_unlock(&certificates->mu);
    certificate_unref(unused);
    return result;
}

void certificates_remove(struct certificates *certificates, const char *namespace, const char *secret)
{
    pthread_mutex_lock(&certificates->mu);
    struct entry *entry = find_entry(certificates, namespace, secret);
    if (entry) {
        HASH_DELETE(hh, certificates->entries, entry);
        free_entry(entry);
    }
    pthread_mutex_unlock(&certificates->mu);
}

struct certificate *certificates_get(struct certificates *certificates, const char *namespace,
                                     const char *secret)
{
    pthread_mutex_lock(&certificates->mu);
    struct entry *entry = find_entry(certificates, namespace, secret);
    struct certificate *certificate = entry ? entry->certificate : NULL;
    if (certificate) {
        atomic_fetch_add_explicit(&certificate->refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&certificates->mu);
    return certificate;
}
