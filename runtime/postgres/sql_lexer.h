/* sql_lexer.h - PostgreSQL's tokens, as far as the guard needs them. Comments and white space are skipped.
 *
 * Text without an end (a quote, a comment) is taken to the end of the input: the server will refuse it.
 */
#ifndef CICADA_POSTGRES_SQL_LEXER_H
#define CICADA_POSTGRES_SQL_LEXER_H

#include <stdbool.h>
#include <stddef.h>

enum sql_token_kind {
    SQL_END,
    SQL_WORD,   /* keyword or identifier without quotes */
    SQL_QUOTED, /* identifier in double quotes, U& included */
    SQL_STRING, /* any quoting of a string */
    SQL_OPEN,   /* ( */
    SQL_CLOSE,  /* ) */
    SQL_COMMA,
    SQL_SEMICOLON,
    SQL_OTHER, /* a number, a parameter ($1), a character of an operator */
};

struct sql_token {
    enum sql_token_kind kind;
    const char *start;
    size_t len;
};

/* Reads the token at *text, which moves behind it. */
struct sql_token sql_lexer_next(const char **text);

bool sql_token_is(const struct sql_token *token, const char *word); /* a WORD, compared without case */
bool sql_token_starts(const struct sql_token *token, const char *prefix);

#endif
