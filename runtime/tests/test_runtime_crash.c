/* A crash of the real runtime's worker: contained, explained, and over within milliseconds. */
#include <poll.h>
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
#include "runtime/base/text.h"
#include "runtime/tests/support_runtime.h"

#define SPEC "{\"handler\":\"crash.so:crash\",\"timeoutSeconds\":5,\"drainSeconds\":1,\"concurrency\":8}"
/* Signals stay signals under the sanitizers, who make exit codes of some. */
#define PLAIN_SIGNALS "handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:handle_abort=0"

static void start(struct runtime_process *process, const char *spec)
{
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .spec = spec,
        .env = {"ASAN_OPTIONS=" PLAIN_SIGNALS, "TSAN_OPTIONS=exitcode=66:" PLAIN_SIGNALS},
    };
    runtime_process_start(process, &settings, /* serving= */ true);
}

static bool is_served(void *arg)
{
    struct runtime_process *process = arg;
    struct http_answer answer = http_ask(process->port, "GET", "/", "", NULL);
    bool served = answer.status == 200;

    http_answer_release(&answer);
    return served;
}

static void crash(const struct runtime_process *process, const char *how, const char *request_id)
{
    CLEANUP_FREE char *target = xasprintf("/?how=%s", how);
    CLEANUP_FREE char *header = xasprintf("X-Request-Id: %s\r\n", request_id);
    struct http_answer answer = http_ask(process->port, "GET", target, header, NULL);

    if (answer.status != 0)
        fail_msg("%s: expected no answer, got: %s", how, answer.text);
    http_answer_release(&answer);
}

static void expect_in_file(const char *path, const char *text)
{
    CLEANUP_FREE char *content = runtime_process_read(path);

    if (strstr(content, text) == NULL)
        fail_msg("expected <%s> in: %s", text, content);
}

static void pause_ms(int ms)
{
    poll(NULL, 0, ms);
}

static void test_every_way_is_explained(void **state)
{
    static const struct {
        const char *how, *text;
    } cases[] = {
        {"segv", "crash.so:crash: killed by SIGSEGV (signal 11) in crash.so+0x"},
        {"segv", ", address 0x10; requests in flight: my-segv\""},
        {"overflow", "killed by SIGSEGV (signal 11) in crash.so+0x"},
        {"abort", "killed by SIGABRT (signal 6); requests in flight: my-abort\""},
        {"trap", "killed by SIGILL (signal 4) in crash.so+0x"},
        {"kill", "killed by SIGKILL (signal 9; the kernel sends it when memory is out); requests in flight: "
                 "my-kill\""},
        {"exit", "exited with code 0 of its own accord; requests in flight: my-exit\""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct runtime_process process;
        CLEANUP_FREE char *id = xasprintf("my-%s", cases[i].how);

        start(&process, SPEC);
        crash(&process, cases[i].how, id);
        wait_until(is_served, &process, "the function is served again");
        expect_in_file(process.log_path, cases[i].text);
        expect_in_file(process.termination_path, "{\"reason\":\"ContainerExited\",\"message\":\"");
        expect_in_file(process.termination_path, cases[i].text);
        http_expect(process.admin_port, "GET", "/statz", NULL, 200,
                    "\"restarts\":1,\"lastCrash\":\"crash.so:crash: ");
        http_expect(process.admin_port, "GET", "/metrics", NULL, 200,
                    "cicada_runtime_worker_restarts_total 1\n");
        assert_int_equal(runtime_process_stop(&process), 0);
        runtime_process_release(&process);
    }
}

static void test_the_crashing_request_comes_first(void **state)
{
    struct runtime_process process;
    struct http_call calls[3];

    (void)state;
    start(&process, SPEC);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        http_call_start(&calls[i], process.port, "GET", "/?ms=3000", NULL);
    wait_until(is_served, &process, "a fourth is served beside them");
    crash(&process, "segv", "the-culprit");
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        http_call_join(&calls[i]);
        assert_int_equal(calls[i].answer.status, 0);
        http_answer_release(&calls[i].answer);
    }
    wait_until(is_served, &process, "the function is served again");
    expect_in_file(process.termination_path, "requests in flight: the-culprit, ");
    assert_int_equal(runtime_process_stop(&process), 0);
    runtime_process_release(&process);
}

/* What a gateway sees that does nothing but connect again. */
static void test_restart_takes_milliseconds(void **state)
{
    struct runtime_process process;
    int64_t crashed_us, served_us;
    int refused = 0;

    (void)state;
    start(&process, SPEC);
    crash(&process, "segv", "one");
    crashed_us = clock_monotonic_us();
    while (!is_served(&process))
        refused++;
    served_us = clock_monotonic_us();
    print_message("refused for %.1f ms (%d attempts)\n", (double)(served_us - crashed_us) / 1000, refused);
    assert_in_range(served_us - crashed_us, 0,
                    500000); /* sanitizers, busy machines; the README has the measured time */
    assert_int_equal(runtime_process_stop(&process), 0);
    runtime_process_release(&process);
}

static void test_five_crashes_end_the_container(void **state)
{
    struct runtime_process process;
    int64_t start_ms;

    (void)state;
    start(&process, SPEC);
    start_ms = clock_monotonic_ms();
    for (int i = 0; i < 5; i++) {
        wait_until(is_served, &process, "the function is served again");
        crash(&process, "segv", "again");
    }
    assert_int_equal(runtime_process_wait(&process), 128 + SIGSEGV);
    assert_in_range(clock_monotonic_ms() - start_ms, 100 + 200 + 400, 10000); /* the delays between them */
    expect_in_file(process.log_path, "5 crashes within 60 s: the container ends");
    expect_in_file(process.termination_path, "requests in flight: again\"}");
    runtime_process_release(&process);
}

static void test_a_crash_at_start_ends_the_container(void **state)
{
    struct runtime_process process;
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .spec = "{\"handler\":\"crash.so:crash_at_start\"}",
        .env = {"ASAN_OPTIONS=" PLAIN_SIGNALS, "TSAN_OPTIONS=" PLAIN_SIGNALS},
    };

    (void)state;
    runtime_process_start(&process, &settings, /* serving= */ false);
    assert_int_equal(runtime_process_wait(&process), 128 + SIGSEGV);
    expect_in_file(process.termination_path,
                   "crash.so:crash_at_start: killed by SIGSEGV (signal 11) in crash.so+0x");
    runtime_process_release(&process);
}

/* ---- the two processes ---- */

/* The processes whose parent this is, as the kernel lists them: "123 124 ". */
static char *children_of(pid_t pid)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/task/%d/children", (int)pid, (int)pid);
    return runtime_process_read(path);
}

static bool is_gone(void *arg)
{
    return kill(*(pid_t *)arg, 0) != 0;
}

static void test_the_worker_dies_with_its_parent(void **state)
{
    struct runtime_process process;
    pid_t worker;

    (void)state;
    start(&process, SPEC);
    worker = runtime_process_worker(&process);
    runtime_process_release(&process); /* kills the parent */
    wait_until(is_gone, &worker, "the worker is gone");
}

static bool has_one_child(void *arg)
{
    const struct runtime_process *process = arg;
    CLEANUP_FREE char *children = children_of(process->pid);
    size_t first = strcspn(children, " ");

    return first > 0 && strspn(children + first, " ") == strlen(children + first);
}

static void test_orphans_are_reaped(void **state)
{
    struct runtime_process process;

    (void)state;
    start(&process, SPEC);
    http_expect(process.port, "GET", "/?how=orphan", NULL, 200, "alive");
    wait_until(has_one_child, &process, "the worker is the only child");
    assert_int_equal(runtime_process_stop(&process), 0);
    runtime_process_release(&process);
}

static void test_a_worker_that_does_not_end_is_killed(void **state)
{
    struct runtime_process process;
    int64_t start_ms;

    (void)state;
    start(&process, SPEC);
    kill(runtime_process_worker(&process), SIGSTOP);
    start_ms = clock_monotonic_ms();
    assert_int_equal(runtime_process_stop(&process), 128 + SIGKILL);
    assert_in_range(clock_monotonic_ms() - start_ms, 1000 + 3500, 1000 + 4900); /* within drainSeconds + 5 */
    expect_in_file(process.termination_path, "the worker did not end within drainSeconds and was killed");
    runtime_process_release(&process);
}

static void test_a_crash_while_draining_is_not_followed_by_a_worker(void **state)
{
    struct runtime_process process;
    struct http_call call;

    (void)state;
    start(&process, SPEC);
    http_call_start(&call, process.port, "GET", "/?ms=300&how=segv", NULL);
    pause_ms(150);
    assert_int_equal(runtime_process_stop(&process), 128 + SIGSEGV);
    http_call_join(&call);
    http_answer_release(&call.answer);
    expect_in_file(process.termination_path, "killed by SIGSEGV (signal 11)");
    runtime_process_release(&process);
}

/* ---- transactions of others ---- */

#define WRITERS 6

/* Every answered pair is there; others may be (their answers were lost with the worker); halves are not. */
static void expect_pairs(int answered)
{
    CLEANUP_FREE char *halves = database_value(
        "SELECT count(*) FROM (SELECT FROM runtime_crash.pairs GROUP BY text HAVING count(*) <> 2) AS odd");
    CLEANUP_FREE char *whole = database_value("SELECT count(DISTINCT text) FROM runtime_crash.pairs");
    int64_t count = 0;

    assert_string_equal(halves, "0");
    assert_true(parse_int64(whole, 0, INT32_MAX, &count));
    print_message("%d pairs answered, %lld there\n", answered, (long long)count);
    assert_in_range(count, answered, answered + 4 * WRITERS);
    assert_in_range(answered, 1, 4 * WRITERS - 1); /* else the crashes hit nobody, or everybody */
}

static void test_transactions_of_others_are_whole(void **state)
{
    struct runtime_process process;
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .database_url = getenv("TEST_DATABASE_URL"),
        .spec = "{\"handler\":\"crash.so:crash\",\"timeoutSeconds\":5,\"concurrency\":16,\"database\":{"
                "\"poolSize\":8}}",
        .env = {"ASAN_OPTIONS=" PLAIN_SIGNALS, "TSAN_OPTIONS=" PLAIN_SIGNALS},
    };
    struct http_call calls[WRITERS];
    int answered = 0;

    (void)state;
    free(database_value("DROP SCHEMA IF EXISTS runtime_crash CASCADE; CREATE SCHEMA runtime_crash;"
                        "CREATE TABLE runtime_crash.pairs (text text, half integer)"));
    runtime_process_start(&process, &settings, /* serving= */ true);
    for (int round = 0; round < 4; round++) {
        char targets[WRITERS][64];
        for (int i = 0; i < WRITERS;
             i++) { /* some end before the crash, some are between their rows, some at COMMIT */
            snprintf(targets[i], sizeof(targets[i]), "/?text=r%d-%d&ms=%d", round, i, i * 20);
            http_call_start(&calls[i], process.port, "POST", targets[i], NULL);
        }
        pause_ms(60);
        crash(&process, "segv", "culprit");
        for (int i = 0; i < WRITERS; i++) {
            http_call_join(&calls[i]);
            answered += calls[i].answer.status == 200;
            http_answer_release(&calls[i].answer);
        }
        wait_until(is_served, &process, "the function is served again");
    }
    assert_int_equal(runtime_process_stop(&process), 0);
    runtime_process_release(&process);
    expect_pairs(answered);
    free(database_value("DROP SCHEMA runtime_crash CASCADE"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_way_is_explained),
        cmocka_unit_test(test_the_crashing_request_comes_first),
        cmocka_unit_test(test_restart_takes_milliseconds),
        cmocka_unit_test(test_five_crashes_end_the_container),
        cmocka_unit_test(test_a_crash_at_start_ends_the_container),
        cmocka_unit_test(test_the_worker_dies_with_its_parent),
        cmocka_unit_test(test_orphans_are_reaped),
        cmocka_unit_test(test_a_worker_that_does_not_end_is_killed),
        cmocka_unit_test(test_a_crash_while_draining_is_not_followed_by_a_worker),
        cmocka_unit_test(test_transactions_of_others_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
