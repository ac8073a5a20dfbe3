/* sql_param.h - a JSON value as the text of a parameter of a given type.
 *
 *     JSON            json, jsonb     an array type          any other type
 *     null            NULL            NULL                   NULL
 *     number, bool    as it stands    as it stands           as it stands
 *     string          as it stands    its text               its text
 *     array           as it stands    an array literal       refused
 *     object          as it stands    refused                refused
 *
 * Numbers keep their source text. Whether the text fits the type is the server's to say (22P02).
 *
 * Threads: none of its own.
 */
#ifndef CICADA_SQL_SQL_PARAM_H
#define CICADA_SQL_SQL_PARAM_H

#include <stdbool.h>

#include "runtime/base/err.h"
#include "runtime/base/json_reader.h"
#include "runtime/base/strbuf.h"
#include "runtime/sql/sql_types.h"

/* Appends the text to *out; *ret_null: it is NULL instead. types knows the parameter's type and what it is made of.
 * ERR_INVALID: no such value for this type, without the value itself. */
int sql_param_from_json(const struct json_node *value, struct sql_types *types, unsigned type_oid,
                        struct strbuf *out, bool *ret_null, struct err *err) MUST_CHECK;

/* Appends an array literal of texts, as `?id=1&id=2` gives them. */
void sql_param_from_texts(const char *const *texts, size_t count, char delimiter, struct strbuf *out);

#endif
