#include "operator/local/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

#define FIRST_OTHER_FD    3
#define EXEC_FAILED       127
#define STAT_MAX_BYTES    4096
#define READ_SIZE_BYTES   4096
#define BIRTH_STACK_BYTES 32768
#define READINGS          2

struct process {
    struct loop *loop;
    struct process_settings settings; /* only the callbacks are used after the start */
    pid_t pid;                        /* 0: it has ended */
    struct loop_watch end, output;
    struct strbuf line; /* the start of one that is not complete */
    struct loop_post freed;
};

/* ---- in the child, between clone() and exec: async-signal-safe, and no variable of the parent's
 * changes. It never returns, so none of its functions has a local variable whose address is taken: AddressSanitizer would have it
 * poisoned for ever. ---- */

struct birth {
    const struct process_settings *settings;
    int input_fd, output_fd; /* -1: ours */
    pid_t parent;
    sigset_t no_signals;
    volatile int failed_errno; /* shared with the parent, which waits */
};

static bool become_user(const struct process_settings *settings)
{
    /* Not by the C library: it would change all threads of the parent, too. */
    return syscall(SYS_setgroups, 0, NULL) == 0 &&
           syscall(SYS_setresgid, settings->gid, settings->gid, settings->gid) == 0 &&
           syscall(SYS_setresuid, settings->uid, settings->uid, settings->uid) == 0;
}

static bool has_streams(const struct birth *birth)
{
    return (birth->input_fd < 0 || dup2(birth->input_fd, STDIN_FILENO) >= 0) &&
           (birth->output_fd < 0 ||
            (dup2(birth->output_fd, STDOUT_FILENO) >= 0 && dup2(birth->output_fd, STDERR_FILENO) >= 0));
}

static int be_born(void *arg)
{
    struct birth *birth = arg;
    const struct process_settings *settings = birth->settings;
    signal(SIGPIPE, SIG_DFL);
    bool has_terminal = settings->is_foreground && tcgetpgrp(STDIN_FILENO) == getpgrp();
    bool has_group = setpgid(0, settings->group) == 0;
    if (has_terminal) {
        (void)tcsetpgrp(STDIN_FILENO, getpid()); /* SIGTTOU is blocked */
    }
    if (has_group && has_streams(birth) && (!settings->folder || chdir(settings->folder) == 0) &&
        (!settings->set_user || become_user(settings)) &&
        prctl(PR_SET_PDEATHSIG, settings->death_signal) == 0) {
        if (getppid() != birth->parent) {
            _exit(EXEC_FAILED); /* we were gone before the child asked to be told */
        }
        (void)syscall(SYS_close_range, FIRST_OTHER_FD, ~0U, 0); /* what libraries left open */
        sigprocmask(SIG_SETMASK, &birth->no_signals, NULL);
        execve(settings->argv[0], settings->argv, settings->envp);
    }
    birth->failed_errno = errno;
    _exit(EXEC_FAILED);
}

/* clone() by its other name: ThreadSanitizer wraps the one, and takes the child for a fork with memory of its own. It would see
 * nothing of what this thread does from then on, and find races where there are none. */
int plain_clone(int (*run)(void *), void *stack, int flags, void *arg, ...) __asm__("__clone");

/* Like vfork(), on a stack of the child's own, as posix_spawn() does it; which itself can neither ask for a death signal nor change
 * the user. Signals stay blocked meanwhile: a handler of ours must not run in the child. */
static pid_t give_birth(struct birth *birth)
{
    sigset_t all, before;
    _Alignas(max_align_t) char stack[BIRTH_STACK_BYTES];
    sigfillset(&all);
    sigemptyset(&birth->no_signals);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = plain_clone(be_born, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, birth);
    int code = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = code;
    return pid;
}

/* ---- what it says ---- */

static void tell_line(struct process *process)
{
    process->settings.line(process->settings.arg, process->line.buf, process->line.len);
    strbuf_clear(&process->line);
}

static void take_output(struct process *process, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n') {
            tell_line(process);
            continue;
        }
        if (process->line.len == PROCESS_LINE_MAX_BYTES) {
            tell_line(process);
        }
        strbuf_append_char(&process->line, data[i]);
    }
}

/* True while there may be more. */
static bool read_output(struct process *process)
{
    char data[READ_SIZE_BYTES];
    ssize_t got = read(process->output.fd, data, sizeof data);
    if (got > 0) {
        take_output(process, data, (size_t)got);
        return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        loop_watch_close(process->loop, &process->output);
    }
    return false;
}

static void output_ready(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    (void)read_output(container_of(watch, struct process, output));
}

/* ---- its end ---- */

/* The terminal that it was given is ours again. */
static void take_terminal_back(pid_t pid)
{
    sigset_t output, before;
    if (tcgetpgrp(STDIN_FILENO) == pid) {
        sigemptyset(&output);
        sigaddset(&output, SIGTTOU);
        pthread_sigmask(SIG_BLOCK, &output, &before);
        (void)tcsetpgrp(STDIN_FILENO, getpgrp());
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
}

static void end_ready(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    struct process *process = container_of(watch, struct process, end);
    int status;
    if (waitpid(process->pid, &status, WNOHANG) != process->pid) {
        return;
    }
    take_terminal_back(process->pid);
    process->pid = 0;
    loop_watch_close(process->loop, &process->end);
    while (process->output.fd >= 0 && read_output(process)) {}
    loop_watch_close(process->loop, &process->output); /* whoever else has its end open is not waited for */
    if (process->line.len > 0) {
        tell_line(process);
    }
    process->settings.ended(process->settings.arg, status);
}

/* ---- start ---- */

static int open_pipe(int ret_ends[2], struct err *err)
{
    if (pipe2(ret_ends, O_CLOEXEC) < 0) {
        return err_set_errno(err, errno, "pipe");
    }
    if (fcntl(ret_ends[0], F_SETFL, O_NONBLOCK) < 0) {
        return err_set_errno(err, errno, "fcntl");
    }
    return 0;
}

/* Takes over output_fd. */
static int watch_child(struct process *process, int output_fd, struct err *err)
{
    if (output_fd >= 0 &&
        loop_watch_open(process->loop, &process->output, output_fd, EPOLLIN, output_ready, err) < 0) {
        return -1;
    }
    int fd = pidfd_open(process->pid, 0);
    if (fd < 0) {
        return err_set_errno(err, errno, "pidfd_open");
    }
    return loop_watch_open(process->loop, &process->end, fd, EPOLLIN, end_ready, err);
}

static int start_child(struct process *process, struct birth *birth, struct err *err)
{
    process->pid = give_birth(birth);
    if (process->pid < 0) {
        process->pid = 0;
        return err_set_errno(err, errno, "%s: clone", birth->settings->argv[0]);
    }
    if (birth->failed_errno != 0) {
        (void)waitpid(process->pid, NULL, 0);
        process->pid = 0;
        return err_set_errno(err, birth->failed_errno, "%s", birth->settings->argv[0]);
    }
    return 0;
}

int process_start(struct loop *loop, const struct process_settings *settings, struct process **ret_process,
                  struct err *err)
{
    struct process *process = xcalloc(1, sizeof *process);
    CLEANUP_FD int input = -1, write_end = -1;
    int ends[2] = {-1, -1};
    process->loop = loop;
    process->settings = *settings;
    process->end.fd = process->output.fd = -1;
    strbuf_init(&process->line, PROCESS_LINE_MAX_BYTES);
    if (!settings->is_foreground) {
        input = settings->input_fd > 0 ? fcntl(settings->input_fd, F_DUPFD_CLOEXEC, FIRST_OTHER_FD)
                                       : open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (open_pipe(ends, err) < 0) {
            goto fail;
        }
        write_end = ends[1];
    }
    struct birth birth = {
        .settings = settings, .input_fd = input, .output_fd = write_end, .parent = getpid()};
    if (start_child(process, &birth, err) < 0) {
        fd_close_p(&ends[0]);
        goto fail;
    }
    if (watch_child(process, ends[0], err) < 0) {
        kill(process->pid, SIGKILL);
        (void)waitpid(process->pid, NULL, 0);
        goto fail;
    }
    *ret_process = process;
    return 0;
fail:
    process->pid = 0;
    process_free(process);
    return -1;
}

pid_t process_pid(const struct process *process)
{
    return process->pid;
}

void process_signal(struct process *process, int signal_number)
{
    if (process && process->pid > 0) {
        kill(process->settings.signals_group ? -process->pid : process->pid, signal_number);
    }
}

/* /proc/PID/stat is "PID (NAME) STATE PARENT GROUP ...", and the name may be anything. One that is over and not yet reaped counts
 * as over: whoever is to reap it may take its time. */
static bool is_at_work_in(const char *pid_text, pid_t group)
{
    struct err err = ERR_INIT;
    CLEANUP_FREE char *path = xasprintf("/proc/%s/stat", pid_text), *text = NULL;
    if (file_read(path, STAT_MAX_BYTES, &text, NULL, &err) < 0) {
        return false;
    }
    const char *state = strrchr(text, ')');
    const char *parent = state && strlen(state) > 3 ? strchr(state + 3, ' ') : NULL;
    const char *field = parent ? strchr(parent + 1, ' ') : NULL;
    int64_t number;
    return field && state[2] != 'Z' && state[2] != 'X' &&
           parse_int64_n(field + 1, strcspn(field + 1, " "), 0, INT32_MAX, &number) && number == group;
}

static bool sees_group(pid_t pid, pid_t except)
{
    DIR *processes = opendir("/proc");
    bool found = false;
    for (const struct dirent *entry; processes && !found && (entry = readdir(processes)) != NULL;) {
        int64_t number;
        found = parse_int64(entry->d_name, 1, INT32_MAX, &number) && number != except &&
                is_at_work_in(entry->d_name, pid);
    }
    if (processes) {
        closedir(processes);
    }
    return found;
}

/* A list of processes is no snapshot: one that starts another and ends while it is read hides both. Its child is there at the next
 * reading. */
bool process_group_is_over(pid_t pid, pid_t except)
{
    bool found = false;
    for (int i = 0; i < READINGS && !found; i++) {
        found = sees_group(pid, except);
    }
    return !found;
}

static void free_now(struct loop_post *post)
{
    struct process *process = container_of(post, struct process, freed);
    strbuf_release(&process->line);
    free(process);
}

void process_free(struct process *process)
{
    if (!process) {
        return;
    }
    loop_watch_close(process->loop, &process->output);
    loop_watch_close(process->loop, &process->end);
    process->freed.run = free_now; /* an event of this turn may still point at it */
    loop_defer(process->loop, &process->freed);
}

void process_end_text(int wait_status, char out[PROCESS_END_SIZE])
{
    if (WIFSIGNALED(wait_status)) {
        const char *name = sigabbrev_np(WTERMSIG(wait_status));
        snprintf(out, PROCESS_END_SIZE, "SIG%s (signal %d)", name ? name : "?", WTERMSIG(wait_status));
    } else {
        snprintf(out, PROCESS_END_SIZE, "exit code %d", WEXITSTATUS(wait_status));
    }
}
