#include "runtime/host/parent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/host/restart_policy.h"
#include "runtime/host/termination.h"

/* As shells report an end by a signal, and as the operator reads it. */
#define SIGNAL_EXIT_BASE 128

struct parent {
    const struct parent_settings *settings;
    sigset_t signals; /* blocked, and waited for */
    struct restart_policy policy;
    pid_t worker;        /* 0: none */
    int status;          /* of the last worker, as of waitpid() */
    bool stopping;       /* a signal to end came */
    int64_t deadline_ms; /* then: when the worker is killed */
    bool killed;         /* because it did not end by then */
};

/* ---- the worker's first steps ---- */

static void become_worker(pid_t parent)
{
    sigset_t not_its_own;

    /* Without a parent nobody would restart, stop or explain it. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_FAILURE);
    /* A terminal's Ctrl-C is for the parent, who passes it on: twice would mean "at once". */
    (void)setpgid(0, 0);
    /* Those to end stay blocked: the worker waits for them when it can. */
    sigemptyset(&not_its_own);
    sigaddset(&not_its_own, SIGCHLD);
    (void)sigprocmask(SIG_UNBLOCK, &not_its_own, NULL);
}

/* ---- waiting ---- */

static void told_to_end(struct parent *parent, int number)
{
    if (!parent->stopping)
        parent->deadline_ms =
            clock_monotonic_ms() + atomic_load(&parent->settings->board->drain_ms) + PARENT_MARGIN_MS;
    parent->stopping = true;
    if (parent->worker != 0)
        kill(parent->worker, number);
}

/* The worker, and what it left behind. */
static void reap(struct parent *parent)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == parent->worker) {
            parent->worker = 0;
            parent->status = status;
        }
    }
}

/* Handles what happens until the deadline; at most one thing. */
static void wait_for_event(struct parent *parent, int64_t deadline_ms)
{
    int left_ms = deadline_left_ms(deadline_ms);
    struct timespec timeout = {left_ms / 1000, (long)(left_ms % 1000) * 1000000L};
    int number = sigtimedwait(&parent->signals, NULL, left_ms < 0 ? NULL : &timeout);

    if (number == SIGCHLD)
        reap(parent);
    else if (number > 0)
        told_to_end(parent, number);
}

static void wait_for_worker(struct parent *parent)
{
    while (parent->worker != 0) {
        wait_for_event(parent, parent->stopping ? parent->deadline_ms : DEADLINE_NONE);
        if (parent->worker != 0 && parent->stopping && deadline_left_ms(parent->deadline_ms) == 0) {
            kill(parent->worker, SIGKILL);
            parent->killed = true;
            parent->deadline_ms = DEADLINE_NONE;
        }
    }
}

static void wait_before_restart(struct parent *parent, int64_t delay_ms)
{
    int64_t until_ms = clock_monotonic_ms() + delay_ms;

    while (!parent->stopping && deadline_left_ms(until_ms) > 0)
        wait_for_event(parent, until_ms);
}

/* ---- a crash ---- */

static void report(const struct parent *parent, const char *message)
{
    struct err err = ERR_INIT;

    log_error("%s", message);
    if (termination_write(parent->settings->termination_log, "ContainerExited", message, &err) != 0)
        log_warn("termination message: %s", err.msg);
}

static void report_crash(const struct parent *parent)
{
    struct crash_board *board = parent->settings->board;
    struct strbuf text;

    strbuf_init_fixed(&text, board->last_crash, sizeof(board->last_crash));
    crash_board_print(board, parent->status, &text);
    report(parent, board->last_crash);
}

/* True: a new worker is to be started. */
static bool survive_crash(struct parent *parent)
{
    int64_t delay_ms = restart_policy_crashed(&parent->policy, clock_monotonic_ms());

    if (parent->killed) {
        report(parent, "the worker did not end within drainSeconds and was killed");
        return false;
    }
    report_crash(parent);
    if (parent->stopping)
        return false;
    if (delay_ms == RESTART_GIVE_UP) {
        log_error("%d crashes within %d s: the container ends", RESTART_CRASHES_MAX,
                  RESTART_WINDOW_MS / 1000);
        return false;
    }
    wait_before_restart(parent, delay_ms);
    if (parent->stopping)
        return false;
    parent->settings->board->restarts++;
    log_info("restart %d, after %lld ms", parent->settings->board->restarts, (long long)delay_ms);
    return true;
}

/* ---- life ---- */

static int could_not_start(const struct parent *parent)
{
    struct err err = ERR_INIT;

    err_set_errno(&err, errno, "the worker could not be started");
    report(parent, err.msg);
    return EXIT_FAILURE;
}

static int exit_code(const struct parent *parent, bool crashed)
{
    if (WIFSIGNALED(parent->status))
        return SIGNAL_EXIT_BASE + WTERMSIG(parent->status);
    return crashed && WEXITSTATUS(parent->status) == 0 ? EXIT_FAILURE : WEXITSTATUS(parent->status);
}

int parent_run(const struct parent_settings *settings)
{
    struct parent parent = {.settings = settings};
    pid_t own = getpid();
    bool crashed;

    sigemptyset(&parent.signals);
    sigaddset(&parent.signals, SIGTERM);
    sigaddset(&parent.signals, SIGINT);
    sigaddset(&parent.signals, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &parent.signals, NULL);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* as the first process of a container is anyway */
    do {
        crash_board_reset(settings->board, settings->function, settings->drain_ms);
        parent.worker = fork();
        if (parent.worker < 0)
            return could_not_start(&parent);
        if (parent.worker == 0) {
            become_worker(own);
            return settings->work(settings->arg);
        }
        wait_for_worker(&parent);
        crashed = crash_board_tells_crash(settings->board, parent.status);
    } while (crashed && survive_crash(&parent));
    return exit_code(&parent, crashed);
}
