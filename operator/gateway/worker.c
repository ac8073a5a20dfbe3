#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netinet/tcp.h>

#include "operator/gateway/client_conn.h"
#include "operator/gateway/exchange.h"
#include "operator/gateway/upstream_conn.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define WORKER_ACCEPTS_PER_TURN 64
#define WORKER_BACKLOG          4096
#define WORKER_ACCEPT_PAUSE_MS  100
#define WORKER_TICK_MS          1000
#define WORKER_SWEEP_TICKS      30

/* ---- small services ---- */

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

/* xoroshiro128+: ids of requests and traces must not collide; they are no secrets. */
static uint64_t next_random(struct worker *worker)
{
    uint64_t s0 = worker->random[0], s1 = worker->random[1], result = s0 + s1;
    s1 ^= s0;
    worker->random[0] = rotl(s0, 24) ^ s1 ^ (s1 << 16);
    worker->random[1] = rotl(s1, 37);
    return result;
}

void worker_random_hex(struct worker *worker, char *out, size_t digits)
{
    static const char hex[] = "0123456789abcdef";
    uint64_t bits = 0;
    for (size_t i = 0; i < digits; i++) {
        if (i % 16 == 0) {
            bits = next_random(worker);
        }
        out[i] = hex[bits & 15];
        bits >>= 4;
    }
}

const char *worker_date(struct worker *worker)
{
    int64_t now_ms = loop_now_ms(worker->loop);
    if (worker->date[0] == '\0' || now_ms - worker->date_ms >= 500) {
        time_t now = (time_t)(clock_wall_ms() / 1000);
        struct tm parts;
        gmtime_r(&now, &parts);
        strftime(worker->date, sizeof(worker->date), "%a, %d %b %Y %H:%M:%S GMT", &parts);
        worker->date_ms = now_ms;
    }
    return worker->date;
}

const struct route_table *worker_routes(struct worker *worker)
{
    struct registry *registry = worker->gateway->registry;
    if (!worker->routes || worker->routes_version != registry_version(registry)) {
        struct route_table *old = worker->routes;
        worker->routes = registry_routes(registry, &worker->routes_version);
        route_table_unref(old);
    }
    return worker->routes;
}

void worker_wake(struct worker *worker, struct function_state *function)
{
    const struct gateway_waker *waker = &worker->gateway->settings.waker;
    metric_add(worker->gateway->metrics.wakes, 1);
    if (waker->wake) {
        waker->wake(waker->arg, function->namespace, function->name);
    }
}

/* ---- accepting ---- */

/* Without reading the request: it costs nothing that is scarce. */
static void shed(struct worker *worker, enum listener listener, int fd)
{
    static const char body[] = "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,"
                               "\"code\":\"too_many_connections\",\"component\":\"gateway\"}\n";
    char answer[512], id[REQUEST_ID_HEX];
    worker_random_hex(worker, id, sizeof(id));
    int len =
        snprintf(answer, sizeof(answer),
                 "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
                 "Content-Length: %zu\r\nX-Request-Id: %.*s\r\nRetry-After: 1\r\nConnection: close\r\n\r\n%s",
                 sizeof(body) - 1, REQUEST_ID_HEX, id, body);
    metric_add(worker->gateway->metrics.shed, 1);
    if (listener == LISTENER_TLS) {
        close(fd); /* the handshake would cost more than a request */
        return;
    }
    (void)!send(fd, answer, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

static void set_accepting(struct worker *worker, bool accepting)
{
    for (int i = 0; i < LISTENERS; i++) {
        if (worker->acceptors[i].watch.fd >= 0) {
            loop_watch_set(worker->loop, &worker->acceptors[i].watch, accepting ? EPOLLIN : 0);
        }
    }
}

static void accept_pause_over(struct loop_timer *timer)
{
    set_accepting(container_of(timer, struct worker, accept_pause), true);
}

/* False: there is none to accept. */
static bool accept_one(struct acceptor *acceptor)
{
    struct worker *worker = acceptor->worker;
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);
    int fd = accept4(acceptor->watch.fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The listener stays ready: without a pause this would spin. */
            set_accepting(worker, false);
            loop_timer_set(worker->loop, &worker->accept_pause,
                           loop_now_ms(worker->loop) + WORKER_ACCEPT_PAUSE_MS);
        }
        return false;
    }
    if (atomic_load(&worker->gateway->clients) >= worker->gateway->settings.max_connections) {
        shed(worker, acceptor->listener, fd);
    } else {
        client_conn_accepted(worker, acceptor->listener, fd, &peer);
    }
    return true;
}

static void acceptor_ready(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    struct acceptor *acceptor = container_of(watch, struct acceptor, watch);
    for (int i = 0; i < WORKER_ACCEPTS_PER_TURN && accept_one(acceptor); i++) {}
}

static int bind_failed(int fd, const struct sockaddr_in *address, struct err *err)
{
    int code = errno;
    char text[INET_ADDRSTRLEN];
    close(fd);
    return err_set_errno(err, code, "listen on %s:%d",
                         inet_ntop(AF_INET, &address->sin_addr, text, sizeof(text)),
                         ntohs(address->sin_port));
}

/* The loops share the port, and so could another program of the same user, unnoticed: so the first of them asks for it alone. */
static int check_port_is_free(const struct sockaddr_in *address, struct err *err)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) {
        return err_set_errno(err, errno, "socket");
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        return bind_failed(fd, address, err);
    }
    close(fd);
    return 0;
}

int worker_listen(struct worker *worker, enum listener listener, const struct sockaddr_in *address,
                  struct err *err)
{
    if (worker->index == 0 && check_port_is_free(address, err) < 0) {
        return -1;
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return err_set_errno(err, errno, "socket");
    }
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* accepted sockets inherit it */
    if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 || listen(fd, WORKER_BACKLOG) < 0) {
        return bind_failed(fd, address, err);
    }
    struct acceptor *acceptor = &worker->acceptors[listener];
    acceptor->worker = worker;
    acceptor->listener = listener;
    if (loop_watch_open(worker->loop, &acceptor->watch, fd, EPOLLIN, acceptor_ready, err) < 0) {
        acceptor->watch.fd = -1;
        return -1;
    }
    return 0;
}

/* ---- upkeep ---- */

static void tick(struct loop_timer *timer)
{
    struct worker *worker = container_of(timer, struct worker, tick);
    (void)worker_routes(worker); /* lets go of an old table, and of the functions in it */
    worker->ticks++;
    if (worker->index == 0 && worker->ticks % WORKER_SWEEP_TICKS == 0) {
        registry_sweep(worker->gateway->registry, STATZ_IDLE_LIMIT_US);
    }
    loop_timer_set(worker->loop, &worker->tick, loop_now_ms(worker->loop) + WORKER_TICK_MS);
}

static void routes_changed(struct loop_post *post)
{
    struct worker *worker = container_of(post, struct worker, routes_changed);
    atomic_store(&worker->routes_changed_pending, false);
    client_conn_retry_routes(worker);
}

static void drain_begun(struct loop_post *post)
{
    upstream_close_all_idle(container_of(post, struct worker, drain_begun));
}

/* Who is in the listener's queue connected before it is closed, and is served. */
static void leave_begun(struct loop_post *post)
{
    struct worker *worker = container_of(post, struct worker, leave_begun);
    for (int i = 0; i < LISTENERS; i++) {
        struct acceptor *acceptor = &worker->acceptors[i];
        while (acceptor->watch.fd >= 0 && accept_one(acceptor)) {}
        loop_watch_close(worker->loop, &acceptor->watch);
    }
    client_conn_leave(worker);
    atomic_store(&worker->left, true);
}

/* ---- life ---- */

int worker_init(struct worker *worker, struct gateway *gateway, int index, struct err *err)
{
    worker->gateway = gateway;
    worker->index = index;
    for (int i = 0; i < LISTENERS; i++) {
        worker->acceptors[i].watch.fd = -1;
    }
    TAILQ_INIT(&worker->clients);
    TAILQ_INIT(&worker->route_waiters);
    LIST_INIT(&worker->upstreams);
    random_bytes(worker->random, sizeof(worker->random));
    worker->scratch = xmalloc(WORKER_SCRATCH_BYTES);
    strbuf_init(&worker->build, WORKER_BUILD_BYTES);
    worker->routes_changed.run = routes_changed;
    worker->drain_begun.run = drain_begun;
    worker->leave_begun.run = leave_begun;
    loop_timer_init(&worker->tick, tick);
    loop_timer_init(&worker->accept_pause, accept_pause_over);
    atomic_store(&worker->last_request_ms, clock_monotonic_ms());
    return loop_new(&worker->loop, err);
}

static void *run(void *arg)
{
    struct worker *worker = arg;
    loop_timer_set(worker->loop, &worker->tick, clock_monotonic_ms() + WORKER_TICK_MS);
    loop_run(worker->loop);
    return NULL;
}

int worker_start(struct worker *worker, struct err *err)
{
    /* Signals are the main thread's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&worker->thread, NULL, run, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        return err_set_errno(err, code, "pthread_create");
    }
    worker->started = true;
    return 0;
}

void worker_stop(struct worker *worker)
{
    if (worker->started) {
        loop_stop(worker->loop);
        pthread_join(worker->thread, NULL);
        worker->started = false;
    }
}

void worker_close_all(struct worker *worker)
{
    struct client_conn *client;
    for (int i = 0; i < LISTENERS; i++) {
        loop_watch_close(worker->loop, &worker->acceptors[i].watch);
    }
    while ((client = TAILQ_FIRST(&worker->clients)) || (client = TAILQ_FIRST(&worker->route_waiters))) {
        if (client->exchange) {
            exchange_give_up(client->exchange);
        }
        client_conn_close(client); /* nothing to do if that could not be written */
    }
    upstream_close_all_idle(worker);
}

void worker_release(struct worker *worker)
{
    if (worker->loop) {
        loop_timer_close(worker->loop, &worker->tick);
        loop_timer_close(worker->loop, &worker->accept_pause);
    }
    route_table_unref(worker->routes);
    strbuf_release(&worker->build);
    tls_context_free(worker->tls);
    free(worker->scratch);
    loop_free(worker->loop);
}
