/* handler and invocation: loading what users built, and who answers a call that is late. */
#include <dlfcn.h>
#include <poll.h>
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
#include "runtime/host/watchdog.h"

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
    assert_null(dlsym(RTLD_DEFAULT,
                      "cicada_function_probe")); /* RTLD_LOCAL: functions don't see each other's symbols */
    assert_non_null(load("abi.so", "older_table", &err)); /* an older header is fine */
    function = load("abi.so", "older_function", &err);
    assert_non_null(function);
    assert_int_equal(handler_flags(function), 0);
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
        {"abi.so", "cut_function", "incomplete"},
        {"abi.so", "unknown_flag", "has flags that this runtime ("},
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

static void make(struct invocation *invocation, struct plan *plan, struct invocation_target *target,
                 int64_t timeout_ms)
{
    plan->invoker = (struct c_function){.function = &planned_function, .state = plan};
    *target = (struct invocation_target){.ops = &c_function_ops,
                                         .invoker = &plan->invoker,
                                         .name = "f",
                                         .namespace = "n",
                                         .success_status = 200,
                                         .response_max_bytes = 1000};
    invocation_init(invocation, target, /* http= */ NULL, "id-1", clock_monotonic_us(), timeout_ms);
}

static void expect_outcome(struct plan *plan, int status, const char *text)
{
    struct invocation_target target;
    struct invocation invocation;

    make(&invocation, plan, &target, 5000);
    invocation_run(&invocation);
    assert_int_equal(invocation.response.status, status);
    assert_non_null(strstr(invocation.response.body.buf, text));
    invocation_release(&invocation);
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
    struct invocation invocation;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(pg_pool_new(&settings, &target.pool, &err), 0);
    invocation_init(&invocation, &target, /* http= */ NULL, "id-1", clock_monotonic_us(), 100);
    invocation_run(&invocation);
    assert_int_equal(invocation.response.status, 500);
    assert_non_null(strstr(invocation.response.body.buf, "\"code\":\"statement_refused\""));
    invocation_release(&invocation);
    pg_pool_free(target.pool);
}

/* What the watchdog answered; the handler waits for that, so every one of its answers is seen to be complete. */
struct answers {
    struct stop *release;
    atomic_int given_up, unconfirmed, complete;
};

static void answer(void *arg, struct invocation *invocation)
{
    struct answers *answers = arg;

    if (atomic_load(&invocation->state) == INVOCATION_GIVEN_UP)
        atomic_fetch_add(&answers->given_up, 1);
    else
        atomic_fetch_add(&answers->unconfirmed, 1);
    database_cancel(&invocation->database);
    if (answers->release != NULL)
        stop_set(answers->release);
    (void)poll(NULL, 0, 5); /* the handler returns meanwhile */
    atomic_fetch_add(&answers->complete, 1);
}

static struct watchdog *new_watchdog(struct answers *answers, int64_t timeout_ms, int64_t grace_ms)
{
    const struct watchdog_settings settings = {
        .lanes = 1, .timeout_ms = timeout_ms, .grace_ms = grace_ms, .answer = answer, .answer_arg = answers};
    struct watchdog *watchdog = NULL;
    struct err err = ERR_INIT;

    assert_int_equal(watchdog_new(&settings, &watchdog, &err), 0);
    return watchdog;
}

static void test_late_handler_is_given_up(void **state)
{
    struct plan plan = {.result = CICADA_OK, .status = 200};
    struct answers answers = {.release = &plan.release};
    struct watchdog *watchdog = new_watchdog(&answers, 60000, 1000); /* sleeps for long, unless it is woken */
    struct invocation_target target;
    struct invocation invocation;
    int64_t begin_ms = clock_monotonic_ms();

    (void)state;
    stop_init(&plan.release);
    make(&invocation, &plan, &target, 30);
    watchdog_add(watchdog, &invocation);
    invocation_run(&invocation);
    assert_true(watchdog_remove(watchdog, &invocation));
    assert_in_range(clock_monotonic_ms() - begin_ms, 30, 1000);
    assert_int_equal(plan.calls, 1);
    assert_int_equal(answers.given_up, 1);
    assert_int_equal(answers.complete, 1);
    invocation_release(&invocation);
    watchdog_free(watchdog);
    stop_release(&plan.release);
}

static void test_late_end_of_a_transaction(void **state)
{
    struct plan plan = {.result = CICADA_OK, .status = 200};
    struct answers answers = {0};
    struct watchdog *watchdog = new_watchdog(&answers, 1000, 40);
    struct invocation_target target;
    struct invocation invocation;
    char request_id[REQUEST_ID_MAX + 1];

    (void)state;
    make(&invocation, &plan, &target, 10);
    atomic_store(&invocation.state, INVOCATION_ENDING); /* as while COMMIT is under way */
    watchdog_add(watchdog, &invocation);
    (void)poll(NULL, 0, 30);
    assert_int_equal(answers.complete, 0); /* the deadline alone is no reason */
    assert_false(watchdog_stuck(watchdog, request_id));
    (void)poll(NULL, 0, 100);
    assert_true(watchdog_stuck(watchdog, request_id));
    assert_string_equal(request_id, "id-1");
    assert_true(watchdog_remove(watchdog, &invocation));
    assert_int_equal(answers.unconfirmed, 1);
    assert_false(watchdog_stuck(watchdog, request_id));
    invocation_release(&invocation);
    watchdog_free(watchdog);
}

/* Threads that share one watchdog, with deadlines at about the time when their handlers return. */
#define RACERS 4
#define ROUNDS 100

struct race {
    struct watchdog *watchdog;
    atomic_int answered, in_time;
};

static void *race(void *arg)
{
    struct race *race = arg;

    for (int i = 0; i < ROUNDS; i++) {
        struct plan plan = {.result = CICADA_OK, .status = 200};
        struct invocation_target target;
        struct invocation invocation;

        stop_init(&plan.release);
        stop_set(&plan.release);
        make(&invocation, &plan, &target, i % 3);
        watchdog_add(race->watchdog, &invocation);
        if (i % 4 == 0)
            (void)poll(NULL, 0, 1);
        invocation_run(&invocation);
        atomic_fetch_add(watchdog_remove(race->watchdog, &invocation) ? &race->answered : &race->in_time, 1);
        invocation_release(&invocation);
        stop_release(&plan.release);
    }
    return NULL;
}

static void test_race_at_the_deadline(void **state)
{
    struct answers answers = {0};
    struct race shared = {.watchdog = new_watchdog(&answers, 1000, 10000)};
    pthread_t threads[RACERS];

    (void)state;
    for (int i = 0; i < RACERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &shared), 0);
    for (int i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    watchdog_free(shared.watchdog);
    assert_int_equal(shared.answered + shared.in_time, RACERS * ROUNDS);
    assert_int_equal(shared.answered, answers.complete);
    assert_true(shared.answered > 0);
    assert_true(shared.in_time > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads),
        cmocka_unit_test(test_load_failures_tell_why),
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_unknown_kinds_of_parameters_are_refused),
        cmocka_unit_test(test_late_handler_is_given_up),
        cmocka_unit_test(test_late_end_of_a_transaction),
        cmocka_unit_test(test_race_at_the_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
