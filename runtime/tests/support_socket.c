#include "runtime/tests/support_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/tests/support_test.h"

#define READ_MAX_BYTES    (64u << 20)
#define ANSWER_TIMEOUT_MS 10000

int socket_connect(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        fail_msg("connect to port %d: %s", port, strerror(errno));
    }
    return fd;
}

void socket_send(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
        if (sent < 0) {
            fail_msg("send: %s", strerror(errno));
        }
        at += sent;
        len -= (size_t)sent;
    }
}

void socket_send_text(int fd, const char *text)
{
    socket_send(fd, text, strlen(text));
}

/* One recv() into the buffer; 0: closed, -1: nothing until the deadline. */
static int read_some(int fd, struct strbuf *text, int64_t deadline_ms)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    if (poll(&entry, 1, deadline_left_ms(deadline_ms)) != 1) {
        return -1;
    }
    char *room = strbuf_reserve(text, 65536);
    assert_non_null(room);
    ssize_t got = recv(fd, room, 65536, 0);
    if (got <= 0) {
        return 0;
    }
    strbuf_advance(text, (size_t)got);
    return 1;
}

char *socket_read_all(int fd, int timeout_ms, bool *ret_closed)
{
    struct strbuf text;
    strbuf_init(&text, READ_MAX_BYTES);
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    int result;
    while ((result = read_some(fd, &text, deadline_ms)) > 0) {}
    if (ret_closed) {
        *ret_closed = result == 0;
    }
    return strbuf_detach(&text, NULL);
}

/* Bytes of the message at text, 0 while it is incomplete. */
static size_t message_len(const char *text, size_t len)
{
    const char *head_end = strstr(text, "\r\n\r\n");
    if (!head_end) {
        return 0;
    }
    size_t head_len = (size_t)(head_end - text) + 4;
    const char *length = strcasestr(text, "\r\nContent-Length:");
    size_t body_len =
        length && length < head_end ? strtoul(length + strlen("\r\nContent-Length:"), NULL, 10) : 0;
    return len >= head_len + body_len ? head_len + body_len : 0;
}

char *socket_read_answer(int fd)
{
    struct strbuf text;
    strbuf_init(&text, READ_MAX_BYTES);
    int64_t deadline_ms = clock_monotonic_ms() + ANSWER_TIMEOUT_MS;
    while (message_len(text.buf, text.len) == 0) {
        int result = read_some(fd, &text, deadline_ms);
        if (result <= 0) {
            fail_msg("%s after \"%s\"", result == 0 ? "closed" : "no answer", text.buf);
        }
    }
    assert_int_equal(message_len(text.buf, text.len), text.len);
    return strbuf_detach(&text, NULL);
}

char *socket_exchange(int port, const char *text)
{
    CLEANUP_FD int fd = socket_connect(port);
    socket_send_text(fd, text);
    return socket_read_all(fd, 2000, NULL);
}

struct socket_server {
    socket_serve_fn *serve;
    void *arg;
    int listen_fd, port;
    atomic_bool stopping;
    pthread_t thread;
};

static void *serve_connections(void *arg)
{
    struct socket_server *server = arg;
    for (int number = 0; !atomic_load(&server->stopping); number++) {
        CLEANUP_FD int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 || atomic_load(&server->stopping)) {
            break;
        }
        server->serve(server->arg, fd, number);
    }
    return NULL;
}

struct socket_server *socket_server_start(socket_serve_fn *serve, void *arg)
{
    struct socket_server *server = xcalloc(1, sizeof(*server));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    server->serve = serve;
    server->arg = arg;
    server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server->listen_fd >= 0);
    assert_int_equal(bind(server->listen_fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(server->listen_fd, 64), 0);
    assert_int_equal(getsockname(server->listen_fd, (struct sockaddr *)&address, &len), 0);
    server->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&server->thread, NULL, serve_connections, server), 0);
    return server;
}

int socket_server_port(const struct socket_server *server)
{
    return server->port;
}

void socket_server_stop(struct socket_server *server)
{
    atomic_store(&server->stopping, true);
    shutdown(server->listen_fd, SHUT_RDWR); /* wakes accept() */
    pthread_join(server->thread, NULL);
    close(server->listen_fd);
    free(server);
}

bool socket_read_request(int fd, char *out, size_t size)
{
    size_t len = 0;
    out[0] = '\0';
    while (message_len(out, len) == 0) {
        ssize_t got = recv(fd, out + len, size - 1 - len, 0);
        if (got <= 0) {
            return false;
        }
        len += (size_t)got;
        out[len] = '\0';
    }
    return true;
}
