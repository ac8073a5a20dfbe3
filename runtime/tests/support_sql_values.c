#include "runtime/tests/support_sql_values.h"

#include "runtime/base/mem.h"
#include "runtime/tests/support_postgres.h"

/* Text of up to 12 characters, out of what is special in JSON, in arrays and in composites, and of all lengths of UTF-8. */
#define TEXT                                                                                                       \
    "(SELECT coalesce(string_agg((ARRAY['a','B','7',' ','\"','\\','{','}',',',';','(',')','[',']','''',"           \
    "E'\\n',E'\\r',E'\\t',E'\\b',E'\\f',E'\\x01',E'\\x1f',E'\\x7f','/','<','&','=',':','NULL','ä','€','😀'])" \
    "[1 + floor(random() * 32)::int], ''), '') FROM generate_series(1, g % 13))"
#define ONE_OF(list) "(" list ")[1 + g % array_length(" list ", 1)]"
#define SIGNED       "(random() * 2 - 1)"
#define LSEG_POINT   "point(" SIGNED " * 10 ^ (g % 20), " SIGNED ")"
#define STAMPS                                                                                               \
    "ARRAY['infinity', '-infinity', '0044-03-15 12:00:00 BC', '4713-01-01 00:00:00 BC', "                    \
    "'294275-12-31 23:59:59.999999', '10000-01-01 00:00:00', '9999-12-31 23:59:59.99', "                     \
    "'1969-12-31 23:59:59.5', '0001-01-01 00:00:00', '0001-12-31 00:00:00.000001 BC', "                      \
    "'1890-01-01 00:00:00', '1700-05-05 05:05:05.12', '2026-03-29 02:30:00', '2000-01-01 00:00:00']"
#define FLOATS                                                                                               \
    "ARRAY['NaN', 'Infinity', '-Infinity', '-0', '0', '1e-30', '1e30', '-1e22', '0.1', '1.5', '100000']"
#define INTERVAL                                                                                             \
    "make_interval(years => (" SIGNED " * 9)::int, months => (" SIGNED " * 30)::int, days => (" SIGNED       \
    " * 100)::int, secs => round((" SIGNED " * 10 ^ (g % 9))::numeric, g % 7)::float8)"
#define STAMP                                                                                                \
    "CASE WHEN g % 3 = 0 THEN " ONE_OF(                                                                      \
        STAMPS) "::timestamp ELSE '2000-01-01'::timestamp + " SIGNED                                         \
                " * interval '1900 years' + random() * interval '1 second' END"
#define RANGE(type, from, to)                                                                                \
    "CASE g % 5 WHEN 0 THEN 'empty' WHEN 1 THEN " type "(NULL, NULL) ELSE " type "(least(" from ", " to      \
    "), greatest(" from ", " to "), " ONE_OF("ARRAY['[]', '[)', '(]', '()']") ") END"

const struct sql_values sql_values[] = {
    {"bool", "g % 2 = 0"},
    {"bytea", "decode(substr(md5(random()::text), 1, 2 * (g % 16)), 'hex') || '\\x005c22'::bytea"},
    {"char", "(g * 3 % 128)::\"char\""},
    {"name", TEXT},
    {"int8", "CASE g % 9 WHEN 0 THEN 9223372036854775807 WHEN 1 THEN -9223372036854775808 ELSE (" SIGNED
             " * 10 ^ (g % 19))::int8 END"},
    {"int2", SIGNED " * 32767"},
    {"int2vector",
     "(SELECT coalesce(string_agg((" SIGNED " * 999)::int2::text, ' '), '') FROM generate_series(1, g % 5))"},
    {"int4", "CASE g % 9 WHEN 0 THEN -2147483648 ELSE " SIGNED " * 10 ^ (g % 10) END"},
    {"regproc", ONE_OF("ARRAY['pg_catalog.now', '-', '1', 'pg_catalog.version']")},
    {"text", TEXT},
    {"oid", "(random() * 4294967295)::int8"},
    {"tid", "format('(%s,%s)', g * 99, g)"},
    {"xid", "(g * 99)::text"},
    {"cid", "(g * 99)::text"},
    {"oidvector", "(SELECT coalesce(string_agg((random() * 99999)::int::text, ' '), '')"
                  " FROM generate_series(1, g % 5))"},
    {"json",
     "CASE g % 4 WHEN 0 THEN '{\"a\" : 1,\n\t\"a\":[1.50, 1e400] }'::json ELSE to_json(" TEXT ") END"},
    {"xml", "format('<a b=\"%s\">%s</a>', g, md5(g::text))"},
    {"pg_node_tree", "(SELECT ev_action FROM pg_catalog.pg_rewrite ORDER BY ev_class DESC LIMIT 1)"},
    {"point", LSEG_POINT},
    {"lseg", "lseg(" LSEG_POINT ", " LSEG_POINT ")"},
    {"path", "CASE g % 2 WHEN 0 THEN popen('((1,2),(3,4.5))') ELSE pclose(path(polygon(g % 7 + 2, circle("
             "point(1, 2), g)))) END"},
    {"box", "box(" LSEG_POINT ", " LSEG_POINT ")"},
    {"polygon", "polygon(g % 7 + 2, circle(" LSEG_POINT ", random()))"},
    {"line", "line(point(g, 1), point(random(), 2))"},
    {"cidr", ONE_OF("ARRAY['10.0.0.0/8', '::/0', '192.168.100.128/25', '2001:db8::/32']")},
    {"float4", "CASE WHEN g % 3 = 0 THEN " ONE_OF(FLOATS) "::float4 ELSE " SIGNED " * 10 ^ (g % 30) END"},
    {"float8",
     "CASE WHEN g % 3 = 0 THEN " ONE_OF(FLOATS) "::float8 ELSE " SIGNED " * 10 ^ (g * 7 % 300 - 150) END"},
    {"circle", "circle(" LSEG_POINT ", random() * 10 ^ (g % 20))"},
    {"macaddr8", "substr(md5(g::text), 1, 16)"},
    {"money", "(" SIGNED " * 10 ^ (g % 14))::numeric"},
    {"macaddr", "substr(md5(g::text), 1, 12)"},
    {"inet", ONE_OF("ARRAY['127.0.0.1', '10.1.2.3/8', '::1', 'fe80::1/64', '::ffff:1.2.3.4']")},
    {"aclitem", "makeaclitem(10, 10, 'SELECT', g % 2 = 0)"},
    {"bpchar", TEXT},
    {"varchar", TEXT},
    {"date",
     "CASE WHEN g % 3 = 0 THEN " ONE_OF(STAMPS) "::timestamp::date ELSE '4713-01-01 BC'::date + (random() * "
                                                "10 ^ (5 + g % 3) * 20)::int END"},
    {"time", "CASE g % 9 WHEN 0 THEN '24:00:00' ELSE '00:00'::time + random() * interval '1 day' END"},
    {"timestamp", STAMP},
    {"timestamptz", "CASE WHEN g % 3 = 0 THEN (" ONE_OF(STAMPS) ")::timestamp AT TIME ZONE 'UTC' ELSE "
                                                                "'2000-01-01 UTC'::timestamptz + " SIGNED
                                                                " * interval '1900 years' END"},
    {"interval", INTERVAL},
    {"timetz",
     "format('%s:00:00.%s%s', g % 24, g, " ONE_OF("ARRAY['+00', '-03:30', '+05:45:10', '+14']") ")"},
    {"bit", "(g % 2)::text"},
    {"varbit", "(g * 77)::bit(20)::text"},
    {"numeric", "CASE g % 9 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' WHEN 2 THEN '-Infinity' WHEN 3 THEN "
                "12345678901234567890123456789.10 ELSE " SIGNED "::numeric * 10::numeric ^ (g * 5 - 90) END"},
    {"refcursor", TEXT},
    {"regprocedure", ONE_OF("ARRAY['pg_catalog.now()', '-', 'pg_catalog.abs(double precision)', '2']")},
    {"regoper", ONE_OF("ARRAY['pg_catalog.||/', '0', '3']")},
    {"regoperator",
     ONE_OF("ARRAY['+(int,int)', '@@(NONE,pg_catalog.circle)', '0', '&&(anyarray,anyarray)', '4']")},
    {"regclass", ONE_OF("ARRAY['pg_class'::regclass, '-', 'information_schema.\"tables\"', '5']")},
    {"regtype", ONE_OF("ARRAY['timestamptz', '\"char\"', '_numeric', 'information_schema.yes_or_no', '-']")},
    {"uuid", "md5(random()::text)"},
    {"txid_snapshot", "format('%s:%s:%s', g, g + 9, g + 1)"},
    {"pg_lsn", "pg_lsn '0/0' + (random() * 10 ^ (g % 18))::numeric(20, 0)"},
    {"pg_ndistinct", "(SELECT stxdndistinct FROM pg_catalog.pg_statistic_ext_data LIMIT 1)"},
    {"pg_dependencies", "(SELECT stxddependencies FROM pg_catalog.pg_statistic_ext_data LIMIT 1)"},
    {"pg_mcv_list", "(SELECT stxdmcv FROM pg_catalog.pg_statistic_ext_data LIMIT 1)"},
    {"tsvector", "setweight(to_tsvector('simple', md5(g::text) || ' it''s a \\ b ' || g), 'A')"},
    {"tsquery", "phraseto_tsquery('simple', md5(g::text) || ' x''y \\ ' || g)"},
    {"regconfig", ONE_OF("ARRAY['english', 'simple', '-']")},
    {"regdictionary", ONE_OF("ARRAY['english_stem', 'simple', '-']")},
    {"jsonb", "jsonb_build_object(" TEXT ", ARRAY[g, 2.50], 'n', NULL, 't', " TEXT ")"},
    {"int4range", RANGE("int4range", "g", "g * 9")},
    {"numrange", RANGE("numrange", "g / 7.0", "-g")},
    {"tsrange", RANGE("tsrange", "'2026-01-01'::timestamp + g * interval '1.5 s'", "'infinity'")},
    {"tstzrange", RANGE("tstzrange", "'2026-01-01 UTC'::timestamptz + g * interval '1.5 s'", "'-infinity'")},
    {"daterange", RANGE("daterange", "'0004-01-01 BC'::date + g * 999", "'2026-01-01'")},
    {"int8range", RANGE("int8range", "g * 99999999999", "g")},
    {"jsonpath", "format('$.\"%s\"[%s].x ? (@ > 1)', md5(g::text), g)"},
    {"regnamespace", ONE_OF("ARRAY['pg_catalog', 'information_schema', '-']")},
    {"regrole", ONE_OF("ARRAY['postgres', '-', '9']")},
    {"regcollation", ONE_OF("ARRAY['\"C\"', '\"POSIX\"', '-']")},
    {"int4multirange", "format('{[%s,%s),[%s,)}', g, g + 3, g + 99)"},
    {"nummultirange", "format('{[%s,%s],[%s,)}', g, g + 1.50, g + 99)"},
    {"tsmultirange", "'{[2026-01-01 00:00:00.5,2026-01-02),[2027-01-01,infinity)}'"},
    {"tstzmultirange", "'{[2026-01-01 00:00:00.5Z,2026-01-02Z),[2027-01-01Z,infinity)}'"},
    {"datemultirange", "format('{[2026-01-01,2026-01-%s)}', 2 + g % 20)"},
    {"int8multirange", "CASE g % 2 WHEN 0 THEN '{}' ELSE format('{[%s,%s)}', g, g * 99999999999) END"},
    {"pg_snapshot", "format('%s:%s:%s', g, g + 9, g + 1)"},
    {"xid8", "(random() * 10 ^ (g % 19))::int8::text"},
};
const size_t sql_values_count = ARRAY_SIZE(sql_values);

const char *const sql_values_impossible[] = {"gtsvector", "pg_brin_bloom_summary",
                                             "pg_brin_minmax_multi_summary"};
const size_t sql_values_impossible_count = ARRAY_SIZE(sql_values_impossible);

/* Names of types mean those of the system, not the rows of tables with the same names. */
static void execute(const char *schema, const char *script)
{
    CLEANUP_FREE char *sql =
        xasprintf("SET search_path = pg_catalog, \"%s\"; SELECT setseed(0.5); %s", schema, script);
    pgtest_exec(sql);
}

static void create_table(const char *schema, const struct sql_values *values)
{
    CLEANUP_FREE char *sql = xasprintf(
        "CREATE TABLE \"%s\".\"%s\" AS SELECT g AS id, CASE WHEN g %% 11 = 0 THEN NULL ELSE (%s)::\"%s\""
        " END AS v FROM generate_series(1, %d) AS g",
        schema, values->type, values->expression, values->type, SQL_VALUES_PER_TYPE);
    execute(schema, sql);
}

static void create_correlated(const char *schema)
{
    CLEANUP_FREE char *sql = xasprintf(
        "CREATE TABLE \"%1$s\".correlated AS SELECT g %% 5 AS a, g %% 5 AS b FROM generate_series(1, 100) AS "
        "g;"
        "CREATE STATISTICS \"%1$s\".of_correlated (ndistinct, dependencies, mcv) ON a, b FROM correlated;"
        "ANALYZE correlated",
        schema);
    execute(schema, sql);
}

/* From the table of each type with an array type; 44 is the number of rows. */
static void create_arrays(const char *schema)
{
    CLEANUP_FREE char *sql = xasprintf(
        "DO $$ DECLARE name text; BEGIN FOR name IN SELECT typname FROM pg_type JOIN pg_tables"
        " ON tablename = typname AND schemaname = '%1$s'"
        " WHERE typarray <> 0 AND typnamespace = 'pg_catalog'::regnamespace LOOP EXECUTE replace("
        "$q$CREATE TABLE \"%1$s\".\"_TYPE\" AS SELECT x.id, CASE x.id %% 6 WHEN 0 THEN '{}'::\"_TYPE\""
        " WHEN 1 THEN ARRAY[x.v, y.v, NULL] WHEN 2 THEN ARRAY[[x.v, y.v], [NULL, x.v]]"
        " WHEN 3 THEN ('[-1:0]=' || ARRAY[x.v, y.v]::text)::\"_TYPE\" WHEN 4 THEN ARRAY[[[x.v], [y.v]]]"
        " ELSE ARRAY[y.v] END AS v FROM \"%1$s\".\"TYPE\" AS x JOIN \"%1$s\".\"TYPE\" AS y ON y.id = 1 + "
        "x.id %% 44"
        " UNION ALL SELECT 0, NULL$q$, 'TYPE', name); END LOOP; END $$",
        schema);
    execute(schema, sql);
}

void sql_values_create(const char *schema)
{
    create_correlated(schema);
    for (size_t i = 0; i < sql_values_count; i++)
        create_table(schema, &sql_values[i]);
    CLEANUP_FREE char *drop = xasprintf("DROP TABLE \"%s\".correlated", schema);
    execute(schema, drop);
    create_arrays(schema);
}
