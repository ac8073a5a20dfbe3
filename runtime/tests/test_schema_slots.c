/* Events in schema `cicada`: order by key, and the slots that are emptied by TRUNCATE. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_events.h"

static const char claim_all[] = "SELECT id FROM cicada.event_claim(1, 100, '1 minute', true)";
static const char maintain[] = "SELECT cicada.event_maintain()";
static const char slot_sizes[] = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class"
                                 " WHERE relname ~ '^event_[0-4]$' AND relkind = 'r'";

static int setup_ordered(void **state)
{
    struct event_fixture *fixture;

    events_setup(state);
    fixture = *state;
    session_expect(fixture->a, "SELECT * FROM cicada.queue_consume('q', 'n', 'f', 't', true)", "1 -");
    return 0;
}

static void send(struct event_fixture *fixture, const char *key, int count)
{
    CLEANUP_FREE char *sql =
        xasprintf("SELECT count(cicada.enqueue('q', '1', '{\"key\": \"%s\"}')) FROM generate_series(1, %d)",
                  key, count);

    session_exec(fixture->a, sql);
}

/* ---- order ---- */

/* In slot 1: event 1 of key a is done and has left its mark, event 2 is parked, and another transaction is moving it to event_0. */
static void park_and_move(struct event_fixture *fixture)
{
    send(fixture, "a", 2);
    session_expect(fixture->a, claim_all, "1");
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 1, 1)");
    session_exec(fixture->owner, "BEGIN");
    session_expect(fixture->owner, "SELECT cicada.slot_drain(1, 1, false)", "1");
    session_expect(fixture->owner, "SELECT id, lane FROM cicada.event_0", "2 126");
}

static void test_a_parked_event_moves_while_it_is_freed(void **state)
{
    struct event_fixture *fixture = *state;

    park_and_move(fixture);
    session_block(fixture, fixture->a, claim_all);
    session_exec(fixture->owner, "COMMIT");
    session_finish_expect(fixture->a, "2");
}

/* Between a claim's look at what is at work and its look at what is due: nothing would let it go if it were parked then. */
static void test_the_first_of_its_key_is_given_back_during_a_claim(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, "a", 2);
    session_expect(fixture->a, claim_all, "1");
    session_exec(fixture->a, "SELECT cicada.event_give_back('{1}', '{1}', '{1}')");
    session_expect(fixture->owner,
                   "SELECT count(*) FROM cicada.event_take_ordered(1, 1, 0::smallint, clock_timestamp(),"
                   " clock_timestamp() + interval '1 minute', 100, '{a}')",
                   "0");
    session_expect(fixture->a, claim_all, "1");
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 1, 3)");
    session_expect(fixture->a, claim_all, "2");
}

static void test_a_parked_event_moves_while_the_order_ends(void **state)
{
    struct event_fixture *fixture = *state;

    park_and_move(fixture);
    session_expect(fixture->a, "SELECT * FROM cicada.queue_consume('q', 'n', 'f', 't', false)", "1 -");
    session_expect(fixture->a, claim_all, "");
    session_exec(fixture->owner, "COMMIT");
    session_expect(fixture->a, claim_all, "2");
}

static void test_a_parked_event_moves_while_all_are_purged(void **state)
{
    struct event_fixture *fixture = *state;

    park_and_move(fixture);
    session_block(fixture, fixture->a, "SELECT cicada.purge('q')");
    session_exec(fixture->owner, "COMMIT");
    session_finish_expect(fixture->a, "1");
    session_expect(fixture->a, claim_all, "");
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event WHERE lane <> 125", "0");
}

/* A consumer that settles its last event and goes: only a claim lets the next one go, so there must be somebody to claim. */
static void test_a_mark_before_parked_events_is_work(void **state)
{
    struct event_fixture *fixture = *state;
    static const char stats[] = "SELECT due, blocked, oldest_due_s >= 0 FROM cicada.queue_stats('{q}')";

    send(fixture, "a", 3);
    session_expect(fixture->a, claim_all, "1");
    session_expect(fixture->a, stats, "0 2 -");
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 1, 1)");
    session_expect(fixture->a, stats, "1 2 t");
    session_expect(fixture->a, claim_all, "2");
    session_expect(fixture->a, stats, "0 1 -");
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 2, 1)");
    session_expect(fixture->a, claim_all, "3");
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 3, 1)");
    session_expect(fixture->a, stats, "0 0 -"); /* a mark alone is nothing to do */
}

static void test_another_key_behind_a_long_line(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, "a", 3000);
    send(fixture, "b", 1);
    session_expect(fixture->a, "SELECT id FROM cicada.event_claim(1, 1, '1 minute', true)", "1");
    session_expect(fixture->a, "SELECT id FROM cicada.event_claim(1, 1, '1 minute', false)", "3001");
}

static void test_one_of_a_key_at_a_time(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, "a", 3);
    send(fixture, "b", 2);
    session_exec(fixture->a,
                 "SELECT cicada.enqueue('q', '1'), cicada.enqueue('q', '1')"); /* no key, no order */
    session_expect(fixture->a, claim_all, "1; 4; 6; 7");
    session_expect(fixture->a, claim_all, "");
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 4, 1)");
    session_expect(fixture->a, claim_all, "5");
    session_exec(fixture->a, "SELECT cicada.event_settle_many('{1,1}', '{1,5}', '{1,1}')");
    session_expect(fixture->a, claim_all, "2");
    send(fixture, "b", 1);
    session_expect(fixture->a, claim_all, "8");
    session_expect(fixture->owner, "SELECT id, lane FROM cicada.event WHERE key IS NOT NULL ORDER BY id",
                   "2 127; 3 126; 8 127");
}

static void test_backing_off_blocks_and_death_does_not(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, "a", 3);
    session_exec(fixture->a, claim_all);
    session_exec(fixture->a, "SELECT cicada.event_retry(1, 1, 1, '1 hour', true, 'no')");
    session_expect(fixture->a, claim_all, "");
    session_exec(fixture->owner, "UPDATE cicada.event_1 SET due_at = now() WHERE id = 1");
    session_expect(fixture->a, claim_all, "1");
    session_expect(fixture->a, "SELECT cicada.event_give_back('{1}', '{1}', '{2}')", "");
    session_expect(fixture->a, claim_all, "1");
    session_expect(fixture->a, "SELECT cicada.event_bury(1, 1, 4, 'exhausted', 'no')", "t");
    session_expect(fixture->a, claim_all, "2");
    /* Sent again, it is the first of its key, but another is at work. */
    session_expect(fixture->a, "SELECT cicada.redrive('q')", "1");
    session_expect(fixture->a, claim_all, "");
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 2, 1)");
    session_expect(fixture->a, claim_all, "1");
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 1, 5)");
    session_expect(fixture->a, claim_all, "3");
}

static void test_delayed_ones_keep_their_place(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1', '{\"key\": \"a\", \"delay\": 3600}');"
                             "SELECT cicada.enqueue('q', '1', '{\"key\": \"a\", \"priority\": 10}')");
    session_expect(fixture->a, claim_all, "");
    session_exec(fixture->owner, "UPDATE cicada.event_0 SET due_at = now()");
    session_expect(fixture->a, claim_all, "1");
    session_exec(fixture->a, "SELECT cicada.event_settle(0, 1, 1)");
    session_expect(fixture->a, claim_all, "2");
}

/* What a claim parks while the one before it is being settled is not forgotten, whoever is first. */
static void test_parking_and_settling_at_once(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, "a", 1);
    session_exec(fixture->a, claim_all);
    send(fixture, "a", 2);
    session_exec(fixture->b, "BEGIN; SELECT cicada.event_settle(1, 1, 1)");
    session_expect(fixture->a, claim_all, ""); /* parks 2 and 3 behind 1 */
    session_exec(fixture->b, "COMMIT");
    session_expect(fixture->a, claim_all, "2");
    send(fixture, "a", 1);
    session_exec(fixture->b, "BEGIN");
    session_expect(fixture->b, claim_all, ""); /* parks 4, and is not committed */
    session_exec(fixture->c, "SELECT cicada.event_settle(1, 2, 1)");
    session_block(fixture, fixture->a, claim_all); /* claims stand in line */
    session_exec(fixture->b, "COMMIT");
    session_finish_expect(fixture->a, "3");
}

static void test_lease_that_ran_out_still_blocks(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, "a", 2);
    session_exec(fixture->a, claim_all);
    session_exec(fixture->owner,
                 "UPDATE cicada.event_1 SET due_at = now() - interval '1 s' WHERE lane = 127");
    session_expect(fixture->b, "SELECT id FROM cicada.event_claim(1, 9, '1 minute', false)", "-");
    session_expect(fixture->b, claim_all, "1");
    session_exec(fixture->b, "SELECT cicada.event_settle(1, 1, 2)");
    session_expect(fixture->b, claim_all, "2");
}

static void test_order_is_switched(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, "a", 3);
    session_expect(fixture->a, claim_all, "1");
    session_exec(fixture->a, "SELECT cicada.queue_consume('q', 'n', 'f', 't', false)");
    session_expect(fixture->a, claim_all, "2; 3"); /* none stays parked */
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 1, 1)");
    session_expect(fixture->owner, "SELECT id FROM cicada.event ORDER BY id", "2; 3"); /* no mark either */
    send(fixture, "a", 1);
    session_exec(fixture->a, "SELECT cicada.queue_consume('q', 'n', 'f', 't', true)");
    session_expect(fixture->a, claim_all, ""); /* those at work are before it */
    session_exec(fixture->a, "SELECT cicada.event_settle_many('{1,1}', '{2,3}', '{1,1}')");
    session_expect(fixture->a, claim_all, "4");
}

static void test_long_line_of_one_key_costs_once(void **state)
{
    struct event_fixture *fixture = *state;
    static const char step[] =
        "WITH c AS MATERIALIZED (SELECT * FROM cicada.event_claim(1, 10, '1 minute', false))"
        " SELECT count(*), count(cicada.event_settle(slot, id, epoch)) FROM c";

    send(fixture, "a", 10000);
    session_expect(fixture->a, step, "1 1");
    for (int i = 0; i < 25; i++)
        session_exec(fixture->a, step);
    session_expect(fixture->owner,
                   "SELECT count(*) FILTER (WHERE lane = 0) < 2, max(epoch) FROM cicada.event", "t 1");
    send(fixture, "b", 1);
    session_expect(fixture->a, "SELECT count(*) FROM cicada.event_claim(1, 10, '1 minute', false)", "2");
    assert_in_range(session_pages(fixture->a, step), 1, 600);
    session_exec(fixture->a, "SELECT cicada.event_settle(slot, id, epoch) FROM (SELECT 1) x,"
                             " cicada.event_claim(1, 10, '1 minute', false)");
}

/* ---- slots ---- */

/* One more round of work, done. */
static void work(struct event_fixture *fixture, int count)
{
    CLEANUP_FREE char *sql = xasprintf(
        "SELECT count(*) FROM cicada.enqueue_many('q', array_fill(to_jsonb(repeat('x', 500)), ARRAY[%d]))",
        count);

    session_exec(fixture->a, sql);
    session_exec(fixture->a, "DO $$ DECLARE s integer[]; i bigint[]; e integer[]; BEGIN LOOP"
                             " SELECT array_agg(slot), array_agg(id), array_agg(epoch) INTO s, i, e"
                             " FROM cicada.event_claim(1, 500, '1 minute', true); EXIT WHEN i IS NULL;"
                             " PERFORM cicada.event_settle_many(s, i, e); COMMIT; END LOOP; END $$");
}

static int64_t current_slot(struct event_fixture *fixture)
{
    return session_int(fixture->owner, "SELECT last_value FROM cicada.event_slot");
}

static void test_grown_slot_is_left_and_truncated(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, maintain);
    assert_int_equal(current_slot(fixture), 1);
    work(fixture, 6000);
    session_exec(fixture->a, maintain);
    assert_int_equal(current_slot(fixture), 2);
    session_exec(fixture->a, maintain);
    session_expect(fixture->owner, "SELECT pg_relation_size('cicada.event_1')", "0");
    assert_int_equal(current_slot(fixture), 2);
    session_fails(fixture->a, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT cicada.event_maintain()",
                  "25000", NULL);
    session_exec(fixture->a, "ROLLBACK");
}

/* Nobody can vacuum while it is open. */
static void test_old_snapshot_does_not_let_it_grow(void **state)
{
    struct event_fixture *fixture = *state;
    int64_t first = 0;

    session_exec(fixture->c, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    for (int i = 0; i < 12; i++) {
        work(fixture, 4000);
        session_exec(fixture->a, maintain);
        if (i == 3)
            first = session_int(fixture->owner, slot_sizes);
    }
    assert_in_range(session_int(fixture->owner, slot_sizes), 0, 2 * first);
    session_exec(fixture->c, "COMMIT");
}

static void test_open_transaction_keeps_its_event(void **state)
{
    struct event_fixture *fixture = *state;

    work(fixture, 6000);
    session_exec(fixture->b, "BEGIN; SELECT cicada.enqueue('q', '\"late\"')");
    for (int i = 0; i < 3; i++)
        session_exec(fixture->a, maintain); /* leaves the slot, sees it empty, and can't have it */
    assert_int_equal(current_slot(fixture), 2);
    session_expect(fixture->owner, "SELECT pg_relation_size('cicada.event_1') > 0", "t");
    work(fixture, 6000);
    session_exec(fixture->a, maintain);
    assert_int_equal(current_slot(fixture), 3); /* the others go on */
    session_exec(fixture->b, "COMMIT");
    session_expect(fixture->a, "SELECT slot, payload FROM cicada.event_claim(1, 9, '1 minute', true)",
                   "1 \"late\"");
}

/* It looked into the slot, then another one committed to it: what it saw before it had the lock does not count. */
static void test_truncation_looks_again(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->b, "BEGIN; SELECT cicada.enqueue('q', '\"late\"')");
    session_exec(fixture->owner, "BEGIN");
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event_1", "0");
    session_expect(fixture->owner, "SELECT cicada.slot_truncate(1)", "f");
    session_exec(fixture->b, "COMMIT");
    session_expect(fixture->owner, "SELECT cicada.slot_truncate(1)", "f");
    session_exec(fixture->owner, "COMMIT");
    session_expect(fixture->a, "SELECT payload FROM cicada.event_claim(1, 9, '1 minute', true)", "\"late\"");
}

static void test_what_is_left_is_moved(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "SELECT cicada.enqueue('q', '\"d\"', '{\"delay\": 50}')");
    session_exec(fixture->a, "SELECT cicada.enqueue('q', '\"w\"')");
    session_expect(fixture->b, claim_all, "2");
    work(fixture, 6000);
    session_exec(fixture->a, maintain);
    session_exec(fixture->a, maintain);
    session_expect(fixture->owner, "SELECT slot, id FROM cicada.event ORDER BY id",
                   "0 1; 1 2"); /* at work: stays */
    for (int i = 0; i < 3; i++) {
        work(fixture, 6000);
        session_exec(fixture->a, maintain);
        session_exec(fixture->a, maintain);
    }
    work(fixture, 6000); /* 2, 3 and 4 were used; those at work must give way only if nothing else is free */
    session_expect(fixture->owner, "SELECT slot, id FROM cicada.event ORDER BY id", "0 1; 1 2");
    session_exec(fixture->owner, "SELECT cicada.slot_drain(1, 100, true)");
    session_exec(fixture->b, "SELECT cicada.event_extend('{1}', '{2}', '{1}', '1 hour')");
    session_expect(fixture->owner,
                   "SELECT slot, due_at > now() + '59 minutes' FROM cicada.event WHERE id = 2", "0 t");
    session_exec(fixture->b, "SELECT cicada.event_settle(1, 2, 1)"); /* where it was claimed */
    session_expect(fixture->owner, "SELECT slot, id FROM cicada.event", "0 1");
}

static void test_full_slots_give_way(void **state)
{
    struct event_fixture *fixture = *state;

    for (int slot = 1; slot <= 4; slot++) {
        CLEANUP_FREE char *sql = xasprintf("SELECT setval('cicada.event_slot', %d)", slot);
        session_exec(fixture->owner, sql);
        session_exec(
            fixture->a,
            "SELECT count(*) FROM cicada.enqueue_many('other', array_fill('1'::jsonb, ARRAY[2000]))");
    }
    work(fixture, 6000);
    assert_int_equal(current_slot(fixture), 4);
    session_exec(fixture->a, maintain); /* makes room, which is locked until it ends */
    assert_int_equal(current_slot(fixture), 4);
    session_exec(fixture->a, maintain);
    assert_int_not_equal(current_slot(fixture), 4);
    session_expect(fixture->owner, "SELECT count(*), count(*) FILTER (WHERE slot = 0) FROM cicada.event",
                   "8000 2000");
}

/* ---- all at once ---- */

struct worker {
    char *url;
    const char *sql;
    pthread_t thread;
    _Atomic bool stop;
};

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    PGconn *session = PQconnectdb(worker->url);

    while (!worker->stop)
        session_exec(session, worker->sql);
    PQfinish(session);
    return NULL;
}

/* Slots are left, drained and truncated as fast as they can while events are sent, claimed and settled. */
static void test_nothing_is_lost_or_doubled(void **state)
{
    struct event_fixture *fixture = *state;
    static const char handle[] =
        "WITH c AS MATERIALIZED (SELECT * FROM cicada.event_claim(1, 5, '1 minute', true)),"
        " d AS (INSERT INTO public.effect SELECT id FROM c)"
        " SELECT cicada.event_settle_many(array_agg(slot), array_agg(id), array_agg(epoch)) FROM c";
    static const char rotate[] =
        "SELECT setval('cicada.event_slot', (SELECT last_value % 4 + 1 FROM cicada.event_slot));"
        "SELECT cicada.slot_drain((random() * 3)::integer + 1, 100, true);"
        "SELECT cicada.slot_truncate((random() * 3)::integer + 1)";
    struct worker workers[] = {{.url = fixture->guest_url, .sql = handle},
                               {.url = fixture->guest_url, .sql = handle},
                               {.url = fixture->owner_url, .sql = rotate}};

    session_exec(fixture->owner,
                 "CREATE TABLE public.effect (id bigint); GRANT ALL ON public.effect TO PUBLIC");
    for (size_t i = 0; i < ARRAY_SIZE(workers); i++)
        assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]), 0);
    for (int i = 0; i < 300; i++)
        session_exec(fixture->a, "SELECT cicada.enqueue('q', '1') FROM generate_series(1, 10)");
    for (size_t i = 0; i < ARRAY_SIZE(workers); i++) {
        workers[i].stop = true;
        pthread_join(workers[i].thread, NULL);
    }
    while (session_int(fixture->owner, "SELECT count(*) FROM cicada.event") > 0)
        session_exec(fixture->a, handle);
    session_expect(fixture->owner, "SELECT count(*), count(DISTINCT id) FROM public.effect", "3000 3000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_of_a_key_at_a_time, setup_ordered, events_teardown),
        cmocka_unit_test_setup_teardown(test_a_parked_event_moves_while_it_is_freed, setup_ordered,
                                        events_teardown),
        cmocka_unit_test_setup_teardown(test_the_first_of_its_key_is_given_back_during_a_claim, setup_ordered,
                                        events_teardown),
        cmocka_unit_test_setup_teardown(test_a_parked_event_moves_while_the_order_ends, setup_ordered,
                                        events_teardown),
        cmocka_unit_test_setup_teardown(test_a_parked_event_moves_while_all_are_purged, setup_ordered,
                                        events_teardown),
        cmocka_unit_test_setup_teardown(test_a_mark_before_parked_events_is_work, setup_ordered,
                                        events_teardown),
        cmocka_unit_test_setup_teardown(test_another_key_behind_a_long_line, setup_ordered, events_teardown),
        cmocka_unit_test_setup_teardown(test_backing_off_blocks_and_death_does_not, setup_ordered,
                                        events_teardown),
        cmocka_unit_test_setup_teardown(test_delayed_ones_keep_their_place, setup_ordered, events_teardown),
        cmocka_unit_test_setup_teardown(test_parking_and_settling_at_once, setup_ordered, events_teardown),
        cmocka_unit_test_setup_teardown(test_lease_that_ran_out_still_blocks, setup_ordered, events_teardown),
        cmocka_unit_test_setup_teardown(test_order_is_switched, setup_ordered, events_teardown),
        cmocka_unit_test_setup_teardown(test_long_line_of_one_key_costs_once, setup_ordered, events_teardown),
        cmocka_unit_test_setup_teardown(test_grown_slot_is_left_and_truncated, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_old_snapshot_does_not_let_it_grow, events_setup,
                                        events_teardown),
        cmocka_unit_test_setup_teardown(test_open_transaction_keeps_its_event, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_truncation_looks_again, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_what_is_left_is_moved, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_full_slots_give_way, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_lost_or_doubled, events_setup, events_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
