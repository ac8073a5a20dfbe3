/* sql_text.h - the text of an SQL function, taken apart: its statements, with `:name` replaced by `$n`, and where each piece
 * came from.
 *
 * A parameter is ':' and a name of [A-Za-z_][A-Za-z0-9_]*, but not behind another ':', and directly within brackets, where a
 * ':' is that of a slice, only if it is written `:(name)`. What stands in strings of any quoting, quoted identifiers and
 * comments is left alone. `$n`, `:'name'` and `:"name"` are refused, and so are what sql_guard.h refuses, DDL and cursors.
 *
 * Nothing of a value ever gets into the text: values travel as parameters.
 *
 * Ownership: sql_text_release() frees all. Threads: read-only after sql_text_parse().
 */
#ifndef CICADA_SQL_SQL_TEXT_H
#define CICADA_SQL_SQL_TEXT_H

#include <stddef.h>

#include "runtime/base/err.h"

#define SQL_SOURCE_MAX_BYTES (64u << 10)
#define SQL_STATEMENTS_MAX   8
#define SQL_NAMES_MAX        256 /* different parameters of one function */
#define SQL_NAME_MAX_BYTES   63
#define SQL_NESTING_MAX      1000 /* of parentheses and brackets */

/* Names that stand for parts of the request as a whole, as jsonb. */
enum sql_reserved {
    SQL_RESERVED_NONE,
    SQL_RESERVED_BODY,
    SQL_RESERVED_QUERY,
    SQL_RESERVED_HEADERS,
    SQL_RESERVED_PATH,
    SQL_RESERVED_EVENT,
    SQL_RESERVED_EVENTS,
};

/* From `at` in the statement's text on, it is the author's text from `source` on. */
struct sql_mark {
    size_t at, source;
};

struct sql_statement {
    char *text;  /* what the server gets */
    int *params; /* $1 is names[params[0]], and so on; each name once */
    int param_count;
    struct sql_mark *marks;
    size_t mark_count;
};

struct sql_text {
    char *names[SQL_NAMES_MAX]; /* in the order of their first use */
    enum sql_reserved reserved[SQL_NAMES_MAX];
    int sorted[SQL_NAMES_MAX]; /* places in `names`, by name */
    int name_count;
    struct sql_statement statements[SQL_STATEMENTS_MAX];
    int statement_count;
    char *source; /* the author's text */
};

/* ERR_INVALID: "line 2, column 7: ...". *ret_text needs no release then. */
int sql_text_parse(const char *source, struct sql_text *ret_text, struct err *err) MUST_CHECK;
void sql_text_release(struct sql_text *text);

/* The place of a name among `names`; -1: no statement uses it. */
int sql_text_find(const struct sql_text *text, const char *name);

/* Where a place in a statement is in the author's text, in bytes. characters: as the server counts, from 1; 0: its start. */
size_t sql_statement_source(const struct sql_statement *statement, size_t characters);
/* Line and column in characters, from 1. */
void sql_text_place(const char *source, size_t offset, int *ret_line, int *ret_column);

#endif
