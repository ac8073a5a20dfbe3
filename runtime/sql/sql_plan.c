#include "runtime/sql/sql_plan.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"

#define JSONB_OID         3802
#define MESSAGE_MAX_BYTES 400

/* ---- what the author is told ---- */

static int reject_at(const struct sql_text *text, size_t source, struct err *err, const char *why)
{
    int line, column;

    sql_text_place(text->source, source, &line, &column);
    return err_set(err, ERR_INVALID, "line %d, column %d: %s", line, column, why);
}

/* n of "$n" at p, and how long that is; 0: there is none of this statement. */
static int number_at(const struct sql_statement *statement, const char *p, size_t *ret_len)
{
    char *end;
    long number;

    if (p[0] != '$' || !isdigit((unsigned char)p[1]))
        return 0;
    number = strtol(p + 1, &end, 10);
    *ret_len = (size_t)(end - p);
    return number >= 1 && number <= statement->param_count ? (int)number : 0;
}

static const char *name_of(const struct sql_text *text, const struct sql_statement *statement, int number)
{
    return text->names[statement->params[number - 1]];
}

/* The server's words, with the author's names for $n. */
static void put_message(const struct sql_text *text, const struct sql_statement *statement,
                        const char *message, struct strbuf *out)
{
    for (const char *p = message; *p != '\0';) {
        size_t len = 1;
        int number = number_at(statement, p, &len);

        if (number > 0)
            strbuf_appendf(out, ":%s", name_of(text, statement, number));
        else
            strbuf_append(out, p, len = 1);
        p += len;
    }
}

/* Where in the statement's text an error is. */
static const char *place_of(const struct sql_statement *statement, const struct pg_error *error)
{
    const char *p = statement->text;

    for (int left = error->position - 1; left > 0 && *p != '\0'; left--)
        do
            p++;
        while (((unsigned char)*p & 0xC0) == 0x80);
    return p;
}

/* n of the parameter that an error is about, by its place or else by its words; 0: none is to be seen. */
static int find_parameter(const struct sql_statement *statement, const struct pg_error *error)
{
    size_t len;
    int number = error->position > 0 ? number_at(statement, place_of(statement, error), &len) : 0;

    for (const char *p = error->message; *p != '\0' && number == 0; p++)
        number = number_at(statement, p, &len);
    return number;
}

/* Where $n stands first in the author's text. */
static size_t parameter_source(const struct sql_statement *statement, int number)
{
    size_t len;

    for (size_t i = 0; i < statement->mark_count; i++)
        if (number_at(statement, statement->text + statement->marks[i].at, &len) == number)
            return statement->marks[i].source;
    return statement->marks[0].source;
}

static bool is_untyped(const struct pg_error *error)
{
    return strcmp(error->sqlstate, "42P18") == 0 || strcmp(error->sqlstate, "42P08") == 0;
}

/* A ':' that the server stumbles over stood in brackets: elsewhere it would have been a parameter. */
static bool is_slice(const char *place, const struct pg_error *error)
{
    return strcmp(error->sqlstate, "42601") == 0 && place[0] == ':' &&
           (isalpha((unsigned char)place[1]) || place[1] == '_');
}

static int reject(const struct sql_text *text, const struct sql_statement *statement,
                  const struct pg_error *error, struct err *err)
{
    size_t source = sql_statement_source(statement, (size_t)error->position);
    int number = is_untyped(error) ? find_parameter(statement, error) : 0;
    const char *name = number > 0 ? name_of(text, statement, number) : NULL;
    CLEANUP_STRBUF struct strbuf message;

    if (number > 0 && error->position == 0)
        source = parameter_source(statement, number);
    strbuf_init(&message, MESSAGE_MAX_BYTES);
    put_message(text, statement, error->message, &message);
    if (name != NULL)
        strbuf_appendf(&message, "; write :%s::type, such as :%s::text", name, name);
    else if (is_slice(place_of(statement, error), error))
        strbuf_append_str(&message, "; within brackets a parameter is written :(name)");
    if (error->sqlstate[0] != '\0')
        strbuf_appendf(&message, " (%s)", error->sqlstate);
    return reject_at(text, source, err, message.buf);
}

/* ---- what the server is asked ---- */

static int describe(const struct sql_text *text, const struct sql_statement *statement,
                    struct pg_transaction *tx, struct pg_description *ret_description, struct pg_error *error)
{
    unsigned types[SQL_NAMES_MAX] = {0};
    const struct pg_command command = {
        .sql = statement->text, .param_count = statement->param_count, .param_types = types};

    for (int i = 0; i < statement->param_count; i++)
        types[i] = text->reserved[statement->params[i]] != SQL_RESERVED_NONE ? JSONB_OID : 0;
    return pg_describe(tx, &command, ret_description, error);
}

/* The errors of a server that is busy, leaving or away say nothing about the statement. */
static bool is_passing(const struct pg_error *error)
{
    int status = pg_error_http_status(error);

    return status == 503 || status == 504;
}

static enum sql_plan_outcome describe_all(const struct sql_text *text, struct pg_transaction *tx,
                                          struct sql_plan *plan, struct pg_error *error, struct err *err)
{
    for (int i = 0; i < text->statement_count; i++) {
        const struct sql_statement *statement = &text->statements[i];
        struct pg_description *description = &plan->statements[i];

        if (describe(text, statement, tx, description, error) != 0) {
            if (is_passing(error))
                return SQL_PLAN_UNAVAILABLE;
            reject(text, statement, error, err);
            return SQL_PLAN_REJECTED;
        }
        plan->statement_count++;
        if (description->param_count != statement->param_count) {
            reject_at(text, statement->marks[0].source, err, "a parameter stands where no value can");
            return SQL_PLAN_REJECTED;
        }
    }
    return SQL_PLAN_READY;
}

const struct pg_description *sql_plan_last(const struct sql_plan *plan)
{
    return &plan->statements[plan->statement_count - 1];
}

const char *sql_plan_misfit(enum sql_result result, int column_count, const char *const *names,
                            const char **ret_name)
{
    *ret_name = NULL;
    if (result == SQL_RESULT_NONE)
        return NULL;
    if (result == SQL_RESULT_VALUE)
        return column_count == 1 ? NULL : "result: Value needs a last statement that gives one column";
    if (result == SQL_RESULT_ROW && column_count == 0)
        return "result: Row needs a last statement that gives rows (RETURNING)";
    for (int i = 1; i < column_count; i++)
        for (int before = 0; before < i; before++)
            if (strcmp(names[i], names[before]) == 0) {
                *ret_name = names[i];
                return "two columns of the result have this name; give one another, with AS";
            }
    return NULL;
}

static int check_columns(const struct sql_text *text, enum sql_result result, const struct sql_plan *plan,
                         struct err *err)
{
    const struct pg_description *last = sql_plan_last(plan);
    size_t source = text->statements[text->statement_count - 1].marks[0].source;
    char message[MESSAGE_MAX_BYTES];
    const char *name;
    const char *why =
        sql_plan_misfit(result, last->column_count, (const char *const *)last->column_names, &name);

    for (int i = 0; i < last->column_count && why == NULL && result != SQL_RESULT_NONE; i++) {
        why = sql_types_unsupported(last->column_types[i]);
        name = last->column_names[i];
    }
    if (why == NULL)
        return 0;
    snprintf(message, sizeof(message), "%s%.64s%s%s", name ? "column \"" : "", name ? name : "",
             name ? "\": " : "", why);
    return reject_at(text, source, err, message);
}

/* All types that values are made for or read from. */
static int resolve_types(struct sql_types *types, struct pg_transaction *tx, const struct sql_plan *plan,
                         struct pg_error *error)
{
    const struct pg_description *last = sql_plan_last(plan);

    for (int i = 0; i < plan->statement_count; i++)
        if (sql_types_resolve(types, tx, plan->statements[i].param_types,
                              (size_t)plan->statements[i].param_count, error) != 0)
            return -1;
    return sql_types_resolve(types, tx, last->column_types, (size_t)last->column_count, error);
}

/* That no place in the text is to blame for. */
static enum sql_plan_outcome refuse_types(const struct pg_error *error, struct err *err)
{
    bool has_state = error->sqlstate[0] != '\0';

    if (is_passing(error))
        return SQL_PLAN_UNAVAILABLE;
    err_set(err, ERR_INVALID, "the types of parameters and columns can't be looked up: %s%s%s%s",
            error->message, has_state ? " (" : "", error->sqlstate, has_state ? ")" : "");
    return SQL_PLAN_REJECTED;
}

static bool needs_server(struct sql_types *types, const struct pg_description *last)
{
    struct sql_type type;

    for (int i = 0; i < last->column_count; i++)
        if (!sql_types_get(types, last->column_types[i], &type) || type.kind == SQL_TYPE_SERVER)
            return true;
    return false;
}

enum sql_plan_outcome sql_plan_make(const struct sql_text *text, enum sql_result result,
                                    struct sql_types *types, struct pg_transaction *tx,
                                    struct sql_plan *ret_plan, struct pg_error *error, struct err *err)
{
    enum sql_plan_outcome outcome;

    memset(ret_plan, 0, sizeof(*ret_plan));
    outcome = describe_all(text, tx, ret_plan, error, err);
    if (outcome == SQL_PLAN_READY && check_columns(text, result, ret_plan, err) != 0)
        outcome = SQL_PLAN_REJECTED;
    if (outcome == SQL_PLAN_READY && resolve_types(types, tx, ret_plan, error) != 0)
        outcome = refuse_types(error, err);
    if (outcome == SQL_PLAN_READY)
        ret_plan->needs_server = needs_server(types, sql_plan_last(ret_plan));
    else
        sql_plan_release(ret_plan);
    return outcome;
}

void sql_plan_release(struct sql_plan *plan)
{
    for (int i = 0; i < plan->statement_count; i++)
        pg_description_release(&plan->statements[i]);
    plan->statement_count = 0;
}
