/* What goes wrong between the operator and a database: a restart, a backend that hangs, a pooler, a queue that is very full. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "operator/tests/support_backlog.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/schema/schema.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_events.h"
#include "runtime/tests/support_pg_cluster.h"
#include "runtime/tests/support_pgbouncer.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_test.h"

#define PAYMENTS       "[{name: payments, queue: {name: payments}}]"
#define ENQUEUE        "SELECT cicada.enqueue('payments', '{}')"
#define BACKEND        "SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'cicada backlog'"
#define UNREACHABLE_MS 6000
#define DEAF_MS        45000 /* the contract's */

static struct pg_cluster cluster;

static int cluster_setup(void **state)
{
    (void)state;
    pg_cluster_start(&cluster);
    test_database_exec(cluster.url, schema_sql);
    return 0;
}

static int cluster_teardown(void **state)
{
    (void)state;
    pg_cluster_remove(&cluster);
    return 0;
}

static void want_sleeping(struct backlog_world *world)
{
    backlog_want(world, world->backlog, "charge", PAYMENTS, cluster.url);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
    backlog_set_awake(world->backlog, "shop", "charge", false);
    backlog_wait_known(world->backlog, "charge");
    test_database_exec(cluster.url, "SELECT cicada.purge('payments')");
    backlog_wait_count(world->backlog, "charge", 0, 0);
    backlog_forget_due(world);
}

static pid_t backend(void)
{
    CLEANUP_FREE char *text = test_database_value(cluster.url, BACKEND);
    int64_t pid = 0;

    (void)parse_int64(text, 2, INT32_MAX, &pid);
    return (pid_t)pid;
}

static void test_a_restart_of_the_server(void **state)
{
    struct backlog_world *world = *state;

    want_sleeping(world);
    pg_cluster_restart(&cluster);
    test_database_exec(cluster.url, ENQUEUE);
    backlog_wait_due(world, "charge");
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
}

static void test_a_backend_that_hangs_is_left(void **state)
{
    struct backlog_world *world = *state;

    want_sleeping(world);
    pid_t pid = backend();
    assert_true(pid > 1);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    test_database_exec(cluster.url, ENQUEUE);
    backlog_wait_due(world, "charge");
    assert_int_equal(kill(pid, SIGCONT), 0);
}

/* Another's million events do not keep a Function from being woken: counts end at 10,000. */
static void test_a_full_queue_delays_nobody(void **state)
{
    struct backlog_world *world = *state;
    const char *count = getenv("CICADA_TEST_EVENTS");
    CLEANUP_FREE char *fill =
        xasprintf("SELECT cicada.create_queue('full'); SELECT count(*) FROM (SELECT "
                  "cicada.enqueue_many('full', p.payloads)"
                  " FROM generate_series(1, %s / 10000),"
                  " (SELECT array_agg('{}'::jsonb) AS payloads FROM generate_series(1, 10000)) p) e",
                  count != NULL ? count : "20000");

    want_sleeping(world);
    test_database_exec(cluster.url, fill);
    backlog_want(world, world->backlog, "heap", "[{name: full, queue: {name: full}}]", cluster.url);
    backlog_set_awake(world->backlog, "shop", "heap", false);
    backlog_wait_count(world->backlog, "heap", 10000, 0);
    backlog_wait_due(world, "heap");
    backlog_forget_due(world);
    int64_t start_ms = clock_monotonic_ms();
    test_database_exec(cluster.url, ENQUEUE);
    backlog_wait_due(world, "charge");
    print_message("woken after %lld ms\n", (long long)(clock_monotonic_ms() - start_ms));
    /* It asks for 2,500 replicas, and gets what the server has connections for. */
    struct backlog_function heap;
    const struct connection_user user = {
        .max_replicas = 10, .surge = connection_user_surge(10), .pool_size = 4};
    assert_true(backlog_read(world->backlog, "shop", "heap", &heap));
    assert_int_equal(heap.wanted, connection_budget_event_replicas(&heap.connections, &user));
    backlog_function_release(&heap);
}

static void test_behind_a_pooler_it_polls(void **state)
{
    struct backlog_world *world = *state;
    struct pgbouncer pgbouncer;

    want_sleeping(world);
    pgbouncer_start(&pgbouncer, cluster.port, 1);
    backlog_want_pooled(world, "charge", PAYMENTS, pgbouncer.url);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
    backlog_wait_known(world->backlog, "charge");
    test_database_exec(cluster.url, ENQUEUE);
    backlog_wait_due(world, "charge");
    backlog_forget(world->backlog, "shop", "charge");
    pgbouncer_stop(&pgbouncer);
}

/* PgBouncer lets one log in though there is nothing behind it: that is no database that can be reached. Longer than any pause before it is
 * tried again, after which it once counted anew. */
static void test_a_database_that_is_down_behind_a_pooler(void **state)
{
    struct backlog_world *world = *state;
    struct pgbouncer pgbouncer;
    int64_t unreachable_ms = 0, deadline_ms;

    pgbouncer_start(&pgbouncer, cluster.port, 1);
    backlog_want_pooled(world, "charge", PAYMENTS, pgbouncer.url);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
    pg_cluster_kill(&cluster);
    for (deadline_ms = clock_monotonic_ms() + BACKLOG_WAIT_MS;
         unreachable_ms < UNREACHABLE_MS && clock_monotonic_ms() < deadline_ms; pgtest_sleep_ms(10)) {
        struct backlog_function function;
        assert_true(backlog_read(world->backlog, "shop", "charge", &function));
        unreachable_ms = function.unreachable_ms;
        backlog_function_release(&function);
    }
    pg_cluster_recover(&cluster);
    assert_true(unreachable_ms >= UNREACHABLE_MS);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
    backlog_forget(world->backlog, "shop", "charge");
    pgbouncer_stop(&pgbouncer);
}

static bool has_line(struct backlog_world *world, const char *line)
{
    CLEANUP_STRBUF struct strbuf text;

    strbuf_init(&text, METRICS_TEXT_MAX_BYTES);
    assert_int_equal(metrics_render(world->metrics, &text), 0);
    return strstr(text.buf, line) != NULL;
}

/* A pooler that nobody told of: while somebody else has the server's connection on which it listened, the watch is given another, and
 * hears nothing any more, though all else works. */
static void test_a_dead_listener_is_found(void **state)
{
    struct backlog_world *world = *state;
    struct pgbouncer pgbouncer;
    int64_t deadline_ms = clock_monotonic_ms() + DEAF_MS;

    pgbouncer_start(&pgbouncer, cluster.port, 2);
    backlog_want(world, world->backlog, "charge", PAYMENTS, pgbouncer.url);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
    PGconn *other = PQconnectdb(pgbouncer.url);
    session_exec(other, "BEGIN");
    while (!has_line(world, "cicada_event_watch_errors_total{what=\"hear\"} 1")) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        pgtest_sleep_ms(100);
    }
    session_exec(other, "ROLLBACK");
    PQfinish(other);
    backlog_wait_progress(world->backlog, "charge", BACKLOG_READY, NULL, NULL);
    assert_true(has_line(world, "cicada_event_watches{state=\"listening\"} 1"));
    backlog_forget(world->backlog, "shop", "charge");
    pgbouncer_stop(&pgbouncer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, backlog_setup_bare, backlog_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_restart_of_the_server),
        TEST(test_a_backend_that_hangs_is_left),
        TEST(test_a_full_queue_delays_nobody),
        TEST(test_behind_a_pooler_it_polls),
        TEST(test_a_database_that_is_down_behind_a_pooler),
        TEST(test_a_dead_listener_is_found),
    };
    return cmocka_run_group_tests(tests, cluster_setup, cluster_teardown);
}
