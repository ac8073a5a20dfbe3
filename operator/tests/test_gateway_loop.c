/* The event loop: order, timers that move, posts from many threads, watches closed by each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operator/gateway/loop.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

static struct loop *make_loop(void)
{
    struct loop *loop;
    struct err err = ERR_INIT;
    assert_int_equal(loop_new(&loop, &err), 0);
    return loop;
}

struct counted {
    struct loop_timer timer;
    struct loop_post post;
    int fired, order;
};

static int fired_count;

static void timer_fired(struct loop_timer *timer)
{
    struct counted *counted = container_of(timer, struct counted, timer);
    counted->fired++;
    counted->order = ++fired_count;
}

static void run_until(struct loop *loop, int64_t until_ms)
{
    while (clock_monotonic_ms() < until_ms) {
        loop_turn(loop, 5);
    }
}

static void test_timers(void **state)
{
    (void)state;
    struct loop *loop = make_loop();
    struct counted a = {0}, b = {0}, c = {0}, d = {0};
    struct counted *all[] = {&a, &b, &c, &d};
    int64_t now_ms = clock_monotonic_ms();
    fired_count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        loop_timer_init(&all[i]->timer, timer_fired);
    }
    loop_timer_set(loop, &a.timer, now_ms + 200);
    loop_timer_set(loop, &b.timer, now_ms + 100);
    loop_timer_set(loop, &c.timer, now_ms + 50);
    loop_timer_set(loop, &d.timer, now_ms + 50);
    loop_timer_set(loop, &c.timer, now_ms + 900); /* later: it comes up at 50 and is put back */
    loop_timer_set(loop, &a.timer, now_ms + 10);  /* earlier */
    loop_timer_cancel(&d.timer);
    run_until(loop, now_ms + 300);
    assert_int_equal(a.order, 1);
    assert_int_equal(b.order, 2);
    assert_int_equal(c.fired, 0);
    assert_int_equal(d.fired, 0);
    loop_timer_set(loop, &d.timer, now_ms + 350); /* again after having been cancelled */
    run_until(loop, now_ms + 950);
    assert_int_equal(c.fired, 1);
    assert_int_equal(d.fired, 1);
    loop_timer_set(loop, &a.timer, now_ms + 1000);
    loop_timer_close(loop, &a.timer);
    run_until(loop, now_ms + 1050);
    assert_int_equal(a.fired, 1);
    loop_free(loop);
}

enum { THREADS = 4, POSTS = 2000 };

struct poster {
    struct loop *loop;
    struct counted *posts;
    int thread;
};

static int last_order[THREADS];
static int posts_run;

static void post_run(struct loop_post *post)
{
    struct counted *counted = container_of(post, struct counted, post);
    int thread = counted->order / POSTS, order = counted->order % POSTS;
    assert_int_equal(order, last_order[thread]); /* in the order of posting */
    last_order[thread] = order + 1;
    posts_run++;
}

static void *post_many(void *arg)
{
    struct poster *poster = arg;
    for (int i = 0; i < POSTS; i++) {
        struct counted *counted = &poster->posts[poster->thread * POSTS + i];
        counted->order = poster->thread * POSTS + i;
        counted->post.run = post_run;
        loop_post(poster->loop, &counted->post);
    }
    return NULL;
}

static void test_posts_from_many_threads(void **state)
{
    (void)state;
    struct loop *loop = make_loop();
    CLEANUP_FREE struct counted *posts = xcalloc((size_t)THREADS * POSTS, sizeof(*posts));
    struct poster posters[THREADS];
    pthread_t threads[THREADS];
    memset(last_order, 0, sizeof(last_order));
    posts_run = 0;
    for (int i = 0; i < THREADS; i++) {
        posters[i] = (struct poster){loop, posts, i};
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    int64_t until_ms = clock_monotonic_ms() + 20000;
    while (posts_run < THREADS * POSTS && clock_monotonic_ms() < until_ms) {
        loop_turn(loop, 1000);
    }
    assert_int_equal(posts_run, THREADS * POSTS);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    loop_free(loop);
}

/* Two sockets ready in one turn; the first to be looked at closes both. */
struct pair {
    struct loop *loop;
    struct loop_watch watches[2];
    struct loop_post freed;
    int calls;
    bool deferred;
};
static struct pair *current_pair;

static void close_both(struct loop_watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
    struct pair *pair = current_pair;
    pair->calls++;
    loop_watch_close(pair->loop, &pair->watches[0]);
    loop_watch_close(pair->loop, &pair->watches[1]);
    loop_defer(pair->loop, &pair->freed);
}

static void note_deferred(struct loop_post *post)
{
    container_of(post, struct pair, freed)->deferred = true;
}

static void test_a_watch_closed_in_the_same_turn_is_not_called(void **state)
{
    (void)state;
    struct pair pair = {.loop = make_loop(), .freed.run = note_deferred};
    int peers[2];
    struct err err = ERR_INIT;
    current_pair = &pair;
    for (int i = 0; i < 2; i++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        peers[i] = fds[1];
        assert_int_equal(loop_watch_open(pair.loop, &pair.watches[i], fds[0], EPOLLIN, close_both, &err), 0);
        assert_int_equal(write(peers[i], "x", 1), 1);
    }
    loop_turn(pair.loop, 1000);
    assert_int_equal(pair.calls, 1);
    assert_true(pair.deferred);
    close(peers[0]);
    close(peers[1]);
    loop_free(pair.loop);
}

static int silenced_calls;

static void count_call(struct loop_watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
    silenced_calls++;
}

/* Who wants nothing hears nothing, not even that the peer has gone: the loop must not spin. */
static void must_not_be_called(struct loop_watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
    fail_msg("a closed watch is called");
}

/* Somebody else has a copy of the descriptor for a moment, as a child has before it execs. */
static void test_a_closed_watch_whose_file_is_still_open(void **state)
{
    (void)state;
    struct loop *loop = make_loop();
    struct err err = ERR_INIT;
    struct loop_watch watch;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    int copy = dup(ends[0]);
    assert_int_equal(loop_watch_open(loop, &watch, ends[0], EPOLLIN, must_not_be_called, &err), 0);
    loop_watch_close(loop, &watch);
    watch.fd = copy; /* its memory is another watch's by now */
    assert_int_equal(write(ends[1], "x", 1), 1);
    loop_turn(loop, 50);
    close(copy);
    close(ends[1]);
    loop_free(loop);
}

static void test_a_silenced_watch(void **state)
{
    (void)state;
    struct loop *loop = make_loop();
    struct loop_watch watch;
    struct err err = ERR_INIT;
    int fds[2];
    silenced_calls = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(loop_watch_open(loop, &watch, fds[0], EPOLLIN, count_call, &err), 0);
    loop_watch_set(loop, &watch, 0);
    close(fds[1]);
    loop_turn(loop, 10);
    assert_int_equal(silenced_calls, 0);
    loop_watch_set(loop, &watch, EPOLLIN);
    loop_turn(loop, 1000);
    assert_int_equal(silenced_calls, 1);
    loop_watch_set(loop, &watch, 0);
    int fd = loop_watch_detach(loop, &watch);
    assert_int_equal(fd, fds[0]);
    close(fd);
    loop_free(loop);
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void test_stop_from_another_thread(void **state)
{
    (void)state;
    struct loop *loop = make_loop();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_loop, loop), 0);
    loop_stop(loop);
    pthread_join(thread, NULL);
    loop_free(loop);
}

/* A loop with more to do than a turn has room for: posts or timers, as a whole line of requests makes them that is refused or whose time
 * is over. The first of them makes a socket readable and a timer due, and posts. */
enum { CROWD = 5000, TURN_MOST = 64 };

struct crowd {
    struct loop *loop;
    struct counted members[CROWD];
    int run; /* so many of the members */
    struct loop_watch watch;
    int peer;
    struct loop_timer timer;
    struct loop_post post;
    int run_at_socket, run_at_timer, run_at_post; /* how many had run when that came up; -1: it did not */
};
static struct crowd *current_crowd;

static void crowd_member_run(struct counted *member)
{
    struct crowd *crowd = current_crowd;
    assert_ptr_equal(member, &crowd->members[crowd->run]); /* in their order */
    if (++crowd->run == 1) {
        assert_int_equal(write(crowd->peer, "x", 1), 1);
        loop_timer_set(crowd->loop, &crowd->timer, loop_now_ms(crowd->loop));
        loop_post(crowd->loop, &crowd->post);
    }
    if (crowd->run == CROWD) {
        loop_stop(crowd->loop);
    }
}

static void crowd_post_run(struct loop_post *post)
{
    crowd_member_run(container_of(post, struct counted, post));
}

static void crowd_timer_fired(struct loop_timer *timer)
{
    crowd_member_run(container_of(timer, struct counted, timer));
}

static void crowd_socket_ready(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    current_crowd->run_at_socket = current_crowd->run;
    loop_watch_close(current_crowd->loop, watch);
}

static void crowd_other_timer_fired(struct loop_timer *timer)
{
    (void)timer;
    current_crowd->run_at_timer = current_crowd->run;
}

static void crowd_other_post_run(struct loop_post *post)
{
    (void)post;
    current_crowd->run_at_post = current_crowd->run;
}

static struct crowd *crowd_new(void)
{
    struct crowd *crowd = xcalloc(1, sizeof(*crowd));
    struct err err = ERR_INIT;
    int fds[2];
    current_crowd = crowd;
    crowd->loop = make_loop();
    crowd->run_at_socket = crowd->run_at_timer = crowd->run_at_post = -1;
    crowd->post.run = crowd_other_post_run;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    crowd->peer = fds[1];
    assert_int_equal(loop_watch_open(crowd->loop, &crowd->watch, fds[0], EPOLLIN, crowd_socket_ready, &err),
                     0);
    loop_timer_init(&crowd->timer, crowd_other_timer_fired);
    return crowd;
}

static void crowd_free(struct crowd *crowd)
{
    loop_watch_close(crowd->loop, &crowd->watch);
    loop_timer_close(crowd->loop, &crowd->timer);
    loop_free(crowd->loop);
    close(crowd->peer);
    free(crowd);
}

static void crowd_post(struct crowd *crowd)
{
    for (int i = 0; i < CROWD; i++) {
        crowd->members[i].post.run = crowd_post_run;
        loop_post(crowd->loop, &crowd->members[i].post);
    }
}

static void test_many_posts_leave_room_for_sockets_and_timers(void **state)
{
    (void)state;
    struct crowd *crowd = crowd_new();
    crowd_post(crowd);
    loop_run(crowd->loop);
    assert_int_equal(crowd->run, CROWD);
    assert_int_equal(crowd->run_at_socket, TURN_MOST); /* in the very next turn */
    assert_int_equal(crowd->run_at_timer, TURN_MOST);
    crowd_free(crowd);
}

static void test_many_timers_leave_room_for_sockets(void **state)
{
    (void)state;
    struct crowd *crowd = crowd_new();
    int64_t now_ms = clock_monotonic_ms();
    for (int i = 0; i < CROWD; i++) {
        loop_timer_init(&crowd->members[i].timer, crowd_timer_fired);
        loop_timer_set(crowd->loop, &crowd->members[i].timer, now_ms - CROWD + i);
    }
    loop_run(crowd->loop);
    assert_int_equal(crowd->run, CROWD);
    assert_int_equal(crowd->run_at_socket, TURN_MOST);
    assert_int_equal(crowd->run_at_post, TURN_MOST);
    crowd_free(crowd);
}

static void test_patient_posts_keep_no_other_waiting(void **state)
{
    (void)state;
    struct crowd *crowd = crowd_new();
    for (int i = 0; i < CROWD; i++) {
        crowd->members[i].post.run = crowd_post_run;
        loop_post_patient(crowd->loop, &crowd->members[i].post);
    }
    loop_run(crowd->loop);
    assert_int_equal(crowd->run, CROWD);
    assert_int_equal(crowd->run_at_socket, TURN_MOST);
    assert_int_equal(crowd->run_at_post, TURN_MOST);
    crowd_free(crowd);
}

/* Whoever ends a loop's work by hand gets all of it done in one turn, also what loop_run() left. */
static void test_one_turn_by_hand_runs_all_posts(void **state)
{
    (void)state;
    struct crowd *crowd = crowd_new();
    crowd_post(crowd);
    loop_stop(crowd->loop);
    loop_run(crowd->loop);
    assert_int_equal(crowd->run, 0);
    loop_turn(crowd->loop, 0);
    assert_int_equal(crowd->run, CROWD);
    crowd_free(crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_posts_from_many_threads),
        cmocka_unit_test(test_a_watch_closed_in_the_same_turn_is_not_called),
        cmocka_unit_test(test_a_closed_watch_whose_file_is_still_open),
        cmocka_unit_test(test_a_silenced_watch),
        cmocka_unit_test(test_stop_from_another_thread),
        cmocka_unit_test(test_many_posts_leave_room_for_sockets_and_timers),
        cmocka_unit_test(test_many_timers_leave_room_for_sockets),
        cmocka_unit_test(test_patient_posts_keep_no_other_waiting),
        cmocka_unit_test(test_one_turn_by_hand_runs_all_posts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
