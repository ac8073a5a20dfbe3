/* open_loop.c - open_loop ADDRESS PORT HOST RATE SECONDS: requests at a fixed rate, whatever becomes of those before.
 *
 * The k-th request is due at k/RATE, and its latency counts from then: if the server stalls, all that would have been sent
 * meanwhile are late, and are counted so (no coordinated omission). A request takes the connection that came free last, of
 * CONNECTIONS that are open from the start; without one it waits. The first tenth of the requests does not count.
 * Prints JSON: {"requests","p50_us","p99_us","p999_us","max_us","errors"}. A request unanswered at the end is an error.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#define CONNECTIONS  64
#define LATE_NS      INT64_C(2000000000) /* so long after the last is due, it ends */
#define ANSWER_BYTES 4096

struct connection {
    int fd;
    size_t got;
    int64_t due_ns;
    char answer[ANSWER_BYTES];
};

static struct connection connections[CONNECTIONS];
static int idle[CONNECTIONS], idle_count; /* the last used is used next: as few as will do are in use */
static int epoll_fd;
static char request[1024];
static size_t request_len;
static int64_t *latencies_ns;
static long done, errors;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void open_connection(int i, const struct sockaddr_in *to)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0) {
        die("connect");
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        die("epoll_ctl");
    }
    connections[i].fd = fd;
    idle[idle_count++] = i;
}

static void send_request(int64_t due_ns)
{
    struct connection *connection = &connections[idle[--idle_count]];
    connection->due_ns = due_ns;
    connection->got = 0;
    if (send(connection->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len) {
        die("send");
    }
}

/* Whether the answer is there as a whole. Answers have a Content-Length. */
static bool is_complete(const struct connection *connection)
{
    const char *end = strstr(connection->answer, "\r\n\r\n");
    const char *length = strcasestr(connection->answer, "\r\ncontent-length:");
    if (!end || !length || length > end) {
        return false;
    }
    size_t body = strtoul(length + strlen("\r\ncontent-length:"), NULL, 10);
    return connection->got >= (size_t)(end + 4 - connection->answer) + body;
}

static void read_answer(int i)
{
    struct connection *connection = &connections[i];
    ssize_t got =
        recv(connection->fd, connection->answer + connection->got, ANSWER_BYTES - 1 - connection->got, 0);
    if (got <= 0) {
        die("the server closed a connection");
    }
    connection->got += (size_t)got;
    connection->answer[connection->got] = '\0';
    if (is_complete(connection)) {
        errors += strncmp(connection->answer, "HTTP/1.1 200", 12) != 0;
        latencies_ns[done++] = now_ns() - connection->due_ns;
        idle[idle_count++] = i;
    }
}

static void wait_events(int64_t until_ns)
{
    struct epoll_event events[CONNECTIONS];
    int64_t left_ns = until_ns - now_ns();
    struct timespec timeout = {.tv_sec = left_ns > 0 ? left_ns / 1000000000 : 0,
                               .tv_nsec = left_ns > 0 ? left_ns % 1000000000 : 0};
    int count = epoll_pwait2(epoll_fd, events, CONNECTIONS, &timeout, NULL);
    if (count < 0 && errno != EINTR) {
        die("epoll_pwait2");
    }
    for (int i = 0; i < count; i++) {
        read_answer((int)events[i].data.u32);
    }
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(long count, double part)
{
    long at = (long)((double)count * part);
    return count > 0 ? (double)latencies_ns[at < count ? at : count - 1] / 1e3 : 0.0;
}

/* 0: it is no number from 1 to most. */
static long number(const char *text, long most)
{
    char *end;
    long value = strtol(text, &end, 10);
    return end > text && *end == '\0' && value >= 1 && value <= most ? value : 0;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: open_loop ADDRESS PORT HOST RATE SECONDS\n");
        return 2;
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number(argv[2], 65535))};
    long rate = number(argv[4], 1000000), total = rate * number(argv[5], 3600), sent = 0;
    if (inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 || to.sin_port == 0 || total < 1) {
        fprintf(stderr, "open_loop: bad arguments\n");
        return 2;
    }
    request_len =
        (size_t)snprintf(request, sizeof(request),
                         "GET /?id=1 HTTP/1.1\r\nHost: %s\r\n"
                         "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
                         argv[3]);
    latencies_ns = calloc((size_t)total, sizeof(*latencies_ns));
    epoll_fd = epoll_create1(0);
    if (!latencies_ns || epoll_fd < 0) {
        die("open_loop");
    }
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); /* else a wait is 50 us longer than asked for */
    for (int i = CONNECTIONS - 1; i >= 0; i--) {
        open_connection(i, &to);
    }
    int64_t start_ns = now_ns(), end_ns = start_ns + total * 1000000000 / rate + LATE_NS;
    while (done < total && now_ns() < end_ns) {
        int64_t due_ns = start_ns + sent * 1000000000 / rate;
        while (sent < total && idle_count > 0 && now_ns() >= due_ns) {
            send_request(due_ns);
            sent++;
            due_ns = start_ns + sent * 1000000000 / rate;
        }
        wait_events(sent < total && idle_count > 0 ? due_ns : end_ns);
    }
    errors += total - done;
    long skipped = done / 10, counted = done - skipped;
    latencies_ns += skipped;
    qsort(latencies_ns, (size_t)counted, sizeof(*latencies_ns), compare);
    printf("{\"requests\":%ld,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,\"errors\":%"
           "ld}\n",
           counted, percentile_us(counted, 0.5), percentile_us(counted, 0.99), percentile_us(counted, 0.999),
           percentile_us(counted, 1.0), errors);
    return 0;
}
