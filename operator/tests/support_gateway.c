#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/tests/support_gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/stop.h"

#define ANSWER_BYTES_MAX (256u << 20)

/* ---- the gateway ---- */

static void count_wake(void *arg, const char *namespace, const char *name)
{
    struct test_gateway *test = arg;
    (void)namespace;
    (void)name;
    atomic_fetch_add(&test->wakes, 1);
}

void test_gateway_start(struct test_gateway *test, const struct gateway_settings *given)
{
    struct gateway_settings settings = given ? *given : (struct gateway_settings){.loops = 2};
    struct err err = ERR_INIT;
    *test = (struct test_gateway){0};
    test->metrics = metrics_new();
    settings.public_listen = "127.0.0.1:0";
    settings.internal_listen = "127.0.0.1:0";
    settings.domain = "fn.test";
    settings.cluster_domain = "cluster.local";
    settings.identity = "gateway-1";
    settings.metrics = test->metrics;
    settings.waker = (struct gateway_waker){.wake = count_wake, .arg = test};
    if (gateway_new(&settings, &test->gateway, &err) < 0 || gateway_start(test->gateway, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    test->port = gateway_public_port(test->gateway);
    test->internal_port = gateway_internal_port(test->gateway);
    test->tls_port = gateway_tls_port(test->gateway);
}

void test_gateway_stop(struct test_gateway *test)
{
    gateway_stop(test->gateway);
    gateway_free(test->gateway);
    metrics_free(test->metrics);
}

struct function_spec *test_spec(const char *namespace, const char *name, int created_s, const char *members)
{
    CLEANUP_FREE char *text = xasprintf(
        "{\"apiVersion\":\"cicada.dev/v1alpha1\",\"kind\":\"Function\",\"metadata\":{\"namespace\":\"%s\","
        "\"name\":\"%s\",\"uid\":\"uid-%s-%s\",\"generation\":0,"
        "\"creationTimestamp\":\"2026-01-01T00:%02d:%02dZ\"},\"spec\":{\"handler\":\"f.so:f\"%s%s}}",
        namespace, name, namespace, name, created_s / 60, created_s % 60, members[0] ? "," : "", members);
    struct err err = ERR_INIT;
    CLEANUP_JSON cJSON *tree = NULL;
    struct function_spec *spec = NULL;
    if (json_parse(text, strlen(text), JSON_DEPTH_MAX, &tree, &err) < 0 ||
        function_spec_parse(tree, &spec, &err) < 0) {
        fail_msg("%s: %s", text, err.msg);
    }
    return spec;
}

void test_gateway_function(struct test_gateway *test, const char *namespace, const char *name,
                           const char *members)
{
    struct function_spec *spec = test_spec(namespace, name, 0, members);
    gateway_function_set(test->gateway, spec);
    function_spec_unref(spec);
}

void test_gateway_pod(struct test_gateway *test, const char *name, const char *uid,
                      const struct sockaddr_in *address, enum gateway_pod_state state,
                      const char *failure_code)
{
    struct gateway_pod pod = {.namespace = "shop",
                              .function = "f",
                              .name = name,
                              .uid = uid,
                              .has_address = address != NULL,
                              .state = state,
                              .failure_code = failure_code};
    if (address) {
        pod.address = *address;
    }
    gateway_pod_set(test->gateway, &pod);
}

int64_t test_gateway_statz(struct test_gateway *test, const char *key)
{
    CLEANUP_STRBUF struct strbuf out;
    struct err err = ERR_INIT;
    strbuf_init(&out, 1 << 20);
    assert_int_equal(gateway_statz(test->gateway, &out), 0);
    CLEANUP_JSON cJSON *tree = NULL;
    if (json_parse(out.buf, out.len, JSON_DEPTH_MAX, &tree, &err) < 0) {
        fail_msg("%s: %s", out.buf, err.msg);
    }
    const cJSON *function;
    cJSON_ArrayForEach(function, json_array(tree, "functions"))
    {
        if (strcmp(json_string(function, "name"), "f") == 0) {
            return json_int64(function, key, -2);
        }
    }
    return strcmp(key, "uptimeMs") == 0 ? json_int64(tree, key, -2) : -1;
}

double test_gateway_metric(struct test_gateway *test, const char *line_start)
{
    CLEANUP_STRBUF struct strbuf out;
    CLEANUP_FREE char *start = xasprintf("\n%s", line_start);
    strbuf_init(&out, 4 << 20);
    assert_int_equal(metrics_render(test->metrics, &out), 0);
    const char *line = strstr(out.buf, start);
    if (!line) {
        return -1;
    }
    const char *end = strchr(line + 1, '\n');
    while (end[-1] != ' ') {
        end--;
    }
    return strtod(end, NULL);
}

struct expected_metric {
    struct test_gateway *test;
    const char *name;
    double value;
};

static bool has_metric(void *arg)
{
    const struct expected_metric *expected = arg;
    return test_gateway_metric(expected->test, expected->name) == expected->value;
}

void test_gateway_wait_metric(struct test_gateway *test, const char *line_start, double value)
{
    struct expected_metric expected = {test, line_start, value};
    test_wait_until(has_metric, &expected, line_start);
}

/* ---- clients ---- */

void test_client_open(struct test_client *client, int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    strbuf_init(&client->in, ANSWER_BYTES_MAX);
    client->ssl = NULL;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client->fd >= 0);
    assert_int_equal(connect(client->fd, (const struct sockaddr *)&address, sizeof(address)), 0);
}

void test_client_close(struct test_client *client)
{
    SSL_free(client->ssl);
    client->ssl = NULL;
    if (client->fd >= 0) {
        close(client->fd);
        client->fd = -1;
    }
    strbuf_release(&client->in);
}

void test_client_reset(struct test_client *client)
{
    struct linger hard = {.l_onoff = 1};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    test_client_close(client);
}

bool test_client_try_send(struct test_client *client, const char *data, size_t len)
{
    if (client->ssl) {
        size_t sent;
        return len == 0 || SSL_write_ex(client->ssl, data, len, &sent) == 1;
    }
    while (len > 0) {
        struct pollfd poller = {.fd = client->fd, .events = POLLOUT};
        if (poll(&poller, 1, TEST_WAIT_MS) <= 0) {
            return false;
        }
        ssize_t sent = send(client->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) {
            return false;
        }
        if (sent > 0) {
            data += sent;
            len -= (size_t)sent;
        }
    }
    return true;
}

void test_client_send(struct test_client *client, const char *text)
{
    assert_true(test_client_try_send(client, text, strlen(text)));
}

bool test_client_readable(struct test_client *client, int within_ms)
{
    if (client->ssl && SSL_pending(client->ssl) > 0) {
        return true;
    }
    struct pollfd poller = {.fd = client->fd, .events = POLLIN};
    return poll(&poller, 1, within_ms) > 0;
}

ssize_t test_client_receive(struct test_client *client, char *out, size_t size)
{
    size_t got = 0;
    if (!client->ssl) {
        return recv(client->fd, out, size, 0);
    }
    if (SSL_read_ex(client->ssl, out, size, &got) == 1) {
        return (ssize_t)got;
    }
    return SSL_get_error(client->ssl, 0) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

/* More into client->in; false: end of stream, error or time-out. */
static bool fill(struct test_client *client)
{
    if (!test_client_readable(client, TEST_WAIT_MS)) {
        return false;
    }
    char *room = strbuf_reserve(&client->in, 65536);
    ssize_t got = test_client_receive(client, room, 65536);
    if (got <= 0) {
        return false;
    }
    strbuf_advance(&client->in, (size_t)got);
    return true;
}

bool test_client_ended(struct test_client *client, int within_ms)
{
    char byte;
    return client->in.len == 0 && test_client_readable(client, within_ms) &&
           test_client_receive(client, &byte, 1) <= 0;
}

const char *test_answer_header(const struct test_answer *answer, const char *name, char storage[512])
{
    CLEANUP_FREE char *start = xasprintf("\r\n%s: ", name);
    const char *at = strcasestr(answer->head.buf, start);
    storage[0] = '\0';
    if (at) {
        at += strlen(start);
        const char *end = strstr(at, "\r\n");
        snprintf(storage, 512, "%.*s", (int)(end - at), at);
    }
    return storage;
}

bool test_answer_has(const struct test_answer *answer, const char *text)
{
    return strcasestr(answer->body.buf, text) != NULL;
}

void test_answer_release(struct test_answer *answer)
{
    strbuf_release(&answer->head);
    strbuf_release(&answer->body);
}

static bool take(struct test_client *client, struct strbuf *out, size_t len)
{
    while (client->in.len < len) {
        size_t have = client->in.len;
        strbuf_append(out, client->in.buf, have);
        strbuf_clear(&client->in);
        len -= have;
        if (!fill(client)) {
            return false;
        }
    }
    strbuf_append(out, client->in.buf, len);
    strbuf_consume(&client->in, len);
    return true;
}

static bool take_line(struct test_client *client, struct strbuf *line)
{
    strbuf_clear(line);
    const char *end;
    while (!(end = strstr(client->in.buf, "\r\n"))) {
        if (!fill(client)) {
            return false;
        }
    }
    strbuf_append(line, client->in.buf, (size_t)(end - client->in.buf));
    strbuf_consume(&client->in, line->len + 2);
    return true;
}

static bool read_chunks(struct test_client *client, struct test_answer *answer)
{
    CLEANUP_STRBUF struct strbuf line;
    strbuf_init(&line, 65536);
    for (;;) {
        if (!take_line(client, &line)) {
            return false;
        }
        size_t size = strtoul(line.buf, NULL, 16);
        if (!take(client, &answer->body, size) || !take_line(client, &line)) {
            return false;
        }
        assert_int_equal(line.len, 0);
        if (size == 0) {
            return true;
        }
    }
}

bool test_client_try_read(struct test_client *client, struct test_answer *answer, bool head_only)
{
    *answer = (struct test_answer){0};
    strbuf_init(&answer->head, 1 << 20);
    strbuf_init(&answer->body, ANSWER_BYTES_MAX);
    const char *end;
    while (!(end = strstr(client->in.buf, "\r\n\r\n"))) {
        if (!fill(client)) {
            return false;
        }
    }
    strbuf_append(&answer->head, client->in.buf, (size_t)(end - client->in.buf) + 4);
    strbuf_consume(&client->in, answer->head.len);
    assert_memory_equal(answer->head.buf, "HTTP/1.1 ", 9);
    answer->status = (int)strtol(answer->head.buf + 9, NULL, 10);
    if (answer->status < 200) {
        return true;
    }
    char value[512];
    answer->closed = strcmp(test_answer_header(answer, "Connection", value), "close") == 0;
    answer->chunked = strcmp(test_answer_header(answer, "Transfer-Encoding", value), "chunked") == 0;
    if (head_only || answer->status == 204 || answer->status == 304) {
        return true;
    }
    if (answer->chunked) {
        return read_chunks(client, answer);
    }
    if (test_answer_header(answer, "Content-Length", value)[0]) {
        return take(client, &answer->body, strtoul(value, NULL, 10));
    }
    assert_true(answer->closed);
    (void)take(client, &answer->body, SIZE_MAX / 2);
    return true;
}

void test_client_read(struct test_client *client, struct test_answer *answer, bool head_only)
{
    if (!test_client_try_read(client, answer, head_only)) {
        fail_msg("no complete answer; so far: %s%s", answer->head.buf, client->in.buf);
    }
}

void test_call(int port, const char *text, int status, struct test_answer *answer)
{
    struct test_client client;
    test_client_open(&client, port);
    test_client_send(&client, text);
    test_client_read(&client, answer, strncmp(text, "HEAD", 4) == 0);
    if (answer->status != status) {
        fail_msg("%d expected for: %s\ngot: %s%s", status, text, answer->head.buf, answer->body.buf);
    }
    test_client_close(&client);
}

void test_call_status(int port, const char *text, int status)
{
    struct test_answer answer;
    test_call(port, text, status, &answer);
    test_answer_release(&answer);
}

void test_wait_until(bool (*condition)(void *arg), void *arg, const char *what)
{
    struct stop never;
    stop_init(&never);
    int64_t deadline_ms = clock_monotonic_ms() + TEST_WAIT_MS;
    while (!condition(arg)) {
        if (clock_monotonic_ms() > deadline_ms) {
            fail_msg("never came true: %s", what);
        }
        (void)stop_wait(&never, 2);
    }
    stop_release(&never);
}

long test_peak_memory_kb(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    long kb = 0;
    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, "VmHWM:", 6) == 0) {
            kb = strtol(line + 6, NULL, 10);
        }
    }
    if (file) {
        fclose(file);
    }
    return kb;
}

long test_memory_kb(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    char line[256];
    long kb = 0;
    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, "Pss:", 4) == 0) {
            kb = strtol(line + 4, NULL, 10);
        }
    }
    if (file) {
        fclose(file);
    }
    return kb;
}
