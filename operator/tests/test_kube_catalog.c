/* The catalogue against a fake API server: what reaches the core. */
#include "operator/tests/test_kube_catalog_fixture.h"
#include "runtime/base/text.h"

#define READY "\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]"
#define BLOCKED                                                                                              \
    "\"conditions\":[{\"type\":\"ReplicaFailure\",\"status\":\"True\",\"reason\":\"FailedCreate\","          \
    "\"message\":\"%s\"}]"

struct nodes_seen {
    atomic_int scheduled, addressed;
};

static void on_pod_node(void *arg, const char *node, const struct in_addr *address)
{
    struct nodes_seen *seen = arg;
    assert_string_equal(node, "n1");
    atomic_fetch_add(address ? &seen->addressed : &seen->scheduled, 1);
}

static struct kube_catalog *start_catalog(struct fixture *fixture, struct nodes_seen *seen)
{
    struct kube_catalog_settings settings = {
        .client = fixture->client,
        .gateway = &fixture->gateway,
        .system_namespace = "cicada-system",
        .identity = "g2",
        .on_pod_node = seen ? on_pod_node : NULL,
        .arg = seen,
    };
    struct kube_catalog *catalog = kube_catalog_new(&settings);
    kube_catalog_start(catalog, &fixture->stop);
    return catalog;
}

static void stop_catalog(struct fixture *fixture, struct kube_catalog *catalog)
{
    stop_set(&fixture->stop);
    kube_catalog_join(catalog);
    kube_catalog_free(catalog);
    fixture_free(fixture);
}

static char *deployment_json(const char *version, const char *status)
{
    return xasprintf("{\"metadata\":{\"name\":\"create-order\",\"namespace\":\"shop\",\"uid\":\"d\","
                     "\"resourceVersion\":\"%s\"},"
                     "\"status\":{%s}}",
                     version, status);
}

static char *peer_json(const char *name, const char *version, const char *rest, const char *status)
{
    return xasprintf("{\"metadata\":{\"name\":\"%s\",\"namespace\":\"cicada-system\",\"uid\":\"%s\","
                     "\"resourceVersion\":\"%s\"%s},"
                     "\"status\":{%s}}",
                     name, name, version, rest, status);
}

static void answer_empty(struct fixture *fixture, const char *but)
{
    static const char *const paths[] = {FUNCTIONS_PATH, PODS_PATH, DEPLOYMENTS_PATH, PEERS_PATH};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        if (!but || strcmp(paths[i], but) != 0) {
            answer_list(fixture, paths[i], "");
        }
    }
}

static void lists_are_fed_then_synced(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    CLEANUP_FREE char *good = function_json("create-order", 1, "shop.so:create", "1", "");
    CLEANUP_FREE char *bad = function_json("bad", 1, "not a handler", "2", "");
    CLEANUP_FREE char *gone =
        function_json("gone", 1, "shop.so:create", "3", ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"");
    CLEANUP_FREE char *functions = xasprintf("%s,%s,%s", good, bad, gone);
    CLEANUP_FREE char *pod = pod_json("a", "4", "", "\"nodeName\":\"n1\"", "\"podIP\":\"10.0.0.7\"," READY);
    CLEANUP_FREE char *peer_a = peer_json("g1", "5", "", READY), *peer_b = peer_json("g2", "6", "", READY);
    CLEANUP_FREE char *peer_c =
        peer_json("g3", "7", ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"", READY);
    CLEANUP_FREE char *peer_d =
        peer_json("g4", "8", "", "\"conditions\":[{\"type\":\"Ready\",\"status\":\"False\"}]");
    CLEANUP_FREE char *peers = xasprintf("%s,%s,%s,%s", peer_a, peer_b, peer_c, peer_d);
    answer_list(fixture, FUNCTIONS_PATH, functions);
    answer_list(fixture, PODS_PATH, pod);
    answer_list(fixture, DEPLOYMENTS_PATH, "");
    answer_list(fixture, PEERS_PATH, peers);

    struct nodes_seen seen = {0};
    struct kube_catalog *catalog = start_catalog(fixture, &seen);
    await_record(&fixture->gateway, "synced");
    assert_int_equal(recorded(&fixture->gateway, "function shop/create-order generation 1"), 1);
    assert_int_equal(recorded(&fixture->gateway, "function shop/bad generation 1"), 0);
    assert_int_equal(recorded(&fixture->gateway, "function shop/gone generation 1"), 0);
    assert_int_equal(recorded(&fixture->gateway, "pod u-a a of shop/create-order 10.0.0.7 ready -"), 1);
    assert_int_equal(recorded(&fixture->gateway, "peers 2, place 1"),
                     3); /* after the second, and still after the third and the fourth */
    assert_int_equal(atomic_load(&seen.addressed), 1);
    assert_int_equal(atomic_load(&seen.scheduled), 0);

    struct kube_pod *found = kube_catalog_pod(catalog, "shop", "a");
    assert_non_null(found);
    assert_string_equal(found->object.uid, "u-a");
    cached_object_unref(&found->object);
    assert_null(kube_catalog_pod(catalog, "shop", "b"));
    stop_catalog(fixture, catalog);
}

static void only_what_is_managed_is_asked_for(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    answer_empty(fixture, NULL);
    struct kube_catalog *catalog = start_catalog(fixture, NULL);
    await_record(&fixture->gateway, "synced");
    CLEANUP_FREE char *pods = fake_apiserver_request(fixture->server, PODS_PATH);
    CLEANUP_FREE char *deployments = fake_apiserver_request(fixture->server, DEPLOYMENTS_PATH);
    CLEANUP_FREE char *peers = fake_apiserver_request(fixture->server, PEERS_PATH);
    const char *managed = "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dcicada%2Ccicada.dev%2Ffunction";
    assert_non_null(strstr(pods, managed));
    assert_non_null(strstr(deployments, managed));
    assert_non_null(strstr(peers, "app.kubernetes.io%2Fcomponent%3Dgateway"));
    stop_catalog(fixture, catalog);
}

static void functions_change(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    CLEANUP_FREE char *first = function_json("f", 1, "shop.so:create", "1", "");
    CLEANUP_FREE char *same = function_json("f", 1, "shop.so:create", "2", "");
    CLEANUP_FREE char *second = function_json("f", 2, "shop.so:create", "3", "");
    CLEANUP_FREE char *bad = function_json("f", 3, "nothing", "4", "");
    CLEANUP_FREE char *third = function_json("f", 4, "shop.so:create", "5", "");
    CLEANUP_FREE char *going =
        function_json("f", 4, "shop.so:create", "6", ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"");
    answer_list(fixture, FUNCTIONS_PATH, first);
    answer_empty(fixture, FUNCTIONS_PATH);
    struct kube_catalog *catalog = start_catalog(fixture, NULL);
    await_record(&fixture->gateway, "synced");
    push_event(fixture, FUNCTIONS_PATH, "MODIFIED", same);
    push_event(fixture, FUNCTIONS_PATH, "MODIFIED", second);
    await_record(&fixture->gateway, "function shop/f generation 2");
    assert_int_equal(recorded(&fixture->gateway, "function shop/f generation 1"),
                     1); /* a new status is no news */
    push_event(fixture, FUNCTIONS_PATH, "MODIFIED", bad);
    await_record(&fixture->gateway, "function shop/f removed");
    push_event(fixture, FUNCTIONS_PATH, "MODIFIED", third);
    await_record(&fixture->gateway, "function shop/f generation 4");
    push_event(fixture, FUNCTIONS_PATH, "MODIFIED", going);
    push_event(fixture, FUNCTIONS_PATH, "DELETED", going);
    push_event(fixture, FUNCTIONS_PATH, "ADDED", first);
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (recorded(&fixture->gateway, "function shop/f generation 1") < 2 &&
           clock_monotonic_ms() < deadline_ms) {
        pause_ms(2);
    }
    assert_int_equal(recorded(&fixture->gateway, "function shop/f generation 1"), 2);
    assert_int_equal(recorded(&fixture->gateway, "function shop/f removed"),
                     2); /* when it was bad, and when it began to go */
    stop_catalog(fixture, catalog);
}

static void pods_come_fail_and_go(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    answer_empty(fixture, NULL);
    struct nodes_seen seen = {0};
    struct kube_catalog *catalog = start_catalog(fixture, &seen);
    await_record(&fixture->gateway, "synced");
    uint64_t before = kube_catalog_pod_changes(catalog);
    CLEANUP_FREE char *made = pod_json("a", "1", "", "", "");
    CLEANUP_FREE char *bound = pod_json("a", "2", "", "\"nodeName\":\"n1\"", "");
    CLEANUP_FREE char *failing =
        pod_json("a", "3", "", "\"nodeName\":\"n1\"",
                 "\"containerStatuses\":[{\"name\":\"function\",\"state\":{\"waiting\":{"
                 "\"reason\":\"ImagePullBackOff\"}}}]");
    CLEANUP_FREE char *running = pod_json("a", "4", "", "\"nodeName\":\"n1\"", "\"podIP\":\"10.0.0.9\"");
    push_event(fixture, PODS_PATH, "ADDED", made);
    assert_true(kube_catalog_pod_wait(catalog, before, clock_monotonic_ms() + WAIT_MS));
    push_event(fixture, PODS_PATH, "MODIFIED", bound);
    push_event(fixture, PODS_PATH, "MODIFIED", failing);
    await_record(&fixture->gateway, "pod u-a a of shop/create-order - pending ImagePullBackOff");
    push_event(fixture, PODS_PATH, "MODIFIED", running);
    await_record(&fixture->gateway, "pod u-a a of shop/create-order 10.0.0.9 pending -");
    push_event(fixture, PODS_PATH, "DELETED", running);
    await_record(&fixture->gateway, "pod u-a removed");
    assert_int_equal(atomic_load(&seen.scheduled), 1);
    assert_int_equal(atomic_load(&seen.addressed), 1);
    stop_catalog(fixture, catalog);
}

static void deployments_block(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    answer_empty(fixture, NULL);
    struct kube_catalog *catalog = start_catalog(fixture, NULL);
    await_record(&fixture->gateway, "synced");
    CLEANUP_FREE char *quota_status = xasprintf(BLOCKED, "pods \\\"x\\\" is forbidden: exceeded quota: none");
    CLEANUP_FREE char *other_status = xasprintf(BLOCKED, "pods \\\"x\\\" is forbidden: violates PodSecurity");
    CLEANUP_FREE char *quota = deployment_json("1", quota_status),
                      *other = deployment_json("2", other_status);
    CLEANUP_FREE char *fine = deployment_json("3", "");
    push_event(fixture, DEPLOYMENTS_PATH, "ADDED", quota);
    await_record(&fixture->gateway, "blocked shop/create-order QuotaExceeded");
    push_event(fixture, DEPLOYMENTS_PATH, "MODIFIED", other);
    await_record(&fixture->gateway, "blocked shop/create-order ReplicaFailure");
    push_event(fixture, DEPLOYMENTS_PATH, "MODIFIED", fine);
    await_record(&fixture->gateway, "blocked shop/create-order -");
    push_event(fixture, DEPLOYMENTS_PATH, "MODIFIED", quota);
    push_event(fixture, DEPLOYMENTS_PATH, "DELETED", quota);
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (recorded(&fixture->gateway, "blocked shop/create-order -") < 2 &&
           clock_monotonic_ms() < deadline_ms) {
        pause_ms(2);
    }
    assert_int_equal(recorded(&fixture->gateway, "blocked shop/create-order -"), 2);
    stop_catalog(fixture, catalog);
}

/* Whose failures count: the template that the Deployment has now. */
static void deployments_have_templates(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    answer_empty(fixture, NULL);
    struct kube_catalog *catalog = start_catalog(fixture, NULL);
    await_record(&fixture->gateway, "synced");
    const char *deployment =
        "{\"metadata\":{\"name\":\"create-order\",\"namespace\":\"shop\",\"uid\":\"d\","
        "\"resourceVersion\":\"2\"},\"spec\":{\"template\":{\"metadata\":{\"annotations\":{"
        "\"cicada.dev/template\":\"a1\"}}}}}";
    CLEANUP_FREE char *record = xasprintf("template shop/create-order %llx",
                                          (unsigned long long)hash_fnv1a(HASH_FNV1A_START, "a1", 2));
    push_event(fixture, DEPLOYMENTS_PATH, "ADDED", deployment);
    await_record(&fixture->gateway, record);
    push_event(fixture, DEPLOYMENTS_PATH, "DELETED", deployment);
    await_record(&fixture->gateway, "template shop/create-order 0");
    stop_catalog(fixture, catalog);
}

/* Not synced as long as one kind can't be read; each namespace has its own watches. */
static void namespaces_apart(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    static const char *const names[] = {"shop", "bank"};
    static const char *const paths[] = {
        "/apis/cicada.dev/v1alpha1/namespaces/shop/functions?",
        "/api/v1/namespaces/shop/pods?",
        "/apis/apps/v1/namespaces/shop/deployments?",
        "/apis/cicada.dev/v1alpha1/namespaces/bank/functions?",
        "/apis/apps/v1/namespaces/bank/deployments?",
        PEERS_PATH,
    };
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        answer_list(fixture, paths[i], "");
    }
    const char *missing = "/api/v1/namespaces/bank/pods?";
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = missing, .status = 403, .body = "{}"});
    struct kube_catalog_settings settings = {
        .client = fixture->client,
        .gateway = &fixture->gateway,
        .system_namespace = "cicada-system",
        .identity = "g2",
        .namespaces = names,
        .namespace_count = ARRAY_SIZE(names),
    };
    struct kube_catalog *catalog = kube_catalog_new(&settings);
    kube_catalog_start(catalog, &fixture->stop);
    assert_true(fake_apiserver_wait(fixture->server, missing, 1, WAIT_MS));
    pause_ms(50);
    assert_int_equal(recorded(&fixture->gateway, "synced"), 0);
    CLEANUP_FREE char *pod = pod_json("a", "4", "", "", "");
    char *at = strstr(pod, "shop");
    memcpy(at, "bank", 4);
    answer_list(fixture, missing, pod);
    await_record(&fixture->gateway, "synced");
    struct kube_pod *found = kube_catalog_pod(catalog, "bank", "a");
    assert_non_null(found);
    cached_object_unref(&found->object);
    assert_null(kube_catalog_pod(catalog, "shop", "a"));
    stop_catalog(fixture, catalog);
}

int main(void)
{
    http_client_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_fed_then_synced), cmocka_unit_test(only_what_is_managed_is_asked_for),
        cmocka_unit_test(functions_change),          cmocka_unit_test(pods_come_fail_and_go),
        cmocka_unit_test(deployments_block),         cmocka_unit_test(deployments_have_templates),
        cmocka_unit_test(namespaces_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
