#include "runtime/schema/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define RELEASE_NUMBERS 3

static int64_t next_number(const char **text)
{
    size_t digits = strspn(*text, "0123456789");
    int64_t number = 0;

    (void)parse_int64_n(*text, digits, 0, INT32_MAX, &number);
    *text += digits;
    if (**text == '.')
        (*text)++;
    return number;
}

int schema_compare_releases(const char *a, const char *b)
{
    for (int i = 0; i < RELEASE_NUMBERS; i++) {
        int64_t left = next_number(&a);
        int64_t right = next_number(&b);
        if (left != right)
            return left < right ? -1 : 1;
    }
    return 0;
}

static int result_int(const struct pg_result *result, int column)
{
    int64_t value = 0;

    if (pg_result_rows(result) == 1 && !pg_result_is_null(result, 0, column))
        (void)parse_int64(pg_result_value(result, 0, column, NULL), 0, INT32_MAX, &value);
    return (int)value;
}

static void copy_text(const struct pg_result *result, int column, char *out, size_t size)
{
    if (pg_result_rows(result) == 1 && !pg_result_is_null(result, 0, column))
        snprintf(out, size, "%s", pg_result_value(result, 0, column, NULL));
}

static int ask_role(struct pg_pool *pool, int64_t deadline_ms, struct schema_view *view,
                    struct pg_error *error)
{
    struct pg_transaction *tx = pg_transaction_new(pool, /* read_only= */ true, deadline_ms);
    struct pg_result *result;
    int rc = pg_query(tx, "SELECT pg_catalog.quote_literal(current_user)", 0, NULL, &result, error);

    if (rc == 0)
        copy_text(result, 0, view->role, sizeof(view->role));
    pg_transaction_free(tx);
    return rc;
}

/* What it means that the schema's own word on its state could not be had. False: nothing, the database failed. */
static bool state_of_error(const struct pg_error *error, enum schema_state *ret_state)
{
    if (error->failure != PG_FAILURE_SQL)
        return false;
    if (strcmp(error->sqlstate, "42501") == 0)
        *ret_state = SCHEMA_FORBIDDEN;
    else if (strcmp(error->sqlstate, "3F000") == 0 || strcmp(error->sqlstate, "42883") == 0)
        *ret_state = SCHEMA_ABSENT;
    else
        return false;
    return true;
}

/* Whether it is there comes first: a server logs an error that is none to anybody. */
static int look(struct pg_transaction *tx, const char *release, struct schema_view *view,
                struct pg_error *error)
{
    struct pg_result *result;

    if (pg_query(tx, "SELECT pg_catalog.to_regprocedure('cicada.schema_state()')", 0, NULL, &result, error) !=
        0)
        return -1;
    if (pg_result_is_null(result, 0, 0)) {
        view->state = SCHEMA_ABSENT;
        return 0;
    }
    if (pg_query(tx, "SELECT version, min_runtime FROM cicada.schema_state()", 0, NULL, &result, error) != 0)
        return -1;
    view->version = result_int(result, 0);
    copy_text(result, 1, view->min_runtime, sizeof(view->min_runtime));
    if (view->version < SCHEMA_VERSION)
        view->state = SCHEMA_OLDER;
    else if (schema_compare_releases(release, view->min_runtime) < 0)
        view->state = SCHEMA_TOO_NEW;
    return 0;
}

int schema_look(struct pg_pool *pool, const char *release, int64_t deadline_ms, struct schema_view *ret_view,
                struct pg_error *error)
{
    struct pg_transaction *tx = pg_transaction_new(pool, /* read_only= */ true, deadline_ms);
    int rc;

    *ret_view = (struct schema_view){.state = SCHEMA_READY};
    rc = look(tx, release, ret_view, error);
    pg_transaction_free(tx);
    if (rc != 0 && !state_of_error(error, &ret_view->state))
        return -1;
    return ret_view->state == SCHEMA_READY ? 0 : ask_role(pool, deadline_ms, ret_view, error);
}

int schema_migrate(struct pg_pool *pool, int64_t deadline_ms, int *ret_from, int *ret_to,
                   struct pg_error *error)
{
    struct pg_transaction *tx = pg_transaction_new(pool, /* read_only= */ false, deadline_ms);
    struct pg_result *result;
    int rc = -1;

    pg_transaction_set_isolation(tx, PG_READ_COMMITTED); /* as cicada.sql wants it */
    if (pg_query(tx, schema_sql, 0, NULL, &result, error) == 0 &&
        pg_query(tx,
                 "SELECT max(version), max(version) - count(*) FILTER (WHERE installed_at = now())"
                 " FROM cicada.schema_version",
                 0, NULL, &result, error) == 0) {
        *ret_to = result_int(result, 0);
        *ret_from = result_int(result, 1);
        rc = pg_transaction_commit(tx, error);
    }
    pg_transaction_free(tx);
    return rc;
}

int schema_grant(struct pg_pool *pool, const char *role, int64_t deadline_ms, struct pg_error *error)
{
    struct pg_transaction *tx = pg_transaction_new(pool, /* read_only= */ false, deadline_ms);
    int rc = pg_query_commit(tx, "SELECT cicada.grant_to($1)", 1, &role, /* ret_result= */ NULL, error);

    pg_transaction_free(tx);
    return rc;
}

/* Whether the server's refusal of an installation stands until somebody does something about it. */
static bool is_final(const struct pg_error *error)
{
    static const char *const passing[] = {"08", "40", "53", "55", "57"};

    if (error->failure != PG_FAILURE_SQL)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(passing); i++)
        if (str_starts_with(error->sqlstate, passing[i]))
            return false;
    return true;
}

int schema_ensure(struct pg_pool *pool, const char *release, int64_t deadline_ms,
                  struct schema_view *ret_view, struct pg_error *error)
{
    int from, to;

    if (schema_look(pool, release, deadline_ms, ret_view, error) != 0)
        return -1;
    if (ret_view->state != SCHEMA_ABSENT && ret_view->state != SCHEMA_OLDER)
        return 0;
    if (schema_migrate(pool, deadline_ms, &from, &to, error) == 0)
        return schema_look(pool, release, deadline_ms, ret_view, error);
    if (!is_final(error))
        return -1;
    snprintf(ret_view->refusal, sizeof(ret_view->refusal), "%s", error->message);
    return 0;
}

void schema_explain(const struct schema_view *view, const char *release, char *ret_message, size_t size)
{
    switch (view->state) {
    case SCHEMA_READY:
        snprintf(ret_message, size, "schema cicada has version %d", view->version);
        return;
    case SCHEMA_ABSENT:
        snprintf(ret_message, size,
                 "schema cicada is not in the database: run cicada-runtime --migrate --grant-to=%s with the"
                 " DATABASE_URL of the database's owner (%s)",
                 view->role, view->refusal);
        return;
    case SCHEMA_OLDER:
        snprintf(ret_message, size,
                 "schema cicada has version %d and %d is needed: run cicada-runtime --migrate with the"
                 " DATABASE_URL of its owner (%s)",
                 view->version, SCHEMA_VERSION, view->refusal);
        return;
    case SCHEMA_FORBIDDEN:
        snprintf(ret_message, size,
                 "role %s may not use schema cicada: run SELECT cicada.grant_to(%s) as the schema's owner",
                 view->role, view->role);
        return;
    case SCHEMA_TOO_NEW:
        snprintf(ret_message, size,
                 "schema cicada has version %d, which needs runtime %s or newer: this is %s", view->version,
                 view->min_runtime, release);
        return;
    }
}
