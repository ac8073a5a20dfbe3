/* Idempotency-Key at once, in every isolation level, and a day later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <postgresql/libpq-fe.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_idempotency.h"

static int setup(void **state)
{
    return idempotency_setup(state, PROBE, "Optional", "ReadCommitted");
}

static int setup_repeatable_read(void **state)
{
    return idempotency_setup(state, PROBE, "Optional", "RepeatableRead");
}

static int setup_serializable(void **state)
{
    return idempotency_setup(state, PROBE, "Optional", "Serializable");
}

/* ---- at once ---- */

static void call_all(struct keyed_caller *callers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        keyed_call_start(&callers[i]);
    for (size_t i = 0; i < count; i++)
        keyed_call_join(&callers[i]);
}

/* 50 with one key: one of them has the effect, the others its answer, or 409. */
static void repeat_at_once(struct keyed_runtime *fixture, const char *key, const char *target,
                           int expected_notes)
{
    struct keyed_caller callers[50];
    const struct http_answer *first = NULL;
    int replays = 0, in_use = 0;

    for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
        callers[i] = (struct keyed_caller){.fixture = fixture, .target = target};
        snprintf(callers[i].key, sizeof(callers[i].key), "%s", key);
    }
    call_all(callers, ARRAY_SIZE(callers));
    for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
        const struct http_answer *answer = &callers[i].answer;
        if (answer->status == 409) {
            assert_true(http_answer_has(answer, "\"code\":\"idempotency_key_in_use\""));
            assert_true(http_answer_has(answer, "\r\nRetry-After: 1\r\n"));
            in_use++;
        } else if (answer->status != 200) {
            fail_msg("%s", answer->text);
        } else if (is_replay(answer)) {
            replays++;
        } else {
            assert_null(first);
            first = answer;
        }
    }
    assert_non_null(first);
    assert_int_equal(replays + in_use, 49);
    for (size_t i = 0; i < ARRAY_SIZE(callers); i++)
        if (callers[i].answer.status == 200)
            expect_same_answer(first, &callers[i].answer);
    database_count(fixture, NOTES, expected_notes);
    for (size_t i = 0; i < ARRAY_SIZE(callers); i++)
        http_answer_release(&callers[i].answer);
}

static void test_repeats_at_once(void **state)
{
    struct keyed_runtime *fixture = *state;

    repeat_at_once(fixture, "slow", "/?do=note&text=a&ms=300", 1);
    for (int i = 0; i < 5; i++) {
        CLEANUP_FREE char *key = xasprintf("fast-%d", i);
        repeat_at_once(fixture, key, "/?do=note&text=a", 2 + i);
    }
}

/* None of them fails another. */
static void test_other_keys_at_once(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct keyed_caller callers[50];

    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
            callers[i] = (struct keyed_caller){.fixture = fixture, .target = "/?do=note&text=a&ms=20"};
            snprintf(callers[i].key, sizeof(callers[i].key), "k-%d-%zu", round, i);
        }
        call_all(callers, ARRAY_SIZE(callers));
        for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
            if (callers[i].answer.status != 200)
                fail_msg("%s", callers[i].answer.text);
            assert_false(is_replay(&callers[i].answer));
            http_answer_release(&callers[i].answer);
        }
    }
    database_count(fixture, NOTES, 200);
    database_count(fixture, STORED, 200);
}

/* ---- what a snapshot does not see ---- */

struct session {
    PGconn *connection;
};

static struct session open_session(const struct keyed_runtime *fixture)
{
    struct session session = {PQconnectdb(fixture->url)};

    assert_int_equal(PQstatus(session.connection), CONNECTION_OK);
    return session;
}

/* The first value; `sqlstate` NULL: it must succeed. */
static char *run(struct session *session, const char *sql, const char *sqlstate)
{
    PGresult *result = PQexec(session->connection, sql);
    const char *found = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    char *value = xstrdup(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");

    if (!str_equal_or_both_null(found, sqlstate))
        fail_msg("%s: %s", sql, PQresultErrorMessage(result));
    PQclear(result);
    return value;
}

#define BEGIN_KEY "SELECT outcome FROM cicada.idempotency_begin('n/f', 'k', '\\x01')"
#define STORE_KEY "SELECT cicada.idempotency_store('n/f', 'k', '\\x01', 200, '', 'done')"

static void session_value(struct session *session, const char *sql, const char *value)
{
    CLEANUP_FREE char *found = run(session, sql, NULL);

    assert_string_equal(found, value);
}

/* The snapshot is older than the lock: 40001 at the beginning, before anything has an effect, then the answer. */
static void check_old_snapshot(struct keyed_runtime *fixture, const char *level)
{
    struct session winner = open_session(fixture), loser = open_session(fixture);
    CLEANUP_FREE char *begin = xasprintf("BEGIN ISOLATION LEVEL %s", level);

    test_database_exec(fixture->url, "DELETE FROM cicada.idempotency");
    free(run(&loser, begin, NULL));
    free(run(&loser, "SELECT 1", NULL)); /* the snapshot */
    free(run(&winner, begin, NULL));
    session_value(&winner, BEGIN_KEY, "new");
    session_value(&loser, BEGIN_KEY, "busy");
    free(run(&winner, STORE_KEY, NULL));
    free(run(&winner, "COMMIT", NULL));
    free(run(&loser, BEGIN_KEY, "40001"));
    free(run(&loser, "ROLLBACK", NULL));
    free(run(&loser, begin, NULL));
    session_value(&loser, BEGIN_KEY, "stored");
    free(run(&loser, "COMMIT", NULL));
    PQfinish(winner.connection);
    PQfinish(loser.connection);
}

static void test_repeatable_read(void **state)
{
    struct keyed_runtime *fixture = *state;

    check_old_snapshot(fixture, "REPEATABLE READ");
    test_repeats_at_once(state);
}

static void test_serializable(void **state)
{
    struct keyed_runtime *fixture = *state;

    check_old_snapshot(fixture, "SERIALIZABLE");
    test_repeats_at_once(state);
}

static void test_serializable_keys_do_not_fail_each_other(void **state)
{
    test_other_keys_at_once(state);
}

/* The record is the last line: who came past the lock by other ways can't store a second answer. */
static void test_second_answer_is_refused(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct session session = open_session(fixture);

    free(run(&session, STORE_KEY, NULL));
    free(run(&session, STORE_KEY, "40001"));
    PQfinish(session.connection);
}

/* ---- a day later ---- */

static void expire_all(struct keyed_runtime *fixture)
{
    test_database_exec(fixture->url, "UPDATE cicada.idempotency SET expires_at = now()");
}

static void test_answers_are_kept_for_a_day(void **state)
{
    struct keyed_runtime *fixture = *state;

    keyed_expect(fixture, "/?do=note&text=a", "k", 200, "\"id\":1");
    test_database_expect(
        fixture->url, "SELECT expires_at - now() BETWEEN '23:59' AND '24:00' FROM cicada.idempotency", "t");
    expire_all(fixture);
    keyed_expect(fixture, "/?do=note&text=b", "k", 200, "\"id\":2"); /* the key is free, for any request */
    keyed_expect(fixture, "/?do=note&text=b", "k", 200, "Idempotency-Replayed: true\r\n");
    database_count(fixture, NOTES, 2);
    database_count(fixture, STORED, 1); /* overwritten */
}

static void test_expired_keys_at_other_levels(void **state)
{
    test_answers_are_kept_for_a_day(state);
}

#define EXPIRED "SELECT count(*) FROM cicada.idempotency WHERE expires_at <= now()"

static void test_expired_answers_go_in_small_steps(void **state)
{
    struct keyed_runtime *fixture = *state;
    struct session other = open_session(fixture);

    test_database_exec(fixture->url,
                       "INSERT INTO cicada.idempotency SELECT 'n/old', i::text, '', now() - i * interval '1 "
                       "minute', 200, '', '' FROM generate_series(1, 200) i");
    free(run(&other, "BEGIN; SELECT 1 FROM cicada.idempotency WHERE key = '200' FOR UPDATE", NULL));
    keyed_expect(fixture, "/?do=echo", "k", 200, ""); /* the first, then one of 32 */
    database_becomes(fixture, EXPIRED, "136");
    test_database_expect(fixture->url,
                         "SELECT max(key::int) FROM cicada.idempotency WHERE function = 'n/old'"
                         " AND key <> '200'",
                         "135"); /* the oldest go first, but for one that somebody has in hand */
    for (int i = 0; i < 32; i++) {
        CLEANUP_FREE char *key = xasprintf("k-%d", i);
        database_count(fixture, EXPIRED, 136);
        keyed_expect(fixture, "/?do=echo", key, 200, "");
    }
    database_becomes(fixture, EXPIRED, "72");
    free(run(&other, "ROLLBACK", NULL));
    PQfinish(other.connection);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, idempotency_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_repeats_at_once),
        TEST(test_other_keys_at_once),
        cmocka_unit_test_setup_teardown(test_repeatable_read, setup_repeatable_read, idempotency_teardown),
        cmocka_unit_test_setup_teardown(test_serializable, setup_serializable, idempotency_teardown),
        cmocka_unit_test_setup_teardown(test_serializable_keys_do_not_fail_each_other, setup_serializable,
                                        idempotency_teardown),
        TEST(test_second_answer_is_refused),
        TEST(test_answers_are_kept_for_a_day),
        cmocka_unit_test_setup_teardown(test_expired_keys_at_other_levels, setup_serializable,
                                        idempotency_teardown),
        TEST(test_expired_answers_go_in_small_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
