/* Events in schema `cicada`: the queues of table and schedule triggers, and the ticks of schedules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_events.h"

#define TRIGGER    "'shop', 'nightly', 'night'"
#define QUEUE      "'cicada.522958dbd022d9e0ed75fe4ca4346729'" /* sha256 of shop/nightly/night */
#define EXPRESSION "'0 2 * * * UTC'"
#define LOOK       "SELECT last_tick FROM cicada.schedule_look(" TRIGGER ", " EXPRESSION ")"

/* ---- Queues of triggers ---- */

static void test_names_of_triggers_are_reserved(void **state)
{
    struct event_fixture *fixture = *state;

    session_expect(fixture->a, "SELECT cicada.trigger_queue(" TRIGGER ") = " QUEUE, "t");
    session_expect(fixture->a, "SELECT cicada.trigger_queue('shop', NULL, 'night')", "-");
    session_fails(fixture->a, "SELECT cicada.create_queue('cicada.x')", "22023", "'cicada.x' is reserved");
    session_fails(fixture->a, "SELECT cicada.enqueue('cicada.x', '1')", "22023", "reserved");
    session_fails(fixture->a, "SELECT cicada.enqueue_many('cicada.x', '{}')", "22023", "reserved");
    session_fails(fixture->a, "SELECT cicada.queue_consume('cicada.x', " TRIGGER ", false)", "22023",
                  "reserved");
    session_fails(fixture->a, "SELECT cicada.queue_consume(" QUEUE ", 'shop', 'nightly', 'noon', false)",
                  "22023", "reserved");
    session_expect(fixture->a, "SELECT * FROM cicada.queue_consume(" QUEUE ", " TRIGGER ", true)", "3 -");
    session_fails(fixture->a, "SELECT cicada.enqueue(" QUEUE ", '1')", "22023", "reserved");
    session_expect(fixture->a, "SELECT cicada.create_queue('cicadas')", "4");
}

static const char tick_one[] = "SELECT cicada.schedule_tick(" TRIGGER ", " EXPRESSION
                               ", '{2199-01-01 02:00+00}', '2199-01-01 02:00+00', 0)";

static void test_queue_of_a_trigger_goes_with_it(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, LOOK);
    session_expect(fixture->a, tick_one, "t");
    session_exec(fixture->owner,
                 "INSERT INTO cicada.dead_letter (id, queue, epoch, attempt, priority, depth, time,"
                 " died_at, reason, payload) VALUES (-1, 3, 0, 0, 0, 0, now(), now(), 'x', '1')");
    session_expect(fixture->b, "SELECT id FROM cicada.event_claim(3, 1, '1 minute', true)", "1");
    session_expect(fixture->a, "SELECT cicada.queue_release(" QUEUE ", 'shop', 'nightly', 'noon')", "f");
    session_expect(fixture->a, "SELECT cicada.queue_release(" QUEUE ", " TRIGGER ")", "t");
    session_expect(fixture->a, "SELECT cicada.queue_release(" QUEUE ", " TRIGGER ")", "t");
    session_expect(
        fixture->owner,
        "SELECT (SELECT count(*) FROM cicada.event), (SELECT count(*) FROM cicada.dead_letter),"
        " to_regclass('cicada.queue_wake_3'), string_agg(name, ',' ORDER BY name) FROM cicada.queue",
        "0 0 - other,q");
    session_fails(fixture->b, "SELECT cicada.event_settle(1, 1, 1)", "ZC001", NULL);
    session_fails(fixture->b, "SELECT cicada.event_claim(3, 1, '1 minute', true)", "42704", "no queue 3");
}

/* Nobody could ever claim it. */
static void test_what_comes_too_late_is_removed(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, LOOK);
    session_exec(fixture->owner,
                 "BEGIN; INSERT INTO cicada.event_1 (id, due_at, time, queue, epoch, attempt, lane,"
                 " priority, depth, ordered, alone, payload)"
                 " VALUES (-1, now(), now(), 3, 0, 0, 0, 0, 0, false, false, '1')");
    session_expect(fixture->a, "SELECT cicada.queue_release(" QUEUE ", " TRIGGER ")", "t");
    session_exec(fixture->owner, "COMMIT");
    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1')");
    session_exec(fixture->owner, "SELECT setval('cicada.event_slot', 2)");
    session_exec(fixture->a, "SELECT cicada.event_maintain()");
    session_expect(fixture->owner, "SELECT slot, id FROM cicada.event", "0 1");
}

static void test_stats_of_some(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, LOOK);
    session_exec(fixture->a, tick_one);
    session_exec(fixture->owner, "UPDATE cicada.event_1 SET due_at = now() - interval '10 s'");
    session_expect(fixture->a,
                   "SELECT queue = " QUEUE ", queue_id, due, consumer, oldest_due_s BETWEEN 10 AND 1000"
                   " FROM cicada.queue_stats(ARRAY['none', " QUEUE "])",
                   "t 3 1 shop/nightly, trigger night t");
    session_expect(fixture->a, "SELECT queue_id, oldest_due_s FROM cicada.queue_stats('{other,q}')",
                   "2 -; 1 -");
    session_expect(fixture->a, "SELECT count(*) FROM cicada.queue_stats('{}')", "0");
    session_expect(fixture->a, "SELECT count(*) FROM cicada.queue_stats()", "3");
}

/* ---- Schedules ---- */

static void test_new_schedule_begins_now(void **state)
{
    struct event_fixture *fixture = *state;
    CLEANUP_FREE char *first = session_answer(fixture->a, LOOK);

    session_expect(fixture->a, "SELECT now_at = now() FROM cicada.schedule_look(" TRIGGER ", " EXPRESSION ")",
                   "t");
    session_expect(fixture->b, LOOK, first);
    session_expect(fixture->a,
                   "SELECT last_tick = now() FROM cicada.schedule_look(" TRIGGER ", '* * * * * UTC')", "t");
    session_expect(fixture->a,
                   "SELECT last_tick = now() FROM cicada.schedule_look(" TRIGGER ", '* * * * * UTC')", "f");
    session_expect(fixture->a,
                   "SELECT last_tick = now() FROM cicada.schedule_look('shop', 'nightly', 'noon', 'x')", "t");
    session_expect(fixture->owner,
                   "SELECT id, name = " QUEUE ", namespace, function, trigger, ordered FROM cicada.queue"
                   " WHERE id = 3",
                   "3 t shop nightly night f");
    session_fails(fixture->a, "SELECT cicada.schedule_look(" TRIGGER ", NULL)", "22004", NULL);
    /* What its consumer says of order stands. */
    session_exec(fixture->a, "SELECT cicada.queue_consume(" QUEUE ", " TRIGGER ", true)");
    session_exec(fixture->a, LOOK);
    session_expect(fixture->owner, "SELECT ordered FROM cicada.queue WHERE id = 3", "t");
}

static void test_ticks_are_events(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, LOOK);
    session_expect(fixture->a,
                   "SET timezone = 'Asia/Kathmandu'; SELECT cicada.schedule_tick(" TRIGGER ", " EXPRESSION
                   ", '{2199-01-01 02:00+00, 2199-01-02 03:00:05+01}', '2199-01-02 02:00:05+00', 7)",
                   "t");
    session_expect(fixture->b,
                   "SET timezone = 'UTC'; SELECT type, source, subject, time, depth, payload"
                   " FROM cicada.event_claim(3, 9, '1 s', true)",
                   "cicada.dev.tick /cicada/schedule/shop/nightly/night - 2199-01-01 02:00:00+00 0"
                   " {\"tick\": \"2199-01-01T02:00:00Z\", \"skipped\": 7};"
                   " cicada.dev.tick /cicada/schedule/shop/nightly/night - 2199-01-02 02:00:05+00 0"
                   " {\"tick\": \"2199-01-02T02:00:05Z\", \"skipped\": 0}");
    session_expect(fixture->b, LOOK, "2199-01-02 02:00:05+00");
    session_expect(fixture->a,
                   "SELECT cicada.schedule_tick(" TRIGGER ", " EXPRESSION ", '{}', '2200-01-01 UTC', 1)",
                   "t");
    session_expect(fixture->a,
                   "SELECT cicada.schedule_tick(" TRIGGER ", " EXPRESSION ", NULL, '2200-01-02 UTC', NULL)",
                   "t");
    session_expect(fixture->b, LOOK, "2200-01-02 00:00:00+00");
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event", "2");
    session_fails(fixture->a,
                  "SELECT cicada.schedule_tick(" TRIGGER ", " EXPRESSION
                  ", array_fill(now(), ARRAY[1001]), '2201-01-01', 0)",
                  "54000", "1001 ticks");
}

static void test_a_tick_is_sent_once(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, LOOK);
    session_exec(fixture->a, "BEGIN");
    session_expect(fixture->a, tick_one, "t");
    session_block(fixture, fixture->b, tick_one);
    session_exec(fixture->a, "COMMIT");
    session_finish_expect(fixture->b, "f");
    session_expect(fixture->a,
                   "SELECT cicada.schedule_tick(" TRIGGER ", '1 2 * * * UTC', '{}', '2200-01-01', 0)", "f");
    session_expect(fixture->a,
                   "SELECT cicada.schedule_tick('shop', 'none', 'none', '', '{}', '2200-01-01', 0)", "f");
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event", "1");
}

/* One that looked before, and has come to its ticks when another one had sent the first of them. */
static void test_a_tick_of_two_is_sent_once(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, LOOK);
    session_exec(fixture->a, "BEGIN");
    session_expect(fixture->a, tick_one, "t");
    session_block(fixture, fixture->b,
                  "SELECT cicada.schedule_tick(" TRIGGER ", " EXPRESSION
                  ", '{2199-01-01 02:00 UTC, 2199-01-02 02:00 UTC}', '2199-01-02 02:00 UTC', 5)");
    session_exec(fixture->a, "COMMIT");
    session_finish_expect(fixture->b, "t");
    session_expect(
        fixture->owner,
        "SELECT payload::json ->> 'tick', payload::json ->> 'skipped' FROM cicada.event ORDER BY id",
        "2199-01-01T02:00:00Z 0; 2199-01-02T02:00:00Z 0");
    session_expect(fixture->a,
                   "SELECT cicada.schedule_tick(" TRIGGER ", " EXPRESSION ", '{2300-01-01}', NULL, 0)", "f");
}

static void test_sleeper_hears_of_a_tick(void **state)
{
    struct event_fixture *fixture = *state;
    PGnotify *notify;

    session_exec(fixture->a, LOOK);
    session_exec(fixture->b, "LISTEN cicada_wake; SELECT cicada.queue_sleep('{3}')");
    session_exec(fixture->owner, "SELECT setval('cicada.queue_wake_3', 1 + cicada.clock_ms() + 600000)");
    session_expect(fixture->a, tick_one, "t");
    session_exec(fixture->b, "SELECT 1");
    notify = PQnotifies(fixture->b);
    assert_non_null(notify);
    assert_string_equal(notify->extra, "3");
    PQfreemem(notify);
}

static void test_removed_schedule(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, LOOK);
    session_expect(fixture->a, tick_one, "t");
    session_expect(fixture->a, "SELECT cicada.schedule_remove(" TRIGGER ")", "t");
    session_expect(fixture->a, "SELECT cicada.schedule_remove(" TRIGGER ")", "t");
    session_expect(fixture->owner,
                   "SELECT (SELECT count(*) FROM cicada.schedule), (SELECT count(*) FROM cicada.event),"
                   " count(*) FROM cicada.queue",
                   "0 0 2");
    session_expect(fixture->a, tick_one, "f");
    session_exec(fixture->a, LOOK); /* it may come again */
    session_expect(fixture->a, tick_one, "t");
}

/* More than one statement may take. */
static void test_a_long_queue_goes_in_parts(void **state)
{
    struct event_fixture *fixture = *state;
    static const char left[] =
        "SELECT (SELECT count(*) FROM cicada.event), (SELECT count(*) FROM cicada.dead_letter),"
        " (SELECT count(*) FROM cicada.triggers_of('shop', 'nightly'))";

    session_exec(fixture->a, LOOK);
    session_expect(fixture->a, tick_one, "t");
    session_exec(fixture->owner,
                 "INSERT INTO cicada.event_0 SELECT r.* FROM generate_series(10, 20009) n,"
                 " jsonb_populate_record(NULL::cicada.event_0, (SELECT to_jsonb(e) FROM cicada.event_1 e)"
                 " || jsonb_build_object('id', n)) r;"
                 "SELECT cicada.event_bury_row(e, 'r') FROM cicada.event_0 e WHERE id = 10");
    session_expect(fixture->a, "SELECT cicada.schedule_remove(" TRIGGER ")", "f");
    session_expect(fixture->owner, left, "1 1 1");
    session_expect(fixture->a, "SELECT cicada.queue_release(" QUEUE ", " TRIGGER ")", "t");
    session_expect(fixture->owner, left, "0 0 1");
    session_expect(fixture->a, "SELECT cicada.schedule_remove(" TRIGGER ")", "t");
    session_expect(fixture->owner, left, "0 0 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names_of_triggers_are_reserved, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_queue_of_a_trigger_goes_with_it, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_what_comes_too_late_is_removed, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_stats_of_some, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_new_schedule_begins_now, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_ticks_are_events, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_a_tick_is_sent_once, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_a_tick_of_two_is_sent_once, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_sleeper_hears_of_a_tick, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_removed_schedule, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_a_long_queue_goes_in_parts, events_setup, events_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
