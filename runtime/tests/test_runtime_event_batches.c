/* Several events in one transaction, through the real runtime and a real PostgreSQL: groups, each event behind a savepoint, and batches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_event_scene.h"
#include "runtime/tests/support_postgres.h"

#define DELIVERY(more)                                                                                       \
    "{\"name\":\"work\",\"queue\":{\"name\":\"q\"},"                                                         \
    "\"delivery\":{\"maxAttempts\":3,\"backoffSeconds\":1,\"maxBackoffSeconds\":1" more "}}"
#define BATCHES DELIVERY(",\"batchSize\":10")

static int setup(void **state)
{
    struct scene *scene;

    (void)scene_setup(state);
    scene = *state;
    session_exec(
        scene->events->owner,
        "ALTER TABLE event_test.notes ADD tx text DEFAULT pg_current_xact_id()::text;"
        "CREATE TABLE event_test.later (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
        "GRANT ALL ON event_test.later TO " EVENTS_GUEST ";"
        /* Two of one transaction collide; two workers that begin in one microsecond do not. */
        "CREATE TABLE event_test.moments (who int DEFAULT pg_backend_pid(), at timestamptz DEFAULT now(), "
        "PRIMARY KEY (who, at));"
        "GRANT ALL ON event_test.moments TO " EVENTS_GUEST ";"
        "CREATE FUNCTION event_test.lose(bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$"
        " BEGIN FOR i IN 0 .. 4 LOOP EXECUTE format("
        "'UPDATE cicada.event_%s SET epoch = epoch + 1 WHERE lane = 127 AND payload LIKE ''%%lose%%''', i);"
        " END LOOP; END $$");
    return 0;
}

/* n events {"text":"<prefix><i>"}; `more` ("" or members with a comma before them) for every `each`-th. */
static void send_many(struct scene *scene, const char *prefix, int n, int each, const char *more)
{
    CLEANUP_FREE char *sql =
        xasprintf("SELECT count(*) FROM cicada.enqueue_many('q', ARRAY(SELECT (CASE WHEN i %% %d = 0 THEN"
                  " '{\"text\":\"%s' || i || '\"%s}' ELSE '{\"text\":\"%s' || i || '\"}' END)::jsonb"
                  " FROM generate_series(1, %d) i))",
                  each, prefix, more, prefix, n);

    session_exec(scene->events->a, sql);
}

/* Each event of the text's beginning is noted once, but for so many. */
static void are_noted_once(struct scene *scene, const char *prefix, int n)
{
    CLEANUP_FREE char *sql = xasprintf(
        "SELECT count(*), count(DISTINCT text) FROM event_test.notes WHERE text LIKE '%s%%'", prefix);
    CLEANUP_FREE char *answer = xasprintf("%d %d", n, n);

    session_expect(scene->events->owner, sql, answer);
}

static void share_transactions(struct scene *scene)
{
    session_expect(scene->events->owner, "SELECT count(DISTINCT tx) < count(*) FROM event_test.notes", "t");
}

#define DEAD                                                                                                 \
    "SELECT reason, count(*), max(attempt) FROM cicada.dead_letters('q') GROUP BY reason ORDER BY reason"

/* ---- groups ---- */

#define ONE_ATTEMPT "{\"name\":\"work\",\"queue\":{\"name\":\"q\"},\"delivery\":{\"maxAttempts\":1}}"

/* Events that take no time are handed over in groups, once it is known that they do. */
static void start_group_with(struct scene *scene, const char *trigger)
{
    scene_start(scene, SCENE_HANDLER, "", trigger);
    send_many(scene, "warm", 200, 1, "");
    scene_becomes(scene, SCENE_STATS, "0 0");
}

static void start_group(struct scene *scene)
{
    start_group_with(scene, DELIVERY(""));
}

static void test_failure_is_undone_alone(void **state)
{
    struct scene *scene = *state;

    start_group(scene);
    send_many(scene, "a", 400, 50, ",\"sql\":\"SELECT 1/0\"");
    scene_becomes(scene, SCENE_STATS, "0 8");
    are_noted_once(scene, "warm", 200);
    are_noted_once(scene, "a", 392);
    share_transactions(scene);
    session_expect(scene->events->owner, DEAD, "data 8 1");
}

static void test_lost_lease_of_one_costs_no_other(void **state)
{
    struct scene *scene = *state;

    start_group(scene);
    send_many(scene, "a", 200, 200, ",\"sql\":\"SELECT event_test.lose(1)\"");
    scene_becomes(scene, SCENE_STATS, "1 0"); /* until its lease runs out */
    are_noted_once(scene, "a", 199);
    session_expect(scene->events->owner, "SELECT lane, attempt FROM cicada.event", "127 1");
}

static void test_commit_of_a_handler_settles_those_before_it(void **state)
{
    struct scene *scene = *state;

    start_group(scene);
    send_many(scene, "a", 300, 7, ",\"commit\":1,\"status\":500");
    scene_becomes(scene, SCENE_STATS, "0 0");
    are_noted_once(scene, "a", 300);
}

static void test_error_at_commit_finds_its_event(void **state)
{
    struct scene *scene = *state;

    start_group(scene);
    session_exec(scene->events->a, "INSERT INTO event_test.later VALUES (1)");
    send_many(scene, "a", 200, 100, ",\"sql\":\"INSERT INTO event_test.later VALUES (1)\"");
    scene_becomes(scene, SCENE_STATS, "0 2");
    are_noted_once(scene, "a", 198);
    session_expect(scene->events->owner, DEAD, "data 2 1");
}

/* The commit of one meets what another has left until then. */
static void test_error_at_commit_of_a_handler_finds_its_event(void **state)
{
    struct scene *scene = *state;

    start_group(scene);
    session_exec(scene->events->a, "INSERT INTO event_test.later VALUES (1)");
    session_exec(
        scene->events->a,
        "SELECT count(*) FROM cicada.enqueue_many('q', ARRAY(SELECT (CASE i % 20"
        " WHEN 1 THEN '{\"text\":\"a' || i || '\",\"sql\":\"INSERT INTO event_test.later VALUES (1)\"}'"
        " WHEN 2 THEN '{\"text\":\"a' || i || '\",\"commit\":1}'"
        " ELSE '{\"text\":\"a' || i || '\"}' END)::jsonb FROM generate_series(1, 200) i))");
    scene_becomes(scene, SCENE_STATS, "0 10");
    are_noted_once(scene, "a", 190);
    session_expect(scene->events->owner, DEAD, "data 10 1");
}

/* now() is the transaction's. */
static void test_what_collides_in_a_group_is_run_alone(void **state)
{
    struct scene *scene = *state;

    start_group(scene);
    send_many(scene, "a", 100, 1, ",\"sql\":\"INSERT INTO event_test.moments DEFAULT VALUES\"");
    scene_becomes(scene, SCENE_STATS, "0 0");
    are_noted_once(scene, "a", 100);
}

/* It is not done with those that are kept. */
static void test_commit_in_vain_settles_nothing(void **state)
{
    struct scene *scene = *state;

    start_group(scene);
    send_many(scene, "a", 200, 10, ",\"sql\":\"SELECT 1/0\",\"otherwise\":422");
    scene_becomes(scene, SCENE_STATS, "0 20");
    are_noted_once(scene, "a", 180);
    session_expect(scene->events->owner, DEAD, "rejected 20 1");
}

static void test_setting_of_a_transaction_reaches_no_other_event(void **state)
{
    struct scene *scene = *state;

    start_group(scene);
    session_exec(scene->events->owner,
                 "ALTER TABLE event_test.notes ADD who text DEFAULT current_setting('event_test.who', true)");
    send_many(scene, "a", 200, 5, ",\"sql\":\"SET LOCAL event_test.who = ''me''\"");
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner, "SELECT count(*) FROM event_test.notes WHERE who = 'me'",
                   "0"); /* set after the note */
}

static void test_late_one_keeps_no_other(void **state)
{
    struct scene *scene = *state;

    start_group(scene);
    send_many(scene, "a", 100, 100, ",\"sleepMs\":2500");
    scene_becomes(scene, "SELECT count(*) FROM event_test.notes WHERE text LIKE 'a%'", "99");
    scene_becomes(scene, "SELECT attempt > 1 FROM cicada.event", "t");
    are_noted_once(scene, "a", 99);
}

static void await_crashes(struct scene *scene, int count)
{
    CLEANUP_FREE char *text = xasprintf("restart %d, after", count);

    scene_becomes_logged(scene, text);
}

static void test_poison_takes_no_neighbour_along(void **state)
{
    struct scene *scene = *state;

    start_group_with(scene, ONE_ATTEMPT);
    send_many(scene, "a", 200, 200, ",\"crash\":1");
    for (int crashes = 1; crashes <= 2; crashes++) { /* the first may have been a neighbour's */
        await_crashes(scene, crashes);
        scene_expire_leases(scene);
    }
    scene_becomes(scene, SCENE_STATS, "0 1");
    are_noted_once(scene, "a", 199);
    session_expect(scene->events->owner, DEAD, "attempts 1 2");
}

/* ---- batches ---- */

static void start_batches(struct scene *scene)
{
    scene_start(scene, "\"handler\":\"event.so:handle_batch\"", "", BATCHES);
}

static void test_batch_is_done(void **state)
{
    struct scene *scene = *state;

    send_many(scene, "a", 25, 1, "");
    start_batches(scene);
    scene_becomes(scene, SCENE_STATS, "0 0");
    are_noted_once(scene, "a", 25);
    scene_becomes_logged(scene, "a batch of 10");
    session_expect(scene->events->owner, "SELECT count(DISTINCT tx) FROM event_test.notes", "3");
    session_expect(scene->events->owner, "SELECT min(depth), max(depth) FROM event_test.notes", "0 0");
}

static void test_failed_events_of_a_batch_are_undone(void **state)
{
    struct scene *scene = *state;

    send_many(scene, "a", 20, 7, ",\"fail\":422");
    send_many(scene, "b", 20, 9, ",\"sql\":\"SELECT 1/0\"");
    send_many(scene, "c", 20, 11, ",\"fail\":500");
    start_batches(scene);
    scene_becomes(scene, SCENE_STATS, "0 5");
    are_noted_once(scene, "a", 18);
    are_noted_once(scene, "b", 18);
    are_noted_once(scene, "c", 19);
    share_transactions(scene);
    session_expect(scene->events->owner, DEAD, "attempts 1 3; data 2 1; rejected 2 1");
    session_expect(
        scene->events->owner,
        "SELECT count(*) FROM cicada.dead_letters('q') WHERE error = '422: event ' || id || ' fails'", "2");
}

static void test_batch_that_fails_is_run_one_by_one(void **state)
{
    struct scene *scene = *state;

    send_many(scene, "a", 10, 5, ",\"whole\":1");
    send_many(scene, "b", 5, 5, ",\"whole\":1,\"fail\":422");
    start_batches(scene);
    scene_becomes(scene, SCENE_STATS, "0 1");
    are_noted_once(scene, "a", 10);
    are_noted_once(scene, "b", 4);
    session_expect(scene->events->owner, DEAD, "rejected 1 1");
}

static void test_those_not_taken_come_again(void **state)
{
    struct scene *scene = *state;

    send_many(scene, "a", 10, 3, ",\"stop\":1");
    send_many(scene, "b", 10, 3, ",\"commit\":1");
    start_batches(scene);
    scene_becomes(scene, SCENE_STATS, "0 0");
    are_noted_once(scene, "a", 10);
    are_noted_once(scene, "b", 10);
}

static void test_order_of_keys_is_kept(void **state)
{
    struct scene *scene = *state;

    session_exec(scene->events->a,
                 "SELECT cicada.enqueue('q', jsonb_build_object('text', (i % 3) || '.' || i),"
                 " jsonb_build_object('key', (i % 3)::text)) FROM generate_series(1, 30) i");
    scene_start(scene, "\"handler\":\"event.so:handle_batch\"", "",
                DELIVERY(",\"batchSize\":10,\"ordered\":true"));
    scene_becomes(scene, SCENE_STATS, "0 0");
    are_noted_once(scene, "", 30);
    session_expect(
        scene->events->owner,
        "SELECT count(*) FROM (SELECT split_part(text, '.', 2)::int AS n, lag(split_part(text, '.', 2)::int)"
        " OVER (PARTITION BY split_part(text, '.', 1) ORDER BY id) AS before FROM event_test.notes) x"
        " WHERE before > n",
        "0");
}

static void test_what_collides_in_a_batch_is_run_alone(void **state)
{
    struct scene *scene = *state;

    send_many(scene, "a", 20, 1, ",\"sql\":\"INSERT INTO event_test.moments DEFAULT VALUES\"");
    start_batches(scene);
    scene_becomes(scene, SCENE_STATS, "0 0");
    are_noted_once(scene, "a", 20);
}

static void test_sql_function_takes_a_batch(void **state)
{
    struct scene *scene = *state;

    session_exec(scene->events->a, "INSERT INTO event_test.notes (text) VALUES ('b2')");
    send_many(scene, "a", 20, 1, "");
    send_many(scene, "b", 5, 1, "");
    scene_start(
        scene,
        "\"sql\":\"INSERT INTO event_test.notes (text, request_id) SELECT e->'data'->>'text', e->>'id'"
        " FROM jsonb_array_elements(:_events) e\",\"result\":\"None\"",
        "", BATCHES);
    scene_becomes(scene, SCENE_STATS, "0 1");
    are_noted_once(scene, "a", 20);
    are_noted_once(scene, "b", 5);
    share_transactions(scene);
    session_expect(scene->events->owner, DEAD, "data 1 1");
}

static void test_sql_function_of_one_event_gets_one(void **state)
{
    struct scene *scene = *state;

    send_many(scene, "a", 30, 1, "");
    scene_start(
        scene,
        "\"sql\":\"INSERT INTO event_test.notes (text, request_id) VALUES (:text, :_event::jsonb->>'id')\","
        "\"result\":\"None\"",
        "", BATCHES);
    scene_becomes(scene, SCENE_STATS, "0 0");
    are_noted_once(scene, "a", 30);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, scene_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_failure_is_undone_alone),
        TEST(test_lost_lease_of_one_costs_no_other),
        TEST(test_commit_of_a_handler_settles_those_before_it),
        TEST(test_error_at_commit_finds_its_event),
        TEST(test_error_at_commit_of_a_handler_finds_its_event),
        TEST(test_what_collides_in_a_group_is_run_alone),
        TEST(test_commit_in_vain_settles_nothing),
        TEST(test_setting_of_a_transaction_reaches_no_other_event),
        TEST(test_late_one_keeps_no_other),
        TEST(test_poison_takes_no_neighbour_along),
        TEST(test_batch_is_done),
        TEST(test_failed_events_of_a_batch_are_undone),
        TEST(test_batch_that_fails_is_run_one_by_one),
        TEST(test_those_not_taken_come_again),
        TEST(test_order_of_keys_is_kept),
        TEST(test_what_collides_in_a_batch_is_run_alone),
        TEST(test_sql_function_takes_a_batch),
        TEST(test_sql_function_of_one_event_gets_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
