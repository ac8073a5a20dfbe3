#include "operator/local/fleet.h"

#include <stdlib.h>
#include <string.h>

#include "operator/autoscaler/gateway_report.h"
#include "operator/autoscaler/scaler.h"
#include "operator/backlog/backlog.h"
#include "operator/function/function_scaling.h"
#include "operator/local/fleet_function.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define TICK_MS           1000
#define TRIED_AT_ONCE_MAX 8 /* Functions that changed */
#define KEY_FORMAT        "%s/%s"

/* What another thread asks of the loop's. */
enum wish_kind { WISH_WAKE, WISH_SERVES, WISH_LOOK_AT_EVENTS };
struct fleet_wish {
    struct fleet_wish *next;
    enum wish_kind kind;
    char text[]; /* key; of a process that serves its uid */
};

/* ---- other threads ---- */

static void post_wish(struct fleet *fleet, enum wish_kind kind, const char *text)
{
    size_t size = strlen(text) + 1;
    struct fleet_wish *wish = xcalloc(1, sizeof *wish + size);
    wish->kind = kind;
    memcpy(wish->text, text, size);
    pthread_mutex_lock(&fleet->mu);
    *fleet->wishes_end = wish;
    fleet->wishes_end = &wish->next;
    bool post = !fleet->is_posted;
    fleet->is_posted = true;
    pthread_mutex_unlock(&fleet->mu);
    if (post) {
        loop_post(fleet->settings.loop, &fleet->wished);
    }
}

void fleet_wake(void *arg, const char *namespace, const char *name)
{
    CLEANUP_FREE char *key = xasprintf(KEY_FORMAT, namespace, name);
    post_wish(arg, WISH_WAKE, key);
}

static void events_changed(void *arg, const char *namespace, const char *name)
{
    CLEANUP_FREE char *key = xasprintf(KEY_FORMAT, namespace, name);
    post_wish(arg, WISH_LOOK_AT_EVENTS, key);
}

/* The uid is random and told to that process alone, and only processes of this machine reach the port. */
struct announce_answer fleet_announced(void *arg, const struct announcement *said)
{
    struct fleet *fleet = arg;
    if (said->goodbye) {
        return gateway_pod_goodbye(fleet->gateway, said->pod_uid) ? announce_accepted
                                                                  : announce_not_known_yet;
    }
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)said->port), .sin_addr = said->from};
    if (!gateway_pod_announced(fleet->gateway, said->pod_uid, &address)) {
        return announce_not_known_yet;
    }
    post_wish(fleet, WISH_SERVES, said->pod_uid);
    return announce_accepted;
}

static struct fleet_function *find_function(const struct fleet *fleet, const char *key)
{
    struct fleet_function *function;
    HASH_FIND_STR(fleet->functions, key, function);
    return function;
}

static void grant_wish(struct fleet *fleet, const struct fleet_wish *wish)
{
    if (wish->kind == WISH_SERVES) {
        struct replica *replica;
        HASH_FIND_STR(fleet->replicas, wish->text, replica);
        if (replica) {
            fleet_function_serves(replica->owner, replica);
        }
        return;
    }
    struct fleet_function *function = find_function(fleet, wish->text);
    if (!function || fleet->stopping) {
        return;
    }
    if (wish->kind == WISH_LOOK_AT_EVENTS) {
        fleet_events_changed(function);
        fleet_forget_if_over(function);
    } else if (!function->removed) {
        fleet_function_wake(function);
    }
}

static void grant_wishes(struct loop_post *post)
{
    struct fleet *fleet = container_of(post, struct fleet, wished);
    pthread_mutex_lock(&fleet->mu);
    struct fleet_wish *wish = fleet->wishes;
    fleet->wishes = NULL;
    fleet->wishes_end = &fleet->wishes;
    fleet->is_posted = false;
    pthread_mutex_unlock(&fleet->mu);
    for (struct fleet_wish *next; wish; wish = next) {
        next = wish->next;
        grant_wish(fleet, wish);
        free(wish);
    }
}

/* ---- the autoscaler's platform ---- */

static size_t read_gateway(void *arg)
{
    struct fleet *fleet = arg;
    struct err err = ERR_INIT;
    struct gateway_report *report = NULL;
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, GATEWAY_REPORT_MAX_BYTES);
    gateway_report_free(fleet->before);
    fleet->before = fleet->now;
    fleet->now = NULL;
    fleet->read_ms = clock_monotonic_ms();
    if (gateway_statz(fleet->gateway, &text) < 0 ||
        gateway_report_parse(text.buf, text.len, &report, &err) < 0) {
        return 1;
    }
    fleet->now = report;
    return 0;
}

static struct autoscaler_load read_load(void *arg, const char *namespace, const char *name)
{
    const struct fleet *fleet = arg;
    struct backlog_load backlog = backlog_load(fleet->backlog, namespace, name);
    struct autoscaler_events events = {
        .any = backlog.any_triggers,
        .known = backlog.known,
        .busy = backlog.busy,
        .behind = backlog.behind,
        .wanted = backlog.wanted,
        .held = backlog.held,
    };
    if (!fleet->now) {
        return (struct autoscaler_load){.at_ms = fleet->read_ms, .events = events};
    }
    CLEANUP_FREE char *key = xasprintf(KEY_FORMAT, namespace, name);
    struct gateway_load load = gateway_report_load(fleet->before, fleet->now, key);
    return (struct autoscaler_load){
        .at_ms = fleet->read_ms,
        .mean = load.mean,
        .in_flight = load.in_flight,
        .waiting = load.waiting,
        .quiet_ms = load.idle_ms,
        .any = true,
        .complete = true,
        .events = events,
    };
}

static void each_function(void *arg, scaler_visit *visit, void *visitor)
{
    struct fleet *fleet = arg;
    struct fleet_function *function, *next;
    HASH_ITER(hh, fleet->functions, function, next)
    {
        if (function->removed || function->spec->replicas >= 0) {
            continue;
        }
        struct scaler_target target = {
            .id = function->key,
            .namespace = function->spec->namespace,
            .name = function->spec->name,
            .settings = function_scaling_settings(function->spec, /* proving= */ false),
            /* Only a pass lowers the number, so that it tells of every change: no generation. */
            .state = {.replicas = function->desired,
                      .ready = fleet_function_serving(function),
                      .may_sleep = fleet_function_is_settled(function)},
            .object = function,
        };
        visit(visitor, &target);
    }
}

static int write_replicas(void *arg, const struct scaler_target *target, int replicas, struct err *err)
{
    (void)err;
    fleet_function_scale(find_function(arg, target->id), replicas);
    return 0;
}

static void tick(struct loop_timer *timer)
{
    struct fleet *fleet = container_of(timer, struct fleet, tick);
    if (!fleet->stopping) {
        scaler_pass(fleet->scaler);
        loop_timer_set(fleet->settings.loop, timer, clock_monotonic_ms() + TICK_MS);
    }
}

/* ---- life ---- */

struct fleet *fleet_new(const struct fleet_settings *settings)
{
    struct fleet *fleet = xcalloc(1, sizeof *fleet);
    fleet->settings = *settings;
    fleet->wishes_end = &fleet->wishes;
    fleet->wished.run = grant_wishes;
    TAILQ_INIT(&fleet->due);
    pthread_mutex_init(&fleet->mu, NULL);
    fleet->platform = (struct replica_platform){
        .loop = settings->loop,
        .runtime_path = settings->runtime_path,
        .run_folder = settings->run_folder,
        .line = fleet_function_line,
        .delayed = fleet_function_delayed,
        .ended = fleet_function_ended,
        .arg = fleet,
    };
    struct scaler_platform platform = {.read_gateways = read_gateway,
                                       .load = read_load,
                                       .each = each_function,
                                       .write = write_replicas,
                                       .arg = fleet};
    fleet->scaler = scaler_new(&platform, settings->metrics);
    struct backlog_settings backlog = {
        .allow_local_hosts = true, .due = fleet_wake, .changed = events_changed, .arg = fleet};
    fleet->backlog = backlog_new(&backlog, settings->metrics);
    loop_timer_init(&fleet->tick, tick);
    return fleet;
}

static void forget_function(struct fleet *fleet, struct fleet_function *function)
{
    HASH_DEL(fleet->functions, function);
    fleet_function_free(function);
}

void fleet_forget_if_over(struct fleet_function *function)
{
    if (!function->removed || !LIST_EMPTY(&function->replicas)) {
        return;
    }
    fleet_events_remove(function);
    if (!function->events.watched) {
        forget_function(function->fleet, function);
    }
}

bool fleet_free(struct fleet *fleet)
{
    if (!fleet) {
        return true;
    }
    grant_wishes(&fleet->wished);
    bool ended = backlog_free(fleet->backlog);
    while (fleet->functions) {
        forget_function(fleet, fleet->functions);
    }
    loop_timer_close(fleet->settings.loop, &fleet->tick);
    scaler_free(fleet->scaler);
    gateway_report_free(fleet->before);
    gateway_report_free(fleet->now);
    pthread_mutex_destroy(&fleet->mu);
    free(fleet->announce_address);
    free(fleet->database_url);
    free(fleet);
    return ended;
}

void fleet_set_gateway(struct fleet *fleet, struct gateway *gateway)
{
    fleet->gateway = gateway;
}

void fleet_set_announce_port(struct fleet *fleet, int port)
{
    free(fleet->announce_address);
    fleet->announce_address = xasprintf("127.0.0.1:%d", port);
    fleet->platform.announce_address = fleet->announce_address;
}

void fleet_set_database_url(struct fleet *fleet, const char *url)
{
    free(fleet->database_url);
    fleet->database_url = xstrdup_or_null(url);
    fleet->settings.sources.database_url = fleet->database_url;
}

void fleet_started(struct fleet *fleet)
{
    fleet->started = true;
    loop_timer_set(fleet->settings.loop, &fleet->tick, clock_monotonic_ms() + TICK_MS);
}

bool fleet_triggers_are_settled(const struct fleet *fleet)
{
    const struct fleet_function *function;
    for (function = fleet->functions; function; function = function->hh.next) {
        if (!fleet_events_are_settled(function)) {
            return false;
        }
    }
    return true;
}

/* ---- Functions ---- */

void fleet_set_function(struct fleet *fleet, struct function_spec *spec)
{
    CLEANUP_FREE char *key = xasprintf(KEY_FORMAT, spec->namespace, spec->name);
    struct fleet_function *function = find_function(fleet, key);
    if (!function) {
        function = fleet_function_new(fleet, key);
        HASH_ADD_KEYPTR(hh, fleet->functions, function->key, strlen(function->key), function);
    }
    function->removed = false;
    fleet_function_set_spec(function, spec);
    fleet_look_around(fleet);
}

void fleet_remove_function(struct fleet *fleet, const char *namespace, const char *name)
{
    CLEANUP_FREE char *key = xasprintf(KEY_FORMAT, namespace, name);
    struct fleet_function *function = find_function(fleet, key);
    if (function) {
        fleet_function_remove(function);
        fleet_forget_if_over(function);
        fleet_look_around(fleet);
    }
}

void fleet_refresh(struct fleet *fleet)
{
    struct fleet_function *function, *next;
    HASH_ITER(hh, fleet->functions, function, next)
    {
        if (!function->removed) {
            fleet_function_refresh(function);
        }
    }
    fleet_look_around(fleet);
}

static void try_due(struct fleet *fleet)
{
    struct fleet_function *function;
    while (!fleet->stopping && fleet->starting < TRIED_AT_ONCE_MAX &&
           (function = TAILQ_FIRST(&fleet->due)) != NULL) {
        TAILQ_REMOVE(&fleet->due, function, due_link);
        function->is_due = false;
        fleet_function_try(function);
    }
}

void fleet_look_around(struct fleet *fleet)
{
    try_due(fleet);
    if (fleet->stopping && !fleet->replicas && fleet->done) {
        void (*done)(void *arg) = fleet->done;
        fleet->done = NULL;
        done(fleet->done_arg);
    }
}

/* ---- end ---- */

void fleet_stop(struct fleet *fleet, void (*done)(void *arg), void *arg)
{
    struct fleet_function *function, *next;
    fleet->stopping = true;
    fleet->done = done;
    fleet->done_arg = arg;
    HASH_ITER(hh, fleet->functions, function, next)
    {
        fleet_function_stop(function);
    }
    backlog_stop(fleet->backlog);
    fleet_look_around(fleet);
}

void fleet_kill(struct fleet *fleet)
{
    struct replica *replica, *next;
    HASH_ITER(hh, fleet->replicas, replica, next)
    {
        replica_kill(replica);
    }
}

/* ---- rows ---- */

static int compare_rows(const void *a, const void *b)
{
    const struct fleet_row *left = a, *right = b;
    bool left_awake = strcmp(left->state, "asleep") != 0, right_awake = strcmp(right->state, "asleep") != 0;
    if (left_awake != right_awake) {
        return left_awake ? -1 : 1;
    }
    int order = strcmp(left->spec->namespace, right->spec->namespace);
    return order ? order : strcmp(left->spec->name, right->spec->name);
}

size_t fleet_rows(const struct fleet *fleet, struct fleet_row **ret_rows)
{
    struct fleet_row *rows = xcalloc(HASH_COUNT(fleet->functions) + 1, sizeof *rows);
    size_t count = 0;
    struct fleet_function *function, *next;
    HASH_ITER(hh, fleet->functions, function, next)
    {
        if (function->removed) {
            continue;
        }
        rows[count] = (struct fleet_row){
            .spec = function->spec,
            .state = fleet_function_state(function),
            .replicas = fleet_function_serving(function),
        };
        fleet_events_read(function, &rows[count++]);
    }
    qsort(rows, count, sizeof *rows, compare_rows);
    *ret_rows = rows;
    return count;
}
