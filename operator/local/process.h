/* process.h - a child process of ours: started quickly, heard line by line, told to end with us, reaped when it ends.
 *
 * A child gets an environment of its own, /dev/null as standard input, a process group of its own (a terminal's Ctrl-C is for us, who
 * tell it; one in the foreground has it until its end), and a signal when the thread that started it is gone (PR_SET_PDEATHSIG): nothing outlives us, not even SIGKILL.
 * It is started as by vfork(): the cost does not grow with our memory.
 *
 * Threads: the loop's, which must be the thread that lives longest. Ownership: settings are copied where they outlive the call.
 */
#ifndef CICADA_LOCAL_PROCESS_H
#define CICADA_LOCAL_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "operator/gateway/loop.h"

#define PROCESS_LINE_MAX_BYTES 8192 /* longer lines are cut into several */

struct process;

struct process_settings {
    char *const *argv;  /* ended by NULL; argv[0] is a path */
    char *const *envp;  /* ended by NULL */
    const char *folder; /* working directory; NULL: ours */
    uid_t uid;          /* whom it runs as; meaningful with set_user */
    gid_t gid;
    bool set_user;
    int input_fd;     /* its standard input, borrowed; 0: /dev/null */
    pid_t group;      /* the one to be in; 0: one of its own */
    int death_signal; /* when we are gone; 0: none */
    bool
        signals_group; /* what it has started hears our signals, too; a server of ours tells its own processes */
    bool is_foreground; /* has our standard streams, and the terminal if we have it; line is not called */
    /* One line of its output and errors, without its end; borrowed. */
    void (*line)(void *arg, const char *text, size_t len);
    /* It has ended, and its last line was given: wait_status as of waitpid(). The process is still the owner's to free. */
    void (*ended)(void *arg, int wait_status);
    void *arg;
};

int process_start(struct loop *loop, const struct process_settings *settings, struct process **ret_process,
                  struct err *err) MUST_CHECK;
pid_t process_pid(const struct process *process);
void process_signal(struct process *process, int signal_number); /* nothing if it has ended, or is NULL */
/* Nothing is left of it and of what it has started, as far as that stayed in its group. pid: as it was before it ended; except: one of the
 * group that does not count; 0: none. */
bool process_group_is_over(pid_t pid, pid_t except);
/* It must have ended. NULL is fine. */
void process_free(struct process *process);

/* "exit code 3", "SIGSEGV (signal 11)". */
#define PROCESS_END_SIZE 64
void process_end_text(int wait_status, char out[PROCESS_END_SIZE]);

#endif
