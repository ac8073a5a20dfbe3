#include "runtime/tests/support_relay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void open_listener(struct relay *relay)
{
    struct sockaddr_in address = loopback(relay->port);
    socklen_t size = sizeof(address);
    int on = 1;

    relay->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(relay->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(relay->listen_fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(relay->listen_fd, 16) != 0 ||
        getsockname(relay->listen_fd, (struct sockaddr *)&address, &size) != 0) {
        close(relay->listen_fd);
        relay->listen_fd = -1;
        return;
    }
    relay->port = ntohs(address.sin_port);
}

static void drop_pair(struct relay *relay, size_t index)
{
    close(relay->pairs[index][0]);
    close(relay->pairs[index][1]);
    relay->pair_count--;
    memcpy(relay->pairs[index], relay->pairs[relay->pair_count], sizeof(relay->pairs[index]));
}

static void accept_pair(struct relay *relay)
{
    struct sockaddr_in address = loopback(relay->target_port);
    int client = accept(relay->listen_fd, NULL, NULL);
    int target = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (client < 0 || relay->pair_count == RELAY_PAIRS_MAX ||
        connect(target, (struct sockaddr *)&address, sizeof(address)) != 0) {
        if (client >= 0)
            close(client);
        close(target);
        return;
    }
    relay->pairs[relay->pair_count][0] = client;
    relay->pairs[relay->pair_count][1] = target;
    relay->pair_count++;
}

static bool copy(int from, int to)
{
    char data[16384];
    ssize_t got = recv(from, data, sizeof(data), 0);

    return got > 0 && send(to, data, (size_t)got, MSG_NOSIGNAL) == got;
}

static bool obey(struct relay *relay)
{
    char command = 'q';

    (void)!read(relay->commands[0], &command, 1);
    if (command != 'r') {
        while (relay->pair_count > 0)
            drop_pair(relay, 0);
        if (relay->listen_fd >= 0)
            close(relay->listen_fd);
        relay->listen_fd = -1;
    } else {
        open_listener(relay);
    }
    pthread_mutex_lock(&relay->mutex);
    relay->obeyed_count++;
    pthread_cond_signal(&relay->obeyed);
    pthread_mutex_unlock(&relay->mutex);
    return command != 'q';
}

static void *relay_main(void *arg)
{
    struct relay *relay = arg;
    struct pollfd fds[2 + 2 * RELAY_PAIRS_MAX];

    for (;;) {
        size_t pairs = relay->pair_count;
        fds[0] = (struct pollfd){.fd = relay->commands[0], .events = POLLIN};
        fds[1] = (struct pollfd){.fd = relay->listen_fd, .events = POLLIN};
        for (size_t i = 0; i < pairs; i++) {
            fds[2 + 2 * i] = (struct pollfd){.fd = relay->pairs[i][0], .events = POLLIN};
            fds[3 + 2 * i] = (struct pollfd){.fd = relay->pairs[i][1], .events = POLLIN};
        }
        if (poll(fds, 2 + 2 * pairs, -1) < 0)
            continue;
        if (fds[0].revents != 0) {
            if (!obey(relay))
                return NULL;
            continue;
        }
        for (size_t i = pairs; i-- > 0;) /* backwards: a dropped pair is replaced by the last one */
            if ((fds[2 + 2 * i].revents != 0 && !copy(relay->pairs[i][0], relay->pairs[i][1])) ||
                (fds[3 + 2 * i].revents != 0 && !copy(relay->pairs[i][1], relay->pairs[i][0])))
                drop_pair(relay, i);
        if (fds[1].revents != 0)
            accept_pair(relay);
    }
}

void relay_start(struct relay *relay, int target_port)
{
    memset(relay, 0, sizeof(*relay));
    relay->target_port = target_port;
    pthread_mutex_init(&relay->mutex, NULL);
    pthread_cond_init(&relay->obeyed, NULL);
    open_listener(relay);
    assert_true(relay->listen_fd >= 0);
    assert_int_equal(pipe(relay->commands), 0);
    assert_int_equal(pthread_create(&relay->thread, NULL, relay_main, relay), 0);
}

static void command(struct relay *relay, char letter)
{
    int before;

    pthread_mutex_lock(&relay->mutex);
    before = relay->obeyed_count;
    (void)!write(relay->commands[1], &letter, 1);
    while (relay->obeyed_count == before)
        pthread_cond_wait(&relay->obeyed, &relay->mutex);
    pthread_mutex_unlock(&relay->mutex);
}

void relay_cut(struct relay *relay)
{
    command(relay, 'c');
}

void relay_restore(struct relay *relay)
{
    command(relay, 'r');
}

void relay_stop(struct relay *relay)
{
    command(relay, 'q');
    pthread_join(relay->thread, NULL);
    close(relay->commands[0]);
    close(relay->commands[1]);
    pthread_cond_destroy(&relay->obeyed);
    pthread_mutex_destroy(&relay->mutex);
}
