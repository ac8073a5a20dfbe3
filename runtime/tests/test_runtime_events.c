/* Events of queues through the real runtime and a real PostgreSQL: what is done once, run again, buried, given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/tests/support_event_scene.h"
#include "runtime/tests/support_postgres.h"

#define E10      "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
#define E50      E10 E10 E10 E10 E10
#define DELIVERY "\"delivery\":{\"maxAttempts\":3,\"backoffSeconds\":1,\"maxBackoffSeconds\":1}"

static void start_process(struct scene *scene, const char *what, const char *more)
{
    scene_start(scene, what, more, "{\"name\":\"work\",\"queue\":{\"name\":\"q\"}," DELIVERY "}");
}

static int setup(void **state)
{
    (void)scene_setup(state);
    start_process(*state, SCENE_HANDLER, "");
    return 0;
}

static int setup_serializable(void **state)
{
    (void)scene_setup(state);
    start_process(*state, SCENE_HANDLER, ",\"isolation\":\"Serializable\"");
    return 0;
}

static int setup_sql(void **state)
{
    (void)scene_setup(state);
    start_process(*state,
                  "\"sql\":\"INSERT INTO event_test.notes (text, request_id) VALUES (:text, "
                  "'sql')\",\"result\":\"None\"",
                  "");
    return 0;
}

/* ---- what becomes of an event ---- */

static void test_is_done_once(void **state)
{
    struct scene *scene = *state;

    scene_send(scene, "{\"text\":\"a\"}");
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner, "SELECT text, request_id, depth FROM event_test.notes", "a q-1-1 0");
}

static void test_answer_of_refusal_buries(void **state)
{
    struct scene *scene = *state;

    scene_send(scene, "{\"text\":\"a\",\"status\":422}");
    scene_becomes(scene, SCENE_STATS, "0 1");
    session_expect(scene->events->owner, SCENE_NOTES, "0");
    session_expect(
        scene->events->b,
        "SELECT reason, attempt, error LIKE '422: %as the event asks%' FROM cicada.dead_letters('q')",
        "rejected 1 t");
}

/* Of two bytes each: wherever it is cut, every other place is within one. */
static void test_long_answer_is_cut_between_characters(void **state)
{
    struct scene *scene = *state;

    scene_send(scene, "{\"text\":\"a\",\"status\":422,\"detail\":\"" E50 E50 E50 E50 E50 "\"}");
    scene_send(scene, "{\"text\":\"b\",\"status\":422,\"detail\":\"-" E50 E50 E50 E50 E50 "\"}");
    scene_becomes(scene, SCENE_STATS, "0 2");
    session_expect(scene->events->owner, "SELECT reason, attempt FROM cicada.dead_letters('q')",
                   "rejected 1; rejected 1");
}

static void test_error_of_data_buries(void **state)
{
    struct scene *scene = *state;

    scene_send(scene, "{\"text\":\"a\",\"sql\":\"SELECT 1/0\"}");
    scene_becomes(scene, SCENE_STATS, "0 1");
    session_expect(scene->events->owner, SCENE_NOTES, "0");
    session_expect(scene->events->owner, "SELECT reason, error FROM cicada.dead_letters('q')",
                   "data data_exception 22012: division by zero");
}

static void test_failure_is_run_again_until_its_attempts_are_spent(void **state)
{
    struct scene *scene = *state;

    scene_send(scene, "{\"text\":\"a\",\"status\":500}");
    scene_becomes(scene, SCENE_STATS, "0 1");
    session_expect(scene->events->owner, SCENE_NOTES, "0");
    session_expect(scene->events->owner, "SELECT reason, attempt FROM cicada.dead_letters('q')",
                   "attempts 3");
}

static void test_serialization_failure_spends_no_attempt(void **state)
{
    struct scene *scene = *state;

    scene_send(scene, "{\"text\":\"a\",\"sql\":\"DO $$ BEGIN IF nextval('event_test.notes_id_seq') < 8 THEN"
                      " RAISE serialization_failure; END IF; END $$\"}");
    scene_becomes(scene, SCENE_STATS, "0 0"); /* after more runs than there are attempts */
    session_expect(scene->events->owner, "SELECT text, request_id FROM event_test.notes", "a q-1-1");
}

static void test_late_handler_is_rolled_back_and_run_again(void **state)
{
    struct scene *scene = *state;

    scene_send(scene, "{\"text\":\"a\",\"sleepMs\":2500}");
    scene_becomes(scene, "SELECT max(attempt) FROM cicada.event", "2");
    session_expect(scene->events->owner, SCENE_NOTES, "0");
}

static void test_commit_of_the_handler_settles(void **state)
{
    struct scene *scene = *state;

    scene_send(scene, "{\"text\":\"a\",\"commit\":1,\"status\":500}");
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner, SCENE_NOTES, "1");
}

static void test_events_of_events_get_deeper(void **state)
{
    struct scene *scene = *state;

    scene_send(scene, "{\"text\":\"a\",\"sql\":\"SELECT cicada.enqueue('q', '{\\\"text\\\":\\\"b\\\"}')\"}");
    scene_becomes(scene, SCENE_NOTES, "2");
    session_expect(scene->events->owner, "SELECT text, depth FROM event_test.notes ORDER BY text",
                   "a 0; b 1");
}

static void test_sql_function_takes_members_of_the_payload(void **state)
{
    struct scene *scene = *state;

    scene_send(scene, "{\"text\":\"a\"}");
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner, "SELECT text FROM event_test.notes", "a");
    scene_send(scene, "{\"other\":\"a\"}");
    scene_becomes(scene, SCENE_STATS, "0 1");
    session_expect(scene->events->owner, "SELECT reason FROM cicada.dead_letters('q')", "rejected");
}

/* ---- many ---- */

static void are_done_once_each(struct scene *scene, int count)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT count(*) FROM cicada.enqueue_many('q', ARRAY(SELECT"
                                       " jsonb_build_object('text', i::text) FROM generate_series(1, %d) i))",
                                       count);
    CLEANUP_FREE char *all = xasprintf("%d %d", count, count);
    session_exec(scene->events->a, sql);
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner, "SELECT count(*), count(DISTINCT text) FROM event_test.notes", all);
}

static void test_many_are_done_once_each(void **state)
{
    are_done_once_each(*state, 1000);
}

/* Their transactions conflict with each other. */
static void test_serializable_ones_are_done_once_each(void **state)
{
    are_done_once_each(*state, 200);
}

static void test_expired_one_is_not_starved_by_another_queue(void **state)
{
    struct scene *scene = *state;

    session_exec(scene->events->a,
                 "SELECT queue_id FROM cicada.queue_consume('q', 'default', 'function', 'work', false)");
    scene_send(scene, "{\"text\":\"alone\"}");
    session_exec(scene->events->a, "SELECT id FROM cicada.event_claim(1, 1, '1 minute', true)");
    scene_expire_leases(scene);
    session_exec(scene->events->a,
                 "SELECT count(*) FROM cicada.enqueue_many('other', ARRAY(SELECT"
                 " jsonb_build_object('text', i::text, 'sleepMs', 50) FROM generate_series(1, 2000) i))");
    scene_start(
        scene, SCENE_HANDLER, "",
        "{\"name\":\"work\",\"queue\":{\"name\":\"q\"}},{\"name\":\"more\",\"queue\":{\"name\":\"other\"}}");
    scene_becomes(scene, "SELECT count(*) FROM event_test.notes WHERE text = 'alone'",
                  "1"); /* of 25 s of work for four */
    session_expect(scene->events->owner, "SELECT count(*) > 100 FROM cicada.event", "t");
}

/* ---- ends ---- */

static void test_end_gives_back_what_was_not_begun(void **state)
{
    struct scene *scene = *state;

    for (int i = 0; i < 8; i++) {
        CLEANUP_FREE char *payload = xasprintf("{\"text\":\"%d\",\"sleepMs\":700}", i);
        scene_send(scene, payload);
    }
    scene_becomes(scene, "SELECT count(*) >= 4 FROM cicada.event WHERE lane = 127", "t");
    assert_int_equal(runtime_process_stop(&scene->process), 0);
    session_expect(scene->events->owner, "SELECT count(*) FROM cicada.event WHERE lane = 127", "0");
    session_expect(scene->events->owner, "SELECT sum(attempt) FROM cicada.event", "0");
    session_expect(scene->events->owner,
                   "SELECT (SELECT count(*) FROM cicada.event) + (SELECT count(*) FROM event_test.notes)",
                   "8");
}

/* The parent says so in its log, once for each. */
static void await_crashes(struct scene *scene, int count)
{
    CLEANUP_FREE char *text = xasprintf("restart %d, after", count);

    scene_becomes_logged(scene, text);
}

static void test_poison_goes_alone_and_is_buried_once(void **state)
{
    struct scene *scene = *state;

    /* Its leases run out at once, as if 30 s had passed; its process is started anew by its parent. */
    scene_send(scene, "{\"text\":\"a\",\"crash\":1}");
    for (int crashes = 1; crashes <= 4; crashes++) { /* the second run spends no attempt */
        CLEANUP_FREE char *sql = xasprintf(
            "SELECT count(*) FROM cicada.event WHERE attempt = greatest(%d - 1, 1) AND lane = 127", crashes);
        scene_becomes(scene, sql, "1");
        await_crashes(scene, crashes);
        scene_expire_leases(scene);
    }
    scene_becomes(scene, SCENE_STATS, "0 1");
    session_expect(scene->events->owner, "SELECT reason, attempt FROM cicada.dead_letters('q')",
                   "attempts 4");
}

static void test_lost_control_connection_is_made_again(void **state)
{
    struct scene *scene = *state;

    scene_send(scene, "{\"text\":\"a\"}");
    scene_becomes(scene, SCENE_STATS, "0 0");
    CLEANUP_FREE char *kill = xasprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                        " WHERE datname = '%s' AND application_name LIKE 'cicada %%'",
                                        scene->events->database);
    pgtest_exec(kill);
    scene_send(scene, "{\"text\":\"b\"}");
    scene_becomes(scene, SCENE_NOTES, "2");
}

static void test_queue_of_another_is_left_alone(void **state)
{
    struct scene *scene = *state;

    session_exec(scene->events->a, "SELECT cicada.queue_consume('q', 'default', 'other', 'work', false)");
    start_process(scene, SCENE_HANDLER, "");
    scene_send(scene, "{\"text\":\"a\"}");
    scene_becomes_logged(scene, "queue q is consumed by default/other, trigger work");
    http_expect(scene->process.admin_port, "GET", "/statz", "", 200,
                "\"eventsProblem\":\"queue q is consumed by default/other, trigger work\"");
    session_expect(scene->events->owner, SCENE_STATS, "1 0");
    session_exec(scene->events->a, "SELECT cicada.queue_release('q', 'default', 'other', 'work')");
    scene_becomes(scene, SCENE_NOTES, "1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_is_done_once, setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_answer_of_refusal_buries, setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_error_of_data_buries, setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_failure_is_run_again_until_its_attempts_are_spent, setup,
                                        scene_teardown),
        cmocka_unit_test_setup_teardown(test_serialization_failure_spends_no_attempt, setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_late_handler_is_rolled_back_and_run_again, setup,
                                        scene_teardown),
        cmocka_unit_test_setup_teardown(test_commit_of_the_handler_settles, setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_events_of_events_get_deeper, setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_sql_function_takes_members_of_the_payload, setup_sql,
                                        scene_teardown),
        cmocka_unit_test_setup_teardown(test_long_answer_is_cut_between_characters, setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_many_are_done_once_each, setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_serializable_ones_are_done_once_each, setup_serializable,
                                        scene_teardown),
        cmocka_unit_test_setup_teardown(test_expired_one_is_not_starved_by_another_queue, scene_setup,
                                        scene_teardown),
        cmocka_unit_test_setup_teardown(test_end_gives_back_what_was_not_begun, setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_poison_goes_alone_and_is_buried_once, setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_lost_control_connection_is_made_again, setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_queue_of_another_is_left_alone, scene_setup, scene_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
