/* test_local_events.c - triggers without a cluster: queues, table changes and schedules of functions that sleep at zero processes. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "operator/tests/support_local.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_events.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_test.h"

#define DATABASE    "cicada_test_local_events"
#define ROLE        "cicada_test_local_events"
#define RUNTIME     "cicada-runtime"
#define AWAIT_MS    30000
#define ROUNDS      2
#define ASLEEP_MS   1200 /* by then somebody listens for the next event; before, it would take up to a second */
#define REST_MS     1500
#define REST_CPU    200 /* ms: far above what it takes, far below what a loop would */
#define QUEUE(name) "  triggers: [{name: q, queue: {name: " name "}}]\n"
#define NONE        "  result: None\n"
#define NOTE_SQL    "INSERT INTO public.note (what) VALUES (:what)"
#define DONE_SQL    "SELECT count(*) FROM public.note"
#define ORDER_SQL                                                                                            \
    "INSERT INTO public.note (what) VALUES ((:_event)->>'type' || ' ' || ((:_event)->>'subject'))"

static const char tables[] =
    "CREATE TABLE public.note (what text, at timestamptz NOT NULL DEFAULT clock_timestamp());"
    "CREATE TABLE public.orders (id bigint PRIMARY KEY, status text NOT NULL)";

struct scene {
    struct local local;
    char *url, *argument;
    PGconn *session, *other;
};

static int setup(void **state)
{
    struct scene *scene = xcalloc(1, sizeof *scene);
    test_database_drop(DATABASE);
    test_role_drop(ROLE);
    test_role_create(ROLE);
    test_database_create(DATABASE, ROLE);
    scene->url = test_database_url(ROLE, 0, DATABASE);
    scene->argument = xasprintf("--database-url=%s", scene->url);
    scene->session = PQconnectdb(scene->url);
    scene->other = PQconnectdb(scene->url);
    session_exec(scene->session, tables);
    local_init(&scene->local);
    scene->local.no_database = true;
    *state = scene;
    return 0;
}

static int teardown(void **state)
{
    struct scene *scene = *state;
    local_release(&scene->local);
    PQfinish(scene->session);
    PQfinish(scene->other);
    test_database_drop(DATABASE);
    test_role_drop(ROLE);
    free(scene->url);
    free(scene->argument);
    free(scene);
    return 0;
}

/* manifests/<name>.yaml: an SQL function without http. more: further lines of spec, each indented by two. */
static void write_function(const struct scene *scene, const char *name, const char *sql, const char *more)
{
    CLEANUP_FREE char *file = xasprintf("manifests/%s.yaml", name);
    CLEANUP_FREE char *manifest =
        xasprintf("apiVersion: cicada.dev/v1alpha1\nkind: Function\nmetadata: {name: %s}\nspec:\n"
                  "  sql: \"%s\"\n  database: {secretRef: {name: db}}\n%s",
                  name, sql, more);
    local_replace(&scene->local, file, manifest);
}

static void start(struct scene *scene)
{
    const char *const args[] = {scene->argument, NULL};
    local_start(&scene->local, args);
}

static void stop(struct scene *scene)
{
    assert_int_equal(local_stop(&scene->local, SIGTERM), 0);
}

/* Until the database says that. An object that is not there yet is no answer. */
static void await_value(const struct scene *scene, const char *sql, const char *value)
{
    int64_t until_ms = clock_monotonic_ms() + AWAIT_MS;
    CLEANUP_FREE char *found = NULL;
    do {
        free(found);
        found = session_answer(scene->session, sql);
        if (strcmp(found, value) == 0) {
            return;
        }
        poll(NULL, 0, 2);
    } while (clock_monotonic_ms() < until_ms);
    CLEANUP_FREE char *what = xasprintf("%s: <%s>, expected <%s>", sql, found, value);
    local_fail(&scene->local, what);
}

/* A queue is there once its consumer is known. */
static void await_queue(const struct scene *scene, const char *queue)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT count(*) FROM cicada.queue WHERE name = '%s'", queue);
    await_value(scene, "SELECT count(*) FROM pg_class WHERE oid = to_regclass('cicada.queue')", "1");
    await_value(scene, sql, "1");
}

/* From the producer's commit to the commit of the effect, by the database's clock and our look. */
static void test_enqueue_wakes_a_sleeping_function(void **state)
{
    struct scene *scene = *state;
    double slowest_ms = 0, sum_ms = 0;
    write_function(scene, "work", NOTE_SQL, NONE "  scaling: {idleSeconds: 1}\n" QUEUE("jobs"));
    start(scene);
    await_queue(scene, "jobs");
    for (int round = 1; round <= ROUNDS; round++) {
        CLEANUP_FREE char *count = xasprintf("%d", round);
        local_await_children(&scene->local, RUNTIME, 0);
        poll(NULL, 0, ASLEEP_MS);
        session_exec(scene->session, "SELECT cicada.enqueue('jobs', '{\"what\": \"job\"}')");
        int64_t committed_us = clock_monotonic_us();
        await_value(scene, DONE_SQL, count);
        double took_ms = (double)(clock_monotonic_us() - committed_us) / 1e3;
        slowest_ms = took_ms > slowest_ms ? took_ms : slowest_ms;
        sum_ms += took_ms;
    }
    print_message("commit -> effect seen, function asleep: mean %.1f ms, slowest %.1f ms of %d\n",
                  sum_ms / ROUNDS, slowest_ms, ROUNDS);
    stop(scene);
}

static int64_t cpu_ms(const struct local *local)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/stat", (int)local->pid), *text = runtime_process_read(path);
    const char *at = strrchr(text, ')'); /* field 2: its name */
    for (int field = 2; at && field < 14; field++) {
        at = strchr(at + 1, ' ');
    }
    char *end = NULL;
    if (!at) {
        fail_msg("%s: %s", path, text);
        return 0;
    }
    unsigned long user = strtoul(at, &end, 10), system = strtoul(end, NULL, 10);
    return (int64_t)((user + system) * 1000) / sysconf(_SC_CLK_TCK);
}

/* No process, one connection, and next to no CPU time. */
static void test_a_sleeping_function_costs_nothing(void **state)
{
    struct scene *scene = *state;
    for (int i = 0; i < 10; i++) {
        CLEANUP_FREE char *name = xasprintf("work%d", i), *more = xasprintf(NONE QUEUE("jobs%d"), i);
        write_function(scene, name, NOTE_SQL, more);
    }
    start(scene);
    await_queue(scene, "jobs9");
    int64_t before_ms = cpu_ms(&scene->local);
    poll(NULL, 0, REST_MS);
    int64_t spent_ms = cpu_ms(&scene->local) - before_ms;
    print_message("ten sleeping functions: %" PRId64 " ms CPU in %d ms\n", spent_ms, REST_MS);
    assert_true(spent_ms < REST_CPU);
    assert_int_equal(local_child_count(&scene->local, RUNTIME), 0);
    session_expect(scene->session,
                   "SELECT count(*) FROM pg_stat_activity WHERE datname = '" DATABASE
                   "' AND application_name <> ''",
                   "1");
    stop(scene);
}

#define TRIGGERS "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.orders'::regclass"

/* It goes with the Function, and comes back with it; at our end it stays, and what happens meanwhile is not lost. */
static void test_table_trigger(void **state)
{
    struct scene *scene = *state;
    session_exec(scene->session,
                 "INSERT INTO public.orders SELECT i, 'pending' FROM generate_series(1, 9) i");
    write_function(scene, "ship", ORDER_SQL,
                   NONE "  triggers: [{name: paid, table: {name: public.orders, operations: [UPDATE], "
                        "columns: [status], when: \"NEW.status = 'paid'\"}}]\n");
    write_function(scene, "other", "SELECT 1", NONE); /* a folder without manifests would be a mistake */
    start(scene);
    await_value(scene, TRIGGERS, "1");
    session_exec(scene->session, "UPDATE public.orders SET status = 'paid' WHERE id IN (3, 4)");
    session_exec(scene->session, "UPDATE public.orders SET status = 'failed' WHERE id = 5");
    await_value(scene, "SELECT string_agg(what, ', ' ORDER BY what) FROM public.note",
                "cicada.dev.row.update 3, cicada.dev.row.update 4");
    stop(scene);
    session_expect(scene->session, TRIGGERS, "1");
    session_exec(scene->session, "UPDATE public.orders SET status = 'paid' WHERE id = 6");
    start(scene);
    await_value(scene, DONE_SQL, "3");
    CLEANUP_FREE char *manifest = local_path(&scene->local, "manifests/ship.yaml"),
                      *away = local_path(&scene->local, "tmp/ship.yaml");
    assert_int_equal(rename(manifest, away), 0);
    await_value(scene, TRIGGERS, "0");
    session_exec(scene->session, "UPDATE public.orders SET status = 'paid' WHERE id = 7");
    assert_int_equal(rename(away, manifest), 0);
    await_value(scene, TRIGGERS, "1");
    session_exec(scene->session, "UPDATE public.orders SET status = 'paid' WHERE id = 8");
    await_value(scene, "SELECT max(what) FROM public.note", "cicada.dev.row.update 8");
    session_expect(scene->session, DONE_SQL, "4");
    stop(scene);
}

/* The table is somebody else's: said once, with what is to be done, and good as soon as that is done. */
static void test_a_table_of_somebody_else(void **state)
{
    struct scene *scene = *state;
    CLEANUP_FREE char *super_url = test_database_url(NULL, 0, DATABASE);
    test_database_exec(super_url, "ALTER TABLE public.orders OWNER TO CURRENT_USER");
    write_function(scene, "ship", ORDER_SQL,
                   NONE "  triggers: [{name: paid, table: {name: public.orders, operations: [INSERT]}}]\n");
    start(scene);
    local_await_log(&scene->local, "default/ship | NotTableOwner: ");
    test_database_exec(super_url, "ALTER TABLE public.orders OWNER TO " ROLE);
    local_await_log(&scene->local, "default/ship | its triggers work now");
    assert_int_equal(local_log_count(&scene->local, "NotTableOwner"), 1);
    session_expect(scene->session, TRIGGERS, "1");
    stop(scene);
}

/* A day of ticks was missed: one event makes up for them. */
static void test_schedule(void **state)
{
    struct scene *scene = *state;
    write_function(scene, "nightly", NOTE_SQL,
                   NONE "  parameters: [{name: what, default: tick}]\n"
                        "  triggers: [{name: hourly, schedule: {cron: 0 * * * *, missed: RunOnce}}]\n");
    start(scene);
    await_value(scene, "SELECT count(*) FROM pg_class WHERE oid = to_regclass('cicada.schedule')", "1");
    await_value(scene, "SELECT count(*) FROM cicada.schedule", "1");
    stop(scene);
    session_exec(scene->session, "UPDATE cicada.schedule SET last_tick = now() - interval '1 day 2 hours'");
    start(scene);
    await_value(scene, "SELECT string_agg(what, ', ') FROM public.note", "tick");
    await_value(scene, "SELECT (last_tick > now() - interval '2 hours')::text FROM cicada.schedule", "true");
    session_expect(scene->session, DONE_SQL, "1");
    stop(scene);
}

/* Killed in the middle of it: what it wrote is gone, and the event runs again, alone, once its lease is over. */
static void test_a_killed_process_loses_nothing(void **state)
{
    struct scene *scene = *state;
    write_function(scene, "work", NOTE_SQL "; SELECT pg_advisory_xact_lock(7)", NONE QUEUE("jobs"));
    start(scene);
    await_queue(scene, "jobs");
    session_exec(scene->other, "SELECT pg_advisory_lock(7)"); /* so that the function stays at work */
    session_exec(scene->session, "SELECT cicada.enqueue('jobs', '{\"what\": \"job\"}')");
    await_value(scene,
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted",
                "1");
    kill(local_child(&scene->local, RUNTIME), SIGKILL);
    local_await_log(&scene->local, "ended by itself: SIGKILL");
    session_exec(scene->other, "SELECT pg_advisory_unlock(7)");
    session_exec(scene->session, "DO $$ BEGIN FOR i IN 0 .. 4 LOOP EXECUTE format('UPDATE cicada.event_%s "
                                 "SET due_at = now() WHERE lane = 127', i); END LOOP; END $$");
    await_value(scene, "SELECT string_agg(what, ', ') FROM public.note", "job");
    await_value(scene, "SELECT sum(due + delayed + leased + dead) FROM cicada.queue_stats()", "0");
    session_expect(scene->session, DONE_SQL, "1");
    stop(scene);
}

/* What the first answers is an event of the second; both sleep. */
static void test_chain(void **state)
{
    struct scene *scene = *state;
    write_function(scene, "first",
                   "INSERT INTO public.note (what) VALUES (:what) RETURNING what || '!' AS what",
                   "  result: Row\n  output: {queue: middle}\n" QUEUE("jobs"));
    write_function(scene, "second", NOTE_SQL, NONE QUEUE("middle"));
    start(scene);
    await_queue(scene, "jobs");
    await_queue(scene, "middle");
    session_exec(scene->session, "SELECT cicada.enqueue('jobs', '{\"what\": \"job\"}')");
    await_value(scene, "SELECT string_agg(what, ', ' ORDER BY what) FROM public.note", "job, job!");
    stop(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_enqueue_wakes_a_sleeping_function, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_sleeping_function_costs_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_table_trigger, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_table_of_somebody_else, setup, teardown),
        cmocka_unit_test_setup_teardown(test_schedule, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_killed_process_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
