/* Connections and threads of the server: counted, drained, let go, stopped. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_http_server.h"
#include "runtime/tests/support_socket.h"
#include "runtime/tests/support_test.h"

static void counts_what_is_in_flight(void **state)
{
    (void)state;
    assert_int_equal(http_server_in_flight(served_server), 0);
    usleep(30000);
    assert_in_range(http_server_idle_ms(served_server), 25, 5000);
    CLEANUP_FD int fd = socket_connect(served_port);
    socket_send_text(fd, GET("/wait"));
    assert_true(served_wait_for_in_flight(1));
    usleep(30000);
    assert_int_equal(http_server_idle_ms(served_server), 0);
    stop_set(&served_gate);
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_string_equal(body_of(text), "waited");
    assert_true(served_wait_for_in_flight(0));
    assert_in_range(http_server_idle_ms(served_server), 0, 25);
}

static void expect_figures(const char *request, size_t received_bytes, size_t sent_bytes)
{
    CLEANUP_FREE char *text = socket_exchange(served_port, request);
    assert_true(served_wait_for_in_flight(0));
    assert_int_equal(atomic_load(&served_figures.received_bytes), received_bytes);
    assert_int_equal(atomic_load(&served_figures.sent_bytes), sent_bytes);
}

static void counts_bytes_and_refusals(void **state)
{
    (void)state;
    expect_figures("POST /echo HTTP/1.0\r\nContent-Length: 3\r\n\r\none", 3, 3);
    expect_figures("HEAD / HTTP/1.0\r\n\r\n", 0, 0);
    expect_figures("GET /large HTTP/1.0\r\n\r\n", 0, LARGE_BODY_BYTES);
    expect_figures("GET /stream HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", 0, 7);
    expect_figures("GET /stream HTTP/1.0\r\n\r\n", 0, 7);
    assert_int_equal(http_server_refused(served_server), 0);
    CLEANUP_FREE char *no_host = socket_exchange(served_port, "GET / HTTP/1.1\r\n\r\n");
    CLEANUP_FREE char *expects =
        socket_exchange(served_port, "GET / HTTP/1.1\r\nHost: t\r\nExpect: x\r\n\r\n");
    CLEANUP_FREE char *no_http = socket_exchange(served_port, "nonsense\r\n\r\n");
    assert_int_equal(http_server_refused(served_server), 3);
    assert_int_equal(atomic_load(&served_calls), 5);
}

static void expect_connections(int count)
{
    int64_t deadline_ms = clock_monotonic_ms() + 5000;
    while (http_server_connections(served_server) != count && deadline_left_ms(deadline_ms) > 0) {
        usleep(1000);
    }
    assert_int_equal(http_server_connections(served_server), count);
}

static void three_on_one_connection(void)
{
    CLEANUP_FD int fd = socket_connect(served_port);
    for (int i = 0; i < 3; i++) {
        socket_send_text(fd, GET("/"));
        CLEANUP_FREE char *text = socket_read_answer(fd);
        assert_true(served_wait_for_in_flight(0));
        assert_int_equal(atomic_load(&served_figures.reused), i > 0);
        expect_connections(1);
    }
}

static void knows_a_connection_again(void **state)
{
    (void)state;
    three_on_one_connection();
    expect_connections(0);
    three_on_one_connection();
}

static void draining_closes_after_each_answer(void **state)
{
    (void)state;
    CLEANUP_FD int fd = socket_connect(served_port);
    socket_send_text(fd, GET("/"));
    CLEANUP_FREE char *before = socket_read_answer(fd);
    assert_non_null(strstr(before, "Connection: keep-alive"));
    http_server_drain(served_server);
    socket_send_text(fd, GET("/"));
    CLEANUP_FREE char *after = socket_read_answer(fd);
    assert_non_null(strstr(after, "Connection: close"));
    assert_false(served_still_open(fd));
    CLEANUP_FREE char *fresh = socket_exchange(served_port, GET("/")); /* still served */
    assert_status(fresh, 200);
}

static void busy_servers_let_connections_go(void **state)
{
    (void)state;
    struct http_server_settings settings = served_settings();
    settings.threads = 4;
    settings.close_when_busy = true;
    served_start_with(&settings);
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = socket_connect(served_port);
        socket_send_text(fds[i], GET("/"));
        CLEANUP_FREE char *text = socket_read_answer(fds[i]);
        assert_non_null(strstr(text, "Connection: keep-alive"));
    }
    for (int i = 0; i < 20; i++) { /* a third connection leaves one worker free: it is not kept */
        CLEANUP_FREE char *text = socket_exchange(served_port, GET("/"));
        assert_non_null(strstr(text, "Connection: close"));
    }
    close(fds[0]);
    int64_t deadline_ms = clock_monotonic_ms() + 2000;
    bool kept = false;
    while (!kept && deadline_left_ms(deadline_ms) > 0) { /* until its worker has seen the end */
        CLEANUP_FD int fd = socket_connect(served_port);
        socket_send_text(fd, GET("/"));
        CLEANUP_FREE char *text = socket_read_answer(fd);
        kept = strstr(text, "Connection: keep-alive") != NULL;
    }
    assert_true(kept);
    close(fds[1]);
    served_stop(state);
}

static void start_small(int threads)
{
    struct http_server_settings settings = served_settings();
    settings.threads = threads;
    settings.close_when_busy = true;
    settings.keep_alive_timeout_ms = 60000;
    settings.header_timeout_ms = 60000;
    served_start_with(&settings);
}

/* How long a new client waits for its answer. */
static int64_t time_of_a_new_one_ms(void)
{
    int64_t begin_ms = clock_monotonic_ms();
    CLEANUP_FD int fd = socket_connect(served_port);
    socket_send_text(fd, GET("/"));
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_status(text, 200);
    return clock_monotonic_ms() - begin_ms;
}

/* Each is answered and then kept, or never says a word; more of them than there are threads. */
static void silent_connections_give_way(void **state)
{
    (void)state;
    enum { THREADS = 4, SILENT = 9 };
    for (int speaks = 0; speaks <= 1; speaks++) {
        start_small(THREADS);
        int fds[SILENT];
        for (int i = 0; i < SILENT; i++) {
            fds[i] = socket_connect(served_port);
            if (speaks) {
                socket_send_text(fds[i], GET("/"));
                CLEANUP_FREE char *text = socket_read_answer(fds[i]);
                assert_status(text, 200);
            }
        }
        for (int i = 0; i < 3; i++) { /* those in line before it take their turns first */
            assert_in_range(time_of_a_new_one_ms(), 0, speaks ? 1500 : 4000);
        }
        for (int i = 0; i < SILENT; i++) {
            close(fds[i]);
        }
        served_stop(state);
    }
}

/* As several gateways do that know nothing of each other. */
static void nobody_starves_among_many_kept_ones(void **state)
{
    (void)state;
    enum { CLIENTS = 60, ROUNDS = 3 };
    start_small(8);
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = -1;
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            bool closed = fds[i] >= 0 && !served_still_open(fds[i]);
            if (closed) {
                close(fds[i]);
            }
            if (closed || fds[i] < 0) {
                fds[i] = socket_connect(served_port);
            }
            socket_send_text(fds[i], GET("/"));
            CLEANUP_FREE char *text = socket_read_answer(fds[i]);
            assert_status(text, 200);
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        close(fds[i]);
    }
    served_stop(state);
}

/* Without others in line nobody has to go. */
static void silent_connections_stay_otherwise(void **state)
{
    (void)state;
    start_small(4);
    CLEANUP_FD int fd = socket_connect(served_port);
    socket_send_text(fd, GET("/"));
    CLEANUP_FREE char *text = socket_read_answer(fd);
    assert_status(text, 200);
    for (int i = 0; i < 30; i++) {
        assert_in_range(time_of_a_new_one_ms(), 0, 200);
        usleep(20000);
    }
    assert_true(served_still_open(fd));
    served_stop(state);
}

static void stops_at_once_with_idle_connections(void **state)
{
    (void)state;
    struct http_server_settings settings = served_settings();
    settings.keep_alive_timeout_ms = 60000;
    settings.header_timeout_ms = 60000;
    served_start_with(&settings);
    CLEANUP_FD int fresh = socket_connect(served_port);
    CLEANUP_FD int used = socket_connect(served_port);
    CLEANUP_FD int sending = socket_connect(served_port);
    socket_send_text(used, GET("/"));
    CLEANUP_FREE char *text = socket_read_answer(used);
    assert_non_null(text);
    socket_send_text(sending, "POST /echo?60000 HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nx");
    assert_true(served_wait_for_in_flight(1));
    int64_t begin_ms = clock_monotonic_ms();
    served_stop(state);
    assert_true(clock_monotonic_ms() - begin_ms < 1000);
    bool closed;
    CLEANUP_FREE char *rest = socket_read_all(fresh, 1000, &closed);
    assert_string_equal(rest, "");
    assert_true(closed);
    http_server_stop(NULL);
}

static void says_why_it_cannot_listen(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct http_server *second;
    struct http_server_settings settings = served_settings();
    char taken[32];
    snprintf(taken, sizeof(taken), "127.0.0.1:%d", served_port);
    settings.listen = taken;
    assert_fails(http_server_start(&settings, &second, &err), ERR_IO);
    assert_non_null(strstr(err.msg, taken));
    assert_non_null(strstr(err.msg, "Address already in use"));
    static const char *const bad[] = {
        "",        "127.0.0.1", "127.0.0.1:",      "127.0.0.1:x",  "127.0.0.1:65536", "localhost:80",
        "[::]:80", "1.2.3:80",  "127.0.0.1:80,81", "127.0.0.1:80s"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        settings.listen = bad[i];
        assert_fails(http_server_start(&settings, &second, &err), ERR_INVALID);
    }
    settings.listen = ":0";
    assert_ok(http_server_start(&settings, &second, &err));
    CLEANUP_FREE char *text = socket_exchange(http_server_port(second), GET("/close"));
    assert_status(text, 200);
    http_server_stop(second);
}

static void *send_many(void *arg)
{
    int fd = socket_connect(served_port);
    for (int i = 0; i < 200; i++) {
        char body[32], request[128];
        snprintf(body, sizeof(body), "%s-%d", (const char *)arg, i);
        snprintf(request, sizeof(request), "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: %zu\r\n\r\n%s",
                 strlen(body), body);
        socket_send_text(fd, request);
        CLEANUP_FREE char *text = socket_read_answer(fd);
        if (strcmp(body_of(text), body) != 0) {
            abort();
        }
    }
    close(fd);
    return NULL;
}

static void many_connections_at_once(void **state)
{
    (void)state;
    static char names[6][2] = {"a", "b", "c", "d", "e", "f"};
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, names[i]), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&served_calls), 1200);
}

/* Clients that vanish at every moment, then one that is served as ever. */
static void survives_clients_that_vanish(void **state)
{
    (void)state;
    static const char *const beginnings[] = {
        "",
        "G",
        "GET / HTTP/1.1\r\n",
        GET("/"),
        GET("/large"),
        GET("/stream"),
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 50000\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5",
    };
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(beginnings); i++) {
            CLEANUP_FD int fd = socket_connect(served_port);
            socket_send_text(fd, beginnings[i]);
            if (round % 2 == 0) {
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            }
        }
    }
    CLEANUP_FREE char *text = socket_exchange(served_port, GET("/close"));
    assert_status(text, 200);
    assert_true(served_wait_for_in_flight(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_server(counts_what_is_in_flight),
        with_server(counts_bytes_and_refusals),
        with_server(knows_a_connection_again),
        with_server(draining_closes_after_each_answer),
        cmocka_unit_test(busy_servers_let_connections_go),
        cmocka_unit_test(silent_connections_give_way),
        cmocka_unit_test(nobody_starves_among_many_kept_ones),
        cmocka_unit_test(silent_connections_stay_otherwise),
        cmocka_unit_test(stops_at_once_with_idle_connections),
        with_server(says_why_it_cannot_listen),
        with_server(many_connections_at_once),
        with_server(survives_clients_that_vanish),
    };
    return cmocka_run_group_tests(tests, served_group_setup, served_group_teardown);
}
