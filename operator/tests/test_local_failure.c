/* test_local_failure.c - what can't serve is explained once, answered at once, tried again with growing delays, and recovers. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "operator/tests/support_local.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_pg_cluster.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_shell.h"
#include "runtime/tests/support_test.h"

#define RUNTIME "cicada-runtime"

/* A crash is to be the kernel's, not a sanitizer's report. */
static void leave_crashes_alone(void)
{
    const char *options = getenv("ASAN_OPTIONS"), *thread_options = getenv("TSAN_OPTIONS");
    CLEANUP_FREE char *more = xasprintf("%s:handle_segv=0", options ? options : ""),
                      *more_of_threads = xasprintf("%s:handle_segv=0", thread_options ? thread_options : "");
    setenv("ASAN_OPTIONS", more, 1);
    setenv("TSAN_OPTIONS", more_of_threads, 1);
}

/* A 503 with the reason, and not after a wait. */
static void expect_refused(const struct local *local, const char *target, const char *reason)
{
    local_await_outcome(local, target, 503, reason);
    int64_t before_ms = clock_monotonic_ms();
    local_await_outcome(local, target, 503, reason);
    assert_true(clock_monotonic_ms() - before_ms < 1000);
}

static void use_test_handlers(const struct local *local)
{
    CLEANUP_FREE char *command =
        xasprintf("cp '%s'/test-functions/*.so '%s/functions/'", getenv("CICADA_TEST_BUILD"), local->folder);
    shell_expect(command, "");
}

static void test_sql_rejected(void **state)
{
    struct local *local = *state;
    local_sql(local, "f", "SELECT nothing FROM no_such_table", NULL);
    local_start(local, NULL);
    assert_int_equal(local_log_count(local, "SqlRejected"), 0); /* nobody asked yet */
    expect_refused(local, "/fn/default/f/", "SqlRejected");
    local_await_log(local,
                    "default/f | SqlRejected: line 1, column 21: relation \"no_such_table\" does not exist");
    assert_int_equal(local_log_count(local, "default/f | SqlRejected"), 1);
    local_sql(local, "f", "SELECT nothing AT ALL", NULL);
    local_await_log(local, "default/f | SqlRejected: line 1, column 19: syntax error");
    local_sql(local, "f", "SELECT 'fine' AS v", NULL);
    local_await_outcome(local, "/fn/default/f/", 200, "fine");
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

static void test_handler_load_failed(void **state)
{
    struct local *local = *state;
    use_test_handlers(local);
    local_handler(local, "symbol", "probe.so:no_such_function", NULL);
    local_handler(local, "version", "abi.so:other_version", NULL);
    local_handler(local, "file", "no_such_file.so:f", NULL);
    local_handler(local, "folder", "sub/../../outside.so:f", NULL);
    local_launch(local, NULL);
    if (local_wait(local) != 1 || local_log_count(local, "spec.handler") == 0) {
        local_fail(local, "a path to outside is taken");
    }
    local_remove(local, "manifests/folder.yaml");
    local_start(local, NULL);
    expect_refused(local, "/fn/default/symbol/", "HandlerLoadFailed");
    expect_refused(local, "/fn/default/version/", "HandlerLoadFailed");
    expect_refused(local, "/fn/default/file/", "HandlerLoadFailed");
    local_await_log(local, "default/symbol | HandlerLoadFailed: ");
    local_await_log(local, "default/version | HandlerLoadFailed: ");
    assert_int_equal(local_log_count(local, "default/file | HandlerLoadFailed: "), 1);
    local_write(local, "functions/no_such_file.so", "not a shared object");
    local_await_outcome(local, "/fn/default/file/", 503, "HandlerLoadFailed");
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

static void test_secret_missing(void **state)
{
    struct local *local = *state;
    local_build(local, "answer.so", 1, 'w');
    local_handler(local, "f", "answer.so:answer", "  envFrom: [{secretRef: {name: settings}}]\n");
    local_start(local, NULL);
    expect_refused(local, "/fn/default/f/", "SecretMissing");
    local_await_log(local, "default/f | SecretMissing: secret \"settings\" is in no manifest");
    assert_int_equal(local_child_count(local, RUNTIME), 0);
    local_write(local, "manifests/secret.yaml",
                "apiVersion: v1\nkind: Secret\nmetadata: {name: settings}\nstringData: {a: b}\n");
    local_await_outcome(local, "/fn/default/f/", 200, "version 000001");
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* Growing delays: not as often as it can. Putting it right is tried at once. */
static void test_crash_loop(void **state)
{
    struct local *local = *state;
    use_test_handlers(local);
    local_handler(local, "f", "crash.so:crash_at_start", "  scaling: {minReplicas: 1}\n");
    local_start(local, NULL);
    local_await_log(local, "SIGSEGV (signal 11)");
    int64_t begun_ms = clock_monotonic_ms();
    while (clock_monotonic_ms() - begun_ms < 4000) {
        struct http_answer answer = http_ask(local->port, "GET", "/fn/default/f/", "", NULL);
        assert_int_equal(answer.status, 503);
        http_answer_release(&answer);
        poll(NULL, 0, 50);
    }
    int starts = 0;
    for (int i = 1; i < 100; i++) {
        CLEANUP_FREE char *name = xasprintf("default/f-%d | ", i);
        starts += local_log_count(local, name) > 0;
    }
    if (starts < 3 || starts > 8) {
        local_fail(local, "started too often, or not often enough");
    }
    local_handler(local, "f", "crash.so:crash", "  scaling: {minReplicas: 1}\n");
    local_await_outcome(local, "/fn/default/f/", 200, "alive");
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* The runtime itself contains a crash in a request; we need not. */
static void test_crash_in_request(void **state)
{
    struct local *local = *state;
    use_test_handlers(local);
    local_handler(local, "f", "crash.so:crash", NULL);
    local_start(local, NULL);
    local_expect(local, "/fn/default/f/", 200, "alive");
    struct http_answer answer = http_ask(local->port, "GET", "/fn/default/f/?how=segv", "", NULL);
    assert_true(answer.status >= 500);
    http_answer_release(&answer);
    local_await_outcome(local, "/fn/default/f/", 200, "alive");
    local_await_log(local, "SIGSEGV");
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* It is replaced at once, why is said, and its worker does not outlive it. */
static void test_killed_process(void **state)
{
    struct local *local = *state;
    struct local_processes before;
    local_sql(local, "f", "SELECT 'fine' AS v", "  scaling: {idleSeconds: 30}\n");
    local_start(local, NULL);
    local_expect(local, "/fn/default/f/", 200, "fine");
    local_processes(local, &before);
    kill(local_child(local, RUNTIME), SIGKILL);
    local_await_log(local, "default/f | ContainerExited: ended by itself: SIGKILL (signal 9)");
    local_await_over(&before, 3000);
    int64_t before_ms = clock_monotonic_ms();
    local_expect(local, "/fn/default/f/", 200, "fine");
    assert_true(clock_monotonic_ms() - before_ms < 2000);
    local_await_children(local, RUNTIME, 1);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

static const char last_words_source[] =
    "#include <cicada/function.h>\n"
    "#include <stdio.h>\n"
    "#include <unistd.h>\n"
    "static int begin(struct cicada_context *ctx, void **ret_state)\n"
    "{ (void)ctx; (void)ret_state;\n"
    "  for (int i = 0; i < 20; i++) fprintf(stderr, \"word %d\\n\", i);\n"
    "  fprintf(stderr, \"the last word\"); _exit(3); }\n"
    "static int f(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)\n"
    "{ (void)req; (void)ctx; (void)res; return CICADA_OK; }\n"
    "CICADA_FUNCTION(f, .init = begin);\n";

static void test_exit_code_and_last_lines(void **state)
{
    struct local *local = *state;
    local_write(local, "tmp/words.c", last_words_source);
    CLEANUP_FREE char *command = xasprintf(
        "cd '%s/tmp' && cc -std=gnu11 -fPIC -shared -I'%s/runtime/sdk' -o ../functions/words.so words.c",
        local->folder, getenv("CICADA_TEST_ROOT"));
    shell_expect(command, "");
    local_handler(local, "f", "words.so:f", NULL);
    local_start(local, NULL);
    expect_refused(local, "/fn/default/f/", "ContainerExited");
    local_await_log(local, "ContainerExited: words.so:f: exited with code 3 of its own accord");
    local_await_log(local, "| the last word");
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* Nothing listens at the URL: why is said, also to who waited in vain, requests are held, and served as soon as the database is
 * there. */
static void test_database_unreachable(void **state)
{
    struct local *local = *state;
    struct pg_cluster cluster = {.port = 0};
    struct http_call call;
    pg_cluster_start(&cluster);
    pg_cluster_kill(&cluster);
    local->no_database = true;
    CLEANUP_FREE char *url = xasprintf("--database-url=%s", cluster.url);
    const char *const args[] = {url, NULL};
    local_sql(local, "f", "SELECT 'fine' AS v", "  holdSeconds: 30\n");
    local_sql(local, "hasty", "SELECT 'fine' AS v", "  holdSeconds: 1\n");
    local_start(local, args);
    local_await_outcome(local, "/fn/default/hasty/", 503, "within holdSeconds: DatabaseUnreachable.");
    http_call_start(&call, local->port, "GET", "/fn/default/f/", NULL);
    local_await_log(local, "the database can't be reached");
    local_await_log(local, "reason=DatabaseUnreachable");
    pg_cluster_recover(&cluster);
    http_call_join(&call);
    if (call.answer.status != 200) {
        local_fail(local, call.answer.text);
    }
    http_answer_release(&call.answer);
    assert_int_equal(local_stop(local, SIGTERM), 0);
    pg_cluster_remove(&cluster);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, local_setup, local_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_sql_rejected),
        CASE(test_handler_load_failed),
        CASE(test_secret_missing),
        CASE(test_crash_loop),
        CASE(test_crash_in_request),
        CASE(test_killed_process),
        CASE(test_exit_code_and_last_lines),
        CASE(test_database_unreachable),
    };
    leave_crashes_alone();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
