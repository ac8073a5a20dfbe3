#include "operator/local/manifest_data.h"

#include <string.h>

#include "operator/function/function_text.h"
#include "runtime/base/base64.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

/* A value that is null is an empty one, as in the API server. */
#define TEXTS "{type: object, additionalProperties: {type: string, nullable: true}}\n"
#define HEAD                                                                                                 \
    "type: object\n"                                                                                         \
    "properties:\n"                                                                                          \
    "  apiVersion: {type: string}\n"                                                                         \
    "  kind: {type: string}\n"                                                                               \
    "  immutable: {type: boolean}\n"

const char manifest_secret_schema[] = HEAD "  type: {type: string}\n"
                                           "  data: " TEXTS "  stringData: " TEXTS;
const char manifest_config_map_schema[] = HEAD "  data: " TEXTS "  binaryData: " TEXTS;

#define WHY_MAX_BYTES 256

static const char *check_key(const char *key)
{
    const char *why = function_text_check_data_key(key);
    if (!why && (strcmp(key, ".") == 0 || str_starts_with(key, ".."))) {
        why = "must not be '.' or begin with '..'";
    }
    return why;
}

/* stringData of a Secret takes the place of data; a ConfigMap's two maps may not share a key. */
static struct manifest_data *find(struct manifest_object *target, const char *name)
{
    for (size_t i = 0; i < target->data_count; i++) {
        if (strcmp(target->data[i].name, name) == 0) {
            return &target->data[i];
        }
    }
    return NULL;
}

/* Takes bytes. */
static void put(struct manifest_object *target, const char *name, char *bytes, size_t len)
{
    struct manifest_data *data = find(target, name);
    if (data) {
        free(data->bytes);
    } else {
        /* Room was made for all of them. */
        data = &target->data[target->data_count++];
        data->name = xstrdup(name);
    }
    data->bytes = bytes;
    data->len = len;
}

static void __attribute__((format(printf, 5, 6)))
fail(const char *map, const cJSON *entry, bool key, struct schema_problems *problems, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    CLEANUP_FREE char *why = format_text(WHY_MAX_BYTES, format, args);
    va_end(args);
    CLEANUP_FREE char *path = xasprintf("%s[%.253s]", map, entry->string);
    schema_problems_add(problems, SCHEMA_INVALID, path, entry, "%s%s", key ? "the key " : "", why);
}

static void read_entry(const char *map, const cJSON *entry, bool encoded, struct manifest_object *target,
                       struct schema_problems *problems)
{
    const char *text = cJSON_IsString(entry) ? entry->valuestring : "";
    const char *why = check_key(entry->string);
    if (why) {
        fail(map, entry, /* key= */ true, problems, "%s", why);
        return;
    }
    if (!encoded) {
        put(target, entry->string, xstrdup(text), strlen(text));
        return;
    }
    char *bytes = NULL;
    size_t len = 0;
    struct err err = ERR_INIT;
    /* Line breaks are fine in Kubernetes, other white space is not. */
    if (strpbrk(text, " \t") || base64_decode(text, &bytes, &len, &err)) {
        fail(map, entry, /* key= */ false, problems, "must be base64; text as it is goes into %s",
             target->kind == MANIFEST_SECRET ? "stringData" : "data");
        return;
    }
    put(target, entry->string, bytes, len);
}

static void read_map(const cJSON *object, const char *map, bool encoded, struct manifest_object *target,
                     struct schema_problems *problems)
{
    const cJSON *entry;
    cJSON_ArrayForEach(entry, json_object(object, map))
    {
        if (target->kind == MANIFEST_CONFIG_MAP && encoded && find(target, entry->string)) {
            fail(map, entry, /* key= */ true, problems, "must not be in data as well");
            continue;
        }
        read_entry(map, entry, encoded, target, problems);
    }
}

void manifest_data_read(const cJSON *object, struct manifest_object *target, struct schema_problems *problems)
{
    bool secret = target->kind == MANIFEST_SECRET;
    const char *other = secret ? "stringData" : "binaryData";
    int count =
        cJSON_GetArraySize(json_object(object, "data")) + cJSON_GetArraySize(json_object(object, other));
    target->data = xcalloc((size_t)count + 1, sizeof target->data[0]);
    read_map(object, "data", /* encoded= */ secret, target, problems);
    read_map(object, other, /* encoded= */ !secret, target, problems);
    size_t bytes = 0;
    for (size_t i = 0; i < target->data_count; i++) {
        bytes += target->data[i].len;
    }
    if (bytes > MANIFEST_DATA_MAX_BYTES) {
        /* The server names data, or no field: both maps count together. */
        schema_problems_add(problems, SCHEMA_INVALID, secret ? "data" : "", object,
                            "must have at most %u bytes of data together", MANIFEST_DATA_MAX_BYTES);
    }
}

void manifest_data_free(struct manifest_data *data, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(data[i].name);
        free(data[i].bytes);
    }
    free(data);
}
