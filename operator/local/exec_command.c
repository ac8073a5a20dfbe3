#include "operator/local/exec_command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "operator/local/environment.h"
#include "operator/local/process.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define SIGNAL_EXIT_BASE 128
#define TURN_MS          20
#define GROUP_END_MS     5000 /* for what the shell has left behind */
#define GUARD            "trap '' HUP INT QUIT TERM; read gone; kill -s TERM 0; sleep 5; kill -s KILL 0"

struct exec_command {
    struct loop *loop;
    struct process *shell, *guard;
    pid_t group;  /* of both; while the guard lives nobody else's */
    int guard_fd; /* closed by our end */
    bool is_over, guard_is_over;
    int status;
};

static void shell_ended(void *arg, int wait_status)
{
    struct exec_command *command = arg;
    command->is_over = true;
    command->status =
        WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : SIGNAL_EXIT_BASE + WTERMSIG(wait_status);
    loop_stop(command->loop);
}

static void guard_ended(void *arg, int wait_status)
{
    struct exec_command *command = arg;
    (void)wait_status;
    command->guard_is_over = true;
}

/* It says nothing; a shell that can't do this may. */
static void guard_said(void *arg, const char *text, size_t len)
{
    (void)arg;
    (void)text;
    (void)len;
}

static char **make_environment(const struct exec_command_settings *settings)
{
    struct environment environment;
    environment_init(&environment);
    for (char **variable = environ; *variable; variable++) {
        CLEANUP_FREE char *name = xstrndup(*variable, strcspn(*variable, "="));
        environment_set(&environment, name, getenv(name));
    }
    environment_set(&environment, "CICADA_URL", settings->cicada_url);
    environment_set(&environment, "DATABASE_URL", settings->database_url);
    return environment_detach(&environment);
}

static int start_shell(struct exec_command *command, char *text, char *const *variables, struct err *err)
{
    char shell[] = "/bin/sh", flag[] = "-c";
    char *const argv[] = {shell, flag, text, NULL};
    struct process_settings settings = {
        .argv = argv,
        .envp = variables,
        .death_signal = SIGTERM,
        .is_foreground = true,
        .signals_group = true,
        .ended = shell_ended,
        .arg = command,
    };
    if (process_start(command->loop, &settings, &command->shell, err) < 0) {
        return -1;
    }
    command->group = process_pid(command->shell);
    return 0;
}

static int start_guard(struct exec_command *command, char *const *variables, struct err *err)
{
    char shell[] = "/bin/sh", flag[] = "-c", text[] = GUARD;
    char *const argv[] = {shell, flag, text, NULL};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return err_set_errno(err, errno, "pipe");
    }
    struct process_settings settings = {
        .argv = argv,
        .envp = variables,
        .input_fd = ends[0],
        .group = command->group,
        .line = guard_said,
        .ended = guard_ended,
        .arg = command,
    };
    int result = process_start(command->loop, &settings, &command->guard, err);
    close(ends[0]);
    command->guard_fd = ends[1];
    return result;
}

int exec_command_start(const struct exec_command_settings *settings, struct exec_command **ret_command,
                       struct err *err)
{
    struct exec_command *command = xcalloc(1, sizeof *command);
    command->loop = settings->loop;
    command->guard_fd = -1;
    char **variables = make_environment(settings);
    int result = start_shell(command, settings->command, variables, err);
    if (result == 0) {
        result = start_guard(command, variables, err);
    }
    environment_free(variables);
    if (result < 0) {
        exec_command_free(command, /* at_once= */ true);
        return -1;
    }
    *ret_command = command;
    return 0;
}

void exec_command_signal(struct exec_command *command, int signal_number)
{
    if (command) {
        process_signal(command->shell, signal_number);
    }
}

bool exec_command_is_over(const struct exec_command *command, int *ret_status)
{
    bool is_over = command && command->is_over;
    if (is_over) {
        *ret_status = command->status;
    }
    return is_over;
}

/* What the shell has started ends, too: it is asked to, and then made to. */
static void end_group(struct exec_command *command, bool at_once)
{
    int64_t until_ms = clock_monotonic_ms() + (at_once ? 0 : GROUP_END_MS);
    kill(-command->group, SIGTERM); /* which the guard does not hear */
    while (!process_group_is_over(command->group, process_pid(command->guard)) &&
           deadline_left_ms(until_ms) > 0) {
        loop_turn(command->loop, TURN_MS);
    }
    kill(-command->group, SIGKILL);
}

void exec_command_free(struct exec_command *command, bool at_once)
{
    if (!command) {
        return;
    }
    process_signal(command->shell, SIGKILL);
    if (command->guard && !command->guard_is_over) {
        end_group(command, at_once);
    }
    while ((command->shell && !command->is_over) || (command->guard && !command->guard_is_over)) {
        loop_turn(command->loop, TURN_MS);
    }
    fd_close_p(&command->guard_fd);
    process_free(command->guard);
    process_free(command->shell);
    free(command);
}
