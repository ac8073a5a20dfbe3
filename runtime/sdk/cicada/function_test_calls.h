/* SPDX-License-Identifier: Apache-2.0
 *
 * cicada/function_test_calls.h - part of cicada/function_test.h, which includes it: the calls of request, context and database.
 */
#ifndef CICADA_FUNCTION_TEST_CALLS_H
#define CICADA_FUNCTION_TEST_CALLS_H

#include <cicada/function_test_json.h>

/* ---- request and context ------------------------------------------------------------------------------------------- */

CT_FN const char *ct_request_method(const struct cicada_request *req)
{
    return strcmp(req->method, "HEAD") == 0 ? "GET" : req->method;
}
CT_FN const char *ct_request_path(const struct cicada_request *req)
{
    return req->path;
}
CT_FN const char *ct_request_parameter(const struct cicada_request *req, const char *name)
{
    return ct_find(&req->parameters, name, false);
}
CT_FN const char *ct_request_query(const struct cicada_request *req, const char *name)
{
    return ct_find(&req->query, name, false);
}
CT_FN bool ct_request_query_at(const struct cicada_request *req, size_t index, const char **ret_name,
                               const char **ret_value)
{
    return ct_at(&req->query, index, ret_name, ret_value);
}
CT_FN const char *ct_request_header(const struct cicada_request *req, const char *name)
{
    return ct_find(&req->headers, name, true);
}
CT_FN bool ct_request_header_at(const struct cicada_request *req, size_t index, const char **ret_name,
                                const char **ret_value)
{
    return ct_at(&req->headers, index, ret_name, ret_value);
}
CT_FN const char *ct_request_body(const struct cicada_request *req, size_t *ret_len)
{
    return ct_with_len(req->body.at ? req->body.at : "", req->body.len, ret_len);
}
CT_FN const struct cicada_json_node *ct_request_json(struct cicada_request *req)
{
    if (req->json == NULL && req->body.len > 0 && !req->json_malformed) {
        req->json = ct_parse(req->test, req->body.at);
        req->json_malformed = req->json == NULL;
    }
    return req->json;
}

CT_FN int64_t ct_deadline_left_ms(const struct cicada_context *ctx)
{
    (void)ctx;
    return 30000;
}
CT_FN const char *ct_request_id(const struct cicada_context *ctx)
{
    (void)ctx;
    return "test-request";
}
CT_FN const char *ct_traceparent(const struct cicada_context *ctx)
{
    (void)ctx;
    return "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
}
CT_FN const char *ct_function(const struct cicada_context *ctx)
{
    (void)ctx;
    return "test";
}
CT_FN void *ct_state(const struct cicada_context *ctx)
{
    return ctx->state;
}
CT_FN const char *ct_event_attribute(const struct cicada_context *ctx, const char *name)
{
    const struct cicada_test *test = ctx->test;
    const struct ct_event *event = &test->events[test->taken];

    if (test->event_count == 0)
        return ct_find(&test->event, name, false);
    if (!test->has_current)
        return NULL;
    return strcmp(name, "id") == 0            ? event->id
           : strcmp(name, "source") == 0      ? event->source
           : strcmp(name, "type") == 0        ? event->type
           : strcmp(name, "specversion") == 0 ? "1.0"
                                              : NULL;
}
CT_FN size_t ct_event_count(const struct cicada_context *ctx)
{
    return ctx->test->event_count > 0 ? ctx->test->event_count : ctx->test->event.count > 0;
}
/* The part of the current event ends; a query that failed has failed it. */
CT_FN void ct_event_close(struct cicada_test *test)
{
    struct ct_event *event = &test->events[test->taken];

    if (!test->has_current || test->db.ended)
        return;
    if (test->db.failed && event->failed == 0) {
        event->failed = -1;
        event->why = ct_dup(test, test->db.message);
    }
    test->db.failed = false;
    test->db.savepoints = 0;
}
CT_FN bool ct_event_next(struct cicada_context *ctx)
{
    struct cicada_test *test = ctx->test;

    if (test->event_count == 0) {
        if (test->event.count == 0 || test->has_current)
            return false;
        return test->has_current = true;
    }
    ct_event_close(test);
    test->has_current = !test->db.failed && !test->db.ended && test->taken < test->event_count;
    test->taken += test->has_current;
    return test->has_current;
}
CT_FN const char *ct_event_data(const struct cicada_context *ctx, size_t *ret_len)
{
    const struct cicada_test *test = ctx->test;
    const char *data = test->has_current ? test->events[test->taken].data : "";

    if (test->event_count == 0 && test->event.count > 0)
        return ct_request_body(&test->request, ret_len);
    return ct_with_len(data, strlen(data), ret_len);
}
CT_FN const struct cicada_json_node *ct_event_json(struct cicada_context *ctx)
{
    struct cicada_test *test = ctx->test;

    if (test->event_count == 0)
        return test->event.count > 0 ? ct_request_json(&test->request) : NULL;
    return test->has_current ? ct_parse(test, test->events[test->taken].data) : NULL;
}
CT_FN int ct_event_fail(struct cicada_context *ctx, int32_t status, const char *text)
{
    struct cicada_test *test = ctx->test;
    struct ct_event *event = &test->events[test->taken];

    if (test->db.ended || (test->event_count > 0 ? !test->has_current : test->event.count == 0) ||
        (status != 0 && (status < 400 || status > 599)))
        return CICADA_FAIL;
    if (event->failed != 0)
        return CICADA_OK;
    event->failed = status != 0 ? status : test->db.failed ? -1 : 500;
    event->why = ct_dup(test, event->failed < 0 ? test->db.message : text);
    return CICADA_OK;
}
CT_FN void ct_log(struct cicada_context *ctx, int32_t level, const char *text)
{
    (void)level;
    snprintf(ctx->log, sizeof(ctx->log), "%s", text);
}

/* ---- database ------------------------------------------------------------------------------------------------------ */

CT_FN int ct_db_fail(struct cicada_test *test, const char *sqlstate, const char *constraint,
                     const char *message)
{
    snprintf(test->db.sqlstate, sizeof(test->db.sqlstate), "%s", sqlstate);
    snprintf(test->db.constraint, sizeof(test->db.constraint), "%s", constraint);
    snprintf(test->db.message, sizeof(test->db.message), "%s", message);
    test->db.failed = true;
    test->db.failed_inside =
        sqlstate[0] != '\0' ? test->db.savepoints : 0; /* what was refused can't be taken back */
    return CICADA_FAIL;
}
CT_FN int ct_db_usable(struct cicada_test *test)
{
    if (test->db.failed)
        return CICADA_FAIL;
    if (test->db.ended) {
        test->db.called_late = true;
        test->db.sqlstate[0] = '\0';
        return CICADA_FAIL;
    }
    return test->db.reading ? ct_db_fail(test, "", "", "the database is busy with rows") : CICADA_OK;
}
CT_FN const char *ct_param_text(struct cicada_test *test, const struct cicada_param *param)
{
    char text[32];

    switch (param->kind) {
    case CICADA_PARAM_TEXT:
        return ct_dup(test, param->text);
    case CICADA_PARAM_INT64:
        snprintf(text, sizeof(text), "%lld", (long long)param->integer);
        return ct_dup(test, text);
    case CICADA_PARAM_DOUBLE:
        snprintf(text, sizeof(text), "%.17g", param->number);
        return ct_dup(test, text);
    case CICADA_PARAM_BOOL:
        return param->integer ? "t" : "f";
    default:
        return NULL;
    }
}
/* The scripted answer of a statement. */
CT_FN int ct_run(struct cicada_test *test, const char *sql, const struct cicada_param *params, size_t count,
                 struct cicada_result **ret_result)
{
    char message[160];

    if (ct_db_usable(test) != CICADA_OK)
        return CICADA_FAIL;
    if (test->statements == CT_RESULTS_MAX)
        abort();
    test->params[test->statements] = (const char **)ct_alloc(test, (count + 1) * sizeof(char *));
    for (size_t i = 0; i < count; i++)
        test->params[test->statements][i] = ct_param_text(test, &params[i]);
    test->param_counts[test->statements++] = count;
    for (size_t i = 0; i < test->script_count; i++) {
        struct ct_script *script = &test->scripts[i];
        if (script->used || strstr(sql, script->part) == NULL)
            continue;
        script->used = true;
        if (script->sqlstate != NULL)
            return ct_db_fail(test, script->sqlstate, script->constraint, "scripted");
        *ret_result = &script->result;
        return CICADA_OK;
    }
    snprintf(message, sizeof(message), "no answer is scripted for: %.100s", sql);
    return ct_db_fail(test, "", "", message);
}
CT_FN int ct_query(struct cicada_context *ctx, const char *sql, const struct cicada_param *params,
                   size_t count, struct cicada_result **ret_result)
{
    struct cicada_result *result = NULL;
    int rc = ct_run(ctx->test, sql, params, count, &result);

    if (ret_result != NULL)
        *ret_result = result;
    return rc;
}
CT_FN int ct_query_each(struct cicada_context *ctx, const char *sql, const struct cicada_param *params,
                        size_t count, cicada_row_fn *each, void *arg)
{
    struct cicada_test *test = ctx->test;
    struct cicada_result *result;

    if (ct_db_usable(test) != CICADA_OK)
        return CICADA_FAIL;
    if (!test->read_only)
        return ct_db_fail(test, "", "",
                          "rows are read one by one only in handlers declared CICADA_READ_ONLY");
    if (ct_run(test, sql, params, count, &result) != CICADA_OK)
        return CICADA_FAIL;
    test->db.reading = true;
    for (int i = 0; i < result->rows && !test->db.failed; i++) {
        struct cicada_result row = *result;
        row.first_row = i;
        row.rows = 1;
        if (each(arg, &row) != CICADA_OK && !test->db.failed)
            (void)ct_db_fail(test, "", "", "the reading of rows was ended");
    }
    test->db.reading = false;
    return test->db.failed ? CICADA_FAIL : CICADA_OK;
}
CT_FN int ct_savepoint(struct cicada_context *ctx)
{
    struct cicada_test *test = ctx->test;

    if (ct_db_usable(test) != CICADA_OK)
        return CICADA_FAIL;
    if (test->db.savepoints == CICADA_SAVEPOINTS_MAX)
        return test->db.savepoints = 0, ct_db_fail(test, "", "", "too many nested savepoints");
    test->db.savepoints++;
    return CICADA_OK;
}
CT_FN int ct_savepoint_release(struct cicada_context *ctx)
{
    struct cicada_test *test = ctx->test;

    if (ct_db_usable(test) != CICADA_OK)
        return CICADA_FAIL;
    if (test->db.savepoints == 0)
        return ct_db_fail(test, "", "", "there is no savepoint");
    test->db.savepoints--;
    return CICADA_OK;
}
CT_FN int ct_savepoint_rollback(struct cicada_context *ctx)
{
    struct cicada_test *test = ctx->test;

    if (test->db.failed && test->db.failed_inside == 0)
        return CICADA_FAIL;
    test->db.failed = false;
    return ct_savepoint_release(ctx);
}
CT_FN int ct_end(struct cicada_test *test)
{
    if (test->db.failed || test->db.reading)
        return CICADA_FAIL;
    if (test->db.ended)
        return CICADA_OK;
    if (test->commit_sqlstate != NULL && test->statements > 0) {
        test->db.savepoints = 0;
        test->db.commit_failed = true;
        return ct_db_fail(test, test->commit_sqlstate, "", "scripted");
    }
    test->db.ended = test->db.committed = true;
    return CICADA_OK;
}
CT_FN int ct_commit(struct cicada_context *ctx)
{
    return ct_end(ctx->test);
}
CT_FN const char *ct_error_sqlstate(const struct cicada_context *ctx)
{
    return ctx->test->db.sqlstate;
}
CT_FN const char *ct_error_constraint(const struct cicada_context *ctx)
{
    return ctx->test->db.constraint;
}
CT_FN const char *ct_error_message(const struct cicada_context *ctx)
{
    return ctx->test->db.message;
}
CT_FN int32_t ct_result_rows(const struct cicada_result *result)
{
    return result->rows;
}
CT_FN int32_t ct_result_columns(const struct cicada_result *result)
{
    return result->columns;
}
CT_FN int64_t ct_result_affected(const struct cicada_result *result)
{
    return result->affected;
}
CT_FN const char *ct_result_column_name(const struct cicada_result *result, int32_t column)
{
    return column >= 0 && column < result->columns ? result->names[column] : NULL;
}
CT_FN int32_t ct_result_column(const struct cicada_result *result, const char *name)
{
    for (int32_t i = 0; i < result->columns; i++)
        if (strcmp(result->names[i], name) == 0)
            return i;
    return -1;
}
CT_FN const char *ct_result_text(const struct cicada_result *result, int32_t row, int32_t column,
                                 size_t *ret_len)
{
    bool inside = row >= 0 && row < result->rows && column >= 0 && column < result->columns;
    const char *text = inside ? result->values[(result->first_row + row) * result->columns + column] : NULL;

    return ct_with_len(text, text ? strlen(text) : 0, ret_len);
}

#endif
