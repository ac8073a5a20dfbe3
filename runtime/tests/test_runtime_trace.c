/* Trace context through the real runtime: what the handler is to pass on, and what the log says. */
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

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN   "00f067aa0ba902b7"
#define TARGET "/?do=header&name=tracestate"

static int setup(void **state)
{
    struct runtime_process *process = xcalloc(1, sizeof(*process));
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .spec = "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":5,\"http\":{}}",
    };

    runtime_process_start(process, &settings, /* serving= */ true);
    *state = process;
    return 0;
}

static int teardown(void **state)
{
    runtime_process_release(*state);
    free(*state);
    return 0;
}

/* The handler's traceparent; the caller frees it. */
static char *traceparent_of(const struct http_answer *answer)
{
    const char *at = strstr(answer->body, "\"traceparent\":\"");

    assert_non_null(at);
    return xstrndup(at + strlen("\"traceparent\":\""), 55);
}

static void test_a_trace_is_continued(void **state)
{
    struct runtime_process *process = *state;
    char *spans[2];

    for (int i = 0; i < 2; i++) {
        struct http_answer answer =
            http_ask(process->port, "GET", TARGET,
                     "traceparent: 00-" TRACE "-" SPAN "-01\r\ntracestate: rojo=1,congo=t61\r\n", NULL);
        assert_int_equal(answer.status, 200);
        assert_true(http_answer_has(&answer, "\"header\":\"rojo=1,congo=t61\""));
        spans[i] = traceparent_of(&answer);
        assert_memory_equal(spans[i], "00-" TRACE "-", 36);
        assert_memory_not_equal(spans[i] + 36, SPAN, 16); /* the invocation's own */
        assert_string_equal(spans[i] + 52, "-01");
        http_answer_release(&answer);
    }
    assert_string_not_equal(spans[0], spans[1]);
    free(spans[0]);
    free(spans[1]);
}

static void expect_new_trace(int port, const char *headers)
{
    struct http_answer answer = http_ask(port, "GET", TARGET, headers, NULL);
    CLEANUP_FREE char *own = traceparent_of(&answer);

    assert_null(strstr(own, TRACE));
    assert_string_equal(own + 52, "-00");
    assert_true(http_answer_has(&answer, "\"header\":null")); /* the state of another trace */
    http_answer_release(&answer);
}

static void test_a_trace_is_started(void **state)
{
    int port = ((struct runtime_process *)*state)->port;

    expect_new_trace(port, "");
    expect_new_trace(port, "tracestate: a=b\r\n");
    expect_new_trace(port, "traceparent: 00-" TRACE "-" SPAN "-0x\r\ntracestate: a=b\r\n");
    expect_new_trace(port, "traceparent: 00-" TRACE "-" SPAN "-01\r\nTRACEPARENT: 00-" TRACE "-" SPAN
                           "-01\r\ntracestate: a=b\r\n");
}

static void test_log_lines_name_the_trace(void **state)
{
    struct runtime_process *process = *state;
    struct http_answer answer =
        http_ask(process->port, "GET", "/?do=select", /* there is no database: the runtime says so */
                 "X-Request-Id: traced-1\r\ntraceparent: 00-" TRACE "-" SPAN "-00\r\n", NULL);
    CLEANUP_FREE char *log = runtime_process_read(process->log_path);

    assert_int_equal(answer.status, 500);
    assert_non_null(strstr(log, "\"requestId\":\"traced-1\",\"traceId\":\"" TRACE "\",\"message\":\""));
    assert_false(http_answer_has(&answer, TRACE));
    http_answer_release(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_trace_is_continued),
        cmocka_unit_test(test_a_trace_is_started),
        cmocka_unit_test(test_log_lines_name_the_trace),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
