#include "operator/tests/support_function.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/base/yaml.h"

#define FILE_MAX_BYTES (1u << 20)

cJSON *support_yaml(const char *text)
{
    cJSON *tree = NULL;
    struct err err = ERR_INIT;
    if (yaml_document_parse(text, strlen(text), &tree, &err)) {
        fail_msg("%s in:\n%s", err.msg, text);
    }
    return tree;
}

static char *path_below_root(const char *path)
{
    const char *root = getenv("CICADA_TEST_ROOT");
    return xasprintf("%s/%s", root ? root : ".", path);
}

char *support_read(const char *path)
{
    CLEANUP_FREE char *full = path_below_root(path);
    char *data = NULL;
    struct err err = ERR_INIT;
    if (file_read(full, FILE_MAX_BYTES, &data, NULL, &err)) {
        fail_msg("%s: %s", full, err.msg);
    }
    return data;
}

bool support_exists(const char *path)
{
    CLEANUP_FREE char *full = path_below_root(path);
    return access(full, F_OK) == 0;
}

cJSON *support_function(const char *spec_yaml)
{
    cJSON *function =
        support_yaml("{apiVersion: cicada.dev/v1alpha1, kind: Function, metadata: {namespace: shop, "
                     "name: create-order, uid: f1, generation: 1, "
                     "creationTimestamp: \"2026-01-01T00:00:00Z\"}, spec: {}}");
    cJSON *spec = cJSON_GetObjectItemCaseSensitive(function, "spec");
    CLEANUP_JSON cJSON *given = support_yaml(spec_yaml);
    if (!json_get(given, "handler") && !json_get(given, "sql")) {
        json_add_string(spec, "handler", "shop.so:handle_user_request");
    }
    support_merge(spec, given);
    return function;
}

struct function_spec *support_spec(const char *spec_yaml)
{
    CLEANUP_JSON cJSON *function = support_function(spec_yaml);
    struct function_spec *spec = NULL;
    struct err err = ERR_INIT;
    if (function_spec_parse(function, &spec, &err)) {
        fail_msg("%s in: %s", err.msg, spec_yaml);
    }
    return spec;
}

void support_merge(cJSON *target, const cJSON *patch)
{
    const cJSON *member;
    cJSON_ArrayForEach(member, patch)
    {
        cJSON *there = cJSON_GetObjectItemCaseSensitive(target, member->string);
        if (cJSON_IsNull(member)) {
            cJSON_DeleteItemFromObjectCaseSensitive(target, member->string);
        } else if (cJSON_IsObject(member) && cJSON_IsObject(there)) {
            support_merge(there, member);
        } else {
            cJSON_DeleteItemFromObjectCaseSensitive(target, member->string);
            json_add_copy(target, member->string, member);
        }
    }
}
