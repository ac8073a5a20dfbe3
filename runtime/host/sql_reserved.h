/* sql_reserved.h - the parts of a request as JSON: what `:_body`, `:_query`, `:_headers`, `:_path` and `:_event` stand for.
 *
 *     _body       the body, if it is JSON, else NULL
 *     _query      {"name":"value"}; a name that comes more than once: ["value",...]
 *     _headers    {"name-in-lower-case":"value"}, those that repeat joined by ", "; without Authorization and Cookie
 *     _path       {"name":"value"} of the path template
 *     _event      the event as CloudEvents' JSON format has it: {"specversion":"1.0","id":...}, extensions as strings, its data as
 *                 `data`: JSON as it is, other text as a string; what is no text as `data_base64`. NULL without an event
 */
#ifndef CICADA_HOST_SQL_RESERVED_H
#define CICADA_HOST_SQL_RESERVED_H

#include "runtime/host/arena.h"
#include "runtime/host/cloud_event.h"
#include "runtime/host/request.h"
#include "runtime/sql/sql_text.h"

/* The JSON text, in the arena; NULL: SQL NULL. The body was parsed, if it is JSON. event: what the request brings; NULL: none. */
const char *sql_reserved_text(enum sql_reserved reserved, const struct cicada_request *request,
                              const struct cloud_event *event, struct arena *arena);

#endif
