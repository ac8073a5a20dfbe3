#include "operator/gateway/client_internal.h"

#include <arpa/inet.h>
#include <assert.h>

#include "operator/gateway/exchange.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define CLIENT_LINGER_MS        2000
#define CLIENT_LINGER_BYTES_MAX (1 << 20)
#define ROUTE_WAIT_MS           30000

/* ---- states ---- */

static void free_client(struct loop_post *post)
{
    free(container_of(post, struct client_conn, gone));
}

/* A gateway that is to leave waits until its answers have left. */
static void set_owing(struct client_conn *client, bool owing)
{
    atomic_fetch_add(&client->worker->exchanges, (int)owing - (int)client->owing);
    client->owing = owing;
}

static void enter_closed(struct client_conn *client)
{
    struct worker *worker = client->worker;
    set_owing(client, false);
    /* An answer that is cut must not look like one that is complete. */
    bool orderly = !client->exchange && !client_socket_pending(&client->socket);
    if (client->exchange) {
        exchange_abort(client->exchange);
        client->exchange = NULL;
    }
    if (orderly) {
        (void)client_socket_end(&client->socket); /* as far as there is room */
    }
    client_socket_close(&client->socket);
    loop_timer_close(worker->loop, &client->timer);
    client_input_drop(client);
    atomic_fetch_sub(&worker->gateway->clients, 1);
    metric_add(worker->gateway->metrics.connections[client->listener], -1);
    if (!client->resume_pending) { /* else resume() does it */
        loop_defer(worker->loop, &client->gone);
    }
}

static void count_unrouted(struct worker *worker, int change)
{
    worker->route_waiter_count += change;
    atomic_store(&worker->route_waiting, worker->route_waiter_count);
    atomic_fetch_add(&worker->exchanges, change);
}

static void set_deadline(struct client_conn *client)
{
    const struct gateway_settings *settings = &client->worker->gateway->settings;
    int64_t limit_ms = 0;
    switch (client->state) {
    case CLIENT_WAITING:
        /* A connection that never said anything gets less patience than one that may be used again. */
        limit_ms = client->served ? settings->client_idle_timeout_ms : settings->client_header_timeout_ms;
        break;
    case CLIENT_HANDSHAKE:
    case CLIENT_HEAD:
        limit_ms = settings->client_header_timeout_ms;
        break;
    case CLIENT_UNROUTED:
        limit_ms = ROUTE_WAIT_MS;
        break;
    case CLIENT_FLUSHING:
        limit_ms = settings->client_idle_timeout_ms; /* without the client taking a byte */
        break;
    case CLIENT_LINGERING:
        limit_ms = CLIENT_LINGER_MS;
        break;
    case CLIENT_EXCHANGE: /* the exchange sets its own */
    case CLIENT_CLOSED:
        loop_timer_cancel(&client->timer);
        return;
    }
    loop_timer_set(client->worker->loop, &client->timer, loop_now_ms(client->worker->loop) + limit_ms);
}

void client_set_state(struct client_conn *client, enum client_state state)
{
    struct worker *worker = client->worker;
    if (client->state == state) {
        return;
    }
    assert(client->state != CLIENT_CLOSED);
    struct client_list *from = client->state == CLIENT_UNROUTED ? &worker->route_waiters : &worker->clients;
    if (client->state == CLIENT_UNROUTED) {
        count_unrouted(worker, -1);
    }
    TAILQ_REMOVE(from, client, link);
    client->state = state;
    if (state == CLIENT_CLOSED) {
        enter_closed(client);
        return;
    }
    set_deadline(client);
    client->socket.ended &= state != CLIENT_EXCHANGE; /* each request is told of it */
    if (state == CLIENT_UNROUTED) {
        count_unrouted(worker, 1);
        TAILQ_INSERT_TAIL(&worker->route_waiters, client, link);
    } else {
        TAILQ_INSERT_TAIL(&worker->clients, client, link);
    }
}

void client_conn_close(struct client_conn *client)
{
    client_set_state(client, CLIENT_CLOSED);
}

/* ---- endings ---- */

static void drop_input(struct client_conn *client)
{
    struct worker *worker = client->worker;
    ssize_t got = client_socket_discard(&client->socket, worker->scratch, WORKER_SCRATCH_BYTES);
    if (got < 0 && client_socket_is_empty()) {
        return;
    }
    if (got > 0) {
        client->lingered += (uint32_t)got;
    }
    if (got <= 0 || client->lingered > CLIENT_LINGER_BYTES_MAX) {
        client_conn_close(client);
    }
}

/* The last answer has left. A client that still sends must get to read it before it learns that nobody listens. */
static void flushed(struct client_conn *client)
{
    if (!client_socket_end(&client->socket)) {
        client_conn_want_read(client, false);
        return;
    }
    if (!client->unread) {
        client_conn_close(client);
        return;
    }
    client_socket_drop_tls(&client->socket);
    shutdown(client->socket.watch.fd, SHUT_WR);
    client_set_state(client, CLIENT_LINGERING);
    client_conn_want_read(client, true);
}

static void await_next(struct client_conn *client)
{
    if (client->in) {
        client_input_resume_soon(client);
    }
    client_conn_want_read(client, !client->in);
}

void client_conn_answered(struct client_conn *client, bool keep, bool unread)
{
    client->exchange = NULL;
    client->served = true;
    bool pending = client_socket_pending(&client->socket);
    set_owing(client, pending);
    if (keep) {
        client_set_state(client, CLIENT_WAITING);
        if (pending) {
            client_conn_want_read(client, false); /* the next request waits until this answer has left */
        } else {
            await_next(client);
        }
        return;
    }
    client->unread = unread || client->in;
    client_input_drop(client);
    client_set_state(client, CLIENT_FLUSHING);
    if (pending) {
        client_conn_want_read(client, false);
    } else {
        flushed(client);
    }
}

static void writable(struct client_conn *client)
{
    if (client_socket_flush(&client->socket) < 0) {
        client_conn_close(client);
        return;
    }
    bool pending = client_socket_pending(&client->socket);
    set_owing(client, pending && client->owing);
    switch (client->state) {
    case CLIENT_EXCHANGE:
        exchange_client_took(client->exchange, !pending);
        break;
    case CLIENT_FLUSHING:
        set_deadline(client);
        if (!pending) {
            flushed(client);
        }
        break;
    case CLIENT_WAITING:
        set_deadline(client);
        if (!pending) {
            await_next(client);
        }
        break;
    default:
        break;
    }
}

/* ---- the handshake ---- */

static void handshake_failed(struct client_conn *client)
{
    client->unread = true; /* else what it still sends would have it miss the alert */
    client_set_state(client, CLIENT_FLUSHING);
    flushed(client);
}

static void handshake(struct client_conn *client)
{
    struct worker *worker = client->worker;
    const char *end = NULL;
    if (!worker_may_shake_hands(worker)) {
        return;
    }
    enum client_handshake step = client_socket_handshake(&client->socket, &end);
    if (end) {
        gateway_metrics_handshake(&worker->gateway->metrics, end);
    }
    switch (step) {
    case CLIENT_HANDSHAKE_WAITS:
        break;
    case CLIENT_HANDSHAKE_DONE:
        client_set_state(client, CLIENT_WAITING);
        break;
    case CLIENT_HANDSHAKE_PLAIN:
        exchange_refuse_plain(client);
        break;
    case CLIENT_HANDSHAKE_FAILED:
        handshake_failed(client);
        break;
    }
}

/* ---- events ---- */

/* Who reads sees the end by itself; who does not is told once, and not again and again. */
static void client_ended(struct client_conn *client)
{
    if (client->state == CLIENT_UNROUTED) {
        client_conn_close(client);
    } else if (client->state == CLIENT_EXCHANGE) {
        client_socket_saw_end(&client->socket);
        exchange_client_ended(client->exchange);
    } else if (!(client->socket.watch.events & EPOLLIN)) {
        client_socket_saw_end(&client->socket);
    }
}

static void client_ready(struct loop_watch *watch, uint32_t events)
{
    struct client_conn *client = container_of(watch, struct client_conn, socket.watch);
    events = client_socket_events(&client->socket, events);
    /* Both directions over: with a tunnel, that may be before its last bytes were read. */
    bool tunnel = client->state == CLIENT_EXCHANGE && exchange_is_tunnel(client->exchange);
    if ((events & EPOLLERR) || ((events & EPOLLHUP) && !tunnel)) {
        client_conn_close(client);
        return;
    }
    if (events & EPOLLOUT) {
        writable(client);
    }
    if ((events & EPOLLRDHUP) && client->state != CLIENT_CLOSED) {
        client_ended(client);
    }
    if (!(events & EPOLLIN) || !client->socket.input) {
        return;
    }
    if (client->state == CLIENT_HANDSHAKE) {
        handshake(client);
    } else if (client->state == CLIENT_EXCHANGE) {
        exchange_client_readable(client->exchange);
    } else if (client->state == CLIENT_LINGERING) {
        drop_input(client);
    } else if (client->state == CLIENT_WAITING || client->state == CLIENT_HEAD) {
        client_input_read(client);
    }
}

static void timer_fired(struct loop_timer *timer)
{
    struct client_conn *client = container_of(timer, struct client_conn, timer);
    switch (client->state) {
    case CLIENT_EXCHANGE:
        exchange_deadline(client->exchange);
        break;
    case CLIENT_HANDSHAKE:
        gateway_metrics_handshake(&client->worker->gateway->metrics, "timeout");
        client_conn_close(client);
        break;
    case CLIENT_HEAD:
        exchange_refuse_timeout(client);
        break;
    case CLIENT_UNROUTED:
        exchange_refuse_unrouted(client);
        break;
    default:
        client_conn_close(client);
        break;
    }
}

void client_conn_accepted(struct worker *worker, enum listener listener, int fd,
                          const struct sockaddr_in *peer)
{
    struct err err = ERR_INIT;
    struct client_conn *client = xcalloc(1, sizeof(*client));
    if (loop_watch_open(worker->loop, &client->socket.watch, fd, EPOLLIN | EPOLLRDHUP, client_ready, &err) <
        0) {
        free(client);
        return;
    }
    loop_timer_init(&client->timer, timer_fired);
    client->socket.loop = worker->loop;
    client->socket.input = true;
    client->gone.run = free_client;
    client->resume.run = client_input_resume;
    client->worker = worker;
    client->listener = (uint8_t)listener;
    client->peer = peer->sin_addr;
    client->state = CLIENT_HEAD; /* so that entering the first state sets its deadline */
    TAILQ_INSERT_TAIL(&worker->clients, client, link);
    atomic_fetch_add(&worker->gateway->clients, 1);
    metric_add(worker->gateway->metrics.connections[listener], 1);
    bool with_tls = listener == LISTENER_TLS;
    client_set_state(client, with_tls ? CLIENT_HANDSHAKE : CLIENT_WAITING);
    if (with_tls && !client_socket_start_tls(&client->socket, worker->tls)) {
        client_conn_close(client);
    }
}

void client_conn_leave(struct worker *worker)
{
    const struct client_conn *last = TAILQ_LAST(&worker->clients, client_list);
    struct client_conn *client = TAILQ_FIRST(&worker->clients);
    for (bool more = client != NULL; more;) {
        struct client_conn *next = TAILQ_NEXT(client, link); /* it may leave the list, or go to its end */
        more = client != last;
        if (client->state == CLIENT_WAITING && client->socket.input) {
            client_input_read(client);
        }
        if (client->state == CLIENT_WAITING && client->served && !client->in && !client->owing) {
            client_conn_close(client);
        }
        client = next;
    }
}

/* ---- for the exchange ---- */

void client_conn_want_read(struct client_conn *client, bool want)
{
    client_socket_want(&client->socket, want);
}

int client_conn_write(struct client_conn *client, struct iovec *iov, int count)
{
    return client_socket_write(&client->socket, iov, count);
}

void client_conn_keep(struct client_conn *client, const char *data, size_t len)
{
    if (len > 0) {
        client_input_keep(client, data, len);
    }
}

struct h1_partial *client_conn_take_kept(struct client_conn *client)
{
    struct h1_partial *kept = client->in;
    client->in = NULL;
    return kept;
}

void client_conn_end(struct client_conn *client)
{
    if (client_socket_end(&client->socket)) {
        shutdown(client->socket.watch.fd, SHUT_WR);
    } else {
        client_socket_want(&client->socket, client->socket.input);
    }
}

void client_conn_deadline(struct client_conn *client, int64_t deadline_ms)
{
    if (client->state == CLIENT_EXCHANGE) {
        loop_timer_set(client->worker->loop, &client->timer, deadline_ms);
    }
}

const char *client_conn_tls_name(const struct client_conn *client)
{
    return client_socket_name(&client->socket);
}

const char *client_conn_address(const struct client_conn *client, char out[INET_ADDRSTRLEN])
{
    const unsigned char *octets = (const unsigned char *)&client->peer;
    struct strbuf text;
    strbuf_init_fixed(&text, out, INET_ADDRSTRLEN);
    for (int i = 0; i < 4; i++) { /* inet_ntop() prints by printf, and this is for each request */
        strbuf_append(&text, ".", i > 0 ? 1 : 0);
        strbuf_append_uint(&text, octets[i]);
    }
    return out;
}
