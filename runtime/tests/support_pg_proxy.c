#include "runtime/tests/support_pg_proxy.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/stop.h"
#include "runtime/base/text.h"

#define LINKS_MAX 32
#define TURN_MS   5
#define CHUNK     65536

struct link {
    int fds[2]; /* by direction of what is read: client, server; -1: closed */
    bool held, cut_answer;
    size_t bytes_left; /* until it is cut; 0: for ever */
    struct pending {
        char data[CHUNK];
        size_t len;
    } * pending[2]; /* read from that side, not yet taken by the other */
};

struct pg_proxy {
    int target_port, port, listener;
    struct stop stop;
    pthread_t thread;
    char url[128];
    struct link links[LINKS_MAX];

    pthread_mutex_t lock; /* guards the rest */
    bool refuse, refusing, stall, cut_all, rule_set;
    enum pg_proxy_direction direction;
    enum pg_proxy_action action;
    char pattern[64], replacement[64];
    size_t pattern_len;
    struct pg_proxy_chaos chaos;
    int cuts, commit_cuts;
};

static int listen_on(int port, int *ret_port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    int failed = bind(fd, (struct sockaddr *)&address, len) | listen(fd, 64) |
                 getsockname(fd, (struct sockaddr *)&address, &len);
    assert(failed == 0);
    (void)failed;
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static int connect_to(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int failed = connect(fd, (struct sockaddr *)&address, sizeof(address));
    assert(failed == 0);
    (void)failed;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static void close_side(struct link *link, int side)
{
    fd_close_p(&link->fds[side]);
    link->fds[side] = -1;
}

static void cut(struct link *link)
{
    close_side(link, PG_PROXY_TO_SERVER);
    close_side(link, PG_PROXY_TO_CLIENT);
}

/* One that is free, or else one that only the server still knows of. */
static struct link *find_link(struct pg_proxy *proxy)
{
    struct link *half = NULL;
    for (size_t i = 0; i < LINKS_MAX; i++) {
        struct link *link = &proxy->links[i];
        if (link->fds[PG_PROXY_TO_SERVER] < 0 && link->fds[PG_PROXY_TO_CLIENT] < 0)
            return link;
        if (link->fds[PG_PROXY_TO_SERVER] < 0)
            half = link;
    }
    if (half)
        cut(half);
    return half;
}

static void accept_one(struct pg_proxy *proxy)
{
    int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
        return;
    struct link *link = find_link(proxy);
    if (!link) {
        (void)close(client);
        return;
    }
    link->fds[PG_PROXY_TO_SERVER] = client;
    link->fds[PG_PROXY_TO_CLIENT] = connect_to(proxy->target_port);
    link->held = proxy->stall;
    link->cut_answer = false;
    link->bytes_left = proxy->chaos.bytes_max > 0 ? 1 + random_u64() % (uint64_t)proxy->chaos.bytes_max : 0;
    link->pending[0]->len = link->pending[1]->len = 0;
}

/* Passes on what is pending; what the other side does not take now stays. */
static void push(struct link *link, int side)
{
    struct pending *pending = link->pending[side];
    ssize_t sent = send(link->fds[1 - side], pending->data, pending->len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) {
        cut(link);
    } else if (sent > 0) {
        pending->len -= (size_t)sent;
        memmove(pending->data, pending->data + sent, pending->len);
    }
}

/* False: the data is not to be passed on. */
static bool act(struct pg_proxy *proxy, enum pg_proxy_action action, struct link *link, char *found)
{
    switch (action) {
    case PG_PROXY_CUT:
        cut(link);
        return false;
    case PG_PROXY_CUT_CLIENT:
        close_side(link, PG_PROXY_TO_SERVER);
        link->held = true;
        return false;
    case PG_PROXY_CUT_ANSWER:
        link->cut_answer = true;
        return true;
    case PG_PROXY_HOLD:
        link->held = true;
        return false;
    case PG_PROXY_HOLD_ANSWER:
        link->held = true;
        return true;
    case PG_PROXY_REPLACE:
        memcpy(found, proxy->replacement, proxy->pattern_len);
        return true;
    }
    return true;
}

/* False: as in act(). */
static bool disturb_commit(struct pg_proxy *proxy, struct link *link, int side, size_t len)
{
    static const enum pg_proxy_action actions[] = {PG_PROXY_CUT, PG_PROXY_CUT_ANSWER, PG_PROXY_CUT_CLIENT};
    char *found = memmem(link->pending[side]->data, len, "COMMIT", strlen("COMMIT"));
    if (side != PG_PROXY_TO_SERVER || !found || random_u64() % 100 >= (uint64_t)proxy->chaos.commit_percent)
        return true;
    proxy->cuts++;
    proxy->commit_cuts++;
    return act(proxy, actions[random_u64() % ARRAY_SIZE(actions)], link, found);
}

/* True: the connection ends with these bytes, of which *len go through. */
static bool spend(struct pg_proxy *proxy, struct link *link, size_t *len)
{
    if (link->bytes_left == 0)
        return false;
    if (*len < link->bytes_left) {
        link->bytes_left -= *len;
        return false;
    }
    *len = link->bytes_left;
    proxy->cuts++;
    return true;
}

static void pull(struct pg_proxy *proxy, struct link *link, int side)
{
    struct pending *pending = link->pending[side];
    ssize_t len = recv(link->fds[side], pending->data, CHUNK, MSG_DONTWAIT);
    if (len < 0 && errno == EAGAIN)
        return;
    if (len <= 0 || (side == PG_PROXY_TO_CLIENT && link->cut_answer)) {
        cut(link);
        return;
    }
    if (proxy->rule_set && (int)proxy->direction == side) {
        char *found = memmem(pending->data, (size_t)len, proxy->pattern, proxy->pattern_len);
        proxy->rule_set = !found;
        if (found && !act(proxy, proxy->action, link, found))
            return;
    }
    if (!disturb_commit(proxy, link, side, (size_t)len))
        return;
    pending->len = (size_t)len;
    bool last = spend(proxy, link, &pending->len);
    push(link, side);
    if (last)
        cut(link);
}

static void serve(struct pg_proxy *proxy, struct link *link, int side, short revents)
{
    if (revents & POLLOUT && link->pending[1 - side]->len > 0)
        push(link, 1 - side);
    if (revents & ~POLLOUT && link->fds[side] >= 0 && !link->held && link->pending[side]->len == 0)
        pull(proxy, link, side);
}

static short wanted(const struct link *link, int side)
{
    short events = link->pending[side]->len == 0 ? POLLIN : 0;
    if (link->pending[1 - side]->len > 0)
        events |= POLLOUT;
    return events;
}

static void follow_settings(struct pg_proxy *proxy)
{
    if (proxy->refuse && proxy->listener >= 0) {
        fd_close_p(&proxy->listener);
        proxy->listener = -1;
    } else if (!proxy->refuse && proxy->listener < 0) {
        proxy->listener = listen_on(proxy->port, &proxy->port);
    }
    proxy->refusing = proxy->refuse;
    for (size_t i = 0; proxy->cut_all && i < LINKS_MAX; i++)
        cut(&proxy->links[i]);
    proxy->cut_all = false;
}

static void *proxy_run(void *arg)
{
    struct pg_proxy *proxy = arg;
    while (!stop_is_set(&proxy->stop)) {
        struct pollfd fds[1 + 2 * LINKS_MAX];
        fds[0] = (struct pollfd){.fd = proxy->listener, .events = POLLIN};
        for (int i = 0; i < 2 * LINKS_MAX; i++) {
            struct link *link = &proxy->links[i / 2];
            fds[1 + i] =
                (struct pollfd){.fd = link->held ? -1 : link->fds[i % 2], .events = wanted(link, i % 2)};
        }
        (void)poll(fds, ARRAY_SIZE(fds), TURN_MS);
        (void)pthread_mutex_lock(&proxy->lock);
        for (int i = 0; i < 2 * LINKS_MAX; i++) {
            struct link *link = &proxy->links[i / 2];
            if (fds[1 + i].revents && !link->held && link->fds[i % 2] == fds[1 + i].fd)
                serve(proxy, link, i % 2, fds[1 + i].revents);
        }
        if (fds[0].revents)
            accept_one(proxy);
        follow_settings(proxy);
        (void)pthread_mutex_unlock(&proxy->lock);
    }
    return NULL;
}

struct pg_proxy *pg_proxy_new(int target_port)
{
    struct pg_proxy *proxy = xcalloc(1, sizeof(*proxy));
    proxy->target_port = target_port;
    proxy->listener = listen_on(0, &proxy->port);
    for (size_t i = 0; i < LINKS_MAX; i++)
        proxy->links[i] = (struct link){
            .fds = {-1, -1},
            .pending = {xcalloc(1, sizeof(struct pending)), xcalloc(1, sizeof(struct pending))},
        };
    stop_init(&proxy->stop);
    (void)pthread_mutex_init(&proxy->lock, NULL);
    int failed = pthread_create(&proxy->thread, NULL, proxy_run, proxy);
    assert(failed == 0);
    (void)failed;
    return proxy;
}

void pg_proxy_free(struct pg_proxy *proxy)
{
    if (!proxy)
        return;
    stop_set(&proxy->stop);
    (void)pthread_join(proxy->thread, NULL);
    for (size_t i = 0; i < LINKS_MAX; i++) {
        cut(&proxy->links[i]);
        free(proxy->links[i].pending[0]);
        free(proxy->links[i].pending[1]);
    }
    fd_close_p(&proxy->listener);
    stop_release(&proxy->stop);
    (void)pthread_mutex_destroy(&proxy->lock);
    free(proxy);
}

int pg_proxy_port(const struct pg_proxy *proxy)
{
    return proxy->port;
}

const char *pg_proxy_url(struct pg_proxy *proxy)
{
    (void)snprintf(proxy->url, sizeof(proxy->url), "postgresql://postgres@127.0.0.1:%d/postgres",
                   proxy->port);
    return proxy->url;
}

void pg_proxy_rule(struct pg_proxy *proxy, enum pg_proxy_direction direction, enum pg_proxy_action action,
                   const void *pattern, size_t len, const void *replacement)
{
    assert(len <= sizeof(proxy->pattern));
    (void)pthread_mutex_lock(&proxy->lock);
    proxy->direction = direction;
    proxy->action = action;
    proxy->pattern_len = len;
    memcpy(proxy->pattern, pattern, len);
    if (replacement)
        memcpy(proxy->replacement, replacement, len);
    proxy->rule_set = true;
    (void)pthread_mutex_unlock(&proxy->lock);
}

bool pg_proxy_rule_done(struct pg_proxy *proxy)
{
    (void)pthread_mutex_lock(&proxy->lock);
    bool done = !proxy->rule_set;
    (void)pthread_mutex_unlock(&proxy->lock);
    return done;
}

void pg_proxy_refuse(struct pg_proxy *proxy, bool refuse)
{
    (void)pthread_mutex_lock(&proxy->lock);
    proxy->refuse = refuse;
    while (proxy->refusing != refuse) {
        (void)pthread_mutex_unlock(&proxy->lock);
        (void)stop_wait(&proxy->stop, 1);
        (void)pthread_mutex_lock(&proxy->lock);
    }
    (void)pthread_mutex_unlock(&proxy->lock);
}

void pg_proxy_stall(struct pg_proxy *proxy, bool stall)
{
    (void)pthread_mutex_lock(&proxy->lock);
    proxy->stall = stall;
    (void)pthread_mutex_unlock(&proxy->lock);
}

void pg_proxy_cut_all(struct pg_proxy *proxy)
{
    (void)pthread_mutex_lock(&proxy->lock);
    proxy->cut_all = true;
    while (proxy->cut_all) {
        (void)pthread_mutex_unlock(&proxy->lock);
        (void)stop_wait(&proxy->stop, 1);
        (void)pthread_mutex_lock(&proxy->lock);
    }
    (void)pthread_mutex_unlock(&proxy->lock);
}

void pg_proxy_set_chaos(struct pg_proxy *proxy, const struct pg_proxy_chaos *chaos)
{
    (void)pthread_mutex_lock(&proxy->lock);
    proxy->chaos = *chaos;
    for (size_t i = 0; i < LINKS_MAX; i++) /* of those that are open too */
        proxy->links[i].bytes_left = 0;
    (void)pthread_mutex_unlock(&proxy->lock);
}

int pg_proxy_cuts(struct pg_proxy *proxy, int *ret_at_commit)
{
    (void)pthread_mutex_lock(&proxy->lock);
    int cuts = proxy->cuts;
    if (ret_at_commit)
        *ret_at_commit = proxy->commit_cuts;
    (void)pthread_mutex_unlock(&proxy->lock);
    return cuts;
}
