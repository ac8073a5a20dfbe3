/* runtime_main.c - cicada-runtime: a parent whose worker serves one function. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/options.h"
#include "runtime/host/crash_watch.h"
#include "runtime/host/migrate.h"
#include "runtime/host/parent.h"
#include "runtime/host/runtime.h"

#define EXIT_USAGE       2
#define DRAIN_DEFAULT_MS 30000 /* until the worker has read the spec */

#define AT(field) offsetof(struct runtime_options, field)

static const struct option_spec specs[] = {
    {.env = "CICADA_SPEC",
     .type = OPTION_STRING,
     .offset = AT(spec),
     .help = "The Function's spec, as JSON."},
    {.name = "spec-file",
     .env = "CICADA_SPEC_FILE",
     .type = OPTION_STRING,
     .offset = AT(spec_file),
     .help = "A file with it."},
    {.env = "DATABASE_URL",
     .type = OPTION_STRING,
     .offset = AT(database_url),
     .secret = true,
     .help = "libpq URI of the function's database."},
    {.name = "database-url-file",
     .env = "DATABASE_URL_FILE",
     .type = OPTION_STRING,
     .offset = AT(database_url_file),
     .help = "A file with it."},
    {.name = "listen",
     .env = "CICADA_LISTEN",
     .type = OPTION_STRING,
     .offset = AT(listen),
     .default_text = "0.0.0.0:8080",
     .help = "Where the function answers, once it can serve."},
    {.name = "admin-listen",
     .env = "CICADA_ADMIN_LISTEN",
     .type = OPTION_STRING,
     .offset = AT(admin_listen),
     .default_text = "0.0.0.0:9090",
     .help = "Where /livez, /readyz, /metrics and /statz answer."},
    {.name = "function-dir",
     .env = "CICADA_FUNCTION_DIR",
     .type = OPTION_STRING,
     .offset = AT(function_dir),
     .default_text = "/functions",
     .help = "Where shared objects with handlers are."},
    {.name = "function-name",
     .env = "CICADA_FUNCTION_NAME",
     .type = OPTION_STRING,
     .offset = AT(function_name),
     .default_text = "function",
     .help = "Name of the Function, for log and announcement."},
    {.name = "function-namespace",
     .env = "CICADA_FUNCTION_NAMESPACE",
     .type = OPTION_STRING,
     .offset = AT(function_namespace),
     .default_text = "default",
     .help = "Its namespace."},
    {.name = "gateway",
     .env = "CICADA_GATEWAY",
     .type = OPTION_STRING,
     .offset = AT(gateway),
     .help = "NAME:PORT of the gateways to announce this pod to; none are told if it is empty."},
    {.env = "POD_NAME", .type = OPTION_STRING, .offset = AT(pod_name), .help = "Name of this pod."},
    {.env = "POD_UID", .type = OPTION_STRING, .offset = AT(pod_uid), .help = "UID of this pod."},
    {.name = "termination-log",
     .env = "CICADA_TERMINATION_LOG",
     .type = OPTION_STRING,
     .offset = AT(termination_log),
     .default_text = "/dev/termination-log",
     .help = "Where the reason of a fatal exit is written."},
    {.name = "log-level",
     .env = "CICADA_LOG_LEVEL",
     .type = OPTION_STRING,
     .offset = AT(log_level),
     .default_text = "info",
     .help = "debug, info, warn or error."},
    {.name = "access-log",
     .env = "CICADA_ACCESS_LOG",
     .type = OPTION_STRING,
     .offset = AT(access_log_text),
     .default_text = "off",
     .help =
         "Log lines for requests: off, all, or the fraction of them from 0 to 1; unless off, 5xx always."},
    {.name = "slow-statement-ms",
     .env = "CICADA_SLOW_STATEMENT_MS",
     .type = OPTION_INT64,
     .offset = AT(slow_statement_ms),
     .default_text = "1000",
     .min = 0,
     .max = 3600000,
     .help = "Statements that take as long are logged, without values; 0: none is."},
    {.name = "stuck-grace-ms",
     .env = "CICADA_STUCK_GRACE_MS",
     .type = OPTION_INT64,
     .offset = AT(stuck_grace_ms),
     .default_text = "10000",
     .min = 1,
     .max = 600000,
     .help = "How late a handler may be before the process gives up on it."},
    {.name = "migrate",
     .type = OPTION_BOOL,
     .offset = AT(migrate),
     .help =
         "Installs or upgrades schema cicada in the database of DATABASE_URL, says what it did and exits: "
         "0 done, or nothing to do; 1 the database refused or is away; 2 wrong usage."},
    {.name = "grant-to",
     .type = OPTION_STRING,
     .offset = AT(grant_to),
     .help = "With --migrate: a role of functions that may use the schema from then on."},
};

static const struct option_table table = {
    .program = "cicada-runtime",
    .summary = "serves one function: loads its handler and answers requests with it",
    .specs = specs,
    .spec_count = ARRAY_SIZE(specs),
};

struct worker {
    const struct runtime_options *options;
    struct crash_board *board;
};

/* Before the first thread, so that every thread inherits the mask and only main's wait sees the signals. */
static void block_signals(sigset_t *ret_signals)
{
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGTERM);
    sigaddset(ret_signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, ret_signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* In the worker: all that it does. */
static int work(void *arg)
{
    struct worker *worker = arg;
    sigset_t signals;
    bool abandoned;
    int code;

    block_signals(&signals);
    crash_watch_start(worker->board);
    code = runtime_run(worker->options, worker->board, &signals, &abandoned);
    atomic_store(&worker->board->ended, true);
    if (abandoned) /* no destructor may run under code that is still at work */
        _exit(code);
    return code;
}

static int run(const struct runtime_options *options)
{
    struct worker worker = {.options = options, .board = crash_board_new()};
    const struct parent_settings settings = {
        .function = options->function_name,
        .drain_ms = DRAIN_DEFAULT_MS,
        .termination_log = options->termination_log,
        .work = work,
        .arg = &worker,
        .board = worker.board,
    };
    int code = parent_run(&settings);

    crash_board_free(worker.board);
    return code;
}

/* What options.h takes as text. False: one is wrong, and standard error says which. */
static bool read_texts(struct runtime_options *options)
{
    enum log_level level;

    if (!log_level_parse(options->log_level, &level)) {
        fprintf(stderr, "cicada-runtime: CICADA_LOG_LEVEL: \"%s\" is not debug, info, warn or error\n",
                options->log_level);
        return false;
    }
    if (!access_log_parse(options->access_log_text, &options->access_log)) {
        fprintf(stderr, "cicada-runtime: CICADA_ACCESS_LOG: \"%s\" is not off, all or a number from 0 to 1\n",
                options->access_log_text);
        return false;
    }
    log_set_level(level);
    return true;
}

int main(int argc, char **argv)
{
    int64_t start_wall_us = clock_wall_us();
    struct runtime_options options = {0};
    enum options_result result;
    struct err err = ERR_INIT;
    int first_argument, code;

    log_set_component("runtime");
    if (options_parse(&table, argc, argv, &options, &result, &first_argument, &err) != 0) {
        fprintf(stderr, "cicada-runtime: %s\n", err.msg);
        return EXIT_USAGE;
    }
    if (result == OPTIONS_EXIT) {
        options_release(&table, &options);
        return EXIT_SUCCESS;
    }
    if (options.migrate) {
        code = migrate_run(&options);
        options_release(&table, &options);
        return code;
    }
    log_info("start wall_us=%lld", (long long)start_wall_us);
    code = read_texts(&options) ? run(&options) : EXIT_USAGE;
    options_release(&table, &options);
    return code;
}
