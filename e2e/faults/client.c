/* client.c - a load client that accounts for every single request. `client --help` says how it is used.
 *
 * Open loop: request k is due at a moment that the plan fixes, whatever became of those before, and its latency counts from then.
 * One thread and epoll; connections are either fresh (one request, Connection: close) or kept, the last one used first, as a client's
 * pool does. What a pool must do when the server has closed a kept connection under a request is an option (--again), and counted.
 *
 * A line of CSV for each request, when it is over:
 *   number,due_us,connected_us,sent_us,done_us,method,kind,port,target,attempts,refused,status,outcome
 * Times are CLOCK_MONOTONIC. kind: fresh, new (the first request of a kept connection) or reused. target: which of the addresses.
 * attempts: how often the request was sent. refused: connections that were refused before. outcome: ok, or why not.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client_options.h"

#define IN_BYTES      8192
#define OUT_BYTES     1024
#define EVENTS        256
#define OUTCOME_BYTES 64
#define LOOK_US       100000 /* how often overdue requests are looked for */
#define ATTEMPTS_MAX  2

struct request {
    uint64_t number;
    int64_t due_us, sent_us;
    bool get, keep;
    int attempts, refused;
};

struct conn {
    LIST_ENTRY(conn) link; /* of the idle or of the busy ones */
    int fd, target, port;
    bool connecting, reused, closed;
    int64_t connected_us;
    struct request *request; /* NULL: idle */
    size_t in_len;
    char in[IN_BYTES + 1];
};

LIST_HEAD(conn_list, conn);

static struct client_options options;

static struct {
    int epoll;
    FILE *out;
    struct conn_list idle, busy, dead;
    uint64_t begun, over, ok, failed, again, refused, idle_closed;
    int64_t start_us;
    int next_target;
} client;

static volatile sig_atomic_t stopping;

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

/* ---- the end of a request ---- */

static void drop_conn(struct conn *conn)
{
    LIST_REMOVE(conn, link);
    close(conn->fd);
    conn->closed = true;
    LIST_INSERT_HEAD(&client.dead, conn, link); /* events of this turn may still name it */
}

static void end_request(struct request *request, const struct conn *conn, int status, const char *outcome)
{
    const char *kind = !request->keep ? "fresh" : conn && conn->reused ? "reused" : "new";
    bool ok = strcmp(outcome, "ok") == 0;

    fprintf(client.out, "%llu,%lld,%lld,%lld,%lld,%s,%s,%d,%d,%d,%d,%d,%s\n",
            (unsigned long long)request->number, (long long)request->due_us,
            conn ? (long long)conn->connected_us : 0LL, (long long)request->sent_us, (long long)now_us(),
            request->get ? "GET" : "POST", kind, conn ? conn->port : 0, conn ? conn->target : -1,
            request->attempts, request->refused, status, outcome);
    client.over++;
    client.ok += ok;
    client.failed += !ok;
    free(request);
}

static const char *errno_name(int number)
{
    const char *name = strerrorname_np(number);

    return name ? name : "errno";
}

/* ---- sending ---- */

static void open_conn(struct request *request, int target);

static bool send_request(struct conn *conn)
{
    struct request *request = conn->request;
    char out[OUT_BYTES];
    int len = snprintf(out, sizeof(out),
                       "%s %s%cid=%s-%llu HTTP/1.1\r\nHost: %s\r\nX-Request-Id: %s-%llu\r\n%s%s\r\n",
                       request->get ? "GET" : "POST", options.path, strchr(options.path, '?') ? '&' : '?',
                       options.prefix, (unsigned long long)request->number, options.host, options.prefix,
                       (unsigned long long)request->number, request->get ? "" : "Content-Length: 0\r\n",
                       request->keep ? "" : "Connection: close\r\n");

    request->attempts++;
    request->sent_us = now_us();
    conn->in_len = 0;
    return send(conn->fd, out, (size_t)len, MSG_NOSIGNAL) == len;
}

/* The connection broke under a request. A kept one that was closed before any byte of the answer may have been closed before the
 * request came: with --again it is sent once more, on a new connection. */
static void broken(struct conn *conn, const char *how)
{
    struct request *request = conn->request;
    bool silent = conn->in_len == 0, reused = conn->reused;
    char outcome[OUTCOME_BYTES];

    if (options.again && reused && silent && request->attempts < ATTEMPTS_MAX) {
        drop_conn(conn);
        client.again++;
        open_conn(request, client.next_target++);
        return;
    }
    snprintf(outcome, sizeof(outcome), "%s%s", how, silent ? "" : " within the answer");
    end_request(request, conn, 0, outcome);
    drop_conn(conn);
}

static void refused(struct conn *conn, int number)
{
    struct request *request = conn->request;
    int target = conn->target;
    char outcome[OUTCOME_BYTES];

    request->refused++;
    client.refused++;
    if (options.elsewhere && request->refused < options.target_count) {
        drop_conn(conn);
        open_conn(request, target + 1);
        return;
    }
    snprintf(outcome, sizeof(outcome), "connect %s", errno_name(number));
    end_request(request, conn, 0, outcome);
    drop_conn(conn);
}

static void connected(struct conn *conn)
{
    struct sockaddr_in own = {0};
    socklen_t len = sizeof(own);
    int number = 0, yes = 1;
    socklen_t number_len = sizeof(number);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};

    getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &number, &number_len);
    if (number != 0) {
        refused(conn, number);
        return;
    }
    getsockname(conn->fd, (struct sockaddr *)&own, &len);
    conn->port = ntohs(own.sin_port);
    conn->connecting = false;
    conn->connected_us = now_us();
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    epoll_ctl(client.epoll, EPOLL_CTL_MOD, conn->fd, &event);
    if (!send_request(conn))
        broken(conn, errno_name(errno));
}

/* Opens a connection for the request, which is over if that can't even begin. */
static void open_conn(struct request *request, int target)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = conn};

    if (!conn)
        abort();
    conn->target = target % options.target_count;
    conn->request = request;
    conn->connecting = true;
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    LIST_INSERT_HEAD(&client.busy, conn, link);
    if (conn->fd < 0 || (connect(conn->fd, (struct sockaddr *)&options.targets[conn->target],
                                 sizeof(options.targets[0])) < 0 &&
                         errno != EINPROGRESS)) {
        refused(conn, errno);
        return;
    }
    epoll_ctl(client.epoll, EPOLL_CTL_ADD, conn->fd, &event);
}

static void begin_request(int64_t due_us)
{
    struct request *request = calloc(1, sizeof(*request));
    struct conn *conn = LIST_FIRST(&client.idle);

    if (!request)
        abort();
    request->number = client.begun++;
    request->due_us = due_us;
    /* Multipliers that have no factor in common with 100 spread the kinds evenly over any stretch of requests. */
    request->keep = (int)(request->number * 37 % 100) < options.keep_percent;
    request->get = (int)(request->number * 61 % 100) < options.get_percent;
    if (!request->keep || !conn) {
        open_conn(request, client.next_target++);
        return;
    }
    LIST_REMOVE(conn, link);
    LIST_INSERT_HEAD(&client.busy, conn, link);
    conn->reused = true;
    conn->request = request;
    if (!send_request(conn))
        broken(conn, errno_name(errno));
}

/* ---- answers ---- */

/* The value of a header in a head that ends in an empty line, or NULL. */
static const char *header(const char *head, const char *name)
{
    const char *line = head;
    size_t len = strlen(name);

    while ((line = strstr(line, "\r\n")) && line[2] != '\r') {
        line += 2;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':')
            return line + len + 1 + strspn(line + len + 1, " ");
    }
    return NULL;
}

/* Whether the answer is complete; how long the head is, and its body. */
static bool is_complete(struct conn *conn, size_t *ret_head, size_t *ret_body)
{
    const char *end = strstr(conn->in, "\r\n\r\n"), *length;

    if (!end)
        return false;
    *ret_head = (size_t)(end - conn->in) + 4;
    length = header(conn->in, "Content-Length");
    *ret_body = length ? strtoul(length, NULL, 10) : 0;
    return conn->in_len >= *ret_head + *ret_body;
}

/* ok, or the problem's code; an answer that is not this request's is none. */
static void judge(const struct request *request, int status, const char *body, char outcome[OUTCOME_BYTES])
{
    const char *code = strstr(body, "\"code\":\"");
    char id[OUTCOME_BYTES];

    snprintf(id, sizeof(id), "\"%s-%llu\"", options.prefix, (unsigned long long)request->number);
    if (status >= 200 && status < 300)
        snprintf(outcome, OUTCOME_BYTES, "%s", strstr(body, id) ? "ok" : "another's answer");
    else if (code)
        snprintf(outcome, OUTCOME_BYTES, "%d %.*s", status, (int)strcspn(code + 8, "\""), code + 8);
    else
        snprintf(outcome, OUTCOME_BYTES, "%d", status);
}

static void answered(struct conn *conn, size_t head, size_t body)
{
    struct request *request = conn->request;
    const char *close_option = header(conn->in, "Connection");
    bool keep = request->keep && !(close_option && strncasecmp(close_option, "close", 5) == 0) &&
                conn->in_len == head + body;
    char outcome[OUTCOME_BYTES];
    int status = (int)strtol(conn->in + strcspn(conn->in, " "), NULL, 10);

    judge(request, status, conn->in + head, outcome);
    end_request(request, conn, status, outcome);
    conn->request = NULL;
    if (!keep) {
        drop_conn(conn);
        return;
    }
    LIST_REMOVE(conn, link);
    LIST_INSERT_HEAD(&client.idle, conn, link);
}

static void readable(struct conn *conn)
{
    ssize_t got = recv(conn->fd, conn->in + conn->in_len, IN_BYTES - conn->in_len, 0);
    size_t head, body;

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (!conn->request) { /* the server closed it between two requests */
        client.idle_closed++;
        drop_conn(conn);
        return;
    }
    if (got <= 0) {
        broken(conn, got == 0 ? "closed" : errno_name(errno));
        return;
    }
    conn->in_len += (size_t)got;
    conn->in[conn->in_len] = '\0';
    if (is_complete(conn, &head, &body))
        answered(conn, head, body);
    else if (conn->in_len == IN_BYTES)
        broken(conn, "too long an answer");
}

/* ---- the loop ---- */

static void begin_due(void)
{
    while (!stopping && (options.count == 0 || client.begun < (uint64_t)options.count)) {
        int64_t due_us = client.start_us + (int64_t)(client_options_due_s(&options, client.begun) * 1e6);
        if (due_us > now_us())
            return;
        begin_request(due_us);
    }
}

static void end_overdue(void)
{
    int64_t now = now_us();
    struct conn *conn = LIST_FIRST(&client.busy), *next;

    for (; conn; conn = next) {
        next = LIST_NEXT(conn, link);
        if (now - conn->request->due_us > options.timeout_us) {
            end_request(conn->request, conn, 0, conn->connecting ? "connect timeout" : "timeout");
            drop_conn(conn);
        }
    }
}

static int wait_ms(void)
{
    int64_t left_us;

    if (stopping || (options.count > 0 && client.begun == (uint64_t)options.count))
        return LOOK_US / 1000;
    left_us = client.start_us + (int64_t)(client_options_due_s(&options, client.begun) * 1e6) - now_us();
    if (left_us <= 0)
        return 0;
    return left_us > LOOK_US ? LOOK_US / 1000 : (int)((left_us + 999) / 1000);
}

static bool is_over(void)
{
    bool all_begun = stopping || (options.count > 0 && client.begun == (uint64_t)options.count);

    return all_begun && client.over == client.begun;
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    int64_t looked_us = now_us();

    client.start_us = looked_us;
    while (!is_over()) {
        int count = epoll_wait(client.epoll, events, EVENTS, wait_ms());
        for (int i = 0; i < count; i++) {
            struct conn *conn = events[i].data.ptr;
            if (!conn->closed && conn->connecting)
                connected(conn);
            else if (!conn->closed)
                readable(conn);
        }
        begin_due();
        if (now_us() - looked_us >= LOOK_US) {
            looked_us = now_us();
            end_overdue();
            fflush(client.out);
        }
        while (!LIST_EMPTY(&client.dead)) {
            struct conn *conn = LIST_FIRST(&client.dead);
            LIST_REMOVE(conn, link);
            free(conn);
        }
    }
}

/* ---- start ---- */

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct rlimit files;

    if (!client_options_parse(&options, argc, argv))
        return 2;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    client.out = stdout;
    client.epoll = epoll_create1(EPOLL_CLOEXEC);
    run();
    fprintf(
        stderr,
        "{\"sent\":%llu,\"ok\":%llu,\"failed\":%llu,\"again\":%llu,\"refused\":%llu,\"idleClosed\":%llu}\n",
        (unsigned long long)client.begun, (unsigned long long)client.ok, (unsigned long long)client.failed,
        (unsigned long long)client.again, (unsigned long long)client.refused,
        (unsigned long long)client.idle_closed);
    return fflush(client.out) == 0 ? 0 : 1;
}
