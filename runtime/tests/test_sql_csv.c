/* Results as CSV (RFC 4180). */
#include "runtime/tests/support_test.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/sql/sql_encode.h"
#include "runtime/tests/support_postgres.h"

#define OUT_MAX_BYTES (1u << 20)

struct fixture {
    struct pg_pool *pool;
    struct pg_transaction *tx;
};

static int set_up(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    fixture->pool = pgtest_pool(NULL, 1);
    fixture->tx = pg_transaction_new(fixture->pool, false, pgtest_deadline(20000));
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    pg_transaction_free(fixture->tx);
    pg_pool_free(fixture->pool);
    free(fixture);
    return 0;
}

static void test_csv(void **state)
{
    static const struct {
        const char *sql, *expected;
    } cases[] = {
        {"SELECT 1 AS id, 'chair' AS name", "id,name\r\n1,chair\r\n"},
        {"SELECT NULL AS a, '' AS b, NULL AS c", "a,b,c\r\n,\"\",\r\n"},
        {"SELECT NULL AS a FROM generate_series(1, 2)", "a\r\n\r\n\r\n"},
        {"SELECT 1 AS a WHERE false", "a\r\n"},
        {"SELECT FROM generate_series(1, 2)", ""},
        {"SELECT 'a,b' AS \"x,\"\"y\", 'say \"hi\"' AS b, '\"' AS c, '\"\"' AS d",
         "\"x,\"\"y\",b,c,d\r\n\"a,b\",\"say \"\"hi\"\"\",\"\"\"\",\"\"\"\"\"\"\r\n"},
        {"SELECT E'two\\nlines' AS a, E'cr\\r' AS b, ' x ' AS c, E'\\t' AS d, 'ä;' AS e",
         "a,b,c,d,e\r\n\"two\nlines\",\"cr\r\", x ,\t,ä;\r\n"},
        {"SELECT true AS t, '{1,2}'::int[] AS a, date '2026-01-02' AS d, 1.50 AS n, 'NaN'::float8 AS f",
         "t,a,d,n,f\r\nt,\"{1,2}\",2026-01-02,1.50,NaN\r\n"},
        {"SELECT ROW(1, 'x') AS r", "r\r\n\"(1,x)\"\r\n"},
        {"SHOW intervalstyle", "IntervalStyle\r\npostgres\r\n"},
    };
    struct fixture *fixture = *state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_STRBUF struct strbuf out;
        strbuf_init(&out, OUT_MAX_BYTES);
        assert_int_equal(sql_encode_csv(pgtest_query(fixture->tx, cases[i].sql), &out), 0);
        assert_string_equal(out.buf, cases[i].expected);
    }
}

static void test_every_cap(void **state)
{
    struct fixture *fixture = *state;
    struct pg_result *result = pgtest_query(
        fixture->tx, "SELECT 'a\"b' AS \"c\"\"d\", NULL AS n, '' AS e FROM generate_series(1, 3)");
    CLEANUP_STRBUF struct strbuf whole;
    strbuf_init(&whole, OUT_MAX_BYTES);
    assert_int_equal(sql_encode_csv(result, &whole), 0);
    for (size_t cap = 0; cap <= whole.len; cap++) {
        CLEANUP_STRBUF struct strbuf out;
        strbuf_init(&out, cap);
        assert_int_equal(sql_encode_csv(result, &out), cap < whole.len ? -1 : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_csv, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_cap, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
