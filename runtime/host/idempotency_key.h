/* idempotency_key.h - the header Idempotency-Key, and what makes two requests the same.
 *
 * Pure but for the digest, which libpq's libcrypto computes. Threads: any.
 */
#ifndef CICADA_HOST_IDEMPOTENCY_KEY_H
#define CICADA_HOST_IDEMPOTENCY_KEY_H

#include <stdbool.h>

#include "runtime/base/err.h"
#include "runtime/host/cloud_event.h"
#include "runtime/host/request.h"
#include "runtime/postgres/postgres.h"

#define IDEMPOTENCY_KEY_MAX_BYTES    255
#define IDEMPOTENCY_FINGERPRINT_SIZE (2 + 2 * PG_SHA256_BYTES + 1) /* "\x", hexadecimal, NUL: a bytea */

/* The header's value: a string of RFC 8941 in quotes, or a bare token of its characters. The key has 1 to 255 bytes,
 * all of visible ASCII or spaces. ERR_INVALID says what is wrong. */
int idempotency_key_parse(const char *value, char ret_key[IDEMPOTENCY_KEY_MAX_BYTES + 1],
                          struct err *err) MUST_CHECK;
/* *ret_value: the header's one value; NULL: there is none. ERR_INVALID: there are several. */
int idempotency_key_find(const struct cicada_request *request, const char **ret_value,
                         struct err *err) MUST_CHECK;

/* The key of an event that comes without the header: "event", a tab, and a digest of source and id in hexadecimal. No header can
 * have it, because there a tab is refused. ERR_UNAVAILABLE: as below. */
int idempotency_event_key(const struct cloud_event *event, char ret_key[IDEMPOTENCY_KEY_MAX_BYTES + 1],
                          struct err *err) MUST_CHECK;

/* SHA-256 over the digests of method, path, query, body and Authorization: each has one length, so no byte can wander
 * from one part to the next. with_body false: as if it were empty. ERR_UNAVAILABLE: no SHA-256 in this process. */
int idempotency_fingerprint(const struct cicada_request *request, bool with_body,
                            char ret_fingerprint[IDEMPOTENCY_FINGERPRINT_SIZE], struct err *err) MUST_CHECK;

#endif
