/* Idempotency-Key through the real runtime and a real database: one effect and one answer, whatever happens in between. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <postgresql/libpq-fe.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_runtime.h"

#define DATABASE "cicada_test_idempotency"
#define STORED   "SELECT count(*) FROM cicada.idempotency WHERE function = 'default/function'"
#define NOTES    "SELECT count(*) FROM runtime_test.notes"

struct fixture {
    char *url;
    struct pg_proxy *proxy; /* between the runtime and the database */
    struct runtime_process process;
};

/* `function`: the members of the spec that say what it does. */
static void start(struct fixture *fixture, const char *function, const char *mode, const char *isolation)
{
    CLEANUP_FREE char *url = test_database_url(NULL, pg_proxy_port(fixture->proxy), DATABASE);
    CLEANUP_FREE char *spec = xasprintf("{%s,\"timeoutSeconds\":5,\"concurrency\":60,"
                                        "\"http\":{\"idempotency\":\"%s\"},"
                                        "\"database\":{\"poolSize\":20,\"isolation\":\"%s\"}}",
                                        function, mode, isolation);
    struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = spec, .database_url = url};

    runtime_process_start(&fixture->process, &settings, /* serving= */ true);
}

static struct fixture *make_fixture(void)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));

    test_database_create(DATABASE, NULL);
    fixture->url = test_database_url(NULL, 0, DATABASE);
    test_database_exec(fixture->url,
                       "CREATE SCHEMA runtime_test;"
                       "CREATE TABLE runtime_test.notes (id serial PRIMARY KEY, text text);"
                       "CREATE TABLE runtime_test.answers (note_id integer REFERENCES runtime_test.notes"
                       " DEFERRABLE INITIALLY DEFERRED)");
    fixture->proxy = pg_proxy_new(pgtest_port());
    return fixture;
}

static int setup_with(void **state, const char *function, const char *mode, const char *isolation)
{
    struct fixture *fixture = make_fixture();

    start(fixture, function, mode, isolation);
    *state = fixture;
    return 0;
}

#define PROBE "\"handler\":\"probe.so:probe\""

static int setup(void **state)
{
    return setup_with(state, PROBE, "Optional", "ReadCommitted");
}

static int setup_required(void **state)
{
    return setup_with(state, PROBE, "Required", "ReadCommitted");
}

static int setup_repeatable_read(void **state)
{
    return setup_with(state, PROBE, "Optional", "RepeatableRead");
}

static int setup_serializable(void **state)
{
    return setup_with(state, PROBE, "Optional", "Serializable");
}

static int setup_stream(void **state)
{
    return setup_with(state, "\"handler\":\"stream.so:writer\"", "Optional", "ReadCommitted");
}

static int setup_reader(void **state)
{
    return setup_with(state, "\"handler\":\"stream.so:reader\"", "Optional", "ReadCommitted");
}

static int setup_sql(void **state)
{
    return setup_with(state,
                      "\"sql\":\"INSERT INTO runtime_test.notes (text) VALUES (:text) RETURNING id, text\","
                      "\"result\":\"Row\"",
                      "Optional", "ReadCommitted");
}

/* Without rows: such a statement has its COMMIT with it when there is no key. */
static int setup_silent_sql(void **state)
{
    return setup_with(state,
                      "\"sql\":\"INSERT INTO runtime_test.notes (text) VALUES (:text)\",\"result\":\"None\"",
                      "Optional", "ReadCommitted");
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    runtime_process_release(&fixture->process);
    pg_proxy_free(fixture->proxy);
    test_database_drop(DATABASE);
    free(fixture->url);
    free(fixture);
    return 0;
}

/* ---- asking ---- */

static struct http_answer ask(struct fixture *fixture, const char *method, const char *target,
                              const char *key, const char *body)
{
    CLEANUP_FREE char *header = key ? xasprintf("Idempotency-Key: %s\r\n", key) : xstrdup("");

    return http_ask(fixture->process.port, method, target, header, body);
}

static void expect_answer(struct fixture *fixture, const char *target, const char *key, int status,
                          const char *text)
{
    struct http_answer answer = ask(fixture, "POST", target, key, "");

    if (answer.status != status || !http_answer_has(&answer, text))
        fail_msg("%s %s: expected %d with <%s>, got: %s", target, key ? key : "-", status, text, answer.text);
    http_answer_release(&answer);
}

static bool is_replay(const struct http_answer *answer)
{
    return http_answer_has(answer, "\r\nIdempotency-Replayed: true\r\n");
}

/* The answer without what belongs to the single exchange. */
static char *essence(const struct http_answer *answer)
{
    static const char *const own[] = {
        "X-Request-Id: ", "Idempotency-Replayed: ", "Date: ", "Server-Timing: "};
    struct strbuf out;
    const char *line = answer->text, *next;
    bool keep;

    strbuf_init(&out, 1 << 20);
    for (; line < answer->body; line = next) {
        next = strchr(line, '\n') + 1;
        keep = true;
        for (size_t i = 0; i < ARRAY_SIZE(own); i++)
            keep = keep && strncmp(line, own[i], strlen(own[i])) != 0;
        if (keep)
            strbuf_append(&out, line, (size_t)(next - line));
    }
    strbuf_append_str(&out, answer->body);
    return strbuf_detach(&out, NULL);
}

static void expect_same(const struct http_answer *first, const struct http_answer *second)
{
    CLEANUP_FREE char *a = essence(first);
    CLEANUP_FREE char *b = essence(second);

    assert_string_equal(a, b);
}

static void database_count(struct fixture *fixture, const char *sql, int64_t count)
{
    CLEANUP_FREE char *text = xasprintf("%lld", (long long)count);

    test_database_expect(fixture->url, sql, text);
}

static bool has_text(void *arg)
{
    const char **wait = arg; /* URL, SQL, value */
    CLEANUP_FREE char *value = test_database_value(wait[0], wait[1]);

    return strcmp(value, wait[2]) == 0;
}

static void database_becomes(struct fixture *fixture, const char *sql, const char *value)
{
    const char *wait[] = {fixture->url, sql, value};

    wait_until(has_text, wait, sql);
}

/* ---- replays ---- */

static void test_repeat_gets_the_stored_answer(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer first = ask(fixture, "POST", "/a?do=created&n=5000", "\"k-1\"", "");
    struct http_answer second = ask(fixture, "POST", "/a?do=created&n=5000", "\"k-1\"", "");
    const char *id = strstr(first.text, "X-Request-Id: ");
    CLEANUP_FREE char *first_id = xasprintf("%.*s", (int)strcspn(id, "\r"), id);

    assert_int_equal(first.status, 201);
    assert_false(is_replay(&first));
    assert_true(is_replay(&second));
    expect_same(&first, &second);
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
    struct fixture *fixture = *state;

    expect_answer(fixture, "/?do=note&text=a", "\"k-1\"", 200, "\"id\":1");
    expect_answer(fixture, "/?do=note&text=a", "k-1", 200, "Idempotency-Replayed: true\r\n");
    expect_answer(fixture, "/?do=note&text=a", "k-2", 200, "\"id\":2");
    database_count(fixture, NOTES, 2);
}

static void test_other_request_with_the_key_is_422(void **state)
{
    struct fixture *fixture = *state;
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
    struct http_answer first = ask(fixture, "POST", target, "k", "{}");

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
    struct fixture *fixture = *state;

    for (int i = 0; i < 2; i++) {
        struct http_answer get = ask(fixture, "GET", "/?do=note&text=a", "\"", NULL);
        struct http_answer head = ask(fixture, "HEAD", "/?do=note&text=a", "k", NULL);
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
    struct fixture *fixture = *state;

    for (int i = 0; i < 2; i++)
        expect_answer(fixture, "/?do=note&text=a", NULL, 200, "\"id\":");
    database_count(fixture, NOTES, 2);
    database_count(fixture, STORED, 0);
}

static void test_malformed_key_is_400(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer answer;

    expect_answer(fixture, "/?do=note&text=a", "\"", 400, "\"code\":\"idempotency_key_malformed\"");
    expect_answer(fixture, "/?do=note&text=a", "\"\"", 400, "is empty");
    answer = http_ask(fixture->process.port, "POST", "/?do=note&text=a",
                      "Idempotency-Key: a\r\nIdempotency-Key: a\r\n", "");
    assert_int_equal(answer.status, 400);
    http_answer_release(&answer);
    database_count(fixture, NOTES, 0);
}

static void test_required_key(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer get;

    expect_answer(fixture, "/?do=note&text=a", NULL, 400, "\"code\":\"idempotency_key_required\"");
    database_count(fixture, NOTES, 0);
    expect_answer(fixture, "/?do=note&text=a", "k", 200, "\"id\":1");
    expect_answer(fixture, "/?do=note&text=a", "k", 200, "Idempotency-Replayed: true\r\n");
    get = ask(fixture, "GET", "/?do=select", NULL, NULL);
    assert_int_equal(get.status, 200);
    http_answer_release(&get);
}

static void test_handler_without_database_is_replayed(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer first = ask(fixture, "POST", "/?do=echo", "k", "{}");
    struct http_answer second = ask(fixture, "POST", "/?do=echo", "k", "{}");

    assert_int_equal(first.status, 200);
    assert_true(is_replay(&second));
    expect_same(&first, &second); /* the body has the first one's request id */
    http_answer_release(&first);
    http_answer_release(&second);
}

/* The handler's first statement is the transaction's second here. */
static void test_ddl_by_others_is_not_noticed(void **state)
{
    struct fixture *fixture = *state;

    expect_answer(fixture, "/?do=note&text=a", "k-1", 200, "\"id\":1");
    test_database_exec(fixture->url, "ALTER TABLE runtime_test.notes ALTER COLUMN text TYPE varchar(100)");
    expect_answer(fixture, "/?do=note&text=a", "k-2", 200, "\"id\":2");
    expect_answer(fixture, "/?do=note&text=a", "k-1", 200, "Idempotency-Replayed: true\r\n");
    database_count(fixture, NOTES, 2);
}

static void test_sql_function(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer first = ask(fixture, "POST", "/?text=a", "k", "");
    struct http_answer second = ask(fixture, "POST", "/?text=a", "k", "");

    assert_int_equal(first.status, 200);
    assert_string_equal(first.body, "{\"id\":1,\"text\":\"a\"}");
    assert_true(is_replay(&second));
    expect_same(&first, &second);
    http_answer_release(&first);
    http_answer_release(&second);
    expect_answer(fixture, "/?text=b", "k", 422, "\"code\":\"idempotency_key_reused\"");
    test_database_exec(fixture->url, "ALTER TABLE runtime_test.notes ALTER COLUMN text TYPE varchar(100)");
    expect_answer(fixture, "/?text=a", "k-2", 200, "{\"id\":2,");
    database_count(fixture, NOTES, 2);
}

static void test_silent_sql_function(void **state)
{
    struct fixture *fixture = *state;

    expect_answer(fixture, "/?text=a", "k", 204, "");
    expect_answer(fixture, "/?text=a", "k", 204, "Idempotency-Replayed: true\r\n");
    database_count(fixture, NOTES, 1);
    database_count(fixture, STORED, 1);
}

static void test_bodies_that_are_handed_over(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer first = ask(fixture, "POST", "/?do=take&bytes=3000", "k", "");
    struct http_answer second = ask(fixture, "POST", "/?do=take&bytes=3000", "k", "");

    assert_int_equal(first.status, 200);
    assert_int_equal(strlen(second.body), 3000);
    assert_true(is_replay(&second));
    expect_same(&first, &second);
    http_answer_release(&first);
    http_answer_release(&second);
    expect_answer(fixture, "/?do=take&bytes=262145", "k-2", 500, "\"code\":\"response_not_storable\"");
}

/* What leaves or commits before the answer is whole can't be stored with it. */
static void test_streams_and_early_commits_are_refused(void **state)
{
    struct fixture *fixture = *state;

    test_database_exec(fixture->url,
                       "CREATE SCHEMA stream_test; CREATE TABLE stream_test.notes (id text PRIMARY KEY)");
    expect_answer(fixture, "/?do=pieces&bytes=10&pieces=2&id=1", "k", 500,
                  "\"code\":\"response_not_storable\"");
    expect_answer(fixture, "/?do=commit&id=1", "k", 500, "\"code\":\"response_not_storable\"");
    expect_answer(fixture, "/?do=commit&id=1&anyway=1", "k", 500, "\"code\":\"response_not_storable\"");
    database_count(fixture, "SELECT count(*) FROM stream_test.notes", 0);
    database_count(fixture, STORED, 0);
    expect_answer(fixture, "/?do=commit&id=1", NULL, 200, "");
    expect_answer(fixture, "/?do=pieces&bytes=10&pieces=2&id=2", NULL, 200, "");
    database_count(fixture, "SELECT count(*) FROM stream_test.notes", 2);
}

/* It has no effect to be had twice, and may stream. */
static void test_read_only_handlers_ignore_it(void **state)
{
    struct fixture *fixture = *state;

    for (int i = 0; i < 2; i++) {
        struct http_answer answer = ask(fixture, "POST", "/?rows=2&fail=9", "k", "");
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
    struct fixture *fixture = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_FREE char *target = xasprintf("/?do=note&text=a&then=%s", cases[i].then);
        for (int j = 0; j < 2; j++)
            expect_answer(fixture, target, "k", cases[i].status, "");
    }
    database_count(fixture, NOTES, 0);
    database_count(fixture, STORED, 0);
    /* Each ran for itself: the sequence counts also what was rolled back. */
    test_database_expect(fixture->url, "SELECT last_value FROM runtime_test.notes_id_seq", "10");
    expect_answer(fixture, "/?do=note&text=a", "k", 200, "\"id\":11"); /* the key is free for another one */
}

static void test_repeat_after_a_failure_runs_again(void **state)
{
    struct fixture *fixture = *state;

    test_database_exec(fixture->url, "ALTER TABLE runtime_test.notes ADD CHECK (text <> 'a')");
    expect_answer(fixture, "/?do=note&text=a", "k", 422, "\"code\":\"check_violation\"");
    test_database_exec(fixture->url, "ALTER TABLE runtime_test.notes DROP CONSTRAINT notes_text_check");
    expect_answer(fixture, "/?do=note&text=a", "k", 200, "\"id\":");
    expect_answer(fixture, "/?do=note&text=a", "k", 200, "Idempotency-Replayed: true\r\n");
    database_count(fixture, NOTES, 1);
}

static void test_late_answer_is_not_stored(void **state)
{
    struct fixture *fixture = *state;

    expect_answer(fixture, "/?do=note&text=a&then=sleep", "k", 504, "\"code\":\"deadline_exceeded\"");
    database_count(fixture, NOTES, 0);
    database_count(fixture, STORED, 0);
}

static void test_answers_are_stored_up_to_256_kib(void **state)
{
    struct fixture *fixture = *state;
    struct http_answer first = ask(fixture, "POST", "/?do=created&n=262144", "k", "");
    struct http_answer second = ask(fixture, "POST", "/?do=created&n=262144", "k", "");

    assert_int_equal(first.status, 201);
    assert_true(is_replay(&second));
    assert_int_equal(strlen(second.body), 262144);
    expect_same(&first, &second);
    http_answer_release(&first);
    http_answer_release(&second);
    for (int i = 0; i < 2; i++)
        expect_answer(fixture, "/?do=created&n=262145", "k-2", 500, "\"code\":\"response_not_storable\"");
    expect_answer(fixture, "/?do=created&n=262145", NULL, 201, ""); /* without a key it may be larger */
    database_count(fixture, NOTES, 2);
    database_count(fixture, STORED, 1);
}

/* ---- at once ---- */

struct caller {
    pthread_t thread;
    struct fixture *fixture;
    const char *target;
    char key[32];
    struct http_answer answer;
};

static void *call(void *arg)
{
    struct caller *caller = arg;

    caller->answer = ask(caller->fixture, "POST", caller->target, caller->key, "");
    return NULL;
}

static void call_all(struct caller *callers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    for (size_t i = 0; i < count; i++)
        pthread_join(callers[i].thread, NULL);
}

/* 50 with one key: one of them has the effect, the others its answer, or 409. */
static void repeat_at_once(struct fixture *fixture, const char *key, const char *target, int expected_notes)
{
    struct caller callers[50];
    const struct http_answer *first = NULL;
    int replays = 0, in_use = 0;

    for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
        callers[i] = (struct caller){.fixture = fixture, .target = target};
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
            expect_same(first, &callers[i].answer);
    database_count(fixture, NOTES, expected_notes);
    for (size_t i = 0; i < ARRAY_SIZE(callers); i++)
        http_answer_release(&callers[i].answer);
}

static void test_repeats_at_once(void **state)
{
    struct fixture *fixture = *state;

    repeat_at_once(fixture, "slow", "/?do=note&text=a&ms=300", 1);
    for (int i = 0; i < 5; i++) {
        CLEANUP_FREE char *key = xasprintf("fast-%d", i);
        repeat_at_once(fixture, key, "/?do=note&text=a", 2 + i);
    }
}

/* None of them fails another. */
static void test_other_keys_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct caller callers[50];

    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
            callers[i] = (struct caller){.fixture = fixture, .target = "/?do=note&text=a&ms=20"};
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

static struct session open_session(const struct fixture *fixture)
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
static void check_old_snapshot(struct fixture *fixture, const char *level)
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
    struct fixture *fixture = *state;

    check_old_snapshot(fixture, "REPEATABLE READ");
    test_repeat_gets_the_stored_answer(state);
    test_database_exec(fixture->url, "TRUNCATE runtime_test.notes CASCADE");
    test_repeats_at_once(state);
}

static void test_serializable(void **state)
{
    struct fixture *fixture = *state;

    check_old_snapshot(fixture, "SERIALIZABLE");
    test_repeat_gets_the_stored_answer(state);
    test_database_exec(fixture->url, "TRUNCATE runtime_test.notes CASCADE");
    test_repeats_at_once(state);
}

static void test_serializable_keys_do_not_fail_each_other(void **state)
{
    test_other_keys_at_once(state);
}

/* The record is the last line: who came past the lock by other ways can't store a second answer. */
static void test_second_answer_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct session session = open_session(fixture);

    free(run(&session, STORE_KEY, NULL));
    free(run(&session, STORE_KEY, "40001"));
    PQfinish(session.connection);
}

/* ---- a day later ---- */

static void expire_all(struct fixture *fixture)
{
    test_database_exec(fixture->url, "UPDATE cicada.idempotency SET expires_at = now()");
}

static void test_answers_are_kept_for_a_day(void **state)
{
    struct fixture *fixture = *state;

    expect_answer(fixture, "/?do=note&text=a", "k", 200, "\"id\":1");
    test_database_expect(
        fixture->url, "SELECT expires_at - now() BETWEEN '23:59' AND '24:00' FROM cicada.idempotency", "t");
    expire_all(fixture);
    expect_answer(fixture, "/?do=note&text=b", "k", 200, "\"id\":2"); /* the key is free, for any request */
    expect_answer(fixture, "/?do=note&text=b", "k", 200, "Idempotency-Replayed: true\r\n");
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
    struct fixture *fixture = *state;
    struct session other = open_session(fixture);

    test_database_exec(fixture->url,
                       "INSERT INTO cicada.idempotency SELECT 'n/old', i::text, '', now() - i * interval '1 "
                       "minute', 200, '', '' FROM generate_series(1, 200) i");
    free(run(&other, "BEGIN; SELECT 1 FROM cicada.idempotency WHERE key = '200' FOR UPDATE", NULL));
    expect_answer(fixture, "/?do=echo", "k", 200, ""); /* the first, then one of 32 */
    database_becomes(fixture, EXPIRED, "136");
    test_database_expect(fixture->url,
                         "SELECT max(key::int) FROM cicada.idempotency WHERE function = 'n/old'"
                         " AND key <> '200'",
                         "135"); /* the oldest go first, but for one that somebody has in hand */
    for (int i = 0; i < 32; i++) {
        CLEANUP_FREE char *key = xasprintf("k-%d", i);
        database_count(fixture, EXPIRED, 136);
        expect_answer(fixture, "/?do=echo", key, 200, "");
    }
    database_becomes(fixture, EXPIRED, "72");
    free(run(&other, "ROLLBACK", NULL));
    PQfinish(other.connection);
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
    struct fixture *fixture = arg;
    struct http_answer answer = ask(fixture, "GET", "/?do=echo", NULL, NULL);
    bool ok = answer.status == 200;

    http_answer_release(&answer);
    return ok;
}

static void test_crash_between_commit_and_answer(void **state)
{
    struct fixture *fixture = *state;
    struct caller caller = {.fixture = fixture, .target = "/?do=note&text=a", .key = "k"};

    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, PG_PROXY_HOLD_ANSWER, COMMIT, sizeof(COMMIT), NULL);
    assert_int_equal(pthread_create(&caller.thread, NULL, call, &caller), 0);
    wait_until(rule_is_done, fixture->proxy, "COMMIT is sent");
    database_becomes(fixture, NOTES, "1"); /* committed, and nobody knows */
    kill_worker(&fixture->process);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.answer.status, 0);
    http_answer_release(&caller.answer);
    wait_until(answers, fixture, "the runtime is back");
    expect_answer(fixture, "/?do=note&text=a", "k", 200, "Idempotency-Replayed: true\r\n");
    database_count(fixture, NOTES, 1);
}

static void test_crash_before_commit(void **state)
{
    struct fixture *fixture = *state;
    struct caller caller = {.fixture = fixture, .target = "/?do=note&text=a", .key = "k"};

    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT, COMMIT, sizeof(COMMIT), NULL);
    assert_int_equal(pthread_create(&caller.thread, NULL, call, &caller), 0);
    wait_until(rule_is_done, fixture->proxy, "COMMIT is about to be sent");
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.answer.status, 503); /* nothing was written, and that is known */
    http_answer_release(&caller.answer);
    expect_answer(fixture, "/?do=note&text=a", "k", 200, "\"id\":");
    database_count(fixture, NOTES, 1);
    database_count(fixture, STORED, 1);
}

/* The connection dies after COMMIT was sent: its outcome is asked for, and the rows of the record are missed by nobody. */
static void test_lost_commit_is_resolved(void **state)
{
    struct fixture *fixture = *state;

    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT_ANSWER, COMMIT, sizeof(COMMIT), NULL);
    expect_answer(fixture, "/?do=note&text=a", "k", 200, "\"id\":1");
    assert_true(pg_proxy_rule_done(fixture->proxy));
    expect_answer(fixture, "/?do=note&text=a", "k", 200, "Idempotency-Replayed: true\r\n");
    database_count(fixture, NOTES, 1);
}

static void test_repeat_finds_out_after_commit_unknown(void **state)
{
    struct fixture *fixture = *state;
    struct caller caller = {.fixture = fixture, .target = "/?do=note&text=a", .key = "k"};

    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT_ANSWER, COMMIT, sizeof(COMMIT), NULL);
    pg_proxy_refuse(fixture->proxy, true); /* and nobody can be asked */
    assert_int_equal(pthread_create(&caller.thread, NULL, call, &caller), 0);
    wait_until(rule_is_done, fixture->proxy, "COMMIT is sent");
    pg_proxy_cut_all(fixture->proxy);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.answer.status, 500);
    assert_true(http_answer_has(&caller.answer, "\"code\":\"commit_unknown\""));
    assert_false(http_answer_has(&caller.answer, "Retry-After"));
    http_answer_release(&caller.answer);
    pg_proxy_refuse(fixture->proxy, false);
    wait_until(answers, fixture, "the runtime answers");
    for (int i = 0; i < 2; i++) {
        struct http_answer answer = ask(fixture, "POST", "/?do=note&text=a", "k", "");
        if (answer.status == 503) /* the pool is not back yet */
            i--;
        else
            assert_true(answer.status == 200 && is_replay(&answer));
        http_answer_release(&answer);
    }
    database_count(fixture, NOTES, 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_repeat_gets_the_stored_answer),
        TEST(test_bare_and_quoted_are_one_key),
        TEST(test_other_request_with_the_key_is_422),
        TEST(test_get_and_head_ignore_it),
        TEST(test_without_a_key_nothing_is_kept),
        TEST(test_malformed_key_is_400),
        cmocka_unit_test_setup_teardown(test_required_key, setup_required, teardown),
        TEST(test_handler_without_database_is_replayed),
        TEST(test_ddl_by_others_is_not_noticed),
        cmocka_unit_test_setup_teardown(test_sql_function, setup_sql, teardown),
        cmocka_unit_test_setup_teardown(test_silent_sql_function, setup_silent_sql, teardown),
        cmocka_unit_test_setup_teardown(test_bodies_that_are_handed_over, setup_stream, teardown),
        cmocka_unit_test_setup_teardown(test_streams_and_early_commits_are_refused, setup_stream, teardown),
        cmocka_unit_test_setup_teardown(test_read_only_handlers_ignore_it, setup_reader, teardown),
        TEST(test_failed_attempt_leaves_nothing),
        TEST(test_repeat_after_a_failure_runs_again),
        TEST(test_late_answer_is_not_stored),
        TEST(test_answers_are_stored_up_to_256_kib),
        TEST(test_repeats_at_once),
        TEST(test_other_keys_at_once),
        cmocka_unit_test_setup_teardown(test_repeatable_read, setup_repeatable_read, teardown),
        cmocka_unit_test_setup_teardown(test_serializable, setup_serializable, teardown),
        cmocka_unit_test_setup_teardown(test_serializable_keys_do_not_fail_each_other, setup_serializable,
                                        teardown),
        TEST(test_second_answer_is_refused),
        TEST(test_answers_are_kept_for_a_day),
        cmocka_unit_test_setup_teardown(test_expired_keys_at_other_levels, setup_serializable, teardown),
        TEST(test_expired_answers_go_in_small_steps),
        TEST(test_crash_between_commit_and_answer),
        TEST(test_crash_before_commit),
        TEST(test_lost_commit_is_resolved),
        TEST(test_repeat_finds_out_after_commit_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
