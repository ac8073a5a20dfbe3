#include "runtime/sql/sql_text.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/postgres/sql_guard.h"
#include "runtime/postgres/sql_lexer.h"

#define TEXT_MAX_BYTES (1u << 20) /* of a statement; the source is far shorter */

/* First words of statements that change the schema or need to be outside of a transaction. */
static const char *const refused_words[] = {
    "create", "alter",   "drop",    "grant",   "revoke", "comment", "security",   "reassign",
    "import", "reindex", "refresh", "cluster", "vacuum", "analyze", "checkpoint",
};

struct parser {
    const char *source;
    struct sql_text *text;
    struct sql_statement *statement; /* the one being read */
    struct strbuf out;               /* its text */
    const char *copied;              /* the source up to here is in it */
    size_t mark_alloc;
    int bracket_depth;
    bool after_comma; /* the token before was a comma */
    struct err *err;
};

void sql_text_place(const char *source, size_t offset, int *ret_line, int *ret_column)
{
    *ret_line = *ret_column = 1;
    for (size_t i = 0; i < offset && source[i] != '\0'; i++) {
        if (source[i] == '\n') {
            ++*ret_line;
            *ret_column = 1;
        } else if (((unsigned char)source[i] & 0xC0) != 0x80) {
            ++*ret_column;
        }
    }
}

static int fail_at(const struct parser *parser, const char *at, const char *why)
{
    int line, column;

    sql_text_place(parser->source, (size_t)(at - parser->source), &line, &column);
    return err_set(parser->err, ERR_INVALID, "line %d, column %d: %s", line, column, why);
}

/* ---- the statement's text ---- */

static void add_mark(struct parser *parser, const char *source)
{
    struct sql_statement *statement = parser->statement;

    if (statement->mark_count == parser->mark_alloc) {
        parser->mark_alloc = parser->mark_alloc > 0 ? 2 * parser->mark_alloc : 16;
        statement->marks = xreallocarray(statement->marks, parser->mark_alloc, sizeof(*statement->marks));
    }
    statement->marks[statement->mark_count++] =
        (struct sql_mark){parser->out.len, (size_t)(source - parser->source)};
}

static void copy_until(struct parser *parser, const char *end)
{
    strbuf_append(&parser->out, parser->copied, (size_t)(end - parser->copied));
    parser->copied = end;
}

/* ---- parameters ---- */

static size_t name_len(const char *p)
{
    size_t len = 0;

    if (isalpha((unsigned char)p[0]) || p[0] == '_')
        while (isalnum((unsigned char)p[len]) || p[len] == '_')
            len++;
    return len;
}

/* Its place among the names of the function; -1: there are too many. */
static int name_index(struct sql_text *text, const char *name, size_t len)
{
    for (int i = 0; i < text->name_count; i++)
        if (strlen(text->names[i]) == len && memcmp(text->names[i], name, len) == 0)
            return i;
    if (text->name_count == SQL_NAMES_MAX)
        return -1;
    text->names[text->name_count] = xstrndup(name, len);
    return text->name_count++;
}

/* n of the statement's $n for that name. */
static int param_number(struct sql_statement *statement, int name)
{
    for (int i = 0; i < statement->param_count; i++)
        if (statement->params[i] == name)
            return i + 1;
    if (statement->params == NULL)
        statement->params = xcalloc(SQL_NAMES_MAX, sizeof(*statement->params));
    statement->params[statement->param_count++] = name;
    return statement->param_count;
}

/* colon: where the parameter begins; *text moves behind it. */
static int take_parameter(struct parser *parser, const char *colon, const char *name, size_t len,
                          const char *end, const char **text)
{
    int index;

    if (len > SQL_NAME_MAX_BYTES)
        return fail_at(parser, colon, "a parameter's name has at most 63 characters");
    if (name[len] == '$' || (unsigned char)name[len] >= 0x80)
        return fail_at(parser, colon, "a parameter's name has only letters of ASCII, digits and '_'");
    index = name_index(parser->text, name, len);
    if (index < 0)
        return fail_at(parser, colon, "more than 256 different parameters");
    copy_until(parser, colon);
    add_mark(parser, colon);
    strbuf_appendf(&parser->out, "$%d", param_number(parser->statement, index));
    parser->copied = end;
    add_mark(parser, end);
    *text = end;
    return 0;
}

/* p is at a ':' outside of strings and comments. */
static int take_colon(struct parser *parser, const char *p, const char **text)
{
    size_t len = name_len(p + 1);

    if (p[1] == ':') { /* a cast */
        *text = p + 2;
        return 0;
    }
    if (p[1] == '(' && (len = name_len(p + 2)) > 0 && p[2 + len] == ')')
        return take_parameter(parser, p, p + 2, len, p + 3 + len, text);
    if (parser->bracket_depth > 0) {
        if (len > 0 && parser->after_comma)
            return fail_at(parser, p, "within brackets a parameter is written :(name)");
        return 0; /* of a slice */
    }
    if (p[1] == '\'' || p[1] == '"')
        return fail_at(parser, p, "a parameter is written :name, without quotes: it is a value, never text");
    return len > 0 ? take_parameter(parser, p, p + 1, len, p + 1 + len, text) : 0;
}

/* ---- statements ---- */

static int begin_statement(struct parser *parser, const char *at)
{
    struct sql_text *text = parser->text;

    if (text->statement_count == SQL_STATEMENTS_MAX)
        return fail_at(parser, at, "more than 8 statements");
    parser->statement = &text->statements[text->statement_count++];
    parser->mark_alloc = 0;
    parser->copied = at;
    parser->bracket_depth = 0;
    strbuf_clear(&parser->out);
    add_mark(parser, at);
    return 0;
}

static int end_statement(struct parser *parser, const char *end)
{
    const char *begin = parser->source + parser->statement->marks[0].source;
    struct sql_guard_report report;

    copy_until(parser, end);
    parser->statement->text = xstrndup(parser->out.buf, parser->out.len);
    sql_guard_check(parser->statement->text, &report);
    parser->statement = NULL;
    return report.refusal != NULL ? fail_at(parser, begin, report.refusal) : 0;
}

static int check_first_word(const struct parser *parser, const struct sql_token *token)
{
    for (size_t i = 0; i < ARRAY_SIZE(refused_words); i++)
        if (sql_token_is(token, refused_words[i]))
            return fail_at(parser, token->start, "a function does not change the schema or maintain tables");
    return 0;
}

static int take_token(struct parser *parser, const struct sql_token *token, const char **text)
{
    char c = token->start[0];
    int rc = 0;

    if (token->kind == SQL_OTHER && c == '$' && isdigit((unsigned char)token->start[1]))
        return fail_at(parser, token->start, "write :name, not $n");
    if (token->kind == SQL_OTHER && c == '[')
        parser->bracket_depth++;
    else if (token->kind == SQL_OTHER && c == ']' && parser->bracket_depth > 0)
        parser->bracket_depth--;
    else if (token->kind == SQL_OTHER && c == ':')
        rc = take_colon(parser, token->start, text);
    parser->after_comma = token->kind == SQL_COMMA;
    return rc;
}

static int parse(struct parser *parser)
{
    const char *text = parser->source;

    for (;;) {
        struct sql_token token = sql_lexer_next(&text);
        bool ends = token.kind == SQL_END || token.kind == SQL_SEMICOLON;

        if (ends && parser->statement != NULL && end_statement(parser, token.start) != 0)
            return -1;
        if (token.kind == SQL_END)
            break;
        if (ends)
            continue;
        if (parser->statement == NULL &&
            (check_first_word(parser, &token) != 0 || begin_statement(parser, token.start) != 0))
            return -1;
        if (take_token(parser, &token, &text) != 0)
            return -1;
    }
    if (parser->text->statement_count == 0)
        return fail_at(parser, parser->source, "there is no statement");
    return 0;
}

int sql_text_parse(const char *source, struct sql_text *ret_text, struct err *err)
{
    struct parser parser = {.source = source, .text = ret_text, .copied = source, .err = err};
    int rc;

    memset(ret_text, 0, sizeof(*ret_text));
    strbuf_init(&parser.out, TEXT_MAX_BYTES);
    rc = parse(&parser);
    strbuf_release(&parser.out);
    if (rc != 0)
        sql_text_release(ret_text);
    return rc;
}

void sql_text_release(struct sql_text *text)
{
    for (int i = 0; i < text->name_count; i++)
        free(text->names[i]);
    for (int i = 0; i < text->statement_count; i++) {
        free(text->statements[i].text);
        free(text->statements[i].params);
        free(text->statements[i].marks);
    }
    memset(text, 0, sizeof(*text));
}

size_t sql_statement_source(const struct sql_statement *statement, size_t characters)
{
    const struct sql_mark *mark = &statement->marks[0];
    size_t at = 0;

    for (size_t left = characters > 0 ? characters - 1 : 0; left > 0 && statement->text[at] != '\0'; left--)
        do
            at++;
        while (((unsigned char)statement->text[at] & 0xC0) == 0x80);
    for (size_t i = 1; i < statement->mark_count && statement->marks[i].at <= at; i++)
        mark = &statement->marks[i];
    return mark->source + (at - mark->at);
}
