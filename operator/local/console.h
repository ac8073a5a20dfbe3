/* console.h - what cicada-local says: lines, and on a terminal a table below them that is kept up to date.
 *
 * Lines of processes begin with the process' name; those that are JSON log lines of ours are made readable. What is written to a
 * terminal goes above the table.
 *
 * Threads: any.
 */
#ifndef CICADA_LOCAL_CONSOLE_H
#define CICADA_LOCAL_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/log.h"

#define CONSOLE_LINE_MAX_BYTES  16384
#define CONSOLE_TABLE_MAX_BYTES 65536

struct console;

/* fd: borrowed. has_table: if that is a terminal. */
struct console *console_new(int fd, bool has_table);
void console_free(struct console *console); /* NULL is fine; the table is left as it is */

void console_say(struct console *console, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* About a Function. */
void console_event(struct console *console, const char *function, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void console_process_line(struct console *console, const char *process, const char *text, size_t len);
/* Fits log_set_sink(). */
void console_log(void *arg, enum log_level level, const char *object, const char *message);

bool console_has_table(const struct console *console);
/* Rows and columns of the terminal; 24 and 80 if it does not say. */
void console_size(const struct console *console, int *ret_rows, int *ret_columns);
/* The lines of the table, each ended by a newline; the old ones are replaced. Empty: there is none from now on. */
void console_set_table(struct console *console, const char *lines);

#endif
