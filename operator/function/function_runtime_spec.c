#include "operator/function/function_runtime_spec.h"

#include "operator/function/function_triggers.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

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

/* A queue of a table's or a schedule's trigger is the database's to name: cicada.trigger_queue(). */
static void add_trigger(cJSON *triggers, const struct function_trigger *trigger)
{
    cJSON *item = json_append_object(triggers);
    json_add_string(item, "name", trigger->name);
    if (trigger->source == TRIGGER_QUEUE) {
        json_add_string(json_add_object(item, "queue"), "name", trigger->queue);
    }
    CLEANUP_JSON cJSON *delivery = cJSON_CreateObject();
    const struct {
        const char *name;
        int value, absent;
    } numbers[] = {
        {"batchSize", trigger->batch_size, TRIGGER_BATCH_SIZE_DEFAULT},
        {"maxAttempts", trigger->max_attempts, TRIGGER_MAX_ATTEMPTS_DEFAULT},
        {"backoffSeconds", trigger->backoff_seconds, TRIGGER_BACKOFF_SECONDS_DEFAULT},
        {"maxBackoffSeconds", trigger->max_backoff_seconds, TRIGGER_MAX_BACKOFF_SECONDS_DEFAULT},
    };
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        if (numbers[i].value != numbers[i].absent) {
            json_add_int64(delivery, numbers[i].name, numbers[i].value);
        }
    }
    if (trigger->ordered) {
        json_add_bool(delivery, "ordered", true);
    }
    if (delivery->child) {
        cJSON_AddItemToObject(item, "delivery", steal_ptr(&delivery));
    }
}

/* A change of a table, its columns, a cron expression or a zone rolls no pod: none of it is here. */
static void add_events(cJSON *tree, const struct function_spec *spec)
{
    if (spec->trigger_count > 0) {
        cJSON *triggers = json_add_array(tree, "triggers");
        for (size_t i = 0; i < spec->trigger_count; i++) {
            add_trigger(triggers, &spec->triggers[i]);
        }
        if (spec->event_concurrency != spec->database_pool_size) { /* the runtime's own default */
            json_add_int64(tree, "eventConcurrency", spec->event_concurrency);
        }
    }
    if (spec->output_queue) {
        json_add_string(json_add_object(tree, "output"), "queue", spec->output_queue);
    }
}

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
    add_events(tree, spec);
    return tree;
}
