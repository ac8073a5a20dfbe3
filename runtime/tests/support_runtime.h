/* support_runtime.h - starts the real cicada-runtime for a test, and speaks to it over sockets.
 *
 * Every wait has a deadline; what goes wrong fails the test (cmocka) where it happens.
 */
#ifndef CICADA_TESTS_SUPPORT_RUNTIME_H
#define CICADA_TESTS_SUPPORT_RUNTIME_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define RUNTIME_PROCESS_ENV_MAX 24

struct runtime_process {
    pid_t pid;
    int port, admin_port;
    char directory[64];        /* of its files; removed at the end */
    char log_path[96];         /* standard error */
    char termination_path[96]; /* where it writes why it ended */
};

struct runtime_process_settings {
    const char *functions;                    /* below the build: "functions" or "test-functions" */
    const char *spec;                         /* JSON; NULL: none */
    const char *database_url;                 /* NULL: none */
    const char *env[RUNTIME_PROCESS_ENV_MAX]; /* "NAME=value" */
};

/* Starts it and, if `serving`, waits until its function port accepts. */
void runtime_process_start(struct runtime_process *process, const struct runtime_process_settings *settings,
                           bool serving);
/* The same for a function of SQL, with a pool of 4. sql: as it stands in a JSON string; more: further members, each with a comma before
 * it; url: of the database; NULL: the tests' own. */
void runtime_process_start_sql(struct runtime_process *process, const char *sql, const char *more,
                               const char *url, bool serving);
/* Waits until its function port accepts. */
void runtime_process_await(struct runtime_process *process);
/* SIGTERM, then as runtime_process_wait(). */
int runtime_process_stop(struct runtime_process *process);
/* Waits for the end; the exit code, or 128 + signal. */
int runtime_process_wait(struct runtime_process *process);
/* Kills it if it still runs, removes its files. */
void runtime_process_release(struct runtime_process *process);
/* The process of which it is the parent, which does the work. */
pid_t runtime_process_worker(const struct runtime_process *process);
/* Whole text of a file of the process; the caller frees it. "" if there is none. */
char *runtime_process_read(const char *path);

struct http_answer {
    int status; /* 0: the connection was closed without an answer */
    char *text; /* head and body as received; NUL-terminated */
    char *body; /* inside `text` */
};

/* One request on a connection of its own; `headers` is "" or lines ended by \r\n. */
struct http_answer http_ask(int port, const char *method, const char *target, const char *headers,
                            const char *body);
bool http_answer_has(const struct http_answer *answer, const char *text);
void http_answer_release(struct http_answer *answer);
/* Asks and expects this status and this piece of text in head or body. */
void http_expect(int port, const char *method, const char *target, const char *body, int status,
                 const char *text);

/* The same on a thread. */
struct http_call {
    pthread_t thread;
    int port;
    const char *method, *target, *body;
    struct http_answer answer;
    long took_ms, started_ms; /* monotonic */
};
void http_call_start(struct http_call *call, int port, const char *method, const char *target,
                     const char *body);
void http_call_join(struct http_call *call);

int free_port(void);
/* Waits until the predicate holds; fails the test after 30 s. */
void wait_until(bool predicate(void *arg), void *arg, const char *what);
/* Runs SQL as the test database's owner; the first value of the last result, or "". The caller frees it. */
char *database_value(const char *sql);

#endif
