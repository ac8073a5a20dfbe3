/* pg_error.h - filling struct pg_error from inside. */
#ifndef CICADA_POSTGRES_PG_ERROR_H
#define CICADA_POSTGRES_PG_ERROR_H

#include "runtime/postgres/postgres.h"
#include "runtime/postgres/pq_api.h"

void pg_error_set(struct pg_error *error, enum pg_failure failure, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* From an error of the server: SQLSTATE, primary message, constraint. Never DETAIL, which holds values of rows; in messages
 * about data (class 22), what stands between quotes is a value too and is left out. */
void pg_error_set_result(struct pg_error *error, enum pg_failure failure, const PGresult *result);

#endif
