#include "operator/tests/support_gateway_upstream.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operator/tests/support_gateway_upstream_internal.h"
#include "runtime/base/mem.h"

/* ---- connections; mu held where a list is touched ---- */

static void reap(struct test_upstream *upstream, bool all)
{
    pthread_mutex_lock(&upstream->mu);
    struct upstream_connection *connection = LIST_FIRST(&upstream->connections);
    while (connection) {
        struct upstream_connection *next = LIST_NEXT(connection, link);
        if (all && connection->fd >= 0) {
            shutdown(connection->fd, SHUT_RDWR);
        }
        if (all || connection->done) {
            LIST_REMOVE(connection, link);
            pthread_mutex_unlock(&upstream->mu);
            pthread_join(connection->thread, NULL);
            free(connection);
            pthread_mutex_lock(&upstream->mu);
            next = LIST_FIRST(&upstream->connections);
        }
        connection = next;
    }
    pthread_mutex_unlock(&upstream->mu);
}

static void *accept_loop(void *arg)
{
    struct test_upstream *upstream = arg;
    while (!stop_is_set(&upstream->stop)) {
        pthread_mutex_lock(&upstream->mu);
        int fd = upstream->listen_fd >= 0 ? accept4(upstream->listen_fd, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (fd >= 0) {
            struct upstream_connection *connection = xcalloc(1, sizeof(*connection));
            int on = 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
            connection->upstream = upstream;
            connection->fd = fd;
            connection->idle = true;
            upstream->accepted++;
            upstream->open++;
            upstream->open_max = upstream->open > upstream->open_max ? upstream->open : upstream->open_max;
            LIST_INSERT_HEAD(&upstream->connections, connection, link);
            int code = pthread_create(&connection->thread, NULL, upstream_serve, connection);
            assert(code == 0);
            (void)code;
        }
        struct pollfd fds[] = {{.fd = upstream->listen_fd, .events = POLLIN},
                               {.fd = stop_fd(&upstream->stop), .events = POLLIN}};
        pthread_mutex_unlock(&upstream->mu);
        if (fd < 0) {
            reap(upstream, false);
            (void)poll(fds, 2, 5);
        }
    }
    return NULL;
}

static int open_listener(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    int result = bind(fd, (const struct sockaddr *)address, sizeof(*address));
    assert(result == 0);
    result = listen(fd, 1024);
    assert(result == 0);
    (void)result;
    return fd;
}

void test_upstream_listen(struct test_upstream *upstream)
{
    pthread_mutex_lock(&upstream->mu);
    if (upstream->listen_fd < 0) {
        upstream->listen_fd = open_listener(&upstream->address);
    }
    pthread_mutex_unlock(&upstream->mu);
}

void test_upstream_refuse(struct test_upstream *upstream)
{
    pthread_mutex_lock(&upstream->mu);
    if (upstream->listen_fd >= 0) {
        shutdown(upstream->listen_fd, SHUT_RDWR); /* at once, though the acceptor may be in poll() with it */
        close(upstream->listen_fd);
        upstream->listen_fd = -1;
    }
    pthread_mutex_unlock(&upstream->mu);
}

void test_upstream_drop_idle(struct test_upstream *upstream)
{
    pthread_mutex_lock(&upstream->mu);
    struct upstream_connection *connection;
    LIST_FOREACH(connection, &upstream->connections, link)
    {
        if (connection->idle && connection->fd >= 0) {
            shutdown(connection->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&upstream->mu);
}

struct test_upstream *test_upstream_new(void)
{
    struct test_upstream *upstream = xcalloc(1, sizeof(*upstream));
    stop_init(&upstream->stop);
    pthread_mutex_init(&upstream->mu, NULL);
    pthread_cond_init(&upstream->changed, NULL);
    LIST_INIT(&upstream->connections);
    upstream->raw = xstrdup("");
    upstream->tunnel_bytes = -1;
    upstream->address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    upstream->listen_fd = open_listener(&upstream->address);
    socklen_t len = sizeof(upstream->address);
    getsockname(upstream->listen_fd, (struct sockaddr *)&upstream->address, &len);
    int code = pthread_create(&upstream->acceptor, NULL, accept_loop, upstream);
    assert(code == 0);
    (void)code;
    return upstream;
}

void test_upstream_free(struct test_upstream *upstream)
{
    if (!upstream) {
        return;
    }
    stop_set(&upstream->stop);
    pthread_mutex_lock(&upstream->mu);
    pthread_cond_broadcast(&upstream->changed);
    pthread_mutex_unlock(&upstream->mu);
    pthread_join(upstream->acceptor, NULL);
    test_upstream_refuse(upstream);
    reap(upstream, true);
    stop_release(&upstream->stop);
    pthread_mutex_destroy(&upstream->mu);
    pthread_cond_destroy(&upstream->changed);
    strbuf_release(&upstream->heard);
    free(upstream->raw);
    free(upstream);
}

/* ---- settings and counts ---- */

struct sockaddr_in test_upstream_address(const struct test_upstream *upstream)
{
    return upstream->address;
}

void test_upstream_set_raw(struct test_upstream *upstream, const char *text)
{
    pthread_mutex_lock(&upstream->mu);
    free(upstream->raw);
    upstream->raw = xstrdup(text);
    pthread_mutex_unlock(&upstream->mu);
}

void test_upstream_record(struct test_upstream *upstream)
{
    pthread_mutex_lock(&upstream->mu);
    strbuf_init(&upstream->heard, 1 << 20);
    pthread_mutex_unlock(&upstream->mu);
}

char *test_upstream_heard(struct test_upstream *upstream)
{
    pthread_mutex_lock(&upstream->mu);
    char *heard = xstrdup(upstream->heard.buf);
    strbuf_clear(&upstream->heard);
    pthread_mutex_unlock(&upstream->mu);
    return heard;
}

void test_upstream_open_gate(struct test_upstream *upstream, int count)
{
    pthread_mutex_lock(&upstream->mu);
    upstream->gate += count;
    pthread_cond_broadcast(&upstream->changed);
    pthread_mutex_unlock(&upstream->mu);
}

static int read_count(struct test_upstream *upstream, const int *count)
{
    pthread_mutex_lock(&upstream->mu);
    int value = *count;
    pthread_mutex_unlock(&upstream->mu);
    return value;
}

int test_upstream_requests(struct test_upstream *upstream)
{
    return read_count(upstream, &upstream->requests);
}

int test_upstream_connections(struct test_upstream *upstream)
{
    return read_count(upstream, &upstream->accepted);
}

int test_upstream_open(struct test_upstream *upstream)
{
    return read_count(upstream, &upstream->open);
}

int test_upstream_open_max(struct test_upstream *upstream)
{
    return read_count(upstream, &upstream->open_max);
}

int test_upstream_in_flight(struct test_upstream *upstream)
{
    return read_count(upstream, &upstream->in_flight);
}

int test_upstream_in_flight_max(struct test_upstream *upstream)
{
    return read_count(upstream, &upstream->in_flight_max);
}

long long test_upstream_tunnel_bytes(struct test_upstream *upstream)
{
    pthread_mutex_lock(&upstream->mu);
    long long value = upstream->tunnel_bytes;
    pthread_mutex_unlock(&upstream->mu);
    return value;
}

size_t test_upstream_order(struct test_upstream *upstream, int out[TEST_UPSTREAM_ORDER_MAX])
{
    pthread_mutex_lock(&upstream->mu);
    size_t count = upstream->order_count;
    memcpy(out, upstream->order, count * sizeof(*out));
    pthread_mutex_unlock(&upstream->mu);
    return count;
}
