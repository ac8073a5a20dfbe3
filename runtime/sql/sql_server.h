/* sql_server.h - the values of one column made JSON by the server, in the transaction that they came from.
 *
 * The texts travel as one JSON array, and json_to_recordset() reads each with the input function of its type; to_json()
 * does the rest. Reading back what the same session wrote loses nothing.
 */
#ifndef CICADA_SQL_SQL_SERVER_H
#define CICADA_SQL_SQL_SERVER_H

#include "runtime/postgres/postgres.h"
#include "runtime/sql/sql_types.h"

#define SQL_SERVER_INPUT_MAX_BYTES                                                                           \
    (64u << 20) /* values of a column as JSON strings; beyond: PG_FAILURE_TOO_LARGE */

/* *ret_json: one row for each of the first `rows` values that is not NULL, in their order, freed by the caller; NULL if
 * there is none. type: SQL_TYPE_SERVER. */
int sql_server_encode(const struct pg_result *result, int rows, int column, struct sql_types *types,
                      const struct sql_type *type, struct pg_transaction *tx, struct pg_result **ret_json,
                      struct pg_error *error) MUST_CHECK;

#endif
