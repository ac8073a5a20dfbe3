/* local_main.c - cicada-local: Functions as processes of this machine, behind the real gateway. */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "operator/gateway/gateway_admin.h"
#include "operator/local/callers.h"
#include "operator/local/catalog.h"
#include "operator/local/exec_command.h"
#include "operator/local/live_table.h"
#include "operator/local/local_options.h"
#include "operator/local/manifest_validate.h"
#include "operator/local/postgres_server.h"
#include "operator/local/state_folder.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define RUNTIME          "cicada-runtime"
#define EXIT_USAGE       2
#define CLIENT_HEADER_MS 10000
#define CLIENT_IDLE_MS   75000
#define UPSTREAM_IDLE_MS 50000
#define ANNOUNCE_THREADS 24
#define INIT_FILES_MAX   64
#define DRAIN_MAX_MS     30000 /* for requests that are being answered */
#define START_TURN_MS    5
#define TRIGGERS_MAX_MS  5000
#define END_TURN_MS      20
#define END_MAX_MS       60000 /* then processes are killed */
#define MALLOC_ARENAS    2

/* Everything that runs, in the order in which it is started. */
struct program {
    struct local_options options;
    const char *const *paths;
    size_t path_count;
    struct console *console;
    struct loop *loop;
    struct loop_watch signals;
    volatile bool ending; /* a signal came */
    bool at_once;         /* a second one */
    struct state_folder *state;
    char *runtime_path;
    char *init_files[INIT_FILES_MAX + 1];
    struct metrics *metrics;
    struct data_store *data;
    struct handler_store *handlers;
    struct catalog *catalog;
    struct fleet *fleet;
    struct gateway *gateway;
    struct gateway_admin *admin;
    struct announce_port *announce;
    struct postgres_server *postgres;
    struct live_table *table;
    struct exec_command *command; /* --exec */
    int command_status;
    bool fleet_over;
};

/* ---- signals ---- */

static void signal_ready(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    struct program *program = container_of(watch, struct program, signals);
    struct signalfd_siginfo info;
    while (read(watch->fd, &info, sizeof info) == sizeof info) {
        program->at_once = program->ending;
        if (!program->ending) {
            console_say(program->console,
                        "ending: requests in flight are finished; once more to end at once");
        }
        program->ending = true;
        exec_command_signal(program->command, SIGTERM);
        loop_stop(program->loop);
    }
}

/* Blocked before the first thread, so that only the loop takes them. */
static int watch_signals(struct program *program, const sigset_t *signals, struct err *err)
{
    int fd = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return err_set_errno(err, errno, "signalfd");
    }
    return loop_watch_open(program->loop, &program->signals, fd, EPOLLIN, signal_ready, err);
}

/* ---- before the first process ---- */

/* Beside this program, else in PATH. */
static char *search_runtime(void)
{
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self);
    const char *name = len > 0 ? memrchr(self, '/', (size_t)len) : NULL;
    CLEANUP_FREE char *folders =
        xasprintf("%.*s:%s", name ? (int)(name - self) : 0, self, getenv("PATH") ? getenv("PATH") : "");
    for (const char *at = folders; *at; at += *at == ':' ? 1 : 0) {
        size_t part = strcspn(at, ":");
        CLEANUP_FREE char *found = xasprintf("%.*s/" RUNTIME, (int)part, at);
        if (part > 0 && access(found, X_OK) == 0) {
            return steal_ptr(&found);
        }
        at += part;
    }
    return NULL;
}

static int find_runtime(struct program *program, struct err *err)
{
    const char *asked = program->options.runtime;
    program->runtime_path = asked ? xstrdup(asked) : search_runtime();
    if (!program->runtime_path) {
        return err_set(err, ERR_NOT_FOUND, RUNTIME " is not beside this program, nor in PATH: see --runtime");
    }
    return access(program->runtime_path, X_OK) < 0 ? err_set_errno(err, errno, "--runtime: %s", asked) : 0;
}

static int read_init_files(struct program *program, struct err *err)
{
    size_t count = 0;
    for (const char *text = program->options.init_sql; text && *text;) {
        size_t len = strcspn(text, ",");
        CLEANUP_FREE char *name = xstrndup(text, len);
        if (count == INIT_FILES_MAX) {
            return err_set(err, ERR_TOO_LARGE, "--init-sql: more than %d files", INIT_FILES_MAX);
        }
        char *path = realpath(name, NULL);
        if (!path) {
            return err_set_errno(err, errno, "--init-sql: %s", name);
        }
        program->init_files[count++] = path;
        text += len + (text[len] == ',' ? 1 : 0);
    }
    return 0;
}

static int read_manifests(struct program *program, struct err *err)
{
    struct catalog_settings settings = {
        .loop = program->loop,
        .console = program->console,
        .data = program->data,
        .paths = program->paths,
        .path_count = program->path_count,
        .namespace = program->options.namespace,
        .handler_folder = program->options.function_dir,
    };
    return catalog_new(&settings, &program->catalog, err);
}

/* ---- start ---- */

static int start_gateway(struct program *program, struct err *err)
{
    const struct local_options *options = &program->options;
    struct gateway_settings settings = {
        .public_listen = options->listen,
        .internal_listen = options->internal_listen,
        .domain = options->domain,
        .cluster_domain = "cluster.local",
        .identity = "cicada-local",
        .client_header_timeout_ms = CLIENT_HEADER_MS,
        .client_idle_timeout_ms = CLIENT_IDLE_MS,
        .upstream_idle_timeout_ms = UPSTREAM_IDLE_MS,
        .metrics = program->metrics,
        .waker = {.wake = fleet_wake, .arg = program->fleet},
    };
    if (gateway_new(&settings, &program->gateway, err) < 0 || gateway_start(program->gateway, err) < 0) {
        return -1;
    }
    fleet_set_gateway(program->fleet, program->gateway);
    return options->admin_listen ? gateway_admin_start(options->admin_listen, program->gateway,
                                                       program->metrics, &program->admin, err)
                                 : 0;
}

static int start_announce(struct program *program, struct err *err)
{
    struct announce_port_settings settings = {
        .listen = "127.0.0.1:0",
        .threads = ANNOUNCE_THREADS,
        .decide = fleet_announced,
        .arg = program->fleet,
        .metrics = program->metrics,
    };
    if (announce_port_start(&settings, &program->announce, err) < 0) {
        return -1;
    }
    fleet_set_announce_port(program->fleet, announce_port_number(program->announce));
    return 0;
}

static int start_database(struct program *program, struct err *err)
{
    const char *url = program->options.database_url;
    if (!url && catalog_needs_database(program->catalog)) {
        const char *state = state_folder_path(program->state);
        CLEANUP_FREE char *folder = xasprintf("%s/postgres", state), *psql = xasprintf("%s/psql", state);
        struct postgres_server_settings settings = {
            .loop = program->loop,
            .console = program->console,
            .folder = folder,
            .programs = program->options.postgres_dir,
            .init_files = (const char *const *)program->init_files,
            .fresh = program->options.fresh,
            .psql_path = psql,
            .give_up = &program->ending,
        };
        if (postgres_server_start(&settings, &program->postgres, err) < 0) {
            return -1;
        }
        url = postgres_server_url(program->postgres);
        console_say(program->console, "%s database: %s/psql, which is %s",
                    postgres_server_is_new(program->postgres) ? "a new" : "the", program->options.state_dir,
                    postgres_server_psql(program->postgres));
    }
    fleet_set_database_url(program->fleet, url);
    return 0;
}

static void make_fleet(struct program *program)
{
    struct fleet_settings settings = {
        .loop = program->loop,
        .console = program->console,
        .metrics = program->metrics,
        .runtime_path = program->runtime_path,
        .run_folder = state_folder_run(program->state),
        .sources = {.handlers = program->handlers,
                    .data = program->data,
                    .log_level = program->options.log_level},
    };
    program->fleet = fleet_new(&settings);
}

static int start_command(struct program *program, struct err *err)
{
    CLEANUP_FREE char *url = xasprintf("http://127.0.0.1:%d", gateway_public_port(program->gateway));
    struct exec_command_settings settings = {
        .loop = program->loop,
        .command = program->options.exec,
        .cicada_url = url,
        .database_url =
            program->postgres ? postgres_server_url(program->postgres) : program->options.database_url,
    };
    return exec_command_start(&settings, &program->command, err);
}

static void say_where(const struct program *program)
{
    struct fleet_row *rows;
    size_t count = fleet_rows(program->fleet, &rows);
    int port = gateway_public_port(program->gateway);
    for (size_t i = 0; i < count && i < LIVE_TABLE_URLS_SAID; i++) {
        CLEANUP_FREE char *key = xasprintf("%s/%s", rows[i].spec->namespace, rows[i].spec->name),
                          *callers = callers_text(rows[i].spec, port);
        console_event(program->console, key, "%s",
                      callers[0] ? callers : "has no http: it is called through --internal-listen only");
    }
    free(rows);
    console_say(program->console, "listening on port %d: %zu functions, asleep until they are called", port,
                count);
}

/* So that what is told to be there is: who sends an event now finds its queue. */
static void await_triggers(struct program *program)
{
    int64_t deadline_ms = clock_monotonic_ms() + TRIGGERS_MAX_MS;
    while (!program->ending && !fleet_triggers_are_settled(program->fleet) &&
           deadline_left_ms(deadline_ms) > 0) {
        loop_turn(program->loop, START_TURN_MS);
    }
}

/* The gateway listens before anything else is there: requests that come meanwhile are held. */
static int start(struct program *program, struct err *err)
{
    const struct local_options *options = &program->options;
    if (find_runtime(program, err) < 0 || read_init_files(program, err) < 0 ||
        read_manifests(program, err) < 0 || state_folder_open(options->state_dir, &program->state, err) < 0) {
        return -1;
    }
    program->handlers = handler_store_new(options->function_dir, state_folder_handlers(program->state));
    make_fleet(program);
    if (start_gateway(program, err) < 0 || start_database(program, err) < 0 ||
        start_announce(program, err) < 0 || catalog_start(program->catalog, program->fleet, err) < 0) {
        return -1;
    }
    gateway_catalog_synced(program->gateway);
    fleet_started(program->fleet);
    await_triggers(program);
    say_where(program);
    program->table = live_table_new(program->loop, program->console, program->fleet, program->gateway);
    return options->exec ? start_command(program, err) : 0;
}

/* ---- end ---- */

static void fleet_over(void *arg)
{
    struct program *program = arg;
    program->fleet_over = true;
}

/* What is being answered is answered, and what is held is still served. */
static void drain(struct program *program)
{
    int64_t deadline_ms = clock_monotonic_ms() + DRAIN_MAX_MS;
    gateway_drain(program->gateway);
    while (!program->at_once && !gateway_quiet(program->gateway, /* quiet_ms= */ 0) &&
           deadline_left_ms(deadline_ms) > 0) {
        loop_turn(program->loop, END_TURN_MS);
    }
    gateway_leave(program->gateway);
    while (!program->at_once && !gateway_left(program->gateway, /* patience_ms= */ 0) &&
           deadline_left_ms(deadline_ms) > 0) {
        loop_turn(program->loop, END_TURN_MS);
    }
}

static void end_fleet(struct program *program)
{
    int64_t deadline_ms = clock_monotonic_ms() + END_MAX_MS;
    bool killed = false;
    fleet_stop(program->fleet, fleet_over, program);
    do { /* one turn at least: for what others have posted */
        if (!killed && (program->at_once || deadline_left_ms(deadline_ms) == 0)) {
            fleet_kill(program->fleet);
            killed = true;
        }
        loop_turn(program->loop, END_TURN_MS);
    } while (!program->fleet_over);
}

static void end_command(struct program *program)
{
    int64_t deadline_ms = clock_monotonic_ms() + DRAIN_MAX_MS;
    while (program->command && !exec_command_is_over(program->command, &program->command_status)) {
        if (program->at_once || deadline_left_ms(deadline_ms) == 0) {
            exec_command_signal(program->command, SIGKILL);
        }
        loop_turn(program->loop, END_TURN_MS);
    }
    exec_command_free(steal_ptr(&program->command), program->at_once);
}

/* Takes what start() has made so far, in any state of half. */
static void end_all(struct program *program)
{
    end_command(program);
    live_table_free(program->table);
    catalog_free(program->catalog);
    if (program->gateway) {
        drain(program);
    }
    if (program->fleet) {
        end_fleet(program);
    }
    announce_port_stop(program->announce); /* it took the processes' goodbyes */
    gateway_admin_stop(program->admin);
    if (program->gateway) {
        gateway_stop(program->gateway);
    }
    bool metrics_unused = fleet_free(program->fleet);
    gateway_free(program->gateway);
    postgres_server_stop(program->postgres);
    loop_turn(program->loop, 0); /* what was left to be freed */
    handler_store_free(program->handlers);
    data_store_free(program->data);
    if (metrics_unused) {
        metrics_free(program->metrics);
    }
    state_folder_close(program->state);
    for (size_t i = 0; program->init_files[i]; i++) {
        free(program->init_files[i]);
    }
    free(program->runtime_path);
}

static int serve(struct program *program)
{
    struct err err = ERR_INIT;
    program->metrics = metrics_new();
    program->data = data_store_new();
    int status = start(program, &err);
    if (status < 0) {
        console_say(program->console, "cicada-local: %s", err.msg);
    } else {
        loop_run(program->loop);
    }
    end_all(program);
    return status < 0 ? EXIT_FAILURE : program->command_status;
}

static int validate(const struct program *program)
{
    struct err err = ERR_INIT;
    struct manifest_reader *reader;
    if (manifest_reader_new(program->options.namespace, &reader, &err) < 0) {
        console_say(program->console, "cicada-local: %s", err.msg);
        return EXIT_USAGE;
    }
    int status = manifest_validate(reader, program->paths, program->path_count, stdout);
    manifest_reader_free(reader);
    return status;
}

static int run(struct program *program)
{
    struct err err = ERR_INIT;
    enum log_level level;
    if (program->path_count == 0) {
        console_say(program->console, "cicada-local: no manifest is given; see --help");
        return EXIT_USAGE;
    }
    if (!log_level_parse(program->options.log_level, &level)) {
        console_say(program->console, "cicada-local: --log-level: must be debug, info, warn or error");
        return EXIT_USAGE;
    }
    if (program->options.validate) {
        return validate(program);
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    mallopt(M_ARENA_MAX, MALLOC_ARENAS);
    program->signals.fd = -1;
    int status = EXIT_FAILURE;
    if (loop_new(&program->loop, &err) < 0 || watch_signals(program, &signals, &err) < 0) {
        console_say(program->console, "cicada-local: %s", err.msg);
    } else {
        log_set_sink(console_log, program->console);
        status = serve(program);
        log_set_sink(NULL, NULL);
        loop_watch_close(program->loop, &program->signals);
    }
    loop_free(program->loop);
    return status;
}

int main(int argc, char **argv)
{
    struct program program = {0};
    struct err err = ERR_INIT;
    enum options_result result;
    int first_argument;
    log_set_component("local");
    if (options_parse(&local_option_table, argc, argv, &program.options, &result, &first_argument, &err) <
        0) {
        dprintf(STDERR_FILENO, "cicada-local: %s\n", err.msg);
        return EXIT_USAGE;
    }
    if (result == OPTIONS_EXIT) {
        options_release(&local_option_table, &program.options);
        return 0;
    }
    program.paths = (const char *const *)argv + first_argument;
    program.path_count = (size_t)(argc - first_argument);
    program.console = console_new(STDERR_FILENO, program.options.table);
    int status = run(&program);
    console_free(program.console);
    options_release(&local_option_table, &program.options);
    return status;
}
