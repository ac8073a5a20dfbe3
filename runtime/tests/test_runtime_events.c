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
#include "runtime/tests/support_events.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_runtime.h"

#define E10      "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
#define E50      E10 E10 E10 E10 E10
#define HANDLER  "\"handler\":\"event.so:handle_event\""
#define DELIVERY "\"delivery\":{\"maxAttempts\":3,\"backoffSeconds\":1,\"maxBackoffSeconds\":1}"

struct scene {
    struct event_fixture *events;
    struct runtime_process process;
};

/* more: members of `database`, each with a comma before it. */
static void start_with(struct scene *scene, const char *what, const char *more, const char *triggers)
{
    CLEANUP_FREE char *spec = xasprintf("{%s,\"timeoutSeconds\":2,\"database\":{\"poolSize\":4%s},"
                                        "\"triggers\":[%s]}",
                                        what, more, triggers);
    const struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = spec, .database_url = scene->events->guest_url};

    runtime_process_start(&scene->process, &settings, /* serving= */ true);
}

static void start_process(struct scene *scene, const char *what, const char *more)
{
    start_with(scene, what, more, "{\"name\":\"work\",\"queue\":{\"name\":\"q\"}," DELIVERY "}");
}

static int setup_database(void **state)
{
    struct scene *scene = xcalloc(1, sizeof(*scene));
    void *events;

    assert_int_equal(events_setup(&events), 0);
    scene->events = events;
    session_exec(scene->events->owner,
                 "CREATE SCHEMA event_test; GRANT USAGE ON SCHEMA event_test TO " EVENTS_GUEST ";"
                 "CREATE TABLE event_test.notes (id bigserial, text text UNIQUE, request_id text,"
                 " depth text DEFAULT current_setting('cicada.depth', true), at timestamptz DEFAULT "
                 "clock_timestamp());"
                 "GRANT ALL ON event_test.notes TO " EVENTS_GUEST ";"
                 "GRANT ALL ON SEQUENCE event_test.notes_id_seq TO " EVENTS_GUEST);
    *state = scene;
    return 0;
}

static int setup(void **state)
{
    (void)setup_database(state);
    start_process(*state, HANDLER, "");
    return 0;
}

static int setup_serializable(void **state)
{
    (void)setup_database(state);
    start_process(*state, HANDLER, ",\"isolation\":\"Serializable\"");
    return 0;
}

static int setup_sql(void **state)
{
    (void)setup_database(state);
    start_process(*state,
                  "\"sql\":\"INSERT INTO event_test.notes (text, request_id) VALUES (:text, "
                  "'sql')\",\"result\":\"None\"",
                  "");
    return 0;
}

static int teardown(void **state)
{
    struct scene *scene = *state;
    void *events = scene->events;

    runtime_process_release(&scene->process);
    assert_int_equal(events_teardown(&events), 0);
    free(scene);
    return 0;
}

static void send(struct scene *scene, const char *payload)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT cicada.enqueue('q', $payload$%s$payload$)", payload);

    session_exec(scene->events->a, sql);
}

struct wish {
    PGconn *session;
    const char *sql, *answer;
};

static bool is_fulfilled(void *arg)
{
    const struct wish *wish = arg;
    CLEANUP_FREE char *answer = session_answer(wish->session, wish->sql);

    return strcmp(answer, wish->answer) == 0;
}

static void becomes(struct scene *scene, const char *sql, const char *answer)
{
    struct wish wish = {scene->events->owner, sql, answer};

    wait_until(is_fulfilled, &wish, sql);
}

static bool is_logged(void *arg)
{
    const struct wish *wish = arg;
    CLEANUP_FREE char *log = runtime_process_read(wish->sql);

    return strstr(log, wish->answer) != NULL;
}

static void becomes_logged(struct scene *scene, const char *text)
{
    struct wish wish = {NULL, scene->process.log_path, text};

    wait_until(is_logged, &wish, text);
}

#define NOTES "SELECT count(*) FROM event_test.notes"
#define STATS "SELECT (SELECT count(*) FROM cicada.event), (SELECT count(*) FROM cicada.dead_letter)"

/* ---- what becomes of an event ---- */

static void test_is_done_once(void **state)
{
    struct scene *scene = *state;

    send(scene, "{\"text\":\"a\"}");
    becomes(scene, STATS, "0 0");
    session_expect(scene->events->owner, "SELECT text, request_id, depth FROM event_test.notes", "a q-1-1 0");
}

static void test_answer_of_refusal_buries(void **state)
{
    struct scene *scene = *state;

    send(scene, "{\"text\":\"a\",\"status\":422}");
    becomes(scene, STATS, "0 1");
    session_expect(scene->events->owner, NOTES, "0");
    session_expect(
        scene->events->b,
        "SELECT reason, attempt, error LIKE '422: %as the event asks%' FROM cicada.dead_letters('q')",
        "rejected 1 t");
}

/* Of two bytes each: wherever it is cut, every other place is within one. */
static void test_long_answer_is_cut_between_characters(void **state)
{
    struct scene *scene = *state;

    send(scene, "{\"text\":\"a\",\"status\":422,\"detail\":\"" E50 E50 E50 E50 E50 "\"}");
    send(scene, "{\"text\":\"b\",\"status\":422,\"detail\":\"-" E50 E50 E50 E50 E50 "\"}");
    becomes(scene, STATS, "0 2");
    session_expect(scene->events->owner, "SELECT reason, attempt FROM cicada.dead_letters('q')",
                   "rejected 1; rejected 1");
}

static void test_error_of_data_buries(void **state)
{
    struct scene *scene = *state;

    send(scene, "{\"text\":\"a\",\"sql\":\"SELECT 1/0\"}");
    becomes(scene, STATS, "0 1");
    session_expect(scene->events->owner, NOTES, "0");
    session_expect(scene->events->owner, "SELECT reason, error FROM cicada.dead_letters('q')",
                   "data data_exception 22012: division by zero");
}

static void test_failure_is_run_again_until_its_attempts_are_spent(void **state)
{
    struct scene *scene = *state;

    send(scene, "{\"text\":\"a\",\"status\":500}");
    becomes(scene, STATS, "0 1");
    session_expect(scene->events->owner, NOTES, "0");
    session_expect(scene->events->owner, "SELECT reason, attempt FROM cicada.dead_letters('q')",
                   "attempts 3");
}

static void test_serialization_failure_spends_no_attempt(void **state)
{
    struct scene *scene = *state;

    send(scene, "{\"text\":\"a\",\"sql\":\"DO $$ BEGIN IF nextval('event_test.notes_id_seq') < 8 THEN"
                " RAISE serialization_failure; END IF; END $$\"}");
    becomes(scene, STATS, "0 0"); /* after more runs than there are attempts */
    session_expect(scene->events->owner, "SELECT text, request_id FROM event_test.notes", "a q-1-1");
}

static void test_late_handler_is_rolled_back_and_run_again(void **state)
{
    struct scene *scene = *state;

    send(scene, "{\"text\":\"a\",\"sleepMs\":2500}");
    becomes(scene, "SELECT max(attempt) FROM cicada.event", "2");
    session_expect(scene->events->owner, NOTES, "0");
}

static void test_commit_of_the_handler_settles(void **state)
{
    struct scene *scene = *state;

    send(scene, "{\"text\":\"a\",\"commit\":1,\"status\":500}");
    becomes(scene, STATS, "0 0");
    session_expect(scene->events->owner, NOTES, "1");
}

static void test_events_of_events_get_deeper(void **state)
{
    struct scene *scene = *state;

    send(scene, "{\"text\":\"a\",\"sql\":\"SELECT cicada.enqueue('q', '{\\\"text\\\":\\\"b\\\"}')\"}");
    becomes(scene, NOTES, "2");
    session_expect(scene->events->owner, "SELECT text, depth FROM event_test.notes ORDER BY text",
                   "a 0; b 1");
}

static void test_sql_function_takes_members_of_the_payload(void **state)
{
    struct scene *scene = *state;

    send(scene, "{\"text\":\"a\"}");
    becomes(scene, STATS, "0 0");
    session_expect(scene->events->owner, "SELECT text FROM event_test.notes", "a");
    send(scene, "{\"other\":\"a\"}");
    becomes(scene, STATS, "0 1");
    session_expect(scene->events->owner, "SELECT reason FROM cicada.dead_letters('q')", "rejected");
}

/* As if 30 s had passed. */
static void expire_leases(struct scene *scene)
{
    session_exec(scene->events->owner,
                 "DO $$ BEGIN FOR i IN 0 .. 4 LOOP EXECUTE format('UPDATE cicada.event_%s SET due_at = now()"
                 " WHERE lane = 127', i); END LOOP; END $$");
}

/* ---- many ---- */

/* Sanitizers and conflicts take their time. */
static void are_done_once_each(struct scene *scene, int count)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT count(*) FROM cicada.enqueue_many('q', ARRAY(SELECT"
                                       " jsonb_build_object('text', i::text) FROM generate_series(1, %d) i))",
                                       count);
    CLEANUP_FREE char *all = xasprintf("%d %d", count, count);
    struct wish wish = {scene->events->owner, STATS, "0 0"};

    session_exec(scene->events->a, sql);
    for (int i = 0; i < 600 && !is_fulfilled(&wish); i++)
        pgtest_sleep_ms(100);
    session_expect(scene->events->owner, STATS, "0 0");
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
    send(scene, "{\"text\":\"alone\"}");
    session_exec(scene->events->a, "SELECT id FROM cicada.event_claim(1, 1, '1 minute', true)");
    expire_leases(scene);
    session_exec(scene->events->a,
                 "SELECT count(*) FROM cicada.enqueue_many('other', ARRAY(SELECT"
                 " jsonb_build_object('text', i::text, 'sleepMs', 50) FROM generate_series(1, 2000) i))");
    start_with(
        scene, HANDLER, "",
        "{\"name\":\"work\",\"queue\":{\"name\":\"q\"}},{\"name\":\"more\",\"queue\":{\"name\":\"other\"}}");
    becomes(scene, "SELECT count(*) FROM event_test.notes WHERE text = 'alone'",
            "1"); /* of 25 s of work for four */
    session_expect(scene->events->owner, "SELECT count(*) > 100 FROM cicada.event", "t");
}

/* ---- ends ---- */

static void test_end_gives_back_what_was_not_begun(void **state)
{
    struct scene *scene = *state;

    for (int i = 0; i < 8; i++) {
        CLEANUP_FREE char *payload = xasprintf("{\"text\":\"%d\",\"sleepMs\":700}", i);
        send(scene, payload);
    }
    becomes(scene, "SELECT count(*) >= 4 FROM cicada.event WHERE lane = 127", "t");
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

    becomes_logged(scene, text);
}

static void test_poison_goes_alone_and_is_buried_once(void **state)
{
    struct scene *scene = *state;

    /* Its leases run out at once, as if 30 s had passed; its process is started anew by its parent. */
    send(scene, "{\"text\":\"a\",\"crash\":1}");
    for (int attempt = 1; attempt <= 3; attempt++) {
        CLEANUP_FREE char *sql =
            xasprintf("SELECT count(*) FROM cicada.event WHERE attempt = %d AND lane = 127", attempt);
        becomes(scene, sql, "1");
        await_crashes(scene, attempt);
        expire_leases(scene);
    }
    becomes(scene, STATS, "0 1");
    session_expect(scene->events->owner, "SELECT reason, attempt FROM cicada.dead_letters('q')",
                   "attempts 4");
}

static void test_lost_control_connection_is_made_again(void **state)
{
    struct scene *scene = *state;

    send(scene, "{\"text\":\"a\"}");
    becomes(scene, STATS, "0 0");
    CLEANUP_FREE char *kill = xasprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                        " WHERE datname = '%s' AND application_name LIKE 'cicada %%'",
                                        scene->events->database);
    pgtest_exec(kill);
    send(scene, "{\"text\":\"b\"}");
    becomes(scene, NOTES, "2");
}

static void test_queue_of_another_is_left_alone(void **state)
{
    struct scene *scene = *state;

    session_exec(scene->events->a, "SELECT cicada.queue_consume('q', 'default', 'other', 'work', false)");
    start_process(scene, HANDLER, "");
    send(scene, "{\"text\":\"a\"}");
    becomes_logged(scene, "queue q is consumed by default/other, trigger work");
    http_expect(scene->process.admin_port, "GET", "/statz", "", 200,
                "\"eventsProblem\":\"queue q is consumed by default/other, trigger work\"");
    session_expect(scene->events->owner, STATS, "1 0");
    session_exec(scene->events->a, "SELECT cicada.queue_release('q', 'default', 'other', 'work')");
    becomes(scene, NOTES, "1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_is_done_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answer_of_refusal_buries, setup, teardown),
        cmocka_unit_test_setup_teardown(test_error_of_data_buries, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failure_is_run_again_until_its_attempts_are_spent, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_serialization_failure_spends_no_attempt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late_handler_is_rolled_back_and_run_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commit_of_the_handler_settles, setup, teardown),
        cmocka_unit_test_setup_teardown(test_events_of_events_get_deeper, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sql_function_takes_members_of_the_payload, setup_sql, teardown),
        cmocka_unit_test_setup_teardown(test_long_answer_is_cut_between_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_are_done_once_each, setup, teardown),
        cmocka_unit_test_setup_teardown(test_serializable_ones_are_done_once_each, setup_serializable,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_expired_one_is_not_starved_by_another_queue, setup_database,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_end_gives_back_what_was_not_begun, setup, teardown),
        cmocka_unit_test_setup_teardown(test_poison_goes_alone_and_is_buried_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_control_connection_is_made_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queue_of_another_is_left_alone, setup_database, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
