/* A server that crashes while a COMMIT is on its way: after recovery it may give the lost transaction's id to another one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <postgresql/libpq-fe.h>
#include <pthread.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_pg_cluster.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_postgres.h"

struct fixture {
    struct pg_cluster cluster;
    struct pg_proxy *proxy;
    struct pg_pool *pool;
    struct pg_transaction *tx;
    struct pg_error error;
    bool committing;
    pthread_t thread;
    int result; /* of the COMMIT */
};

/* As the administrator; the first value, which the caller frees. */
static char *ask(const struct fixture *fixture, const char *sql)
{
    PGconn *conn = PQconnectdb(fixture->cluster.url);
    PGresult *result = PQexec(conn, sql);
    char *value;
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    value = xstrdup(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(conn);
    return value;
}

static int set_up(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    *state = fixture;
    pg_cluster_start(&fixture->cluster);
    fixture->proxy = pg_proxy_new(fixture->cluster.port);
    free(ask(fixture, "CREATE TABLE item (id int PRIMARY KEY); CREATE ROLE plain LOGIN;"
                      "GRANT INSERT, SELECT ON item TO plain"));
    return 0;
}

/* Lets connections through again, and waits for what COMMIT says. */
static void end_commit(struct fixture *fixture)
{
    if (!fixture->committing)
        return;
    pg_proxy_refuse(fixture->proxy, false);
    (void)pthread_join(fixture->thread, NULL);
    fixture->committing = false;
    pg_transaction_free(fixture->tx);
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    end_commit(fixture);
    pg_pool_free(fixture->pool);
    pg_proxy_free(fixture->proxy);
    pg_cluster_remove(&fixture->cluster);
    free(fixture);
    return 0;
}

static void start_pool(struct fixture *fixture)
{
    CLEANUP_FREE char *url =
        xasprintf("postgresql://plain@127.0.0.1:%d/postgres", pg_proxy_port(fixture->proxy));
    fixture->pool = pgtest_pool(url, 1);
}

static void *commit_main(void *arg)
{
    struct fixture *fixture = arg;
    fixture->result = pg_transaction_commit(fixture->tx, &fixture->error);
    return NULL;
}

/* Sends an INSERT, and a COMMIT that never arrives; then nobody can be asked until the proxy lets connections through again. */
static char *lose_commit(struct fixture *fixture)
{
    char *xid;
    fixture->tx = pg_transaction_new(fixture->pool, false, pgtest_deadline(20000));
    pgtest_query(fixture->tx, "INSERT INTO item VALUES (1)");
    xid = xstrdup(pgtest_value(fixture->tx, "SELECT pg_current_xact_id()::text"));
    pg_proxy_refuse(fixture->proxy, true);
    pg_proxy_rule(fixture->proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT, "COMMIT", strlen("COMMIT"), NULL);
    assert_int_equal(pthread_create(&fixture->thread, NULL, commit_main, fixture), 0);
    fixture->committing = true;
    while (!pg_proxy_rule_done(fixture->proxy))
        pgtest_sleep_ms(1);
    return xid;
}

/* Commits transactions of others until one has this id. */
static void use_up(const struct fixture *fixture, const char *xid)
{
    for (int i = 0; i < 100; i++) {
        CLEANUP_FREE char *other = ask(fixture, "SELECT pg_current_xact_id()::text");
        if (strcmp(other, xid) == 0)
            return;
    }
    fail_msg("id %s was not given again", xid);
}

static void test_an_id_that_was_given_again_proves_nothing(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *xid = NULL;
    CLEANUP_FREE char *rows = NULL;
    start_pool(fixture);
    pg_cluster_set(&fixture->cluster, "wal_writer_delay", "10s"); /* what was not committed is not on disk */
    xid = lose_commit(fixture);
    pg_cluster_kill(&fixture->cluster);
    pg_cluster_recover(&fixture->cluster);
    use_up(fixture, xid);
    end_commit(fixture);
    rows = ask(fixture, "SELECT count(*) FROM item");
    assert_string_equal(rows, "0");
    assert_int_equal(fixture->result, -1);
    assert_int_equal(fixture->error.failure, PG_FAILURE_COMMIT_UNKNOWN);
}

/* A backend that dies takes all the others with it, while the postmaster, and when it started, stay. */
static void test_a_crashed_backend_begins_another_run(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *xid = NULL;
    start_pool(fixture);
    pg_cluster_set(&fixture->cluster, "wal_writer_delay", "10s");
    xid = lose_commit(fixture);
    pg_cluster_crash_backend(&fixture->cluster);
    use_up(fixture, xid);
    end_commit(fixture);
    assert_int_equal(fixture->result, -1);
    assert_int_equal(fixture->error.failure, PG_FAILURE_COMMIT_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_id_that_was_given_again_proves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_crashed_backend_begins_another_run, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
