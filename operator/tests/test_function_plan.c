/* Plans as documents: operator/tests/plan/<case>/{function.yaml,observed.json} in, plan.json out; UPDATE_GOLDEN=1 writes it.
 *
 * observed.json: now, status (of the Function), the children and pods as the API gives them, and what else is in struct
 * function_world. A child with "$desired": true is what the operator itself would apply, with the rest merged over it; with "$drifted": true somebody changed it since. In strings,
 * "$template", "$spec-template" and "$intent" stand for the hashes of that. "bodies": true shows whole objects in plan.json.
 */
#include "operator/function/function_plan.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "operator/function/function_deployment.h"
#include "operator/function/function_service.h"
#include "operator/tests/support_function.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define PLAN_FOLDER "operator/tests/plan"
#define CASES_MAX   128
#define PODS_MAX    8
#define LIST_MAX    8

struct scene {
    cJSON *function_tree, *observed;
    cJSON *deployment_intent; /* NULL if the spec is invalid */
    char template[INTENT_HASH_SIZE];
    struct function_settings settings;
    struct function_world world;
    struct cached_object *objects[16];
    size_t object_count;
    const struct cached_pod *pods[PODS_MAX];
    struct backlog_function backlog;
    const char *hosts[LIST_MAX], *gateways[LIST_MAX], *addresses[LIST_MAX];
};

/* ---- the world of a case ---- */

static struct cached_object *keep(struct scene *scene, struct cached_object *object)
{
    assert_true(scene->object_count < ARRAY_SIZE(scene->objects));
    scene->objects[scene->object_count++] = object;
    return object;
}

/* Replaces "$..." in every string of the tree. */
static void fill_in(const struct scene *scene, cJSON *tree, const cJSON *intent)
{
    const char *text = cJSON_GetStringValue(tree);
    if (text && text[0] == '$') {
        const char *value = strcmp(text, "$template") == 0        ? scene->template
                            : strcmp(text, "$spec-template") == 0 ? scene->world.function->spec_template
                                                                  : function_intent_sealed_hash(intent);
        cJSON_SetValuestring(tree, value);
    }
    cJSON *child;
    cJSON_ArrayForEach(child, tree)
    {
        fill_in(scene, child, intent);
    }
}

static cJSON *desired(const struct scene *scene, const char *kind)
{
    const struct function_spec *spec = scene->world.function->spec;
    if (strcmp(kind, "deployment") == 0) {
        return cJSON_Duplicate(scene->deployment_intent, true);
    }
    if (strcmp(kind, "service") == 0) {
        return function_service_build(spec, &scene->settings);
    }
    if (strcmp(kind, "ingress") == 0) {
        return function_service_build_ingress(spec, NULL);
    }
    return function_service_build_endpoints(spec, scene->gateways, scene->world.gateway_ip_count);
}

/* NULL if the case has none. */
static struct cached_object *observe(struct scene *scene, const char *kind,
                                     struct cached_object *(*project)(void *arg, const cJSON *tree))
{
    const cJSON *given = json_object(scene->observed, kind);
    if (!given) {
        return NULL;
    }
    CLEANUP_JSON cJSON *patch = cJSON_Duplicate(given, true);
    bool wanted = json_bool(patch, "$desired", false);
    CLEANUP_JSON cJSON *tree = wanted ? desired(scene, kind) : cJSON_CreateObject();
    CLEANUP_JSON cJSON *intent = cJSON_Duplicate(tree, true);
    support_merge(tree, patch);
    fill_in(scene, tree, intent);
    struct cached_object *object = keep(scene, project(NULL, tree));
    if (json_bool(tree, "$drifted", false)) {
        struct child_head *head = container_of(object, struct child_head, base);
        atomic_store(&head->accepted, head->content + 1);
    }
    return object;
}

static size_t read_texts(const struct scene *scene, const char *name, const char **out)
{
    size_t count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, json_array(scene->observed, name))
    {
        assert_true(count < LIST_MAX);
        out[count++] = cJSON_GetStringValue(item); /* null stays NULL */
    }
    return count;
}

static void read_pods(struct scene *scene)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, json_array(scene->observed, "pods"))
    {
        CLEANUP_JSON cJSON *tree = support_yaml("{metadata: {name: create-order-1, uid: p1, namespace: shop, "
                                                "labels: {cicada.dev/function: create-order},"
                                                " annotations: {cicada.dev/template: $template}}}");
        support_merge(tree, item);
        fill_in(scene, tree, NULL);
        struct cached_object *object = keep(scene, function_objects_project_pod(NULL, tree));
        assert_true(scene->world.pod_count < PODS_MAX);
        scene->pods[scene->world.pod_count++] = container_of(object, struct cached_pod, base);
    }
}

static void read_function(struct scene *scene, const char *folder)
{
    CLEANUP_FREE char *path = xasprintf("%s/function.yaml", folder);
    CLEANUP_FREE char *text = support_read(path);
    scene->function_tree = support_yaml(text);
    CLEANUP_JSON cJSON *server =
        support_yaml("{metadata: {namespace: shop, name: create-order, uid: f1, generation: 1,"
                     " creationTimestamp: \"2026-01-01T00:00:00Z\"}}");
    support_merge(server, scene->function_tree);
    json_add_copy(server, "status", json_object(scene->observed, "status"));
    struct cached_object *object = keep(scene, function_objects_project_function(NULL, server));
    scene->world.function = container_of(object, struct cached_function, base);
}

static void read_children(struct scene *scene)
{
    struct function_world *world = &scene->world;
    struct cached_object *object = observe(scene, "deployment", function_objects_project_deployment);
    world->deployment = object ? container_of(object, struct cached_deployment, head.base) : NULL;
    const struct cached_child **children[] = {&world->service, &world->endpoints, &world->ingress};
    static const char *const kinds[] = {"service", "endpoints", "ingress"};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        object = observe(scene, kinds[i], function_objects_project_child);
        *children[i] = object ? container_of(object, struct cached_child, head.base) : NULL;
    }
}

static enum backlog_progress progress_of(const char *name)
{
    static const char *const names[] = {[BACKLOG_WORKING] = "Working",
                                        [BACKLOG_READY] = "Ready",
                                        [BACKLOG_PROBLEM] = "Problem",
                                        [BACKLOG_REMOVED] = "Removed"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            return (enum backlog_progress)i;
        }
    }
    fail_msg("no such progress: %s", name);
    return BACKLOG_WORKING;
}

static void read_figures(struct scene *scene, const cJSON *given)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, json_array(given, "triggers"))
    {
        assert_true(scene->backlog.trigger_count < BACKLOG_TRIGGERS_MAX);
        scene->backlog.triggers[scene->backlog.trigger_count++] =
            (struct backlog_trigger){.name = json_string(item, "name"),
                                     .known = json_bool(item, "known", true),
                                     .due = json_int64(item, "due", 0),
                                     .delayed = json_int64(item, "delayed", 0),
                                     .leased = json_int64(item, "leased", 0),
                                     .blocked = json_int64(item, "blocked", 0),
                                     .dead = json_int64(item, "dead", 0),
                                     .oldest_s = (double)json_int64(item, "oldestMs", 0) / 1000,
                                     .next_run_s = json_int64(item, "nextRun", 0)};
    }
}

static void read_triggers(struct scene *scene)
{
    const cJSON *given = json_object(scene->observed, "triggers"), *backlog = json_object(given, "backlog");
    struct world_triggers *triggers = &scene->world.triggers;
    triggers->secret_problem = json_string(given, "secretProblem");
    triggers->secret_missing = json_bool(given, "secretMissing", false);
    triggers->namespace_terminating = json_bool(given, "namespaceTerminating", false);
    if (backlog) {
        scene->backlog =
            (struct backlog_function){.progress = progress_of(json_string(backlog, "progress")),
                                      .reason = xstrdup_or_null(json_string(backlog, "reason")),
                                      .message = xstrdup_or_null(json_string(backlog, "message")),
                                      .cleanup_sql = xstrdup_or_null(json_string(backlog, "cleanupSql")),
                                      .unreachable_ms = json_int64(backlog, "unreachableMs", 0),
                                      .url_unknown = json_bool(backlog, "urlUnknown", false)};
        read_figures(scene, backlog);
        triggers->backlog = &scene->backlog;
    }
}

static void scene_init(struct scene *scene, const char *folder)
{
    memset(scene, 0, sizeof *scene);
    CLEANUP_FREE char *path = xasprintf("%s/observed.json", folder);
    CLEANUP_FREE char *text = support_read(path);
    struct err err = ERR_INIT;
    if (json_parse(text, strlen(text), JSON_DEPTH_MAX, &scene->observed, &err)) {
        fail_msg("%s: %s", path, err.msg);
    }
    const char *image = json_string(scene->observed, "runtimeImage");
    scene->settings = (struct function_settings){.system_namespace = "cicada-system",
                                                 .runtime_image = image ? image : "cicada-runtime:1.0",
                                                 .domain = json_string(scene->observed, "domain"),
                                                 .cluster_domain = "cluster.local"};
    struct function_world *world = &scene->world;
    world->settings = &scene->settings;
    world->may_roll = json_bool(scene->observed, "mayRoll", false);
    world->scaled_why = json_string(scene->observed, "scaledWhy");
    assert_true(parse_rfc3339(json_string(scene->observed, "now"), &world->now_ms));
    read_function(scene, folder);
    if (world->function->spec) {
        scene->deployment_intent = function_deployment_build(world->function->spec, &scene->settings);
        snprintf(scene->template, sizeof scene->template, "%s",
                 json_string(
                     json_path(scene->deployment_intent, "spec", "template", "metadata", "annotations", NULL),
                     ANNOTATION_TEMPLATE));
    }
    (void)read_texts(scene, "hostOwners", scene->hosts);
    world->host_owners = scene->hosts;
    world->gateway_ip_count = read_texts(scene, "gateways", scene->gateways);
    world->gateway_ips = scene->gateways;
    world->publish_address_count = read_texts(scene, "publishAddresses", scene->addresses);
    world->publish_addresses = scene->addresses;
    read_children(scene);
    read_pods(scene);
    read_triggers(scene);
    world->pods = scene->pods;
}

static void scene_release(struct scene *scene)
{
    for (size_t i = 0; i < scene->object_count; i++) {
        cached_object_unref(scene->objects[i]);
    }
    free(scene->backlog.reason);
    free(scene->backlog.message);
    free(scene->backlog.cleanup_sql);
    cJSON_Delete(scene->deployment_intent);
    cJSON_Delete(scene->function_tree);
    cJSON_Delete(scene->observed);
}

/* ---- the plan as a document ---- */

static void show_action(const struct plan_action *action, bool bodies, cJSON *out)
{
    static const char *const verbs[] = {[PLAN_APPLY] = "apply",       [PLAN_APPLY_STATUS] = "apply status",
                                        [PLAN_ANNOTATE] = "annotate", [PLAN_FINALIZER] = "finalizer",
                                        [PLAN_SCALE] = "scale",       [PLAN_DELETE] = "delete"};
    json_add_string(out, "verb", verbs[action->verb]);
    json_add_string(out, "kind", action->resource->kind);
    json_add_string(out, "uid", action->uid);
    if (action->verb == PLAN_SCALE) {
        json_add_int64(out, "replicas", action->replicas);
    }
    if (action->body && (bodies || action->verb == PLAN_APPLY_STATUS || action->verb == PLAN_FINALIZER)) {
        json_add_copy(out, "body", action->body);
    }
}

static void show_event(const struct plan_event *event, const char *name, cJSON *out)
{
    if (event->reason) {
        cJSON *tree = json_add_object(out, name);
        json_add_string(tree, "type", event->warning ? "Warning" : "Normal");
        json_add_string(tree, "reason", event->reason);
        json_add_string(tree, "message", event->message);
    }
}

static cJSON *show(const struct scene *scene, const struct function_plan *plan)
{
    cJSON *out = cJSON_CreateObject(), *actions = json_add_array(out, "actions");
    for (size_t i = 0; i < plan->action_count; i++) {
        show_action(&plan->actions[i], json_bool(scene->observed, "bodies", false),
                    json_append_object(actions));
    }
    if (plan->write_status) {
        CLEANUP_JSON cJSON *intent = function_status_intent(&plan->status, "shop", "create-order", "1");
        json_add_copy(out, "status", json_object(intent, "status"));
    }
    show_event(&plan->event, "event", out);
    show_event(&plan->trigger_event, "triggerEvent", out);
    if (plan->wants_roll) {
        json_add_bool(out, "wantsRoll", true);
    }
    if (plan->requeue_after_ms) {
        json_add_int64(out, "requeueAfterMs", plan->requeue_after_ms);
    }
    return out;
}

static void write_golden(const char *path, const char *text)
{
    const char *root = getenv("CICADA_TEST_ROOT");
    CLEANUP_FREE char *full = xasprintf("%s/%s", root ? root : ".", path);
    FILE *file = fopen(full, "we");
    assert_non_null(file);
    fprintf(file, "%s\n", text);
    assert_int_equal(fclose(file), 0);
}

static void compare_golden(const char *folder, const cJSON *shown)
{
    CLEANUP_FREE char *path = xasprintf("%s/plan.json", folder);
    char *text = cJSON_Print(shown);
    if (getenv("UPDATE_GOLDEN")) {
        write_golden(path, text);
    }
    CLEANUP_FREE char *golden = support_exists(path) ? support_read(path) : xstrdup("");
    size_t len = strlen(golden);
    golden[len > 0 ? len - 1 : 0] = '\0'; /* the newline at the end of the file */
    bool same = strcmp(golden, text) == 0;
    if (!same) {
        print_error("%s: expected\n%s\nbut the plan is\n%s\n", path, golden, text);
    }
    free(text);
    assert_true(same);
}

static void test_case(void **state)
{
    const char *folder = *state;
    struct scene scene;
    struct function_plan plan;
    scene_init(&scene, folder);
    function_plan_compute(&scene.world, &plan);
    CLEANUP_JSON cJSON *shown = show(&scene, &plan);
    /* Deciding twice on one world gives the same plan. */
    struct function_plan again;
    function_plan_compute(&scene.world, &again);
    CLEANUP_JSON cJSON *shown_again = show(&scene, &again);
    assert_true(cJSON_Compare(shown, shown_again, true));
    function_plan_release(&again);
    function_plan_release(&plan);
    scene_release(&scene);
    compare_golden(folder, shown);
}

static int is_case(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(void)
{
    const char *root = getenv("CICADA_TEST_ROOT");
    CLEANUP_FREE char *folder = xasprintf("%s/" PLAN_FOLDER, root ? root : ".");
    struct dirent **entries;
    int count = scandir(folder, &entries, is_case, alphasort);
    if (count < 0 || count > CASES_MAX) {
        fprintf(stderr, "%s: no cases, or too many\n", folder);
        return 1;
    }
    struct CMUnitTest tests[CASES_MAX] = {{0}};
    char *folders[CASES_MAX];
    for (int i = 0; i < count; i++) {
        folders[i] = xasprintf(PLAN_FOLDER "/%s", entries[i]->d_name);
        tests[i] =
            (struct CMUnitTest){.name = folders[i], .test_func = test_case, .initial_state = folders[i]};
        free(entries[i]);
    }
    free(entries);
    int failed = _cmocka_run_group_tests("plan", tests, (size_t)count, NULL, NULL);
    for (int i = 0; i < count; i++) {
        free(folders[i]);
    }
    return failed;
}
