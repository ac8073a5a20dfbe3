/* Idempotency-Key through the real runtime: who gets which answer, and what is stored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_idempotency.h"

static int setup(void **state)
{
    return idempotency_setup(state, PROBE, "Optional", "ReadCommitted");
}

static int setup_required(void **state)
{
    return idempotency_setup(state, PROBE, "Required", "ReadCommitted");
}

static int setup_stream(void **state)
{
    return idempotency_setup(state, "\"handler\":\"stream.so:writer\"", "Optional", "ReadCommitted");
}

static int setup_reader(void **state)
{
    return idempotency_setup(state, "\"handler\":\"stream.so:reader\"", "Optional", "ReadCommitted");
}

static int setup_sql(void **state)
{
    return idempotency_setup(
        state,
        "\"sql\":\"INSERT INTO runtime_test.notes (text) VALUES (:text) RETURNING id, text\","
        "\"result\":\"Row\"",
        "Optional", "ReadCommitted");
}

/* Without rows: such a statement has its COMMIT with it when there is no key. */
static int setup_silent_sql(void **state)
{
    return idempotency_setup(
        state, "\"sql\":\"INSERT INTO runtime_test.notes (text) VALUES (:text)\",\"result\":\"None\"",
        "Optional", "ReadCommitted");
}

/* ---- replays ---- */

static void test_repeat_gets_the_stored_answer(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct http_answer first = keyed_ask(fixture, "POST", "/a?do=created&n=5000", "\"k-1\"", "");
    struct http_answer second = keyed_ask(fixture, "POST", "/a?do=created&n=5000", "\"k-1\"", "");
    const char *id = strstr(first.text, "X-Request-Id: ");
    CLEANUP_FREE char *first_id = xasprintf("%.*s", (int)strcspn(id, "\r"), id);

    assert_int_equal(first.status, 201);
    assert_false(is_replay(&first));
    assert_true(is_replay(&second));
    expect_same_answer(&first, &second);
    assert_true(http_answer_has(&second, "\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2: 3\r\n"));
    assert_true(http_answer_has(&second, "\r\nContent-Type: application/x-probe; v=\"1\"\r\n"));
    assert_true(http_answer_has(&second, "\r\nX-Request-Id: "));
    assert_false(http_answer_has(&second, first_id)); /* a repeat has its own */
    database_count(fixture, NOTES, 1);
    database_count(fixture, STORED, 1);
    http_answer_release(&first);
    http_answer_release(&second);
}

static void test_bare_and_quoted_are_one_key(void **state)
{
    struct keyed_runtime *fixture = *state;

    keyed_expect(fixture, "/?do=note&text=a", "\"k-1\"", 200, "\"id\":1");
    keyed_expect(fixture, "/?do=note&text=a", "k-1", 200, "Idempotency-Replayed: true\r\n");
    keyed_expect(fixture, "/?do=note&text=a", "k-2", 200, "\"id\":2");
    database_count(fixture, NOTES, 2);
}

static void test_other_request_with_the_key_is_422(void **state)
{
    struct keyed_runtime *fixture = *state;
    static const char target[] = "/?do=note&text=a";
    struct {
        const char *method, *target, *headers, *body;
    } others[] = {
        {"PUT", target, "", "{}"},
        {"POST", "/x?do=note&text=a", "", "{}"},
        {"POST", "/?do=note&text=b", "", "{}"},
        {"POST", target, "", "{ }"},
        {"POST", target, "Authorization: Bearer other\r\n", "{}"},
    };
    struct http_answer first = keyed_ask(fixture, "POST", target, "k", "{}");

    assert_int_equal(first.status, 200);
    http_answer_release(&first);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        CLEANUP_FREE char *headers = xasprintf("%sIdempotency-Key: k\r\n", others[i].headers);
        struct http_answer answer =
            http_ask(fixture->process.port, others[i].method, others[i].target, headers, others[i].body);
        assert_int_equal(answer.status, 422);
        assert_true(http_answer_has(&answer, "\"code\":\"idempotency_key_reused\""));
        http_answer_release(&answer);
    }
    database_count(fixture, NOTES, 1);
}

static void test_get_and_head_ignore_it(void **state)
{
    struct keyed_runtime *fixture = *state;

    for (int i = 0; i < 2; i++) {
        struct http_answer get = keyed_ask(fixture, "GET", "/?do=note&text=a", "\"", NULL);
        struct http_answer head = keyed_ask(fixture, "HEAD", "/?do=note&text=a", "k", NULL);
        assert_int_equal(get.status, 200);
        assert_int_equal(head.status, 200);
        assert_false(is_replay(&get) || is_replay(&head));
        http_answer_release(&get);
        http_answer_release(&head);
    }
    database_count(fixture, NOTES, 4);
    database_count(fixture, STORED, 0);
}

static void test_without_a_key_nothing_is_kept(void **state)
{
    struct keyed_runtime *fixture = *state;

    for (int i = 0; i < 2; i++)
        keyed_expect(fixture, "/?do=note&text=a", NULL, 200, "\"id\":");
    database_count(fixture, NOTES, 2);
    database_count(fixture, STORED, 0);
}

static void test_malformed_key_is_400(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct http_answer answer;

    keyed_expect(fixture, "/?do=note&text=a", "\"", 400, "\"code\":\"idempotency_key_malformed\"");
    keyed_expect(fixture, "/?do=note&text=a", "\"\"", 400, "is empty");
    answer = http_ask(fixture->process.port, "POST", "/?do=note&text=a",
                      "Idempotency-Key: a\r\nIdempotency-Key: a\r\n", "");
    assert_int_equal(answer.status, 400);
    http_answer_release(&answer);
    database_count(fixture, NOTES, 0);
}

static void test_required_key(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct http_answer get;

    keyed_expect(fixture, "/?do=note&text=a", NULL, 400, "\"code\":\"idempotency_key_required\"");
    database_count(fixture, NOTES, 0);
    keyed_expect(fixture, "/?do=note&text=a", "k", 200, "\"id\":1");
    keyed_expect(fixture, "/?do=note&text=a", "k", 200, "Idempotency-Replayed: true\r\n");
    get = keyed_ask(fixture, "GET", "/?do=select", NULL, NULL);
    assert_int_equal(get.status, 200);
    http_answer_release(&get);
}

static void test_handler_without_database_is_replayed(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct http_answer first = keyed_ask(fixture, "POST", "/?do=echo", "k", "{}");
    struct http_answer second = keyed_ask(fixture, "POST", "/?do=echo", "k", "{}");

    assert_int_equal(first.status, 200);
    assert_true(is_replay(&second));
    expect_same_answer(&first, &second); /* the body has the first one's request id */
    http_answer_release(&first);
    http_answer_release(&second);
}

/* The handler's first statement is the transaction's second here. */
static void test_ddl_by_others_is_not_noticed(void **state)
{
    struct keyed_runtime *fixture = *state;

    keyed_expect(fixture, "/?do=note&text=a", "k-1", 200, "\"id\":1");
    test_database_exec(fixture->url, "ALTER TABLE runtime_test.notes ALTER COLUMN text TYPE varchar(100)");
    keyed_expect(fixture, "/?do=note&text=a", "k-2", 200, "\"id\":2");
    keyed_expect(fixture, "/?do=note&text=a", "k-1", 200, "Idempotency-Replayed: true\r\n");
    database_count(fixture, NOTES, 2);
}

static void test_sql_function(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct http_answer first = keyed_ask(fixture, "POST", "/?text=a", "k", "");
    struct http_answer second = keyed_ask(fixture, "POST", "/?text=a", "k", "");

    assert_int_equal(first.status, 200);
    assert_string_equal(first.body, "{\"id\":1,\"text\":\"a\"}");
    assert_true(is_replay(&second));
    expect_same_answer(&first, &second);
    http_answer_release(&first);
    http_answer_release(&second);
    keyed_expect(fixture, "/?text=b", "k", 422, "\"code\":\"idempotency_key_reused\"");
    test_database_exec(fixture->url, "ALTER TABLE runtime_test.notes ALTER COLUMN text TYPE varchar(100)");
    keyed_expect(fixture, "/?text=a", "k-2", 200, "{\"id\":2,");
    database_count(fixture, NOTES, 2);
}

static void test_silent_sql_function(void **state)
{
    struct keyed_runtime *fixture = *state;

    keyed_expect(fixture, "/?text=a", "k", 204, "");
    keyed_expect(fixture, "/?text=a", "k", 204, "Idempotency-Replayed: true\r\n");
    database_count(fixture, NOTES, 1);
    database_count(fixture, STORED, 1);
}

static void test_bodies_that_are_handed_over(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct http_answer first = keyed_ask(fixture, "POST", "/?do=take&bytes=3000", "k", "");
    struct http_answer second = keyed_ask(fixture, "POST", "/?do=take&bytes=3000", "k", "");

    assert_int_equal(first.status, 200);
    assert_int_equal(strlen(second.body), 3000);
    assert_true(is_replay(&second));
    expect_same_answer(&first, &second);
    http_answer_release(&first);
    http_answer_release(&second);
    keyed_expect(fixture, "/?do=take&bytes=262145", "k-2", 500, "\"code\":\"response_not_storable\"");
}

/* What leaves or commits before the answer is whole can't be stored with it. */
static void test_streams_and_early_commits_are_refused(void **state)
{
    struct keyed_runtime *fixture = *state;

    test_database_exec(fixture->url,
                       "CREATE SCHEMA stream_test; CREATE TABLE stream_test.notes (id text PRIMARY KEY)");
    keyed_expect(fixture, "/?do=pieces&bytes=10&pieces=2&id=1", "k", 500,
                 "\"code\":\"response_not_storable\"");
    keyed_expect(fixture, "/?do=commit&id=1", "k", 500, "\"code\":\"response_not_storable\"");
    keyed_expect(fixture, "/?do=commit&id=1&anyway=1", "k", 500, "\"code\":\"response_not_storable\"");
    database_count(fixture, "SELECT count(*) FROM stream_test.notes", 0);
    database_count(fixture, STORED, 0);
    keyed_expect(fixture, "/?do=commit&id=1", NULL, 200, "");
    keyed_expect(fixture, "/?do=pieces&bytes=10&pieces=2&id=2", NULL, 200, "");
    database_count(fixture, "SELECT count(*) FROM stream_test.notes", 2);
}

/* It has no effect to be had twice, and may stream. */
static void test_read_only_handlers_ignore_it(void **state)
{
    struct keyed_runtime *fixture = *state;

    for (int i = 0; i < 2; i++) {
        struct http_answer answer = keyed_ask(fixture, "POST", "/?rows=2&fail=9", "k", "");
        assert_int_equal(answer.status, 200);
        assert_false(is_replay(&answer));
        http_answer_release(&answer);
    }
    database_count(fixture, STORED, 0);
}

/* ---- what is not stored ---- */

static void test_failed_attempt_leaves_nothing(void **state)
{
    static const struct {
        const char *then;
        int status;
    } cases[] = {{"fail", 500}, {"409", 409}, {"mistake", 500}, {"ignore", 500}, {"deferred", 409}};
    struct keyed_runtime *fixture = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_FREE char *target = xasprintf("/?do=note&text=a&then=%s", cases[i].then);
        for (int j = 0; j < 2; j++)
            keyed_expect(fixture, target, "k", cases[i].status, "");
    }
    database_count(fixture, NOTES, 0);
    database_count(fixture, STORED, 0);
    /* Each ran for itself: the sequence counts also what was rolled back. */
    test_database_expect(fixture->url, "SELECT last_value FROM runtime_test.notes_id_seq", "10");
    keyed_expect(fixture, "/?do=note&text=a", "k", 200, "\"id\":11"); /* the key is free for another one */
}

static void test_repeat_after_a_failure_runs_again(void **state)
{
    struct keyed_runtime *fixture = *state;

    test_database_exec(fixture->url, "ALTER TABLE runtime_test.notes ADD CHECK (text <> 'a')");
    keyed_expect(fixture, "/?do=note&text=a", "k", 422, "\"code\":\"check_violation\"");
    test_database_exec(fixture->url, "ALTER TABLE runtime_test.notes DROP CONSTRAINT notes_text_check");
    keyed_expect(fixture, "/?do=note&text=a", "k", 200, "\"id\":");
    keyed_expect(fixture, "/?do=note&text=a", "k", 200, "Idempotency-Replayed: true\r\n");
    database_count(fixture, NOTES, 1);
}

static void test_late_answer_is_not_stored(void **state)
{
    struct keyed_runtime *fixture = *state;

    keyed_expect(fixture, "/?do=note&text=a&then=sleep", "k", 504, "\"code\":\"deadline_exceeded\"");
    database_count(fixture, NOTES, 0);
    database_count(fixture, STORED, 0);
}

static void test_answers_are_stored_up_to_256_kib(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct http_answer first = keyed_ask(fixture, "POST", "/?do=created&n=262144", "k", "");
    struct http_answer second = keyed_ask(fixture, "POST", "/?do=created&n=262144", "k", "");

    assert_int_equal(first.status, 201);
    assert_true(is_replay(&second));
    assert_int_equal(strlen(second.body), 262144);
    expect_same_answer(&first, &second);
    http_answer_release(&first);
    http_answer_release(&second);
    for (int i = 0; i < 2; i++)
        keyed_expect(fixture, "/?do=created&n=262145", "k-2", 500, "\"code\":\"response_not_storable\"");
    keyed_expect(fixture, "/?do=created&n=262145", NULL, 201, ""); /* without a key it may be larger */
    database_count(fixture, NOTES, 2);
    database_count(fixture, STORED, 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, idempotency_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_repeat_gets_the_stored_answer),
        TEST(test_bare_and_quoted_are_one_key),
        TEST(test_other_request_with_the_key_is_422),
        TEST(test_get_and_head_ignore_it),
        TEST(test_without_a_key_nothing_is_kept),
        TEST(test_malformed_key_is_400),
        cmocka_unit_test_setup_teardown(test_required_key, setup_required, idempotency_teardown),
        TEST(test_handler_without_database_is_replayed),
        TEST(test_ddl_by_others_is_not_noticed),
        cmocka_unit_test_setup_teardown(test_sql_function, setup_sql, idempotency_teardown),
        cmocka_unit_test_setup_teardown(test_silent_sql_function, setup_silent_sql, idempotency_teardown),
        cmocka_unit_test_setup_teardown(test_bodies_that_are_handed_over, setup_stream, idempotency_teardown),
        cmocka_unit_test_setup_teardown(test_streams_and_early_commits_are_refused, setup_stream,
                                        idempotency_teardown),
        cmocka_unit_test_setup_teardown(test_read_only_handlers_ignore_it, setup_reader,
                                        idempotency_teardown),
        TEST(test_failed_attempt_leaves_nothing),
        TEST(test_repeat_after_a_failure_runs_again),
        TEST(test_late_answer_is_not_stored),
        TEST(test_answers_are_stored_up_to_256_kib),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
