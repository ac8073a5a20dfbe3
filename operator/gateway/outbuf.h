/* outbuf.h - bytes that a socket did not take yet.
 *
 * Who writes stops reading its source while outbuf_pending(): so what is kept is at most one reading's worth, and an
 * empty buffer costs no memory.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_GATEWAY_OUTBUF_H
#define CICADA_GATEWAY_OUTBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct outbuf {
    char *data;
    size_t start, end;
};

static inline bool outbuf_pending(const struct outbuf *out)
{
    return out->data != NULL;
}

void outbuf_release(struct outbuf *out);
/* Sends what the socket takes and keeps the rest. -1: the connection is broken (errno). iov is used up. */
int outbuf_write(struct outbuf *out, int fd, struct iovec *iov, int count);
int outbuf_flush(struct outbuf *out, int fd);

/* ---- for a transport that sends by itself ---- */
/* Keeps what iov names, without its first `skip` bytes. */
void outbuf_keep(struct outbuf *out, const struct iovec *iov, int count, size_t skip);
/* That many bytes have left. */
void outbuf_sent(struct outbuf *out, size_t len);

#endif
