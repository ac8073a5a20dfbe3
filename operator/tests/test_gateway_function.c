/* One function's line: who gets a slot, who waits, who is refused, and the figures. No loop and no socket is involved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/tests/support_gateway_line.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/stop.h"

static void test_slots_are_exact_and_waiters_go_in_order(void **state)
{
    (void)state;
    struct test_line line;
    test_line_init(&line, "\"concurrency\":2");
    test_line_pod(&line, 0, GATEWAY_POD_READY, NULL);
    assert_int_equal(test_line_admit(&line, 0), ADMIT_GRANTED);
    assert_int_equal(test_line_admit(&line, 1), ADMIT_GRANTED);
    for (int i = 2; i < 6; i++) {
        assert_int_equal(test_line_admit(&line, i), ADMIT_QUEUED);
    }
    test_line_done(&line, 0);
    assert_int_equal(line.told[2].order, 1);
    assert_int_equal(line.told[2].waiter.state, WAITER_GRANTED);
    assert_ptr_equal(line.told[2].waiter.pod, line.pods[0]);
    assert_int_equal(line.told[3].order, 0);
    /* Who comes now stands behind those who wait, though a slot comes free in the same breath. */
    test_line_done(&line, 1);
    assert_int_equal(test_line_admit(&line, 6), ADMIT_QUEUED);
    assert_int_equal(line.told[3].order, 2);
    /* Another pod: two more slots, in order. */
    test_line_pod(&line, 1, GATEWAY_POD_READY, NULL);
    assert_int_equal(line.told[4].order, 3);
    assert_int_equal(line.told[5].order, 4);
    assert_int_equal(line.told[6].order, 0);
    assert_ptr_equal(line.told[4].waiter.pod, line.pods[1]);
    test_line_release(&line);
}

static void test_a_request_that_was_in_line_goes_first(void **state)
{
    (void)state;
    struct test_line line;
    bool wake;
    test_line_init(&line, "\"concurrency\":1,\"queueDepth\":2");
    test_line_pod(&line, 0, GATEWAY_POD_READY, NULL);
    assert_int_equal(test_line_admit(&line, 0), ADMIT_GRANTED);
    assert_int_equal(test_line_admit(&line, 1), ADMIT_QUEUED);
    assert_int_equal(test_line_admit(&line, 2), ADMIT_QUEUED);
    assert_int_equal(test_line_admit(&line, 3), ADMIT_REFUSED);
    /* Its pod turns out to be unreachable: it asks again, above the limit, in front. */
    function_pod_unreachable(line.function, line.pods[0]);
    test_line_done(&line, 0);
    assert_int_equal(function_admit(line.function, &line.told[0].waiter, true, &wake), ADMIT_QUEUED);
    assert_true(line.told[0].waiter.cold);
    struct sockaddr_in address = line.pods[0]->address;
    assert_true(function_pod_usable(line.function, line.pods[0], &address));
    assert_int_equal(line.told[0].order, 1);
    assert_int_equal(line.told[1].order, 0);
    test_line_release(&line);
}

static void test_share_among_gateways(void **state)
{
    (void)state;
    static const struct {
        int concurrency, gateways, share, bound;
    } cases[] = {{16, 1, 16, 36}, {16, 2, 8, 18}, {16, 3, 6, 12},
                 {1, 3, 1, 2},    {1, 20, 1, 1},  {250, 2, 125, 252}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct test_line line;
        CLEANUP_FREE char *members = xasprintf("\"concurrency\":%d", cases[i].concurrency);
        test_line_init(&line, members);
        function_set_peers(line.function, (struct function_peers){.gateways = cases[i].gateways});
        assert_int_equal(line.function->share, cases[i].share);
        assert_int_equal(atomic_load(&line.function->connection_bound), cases[i].bound);
        test_line_release(&line);
    }
}

static void test_a_gateway_less_frees_slots(void **state)
{
    (void)state;
    struct test_line line;
    test_line_init(&line, "\"concurrency\":2");
    function_set_peers(line.function, (struct function_peers){.gateways = 2});
    test_line_pod(&line, 0, GATEWAY_POD_READY, NULL);
    assert_int_equal(test_line_admit(&line, 0), ADMIT_GRANTED);
    assert_int_equal(test_line_admit(&line, 1), ADMIT_QUEUED);
    function_set_peers(line.function, (struct function_peers){.gateways = 1});
    assert_int_equal(line.told[1].waiter.state, WAITER_GRANTED);
    test_line_release(&line);
}

/* Whose slots are whose: all gateways together have each slot once, and of every pod each has its share rounded down or up. */
static void test_slots_are_dealt(void **state)
{
    (void)state;
    for (int concurrency = 1; concurrency <= 7; concurrency++) {
        for (int gateways = 1; gateways <= 5; gateways++) {
            int dealt[TEST_LINE_PODS] = {0};
            for (int place = 0; place < gateways; place++) {
                struct test_line line;
                CLEANUP_FREE char *members = xasprintf("\"concurrency\":%d", concurrency);
                test_line_init(&line, members);
                function_set_peers(line.function, (struct function_peers){gateways, place});
                for (int i = 0; i < TEST_LINE_PODS;
                     i++) { /* each gateway hears of them in an order of its own */
                    test_line_pod(&line, (i + place) % TEST_LINE_PODS, GATEWAY_POD_READY, NULL);
                }
                assert_int_equal(test_line_admit(&line, 0), ADMIT_GRANTED);
                int own = 0;
                for (int i = 0; i < TEST_LINE_PODS; i++) {
                    assert_in_range(line.pods[i]->dealt, concurrency / gateways, line.function->share);
                    dealt[i] += line.pods[i]->dealt;
                    own += line.pods[i]->dealt;
                }
                assert_in_range(own, concurrency * TEST_LINE_PODS / gateways,
                                (concurrency * TEST_LINE_PODS + gateways - 1) / gateways);
                test_line_release(&line);
            }
            for (int i = 0; i < TEST_LINE_PODS; i++) {
                assert_int_equal(dealt[i], concurrency);
            }
        }
    }
}

/* Concurrency 1 and two gateways: of three pods one has two, and the other one. */
static void test_own_slots_are_used_before_others(void **state)
{
    (void)state;
    int used[TEST_LINE_PODS] = {0};
    for (int place = 0; place < 2; place++) {
        struct test_line line;
        test_line_init(&line, "\"concurrency\":1");
        function_set_peers(line.function, (struct function_peers){2, place});
        for (int i = 0; i < TEST_LINE_PODS; i++) {
            test_line_pod(&line, i, GATEWAY_POD_READY, NULL);
        }
        int own = place == 0 ? 2 : 1;
        for (int round = 0; round < 20; round++) {
            for (int i = 0; i < own; i++) {
                assert_int_equal(test_line_admit(&line, i), ADMIT_GRANTED);
            }
            for (int i = 0; round == 0 && i < TEST_LINE_PODS; i++) {
                used[i] += line.pods[i]->in_flight;
            }
            for (int i = 0; i < own; i++) {
                test_line_done(&line, i);
            }
        }
        /* With all of them busy the others' are used, too: they may be free. */
        for (int i = 0; i < TEST_LINE_PODS; i++) {
            assert_int_equal(test_line_admit(&line, i), ADMIT_GRANTED);
        }
        assert_int_equal(test_line_admit(&line, TEST_LINE_PODS), ADMIT_QUEUED);
        test_line_release(&line);
    }
    for (int i = 0; i < TEST_LINE_PODS; i++) {
        assert_int_equal(used[i], 1); /* they did not meet */
    }
}

static void test_bounds(void **state)
{
    (void)state;
    struct test_line line;
    test_line_init(&line, "\"queueDepth\":3");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(test_line_admit(&line, i), ADMIT_QUEUED);
    }
    assert_int_equal(test_line_admit(&line, 3), ADMIT_REFUSED);
    assert_string_equal(line.told[3].waiter.refused_code, "queue_full");
    assert_true(function_leave(line.function, &line.told[1].waiter));
    assert_false(function_leave(line.function, &line.told[1].waiter));
    assert_int_equal(test_line_admit(&line, 3), ADMIT_QUEUED);
    test_line_release(&line);

    test_line_init(&line, "\"limits\":{\"holdBytes\":65536}");
    line.told[0].waiter.bytes = 65000;
    line.told[1].waiter.bytes = 537;
    line.told[2].waiter.bytes = 536;
    assert_int_equal(test_line_admit(&line, 0), ADMIT_QUEUED);
    assert_int_equal(test_line_admit(&line, 1), ADMIT_REFUSED);
    assert_string_equal(line.told[1].waiter.refused_code, "hold_bytes_full");
    assert_int_equal(test_line_admit(&line, 2), ADMIT_QUEUED);
    test_line_release(&line);
}

static void test_the_less_busy_pod_is_picked(void **state)
{
    (void)state;
    struct test_line line;
    test_line_init(&line, "\"concurrency\":5");
    for (int i = 0; i < 3; i++) {
        test_line_pod(&line, i, GATEWAY_POD_READY, NULL);
    }
    for (int i = 0; i < 15; i++) {
        assert_int_equal(test_line_admit(&line, i), ADMIT_GRANTED);
        int least = line.pods[0]->in_flight, most = least;
        for (int p = 1; p < 3; p++) {
            least = line.pods[p]->in_flight < least ? line.pods[p]->in_flight : least;
            most = line.pods[p]->in_flight > most ? line.pods[p]->in_flight : most;
        }
        assert_true(most - least <= 3); /* two choices, not the best of all */
    }
    assert_int_equal(test_line_admit(&line, 15),
                     ADMIT_QUEUED); /* every slot was found, though the picks are random */
    test_line_release(&line);
}

static void test_pod_states(void **state)
{
    (void)state;
    struct test_line line;
    struct sockaddr_in address;
    int64_t period_ms, now_ms = clock_monotonic_ms();
    test_line_init(&line, "");
    test_line_pod(&line, 0, GATEWAY_POD_PENDING, NULL);
    struct pod *pod = line.pods[0];
    assert_true(function_pod_wants_probe(line.function, pod, &address, &period_ms, now_ms));
    assert_int_equal(period_ms, PROBE_PERIOD_NEW_MS);
    assert_true(function_pod_wants_probe(line.function, pod, &address, &period_ms, now_ms + 60000));
    assert_int_equal(period_ms, PROBE_PERIOD_IDLE_MS);
    assert_int_equal(test_line_admit(&line, 0), ADMIT_QUEUED);
    assert_true(function_pod_wants_probe(line.function, pod, &address, &period_ms, now_ms + 60000));
    assert_int_equal(period_ms, PROBE_PERIOD_WAITED_MS);
    assert_true(function_leave(line.function, &line.told[0].waiter));
    assert_true(function_pod_usable(line.function, pod, &address));
    assert_false(function_pod_wants_probe(line.function, pod, &address, &period_ms, now_ms));
    test_line_pod(&line, 0, GATEWAY_POD_PENDING,
                  NULL); /* still pending in the API: what we found out stands */
    assert_true(pod->usable);
    function_pod_unreachable(line.function, pod);
    assert_false(pod->usable);
    test_line_pod(&line, 0, GATEWAY_POD_READY, NULL);
    assert_true(pod->usable);
    function_pod_unreachable(line.function, pod);
    test_line_pod(&line, 0, GATEWAY_POD_READY, NULL); /* told again: proves nothing */
    assert_false(pod->usable);
    assert_true(function_pod_usable(line.function, pod, &address));
    test_line_pod(&line, 0, GATEWAY_POD_PENDING, NULL); /* no longer ready: probed again */
    assert_false(pod->usable);
    address.sin_addr.s_addr ^= 1;
    assert_false(function_pod_usable(line.function, pod, &address)); /* a connection to somewhere else */
    assert_true(function_pod_announced(line.function, pod, &address));
    assert_true(pod->usable);
    function_pod_goodbye(line.function, pod);
    assert_false(pod->usable);
    assert_false(function_pod_usable(line.function, pod, &address));
    test_line_pod(&line, 0, GATEWAY_POD_READY,
                  NULL); /* it was pending when it said goodbye: a new process is ready */
    assert_true(pod->usable);
    function_pod_goodbye(line.function, pod);
    test_line_pod(&line, 0, GATEWAY_POD_READY, NULL); /* ready all along: the API has not noticed yet */
    assert_false(pod->usable);
    assert_true(function_pod_announced(line.function, pod, &address));
    test_line_pod(&line, 0, GATEWAY_POD_TERMINATING, NULL);
    assert_false(function_pod_announced(line.function, pod, &address));
    assert_false(pod->usable);
    assert_int_equal(line.function->usable_count, 0);
    test_line_release(&line);
}

static void test_wakes(void **state)
{
    (void)state;
    struct test_line line;
    bool wake, again;
    test_line_init(&line, "");
    int64_t now_ms = clock_monotonic_ms();
    assert_false(function_wake_due(line.function, now_ms, &again));
    assert_false(again);
    int attended = line.attended;
    assert_int_equal(function_admit(line.function, &line.told[0].waiter, false, &wake), ADMIT_QUEUED);
    assert_true(wake); /* at once for the first */
    assert_int_equal(line.attended, attended + 1);
    assert_int_equal(function_admit(line.function, &line.told[1].waiter, false, &wake), ADMIT_QUEUED);
    assert_false(wake);
    now_ms = line.function->asked_ms;
    assert_false(function_wake_due(line.function, now_ms + GATEWAY_WAKE_PERIOD_MS - 1, &again));
    assert_true(again);
    assert_true(function_wake_due(line.function, now_ms + GATEWAY_WAKE_PERIOD_MS, &again));
    assert_false(function_wake_due(line.function, now_ms + GATEWAY_WAKE_PERIOD_MS, &again));
    /* The last pod goes: at once, whatever the time. */
    test_line_pod(&line, 0, GATEWAY_POD_PENDING, NULL);
    function_remove_pod(line.function, line.pods[0]);
    line.pods[0] = NULL;
    assert_true(function_wake_due(line.function, now_ms + GATEWAY_WAKE_PERIOD_MS + 1, &again));
    test_line_pod(&line, 1, GATEWAY_POD_READY, NULL);
    assert_false(function_wake_due(line.function, now_ms + 10 * GATEWAY_WAKE_PERIOD_MS, &again));
    assert_false(again);
    test_line_release(&line);
}

static void sleep_ms(int ms)
{
    struct stop never;
    stop_init(&never);
    (void)stop_wait(&never, ms);
    stop_release(&never);
}

/* 100 ms of one waiting, 100 ms of one in flight and two waiting, then nothing. */
static void test_integrals(void **state)
{
    (void)state;
    struct test_line line;
    test_line_init(&line, "\"concurrency\":1");
    assert_int_equal(test_line_admit(&line, 0), ADMIT_QUEUED);
    sleep_ms(100);
    test_line_pod(&line, 0, GATEWAY_POD_READY, NULL);
    assert_int_equal(test_line_admit(&line, 1), ADMIT_QUEUED);
    assert_int_equal(test_line_admit(&line, 2), ADMIT_QUEUED);
    sleep_ms(100);
    assert_true(function_leave(line.function, &line.told[1].waiter));
    assert_true(function_leave(line.function, &line.told[2].waiter));
    test_line_done(&line, 0);
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 4096);
    sleep_ms(50);
    assert_true(function_statz(line.function, clock_monotonic_us(), INT64_MAX, false, &out));
    CLEANUP_JSON cJSON *tree = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(json_parse(out.buf, out.len, 8, &tree, &err), 0);
    assert_int_equal(json_int64(tree, "inFlight", -1), 0);
    assert_int_equal(json_int64(tree, "waiting", -1), 0);
    assert_int_equal(json_int64(tree, "arrivals", -1), 3);
    assert_in_range(json_int64(tree, "inFlightMs", -1), 99, 250);
    assert_in_range(json_int64(tree, "waitingMs", -1), 299, 600);
    assert_in_range(json_int64(tree, "idleMs", -1), 49, 250);
    assert_string_equal(json_string(tree, "namespace"), "shop");
    strbuf_clear(&out);
    assert_false(function_statz(line.function, clock_monotonic_us(), 1000, false, &out));
    assert_int_equal(out.len, 0);
    test_line_release(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_are_exact_and_waiters_go_in_order),
        cmocka_unit_test(test_a_request_that_was_in_line_goes_first),
        cmocka_unit_test(test_share_among_gateways),
        cmocka_unit_test(test_a_gateway_less_frees_slots),
        cmocka_unit_test(test_slots_are_dealt),
        cmocka_unit_test(test_own_slots_are_used_before_others),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_the_less_busy_pod_is_picked),
        cmocka_unit_test(test_pod_states),
        cmocka_unit_test(test_wakes),
        cmocka_unit_test(test_integrals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
