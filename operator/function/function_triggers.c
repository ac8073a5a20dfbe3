#include "operator/function/function_triggers.h"

#include <stdlib.h>
#include <string.h>

#include "operator/function/function_check.h"
#include "operator/function/function_text.h"
#include "operator/schedule/cron.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

static const char *const source_names[] = {
    [TRIGGER_QUEUE] = "queue",
    [TRIGGER_TABLE] = "table",
    [TRIGGER_SCHEDULE] = "schedule",
};

const char *function_triggers_check_cron(const char *text)
{
    struct cron cron;
    struct err err = ERR_INIT;
    return cron_parse(text, &cron, &err) == 0
               ? NULL
               : "must be five fields as in crontab(5), such as \"0 2 * * *\", or @hourly, @daily, @weekly, "
                 "@monthly or @yearly";
}

const char *function_triggers_check_time_zone(const char *text)
{
    return time_zone_is_name(text) ? NULL : "must be the name of a time zone, such as Europe/Berlin";
}

static const char *check_any_text(const char *text)
{
    (void)text;
    return NULL;
}

/* ---- sources ---- */

static int require(const char *text, const char *path, const char *name, struct err *err)
{
    return text ? 0 : err_set(err, ERR_INVALID, "%s.%s: is required", path, name);
}

static int parse_queue(const cJSON *source, const char *path, struct function_trigger *trigger,
                       struct err *err)
{
    if (function_check_string(source, "name", path, function_text_check_queue, &trigger->queue, err)) {
        return -1;
    }
    return require(trigger->queue, path, "name", err);
}

static bool has_operation(const struct function_trigger *trigger, const char *name)
{
    for (size_t i = 0; i < trigger->operation_count; i++) {
        if (strcmp(trigger->operations[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static int parse_table(const cJSON *source, const char *path, struct function_trigger *trigger,
                       struct err *err)
{
    if (function_check_string(source, "name", path, function_text_check_table, &trigger->table, err) ||
        require(trigger->table, path, "name", err) ||
        function_check_string_set(source, "operations", path, 4, function_text_check_operation,
                                  &trigger->operations, &trigger->operation_count, err) ||
        function_check_string_set(source, "columns", path, FUNCTION_TRIGGER_COLUMNS_MAX,
                                  function_text_check_column, &trigger->columns, &trigger->column_count,
                                  err) ||
        function_check_string(source, "when", path, function_text_check_when, &trigger->when, err)) {
        return -1;
    }
    if (trigger->operation_count == 0) {
        return err_set(err, ERR_INVALID, "%s.operations: must have at least 1 items", path);
    }
    if (trigger->column_count > 0 && !has_operation(trigger, "UPDATE")) {
        return err_set(err, ERR_INVALID, "%s.columns: belong to UPDATE, which operations must name", path);
    }
    return 0;
}

static int parse_schedule(const cJSON *source, const char *path, struct function_trigger *trigger,
                          struct err *err)
{
    static const char *const policies[] = {"Skip", "RunOnce", "RunAll"}; /* as enum trigger_missed */
    size_t missed = TRIGGER_MISSED_RUN_ONCE;
    struct cron cron;
    if (function_check_string(source, "cron", path, check_any_text, &trigger->cron, err) ||
        require(trigger->cron, path, "cron", err) ||
        function_check_string(source, "timeZone", path, function_triggers_check_time_zone,
                              &trigger->time_zone, err) ||
        function_check_choice(source, "missed", path, policies, ARRAY_SIZE(policies), &missed, err)) {
        return -1;
    }
    if (cron_parse(trigger->cron, &cron, err)) {
        CLEANUP_FREE char *why = xstrdup(err->msg);
        return err_set(err, ERR_INVALID, "%s.cron: %s", path, why);
    }
    if (!trigger->time_zone) {
        trigger->time_zone = xstrdup("UTC");
    }
    trigger->missed = (enum trigger_missed)missed;
    return 0;
}

/* *ret_source is the member of that one. */
static int find_source(const cJSON *item, const char *path, struct function_trigger *trigger,
                       const cJSON **ret_source, struct err *err)
{
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(source_names); i++) {
        const cJSON *source = NULL;
        if (function_check_object(item, source_names[i], path, &source, err)) {
            return -1;
        }
        if (source) {
            *ret_source = source;
            trigger->source = (enum trigger_source)i;
            count++;
        }
    }
    return count == 1
               ? 0
               : err_set(err, ERR_INVALID, "%s: must have exactly one of queue, table and schedule", path);
}

static int parse_source(const cJSON *item, const char *path, struct function_trigger *trigger,
                        struct err *err)
{
    const cJSON *source = NULL;
    if (find_source(item, path, trigger, &source, err)) {
        return -1;
    }
    CLEANUP_FREE char *below = xasprintf("%s.%s", path, source_names[trigger->source]);
    switch (trigger->source) {
    case TRIGGER_QUEUE:
        return parse_queue(source, below, trigger, err);
    case TRIGGER_TABLE:
        return parse_table(source, below, trigger, err);
    case TRIGGER_SCHEDULE:
        return parse_schedule(source, below, trigger, err);
    }
    return -1;
}

/* ---- delivery ---- */

static int parse_delivery(const cJSON *item, const char *path, struct function_trigger *trigger,
                          struct err *err)
{
    const struct {
        const char *name;
        int absent, max;
        int *value;
    } numbers[] = {
        {"batchSize", TRIGGER_BATCH_SIZE_DEFAULT, 1000, &trigger->batch_size},
        {"maxAttempts", TRIGGER_MAX_ATTEMPTS_DEFAULT, 1000, &trigger->max_attempts},
        {"backoffSeconds", TRIGGER_BACKOFF_SECONDS_DEFAULT, 3600, &trigger->backoff_seconds},
        {"maxBackoffSeconds", TRIGGER_MAX_BACKOFF_SECONDS_DEFAULT, 86400, &trigger->max_backoff_seconds},
    };
    CLEANUP_FREE char *below = xasprintf("%s.delivery", path);
    const cJSON *delivery = NULL;
    if (function_check_object(item, "delivery", path, &delivery, err)) {
        return -1;
    }
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        int64_t number = numbers[i].absent;
        if (function_check_integer(delivery, numbers[i].name, below, 1, numbers[i].max, &number, err)) {
            return -1;
        }
        *numbers[i].value = (int)number;
    }
    if (trigger->backoff_seconds > trigger->max_backoff_seconds) {
        return err_set(err, ERR_INVALID, "%s.backoffSeconds: must not be above maxBackoffSeconds (%d)", below,
                       trigger->max_backoff_seconds);
    }
    return function_check_bool(delivery, "ordered", below, &trigger->ordered, err);
}

/* ---- triggers ---- */

static int parse_trigger(const cJSON *item, const char *path, struct function_trigger *trigger,
                         struct err *err)
{
    if (!cJSON_IsObject(item)) {
        return err_set(err, ERR_INVALID, "%s: must be an object", path);
    }
    if (function_check_string(item, "name", path, function_text_check_trigger, &trigger->name, err) ||
        require(trigger->name, path, "name", err) || parse_source(item, path, trigger, err)) {
        return -1;
    }
    return parse_delivery(item, path, trigger, err);
}

/* Between the last trigger and those before it. */
static int check_repeats(const struct function_trigger *triggers, size_t last, struct err *err)
{
    const struct function_trigger *trigger = &triggers[last];
    for (size_t i = 0; i < last; i++) {
        if (strcmp(triggers[i].name, trigger->name) == 0) {
            return err_set(err, ERR_INVALID, "spec.triggers[%zu]: must not be listed twice", last);
        }
        if (trigger->queue && str_equal_or_both_null(triggers[i].queue, trigger->queue)) {
            return err_set(err, ERR_INVALID,
                           "spec.triggers[%zu].queue.name: is that of trigger %s; a queue has one consumer",
                           last, triggers[i].name);
        }
    }
    return 0;
}

int function_triggers_parse(const cJSON *tree, struct function_trigger **ret_triggers, size_t *ret_count,
                            struct err *err)
{
    const cJSON *list = NULL, *item;
    if (function_check_array(tree, "triggers", "spec", FUNCTION_TRIGGERS_MAX, &list, err)) {
        return -1;
    }
    if (!list || !list->child) {
        return 0;
    }
    *ret_triggers = xcalloc((size_t)cJSON_GetArraySize(list), sizeof **ret_triggers);
    cJSON_ArrayForEach(item, list)
    {
        size_t index = (*ret_count)++;
        CLEANUP_FREE char *path = xasprintf("spec.triggers[%zu]", index);
        if (parse_trigger(item, path, &(*ret_triggers)[index], err) ||
            check_repeats(*ret_triggers, index, err)) {
            return -1;
        }
    }
    return 0;
}

void function_triggers_free(struct function_trigger *triggers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct function_trigger *trigger = &triggers[i];
        free(trigger->name);
        free(trigger->queue);
        free(trigger->table);
        function_check_strings_free(trigger->operations, trigger->operation_count);
        function_check_strings_free(trigger->columns, trigger->column_count);
        free(trigger->when);
        free(trigger->cron);
        free(trigger->time_zone);
    }
    free(triggers);
}
