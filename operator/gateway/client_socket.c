#include "operator/gateway/client_socket.h"

#include <assert.h>

#include "operator/gateway/tls.h"

bool client_socket_start_tls(struct client_socket *socket, struct tls_context *context)
{
    socket->tls = tls_session_new(context, socket->watch.fd);
    return socket->tls != NULL;
}

void client_socket_drop_tls(struct client_socket *socket)
{
    tls_session_free(socket->tls);
    socket->tls = NULL;
    socket->ending = false;
}

/* The first byte, which stays where it is. */
static enum client_handshake look_at_first_byte(struct client_socket *socket, const char **ret_end)
{
    char first;
    ssize_t got = recv(socket->watch.fd, &first, 1, MSG_PEEK);
    if (got < 0 && client_socket_is_empty()) {
        return CLIENT_HANDSHAKE_WAITS;
    }
    if (got <= 0) {
        *ret_end = "closed";
        return CLIENT_HANDSHAKE_FAILED;
    }
    if (first >= 'A' && first <= 'Z') { /* the beginning of a method; of a TLS record it is none */
        *ret_end = "plain_http";
        return CLIENT_HANDSHAKE_PLAIN;
    }
    socket->spoke = true;
    return CLIENT_HANDSHAKE_WAITS;
}

enum client_handshake client_socket_handshake(struct client_socket *socket, const char **ret_end)
{
    enum client_handshake result =
        socket->spoke ? CLIENT_HANDSHAKE_WAITS : look_at_first_byte(socket, ret_end);
    if (socket->spoke) {
        enum tls_progress progress = tls_session_handshake(socket->tls);
        if (progress == TLS_DONE) {
            *ret_end = tls_session_resumed(socket->tls) ? "resumed" : "full";
            result = CLIENT_HANDSHAKE_DONE;
        } else if (progress == TLS_FAILED) {
            *ret_end = tls_session_failure(socket->tls);
            result = CLIENT_HANDSHAKE_FAILED;
        }
    }
    if (result == CLIENT_HANDSHAKE_PLAIN || result == CLIENT_HANDSHAKE_FAILED) {
        client_socket_drop_tls(socket);
    } else {
        client_socket_want(socket, true);
    }
    return result;
}

const char *client_socket_name(const struct client_socket *socket)
{
    return socket->tls ? tls_session_name(socket->tls) : NULL;
}

ssize_t client_socket_read_tls(struct client_socket *socket, void *buffer, size_t size)
{
    static_assert(CLIENT_SOCKET_READ_BYTES_MIN == TLS_RECORD_BYTES_MAX, "a reading empties a record");
    assert(size >= CLIENT_SOCKET_READ_BYTES_MIN);
    bool needed_room = tls_session_read_needs_room(socket->tls);
    ssize_t got = tls_session_read(socket->tls, buffer, size);
    /* Full records follow each other in a large body: one turn takes as many as there is room for. */
    ssize_t last = got;
    while (last == TLS_RECORD_BYTES_MAX && size - (size_t)got >= TLS_RECORD_BYTES_MAX) {
        last = tls_session_read(socket->tls, (char *)buffer + got, size - (size_t)got);
        got += last > 0 ? last : 0; /* an end or an error shows again in the next reading */
    }
    if (got > 0 && last <= 0 && !(last < 0 && client_socket_is_empty())) {
        shutdown(socket->watch.fd,
                 SHUT_RD); /* the kernel has it no more: else the loop would see no reason to read again */
    }
    if (needed_room || tls_session_read_needs_room(socket->tls)) {
        client_socket_want_tls(socket);
    }
    return got;
}

int client_socket_write_tls(struct client_socket *socket, const struct iovec *iov, int count)
{
    ssize_t sent = 0;
    if (!outbuf_pending(&socket->out)) {
        sent = tls_session_write(socket->tls, iov, count);
        if (sent < 0) {
            return -1;
        }
    }
    outbuf_keep(&socket->out, iov, count, (size_t)sent);
    client_socket_want_tls(socket);
    return 0;
}

int client_socket_flush_tls(struct client_socket *socket)
{
    if (outbuf_pending(&socket->out)) {
        struct iovec iov = {.iov_base = socket->out.data + socket->out.start,
                            .iov_len = socket->out.end - socket->out.start};
        ssize_t sent = tls_session_write(socket->tls, &iov, 1);
        if (sent < 0) {
            return -1;
        }
        outbuf_sent(&socket->out, (size_t)sent);
    }
    if (socket->ending && !outbuf_pending(&socket->out)) {
        socket->ending = tls_session_end(socket->tls) == TLS_WAITS;
    }
    client_socket_want_tls(socket);
    return 0;
}

void client_socket_want_tls(struct client_socket *socket)
{
    bool read_needs_room = tls_session_read_needs_room(socket->tls);
    bool write_needs_input = tls_session_write_needs_input(socket->tls);
    bool pending = client_socket_pending(socket);
    bool in = (socket->input && !read_needs_room) || (pending && write_needs_input);
    bool out = (pending && !write_needs_input) || (socket->input && read_needs_room);
    loop_watch_set(socket->loop, &socket->watch,
                   (in ? EPOLLIN : 0) | (out ? EPOLLOUT : 0) | (socket->ended ? 0 : EPOLLRDHUP));
}

uint32_t client_socket_events_tls(struct client_socket *socket, uint32_t events)
{
    bool in = (events & EPOLLIN) != 0, out = (events & EPOLLOUT) != 0;
    bool read = in, flush = out;
    if (out && socket->input && tls_session_read_needs_room(socket->tls)) {
        read = true;
    }
    if (in && tls_session_write_needs_input(socket->tls)) {
        flush = true;
    }
    events &= ~(uint32_t)(EPOLLIN | EPOLLOUT);
    return events | (read ? EPOLLIN : 0) | (flush && client_socket_pending(socket) ? EPOLLOUT : 0);
}

bool client_socket_end_tls(struct client_socket *socket)
{
    socket->ending = tls_session_end(socket->tls) == TLS_WAITS;
    return !socket->ending;
}
