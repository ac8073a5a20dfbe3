/* What waits, as a Function's status shows it; and whether a server has connections enough. */
#include <math.h>
#include <string.h>

#include "operator/backlog/connection_budget.h"
#include "operator/function/trigger_status.h"
#include "operator/tests/support_function.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_test.h"

/* ---- figures ---- */

static const char both[] = "{database: {secretRef: {name: a}}, triggers: [{name: q, queue: {name: q}}, "
                           "{name: s, schedule: {cron: '@daily'}}]}";

static const struct backlog_function figures = {
    .triggers = {{.name = "q",
                  .known = true,
                  .due = 5,
                  .delayed = 1,
                  .leased = 2,
                  .blocked = 3,
                  .dead = 7,
                  .oldest_s = 59.9},
                 {.name = "s", .known = true, .next_run_s = 1767225600}},
    .trigger_count = 2,
};

static char *shown(const struct function_status *status, const char *member)
{
    CLEANUP_JSON cJSON *intent = function_status_intent(status, "b", "a", "1");
    const cJSON *item = json_get(json_object(intent, "status"), member);
    return item ? json_print_dup(item) : xstrdup("-");
}

static void expect_shown(const struct function_status *status, const char *member, const char *expected)
{
    CLEANUP_FREE char *text = shown(status, member);
    assert_string_equal(text, expected);
}

static void fill(const char *spec_yaml, const struct backlog_function *backlog,
                 const struct function_status *before, struct function_status *ret_status)
{
    CLEANUP_SPEC struct function_spec *spec = support_spec(spec_yaml);
    memset(ret_status, 0, sizeof *ret_status);
    trigger_status_fill(spec, backlog, before, ret_status);
}

static void shows_what_is_known(void **state)
{
    (void)state;
    struct function_status none = {.replicas = 0}, status, read;
    fill(both, &figures, &none, &status);
    expect_shown(&status, "backlog", "11");
    expect_shown(&status, "triggers",
                 "[{\"name\":\"q\",\"backlog\":11,\"oldestAgeSeconds\":50,\"deadLetters\":7},"
                 "{\"name\":\"s\",\"backlog\":0,\"oldestAgeSeconds\":0,\"deadLetters\":0,"
                 "\"nextRun\":\"2026-01-01T00:00:00Z\"}]");
    CLEANUP_JSON cJSON *intent = function_status_intent(&status, "b", "a", "1");
    function_status_parse(intent, &read);
    assert_true(function_status_equal(&status, &read));
    read.triggers[1].next_run_s++;
    assert_false(function_status_equal(&status, &read));
    read.triggers[1].next_run_s--;
    read.triggers[0].dead_letters++;
    assert_false(function_status_equal(&status, &read));
    function_status_release(&read);
    function_status_release(&status);
}

static void shows_nothing_before_it_is_known(void **state)
{
    (void)state;
    struct function_status none = {.replicas = 0}, status;
    fill(both, NULL, &none, &status);
    expect_shown(&status, "backlog", "-");
    expect_shown(&status, "triggers", "[{\"name\":\"q\"},{\"name\":\"s\"}]");
    function_status_release(&status);
    fill("{}", &figures, &none, &status);
    expect_shown(&status, "backlog", "-");
    expect_shown(&status, "triggers", "-");
    function_status_release(&status);
}

/* A database that is away for a while changes nothing that people see. */
static void keeps_what_was_known(void **state)
{
    (void)state;
    struct function_status none = {.replicas = 0}, before, status;
    fill(both, &figures, &none, &before);
    struct backlog_function away = figures;
    away.triggers[0].known = away.triggers[1].known = false;
    away.triggers[0].due = 0;
    away.triggers[1].next_run_s = 0;
    fill(both, &away, &before, &status);
    assert_true(function_status_equal(&status, &before));
    function_status_release(&status);
    fill(both, NULL, &before, &status);
    assert_true(function_status_equal(&status, &before));
    function_status_release(&status);
    /* A trigger of that name that is no schedule any more. */
    fill("{database: {secretRef: {name: a}}, triggers: [{name: s, queue: {name: q}}]}", NULL, &before,
         &status);
    expect_shown(&status, "triggers",
                 "[{\"name\":\"s\",\"backlog\":0,\"oldestAgeSeconds\":0,\"deadLetters\":0}]");
    function_status_release(&status);
    function_status_release(&before);
}

static void rounds_ages(void **state)
{
    (void)state;
    static const struct {
        double age_s;
        int64_t shown;
    } ages[] = {{0, 0},   {-1, 0},    {NAN, 0},     {INFINITY, 0}, {9.9, 0},       {10, 10},      {59, 50},
                {60, 60}, {179, 120}, {3599, 3540}, {3600, 3600},  {90000, 90000}, {93599, 90000}};
    for (size_t i = 0; i < ARRAY_SIZE(ages); i++) {
        struct function_status none = {.replicas = 0}, status;
        struct backlog_function backlog = figures;
        backlog.triggers[0].oldest_s = ages[i].age_s;
        fill(both, &backlog, &none, &status);
        assert_int_equal(status.triggers[0].oldest_age_s, ages[i].shown);
        function_status_release(&status);
    }
}

static void strange_figures_are_no_trouble(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *function = support_yaml(
        "{status: {backlog: x, triggers: [1, {name: 5}, {name: a, backlog: x, nextRun: never}]}}");
    struct function_status status;
    function_status_parse(function, &status);
    assert_int_equal(status.trigger_count, 3);
    assert_string_equal(status.triggers[2].name, "a");
    assert_int_equal(status.triggers[2].next_run_s, 0);
    function_status_release(&status);
}

/* ---- connections ---- */

static struct connection_budget budget_of(int max_connections, int64_t ours,
                                          const struct connection_user *users, size_t count)
{
    struct connection_budget budget = {.max_connections = max_connections, .ours = ours};
    for (size_t i = 0; i < count; i++) {
        budget.needed += connection_budget_of(&users[i]);
        budget.function_count++;
    }
    return budget;
}

static void adds_up(void **state)
{
    (void)state;
    const struct connection_user user = {.max_replicas = 10, .surge = 3, .pool_size = 4, .events = true},
                                 large = {.max_replicas = 1000,
                                          .surge = 250,
                                          .pool_size = 100,
                                          .events = true},
                                 without = {.max_replicas = 10, .surge = 3, .pool_size = 4};
    assert_int_equal(connection_budget_of(&user), 13 * 5);
    assert_int_equal(connection_budget_of(&without), 13 * 4);
    assert_int_equal(connection_budget_of(&large), 126250);
    assert_int_equal(connection_user_surge(1), 1);
    assert_int_equal(connection_user_surge(10), 3);
    assert_int_equal(connection_user_surge(1000), 250);
}

static void expect_budget(const struct connection_budget *budget, const struct function_status *before,
                          enum condition_status status, const char *reason)
{
    CLEANUP_SPEC struct function_spec *spec = support_spec(both);
    struct backlog_function backlog = figures;
    struct condition condition = {.status = CONDITION_ABSENT};
    backlog.connections = *budget;
    backlog.own_connections = 76;
    trigger_status_budget(spec, &backlog, before, &condition);
    assert_int_equal(condition.status, status);
    assert_string_equal(condition.reason, reason);
    if (status == CONDITION_FALSE) {
        assert_string_equal(
            condition.message,
            "the Functions that are known to use this database server may need more than 80 % of its "
            "max_connections (100), this one up to 76 of them. Lower scaling.maxReplicas or "
            "database.poolSize, or raise max_connections");
    }
    free(condition.message);
}

static void tells_when_there_are_too_few(void **state)
{
    (void)state;
    const struct connection_user user = {.max_replicas = 15, .surge = 4, .pool_size = 3, .events = true};
    struct function_status none = {.replicas = 0}, before = {.replicas = 0};
    struct connection_budget unknown = budget_of(0, 4, &user, 1), all = budget_of(100, 4, &user, 1),
                             more = budget_of(100, 5, &user, 1);
    expect_budget(&unknown, &none, CONDITION_ABSENT, "");
    expect_budget(&all, &none, CONDITION_TRUE, "WithinBudget"); /* 80 of 100 */
    expect_budget(&more, &none, CONDITION_FALSE, "OverBudget");
    more.function_count++; /* nobody writes its status for what another one needs */
    more.needed += 100;
    expect_budget(&more, &none, CONDITION_FALSE, "OverBudget");
    condition_set(&before.conditions[CONDITION_CONNECTION_BUDGET], CONDITION_TRUE, "WithinBudget",
                  "as before");
    expect_budget(&unknown, &before, CONDITION_TRUE, "WithinBudget");
    function_status_release(&before);
}

static void events_get_their_part(void **state)
{
    (void)state;
    const struct connection_user users[] = {
        {.max_replicas = 10, .surge = 3, .pool_size = 4, .events = true},  /* 65 */
        {.max_replicas = 40, .surge = 10, .pool_size = 9, .events = true}, /* 500 */
    };
    struct connection_budget unknown = budget_of(0, 0, users, 2), fine = budget_of(1000, 0, users, 2),
                             half = budget_of(354, 1, users, 2), tiny = budget_of(10, 20, users, 2);
    assert_int_equal(connection_budget_event_replicas(&unknown, &users[1]), 40);
    assert_int_equal(connection_budget_event_replicas(&fine, &users[1]), 40);
    /* 282 of 565 there: 32 and 249 connections, 6 and 24 pods, less the surge */
    assert_int_equal(connection_budget_event_replicas(&half, &users[0]), 3);
    assert_int_equal(connection_budget_event_replicas(&half, &users[1]), 14);
    assert_int_equal(connection_budget_event_replicas(&tiny, &users[1]), 1);
}

/* Whatever the numbers: within limits, and the parts of all are no more than there is. */
static void parts_are_no_more_than_the_whole(void **state)
{
    (void)state;
    unsigned seed = 7;
    for (int round = 0; round < 2000; round++) {
        struct connection_user users[8];
        for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
            int max = 1 + (int)(rand_r(&seed) % 1000);
            users[i] = (struct connection_user){.max_replicas = max,
                                                .surge = connection_user_surge(max),
                                                .pool_size = 1 + (int)(rand_r(&seed) % 100),
                                                .events = true};
        }
        int max_connections = 1 + (int)(rand_r(&seed) % 5000);
        struct connection_budget budget = budget_of(max_connections, 1, users, ARRAY_SIZE(users));
        int64_t used = budget.ours;
        for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
            int replicas = connection_budget_event_replicas(&budget, &users[i]);
            assert_in_range(replicas, 1, users[i].max_replicas);
            used += replicas > 1 ? ((int64_t)replicas + users[i].surge) * (users[i].pool_size + 1) : 0;
        }
        assert_true(used * 100 <= (int64_t)max_connections * CONNECTION_BUDGET_PERCENT + 100 * budget.ours);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_what_is_known),
        cmocka_unit_test(shows_nothing_before_it_is_known),
        cmocka_unit_test(keeps_what_was_known),
        cmocka_unit_test(rounds_ages),
        cmocka_unit_test(strange_figures_are_no_trouble),
        cmocka_unit_test(adds_up),
        cmocka_unit_test(tells_when_there_are_too_few),
        cmocka_unit_test(events_get_their_part),
        cmocka_unit_test(parts_are_no_more_than_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
