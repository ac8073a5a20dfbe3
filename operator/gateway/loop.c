#include "operator/gateway/loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define LOOP_EVENTS_PER_TURN 256
#define LOOP_TIMERS_PER_TURN 64 /* each may refuse a request or open a connection: tens of microseconds */
#define LOOP_POSTS_PER_TURN  64 /* likewise, of each kind */

STAILQ_HEAD(post_list, loop_post);

struct post_queue {
    struct post_list posted; /* guarded by loop->mu */
    struct post_list taken;  /* their turn has not come yet */
};

struct loop {
    int epoll_fd;
    struct loop_watch wakeup; /* eventfd */
    struct heap timers;
    int64_t now_ms;
    struct post_list deferred;
    pthread_t thread;    /* written at the start of loop_run(), see running */
    atomic_bool running; /* thread is valid */
    atomic_bool stopping;
    pthread_mutex_t mu;
    struct post_queue posts, patient;
    bool signalled; /* guarded by mu: the eventfd was written since posts were last taken */
};

static void drain_wakeup(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    uint64_t count;
    /* Nothing to do about a failure: the descriptor is only a bell. */
    if (read(watch->fd, &count, sizeof(count)) < 0) {
        return;
    }
}

static void post_queue_init(struct post_queue *queue)
{
    STAILQ_INIT(&queue->posted);
    STAILQ_INIT(&queue->taken);
}

int loop_new(struct loop **ret_loop, struct err *err)
{
    struct loop *loop = xcalloc(1, sizeof(*loop));
    post_queue_init(&loop->posts);
    post_queue_init(&loop->patient);
    STAILQ_INIT(&loop->deferred);
    heap_init(&loop->timers);
    pthread_mutex_init(&loop->mu, NULL);
    loop->wakeup.fd = -1;
    loop->now_ms = clock_monotonic_ms();
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        err_set_errno(err, errno, "epoll_create1");
        goto fail;
    }
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        err_set_errno(err, errno, "eventfd");
        goto fail;
    }
    if (loop_watch_open(loop, &loop->wakeup, fd, EPOLLIN, drain_wakeup, err) < 0) {
        goto fail;
    }
    *ret_loop = loop;
    return 0;
fail:
    loop_free(loop);
    return -1;
}

void loop_free(struct loop *loop)
{
    if (!loop) {
        return;
    }
    loop_watch_close(loop, &loop->wakeup);
    if (loop->epoll_fd >= 0) {
        close(loop->epoll_fd);
    }
    heap_release(&loop->timers);
    pthread_mutex_destroy(&loop->mu);
    free(loop);
}

int64_t loop_now_ms(const struct loop *loop)
{
    return loop->now_ms;
}

/* ---- watches ---- */

int loop_watch_open(struct loop *loop, struct loop_watch *watch, int fd, uint32_t events,
                    void (*ready)(struct loop_watch *watch, uint32_t events), struct err *err)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int code = errno;
        close(fd);
        return err_set_errno(err, code, "epoll_ctl");
    }
    *watch = (struct loop_watch){.fd = fd, .events = events, .ready = ready};
    return 0;
}

void loop_watch_set(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
    if (watch->fd < 0 || watch->events == events) {
        return;
    }
    /* Errors and hang-ups are reported whatever one asks for: who wants nothing must not be listed at all. */
    int operation = events == 0 ? EPOLL_CTL_DEL : watch->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    struct epoll_event event = {.events = events, .data.ptr = watch};
    int result = epoll_ctl(loop->epoll_fd, operation, watch->fd, &event);
    assert(result == 0);
    (void)result;
    watch->events = events;
}

int loop_watch_detach(struct loop *loop, struct loop_watch *watch)
{
    int fd = watch->fd;
    loop_watch_set(loop, watch, 0);
    watch->fd = -1;
    return fd;
}

void loop_watch_close(struct loop *loop, struct loop_watch *watch)
{
    if (watch->fd >= 0) {
        /* Closing alone would not do: a child on its way to exec may have a copy, and its events would meet freed memory. */
        loop_watch_set(loop, watch, 0);
        close(watch->fd);
        watch->fd = -1;
    }
}

/* ---- timers ---- */

void loop_timer_init(struct loop_timer *timer, void (*fire)(struct loop_timer *timer))
{
    heap_node_init(&timer->node);
    timer->deadline_ms = DEADLINE_NONE;
    timer->fire = fire;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t deadline_ms)
{
    timer->deadline_ms = deadline_ms;
    if (heap_contains(&timer->node)) {
        if (timer->node.key <= deadline_ms) {
            return; /* it comes up too early and is put back then: most timers never get that far */
        }
        heap_remove(&loop->timers, &timer->node);
    }
    heap_insert(&loop->timers, &timer->node, deadline_ms);
}

void loop_timer_cancel(struct loop_timer *timer)
{
    timer->deadline_ms = DEADLINE_NONE;
}

void loop_timer_close(struct loop *loop, struct loop_timer *timer)
{
    timer->deadline_ms = DEADLINE_NONE;
    heap_remove(&loop->timers, &timer->node);
}

static void fire_timers(struct loop *loop, int most)
{
    struct heap_node *node;
    while (most > 0 && (node = heap_min(&loop->timers)) && node->key <= loop->now_ms) {
        struct loop_timer *timer = container_of(node, struct loop_timer, node);
        heap_remove(&loop->timers, node);
        if (timer->deadline_ms == DEADLINE_NONE) {
            continue;
        }
        if (timer->deadline_ms > loop->now_ms) {
            heap_insert(&loop->timers, node, timer->deadline_ms);
            continue;
        }
        timer->deadline_ms = DEADLINE_NONE;
        timer->fire(timer);
        most--;
    }
}

/* ---- posts ---- */

static bool on_own_thread(const struct loop *loop)
{
    return atomic_load_explicit(&loop->running, memory_order_acquire) &&
           pthread_equal(loop->thread, pthread_self());
}

static void ring_bell(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t written = write(loop->wakeup.fd, &one, sizeof(one));
    assert(written == sizeof(one));
    (void)written;
}

static void post_to(struct loop *loop, struct post_queue *queue, struct loop_post *post)
{
    /* A loop that posts to itself looks at its posts before it sleeps: no bell needed. */
    bool own = on_own_thread(loop);
    pthread_mutex_lock(&loop->mu);
    STAILQ_INSERT_TAIL(&queue->posted, post, link);
    bool ring = !own && !loop->signalled;
    loop->signalled |= ring;
    pthread_mutex_unlock(&loop->mu);
    if (ring) {
        ring_bell(loop);
    }
}

void loop_post(struct loop *loop, struct loop_post *post)
{
    post_to(loop, &loop->posts, post);
}

void loop_post_patient(struct loop *loop, struct loop_post *post)
{
    post_to(loop, &loop->patient, post);
}

void loop_defer(struct loop *loop, struct loop_post *post)
{
    STAILQ_INSERT_TAIL(&loop->deferred, post, link);
}

static void run_list(struct post_list *list, int most)
{
    struct loop_post *post;
    while (most-- > 0 && (post = STAILQ_FIRST(list))) {
        STAILQ_REMOVE_HEAD(list, link);
        post->run(post);
    }
}

static void run_posts(struct loop *loop, int most)
{
    pthread_mutex_lock(&loop->mu);
    STAILQ_CONCAT(&loop->posts.taken, &loop->posts.posted);
    STAILQ_CONCAT(&loop->patient.taken, &loop->patient.posted);
    loop->signalled = false;
    pthread_mutex_unlock(&loop->mu);
    run_list(&loop->posts.taken, most);
    run_list(&loop->patient.taken, most);
}

/* loop->mu held. */
static bool has_any(const struct post_queue *queue)
{
    return !STAILQ_EMPTY(&queue->posted) || !STAILQ_EMPTY(&queue->taken);
}

static bool has_posts(struct loop *loop)
{
    pthread_mutex_lock(&loop->mu);
    bool any = has_any(&loop->posts) || has_any(&loop->patient);
    pthread_mutex_unlock(&loop->mu);
    return any;
}

/* ---- turns ---- */

static int wait_ms(struct loop *loop, int limit_ms)
{
    if (has_posts(loop)) {
        return 0;
    }
    struct heap_node *node = heap_min(&loop->timers);
    if (!node) {
        return limit_ms;
    }
    int left = deadline_left_ms(node->key);
    return limit_ms >= 0 && limit_ms < left ? limit_ms : left;
}

static void turn(struct loop *loop, int timeout_ms, int most_timers, int most_posts)
{
    struct epoll_event events[LOOP_EVENTS_PER_TURN];
    int count = epoll_wait(loop->epoll_fd, events, LOOP_EVENTS_PER_TURN, wait_ms(loop, timeout_ms));
    loop->now_ms = clock_monotonic_ms();
    for (int i = 0; i < count; i++) {
        struct loop_watch *watch = events[i].data.ptr;
        if (watch->fd >= 0 &&
            watch->events !=
                0) { /* not closed or silenced by an earlier event of this turn; its memory lives until the end of the turn */
            watch->ready(watch, events[i].events);
        }
    }
    fire_timers(loop, most_timers);
    run_posts(loop, most_posts);
    run_list(&loop->deferred, INT_MAX);
}

void loop_turn(struct loop *loop, int timeout_ms)
{
    turn(loop, timeout_ms, INT_MAX, INT_MAX);
}

void loop_run(struct loop *loop)
{
    loop->thread = pthread_self();
    atomic_store_explicit(&loop->running, true, memory_order_release);
    while (!atomic_load(&loop->stopping)) {
        turn(loop, /* timeout_ms= */ -1, LOOP_TIMERS_PER_TURN, LOOP_POSTS_PER_TURN);
    }
    atomic_store_explicit(&loop->running, false, memory_order_release);
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stopping, true);
    ring_bell(loop);
}
