/* What handlers do before they return, through the real runtime: errors taken back, early commits, bodies handed over, streams. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_socket.h"

#define SPEC(handler)                                                                                        \
    "{\"handler\":\"stream.so:" handler                                                                      \
    "\",\"timeoutSeconds\":1,\"idleTimeoutSeconds\":1,\"concurrency\":4,"                                    \
    "\"drainSeconds\":5,\"limits\":{\"responseBytes\":20000},\"database\":{\"poolSize\":2}}"

struct fixture {
    struct runtime_process writer, reader;
};

static void start(struct runtime_process *process, const char *spec)
{
    const struct runtime_process_settings settings = {
        .functions = "test-functions", .database_url = getenv("TEST_DATABASE_URL"), .spec = spec};

    runtime_process_start(process, &settings, /* serving= */ true);
}

static int set_up(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));

    free(database_value("DROP SCHEMA IF EXISTS stream_test CASCADE; CREATE SCHEMA stream_test;"
                        "CREATE TABLE stream_test.notes (id int PRIMARY KEY);"
                        "CREATE TABLE stream_test.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"));
    start(&fixture->writer, SPEC("writer"));
    start(&fixture->reader, SPEC("reader"));
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    runtime_process_release(&fixture->writer);
    runtime_process_release(&fixture->reader);
    free(database_value("DROP SCHEMA stream_test CASCADE"));
    free(fixture);
    return 0;
}

static void expect_notes(const char *expected)
{
    CLEANUP_FREE char *found =
        database_value("SELECT coalesce(string_agg(id::text, '' ORDER BY id), '') FROM stream_test.notes");

    assert_string_equal(found, expected);
    free(database_value("TRUNCATE stream_test.notes"));
}

static void expect_log(const struct runtime_process *process, const char *text)
{
    CLEANUP_FREE char *log = runtime_process_read(process->log_path);

    if (strstr(log, text) == NULL)
        fail_msg("no <%s> in: %s", text, log);
}

/* ---- the transaction ---- */

static void test_savepoints(void **state)
{
    int port = ((struct fixture *)*state)->writer.port;

    http_expect(port, "POST", "/?do=each&ids=1213314", NULL, 200, "\r\n\r\n4");
    expect_notes("1234");
    http_expect(port, "POST", "/?do=each&ids=12x", NULL, 422,
                "\"code\":\"data_exception\""); /* not taken back */
    expect_notes("");
    http_expect(port, "POST", "/?do=nest&depth=16", NULL, 200, "");
    expect_notes("1");
    http_expect(port, "POST", "/?do=nest&depth=17", NULL, 500, "\"code\":\"statement_refused\"");
    expect_notes("");
}

static void test_early_commit(void **state)
{
    int port = ((struct fixture *)*state)->writer.port;

    http_expect(port, "POST", "/?do=commit&id=1", NULL, 200, "{\"id\":1}");
    http_expect(port, "POST", "/?do=commit&id=2&then=twice", NULL, 200, "{\"id\":2}");
    http_expect(port, "POST", "/?do=commit&id=3&then=409", NULL, 409, "\"code\":\"too_late\"");
    http_expect(port, "POST", "/?do=commit&id=4&then=fail", NULL, 500, "\"code\":\"handler_failed\"");
    http_expect(port, "POST", "/?do=commit&id=5&then=query", NULL, 500, "\"code\":\"statement_refused\"");
    http_expect(port, "POST", "/?do=commit&id=5", NULL, 409, "\"code\":\"unique_violation\"");
    expect_notes("12345");
}

/* The answer follows the database, whatever the handler returns. */
static void test_early_commit_that_fails(void **state)
{
    int port = ((struct fixture *)*state)->writer.port;

    http_expect(port, "POST", "/?do=commit&id=1&then=deferred", NULL, 409, "\"code\":\"unique_violation\"");
    http_expect(port, "POST", "/?do=commit&id=1&then=deferred&anyway=1", NULL, 409,
                "\"code\":\"unique_violation\"");
    expect_notes("");
}

struct backends {
    const char *sql;
};

static bool connection_is_free(void *arg)
{
    struct backends *backends = arg;
    CLEANUP_FREE char *count = database_value(backends->sql);

    return strcmp(count, "0") == 0;
}

/* What is slow after the commit holds no connection, and the 504 says what became of the transaction. */
static void test_slow_after_early_commit(void **state)
{
    struct fixture *fixture = *state;
    struct backends in_transaction = {
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        " AND application_name LIKE 'cicada %'"};
    struct http_call calls[3];

    for (int i = 0; i < 3; i++) { /* more than poolSize */
        static const char *const targets[] = {"/?do=commit&id=1&then=sleep&ms=600",
                                              "/?do=commit&id=2&then=sleep&ms=600",
                                              "/?do=commit&id=3&then=sleep&ms=600"};
        http_call_start(&calls[i], fixture->writer.port, "POST", targets[i], NULL);
    }
    wait_until(connection_is_free, &in_transaction, "nothing is in a transaction");
    for (int i = 0; i < 3; i++) {
        http_call_join(&calls[i]);
        assert_int_equal(calls[i].answer.status, 200);
        assert_in_range(calls[i].took_ms, 550, 950);
        http_answer_release(&calls[i].answer);
    }
    http_expect(fixture->writer.port, "POST", "/?do=commit&id=4&then=sleep&ms=1300", NULL, 504,
                "\"code\":\"deadline_exceeded_after_commit\"");
    expect_notes("1234");
}

static void test_read_only(void **state)
{
    struct fixture *fixture = *state;

    http_expect(fixture->reader.port, "POST", "/?do=insert", NULL, 500, "\"code\":\"read_only_transaction\"");
    http_expect(fixture->reader.port, "POST", "/?do=commit&id=1", NULL, 500,
                "\"code\":\"read_only_transaction\"");
    http_expect(fixture->writer.port, "POST", "/?do=rows", NULL, 500, "\"code\":\"statement_refused\"");
    expect_notes("");
}

/* ---- bodies that are handed over ---- */

static void test_bodies_are_released_once(void **state)
{
    int port = ((struct fixture *)*state)->writer.port;

    http_expect(port, "GET", "/?do=take&bytes=5", NULL, 200, "text/plain\r\n");
    http_expect(port, "GET", "/?do=take&bytes=5", NULL, 200, "\r\n\r\nxxxxx");
    http_expect(port, "GET", "/?do=take&bytes=20000", NULL, 200, "Content-Length: 20000\r\n");
    http_expect(port, "GET", "/?do=take&bytes=20001", NULL, 500, "\"code\":\"result_too_large\"");
    http_expect(port, "GET", "/?do=take&bytes=0", NULL, 200, "Content-Length: 0\r\n");
    http_expect(port, "GET", "/?do=take&bytes=5&then=again", NULL, 200, "\r\n\r\nconstant");
    http_expect(port, "GET", "/?do=take&bytes=5&then=json", NULL, 200, "\r\n\r\n7");
    http_expect(port, "GET", "/?do=take&bytes=5&then=problem", NULL, 409, "\"code\":\"planned\"");
    http_expect(port, "GET", "/?do=take&bytes=5&then=fail", NULL, 500, "\"code\":\"handler_failed\"");
    http_expect(port, "GET", "/?do=take&bytes=5&then=stream", NULL, 200, "5\r\nxxxxx\r\n1\r\ny\r\n0\r\n\r\n");
    http_expect(port, "HEAD", "/?do=take&bytes=5", NULL, 200, "Content-Length: 5\r\n");
    http_expect(port, "GET", "/?do=releases", NULL, 200, "\r\n\r\n11");
}

/* ---- streams ---- */

static void expect_cut(int port, const char *method, const char *target, const char *piece)
{
    struct http_answer answer = http_ask(port, method, target, "", NULL);

    assert_int_equal(answer.status, 200);
    assert_true(http_answer_has(&answer, "Transfer-Encoding: chunked\r\n"));
    assert_true(http_answer_has(&answer, piece));
    assert_null(strstr(answer.body, "\r\n0\r\n"));
    http_answer_release(&answer);
}

static void test_pieces(void **state)
{
    int port = ((struct fixture *)*state)->writer.port;
    struct http_answer answer = http_ask(port, "POST", "/?do=pieces&pieces=3&bytes=4&id=1", "", NULL);

    assert_int_equal(answer.status, 200);
    assert_true(http_answer_has(&answer, "Content-Type: text/plain\r\n"));
    assert_true(http_answer_has(&answer, "X-Request-Id: "));
    assert_string_equal(answer.body, "4\r\npppp\r\n4\r\npppp\r\n4\r\npppp\r\n0\r\n\r\n");
    http_answer_release(&answer);
    /* Of any number and size: limits.responseBytes is for answers that are kept in memory. */
    answer = http_ask(port, "GET", "/?do=pieces&pieces=10&bytes=300000", "", NULL);
    assert_true(strlen(answer.body) > 3000000);
    assert_string_equal(answer.body + strlen(answer.body) - 7, "\r\n0\r\n\r\n");
    http_answer_release(&answer);
    http_expect(port, "POST", "/?do=pieces&pieces=1&bytes=4&id=2&then=status", NULL, 404,
                "4\r\npppp\r\n0\r\n\r\n");
    expect_notes("1"); /* 404 rolls back */
}

static void test_json_in_pieces(void **state)
{
    int port = ((struct fixture *)*state)->writer.port;

    http_expect(port, "GET", "/?do=json&pieces=7", NULL, 200, "Content-Type: application/json\r\n");
    http_expect(port, "GET", "/?do=json&pieces=7", NULL, 200,
                "\r\n\r\n6\r\n[1,2,3\r\n6\r\n,4,5,6\r\n3\r\n,7]\r\n0\r\n\r\n");
    http_expect(port, "GET", "/?do=json&pieces=2", NULL, 200, "\r\n\r\n[1,2]"); /* nothing was streamed */
    expect_cut(port, "GET", "/?do=json&pieces=7&then=open", ",4,5,6\r\n");
    expect_log(&((struct fixture *)*state)->writer,
               "the answer was cut: JSON: not all objects and arrays were ended");
}

/* The first piece commits: nothing of the answer leaves before, and no more of the database is possible after. */
static void test_first_piece_commits(void **state)
{
    struct fixture *fixture = *state;
    int port = fixture->writer.port;

    http_expect(port, "POST", "/?do=pieces&pieces=1&bytes=1&id=1&then=deferred", NULL, 409,
                "\"code\":\"unique_violation\"");
    expect_notes("");
    http_expect(port, "POST", "/?do=pieces&pieces=1&bytes=1&id=1&then=query", NULL, 200,
                "1\r\np\r\n5\r\nfalse\r\n0\r\n\r\n");
    expect_notes("1");
    expect_cut(port, "POST", "/?do=pieces&pieces=1&bytes=1&id=2&then=fail", "1\r\np\r\n");
    expect_log(&fixture->writer, "the answer was cut: the handler failed");
    expect_cut(port, "POST", "/?do=pieces&pieces=1&bytes=1&id=3&then=header", "1\r\np\r\n");
    expect_log(&fixture->writer,
               "the answer was cut: status, headers or body were set after the answer had begun");
    expect_notes("23");
}

static void test_head_and_http_1_0(void **state)
{
    int port = ((struct fixture *)*state)->writer.port;
    struct http_answer answer = http_ask(port, "HEAD", "/?do=pieces&pieces=3&bytes=4&id=1", "", NULL);
    bool closed;
    char *text;
    int fd;

    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "");
    http_answer_release(&answer);
    expect_notes("1");
    text = socket_exchange(port, "GET /?do=pieces&pieces=3&bytes=4 HTTP/1.0\r\n\r\n");
    assert_non_null(strstr(text, "\r\n\r\npppppppppppp"));
    assert_null(strstr(text, "chunked"));
    free(text);
    /* Without chunks only a reset tells that something is missing. */
    fd = socket_connect(port);
    socket_send_text(fd, "GET /?do=pieces&pieces=2&bytes=4&ms=50&then=fail HTTP/1.0\r\n\r\n");
    text = xcalloc(1, 4096);
    for (ssize_t got = 1, at = 0; got > 0; at += got)
        got = recv(fd, text + at, (size_t)(4095 - at), 0);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
    free(text);
    fd = socket_connect(port); /* a connection that is kept serves the next request after a stream */
    socket_send_text(fd, "GET /?do=pieces&pieces=1&bytes=1 HTTP/1.1\r\nHost: x\r\n\r\n"
                         "GET /?do=take&bytes=3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    text = socket_read_all(fd, 2000, &closed);
    assert_non_null(strstr(text, "1\r\np\r\n0\r\n\r\nHTTP/1.1 200"));
    assert_non_null(strstr(text, "\r\n\r\nxxx"));
    close(fd);
    free(text);
}

static void expect_lines(const char *body, int rows)
{
    int lines = 0;

    for (const char *p = body; (p = strchr(p, '\n')) != NULL; p++)
        lines += p > body && p[-1] != '\r';
    assert_int_equal(lines, rows);
}

static void test_rows(void **state)
{
    struct fixture *fixture = *state;
    int port = fixture->reader.port;
    struct http_answer answer = http_ask(port, "GET", "/?rows=3", "", NULL);

    assert_true(http_answer_has(&answer, "Content-Type: text/csv\r\n"));
    assert_string_equal(answer.body, "2\r\n1\n\r\n2\r\n2\n\r\n2\r\n3\n\r\n0\r\n\r\n");
    http_answer_release(&answer);
    http_expect(port, "GET", "/?rows=3&then=count", NULL, 200, "2\r\n3\n\r\n5\r\nend,0\r\n0\r\n\r\n");
    answer = http_ask(port, "GET", "/?rows=20000&wide=500", "", NULL);
    expect_lines(answer.body, 20000);
    http_answer_release(&answer);
    http_expect(port, "GET", "/?rows=0", NULL, 200, "Content-Length: 0\r\n");
    http_expect(port, "GET", "/?rows=3&fail=1", NULL, 422,
                "\"code\":\"data_exception\""); /* nothing was sent yet */
    expect_cut(port, "GET", "/?rows=9&fail=4&wide=5000", "3,x");
    expect_cut(port, "GET", "/?rows=9&fail=4&wide=5000&anyway=1", "3,x");
    expect_log(&fixture->reader, "the answer was cut: division by zero");
    expect_cut(port, "GET", "/?rows=9&then=query", "1\n");
    expect_cut(port, "GET", "/?rows=9&then=stop", "1\n");
    http_expect(port, "GET", "/?rows=1", NULL, 200, "2\r\n1\n\r\n0\r\n\r\n");
}

/* timeoutSeconds is 1: it ends with the first byte, and so does that of the statement. */
static void test_streams_outlive_the_deadline(void **state)
{
    struct fixture *fixture = *state;
    struct http_call calls[2];

    http_call_start(&calls[0], fixture->writer.port, "GET", "/?do=pieces&pieces=5&bytes=1&ms=500", NULL);
    http_call_start(&calls[1], fixture->reader.port, "GET", "/?rows=25&ms=100&then=count", NULL);
    for (int i = 0; i < 2; i++)
        http_call_join(&calls[i]);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(calls[i].answer.status, 200);
        if (strstr(calls[i].answer.body, "\r\n0\r\n\r\n") == NULL)
            fail_msg("not the whole: %s", calls[i].answer.text);
        assert_in_range(calls[i].took_ms, 2400, 4000);
        http_answer_release(&calls[i].answer);
    }
}

struct log_wait {
    const struct runtime_process *process;
    const char *text;
};

static bool is_logged(void *arg)
{
    const struct log_wait *wait = arg;
    CLEANUP_FREE char *log = runtime_process_read(wait->process->log_path);

    return strstr(log, wait->text) != NULL;
}

/* idleTimeoutSeconds is 1. */
static void test_silence_is_cut(void **state)
{
    struct fixture *fixture = *state;
    struct log_wait cut = {&fixture->writer, "the answer was cut: it was silent for too long"};
    struct http_call calls[2];

    http_call_start(&calls[0], fixture->writer.port, "GET", "/?do=pieces&pieces=2&bytes=1&ms=1800", NULL);
    http_call_start(&calls[1], fixture->reader.port, "GET", "/?rows=2&ms=1800", NULL);
    for (int i = 0; i < 2; i++) {
        http_call_join(&calls[i]);
        assert_null(strstr(calls[i].answer.text, "\r\n0\r\n\r\n"));
    }
    assert_in_range(calls[0].took_ms, 900, 1700);  /* while the handler still sleeps */
    assert_int_equal(calls[1].answer.status, 504); /* the first piece came too late: an ordinary answer */
    http_answer_release(&calls[0].answer);
    http_answer_release(&calls[1].answer);
    wait_until(is_logged, &cut, "the handler has returned");
    expect_log(&fixture->writer, "the stream failed");
}

static int begin_and_do_not_read(int port, const char *target)
{
    CLEANUP_FREE char *request = xasprintf("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
    int fd = socket_connect(port), small = 4096;

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    socket_send_text(fd, request);
    return fd;
}

/* A peer that does not read blocks its handler for idleTimeoutSeconds; the rows wait in the server meanwhile. */
static void test_peer_that_does_not_read(void **state)
{
    struct fixture *fixture = *state;
    struct backends reading = {"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series%'"
                               " AND state <> 'idle' AND application_name LIKE 'cicada %'"};
    int64_t begin_ms = clock_monotonic_ms();
    int first = begin_and_do_not_read(fixture->writer.port, "/?do=pieces&pieces=1000&bytes=100000");
    int second = begin_and_do_not_read(fixture->reader.port, "/?rows=100000&wide=500");
    struct log_wait cut = {&fixture->reader, "did not read for too long"};

    wait_until(is_logged, &cut, "the reader's answer is cut");
    assert_true(clock_monotonic_ms() - begin_ms >= 950);
    wait_until(connection_is_free, &reading, "the statement has ended");
    close(first);
    close(second);
    http_expect(fixture->reader.port, "GET", "/?rows=1", NULL, 200, "2\r\n1\n\r\n0\r\n\r\n");
}

/* But one that reads slowly is served. */
static void test_slow_peer_is_served(void **state)
{
    struct fixture *fixture = *state;
    int64_t begin_ms = clock_monotonic_ms();
    int fd = socket_connect(fixture->reader.port);
    size_t total = 0;
    char piece[65536], last[8] = "";

    socket_send_text(fd, "GET /?rows=20000&wide=1000 HTTP/1.1\r\nHost: x\r\n\r\n");
    for (;;) {
        ssize_t got = recv(fd, piece, sizeof(piece), 0);
        if (got <= 0)
            break;
        total += (size_t)got;
        if (got >= 7)
            snprintf(last, sizeof(last), "%.7s", piece + got - 7);
        if (strcmp(last, "\r\n0\r\n\r\n") == 0)
            break;
        poll(NULL, 0, 3);
    }
    close(fd);
    assert_string_equal(last, "\r\n0\r\n\r\n");
    assert_true(total > 40000000);
    assert_true(clock_monotonic_ms() - begin_ms > 1500);
}

static void test_peer_that_goes_away(void **state)
{
    struct fixture *fixture = *state;
    struct log_wait gone = {&fixture->reader, "the answer was cut: the peer is gone"};
    int fd = begin_and_do_not_read(fixture->reader.port, "/?rows=1000&ms=20");
    char byte;

    assert_int_equal(recv(fd, &byte, 1, 0), 1);
    close(fd);
    wait_until(is_logged, &gone, "the handler has noticed");
}

/* More than drainSeconds' start is needed: the stream began before SIGTERM and ends after it. */
static void test_drain_waits_for_streams(void **state)
{
    struct runtime_process process;
    struct http_call call;

    (void)state;
    start(&process, SPEC("reader"));
    http_call_start(&call, process.port, "GET", "/?rows=30&ms=100", NULL);
    poll(NULL, 0, 300);
    assert_int_equal(runtime_process_stop(&process), 0);
    http_call_join(&call);
    expect_lines(call.answer.body, 30);
    assert_non_null(strstr(call.answer.body, "\r\n0\r\n\r\n"));
    http_answer_release(&call.answer);
    runtime_process_release(&process);
}

/* A stream takes a place as long as it lasts, and is counted when it ended. */
static void test_streams_are_in_flight(void **state)
{
    struct fixture *fixture = *state;
    struct http_call call;

    http_call_start(&call, fixture->writer.port, "GET", "/?do=pieces&pieces=3&bytes=1&ms=300", NULL);
    poll(NULL, 0, 400);
    http_expect(fixture->writer.admin_port, "GET", "/statz", NULL, 200, "{\"inFlight\":1,");
    http_call_join(&call);
    http_answer_release(&call.answer);
    http_expect(fixture->writer.admin_port, "GET", "/statz", NULL, 200, "{\"inFlight\":0,");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_savepoints),
        cmocka_unit_test(test_early_commit),
        cmocka_unit_test(test_early_commit_that_fails),
        cmocka_unit_test(test_slow_after_early_commit),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_bodies_are_released_once),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_json_in_pieces),
        cmocka_unit_test(test_first_piece_commits),
        cmocka_unit_test(test_head_and_http_1_0),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_streams_outlive_the_deadline),
        cmocka_unit_test(test_silence_is_cut),
        cmocka_unit_test(test_peer_that_does_not_read),
        cmocka_unit_test(test_slow_peer_is_served),
        cmocka_unit_test(test_peer_that_goes_away),
        cmocka_unit_test(test_drain_waits_for_streams),
        cmocka_unit_test(test_streams_are_in_flight),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
