/* Events in schema `cicada`: sending them, and looking after queues. */
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

/* ---- enqueue ---- */

static void test_consumer_gets_what_was_sent(void **state)
{
    struct event_fixture *fixture = *state;

    session_expect(fixture->a, "SELECT * FROM cicada.queue_consume('q', 'shop', 'pay', 'payments', false)",
                   "1 -");
    session_expect(fixture->a,
                   "SELECT cicada.enqueue('q', '{\"total\": 19.900}', '{\"key\": \"order 7\","
                   " \"headers\": {\"tenant\": \"x\"}}')",
                   "1");
    session_expect(fixture->a, "SELECT cicada.enqueue('q', 'null')", "2");
    session_expect(
        fixture->b,
        "SELECT slot, id, epoch, attempt, alone, alone_waits, source, type, subject, headers, traceparent,"
        " depth, payload, now() - time < '1 minute' FROM cicada.event_claim(1, 10, '1 minute', true)",
        "1 1 1 1 f f /cicada/shop/q cicada.dev.message order 7 {\"tenant\": \"x\"} - 0"
        " {\"total\": 19.900} t; 1 2 1 1 f f /cicada/shop/q cicada.dev.message - - - 0 null t");
    session_expect(fixture->b, claim_all, "");
}

static void test_it_is_part_of_the_transaction(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "BEGIN; SELECT cicada.enqueue('q', '1')");
    session_expect(fixture->b, claim_all, "");
    session_exec(fixture->a, "ROLLBACK; BEGIN; SELECT cicada.enqueue('q', '2'); COMMIT");
    session_expect(fixture->b, claim_all, "2");
}

static void test_options_are_checked(void **state)
{
    struct event_fixture *fixture = *state;
    static const struct {
        const char *options, *sqlstate, *text;
    } refused[] = {
        {"'{\"prioritty\": 1}'", "22023", "unknown option prioritty"},
        {"'[]'", "22023", "options must be a JSON object"},
        {"'{\"key\": \"\"}'", "22023", "option key must be a string of 1 to 255 bytes"},
        {"'{\"key\": {}}'", "22023", "option key must be"},
        {"jsonb_build_object('key', repeat('k', 256))", "22023", "option key must be"},
        {"'{\"dedupKey\": true}'", "22023", "option \"dedupKey\" must be"},
        {"'{\"dedupKey\": \"\"}'", "22023", "option \"dedupKey\" must be"},
        {"jsonb_build_object('dedupKey', repeat('k', 256))", "22023", "option \"dedupKey\" must be"},
        {"'{\"key\": \"\", \"dedupKey\": \"x\"}'", "22023", "option key must be"},
        {"'{\"priority\": 11}'", "22023", "option priority must be an integer from -10 to 10"},
        {"'{\"priority\": 1.5}'", "22023", "option priority"},
        {"'{\"delay\": -1}'", "22023", "option delay must be a number of seconds or an interval"},
        {"'{\"delay\": 1e300}'", "22023", "option delay"},
        {"'{\"delay\": true}'", "22023", "option delay"},
        {"'{\"delay\": \"soon\"}'", "22007", "soon"},
        {"'{\"delay\": \"2 years\"}'", "22023", "option delay"},
        {"'{\"headers\": []}'", "22023", "option headers must be an object of strings"},
        {"'{\"headers\": {\"a\": 1}}'", "22023", "option headers must be an object of strings"},
        {"jsonb_build_object('headers', jsonb_build_object('a', repeat('x', 16384)))", "54000",
         "option headers has more than 16384 bytes"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        CLEANUP_FREE char *one = xasprintf("SELECT cicada.enqueue('q', '1', %s)", refused[i].options);
        CLEANUP_FREE char *many =
            xasprintf("SELECT cicada.enqueue_many('q', ARRAY['1'::jsonb], %s)", refused[i].options);
        session_fails(fixture->a, one, refused[i].sqlstate, refused[i].text);
        session_fails(fixture->a, many, refused[i].sqlstate,
                      strstr(refused[i].text, "dedup") ? "dedupKey is for one event" : refused[i].text);
    }
    session_expect(fixture->a, "SELECT cicada.enqueue('q', '1', NULL) IS NOT NULL", "t");
    session_expect(fixture->a,
                   "SELECT cicada.enqueue('q', '1', '{\"key\": null, \"delay\": null, \"priority\": null,"
                   " \"headers\": null, \"dedupKey\": null}') IS NOT NULL",
                   "t");
    session_expect(fixture->a, "SELECT cicada.enqueue('q', '1', '{\"key\": 7, \"dedupKey\": 7}') IS NOT NULL",
                   "t");
    session_expect(fixture->b, "SELECT subject FROM cicada.event_claim(1, 10, '1 s', false)", "-; -; 7");
}

static void test_payload_is_limited(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "SELECT cicada.enqueue('q', to_jsonb(repeat('x', 262142)))");
    session_fails(fixture->a, "SELECT cicada.enqueue('q', to_jsonb(repeat('x', 262143)))", "54000",
                  "payload has 262145 bytes, and 262144 are allowed");
    session_fails(fixture->a, "SELECT cicada.enqueue('q', NULL)", "22004", "payload is NULL");
    session_fails(fixture->a, "SELECT cicada.enqueue_many('q', ARRAY['1', NULL]::jsonb[])", "22004",
                  "payload");
    session_expect(fixture->b, "SELECT octet_length(payload) FROM cicada.event_claim(1, 10, '1 s', true)",
                   "262144");
}

static void test_many_at_once(void **state)
{
    struct event_fixture *fixture = *state;

    session_expect(fixture->a,
                   "SELECT cicada.enqueue_many('q', ARRAY['1', '2', '3']::jsonb[], '{\"key\": \"k\"}')",
                   "1; 2; 3");
    session_expect(fixture->a, "SELECT cicada.enqueue_many('q', '{}'), cicada.enqueue_many('q', NULL)", "");
    session_fails(fixture->a, "SELECT cicada.enqueue_many('q', array_fill('1'::jsonb, ARRAY[10001]))",
                  "54000", "10001 payloads, and 10000 are allowed");
    session_expect(fixture->b, "SELECT id, payload, subject FROM cicada.event_claim(1, 9, '1 s', true)",
                   "1 1 k; 2 2 k; 3 3 k");
}

static void test_ten_thousand_at_once(void **state)
{
    struct event_fixture *fixture = *state;
    static const char refused[] = "SELECT cicada.enqueue_many('q', ARRAY['1', to_jsonb(repeat('x', 262143)),"
                                  " NULL, '2']::jsonb[])";

    session_expect(fixture->a,
                   "SELECT count(*), bool_and(id = n) FROM cicada.enqueue_many('q', ARRAY("
                   "SELECT to_jsonb(n) FROM generate_series(1, 10000) n)) WITH ORDINALITY m (id, n)",
                   "10000 t");
    session_expect(fixture->owner,
                   "SELECT count(*), bool_and(id::text = payload), count(DISTINCT slot) FROM cicada.event",
                   "10000 t 1");
    session_expect(fixture->b, "SELECT id FROM cicada.event_claim(1, 3, '1 minute', false)", "1; 2; 3");
    session_fails(fixture->a, refused, "54000", "payload has 262145 bytes"); /* the first of the wrong ones */
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event", "10000");
}

/* All that an event has of its transaction and of the options. */
static void test_many_are_like_one(void **state)
{
    struct event_fixture *fixture = *state;
    static const char *const options[] = {
        "{}",
        "{\"key\": \"k\", \"priority\": -3, \"headers\": {\"a\": \"b\"}}",
        "{\"key\": 7, \"delay\": 3600}",
    };

    for (int depth = 15; depth <= 16; depth++) {
        for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
            CLEANUP_FREE char *sql = xasprintf("BEGIN; SET LOCAL cicada.depth = '%d';"
                                               "SET LOCAL cicada.traceparent = '00-1-2-01';"
                                               "SELECT cicada.enqueue('q', '[1]', '%s');"
                                               "SELECT count(*) FROM cicada.enqueue_many('q',"
                                               " ARRAY['[1]', '[1]']::jsonb[], '%s'); COMMIT",
                                               depth, options[i], options[i]);
            session_exec(fixture->a, sql);
        }
    }
    session_expect(fixture->owner,
                   "SELECT count(*) FROM (SELECT to_jsonb(e) - ARRAY['id', 'due_at'] AS about,"
                   " date_trunc('hour', due_at - time) FROM cicada.event e GROUP BY 1, 2"
                   " HAVING count(*) = 3) x",
                   "3");
    session_expect(
        fixture->owner,
        "SELECT count(*) FROM (SELECT to_jsonb(d) - ARRAY['id', 'died_at'] FROM cicada.dead_letter d"
        " GROUP BY 1 HAVING count(*) = 3) x",
        "3");
    session_expect(fixture->owner,
                   "SELECT count(*), count(*) FILTER (WHERE slot = 0), max(depth), min(traceparent)"
                   " FROM cicada.event",
                   "9 3 16 00-1-2-01");
    session_expect(fixture->owner, "SELECT count(*), min(depth), min(reason) FROM cicada.dead_letter",
                   "9 17 depth");
}

static void test_queues_are_declared(void **state)
{
    struct event_fixture *fixture = *state;

    session_fails(fixture->a, "SELECT cicada.enqueue('none', '1')", "42704", "queue 'none' is not declared");
    session_fails(fixture->a, "SELECT cicada.enqueue(NULL, '1')", "42704", "queue NULL is not declared");
    session_fails(fixture->a, "SELECT cicada.enqueue_many('none', '{}')", "42704",
                  "SELECT cicada.create_queue('none')");
    session_fails(fixture->a, "SELECT cicada.create_queue('a/b')", "22023", "queue name 'a/b' is not valid");
    session_fails(fixture->a, "SELECT cicada.create_queue(repeat('a', 64))", "22023", NULL);
    session_fails(fixture->a, "SELECT cicada.create_queue(NULL)", "22023", NULL);
    session_expect(fixture->a, "SELECT cicada.create_queue('q'), cicada.create_queue('A.b_c-1')", "1 3");
    session_exec(fixture->a, "BEGIN; SELECT cicada.create_queue('both')");
    session_block(fixture, fixture->b, "SELECT cicada.create_queue('both')");
    session_exec(fixture->a, "COMMIT");
    free(session_finish(fixture->b));
    session_expect(fixture->owner, "SELECT count(*), count(wake) FROM cicada.queue", "4 4");
}

/* ---- dedupKey ---- */

static const char send_once[] = "SELECT cicada.enqueue('q', '1', '{\"dedupKey\": \"x\"}')";

static void test_dedup_key_sends_once(void **state)
{
    struct event_fixture *fixture = *state;

    session_expect(fixture->a, send_once, "1");
    session_expect(fixture->a, send_once, "1");
    session_expect(fixture->a, "SELECT cicada.enqueue('other', '1', '{\"dedupKey\": \"x\"}') > 1", "t");
    session_expect(fixture->b, claim_all, "1");
    session_exec(fixture->b, "SELECT cicada.event_settle(1, 1, 1)");
    session_expect(fixture->a, send_once, "1"); /* also when it is done */
    session_expect(fixture->a, "SELECT cicada.enqueue('q', '1', '{\"key\": \"k\", \"dedupKey\": \"x\"}')",
                   "1");
    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1', '{\"key\": \"k\", \"dedupKey\": \"z\"}')");
    session_expect(fixture->b, "SELECT subject FROM cicada.event_claim(1, 9, '1 s', false)", "k");
    session_exec(fixture->a, "BEGIN; SELECT cicada.enqueue('q', '1', '{\"dedupKey\": \"y\"}'); ROLLBACK");
    session_expect(fixture->b, claim_all, "");
    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1', '{\"dedupKey\": \"y\"}')");
    session_expect(fixture->b, "SELECT count(*) FROM cicada.event_claim(1, 9, '1 s', false)", "1");
}

static void test_dedup_key_is_kept_for_a_day(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, send_once);
    session_expect(fixture->owner, "SELECT expires_at - now() > '23:59' FROM cicada.dedup", "t");
    session_exec(fixture->owner, "UPDATE cicada.dedup SET expires_at = now() - interval '1 s'");
    session_expect(fixture->a, "SELECT cicada.enqueue('q', '1', '{\"dedupKey\": \"x\"}') > 1", "t");
    session_expect(fixture->a, "SELECT cicada.dedup_purge(10)", "0");
    session_exec(fixture->owner,
                 "UPDATE cicada.dedup SET expires_at = now() - interval '1 s';"
                 "INSERT INTO cicada.dedup SELECT 1, n::text, 1, now() FROM generate_series(1, 4) n");
    session_expect(fixture->a, "SELECT cicada.dedup_purge(3)", "3");
    session_expect(fixture->a, "SELECT cicada.dedup_purge(3)", "2");
}

static void test_dedup_key_at_once(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "BEGIN");
    session_expect(fixture->a, send_once, "1");
    session_block(fixture, fixture->b, send_once);
    session_exec(fixture->a, "COMMIT");
    session_finish_expect(fixture->b, "1");
    session_exec(fixture->a, "BEGIN; SELECT cicada.enqueue('q', '1', '{\"dedupKey\": \"y\"}')");
    session_block(fixture, fixture->b, "SELECT cicada.enqueue('q', '2', '{\"dedupKey\": \"y\"}')");
    session_exec(fixture->a, "ROLLBACK");
    free(session_finish(fixture->b));
    session_expect(fixture->c, "SELECT payload FROM cicada.event_claim(1, 9, '1 s', false)", "1; 2");
}

/* ---- what a transaction carries along ---- */

static void test_depth_ends_a_loop(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a,
                 "BEGIN; SET LOCAL cicada.depth = '15'; SET LOCAL cicada.traceparent = '00-1-2-01';"
                 "SELECT cicada.enqueue('q', '1'); SET LOCAL cicada.depth = '16';"
                 "SELECT cicada.enqueue('q', '2', '{\"key\": \"k\"}'); COMMIT");
    session_exec(fixture->a, "SELECT cicada.enqueue('q', '3')"); /* outside */
    session_expect(fixture->b, "SELECT id, depth, traceparent FROM cicada.event_claim(1, 9, '1 s', false)",
                   "1 16 00-1-2-01; 3 0 -");
    session_expect(fixture->a,
                   "SELECT id, reason, error, attempt, key, payload, depth FROM cicada.dead_letters('q')",
                   "2 depth - 0 k 2 17");
    session_fails(fixture->a, "SET cicada.depth = 'much'; SELECT cicada.enqueue('q', '1')", "22P02", NULL);
}

static void enqueue_at_once(struct event_fixture *fixture, const char *begin)
{
    session_exec(fixture->a, begin);
    session_exec(fixture->b, begin);
    for (int i = 0; i < 3; i++) {
        session_exec(fixture->a,
                     "SELECT cicada.enqueue('q', '1', jsonb_build_object('dedupKey', 'a' || random()))");
        session_exec(fixture->b,
                     "SELECT cicada.enqueue('q', '1', jsonb_build_object('dedupKey', 'b' || random()))");
        session_exec(fixture->a, "SELECT cicada.enqueue('q', '1', '{\"key\": \"k\"}')");
        session_exec(fixture->b, "SELECT cicada.enqueue('q', '1', '{\"key\": \"k\"}')");
        /* As a consumer and the operator do meanwhile. */
        session_exec(fixture->c, "SELECT cicada.queue_sleep('{1}')");
        session_exec(fixture->c, "SELECT * FROM cicada.queue_consume('q', 'n', 'f', 't', false)");
        session_exec(fixture->c, claim_all);
    }
    session_exec(fixture->a, "COMMIT");
    session_exec(fixture->b, "COMMIT");
}

static void test_isolation_fails_nobody(void **state)
{
    struct event_fixture *fixture = *state;

    enqueue_at_once(fixture, "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1");
    enqueue_at_once(fixture, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    enqueue_at_once(fixture, "BEGIN");
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event", "36");
}

/* ---- consumers ---- */

static void test_first_consumer_keeps_the_queue(void **state)
{
    struct event_fixture *fixture = *state;

    session_expect(fixture->a, "SELECT * FROM cicada.queue_consume('new', 'n', 'f', 't', false)", "3 -");
    session_expect(fixture->a, "SELECT * FROM cicada.queue_consume('new', 'n', 'f', 't', false)", "3 -");
    session_expect(fixture->a, "SELECT * FROM cicada.queue_consume('new', 'n', 'g', 't', true)",
                   "3 n/f, trigger t");
    session_expect(fixture->a, "SELECT cicada.queue_release('new', 'n', 'g', 't')", "f");
    session_expect(fixture->a, "SELECT cicada.enqueue('new', '1')", "1");
    session_expect(fixture->a, "SELECT cicada.queue_release('new', 'n', 'f', 't')", "t");
    session_expect(fixture->a, "SELECT * FROM cicada.queue_consume('new', 'n', 'g', 't', true)", "3 -");
    session_expect(fixture->a, "SELECT id FROM cicada.event_claim(3, 9, '1 s', false)", "1");
    session_exec(fixture->a, "BEGIN; SELECT * FROM cicada.queue_consume('two', 'n', 'f', 't', false)");
    session_block(fixture, fixture->b, "SELECT * FROM cicada.queue_consume('two', 'n', 'g', 't', false)");
    session_exec(fixture->a, "COMMIT");
    session_finish_expect(fixture->b, "4 n/f, trigger t");
    session_fails(fixture->a, "SELECT cicada.queue_consume('q', 'n', NULL, 't', false)", "22004", NULL);
}

static int notified(PGconn *session, const char *payload)
{
    PGnotify *notify;
    int count = 0;

    session_exec(session, "SELECT 1");
    while ((notify = PQnotifies(session)) != NULL) {
        assert_string_equal(notify->relname, "cicada_wake");
        assert_string_equal(notify->extra, payload);
        PQfreemem(notify);
        count++;
    }
    return count;
}

static void test_only_sleepers_are_notified(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->b, "LISTEN cicada_wake");
    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1')");
    assert_int_equal(notified(fixture->b, "1"), 0);
    session_exec(fixture->a, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    session_exec(fixture->c, "SELECT cicada.queue_sleep('{1}')");
    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1'); COMMIT"); /* its snapshot is older */
    assert_int_equal(notified(fixture->b, "1"), 1);
    session_exec(fixture->a,
                 "SELECT cicada.enqueue('q', '1', '{\"delay\": 1}'); SELECT cicada.enqueue('other', '1')");
    assert_int_equal(notified(fixture->b, "1"), 0);
    session_exec(fixture->a, "SELECT cicada.enqueue_many('q', ARRAY['1', '2']::jsonb[])");
    assert_int_equal(notified(fixture->b, "1"), 1);
    session_expect(fixture->c, "SELECT count(*) FROM cicada.event_claim(1, 9, '1 s', false)", "4");
    session_exec(fixture->a,
                 "SELECT cicada.enqueue('q', '1')"); /* that one worked already: another may sleep */
    assert_int_equal(notified(fixture->b, "1"), 1);
    session_expect(fixture->c, "SELECT count(*) FROM cicada.event_claim(1, 9, '1 s', true)", "1");
    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1')"); /* who was idle and claims is awake */
    assert_int_equal(notified(fixture->b, "1"), 0);
    session_exec(fixture->owner,
                 "SELECT setval('cicada.queue_wake_1', (extract(epoch FROM now()) * 1000)::bigint)");
    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1')"); /* who fell asleep for ever is forgotten */
    assert_int_equal(notified(fixture->b, "1"), 0);
}

/* ---- looking after ---- */

static void test_dead_letters_are_sent_again(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "SELECT cicada.enqueue('q', n::text::jsonb, '{\"priority\": 2, \"key\": \"k\"}')"
                             " FROM generate_series(1, 4) n");
    session_exec(fixture->b, claim_all);
    session_exec(fixture->b,
                 "SELECT cicada.event_bury(1, n, 1, 'exhausted', 'no luck') FROM generate_series(1, 4) n");
    session_expect(fixture->a, "SELECT count(*) FROM cicada.dead_letters('q', 3)", "3");
    session_expect(fixture->a, "SELECT cicada.redrive('q', ARRAY[2, 99])", "1");
    session_expect(fixture->a, "SELECT cicada.redrive('other')", "0");
    session_expect(fixture->b,
                   "SELECT id, attempt, epoch, subject, payload FROM cicada.event_claim(1, 9, '1 s', true)",
                   "2 1 2 k 2"); /* no earlier epoch comes back */
    session_expect(fixture->a, "SELECT cicada.redrive('q', NULL, 2)", "2");
    session_expect(fixture->a, "SELECT id FROM cicada.dead_letters('q')", "4");
    session_expect(fixture->a, "SELECT cicada.purge('q', true)", "1");
    session_expect(fixture->a, "SELECT cicada.purge('q')", "2"); /* the leased one stays */
    session_expect(fixture->b, "SELECT cicada.event_settle(1, 2, 2)", "");
    session_fails(fixture->a, "SELECT cicada.purge('none')", "42704", NULL);
}

static void test_stats_tell_each_state(void **state)
{
    struct event_fixture *fixture = *state;
    static const char stats[] =
        "SELECT queue, due, delayed, leased, blocked, dead, capped, oldest_due > '9 s'"
        " FROM cicada.queue_stats()";

    session_expect(fixture->a, stats, "other 0 0 0 0 0 f -; q 0 0 0 0 0 f -");
    session_exec(fixture->a, "SELECT cicada.queue_consume('q', 'n', 'f', 't', true)");
    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1', '{\"key\": \"k\"}') FROM generate_series(1, 3);"
                             "SELECT cicada.enqueue('q', '1', '{\"delay\": 60}') FROM generate_series(1, 4);"
                             "SELECT cicada.enqueue('q', '1', '{\"delay\": 600, \"priority\": 3}')");
    session_expect(fixture->b, claim_all, "1");
    session_exec(fixture->a, "SELECT cicada.enqueue('q', '1', '{\"priority\": -10}')");
    session_exec(fixture->owner,
                 "UPDATE cicada.event_1 SET due_at = now() - interval '10 s' WHERE lane = 10;"
                 "INSERT INTO cicada.event_0 (id, due_at, time, queue, epoch, attempt, lane, priority,"
                 " depth, ordered, alone, payload) SELECT -n, now(), now(), 2, 0, 0, 0, 0, 0, false,"
                 " false, '1' FROM generate_series(1, 20000) n");
    session_expect(fixture->a, stats, "other 10000 0 0 0 0 t f; q 1 5 1 2 0 f t");
    session_expect(fixture->a, "SELECT consumer FROM cicada.queue_stats()", "-; n/f, trigger t");
    assert_in_range(session_pages(fixture->a, "SELECT cicada.queue_stats()"), 1, 12000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_consumer_gets_what_was_sent, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_it_is_part_of_the_transaction, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_options_are_checked, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_payload_is_limited, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_many_at_once, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_ten_thousand_at_once, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_many_are_like_one, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_queues_are_declared, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_dedup_key_sends_once, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_dedup_key_is_kept_for_a_day, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_dedup_key_at_once, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_depth_ends_a_loop, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_isolation_fails_nobody, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_first_consumer_keeps_the_queue, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_only_sleepers_are_notified, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_dead_letters_are_sent_again, events_setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_stats_tell_each_state, events_setup, events_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
