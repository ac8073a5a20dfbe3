/* What waits in databases, on a real server: waking, figures, conflicts, ticks, what is removed. */
#include <stdio.h>
#include <string.h>

#include "operator/tests/support_backlog.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_test.h"

#define PAYMENTS "[{name: payments, queue: {name: payments}}]"
#define NIGHTLY  "[{name: nightly, schedule: {cron: '* * * * *', timeZone: Europe/Berlin, missed: RunAll}}]"
#define AT_ZONE  "[{name: nightly, schedule: {cron: '0 3 * * *', timeZone: Mars/Olympus}}]"
#define ENQUEUE  "SELECT cicada.enqueue('payments', '{}') > 0"
#define CONSUMERS                                                                                            \
    "SELECT coalesce(string_agg(name || '=' || function, ',' ORDER BY name), '') FROM cicada.queue WHERE "   \
    "function IS NOT NULL"

static void sleeps(struct backlog_world *world, const char *name)
{
    backlog_wait_progress(world->backlog, name, BACKLOG_READY, NULL, NULL);
    backlog_set_awake(world->backlog, "shop", name, false);
    backlog_wait_known(world->backlog, name);
}

static void test_event_wakes_who_sleeps(void **state)
{
    struct backlog_world *world = *state;

    backlog_want(world, world->backlog, "charge", PAYMENTS, NULL);
    sleeps(world, "charge");
    assert_false(backlog_was_due(world, "charge"));
    /* The hint is out: a writer will notify. */
    backlog_wait_sql(
        world, "SELECT pg_sequence_last_value(wake) > extract(epoch FROM now()) * 1000 FROM cicada.queue",
        "t");
    int64_t start_ms = clock_monotonic_ms();
    session_expect(world->events->a, ENQUEUE, "t");
    backlog_wait_due(world, "charge");
    print_message("woken after %lld ms\n", (long long)(world->told_ms[0] - start_ms));
    backlog_forget_due(world);
    backlog_wait_due(world, "charge"); /* again, as long as it is so */
    backlog_set_awake(world->backlog, "shop", "charge", true);
    backlog_wait_count(world->backlog, "charge", 1, 0);
    struct backlog_load load = backlog_load(world->backlog, "shop", "charge");
    assert_true(load.any_triggers && load.known);
    assert_int_equal(load.wanted, 1);
}

static void test_who_is_awake_is_not_woken(void **state)
{
    struct backlog_world *world = *state;

    backlog_want(world, world->backlog, "charge", PAYMENTS, NULL);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
    session_exec(world->events->a, "SELECT cicada.enqueue('payments', '{}') FROM generate_series(1, 9)");
    backlog_wait_count(world->backlog, "charge", 9, 0);
    assert_int_equal(backlog_load(world->backlog, "shop", "charge").wanted, 3); /* at four at once */
    assert_false(backlog_was_due(world, "charge"));
    assert_true(world->changes > 0);
    backlog_forget(world->backlog, "shop", "charge");
    struct backlog_function function;
    assert_false(backlog_read(world->backlog, "shop", "charge", &function));
    assert_false(backlog_load(world->backlog, "shop", "charge").any_triggers);
}

static void test_one_consumer_of_a_queue(void **state)
{
    struct backlog_world *world = *state;

    backlog_want(world, world->backlog, "charge", PAYMENTS, NULL);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
    backlog_want(world, world->backlog, "refund", PAYMENTS, NULL);
    backlog_wait_progress(world->backlog, "refund", BACKLOG_PROBLEM, "QueueConflict",
                          "trigger payments: queue payments is consumed by shop/charge, trigger payments");
    session_expect(world->events->a, ENQUEUE, "t");
    backlog_wait_count(world->backlog, "charge", 1, 0);
    backlog_wait_count(world->backlog, "refund", 0, 0);
    backlog_unwant(world, "charge", PAYMENTS);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_REMOVED, NULL, NULL);
    backlog_wait_progress(world->backlog, "refund", BACKLOG_READY, NULL, NULL);
    backlog_wait_count(world->backlog, "refund", 1, 0); /* the queue and what is in it stay */
}

/* Until so many Functions with triggers, and so many without, use the server. Each may have 10 replicas, 3 more for a while, and 4
 * connections in each; events come by one more. */
static void wait_connections(struct backlog_world *world, const char *name, int functions, int without)
{
    int64_t deadline_ms = clock_monotonic_ms() + BACKLOG_WAIT_MS;
    struct connection_budget budget = {0};
    int64_t own = 0;

    while (budget.function_count != functions + without && clock_monotonic_ms() < deadline_ms) {
        struct backlog_function function;
        assert_true(backlog_read(world->backlog, "shop", name, &function));
        budget = function.connections;
        own = function.own_connections;
        backlog_function_release(&function);
        pgtest_sleep_ms(10);
    }
    assert_int_equal(budget.function_count, functions + without);
    assert_int_equal(budget.needed, functions * 13 * 5 + without * 13 * 4);
    assert_int_equal(budget.ours, 1);
    assert_int_equal(own, 13 * 5);
    assert_in_range(budget.max_connections, 1, 100000);
}

static void test_connections_of_a_server_are_added_up(void **state)
{
    struct backlog_world *world = *state;

    backlog_want(world, world->backlog, "charge", PAYMENTS, NULL);
    wait_connections(world, "charge", 1, 0);
    backlog_want(world, world->backlog, "refund", PAYMENTS, NULL);
    wait_connections(world, "charge", 2, 0);
    backlog_forget(world->backlog, "shop", "refund");
    wait_connections(world, "charge", 1, 0);
}

static void wait_no_watches(struct backlog_world *world)
{
    int64_t deadline_ms = clock_monotonic_ms() + BACKLOG_WAIT_MS;

    while (backlog_has_watches(world->backlog)) {
        if (clock_monotonic_ms() > deadline_ms)
            fail_msg("a database is still watched");
        pgtest_sleep_ms(10);
    }
}

/* Nothing but a watch of that URL that has reached its database is proof that a Function uses the server. */
static void test_functions_without_triggers_are_counted_where_it_is_proven(void **state)
{
    struct backlog_world *world = *state;
    const char *url = world->events->guest_url, *unproven = world->events->owner_url;

    backlog_use_of(world, "pay", "None", url); /* before anybody has reached it */
    backlog_use_of(world, "list", "None", unproven);
    backlog_use_of(world, "pooled", "Transaction", url);
    backlog_use_of(world, "unknown", "None", NULL);
    assert_false(backlog_has_watches(world->backlog));
    backlog_want(world, world->backlog, "charge", PAYMENTS, NULL);
    wait_connections(world, "charge", 1, 1);
    backlog_use_of(world, "pay", "None", url);
    backlog_use_of(world, "list", "None", url); /* its Secret has another URL now */
    wait_connections(world, "charge", 1, 2);
    backlog_use_of(world, "list", "None", unproven);
    wait_connections(world, "charge", 1, 1);
    backlog_want(world, world->backlog, "pay", "[{name: more, queue: {name: more}}]", NULL);
    wait_connections(world, "charge", 2, 0);
    backlog_use_of(world, "pay", "None", url);
    wait_connections(world, "charge", 1, 1);
    struct backlog_function function;
    assert_false(backlog_read(world->backlog, "shop", "pay", &function));
    backlog_forget(world->backlog, "shop", "pay");
    wait_connections(world, "charge", 1, 0);
    backlog_use_of(world, "pay", "None", url);
    wait_connections(world, "charge", 1, 1);
    backlog_use_of(world, "pay", "None", NULL); /* its Secret can't be read any more */
    wait_connections(world, "charge", 1, 0);
}

static void test_a_function_without_triggers_keeps_no_watch(void **state)
{
    struct backlog_world *world = *state;

    backlog_want(world, world->backlog, "charge", PAYMENTS, NULL);
    backlog_use_of(world, "pay", "None", world->events->guest_url);
    wait_connections(world, "charge", 1, 1);
    backlog_forget(world->backlog, "shop", "charge");
    wait_no_watches(world);
    backlog_want(world, world->backlog, "charge", PAYMENTS, NULL);
    wait_connections(world, "charge", 1, 1);
}

static int64_t next_run(struct backlog_world *world, const char *name)
{
    int64_t deadline_ms = clock_monotonic_ms() + BACKLOG_WAIT_MS, next_run_s = 0;

    while (next_run_s == 0 && clock_monotonic_ms() < deadline_ms) {
        struct backlog_function function;
        assert_true(backlog_read(world->backlog, "shop", name, &function));
        next_run_s = function.triggers[0].next_run_s;
        backlog_function_release(&function);
        pgtest_sleep_ms(10);
    }
    return next_run_s;
}

/* As an operator that was away for ten minutes: whoever ticks, and how many do it, each tick is one event. */
static void test_a_tick_is_one_event(void **state)
{
    struct backlog_world *world = *state;
    struct metrics *metrics = metrics_new();
    const struct backlog_settings settings = {.allow_local_hosts = true};
    struct backlog *other;

    backlog_want(world, world->backlog, "report", NIGHTLY, NULL);
    backlog_wait_progress(world->backlog, "report", BACKLOG_READY, NULL, NULL);
    backlog_forget(world->backlog, "shop", "report");
    session_exec(
        world->events->owner,
        "UPDATE cicada.schedule SET last_tick = date_trunc('minute', now()) - interval '10 minutes'");
    other = backlog_new(&settings, metrics);
    backlog_want(world, world->backlog, "report", NIGHTLY, NULL);
    backlog_want(world, other, "report", NIGHTLY, NULL);
    backlog_wait_sql(world, "SELECT last_tick >= date_trunc('minute', now()) FROM cicada.schedule", "t");
    backlog_wait_progress(other, "report", BACKLOG_READY, NULL, NULL);
    backlog_wait_known(other, "report");
    backlog_free(other);
    metrics_free(metrics);
    /* Ten, or eleven where a minute has passed since. */
    backlog_wait_sql(world,
                     "SELECT count(*) = count(DISTINCT time) AND count(*) IN (10, 11) FROM cicada.event"
                     " WHERE type = 'cicada.dev.tick'",
                     "t");
    int64_t next_run_s = next_run(world, "report");
    assert_in_range(next_run_s, clock_wall_ms() / 1000 - 60, clock_wall_ms() / 1000 + 60);
    assert_int_equal(next_run_s % 60, 0);
    backlog_unwant(world, "report", NIGHTLY);
    backlog_wait_progress(world->backlog, "report", BACKLOG_REMOVED, NULL, NULL);
    session_expect(world->events->owner, "SELECT count(*) FROM cicada.schedule", "0");
    session_expect(world->events->owner, CONSUMERS, "");
}

static void test_a_tick_that_fails_for_good_is_said(void **state)
{
    struct backlog_world *world = *state;

    backlog_want(world, world->backlog, "report", NIGHTLY, NULL);
    backlog_wait_progress(world->backlog, "report", BACKLOG_READY, NULL, NULL);
    backlog_forget(world->backlog, "shop", "report");
    session_exec(world->events->owner,
                 "ALTER FUNCTION cicada.schedule_tick RENAME TO schedule_tick_away;"
                 " UPDATE cicada.schedule SET last_tick = now() - interval '10 minutes'");
    backlog_want(world, world->backlog, "report", NIGHTLY, NULL);
    backlog_wait_progress(world->backlog, "report", BACKLOG_PROBLEM, "SchemaMissing", "trigger nightly: ");
    session_exec(world->events->owner, "ALTER FUNCTION cicada.schedule_tick_away RENAME TO schedule_tick");
    backlog_wait_progress(world->backlog, "report", BACKLOG_READY, NULL, NULL);
}

static void test_an_unknown_zone_is_said(void **state)
{
    struct backlog_world *world = *state;

    backlog_want(world, world->backlog, "report", AT_ZONE, NULL);
    backlog_wait_progress(world->backlog, "report", BACKLOG_PROBLEM, "InvalidSpec", "trigger nightly: ");
    backlog_want(world, world->backlog, "report", NIGHTLY, NULL);
    backlog_wait_progress(world->backlog, "report", BACKLOG_READY, NULL, NULL);
}

static bool has_series(struct backlog_world *world, const char *trigger)
{
    CLEANUP_FREE char *line =
        xasprintf("cicada_events_due{namespace=\"shop\",function=\"charge\",trigger=\"%s\"}", trigger);
    CLEANUP_STRBUF struct strbuf text;

    strbuf_init(&text, METRICS_TEXT_MAX_BYTES);
    assert_int_equal(metrics_render(world->metrics, &text), 0);
    return strstr(text.buf, line) != NULL;
}

static void wait_series(struct backlog_world *world, const char *trigger)
{
    int64_t deadline_ms = clock_monotonic_ms() + BACKLOG_WAIT_MS;

    while (!has_series(world, trigger)) {
        if (clock_monotonic_ms() > deadline_ms)
            fail_msg("no series of trigger %s", trigger);
        pgtest_sleep_ms(10);
    }
}

static void test_what_is_no_longer_wanted_goes(void **state)
{
    struct backlog_world *world = *state;

    backlog_want(world, world->backlog, "charge",
                 "[{name: payments, queue: {name: payments}}, {name: more, queue: {name: more}},"
                 " {name: nightly, schedule: {cron: '0 3 * * *'}}]",
                 NULL);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
    session_expect(world->events->owner, "SELECT count(*) FROM cicada.queue WHERE function = 'charge'", "3");
    wait_series(world, "more");
    backlog_want(world, world->backlog, "charge", "[{name: payments, queue: {name: other}}]", NULL);
    backlog_wait_sql(world, CONSUMERS, "other=charge");
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
    session_expect(world->events->owner, "SELECT count(*) FROM cicada.schedule", "0");
    wait_series(world, "payments");
    assert_false(has_series(world, "more"));
    backlog_want(world, world->backlog, "charge", "[]", NULL);
    backlog_wait_sql(world, CONSUMERS, "");
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
}

static void test_the_schema_is_installed_where_the_role_may(void **state)
{
    struct backlog_world *world = *state;

    session_exec(world->events->owner, "DROP SCHEMA cicada CASCADE");
    backlog_want(world, world->backlog, "charge", PAYMENTS, NULL);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_PROBLEM, "SchemaMissing",
                          "cicada-runtime --migrate");
    backlog_want(world, world->backlog, "refund", PAYMENTS, world->events->owner_url);
    backlog_wait_progress(world->backlog, "refund", BACKLOG_READY, NULL, NULL);
    session_exec(world->events->owner, "SELECT cicada.grant_to('" EVENTS_GUEST "')");
    backlog_wait_progress(world->backlog, "charge", BACKLOG_PROBLEM, "QueueConflict",
                          NULL); /* it is looked at again */
}

/* Nothing is made in order to remove nothing. */
static void test_without_a_schema_nothing_is_left(void **state)
{
    struct backlog_world *world = *state;

    session_exec(world->events->owner, "DROP SCHEMA cicada CASCADE");
    backlog_want(world, world->backlog, "charge", PAYMENTS, NULL);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_PROBLEM, "SchemaMissing", NULL);
    backlog_unwant(world, "charge", PAYMENTS);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_REMOVED, NULL, NULL);
    session_expect(world->events->owner, "SELECT to_regnamespace('cicada') IS NULL", "t");
    backlog_want(world, world->backlog, "refund", PAYMENTS, world->events->owner_url);
    backlog_wait_progress(world->backlog, "refund", BACKLOG_READY, NULL, NULL);
    session_exec(world->events->owner, "DROP SCHEMA cicada CASCADE"); /* once it was seen, too */
    backlog_unwant(world, "refund", PAYMENTS);
    backlog_wait_progress(world->backlog, "refund", BACKLOG_REMOVED, NULL, NULL);
    backlog_want(world, world->backlog, "refund", PAYMENTS, world->events->owner_url);
    backlog_wait_progress(world->backlog, "refund", BACKLOG_READY, NULL, NULL);
    session_exec(world->events->owner, "SELECT cicada.grant_to('" EVENTS_GUEST "')");
}

/* Whoever has the database may put what he likes in the place of ours: it is a problem of his alone. */
static void test_answers_that_make_no_sense_are_borne(void **state)
{
    struct backlog_world *world = *state;

    session_exec(
        world->events->owner,
        "DROP SCHEMA cicada CASCADE; CREATE SCHEMA cicada;"
        "CREATE FUNCTION cicada.schema_state(OUT version int, OUT min_runtime text) RETURNS SETOF record"
        " LANGUAGE sql AS 'SELECT NULL::int, NULL::text'");
    backlog_want(world, world->backlog, "charge", PAYMENTS, world->events->owner_url);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_PROBLEM, "SchemaMissing", NULL);
    session_exec(world->events->owner,
                 "CREATE OR REPLACE FUNCTION cicada.schema_state(OUT version int, OUT min_runtime text)"
                 " RETURNS SETOF record LANGUAGE sql AS 'SELECT 1000, ''0.0.1'' WHERE false'");
    backlog_want(world, world->backlog, "refund", PAYMENTS, world->events->owner_url);
    backlog_wait_progress(world->backlog, "refund", BACKLOG_PROBLEM, "SchemaMissing", NULL);
    session_exec(world->events->owner, "DROP SCHEMA cicada CASCADE");
    backlog_wait_progress(world->backlog, "refund", BACKLOG_READY, NULL, NULL);
    session_exec(world->events->owner, "SELECT cicada.grant_to('" EVENTS_GUEST "')");
}

static void test_a_database_that_is_away_is_not_known(void **state)
{
    struct backlog_world *world = *state;
    struct metrics *metrics = metrics_new();
    const struct backlog_settings strict = {.allow_local_hosts = false};
    struct backlog *other = backlog_new(&strict, metrics);
    CLEANUP_FREE char *away = test_database_url("secret_role", 1, "shop");

    backlog_want(world, world->backlog, "charge", PAYMENTS, away);
    backlog_want(world, other, "charge", PAYMENTS, world->events->guest_url);
    backlog_want(world, other, "refund", PAYMENTS, "postgresql://x/?options=-c");
    backlog_wait_progress(world->backlog, "charge", BACKLOG_PROBLEM, "DatabaseUnreachable",
                          "the database: no connection: refused");
    backlog_wait_progress(other, "charge", BACKLOG_PROBLEM, "DatabaseUnreachable",
                          "the database: no connection: refused");
    backlog_wait_progress(other, "refund", BACKLOG_PROBLEM, "DatabaseUnreachable", "the database: ");
    struct backlog_load load = backlog_load(world->backlog, "shop", "charge");
    assert_true(load.any_triggers && !load.known);
    backlog_unwant(world, "charge", PAYMENTS);
    struct backlog_function function;
    assert_true(backlog_read(world->backlog, "shop", "charge", &function));
    assert_true(function.unreachable_ms > 0);
    assert_string_equal(function.cleanup_sql,
                        "SELECT cicada.queue_release('payments', 'shop', 'charge', 'payments');\n");
    backlog_function_release(&function);
    backlog_free(other);
    metrics_free(metrics);
}

/* SQL for the database of before, by what host, port and name say. */
static void test_another_database_leaves_things_behind(void **state)
{
    struct backlog_world *world = *state;
    const char *url = world->events->guest_url;
    CLEANUP_FREE char *elsewhere = xasprintf("%s_too", url);
    CLEANUP_FREE char *renamed = xasprintf("%s?application_name=another", url);

    assert_null(backlog_left_behind(world->backlog, "shop", "charge", elsewhere)); /* nothing is watched */
    backlog_want(world, world->backlog, "charge", PAYMENTS, NULL);
    assert_null(backlog_left_behind(world->backlog, "shop", "charge", url));
    assert_null(backlog_left_behind(world->backlog, "shop", "charge", renamed));
    assert_null(backlog_left_behind(world->backlog, "shop", "charge", NULL));
    CLEANUP_FREE char *sql = backlog_left_behind(world->backlog, "shop", "charge", elsewhere);
    assert_string_equal(sql, "SELECT cicada.queue_release('payments', 'shop', 'charge', 'payments');\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, backlog_setup, backlog_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_another_database_leaves_things_behind),
        TEST(test_event_wakes_who_sleeps),
        TEST(test_who_is_awake_is_not_woken),
        TEST(test_one_consumer_of_a_queue),
        TEST(test_connections_of_a_server_are_added_up),
        TEST(test_functions_without_triggers_are_counted_where_it_is_proven),
        TEST(test_a_function_without_triggers_keeps_no_watch),
        TEST(test_a_tick_is_one_event),
        TEST(test_a_tick_that_fails_for_good_is_said),
        TEST(test_an_unknown_zone_is_said),
        TEST(test_what_is_no_longer_wanted_goes),
        TEST(test_the_schema_is_installed_where_the_role_may),
        TEST(test_without_a_schema_nothing_is_left),
        TEST(test_answers_that_make_no_sense_are_borne),
        TEST(test_a_database_that_is_away_is_not_known),
    };
    return cmocka_run_group_tests(tests, backlog_group_setup, backlog_group_teardown);
}
