#include "operator/function/function_schema.h"

#include <string.h>

#include "operator/function/function_text.h"
#include "operator/function/function_triggers.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/base/yaml.h"

#define LABEL_NAME_MAX        63
#define ANNOTATIONS_MAX_BYTES 262144

struct function_schema {
    struct structural_schema *object;
};

/* ObjectMeta of Kubernetes: what a client may write, and what the server fills in. */
static const char metadata_schema[] = "type: object\n"
                                      "properties:\n"
                                      "  name: {type: string}\n"
                                      "  generateName: {type: string}\n"
                                      "  namespace: {type: string}\n"
                                      "  labels: {type: object, additionalProperties: {type: string}}\n"
                                      "  annotations: {type: object, additionalProperties: {type: string}}\n"
                                      "  finalizers: {type: array, items: {type: string}}\n"
                                      "  ownerReferences: {type: array, items: {type: object, "
                                      "x-kubernetes-preserve-unknown-fields: true}}\n"
                                      "  managedFields: {type: array, items: {type: object, "
                                      "x-kubernetes-preserve-unknown-fields: true}}\n"
                                      "  uid: {type: string}\n"
                                      "  resourceVersion: {type: string}\n"
                                      "  generation: {type: integer}\n"
                                      "  creationTimestamp: {type: string}\n"
                                      "  deletionTimestamp: {type: string}\n"
                                      "  deletionGracePeriodSeconds: {type: integer}\n"
                                      "  selfLink: {type: string}\n";

static int replace_property(cJSON *tree, const char *name, const char *schema_yaml, struct err *err)
{
    cJSON *schema = NULL;
    if (yaml_document_parse(schema_yaml, strlen(schema_yaml), &schema, err)) {
        return -1;
    }
    cJSON *properties = cJSON_GetObjectItemCaseSensitive(tree, "properties");
    cJSON_DeleteItemFromObjectCaseSensitive(properties, name);
    if (!cJSON_AddItemToObject(properties, name, schema)) {
        cJSON_Delete(schema);
        return err_set(err, ERR_INTERNAL, "the schema has no properties");
    }
    return 0;
}

int function_schema_add_metadata(cJSON *tree, struct err *err)
{
    return replace_property(tree, "metadata", metadata_schema, err);
}

int function_schema_new(struct function_schema **ret_schema, struct err *err)
{
    CLEANUP_JSON cJSON *crd = NULL;
    if (yaml_document_parse(function_crd_text, strlen(function_crd_text), &crd, err)) {
        return -1;
    }
    const cJSON *version = json_array(json_object(crd, "spec"), "versions");
    const cJSON *schema = json_path(version ? version->child : NULL, "schema", "openAPIV3Schema", NULL);
    CLEANUP_JSON cJSON *tree = cJSON_Duplicate(schema, true);
    struct structural_schema *object = NULL;
    if (function_schema_add_metadata(tree, err) ||
        replace_property(tree, "status", "x-kubernetes-preserve-unknown-fields: true", err) ||
        structural_schema_compile(tree, &object, err)) {
        return err_wrap(err, "the schema of Function");
    }
    *ret_schema = xmalloc(sizeof **ret_schema);
    (*ret_schema)->object = object;
    return 0;
}

void function_schema_free(struct function_schema *schema)
{
    if (schema) {
        structural_schema_free(schema->object);
        free(schema);
    }
}

/* ---- metadata ---- */

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Letters, digits, '-', '_' and '.', at most 63, a letter or digit at both ends. */
static bool is_label_name(const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        if (!is_alnum(text[i]) && (i == 0 || i + 1 == len || !strchr("-_.", text[i]))) {
            return false;
        }
    }
    return len > 0 && len <= LABEL_NAME_MAX;
}

/* "app", "example.com/app" */
static bool is_qualified_name(const char *text)
{
    const char *slash = strchr(text, '/');
    CLEANUP_FREE char *prefix = slash ? xstrndup(text, (size_t)(slash - text)) : NULL;
    return (!prefix || is_dns_subdomain(prefix)) && is_label_name(slash ? slash + 1 : text);
}

static void check_keys(const cJSON *metadata, const char *name, const char *path, bool labels,
                       struct schema_problems *problems)
{
    const cJSON *entry;
    size_t bytes = 0;
    cJSON_ArrayForEach(entry, json_object(metadata, name))
    {
        /* Kubernetes looks at an annotation's key in lower case. */
        CLEANUP_FREE char *key = xstrdup(entry->string);
        if (!labels) {
            ascii_lower(key);
        }
        const char *value = cJSON_IsString(entry) ? entry->valuestring : "";
        bytes += strlen(entry->string) + strlen(value);
        if (!is_qualified_name(key)) {
            schema_problems_add(problems, SCHEMA_INVALID, path, entry,
                                "\"%.253s\": must be a name, with a DNS name and '/' in front if any",
                                entry->string);
        }
        if (labels && value[0] && !is_label_name(value)) {
            schema_problems_add(
                problems, SCHEMA_INVALID, path, entry,
                "\"%.253s\": must be at most 63 letters, digits, '-', '_' and '.', with a letter or "
                "digit at both ends",
                value);
        }
    }
    if (!labels && bytes > ANNOTATIONS_MAX_BYTES) {
        schema_problems_add(problems, SCHEMA_INVALID, path, json_get(metadata, name),
                            "must have at most %d bytes together", ANNOTATIONS_MAX_BYTES);
    }
}

void function_schema_check_metadata(const cJSON *object, struct schema_problems *problems)
{
    const cJSON *metadata = json_object(object, "metadata");
    const cJSON *name = json_get(metadata, "name"), *namespace = json_get(metadata, "namespace");
    const cJSON *generate_name = json_get(metadata, "generateName");
    if (!cJSON_IsString(name) || name->valuestring[0] == '\0') {
        schema_problems_add(problems, SCHEMA_INVALID, "metadata.name", metadata ? metadata : object,
                            generate_name ? "is required; a manifest can't leave it to generateName"
                                          : "is required");
    } else if (!is_dns_subdomain(name->valuestring)) {
        schema_problems_add(problems, SCHEMA_INVALID, "metadata.name", name,
                            "must be at most 253 lower case letters, digits, '-' and '.', with a letter or "
                            "digit at both ends of each part");
    }
    if (cJSON_IsString(namespace) && !is_dns_label(namespace->valuestring)) {
        schema_problems_add(problems, SCHEMA_INVALID, "metadata.namespace", namespace,
                            "must be a namespace's name");
    }
    check_keys(metadata, "labels", "metadata.labels", /* labels= */ true, problems);
    check_keys(metadata, "annotations", "metadata.annotations", /* labels= */ false, problems);
}

/* ---- Functions ---- */

/* For fields whose pattern says less to a person than the check in C does. "[]" stands for every element. */
static const struct plain_reason {
    const char *path;
    const char *(*check)(const char *text);
} plain_reasons[] = {
    {"spec.image", function_text_check_image},
    {"spec.handler", function_text_check_handler},
    {"spec.parameters[].name", function_text_check_parameter},
    {"spec.env[].name", function_text_check_env_name},
    {"spec.database.secretRef.name", function_text_check_subdomain},
    {"spec.database.secretRef.key", function_text_check_data_key},
    {"spec.http.hosts[]", function_text_check_host},
    {"spec.http.path", function_text_check_path},
    {"spec.http.pathTemplate", function_text_check_path_template},
    {"spec.http.ingressClassName", function_text_check_subdomain},
    {"spec.http.tlsSecretName", function_text_check_subdomain},
    {"spec.database.ownerSecretRef.name", function_text_check_subdomain},
    {"spec.database.ownerSecretRef.key", function_text_check_data_key},
    {"spec.triggers[].name", function_text_check_trigger},
    {"spec.triggers[].queue.name", function_text_check_queue},
    {"spec.triggers[].table.name", function_text_check_table},
    {"spec.triggers[].schedule.cron", function_triggers_check_cron},
    {"spec.triggers[].schedule.timeZone", function_triggers_check_time_zone},
    {"spec.output.queue", function_text_check_queue},
    {"spec.template.serviceAccountName", function_text_check_subdomain},
};

static bool is_path_of(const char *path, const char *with_any_index)
{
    while (*path && *with_any_index && *path == *with_any_index) {
        if (*path == '[') {
            path += strcspn(path, "]");
        }
        path += *path != '\0';
        with_any_index += *with_any_index == '[' ? 2 : 1;
    }
    return *path == '\0' && *with_any_index == '\0';
}

static void say_plainly(struct schema_problem *problem)
{
    for (size_t i = 0; i < ARRAY_SIZE(plain_reasons); i++) {
        if (problem->kind == SCHEMA_INVALID && cJSON_IsString(problem->node) &&
            is_path_of(problem->path, plain_reasons[i].path)) {
            const char *why = plain_reasons[i].check(problem->node->valuestring);
            if (why) {
                free(problem->message);
                problem->message = xstrdup(why);
            }
            return;
        }
    }
}

/* The node at the path, or the last one above it that is there. A member's name may have dots in it. */
static const cJSON *node_at(const cJSON *node, const char *path)
{
    const cJSON *member, *next = NULL;
    size_t taken = 0;
    if (*path == '[') {
        int index = (int)strtol(path + 1, NULL, 10);
        next = cJSON_IsArray(node) ? cJSON_GetArrayItem(node, index) : NULL;
        taken = strcspn(path, "]") + 1;
    } else if (cJSON_IsObject(node)) {
        cJSON_ArrayForEach(member, node)
        {
            size_t len = strlen(member->string);
            bool ends =
                strncmp(path, member->string, len) == 0 && (path[len] == '\0' || strchr(".[", path[len]));
            if (len > 0 && ends && len >= taken) {
                next = member;
                taken = len;
            }
        }
    }
    if (!next) {
        return node;
    }
    path += taken;
    return node_at(next, path + (*path == '.'));
}

/* msg is "path: why", or "path NAME: why" of an element that has a name. */
static void add_cross_field(const cJSON *object, const char *msg, struct schema_problems *problems)
{
    size_t len = strcspn(msg, ": ");
    CLEANUP_FREE char *path = xstrndup(msg, len);
    schema_problems_add(problems, SCHEMA_CROSS_FIELD, path, node_at(object, path), "%s",
                        msg + len + strspn(msg + len, ": "));
}

void function_schema_check(const struct function_schema *schema, cJSON *object,
                           struct schema_problems *problems, struct function_spec **ret_spec)
{
    size_t before = problems->count, invalid = problems->left_out;
    structural_schema_check(schema->object, object, "", problems);
    function_schema_check_metadata(object, problems);
    for (size_t i = before; i < problems->count; i++) {
        say_plainly(&problems->items[i]);
        invalid += problems->items[i].kind == SCHEMA_INVALID;
    }
    if (invalid > 0) {
        return;
    }
    structural_schema_drop_nulls(schema->object, object);
    struct err err = ERR_INIT;
    struct function_spec *spec = NULL;
    if (function_spec_parse(object, &spec, &err)) {
        add_cross_field(object, err.msg, problems);
    } else if (problems->count > before) {
        function_spec_unref(spec);
    } else {
        *ret_spec = spec;
    }
}
