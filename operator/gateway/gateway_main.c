/* gateway_main.c - cicada-gateway: the core (gateway.h), fed from the Kubernetes API, with its announcement and admin ports. */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "operator/controller/controller.h"
#include "operator/gateway/announce.h"
#include "operator/gateway/gateway.h"
#include "operator/gateway/gateway_admin.h"
#include "operator/gateway/kube_catalog.h"
#include "operator/gateway/kube_node_ranges.h"
#include "operator/gateway/kube_waker.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/options.h"
#include "runtime/base/text.h"
#include "runtime/base/version.h"
#include "runtime/http/http_client.h"

#define CLIENT_HEADER_MS 10000
#define CLIENT_IDLE_MS   75000
#define UPSTREAM_IDLE_MS 50000
#define NAMESPACES_MAX   256
#define SIGNAL_CHECK_MS  50 /* how often a drain looks whether it is quiet */
#define LEAVE_CHECK_MS   5  /* and then, whether all have left */
#define LEAVE_PATIENCE_MS                                                                                    \
    200                 /* for a connection without a whole request, when all others are answered or closed */
#define MALLOC_ARENAS 2 /* dozens of threads that rarely allocate: an arena each would multiply the memory */

struct gateway_options {
    char *kubeconfig, *namespace, *watch_namespaces, *identity;
    char *public_listen, *internal_listen, *tls_listen, *admin_listen, *announce_listen;
    char *trusted_proxies;
    bool announcements;
    char *domain, *cluster_domain;
    int64_t loops, drain_quiet_seconds, drain_seconds;
    char *log_level;
};

#define FIELD(name) .offset = offsetof(struct gateway_options, name)
static const struct option_spec specs[] = {
    {.name = "kubeconfig",
     .env = "CICADA_KUBECONFIG",
     .type = OPTION_STRING,
     FIELD(kubeconfig),
     .help = "Kubeconfig file; default is the pod's service account, then $KUBECONFIG."},
    {.name = "namespace",
     .env = "POD_NAMESPACE",
     .type = OPTION_STRING,
     FIELD(namespace),
     .help = "Namespace that the gateways run in; default is the pod's, or the kubeconfig's."},
    {.name = "watch-namespaces",
     .env = "CICADA_WATCH_NAMESPACES",
     .type = OPTION_STRING,
     FIELD(watch_namespaces),
     .help = "Namespaces whose Functions are served, separated by commas; default is all."},
    {.name = "identity",
     .env = "POD_NAME",
     .type = OPTION_STRING,
     FIELD(identity),
     .default_text = "gateway",
     .help = "Name of this gateway in /statz."},
    {.name = "public-listen",
     .env = "CICADA_PUBLIC_LISTEN",
     .type = OPTION_STRING,
     FIELD(public_listen),
     .default_text = "0.0.0.0:8080",
     .help = "Address for requests from outside of the cluster."},
    {.name = "internal-listen",
     .env = "CICADA_INTERNAL_LISTEN",
     .type = OPTION_STRING,
     FIELD(internal_listen),
     .default_text = "0.0.0.0:8081",
     .help = "Address for requests from inside, by which every function can be called."},
    {.name = "tls-listen",
     .env = "CICADA_TLS_LISTEN",
     .type = OPTION_STRING,
     FIELD(tls_listen),
     .help = "Address for requests from outside by TLS, with the certificates of http.tlsSecretName; default "
             "is no TLS."},
    {.name = "trusted-proxies",
     .env = "CICADA_TRUSTED_PROXIES",
     .type = OPTION_STRING,
     FIELD(trusted_proxies),
     .help = "Ranges of addresses, separated by commas, whose X-Forwarded-* and Forwarded are believed; "
             "default is none."},
    {.name = "admin-listen",
     .env = "CICADA_ADMIN_LISTEN",
     .type = OPTION_STRING,
     FIELD(admin_listen),
     .default_text = "0.0.0.0:9090",
     .help = "Address of /livez, /readyz, /metrics and /statz."},
    {.name = "announce-listen",
     .env = "CICADA_ANNOUNCE_LISTEN",
     .type = OPTION_STRING,
     FIELD(announce_listen),
     .default_text = "0.0.0.0:9091",
     .help = "Address for announcements of function pods."},
    {.name = "announcements",
     .env = "CICADA_ANNOUNCEMENTS",
     .type = OPTION_BOOL,
     FIELD(announcements),
     .default_text = "true",
     .help = "Whether announcements are believed once verified; false refuses them all."},
    {.name = "domain",
     .env = "CICADA_DOMAIN",
     .type = OPTION_STRING,
     FIELD(domain),
     .help = "Functions are reached as <name>.<namespace>.<domain>; default is no such routes."},
    {.name = "cluster-domain",
     .env = "CICADA_CLUSTER_DOMAIN",
     .type = OPTION_STRING,
     FIELD(cluster_domain),
     .default_text = "cluster.local",
     .help = "Domain of the cluster's DNS."},
    {.name = "loops",
     .env = "CICADA_LOOPS",
     .type = OPTION_INT64,
     FIELD(loops),
     .default_text = "0",
     .max = 256,
     .help = "Threads that move requests; 0 is one per CPU that the process may use."},
    {.name = "drain-quiet-seconds",
     .env = "CICADA_DRAIN_QUIET_SECONDS",
     .type = OPTION_INT64,
     FIELD(drain_quiet_seconds),
     .default_text = "2",
     .max = 60,
     .help = "On SIGTERM: leaves once no request came for this long."},
    {.name = "drain-seconds",
     .env = "CICADA_DRAIN_SECONDS",
     .type = OPTION_INT64,
     FIELD(drain_seconds),
     .default_text = "300",
     .max = 86400,
     .help = "On SIGTERM: leaves at the latest after this long."},
    {.name = "log-level",
     .env = "CICADA_LOG_LEVEL",
     .type = OPTION_STRING,
     FIELD(log_level),
     .default_text = "info",
     .help = "debug, info, warn or error."},
};
static const struct option_table table = {
    .program = "cicada-gateway",
    .summary = "Routes requests to functions, holds them while a function wakes, and wakes it.",
    .specs = specs,
    .spec_count = ARRAY_SIZE(specs),
};

/* Everything that runs, in the order in which it is started. */
struct program {
    struct gateway_options options;
    char *namespaces[NAMESPACES_MAX];
    size_t namespace_count;
    struct stop kube_stop; /* ends calls to the API server and the watches */
    struct kube_client *client;
    struct metrics *metrics;
    struct gateway_admin *admin;
    struct kube_waker *waker;
    struct gateway *gateway;
    struct kube_node_ranges *ranges;
    struct event_recorder *recorder;        /* NULL: no TLS */
    struct kube_certificates *certificates; /* NULL: no TLS */
    struct kube_catalog *catalog;
    struct announce *announce;
};

/* ---- start ---- */

static int read_namespaces(struct program *program, struct err *err)
{
    const char *text = program->options.watch_namespaces;
    while (text && *text) {
        size_t len = strcspn(text, ",");
        char *name = xstrndup(text, len);
        if (program->namespace_count == NAMESPACES_MAX || !is_dns_label(name)) {
            err_set(err, ERR_INVALID, "--watch-namespaces: \"%s\" is no namespace, or one too many", name);
            free(name);
            return -1;
        }
        program->namespaces[program->namespace_count++] = name;
        text += len + (text[len] == ',' ? 1 : 0);
    }
    return 0;
}

static int connect_kubernetes(struct program *program, struct err *err)
{
    struct kube_client_config *config;
    if (kube_client_config_load(program->options.kubeconfig, &config, err) < 0) {
        return err_wrap(err, "Kubernetes API");
    }
    program->client = kube_client_new(config, &program->kube_stop);
    if (!program->options.namespace) {
        program->options.namespace = xstrdup(kube_client_config_namespace(config));
    }
    kube_client_config_free(config);
    return 0;
}

static int make_gateway(struct program *program, struct err *err)
{
    const struct gateway_options *options = &program->options;
    struct gateway_settings settings = {
        .public_listen = options->public_listen,
        .internal_listen = options->internal_listen,
        .tls_listen = options->tls_listen,
        .trusted_proxies = options->trusted_proxies,
        .loops = (int)options->loops,
        .domain = options->domain,
        .cluster_domain = options->cluster_domain,
        .identity = options->identity,
        .client_header_timeout_ms = CLIENT_HEADER_MS,
        .client_idle_timeout_ms = CLIENT_IDLE_MS,
        .upstream_idle_timeout_ms = UPSTREAM_IDLE_MS,
        .metrics = program->metrics,
        .waker = {.wake = kube_waker_wake, .arg = program->waker},
    };
    return gateway_new(&settings, &program->gateway, err);
}

/* What the catalogue hears of a pod's node, for the verification of announcements. */
static void pod_node(void *arg, const char *node, const struct in_addr *address)
{
    struct kube_node_ranges *ranges = arg;
    if (address) {
        kube_node_ranges_saw(ranges, node, *address);
    } else {
        kube_node_ranges_prefetch(ranges, node);
    }
}

static void start_catalog(struct program *program)
{
    program->ranges = kube_node_ranges_new(program->client);
    kube_node_ranges_start(program->ranges);
    if (program->options.tls_listen) {
        program->recorder = event_recorder_new(program->client, "cicada-gateway", /* metrics= */ NULL);
        event_recorder_start(program->recorder);
        program->certificates = kube_certificates_new(program->client, program->gateway, program->recorder,
                                                      program->metrics, /* reread_ms= */ 0);
        kube_certificates_start(program->certificates);
    }
    struct kube_catalog_settings settings = {
        .client = program->client,
        .gateway = program->gateway,
        .system_namespace = program->options.namespace,
        .identity = program->options.identity,
        .namespaces = (const char *const *)program->namespaces,
        .namespace_count = program->namespace_count,
        .certificates = program->certificates,
        .on_pod_node = program->options.announcements ? pod_node : NULL,
        .arg = program->ranges,
    };
    program->catalog = kube_catalog_new(&settings);
    kube_catalog_start(program->catalog, &program->kube_stop);
}

static int start_announce(struct program *program, struct err *err)
{
    struct announce_settings settings = {
        .listen = program->options.announce_listen,
        .enabled = program->options.announcements,
        .gateway = program->gateway,
        .catalog = program->catalog,
        .ranges = program->ranges,
        .client = program->client,
        .namespaces = (const char *const *)program->namespaces,
        .namespace_count = program->namespace_count,
        .metrics = program->metrics,
    };
    return announce_start(&settings, &program->announce, err);
}

/* The gateway listens before it knows anything: requests that come meanwhile are held. */
static int start(struct program *program, struct err *err)
{
    if (read_namespaces(program, err) < 0 || connect_kubernetes(program, err) < 0) {
        return -1;
    }
    program->metrics = metrics_new();
    static const char *const labels[] = {"version", NULL};
    const char *const version[] = {CICADA_VERSION};
    metric_set(
        metric_family_get(
            metrics_gauge(program->metrics, "cicada_build_info", "What runs; always 1.", labels), version),
        1);
    program->waker = kube_waker_new(program->client, program->metrics);
    if (make_gateway(program, err) < 0 || gateway_start(program->gateway, err) < 0) {
        return -1;
    }
    kube_waker_start(program->waker, program->gateway);
    start_catalog(program);
    if (start_announce(program, err) < 0 ||
        gateway_admin_start(program->options.admin_listen, program->gateway, program->metrics,
                            &program->admin, err) < 0) {
        return -1;
    }
    log_info("listening: public %d, internal %d, TLS %d, admin %d, announcements %d",
             gateway_public_port(program->gateway), gateway_internal_port(program->gateway),
             gateway_tls_port(program->gateway), gateway_admin_port(program->admin),
             announce_port(program->announce));
    return 0;
}

/* ---- end ---- */

/* Takes what start() has made so far, in any state of half. */
static void stop_all(struct program *program)
{
    announce_stop(program->announce);
    if (program->gateway) {
        gateway_stop(program->gateway);
    }
    stop_set(&program->kube_stop);
    if (program->waker) {
        kube_waker_stop(program->waker);
    }
    if (program->catalog) {
        kube_node_ranges_stop(program->ranges);
        kube_catalog_join(program->catalog);
    }
    if (program->certificates) {
        kube_certificates_stop(program->certificates);
        event_recorder_stop(program->recorder);
    }
    gateway_admin_stop(program->admin);
    kube_catalog_free(program->catalog);
    kube_certificates_free(program->certificates);
    event_recorder_free(program->recorder);
    kube_node_ranges_free(program->ranges);
    gateway_free(program->gateway);
    kube_waker_free(program->waker);
    kube_client_free(program->client);
    metrics_free(program->metrics);
    stop_release(&program->kube_stop);
    for (size_t i = 0; i < program->namespace_count; i++) {
        free(program->namespaces[i]);
    }
}

/* True if one of the signals came within timeout_ms (-1: waits for it). */
static bool wait_signal(const sigset_t *signals, int64_t timeout_ms)
{
    if (timeout_ms < 0) {
        int signal;
        return sigwait(signals, &signal) == 0;
    }
    struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000};
    return sigtimedwait(signals, NULL, &timeout) > 0;
}

/* Requests come until the load balancers have heard; a second signal cuts it short. */
static void drain(const struct program *program, const sigset_t *signals)
{
    int64_t quiet_ms = program->options.drain_quiet_seconds * 1000;
    int64_t began_ms = clock_monotonic_ms(), deadline_ms = began_ms + program->options.drain_seconds * 1000;
    log_info("draining: leaves after %lld s without a request",
             (long long)program->options.drain_quiet_seconds);
    gateway_drain(program->gateway);
    for (;;) {
        int64_t now_ms = clock_monotonic_ms();
        /* Nothing may have come for hours; what matters is the quiet since the drain began. */
        if (now_ms - began_ms >= quiet_ms && gateway_quiet(program->gateway, quiet_ms)) {
            log_info("quiet after %lld ms", (long long)(now_ms - began_ms));
            break;
        }
        if (now_ms >= deadline_ms || wait_signal(signals, SIGNAL_CHECK_MS)) {
            log_warn("leaving before it is quiet, after %lld ms", (long long)(now_ms - began_ms));
            return;
        }
    }
    /* A request may come at this very moment, and on a busy machine moments are long. */
    gateway_leave(program->gateway);
    while (!gateway_left(program->gateway, LEAVE_PATIENCE_MS) && clock_monotonic_ms() < deadline_ms &&
           !wait_signal(signals, LEAVE_CHECK_MS)) {}
}

static int run(struct program *program, const sigset_t *signals)
{
    struct err err = ERR_INIT;
    enum log_level level;
    if (!log_level_parse(program->options.log_level, &level)) {
        log_error("--log-level: must be debug, info, warn or error, not \"%s\"", program->options.log_level);
        return 2;
    }
    log_set_level(level);
    options_log(&table, &program->options);
    stop_init(&program->kube_stop);
    int status = start(program, &err);
    if (status < 0) {
        log_error("%s", err.msg);
    } else {
        (void)wait_signal(signals, -1);
        drain(program, signals);
    }
    stop_all(program);
    return status < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct program program = {0};
    struct err err = ERR_INIT;
    enum options_result result;
    int first_argument;
    log_set_component("gateway");
    if (options_parse(&table, argc, argv, &program.options, &result, &first_argument, &err) < 0) {
        log_error("%s", err.msg);
        return 2;
    }
    if (result == OPTIONS_EXIT) {
        options_release(&table, &program.options);
        return 0;
    }
    /* Blocked before the first thread, so that only main takes them. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    mallopt(M_ARENA_MAX, MALLOC_ARENAS);
    http_client_global_init();
    int status = run(&program, &signals);
    options_release(&table, &program.options);
    return status;
}
