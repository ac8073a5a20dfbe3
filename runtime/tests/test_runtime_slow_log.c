/* The slow-statement log of the real runtime. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/host/slow_log.h"
#include "runtime/tests/support_runtime.h"

static void start(struct runtime_process *process, const char *setting)
{
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .database_url = getenv("TEST_DATABASE_URL"),
        .spec = "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":2,"
                "\"database\":{\"poolSize\":1,\"isolation\":\"ReadCommitted\"},\"http\":{}}",
        .env = {setting},
    };

    runtime_process_start(process, &settings, /* serving= */ true);
}

static char *log_of(struct runtime_process *process)
{
    char *log = runtime_process_read(process->log_path);

    runtime_process_release(process);
    return log;
}

static int count_lines(const char *log)
{
    int count = 0;

    for (const char *at = log; (at = strstr(at, "\"message\":\"slow statement\"}\n")) != NULL; at++)
        count++;
    return count;
}

/* The only line of the slow-statement log, as JSON. */
static cJSON *only_line(const char *log)
{
    struct err err = ERR_INIT;
    const char *begin = strstr(log, "\"message\":\"slow statement\"}\n");
    const char *end;
    cJSON *line;

    assert_int_equal(count_lines(log), 1);
    end = strchr(begin, '\n') + 1;
    while (begin > log && begin[-1] != '\n')
        begin--;
    assert_true(end - begin <= LOG_LINE_MAX_BYTES);
    assert_int_equal(json_parse(begin, (size_t)(end - begin), 4, &line, &err), 0);
    return line;
}

static double number_of(const cJSON *line, const char *name)
{
    const cJSON *value = json_get(line, name);

    assert_non_null(value);
    return value->valuedouble;
}

static void test_what_a_line_says(void **state)
{
    struct runtime_process process;
    struct http_answer answer;

    (void)state;
    start(&process, "CICADA_SLOW_STATEMENT_MS=100");
    http_expect(process.port, "GET", "/?do=slow&ms=0&text=quick", NULL, 200, "");
    answer =
        http_ask(process.port, "GET", "/?do=slow&ms=150&text=top-secret", "X-Request-Id: slow-1\r\n", NULL);
    assert_int_equal(answer.status, 200);
    http_answer_release(&answer);
    CLEANUP_FREE char *log = log_of(&process);
    CLEANUP_JSON cJSON *line = only_line(log);
    assert_null(strstr(log, "top-secret"));
    assert_string_equal(json_string(line, "level"), "warn");
    assert_string_equal(json_string(line, "requestId"), "slow-1");
    assert_int_equal(strlen(json_string(line, "traceId")), 32);
    assert_string_equal(json_string(line, "statement"),
                        "SELECT pg_sleep($1::float8 / 1000), $2::text FROM generate_series(1, 1)");
    assert_true(number_of(line, "durationMs") >= 150 && number_of(line, "durationMs") < 1000);
    assert_true(number_of(line, "rows") == 1);
    assert_null(json_get(line, "sqlstate"));
    assert_null(json_get(line, "code"));
}

static void test_failures_are_named(void **state)
{
    struct runtime_process process;

    (void)state;
    start(&process, "CICADA_SLOW_STATEMENT_MS=100");
    http_expect(process.port, "GET",
                "/?do=sql&sql=DO+$$+BEGIN+PERFORM+pg_sleep(0.15);RAISE+SQLSTATE+'22012';END+$$", NULL, 422,
                "");
    CLEANUP_FREE char *log = log_of(&process);
    CLEANUP_JSON cJSON *line = only_line(log);
    assert_string_equal(json_string(line, "sqlstate"), "22012");
    assert_string_equal(json_string(line, "code"), "data_exception");
    assert_true(number_of(line, "rows") == 0);

    start(&process, "CICADA_SLOW_STATEMENT_MS=1000");
    http_expect(process.port, "GET", "/?do=sql&sql=SELECT+pg_sleep(30)", NULL, 504, "");
    CLEANUP_FREE char *late = log_of(&process);
    CLEANUP_JSON cJSON *late_line = only_line(late);
    assert_string_equal(json_string(late_line, "code"), "deadline_exceeded");
    assert_true(number_of(late_line, "durationMs") < 2000);
}

static void test_commits_count(void **state)
{
    struct runtime_process process;

    (void)state;
    free(database_value(
        "DROP SCHEMA IF EXISTS slow_test CASCADE; CREATE SCHEMA slow_test; CREATE TABLE slow_test.t (i int);"
        "CREATE FUNCTION slow_test.wait() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.15); RETURN NULL; END';"
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow_test.t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slow_test.wait()"));
    start(&process, "CICADA_SLOW_STATEMENT_MS=100");
    http_expect(process.port, "GET", "/?do=sql&sql=INSERT+INTO+slow_test.t+VALUES+(1)", NULL, 200, "");
    CLEANUP_FREE char *log = log_of(&process);
    CLEANUP_JSON cJSON *line = only_line(log);
    assert_string_equal(json_string(line, "statement"), "COMMIT");
    free(database_value("DROP SCHEMA slow_test CASCADE"));
}

static void test_long_statements_are_cut(void **state)
{
    struct runtime_process process;
    char target[8000] = "/?do=sql&sql=SELECT+pg_sleep(0.15)/*";
    size_t len = strlen(target);

    (void)state;
    memset(target + len, '"', sizeof(target) - len); /* two bytes each as JSON */
    memcpy(target + sizeof(target) - 3, "*/", 3);
    start(&process, "CICADA_SLOW_STATEMENT_MS=100");
    http_expect(process.port, "GET", target, NULL, 200, "");
    CLEANUP_FREE char *log = log_of(&process);
    CLEANUP_JSON cJSON *line = only_line(log);
    const char *statement = json_string(line, "statement");
    assert_true(str_starts_with(statement, "SELECT pg_sleep(0.15)/*\"\""));
    assert_true(str_ends_with(statement, "\"\xE2\x80\xA6"));
    assert_in_range(strlen(statement), SLOW_LOG_STATEMENT_MAX_BYTES / 2,
                    SLOW_LOG_STATEMENT_MAX_BYTES / 2 + 20);
}

static void test_the_threshold(void **state)
{
    struct runtime_process process;

    (void)state;
    start(&process, "CICADA_SLOW_STATEMENT_MS=0");
    http_expect(process.port, "GET", "/?do=slow&ms=1200&text=x", NULL, 200, "");
    CLEANUP_FREE char *off = log_of(&process);
    assert_int_equal(count_lines(off), 0);
    start(&process, NULL); /* a second by default */
    http_expect(process.port, "GET", "/?do=slow&ms=800&text=x", NULL, 200, "");
    http_expect(process.port, "GET", "/?do=slow&ms=1050&text=x", NULL, 200, "");
    CLEANUP_FREE char *log = log_of(&process);
    CLEANUP_JSON cJSON *line = only_line(log);
    assert_true(number_of(line, "durationMs") >= 1050);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_line_says), cmocka_unit_test(test_failures_are_named),
        cmocka_unit_test(test_commits_count),    cmocka_unit_test(test_long_statements_are_cut),
        cmocka_unit_test(test_the_threshold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
