/* Events in schema `cicada`: claims, leases and how they end. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_events.h"

static const char claim_all[] = "SELECT id FROM cicada.event_claim(1, 100, '1 minute', false)";
static const char claim_idle[] =
    "SELECT id, epoch, attempt, alone, alone_waits FROM cicada.event_claim(1, 100, '1 minute', true)";
static const char claim_busy[] =
    "SELECT id, epoch, attempt, alone, alone_waits FROM cicada.event_claim(1, 100, '1 minute', false)";

static void send(struct event_fixture *fixture, int count)
{
    CLEANUP_FREE char *sql =
        xasprintf("SELECT count(cicada.enqueue('q', n::text::jsonb)) FROM generate_series(1, %d) n", count);

    session_exec(fixture->a, sql);
}

/* As if the time of the leases had passed. */
static void expire(struct event_fixture *fixture)
{
    session_exec(fixture->owner,
                 "UPDATE cicada.event_1 SET due_at = now() - interval '1 s' WHERE lane = 127;"
                 "UPDATE cicada.event_0 SET due_at = now() - interval '1 s' WHERE lane = 127");
}

/* ---- claims ---- */

static void test_claims_do_not_meet(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, 6);
    session_exec(fixture->a, "BEGIN");
    session_expect(fixture->a, "SELECT id FROM cicada.event_claim(1, 2, '1 minute', false)", "1; 2");
    session_expect(fixture->b, "SELECT id FROM cicada.event_claim(1, 2, '1 minute', false)", "3; 4");
    session_exec(fixture->a, "ROLLBACK"); /* it never was */
    session_expect(fixture->b, "SELECT id, attempt FROM cicada.event_claim(1, 3, '1 minute', false)",
                   "1 1; 2 1; 5 1");
    session_expect(fixture->c, claim_all, "6");
    session_expect(fixture->c, claim_all, "");
    session_expect(fixture->c, "SELECT id FROM cicada.event_claim(2, 100, '1 minute', false)", "");
}

static void test_claims_are_checked(void **state)
{
    struct event_fixture *fixture = *state;

    session_fails(fixture->a, "SELECT cicada.event_claim(99, 1, '1 s', true)", "42704",
                  "there is no queue 99");
    session_fails(fixture->a, "SELECT cicada.event_claim(1, 0, '1 s', true)", "22023", "1 to 10000 events");
    session_fails(fixture->a, "SELECT cicada.event_claim(1, 1, '0 s', true)", "22023", NULL);
    session_fails(fixture->a,
                  "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT cicada.event_claim(1, 1, '1 s', true)",
                  "25000", "READ COMMITTED");
    session_exec(fixture->a, "ROLLBACK");
}

static void test_higher_priority_goes_first(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1', jsonb_build_object('priority', p)) FROM "
                             "unnest(ARRAY[-10, 0, 0, 3, 10]) p;"
                             "SELECT cicada.enqueue('q', '1', '{\"delay\": 60, \"priority\": 10}')");
    session_expect(fixture->a, "SELECT id FROM cicada.event_claim(1, 3, '1 s', false)", "5; 4; 2");
    session_expect(fixture->a, "SELECT id FROM cicada.event_claim(1, 3, '1 s', false)", "3; 1");
}

static void test_delayed_come_when_they_are_due(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1', '{\"delay\": \"2 hours\"}');"
                             "SELECT cicada.enqueue('q', '2', '{\"delay\": 0.2}')");
    session_expect(fixture->a, claim_all, "");
    session_expect(fixture->owner, "SELECT slot FROM cicada.event ORDER BY id", "0; 1"); /* long ones apart */
    session_expect(fixture->a, "SELECT pg_sleep(0.25); SELECT id FROM cicada.event_claim(1, 9, '1 s', false)",
                   "2");
    session_exec(fixture->owner, "UPDATE cicada.event_0 SET due_at = now()");
    session_expect(fixture->a, claim_all, "1");
}

/* What a claim looks at does not grow with what others wait for, or what is not due. */
static void test_backlogs_are_not_in_the_way(void **state)
{
    struct event_fixture *fixture = *state;
    int64_t before;

    send(fixture, 20);
    session_exec(fixture->a, "SELECT cicada.event_claim(1, 1, '1 minute', false)");
    before = session_pages(fixture->a, "SELECT cicada.event_claim(1, 1, '1 minute', false)");
    session_exec(
        fixture->owner,
        "INSERT INTO cicada.event_1 (id, due_at, time, queue, epoch, attempt, lane, priority, depth, ordered,"
        " alone, payload) SELECT -n, now() + CASE WHEN n % 2 = 0 THEN '-1' ELSE '1 day' END::interval, now(),"
        " CASE WHEN n % 2 = 0 THEN 2 ELSE 1 END, 0, 0, (n / 2) % 20 - 10, 10 - (n / 2) % 20, 0, false, false,"
        " '1' FROM generate_series(1, 100000) n");
    session_expect(fixture->a, "SELECT count(*) FROM cicada.event_claim(1, 1, '1 minute', false)", "1");
    assert_in_range(session_pages(fixture->a, "SELECT cicada.event_claim(1, 1, '1 minute', false)"), 1,
                    before + 200);
    assert_in_range(session_pages(fixture->a, "SELECT cicada.event_claim(2, 1, '1 minute', false)"), 1,
                    before + 200);
}

struct claimer {
    char *url;
    pthread_t thread;
    int64_t claimed;
};

static void *claimer_main(void *arg)
{
    struct claimer *claimer = arg;
    PGconn *session = PQconnectdb(claimer->url);
    int64_t batch = -1;

    while (batch != 0) {
        batch = session_int(
            session, "WITH c AS MATERIALIZED (SELECT * FROM cicada.event_claim(1, 7, '1 minute', false))"
                     " SELECT count(*) FROM c");
        claimer->claimed += batch;
    }
    PQfinish(session);
    return NULL;
}

static void test_many_claimers(void **state)
{
    struct event_fixture *fixture = *state;
    struct claimer claimers[4];
    int64_t claimed = 0;

    send(fixture, 1000);
    for (size_t i = 0; i < ARRAY_SIZE(claimers); i++) {
        claimers[i] = (struct claimer){.url = fixture->guest_url};
        assert_int_equal(pthread_create(&claimers[i].thread, NULL, claimer_main, &claimers[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(claimers); i++) {
        pthread_join(claimers[i].thread, NULL);
        claimed += claimers[i].claimed;
    }
    assert_int_equal(
        claimed + session_int(fixture->a, "SELECT count(*) FROM cicada.event_claim(1, 100, '1 s', false)"),
        1000);
    session_expect(fixture->owner, "SELECT count(*), max(epoch), max(attempt) FROM cicada.event", "1000 1 1");
}

/* ---- how leases end ---- */

static void test_settled_with_the_handlers_writes(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, 2);
    session_exec(fixture->owner,
                 "CREATE TABLE public.effect (id bigint); GRANT ALL ON public.effect TO PUBLIC");
    session_exec(fixture->a, claim_all);
    session_exec(
        fixture->b,
        "BEGIN; INSERT INTO public.effect VALUES (1); SELECT cicada.event_settle(1, 1, 1); ROLLBACK");
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event", "2"); /* held as before */
    session_exec(fixture->b,
                 "BEGIN; INSERT INTO public.effect VALUES (1); SELECT cicada.event_settle(1, 1, 1); COMMIT");
    session_fails(fixture->b,
                  "BEGIN; INSERT INTO public.effect VALUES (1); SELECT cicada.event_settle(1, 1, 1)", "ZC001",
                  "the lease of event 1 is lost");
    session_exec(fixture->b, "ROLLBACK");
    session_expect(fixture->owner, "SELECT count(*) FROM public.effect", "1");
    session_expect(fixture->owner, "SELECT id FROM cicada.event", "2");
}

static void test_lease_that_ran_out_is_lost_once_taken(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, 1);
    session_exec(fixture->a, claim_all);
    expire(fixture);
    session_expect(fixture->b, claim_busy, "- - - - t"); /* alone, or not at all */
    session_expect(fixture->b, claim_idle, "1 2 1 t f"); /* which spends nothing, this time */
    session_fails(fixture->a, "SELECT cicada.event_settle(1, 1, 1)", "ZC001", NULL);
    session_expect(fixture->a, "SELECT cicada.event_retry(1, 1, 1, '0', true, 'late')", "f");
    session_expect(fixture->a, "SELECT cicada.event_bury(1, 1, 1, 'late', 'late')", "f");
    session_expect(fixture->a, "SELECT cicada.event_extend('{1}', '{1}', '{1}', '1 s')", "1");
    session_expect(fixture->a, "SELECT cicada.event_give_back('{1}', '{1}', '{1}')", "1");
    expire(fixture);
    session_expect(fixture->b, claim_idle, "1 3 2 t f");
    expire(fixture);
    session_exec(fixture->b, "SELECT cicada.event_settle(1, 1, 3)"); /* late, but nobody has taken it */
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event", "0");
}

static void test_one_that_may_be_poison_comes_alone(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, 2);
    session_exec(fixture->a, claim_all);
    send(fixture, 3);
    expire(fixture);
    session_expect(fixture->b,
                   "SELECT id, alone, alone_waits FROM cicada.event_claim(1, 2, '1 minute', false)",
                   "3 f t; 4 f t");
    session_expect(fixture->b, claim_idle, "1 2 1 t f");
    session_expect(fixture->c, claim_idle, "2 2 1 t f");
    session_expect(fixture->c, claim_idle, "5 1 1 f f");
    /* Given back unstarted it is as suspect as before; after an orderly failure it is like any other. */
    session_expect(fixture->c, "SELECT cicada.event_give_back('{1}', '{2}', '{2}')", "");
    session_expect(fixture->c, claim_busy, "- - - - t");
    session_expect(fixture->c, claim_idle, "2 4 1 t f");
    session_expect(fixture->c, "SELECT cicada.event_retry(1, 2, 4, '0', true, 'no')", "t");
    session_expect(fixture->c, claim_busy, "2 5 2 f f");
}

static void test_retries(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, 2);
    session_exec(fixture->a, claim_all);
    session_expect(fixture->a, "SELECT cicada.event_retry(1, 1, 1, '1 hour', true, repeat('x', 3000))", "t");
    session_expect(fixture->a, "SELECT cicada.event_retry(1, 1, 1, '1 hour', true, 'twice')", "f");
    session_expect(fixture->a, "SELECT cicada.event_retry(1, 2, 1, '0', false, NULL)", "t");
    session_expect(fixture->a, claim_busy, "2 2 1 f f");
    session_expect(fixture->owner,
                   "SELECT id, attempt, length(last_error), due_at > now() + '59 minutes' FROM cicada.event "
                   "WHERE id = 1",
                   "1 1 2000 t");
    session_exec(fixture->owner, "UPDATE cicada.event_1 SET due_at = now() WHERE id = 1");
    session_expect(fixture->a, claim_busy, "1 2 2 f f");
}

static void test_given_back(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, 4);
    session_exec(fixture->a, claim_all);
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 2, 1)");
    session_expect(fixture->a, "SELECT cicada.event_give_back('{1,1,1}', '{1,2,3}', '{1,1,1}')", "2");
    send(fixture, 1);
    session_expect(fixture->b, claim_busy, "1 3 1 f f; 3 3 1 f f; 5 1 1 f f"); /* before what came later */
    session_fails(fixture->a, "SELECT cicada.event_settle(1, 1, 1)", "ZC001", NULL);
}

static void test_leases_are_extended(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, 3);
    session_exec(fixture->a, claim_all);
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 3, 1)");
    session_expect(fixture->a, "SELECT cicada.event_extend('{1,1,1,4}', '{1,2,3,9}', '{1,1,1,1}', '1 hour')",
                   "3; 9");
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event WHERE due_at > now() + '59 minutes'",
                   "2");
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 1, 1)");
}

static void test_many_are_settled_or_none(void **state)
{
    struct event_fixture *fixture = *state;
    PGresult *result;

    send(fixture, 5);
    session_exec(fixture->a, claim_all);
    session_exec(fixture->a, "SELECT cicada.event_settle_many('{1,1}', '{1,2}', '{1,1}')");
    session_exec(fixture->a, "SELECT cicada.event_settle_many('{}', '{}', '{}')");
    result = PQexec(fixture->a, "SELECT cicada.event_settle_many('{1,1,1,2}', '{3,2,4,9}', '{1,1,2,1}')");
    assert_string_equal(PQresultErrorField(result, PG_DIAG_SQLSTATE), "ZC001");
    assert_string_equal(PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL), "9,2,4");
    PQclear(result);
    session_expect(fixture->owner, "SELECT id FROM cicada.event ORDER BY id", "3; 4; 5");
}

static void test_dead_letters_have_a_history(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a,
                 "SELECT cicada.enqueue('q', '{\"a\": 1}', '{\"key\": \"k\", \"headers\": {\"h\": \"v\"}}')");
    session_exec(fixture->a, claim_all);
    session_exec(fixture->a, "SELECT cicada.event_retry(1, 1, 1, '0', true, 'first')");
    session_exec(fixture->a, claim_all);
    session_expect(fixture->a, "SELECT cicada.event_bury(1, 1, 2, 'rejected', '23505: duplicate key')", "t");
    session_expect(fixture->a,
                   "SELECT id, reason, error, attempt, key, payload, headers, depth, time <= started_at,"
                   " started_at < died_at, died_at <= now() FROM cicada.dead_letters('q')",
                   "1 rejected 23505: duplicate key 2 k {\"a\": 1} {\"h\": \"v\"} 0 t t t");
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event", "0");
}

/* A handler's snapshot may be older than the move of its event: it is run again, not thought lost. */
static void test_settling_in_an_old_snapshot(void **state)
{
    struct event_fixture *fixture = *state;

    send(fixture, 2);
    session_exec(fixture->a, claim_all);
    session_exec(fixture->a,
                 "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT cicada.event_settle(1, 1, 1); COMMIT");
    session_exec(fixture->a, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    session_exec(fixture->owner, "SELECT cicada.slot_drain(1, 100, true)");
    session_fails(fixture->a, "SELECT cicada.event_settle(1, 2, 1)", "40001", NULL);
    session_exec(fixture->a, "ROLLBACK");
    session_expect(fixture->a, "SELECT cicada.event_extend('{1}', '{2}', '{1}', '1 minute')", "");
    session_exec(fixture->a,
                 "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT cicada.event_settle(1, 2, 1); COMMIT");
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event", "0");
}

/* More parked events than one statement may take: each claim lets some of them go. */
static void test_a_long_line_goes_while_the_order_changes(void **state)
{
    struct event_fixture *fixture = *state;
    static const char stats[] = "SELECT due, blocked FROM cicada.queue_stats('{q}')";
    static const char claim[] = "SELECT id FROM cicada.event_claim(1, 1, '1 minute', true)";

    session_exec(fixture->a,
                 "SELECT * FROM cicada.queue_consume('q', 'n', 'f', 't', true);"
                 "SELECT cicada.enqueue('q', '1', '{\"key\": \"a\"}') FROM generate_series(1, 2)");
    session_expect(fixture->a, "SELECT id FROM cicada.event_claim(1, 9, '1 minute', true)", "1");
    session_exec(
        fixture->owner,
        "INSERT INTO cicada.event_0 SELECT r.* FROM generate_series(10, 12009) n,"
        " jsonb_populate_record(NULL::cicada.event_0, (SELECT to_jsonb(e) FROM cicada.event_1 e WHERE id = 2)"
        " || jsonb_build_object('id', n, 'due_at', timestamptz '2026-01-01' + n * interval '1 s')) r");
    session_exec(fixture->a, "SELECT * FROM cicada.queue_consume('q', 'n', 'f', 't', false)");
    session_expect(fixture->a, stats, "1 10000"); /* somebody has to come */
    session_expect(fixture->a, claim, "10");
    session_expect(fixture->a, stats, "9999 2001");
    session_exec(fixture->a, "SELECT * FROM cicada.queue_consume('q', 'n', 'f', 't', true)");
    session_expect(fixture->a, claim, ""); /* those of the key are at work */
    session_exec(fixture->a, "SELECT cicada.event_settle(1, 1, 1); SELECT cicada.event_settle(0, 10, 1)");
    session_expect(fixture->a, claim, "2");
    session_exec(fixture->a, "SELECT * FROM cicada.queue_consume('q', 'n', 'f', 't', false)");
    session_exec(fixture->a, "SELECT count(*) FROM cicada.event_claim(1, 1, '1 minute', true)");
    session_exec(fixture->a, "SELECT count(*) FROM cicada.event_claim(1, 1, '1 minute', true)");
    session_expect(fixture->owner, "SELECT unpark FROM cicada.queue WHERE id = 1", "f");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_claims_do_not_meet, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_claims_are_checked, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_higher_priority_goes_first, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_delayed_come_when_they_are_due, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_backlogs_are_not_in_the_way, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_many_claimers, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_settled_with_the_handlers_writes, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_lease_that_ran_out_is_lost_once_taken, events_setup,
                                        events_teardown),
        cmocka_unit_test_setup_teardown(test_one_that_may_be_poison_comes_alone, events_setup,
                                        events_teardown),
        cmocka_unit_test_setup_teardown(test_retries, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_given_back, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_leases_are_extended, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_many_are_settled_or_none, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_dead_letters_have_a_history, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_settling_in_an_old_snapshot, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_a_long_line_goes_while_the_order_changes, events_setup,
                                        events_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
