#include "runtime/postgres/sql_guard.h"

#include <stddef.h>

#include "runtime/base/mem.h"
#include "runtime/postgres/sql_lexer.h"

#define TRANSACTION_CONTROL "transaction control belongs to the runtime"
#define SESSION_STATE       "session state outlives the transaction"
#define PREPARED            "statements are prepared by the runtime"

/* First words that are refused whatever follows. */
static const struct {
    const char *word, *refusal;
} refused[] = {
    {"begin", TRANSACTION_CONTROL},
    {"start", TRANSACTION_CONTROL},
    {"commit", TRANSACTION_CONTROL},
    {"end", TRANSACTION_CONTROL},
    {"rollback", TRANSACTION_CONTROL},
    {"abort", TRANSACTION_CONTROL},
    {"savepoint", TRANSACTION_CONTROL},
    {"release", TRANSACTION_CONTROL},
    {"prepare", PREPARED},
    {"execute", PREPARED},
    {"deallocate", PREPARED},
    {"discard", SESSION_STATE},
    {"reset", SESSION_STATE},
    {"listen", SESSION_STATE},
    {"unlisten", SESSION_STATE},
    {"load", SESSION_STATE},
    {"copy", "COPY is not supported; use INSERT or SELECT"},
};

static const char *const preparable_words[] = {
    "select", "insert", "update", "delete", "merge", "with", "values", "table", "call",
};

/* Functions that leave something in the session, by the start of their names. */
static const char *const session_functions[] = {
    "pg_advisory_lock", "pg_try_advisory_lock", "setseed", "dblink_connect", "pg_replication_origin_session",
};

struct guard {
    struct sql_token first, previous,
        before_previous; /* first: the first word; the others: of the statement so far */
    size_t count;        /* tokens of the statement so far */
    int depth;           /* of parentheses */
    int body_depth;      /* of BEGIN ATOMIC ... END and the CASEs in it */
    int config_depth;    /* of the parentheses of set_config(...), 0: outside */
    bool temporary, dropped_at_commit;
    bool ended; /* a semicolon was seen */
};

static const char *check_set(const struct guard *guard, const struct sql_token *token)
{
    if (guard->count == 1) {
        if (sql_token_is(token, "local") || sql_token_is(token, "constraints"))
            return NULL;
        return sql_token_is(token, "transaction") ? TRANSACTION_CONTROL
                                                  : "SET outlives the transaction; use SET LOCAL";
    }
    /* SET LOCAL transaction_read_only = off would undo READ ONLY; a quoted name could hide that. */
    if (guard->count == 2 && sql_token_is(&guard->previous, "local")) {
        if (sql_token_starts(token, "transaction"))
            return TRANSACTION_CONTROL;
        if (token->kind == SQL_QUOTED)
            return "SET LOCAL: write the parameter's name without quotes";
    }
    return NULL;
}

static const char *check_first(const struct sql_token *token)
{
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        if (sql_token_is(token, refused[i].word))
            return refused[i].refusal;
    }
    return NULL;
}

/* BEGIN ATOMIC ... END holds statements with semicolons of their own (psql counts in the same way). */
static void count_body(struct guard *guard, const struct sql_token *token)
{
    if (guard->depth > 0 || !sql_token_is(&guard->first, "create"))
        return;
    if (sql_token_is(token, "atomic") && sql_token_is(&guard->previous, "begin"))
        guard->body_depth = 1;
    else if (guard->body_depth > 0 && sql_token_is(token, "case"))
        guard->body_depth++;
    else if (guard->body_depth > 0 && sql_token_is(token, "end"))
        guard->body_depth--;
}

static bool is_session_function(const struct sql_token *token)
{
    for (size_t i = 0; i < ARRAY_SIZE(session_functions); i++) {
        if (sql_token_starts(token, session_functions[i]))
            return true;
    }
    return false;
}

/* CREATE TEMP TABLE, CREATE OR REPLACE TEMP VIEW, CREATE LOCAL TEMP..., SELECT ... INTO TEMP */
static bool is_temporary(const struct guard *guard, const struct sql_token *token)
{
    static const char *const before[] = {"create", "replace", "local", "global"};
    if (!sql_token_is(token, "temp") && !sql_token_is(token, "temporary"))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
        if (sql_token_is(&guard->previous, before[i]))
            return true;
    }
    return sql_token_is(&guard->previous, "into") && !sql_token_is(&guard->first, "insert");
}

/* set_config(name, value, true) ends with the transaction; with anything else in the third place it may not. */
static bool is_lasting_set_config(struct guard *guard, const struct sql_token *token)
{
    if (token->kind == SQL_OPEN && sql_token_is(&guard->previous, "set_config")) {
        /* A call in the arguments of another: not looked into. */
        bool nested = guard->config_depth > 0;
        guard->config_depth = guard->depth + 1;
        return nested;
    }
    if (token->kind != SQL_CLOSE || guard->config_depth == 0 || guard->config_depth != guard->depth)
        return false;
    guard->config_depth = 0;
    return !sql_token_is(&guard->previous, "true") || guard->before_previous.kind != SQL_COMMA;
}

/* Does this token, after those before it, leave something behind in the session? */
static bool changes_session(struct guard *guard, const struct sql_token *token)
{
    guard->temporary |= is_temporary(guard, token) ||
                        (sql_token_is(token, "pg_temp") && sql_token_is(&guard->first, "create"));
    guard->dropped_at_commit |= sql_token_is(token, "drop") && sql_token_is(&guard->previous, "commit");
    return is_lasting_set_config(guard, token) || is_session_function(token) ||
           (sql_token_is(token, "hold") && sql_token_is(&guard->previous, "with"));
}

static const char *check_token(struct guard *guard, const struct sql_token *token,
                               struct sql_guard_report *report)
{
    if (guard->ended)
        return "more than one statement in a text";
    const char *refusal = NULL;
    if (guard->count == 0) {
        guard->first = *token;
        refusal = check_first(token);
    } else if (sql_token_is(&guard->first, "set")) {
        refusal = check_set(guard, token);
    }
    count_body(guard, token);
    if (sql_token_is(token, "set_config") || is_temporary(guard, token) ||
        (guard->count == 0 && (sql_token_is(token, "set") || sql_token_is(token, "declare"))))
        report->changes_transaction = true;
    if (changes_session(guard, token))
        report->changes_session = true;
    if (token->kind == SQL_OPEN)
        guard->depth++;
    else if (token->kind == SQL_CLOSE && guard->depth > 0)
        guard->depth--;
    guard->before_previous = guard->previous;
    guard->previous = *token;
    guard->count++;
    return refusal;
}

static bool is_preparable(const struct guard *guard)
{
    for (size_t i = 0; i < ARRAY_SIZE(preparable_words); i++) {
        if (sql_token_is(&guard->first, preparable_words[i]))
            return true;
    }
    return guard->first.kind == SQL_OPEN; /* (SELECT ...) UNION ... */
}

static bool is_query(const struct guard *guard)
{
    static const char *const words[] = {"select", "values", "table", "with"};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (sql_token_is(&guard->first, words[i]))
            return true;
    }
    return guard->first.kind == SQL_OPEN;
}

void sql_guard_check(const char *sql, struct sql_guard_report *ret_report)
{
    struct guard guard = {0};
    *ret_report = (struct sql_guard_report){0};
    for (;;) {
        struct sql_token token = sql_lexer_next(&sql);
        if (token.kind == SQL_END)
            break;
        if (token.kind == SQL_SEMICOLON && guard.depth == 0 && guard.body_depth == 0) {
            guard.ended = guard.count > 0;
            continue;
        }
        ret_report->refusal = check_token(&guard, &token, ret_report);
        if (ret_report->refusal)
            return;
    }
    if (guard.count == 0)
        ret_report->refusal = "the statement is empty";
    if (guard.temporary && !guard.dropped_at_commit)
        ret_report->changes_session = true;
    ret_report->preparable = is_preparable(&guard);
    ret_report->is_query = is_query(&guard);
}
