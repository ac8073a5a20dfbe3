/* Events in schema `cicada`: triggers of tables are installed, changed and removed. test_schema_table.c: what they write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_events.h"
#include "runtime/tests/support_postgres.h"

#define TRIGGER "'shop', 'paid', 'orders'"
#define INSTALL "SELECT cicada.table_install(" TRIGGER ", "

static const char install[] = INSTALL "'public.orders', '{INSERT,UPDATE}', NULL, NULL, false)";
static const char drop[] = "SELECT cicada.table_drop(" TRIGGER ")";
static const char unregister[] = "SELECT cicada.table_unregister(" TRIGGER ")";
static const char release[] = "SELECT cicada.queue_release(cicada.trigger_queue(" TRIGGER "), " TRIGGER ")";
static const char triggers[] = "SELECT tgrelid::regclass, split_part(tgname, '.', 3) FROM pg_trigger"
                               " WHERE tgname LIKE 'cicada.%' AND tgparentid = 0 ORDER BY 1, 2";
static const char events[] = "SELECT key FROM cicada.event ORDER BY id";

/* The guest owns its tables, and a table of another role is there. */
static int setup(void **state)
{
    int rc = events_setup(state);
    struct event_fixture *fixture = *state;

    session_exec(fixture->owner, "GRANT USAGE, CREATE ON SCHEMA public TO " EVENTS_GUEST
                                 "; CREATE TABLE public.theirs (id int PRIMARY KEY)");
    session_exec(fixture->a, "CREATE TABLE public.orders (id int PRIMARY KEY, status text);"
                             "CREATE TABLE public.\"Ord'ers\" (\"a \"\"b\" int PRIMARY KEY);"
                             "CREATE VIEW public.seen AS SELECT * FROM orders");
    return rc;
}

static void test_it_is_installed_once(void **state)
{
    struct event_fixture *fixture = *state;

    session_expect(fixture->a, install, "t");
    session_exec(fixture->b, "BEGIN; INSERT INTO orders VALUES (1)");
    session_exec(fixture->a, "SET lock_timeout = '500ms'");
    session_expect(fixture->a, install, "f"); /* without a lock */
    session_fails(fixture->a, INSTALL "'orders', '{INSERT}', NULL, NULL, false)", "55P03", NULL);
    session_fails(fixture->a, drop, "55P03", NULL);
    session_exec(fixture->b, "COMMIT");
    session_expect(fixture->a, INSTALL "'orders', '{INSERT}', NULL, NULL, true)", "t");
    session_expect(fixture->a, triggers, "orders insert");
    session_expect(fixture->owner, "SELECT ordered, namespace FROM cicada.queue WHERE id = 3", "t shop");
    session_expect(fixture->a, INSTALL "'orders', '{INSERT}', NULL, 'NEW.id > 1', true)", "t");
    session_expect(fixture->a, INSTALL "'orders', '{INSERT}', NULL, 'NEW.id > 2', true)", "t");
    session_expect(fixture->a, INSTALL "'orders', '{INSERT}', '{}', 'NEW.id > 2', true)", "f");
    session_exec(fixture->b, "INSERT INTO orders VALUES (2), (3)");
    session_expect(fixture->owner, events, "1; 3");
    session_expect(fixture->a,
                   INSTALL "'\"Ord''ers\"', '{INSERT,TRUNCATE}', NULL, '\"new\".\"a \"\"b\" > 0', true)",
                   "t");
    session_expect(fixture->a, triggers, "\"Ord'ers\" insert; \"Ord'ers\" truncate");
    session_exec(fixture->b, "INSERT INTO orders VALUES (4); INSERT INTO \"Ord'ers\" VALUES (5)");
    session_expect(fixture->owner, events, "1; 3; 5");
}

static void test_what_is_wrong_is_said(void **state)
{
    struct event_fixture *fixture = *state;
    static const struct {
        const char *what, *sqlstate, *text;
    } refused[] = {
        {"'public.theirs', '{INSERT}', NULL, NULL, false)", "ZC010",
         "table public.theirs belongs to role " EVENTS_OWNER ", and role " EVENTS_GUEST
         " may not change its triggers"},
        {"'public.theirs', '{NONE}', NULL, 'x', false)", "ZC010",
         "GRANT " EVENTS_OWNER " TO " EVENTS_GUEST ";"},
        {"'public.none', '{INSERT}', NULL, NULL, false)", "42P01", "table public.none does not exist"},
        {"'Public.ORDERS', '{INSERT}', '{status}', NULL, false)", "ZC011", "columns are for UPDATE"},
        {"'a.b.c', '{INSERT}', NULL, NULL, false)", "ZC011", "table name 'a.b.c' is not valid"},
        {"'a b', '{INSERT}', NULL, NULL, false)", "ZC011", "table name"},
        {"NULL, '{INSERT}', NULL, NULL, false)", "ZC011", "table name NULL"},
        {"'seen', '{INSERT}', NULL, NULL, false)", "ZC011", "no table whose"},
        {"'cicada.queue', '{INSERT}', NULL, NULL, false)", "ZC011", "no table whose"},
        {"'orders', '{}', NULL, NULL, false)", "ZC011", "operations are"},
        {"'orders', '{insert}', NULL, NULL, false)", "ZC011", "operations are"},
        {"'orders', '{UPDATE}', '{nothing}', NULL, false)", "ZC011",
         "column nothing of table public.orders does not exist"},
        {"'orders', '{INSERT}', NULL, 'OLD.id > 1', false)", "ZC011",
         "INSERT trigger's WHEN condition cannot reference OLD values"},
        {"'orders', '{INSERT}', NULL, 'NEW.nothing > 1', false)", "ZC011",
         "column new.nothing does not exist"},
        {"'orders', '{INSERT}', NULL, 'NEW.id', false)", "ZC011", "must be type boolean"},
        {"'orders', '{INSERT}', NULL, 'NEW.id = (SELECT 1)', false)", "ZC011", "subquery"},
        {"'orders', '{INSERT}', NULL, 'NEW.id > 1, true', false)", "ZC011", "must be type boolean"},
        {"'orders', '{INSERT}', NULL, 'nowhere(NEW.id)', false)", "ZC011", "nowhere(integer) does not exist"},
        {"'orders', '{INSERT}', NULL, '1 / 0 = 1', NULL)", "22004", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        CLEANUP_FREE char *sql = xasprintf(INSTALL "%s", refused[i].what);
        session_fails(fixture->a, sql, refused[i].sqlstate, refused[i].text);
    }
    session_expect(fixture->a, triggers, "");
    session_expect(fixture->a, "SELECT count(*) FROM cicada.queue_stats()", "2"); /* nothing is left of it */
    session_fails(fixture->a,
                  "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT cicada.table_unregister(" TRIGGER ")",
                  "25000", NULL);
    session_exec(fixture->a, "ROLLBACK");
    session_exec(fixture->owner, "REVOKE EXECUTE ON FUNCTION cicada.table_capture() FROM " EVENTS_GUEST);
    session_fails(fixture->a, install, "42501", NULL);
}

/* Each would be a statement of its own, if it were let. */
static void test_condition_is_one_expression(void **state)
{
    struct event_fixture *fixture = *state;
    static const char *const refused[] = {
        "true) EXECUTE FUNCTION evil(); --",
        "true)) EXECUTE FUNCTION evil(); SELECT ((true",
        ") OR (true",
        "(true",
        "true; DROP TABLE orders",
        "true -- x",
        "true /* ) */",
        "NEW.status = $$)$$",
        "NEW.status = $a$)$a$",
        "NEW.status = $1",
        "NEW.status = E'\\')) EXECUTE FUNCTION evil(); --'",
        "NEW.status = e'\\'",
        "1e'\\')) EXECUTE FUNCTION evil(); --'",
        "NEW.status = 'a''",
        "NEW.status = \"a",
        "NEW.status = 'a\" || \"b",
        "NEW.status ~ \\",
        "",
        " \n",
        "'' \001",
    };
    static const char *const taken[] = {
        "NEW.status = ')) EXECUTE FUNCTION evil(); --' OR ((NEW.id) > - -1)",
        "NEW.status = 'it''s; $$ /* \\'",
        "NEW.status ~ '^\\d+E$' AND NEW.status LIKE'e%' ESCAPE'e'",
        "NEW.\"status\" = ANY (ARRAY['--', '/*'])",
        "NEW.status = U&'\\0061' AND 'a-e' <> ''\n",
        "NEW.status = 'true'\n'x'",
        "NEW IS NOT NULL AND NEW.id::bigint % 2 = 0",
    };

    session_exec(fixture->a,
                 "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'");
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        char *text = PQescapeLiteral(fixture->a, refused[i], strlen(refused[i]));
        CLEANUP_FREE char *sql = xasprintf(INSTALL "'orders', '{INSERT}', NULL, %s, false)", text);
        session_fails(fixture->a, sql, "ZC011", "the condition must be one expression");
        PQfreemem(text);
    }
    session_fails(fixture->a, INSTALL "'orders', '{INSERT}', NULL, repeat('(', 8193), false)", "ZC011",
                  "8192 bytes");
    session_expect(fixture->a, triggers, "");
    for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
        char *text = PQescapeLiteral(fixture->b, taken[i], strlen(taken[i]));
        CLEANUP_FREE char *keep = xasprintf("CREATE TEMP TABLE condition AS SELECT %s::text AS c", text);
        session_exec(fixture->a, "SET standard_conforming_strings = on");
        session_exec(fixture->a, keep);
        session_exec(fixture->a,
                     "SET standard_conforming_strings = off"); /* what the caller has is not used */
        session_expect(fixture->a, INSTALL "'orders', '{INSERT}', NULL, (SELECT c FROM condition), false)",
                       "t");
        session_exec(fixture->a, "DROP TABLE condition");
        PQfreemem(text);
    }
    session_expect(fixture->a, triggers, "orders insert");
}

static void test_unregistered_writes_nothing(void **state)
{
    struct event_fixture *fixture = *state;

    session_expect(fixture->a, unregister, "f");
    session_expect(fixture->a, install, "t");
    session_exec(fixture->b, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1"); /* its snapshot is older */
    session_expect(fixture->a, unregister, "t");
    session_expect(fixture->a, unregister, "f");
    session_exec(fixture->b, "INSERT INTO orders VALUES (1); COMMIT");
    session_exec(fixture->c, "SELECT cicada.queue_sleep('{3}')"); /* a consumer that is still there */
    session_exec(fixture->b, "INSERT INTO orders VALUES (2)");
    session_expect(fixture->owner, events, "");
    session_expect(fixture->a, install, "t");
    session_exec(fixture->b, "INSERT INTO orders VALUES (3)");
    session_expect(fixture->owner, events, "3");
    /* Also after its queue is gone, with all that it was told. */
    session_expect(fixture->a, release, "t");
    session_exec(fixture->b, "INSERT INTO orders VALUES (4)");
    session_expect(fixture->owner, events, "");
    session_expect(fixture->owner, "SELECT last_value FROM cicada.queue_wake_3", "-1");
    session_expect(fixture->a, install, "t"); /* and it is another's then */
    session_exec(fixture->b, "INSERT INTO orders VALUES (5)");
    session_expect(fixture->owner, "SELECT key, queue FROM cicada.event", "5 4");
    session_exec(fixture->a, "DELETE FROM orders");
    session_exec(fixture->owner, "DROP SCHEMA cicada CASCADE");
    session_exec(fixture->b, "INSERT INTO orders VALUES (6)");
}

/* A trigger becomes a schedule, and its table can't be locked just then. */
static void test_a_schedule_takes_the_name(void **state)
{
    struct event_fixture *fixture = *state;
    static const char here[] =
        "SELECT trigger, source FROM cicada.triggers_of('shop', 'paid') ORDER BY source";
    static const char look[] = "SELECT cicada.schedule_look(" TRIGGER ", '0 3 * * * UTC') IS NOT NULL";
    static const char is_open[] = "SELECT pg_sequence_last_value(wake) >= 0 FROM cicada.queue WHERE id = 3";

    session_expect(fixture->a, install, "t");
    session_expect(fixture->a, unregister, "t");
    session_expect(fixture->a, look, "t");
    session_expect(fixture->a, here, "orders schedule; orders table");
    session_exec(fixture->b, "INSERT INTO orders VALUES (1)");
    session_expect(fixture->owner, events, "");
    session_expect(fixture->owner, is_open, "f");
    session_expect(fixture->a, drop, "t");
    session_expect(fixture->a, here, "orders schedule");
    session_expect(fixture->a, look, "t");
    session_expect(fixture->owner, is_open, "t");
}

static void test_only_ours_are_dropped(void **state)
{
    struct event_fixture *fixture = *state;
    CLEANUP_FREE char *sql = NULL;

    session_expect(fixture->a, drop, "t"); /* none was there */
    session_expect(fixture->a, "SELECT cicada.table_cleanup_sql(" TRIGGER ")", "");
    session_expect(fixture->a, install, "t");
    session_exec(
        fixture->a,
        "SELECT cicada.table_install('shop', 'other', 'orders', 'orders', '{INSERT}', NULL, NULL, false)");
    session_exec(fixture->a,
                 "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
                 "CREATE TRIGGER mine AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION mine();"
                 "DO $$ BEGIN EXECUTE format('CREATE TRIGGER %I AFTER DELETE ON orders FOR EACH ROW EXECUTE"
                 " FUNCTION mine()', cicada.trigger_queue(" TRIGGER ") || '.delete'); END $$");
    session_fails(fixture->a, INSTALL "'orders', '{DELETE}', NULL, NULL, false)", "ZC011", "is not ours");
    session_exec(fixture->a, "ALTER TABLE orders RENAME TO renamed");
    session_expect(fixture->a, unregister, "t");
    session_expect(fixture->a, release, "t");
    sql = session_answer(fixture->b, "SELECT cicada.table_cleanup_sql(" TRIGGER ")");
    session_expect(fixture->a, drop, "t");
    session_expect(fixture->a,
                   "SELECT count(*), count(*) FILTER (WHERE tgname = 'mine') FROM pg_trigger"
                   " WHERE tgrelid = 'renamed'::regclass",
                   "3 1");
    session_expect(fixture->owner,
                   "SELECT to_regclass('cicada.queue_wake_3'), to_regclass('cicada.queue_wake_4')",
                   "- cicada.queue_wake_4");
    session_exec(fixture->a, sql); /* again does no harm */
    session_exec(fixture->a, "DROP TABLE renamed CASCADE");
    session_expect(fixture->a, "SELECT cicada.table_drop('shop', 'other', 'orders')", "t");
}

static void test_owner_is_asked_first(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->owner,
                 "SELECT cicada.table_install(" TRIGGER ", 'theirs', '{INSERT}', NULL, NULL, false)");
    session_fails(fixture->a, install, "ZC010", "public.theirs"); /* it would have to leave that one */
    session_fails(fixture->a, drop, "ZC010", "public.theirs");
    session_expect(fixture->owner, drop, "t");
    session_expect(fixture->a, install, "t");
    session_fails(fixture->owner, drop, "ZC010", "public.orders");
}

/* A change of what is captured neither loses a row nor doubles it, whatever the writers' snapshots. */
static void test_nothing_is_lost_by_a_change(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->c, "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1");
    session_expect(fixture->a, install, "t");
    session_exec(fixture->c, "INSERT INTO orders VALUES (1); COMMIT");
    session_exec(fixture->b, "BEGIN; INSERT INTO orders VALUES (2)");
    session_block(fixture, fixture->a, INSTALL "'orders', '{INSERT,DELETE}', NULL, 'true', false)");
    session_exec(fixture->b, "INSERT INTO orders VALUES (3); COMMIT");
    session_finish_expect(fixture->a, "t");
    session_exec(fixture->b, "INSERT INTO orders VALUES (4)");
    session_expect(fixture->owner, events, "1; 2; 3; 4");
    /* An event whose transaction ends after its queue is gone is removed in time. */
    session_exec(fixture->b, "BEGIN; INSERT INTO orders VALUES (5)");
    session_expect(fixture->a, unregister, "t");
    session_expect(fixture->a, release, "t");
    session_exec(fixture->b, "COMMIT");
    session_exec(fixture->owner, "SELECT setval('cicada.event_slot', 2)");
    session_exec(fixture->c, "SELECT cicada.event_maintain()");
    session_expect(fixture->owner, events, "");
}

static void test_hostile_search_path(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a,
                 "CREATE FUNCTION public.text_distinct(text, text) RETURNS boolean LANGUAGE plpgsql AS"
                 " 'BEGIN RAISE EXCEPTION ''evil''; END';"
                 "CREATE OPERATOR public.= (FUNCTION = text_distinct, LEFTARG = text, RIGHTARG = text);"
                 "CREATE FUNCTION public.row_to_json(record) RETURNS json LANGUAGE plpgsql AS"
                 " 'BEGIN RAISE EXCEPTION ''evil''; END';"
                 "CREATE TEMP TABLE pg_class (x int); CREATE TEMP TABLE orders (x int);"
                 "SET search_path = public, pg_temp, pg_catalog");
    session_fails(fixture->a, "SELECT 'a'::text = 'a'::text", "P0001", "evil");
    session_expect(fixture->a,
                   INSTALL "'public.orders', '{INSERT,UPDATE}', '{status}', 'NEW.status = ''a''', false)",
                   "t");
    session_exec(fixture->a,
                 "INSERT INTO public.orders VALUES (1, 'a'); UPDATE public.orders SET status = 'b';"
                 "UPDATE public.orders SET status = 'a'");
    session_expect(fixture->owner, "SELECT count(*) FROM cicada.event", "2");
    session_expect(fixture->a, drop, "t");
}

static void test_sleeper_hears_of_a_row(void **state)
{
    struct event_fixture *fixture = *state;
    PGnotify *notify;

    session_expect(fixture->a, install, "t");
    session_exec(fixture->c, "LISTEN cicada_wake");
    session_exec(fixture->owner, "SELECT setval('cicada.queue_wake_3', cicada.clock_ms() + 600000)");
    session_exec(fixture->b, "INSERT INTO orders VALUES (1), (2)");
    session_exec(fixture->c, "SELECT 1");
    notify = PQnotifies(fixture->c);
    assert_non_null(notify);
    assert_string_equal(notify->extra, "3");
    PQfreemem(notify);
    assert_null(PQnotifies(fixture->c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_is_installed_once, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_what_is_wrong_is_said, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_condition_is_one_expression, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_unregistered_writes_nothing, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_a_schedule_takes_the_name, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_only_ours_are_dropped, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_owner_is_asked_first, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_lost_by_a_change, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_hostile_search_path, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_sleeper_hears_of_a_row, setup, events_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
