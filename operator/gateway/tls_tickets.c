#include "operator/gateway/tls_tickets.h"

#include <openssl/core_names.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define NAME_BYTES 16 /* OpenSSL's, in front of each ticket */
#define IV_BYTES   16 /* of AES in CBC mode */
#define KEY_BYTES  32

/* What OpenSSL's callback answers. */
enum { TICKET_UNKNOWN = 0, TICKET_GOOD = 1, TICKET_GOOD_RENEW = 2, TICKET_ERROR = -1 };

struct ticket_key {
    unsigned char name[NAME_BYTES], cipher[KEY_BYTES], mac[KEY_BYTES];
};

struct tls_tickets {
    const struct clock *clock;
    pthread_mutex_t mu;
    struct ticket_key now, before; /* guarded by mu, as all below */
    int64_t made_ms;               /* now */
    int64_t before_until_ms;
};

static void make_key(struct tls_tickets *tickets, int64_t now_ms)
{
    random_bytes(&tickets->now, sizeof(tickets->now));
    tickets->made_ms = now_ms;
}

struct tls_tickets *tls_tickets_new(const struct clock *clock)
{
    struct tls_tickets *tickets = xcalloc(1, sizeof(*tickets));
    tickets->clock = clock;
    pthread_mutex_init(&tickets->mu, NULL);
    make_key(tickets, clock->monotonic_ms(clock));
    return tickets;
}

void tls_tickets_free(struct tls_tickets *tickets)
{
    if (tickets) {
        pthread_mutex_destroy(&tickets->mu);
        explicit_bzero(tickets, sizeof(*tickets));
        free(tickets);
    }
}

/* mu held. False: there is no key from before; what stands there is all zero, and nobody's. */
static bool rotate(struct tls_tickets *tickets)
{
    int64_t now_ms = tickets->clock->monotonic_ms(tickets->clock);
    if (now_ms - tickets->made_ms >= TLS_TICKETS_SEAL_MS) {
        tickets->before = tickets->now;
        tickets->before_until_ms = tickets->made_ms + 2 * (int64_t)TLS_TICKETS_SEAL_MS;
        make_key(tickets, now_ms);
    }
    bool has_before = now_ms < tickets->before_until_ms;
    if (!has_before) {
        explicit_bzero(&tickets->before, sizeof(tickets->before));
    }
    return has_before;
}

static bool begin(struct ticket_key *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                  int seal)
{
    char digest[] = "sha256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, seal) == 1 &&
           EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* Called by OpenSSL to seal a ticket, and to open one: then name and iv are what it begins with. */
static int with_key(SSL *session, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                    EVP_MAC_CTX *mac, int seal)
{
    struct tls_tickets *tickets = SSL_CTX_get_app_data(SSL_get_SSL_CTX(session));
    struct ticket_key key;
    bool known = true, old = false;
    pthread_mutex_lock(&tickets->mu);
    bool has_before = rotate(tickets);
    key = tickets->now;
    if (!seal && memcmp(name, key.name, NAME_BYTES) != 0) {
        known = old = has_before && memcmp(name, tickets->before.name, NAME_BYTES) == 0;
        key = tickets->before;
    }
    pthread_mutex_unlock(&tickets->mu);
    if (seal) {
        memcpy(name, key.name, NAME_BYTES);
        random_bytes(iv, IV_BYTES);
    }
    int result = !known                                ? TICKET_UNKNOWN
                 : !begin(&key, iv, cipher, mac, seal) ? TICKET_ERROR
                 : old || SSL_version(session) == TLS1_3_VERSION
                     ? TICKET_GOOD_RENEW /* RFC 8446: each is used once */
                     : TICKET_GOOD;
    explicit_bzero(&key, sizeof(key));
    return result;
}

void tls_tickets_use(struct tls_tickets *tickets, SSL_CTX *context)
{
    SSL_CTX_set_app_data(context, tickets);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context, with_key);
}
