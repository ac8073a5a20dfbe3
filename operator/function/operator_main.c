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
#include "operator/function/operator_options.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/base/version.h"
#include "runtime/http/http_client.h"
#include "runtime/http/http_server.h"

#define ADMIN_THREADS           4
#define ADMIN_TIMEOUT_MS        5000
#define ADMIN_KEEP_ALIVE_MS     15000
#define SYNC_TIMEOUT_MS         120000
#define MAX_BACKOFF_MS          60000
#define LEASE_DURATION_MS       15000
#define LEASE_RENEW_DEADLINE_MS 10000
#define LEASE_RETRY_MS          2000
#define SCALER_SILENCE_MAX_MS   60000
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
    struct metric *is_leader, *writes, *reads, *unreadable, *functions;
    struct http_server *admin;
    struct workqueue *queue;
    struct function_cache *cache;
    struct event_recorder *recorder;
    struct controller *controller;
    struct function_scaler *scaler;
    struct lease *lease;
    pthread_mutex_t mu;
    bool leading, stopping; /* guarded by mu */
};

/* ---- admin port ---- */

static void respond(struct http_request *req, int status, const char *type, const char *text, size_t len)
{
    const struct http_header header = {"Content-Type", type};
    struct err err = ERR_INIT;
    if (http_request_respond(req, status, &header, 1, text, len, &err)) {
        log_debug("admin port: %s", err.msg);
    }
}

static void respond_plain(struct http_request *req, int status, const char *text)
{
    respond(req, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* The client counts; Prometheus wants to see it. */
static void catch_up(struct metric *counter, int64_t value)
{
    double more = (double)value - metric_value(counter);
    if (more > 0) {
        metric_add(counter, more);
    }
}

static void respond_metrics(struct program *program, struct http_request *req)
{
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, METRICS_TEXT_MAX_BYTES);
    metric_set(program->is_leader, program->lease && lease_is_leader(program->lease) ? 1 : 0);
    metric_set(program->functions,
               program->cache ? (double)function_cache_count(program->cache, CACHE_FUNCTION) : 0);
    catch_up(program->writes, kube_client_writes(program->client));
    catch_up(program->reads, kube_client_reads(program->client));
    catch_up(program->unreadable, kube_client_unreadable(program->client));
    if (metrics_render(program->metrics, &text)) {
        respond_plain(req, 500, "too large\n");
    } else {
        respond(req, 200, "text/plain; version=0.0.4; charset=utf-8", text.buf, text.len);
    }
}

static void serve_admin(void *arg, struct http_request *req)
{
    struct program *program = arg;
    const char *path = http_request_raw_path(req), *method = http_request_method(req);
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        respond_plain(req, 405, "GET only\n");
    } else if (strcmp(path, "/livez") == 0) {
        bool alive = function_scaler_silence_ms(program->scaler) < SCALER_SILENCE_MAX_MS;
        respond_plain(req, alive ? 200 : 503, alive ? "ok\n" : "the scaler hangs\n");
    } else if (strcmp(path, "/readyz") == 0) {
        bool ready = function_cache_synced(program->cache);
        respond_plain(req, ready ? 200 : 503, ready ? "ok\n" : "caches are being filled\n");
    } else if (strcmp(path, "/metrics") == 0) {
        respond_metrics(program, req);
    } else {
        respond_plain(req, 404, "/livez /readyz /metrics\n");
    }
}

static int start_admin(struct program *program, struct err *err)
{
    struct http_server_settings settings = {.listen = program->options.admin_listen,
                                            .threads = ADMIN_THREADS,
                                            .header_timeout_ms = ADMIN_TIMEOUT_MS,
                                            .keep_alive_timeout_ms = ADMIN_KEEP_ALIVE_MS,
                                            .close_when_busy = true,
                                            .handler = serve_admin,
                                            .handler_arg = program};
    return http_server_start(&settings, &program->admin, err);
}

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

static struct metric *plain_metric(struct metric_family *family)
{
    return metric_family_get(family, NULL);
}

static void make_metrics(struct program *program)
{
    struct metrics *metrics = program->metrics = metrics_new();
    static const char *const version_label[] = {"version", NULL};
    metric_set(
        metric_family_get(metrics_gauge(metrics, "cicada_build_info", "What runs; always 1.", version_label),
                          (const char *const[]){CICADA_VERSION}),
        1);
    program->is_leader =
        plain_metric(metrics_gauge(metrics, "cicada_operator_leader", "1 on the operator that leads.", NULL));
    program->functions =
        plain_metric(metrics_gauge(metrics, "cicada_operator_functions", "Functions there are.", NULL));
    program->writes =
        plain_metric(metrics_counter(metrics, "cicada_operator_api_writes_total",
                                     "Requests to the API server that write, the Lease included.", NULL));
    program->reads = plain_metric(metrics_counter(metrics, "cicada_operator_api_reads_total",
                                                  "Requests to the API server that read.", NULL));
    program->unreadable =
        plain_metric(metrics_counter(metrics, "cicada_operator_api_unreadable_total",
                                     "Objects taken for absent because their JSON can't be read.", NULL));
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

/* Everything is made before anything is started, so that no thread meets a half-built program. */
static void make_parts(struct program *program)
{
    const struct operator_options *options = &program->options;
    make_metrics(program);
    program->queue = workqueue_new(&clock_system, MAX_BACKOFF_MS);
    workqueue_close(program->queue); /* until this one leads */
    make_cache(program);
    program->recorder = event_recorder_new(program->client, "cicada-operator", program->metrics);
    program->scaler = function_scaler_new(program->client, program->cache, program->recorder,
                                          PORT_GATEWAY_ADMIN, program->metrics);
    program->settings = (struct function_settings){.system_namespace = options->namespace,
                                                   .runtime_image = options->runtime_image,
                                                   .domain = options->domain,
                                                   .cluster_domain = options->cluster_domain};
    program->reconciler = (struct function_reconciler){
        .sources = {.client = program->client,
                    .cache = program->cache,
                    .scaler = program->scaler,
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
    if (start_admin(program, err)) {
        return -1;
    }
    log_info("admin port %d, system namespace %s", http_server_port(program->admin),
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
    http_server_stop(program->admin);
    lease_free(program->lease);
    function_scaler_free(program->scaler);
    controller_free(program->controller);
    event_recorder_free(program->recorder);
    rollout_gate_free(program->reconciler.gate);
    function_cache_free(program->cache);
    workqueue_free(program->queue);
    metrics_free(program->metrics);
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
