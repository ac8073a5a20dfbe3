#include "runtime/host/database.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

void database_init(struct database *database, struct pg_pool *pool, struct arena *arena, int64_t deadline_ms)
{
    memset(database, 0, offsetof(struct database, error));
    database->arena = arena;
    database->pool = pool;
    database->deadline_ms = deadline_ms;
    pg_error_clear(&database->error);
    pthread_mutex_init(&database->mutex, NULL);
    pthread_cond_init(&database->cancelled, NULL);
}

void database_begin(struct database *database, bool read_only)
{
    database->failed = database->commit_failed = database->ended = database->called_late = false;
    database->read_only = read_only;
    database->reads_within = false;
    database->savepoints = 0;
    atomic_store(&database->committed, false);
    database->runs = 0;
    pg_error_clear(&database->error);
    if (database->pool == NULL)
        return;
    pthread_mutex_lock(&database->mutex);
    if (database->shared == NULL) {
        database->transaction = pg_transaction_new(database->pool, read_only, database->deadline_ms);
        pg_transaction_set_local(database->transaction, database->settings, database->setting_count);
    } else {
        database->transaction = database->shared;
        pg_transaction_set_deadline(database->transaction, database->deadline_ms);
        if (pg_part_begin(database->transaction, database->settings, database->setting_count,
                          &database->error) != 0)
            database->failed = true;
    }
    pthread_mutex_unlock(&database->mutex);
}

static int keep_error(struct database *database, const struct pg_error *error)
{
    database->failed = true;
    database->error = *error;
    return -1;
}

void database_read_within(struct database *database)
{
    struct pg_error error;

    if (database->transaction == NULL)
        return;
    database->read_only = database->reads_within = true;
    if (pg_savepoint_read_only(database->transaction, &error) != 0)
        (void)keep_error(database, &error);
}

/* From here on the transaction may write again. Savepoints that the handler left open end too. */
static int end_reading(struct database *database, struct pg_transaction *transaction, struct pg_error *error)
{
    if (!database->reads_within)
        return 0;
    database->read_only = database->reads_within = false;
    for (; database->savepoints >= 0; database->savepoints--)
        if (pg_savepoint_release(transaction, error) != 0)
            return -1;
    return 0;
}

int database_read_no_more(struct database *database)
{
    struct pg_error error;

    return end_reading(database, database->transaction, &error) != 0 ? keep_error(database, &error) : 0;
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

    if (database->pool == NULL)
        return NULL;
    pthread_mutex_lock(&database->mutex);
    while (database->cancelling)
        pthread_cond_wait(&database->cancelled, &database->mutex);
    transaction = steal_ptr(&database->transaction);
    pthread_mutex_unlock(&database->mutex);
    return transaction;
}

/* The handler has returned. The error of what is undone is its own. */
static int end_shared(struct database *database, bool keep)
{
    struct pg_error error;

    pg_transaction_free_results(database->shared);
    if (pg_part_end(database->shared, keep, &error) == 0 || !keep)
        return 0;
    database->error = error;
    database->failed = true;
    return -1;
}

int database_end(struct database *database, bool commit)
{
    struct pg_transaction *transaction = take_transaction(database);
    int rc = 0;

    if (transaction == NULL)
        return 0;
    if (database->shared != NULL)
        return end_shared(database, commit);
    if (pg_transaction_used(transaction) && !database->ended) {
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
    int rc = end_reading(database, transaction, &database->error);

    if (rc == 0)
        rc = pg_query_commit(transaction, sql, param_count, params, /* ret_result= */ NULL, &database->error);
    pg_transaction_free(transaction);
    database->failed = rc != 0;
    return rc;
}

/* rc: of the COMMIT. */
static int note_commit(struct database *database, int rc, const struct pg_error *error)
{
    if (rc != 0) {
        database->error = *error;
        database->failed = database->commit_failed = true;
        return -1;
    }
    database->ended = true;
    atomic_store(&database->committed, true);
    return 0;
}

int database_commit(struct database *database)
{
    struct pg_transaction *transaction = database->transaction; /* its owner's read */
    struct pg_error error;
    int rc = 0;

    if (database->failed || database->reading)
        return -1;
    if (database->ended)
        return 0;
    if (transaction != NULL && pg_transaction_used(transaction))
        rc = pg_transaction_commit(transaction, &error);
    return note_commit(database, rc, &error);
}

int database_commit_with(struct database *database, const char *sql, int param_count,
                         const char *const *params)
{
    struct pg_error error;
    int rc;

    if (database->failed || database->reading)
        return -1;
    if (database->ended)
        return 0;
    rc = end_reading(database, database->transaction, &error);
    if (rc == 0)
        rc = pg_query_commit(database->transaction, sql, param_count, params, NULL, &error);
    return note_commit(database, rc, &error);
}

void database_roll_back(struct database *database)
{
    if (database->transaction != NULL && !database->ended)
        pg_transaction_rollback(database->transaction);
    database->ended = true;
}

void database_prolong(struct database *database, int64_t deadline_ms)
{
    database->deadline_ms = deadline_ms;
    if (database->transaction != NULL)
        pg_transaction_set_deadline(database->transaction, deadline_ms);
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

/* The parameters of one statement in PostgreSQL's text form. */
struct texts {
    const char *at[CICADA_PARAMS_MAX];
    char numbers[CICADA_PARAMS_MAX][32];
};

/* NULL is SQL NULL. False: a kind that only a newer runtime knows. */
static bool param_text(const struct cicada_param *param, char number[32], const char **ret_text)
{
    *ret_text = number;
    switch (param->kind) {
    case CICADA_PARAM_NULL:
        *ret_text = NULL;
        return true;
    case CICADA_PARAM_TEXT:
        *ret_text = param->text;
        return true;
    case CICADA_PARAM_INT64:
        format_int64(param->integer, number);
        return true;
    case CICADA_PARAM_DOUBLE:
        snprintf(number, 32, "%.17g", param->number);
        return true;
    case CICADA_PARAM_BOOL:
        *ret_text = param->integer ? "t" : "f";
        return true;
    default:
        return false;
    }
}

static int read_params(struct database *database, const struct cicada_param *params, size_t param_count,
                       struct texts *texts)
{
    size_t bytes = 0;

    if (param_count > CICADA_PARAMS_MAX)
        return refuse(database, "the statement has too many parameters");
    for (size_t i = 0; i < param_count; i++) {
        if (!param_text(&params[i], texts->numbers[i], &texts->at[i]))
            return refuse(database, "a parameter has a kind that this runtime does not know");
        bytes += texts->at[i] ? strlen(texts->at[i]) : 0;
    }
    return bytes > DATABASE_PARAM_MAX_BYTES ? refuse(database, "the parameters are too large") : 0;
}

/* 0: the handler may use the transaction. */
static int check_usable(struct database *database)
{
    if (database->failed)
        return -1;
    if (database->ended) {
        database->called_late = true;
        database->error =
            (struct pg_error){.failure = PG_FAILURE_REFUSED, .message = "the transaction has ended already"};
        return -1;
    }
    if (database->transaction == NULL) /* its owner's read: nobody else changes it */
        return refuse(database, "this function has no database (spec.database)");
    if (database->reading)
        return refuse(database, "the database is busy with the rows that are being read");
    return 0;
}

static int check_statement(struct database *database, const char *sql, const struct cicada_param *params,
                           size_t param_count, struct texts *texts)
{
    if (check_usable(database) != 0)
        return -1;
    if (strlen(sql) > DATABASE_SQL_MAX_BYTES)
        return refuse(database, "the statement is too long");
    return read_params(database, params, param_count, texts);
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
    struct pg_error error;
    int rc;

    pg_error_clear(&error);
    if (database->failed)
        return -1;
    database->runs++;
    rc = commit ? pg_run_commit(database->transaction, command, ret_result, &error)
                : pg_run(database->transaction, command, ret_result, &error);
    if (rc != 0)
        return keep_error(database, &error);
    if (commit) {
        database->ended = true;
        atomic_store(&database->committed, !database->read_only);
    }
    return 0;
}

int database_query(struct database *database, const struct cicada_calls *calls, const char *sql,
                   const struct cicada_param *params, size_t param_count, struct cicada_result **ret_result)
{
    struct texts texts;
    struct pg_result *rows = NULL;

    if (ret_result != NULL)
        *ret_result = NULL;
    if (check_statement(database, sql, params, param_count, &texts) != 0 ||
        database_run(database, sql, (int)param_count, texts.at, ret_result != NULL ? &rows : NULL) != 0)
        return -1;
    if (ret_result == NULL)
        return 0;
    *ret_result = arena_alloc(database->arena, sizeof(**ret_result));
    (*ret_result)->calls = calls;
    (*ret_result)->rows = rows;
    return 0;
}

struct reading {
    const struct cicada_calls *calls;
    cicada_row_fn *each;
    void *arg;
};

static int hand_over_row(void *arg, const struct pg_result *row)
{
    const struct reading *reading = arg;
    const struct cicada_result result = {.calls = reading->calls, .rows = row};

    return reading->each(reading->arg, &result) == CICADA_OK ? 0 : -1;
}

int database_query_each(struct database *database, const struct cicada_calls *calls, const char *sql,
                        const struct cicada_param *params, size_t param_count, cicada_row_fn *each, void *arg)
{
    struct reading reading = {calls, each, arg};
    struct texts texts;
    struct pg_error error = {0};
    int rc;

    if (check_statement(database, sql, params, param_count, &texts) != 0)
        return -1;
    if (!database->read_only)
        return refuse(database, "rows are read one by one only in handlers declared CICADA_READ_ONLY");
    database->reading = true;
    rc = pg_query_each(database->transaction, sql, (int)param_count, texts.at, hand_over_row, &reading,
                       &error);
    database->reading = false;
    if (rc != 0 && !database->failed) /* else by a call that was refused meanwhile */
        return keep_error(database, &error);
    return database->failed ? -1 : 0;
}

int database_savepoint(struct database *database)
{
    struct pg_error error = {0};

    if (check_usable(database) != 0)
        return -1;
    if (pg_savepoint(database->transaction, &error) != 0)
        return keep_error(database, &error);
    database->savepoints++;
    return 0;
}

int database_savepoint_release(struct database *database)
{
    struct pg_error error = {0};

    if (check_usable(database) != 0)
        return -1;
    if (database->savepoints == 0)
        return refuse(database, "there is no savepoint");
    if (pg_savepoint_release(database->transaction, &error) != 0)
        return keep_error(database, &error);
    database->savepoints--;
    return 0;
}

/* The last error stays to be read, but it is no failure any more. */
int database_savepoint_rollback(struct database *database)
{
    struct pg_error error = {0};
    bool failed = database->failed;

    database->failed = false;
    if (check_usable(database) != 0 ||
        (failed && (database->savepoints == 0 || database->error.failure != PG_FAILURE_SQL))) {
        database->failed = database->failed || failed;
        return -1;
    }
    if (database->savepoints == 0)
        return refuse(database, "there is no savepoint");
    if (pg_savepoint_rollback(database->transaction, &error) != 0)
        return keep_error(database, &error);
    database->savepoints--;
    return 0;
}

int database_part_begin(struct database *database, const struct pg_setting *settings, int setting_count)
{
    struct pg_error error = {0};

    if (check_usable(database) != 0)
        return -1;
    if (pg_part_begin(database->transaction, settings, setting_count, &error) != 0)
        return keep_error(database, &error);
    database->savepoints_before = database->savepoints;
    database->savepoints = 0;
    return 0;
}

int database_part_end(struct database *database, bool keep)
{
    struct pg_error error = {0};

    database->savepoints = database->savepoints_before;
    if (pg_part_end(database->transaction, keep, &error) != 0)
        return database->failed ? -1 : keep_error(database, &error);
    if (!keep)
        database->failed = false;
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
