#include "runtime/postgres/sql_lexer.h"

#include "runtime/base/text.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_word_part(char c)
{
    return is_word_start(c) || is_digit(c) || c == '$';
}

static const char *skip_line(const char *p)
{
    return p + strcspn(p, "\r\n");
}

/* p is behind the first slash and star. */
static const char *skip_block_comment(const char *p)
{
    for (size_t depth = 1; *p && depth > 0;) {
        if (p[0] == '/' && p[1] == '*') {
            depth++;
            p += 2;
        } else if (p[0] == '*' && p[1] == '/') {
            depth--;
            p += 2;
        } else {
            p++;
        }
    }
    return p;
}

static const char *skip_blank(const char *p)
{
    for (;;) {
        if (is_space(*p))
            p++;
        else if (p[0] == '-' && p[1] == '-')
            p = skip_line(p);
        else if (p[0] == '/' && p[1] == '*')
            p = skip_block_comment(p + 2);
        else
            return p;
    }
}

/* p is behind the opening quote; a doubled quote stands for one. */
static const char *skip_quoted(const char *p, char quote, bool backslashes)
{
    while (*p) {
        bool escaped = *p == '\\' && backslashes && p[1];
        bool doubled = *p == quote && p[1] == quote;
        if (*p == quote && !doubled)
            return p + 1;
        p += escaped || doubled ? 2 : 1;
    }
    return p;
}

/* The opening quote of a further piece of the same string, which must be on another line; NULL: there is none. */
static const char *continued(const char *p)
{
    bool newline = false;
    for (;;) {
        if (is_space(*p)) {
            newline |= *p == '\n' || *p == '\r';
            p++;
        } else if (p[0] == '-' && p[1] == '-') {
            p = skip_line(p);
        } else {
            return newline && *p == '\'' ? p : NULL;
        }
    }
}

/* E'...': backslashes escape, also in the pieces that follow. */
static const char *skip_escape_string(const char *p)
{
    while (p && *p == '\'') {
        const char *end = skip_quoted(p + 1, '\'', true);
        p = continued(end);
        if (!p)
            return end;
    }
    return p;
}

/* $tag$...$tag$; NULL: this dollar does not open one. */
static const char *skip_dollar_quoted(const char *p)
{
    const char *tag_end = p + 1;
    if (is_word_start(*tag_end)) {
        while (is_word_part(*tag_end) && *tag_end != '$')
            tag_end++;
    }
    if (*tag_end != '$')
        return NULL;
    size_t tag_len = (size_t)(tag_end - p) + 1;
    for (const char *close = strchr(p + tag_len, '$'); close; close = strchr(close + 1, '$')) {
        if (strncmp(close, p, tag_len) == 0)
            return close + tag_len;
    }
    return p + strlen(p);
}

static enum sql_token_kind single_kind(char c)
{
    switch (c) {
    case '(':
        return SQL_OPEN;
    case ')':
        return SQL_CLOSE;
    case ',':
        return SQL_COMMA;
    case ';':
        return SQL_SEMICOLON;
    default:
        return SQL_OTHER;
    }
}

static struct sql_token word_token(const char *p)
{
    const char *end = p;
    while (is_word_part(*end))
        end++;
    bool one_letter = end - p == 1;
    if (one_letter && (*p == 'e' || *p == 'E') && *end == '\'')
        return (struct sql_token){SQL_STRING, p, (size_t)(skip_escape_string(end) - p)};
    if (one_letter && (*p == 'u' || *p == 'U') && end[0] == '&' && end[1] == '"')
        return (struct sql_token){SQL_QUOTED, p, (size_t)(skip_quoted(end + 2, '"', false) - p)};
    return (struct sql_token){SQL_WORD, p, (size_t)(end - p)};
}

static struct sql_token token_at(const char *p)
{
    if (*p == '\0')
        return (struct sql_token){SQL_END, p, 0};
    if (is_word_start(*p))
        return word_token(p);
    if (*p == '"')
        return (struct sql_token){SQL_QUOTED, p, (size_t)(skip_quoted(p + 1, '"', false) - p)};
    if (*p == '\'')
        return (struct sql_token){SQL_STRING, p, (size_t)(skip_quoted(p + 1, '\'', false) - p)};
    if (*p == '$') {
        const char *end = skip_dollar_quoted(p);
        if (end)
            return (struct sql_token){SQL_STRING, p, (size_t)(end - p)};
        return (struct sql_token){SQL_OTHER, p, 1 + strspn(p + 1, "0123456789")};
    }
    if (is_digit(*p)) {
        const char *end = p;
        while ((is_word_part(*end) && *end != '$') || *end == '.')
            end++;
        return (struct sql_token){SQL_OTHER, p, (size_t)(end - p)};
    }
    return (struct sql_token){single_kind(*p), p, 1};
}

struct sql_token sql_lexer_next(const char **text)
{
    struct sql_token token = token_at(skip_blank(*text));
    *text = token.start + token.len;
    return token;
}

bool sql_token_equals(const struct sql_token *token, const char *word)
{
    return ascii_equal_nocase(token->start, token->len, word);
}

bool sql_token_begins(const struct sql_token *token, const char *prefix)
{
    size_t len = strlen(prefix);
    return token->len >= len && ascii_equal_nocase(token->start, len, prefix);
}
