/* sdk_calls.c - the table of functions behind runtime/sdk/cicada/function.h, and those that concern the context or JSON. */
#include <limits.h>
#include <stdio.h>

#include "runtime/base/clock.h"
#include "runtime/base/json_reader.h"
#include "runtime/base/log.h"
#include "runtime/host/context.h"
#include "runtime/host/event_calls.h"
#include "runtime/host/invocation_stream.h"
#include "runtime/host/request.h"
#include "runtime/host/response.h"
#include "runtime/host/response_json.h"

/* The SDK's node is the reader's node under a name of its own. */
static const struct json_node *node_of(const struct cicada_json_node *node)
{
    return (const struct json_node *)(const void *)node;
}

static const struct cicada_json_node *sdk_node(const struct json_node *node)
{
    return (const struct cicada_json_node *)(const void *)node;
}

static int32_t call_json_type(const struct cicada_json_node *node)
{
    switch (json_node_type(node_of(node))) {
    case JSON_NULL:
        return CICADA_JSON_NULL;
    case JSON_FALSE:
    case JSON_TRUE:
        return CICADA_JSON_BOOL;
    case JSON_NUMBER:
        return CICADA_JSON_NUMBER;
    case JSON_STRING:
        return CICADA_JSON_STRING;
    case JSON_ARRAY:
        return CICADA_JSON_ARRAY;
    case JSON_OBJECT:
        return CICADA_JSON_OBJECT;
    }
    return CICADA_JSON_ABSENT;
}

static const struct cicada_json_node *call_json_member(const struct cicada_json_node *node, const char *name)
{
    return sdk_node(json_node_member(node_of(node), name));
}

static const struct cicada_json_node *call_json_first(const struct cicada_json_node *node)
{
    return sdk_node(json_node_first(node_of(node)));
}

static const struct cicada_json_node *call_json_next(const struct cicada_json_node *node)
{
    return sdk_node(json_node_next(node_of(node)));
}

static size_t call_json_count(const struct cicada_json_node *node)
{
    return json_node_count(node_of(node));
}

/* The reader wants a place for every length, the SDK allows NULL. */
static const char *text_with_len(const char *read(const struct json_node *, size_t *),
                                 const struct cicada_json_node *node, size_t *ret_len)
{
    size_t len = 0;
    const char *text = read(node_of(node), &len);

    if (ret_len != NULL)
        *ret_len = text ? len : 0;
    return text;
}

static const char *call_json_name(const struct cicada_json_node *node, size_t *ret_len)
{
    return text_with_len(json_node_name, node, ret_len);
}

static const char *call_json_string(const struct cicada_json_node *node, size_t *ret_len)
{
    return text_with_len(json_node_string, node, ret_len);
}

static const char *call_json_raw(const struct cicada_json_node *node, size_t *ret_len)
{
    return text_with_len(json_node_raw, node, ret_len);
}

static bool call_json_int64(const struct cicada_json_node *node, int64_t *ret_value)
{
    return json_node_int64(node_of(node), ret_value);
}

static bool call_json_double(const struct cicada_json_node *node, double *ret_value)
{
    return json_node_double(node_of(node), ret_value);
}

static bool call_json_bool(const struct cicada_json_node *node, bool *ret_value)
{
    enum json_type type = json_node_type(node_of(node));

    if (type != JSON_TRUE && type != JSON_FALSE)
        return false;
    *ret_value = type == JSON_TRUE;
    return true;
}

static int64_t call_deadline_left_ms(const struct cicada_context *ctx)
{
    int64_t left = ctx->deadline_ms - clock_monotonic_ms();
    return left > 0 ? left : 0;
}

static const char *call_request_id(const struct cicada_context *ctx)
{
    return ctx->request_id;
}

static const char *call_traceparent(const struct cicada_context *ctx)
{
    return ctx->traceparent;
}

static const char *call_function(const struct cicada_context *ctx)
{
    return ctx->function;
}

static const char *call_namespace(const struct cicada_context *ctx)
{
    return ctx->namespace;
}

static void *call_state(const struct cicada_context *ctx)
{
    return ctx->state;
}

static void call_log(struct cicada_context *ctx, int32_t level, const char *text)
{
    static const enum log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR};
    int index = level < CICADA_LOG_DEBUG   ? CICADA_LOG_DEBUG
                : level > CICADA_LOG_ERROR ? CICADA_LOG_ERROR
                                           : level;

    if (index == CICADA_LOG_ERROR)
        snprintf(ctx->last_error, sizeof(ctx->last_error), "%s", text);
    if (log_enabled(levels[index]))
        log_write(levels[index], "%s", text);
}

static int answer(int rc)
{
    return rc == 0 ? CICADA_OK : CICADA_FAIL;
}

static int call_query(struct cicada_context *ctx, const char *sql, const struct cicada_param *params,
                      size_t param_count, struct cicada_result **ret_result)
{
    return answer(database_query(ctx->database, ctx->calls, sql, params, param_count, ret_result));
}

static int call_savepoint(struct cicada_context *ctx)
{
    return answer(database_savepoint(ctx->database));
}

static int call_savepoint_release(struct cicada_context *ctx)
{
    return answer(database_savepoint_release(ctx->database));
}

static int call_savepoint_rollback(struct cicada_context *ctx)
{
    return answer(database_savepoint_rollback(ctx->database));
}

static int call_commit(struct cicada_context *ctx)
{
    return ctx->invocation != NULL ? answer(invocation_commit(ctx->invocation)) : CICADA_FAIL;
}

static int call_query_each(struct cicada_context *ctx, const char *sql, const struct cicada_param *params,
                           size_t param_count, cicada_row_fn *each, void *arg)
{
    return answer(database_query_each(ctx->database, ctx->calls, sql, params, param_count, each, arg));
}

static int call_stream_write(struct cicada_response *res, const void *data, size_t len)
{
    return res->invocation != NULL ? answer(invocation_stream(res->invocation, data, len)) : CICADA_FAIL;
}

static const char *call_error_sqlstate(const struct cicada_context *ctx)
{
    return ctx->database->error.sqlstate;
}

static const char *call_error_constraint(const struct cicada_context *ctx)
{
    return ctx->database->error.constraint;
}

static const char *call_error_message(const struct cicada_context *ctx)
{
    return ctx->database->error.message;
}

const struct cicada_calls sdk_calls = {
    .version = CICADA_ABI_VERSION,
    .size = sizeof(struct cicada_calls),

    .request_method = request_method,
    .request_path = request_path,
    .request_parameter = request_parameter,
    .request_query = request_query,
    .request_query_at = request_query_at,
    .request_header = request_header,
    .request_header_at = request_header_at,
    .request_body = request_body,
    .request_json = request_json,

    .json_type = call_json_type,
    .json_member = call_json_member,
    .json_first = call_json_first,
    .json_next = call_json_next,
    .json_count = call_json_count,
    .json_name = call_json_name,
    .json_string = call_json_string,
    .json_raw = call_json_raw,
    .json_int64 = call_json_int64,
    .json_double = call_json_double,
    .json_bool = call_json_bool,

    .context_deadline_left_ms = call_deadline_left_ms,
    .context_request_id = call_request_id,
    .context_traceparent = call_traceparent,
    .context_function = call_function,
    .context_namespace = call_namespace,
    .context_state = call_state,
    .context_log = call_log,

    .query = call_query,
    .error_sqlstate = call_error_sqlstate,
    .error_constraint = call_error_constraint,
    .error_message = call_error_message,
    .result_rows = result_rows,
    .result_columns = result_columns,
    .result_affected = result_affected,
    .result_column = result_column,
    .result_column_name = result_column_name,
    .result_text = result_text,

    .response_status = response_status,
    .response_header = response_header,
    .response_body = response_body,
    .response_problem = response_problem,
    .write_begin = response_write_begin,
    .write_end = response_write_end,
    .write_string = response_write_string,
    .write_int64 = response_write_int64,
    .write_double = response_write_double,
    .write_bool = response_write_bool,
    .write_null = response_write_null,
    .write_raw = response_write_raw,
    .write_row = response_write_row,

    .savepoint = call_savepoint,
    .savepoint_release = call_savepoint_release,
    .savepoint_rollback = call_savepoint_rollback,
    .commit = call_commit,
    .query_each = call_query_each,
    .response_body_take = response_body_take,
    .stream_write = call_stream_write,
    .event_attribute = event_call_attribute,
    .event_next = event_call_next,
    .event_count = event_call_count,
    .event_data = event_call_data,
    .event_json = event_call_json,
    .event_fail = event_call_fail,
};
