/* url.h - percent-decoding and query strings.
 *
 * Everything decoded is NUL-terminated text, so %00 is refused, and must be UTF-8.
 */
#ifndef CICADA_HOST_URL_H
#define CICADA_HOST_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/host/arena.h"
#include "runtime/host/field_list.h"

#define URL_QUERY_FIELDS_MAX 1000

/* plus_is_space: as in queries and forms. The result is in the arena. ERR_INVALID: bad escape, %00, not UTF-8. */
int url_decode(struct arena *arena, const char *text, size_t len, bool plus_is_space,
               const char **ret_decoded, struct err *err) MUST_CHECK;

/* "a=1&b&c=%20": empty pieces are skipped, a piece without '=' has the value "". NULL is an empty query. */
int url_query_parse(struct arena *arena, const char *query, struct field_list *ret_fields,
                    struct err *err) MUST_CHECK;

#endif
