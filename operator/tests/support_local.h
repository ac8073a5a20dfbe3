/* support_local.h - the real cicada-local for a test, in a folder of its own: its files, its log, its processes, by /proc.
 *
 *   manifests/  functions/  state/  log     HOME, TMPDIR and the working directory are in it, too
 *
 * Every wait has a deadline; what goes wrong fails the test (cmocka) where it happens.
 */
#ifndef CICADA_TESTS_SUPPORT_LOCAL_H
#define CICADA_TESTS_SUPPORT_LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#define LOCAL_ARGS_MAX      16
#define LOCAL_PROCESSES_MAX 256

struct local {
    char folder[64];
    pid_t pid; /* 0: none runs */
    int port;
    bool no_database;    /* not the test server's: none, or its own */
    bool no_manifests;   /* the folder manifests/ is not given to it */
    const char *program; /* NULL: the build's */
    const char *user;    /* whom it runs as; NULL: the test's */
    time_t begun_s;      /* realtime; what is older is not its own, whatever its number */
};

/* ---- files ---- */

void local_init(struct local *local); /* makes the folder; nothing runs */
/* Ends what is left of it and removes the folder. */
void local_release(struct local *local);
/* Of a cmocka test whose state is a struct local of its own. */
int local_setup(void **state);
int local_teardown(void **state);
char *local_path(const struct local *local, const char *file); /* the caller frees */
/* Writes it in place. */
void local_write(const struct local *local, const char *file, const char *text);
/* As editors do: beside it, then into its place. */
void local_replace(const struct local *local, const char *file, const char *text);
void local_remove(const struct local *local, const char *file);
bool local_has(const struct local *local, const char *file);
/* manifests/<name>.yaml: an SQL function with http: {}; more: further lines of spec, each indented by two; NULL: none. */
void local_sql(const struct local *local, const char *name, const char *sql, const char *more);
/* manifests/<name>.yaml: a function of that handler. */
void local_handler(const struct local *local, const char *name, const char *handler, const char *more);
/* functions/<file>: a handler "answer" whose answer is "version <number>". How: 'r'enamed into place, 'w'ritten in place, 's'lowly, in
 * two writes, 'd'eleted first, as linkers do. */
void local_build(const struct local *local, const char *file, int number, char how);

/* ---- the program ---- */

/* args: further ones, ended by NULL; NULL: none. */
void local_launch(struct local *local, const char *const *args);
void local_await(struct local *local); /* until it listens */
void local_start(struct local *local, const char *const *args);
int local_wait(struct local *local); /* until it has ended; exit status or 128 + signal */
int local_stop(struct local *local, int signal_number);
/* Launches one that must end by itself. text: NULL: any. */
void local_expect_end(struct local *local, const char *const *args, int status, const char *text);

char *local_log(const struct local *local);                        /* the caller frees */
int local_log_count(const struct local *local, const char *text);  /* how often it is there */
void local_await_log(const struct local *local, const char *text); /* at most 20 s */
void local_expect(const struct local *local, const char *target, int status, const char *text); /* GET */
/* Until the answer is that; every answer on the way must have `status`, too. */
void local_await_answer(const struct local *local, const char *target, int status, const char *text);
/* Until the answer is that, whatever comes before. */
void local_await_outcome(const struct local *local, const char *target, int status, const char *text);

void local_fail(const struct local *local, const char *what); /* shows the log's end */

/* ---- its processes: support_local_processes.c ---- */

struct local_processes {
    pid_t pids[LOCAL_PROCESSES_MAX];
    size_t count;
};

/* All that descend from it, and are not over; itself left out. */
void local_processes(const struct local *local, struct local_processes *ret_processes);
/* Direct children whose command line has the text. */
int local_child_count(const struct local *local, const char *text);
pid_t local_child(const struct local *local, const char *text); /* the only one */
void local_await_children(const struct local *local, const char *text, int count);
size_t local_descriptors(const struct local *local);
size_t local_pss_kib(const struct local *local);
/* Waits until all are over. */
void local_await_over(const struct local_processes *processes, int within_ms);
/* After its end: no process of those or with the folder in its command line, no port, no SysV memory; of files only state/lock,
 * state/postgres and what the test wrote. */
void local_expect_nothing_left(const struct local *local, const struct local_processes *processes);

#endif
