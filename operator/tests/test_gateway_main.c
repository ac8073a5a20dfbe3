/* cicada-gateway as a process, before a fake API server: options, admin port, wake, failure, drain. */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "operator/tests/support_fake_apiserver.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define WAIT_MS       10000
#define LOG_MAX_BYTES 65536
#define ARGS_MAX      16
#define FUNCTION                                                                                             \
    "{\"apiVersion\":\"cicada.dev/v1alpha1\",\"kind\":\"Function\",\"metadata\":{\"name\":\"create-order\"," \
    "\"namespace\":\"shop\",\"uid\":\"f\",\"resourceVersion\":\"1\",\"generation\":1},"                      \
    "\"spec\":{\"handler\":\"shop.so:create\",\"http\":{}}}"
#define FAILING_POD                                                                                          \
    "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\",\"namespace\":\"shop\",\"uid\":\"u\","     \
    "\"resourceVersion\":\"9\",\"labels\":{\"app.kubernetes.io/managed-by\":\"cicada\","                     \
    "\"cicada.dev/function\":\"create-order\"}},\"status\":{\"containerStatuses\":[{\"name\":"               \
    "\"function\",\"state\":{\"waiting\":{\"reason\":\"ImagePullBackOff\"}}}]}}}\n"

struct process {
    pid_t pid;
    int log_fd;
    char log[LOG_MAX_BYTES];
    size_t log_len;
    int public_port, internal_port, admin_port, announce_port;
};

static void pause_ms(int64_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static struct process *spawn(const char *const *args)
{
    struct process *process = xcalloc(1, sizeof(*process));
    const char *build = getenv("CICADA_TEST_BUILD");
    assert_non_null(build);
    CLEANUP_FREE char *program = xasprintf("%s/bin/cicada-gateway", build);
    char *argv[ARGS_MAX + 2] = {program};
    for (int i = 0; args[i]; i++) {
        argv[i + 1] = (char *)(uintptr_t)args[i];
    }
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
    extern char **environ;
    assert_int_equal(posix_spawn(&process->pid, program, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    process->log_fd = fds[0];
    return process;
}

static void read_log(struct process *process)
{
    ssize_t got;
    while (process->log_len < LOG_MAX_BYTES - 1 &&
           (got = read(process->log_fd, process->log + process->log_len,
                       LOG_MAX_BYTES - 1 - process->log_len)) > 0) {
        process->log_len += (size_t)got;
    }
    process->log[process->log_len] = '\0';
}

/* Its exit code; kills it and fails if that takes too long. */
static int await_exit(struct process *process)
{
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    int status;
    while (waitpid(process->pid, &status, WNOHANG) == 0) {
        read_log(process);
        if (clock_monotonic_ms() > deadline_ms) {
            kill(process->pid, SIGKILL);
            waitpid(process->pid, &status, 0);
            fail_msg("it does not end:\n%s", process->log);
        }
        pause_ms(5);
    }
    read_log(process);
    if (!WIFEXITED(status)) {
        fail_msg("ended by signal %d:\n%s", WTERMSIG(status), process->log);
    }
    return WEXITSTATUS(status);
}

static void process_free(struct process *process)
{
    close(process->log_fd);
    free(process);
}

static int port_after(const struct process *process, const char *name)
{
    const char *line = strstr(process->log, "listening: ");
    const char *at = line ? strstr(line, name) : NULL;
    return at ? (int)strtol(at + strlen(name), NULL, 10) : 0;
}

static void await_ports(struct process *process)
{
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (!strstr(process->log, "listening: ") || !strchr(strstr(process->log, "listening: "), '\n')) {
        if (clock_monotonic_ms() > deadline_ms) {
            fail_msg("it does not listen:\n%s", process->log);
        }
        pause_ms(5);
        read_log(process);
    }
    process->public_port = port_after(process, "public ");
    process->internal_port = port_after(process, "internal ");
    process->admin_port = port_after(process, "admin ");
    process->announce_port = port_after(process, "announcements ");
}

static int send_request(int port, const char *request_line, const char *host)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = WAIT_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    dprintf(fd, "%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", request_line, host);
    return fd;
}

/* The whole answer, until the peer closes; the caller frees it. */
static char *read_answer(int fd)
{
    char *answer = xmalloc(LOG_MAX_BYTES);
    size_t len = 0;
    ssize_t got;
    while (len < LOG_MAX_BYTES - 1 && (got = recv(fd, answer + len, LOG_MAX_BYTES - 1 - len, 0)) > 0) {
        len += (size_t)got;
    }
    close(fd);
    answer[len] = '\0';
    return answer;
}

static char *get(int port, const char *path)
{
    CLEANUP_FREE char *line = xasprintf("GET %s", path);
    return read_answer(send_request(port, line, "gateway"));
}

static int status_of(int port, const char *path)
{
    CLEANUP_FREE char *answer = get(port, path);
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}

static void await_status(const struct process *process, const char *path, int status)
{
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (status_of(process->admin_port, path) != status) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        pause_ms(5);
    }
}

static char *write_kubeconfig(const char *server)
{
    char *path = xstrdup("/tmp/cicada-test-kubeconfig-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    dprintf(
        fd,
        "apiVersion: v1\nkind: Config\ncurrent-context: t\nclusters: [{name: t, cluster: {server: '%s'}}]\n"
        "contexts: [{name: t, context: {cluster: t, user: t, namespace: cicada-system}}]\n"
        "users: [{name: t, user: {token: secret}}]\n",
        server);
    close(fd);
    return path;
}

static struct process *start_with(const char *kubeconfig, const char *quiet, const char *limit)
{
    CLEANUP_FREE char *config = xasprintf("--kubeconfig=%s", kubeconfig);
    CLEANUP_FREE char *quiet_flag = xasprintf("--drain-quiet-seconds=%s", quiet);
    CLEANUP_FREE char *limit_flag = xasprintf("--drain-seconds=%s", limit);
    const char *args[] = {config,
                          quiet_flag,
                          limit_flag,
                          "--public-listen=127.0.0.1:0",
                          "--internal-listen=127.0.0.1:0",
                          "--admin-listen=127.0.0.1:0",
                          "--announce-listen=127.0.0.1:0",
                          "--loops=2",
                          "--identity=g1",
                          NULL};
    struct process *process = spawn(args);
    await_ports(process);
    return process;
}

static void answer_lists(struct fake_apiserver *server)
{
    static const char *const paths[] = {"/api/v1/pods?", "/apis/apps/v1/deployments?",
                                        "/api/v1/namespaces/cicada-system/pods?"};
    const char *empty = "{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[]}";
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        fake_apiserver_answer(server, &(struct fake_answer){.match = paths[i], .body = empty});
    }
    fake_apiserver_answer(
        server,
        &(struct fake_answer){.match = "/functions?",
                              .body = "{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[" FUNCTION "]}"});
    fake_apiserver_answer(server, &(struct fake_answer){.match = "GET /version", .body = "{}", .times = -1});
}

/* ---- tests ---- */

static void options_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *flag;
        int code;
        const char *says;
    } cases[] = {
        {"--help", 0, "--drain-quiet-seconds"},    {"--no-such-flag", 2, "no-such-flag"},
        {"--log-level=loud", 2, "loud"},           {"--loops=-1", 2, "loops"},
        {"--watch-namespaces=shop,Bad", 1, "Bad"}, {"--kubeconfig=/nonexistent/kubeconfig", 1, "kubeconfig"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const char *const args[] = {cases[i].flag, NULL};
        struct process *process = spawn(args);
        int code = await_exit(process);
        if (code != cases[i].code || !strstr(process->log, cases[i].says)) {
            fail_msg("%s: %d %s", cases[i].flag, code, process->log);
        }
        process_free(process);
    }
}

static void serves_wakes_and_drains(void **state)
{
    (void)state;
    struct fake_apiserver *server = fake_apiserver_start();
    answer_lists(server);
    const char *patch = "PATCH /apis/apps/v1/namespaces/shop/deployments/create-order/scale?";
    fake_apiserver_answer(server, &(struct fake_answer){.match = patch, .body = "{}", .times = -1});
    CLEANUP_FREE char *config = write_kubeconfig(fake_apiserver_url(server));
    struct process *process = start_with(config, "1", "20");
    await_status(process, "/readyz", 200);
    assert_int_equal(status_of(process->admin_port, "/livez"), 200);
    assert_int_equal(status_of(process->admin_port, "/other"), 404);
    CLEANUP_FREE char *metrics = get(process->admin_port, "/metrics");
    assert_non_null(strstr(metrics, "cicada_gateway_scale_patches_total{result=\"woken\"} 0"));
    CLEANUP_FREE char *statz = get(process->admin_port, "/statz");
    assert_non_null(strstr(statz, "\"gateway\":\"g1\""));

    /* A held request wakes the function; a pod that can't start answers it. */
    int64_t began_us = clock_monotonic_us();
    int held = send_request(process->public_port, "GET /fn/shop/create-order/x", "any");
    assert_true(fake_apiserver_wait(server, patch, 1, WAIT_MS));
    print_message("request to patch received: %lld us\n", (long long)(clock_monotonic_us() - began_us));
    assert_int_equal(fake_apiserver_push(server, "/api/v1/pods?", FAILING_POD), 1);
    CLEANUP_FREE char *refused = read_answer(held);
    assert_non_null(strstr(refused, "HTTP/1.1 503"));
    assert_non_null(strstr(refused, "ImagePullBackOff"));

    int64_t drain_ms = clock_monotonic_ms();
    kill(process->pid, SIGTERM);
    await_status(process, "/readyz", 503);
    /* Requests that still come are served. */
    CLEANUP_FREE char *late = get(process->public_port, "/fn/shop/create-order/x");
    assert_non_null(strstr(late, "HTTP/1.1 503"));
    assert_int_equal(await_exit(process), 0);
    assert_true(clock_monotonic_ms() - drain_ms >= 1000);
    process_free(process);
    fake_apiserver_stop(server);
    unlink(config);
}

/* What libcurl brings along is 4 MB of the program's memory; see runtime/http/curl_stand_ins.sh. */
static void has_only_the_libraries_it_needs(void **state)
{
    (void)state;
    struct fake_apiserver *server = fake_apiserver_start();
    CLEANUP_FREE char *config = write_kubeconfig(fake_apiserver_url(server));
    struct process *process = start_with(config, "0", "1");
    CLEANUP_FREE char *path = xasprintf("/proc/%d/maps", (int)process->pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    static char maps[1 << 20];
    maps[fread(maps, 1, sizeof(maps) - 1, file)] = '\0';
    fclose(file);
    assert_non_null(strstr(maps, "/libcurl.so"));
    static const char *const brought[] = {"/libgnutls.so", "/librtmp.so", "/libssh2.so", "/libldap",
                                          "/libkrb5.so"};
    for (size_t i = 0; i < ARRAY_SIZE(brought); i++) {
        assert_null(strstr(maps, brought[i]));
    }
    kill(process->pid, SIGTERM);
    assert_int_equal(await_exit(process), 0);
    process_free(process);
    fake_apiserver_stop(server);
    unlink(config);
}

static void starts_while_the_api_server_is_away(void **state)
{
    (void)state;
    struct fake_apiserver *server = fake_apiserver_start();
    CLEANUP_FREE char *config = write_kubeconfig(fake_apiserver_url(server));
    fake_apiserver_stop(server);
    struct process *process = start_with(config, "0", "1");
    assert_int_equal(status_of(process->admin_port, "/livez"), 200);
    assert_int_equal(status_of(process->admin_port, "/readyz"), 503);
    pause_ms(200);
    assert_int_equal(status_of(process->admin_port, "/livez"), 200);
    kill(process->pid, SIGTERM);
    assert_int_equal(await_exit(process), 0);
    assert_non_null(strstr(process->log, "watch of pods in all namespaces"));
    process_free(process);
    unlink(config);
}

/* A held request does not keep a gateway for ever, and a second signal not even for that long. */
static void leaves_at_the_limit_or_by_a_second_signal(void **state)
{
    (void)state;
    for (int second_signal = 0; second_signal < 2; second_signal++) {
        struct fake_apiserver *server = fake_apiserver_start();
        answer_lists(server);
        CLEANUP_FREE char *config = write_kubeconfig(fake_apiserver_url(server));
        struct process *process = start_with(config, "0", second_signal ? "60" : "1");
        await_status(process, "/readyz", 200);
        int held = send_request(process->public_port, "GET /fn/shop/create-order/x", "any");
        assert_true(fake_apiserver_wait(server, "PATCH ", 1, WAIT_MS));
        int64_t began_ms = clock_monotonic_ms();
        kill(process->pid, SIGTERM);
        await_status(process, "/readyz", 503);
        if (second_signal) {
            kill(process->pid, SIGTERM);
        }
        assert_int_equal(await_exit(process), 0);
        assert_true(second_signal || clock_monotonic_ms() - began_ms >= 1000);
        assert_non_null(strstr(process->log, "leaving before it is quiet"));
        close(held);
        process_free(process);
        fake_apiserver_stop(server);
        unlink(config);
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(serves_wakes_and_drains),
        cmocka_unit_test(has_only_the_libraries_it_needs),
        cmocka_unit_test(starts_while_the_api_server_is_away),
        cmocka_unit_test(leaves_at_the_limit_or_by_a_second_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
