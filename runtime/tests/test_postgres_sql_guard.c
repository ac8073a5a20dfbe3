/* What the guard lets through, refuses, and takes note of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/postgres/sql_guard.h"
#include "runtime/postgres/sql_guard_cache.h"
#include "runtime/postgres/sql_lexer.h"

static struct sql_guard_report check(const char *sql)
{
    struct sql_guard_report report;
    sql_guard_check(sql, &report);
    return report;
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const statements[] = {
        "BEGIN",
        "begin work",
        "START TRANSACTION",
        "COMMIT",
        "Commit;",
        "END",
        "ROLLBACK",
        "ROLLBACK TO x",
        "ABORT",
        "SAVEPOINT a",
        "RELEASE a",
        "PREPARE TRANSACTION 'x'",
        "COMMIT PREPARED 'x'",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DEALLOCATE ALL",
        "DISCARD ALL",
        "LISTEN a",
        "UNLISTEN *",
        "RESET ALL",
        "LOAD 'x'",
        "COPY t FROM STDIN",
        "copy (select 1) to stdout",
        "SET search_path = x",
        "SET SESSION a = 1",
        "SET TRANSACTION READ WRITE",
        "SET ROLE x",
        "SET TIME ZONE 'UTC'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET LOCAL transaction_read_only = off",
        "set local Transaction isolation level serializable",
        "SET LOCAL \"transaction_read_only\" = off",
        "SET LOCAL U&\"transaction_read_only\" = off",
        "SET /* x */ LOCAL -- y\n transaction_read_only = off",
        "  \n\t COMMIT",
        "/* a /* b */ c */ COMMIT",
        "-- x\nCOMMIT",
        "--x\rCOMMIT",
        ";COMMIT",
        ";;\n;COMMIT",
        "\fCOMMIT",
        "",
        "   ",
        ";",
        "-- only a comment",
        "/* open",
        "SELECT 1; SELECT 2",
        "SELECT 1;;COMMIT",
        "SELECT ';'; COMMIT",
        "SELECT 1; -- x\nCOMMIT",
        "SELECT E'\\'; ' ; COMMIT",
        "SELECT '\\'; COMMIT",
        "SELECT $$;$$; COMMIT",
        "SELECT $a$ $b$ ; $a$; COMMIT",
        "SELECT \";\"; COMMIT",
        "SELECT 1 /* ; */; COMMIT",
        "SELECT E'a'\n'\\';'; COMMIT",
        "SELECT (1); COMMIT",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 1; END; "
        "COMMIT",
    };
    for (size_t i = 0; i < ARRAY_SIZE(statements); i++) {
        if (!check(statements[i]).refusal)
            fail_msg("let through: %s", statements[i]);
    }
}

static void test_let_through(void **state)
{
    (void)state;
    static const char *const statements[] = {
        "SELECT 1",
        "SELECT 1;",
        "SELECT 1 ;;  ; -- done",
        "(SELECT 1) UNION (SELECT 2)",
        "WITH a AS (SELECT 1) TABLE a",
        "INSERT INTO t VALUES ('COMMIT; ROLLBACK')",
        "SELECT 'a''; COMMIT'",
        "SELECT E'\\'; COMMIT'",
        "SELECT E'\\\\', ';'",
        "SELECT $$; COMMIT$$",
        "SELECT $tag$; $$ ; $other$ $tag$",
        "SELECT \"a\"\"; COMMIT\"",
        "SELECT 1 /* ; /* ; */ COMMIT */",
        "SELECT 1 -- ; COMMIT\n + 1",
        "SELECT U&'\\0041; COMMIT'",
        "SELECT b'01', x'1F', n';'",
        "SELECT $1, $2::text",
        "SELECT a$b$c, ';' FROM t",
        "SELECT 'a' -- x\n ';COMMIT'",
        "SELECT E'a' -- not yet ' \n '\\';COMMIT'",
        "SET LOCAL search_path = x",
        "SET LOCAL ROLE x",
        "set local statement_timeout = 1",
        "SET CONSTRAINTS ALL DEFERRED",
        "NOTIFY a, 'b'",
        "LOCK TABLE t",
        "SHOW server_version",
        "CALL p(1)",
        "DO $$ BEGIN COMMIT; END $$",
        "VALUES (1)",
        "CREATE TABLE begin_x (id int)",
        "SELECT commit FROM begin",
        "EXPLAIN SELECT 1",
        "DECLARE c CURSOR FOR SELECT 1",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 1; END;",
        "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); "
        "END",
        "SELECT 'open",
        "SELECT $x$ open",
        "SELECT \"open",
        "SELECT 1 /* open",
    };
    for (size_t i = 0; i < ARRAY_SIZE(statements); i++) {
        struct sql_guard_report report = check(statements[i]);
        if (report.refusal)
            fail_msg("refused: %s (%s)", statements[i], report.refusal);
    }
}

static void test_session_changes(void **state)
{
    (void)state;
    static const char *const changing[] = {
        "SELECT set_config('a.b', $1, false)",
        "SELECT set_config('a.b', 'x', $1)",
        "SELECT set_config($1, (SELECT 'a'), not true)",
        "SELECT pg_catalog.SET_CONFIG('a', 'b', false), 1",
        "SELECT set_config('a', 'b', true), set_config('a', 'b', false)",
        "SELECT set_config('a', set_config('b', 'c', false), true)",
        "CREATE TEMP TABLE t (id int)",
        "CREATE TEMPORARY TABLE t AS SELECT 1",
        "create local temp table t (id int)",
        "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
        "SELECT 1 INTO TEMP t",
        "CREATE TABLE pg_temp.t (id int)",
        "CREATE TEMP TABLE t (id int) ON COMMIT DELETE ROWS",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1, 2)",
        "SELECT setseed(0.5)",
        "SELECT dblink_connect('x')",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    };
    static const char *const harmless[] = {
        "SELECT set_config('app.user', $1, true)",
        "SELECT set_config('a', f(1, false), TRUE) FROM t",
        "SELECT set_config ('a', 'false', /* x */ true)",
        "SELECT set_config('a', (SELECT 'x'), true), false",
        "CREATE TEMP TABLE t (id int) ON COMMIT DROP",
        "SELECT temp, temporary FROM weather",
        "INSERT INTO temp VALUES (1)",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1)",
        "SELECT 'pg_advisory_lock'",
        "SELECT \"setseed\" FROM t",
        "CREATE TABLE t (hold int)",
    };
    for (size_t i = 0; i < ARRAY_SIZE(changing); i++) {
        if (!check(changing[i]).changes_session)
            fail_msg("not noticed: %s", changing[i]);
        assert_null(check(changing[i]).refusal);
    }
    for (size_t i = 0; i < ARRAY_SIZE(harmless); i++) {
        if (check(harmless[i]).changes_session)
            fail_msg("blamed: %s", harmless[i]);
    }
}

static void test_preparable(void **state)
{
    (void)state;
    assert_true(check("SELECT 1").preparable);
    assert_true(check("/* x */ with a as (select 1) select * from a").preparable);
    assert_true(check("(SELECT 1) UNION SELECT 2").preparable);
    assert_true(check("UPDATE t SET a = 1").preparable);
    assert_false(check("CREATE TABLE t (id int)").preparable);
    assert_false(check("SET LOCAL a = 1").preparable);
    assert_false(check("\"select\"").preparable);
}

static void test_tokens_cover_the_text(void **state)
{
    (void)state;
    const char *sql = "SELECT e, E'\\'' , U&\"x\" -- end", *p = sql;
    static const enum sql_token_kind kinds[] = {SQL_WORD,  SQL_WORD,   SQL_COMMA, SQL_STRING,
                                                SQL_COMMA, SQL_QUOTED, SQL_END};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        assert_int_equal(sql_lexer_next(&p).kind, kinds[i]);
    assert_ptr_equal(p, sql + strlen(sql));
}

/* The same text is looked at once, another one at the same address anew. */
static void test_cache(void **state)
{
    (void)state;
    struct sql_guard_cache cache = {0};
    struct sql_guard_report report;
    char text[SQL_GUARD_CACHE_MAX_BYTES * 2] = "SELECT 1";
    for (int i = 0; i < 3; i++) {
        sql_guard_cache_check(&cache, text, &report);
        assert_null(report.refusal);
        assert_true(report.preparable && report.is_query && !report.changes_session);
    }
    memcpy(text, "COMMIT", sizeof("COMMIT"));
    sql_guard_cache_check(&cache, text, &report);
    assert_non_null(report.refusal);
    memcpy(text, "SELECT 1", sizeof("SELECT 1"));
    sql_guard_cache_check(&cache, text, &report);
    assert_null(report.refusal);
    memset(text, ' ', sizeof(text) - 1); /* too long to be kept */
    memcpy(text, "CALL p()", strlen("CALL p()"));
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < 2; i++) {
        sql_guard_cache_check(&cache, text, &report);
        assert_true(!report.refusal && !report.is_query);
    }
    for (int i = 0; i < SQL_GUARD_CACHE_SLOTS * 2; i++) { /* more texts than slots */
        CLEANUP_FREE char *other = xasprintf("SELECT %d", i);
        sql_guard_cache_check(&cache, other, &report);
        assert_true(report.is_query);
    }
    sql_guard_cache_release(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_let_through),
        cmocka_unit_test(test_session_changes),
        cmocka_unit_test(test_preparable),
        cmocka_unit_test(test_tokens_cover_the_text),
        cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
