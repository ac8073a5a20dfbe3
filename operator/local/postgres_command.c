#include "operator/local/postgres_command.h"

#include <signal.h>
#include <sys/wait.h>

#include "operator/local/process.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define POLL_MS         5
#define KILL_TIMEOUT_MS 5000
#define TAIL_TEXT_SIZE  400

struct command {
    struct line_tail tail;
    bool over;
    int status;
};

static void command_line(void *arg, const char *text, size_t len)
{
    struct command *command = arg;
    line_tail_add(&command->tail, text, len);
}

static void command_ended(void *arg, int wait_status)
{
    struct command *command = arg;
    command->over = true;
    command->status = wait_status;
}

void postgres_tail_append(const struct line_tail *tail, struct strbuf *out)
{
    const char *line;
    for (size_t i = 0; (line = line_tail_get(tail, i)) != NULL; i++) {
        strbuf_appendf(out, "\n    %s", line);
    }
}

int postgres_tail_fail(const struct line_tail *tail, const char *what, struct err *err)
{
    char storage[TAIL_TEXT_SIZE];
    struct strbuf text;
    strbuf_init_fixed(&text, storage, sizeof storage);
    postgres_tail_append(tail, &text);
    return err_set(err, ERR_UNAVAILABLE, "%s%s", what, text.buf);
}

int postgres_turn(const struct postgres_context *context, int64_t deadline_ms, const char *what,
                  struct err *err)
{
    if (context->give_up && *context->give_up) {
        return err_set(err, ERR_CANCELLED, "%s: given up", what);
    }
    if (deadline_left_ms(deadline_ms) == 0) {
        return err_set(err, ERR_TIMEOUT, "%s: takes too long", what);
    }
    loop_turn(context->loop, POLL_MS);
    return 0;
}

int postgres_turn_until(const struct postgres_context *context, const bool *over, int64_t deadline_ms,
                        const char *what, struct err *err)
{
    while (!*over) {
        if (postgres_turn(context, deadline_ms, what, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* It gets no time to end by itself: what it did is done again from the start. What it has started is waited for, since it writes. */
static void kill_command(const struct postgres_context *context, struct process *process, const bool *over)
{
    struct err err = ERR_INIT;
    const struct postgres_context patient = {.loop = context->loop};
    pid_t group = process_pid(process);
    int64_t deadline_ms = clock_monotonic_ms() + KILL_TIMEOUT_MS;
    process_signal(process, SIGKILL);
    while (!*over || !process_group_is_over(group, 0)) {
        if (postgres_turn(&patient, deadline_ms, "a killed program", &err) < 0) {
            log_warn("%s", err.msg);
            return;
        }
    }
}

int postgres_command_run(const struct postgres_context *context, const struct postgres_user *user,
                         char *const *argv, const char *what, int64_t timeout_ms, struct err *err)
{
    struct command command = {.over = false};
    char path[] = POSTGRES_PATH_VARIABLE, language[] = "LC_ALL=C.UTF-8";
    CLEANUP_FREE char *password = xasprintf("PGPASSWORD=%s", user->password ? user->password : "");
    char *const envp[] = {path, language, password, NULL};
    struct process_settings settings = {
        .argv = argv,
        .envp = envp,
        .folder = user->is_another ? user->folder : NULL, /* ours may be closed to that user */
        .uid = user->uid,
        .gid = user->gid,
        .set_user = user->is_another,
        .death_signal = SIGKILL,
        .signals_group = true,
        .line = command_line,
        .ended = command_ended,
        .arg = &command,
    };
    struct process *process;
    if (process_start(context->loop, &settings, &process, err) < 0) {
        return -1;
    }
    int result = postgres_turn_until(context, &command.over, clock_monotonic_ms() + timeout_ms, what, err);
    if (!command.over) {
        kill_command(context, process, &command.over);
    } else if (!WIFEXITED(command.status) || WEXITSTATUS(command.status) != 0) {
        result = postgres_tail_fail(&command.tail, what, err);
    }
    process_free(process);
    line_tail_release(&command.tail);
    return result;
}
