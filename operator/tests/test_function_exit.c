/* A container that ended and runs again: no condition shows it, an Event of the Function does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include <cmocka.h>

#include "operator/function/function_pod_failure.h"
#include "operator/function/function_reconcile.h"
#include "operator/tests/support_function.h"
#include "operator/tests/support_operator.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define PATIENCE_MS 10000
#define WATCH_PODS  "GET /api/v1/pods?labelSelector=cicada.dev%2Ffunction&resourceVersion=1&watch"
#define POST_EVENT  "POST /api/v1/namespaces/shop/events"
#define CRASH                                                                                                \
    "{\\\"reason\\\":\\\"ContainerExited\\\",\\\"message\\\":\\\"shop.so:f: killed by SIGSEGV (signal 11); " \
    "requests in flight: 4f1c\\\"}"

/* A pod of create-order with this as its container's status. */
static cJSON *pod_tree(const char *container, const char *version)
{
    CLEANUP_FREE char *text =
        xasprintf("{metadata: {name: p, namespace: shop, uid: p, resourceVersion: \"%s\", labels: "
                  "{cicada.dev/function: "
                  "create-order}}, status: {phase: Running, containerStatuses: [{name: function, %s}]}}",
                  version, container);
    return support_yaml(text);
}

struct exit_case {
    const char *container, *reason, *message; /* reason NULL: nothing to tell */
};

static const struct exit_case exit_cases[] = {
    {"restartCount: 0, state: {running: {}}", NULL, NULL},
    {"restartCount: 1, state: {running: {}}, lastState: {terminated: {exitCode: 0}}", NULL, NULL},
    {"restartCount: 1, state: {running: {}}, lastState: {terminated: {exitCode: 139, message: \"" CRASH
     "\"}}",
     "ContainerExited",
     "image i:1: the container was ended by signal 11: shop.so:f: killed by SIGSEGV (signal 11); requests in "
     "flight: 4f1c"},
    {"restartCount: 0, state: {terminated: {exitCode: 1, message: "
     "'{\"reason\":\"HandlerStuck\",\"message\":\"request 77 took 40 s\"}'}}",
     "HandlerStuck", "request 77 took 40 s"},
    /* The condition tells these at once. */
    {"restartCount: 0, state: {terminated: {exitCode: 1, message: '{\"reason\":\"SqlRejected\"}'}}", NULL,
     NULL},
};

static void test_which_exits_are_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(exit_cases); i++) {
        CLEANUP_JSON cJSON *tree = pod_tree(exit_cases[i].container, "1");
        struct cached_object *object = function_objects_project_pod(NULL, tree);
        const struct cached_pod *pod = container_of(object, const struct cached_pod, base);
        struct pod_failure failure;
        bool told = pod_failure_passing_exit(pod, "i:1", &failure);
        assert_int_equal(told, exit_cases[i].reason != NULL);
        if (told) {
            assert_string_equal(failure.reason, exit_cases[i].reason);
            assert_string_equal(failure.message, exit_cases[i].message);
        }
        cached_object_unref(object);
    }
}

static void test_a_pod_that_goes_is_not_told_of(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *tree = pod_tree("state: {terminated: {exitCode: 137}}", "1");
    CLEANUP_JSON cJSON *going = support_yaml("{metadata: {deletionTimestamp: \"2026-03-01T12:00:00Z\"}}");
    support_merge(tree, going);
    struct cached_object *object = function_objects_project_pod(NULL, tree);
    struct pod_failure failure;
    assert_false(
        pod_failure_passing_exit(container_of(object, const struct cached_pod, base), "i:1", &failure));
    cached_object_unref(object);
}

/* One restart passes through three states of the Pod object: it is one exit. */
static void test_an_exit_is_seen_once_and_becomes_an_event(void **state)
{
    (void)state;
    struct operator_fixture fixture;
    CLEANUP_JSON cJSON *function = support_function("{image: \"i:1\"}");
    CLEANUP_JSON cJSON *running = pod_tree("restartCount: 0, state: {running: {}}", "2");
    CLEANUP_FREE char *function_text = json_print_dup(function), *pod_text = json_print_dup(running);
    operator_fixture_start(&fixture, &(struct operator_lists){.functions = function_text, .pods = pod_text});
    assert_int_equal(atomic_load(&fixture.pod_exits), 0);
    static const char *const steps[] = {
        "restartCount: 0, state: {terminated: {exitCode: 139, message: \"" CRASH "\"}}",
        "restartCount: 1, ready: false, state: {running: {}}, lastState: {terminated: {exitCode: 139, "
        "message: \"" CRASH "\"}}",
        "restartCount: 2, state: {running: {}}, lastState: {terminated: {exitCode: 139, message: \"" CRASH
        "\"}}",
    };
    static const int exits[] = {1, 1, 2};
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        CLEANUP_FREE char *version = xasprintf("%zu", 300 + i);
        CLEANUP_JSON cJSON *pod = pod_tree(steps[i], version);
        operator_fixture_push(&fixture, WATCH_PODS, "MODIFIED", pod);
        int64_t deadline_ms = clock_monotonic_ms() + PATIENCE_MS; /* the queue hears of it just before */
        while (atomic_load(&fixture.pod_exits) < exits[i] && clock_monotonic_ms() < deadline_ms) {
            assert_false(stop_wait(&fixture.stop, 1));
        }
        assert_int_equal(atomic_load(&fixture.pod_exits), exits[i]);
    }

    struct function_reconciler reconciler = {
        .sources = {.client = fixture.client, .cache = fixture.cache, .settings = &operator_fixture_settings},
        .recorder = event_recorder_new(fixture.client, "test", NULL),
    };
    operator_fixture_answer(&fixture, POST_EVENT, 201, NULL);
    event_recorder_start(reconciler.recorder);
    size_t count = 0;
    struct cached_pod **pods = function_cache_pods(fixture.cache, "shop", "create-order", &count);
    assert_int_equal(count, 1);
    function_reconcile_pod_exit(&reconciler, pods[0]);
    assert_true(fake_apiserver_wait(fixture.server, POST_EVENT, 1, PATIENCE_MS));
    CLEANUP_FREE char *request = fake_apiserver_request(fixture.server, POST_EVENT);
    assert_non_null(strstr(request, "\"reason\":\"ContainerExited\""));
    assert_non_null(strstr(request, "image i:1: the container was ended by signal 11: shop.so:f: killed by"));
    assert_non_null(strstr(request, "\"kind\":\"Function\""));
    event_recorder_stop(reconciler.recorder);
    event_recorder_free(reconciler.recorder);
    cached_object_unref(&pods[0]->base);
    free(pods);
    operator_fixture_stop(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_exits_are_told),
        cmocka_unit_test(test_a_pod_that_goes_is_not_told_of),
        cmocka_unit_test(test_an_exit_is_seen_once_and_becomes_an_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
