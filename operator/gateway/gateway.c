#include "operator/gateway/gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

#include "operator/gateway/gateway_internal.h"
#include "operator/gateway/keeper.h"
#include "operator/gateway/upstream_conn.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define GATEWAY_LOOPS_MAX       64
#define GATEWAY_GOODBYE_WAIT_MS 200
#define GATEWAY_STOP_TURNS      4

/* ---- closing idle connections on every loop ---- */

/* Counts loops that have done it; freed by the last of them and the one who waits. */
struct closing {
    pthread_mutex_t mu;
    pthread_cond_t all_done;
    int refs, left; /* guarded by mu */
};

struct closing_post {
    struct loop_post post;
    struct worker *worker;
    struct pod *pod;
    struct closing *closing; /* NULL: nobody waits */
};

static struct closing *closing_new(int loops)
{
    struct closing *closing = xcalloc(1, sizeof(*closing));
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&closing->mu, NULL);
    pthread_cond_init(&closing->all_done, &attributes);
    pthread_condattr_destroy(&attributes);
    closing->refs = loops + 1;
    closing->left = loops;
    return closing;
}

static void closing_unref_unlock(struct closing *closing)
{
    bool last = --closing->refs == 0;
    pthread_mutex_unlock(&closing->mu);
    if (last) {
        pthread_cond_destroy(&closing->all_done);
        pthread_mutex_destroy(&closing->mu);
        free(closing);
    }
}

static void close_on_loop(struct loop_post *post)
{
    struct closing_post *request = container_of(post, struct closing_post, post);
    upstream_close_idle(request->worker, request->pod);
    if (request->closing) {
        pthread_mutex_lock(&request->closing->mu);
        if (--request->closing->left == 0) {
            pthread_cond_signal(&request->closing->all_done);
        }
        closing_unref_unlock(request->closing);
    }
    pod_unref(request->pod);
    free(request);
}

static void close_idle_everywhere(struct gateway *gateway, struct pod *pod, struct closing *closing)
{
    atomic_fetch_add(&pod->epoch, 1); /* what is busy now is not kept either */
    for (int i = 0; i < gateway->loops; i++) {
        struct closing_post *request = xcalloc(1, sizeof(*request));
        request->worker = &gateway->workers[i];
        request->pod = pod_ref(pod);
        request->closing = closing;
        request->post.run = close_on_loop;
        loop_post(request->worker->loop, &request->post);
    }
}

static void closing_wait(struct closing *closing)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += GATEWAY_GOODBYE_WAIT_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&closing->mu);
    while (closing->left > 0 && pthread_cond_timedwait(&closing->all_done, &closing->mu, &until) == 0) {}
    closing_unref_unlock(closing);
}

/* ---- what the registry needs ---- */

static void adopt_function(void *arg, struct function_state *function)
{
    struct gateway *gateway = arg;
    /* Spread over the loops: each looks after its share of the functions. */
    uint64_t hash = hash_fnv1a(HASH_FNV1A_START, function->key, strlen(function->key));
    function->metrics = function_metrics_new(&gateway->metrics, function->namespace, function->name);
    function->attend_arg = keeper_new(&gateway->workers[hash % (uint64_t)gateway->loops], function);
    function->attend = keeper_attend;
}

static void abandon_function(void *arg, struct function_state *function)
{
    struct gateway *gateway = arg;
    if (atomic_load(&gateway->running)) {
        keeper_close(function->attend_arg);
    } else {
        keeper_free(function->attend_arg);
    }
}

static struct upstream_pool *make_pools(void *arg)
{
    struct gateway *gateway = arg;
    return upstream_pools_new(gateway->loops);
}

static void close_idle(void *arg, struct pod *pod)
{
    close_idle_everywhere(arg, pod, /* closing= */ NULL);
}

/* ---- life ---- */

static int default_loops(void)
{
    cpu_set_t cpus;
    int count = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    return count < 1 ? 1 : count;
}

/* As many descriptors as the system allows; returns how many clients that means. */
static int raise_descriptors(void)
{
    struct rlimit limit = {.rlim_cur = 1024, .rlim_max = 1024};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        rlim_t before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
            limit.rlim_cur = before;
        }
    }
    rlim_t share = limit.rlim_cur / 10 * 9;
    return share > 1000000 ? 1000000 : (int)share;
}

static void copy_settings(struct gateway *gateway, const struct gateway_settings *settings)
{
    struct gateway_settings *own = &gateway->settings;
    *own = *settings;
    const char **strings[GATEWAY_STRINGS] = {&own->public_listen, &own->internal_listen, &own->tls_listen,
                                             &own->domain,        &own->cluster_domain,  &own->identity};
    for (size_t i = 0; i < GATEWAY_STRINGS; i++) {
        *strings[i] = gateway->owned[i] = xstrdup_or_null(*strings[i]);
    }
    int most = raise_descriptors();
    own->trusted_proxies = NULL; /* parsed, and the caller's */
    own->max_connections = settings->max_connections > 0 ? settings->max_connections : most;
    struct {
        int64_t *value;
        int64_t fallback;
    } times[] = {{&own->client_header_timeout_ms, 10000},
                 {&own->client_idle_timeout_ms, 75000},
                 {&own->upstream_idle_timeout_ms, 50000}};
    for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
        *times[i].value = *times[i].value > 0 ? *times[i].value : times[i].fallback;
    }
}

int gateway_new(const struct gateway_settings *settings, struct gateway **ret_gateway, struct err *err)
{
    struct gateway *gateway = xcalloc(1, sizeof(*gateway));
    copy_settings(gateway, settings);
    gateway->started_us = clock_monotonic_us();
    gateway_metrics_init(&gateway->metrics, settings->metrics);
    gateway->unrouted = function_metrics_new(&gateway->metrics, "", "");
    int loops = settings->loops > 0 ? settings->loops : default_loops();
    gateway->loops = loops < GATEWAY_LOOPS_MAX ? loops : GATEWAY_LOOPS_MAX;
    gateway->workers = xcalloc((size_t)gateway->loops, sizeof(*gateway->workers));
    struct registry_ops ops = {.adopt = adopt_function,
                               .abandon = abandon_function,
                               .make_pools = make_pools,
                               .close_idle = close_idle,
                               .arg = gateway};
    gateway->registry = registry_new(gateway->settings.domain, gateway->settings.cluster_domain, &ops);
    gateway->certificates = certificates_new();
    gateway->tickets = tls_tickets_new(&clock_system);
    if (settings->trusted_proxies && address_ranges_parse(settings->trusted_proxies, gateway->trusted_proxies,
                                                          &gateway->trusted_proxy_count, err) < 0) {
        gateway_free(gateway);
        return err_wrap(err, "trusted proxies");
    }
    for (int i = 0; i < gateway->loops; i++) {
        if (worker_init(&gateway->workers[i], gateway, i, err) < 0) {
            gateway_free(gateway);
            return -1;
        }
    }
    *ret_gateway = gateway;
    return 0;
}

static int parse_listen(const char *text, struct sockaddr_in *ret_address, struct err *err)
{
    const char *colon = strrchr(text, ':');
    int64_t port;
    char host[INET_ADDRSTRLEN] = "";
    *ret_address = (struct sockaddr_in){.sin_family = AF_INET};
    if (colon && (size_t)(colon - text) < sizeof(host)) {
        memcpy(host, text, (size_t)(colon - text));
    }
    if (!colon || !parse_int64(colon + 1, 0, 65535, &port) ||
        inet_pton(AF_INET, host, &ret_address->sin_addr) != 1) {
        return err_set(err, ERR_INVALID, "\"%s\" is no IPv4 address and port", text);
    }
    ret_address->sin_port = htons((uint16_t)port);
    return 0;
}

/* All loops listen on one port; if it was 0, on the one that the first of them got. */
static int listen_on(struct gateway *gateway, enum listener listener, const char *text, struct err *err)
{
    struct sockaddr_in address;
    if (parse_listen(text, &address, err) < 0) {
        return -1;
    }
    for (int i = 0; i < gateway->loops; i++) {
        struct worker *worker = &gateway->workers[i];
        if (worker_listen(worker, listener, &address, err) < 0) {
            return -1;
        }
        socklen_t len = sizeof(address);
        if (getsockname(worker->acceptors[listener].watch.fd, (struct sockaddr *)&address, &len) < 0) {
            return err_set_errno(err, errno, "getsockname");
        }
    }
    gateway->ports[listener] = ntohs(address.sin_port);
    return 0;
}

static int start_tls(struct gateway *gateway, struct err *err)
{
    for (int i = 0; i < gateway->loops; i++) {
        if (worker_start_tls(&gateway->workers[i], err) < 0) {
            return -1;
        }
    }
    return listen_on(gateway, LISTENER_TLS, gateway->settings.tls_listen, err);
}

int gateway_start(struct gateway *gateway, struct err *err)
{
    const struct gateway_settings *settings = &gateway->settings;
    if (listen_on(gateway, LISTENER_PUBLIC, settings->public_listen, err) < 0 ||
        (settings->internal_listen &&
         listen_on(gateway, LISTENER_INTERNAL, settings->internal_listen, err) < 0) ||
        (settings->tls_listen && start_tls(gateway, err) < 0)) {
        return -1;
    }
    atomic_store(&gateway->running, true);
    for (int i = 0; i < gateway->loops; i++) {
        if (worker_start(&gateway->workers[i], err) < 0) {
            gateway_stop(gateway);
            return -1;
        }
    }
    return 0;
}

int gateway_public_port(const struct gateway *gateway)
{
    return gateway->ports[LISTENER_PUBLIC];
}

int gateway_internal_port(const struct gateway *gateway)
{
    return gateway->ports[LISTENER_INTERNAL];
}

int gateway_tls_port(const struct gateway *gateway)
{
    return gateway->ports[LISTENER_TLS];
}

void gateway_stop(struct gateway *gateway)
{
    for (int i = 0; i < gateway->loops; i++) {
        worker_stop(&gateway->workers[i]);
    }
    for (int i = 0; i < gateway->loops; i++) {
        worker_close_all(&gateway->workers[i]);
    }
    /* Closing made work, on other loops too: slots that came free, connections to forget. */
    for (int i = 0; i < GATEWAY_STOP_TURNS * gateway->loops; i++) {
        loop_turn(gateway->workers[i % gateway->loops].loop, 0);
    }
    atomic_store(&gateway->running, false);
}

void gateway_free(struct gateway *gateway)
{
    if (!gateway) {
        return;
    }
    bool complete = true;
    for (int i = 0; i < gateway->loops; i++) {
        complete &= gateway->workers[i].loop != NULL;
    }
    if (complete) {
        gateway_stop(gateway);
    }
    registry_free(gateway->registry);
    certificates_free(gateway->certificates);
    if (complete) { /* probes leave through their loops */
        for (int i = 0; i < gateway->loops; i++) {
            loop_turn(gateway->workers[i].loop, 0);
        }
    }
    for (int i = 0; i < gateway->loops; i++) {
        worker_release(&gateway->workers[i]);
    }
    tls_tickets_free(gateway->tickets);
    free(gateway->workers);
    function_metrics_free(gateway->unrouted);
    for (size_t i = 0; i < GATEWAY_STRINGS; i++) {
        free(gateway->owned[i]);
    }
    free(gateway);
}

/* ---- catalogue ---- */

static void retry_routes(struct gateway *gateway)
{
    for (int i = 0; i < gateway->loops; i++) {
        struct worker *worker = &gateway->workers[i];
        if (atomic_load(&worker->route_waiting) > 0 &&
            !atomic_exchange(&worker->routes_changed_pending, true)) {
            loop_post(worker->loop, &worker->routes_changed);
        }
    }
}

void gateway_function_set(struct gateway *gateway, struct function_spec *spec)
{
    registry_set_function(gateway->registry, spec);
    retry_routes(gateway);
}

void gateway_function_remove(struct gateway *gateway, const char *namespace, const char *name)
{
    registry_remove_function(gateway->registry, namespace, name);
}

void gateway_catalog_synced(struct gateway *gateway)
{
    atomic_store(&gateway->synced, true);
    retry_routes(gateway);
}

void gateway_pod_set(struct gateway *gateway, const struct gateway_pod *pod)
{
    registry_set_pod(gateway->registry, pod);
}

void gateway_pod_remove(struct gateway *gateway, const char *uid)
{
    registry_remove_pod(gateway->registry, uid);
}

bool gateway_pod_announced(struct gateway *gateway, const char *uid, const struct sockaddr_in *address)
{
    return registry_pod_announced(gateway->registry, uid, address);
}

bool gateway_pod_goodbye(struct gateway *gateway, const char *uid)
{
    struct pod *pod;
    int in_flight;
    if (!registry_pod_goodbye(gateway->registry, uid, &pod, &in_flight)) {
        return false;
    }
    if (atomic_load(&gateway->running)) {
        struct closing *closing = closing_new(gateway->loops);
        close_idle_everywhere(gateway, pod, closing);
        closing_wait(closing);
    }
    pod_unref(pod);
    return in_flight == 0;
}

void gateway_function_blocked(struct gateway *gateway, const char *namespace, const char *name,
                              const char *code)
{
    registry_set_blocked(gateway->registry, namespace, name, code);
}

void gateway_function_template(struct gateway *gateway, const char *namespace, const char *name,
                               uint64_t template)
{
    registry_set_template(gateway->registry, namespace, name, template);
}

bool gateway_function_wake_wanted(struct gateway *gateway, const char *namespace, const char *name)
{
    return registry_wake_wanted(gateway->registry, namespace, name);
}

void gateway_function_woken(struct gateway *gateway, const char *namespace, const char *name)
{
    registry_function_woken(gateway->registry, namespace, name);
}

void gateway_peers_set(struct gateway *gateway, int gateways, int place)
{
    registry_set_gateways(gateway->registry, gateways, place);
}

int gateway_peers(struct gateway *gateway)
{
    return registry_gateways(gateway->registry);
}

/* ---- out ---- */

int gateway_statz(struct gateway *gateway, struct strbuf *out)
{
    int64_t now_us = clock_monotonic_us(); /* integrals and uptime are of the same moment */
    strbuf_append_str(out, "{\"gateway\":");
    const char *identity = gateway->settings.identity ? gateway->settings.identity : "";
    strbuf_append_json_string(out, identity, strlen(identity));
    strbuf_appendf(out, ",\"uptimeMs\":%" PRId64 ",\"draining\":%s,\"functions\":[",
                   (now_us - gateway->started_us) / 1000, atomic_load(&gateway->draining) ? "true" : "false");
    registry_statz(gateway->registry, now_us, STATZ_IDLE_LIMIT_US, out);
    return strbuf_append_str(out, "]}\n");
}

bool gateway_function_figures(struct gateway *gateway, const char *namespace, const char *name,
                              struct gateway_function_figures *ret_figures)
{
    struct gateway_function_figures figures = {0};
    struct function_state *function =
        registry_function(gateway->registry, namespace, name, &figures.in_flight, &figures.waiting);
    if (!function) {
        return false;
    }
    double requests, p50_s, p99_s;
    int64_t cold_us;
    function_metrics_figures(function->metrics, &requests, &p50_s, &p99_s, &cold_us);
    function_state_unref(function);
    figures.requests = (int64_t)requests;
    figures.p50_ms = p50_s * 1e3;
    figures.p99_ms = p99_s * 1e3;
    figures.cold_ms = (double)cold_us / 1e3;
    *ret_figures = figures;
    return true;
}

bool gateway_ready(const struct gateway *gateway)
{
    return atomic_load(&gateway->running) && atomic_load(&gateway->synced) &&
           !atomic_load(&gateway->draining);
}

void gateway_drain(struct gateway *gateway)
{
    if (atomic_exchange(&gateway->draining, true) || !atomic_load(&gateway->running)) {
        return;
    }
    for (int i = 0; i < gateway->loops; i++) {
        loop_post(gateway->workers[i].loop, &gateway->workers[i].drain_begun);
    }
}

bool gateway_quiet(const struct gateway *gateway, int64_t quiet_ms)
{
    int64_t now_ms = clock_monotonic_ms();
    for (int i = 0; i < gateway->loops; i++) {
        const struct worker *worker = &gateway->workers[i];
        if (atomic_load(&worker->exchanges) > 0 ||
            now_ms - atomic_load(&worker->last_request_ms) < quiet_ms) {
            return false;
        }
    }
    return true;
}

void gateway_leave(struct gateway *gateway)
{
    if (atomic_exchange(&gateway->leaving, true) || !atomic_load(&gateway->running)) {
        return;
    }
    gateway->leaving_ms = clock_monotonic_ms();
    for (int i = 0; i < gateway->loops; i++) {
        loop_post(gateway->workers[i].loop, &gateway->workers[i].leave_begun);
    }
}

bool gateway_left(const struct gateway *gateway, int64_t patience_ms)
{
    for (int i = 0; i < gateway->loops; i++) {
        const struct worker *worker = &gateway->workers[i];
        if (!atomic_load(&worker->left) || atomic_load(&worker->exchanges) > 0) {
            return false;
        }
    }
    return atomic_load(&gateway->clients) == 0 || clock_monotonic_ms() - gateway->leaving_ms >= patience_ms;
}
