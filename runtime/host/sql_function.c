#include "runtime/host/sql_function.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/host/accept.h"
#include "runtime/host/output.h"
#include "runtime/host/sql_bind.h"
#include "runtime/sql/sql_encode.h"

/* What a value takes in memory beside its bytes, and the least that JSON and CSV make of it: the limit of a result in memory
 * never refuses what would fit the answer, whose own limit is exact. */
#define JSON_ROOM          2  /* {"a":1}, against nine bytes more than the value */
#define CSV_ROOM           10 /* a comma, likewise */
#define RESULT_SLACK_BYTES 4096

/* One run of the statements. */
struct call {
    struct sql_function *function;
    struct invocation *invocation;
    bool csv;
    struct sql_bind bind;
    struct sql_bind_refusal refusal;
    const char *params[SQL_NAMES_MAX];
};

int sql_function_init(struct sql_function *self, const struct function_spec *spec, struct err *err)
{
    memset(self, 0, sizeof(*self));
    if (sql_text_parse(spec->sql, &self->text, err) != 0)
        return -1;
    self->spec = spec;
    self->types = sql_types_new();
    return 0;
}

void sql_function_release(struct sql_function *self)
{
    sql_plan_release(&self->plan);
    sql_text_release(&self->text);
    sql_types_free(steal_ptr(&self->types));
}

enum sql_plan_outcome sql_function_prepare(struct sql_function *self, struct pg_pool *pool,
                                           int64_t deadline_ms, struct pg_error *error, struct err *err)
{
    struct pg_transaction *transaction = pg_transaction_new(pool, /* read_only= */ true, deadline_ms);
    enum sql_plan_outcome outcome =
        sql_plan_make(&self->text, self->spec->sql_result, self->types, transaction, &self->plan, error, err);

    pg_transaction_free(transaction);
    if (outcome == SQL_PLAN_READY)
        atomic_store(&self->needs_transaction, self->plan.needs_server);
    return outcome;
}

/* ---- refusals ---- */

static int answer_problem(struct call *call, int status, const char *code, const char *detail)
{
    const struct problem problem = {.status = status, .code = code, .detail = detail, .component = "runtime"};

    response_set_problem(&call->invocation->response, &problem, /* retry_after_s= */ 0);
    return CICADA_FAIL;
}

static int answer_refusal(struct call *call)
{
    if (call->invocation->request.json_malformed)
        return CICADA_FAIL; /* the invocation tells the caller */
    return answer_problem(call, call->refusal.status, call->refusal.code, call->refusal.detail);
}

/* `invalid input syntax for type integer: ""`, `value "" is out of range for type integer`: without where the value was. */
static void print_detail(const char *name, const char *message, char *out, size_t size)
{
    const char *value = strstr(message, "\"\"");
    size_t len = value ? (size_t)(value - message) : strlen(message);

    while (value != NULL && len > 0 && strchr(": ", message[len - 1]) != NULL)
        len--;
    snprintf(out, size, "\"%s\": %.*s%s", name, (int)len, message, value ? value + 2 : "");
}

/* Errors of a value (class 22) say whose value it was, if the server has told; bad syntax is not for the table of SQLSTATEs. */
static int answer_error(struct call *call, const struct sql_statement *statement)
{
    const struct pg_error *error = &call->invocation->database.error;
    bool unreadable = strcmp(error->sqlstate, "22P02") == 0;
    char detail[sizeof(error->message) + SQL_NAME_MAX_BYTES + 8];

    if (error->parameter < 1 || error->parameter > statement->param_count)
        return CICADA_FAIL;
    print_detail(call->function->text.names[statement->params[error->parameter - 1]], error->message, detail,
                 sizeof(detail));
    return unreadable ? answer_problem(call, 400, "invalid_parameter", detail)
                      : answer_problem(call, pg_error_http_status(error), pg_error_code(error), detail);
}

/* ---- the answer ---- */

/* After DDL by others the columns may be other ones than at the start. True: they still make the promised result. */
static bool still_fits(const struct sql_function *function, const struct pg_result *result)
{
    const struct pg_description *planned = sql_plan_last(&function->plan);
    int count = pg_result_columns(result);
    CLEANUP_FREE const char **names = NULL;
    const char *name, *why;
    bool same = count == planned->column_count;

    for (int i = 0; i < count && same; i++)
        same = strcmp(pg_result_column_name(result, i), planned->column_names[i]) == 0;
    if (same)
        return true;
    names = xcalloc((size_t)count + 1, sizeof(*names));
    for (int i = 0; i < count; i++)
        names[i] = pg_result_column_name(result, i);
    why = sql_plan_misfit(function->spec->sql_result, count, names, &name);
    if (why != NULL)
        log_error("the columns of the result have changed since the start: %s%s%s", name ? name : "",
                  name ? ": " : "", why);
    return why == NULL;
}

static int encode(struct call *call, const struct pg_result *result)
{
    struct cicada_response *response = &call->invocation->response;
    struct database *database = &call->invocation->database;
    struct sql_types *types = call->function->types;
    struct pg_transaction *transaction = database->ended ? NULL : database->transaction;
    struct pg_error error = {.failure = PG_FAILURE_TOO_LARGE};
    int rc;

    if (call->csv)
        rc = sql_encode_csv(result, &response->body);
    else if (call->function->spec->sql_result == SQL_RESULT_ROWS)
        rc = sql_encode_rows(result, types, transaction, &response->body, &error);
    else if (call->function->spec->sql_result == SQL_RESULT_ROW)
        rc = sql_encode_row(result, types, transaction, &response->body, &error);
    else
        rc = sql_encode_value(result, types, transaction, &response->body, &error);
    if (rc == 0)
        return CICADA_OK;
    database->failed = true;
    database->error = error;
    return CICADA_FAIL;
}

static int answer(struct call *call, const struct pg_result *result)
{
    struct cicada_response *response = &call->invocation->response;
    enum sql_result kind = call->function->spec->sql_result;
    int rows = pg_result_rows(result);

    if (!still_fits(call->function, result))
        return answer_problem(call, 500, "result_changed", NULL);
    if (kind == SQL_RESULT_ROWS) {
        response_header(response, "Vary", "Accept");
    } else if (rows == 0) {
        return answer_problem(call, 404, "no_row", "there is no such row");
    } else if (rows > 1) {
        log_error("result: %d rows, where one is promised", rows);
        return answer_problem(call, 500, "too_many_rows", NULL);
    }
    response_header(response, "Content-Type",
                    call->csv ? "text/csv; charset=utf-8; header=present" : "application/json");
    return encode(call, result);
}

/* ---- the statements ---- */

static bool wants_csv(const struct sql_function *function, const struct cicada_request *request)
{
    struct accept_view view = {0};

    if (function->spec->sql_result != SQL_RESULT_ROWS)
        return false;
    for (size_t i = 0; i < request->headers.count; i++)
        if (http_name_is(request->headers.fields[i].name, "Accept"))
            accept_read(&view, request->headers.fields[i].value);
    return accept_wants_csv(&view);
}

static void limit_result(const struct call *call)
{
    size_t room = call->csv ? CSV_ROOM : JSON_ROOM;

    pg_transaction_limit_result(call->invocation->database.transaction,
                                call->invocation->target->response_max_bytes * room + RESULT_SLACK_BYTES);
}

static int run(struct call *call, int index, bool commit, struct pg_result **ret_result)
{
    const struct sql_statement *statement = &call->function->text.statements[index];
    const unsigned *types = call->function->plan.statements[index].param_types;
    const struct pg_command command = {.sql = statement->text,
                                       .param_count = statement->param_count,
                                       .params = call->params,
                                       .param_types = types};

    if (sql_bind_statement(&call->bind, statement, types, call->params, &call->refusal) != 0)
        return answer_refusal(call);
    if (database_execute(&call->invocation->database, &command, commit, ret_result) != 0)
        return answer_error(call, statement);
    return CICADA_OK;
}

/* A statement that reads, with its COMMIT. Should DDL have made its columns such as need the server, it is run once more, in a
 * transaction that stays open. */
static int run_reader(struct call *call)
{
    struct database *database = &call->invocation->database;
    struct pg_result *result;
    int rc = run(call, 0, /* commit= */ true, &result);

    if (rc != CICADA_OK)
        return rc;
    if (call->csv || !sql_encode_needs_server(result, call->function->types))
        return answer(call, result);
    atomic_store(&call->function->needs_transaction, true);
    (void)database_end(database, /* commit= */ true);
    database_begin(database, /* read_only= */ true);
    limit_result(call);
    rc = run(call, 0, /* commit= */ false, &result);
    return rc == CICADA_OK ? answer(call, result) : rc;
}

/* The last statement of a function without a result; its rows, if any, are nobody's. */
static int run_silent(struct call *call, int index, bool commit)
{
    struct pg_result *rows;

    response_status(&call->invocation->response, 204);
    if (commit && !invocation_begin_end(call->invocation))
        return CICADA_FAIL; /* the answer was given */
    return run(call, index, commit, commit ? NULL : &rows);
}

static int run_all(struct call *call)
{
    const struct sql_function *function = call->function;
    bool silent = function->spec->sql_result == SQL_RESULT_NONE;
    bool reads = strcmp(call->invocation->request.method, "GET") == 0;
    int last = function->text.statement_count - 1;
    struct pg_result *result;
    int rc;

    if (last == 0 && reads && !silent && (call->csv || !atomic_load(&function->needs_transaction)))
        return run_reader(call);
    for (int i = 0; i < last; i++) {
        rc = run(call, i, /* commit= */ false, &result);
        if (rc != CICADA_OK)
            return rc;
        pg_result_free(result);
    }
    /* Rows that nobody wants would still have to be read before COMMIT's answer. */
    if (silent)
        return run_silent(call, last,
                          last == 0 && call->invocation->idempotency_key == NULL &&
                              call->invocation->settlement == NULL &&
                              sql_plan_last(&function->plan)->column_count == 0);
    rc = run(call, last, /* commit= */ false, &result);
    return rc == CICADA_OK ? answer(call, result) : rc;
}

static int invoke(void *arg, struct invocation *invocation)
{
    struct sql_function *function = arg;
    struct call call;

    call.function = function;
    call.invocation = invocation;
    call.csv = !output_is_due(invocation) && wants_csv(function, &invocation->request);
    if (sql_bind_begin(&call.bind, &function->text, function->types, function->spec, &invocation->request,
                       invocation->event, &invocation->arena, &call.refusal) != 0)
        return answer_refusal(&call);
    limit_result(&call);
    return run_all(&call);
}

static bool reads_only(void *arg, const struct invocation *invocation)
{
    (void)arg;
    return strcmp(invocation->request.method, "GET") == 0; /* HEAD is GET here */
}

/* Others than `:_events` stand for what one event brings. */
static bool takes_batches(const void *arg)
{
    const struct sql_function *function = arg;

    return sql_text_find(&function->text, "_events") >= 0;
}

const struct invoker_ops sql_function_ops = {
    .invoke = invoke, .reads_only = reads_only, .takes_batches = takes_batches, .repeatable = true};
