#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operator/tests/support_gateway_upstream_internal.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

#define PIECE_SIZE 65536

/* ---- bytes ---- */

static bool send_all(struct upstream_connection *connection, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(connection->fd, data, len, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        data += sent;
        len -= (size_t)sent;
    }
    return true;
}

static bool send_text(struct upstream_connection *connection, const char *text)
{
    return send_all(connection, text, strlen(text));
}

static void note(struct upstream_connection *connection, const char *text, size_t len)
{
    struct test_upstream *upstream = connection->upstream;
    pthread_mutex_lock(&upstream->mu);
    if (upstream->heard.cap > 0 && (upstream->heard.len > 0 || text[0] != '\n')) {
        strbuf_append(&upstream->heard, text, len);
    }
    pthread_mutex_unlock(&upstream->mu);
}

/* Method and target, and each line that says how long the body is. */
static void note_head(struct upstream_connection *connection)
{
    const char *line = connection->head, *end;
    const char *version = strstr(line, " HTTP/1.1\r\n");
    note(connection, "\n", 1); /* between two of them */
    note(connection, line, version ? (size_t)(version - line) : strlen(line));
    while ((end = strstr(line, "\r\n")) && end != line) {
        size_t len = (size_t)(end - line);
        if (strncasecmp(line, "content-length", 14) == 0 || strncasecmp(line, "transfer-encoding", 17) == 0) {
            note(connection, " [", 2);
            note(connection, line, len);
            note(connection, "]", 1);
        }
        line = end + 2;
    }
    note(connection, " ", 1);
}

/* A request begins. */
static void work_begins(struct upstream_connection *connection)
{
    struct test_upstream *upstream = connection->upstream;
    const char *number = strstr(connection->head, "?n=");
    pthread_mutex_lock(&upstream->mu);
    upstream->in_flight++;
    upstream->requests++;
    connection->idle = false;
    if (upstream->in_flight > upstream->in_flight_max) {
        upstream->in_flight_max = upstream->in_flight;
    }
    if (number && number < strchr(connection->head, '\n') &&
        upstream->order_count < TEST_UPSTREAM_ORDER_MAX) {
        upstream->order[upstream->order_count++] = (int)strtol(number + 3, NULL, 10);
    }
    pthread_mutex_unlock(&upstream->mu);
    note_head(connection);
}

/* It ends: before the last byte of the answer leaves, or the gateway's next request would count beside it. */
static void work_ends(struct upstream_connection *connection)
{
    struct test_upstream *upstream = connection->upstream;
    pthread_mutex_lock(&upstream->mu);
    upstream->in_flight -= !connection->idle;
    connection->idle = true;
    pthread_mutex_unlock(&upstream->mu);
}

static bool answer(struct upstream_connection *connection, const char *status, const char *extra,
                   const char *body, size_t len)
{
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 64u << 20);
    strbuf_appendf(&out, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n", status, len, extra);
    strbuf_append(&out, body, len);
    work_ends(connection);
    return send_all(connection, out.buf, out.len);
}

/* More into buffer; false: the peer has gone. */
static bool fill(struct upstream_connection *connection)
{
    ssize_t got =
        recv(connection->fd, connection->buffer + connection->have, UPSTREAM_HEAD_MAX - connection->have, 0);
    if (got <= 0) {
        return false;
    }
    connection->have += (size_t)got;
    return true;
}

static void consume(struct upstream_connection *connection, size_t len)
{
    connection->have -= len;
    memmove(connection->buffer, connection->buffer + len, connection->have);
}

static long long header_number(const char *head, const char *name)
{
    const char *at = strcasestr(head, name);
    return at ? strtoll(at + strlen(name), NULL, 10) : -2;
}

static bool read_head(struct upstream_connection *connection)
{
    char *end;
    while (!(end = memmem(connection->buffer, connection->have, "\r\n\r\n", 4))) {
        if (!fill(connection)) {
            return false;
        }
    }
    connection->head_len = (size_t)(end - connection->buffer) + 4;
    memcpy(connection->head, connection->buffer, connection->head_len);
    connection->head[connection->head_len] = '\0';
    consume(connection, connection->head_len);
    connection->left = header_number(connection->head, "\r\nContent-Length:");
    if (connection->left < 0) {
        connection->left = strcasestr(connection->head, "\r\nTransfer-Encoding: chunked") ? -1 : 0;
    }
    connection->body_bytes = 0;
    connection->body_sum = 0;
    return true;
}

/* A piece of the body, from plain or chunked framing, to `out` (PIECE_SIZE); 0: it is complete, -1: gone. */
static ssize_t read_piece(struct upstream_connection *connection, char *out)
{
    long long want = connection->left;
    if (want == -1) {
        char *end;
        while (!(end = memmem(connection->buffer, connection->have, "\r\n", 2))) {
            if (!fill(connection)) {
                return -1;
            }
        }
        want = strtoll(connection->buffer, NULL, 16);
        consume(connection, (size_t)(end - connection->buffer) + 2);
        assert(want <= PIECE_SIZE);
    }
    size_t take = want < PIECE_SIZE ? (size_t)want : PIECE_SIZE;
    bool chunked = connection->left == -1;
    size_t need = take + (chunked ? 2 : 0), got = 0;
    char crlf[2];
    while (got < need) {
        if (connection->have == 0 && !fill(connection)) {
            return -1;
        }
        size_t here = need - got < connection->have ? need - got : connection->have;
        for (size_t i = 0; i < here; i++) {
            *(got + i < take ? &out[got + i] : &crlf[got + i - take]) = connection->buffer[i];
        }
        consume(connection, here);
        got += here;
        if (!chunked) {
            need = take = got; /* what is there is a piece */
        }
    }
    assert(!chunked || memcmp(crlf, "\r\n", 2) == 0);
    if (!chunked) {
        connection->left -= (long long)take;
    }
    connection->body_bytes += (long long)take;
    note(connection, out, take);
    for (size_t i = 0; i < take; i++) {
        connection->body_sum = connection->body_sum * 31 + (unsigned char)out[i];
    }
    return (ssize_t)take;
}

static bool read_body(struct upstream_connection *connection, struct strbuf *out)
{
    CLEANUP_FREE char *piece = xmalloc(PIECE_SIZE);
    ssize_t got = 1;
    while (connection->left != 0 && (got = read_piece(connection, piece)) > 0) {
        if (out) {
            strbuf_append(out, piece, (size_t)got);
        }
    }
    return got >= 0;
}

/* ---- what the paths do ---- */

static bool stream_answer(struct upstream_connection *connection, long long count, long long size,
                          bool chunked)
{
    CLEANUP_FREE char *piece = xmalloc((size_t)size + 32);
    char line[32];
    int line_len = chunked ? snprintf(line, sizeof(line), "%llx\r\n", size) : 0;
    memcpy(piece, line, (size_t)line_len);
    memset(piece + line_len, 'x', (size_t)size);
    if (chunked) {
        memcpy(piece + line_len + size, "\r\n", 2);
    }
    size_t len = (size_t)line_len + (size_t)size + (chunked ? 2 : 0);
    for (long long i = 0; i < count; i++) {
        if (!send_all(connection, piece, len)) {
            return false;
        }
    }
    return !chunked || send_text(connection, "0\r\n\r\n");
}

static bool send_size(struct upstream_connection *connection, long long size)
{
    char head[128];
    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n\r\n", size);
    return send_text(connection, head) && stream_answer(connection, size / PIECE_SIZE, PIECE_SIZE, false) &&
           stream_answer(connection, 1, size % PIECE_SIZE, false);
}

static bool duplex(struct upstream_connection *connection)
{
    CLEANUP_FREE char *piece = xmalloc(PIECE_SIZE + 32);
    ssize_t got = 0;
    if (!send_text(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")) {
        return false;
    }
    while (connection->left != 0 && (got = read_piece(connection, piece)) > 0) {
        char line[32];
        int len = snprintf(line, sizeof(line), "%zx\r\n", (size_t)got);
        memcpy(piece + got, "\r\n", 2);
        if (!send_all(connection, line, (size_t)len) || !send_all(connection, piece, (size_t)got + 2)) {
            return false;
        }
    }
    return got >= 0 && send_text(connection, "0\r\n\r\n");
}

static bool wait_for_end(struct upstream_connection *connection)
{
    struct pollfd fds[] = {{.fd = connection->fd, .events = POLLRDHUP},
                           {.fd = stop_fd(&connection->upstream->stop), .events = POLLIN}};
    (void)poll(fds, 2, 60000);
    return false;
}

static bool answer_count(struct upstream_connection *connection)
{
    char text[64];
    if (!read_body(connection, NULL)) {
        return false;
    }
    int len = snprintf(text, sizeof(text), "%lld %u", connection->body_bytes, connection->body_sum);
    return answer(connection, "200 OK", "", text, (size_t)len);
}

static bool answer_echo(struct upstream_connection *connection)
{
    CLEANUP_STRBUF struct strbuf body;
    strbuf_init(&body, 64u << 20);
    return read_body(connection, &body) && answer(connection, "200 OK", "", body.buf, body.len);
}

/* ---- WebSockets that were granted ---- */

static const char granted[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: "
                              "keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                              "Sec-WebSocket-Protocol: chat\r\n\r\n";

static bool tunnel_echo(struct upstream_connection *connection)
{
    do {
        if (!send_all(connection, connection->buffer, connection->have)) {
            return false;
        }
        connection->have = 0;
    } while (fill(connection));
    return false;
}

static bool tunnel_count(struct upstream_connection *connection)
{
    char text[64];
    do {
        connection->body_bytes += (long long)connection->have;
        connection->have = 0;
    } while (fill(connection));
    snprintf(text, sizeof(text), "%lld", connection->body_bytes);
    (void)send_text(connection, text);
    return false;
}

static bool tunnel_send(struct upstream_connection *connection, long long size)
{
    if (stream_answer(connection, size / PIECE_SIZE, PIECE_SIZE, false) &&
        stream_answer(connection, 1, size % PIECE_SIZE, false)) {
        shutdown(connection->fd, SHUT_WR);
        (void)tunnel_count(connection);
    }
    pthread_mutex_lock(&connection->upstream->mu);
    connection->upstream->tunnel_bytes = connection->body_bytes;
    pthread_mutex_unlock(&connection->upstream->mu);
    return false;
}

static void pass_gate(struct test_upstream *upstream)
{
    pthread_mutex_lock(&upstream->mu);
    while (upstream->gate == 0 && !stop_is_set(&upstream->stop)) {
        pthread_cond_wait(&upstream->changed, &upstream->mu);
    }
    upstream->gate--;
    pthread_mutex_unlock(&upstream->mu);
}

static void upstream_reset(struct upstream_connection *connection)
{
    struct linger hard = {.l_onoff = 1};
    pthread_mutex_lock(&connection->upstream->mu);
    setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(connection->fd);
    connection->fd = -1;
    pthread_mutex_unlock(&connection->upstream->mu);
}

static bool serve_tunnel(struct upstream_connection *connection, const char *what)
{
    if (str_starts_with(what, "greet")) {
        CLEANUP_FREE char *both = xasprintf("%shello", granted);
        return send_text(connection, both) && tunnel_echo(connection);
    }
    if (!send_text(connection, granted)) {
        return false;
    }
    if (str_starts_with(what, "head")) {
        return send_all(connection, connection->head, connection->head_len) && tunnel_echo(connection);
    }
    if (str_starts_with(what, "send/")) {
        return tunnel_send(connection, strtoll(what + 5, NULL, 10));
    }
    if (str_starts_with(what, "count")) {
        return tunnel_count(connection);
    }
    if (str_starts_with(what, "stall")) {
        pass_gate(connection->upstream);
        return tunnel_count(connection);
    }
    if (str_starts_with(what, "reset")) {
        (void)fill(connection);
        upstream_reset(connection);
        return false;
    }
    return str_starts_with(what, "close") ? false : tunnel_echo(connection);
}

static long long path_number(const char *path, int which)
{
    for (int i = 0; i <= which && path; i++) {
        path = strchr(path + 1, '/');
    }
    return path ? strtoll(path + 1, NULL, 10) : 0;
}

/* Each returns whether the connection goes on. */
static bool serve_path(struct upstream_connection *connection, const char *path)
{
    struct test_upstream *upstream = connection->upstream;
    char status[32];
    if (str_starts_with(path, "/count")) {
        return answer_count(connection);
    }
    if (str_starts_with(path, "/duplex")) {
        return duplex(connection);
    }
    if (str_starts_with(path, "/early")) {
        return answer(connection, "413 Too Large", "Connection: close\r\n", "early", 5) && false;
    }
    if (str_starts_with(path, "/drop")) {
        return false;
    }
    if (str_starts_with(path, "/hang")) {
        return wait_for_end(connection);
    }
    if (str_starts_with(path, "/echo")) {
        return answer_echo(connection);
    }
    if (!read_body(connection, NULL)) {
        return false;
    }
    if (str_starts_with(path, "/head")) {
        return answer(connection, "200 OK", "X-Up: 1\r\n", connection->head, connection->head_len);
    }
    if (str_starts_with(path, "/sleep/")) {
        (void)stop_wait(&upstream->stop, path_number(path, 0));
    } else if (str_starts_with(path, "/status/")) {
        snprintf(status, sizeof(status), "%lld S", path_number(path, 0));
        return answer(connection, status, "", "s", path_number(path, 0) == 204 ? 0 : 1);
    } else if (str_starts_with(path, "/size/")) {
        return send_size(connection, path_number(path, 0));
    } else if (str_starts_with(path, "/chunks/")) {
        return send_text(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n") &&
               stream_answer(connection, path_number(path, 0), path_number(path, 1), true);
    } else if (str_starts_with(path, "/open/")) {
        return send_text(connection, "HTTP/1.1 200 OK\r\n\r\n") &&
               stream_answer(connection, 1, path_number(path, 0), false) && false;
    } else if (str_starts_with(path, "/close")) {
        return answer(connection, "200 OK", "Connection: close\r\n", "close", 5) && false;
    } else if (str_starts_with(path, "/part")) {
        return send_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart") && false;
    } else if (str_starts_with(path, "/raw")) {
        pthread_mutex_lock(&upstream->mu);
        CLEANUP_FREE char *raw = xstrdup(upstream->raw);
        pthread_mutex_unlock(&upstream->mu);
        bool sent = send_text(connection, raw);
        if (str_starts_with(path, "/raw/late")) {
            work_ends(connection);
            (void)stop_wait(&upstream->stop, 30);
            return send_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
        }
        if (str_starts_with(path, "/raw/reset")) {
            upstream_reset(connection);
        }
        return sent && path[4] != '/';
    } else if (str_starts_with(path, "/gate")) {
        pass_gate(upstream);
        return answer(connection, "200 OK", "", "gate", 4);
    } else if (str_starts_with(path, "/ws/")) {
        return serve_tunnel(connection, path + 4);
    }
    return answer(connection, "200 OK", "", "ok", str_starts_with(connection->head, "HEAD") ? 0 : 2);
}

void *upstream_serve(void *arg)
{
    struct upstream_connection *connection = arg;
    struct test_upstream *upstream = connection->upstream;
    bool goes_on = true;
    while (goes_on && read_head(connection)) {
        work_begins(connection);
        const char *path = strchr(connection->head, ' ') + 1;
        goes_on = serve_path(connection, path);
        work_ends(connection);
    }
    pthread_mutex_lock(&upstream->mu);
    if (connection->fd >= 0) {
        shutdown(connection->fd, SHUT_WR);
        close(connection->fd);
    }
    connection->fd = -1;
    connection->done = true;
    upstream->open--;
    pthread_mutex_unlock(&upstream->mu);
    return NULL;
}
