/* One function's flood is not another's business: shop/f has 5,000 requests in line and more coming all the time; how long does the first
 * request of shop/b take, which sleeps, too? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>

#include "operator/gateway/gateway_internal.h"
#include "operator/tests/support_gateway_many.h"
#include "operator/tests/support_gateway_world.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define HELD           5000
#define FLOODERS       4
#define FLOOD_PAUSE_MS 1
#define CALLS          41
#define WORSE_MAX_US   50000 /* of the median; the machine is others', too */

struct flood {
    int port;
    atomic_bool stop;
    atomic_int refused, other;
    pthread_t threads[FLOODERS];
};

static void *run_flood(void *arg)
{
    struct flood *flood = arg;
    struct test_client client;
    test_client_open(&client, flood->port);
    while (!atomic_load(&flood->stop)) {
        struct test_answer answer;
        test_client_send(&client, TEST_REQUEST("GET", "/x"));
        test_client_read(&client, &answer, false);
        bool refused = answer.status == 503 && test_answer_has(&answer, "queue_full");
        atomic_fetch_add(refused ? &flood->refused : &flood->other, 1);
        test_answer_release(&answer);
        (void)poll(NULL, 0, FLOOD_PAUSE_MS);
    }
    test_client_close(&client);
    return NULL;
}

static void flood_start(struct flood *flood, int port)
{
    *flood = (struct flood){.port = port};
    for (int i = 0; i < FLOODERS; i++) {
        assert_int_equal(pthread_create(&flood->threads[i], NULL, run_flood, flood), 0);
    }
}

static bool is_in_flood(void *arg)
{
    struct flood *flood = arg;
    return atomic_load(&flood->refused) >= FLOODERS;
}

static void flood_end(struct flood *flood)
{
    atomic_store(&flood->stop, true);
    for (int i = 0; i < FLOODERS; i++) {
        pthread_join(flood->threads[i], NULL);
    }
}

/* From the first byte of the request to the answer; the pod is there at once, and gone afterwards. */
static int64_t cold_call_us(struct test_world *world)
{
    struct test_client client;
    struct gateway_pod pod = {.namespace = "shop",
                              .function = "b",
                              .name = "b-1",
                              .uid = "uid-b",
                              .has_address = true,
                              .address = world->address,
                              .state = GATEWAY_POD_READY};
    int wakes = atomic_load(&world->test.wakes);
    int64_t begin_us = clock_monotonic_us();
    test_client_open(&client, world->test.port);
    test_client_send(&client, "GET /x HTTP/1.1\r\nHost: b.shop.fn.test\r\n\r\n");
    while (atomic_load(&world->test.wakes) == wakes) {
        (void)poll(NULL, 0, 0);
    }
    gateway_pod_set(world->test.gateway, &pod);
    test_expect_answer(&client, 200, NULL);
    int64_t took_us = clock_monotonic_us() - begin_us;
    test_client_close(&client);
    gateway_pod_remove(world->test.gateway, "uid-b");
    return took_us;
}

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

/* The median. */
static int64_t cold_calls_us(struct test_world *world, const char *when)
{
    int64_t took_us[CALLS];
    for (int i = 0; i < CALLS; i++) {
        took_us[i] = cold_call_us(world);
    }
    qsort(took_us, CALLS, sizeof(took_us[0]), compare);
    print_message("first request of b, %s: median %lld us, worst %lld us\n", when,
                  (long long)took_us[CALLS / 2], (long long)took_us[CALLS - 1]);
    return took_us[CALLS / 2];
}

static void test_a_flood_delays_nobody_elses_first_request(void **state)
{
    (void)state;
    struct test_world world;
    struct test_many many;
    struct flood flood;
    test_world_start_asleep(&world, "\"queueDepth\":5000,\"http\":{}");
    test_gateway_function(&world.test, "shop", "b", "\"http\":{}");
    int64_t quiet_us = cold_calls_us(&world, "alone");
    test_many_send(&many, &world.test, HELD, "/x", false);
    flood_start(&flood, world.test.port);
    test_wait_until(is_in_flood, &flood, "the flood has come");
    int before = atomic_load(&flood.refused);
    int64_t flooded_us = cold_calls_us(&world, "with 5,000 held and a flood");
    flood_end(&flood);
    assert_int_equal(test_gateway_statz(&world.test, "waiting"), HELD);
    print_message("%d of the flood refused\n", atomic_load(&flood.refused));
    assert_true(atomic_load(&flood.refused) > before && atomic_load(&flood.other) == 0);
    assert_true(flooded_us < quiet_us + WORSE_MAX_US);
    /* The whole line is refused in the same moment. */
    test_gateway_pod(&world.test, "f-1", "uid-1", NULL, GATEWAY_POD_PENDING, "ImagePullBackOff");
    print_message("... while 5,000 are refused: %lld us\n", (long long)cold_call_us(&world));
    assert_int_equal(test_many_read(&many, 503), HELD);
    test_many_close(&many);
    test_world_stop(&world);
}

/* The loop stands where this was posted until it is let go. */
struct barrier {
    struct loop_post post;
    sem_t reached, passed;
};

static void stand(struct loop_post *post)
{
    struct barrier *barrier = container_of(post, struct barrier, post);
    sem_post(&barrier->reached);
    sem_wait(&barrier->passed);
}

static struct loop_post *barrier_init(struct barrier *barrier)
{
    barrier->post.run = stand;
    sem_init(&barrier->reached, 0, 0);
    sem_init(&barrier->passed, 0, 0);
    return &barrier->post;
}

static void barrier_await(struct barrier *barrier)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += TEST_WAIT_MS / 1000;
    assert_int_equal(sem_timedwait(&barrier->reached, &until), 0);
}

#define REFUSED_AT_ONCE 1000

static bool has_two_requests(void *upstream)
{
    return test_upstream_requests(upstream) == 2;
}

static bool has_one_waiting_for_b(void *gateway)
{
    struct gateway_function_figures figures = {0};
    return gateway_function_figures(gateway, "shop", "b", &figures) && figures.waiting == 1;
}

/* The whole line of shop/f is refused while one for shop/b waits, and another comes for it: before the last of the line is told, the pod
 * has both. That takes the other four turns: its connection, it, and the connections to the pod. */
static void test_a_line_that_is_refused_delays_nobody_else(void **state)
{
    (void)state;
    struct test_world world;
    struct test_many many;
    struct barrier before, after;
    struct test_client waits, comes;
    struct gateway_settings one_loop = {.loops = 1};
    test_world_start_with(&world, "\"queueDepth\":5000,\"http\":{}", &one_loop);
    struct loop *loop = world.test.gateway->workers[0].loop;
    struct gateway_pod pod = {.namespace = "shop",
                              .function = "b",
                              .name = "b-1",
                              .uid = "uid-b",
                              .has_address = true,
                              .address = world.address,
                              .state = GATEWAY_POD_READY};
    test_gateway_function(&world.test, "shop", "b", "\"concurrency\":2,\"http\":{}");
    gateway_pod_remove(world.test.gateway, "uid-1");
    test_many_send(&many, &world.test, REFUSED_AT_ONCE, "/x", false);
    test_client_open(&waits, world.test.port);
    test_client_send(&waits, "GET /x HTTP/1.1\r\nHost: b.shop.fn.test\r\n\r\n");
    test_wait_until(has_one_waiting_for_b, world.test.gateway, "one in b's line");
    loop_post(loop, barrier_init(&before));
    barrier_await(&before);
    gateway_function_blocked(world.test.gateway, "shop", "f", "QuotaExceeded");
    loop_post_patient(loop, barrier_init(&after));
    gateway_pod_set(world.test.gateway, &pod);
    test_client_open(&comes, world.test.port);
    test_client_send(&comes, "GET /x HTTP/1.1\r\nHost: b.shop.fn.test\r\n\r\n");
    sem_post(&before.passed);
    barrier_await(&after);
    test_wait_until(has_two_requests, world.upstream, "both at b's pod while the loop stands");
    sem_post(&after.passed);
    test_expect_answer(&waits, 200, NULL);
    test_expect_answer(&comes, 200, NULL);
    assert_int_equal(test_many_read(&many, 503), REFUSED_AT_ONCE);
    test_client_close(&waits);
    test_client_close(&comes);
    test_many_close(&many);
    test_world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flood_delays_nobody_elses_first_request),
        cmocka_unit_test(test_a_line_that_is_refused_delays_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
