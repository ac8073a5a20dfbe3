#include "runtime/sql/sql_text.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/postgres/sql_guard.h"
#include "runtime/postgres/sql_lexer.h"

#define TEXT_MAX_BYTES (SQL_SOURCE_MAX_BYTES * 4) /* of a statement: ":a" may become " $256" */

#define DDL     "a function does not change the schema or maintain tables"
#define CURSORS "cursors are not supported: the rows of the last statement are the answer"

/* First words of statements that change the schema, need to be outside of a transaction, or give rows that no description
 * tells of. */
static const struct {
    const char *word, *refusal;
} refused_words[] = {
    {"create", DDL},      {"alter", DDL},     {"drop", DDL},     {"grant", DDL},     {"revoke", DDL},
    {"comment", DDL},     {"security", DDL},  {"reassign", DDL}, {"import", DDL},    {"reindex", DDL},
    {"refresh", DDL},     {"cluster", DDL},   {"vacuum", DDL},   {"analyze", DDL},   {"checkpoint", DDL},
    {"declare", CURSORS}, {"fetch", CURSORS}, {"move", CURSORS}, {"close", CURSORS},
};

static const struct {
    const char *name;
    enum sql_reserved reserved;
} reserved_names[] = {
    {"_body", SQL_RESERVED_BODY}, {"_query", SQL_RESERVED_QUERY}, {"_headers", SQL_RESERVED_HEADERS},
    {"_path", SQL_RESERVED_PATH}, {"_event", SQL_RESERVED_EVENT}, {"_events", SQL_RESERVED_EVENTS},
};

struct parser {
    const char *source;
    struct sql_text *text;
    struct sql_statement *statement; /* the one being read */
    struct strbuf out;               /* its text */
    const char *copied;              /* the source up to here is in it */
    size_t mark_alloc;
    int depth;                            /* of parentheses and brackets */
    bool is_bracket[SQL_NESTING_MAX];     /* by depth, from 0 */
    bool has_select[SQL_NESTING_MAX + 1]; /* by depth: the word was there, since it was entered */
    struct sql_token previous;            /* of the statement; kind SQL_END: none */
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
    for (size_t i = 0; i < ARRAY_SIZE(reserved_names); i++)
        if (strcmp(text->names[text->name_count], reserved_names[i].name) == 0)
            text->reserved[text->name_count] = reserved_names[i].reserved;
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

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
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
    if (parser->out.len > 0 &&
        is_word(parser->out.buf[parser->out.len - 1])) /* else "a:b" becomes a name, a$1 */
        strbuf_append_char(&parser->out, ' ');
    add_mark(parser, colon);
    strbuf_appendf(&parser->out, "$%d", param_number(parser->statement, index));
    if (is_word(*end)) /* else ":(a)2" would become $12 */
        strbuf_append_char(&parser->out, ' ');
    parser->copied = end;
    add_mark(parser, end);
    *text = end;
    return 0;
}

static bool is_directly_in_brackets(const struct parser *parser)
{
    return parser->depth > 0 && parser->is_bracket[parser->depth - 1];
}

/* p is at a ':' outside of strings and comments. */
static int take_colon(struct parser *parser, const char *p, const char **text)
{
    size_t len = name_len(p + 1);
    size_t inner_len = p[1] == '(' ? name_len(p + 2) : 0;

    if (p > parser->source && p[-1] == ':') /* of a cast */
        return 0;
    if (inner_len > 0 && p[2 + inner_len] == ')')
        return take_parameter(parser, p, p + 2, inner_len, p + 3 + inner_len, text);
    if (is_directly_in_brackets(parser)) {
        if (len > 0 && parser->previous.kind == SQL_COMMA)
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
    parser->depth = 0;
    parser->has_select[0] = false;
    parser->previous = (struct sql_token){.kind = SQL_END};
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
        if (sql_token_is(token, refused_words[i].word))
            return fail_at(parser, token->start, refused_words[i].refusal);
    return 0;
}

/* SELECT ... INTO t makes a table; after the words and marks below INTO is something else, and so it is without a SELECT between the
 * same parentheses: what that is, the server knows (INSERRT INTO). */
static bool is_select_into(const struct parser *parser, const struct sql_token *token)
{
    const struct sql_token *previous = &parser->previous;

    return sql_token_is(token, "into") && parser->has_select[parser->depth] &&
           !sql_token_is(previous, "insert") && !sql_token_is(previous, "merge") &&
           !sql_token_is(previous, "as") && !(previous->kind == SQL_OTHER && previous->start[0] == '.');
}

static bool is_numbered(const struct sql_token *token)
{
    return token->kind == SQL_OTHER && token->start[0] == '$' && token->len > 1;
}

static int count_nesting(struct parser *parser, const struct sql_token *token)
{
    bool bracket = token->kind == SQL_OTHER && strchr("[]", token->start[0]) != NULL;

    if (token->kind == SQL_OPEN || (bracket && token->start[0] == '[')) {
        if (parser->depth == SQL_NESTING_MAX)
            return fail_at(parser, token->start, "more than 1000 parentheses and brackets within each other");
        parser->is_bracket[parser->depth++] = bracket;
        parser->has_select[parser->depth] = false;
    } else if ((token->kind == SQL_CLOSE || bracket) && parser->depth > 0) {
        parser->depth--;
    }
    return 0;
}

static int take_token(struct parser *parser, const struct sql_token *token, const char **text)
{
    int rc = count_nesting(parser, token);

    if (rc == 0 && is_numbered(token))
        rc = fail_at(parser, token->start, "write :name, not $n");
    if (rc == 0 && is_select_into(parser, token))
        rc = fail_at(parser, token->start, "SELECT INTO makes a table: " DDL);
    if (rc == 0 && token->kind == SQL_OTHER && token->start[0] == ':')
        rc = take_colon(parser, token->start, text);
    parser->has_select[parser->depth] |= sql_token_is(token, "select");
    parser->previous = *token;
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

/* By insertion: there are few, and it is done once. */
static void sort_names(struct sql_text *text)
{
    for (int i = 0; i < text->name_count; i++) {
        int at = i;

        for (; at > 0 && strcmp(text->names[text->sorted[at - 1]], text->names[i]) > 0; at--)
            text->sorted[at] = text->sorted[at - 1];
        text->sorted[at] = i;
    }
}

int sql_text_parse(const char *source, struct sql_text *ret_text, struct err *err)
{
    size_t len = strnlen(source, SQL_SOURCE_MAX_BYTES + 1);
    struct parser *parser;
    int rc;

    memset(ret_text, 0, sizeof(*ret_text));
    if (len > SQL_SOURCE_MAX_BYTES)
        return err_set(err, ERR_INVALID, "the text is longer than %u bytes", SQL_SOURCE_MAX_BYTES);
    if (!is_valid_utf8(source, len))
        return err_set(err, ERR_INVALID, "the text is not UTF-8");
    ret_text->source = xstrdup(source);
    parser = xcalloc(1, sizeof(*parser));
    parser->source = parser->copied = ret_text->source;
    parser->text = ret_text;
    parser->err = err;
    strbuf_init(&parser->out, TEXT_MAX_BYTES);
    rc = parse(parser);
    strbuf_release(&parser->out);
    free(parser);
    if (rc != 0)
        sql_text_release(ret_text);
    else
        sort_names(ret_text);
    return rc;
}

int sql_text_find(const struct sql_text *text, const char *name)
{
    int first = 0, end = text->name_count;

    while (first < end) {
        int middle = (first + end) / 2;
        int order = strcmp(text->names[text->sorted[middle]], name);

        if (order == 0)
            return text->sorted[middle];
        if (order < 0)
            first = middle + 1;
        else
            end = middle;
    }
    return -1;
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
    free(text->source);
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
