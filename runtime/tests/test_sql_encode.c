/* Results as JSON: byte for byte what to_json and row_to_json make of the same values, over all types of the server. */
#include "runtime/tests/support_test.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/sql/sql_encode.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_sql_values.h"

#define SCHEMA        "test_sql_encode"
#define OUT_MAX_BYTES (8u << 20)

struct fixture {
    struct pg_pool *pool;
    struct sql_types *types;
    struct pg_transaction *tx;
};

static int set_up_schema(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA IF EXISTS " SCHEMA " CASCADE; CREATE SCHEMA " SCHEMA);
    sql_values_create(SCHEMA);
    pgtest_exec("SET search_path = " SCHEMA "_user;"
                "DROP SCHEMA IF EXISTS " SCHEMA "_user CASCADE; CREATE SCHEMA " SCHEMA "_user;"
                "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION cube;"
                "CREATE TYPE mood AS ENUM ('fine', 'so \"so\"', 'a,b', '{}', 'NULL', 'back\\slash', '');"
                "CREATE TYPE spoken AS ENUM ('yes', 'no');"
                "CREATE FUNCTION spoken_json(spoken) RETURNS json LANGUAGE sql"
                " AS $$ SELECT json_build_object('said', $1::text) $$;"
                "CREATE CAST (spoken AS json) WITH FUNCTION spoken_json(spoken);"
                "CREATE DOMAIN amount AS numeric(12, 2) CHECK (VALUE > -1000);"
                "CREATE DOMAIN amount_of AS amount;"
                "CREATE DOMAIN ints AS int[]; CREATE DOMAIN boxes AS box[]; CREATE DOMAIN a_box AS box;"
                "CREATE DOMAIN said AS spoken; CREATE DOMAIN stamps AS timestamptz[];"
                "CREATE TYPE pair AS (\"a \"\"b\" int, t text, c timestamptz);"
                "CREATE TYPE \"o'dd \"\"na\\me\" AS (p pair, ps pair[], m mood, j jsonb, h hstore, n ints);"
                "CREATE DOMAIN pair_of AS pair;"
                "CREATE TYPE span AS RANGE (subtype = float8);"
                "CREATE TABLE orders (id int, gone int, status text, total numeric(9,2) DEFAULT 1.50);"
                "ALTER TABLE orders DROP COLUMN gone;"
                "INSERT INTO orders SELECT g, 'st ' || g FROM generate_series(1, 5) AS g");
    return 0;
}

static int tear_down_schema(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA " SCHEMA " CASCADE; DROP SCHEMA " SCHEMA "_user CASCADE");
    return 0;
}

static void fixture_init(struct fixture *fixture)
{
    fixture->pool = pgtest_pool(NULL, 1);
    fixture->types = sql_types_new();
    fixture->tx = pg_transaction_new(fixture->pool, false, pgtest_deadline(60000));
}

static void fixture_release(struct fixture *fixture)
{
    pg_transaction_free(fixture->tx);
    sql_types_free(fixture->types);
    pg_pool_free(fixture->pool);
}

static void set(struct fixture *fixture, const char *name, const char *value)
{
    CLEANUP_FREE char *sql = xasprintf("SET LOCAL %s = %s", name, value);
    pg_result_free(pgtest_query(fixture->tx, sql));
}

static void assert_same(const char *sql, const char *is, size_t len, const char *expected,
                        size_t expected_len)
{
    size_t at = 0;
    while (at < len && at < expected_len && is[at] == expected[at])
        at++;
    if (at == len && at == expected_len)
        return;
    size_t from = at > 60 ? at - 60 : 0;
    fail_msg("%s: at byte %zu\n  is       %.120s\n  expected %.120s", sql, at, is + from, expected + from);
}

static void encode_rows(struct fixture *fixture, const struct pg_result *result, struct strbuf *out)
{
    struct pg_error error;
    if (sql_encode_rows(result, fixture->types, fixture->tx, out, &error) < 0)
        fail_msg("failure %d, %s %s", error.failure, error.sqlstate, error.message);
}

/* The rows of a SELECT against what the server says; returns how many values that were. */
static int compare(struct fixture *fixture, const char *sql)
{
    CLEANUP_STRBUF struct strbuf out;
    CLEANUP_FREE char *wrapped = xasprintf(
        "SELECT '[' || coalesce(string_agg(row_to_json(wrapped)::text, ','), '') || ']' FROM (%s) AS wrapped",
        sql);
    strbuf_init(&out, OUT_MAX_BYTES);
    struct pg_result *result = pgtest_query(fixture->tx, sql);
    encode_rows(fixture, result, &out);
    int values = pg_result_rows(result) * pg_result_columns(result);
    pg_result_free(result);
    result = pgtest_query(fixture->tx, wrapped);
    size_t len;
    const char *expected = pg_result_value(result, 0, 0, &len);
    assert_same(sql, out.buf, out.len, expected, len);
    pg_result_free(result);
    return values;
}

/* `select` has the place of the table's name; "but" are names to leave out. */
static int compare_all_tables(struct fixture *fixture, const char *select, const char *but)
{
    CLEANUP_FREE char *sql =
        xasprintf("SELECT replace('%s', 'TABLE', format('" SCHEMA ".%%I', tablename)) FROM pg_tables"
                  " WHERE schemaname = '" SCHEMA "' AND tablename <> ALL ('{%s}') ORDER BY tablename",
                  select, but);
    struct pg_result *selects = pgtest_query(fixture->tx, sql);
    int values = 0;
    for (int i = 0; i < pg_result_rows(selects); i++)
        values += compare(fixture, pg_result_value(selects, i, 0, NULL));
    pg_result_free(selects);
    return values;
}

static int compare_all_values(struct fixture *fixture)
{
    return compare_all_tables(fixture, "SELECT v FROM TABLE ORDER BY id", "");
}

/* Each value as part of a composite, which the server must be able to read back. */
static int compare_all_composites(struct fixture *fixture)
{
    return compare_all_tables(fixture, "SELECT t FROM TABLE AS t ORDER BY id",
                              "pg_node_tree,pg_ndistinct,pg_dependencies,pg_mcv_list");
}

/* The list of generators knows every built-in type; those of PostgreSQL 14 to 18 are the same. */
static void test_generators_cover_all_types(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf sql;
    strbuf_init(&sql, OUT_MAX_BYTES);
    (void)strbuf_append_str(&sql,
                            "SELECT count(*) FROM pg_type WHERE oid < 10000 AND typtype IN ('b', 'r', 'm')"
                            " AND (typcategory <> 'A' OR typname IN ('int2vector', 'oidvector'))"
                            " AND typname NOT IN (''");
    for (size_t i = 0; i < sql_values_count; i++)
        (void)strbuf_appendf(&sql, ", '%s'", sql_values[i].type);
    for (size_t i = 0; i < sql_values_impossible_count; i++)
        (void)strbuf_appendf(&sql, ", '%s'", sql_values_impossible[i]);
    (void)strbuf_append_char(&sql, ')');
    assert_int_equal(pgtest_int(sql.buf), 0);
}

static void test_built_in_types(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    int values = compare_all_values(&fixture) + compare_all_composites(&fixture);
    assert_in_range(values, 13000, 1000000);
    print_message("%d values\n", values);
    for (size_t i = 0; i < sql_values_impossible_count; i++) {
        CLEANUP_FREE char *sql = xasprintf("SELECT NULL::%s AS v", sql_values_impossible[i]);
        (void)compare(&fixture, sql);
    }
    fixture_release(&fixture);
}

/* What a role may have set: text form and to_json use the same output functions, so they agree. */
static void test_settings_of_the_role(void **state)
{
    (void)state;
    static const char *const settings[][5] = {
        {"'Africa/Monrovia'", "postgres_verbose", "escape", "0", "base64"},
        {"'Asia/Kolkata'", "sql_standard", "hex", "-15", "content"},
        {"'America/St_Johns'", "iso_8601", "escape", "3", "hex"},
        {"'Pacific/Apia'", "postgres", "hex", "-3", "hex"},
        {"'Europe/Amsterdam'", "postgres", "hex", "1", "hex"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
        struct fixture fixture;
        fixture_init(&fixture);
        set(&fixture, "timezone", settings[i][0]);
        set(&fixture, "intervalstyle", settings[i][1]);
        set(&fixture, "bytea_output", settings[i][2]);
        set(&fixture, "extra_float_digits", settings[i][3]);
        set(&fixture, "quote_all_identifiers", i % 2 ? "on" : "off");
        set(&fixture, "datestyle", i % 2 ? "'ISO, DMY'" : "'ISO, YMD'");
        assert_in_range(compare_all_values(&fixture) + compare_all_composites(&fixture), 13000, 1000000);
        fixture_release(&fixture);
    }
}

static const char *const built_in_selects[] = {
    "SELECT 1 AS a WHERE false",
    "SELECT FROM generate_series(1, 3)",
    "SELECT 1 AS \"a \"\"b\\ c\", 2 AS \"\x01\x7f\", 3 AS \"ä😀\", NULL AS \"?column?\"",
    "SELECT int4out(5) AS v, pg_sleep(0) AS nothing, 'x' AS \"unknown\", textout('\"\\') AS t",
    "SELECT ARRAY[textout('NULL'), textout('a\"b\\c'), NULL] AS v",
    "SELECT '[5:6]={1,2}'::int[] AS a, '[-2:-1][0:1]={{1,2},{3,NULL}}'::int[] AS b, '{}'::text[] AS c",
    "SELECT ARRAY['', 'null', 'NULL', 'Null', ' ', 'a b', E'\\\\', '\"', '{', '}', E'\\n', ';', NULL] AS v",
    "SELECT ARRAY['\\\"', '''', '[1:2]={}', 'ä', 'NULLS', E'\\\\\"\\\\', ','] AS v",
    "SELECT ARRAY[[[[[['a,b', '{c}']]]]]] AS six, ARRAY['(1,1),(0,0)'::box, NULL, '(2,2),(1,1)'] AS boxes",
    "SELECT ARRAY['{\"a\" : [1,\n2]}', 'null', NULL]::json[] AS v, ARRAY['\"\\\\\"', '[]']::jsonb[] AS b",
    "SELECT ARRAY[date 'infinity', '-infinity', '0044-03-15 BC', '12026-01-01', NULL] AS v",
    "SELECT ARRAY[timestamptz '2026-01-01 00:00:00.125+05:30', '0001-01-01 BC', 'infinity'] AS v",
    "SELECT ARRAY[ARRAY['1 2'::int2vector, ''], ARRAY['-3'::int2vector, NULL]] AS v",
    "SELECT * FROM information_schema.columns ORDER BY table_schema, table_name, ordinal_position LIMIT 50",
    "SELECT * FROM pg_catalog.pg_class ORDER BY oid LIMIT 100",
    "SELECT * FROM pg_catalog.pg_proc ORDER BY oid LIMIT 300",
    "SELECT * FROM pg_catalog.pg_type ORDER BY oid",
    "SELECT * FROM pg_catalog.pg_index ORDER BY indexrelid",
    "SELECT * FROM pg_catalog.pg_settings WHERE name < 'm' ORDER BY name",
    "SELECT array_agg(table_name ORDER BY table_name) AS names FROM information_schema.tables",
    "SELECT repeat('ä\"\\', 100000) AS long, g FROM generate_series(1, 4) AS g",
};

static void test_built_in_selects(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    for (size_t i = 0; i < ARRAY_SIZE(built_in_selects); i++)
        (void)compare(&fixture, built_in_selects[i]);
    fixture_release(&fixture);
}

static const char *const user_selects[] = {
    "SELECT unnest(enum_range(NULL::mood)) AS v",
    "SELECT enum_range(NULL::mood) AS v, ARRAY[enum_range(NULL::mood), enum_range(NULL::mood)] AS two",
    "SELECT 1.5::amount AS a, 2::amount_of AS b, ARRAY[1, 2.25, NULL]::amount_of[] AS c",
    "SELECT ARRAY['{1,2}', NULL, '{}', '[3:3]={5}']::ints[] AS v, '{1}'::ints AS one",
    "SELECT ARRAY['{(1,1),(0,0);(2,2),(0,0)}', '{}']::boxes[] AS v, ARRAY['(1,1),(0,0)', NULL]::a_box[] AS w",
    "SELECT ARRAY['{\"2026-01-01 00:00:00+00\",infinity}', '{NULL}']::stamps[] AS v",
    "SELECT 'yes'::spoken AS v, ARRAY['yes', NULL, 'no']::spoken[] AS vs, 'no'::said AS d, NULL::spoken AS n,"
    " ARRAY[['yes'], ['no']]::said[] AS ds",
    "SELECT 'a=>1, \"b \\\"c\\\"\"=>NULL, d=>\"\\\\\"'::hstore AS h, ARRAY['a=>1', NULL, '']::hstore[] AS hs",
    "SELECT 'Ab\"c'::citext AS v, ARRAY['x', NULL]::citext[] AS vs, '(1,2),(3,4)'::cube AS c",
    "SELECT ROW(1, 'x', '2026-01-01 UTC')::pair AS p, NULL::pair AS n, ROW(NULL, NULL, NULL)::pair AS nulls,"
    " ROW(2, E'a\"b\\\\c,(d)\\n', 'infinity')::pair_of AS d",
    "SELECT ARRAY[ROW(1, 'a', NULL), NULL, ROW(NULL, '', 'epoch')]::pair[] AS v,"
    " ARRAY[[ROW(1, '{}', NULL)], [NULL]]::pair_of[] AS w",
    "SELECT ROW(ROW(1, '\"', 'epoch'), ARRAY[ROW(1, '\\', NULL), NULL]::pair[], 'so \"so\"', '{\"a\": "
    "[1.50]}',"
    " 'a=>\"x\"', '{1,2}')::\"o'dd \"\"na\\me\" AS v",
    "SELECT o, o.id, ARRAY[o, NULL] AS os FROM orders AS o ORDER BY id",
    "SELECT CASE WHEN g % 3 = 0 THEN NULL ELSE ROW(g, repeat('\"', g), now())::pair END AS v, g"
    " FROM generate_series(1, 500) AS g",
    "SELECT '[1.5,2.5)'::span AS r, '{[1,2],[5,)}'::span_multirange AS m, ARRAY['empty', NULL]::span[] AS rs",
    "SELECT NULL::pair AS p, NULL::hstore AS h, NULL::pair[] AS ps WHERE false",
    "SELECT n FROM pg_namespace AS n WHERE nspname = 'pg_toast'",
};

static void test_user_types(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    set(&fixture, "search_path", SCHEMA "_user");
    set(&fixture, "timezone", "'Asia/Kolkata'");
    set(&fixture, "extra_float_digits", "0");
    for (size_t i = 0; i < ARRAY_SIZE(user_selects); i++)
        (void)compare(&fixture, user_selects[i]);
    /* Names of types are known with their schemas. */
    set(&fixture, "search_path", "pg_catalog");
    (void)compare(&fixture, "SELECT o FROM " SCHEMA "_user.orders AS o");
    fixture_release(&fixture);
}

/* Statements that can't be a sub-query: the text is fixed, or holds what the server is asked for beside it. */
static void test_statements_that_cannot_be_wrapped(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *expected;
    } cases[] = {
        {"WITH i AS (INSERT INTO orders VALUES (9, 'new') RETURNING *) SELECT *, 'x' AS x FROM i",
         "[{\"id\":9,\"status\":\"new\",\"total\":1.50,\"x\":\"x\"}]"},
        {"INSERT INTO orders AS o VALUES (9, '\\', 7) RETURNING o, ARRAY[o, NULL] AS os",
         "[{\"o\":{\"id\":9,\"status\":\"\\\\\",\"total\":7.00},\"os\":[{\"id\":9,\"status\":\"\\\\\","
         "\"total\":7.00},null]}]"},
        {"INSERT INTO orders VALUES (10, 'x', -0.5), (11, NULL, NULL) RETURNING id, total, status",
         "[{\"id\":10,\"total\":-0.50,\"status\":\"x\"},{\"id\":11,\"total\":null,\"status\":null}]"},
        {"UPDATE orders SET status = '\"' WHERE id = 10 RETURNING status, total > 0 AS paid",
         "[{\"status\":\"\\\"\",\"paid\":false}]"},
        {"DELETE FROM orders WHERE id = 10", "[]"},
        {"DELETE FROM orders WHERE id = 10 RETURNING *", "[]"},
        {"SHOW datestyle", "[{\"DateStyle\":\"ISO, MDY\"}]"},
        {"EXPLAIN (COSTS OFF) SELECT 1", "[{\"QUERY PLAN\":\"Result\"}]"},
        {"VALUES (1, true), (2, NULL)",
         "[{\"column1\":1,\"column2\":true},{\"column1\":2,\"column2\":null}]"},
        {"SELECT 1 AS a, 2 AS a FOR UPDATE", "[{\"a\":1,\"a\":2}]"},
    };
    struct fixture fixture;
    fixture_init(&fixture);
    set(&fixture, "search_path", SCHEMA "_user");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_STRBUF struct strbuf out;
        strbuf_init(&out, OUT_MAX_BYTES);
        encode_rows(&fixture, pgtest_query(fixture.tx, cases[i].sql), &out);
        assert_string_equal(out.buf, cases[i].expected);
    }
    fixture_release(&fixture);
}

/* Its words are other ones in each version, but always JSON already. */
static void test_plan_as_json(void **state)
{
    (void)state;
    struct fixture fixture;
    CLEANUP_STRBUF struct strbuf out;
    fixture_init(&fixture);
    const struct pg_result *plan = pgtest_query(fixture.tx, "EXPLAIN (COSTS OFF, FORMAT JSON) SELECT 1");
    CLEANUP_FREE char *expected = xasprintf("[{\"QUERY PLAN\":%s}]", pg_result_value(plan, 0, 0, NULL));
    strbuf_init(&out, OUT_MAX_BYTES);
    encode_rows(&fixture, plan, &out);
    assert_string_equal(out.buf, expected);
    fixture_release(&fixture);
}

static void test_row_and_value(void **state)
{
    (void)state;
    struct fixture fixture;
    CLEANUP_STRBUF struct strbuf out;
    struct pg_error error;
    fixture_init(&fixture);
    strbuf_init(&out, OUT_MAX_BYTES);
    set(&fixture, "search_path", SCHEMA "_user");
    struct pg_result *result =
        pgtest_query(fixture.tx, "SELECT o AS row, o.id, ARRAY[1.0, NULL] AS a FROM orders AS o ORDER BY id");
    assert_true(sql_encode_needs_server(result, fixture.types));
    (void)strbuf_append_str(&out, "before ");
    assert_int_equal(sql_encode_row(result, fixture.types, fixture.tx, &out, &error), 0);
    assert_string_equal(out.buf, "before {\"row\":{\"id\":1,\"status\":\"st 1\",\"total\":1.50},\"id\":1,"
                                 "\"a\":[1.0,null]}");
    strbuf_clear(&out);
    assert_int_equal(sql_encode_value(result, fixture.types, fixture.tx, &out, &error), 0);
    assert_string_equal(out.buf, "{\"id\":1,\"status\":\"st 1\",\"total\":1.50}");
    strbuf_clear(&out);
    result = pgtest_query(fixture.tx, "SELECT NULL::int, 1");
    assert_false(sql_encode_needs_server(result, fixture.types));
    assert_int_equal(sql_encode_value(result, fixture.types, NULL, &out, &error), 0);
    assert_string_equal(out.buf, "null");
    fixture_release(&fixture);
}

static void refuses(struct fixture *fixture, const char *sql, enum pg_failure failure, const char *message)
{
    CLEANUP_STRBUF struct strbuf out;
    struct pg_error error = {0};
    strbuf_init(&out, 1000);
    assert_int_equal(
        sql_encode_rows(pgtest_query(fixture->tx, sql), fixture->types, fixture->tx, &out, &error), -1);
    assert_int_equal(error.failure, failure);
    assert_string_equal(error.message, message);
}

static void test_refusals(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    refuses(&fixture, "SELECT ROW(1, 2) AS r", PG_FAILURE_REFUSED,
            "column \"r\": its type is record, whose fields only the statement knows: write to_json(...) "
            "around it");
    refuses(&fixture, "SELECT 1 AS a, array_agg(t) AS ts FROM (SELECT 1) AS t", PG_FAILURE_REFUSED,
            "column \"ts\": its type is record, whose fields only the statement knows: write to_json(...) "
            "around it");
    refuses(&fixture, "SELECT histogram_bounds AS h FROM pg_stats LIMIT 1", PG_FAILURE_REFUSED,
            "column \"h\": its type is anyarray, whose elements only the statement knows: write to_json(...) "
            "around it");
    refuses(&fixture, "SELECT repeat('x', 1000) AS v", PG_FAILURE_TOO_LARGE,
            "the encoded result has too many bytes");
    refuses(&fixture, "SELECT repeat('{', 900)::text AS v, ARRAY[repeat('y', 99)] AS w", PG_FAILURE_TOO_LARGE,
            "the encoded result has too many bytes");
    set(&fixture, "datestyle", "German");
    refuses(&fixture, "SELECT 1 AS a, date '2026-01-02' AS d", PG_FAILURE_REFUSED,
            "column \"d\": a value is not in the form that DateStyle ISO gives it");
    set(&fixture, "datestyle", "SQL");
    refuses(&fixture, "SELECT ARRAY[timestamp '2026-01-02'] AS d", PG_FAILURE_REFUSED,
            "column \"d\": a value is not in the form that DateStyle ISO gives it");
    fixture_release(&fixture);
}

/* The cap is exact: one byte less than needed fails, whatever the byte is. */
static void test_every_cap(void **state)
{
    (void)state;
    struct fixture fixture;
    CLEANUP_STRBUF struct strbuf whole;
    struct pg_error error;
    fixture_init(&fixture);
    strbuf_init(&whole, OUT_MAX_BYTES);
    struct pg_result *result = pgtest_query(
        fixture.tx, "SELECT 1 AS a, E'\\n\"' AS b, ARRAY['x', NULL] AS c, now() AS d, true AS e, NULL AS f,"
                    " 'NaN'::float8 AS g, '1 2'::int2vector AS h FROM generate_series(1, 2)");
    encode_rows(&fixture, result, &whole);
    for (size_t cap = 0; cap <= whole.len; cap++) {
        CLEANUP_STRBUF struct strbuf out;
        strbuf_init(&out, cap);
        int failed = sql_encode_rows(result, fixture.types, NULL, &out, &error);
        assert_int_equal(failed, cap < whole.len ? -1 : 0);
        if (failed)
            assert_int_equal(error.failure, PG_FAILURE_TOO_LARGE);
    }
    fixture_release(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generators_cover_all_types),
        cmocka_unit_test(test_built_in_types),
        cmocka_unit_test(test_settings_of_the_role),
        cmocka_unit_test(test_built_in_selects),
        cmocka_unit_test(test_user_types),
        cmocka_unit_test(test_statements_that_cannot_be_wrapped),
        cmocka_unit_test(test_plan_as_json),
        cmocka_unit_test(test_row_and_value),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_every_cap),
    };
    return cmocka_run_group_tests(tests, set_up_schema, tear_down_schema);
}
