/* Events by HTTP through the real runtime: to a handler in C, to SQL, and once for each source and id. */
#include "runtime/tests/support_test.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_idempotency.h"
#include "runtime/tests/support_runtime.h"

#define BINARY(id) "ce-specversion: 1.0\r\nce-id: " id "\r\nce-source: /shop\r\nce-type: com.example.paid\r\n"
#define JSON       "Content-Type: application/json\r\n"
#define STRUCTURED "Content-Type: application/cloudevents+json; charset=utf-8\r\n"
#define DOCUMENT(id, members)                                                                                \
    "{\"specversion\":\"1.0\",\"id\":\"" id "\",\"source\":\"/shop\",\"type\":\"com.example.paid\"" members  \
    "}"

static struct runtime_process process;

static int start(const char *spec, const char *url)
{
    const struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = spec, .database_url = url};

    if (process.pid > 0)
        runtime_process_release(&process);
    runtime_process_start(&process, &settings, /* serving= */ true);
    return process.port;
}

static int teardown(void **state)
{
    (void)state;
    runtime_process_release(&process);
    return 0;
}

static void expect(int port, const char *method, const char *target, const char *headers, const char *body,
                   int status, const char *text)
{
    struct http_answer answer = http_ask(port, method, target, headers, body);

    if (answer.status != status || !http_answer_has(&answer, text))
        fail_msg("%s: expected %d with %s, got: %s", headers, status, text, answer.text);
    http_answer_release(&answer);
}

/* ---- handlers in C ---- */

static void test_both_modes_are_the_same(void **state)
{
    int port = start("{" PROBE "}", NULL);
    static const char target[] = "/?do=event&name=cicadaattempt";
    static const char expected[] =
        "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/shop\",\"type\":\"com.example.paid\","
        "\"subject\":\"a b\",\"time\":\"2026-11-29T07:00:00Z\",\"datacontenttype\":\"application/json\","
        "\"dataschema\":null,\"named\":\"3\",\"attempt\":3,\"contentType\":\"application/json\","
        "\"body\":\"{\\\"order_id\\\": 7}\"}";

    (void)state;
    expect(port, "POST", target,
           BINARY("7") JSON "ce-subject: a%20b\r\nCE-Time: 2026-11-29T07:00:00Z\r\nce-cicadaattempt: 3\r\n",
           "{\"order_id\": 7}", 200, expected);
    expect(port, "POST", target, STRUCTURED,
           DOCUMENT("7", ",\"subject\":\"a b\",\"time\":\"2026-11-29T07:00:00Z\",\"cicadaattempt\":3,"
                         "\"data\":{\"order_id\": 7}"),
           200, expected);
    expect(port, "POST", target, STRUCTURED,
           DOCUMENT("7", ",\"subject\":\"a b\",\"time\":\"2026-11-29T07:00:00Z\",\"cicadaattempt\":3,"
                         "\"datacontenttype\":\"application/json\",\"data_base64\":\"eyJvcmRlcl9pZCI6IDd9\""),
           200, expected);
}

static void test_data_that_is_no_json(void **state)
{
    int port = start("{" PROBE "}", NULL);
    static const char expected[] = "\"contentType\":\"text/plain\",\"body\":\"paid\"}";

    (void)state;
    expect(port, "POST", "/?do=event", BINARY("7") "Content-Type: text/plain\r\n", "paid", 200, expected);
    expect(port, "POST", "/?do=event", STRUCTURED,
           DOCUMENT("7", ",\"datacontenttype\":\"text/plain\",\"data\":\"paid\""), 200, expected);
    expect(port, "POST", "/?do=event", STRUCTURED,
           DOCUMENT("7", ",\"datacontenttype\":\"text/plain\",\"data_base64\":\"cGFpZA==\""), 200, expected);
    expect(port, "POST", "/?do=event", BINARY("7"), "", 200, "\"contentType\":null,\"body\":\"\"}");
    expect(port, "POST", "/?do=event", STRUCTURED, DOCUMENT("7", ""), 200,
           "\"contentType\":null,\"body\":\"\"}");
}

static void test_other_requests_bring_no_event(void **state)
{
    int port = start("{" PROBE "}", NULL);
    static const char none[] = "{\"specversion\":null,\"id\":null,\"source\":null,\"type\":null,";

    (void)state;
    expect(port, "POST", "/?do=event&name=x", "ce-id: 7\r\nce-type: t\r\nce-x: 1\r\n" JSON, "{}", 200, none);
    expect(port, "PUT", "/?do=event", BINARY("7") JSON, "{}", 200, none);
    expect(port, "PUT", "/?do=event", STRUCTURED, "{}", 200, none);
    expect(port, "GET", "/?do=event", BINARY("7"), NULL, 200, none);
    expect(port, "GET", "/?do=event", BINARY("7"), NULL, 200, "\"attempt\":0");
}

static void test_refusals(void **state)
{
    int port = start("{" PROBE "}", NULL);
    static const char invalid[] = "\"code\":\"invalid_event\",\"detail\":\"";

    (void)state;
    expect(port, "POST", "/?do=event", "ce-specversion: 1.0\r\n" JSON, "{}", 400, invalid);
    expect(port, "POST", "/?do=event", "ce-specversion: 0.3\r\nce-id: 1\r\nce-source: a\r\nce-type: b\r\n",
           "", 400, "the event's attribute \\\"specversion\\\" is not 1.0");
    expect(port, "POST", "/?do=event", STRUCTURED, "{", 400, invalid);
    expect(port, "POST", "/?do=event", STRUCTURED, "{", 400, "the event is no JSON: line 1");
    expect(port, "POST", "/?do=event", BINARY("7") JSON, "{", 400, "\"code\":\"malformed_json\"");
    expect(port, "POST", "/?do=event", "Content-Type: application/cloudevents-batch+json\r\n", "[]", 415,
           "\"code\":\"unsupported_event_format\"");
    expect(port, "POST", "/?do=event", "Content-Type: application/cloudevents+avro\r\n", "x", 415,
           "\"code\":\"unsupported_event_format\"");
    expect(port, "POST", "/?do=event", BINARY("7") JSON, "{}", 200, "\"id\":\"7\""); /* no place is lost */
}

/* ---- SQL ---- */

static int sql_port(const char *sql, const char *more)
{
    CLEANUP_FREE char *spec =
        xasprintf("{\"sql\":\"%s\",\"result\":\"Row\",\"database\":{\"poolSize\":2}%s}", sql, more);

    return start(spec, getenv("TEST_DATABASE_URL"));
}

static void test_sql_gets_the_event(void **state)
{
    int port = sql_port("SELECT :_event AS e", "");

    (void)state;
    expect(port, "POST", "/", JSON BINARY("7") "ce-x: \"%C3%A4\\\"\"\r\n", "{\"a\":[1]}", 200,
           "{\"e\":{\"x\": \"\xC3\xA4\\\"\", \"id\": \"7\", \"data\": {\"a\": [1]}, \"type\": "
           "\"com.example.paid\", "
           "\"source\": \"/shop\", \"specversion\": \"1.0\", \"datacontenttype\": \"application/json\"}}");
    expect(
        port, "POST", "/", STRUCTURED,
        DOCUMENT("7", ",\"time\":\"2026-11-29T07:00:00Z\",\"subject\":\"s\",\"dataschema\":\"u:\",\"n\":1"),
        200,
        "{\"e\":{\"n\": \"1\", \"id\": \"7\", \"time\": \"2026-11-29T07:00:00Z\", \"type\": "
        "\"com.example.paid\", \"source\": \"/shop\", \"subject\": \"s\", \"dataschema\": \"u:\", "
        "\"specversion\": \"1.0\"}}");
    expect(port, "POST", "/", JSON, "{}", 200, "{\"e\":null}");
    expect(port, "GET", "/", BINARY("7"), NULL, 200, "{\"e\":null}");
}

/* A form is not parsed, so it may be anything. */
static void test_sql_gets_other_data(void **state)
{
    int port = sql_port("SELECT :_event->'data' AS d, :_event->>'data_base64' AS b", "");
    static const char form[] =
        ",\"datacontenttype\":\"application/x-www-form-urlencoded\",\"data_base64\":\"%s\"";

    (void)state;
    expect(
        port, "POST", "/", STRUCTURED,
        DOCUMENT("7", ",\"datacontenttype\":\"application/x-www-form-urlencoded\",\"data\":\"a=\\\"1\\\"\""),
        200, "{\"d\":\"a=\\\"1\\\"\",\"b\":null}");
    for (int i = 0; i < 2; i++) {
        static const char *const data[] = {"AGE=", "/w=="}; /* a NUL; no UTF-8 */
        CLEANUP_FREE char *members = xasprintf(form, data[i]);
        CLEANUP_FREE char *body = xasprintf(DOCUMENT("7", "%s"), members);
        CLEANUP_FREE char *expected = xasprintf("{\"d\":null,\"b\":\"%s\"}", data[i]);

        expect(port, "POST", "/", STRUCTURED, body, 200, expected);
    }
    expect(port, "POST", "/", STRUCTURED, DOCUMENT("7", ",\"data\":null"), 200, "{\"d\":null,\"b\":null}");
    expect(port, "POST", "/", STRUCTURED, DOCUMENT("7", ",\"data\":\"text\""), 200,
           "{\"d\":\"text\",\"b\":null}");
}

/* Members of the data are parameters, as those of any body. */
static void test_sql_binds_the_data(void **state)
{
    int port = sql_port("SELECT :order_id::int AS id, :_event->>'type' AS type, :_body AS body", "");
    static const char expected[] = "{\"id\":7,\"type\":\"com.example.paid\",\"body\":{\"order_id\": 7}}";

    (void)state;
    expect(port, "POST", "/", BINARY("7"), "{\"order_id\":7}", 200, expected);
    expect(port, "POST", "/", STRUCTURED, DOCUMENT("7", ",\"data\":{\"order_id\":7}"), 200, expected);
    expect(port, "POST", "/", STRUCTURED, DOCUMENT("7", ",\"order\":7"), 400,
           "\"code\":\"missing_parameter\"");
}

/* ---- once ---- */

static int setup_optional(void **state)
{
    return idempotency_setup(state, PROBE, "Optional", "ReadCommitted");
}

static int setup_required(void **state)
{
    return idempotency_setup(state, PROBE, "Required", "ReadCommitted");
}

#define NOTE "/?do=note&text=a"

static void note(struct keyed_runtime *fixture, const char *headers, const char *body, const char *text)
{
    expect(fixture->process.port, "POST", NOTE, headers, body, 200, text);
}

static void test_a_repeat_gets_the_stored_answer(void **state)
{
    struct keyed_runtime *fixture = *state;
    static const char replayed[] = "Idempotency-Replayed: true\r\n";

    note(fixture, BINARY("7") JSON, "{\"a\":1}", "\"id\":1");
    note(fixture, BINARY("7") JSON, "{\"a\":1}", replayed);
    note(fixture, BINARY("7") "ce-cicadaattempt: 2\r\n" JSON, "{ \"a\": 1 }", replayed);
    note(fixture, STRUCTURED, DOCUMENT("7", ",\"data\":{\"a\":1}"), replayed);
    note(fixture, STRUCTURED, DOCUMENT("8", ",\"data\":{\"a\":1}"), "\"id\":2");
    note(fixture, "ce-specversion: 1.0\r\nce-id: 7\r\nce-source: /sho\r\nce-type: t\r\n", "", "\"id\":3");
    note(fixture, "ce-specversion: 1.0\r\nce-id: p7\r\nce-source: /sho\r\nce-type: t\r\n", "", "\"id\":4");
    database_count(fixture, NOTES, 4);
    database_count(fixture, STORED, 4);
}

static void test_the_header_goes_first(void **state)
{
    struct keyed_runtime *fixture = *state;

    note(fixture, BINARY("7") "Idempotency-Key: k\r\n", "", "\"id\":1");
    note(fixture, BINARY("8") "Idempotency-Key: k\r\n", "", "Idempotency-Replayed: true\r\n");
    note(fixture, BINARY("8"), "", "\"id\":2");
    expect(fixture->process.port, "POST", NOTE, BINARY("8") "Idempotency-Key: \"\r\n", "", 400,
           "\"code\":\"idempotency_key_malformed\"");
    database_count(fixture, NOTES, 2);
}

/* Who may read the first answer, and where it was given, counts as for any key. */
static void test_another_request_with_the_event(void **state)
{
    struct keyed_runtime *fixture = *state;
    int port = fixture->process.port;

    note(fixture, BINARY("7"), "", "\"id\":1");
    expect(port, "POST", NOTE, BINARY("7") "Authorization: Bearer other\r\n", "", 422,
           "\"code\":\"idempotency_key_reused\"");
    expect(port, "POST", "/other?do=note&text=a", BINARY("7"), "", 422,
           "\"code\":\"idempotency_key_reused\"");
    database_count(fixture, NOTES, 1);
}

static void test_a_failed_event_runs_again(void **state)
{
    struct keyed_runtime *fixture = *state;

    expect(fixture->process.port, "POST", NOTE "&then=fail", BINARY("7"), "", 500, "handler_failed");
    note(fixture, BINARY("7"), "", "\"id\":2");
    database_count(fixture, NOTES, 1);
}

static void test_an_event_has_the_key_that_is_required(void **state)
{
    struct keyed_runtime *fixture = *state;
    int port = fixture->process.port;

    note(fixture, BINARY("7"), "", "\"id\":1");
    note(fixture, BINARY("7"), "", "Idempotency-Replayed: true\r\n");
    expect(port, "POST", NOTE, "", "", 400, "\"code\":\"idempotency_key_required\"");
    expect(port, "POST", NOTE, "ce-specversion: 1.0\r\n", "", 400, "\"code\":\"invalid_event\"");
    database_count(fixture, NOTES, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_modes_are_the_same),
        cmocka_unit_test(test_data_that_is_no_json),
        cmocka_unit_test(test_other_requests_bring_no_event),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_sql_gets_the_event),
        cmocka_unit_test(test_sql_gets_other_data),
        cmocka_unit_test(test_sql_binds_the_data),
        cmocka_unit_test_setup_teardown(test_a_repeat_gets_the_stored_answer, setup_optional,
                                        idempotency_teardown),
        cmocka_unit_test_setup_teardown(test_the_header_goes_first, setup_optional, idempotency_teardown),
        cmocka_unit_test_setup_teardown(test_another_request_with_the_event, setup_optional,
                                        idempotency_teardown),
        cmocka_unit_test_setup_teardown(test_a_failed_event_runs_again, setup_optional, idempotency_teardown),
        cmocka_unit_test_setup_teardown(test_an_event_has_the_key_that_is_required, setup_required,
                                        idempotency_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
