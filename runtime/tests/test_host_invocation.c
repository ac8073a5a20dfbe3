/* handler and invocation: loading what users built, and who owns a call when it is late. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/stop.h"
#include "runtime/host/c_function.h"
#include "runtime/host/handler.h"
#include "runtime/host/invocation.h"

static const struct cicada_function *load(const char *file, const char *symbol, struct err *err)
{
    CLEANUP_FREE char *directory = xasprintf("%s/test-functions", getenv("CICADA_TEST_BUILD"));
    const struct cicada_function *function = NULL;

    if (handler_load(directory, file, symbol, &function, err) != 0)
        return NULL;
    return function;
}

static void test_loads(void **state)
{
    struct err err = ERR_INIT;
    const struct cicada_function *function = load("probe.so", "probe", &err);

    (void)state;
    assert_non_null(function);
    assert_string_equal(function->name, "probe");
    assert_non_null(function->init);
    assert_non_null(load("abi.so", "older_table", &err)); /* an older header is fine */
}

static void test_load_failures_tell_why(void **state)
{
    static const struct {
        const char *file, *symbol, *text;
    } cases[] = {
        {"nothere.so", "f", "nothere.so:f: "},
        {"nothere.so", "f", "No such file"},
        {"probe.so", "nothere", "undefined symbol: cicada_function_nothere"},
        {"undefined.so", "undefined", "undefined symbol: cicada_test_symbol_of_nobody"},
        {"abi.so", "other_version", "built for ABI version 2, this runtime has 1"},
        {"abi.so", "newer_table", "newer runtime"},
        {"abi.so", "no_handler", "incomplete"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err err = ERR_INIT;
        assert_null(load(cases[i].file, cases[i].symbol, &err));
        if (strstr(err.msg, cases[i].text) == NULL)
            fail_msg("expected <%s>, got: %s", cases[i].text, err.msg);
    }
}

/* What the handler below is to do. */
struct plan {
    struct c_function invoker;
    struct stop release; /* it waits for this */
    int result, status;
    atomic_int calls;
};

static int planned(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    struct plan *plan = cicada_state(ctx);
    struct cicada_result *result;

    (void)req;
    (void)stop_wait(&plan->release, 5000);
    atomic_fetch_add(&plan->calls, 1);
    if (plan->status == 0)
        return cicada_query(ctx, "SELECT 1", CICADA_NO_PARAMS, &result);
    if (plan->status >= 400)
        return cicada_problem(res, plan->status, "planned", "as planned");
    cicada_response_status(res, plan->status);
    return plan->result;
}

static const struct cicada_function planned_function = {.name = "planned", .handle = planned};

static struct invocation *make(struct plan *plan, struct invocation_target *target, int64_t timeout_ms)
{
    plan->invoker = (struct c_function){.function = &planned_function, .state = plan};
    *target = (struct invocation_target){.ops = &c_function_ops,
                                         .invoker = &plan->invoker,
                                         .name = "f",
                                         .namespace = "n",
                                         .success_status = 200,
                                         .response_max_bytes = 1000};
    return invocation_new(target, "id-1", clock_monotonic_ms() + timeout_ms);
}

static void *run(void *arg)
{
    struct invocation *invocation = arg;

    invocation_run(invocation);
    invocation_finish(invocation);
    invocation_unref(invocation);
    return NULL;
}

static pthread_t run_on_thread(struct invocation *invocation)
{
    pthread_t thread;

    invocation_ref(invocation);
    assert_int_equal(pthread_create(&thread, NULL, run, invocation), 0);
    return thread;
}

static void expect_outcome(struct plan *plan, int status, const char *text)
{
    struct invocation_target target;
    struct invocation *invocation = make(plan, &target, 5000);
    pthread_t thread = run_on_thread(invocation);

    assert_int_equal(invocation_wait(invocation, 1000), INVOCATION_DONE);
    pthread_join(thread, NULL);
    assert_int_equal(invocation->response.status, status);
    assert_non_null(strstr(invocation->response.body.buf, text));
    invocation_unref(invocation);
}

static void test_outcomes(void **state)
{
    struct plan plan = {.result = CICADA_OK, .status = 204};

    (void)state;
    stop_init(&plan.release);
    stop_set(&plan.release);
    expect_outcome(&plan, 204, "");
    plan.status = 409;
    expect_outcome(&plan, 409, "\"component\":\"function\"");
    plan.status = 200;
    plan.result = CICADA_FAIL;
    expect_outcome(&plan, 500, "\"code\":\"handler_failed\"");
    plan.result = 17; /* anything but CICADA_OK is a failure */
    expect_outcome(&plan, 500, "\"code\":\"handler_failed\"");
    plan.status = 0; /* no database */
    expect_outcome(&plan, 500, "\"component\":\"runtime\"");
    stop_release(&plan.release);
}

/* As a function built with a newer header might: to bind it as NULL would store what nobody said. */
static int binds_unknown_kind(struct cicada_request *req, struct cicada_context *ctx,
                              struct cicada_response *res)
{
    struct cicada_param param = cicada_int64(7);

    (void)req, (void)res;
    param.kind = 99;
    return cicada_execute(ctx, "SELECT $1", &param, 1);
}

static void test_unknown_kinds_of_parameters_are_refused(void **state)
{
    static const struct cicada_function function = {.name = "f", .handle = binds_unknown_kind};
    const struct pg_pool_settings settings = {
        .url = "postgresql://nobody@127.0.0.1:1/none", .size = 1, .connect_timeout_ms = 100};
    struct c_function invoker = {.function = &function};
    struct invocation_target target = {.ops = &c_function_ops,
                                       .invoker = &invoker,
                                       .name = "f",
                                       .namespace = "n",
                                       .success_status = 200,
                                       .response_max_bytes = 1000};
    struct invocation *invocation;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(pg_pool_new(&settings, &target.pool, &err), 0);
    invocation = invocation_new(&target, "id-1", clock_monotonic_ms() + 100);
    invocation_run(invocation);
    assert_int_equal(invocation->response.status, 500);
    assert_non_null(strstr(invocation->response.body.buf, "\"code\":\"statement_refused\""));
    invocation_unref(invocation);
    pg_pool_free(target.pool);
}

static void test_late_handler_is_given_up(void **state)
{
    struct plan plan = {.result = CICADA_OK, .status = 200};
    struct invocation_target target;
    struct invocation *invocation = make(&plan, &target, 30);
    pthread_t thread;

    (void)state;
    stop_init(&plan.release);
    thread = run_on_thread(invocation);
    assert_int_equal(invocation_wait(invocation, 1000), INVOCATION_GIVEN_UP);
    database_cancel(&invocation->database);
    invocation_unref(invocation); /* the handler still runs, on memory of its own */
    stop_set(&plan.release);
    pthread_join(thread, NULL);
    assert_int_equal(plan.calls, 1);
    stop_release(&plan.release);
}

static void test_race_at_the_deadline(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++) {
        struct plan plan = {.result = CICADA_OK, .status = 200};
        struct invocation_target target;
        struct invocation *invocation;
        enum invocation_state outcome;
        pthread_t thread;

        stop_init(&plan.release);
        stop_set(&plan.release);
        invocation = make(&plan, &target, i % 2);
        thread = run_on_thread(invocation);
        outcome = invocation_wait(invocation, 1000);
        assert_true(outcome == INVOCATION_DONE || outcome == INVOCATION_GIVEN_UP);
        invocation_unref(invocation);
        pthread_join(thread, NULL);
        stop_release(&plan.release);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads),
        cmocka_unit_test(test_load_failures_tell_why),
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_unknown_kinds_of_parameters_are_refused),
        cmocka_unit_test(test_late_handler_is_given_up),
        cmocka_unit_test(test_race_at_the_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
