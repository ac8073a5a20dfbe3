/* test_local_stop.c - cicada-local begins and ends: wrong arguments, signals, SIGKILL; and leaves nothing behind. */
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operator/tests/support_local.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_shell.h"
#include "runtime/tests/support_test.h"

#define SLOW_SQL "SELECT 'slept' AS answer, pg_sleep(1)::text AS s"

/* ---- what can't start ---- */

static void test_no_manifest(void **state)
{
    struct local *local = *state;
    local->no_manifests = true;
    local_expect_end(local, NULL, 2, "no manifest is given");
    static const char *const unknown[] = {"--no-such-flag", NULL};
    local_expect_end(local, unknown, 2, "no-such-flag");
    static const char *const level[] = {"--log-level=loud", "manifests", NULL};
    local_expect_end(local, level, 2, "--log-level");
}

static void test_invalid_manifests(void **state)
{
    struct local *local = *state;
    local_sql(local, "wrong", "SELECT 1", "  concurrency: many\n");
    local_expect_end(local, NULL, 1, "/manifests/wrong.yaml:8:3: spec.concurrency: ");
    local_write(local, "manifests/wrong.yaml", "a: [\n");
    local_expect_end(local, NULL, 1, "/manifests/wrong.yaml:2:1: ");
    local_remove(local, "manifests/wrong.yaml");
    local_expect_end(local, NULL, 1, "manifests");
}

static void test_port_taken(void **state)
{
    struct local *local = *state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    CLEANUP_FREE char *listen = xasprintf("--listen=127.0.0.1:%d", ntohs(address.sin_port));
    const char *const args[] = {listen, NULL};
    local_sql(local, "one", "SELECT 1 AS one", NULL);
    local_expect_end(local, args, 1, "Address already in use");
}

static void test_folder_taken(void **state)
{
    struct local *local = *state;
    local_sql(local, "one", "SELECT 1 AS one", NULL);
    local_start(local, NULL);
    struct local second = *local;
    local_expect_end(&second, NULL, 1, "/state: another cicada-local uses it; see --state-dir");
    local_expect(local, "/fn/default/one/", 200, "\"one\"");
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* A file where a folder should be, and a folder that is not to be written. */
static void test_folder_unusable(void **state)
{
    struct local *local = *state;
    local_sql(local, "one", "SELECT 1 AS one", NULL);
    local_write(local, "state", "a file");
    local_expect_end(local, NULL, 1, "/state");
}

static void test_no_runtime(void **state)
{
    struct local *local = *state;
    static const char *const args[] = {"--runtime=/no/such/program", NULL};
    local_sql(local, "one", "SELECT 1 AS one", NULL);
    local_expect_end(local, args, 1, "/no/such/program");
}

/* ---- signals ---- */

static void stop_with_request(struct local *local, int signal_number)
{
    struct local_processes processes;
    struct http_call call;
    local_sql(local, "slow", SLOW_SQL, NULL);
    local_start(local, NULL);
    local_expect(local, "/fn/default/slow/", 200, "slept");
    http_call_start(&call, local->port, "GET", "/fn/default/slow/", NULL);
    poll(NULL, 0, 200);
    local_processes(local, &processes);
    assert_true(processes.count >= 2);
    assert_int_equal(local_stop(local, signal_number), 0);
    http_call_join(&call);
    if (call.answer.status != 200) {
        fail_msg("the request in flight: %s", call.answer.text);
    }
    http_answer_release(&call.answer);
    local_expect_nothing_left(local, &processes);
    assert_int_equal(local_log_count(local, "ended by itself"), 0);
}

static void test_sigterm_drains(void **state)
{
    stop_with_request(*state, SIGTERM);
}

static void test_sigint_drains(void **state)
{
    stop_with_request(*state, SIGINT);
}

static void expect_end_at_once(struct local *local, const char *const *args)
{
    struct local_processes processes;
    struct http_call call;
    local_sql(local, "slow", "SELECT pg_sleep(20)::text AS s", NULL);
    local_start(local, args);
    http_call_start(&call, local->port, "GET", "/fn/default/slow/", NULL);
    local_await_children(local, "cicada-runtime", 1);
    poll(NULL, 0, 1000);
    local_processes(local, &processes);
    kill(local->pid, SIGINT);
    local_await_log(local, "once more to end at once");
    poll(NULL, 0, 200);
    int64_t before_ms = clock_monotonic_ms();
    assert_int_equal(local_stop(local, SIGINT), 0);
    assert_true(clock_monotonic_ms() - before_ms < 2000);
    http_call_join(&call);
    assert_int_not_equal(call.answer.status, 200);
    http_answer_release(&call.answer);
    local_expect_nothing_left(local, &processes);
}

static void test_second_signal_ends_at_once(void **state)
{
    expect_end_at_once(*state, NULL);
}

/* The command is over, and what is drained then is ended in the same way. */
static void test_signals_after_the_command(void **state)
{
    static const char *const args[] = {"--exec=sleep 0.5", NULL};
    expect_end_at_once(*state, args);
}

/* A request that is held for a sleeping Function at that moment is still served. */
static void test_held_request_is_served(void **state)
{
    struct local *local = *state;
    struct http_call call;
    local_sql(local, "slow", SLOW_SQL, NULL);
    local_start(local, NULL);
    http_call_start(&call, local->port, "GET", "/fn/default/slow/", NULL);
    local_await_children(local, "cicada-runtime", 1);
    assert_int_equal(local_stop(local, SIGTERM), 0);
    http_call_join(&call);
    if (call.answer.status != 200) {
        fail_msg("the held request: %s", call.answer.text);
    }
    http_answer_release(&call.answer);
}

static void test_kill_leaves_nothing(void **state)
{
    struct local *local = *state;
    struct local_processes processes;
    local_sql(local, "one", "SELECT 1 AS one", NULL);
    local_sql(local, "slow", "SELECT pg_sleep(3)::text AS s", NULL);
    local_handler(local, "answer", "answer.so:answer", NULL);
    local_build(local, "answer.so", 1, 'w');
    local_start(local, NULL);
    local_expect(local, "/fn/default/one/", 200, "\"one\"");
    local_expect(local, "/fn/default/answer/", 200, "version 000001");
    struct http_call call;
    http_call_start(&call, local->port, "GET", "/fn/default/slow/", NULL); /* one at work */
    local_await_children(local, "cicada-runtime", 3);
    local_processes(local, &processes);
    assert_int_equal(local_stop(local, SIGKILL), 128 + SIGKILL);
    local_await_over(&processes, 6000);
    http_call_join(&call);
    http_answer_release(&call.answer);
    local_start(local, NULL);
    local_expect(local, "/fn/default/answer/", 200, "version 000001");
    local_processes(local, &processes);
    assert_int_equal(local_stop(local, SIGTERM), 0);
    local_expect_nothing_left(local, &processes);
}

/* Nobody is there to kill a process that can't finish: it ends all the same. */
static void test_kill_with_a_stuck_handler(void **state)
{
    struct local *local = *state;
    struct local_processes processes;
    struct http_call call;
    CLEANUP_FREE char *copy = xasprintf("cp '%s/test-functions/probe.so' '%s/functions/'",
                                        getenv("CICADA_TEST_BUILD"), local->folder);
    shell_expect(copy, "");
    local_handler(local, "stuck", "probe.so:probe", "  timeoutSeconds: 60\n  drainSeconds: 1\n");
    local_start(local, NULL);
    http_call_start(&call, local->port, "GET", "/fn/default/stuck/?do=sleep&ms=60000", NULL);
    local_await_children(local, "cicada-runtime", 1);
    poll(NULL, 0, 500);
    local_processes(local, &processes);
    assert_int_equal(local_stop(local, SIGKILL), 128 + SIGKILL);
    local_await_over(&processes, 10000);
    http_call_join(&call);
    http_answer_release(&call.answer);
}

/* ---- --exec ---- */

static void test_exec_status(void **state)
{
    struct local *local = *state;
    static const char *const args[] = {"--exec=echo url=$CICADA_URL db=$DATABASE_URL; exit 7", NULL};
    static const char *const killed[] = {"--exec=kill -KILL $$", NULL};
    static const char *const fine[] = {"--exec=true", NULL};
    local_sql(local, "one", "SELECT 1 AS one", NULL);
    local_expect_end(local, args, 7, "url=http://127.0.0.1:");
    CLEANUP_FREE char *database = xasprintf("db=%s", getenv("TEST_DATABASE_URL"));
    assert_int_equal(local_log_count(local, database), 1);
    local_expect_end(local, killed, 128 + SIGKILL, NULL);
    local_expect_end(local, fine, 0, NULL);
}

/* Until all that the command has started is there: the process whose command line has `last`, and as many as `least` of ours in all. */
static void start_with_command(struct local *local, const char *const *args, const char *last, size_t least,
                               struct local_processes *ret_processes)
{
    local_sql(local, "one", "SELECT 1 AS one", NULL);
    local_start(local, args);
    local_await_children(local, last, 1);
    poll(NULL, 0, 200);
    local_processes(local, ret_processes);
    assert_true(ret_processes->count >= least);
}

/* A signal for us is one for the command; what it started goes, too, also what does not care. */
static void test_exec_is_ended(void **state)
{
    struct local *local = *state;
    struct local_processes processes;
    static const char *const args[] = {"--exec=(trap '' TERM; exec sleep 61) & sleep 60; echo over", NULL};
    start_with_command(local, args, "sleep 60", 4, &processes);
    assert_int_equal(local_stop(local, SIGTERM), 128 + SIGTERM);
    assert_int_equal(local_log_count(local, "over"), 0);
    local_expect_nothing_left(local, &processes);
}

/* Nobody is there to tell what the command has started: a guard does, and what does not care is killed. */
static void test_exec_is_killed_with_us(void **state)
{
    struct local *local = *state;
    struct local_processes processes;
    static const char *const args[] = {
        "--exec=(trap '' TERM; exec sleep 61) & (sleep 62; echo over) & sleep 63; echo over", NULL};
    start_with_command(local, args, "sleep 63", 5, &processes);
    assert_int_equal(local_stop(local, SIGKILL), 128 + SIGKILL);
    local_await_over(&processes, 10000);
    assert_int_equal(local_log_count(local, "over"), 0);
}

/* One that does not care about it is killed by the second signal. */
static void test_exec_that_ignores_signals(void **state)
{
    struct local *local = *state;
    static const char *const args[] = {"--exec=trap '' TERM INT; while :; do sleep 0.1; done", NULL};
    local_sql(local, "one", "SELECT 1 AS one", NULL);
    local_start(local, args);
    local_await_children(local, "while :", 1);
    poll(NULL, 0, 100);
    kill(local->pid, SIGTERM);
    local_await_log(local, "once more to end at once");
    assert_int_equal(local_stop(local, SIGTERM), 128 + SIGKILL);
}

/* A command that reads from the terminal gets what is typed there. */
static void test_exec_has_the_terminal(void **state)
{
    struct local *local = *state;
    local_sql(local, "one", "SELECT 1 AS one", NULL);
    CLEANUP_FREE char *command = xasprintf(
        "echo Ada | timeout 20 script -qec \"%s/bin/cicada-local --listen=127.0.0.1:0 --table=false "
        "--database-url=%s --state-dir=%s/state --exec='read name; echo hello \\$name' %s/manifests\" "
        "/dev/null",
        getenv("CICADA_TEST_BUILD"), getenv("TEST_DATABASE_URL"), local->folder, local->folder);
    shell_expect(command, "hello Ada");
}

/* The runtime is found in PATH when it is not beside the program. */
static void test_runtime_in_path(void **state)
{
    struct local *local = *state;
    local_sql(local, "one", "SELECT 1 AS one", NULL);
    CLEANUP_FREE char *program = local_path(local, "home/cicada-local"),
                      *copy =
                          xasprintf("cp '%s/bin/cicada-local' '%s'", getenv("CICADA_TEST_BUILD"), program);
    shell_expect(copy, "");
    local->program = program;
    local_expect_end(local, NULL, 1, "cicada-runtime is not beside this program, nor in PATH");
    CLEANUP_FREE char *path = xasprintf("%s:%s/bin", getenv("PATH"), getenv("CICADA_TEST_BUILD"));
    CLEANUP_FREE char *before = xstrdup(getenv("PATH"));
    setenv("PATH", path, 1);
    local_start(local, NULL);
    setenv("PATH", before, 1);
    local_expect(local, "/fn/default/one/", 200, "\"one\"");
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, local_setup, local_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_no_manifest),
        CASE(test_invalid_manifests),
        CASE(test_port_taken),
        CASE(test_folder_taken),
        CASE(test_folder_unusable),
        CASE(test_no_runtime),
        CASE(test_sigterm_drains),
        CASE(test_sigint_drains),
        CASE(test_second_signal_ends_at_once),
        CASE(test_signals_after_the_command),
        CASE(test_held_request_is_served),
        CASE(test_kill_leaves_nothing),
        CASE(test_kill_with_a_stuck_handler),
        CASE(test_exec_status),
        CASE(test_exec_is_ended),
        CASE(test_exec_is_killed_with_us),
        CASE(test_exec_that_ignores_signals),
        CASE(test_exec_has_the_terminal),
        CASE(test_runtime_in_path),
    };
    /* Whoever loses its parent is ours to reap, and not hidden by an init that is slow. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
