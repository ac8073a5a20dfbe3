/* operator_main.c - cicada-operator: wiring, signals, the order of start and stop.
 *
 * Start: admin port, caches, recorder, election; once elected, workers and scaler. Stop is the reverse, and the lease is
 * given back last of all writes. A standby has the same caches and is as ready, so that it takes over in an instant.
 * Losing the lease ends the program at once with status 1: the lease is no fence, and somebody else leads already.
 */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "operator/function/function_reconcile.h"
#include "operator/function/function_scaler.h"
#include "operator/function/operator_admin.h"
#include "operator/function/operator_options.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/base/version.h"
#include "runtime/http/http_client.h"

#define SYNC_TIMEOUT_MS         120000
#define MAX_BACKOFF_MS          60000
#define LEASE_DURATION_MS       15000
#define LEASE_RENEW_DEADLINE_MS 10000
#define LEASE_RETRY_MS          2000
#define HEALTH_LOG_MS           10000
#define MALLOC_ARENAS           2 /* a dozen threads that rarely allocate: an arena each would multiply the memory */
#define SIGNAL_LEASE_LOST       SIGUSR1
#define EXIT_LEASE_LOST         1
#define EXIT_USAGE              2
#define LEASE_LOST              (-1) /* of run(), which returns exit codes otherwise */

struct program {
    struct operator_options options;
    char **namespaces, **addresses;
    size_t namespace_count, address_count;
    struct stop stop; /* of all that talks to the API server: set after the last write */
    struct kube_client *client;
    struct function_settings settings;
    struct function_reconciler reconciler;
    struct metrics *metrics;
    struct operator_admin *admin;
    struct workqueue *queue;
    struct function_cache *cache;
    struct event_recorder *recorder;
    struct backlog *backlog;
    struct database_secrets *secrets;
    struct controller *controller;
    struct function_scaler *scaler;
    struct lease *lease;
    pthread_mutex_t mu;
    bool leading, stopping; /* guarded by mu */
};

/* ---- leading ---- */

static void tell_foreign_ingress(void *arg, const struct cached_child *ingress)
{
    struct program *program = arg;
    if (program->lease && lease_is_leader(program->lease)) {
        function_reconcile_foreign_ingress(program->recorder, ingress);
    }
}

static void tell_pod_exit(void *arg, const struct cached_pod *pod)
{
    struct program *program = arg;
    if (program->lease && lease_is_leader(program->lease)) {
        function_reconcile_pod_exit(&program->reconciler, pod);
    }
}

static void tell_if_foreign(void *arg, struct cached_object *object)
{
    struct program *program = arg;
    const struct cached_child *ingress = container_of(object, const struct cached_child, head.base);
    if (function_cache_is_foreign_ingress(ingress)) {
        function_reconcile_foreign_ingress(program->recorder, ingress);
    }
}

static void tell_due(void *arg, const char *namespace, const char *name)
{
    struct program *program = arg;
    function_scaler_wake(program->scaler, namespace, name);
}

static void tell_backlog(void *arg, const char *namespace, const char *name)
{
    struct program *program = arg;
    workqueue_add(program->queue, namespace, name);
}

static void queue_function(void *arg, struct cached_object *object)
{
    struct program *program = arg;
    workqueue_add(program->queue, object->namespace, object->name);
}

static void lead(void *arg)
{
    struct program *program = arg;
    pthread_mutex_lock(&program->mu);
    bool start = !program->stopping && !program->leading;
    program->leading = program->leading || start;
    if (start) {
        /* Opened first: what changes from here on is queued by the caches. */
        workqueue_open(program->queue);
        function_cache_each(program->cache, CACHE_FUNCTION, queue_function, program);
        controller_start(program->controller);
        function_scaler_start(program->scaler);
    }
    pthread_mutex_unlock(&program->mu);
    if (start) {
        log_info("leading");
        function_cache_each(program->cache, CACHE_INGRESS, tell_if_foreign, program);
    }
}

static void lose_lead(void *arg)
{
    (void)arg;
    kill(getpid(), SIGNAL_LEASE_LOST);
}

/* ---- start ---- */

static int connect_kubernetes(struct program *program, struct err *err)
{
    struct kube_client_config *config;
    if (kube_client_config_load(program->options.kubeconfig, &config, err)) {
        return err_wrap(err, "Kubernetes API");
    }
    program->client = kube_client_new(config, &program->stop);
    if (!program->options.namespace) {
        program->options.namespace = xstrdup(kube_client_config_namespace(config));
    }
    kube_client_config_free(config);
    return 0;
}

static int check_options(struct program *program, struct err *err)
{
    struct operator_options *options = &program->options;
    program->namespaces = operator_options_split(options->watch_namespaces, &program->namespace_count);
    program->addresses = operator_options_split(options->publish_addresses, &program->address_count);
    if (operator_options_check(options, program->namespaces, program->addresses, err)) {
        return -1;
    }
    if (!options->identity) {
        char host[64] = "", random[9];
        (void)gethostname(host, sizeof host - 1);
        random_hex(random, 4);
        options->identity = xasprintf("%s-%s", host, random);
    }
    return 0;
}

static void make_cache(struct program *program)
{
    struct function_cache_settings settings = {
        .client = program->client,
        .namespaces = (const char *const *)program->namespaces,
        .namespace_count = program->namespace_count,
        .system_namespace = program->options.namespace,
        .gateway_service = program->address_count ? NULL : program->options.gateway_service,
        .queue = program->queue,
        .on_foreign_ingress = tell_foreign_ingress,
        .on_pod_exit = tell_pod_exit,
        .arg = program,
    };
    program->cache = function_cache_new(&settings);
}

/* Databases are watched once a worker tells of a Function, which those of the leader do. */
static void make_backlog(struct program *program)
{
    struct backlog_settings settings = {.due = tell_due, .changed = tell_backlog, .arg = program};
    program->backlog = backlog_new(&settings, program->metrics);
    program->secrets = database_secrets_new(program->client, &clock_system);
}

/* Everything is made before anything is started, so that no thread meets a half-built program. */
static void make_parts(struct program *program)
{
    const struct operator_options *options = &program->options;
    program->metrics = metrics_new();
    program->queue = workqueue_new(&clock_system, MAX_BACKOFF_MS);
    workqueue_close(program->queue); /* until this one leads */
    make_cache(program);
    program->recorder = event_recorder_new(program->client, "cicada-operator", program->metrics);
    make_backlog(program);
    program->scaler = function_scaler_new(program->client, program->cache, program->recorder,
                                          program->backlog, PORT_GATEWAY_ADMIN, program->metrics);
    program->settings = (struct function_settings){.system_namespace = options->namespace,
                                                   .runtime_image = options->runtime_image,
                                                   .domain = options->domain,
                                                   .cluster_domain = options->cluster_domain};
    program->reconciler = (struct function_reconciler){
        .sources = {.client = program->client,
                    .cache = program->cache,
                    .scaler = program->scaler,
                    .backlog = program->backlog,
                    .secrets = program->secrets,
                    .settings = &program->settings,
                    .publish_addresses = (const char *const *)program->addresses,
                    .publish_address_count = program->address_count},
        .recorder = program->recorder,
        .gate = rollout_gate_new(),
    };
    program->controller = controller_new("function", program->queue, (int)options->workers,
                                         function_reconcile, &program->reconciler, program->metrics);
    struct lease_settings lease = {.namespace = options->namespace,
                                   .name = options->lease_name,
                                   .identity = options->identity,
                                   .duration_ms = LEASE_DURATION_MS,
                                   .renew_deadline_ms = LEASE_RENEW_DEADLINE_MS,
                                   .retry_ms = LEASE_RETRY_MS,
                                   .on_elected = lead,
                                   .on_lost = lose_lead,
                                   .arg = program};
    program->lease = lease_new(program->client, &lease);
}

static int start(struct program *program, struct err *err)
{
    if (check_options(program, err) || connect_kubernetes(program, err)) {
        return -1;
    }
    make_parts(program);
    struct operator_admin_sources sources = {.metrics = program->metrics,
                                             .client = program->client,
                                             .cache = program->cache,
                                             .scaler = program->scaler,
                                             .lease = program->lease};
    if (operator_admin_start(program->options.admin_listen, &sources, &program->admin, err)) {
        return -1;
    }
    log_info("admin port %d, system namespace %s", operator_admin_port(program->admin),
             program->options.namespace);
    function_cache_start(program->cache, &program->stop);
    return 0;
}

/* ---- end ---- */

static void free_strings(char **strings)
{
    for (size_t i = 0; strings && strings[i]; i++) {
        free(strings[i]);
    }
    free(strings);
}

static void stop_leading(struct program *program)
{
    pthread_mutex_lock(&program->mu);
    program->stopping = true;
    bool leading = program->leading;
    pthread_mutex_unlock(&program->mu);
    if (leading) {
        controller_stop(program->controller);
        backlog_stop(program->backlog);
        function_scaler_stop(program->scaler);
    }
}

/* Takes what start() has made so far. */
static void stop_all(struct program *program, bool serving)
{
    if (serving) {
        stop_leading(program);
        event_recorder_stop(program->recorder);
        lease_stop(program->lease, /* release= */ true);
    }
    stop_set(&program->stop);
    if (program->admin) {
        function_cache_join(program->cache);
    }
    operator_admin_stop(program->admin);
    lease_free(program->lease);
    bool metrics_unused = backlog_free(program->backlog);
    database_secrets_free(program->secrets);
    function_scaler_free(program->scaler);
    controller_free(program->controller);
    event_recorder_free(program->recorder);
    rollout_gate_free(program->reconciler.gate);
    function_cache_free(program->cache);
    workqueue_free(program->queue);
    if (metrics_unused) {
        metrics_free(program->metrics);
    }
    kube_client_free(program->client);
    free_strings(program->namespaces);
    free_strings(program->addresses);
    options_release(&operator_option_table, &program->options);
}

/* The signal that came, 0 after timeout_ms without one. */
static int wait_signal(const sigset_t *signals, int64_t timeout_ms)
{
    struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000};
    int signal_number = sigtimedwait(signals, NULL, &timeout);
    return signal_number > 0 ? signal_number : 0;
}

/* Until a signal ends it; tells meanwhile of watches that fail. */
static int wait_for_end(struct program *program, const sigset_t *signals)
{
    int signal_number;
    int64_t unreadable = 0;
    while ((signal_number = wait_signal(signals, HEALTH_LOG_MS)) == 0) {
        struct err err = ERR_INIT;
        if (kube_client_unreadable(program->client) > unreadable) {
            unreadable = kube_client_unreadable(program->client);
            log_warn("objects taken for absent because their JSON can't be read: %lld so far",
                     (long long)unreadable);
        }
        if (function_cache_failing(program->cache, &err)) {
            log_warn("a watch fails and is tried again: %s", err.msg);
        }
    }
    return signal_number;
}

/* False if it did not get there; *ret_signal is set if a signal is why. */
static bool wait_synced(struct program *program, const sigset_t *signals, int *ret_signal)
{
    int64_t deadline_ms = clock_monotonic_ms() + SYNC_TIMEOUT_MS;
    while (!function_cache_synced(program->cache)) {
        struct err err = ERR_INIT;
        if (clock_monotonic_ms() > deadline_ms) {
            bool failing = function_cache_failing(program->cache, &err);
            log_error("caches are not filled after %d s: %s", SYNC_TIMEOUT_MS / 1000,
                      failing ? err.msg : "still reading");
            return false;
        }
        *ret_signal = wait_signal(signals, 100);
        if (*ret_signal) {
            return false;
        }
    }
    return true;
}

static int serve(struct program *program, const sigset_t *signals)
{
    int signal_number = 0;
    if (!wait_synced(program, signals, &signal_number)) {
        stop_all(program, /* serving= */ false);
        return signal_number ? 0 : 1;
    }
    log_info("caches are filled: %zu functions", function_cache_count(program->cache, CACHE_FUNCTION));
    event_recorder_start(program->recorder);
    lease_start(program->lease);
    signal_number = wait_for_end(program, signals);
    if (signal_number == SIGNAL_LEASE_LOST) {
        log_error("the lease is lost");
        return LEASE_LOST;
    }
    log_info("stopping");
    stop_all(program, /* serving= */ true);
    return 0;
}

static int run(struct program *program, const sigset_t *signals)
{
    struct err err = ERR_INIT;
    enum log_level level;
    if (!log_level_parse(program->options.log_level, &level)) {
        log_error("--log-level: must be debug, info, warn or error, not \"%s\"", program->options.log_level);
        stop_all(program, /* serving= */ false);
        return EXIT_USAGE;
    }
    log_set_level(level);
    options_log(&operator_option_table, &program->options);
    if (start(program, &err)) {
        log_error("%s", err.msg);
        stop_all(program, /* serving= */ false);
        return 1;
    }
    return serve(program, signals);
}

int main(int argc, char **argv)
{
    static struct program program; /* threads may look at it until the very end */
    struct err err = ERR_INIT;
    enum options_result result;
    int first_argument;
    log_set_component("operator");
    if (options_parse(&operator_option_table, argc, argv, &program.options, &result, &first_argument, &err)) {
        log_error("%s", err.msg);
        return EXIT_USAGE;
    }
    if (result == OPTIONS_EXIT) {
        options_release(&operator_option_table, &program.options);
        return 0;
    }
    /* Blocked before the first thread, so that only main takes them. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGNAL_LEASE_LOST);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    mallopt(M_ARENA_MAX, MALLOC_ARENAS);
    http_client_global_init();
    stop_init(&program.stop);
    pthread_mutex_init(&program.mu, NULL);
    int status = run(&program, &signals);
    if (status == LEASE_LOST) {
        /* Without ceremony: nothing more may be written, and exit() would take libcurl and OpenSSL down under the threads that still
         * use them. */
        _exit(EXIT_LEASE_LOST);
    }
    return status;
}
