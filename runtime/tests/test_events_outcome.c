/* outcome_decide(): a table of how runs end, and what becomes of their events. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/events/outcome.h"
#include "runtime/host/event_result.h"

static const struct delivery delivery = {.max_attempts = 5, .backoff_ms = 2000, .max_backoff_ms = 10000};

struct ending {
    const char *what;
    struct event_result result;
    int attempt;
    enum event_verdict verdict;
    int64_t least_ms, most_ms; /* of the delay */
    bool spend;
    const char *reason;
};

#define STATUS(code)                                                                                         \
    {                                                                                                        \
        .status = (code), .retry_after_ms = -1                                                               \
    }
/* The text initialises an array, which parentheses would not. NOLINTBEGIN(bugprone-macro-parentheses) */
#define SQLSTATE(code)                                                                                       \
    {                                                                                                        \
        .by_database = true, .sqlstate = code, .retry_after_ms = -1                                          \
    }
/* NOLINTEND(bugprone-macro-parentheses) */

static const struct ending endings[] = {
    {"settled", {.settled = true, .status = 500, .retry_after_ms = -1}, 9, EVENT_DONE, 0, 0, false, NULL},
    {"lost", {.lost = true, .by_database = true, .sqlstate = "ZC001"}, 1, EVENT_FORGET, 0, 0, false, NULL},
    {"400", STATUS(400), 1, EVENT_BURY, 0, 0, false, "rejected"},
    {"404", STATUS(404), 1, EVENT_BURY, 0, 0, false, "rejected"},
    {"408", STATUS(408), 1, EVENT_RETRY, 1000, 2000, true, NULL},
    {"409", STATUS(409), 2, EVENT_RETRY, 2000, 4000, true, NULL},
    {"425", STATUS(425), 3, EVENT_RETRY, 4000, 8000, true, NULL},
    {"429", STATUS(429), 4, EVENT_RETRY, 5000, 10000, true, NULL},
    {"500 at last", STATUS(500), 5, EVENT_BURY, 0, 0, false, "attempts"},
    {"503, later", {.status = 503, .retry_after_ms = 60000}, 1, EVENT_RETRY, 60000, 60000, true, NULL},
    {"503, sooner than the backoff",
     {.status = 503, .retry_after_ms = 1},
     1,
     EVENT_RETRY,
     1000,
     2000,
     true,
     NULL},
    {"503, next year",
     {.status = 503, .retry_after_ms = INT64_MAX},
     1,
     EVENT_RETRY,
     OUTCOME_RETRY_AFTER_MAX_MS,
     OUTCOME_RETRY_AFTER_MAX_MS,
     true,
     NULL},
    {"division by zero", SQLSTATE("22012"), 1, EVENT_BURY, 0, 0, false, "data"},
    {"unique violation", SQLSTATE("23505"), 1, EVENT_BURY, 0, 0, false, "data"},
    {"undefined table", SQLSTATE("42P01"), 1, EVENT_RETRY, 1000, 2000, true, NULL},
    {"undefined table, at last", SQLSTATE("42P01"), 5, EVENT_BURY, 0, 0, false, "attempts"},
    {"deadlock", SQLSTATE("40P01"), 9, EVENT_RETRY, 50, 100, false, NULL},
    {"disk full", SQLSTATE("53100"), 9, EVENT_RETRY, 500, 1000, false, NULL},
    {"shutdown", SQLSTATE("57P01"), 9, EVENT_RETRY, 500, 1000, false, NULL},
    {"cancelled", SQLSTATE("57014"), 1, EVENT_RETRY, 1000, 2000, true, NULL},
    {"connection failure", SQLSTATE("08006"), 9, EVENT_RETRY, 500, 1000, false, NULL},
    {"no connection", {.by_database = true, .unreachable = true}, 9, EVENT_RETRY, 500, 1000, false, NULL},
    {"not begun", {.untouched = true}, 1, EVENT_GIVE_BACK, 0, 0, false, NULL},
    {"a status beside an SQLSTATE that is not the answer",
     {.status = 422, .sqlstate = "40001"},
     1,
     EVENT_BURY,
     0,
     0,
     false,
     "rejected"},
};

static void test_endings(void **state)
{
    static const uint64_t randoms[] = {0, 1, 777, UINT64_MAX / 3, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
        const struct ending *ending = &endings[i];
        for (size_t j = 0; j < ARRAY_SIZE(randoms); j++) {
            struct event_decision decision =
                outcome_decide(&ending->result, &delivery, ending->attempt, 0, randoms[j]);
            if (decision.verdict != ending->verdict || decision.spend != ending->spend ||
                decision.delay_ms < ending->least_ms || decision.delay_ms > ending->most_ms)
                fail_msg("%s: verdict %d, %lld ms, spend %d", ending->what, decision.verdict,
                         (long long)decision.delay_ms, decision.spend);
            if (ending->reason != NULL)
                assert_string_equal(decision.reason, ending->reason);
        }
    }
}

static int64_t longest_delay(const struct event_result *result, int unspent)
{
    struct event_decision decision =
        outcome_decide(result, &delivery, /* attempt= */ 1, unspent, /* random= */ 0);

    assert_int_equal(decision.verdict, EVENT_RETRY);
    assert_false(decision.spend);
    return decision.delay_ms * 2; /* of chance there is none */
}

static void test_runs_that_spend_nothing_back_off(void **state)
{
    const struct event_result deadlock = SQLSTATE("40P01");
    const struct event_result away = {.by_database = true, .unreachable = true};

    (void)state;
    assert_int_equal(longest_delay(&deadlock, 0), 100);
    assert_int_equal(longest_delay(&deadlock, 3), 800);
    assert_int_equal(longest_delay(&deadlock, INT_MAX), 5000);
    assert_int_equal(longest_delay(&away, 0), 1000);
    assert_int_equal(longest_delay(&away, 2), 4000);
    assert_int_equal(longest_delay(&away, INT_MAX), 60000);
}

static void test_spent(void **state)
{
    (void)state;
    assert_false(outcome_is_spent(&delivery, 1));
    assert_false(outcome_is_spent(&delivery, 5));
    assert_true(outcome_is_spent(&delivery, 6)); /* its fifth run has ended without a word */
}

/* A session that is ended because of what the event did in it is no outage: it would be run again for ever. */
static void test_whose_a_lost_connection_is(void **state)
{
    static const struct {
        const char *sqlstate;
        bool spend;
    } cases[] = {{"", false}, {"57P01", false}, {"25P03", true}, {"25P04", true}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pg_error error = {.failure = PG_FAILURE_LOST};
        struct event_result result = {.retry_after_ms = -1};
        struct event_decision decision;

        snprintf(error.sqlstate, sizeof(error.sqlstate), "%s", cases[i].sqlstate);
        event_result_read_error(&result, &error);
        decision = outcome_decide(&result, &delivery, 1, 0, 0);
        assert_int_equal(decision.verdict, EVENT_RETRY);
        assert_int_equal(decision.spend, cases[i].spend);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endings),
        cmocka_unit_test(test_runs_that_spend_nothing_back_off),
        cmocka_unit_test(test_whose_a_lost_connection_is),
        cmocka_unit_test(test_spent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
