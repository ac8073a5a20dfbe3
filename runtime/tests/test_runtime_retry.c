/* Invocations that are run again because their transaction fell victim to others: the real runtime, a real server. */
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

#define SPEC(isolation, retryable)                                                                           \
    "{\"handler\":\"retry.so:retry\",\"timeoutSeconds\":2,\"concurrency\":16,\"database\":{\"poolSize\":16," \
    "\"isolation\":\"" isolation "\",\"retryable\":" retryable "}}"

static int set_up(void **state)
{
    (void)state;
    free(database_value(
        "DROP SCHEMA IF EXISTS retry_test CASCADE; CREATE SCHEMA retry_test;"
        "CREATE SEQUENCE retry_test.attempts; CREATE TABLE retry_test.done (attempt bigint);"
        "CREATE TABLE retry_test.counter (id int PRIMARY KEY, n int NOT NULL);"
        "INSERT INTO retry_test.counter VALUES (1, 0), (2, 0);"
        "CREATE FUNCTION retry_test.fail(state text) RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'planned' USING ERRCODE = state; END $$;"
        "CREATE FUNCTION retry_test.fail_late() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM retry_test.fail(NEW.state); RETURN NULL; END $$;"
        "CREATE TABLE retry_test.late (state text);"
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON retry_test.late DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION retry_test.fail_late()"));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(database_value("DROP SCHEMA retry_test CASCADE"));
    return 0;
}

static void start(struct runtime_process *process, const char *spec)
{
    const struct runtime_process_settings settings = {
        .functions = "test-functions",
        .database_url = getenv("TEST_DATABASE_URL"),
        .spec = spec,
        .env = {"CICADA_LOG_LEVEL=debug"},
    };

    runtime_process_start(process, &settings, /* serving= */ true);
}

static void expect_row(const char *sql, const char *expected)
{
    CLEANUP_FREE char *value = database_value(sql);
    if (strcmp(value, expected) != 0)
        fail_msg("%s: %s, expected %s", sql, value, expected);
}

/* Two calls at the same time; how many of them were answered 200. */
static int call_twice(int port, const char *first, const char *second, struct http_answer *ret_other)
{
    struct http_call calls[2];
    int ok = 0;

    http_call_start(&calls[0], port, "POST", first, NULL);
    http_call_start(&calls[1], port, "POST", second, NULL);
    for (int i = 0; i < 2; i++) {
        http_call_join(&calls[i]);
        ok += calls[i].answer.status == 200;
        if (calls[i].answer.status != 200 && ret_other->text == NULL)
            *ret_other = calls[i].answer;
        else
            http_answer_release(&calls[i].answer);
    }
    return ok;
}

static void expect_both(int port, const char *first, const char *second)
{
    struct http_answer other = {0};

    if (call_twice(port, first, second, &other) != 2)
        fail_msg("%s", other.text);
}

static void expect_one_busy(int port, const char *first, const char *second, const char *code)
{
    struct http_answer other = {0};

    assert_int_equal(call_twice(port, first, second, &other), 1);
    assert_int_equal(other.status, 503);
    assert_true(http_answer_has(&other, "Retry-After: 1\r\n"));
    assert_true(http_answer_has(&other, code));
    http_answer_release(&other);
}

static void expect_log(const struct runtime_process *process, const char *text)
{
    CLEANUP_FREE char *log = runtime_process_read(process->log_path);
    if (strstr(log, text) == NULL)
        fail_msg("no <%s> in: %s", text, log);
}

/* Each of them collides on its first attempt: 40001 from a statement, 40001 at COMMIT (both statements are through when one
 * commits), 40P01. */
static void test_real_collisions_are_run_again(void **state)
{
    struct runtime_process process;

    (void)state;
    start(&process, SPEC("Serializable", "true"));
    expect_both(process.port, "/?do=increment", "/?do=increment");
    expect_row("SELECT n FROM retry_test.counter WHERE id = 1", "2");
    expect_row("SELECT last_value FROM retry_test.attempts", "3");
    expect_both(process.port, "/?do=skew&id=1", "/?do=skew&id=2");
    expect_row("SELECT sum(n) FROM retry_test.counter", "22");
    expect_row("SELECT last_value FROM retry_test.attempts", "6");
    expect_both(process.port, "/?do=deadlock&id=1", "/?do=deadlock&id=2");
    expect_row("SELECT sum(n) FROM retry_test.counter", "26");
    expect_log(&process, "attempt 2 after 40001");
    expect_log(&process, "attempt 2 after 40P01");
    runtime_process_release(&process);
}

static void test_real_collisions_of_others_are_503(void **state)
{
    struct runtime_process process;

    (void)state;
    start(&process, SPEC("Serializable", "false"));
    expect_one_busy(process.port, "/?do=increment", "/?do=increment", "\"code\":\"serialization_failure\"");
    expect_one_busy(process.port, "/?do=skew&id=1", "/?do=skew&id=2", "\"code\":\"serialization_failure\"");
    expect_row("SELECT sum(n) FROM retry_test.counter", "11");
    expect_row("SELECT last_value FROM retry_test.attempts", "4");
    runtime_process_release(&process);
    start(&process, SPEC("ReadCommitted", "false"));
    expect_one_busy(process.port, "/?do=deadlock&id=1", "/?do=deadlock&id=2",
                    "\"code\":\"deadlock_detected\"");
    runtime_process_release(&process);
}

static void test_answer_is_the_last_attempts(void **state)
{
    static const char *const targets[] = {"/?do=planned&state=40001&until=2",
                                          "/?do=planned&state=40001&until=2&at=commit",
                                          "/?do=planned&state=40P01&until=2"};
    struct runtime_process process;

    (void)state;
    start(&process, SPEC("ReadCommitted", "true"));
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        struct http_answer answer;

        free(database_value("ALTER SEQUENCE retry_test.attempts RESTART; TRUNCATE retry_test.done"));
        answer = http_ask(process.port, "POST", targets[i], "", NULL);
        assert_int_equal(answer.status, 200); /* the first attempt said 202 */
        assert_string_equal(answer.body, "{\"attempt\":3}");
        assert_true(http_answer_has(&answer, "X-Attempt: of 3\r\n"));
        assert_false(http_answer_has(&answer, "X-Attempt: of 1\r\n"));
        http_answer_release(&answer);
        expect_row("SELECT string_agg(attempt::text, ' ') FROM retry_test.done", "3");
    }
    runtime_process_release(&process);
}

static void test_attempts_are_bounded(void **state)
{
    static const char *const targets[] = {"/?do=planned&state=40001&until=99",
                                          "/?do=planned&state=40001&until=99&at=commit"};
    struct runtime_process process;

    (void)state;
    start(&process, SPEC("ReadCommitted", "true"));
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        free(database_value("ALTER SEQUENCE retry_test.attempts RESTART"));
        http_expect(process.port, "POST", targets[i], NULL, 503, "Retry-After: 1\r\n");
        expect_row("SELECT last_value FROM retry_test.attempts", "5");
    }
    expect_row("SELECT count(*) FROM retry_test.done", "0");
    runtime_process_release(&process);
}

static void test_other_errors_are_not_run_again(void **state)
{
    struct runtime_process process;

    (void)state;
    start(&process, SPEC("ReadCommitted", "true"));
    http_expect(process.port, "POST", "/?do=planned&state=23505&until=99", NULL, 409, "unique_violation");
    http_expect(process.port, "POST", "/?do=planned&state=55P03&until=99&at=commit", NULL, 503,
                "lock_not_available");
    expect_row("SELECT last_value FROM retry_test.attempts", "2");
    runtime_process_release(&process);
}

/* timeoutSeconds is 2, each attempt takes 0.7 s: the third can't end in time. */
static void test_deadline_counts_for_all_attempts_together(void **state)
{
    struct runtime_process process;
    struct http_call call;

    (void)state;
    start(&process, SPEC("ReadCommitted", "true"));
    http_call_start(&call, process.port, "POST", "/?do=planned&state=40001&until=99&ms=700", NULL);
    http_call_join(&call);
    assert_int_equal(call.answer.status, 504);
    assert_in_range(call.took_ms, 1500, 2600);
    http_answer_release(&call.answer);
    expect_row("SELECT last_value FROM retry_test.attempts", "3");
    expect_row("SELECT count(*) FROM retry_test.done", "0");
    runtime_process_release(&process);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_real_collisions_are_run_again),  TEST(test_real_collisions_of_others_are_503),
        TEST(test_answer_is_the_last_attempts),    TEST(test_attempts_are_bounded),
        TEST(test_other_errors_are_not_run_again), TEST(test_deadline_counts_for_all_attempts_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
