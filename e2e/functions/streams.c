/* streams.c - an image of the tests' own: any program that fulfils what a Function's pod must, here one that streams.
 *
 * Listens on 8080 (the function) and 9090 (/readyz, /livez), one thread a connection:
 *   /ws                        a WebSocket that echoes messages, answers pings and closes when asked
 *   /sse?n=3&ms=100            n events, that long apart            /bytes?n=5[&chunked=1]    so many bytes
 *   /sink                      reads the body, answers its size     /trailers                 a body with trailers
 *   /slow?ms=100               waits, then answers
 * On SIGTERM it is not ready any more, serves what still comes for a second, and ends when nothing is in flight.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_BYTES_MAX    65536
#define PIECE_BYTES       65536
#define MESSAGE_BYTES_MAX (4 << 20)
#define QUIET_S           1
#define LEAVE_S           30

static atomic_bool leaving;
static atomic_int in_flight;

struct connection {
    int fd;
    bool admin;
    size_t have; /* in buffer, not consumed */
    char buffer[HEAD_BYTES_MAX];
    char head[HEAD_BYTES_MAX + 1];
};

/* ---- bytes ---- */

static bool send_all(struct connection *c, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t sent = send(c->fd, at, len, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        at += sent;
        len -= (size_t)sent;
    }
    return true;
}

static bool send_text(struct connection *c, const char *text)
{
    return send_all(c, text, strlen(text));
}

static bool fill(struct connection *c)
{
    ssize_t got = recv(c->fd, c->buffer + c->have, sizeof(c->buffer) - c->have, 0);
    if (got <= 0) {
        return false;
    }
    c->have += (size_t)got;
    return true;
}

static void consume(struct connection *c, size_t len)
{
    c->have -= len;
    memmove(c->buffer, c->buffer + len, c->have);
}

/* Exactly len bytes, to out or to nowhere. */
static bool take(struct connection *c, char *out, uint64_t len)
{
    while (len > 0) {
        if (c->have == 0 && !fill(c)) {
            return false;
        }
        size_t piece = len < c->have ? (size_t)len : c->have;
        if (out) {
            memcpy(out, c->buffer, piece);
            out += piece;
        }
        consume(c, piece);
        len -= piece;
    }
    return true;
}

static bool answer(struct connection *c, const char *status, const char *body)
{
    char text[512];
    bool bodyless = strncmp(c->head, "HEAD ", 5) == 0;
    snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s",
             status, strlen(body), bodyless ? "" : body);
    return send_text(c, text);
}

static long long number(const struct connection *c, const char *name, long long fallback)
{
    const char *at = strstr(c->head, name), *line_end = strstr(c->head, "\r\n");
    return at && at < line_end ? strtoll(at + strlen(name), NULL, 10) : fallback;
}

/* ---- SHA-1 of a short text, in base64: what a WebSocket is granted with ---- */

static uint32_t rotl(uint32_t x, int k)
{
    return (x << k) | (x >> (32 - k));
}

static void sha1_block(uint32_t state[5], const unsigned char *block)
{
    static const uint32_t constants[] = {0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6};
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 80; i++) {
        w[i] = i < 16 ? (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                            (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3]
                      : rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t f = i < 20   ? (b & c) | (~b & d)
                     : i < 40 ? b ^ c ^ d
                     : i < 60 ? (b & c) | (b & d) | (c & d)
                              : b ^ c ^ d;
        uint32_t next = rotl(a, 5) + f + e + constants[i / 20] + w[i];
        e = d;
        d = c;
        c = rotl(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

/* The key (24 characters) and the protocol's own suffix make 60 bytes: two blocks with the padding. */
static void accept_of(const char *key, char out[29])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char blocks[128] = {0}, sum[21] = {0};
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    memcpy(blocks, key, 24);
    memcpy(blocks + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    blocks[60] = 0x80;
    blocks[126] = 60 * 8 / 256;
    blocks[127] = 60 * 8 % 256;
    sha1_block(state, blocks);
    sha1_block(state, blocks + 64);
    for (int i = 0; i < 20; i++) {
        sum[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
    }
    for (int i = 0; i < 7; i++) {
        uint32_t bits = (uint32_t)sum[3 * i] << 16 | (uint32_t)sum[3 * i + 1] << 8 | sum[3 * i + 2];
        for (int j = 0; j < 4; j++) {
            out[4 * i + j] = digits[bits >> (18 - 6 * j) & 63];
        }
    }
    memcpy(out + 27, "=", 2);
}

/* ---- WebSocket ---- */

static bool send_frame(struct connection *c, int opcode, const char *data, uint64_t len)
{
    unsigned char head[10] = {(unsigned char)(0x80 | opcode)};
    int size = len < 126 ? 0 : len < 65536 ? 2 : 8;
    head[1] = size == 0 ? (unsigned char)len : size == 2 ? 126 : 127;
    for (int i = 0; i < size; i++) {
        head[2 + i] = (unsigned char)(len >> (8 * (size - 1 - i)));
    }
    return send_all(c, head, 2 + (size_t)size) && send_all(c, data, len);
}

/* One frame of the client's; false: it is over. */
static bool echo_frame(struct connection *c, char *message)
{
    unsigned char head[2], more[8], mask[4];
    if (!take(c, (char *)head, 2) || !(head[1] & 0x80) || !(head[0] & 0x80)) {
        return false; /* gone, not masked, or in parts */
    }
    int opcode = head[0] & 15, size = (head[1] & 127) == 126 ? 2 : (head[1] & 127) == 127 ? 8 : 0;
    uint64_t len = size == 0 ? head[1] & 127 : 0;
    if (!take(c, (char *)more, (uint64_t)size)) {
        return false;
    }
    for (int i = 0; i < size; i++) {
        len = len << 8 | more[i];
    }
    if (len > MESSAGE_BYTES_MAX || !take(c, (char *)mask, 4) || !take(c, message, len)) {
        return false;
    }
    for (uint64_t i = 0; i < len; i++) {
        message[i] ^= (char)mask[i % 4];
    }
    return send_frame(c, opcode == 9 ? 10 : opcode, message, len) && opcode != 8;
}

static bool websocket(struct connection *c)
{
    char accept[29], text[256];
    const char *key = strcasestr(c->head, "\r\nSec-WebSocket-Key: ");
    if (!key || !strcasestr(c->head, "\r\nUpgrade: websocket\r\n")) {
        return answer(c, "426 Upgrade Required", "a WebSocket is here");
    }
    accept_of(key + 21, accept);
    snprintf(text, sizeof(text),
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n\r\n",
             accept);
    char *message = malloc(MESSAGE_BYTES_MAX);
    bool goes_on = message && send_text(c, text);
    while (goes_on) {
        goes_on = echo_frame(c, message);
    }
    free(message);
    return false;
}

/* ---- HTTP ---- */

static void pause_ms(long long ms)
{
    usleep((useconds_t)ms * 1000);
}

static bool events(struct connection *c)
{
    bool sent = send_text(
        c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    long long count = number(c, "n=", 3), ms = number(c, "ms=", 100);
    for (long long i = 0; sent && i < count; i++) {
        char event[64], text[96];
        int len = snprintf(event, sizeof(event), "data: %lld\n\n", i);
        snprintf(text, sizeof(text), "%x\r\n%s\r\n", len, event);
        sent = send_text(c, text);
        pause_ms(ms);
    }
    return sent && send_text(c, "0\r\n\r\n");
}

static bool bytes(struct connection *c)
{
    static char piece[PIECE_BYTES];
    long long left = number(c, "n=", 0);
    bool chunked = number(c, "chunked=", 0) != 0;
    char text[128];
    snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n\r\n", left);
    bool sent = send_text(c, chunked ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" : text);
    while (sent && left > 0) {
        size_t len = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        snprintf(text, sizeof(text), "%zx\r\n", len);
        sent =
            (!chunked || send_text(c, text)) && send_all(c, piece, len) && (!chunked || send_text(c, "\r\n"));
        left -= (long long)len;
    }
    return sent && (!chunked || send_text(c, "0\r\n\r\n"));
}

/* The next chunk's size; -1: the connection ended. */
static long long chunk_size(struct connection *c)
{
    char *end;
    while (!(end = memmem(c->buffer, c->have, "\r\n", 2))) {
        if (!fill(c)) {
            return -1;
        }
    }
    long long size = strtoll(c->buffer, NULL, 16);
    consume(c, (size_t)(end - c->buffer) + 2);
    return size;
}

static bool sink(struct connection *c)
{
    const char *length = strcasestr(c->head, "\r\nContent-Length: ");
    long long total = length ? strtoll(length + 18, NULL, 10) : 0, size;
    bool got = true;
    if (strcasestr(c->head, "\r\nTransfer-Encoding: chunked")) {
        while ((size = chunk_size(c)) > 0 && take(c, NULL, (uint64_t)size + 2)) {
            total += size;
        }
        got = size == 0 && take(c, NULL, 2);
    } else {
        got = take(c, NULL, (uint64_t)total);
    }
    char text[32];
    snprintf(text, sizeof(text), "%lld", total);
    return got && answer(c, "200 OK", text);
}

static bool serve_path(struct connection *c)
{
    const char *path = strchr(c->head, ' ') + 1;
    if (c->admin) {
        bool away = strncmp(path, "/readyz", 7) == 0 && leaving;
        return answer(c, away ? "503 Service Unavailable" : "200 OK", away ? "leaving" : "ok");
    }
    if (strncmp(path, "/ws", 3) == 0) {
        return websocket(c);
    }
    if (strncmp(path, "/sse", 4) == 0) {
        return events(c);
    }
    if (strncmp(path, "/bytes", 6) == 0) {
        return bytes(c);
    }
    if (strncmp(path, "/sink", 5) == 0) {
        return sink(c);
    }
    if (strncmp(path, "/trailers", 9) == 0) {
        return send_text(c, "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
                            "4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n");
    }
    pause_ms(strncmp(path, "/slow", 5) == 0 ? number(c, "ms=", 100) : 0);
    return answer(c, "200 OK", "ok");
}

static bool read_head(struct connection *c)
{
    char *end;
    while (!(end = memmem(c->buffer, c->have, "\r\n\r\n", 4))) {
        if (c->have == sizeof(c->buffer) || !fill(c)) {
            return false;
        }
    }
    size_t len = (size_t)(end - c->buffer) + 4;
    memcpy(c->head, c->buffer, len);
    c->head[len] = '\0';
    consume(c, len);
    return strchr(c->head, ' ') != NULL;
}

static void *serve(void *arg)
{
    struct connection *c = arg;
    bool goes_on = true;
    while (goes_on && read_head(c)) {
        int counts = c->admin ? 0 : 1;
        in_flight += counts;
        goes_on = serve_path(c);
        in_flight -= counts;
    }
    close(c->fd);
    free(c);
    return NULL;
}

/* ---- listening, leaving ---- */

struct listener {
    int fd;
    bool admin;
};

static void *accept_all(void *arg)
{
    struct listener *listener = arg;
    for (;;) {
        int fd = accept(listener->fd, NULL, NULL), on = 1;
        struct connection *c = fd >= 0 ? calloc(1, sizeof(*c)) : NULL;
        pthread_t thread;
        if (!c) {
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        c->fd = fd;
        c->admin = listener->admin;
        if (pthread_create(&thread, NULL, serve, c) == 0) {
            pthread_detach(thread);
        } else {
            close(fd);
            free(c);
        }
    }
    return NULL;
}

static bool listen_on(struct listener *listener, int port, bool admin)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    pthread_t thread;
    listener->admin = admin;
    listener->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    return bind(listener->fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
           listen(listener->fd, 128) == 0 && pthread_create(&thread, NULL, accept_all, listener) == 0;
}

int main(void)
{
    static struct listener admin, function;
    sigset_t signals;
    int signal_number;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (!listen_on(&admin, 9090, true) || !listen_on(&function, 8080, false)) {
        perror("listen");
        return 1;
    }
    sigwait(&signals, &signal_number);
    leaving = true;
    sleep(QUIET_S);
    for (int i = 0; i < LEAVE_S * 10 && in_flight > 0; i++) {
        pause_ms(100);
    }
    return 0;
}
