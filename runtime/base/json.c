#include "runtime/base/json.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "runtime/base/json_number.h"
#include "runtime/base/json_reader.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

/* Integers up to here are exact in a double. */
#define EXACT_MAX (INT64_C(1) << 53)

/* cJSON allocates by malloc and answers NULL when memory is out: the same policy as xmalloc(). */
static cJSON *must(cJSON *item)
{
    if (!item) {
        abort();
    }
    return item;
}

int json_check(const char *text, size_t len, int max_depth, struct err *err)
{
    struct json_doc *doc;
    if (json_reader_parse(text, len, max_depth, &doc, err) < 0) {
        return -1;
    }
    json_doc_free(doc);
    return 0;
}

/* Recursion is bounded by JSON_READER_DEPTH_MAX. */
static int build_tree(const struct json_node *node, cJSON **ret_item, struct err *err)
{
    enum json_type type = json_node_type(node);
    if (type == JSON_NUMBER) {
        double value;
        size_t len;
        const char *raw = json_node_raw(node, &len);
        if (!json_node_double(node, &value)) {
            return err_set(err, ERR_INVALID, "number %.*s... is out of range", (int)(len < 40 ? len : 40),
                           raw);
        }
        *ret_item = must(cJSON_CreateNumber(value));
        return 0;
    }
    if (type == JSON_STRING) {
        *ret_item = must(cJSON_CreateString(json_node_string(node, NULL)));
        return 0;
    }
    if (type != JSON_ARRAY && type != JSON_OBJECT) {
        *ret_item = must(type == JSON_NULL ? cJSON_CreateNull() : cJSON_CreateBool(type == JSON_TRUE));
        return 0;
    }
    CLEANUP_JSON cJSON *item = must(type == JSON_ARRAY ? cJSON_CreateArray() : cJSON_CreateObject());
    for (const struct json_node *child = json_node_first(node); child; child = json_node_next(child)) {
        cJSON *child_item = NULL;
        if (build_tree(child, &child_item, err) < 0) {
            return -1;
        }
        if (type == JSON_ARRAY) {
            cJSON_AddItemToArray(item, child_item);
        } else if (!cJSON_AddItemToObject(item, json_node_name(child, NULL), child_item)) {
            abort();
        }
    }
    *ret_item = steal_ptr(&item);
    return 0;
}

int json_parse(const char *text, size_t len, int max_depth, cJSON **ret_tree, struct err *err)
{
    struct json_doc *doc;
    if (json_reader_parse(text, len, max_depth, &doc, err) < 0) {
        return -1;
    }
    cJSON *tree = NULL;
    int result = build_tree(json_doc_root(doc), &tree, err);
    json_doc_free(doc);
    if (result == 0) {
        *ret_tree = tree;
    }
    return result;
}

const cJSON *json_get(const cJSON *object, const char *name)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
}

const cJSON *json_object(const cJSON *object, const char *name)
{
    const cJSON *item = json_get(object, name);
    return cJSON_IsObject(item) ? item : NULL;
}

const cJSON *json_array(const cJSON *object, const char *name)
{
    const cJSON *item = json_get(object, name);
    return cJSON_IsArray(item) ? item : NULL;
}

const char *json_string(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(json_get(object, name));
}

int64_t json_int64(const cJSON *object, const char *name, int64_t absent)
{
    const cJSON *item = json_get(object, name);
    int64_t value;
    if (cJSON_IsRaw(item) && parse_int64(item->valuestring, INT64_MIN, INT64_MAX, &value)) {
        return value;
    }
    if (!cJSON_IsNumber(item) || item->valuedouble != trunc(item->valuedouble) ||
        item->valuedouble < -0x1p63 || item->valuedouble >= 0x1p63) {
        return absent;
    }
    return (int64_t)item->valuedouble;
}

bool json_bool(const cJSON *object, const char *name, bool absent)
{
    const cJSON *item = json_get(object, name);
    return cJSON_IsBool(item) ? cJSON_IsTrue(item) : absent;
}

const cJSON *json_path(const cJSON *object, ...)
{
    va_list names;
    va_start(names, object);
    for (const char *name = va_arg(names, const char *); name && object; name = va_arg(names, const char *)) {
        object = json_get(object, name);
    }
    va_end(names);
    return object;
}

static cJSON *add(cJSON *object, const char *name, cJSON *item)
{
    if (!cJSON_AddItemToObject(object, name, must(item))) {
        abort();
    }
    return item;
}

static cJSON *append(cJSON *array, cJSON *item)
{
    cJSON_AddItemToArray(array, must(item));
    return item;
}

cJSON *json_add_string(cJSON *object, const char *name, const char *value)
{
    return value ? add(object, name, cJSON_CreateString(value)) : NULL;
}

cJSON *json_add_int64(cJSON *object, const char *name, int64_t value)
{
    if (value >= -EXACT_MAX && value <= EXACT_MAX) {
        return add(object, name, cJSON_CreateNumber((double)value));
    }
    char digits[24];
    snprintf(digits, sizeof(digits), "%lld", (long long)value);
    return add(object, name, cJSON_CreateRaw(digits));
}

cJSON *json_add_bool(cJSON *object, const char *name, bool value)
{
    return add(object, name, cJSON_CreateBool(value));
}

cJSON *json_add_object(cJSON *object, const char *name)
{
    return add(object, name, cJSON_CreateObject());
}

cJSON *json_add_array(cJSON *object, const char *name)
{
    return add(object, name, cJSON_CreateArray());
}

cJSON *json_add_copy(cJSON *object, const char *name, const cJSON *value)
{
    return value ? add(object, name, cJSON_Duplicate(value, /* recurse= */ true)) : NULL;
}

cJSON *json_append_string(cJSON *array, const char *value)
{
    return append(array, cJSON_CreateString(value));
}

cJSON *json_append_object(cJSON *array)
{
    return append(array, cJSON_CreateObject());
}

cJSON *json_append_copy(cJSON *array, const cJSON *value)
{
    return append(array, cJSON_Duplicate(value, /* recurse= */ true));
}
