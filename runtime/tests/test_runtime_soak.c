/* Many requests of random sizes through the real runtime, over kept, closed and pipelined connections: no error, no leak.
 *
 * SOAK_REQUESTS: how many (default 20000). The runtime's exit code tells of leaks and races under the sanitizers; in other builds its memory
 * must not grow.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_http_load.h"
#include "runtime/tests/support_runtime.h"

#define CLIENTS          8
#define REQUESTS_DEFAULT 20000
#define GROWTH_MAX_KB    6000

struct client {
    pthread_t thread;
    struct http_load load;
    long long requests;
};

static void *client_main(void *arg)
{
    struct client *client = arg;
    struct http_load *load = &client->load;
    bool right = true;

    while (right && load->answered < client->requests) {
        bool pipelined = http_load_random(load, 5) == 0;
        struct http_load_batch batch = {
            .requests = pipelined ? 2 + (int)http_load_random(load, 7) : 1,
            .close_at_end = http_load_random(load, 10) == 0,
        };
        right = http_load_run(load, &batch) && (http_load_random(load, 50) > 0 || http_load_abandon(load));
    }
    return NULL;
}

static void run_clients(int port, long long requests, uint64_t seed)
{
    struct client clients[CLIENTS];
    long long answered = 0, connects = 0;
    int64_t start_ms = clock_monotonic_ms();

    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.requests = requests / CLIENTS + 1};
        http_load_init(&clients[i].load, port, seed * CLIENTS + (uint64_t)i + 1);
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(clients[i].thread, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        assert_string_equal(clients[i].load.error, "");
        answered += clients[i].load.answered;
        connects += clients[i].load.connects;
        http_load_release(&clients[i].load);
    }
    print_message("%lld answers over %lld connections in %lld ms\n", answered, connects,
                  (long long)(clock_monotonic_ms() - start_ms));
}

/* Resident memory of the worker, in KB. */
static long memory_kb(const struct runtime_process *process)
{
    pid_t worker = runtime_process_worker(process);
    CLEANUP_FREE char *path = xasprintf("/proc/%d/status", (int)worker);
    CLEANUP_FREE char *text = runtime_process_read(path);
    const char *line = strstr(text, "\nVmRSS:");

    assert_non_null(line);
    return strtol(line + strlen("\nVmRSS:"), NULL, 10);
}

static bool is_at_rest(void *arg)
{
    const struct runtime_process *process = arg;
    struct http_answer answer = http_ask(process->admin_port, "GET", "/statz", "", NULL);
    bool at_rest = http_answer_has(&answer, "\"inFlight\":0,\"waiting\":0,");

    http_answer_release(&answer);
    return at_rest;
}

static long long requests_wanted(void)
{
    const char *text = getenv("SOAK_REQUESTS");
    int64_t requests = REQUESTS_DEFAULT;

    if (text != NULL)
        assert_true(parse_int64(text, 1, INT32_MAX, &requests));
    return requests;
}

static void test_no_error_and_no_leak(void **state)
{
    struct runtime_process process;
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .spec = "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":30,\"concurrency\":6}",
        .env = {"CICADA_LOG_LEVEL=error"},
    };
    long long requests = requests_wanted();
    long before_kb, after_kb;

    (void)state;
    runtime_process_start(&process, &settings, /* serving= */ true);
    run_clients(process.port, requests / 4, 1); /* as much memory as it needs */
    before_kb = memory_kb(&process);
    run_clients(process.port, requests - requests / 4, 2);
    after_kb = memory_kb(&process);
    print_message("memory: %ld KB, then %ld KB\n", before_kb, after_kb);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they keep what was freed for a while */
    assert_in_range(after_kb, 0, before_kb + GROWTH_MAX_KB);
#endif
    wait_until(is_at_rest, &process, "what was abandoned has ended");
    assert_int_equal(runtime_process_stop(&process), 0);
    runtime_process_release(&process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_error_and_no_leak)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
