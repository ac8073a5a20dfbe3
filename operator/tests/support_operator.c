#include "operator/tests/support_operator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"

const struct function_settings operator_fixture_settings = {.system_namespace = "cicada-system",
                                                            .runtime_image = "cicada-runtime:1.0",
                                                            .cluster_domain = "cluster.local"};

#define PATIENCE_MS    10000
#define OURS           "?labelSelector=cicada.dev%2Ffunction"
#define MAX_BACKOFF_MS 1000

static void answer_list(struct operator_fixture *fixture, const char *match, const char *items)
{
    CLEANUP_FREE char *body =
        xasprintf("{\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[%s]}", items ? items : "");
    struct fake_answer answer = {.match = match, .body = body, .times = -1};
    fake_apiserver_answer(fixture->server, &answer);
}

static void on_foreign_ingress(void *arg, const struct cached_child *ingress)
{
    struct operator_fixture *fixture = arg;
    assert_string_equal(ingress->class_name, "cicada");
    fixture->foreign_ingresses++;
}

static void on_pod_exit(void *arg, const struct cached_pod *pod)
{
    struct operator_fixture *fixture = arg;
    assert_non_null(pod->function);
    atomic_fetch_add(&fixture->pod_exits, 1);
}

void operator_fixture_start(struct operator_fixture *fixture, const struct operator_lists *lists)
{
    memset(fixture, 0, sizeof *fixture);
    fixture->server = fake_apiserver_start();
    stop_init(&fixture->stop);
    fixture->client = fake_apiserver_client(fixture->server, NULL, NULL, &fixture->stop);
    fixture->queue = workqueue_new(&clock_system, MAX_BACKOFF_MS);
    answer_list(fixture, "GET /apis/cicada.dev/v1alpha1/functions?limit", lists->functions);
    answer_list(fixture, "GET /apis/apps/v1/deployments" OURS "&limit", lists->deployments);
    answer_list(fixture, "GET /api/v1/pods" OURS "&limit", lists->pods);
    answer_list(fixture, "GET /api/v1/services" OURS "&limit", lists->services);
    answer_list(fixture, "GET /api/v1/endpoints" OURS "&limit", lists->endpoints);
    answer_list(fixture, "GET /apis/networking.k8s.io/v1/ingresses?limit", lists->ingresses);
    answer_list(fixture,
                "GET "
                "/api/v1/namespaces/cicada-system/"
                "pods?labelSelector=app.kubernetes.io%2Fname%3Dcicada%2Capp.kubernetes.io%2Fcomponent%"
                "3Dgateway&limit",
                lists->gateways);
    answer_list(
        fixture,
        "GET /api/v1/namespaces/cicada-system/services?fieldSelector=metadata.name%3Dcicada-gateway&limit",
        lists->gateway_services);
    struct function_cache_settings settings = {.client = fixture->client,
                                               .system_namespace = "cicada-system",
                                               .gateway_service = "cicada-gateway",
                                               .queue = fixture->queue,
                                               .on_foreign_ingress = on_foreign_ingress,
                                               .on_pod_exit = on_pod_exit,
                                               .arg = fixture};
    fixture->cache = function_cache_new(&settings);
    function_cache_start(fixture->cache, &fixture->stop);
    assert_true(function_cache_wait_synced(fixture->cache, &fixture->stop, PATIENCE_MS));
    assert_true(function_cache_synced(fixture->cache));
}

void operator_fixture_stop(struct operator_fixture *fixture)
{
    stop_set(&fixture->stop);
    function_cache_join(fixture->cache);
    function_cache_free(fixture->cache);
    workqueue_shutdown(fixture->queue);
    workqueue_free(fixture->queue);
    kube_client_free(fixture->client);
    fake_apiserver_stop(fixture->server);
    stop_release(&fixture->stop);
}

int operator_fixture_drain(struct operator_fixture *fixture)
{
    int count = 0;
    while (workqueue_depth(fixture->queue) > 0) {
        struct object_key key;
        assert_true(workqueue_get(fixture->queue, &key));
        workqueue_done(fixture->queue, &key);
        object_key_release(&key);
        count++;
    }
    return count;
}

void operator_fixture_push(struct operator_fixture *fixture, const char *watch, const char *type,
                           const cJSON *object)
{
    CLEANUP_FREE char *text = json_print_dup(object);
    CLEANUP_FREE char *line = xasprintf("{\"type\":\"%s\",\"object\":%s}\n", type, text);
    (void)operator_fixture_drain(fixture);
    assert_true(fake_apiserver_wait(fixture->server, watch, 1, PATIENCE_MS));
    int64_t deadline_ms = clock_monotonic_ms() + PATIENCE_MS;
    while (fake_apiserver_push(fixture->server, watch, line) == 0) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        assert_false(stop_wait(&fixture->stop, 1));
    }
    while (workqueue_depth(fixture->queue) == 0) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        assert_false(stop_wait(&fixture->stop, 1));
    }
}

void operator_fixture_answer(struct operator_fixture *fixture, const char *match, int status,
                             const char *body)
{
    struct fake_answer answer = {.match = match, .status = status, .body = body ? body : "{}"};
    fake_apiserver_answer(fixture->server, &answer);
}
