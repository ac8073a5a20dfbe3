/* Events in schema `cicada`: what the triggers of tables write. test_schema_install.c: how they come and go. */
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
#define WRITER  "cicada_test_events_writer" /* no right but on tables */

/* What was written since the last look. */
#define TAKE(columns)                                                                                        \
    "WITH gone AS (DELETE FROM cicada.event_1 RETURNING *) SELECT " columns " FROM gone ORDER BY id"

static int setup(void **state)
{
    int rc = events_setup(state);
    struct event_fixture *fixture = *state;

    pgtest_exec("DO $$ BEGIN CREATE ROLE " WRITER ";"
                " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;"
                "DO $$ BEGIN GRANT " WRITER " TO " EVENTS_GUEST ";"
                " EXCEPTION WHEN unique_violation OR internal_error THEN NULL; END $$");
    session_exec(fixture->owner, "GRANT USAGE, CREATE ON SCHEMA public TO " EVENTS_GUEST);
    session_exec(
        fixture->a,
        "CREATE TABLE public.orders (id bigint PRIMARY KEY, status text, total numeric(10, 2), note text);"
        "GRANT ALL ON public.orders TO " WRITER);
    session_exec(fixture->b, "SET ROLE " WRITER);
    return rc;
}

/* Table, operations, columns, condition: as SQL. */
static void install(struct event_fixture *fixture, const char *what)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT cicada.table_install(" TRIGGER ", %s, false)", what);

    session_expect(fixture->a, sql, "t");
    session_expect(fixture->a, sql, "f");
}

static const char all[] = "'public.orders', '{INSERT,UPDATE,DELETE,TRUNCATE}', NULL, NULL";

static void test_a_change_is_an_event(void **state)
{
    struct event_fixture *fixture = *state;

    install(fixture, all);
    session_exec(fixture->b, "INSERT INTO orders VALUES (1, 'n\"ew', 1.50, NULL)");
    session_expect(
        fixture->owner, TAKE("queue, key, source, type, subject, depth, lane, traceparent, payload::jsonb"),
        "3 1 /postgresql/public/orders cicada.dev.row.insert - 0 0 - {\"key\": {\"id\": 1}, \"new\":"
        " {\"id\": 1, \"note\": null, \"total\": 1.50, \"status\": \"n\\\"ew\"}, \"old\": null,"
        " \"table\": \"orders\", \"schema\": \"public\", \"operation\": \"INSERT\"}");
    session_exec(fixture->b,
                 "BEGIN; SET LOCAL cicada.depth = '3'; SET LOCAL cicada.traceparent = '00-1-2-01';"
                 "UPDATE orders SET status = 'paid'; COMMIT; DELETE FROM orders; TRUNCATE orders");
    session_expect(fixture->owner, TAKE("key, type, depth, traceparent, payload"),
                   "1 cicada.dev.row.update 4 00-1-2-01 {\"operation\": \"UPDATE\", \"schema\": \"public\","
                   " \"table\": \"orders\", \"key\": {\"id\":1},"
                   " \"old\": {\"id\":1,\"status\":\"n\\\"ew\",\"total\":1.50,\"note\":null},"
                   " \"new\": {\"id\":1,\"status\":\"paid\",\"total\":1.50,\"note\":null}};"
                   " 1 cicada.dev.row.delete 0 - {\"operation\": \"DELETE\", \"schema\": \"public\","
                   " \"table\": \"orders\", \"key\": {\"id\":1},"
                   " \"old\": {\"id\":1,\"status\":\"paid\",\"total\":1.50,\"note\":null}, \"new\": null};"
                   " - cicada.dev.row.truncate 0 - {\"operation\": \"TRUNCATE\", \"schema\": \"public\","
                   " \"table\": \"orders\", \"key\": null, \"old\": null, \"new\": null}");
    session_exec(fixture->b, "BEGIN; INSERT INTO orders VALUES (2); ROLLBACK");
    session_exec(fixture->b, "SET cicada.depth = '16'; INSERT INTO orders VALUES (3)");
    session_expect(fixture->owner, TAKE("id"), "");
    session_expect(fixture->owner, "SELECT reason, key, type, depth FROM cicada.dead_letter",
                   "depth 3 cicada.dev.row.insert 17");
}

static void test_columns_and_condition(void **state)
{
    struct event_fixture *fixture = *state;

    install(fixture, "'public.orders', '{INSERT,UPDATE}', '{status,total}', "
                     "'NEW.status = ''paid'' OR (NEW.total > 100 AND \"new\".\"note\" LIKE ''%)'')'");
    session_exec(
        fixture->b,
        "INSERT INTO orders VALUES (1, 'new', 1, NULL), (2, 'paid', 1, NULL), (3, 'new', 101, ':)')");
    session_exec(fixture->b, "UPDATE orders SET note = 'x' WHERE id = 2; UPDATE orders SET total = 1.00;"
                             "UPDATE orders SET status = 'paid'; UPDATE orders SET total = 2 WHERE id = 2");
    session_expect(fixture->owner, TAKE("type, key"),
                   "cicada.dev.row.insert 2; cicada.dev.row.insert 3; cicada.dev.row.update 1;"
                   " cicada.dev.row.update 3; cicada.dev.row.update 2");
    /* Types without an equality, or with one that fails when it runs. */
    session_exec(fixture->a,
                 "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN doc AS json;"
                 "CREATE TABLE types (id int PRIMARY KEY, a json, b json[], c point, d doc, e mood, f int[]);"
                 "GRANT ALL ON types TO " WRITER);
    install(fixture, "'types', '{UPDATE}', '{a,b,c,d,e,f}', NULL");
    session_exec(fixture->b,
                 "INSERT INTO types VALUES (1, '1', '{1}', '(1,2)', '1', 'ok', '{1}');"
                 "UPDATE types SET id = 1, a = '1', b = '{1}', c = '(1,2)', d = '1', e = 'ok', f = '{1}'");
    session_expect(fixture->owner, TAKE("id"), "");
    session_exec(fixture->b,
                 "UPDATE types SET a = '2'; UPDATE types SET b = '{2}'; UPDATE types SET c = NULL;"
                 "UPDATE types SET d = '2'; UPDATE types SET e = 'sad'; UPDATE types SET f = '{2}'");
    session_expect(fixture->owner, TAKE("payload::json -> 'new' ->> 'id'"), "1; 1; 1; 1; 1; 1");
}

static void test_what_other_triggers_made_of_it(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "CREATE FUNCTION upper_status() RETURNS trigger LANGUAGE plpgsql AS"
                             " 'BEGIN NEW.status := upper(NEW.status); RETURN NEW; END';"
                             "CREATE TRIGGER up BEFORE INSERT OR UPDATE ON orders FOR EACH ROW"
                             " EXECUTE FUNCTION upper_status()");
    install(fixture, "'public.orders', '{INSERT,UPDATE}', '{status}', NULL");
    session_exec(fixture->b,
                 "INSERT INTO orders VALUES (1, 'new'); UPDATE orders SET note = 'x', status = 'new';"
                 "UPDATE orders SET status = 'paid'");
    session_expect(fixture->owner, TAKE("payload::json -> 'new' ->> 'status'"), "NEW; PAID");
}

/* ---- Keys and images ---- */

static void test_keys(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(
        fixture->a,
        "CREATE TABLE several (b text, n int, a text, PRIMARY KEY (a, n)); CREATE TABLE none (n int);"
        "CREATE TABLE moment (t timestamptz PRIMARY KEY); CREATE TABLE word (w text PRIMARY KEY);"
        "GRANT ALL ON several, none, moment, word TO " WRITER);
    install(fixture, "'several', '{INSERT}', NULL, NULL");
    session_exec(fixture->b, "INSERT INTO several VALUES ('x', 7, 'q\"q')");
    session_expect(fixture->owner, TAKE("key, payload::json -> 'key'"),
                   "[\"q\\\"q\", 7] {\"a\":\"q\\\"q\",\"n\":7}");
    install(fixture, "'none', '{INSERT}', NULL, NULL");
    session_exec(fixture->b, "INSERT INTO none VALUES (7)");
    session_expect(fixture->owner, TAKE("key, payload::json -> 'key'"), "- null");
    install(fixture, "'moment', '{INSERT,DELETE}', NULL, NULL"); /* the same key in any time zone */
    session_exec(fixture->b, "SET timezone = 'Asia/Kathmandu'; INSERT INTO moment VALUES ('2026-01-01 UTC');"
                             "SET timezone = 'UTC'; DELETE FROM moment");
    session_expect(fixture->owner, TAKE("key"), "2026-01-01T00:00:00+00:00; 2026-01-01T00:00:00+00:00");
    install(fixture, "'word', '{INSERT}', NULL, NULL"); /* a long key would not fit into the index */
    session_exec(fixture->b, "INSERT INTO word VALUES (repeat('k', 255)), (''), (repeat('k', 140000)),"
                             " ((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 80) n))");
    session_expect(fixture->owner, TAKE("left(key, 7), length(key), length(payload::json -> 'key' ->> 'w')"),
                   "kkkkkkk 255 255; sha256: 71 0; sha256: 71 -; sha256: 71 2560");
}

/* json takes what no look into it does. */
static void test_json_that_is_no_text(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a,
                 "CREATE TABLE docs (id int, name text, doc json, PRIMARY KEY (id, name));"
                 "CREATE TABLE words (w text PRIMARY KEY, doc json); GRANT ALL ON docs, words TO " WRITER);
    install(fixture, "'docs', '{INSERT,UPDATE,DELETE}', NULL, NULL");
    session_exec(fixture->b, "INSERT INTO docs VALUES (1, 'n', '{\"a\":\"\\u0000\"}');"
                             "UPDATE docs SET doc = '[\"\\ud800\"]'; DELETE FROM docs");
    session_expect(fixture->owner,
                   TAKE("key, payload LIKE '%, \"key\": {\"id\":1,\"name\":\"n\"}, \"old\": %\"new\": %'"),
                   "[1, \"n\"] t; [1, \"n\"] t; [1, \"n\"] t");
    install(fixture, "'words', '{INSERT}', NULL, NULL");
    session_exec(fixture->b, "INSERT INTO words VALUES (E'\\x01'), ('a\\u0000')");
    session_expect(fixture->owner, TAKE("key = E'\\x01', key = 'a\\u0000'"), "t f; f t");
    session_exec(fixture->b,
                 "SET cicada.depth = '16'; INSERT INTO words VALUES ('w', '\"\\u0000\"'), ('v', '7')");
    session_expect(fixture->a,
                   "SELECT key, payload::text LIKE '%\\u0000%' FROM cicada.dead_letters("
                   "cicada.trigger_queue(" TRIGGER "))",
                   "w t; v f");
}

static void test_unchanged_toasted_values_are_there(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "ALTER TABLE orders ALTER note SET STORAGE EXTERNAL");
    session_exec(fixture->b, "INSERT INTO orders VALUES (1, 'new', 1, repeat('x', 100000))");
    install(fixture, all);
    session_exec(fixture->b, "UPDATE orders SET status = 'paid'");
    session_expect(
        fixture->owner,
        TAKE("length(payload::json -> 'old' ->> 'note'), length(payload::json -> 'new' ->> 'note')"),
        "100000 100000");
}

static void test_large_images_are_left_out(void **state)
{
    struct event_fixture *fixture = *state;
    static const char big[] =
        "key, octet_length(payload) < 300, payload::json -> 'key', payload::json -> 'changed',"
        " payload::json -> 'old', payload::json -> 'new', payload::json -> 'truncated'";
    CLEANUP_FREE char *take = xasprintf(
        "WITH gone AS (DELETE FROM cicada.event_1 RETURNING *) SELECT %s FROM gone ORDER BY id", big);

    install(fixture, all);
    session_exec(fixture->b, "INSERT INTO orders VALUES (1, 'new', 1, repeat('x', 262150));"
                             "UPDATE orders SET status = 'paid', total = 1.00; DELETE FROM orders;"
                             "INSERT INTO orders VALUES (2, 'new', 1, repeat('x', 100000000));"
                             "UPDATE orders SET note = NULL");
    session_expect(fixture->owner, take,
                   "1 t {\"id\":1} [\"id\",\"status\",\"total\",\"note\"] null null true;"
                   " 1 t {\"id\":1} [\"status\"] null null true;"
                   " 1 t {\"id\":1} [\"id\",\"status\",\"total\",\"note\"] null null true;"
                   " 2 t {\"id\":2} [\"id\",\"status\",\"total\",\"note\"] null null true;"
                   " 2 t {\"id\":2} [\"note\"] null null true");
    /* One image that just fits. */
    session_exec(fixture->b, "INSERT INTO orders VALUES (3, 'new', 1, repeat('x', 262144 - 147))");
    session_exec(fixture->b, "INSERT INTO orders VALUES (4, 'new', 1, repeat('x', 262144 - 146))");
    session_expect(fixture->owner, TAKE("key, payload::json ->> 'truncated', octet_length(payload) > 262000"),
                   "3 - t; 4 true f");
}

/* ---- DDL afterwards ---- */

static const char seen[] =
    TAKE("key, source, payload::json ->> 'schema', payload::json ->> 'table', payload::json -> 'key',"
         " payload::json -> 'new'");

static void test_table_is_changed_afterwards(void **state)
{
    struct event_fixture *fixture = *state;

    install(fixture, all);
    session_exec(fixture->a, "ALTER TABLE orders ADD more int DEFAULT 5, DROP note");
    session_exec(fixture->b, "INSERT INTO orders VALUES (1, 'new', 1)");
    session_exec(fixture->a, "ALTER TABLE orders RENAME id TO number");
    session_exec(fixture->b, "INSERT INTO orders VALUES (2)");
    session_exec(fixture->a,
                 "ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (number, more)");
    session_exec(fixture->b, "INSERT INTO orders VALUES (3)");
    session_exec(fixture->a, "ALTER TABLE orders DROP CONSTRAINT orders_pkey");
    session_exec(fixture->b, "INSERT INTO orders VALUES (4)");
    session_exec(fixture->a,
                 "ALTER TABLE orders DROP total, DROP status; ALTER TABLE orders RENAME TO \"Ord ers\"");
    session_exec(fixture->b, "INSERT INTO \"Ord ers\" VALUES (5)");
    session_expect(fixture->owner, seen,
                   "1 /postgresql/public/orders public orders {\"id\":1} "
                   "{\"id\":1,\"status\":\"new\",\"total\":1.00,\"more\":5};"
                   " 2 /postgresql/public/orders public orders {\"number\":2}"
                   " {\"number\":2,\"status\":null,\"total\":null,\"more\":5};"
                   " [3, 5] /postgresql/public/orders public orders {\"number\":3,\"more\":5}"
                   " {\"number\":3,\"status\":null,\"total\":null,\"more\":5};"
                   " - /postgresql/public/orders public orders null "
                   "{\"number\":4,\"status\":null,\"total\":null,\"more\":5};"
                   " - /postgresql/public/Ord%20ers public Ord ers null {\"number\":5,\"more\":5}");
    install(fixture, "'public.\"Ord ers\"', '{INSERT}', NULL, NULL"); /* sees that it is outdated */
    session_exec(fixture->b, "INSERT INTO \"Ord ers\" VALUES (6)");
    session_expect(fixture->owner, seen,
                   "- /postgresql/public/Ord%20ers public Ord ers null {\"number\":6,\"more\":5}");
}

static void test_partitions(void **state)
{
    struct event_fixture *fixture = *state;

    session_exec(fixture->a, "CREATE TABLE parts (id int PRIMARY KEY, t text) PARTITION BY RANGE (id);"
                             "CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);"
                             "CREATE TABLE part_2 (t text, id int PRIMARY KEY);"
                             "GRANT ALL ON parts, part_1, part_2 TO " WRITER);
    install(fixture, "'parts', '{INSERT,UPDATE,DELETE,TRUNCATE}', NULL, NULL");
    session_exec(fixture->a, "ALTER TABLE parts ATTACH PARTITION part_2 FOR VALUES FROM (10) TO (20)");
    session_expect(fixture->a,
                   "SELECT cicada.table_install(" TRIGGER
                   ", 'parts', '{INSERT,UPDATE,DELETE,TRUNCATE}', NULL,"
                   " NULL, false)",
                   "f");
    session_exec(
        fixture->b,
        "INSERT INTO parts VALUES (1, 'a'); UPDATE parts SET id = 11; INSERT INTO part_2 VALUES ('b', 12);"
        "UPDATE parts SET t = 'c' WHERE id = 11; TRUNCATE parts");
    session_expect(fixture->owner, TAKE("substr(type, 16), key, source, payload::json ->> 'table'"),
                   "insert 1 /postgresql/public/parts parts; delete 1 /postgresql/public/parts parts;"
                   " insert 11 /postgresql/public/parts parts; insert 12 /postgresql/public/parts parts;"
                   " update 11 /postgresql/public/parts parts; truncate - /postgresql/public/parts parts");
    install(fixture, "'parts', '{UPDATE}', '{t}', NULL");
    session_exec(fixture->b, "INSERT INTO parts VALUES (1, 'a'), (11, 'b'); UPDATE parts SET t = 'b'");
    session_expect(fixture->owner, TAKE("substr(type, 16), key"), "update 1");
    session_exec(fixture->a, "ALTER TABLE parts RENAME TO \"p/s\"");
    session_exec(fixture->b, "UPDATE \"p/s\" SET t = 'd' WHERE id = 11");
    session_expect(fixture->owner, TAKE("source, payload::json ->> 'table'"), "/postgresql/public/p%2Fs p/s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_change_is_an_event, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_columns_and_condition, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_what_other_triggers_made_of_it, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_keys, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_json_that_is_no_text, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_unchanged_toasted_values_are_there, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_large_images_are_left_out, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_table_is_changed_afterwards, setup, events_teardown),
        cmocka_unit_test_setup_teardown(test_partitions, setup, events_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
