#include "runtime/tests/support_postgres.h"

#include <postgresql/libpq-fe.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/stop.h"
#include "runtime/base/text.h"

const char *pgtest_url(void)
{
    const char *url = getenv("TEST_DATABASE_URL");
    if (!url)
        fail_msg("TEST_DATABASE_URL is not set; run through .ci/run-tests");
    return url;
}

int pgtest_port(void)
{
    const char *colon = strrchr(pgtest_url(), ':');
    int64_t port;
    assert_true(parse_int64_n(colon + 1, strspn(colon + 1, "0123456789"), 1, 65535, &port));
    return (int)port;
}

static PGresult *admin(PGconn **ret_conn, const char *sql)
{
    PGconn *conn = PQconnectdb(pgtest_url());
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    *ret_conn = conn;
    return result;
}

void pgtest_exec(const char *sql)
{
    PGconn *conn;
    PQclear(admin(&conn, sql));
    PQfinish(conn);
}

int64_t pgtest_int(const char *sql)
{
    PGconn *conn;
    PGresult *result = admin(&conn, sql);
    int64_t value;
    assert_int_equal(PQntuples(result), 1);
    assert_true(parse_int64(PQgetvalue(result, 0, 0), INT64_MIN, INT64_MAX, &value));
    PQclear(result);
    PQfinish(conn);
    return value;
}

void pgtest_wait_int(const char *sql, int64_t expected)
{
    int64_t value = 0;
    for (int64_t deadline = pgtest_deadline(5000); deadline_left_ms(deadline) > 0; pgtest_sleep_ms(10)) {
        value = pgtest_int(sql);
        if (value == expected)
            return;
    }
    fail_msg("%s: %lld, expected %lld", sql, (long long)value, (long long)expected);
}

struct pg_pool *pgtest_pool_with(const char *url, int size, enum pg_isolation isolation,
                                 int64_t connect_timeout_ms)
{
    struct pg_pool_settings settings = {
        .url = url ? url : pgtest_url(),
        .size = size,
        .isolation = isolation,
        .connect_timeout_ms = connect_timeout_ms,
        .application_name = "cicada test",
    };
    struct pg_pool *pool;
    struct err err = ERR_INIT;
    if (pg_pool_new(&settings, &pool, &err) < 0)
        fail_msg("pg_pool_new: %s", err.msg);
    pg_pool_start(pool);
    return pool;
}

struct pg_pool *pgtest_pool(const char *url, int size)
{
    return pgtest_pool_with(url, size, PG_READ_COMMITTED, 2000);
}

int64_t pgtest_deadline(int64_t from_now_ms)
{
    return clock_monotonic_ms() + from_now_ms;
}

void pgtest_sleep_ms(int64_t ms)
{
    struct stop never;
    stop_init(&never);
    (void)stop_wait(&never, ms);
    stop_release(&never);
}

struct pg_result *pgtest_query(struct pg_transaction *tx, const char *sql)
{
    struct pg_result *result;
    struct pg_error error;
    if (pg_query(tx, sql, 0, NULL, &result, &error) < 0)
        fail_msg("%s: failure %d, %s %s", sql, error.failure, error.sqlstate, error.message);
    return result;
}

const char *pgtest_value(struct pg_transaction *tx, const char *sql)
{
    struct pg_result *result = pgtest_query(tx, sql);
    assert_int_equal(pg_result_rows(result), 1);
    return pg_result_value(result, 0, 0, NULL);
}

struct pg_error pgtest_query_fails(struct pg_transaction *tx, const char *sql, enum pg_failure failure)
{
    struct pg_result *result;
    struct pg_error error = {0};
    if (pg_query(tx, sql, 0, NULL, &result, &error) == 0)
        fail_msg("%s: did not fail", sql);
    if (error.failure != failure)
        fail_msg("%s: failure %d (%s %s), expected %d", sql, error.failure, error.sqlstate, error.message,
                 failure);
    return error;
}

void pgtest_commit(struct pg_transaction *tx)
{
    struct pg_error error;
    if (pg_transaction_commit(tx, &error) < 0)
        fail_msg("commit: failure %d, %s %s", error.failure, error.sqlstate, error.message);
}

struct pg_error pgtest_commit_fails(struct pg_transaction *tx, enum pg_failure failure)
{
    struct pg_error error = {0};
    if (pg_transaction_commit(tx, &error) == 0)
        fail_msg("commit did not fail");
    if (error.failure != failure)
        fail_msg("commit: failure %d (%s %s), expected %d", error.failure, error.sqlstate, error.message,
                 failure);
    return error;
}

void pgtest_wait_for(struct pg_pool *pool, int open, int idle)
{
    struct pg_pool_stats stats;
    for (int64_t deadline = pgtest_deadline(5000); deadline_left_ms(deadline) > 0; pgtest_sleep_ms(5)) {
        pg_pool_stats(pool, &stats);
        if (stats.open == open && stats.idle == idle)
            return;
    }
    fail_msg("open %d idle %d, expected %d and %d", stats.open, stats.idle, open, idle);
}

void pgtest_wait_outage(struct pg_pool *pool, const char *expected)
{
    const char *outage = NULL;
    for (int64_t deadline = pgtest_deadline(5000); deadline_left_ms(deadline) > 0; pgtest_sleep_ms(2)) {
        outage = pg_pool_outage(pool);
        if (expected ? outage && strcmp(outage, expected) == 0 : !outage)
            return;
    }
    fail_msg("outage %s, expected %s", outage ? outage : "none", expected ? expected : "none");
}

void pgtest_kill(const char *application_name)
{
    char sql[256];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                   " WHERE application_name = '%s' AND pid <> pg_backend_pid()",
                   application_name);
    assert_true(pgtest_int(sql) > 0);
}
