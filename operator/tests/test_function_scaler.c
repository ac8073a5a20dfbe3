/* The scaler against a fake API server and gateways of its own making; and the readings of gateways alone. */
#include "operator/function/function_scaler.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator/autoscaler/gateway_stats.h"
#include "operator/function/function_deployment.h"
#include "operator/tests/support_function.h"
#include "operator/tests/support_operator.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/http/http_client.h"
#include "runtime/http/http_server.h"

#define PATIENCE_MS 10000
#define PATCH_SCALE "PATCH /apis/apps/v1/namespaces/shop/deployments/create-order/scale"
#define IDLE        "{\"uptimeMs\":3600000,\"functions\":[]}"
#define BUSY                                                                                                 \
    "{\"uptimeMs\":3600000,\"functions\":[{\"namespace\":\"shop\",\"name\":\"create-order\",\"inFlight\":"   \
    "20,"                                                                                                    \
    "\"waiting\":5,\"inFlightMs\":1,\"waitingMs\":1,\"idleMs\":0}]}"

/* ---- what waits for events; stands for the watches of databases ---- */

struct backlog {
    pthread_mutex_t mu;
    struct backlog_load load; /* guarded by mu */
};

struct backlog_load backlog_load(struct backlog *backlog, const char *namespace, const char *name)
{
    assert_string_equal(namespace, "shop");
    assert_string_equal(name, "create-order");
    pthread_mutex_lock(&backlog->mu);
    struct backlog_load load = backlog->load;
    pthread_mutex_unlock(&backlog->mu);
    return load;
}

static void backlog_says(struct backlog *backlog, struct backlog_load load)
{
    pthread_mutex_lock(&backlog->mu);
    backlog->load = load;
    pthread_mutex_unlock(&backlog->mu);
}

/* ---- a gateway ---- */

struct fake_gateway {
    struct http_server *server;
    pthread_mutex_t mu;
    const char *statz; /* guarded by mu; NULL: 503 */
};

static void serve(void *arg, struct http_request *req)
{
    struct fake_gateway *gateway = arg;
    struct err err = ERR_INIT;
    pthread_mutex_lock(&gateway->mu);
    const char *text = gateway->statz;
    pthread_mutex_unlock(&gateway->mu);
    if (http_request_respond(req, text ? 200 : 503, NULL, 0, text ? text : "", text ? strlen(text) : 0,
                             &err)) {
        print_error("the gateway's answer: %s\n", err.msg);
    }
}

static void gateway_start(struct fake_gateway *gateway, const char *statz)
{
    struct err err = ERR_INIT;
    memset(gateway, 0, sizeof *gateway);
    pthread_mutex_init(&gateway->mu, NULL);
    gateway->statz = statz;
    struct http_server_settings settings = {.listen = "127.0.0.1:0",
                                            .threads = 2,
                                            .header_timeout_ms = 5000,
                                            .keep_alive_timeout_ms = 5000,
                                            .handler = serve,
                                            .handler_arg = gateway};
    if (http_server_start(&settings, &gateway->server, &err)) {
        fail_msg("%s", err.msg);
    }
}

static void gateway_says(struct fake_gateway *gateway, const char *statz)
{
    pthread_mutex_lock(&gateway->mu);
    gateway->statz = statz;
    pthread_mutex_unlock(&gateway->mu);
}

static void gateway_stop(struct fake_gateway *gateway)
{
    http_server_stop(gateway->server);
    pthread_mutex_destroy(&gateway->mu);
}

/* ---- readings ---- */

static void test_figures_of_all_gateways_add_up(void **state)
{
    (void)state;
    struct fake_gateway gateway;
    gateway_start(&gateway, BUSY);
    struct stop stop;
    stop_init(&stop);
    struct gateway_stats *stats = gateway_stats_new(http_server_port(gateway.server), &stop);
    /* Two pods, which the test serves by the same program. */
    const struct gateway_address gateways[] = {{"u1", "127.0.0.1", true}, {"u2", "127.0.0.1", true}};
    assert_int_equal(gateway_stats_poll(stats, gateways, 2), 0);
    struct autoscaler_load load = gateway_stats_load(stats, "shop", "create-order");
    assert_int_equal(load.in_flight, 40);
    assert_int_equal(load.waiting, 10);
    assert_true(load.any && load.complete);
    assert_int_equal(load.quiet_ms, 0);
    assert_int_equal(gateway_stats_load(stats, "shop", "other").quiet_ms, 3600000);

    gateway_says(&gateway, NULL);
    assert_int_equal(gateway_stats_poll(stats, gateways, 2), 2);
    load = gateway_stats_load(stats, "shop", "create-order");
    assert_false(load.any);
    assert_false(load.complete);

    gateway_says(&gateway, "nonsense");
    assert_int_equal(gateway_stats_poll(stats, gateways, 1), 1);
    gateway_says(&gateway, IDLE);
    assert_int_equal(gateway_stats_poll(stats, gateways, 1), 0);
    assert_true(gateway_stats_load(stats, "shop", "create-order").complete);
    /* One gateway that can't be read is enough to make them incomplete. */
    const struct gateway_address one_gone[] = {{"u1", "127.0.0.1", true}, {"u3", "127.0.0.2", true}};
    gateway_says(&gateway, BUSY);
    assert_int_equal(gateway_stats_poll(stats, one_gone, 2), 1);
    load = gateway_stats_load(stats, "shop", "create-order");
    assert_true(load.any);
    assert_false(load.complete);

    assert_int_equal(gateway_stats_poll(stats, NULL, 0), 0);
    load = gateway_stats_load(stats, "shop", "create-order");
    assert_false(load.any);
    assert_false(load.complete);
    gateway_stats_free(stats);
    stop_release(&stop);
    gateway_stop(&gateway);
}

/* ---- the scaler ---- */

#define GATEWAY_POD                                                                                          \
    "{\"metadata\":{\"namespace\":\"cicada-system\",\"name\":\"g1\",\"uid\":\"g1\",\"resourceVersion\":"     \
    "\"5\"},\"status\":{\"podIP\":\"127.0.0.1\",\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\","  \
    "\"status\":\"True\"}]}}"

struct fixture {
    struct operator_fixture base;
    struct fake_gateway gateway;
    struct metrics *metrics;
    struct event_recorder *recorder;
    struct backlog backlog;
    struct function_scaler *scaler;
};

/* deployment_yaml is merged over the Deployment that the spec asks for. */
static void start(struct fixture *fixture, const char *spec_yaml, const char *deployment_yaml,
                  const char *statz)
{
    static const struct function_settings settings = {
        .system_namespace = "cicada-system", .runtime_image = "r:1", .cluster_domain = "cluster.local"};
    CLEANUP_JSON cJSON *function = support_function(spec_yaml);
    CLEANUP_FREE char *function_text = json_print_dup(function);
    CLEANUP_SPEC struct function_spec *spec = support_spec(spec_yaml);
    CLEANUP_JSON cJSON *deployment = function_deployment_build(spec, &settings);
    char hash[INTENT_HASH_SIZE];
    function_deployment_spec_template(spec, hash);
    json_add_string(function_intent_annotations(deployment), ANNOTATION_PROVEN, hash);
    CLEANUP_JSON cJSON *patch = support_yaml(deployment_yaml);
    support_merge(deployment, patch);
    CLEANUP_FREE char *deployment_text = json_print_dup(deployment);
    struct operator_lists lists = {
        .functions = function_text, .deployments = deployment_text, .gateways = GATEWAY_POD};
    memset(fixture, 0, sizeof *fixture);
    pthread_mutex_init(&fixture->backlog.mu, NULL);
    gateway_start(&fixture->gateway, statz);
    operator_fixture_start(&fixture->base, &lists);
    fixture->metrics = metrics_new();
    fixture->recorder = event_recorder_new(fixture->base.client, "test", fixture->metrics);
    event_recorder_start(fixture->recorder);
    fixture->scaler =
        function_scaler_new(fixture->base.client, fixture->base.cache, fixture->recorder, &fixture->backlog,
                            http_server_port(fixture->gateway.server), fixture->metrics);
    assert_int_equal(function_scaler_silence_ms(fixture->scaler), 0);
}

static void finish(struct fixture *fixture)
{
    function_scaler_stop(fixture->scaler);
    function_scaler_free(fixture->scaler);
    event_recorder_stop(fixture->recorder);
    event_recorder_free(fixture->recorder);
    metrics_free(fixture->metrics);
    operator_fixture_stop(&fixture->base);
    gateway_stop(&fixture->gateway);
    pthread_mutex_destroy(&fixture->backlog.mu);
}

static void expect_scale(struct fixture *fixture, const char *body)
{
    struct fake_answer answer = {.match = PATCH_SCALE, .body = "{}", .times = -1};
    fake_apiserver_answer(fixture->base.server, &answer);
    function_scaler_start(fixture->scaler);
    assert_true(fake_apiserver_wait(fixture->base.server, PATCH_SCALE, 1, PATIENCE_MS));
    CLEANUP_FREE char *request = fake_apiserver_request(fixture->base.server, PATCH_SCALE);
    if (!strstr(request, body)) {
        fail_msg("no %s in: %s", body, request);
    }
}

#define POST_EVENT "POST /api/v1/namespaces/shop/events"

static void expect_event(struct fixture *fixture, const char *reason, const char *message)
{
    assert_true(fake_apiserver_wait(fixture->base.server, POST_EVENT, 1, PATIENCE_MS));
    CLEANUP_FREE char *request = fake_apiserver_request(fixture->base.server, POST_EVENT);
    CLEANUP_FREE char *reason_member = xasprintf("\"reason\":\"%s\"", reason);
    CLEANUP_FREE char *message_member = xasprintf("\"message\":\"%s\"", message);
    assert_non_null(strstr(request, reason_member));
    assert_non_null(strstr(request, message_member));
    assert_non_null(strstr(request, "\"kind\":\"Function\""));
}

static void expect_no_scale(struct fixture *fixture)
{
    function_scaler_start(fixture->scaler);
    assert_false(fake_apiserver_wait(fixture->base.server, PATCH_SCALE, 1, 2500));
    assert_true(function_scaler_silence_ms(fixture->scaler) < 2000);
}

static void test_an_idle_function_is_put_to_sleep(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{scaling: {idleSeconds: 1}}",
          "{metadata: {uid: d1, resourceVersion: \"77\"}, spec: {replicas: 1}}", IDLE);
    expect_scale(&fixture, "{\"metadata\":{\"resourceVersion\":\"77\"},\"spec\":{\"replicas\":0}}");
    expect_event(&fixture, "ScaledToZero", "1 -> 0 replicas: idle");
    finish(&fixture);
}

static void test_a_busy_function_gets_more(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{concurrency: 10}",
          "{metadata: {uid: d1, resourceVersion: \"77\"}, spec: {replicas: 1}}", BUSY);
    expect_scale(&fixture, "\"spec\":{\"replicas\":4}"); /* ceil(25 / 7) */
    expect_event(&fixture, "ScaledUp", "1 -> 4 replicas: the load rose suddenly");
    finish(&fixture);
}

static void test_a_sleeping_function_with_a_minimum_is_woken(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{scaling: {minReplicas: 2}}",
          "{metadata: {uid: d1, resourceVersion: \"77\"}, spec: {replicas: 0}}", IDLE);
    expect_scale(&fixture, "\"spec\":{\"replicas\":2}");
    finish(&fixture);
}

/* Each would be scaled but for one thing. */
static void test_what_is_left_alone(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *deployment, *statz;
    } rows[] = {
        /* pinned */
        {"{replicas: 1, scaling: {idleSeconds: 1}}",
         "{metadata: {uid: d, resourceVersion: \"7\"}, spec: {replicas: 1}}", IDLE},
        /* not proven */
        {"{scaling: {idleSeconds: 1}}",
         "{metadata: {uid: d, resourceVersion: \"7\", annotations: {cicada.dev/proven: null}}, spec: "
         "{replicas: 1}}",
         IDLE},
        /* a stranger's */
        {"{scaling: {idleSeconds: 1}}",
         "{metadata: {uid: d, resourceVersion: \"7\", ownerReferences: null}, spec: {replicas: 1}}", IDLE},
        /* asleep: waking is the gateway's step */
        {"{}", "{metadata: {uid: d, resourceVersion: \"7\"}, spec: {replicas: 0}}", BUSY},
        /* the gateway can't be read */
        {"{scaling: {idleSeconds: 1}}", "{metadata: {uid: d, resourceVersion: \"7\"}, spec: {replicas: 1}}",
         NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct fixture fixture;
        start(&fixture, rows[i].spec, rows[i].deployment, rows[i].statz);
        expect_no_scale(&fixture);
        finish(&fixture);
    }
}

static void test_a_conflict_is_decided_again(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{concurrency: 10}",
          "{metadata: {uid: d1, resourceVersion: \"77\"}, spec: {replicas: 1}}", BUSY);
    operator_fixture_answer(
        &fixture.base, PATCH_SCALE, 409,
        "{\"kind\":\"Status\",\"code\":409,\"reason\":\"Conflict\",\"message\":\"modified\"}");
    operator_fixture_answer(&fixture.base, PATCH_SCALE, 500,
                            "{\"kind\":\"Status\",\"code\":500,\"message\":\"no\"}");
    struct fake_answer answer = {.match = PATCH_SCALE, .body = "{}", .times = -1};
    fake_apiserver_answer(fixture.base.server, &answer);
    function_scaler_start(fixture.scaler);
    assert_true(fake_apiserver_wait(fixture.base.server, PATCH_SCALE, 3, PATIENCE_MS));
    finish(&fixture);
}

#define QUEUE   "database: {secretRef: {name: a}}, triggers: [{name: a, queue: {name: a}}]"
#define ASLEEP  "{metadata: {uid: d1, resourceVersion: \"77\"}, spec: {replicas: 0}}"
#define AWAKE   "{metadata: {uid: d1, resourceVersion: \"77\"}, spec: {replicas: 1}}"
#define AT_REST ((struct backlog_load){.any_triggers = true, .known = true})

static void test_events_wake_a_sleeping_function(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{" QUEUE "}", ASLEEP, IDLE);
    backlog_says(&fixture.backlog, AT_REST);
    expect_no_scale(&fixture);
    struct fake_answer answer = {.match = PATCH_SCALE, .body = "{}", .times = -1};
    fake_apiserver_answer(fixture.base.server, &answer);
    backlog_says(
        &fixture.backlog,
        (struct backlog_load){.any_triggers = true, .known = true, .due = 9, .wanted = 3, .busy = true});
    function_scaler_wake(fixture.scaler, "shop", "create-order");
    function_scaler_wake(fixture.scaler, "shop", "create-order");
    function_scaler_wake(fixture.scaler, "shop", "gone");
    assert_true(fake_apiserver_wait(fixture.base.server, PATCH_SCALE, 1, PATIENCE_MS));
    CLEANUP_FREE char *request = fake_apiserver_request(fixture.base.server, PATCH_SCALE);
    assert_non_null(strstr(request, "{\"metadata\":{\"resourceVersion\":\"77\"},\"spec\":{\"replicas\":1}}"));
    expect_event(&fixture, "ScaledUp", "0 -> 1 replicas: as the events ask");
    finish(&fixture);
}

static void test_events_do_not_wake_what_is_pinned(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{replicas: 0, " QUEUE "}", ASLEEP, IDLE);
    backlog_says(
        &fixture.backlog,
        (struct backlog_load){.any_triggers = true, .known = true, .due = 9, .wanted = 3, .busy = true});
    function_scaler_wake(fixture.scaler, "shop", "create-order");
    expect_no_scale(&fixture);
    finish(&fixture);
}

static void test_nobody_sleeps_over_events(void **state)
{
    (void)state;
    static const struct backlog_load rows[] = {
        {.any_triggers = true, .known = true, .due = 1, .wanted = 1, .busy = true},
        {.any_triggers = true, .known = true, .in_progress = 1, .busy = true},
        {.any_triggers = true, .known = false},
        {.any_triggers = false}, /* it has triggers, but nobody watches them yet */
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct fixture fixture;
        start(&fixture, "{scaling: {idleSeconds: 1}, " QUEUE "}", AWAKE, IDLE);
        backlog_says(&fixture.backlog, rows[i]);
        expect_no_scale(&fixture);
        finish(&fixture);
    }
}

static void test_a_function_at_rest_sleeps(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, "{scaling: {idleSeconds: 1}, " QUEUE "}", AWAKE, IDLE);
    backlog_says(&fixture.backlog, AT_REST);
    expect_scale(&fixture, "\"spec\":{\"replicas\":0}");
    finish(&fixture);
}

int main(void)
{
    http_client_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures_of_all_gateways_add_up),
        cmocka_unit_test(test_an_idle_function_is_put_to_sleep),
        cmocka_unit_test(test_a_busy_function_gets_more),
        cmocka_unit_test(test_a_sleeping_function_with_a_minimum_is_woken),
        cmocka_unit_test(test_what_is_left_alone),
        cmocka_unit_test(test_a_conflict_is_decided_again),
        cmocka_unit_test(test_events_wake_a_sleeping_function),
        cmocka_unit_test(test_events_do_not_wake_what_is_pinned),
        cmocka_unit_test(test_nobody_sleeps_over_events),
        cmocka_unit_test(test_a_function_at_rest_sleeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
