#include "operator/tests/support_fake_reply.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"

void fake_reply_init(struct fake_reply *reply, const struct fake_answer *answer)
{
    *reply = (struct fake_reply){
        .status = answer->status ? answer->status : 200,
        .match = xstrdup_or_null(answer->match),
        .headers = xstrdup(answer->headers ? answer->headers : ""),
        .body = xstrdup(answer->body ? answer->body : ""),
        .chunk_bytes = answer->chunk_bytes,
        .ending = answer->ending,
        .times = answer->times ? answer->times : 1,
    };
}

void fake_reply_copy(struct fake_reply *reply, const struct fake_reply *from)
{
    *reply = *from;
    reply->match = xstrdup_or_null(from->match);
    reply->headers = xstrdup(from->headers);
    reply->body = xstrdup(from->body);
}

void fake_reply_release(struct fake_reply *reply)
{
    free(reply->match);
    free(reply->headers);
    free(reply->body);
}

static bool send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        data += sent;
        len -= (size_t)sent;
    }
    return true;
}

bool fake_reply_send_chunk(int fd, const char *data, size_t len)
{
    CLEANUP_STRBUF struct strbuf chunk;
    strbuf_init(&chunk, FAKE_REQUEST_MAX_BYTES);
    strbuf_appendf(&chunk, "%zx\r\n", len);
    strbuf_append(&chunk, data, len);
    strbuf_append_str(&chunk, "\r\n");
    return send_all(fd, chunk.buf, chunk.len);
}

bool fake_reply_send_head(int fd, const struct fake_reply *reply, bool chunked)
{
    CLEANUP_STRBUF struct strbuf head;
    strbuf_init(&head, FAKE_REQUEST_MAX_BYTES);
    strbuf_appendf(&head, "HTTP/1.1 %d Fake\r\nContent-Type: application/json\r\n%s", reply->status,
                   reply->headers);
    if (chunked)
        strbuf_append_str(&head, "Transfer-Encoding: chunked\r\n\r\n");
    else
        strbuf_appendf(&head, "Content-Length: %zu\r\n\r\n",
                       strlen(reply->body) + (reply->ending != FAKE_END_CLEAN));
    return send_all(fd, head.buf, head.len);
}

bool fake_reply_send_body(int fd, const struct fake_reply *reply, bool chunked)
{
    size_t len = strlen(reply->body);
    if (!chunked)
        return send_all(fd, reply->body, len);
    size_t step = reply->chunk_bytes ? reply->chunk_bytes : len;
    for (size_t at = 0; at < len; at += step) {
        if (!fake_reply_send_chunk(fd, reply->body + at, len - at < step ? len - at : step))
            return false;
    }
    return true;
}
