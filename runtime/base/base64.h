/* base64.h - base64 (RFC 4648) as kubeconfigs carry it: padded, white space between characters allowed.
 *
 * Threads: no shared state.
 */
#ifndef CICADA_BASE_BASE64_H
#define CICADA_BASE_BASE64_H

#include <stddef.h>

#include "runtime/base/err.h"

/* Any bytes, with a NUL behind them that *ret_len does not count. The caller frees. */
int base64_decode(const char *encoded, char **ret_bytes, size_t *ret_len, struct err *err) MUST_CHECK;
/* The caller frees *ret_text (NUL-terminated). Text with a NUL byte in it is refused. */
int base64_decode_text(const char *encoded, char **ret_text, struct err *err) MUST_CHECK;

#endif
