#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "operator/controller/controller.h"
#include "operator/tests/support_fake_apiserver.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define PATIENCE_MS 5000
#define POST        "POST /api/v1/namespaces/shop/events "
#define PATCH       "PATCH /api/v1/namespaces/shop/events/"

struct fixture {
    struct fake_apiserver *server;
    struct stop stop;
    struct metrics *metrics;
    struct kube_client *client;
    struct event_recorder *recorder;
};

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    fixture->server = fake_apiserver_start();
    stop_init(&fixture->stop);
    fixture->metrics = metrics_new();
    fixture->client =
        fake_apiserver_client(fixture->server, /* token_file= */ NULL, /* clock= */ NULL, &fixture->stop);
    fixture->recorder = event_recorder_new(fixture->client, "cicada-operator", fixture->metrics);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    event_recorder_stop(fixture->recorder);
    event_recorder_free(fixture->recorder);
    kube_client_free(fixture->client);
    fake_apiserver_stop(fixture->server);
    metrics_free(fixture->metrics);
    stop_release(&fixture->stop);
    free(fixture);
    return 0;
}

static void answer_all(struct fixture *fixture, const char *match)
{
    fake_apiserver_answer(fixture->server, &(struct fake_answer){.match = match, .body = "{}", .times = -1});
}

static void emit(struct fixture *fixture, const char *name, const char *message)
{
    event_recorder_emit(fixture->recorder, "cicada.dev/v1alpha1", "Function", "shop", name, "u-1", "Warning",
                        "ImagePullFailed", message);
}

static void expect_requests(struct fixture *fixture, const char *match, int count)
{
    if (!fake_apiserver_wait(fixture->server, match, count, PATIENCE_MS))
        fail_msg("%s: %d of %d", match, fake_apiserver_count(fixture->server, match), count);
    assert_int_equal(fake_apiserver_count(fixture->server, match), count);
}

static void expect_result(struct fixture *fixture, const char *result, int count)
{
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, METRICS_TEXT_MAX_BYTES);
    assert_int_equal(metrics_render(fixture->metrics, &text), 0);
    CLEANUP_FREE char *line = xasprintf("cicada_operator_events_total{result=\"%s\"} %d\n", result, count);
    if (!strstr(text.buf, line))
        fail_msg("%s is not in\n%s", line, text.buf);
}

/* The body of the latest such request. */
static cJSON *sent_body(struct fixture *fixture, const char *match)
{
    CLEANUP_FREE char *request = fake_apiserver_request(fixture->server, match);
    const char *body = strstr(request, "\r\n\r\n");
    cJSON *tree = NULL;
    struct err err = ERR_INIT;
    assert_non_null(body);
    assert_int_equal(json_parse(body + 4, strlen(body + 4), JSON_DEPTH_MAX, &tree, &err), 0);
    return tree;
}

static void test_an_event(void **state)
{
    struct fixture *fixture = *state;
    answer_all(fixture, POST);
    event_recorder_start(fixture->recorder);
    emit(fixture, "create-order", "no such image");
    expect_requests(fixture, POST, 1);
    event_recorder_stop(fixture->recorder);
    CLEANUP_JSON cJSON *event = sent_body(fixture, POST);
    const cJSON *involved = json_object(event, "involvedObject");
    assert_string_equal(json_string(event, "kind"), "Event");
    assert_string_equal(json_string(involved, "apiVersion"), "cicada.dev/v1alpha1");
    assert_string_equal(json_string(involved, "kind"), "Function");
    assert_string_equal(json_string(involved, "namespace"), "shop");
    assert_string_equal(json_string(involved, "name"), "create-order");
    assert_string_equal(json_string(involved, "uid"), "u-1");
    assert_string_equal(json_string(event, "type"), "Warning");
    assert_string_equal(json_string(event, "reason"), "ImagePullFailed");
    assert_string_equal(json_string(event, "message"), "no such image");
    assert_string_equal(json_string(json_object(event, "source"), "component"), "cicada-operator");
    assert_int_equal(json_int64(event, "count", 0), 1);
    int64_t ignored;
    assert_true(parse_rfc3339(json_string(event, "firstTimestamp"), &ignored));
    assert_true(parse_rfc3339(json_string(event, "lastTimestamp"), &ignored));
    const char *name = json_string(json_object(event, "metadata"), "name");
    assert_true(str_starts_with(name, "create-order."));
    assert_true(is_dns_subdomain(name));
    expect_result(fixture, "sent", 1);
    expect_result(fixture, "dropped", 0);
}

static void test_repeats_are_counted(void **state)
{
    struct fixture *fixture = *state;
    answer_all(fixture, POST);
    answer_all(fixture, PATCH);
    event_recorder_start(fixture->recorder);
    emit(fixture, "a", "first");
    emit(fixture, "a", "first");
    emit(fixture, "a", "another");
    emit(fixture, "b", "first");
    emit(fixture, "a", "first");
    expect_requests(fixture, PATCH, 2);
    expect_requests(fixture, POST, 3);
    CLEANUP_JSON cJSON *patch = sent_body(fixture, PATCH);
    assert_int_equal(json_int64(patch, "count", 0), 3);
    assert_non_null(json_string(patch, "lastTimestamp"));
    assert_int_equal(cJSON_GetArraySize(patch), 2);
    CLEANUP_FREE char *request = fake_apiserver_request(fixture->server, PATCH);
    assert_non_null(strstr(request, "Content-Type: application/merge-patch+json\r\n"));
}

static void test_a_repeat_of_a_vanished_event_is_new(void **state)
{
    struct fixture *fixture = *state;
    answer_all(fixture, POST); /* PATCH gets 404 */
    event_recorder_start(fixture->recorder);
    emit(fixture, "a", "first");
    emit(fixture, "a", "first");
    expect_requests(fixture, POST, 2);
    expect_requests(fixture, PATCH, 1);
    CLEANUP_JSON cJSON *event = sent_body(fixture, POST);
    assert_int_equal(json_int64(event, "count", 0), 1);
}

static void test_cluster_scoped_and_long_names(void **state)
{
    struct fixture *fixture = *state;
    answer_all(fixture, "POST /api/v1/namespaces/default/events ");
    event_recorder_start(fixture->recorder);
    char name[254];
    memset(name, 'n', sizeof(name) - 1);
    name[253] = '\0';
    name[235] = '.';
    event_recorder_emit(fixture->recorder, "v1", "Node", NULL, name, NULL, "Normal", "Seen", "");
    expect_requests(fixture, "POST /api/v1/namespaces/default/events ", 1);
    CLEANUP_JSON cJSON *event = sent_body(fixture, "POST");
    assert_true(is_dns_subdomain(json_string(json_object(event, "metadata"), "name")));
    assert_null(json_get(json_object(event, "involvedObject"), "namespace"));
    assert_null(json_get(json_object(event, "involvedObject"), "uid"));
}

static void test_long_messages_are_cut_between_characters(void **state)
{
    struct fixture *fixture = *state;
    answer_all(fixture, POST);
    event_recorder_start(fixture->recorder);
    CLEANUP_STRBUF struct strbuf message;
    strbuf_init(&message, 8192);
    strbuf_append_char(&message, 'x');
    for (int i = 0; i < 1000; i++)
        strbuf_append_str(&message, "\xc3\xa4");
    emit(fixture, "a", message.buf);
    expect_requests(fixture, POST, 1);
    CLEANUP_JSON cJSON *event = sent_body(fixture, POST);
    const char *sent = json_string(event, "message");
    assert_int_equal(strlen(sent), 1023);
    assert_true(is_valid_utf8(sent, strlen(sent)));
}

static void test_a_full_queue_drops_and_counts(void **state)
{
    struct fixture *fixture = *state;
    answer_all(fixture, POST);
    for (int i = 0; i < 300; i++) {
        CLEANUP_FREE char *name = xasprintf("f-%d", i);
        emit(fixture, name, "many");
    }
    expect_result(fixture, "dropped", 300 - 256);
    event_recorder_start(fixture->recorder);
    event_recorder_stop(fixture->recorder);
    assert_int_equal(fake_apiserver_count(fixture->server, POST), 256);
    expect_result(fixture, "sent", 256);
}

static void test_what_cannot_succeed_is_not_tried_again(void **state)
{
    struct fixture *fixture = *state;
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = POST, .status = 403, .body = "{}", .times = -1});
    event_recorder_start(fixture->recorder);
    emit(fixture, "a", "x");
    emit(fixture, "b", "x");
    expect_requests(fixture, POST, 2);
    event_recorder_stop(fixture->recorder);
    expect_result(fixture, "failed", 2);
}

static void test_an_outage_is_waited_for(void **state)
{
    struct fixture *fixture = *state;
    fake_apiserver_answer(fixture->server, &(struct fake_answer){.match = POST, .status = 503, .body = "{}"});
    answer_all(fixture, POST);
    event_recorder_start(fixture->recorder);
    emit(fixture, "a", "x");
    expect_requests(fixture, POST, 2);
    event_recorder_stop(fixture->recorder);
    expect_result(fixture, "sent", 1);
    expect_result(fixture, "failed", 0);
}

static void test_a_flush_ends_in_time(void **state)
{
    struct fixture *fixture = *state;
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = POST, .ending = FAKE_END_HANG, .times = -1});
    event_recorder_start(fixture->recorder);
    for (int i = 0; i < 10; i++)
        emit(fixture, "a", "x");
    expect_requests(fixture, POST, 1);
    int64_t started_ms = clock_monotonic_ms();
    event_recorder_stop(fixture->recorder);
    assert_in_range(clock_monotonic_ms() - started_ms, 0, 3500);
}

int main(void)
{
    http_client_global_init();
    log_set_level(LOG_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_an_event),
        TEST(test_repeats_are_counted),
        TEST(test_a_repeat_of_a_vanished_event_is_new),
        TEST(test_cluster_scoped_and_long_names),
        TEST(test_long_messages_are_cut_between_characters),
        TEST(test_a_full_queue_drops_and_counts),
        TEST(test_what_cannot_succeed_is_not_tried_again),
        TEST(test_an_outage_is_waited_for),
        TEST(test_a_flush_ends_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
