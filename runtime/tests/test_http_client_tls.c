#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/http/http_client.h"
#include "runtime/tests/support_test.h"

#define ARGUMENTS_MAX 16

static char dir[] = "/tmp/cicada-test-tls-XXXXXX";

/* Two authorities; a server and a client that the first one vouches for. */
static const char make_certificates[] =
    "set -e; cd \"$1\"\n"
    "new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'\n"
    "openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN=ca\n"
    "openssl req -x509 $new -keyout other.key -out other.pem -subj /CN=other\n"
    "openssl req -x509 $new -CA ca.pem -CAkey ca.key -keyout server.key -out server.pem -subj /CN=server"
    " -addext subjectAltName=IP:127.0.0.1\n"
    "openssl req -x509 $new -CA ca.pem -CAkey ca.key -keyout client.key -out client.pem -subj /CN=client\n";

static pid_t spawn(const char *const argv[], int stdout_fd)
{
    char *copy[ARGUMENTS_MAX] = {NULL}; /* exec() takes them without const */
    for (size_t i = 0; argv[i]; i++) {
        memcpy(&copy[i], &argv[i], sizeof(copy[i]));
    }
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, STDIN_FILENO);
        dup2(stdout_fd >= 0 ? stdout_fd : null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execvp(copy[0], copy);
        _exit(127);
    }
    return child;
}

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static char *content_of(const char *name)
{
    struct err err = ERR_INIT;
    CLEANUP_FREE char *path = path_of(name);
    char *text;
    assert_ok(file_read(path, 1 << 20, &text, NULL, &err));
    return text;
}

struct tls_server {
    pid_t pid;
    int port;
};

/* `openssl s_server -www` answers each GET with a page; it prints where it listens. */
static struct tls_server start_server(bool wants_certificate)
{
    CLEANUP_FREE char *cert = path_of("server.pem"), *key = path_of("server.key"), *ca = path_of("ca.pem");
    const char *argv[ARGUMENTS_MAX] = {"openssl", "s_server", "-www", "-accept", "127.0.0.1:0",
                                       "-cert",   cert,       "-key", key};
    if (wants_certificate) {
        static const char *const more[] = {"-verify_return_error", "-Verify", "1", "-CAfile"};
        memcpy(argv + 9, more, sizeof(more));
        argv[13] = ca;
    }
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    struct tls_server server = {.pid = spawn(argv, out[1])};
    assert_true(server.pid > 0);
    close(out[1]);
    FILE *stream = fdopen(out[0], "r");
    char line[256];
    while (server.port == 0 && fgets(line, sizeof(line), stream)) {
        (void)!sscanf(line, "ACCEPT 127.0.0.1:%d", &server.port);
    }
    fclose(stream);
    assert_true(server.port > 0);
    return server;
}

static void stop_server(struct tls_server server)
{
    kill(server.pid, SIGTERM);
    waitpid(server.pid, NULL, 0);
}

static int call(const char *host, int port, struct http_client_settings settings, struct err *err)
{
    CLEANUP_FREE char *url = xasprintf("https://%s:%d", host, port);
    settings.base_url = url;
    settings.connect_timeout_ms = 5000;
    struct http_client *client = http_client_new(&settings);
    const struct http_client_request request = {
        .method = "GET", .path_and_query = "/", .timeout_ms = 5000, .max_response_bytes = 1 << 20};
    struct http_client_response response;
    int result = http_client_request(client, &request, &response, err);
    assert_int_equal(response.status, result == 0 ? 200 : 0);
    http_client_response_release(&response);
    http_client_free(client);
    return result;
}

static void verifies_the_server(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct tls_server server = start_server(/* wants_certificate= */ false);
    CLEANUP_FREE char *ca_file = path_of("ca.pem"), *other_file = path_of("other.pem"),
                      *no_file = path_of("none");
    CLEANUP_FREE char *ca_pem = content_of("ca.pem"), *other_pem = content_of("other.pem");
    assert_ok(call("127.0.0.1", server.port, (struct http_client_settings){.ca_file = ca_file}, &err));
    assert_ok(call("127.0.0.1", server.port, (struct http_client_settings){.ca_pem = ca_pem}, &err));
    assert_fails(call("127.0.0.1", server.port, (struct http_client_settings){.ca_file = other_file}, &err),
                 ERR_UNAVAILABLE);
    assert_non_null(strstr(err.msg, "certificate"));
    assert_fails(call("127.0.0.1", server.port, (struct http_client_settings){.ca_pem = other_pem}, &err),
                 ERR_UNAVAILABLE);
    assert_fails(call("127.0.0.1", server.port, (struct http_client_settings){0}, &err), ERR_UNAVAILABLE);
    assert_fails(call("127.0.0.1", server.port, (struct http_client_settings){.ca_file = no_file}, &err),
                 ERR_INVALID);
    /* The name is not in the certificate. */
    assert_fails(call("localhost", server.port, (struct http_client_settings){.ca_file = ca_file}, &err),
                 ERR_UNAVAILABLE);
    stop_server(server);
}

static void shows_its_own_certificate(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct tls_server server = start_server(/* wants_certificate= */ true);
    CLEANUP_FREE char *ca = content_of("ca.pem"), *cert = content_of("client.pem"),
                      *key = content_of("client.key");
    struct http_client_settings settings = {.ca_pem = ca, .client_cert_pem = cert, .client_key_pem = key};
    assert_ok(call("127.0.0.1", server.port, settings, &err));
    assert_fails(call("127.0.0.1", server.port, (struct http_client_settings){.ca_pem = ca}, &err),
                 ERR_UNAVAILABLE);
    settings.client_key_pem = "no key";
    assert_fails(call("127.0.0.1", server.port, settings, &err), ERR_INVALID);
    stop_server(server);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    pid_t shell = spawn((const char *const[]){"sh", "-c", make_certificates, "sh", dir, NULL}, -1);
    int status = -1;
    assert_int_equal(waitpid(shell, &status, 0), shell);
    return status;
}

static int tear_down(void **state)
{
    (void)state;
    pid_t rm = spawn((const char *const[]){"rm", "-rf", dir, NULL}, -1);
    waitpid(rm, NULL, 0);
    return 0;
}

int main(void)
{
    http_client_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verifies_the_server),
        cmocka_unit_test(shows_its_own_certificate),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
