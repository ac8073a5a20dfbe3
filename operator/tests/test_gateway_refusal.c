/* When nobody is let wait: failures of pods, of the Deployment, and a function that is off or gone. No loop and no socket is involved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "operator/tests/support_gateway_line.h"

static void test_failures_are_told_at_once(void **state)
{
    (void)state;
    struct test_line line;
    test_line_init(&line, "\"concurrency\":1");
    assert_int_equal(test_line_admit(&line, 0), ADMIT_QUEUED);
    test_line_pod(&line, 0, GATEWAY_POD_PENDING, NULL);
    assert_int_equal(line.told[0].order, 0);
    test_line_pod(&line, 0, GATEWAY_POD_PENDING, "ImagePullBackOff");
    assert_int_equal(line.told[0].waiter.state, WAITER_REFUSED);
    assert_string_equal(line.told[0].waiter.refused_code, "ImagePullBackOff");
    assert_int_equal(test_line_admit(&line, 1), ADMIT_REFUSED);
    /* A usable pod beside it: nobody is refused. */
    test_line_pod(&line, 1, GATEWAY_POD_READY, NULL);
    assert_int_equal(test_line_admit(&line, 2), ADMIT_GRANTED);
    assert_int_equal(test_line_admit(&line, 3), ADMIT_QUEUED);
    /* It goes, and only the failing one is left. */
    test_line_pod(&line, 1, GATEWAY_POD_TERMINATING, NULL);
    assert_int_equal(line.told[3].waiter.state, WAITER_REFUSED);
    /* The failing one goes, too: a new one may come. */
    function_remove_pod(line.function, line.pods[0]);
    line.pods[0] = NULL;
    assert_int_equal(test_line_admit(&line, 4), ADMIT_QUEUED);
    test_line_release(&line);
}

/* What fails for all pods of a template is told at once, however many of them are starting. */
static void test_a_failure_speaks_for_its_template(void **state)
{
    (void)state;
    struct test_line line;
    test_line_init(&line, "\"concurrency\":1");
    for (int i = 0; i < 3; i++) {
        test_line_pod_of(&line, i, 7, GATEWAY_POD_PENDING, NULL);
    }
    assert_int_equal(test_line_admit(&line, 0), ADMIT_QUEUED);
    test_line_pod_of(&line, 1, 7, GATEWAY_POD_PENDING, "ImagePullBackOff");
    assert_string_equal(line.told[0].waiter.refused_code, "ImagePullBackOff");
    assert_int_equal(test_line_admit(&line, 1), ADMIT_REFUSED);
    /* One that has served is not among those: it may come back. */
    struct sockaddr_in address = line.pods[2]->address;
    assert_true(function_pod_usable(line.function, line.pods[2], &address));
    function_pod_unreachable(line.function, line.pods[2]);
    assert_int_equal(test_line_admit(&line, 2), ADMIT_QUEUED);
    test_line_pod_of(&line, 2, 7, GATEWAY_POD_TERMINATING, NULL);
    assert_string_equal(line.told[2].waiter.refused_code, "ImagePullBackOff");
    test_line_release(&line);
}

/* The newest template fails, and the pod before, which served, is replaced. */
static void test_a_pod_of_another_template_is_waited_for(void **state)
{
    (void)state;
    struct test_line line;
    test_line_init(&line, "\"concurrency\":1");
    function_set_template(line.function, 8);
    test_line_pod_of(&line, 0, 7, GATEWAY_POD_READY, NULL);
    test_line_pod_of(&line, 1, 8, GATEWAY_POD_PENDING, "HandlerLoadFailed");
    assert_int_equal(test_line_admit(&line, 0), ADMIT_GRANTED);
    assert_int_equal(test_line_admit(&line, 1), ADMIT_QUEUED);
    /* It leaves: its successor may come before it is gone. */
    function_pod_goodbye(line.function, line.pods[0]);
    assert_int_equal(line.told[1].order, 0);
    test_line_pod_of(&line, 0, 7, GATEWAY_POD_TERMINATING, NULL);
    assert_int_equal(line.told[1].order, 0);
    test_line_pod_of(&line, 2, 7, GATEWAY_POD_PENDING, NULL);
    test_line_done(&line, 0);
    function_remove_pod(line.function, line.pods[0]);
    line.pods[0] = NULL;
    assert_int_equal(line.told[1].order, 0);
    /* Now that one fails, too: the newest's code is the answer. */
    test_line_pod_of(&line, 2, 7, GATEWAY_POD_PENDING, "ContainerExited");
    assert_string_equal(line.told[1].waiter.refused_code, "HandlerLoadFailed");
    assert_int_equal(test_line_admit(&line, 2), ADMIT_REFUSED);
    test_line_release(&line);
}

/* Pods of a template that is not the newest any more say nothing about what comes. */
static void test_a_newer_template_is_waited_for(void **state)
{
    (void)state;
    struct test_line line;
    test_line_init(&line, "\"concurrency\":1");
    test_line_pod_of(&line, 0, 7, GATEWAY_POD_PENDING, "ImagePullBackOff");
    assert_int_equal(test_line_admit(&line, 0), ADMIT_REFUSED);
    function_set_template(line.function, 8);
    assert_int_equal(test_line_admit(&line, 1), ADMIT_QUEUED); /* no pod of it is known yet */
    test_line_pod_of(&line, 1, 8, GATEWAY_POD_PENDING, NULL);
    assert_int_equal(line.told[1].order, 0);
    test_line_pod_of(&line, 1, 8, GATEWAY_POD_PENDING, "CreateContainerConfigError");
    assert_string_equal(line.told[1].waiter.refused_code, "CreateContainerConfigError");
    /* Back to the one before, whose pod is there: its code. */
    function_set_template(line.function, 7);
    assert_int_equal(test_line_admit(&line, 2), ADMIT_REFUSED);
    assert_string_equal(line.told[2].waiter.refused_code, "ImagePullBackOff");
    /* A quota stops the newer one. */
    function_set_template(line.function, 9);
    assert_int_equal(test_line_admit(&line, 3), ADMIT_QUEUED);
    function_set_blocked(line.function, "QuotaExceeded");
    assert_string_equal(line.told[3].waiter.refused_code, "QuotaExceeded");
    test_line_release(&line);
}

static void test_blocked(void **state)
{
    (void)state;
    struct test_line line;
    bool wake;
    test_line_init(&line, "\"concurrency\":1");
    assert_int_equal(test_line_admit(&line, 0), ADMIT_QUEUED);
    function_set_blocked(line.function, "QuotaExceeded");
    assert_string_equal(line.told[0].waiter.refused_code, "QuotaExceeded");
    /* Refused, and yet the function is to be woken: the quota may be gone. Once a second is enough. */
    line.function->asked_ms = 0;
    assert_int_equal(function_admit(line.function, &line.told[1].waiter, false, &wake), ADMIT_REFUSED);
    assert_true(wake);
    function_set_blocked(line.function, NULL);
    assert_int_equal(test_line_admit(&line, 2), ADMIT_QUEUED);
    /* One pod is starting; that there can't be a second is no reason to give up. */
    test_line_pod(&line, 0, GATEWAY_POD_PENDING, NULL);
    function_set_blocked(line.function, "QuotaExceeded");
    assert_int_equal(line.told[2].order == 0, true);
    assert_int_equal(test_line_admit(&line, 3), ADMIT_QUEUED);
    test_line_pod(&line, 0, GATEWAY_POD_TERMINATING, NULL);
    assert_string_equal(line.told[3].waiter.refused_code, "QuotaExceeded");
    test_line_release(&line);
}

static void test_pinned_to_zero_and_deleted(void **state)
{
    (void)state;
    struct test_line line;
    bool wake;
    test_line_init(&line, "\"concurrency\":1");
    assert_int_equal(test_line_admit(&line, 0), ADMIT_QUEUED);
    test_line_spec(&line, "\"replicas\":0");
    assert_string_equal(line.told[0].waiter.refused_code, "ScaledToZeroByUser");
    assert_int_equal(function_admit(line.function, &line.told[1].waiter, false, &wake), ADMIT_REFUSED);
    assert_false(wake);
    test_line_pod(&line, 0, GATEWAY_POD_READY, NULL); /* one that is on its way out: no more requests */
    assert_int_equal(test_line_admit(&line, 1), ADMIT_REFUSED);
    test_line_spec(&line, "\"concurrency\":1");
    assert_int_equal(test_line_admit(&line, 1), ADMIT_GRANTED);
    assert_int_equal(test_line_admit(&line, 2), ADMIT_QUEUED);
    function_set_spec(line.function, NULL, (struct function_peers){.gateways = 1});
    assert_string_equal(line.told[2].waiter.refused_code, "function_deleted");
    test_line_done(&line, 1);
    assert_int_equal(line.function->in_flight, 0);
    test_line_release(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures_are_told_at_once),
        cmocka_unit_test(test_a_failure_speaks_for_its_template),
        cmocka_unit_test(test_a_pod_of_another_template_is_waited_for),
        cmocka_unit_test(test_a_newer_template_is_waited_for),
        cmocka_unit_test(test_blocked),
        cmocka_unit_test(test_pinned_to_zero_and_deleted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
