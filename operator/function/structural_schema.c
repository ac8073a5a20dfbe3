#include "operator/function/structural_schema.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "operator/function/structural_schema_internal.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define LIMIT_MAX 9007199254740992.0 /* 2^53: what a number of the tree holds exactly */

typedef int read_keyword(const cJSON *value, struct structural_schema *schema, struct err *err);

static int compile_list(const cJSON *value, struct schema_list *ret_list, struct err *err)
{
    if (!cJSON_IsArray(value) || !value->child) {
        return err_set(err, ERR_INVALID, "must be a list of schemas");
    }
    ret_list->items = xcalloc((size_t)cJSON_GetArraySize(value), sizeof(struct structural_schema *));
    const cJSON *item;
    cJSON_ArrayForEach(item, value)
    {
        if (structural_schema_compile(item, &ret_list->items[ret_list->count], err)) {
            return -1;
        }
        ret_list->count++;
    }
    return 0;
}

static int read_strings(const cJSON *value, struct schema_strings *ret_strings, struct err *err)
{
    ret_strings->items = xcalloc((size_t)cJSON_GetArraySize(value) + 1, sizeof ret_strings->items[0]);
    const cJSON *item;
    cJSON_ArrayForEach(item, value)
    {
        if (!cJSON_IsString(item)) {
            return err_set(err, ERR_INVALID, "must be a list of names");
        }
        ret_strings->items[ret_strings->count++] = xstrdup(item->valuestring);
    }
    return 0;
}

static int read_size(const cJSON *value, size_t *ret_size, struct err *err)
{
    double number = cJSON_IsNumber(value) ? value->valuedouble : -1;
    if (!(number >= 0 && number <= LIMIT_MAX && number == trunc(number))) {
        return err_set(err, ERR_INVALID, "must be a whole number");
    }
    *ret_size = (size_t)number;
    return 0;
}

static int read_flag(const cJSON *value, bool *ret_flag, struct err *err)
{
    if (!cJSON_IsBool(value)) {
        return err_set(err, ERR_INVALID, "must be true or false");
    }
    *ret_flag = cJSON_IsTrue(value);
    return 0;
}

static int read_type(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    static const char *const names[] = {"",        "object", "array",  "string",
                                        "integer", "number", "boolean"}; /* as enum schema_type */
    for (size_t i = 1; i < ARRAY_SIZE(names); i++) {
        if (cJSON_IsString(value) && strcmp(value->valuestring, names[i]) == 0) {
            schema->type = (enum schema_type)i;
            return 0;
        }
    }
    return err_set(err, ERR_INVALID, "is not known");
}

static int read_properties(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    schema->properties = xcalloc((size_t)cJSON_GetArraySize(value) + 1, sizeof schema->properties[0]);
    const cJSON *item;
    cJSON_ArrayForEach(item, value)
    {
        struct schema_property *property = &schema->properties[schema->property_count];
        if (structural_schema_compile(item, &property->schema, err)) {
            return err_wrap(err, "%.100s", item->string);
        }
        property->name = xstrdup(item->string);
        schema->property_count++;
    }
    return 0;
}

static int read_additional(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return structural_schema_compile(value, &schema->additional, err);
}

static int read_items(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return structural_schema_compile(value, &schema->items, err);
}

static int read_required(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_strings(value, &schema->required, err);
}

static int read_enum(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    if (!cJSON_IsArray(value)) {
        return err_set(err, ERR_INVALID, "must be a list");
    }
    schema->choices = cJSON_Duplicate(value, true);
    return 0;
}

static int read_pattern(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    if (!cJSON_IsString(value) ||
        regcomp(&schema->regex, value->valuestring, REG_EXTENDED | REG_NOSUB) != 0) {
        return err_set(err, ERR_INVALID, "is no extended regular expression");
    }
    schema->pattern = xstrdup(value->valuestring);
    return 0;
}

static int read_bound(const cJSON *value, bool *ret_has, double *ret_bound, struct err *err)
{
    if (!cJSON_IsNumber(value)) {
        return err_set(err, ERR_INVALID, "must be a number");
    }
    *ret_has = true;
    *ret_bound = value->valuedouble;
    return 0;
}

static int read_minimum(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_bound(value, &schema->has_minimum, &schema->minimum, err);
}

static int read_maximum(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_bound(value, &schema->has_maximum, &schema->maximum, err);
}

static int read_min_length(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_size(value, &schema->min_length, err);
}

static int read_max_length(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_size(value, &schema->max_length, err);
}

static int read_min_items(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_size(value, &schema->min_items, err);
}

static int read_max_items(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_size(value, &schema->max_items, err);
}

static int read_max_properties(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_size(value, &schema->max_properties, err);
}

static int read_one_of(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return compile_list(value, &schema->one_of, err);
}

static int read_any_of(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return compile_list(value, &schema->any_of, err);
}

static int read_not(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return structural_schema_compile(value, &schema->not, err);
}

static int read_nullable(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_flag(value, &schema->nullable, err);
}

static int read_int_or_string(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_flag(value, &schema->int_or_string, err);
}

static int read_preserve(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_flag(value, &schema->keeps_unknown, err);
}

static int read_list_type(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    const char *name = cJSON_IsString(value) ? value->valuestring : "";
    schema->list_set = strcmp(name, "set") == 0;
    bool known = schema->list_set || strcmp(name, "map") == 0 || strcmp(name, "atomic") == 0;
    return known ? 0 : err_set(err, ERR_INVALID, "is not known");
}

static int read_list_keys(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    return read_strings(value, &schema->list_keys, err);
}

/* int32, int64 and date-time: an API server checks no format of a number, and that of no field that a manifest gives. */
static int read_format(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    (void)schema;
    const char *name = cJSON_IsString(value) ? value->valuestring : "";
    bool known = strcmp(name, "int32") == 0 || strcmp(name, "int64") == 0 || strcmp(name, "date-time") == 0;
    return known ? 0 : err_set(err, ERR_INVALID, "is not known");
}

/* description, and defaults, which function_spec_parse() fills in. */
static int read_nothing(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    (void)value, (void)schema, (void)err;
    return 0;
}

static const struct keyword {
    const char *name;
    read_keyword *read;
} keywords[] = {
    {"type", read_type},
    {"properties", read_properties},
    {"additionalProperties", read_additional},
    {"items", read_items},
    {"required", read_required},
    {"enum", read_enum},
    {"pattern", read_pattern},
    {"minimum", read_minimum},
    {"maximum", read_maximum},
    {"minLength", read_min_length},
    {"maxLength", read_max_length},
    {"minItems", read_min_items},
    {"maxItems", read_max_items},
    {"maxProperties", read_max_properties},
    {"oneOf", read_one_of},
    {"anyOf", read_any_of},
    {"not", read_not},
    {"nullable", read_nullable},
    {"format", read_format},
    {"description", read_nothing},
    {"default", read_nothing},
    {"x-kubernetes-int-or-string", read_int_or_string},
    {"x-kubernetes-preserve-unknown-fields", read_preserve},
    {"x-kubernetes-list-type", read_list_type},
    {"x-kubernetes-list-map-keys", read_list_keys},
};

static int compile_keyword(const cJSON *value, struct structural_schema *schema, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(keywords); i++) {
        if (strcmp(value->string, keywords[i].name) == 0) {
            return keywords[i].read(value, schema, err) ? err_wrap(err, "%s", keywords[i].name) : 0;
        }
    }
    return err_set(err, ERR_INVALID, "%.100s: is a keyword that this program does not know", value->string);
}

int structural_schema_compile(const cJSON *tree, struct structural_schema **ret_schema, struct err *err)
{
    if (!cJSON_IsObject(tree)) {
        return err_set(err, ERR_INVALID, "must be a schema");
    }
    struct structural_schema *schema = xcalloc(1, sizeof *schema);
    schema->max_length = schema->max_items = schema->max_properties = SIZE_MAX;
    const cJSON *value;
    cJSON_ArrayForEach(value, tree)
    {
        if (compile_keyword(value, schema, err)) {
            structural_schema_free(schema);
            return -1;
        }
    }
    *ret_schema = schema;
    return 0;
}

static void free_strings(struct schema_strings *strings)
{
    for (size_t i = 0; i < strings->count; i++) {
        free(strings->items[i]);
    }
    free(strings->items);
}

static void free_list(struct schema_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        structural_schema_free(list->items[i]);
    }
    free(list->items);
}

void structural_schema_free(struct structural_schema *schema)
{
    if (!schema) {
        return;
    }
    for (size_t i = 0; i < schema->property_count; i++) {
        free(schema->properties[i].name);
        structural_schema_free(schema->properties[i].schema);
    }
    free(schema->properties);
    structural_schema_free(schema->additional);
    structural_schema_free(schema->items);
    structural_schema_free(schema->not );
    free_strings(&schema->required);
    free_strings(&schema->list_keys);
    free_list(&schema->one_of);
    free_list(&schema->any_of);
    cJSON_Delete(schema->choices);
    if (schema->pattern) {
        regfree(&schema->regex);
    }
    free(schema->pattern);
    free(schema);
}
