#include "operator/kube/kube_client.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "operator/kube/kube_client_config.h"
#include "operator/tests/support_fake_apiserver.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

struct fixture {
    struct fake_apiserver *server;
    struct stop stop;
    struct kube_client *client;
};

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    fixture->server = fake_apiserver_start();
    stop_init(&fixture->stop);
    fixture->client =
        fake_apiserver_client(fixture->server, /* token_file= */ NULL, /* clock= */ NULL, &fixture->stop);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    kube_client_free(fixture->client);
    fake_apiserver_stop(fixture->server);
    stop_release(&fixture->stop);
    free(fixture);
    return 0;
}

static void answer(struct fixture *fixture, const char *match, int status, const char *body)
{
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = match, .status = status, .body = body});
}

static void expect_sent(struct fixture *fixture, const char *line, const char *header, const char *body)
{
    CLEANUP_FREE char *request = fake_apiserver_request(fixture->server, line);
    if (!strstr(request, header) || !strstr(request, body))
        fail_msg("%s: sent\n%s", line, request);
}

static cJSON *small_object(void)
{
    cJSON *object = cJSON_CreateObject();
    json_add_string(json_add_object(object, "metadata"), "name", "a");
    return object;
}

#define POD "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\",\"managedFields\":[{\"manager\":\"m\"}]}}"

static void test_get_gives_the_object_without_managed_fields(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, "GET /api/v1/namespaces/shop/pods/a ", 200, POD);
    CLEANUP_JSON cJSON *pod = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(kube_get(fixture->client, &kube_pods, "shop", "a", &pod, &err), 0);
    assert_string_equal(json_string(json_object(pod, "metadata"), "name"), "a");
    assert_null(json_get(json_object(pod, "metadata"), "managedFields"));
    assert_int_equal(kube_client_reads(fixture->client), 1);
    assert_int_equal(kube_client_writes(fixture->client), 0);
}

static void test_errors_carry_the_servers_words(void **state)
{
    struct fixture *fixture = *state;
    cJSON *none = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(kube_get(fixture->client, &kube_pods, "shop", "a", &none, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_string_equal(err.msg, "fake: GET /api/v1/namespaces/shop/pods/a HTTP/1.1");
    fake_apiserver_answer(fixture->server, &(struct fake_answer){.match = "GET",
                                                                 .status = 429,
                                                                 .headers = "Retry-After: 2\r\n",
                                                                 .body = "{\"message\":\"slow down\"}"});
    assert_int_equal(kube_get(fixture->client, &kube_pods, "shop", "a", &none, &err), -1);
    assert_int_equal(err.code, ERR_THROTTLED);
    assert_int_equal(err.retry_after_ms, 2000);
    answer(fixture, "GET", 200, "{\"kind\":\"Pod\"");
    assert_int_equal(kube_get(fixture->client, &kube_pods, "shop", "a", &none, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    answer(fixture, "GET", 200, "[]");
    assert_int_equal(kube_get(fixture->client, &kube_pods, "shop", "a", &none, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_null(none);
}

static void test_a_malformed_name_sends_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct err err = ERR_INIT;
    assert_int_equal(kube_delete(fixture->client, &kube_pods, "shop", "../a", NULL, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(fake_apiserver_count(fixture->server, ""), 0);
    assert_int_equal(kube_client_writes(fixture->client), 0);
}

static void test_writes(void **state)
{
    struct fixture *fixture = *state;
    struct kube_client *client = fixture->client;
    CLEANUP_JSON cJSON *object = small_object();
    CLEANUP_JSON cJSON *made = NULL;
    struct err err = ERR_INIT;
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = "/shop/", .body = POD, .times = -1});

    assert_int_equal(kube_create(client, &kube_pods, "shop", object, &made, &err), 0);
    assert_string_equal(json_string(made, "kind"), "Pod");
    expect_sent(fixture, "POST /api/v1/namespaces/shop/pods HTTP", "\r\nContent-Type: application/json\r\n",
                "{\"metadata\":{\"name\":\"a\"}}");
    assert_int_equal(kube_update(client, &kube_leases, "shop", "a", object, NULL, &err), 0);
    expect_sent(fixture, "PUT /apis/coordination.k8s.io/v1/namespaces/shop/leases/a HTTP", "application/json",
                "\"a\"");
    assert_int_equal(kube_merge_patch(client, &kube_pods, "shop", "a", "status", NULL, object, NULL, &err),
                     0);
    expect_sent(fixture, "PATCH /api/v1/namespaces/shop/pods/a/status HTTP", "application/merge-patch+json",
                "\"a\"");
    CLEANUP_JSON cJSON *patch = cJSON_CreateArray();
    json_add_string(json_append_object(patch), "op", "test");
    assert_int_equal(
        kube_json_patch(client, &kube_deployments, "shop", "a", "scale", "cicada-gateway", patch, NULL, &err),
        0);
    expect_sent(fixture,
                "PATCH /apis/apps/v1/namespaces/shop/deployments/a/scale?fieldManager=cicada-gateway HTTP",
                "application/json-patch+json", "[{\"op\":\"test\"}]");
    assert_int_equal(kube_client_writes(client), 4);
    assert_int_equal(kube_client_reads(client), 0);
}

static void test_apply_is_forced_and_safe_for_yaml(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, "PATCH", 200, POD);
    CLEANUP_JSON cJSON *object = small_object();
    json_add_string(object, "note", "a\xe2\x80\xa8\x7f\xc3\xa4");
    struct err err = ERR_INIT;
    assert_int_equal(kube_apply(fixture->client, &kube_functions, "shop", "a", "status",
                                "cicada-operator-status", object, NULL, &err),
                     0);
    expect_sent(fixture,
                "PATCH "
                "/apis/cicada.dev/v1alpha1/namespaces/shop/functions/a/"
                "status?fieldManager=cicada-operator-status&force=true "
                "HTTP",
                "application/apply-patch+yaml", "\"a\\u2028\\u007f\xc3\xa4\"");
}

static void test_scale(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, "/deployments/a/scale", 200,
           "{\"metadata\":{\"resourceVersion\":\"7\"},\"spec\":{\"replicas\":3}}");
    answer(fixture, "/deployments/a/scale", 200, "{\"metadata\":{\"resourceVersion\":\"8\"},\"spec\":{}}");
    int replicas = -1;
    CLEANUP_FREE char *version = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(
        kube_scale_get(fixture->client, &kube_deployments, "shop", "a", &replicas, &version, &err), 0);
    assert_int_equal(replicas, 3);
    assert_string_equal(version, "7");
    assert_int_equal(kube_scale_get(fixture->client, &kube_deployments, "shop", "a", &replicas, NULL, &err),
                     0);
    assert_int_equal(replicas, 0);
}

static void test_delete_names_the_uid(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, "DELETE", 200, "{\"kind\":\"Status\",\"status\":\"Success\"}");
    answer(fixture, "DELETE", 409, "{\"reason\":\"Conflict\",\"message\":\"uid differs\"}");
    struct err err = ERR_INIT;
    assert_int_equal(kube_delete(fixture->client, &kube_services, "shop", "a", "u-1", &err), 0);
    expect_sent(fixture, "DELETE /api/v1/namespaces/shop/services/a HTTP", "application/json",
                "\"propagationPolicy\":\"Background\",\"preconditions\":{\"uid\":\"u-1\"}");
    assert_int_equal(kube_delete(fixture->client, &kube_services, "shop", "a", "u-1", &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
}

static int collect_names(void *arg, cJSON *object, struct err *err)
{
    (void)err;
    strbuf_appendf(arg, "%s;", json_string(json_object(object, "metadata"), "name"));
    cJSON_Delete(object);
    return 0;
}

static const size_t chunk_sizes[] = {0, 1, 2, 7, 4096};

static void test_list_pages(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < ARRAY_SIZE(chunk_sizes); i++) {
        fake_apiserver_answer(
            fixture->server,
            &(struct fake_answer){.match = "GET /api/v1/pods?labelSelector=a%3Db&limit=2&continue=t%2B1 ",
                                  .chunk_bytes = chunk_sizes[i],
                                  .body = "{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[{"
                                          "\"metadata\":{\"name\":\"c\"}}]}"});
        struct kube_list_options options = {.label_selector = "a=b", .limit = 2, .continue_token = "t+1"};
        struct kube_list_meta meta = {0};
        CLEANUP_STRBUF struct strbuf names;
        strbuf_init(&names, 4096);
        struct err err = ERR_INIT;
        assert_int_equal(
            kube_list(fixture->client, &kube_pods, NULL, &options, collect_names, &names, &meta, &err), 0);
        assert_string_equal(names.buf, "c;");
        assert_string_equal(meta.resource_version, "7");
        assert_null(meta.continue_token);
        kube_list_meta_release(&meta);
    }
}

static void test_list_failures(void **state)
{
    struct fixture *fixture = *state;
    static const char body[] = "{\"metadata\":{},\"items\":[{\"metadata\":{\"name\":\"c\"}}";
    struct kube_list_options options = {0};
    struct kube_list_meta meta = {0};
    CLEANUP_STRBUF struct strbuf names;
    strbuf_init(&names, 4096);
    static const enum fake_ending endings[] = {FAKE_END_CLEAN, FAKE_END_HALF, FAKE_END_RESET};
    for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
        struct err err = ERR_INIT;
        fake_apiserver_answer(
            fixture->server,
            &(struct fake_answer){.match = "GET", .body = body, .chunk_bytes = 64, .ending = endings[i]});
        assert_int_equal(
            kube_list(fixture->client, &kube_pods, "shop", &options, collect_names, &names, &meta, &err), -1);
        assert_int_equal(err.code, ERR_UNAVAILABLE);
    }
    struct err err = ERR_INIT;
    answer(fixture, "GET", 410, "{\"reason\":\"Expired\"}");
    assert_int_equal(
        kube_list(fixture->client, &kube_pods, "shop", &options, collect_names, &names, &meta, &err), -1);
    assert_int_equal(err.code, ERR_GONE);
}

static int collect_events(void *arg, enum kube_watch_type type, cJSON *object, struct err *err)
{
    (void)err;
    strbuf_appendf(arg, "%d:%s;", (int)type, json_string(json_object(object, "metadata"), "name"));
    cJSON_Delete(object);
    return 0;
}

#define EVENT(type, name) "{\"type\":\"" type "\",\"object\":{\"metadata\":{\"name\":\"" name "\"}}}\n"

static void test_watch(void **state)
{
    struct fixture *fixture = *state;
    struct kube_list_options options = {.resource_version = "7", .field_selector = "metadata.name=a"};
    for (size_t i = 0; i < ARRAY_SIZE(chunk_sizes); i++) {
        fake_apiserver_answer(
            fixture->server,
            &(struct fake_answer){.match = "GET "
                                           "/api/v1/namespaces/shop/"
                                           "pods?fieldSelector=metadata.name%3Da&resourceVersion=7&watch=true"
                                           "&allowWatchBookmarks=true&timeoutSeconds=300 ",
                                  .chunk_bytes = chunk_sizes[i],
                                  .body = EVENT("ADDED", "a") EVENT("DELETED", "b")});
        CLEANUP_STRBUF struct strbuf events;
        strbuf_init(&events, 4096);
        struct err err = ERR_INIT;
        assert_int_equal(
            kube_watch(fixture->client, &kube_pods, "shop", &options, 300, collect_events, &events, &err), 0);
        assert_string_equal(events.buf, "0:a;2:b;");
    }
    static const enum fake_ending endings[] = {FAKE_END_HALF, FAKE_END_RESET};
    for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
        fake_apiserver_answer(fixture->server, &(struct fake_answer){.match = "watch=true",
                                                                     .chunk_bytes = 64,
                                                                     .body = EVENT("ADDED", "a"),
                                                                     .ending = endings[i]});
        CLEANUP_STRBUF struct strbuf events;
        strbuf_init(&events, 4096);
        struct err err = ERR_INIT;
        assert_int_equal(
            kube_watch(fixture->client, &kube_pods, "shop", &options, 300, collect_events, &events, &err),
            -1);
        assert_int_equal(err.code, ERR_UNAVAILABLE);
    }
}

static void test_unreadable_objects_are_counted(void **state)
{
    struct fixture *fixture = *state;
    struct kube_list_options options = {0};
    struct kube_list_meta meta = {0};
    CLEANUP_STRBUF struct strbuf names;
    strbuf_init(&names, 4096);
    struct err err = ERR_INIT;
    answer(fixture, "GET /api/v1/pods ", 200,
           "{\"metadata\":{},\"items\":[{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"1\",\"x\":"
           "\"\\u0000\"}}]}");
    assert_int_equal(
        kube_list(fixture->client, &kube_pods, NULL, &options, collect_names, &names, &meta, &err), 0);
    assert_int_equal(kube_client_unreadable(fixture->client), 1);
    answer(fixture, "watch=true", 200,
           "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"1\",\"x\":"
           "\"\\u0000\"}}}\n");
    assert_int_equal(
        kube_watch(fixture->client, &kube_pods, NULL, &options, 300, collect_events, &names, &err), 0);
    assert_string_equal(names.buf, "2:a;");
    assert_int_equal(kube_client_unreadable(fixture->client), 2);
    kube_list_meta_release(&meta);
}

static void *set_stop_later(void *arg)
{
    struct fixture *fixture = arg;
    (void)fake_apiserver_wait(fixture->server, "watch=true", 1, 5000);
    stop_set(&fixture->stop);
    return NULL;
}

static void test_stop_ends_a_silent_watch_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct kube_list_options options = {0};
    CLEANUP_STRBUF struct strbuf events;
    strbuf_init(&events, 4096);
    struct err err = ERR_INIT;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, set_stop_later, fixture), 0);
    int64_t started_ms = clock_monotonic_ms();
    assert_int_equal(
        kube_watch(fixture->client, &kube_pods, "shop", &options, 300, collect_events, &events, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_in_range(clock_monotonic_ms() - started_ms, 0, 3000);
    pthread_join(thread, NULL);
    assert_int_equal(kube_delete(fixture->client, &kube_pods, "shop", "a", NULL, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
}

static void test_a_derived_client_has_its_own_time_limit(void **state)
{
    struct fixture *fixture = *state;
    struct kube_client *hasty = kube_client_new_derived(fixture->client, /* timeout_ms= */ 100);
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = "GET", .ending = FAKE_END_HANG, .times = -1});
    cJSON *none = NULL;
    struct err err = ERR_INIT;
    int64_t started_ms = clock_monotonic_ms();
    assert_int_equal(kube_get(hasty, &kube_pods, "shop", "a", &none, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    struct kube_list_options options = {0};
    struct kube_list_meta meta = {0};
    assert_int_equal(kube_list(hasty, &kube_pods, "shop", &options, collect_names, NULL, &meta, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_in_range(clock_monotonic_ms() - started_ms, 190, 3000);
    assert_int_equal(kube_client_reads(fixture->client), 2);
    kube_client_free(hasty);
}

static void test_nobody_listens(void **state)
{
    (void)state;
    struct stop stop;
    stop_init(&stop);
    CLEANUP(kube_client_config_free_p) struct kube_client_config *config = xcalloc(1, sizeof(*config));
    config->server = xstrdup("http://127.0.0.1:1");
    struct kube_client *client = kube_client_new(config, &stop);
    cJSON *none = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(kube_get_path(client, "/version", &none, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_true(strncmp(err.msg, "GET /version: ", 14) == 0);
    assert_int_equal(kube_get_path(client, "version", &none, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    kube_client_free(client);
    stop_release(&stop);
}

int main(void)
{
    http_client_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_get_gives_the_object_without_managed_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors_carry_the_servers_words, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_malformed_name_sends_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apply_is_forced_and_safe_for_yaml, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scale, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete_names_the_uid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unreadable_objects_are_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_ends_a_silent_watch_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_derived_client_has_its_own_time_limit, setup, teardown),
        cmocka_unit_test(test_nobody_listens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
