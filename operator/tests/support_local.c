#include "operator/tests/support_local.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_shell.h"
#include "runtime/tests/support_test.h"

#define WAIT_MS        20000
#define END_WAIT_MS    90000
#define FILE_MAX_BYTES (16u << 20)
#define MARK           "version 000000"
#define SLOW_PAUSE_MS  100

static void pause_ms(int ms)
{
    poll(NULL, 0, ms);
}

/* ---- files ---- */

char *local_path(const struct local *local, const char *file)
{
    return xasprintf("%s/%s", local->folder, file);
}

void local_init(struct local *local)
{
    static const char *const folders[] = {"manifests", "functions", "home", "tmp"};
    *local = (struct local){.begun_s = time(NULL)};
    snprintf(local->folder, sizeof local->folder, "/tmp/cicada-local-test.XXXXXX");
    assert_non_null(mkdtemp(local->folder));
    assert_int_equal(chmod(local->folder, 0755), 0); /* PostgreSQL's user gets there, too */
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
        CLEANUP_FREE char *path = local_path(local, folders[i]);
        assert_int_equal(mkdir(path, 0755), 0);
    }
}

void local_release(struct local *local)
{
    struct local_processes left;
    if (local->pid > 0) {
        local_processes(local, &left);
        kill(local->pid, SIGKILL);
        waitpid(local->pid, NULL, 0);
        local->pid = 0;
        local_await_over(&left, WAIT_MS);
    }
    if (local->folder[0] && !getenv("LOCAL_KEEP")) {
        CLEANUP_FREE char *command = xasprintf("rm -rf '%s'", local->folder);
        assert_int_equal(system(command), 0);
    }
}

int local_setup(void **state)
{
    static struct local local;
    local_init(&local);
    *state = &local;
    return 0;
}

int local_teardown(void **state)
{
    local_release(*state);
    return 0;
}

static void write_bytes(const char *path, const char *data, size_t len, int flags)
{
    CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0755);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
}

void local_write(const struct local *local, const char *file, const char *text)
{
    CLEANUP_FREE char *path = local_path(local, file);
    write_bytes(path, text, strlen(text), O_TRUNC);
}

void local_replace(const struct local *local, const char *file, const char *text)
{
    CLEANUP_FREE char *path = local_path(local, file), *beside = xasprintf("%s~", path);
    write_bytes(beside, text, strlen(text), O_TRUNC);
    assert_int_equal(rename(beside, path), 0);
}

void local_remove(const struct local *local, const char *file)
{
    CLEANUP_FREE char *path = local_path(local, file);
    assert_int_equal(unlink(path), 0);
}

bool local_has(const struct local *local, const char *file)
{
    CLEANUP_FREE char *path = local_path(local, file);
    return access(path, F_OK) == 0;
}

static void write_function(const struct local *local, const char *name, const char *what, const char *more)
{
    CLEANUP_FREE char *file = xasprintf("manifests/%s.yaml", name);
    CLEANUP_FREE char *text = xasprintf("apiVersion: cicada.dev/v1alpha1\n"
                                        "kind: Function\n"
                                        "metadata: {name: %s}\n"
                                        "spec:\n"
                                        "  %s\n"
                                        "  http: {}\n"
                                        "%s",
                                        name, what, more ? more : "");
    local_write(local, file, text);
}

void local_sql(const struct local *local, const char *name, const char *sql, const char *more)
{
    CLEANUP_FREE char *what = xasprintf("sql: \"%s\"\n  database: {secretRef: {name: test-db}}", sql);
    write_function(local, name, what, more);
}

void local_handler(const struct local *local, const char *name, const char *handler, const char *more)
{
    CLEANUP_FREE char *what = xasprintf("handler: %s", handler);
    write_function(local, name, what, more);
}

static const char handler_source[] =
    "#include <cicada/function.h>\n"
    "static int answer(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)\n"
    "{ (void)req; (void)ctx; cicada_response_body(res, \"" MARK "\\n\", 15); return CICADA_OK; }\n"
    "CICADA_FUNCTION(answer);\n";

/* Compiled once; another version differs in its text only. */
static char *built_handler(const struct local *local, size_t *ret_len)
{
    CLEANUP_FREE char *object = local_path(local, "tmp/answer.so");
    struct err err = ERR_INIT;
    char *data;
    if (access(object, F_OK) != 0) {
        local_write(local, "tmp/answer.c", handler_source);
        CLEANUP_FREE char *command =
            xasprintf("cd '%s/tmp' && cc -std=gnu11 -fPIC -shared -I'%s/runtime/sdk' -o answer.so answer.c",
                      local->folder, getenv("CICADA_TEST_ROOT"));
        shell_expect(command, "");
    }
    assert_ok(file_read(object, FILE_MAX_BYTES, &data, ret_len, &err));
    return data;
}

void local_build(const struct local *local, const char *file, int number, char how)
{
    size_t len;
    CLEANUP_FREE char *data = built_handler(local, &len), *target = xasprintf("functions/%s", file);
    CLEANUP_FREE char *path = local_path(local, target), *beside = local_path(local, "tmp/beside.so");
    CLEANUP_FREE char *version = xasprintf("version %06d", number);
    char *mark = memmem(data, len, MARK, strlen(MARK));
    assert_non_null(mark);
    memcpy(mark, version, strlen(MARK));
    if (how == 'r') {
        write_bytes(beside, data, len, O_TRUNC);
        assert_int_equal(rename(beside, path), 0);
        return;
    }
    if (how == 'd') {
        (void)unlink(path);
        pause_ms(SLOW_PAUSE_MS);
    }
    size_t first = how == 's' ? len / 2 : len;
    CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, first), (ssize_t)first);
    if (first < len) {
        pause_ms(SLOW_PAUSE_MS);
        assert_int_equal(write(fd, data + first, len - first), (ssize_t)(len - first));
    }
}

/* ---- the program ---- */

static void become(const char *name)
{
    const struct passwd *user = getpwnam(name);
    if (!user || setgid(user->pw_gid) < 0 || setuid(user->pw_uid) < 0) {
        _exit(126);
    }
}

static void exec_local(const struct local *local, const char *const *args)
{
    const char *build = getenv("CICADA_TEST_BUILD");
    char *words[LOCAL_ARGS_MAX + 12];
    size_t count = 0;
    CLEANUP_FREE char *log = local_path(local, "log");
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    words[count++] = local->program ? xstrdup(local->program) : xasprintf("%s/bin/cicada-local", build);
    words[count++] = xstrdup("--listen=127.0.0.1:0"); /* of two the later one counts */
    words[count++] = xasprintf("--state-dir=%s/state", local->folder);
    words[count++] = xasprintf("--function-dir=%s/functions", local->folder);
    if (!local->no_database) {
        words[count++] = xasprintf("--database-url=%s", getenv("TEST_DATABASE_URL"));
    }
    for (size_t i = 0; args && args[i]; i++) {
        words[count++] = xstrdup(args[i]);
    }
    if (!local->no_manifests) {
        words[count++] = xasprintf("%s/manifests", local->folder);
    }
    words[count] = NULL;
    unsetenv("DATABASE_URL");
    CLEANUP_FREE char *home = local_path(local, "home"), *tmp = local_path(local, "tmp");
    setenv("HOME", home, 1);
    setenv("TMPDIR", tmp, 1);
    if (local->user) {
        become(local->user);
    }
    if (fd < 0 || chdir(local->folder) < 0 || dup2(fd, STDERR_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0) {
        _exit(125);
    }
    child_ends_with_test();
    execv(words[0], words);
    _exit(127);
}

void local_launch(struct local *local, const char *const *args)
{
    if (local_has(local, "log")) {
        local_remove(local, "log");
    }
    local->port = 0;
    local->pid = fork();
    assert_true(local->pid >= 0);
    if (local->pid == 0) {
        exec_local(local, args);
    }
}

char *local_log(const struct local *local)
{
    CLEANUP_FREE char *path = local_path(local, "log");
    return runtime_process_read(path);
}

int local_log_count(const struct local *local, const char *text)
{
    CLEANUP_FREE char *log = local_log(local);
    int count = 0;
    assert_true(text[0] != '\0');
    for (const char *at = log; (at = strstr(at, text)) != NULL; at += strlen(text)) {
        count++;
    }
    return count;
}

void local_fail(const struct local *local, const char *what)
{
    CLEANUP_FREE char *log = local_log(local);
    fail_msg("%s; the log's end:\n%s", what, shell_tail(log));
}

void local_await_log(const struct local *local, const char *text)
{
    int64_t until_ms = clock_monotonic_ms() + WAIT_MS;
    while (local_log_count(local, text) == 0) {
        if (clock_monotonic_ms() >= until_ms) {
            CLEANUP_FREE char *what = xasprintf("waited in vain for <%s>", text);
            local_fail(local, what);
        }
        pause_ms(5);
    }
}

void local_await(struct local *local)
{
    static const char said[] = "listening on port ";
    int64_t until_ms = clock_monotonic_ms() + END_WAIT_MS, port = 0;
    for (;;) {
        CLEANUP_FREE char *log = local_log(local);
        const char *line = strstr(log, said);
        if (line && strchr(line, '\n')) {
            line += strlen(said);
            assert_true(parse_int64_n(line, strspn(line, "0123456789"), 1, 65535, &port));
            local->port = (int)port;
            return;
        }
        if (waitpid(local->pid, NULL, WNOHANG) != 0) {
            local->pid = 0;
            local_fail(local, "it ended before it listened");
        }
        if (clock_monotonic_ms() >= until_ms) {
            local_fail(local, "it does not listen");
        }
        pause_ms(3);
    }
}

void local_start(struct local *local, const char *const *args)
{
    local_launch(local, args);
    local_await(local);
}

int local_wait(struct local *local)
{
    int64_t until_ms = clock_monotonic_ms() + END_WAIT_MS;
    int status;
    while (waitpid(local->pid, &status, WNOHANG) != local->pid) {
        if (clock_monotonic_ms() >= until_ms) {
            local_fail(local, "it does not end");
        }
        pause_ms(2);
    }
    local->pid = 0;
    if (local_log_count(local, "Sanitizer") > 0) {
        CLEANUP_FREE char *log = local_log(local);
        fputs(log, stdout); /* cmocka would cut it */
        fail_msg("a sanitizer found something");
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int local_stop(struct local *local, int signal_number)
{
    kill(local->pid, signal_number);
    return local_wait(local);
}

void local_expect_end(struct local *local, const char *const *args, int status, const char *text)
{
    local_launch(local, args);
    int ended = local_wait(local);
    if (ended != status || (text && local_log_count(local, text) == 0)) {
        CLEANUP_FREE char *what =
            xasprintf("status %d, expected %d with <%s>", ended, status, text ? text : "");
        local_fail(local, what);
    }
}

void local_expect(const struct local *local, const char *target, int status, const char *text)
{
    http_expect(local->port, "GET", target, NULL, status, text);
}

static void await_answer(const struct local *local, const char *target, int status, const char *text,
                         bool always)
{
    int64_t until_ms = clock_monotonic_ms() + WAIT_MS;
    for (bool done = false; !done;) {
        struct http_answer answer = http_ask(local->port, "GET", target, "", NULL);
        if ((always && answer.status != status) || clock_monotonic_ms() >= until_ms) {
            CLEANUP_FREE char *what = xasprintf("%s: %d %s, expected %d with <%s>", target, answer.status,
                                                answer.body ? answer.body : "", status, text);
            local_fail(local, what);
        }
        done = answer.status == status && http_answer_has(&answer, text);
        http_answer_release(&answer);
        pause_ms(5);
    }
}

void local_await_answer(const struct local *local, const char *target, int status, const char *text)
{
    await_answer(local, target, status, text, /* always= */ true);
}

void local_await_outcome(const struct local *local, const char *target, int status, const char *text)
{
    await_answer(local, target, status, text, /* always= */ false);
}
