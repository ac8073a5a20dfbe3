/* Events in schema `cicada`: emptying and removing queues in parts, and what keeps slots from being emptied. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_events.h"

static const char claim_all[] = "SELECT id FROM cicada.event_claim(1, 100, '1 minute', true)";

/* ---- purge() in parts ---- */

static void test_purge_takes_no_more_than_asked(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1') FROM generate_series(1, 4)");
    session_expect(fixture->b, "SELECT id FROM cicada.event_claim(1, 1, '1 minute', false)", "1");
    session_exec(fixture->a,
                 "SELECT cicada.enqueue('q', '1', '{\"delay\": 3600}') FROM generate_series(1, 3);"
                 "SELECT cicada.enqueue('other', '1')");
    session_expect(fixture->a, "SELECT cicada.purge('q', most => 2)", "2");
    session_expect(fixture->a, "SELECT cicada.purge('q', most => 2)", "2"); /* of two tables */
    session_expect(fixture->a, "SELECT cicada.purge('q', most => 3)", "2");
    session_expect(fixture->a, "SELECT cicada.purge('q', most => 2)", "0");
    session_expect(fixture->owner, "SELECT queue, lane FROM cicada.event ORDER BY queue", "1 127; 2 0");
    session_fails(fixture->a, "SELECT cicada.purge('q', most => 0)", "22023", "at most 0 rows");
    session_fails(fixture->a, "SELECT cicada.purge('q', true, -1)", "22023", "at most -1 rows");
}

static void test_dead_letters_are_purged_in_parts(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "BEGIN; SET LOCAL cicada.depth = '16';"
                             "SELECT cicada.enqueue('q', '1') FROM generate_series(1, 5);"
                             "SELECT cicada.enqueue('other', '1'); COMMIT");
    session_expect(fixture->a, "SELECT cicada.purge('q', true, 3)", "3");
    /* Who has sent some of them again meanwhile leaves the others to find. */
    session_exec(fixture->b, "BEGIN");
    session_expect(fixture->b, "SELECT cicada.redrive('q', NULL, 1)", "1");
    session_block(fixture, fixture->a, "SELECT cicada.purge('q', true, 1)");
    session_exec(fixture->b, "COMMIT");
    session_finish_expect(fixture->a, "1");
    session_expect(fixture->a, "SELECT cicada.purge('q', true, 1)", "0");
    session_expect(fixture->owner, "SELECT queue FROM cicada.dead_letter", "2");
}

/* An event that is gone leaves no mark: one that is parked behind it, and is not gone with it, would wait for ever. */
static void test_a_part_leaves_nothing_blocked(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "SELECT cicada.queue_consume('q', 'n', 'f', 't', true);"
                             "SELECT cicada.enqueue('q', '1', jsonb_build_object('key', k))"
                             " FROM generate_series(1, 3), unnest('{a,b}'::text[]) k");
    session_expect(fixture->a, "SELECT count(*) FROM cicada.event_claim(1, 100, '1 minute', true)", "2");
    session_exec(fixture->owner, "UPDATE cicada.event_1 SET lane = 0, due_at = time WHERE lane = 127");
    session_expect(fixture->owner, "SELECT lane, count(*) FROM cicada.event GROUP BY lane ORDER BY lane",
                   "0 2; 126 4");
    session_expect(fixture->a, "SELECT cicada.purge('q', most => 3)", "3");
    session_expect(fixture->owner, "SELECT lane, count(*) FROM cicada.event GROUP BY lane ORDER BY lane",
                   "0 2; 126 1");
    session_expect(fixture->a, "SELECT cicada.purge('q', most => 2)", "2");
    session_expect(fixture->a, "SELECT count(*) FROM cicada.event_claim(1, 100, '1 minute', true)", "1");
}

/* As the manual has it: claims get their turn between the parts. */
static void test_all_in_parts_with_commits(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a,
                 "SELECT count(*) FROM cicada.enqueue_many('q', array_fill('1'::jsonb, ARRAY[1000]))");
    session_exec(fixture->a,
                 "DO $$ BEGIN WHILE cicada.purge('q', most => 300) > 0 LOOP COMMIT; END LOOP; END $$");
    session_expect(fixture->b, claim_all, "");
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event", "0");
}

/* ---- removing a trigger by hand ---- */

/* What the manual gives people to run: once, however much the queue holds. */
static void test_a_full_queue_goes_by_hand(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "SELECT * FROM cicada.schedule_look('shop', 'report', 'nightly', '0 3 * * *')");
    session_exec(fixture->a,
                 "SELECT * FROM cicada.queue_consume(cicada.trigger_queue('shop', 'ship', 'paid'),"
                 " 'shop', 'ship', 'paid', false)");
    session_exec(
        fixture->owner,
        "INSERT INTO cicada.event_0 (id, due_at, time, queue, epoch, attempt, lane, priority, depth,"
        " ordered, alone, payload) SELECT n, now(), now(), 3 + n % 2, 0, 0, 0, 0, 0, false, false, '1'"
        " FROM generate_series(1, 50000) n");
    session_exec(fixture->a, "DO $$ BEGIN WHILE NOT cicada.schedule_remove('shop', 'report', 'nightly') LOOP"
                             " COMMIT; END LOOP; END $$");
    session_exec(fixture->a,
                 "DO $$ BEGIN WHILE NOT cicada.queue_release(cicada.trigger_queue("
                 "'shop', 'ship', 'paid'), 'shop', 'ship', 'paid') LOOP COMMIT; END LOOP; END $$");
    session_expect(fixture->owner,
                   "SELECT (SELECT count(*) FROM cicada.event), (SELECT count(*) FROM cicada.schedule),"
                   " (SELECT count(*) FROM cicada.queue)",
                   "0 0 2");
}

/* ---- a slot that can't be emptied ---- */

struct warnings {
    int count;
    char last[1024];
};

static void keep_warning(void *arg, const PGresult *result)
{
    struct warnings *warnings = arg;

    warnings->count++;
    (void)snprintf(warnings->last, sizeof(warnings->last), "%s",
                   PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
}

/* Fills the current slot, and what is there is done. */
static void grow(struct event_fixture *fixture, int rounds)
{
    for (int i = 0; i < rounds; i++)
        session_exec(fixture->a, "SELECT count(*) FROM cicada.enqueue_many('q',"
                                 " array_fill(to_jsonb(repeat('x', 1900)), ARRAY[2000]))");
    session_exec(fixture->owner, "DELETE FROM cicada.event_1; DELETE FROM cicada.event_2;"
                                 "DELETE FROM cicada.event_3; DELETE FROM cicada.event_4");
}

static void test_who_keeps_slots_from_being_emptied_is_told(void **state)
{
    struct event_fixture *fixture = *state;
    static const char maintain[] = "SELECT cicada.event_maintain()";
    struct warnings warnings = {0};
    CLEANUP_FREE char *pid = xasprintf("process %d", PQbackendPID(fixture->b));

    PQsetNoticeReceiver(fixture->c, keep_warning, &warnings);
    session_exec(fixture->b, "BEGIN; SELECT cicada.queue_stats()");
    for (int i = 0; i < 6; i++) { /* all slots are full */
        grow(fixture, 1);
        session_exec(fixture->c, maintain);
    }
    assert_int_equal(warnings.count, 0); /* it is too little to speak of */
    grow(fixture, 10);
    session_exec(fixture->c, maintain);
    session_exec(fixture->c, maintain);
    assert_int_equal(warnings.count, 1); /* once, not each time */
    assert_non_null(strstr(warnings.last, "can't be truncated"));
    assert_non_null(strstr(warnings.last, pid));
    session_exec(fixture->b, "COMMIT");
    session_exec(fixture->owner, "SELECT setval('cicada.slot_warned', 1)"); /* long ago */
    session_exec(fixture->c, maintain);
    session_exec(fixture->c, maintain);
    assert_int_equal(warnings.count, 1);
    session_expect(fixture->owner, "SELECT pg_relation_size('cicada.event_1')", "0");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, events_setup, events_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_purge_takes_no_more_than_asked), TEST(test_dead_letters_are_purged_in_parts),
        TEST(test_a_part_leaves_nothing_blocked),  TEST(test_all_in_parts_with_commits),
        TEST(test_a_full_queue_goes_by_hand),      TEST(test_who_keeps_slots_from_being_emptied_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
