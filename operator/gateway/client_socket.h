/* client_socket.h - a client's socket: what is read from it, what it did not take yet, and what the loop is asked for.
 *
 * All that crosses the boundary between a request and its transport goes through here: the connection and the exchange know no
 * descriptor, and whether there is TLS. The plain path is the socket itself, inline.
 *
 * A TLS session may have to write in order to read, and the other way round; then the loop is asked for what is missing, and
 * client_socket_events() turns what it reports into what can be done.
 *
 * Threads: its loop's.
 */
#ifndef CICADA_GATEWAY_CLIENT_SOCKET_H
#define CICADA_GATEWAY_CLIENT_SOCKET_H

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "operator/gateway/loop.h"
#include "operator/gateway/outbuf.h"

#define CLIENT_SOCKET_READ_BYTES_MIN 16384 /* a reading has room for this: a TLS record */

struct tls_context;
struct tls_session;

struct client_socket {
    struct loop_watch watch;
    struct loop *loop;
    struct tls_session *tls; /* NULL: plain */
    struct outbuf out;
    bool spoke;  /* its first byte was seen, and may begin a handshake */
    bool input;  /* input is wanted */
    bool ended;  /* the client ended its stream, and that was seen */
    bool ending; /* the end of ours waits for room */
};

/* Bytes were written that have not left. */
static inline bool client_socket_pending(const struct client_socket *socket)
{
    return outbuf_pending(&socket->out) || socket->ending;
}

/* ---- with TLS ---- */
/* From now on it speaks TLS. False: there is no memory for it. */
bool client_socket_start_tls(struct client_socket *socket, struct tls_context *context);
/* What comes and goes is plain again: the handshake failed or never began. */
void client_socket_drop_tls(struct client_socket *socket);
enum client_handshake {
    CLIENT_HANDSHAKE_WAITS, /* the loop was asked for what it waits for */
    CLIENT_HANDSHAKE_DONE,
    CLIENT_HANDSHAKE_PLAIN,  /* the client speaks HTTP in clear; so does the socket now */
    CLIENT_HANDSHAKE_FAILED, /* an alert was sent; the socket is plain */
};
/* *ret_end: how it ended, for metrics; untouched as long as it has not. */
enum client_handshake client_socket_handshake(struct client_socket *socket, const char **ret_end);
/* What the client asked for; NULL: nothing, or there is no TLS. Borrowed. */
const char *client_socket_name(const struct client_socket *socket);
ssize_t client_socket_read_tls(struct client_socket *socket, void *buffer, size_t size);
int client_socket_write_tls(struct client_socket *socket, const struct iovec *iov, int count);
int client_socket_flush_tls(struct client_socket *socket);
void client_socket_want_tls(struct client_socket *socket);
uint32_t client_socket_events_tls(struct client_socket *socket, uint32_t events);
bool client_socket_end_tls(struct client_socket *socket);

/* ---- any ---- */

/* > 0: bytes; 0: the stream's end; -1: errno says what, see client_socket_is_empty(). */
static inline ssize_t client_socket_read(struct client_socket *socket, void *buffer, size_t size)
{
    return socket->tls ? client_socket_read_tls(socket, buffer, size)
                       : recv(socket->watch.fd, buffer, size, 0);
}

/* After a -1: nothing to read yet. */
static inline bool client_socket_is_empty(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* Reads what nobody will look at. */
static inline ssize_t client_socket_discard(struct client_socket *socket, void *buffer, size_t size)
{
    return recv(socket->watch.fd, buffer, size, 0);
}

/* Asks the loop for what the socket needs now: its end, room for what is pending, and input if that is wanted. */
static inline void client_socket_want(struct client_socket *socket, bool input)
{
    socket->input = input;
    if (socket->tls) {
        client_socket_want_tls(socket);
        return;
    }
    uint32_t events = (input ? EPOLLIN : 0) | (socket->ended ? 0 : EPOLLRDHUP) |
                      (client_socket_pending(socket) ? EPOLLOUT : 0);
    loop_watch_set(socket->loop, &socket->watch, events);
}

/* What the loop reported, as what can be done: EPOLLIN, read; EPOLLOUT, flush. */
static inline uint32_t client_socket_events(struct client_socket *socket, uint32_t events)
{
    return socket->tls ? client_socket_events_tls(socket, events) : events;
}

/* -1: the connection is broken. What the socket does not take is kept, and the loop asked for room. iov is used up. */
static inline int client_socket_write(struct client_socket *socket, struct iovec *iov, int count)
{
    if (socket->tls) {
        return client_socket_write_tls(socket, iov, count);
    }
    if (outbuf_write(&socket->out, socket->watch.fd, iov, count) < 0) {
        return -1;
    }
    if (client_socket_pending(socket)) {
        loop_watch_set(socket->loop, &socket->watch, socket->watch.events | EPOLLOUT);
    }
    return 0;
}

/* Writes what is pending, as far as there is room. -1: the connection is broken. */
static inline int client_socket_flush(struct client_socket *socket)
{
    if (socket->tls) {
        return client_socket_flush_tls(socket);
    }
    if (outbuf_flush(&socket->out, socket->watch.fd) < 0) {
        return -1;
    }
    if (!client_socket_pending(socket)) {
        loop_watch_set(socket->loop, &socket->watch, socket->watch.events & ~(uint32_t)EPOLLOUT);
    }
    return 0;
}

/* Nothing more will be written, and the client is told so if the transport can say it. False: that waits for room and is pending. */
static inline bool client_socket_end(struct client_socket *socket)
{
    return !socket->tls || client_socket_end_tls(socket);
}

/* The client has ended its stream: said once. */
static inline void client_socket_saw_end(struct client_socket *socket)
{
    socket->ended = true;
    loop_watch_set(socket->loop, &socket->watch, socket->watch.events & ~(uint32_t)EPOLLRDHUP);
}

static inline void client_socket_close(struct client_socket *socket)
{
    client_socket_drop_tls(socket);
    loop_watch_close(socket->loop, &socket->watch);
    outbuf_release(&socket->out);
}

#endif
