/* client_socket.h - a client's socket: what is read from it, what it did not take yet, and what the loop is asked for.
 *
 * All that crosses the boundary between a request and its transport goes through here: the connection and the exchange know no
 * descriptor. Reading and writing are those of the socket itself, inline.
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

struct client_socket {
    struct loop_watch watch;
    struct outbuf out;
    bool ended; /* the client ended its stream, and that was seen */
};

/* Bytes were written that have not left. */
static inline bool client_socket_pending(const struct client_socket *socket)
{
    return outbuf_pending(&socket->out);
}

/* > 0: bytes; 0: the stream's end; -1: errno says what, see client_socket_is_empty(). */
static inline ssize_t client_socket_read(struct client_socket *socket, void *buffer, size_t size)
{
    return recv(socket->watch.fd, buffer, size, 0);
}

/* After a -1: nothing to read yet. */
static inline bool client_socket_is_empty(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* Asks the loop for what the socket needs now: its end, room for what is pending, and input if that is wanted. */
static inline void client_socket_want(struct client_socket *socket, struct loop *loop, bool input)
{
    uint32_t events = (input ? EPOLLIN : 0) | (socket->ended ? 0 : EPOLLRDHUP) |
                      (client_socket_pending(socket) ? EPOLLOUT : 0);
    loop_watch_set(loop, &socket->watch, events);
}

/* -1: the connection is broken. What the socket does not take is kept, and the loop asked for room. iov is used up. */
static inline int client_socket_write(struct client_socket *socket, struct loop *loop, struct iovec *iov,
                                      int count)
{
    if (outbuf_write(&socket->out, socket->watch.fd, iov, count) < 0) {
        return -1;
    }
    if (client_socket_pending(socket)) {
        loop_watch_set(loop, &socket->watch, socket->watch.events | EPOLLOUT);
    }
    return 0;
}

/* Writes what is pending, as far as there is room. -1: the connection is broken. */
static inline int client_socket_flush(struct client_socket *socket, struct loop *loop)
{
    if (outbuf_flush(&socket->out, socket->watch.fd) < 0) {
        return -1;
    }
    if (!client_socket_pending(socket)) {
        loop_watch_set(loop, &socket->watch, socket->watch.events & ~(uint32_t)EPOLLOUT);
    }
    return 0;
}

/* The client has ended its stream: said once. */
static inline void client_socket_saw_end(struct client_socket *socket, struct loop *loop)
{
    socket->ended = true;
    loop_watch_set(loop, &socket->watch, socket->watch.events & ~(uint32_t)EPOLLRDHUP);
}

static inline void client_socket_close(struct client_socket *socket, struct loop *loop)
{
    loop_watch_close(loop, &socket->watch);
    outbuf_release(&socket->out);
}

#endif
