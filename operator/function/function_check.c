#include "operator/function/function_check.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "operator/function/function_spec.h"
#include "operator/function/function_text.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define ENV_MAX           256
#define ENV_VALUE_MAX     32768
#define ENV_FROM_MAX      32
#define MAP_MAX           64
#define LIST_MAX          64
#define GRACE_SECONDS_MAX 7200

static const cJSON *present(const cJSON *holder, const char *name)
{
    const cJSON *item = json_get(holder, name);
    return item && !cJSON_IsNull(item) ? item : NULL;
}

static int fail(struct err *err, const char *path, const char *name, const char *why)
{
    return err_set(err, ERR_INVALID, "%s%s%s: %s", path ? path : "", path ? "." : "", name, why);
}

int function_check_object(const cJSON *holder, const char *name, const char *path, const cJSON **ret_object,
                          struct err *err)
{
    const cJSON *item = present(holder, name);
    if (item && !cJSON_IsObject(item)) {
        return fail(err, path, name, "must be an object");
    }
    *ret_object = item;
    return 0;
}

int function_check_array(const cJSON *holder, const char *name, const char *path, int max_items,
                         const cJSON **ret_array, struct err *err)
{
    const cJSON *item = present(holder, name);
    if (item && !cJSON_IsArray(item)) {
        return fail(err, path, name, "must be a list");
    }
    if (item && cJSON_GetArraySize(item) > max_items) {
        return err_set(err, ERR_INVALID, "%s.%s: must have at most %d items", path, name, max_items);
    }
    *ret_array = item;
    return 0;
}

int function_check_string(const cJSON *holder, const char *name, const char *path, function_text_check *check,
                          char **ret_text, struct err *err)
{
    const cJSON *item = present(holder, name);
    if (!item) {
        *ret_text = NULL;
        return 0;
    }
    if (!cJSON_IsString(item)) {
        return fail(err, path, name, "must be a string");
    }
    const char *why = check(item->valuestring);
    if (why) {
        return fail(err, path, name, why);
    }
    *ret_text = xstrdup(item->valuestring);
    return 0;
}

int function_check_choice(const cJSON *holder, const char *name, const char *path, const char *const *choices,
                          size_t choice_count, size_t *ret_index, struct err *err)
{
    const cJSON *item = present(holder, name);
    if (!item) {
        return 0;
    }
    char known[128];
    struct strbuf list;
    strbuf_init_fixed(&list, known, sizeof known);
    for (size_t i = 0; i < choice_count; i++) {
        if (cJSON_IsString(item) && strcmp(item->valuestring, choices[i]) == 0) {
            *ret_index = i;
            return 0;
        }
        strbuf_appendf(&list, "%s%s", i ? ", " : "", choices[i]);
    }
    return err_set(err, ERR_INVALID, "%s.%s: must be one of %s", path, name, known);
}

int function_check_string_set(const cJSON *holder, const char *name, const char *path, int max_items,
                              function_text_check *check, char ***ret_strings, size_t *ret_count,
                              struct err *err)
{
    const cJSON *array = NULL;
    if (function_check_array(holder, name, path, max_items, &array, err)) {
        return -1;
    }
    if (!array || cJSON_GetArraySize(array) == 0) {
        return 0;
    }
    *ret_strings = xcalloc((size_t)cJSON_GetArraySize(array), sizeof **ret_strings);
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        const char *why = cJSON_IsString(item) ? check(item->valuestring) : "must be a string";
        for (size_t i = 0; !why && i < *ret_count; i++) {
            why = strcmp((*ret_strings)[i], item->valuestring) == 0 ? "must not be listed twice" : NULL;
        }
        if (why) {
            return err_set(err, ERR_INVALID, "%s.%s[%zu]: %s", path, name, *ret_count, why);
        }
        (*ret_strings)[(*ret_count)++] = xstrdup(item->valuestring);
    }
    return 0;
}

void function_check_strings_free(char **strings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(strings[i]);
    }
    free(strings);
}

int function_check_integer(const cJSON *holder, const char *name, const char *path, int64_t min, int64_t max,
                           int64_t *ret_number, struct err *err)
{
    const cJSON *item = present(holder, name);
    if (!item) {
        return 0;
    }
    if (!cJSON_IsNumber(item) || item->valuedouble != trunc(item->valuedouble)) {
        return fail(err, path, name, "must be a whole number");
    }
    if (item->valuedouble < (double)min || item->valuedouble > (double)max) {
        return err_set(err, ERR_INVALID, "%s.%s: must be from %lld to %lld", path, name, (long long)min,
                       (long long)max);
    }
    *ret_number = (int64_t)item->valuedouble;
    return 0;
}

int function_check_bool(const cJSON *holder, const char *name, const char *path, bool *ret_value,
                        struct err *err)
{
    const cJSON *item = present(holder, name);
    if (item && !cJSON_IsBool(item)) {
        return fail(err, path, name, "must be true or false");
    }
    if (item) {
        *ret_value = cJSON_IsTrue(item);
    }
    return 0;
}

static bool is_named_before(const cJSON *array, const cJSON *last, const char *name)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        if (item == last) {
            break;
        }
        if (strcmp(json_string(item, "name"), name) == 0) {
            return true;
        }
    }
    return false;
}

static const char *check_env_var(const cJSON *env, const cJSON *var)
{
    const char *name = json_string(var, "name");
    if (!name) {
        return "must be an object with a name";
    }
    const char *why = function_text_check_env_name(name);
    if (why) {
        return why;
    }
    const cJSON *value = present(var, "value"), *value_from = present(var, "valueFrom");
    if (value && (!cJSON_IsString(value) || strlen(value->valuestring) > ENV_VALUE_MAX)) {
        return "value must be a string of at most 32768 characters";
    }
    if (value_from && !cJSON_IsObject(value_from)) {
        return "valueFrom must be an object";
    }
    if (value && value->valuestring[0] && value_from) {
        return "must not have both value and valueFrom";
    }
    return is_named_before(env, var, name) ? "must not be listed twice" : NULL;
}

int function_check_env(const cJSON *spec, const cJSON **ret_env, struct err *err)
{
    const cJSON *env = NULL, *var;
    if (function_check_array(spec, "env", "spec", ENV_MAX, &env, err)) {
        return -1;
    }
    size_t index = 0;
    cJSON_ArrayForEach(var, env)
    {
        const char *why = check_env_var(env, var);
        if (why) {
            const char *name = json_string(var, "name");
            return err_set(err, ERR_INVALID, "spec.env[%zu]%s%.100s: %s", index, name ? " " : "",
                           name ? name : "", why);
        }
        index++;
    }
    *ret_env = env;
    return 0;
}

int function_check_env_from(const cJSON *spec, const cJSON **ret_env_from, struct err *err)
{
    const cJSON *sources = NULL, *source;
    if (function_check_array(spec, "envFrom", "spec", ENV_FROM_MAX, &sources, err)) {
        return -1;
    }
    size_t index = 0;
    cJSON_ArrayForEach(source, sources)
    {
        bool has_map = json_string(json_object(source, "configMapRef"), "name") != NULL;
        bool has_secret = json_string(json_object(source, "secretRef"), "name") != NULL;
        if (has_map == has_secret) {
            return err_set(err, ERR_INVALID, "spec.envFrom[%zu]: must name one configMapRef or one secretRef",
                           index);
        }
        index++;
    }
    *ret_env_from = sources;
    return 0;
}

static const char *check_parameter(const cJSON *parameters, const cJSON *parameter)
{
    const char *name = json_string(parameter, "name");
    if (!name) {
        return "must be an object with a name";
    }
    const char *why = function_text_check_parameter(name);
    if (why) {
        return why;
    }
    const cJSON *value = present(parameter, "default");
    if (value && (!cJSON_IsString(value) || strlen(value->valuestring) > FUNCTION_DEFAULT_MAX_BYTES)) {
        return "default must be a string of at most 1024 bytes";
    }
    return is_named_before(parameters, parameter, name) ? "must not be listed twice" : NULL;
}

int function_check_parameters(const cJSON *spec, const cJSON **ret_parameters, struct err *err)
{
    const cJSON *parameters = NULL, *parameter;
    if (function_check_array(spec, "parameters", "spec", FUNCTION_PARAMETERS_MAX, &parameters, err)) {
        return -1;
    }
    size_t index = 0;
    cJSON_ArrayForEach(parameter, parameters)
    {
        const char *why = check_parameter(parameters, parameter);
        if (why) {
            return err_set(err, ERR_INVALID, "spec.parameters[%zu]: %s", index, why);
        }
        index++;
    }
    *ret_parameters = parameters;
    return 0;
}

enum map_kind { MAP_LABELS, MAP_ANNOTATIONS, MAP_NODE_SELECTOR };

static const char *check_map_entry(const cJSON *entry, enum map_kind kind)
{
    if (!cJSON_IsString(entry)) {
        return "must be a string";
    }
    bool ours = str_starts_with(entry->string, "cicada.dev/");
    bool managed_by = strcmp(entry->string, "app.kubernetes.io/managed-by") == 0;
    if ((kind != MAP_NODE_SELECTOR && ours) || (kind == MAP_LABELS && managed_by)) {
        return "is reserved";
    }
    return NULL;
}

static int check_map(const cJSON *template, const char *name, enum map_kind kind, struct err *err)
{
    const cJSON *map = NULL, *entry;
    if (function_check_object(template, name, "spec.template", &map, err)) {
        return -1;
    }
    if (map && cJSON_GetArraySize(map) > MAP_MAX) {
        return err_set(err, ERR_INVALID, "spec.template.%s: must have at most %d members", name, MAP_MAX);
    }
    cJSON_ArrayForEach(entry, map)
    {
        const char *why = check_map_entry(entry, kind);
        if (why) {
            return err_set(err, ERR_INVALID, "spec.template.%s.%.200s: %s", name, entry->string, why);
        }
    }
    return 0;
}

static int check_grace(const cJSON *template, struct err *err)
{
    const cJSON *grace = present(template, "terminationGracePeriodSeconds");
    if (grace && (!cJSON_IsNumber(grace) || grace->valuedouble != trunc(grace->valuedouble) ||
                  grace->valuedouble < 1 || grace->valuedouble > GRACE_SECONDS_MAX)) {
        return err_set(err, ERR_INVALID, "spec.template.terminationGracePeriodSeconds: must be from 1 to %d",
                       GRACE_SECONDS_MAX);
    }
    return 0;
}

/* serviceAccountName may be empty, which is the same as absent. */
static const char *check_account(const char *text)
{
    return text[0] ? function_text_check_subdomain(text) : NULL;
}

int function_check_template(const cJSON *spec, const cJSON **ret_template, struct err *err)
{
    static const char path[] = "spec.template";
    const cJSON *template = NULL, *part;
    CLEANUP_FREE char *account = NULL;
    if (function_check_object(spec, "template", "spec", &template, err) ||
        check_map(template, "labels", MAP_LABELS, err) ||
        check_map(template, "annotations", MAP_ANNOTATIONS, err) ||
        check_map(template, "nodeSelector", MAP_NODE_SELECTOR, err) ||
        function_check_object(template, "resources", path, &part, err) ||
        function_check_object(template, "affinity", path, &part, err) ||
        function_check_array(template, "tolerations", path, LIST_MAX, &part, err) ||
        function_check_array(template, "topologySpreadConstraints", path, LIST_MAX, &part, err) ||
        function_check_array(template, "imagePullSecrets", path, LIST_MAX, &part, err) ||
        function_check_string(template, "serviceAccountName", path, check_account, &account, err) ||
        check_grace(template, err)) {
        return -1;
    }
    *ret_template = template;
    return 0;
}
