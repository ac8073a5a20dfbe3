#include "operator/local/fleet_function.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "operator/local/rollout.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define RETRY_FIRST_MS  100
#define RETRY_MAX_MS    5000
#define RETRY_DOUBLINGS 10
#define STABLE_MS       10000 /* one that served so long did not fail at once */
#define NEW_AT_ONCE_MAX 32    /* processes of one Function that start at the same time */

static void reconcile(struct fleet_function *function);

static void retry_now(struct loop_timer *timer)
{
    reconcile(container_of(timer, struct fleet_function, retry));
}

struct fleet_function *fleet_function_new(struct fleet *fleet, const char *key)
{
    struct fleet_function *function = xcalloc(1, sizeof *function);
    function->fleet = fleet;
    function->key = xstrdup(key);
    LIST_INIT(&function->replicas);
    loop_timer_init(&function->retry, retry_now);
    return function;
}

void fleet_function_free(struct fleet_function *function)
{
    loop_timer_close(function->fleet->settings.loop, &function->retry);
    if (function->is_due) {
        TAILQ_REMOVE(&function->fleet->due, function, due_link);
    }
    fleet_events_release(&function->events);
    function_spec_unref(function->spec);
    launch_unref(function->launch);
    free(function->message);
    free(function->key);
    free(function);
}

/* ---- what is known of it ---- */

static bool is_current(const struct fleet_function *function, const struct replica *replica)
{
    return launch_equal(replica->launch, function->launch);
}

static struct rollout_state count_replicas(const struct fleet_function *function)
{
    struct rollout_state state = {.desired = function->desired};
    const struct replica *replica;
    LIST_FOREACH(replica, &function->replicas, link)
    {
        if (replica->state == REPLICA_STOPPING) {
            continue;
        }
        if (!is_current(function, replica)) {
            state.old++;
        } else if (replica->state == REPLICA_SERVING) {
            state.serving++;
        } else {
            state.starting++;
        }
    }
    return state;
}

int fleet_function_serving(const struct fleet_function *function)
{
    int serving = 0;
    const struct replica *replica;
    LIST_FOREACH(replica, &function->replicas, link)
    {
        serving += replica->state == REPLICA_SERVING ? 1 : 0;
    }
    return serving;
}

/* Nothing is changing but for failures: it may be put to sleep. */
bool fleet_function_is_settled(const struct fleet_function *function)
{
    struct rollout_state state = count_replicas(function);
    return function->failure[0] || (state.old == 0 && state.starting == 0);
}

/* None serves yet: what they wait for, if they said it. */
static const char *starting_state(const struct fleet_function *function)
{
    const struct replica *replica;
    LIST_FOREACH(replica, &function->replicas, link)
    {
        if (replica->state == REPLICA_STARTING && replica->delay[0]) {
            return replica->delay;
        }
    }
    return "starting";
}

const char *fleet_function_state(const struct fleet_function *function)
{
    struct rollout_state state = count_replicas(function);
    if (function->failure[0]) {
        return function->failure;
    }
    if (function->spec->replicas == 0) {
        return "switched off";
    }
    if (state.old > 0) {
        return "changing";
    }
    if (function->events.state[0]) {
        return function->events.state;
    }
    return state.serving > 0 ? "serving" : state.starting > 0 ? starting_state(function) : "asleep";
}

/* ---- failures ---- */

/* Said once, until something else is wrong or it serves again. */
static void fail(struct fleet_function *function, const char *reason, const char *message)
{
    struct fleet *fleet = function->fleet;
    snprintf(function->failure, sizeof function->failure, "%s", reason);
    gateway_function_blocked(fleet->gateway, function->spec->namespace, function->spec->name, reason);
    if (function->message && strcmp(function->message, message) == 0) {
        return;
    }
    free(function->message);
    function->message = xstrdup(message);
    console_event(fleet->settings.console, function->key, "%s: %s", reason, message);
}

static void forget_failure(struct fleet_function *function)
{
    if (function->failure[0]) {
        gateway_function_blocked(function->fleet->gateway, function->spec->namespace, function->spec->name,
                                 NULL);
    }
    function->failure[0] = '\0';
}

static void set_retry(struct fleet_function *function, bool served)
{
    int doublings = function->failures < RETRY_DOUBLINGS ? function->failures : RETRY_DOUBLINGS;
    int64_t delay_ms = (int64_t)RETRY_FIRST_MS << doublings;
    /* One that served and was lost for the first time is replaced at once. */
    delay_ms = served && function->failures == 0 ? 0 : delay_ms < RETRY_MAX_MS ? delay_ms : RETRY_MAX_MS;
    function->failures++;
    loop_timer_set(function->fleet->settings.loop, &function->retry, clock_monotonic_ms() + delay_ms);
}

static bool is_waiting_to_retry(const struct fleet_function *function)
{
    return function->retry.deadline_ms != DEADLINE_NONE;
}

static void start_afresh(struct fleet_function *function)
{
    function->failures = 0;
    loop_timer_cancel(&function->retry);
    free(function->message);
    function->message = NULL;
}

/* ---- processes ---- */

static void tell_gateway(const struct fleet_function *function, const struct replica *replica,
                         enum gateway_pod_state state)
{
    struct gateway_pod pod = {
        .namespace = function->spec->namespace,
        .function = function->spec->name,
        .name = replica->name,
        .uid = replica->uid,
        .state = state,
        .delay_code = replica->delay[0] ? replica->delay : NULL,
    };
    gateway_pod_set(function->fleet->gateway, &pod);
}

static void drop_replica(struct fleet_function *function, struct replica *replica)
{
    struct fleet *fleet = function->fleet;
    fleet->starting -= replica->state == REPLICA_STARTING ? 1 : 0;
    gateway_pod_remove(fleet->gateway, replica->uid);
    LIST_REMOVE(replica, link);
    HASH_DEL(fleet->replicas, replica);
    replica_free(replica);
}

/* The gateway hears of it first: it may announce itself before this returns. */
static bool start_replica(struct fleet_function *function)
{
    struct fleet *fleet = function->fleet;
    struct err err = ERR_INIT;
    struct replica *replica =
        replica_new(&fleet->platform, function->spec, function->launch, ++function->last_number, function);
    LIST_INSERT_HEAD(&function->replicas, replica, link);
    HASH_ADD_STR(fleet->replicas, uid, replica);
    fleet->starting++;
    tell_gateway(function, replica, GATEWAY_POD_PENDING);
    if (replica_start(replica, &err) < 0) {
        fail(function, "ContainerExited", err.msg);
        drop_replica(function, replica);
        set_retry(function, /* served= */ false);
        return false;
    }
    forget_failure(function);
    gateway_function_woken(fleet->gateway, function->spec->namespace, function->spec->name);
    return true;
}

static void stop_replica(struct fleet_function *function, struct replica *replica)
{
    function->fleet->starting -= replica->state == REPLICA_STARTING ? 1 : 0;
    tell_gateway(function, replica, GATEWAY_POD_TERMINATING);
    replica_stop(replica);
}

static void stop_some(struct fleet_function *function, int count, bool current)
{
    struct replica *replica;
    /* The ones that can't serve yet first. */
    for (int pass = 0; pass < 2; pass++) {
        LIST_FOREACH(replica, &function->replicas, link)
        {
            bool counts = replica->state == (pass == 0 ? REPLICA_STARTING : REPLICA_SERVING) &&
                          is_current(function, replica) == current;
            if (counts && count > 0) {
                stop_replica(function, replica);
                count--;
            }
        }
    }
}

static void reconcile(struct fleet_function *function)
{
    struct rollout_state state = count_replicas(function);
    state.may_start = function->launch && !is_waiting_to_retry(function) && !function->fleet->stopping;
    struct rollout_step step = rollout_decide(&state);
    stop_some(function, step.stop_old, /* current= */ false);
    stop_some(function, step.stop_new, /* current= */ true);
    int room = NEW_AT_ONCE_MAX - state.starting;
    for (int i = 0; i < step.start && i < room && start_replica(function); i++) {}
    state = count_replicas(function);
    fleet_events_set_awake(function, state.old + state.starting + state.serving > 0);
}

/* What the runtime says of its own start and end, for those who measure it; here that is told in other words. */
static bool is_of_the_runtimes_life(const char *text, size_t len)
{
    static const char *const messages[] = {"\"message\":\"start wall_us=", "\"message\":\"serving wall_us=",
                                           "\"message\":\"signal 15: draining\""};
    for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
        if (memmem(text, len, messages[i], strlen(messages[i]))) {
            return true;
        }
    }
    return false;
}

void fleet_function_line(void *arg, const struct replica *replica, const char *text, size_t len)
{
    const struct fleet *fleet = arg;
    const struct fleet_function *function = replica->owner;
    if (is_of_the_runtimes_life(text, len)) {
        return;
    }
    CLEANUP_FREE char *source = xasprintf("%s/%s", function->spec->namespace, replica->name);
    console_process_line(fleet->settings.console, source, text, len);
}

void fleet_function_delayed(void *arg, const struct replica *replica)
{
    (void)arg;
    tell_gateway(replica->owner, replica, GATEWAY_POD_PENDING);
}

void fleet_function_ended(void *arg, struct replica *replica, const struct replica_end *end)
{
    struct fleet *fleet = arg;
    struct fleet_function *function = replica->owner;
    if (end && !function->removed) {
        int64_t served_ms = replica->serving_ms > 0 ? clock_monotonic_ms() - replica->serving_ms : 0;
        function->failures = served_ms >= STABLE_MS ? 0 : function->failures;
        if (is_current(function, replica)) {
            fail(function, end->reason, end->message); /* before its end is told: who waits hears why */
            set_retry(function, replica->serving_ms > 0);
        } else {
            console_event(fleet->settings.console, function->key, "%s: %s", end->reason, end->message);
        }
    }
    drop_replica(function, replica);
    if (function->removed) {
        fleet_forget_if_over(function);
    } else {
        reconcile(function);
    }
    fleet_look_around(fleet);
}

void fleet_function_serves(struct fleet_function *function, struct replica *replica)
{
    if (replica->state != REPLICA_STARTING) {
        return;
    }
    function->fleet->starting--;
    replica_serves(replica);
    console_event(function->fleet->settings.console, function->key, "%s serves after %" PRId64 " ms",
                  replica->name, replica->serving_ms - replica->started_ms);
    if (is_current(function, replica)) {
        forget_failure(function);
    }
    reconcile(function);
    fleet_look_around(function->fleet);
}

/* ---- what is wanted ---- */

void fleet_function_wake(struct fleet_function *function)
{
    if (function->desired == 0 && function->spec->replicas != 0) {
        function->desired = 1;
        reconcile(function);
    }
}

void fleet_function_scale(struct fleet_function *function, int replicas)
{
    function->desired = replicas;
    if (replicas == 0) {
        loop_timer_cancel(&function->retry); /* the next request tries again */
    }
    reconcile(function);
}

void fleet_function_try(struct fleet_function *function)
{
    if (function->desired == 0 && function->launch && function->spec->replicas != 0 &&
        function->spec->initial_replicas > 0) {
        function->desired = function->spec->initial_replicas;
        reconcile(function);
    }
}

static void mark_due(struct fleet_function *function)
{
    if (function->fleet->started && !function->is_due) {
        function->is_due = true;
        TAILQ_INSERT_TAIL(&function->fleet->due, function, due_link);
    }
}

void fleet_function_refresh(struct fleet_function *function)
{
    struct launch *launch = NULL;
    struct launch_failure failure = {.reason = ""};
    fleet_events_refresh(function);
    if (launch_new(&function->fleet->settings.sources, function->spec, function->launch, &launch, &failure) <
        0) {
        fail(function, failure.reason, failure.err.msg);
        launch_unref(function->launch); /* processes that there are go on, no other is started */
        function->launch = NULL;
        return;
    }
    if (launch_equal(launch, function->launch)) {
        launch_unref(launch);
        return;
    }
    launch_unref(function->launch);
    function->launch = launch;
    start_afresh(function);
    forget_failure(function);
    mark_due(function);
    reconcile(function);
}

void fleet_function_set_spec(struct fleet_function *function, struct function_spec *spec)
{
    function_spec_ref(spec);
    function_spec_unref(function->spec);
    function->spec = spec;
    gateway_function_set(function->fleet->gateway, spec);
    bool pinned = spec->replicas >= 0;
    int least = spec->min_replicas, most = spec->max_replicas;
    function->desired = pinned                      ? spec->replicas
                        : function->desired < least ? least
                        : function->desired > most  ? most
                                                    : function->desired;
    fleet_function_refresh(function);
    reconcile(function);
}

void fleet_function_remove(struct fleet_function *function)
{
    function->removed = true;
    function->desired = 0;
    loop_timer_cancel(&function->retry);
    gateway_function_remove(function->fleet->gateway, function->spec->namespace, function->spec->name);
    reconcile(function);
}

void fleet_function_stop(struct fleet_function *function)
{
    struct replica *replica;
    loop_timer_cancel(&function->retry);
    LIST_FOREACH(replica, &function->replicas, link)
    {
        if (replica->state != REPLICA_STOPPING) {
            stop_replica(function, replica);
        }
    }
}
