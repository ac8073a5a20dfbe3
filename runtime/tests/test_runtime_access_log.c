/* The access log of the real runtime: what a line says, what it never says, which requests have one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/host/access_log.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_socket.h"

#define LINE "\"message\":\"request\"}\n"

static void start(struct runtime_process *process, const char *setting)
{
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .spec = "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":1,\"concurrency\":1,\"http\":{}}",
        .env = {"CICADA_FUNCTION_NAME=probe", "CICADA_FUNCTION_NAMESPACE=tests", setting},
    };

    runtime_process_start(process, &settings, /* serving= */ true);
}

static size_t count_lines(const char *log)
{
    size_t count = 0;

    for (const char *at = log; (at = strstr(at, LINE)) != NULL; at++)
        count++;
    return count;
}

static bool has_two_lines(void *arg)
{
    struct runtime_process *process = arg;
    CLEANUP_FREE char *log = runtime_process_read(process->log_path);

    return count_lines(log) == 2;
}

/* Ends it, so that all lines are written; the caller frees. */
static char *log_of(struct runtime_process *process)
{
    char *log;

    assert_int_equal(runtime_process_stop(process), 0);
    log = runtime_process_read(process->log_path);
    runtime_process_release(process);
    return log;
}

/* The n-th line of the access log, from 0, as JSON. */
static cJSON *line_of(const char *log, int n)
{
    struct err err = ERR_INIT;
    const char *end = log;
    const char *begin;
    cJSON *line;

    for (int i = 0; i <= n; i++) {
        end = strstr(end, LINE);
        assert_non_null(end);
        end += strlen(LINE);
    }
    for (begin = end - 1; begin > log && begin[-1] != '\n'; begin--)
        continue;
    assert_true(end - begin <= LOG_LINE_MAX_BYTES);
    assert_int_equal(json_parse(begin, (size_t)(end - begin), 4, &line, &err), 0);
    return line;
}

static int64_t int_of(const cJSON *line, const char *name)
{
    const cJSON *value = json_get(line, name);

    assert_non_null(value);
    return (int64_t)value->valuedouble;
}

static void test_what_a_line_says(void **state)
{
    struct runtime_process process;
    int fd;

    (void)state;
    start(&process, "CICADA_ACCESS_LOG=all");
    fd = socket_connect(process.port);
    for (int i = 0; i < 2; i++) {
        char *answer;
        socket_send_text(fd, "POST /a%20b/c?do=body&password=secret-query HTTP/1.1\r\nHost: secret-host\r\n"
                             "X-Request-Id: r-1\r\nAuthorization: secret-header\r\n"
                             "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
                             "Content-Type: text/plain\r\nContent-Length: 11\r\n\r\nsecret-body");
        answer = socket_read_answer(fd);
        assert_non_null(strstr(answer, "secret-body"));
        free(answer);
    }
    close(fd);
    wait_until(has_two_lines, &process, "both requests are logged"); /* after the answer was sent */
    http_expect(process.port, "HEAD", "/?do=body", NULL, 200, "");
    CLEANUP_FREE char *log = log_of(&process);
    assert_null(strstr(log, "secret"));
    assert_int_equal(count_lines(log), 3);
    CLEANUP_JSON cJSON *first = line_of(log, 0);
    CLEANUP_JSON cJSON *second = line_of(log, 1);
    CLEANUP_JSON cJSON *third = line_of(log, 2);
    assert_string_equal(json_string(first, "level"), "info");
    assert_string_equal(json_string(first, "component"), "runtime");
    assert_string_equal(json_string(first, "object"), "tests/probe");
    assert_string_equal(json_string(first, "requestId"), "r-1");
    assert_string_equal(json_string(first, "traceId"), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_string_equal(json_string(first, "method"), "POST");
    assert_string_equal(json_string(first, "path"), "/a%20b/c");
    assert_string_equal(json_string(first, "remote"), "127.0.0.1");
    assert_int_equal(int_of(first, "status"), 200);
    assert_int_equal(int_of(first, "bytesIn"), 11);
    assert_int_equal(int_of(first, "bytesOut"), 11);
    assert_in_range(int_of(first, "durationMs"), 0, 900);
    assert_in_range(int_of(first, "waitedMs"), 0, 900);
    assert_true(cJSON_IsFalse(json_get(first, "reused")));
    assert_true(cJSON_IsTrue(json_get(second, "reused")));
    assert_string_equal(json_string(third, "method"), "HEAD");
    assert_int_equal(int_of(third, "bytesOut"), 0);
    assert_int_equal(cJSON_GetArraySize(first), 16);
}

static void test_waiting_and_late_answers(void **state)
{
    struct runtime_process process;
    struct http_call late, waiting;

    (void)state;
    start(&process, "CICADA_ACCESS_LOG=all");
    http_call_start(&late, process.port, "GET", "/late?do=sleep&ms=1400", NULL); /* 504 after a second */
    usleep(200000);
    http_call_start(&waiting, process.port, "GET", "/waiting?do=body", NULL); /* its time is up before */
    http_call_join(&late);
    http_call_join(&waiting);
    assert_int_equal(late.answer.status, 504);
    assert_int_equal(waiting.answer.status, 503);
    http_answer_release(&late.answer);
    http_answer_release(&waiting.answer);
    CLEANUP_FREE char *log = log_of(&process);
    assert_int_equal(count_lines(log), 2);
    CLEANUP_JSON cJSON *first = line_of(log, 0);
    CLEANUP_JSON cJSON *second = line_of(log, 1);
    assert_string_equal(json_string(first, "path"), "/late");
    assert_int_equal(int_of(first, "status"), 504);
    assert_in_range(int_of(first, "durationMs"), 950, 1390);
    assert_in_range(int_of(first, "waitedMs"), 0, 100);
    assert_string_equal(json_string(second, "path"), "/waiting");
    assert_int_equal(int_of(second, "status"), 503);
    assert_in_range(int_of(second, "waitedMs"), 950, 1390);
}

static void test_lines_are_bounded(void **state)
{
    struct runtime_process process;
    static const char query[] = "?do=body";
    char target[20000];

    (void)state;
    memset(target, '"', sizeof(target)); /* two bytes each as JSON */
    target[0] = '/';
    memcpy(target + sizeof(target) - sizeof(query), query, sizeof(query));
    start(&process, "CICADA_ACCESS_LOG=all");
    http_expect(process.port, "GET", target, NULL, 200, "");
    CLEANUP_FREE char *log = log_of(&process);
    CLEANUP_JSON cJSON *line = line_of(log, 0);
    const char *path = json_string(line, "path");
    assert_in_range(strlen(path), ACCESS_LOG_PATH_MAX_BYTES / 2 - 3, ACCESS_LOG_PATH_MAX_BYTES / 2 + 3);
    assert_true(str_ends_with(path, "\xE2\x80\xA6"));
}

static void expect_lines(const char *setting, int requests, const char *target, size_t min, size_t max)
{
    struct runtime_process process;

    start(&process, setting);
    for (int i = 0; i < requests; i++) {
        struct http_answer answer = http_ask(process.port, "GET", target, "", NULL);
        http_answer_release(&answer);
    }
    CLEANUP_FREE char *log = log_of(&process);
    assert_in_range(count_lines(log), min, max);
}

static void test_which_requests(void **state)
{
    (void)state;
    expect_lines(NULL, 3, "/?do=fail", 0, 0); /* off is the default */
    expect_lines("CICADA_ACCESS_LOG=off", 3, "/?do=fail", 0, 0);
    expect_lines("CICADA_ACCESS_LOG=0", 20, "/?do=body", 0, 0);
    expect_lines("CICADA_ACCESS_LOG=0", 3, "/?do=fail", 3, 3);         /* 500 */
    expect_lines("CICADA_ACCESS_LOG=0.5", 400, "/?do=body", 120, 280); /* eight sigma */
}

static void test_a_wrong_setting_is_refused(void **state)
{
    struct runtime_process process;
    struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = "{}", .env = {"CICADA_ACCESS_LOG=some"}};

    (void)state;
    runtime_process_start(&process, &settings, /* serving= */ false);
    assert_int_equal(runtime_process_wait(&process), 2);
    CLEANUP_FREE char *log = runtime_process_read(process.log_path);
    assert_non_null(strstr(log, "CICADA_ACCESS_LOG: \"some\" is not off, all or a number from 0 to 1"));
    runtime_process_release(&process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_line_says),           cmocka_unit_test(test_waiting_and_late_answers),
        cmocka_unit_test(test_lines_are_bounded),          cmocka_unit_test(test_which_requests),
        cmocka_unit_test(test_a_wrong_setting_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
