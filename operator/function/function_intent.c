#include "operator/function/function_intent.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"

void function_intent_hash(const cJSON *tree, char out[INTENT_HASH_SIZE])
{
    snprintf(out, INTENT_HASH_SIZE, "%016" PRIx64, json_hash(tree));
}

void function_intent_add_labels(cJSON *labels, const char *function_name)
{
    json_add_string(labels, LABEL_MANAGED_BY, LABEL_MANAGED_BY_VALUE);
    json_add_string(labels, LABEL_FUNCTION, function_name);
}

static void add_owner(cJSON *metadata, const struct function_spec *spec)
{
    cJSON *owner = json_append_object(json_add_array(metadata, "ownerReferences"));
    json_add_string(owner, "apiVersion", FUNCTION_API_VERSION);
    json_add_string(owner, "kind", "Function");
    json_add_string(owner, "name", spec->name);
    json_add_string(owner, "uid", spec->uid);
    json_add_bool(owner, "controller", true);
    json_add_bool(owner, "blockOwnerDeletion", true);
}

cJSON *function_intent_new(const struct function_spec *spec, const struct kube_resource *resource)
{
    cJSON *intent = cJSON_CreateObject();
    CLEANUP_FREE char *api_version = resource->group[0]
                                         ? xasprintf("%s/%s", resource->group, resource->version)
                                         : xstrdup(resource->version);
    json_add_string(intent, "apiVersion", api_version);
    json_add_string(intent, "kind", resource->kind);
    cJSON *metadata = json_add_object(intent, "metadata");
    json_add_string(metadata, "name", spec->name);
    json_add_string(metadata, "namespace", spec->namespace);
    function_intent_add_labels(json_add_object(metadata, "labels"), spec->name);
    json_add_object(metadata, "annotations");
    add_owner(metadata, spec);
    return intent;
}

cJSON *function_intent_annotations(cJSON *intent)
{
    cJSON *metadata = cJSON_GetObjectItemCaseSensitive(intent, "metadata");
    return cJSON_GetObjectItemCaseSensitive(metadata, "annotations");
}

void function_intent_seal(cJSON *intent)
{
    char hash[INTENT_HASH_SIZE];
    function_intent_hash(intent, hash);
    json_add_string(function_intent_annotations(intent), ANNOTATION_INTENT, hash);
}

const char *function_intent_sealed_hash(const cJSON *intent)
{
    return json_string(json_object(json_object(intent, "metadata"), "annotations"), ANNOTATION_INTENT);
}
