#include "operator/local/replica.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "operator/local/environment.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define KILL_MARGIN_SECONDS   5 /* as a pod's grace period has it */
#define TERMINATION_MAX_BYTES 4096
#define TERMINATION_DEPTH     4
#define LINE_DEPTH            8
#define LETTERS               "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/* What a process gets of our own environment, beside what its Function says. */
static const char *const inherited[] = {
    "PATH",         "HOME",         "LANG",         "LC_ALL",       "TZ", "TMPDIR", "LD_LIBRARY_PATH",
    "ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"};

static void time_is_up(struct loop_timer *timer)
{
    replica_kill(container_of(timer, struct replica, kill));
}

struct replica *replica_new(const struct replica_platform *platform, const struct function_spec *spec,
                            struct launch *launch, int number, void *owner)
{
    struct replica *replica = xcalloc(1, sizeof *replica);
    replica->platform = platform;
    replica->owner = owner;
    replica->launch = launch_ref(launch);
    random_uuid(replica->uid);
    replica->name = xasprintf("%s-%d", spec->name, number);
    replica->termination_path = xasprintf("%s/%s.json", platform->run_folder, replica->uid);
    replica->drain_seconds = spec->drain_seconds;
    loop_timer_init(&replica->kill, time_is_up);
    return replica;
}

/* A start that has to wait says for what in a line of the log, for programs: lifecycle_delay() of the runtime. */
static void note_delay(struct replica *replica, const char *text, size_t len)
{
    static const char member[] = "\"reason\":";
    struct err err = ERR_INIT;
    CLEANUP_JSON cJSON *tree = NULL;
    if (!memmem(text, len, member, strlen(member)) || json_parse(text, len, LINE_DEPTH, &tree, &err) < 0) {
        return;
    }
    const char *reason = json_string(tree, "reason");
    /* Callers are told: a name, then, and nothing that a handler may have logged under it. */
    if (reason && reason[strspn(reason, LETTERS)] == '\0' && strcmp(reason, replica->delay) != 0) {
        snprintf(replica->delay, sizeof replica->delay, "%s", reason);
        replica->platform->delayed(replica->platform->arg, replica);
    }
}

static void heard_line(void *arg, const char *text, size_t len)
{
    struct replica *replica = arg;
    line_tail_add(&replica->tail, text, len);
    replica->platform->line(replica->platform->arg, replica, text, len);
    if (replica->state == REPLICA_STARTING) {
        note_delay(replica, text, len);
    }
}

/* ---- its end ---- */

/* What it wrote about its end; false: nothing. */
static bool read_termination(const struct replica *replica, struct replica_end *end)
{
    struct err err = ERR_INIT;
    CLEANUP_FREE char *text = NULL;
    CLEANUP_JSON cJSON *tree = NULL;
    size_t len;
    if (file_read(replica->termination_path, TERMINATION_MAX_BYTES, &text, &len, &err) < 0 ||
        json_parse(text, len, TERMINATION_DEPTH, &tree, &err) < 0 || !json_string(tree, "reason")) {
        return false;
    }
    const char *message = json_string(tree, "message");
    snprintf(end->reason, sizeof end->reason, "%s", json_string(tree, "reason"));
    snprintf(end->message, sizeof end->message, "%s", message ? message : "");
    return true;
}

static void explain_end(const struct replica *replica, int wait_status, struct replica_end *end)
{
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) != 0 && read_termination(replica, end)) {
        return;
    }
    char how[PROCESS_END_SIZE];
    process_end_text(wait_status, how);
    struct strbuf message;
    strbuf_init_fixed(&message, end->message, sizeof end->message);
    snprintf(end->reason, sizeof end->reason, "ContainerExited");
    strbuf_appendf(&message, "ended by itself: %s", how);
    const char *line;
    for (size_t i = 0; (line = line_tail_get(&replica->tail, i)) != NULL; i++) {
        strbuf_appendf(&message, "\n    %s", line);
    }
}

static void heard_end(void *arg, int wait_status)
{
    struct replica *replica = arg;
    struct replica_end end = {.reason = ""};
    bool told = replica->state == REPLICA_STOPPING && !replica->killed;
    if (!told) {
        explain_end(replica, wait_status, &end);
    }
    (void)unlink(replica->termination_path);
    replica->platform->ended(replica->platform->arg, replica, told ? NULL : &end);
}

/* ---- start ---- */

static void build_environment(const struct replica *replica, struct environment *environment)
{
    for (size_t i = 0; i < ARRAY_SIZE(inherited); i++) {
        environment_set(environment, inherited[i], getenv(inherited[i]));
    }
    for (char **variable = replica->launch->variables; *variable; variable++) {
        CLEANUP_FREE char *name = xstrndup(*variable, strcspn(*variable, "="));
        environment_set(environment, name, *variable + strlen(name) + 1);
    }
    environment_set(environment, "CICADA_LISTEN", "127.0.0.1:0");
    environment_set(environment, "CICADA_ADMIN_LISTEN", "127.0.0.1:0");
    environment_set(environment, "CICADA_GATEWAY", replica->platform->announce_address);
    environment_set(environment, "CICADA_TERMINATION_LOG", replica->termination_path);
    environment_set(environment, "POD_NAME", replica->name);
    environment_set(environment, "POD_UID", replica->uid);
    environment_set(environment, "POD_IP", "127.0.0.1");
}

int replica_start(struct replica *replica, struct err *err)
{
    struct environment environment;
    environment_init(&environment);
    build_environment(replica, &environment);
    CLEANUP_FREE char *path = xstrdup(replica->platform->runtime_path);
    char *const argv[] = {path, NULL};
    char **variables = environment_detach(&environment);
    struct process_settings settings = {
        .argv = argv,
        .envp = variables,
        .death_signal = SIGTERM, /* it finishes what it has */
        .line = heard_line,
        .ended = heard_end,
        .arg = replica,
    };
    replica->started_ms = clock_monotonic_ms();
    int result = process_start(replica->platform->loop, &settings, &replica->process, err);
    environment_free(variables);
    return result;
}

/* ---- between ---- */

void replica_serves(struct replica *replica)
{
    if (replica->state == REPLICA_STARTING) {
        replica->state = REPLICA_SERVING;
        replica->serving_ms = clock_monotonic_ms();
    }
}

void replica_stop(struct replica *replica)
{
    if (replica->state == REPLICA_STOPPING) {
        return;
    }
    replica->state = REPLICA_STOPPING;
    process_signal(replica->process, SIGTERM);
    loop_timer_set(replica->platform->loop, &replica->kill,
                   clock_monotonic_ms() + (replica->drain_seconds + KILL_MARGIN_SECONDS) * 1000LL);
}

void replica_kill(struct replica *replica)
{
    replica->state = REPLICA_STOPPING;
    replica->killed = true;
    process_signal(replica->process, SIGKILL);
}

static void free_now(struct loop_post *post)
{
    struct replica *replica = container_of(post, struct replica, freed);
    launch_unref(replica->launch);
    line_tail_release(&replica->tail);
    free(replica->name);
    free(replica->termination_path);
    free(replica);
}

void replica_free(struct replica *replica)
{
    loop_timer_close(replica->platform->loop, &replica->kill);
    process_free(replica->process);
    replica->freed.run = free_now; /* what happened in this turn may still be told to it */
    loop_defer(replica->platform->loop, &replica->freed);
}
