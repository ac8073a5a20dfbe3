#include "runtime/host/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/host/admin.h"
#include "runtime/host/announcer.h"
#include "runtime/host/c_function.h"
#include "runtime/host/drain.h"
#include "runtime/host/event_service.h"
#include "runtime/host/lifecycle.h"
#include "runtime/host/schema_start.h"
#include "runtime/host/service.h"
#include "runtime/host/signal_wait.h"
#include "runtime/host/slow_log.h"
#include "runtime/host/spec.h"
#include "runtime/host/sql_function.h"
#include "runtime/host/sql_start.h"
#include "runtime/host/termination.h"
#include "runtime/postgres/postgres.h"

#define HEADER_TIMEOUT_MS     10000
#define KEEP_ALIVE_TIMEOUT_MS 60000 /* longer than a gateway's, so that it is the gateway who closes */
#define CONNECT_TIMEOUT_MS    5000
#define TICK_MS               250
#define DRAIN_TICK_MS         10
#define END_MS                2000 /* for threads that were told to end */

struct runtime {
    const struct runtime_options *options;
    struct crash_board *board;
    struct function_spec spec;
    struct lifecycle lifecycle;
    struct metrics *metrics;
    struct host_metrics *host_metrics;
    struct admin *admin;
    struct c_function function; /* one of these two makes the answers */
    struct sql_function sql_function;
    struct sql_start *sql_start;
    char function_text[CRASH_FUNCTION_SIZE]; /* for people: "shop.so:handle_order", "sql" */
    struct pg_pool *pool;
    struct service *service;
    struct http_server *server;
    struct event_service *events; /* NULL: the function has no triggers */
    struct announcer *announcer;
    int64_t load_us, listen_us; /* how long these phases of the start took */
};

/* Why the process can't go on, in the words of the operator's conditions. */
struct failure {
    const char *reason; /* NULL: none */
    char message[LIFECYCLE_MESSAGE_SIZE];
    bool at_once; /* nothing in flight is waited for */
};

static int fail(struct failure *failure, const char *reason, const struct err *err)
{
    failure->reason = reason;
    snprintf(failure->message, sizeof(failure->message), "%s", err->msg);
    return -1;
}

static void describe_function(struct runtime *runtime)
{
    if (runtime->spec.sql != NULL)
        snprintf(runtime->function_text, sizeof(runtime->function_text), "sql");
    else
        snprintf(runtime->function_text, sizeof(runtime->function_text), "%s:%s", runtime->spec.handler_file,
                 runtime->spec.handler_symbol);
    crash_board_describe_function(runtime->board, runtime->function_text, runtime->spec.drain_ms);
}

static int read_spec(struct runtime *runtime, struct err *err)
{
    const struct spec_source source = {runtime->options->spec, "CICADA_SPEC", runtime->options->spec_file,
                                       "CICADA_SPEC_FILE"};
    CLEANUP_FREE char *text = NULL;

    if (spec_source_read(&source, SPEC_MAX_BYTES, &text, err) != 0)
        return -1;
    if (spec_parse(text, strlen(text), &runtime->spec, err) != 0)
        return err_wrap(err, "%s", runtime->options->spec ? source.value_name : source.file_name);
    describe_function(runtime);
    return 0;
}

/* Checks the URL; connects to nothing. */
static int make_pool(struct runtime *runtime, struct err *err)
{
    const struct spec_source source = {runtime->options->database_url, "DATABASE_URL",
                                       runtime->options->database_url_file, "DATABASE_URL_FILE"};
    CLEANUP_FREE char *url = NULL;
    CLEANUP_FREE char *application = NULL;
    struct pg_pool_settings settings = {
        .size = runtime->spec.pool_size,
        .isolation = runtime->spec.isolation,
        .pooler = runtime->spec.pooler_transaction,
        .without_ldap = runtime->spec.sql != NULL, /* a handler may bring any library */
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .slow_statement_ms = runtime->options->slow_statement_ms,
        .on_slow_statement = runtime->options->slow_statement_ms > 0 ? slow_log_write : NULL,
    };

    if (!runtime->spec.has_database)
        return 0;
    if (spec_source_read(&source, SPEC_URL_MAX_BYTES, &url, err) != 0)
        return err_wrap(err, "database");
    application =
        xasprintf("cicada %s/%s", runtime->options->function_namespace, runtime->options->function_name);
    settings.url = url;
    settings.application_name = application;
    if (pg_pool_new(&settings, &runtime->pool, err) != 0)
        return err_wrap(err, "DATABASE_URL");
    return 0;
}

static int start_admin(struct runtime *runtime, struct err *err)
{
    const struct admin_settings settings = {
        .listen = runtime->options->admin_listen,
        .lifecycle = &runtime->lifecycle,
        .board = runtime->board,
        .metrics = runtime->metrics,
        .host_metrics = runtime->host_metrics,
    };
    return admin_start(&settings, &runtime->admin, err);
}

/* Gateways are told of a pod by name and UID; a runtime outside a cluster has neither, and no gateway to tell. */
static int start_announcer(struct runtime *runtime, struct err *err)
{
    const struct runtime_options *options = runtime->options;
    const struct announcer_settings settings = {
        .gateway = options->gateway,
        .namespace = options->function_namespace,
        .function = options->function_name,
        .pod_name = options->pod_name ? options->pod_name : "",
        .pod_uid = options->pod_uid ? options->pod_uid : "",
    };

    if (options->gateway == NULL || options->gateway[0] == '\0')
        return 0;
    if (announcer_start(&settings, &runtime->announcer, err) != 0)
        return err_wrap(err, "CICADA_GATEWAY");
    return 0;
}

static int load_function(struct runtime *runtime, struct err *err)
{
    const struct c_function_settings settings = {
        .directory = runtime->options->function_dir,
        .file = runtime->spec.handler_file,
        .symbol = runtime->spec.handler_symbol,
        .name = runtime->options->function_name,
        .namespace = runtime->options->function_namespace,
        .init_timeout_ms = runtime->spec.timeout_ms,
    };
    int64_t start_us = clock_monotonic_us();

    if (c_function_start(&runtime->function, &settings, err) != 0)
        return -1;
    runtime->load_us = clock_monotonic_us() - start_us;
    host_metrics_phase_ended(runtime->host_metrics, "load");
    return 0;
}

static struct invocation_target target_of(struct runtime *runtime)
{
    return (struct invocation_target){
        .ops = runtime->spec.sql ? &sql_function_ops : &c_function_ops,
        .invoker = runtime->spec.sql ? (void *)&runtime->sql_function : &runtime->function,
        .retryable = runtime->spec.retryable,
        .name = runtime->options->function_name,
        .namespace = runtime->options->function_namespace,
        .success_status = runtime->spec.success_status,
        .response_max_bytes = (size_t)runtime->spec.response_max_bytes,
        .idle_timeout_ms = runtime->spec.idle_timeout_ms,
        .idempotency = runtime->spec.idempotency,
        .output_queue = runtime->spec.output_queue,
        .pool = runtime->pool,
    };
}

static int start_service(struct runtime *runtime, struct err *err)
{
    const int threads = 2 * runtime->spec.concurrency + 8;
    const struct service_settings service = {
        .spec = &runtime->spec,
        .lanes = threads,
        .target = target_of(runtime),
        .board = runtime->board,
        .stuck_grace_ms = runtime->options->stuck_grace_ms,
        .metrics = host_metrics_requests(runtime->host_metrics),
        .access_log = runtime->options->access_log,
    };
    struct http_server_settings server = {
        .listen = runtime->options->listen,
        .threads = threads,
        .max_body_bytes = runtime->spec.body_max_bytes,
        .component = "runtime",
        .header_timeout_ms = HEADER_TIMEOUT_MS,
        .keep_alive_timeout_ms = KEEP_ALIVE_TIMEOUT_MS,
        .stack_bytes = SERVICE_STACK_BYTES,
        .close_when_busy = true,
        .handler = service_handle,
    };
    int64_t start_us = clock_monotonic_us();

    if (service_new(&service, &runtime->service, err) != 0)
        return -1;
    server.handler_arg = runtime->service;
    if (http_server_start(&server, &runtime->server, err) != 0)
        return -1;
    runtime->listen_us = clock_monotonic_us() - start_us;
    host_metrics_phase_ended(runtime->host_metrics, "listen");
    return 0;
}

static int start_events(struct runtime *runtime, struct err *err)
{
    const struct event_service_settings settings = {
        .spec = &runtime->spec,
        .target = target_of(runtime),
        .board = runtime->board,
        .stuck_grace_ms = runtime->options->stuck_grace_ms,
    };

    if (runtime->spec.trigger_count == 0)
        return 0;
    return event_service_start(&settings, &runtime->events, err);
}

static void publish_figures(struct runtime *runtime)
{
    admin_set_service(runtime->admin, runtime->service);
    admin_set_events(runtime->admin, runtime->events);
    host_metrics_watch(runtime->host_metrics, &(struct host_metrics_sources){.service = runtime->service,
                                                                             .server = runtime->server,
                                                                             .pool = runtime->pool,
                                                                             .events = runtime->events});
}

static void fail_authentication(struct failure *failure)
{
    failure->reason = "DatabaseUnreachable";
    snprintf(failure->message, sizeof(failure->message),
             "authentication: the server rejected the role or its password; a restart reads the Secret anew");
}

/* True if the server wants none of us. */
static bool is_rejected(struct runtime *runtime, struct failure *failure)
{
    if (runtime->pool == NULL || !pg_pool_authentication_failed(runtime->pool))
        return false;
    fail_authentication(failure);
    return true;
}

/* Until the database has what the function needs there. Without a reason in *failure: a signal came first. */
static int await_schema(struct runtime *runtime, const sigset_t *signals, struct failure *failure)
{
    unsigned char digest[PG_SHA256_BYTES];
    enum schema_start_outcome outcome;
    struct pg_error error;

    while ((outcome = schema_start_try(&runtime->spec, runtime->pool, failure->message, &error)) ==
           SCHEMA_START_AWAY) {
        if (is_rejected(runtime, failure))
            return -1;
        lifecycle_delay(&runtime->lifecycle, "DatabaseUnreachable", "schema cicada", error.message);
        if (signal_await(signals, TICK_MS) != 0)
            return -1;
    }
    if (outcome == SCHEMA_START_MISSING) {
        failure->reason = "SchemaMissing";
        return -1;
    }
    if (pg_sha256("", 0, digest)) /* in memory from now on */
        return 0;
    failure->reason = "ContainerExited";
    snprintf(failure->message, sizeof(failure->message),
             "libpq is here without libcrypto, which http.idempotency needs");
    return -1;
}

/* The statements are prepared while the rest of the process starts. */
static int begin_sql(struct runtime *runtime, struct err *err)
{
    if (sql_function_init(&runtime->sql_function, &runtime->spec, err) != 0)
        return -1;
    lifecycle_enter(&runtime->lifecycle, LIFECYCLE_STARTING, "Starting", "the statements are being prepared");
    pg_pool_start(runtime->pool);
    runtime->sql_start = sql_start_begin(&runtime->sql_function, runtime->pool, &runtime->lifecycle);
    return 0;
}

/* Without a reason in *failure: a signal came first. */
static int await_sql(struct runtime *runtime, const sigset_t *signals, struct failure *failure)
{
    int64_t start_us = clock_monotonic_us();
    struct err err = ERR_INIT;
    int number;

    if (signal_comes_before(signals, sql_start_fd(runtime->sql_start), &number)) {
        log_info("signal %d: ending before the statements were prepared", number);
        return -1;
    }
    runtime->load_us = clock_monotonic_us() - start_us;
    host_metrics_phase_ended(runtime->host_metrics, "load");
    switch (sql_start_outcome(runtime->sql_start, &err)) {
    case SQL_START_READY:
        return 0;
    case SQL_START_REJECTED:
        return fail(failure, "SqlRejected", &err);
    case SQL_START_AUTHENTICATION:
        break;
    }
    fail_authentication(failure);
    return -1;
}

static int start_function(struct runtime *runtime, const sigset_t *signals, struct failure *failure)
{
    struct err err = ERR_INIT;

    if (runtime->sql_start != NULL)
        return await_sql(runtime, signals, failure);
    if (load_function(runtime, &err) != 0)
        return fail(failure, "HandlerLoadFailed", &err);
    if (runtime->pool != NULL) /* after the handler: both go through the dynamic loader's one lock */
        pg_pool_start(runtime->pool);
    return 0;
}

static int start(struct runtime *runtime, const sigset_t *signals, struct failure *failure)
{
    struct err err = ERR_INIT;

    if (read_spec(runtime, &err) != 0 || make_pool(runtime, &err) != 0)
        return fail(failure, "InvalidSpec", &err);
    if (runtime->spec.sql != NULL && begin_sql(runtime, &err) != 0)
        return fail(failure, "SqlRejected", &err);
    if (start_admin(runtime, &err) != 0)
        return fail(failure, "ContainerExited", &err);
    host_metrics_phase_ended(runtime->host_metrics, "admin");
    if (start_announcer(runtime, &err) != 0) /* resolves names meanwhile */
        return fail(failure, "ContainerExited", &err);
    if (start_function(runtime, signals, failure) != 0)
        return -1;
    if (schema_start_is_needed(&runtime->spec) && await_schema(runtime, signals, failure) != 0)
        return -1;
    if (start_service(runtime, &err) != 0 || start_events(runtime, &err) != 0)
        return fail(failure, "ContainerExited", &err);
    publish_figures(runtime);
    lifecycle_enter(&runtime->lifecycle, LIFECYCLE_SERVING, "", "");
    announcer_announce(runtime->announcer, http_server_port(runtime->server));
    host_metrics_phase_ended(runtime->host_metrics, "serving");
    log_info("serving wall_us=%lld load_ms=%.1f listen_ms=%.1f", (long long)clock_wall_us(),
             (double)runtime->load_us / 1000, (double)runtime->listen_us / 1000);
    return 0;
}

/* Looks for what ends a process that serves. */
static void look_after(struct runtime *runtime, struct failure *failure)
{
    char request_id[REQUEST_ID_MAX + 1];

    if (service_stuck(runtime->service, request_id) || event_service_stuck(runtime->events, request_id)) {
        failure->reason = "HandlerStuck";
        failure->at_once = true;
        snprintf(failure->message, sizeof(failure->message),
                 "%s: request %s overran its deadline by more than %lld ms", runtime->function_text,
                 request_id, (long long)runtime->options->stuck_grace_ms);
    } else {
        (void)is_rejected(runtime, failure);
    }
}

static void serve(struct runtime *runtime, const sigset_t *signals, struct failure *failure)
{
    while (failure->reason == NULL) {
        int number = signal_await(signals, TICK_MS);
        if (number != 0) {
            log_info("signal %d: draining", number);
            return;
        }
        look_after(runtime, failure);
    }
}

static bool is_busy(struct runtime *runtime)
{
    struct service_figures figures;

    service_figures(runtime->service, &figures);
    return figures.in_flight > 0 || http_server_in_flight(runtime->server) > 0 ||
           !event_service_is_drained(runtime->events);
}

/* Lets work in flight end; a second signal ends the wait. False: some is left, and must be cut. */
static bool drain(struct runtime *runtime, const sigset_t *signals, struct failure *failure)
{
    int64_t start_ms = clock_monotonic_ms();
    enum drain_decision decision = DRAIN_WAIT;

    lifecycle_enter(&runtime->lifecycle, LIFECYCLE_DRAINING, failure->reason ? failure->reason : "Draining",
                    failure->reason ? failure->message : "the pod is being stopped");
    event_service_drain(runtime->events);
    http_server_drain(runtime->server);
    announcer_goodbye(runtime->announcer);
    while (decision == DRAIN_WAIT) {
        struct drain_view view = {
            .limit_ms = runtime->spec.drain_ms,
            .acknowledged = announcer_acknowledged(runtime->announcer),
            .busy = is_busy(runtime),
            .idle_ms = http_server_idle_ms(runtime->server),
            .elapsed_ms = clock_monotonic_ms() - start_ms,
        };
        decision = drain_decide(&view);
        if (decision == DRAIN_WAIT && signal_await(signals, DRAIN_TICK_MS) != 0)
            decision = DRAIN_TIMED_OUT;
    }
    if (!is_busy(runtime))
        return true;
    log_warn("work in flight is cut after %lld ms", (long long)(clock_monotonic_ms() - start_ms));
    return false;
}

/* In reverse order of the start. False: code of the function still runs, or a name is still being resolved, by us or by libpq. */
static bool stop(struct runtime *runtime, bool at_rest)
{
    int64_t deadline_ms = clock_monotonic_ms() + END_MS;
    bool ended = announcer_free(runtime->announcer, deadline_ms);

    if (!sql_start_end(runtime->sql_start) || !at_rest)
        return false;
    host_metrics_watch(runtime->host_metrics, &(struct host_metrics_sources){0});
    http_server_stop(steal_ptr(&runtime->server));
    admin_stop(steal_ptr(&runtime->admin));
    if (!event_service_stop(runtime->events, deadline_ms))
        return false;
    service_free(runtime->service);
    c_function_stop(&runtime->function);
    sql_function_release(&runtime->sql_function);
    if (!pg_pool_stop(runtime->pool, deadline_ms))
        return false;
    pg_pool_free(steal_ptr(&runtime->pool));
    host_metrics_free(runtime->host_metrics);
    metrics_free(runtime->metrics);
    lifecycle_release(&runtime->lifecycle);
    spec_release(&runtime->spec);
    return ended;
}

static void report(const struct runtime_options *options, const struct failure *failure)
{
    struct err err = ERR_INIT;

    log_error("%s: %s", failure->reason, failure->message);
    if (termination_write(options->termination_log, failure->reason, failure->message, &err) != 0)
        log_warn("termination message: %s", err.msg);
}

int runtime_run(const struct runtime_options *options, struct crash_board *board, const sigset_t *signals,
                bool *ret_abandoned)
{
    struct runtime *runtime = xcalloc(1, sizeof(*runtime));
    struct failure failure = {0};
    bool at_rest = true;

    runtime->options = options;
    runtime->board = board;
    lifecycle_init(&runtime->lifecycle);
    runtime->metrics = metrics_new();
    runtime->host_metrics = host_metrics_new(runtime->metrics, clock_monotonic_us(), board->restarts);
    if (start(runtime, signals, &failure) == 0) {
        serve(runtime, signals, &failure);
        at_rest = !failure.at_once && drain(runtime, signals, &failure);
    }
    if (failure.reason != NULL)
        report(options, &failure);
    *ret_abandoned = !stop(runtime, at_rest);
    if (!*ret_abandoned) /* else threads are still at work with it */
        free(runtime);
    return failure.reason != NULL;
}
