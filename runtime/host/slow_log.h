/* slow_log.h - a line for each statement that took long: its text, never a parameter or a row.
 *
 * A line has the members of every log line and statement, durationMs, rows and, if it failed, code and sqlstate. It is
 * written at level warn.
 *
 * Threads: any.
 */
#ifndef CICADA_HOST_SLOW_LOG_H
#define CICADA_HOST_SLOW_LOG_H

#include "runtime/postgres/postgres.h"

#define SLOW_LOG_STATEMENT_MAX_BYTES 2048

/* For struct pg_pool_settings. */
void slow_log_write(const struct pg_slow_statement *slow);

#endif
