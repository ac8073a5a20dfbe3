#include "operator/gateway/prober.h"

#include <unistd.h>

#include "operator/gateway/socket.h"
#include "operator/gateway/upstream_conn.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define PROBE_DELAY_FIRST_MS 5
#define PROBE_BESIDE_MS      50 /* an attempt older than this gets company */
#define PROBE_TIMEOUT_MIN_MS 100
#define PROBE_TIMEOUT_MAX_MS 2000

static void free_probe(struct loop_post *post)
{
    struct probe *probe = container_of(post, struct probe, gone);
    pod_unref(probe->pod);
    free(probe);
}

void probe_free(struct probe *probe)
{
    struct loop *loop = probe->worker->loop;
    for (int i = 0; i < PROBE_ATTEMPTS; i++) {
        loop_watch_close(loop, &probe->attempts[i].watch);
    }
    loop_timer_close(loop, &probe->timer);
    probe->gone.run = free_probe;
    loop_defer(loop, &probe->gone);
}

/* When to try again if this attempt is refused. */
static void set_next(struct probe *probe, int64_t most, int64_t now_ms)
{
    probe->delay_ms = probe->delay_ms == 0 ? PROBE_DELAY_FIRST_MS : probe->delay_ms * 3 / 2;
    if (probe->delay_ms > most) {
        probe->delay_ms = most;
    }
    probe->next_ms = now_ms + probe->delay_ms;
}

static void step(struct probe *probe);

static void succeeded(struct probe *probe, struct probe_attempt *attempt)
{
    int fd = loop_watch_detach(probe->worker->loop, &attempt->watch);
    if (function_pod_usable(probe->function, probe->pod, &attempt->address)) {
        upstream_adopt(probe->worker, probe->pod,
                       fd); /* before the first request that was just released looks for one */
    } else {
        close(fd);
    }
    step(probe);
}

static void attempt_ready(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    struct probe_attempt *attempt = container_of(watch, struct probe_attempt, watch);
    struct probe *probe = attempt->probe;
    if (socket_connect_result(watch->fd) == 0) {
        succeeded(probe, attempt);
        return;
    }
    loop_watch_close(probe->worker->loop, watch);
    step(probe);
}

static void attempt_start(struct probe *probe, struct probe_attempt *attempt,
                          const struct sockaddr_in *address, int64_t now_ms)
{
    struct err err = ERR_INIT;
    metric_add(probe->worker->gateway->metrics.probes, 1);
    int fd;
    if (socket_connect(address, &fd, &err) < 0) {
        return; /* tried again when the next is due */
    }
    attempt->address = *address;
    attempt->started_ms = now_ms;
    attempt->deadline_ms = now_ms + probe->timeout_ms;
    if (loop_watch_open(probe->worker->loop, &attempt->watch, fd, EPOLLOUT, attempt_ready, &err) < 0) {
        attempt->watch.fd = -1;
    }
}

static void close_expired(struct probe *probe, int64_t now_ms)
{
    for (int i = 0; i < PROBE_ATTEMPTS; i++) {
        struct probe_attempt *attempt = &probe->attempts[i];
        if (attempt->watch.fd >= 0 && attempt->deadline_ms <= now_ms) {
            loop_watch_close(probe->worker->loop, &attempt->watch);
            probe->timeout_ms =
                probe->timeout_ms * 2 < PROBE_TIMEOUT_MAX_MS ? probe->timeout_ms * 2 : PROBE_TIMEOUT_MAX_MS;
        }
    }
}

static int64_t min_ms(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* When another attempt is due (INT64_MAX: all are running), and in which place. */
static int64_t due_ms(struct probe *probe, struct probe_attempt **ret_spare)
{
    struct probe_attempt *spare = NULL;
    int64_t newest_ms = 0;
    for (int i = 0; i < PROBE_ATTEMPTS; i++) {
        struct probe_attempt *attempt = &probe->attempts[i];
        if (attempt->watch.fd < 0) {
            spare = attempt;
        } else if (attempt->started_ms > newest_ms) {
            newest_ms = attempt->started_ms;
        }
    }
    *ret_spare = spare;
    return !spare ? INT64_MAX : newest_ms > 0 ? newest_ms + PROBE_BESIDE_MS : probe->next_ms;
}

static void start_due(struct probe *probe, const struct sockaddr_in *address, int64_t period_ms,
                      int64_t now_ms)
{
    struct probe_attempt *spare;
    if (due_ms(probe, &spare) <= now_ms && spare) {
        set_next(probe, period_ms, now_ms);
        attempt_start(probe, spare, address, now_ms);
    }
}

static void set_timer(struct probe *probe)
{
    struct probe_attempt *spare;
    int64_t next_ms = due_ms(probe, &spare);
    for (int i = 0; i < PROBE_ATTEMPTS; i++) {
        if (probe->attempts[i].watch.fd >= 0) {
            next_ms = min_ms(next_ms, probe->attempts[i].deadline_ms);
        }
    }
    loop_timer_set(probe->worker->loop, &probe->timer, next_ms);
}

static void step(struct probe *probe)
{
    int64_t now_ms = clock_monotonic_ms();
    struct sockaddr_in address;
    int64_t period_ms;
    if (!function_pod_wants_probe(probe->function, probe->pod, &address, &period_ms, now_ms)) {
        probe->ended(probe, probe->arg);
        return;
    }
    close_expired(probe, now_ms);
    start_due(probe, &address, period_ms, now_ms);
    set_timer(probe);
}

static void timer_fired(struct loop_timer *timer)
{
    step(container_of(timer, struct probe, timer));
}

struct probe *probe_new(struct worker *worker, struct function_state *function, struct pod *pod,
                        void (*ended)(struct probe *probe, void *arg), void *arg)
{
    struct probe *probe = xcalloc(1, sizeof(*probe));
    probe->worker = worker;
    probe->function = function;
    probe->pod = pod;
    probe->timeout_ms = PROBE_TIMEOUT_MIN_MS;
    probe->ended = ended;
    probe->arg = arg;
    for (int i = 0; i < PROBE_ATTEMPTS; i++) {
        probe->attempts[i].watch.fd = -1;
        probe->attempts[i].probe = probe;
    }
    loop_timer_init(&probe->timer, timer_fired);
    return probe;
}

void probe_start(struct probe *probe)
{
    step(probe);
}

void probe_hurry(struct probe *probe)
{
    int64_t now_ms = clock_monotonic_ms();
    probe->next_ms = min_ms(probe->next_ms, now_ms);
    probe->delay_ms = 0;
    probe->timeout_ms = PROBE_TIMEOUT_MIN_MS;
    step(probe);
}
