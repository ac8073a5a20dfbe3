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

/* For those below. */
bool sql_token_equals(const struct sql_token *token, const char *word);
bool sql_token_begins(const struct sql_token *token, const char *prefix);

/* A WORD that begins with this lower-case letter. Each token of each statement is compared with dozens of words, and almost all
 * of these differ here. */
static inline bool sql_token_may_be(const struct sql_token *token, char letter)
{
    return token->kind == SQL_WORD && (*token->start | 0x20) == letter;
}

/* A WORD, compared without case with one in lower case. */
static inline bool sql_token_is(const struct sql_token *token, const char *word)
{
    return sql_token_may_be(token, *word) && sql_token_equals(token, word);
}
static inline bool sql_token_starts(const struct sql_token *token, const char *prefix)
{
    return sql_token_may_be(token, *prefix) && sql_token_begins(token, prefix);
}

#endif
