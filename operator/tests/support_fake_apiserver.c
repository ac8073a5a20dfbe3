#include "operator/tests/support_fake_apiserver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operator/kube/kube_client_config.h"
#include "operator/kube/kube_transport_curl.h"
#include "operator/tests/support_fake_reply.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

struct scripted {
    TAILQ_ENTRY(scripted) link;
    struct fake_reply reply;
};

struct seen {
    TAILQ_ENTRY(seen) link;
    char *text;
};

struct connection {
    TAILQ_ENTRY(connection) link;
    struct fake_apiserver *server;
    pthread_t thread;
    int fd;
    char *line;            /* guarded by mu; first line of the request that hangs, or NULL */
    struct strbuf pending; /* guarded by mu; bytes pushed to it */
    bool end;              /* guarded by mu */
};

struct fake_apiserver {
    int listen_fd;
    char *url;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    bool stopping;                        /* guarded by mu */
    char *token;                          /* guarded by mu */
    TAILQ_HEAD(, scripted) answers;       /* guarded by mu */
    TAILQ_HEAD(, seen) requests;          /* guarded by mu; latest first */
    TAILQ_HEAD(, connection) connections; /* guarded by mu */
};

static void check(bool condition, const char *what)
{
    if (!condition) {
        perror(what);
        abort();
    }
}

/* ---- one answer ---- */

/* Passes on what is pushed until the end is pushed too, the server stops, or the peer has gone. */
static bool hang(struct connection *connection, const char *line)
{
    struct fake_apiserver *server = connection->server;
    bool is_open = true;
    pthread_mutex_lock(&server->mu);
    connection->line = xstrdup(line);
    pthread_cond_broadcast(&server->changed);
    while (is_open && !server->stopping && (connection->pending.len > 0 || !connection->end)) {
        if (connection->pending.len == 0) {
            pthread_cond_wait(&server->changed, &server->mu);
            continue;
        }
        CLEANUP_STRBUF struct strbuf out = connection->pending;
        strbuf_init(&connection->pending, FAKE_REQUEST_MAX_BYTES);
        pthread_mutex_unlock(&server->mu);
        is_open = fake_reply_send_chunk(connection->fd, out.buf, out.len);
        pthread_mutex_lock(&server->mu);
    }
    bool ended = connection->end;
    connection->end = false;
    free(steal_ptr(&connection->line));
    pthread_mutex_unlock(&server->mu);
    return is_open && ended && fake_reply_send_chunk(connection->fd, "", 0);
}

/* Whether the connection can take another request. */
static bool give(struct connection *connection, const char *line, const struct fake_reply *reply)
{
    bool chunked = reply->chunk_bytes > 0 || reply->ending == FAKE_END_HANG;
    if (!fake_reply_send_head(connection->fd, reply, chunked) ||
        !fake_reply_send_body(connection->fd, reply, chunked))
        return false;
    switch (reply->ending) {
    case FAKE_END_HANG:
        return hang(connection, line);
    case FAKE_END_HALF:
        return false;
    case FAKE_END_RESET: {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        return false;
    }
    default:
        return !chunked || fake_reply_send_chunk(connection->fd, "", 0);
    }
}

/* ---- choosing it ---- */

static void scripted_drop(struct fake_apiserver *server, struct scripted *scripted)
{
    TAILQ_REMOVE(&server->answers, scripted, link);
    fake_reply_release(&scripted->reply);
    free(scripted);
}

static bool token_fits(const char *token, const char *request)
{
    if (!token)
        return true;
    CLEANUP_FREE char *header = xasprintf("Authorization: Bearer %s\r\n", token);
    return strstr(request, header) != NULL;
}

static void status_reply(struct fake_reply *ret, int status, const char *reason, const char *line)
{
    CLEANUP_FREE char *body =
        xasprintf("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"code\":%d,"
                  "\"reason\":\"%s\",\"message\":\"fake: %s\"}",
                  status, reason, line);
    fake_reply_init(ret, &(struct fake_answer){.status = status, .body = body});
}

static void choose(struct fake_apiserver *server, const char *line, const char *request,
                   struct fake_reply *ret)
{
    if (!token_fits(server->token, request)) {
        status_reply(ret, 401, "Unauthorized", line);
        return;
    }
    struct scripted *scripted;
    TAILQ_FOREACH(scripted, &server->answers, link)
    {
        if (strstr(line, scripted->reply.match))
            break;
    }
    if (!scripted) {
        if (strstr(line, "watch=true"))
            fake_reply_init(ret, &(struct fake_answer){.ending = FAKE_END_HANG});
        else
            status_reply(ret, 404, "NotFound", line);
        return;
    }
    fake_reply_copy(ret, &scripted->reply);
    if (scripted->reply.times > 0 && --scripted->reply.times == 0)
        scripted_drop(server, scripted);
}

static bool serve(struct connection *connection, const char *request)
{
    struct fake_apiserver *server = connection->server;
    CLEANUP_FREE char *line = xstrndup(request, strcspn(request, "\r"));
    struct fake_reply reply;
    struct seen *seen = xcalloc(1, sizeof(*seen));
    seen->text = xstrdup(request);
    pthread_mutex_lock(&server->mu);
    TAILQ_INSERT_HEAD(&server->requests, seen, link);
    choose(server, line, request, &reply);
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mu);
    bool keep = give(connection, line, &reply);
    fake_reply_release(&reply);
    return keep;
}

/* ---- connections ---- */

/* Length of the request at the start of the buffer; 0: not whole yet. */
static size_t whole_request(const struct strbuf *in)
{
    const char *end = strstr(in->buf, "\r\n\r\n");
    if (!end)
        return 0;
    size_t head = (size_t)(end - in->buf) + 4;
    const char *header = strcasestr(in->buf, "\r\nContent-Length: ");
    int64_t body = 0;
    if (header && header < end) {
        const char *digits = header + strlen("\r\nContent-Length: ");
        check(parse_int64_n(digits, strcspn(digits, "\r"), 0, FAKE_REQUEST_MAX_BYTES, &body),
              "Content-Length");
    }
    return in->len >= head + (size_t)body ? head + (size_t)body : 0;
}

static void *connection_run(void *arg)
{
    struct connection *connection = arg;
    CLEANUP_STRBUF struct strbuf in;
    strbuf_init(&in, FAKE_REQUEST_MAX_BYTES);
    bool keep = true;
    while (keep) {
        size_t len = whole_request(&in);
        if (len > 0) {
            CLEANUP_FREE char *request = xstrndup(in.buf, len);
            strbuf_consume(&in, len);
            keep = serve(connection, request);
            continue;
        }
        char data[16384];
        ssize_t got = recv(connection->fd, data, sizeof(data), 0);
        if (got <= 0)
            break;
        strbuf_append(&in, data, (size_t)got);
    }
    pthread_mutex_lock(&connection->server->mu);
    close(connection->fd);
    connection->fd = -1;
    pthread_mutex_unlock(&connection->server->mu);
    return NULL;
}

static void *accept_run(void *arg)
{
    struct fake_apiserver *server = arg;
    for (;;) {
        int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        struct connection *connection = xcalloc(1, sizeof(*connection));
        connection->server = server;
        connection->fd = fd;
        strbuf_init(&connection->pending, FAKE_REQUEST_MAX_BYTES);
        pthread_mutex_lock(&server->mu);
        TAILQ_INSERT_TAIL(&server->connections, connection, link);
        check(pthread_create(&connection->thread, NULL, connection_run, connection) == 0, "pthread_create");
        pthread_mutex_unlock(&server->mu);
    }
}

struct fake_apiserver *fake_apiserver_start(void)
{
    struct fake_apiserver *server = xcalloc(1, sizeof(*server));
    TAILQ_INIT(&server->answers);
    TAILQ_INIT(&server->requests);
    TAILQ_INIT(&server->connections);
    pthread_mutex_init(&server->mu, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(server->listen_fd >= 0, "socket");
    check(bind(server->listen_fd, (struct sockaddr *)&address, size) == 0, "bind");
    check(listen(server->listen_fd, 64) == 0, "listen");
    check(getsockname(server->listen_fd, (struct sockaddr *)&address, &size) == 0, "getsockname");
    server->url = xasprintf("http://127.0.0.1:%d", (int)ntohs(address.sin_port));
    check(pthread_create(&server->thread, NULL, accept_run, server) == 0, "pthread_create");
    return server;
}

void fake_apiserver_stop(struct fake_apiserver *server)
{
    shutdown(server->listen_fd, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listen_fd);
    pthread_mutex_lock(&server->mu);
    server->stopping = true;
    pthread_cond_broadcast(&server->changed);
    struct connection *connection;
    TAILQ_FOREACH(connection, &server->connections, link)
    {
        if (connection->fd >= 0)
            shutdown(connection->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&server->mu);
    for (struct connection *next = TAILQ_FIRST(&server->connections); (connection = next);) {
        next = TAILQ_NEXT(connection, link);
        pthread_join(connection->thread, NULL);
        strbuf_release(&connection->pending);
        free(connection);
    }
    for (struct scripted *scripted = TAILQ_FIRST(&server->answers), *next; scripted; scripted = next) {
        next = TAILQ_NEXT(scripted, link);
        fake_reply_release(&scripted->reply);
        free(scripted);
    }
    for (struct seen *seen = TAILQ_FIRST(&server->requests), *next; seen; seen = next) {
        next = TAILQ_NEXT(seen, link);
        free(seen->text);
        free(seen);
    }
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->mu);
    free(server->token);
    free(server->url);
    free(server);
}

const char *fake_apiserver_url(const struct fake_apiserver *server)
{
    return server->url;
}

struct kube_client *fake_apiserver_client(const struct fake_apiserver *server, const char *token_file,
                                          const struct clock *clock, const struct stop *stop)
{
    CLEANUP(kube_client_config_free_p) struct kube_client_config *config = xcalloc(1, sizeof(*config));
    config->server = xstrdup(server->url);
    config->token_file = xstrdup_or_null(token_file);
    return kube_client_new_with_transport(
        kube_transport_curl_new(config, clock ? clock : &clock_system, stop));
}

/* ---- the script ---- */

void fake_apiserver_answer(struct fake_apiserver *server, const struct fake_answer *answer)
{
    struct scripted *scripted = xcalloc(1, sizeof(*scripted));
    fake_reply_init(&scripted->reply, answer);
    pthread_mutex_lock(&server->mu);
    TAILQ_INSERT_TAIL(&server->answers, scripted, link);
    pthread_mutex_unlock(&server->mu);
}

void fake_apiserver_forget(struct fake_apiserver *server, const char *match)
{
    pthread_mutex_lock(&server->mu);
    struct scripted *scripted = TAILQ_FIRST(&server->answers);
    while (scripted) {
        struct scripted *next = TAILQ_NEXT(scripted, link);
        if (strcmp(scripted->reply.match, match) == 0)
            scripted_drop(server, scripted);
        scripted = next;
    }
    pthread_mutex_unlock(&server->mu);
}

void fake_apiserver_require_token(struct fake_apiserver *server, const char *token)
{
    pthread_mutex_lock(&server->mu);
    free(server->token);
    server->token = xstrdup_or_null(token);
    pthread_mutex_unlock(&server->mu);
}

int fake_apiserver_push(struct fake_apiserver *server, const char *match, const char *text)
{
    int count = 0;
    pthread_mutex_lock(&server->mu);
    struct connection *connection;
    TAILQ_FOREACH(connection, &server->connections, link)
    {
        if (!connection->line || !strstr(connection->line, match))
            continue;
        count++;
        if (text[0])
            strbuf_append_str(&connection->pending, text);
        else
            connection->end = true;
    }
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mu);
    return count;
}

/* ---- what came ---- */

static bool line_contains(const char *request, const char *match)
{
    size_t len = strcspn(request, "\r");
    return memmem(request, len, match, strlen(match)) != NULL;
}

static int count_locked(struct fake_apiserver *server, const char *match)
{
    int count = 0;
    struct seen *seen;
    TAILQ_FOREACH(seen, &server->requests, link)
    count += line_contains(seen->text, match);
    return count;
}

int fake_apiserver_count(struct fake_apiserver *server, const char *match)
{
    pthread_mutex_lock(&server->mu);
    int count = count_locked(server, match);
    pthread_mutex_unlock(&server->mu);
    return count;
}

bool fake_apiserver_wait(struct fake_apiserver *server, const char *match, int count, int64_t timeout_ms)
{
    int64_t until_ms = clock_monotonic_ms() + timeout_ms;
    struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
    pthread_mutex_lock(&server->mu);
    int rc = 0;
    while (count_locked(server, match) < count && rc == 0)
        rc = pthread_cond_timedwait(&server->changed, &server->mu, &until);
    bool reached = count_locked(server, match) >= count;
    pthread_mutex_unlock(&server->mu);
    return reached;
}

char *fake_apiserver_request(struct fake_apiserver *server, const char *match)
{
    char *text = NULL;
    pthread_mutex_lock(&server->mu);
    struct seen *seen;
    TAILQ_FOREACH(seen, &server->requests, link)
    {
        if (!text && line_contains(seen->text, match))
            text = xstrdup(seen->text);
    }
    pthread_mutex_unlock(&server->mu);
    return text ? text : xstrdup("");
}
