/* test_local_rollout.c - the decision, as a table, and what must hold of every one. */
#include "operator/local/rollout.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_test.h"

static const struct {
    const char *what;
    struct rollout_state state;
    struct rollout_step step;
} table[] = {
    {"asleep", {.desired = 0, .may_start = true}, {0}},
    {"woken", {.desired = 1, .may_start = true}, {.start = 1}},
    {"woken, but it failed a moment ago", {.desired = 1}, {0}},
    {"starting", {.desired = 1, .starting = 1, .may_start = true}, {0}},
    {"serving", {.desired = 1, .serving = 1, .may_start = true}, {0}},
    {"up", {.desired = 4, .serving = 1, .starting = 1, .may_start = true}, {.start = 2}},
    {"down", {.desired = 1, .serving = 3, .may_start = true}, {.stop_new = 2}},
    {"to sleep", {.desired = 0, .serving = 2, .starting = 1, .may_start = true}, {.stop_new = 3}},
    {"changed", {.desired = 2, .old = 2, .may_start = true}, {.start = 2}},
    {"changed, the first serves",
     {.desired = 2, .old = 2, .serving = 1, .starting = 1, .may_start = true},
     {.stop_old = 1}},
    {"changed, all serve", {.desired = 2, .old = 1, .serving = 2, .may_start = true}, {.stop_old = 1}},
    {"changed, the new one fails", {.desired = 1, .old = 1}, {0}},
    {"changed and scaled down", {.desired = 1, .old = 3, .may_start = true}, {.start = 1, .stop_old = 2}},
    {"changed and asleep", {.desired = 0, .old = 2, .may_start = true}, {.stop_old = 2}},
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct rollout_step step = rollout_decide(&table[i].state);
        const struct rollout_step *wanted = &table[i].step;
        if (step.start != wanted->start || step.stop_new != wanted->stop_new ||
            step.stop_old != wanted->stop_old) {
            fail_msg("%s: start %d, stop %d new and %d old", table[i].what, step.start, step.stop_new,
                     step.stop_old);
        }
    }
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

static void check(const struct rollout_state *state)
{
    struct rollout_step step = rollout_decide(state);
    int present = state->starting + state->serving;
    assert_true(step.start >= 0 && step.stop_new >= 0 && step.stop_old >= 0);
    assert_true(step.stop_new <= present && step.stop_old <= state->old);
    assert_true(step.start == 0 || step.stop_new == 0);
    assert_true(state->may_start || step.start == 0);
    /* Those that can't serve yet are ended first: what serves is not fewer than it was, or than is wanted. */
    int ended = step.stop_new - least(step.stop_new, state->starting);
    int before = state->serving + state->old, after = before - ended - step.stop_old;
    assert_true(after >= least(before, state->desired));
    if (present <= state->desired && state->old <= state->desired) {
        assert_true(present + step.start + state->old <= 2 * state->desired);
    }
}

static void test_every_state(void **state)
{
    (void)state;
    for (int i = 0; i < 5 * 5 * 5 * 5 * 2; i++) {
        struct rollout_state each = {.desired = i % 5,
                                     .starting = i / 5 % 5,
                                     .serving = i / 25 % 5,
                                     .old = i / 125 % 5,
                                     .may_start = i / 625 == 1};
        check(&each);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_every_state)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
