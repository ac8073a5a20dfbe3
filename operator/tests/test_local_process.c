/* test_local_process.c - children: their lines, their end, whom they run as, and what ends them when we are gone. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "operator/local/line_tail.h"
#include "operator/local/process.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/tests/support_test.h"

#define TEXT_MAX_BYTES (4u << 20)
#define WAIT_MS        10000
#define GROUPS         100

struct child {
    struct loop *loop;
    struct process *process;
    struct strbuf text; /* its lines, each ended by | */
    size_t lines, longest;
    bool over;
    int status;
};

static void heard_line(void *arg, const char *text, size_t len)
{
    struct child *child = arg;
    assert_false(child->over); /* its end is the last that is told */
    child->lines++;
    child->longest = len > child->longest ? len : child->longest;
    strbuf_append(&child->text, text, len);
    strbuf_append_char(&child->text, '|');
}

static void heard_end(void *arg, int wait_status)
{
    struct child *child = arg;
    child->over = true;
    child->status = wait_status;
}

static void begin(struct child *child, const char *script)
{
    struct err err = ERR_INIT;
    char shell[] = "/bin/sh", flag[] = "-c";
    CLEANUP_FREE char *text = xstrdup(script);
    char *const argv[] = {shell, flag, text, NULL};
    char path[] = "PATH=/usr/bin:/bin";
    char *const envp[] = {path, NULL};
    struct process_settings settings = {.argv = argv,
                                        .envp = envp,
                                        .death_signal = SIGKILL,
                                        .line = heard_line,
                                        .ended = heard_end,
                                        .arg = child};
    *child = (struct child){.status = -1};
    strbuf_init(&child->text, TEXT_MAX_BYTES);
    assert_ok(loop_new(&child->loop, &err));
    assert_ok(process_start(child->loop, &settings, &child->process, &err));
}

static void await_end(struct child *child)
{
    int64_t until_ms = clock_monotonic_ms() + WAIT_MS;
    while (!child->over && deadline_left_ms(until_ms) > 0) {
        loop_turn(child->loop, 10);
    }
    assert_true(child->over);
}

static void await_line(struct child *child)
{
    int64_t until_ms = clock_monotonic_ms() + WAIT_MS;
    while (child->lines == 0 && deadline_left_ms(until_ms) > 0) {
        loop_turn(child->loop, 10);
    }
    assert_true(child->lines > 0);
}

static void end(struct child *child)
{
    process_free(child->process);
    loop_turn(child->loop, 0);
    loop_free(child->loop);
    strbuf_release(&child->text);
}

static void expect_lines(const char *script, const char *text, int exit_code)
{
    struct child child;
    begin(&child, script);
    await_end(&child);
    assert_string_equal(child.text.buf, text);
    assert_true(WIFEXITED(child.status));
    assert_int_equal(WEXITSTATUS(child.status), exit_code);
    end(&child);
}

static void test_lines(void **state)
{
    (void)state;
    expect_lines("echo one; echo two >&2; printf three; exit 3", "one|two|three|", 3);
    expect_lines("printf '\\n\\na\\n'", "||a|", 0);
    expect_lines("true", "", 0);
    expect_lines("pwd >/dev/null; read x && echo input", "", 1); /* nothing to read */
    expect_lines("echo $PATH $HOME; set | grep -c SECRET", "/usr/bin:/bin|0|", 1);
}

static void test_many_lines(void **state)
{
    (void)state;
    struct child child;
    begin(&child, "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done");
    await_end(&child);
    assert_int_equal(child.lines, 20000);
    end(&child);
}

static void test_long_line(void **state)
{
    (void)state;
    struct child child;
    begin(&child, "head -c 20000 /dev/zero | tr '\\0' x; echo; echo end");
    await_end(&child);
    assert_int_equal(child.longest, PROCESS_LINE_MAX_BYTES);
    assert_int_equal(child.lines, 4); /* three pieces, and the end */
    assert_int_equal(child.text.len, 20000 + 3 + 4);
    end(&child);
}

/* A grandchild that keeps the pipe open is not waited for. */
static void test_pipe_that_stays_open(void **state)
{
    (void)state;
    struct child child;
    begin(&child, "echo mine; sleep 20 & echo $!");
    int64_t before_ms = clock_monotonic_ms();
    await_end(&child);
    assert_true(clock_monotonic_ms() - before_ms < 5000);
    pid_t left = (pid_t)strtol(child.text.buf + strlen("mine|"), NULL, 10);
    assert_true(left > 1);
    assert_int_equal(kill(left, SIGKILL), 0);
    assert_int_equal(waitpid(left, NULL, 0), left);
    end(&child);
}

static void test_exec_fails(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loop *loop;
    struct process *process = NULL;
    char program[] = "/no/such/program";
    char *const argv[] = {program, NULL}, *const envp[] = {NULL};
    struct process_settings settings = {
        .argv = argv, .envp = envp, .death_signal = SIGKILL, .line = heard_line, .ended = heard_end};
    assert_ok(loop_new(&loop, &err));
    int before = open("/dev/null", O_RDONLY);
    close(before);
    assert_int_equal(process_start(loop, &settings, &process, &err), -1);
    assert_string_equal(err.msg, "/no/such/program: No such file or directory");
    assert_null(process);
    settings.folder = "/no/such/folder";
    program[0] = '/';
    err_clear(&err);
    assert_int_equal(process_start(loop, &settings, &process, &err), -1);
    loop_turn(loop, 0);
    int after = open("/dev/null", O_RDONLY);
    close(after);
    assert_int_equal(before, after); /* no descriptor is left */
    loop_free(loop);
}

static void test_end_texts(void **state)
{
    (void)state;
    struct child child;
    char text[PROCESS_END_SIZE];
    begin(&child, "kill -SEGV $$");
    await_end(&child);
    process_end_text(child.status, text);
    assert_string_equal(text, "SIGSEGV (signal 11)");
    process_signal(child.process, SIGKILL); /* it is over: nothing */
    end(&child);
    begin(&child, "sleep 20");
    process_signal(child.process, SIGTERM);
    await_end(&child);
    process_end_text(child.status, text);
    assert_string_equal(text, "SIGTERM (signal 15)");
    end(&child);
    process_end_text(3 << 8, text);
    assert_string_equal(text, "exit code 3");
    process_signal(NULL, SIGTERM);
    process_free(NULL);
}

/* One that it left behind counts until it is over, reaped or not. Looked at again and again while the one starts and the other ends. */
static void expect_group_lives(void)
{
    struct child child;
    begin(&child, "echo started; sleep 30 >/dev/null 2>&1 &");
    pid_t pid = process_pid(child.process);
    await_line(&child);
    do {
        assert_false(process_group_is_over(pid, 0));
        loop_turn(child.loop, 0);
    } while (!child.over);
    assert_false(process_group_is_over(pid, 0));
    assert_int_equal(kill(-pid, SIGKILL), 0);
    int64_t until_ms = clock_monotonic_ms() + WAIT_MS;
    while (!process_group_is_over(pid, 0) && deadline_left_ms(until_ms) > 0) {
        loop_turn(child.loop, 10);
    }
    assert_true(process_group_is_over(pid, 0));
    assert_true(waitpid(-pid, NULL, 0) > 0);
    end(&child);
}

static void test_group(void **state)
{
    (void)state;
    for (int i = 0; i < GROUPS; i++) {
        expect_group_lives();
    }
}

/* Blocked and ignored signals of ours are not the child's. */
static void test_signals_are_usual(void **state)
{
    (void)state;
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    signal(SIGPIPE, SIG_IGN);
    /* Two more are the C library's own: posix_spawn(), by which make may have started us, has them ignored. */
    expect_lines("grep -E 'Sig(Blk|Ign)' /proc/self/status | tr -d '\\t' | sed "
                 "'s/^SigIgn:0000000[01][08]/SigIgn:000000000/'",
                 "SigBlk:0000000000000000|SigIgn:0000000000000000|", 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static void test_other_user(void **state)
{
    (void)state;
    struct child child;
    struct err err = ERR_INIT;
    char program[] = "/usr/bin/id", flag[] = "-u";
    char *const argv[] = {program, flag, NULL}, *const envp[] = {NULL};
    bool is_root = geteuid() == 0;
    uid_t user = is_root ? 65534 : geteuid();
    struct process_settings settings = {.argv = argv,
                                        .envp = envp,
                                        .uid = user,
                                        .gid = is_root ? 65534 : getegid(),
                                        .set_user = is_root,
                                        .death_signal = SIGKILL,
                                        .line = heard_line,
                                        .ended = heard_end,
                                        .arg = &child};
    child = (struct child){.status = -1};
    strbuf_init(&child.text, TEXT_MAX_BYTES);
    assert_ok(loop_new(&child.loop, &err));
    assert_ok(process_start(child.loop, &settings, &child.process, &err));
    await_end(&child);
    CLEANUP_FREE char *expected = xasprintf("%u|", user);
    assert_string_equal(child.text.buf, expected);
    assert_int_equal(geteuid(), is_root ? 0 : user); /* ours is as it was */
    end(&child);
}

/* Whoever started it is killed: it goes by itself. */
static void test_death_signal(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t parent = fork();
    if (parent == 0) {
        struct child child;
        begin(&child, "exec sleep 60");
        pid_t pid = process_pid(child.process);
        if (write(ends[1], &pid, sizeof pid) == sizeof pid) {
            kill(getpid(), SIGKILL);
        }
        _exit(1);
    }
    pid_t orphan;
    assert_int_equal(read(ends[0], &orphan, sizeof orphan), sizeof orphan);
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    int64_t until_ms = clock_monotonic_ms() + WAIT_MS;
    int status = -1;
    while (waitpid(orphan, &status, WNOHANG) == 0 && deadline_left_ms(until_ms) > 0) {
        poll(NULL, 0, 2);
    }
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(ends[0]);
    close(ends[1]);
}

/* ---- line_tail ---- */

static void test_line_tail(void **state)
{
    (void)state;
    struct line_tail tail = {.next = 0};
    assert_null(line_tail_get(&tail, 0));
    for (int i = 0; i < 12; i++) {
        char text[8];
        line_tail_add(&tail, text, (size_t)snprintf(text, sizeof text, "%d", i));
        snprintf(text, sizeof text, "%d", i < LINE_TAIL_LINES ? 0 : i - (LINE_TAIL_LINES - 1));
        assert_string_equal(line_tail_get(&tail, 0), text);
        assert_true(i >= 4 || !line_tail_get(&tail, (size_t)i + 1));
    }
    assert_string_equal(line_tail_get(&tail, 4), "11");
    assert_null(line_tail_get(&tail, LINE_TAIL_LINES));
    /* A long one is cut, and not within a character. */
    char umlauts[1001];
    umlauts[0] = 'x';
    for (size_t i = 1; i < sizeof umlauts; i += 2) {
        memcpy(umlauts + i, "ü", 2);
    }
    line_tail_add(&tail, umlauts, sizeof umlauts);
    assert_int_equal(strlen(line_tail_get(&tail, 4)), LINE_TAIL_MAX_BYTES - 1);
    line_tail_release(&tail);
    line_tail_release(&tail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_many_lines),
        cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_pipe_that_stays_open),
        cmocka_unit_test(test_exec_fails),
        cmocka_unit_test(test_end_texts),
        cmocka_unit_test(test_signals_are_usual),
        cmocka_unit_test(test_other_user),
        cmocka_unit_test(test_death_signal),
        cmocka_unit_test(test_line_tail),
        cmocka_unit_test(test_group),
    };
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans are ours to wait for */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
