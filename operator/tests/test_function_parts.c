/* The small modules of a Function: status, hosts, the rollout gate, templates, options. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator/function/function_deployment.h"
#include "operator/function/function_hosts.h"
#include "operator/function/function_objects.h"
#include "operator/function/operator_options.h"
#include "operator/function/rollout_gate.h"
#include "operator/function/written_objects.h"
#include "operator/tests/support_function.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

/* ---- status ---- */

static void fill_status(struct function_status *status)
{
    memset(status, 0, sizeof *status);
    condition_set(&status->conditions[CONDITION_READY], CONDITION_TRUE, "Ready", "fine");
    condition_set(&status->conditions[CONDITION_ACTIVE], CONDITION_FALSE, "Asleep", "%s", "no pods");
    status->url = xstrdup("http://a.b.svc");
    status->selector = xstrdup("cicada.dev/function=a");
    status->replicas = 1;
    status->desired_replicas = 2;
}

static void test_status_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct function_status status, none = {.replicas = 0}, read;
    fill_status(&status);
    function_status_stamp(&status, &none, 7, 1767225600999);
    CLEANUP_JSON cJSON *intent = function_status_intent(&status, "b", "a", "u");
    assert_int_equal(cJSON_GetArraySize(json_array(json_object(intent, "status"), "conditions")), 2);
    function_status_parse(intent, &read);
    assert_true(function_status_equal(&status, &read));
    assert_int_equal(read.conditions[CONDITION_READY].since_ms, 1767225600000);
    assert_int_equal(read.conditions[CONDITION_READY].generation, 7);
    assert_int_equal(read.observed_generation, 7);
    assert_int_equal(read.conditions[CONDITION_ROUTED].status, CONDITION_ABSENT);
    read.desired_replicas = 3;
    assert_false(function_status_equal(&status, &read));
    function_status_release(&read);
    function_status_release(&status);
}

static void test_time_moves_with_the_status_only(void **state)
{
    (void)state;
    struct function_status old, now, none = {.replicas = 0};
    fill_status(&old);
    function_status_stamp(&old, &none, 1, 1000);
    fill_status(&now);
    condition_set(&now.conditions[CONDITION_READY], CONDITION_TRUE, "Other", "reason");
    condition_set(&now.conditions[CONDITION_ACTIVE], CONDITION_TRUE, "Awake", "pods");
    function_status_stamp(&now, &old, 2, 5500);
    assert_int_equal(now.conditions[CONDITION_READY].since_ms, 1000);
    assert_int_equal(now.conditions[CONDITION_ACTIVE].since_ms, 5000);
    assert_false(function_status_equal(&now, &old));
    function_status_release(&old);
    function_status_release(&now);
}

static void test_long_messages_are_cut_between_characters(void **state)
{
    (void)state;
    char text[CONDITION_MESSAGE_MAX * 2 + 1];
    for (size_t i = 0; i + 1 < sizeof text; i += 2) {
        memcpy(text + i, "ä", 2);
    }
    text[sizeof text - 1] = '\0';
    struct condition condition = {.status = CONDITION_ABSENT};
    condition_set(&condition, CONDITION_FALSE, "InvalidSpec", "%s", text);
    assert_int_equal(strlen(condition.message), CONDITION_MESSAGE_MAX - 2);
    free(condition.message);
}

static void test_a_strange_status_is_no_trouble(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *function =
        support_yaml("{status: {replicas: x, url: 5, conditions: [1, {}, {type: Ready},"
                     " {type: Ready, status: Maybe, lastTransitionTime: never}]}}");
    struct function_status status;
    function_status_parse(function, &status);
    assert_int_equal(status.conditions[CONDITION_READY].status, CONDITION_ABSENT);
    assert_null(status.url);
    function_status_release(&status);
}

/* ---- hosts ---- */

static struct function_spec *host_spec(const char *namespace, const char *name, const char *created,
                                       const char *http)
{
    CLEANUP_FREE char *text = xasprintf("{http: %s}", http);
    CLEANUP_JSON cJSON *function = support_function(text);
    CLEANUP_FREE char *metadata =
        xasprintf("{metadata: {namespace: %s, name: %s, uid: %s-%s, creationTimestamp: \"%s\"}}", namespace,
                  name, namespace, name, created);
    CLEANUP_JSON cJSON *patch = support_yaml(metadata);
    support_merge(function, patch);
    struct function_spec *spec = NULL;
    struct err err = ERR_INIT;
    if (function_spec_parse(function, &spec, &err)) {
        fail_msg("%s", err.msg);
    }
    return spec;
}

#define OLD   "2026-01-01T00:00:00Z"
#define YOUNG "2026-01-02T00:00:00Z"

static void test_whose_a_host_is(void **state)
{
    (void)state;
    static const struct {
        const char *namespace, *name, *created, *http, *owner;
    } others[] = {
        {"market", "x", OLD, "{hosts: [shop.example.com]}", "market/x"},
        {"market", "x", OLD, "{hosts: [shop.example.com], path: /elsewhere}", "market/x"},
        {"market", "x", OLD, "{hosts: [other.example.com]}", NULL},
        {"market", "x", "2026-01-03T00:00:00Z", "{hosts: [shop.example.com]}", NULL},
        {"market", "x", YOUNG, "{hosts: [shop.example.com]}", "market/x"}, /* as old; before us by name */
        {"zoo", "x", YOUNG, "{hosts: [shop.example.com]}", NULL},
        {"shop", "x", OLD, "{hosts: [shop.example.com]}", NULL}, /* another path of the same namespace */
        {"shop", "x", OLD, "{hosts: [shop.example.com], path: /orders}", "shop/x"},
        {"shop", "x", "2026-01-03T00:00:00Z", "{hosts: [shop.example.com], path: /orders}", NULL},
    };
    CLEANUP_SPEC struct function_spec *spec =
        host_spec("shop", "create-order", YOUNG, "{hosts: [a.example.com, shop.example.com], path: /orders}");
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        CLEANUP_SPEC struct function_spec *other =
            host_spec(others[i].namespace, others[i].name, others[i].created, others[i].http);
        struct host_claims claims;
        host_claims_init(&claims, spec);
        host_claims_add(&claims, other);
        CLEANUP_FREE char *first = host_claims_other_owner(&claims, 0);
        CLEANUP_FREE char *second = host_claims_other_owner(&claims, 1);
        assert_null(first);
        if (others[i].owner) {
            assert_non_null(second);
            assert_string_equal(second, others[i].owner);
        } else {
            assert_null(second);
        }
        host_claims_release(&claims);
    }
}

static void test_comparing_hosts(void **state)
{
    (void)state;
    CLEANUP_SPEC struct function_spec *a = host_spec("n", "a", OLD, "{hosts: [a.com, b.com]}");
    CLEANUP_SPEC struct function_spec *b = host_spec("n", "b", OLD, "{hosts: [b.com, a.com]}");
    CLEANUP_SPEC struct function_spec *c = host_spec("n", "c", OLD, "{hosts: [c.com]}");
    CLEANUP_SPEC struct function_spec *d = host_spec("n", "d", OLD, "{hosts: [b.com, a.com], path: /d}");
    assert_true(function_hosts_overlap(a, b));
    assert_false(function_hosts_overlap(a, c));
    assert_true(function_hosts_equal(a, b));
    assert_false(function_hosts_equal(a, c));
    assert_false(function_hosts_equal(b, d));
}

/* ---- the gate ---- */

static void test_five_awake_functions_roll_at_a_time(void **state)
{
    (void)state;
    struct rollout_gate *gate = rollout_gate_new();
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        assert_true(rollout_gate_enter(gate, "n", names[i], true, 1000));
    }
    assert_false(rollout_gate_enter(gate, "n", "f", true, 1000));
    assert_true(rollout_gate_enter(gate, "n", "c", true, 2000)); /* has its place already */
    rollout_gate_leave(gate, "m", "c");
    assert_false(rollout_gate_enter(gate, "n", "f", true, 2000));
    rollout_gate_leave(gate, "n", "c");
    assert_true(rollout_gate_enter(gate, "n", "f", true, 2000));
    /* Rollouts that do not end give way. */
    assert_false(rollout_gate_enter(gate, "n", "g", true, 1000 + ROLLOUT_GATE_HOLD_MS));
    assert_true(rollout_gate_enter(gate, "n", "g", true, 1001 + ROLLOUT_GATE_HOLD_MS));
    rollout_gate_free(gate);
}

static void test_sleeping_functions_pass_at_a_rate(void **state)
{
    (void)state;
    struct rollout_gate *gate = rollout_gate_new();
    int passed = 0;
    for (int64_t now_ms = 10000; now_ms < 11000; now_ms++) {
        passed += rollout_gate_enter(gate, "n", "a", false, now_ms) ? 1 : 0;
    }
    assert_int_equal(passed, ROLLOUT_GATE_ASLEEP_PER_SECOND);
    rollout_gate_free(gate);
    rollout_gate_free(NULL);
}

/* ---- templates ---- */

static void spec_template_of(const char *spec_yaml, char out[INTENT_HASH_SIZE])
{
    CLEANUP_SPEC struct function_spec *spec = support_spec(spec_yaml);
    function_deployment_spec_template(spec, out);
}

/* What rolls pods, and what must not. */
static void test_what_changes_the_spec_template(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        bool same;
    } rows[] = {
        {"{}", true},
        {"{queueDepth: 5, holdSeconds: 5}", true},
        {"{scaling: {minReplicas: 1, initialReplicas: 2}}", true},
        {"{replicas: 3}", true},
        {"{http: {}}", true},
        {"{http: {hosts: [a.com], path: /a, methods: [GET]}}", true},
        {"{limits: {holdBytes: 65536}}", true},
        {"{env: [], envFrom: [], template: {}}", true},
        {"{image: x}", false},
        {"{handler: \"b.so:f\"}", false},
        {"{concurrency: 17}", false},
        {"{timeoutSeconds: 31}", false},
        {"{drainSeconds: 31}", false},
        {"{idleTimeoutSeconds: 5}", false},
        {"{handler: null, sql: a, database: {secretRef: {name: a}}}", false},
        {"{database: {secretRef: {name: a}}, http: {idempotency: Optional}}", false},
        {"{limits: {bodyBytes: 5}}", false},
        {"{env: [{name: A, value: b}]}", false},
        {"{envFrom: [{secretRef: {name: a}}]}", false},
        {"{database: {secretRef: {name: a}}}", false},
        {"{http: {pathTemplate: \"/{id}\"}}", false},
        {"{http: {successStatus: 201}}", false},
        {"{template: {labels: {a: b}}}", false},
    };
    char usual[INTENT_HASH_SIZE], other[INTENT_HASH_SIZE];
    spec_template_of("{}", usual);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        spec_template_of(rows[i].spec, other);
        if ((strcmp(usual, other) == 0) != rows[i].same) {
            fail_msg("%s: %s", rows[i].spec, rows[i].same ? "differs" : "is the same");
        }
    }
}

/* A release that computes it otherwise would wake and roll every Function there is, all at once: a new member of the runtime's spec must
 * be absent where nobody asks for it. */
static void test_the_spec_template_stays_over_releases(void **state)
{
    (void)state;
    char hash[INTENT_HASH_SIZE];
    spec_template_of("{}", hash);
    assert_string_equal(hash, "2dee8e467b99c016");
    spec_template_of("{image: \"shop:1\", database: {secretRef: {name: shop-db}}, env: [{name: A, value: b}],"
                     " http: {pathTemplate: \"/{id}\", successStatus: 201}, template: {labels: {a: b}}}",
                     hash);
    assert_string_equal(hash, "b761c116bb09496e");
}

/* An upgrade changes the template, not what the spec asks for. */
static void test_the_operators_defaults_are_apart(void **state)
{
    (void)state;
    CLEANUP_SPEC struct function_spec *spec = support_spec("{}");
    struct function_settings one = {.system_namespace = "s", .runtime_image = "r:1", .cluster_domain = "c"};
    struct function_settings two = one;
    two.runtime_image = "r:2";
    CLEANUP_JSON cJSON *a = function_deployment_build(spec, &one);
    CLEANUP_JSON cJSON *b = function_deployment_build(spec, &two);
    const cJSON *annotations_a = json_object(json_object(a, "metadata"), "annotations");
    const cJSON *annotations_b = json_object(json_object(b, "metadata"), "annotations");
    assert_string_equal(json_string(annotations_a, ANNOTATION_SPEC_TEMPLATE),
                        json_string(annotations_b, ANNOTATION_SPEC_TEMPLATE));
    assert_string_not_equal(function_intent_sealed_hash(a), function_intent_sealed_hash(b));
    assert_null(json_get(json_object(a, "spec"), "replicas"));
    assert_null(json_path(a, "spec", "template", "spec", "volumes", NULL));
}

static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *domain, *url;
    } rows[] = {
        {"{}", "fn.example.com", "http://create-order.shop.svc"},
        {"{http: {}}", NULL, "http://create-order.shop.svc"},
        {"{http: {}}", "fn.example.com", "http://create-order.shop.fn.example.com"},
        {"{http: {hosts: [\"*.a.com\"]}}", "fn.example.com", "http://create-order.shop.fn.example.com"},
        {"{http: {hosts: [\"*.a.com\", b.com]}}", "fn.example.com", "http://b.com"},
        {"{http: {hosts: [a.com], path: /x/y}}", NULL, "http://a.com/x/y"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP_SPEC struct function_spec *spec = support_spec(rows[i].spec);
        struct function_settings settings = {.domain = rows[i].domain};
        CLEANUP_FREE char *url = function_names_url(spec, &settings);
        assert_string_equal(url, rows[i].url);
    }
}

/* ---- projections ---- */

/* Nothing that the API may send makes trouble. */
static void test_projections_of_odd_objects(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        "{metadata: 1, spec: 2, status: 3}",
        "{metadata: {name: a, ownerReferences: [1, {}, {controller: true}], annotations: [], labels: x},"
        " spec: {replicas: x, template: 1}, status: {conditions: [1, {}, {type: 1}], containerStatuses: [1, "
        "{}, {name:"
        " function, state: 1}], loadBalancer: {ingress: [1, {}]}}}",
    };
    struct cached_object *(*const projections[])(void *, const cJSON *) = {
        function_objects_project_function, function_objects_project_deployment,
        function_objects_project_child, function_objects_project_pod};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        CLEANUP_JSON cJSON *tree = support_yaml(texts[i]);
        for (size_t j = 0; j < ARRAY_SIZE(projections); j++) {
            cached_object_unref(projections[j](NULL, tree));
        }
    }
}

/* ---- what was written ---- */

struct fake_clock {
    struct clock base;
    int64_t now_ms;
};

static int64_t fake_now(const struct clock *self)
{
    return ((const struct fake_clock *)(const void *)self)->now_ms; /* base is its first member */
}

static void test_what_no_watch_tells_of_counts_for_a_minute(void **state)
{
    (void)state;
    struct fake_clock clock = {.base = {.monotonic_ms = fake_now, .wall_ms = fake_now}, .now_ms = 5};
    CLEANUP_JSON cJSON *tree =
        support_yaml("{metadata: {namespace: shop, name: a, uid: u, resourceVersion: \"7\"}}");
    struct cached_object *object = function_objects_project_child(NULL, tree);
    struct written_objects *objects = written_objects_new(&clock.base);
    written_objects_put(objects, 1, object);
    assert_null(written_objects_get(objects, 2, "shop", "a"));
    clock.now_ms += WRITTEN_OBJECTS_MAX_AGE_MS;
    struct cached_object *read = written_objects_get(objects, 1, "shop", "a");
    assert_ptr_equal(read, object);
    cached_object_unref(read);
    clock.now_ms++;
    assert_null(written_objects_get(objects, 1, "shop", "a"));
    written_objects_put(objects, 1, object);
    read = written_objects_get(objects, 1, "shop", "a");
    assert_ptr_equal(read, object);
    cached_object_unref(read);
    CLEANUP_FREE char *version = written_objects_forget(objects, 1, "shop", "a");
    assert_string_equal(version, "7");
    assert_null(written_objects_get(objects, 1, "shop", "a"));
    assert_null(written_objects_forget(objects, 1, "shop", "a"));
    written_objects_free(objects);
    cached_object_unref(object);
}

/* ---- options ---- */

static void free_parts(char **parts)
{
    for (size_t i = 0; parts[i]; i++) {
        free(parts[i]);
    }
    free(parts);
}

static void test_lists_of_options(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t count;
        const char *last;
    } rows[] = {{NULL, 0, NULL}, {"", 0, NULL},   {",", 0, NULL},
                {"a", 1, "a"},   {"a,b", 2, "b"}, {",a,,bc,", 2, "bc"}};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        size_t count;
        char **parts = operator_options_split(rows[i].text, &count);
        assert_int_equal(count, rows[i].count);
        assert_null(parts[count]);
        if (count) {
            assert_string_equal(parts[count - 1], rows[i].last);
        }
        free_parts(parts);
    }
}

static void test_options_that_the_api_server_would_refuse(void **state)
{
    (void)state;
    static const struct {
        const char *cluster_domain, *domain, *namespaces, *addresses, *complaint;
    } rows[] = {
        {"cluster.local", NULL, NULL, NULL, ""},
        {"a.b", "fn.example.com", "shop,market", "10.0.0.1,fe80::1,lb.example.com", ""},
        {"a.b", NULL, "shop,Market", NULL, "--watch-namespaces: \"Market\" is no namespace"},
        {"a.b", NULL, NULL, "LB.example.com",
         "--publish-addresses: \"LB.example.com\" is no address or host name"},
        {"a.b", NULL, NULL, "10.0.0.1:80", "--publish-addresses: \"10.0.0.1:80\" is no address or host name"},
        {"a_b", NULL, NULL, NULL, "--cluster-domain or --domain: \"a_b\" is no DNS name"},
        {"a.b", "*.a", NULL, NULL, "--cluster-domain or --domain: \"*.a\" is no DNS name"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct operator_options options = {.cluster_domain = xstrdup(rows[i].cluster_domain),
                                           .domain = xstrdup_or_null(rows[i].domain)};
        size_t count;
        char **namespaces = operator_options_split(rows[i].namespaces, &count);
        char **addresses = operator_options_split(rows[i].addresses, &count);
        struct err err = ERR_INIT;
        int result = operator_options_check(&options, namespaces, addresses, &err);
        assert_string_equal(err.msg, rows[i].complaint);
        assert_int_equal(result, rows[i].complaint[0] ? -1 : 0);
        free_parts(namespaces);
        free_parts(addresses);
        free(options.cluster_domain);
        free(options.domain);
    }
}

static void test_options_of_the_program(void **state)
{
    (void)state;
    char program[] = "x", image[] = "--runtime-image=r:2", workers[] = "--workers", number[] = "4";
    char *argv[] = {program, image, workers, number, NULL};
    struct operator_options options = {.workers = 0};
    enum options_result result;
    int first;
    struct err err = ERR_INIT;
    assert_int_equal(options_parse(&operator_option_table, 4, argv, &options, &result, &first, &err), 0);
    assert_int_equal(result, OPTIONS_RUN);
    assert_string_equal(options.runtime_image, "r:2");
    assert_int_equal(options.workers, 4);
    assert_string_equal(options.cluster_domain, "cluster.local");
    assert_string_equal(options.lease_name, "cicada-operator");
    assert_null(options.domain);
    options_release(&operator_option_table, &options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_is_read_as_it_was_written),
        cmocka_unit_test(test_time_moves_with_the_status_only),
        cmocka_unit_test(test_long_messages_are_cut_between_characters),
        cmocka_unit_test(test_a_strange_status_is_no_trouble),
        cmocka_unit_test(test_whose_a_host_is),
        cmocka_unit_test(test_comparing_hosts),
        cmocka_unit_test(test_five_awake_functions_roll_at_a_time),
        cmocka_unit_test(test_sleeping_functions_pass_at_a_rate),
        cmocka_unit_test(test_what_changes_the_spec_template),
        cmocka_unit_test(test_the_spec_template_stays_over_releases),
        cmocka_unit_test(test_the_operators_defaults_are_apart),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_projections_of_odd_objects),
        cmocka_unit_test(test_what_no_watch_tells_of_counts_for_a_minute),
        cmocka_unit_test(test_lists_of_options),
        cmocka_unit_test(test_options_that_the_api_server_would_refuse),
        cmocka_unit_test(test_options_of_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
