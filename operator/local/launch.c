#include "operator/local/launch.h"

#include <stdlib.h>
#include <string.h>

#include "operator/function/function_runtime_spec.h"
#include "operator/local/environment.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

static int fail(struct launch_failure *failure, const char *reason)
{
    failure->reason = reason;
    return -1;
}

static int take_handler(const struct launch_sources *sources, const struct function_spec *spec,
                        const struct launch *before, struct launch *launch, struct launch_failure *failure)
{
    CLEANUP_FREE char *file = xstrndup(spec->handler, strcspn(spec->handler, ":"));
    if (handler_store_take(sources->handlers, file, &launch->handlers, &failure->err) == 0) {
        return 0;
    }
    bool is_being_replaced = failure->err.code == ERR_NOT_FOUND || failure->err.code == ERR_CONFLICT;
    if (is_being_replaced && before && before->handlers &&
        strcmp(handler_copy_file(before->handlers), file) == 0) {
        launch->handlers = handler_copy_ref(before->handlers);
        return 0;
    }
    return fail(failure, "HandlerLoadFailed");
}

int launch_database(const struct launch_sources *sources, const char *namespace, const char *secret_name,
                    const char *key, const char **ret_url, struct launch_failure *failure)
{
    const struct data_object *secret = data_store_get(sources->data, DATA_SECRET, namespace, secret_name);
    const struct data_entry *entry = data_object_entry(secret, key);
    if (!secret && !sources->database_url) {
        err_set(&failure->err, ERR_NOT_FOUND,
                "secret \"%s\" is in no manifest, and there is no other database", secret_name);
        return fail(failure, "SecretMissing");
    }
    if (secret && !entry) {
        err_set(&failure->err, ERR_NOT_FOUND, "secret \"%s\" has no key \"%s\"", secret_name, key);
        return fail(failure, "SecretMissing");
    }
    if (entry && strlen(entry->value) != entry->len) {
        err_set(&failure->err, ERR_INVALID, "secret \"%s\", key \"%s\": has a NUL", secret_name, key);
        return fail(failure, "InvalidSpec");
    }
    *ret_url = secret ? entry->value : sources->database_url;
    return 0;
}

static int build_variables(const struct launch_sources *sources, const struct function_spec *spec,
                           struct launch *launch, struct launch_failure *failure)
{
    CLEANUP_JSON cJSON *runtime_spec = function_runtime_spec_build(spec);
    CLEANUP_FREE char *text = json_print_dup(runtime_spec);
    struct environment environment;
    environment_init(&environment);
    environment_set(&environment, "CICADA_LOG_LEVEL", sources->log_level);
    int result = environment_add_spec(&environment, spec, sources->data, &failure->reason, &failure->err);
    environment_set(&environment, "CICADA_SPEC", text);
    environment_set(&environment, "CICADA_FUNCTION_NAME", spec->name);
    environment_set(&environment, "CICADA_FUNCTION_NAMESPACE", spec->namespace);
    if (launch->handlers) {
        environment_set(&environment, "CICADA_FUNCTION_DIR", handler_copy_folder(launch->handlers));
    }
    const char *url = NULL;
    if (result == 0 && spec->has_database) {
        result = launch_database(sources, spec->namespace, spec->database_secret, spec->database_key, &url,
                                 failure);
        environment_set(&environment, "DATABASE_URL", url);
    }
    launch->variables = environment_detach(&environment);
    return result;
}

int launch_new(const struct launch_sources *sources, const struct function_spec *spec,
               const struct launch *before, struct launch **ret_launch, struct launch_failure *ret_failure)
{
    struct launch *launch = xcalloc(1, sizeof *launch);
    launch->refs = 1;
    if ((spec->handler && take_handler(sources, spec, before, launch, ret_failure) < 0) ||
        build_variables(sources, spec, launch, ret_failure) < 0) {
        launch_unref(launch);
        return -1;
    }
    *ret_launch = launch;
    return 0;
}

struct launch *launch_ref(struct launch *launch)
{
    launch->refs++;
    return launch;
}

void launch_unref(struct launch *launch)
{
    if (launch && --launch->refs == 0) {
        environment_free(launch->variables);
        handler_copy_unref(launch->handlers);
        free(launch);
    }
}

bool launch_equal(const struct launch *a, const struct launch *b)
{
    if (!a || !b) {
        return a == b;
    }
    size_t i = 0;
    while (a->variables[i] && b->variables[i] && strcmp(a->variables[i], b->variables[i]) == 0) {
        i++;
    }
    return !a->variables[i] && !b->variables[i]; /* the handlers' folder is one of them */
}
