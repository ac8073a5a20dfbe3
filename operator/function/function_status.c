#include "operator/function/function_status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operator/function/function_spec.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

static const char *const type_names[CONDITION_COUNT] = {
    [CONDITION_READY] = "Ready",
    [CONDITION_CONFIGURATION_VALID] = "ConfigurationValid",
    [CONDITION_DEPLOYED] = "Deployed",
    [CONDITION_ROUTED] = "Routed",
    [CONDITION_TRIGGERS_READY] = "TriggersReady",
    [CONDITION_ACTIVE] = "Active",
    [CONDITION_CONNECTION_BUDGET] = "ConnectionBudget",
};

static const char *const status_names[] = {
    [CONDITION_ABSENT] = "",
    [CONDITION_TRUE] = "True",
    [CONDITION_FALSE] = "False",
    [CONDITION_UNKNOWN] = "Unknown",
};

void condition_set(struct condition *condition, enum condition_status status, const char *reason,
                   const char *format, ...)
{
    char message[CONDITION_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    /* A cut may have split a character. */
    while (message[0] && !is_valid_utf8(message, strlen(message))) {
        message[strlen(message) - 1] = '\0';
    }
    condition->status = status;
    snprintf(condition->reason, sizeof condition->reason, "%s", reason);
    free(condition->message);
    condition->message = xstrdup(message);
}

void condition_copy(struct condition *to, const struct condition *from)
{
    char *message = xstrdup_or_null(from->message);
    free(to->message);
    *to = *from;
    to->message = message;
}

static enum condition_status parse_condition_status(const char *text)
{
    for (size_t i = 1; text && i < ARRAY_SIZE(status_names); i++) {
        if (strcmp(text, status_names[i]) == 0) {
            return (enum condition_status)i;
        }
    }
    return CONDITION_ABSENT;
}

static void parse_condition(const cJSON *tree, struct function_status *status)
{
    const char *name = json_string(tree, "type");
    for (size_t i = 0; name && i < CONDITION_COUNT; i++) {
        if (strcmp(name, type_names[i]) != 0) {
            continue;
        }
        struct condition *condition = &status->conditions[i];
        const char *reason = json_string(tree, "reason"), *message = json_string(tree, "message");
        condition->status = parse_condition_status(json_string(tree, "status"));
        snprintf(condition->reason, sizeof condition->reason, "%s", reason ? reason : "");
        free(condition->message);
        condition->message = xstrdup(message ? message : "");
        condition->generation = json_int64(tree, "observedGeneration", 0);
        const char *since = json_string(tree, "lastTransitionTime");
        if (!since || !parse_rfc3339(since, &condition->since_ms)) {
            condition->since_ms = 0;
        }
    }
}

static void parse_triggers(const cJSON *tree, struct function_status *status)
{
    const cJSON *list = json_array(tree, "triggers"), *item;
    int count = cJSON_GetArraySize(list);
    status->triggers =
        count > 0 && count <= FUNCTION_TRIGGERS_MAX ? xcalloc((size_t)count, sizeof *status->triggers) : NULL;
    if (!status->triggers) {
        return;
    }
    cJSON_ArrayForEach(item, list)
    {
        struct trigger_status *trigger = &status->triggers[status->trigger_count++];
        const char *name = json_string(item, "name"), *next_run = json_string(item, "nextRun");
        int64_t next_run_ms = 0;
        trigger->name = xstrdup(name ? name : "");
        trigger->known = json_get(item, "backlog") != NULL;
        trigger->backlog = json_int64(item, "backlog", 0);
        trigger->oldest_age_s = json_int64(item, "oldestAgeSeconds", 0);
        trigger->dead_letters = json_int64(item, "deadLetters", 0);
        trigger->next_run_s = next_run && parse_rfc3339(next_run, &next_run_ms) ? next_run_ms / 1000 : 0;
    }
}

void function_status_parse(const cJSON *function, struct function_status *ret_status)
{
    const cJSON *tree = json_object(function, "status"), *item;
    memset(ret_status, 0, sizeof *ret_status);
    ret_status->observed_generation = json_int64(tree, "observedGeneration", 0);
    ret_status->url = xstrdup_or_null(json_string(tree, "url"));
    ret_status->selector = xstrdup_or_null(json_string(tree, "selector"));
    ret_status->replicas = (int)json_int64(tree, "replicas", 0);
    ret_status->desired_replicas = (int)json_int64(tree, "desiredReplicas", 0);
    parse_triggers(tree, ret_status);
    cJSON_ArrayForEach(item, json_array(tree, "conditions"))
    {
        parse_condition(item, ret_status);
    }
}

void function_status_release(struct function_status *status)
{
    free(status->url);
    free(status->selector);
    for (size_t i = 0; i < status->trigger_count; i++) {
        free(status->triggers[i].name);
    }
    free(status->triggers);
    for (size_t i = 0; i < CONDITION_COUNT; i++) {
        free(status->conditions[i].message);
    }
    memset(status, 0, sizeof *status);
}

void function_status_stamp(struct function_status *status, const struct function_status *old,
                           int64_t generation, int64_t now_ms)
{
    status->observed_generation = generation;
    for (size_t i = 0; i < CONDITION_COUNT; i++) {
        struct condition *condition = &status->conditions[i];
        const struct condition *before = &old->conditions[i];
        if (condition->status == CONDITION_ABSENT) {
            continue;
        }
        condition->generation = generation;
        condition->since_ms =
            before->status == condition->status && before->since_ms ? before->since_ms : now_ms / 1000 * 1000;
    }
}

static bool condition_equal(const struct condition *a, const struct condition *b)
{
    return a->status == b->status && strcmp(a->reason, b->reason) == 0 &&
           str_equal_or_both_null(a->message, b->message) && a->generation == b->generation;
}

static bool triggers_equal(const struct function_status *a, const struct function_status *b)
{
    if (a->trigger_count != b->trigger_count) {
        return false;
    }
    for (size_t i = 0; i < a->trigger_count; i++) {
        const struct trigger_status *x = &a->triggers[i], *y = &b->triggers[i];
        if (strcmp(x->name, y->name) != 0 || x->known != y->known || x->backlog != y->backlog ||
            x->oldest_age_s != y->oldest_age_s || x->dead_letters != y->dead_letters ||
            x->next_run_s != y->next_run_s) {
            return false;
        }
    }
    return true;
}

bool function_status_equal(const struct function_status *a, const struct function_status *b)
{
    for (size_t i = 0; i < CONDITION_COUNT; i++) {
        if (!condition_equal(&a->conditions[i], &b->conditions[i])) {
            return false;
        }
    }
    return a->observed_generation == b->observed_generation && str_equal_or_both_null(a->url, b->url) &&
           str_equal_or_both_null(a->selector, b->selector) && a->replicas == b->replicas &&
           a->desired_replicas == b->desired_replicas && triggers_equal(a, b);
}

static void add_triggers(cJSON *out, const struct function_status *status)
{
    if (status->trigger_count == 0) {
        return;
    }
    cJSON *triggers = cJSON_CreateArray();
    int64_t backlog = 0;
    bool all_known = true;
    for (size_t i = 0; i < status->trigger_count; i++) {
        const struct trigger_status *trigger = &status->triggers[i];
        cJSON *item = json_append_object(triggers);
        json_add_string(item, "name", trigger->name);
        if (trigger->known) {
            json_add_int64(item, "backlog", trigger->backlog);
            json_add_int64(item, "oldestAgeSeconds", trigger->oldest_age_s);
            json_add_int64(item, "deadLetters", trigger->dead_letters);
        }
        if (trigger->next_run_s) {
            char next_run[RFC3339_SIZE];
            format_rfc3339(trigger->next_run_s * 1000, next_run);
            json_add_string(item, "nextRun", next_run);
        }
        backlog += trigger->backlog;
        all_known = all_known && trigger->known;
    }
    if (all_known) {
        json_add_int64(out, "backlog", backlog);
    }
    cJSON_AddItemToObject(out, "triggers", triggers);
}

static void add_condition(cJSON *conditions, const char *type, const struct condition *condition)
{
    char since[RFC3339_SIZE];
    format_rfc3339(condition->since_ms, since);
    cJSON *item = json_append_object(conditions);
    json_add_string(item, "type", type);
    json_add_string(item, "status", status_names[condition->status]);
    json_add_int64(item, "observedGeneration", condition->generation);
    json_add_string(item, "lastTransitionTime", since);
    json_add_string(item, "reason", condition->reason);
    json_add_string(item, "message", condition->message);
}

cJSON *function_status_intent(const struct function_status *status, const char *namespace, const char *name,
                              const char *resource_version)
{
    cJSON *tree = cJSON_CreateObject();
    json_add_string(tree, "apiVersion", FUNCTION_API_VERSION);
    json_add_string(tree, "kind", "Function");
    cJSON *metadata = json_add_object(tree, "metadata");
    json_add_string(metadata, "name", name);
    json_add_string(metadata, "namespace", namespace);
    json_add_string(metadata, "resourceVersion", resource_version);
    cJSON *out = json_add_object(tree, "status");
    json_add_int64(out, "observedGeneration", status->observed_generation);
    json_add_string(out, "url", status->url);
    json_add_int64(out, "replicas", status->replicas);
    json_add_int64(out, "desiredReplicas", status->desired_replicas);
    json_add_string(out, "selector", status->selector);
    add_triggers(out, status);
    cJSON *conditions = json_add_array(out, "conditions");
    for (size_t i = 0; i < CONDITION_COUNT; i++) {
        if (status->conditions[i].status != CONDITION_ABSENT) {
            add_condition(conditions, type_names[i], &status->conditions[i]);
        }
    }
    return tree;
}
