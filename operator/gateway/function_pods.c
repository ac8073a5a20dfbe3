#include "operator/gateway/function_internal.h"

#include <assert.h>
#include <string.h>

#include "operator/gateway/upstream_conn.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define POD_NEW_MS 10000 /* so long after it was first seen a pod is probed eagerly though nobody waits */

/* ---- life of a pod ---- */

struct pod *pod_new(const char *uid, struct upstream_pool *pools, int64_t now_ms)
{
    struct pod *pod = xcalloc(1, sizeof(*pod));
    atomic_init(&pod->refs, 1);
    atomic_init(&pod->connections, 0);
    atomic_init(&pod->epoch, 0);
    pod->uid = xstrdup(uid);
    pod->pools = pools;
    pod->seen_ms = now_ms;
    return pod;
}

struct pod *pod_ref(struct pod *pod)
{
    atomic_fetch_add_explicit(&pod->refs, 1, memory_order_relaxed);
    return pod;
}

void pod_unref(struct pod *pod)
{
    if (!pod || atomic_fetch_sub_explicit(&pod->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    upstream_pools_free(pod->pools);
    free(pod->uid);
    free(pod);
}

/* ---- places in function->pods: the usable ones first ---- */

static void swap_pods(struct function_state *function, size_t a, size_t b)
{
    struct pod *pod = function->pods[a];
    function->pods[a] = function->pods[b];
    function->pods[b] = pod;
    function->pods[a]->index = a;
    function->pods[b]->index = b;
}

void function_set_usable(struct function_state *function, struct pod *pod, bool usable)
{
    if (pod->usable == usable) {
        return;
    }
    if (usable) {
        assert(pod->has_address);
        swap_pods(function, pod->index, function->usable_count++);
        pod->usable_us = clock_monotonic_us();
        pod->delay_code[0] = '\0';
    } else {
        swap_pods(function, pod->index, --function->usable_count);
    }
    pod->usable = usable;
    function->deal_is_old = true;
}

void function_recompute_share(struct function_state *function)
{
    int concurrency = function->spec ? function->spec->concurrency : 1;
    int gateways = function->peers.gateways;
    function->share = (concurrency + gateways - 1) / gateways;
    int bound = (2 * concurrency + 4) / gateways;
    atomic_store(&function->connection_bound, bound > 1 ? bound : 1);
    function->deal_is_old = true;
}

static int compare_uids(const void *a, const void *b)
{
    const struct pod *const *left = a, *const *right = b;
    return strcmp((*left)->uid, (*right)->uid);
}

/* Of each pod `rest` slots can't be shared evenly. They go to one gateway after the other, pod by pod in the order of their uids. All
 * gateways deal alike while they see the same pods; while they don't, two may meet in a pod, which has places to wait. */
void function_deal(struct function_state *function)
{
    int concurrency = function->spec ? function->spec->concurrency : 1;
    int gateways = function->peers.gateways, rest = concurrency % gateways;
    size_t count = function->usable_count;
    CLEANUP_FREE struct pod **pods =
        xcalloc(count + 1, sizeof(struct pod *)); /* their order here is the loops' own */
    memcpy(pods, function->pods, count * sizeof(struct pod *));
    if (rest > 0) {
        qsort(pods, count, sizeof(struct pod *), compare_uids);
    }
    for (size_t i = 0; i < count; i++) {
        int first = (int)(i % (size_t)gateways) * rest % gateways; /* who gets the first of this pod's rest */
        int after = (function->peers.place - first + gateways) % gateways;
        pods[i]->dealt = concurrency / gateways + (after < rest ? 1 : 0);
    }
    function->deal_is_old = false;
}

/* ---- what the catalogue says ---- */

void function_set_spec(struct function_state *function, struct function_spec *spec,
                       struct function_peers peers)
{
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    pthread_mutex_lock(&function->mu);
    struct function_spec *old = function->spec;
    function->spec = spec ? function_spec_ref(spec) : NULL;
    function->peers = peers;
    function_recompute_share(function);
    function_settle_waiters(function, &aftermath);
    aftermath.attend = true;
    function_unlock(function, &aftermath);
    function_spec_unref(old);
}

void function_set_peers(struct function_state *function, struct function_peers peers)
{
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    pthread_mutex_lock(&function->mu);
    function->peers = peers;
    function_recompute_share(function);
    function_settle_waiters(function, &aftermath);
    function_unlock(function, &aftermath);
}

void function_set_blocked(struct function_state *function, const char *code)
{
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    pthread_mutex_lock(&function->mu);
    code_copy(function->blocked_code, code);
    function_settle_waiters(function, &aftermath);
    function_unlock(function, &aftermath);
}

void function_set_template(struct function_state *function, uint64_t template)
{
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    pthread_mutex_lock(&function->mu);
    function->template = template;
    function_settle_waiters(function, &aftermath);
    function_unlock(function, &aftermath);
}

void function_woken(struct function_state *function, int64_t now_us)
{
    pthread_mutex_lock(&function->mu);
    function->woken_us = now_us;
    pthread_mutex_unlock(&function->mu);
}

void function_add_pod(struct function_state *function, struct pod *pod)
{
    pthread_mutex_lock(&function->mu);
    if (function->pod_count == function->pod_alloc) {
        function->pod_alloc = function->pod_alloc ? function->pod_alloc * 2 : 4;
        function->pods = xreallocarray(function->pods, function->pod_alloc, sizeof(struct pod *));
    }
    pod->function = function;
    pod->index = function->pod_count;
    function->pods[function->pod_count++] = pod;
    pthread_mutex_unlock(&function->mu);
}

static bool same_address(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
    return a->sin_addr.s_addr == b->sin_addr.s_addr && a->sin_port == b->sin_port;
}

/* True if it is another address than before, or the first. */
static bool set_address(struct function_state *function, struct pod *pod, const struct sockaddr_in *address)
{
    if (pod->has_address && same_address(&pod->address, address)) {
        return false;
    }
    function_set_usable(function, pod, false);
    pod->address = *address;
    pod->has_address = true;
    return true;
}

static void enter_state(struct function_state *function, struct pod *pod, enum gateway_pod_state state,
                        bool moved)
{
    enum gateway_pod_state old = pod->state;
    pod->state = state;
    switch (state) {
    case GATEWAY_POD_TERMINATING:
        function_set_usable(function, pod, false);
        break;
    case GATEWAY_POD_PENDING:
        pod->leaving_unready |= pod->leaving;
        if (old == GATEWAY_POD_READY) {
            function_set_usable(function, pod, false); /* no longer ready: probed again rather than trusted */
        }
        break;
    case GATEWAY_POD_READY:
        if (pod->leaving && pod->leaving_unready) {
            pod->leaving = pod->leaving_unready = false;
        }
        /* Told again that it is ready proves nothing about a pod that refused connections since. */
        if ((old != GATEWAY_POD_READY || moved) && !pod->leaving && pod->has_address) {
            function_set_usable(function, pod, true);
        }
        break;
    }
}

bool function_update_pod(struct function_state *function, struct pod *pod, const struct gateway_pod *news)
{
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    pthread_mutex_lock(&function->mu);
    bool moved = news->has_address && set_address(function, pod, &news->address);
    code_copy(pod->failure_code, news->failure_code);
    code_copy(pod->delay_code, news->delay_code);
    pod->template = news->template;
    enter_state(function, pod, news->state, moved);
    bool close_idle = moved || news->state == GATEWAY_POD_TERMINATING;
    function->wake_at_once |= function->usable_count == 0 && news->state == GATEWAY_POD_TERMINATING;
    function_settle_waiters(function, &aftermath);
    aftermath.attend = !pod->usable;
    function_unlock(function, &aftermath);
    return close_idle;
}

void function_remove_pod(struct function_state *function, struct pod *pod)
{
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    pthread_mutex_lock(&function->mu);
    function_set_usable(function, pod, false);
    swap_pods(function, pod->index, function->pod_count - 1);
    function->pod_count--;
    pod->removed = true;
    function->wake_at_once |= function->usable_count == 0;
    function_settle_waiters(function, &aftermath);
    aftermath.attend = true;
    function_unlock(function, &aftermath);
    pod_unref(pod);
}

bool function_pod_announced(struct function_state *function, struct pod *pod,
                            const struct sockaddr_in *address)
{
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    pthread_mutex_lock(&function->mu);
    bool known = !pod->removed && pod->state != GATEWAY_POD_TERMINATING;
    if (known) {
        set_address(function, pod, address);
        pod->leaving = pod->leaving_unready = false;
        function_set_usable(function, pod, true);
        function_settle_waiters(function, &aftermath);
    }
    function_unlock(function, &aftermath);
    return known;
}

int function_pod_goodbye(struct function_state *function, struct pod *pod)
{
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    pthread_mutex_lock(&function->mu);
    if (!pod->removed) {
        pod->leaving = true;
        pod->leaving_unready = pod->state != GATEWAY_POD_READY;
        function_set_usable(function, pod, false);
        function_settle_waiters(function, &aftermath);
        aftermath.attend = function->waiting > 0;
        function->wake_at_once |= function->usable_count == 0;
    }
    int in_flight = pod->in_flight;
    function_unlock(function, &aftermath);
    return in_flight;
}

/* ---- what the data path sees ---- */

static bool may_serve(const struct pod *pod)
{
    return !pod->removed && !pod->leaving && pod->has_address && pod->state != GATEWAY_POD_TERMINATING;
}

bool function_pod_usable(struct function_state *function, struct pod *pod, const struct sockaddr_in *address)
{
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    pthread_mutex_lock(&function->mu);
    bool usable = may_serve(pod) && same_address(&pod->address, address);
    if (usable) {
        function_set_usable(function, pod, true);
        function_settle_waiters(function, &aftermath);
    }
    function_unlock(function, &aftermath);
    return usable;
}

void function_pod_unreachable(struct function_state *function, struct pod *pod)
{
    struct aftermath aftermath;
    aftermath_init(&aftermath);
    pthread_mutex_lock(&function->mu);
    if (pod->usable) {
        function_set_usable(function, pod, false);
        aftermath.attend = true;
        function_settle_waiters(function, &aftermath);
    }
    function_unlock(function, &aftermath);
}

bool function_pod_wants_probe(struct function_state *function, struct pod *pod,
                              struct sockaddr_in *ret_address, int64_t *ret_period_ms, int64_t now_ms)
{
    pthread_mutex_lock(&function->mu);
    bool wants = may_serve(pod) && !pod->usable;
    *ret_address = pod->address;
    *ret_period_ms = pod->failure_code[0]                 ? PROBE_PERIOD_IDLE_MS
                     : function->waiting > 0              ? PROBE_PERIOD_WAITED_MS
                     : now_ms - pod->seen_ms < POD_NEW_MS ? PROBE_PERIOD_NEW_MS
                                                          : PROBE_PERIOD_IDLE_MS;
    pthread_mutex_unlock(&function->mu);
    return wants;
}

size_t function_pods_to_probe(struct function_state *function, struct pod **ret_pods, size_t max)
{
    size_t count = 0;
    pthread_mutex_lock(&function->mu);
    for (size_t i = function->usable_count; i < function->pod_count && count < max; i++) {
        if (may_serve(function->pods[i])) {
            ret_pods[count++] = pod_ref(function->pods[i]);
        }
    }
    pthread_mutex_unlock(&function->mu);
    return count;
}
