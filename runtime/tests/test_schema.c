/* The schema `cicada`: installed, upgraded, let roles in, and said what is missing; by psql and by the runtime's own code. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/schema/schema.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_postgres.h"

#define DATABASE "cicada_test_schema"
#define OWNER    "cicada_test_schema_owner" /* of the database; no superuser */
#define GUEST    "cicada_test_schema_guest" /* may log in */
#define WAIT_MS  20000

/* Every test has a database of its own with nothing in it. */
struct fixture {
    char *super_url, *owner_url, *guest_url;
    struct pg_pool *owner, *guest;
};

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));

    test_database_drop(DATABASE);
    test_role_create(OWNER);
    test_role_create(GUEST);
    test_database_create(DATABASE, OWNER);
    fixture->super_url = test_database_url(NULL, 0, DATABASE);
    fixture->owner_url = test_database_url(OWNER, 0, DATABASE);
    fixture->guest_url = test_database_url(GUEST, 0, DATABASE);
    fixture->owner = pgtest_pool(fixture->owner_url, 1);
    fixture->guest = pgtest_pool(fixture->guest_url, 1);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    pg_pool_free(fixture->owner);
    pg_pool_free(fixture->guest);
    test_database_drop(DATABASE);
    test_role_drop(GUEST);
    test_role_drop(OWNER);
    free(fixture->super_url);
    free(fixture->owner_url);
    free(fixture->guest_url);
    free(fixture);
    return 0;
}

static void expect_migration(struct pg_pool *pool, int from, int to)
{
    struct pg_error error;
    int found_from = -1, found_to = -1;

    if (schema_migrate(pool, pgtest_deadline(WAIT_MS), &found_from, &found_to, &error) != 0)
        fail_msg("%s %s", error.sqlstate, error.message);
    assert_int_equal(found_from, from);
    assert_int_equal(found_to, to);
}

static struct schema_view expect_state(struct pg_pool *pool, enum schema_state state, const char *text)
{
    struct schema_view view;
    struct pg_error error;
    char message[600];

    if (schema_look(pool, "0.1.0", pgtest_deadline(WAIT_MS), &view, &error) != 0)
        fail_msg("%s %s", error.sqlstate, error.message);
    assert_int_equal(view.state, state);
    schema_explain(&view, "0.1.0", message, sizeof(message));
    if (strstr(message, text) == NULL)
        fail_msg("expected <%s>, found <%s>", text, message);
    return view;
}

static void expect_refused(struct pg_pool *pool, const char *sqlstate)
{
    struct pg_error error;
    int from, to;

    assert_int_equal(schema_migrate(pool, pgtest_deadline(WAIT_MS), &from, &to, &error), -1);
    assert_string_equal(error.sqlstate, sqlstate);
}

static void test_owner_installs_once(void **state)
{
    struct fixture *fixture = *state;

    expect_state(fixture->owner, SCHEMA_ABSENT, "cicada-runtime --migrate");
    expect_migration(fixture->owner, 0, SCHEMA_VERSION);
    expect_state(fixture->owner, SCHEMA_READY, "has version 3");
    expect_migration(fixture->owner, SCHEMA_VERSION, SCHEMA_VERSION);
    test_database_expect(fixture->owner_url,
                         "SELECT string_agg(version || ' ' || min_runtime || ' ' || installed_by, ', ')"
                         " FROM cicada.schema_version",
                         "1 0.1.0 " OWNER ", 2 0.1.0 " OWNER ", 3 0.1.0 " OWNER);
}

static void test_role_without_rights_is_told_the_command(void **state)
{
    struct fixture *fixture = *state;
    struct schema_view view;
    struct pg_error error;
    char message[600];

    expect_refused(fixture->guest, "42501");
    assert_int_equal(schema_ensure(fixture->guest, "0.1.0", pgtest_deadline(WAIT_MS), &view, &error), 0);
    assert_int_equal(view.state, SCHEMA_ABSENT);
    schema_explain(&view, "0.1.0", message, sizeof(message));
    assert_string_equal(message, "schema cicada is not in the database: run cicada-runtime --migrate"
                                 " --grant-to='" GUEST "' with the DATABASE_URL of the database's owner"
                                 " (permission denied for database " DATABASE ")");
}

static void test_role_that_may_installs_by_itself(void **state)
{
    struct fixture *fixture = *state;
    struct schema_view view;
    struct pg_error error;

    assert_int_equal(schema_ensure(fixture->owner, "0.1.0", pgtest_deadline(WAIT_MS), &view, &error), 0);
    assert_int_equal(view.state, SCHEMA_READY);
    assert_int_equal(view.version, SCHEMA_VERSION);
}

static bool guest_may(struct fixture *fixture, const char *sql)
{
    struct pg_transaction *tx = pg_transaction_new(fixture->guest, false, pgtest_deadline(WAIT_MS));
    struct pg_result *result;
    struct pg_error error = {0};
    int rc = pg_query(tx, sql, 0, NULL, &result, &error);

    pg_transaction_free(tx);
    if (rc != 0)
        assert_string_equal(error.sqlstate, "42501");
    return rc == 0;
}

static void test_only_those_let_in_may_use_it(void **state)
{
    struct fixture *fixture = *state;
    static const char begin[] = "SELECT cicada.idempotency_begin('n/f', 'k', '')";
    struct pg_error error;

    expect_migration(fixture->owner, 0, SCHEMA_VERSION);
    expect_state(fixture->guest, SCHEMA_FORBIDDEN, "SELECT cicada.grant_to('" GUEST "')");
    assert_false(guest_may(fixture, begin));
    test_database_exec(fixture->super_url, "GRANT USAGE ON SCHEMA cicada TO PUBLIC");
    assert_false(guest_may(fixture, begin)); /* functions are closed too */
    test_database_exec(fixture->super_url, "REVOKE USAGE ON SCHEMA cicada FROM PUBLIC");
    assert_int_equal(schema_grant(fixture->owner, GUEST, pgtest_deadline(WAIT_MS), &error), 0);
    expect_state(fixture->guest, SCHEMA_READY, "");
    assert_true(guest_may(fixture, begin));
    assert_false(guest_may(fixture, "SELECT * FROM cicada.idempotency"));
    assert_false(guest_may(fixture, "DELETE FROM cicada.schema_version"));
    assert_false(guest_may(fixture, "SELECT cicada.grant_to('" GUEST "')"));
    assert_false(guest_may(fixture, "CREATE TABLE cicada.mine ()"));
    expect_refused(fixture->guest, "42501"); /* it belongs to another */
    test_database_exec(fixture->super_url, "DROP OWNED BY " GUEST);
    assert_false(guest_may(fixture, begin));
}

static void test_grant_names_any_role_and_refuses_unknown_ones(void **state)
{
    struct fixture *fixture = *state;
    struct pg_error error;

    expect_migration(fixture->owner, 0, SCHEMA_VERSION);
    pgtest_exec("DROP ROLE IF EXISTS \"Cicada; \"\"Test'\"");
    pgtest_exec("CREATE ROLE \"Cicada; \"\"Test'\"");
    assert_int_equal(schema_grant(fixture->owner, "Cicada; \"Test'", pgtest_deadline(WAIT_MS), &error), 0);
    test_database_expect(fixture->super_url,
                         "SELECT count(*) FROM pg_proc p WHERE pronamespace = 'cicada'::regnamespace AND"
                         " has_function_privilege('Cicada; \"Test''', p.oid, 'EXECUTE') IS DISTINCT FROM"
                         " (prosecdef OR proname IN ('table_install', 'table_drop'))",
                         "0");
    test_database_exec(fixture->super_url,
                       "DROP OWNED BY \"Cicada; \"\"Test'\"; DROP ROLE \"Cicada; \"\"Test'\"");
    assert_int_equal(schema_grant(fixture->owner, "nobody_here", pgtest_deadline(WAIT_MS), &error), -1);
    assert_string_equal(error.sqlstate, "42704");
}

static void test_api_functions_have_a_fixed_search_path(void **state)
{
    struct fixture *fixture = *state;

    expect_migration(fixture->owner, 0, SCHEMA_VERSION);
    test_database_expect(
        fixture->super_url,
        "SELECT count(*) FILTER (WHERE prosecdef) || ' ' || count(*) FILTER (WHERE prosecdef AND"
        " proconfig @> ARRAY['search_path=pg_catalog, pg_temp'] IS NOT TRUE)"
        " FROM pg_proc WHERE pronamespace = 'cicada'::regnamespace",
        "37 0");
}

static void *migrate_thread(void *arg)
{
    const char *url = arg;
    struct pg_pool *pool = pgtest_pool(url, 1);
    struct pg_error error;
    int from = -1, to = -1;
    int rc = schema_migrate(pool, pgtest_deadline(WAIT_MS), &from, &to, &error);

    pg_pool_free(pool);
    return (void *)(intptr_t)(rc == 0 && to == SCHEMA_VERSION ? from : -1);
}

static void test_eight_at_once(void **state)
{
    struct fixture *fixture = *state;
    pthread_t threads[8];
    int installed = 0;

    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, migrate_thread, fixture->owner_url), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *from;
        pthread_join(threads[i], &from);
        assert_true((intptr_t)from == 0 || (intptr_t)from == SCHEMA_VERSION);
        installed += (intptr_t)from == 0;
    }
    assert_int_equal(installed, 1);
    test_database_expect(fixture->owner_url, "SELECT count(*) FROM cicada.schema_version", "3");
}

/* cicada.sql with one more step at the end, as a later release might have it. */
static char *later_release(void)
{
    static const char end[] = "$step$]\n    ];";
    const char *at = strstr(schema_sql, end);

    assert_non_null(at);
    return xasprintf("%.*s$step$],\n ARRAY['9.5', $step$"
                     "CREATE TABLE cicada.later (id integer);"
                     "CREATE FUNCTION cicada.later() RETURNS integer LANGUAGE sql SECURITY DEFINER"
                     " SET search_path = pg_catalog, pg_temp AS 'SELECT count(*)::integer FROM cicada.later';"
                     "%s",
                     (int)(at - schema_sql), schema_sql, at);
}

static void test_upgrade_keeps_data_and_those_let_in(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *sql = later_release();
    struct pg_error error;

    expect_migration(fixture->owner, 0, SCHEMA_VERSION);
    assert_int_equal(schema_grant(fixture->owner, GUEST, pgtest_deadline(WAIT_MS), &error), 0);
    test_database_exec(fixture->guest_url, "SELECT cicada.idempotency_store('n/f', 'k', '', 200, '', '')");
    test_database_exec(fixture->owner_url, sql);
    test_database_expect(fixture->owner_url,
                         "SELECT string_agg(version::text, ',') FROM cicada.schema_version", "1,2,3,4");
    test_database_expect(fixture->guest_url, "SELECT cicada.later()", "0");
    test_database_expect(fixture->owner_url, "SELECT key FROM cicada.idempotency", "k");
    test_database_exec(fixture->owner_url, sql); /* again: nothing to do */
    expect_migration(fixture->owner, 4, 4);      /* an older release leaves it alone */
    test_database_expect(fixture->owner_url, "SELECT count(*) FROM cicada.schema_version", "4");
    expect_state(fixture->guest, SCHEMA_TOO_NEW,
                 "schema cicada has version 4, which needs runtime 9.5 or newer: this is 0.1.0");
    test_database_exec(fixture->owner_url,
                       "UPDATE cicada.schema_version SET min_runtime = '0.1.0' WHERE version = 4");
    expect_state(fixture->guest, SCHEMA_READY, ""); /* a runtime refuses only below min_runtime */
}

/* cicada.sql as it was before its last step. */
static char *release_before(void)
{
    static const char end[] = "$step$]\n    ];";
    const char *at = strstr(schema_sql, end);
    const char *cut = schema_sql;

    assert_non_null(at);
    for (const char *next = cut; next != NULL && next < at; next = strstr(next + 1, "$step$],\n"))
        cut = next;
    assert_ptr_not_equal(cut, schema_sql);
    return xasprintf("%.*s%s", (int)(cut - schema_sql), schema_sql, at);
}

static void test_upgrade_from_the_release_before(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *sql = release_before();
    struct pg_error error;

    test_database_exec(fixture->owner_url, sql);
    test_database_expect(fixture->owner_url, "SELECT version FROM cicada.schema_state()", "2");
    assert_int_equal(schema_grant(fixture->owner, GUEST, pgtest_deadline(WAIT_MS), &error), 0);
    test_database_exec(fixture->guest_url,
                       "SELECT cicada.create_queue('q'); SELECT cicada.enqueue('q', '1')");
    expect_migration(fixture->owner, 2, SCHEMA_VERSION);
    test_database_expect(fixture->guest_url,
                         "SELECT now_at = now() FROM cicada.schedule_look('n','f','t','e')", "t");
    test_database_expect(fixture->owner_url, "SELECT count(*) FROM cicada.event", "1");
    test_database_expect(fixture->super_url,
                         "SELECT count(*) FROM pg_proc p WHERE pronamespace = 'cicada'::regnamespace AND "
                         "(prosecdef OR proname IN ('table_install', 'table_drop')) AND"
                         " NOT has_function_privilege('" GUEST "', p.oid, 'EXECUTE')",
                         "0");
}

static void test_who_may_only_send_events(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *sql = later_release();

    expect_migration(fixture->owner, 0, SCHEMA_VERSION);
    test_database_exec(fixture->owner_url,
                       "SELECT cicada.create_queue('q'); SELECT cicada.grant_enqueue_to('" GUEST "')");
    assert_true(guest_may(fixture, "SELECT cicada.enqueue('q', '1')"));
    assert_true(guest_may(fixture, "SELECT cicada.enqueue_many('q', '{}')"));
    assert_false(guest_may(fixture, "SELECT cicada.event_claim(1, 1, '1 s', true)"));
    assert_false(guest_may(fixture, "SELECT cicada.create_queue('p')"));
    assert_false(guest_may(fixture, "SELECT * FROM cicada.event"));
    test_database_exec(fixture->owner_url, sql); /* an upgrade gives no more */
    assert_true(guest_may(fixture, "SELECT cicada.enqueue('q', '1')"));
    assert_false(guest_may(fixture, "SELECT cicada.later()"));
}

static void test_older_schema_is_upgraded_by_its_owner_only(void **state)
{
    struct fixture *fixture = *state;
    struct schema_view view;
    struct pg_error error;
    char message[600];

    /* Of a release before the first: it has what every release has. */
    test_database_exec(
        fixture->owner_url,
        "CREATE SCHEMA cicada;"
        "CREATE FUNCTION cicada.schema_state(OUT version integer, OUT min_runtime text) LANGUAGE sql"
        " SECURITY DEFINER AS 'SELECT 0, ''0.0.1''';"
        "GRANT USAGE ON SCHEMA cicada TO " GUEST);
    assert_int_equal(schema_ensure(fixture->guest, "0.1.0", pgtest_deadline(WAIT_MS), &view, &error), 0);
    assert_int_equal(view.state, SCHEMA_OLDER);
    schema_explain(&view, "0.1.0", message, sizeof(message));
    assert_string_equal(message,
                        "schema cicada has version 0 and 3 is needed: run cicada-runtime --migrate with the"
                        " DATABASE_URL of its owner (schema cicada belongs to role " OWNER
                        ": run this as that role)");
    test_database_exec(fixture->owner_url, "DROP FUNCTION cicada.schema_state()");
    assert_int_equal(schema_ensure(fixture->owner, "0.1.0", pgtest_deadline(WAIT_MS), &view, &error), 0);
    assert_int_equal(view.state, SCHEMA_READY);
    expect_state(fixture->guest, SCHEMA_READY, ""); /* it was let in before */
}

/* What another role put there must not run with the rights of who installs. */
static void test_schema_of_another_role_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct pg_pool *super = pgtest_pool(fixture->super_url, 1);

    test_database_exec(fixture->super_url, "CREATE SCHEMA cicada AUTHORIZATION " GUEST);
    expect_refused(super, "42501");
    expect_refused(fixture->owner, "42501");
    pg_pool_free(super);
}

static void test_failed_step_leaves_nothing(void **state)
{
    struct fixture *fixture = *state;

    test_database_exec(fixture->owner_url,
                       "CREATE SCHEMA cicada; CREATE TABLE cicada.idempotency (mine integer)");
    expect_refused(fixture->owner, "42P07");
    test_database_expect(fixture->owner_url, "SELECT to_regclass('cicada.schema_version') IS NULL", "t");
    expect_state(fixture->owner, SCHEMA_ABSENT, "--migrate");
}

static void test_waits_for_others_only_so_long(void **state)
{
    struct fixture *fixture = *state;
    struct pg_pool *other = pgtest_pool(fixture->super_url, 1);
    struct pg_transaction *tx = pg_transaction_new(other, false, pgtest_deadline(WAIT_MS));
    int64_t start_ms = clock_monotonic_ms();

    (void)pgtest_query(tx, "SELECT pg_advisory_xact_lock(hashtextextended('cicada.sql', 7310293))");
    expect_refused(fixture->owner, "55P03");
    assert_in_range(clock_monotonic_ms() - start_ms, 4900, 9000);
    pg_transaction_free(tx);
    pg_pool_free(other);
}

static int psql(const char *options, const char *url, char *output, size_t size)
{
    CLEANUP_FREE char *command =
        xasprintf("PGOPTIONS='%s' psql -X -v ON_ERROR_STOP=1 -f '%s/runtime/schema/cicada.sql' '%s' 2>&1",
                  options, getenv("CICADA_TEST_ROOT"), url);
    FILE *pipe = popen(command, "r"); /* NOLINT(cert-env33-c): a test's own command */
    size_t len;

    assert_non_null(pipe);
    len = fread(output, 1, size - 1, pipe);
    output[len] = '\0';
    return pclose(pipe);
}

static void test_psql_installs_the_same(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *path = xasprintf("%s/runtime/schema/cicada.sql", getenv("CICADA_TEST_ROOT"));
    CLEANUP_FREE char *text = NULL;
    struct err err = ERR_INIT;
    char output[4096];
    size_t len;

    assert_int_equal(file_read(path, 1 << 20, &text, &len, &err), 0);
    assert_string_equal(text, schema_sql);
    assert_int_not_equal(
        psql("-c default_transaction_isolation=serializable", fixture->owner_url, output, sizeof(output)), 0);
    assert_non_null(strstr(output, "needs a transaction in READ COMMITTED"));
    assert_int_equal(psql("", fixture->owner_url, output, sizeof(output)), 0);
    assert_non_null(strstr(output, "schema cicada is now at version 1"));
    assert_int_equal(psql("", fixture->owner_url, output, sizeof(output)), 0);
    assert_non_null(strstr(output, "nothing to do"));
    expect_migration(fixture->owner, SCHEMA_VERSION, SCHEMA_VERSION);
}

static void test_pools_of_any_isolation_migrate(void **state)
{
    struct fixture *fixture = *state;
    struct pg_pool *pool = pgtest_pool_with(fixture->owner_url, 1, PG_SERIALIZABLE, 2000);

    expect_migration(pool, 0, SCHEMA_VERSION);
    expect_state(pool, SCHEMA_READY, "");
    pg_pool_free(pool);
}

static void test_database_that_is_away_is_no_state(void **state)
{
    struct pg_pool *pool = pgtest_pool("postgresql://nobody@127.0.0.1:1/none", 1);
    struct schema_view view;
    struct pg_error error;

    (void)state;
    assert_int_equal(schema_ensure(pool, "0.1.0", pgtest_deadline(500), &view, &error), -1);
    assert_true(error.failure == PG_FAILURE_UNREACHABLE || error.failure == PG_FAILURE_DEADLINE);
    pg_pool_free(pool);
}

static void test_releases_are_compared_by_number(void **state)
{
    (void)state;
    assert_int_equal(schema_compare_releases("0.1.0", "0.1.0"), 0);
    assert_int_equal(schema_compare_releases("0.1.0-dev", "0.1"), 0);
    assert_int_equal(schema_compare_releases("0.9.3", "0.10.0"), -1);
    assert_int_equal(schema_compare_releases("1.0", "0.99.99"), 1);
    assert_int_equal(schema_compare_releases("2", "2.0.1"), -1);
    assert_int_equal(schema_compare_releases("", "0.0.0"), 0);
}

static void test_sha256(void **state)
{
    static const unsigned char abc[PG_SHA256_BYTES] = {
        0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
        0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    unsigned char digest[PG_SHA256_BYTES];

    (void)state;
    assert_true(pg_sha256("abc", 3, digest));
    assert_memory_equal(digest, abc, sizeof(abc));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_owner_installs_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_role_without_rights_is_told_the_command, setup, teardown),
        cmocka_unit_test_setup_teardown(test_role_that_may_installs_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_those_let_in_may_use_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_grant_names_any_role_and_refuses_unknown_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(test_api_functions_have_a_fixed_search_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eight_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_upgrade_keeps_data_and_those_let_in, setup, teardown),
        cmocka_unit_test_setup_teardown(test_upgrade_from_the_release_before, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_may_only_send_events, setup, teardown),
        cmocka_unit_test_setup_teardown(test_older_schema_is_upgraded_by_its_owner_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_schema_of_another_role_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_step_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waits_for_others_only_so_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_psql_installs_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pools_of_any_isolation_migrate, setup, teardown),
        cmocka_unit_test(test_database_that_is_away_is_no_state),
        cmocka_unit_test(test_releases_are_compared_by_number),
        cmocka_unit_test(test_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
