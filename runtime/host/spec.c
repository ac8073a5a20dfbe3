#include "runtime/host/spec.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/host/path_template.h"

#define QUEUE_NAME_RULE                                                                                      \
    "must be 1 to %d letters, digits, '.', '_' and '-', a letter or digit at both ends, and not begin with " \
    "cicada."

/* An empty variable counts as none: that is how manifests and shells leave one out. */
static bool is_set(const char *text)
{
    return text != NULL && text[0] != '\0';
}

int spec_source_read(const struct spec_source *source, size_t max_bytes, char **ret_text, struct err *err)
{
    char *text;
    size_t len;

    if (is_set(source->value)) {
        if (is_set(source->file))
            return err_set(err, ERR_INVALID, "%s and %s are both set", source->value_name, source->file_name);
        len = strlen(source->value);
        if (len > max_bytes)
            return err_set(err, ERR_TOO_LARGE, "%s: larger than %zu bytes", source->value_name, max_bytes);
        *ret_text = xstrdup(source->value);
        return 0;
    }
    if (!is_set(source->file))
        return err_set(err, ERR_NOT_FOUND, "neither %s nor %s is set", source->value_name, source->file_name);
    if (file_read(source->file, max_bytes, &text, &len, err) != 0)
        return err_wrap(err, "%s", source->file_name);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        text[--len] = '\0';
    *ret_text = text;
    return 0;
}

static int read_integer(const cJSON *object, const char *path, const char *name, int64_t min, int64_t max,
                        int64_t absent, int64_t *ret_value, struct err *err)
{
    const cJSON *item = json_get(object, name);

    if (item == NULL || cJSON_IsNull(item)) {
        *ret_value = absent;
        return 0;
    }
    if (!cJSON_IsNumber(item) || item->valuedouble != floor(item->valuedouble) ||
        item->valuedouble < (double)min || item->valuedouble > (double)max)
        return err_set(err, ERR_INVALID, "%s%s: must be an integer from %lld to %lld", path, name,
                       (long long)min, (long long)max);
    *ret_value = (int64_t)item->valuedouble;
    return 0;
}

/* An absent member leaves *ret_object NULL. */
static int read_object(const cJSON *object, const char *name, const cJSON **ret_object, struct err *err)
{
    const cJSON *item = json_get(object, name);

    if (item == NULL || cJSON_IsNull(item)) {
        *ret_object = NULL;
        return 0;
    }
    if (!cJSON_IsObject(item))
        return err_set(err, ERR_INVALID, "%s: must be an object", name);
    *ret_object = item;
    return 0;
}

/* Path elements that begin with a letter, a digit or '_', so that none leads out of the function folder; the CRD says the same. */
static bool is_file_path(const char *text, size_t len)
{
    bool element_start = true;

    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && text[i] != '_' &&
            (element_start || strchr(".-/", text[i]) == NULL))
            return false;
        element_start = text[i] == '/';
    }
    return !element_start;
}

static bool is_symbol(const char *text)
{
    if (!isalpha((unsigned char)text[0]) && text[0] != '_')
        return false;
    for (const char *p = text; *p != '\0'; p++)
        if (!isalnum((unsigned char)*p) && *p != '_')
            return false;
    return true;
}

static int read_handler(const cJSON *root, struct function_spec *spec, struct err *err)
{
    const char *handler = json_string(root, "handler");
    const char *colon;

    if (handler == NULL && json_string(root, "sql") != NULL)
        return 0;
    if (handler == NULL)
        return err_set(err, ERR_INVALID, "handler: must be a string such as \"shop.so:handle_user_request\"");
    colon = strchr(handler, ':');
    if (strlen(handler) > SPEC_HANDLER_MAX_BYTES || colon == NULL ||
        !is_file_path(handler, (size_t)(colon - handler)) || !is_symbol(colon + 1))
        return err_set(
            err, ERR_INVALID,
            "handler: \"%.255s\" is not FILE:SYMBOL, a file below the function folder and a C identifier",
            handler);
    spec->handler_file = xstrndup(handler, (size_t)(colon - handler));
    spec->handler_symbol = xstrdup(colon + 1);
    return 0;
}

/* One of the names in `choices`, whose place is the value; absent: the first. */
static int read_choice(const cJSON *object, const char *path, const char *name, const char *const *choices,
                       int *ret_choice, struct err *err)
{
    const cJSON *item = json_get(object, name);
    char storage[128];
    struct strbuf list;

    *ret_choice = 0;
    if (item == NULL || cJSON_IsNull(item))
        return 0;
    strbuf_init_fixed(&list, storage, sizeof(storage));
    for (int i = 0; choices[i] != NULL; i++) {
        if (cJSON_IsString(item) && strcmp(item->valuestring, choices[i]) == 0) {
            *ret_choice = i;
            return 0;
        }
        strbuf_appendf(&list, "%s%s", i == 0 ? "" : choices[i + 1] ? ", " : " or ", choices[i]);
    }
    return err_set(err, ERR_INVALID, "%s%s: must be %s", path, name, list.buf);
}

static int read_bool(const cJSON *object, const char *path, const char *name, bool *ret_value,
                     struct err *err)
{
    const cJSON *item = json_get(object, name);

    *ret_value = cJSON_IsTrue(item);
    if (item == NULL || cJSON_IsNull(item) || cJSON_IsBool(item))
        return 0;
    return err_set(err, ERR_INVALID, "%s%s: must be true or false", path, name);
}

static int read_database(const cJSON *root, struct function_spec *spec, struct err *err)
{
    static const char *const levels[] = {"ReadCommitted", "RepeatableRead", "Serializable", NULL};
    static const char *const poolers[] = {"None", "Transaction", NULL};
    const cJSON *database = NULL;
    int64_t pool_size = 0;
    int level = 0, pooler = 0;

    if (read_object(root, "database", &database, err) != 0)
        return -1;
    spec->has_database = database != NULL;
    if (read_integer(database, "database.", "poolSize", 1, SPEC_POOL_MAX, 4, &pool_size, err) != 0 ||
        read_choice(database, "database.", "isolation", levels, &level, err) != 0 ||
        read_choice(database, "database.", "pooler", poolers, &pooler, err) != 0 ||
        read_bool(database, "database.", "retryable", &spec->retryable, err) != 0)
        return -1;
    spec->pool_size = (int)pool_size;
    spec->isolation = (enum pg_isolation)level; /* in the order of the names */
    spec->pooler_transaction = pooler == 1;
    return 0;
}

static int read_http(const cJSON *root, struct function_spec *spec, struct err *err)
{
    static const char *const modes[] = {"None", "Optional", "Required", NULL};
    const cJSON *http = NULL;
    const cJSON *template;
    int64_t status = 0;
    int mode = 0;

    if (read_object(root, "http", &http, err) != 0 ||
        read_integer(http, "http.", "successStatus", 200, 299, 200, &status, err) != 0 ||
        read_choice(http, "http.", "idempotency", modes, &mode, err) != 0)
        return -1;
    spec->success_status = (int)status;
    spec->idempotency = (enum idempotency)mode;
    template = json_get(http, "pathTemplate");
    if (template == NULL || cJSON_IsNull(template))
        return 0;
    if (!cJSON_IsString(template))
        return err_set(err, ERR_INVALID, "http.pathTemplate: must be a string");
    if (path_template_check(template->valuestring, err) != 0)
        return err_wrap(err, "http.pathTemplate");
    spec->path_template = xstrdup(template->valuestring);
    return 0;
}

static int read_parameter(const cJSON *item, struct spec_parameter *parameter, struct err *err)
{
    const char *name = json_string(item, "name");
    const cJSON *value = json_get(item, "default");

    if (name == NULL || !is_symbol(name) || name[0] == '\0' || strlen(name) > SPEC_NAME_MAX_BYTES)
        return err_set(err, ERR_INVALID, "name: must be an identifier of at most %d bytes",
                       SPEC_NAME_MAX_BYTES);
    if (value != NULL && !cJSON_IsNull(value) && !cJSON_IsString(value))
        return err_set(err, ERR_INVALID, "default: must be a string, PostgreSQL's text form of the value");
    parameter->name = xstrdup(name);
    parameter->default_text = xstrdup_or_null(json_string(item, "default"));
    return 0;
}

static int read_parameters(const cJSON *root, struct function_spec *spec, struct err *err)
{
    const cJSON *list = json_get(root, "parameters");
    const cJSON *item;

    if (list == NULL || cJSON_IsNull(list))
        return 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > SPEC_PARAMETERS_MAX)
        return err_set(err, ERR_INVALID, "parameters: must be an array of at most %d", SPEC_PARAMETERS_MAX);
    spec->parameters = xcalloc((size_t)SPEC_PARAMETERS_MAX, sizeof(*spec->parameters));
    cJSON_ArrayForEach(item, list)
    {
        if (read_parameter(item, &spec->parameters[spec->parameter_count], err) != 0)
            return err_wrap(err, "parameters[%zu]", spec->parameter_count);
        spec->parameter_count++;
    }
    return 0;
}

/* The statements themselves are read where they are prepared. */
static int read_sql(const cJSON *root, struct function_spec *spec, struct err *err)
{
    static const char *const results[] = {"Rows", "Row", "Value", "None", NULL};
    const cJSON *sql = json_get(root, "sql");
    int result = 0;

    if (sql == NULL || cJSON_IsNull(sql))
        return 0;
    if (!cJSON_IsString(sql) || strlen(sql->valuestring) > SPEC_SQL_MAX_BYTES)
        return err_set(err, ERR_INVALID, "sql: must be a string of at most %u bytes", SPEC_SQL_MAX_BYTES);
    if (spec->handler_file != NULL)
        return err_set(err, ERR_INVALID, "sql: not together with handler");
    if (!spec->has_database)
        return err_set(err, ERR_INVALID, "sql: needs database");
    if (read_choice(root, "", "result", results, &result, err) != 0)
        return -1;
    spec->sql = xstrdup(sql->valuestring);
    spec->sql_result = (enum sql_result)result;
    return read_parameters(root, spec, err);
}

static bool is_trigger_name(const char *name)
{
    return name != NULL && is_dns_label(name) && strlen(name) <= SPEC_NAME_MAX_BYTES;
}

/* As cicada.create_queue() has it. */
static bool is_queue_name(const char *name)
{
    size_t len = name != NULL ? strlen(name) : 0;

    return len > 0 && len <= SPEC_NAME_MAX_BYTES && isalnum((unsigned char)name[0]) &&
           isalnum((unsigned char)name[len - 1]) && !str_starts_with(name, "cicada.") &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

static int read_delivery(const cJSON *item, struct spec_trigger *trigger, struct err *err)
{
    const cJSON *delivery = NULL;
    int64_t attempts = 0, batch = 0, backoff_s = 0, max_backoff_s = 0;

    if (read_object(item, "delivery", &delivery, err) != 0 ||
        read_integer(delivery, "delivery.", "maxAttempts", 1, SPEC_ATTEMPTS_MAX, 20, &attempts, err) != 0 ||
        read_integer(delivery, "delivery.", "backoffSeconds", 1, SPEC_SECONDS_MAX, 2, &backoff_s, err) != 0 ||
        read_integer(delivery, "delivery.", "maxBackoffSeconds", 1, SPEC_SECONDS_MAX, 3600, &max_backoff_s,
                     err) != 0 ||
        read_integer(delivery, "delivery.", "batchSize", 1, SPEC_BATCH_MAX, 1, &batch, err) != 0 ||
        read_bool(delivery, "delivery.", "ordered", &trigger->ordered, err) != 0)
        return -1;
    trigger->batch_size = (int)batch;
    trigger->max_attempts = (int)attempts;
    trigger->backoff_ms = backoff_s * 1000;
    trigger->max_backoff_ms = max_backoff_s * 1000;
    return 0;
}

static int read_trigger(const cJSON *item, struct spec_trigger *trigger, struct err *err)
{
    const cJSON *queue = NULL;
    const char *name = json_string(item, "name");

    if (!is_trigger_name(name))
        return err_set(err, ERR_INVALID, "name: must be a DNS label of at most %d bytes",
                       SPEC_NAME_MAX_BYTES);
    trigger->name = xstrdup(name);
    if (read_object(item, "queue", &queue, err) != 0)
        return -1;
    if (queue == NULL) /* what is made of a table's changes, or by a clock: the operator's business */
        return read_delivery(item, trigger, err);
    if (!is_queue_name(json_string(queue, "name")))
        return err_set(err, ERR_INVALID, "queue.name: " QUEUE_NAME_RULE, SPEC_NAME_MAX_BYTES);
    trigger->queue = xstrdup(json_string(queue, "name"));
    return read_delivery(item, trigger, err);
}

static bool is_repeated(const struct function_spec *spec, const struct spec_trigger *trigger)
{
    for (const struct spec_trigger *other = spec->triggers; other < trigger; other++)
        if (strcmp(other->name, trigger->name) == 0 ||
            (other->queue != NULL && trigger->queue != NULL && strcmp(other->queue, trigger->queue) == 0))
            return true;
    return false;
}

static int read_triggers(const cJSON *root, struct function_spec *spec, struct err *err)
{
    const cJSON *list = json_get(root, "triggers");
    const cJSON *item;
    int64_t concurrency = 0;

    if (read_integer(root, "", "eventConcurrency", 1, SPEC_CONCURRENCY_MAX, spec->pool_size, &concurrency,
                     err) != 0)
        return -1;
    spec->event_concurrency = (int)concurrency;
    if (list == NULL || cJSON_IsNull(list))
        return 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > SPEC_TRIGGERS_MAX)
        return err_set(err, ERR_INVALID, "triggers: must be an array of at most %d", SPEC_TRIGGERS_MAX);
    spec->triggers = xcalloc((size_t)SPEC_TRIGGERS_MAX, sizeof(*spec->triggers));
    cJSON_ArrayForEach(item, list)
    {
        struct spec_trigger *trigger = &spec->triggers[spec->trigger_count++];
        if (read_trigger(item, trigger, err) != 0)
            return err_wrap(err, "triggers[%zu]", spec->trigger_count - 1);
        if (is_repeated(spec, trigger))
            return err_set(err, ERR_INVALID, "triggers[%zu]: another one has this name, or this queue",
                           spec->trigger_count - 1);
    }
    return 0;
}

static int read_output(const cJSON *root, struct function_spec *spec, struct err *err)
{
    const cJSON *output = NULL;

    if (read_object(root, "output", &output, err) != 0)
        return -1;
    if (output == NULL)
        return 0;
    if (!is_queue_name(json_string(output, "queue")))
        return err_set(err, ERR_INVALID, "output.queue: " QUEUE_NAME_RULE, SPEC_NAME_MAX_BYTES);
    spec->output_queue = xstrdup(json_string(output, "queue"));
    return 0;
}

/* What one part needs of another. */
static int check_parts(const struct function_spec *spec, struct err *err)
{
    if (spec->output_queue != NULL && !spec->has_database)
        return err_set(err, ERR_INVALID, "output: needs database");
    if (spec->output_queue != NULL && spec->sql != NULL && spec->sql_result == SQL_RESULT_NONE)
        return err_set(err, ERR_INVALID, "output: needs a result, and result: None has none");
    if (spec->trigger_count > 0 && !spec->has_database)
        return err_set(err, ERR_INVALID, "triggers: need database");
    if (spec->idempotency != IDEMPOTENCY_NONE && !spec->has_database)
        return err_set(err, ERR_INVALID, "http.idempotency: needs database");
    return 0;
}

static int read_numbers(const cJSON *root, struct function_spec *spec, struct err *err)
{
    const cJSON *limits = NULL;
    int64_t timeout_s = 0, idle_s = 0, drain_s = 0, concurrency = 0;

    if (read_integer(root, "", "timeoutSeconds", 1, SPEC_SECONDS_MAX, 30, &timeout_s, err) != 0 ||
        read_integer(root, "", "idleTimeoutSeconds", 1, SPEC_SECONDS_MAX, 60, &idle_s, err) != 0 ||
        read_integer(root, "", "drainSeconds", 0, SPEC_SECONDS_MAX, timeout_s, &drain_s, err) != 0 ||
        read_integer(root, "", "concurrency", 1, SPEC_CONCURRENCY_MAX,
                     spec->sql != NULL ? spec->pool_size : 16, &concurrency, err) != 0 ||
        read_object(root, "limits", &limits, err) != 0 ||
        read_integer(limits, "limits.", "bodyBytes", 0, SPEC_BODY_MAX_BYTES, 1 << 20, &spec->body_max_bytes,
                     err) != 0 ||
        read_integer(limits, "limits.", "responseBytes", 0, SPEC_BODY_MAX_BYTES, 8 << 20,
                     &spec->response_max_bytes, err) != 0)
        return -1;
    spec->timeout_ms = timeout_s * 1000;
    spec->idle_timeout_ms = idle_s * 1000;
    spec->drain_ms = drain_s * 1000;
    spec->concurrency = (int)concurrency;
    return 0;
}

int spec_parse(const char *json, size_t len, struct function_spec *ret_spec, struct err *err)
{
    CLEANUP_JSON cJSON *root = NULL;
    struct function_spec spec = {0};

    if (json_parse(json, len, JSON_DEPTH_MAX, &root, err) != 0)
        return -1;
    if (!cJSON_IsObject(root))
        return err_set(err, ERR_INVALID, "must be a JSON object");
    if (read_handler(root, &spec, err) != 0 || read_database(root, &spec, err) != 0 ||
        read_sql(root, &spec, err) != 0 || read_numbers(root, &spec, err) != 0 ||
        read_http(root, &spec, err) != 0 || read_triggers(root, &spec, err) != 0 ||
        read_output(root, &spec, err) != 0 || check_parts(&spec, err) != 0) {
        spec_release(&spec);
        return -1;
    }
    *ret_spec = spec;
    return 0;
}

void spec_release(struct function_spec *spec)
{
    free(steal_ptr(&spec->handler_file));
    free(steal_ptr(&spec->handler_symbol));
    free(steal_ptr(&spec->sql));
    for (size_t i = 0; i < spec->parameter_count; i++) {
        free(spec->parameters[i].name);
        free(spec->parameters[i].default_text);
    }
    free(steal_ptr(&spec->parameters));
    spec->parameter_count = 0;
    for (size_t i = 0; i < spec->trigger_count; i++) {
        free(spec->triggers[i].name);
        free(spec->triggers[i].queue);
    }
    free(steal_ptr(&spec->triggers));
    spec->trigger_count = 0;
    free(steal_ptr(&spec->output_queue));
    free(steal_ptr(&spec->path_template));
}
