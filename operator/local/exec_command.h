/* exec_command.h - the command of --exec: a shell with our standard streams, and the terminal if we have it.
 *
 * A signal for us is one for all of its process group. If we are gone, by SIGKILL too, that is told by a guard: a second shell in the
 * group, which reads from a pipe whose other end is ours alone. It ends the group with SIGTERM, and after 5 s with SIGKILL.
 *
 * Threads: the loop's.
 */
#ifndef CICADA_LOCAL_EXEC_COMMAND_H
#define CICADA_LOCAL_EXEC_COMMAND_H

#include "operator/gateway/loop.h"

struct exec_command;

struct exec_command_settings {
    struct loop *loop; /* borrowed; stopped when the command has ended */
    char *command;     /* for /bin/sh -c */
    /* Variables beside our own; NULL: not set. */
    const char *cicada_url, *database_url;
};

int exec_command_start(const struct exec_command_settings *settings, struct exec_command **ret_command,
                       struct err *err) MUST_CHECK;
void exec_command_signal(struct exec_command *command,
                         int signal_number); /* NULL is fine, as for all below */
/* True: it has ended, with this exit status, or 128 + signal. */
bool exec_command_is_over(const struct exec_command *command, int *ret_status);
/* Kills it if it has not ended, and ends what it has left behind in its group: SIGTERM, and SIGKILL 5 s later, or at once. */
void exec_command_free(struct exec_command *command, bool at_once);

#endif
