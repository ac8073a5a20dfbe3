/* SPDX-License-Identifier: Apache-2.0
 *
 * cicada/function_test_response.h - part of cicada/function_test.h, which includes it: the calls of the response, and what the runtime does after
 * the handler.
 */
#ifndef CICADA_FUNCTION_TEST_RESPONSE_H
#define CICADA_FUNCTION_TEST_RESPONSE_H

#include <cicada/function_test_calls.h>

/* ---- response ------------------------------------------------------------------------------------------------------ */

CT_FN void ct_mistake(struct cicada_response *res, const char *text)
{
    if (res->mistake == NULL)
        res->mistake = text;
}
CT_FN bool ct_open(struct cicada_response *res)
{
    if (res->begun)
        ct_mistake(res, "status, headers or body were set after the answer had begun");
    return !res->begun;
}
CT_FN void ct_clear(struct cicada_response *res)
{
    res->body.len = 0;
    if (res->problem)
        res->content_type = NULL;
    res->problem = res->writing = res->has_items[0] = false;
    res->depth = 0;
}
CT_FN void ct_response_status(struct cicada_response *res, int32_t status)
{
    if (!ct_open(res))
        return;
    if (status < 200 || status > 599)
        ct_mistake(res, "the status is not within 200 and 599");
    else
        res->status = status;
}
CT_FN void ct_response_header(struct cicada_response *res, const char *name, const char *value)
{
    static const char *const ours[] = {"Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive",
                                       "Upgrade",        "Trailer",           "Date",       "X-Request-Id"};

    if (!ct_open(res))
        return;
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcasecmp(name, ours[i]) == 0)
            ct_mistake(res, "the header belongs to the runtime");
    if (name[0] == '\0' || strpbrk(name, " \t\r\n:") != NULL || strpbrk(value, "\r\n") != NULL)
        ct_mistake(res, "a header's name or value has a character that is not allowed");
    else if (strcasecmp(name, "Content-Type") == 0)
        res->content_type = ct_dup(res->test, value);
    else
        ct_put(&res->headers, ct_dup(res->test, name), ct_dup(res->test, value));
}
CT_FN void ct_response_body(struct cicada_response *res, const void *data, size_t len)
{
    if (!ct_open(res))
        return;
    ct_clear(res);
    ct_append(res->test, &res->body, (const char *)data, len);
}
CT_FN void ct_response_body_take(struct cicada_response *res, void *data, size_t len, void (*release)(void *))
{
    ct_response_body(res, data, data ? len : 0);
    if (data != NULL && release != NULL)
        release(data);
}
CT_FN void ct_write_json(struct cicada_response *res, const char *name, const char *json, size_t len);
CT_FN void ct_write_quoted(struct cicada_response *res, const char *text, size_t len)
{
    char piece[8];

    ct_append(res->test, &res->body, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
        const char *found = text[i] ? strchr(from, text[i]) : NULL;
        if (found != NULL)
            snprintf(piece, sizeof(piece), "\\%c", to[found - from]);
        else if ((unsigned char)text[i] < 0x20)
            snprintf(piece, sizeof(piece), "\\u%04x", text[i]);
        else
            snprintf(piece, sizeof(piece), "%c", text[i]);
        ct_append(res->test, &res->body, piece, strlen(piece));
    }
    ct_append(res->test, &res->body, "\"", 1);
}
CT_FN bool ct_begin_value(struct cicada_response *res, const char *name)
{
    bool in_object;

    if (!res->writing) {
        ct_clear(res);
        res->writing = true;
    }
    in_object = res->depth > 0 && !res->in_array[res->depth];
    if (in_object != (name != NULL) || (res->depth == 0 && res->has_items[0])) {
        ct_mistake(
            res, "JSON: a member of an object needs a name, nothing else has one, and there is one document");
        return false;
    }
    if (res->has_items[res->depth])
        ct_append(res->test, &res->body, ",", 1);
    res->has_items[res->depth] = true;
    if (name != NULL) {
        ct_write_quoted(res, name, strlen(name));
        ct_append(res->test, &res->body, ":", 1);
    }
    return true;
}
CT_FN void ct_write_json(struct cicada_response *res, const char *name, const char *json, size_t len)
{
    if (ct_begin_value(res, name))
        ct_append(res->test, &res->body, json, len);
}
CT_FN void ct_write_begin(struct cicada_response *res, const char *name, bool array)
{
    if (!ct_begin_value(res, name))
        return;
    if (res->depth == CT_DEPTH_MAX) {
        ct_mistake(res, "JSON: too deep");
        return;
    }
    res->in_array[++res->depth] = array;
    res->has_items[res->depth] = false;
    ct_append(res->test, &res->body, array ? "[" : "{", 1);
}
CT_FN void ct_write_end(struct cicada_response *res)
{
    if (res->depth == 0)
        ct_mistake(res, "JSON: cicada_write_end() without a begin");
    else
        ct_append(res->test, &res->body, res->in_array[res->depth--] ? "]" : "}", 1);
}
CT_FN void ct_write_null(struct cicada_response *res, const char *name)
{
    ct_write_json(res, name, "null", 4);
}
CT_FN void ct_write_string(struct cicada_response *res, const char *name, const char *text, size_t len)
{
    if (text == NULL)
        ct_write_null(res, name);
    else if (ct_begin_value(res, name))
        ct_write_quoted(res, text, len == SIZE_MAX ? strlen(text) : len);
}
CT_FN void ct_write_int64(struct cicada_response *res, const char *name, int64_t value)
{
    char text[24];

    ct_write_json(res, name, text, (size_t)snprintf(text, sizeof(text), "%lld", (long long)value));
}
CT_FN void ct_write_double(struct cicada_response *res, const char *name, double value)
{
    char text[32] = "null";

    for (int digits = 15; isfinite(value) && digits <= 17; digits++) { /* the shortest that reads back */
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    ct_write_json(res, name, text, strlen(text));
}
CT_FN void ct_write_bool(struct cicada_response *res, const char *name, bool value)
{
    ct_write_json(res, name, value ? "true" : "false", value ? 4 : 5);
}
CT_FN void ct_write_raw(struct cicada_response *res, const char *name, const char *json, size_t len)
{
    if (ct_parse(res->test, ct_copy(res->test, json, len)) == NULL)
        ct_mistake(res, "JSON: cicada_write_raw(): it is no JSON");
    else
        ct_write_json(res, name, json, len);
}
CT_FN void ct_write_row(struct cicada_response *res, const char *name, const struct cicada_result *result,
                        int32_t row)
{
    if (row < 0 || row >= result->rows) {
        ct_mistake(res, "JSON: cicada_write_row(): there is no such row");
        return;
    }
    ct_write_begin(res, name, false);
    for (int32_t i = 0; i < result->columns; i++) {
        const char *text = ct_result_text(result, row, i, NULL);
        if (text != NULL && result->boolean[i])
            ct_write_bool(res, result->names[i], text[0] == 't');
        else if (text != NULL && result->json[i] &&
                 (strchr("{[\"tfn", text[0]) || isdigit((unsigned char)text[*text == '-'])))
            ct_write_json(res, result->names[i], text, strlen(text));
        else
            ct_write_string(res, result->names[i], text, SIZE_MAX);
    }
    ct_write_end(res);
}
CT_FN void ct_set_problem(struct cicada_response *res, int status, const char *code, const char *detail,
                          const char *component)
{
    char number[8];

    ct_clear(res);
    res->status = status;
    snprintf(res->code, sizeof(res->code), "%s", code);
    snprintf(number, sizeof(number), "%d", status);
    ct_write_begin(res, NULL, false);
    ct_write_json(res, "status", number, strlen(number));
    ct_write_string(res, "code", code, SIZE_MAX);
    ct_write_string(res, "detail", detail, SIZE_MAX);
    ct_write_string(res, "component", component, SIZE_MAX);
    ct_write_end(res);
    res->problem = true;
    res->content_type = "application/problem+json";
}
CT_FN void ct_response_problem(struct cicada_response *res, int32_t status, const char *code,
                               const char *detail)
{
    size_t len = strspn(code, "abcdefghijklmnopqrstuvwxyz0123456789_");

    if (!ct_open(res))
        return;
    if (status < 400 || status > 599 || len == 0 || len > 64 || code[len] != '\0')
        ct_mistake(res, "cicada_problem(): status or code");
    else
        ct_set_problem(res, status, code, detail, "function");
}
CT_FN int ct_flush(struct cicada_response *res, const void *data, size_t len)
{
    ct_append(res->test, &res->test->streamed, res->body.at, res->body.len);
    ct_append(res->test, &res->test->streamed, (const char *)data, len);
    res->body.len = 0;
    return CICADA_OK;
}
CT_FN int ct_stream_write(struct cicada_response *res, const void *data, size_t len)
{
    struct cicada_test *test = res->test;

    if (res->mistake != NULL)
        return CICADA_FAIL;
    if (!res->begun) {
        if (test->db.failed || test->request.json_malformed)
            return CICADA_FAIL;
        if (res->content_type == NULL)
            res->content_type = res->writing ? "application/json" : "application/octet-stream";
        if (!test->read_only && res->status >= 400)
            test->db.ended = true;
        else if (!test->read_only && ct_end(test) != CICADA_OK)
            return CICADA_FAIL;
        res->begun = true;
    }
    return ct_flush(res, data, len);
}

CT_FN const struct cicada_calls *ct_calls(void)
{
    static const struct cicada_calls calls = {CICADA_ABI_VERSION,
                                              sizeof(struct cicada_calls),
                                              ct_request_method,
                                              ct_request_path,
                                              ct_request_parameter,
                                              ct_request_query,
                                              ct_request_query_at,
                                              ct_request_header,
                                              ct_request_header_at,
                                              ct_request_body,
                                              ct_request_json,
                                              ct_json_type,
                                              ct_json_member,
                                              ct_json_first,
                                              ct_json_next,
                                              ct_json_count,
                                              ct_json_name,
                                              ct_json_string,
                                              ct_json_raw,
                                              ct_json_int64,
                                              ct_json_double,
                                              ct_json_bool,
                                              ct_deadline_left_ms,
                                              ct_request_id,
                                              ct_traceparent,
                                              ct_function,
                                              ct_function,
                                              ct_state,
                                              ct_log,
                                              ct_query,
                                              ct_error_sqlstate,
                                              ct_error_constraint,
                                              ct_error_message,
                                              ct_result_rows,
                                              ct_result_columns,
                                              ct_result_affected,
                                              ct_result_column,
                                              ct_result_column_name,
                                              ct_result_text,
                                              ct_response_status,
                                              ct_response_header,
                                              ct_response_body,
                                              ct_response_problem,
                                              ct_write_begin,
                                              ct_write_end,
                                              ct_write_string,
                                              ct_write_int64,
                                              ct_write_double,
                                              ct_write_bool,
                                              ct_write_null,
                                              ct_write_raw,
                                              ct_write_row,
                                              ct_savepoint,
                                              ct_savepoint_release,
                                              ct_savepoint_rollback,
                                              ct_commit,
                                              ct_query_each,
                                              ct_response_body_take,
                                              ct_stream_write,
                                              ct_event_attribute,
                                              ct_event_next,
                                              ct_event_count,
                                              ct_event_data,
                                              ct_event_json,
                                              ct_event_fail};
    return &calls;
}

/* ---- what the runtime does after the handler ------------------------------------------------------------------------ */

/* The common ones; all others are 500 `database_error` here. */
CT_FN void ct_answer_database(struct cicada_test *test)
{
    static const struct {
        const char *start;
        int status;
        const char *code;
    } known[] = {{"23505", 409, "unique_violation"},
                 {"23503", 409, "foreign_key_violation"},
                 {"23502", 422, "not_null_violation"},
                 {"23514", 422, "check_violation"},
                 {"22", 422, "data_exception"},
                 {"25006", 500, "read_only_transaction"},
                 {"42501", 403, "insufficient_privilege"},
                 {"40001", 503, "serialization_failure"},
                 {"40P01", 503, "deadlock_detected"}};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strncmp(test->db.sqlstate, known[i].start, strlen(known[i].start)) == 0) {
            ct_set_problem(&test->response, known[i].status, known[i].code, NULL, "runtime");
            return;
        }
    ct_set_problem(&test->response, 500, test->db.sqlstate[0] ? "database_error" : "statement_refused",
                   test->db.message, "runtime");
}
CT_FN void ct_settle_stream(struct cicada_test *test, int result)
{
    struct cicada_response *res = &test->response;

    test->cut = res->mistake != NULL || test->db.failed || result != CICADA_OK || res->depth > 0;
    if (!test->cut)
        (void)ct_flush(res, NULL, 0);
    if (test->read_only && !test->cut && ct_end(test) != CICADA_OK)
        test->cut = true;
}
CT_FN void ct_settle_answer(struct cicada_test *test, bool ok)
{
    struct cicada_response *res = &test->response;
    const struct ct_event *event = &test->events[0];
    bool told = !ok && res->status >= 400;

    if (test->event_count > 0 && ok && res->status < 400)
        ct_event_close(test);
    if (event->failed != 0) {
        if (event->failed > 0)
            ct_set_problem(res, event->failed, "event_failed", event->why, "runtime");
        else
            ct_answer_database(test);
        return;
    }
    if (test->db.commit_failed || (!ok && !told && (test->db.failed || test->db.called_late)))
        ct_answer_database(test); /* NOLINT(bugprone-branch-clone): the order counts */
    else if (!ok && !told)
        ct_set_problem(res, 500, "handler_failed", NULL, "runtime");
    else if (res->mistake != NULL || res->depth > 0)
        ct_set_problem(res, 500, "invalid_response", res->mistake, "runtime");
    else if (ok && res->status < 400 && test->db.failed)
        ct_set_problem(res, 500, "transaction_failed", NULL, "runtime");
    else if (ok && res->status < 400 && ct_end(test) != CICADA_OK)
        ct_answer_database(test);
}
CT_FN void ct_settle(struct cicada_test *test, int result)
{
    if (test->response.begun)
        ct_settle_stream(test, result);
    else if (test->request.json_malformed)
        ct_set_problem(&test->response, 400, "malformed_json", NULL, "runtime");
    else
        ct_settle_answer(test, result == CICADA_OK);
}

#endif
