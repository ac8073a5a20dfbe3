/* sql_reserved.h - the parts of a request as JSON: what `:_body`, `:_query`, `:_headers` and `:_path` stand for.
 *
 *     _body       the body, if it is JSON, else NULL
 *     _query      {"name":"value"}; a name that comes more than once: ["value",...]
 *     _headers    {"name-in-lower-case":"value"}, those that repeat joined by ", "; without Authorization and Cookie
 *     _path       {"name":"value"} of the path template
 */
#ifndef CICADA_HOST_SQL_RESERVED_H
#define CICADA_HOST_SQL_RESERVED_H

#include "runtime/host/arena.h"
#include "runtime/host/request.h"
#include "runtime/sql/sql_text.h"

/* The JSON text, in the arena; NULL: SQL NULL. The body was parsed, if it is JSON. */
const char *sql_reserved_text(enum sql_reserved reserved, const struct cicada_request *request,
                              struct arena *arena);

#endif
