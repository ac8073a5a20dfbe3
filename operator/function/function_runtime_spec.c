#include "operator/function/function_runtime_spec.h"

#include "runtime/base/json.h"

static const char *const isolation_names[] = {
    [ISOLATION_READ_COMMITTED] = "ReadCommitted",
    [ISOLATION_REPEATABLE_READ] = "RepeatableRead",
    [ISOLATION_SERIALIZABLE] = "Serializable",
};

static const char *const idempotency_names[] = {
    [FUNCTION_IDEMPOTENCY_NONE] = NULL,
    [FUNCTION_IDEMPOTENCY_OPTIONAL] = "Optional",
    [FUNCTION_IDEMPOTENCY_REQUIRED] = "Required",
};

cJSON *function_runtime_spec_build(const struct function_spec *spec)
{
    cJSON *tree = cJSON_CreateObject();
    json_add_string(tree, "handler", spec->handler);
    json_add_string(tree, "sql", spec->sql);
    json_add_string(tree, "result", spec->result);
    if (spec->parameters) {
        json_add_copy(tree, "parameters", spec->parameters);
    }
    json_add_int64(tree, "timeoutSeconds", spec->timeout_seconds);
    if (spec->idle_timeout_seconds != 60) { /* the runtime's own default */
        json_add_int64(tree, "idleTimeoutSeconds", spec->idle_timeout_seconds);
    }
    json_add_int64(tree, "concurrency", spec->concurrency);
    json_add_int64(tree, "drainSeconds", spec->drain_seconds);
    cJSON *limits = json_add_object(tree, "limits");
    json_add_int64(limits, "bodyBytes", spec->body_bytes);
    json_add_int64(limits, "responseBytes", spec->response_bytes);
    if (spec->has_database) {
        cJSON *database = json_add_object(tree, "database");
        json_add_int64(database, "poolSize", spec->database_pool_size);
        json_add_string(database, "isolation", isolation_names[spec->database_isolation]);
        if (spec->database_pooler_transaction) {
            json_add_string(database, "pooler", "Transaction");
        }
        if (spec->database_retryable) {
            json_add_bool(database, "retryable", true);
        }
    }
    /* What is the runtime's own default is left out: a Function that gets its first route keeps its pods. */
    if (spec->path_template || spec->success_status != 200 ||
        spec->idempotency != FUNCTION_IDEMPOTENCY_NONE) {
        cJSON *http = json_add_object(tree, "http");
        json_add_string(http, "idempotency", idempotency_names[spec->idempotency]);
        json_add_string(http, "pathTemplate", spec->path_template);
        if (spec->success_status != 200) {
            json_add_int64(http, "successStatus", spec->success_status);
        }
    }
    return tree;
}
