/* test_kube_catalog_fixture.h - a client of a fake API server, and a gateway core that writes down what it is told.
 *
 * Included by one test program at a time: it defines the functions of gateway.h that catalogue and announcements call, so
 * that the real core is not linked.
 */
#ifndef CICADA_TESTS_TEST_KUBE_CATALOG_FIXTURE_H
#define CICADA_TESTS_TEST_KUBE_CATALOG_FIXTURE_H

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "operator/gateway/gateway.h"
#include "operator/gateway/kube_catalog.h"
#include "operator/tests/support_fake_apiserver.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/http/http_client.h"

#define RECORD_LINES_MAX 256
#define WAIT_MS          5000

/* ---- the recording core ---- */

struct gateway {
    pthread_mutex_t mu;
    char *lines[RECORD_LINES_MAX]; /* guarded by mu */
    size_t count;                  /* guarded by mu */
    bool refuse;                   /* knows no pod; guarded by mu */
    bool wakes_unwanted;           /* set before a wake is asked for */
};

static inline void record(struct gateway *gateway, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static inline void record(struct gateway *gateway, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    pthread_mutex_lock(&gateway->mu);
    if (gateway->count < RECORD_LINES_MAX) {
        gateway->lines[gateway->count++] = xstrdup(line);
    }
    pthread_mutex_unlock(&gateway->mu);
}

static inline int recorded(struct gateway *gateway, const char *line)
{
    int found = 0;
    pthread_mutex_lock(&gateway->mu);
    for (size_t i = 0; i < gateway->count; i++) {
        found += strcmp(gateway->lines[i], line) == 0 ? 1 : 0;
    }
    pthread_mutex_unlock(&gateway->mu);
    return found;
}

static inline void print_recorded(struct gateway *gateway)
{
    pthread_mutex_lock(&gateway->mu);
    for (size_t i = 0; i < gateway->count; i++) {
        print_message("    %s\n", gateway->lines[i]);
    }
    pthread_mutex_unlock(&gateway->mu);
}

static inline void pause_ms(int64_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static inline void await_record(struct gateway *gateway, const char *line)
{
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (recorded(gateway, line) == 0) {
        if (clock_monotonic_ms() > deadline_ms) {
            print_message("no \"%s\" in:\n", line);
            print_recorded(gateway);
            fail();
        }
        pause_ms(2);
    }
}

void gateway_function_set(struct gateway *gateway, struct function_spec *spec)
{
    record(gateway, "function %s/%s generation %lld", spec->namespace, spec->name,
           (long long)spec->generation);
}

void gateway_function_remove(struct gateway *gateway, const char *namespace, const char *name)
{
    record(gateway, "function %s/%s removed", namespace, name);
}

void gateway_catalog_synced(struct gateway *gateway)
{
    record(gateway, "synced");
}

void gateway_pod_set(struct gateway *gateway, const struct gateway_pod *pod)
{
    static const char *const states[] = {"pending", "ready", "terminating"};
    char address[INET_ADDRSTRLEN] = "-";
    if (pod->has_address) {
        inet_ntop(AF_INET, &pod->address.sin_addr, address, sizeof(address));
        assert_int_equal(ntohs(pod->address.sin_port), 8080);
    }
    record(gateway, "pod %s %s of %s/%s %s %s %s", pod->uid, pod->name, pod->namespace, pod->function,
           address, states[pod->state], pod->failure_code ? pod->failure_code : "-");
}

void gateway_pod_remove(struct gateway *gateway, const char *uid)
{
    record(gateway, "pod %s removed", uid);
}

static inline bool core_knows_pods(struct gateway *gateway)
{
    pthread_mutex_lock(&gateway->mu);
    bool knows = !gateway->refuse;
    pthread_mutex_unlock(&gateway->mu);
    return knows;
}

bool gateway_pod_announced(struct gateway *gateway, const char *uid, const struct sockaddr_in *address)
{
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address->sin_addr, text, sizeof(text));
    record(gateway, "pod %s announced %s:%d", uid, text, ntohs(address->sin_port));
    return core_knows_pods(gateway);
}

bool gateway_pod_goodbye(struct gateway *gateway, const char *uid)
{
    record(gateway, "pod %s goodbye", uid);
    return core_knows_pods(gateway);
}

bool gateway_function_wake_wanted(struct gateway *gateway, const char *namespace, const char *name)
{
    (void)namespace;
    (void)name;
    return !gateway->wakes_unwanted;
}

void gateway_function_woken(struct gateway *gateway, const char *namespace, const char *name)
{
    record(gateway, "function %s/%s woken", namespace, name);
}

void gateway_function_blocked(struct gateway *gateway, const char *namespace, const char *name,
                              const char *code)
{
    record(gateway, "blocked %s/%s %s", namespace, name, code ? code : "-");
}

void gateway_function_template(struct gateway *gateway, const char *namespace, const char *name,
                               uint64_t template)
{
    record(gateway, "template %s/%s %llx", namespace, name, (unsigned long long)template);
}

/* Takes a chain that begins with "good". */
int gateway_certificate_set(struct gateway *gateway, const char *namespace, const char *secret,
                            const char *chain_pem, const char *key_pem, bool *ret_changed, struct err *err)
{
    record(gateway, "certificate %s/%s %s %s", namespace, secret, chain_pem, key_pem);
    *ret_changed = true;
    return strncmp(chain_pem, "good", 4) == 0 ? 0 : err_set(err, ERR_INVALID, "tls.crt is bad");
}

void gateway_certificate_remove(struct gateway *gateway, const char *namespace, const char *secret)
{
    record(gateway, "certificate %s/%s removed", namespace, secret);
}

void gateway_peers_set(struct gateway *gateway, int gateways, int place)
{
    record(gateway, "peers %d, place %d", gateways, place);
}

int gateway_peers(struct gateway *gateway)
{
    (void)gateway;
    return 3;
}

/* ---- the API server and its client ---- */

struct fixture {
    struct fake_apiserver *server;
    struct stop stop;
    struct kube_client *client;
    struct gateway gateway;
};

static inline struct kube_client *client_of(struct fake_apiserver *server, const struct stop *stop)
{
    char path[] = "/tmp/cicada-test-kubeconfig-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    dprintf(fd,
            "apiVersion: v1\nkind: Config\ncurrent-context: t\n"
            "clusters: [{name: t, cluster: {server: '%s'}}]\n"
            "contexts: [{name: t, context: {cluster: t, user: t, namespace: cicada-system}}]\n"
            "users: [{name: t, user: {token: secret}}]\n",
            fake_apiserver_url(server));
    close(fd);
    struct kube_client_config *config;
    struct err err = ERR_INIT;
    if (kube_client_config_load(path, &config, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    unlink(path);
    struct kube_client *client = kube_client_new(config, stop);
    kube_client_config_free(config);
    return client;
}

static inline struct fixture *fixture_new(void)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    fixture->server = fake_apiserver_start();
    stop_init(&fixture->stop);
    pthread_mutex_init(&fixture->gateway.mu, NULL);
    fixture->client = client_of(fixture->server, &fixture->stop);
    return fixture;
}

/* Everything that uses it has ended. */
static inline void fixture_free(struct fixture *fixture)
{
    kube_client_free(fixture->client);
    fake_apiserver_stop(fixture->server);
    stop_release(&fixture->stop);
    for (size_t i = 0; i < fixture->gateway.count; i++) {
        free(fixture->gateway.lines[i]);
    }
    pthread_mutex_destroy(&fixture->gateway.mu);
    free(fixture);
}

/* A list of `items` (comma-separated objects) for requests that match; once. */
static inline void answer_list(struct fixture *fixture, const char *match, const char *items)
{
    CLEANUP_FREE char *body =
        xasprintf("{\"kind\":\"List\",\"metadata\":{\"resourceVersion\":\"100\"},\"items\":[%s]}", items);
    fake_apiserver_answer(fixture->server, &(struct fake_answer){.match = match, .body = body});
}

/* Sends a watch event once the watch is there. */
static inline void push_event(struct fixture *fixture, const char *match, const char *type,
                              const char *object)
{
    CLEANUP_FREE char *event = xasprintf("{\"type\":\"%s\",\"object\":%s}\n", type, object);
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (fake_apiserver_push(fixture->server, match, event) == 0) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        pause_ms(2);
    }
}

#define FUNCTIONS_PATH   "/apis/cicada.dev/v1alpha1/functions?"
#define PODS_PATH        "/api/v1/pods?"
#define DEPLOYMENTS_PATH "/apis/apps/v1/deployments?"
#define PEERS_PATH       "/api/v1/namespaces/cicada-system/pods?"

/* rest: more members of metadata, beginning with a comma, or "". */
static inline char *function_json(const char *name, int generation, const char *handler, const char *version,
                                  const char *rest)
{
    return xasprintf(
        "{\"apiVersion\":\"cicada.dev/v1alpha1\",\"kind\":\"Function\",\"metadata\":{\"name\":\"%s\","
        "\"namespace\":\"shop\",\"uid\":\"f-%s\",\"resourceVersion\":\"%s\",\"generation\":%d%s},"
        "\"spec\":{\"handler\":\"%s\"}}",
        name, name, version, generation, rest, handler);
}

/* A pod of function `create-order`; spec and status are objects' members. */
static inline char *pod_json(const char *name, const char *version, const char *rest, const char *spec,
                             const char *status)
{
    return xasprintf(
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"shop\","
        "\"uid\":\"u-%s\",\"resourceVersion\":\"%s\",\"labels\":{\"app.kubernetes.io/managed-by\":"
        "\"cicada\",\"cicada.dev/function\":\"create-order\"}%s},\"spec\":{%s},\"status\":{%s}}",
        name, name, version, rest, spec, status);
}

#endif
