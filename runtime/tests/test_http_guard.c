#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/stop.h"
#include "runtime/http/http_guard.h"
#include "runtime/tests/support_test.h"

/* A thread of its own for each test: it plays a thread of CivetWeb. fds are two ends of a connection. */
struct scene {
    struct stop stop;
    struct http_crowd crowd;
    int fds[2];
};

static int wait_for(int fd, short events, int timeout_ms, short *ret_revents)
{
    struct pollfd entry = {.fd = fd, .events = events};
    int ready = poll(&entry, 1, timeout_ms);
    if (ret_revents) {
        *ret_revents = entry.revents;
    }
    return ready;
}

static void play(void *(*act)(void *))
{
    struct scene scene;
    stop_init(&scene.stop);
    http_crowd_init(&scene.crowd, /* threads= */ 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, scene.fds), 0);
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(pthread_create(&thread, NULL, act, &scene), 0);
    pthread_join(thread, &result);
    close(scene.fds[0]);
    close(scene.fds[1]);
    stop_release(&scene.stop);
    http_crowd_release(&scene.crowd);
    if (result) {
        fail_msg("%s", (const char *)result);
    }
}

#define EXPECT(truth)                                                                                        \
    do {                                                                                                     \
        if (!(truth))                                                                                        \
            return (void *)(uintptr_t) #truth;                                                               \
    } while (0)

static void *without_guard(void *arg)
{
    struct scene *scene = arg;
    short revents;
    stop_set(&scene->stop); /* means nothing here */
    EXPECT(wait_for(scene->fds[0], POLLIN, 0, NULL) == 0);
    http_guard_begin(0); /* not a thread of a server */
    EXPECT(wait_for(scene->fds[0], POLLIN, 10, NULL) == 0);
    EXPECT(wait_for(scene->fds[0], POLLOUT, -1, &revents) == 1 && revents == POLLOUT);
    struct pollfd two[2] = {{.fd = scene->fds[0], .events = POLLIN},
                            {.fd = scene->fds[1], .events = POLLOUT}};
    EXPECT(poll(two, 2, 0) == 1 && two[1].revents == POLLOUT);
    return NULL;
}

static void poll_is_the_usual_one_elsewhere(void **state)
{
    (void)state;
    play(without_guard);
}

static void *at_deadline(void *arg)
{
    struct scene *scene = arg;
    http_guard_thread_init(stop_fd(&scene->stop), &scene->crowd);
    int64_t begin_ms = clock_monotonic_ms();
    http_guard_begin(begin_ms + 50);
    EXPECT(wait_for(scene->fds[0], POLLIN, 0, NULL) == -1 &&
           errno == ETIMEDOUT); /* not at the caller's timeout */
    EXPECT(clock_monotonic_ms() - begin_ms >= 50);
    EXPECT(http_guard_expired() && !http_guard_peer_closed());
    EXPECT(write(scene->fds[1], "x", 1) == 1);
    EXPECT(wait_for(scene->fds[0], POLLIN, 1000, NULL) == -1); /* bytes come too late */
    http_guard_end();
    EXPECT(wait_for(scene->fds[0], POLLIN, 1000, NULL) == 1);
    http_guard_begin(clock_monotonic_ms() + 10000);
    EXPECT(!http_guard_expired());
    EXPECT(wait_for(scene->fds[0], POLLIN, 0, NULL) == 1);
    return NULL;
}

static void waits_end_at_the_deadline(void **state)
{
    (void)state;
    play(at_deadline);
}

static void *sending(void *arg)
{
    struct scene *scene = arg;
    http_guard_thread_init(stop_fd(&scene->stop), &scene->crowd);
    http_guard_begin(clock_monotonic_ms() + 30);
    char data[65536] = {0};
    while (send(scene->fds[0], data, sizeof(data), MSG_NOSIGNAL) > 0) {
        continue; /* until the buffers are full */
    }
    EXPECT(wait_for(scene->fds[0], POLLOUT, 1000, NULL) == -1 && http_guard_expired());
    EXPECT(send(scene->fds[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    return NULL;
}

static void a_send_that_expired_cannot_go_on(void **state)
{
    (void)state;
    play(sending);
}

static void *first_byte(void *arg)
{
    struct scene *scene = arg;
    http_guard_thread_init(stop_fd(&scene->stop), &scene->crowd);
    int64_t begin_ms = clock_monotonic_ms();
    http_guard_begin_idle(begin_ms + 10000, 50);
    EXPECT(write(scene->fds[1], "x", 1) == 1);
    EXPECT(wait_for(scene->fds[0], POLLIN, 0, NULL) == 1);
    char byte;
    EXPECT(read(scene->fds[0], &byte, 1) == 1);
    EXPECT(wait_for(scene->fds[0], POLLIN, 0, NULL) == -1 && http_guard_expired());
    EXPECT(clock_monotonic_ms() - begin_ms < 5000);
    http_guard_begin_idle(clock_monotonic_ms() + 20, 10000);
    EXPECT(wait_for(scene->fds[0], POLLIN, 10000, NULL) == -1 && http_guard_expired());
    return NULL;
}

static void the_first_byte_starts_another_deadline(void **state)
{
    (void)state;
    play(first_byte);
}

static void *at_stop(void *arg)
{
    struct scene *scene = arg;
    http_guard_thread_init(stop_fd(&scene->stop), &scene->crowd);
    http_guard_begin(DEADLINE_NONE);
    stop_set(&scene->stop);
    EXPECT(wait_for(scene->fds[0], POLLIN, 0, NULL) == -1 && errno == ECANCELED);
    EXPECT(!http_guard_expired());
    http_guard_end();
    EXPECT(wait_for(scene->fds[0], POLLIN, 0, NULL) == 0); /* the handler's own waits */
    return NULL;
}

static void waits_end_when_the_server_stops(void **state)
{
    (void)state;
    play(at_stop);
}

static void *at_close(void *arg)
{
    struct scene *scene = arg;
    short revents;
    http_guard_thread_init(stop_fd(&scene->stop), &scene->crowd);
    http_guard_begin(clock_monotonic_ms() + 10000);
    EXPECT(write(scene->fds[1], "x", 1) == 1);
    EXPECT(wait_for(scene->fds[0], POLLIN, 0, &revents) == 1 && revents == POLLIN &&
           !http_guard_peer_closed());
    shutdown(scene->fds[1], SHUT_WR);
    EXPECT(wait_for(scene->fds[0], POLLIN, 0, &revents) == 1 && (revents & POLLIN) &&
           http_guard_peer_closed());
    http_guard_begin(clock_monotonic_ms() + 10000);
    EXPECT(!http_guard_peer_closed());
    return NULL;
}

static void notes_that_the_peer_closed(void **state)
{
    (void)state;
    play(at_close);
}

static void stacks_have_a_least_size(void **state)
{
    (void)state;
    pthread_attr_t attr;
    size_t size;
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstacksize(&attr, 102400), 0);
    pthread_attr_getstacksize(&attr, &size);
    assert_in_range(size, 1 << 20, 2 << 20);
    assert_int_equal(pthread_attr_setstacksize(&attr, 8 << 20), 0);
    pthread_attr_getstacksize(&attr, &size);
    assert_int_equal(size, 8 << 20);
    pthread_attr_destroy(&attr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(poll_is_the_usual_one_elsewhere),
        cmocka_unit_test(waits_end_at_the_deadline),
        cmocka_unit_test(a_send_that_expired_cannot_go_on),
        cmocka_unit_test(the_first_byte_starts_another_deadline),
        cmocka_unit_test(waits_end_when_the_server_stops),
        cmocka_unit_test(notes_that_the_peer_closed),
        cmocka_unit_test(stacks_have_a_least_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
