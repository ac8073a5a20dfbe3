/* SIGTERM to the real runtime under load: no answer is lost or cut, and the process is gone in time. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_gateway.h"
#include "runtime/tests/support_http_load.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_socket.h"

#define SPEC    "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":10,\"drainSeconds\":8,\"concurrency\":6}"
#define CLIENTS 6

struct fixture {
    struct fake_gateway gateway;
    struct runtime_process process;
};

/* The gateway says 200 to the announcement, and acknowledges the goodbye when it is asked for the second time. */
static int setup(void **state)
{
    static const int statuses[] = {200, 503, 200};
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    CLEANUP_FREE char *where = NULL;
    struct runtime_process_settings settings = {.functions = "test-functions", .spec = SPEC};

    fake_gateway_start(&fixture->gateway, "127.0.0.1", 0, statuses, 3);
    where = xasprintf("CICADA_GATEWAY=127.0.0.1:%d", fixture->gateway.port);
    settings.env[0] = where;
    settings.env[1] = "CICADA_LOG_LEVEL=warn";
    runtime_process_start(&fixture->process, &settings, /* serving= */ true);
    wait_until(fake_gateway_was_announced, &fixture->gateway, "the pod is announced");
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    runtime_process_release(&fixture->process);
    fake_gateway_stop(&fixture->gateway);
    free(fixture);
    return 0;
}

static void pause_ms(int ms)
{
    poll(NULL, 0, ms);
}

/* From the signal to the end of the process. */
static int64_t end_ms(struct runtime_process *process, int expected_code)
{
    int64_t start_ms = clock_monotonic_ms();

    assert_int_equal(runtime_process_stop(process), expected_code);
    return clock_monotonic_ms() - start_ms;
}

/* ---- under load ---- */

struct client {
    pthread_t thread;
    struct fixture *fixture;
    struct http_load load;
    int requests; /* per batch */
    bool keeps;
};

/* As a gateway: nothing new once the goodbye has been heard. */
static void *client_main(void *arg)
{
    struct client *client = arg;
    const struct http_load_batch batch = {.requests = client->requests, .close_at_end = !client->keeps};

    while (fake_gateway_goodbyes(&client->fixture->gateway) == 0 && http_load_run(&client->load, &batch))
        continue;
    return NULL;
}

static void test_no_answer_is_lost_or_cut(void **state)
{
    struct fixture *fixture = *state;
    struct client clients[CLIENTS];
    int64_t took_ms;

    for (int i = 0; i < CLIENTS; i++) { /* kept, kept and pipelined, new ones */
        clients[i] = (struct client){.fixture = fixture, .requests = i % 3 == 1 ? 6 : 1, .keeps = i % 3 != 2};
        http_load_init(&clients[i].load, fixture->process.port, (uint64_t)i + 1);
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]), 0);
    }
    pause_ms(300);
    took_ms = end_ms(&fixture->process, 0);
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        assert_string_equal(clients[i].load.error, "");
        assert_true(clients[i].load.answered > 10);
        http_load_release(&clients[i].load);
    }
    assert_in_range(took_ms, 50, 2000); /* acknowledged: no 2 s of quiet are needed */
    assert_int_equal(fake_gateway_goodbyes(&fixture->gateway), 2);
}

static void test_slow_bodies_and_handlers_end(void **state)
{
    struct fixture *fixture = *state;
    struct http_call slow;
    int port = fixture->process.port;
    CLEANUP_FD int body = socket_connect(port);
    CLEANUP_FD int chunked = socket_connect(port);
    CLEANUP_FREE char *body_answer = NULL;
    CLEANUP_FREE char *chunked_answer = NULL;

    http_call_start(&slow, port, "GET", "/?do=sleep&ms=700", NULL);
    socket_send_text(
        body,
        "POST /?do=body HTTP/1.1\r\nHost: t\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n0123");
    socket_send_text(chunked, "POST /?do=body HTTP/1.1\r\nHost: t\r\nContent-Type: "
                              "text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n");
    pause_ms(150);
    kill(fixture->process.pid, SIGTERM);
    pause_ms(400); /* the goodbye is acknowledged by now */
    socket_send_text(body, "456789");
    socket_send_text(chunked, "2\r\nef\r\n0\r\n\r\n");
    body_answer = socket_read_answer(body);
    chunked_answer = socket_read_answer(chunked);
    assert_non_null(strstr(body_answer, "\r\n\r\n0123456789"));
    assert_non_null(strstr(chunked_answer, "\r\n\r\nabcdef"));
    assert_non_null(strstr(body_answer, "Connection: close"));
    http_call_join(&slow);
    assert_int_equal(slow.answer.status, 200);
    http_answer_release(&slow.answer);
    assert_int_equal(runtime_process_wait(&fixture->process), 0);
}

static bool is_draining(void *arg)
{
    const struct runtime_process *process = arg;
    struct http_answer answer = http_ask(process->admin_port, "GET", "/statz", "", "");
    bool draining = http_answer_has(&answer, "\"draining\":true");

    http_answer_release(&answer);
    return draining;
}

/* A large answer that the client takes slowly, with requests behind it that nobody will read. */
static void test_a_large_answer_is_not_cut_by_what_follows(void **state)
{
    enum { BYTES = 900000 };
    struct fixture *fixture = *state;
    CLEANUP_FREE char *data = xcalloc(1, BYTES + 1);
    CLEANUP_FREE char *head = xasprintf(
        "POST /?do=body HTTP/1.1\r\nHost: t\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n",
        BYTES);
    CLEANUP_FREE char *answer = NULL;
    CLEANUP_FD int fd = socket_connect(fixture->process.port);

    memset(data, 'x', BYTES);
    kill(fixture->process.pid, SIGTERM);
    wait_until(is_draining, &fixture->process, "it drains");
    socket_send_text(fd, head);
    socket_send_text(fd, data);
    for (int i = 0; i < 2000; i++) /* the connection may well end meanwhile */
        (void)!send(fd, "GET / HTTP/1.1\r\nHost: t\r\n\r\n", 27, MSG_NOSIGNAL);
    pause_ms(100);
    answer = socket_read_all(fd, 5000, NULL);
    assert_int_equal(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
    assert_int_equal(strlen(strstr(answer, "\r\n\r\n") + 4), BYTES);
    assert_int_equal(runtime_process_wait(&fixture->process), 0);
}

/* ---- how long it takes ---- */

/* From SIGTERM to the end of a process that serves and has been idle; the best of up to three, since other work on the machine
 * delays it too. An open connection holds nothing up. */
static int64_t idle_end_ms(const char *gateway, int64_t wanted_ms)
{
    struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = SPEC, .env = {gateway}};
    int64_t best_ms = INT64_MAX;

    for (int i = 0; i < 3 && best_ms > wanted_ms; i++) {
        struct runtime_process process;
        int64_t took_ms;
        int kept;

        runtime_process_start(&process, &settings, /* serving= */ true);
        kept = socket_connect(process.port);
        socket_send_text(kept, "GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        free(socket_read_answer(kept));
        pause_ms(500); /* announced, and quiet */
        took_ms = end_ms(&process, 0);
        best_ms = took_ms < best_ms ? took_ms : best_ms;
        fd_close_p(&kept);
        runtime_process_release(&process);
    }
    return best_ms;
}

static void test_an_idle_pod_is_gone_after_its_quiet_time(void **state)
{
    static const int acknowledges[] = {200};
    struct fake_gateway gateway;
    CLEANUP_FREE char *where = NULL;
    int64_t acknowledged_ms, quiet_ms;

    (void)state;
    fake_gateway_start(&gateway, "127.0.0.1", 0, acknowledges, 1);
    where = xasprintf("CICADA_GATEWAY=127.0.0.1:%d", gateway.port);
    acknowledged_ms = idle_end_ms(where, 50 + 300);
    fake_gateway_stop(&gateway);
    quiet_ms = idle_end_ms(/* gateway= */ NULL, 2000 + 300);
    print_message("gone after %lld ms with, %lld ms without an acknowledgement\n", (long long)acknowledged_ms,
                  (long long)quiet_ms);
    assert_in_range(acknowledged_ms, 50, 50 + 300);
    assert_in_range(quiet_ms, 2000, 2000 + 300);
}

static void test_a_second_signal_ends_the_wait(void **state)
{
    struct fixture *fixture = *state;
    struct http_call call;
    int64_t start_ms;

    http_call_start(&call, fixture->process.port, "GET", "/?do=sleep&ms=6000", NULL);
    pause_ms(150);
    kill(fixture->process.pid, SIGTERM);
    pause_ms(300);
    start_ms = clock_monotonic_ms();
    assert_int_equal(end_ms(&fixture->process, 0) < 3000, 1);
    assert_in_range(clock_monotonic_ms() - start_ms, 0, 3000);
    http_call_join(&call);
    assert_int_equal(call.answer.status, 0); /* it was cut, and says nothing */
    http_answer_release(&call.answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_answer_is_lost_or_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_bodies_and_handlers_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_large_answer_is_not_cut_by_what_follows, setup, teardown),
        cmocka_unit_test(test_an_idle_pod_is_gone_after_its_quiet_time),
        cmocka_unit_test_setup_teardown(test_a_second_signal_ends_the_wait, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
