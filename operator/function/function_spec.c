#include "operator/function/function_spec.h"

#include <stdlib.h>
#include <string.h>

#include "operator/function/function_check.h"
#include "operator/function/function_text.h"
#include "operator/function/function_triggers.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define SQL_JSON_MAX_BYTES 122880

/* Whole numbers of the spec. absent: the default of the CRD; 0: it has none there, see parse_numbers(). */
struct int_field {
    const char *parent; /* member of spec that holds it; NULL: spec itself */
    const char *name;
    size_t offset;
    bool wide; /* int64_t, else int */
    int64_t absent, min, max;
};

#define FIELD(parent, name, field, absent, min, max)                                                         \
    {                                                                                                        \
        parent, name, offsetof(struct function_spec, field), false, absent, min, max                         \
    }
#define FIELD_WIDE(parent, name, field, absent, min, max)                                                    \
    {                                                                                                        \
        parent, name, offsetof(struct function_spec, field), true, absent, min, max                          \
    }

static const struct int_field int_fields[] = {
    FIELD(NULL, "timeoutSeconds", timeout_seconds, 30, 1, 3600),
    FIELD(NULL, "idleTimeoutSeconds", idle_timeout_seconds, 60, 1, 3600),
    FIELD(NULL, "holdSeconds", hold_seconds, 60, 1, 600),
    FIELD(NULL, "queueDepth", queue_depth, 1000, 1, 100000),
    FIELD(NULL, "concurrency", concurrency, 0, 1, 250),
    FIELD(NULL, "eventConcurrency", event_concurrency, 0, 1, 250),
    FIELD(NULL, "drainSeconds", drain_seconds, 0, 1, 3600),
    FIELD(NULL, "replicas", replicas, -1, 0, 1000),
    FIELD("database", "poolSize", database_pool_size, 4, 1, 100),
    FIELD_WIDE("limits", "bodyBytes", body_bytes, 1048576, 0, 1073741824),
    FIELD_WIDE("limits", "responseBytes", response_bytes, 8388608, 1024, 1073741824),
    FIELD_WIDE("limits", "holdBytes", hold_bytes, 67108864, 65536, 4294967296),
    FIELD("scaling", "minReplicas", min_replicas, 0, 0, 1000),
    FIELD("scaling", "maxReplicas", max_replicas, 10, 1, 1000),
    FIELD("scaling", "initialReplicas", initial_replicas, 1, 0, 1000),
    FIELD("scaling", "activationReplicas", activation_replicas, 1, 1, 1000),
    FIELD("scaling", "targetUtilization", target_utilization, 70, 1, 100),
    FIELD("scaling", "idleSeconds", idle_seconds, 60, 1, 3600),
    FIELD("scaling", "windowSeconds", window_seconds, 60, 6, 600),
    FIELD("scaling", "scaleDownDelaySeconds", scale_down_delay_seconds, 0, 0, 3600),
    FIELD("http", "successStatus", success_status, 200, 200, 299),
};

static int parse_int_field(const struct int_field *field, const cJSON *tree, struct function_spec *spec,
                           struct err *err)
{
    const cJSON *holder = field->parent ? json_object(tree, field->parent) : tree;
    CLEANUP_FREE char *path =
        xasprintf("spec%s%s", field->parent ? "." : "", field->parent ? field->parent : "");
    int64_t number = field->absent;
    if (function_check_integer(holder, field->name, path, field->min, field->max, &number, err)) {
        return -1;
    }
    char *at = (char *)spec + field->offset;
    if (field->wide) {
        memcpy(at, &number, sizeof number);
    } else {
        int narrow = (int)number;
        memcpy(at, &narrow, sizeof narrow);
    }
    return 0;
}

static int parse_numbers(const cJSON *tree, struct function_spec *spec, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(int_fields); i++) {
        if (parse_int_field(&int_fields[i], tree, spec, err)) {
            return -1;
        }
    }
    if (spec->drain_seconds == 0) {
        spec->drain_seconds = spec->timeout_seconds;
    }
    if (spec->event_concurrency == 0) {
        spec->event_concurrency = spec->database_pool_size;
    }
    if (spec->concurrency ==
        0) { /* more SQL functions at work than there are connections would only wait for one */
        spec->concurrency = spec->sql ? spec->database_pool_size : FUNCTION_CONCURRENCY_DEFAULT;
    }
    return 0;
}

static int parse_metadata(const cJSON *object, struct function_spec *spec, struct err *err)
{
    const cJSON *metadata = json_object(object, "metadata");
    const char *name = json_string(metadata, "name");
    spec->namespace =
        xstrdup(json_string(metadata, "namespace") ? json_string(metadata, "namespace") : "default");
    spec->name = xstrdup(name ? name : "");
    spec->uid = xstrdup(json_string(metadata, "uid") ? json_string(metadata, "uid") : "");
    spec->generation = json_int64(metadata, "generation", 0);
    spec->deleting = json_string(metadata, "deletionTimestamp") != NULL;
    const char *created = json_string(metadata, "creationTimestamp");
    if (created && !parse_rfc3339(created, &spec->created_ms)) {
        return err_set(err, ERR_INVALID, "metadata.creationTimestamp: must be a time of RFC 3339");
    }
    if (!is_dns_label(spec->namespace)) {
        return err_set(err, ERR_INVALID, "metadata.namespace: must be a namespace's name");
    }
    const char *why = function_text_check_name(spec->name);
    return why ? err_set(err, ERR_INVALID, "metadata.name: %s", why) : 0;
}

/* absent: *ret_name and *ret_key are left alone. */
static int parse_secret_ref(const cJSON *database, const char *member, char **ret_name, char **ret_key,
                            struct err *err)
{
    CLEANUP_FREE char *path = xasprintf("spec.database.%s", member);
    const cJSON *secret = NULL;
    if (function_check_object(database, member, "spec.database", &secret, err)) {
        return -1;
    }
    if (!secret) {
        return 0;
    }
    if (function_check_string(secret, "name", path, function_text_check_subdomain, ret_name, err) ||
        function_check_string(secret, "key", path, function_text_check_data_key, ret_key, err)) {
        return -1;
    }
    if (!*ret_name) {
        return err_set(err, ERR_INVALID, "%s.name: is required", path);
    }
    if (!*ret_key) {
        *ret_key = xstrdup("url");
    }
    return 0;
}

static int parse_database(const cJSON *tree, struct function_spec *spec, struct err *err)
{
    static const char *const isolations[] = {"ReadCommitted", "RepeatableRead", "Serializable"};
    static const char *const poolers[] = {"None", "Transaction"};
    const cJSON *database = NULL;
    if (function_check_object(tree, "database", "spec", &database, err)) {
        return -1;
    }
    if (!database) {
        return 0;
    }
    size_t isolation = 0, pooler = 0;
    spec->has_database = true;
    if (parse_secret_ref(database, "secretRef", &spec->database_secret, &spec->database_key, err) ||
        parse_secret_ref(database, "ownerSecretRef", &spec->owner_secret, &spec->owner_key, err)) {
        return -1;
    }
    if (!spec->database_secret) {
        return err_set(err, ERR_INVALID, "spec.database.secretRef.name: is required");
    }
    if (function_check_choice(database, "isolation", "spec.database", isolations, ARRAY_SIZE(isolations),
                              &isolation, err) ||
        function_check_choice(database, "pooler", "spec.database", poolers, ARRAY_SIZE(poolers), &pooler,
                              err) ||
        function_check_bool(database, "retryable", "spec.database", &spec->database_retryable, err)) {
        return -1;
    }
    spec->database_isolation = (enum function_isolation)isolation; /* in the order of the names */
    spec->database_pooler_transaction = pooler == 1;
    return 0;
}

/* SQL travels to the pod as JSON in an environment variable, and the kernel takes no longer ones than 128 KiB. */
static int check_sql_size(const cJSON *tree, struct err *err)
{
    CLEANUP_FREE char *sql = json_print_dup(json_get(tree, "sql"));
    CLEANUP_FREE char *parameters =
        json_get(tree, "parameters") ? json_print_dup(json_get(tree, "parameters")) : NULL;
    if (strlen(sql) + (parameters ? strlen(parameters) : 0) > SQL_JSON_MAX_BYTES) {
        return err_set(err, ERR_INVALID, "spec.sql: must be at most %d bytes as JSON, parameters included",
                       SQL_JSON_MAX_BYTES);
    }
    return 0;
}

/* What the function does: a handler, or SQL. */
static int parse_work(const cJSON *tree, struct function_spec *spec, struct err *err)
{
    static const char *const results[] = {"Rows", "Row", "Value", "None"};
    const cJSON *parameters = NULL;
    size_t result = ARRAY_SIZE(results);
    if (function_check_string(tree, "image", "spec", function_text_check_image, &spec->image, err) ||
        function_check_string(tree, "handler", "spec", function_text_check_handler, &spec->handler, err) ||
        function_check_string(tree, "sql", "spec", function_text_check_sql, &spec->sql, err) ||
        function_check_choice(tree, "result", "spec", results, ARRAY_SIZE(results), &result, err) ||
        function_check_parameters(tree, &parameters, err)) {
        return -1;
    }
    if (!spec->handler == !spec->sql) {
        return err_set(err, ERR_INVALID, "spec: must have exactly one of handler and sql");
    }
    if (spec->sql && check_sql_size(tree, err)) {
        return -1;
    }
    spec->result = result < ARRAY_SIZE(results) ? xstrdup(results[result]) : NULL;
    spec->parameters = parameters ? cJSON_Duplicate(parameters, true) : NULL;
    return 0;
}

static int parse_http(const cJSON *tree, struct function_spec *spec, struct err *err)
{
    static const char *const modes[] = {"None", "Optional", "Required"};
    const cJSON *http = NULL;
    size_t mode = 0;
    if (function_check_object(tree, "http", "spec", &http, err)) {
        return -1;
    }
    if (http) {
        spec->has_http = true;
        if (function_check_string_set(http, "hosts", "spec.http", FUNCTION_HOSTS_MAX,
                                      function_text_check_host, &spec->hosts, &spec->host_count, err) ||
            function_check_string_set(http, "methods", "spec.http", FUNCTION_METHODS_MAX,
                                      function_text_check_method, &spec->methods, &spec->method_count, err) ||
            function_check_string(http, "path", "spec.http", function_text_check_path, &spec->path, err) ||
            function_check_string(http, "pathTemplate", "spec.http", function_text_check_path_template,
                                  &spec->path_template, err) ||
            function_check_string(http, "ingressClassName", "spec.http", function_text_check_subdomain,
                                  &spec->ingress_class_name, err) ||
            function_check_string(http, "tlsSecretName", "spec.http", function_text_check_subdomain,
                                  &spec->tls_secret_name, err) ||
            function_check_choice(http, "idempotency", "spec.http", modes, ARRAY_SIZE(modes), &mode, err)) {
            return -1;
        }
        spec->idempotency = (enum function_idempotency)mode;
    }
    if (!spec->path) {
        spec->path = xstrdup("/");
    }
    if (!spec->ingress_class_name) {
        spec->ingress_class_name = xstrdup("cicada");
    }
    return 0;
}

static int parse_pod_parts(const cJSON *tree, struct function_spec *spec, struct err *err)
{
    const cJSON *env = NULL, *env_from = NULL, *template = NULL, *other;
    if (function_check_env(tree, &env, err) || function_check_env_from(tree, &env_from, err) ||
        function_check_template(tree, &template, err) ||
        function_check_object(tree, "limits", "spec", &other, err) ||
        function_check_object(tree, "scaling", "spec", &other, err)) {
        return -1;
    }
    spec->env = env ? cJSON_Duplicate(env, true) : NULL;
    spec->env_from = env_from ? cJSON_Duplicate(env_from, true) : NULL;
    spec->template = template ? cJSON_Duplicate(template, true) : NULL;
    return 0;
}

static int parse_output(const cJSON *tree, struct function_spec *spec, struct err *err)
{
    const cJSON *output = NULL;
    if (function_check_object(tree, "output", "spec", &output, err) ||
        function_check_string(output, "queue", "spec.output", function_text_check_queue, &spec->output_queue,
                              err)) {
        return -1;
    }
    return output && !spec->output_queue ? err_set(err, ERR_INVALID, "spec.output.queue: is required") : 0;
}

/* What one field alone can't tell; the CEL rules of the chart say the same. */
static int check_together(const struct function_spec *spec, struct err *err)
{
    if (spec->sql && !spec->has_database) {
        return err_set(err, ERR_INVALID, "spec: sql needs database");
    }
    if (!spec->sql && (spec->result || spec->parameters)) {
        return err_set(err, ERR_INVALID, "spec: result and parameters belong to sql");
    }
    if (spec->idempotency != FUNCTION_IDEMPOTENCY_NONE && !spec->has_database) {
        return err_set(err, ERR_INVALID, "spec: http.idempotency needs database");
    }
    if ((spec->trigger_count > 0 || spec->output_queue) && !spec->has_database) {
        return err_set(err, ERR_INVALID, "spec: %s need%s database",
                       spec->trigger_count > 0 ? "triggers" : "output", spec->trigger_count > 0 ? "" : "s");
    }
    if (spec->output_queue && spec->result && strcmp(spec->result, "None") == 0) {
        return err_set(err, ERR_INVALID, "spec: output needs an answer, and result None has none");
    }
    if (spec->min_replicas > spec->max_replicas) {
        return err_set(err, ERR_INVALID, "spec.scaling.minReplicas: must not be above maxReplicas (%d)",
                       spec->max_replicas);
    }
    if (spec->initial_replicas > spec->max_replicas) {
        return err_set(err, ERR_INVALID, "spec.scaling.initialReplicas: must not be above maxReplicas (%d)",
                       spec->max_replicas);
    }
    if (spec->activation_replicas > spec->max_replicas) {
        return err_set(err, ERR_INVALID,
                       "spec.scaling.activationReplicas: must not be above maxReplicas (%d)",
                       spec->max_replicas);
    }
    int64_t grace = json_int64(spec->template, "terminationGracePeriodSeconds", INT64_MAX);
    if (grace < spec->drain_seconds) {
        return err_set(err, ERR_INVALID,
                       "spec.template.terminationGracePeriodSeconds: must not be below drainSeconds (%d)",
                       spec->drain_seconds);
    }
    return 0;
}

static int parse_spec(const cJSON *object, struct function_spec *spec, struct err *err)
{
    if (parse_metadata(object, spec, err)) {
        return -1;
    }
    const cJSON *tree = NULL;
    if (function_check_object(object, "spec", NULL, &tree, err)) {
        return -1;
    }
    if (!tree) {
        return err_set(err, ERR_INVALID, "spec: is required");
    }
    /* The shape of the objects comes before the numbers in them. */
    if (parse_work(tree, spec, err) || parse_database(tree, spec, err) || parse_http(tree, spec, err) ||
        parse_pod_parts(tree, spec, err) || parse_numbers(tree, spec, err) ||
        function_triggers_parse(tree, &spec->triggers, &spec->trigger_count, err) ||
        parse_output(tree, spec, err)) {
        return -1;
    }
    return check_together(spec, err);
}

int function_spec_parse(const cJSON *object, struct function_spec **ret_spec, struct err *err)
{
    struct function_spec *spec = xcalloc(1, sizeof *spec);
    atomic_init(&spec->refs, 1);
    if (parse_spec(object, spec, err)) {
        function_spec_unref(spec);
        return -1;
    }
    *ret_spec = spec;
    return 0;
}

struct function_spec *function_spec_ref(struct function_spec *spec)
{
    atomic_fetch_add_explicit(&spec->refs, 1, memory_order_relaxed);
    return spec;
}

void function_spec_unref(struct function_spec *spec)
{
    if (!spec || atomic_fetch_sub_explicit(&spec->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    free(spec->namespace);
    free(spec->name);
    free(spec->uid);
    free(spec->image);
    free(spec->handler);
    free(spec->sql);
    free(spec->result);
    cJSON_Delete(spec->parameters);
    cJSON_Delete(spec->env);
    cJSON_Delete(spec->env_from);
    free(spec->database_secret);
    free(spec->database_key);
    free(spec->owner_secret);
    free(spec->owner_key);
    function_check_strings_free(spec->hosts, spec->host_count);
    free(spec->path);
    free(spec->path_template);
    function_check_strings_free(spec->methods, spec->method_count);
    free(spec->ingress_class_name);
    free(spec->tls_secret_name);
    cJSON_Delete(spec->template);
    function_triggers_free(spec->triggers, spec->trigger_count);
    free(spec->output_queue);
    free(spec);
}
