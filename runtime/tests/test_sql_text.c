/* The author's text taken apart: parameters, statements, refusals, and the way back to line and column. */
#include "runtime/tests/support_test.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/sql/sql_text.h"

static struct sql_text parse(const char *source)
{
    struct sql_text text;
    struct err err = ERR_INIT;

    if (sql_text_parse(source, &text, &err) != 0)
        fail_msg("%s: %s", source, err.msg);
    return text;
}

/* One statement becomes this one, with these names, separated by blanks, as $1, $2... */
static void becomes(const char *source, const char *expected, const char *names)
{
    struct sql_text text = parse(source);
    CLEANUP_STRBUF struct strbuf list;

    strbuf_init(&list, 4096);
    assert_int_equal(text.statement_count, 1);
    assert_string_equal(text.statements[0].text, expected);
    for (int i = 0; i < text.statements[0].param_count; i++)
        strbuf_appendf(&list, "%s%s", i > 0 ? " " : "", text.names[text.statements[0].params[i]]);
    assert_string_equal(list.buf, names);
    sql_text_release(&text);
}

static void stays(const char *source)
{
    becomes(source, source, "");
}

static void refused(const char *source, const char *message)
{
    struct sql_text text;
    struct err err = ERR_INIT;

    if (sql_text_parse(source, &text, &err) == 0)
        fail_msg("let through: %s", source);
    if (strstr(err.msg, message) != err.msg)
        fail_msg("%s: \"%s\" does not begin with \"%s\"", source, err.msg, message);
}

static void test_parameters(void **state)
{
    (void)state;
    becomes("SELECT :a", "SELECT $1", "a");
    becomes("SELECT :a, :b, :a", "SELECT $1, $2, $1", "a b");
    becomes("SELECT :_x9, :A, :a", "SELECT $1, $2, $3", "_x9 A a");
    becomes("SELECT :a+:b", "SELECT $1+$2", "a b");
    becomes("SELECT(:a)", "SELECT($1)", "a");
    becomes("SELECT :a::int, :b :: text", "SELECT $1::int, $2 :: text", "a b");
    becomes("SELECT x FROM t WHERE y=:a", "SELECT x FROM t WHERE y=$1", "a");
    becomes("SELECT x FROM t WHERE :a=y", "SELECT x FROM t WHERE $1=y", "a");
    becomes("SELECT f(a := :b, c => :d)", "SELECT f(a := $1, c => $2)", "b d");
    becomes("SELECT f(a:=:b)", "SELECT f(a:=$1)", "b");
    becomes("SELECT :a'x'", "SELECT $1'x'", "a"); /* the server's to refuse */
    becomes("SELECT /* :x */ :a -- :y\n, :b", "SELECT /* :x */ $1 -- :y\n, $2", "a b");
    becomes("SELECT :(a), (:(b))", "SELECT $1, ($2)", "a b");
    becomes("SELECT :a ;; ; -- end", "SELECT $1 ", "a");
}

static void test_no_parameters(void **state)
{
    (void)state;
    stays("SELECT a::b, 'x'::text");
    stays("SELECT a:::b");
    stays("SELECT f(a := 1)");
    stays("SELECT : a, a : b");
    stays("SELECT :(a + 1), :(a");
    stays("SELECT ':a', E'\\':a', U&'\\0041:a', n':a', b':a'");
    stays("SELECT 'it''s :a', 'a'\n':a'");
    stays("SELECT E'a'\n'\\' :a'");
    stays("SELECT $$ :a $$, $t$ :a $$ :b $t$");
    stays("SELECT \":a\", \"a\"\":b\", U&\":a\" FROM \"t:b\"");
    stays("SELECT 1 /* :a /* :b */ :c */ + 1 -- :d");
    stays("SELECT a$b:: int FROM t");
    stays("SELECT 1 ? 2, a @> b, a #>> '{:x}'");
}

static void test_slices(void **state)
{
    (void)state;
    stays("SELECT a[1:2], a[:2], a[1:], a[:]");
    stays("SELECT a[:n], a[m:n], a[b[1]:n], a[m : n]");
    stays("SELECT a[1:'2'::int]");
    becomes("SELECT a[:(n)]", "SELECT a[$1]", "n");
    becomes("SELECT a[1: :(n)]", "SELECT a[1: $1]", "n");
    becomes("SELECT a[:(m) : :(n)]", "SELECT a[$1 : $2]", "m n");
    becomes("SELECT ARRAY[:(a), :(b)]", "SELECT ARRAY[$1, $2]", "a b");
    becomes("SELECT a[f(:n)], (:m)[1]", "SELECT a[f($1)], ($2)[1]", "n m");
    becomes("SELECT a[1], :n", "SELECT a[1], $1", "n");
    stays("SELECT a[1:(n + 1)]");
    refused("SELECT ARRAY[1, :a]", "line 1, column 17: within brackets a parameter is written :(name)");
}

/* What stands before a parameter must not swallow it. */
static void test_edges(void **state)
{
    (void)state;
    refused("SELECT $:b$ $", "line 1, column 9: a parameter's name has only");
    becomes("SELECT a:b", "SELECT a $1", "b");
    becomes("SELECT 1:b", "SELECT 1 $1", "b");
    becomes("SELECT $:b", "SELECT $ $1", "b");
    becomes("SELECT \xC3\xA9:b", "SELECT \xC3\xA9 $1", "b");
    becomes("SELECT _:b", "SELECT _ $1", "b");
    becomes("SELECT :(a)2, :(a)b, :(a)$$x$$", "SELECT $1 2, $1 b, $1 $$x$$", "a");
    becomes("SELECT :(a):(b), :a.x, :a.:b", "SELECT $1 $2, $1.x, $1.$2", "a b");
}

static void test_statements(void **state)
{
    (void)state;
    struct sql_text text = parse("SELECT :b; -- one ;\n INSERT INTO t VALUES (';', :a, :b);");

    assert_int_equal(text.statement_count, 2);
    assert_string_equal(text.statements[0].text, "SELECT $1");
    assert_string_equal(text.statements[1].text, "INSERT INTO t VALUES (';', $1, $2)");
    assert_int_equal(text.name_count, 2); /* all see the same */
    assert_int_equal(text.statements[1].params[0], sql_text_find(&text, "a"));
    assert_int_equal(text.statements[1].params[1], text.statements[0].params[0]);
    assert_int_equal(sql_text_find(&text, "c"), -1);
    assert_int_equal(sql_text_find(&text, ""), -1);
    sql_text_release(&text);
    text = parse("SELECT 1;SELECT 2;SELECT 3;SELECT 4;SELECT 5;SELECT 6;SELECT 7;SELECT 8");
    assert_int_equal(text.statement_count, 8);
    sql_text_release(&text);
}

static void test_refused_parameters(void **state)
{
    (void)state;
    refused("SELECT $1", "line 1, column 8: write :name, not $n");
    refused("SELECT 1$1", "line 1, column 9: write :name, not $n");
    refused("SELECT 1,\n  $12", "line 2, column 3: write :name, not $n");
    refused("SELECT :'a'", "line 1, column 8: a parameter is written :name, without quotes");
    refused("SELECT :\"a\"", "line 1, column 8: a parameter is written :name, without quotes");
    refused("SELECT :na\xC3\xAFve", "line 1, column 8: a parameter's name has only letters of ASCII");
    refused("SELECT :a$b", "line 1, column 8: a parameter's name has only letters of ASCII");
    refused("SELECT :a23456789b123456789c123456789d123456789e123456789f123456789g1234",
            "line 1, column 8: a parameter's name has at most 63 characters");
}

static void test_refused_statements(void **state)
{
    static const char *const changes[] = {
        "CREATE TABLE t ()",
        "create function f() returns int begin atomic select :a; end",
        "ALTER TABLE t ADD x int",
        "DROP TABLE t",
        "GRANT a TO b",
        "REVOKE a FROM b",
        "COMMENT ON TABLE t IS ''",
        "SECURITY LABEL ON TABLE t IS ''",
        "REASSIGN OWNED BY a TO b",
        "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c",
        "REINDEX TABLE t",
        "REFRESH MATERIALIZED VIEW v",
        "CLUSTER t",
        "VACUUM",
        "ANALYZE t",
        "CHECKPOINT",
    };
    static const char *const controls[] = {
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "SET a = 1",
        "LISTEN a",
        "PREPARE a AS SELECT 1",
        "COPY t FROM STDIN",
        "DISCARD ALL",
        "LOAD 'x'",
        "RESET a",
        "SET TRANSACTION READ WRITE",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        CLEANUP_FREE char *second = xasprintf("SELECT 1;\n\t%s", changes[i]);
        refused(changes[i], "line 1, column 1: a function does not change the schema");
        refused(second, "line 2, column 2: a function does not change the schema");
    }
    for (size_t i = 0; i < ARRAY_SIZE(controls); i++) {
        CLEANUP_FREE char *second = xasprintf("SELECT 1;\n\t%s", controls[i]);
        refused(controls[i], "line 1, column 1: ");
        refused(second, "line 2, column 2: ");
    }
    refused("SELECT 1 INTO t", "line 1, column 10: SELECT INTO makes a table");
    refused("WITH a AS (SELECT 1) SELECT * INTO TEMP t FROM a", "line 1, column 31: SELECT INTO");
    refused("SELECT (SELECT 2), f(1) INTO t", "line 1, column 25: SELECT INTO makes a table");
    refused("(SELECT 1 INTO t)", "line 1, column 11: SELECT INTO makes a table");
    refused("INSERRT INTO t VALUES (1); SELECT 1 INTO t", "line 1, column 37: SELECT INTO makes a table");
    refused("DECLARE c CURSOR FOR SELECT 1", "line 1, column 1: cursors are not supported");
    refused("FETCH ALL FROM c", "line 1, column 1: cursors are not supported");
}

static void test_let_through(void **state)
{
    static const char *const statements[] = {
        "INSERT INTO t VALUES (1)",
        "WITH a AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM a",
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
        "SELECT 1 AS into",
        "SELECT t.into FROM t",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "VALUES (1)",
        "TABLE t",
        "(SELECT 1)",
        "CALL p()",
        "TRUNCATE t",
        "LOCK TABLE t",
        "NOTIFY a",
        "SET LOCAL a = 1",
        "SET CONSTRAINTS ALL DEFERRED",
        "DO $$ BEGIN END $$",
        "EXPLAIN SELECT 1",
        "SHOW server_version",
        "INSERRT INTO t SELECT 1", /* the server knows better what is wrong with it */
        "WITH a AS (SELECT 1) INSRT INTO t SELECT 1",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(statements); i++)
        stays(statements[i]);
}

static void test_limits(void **state)
{
    CLEANUP_STRBUF struct strbuf sql;

    (void)state;
    refused("", "line 1, column 1: there is no statement");
    refused(" ;\n -- nothing\n/* : */;", "line 1, column 1: there is no statement");
    refused("SELECT 1;SELECT 2;SELECT 3;SELECT 4;SELECT 5;SELECT 6;SELECT 7;SELECT 8;\n SELECT 9",
            "line 2, column 2: more than 8 statements");
    refused("SELECT '\xFF'", "the text is not UTF-8");
    strbuf_init(&sql, 1 << 20);
    for (int i = 0; i < SQL_NAMES_MAX; i++)
        strbuf_appendf(&sql, "%s:p%d", i == 0 ? "SELECT " : ",", i);
    {
        struct sql_text text = parse(sql.buf);
        assert_int_equal(text.name_count, SQL_NAMES_MAX);
        for (int i = 0; i < SQL_NAMES_MAX; i++)
            assert_int_equal(sql_text_find(&text, text.names[i]), i);
        sql_text_release(&text);
    }
    {
        CLEANUP_FREE char *message =
            xasprintf("line 1, column %zu: more than 256 different parameters", sql.len + 2);
        strbuf_append_str(&sql, ",:more");
        refused(sql.buf, message);
    }
    strbuf_clear(&sql);
    for (int i = 0; i <= SQL_NESTING_MAX; i++)
        strbuf_append_char(&sql, '(');
    refused(sql.buf, "line 1, column 1001: more than 1000 parentheses");
    strbuf_clear(&sql);
    strbuf_append_str(&sql, "SELECT ':a");
    while (sql.len < SQL_SOURCE_MAX_BYTES - 1)
        strbuf_append_char(&sql, 'x');
    strbuf_append_char(&sql, '\'');
    stays(sql.buf);
    strbuf_append_char(&sql, ' ');
    refused(sql.buf, "the text is longer than 65536 bytes");
}

/* Every place of the rewritten text leads to the place of the author's text that it came from. */
static void test_places(void **state)
{
    static const char source[] =
        "SELECT 1;\n  UPDATE \xC3\xA4 SET b = :long_name, c = :c WHERE\n x[:(i)] = 1";
    static const struct {
        const char *statement, *source; /* beginning there */
        int line, column;
    } places[] = {
        {"UPDATE", "UPDATE", 2, 3}, {"SET", "SET", 2, 12}, {"$1", ":long_name", 2, 20},
        {", c", ", c", 2, 30},      {"$2", ":c", 2, 36},   {"WHERE", "WHERE", 2, 39},
        {"x[", "x[", 3, 2},         {"$3", ":(i)", 3, 4},  {"] = 1", "] = 1", 3, 8},
    };
    struct sql_text text = parse(source);
    const struct sql_statement *statement = &text.statements[1];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        const char *at = strstr(statement->text, places[i].statement);
        size_t characters = 1, offset;
        int line, column;

        for (const char *p = statement->text; p < at; p++)
            characters += ((unsigned char)*p & 0xC0) != 0x80;
        offset = sql_statement_source(statement, characters);
        assert_memory_equal(source + offset, places[i].source, strlen(places[i].source));
        sql_text_place(source, offset, &line, &column);
        assert_int_equal(line, places[i].line);
        assert_int_equal(column, places[i].column);
    }
    assert_int_equal(sql_statement_source(statement, 0), 12);
    assert_int_equal(sql_statement_source(statement, 100000), sizeof(source) - 1); /* "at end of input" */
    sql_text_release(&text);
}

static void test_reserved(void **state)
{
    struct sql_text text = parse("SELECT :_body, :_query, :_headers, :_path, :_other, :body, :_event");

    (void)state;
    assert_int_equal(text.reserved[0], SQL_RESERVED_BODY);
    assert_int_equal(text.reserved[1], SQL_RESERVED_QUERY);
    assert_int_equal(text.reserved[2], SQL_RESERVED_HEADERS);
    assert_int_equal(text.reserved[3], SQL_RESERVED_PATH);
    assert_int_equal(text.reserved[4], SQL_RESERVED_NONE);
    assert_int_equal(text.reserved[5], SQL_RESERVED_NONE);
    assert_int_equal(text.reserved[6], SQL_RESERVED_EVENT);
    sql_text_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_no_parameters),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_statements),
        cmocka_unit_test(test_refused_parameters),
        cmocka_unit_test(test_refused_statements),
        cmocka_unit_test(test_let_through),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_reserved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
