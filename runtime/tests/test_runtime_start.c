/* How the real runtime starts, fails to start, is announced, drains, and says why it ended. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_gateway.h"
#include "runtime/tests/support_runtime.h"

#define PROBE "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":1,\"drainSeconds\":5}"

static void expect_termination(const struct runtime_process *process, const char *reason, const char *text)
{
    CLEANUP_FREE char *message = runtime_process_read(process->termination_path);
    CLEANUP_FREE char *start = xasprintf("{\"reason\":\"%s\",\"message\":\"", reason);

    if (strncmp(message, start, strlen(start)) != 0 || strstr(message, text) == NULL)
        fail_msg("expected %s with <%s>, got: %s", reason, text, message);
}

static void test_fails_with_a_reason(void **state)
{
    static const struct {
        const char *spec, *env, *reason, *text;
    } cases[] = {
        {NULL, NULL, "InvalidSpec", "neither CICADA_SPEC nor CICADA_SPEC_FILE is set"},
        {"{", NULL, "InvalidSpec", "CICADA_SPEC: line 1 column"},
        {"{\"handler\":\"../probe.so:probe\"}", NULL, "InvalidSpec", "handler: "},
        {"{\"handler\":\"probe.so:probe\",\"concurrency\":0}", NULL, "InvalidSpec", "concurrency: must be"},
        {"{\"handler\":\"probe.so:probe\",\"database\":{}}", NULL, "InvalidSpec", "neither DATABASE_URL nor"},
        {"{\"handler\":\"probe.so:probe\",\"database\":{}}", "DATABASE_URL=postgresql://h/d?nonsense=1",
         "InvalidSpec", "DATABASE_URL: "},
        {"{\"handler\":\"nothere.so:probe\"}", NULL, "HandlerLoadFailed", "nothere.so:probe: "},
        {"{\"handler\":\"probe.so:nothere\"}", NULL, "HandlerLoadFailed", "cicada_function_nothere"},
        {"{\"handler\":\"undefined.so:undefined\"}", NULL, "HandlerLoadFailed",
         "cicada_test_symbol_of_nobody"},
        {"{\"handler\":\"abi.so:other_version\"}", NULL, "HandlerLoadFailed", "ABI version"},
        {"{\"handler\":\"probe.so:refuses\"}", NULL, "HandlerLoadFailed",
         "init failed: the model file is missing"},
        {PROBE, "CICADA_GATEWAY=nonsense", "ContainerExited", "CICADA_GATEWAY: "},
        {PROBE, "CICADA_LISTEN=203.0.113.1:80", "ContainerExited", ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct runtime_process process;
        struct runtime_process_settings settings = {
            .functions = "test-functions", .spec = cases[i].spec, .env = {cases[i].env}};

        runtime_process_start(&process, &settings, /* serving= */ false);
        assert_int_equal(runtime_process_wait(&process), 1);
        expect_termination(&process, cases[i].reason, cases[i].text);
        runtime_process_release(&process);
    }
}

static void test_start_and_serving_are_logged(void **state)
{
    struct runtime_process process;
    struct runtime_process_settings settings = {.functions = "test-functions", .spec = PROBE};
    CLEANUP_FREE char *log = NULL;
    const char *start, *serving;

    (void)state;
    runtime_process_start(&process, &settings, /* serving= */ true);
    assert_int_equal(runtime_process_stop(&process), 0);
    log = runtime_process_read(process.log_path);
    start = strstr(log, "\"message\":\"start wall_us=");
    serving = strstr(log, "\"message\":\"serving wall_us=");
    assert_non_null(start);
    assert_non_null(serving);
    assert_non_null(strstr(serving, " load_ms="));
    assert_non_null(strstr(serving, " listen_ms="));
    runtime_process_release(&process);
}

static void test_spec_from_a_file(void **state)
{
    struct runtime_process process;
    char path[] = "/tmp/cicada-spec.XXXXXX";
    int fd = mkstemp(path);
    CLEANUP_FREE char *file = xasprintf("CICADA_SPEC_FILE=%s", path);
    struct runtime_process_settings settings = {.functions = "test-functions", .env = {file}};

    (void)state;
    dprintf(fd, "%s\n", PROBE);
    fd_close_p(&fd);
    runtime_process_start(&process, &settings, /* serving= */ true);
    http_expect(process.port, "GET", "/x", NULL, 200, "\"path\":\"/x\"");
    assert_int_equal(runtime_process_stop(&process), 0);
    runtime_process_release(&process);
    remove(path);
}

/* Starts the probe with this gateway. */
static void start_announced(struct runtime_process *process, const struct fake_gateway *gateway,
                            const char *spec)
{
    CLEANUP_FREE char *where = xasprintf("CICADA_GATEWAY=127.0.0.1:%d", gateway->port);
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .spec = spec,
        .env = {where, "CICADA_FUNCTION_NAME=probe", "CICADA_FUNCTION_NAMESPACE=tests", "POD_NAME=probe-1",
                "POD_UID=0000-1111"},
    };
    runtime_process_start(process, &settings, /* serving= */ true);
}

static void test_announces_and_says_goodbye(void **state)
{
    struct runtime_process process;
    struct fake_gateway gateway;
    const int statuses[] = {202, 503, 200};
    CLEANUP_FREE char *body = NULL;
    int64_t start_ms;

    (void)state;
    fake_gateway_start(&gateway, "127.0.0.1", 0, statuses, 3);
    start_announced(&process, &gateway, PROBE);
    wait_until(fake_gateway_was_announced, &gateway, "the pod is announced");
    body = xasprintf(
        "{\"namespace\":\"tests\",\"function\":\"probe\",\"podName\":\"probe-1\",\"podUID\":\"0000-1111\","
        "\"port\":%d}",
        process.port);
    while (fake_gateway_announcements(&gateway) < 3) /* 202: again; 503: again; 200: enough */
        wait_until(fake_gateway_was_announced, &gateway, "asked again");
    start_ms = clock_monotonic_ms();
    assert_int_equal(runtime_process_stop(&process), 0);
    assert_in_range(clock_monotonic_ms() - start_ms, 0, 1500); /* acknowledged: no 2 s of quiet needed */
    assert_int_equal(fake_gateway_announcements(&gateway), 3);
    assert_int_equal(fake_gateway_goodbyes(&gateway), 1);
    fake_gateway_stop(&gateway);
    assert_non_null(strstr(gateway.text, body));
    runtime_process_release(&process);
}

static void test_refused_announcement_is_not_repeated(void **state)
{
    struct runtime_process process;
    struct fake_gateway gateway;
    const int statuses[] = {403};

    (void)state;
    fake_gateway_start(&gateway, "127.0.0.1", 0, statuses, 1);
    start_announced(&process, &gateway, PROBE);
    wait_until(fake_gateway_was_announced, &gateway, "the pod is announced");
    assert_int_equal(runtime_process_stop(&process), 0); /* after 2 s of quiet */
    assert_int_equal(fake_gateway_announcements(&gateway), 1);
    fake_gateway_stop(&gateway);
    runtime_process_release(&process);
}

static bool is_not_ready(void *arg)
{
    struct runtime_process *process = arg;
    struct http_answer answer = http_ask(process->admin_port, "GET", "/readyz", "", NULL);
    bool draining = answer.status == 503 && http_answer_has(&answer, "{\"reason\":\"Draining\"");

    http_answer_release(&answer);
    return draining;
}

static bool is_at_work(void *arg)
{
    struct runtime_process *process = arg;
    struct http_answer answer = http_ask(process->admin_port, "GET", "/statz", "", NULL);
    bool busy = http_answer_has(&answer, "{\"inFlight\":1,");

    http_answer_release(&answer);
    return busy;
}

static void test_drain_finishes_what_is_in_flight(void **state)
{
    struct runtime_process process;
    struct fake_gateway gateway;
    const int statuses[] = {200};
    struct http_call call;

    (void)state;
    fake_gateway_start(&gateway, "127.0.0.1", 0, statuses, 1);
    start_announced(&process, &gateway, PROBE);
    http_call_start(&call, process.port, "GET", "/?do=sleep&ms=500", NULL);
    wait_until(is_at_work, &process, "the handler is at work");
    kill(process.pid, SIGTERM);
    wait_until(is_not_ready, &process, "the runtime is not ready");
    http_expect(process.port, "GET", "/?do=sleep", NULL, 200,
                "Connection: close"); /* still served meanwhile */
    http_call_join(&call);
    assert_int_equal(call.answer.status, 200);
    http_answer_release(&call.answer);
    assert_int_equal(runtime_process_wait(&process), 0);
    assert_int_equal(fake_gateway_goodbyes(&gateway), 1);
    fake_gateway_stop(&gateway);
    runtime_process_release(&process);
}

static void test_drain_ends_in_time(void **state)
{
    struct runtime_process process;
    struct fake_gateway gateway;
    const int statuses[] = {503};
    struct http_call call;
    int64_t start_ms;

    (void)state;
    fake_gateway_start(&gateway, "127.0.0.1", 0, statuses, 1);
    start_announced(&process, &gateway,
                    "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":30,\"drainSeconds\":1}");
    http_call_start(&call, process.port, "GET", "/?do=sleep&ms=20000", NULL);
    wait_until(is_at_work, &process, "the handler is at work");
    start_ms = clock_monotonic_ms();
    assert_int_equal(runtime_process_stop(&process), 0);
    assert_in_range(clock_monotonic_ms() - start_ms, 900, 6000);
    http_call_join(&call);
    http_answer_release(&call.answer);
    fake_gateway_stop(&gateway);
    runtime_process_release(&process);
}

static void test_stuck_handler_ends_the_process(void **state)
{
    struct runtime_process process;
    struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = PROBE, .env = {"CICADA_STUCK_GRACE_MS=300"}};
    struct http_answer answer;

    (void)state;
    runtime_process_start(&process, &settings, /* serving= */ true);
    answer = http_ask(process.port, "GET", "/?do=sleep&ms=60000", "X-Request-Id: the-stuck-one\r\n", NULL);
    assert_int_equal(answer.status, 504);
    http_answer_release(&answer);
    assert_int_equal(runtime_process_wait(&process), 1);
    expect_termination(&process, "HandlerStuck", "the-stuck-one");
    runtime_process_release(&process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fails_with_a_reason),
        cmocka_unit_test(test_start_and_serving_are_logged),
        cmocka_unit_test(test_spec_from_a_file),
        cmocka_unit_test(test_announces_and_says_goodbye),
        cmocka_unit_test(test_refused_announcement_is_not_repeated),
        cmocka_unit_test(test_drain_finishes_what_is_in_flight),
        cmocka_unit_test(test_drain_ends_in_time),
        cmocka_unit_test(test_stuck_handler_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
