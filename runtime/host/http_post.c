#include "runtime/host/http_post.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

#define REQUEST_MAX_BYTES 8192u

static int wait_for(int fd, short events, const struct stop *stop, int64_t deadline_ms, struct err *err)
{
    struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = stop_fd(stop), .events = POLLIN}};
    int ready;

    do
        ready = poll(fds, 2, deadline_left_ms(deadline_ms));
    while (ready < 0 && errno == EINTR);
    if (ready < 0)
        return err_set_errno(err, errno, "poll");
    if (fds[1].revents != 0)
        return err_set(err, ERR_CANCELLED, "stopped");
    if (ready == 0)
        return err_set(err, ERR_TIMEOUT, "no answer in time");
    return 0;
}

static int connect_to(int fd, const struct http_post *post, const struct stop *stop, struct err *err)
{
    int failure = 0;
    socklen_t size = sizeof(failure);

    if (connect(fd, (const struct sockaddr *)&post->address, sizeof(post->address)) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return err_set_errno(err, errno, "connect");
    if (wait_for(fd, POLLOUT, stop, clock_monotonic_ms() + post->connect_timeout_ms, err) != 0)
        return -1;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) != 0)
        failure = errno;
    if (failure != 0)
        return err_set_errno(err, failure, "connect");
    return 0;
}

static int send_all(int fd, const struct strbuf *text, const struct stop *stop, int64_t deadline_ms,
                    struct err *err)
{
    size_t sent = 0;

    while (sent < text->len) {
        ssize_t n = send(fd, text->buf + sent, text->len - sent, MSG_NOSIGNAL);
        if (n >= 0)
            sent += (size_t)n;
        else if (errno == EAGAIN) {
            if (wait_for(fd, POLLOUT, stop, deadline_ms, err) != 0)
                return -1;
        } else if (errno != EINTR)
            return err_set_errno(err, errno, "send");
    }
    return 0;
}

/* "HTTP/1.1 200 OK\r\n" */
static int parse_status(const char *line, size_t len, int *ret_status, struct err *err)
{
    int64_t status;

    if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || line[8] != ' ' ||
        !parse_int64_n(line + 9, 3, 100, 599, &status))
        return err_set(err, ERR_INVALID, "the answer is not HTTP");
    *ret_status = (int)status;
    return 0;
}

static int parse_gateways(const char *head)
{
    static const char name[] = "\r\nX-Cicada-Gateways:";
    const char *at = strcasestr(head, name);
    int64_t gateways;

    if (at == NULL)
        return 0;
    at += sizeof(name) - 1;
    at += strspn(at, " ");
    if (!parse_int64_n(at, strcspn(at, "\r"), 1, HTTP_POST_GATEWAYS_MAX, &gateways))
        return 0;
    return (int)gateways;
}

/* Reads on until `end` is among what came. */
static int read_until(int fd, const char *end, struct strbuf *answer, const struct stop *stop,
                      int64_t deadline_ms, struct err *err)
{
    char piece[256];

    while (strstr(answer->buf, end) == NULL) {
        ssize_t n = recv(fd, piece, sizeof(piece), 0);
        if (n > 0) {
            if (strbuf_append(answer, piece, (size_t)n) != 0)
                return err_set(err, ERR_INVALID, "the answer is not HTTP");
        } else if (n == 0)
            return err_set(err, ERR_IO, "the connection was closed without an answer");
        else if (errno == EAGAIN) {
            if (wait_for(fd, POLLIN, stop, deadline_ms, err) != 0)
                return -1;
        } else if (errno != EINTR)
            return err_set_errno(err, errno, "recv");
    }
    return 0;
}

/* What follows the head does not matter, the connection is closed. Nor does a head that does not end: the status is there. */
static int read_answer(int fd, const struct stop *stop, int64_t deadline_ms,
                       struct http_post_answer *ret_answer, struct err *err)
{
    CLEANUP_STRBUF struct strbuf text;
    struct err ignored = ERR_INIT;

    strbuf_init(&text, HTTP_POST_ANSWER_MAX_BYTES);
    *ret_answer = (struct http_post_answer){0};
    if (read_until(fd, "\n", &text, stop, deadline_ms, err) != 0 ||
        parse_status(text.buf, text.len, &ret_answer->status, err) != 0)
        return -1;
    if (read_until(fd, "\r\n\r\n", &text, stop, deadline_ms, &ignored) == 0) {
        *strstr(text.buf, "\r\n\r\n") = '\0';
        ret_answer->gateways = parse_gateways(text.buf);
    }
    return 0;
}

int http_post_send(const struct http_post *post, const struct stop *stop, struct http_post_answer *ret_answer,
                   struct err *err)
{
    CLEANUP_FD int fd = -1;
    CLEANUP_STRBUF struct strbuf request;
    int64_t deadline_ms;

    strbuf_init(&request, REQUEST_MAX_BYTES);
    strbuf_appendf(&request,
                   "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                   "Connection: close\r\n\r\n%s",
                   post->path, post->host, strlen(post->body), post->body);
    if (strbuf_failed(&request))
        return err_set(err, ERR_TOO_LARGE, "the request is larger than %u bytes", REQUEST_MAX_BYTES);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "socket");
    if (connect_to(fd, post, stop, err) != 0)
        return -1;
    deadline_ms = clock_monotonic_ms() + post->answer_timeout_ms;
    if (send_all(fd, &request, stop, deadline_ms, err) != 0)
        return -1;
    return read_answer(fd, stop, deadline_ms, ret_answer, err);
}
