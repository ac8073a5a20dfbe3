/* Transactions through a real PgBouncer in transaction mode: many connections of ours, few sessions of the server. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_pgbouncer.h"
#include "runtime/tests/support_postgres.h"

#define SESSIONS 3

static int set_up(void **state)
{
    struct pgbouncer *pgbouncer = xcalloc(1, sizeof(*pgbouncer));

    pgtest_exec("DROP SCHEMA IF EXISTS test_pooler CASCADE; CREATE SCHEMA test_pooler;"
                "CREATE TABLE test_pooler.item (id int PRIMARY KEY);"
                "CREATE TABLE test_pooler.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
                "CREATE TABLE test_pooler.shape (a int)");
    pgbouncer_start(pgbouncer, pgtest_port(), SESSIONS);
    *state = pgbouncer;
    return 0;
}

static int tear_down(void **state)
{
    pgbouncer_stop(*state);
    free(*state);
    pgtest_exec("DROP SCHEMA test_pooler CASCADE");
    return 0;
}

static struct pg_pool *new_pool(const char *url, int size, enum pg_isolation isolation)
{
    const struct pg_pool_settings settings = {.url = url,
                                              .size = size,
                                              .isolation = isolation,
                                              .pooler = true,
                                              .connect_timeout_ms = 2000,
                                              .application_name = "cicada test"};
    struct pg_pool *pool;
    struct err err = ERR_INIT;

    if (pg_pool_new(&settings, &pool, &err) < 0)
        fail_msg("%s", err.msg);
    pg_pool_start(pool);
    return pool;
}

static struct pg_transaction *begin(struct pg_pool *pool)
{
    return pg_transaction_new(pool, false, pgtest_deadline(5000));
}

static void expect_items(int64_t count)
{
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_pooler.item"), count);
    pgtest_exec("TRUNCATE test_pooler.item");
}

static void test_commit_and_rollback(void **state)
{
    struct pg_pool *pool = new_pool(((struct pgbouncer *)*state)->url, 2, PG_READ_COMMITTED);
    struct pg_transaction *tx = begin(pool);
    struct pg_error error;

    (void)pgtest_query(tx, "INSERT INTO test_pooler.item VALUES (1)");
    assert_string_equal(pgtest_value(tx, "SHOW standard_conforming_strings"), "on");
    assert_string_equal(pgtest_value(tx, "SHOW datestyle"), "ISO, MDY");
    assert_string_not_equal(pgtest_value(tx, "SHOW statement_timeout"), "0");
    assert_string_equal(pgtest_value(tx, "SELECT setting::int BETWEEN 5000 AND 10000 FROM pg_settings"
                                         " WHERE name = 'idle_in_transaction_session_timeout'"),
                        "t"); /* 5 s more than the deadline */
    pgtest_commit(tx);
    pg_transaction_free(tx);
    tx = begin(pool);
    (void)pgtest_query(tx, "INSERT INTO test_pooler.item VALUES (2)");
    error = pgtest_query_fails(tx, "INSERT INTO test_pooler.item VALUES (1)", PG_FAILURE_SQL);
    assert_string_equal(error.sqlstate, "23505");
    pg_transaction_free(tx);
    tx = begin(pool);
    (void)pgtest_query(tx, "INSERT INTO test_pooler.late VALUES (1), (1)");
    error = pgtest_commit_fails(tx, PG_FAILURE_SQL);
    assert_string_equal(error.sqlstate, "23505");
    pg_transaction_free(tx);
    tx = begin(pool);
    struct pg_result *result;
    assert_int_equal(
        pg_query_commit(tx, "INSERT INTO test_pooler.item VALUES (3) RETURNING id", 0, NULL, &result, &error),
        0);
    assert_string_equal(pg_result_value(result, 0, 0, NULL), "3");
    pg_transaction_free(tx);
    expect_items(2);
    struct pg_pool_stats stats;
    pg_pool_stats(pool, &stats);
    assert_int_equal(stats.connects, 1);
    pg_pool_free(pool);
}

/* Nothing of a transaction is seen by the next one on the same session. */
static void test_sessions_stay_clean(void **state)
{
    static const char *const refused[] = {"SELECT set_config('work_mem', '1MB', false)",
                                          "CREATE TEMP TABLE t (a int)", "SELECT pg_advisory_lock(1)",
                                          "SET work_mem = '1MB'"};
    struct pg_pool *pool = new_pool(((struct pgbouncer *)*state)->url, 1, PG_READ_COMMITTED);

    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        struct pg_transaction *tx = begin(pool);
        (void)pgtest_query_fails(tx, refused[i], PG_FAILURE_REFUSED);
        pg_transaction_free(tx);
    }
    for (int i = 0; i < 10; i++) {
        struct pg_transaction *tx = begin(pool);
        assert_string_equal(pgtest_value(tx, "SELECT count(*) FROM pg_prepared_statements"), "0");
        assert_string_equal(pgtest_value(tx, "SHOW work_mem"), "4MB");
        (void)pgtest_query(tx, "SET LOCAL work_mem = '1MB'");
        pgtest_commit(tx);
        pg_transaction_free(tx);
    }
    pg_pool_free(pool);
}

static void test_parameters_and_large_results(void **state)
{
    struct pg_pool *pool = new_pool(((struct pgbouncer *)*state)->url, 1, PG_READ_COMMITTED);
    struct pg_transaction *tx = begin(pool);
    const size_t size = 3 << 20;
    CLEANUP_FREE char *large = xcalloc(1, size + 1);
    const char *params[] = {NULL, large, "7"};
    struct pg_result *result;
    struct pg_error error;

    memset(large, 'x', size);
    for (int i = 0; i < 3; i++) {
        size_t len;
        assert_int_equal(pg_query(tx, "SELECT $1::int, $2::text, $3::int + 1", 3, params, &result, &error),
                         0);
        (void)pg_result_value(result, 0, 1, &len);
        assert_int_equal(len, size);
    }
    assert_int_equal(
        pg_result_rows(pgtest_query(tx, "SELECT g, repeat('y', 100) FROM generate_series(1, 50000) g")),
        50000);
    pgtest_commit(tx);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void test_isolation_and_savepoints(void **state)
{
    struct pg_pool *pool = new_pool(((struct pgbouncer *)*state)->url, 2, PG_SERIALIZABLE);
    struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(5000));
    struct pg_error error;

    assert_string_equal(pgtest_value(tx, "SHOW transaction_isolation"), "serializable");
    assert_string_equal(
        pgtest_query_fails(tx, "INSERT INTO test_pooler.item VALUES (6)", PG_FAILURE_SQL).sqlstate, "25006");
    pg_transaction_free(tx);
    tx = begin(pool);
    assert_int_equal(pg_savepoint(tx, &error), 0);
    (void)pgtest_query_fails(tx, "SELECT 1 / 0", PG_FAILURE_SQL);
    assert_int_equal(pg_savepoint_rollback(tx, &error), 0);
    assert_int_equal(pg_savepoint(tx, &error), 0);
    (void)pgtest_query(tx, "INSERT INTO test_pooler.item VALUES (1)");
    assert_int_equal(pg_savepoint_release(tx, &error), 0);
    pgtest_commit(tx);
    pg_transaction_free(tx);
    tx = begin(pool);
    (void)pgtest_query(tx, "SELECT * FROM test_pooler.item");
    pgtest_exec("INSERT INTO test_pooler.item VALUES (9)");
    pgtest_exec("UPDATE test_pooler.item SET id = 2 WHERE id = 1");
    assert_string_equal(
        pgtest_query_fails(tx, "UPDATE test_pooler.item SET id = 3 WHERE id = 1", PG_FAILURE_SQL).sqlstate,
        "40001");
    pg_transaction_free(tx);
    expect_items(2);
    pg_pool_free(pool);
}

/* There is no plan to become stale. */
static void test_ddl_by_others(void **state)
{
    struct pg_pool *pool = new_pool(((struct pgbouncer *)*state)->url, 1, PG_READ_COMMITTED);

    for (int columns = 1; columns <= 3; columns++) {
        struct pg_transaction *tx = begin(pool);
        CLEANUP_FREE char *sql = xasprintf("ALTER TABLE test_pooler.shape ADD COLUMN c%d int", columns);
        (void)pgtest_query(tx, "SELECT 1");
        assert_int_equal(pg_result_columns(pgtest_query(tx, "SELECT * FROM test_pooler.shape")), columns);
        pgtest_commit(tx);
        pg_transaction_free(tx);
        pgtest_exec(sql);
    }
    pg_pool_free(pool);
}

static int count_row(void *arg, const struct pg_result *row)
{
    (void)row;
    ++*(int *)arg;
    return 0;
}

static void test_rows_one_by_one(void **state)
{
    struct pg_pool *pool = new_pool(((struct pgbouncer *)*state)->url, 1, PG_READ_COMMITTED);
    struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(20000));
    struct pg_error error;
    int rows = 0;

    assert_int_equal(pg_query_each(tx, "SELECT repeat('x', 1000) FROM generate_series(1, 100000)", 0, NULL,
                                   count_row, &rows, &error),
                     0);
    assert_int_equal(rows, 100000);
    pgtest_commit(tx);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void *cancel_soon(void *arg)
{
    pgtest_sleep_ms(150);
    pg_transaction_cancel(arg);
    return NULL;
}

static void test_deadline_and_cancel(void **state)
{
    struct pg_pool *pool = new_pool(((struct pgbouncer *)*state)->url, 1, PG_READ_COMMITTED);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(400));
    pthread_t thread;
    int64_t start_ms = clock_monotonic_ms();

    (void)pgtest_query_fails(tx, "SELECT pg_sleep(10)",
                             PG_FAILURE_DEADLINE); /* by the server's statement_timeout */
    pg_transaction_free(tx);
    tx = pg_transaction_new(pool, false, pgtest_deadline(20000));
    (void)pgtest_query(tx, "INSERT INTO test_pooler.item VALUES (1)");
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, tx), 0);
    (void)pgtest_query_fails(tx, "SELECT pg_sleep(15)", PG_FAILURE_DEADLINE);
    (void)pthread_join(thread, NULL);
    pg_transaction_free(tx);
    assert_true(clock_monotonic_ms() - start_ms < 5000);
    pgtest_wait_int(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'", 0);
    expect_items(0);
    pg_pool_free(pool);
}

/* ---- a lost COMMIT ---- */

static void test_lost_commit(void **state)
{
    static const struct {
        enum pg_proxy_action action;
        enum pg_failure failure; /* NONE: committed */
    } cases[] = {{PG_PROXY_CUT_ANSWER, PG_FAILURE_NONE},
                 {PG_PROXY_CUT, PG_FAILURE_LOST},
                 {PG_PROXY_CUT_CLIENT, PG_FAILURE_LOST}};
    struct pgbouncer *pgbouncer = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pg_proxy *proxy = pg_proxy_new(pgbouncer->port);
        struct pg_pool *pool = new_pool(pg_proxy_url(proxy), 1, PG_READ_COMMITTED);
        struct pg_transaction *tx = begin(pool);

        (void)pgtest_query(tx, "INSERT INTO test_pooler.item VALUES (1)");
        (void)pgtest_query(tx, "SELECT 1");
        pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, cases[i].action, "COMMIT", 6, NULL);
        if (cases[i].failure == PG_FAILURE_NONE)
            pgtest_commit(tx);
        else
            (void)pgtest_commit_fails(tx, cases[i].failure);
        assert_true(pg_proxy_rule_done(proxy));
        pg_transaction_free(tx);
        expect_items(cases[i].failure == PG_FAILURE_NONE);
        pg_pool_free(pool);
        pg_proxy_free(proxy);
    }
}

/* The same where it is PgBouncer that loses the server. */
static void test_pooler_loses_the_server(void **state)
{
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    struct pgbouncer pgbouncer;

    (void)state;
    pgbouncer_start(&pgbouncer, pg_proxy_port(proxy), 1);
    for (int lost = 0; lost <= 1; lost++) {
        struct pg_pool *pool = new_pool(pgbouncer.url, 1, PG_READ_COMMITTED);
        struct pg_transaction *tx = begin(pool);
        (void)pgtest_query(tx, "INSERT INTO test_pooler.item VALUES (1)");
        pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, lost ? PG_PROXY_CUT : PG_PROXY_CUT_ANSWER, "COMMIT", 6,
                      NULL);
        if (lost)
            (void)pgtest_commit_fails(tx, PG_FAILURE_LOST);
        else
            pgtest_commit(tx);
        pg_transaction_free(tx);
        expect_items(!lost);
        pg_pool_free(pool);
    }
    pgbouncer_stop(&pgbouncer);
    pg_proxy_free(proxy);
}

/* ---- many at once ---- */

#define WORKERS 16
#define ROUNDS  60

struct worker {
    struct pg_pool *pool;
    int number, commits;
    bool mixed_sessions;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct pg_error error;

    for (int i = 0; i < ROUNDS; i++) {
        struct pg_transaction *tx = pg_transaction_new(worker->pool, false, pgtest_deadline(20000));
        struct pg_result *first = NULL, *second = NULL;
        char sql[96];
        (void)snprintf(sql, sizeof(sql),
                       "INSERT INTO test_pooler.item VALUES (%d) RETURNING pg_backend_pid()",
                       worker->number * ROUNDS + i);
        if (pg_query(tx, sql, 0, NULL, &first, &error) == 0 &&
            pg_query(tx, "SELECT pg_backend_pid()", 0, NULL, &second, &error) == 0) {
            if (strcmp(pg_result_value(first, 0, 0, NULL), pg_result_value(second, 0, 0, NULL)) != 0)
                worker->mixed_sessions = true;
            if (i % 3 == 0)
                pg_transaction_rollback(tx);
            else
                worker->commits += pg_transaction_commit(tx, &error) == 0;
        }
        pg_transaction_free(tx);
    }
    return NULL;
}

static void test_many_at_once(void **state)
{
    struct pg_pool *pool = new_pool(((struct pgbouncer *)*state)->url, WORKERS, PG_READ_COMMITTED);
    struct worker workers[WORKERS];
    pthread_t threads[WORKERS];

    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.pool = pool, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].commits, ROUNDS * 2 / 3);
        assert_false(workers[i].mixed_sessions);
    }
    assert_true(pgtest_int("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cicada test'") <=
                SESSIONS);
    expect_items((int64_t)WORKERS * ROUNDS * 2 / 3);
    pg_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commit_and_rollback),
        cmocka_unit_test(test_sessions_stay_clean),
        cmocka_unit_test(test_parameters_and_large_results),
        cmocka_unit_test(test_isolation_and_savepoints),
        cmocka_unit_test(test_ddl_by_others),
        cmocka_unit_test(test_rows_one_by_one),
        cmocka_unit_test(test_deadline_and_cancel),
        cmocka_unit_test(test_lost_commit),
        cmocka_unit_test(test_pooler_loses_the_server),
        cmocka_unit_test(test_many_at_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
