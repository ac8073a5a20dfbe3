#include "operator/tests/support_gateway_world.h"

#include "runtime/base/clock.h"
#include "runtime/tests/support_test.h"

static void start(struct test_world *world, const char *members, const struct gateway_settings *settings,
                  bool with_pod)
{
    world->upstream = test_upstream_new();
    world->address = test_upstream_address(world->upstream);
    test_gateway_start(&world->test, settings);
    test_gateway_function(&world->test, "shop", "f", members);
    if (with_pod) {
        test_gateway_pod(&world->test, "f-1", "uid-1", &world->address, GATEWAY_POD_READY, NULL);
    }
    gateway_catalog_synced(world->test.gateway);
}

void test_world_start_with(struct test_world *world, const char *members,
                           const struct gateway_settings *settings)
{
    start(world, members, settings, /* with_pod= */ true);
}

void test_world_start(struct test_world *world, const char *members)
{
    start(world, members, NULL, /* with_pod= */ true);
}

void test_world_start_asleep(struct test_world *world, const char *members)
{
    start(world, members, NULL, /* with_pod= */ false);
}

void test_world_stop(struct test_world *world)
{
    test_gateway_stop(&world->test);
    test_upstream_free(world->upstream);
}

int64_t test_world_statz(struct test_world *world, const char *key)
{
    return test_gateway_statz(&world->test, key);
}

struct expected_statz {
    struct test_world *world;
    const char *key;
    int64_t value;
};

static bool statz_is(void *arg)
{
    const struct expected_statz *expected = arg;
    return test_world_statz(expected->world, expected->key) == expected->value;
}

void test_world_wait_statz(struct test_world *world, const char *key, int64_t value)
{
    struct expected_statz expected = {world, key, value};
    test_wait_until(statz_is, &expected, key);
}

void test_world_send_and_wait(struct test_world *world, struct test_client *client, const char *text)
{
    int64_t waiting = test_world_statz(world, "waiting");
    test_client_open(client, world->test.port);
    test_client_send(client, text);
    test_world_wait_statz(world, "waiting", (waiting < 0 ? 0 : waiting) + 1);
}

bool test_world_one_waiting(void *world)
{
    return test_world_statz(world, "waiting") == 1;
}

bool test_world_woken(void *world)
{
    const struct test_world *asleep = world;
    return atomic_load(&asleep->test.wakes) >= 1;
}

bool test_world_nothing_going_on(void *world)
{
    return test_world_statz(world, "inFlight") <= 0 && test_world_statz(world, "waiting") <= 0;
}

bool test_upstream_works(void *upstream)
{
    return test_upstream_in_flight(upstream) == 1;
}

bool test_upstream_is_alone(void *upstream)
{
    return test_upstream_open(upstream) == 0;
}

void test_read_status(struct test_client *client, int status, const char *code, struct test_answer *answer)
{
    test_client_read(client, answer, false);
    if (answer->status != status || (code && !test_answer_has(answer, code))) {
        fail_msg("%d %s expected, got: %s%s", status, code ? code : "", answer->head.buf, answer->body.buf);
    }
}

void test_expect_answer(struct test_client *client, int status, const char *code)
{
    struct test_answer answer;
    test_read_status(client, status, code, &answer);
    test_answer_release(&answer);
}

int64_t test_elapsed_ms(int64_t since_ms)
{
    return clock_monotonic_ms() - since_ms;
}
