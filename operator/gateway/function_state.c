#include "operator/gateway/function_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

/* ---- life ---- */

struct function_state *function_state_new(const char *namespace, const char *name)
{
    struct function_state *function = xcalloc(1, sizeof(*function));
    atomic_init(&function->refs, 1);
    function->namespace = xstrdup(namespace);
    function->name = xstrdup(name);
    function->key = xasprintf("%s/%s", namespace, name);
    pthread_mutex_init(&function->mu, NULL);
    TAILQ_INIT(&function->waiters);
    function->peers = (struct function_peers){.gateways = 1};
    function->share = 1;
    atomic_init(&function->connection_bound, 1);
    function->random = random_u64() | 1;
    function->changed_us = clock_monotonic_us();
    return function;
}

struct function_state *function_state_ref(struct function_state *function)
{
    atomic_fetch_add_explicit(&function->refs, 1, memory_order_relaxed);
    return function;
}

void function_state_unref(struct function_state *function)
{
    if (!function || atomic_fetch_sub_explicit(&function->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    for (size_t i = 0; i < function->pod_count; i++) {
        pod_unref(function->pods[i]);
    }
    free(function->pods);
    function_spec_unref(function->spec);
    pthread_mutex_destroy(&function->mu);
    free(function->namespace);
    free(function->name);
    free(function->key);
    free(function);
}

/* ---- shared with function_pods.c ---- */

void aftermath_init(struct aftermath *aftermath)
{
    TAILQ_INIT(&aftermath->settled);
    aftermath->attend = false;
}

void function_unlock(struct function_state *function, struct aftermath *aftermath)
{
    pthread_mutex_unlock(&function->mu);
    struct waiter *waiter;
    while ((waiter = TAILQ_FIRST(&aftermath->settled))) {
        TAILQ_REMOVE(&aftermath->settled, waiter, link); /* settled() may free it */
        waiter->settled(waiter);
    }
    if (aftermath->attend && function->attend) {
        function->attend(function->attend_arg);
    }
}

void function_account(struct function_state *function, int64_t now_us)
{
    int64_t elapsed = now_us - function->changed_us;
    if (elapsed > 0) { /* another thread may have read the clock later and locked first */
        function->in_flight_us += elapsed * function->in_flight;
        function->waiting_us += elapsed * function->waiting;
        function->changed_us = now_us;
    }
}

void code_copy(char out[GATEWAY_CODE_SIZE], const char *code)
{
    snprintf(out, GATEWAY_CODE_SIZE, "%s", code ? code : "");
}

/* ---- slots ---- */

static uint64_t next_random(struct function_state *function)
{
    uint64_t x = function->random; /* xorshift64: only has to spread */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return function->random = x;
}

/* One of whose slots that are ours is free, before one of which none is; then the less busy one. */
static bool is_better(const struct pod *a, const struct pod *b)
{
    bool a_spent = a->in_flight >= a->dealt, b_spent = b->in_flight >= b->dealt;
    return a_spent != b_spent ? b_spent : a->in_flight < b->in_flight;
}

/* The better of two picked at random; when neither has a slot of ours, the best of all. NULL: no slot is free. */
static struct pod *pick_pod(struct function_state *function)
{
    size_t count = function->usable_count;
    if (count == 0) {
        return NULL;
    }
    if (function->deal_is_old) {
        function_deal(function);
    }
    struct pod *best = function->pods[0];
    if (count > 1) {
        uint64_t random = next_random(function);
        size_t a = (size_t)(random >> 32) % count, b = (size_t)(random & 0xFFFFFFFF) % (count - 1);
        b += b >= a;
        best = is_better(function->pods[b], function->pods[a]) ? function->pods[b] : function->pods[a];
        bool spent = best->in_flight >= best->dealt;
        for (size_t i = 0; spent && i < count; i++) {
            if (is_better(function->pods[i], best)) {
                best = function->pods[i];
            }
        }
    }
    return best->in_flight < function->share ? best : NULL;
}

static void grant(struct function_state *function, struct waiter *waiter, struct pod *pod)
{
    pod->in_flight++;
    function->in_flight++;
    waiter->state = WAITER_GRANTED;
    waiter->pod = pod_ref(pod);
    waiter->address = pod->address;
    waiter->woken_us = function->woken_us;
    waiter->usable_us = pod->usable_us;
}

static void unqueue(struct function_state *function, struct waiter *waiter)
{
    TAILQ_REMOVE(&function->waiters, waiter, link);
    function->waiting--;
    function->held_bytes -= waiter->bytes;
}

static void refuse(struct waiter *waiter, const char *code)
{
    waiter->state = WAITER_REFUSED;
    free(waiter->refused_code);
    waiter->refused_code = xstrdup(code);
}

/* The pod whose failure counts: of the template that pods are made from now, where that is known; the one seen last. NULL: none fails. */
static const struct pod *failed_pod(const struct function_state *function)
{
    const struct pod *failed = NULL;
    for (size_t i = 0; i < function->pod_count; i++) {
        const struct pod *pod = function->pods[i];
        bool counts = pod->state != GATEWAY_POD_TERMINATING && pod->failure_code[0] &&
                      (function->template == 0 || pod->template == function->template);
        if (counts && (!failed || pod->seen_ms >= failed->seen_ms)) {
            failed = pod;
        }
    }
    return failed;
}

static bool template_fails(const struct function_state *function, uint64_t template)
{
    for (size_t i = 0; i < function->pod_count; i++) {
        const struct pod *pod = function->pods[i];
        if (pod->state != GATEWAY_POD_TERMINATING && pod->failure_code[0] && pod->template == template) {
            return true;
        }
    }
    return false;
}

/* Whether waiting for this pod may help, although `failed` fails. A failure speaks for all pods of its template that never served. One
 * of another template that is about to go may help, too: its ReplicaSet makes another before it is gone. */
static bool may_help(const struct function_state *function, const struct pod *pod, const struct pod *failed)
{
    if (pod->failure_code[0]) {
        return false;
    }
    bool has_served = pod->usable_us > 0 && pod->state != GATEWAY_POD_TERMINATING;
    return has_served || (pod->template != failed->template && !template_fails(function, pod->template));
}

/* Why no request can be served however long it waits; NULL: it may wait. */
static const char *hopeless(const struct function_state *function)
{
    if (!function->spec) {
        return "function_deleted";
    }
    if (function->spec->replicas == 0) {
        return "ScaledToZeroByUser";
    }
    if (function->usable_count > 0) {
        return NULL;
    }
    const struct pod *failed = failed_pod(function);
    for (size_t i = 0; i < function->pod_count; i++) {
        const struct pod *pod = function->pods[i];
        /* A quota may stop the second pod while the first is starting. */
        bool is_starting = pod->state != GATEWAY_POD_TERMINATING && !pod->failure_code[0];
        if (failed ? may_help(function, pod, failed) : is_starting) {
            return NULL;
        }
    }
    return failed ? failed->failure_code : function->blocked_code[0] ? function->blocked_code : NULL;
}

void function_settle_waiters(struct function_state *function, struct aftermath *aftermath)
{
    if (function->waiting == 0) {
        return;
    }
    int64_t now_us = clock_monotonic_us();
    function_account(function, now_us);
    const char *code = hopeless(function);
    struct waiter *waiter;
    while ((waiter = TAILQ_FIRST(&function->waiters))) {
        struct pod *pod = code ? NULL : pick_pod(function);
        if (!code && !pod) {
            break;
        }
        unqueue(function, waiter);
        if (pod) {
            grant(function, waiter, pod);
        } else {
            refuse(waiter, code);
            function->active_us = now_us;
        }
        TAILQ_INSERT_TAIL(&aftermath->settled, waiter, link);
    }
}

void function_delay(struct function_state *function, char ret_code[GATEWAY_CODE_SIZE])
{
    code_copy(ret_code, NULL);
    pthread_mutex_lock(&function->mu);
    for (size_t i = 0; i < function->pod_count && function->usable_count == 0; i++) {
        const struct pod *pod = function->pods[i];
        if (pod->state != GATEWAY_POD_TERMINATING && pod->delay_code[0]) {
            code_copy(ret_code, pod->delay_code);
            break;
        }
    }
    pthread_mutex_unlock(&function->mu);
}

/* ---- admission ---- */

static const char *refusal(const struct function_state *function, const struct waiter *waiter, bool front)
{
    const char *code = hopeless(function);
    if (code || front) {
        return code;
    }
    if (function->waiting >= function->spec->queue_depth) {
        return "queue_full";
    }
    if ((int64_t)(function->held_bytes + waiter->bytes) > function->spec->hold_bytes) {
        return "hold_bytes_full";
    }
    return NULL;
}

/* mu held. No pod is usable, and one may be asked for. */
static bool is_asleep(const struct function_state *function)
{
    return function->usable_count == 0 && function->spec && function->spec->replicas != 0;
}

/* A request can't go to a pod now: it waits, or is refused. */
static enum admission enqueue(struct function_state *function, struct waiter *waiter, bool front,
                              bool *ret_wake, struct aftermath *aftermath)
{
    const char *code = refusal(function, waiter, front);
    bool asleep = is_asleep(function);
    int64_t now_ms = clock_monotonic_ms();
    if (asleep && (function->waiting == 0 || now_ms - function->asked_ms >= GATEWAY_WAKE_PERIOD_MS)) {
        /* Also when refused: what blocked the function may be gone, and nobody else would try. */
        *ret_wake = true;
        function->asked_ms = now_ms;
    }
    if (code) {
        refuse(waiter, code);
        return ADMIT_REFUSED;
    }
    waiter->state = WAITER_QUEUED;
    waiter->cold |= function->usable_count == 0;
    if (front) {
        TAILQ_INSERT_HEAD(&function->waiters, waiter, link);
    } else {
        TAILQ_INSERT_TAIL(&function->waiters, waiter, link);
    }
    function->waiting++;
    function->held_bytes += waiter->bytes;
    aftermath->attend = function->usable_count == 0 && function->waiting == 1;
    return ADMIT_QUEUED;
}

enum admission function_admit(struct function_state *function, struct waiter *waiter, bool front,
                              bool *ret_wake)
{
    *ret_wake = false;
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    int64_t now_us = clock_monotonic_us();
    enum admission result;
    pthread_mutex_lock(&function->mu);
    function_account(function, now_us);
    function->active_us = now_us;
    bool off = !function->spec || function->spec->replicas == 0;
    bool in_line = !front && !TAILQ_EMPTY(&function->waiters);
    struct pod *pod = off || in_line ? NULL : pick_pod(function);
    if (pod) {
        grant(function, waiter, pod);
        result = ADMIT_GRANTED;
    } else {
        result = enqueue(function, waiter, front, ret_wake, &aftermath);
    }
    if (result != ADMIT_REFUSED && !waiter->counted) {
        waiter->counted = true;
        function->arrivals++;
    }
    function_unlock(function, &aftermath);
    return result;
}

bool function_leave(struct function_state *function, struct waiter *waiter)
{
    pthread_mutex_lock(&function->mu);
    bool queued = waiter->state == WAITER_QUEUED;
    if (queued) {
        int64_t now_us = clock_monotonic_us();
        function_account(function, now_us);
        function->active_us = now_us;
        unqueue(function, waiter);
        waiter->state = WAITER_NONE;
    }
    pthread_mutex_unlock(&function->mu);
    return queued;
}

void function_release(struct function_state *function, struct waiter *waiter)
{
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    int64_t now_us = clock_monotonic_us();
    pthread_mutex_lock(&function->mu);
    function_account(function, now_us);
    struct pod *pod = waiter->pod;
    assert(waiter->state == WAITER_GRANTED && pod->in_flight > 0);
    pod->in_flight--;
    function->in_flight--;
    function->active_us = now_us;
    waiter->state = WAITER_NONE;
    waiter->pod = NULL;
    function_settle_waiters(function, &aftermath);
    function_unlock(function, &aftermath);
    pod_unref(pod);
}

bool function_wake_due(struct function_state *function, int64_t now_ms, bool *ret_again)
{
    pthread_mutex_lock(&function->mu);
    bool asleep = function->waiting > 0 && is_asleep(function);
    bool due = asleep && (function->wake_at_once || now_ms - function->asked_ms >= GATEWAY_WAKE_PERIOD_MS);
    if (due) {
        function->asked_ms = now_ms;
        function->wake_at_once = false;
    }
    pthread_mutex_unlock(&function->mu);
    *ret_again = asleep;
    return due;
}

bool function_wake_wanted(struct function_state *function, int64_t now_ms)
{
    pthread_mutex_lock(&function->mu);
    /* Who was refused does not wait, but asked. */
    bool asked = function->waiting > 0 || now_ms - function->asked_ms < GATEWAY_WAKE_PERIOD_MS;
    bool wanted = asked && is_asleep(function);
    pthread_mutex_unlock(&function->mu);
    return wanted;
}

/* ---- figures ---- */

static int64_t idle_us(const struct function_state *function, int64_t now_us)
{
    return function->in_flight + function->waiting > 0 ? 0 : now_us - function->active_us;
}

bool function_statz(struct function_state *function, int64_t now_us, int64_t idle_limit_us, bool comma,
                    struct strbuf *out)
{
    pthread_mutex_lock(&function->mu);
    function_account(function, now_us);
    bool listed = function->active_us > 0 && idle_us(function, now_us) < idle_limit_us;
    int in_flight = function->in_flight, waiting = function->waiting;
    int64_t in_flight_ms = function->in_flight_us / 1000, waiting_ms = function->waiting_us / 1000;
    int64_t idle_ms = idle_us(function, now_us) / 1000;
    uint64_t arrivals = function->arrivals;
    pthread_mutex_unlock(&function->mu);
    if (listed) { /* namespace and name are DNS labels: nothing to escape */
        strbuf_appendf(
            out,
            "%s{\"namespace\":\"%s\",\"name\":\"%s\",\"inFlight\":%d,\"waiting\":%d,\"inFlightMs\":%" PRId64
            ",\"waitingMs\":%" PRId64 ",\"arrivals\":%" PRIu64 ",\"idleMs\":%" PRId64 "}",
            comma ? "," : "", function->namespace, function->name, in_flight, waiting, in_flight_ms,
            waiting_ms, arrivals, idle_ms < 0 ? 0 : idle_ms);
    }
    return listed;
}

bool function_is_forgettable(struct function_state *function, int64_t now_us, int64_t idle_limit_us)
{
    pthread_mutex_lock(&function->mu);
    bool forgettable = !function->spec && function->pod_count == 0 &&
                       function->in_flight + function->waiting == 0 &&
                       (function->active_us == 0 || now_us - function->active_us >= idle_limit_us);
    pthread_mutex_unlock(&function->mu);
    return forgettable;
}
