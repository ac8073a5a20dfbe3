/* One function's line under random changes: after each of them everything must add up, no slot may be free while somebody waits, and
 * nobody may have been told out of turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/tests/support_gateway_line.h"
#include "runtime/base/clock.h"

#define STEPS 200000

struct scene {
    struct test_line line;
    unsigned seed;
    int64_t seq[TEST_LINE_WAITERS]; /* of each in the line: those who wait stand in this order */
    bool told[TEST_LINE_WAITERS];   /* the test knows that it was told */
    int64_t last, first;            /* the greatest and the smallest seq so far */
    int granted_late, refused;      /* how often it came to that */
};

static unsigned pick(struct scene *scene, unsigned count)
{
    scene->seed = scene->seed * 1103515245u + 12345u;
    return (scene->seed >> 16) % count;
}

static struct waiter *waiter_of(struct scene *scene, int i)
{
    return &scene->line.told[i].waiter;
}

static void ask(struct scene *scene, int i, bool front)
{
    bool wake;
    scene->line.told[i].order = 0;
    scene->told[i] = false;
    scene->seq[i] = front ? --scene->first : ++scene->last;
    enum admission admission = function_admit(scene->line.function, waiter_of(scene, i), front, &wake);
    /* Told by the outcome, or later by settled(). */
    scene->told[i] = admission != ADMIT_QUEUED;
}

/* Who was told just now: in turn, and for a slot that is there. */
static void check_turn(struct scene *scene)
{
    const struct waiter *first = TAILQ_FIRST(&scene->line.function->waiters);
    int64_t first_seq = INT64_MAX;
    for (int i = 0; i < TEST_LINE_WAITERS; i++) {
        first_seq = first == waiter_of(scene, i) ? scene->seq[i] : first_seq;
    }
    for (int i = 0; i < TEST_LINE_WAITERS; i++) {
        const struct waiter *waiter = waiter_of(scene, i);
        if (scene->line.told[i].order == 0 || scene->told[i]) {
            continue;
        }
        scene->told[i] = true;
        assert_true(scene->seq[i] < first_seq);
        if (waiter->state == WAITER_GRANTED) {
            scene->granted_late++;
            assert_in_range(waiter->pod->in_flight, 1, scene->line.function->share);
        } else {
            scene->refused++;
            assert_int_equal(waiter->state, WAITER_REFUSED);
            assert_null(first); /* all of the line, for the same reason */
        }
    }
}

/* One of those who wait, work, or do neither does the next thing. */
static void somebody_acts(struct scene *scene)
{
    int i = (int)pick(scene, TEST_LINE_WAITERS);
    switch (waiter_of(scene, i)->state) {
    case WAITER_QUEUED:
        if (pick(scene, 8) == 0) {
            assert_true(function_leave(scene->line.function, waiter_of(scene, i)));
        }
        break;
    case WAITER_GRANTED:
        if (pick(scene, 3) == 0) {
            test_line_done(&scene->line, i);
            check_turn(scene);
            if (pick(scene, 6) == 0) {
                ask(scene, i, /* front= */ true); /* its pod could not be reached */
            }
        }
        break;
    default:
        ask(scene, i, /* front= */ false);
    }
}

static void something_changes(struct scene *scene)
{
    struct function_state *function = scene->line.function;
    int i = (int)pick(scene, TEST_LINE_PODS);
    struct pod *pod = scene->line.pods[i];
    switch (pick(scene, 9)) {
    case 0:
        test_line_pod_of(&scene->line, i, 1 + pick(scene, 2), GATEWAY_POD_READY, NULL);
        break;
    case 1:
        test_line_pod_of(&scene->line, i, 1 + pick(scene, 2), GATEWAY_POD_PENDING,
                         pick(scene, 3) ? NULL : "ImagePullBackOff");
        break;
    case 2:
        test_line_pod_of(&scene->line, i, 1 + pick(scene, 2), GATEWAY_POD_TERMINATING, NULL);
        break;
    case 3:
        if (pod) {
            function_remove_pod(function, pod);
            scene->line.pods[i] = NULL;
        }
        break;
    case 4:
        if (pod) {
            function_pod_unreachable(function, pod);
        }
        break;
    case 5:
        if (pod) {
            function_pod_goodbye(function, pod);
        }
        break;
    case 6: {
        int gateways = 1 + (int)pick(scene, 3);
        function_set_peers(function, (struct function_peers){gateways, (int)pick(scene, (unsigned)gateways)});
        break;
    }
    case 7:
        test_line_spec(&scene->line, pick(scene, 2) ? "\"concurrency\":1" : "\"concurrency\":3");
        break;
    default:
        function_set_template(function, pick(scene, 3));
    }
}

static void check_sums(struct scene *scene)
{
    struct function_state *function = scene->line.function;
    int queued = 0, granted = 0, at[TEST_LINE_PODS] = {0};
    for (int i = 0; i < TEST_LINE_WAITERS; i++) {
        const struct waiter *waiter = waiter_of(scene, i);
        queued += waiter->state == WAITER_QUEUED;
        granted += waiter->state == WAITER_GRANTED;
        for (int p = 0; p < TEST_LINE_PODS; p++) {
            at[p] += waiter->state == WAITER_GRANTED && waiter->pod == scene->line.pods[p];
        }
    }
    assert_int_equal(function->waiting, queued);
    assert_int_equal(function->in_flight, granted);
    assert_int_equal(function->held_bytes, (size_t)queued * 1000);
    for (int p = 0; p < TEST_LINE_PODS; p++) {
        assert_true(!scene->line.pods[p] || scene->line.pods[p]->in_flight == at[p]);
    }
    for (size_t i = 0; i < function->usable_count; i++) {
        assert_true(function->pods[i]->usable);
        /* No lost wake-up. */
        assert_true(queued == 0 || function->pods[i]->in_flight >= function->share);
    }
}

static void test_random_changes(void **state)
{
    (void)state;
    struct scene scene = {.seed = (unsigned)clock_monotonic_us()};
    print_message("seed %u\n", scene.seed);
    test_line_init(&scene.line, "\"concurrency\":2");
    for (int step = 0; step < STEPS; step++) {
        if (pick(&scene, 4) == 0) {
            something_changes(&scene);
        } else {
            somebody_acts(&scene);
        }
        check_sums(&scene);
        check_turn(&scene);
    }
    print_message("%d slots given to who waited, %d refused\n", scene.granted_late, scene.refused);
    assert_true(scene.granted_late > STEPS / 100 && scene.refused > STEPS / 1000);
    test_line_release(&scene.line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
