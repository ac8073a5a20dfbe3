/* One function's flood is not another's business: shop/f has 5,000 requests in line and more coming all the time; how long does the first
 * request of shop/b take, which sleeps, too? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>

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
    int64_t flooded_us = cold_calls_us(&world, "with 5,000 held and a flood");
    flood_end(&flood);
    assert_int_equal(test_gateway_statz(&world.test, "waiting"), HELD);
    print_message("%d of the flood refused\n", atomic_load(&flood.refused));
    assert_true(atomic_load(&flood.refused) > CALLS && atomic_load(&flood.other) == 0);
    assert_true(flooded_us < quiet_us + WORSE_MAX_US);
    /* The whole line is refused in the same moment. */
    test_gateway_pod(&world.test, "f-1", "uid-1", NULL, GATEWAY_POD_PENDING, "ImagePullBackOff");
    print_message("... while 5,000 are refused: %lld us\n", (long long)cold_call_us(&world));
    assert_int_equal(test_many_read(&many, 503), HELD);
    test_many_close(&many);
    test_world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flood_delays_nobody_elses_first_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
