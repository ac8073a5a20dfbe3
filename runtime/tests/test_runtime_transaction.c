/* One transaction per invocation, as a caller sees it: the answer and the database never disagree, whatever breaks between them. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_socket.h"

#define SPEC                                                                                                 \
    "{\"handler\":\"stream.so:writer\",\"timeoutSeconds\":2,\"concurrency\":4,\"database\":{\"poolSize\":1}" \
    "}"

struct fixture {
    struct pg_proxy *proxy;
    struct runtime_process process;
};

/* The note 5 takes 0.4 s at COMMIT. */
static int set_up(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    struct runtime_process_settings settings = {.functions = "test-functions", .spec = SPEC};

    pgtest_exec(
        "DROP SCHEMA IF EXISTS stream_test CASCADE; CREATE SCHEMA stream_test;"
        "CREATE TABLE stream_test.notes (id int PRIMARY KEY);"
        "CREATE FUNCTION stream_test.slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON stream_test.notes DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.id = 5) EXECUTE FUNCTION stream_test.slow()");
    fixture->proxy = pg_proxy_new(pgtest_port());
    settings.database_url = pg_proxy_url(fixture->proxy);
    runtime_process_start(&fixture->process, &settings, /* serving= */ true);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    runtime_process_release(&fixture->process);
    pg_proxy_free(fixture->proxy);
    free(fixture);
    pgtest_exec("DROP SCHEMA stream_test CASCADE");
    return 0;
}

static void expect_notes(int64_t count)
{
    assert_int_equal(pgtest_int("SELECT count(*) FROM stream_test.notes"), count);
    pgtest_exec("TRUNCATE stream_test.notes");
}

static void test_no_byte_before_the_commit(void **state)
{
    static const char *const targets[] = {"/?do=each&ids=5", "/?do=pieces&pieces=2&bytes=3&id=5"};
    struct fixture *fixture = *state;

    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        CLEANUP_FREE char *request = xasprintf(
            "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", targets[i]);
        CLEANUP_FREE char *text = NULL;
        int fd = socket_connect(fixture->process.port);
        struct pollfd answer = {.fd = fd, .events = POLLIN};
        int64_t begin_ms = clock_monotonic_ms();
        bool closed;

        socket_send_text(fd, request);
        assert_int_equal(poll(&answer, 1, 300), 0);
        text = socket_read_all(fd, 2000, &closed);
        assert_true(clock_monotonic_ms() - begin_ms >= 390);
        assert_int_equal(strncmp(text, "HTTP/1.1 200 ", 13), 0);
        close(fd);
        expect_notes(1);
    }
}

/* The pool has one connection: a body that is slow to come does not hold it. */
static void test_body_is_read_before_a_connection_is_taken(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *text = NULL;
    int fd = socket_connect(fixture->process.port);
    bool closed;

    socket_send_text(
        fd, "POST /?do=each&ids=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{");
    poll(NULL, 0, 100);
    http_expect(fixture->process.port, "POST", "/?do=each&ids=2", NULL, 200, "");
    assert_int_equal(pgtest_int("SELECT count(*) FROM stream_test.notes"), 1);
    socket_send_text(fd, "}");
    text = socket_read_all(fd, 2000, &closed);
    assert_int_equal(strncmp(text, "HTTP/1.1 200 ", 13), 0);
    close(fd);
    expect_notes(2);
}

/* With the NUL behind it: BEGIN says READ COMMITTED. */
static void break_at_commit(struct fixture *fixture, enum pg_proxy_action action)
{
    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, action, "COMMIT\0", 7, NULL);
}

/* Ordinary, early and streamed. */
static const char *const commits[] = {"/?do=each&ids=1", "/?do=commit&id=1",
                                      "/?do=pieces&pieces=1&bytes=3&id=1"};

static void test_lost_answer_to_commit_is_resolved(void **state)
{
    struct fixture *fixture = *state;

    for (size_t i = 0; i < ARRAY_SIZE(commits); i++) {
        break_at_commit(fixture, PG_PROXY_CUT_ANSWER);
        http_expect(fixture->process.port, "POST", commits[i], NULL, 200, "");
        assert_true(pg_proxy_rule_done(fixture->proxy));
        expect_notes(1);
    }
}

static void test_lost_commit_is_503(void **state)
{
    struct fixture *fixture = *state;

    for (size_t i = 0; i < ARRAY_SIZE(commits); i++) {
        break_at_commit(fixture, PG_PROXY_CUT);
        http_expect(fixture->process.port, "POST", commits[i], NULL, 503,
                    "\"code\":\"database_connection_lost\"");
        assert_true(pg_proxy_rule_done(fixture->proxy));
        expect_notes(0);
    }
}

static void test_unknown_commit(void **state)
{
    struct fixture *fixture = *state;

    for (size_t i = 0; i < ARRAY_SIZE(commits); i++) {
        struct http_answer answer;

        http_expect(fixture->process.port, "POST", "/?do=each&ids=2", NULL, 200, "");
        break_at_commit(fixture, PG_PROXY_CUT_ANSWER);
        pg_proxy_refuse(fixture->proxy, true);
        answer = http_ask(fixture->process.port, "POST", commits[i], "", NULL);
        assert_int_equal(answer.status, 500);
        assert_true(http_answer_has(&answer, "\"code\":\"commit_unknown\""));
        assert_false(http_answer_has(&answer, "Retry-After"));
        http_answer_release(&answer);
        pg_proxy_refuse(fixture->proxy, false);
        expect_notes(2);
    }
}

/* The status that the server reports is not that of an open transaction: whatever the handler says, it is no success. */
static void test_status_or_tag_that_changed(void **state)
{
    struct fixture *fixture = *state;

    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_CLIENT, PG_PROXY_REPLACE, "COMMIT\0", 7, "ROLLBA\0");
    http_expect(fixture->process.port, "POST", "/?do=each&ids=1", NULL, 500,
                "\"code\":\"transaction_failed\"");
    pgtest_exec("TRUNCATE stream_test.notes"); /* this proxy lied: it was committed */
    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_CLIENT, PG_PROXY_REPLACE, "Z\0\0\0\5T", 6, "Z\0\0\0\5I");
    http_expect(fixture->process.port, "POST", "/?do=each&ids=1", NULL, 500,
                "\"code\":\"transaction_failed\"");
    http_expect(fixture->process.port, "POST", "/?do=each&ids=1", NULL, 200, "");
    expect_notes(1);
}

/* BEGIN, its limits and the first statement are one flight: the statement has run although nothing of an answer came back. */
static void test_begin_travels_with_the_first_statement(void **state)
{
    struct fixture *fixture = *state;

    pgtest_exec("CREATE SEQUENCE stream_test.seen; ALTER TABLE stream_test.notes ADD seen bigint DEFAULT "
                "nextval('stream_test.seen')");
    http_expect(fixture->process.port, "POST", "/?do=each&ids=1", NULL, 200, "");
    pg_proxy_cut_all(fixture->proxy); /* a new connection sends BEGIN as text, and prepares it */
    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT_ANSWER, "BEGIN ISO", 9, NULL);
    http_expect(fixture->process.port, "POST", "/?do=each&ids=2", NULL, 503,
                "\"code\":\"database_connection_lost\"");
    pgtest_wait_int("SELECT last_value FROM stream_test.seen", 2);
    expect_notes(1);
    pgtest_exec("ALTER TABLE stream_test.notes DROP seen; DROP SEQUENCE stream_test.seen");
}

/* The plan of a prepared statement is stale: it is made anew, and the caller sees nothing of it. */
static void test_ddl_by_others(void **state)
{
    struct fixture *fixture = *state;

    http_expect(fixture->process.port, "POST", "/?do=commit&id=1", NULL, 200, "{\"id\":1}");
    pgtest_exec(
        "DROP TRIGGER slow ON stream_test.notes; ALTER TABLE stream_test.notes ALTER COLUMN id TYPE bigint");
    http_expect(fixture->process.port, "POST", "/?do=commit&id=2", NULL, 200, "{\"id\":2}");
    expect_notes(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_byte_before_the_commit),
        cmocka_unit_test(test_body_is_read_before_a_connection_is_taken),
        cmocka_unit_test(test_lost_answer_to_commit_is_resolved),
        cmocka_unit_test(test_lost_commit_is_503),
        cmocka_unit_test(test_unknown_commit),
        cmocka_unit_test(test_status_or_tag_that_changed),
        cmocka_unit_test(test_begin_travels_with_the_first_statement),
        cmocka_unit_test(test_ddl_by_others),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
