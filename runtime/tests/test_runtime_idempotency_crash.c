/* Idempotency-Key when the answer is lost: one effect, and the repeat gets the answer. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_idempotency.h"

static int setup(void **state)
{
    return idempotency_setup(state, PROBE, "Optional", "ReadCommitted");
}

/* ---- the answer is lost ---- */

static const char COMMIT[] = "COMMIT"; /* as sent, with its NUL: READ COMMITTED is not meant */

static bool rule_is_done(void *arg)
{
    return pg_proxy_rule_done(arg);
}

static void kill_worker(const struct runtime_process *process)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/task/%d/children", (int)process->pid, (int)process->pid);
    FILE *file = fopen(path, "re");
    int64_t pid = 0;
    char text[32] = "";

    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    (void)fclose(file);
    assert_true(parse_int64_n(text, strspn(text, "0123456789"), 2, INT32_MAX, &pid));
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
}

static bool answers(void *arg)
{
    struct keyed_runtime *fixture = arg;
    struct http_answer answer = keyed_ask(fixture, "GET", "/?do=echo", NULL, NULL);
    bool ok = answer.status == 200;

    http_answer_release(&answer);
    return ok;
}

static void test_crash_between_commit_and_answer(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct keyed_caller caller = {.fixture = fixture, .target = "/?do=note&text=a", .key = "k"};

    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, PG_PROXY_HOLD_ANSWER, COMMIT, sizeof(COMMIT), NULL);
    keyed_call_start(&caller);
    wait_until(rule_is_done, fixture->proxy, "COMMIT is sent");
    database_becomes(fixture, NOTES, "1"); /* committed, and nobody knows */
    kill_worker(&fixture->process);
    keyed_call_join(&caller);
    assert_int_equal(caller.answer.status, 0);
    http_answer_release(&caller.answer);
    wait_until(answers, fixture, "the runtime is back");
    keyed_expect(fixture, "/?do=note&text=a", "k", 200, "Idempotency-Replayed: true\r\n");
    database_count(fixture, NOTES, 1);
}

static void test_crash_before_commit(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct keyed_caller caller = {.fixture = fixture, .target = "/?do=note&text=a", .key = "k"};

    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT, COMMIT, sizeof(COMMIT), NULL);
    keyed_call_start(&caller);
    wait_until(rule_is_done, fixture->proxy, "COMMIT is about to be sent");
    keyed_call_join(&caller);
    assert_int_equal(caller.answer.status, 503); /* nothing was written, and that is known */
    http_answer_release(&caller.answer);
    keyed_expect(fixture, "/?do=note&text=a", "k", 200, "\"id\":");
    database_count(fixture, NOTES, 1);
    database_count(fixture, STORED, 1);
}

/* The connection dies after COMMIT was sent: its outcome is asked for, and the rows of the record are missed by nobody. */
static void test_lost_commit_is_resolved(void **state)
{
    struct keyed_runtime *fixture = *state;

    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT_ANSWER, COMMIT, sizeof(COMMIT), NULL);
    keyed_expect(fixture, "/?do=note&text=a", "k", 200, "\"id\":1");
    assert_true(pg_proxy_rule_done(fixture->proxy));
    keyed_expect(fixture, "/?do=note&text=a", "k", 200, "Idempotency-Replayed: true\r\n");
    database_count(fixture, NOTES, 1);
}

static void test_repeat_finds_out_after_commit_unknown(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct keyed_caller caller = {.fixture = fixture, .target = "/?do=note&text=a", .key = "k"};

    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT_ANSWER, COMMIT, sizeof(COMMIT), NULL);
    pg_proxy_refuse(fixture->proxy, true); /* and nobody can be asked */
    keyed_call_start(&caller);
    wait_until(rule_is_done, fixture->proxy, "COMMIT is sent");
    pg_proxy_cut_all(fixture->proxy);
    keyed_call_join(&caller);
    assert_int_equal(caller.answer.status, 500);
    assert_true(http_answer_has(&caller.answer, "\"code\":\"commit_unknown\""));
    assert_false(http_answer_has(&caller.answer, "Retry-After"));
    http_answer_release(&caller.answer);
    pg_proxy_refuse(fixture->proxy, false);
    wait_until(answers, fixture, "the runtime answers");
    for (int i = 0; i < 2; i++) {
        struct http_answer answer = keyed_ask(fixture, "POST", "/?do=note&text=a", "k", "");
        if (answer.status == 503) /* the pool is not back yet */
            i--;
        else
            assert_true(answer.status == 200 && is_replay(&answer));
        http_answer_release(&answer);
    }
    database_count(fixture, NOTES, 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, idempotency_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_crash_between_commit_and_answer),
        TEST(test_crash_before_commit),
        TEST(test_lost_commit_is_resolved),
        TEST(test_repeat_finds_out_after_commit_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
