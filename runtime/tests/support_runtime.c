#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_shell.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <postgresql/libpq-fe.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

#define WAIT_MS          30000
#define ANSWER_MAX_BYTES (32u << 20)

static void pause_ms(int ms)
{
    poll(NULL, 0, ms);
}

void wait_until(bool predicate(void *arg), void *arg, const char *what)
{
    int64_t until_ms = clock_monotonic_ms() + WAIT_MS;

    while (!predicate(arg)) {
        if (clock_monotonic_ms() >= until_ms)
            fail_msg("waited in vain until %s", what);
        pause_ms(2);
    }
}

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void exec_runtime(const struct runtime_process *process,
                         const struct runtime_process_settings *settings)
{
    const char *build = getenv("CICADA_TEST_BUILD");
    char *env[RUNTIME_PROCESS_ENV_MAX + 16];
    size_t count = 0;
    int log = open(process->log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);

    for (size_t i = 0; settings->env[i] != NULL; i++) /* first: of two with one name the first counts */
        env[count++] = xstrdup(settings->env[i]);
    env[count++] = xasprintf("CICADA_LISTEN=127.0.0.1:%d", process->port);
    env[count++] = xasprintf("CICADA_ADMIN_LISTEN=127.0.0.1:%d", process->admin_port);
    env[count++] = xasprintf("CICADA_FUNCTION_DIR=%s/%s", build, settings->functions);
    env[count++] = xasprintf("CICADA_TERMINATION_LOG=%s", process->termination_path);
    if (settings->spec != NULL)
        env[count++] = xasprintf("CICADA_SPEC=%s", settings->spec);
    if (settings->database_url != NULL)
        env[count++] = xasprintf("DATABASE_URL=%s", settings->database_url);
    for (const char *const *name =
             (const char *const[]){"ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", NULL};
         *name != NULL; name++)
        if (getenv(*name) != NULL)
            env[count++] = xasprintf("%s=%s", *name, getenv(*name));
    env[count] = NULL;
    dup2(log, STDERR_FILENO);
    dup2(log, STDOUT_FILENO);
    child_ends_with_test();
    execle(xasprintf("%s/bin/cicada-runtime", build), "cicada-runtime", (char *)NULL, env);
    _exit(127);
}

static bool accepts(void *arg)
{
    struct runtime_process *process = arg;
    int fd = connect_to(process->port);

    if (fd >= 0)
        close(fd);
    if (waitpid(process->pid, NULL, WNOHANG) != 0) {
        process->pid = 0;
        print_error("%s\n", runtime_process_read(process->log_path));
        fail_msg("the runtime ended before it served");
    }
    return fd >= 0;
}

void runtime_process_start(struct runtime_process *process, const struct runtime_process_settings *settings,
                           bool serving)
{
    memset(process, 0, sizeof(*process));
    snprintf(process->directory, sizeof(process->directory), "/tmp/cicada-runtime-test.XXXXXX");
    assert_non_null(mkdtemp(process->directory));
    snprintf(process->log_path, sizeof(process->log_path), "%s/log", process->directory);
    snprintf(process->termination_path, sizeof(process->termination_path), "%s/termination",
             process->directory);
    process->port = free_port();
    process->admin_port = free_port();
    process->pid = fork();
    assert_true(process->pid >= 0);
    if (process->pid == 0)
        exec_runtime(process, settings);
    if (serving)
        runtime_process_await(process);
}

void runtime_process_start_sql(struct runtime_process *process, const char *sql, const char *more,
                               const char *url, bool serving)
{
    CLEANUP_FREE char *spec = xasprintf("{\"sql\":\"%s\",\"database\":{\"poolSize\":4}%s}", sql, more);
    const struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = spec, .database_url = url ? url : getenv("TEST_DATABASE_URL")};

    runtime_process_start(process, &settings, serving);
}

void runtime_process_await(struct runtime_process *process)
{
    wait_until(accepts, process, "the runtime serves");
}

struct ending {
    pid_t pid;
    int status;
};

static bool has_ended(void *arg)
{
    struct ending *ending = arg;
    return waitpid(ending->pid, &ending->status, WNOHANG) == ending->pid;
}

int runtime_process_wait(struct runtime_process *process)
{
    struct ending ending = {.pid = process->pid};

    wait_until(has_ended, &ending, "the runtime ends");
    process->pid = 0;
    return WIFEXITED(ending.status) ? WEXITSTATUS(ending.status) : 128 + WTERMSIG(ending.status);
}

int runtime_process_stop(struct runtime_process *process)
{
    kill(process->pid, SIGTERM);
    return runtime_process_wait(process);
}

void runtime_process_release(struct runtime_process *process)
{
    if (process->pid > 0) {
        kill(process->pid, SIGKILL);
        waitpid(process->pid, NULL, 0);
    }
    process->pid = 0;
    unlink(process->log_path);
    unlink(process->termination_path);
    rmdir(process->directory);
}

pid_t runtime_process_worker(const struct runtime_process *process)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/task/%d/children", (int)process->pid, (int)process->pid);
    CLEANUP_FREE char *children = runtime_process_read(path);
    int64_t pid = 0;

    assert_true(parse_int64_n(children, strcspn(children, " "), 1, INT32_MAX, &pid));
    return (pid_t)pid;
}

char *runtime_process_read(const char *path)
{
    struct err err = ERR_INIT;
    char *text;
    size_t len;

    return file_read(path, ANSWER_MAX_BYTES, &text, &len, &err) == 0 ? text : xstrdup("");
}

static void send_text(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* closed: the answer tells */
        text += sent;
        len -= (size_t)sent;
    }
}

static struct http_answer receive(int fd)
{
    struct http_answer answer = {0};
    struct strbuf text;
    char piece[65536];
    int64_t status = 0;
    int64_t until_ms = clock_monotonic_ms() + 2 * WAIT_MS;

    strbuf_init(&text, ANSWER_MAX_BYTES);
    for (;;) {
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        ssize_t got;
        if (poll(&wanted, 1, deadline_left_ms(until_ms)) <= 0)
            break;
        got = recv(fd, piece, sizeof(piece), 0);
        if (got <= 0)
            break;
        strbuf_append(&text, piece, (size_t)got);
    }
    if (text.len > 12)
        parse_int64_n(text.buf + 9, 3, 100, 599, &status);
    answer.status = (int)status;
    answer.text = strbuf_detach(&text, NULL);
    answer.body = strstr(answer.text, "\r\n\r\n");
    answer.body = answer.body ? answer.body + 4 : answer.text + strlen(answer.text);
    return answer;
}

struct http_answer http_ask(int port, const char *method, const char *target, const char *headers,
                            const char *body)
{
    struct http_answer answer;
    struct strbuf request;
    int fd = connect_to(port);

    if (fd < 0)
        return (struct http_answer){.text = xstrdup(""), .body = NULL};
    strbuf_init(&request, ANSWER_MAX_BYTES);
    strbuf_appendf(&request, "%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s", method, target,
                   headers);
    if (body != NULL)
        strbuf_appendf(&request, "Content-Length: %zu\r\n", strlen(body));
    strbuf_appendf(&request, "\r\n%s", body ? body : "");
    send_text(fd, request.buf, request.len);
    strbuf_release(&request);
    answer = receive(fd);
    close(fd);
    return answer;
}

bool http_answer_has(const struct http_answer *answer, const char *text)
{
    return strstr(answer->text, text) != NULL;
}

void http_answer_release(struct http_answer *answer)
{
    free(steal_ptr(&answer->text));
}

static void check_answer(struct http_answer *answer, const char *target, int status, const char *text)
{
    if (answer->status != status || !http_answer_has(answer, text))
        fail_msg("%s: expected %d with <%s>, got: %s", target, status, text, answer->text);
    http_answer_release(answer);
}

void http_expect(int port, const char *method, const char *target, const char *body, int status,
                 const char *text)
{
    struct http_answer answer = http_ask(port, method, target, "", body);
    check_answer(&answer, target, status, text);
}

static void *call_main(void *arg)
{
    struct http_call *call = arg;
    int64_t start_ms = clock_monotonic_ms();

    call->started_ms = (long)start_ms;
    call->answer = http_ask(call->port, call->method, call->target, "", call->body);
    call->took_ms = (long)(clock_monotonic_ms() - start_ms);
    return NULL;
}

void http_call_start(struct http_call *call, int port, const char *method, const char *target,
                     const char *body)
{
    *call = (struct http_call){.port = port, .method = method, .target = target, .body = body};
    assert_int_equal(pthread_create(&call->thread, NULL, call_main, call), 0);
}

void http_call_join(struct http_call *call)
{
    pthread_join(call->thread, NULL);
}

char *database_value(const char *sql)
{
    PGconn *connection = PQconnectdb(getenv("TEST_DATABASE_URL"));
    PGresult *result;
    char *value;

    if (PQstatus(connection) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(connection));
    result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s", PQerrorMessage(connection));
    value = xstrdup(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(connection);
    return value;
}
