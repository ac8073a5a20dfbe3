/* sql_array.h - an array in PostgreSQL's text form as the JSON that array_to_json makes of it. */
#ifndef CICADA_SQL_SQL_ARRAY_H
#define CICADA_SQL_SQL_ARRAY_H

#include "runtime/base/strbuf.h"
#include "runtime/sql/sql_types.h"

/* type: SQL_TYPE_ARRAY. text is written to: elements lose their escapes in place, so that nothing is allocated. -1: text is
 * no value of that type; then a part may have been appended. Overflow is seen in *out. */
int sql_array_encode(struct sql_types *types, const struct sql_type *type, char *text, size_t len,
                     struct strbuf *out) MUST_CHECK;

#endif
