/* Any text is read to its end; what comes out of it holds the promises of sql_text.h. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/postgres/sql_guard.h"
#include "runtime/postgres/sql_lexer.h"
#include "runtime/sql/sql_text.h"

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* The text from one mark to the next is the author's, but for parameters, which are $n there and begin with ':' here. */
static void check_marks(const struct sql_text *text, const struct sql_statement *statement)
{
    size_t len = strlen(statement->text);

    for (size_t i = 0; i < statement->mark_count; i++) {
        const struct sql_mark *mark = &statement->marks[i];
        size_t end = i + 1 < statement->mark_count ? statement->marks[i + 1].at : len;

        require(mark->at <= end && mark->source <= strlen(text->source));
        if (i % 2 == 1) {
            long number = strtol(statement->text + mark->at + 1, NULL, 10);
            require(statement->text[mark->at] == '$' && text->source[mark->source] == ':');
            require(number >= 1 && number <= statement->param_count);
        } else { /* a blank may stand before the parameter that follows */
            size_t piece = end - mark->at;
            bool same = strncmp(statement->text + mark->at, text->source + mark->source, piece) == 0;
            require(same ||
                    (piece > 0 && statement->text[end - 1] == ' ' &&
                     strncmp(statement->text + mark->at, text->source + mark->source, piece - 1) == 0));
        }
    }
}

/* The server will find as many parameters as were put in, each as a token of its own. */
static void check_parameters(const struct sql_statement *statement)
{
    const char *at = statement->text;
    size_t count = 0;

    for (;;) {
        struct sql_token token = sql_lexer_next(&at);
        if (token.kind == SQL_END)
            break;
        count += token.kind == SQL_OTHER && token.start[0] == '$' && token.len > 1;
    }
    require(count == statement->mark_count / 2);
}

static void check_places(const struct sql_text *text, const struct sql_statement *statement)
{
    size_t len = strlen(text->source), before = 0;

    for (size_t characters = 1; characters <= strlen(statement->text) + 2; characters++) {
        size_t source = sql_statement_source(statement, characters);
        int line, column;

        require(source >= before && source <= len);
        before = source;
        if (characters % 16 != 1)
            continue; /* counting from the start of the text each time is slow */
        sql_text_place(text->source, source, &line, &column);
        require(line >= 1 && column >= 1);
    }
}

static void check(const struct sql_text *text)
{
    require(text->statement_count >= 1 && text->statement_count <= SQL_STATEMENTS_MAX);
    for (int i = 0; i < text->name_count; i++) {
        require(sql_text_find(text, text->names[i]) == i);
        require(text->names[i][strspn(text->names[i], NAME_CHARACTERS)] == '\0' && text->names[i][0] != '\0');
    }
    for (int i = 0; i < text->statement_count; i++) {
        const struct sql_statement *statement = &text->statements[i];
        struct sql_guard_report report;

        sql_guard_check(statement->text, &report);
        require(report.refusal == NULL);
        for (int p = 0; p < statement->param_count; p++)
            require(statement->params[p] >= 0 && statement->params[p] < text->name_count);
        check_marks(text, statement);
        check_parameters(statement);
        if (strlen(statement->text) < 2000)
            check_places(text, statement);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *source = xstrndup((const char *)data, size);
    struct sql_text text;
    struct err err = ERR_INIT;

    if (sql_text_parse(source, &text, &err) != 0) {
        require(err.code == ERR_INVALID && err.msg[0] != '\0');
        return 0;
    }
    check(&text);
    sql_text_release(&text);
    return 0;
}
