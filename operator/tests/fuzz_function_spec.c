/* The input is a Function's spec. Whatever is accepted becomes a Deployment whose CICADA_SPEC fits the environment, and which the
 * runtime's own parser accepts: what passed the operator is never refused in the pod. */
#include <string.h>

#include "operator/function/function_deployment.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#define function_spec runtime_function_spec /* the runtime has a struct of that name, too */
#include "runtime/host/spec.h"
#undef function_spec

#define ENVIRONMENT_MAX_BYTES 131072 /* of one variable with its name: MAX_ARG_STRLEN of Linux */

/* The kubelet makes "$" of "$$"; the text has no "$(" left that it would expand. */
static char *expand(const char *text)
{
    char *out = xstrdup(text), *to = out;
    for (const char *from = text; *from; from++) {
        if (from[0] == '$' && from[1] == '$') {
            from++;
        } else if (from[0] == '$') {
            abort();
        }
        *to++ = *from;
    }
    *to = '\0';
    return out;
}

static const char *runtime_spec_of(const cJSON *deployment)
{
    const cJSON *container = cJSON_GetArrayItem(
        json_array(json_path(deployment, "spec", "template", "spec", NULL), "containers"), 0);
    const cJSON *var;
    cJSON_ArrayForEach(var, json_array(container, "env"))
    {
        if (strcmp(json_string(var, "name"), "CICADA_SPEC") == 0) {
            return json_string(var, "value");
        }
    }
    abort();
}

static void check_accepted(const struct function_spec *spec)
{
    const struct function_settings settings = {.system_namespace = "cicada-system",
                                               .cluster_domain = "cluster.local",
                                               .runtime_image = "cicada-runtime:1"};
    CLEANUP_JSON cJSON *deployment = function_deployment_build(spec, &settings);
    CLEANUP_FREE char *text = expand(runtime_spec_of(deployment));
    struct runtime_function_spec runtime;
    struct err err = ERR_INIT;
    if (strlen("CICADA_SPEC=") + strlen(text) + 1 > ENVIRONMENT_MAX_BYTES ||
        spec_parse(text, strlen(text), &runtime, &err) != 0) {
        fprintf(stderr, "%s: %s\n", err.msg, text);
        abort();
    }
    spec_release(&runtime);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    CLEANUP_JSON cJSON *given = NULL;
    if (json_parse((const char *)data, size, JSON_DEPTH_MAX, &given, &err) < 0) {
        return 0;
    }
    CLEANUP_JSON cJSON *function = cJSON_CreateObject();
    cJSON *metadata = json_add_object(function, "metadata");
    json_add_string(metadata, "name", "f");
    json_add_string(metadata, "namespace", "n");
    cJSON_AddItemToObject(function, "spec", steal_ptr(&given));
    struct function_spec *spec = NULL;
    if (function_spec_parse(function, &spec, &err) == 0) {
        check_accepted(spec);
        function_spec_unref(spec);
    } else if (err.code != ERR_INVALID || err.msg[0] == '\0') {
        abort();
    }
    return 0;
}
