#include "runtime/http/http_guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

/* CivetWeb asks for 100 KB, too little for handlers; stacks take memory only where they are touched. */
#ifdef __SANITIZE_THREAD__
#define STACK_MIN_BYTES (2u << 20) /* ThreadSanitizer keeps 0.8 MiB of its own on each stack */
#else
#define STACK_MIN_BYTES (1u << 20)
#endif

/* So long a wait looks at its socket alone: each further descriptor has a queue that all threads share, and the next request of a busy
 * client is there sooner. A stop is seen that much later. */
#define ALONE_MS 50

#define EXPORTED __attribute__((visibility("default")))

struct guard {
    bool active;
    bool thread_known; /* stop_fd is valid */
    bool expired;
    bool peer_closed;
    int stop_fd;
    int socket; /* of the last wait */
    int64_t deadline_ms;
    int64_t first_byte_timeout_ms; /* 0: the deadline stands */
    struct http_crowd *crowd;
    bool silent; /* nothing has come since http_guard_begin_idle() */
    int64_t silent_since_ms;
    bool yielded; /* closed a silent connection, and has not taken another one yet */
};

static _Thread_local struct guard guard;
static _Thread_local size_t stack_min_bytes;

void http_guard_thread_init(int stop_fd, struct http_crowd *crowd)
{
    guard = (struct guard){
        .thread_known = true, .stop_fd = stop_fd, .socket = -1, .deadline_ms = DEADLINE_NONE, .crowd = crowd};
}

void http_guard_taken(void)
{
    http_crowd_taken(guard.crowd, guard.yielded);
    guard.yielded = false;
}

static void begin(int64_t deadline_ms, int64_t first_byte_timeout_ms)
{
    guard.silent = false;
    guard.active = guard.thread_known;
    guard.expired = false;
    guard.peer_closed = false;
    guard.deadline_ms = deadline_ms;
    guard.first_byte_timeout_ms = first_byte_timeout_ms;
}

void http_guard_begin(int64_t deadline_ms)
{
    begin(deadline_ms, 0);
}

void http_guard_begin_idle(int64_t idle_deadline_ms, int64_t first_byte_timeout_ms)
{
    begin(idle_deadline_ms, first_byte_timeout_ms);
    guard.silent = true;
    guard.silent_since_ms = clock_coarse_ms();
}

void http_guard_end(void)
{
    guard.active = false;
}

bool http_guard_expired(void)
{
    return guard.expired;
}

bool http_guard_peer_closed(void)
{
    return guard.peer_closed;
}

int http_guard_socket(void)
{
    return guard.thread_known ? guard.socket : -1;
}

typedef int poll_fn(struct pollfd *fds, nfds_t count, int timeout_ms);
typedef int setstacksize_fn(pthread_attr_t *attr, size_t size);

/* What the program would have called without us. */
static union next_function {
    void *address; /* ISO C knows no conversion from this to a function; POSIX promises that it works */
    poll_fn *poll;
    setstacksize_fn *setstacksize;
} next_poll, next_setstacksize;

static pthread_once_t next_once = PTHREAD_ONCE_INIT;

static void find_next(void)
{
    next_poll.address = dlsym(RTLD_NEXT, "poll");
    next_setstacksize.address = dlsym(RTLD_NEXT, "pthread_attr_setstacksize");
}

static int plain_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    pthread_once(&next_once, find_next);
    return next_poll.poll(fds, count, timeout_ms);
}

/* Waits for the socket. -1: the server stops, or the connection is silent and gives way. */
static int wait_for_socket(struct pollfd *socket)
{
    struct pollfd fds[3] = {
        {.fd = socket->fd, .events = (short)(socket->events | POLLRDHUP)},
        {.fd = guard.stop_fd, .events = POLLIN},
        {.events = POLLIN},
    };
    for (bool alone = true;; alone = false) {
        int64_t now_ms = clock_coarse_ms(), may_yield_ms = guard.silent_since_ms + HTTP_CROWD_SILENT_MS;
        bool young = guard.silent && now_ms < may_yield_ms && may_yield_ms < guard.deadline_ms;
        int left_ms = deadline_left_at_ms(young ? may_yield_ms : guard.deadline_ms, now_ms);
        alone = alone && (left_ms < 0 || left_ms > ALONE_MS);
        fds[2].fd = guard.silent && !young ? guard.crowd->event_fd : -1;
        if (plain_poll(fds, alone ? 1 : 3, alone ? ALONE_MS : left_ms) < 0) {
            return -1;
        }
        if (fds[1].revents) {
            errno = ECANCELED;
            return -1;
        }
        socket->revents = fds[0].revents;
        if (fds[0].revents || guard.deadline_ms <= clock_coarse_ms()) {
            return 0;
        }
        if (fds[2].revents && http_crowd_yield(guard.crowd)) {
            guard.yielded = true;
            errno = ECONNABORTED;
            return -1;
        }
    }
}

static int guarded_poll(struct pollfd *caller)
{
    struct pollfd fds[1] = {*caller};
    guard.socket = caller->fd;
    if (wait_for_socket(&fds[0]) < 0) {
        return -1;
    }
    guard.peer_closed |= (fds[0].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
    int64_t now_ms = clock_coarse_ms();
    /* The deadline comes before readiness: a peer that sends a byte now and then is always ready. */
    if (guard.deadline_ms <= now_ms) {
        guard.expired = true;
        if (caller->events & POLLOUT) {
            /* CivetWeb would go on trying to send. */
            shutdown(caller->fd, SHUT_RDWR);
        }
        errno = ETIMEDOUT;
        return -1;
    }
    guard.silent = guard.silent && !fds[0].revents;
    if (guard.first_byte_timeout_ms > 0 && fds[0].revents) {
        guard.deadline_ms = now_ms + guard.first_byte_timeout_ms;
        guard.first_byte_timeout_ms = 0;
    }
    /* The end of the peer's side counts as readable: recv() will say 0. */
    caller->revents = (short)(fds[0].revents & (caller->events | POLLERR | POLLHUP | POLLNVAL));
    if ((fds[0].revents & POLLRDHUP) && (caller->events & POLLIN)) {
        caller->revents |= POLLIN;
    }
    return caller->revents ? 1 : 0;
}

/* Is the program's poll(), also for libcivetweb: hence the export. Under a name of its own here, because the C library's
 * declaration of poll() tells the compiler that it reads nothing of *fds. */
EXPORTED int guard_poll(struct pollfd *fds, nfds_t count, int timeout_ms) __asm__("poll");

int guard_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    return guard.active && count == 1 ? guarded_poll(fds) : plain_poll(fds, count, timeout_ms);
}

void http_guard_stack_bytes(size_t bytes)
{
    stack_min_bytes = bytes;
}

/* Likewise the program's: only here is it seen how many connections CivetWeb has taken in. */
EXPORTED int accept(int fd, struct sockaddr *addr, socklen_t *addr_len)
{
    int accepted = accept4(fd, addr, addr_len, SOCK_CLOEXEC);
    if (accepted >= 0 && guard.crowd) {
        http_crowd_accepted(guard.crowd);
    }
    return accepted;
}

/* Likewise the program's. CivetWeb has no option for the size of its threads' stacks. */
EXPORTED int pthread_attr_setstacksize(pthread_attr_t *attr, size_t size)
{
    pthread_once(&next_once, find_next);
    size_t least = stack_min_bytes > STACK_MIN_BYTES ? stack_min_bytes : STACK_MIN_BYTES;
    return next_setstacksize.setstacksize(attr, size < least ? least : size);
}
