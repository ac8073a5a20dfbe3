#include "operator/gateway/upstream_conn.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

#include "operator/gateway/exchange.h"
#include "operator/gateway/socket.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

/* ---- pools ---- */

struct upstream_pool *upstream_pools_new(int loops)
{
    struct upstream_pool *pools = xcalloc((size_t)loops, sizeof(*pools));
    for (int i = 0; i < loops; i++) {
        LIST_INIT(&pools[i].idle);
        atomic_init(&pools[i].count, 0);
    }
    return pools;
}

void upstream_pools_free(struct upstream_pool *pools)
{
    free(pools);
}

static struct upstream_pool *pool_of(const struct upstream_conn *conn)
{
    return &conn->pod->pools[conn->worker->index];
}

/* ---- states ---- */

static void free_conn(struct loop_post *post)
{
    struct upstream_conn *conn = container_of(post, struct upstream_conn, gone);
    pod_unref(conn->pod);
    free(conn);
}

static void enter_closed(struct upstream_conn *conn)
{
    struct loop *loop = conn->worker->loop;
    loop_watch_close(loop, &conn->watch);
    loop_timer_close(loop, &conn->timer);
    outbuf_release(&conn->out);
    LIST_REMOVE(conn, all_link);
    atomic_fetch_sub(&conn->pod->connections, 1);
    metric_add(conn->worker->gateway->metrics.upstream_connections, -1);
    loop_defer(loop, &conn->gone);
}

static void upstream_set_state(struct upstream_conn *conn, enum upstream_state state)
{
    if (conn->state == state) {
        return;
    }
    assert(conn->state != UPSTREAM_CLOSED);
    struct upstream_pool *pool = pool_of(conn);
    if (conn->state == UPSTREAM_IDLE) {
        LIST_REMOVE(conn, idle_link);
        atomic_fetch_sub(&pool->count, 1);
        loop_timer_cancel(&conn->timer);
    }
    conn->state = state;
    if (state == UPSTREAM_IDLE) {
        conn->exchange = NULL;
        LIST_INSERT_HEAD(&pool->idle, conn, idle_link);
        atomic_fetch_add(&pool->count, 1);
        loop_watch_set(conn->worker->loop, &conn->watch, EPOLLIN);
        loop_timer_set(conn->worker->loop, &conn->timer,
                       loop_now_ms(conn->worker->loop) +
                           conn->worker->gateway->settings.upstream_idle_timeout_ms);
    } else if (state == UPSTREAM_CLOSED) {
        conn->exchange = NULL;
        enter_closed(conn);
    }
}

/* ---- events ---- */

static void idle_expired(struct loop_timer *timer)
{
    upstream_close(container_of(timer, struct upstream_conn, timer));
}

static void connect_ended(struct upstream_conn *conn)
{
    if (socket_connect_result(conn->watch.fd) != 0) {
        exchange_connect_failed(conn->exchange);
        return;
    }
    upstream_set_state(conn, UPSTREAM_BUSY);
    loop_watch_set(conn->worker->loop, &conn->watch, EPOLLIN);
    exchange_connected(conn->exchange);
}

static void flush(struct upstream_conn *conn)
{
    if (outbuf_flush(&conn->out, conn->watch.fd) < 0) {
        outbuf_release(&conn->out); /* what there is to read may still be an answer */
        loop_watch_set(conn->worker->loop, &conn->watch, conn->watch.events & ~(uint32_t)EPOLLOUT);
        exchange_upload_broken(conn->exchange);
        return;
    }
    bool all = !outbuf_pending(&conn->out);
    if (all) {
        loop_watch_set(conn->worker->loop, &conn->watch, conn->watch.events & ~(uint32_t)EPOLLOUT);
    }
    exchange_upload_took(conn->exchange, all);
}

static void conn_ready(struct loop_watch *watch, uint32_t events)
{
    struct upstream_conn *conn = container_of(watch, struct upstream_conn, watch);
    switch (conn->state) {
    case UPSTREAM_CONNECTING:
        connect_ended(conn);
        break;
    case UPSTREAM_IDLE:
        upstream_close(conn); /* an end of stream, or bytes that nobody asked for */
        break;
    case UPSTREAM_BUSY:
        if (events & EPOLLOUT) {
            flush(conn);
        }
        if (conn->state == UPSTREAM_BUSY && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) &&
            (conn->watch.events & EPOLLIN)) {
            exchange_answer_readable(conn->exchange);
        }
        break;
    case UPSTREAM_CLOSED:
        break;
    }
}

/* ---- opening ---- */

static struct upstream_conn *new_conn(struct worker *worker, struct pod *pod, int fd, uint32_t events,
                                      struct err *err)
{
    struct upstream_conn *conn = xcalloc(1, sizeof(*conn));
    if (loop_watch_open(worker->loop, &conn->watch, fd, events, conn_ready, err) < 0) {
        free(conn);
        return NULL;
    }
    loop_timer_init(&conn->timer, idle_expired);
    conn->gone.run = free_conn;
    conn->worker = worker;
    conn->pod = pod_ref(pod);
    conn->epoch = atomic_load(&pod->epoch);
    conn->state = UPSTREAM_CONNECTING;
    LIST_INSERT_HEAD(&worker->upstreams, conn, all_link);
    atomic_fetch_add(&pod->connections, 1);
    metric_add(worker->gateway->metrics.upstream_connections, 1);
    return conn;
}

struct trim {
    struct loop_post post;
    struct worker *worker;
    struct pod *pod;
};

static void trim_one(struct loop_post *post)
{
    struct trim *trim = container_of(post, struct trim, post);
    struct upstream_conn *conn = LIST_FIRST(&trim->pod->pools[trim->worker->index].idle);
    if (conn) {
        upstream_close(conn);
    }
    pod_unref(trim->pod);
    free(trim);
}

/* The pod has as many connections as it may: another loop's idle one makes room. For the moment until that loop gets to it
 * there is one too many, which the pod's spare threads carry. */
static void make_room(struct worker *worker, struct pod *pod)
{
    int best = -1, most = 0;
    for (int i = 0; i < worker->gateway->loops; i++) {
        int count = atomic_load(&pod->pools[i].count);
        if (i != worker->index && count > most) {
            best = i;
            most = count;
        }
    }
    if (best >= 0) {
        struct trim *trim = xcalloc(1, sizeof(*trim));
        trim->worker = &worker->gateway->workers[best];
        trim->pod = pod_ref(pod);
        trim->post.run = trim_one;
        loop_post(trim->worker->loop, &trim->post);
    }
}

int upstream_connect(struct worker *worker, struct pod *pod, const struct sockaddr_in *address, int bound,
                     struct exchange *exchange, struct upstream_conn **ret_conn, struct err *err)
{
    if (atomic_load(&pod->connections) >= bound) {
        make_room(worker, pod);
    }
    int fd;
    if (socket_connect(address, &fd, err) < 0) {
        return -1;
    }
    struct upstream_conn *conn = new_conn(worker, pod, fd, EPOLLOUT, err);
    if (!conn) {
        return -1;
    }
    conn->exchange = exchange;
    *ret_conn = conn;
    return 0;
}

void upstream_adopt(struct worker *worker, struct pod *pod, int fd)
{
    struct err err = ERR_INIT;
    struct upstream_conn *conn = new_conn(worker, pod, fd, EPOLLIN, &err);
    if (conn) { /* else it is only not kept */
        upstream_park(conn);
    }
}

static bool is_still_open(const struct upstream_conn *conn)
{
    char byte;
    ssize_t got = recv(conn->watch.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

struct upstream_conn *upstream_take(struct worker *worker, struct pod *pod, struct exchange *exchange,
                                    bool careful)
{
    struct upstream_conn *conn;
    while ((conn = LIST_FIRST(&pod->pools[worker->index].idle))) {
        if (conn->epoch == atomic_load(&pod->epoch) && (!careful || is_still_open(conn))) {
            upstream_set_state(conn, UPSTREAM_BUSY);
            conn->exchange = exchange;
            conn->reused = true;
            return conn;
        }
        upstream_close(conn);
    }
    return NULL;
}

/* ---- ending ---- */

void upstream_park(struct upstream_conn *conn)
{
    bool keep = conn->epoch == atomic_load(&conn->pod->epoch) &&
                !atomic_load(&conn->worker->gateway->draining) && !outbuf_pending(&conn->out);
    upstream_set_state(conn, keep ? UPSTREAM_IDLE : UPSTREAM_CLOSED);
}

void upstream_close(struct upstream_conn *conn)
{
    upstream_set_state(conn, UPSTREAM_CLOSED);
}

void upstream_close_idle(struct worker *worker, struct pod *pod)
{
    struct upstream_conn *conn;
    while ((conn = LIST_FIRST(&pod->pools[worker->index].idle))) {
        upstream_close(conn);
    }
}

void upstream_close_all_idle(struct worker *worker)
{
    struct upstream_conn *conn = LIST_FIRST(&worker->upstreams);
    while (conn) {
        struct upstream_conn *next = LIST_NEXT(conn, all_link);
        if (conn->state == UPSTREAM_IDLE) {
            upstream_close(conn);
        }
        conn = next;
    }
}

/* ---- data ---- */

int upstream_write(struct upstream_conn *conn, struct iovec *iov, int count)
{
    if (outbuf_write(&conn->out, conn->watch.fd, iov, count) < 0) {
        return -1;
    }
    if (outbuf_pending(&conn->out)) {
        loop_watch_set(conn->worker->loop, &conn->watch, conn->watch.events | EPOLLOUT);
    }
    return 0;
}

void upstream_end(struct upstream_conn *conn)
{
    shutdown(conn->watch.fd, SHUT_WR);
}

void upstream_want_read(struct upstream_conn *conn, bool want)
{
    uint32_t events = conn->watch.events & ~(uint32_t)EPOLLIN;
    loop_watch_set(conn->worker->loop, &conn->watch, want ? events | EPOLLIN : events);
}
