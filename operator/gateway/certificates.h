/* certificates.h - the certificates that the TLS listener may show, by the Secret they came from.
 *
 * A certificate is read from PEM, checked against its key, and immutable from then on. One that is no good never replaces one that is:
 * certificates_set() fails and what was there stays. Which of them a name gets is the route table's to say.
 *
 * Ownership: a certificate is reference-counted; connections that use one outlive its replacement.
 * Threads: any.
 */
#ifndef CICADA_GATEWAY_CERTIFICATES_H
#define CICADA_GATEWAY_CERTIFICATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define CERTIFICATE_PEM_BYTES_MAX (256u << 10) /* of each part; a Secret has at most 1 MiB */
#define CERTIFICATE_CHAIN_MAX     10
#define CERTIFICATE_KEY_BITS_MAX                                                                             \
    4096 /* a handshake's cost for its loop, and all whom that serves, grows with the cube */

struct certificate;
struct certificates;
struct ssl_st;

struct certificates *certificates_new(void);
void certificates_free(struct certificates *certificates); /* NULL is fine */

/* chain: the leaf first, then its issuers. *ret_changed: it is another than before. ERR_INVALID: malformed, the key is not the
 * certificate's, or it has expired while the one that is there has not. ERR_TOO_LARGE. *ret_not_after_s: when it expires, since 1970. */
int certificates_set(struct certificates *certificates, const char *namespace, const char *secret,
                     const char *chain_pem, const char *key_pem, int64_t *ret_not_after_s, bool *ret_changed,
                     struct err *err) MUST_CHECK;
void certificates_remove(struct certificates *certificates, const char *namespace, const char *secret);
/* A reference, or NULL. */
struct certificate *certificates_get(struct certificates *certificates, const char *namespace,
                                     const char *secret);

void certificate_unref(struct certificate *certificate); /* NULL is fine */
/* The session shows it. False: out of memory, or the library does not take it. */
bool certificate_use(const struct certificate *certificate, struct ssl_st *session);

#endif
