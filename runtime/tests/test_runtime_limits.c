/* The real runtime at its limits: what is too much, too late or too slow is refused, and nobody else suffers. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_socket.h"

#define CONCURRENCY  4
#define THREADS      (2 * CONCURRENCY + 8)
#define ADMIN_SILENT 12 /* the admin port has 4 threads */

static int setup(void **state)
{
    struct runtime_process *process = xcalloc(1, sizeof(*process));
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .database_url = getenv("TEST_DATABASE_URL"),
        .spec = "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":1,\"concurrency\":4,"
                "\"database\":{\"poolSize\":2}}",
        .env = {"CICADA_FUNCTION_NAME=limits", "CICADA_LOG_LEVEL=error"},
    };

    free(database_value("DROP SCHEMA IF EXISTS runtime_test CASCADE; CREATE SCHEMA runtime_test;"
                        "CREATE TABLE runtime_test.notes (id serial PRIMARY KEY, text text UNIQUE)"));
    runtime_process_start(process, &settings, /* serving= */ true);
    *state = process;
    return 0;
}

static int teardown(void **state)
{
    struct runtime_process *process = *state;

    assert_int_equal(runtime_process_stop(process), 0);
    runtime_process_release(process);
    free(database_value("DROP SCHEMA runtime_test CASCADE"));
    free(process);
    return 0;
}

static char *nested(int depth)
{
    char *text = xcalloc(1, (size_t)depth * 2 + 1);

    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    return text;
}

static void test_json_depth(void **state)
{
    const struct runtime_process *process = *state;
    CLEANUP_FREE char *deep = nested(64);
    CLEANUP_FREE char *too_deep = nested(65);
    CLEANUP_FREE char *far_too_deep = nested(200000);

    http_expect(process->port, "POST", "/", deep, 200, "\"jsonType\":5");
    http_expect(process->port, "POST", "/", too_deep, 400, "\"code\":\"malformed_json\"");
    http_expect(process->port, "POST", "/", far_too_deep, 400, "\"code\":\"malformed_json\"");
}

static void test_headers(void **state)
{
    const struct runtime_process *process = *state;
    CLEANUP_STRBUF struct strbuf headers;
    struct http_answer answer;

    strbuf_init(&headers, 100000);
    for (int i = 0; i < 63; i++) /* and Host, and Connection */
        strbuf_appendf(&headers, "X-%d: x\r\n", i);
    answer = http_ask(process->port, "GET", "/", headers.buf, NULL);
    assert_int_equal(answer.status, 431);
    http_answer_release(&answer);
    strbuf_clear(&headers);
    strbuf_append_str(&headers, "X: ");
    while (headers.len < 40000)
        strbuf_append_char(&headers, 'x');
    strbuf_append_str(&headers, "\r\n");
    answer = http_ask(process->port, "GET", "/", headers.buf, NULL);
    assert_int_equal(answer.status, 400);
    http_answer_release(&answer);
}

static void test_a_slow_body_is_cut_by_the_deadline(void **state)
{
    const struct runtime_process *process = *state;
    CLEANUP_FD int fd = socket_connect(process->port);
    CLEANUP_FREE char *answer = NULL;
    int64_t start_ms = clock_monotonic_ms();
    bool closed;

    socket_send_text(fd, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n");
    for (int i = 0; i < 8; i++) {              /* each byte would restart a time-out of silence */
        (void)!send(fd, "x", 1, MSG_NOSIGNAL); /* on a busy machine it is late already */
        poll(NULL, 0, 100);
    }
    answer = socket_read_all(fd, 3000, &closed);
    assert_non_null(strstr(answer, "HTTP/1.1 408 "));
    assert_non_null(strstr(answer, "\"code\":\"body_timeout\""));
    assert_true(closed);
    assert_in_range(clock_monotonic_ms() - start_ms, 950, 2500);
}

static bool no_statement_is_at_work(void *arg)
{
    CLEANUP_FREE char *count = database_value(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cicada default/limits'"
        " AND state <> 'idle'");

    (void)arg;
    return strcmp(count, "0") == 0;
}

static void test_a_late_statement_is_cancelled(void **state)
{
    const struct runtime_process *process = *state;
    int64_t start_ms = clock_monotonic_ms();

    http_expect(process->port, "POST", "/?do=note&text=late&then=sleep", NULL, 504, ""); /* of 30 s */
    assert_in_range(clock_monotonic_ms() - start_ms, 0, 1500);
    wait_until(no_statement_is_at_work, NULL, "the statement has ended");
    assert_in_range(clock_monotonic_ms() - start_ms, 0, 4000);
    http_expect(process->port, "GET", "/?do=select", NULL, 200,
                ""); /* its connection is fit, or another is there */
}

/* Every thread of the function port is taken, and more connections than that stand in line. */
static void test_the_admin_port_answers_under_any_load(void **state)
{
    const struct runtime_process *process = *state;
    struct http_call calls[2 * CONCURRENCY];
    int silent[ADMIN_SILENT], slow[THREADS];
    int64_t start_ms;

    for (int i = 0; i < THREADS; i++) {
        slow[i] = socket_connect(process->port);
        socket_send_text(slow[i], "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n1");
    }
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        http_call_start(&calls[i], process->port, "GET", "/?do=sleep&ms=600", NULL);
    for (int i = 0; i < ADMIN_SILENT; i++) /* kept by scrapers that have gone quiet */
        silent[i] = socket_connect(process->admin_port);
    for (int i = 0; i < 5; i++) {
        start_ms = clock_monotonic_ms();
        http_expect(process->admin_port, "GET", i % 2 ? "/metrics" : "/livez", NULL, 200, "");
        assert_in_range(clock_monotonic_ms() - start_ms, 0, 3000);
    }
    for (int i = 0; i < ADMIN_SILENT; i++)
        fd_close_p(&silent[i]);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        http_call_join(&calls[i]);
        assert_true(calls[i].answer.status != 0); /* late, or told to come again, but answered */
        http_answer_release(&calls[i].answer);
    }
    for (int i = 0; i < THREADS; i++)
        fd_close_p(&slow[i]);
}

struct figures {
    const struct runtime_process *process;
    int in_flight, waiting;
};

static bool are_so(void *arg)
{
    const struct figures *figures = arg;
    struct http_answer answer = http_ask(figures->process->admin_port, "GET", "/statz", "", NULL);
    CLEANUP_FREE char *expected =
        xasprintf("\"inFlight\":%d,\"waiting\":%d,", figures->in_flight, figures->waiting);
    bool so = http_answer_has(&answer, expected);

    http_answer_release(&answer);
    return so;
}

static void wait_for(const struct runtime_process *process, int in_flight, int waiting)
{
    struct figures figures = {process, in_flight, waiting};
    wait_until(are_so, &figures, "so many are at work and so many wait");
}

static long ended_ms(const struct http_call *call)
{
    return call->started_ms + call->took_ms;
}

/* Places are given in the order in which requests came: all that wait get the one place that becomes free. */
static void test_fair_order(void **state)
{
    enum { PLACES = 3 };
    struct runtime_process process;
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .spec = "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":20,\"concurrency\":3}",
        .env = {"CICADA_LOG_LEVEL=error"},
    };
    struct http_call busy[PLACES], calls[PLACES];

    (void)state;
    runtime_process_start(&process, &settings, /* serving= */ true);
    for (int i = 0; i < PLACES; i++)
        http_call_start(&busy[i], process.port, "GET", i == 0 ? "/?do=sleep&ms=2000" : "/?do=sleep&ms=4000",
                        NULL);
    wait_for(&process, PLACES, 0);
    for (int i = 0; i < PLACES; i++) {
        http_call_start(&calls[i], process.port, "GET", "/?do=sleep&ms=100", NULL);
        wait_for(&process, PLACES, i + 1);
    }
    for (int i = 0; i < PLACES; i++) {
        http_call_join(&calls[i]);
        assert_int_equal(calls[i].answer.status, 200);
        if (i > 0)
            assert_true(ended_ms(&calls[i]) >= ended_ms(&calls[i - 1]));
        http_answer_release(&calls[i].answer);
    }
    for (int i = 0; i < PLACES; i++) {
        http_call_join(&busy[i]);
        http_answer_release(&busy[i].answer);
    }
    assert_int_equal(runtime_process_stop(&process), 0);
    runtime_process_release(&process);
}

#define OPEN_CONNECTIONS 1000

/* More than there are threads (16) and places in CivetWeb's line (512): the rest is the kernel's. */
static void test_1000_open_connections(void **state)
{
    const struct runtime_process *process = *state;
    int *fds = xcalloc(OPEN_CONNECTIONS, sizeof(*fds));
    int answered = 0, refused = 0;
    int64_t start_ms;

    wait_for(process, 0, 0);
    start_ms = clock_monotonic_ms();
    for (int i = 0; i < OPEN_CONNECTIONS; i++) {
        fds[i] = socket_connect(process->port);
        socket_send_text(fds[i], "GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    }
    for (int i = 0; i < OPEN_CONNECTIONS; i++) {
        CLEANUP_FREE char *answer = socket_read_answer(fds[i]);
        answered += strncmp(answer, "HTTP/1.1 200 ", 13) == 0;
        refused += strstr(answer, "HTTP/1.1 503 ") != NULL && strstr(answer, "Retry-After: ") != NULL;
    }
    print_message("%d answered, %d told to come again, in %lld ms\n", answered, refused,
                  (long long)(clock_monotonic_ms() - start_ms));
    assert_int_equal(answered + refused, OPEN_CONNECTIONS);
    assert_in_range(answered, OPEN_CONNECTIONS / 2, OPEN_CONNECTIONS);
    for (int i = 0; i < OPEN_CONNECTIONS; i++)
        fd_close_p(&fds[i]);
    free(fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_depth),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_a_slow_body_is_cut_by_the_deadline),
        cmocka_unit_test(test_a_late_statement_is_cancelled),
        cmocka_unit_test(test_the_admin_port_answers_under_any_load),
        cmocka_unit_test(test_fair_order),
        cmocka_unit_test(test_1000_open_connections),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
