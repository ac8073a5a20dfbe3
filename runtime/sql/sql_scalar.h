/* sql_scalar.h - one value in PostgreSQL's text form as the JSON that datum_to_json makes of it. Pure. */
#ifndef CICADA_SQL_SQL_SCALAR_H
#define CICADA_SQL_SQL_SCALAR_H

#include "runtime/base/strbuf.h"
#include "runtime/sql/sql_types.h"

/* kind: neither ARRAY nor SERVER. -1: text is no value of that kind (a date that is not in ISO style); then nothing was
 * appended. Overflow is seen in *out. */
int sql_scalar_encode(enum sql_type_kind kind, const char *text, size_t len, struct strbuf *out) MUST_CHECK;

/* A JSON string with PostgreSQL's escapes (escape_json): bytes from 0x7F on stay as they are. */
void sql_scalar_put_string(const char *text, size_t len, struct strbuf *out);

#endif
