#include "runtime/tests/support_gateway.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define READ_MS 2000

static bool is_complete(const char *request)
{
    const char *end = strstr(request, "\r\n\r\n");
    return end != NULL && strchr(end, '}') != NULL;
}

static void read_request(int fd, char *request, size_t size)
{
    size_t len = 0;

    request[0] = '\0';
    while (!is_complete(request) && len + 1 < size) {
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        ssize_t got = poll(&wanted, 1, READ_MS) > 0 ? recv(fd, request + len, size - len - 1, 0) : 0;
        if (got <= 0)
            return;
        len += (size_t)got;
        request[len] = '\0';
    }
}

/* The status to answer with; the last one is used again and again. */
static int remember(struct fake_gateway *gateway, const char *request)
{
    int status;
    size_t used;

    pthread_mutex_lock(&gateway->mutex);
    used = strlen(gateway->text);
    snprintf(gateway->text + used, sizeof(gateway->text) - used, "%s\n", request);
    gateway->announcements += strncmp(request, "POST /announce HTTP/1.1\r\n", 25) == 0;
    gateway->goodbyes += strncmp(request, "POST /goodbye HTTP/1.1\r\n", 24) == 0;
    status = gateway->statuses[gateway->next];
    if (gateway->next + 1 < FAKE_GATEWAY_STATUSES_MAX && gateway->statuses[gateway->next + 1] != 0)
        gateway->next++;
    pthread_mutex_unlock(&gateway->mutex);
    return status;
}

static void serve_connection(struct fake_gateway *gateway, int fd)
{
    char request[2048], answer[256], header[64] = "";
    int status, len, gateways = atomic_load(&gateway->gateways);

    read_request(fd, request, sizeof(request));
    if (!is_complete(request))
        return;
    status = remember(gateway, request);
    if (status == 0)
        return;
    if (gateways > 0)
        snprintf(header, sizeof(header), "X-Cicada-Gateways: %d\r\n", gateways);
    len = snprintf(answer, sizeof(answer),
                   "HTTP/1.1 %d Test\r\n%sContent-Length: 0\r\nConnection: close\r\n\r\n", status, header);
    (void)!write(fd, answer, (size_t)len);
}

static void *gateway_main(void *arg)
{
    struct fake_gateway *gateway = arg;
    struct pollfd wanted[] = {{.fd = gateway->listen_fd, .events = POLLIN},
                              {.fd = gateway->stop_pipe[0], .events = POLLIN}};

    while (poll(wanted, 2, -1) > 0 && wanted[1].revents == 0) {
        int fd = accept(gateway->listen_fd, NULL, NULL);
        if (fd < 0)
            continue;
        serve_connection(gateway, fd);
        close(fd);
    }
    return NULL;
}

void fake_gateway_start(struct fake_gateway *gateway, const char *address, int port, const int *statuses,
                        int count)
{
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof(where);
    int on = 1;

    memset(gateway, 0, sizeof(*gateway));
    memcpy(gateway->statuses, statuses, (size_t)count * sizeof(*statuses));
    pthread_mutex_init(&gateway->mutex, NULL);
    gateway->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(gateway->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(inet_pton(AF_INET, address, &where.sin_addr), 1);
    assert_int_equal(bind(gateway->listen_fd, (struct sockaddr *)&where, sizeof(where)), 0);
    assert_int_equal(listen(gateway->listen_fd, 16), 0);
    assert_int_equal(getsockname(gateway->listen_fd, (struct sockaddr *)&where, &size), 0);
    gateway->port = ntohs(where.sin_port);
    assert_int_equal(pipe(gateway->stop_pipe), 0);
    assert_int_equal(pthread_create(&gateway->thread, NULL, gateway_main, gateway), 0);
}

void fake_gateway_stop(struct fake_gateway *gateway)
{
    (void)!write(gateway->stop_pipe[1], "x", 1);
    pthread_join(gateway->thread, NULL);
    close(gateway->stop_pipe[0]);
    close(gateway->stop_pipe[1]);
    close(gateway->listen_fd);
    pthread_mutex_destroy(&gateway->mutex);
}

static int locked(struct fake_gateway *gateway, const int *figure)
{
    int value;

    pthread_mutex_lock(&gateway->mutex);
    value = *figure;
    pthread_mutex_unlock(&gateway->mutex);
    return value;
}

int fake_gateway_announcements(struct fake_gateway *gateway)
{
    return locked(gateway, &gateway->announcements);
}

int fake_gateway_goodbyes(struct fake_gateway *gateway)
{
    return locked(gateway, &gateway->goodbyes);
}

bool fake_gateway_was_announced(void *gateway)
{
    return fake_gateway_announcements(gateway) > 0;
}
