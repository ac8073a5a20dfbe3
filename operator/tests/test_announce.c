/* Announcements over a real connection, verified against a fake API server. */
#include "operator/gateway/announce.h"

#include <sys/socket.h>

#include "operator/tests/test_kube_catalog_fixture.h"

#define HOLDERS "status.podIP"
#define NODE    "GET /api/v1/nodes/n1"
#define BODY                                                                                                 \
    "{\"namespace\":\"shop\",\"function\":\"create-order\",\"podName\":\"a\",\"podUID\":\"u-a\",\"port\":"   \
    "8080}"
#define IN_RANGE                                                                                             \
    "{\"metadata\":{\"name\":\"n1\"},\"spec\":{\"podCIDR\":\"127.0.0.0/24\",\"podCIDRs\":[\"127.0.0.0/"      \
    "24\",\"fd00::/64\"]}}"
#define ON_NODE  "\"nodeName\":\"n1\""
#define NO_ITEMS ""
#define OWN_POD                                                                                              \
    "{\"metadata\":{\"name\":\"a\",\"namespace\":\"shop\",\"uid\":\"u-a\"},\"status\":{\"phase\":"           \
    "\"Running\"}}"
#define OTHER_POD                                                                                            \
    "{\"metadata\":{\"name\":\"x\",\"namespace\":\"evil\",\"uid\":\"u-x\"},\"status\":{\"phase\":"           \
    "\"Running\"}}"
#define ENDED_POD                                                                                            \
    "{\"metadata\":{\"name\":\"x\",\"namespace\":\"evil\",\"uid\":\"u-x\"},\"status\":{\"phase\":"           \
    "\"Succeeded\"}}"
#define GOING_POD                                                                                            \
    "{\"metadata\":{\"name\":\"x\",\"namespace\":\"evil\",\"uid\":\"u-x\",\"deletionTimestamp\":\"2026-01-"  \
    "01T00:00:00Z\"}}"
#define ACCEPTED "pod u-a announced 127.0.0.1:8080"

struct scene {
    struct fixture *fixture;
    struct metrics *metrics;
    struct kube_node_ranges *ranges;
    struct kube_catalog *catalog;
    struct announce *announce;
    bool tells_gateways; /* the last answer */
};

static void on_pod_node(void *arg, const char *node, const struct in_addr *address)
{
    if (address) {
        kube_node_ranges_saw(arg, node, *address);
    } else {
        kube_node_ranges_prefetch(arg, node);
    }
}

static void begin_with(struct scene *scene, const char *pods, int node_status, bool enabled)
{
    scene->fixture = fixture_new();
    fake_apiserver_answer(
        scene->fixture->server,
        &(struct fake_answer){.match = NODE, .status = node_status, .body = IN_RANGE, .times = -1});
    scene->metrics = metrics_new();
    answer_list(scene->fixture, FUNCTIONS_PATH, "");
    answer_list(scene->fixture, PODS_PATH, pods);
    answer_list(scene->fixture, DEPLOYMENTS_PATH, "");
    answer_list(scene->fixture, PEERS_PATH, "");
    scene->ranges = kube_node_ranges_new(scene->fixture->client);
    kube_node_ranges_start(scene->ranges);
    scene->catalog = kube_catalog_new(&(struct kube_catalog_settings){
        .client = scene->fixture->client,
        .gateway = &scene->fixture->gateway,
        .system_namespace = "cicada-system",
        .identity = "g1",
        .on_pod_node = on_pod_node,
        .arg = scene->ranges,
    });
    kube_catalog_start(scene->catalog, &scene->fixture->stop);
    await_record(&scene->fixture->gateway, "synced");
    struct err err = ERR_INIT;
    struct announce_settings settings = {
        .listen = "127.0.0.1:0",
        .enabled = enabled,
        .gateway = &scene->fixture->gateway,
        .catalog = scene->catalog,
        .ranges = scene->ranges,
        .client = scene->fixture->client,
        .metrics = scene->metrics,
    };
    if (announce_start(&settings, &scene->announce, &err) < 0) {
        fail_msg("%s", err.msg);
    }
}

static void begin(struct scene *scene, const char *spec, const char *status)
{
    CLEANUP_FREE char *pod = pod_json("a", "1", "", spec, status);
    begin_with(scene, pod, 200, true);
}

static void end(struct scene *scene)
{
    announce_stop(scene->announce);
    stop_set(&scene->fixture->stop);
    kube_node_ranges_stop(scene->ranges);
    kube_catalog_join(scene->catalog);
    kube_catalog_free(scene->catalog);
    kube_node_ranges_free(scene->ranges);
    metrics_free(scene->metrics);
    fixture_free(scene->fixture);
}

/* Status of the answer to a request that comes from `from`. */
static int ask(struct scene *scene, const char *from, const char *method, const char *path, const char *body)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(from)};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)announce_port(scene->announce)),
                             .sin_addr.s_addr = inet_addr("127.0.0.1")};
    assert_int_equal(bind(fd, (struct sockaddr *)&local, sizeof(local)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    dprintf(
        fd,
        "%s %s HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        method, path, strlen(body), body);
    char answer[2048];
    size_t len = 0;
    ssize_t got;
    while (len < sizeof(answer) - 1 && (got = recv(fd, answer + len, sizeof(answer) - 1 - len, 0)) > 0) {
        len += (size_t)got;
    }
    close(fd);
    answer[len] = '\0';
    assert_memory_equal(answer, "HTTP/1.1 ", 9);
    assert_non_null(strstr(answer, "Connection: close"));
    scene->tells_gateways = strstr(answer, "X-Cicada-Gateways: 3\r\n") != NULL;
    return (int)strtol(answer + 9, NULL, 10);
}

static int announce_from(struct scene *scene, const char *from)
{
    return ask(scene, from, "POST", "/announce", BODY);
}

static int goodbye_from(struct scene *scene, const char *from)
{
    return ask(scene, from, "POST", "/goodbye", BODY);
}

static void believed_before_the_api_knows_the_address(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene, ON_NODE, "");
    answer_list(scene.fixture, HOLDERS, OWN_POD);
    assert_int_equal(announce_from(&scene, "127.0.0.1"), 200);
    assert_int_equal(recorded(&scene.fixture->gateway, ACCEPTED), 1);
    CLEANUP_FREE char *request = fake_apiserver_request(scene.fixture->server, HOLDERS);
    assert_non_null(strstr(request, "GET /api/v1/pods?"));
    assert_non_null(strstr(request, "resourceVersion=0"));
    assert_non_null(strstr(request, "status.podIP%3D127.0.0.1"));
    /* Pods that have ended don't count, and one that is about to go makes the caller wait. */
    answer_list(scene.fixture, HOLDERS, ENDED_POD);
    assert_int_equal(announce_from(&scene, "127.0.0.1"), 200);
    answer_list(scene.fixture, HOLDERS, GOING_POD);
    assert_int_equal(announce_from(&scene, "127.0.0.1"), 202);
    assert_int_equal(recorded(&scene.fixture->gateway, ACCEPTED), 2);
    end(&scene);
}

static void nothing_is_asked_once_the_api_knows(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene, ON_NODE, "\"podIP\":\"127.0.0.1\"");
    assert_int_equal(announce_from(&scene, "127.0.0.1"), 200);
    assert_int_equal(announce_from(&scene, "127.0.0.2"), 403);
    assert_int_equal(goodbye_from(&scene, "127.0.0.2"), 403);
    assert_int_equal(recorded(&scene.fixture->gateway, "pod u-a goodbye"), 0);
    assert_int_equal(goodbye_from(&scene, "127.0.0.1"), 200);
    assert_true(scene.tells_gateways);
    assert_int_equal(recorded(&scene.fixture->gateway, ACCEPTED), 1);
    assert_int_equal(recorded(&scene.fixture->gateway, "pod u-a goodbye"), 1);
    assert_int_equal(fake_apiserver_count(scene.fixture->server, HOLDERS), 0);
    end(&scene);
}

static void another_pods_address_is_refused(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene, ON_NODE, "");
    answer_list(scene.fixture, HOLDERS, OTHER_POD);
    assert_int_equal(announce_from(&scene, "127.0.0.1"), 403);
    /* The node's pods have other addresses than this one. */
    assert_int_equal(announce_from(&scene, "127.0.7.1"), 403);
    assert_int_equal(fake_apiserver_count(scene.fixture->server, HOLDERS), 1);
    assert_int_equal(recorded(&scene.fixture->gateway, ACCEPTED), 0);
    end(&scene);
}

static void without_the_right_to_read_nodes(void **state)
{
    (void)state;
    struct scene scene;
    CLEANUP_FREE char *pod = pod_json("a", "1", "", ON_NODE, "");
    begin_with(&scene, pod, 403, true);
    answer_list(scene.fixture, HOLDERS, NO_ITEMS);
    assert_int_equal(announce_from(&scene, "127.0.7.1"), 200);
    assert_int_equal(recorded(&scene.fixture->gateway, "pod u-a announced 127.0.7.1:8080"), 1);
    end(&scene);
}

/* A network that does not take addresses from podCIDR is noticed by the first pod that the API shows. */
static void ranges_that_are_not_used(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene, ON_NODE, "");
    assert_int_equal(announce_from(&scene, "127.0.7.1"), 403);
    CLEANUP_FREE char *other = pod_json("b", "2", "", ON_NODE, "\"podIP\":\"127.0.9.9\"");
    push_event(scene.fixture, PODS_PATH, "ADDED", other);
    await_record(&scene.fixture->gateway, "pod u-b b of shop/create-order 127.0.9.9 pending -");
    pause_ms(50); /* the range is told after the core */
    answer_list(scene.fixture, HOLDERS, NO_ITEMS);
    assert_int_equal(announce_from(&scene, "127.0.7.1"), 200);
    end(&scene);
}

static void nobody_can_be_asked(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene, ON_NODE, "");
    fake_apiserver_answer(scene.fixture->server,
                          &(struct fake_answer){.match = HOLDERS, .status = 503, .body = "{}"});
    assert_int_equal(announce_from(&scene, "127.0.0.1"), 202);
    assert_int_equal(recorded(&scene.fixture->gateway, ACCEPTED), 0);
    end(&scene);
}

static void *push_later(void *arg)
{
    struct scene *scene = arg;
    CLEANUP_FREE char *unbound = pod_json("a", "2", "", "", "");
    CLEANUP_FREE char *bound = pod_json("a", "3", "", ON_NODE, "");
    pause_ms(100);
    push_event(scene->fixture, PODS_PATH, "ADDED", unbound);
    pause_ms(50);
    push_event(scene->fixture, PODS_PATH, "MODIFIED", bound);
    return NULL;
}

static void an_unknown_pod_is_waited_for(void **state)
{
    (void)state;
    struct scene scene;
    begin_with(&scene, NO_ITEMS, 200, true);
    answer_list(scene.fixture, HOLDERS, NO_ITEMS);
    pthread_t thread;
    int64_t began_ms = clock_monotonic_ms();
    pthread_create(&thread, NULL, push_later, &scene);
    assert_int_equal(announce_from(&scene, "127.0.0.1"), 200);
    int64_t took_ms = clock_monotonic_ms() - began_ms;
    assert_in_range(took_ms, 100, 3000);
    pthread_join(thread, NULL);
    /* Its UID counts, not its name; the wait ends after five seconds. */
    began_ms = clock_monotonic_ms();
    assert_int_equal(ask(&scene, "127.0.0.1", "POST", "/announce",
                         "{\"namespace\":\"shop\",\"function\":\"create-order\",\"podName\":\"a\",\"podUID\":"
                         "\"u-z\",\"port\":8080}"),
                     202);
    assert_in_range(clock_monotonic_ms() - began_ms, 4900, 8000);
    end(&scene);
}

static void the_core_may_not_know_it(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene, ON_NODE, "\"podIP\":\"127.0.0.1\"");
    pthread_mutex_lock(&scene.fixture->gateway.mu);
    scene.fixture->gateway.refuse = true;
    pthread_mutex_unlock(&scene.fixture->gateway.mu);
    assert_int_equal(announce_from(&scene, "127.0.0.1"), 202);
    assert_int_equal(goodbye_from(&scene, "127.0.0.1"), 202);
    end(&scene);
}

static void terminating_pods_only_say_goodbye(void **state)
{
    (void)state;
    struct scene scene;
    CLEANUP_FREE char *pod = pod_json("a", "1", ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"", ON_NODE,
                                      "\"podIP\":\"127.0.0.1\"");
    begin_with(&scene, pod, 200, true);
    assert_int_equal(announce_from(&scene, "127.0.0.1"), 403);
    assert_int_equal(goodbye_from(&scene, "127.0.0.1"), 200);
    end(&scene);
}

static void malformed_and_misplaced(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *body;
        int status;
    } cases[] = {
        {"POST", "/other", BODY, 404},
        {"GET", "/announce", "", 405},
        {"POST", "/announce", "", 400},
        {"POST", "/announce", "[]", 400},
        {"POST", "/announce", "{\"namespace\":\"shop\"}", 400},
        {"POST", "/announce",
         "{\"namespace\":\"shop/x\",\"function\":\"f\",\"podName\":\"a\",\"podUID\":\"u\",\"port\":8080}",
         400},
        {"POST", "/announce",
         "{\"namespace\":\"shop\",\"function\":\"F\",\"podName\":\"a\",\"podUID\":\"u\",\"port\":8080}", 400},
        {"POST", "/announce",
         "{\"namespace\":\"shop\",\"function\":\"f\",\"podName\":\"../a\",\"podUID\":\"u\",\"port\":8080}",
         400},
        {"POST", "/announce",
         "{\"namespace\":\"shop\",\"function\":\"f\",\"podName\":\"a\",\"podUID\":\"u u\",\"port\":8080}",
         400},
        {"POST", "/announce",
         "{\"namespace\":\"shop\",\"function\":\"f\",\"podName\":\"a\",\"podUID\":\"u\",\"port\":22}", 400},
        {"POST", "/announce",
         "{\"namespace\":\"shop\",\"function\":\"other\",\"podName\":\"a\",\"podUID\":\"u-a\",\"port\":8080}",
         403},
        {"POST", "/goodbye",
         "{\"namespace\":\"shop\",\"function\":\"create-order\",\"podName\":\"a\",\"podUID\":\"u-a\","
         "\"port\":0}",
         200},
    };
    struct scene scene;
    begin(&scene, ON_NODE, "\"podIP\":\"127.0.0.1\"");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int status = ask(&scene, "127.0.0.1", cases[i].method, cases[i].path, cases[i].body);
        if (status != cases[i].status) {
            fail_msg("%s %s %s: %d", cases[i].method, cases[i].path, cases[i].body, status);
        }
    }
    assert_int_equal(recorded(&scene.fixture->gateway, ACCEPTED), 0);
    end(&scene);
}

static void turned_off(void **state)
{
    (void)state;
    struct scene scene;
    begin_with(&scene, NO_ITEMS, 200, false);
    assert_int_equal(announce_from(&scene, "127.0.0.1"), 403);
    assert_int_equal(goodbye_from(&scene, "127.0.0.1"), 403);
    end(&scene);
}

int main(void)
{
    http_client_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(believed_before_the_api_knows_the_address),
        cmocka_unit_test(nothing_is_asked_once_the_api_knows),
        cmocka_unit_test(another_pods_address_is_refused),
        cmocka_unit_test(without_the_right_to_read_nodes),
        cmocka_unit_test(ranges_that_are_not_used),
        cmocka_unit_test(nobody_can_be_asked),
        cmocka_unit_test(an_unknown_pod_is_waited_for),
        cmocka_unit_test(the_core_may_not_know_it),
        cmocka_unit_test(terminating_pods_only_say_goodbye),
        cmocka_unit_test(malformed_and_misplaced),
        cmocka_unit_test(turned_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
