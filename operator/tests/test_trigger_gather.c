/* A Function with triggers through reconciliation: the finalizer, the Secret, and what the watches of databases are told, which a fake
 * stands for here. */
#include "operator/function/trigger_gather.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator/function/function_deployment.h"
#include "operator/function/function_reconcile.h"
#include "operator/function/function_service.h"
#include "operator/tests/support_function.h"
#include "operator/tests/support_operator.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define PATCH_FUNCTION  "PATCH /apis/cicada.dev/v1alpha1/namespaces/shop/functions/create-order?"
#define PATCH_STATUS    "PATCH /apis/cicada.dev/v1alpha1/namespaces/shop/functions/create-order/status"
#define GET_SECRET      "GET /api/v1/namespaces/shop/secrets/shop-db"
#define PATIENCE_MS     10000
#define POST_EVENT      "POST /api/v1/namespaces/shop/events"
#define GET_NAMESPACE   "GET /api/v1/namespaces/shop"
#define WATCH_FUNCTIONS "GET /apis/cicada.dev/v1alpha1/functions?resourceVersion=1&watch"
#define SECRET          "{\"data\":{\"url\":\"cG9zdGdyZXNxbDovL2E=\"}}" /* postgresql://a */
#define NO_SECRET       "{\"kind\":\"Status\",\"code\":404,\"reason\":\"NotFound\",\"message\":\"no\"}"
#define SPEC            "{database: {secretRef: {name: shop-db}}, triggers: [{name: payments, queue: {name: payments}}]}"

#define NO_TRIGGERS "{database: {secretRef: {name: shop-db}}}"
#define NO_DATABASE "{concurrency: 2}"
#define POOLED      "{database: {secretRef: {name: shop-db}, pooler: Transaction}}"

/* ---- the watches of databases ---- */

struct backlog {
    int sets, removes, forgets, uses;
    bool has_watches;
    char *url; /* of the last set or remove; NULL: none was given */
    bool awake;
    bool known; /* one is set */
    struct backlog_function answer;
    bool moves; /* the next URL is that of another database */
};

void backlog_set(struct backlog *backlog, struct function_spec *spec, const char *url, const char *owner_url)
{
    assert_string_equal(spec->name, "create-order");
    assert_null(owner_url);
    backlog->sets++;
    backlog->known = true;
    free(backlog->url);
    backlog->url = xstrdup_or_null(url);
}

char *backlog_left_behind(struct backlog *backlog, const char *namespace, const char *name, const char *url)
{
    assert_string_equal(namespace, "shop");
    assert_string_equal(name, "create-order");
    assert_non_null(url);
    bool moves = backlog->moves;
    backlog->moves = false;
    return moves ? xstrdup("SELECT 1;") : NULL;
}

void backlog_remove(struct backlog *backlog, struct function_spec *spec, const char *url,
                    const char *owner_url)
{
    assert_string_equal(spec->name, "create-order");
    assert_null(owner_url);
    backlog->removes++;
    backlog->known = true;
    free(backlog->url);
    backlog->url = xstrdup_or_null(url);
}

void backlog_forget(struct backlog *backlog, const char *namespace, const char *name)
{
    assert_string_equal(namespace, "shop");
    assert_non_null(name);
    backlog->forgets++;
    backlog->known = false;
}

void backlog_use(struct backlog *backlog, const struct function_spec *spec, const char *url)
{
    assert_string_equal(spec->name, "create-order");
    backlog->uses++;
    backlog->known = false;
    free(backlog->url);
    backlog->url = xstrdup_or_null(url);
}

bool backlog_has_watches(struct backlog *backlog)
{
    return backlog->has_watches;
}

void backlog_set_awake(struct backlog *backlog, const char *namespace, const char *name, bool awake)
{
    assert_string_equal(namespace, "shop");
    assert_string_equal(name, "create-order");
    backlog->awake = awake;
}

bool backlog_read(struct backlog *backlog, const char *namespace, const char *name,
                  struct backlog_function *ret)
{
    assert_string_equal(namespace, "shop");
    assert_string_equal(name, "create-order");
    *ret = backlog->answer;
    ret->reason = xstrdup_or_null(backlog->answer.reason);
    ret->message = xstrdup_or_null(backlog->answer.message);
    return backlog->known;
}

void backlog_function_release(struct backlog_function *function)
{
    free(function->reason);
    free(function->message);
}

struct backlog_load backlog_load(struct backlog *backlog, const char *namespace, const char *name)
{
    (void)backlog;
    (void)namespace;
    (void)name;
    return (struct backlog_load){.any_triggers = false};
}

/* ---- the operator ---- */

struct fixture {
    struct operator_fixture base;
    struct function_reconciler reconciler;
    struct backlog backlog;
    char *function_text;
};

/* The Function as the API server has it, with more metadata. */
static char *function_with(const char *spec_yaml, const char *metadata)
{
    CLEANUP_FREE char *text = xasprintf("{metadata: %s}", metadata);
    CLEANUP_JSON cJSON *function = support_function(spec_yaml), *more = support_yaml(text);
    support_merge(function, more);
    return json_print_dup(function);
}

static char *child(cJSON *intent /* taken */, const char *uid)
{
    CLEANUP_JSON cJSON *tree = intent;
    cJSON *metadata = cJSON_GetObjectItemCaseSensitive(tree, "metadata");
    json_add_string(metadata, "uid", uid);
    json_add_string(metadata, "resourceVersion", "7");
    return json_print_dup(tree);
}

static void answer_status(struct fixture *fixture, const char *function)
{
    fake_apiserver_forget(fixture->base.server, PATCH_STATUS);
    struct fake_answer status = {.match = PATCH_STATUS, .body = function, .times = -1};
    fake_apiserver_answer(fixture->base.server, &status);
}

/* Its Deployment, of one replica, and its Service are there. */
static void start(struct fixture *fixture, const char *spec_yaml, const char *metadata)
{
    memset(fixture, 0, sizeof *fixture);
    CLEANUP_SPEC struct function_spec *spec = support_spec(spec_yaml);
    cJSON *intent = function_deployment_build(spec, &operator_fixture_settings);
    json_add_int64(cJSON_GetObjectItemCaseSensitive(intent, "spec"), "replicas", 1);
    CLEANUP_FREE char *deployment = child(intent, "d1");
    CLEANUP_FREE char *service = child(function_service_build(spec, &operator_fixture_settings), "s1");
    fixture->function_text = function_with(spec_yaml, metadata);
    struct operator_lists lists = {
        .functions = fixture->function_text, .deployments = deployment, .services = service};
    operator_fixture_start(&fixture->base, &lists);
    answer_status(fixture, fixture->function_text);
    fixture->reconciler = (struct function_reconciler){
        .sources = {.client = fixture->base.client,
                    .cache = fixture->base.cache,
                    .backlog = &fixture->backlog,
                    .secrets = database_secrets_new(fixture->base.client, &clock_system),
                    .settings = &operator_fixture_settings},
        .recorder = event_recorder_new(fixture->base.client, "test", NULL),
        .gate = rollout_gate_new(),
    };
}

static void finish(struct fixture *fixture)
{
    event_recorder_free(fixture->reconciler.recorder);
    rollout_gate_free(fixture->reconciler.gate);
    database_secrets_free(fixture->reconciler.sources.secrets);
    operator_fixture_stop(&fixture->base);
    free(fixture->backlog.url);
    free(fixture->function_text);
}

/* When it is to be looked at again; 0: not. */
static int64_t reconcile(struct fixture *fixture, const char *function)
{
    char namespace[] = "shop", *name = xstrdup(function);
    struct object_key key = {.namespace = namespace, .name = name};
    struct reconcile_result result = {0};
    struct err err = ERR_INIT;
    if (function_reconcile(&fixture->reconciler, &key, &result, &err)) {
        fail_msg("%s", err.msg);
    }
    free(name);
    return result.requeue_after_ms;
}

static int count(struct fixture *fixture, const char *match)
{
    return fake_apiserver_count(fixture->base.server, match);
}

static void expect_request(struct fixture *fixture, const char *match, const char *part)
{
    CLEANUP_FREE char *request = fake_apiserver_request(fixture->base.server, match);
    if (!strstr(request, part)) {
        fail_msg("no %s in: %s", part, request);
    }
}

static void push_function(struct fixture *fixture, const char *spec_yaml, const char *metadata)
{
    CLEANUP_FREE char *text = function_with(spec_yaml, metadata);
    CLEANUP_JSON cJSON *tree = support_yaml(text);
    operator_fixture_push(&fixture->base, WATCH_FUNCTIONS, "MODIFIED", tree);
}

/* ---- tests ---- */

#define WITH_FINALIZER "{resourceVersion: \"101\", finalizers: [cicada.dev/triggers]}"

static void test_a_database_is_told_once_the_finalizer_is_there(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, SPEC, "{resourceVersion: \"100\"}");
    operator_fixture_answer(&fixture.base, GET_SECRET, 200, SECRET);
    CLEANUP_FREE char *marked = function_with(SPEC, WITH_FINALIZER);
    operator_fixture_answer(&fixture.base, PATCH_FUNCTION, 200, marked);
    reconcile(&fixture, "create-order");
    expect_request(&fixture, PATCH_FUNCTION,
                   "{\"metadata\":{\"resourceVersion\":\"100\",\"finalizers\":[\"cicada.dev/triggers\"]}}");
    assert_int_equal(fixture.backlog.sets, 0);
    assert_int_equal(count(&fixture, PATCH_STATUS), 0);

    answer_status(&fixture, marked);
    push_function(&fixture, SPEC, WITH_FINALIZER);
    reconcile(&fixture, "create-order");
    assert_int_equal(fixture.backlog.sets, 1);
    assert_string_equal(fixture.backlog.url, "postgresql://a");
    assert_true(fixture.backlog.awake);
    assert_int_equal(count(&fixture, GET_SECRET), 1); /* what was read is kept */
    expect_request(&fixture, PATCH_STATUS, "\"type\":\"TriggersReady\",\"status\":\"Unknown\"");

    fixture.backlog.answer.progress = BACKLOG_READY;
    reconcile(&fixture, "create-order");
    expect_request(&fixture, PATCH_STATUS, "\"type\":\"TriggersReady\",\"status\":\"True\"");
    assert_int_equal(count(&fixture, PATCH_FUNCTION), 1);
    finish(&fixture);
}

static void test_another_database_is_told_of_once(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, SPEC, WITH_FINALIZER);
    operator_fixture_answer(&fixture.base, GET_SECRET, 200, SECRET);
    operator_fixture_answer(&fixture.base, POST_EVENT, 201, NULL);
    event_recorder_start(fixture.reconciler.recorder);
    fixture.backlog.moves = true;
    reconcile(&fixture, "create-order");
    assert_true(fake_apiserver_wait(fixture.base.server, POST_EVENT, 1, PATIENCE_MS));
    expect_request(&fixture, POST_EVENT, "\"reason\":\"TriggersLeftBehind\"");
    expect_request(&fixture, POST_EVENT, "run there as the tables' owner: SELECT 1;");
    assert_string_equal(fixture.backlog.url, "postgresql://a");
    reconcile(&fixture, "create-order");
    event_recorder_stop(fixture.reconciler.recorder); /* what waits goes out first */
    assert_int_equal(count(&fixture, POST_EVENT), 1);
    finish(&fixture);
}

static void test_a_missing_secret_is_shown(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, SPEC, WITH_FINALIZER);
    operator_fixture_answer(&fixture.base, GET_SECRET, 404, NO_SECRET);
    reconcile(&fixture, "create-order");
    assert_int_equal(fixture.backlog.sets, 0);
    expect_request(&fixture, PATCH_STATUS,
                   "\"reason\":\"SecretMissing\",\"message\":\"Secret shop-db does not exist in namespace");
    finish(&fixture);
}

static void test_a_database_that_rejects_is_asked_with_a_fresh_secret(void **state)
{
    (void)state;
    struct fixture fixture;
    char reason[] = "DatabaseUnreachable", message[] = "the database rejected the password";
    start(&fixture, SPEC, WITH_FINALIZER);
    operator_fixture_answer(&fixture.base, GET_SECRET, 200, SECRET);
    reconcile(&fixture, "create-order");
    fixture.backlog.answer = (struct backlog_function){
        .progress = BACKLOG_PROBLEM, .reason = reason, .message = message, .unreachable_ms = 10};
    reconcile(&fixture, "create-order");
    expect_request(&fixture, PATCH_STATUS, message);
    assert_int_equal(count(&fixture, GET_SECRET), 1); /* it was read a moment ago */
    finish(&fixture);
}

static void test_a_deleted_function_goes_when_its_triggers_are_gone(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, SPEC, WITH_FINALIZER);
    operator_fixture_answer(&fixture.base, GET_SECRET, 200, SECRET);
    struct fake_answer namespace = {
        .match = GET_NAMESPACE " ", .body = "{\"metadata\":{\"name\":\"shop\"}}", .times = -1};
    fake_apiserver_answer(fixture.base.server, &namespace);
    reconcile(&fixture, "create-order");

    push_function(&fixture, SPEC,
                  "{resourceVersion: \"102\", finalizers: [cicada.dev/triggers], deletionTimestamp: "
                  "\"2026-01-01T00:00:00Z\"}");
    reconcile(&fixture, "create-order");
    assert_int_equal(fixture.backlog.removes, 1);
    assert_string_equal(fixture.backlog.url, "postgresql://a");
    assert_int_equal(count(&fixture, GET_NAMESPACE " "), 1);
    assert_int_equal(count(&fixture, PATCH_FUNCTION), 0);

    fixture.backlog.answer.progress = BACKLOG_REMOVED;
    operator_fixture_answer(&fixture.base, PATCH_FUNCTION, 200, fixture.function_text);
    reconcile(&fixture, "create-order");
    expect_request(&fixture, PATCH_FUNCTION,
                   "{\"metadata\":{\"resourceVersion\":\"102\",\"finalizers\":[]}}");
    finish(&fixture);
}

static void test_triggers_taken_out_of_the_spec_are_removed(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{}", WITH_FINALIZER);
    reconcile(&fixture, "create-order");
    assert_int_equal(fixture.backlog.removes, 1);
    assert_null(fixture.backlog.url); /* the spec names no database any more: the last known one */
    fixture.backlog.answer.progress = BACKLOG_REMOVED;
    CLEANUP_FREE char *plain = function_with("{}", "{resourceVersion: \"103\"}");
    operator_fixture_answer(&fixture.base, PATCH_FUNCTION, 200, plain);
    reconcile(&fixture, "create-order");
    expect_request(&fixture, PATCH_FUNCTION, "\"finalizers\":[]");
    assert_int_equal(fixture.backlog.forgets, 0);
    push_function(&fixture, "{}", "{resourceVersion: \"103\"}");
    reconcile(&fixture, "create-order");
    assert_int_equal(fixture.backlog.forgets, 1);
    finish(&fixture);
}

static void test_a_function_that_is_gone_is_forgotten(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{}", "{resourceVersion: \"100\"}");
    reconcile(&fixture, "other");
    assert_int_equal(fixture.backlog.forgets, 1);
    assert_int_equal(count(&fixture, GET_SECRET), 0); /* only Secrets of Functions with triggers are read */
    reconcile(&fixture, "create-order");
    assert_int_equal(fixture.backlog.forgets, 2);
    assert_int_equal(count(&fixture, "GET /api/v1/namespaces/shop/secrets"), 0);
    finish(&fixture);
}

/* Its server's connections are somebody's concern only while a database is watched. */
static void test_a_function_without_triggers_is_counted(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, NO_TRIGGERS, "{resourceVersion: \"100\"}");
    operator_fixture_answer(&fixture.base, GET_SECRET, 200, SECRET);
    assert_int_equal(reconcile(&fixture, "create-order"), 300000); /* there may be a watch by then */
    assert_int_equal(fixture.backlog.uses, 1);
    assert_null(fixture.backlog.url);
    assert_int_equal(count(&fixture, GET_SECRET), 0);

    fixture.backlog.has_watches = true;
    reconcile(&fixture, "create-order");
    reconcile(&fixture, "create-order");
    assert_int_equal(fixture.backlog.uses, 3);
    assert_string_equal(fixture.backlog.url, "postgresql://a");
    assert_int_equal(count(&fixture, GET_SECRET), 1); /* what was read is kept */
    assert_int_equal(fixture.backlog.sets + fixture.backlog.removes + fixture.backlog.forgets, 0);
    assert_int_equal(count(&fixture, PATCH_FUNCTION), 0);
    finish(&fixture);
}

static void test_a_function_without_triggers_may_lack_its_secret(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, NO_TRIGGERS, "{resourceVersion: \"100\"}");
    operator_fixture_answer(&fixture.base, GET_SECRET, 404, NO_SECRET);
    fixture.backlog.has_watches = true;
    reconcile(&fixture, "create-order");
    assert_int_equal(count(&fixture, GET_SECRET), 1);
    assert_int_equal(fixture.backlog.uses, 1);
    assert_null(fixture.backlog.url);
    CLEANUP_FREE char *status = fake_apiserver_request(fixture.base.server, PATCH_STATUS);
    assert_null(strstr(status, "SecretMissing"));
    assert_null(strstr(status, "ConnectionBudget"));
    finish(&fixture);
}

/* The pooler has the connections then. */
static void test_a_function_behind_a_pooler_is_not_counted(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, POOLED, "{resourceVersion: \"100\"}");
    fixture.backlog.has_watches = true;
    reconcile(&fixture, "create-order");
    assert_null(fixture.backlog.url);
    assert_int_equal(count(&fixture, GET_SECRET), 0);
    finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_database_is_told_once_the_finalizer_is_there),
        cmocka_unit_test(test_another_database_is_told_of_once),
        cmocka_unit_test(test_a_missing_secret_is_shown),
        cmocka_unit_test(test_a_database_that_rejects_is_asked_with_a_fresh_secret),
        cmocka_unit_test(test_a_deleted_function_goes_when_its_triggers_are_gone),
        cmocka_unit_test(test_triggers_taken_out_of_the_spec_are_removed),
        cmocka_unit_test(test_a_function_that_is_gone_is_forgotten),
        cmocka_unit_test(test_a_function_without_triggers_is_counted),
        cmocka_unit_test(test_a_function_without_triggers_may_lack_its_secret),
        cmocka_unit_test(test_a_function_behind_a_pooler_is_not_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
