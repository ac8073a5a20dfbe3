/* One request through the real runtime: what the handler sees, what becomes of its transaction, what the caller gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_runtime.h"

static int setup(void **state)
{
    struct runtime_process *process = xcalloc(1, sizeof(*process));
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .database_url = getenv("TEST_DATABASE_URL"),
        .spec = "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":1,\"concurrency\":4,"
                "\"limits\":{\"bodyBytes\":1000,\"responseBytes\":50000},"
                "\"database\":{\"poolSize\":2,\"isolation\":\"ReadCommitted\"},"
                "\"http\":{\"pathTemplate\":\"/things/{id}\",\"successStatus\":202}}",
        .env = {"CICADA_FUNCTION_NAME=probe", "CICADA_FUNCTION_NAMESPACE=tests"},
    };

    free(
        database_value("DROP SCHEMA IF EXISTS runtime_test CASCADE; CREATE SCHEMA runtime_test;"
                       "CREATE TABLE runtime_test.notes (id serial PRIMARY KEY, text text UNIQUE);"
                       "CREATE TABLE runtime_test.answers (note_id integer REFERENCES runtime_test.notes (id)"
                       " DEFERRABLE INITIALLY DEFERRED)"));
    runtime_process_start(process, &settings, /* serving= */ true);
    *state = process;
    return 0;
}

static int teardown(void **state)
{
    struct runtime_process *process = *state;

    runtime_process_release(process);
    free(database_value("DROP SCHEMA runtime_test CASCADE"));
    free(process);
    return 0;
}

static void expect_notes(const char *text, const char *expected)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT count(*) FROM runtime_test.notes WHERE text = '%s'", text);
    CLEANUP_FREE char *count = database_value(sql);
    assert_string_equal(count, expected);
}

static void expect_with(int port, const char *headers, const char *body, int status, const char *text)
{
    struct http_answer answer = http_ask(port, "POST", "/things/1", headers, body);

    if (answer.status != status || !http_answer_has(&answer, text))
        fail_msg("%s%s: expected %d with <%s>, got: %s", headers, body, status, text, answer.text);
    http_answer_release(&answer);
}

static void test_handler_sees_the_request(void **state)
{
    struct runtime_process *process = *state;
    struct http_answer answer = http_ask(process->port, "PUT", "/things/a%20%2Fb?x=1+2&y&z=%C3%A4&do=echo",
                                         "X-Request-Id: my.id-7\r\n", "[1]");

    assert_int_equal(answer.status, 202); /* http.successStatus */
    assert_true(http_answer_has(
        &answer, "\r\n\r\n{\"method\":\"PUT\",\"path\":\"/things/a%20%2Fb\",\"id\":\"a "
                 "/b\",\"bodyBytes\":3,\"jsonType\":5,"
                 "\"query\":{\"x\":\"1 2\",\"y\":\"\",\"z\":\"ä\",\"do\":\"echo\"},\"traceparent\":\"00-"));
    assert_true(http_answer_has(&answer,
                                "\"requestId\":\"my.id-7\",\"function\":\"probe\",\"namespace\":\"tests\","
                                "\"state\":\"made by init\",\"inTime\":true}"));
    assert_true(http_answer_has(&answer, "X-Request-Id: my.id-7\r\n"));
    assert_true(http_answer_has(&answer, "Content-Type: application/json\r\n"));
    http_answer_release(&answer);
}

static void test_request_id_is_made_if_unusable(void **state)
{
    struct runtime_process *process = *state;
    struct http_answer answer =
        http_ask(process->port, "GET", "/things/1", "X-Request-Id: no spaces\r\n", NULL);

    assert_true(http_answer_has(&answer, "X-Request-Id: "));
    assert_false(http_answer_has(&answer, "no spaces"));
    http_answer_release(&answer);
}

static void test_head_is_get_without_a_body(void **state)
{
    struct runtime_process *process = *state;
    struct http_answer head = http_ask(process->port, "HEAD", "/things/1", "", NULL);

    assert_int_equal(head.status, 202);
    assert_string_equal(head.body, "");
    assert_false(http_answer_has(&head, "Content-Length: 0\r\n")); /* that of the GET */
    http_answer_release(&head);
}

static void test_paths_and_queries(void **state)
{
    int port = ((struct runtime_process *)*state)->port;

    http_expect(port, "GET", "/", NULL, 404, "\"code\":\"unknown_path\"");
    http_expect(port, "GET", "/things", NULL, 404, "\"code\":\"unknown_path\"");
    http_expect(port, "GET", "/things/1/2", NULL, 404, "\"code\":\"unknown_path\"");
    http_expect(port, "GET", "/things/1/", NULL, 202, "\"id\":\"1\"");
    http_expect(port, "GET", "/things/%zz", NULL, 400, "\"code\":\"bad_request\"");
    http_expect(port, "GET", "/things/1?a=%00", NULL, 400, "\"code\":\"bad_request\"");
    http_expect(port, "GET", "/things/1?do=nothing", NULL, 400, "\"code\":\"unknown_probe\"");
}

static void test_what_is_json(void **state)
{
    int port = ((struct runtime_process *)*state)->port;
    const char *form = "Content-Type: application/x-www-form-urlencoded\r\n";

    expect_with(port, "", "{\"a\":1}", 202, "\"jsonType\":6");
    expect_with(port, "", "{\"a\":", 400, "\"code\":\"malformed_json\"");
    expect_with(port, "Content-Type: application/json; charset=utf-8\r\n", "{", 400, "malformed_json");
    expect_with(port, "Content-Type: application/vnd.shop+json\r\n", "{", 400, "malformed_json");
    expect_with(port, form, " {\"a\":1}", 202, "\"jsonType\":6"); /* a bare `curl -d` */
    expect_with(port, form, "[1", 400, "malformed_json");
    expect_with(port, form, "a=1", 202, "\"jsonType\":0");
    expect_with(port, "Content-Type: multipart/form-data; boundary=x\r\n", "{", 202, "\"jsonType\":0");
    expect_with(port, "Content-Type: text/plain\r\n", "true", 202, "\"jsonType\":2");
    expect_with(port, "Content-Type: text/plain\r\n", "hello", 400,
                "malformed_json"); /* the handler asked for JSON */
    expect_with(port, "", "\"\\u0000\"", 400, "malformed_json");
    expect_with(port, "", "", 202, "\"jsonType\":0");
    http_expect(port, "POST", "/things/1?do=body", "{}", 202, "application/octet-stream");
}

static void test_body_limit(void **state)
{
    int port = ((struct runtime_process *)*state)->port;
    char body[1002];

    memset(body, ' ', sizeof(body));
    body[0] = '7';
    body[1000] = '\0';
    http_expect(port, "POST", "/things/1", body, 202, "\"bodyBytes\":1000");
    body[1000] = ' ';
    body[1001] = '\0';
    http_expect(port, "POST", "/things/1", body, 413, "\"code\":\"body_too_large\"");
}

static void test_types_of_columns(void **state)
{
    http_expect(((struct runtime_process *)*state)->port, "GET", "/things/1?do=types", NULL, 202,
                "{\"b\":true,\"i\":9007199254740993,\"n\":1.10,\"nan\":\"NaN\",\"j\":{\"a\": 1},\"nil\":null,"
                "\"t\":\"a\\\"b\",\"p\":-9223372036854775808,\"d\":0.1,\"f\":false,\"np\":null}");
}

static void test_transactions(void **state)
{
    int port = ((struct runtime_process *)*state)->port;

    http_expect(port, "POST", "/things/1?do=note&text=kept", NULL, 202, "\"text\":\"kept\"");
    expect_notes("kept", "1");
    http_expect(port, "POST", "/things/1?do=note&text=kept", NULL, 409, "\"code\":\"unique_violation\"");
    http_expect(port, "POST", "/things/1?do=note&text=failed&then=fail", NULL, 500,
                "\"code\":\"handler_failed\"");
    expect_notes("failed", "0");
    http_expect(port, "POST", "/things/1?do=note&text=conflict&then=409", NULL, 409, "\"text\":\"conflict\"");
    expect_notes("conflict", "0");
    http_expect(port, "POST", "/things/1?do=note&text=mistake&then=mistake", NULL, 500, "invalid_response");
    expect_notes("mistake", "0");
    http_expect(port, "POST", "/things/1?do=note&text=big&then=big", NULL, 500,
                "\"code\":\"result_too_large\"");
    expect_notes("big", "0");
}

static void test_commit_decides(void **state)
{
    int port = ((struct runtime_process *)*state)->port;

    http_expect(port, "POST", "/things/1?do=note&text=ignored&then=ignore", NULL, 500,
                "\"code\":\"transaction_failed\"");
    expect_notes("ignored", "0");
    http_expect(port, "POST", "/things/1?do=note&text=deferred&then=deferred", NULL, 409,
                "\"code\":\"foreign_key_violation\"");
    expect_notes("deferred", "0");
    http_expect(port, "POST", "/things/1?do=commit", NULL, 500, "application/problem+json");
    http_expect(port, "POST", "/things/1?do=fail", NULL, 500, "\"code\":\"handler_failed\"");
}

static void test_late_handler_is_rolled_back(void **state)
{
    struct runtime_process *process = *state;
    struct http_call call;

    http_call_start(&call, process->port, "POST", "/things/1?do=note&text=late&ms=1500", NULL);
    http_call_join(&call);
    assert_int_equal(call.answer.status, 504);
    assert_true(http_answer_has(&call.answer, "\"code\":\"deadline_exceeded\""));
    assert_in_range(call.took_ms, 900, 1450); /* while the handler still sleeps */
    http_answer_release(&call.answer);
    http_call_start(&call, process->port, "POST", "/things/1?do=note&text=slow&then=sleep", NULL);
    http_call_join(&call); /* the server cancels the statement, or this thread answers: one of the two */
    assert_int_equal(call.answer.status, 504);
    http_answer_release(&call.answer);
    http_expect(process->port, "GET", "/things/1?do=select", NULL, 202, "");
    expect_notes("late", "0");
    expect_notes("slow", "0");
}

static void test_admission_is_exact(void **state)
{
    struct runtime_process *process = *state;
    struct http_call calls[20];
    int slept = 0, refused = 0;

    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        http_call_start(&calls[i], process->port, "GET", "/things/1?do=sleep&ms=300", NULL);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        http_call_join(&calls[i]);
        if (calls[i].answer.status == 202) {
            slept++;
        } else {
            assert_int_equal(calls[i].answer.status, 503);
            assert_true(http_answer_has(&calls[i].answer, "Retry-After: 1\r\n"));
            assert_true(http_answer_has(&calls[i].answer, "\"code\":\"too_many_requests_waiting\""));
            refused++;
        }
        http_answer_release(&calls[i].answer);
    }
    /* 4 at work, 8 waiting; the 16 worker threads see no more than 16 at once, the rest may come after a place is free. */
    assert_true(slept >= 12);
    assert_true(refused >= 4);
    assert_int_equal(slept + refused, 20);
}

static void test_waiting_ends_at_the_deadline(void **state)
{
    struct runtime_process *process = *state;
    struct http_call calls[5];
    int late = 0, no_capacity = 0;

    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        http_call_start(&calls[i], process->port, "GET", "/things/1?do=sleep&ms=1400", NULL);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        http_call_join(&calls[i]);
        late += calls[i].answer.status == 504;
        no_capacity += http_answer_has(&calls[i].answer, "\"code\":\"no_capacity_in_time\"");
        http_answer_release(&calls[i].answer);
    }
    assert_int_equal(late, 4);
    assert_int_equal(no_capacity, 1);
}

static void test_admin_port(void **state)
{
    int port = ((struct runtime_process *)*state)->admin_port;

    http_expect(port, "GET", "/livez", NULL, 200, "ok");
    http_expect(port, "HEAD", "/readyz", NULL, 200, "");
    http_expect(port, "GET", "/statz", NULL, 200, "\"ready\":true,\"draining\":false,\"restarts\":0}");
    http_expect(port, "GET", "/metrics", NULL, 200, "cicada_runtime_requests_total{code=\"202\"}");
    http_expect(port, "GET", "/metrics", NULL, 200,
                "cicada_runtime_transactions_total{outcome=\"committed\"}");
    http_expect(port, "POST", "/readyz", NULL, 405, "Allow: GET, HEAD");
    http_expect(port, "GET", "/", NULL, 404, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handler_sees_the_request),
        cmocka_unit_test(test_request_id_is_made_if_unusable),
        cmocka_unit_test(test_head_is_get_without_a_body),
        cmocka_unit_test(test_paths_and_queries),
        cmocka_unit_test(test_what_is_json),
        cmocka_unit_test(test_body_limit),
        cmocka_unit_test(test_types_of_columns),
        cmocka_unit_test(test_transactions),
        cmocka_unit_test(test_commit_decides),
        cmocka_unit_test(test_late_handler_is_rolled_back),
        cmocka_unit_test(test_admission_is_exact),
        cmocka_unit_test(test_waiting_ends_at_the_deadline),
        cmocka_unit_test(test_admin_port),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
