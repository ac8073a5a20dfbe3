#include "runtime/tests/support_http_load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/mem.h"

#define ANSWER_MS    30000
#define BATCH_MAX    16
#define BUFFER_MAX   (1u << 20)
#define PATTERN_SIZE 65536

struct sent {
    uint64_t id;
    size_t body_len;
    size_t pattern_at; /* where in the pattern the body begins */
};

static bool failed(struct http_load *load, const char *what)
{
    snprintf(load->error, sizeof(load->error), "%s after %lld answers: %.300s", what, load->answered,
             load->received.buf);
    return false;
}

void http_load_init(struct http_load *load, int port, uint64_t seed)
{
    *load = (struct http_load){.port = port, .random = seed * 2654435761u + 88172645463325252u, .fd = -1};
    strbuf_init(&load->received, BUFFER_MAX);
    strbuf_init(&load->sending, BUFFER_MAX);
}

static void disconnect(struct http_load *load)
{
    if (load->fd >= 0)
        close(load->fd);
    load->fd = -1;
    strbuf_clear(&load->received);
}

void http_load_release(struct http_load *load)
{
    disconnect(load);
    strbuf_release(&load->received);
    strbuf_release(&load->sending);
}

/* xorshift64: the same seed gives the same run. */
uint64_t http_load_random(struct http_load *load, uint64_t below)
{
    load->random ^= load->random << 13;
    load->random ^= load->random >> 7;
    load->random ^= load->random << 17;
    return load->random % below;
}

/* Bytes of a body: a piece of a fixed text that repeats nowhere in phase. */
static char pattern_byte(size_t at)
{
    return (char)(1 + (at * 2654435761u >> 7) % 251);
}

static bool connect_anew(struct http_load *load)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load->port)};
    int one = 1;

    disconnect(load);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    load->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(load->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        return failed(load, strerror(errno));
    (void)setsockopt(load->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    load->connects++;
    return true;
}

static void append_body(struct http_load *load, const struct sent *sent, bool chunked)
{
    for (size_t i = 0; i < sent->body_len;) {
        size_t step = sent->body_len - i;
        if (chunked && step > 1 + sent->pattern_at % 4000)
            step = 1 + sent->pattern_at % 4000;
        if (chunked)
            strbuf_appendf(&load->sending, "%zx\r\n", step);
        for (size_t end = i + step; i < end; i++)
            strbuf_append_char(&load->sending, pattern_byte(sent->pattern_at + i));
        if (chunked)
            strbuf_append_str(&load->sending, "\r\n");
    }
    if (chunked)
        strbuf_append_str(&load->sending, "0\r\n\r\n");
}

static void append_request(struct http_load *load, struct sent *sent, bool close_after)
{
    bool small = http_load_random(load, 4) > 0, chunked = http_load_random(load, 5) == 0;

    sent->id = http_load_random(load, UINT64_MAX);
    sent->body_len = http_load_random(load, small ? 200 : HTTP_LOAD_BODY_MAX);
    sent->pattern_at = http_load_random(load, PATTERN_SIZE);
    strbuf_appendf(&load->sending,
                   "POST /?do=body HTTP/1.1\r\nHost: soak\r\nContent-Type: application/octet-stream\r\n"
                   "X-Request-Id: %016llx\r\n%s",
                   (unsigned long long)sent->id, close_after ? "Connection: close\r\n" : "");
    if (chunked)
        strbuf_append_str(&load->sending, "Transfer-Encoding: chunked\r\n\r\n");
    else
        strbuf_appendf(&load->sending, "Content-Length: %zu\r\n\r\n", sent->body_len);
    append_body(load, sent, chunked);
}

/* Sends what is to be sent and takes what comes meanwhile: neither side waits for the other. */
static bool exchange(struct http_load *load, size_t *sent, size_t wanted)
{
    while (load->received.len < wanted) {
        bool more = *sent < load->sending.len;
        struct pollfd fd = {.fd = load->fd, .events = (short)(POLLIN | (more ? POLLOUT : 0))};
        if (poll(&fd, 1, ANSWER_MS) != 1)
            return failed(load, "no answer in time");
        if (fd.revents & POLLOUT) {
            ssize_t put = send(load->fd, load->sending.buf + *sent, load->sending.len - *sent,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
            if (put < 0 && errno != EAGAIN) /* what has arrived is still to be read */
                put = (ssize_t)(load->sending.len - *sent);
            *sent += put > 0 ? (size_t)put : 0;
        }
        if (fd.revents & ~POLLOUT) {
            ssize_t got = recv(load->fd, strbuf_reserve(&load->received, 65536), 65536, 0);
            if (got <= 0)
                return failed(load, got == 0 ? "closed" : strerror(errno));
            strbuf_advance(&load->received, (size_t)got);
        }
    }
    return true;
}

static size_t header_number(const char *head, const char *name)
{
    const char *at = strcasestr(head, name);
    return at ? strtoul(at + strlen(name), NULL, 10) : SIZE_MAX;
}

static bool body_is_right(const char *body, const struct sent *sent)
{
    for (size_t i = 0; i < sent->body_len; i++) {
        if (body[i] != pattern_byte(sent->pattern_at + i))
            return false;
    }
    return true;
}

/* The next answer; it must be this one's. */
static bool take_answer(struct http_load *load, const struct sent *sent, size_t *sent_bytes, bool *ret_close)
{
    struct strbuf *received = &load->received;
    char id[48];
    char *end;
    size_t head_len;

    while ((end = strstr(received->buf, "\r\n\r\n")) == NULL) {
        if (!exchange(load, sent_bytes, received->len + 1))
            return false;
    }
    head_len = (size_t)(end - received->buf) + 4;
    *end = '\0';
    snprintf(id, sizeof(id), "X-Request-Id: %016llx", (unsigned long long)sent->id);
    if (strncmp(received->buf, "HTTP/1.1 200 ", 13) != 0 || strcasestr(received->buf, id) == NULL ||
        header_number(received->buf, "\r\nContent-Length:") != sent->body_len)
        return failed(load, "a wrong answer");
    *ret_close = strcasestr(received->buf, "\r\nConnection: close") != NULL;
    *end = '\r';
    if (!exchange(load, sent_bytes, head_len + sent->body_len))
        return false;
    if (!body_is_right(received->buf + head_len, sent))
        return failed(load, "a wrong body");
    strbuf_consume(received, head_len + sent->body_len);
    load->answered++;
    return true;
}

bool http_load_run(struct http_load *load, const struct http_load_batch *batch)
{
    struct sent sent[BATCH_MAX];
    size_t sent_bytes = 0;
    int count = batch->requests < BATCH_MAX ? batch->requests : BATCH_MAX;
    bool closes = false;

    if (load->fd < 0 && !connect_anew(load))
        return false;
    strbuf_clear(&load->sending);
    for (int i = 0; i < count; i++)
        append_request(load, &sent[i], batch->close_at_end && i == count - 1);
    for (int i = 0; i < count && !closes; i++) {
        if (!take_answer(load, &sent[i], &sent_bytes, &closes))
            return false;
    }
    if (batch->close_at_end && !closes)
        return failed(load, "the connection was to be closed");
    if (closes)
        disconnect(load);
    else if (load->received.len != 0)
        return failed(load, "bytes that nobody asked for");
    return true;
}

bool http_load_abandon(struct http_load *load)
{
    struct sent ignored;

    if (!connect_anew(load))
        return false;
    strbuf_clear(&load->sending);
    append_request(load, &ignored, /* close_after= */ false);
    append_request(load, &ignored, /* close_after= */ true);
    (void)!send(load->fd, load->sending.buf, 1 + http_load_random(load, load->sending.len), MSG_NOSIGNAL);
    disconnect(load);
    return true;
}
