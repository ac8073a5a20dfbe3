/* Triggers of tables: installed as their owner, with retries, and taken away again. */
#include <stdatomic.h>
#include <string.h>

#include "operator/tests/support_backlog.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_socket.h"
#include "runtime/tests/support_test.h"

#define ORDERS   "[{name: orders, table: {name: public.orders, operations: [INSERT, UPDATE]}}]"
#define AS_QUEUE "[{name: orders, queue: {name: payments}}]"
#define AS_TICKS "[{name: orders, schedule: {cron: '0 3 * * *'}}]"
#define NO_TABLE "[{name: orders, table: {name: public.nothing, operations: [INSERT]}}]"
#define BAD_WHEN "[{name: orders, table: {name: public.orders, operations: [INSERT], when: NEW.nothing = 1}}]"
#define THREE_TABLES                                                                                         \
    "[{name: a, table: {name: public.orders, operations: [INSERT]}},"                                        \
    " {name: b, table: {name: public.orders, operations: [INSERT]}},"                                        \
    " {name: c, table: {name: public.orders, operations: [INSERT]}}]"
#define TRIGGERS  "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.orders'::regclass"
#define CONSUMERS "SELECT count(*) FROM cicada.queue"
#define CHANGE    "INSERT INTO public.orders DEFAULT VALUES"

static int setup(void **state)
{
    (void)backlog_setup(state);
    struct backlog_world *world = *state;
    session_exec(
        world->events->owner,
        "DROP TABLE IF EXISTS public.orders; CREATE TABLE public.orders (id serial PRIMARY KEY, total int);"
        "GRANT INSERT ON public.orders TO " EVENTS_GUEST);
    return 0;
}

static void want_as_owner(struct backlog_world *world, const char *triggers)
{
    backlog_want_owner(world, "ship", triggers, world->events->owner_url);
}

static void test_a_change_wakes(void **state)
{
    struct backlog_world *world = *state;

    want_as_owner(world, ORDERS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
    session_expect(world->events->owner, TRIGGERS, "2");
    backlog_set_awake(world->backlog, "shop", "ship", false);
    backlog_wait_known(world->backlog, "ship");
    session_exec(world->events->owner, CHANGE);
    backlog_wait_due(world, "ship");
    backlog_wait_count(world->backlog, "ship", 1, 0);
    backlog_unwant(world, "ship", ORDERS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_REMOVED, NULL, NULL);
    session_expect(world->events->owner, TRIGGERS, "0");
    session_expect(world->events->owner, CONSUMERS, "0");
}

static void test_what_is_wrong_is_said(void **state)
{
    struct backlog_world *world = *state;

    backlog_want(world, world->backlog, "ship", ORDERS, NULL); /* as the guest */
    backlog_wait_progress(world->backlog, "ship", BACKLOG_PROBLEM, "NotTableOwner", "trigger orders: table ");
    want_as_owner(world, NO_TABLE);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_PROBLEM, "InvalidSpec", "trigger orders: ");
    want_as_owner(world, BAD_WHEN);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_PROBLEM, "InvalidSpec", "trigger orders: ");
    want_as_owner(world, ORDERS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
}

/* A long transaction of others holds the table: we wait in line for half a second at most, and come again. */
static void test_a_lock_is_waited_for_in_turns(void **state)
{
    struct backlog_world *world = *state;

    session_exec(world->events->owner, "BEGIN; LOCK public.orders");
    want_as_owner(world, ORDERS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_WORKING, NULL, "trigger orders: ");
    session_exec(world->events->owner, "ROLLBACK");
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
    session_exec(world->events->owner, "BEGIN; LOCK public.orders");
    backlog_unwant(world, "ship", ORDERS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_WORKING, NULL, "trigger orders: ");
    session_exec(world->events->owner, CHANGE "; COMMIT");
    backlog_wait_progress(world->backlog, "ship", BACKLOG_REMOVED, NULL, NULL);
    session_expect(world->events->owner, TRIGGERS, "0");
}

static void test_a_trigger_becomes_another(void **state)
{
    struct backlog_world *world = *state;

    want_as_owner(world, ORDERS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
    want_as_owner(world, AS_TICKS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
    session_expect(world->events->owner, TRIGGERS, "0");
    session_expect(world->events->owner, CONSUMERS, "1");
    want_as_owner(world, ORDERS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
    session_expect(world->events->owner, TRIGGERS, "2");
    session_expect(world->events->owner, "SELECT count(*) FROM cicada.schedule", "0");
    want_as_owner(world, AS_QUEUE);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
    session_expect(world->events->owner, TRIGGERS, "0");
    session_expect(world->events->owner, "SELECT string_agg(name, ',') FROM cicada.queue", "payments");
}

/* Its table can't be locked when the trigger becomes a schedule, which has the queue from then on. */
static void test_what_a_schedule_follows_is_not_forgotten(void **state)
{
    struct backlog_world *world = *state;

    want_as_owner(world, ORDERS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
    session_exec(world->events->owner, "BEGIN; LOCK public.orders");
    want_as_owner(world, AS_TICKS);
    backlog_wait_sql(world, "SELECT count(*) FROM cicada.schedule", "1");
    session_exec(world->events->owner, CHANGE "; COMMIT");
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
    session_expect(world->events->owner, TRIGGERS, "0");
    session_expect(
        world->events->owner,
        "SELECT (SELECT count(*) FROM cicada.schedule), (SELECT count(*) FROM cicada.event), count(*)"
        " FROM cicada.queue",
        "1 0 1");
}

/* More than is removed by one call: the new one comes when all of the old one is gone. */
static void test_a_long_queue_goes_before_another_has_its_name(void **state)
{
    struct backlog_world *world = *state;

    want_as_owner(world, AS_TICKS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
    session_exec(
        world->events->owner,
        "INSERT INTO cicada.event_0 (id, due_at, time, queue, epoch, attempt, lane, priority, depth, ordered,"
        " alone, payload) SELECT n, now() + interval '1 day', now(), q.id, 0, 0, 0, 0, 0, false, false, '1'"
        " FROM generate_series(1000, 50999) n, cicada.queue q");
    want_as_owner(world, ORDERS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
    session_expect(world->events->owner, TRIGGERS, "2");
    session_expect(world->events->owner,
                   "SELECT (SELECT count(*) FROM cicada.event), (SELECT count(*) FROM cicada.schedule),"
                   " pg_sequence_last_value(wake) >= 0 FROM cicada.queue",
                   "0 0 t");
}

/* What people are told to run leaves nothing. */
static void test_the_sql_for_people_removes_all(void **state)
{
    struct backlog_world *world = *state;
    struct backlog_function function;

    want_as_owner(world, ORDERS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_READY, NULL, NULL);
    session_exec(world->events->owner, "BEGIN; LOCK public.orders");
    backlog_unwant(world, "ship", ORDERS);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_WORKING, NULL, "trigger orders: ");
    assert_true(backlog_read(world->backlog, "shop", "ship", &function));
    backlog_forget(world->backlog, "shop", "ship");
    session_exec(world->events->owner, "ROLLBACK");
    session_exec(world->events->owner, function.cleanup_sql);
    backlog_function_release(&function);
    session_expect(world->events->owner, TRIGGERS, "0");
    session_expect(world->events->owner, CONSUMERS, "0");
}

/* ---- an owner who can't be reached ---- */

struct deaf_owner {
    atomic_int connections;
    atomic_int seen; /* as the first turn's end was told; -1: not yet */
};

static void hang_up(void *arg, int fd, int connection_number)
{
    struct deaf_owner *owner = arg;

    (void)fd;
    atomic_store(&owner->connections, connection_number + 1);
}

/* On the watch's thread, which goes on after it. */
static void note_connections(void *arg, const char *namespace, const char *name)
{
    struct deaf_owner *owner = arg;
    int not_yet = -1;

    (void)namespace;
    (void)name;
    (void)atomic_compare_exchange_strong(&owner->seen, &not_yet, atomic_load(&owner->connections));
}

/* Each attempt may take seconds, in which the queues of everybody in that database wait. */
static void test_an_owner_out_of_reach_is_tried_once_a_turn(void **state)
{
    struct backlog_world *world = *state;
    struct deaf_owner owner = {.seen = -1};
    struct socket_server *server = socket_server_start(hang_up, &owner);
    CLEANUP_FREE char *url =
        xasprintf("postgresql://x@127.0.0.1:%d/x?sslmode=disable", socket_server_port(server));
    const struct backlog_settings settings = {
        .allow_local_hosts = true, .changed = note_connections, .arg = &owner};
    struct metrics *metrics = metrics_new();
    struct backlog *kept = world->backlog;

    world->backlog = backlog_new(&settings, metrics);
    backlog_want_owner(world, "ship", THREE_TABLES, url);
    backlog_wait_progress(world->backlog, "ship", BACKLOG_PROBLEM, "DatabaseUnreachable", "trigger a: ");
    backlog_free(world->backlog);
    world->backlog = kept;
    metrics_free(metrics);
    socket_server_stop(server);
    assert_int_equal(atomic_load(&owner.seen), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, backlog_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_change_wakes),
        TEST(test_what_is_wrong_is_said),
        TEST(test_a_lock_is_waited_for_in_turns),
        TEST(test_a_trigger_becomes_another),
        TEST(test_what_a_schedule_follows_is_not_forgotten),
        TEST(test_a_long_queue_goes_before_another_has_its_name),
        TEST(test_the_sql_for_people_removes_all),
        TEST(test_an_owner_out_of_reach_is_tried_once_a_turn),
    };
    return cmocka_run_group_tests(tests, backlog_group_setup, backlog_group_teardown);
}
