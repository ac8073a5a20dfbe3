/* sql_encode.h - results of statements as JSON, byte for byte what PostgreSQL's to_json makes of the same values in the same
 * session, and as CSV. The author's statement is not wrapped, so that every statement that returns rows can be encoded.
 *
 * Columns are read in PostgreSQL's text form, with DateStyle ISO, which is what runtime/postgres sets; a date in another
 * style (SET LOCAL datestyle) is refused. Columns of kind SQL_TYPE_SERVER take one more query each, in the same
 * transaction; all others need nobody.
 *
 * Output: appended to *out, whose cap bounds it. Results: 0, or -1 with *error; then *out holds a part. The failure is
 * PG_FAILURE_TOO_LARGE if *out overflowed, PG_FAILURE_REFUSED for a type that can't be encoded
 * (sql_types_unsupported()), else what the server said.
 *
 * Threads: a result, a transaction and a strbuf belong to one thread at a time; sql_types may be shared.
 */
#ifndef CICADA_SQL_SQL_ENCODE_H
#define CICADA_SQL_SQL_ENCODE_H

#include <stdbool.h>

#include "runtime/base/err.h"
#include "runtime/base/strbuf.h"
#include "runtime/postgres/postgres.h"
#include "runtime/sql/sql_types.h"

/* Whether encoding this result needs its transaction: a type is not known yet, or is SQL_TYPE_SERVER. If not, tx below may
 * be NULL or have ended. */
bool sql_encode_needs_server(const struct pg_result *result, struct sql_types *types);

/* [{"column":value,...},...], columns in their order; [] if there is no row. */
int sql_encode_rows(const struct pg_result *result, struct sql_types *types, struct pg_transaction *tx,
                    struct strbuf *out, struct pg_error *error) MUST_CHECK;
/* {"column":value,...} of row 0, which must exist. */
int sql_encode_row(const struct pg_result *result, struct sql_types *types, struct pg_transaction *tx,
                   struct strbuf *out, struct pg_error *error) MUST_CHECK;
/* Row 0, column 0, which must exist; NULL is null. */
int sql_encode_value(const struct pg_result *result, struct sql_types *types, struct pg_transaction *tx,
                     struct strbuf *out, struct pg_error *error) MUST_CHECK;

/* RFC 4180, a header line with the names, lines end with CRLF. Values in PostgreSQL's text form, as COPY writes them: NULL
 * is empty, the empty string is "". Nothing at all if there are no columns. -1: *out overflowed. */
int sql_encode_csv(const struct pg_result *result, struct strbuf *out) MUST_CHECK;

#endif
