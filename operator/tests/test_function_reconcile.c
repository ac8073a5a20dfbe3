/* One Function through gather, plan and execute, against a fake API server. */
#include "operator/function/function_reconcile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator/function/function_deployment.h"
#include "operator/function/function_service.h"
#include "operator/tests/support_function.h"
#include "operator/tests/support_operator.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define GET_DEPLOYMENT   "GET /apis/apps/v1/namespaces/shop/deployments/create-order"
#define GET_SERVICE      "GET /api/v1/namespaces/shop/services/create-order"
#define PATCH_DEPLOYMENT "PATCH /apis/apps/v1/namespaces/shop/deployments/create-order?"
#define PATCH_SCALE      "PATCH /apis/apps/v1/namespaces/shop/deployments/create-order/scale"
#define PATCH_SERVICE    "PATCH /api/v1/namespaces/shop/services/create-order?"
#define PATCH_STATUS     "PATCH /apis/cicada.dev/v1alpha1/namespaces/shop/functions/create-order/status"
#define WATCH_DEPLOYMENTS                                                                                    \
    "GET /apis/apps/v1/deployments?labelSelector=cicada.dev%2Ffunction&resourceVersion=1&watch"

struct fixture {
    struct operator_fixture base;
    struct function_reconciler reconciler;
    struct function_spec *spec;
    char *function_text;
};

static void start(struct fixture *fixture, const char *spec_yaml, struct operator_lists lists)
{
    memset(fixture, 0, sizeof *fixture);
    CLEANUP_JSON cJSON *function = support_function(spec_yaml);
    CLEANUP_JSON cJSON *version = support_yaml("{metadata: {resourceVersion: \"100\"}}");
    support_merge(function, version);
    fixture->spec = support_spec(spec_yaml);
    fixture->function_text = json_print_dup(function);
    lists.functions = fixture->function_text;
    operator_fixture_start(&fixture->base, &lists);
    fixture->reconciler = (struct function_reconciler){
        .sources = {.client = fixture->base.client,
                    .cache = fixture->base.cache,
                    .settings = &operator_fixture_settings},
        .recorder = event_recorder_new(fixture->base.client, "test", NULL),
        .gate = rollout_gate_new(),
    };
}

static void finish(struct fixture *fixture)
{
    event_recorder_free(fixture->reconciler.recorder);
    rollout_gate_free(fixture->reconciler.gate);
    operator_fixture_stop(&fixture->base);
    function_spec_unref(fixture->spec);
    free(fixture->function_text);
}

/* As the API server would return what we apply. */
static char *applied(cJSON *intent /* taken */, const char *metadata)
{
    CLEANUP_JSON cJSON *tree = intent;
    CLEANUP_FREE char *text = xasprintf("{metadata: %s}", metadata);
    CLEANUP_JSON cJSON *patch = support_yaml(text);
    support_merge(tree, patch);
    return json_print_dup(tree);
}

static char *applied_deployment(const struct fixture *fixture, const char *metadata)
{
    return applied(function_deployment_build(fixture->spec, &operator_fixture_settings), metadata);
}

static char *applied_service(const struct fixture *fixture)
{
    return applied(function_service_build(fixture->spec, &operator_fixture_settings),
                   "{uid: s1, resourceVersion: \"201\"}");
}

static void answer(struct fixture *fixture, const char *match, int status, char *body /* taken */)
{
    operator_fixture_answer(&fixture->base, match, status, body);
    free(body);
}

static char *refusal(int code, const char *reason, const char *message)
{
    return xasprintf(
        "{\"kind\":\"Status\",\"status\":\"Failure\",\"code\":%d,\"reason\":\"%s\",\"message\":\"%s\"}", code,
        reason, message);
}

static int reconcile(struct fixture *fixture, struct reconcile_result *ret, struct err *err)
{
    char namespace[] = "shop", name[] = "create-order";
    struct object_key key = {.namespace = namespace, .name = name};
    memset(ret, 0, sizeof *ret);
    err_clear(err);
    return function_reconcile(&fixture->reconciler, &key, ret, err);
}

static void expect_reconciled(struct fixture *fixture)
{
    struct reconcile_result result;
    struct err err = ERR_INIT;
    if (reconcile(fixture, &result, &err)) {
        fail_msg("%s", err.msg);
    }
}

static void expect_request(struct fixture *fixture, const char *match, const char *part)
{
    CLEANUP_FREE char *request = fake_apiserver_request(fixture->base.server, match);
    if (!strstr(request, part)) {
        fail_msg("no \"%s\" in: %s", part, request);
    }
}

static int count(struct fixture *fixture, const char *match)
{
    return fake_apiserver_count(fixture->base.server, match);
}

/* The answer to a status write: the Function with that status, in a newer version. */
static char *answered_status(const struct fixture *fixture, const char *request_match)
{
    CLEANUP_FREE char *request = fake_apiserver_request(fixture->base.server, request_match);
    const char *body = strstr(request, "\r\n\r\n");
    assert_non_null(body);
    CLEANUP_JSON cJSON *function = support_yaml(fixture->function_text);
    CLEANUP_JSON cJSON *status = support_yaml(body + 4);
    CLEANUP_JSON cJSON *version = support_yaml("{metadata: {resourceVersion: \"101\"}}");
    support_merge(function, status);
    support_merge(function, version);
    return json_print_dup(function);
}

static void test_a_new_function_is_made(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{}", (struct operator_lists){.deployments = NULL});
    answer(&fixture, PATCH_DEPLOYMENT, 201,
           applied_deployment(&fixture, "{uid: d1, resourceVersion: \"200\", generation: 1}"));
    answer(&fixture, PATCH_SERVICE, 201, applied_service(&fixture));
    operator_fixture_answer(&fixture.base, PATCH_STATUS, 200, fixture.function_text);
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, GET_DEPLOYMENT), 1); /* whether a stranger's is in the way */
    assert_int_equal(count(&fixture, GET_SERVICE), 1);
    assert_int_equal(count(&fixture, PATCH_SCALE), 0);
    expect_request(&fixture, PATCH_DEPLOYMENT, "fieldManager=cicada-operator&force=true");
    expect_request(&fixture, PATCH_DEPLOYMENT, "application/apply-patch+yaml");
    expect_request(&fixture, PATCH_STATUS, "fieldManager=cicada-operator-status");
    expect_request(&fixture, PATCH_STATUS, "\"reason\":\"Deploying\"");
    /* Not for another Function that was made under this name meanwhile. */
    expect_request(&fixture, PATCH_STATUS, "\"namespace\":\"shop\",\"resourceVersion\":\"100\"}");

    /* What was written is seen at once, long before the watch tells. */
    answer(&fixture, PATCH_STATUS, 200, answered_status(&fixture, PATCH_STATUS));
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, PATCH_DEPLOYMENT), 1);
    assert_int_equal(count(&fixture, PATCH_SERVICE), 1);
    int writes = count(&fixture, "PATCH ");
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, "PATCH "), writes);
    assert_int_equal(count(&fixture, GET_DEPLOYMENT), 1);

    /* The watch brings something newer than what was written: a hash that is not ours. */
    CLEANUP_FREE char *text =
        applied_deployment(&fixture, "{uid: d1, resourceVersion: \"202\", annotations: {cicada.dev/intent: "
                                     "x, cicada.dev/spec-template: y}}");
    CLEANUP_JSON cJSON *changed = support_yaml(text);
    operator_fixture_push(&fixture.base, WATCH_DEPLOYMENTS, "ADDED", changed);
    answer(&fixture, PATCH_DEPLOYMENT, 200,
           applied_deployment(&fixture, "{uid: d1, resourceVersion: \"203\"}"));
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, PATCH_DEPLOYMENT), 2);
    finish(&fixture);
}

static void test_replicas_follow_the_apply(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{replicas: 3}", (struct operator_lists){.deployments = NULL});
    answer(&fixture, PATCH_DEPLOYMENT, 201,
           applied_deployment(&fixture, "{uid: d1, resourceVersion: \"200\"}"));
    operator_fixture_answer(&fixture.base, PATCH_SCALE, 200, NULL);
    answer(&fixture, PATCH_SERVICE, 201, applied_service(&fixture));
    operator_fixture_answer(&fixture.base, PATCH_STATUS, 200, fixture.function_text);
    expect_reconciled(&fixture);
    /* Its controller may have written to it in between: any version of it will do. */
    expect_request(&fixture, PATCH_SCALE, "{\"metadata\":{\"uid\":\"d1\"},\"spec\":{\"replicas\":3}}");
    finish(&fixture);
}

static void test_replicas_of_a_known_deployment_go_by_its_version(void **state)
{
    (void)state;
    struct fixture fixture;
    CLEANUP_SPEC struct function_spec *spec = support_spec("{replicas: 3}");
    CLEANUP_FREE char *deployment = applied(function_deployment_build(spec, &operator_fixture_settings),
                                            "{uid: d1, resourceVersion: \"200\"}");
    start(&fixture, "{replicas: 3}", (struct operator_lists){.deployments = deployment});
    operator_fixture_answer(&fixture.base, PATCH_SCALE, 200, NULL);
    answer(&fixture, PATCH_SERVICE, 201, applied_service(&fixture));
    operator_fixture_answer(&fixture.base, PATCH_STATUS, 200, fixture.function_text);
    expect_reconciled(&fixture);
    expect_request(&fixture, PATCH_SCALE,
                   "{\"metadata\":{\"resourceVersion\":\"200\"},\"spec\":{\"replicas\":3}}");
    finish(&fixture);
}

static void test_a_moved_scale_is_tried_again(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{replicas: 3}", (struct operator_lists){.deployments = NULL});
    answer(&fixture, PATCH_DEPLOYMENT, 201,
           applied_deployment(&fixture, "{uid: d1, resourceVersion: \"200\"}"));
    answer(&fixture, PATCH_SCALE, 409, refusal(409, "Conflict", "the object has been modified"));
    struct reconcile_result result;
    struct err err = ERR_INIT;
    assert_int_equal(reconcile(&fixture, &result, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(count(&fixture, PATCH_STATUS), 0);
    finish(&fixture);
}

static void test_a_refused_deployment_is_an_invalid_spec(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{}", (struct operator_lists){.deployments = NULL});
    answer(&fixture, PATCH_DEPLOYMENT, 422,
           refusal(422, "Invalid", "spec.template.spec.affinity: no such thing"));
    operator_fixture_answer(&fixture.base, PATCH_STATUS, 200, fixture.function_text);
    struct reconcile_result result;
    struct err err = ERR_INIT;
    assert_int_equal(reconcile(&fixture, &result, &err), -1);
    assert_int_equal(err.code, ERR_INVALID); /* not tried again until something changes */
    expect_request(&fixture, PATCH_STATUS,
                   "\"reason\":\"InvalidSpec\",\"message\":\"Deployment shop/create-order: ");
    expect_request(&fixture, PATCH_STATUS, "spec.template.spec.affinity: no such thing");
    finish(&fixture);
}

static void test_a_forbidden_write_is_shown(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{}", (struct operator_lists){.deployments = NULL});
    answer(&fixture, PATCH_DEPLOYMENT, 201,
           applied_deployment(&fixture, "{uid: d1, resourceVersion: \"200\"}"));
    answer(&fixture, PATCH_SERVICE, 403, refusal(403, "Forbidden", "exceeded quota: services"));
    operator_fixture_answer(&fixture.base, PATCH_STATUS, 200, fixture.function_text);
    struct reconcile_result result;
    struct err err = ERR_INIT;
    assert_int_equal(reconcile(&fixture, &result, &err), 0);
    assert_int_equal(result.requeue_after_ms, 30000);
    expect_request(&fixture, PATCH_STATUS, "\"type\":\"Routed\",\"status\":\"False\"");
    expect_request(&fixture, PATCH_STATUS,
                   "\"reason\":\"Forbidden\",\"message\":\"Service shop/create-order: exceeded quota");
    finish(&fixture);
}

static void test_an_outage_writes_no_status(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{}", (struct operator_lists){.deployments = NULL});
    answer(&fixture, PATCH_DEPLOYMENT, 503, refusal(503, "ServiceUnavailable", "etcd"));
    struct reconcile_result result;
    struct err err = ERR_INIT;
    assert_int_equal(reconcile(&fixture, &result, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_int_equal(count(&fixture, PATCH_STATUS), 0);
    finish(&fixture);
}

static void test_a_strangers_deployment_is_left_alone(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{}", (struct operator_lists){.deployments = NULL});
    operator_fixture_answer(
        &fixture.base, GET_DEPLOYMENT, 200,
        "{\"metadata\":{\"name\":\"create-order\",\"namespace\":\"shop\",\"uid\":\"x\"}}");
    answer(&fixture, PATCH_SERVICE, 201, applied_service(&fixture));
    operator_fixture_answer(&fixture.base, PATCH_STATUS, 200, fixture.function_text);
    struct reconcile_result result;
    struct err err = ERR_INIT;
    assert_int_equal(reconcile(&fixture, &result, &err), 0);
    assert_int_equal(result.requeue_after_ms, 30000); /* it carries no label: no watch tells when it goes */
    assert_int_equal(count(&fixture, PATCH_DEPLOYMENT), 0);
    expect_request(&fixture, PATCH_STATUS, "\"reason\":\"NotOwned\"");
    finish(&fixture);
}

static void test_a_strangers_ingress_that_no_watch_told_of_is_left_alone(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{http: {hosts: [shop.example.com]}}", (struct operator_lists){.deployments = NULL});
    answer(&fixture, PATCH_DEPLOYMENT, 201,
           applied_deployment(&fixture, "{uid: d1, resourceVersion: \"200\"}"));
    answer(&fixture, PATCH_SERVICE, 201, applied_service(&fixture));
    operator_fixture_answer(
        &fixture.base, "GET /apis/networking.k8s.io/v1/namespaces/shop/ingresses/create-order", 200,
        "{\"metadata\":{\"name\":\"create-order\",\"namespace\":\"shop\",\"uid\":\"x\"}}");
    operator_fixture_answer(&fixture.base, PATCH_STATUS, 200, fixture.function_text);
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, "PATCH /apis/networking.k8s.io"), 0);
    expect_request(&fixture, PATCH_STATUS, "\"message\":\"Ingress shop/create-order exists");
    finish(&fixture);
}

static void test_a_child_that_lost_its_labels_gets_them_back(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{}", (struct operator_lists){.deployments = NULL});
    answer(&fixture, GET_DEPLOYMENT, 200,
           applied_deployment(&fixture, "{uid: d1, resourceVersion: \"200\", labels: null}"));
    answer(&fixture, PATCH_DEPLOYMENT, 200,
           applied_deployment(&fixture, "{uid: d1, resourceVersion: \"201\"}"));
    answer(&fixture, PATCH_SERVICE, 201, applied_service(&fixture));
    operator_fixture_answer(&fixture.base, PATCH_STATUS, 200, fixture.function_text);
    /* The same spec, so it is a change of the operator's own making, which waits for its turn; there is no other. */
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, PATCH_DEPLOYMENT), 1);
    finish(&fixture);
}

static void push_deployment(struct fixture *fixture, const char *metadata, const char *spec)
{
    CLEANUP_FREE char *text = applied_deployment(fixture, metadata);
    CLEANUP_JSON cJSON *tree = support_yaml(text);
    CLEANUP_JSON cJSON *patch = support_yaml(spec);
    support_merge(tree, patch);
    operator_fixture_push(&fixture->base, WATCH_DEPLOYMENTS, "MODIFIED", tree);
}

static void test_a_change_by_somebody_else_is_undone(void **state)
{
    (void)state;
    struct fixture fixture;
    CLEANUP_SPEC struct function_spec *spec = support_spec("{}");
    CLEANUP_FREE char *deployment = applied(function_deployment_build(spec, &operator_fixture_settings),
                                            "{uid: d1, resourceVersion: \"200\"}");
    CLEANUP_FREE char *service = applied(function_service_build(spec, &operator_fixture_settings),
                                         "{uid: s1, resourceVersion: \"201\"}");
    start(&fixture, "{}", (struct operator_lists){.deployments = deployment, .services = service});
    struct fake_answer status = {.match = PATCH_STATUS, .body = fixture.function_text, .times = -1};
    fake_apiserver_answer(fixture.base.server, &status);
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, PATCH_DEPLOYMENT), 0);

    push_deployment(&fixture, "{uid: d1, resourceVersion: \"202\"}", "{spec: {replicas: 7}}");
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, PATCH_DEPLOYMENT), 0); /* scaling is another matter */

    int64_t pushed_ms = clock_monotonic_ms();
    push_deployment(&fixture, "{uid: d1, resourceVersion: \"203\"}", "{spec: {revisionHistoryLimit: 9}}");
    assert_true(clock_monotonic_ms() - pushed_ms >= 900); /* no haste: it may be a quarrel */
    answer(&fixture, PATCH_DEPLOYMENT, 200,
           applied_deployment(&fixture, "{uid: d1, resourceVersion: \"204\"}"));
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, PATCH_DEPLOYMENT), 1);
    expect_reconciled(&fixture);
    push_deployment(&fixture, "{uid: d1, resourceVersion: \"204\"}", "{}");
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, PATCH_DEPLOYMENT), 1);

    /* A field that no intent of ours has stays after the apply, and that is accepted. */
    push_deployment(&fixture, "{uid: d1, resourceVersion: \"205\"}", "{spec: {minReadySeconds: 1}}");
    CLEANUP_FREE char *kept = applied_deployment(&fixture, "{uid: d1, resourceVersion: \"205\"}");
    CLEANUP_JSON cJSON *tree = support_yaml(kept);
    json_add_int64(cJSON_GetObjectItemCaseSensitive(tree, "spec"), "minReadySeconds", 1);
    answer(&fixture, PATCH_DEPLOYMENT, 200, json_print_dup(tree));
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, PATCH_DEPLOYMENT), 2);
    expect_reconciled(&fixture);
    push_deployment(&fixture, "{uid: d1, resourceVersion: \"206\"}", "{spec: {minReadySeconds: 1}}");
    expect_reconciled(&fixture);
    assert_int_equal(count(&fixture, PATCH_DEPLOYMENT), 2);
    finish(&fixture);
}

static void test_a_function_that_is_gone_is_nothing(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{}", (struct operator_lists){.deployments = NULL});
    char namespace[] = "shop", name[] = "other";
    struct object_key key = {.namespace = namespace, .name = name};
    struct reconcile_result result = {0};
    struct err err = ERR_INIT;
    assert_int_equal(function_reconcile(&fixture.reconciler, &key, &result, &err), 0);
    assert_int_equal(count(&fixture, "PATCH "), 0);
    finish(&fixture);
}

/* ---- what the cache puts into the queue ---- */

#define GATEWAY(name, ip, ready)                                                                             \
    "{\"metadata\":{\"namespace\":\"cicada-system\",\"name\":\"" name "\",\"uid\":\"" name                   \
    "\",\"resourceVersion\":\"5\"},\"status\":{\"podIP\":\"" ip                                              \
    "\",\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"" ready "\"}]}}"

static void test_the_world_knows_gateways_and_addresses(void **state)
{
    (void)state;
    struct fixture fixture;
    struct operator_lists lists = {
        .gateways = GATEWAY("g1", "10.0.0.2", "True") "," GATEWAY("g2", "10.0.0.1", "True") "," GATEWAY(
            "g3", "10.0.0.3", "False"),
        .gateway_services =
            "{\"metadata\":{\"namespace\":\"cicada-system\",\"name\":\"cicada-gateway\",\"uid\":\"g\"},"
            "\"status\":{\"loadBalancer\":{\"ingress\":[{\"hostname\":\"lb.example.com\"}]}}}"};
    start(&fixture, "{http: {hosts: [shop.example.com]}}", lists);
    struct function_gathered gathered;
    struct err err = ERR_INIT;
    assert_int_equal(function_gather(&fixture.reconciler.sources, "shop", "create-order", 1, &gathered, &err),
                     0);
    assert_int_equal(gathered.world.gateway_ip_count, 2);
    assert_string_equal(gathered.world.gateway_ips[0], "10.0.0.1");
    assert_string_equal(gathered.world.gateway_ips[1], "10.0.0.2");
    assert_int_equal(gathered.world.publish_address_count, 1);
    assert_string_equal(gathered.world.publish_addresses[0], "lb.example.com");
    assert_null(gathered.world.host_owners[0]);
    function_gathered_release(&gathered);
    finish(&fixture);
}

static void test_changes_reach_their_functions(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{http: {hosts: [shop.example.com]}}",
          (struct operator_lists){
              .ingresses = "{\"metadata\":{\"namespace\":\"x\",\"name\":\"y\",\"uid\":\"z\"},\"spec\":{"
                           "\"ingressClassName\":\"cicada\"}}"});
    assert_int_equal(fixture.base.foreign_ingresses, 1);
    (void)operator_fixture_drain(&fixture.base);

    /* Another Function that names the host: both are looked at. */
    CLEANUP_JSON cJSON *other = support_function("{http: {hosts: [shop.example.com]}}");
    CLEANUP_JSON cJSON *names =
        support_yaml("{metadata: {name: rival, namespace: market, uid: f9, resourceVersion: \"300\"}}");
    support_merge(other, names);
    operator_fixture_push(&fixture.base, "GET /apis/cicada.dev/v1alpha1/functions?resourceVersion=1&watch",
                          "ADDED", other);
    CLEANUP_JSON cJSON *pod =
        support_yaml("{metadata: {name: p, namespace: shop, uid: p, resourceVersion: \"301\", labels:"
                     " {cicada.dev/function: create-order}}, status: {phase: Pending}}");
    operator_fixture_push(&fixture.base,
                          "GET /api/v1/pods?labelSelector=cicada.dev%2Ffunction&resourceVersion=1&watch",
                          "ADDED", pod);
    assert_int_equal(operator_fixture_drain(&fixture.base), 1);

    struct function_gathered gathered;
    struct err err = ERR_INIT;
    assert_int_equal(function_gather(&fixture.reconciler.sources, "market", "rival", 1, &gathered, &err), 0);
    assert_null(gathered.world.host_owners[0]); /* as old as the other, and before it by name */
    assert_int_equal(gathered.world.pod_count, 0);
    function_gathered_release(&gathered);
    assert_int_equal(function_gather(&fixture.reconciler.sources, "shop", "create-order", 1, &gathered, &err),
                     0);
    assert_int_equal(gathered.world.pod_count, 1);
    assert_string_equal(gathered.world.host_owners[0], "market/rival");
    function_gathered_release(&gathered);
    finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_function_is_made),
        cmocka_unit_test(test_replicas_follow_the_apply),
        cmocka_unit_test(test_replicas_of_a_known_deployment_go_by_its_version),
        cmocka_unit_test(test_a_moved_scale_is_tried_again),
        cmocka_unit_test(test_a_refused_deployment_is_an_invalid_spec),
        cmocka_unit_test(test_a_forbidden_write_is_shown),
        cmocka_unit_test(test_an_outage_writes_no_status),
        cmocka_unit_test(test_a_strangers_deployment_is_left_alone),
        cmocka_unit_test(test_a_strangers_ingress_that_no_watch_told_of_is_left_alone),
        cmocka_unit_test(test_a_child_that_lost_its_labels_gets_them_back),
        cmocka_unit_test(test_a_change_by_somebody_else_is_undone),
        cmocka_unit_test(test_a_function_that_is_gone_is_nothing),
        cmocka_unit_test(test_the_world_knows_gateways_and_addresses),
        cmocka_unit_test(test_changes_reach_their_functions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
