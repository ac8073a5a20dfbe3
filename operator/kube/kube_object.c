#include "operator/kube/kube_object.h"

#include <stdbool.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"

void kube_object_strip(cJSON *object)
{
    cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
    cJSON_DeleteItemFromObjectCaseSensitive(metadata, "managedFields");
}

/* ---- stubs ---- */

/* Text of one value. */
struct piece {
    const char *at, *end;
};

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
        at++;
    return at;
}

/* at: behind the first quote. NULL: the text ends before the string does. */
static const char *string_end(const char *at, const char *end)
{
    while (at < end && *at != '"')
        at += *at == '\\' ? 2 : 1;
    return at < end ? at + 1 : NULL;
}

/* Where the value at `at` ends, however deep it is; NULL if the text ends before. */
static const char *value_end(const char *at, const char *end)
{
    size_t depth = 0;
    while (at < end) {
        char c = *at;
        if (c == '"') {
            at = string_end(at + 1, end);
            if (!at || depth == 0)
                return at;
            continue;
        }
        if (c == '{' || c == '[')
            depth++;
        else if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            return at;
        else if ((c == '}' || c == ']') && --depth == 0)
            return at + 1;
        at++;
    }
    return NULL;
}

/* A name and its value; returns what is behind them, NULL if there is no such pair. */
static const char *next_member(const char *at, const char *end, struct piece *ret_name,
                               struct piece *ret_value)
{
    ret_name->at = skip_space(at, end);
    if (ret_name->at == end || *ret_name->at != '"')
        return NULL;
    ret_name->end = value_end(ret_name->at, end);
    at = ret_name->end ? skip_space(ret_name->end, end) : end;
    if (at == end || *at != ':')
        return NULL;
    ret_value->at = skip_space(at + 1, end);
    ret_value->end = value_end(ret_value->at, end);
    return ret_value->end;
}

static bool find_member(struct piece object, const char *name, struct piece *ret_value)
{
    size_t len = strlen(name);
    struct piece found;
    const char *at = skip_space(object.at, object.end);
    if (at == object.end || *at != '{')
        return false;
    do {
        at = next_member(at + 1, object.end, &found, ret_value);
        if (!at)
            return false;
        if ((size_t)(found.end - found.at) == len + 2 && memcmp(found.at + 1, name, len) == 0)
            return true;
        at = skip_space(at, object.end);
    } while (at < object.end && *at == ',');
    return false;
}

static void copy_text(struct piece from, cJSON *to, const char *name)
{
    struct piece value;
    CLEANUP_JSON cJSON *text = NULL;
    struct err ignored = ERR_INIT;
    if (find_member(from, name, &value) &&
        json_parse(value.at, (size_t)(value.end - value.at), /* max_depth= */ 1, &text, &ignored) == 0)
        json_add_string(to, name, cJSON_GetStringValue(text));
}

cJSON *kube_object_stub(const char *text, size_t len, const char *member)
{
    static const char *const names[] = {"namespace", "name", "uid", "resourceVersion"};
    struct piece object = {text, text + len}, metadata;
    if ((member && !find_member(object, member, &object)) || !find_member(object, "metadata", &metadata))
        return NULL;
    cJSON *stub = cJSON_CreateObject(), *out = json_add_object(stub, "metadata");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        copy_text(metadata, out, names[i]);
    if (json_string(out, "name") && json_string(out, "resourceVersion"))
        return stub;
    cJSON_Delete(stub);
    return NULL;
}
