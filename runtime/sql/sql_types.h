/* sql_types.h - what kind of JSON a column's type makes, by the rules of PostgreSQL's to_json (json_categorize_type).
 *
 * Built-in types are known without asking. All others are asked for once, by sql_types_resolve(), and kept until the
 * sql_types are freed: a change by DDL (CREATE CAST, another element type) is seen by a new process. A type that was renamed
 * is asked for again.
 *
 * Threads: any number at once. Reading takes no lock.
 */
#ifndef CICADA_SQL_SQL_TYPES_H
#define CICADA_SQL_SQL_TYPES_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/postgres/postgres.h"

#define SQL_TYPES_MAX 10000 /* types beside the built-in ones that one cache holds */

enum sql_type_kind {
    SQL_TYPE_TEXT, /* the escaped text form: all that is none of the others, enums and ranges too */
    SQL_TYPE_BOOL,
    SQL_TYPE_NUMBER, /* raw, but for NaN and the infinities */
    SQL_TYPE_JSON,   /* json and jsonb: raw */
    SQL_TYPE_DATE,
    SQL_TYPE_TIMESTAMP,
    SQL_TYPE_TIMESTAMPTZ,
    SQL_TYPE_ARRAY,
    SQL_TYPE_SERVER, /* composite, or with a cast to json, or an array of these: only the server knows */
};

struct sql_type {
    unsigned oid; /* of a domain: that of its base type */
    enum sql_type_kind kind;
    unsigned element_oid; /* ARRAY only: may be a domain or, through one, an array */
    char delimiter; /* ARRAY only: between elements; ' ' in int2vector and oidvector, which have no braces */
};

struct sql_types;

struct sql_types *sql_types_new(void);
void sql_types_free(struct sql_types *types); /* NULL is fine */

/* Asks the server about those that are not known yet, and what they are made of, in one query; none if all are known, and
 * then tx may be NULL. An OID that the server does not know stays unknown. -1: *error, the transaction has failed. */
int sql_types_resolve(struct sql_types *types, struct pg_transaction *tx, const unsigned *oids, size_t count,
                      struct pg_error *error) MUST_CHECK;
/* False: not known yet. */
bool sql_types_get(struct sql_types *types, unsigned oid, struct sql_type *ret_type);

/* Why no column of this type can be encoded, as a sentence for the author of the statement; NULL: it can. Values of the type
 * record have no fields known to a client, and their text form can't be read back by the server. */
const char *sql_types_unsupported(unsigned oid);

/* The type's name as it stands in a statement, quoted and with its schema; NULL for built-in types and those never asked
 * for. Valid until the types are freed. */
const char *sql_types_name(struct sql_types *types, unsigned oid);
/* The name is no longer true; the next sql_types_resolve() asks again. */
void sql_types_forget(struct sql_types *types, unsigned oid);

#endif
