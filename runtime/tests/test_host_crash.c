/* When a crashed worker is started again, and what is said about a crash. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/host/crash_watch.h"
#include "runtime/host/restart_policy.h"

static void test_first_at_once_then_later_then_never(void **state)
{
    struct restart_policy policy = {0};

    (void)state;
    assert_int_equal(restart_policy_crashed(&policy, 1000), 0);
    assert_int_equal(restart_policy_crashed(&policy, 1010), 100);
    assert_int_equal(restart_policy_crashed(&policy, 1120), 200);
    assert_int_equal(restart_policy_crashed(&policy, 1340), 400);
    assert_int_equal(restart_policy_crashed(&policy, 60999), RESTART_GIVE_UP); /* the first is 59.999 s old */
}

static void test_old_crashes_are_forgotten(void **state)
{
    struct restart_policy policy = {0};

    (void)state;
    for (int i = 0; i < 100; i++) /* one every 15.1 s: never five within a minute */
        assert_true(restart_policy_crashed(&policy, 1000 + i * 15100) != RESTART_GIVE_UP);
    assert_int_equal(restart_policy_crashed(&policy, 10000000), 0); /* long quiet: as the first */
}

static void expect_text(const struct crash_board *board, int wait_status, const char *expected)
{
    char storage[CRASH_TEXT_SIZE];
    struct strbuf text;

    strbuf_init_fixed(&text, storage, sizeof(storage));
    crash_board_print(board, wait_status, &text);
    assert_false(strbuf_failed(&text));
    assert_string_equal(text.buf, expected);
}

#define EXITED(code) ((code) << 8)

static void test_how_it_ended(void **state)
{
    struct crash_board *board = crash_board_new();

    (void)state;
    crash_board_reset(board, "f.so:f", 1000);
    expect_text(board, SIGKILL,
                "f.so:f: killed by SIGKILL (signal 9; the kernel sends it when memory is out);"
                " requests in flight: none");
    expect_text(board, EXITED(3), "f.so:f: exited with code 3 of its own accord; requests in flight: none");
    assert_true(crash_board_tells_crash(board, EXITED(3)));
    atomic_store(&board->ended, true);
    assert_false(crash_board_tells_crash(board, EXITED(3)));
    assert_true(crash_board_tells_crash(board, SIGSEGV));
    crash_board_free(board);
}

static void *enter_one(void *arg)
{
    crash_watch_enter(arg, "second");
    return NULL;
}

static void *enter_and_leave(void *arg)
{
    crash_watch_enter(arg, "gone");
    crash_watch_leave(arg);
    return NULL;
}

static void run_thread(void *(*run)(void *arg), struct crash_board *board)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run, board), 0);
    pthread_join(thread, NULL);
}

static void test_requests_in_flight(void **state)
{
    struct crash_board *board = crash_board_new();

    (void)state;
    crash_board_reset(board, "f.so:f", 1000);
    crash_watch_enter(board, "first");
    run_thread(enter_one, board);
    run_thread(enter_and_leave, board);
    expect_text(board, SIGTERM, "f.so:f: killed by SIGTERM (signal 15); requests in flight: first, second");
    crash_watch_leave(board);
    expect_text(board, SIGTERM, "f.so:f: killed by SIGTERM (signal 15); requests in flight: second");
    crash_board_reset(board, "g.so:g", 1000); /* the next worker */
    expect_text(board, SIGTERM, "g.so:g: killed by SIGTERM (signal 15); requests in flight: none");
    crash_board_free(board);
}

/* A crash may have written anywhere. */
static void test_a_damaged_board_is_read_in_bounds(void **state)
{
    struct crash_board *board = crash_board_new();
    char storage[CRASH_TEXT_SIZE];
    struct strbuf text;

    (void)state;
    memset(board, 0x41, offsetof(struct crash_board, stacks));
    strbuf_init_fixed(&text, storage, sizeof(storage));
    crash_board_print(board, SIGSEGV, &text);
    assert_true(text.len < sizeof(storage));
    assert_non_null(strstr(text.buf, "killed by SIGSEGV (signal 11)"));
    assert_non_null(strstr(text.buf, " and more"));
    crash_board_free(board);
}

static int overflow(volatile char *outer)
{
    volatile char frame[4096];

    frame[0] = (char)(outer[0] | 1);
    if (frame[0] == 0)
        return 0;
    return overflow(frame) + frame[0];
}

static void *overflow_main(void *arg)
{
    volatile char start[1] = {0};

    crash_watch_enter(arg, "deep");
    overflow(start);
    return NULL;
}

static void *abort_main(void *arg)
{
    crash_watch_enter(arg, "aborting");
    abort();
}

/* In a process of its own: another request is at work on the main thread while a thread crashes. */
static int crash_in_child(struct crash_board *board, void *(*run)(void *arg))
{
    pid_t child = fork();
    int status = 0;

    assert_true(child >= 0);
    if (child == 0) {
        assert_non_null(freopen("/dev/null", "w", stderr)); /* what a sanitizer has to say */
        crash_watch_start(board);
        crash_watch_enter(board, "other");
        run_thread(run, board);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void test_the_crashing_thread_comes_first(void **state)
{
    static const struct {
        void *(*run)(void *arg);
        const char *signal, *requests;
        int synchronous;
    } cases[] = {
        {overflow_main, "SIGSEGV (signal 11) in ", "requests in flight: deep, other", 1},
        {abort_main, "SIGABRT (signal 6);", "requests in flight: aborting, other", 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct crash_board *board = crash_board_new();
        char storage[CRASH_TEXT_SIZE];
        struct strbuf text;
        int status;

        crash_board_reset(board, "f.so:f", 1000);
        status = crash_in_child(board, cases[i].run);
        assert_true(crash_board_tells_crash(board, status));
        strbuf_init_fixed(&text, storage, sizeof(storage));
        crash_board_print(board, status, &text);
        if (strstr(text.buf, cases[i].signal) == NULL || strstr(text.buf, cases[i].requests) == NULL)
            fail_msg("%s", text.buf);
        assert_int_equal(strstr(text.buf, ", address 0x") != NULL, cases[i].synchronous);
        crash_board_free(board);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_at_once_then_later_then_never),
        cmocka_unit_test(test_old_crashes_are_forgotten),
        cmocka_unit_test(test_how_it_ended),
        cmocka_unit_test(test_requests_in_flight),
        cmocka_unit_test(test_a_damaged_board_is_read_in_bounds),
        cmocka_unit_test(test_the_crashing_thread_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
