/* COMMIT over connections that break at chosen places, against a real server behind a proxy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_postgres.h"

#define COMMIT_TEXT "COMMIT"
#define SLEEP_FUNCTION(body)                                                                                 \
    "CREATE OR REPLACE FUNCTION test_commit.sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " body      \
    "; RETURN NULL; END $$"

struct fixture {
    struct pg_proxy *proxy;
    struct pg_pool *pool;
};

static int set_up_group(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA IF EXISTS test_commit CASCADE; CREATE SCHEMA test_commit;"
                "CREATE TABLE test_commit.item (id int PRIMARY KEY);"
                "CREATE TABLE test_commit.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
                "CREATE TABLE test_commit.slow (id float8);" SLEEP_FUNCTION(
                    "PERFORM pg_sleep(NEW.id)") ";"
                                                "CREATE CONSTRAINT TRIGGER sleep AFTER INSERT ON "
                                                "test_commit.slow DEFERRABLE INITIALLY DEFERRED"
                                                " FOR EACH ROW EXECUTE FUNCTION test_commit.sleep()");
    return 0;
}

static int tear_down_group(void **state)
{
    (void)state;
    pgtest_exec("DROP SCHEMA test_commit CASCADE");
    return 0;
}

static int set_up(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    pgtest_exec("TRUNCATE test_commit.item, test_commit.late, test_commit.slow");
    fixture->proxy = pg_proxy_new(pgtest_port());
    fixture->pool = pgtest_pool(pg_proxy_url(fixture->proxy), 1);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    pg_pool_free(fixture->pool);
    pg_proxy_free(fixture->proxy);
    free(fixture);
    return 0;
}

static struct pg_transaction *begin(struct fixture *fixture, int64_t limit_ms)
{
    return pg_transaction_new(fixture->pool, false, pgtest_deadline(limit_ms));
}

static void break_at(struct fixture *fixture, enum pg_proxy_action action)
{
    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, action, COMMIT_TEXT, strlen(COMMIT_TEXT), NULL);
}

static int64_t items(void)
{
    return pgtest_int("SELECT count(*) FROM test_commit.item");
}

static void test_answer_lost_is_resolved(void **state)
{
    struct fixture *fixture = *state;
    struct pg_transaction *tx = begin(fixture, 5000);
    (void)pgtest_query(tx, "INSERT INTO test_commit.item VALUES (1)");
    (void)pgtest_query(tx, "SELECT 1");
    break_at(fixture, PG_PROXY_CUT_ANSWER);
    pgtest_commit(tx);
    assert_true(pg_proxy_rule_done(fixture->proxy));
    assert_int_equal(items(), 1);
    struct pg_pool_stats stats;
    pg_pool_stats(fixture->pool, &stats);
    assert_int_equal(stats.commits, 1);
    assert_int_equal(stats.commit_unknown, 0);
    pg_transaction_free(tx);
}

static void test_commit_that_never_arrived_is_lost(void **state)
{
    struct fixture *fixture = *state;
    struct pg_transaction *tx = begin(fixture, 5000);
    (void)pgtest_query(tx, "INSERT INTO test_commit.item VALUES (1)");
    break_at(fixture, PG_PROXY_CUT);
    struct pg_error error = pgtest_commit_fails(tx, PG_FAILURE_LOST);
    assert_int_equal(pg_error_http_status(&error), 503);
    assert_int_equal(items(), 0);
    pg_transaction_free(tx);
    struct pg_pool_stats stats;
    pg_pool_stats(fixture->pool, &stats);
    assert_int_equal(stats.lost, 1);
    assert_int_equal(stats.failures + stats.commit_unknown + stats.commits + stats.rollbacks, 0);
}

/* The server still waits for the client: its session must be ended, or the question stays open until a keepalive fails. */
static void test_waiting_backend_is_ended(void **state)
{
    struct fixture *fixture = *state;
    struct pg_transaction *tx = begin(fixture, 5000);
    int64_t start_ms = clock_monotonic_ms();
    (void)pgtest_query(tx, "INSERT INTO test_commit.item VALUES (1)");
    break_at(fixture, PG_PROXY_CUT_CLIENT);
    (void)pgtest_commit_fails(tx, PG_FAILURE_LOST);
    assert_true(clock_monotonic_ms() - start_ms < 4000);
    assert_int_equal(items(), 0);
    pgtest_wait_int("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'", 0);
    pg_transaction_free(tx);
}

static void test_unknown_when_nobody_can_be_asked(void **state)
{
    struct fixture *fixture = *state;
    struct pg_transaction *tx = begin(fixture, 400);
    int64_t start_ms = clock_monotonic_ms();
    (void)pgtest_query(tx, "INSERT INTO test_commit.item VALUES (1)");
    pg_proxy_refuse(fixture->proxy, true);
    break_at(fixture, PG_PROXY_CUT_ANSWER);
    struct pg_error error = pgtest_commit_fails(tx, PG_FAILURE_COMMIT_UNKNOWN);
    assert_in_range(clock_monotonic_ms() - start_ms, 300, 2500);
    assert_int_equal(pg_error_http_status(&error), 500);
    assert_string_equal(pg_error_code(&error), "commit_unknown");
    struct pg_pool_stats stats;
    pg_pool_stats(fixture->pool, &stats);
    assert_int_equal(stats.commit_unknown, 1);
    assert_int_equal(stats.failures + stats.lost + stats.commits + stats.rollbacks, 0); /* counted once */
    pg_transaction_free(tx);
}

static void *accept_later(void *arg)
{
    pgtest_sleep_ms(1200);
    pg_proxy_refuse(arg, false);
    return NULL;
}

/* Longer than a statement would wait for a server that is away: the deadline counts. */
static void test_server_that_restarts_is_asked(void **state)
{
    struct fixture *fixture = *state;
    struct pg_pool *pool = pgtest_pool_with(pg_proxy_url(fixture->proxy), 1, PG_READ_COMMITTED, 200);
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(10000));
    (void)pgtest_query(tx, "INSERT INTO test_commit.item VALUES (1)");
    pg_proxy_refuse(fixture->proxy, true);
    break_at(fixture, PG_PROXY_CUT_ANSWER);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, accept_later, fixture->proxy), 0);
    pgtest_commit(tx);
    (void)pthread_join(thread, NULL);
    pg_transaction_free(tx);
    assert_int_equal(items(), 1);
    pg_pool_free(pool);
}

static void test_answer_late_is_unknown(void **state)
{
    struct fixture *fixture = *state;
    struct pg_transaction *tx = begin(fixture, 400);
    (void)pgtest_query(tx, "INSERT INTO test_commit.item VALUES (1)");
    break_at(fixture, PG_PROXY_HOLD_ANSWER);
    (void)pgtest_commit_fails(tx, PG_FAILURE_COMMIT_UNKNOWN);
    pg_transaction_free(tx);
}

/* Nothing was written, so that nothing is in doubt. */
static void test_reader_is_never_unknown(void **state)
{
    struct fixture *fixture = *state;
    for (int read_only = 0; read_only <= 1; read_only++) {
        struct pg_transaction *tx = pg_transaction_new(fixture->pool, read_only, pgtest_deadline(5000));
        (void)pgtest_query(tx, "SELECT count(*) FROM test_commit.item");
        break_at(fixture, PG_PROXY_CUT);
        (void)pgtest_commit_fails(tx, PG_FAILURE_LOST);
        pg_transaction_free(tx);
    }
}

static void test_tag_other_than_commit(void **state)
{
    struct fixture *fixture = *state;
    struct pg_transaction *tx = begin(fixture, 5000);
    (void)pgtest_query(tx, "INSERT INTO test_commit.item VALUES (1)");
    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_CLIENT, PG_PROXY_REPLACE, "COMMIT\0", 7, "ROLLBA\0");
    struct pg_error error = pgtest_commit_fails(tx, PG_FAILURE_NOT_COMMITTED);
    assert_int_equal(pg_error_http_status(&error), 500);
    assert_string_equal(pg_error_code(&error), "transaction_failed");
    pg_transaction_free(tx);
}

/* Whatever the statements said: without an open transaction nothing will be committed. */
static void test_status_other_than_in_transaction(void **state)
{
    static const char in_transaction[] = "Z\0\0\0\5T", failed[] = "Z\0\0\0\5E", idle[] = "Z\0\0\0\5I";
    struct fixture *fixture = *state;
    const char *const replacements[] = {failed, idle};
    for (size_t i = 0; i < ARRAY_SIZE(replacements); i++) {
        struct pg_transaction *tx = begin(fixture, 5000);
        (void)pgtest_query(tx, "INSERT INTO test_commit.item VALUES (1)");
        pg_proxy_rule(fixture->proxy, PG_PROXY_TO_CLIENT, PG_PROXY_REPLACE, in_transaction,
                      sizeof(in_transaction) - 1, replacements[i]);
        (void)pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_NOT_COMMITTED);
        (void)pgtest_commit_fails(tx, PG_FAILURE_NOT_COMMITTED);
        pg_transaction_free(tx);
        assert_int_equal(items(), 0);
        pg_proxy_cut_all(fixture->proxy);
    }
}

static void test_slow_commit_meets_the_deadline(void **state)
{
    struct fixture *fixture = *state;
    struct pg_transaction *tx = begin(fixture, 500);
    (void)pgtest_query(tx, "INSERT INTO test_commit.slow VALUES (20)");
    int64_t start_ms = clock_monotonic_ms();
    /* statement_timeout does not hold for COMMIT, which is never cancelled either. */
    (void)pgtest_commit_fails(tx, PG_FAILURE_COMMIT_UNKNOWN);
    assert_true(clock_monotonic_ms() - start_ms < 3000);
    pg_transaction_free(tx);
    pgtest_kill("cicada test");
}

static void test_backend_killed_while_committing(void **state)
{
    struct fixture *fixture = *state;
    struct pg_transaction *tx = begin(fixture, 5000);
    (void)pgtest_query(tx, "INSERT INTO test_commit.slow VALUES (20)");
    pgtest_exec(SLEEP_FUNCTION("PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1)"));
    (void)pgtest_commit_fails(tx, PG_FAILURE_LOST);
    pgtest_exec(SLEEP_FUNCTION("PERFORM pg_sleep(NEW.id)"));
    pg_transaction_free(tx);
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_commit.slow"), 0);
}

/* ---- statement and COMMIT in one flight ---- */

static int query_commit(struct pg_transaction *tx, const char *sql, struct pg_error *error)
{
    struct pg_result *result;
    if (pg_query_commit(tx, sql, 0, NULL, &result, error) < 0)
        return -1;
    assert_int_equal(pg_result_rows(result), 1);
    return 0;
}

static void test_one_flight(void **state)
{
    struct fixture *fixture = *state;
    struct pg_error error;
    struct pg_transaction *tx = begin(fixture, 5000);
    assert_int_equal(query_commit(tx, "INSERT INTO test_commit.item VALUES (1) RETURNING id", &error), 0);
    assert_int_equal(items(), 1);
    (void)pgtest_commit_fails(tx, PG_FAILURE_REFUSED);
    pg_transaction_free(tx);

    tx = begin(fixture, 5000);
    (void)pgtest_query(tx, "INSERT INTO test_commit.item VALUES (2)");
    assert_int_equal(query_commit(tx, "SELECT count(*) FROM test_commit.item", &error), 0);
    pg_transaction_free(tx);
    assert_int_equal(items(), 2);

    tx = begin(fixture, 5000);
    assert_int_equal(query_commit(tx, "INSERT INTO test_commit.item VALUES (1) RETURNING id", &error), -1);
    assert_string_equal(error.sqlstate, "23505");
    (void)pgtest_commit_fails(tx, PG_FAILURE_SQL);
    pg_transaction_free(tx);

    tx = begin(fixture, 5000);
    assert_int_equal(query_commit(tx, "INSERT INTO test_commit.late VALUES (1), (1)", &error), -1);
    assert_string_equal(error.sqlstate, "23505");
    pg_transaction_free(tx);

    tx = begin(fixture, 1500);
    assert_int_equal(query_commit(tx, "SELECT pg_sleep(5)", &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_DEADLINE);
    pg_transaction_free(tx);
    struct pg_pool_stats stats;
    pg_pool_stats(fixture->pool, &stats);
    assert_int_equal(stats.connects, 1);
}

static void test_one_flight_too_large(void **state)
{
    struct fixture *fixture = *state;
    for (int read_only = 0; read_only <= 1; read_only++) {
        struct pg_transaction *tx = pg_transaction_new(fixture->pool, read_only, pgtest_deadline(20000));
        struct pg_error error;
        assert_int_equal(
            query_commit(tx, "SELECT repeat('z', 1000000) FROM generate_series(1, 1000)", &error), -1);
        assert_int_equal(error.failure, read_only ? PG_FAILURE_TOO_LARGE : PG_FAILURE_COMMIT_UNKNOWN);
        pg_transaction_free(tx);
    }
}

static struct pg_error one_flight_broken(struct fixture *fixture, enum pg_proxy_action action,
                                         const char *before)
{
    struct pg_transaction *tx = begin(fixture, 2000);
    struct pg_error error = {0};
    if (before)
        (void)pgtest_query(tx, before);
    break_at(fixture, action);
    int failed = query_commit(tx, "INSERT INTO test_commit.item VALUES (1) RETURNING id", &error);
    assert_int_equal(failed, error.failure == PG_FAILURE_NONE ? 0 : -1);
    pg_transaction_free(tx);
    return error;
}

static void test_one_flight_cut_before(void **state)
{
    /* The server never saw the COMMIT, but nobody here can know that: no transaction id came back. */
    struct pg_error error = one_flight_broken(*state, PG_PROXY_CUT, NULL);
    assert_int_equal(error.failure, PG_FAILURE_COMMIT_UNKNOWN);
    assert_int_equal(items(), 0);
    error = one_flight_broken(*state, PG_PROXY_CUT, "INSERT INTO test_commit.item VALUES (7)");
    assert_int_equal(error.failure, PG_FAILURE_LOST);
    assert_int_equal(items(), 0);
}

static void test_one_flight_answer_lost(void **state)
{
    /* Whether the server still commits is up to it. If it does, the rows are lost all the same. */
    struct pg_error error =
        one_flight_broken(*state, PG_PROXY_CUT_ANSWER, "INSERT INTO test_commit.item VALUES (7)");
    assert_int_equal(error.failure, items() == 2 ? PG_FAILURE_COMMIT_UNKNOWN : PG_FAILURE_LOST);
}

static void test_one_flight_id_arrives_before_commit(void **state)
{
    /* COMMIT takes long, because of its trigger; rows and id of the transaction are here by then. */
    struct fixture *fixture = *state;
    struct pg_transaction *tx = begin(fixture, 2000);
    struct pg_error error;
    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_CLIENT, PG_PROXY_CUT, "COMMIT\0", 7, NULL);
    assert_int_equal(query_commit(tx, "INSERT INTO test_commit.slow VALUES (0.1) RETURNING id", &error), 0);
    assert_true(pg_proxy_rule_done(fixture->proxy));
    pg_transaction_free(tx);
    assert_int_equal(pgtest_int("SELECT count(*) FROM test_commit.slow"), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_answer_lost_is_resolved),
        TEST(test_commit_that_never_arrived_is_lost),
        TEST(test_waiting_backend_is_ended),
        TEST(test_unknown_when_nobody_can_be_asked),
        TEST(test_server_that_restarts_is_asked),
        TEST(test_answer_late_is_unknown),
        TEST(test_reader_is_never_unknown),
        TEST(test_tag_other_than_commit),
        TEST(test_status_other_than_in_transaction),
        TEST(test_slow_commit_meets_the_deadline),
        TEST(test_backend_killed_while_committing),
        TEST(test_one_flight),
        TEST(test_one_flight_too_large),
        TEST(test_one_flight_cut_before),
        TEST(test_one_flight_answer_lost),
        TEST(test_one_flight_id_arrives_before_commit),
    };
    return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}
