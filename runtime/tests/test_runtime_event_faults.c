/* Events through the real runtime and a real PostgreSQL: leases and connections that are lost or not to be had, and other sources than a
 * queue of people's. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_event_scene.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_postgres.h"

#define WORK           "{\"name\":\"work\",\"queue\":{\"name\":\"q\"}}"
#define SLEEPS         "state = 'active' AND query LIKE '%pg_sleep(1.5)%' AND pid <> pg_backend_pid()"
#define SLEEPING(more) "{\"text\":\"a\",\"sql\":\"SELECT pg_sleep(1.5)\"" more
#define AT_WORK        "SELECT count(*) FROM cicada.event WHERE lane = 127"

/* Somebody else has taken the event that is at work. */
static void take_away(struct scene *scene)
{
    session_exec(
        scene->events->owner,
        "DO $$ BEGIN FOR i IN 0 .. 4 LOOP EXECUTE format('UPDATE cicada.event_%s SET epoch = epoch + 1"
        " WHERE lane = 127', i); END LOOP; END $$");
}

static void drop_sessions(struct scene *scene, const char *which)
{
    CLEANUP_FREE char *sql =
        xasprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'"
                  " AND application_name LIKE 'cicada %%' AND %s",
                  scene->events->database, which);

    pgtest_exec(sql);
}

static void lose_lease(struct scene *scene, const char *isolation)
{
    scene_start(scene, SCENE_HANDLER, isolation, WORK);
    scene_send(scene, "{\"text\":\"a\",\"sleepMs\":1500}");
    scene_becomes(scene, AT_WORK, "1");
    take_away(scene);
    scene_becomes_logged(scene, "the lease of event");
    session_expect(scene->events->owner, SCENE_NOTES, "0");
    session_expect(scene->events->owner, "SELECT epoch, attempt, lane FROM cicada.event", "2 1 127");
    scene_expire_leases(scene);
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner, SCENE_NOTES, "1");
}

static void test_lost_lease(void **state)
{
    lose_lease(*state, "");
}

/* There it looks like any other conflict, and is found out when the event shall be run again. */
static void test_lost_lease_in_repeatable_read(void **state)
{
    lose_lease(*state, ",\"isolation\":\"RepeatableRead\"");
}

static void wait_for_sleeping(const struct scene *scene, int count)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT count(*) FROM pg_stat_activity WHERE datname = '%s' AND %s",
                                       scene->events->database, SLEEPS);

    pgtest_wait_int(sql, count);
}

/* One event is in the middle of a statement. */
static void start_sleeping_at(struct scene *scene, const char *url, const char *payload)
{
    scene_start_at(scene, url, SCENE_HANDLER ",\"drainSeconds\":20", "",
                   "{\"name\":\"work\",\"queue\":{\"name\":\"q\"},\"delivery\":{\"maxAttempts\":1}}");
    scene_send(scene, payload);
    wait_for_sleeping(scene, 1);
}

static void start_sleeping(struct scene *scene, const char *payload)
{
    start_sleeping_at(scene, scene->events->guest_url, payload);
}

/* What is at work settles without it. */
static void test_control_connection_is_lost_while_draining(void **state)
{
    struct scene *scene = *state;

    start_sleeping(scene, SLEEPING("}"));
    assert_int_equal(kill(scene->process.pid, SIGTERM), 0);
    scene_becomes_logged(scene, "draining");
    drop_sessions(scene, "state = 'idle'");
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner, SCENE_NOTES, "1");
}

static void test_lost_connection_spends_no_attempt(void **state)
{
    struct scene *scene = *state;

    start_sleeping(scene, SLEEPING("}"));
    drop_sessions(scene, SLEEPS);
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner, SCENE_NOTES, "1");
}

/* It is the database's failure too if the handler has words of its own for it. */
static void test_lost_connection_that_the_handler_answers_for(void **state)
{
    struct scene *scene = *state;

    start_sleeping(scene, SLEEPING(",\"otherwise\":500}"));
    drop_sessions(scene, SLEEPS);
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner, SCENE_NOTES, "1");
}

#define CALLERS 4 /* as many as there are connections */
#define CALLS   4

static void *call_slowly(void *arg)
{
    const struct scene *scene = arg;

    for (int i = 0; i < CALLS; i++) {
        struct http_answer answer =
            http_ask(scene->process.port, "POST", "/", "", "{\"sql\":\"SELECT pg_sleep(1.5)\"}");
        assert_int_equal(answer.status, 200);
        http_answer_release(&answer);
    }
    return NULL;
}

/* Requests have all connections for longer than an event may take: it waits, and no attempt is spent by that. */
static void test_busy_pool_spends_no_attempt(void **state)
{
    struct scene *scene = *state;
    pthread_t callers[CALLERS];

    scene_start(scene, SCENE_HANDLER, "",
                "{\"name\":\"work\",\"queue\":{\"name\":\"q\"},\"delivery\":{\"maxAttempts\":1}}");
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, call_slowly, scene), 0);
    wait_for_sleeping(scene, CALLERS);
    session_exec(scene->events->a,
                 "SELECT cicada.enqueue_many('q', ARRAY(SELECT jsonb_build_object('text', i::text)"
                 " FROM generate_series(1, 10) i))");
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_join(callers[i], NULL), 0);
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner,
                   "SELECT count(text), count(DISTINCT text), count(*) FROM event_test.notes", "10 10 26");
}

/* COMMIT meets conflicts, twice. */
static void test_commit_of_a_retryable_handler(void **state)
{
    struct scene *scene = *state;

    session_exec(
        scene->events->owner,
        "CREATE SEQUENCE event_test.tries;"
        "CREATE FUNCTION event_test.conflict() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN"
        " IF nextval('event_test.tries') < 3 THEN RAISE 'conflict' USING ERRCODE = '40001'; END IF;"
        " RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER conflict AFTER INSERT ON event_test.notes DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION event_test.conflict()");
    scene_start(scene, SCENE_HANDLER, ",\"retryable\":true", WORK);
    scene_send(scene, "{\"text\":\"a\",\"commit\":1}");
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner,
                   "SELECT count(*), max(last_value) FROM event_test.notes, event_test.tries", "1 3");
}

static void test_all_headers_arrive(void **state)
{
    struct scene *scene = *state;

    scene_start(scene, SCENE_HANDLER, "", WORK);
    session_exec(scene->events->a,
                 "SELECT cicada.enqueue('q', '{\"header\":\"x-200\"}', jsonb_build_object('headers',"
                 " (SELECT jsonb_object_agg('x-' || i, 'v' || i) FROM generate_series(1, 200) i)))");
    scene_becomes(scene, "SELECT text FROM event_test.notes", "v200");
}

static void test_ticks_of_a_schedule(void **state)
{
    struct scene *scene = *state;

    session_exec(scene->events->a,
                 "SELECT * FROM cicada.schedule_look('default', 'function', 'clock', '@daily UTC')");
    scene_start(scene, SCENE_HANDLER, "", "{\"name\":\"clock\"}");
    session_exec(scene->events->a, "SELECT cicada.schedule_tick('default', 'function', 'clock', '@daily UTC',"
                                   " ARRAY[timestamptz '2100-01-01 00:00Z'], '2100-01-01 00:00Z', 0)");
    scene_becomes(scene, "SELECT left(request_id, 6) FROM event_test.notes", "clock-");
    session_expect(scene->events->owner, SCENE_STATS, "0 0");
}

/* ---- the connection is lost with the COMMIT of an event ---- */

static const char SETTLE[] =
    "event_settle("; /* goes with COMMIT; in its words only once for each connection */

struct lossy {
    struct pg_proxy *proxy;
    enum pg_proxy_action action;
    bool refuses; /* afterwards: so nobody can be asked what became of it */
};

static bool rule_is_done(void *arg)
{
    return pg_proxy_rule_done(arg);
}

static void lose_commit(struct scene *scene, struct lossy *lossy)
{
    lossy->proxy = pg_proxy_new(pgtest_port());
    CLEANUP_FREE char *url =
        test_database_url(EVENTS_GUEST, pg_proxy_port(lossy->proxy), scene->events->database);

    pg_proxy_rule(lossy->proxy, PG_PROXY_TO_SERVER, lossy->action, SETTLE, strlen(SETTLE), NULL);
    start_sleeping_at(scene, url, SLEEPING("}"));
    pg_proxy_refuse(lossy->proxy, lossy->refuses);
    wait_until(rule_is_done, lossy->proxy, "the event is settled");
    if (lossy->refuses)
        scene_becomes_logged(scene, "is left to its lease: commit_unknown");
    pg_proxy_refuse(lossy->proxy, false);
}

static void end_lossy(struct scene *scene, struct lossy *lossy)
{
    scene_becomes(scene, SCENE_STATS, "0 0");
    session_expect(scene->events->owner, SCENE_NOTES, "2");
    runtime_process_release(&scene->process);
    pg_proxy_free(lossy->proxy);
}

/* It is asked for, and found out: the one attempt is spent by neither. */
static void test_lost_commit_is_found_out(void **state)
{
    static const enum pg_proxy_action actions[] = {PG_PROXY_CUT_ANSWER, PG_PROXY_CUT};
    struct scene *scene = *state;

    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        struct lossy lossy = {.action = actions[i]};
        lose_commit(scene, &lossy);
        scene_send(scene, "{\"text\":\"b\"}");
        end_lossy(scene, &lossy);
        session_exec(scene->events->owner, "TRUNCATE event_test.notes");
    }
}

static void test_unknown_commit_that_came_about(void **state)
{
    struct scene *scene = *state;
    struct lossy lossy = {.action = PG_PROXY_CUT_ANSWER, .refuses = true};

    lose_commit(scene, &lossy);
    scene_send(scene, "{\"text\":\"b\"}");
    end_lossy(scene, &lossy);
}

/* Nobody runs it again before its lease has run out; its one attempt is not spent. */
static void test_unknown_commit_that_did_not(void **state)
{
    struct scene *scene = *state;
    struct lossy lossy = {.action = PG_PROXY_CUT, .refuses = true};

    lose_commit(scene, &lossy);
    scene_send(scene, "{\"text\":\"b\"}");
    scene_becomes(scene, "SELECT string_agg(text, ' ') FROM event_test.notes", "b");
    session_expect(scene->events->owner, "SELECT payload::jsonb ->> 'text', attempt, lane FROM cicada.event",
                   "a 1 127");
    scene_expire_leases(scene);
    end_lossy(scene, &lossy);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lost_lease),
        TEST(test_lost_lease_in_repeatable_read),
        TEST(test_control_connection_is_lost_while_draining),
        TEST(test_lost_connection_spends_no_attempt),
        TEST(test_lost_connection_that_the_handler_answers_for),
        TEST(test_busy_pool_spends_no_attempt),
        TEST(test_commit_of_a_retryable_handler),
        TEST(test_all_headers_arrive),
        TEST(test_ticks_of_a_schedule),
        TEST(test_lost_commit_is_found_out),
        TEST(test_unknown_commit_that_came_about),
        TEST(test_unknown_commit_that_did_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
