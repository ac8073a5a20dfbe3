#include "runtime/host/database.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"

void database_init(struct database *database, struct pg_pool *pool, struct arena *arena, int64_t deadline_ms)
{
    memset(database, 0, sizeof(*database));
    database->arena = arena;
    database->pool = pool;
    database->deadline_ms = deadline_ms;
    pthread_mutex_init(&database->mutex, NULL);
    pthread_cond_init(&database->cancelled, NULL);
}

void database_begin(struct database *database, bool read_only)
{
    database->failed = database->committed = false;
    database->error = (struct pg_error){.failure = PG_FAILURE_NONE};
    if (database->pool == NULL)
        return;
    pthread_mutex_lock(&database->mutex);
    database->transaction = pg_transaction_new(database->pool, read_only, database->deadline_ms);
    pthread_mutex_unlock(&database->mutex);
}

void database_release(struct database *database)
{
    pthread_cond_destroy(&database->cancelled);
    pthread_mutex_destroy(&database->mutex);
}

/* Takes the transaction out of reach of database_cancel(). */
static struct pg_transaction *take_transaction(struct database *database)
{
    struct pg_transaction *transaction;

    pthread_mutex_lock(&database->mutex);
    while (database->cancelling)
        pthread_cond_wait(&database->cancelled, &database->mutex);
    transaction = steal_ptr(&database->transaction);
    pthread_mutex_unlock(&database->mutex);
    return transaction;
}

int database_end(struct database *database, bool commit)
{
    struct pg_transaction *transaction = take_transaction(database);
    int rc = 0;

    if (transaction == NULL)
        return 0;
    if (pg_transaction_used(transaction) && !database->committed) {
        if (commit)
            rc = pg_transaction_commit(transaction, &database->error);
        else
            pg_transaction_rollback(transaction);
    }
    pg_transaction_free(transaction);
    if (rc != 0)
        database->failed = true;
    return rc;
}

int database_end_with(struct database *database, const char *sql, int param_count, const char *const *params)
{
    struct pg_transaction *transaction = take_transaction(database);
    int rc = pg_query_commit(transaction, sql, param_count, params, /* ret_result= */ NULL, &database->error);

    pg_transaction_free(transaction);
    database->failed = rc != 0;
    return rc;
}

void database_cancel(struct database *database)
{
    struct pg_transaction *transaction;

    pthread_mutex_lock(&database->mutex);
    transaction = database->transaction;
    database->cancelling = transaction != NULL;
    pthread_mutex_unlock(&database->mutex);
    if (transaction == NULL)
        return;
    pg_transaction_cancel(transaction);
    pthread_mutex_lock(&database->mutex);
    database->cancelling = false;
    pthread_cond_broadcast(&database->cancelled);
    pthread_mutex_unlock(&database->mutex);
}

static int refuse(struct database *database, const char *message)
{
    if (!database->failed) {
        database->failed = true;
        database->error = (struct pg_error){.failure = PG_FAILURE_REFUSED};
        snprintf(database->error.message, sizeof(database->error.message), "%s", message);
    }
    return -1;
}

/* PostgreSQL's text form of one parameter; NULL is SQL NULL. False: a kind that only a newer runtime knows. */
static bool param_text(struct arena *arena, const struct cicada_param *param, const char **ret_text)
{
    char *text;

    switch (param->kind) {
    case CICADA_PARAM_NULL:
        *ret_text = NULL;
        return true;
    case CICADA_PARAM_TEXT:
        *ret_text = param->text;
        return true;
    case CICADA_PARAM_INT64:
        *ret_text = text = arena_alloc(arena, 24);
        snprintf(text, 24, "%" PRId64, param->integer);
        return true;
    case CICADA_PARAM_DOUBLE:
        *ret_text = text = arena_alloc(arena, 32);
        snprintf(text, 32, "%.17g", param->number);
        return true;
    case CICADA_PARAM_BOOL:
        *ret_text = param->integer ? "t" : "f";
        return true;
    default:
        return false;
    }
}

int database_run(struct database *database, const char *sql, int param_count, const char *const *params,
                 struct pg_result **ret_result)
{
    const struct pg_command command = {.sql = sql, .param_count = param_count, .params = params};

    return database_execute(database, &command, /* commit= */ false, ret_result);
}

int database_execute(struct database *database, const struct pg_command *command, bool commit,
                     struct pg_result **ret_result)
{
    struct pg_error error = {0};
    int rc;

    if (database->failed)
        return -1;
    rc = commit ? pg_run_commit(database->transaction, command, ret_result, &error)
                : pg_run(database->transaction, command, ret_result, &error);
    if (rc == 0) {
        database->committed = commit;
        return 0;
    }
    database->failed = true;
    database->error = error;
    return -1;
}

int database_query(struct database *database, const struct cicada_calls *calls, const char *sql,
                   const struct cicada_param *params, size_t param_count, struct cicada_result **ret_result)
{
    const char *texts[CICADA_PARAMS_MAX];
    struct pg_result *rows = NULL;
    size_t bytes = 0;

    *ret_result = NULL;
    if (database->failed)
        return -1;
    if (database->transaction == NULL) /* its owner's read: nobody else changes it */
        return refuse(database, "this function has no database (spec.database)");
    if (param_count > CICADA_PARAMS_MAX || strlen(sql) > DATABASE_SQL_MAX_BYTES)
        return refuse(database, "the statement is too long or has too many parameters");
    for (size_t i = 0; i < param_count; i++) {
        if (!param_text(database->arena, &params[i], &texts[i]))
            return refuse(database, "a parameter has a kind that this runtime does not know");
        bytes += texts[i] ? strlen(texts[i]) : 0;
    }
    if (bytes > DATABASE_PARAM_MAX_BYTES)
        return refuse(database, "the parameters are too large");
    if (database_run(database, sql, (int)param_count, texts, &rows) != 0)
        return -1;
    *ret_result = arena_alloc(database->arena, sizeof(**ret_result));
    (*ret_result)->calls = calls;
    (*ret_result)->rows = rows;
    return 0;
}

int32_t result_rows(const struct cicada_result *result)
{
    return pg_result_rows(result->rows);
}

int32_t result_columns(const struct cicada_result *result)
{
    return pg_result_columns(result->rows);
}

int64_t result_affected(const struct cicada_result *result)
{
    return pg_result_affected(result->rows);
}

int32_t result_column(const struct cicada_result *result, const char *name)
{
    return pg_result_column(result->rows, name);
}

const char *result_column_name(const struct cicada_result *result, int32_t column)
{
    return column >= 0 && column < result_columns(result) ? pg_result_column_name(result->rows, column)
                                                          : NULL;
}

const char *result_text(const struct cicada_result *result, int32_t row, int32_t column, size_t *ret_len)
{
    size_t len = 0;
    const char *text = NULL;

    if (row >= 0 && row < result_rows(result) && column >= 0 && column < result_columns(result) &&
        !pg_result_is_null(result->rows, row, column))
        text = pg_result_value(result->rows, row, column, &len);
    if (ret_len != NULL)
        *ret_len = len;
    return text;
}
