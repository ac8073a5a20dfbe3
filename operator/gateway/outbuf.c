#include "operator/gateway/outbuf.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/base/mem.h"

void outbuf_release(struct outbuf *out)
{
    free(out->data);
    *out = (struct outbuf){0};
}

static ssize_t send_some(int fd, struct iovec *iov, int count)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    ssize_t sent;
    do {
        sent = count == 1 ? send(fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                          : sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return 0;
    }
    return sent;
}

void outbuf_keep(struct outbuf *out, const struct iovec *iov, int count, size_t skip)
{
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        total += iov[i].iov_len;
    }
    if (total == skip) {
        return;
    }
    size_t have = out->end - out->start;
    char *data = xmalloc(have + total - skip);
    if (have > 0) {
        memcpy(data, out->data + out->start, have);
    }
    free(out->data);
    *out = (struct outbuf){.data = data, .end = have};
    for (int i = 0; i < count; i++) {
        size_t offset = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        skip -= offset;
        memcpy(out->data + out->end, (char *)iov[i].iov_base + offset, iov[i].iov_len - offset);
        out->end += iov[i].iov_len - offset;
    }
}

void outbuf_sent(struct outbuf *out, size_t len)
{
    out->start += len;
    if (out->start == out->end) {
        outbuf_release(out);
    }
}

int outbuf_write(struct outbuf *out, int fd, struct iovec *iov, int count)
{
    ssize_t sent = 0;
    if (!outbuf_pending(out)) {
        sent = send_some(fd, iov, count);
        if (sent < 0) {
            return -1;
        }
    }
    outbuf_keep(out, iov, count, (size_t)sent);
    return 0;
}

int outbuf_flush(struct outbuf *out, int fd)
{
    while (outbuf_pending(out)) {
        struct iovec iov = {.iov_base = out->data + out->start, .iov_len = out->end - out->start};
        ssize_t sent = send_some(fd, &iov, 1);
        if (sent < 0) {
            return -1;
        }
        if (sent == 0) {
            return 0;
        }
        outbuf_sent(out, (size_t)sent);
    }
    return 0;
}
