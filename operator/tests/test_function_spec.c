/* Every field of a Function: what is taken, what is refused, and with which words. */
#include "operator/function/function_spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator/tests/support_function.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

static void test_defaults(void **state)
{
    (void)state;
    CLEANUP_SPEC struct function_spec *spec = support_spec("{}");
    assert_string_equal(spec->namespace, "shop");
    assert_string_equal(spec->name, "create-order");
    assert_string_equal(spec->uid, "f1");
    assert_int_equal(spec->generation, 1);
    assert_int_equal(spec->created_ms, 1767225600000);
    assert_false(spec->deleting);
    assert_null(spec->image);
    assert_string_equal(spec->handler, "shop.so:handle_user_request");
    assert_null(spec->env);
    assert_null(spec->env_from);
    assert_null(spec->template);
    assert_false(spec->has_database);
    assert_false(spec->has_http);
    assert_int_equal(spec->timeout_seconds, 30);
    assert_int_equal(spec->idle_timeout_seconds, 60);
    assert_int_equal(spec->hold_seconds, 60);
    assert_int_equal(spec->queue_depth, 1000);
    assert_int_equal(spec->concurrency, 16);
    assert_int_equal(spec->drain_seconds, 30);
    assert_int_equal(spec->body_bytes, 1048576);
    assert_int_equal(spec->response_bytes, 8388608);
    assert_int_equal(spec->hold_bytes, 67108864);
    assert_int_equal(spec->replicas, -1);
    assert_int_equal(spec->min_replicas, 0);
    assert_int_equal(spec->max_replicas, 10);
    assert_int_equal(spec->initial_replicas, 1);
    assert_int_equal(spec->activation_replicas, 1);
    assert_int_equal(spec->target_utilization, 70);
    assert_int_equal(spec->idle_seconds, 60);
    assert_int_equal(spec->window_seconds, 60);
    assert_int_equal(spec->scale_down_delay_seconds, 0);
    assert_string_equal(spec->path, "/");
    assert_string_equal(spec->ingress_class_name, "cicada");
    assert_int_equal(spec->success_status, 200);
}

static void test_everything(void **state)
{
    (void)state;
    CLEANUP_SPEC struct function_spec *spec = support_spec(
        "{image: \"registry.example.com:5000/shop@sha256:0123\", handler: \"eu/shop-1.2.so:f\","
        " env: [{name: MODE, value: fast}, {name: KEY, valueFrom: {secretKeyRef: {name: s, key: k}}}],"
        " envFrom: [{configMapRef: {name: c}}, {prefix: P_, secretRef: {name: s}}],"
        " database: {secretRef: {name: shop-db, key: uri}, poolSize: 8, isolation: Serializable},"
        " timeoutSeconds: 10, idleTimeoutSeconds: 20, holdSeconds: 5, queueDepth: 7, concurrency: 250, "
        "drainSeconds: 11,"
        " limits: {bodyBytes: 0, responseBytes: 1024, holdBytes: 4294967296}, replicas: 0,"
        " scaling: {minReplicas: 2, maxReplicas: 3, initialReplicas: 3, targetUtilization: 100, idleSeconds: "
        "1,"
        " windowSeconds: 6, scaleDownDelaySeconds: 9, activationReplicas: 2},"
        " http: {hosts: [shop.example.com, \"*.example.com\"], path: /orders/eu, pathTemplate: "
        "\"/{id}/items/{item}\","
        " methods: [GET, POST], successStatus: 201, ingressClassName: nginx, tlsSecretName: shop-tls},"
        " template: {labels: {team: shop}, terminationGracePeriodSeconds: 11}}");
    assert_string_equal(spec->image, "registry.example.com:5000/shop@sha256:0123");
    assert_string_equal(spec->handler, "eu/shop-1.2.so:f");
    assert_int_equal(cJSON_GetArraySize(spec->env), 2);
    assert_int_equal(cJSON_GetArraySize(spec->env_from), 2);
    assert_true(spec->has_database);
    assert_string_equal(spec->database_secret, "shop-db");
    assert_string_equal(spec->database_key, "uri");
    assert_int_equal(spec->database_pool_size, 8);
    assert_int_equal(spec->database_isolation, ISOLATION_SERIALIZABLE);
    assert_int_equal(spec->drain_seconds, 11);
    assert_int_equal(spec->body_bytes, 0);
    assert_int_equal(spec->hold_bytes, 4294967296);
    assert_int_equal(spec->replicas, 0);
    assert_int_equal(spec->initial_replicas, 3);
    assert_int_equal(spec->host_count, 2);
    assert_string_equal(spec->hosts[1], "*.example.com");
    assert_string_equal(spec->path, "/orders/eu");
    assert_string_equal(spec->path_template, "/{id}/items/{item}");
    assert_int_equal(spec->method_count, 2);
    assert_int_equal(spec->success_status, 201);
    assert_string_equal(spec->ingress_class_name, "nginx");
    assert_string_equal(json_string(json_object(spec->template, "labels"), "team"), "shop");
}

/* Newer schemas add fields and defaults; the API server prunes what it does not know. */
static void test_unknown_members_are_not_looked_at(void **state)
{
    (void)state;
    CLEANUP_SPEC struct function_spec *spec =
        support_spec("{later: 1, scaling: {later: {}}, http: {later: []}}");
    assert_true(spec->has_http);
    assert_int_equal(spec->host_count, 0);
}

static void test_null_is_absent(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *function = support_function("{}");
    cJSON *tree = cJSON_GetObjectItemCaseSensitive(function, "spec");
    static const char *const names[] = {"http",     "database", "scaling", "env",
                                        "template", "replicas", "image"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        cJSON_AddNullToObject(tree, names[i]);
    }
    CLEANUP_SPEC struct function_spec *spec = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(function_spec_parse(function, &spec, &err), 0);
    assert_false(spec->has_http);
    assert_false(spec->has_database);
    assert_int_equal(spec->replicas, -1);
}

static void test_sql_function(void **state)
{
    (void)state;
    CLEANUP_SPEC struct function_spec *spec =
        support_spec("{sql: \"SELECT :a\", result: Row, parameters: [{name: a, default: \"1\"}], "
                     "database: {secretRef: {name: a}, poolSize: 7, pooler: Transaction, retryable: true}, "
                     "http: {idempotency: Required}}");
    assert_null(spec->handler);
    assert_string_equal(spec->sql, "SELECT :a");
    assert_string_equal(spec->result, "Row");
    assert_int_equal(cJSON_GetArraySize(spec->parameters), 1);
    assert_true(spec->database_pooler_transaction);
    assert_true(spec->database_retryable);
    assert_int_equal(spec->idempotency, FUNCTION_IDEMPOTENCY_REQUIRED);
    assert_int_equal(spec->concurrency, 7); /* as many as there are connections */
}

static void test_sql_that_no_environment_holds(void **state)
{
    (void)state;
    char sql[65536];
    memset(sql, '\n', sizeof(sql) - 1); /* two bytes each as JSON */
    sql[sizeof(sql) - 1] = '\0';
    CLEANUP_JSON cJSON *function = support_function("{sql: a, database: {secretRef: {name: a}}}");
    cJSON_ReplaceItemInObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(function, "spec"), "sql",
                                           cJSON_CreateString(sql));
    CLEANUP_SPEC struct function_spec *spec = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(function_spec_parse(function, &spec, &err), -1);
    assert_string_equal(err.msg, "spec.sql: must be at most 122880 bytes as JSON, parameters included");
}

struct refusal {
    const char *spec, *message;
};

static const struct refusal refusals[] = {
    {"{handler: null}", "spec: must have exactly one of handler and sql"},
    {"{handler: \"a.so:f\", sql: \"SELECT 1\"}", "spec: must have exactly one of handler and sql"},
    {"{sql: \"SELECT 1\"}", "spec: sql needs database"},
    {"{sql: \"\", database: {secretRef: {name: a}}}", "spec.sql: must be 1 to 65536 bytes"},
    {"{sql: \"SELECT 1\", database: {secretRef: {name: a}}, result: rows}",
     "spec.result: must be one of Rows, Row, Value, None"},
    {"{sql: \"SELECT 1\", database: {secretRef: {name: a}}, parameters: [{name: a}, {name: \"a b\"}]}",
     "spec.parameters[1]: name must be"},
    {"{sql: \"SELECT 1\", database: {secretRef: {name: a}}, parameters: [{name: a}, {name: a}]}",
     "spec.parameters[1]: must not be listed twice"},
    {"{sql: \"SELECT 1\", database: {secretRef: {name: a}}, parameters: [{name: a, default: 1}]}",
     "spec.parameters[0]: default must be a string"},
    {"{result: Row}", "spec: result and parameters belong to sql"},
    {"{http: {idempotency: Optional}}", "spec: http.idempotency needs database"},
    {"{http: {idempotency: true}}", "spec.http.idempotency: must be one of None, Optional, Required"},
    {"{database: {secretRef: {name: a}, pooler: Session}}",
     "spec.database.pooler: must be one of None, Transaction"},
    {"{database: {secretRef: {name: a}, retryable: \"yes\"}}",
     "spec.database.retryable: must be true or false"},
    {"{handler: \"\"}", "spec.handler: must be <file>.so:<symbol>"},
    {"{handler: \"shop.so\"}", "spec.handler: "},
    {"{handler: \"shop:f\"}", "spec.handler: "},
    {"{handler: \".so:f\"}", "spec.handler: "},
    {"{handler: \"../shop.so:f\"}", "spec.handler: "},
    {"{handler: \"/shop.so:f\"}", "spec.handler: "},
    {"{handler: \"a//shop.so:f\"}", "spec.handler: "},
    {"{handler: \"shop.so:1f\"}", "spec.handler: "},
    {"{handler: \"shop.so:f()\"}", "spec.handler: "},
    {"{handler: 5}", "spec.handler: must be a string"},
    {"{image: \"\"}", "spec.image: must be 1 to 1024 characters"},
    {"{image: \"a b\"}", "spec.image: must be an image reference"},
    {"{timeoutSeconds: 0}", "spec.timeoutSeconds: must be from 1 to 3600"},
    {"{timeoutSeconds: 3601}", "spec.timeoutSeconds: must be from 1 to 3600"},
    {"{timeoutSeconds: 1.5}", "spec.timeoutSeconds: must be a whole number"},
    {"{timeoutSeconds: \"30\"}", "spec.timeoutSeconds: must be a whole number"},
    {"{concurrency: 251}", "spec.concurrency: must be from 1 to 250"},
    {"{replicas: -1}", "spec.replicas: must be from 0 to 1000"},
    {"{limits: {bodyBytes: -1}}", "spec.limits.bodyBytes: must be from 0 to 1073741824"},
    {"{limits: []}", "spec.limits: must be an object"},
    {"{scaling: {maxReplicas: 0}}", "spec.scaling.maxReplicas: must be from 1 to 1000"},
    {"{scaling: {minReplicas: 11}}", "spec.scaling.minReplicas: must not be above maxReplicas (10)"},
    {"{scaling: {initialReplicas: 2, maxReplicas: 1}}",
     "spec.scaling.initialReplicas: must not be above maxReplicas (1)"},
    {"{scaling: {activationReplicas: 2, maxReplicas: 1}}",
     "spec.scaling.activationReplicas: must not be above maxReplicas (1)"},
    {"{database: {}}", "spec.database.secretRef.name: is required"},
    {"{database: {secretRef: {name: \"A\"}}}", "spec.database.secretRef.name: must be a name"},
    {"{database: {secretRef: {name: a, key: \"a/b\"}}}", "spec.database.secretRef.key: must be 1 to 253"},
    {"{database: {secretRef: {name: a}, poolSize: 0}}", "spec.database.poolSize: must be from 1 to 100"},
    {"{database: {secretRef: {name: a}, isolation: None}}",
     "spec.database.isolation: must be one of ReadCommitted, RepeatableRead, Serializable"},
    {"{http: {hosts: [Shop.example.com]}}", "spec.http.hosts[0]: must be a lower case DNS name"},
    {"{http: {hosts: [a.example.com, \"*\"]}}", "spec.http.hosts[1]: "},
    {"{http: {hosts: [\"a.*.com\"]}}", "spec.http.hosts[0]: "},
    {"{http: {hosts: [\"a.com:80\"]}}", "spec.http.hosts[0]: "},
    {"{http: {hosts: [a.com, a.com]}}", "spec.http.hosts[1]: must not be listed twice"},
    {"{http: {hosts: a.com}}", "spec.http.hosts: must be a list"},
    {"{http: {path: orders}}", "spec.http.path: must begin with '/'"},
    {"{http: {path: \"\"}}", "spec.http.path: must begin with '/'"},
    {"{http: {path: /orders/}}", "spec.http.path: must be \"/\", or elements"},
    {"{http: {path: //orders}}", "spec.http.path: "},
    {"{http: {path: /a/../b}}", "spec.http.path: "},
    {"{http: {path: \"/a%20b\"}}", "spec.http.path: "},
    {"{http: {path: \"/a?b\"}}", "spec.http.path: "},
    {"{http: {pathTemplate: \"{id}\"}}", "spec.http.pathTemplate: must begin with '/'"},
    {"{http: {pathTemplate: \"/{id\"}}", "spec.http.pathTemplate: must be \"/\", or elements"},
    {"{http: {pathTemplate: \"/{}\"}}", "spec.http.pathTemplate: "},
    {"{http: {pathTemplate: \"/{1}\"}}", "spec.http.pathTemplate: "},
    {"{http: {pathTemplate: \"/a{id}\"}}", "spec.http.pathTemplate: "},
    {"{http: {pathTemplate: \"/{id}/\"}}", "spec.http.pathTemplate: "},
    {"{http: {pathTemplate: \"/{id}/{id}\"}}", "spec.http.pathTemplate: must not name a parameter twice"},
    {"{http: {methods: [get]}}", "spec.http.methods[0]: must be one of GET"},
    {"{http: {successStatus: 302}}", "spec.http.successStatus: must be from 200 to 299"},
    {"{http: {ingressClassName: \"\"}}", "spec.http.ingressClassName: must be a name"},
    {"{http: {tlsSecretName: \"\"}}", "spec.http.tlsSecretName: must be a name"},
    {"{env: [{value: x}]}", "spec.env[0]: must be an object with a name"},
    {"{env: [{name: A}, {name: A}]}", "spec.env[1] A: must not be listed twice"},
    {"{env: [{name: 1A}]}", "spec.env[0] 1A: must be 1 to 253 letters"},
    {"{env: [{name: CICADA_X}]}", "spec.env[0] CICADA_X: is reserved"},
    {"{env: [{name: CICADA_LOG_LEVEL}, {name: CICADA_LOG_LEVELS}]}",
     "spec.env[1] CICADA_LOG_LEVELS: is reserved"},
    {"{env: [{name: CICADA_SLOW_STATEMENT_MS}, {name: CICADA_SPEC}]}",
     "spec.env[1] CICADA_SPEC: is reserved"},
    {"{env: [{name: CICADA_ACCESS_LOG}, {name: CICADA_LISTEN}]}", "spec.env[1] CICADA_LISTEN: is reserved"},
    {"{env: [{name: POD_IP}]}", "spec.env[0] POD_IP: is reserved"},
    {"{env: [{name: DATABASE_URL}]}", "spec.env[0] DATABASE_URL: is reserved"},
    {"{env: [{name: A, value: 1}]}", "spec.env[0] A: value must be a string"},
    {"{env: [{name: A, value: x, valueFrom: {}}]}", "spec.env[0] A: must not have both value and valueFrom"},
    {"{envFrom: [{}]}", "spec.envFrom[0]: must name one configMapRef or one secretRef"},
    {"{envFrom: [{configMapRef: {name: a}, secretRef: {name: a}}]}", "spec.envFrom[0]: must name one"},
    {"{template: {labels: {cicada.dev/function: x}}}",
     "spec.template.labels.cicada.dev/function: is reserved"},
    {"{template: {labels: {app.kubernetes.io/managed-by: x}}}",
     "spec.template.labels.app.kubernetes.io/managed-by: is reserved"},
    {"{template: {labels: {a: 1}}}", "spec.template.labels.a: must be a string"},
    {"{template: {annotations: {cicada.dev/template: x}}}",
     "spec.template.annotations.cicada.dev/template: is reserved"},
    {"{template: {terminationGracePeriodSeconds: 29}}",
     "spec.template.terminationGracePeriodSeconds: must not be below drainSeconds (30)"},
    {"{template: {terminationGracePeriodSeconds: 0}}",
     "spec.template.terminationGracePeriodSeconds: must be from 1 to 7200"},
    {"{template: {serviceAccountName: A}}", "spec.template.serviceAccountName: must be a name"},
    {"{template: {affinity: []}}", "spec.template.affinity: must be an object"},
    {"{template: {tolerations: {}}}", "spec.template.tolerations: must be a list"},
};

static void test_refusals_name_the_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        CLEANUP_JSON cJSON *function = support_function(refusals[i].spec);
        struct function_spec *spec = NULL;
        struct err err = ERR_INIT;
        if (function_spec_parse(function, &spec, &err) == 0) {
            function_spec_unref(spec);
            fail_msg("accepted: %s", refusals[i].spec);
        }
        assert_int_equal(err.code, ERR_INVALID);
        if (strncmp(err.msg, refusals[i].message, strlen(refusals[i].message)) != 0) {
            fail_msg("%s: \"%s\", not \"%s\"", refusals[i].spec, err.msg, refusals[i].message);
        }
    }
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool fine;
    } names[] = {
        {"a", true},
        {"create-order", true},
        {"a1", true},
        {"", false},
        {"1a", false},
        {"-a", false},
        {"a-", false},
        {"A", false},
        {"a.b", false},
        {"a_b", false},
        {"a123456789012345678901234567890123456789012345678901234567890bc", true},
        {"a123456789012345678901234567890123456789012345678901234567890bcd", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP_JSON cJSON *function = support_function("{}");
        cJSON *metadata = cJSON_GetObjectItemCaseSensitive(function, "metadata");
        cJSON_ReplaceItemInObjectCaseSensitive(metadata, "name", cJSON_CreateString(names[i].name));
        CLEANUP_SPEC struct function_spec *spec = NULL;
        struct err err = ERR_INIT;
        if ((function_spec_parse(function, &spec, &err) == 0) != names[i].fine) {
            fail_msg("\"%s\": %s", names[i].name, err.msg);
        }
    }
}

static void test_a_spec_is_needed_and_deletion_is_seen(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *function = support_function("{}");
    cJSON *metadata = cJSON_GetObjectItemCaseSensitive(function, "metadata");
    json_add_string(metadata, "deletionTimestamp", "2026-01-02T00:00:00Z");
    CLEANUP_SPEC struct function_spec *spec = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(function_spec_parse(function, &spec, &err), 0);
    assert_true(spec->deleting);

    cJSON_DeleteItemFromObjectCaseSensitive(function, "spec");
    struct function_spec *none = NULL;
    assert_int_equal(function_spec_parse(function, &none, &err), -1);
    assert_string_equal(err.msg, "spec: is required");
    assert_null(none);
}

static void test_references(void **state)
{
    (void)state;
    struct function_spec *spec = support_spec("{}");
    assert_ptr_equal(function_spec_ref(spec), spec);
    function_spec_unref(spec);
    assert_string_equal(spec->name, "create-order");
    function_spec_unref(spec);
    function_spec_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sql_function),
        cmocka_unit_test(test_sql_that_no_environment_holds),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_unknown_members_are_not_looked_at),
        cmocka_unit_test(test_null_is_absent),
        cmocka_unit_test(test_refusals_name_the_field),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_a_spec_is_needed_and_deletion_is_seen),
        cmocka_unit_test(test_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
