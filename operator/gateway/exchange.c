#include "operator/gateway/exchange_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define RETRY_AFTER_BUSY_S    1
#define RETRY_AFTER_LATER_S   5
#define EARLY_BODY_KEPT_BYTES 1024 /* less is not worth moving */

/* ---- states ---- */

static int64_t state_limit_ms(const struct exchange *exchange, enum exchange_state state)
{
    switch (state) {
    case EXCHANGE_HELD: {
        int64_t waited_ms = (clock_monotonic_us() - exchange->arrived_us) / 1000;
        return (int64_t)exchange->spec->hold_seconds * 1000 - waited_ms;
    }
    case EXCHANGE_CONNECTING:
        return UPSTREAM_CONNECT_TIMEOUT_MS;
    case EXCHANGE_AWAITING:
        return (int64_t)exchange->spec->timeout_seconds * 1000;
    case EXCHANGE_ANSWERING:
    case EXCHANGE_TUNNEL:
        return (int64_t)exchange->spec->idle_timeout_seconds * 1000;
    default:
        return 0;
    }
}

void exchange_set_state(struct exchange *exchange, enum exchange_state state)
{
    assert(exchange->state != EXCHANGE_OVER);
    if (exchange->state == EXCHANGE_HELD && state != EXCHANGE_HELD) {
        function_metrics_held(exchange->function->metrics, -1);
    } else if (exchange->state != EXCHANGE_HELD && state == EXCHANGE_HELD) {
        function_metrics_held(exchange->function->metrics, 1);
    }
    exchange->state = state;
    if (state < EXCHANGE_REJECTING) {
        int64_t limit_ms = state_limit_ms(exchange, state);
        client_conn_deadline(exchange->client,
                             loop_now_ms(exchange->worker->loop) + (limit_ms > 0 ? limit_ms : 0));
    }
}

void exchange_progress(struct exchange *exchange)
{
    if (exchange->state == EXCHANGE_ANSWERING || exchange->state == EXCHANGE_TUNNEL) {
        client_conn_deadline(exchange->client,
                             loop_now_ms(exchange->worker->loop) + state_limit_ms(exchange, exchange->state));
    }
}

/* ---- ending ---- */

static void free_exchange(struct loop_post *post)
{
    struct exchange *exchange = container_of(post, struct exchange, settled);
    function_state_unref(exchange->function);
    function_spec_unref(exchange->spec);
    h1_partial_free(exchange->answer_in);
    free(exchange->waiter.refused_code);
    free(exchange->request);
    free(exchange);
}

static void drop_upstream(struct exchange *exchange)
{
    if (exchange->upstream) {
        upstream_close(exchange->upstream);
        exchange->upstream = NULL;
    }
}

static void release_slot(struct exchange *exchange)
{
    if (exchange->waiter.state == WAITER_GRANTED) {
        function_release(exchange->function, &exchange->waiter);
    }
}

static struct function_metrics *metrics_of(const struct exchange *exchange)
{
    return exchange->function ? exchange->function->metrics : exchange->worker->gateway->unrouted;
}

/* Everything but the client's side: its connection is told by the caller. It still counts in worker->exchanges. */
static void wind_up(struct exchange *exchange)
{
    struct worker *worker = exchange->worker;
    drop_upstream(exchange);
    release_slot(exchange);
    if (exchange_is_tunnel(exchange)) {
        metric_add(worker->gateway->metrics.websockets, -1); /* counted when it was answered */
    } else {
        function_metrics_count(metrics_of(exchange), exchange->status,
                               clock_monotonic_us() - exchange->arrived_us);
    }
    exchange_set_state(exchange, EXCHANGE_OVER);
    exchange->client = NULL;
    exchange->settled.run = free_exchange;
    loop_defer(worker->loop, &exchange->settled);
}

static void finish(struct exchange *exchange)
{
    struct worker *worker = exchange->worker;
    wind_up(exchange);
    atomic_fetch_sub(&worker->exchanges, 1);
}

static void finish_answered(struct exchange *exchange)
{
    struct client_conn *client = exchange->client;
    /* Unless it said that this is its last one, it may be sending the next request, or frames. */
    bool keep = !exchange->close_after;
    bool unread = !exchange->upload.complete || exchange->keep_alive || exchange->websocket;
    struct worker *worker = exchange->worker;
    wind_up(exchange);
    client_conn_answered(client, keep, unread);
    /* Only now: what is still to be sent counts by then, and nobody finds the gateway quiet in between. */
    atomic_fetch_sub(&worker->exchanges, 1);
}

void exchange_complete(struct exchange *exchange, bool pod_clean)
{
    if (pod_clean) {
        /* Before the slot is given back: who gets it next finds the connection. */
        upstream_park(exchange->upstream);
        exchange->upstream = NULL;
    }
    finish_answered(exchange);
}

static bool is_draining(const struct exchange *exchange)
{
    return atomic_load_explicit(&exchange->worker->gateway->draining, memory_order_relaxed);
}

void exchange_reject(struct exchange *exchange, const struct gateway_problem *problem)
{
    struct worker *worker = exchange->worker;
    assert(!exchange->answer_begun);
    exchange_set_state(exchange, EXCHANGE_REJECTING);
    exchange->close_after =
        !exchange->keep_alive || !exchange->upload.complete || exchange->websocket || is_draining(exchange);
    exchange->status = problem->status;
    struct answer_facts facts = {.close = exchange->close_after,
                                 .client_http10 = exchange->http10,
                                 .request_id = exchange->request_id,
                                 .server_timing = "",
                                 .date = worker_date(worker)};
    strbuf_clear(&worker->build);
    gateway_problem_write(&worker->build, problem, exchange->head_only, &facts);
    struct iovec iov = {.iov_base = worker->build.buf, .iov_len = worker->build.len};
    if (client_conn_write(exchange->client, &iov, 1) < 0) {
        client_conn_close(exchange->client);
        return;
    }
    finish_answered(exchange);
}

void exchange_cut(struct exchange *exchange)
{
    client_conn_close(exchange->client);
}

void exchange_abort(struct exchange *exchange)
{
    if (!exchange->answer_begun) {
        exchange->status = 499;
    }
    if (exchange->state == EXCHANGE_HELD && !function_leave(exchange->function, &exchange->waiter)) {
        exchange->client = NULL; /* a slot or a refusal is on its way: exchange_settled() ends it */
        return;
    }
    finish(exchange);
}

/* ---- slots ---- */

static void reject_refused(struct exchange *exchange)
{
    const struct waiter *waiter = &exchange->waiter;
    bool busy = strcmp(waiter->refused_code, "queue_full") == 0 ||
                strcmp(waiter->refused_code, "hold_bytes_full") == 0;
    struct gateway_problem problem = {.status = 503,
                                      .code = waiter->refused_code,
                                      .detail = busy ? "As many requests wait for this function as may."
                                                     : "The function can't serve; its status says more.",
                                      .retry_after_seconds = busy ? RETRY_AFTER_BUSY_S : RETRY_AFTER_LATER_S};
    exchange_reject(exchange, &problem);
}

/* The pod has it, and it will not be sent again: long requests in flight need not keep it. */
static void forget_early_body(struct exchange *exchange)
{
    if (!exchange->replayable &&
        exchange->request_len - exchange->request_head_len >= EARLY_BODY_KEPT_BYTES) {
        size_t id_at = (size_t)(exchange->request_id.at - exchange->request);
        exchange->request = xrealloc(exchange->request, exchange->request_head_len);
        exchange->request_len = exchange->request_head_len;
        exchange->request_id.at = exchange->request + id_at;
    }
}

static void ask_again(struct exchange *exchange);

static void hand_over(struct exchange *exchange)
{
    static char continue_answer[] = "HTTP/1.1 100 Continue\r\n\r\n";
    exchange->handed_us = clock_monotonic_us();
    exchange_set_state(exchange, EXCHANGE_AWAITING);
    if (exchange->expect_continue && !exchange->upload.complete) {
        exchange->expect_continue = false;
        struct iovec iov = {.iov_base = continue_answer, .iov_len = sizeof(continue_answer) - 1};
        if (client_conn_write(exchange->client, &iov, 1) < 0) {
            client_conn_close(exchange->client);
            return;
        }
    }
    struct iovec iov = {.iov_base = exchange->request, .iov_len = exchange->request_len};
    if (upstream_write(exchange->upstream, &iov, 1) < 0) {
        if (exchange->upstream->reused) {
            exchange->fresh_only = true; /* nothing of it left: whatever the method, it was not sent */
            ask_again(exchange);
        } else {
            exchange_pod_failed(exchange, /* may_retry= */ false, "upstream_closed");
        }
        return;
    }
    forget_early_body(exchange);
    if (!exchange->upload.complete) {
        client_conn_want_read(exchange->client, true);
    }
}

static void ask_for_slot(struct exchange *exchange, bool front);

/* A slot was granted. */
static void go(struct exchange *exchange)
{
    struct worker *worker = exchange->worker;
    struct waiter *waiter = &exchange->waiter;
    if (!exchange->fresh_only) {
        exchange->upstream =
            upstream_take(worker, waiter->pod, exchange, /* careful= */ !exchange->replayable);
        if (exchange->upstream) {
            hand_over(exchange);
            return;
        }
    }
    struct err err = ERR_INIT;
    int bound = atomic_load_explicit(&exchange->function->connection_bound, memory_order_relaxed);
    exchange_set_state(exchange, EXCHANGE_CONNECTING);
    if (upstream_connect(worker, waiter->pod, &waiter->address, bound, exchange, &exchange->upstream, &err) ==
        0) {
        return;
    }
    if (err.sys_errno == EMFILE || err.sys_errno == ENFILE || err.sys_errno == ENOMEM ||
        err.sys_errno == ENOBUFS) {
        struct gateway_problem problem = {.status = 503,
                                          .code = "gateway_overloaded",
                                          .detail =
                                              "The gateway has no descriptor left for another connection.",
                                          .retry_after_seconds = RETRY_AFTER_BUSY_S};
        exchange_reject(exchange, &problem); /* no fault of the pod's */
    } else {
        exchange_connect_failed(exchange);
    }
}

static void exchange_settled(struct loop_post *post)
{
    struct exchange *exchange = container_of(post, struct exchange, settled);
    if (!exchange->client) {
        finish(exchange);
    } else if (exchange->waiter.state == WAITER_GRANTED) {
        go(exchange);
    } else {
        reject_refused(exchange);
    }
}

static void waiter_settled(struct waiter *waiter)
{
    struct exchange *exchange = container_of(waiter, struct exchange, waiter);
    if (waiter->state == WAITER_GRANTED) {
        loop_post(exchange->worker->loop, &exchange->settled);
    } else {
        loop_post_patient(exchange->worker->loop,
                          &exchange->settled); /* a whole line may be refused at once */
    }
}

static void ask_for_slot(struct exchange *exchange, bool front)
{
    bool wake;
    enum admission admission = function_admit(exchange->function, &exchange->waiter, front, &wake);
    if (wake) {
        worker_wake(exchange->worker, exchange->function);
    }
    switch (admission) {
    case ADMIT_GRANTED:
        go(exchange);
        break;
    case ADMIT_QUEUED:
        if (exchange->held_us == 0) {
            exchange->held_us = clock_monotonic_us();
        }
        exchange_set_state(exchange, EXCHANGE_HELD);
        client_conn_want_read(exchange->client, false);
        if (exchange->client->socket.ended) { /* while a pod had the request */
            exchange_client_ended(exchange);
        }
        break;
    case ADMIT_REFUSED:
        reject_refused(exchange);
        break;
    }
}

static void ask_again(struct exchange *exchange)
{
    drop_upstream(exchange);
    release_slot(exchange);
    metric_add(exchange->worker->gateway->metrics.upstream_retries, 1);
    ask_for_slot(exchange, /* front= */ true);
}

static void reject_hold_timeout(struct exchange *exchange)
{
    char delay[GATEWAY_CODE_SIZE];
    function_delay(exchange->function, delay);
    CLEANUP_FREE char *detail =
        xasprintf("No replica could take the request within holdSeconds%s%s.", delay[0] ? ": " : "", delay);
    struct gateway_problem problem = {
        .status = 503, .code = "hold_timeout", .detail = detail, .retry_after_seconds = RETRY_AFTER_LATER_S};
    exchange_reject(exchange, &problem);
}

void exchange_connected(struct exchange *exchange)
{
    hand_over(exchange);
}

void exchange_connect_failed(struct exchange *exchange)
{
    function_pod_unreachable(exchange->function, exchange->waiter.pod);
    if (state_limit_ms(exchange, EXCHANGE_HELD) <= 0) {
        reject_hold_timeout(exchange);
    } else {
        ask_again(exchange);
    }
}

void exchange_pod_failed(struct exchange *exchange, bool may_retry, const char *code)
{
    struct metric *failures = exchange->worker->gateway->metrics.upstream_failures;
    if (exchange->answer_begun) {
        metric_add(failures, 1);
        exchange_cut(exchange);
        return;
    }
    if (may_retry && exchange->upstream->reused && exchange->replayable && !exchange->answer_seen) {
        exchange->fresh_only = true;
        ask_again(exchange);
        return;
    }
    metric_add(failures, 1);
    struct gateway_problem problem = {
        .status = 502, .code = code, .detail = "The function's answer could not be read."};
    exchange_reject(exchange, &problem);
}

/* ---- deadlines and the client's going ---- */

void exchange_deadline(struct exchange *exchange)
{
    struct gateway_problem late = {.status = 504,
                                   .code = "function_timeout",
                                   .detail = "The function did not begin to answer within timeoutSeconds."};
    struct gateway_problem slow = {
        .status = 408, .code = "request_timeout", .detail = "The request's body came too slowly."};
    switch (exchange->state) {
    case EXCHANGE_HELD:
        if (function_leave(exchange->function, &exchange->waiter)) {
            reject_hold_timeout(exchange);
        } /* else a slot came at the same moment */
        break;
    case EXCHANGE_CONNECTING:
        exchange_connect_failed(exchange);
        break;
    case EXCHANGE_AWAITING:
        if (exchange->upload.complete) {
            metric_add(exchange->worker->gateway->metrics.upstream_failures, 1);
        }
        exchange_reject(exchange, exchange->upload.complete ? &late : &slow);
        break;
    case EXCHANGE_ANSWERING:
    case EXCHANGE_TUNNEL:
        exchange_cut(exchange);
        break;
    default:
        break;
    }
}

void exchange_give_up(struct exchange *exchange)
{
    if (exchange->state == EXCHANGE_HELD && function_leave(exchange->function, &exchange->waiter)) {
        struct gateway_problem problem = {.status = 503,
                                          .code = "gateway_stopping",
                                          .detail =
                                              "The gateway ends, and no replica could take the request.",
                                          .retry_after_seconds = RETRY_AFTER_BUSY_S};
        exchange_reject(exchange, &problem);
    }
}

/* Whoever has gone and whoever only sends no more look alike. In line the first is meant, and later the second: what a pod has is not
 * taken back. */
void exchange_client_ended(struct exchange *exchange)
{
    if (exchange->state == EXCHANGE_HELD || exchange->state == EXCHANGE_CONNECTING) {
        client_conn_close(exchange->client);
    }
}

/* ---- starting ---- */

struct exchange *exchange_new(struct client_conn *client)
{
    struct worker *worker = client->worker;
    struct exchange *exchange = xcalloc(1, sizeof(*exchange));
    exchange->worker = worker;
    exchange->client = client;
    exchange->arrived_us = client->arrived_us;
    exchange->settled.run = exchange_settled;
    exchange->waiter.settled = waiter_settled;
    atomic_fetch_add(&worker->exchanges, 1);
    atomic_store_explicit(&worker->last_request_ms, loop_now_ms(worker->loop), memory_order_relaxed);
    client->exchange = exchange;
    return exchange;
}

void exchange_begin(struct exchange *exchange)
{
    ask_for_slot(exchange, /* front= */ false);
}
