#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/host/spec.h"

/* A spec with a database, a trigger, and a trigger of queue d with delivery settings. */
#define DB(more)       "{\"handler\":\"x.so:f\",\"database\":{}," more "}"
#define Q(name, queue) "{\"name\":\"" name "\",\"queue\":{\"name\":\"" queue "\"}}"
#define D(delivery)    "{\"name\":\"d\",\"queue\":{\"name\":\"d\"},\"delivery\":{" delivery "}}"

static void test_defaults(void **state)
{
    const char *text = "{\"handler\":\"shop.so:handle_user_request\"}";
    struct function_spec spec;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(spec_parse(text, strlen(text), &spec, &err), 0);
    assert_string_equal(spec.handler_file, "shop.so");
    assert_string_equal(spec.handler_symbol, "handle_user_request");
    assert_int_equal(spec.timeout_ms, 30000);
    assert_int_equal(spec.idle_timeout_ms, 60000);
    assert_int_equal(spec.drain_ms, 30000);
    assert_int_equal(spec.concurrency, 16);
    assert_int_equal(spec.body_max_bytes, 1048576);
    assert_int_equal(spec.response_max_bytes, 8388608);
    assert_int_equal(spec.success_status, 200);
    assert_null(spec.path_template);
    assert_false(spec.has_database);
    spec_release(&spec);
}

static void test_all_fields_and_unknown_ones(void **state)
{
    const char *text = "{\"handler\":\"eu/"
                       "a-b_c.1.so:_f2\",\"timeoutSeconds\":7,\"idleTimeoutSeconds\":8,\"concurrency\":250,"
                       "\"drainSeconds\":9,"
                       "\"limits\":{\"bodyBytes\":0,\"responseBytes\":1024},"
                       "\"database\":{\"poolSize\":8,\"isolation\":\"Serializable\",\"new\":1},"
                       "\"http\":{\"pathTemplate\":\"/{id}\",\"successStatus\":201},\"fromTheFuture\":[]}";
    struct function_spec spec;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(spec_parse(text, strlen(text), &spec, &err), 0);
    assert_int_equal(spec.timeout_ms, 7000);
    assert_int_equal(spec.idle_timeout_ms, 8000);
    assert_int_equal(spec.drain_ms, 9000);
    assert_int_equal(spec.concurrency, 250);
    assert_int_equal(spec.body_max_bytes, 0);
    assert_int_equal(spec.response_max_bytes, 1024);
    assert_true(spec.has_database);
    assert_int_equal(spec.pool_size, 8);
    assert_int_equal(spec.isolation, PG_SERIALIZABLE);
    assert_string_equal(spec.path_template, "/{id}");
    assert_int_equal(spec.success_status, 201);
    spec_release(&spec);
}

static void test_sql_function(void **state)
{
    const char *text =
        "{\"sql\":\"SELECT :a\",\"result\":\"Value\",\"parameters\":[{\"name\":\"a\",\"default\":\"7\"},"
        "{\"name\":\"b\"}],\"database\":{\"poolSize\":9,\"pooler\":\"Transaction\",\"retryable\":true},"
        "\"http\":{\"idempotency\":\"Required\"}}";
    struct function_spec spec;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(spec_parse(text, strlen(text), &spec, &err), 0);
    assert_null(spec.handler_file);
    assert_string_equal(spec.sql, "SELECT :a");
    assert_int_equal(spec.sql_result, SQL_RESULT_VALUE);
    assert_int_equal(spec.parameter_count, 2);
    assert_string_equal(spec.parameters[0].default_text, "7");
    assert_string_equal(spec.parameters[1].name, "b");
    assert_null(spec.parameters[1].default_text);
    assert_int_equal(spec.concurrency, 9); /* as many as there are connections */
    assert_true(spec.pooler_transaction);
    assert_true(spec.retryable);
    assert_int_equal(spec.idempotency, IDEMPOTENCY_REQUIRED);
    spec_release(&spec);
}

static void test_errors_name_the_field(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "line 1"},
        {"[]", "must be a JSON object"},
        {"{}", "handler: must be a string"},
        {"{\"handler\":7}", "handler: must be a string"},
        {"{\"handler\":\"x.so\"}", "handler: \"x.so\" is not FILE:SYMBOL"},
        {"{\"handler\":\"/x.so:f\"}", "handler: "},
        {"{\"handler\":\"x//y.so:f\"}", "handler: "},
        {"{\"handler\":\"x/:f\"}", "handler: "},
        {"{\"handler\":\"x/../y.so:f\"}", "handler: "},
        {"{\"handler\":\"..so:f\"}", "handler: "},
        {"{\"handler\":\".so:f\"}", "handler: "},
        {"{\"handler\":\":f\"}", "handler: "},
        {"{\"handler\":\"x.so:\"}", "handler: "},
        {"{\"handler\":\"x.so:1f\"}", "handler: "},
        {"{\"handler\":\"x.so:f;g\"}", "handler: "},
        {"{\"handler\":\"x.so:f\",\"timeoutSeconds\":0}", "timeoutSeconds: must be an integer from 1 to"},
        {"{\"handler\":\"x.so:f\",\"timeoutSeconds\":1.5}", "timeoutSeconds: "},
        {"{\"handler\":\"x.so:f\",\"idleTimeoutSeconds\":0}", "idleTimeoutSeconds: "},
        {"{\"handler\":\"x.so:f\",\"timeoutSeconds\":\"1\"}", "timeoutSeconds: "},
        {"{\"handler\":\"x.so:f\",\"concurrency\":251}", "concurrency: must be an integer from 1 to 250"},
        {"{\"handler\":\"x.so:f\",\"concurrency\":1e300}", "concurrency: "},
        {"{\"handler\":\"x.so:f\",\"limits\":[]}", "limits: must be an object"},
        {"{\"handler\":\"x.so:f\",\"limits\":{\"bodyBytes\":-1}}", "limits.bodyBytes: "},
        {"{\"handler\":\"x.so:f\",\"database\":{\"poolSize\":0}}", "database.poolSize: "},
        {"{\"handler\":\"x.so:f\",\"database\":{\"isolation\":\"None\"}}", "database.isolation: must be"},
        {"{\"handler\":\"x.so:f\",\"http\":{\"successStatus\":404}}", "http.successStatus: "},
        {"{\"handler\":\"x.so:f\",\"http\":{\"pathTemplate\":\"id\"}}",
         "http.pathTemplate: must begin with '/'"},
        {"{\"sql\":null}", "handler: must be a string"},
        {"{\"sql\":1}", "handler: must be a string"},
        {"{\"sql\":\"SELECT 1\"}", "sql: needs database"},
        {"{\"handler\":\"x.so:f\",\"sql\":\"SELECT 1\",\"database\":{}}", "sql: not together with handler"},
        {"{\"sql\":\"SELECT 1\",\"database\":{},\"result\":\"rows\"}",
         "result: must be Rows, Row, Value or None"},
        {"{\"sql\":\"SELECT 1\",\"database\":{},\"parameters\":[{\"name\":\"a\"},{\"name\":\"1a\"}]}",
         "parameters[1]: name: must be an identifier"},
        {"{\"sql\":\"SELECT 1\",\"database\":{},\"parameters\":[{\"name\":\"a\",\"default\":1}]}",
         "parameters[0]: default: must be a string"},
        {"{\"handler\":\"x.so:f\",\"database\":{\"pooler\":\"Session\"}}",
         "database.pooler: must be None or Transaction"},
        {"{\"handler\":\"x.so:f\",\"database\":{\"retryable\":1}}",
         "database.retryable: must be true or false"},
        {"{\"handler\":\"x.so:f\",\"http\":{\"idempotency\":\"Optional\"}}",
         "http.idempotency: needs database"},
        {"{\"handler\":\"x.so:f\",\"triggers\":[" Q("a", "q") "]}", "triggers: need database"},
        {DB("\"eventConcurrency\":0"), "eventConcurrency: must be an integer from 1 to 250"},
        {DB("\"triggers\":{}"), "triggers: must be an array of at most 16"},
        {DB("\"triggers\":[{\"queue\":{\"name\":\"q\"}}]"), "triggers[0]: name: must be a DNS label"},
        {DB("\"triggers\":[{\"name\":\"a\",\"queue\":{}}]"), "triggers[0]: queue.name: must be"},
        {DB("\"triggers\":[" Q("a", "q") "," Q("b", "-q") "]"), "triggers[1]: queue.name: must be"},
        {DB("\"triggers\":[" Q("a", "q") "," Q("a", "r") "]"), "triggers[1]: another one has this name"},
        {DB("\"triggers\":[" Q("a", "q") "," Q("b", "q") "]"), "triggers[1]: another one has this name"},
        {DB("\"triggers\":[" D("\"maxAttempts\":0") "]"), "triggers[0]: delivery.maxAttempts: must be"},
        {DB("\"triggers\":[" D("\"batchSize\":1001") "]"), "triggers[0]: delivery.batchSize: must be"},
        {DB("\"triggers\":[" D("\"ordered\":1") "]"), "triggers[0]: delivery.ordered: must be true"},
        {DB("\"triggers\":[" Q("a", "cicada.q") "]"), "triggers[0]: queue.name: must be"},
        {DB("\"output\":[]"), "output: must be an object"},
        {DB("\"output\":{}"), "output.queue: must be 1 to 63 letters"},
        {DB("\"output\":{\"queue\":7}"), "output.queue: must be"},
        {DB("\"output\":{\"queue\":\"\"}"), "output.queue: must be"},
        {DB("\"output\":{\"queue\":\"a b\"}"), "output.queue: must be"},
        {DB("\"output\":{\"queue\":\"q.\"}"), "output.queue: must be"},
        {DB("\"output\":{\"queue\":\"cicada.q\"}"), "output.queue: must be"},
        {"{\"handler\":\"x.so:f\",\"output\":{\"queue\":\"q\"}}", "output: needs database"},
        {"{\"sql\":\"SELECT 1\",\"result\":\"None\",\"database\":{},\"output\":{\"queue\":\"q\"}}",
         "output: needs a result"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct function_spec spec;
        struct err err = ERR_INIT;
        assert_int_equal(spec_parse(cases[i].text, strlen(cases[i].text), &spec, &err), -1);
        if (strncmp(err.msg, cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("%s: %s", cases[i].text, err.msg);
    }
}

static void test_triggers(void **state)
{
    static const char text[] = DB("\"triggers\":[" Q("a", "q.1") "," D(
        "\"maxAttempts\":7,\"backoffSeconds\":3,"
        "\"maxBackoffSeconds\":9,\"ordered\":true,\"batchSize\":100") ",{\"name\":\"rows\"},{\"name\":"
                                                                      "\"clock\"}],"
                                                                      "\"eventConcurrency\":9");
    struct function_spec spec;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(spec_parse(text, strlen(text), &spec, &err), 0);
    assert_int_equal(spec.event_concurrency, 9);
    assert_int_equal(spec.trigger_count, 4);
    assert_string_equal(spec.triggers[0].name, "a");
    assert_string_equal(spec.triggers[0].queue, "q.1");
    assert_false(spec.triggers[0].ordered);
    assert_int_equal(spec.triggers[0].batch_size, 1);
    assert_int_equal(spec.triggers[0].max_attempts, 20);
    assert_int_equal(spec.triggers[0].backoff_ms, 2000);
    assert_int_equal(spec.triggers[0].max_backoff_ms, 3600000);
    assert_true(spec.triggers[1].ordered);
    assert_int_equal(spec.triggers[1].batch_size, 100);
    assert_null(spec.triggers[2].queue); /* of a table or a schedule */
    assert_string_equal(spec.triggers[3].name, "clock");
    assert_int_equal(spec.triggers[1].max_attempts, 7);
    assert_int_equal(spec.triggers[1].backoff_ms, 3000);
    assert_int_equal(spec.triggers[1].max_backoff_ms, 9000);
    spec_release(&spec);
}

static void test_sources(void **state)
{
    char path[] = "/tmp/cicada-source.XXXXXX";
    int fd = mkstemp(path);
    struct spec_source source = {"value", "A", NULL, "A_FILE"};
    struct err err = ERR_INIT;
    char *text;

    (void)state;
    dprintf(fd, "from a file\r\n\n");
    fd_close_p(&fd);
    assert_int_equal(spec_source_read(&source, 10, &text, &err), 0);
    assert_string_equal(text, "value");
    free(text);
    assert_int_equal(spec_source_read(&source, 4, &text, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    source.file = path;
    assert_int_equal(spec_source_read(&source, 100, &text, &err), -1);
    assert_string_equal(err.msg, "A and A_FILE are both set");
    source.value = "";
    assert_int_equal(spec_source_read(&source, 100, &text, &err), 0);
    assert_string_equal(text, "from a file");
    free(text);
    source.file = "";
    assert_int_equal(spec_source_read(&source, 100, &text, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),     cmocka_unit_test(test_all_fields_and_unknown_ones),
        cmocka_unit_test(test_sql_function), cmocka_unit_test(test_errors_name_the_field),
        cmocka_unit_test(test_triggers),     cmocka_unit_test(test_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
