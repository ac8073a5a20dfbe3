#include "operator/function/trigger_gather.h"

#include <stdlib.h>
#include <string.h>

#include "operator/function/database_secrets.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define URL_AGE_MS         60000
#define URL_AGE_TROUBLE_MS 5000 /* while the database can't be reached: its password may have changed */

struct urls {
    char *url, *owner_url; /* NULL: not known; owner_url also: it is the same */
};

static void urls_release(struct urls *urls)
{
    free(urls->url);
    free(urls->owner_url);
}

static bool is_unreachable(const struct function_sources *sources, const struct cached_object *function)
{
    struct backlog_function seen;
    if (!backlog_read(sources->backlog, function->namespace, function->name, &seen)) {
        return false;
    }
    bool unreachable = seen.unreachable_ms > 0;
    backlog_function_release(&seen);
    return unreachable;
}

static void note_problem(struct function_gathered *gathered, const struct err *err)
{
    struct world_triggers *triggers = &gathered->world.triggers;
    free(gathered->secret_problem);
    gathered->secret_problem = xstrdup(err->msg);
    triggers->secret_problem = gathered->secret_problem;
    triggers->secret_missing =
        err->code == ERR_NOT_FOUND || err->code == ERR_INVALID || err->code == ERR_FORBIDDEN;
}

/* *ret stays NULL, and gathered holds why, if there is none. */
static void read_url(const struct function_sources *sources, struct function_gathered *gathered,
                     const char *secret, const char *key, char **ret)
{
    const struct cached_object *function = gathered->function;
    int64_t max_age_ms = is_unreachable(sources, function) ? URL_AGE_TROUBLE_MS : URL_AGE_MS;
    struct err err = ERR_INIT;
    if (database_secrets_get(sources->secrets, function->namespace, secret, key, max_age_ms, ret, &err)) {
        note_problem(gathered, &err);
    }
}

static struct urls read_urls(const struct function_sources *sources, struct function_gathered *gathered)
{
    const struct function_spec *spec = gathered->world.function->spec;
    struct urls urls = {NULL, NULL};
    if (spec && spec->has_database) {
        read_url(sources, gathered, spec->database_secret, spec->database_key, &urls.url);
        if (spec->owner_secret) {
            read_url(sources, gathered, spec->owner_secret, spec->owner_key, &urls.owner_url);
        }
    }
    return urls;
}

static void watch(const struct function_sources *sources, struct function_gathered *gathered)
{
    const struct function_world *world = &gathered->world;
    const struct cached_object *function = gathered->function;
    struct urls urls = read_urls(sources, gathered);
    /* Without one of the two what is watched already stays so. */
    if (world->function->has_finalizer && !world->triggers.secret_problem) {
        gathered->left_behind =
            backlog_left_behind(sources->backlog, function->namespace, function->name, urls.url);
        gathered->world.triggers.left_behind = gathered->left_behind;
        backlog_set(sources->backlog, world->function->spec, urls.url, urls.owner_url);
        backlog_set_awake(sources->backlog, function->namespace, function->name,
                          world->deployment && world->deployment->replicas > 0);
    }
    urls_release(&urls);
}

/* Of a Function whose spec can't be read: all that is known of it is its name. */
static struct function_spec *bare_spec(const struct cached_object *function)
{
    CLEANUP_JSON cJSON *tree = cJSON_CreateObject();
    json_add_string(tree, "apiVersion", FUNCTION_API_VERSION);
    json_add_string(tree, "kind", "Function");
    cJSON *metadata = json_add_object(tree, "metadata");
    json_add_string(metadata, "namespace", function->namespace);
    json_add_string(metadata, "name", function->name);
    json_add_string(metadata, "uid", function->uid);
    json_add_string(json_add_object(tree, "spec"), "handler", "none.so:none");
    struct function_spec *spec = NULL;
    struct err err = ERR_INIT;
    if (function_spec_parse(tree, &spec, &err)) {
        log_warn("%s/%s: %s", function->namespace, function->name, err.msg);
    }
    return spec;
}

static bool is_terminating(const struct function_sources *sources, const char *namespace)
{
    CLEANUP_JSON cJSON *tree = NULL;
    struct err err = ERR_INIT;
    if (kube_get(sources->client, &kube_namespaces, NULL, namespace, &tree, &err)) {
        return err.code == ERR_NOT_FOUND;
    }
    return json_string(json_object(tree, "metadata"), "deletionTimestamp") != NULL;
}

static void remove_triggers(const struct function_sources *sources, struct function_gathered *gathered)
{
    const struct cached_function *function = gathered->world.function;
    struct urls urls = read_urls(sources, gathered);
    struct function_spec *spec =
        function->spec ? function_spec_ref(function->spec) : bare_spec(gathered->function);
    if (spec) {
        backlog_remove(sources->backlog, spec, urls.url, urls.owner_url);
    }
    function_spec_unref(spec);
    urls_release(&urls);
    gathered->world.triggers.namespace_terminating =
        function->deleting && is_terminating(sources, function->base.namespace);
}

/* One without triggers is counted where it is known to be a user of a server that is watched, which is of no interest to itself: what is
 * wrong with its Secret is not said here. */
static void count_use(const struct function_sources *sources, struct function_gathered *gathered)
{
    const struct cached_function *function = gathered->world.function;
    const struct cached_object *object = gathered->function;
    const struct function_spec *spec = function->spec;
    CLEANUP_FREE char *url = NULL;
    struct err err = ERR_INIT;
    if (!spec || !spec->has_database || function->deleting) {
        backlog_forget(sources->backlog, object->namespace, object->name);
        return;
    }
    gathered->world.triggers.counted = !spec->database_pooler_transaction;
    if (gathered->world.triggers.counted && backlog_has_watches(sources->backlog) &&
        database_secrets_get(sources->secrets, object->namespace, spec->database_secret, spec->database_key,
                             URL_AGE_MS, &url, &err)) {
        log_debug("%s/%s: its connections are not counted: %s", object->namespace, object->name, err.msg);
    }
    backlog_use(sources->backlog, spec, url);
}

void trigger_gather(const struct function_sources *sources, struct function_gathered *gathered)
{
    const struct cached_function *function = gathered->world.function;
    const struct cached_object *object = gathered->function;
    if (!sources->backlog) {
        return;
    }
    if (function->spec && function->spec->trigger_count > 0 && !function->deleting) {
        watch(sources, gathered);
    } else if (!function->has_finalizer) {
        count_use(sources, gathered);
        return;
    } else if (function->spec || function->deleting) {
        remove_triggers(sources, gathered);
    }
    gathered->has_backlog =
        backlog_read(sources->backlog, object->namespace, object->name, &gathered->backlog);
    gathered->world.triggers.backlog = gathered->has_backlog ? &gathered->backlog : NULL;
}

void trigger_gather_release(struct function_gathered *gathered)
{
    if (gathered->has_backlog) {
        backlog_function_release(&gathered->backlog);
    }
    free(gathered->secret_problem);
    free(gathered->left_behind);
}
