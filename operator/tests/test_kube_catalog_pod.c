/* What a pod's status means for those who wait: address, state, failure code. */
#include "operator/gateway/kube_pod.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define CONTAINER(members)                                                                                   \
    "\"containerStatuses\":[{\"name\":\"sidecar\",\"restartCount\":9},{\"name\":\"function\"," members "}]"
#define WAITING(reason) "\"state\":{\"waiting\":{\"reason\":\"" reason "\"}}"
#define ENDED(message)  "{\"terminated\":{\"exitCode\":1,\"message\":" message "}}"
#define LOAD_FAILED     "\"{\\\"reason\\\":\\\"HandlerLoadFailed\\\",\\\"message\\\":\\\"no such symbol\\\"}\""
#define SQL_REJECTED    "\"{\\\"reason\\\":\\\"SqlRejected\\\",\\\"message\\\":\\\"line 3, column 7\\\"}\""
#define SCHEMA_MISSING  "\"{\\\"reason\\\":\\\"SchemaMissing\\\",\\\"message\\\":\\\"run --migrate\\\"}\""
#define UNREACHABLE     "\"{\\\"reason\\\":\\\"DatabaseUnreachable\\\",\\\"message\\\":\\\"refused\\\"}\""

static struct kube_pod *project(const char *metadata, const char *spec, const char *status)
{
    CLEANUP_FREE char *text = xasprintf("{\"metadata\":{\"name\":\"p\",\"namespace\":\"shop\",\"uid\":\"u\","
                                        "\"resourceVersion\":\"1\",\"labels\":"
                                        "{\"cicada.dev/function\":\"f\"}%s},\"spec\":{%s},\"status\":{%s}}",
                                        metadata, spec, status);
    CLEANUP_JSON cJSON *tree = NULL;
    struct err err = ERR_INIT;
    if (json_parse(text, strlen(text), JSON_DEPTH_MAX, &tree, &err) < 0) {
        fail_msg("%s: %s", err.msg, text);
    }
    struct cached_object *object = kube_pod_project(NULL, tree);
    assert_non_null(object);
    return kube_pod_of(object);
}

static void failure_codes(void **state)
{
    (void)state;
    static const struct {
        const char *status, *code;
    } cases[] = {
        {"", NULL},
        {CONTAINER(WAITING("ContainerCreating")), NULL},
        {CONTAINER(WAITING("ErrImagePull")), NULL},
        {CONTAINER(WAITING("ImagePullBackOff")), "ImagePullBackOff"},
        {CONTAINER(WAITING("ErrImageNeverPull")), "ErrImageNeverPull"},
        {CONTAINER(WAITING("InvalidImageName")), "InvalidImageName"},
        {CONTAINER(WAITING("CreateContainerConfigError")), "CreateContainerConfigError"},
        /* The kubelet's cache is late: not the Secret's fault, and gone within a second. */
        {CONTAINER("\"state\":{\"waiting\":{\"reason\":\"CreateContainerConfigError\",\"message\":"
                   "\"failed to sync secret cache: timed out waiting for the condition\"}}"),
         NULL},
        {CONTAINER(WAITING("CrashLoopBackOff")), "ContainerExited"},
        {CONTAINER(WAITING("CrashLoopBackOff") ",\"lastState\":" ENDED(LOAD_FAILED)), "HandlerLoadFailed"},
        /* The first exit may be bad luck, the second is not. */
        {CONTAINER("\"restartCount\":0,\"state\":" ENDED("\"\"")), NULL},
        {CONTAINER("\"restartCount\":1,\"state\":{\"running\":{}},\"lastState\":" ENDED("\"\"")), NULL},
        {CONTAINER("\"restartCount\":0,\"state\":" ENDED(UNREACHABLE)), NULL},
        {CONTAINER("\"restartCount\":1,\"state\":" ENDED(UNREACHABLE)), "DatabaseUnreachable"},
        {CONTAINER("\"restartCount\":0,\"state\":" ENDED(LOAD_FAILED)), "HandlerLoadFailed"},
        {CONTAINER("\"restartCount\":0,\"state\":" ENDED(SQL_REJECTED)), "SqlRejected"},
        {CONTAINER("\"restartCount\":0,\"state\":" ENDED(SCHEMA_MISSING)), "SchemaMissing"},
        {CONTAINER("\"restartCount\":1,\"state\":" ENDED("\"\"")), "ContainerExited"},
        {CONTAINER("\"restartCount\":1,\"state\":" ENDED(LOAD_FAILED)), "HandlerLoadFailed"},
        {CONTAINER("\"restartCount\":2,\"state\":{\"running\":{}},\"lastState\":" ENDED(LOAD_FAILED)),
         "HandlerLoadFailed"},
        /* What the container printed is not a reason. */
        {CONTAINER("\"restartCount\":2,\"lastState\":" ENDED("\"Segmentation fault\"")), "ContainerExited"},
        {CONTAINER("\"restartCount\":2,\"lastState\":" ENDED("\"{\\\"reason\\\":\\\"no reason\\\"}\"")),
         "ContainerExited"},
        {CONTAINER("\"restartCount\":2,\"lastState\":" ENDED("\"{\\\"reason\\\":7}\"")), "ContainerExited"},
        /* Ready, or going: nothing to complain of. */
        {"\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]," CONTAINER("\"restartCount\":5"), NULL},
        {"\"phase\":\"Failed\"," CONTAINER("\"restartCount\":5"), NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct kube_pod *pod = project("", "", cases[i].status);
        const char *code = kube_pod_failure(pod);
        if (!code != !cases[i].code || (code && strcmp(code, cases[i].code) != 0)) {
            fail_msg("%s: %s, not %s", cases[i].status, code ? code : "-",
                     cases[i].code ? cases[i].code : "-");
        }
        cached_object_unref(&pod->object);
    }
}

/* Exits before a pod was ready for the first time, or since it was ready for the last time. */
static void exits_count_from_ready(void **state)
{
    (void)state;
    struct kube_pod *ready = project(
        "", "", "\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]," CONTAINER("\"restartCount\":3"));
    struct kube_pod *once = project("", "", CONTAINER("\"restartCount\":4"));
    struct kube_pod *twice = project("", "", CONTAINER("\"restartCount\":5"));
    kube_pod_inherit(ready, NULL);
    kube_pod_inherit(once, ready);
    kube_pod_inherit(twice, once);
    assert_null(kube_pod_failure(once));
    assert_string_equal(kube_pod_failure(twice), "ContainerExited");
    cached_object_unref(&ready->object);
    cached_object_unref(&once->object);
    cached_object_unref(&twice->object);
}

/* The kubelet shows ErrImagePull again at each further try. */
static void a_pull_fails_again(void **state)
{
    (void)state;
    struct kube_pod *first = project("", "", CONTAINER(WAITING("ErrImagePull")));
    struct kube_pod *backing_off = project("", "", CONTAINER(WAITING("ImagePullBackOff")));
    struct kube_pod *again = project("", "", CONTAINER(WAITING("ErrImagePull")));
    kube_pod_inherit(first, NULL);
    kube_pod_inherit(backing_off, first);
    kube_pod_inherit(again, backing_off);
    assert_null(kube_pod_failure(first));
    assert_string_equal(kube_pod_failure(again), "ErrImagePull");
    cached_object_unref(&first->object);
    cached_object_unref(&backing_off->object);
    cached_object_unref(&again->object);
}

static void states(void **state)
{
    (void)state;
    static const struct {
        const char *metadata, *status;
        enum gateway_pod_state state;
    } cases[] = {
        {"", "", GATEWAY_POD_PENDING},
        {"", "\"conditions\":[{\"type\":\"Ready\",\"status\":\"False\"}]", GATEWAY_POD_PENDING},
        {"",
         "\"conditions\":[{\"type\":\"Initialized\",\"status\":\"True\"},{\"type\":\"Ready\",\"status\":"
         "\"True\"}]",
         GATEWAY_POD_READY},
        {",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"",
         "\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]", GATEWAY_POD_TERMINATING},
        {"", "\"phase\":\"Failed\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]",
         GATEWAY_POD_TERMINATING},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct kube_pod *pod = project(cases[i].metadata, "", cases[i].status);
        assert_int_equal(pod->state, cases[i].state);
        cached_object_unref(&pod->object);
    }
}

static void addresses(void **state)
{
    (void)state;
    static const struct {
        const char *status, *address;
    } cases[] = {
        {"", NULL},
        {"\"podIP\":\"10.1.2.3\"", "10.1.2.3"},
        {"\"podIP\":\"fd00::1\",\"podIPs\":[{\"ip\":\"fd00::1\"},{\"ip\":\"10.1.2.4\"}]", "10.1.2.4"},
        {"\"podIP\":\"fd00::1\"", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct kube_pod *pod = project("", "\"nodeName\":\"n1\"", cases[i].status);
        assert_string_equal(pod->node, "n1");
        struct gateway_pod given;
        kube_pod_to_gateway(pod, &given);
        assert_int_equal(given.has_address, cases[i].address != NULL);
        if (cases[i].address) {
            assert_int_equal(given.address.sin_addr.s_addr, inet_addr(cases[i].address));
            assert_int_equal(ntohs(given.address.sin_port), 8080);
        }
        cached_object_unref(&pod->object);
    }
}

#define NO_NODE                                                                                              \
    "\"conditions\":[{\"type\":\"Ready\",\"status\":\"False\",\"reason\":\"ContainersNotReady\"},"           \
    "{\"type\":\"PodScheduled\",\"status\":\"False\",\"reason\":\"Unschedulable\"}]"
#define NOT_READY                                                                                            \
    "\"conditions\":[{\"type\":\"PodScheduled\",\"status\":\"True\"},{\"type\":\"Ready\","                   \
    "\"status\":\"False\",\"reason\":\"ContainersNotReady\"}]"

static void delay_codes(void **state)
{
    (void)state;
    static const struct {
        const char *status, *code;
    } cases[] = {
        {"", NULL},
        {NO_NODE, "Unschedulable"},
        {NOT_READY, "ContainersNotReady"},
        {NOT_READY "," CONTAINER(WAITING("ContainerCreating")), "ContainerCreating"},
        {NOT_READY "," CONTAINER(WAITING("ErrImagePull")), "ErrImagePull"},
        {NOT_READY "," CONTAINER("\"restartCount\":0,\"state\":" ENDED(UNREACHABLE)), "DatabaseUnreachable"},
        {"\"conditions\":[{\"type\":\"Ready\",\"status\":\"False\",\"reason\":\"what a mess\"}]", NULL},
        {"\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]," CONTAINER("\"restartCount\":1"), NULL},
        {"\"phase\":\"Failed\"," NOT_READY, NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct kube_pod *pod = project("", "", cases[i].status);
        struct gateway_pod given;
        kube_pod_to_gateway(pod, &given);
        if (!given.delay_code != !cases[i].code ||
            (given.delay_code && strcmp(given.delay_code, cases[i].code) != 0)) {
            fail_msg("%s: %s, not %s", cases[i].status, given.delay_code ? given.delay_code : "-",
                     cases[i].code ? cases[i].code : "-");
        }
        cached_object_unref(&pod->object);
    }
}

static void templates(void **state)
{
    (void)state;
    static const char *const metadata[] = {",\"annotations\":{\"cicada.dev/template\":\"a1\"}",
                                           ",\"annotations\":{\"cicada.dev/template\":\"a2\"}",
                                           ",\"annotations\":{\"cicada.dev/template\":\"a1\",\"x\":\"y\"}",
                                           ""};
    uint64_t found[ARRAY_SIZE(metadata)];
    for (size_t i = 0; i < ARRAY_SIZE(metadata); i++) {
        struct kube_pod *pod = project(metadata[i], "", "");
        struct gateway_pod given;
        kube_pod_to_gateway(pod, &given);
        found[i] = given.template;
        cached_object_unref(&pod->object);
    }
    assert_true(found[0] != 0 && found[0] != found[1] && found[0] == found[2] && found[3] == 0);
}

static void others_are_left_out(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *tree =
        cJSON_Parse("{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"u\"}}");
    assert_null(kube_pod_project(NULL, tree));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failure_codes),      cmocka_unit_test(exits_count_from_ready),
        cmocka_unit_test(a_pull_fails_again), cmocka_unit_test(states),
        cmocka_unit_test(addresses),          cmocka_unit_test(delay_codes),
        cmocka_unit_test(templates),          cmocka_unit_test(others_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
