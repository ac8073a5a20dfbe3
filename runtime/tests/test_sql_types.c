/* What is known of types: the built-in table against pg_type, user types asked for once, threads. */
#include "runtime/tests/support_test.h"

#include <pthread.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/sql/sql_builtin.h"
#include "runtime/sql/sql_encode.h"
#include "runtime/tests/support_postgres.h"

#define SCHEMA         "test_sql_types"
#define THREADS        4
#define TYPES_TO_SHARE 40
#define TYPES_AT_ONCE  100

struct sharer {
    struct pg_pool *pool;
    struct sql_types *types;
    const unsigned *oids;
    int first;
    int unknown; /* how many could not be read */
};

static int set_up_schema(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA IF EXISTS " SCHEMA " CASCADE; CREATE SCHEMA " SCHEMA ";"
                "CREATE TYPE " SCHEMA ".pair AS (a int, b text); CREATE TYPE " SCHEMA ".later AS (a int);"
                "CREATE DOMAIN " SCHEMA ".pairs AS " SCHEMA ".pair[];"
                "CREATE DOMAIN " SCHEMA ".stamp AS timestamptz; CREATE DOMAIN " SCHEMA ".small AS int4;"
                "CREATE DOMAIN " SCHEMA ".smaller AS " SCHEMA ".small; CREATE DOMAIN " SCHEMA ".a_box AS box;"
                "CREATE TYPE " SCHEMA ".mood AS ENUM ('fine')");
    return 0;
}

static int tear_down_schema(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA " SCHEMA " CASCADE");
    return 0;
}

static unsigned oid_of(const char *type)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT '%s'::regtype::oid::int8", type);
    return (unsigned)pgtest_int(sql);
}

static enum sql_type_kind scalar_kind(unsigned oid)
{
    static const struct {
        unsigned oid;
        enum sql_type_kind kind;
    } kinds[] = {{16, SQL_TYPE_BOOL},     {20, SQL_TYPE_NUMBER},      {21, SQL_TYPE_NUMBER},
                 {23, SQL_TYPE_NUMBER},   {700, SQL_TYPE_NUMBER},     {701, SQL_TYPE_NUMBER},
                 {1700, SQL_TYPE_NUMBER}, {114, SQL_TYPE_JSON},       {3802, SQL_TYPE_JSON},
                 {1082, SQL_TYPE_DATE},   {1114, SQL_TYPE_TIMESTAMP}, {1184, SQL_TYPE_TIMESTAMPTZ}};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (kinds[i].oid == oid)
            return kinds[i].kind;
    }
    return SQL_TYPE_TEXT;
}

/* Every type of the server that can be a column's is in the table, with the element and delimiter that pg_type says. */
static void test_built_in_table(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(10000));
    struct pg_result *result = pgtest_query(
        tx, "SELECT t.oid, CASE WHEN t.typinput::text IN ('array_in', 'int2vectorin', 'oidvectorin') THEN "
            "t.typelem ELSE 0"
            " END, CASE WHEN t.oid IN (22, 30) THEN ' ' ELSE e.typdelim::text END FROM pg_type AS t"
            " LEFT JOIN pg_type AS e ON e.oid = t.typelem WHERE t.oid < 10000"
            " AND (t.typtype IN ('b', 'r', 'm') AND e.typtype IS DISTINCT FROM 'c'"
            " OR t.typname IN ('cstring', 'void'))");
    assert_in_range(pg_result_rows(result), 150, 1000);
    for (int row = 0; row < pg_result_rows(result); row++) {
        int64_t oid, element;
        struct sql_type type;
        assert_true(parse_int64(pg_result_value(result, row, 0, NULL), 1, 9999, &oid));
        assert_true(parse_int64(pg_result_value(result, row, 1, NULL), 0, 9999, &element));
        if (!sql_builtin_find((unsigned)oid, &type))
            fail_msg("type %d is not in the table", (int)oid);
        assert_int_equal(type.oid, oid);
        assert_int_equal(type.element_oid, element);
        assert_int_equal(type.kind, element ? SQL_TYPE_ARRAY : scalar_kind((unsigned)oid));
        if (element)
            assert_int_equal(type.delimiter, pg_result_value(result, row, 2, NULL)[0]);
    }
    struct sql_type type;
    assert_false(sql_builtin_find(0, &type));
    assert_false(sql_builtin_find(16384, &type));
    assert_false(sql_builtin_find(83, &type)); /* the rows of pg_class */
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void assert_type(struct sql_types *types, const char *name, enum sql_type_kind kind, const char *is,
                        const char *element, char delimiter)
{
    struct sql_type type;
    if (!sql_types_get(types, oid_of(name), &type))
        fail_msg("%s is not known", name);
    assert_int_equal(type.kind, kind);
    assert_int_equal(type.oid, oid_of(is));
    assert_int_equal(type.element_oid, element ? oid_of(element) : 0);
    assert_int_equal(type.delimiter, delimiter);
}

static void test_user_types(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(10000));
    struct sql_types *types = sql_types_new();
    struct pg_error error;
    struct sql_type type;
    unsigned oids[] = {23,
                       1007,
                       oid_of(SCHEMA ".pairs[]"),
                       oid_of(SCHEMA ".stamp[]"),
                       oid_of(SCHEMA ".smaller"),
                       oid_of(SCHEMA ".a_box[]"),
                       oid_of(SCHEMA ".mood"),
                       4000000000,
                       83};
    assert_int_equal(sql_types_resolve(types, NULL, oids, 2, &error), 0); /* nobody is asked */
    assert_false(sql_types_get(types, oids[2], &type));
    assert_null(sql_types_name(types, oids[2]));
    assert_int_equal(sql_types_resolve(types, tx, oids, ARRAY_SIZE(oids), &error), 0);
    assert_type(types, SCHEMA ".pairs[]", SQL_TYPE_SERVER, SCHEMA ".pairs[]", NULL, 0);
    assert_type(types, SCHEMA ".pairs", SQL_TYPE_SERVER, SCHEMA ".pair[]", NULL, 0);
    assert_type(types, SCHEMA ".pair", SQL_TYPE_SERVER, SCHEMA ".pair", NULL, 0);
    assert_type(types, SCHEMA ".stamp[]", SQL_TYPE_ARRAY, SCHEMA ".stamp[]", SCHEMA ".stamp", ',');
    assert_type(types, SCHEMA ".stamp", SQL_TYPE_TIMESTAMPTZ, "timestamptz", NULL, 0);
    assert_type(types, SCHEMA ".smaller", SQL_TYPE_NUMBER, "int4", NULL, 0);
    assert_type(types, SCHEMA ".a_box[]", SQL_TYPE_ARRAY, SCHEMA ".a_box[]", SCHEMA ".a_box", ';');
    assert_type(types, SCHEMA ".mood", SQL_TYPE_TEXT, SCHEMA ".mood", NULL, 0);
    assert_type(types, "pg_catalog.pg_class", SQL_TYPE_SERVER, "pg_catalog.pg_class", NULL, 0);
    assert_string_equal(sql_types_name(types, oid_of(SCHEMA ".pair")), SCHEMA ".pair");
    assert_false(sql_types_get(types, 4000000000, &type)); /* the server does not know it */
    assert_false(sql_types_get(types, oid_of(SCHEMA ".later"), &type));
    sql_types_free(types);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

/* With a session of its own, where nothing is prepared. */
static int encode(struct sql_types *types, const char *sql, struct pg_error *error)
{
    char storage[200];
    struct strbuf out;
    strbuf_init_fixed(&out, storage, sizeof(storage));
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(10000));
    int failed = sql_encode_value(pgtest_query(tx, sql), types, tx, &out, error);
    if (!failed)
        assert_string_equal(out.buf, "{\"a\":1,\"b\":\"x\"}");
    pg_transaction_free(tx);
    pg_pool_free(pool);
    return failed;
}

/* A type that was renamed fails one request; the next asks again. */
static void test_renamed_type(void **state)
{
    (void)state;
    struct sql_types *types = sql_types_new();
    struct pg_error error;
    assert_int_equal(encode(types, "SELECT ROW(1, 'x')::" SCHEMA ".pair", &error), 0);
    pgtest_exec("ALTER TYPE " SCHEMA ".pair RENAME TO \"two \"\" things\"");
    assert_int_equal(encode(types, "SELECT ROW(1, 'x')::" SCHEMA ".\"two \"\" things\"", &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_SQL);
    assert_string_equal(error.sqlstate, "42704");
    assert_int_equal(encode(types, "SELECT ROW(1, 'x')::" SCHEMA ".\"two \"\" things\"", &error), 0);
    pgtest_exec("ALTER TYPE " SCHEMA ".\"two \"\" things\" RENAME TO pair");
    sql_types_free(types);
}

/* A column that is added or renamed is seen at once: the server knows its composites. */
static void test_altered_composite(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct sql_types *types = sql_types_new();
    struct pg_error error;
    char storage[200];
    struct strbuf out;
    for (int i = 0; i < 2; i++) {
        strbuf_init_fixed(&out, storage, sizeof(storage));
        struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(10000));
        struct pg_result *result = pgtest_query(tx, i == 0 ? "SELECT ROW(1)::" SCHEMA ".later"
                                                           : "SELECT ROW(1, 2)::" SCHEMA ".later");
        assert_int_equal(sql_encode_value(result, types, tx, &out, &error), 0);
        assert_string_equal(out.buf, i == 0 ? "{\"a\":1}" : "{\"c\":1,\"d\":2}");
        pg_transaction_free(tx);
        pgtest_exec(i == 0 ? "ALTER TYPE " SCHEMA ".later RENAME ATTRIBUTE a TO c;"
                             "ALTER TYPE " SCHEMA ".later ADD ATTRIBUTE d int"
                           : "ALTER TYPE " SCHEMA ".later DROP ATTRIBUTE d");
    }
    sql_types_free(types);
    pg_pool_free(pool);
}

static void *share(void *arg)
{
    struct sharer *sharer = arg;
    struct pg_transaction *tx = pg_transaction_new(sharer->pool, true, pgtest_deadline(30000));
    for (int i = 0; i < TYPES_TO_SHARE; i++) {
        unsigned oid = sharer->oids[(sharer->first + i) % TYPES_TO_SHARE];
        struct pg_error error;
        struct sql_type type;
        if (sql_types_resolve(sharer->types, tx, &oid, 1, &error) < 0 ||
            !sql_types_get(sharer->types, oid, &type) || type.kind != SQL_TYPE_SERVER ||
            !sql_types_name(sharer->types, oid))
            sharer->unknown++;
        if (i % 8 == 0)
            sql_types_forget(sharer->types, oid);
    }
    pg_transaction_free(tx);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, THREADS);
    struct sql_types *types = sql_types_new();
    unsigned oids[TYPES_TO_SHARE];
    struct sharer sharers[THREADS];
    pthread_t threads[THREADS];
    pgtest_exec("DO $$ BEGIN FOR i IN 1 .. 40 LOOP EXECUTE format('CREATE TYPE " SCHEMA
                ".shared%s AS (a int)', i); END LOOP; END $$");
    for (int i = 0; i < TYPES_TO_SHARE; i++) {
        CLEANUP_FREE char *name = xasprintf(SCHEMA ".shared%d%s", i + 1, i % 2 ? "[]" : "");
        oids[i] = oid_of(name);
    }
    for (int i = 0; i < THREADS; i++) {
        sharers[i] = (struct sharer){.pool = pool, .types = types, .oids = oids, .first = i * 10};
        assert_int_equal(pthread_create(&threads[i], NULL, share, &sharers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        /* Another thread may forget a type between its being asked for and read. */
        assert_in_range(sharers[i].unknown, 0, TYPES_TO_SHARE / 8 * THREADS);
    }
    sql_types_free(types);
    pg_pool_free(pool);
}

static void test_too_many_types(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(30000));
    struct sql_types *types = sql_types_new();
    struct pg_error error;
    unsigned oids[TYPES_AT_ONCE];
    pgtest_exec("DO $$ BEGIN FOR i IN 1 .. 100 LOOP EXECUTE format('CREATE TYPE " SCHEMA
                ".many%s AS (a int)', i); END LOOP; END $$");
    struct pg_result *result =
        pgtest_query(tx, "SELECT oid FROM pg_type WHERE typtype = 'c' AND typname LIKE 'many%'");
    assert_int_equal(pg_result_rows(result), TYPES_AT_ONCE);
    for (int i = 0; i < TYPES_AT_ONCE; i++)
        oids[i] = (unsigned)strtoul(pg_result_value(result, i, 0, NULL), NULL, 10);
    /* What is forgotten still counts: it may be in use. */
    for (int round = 0; round < SQL_TYPES_MAX / TYPES_AT_ONCE; round++) {
        assert_int_equal(sql_types_resolve(types, tx, oids, TYPES_AT_ONCE, &error), 0);
        for (int i = 0; i < TYPES_AT_ONCE; i++)
            sql_types_forget(types, oids[i]);
    }
    assert_int_equal(sql_types_resolve(types, tx, oids, 1, &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_REFUSED);
    assert_string_equal(error.message, "results have more than 10000 types");
    sql_types_free(types);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void test_unsupported(void **state)
{
    (void)state;
    assert_null(sql_types_unsupported(23));
    assert_null(sql_types_unsupported(2275));
    assert_non_null(strstr(sql_types_unsupported(oid_of("record")), "to_json(...)"));
    assert_non_null(strstr(sql_types_unsupported(oid_of("record[]")), "to_json(...)"));
    assert_non_null(strstr(sql_types_unsupported(oid_of("anyarray")), "to_json(...)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_built_in_table), cmocka_unit_test(test_user_types),
        cmocka_unit_test(test_renamed_type),   cmocka_unit_test(test_altered_composite),
        cmocka_unit_test(test_threads),        cmocka_unit_test(test_too_many_types),
        cmocka_unit_test(test_unsupported),
    };
    return cmocka_run_group_tests(tests, set_up_schema, tear_down_schema);
}
