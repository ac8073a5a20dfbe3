/* Lending connections: in order, in time, never a dead or changed one; outages and recovery. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_pool.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_postgres.h"

static struct pg_transaction *begin(struct pg_pool *pool, int64_t limit_ms)
{
    return pg_transaction_new(pool, false, pgtest_deadline(limit_ms));
}

static int64_t int_value(struct pg_transaction *tx, const char *sql)
{
    return strtoll(pgtest_value(tx, sql), NULL, 10);
}

/* Runs one statement in a transaction of its own and returns the server process that ran it. */
static int64_t backend_after(struct pg_pool *pool, const char *sql)
{
    struct pg_transaction *tx = begin(pool, 5000);
    int64_t pid = int_value(tx, "SELECT pg_backend_pid()");
    if (sql)
        (void)pgtest_query(tx, sql);
    pgtest_commit(tx);
    pg_transaction_free(tx);
    return pid;
}

static struct pg_pool_stats stats_of(struct pg_pool *pool)
{
    struct pg_pool_stats stats;
    pg_pool_stats(pool, &stats);
    return stats;
}

/* ---- settings ---- */

static void test_settings_are_checked(void **state)
{
    (void)state;
    struct pg_pool *pool;
    struct err err = ERR_INIT;
    struct pg_pool_settings settings = {
        .url = "postgresql://h/?service=x", .size = 1, .connect_timeout_ms = 1};
    assert_int_equal(pg_pool_new(&settings, &pool, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    settings.url = "postgresql://h/x";
    settings.size = 0;
    assert_int_equal(pg_pool_new(&settings, &pool, &err), -1);
    settings.size = 1;
    settings.connect_timeout_ms = 0;
    assert_int_equal(pg_pool_new(&settings, &pool, &err), -1);
    settings.connect_timeout_ms = 1;
    assert_int_equal(pg_pool_new(&settings, &pool, &err), 0);
    pg_pool_free(pool); /* never started */
    pg_pool_free(NULL);
}

static void test_session_is_set_up(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *value;
    } cases[] = {
        {"SHOW standard_conforming_strings", "on"},
        {"SHOW client_encoding", "UTF8"},
        {"SHOW application_name", "cicada test"},
        {"SHOW tcp_keepalives_idle", "30"},
        {"SHOW tcp_keepalives_interval", "10"},
        {"SHOW tcp_keepalives_count", "3"},
        {"SHOW tcp_user_timeout", "30000"},
        {"SHOW client_connection_check_interval", "5s"},
        {"SELECT setting FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'", "60000"},
    };
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pg_transaction *tx = begin(pool, 5000);
        assert_string_equal(pgtest_value(tx, cases[i].sql), cases[i].value);
        pg_transaction_free(tx);
    }
    assert_int_equal(stats_of(pool).connects, 1);
    pg_pool_free(pool);
}

static void test_unix_socket_and_second_host(void **state)
{
    (void)state;
    char url[256];
    const char *dir = getenv("TEST_DATABASE_SOCKET_DIR");
    if (!dir)
        skip();
    (void)snprintf(url, sizeof(url), "host=%s port=%d user=postgres dbname=postgres", dir, pgtest_port());
    struct pg_pool *pool = pgtest_pool(url, 1);
    (void)backend_after(pool, NULL);
    pg_pool_free(pool);

    /* Nobody listens on port 1; the next host is tried at once. */
    (void)snprintf(url, sizeof(url), "postgresql://postgres@127.0.0.1:1,127.0.0.1:%d/postgres",
                   pgtest_port());
    pool = pgtest_pool(url, 1);
    (void)backend_after(pool, NULL);
    assert_int_equal(stats_of(pool).connect_failures, 0);
    pg_pool_free(pool);
}

/* ---- lending ---- */

static void test_first_connection_opens_by_itself(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 3);
    pgtest_wait_for(pool, 1, 1);
    int64_t first = backend_after(pool, NULL);
    for (int i = 0; i < 5; i++)
        assert_int_equal(backend_after(pool, NULL), first);
    assert_int_equal(stats_of(pool).open, 1);
    pg_pool_free(pool);
}

static void test_exhausted_waits_until_the_deadline(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *holder = begin(pool, 5000);
    (void)pgtest_query(holder, "SELECT 1");
    int64_t start_ms = clock_monotonic_ms();
    struct pg_transaction *tx = begin(pool, 200);
    (void)pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_DEADLINE);
    assert_in_range(clock_monotonic_ms() - start_ms, 190, 2000);
    assert_false(pg_transaction_used(tx));
    pg_transaction_free(tx);
    assert_int_equal(stats_of(pool).waiting, 0);
    assert_int_equal(stats_of(pool).lent, 1);
    pg_transaction_free(holder);
    (void)backend_after(pool, NULL);
    pg_pool_free(pool);
}

struct in_line {
    struct pg_pool *pool;
    int number;
    atomic_int *served;
    int place;
};

static void *wait_in_line(void *arg)
{
    struct in_line *one = arg;
    struct pg_transaction *tx = begin(one->pool, 5000);
    struct pg_result *result;
    struct pg_error error;
    if (pg_query(tx, "SELECT 1", 0, NULL, &result, &error) == 0)
        one->place = atomic_fetch_add(one->served, 1);
    pg_transaction_free(tx);
    return NULL;
}

static void test_first_come_first_served(void **state)
{
    (void)state;
    enum { COUNT = 6 };
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    struct pg_transaction *holder = begin(pool, 5000);
    (void)pgtest_query(holder, "SELECT 1");
    atomic_int served = 0;
    struct in_line line[COUNT];
    pthread_t threads[COUNT];
    for (int i = 0; i < COUNT; i++) {
        line[i] = (struct in_line){.pool = pool, .number = i, .served = &served, .place = -1};
        assert_int_equal(pthread_create(&threads[i], NULL, wait_in_line, &line[i]), 0);
        while (stats_of(pool).waiting <= i)
            pgtest_sleep_ms(1);
    }
    pg_transaction_free(holder);
    for (int i = 0; i < COUNT; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_int_equal(line[i].place, i);
    }
    pg_pool_free(pool);
}

static void test_grows_with_those_who_wait(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 3);
    struct pg_transaction *txs[3];
    for (int i = 0; i < 3; i++) {
        txs[i] = begin(pool, 5000);
        (void)pgtest_query(txs[i], "SELECT 1");
    }
    assert_int_equal(stats_of(pool).open, 3);
    assert_int_equal(stats_of(pool).lent, 3);
    for (int i = 0; i < 3; i++)
        pg_transaction_free(txs[i]);
    assert_int_equal(stats_of(pool).idle, 3);
    assert_int_equal(stats_of(pool).rollbacks, 3);
    pg_pool_free(pool);
}

/* ---- keeping house ---- */

/* A pool of two open connections that looks after them every few milliseconds. */
static struct pg_pool *tidy_pool(const char *url, int64_t surplus_idle_ms, int64_t max_age_ms)
{
    struct pg_pool_settings settings = {
        .url = url, .size = 2, .connect_timeout_ms = 2000, .application_name = "cicada test"};
    struct pg_pool *pool;
    struct err err = ERR_INIT;
    assert_int_equal(pg_pool_new(&settings, &pool, &err), 0);
    pool->housekeeping = (struct pg_housekeeping){20, surplus_idle_ms, max_age_ms};
    pg_pool_start(pool);
    struct pg_transaction *first = begin(pool, 5000), *second = begin(pool, 5000);
    (void)pgtest_query(first, "SELECT 1");
    (void)pgtest_query(second, "SELECT 1");
    pg_transaction_free(first);
    pg_transaction_free(second);
    return pool;
}

static void test_surplus_is_closed(void **state)
{
    (void)state;
    struct pg_pool *pool = tidy_pool(pgtest_url(), 100, 600000);
    assert_int_equal(stats_of(pool).open, 2);
    pgtest_wait_for(pool, 1, 1);
    int64_t pid = backend_after(pool, NULL);
    pgtest_sleep_ms(200);
    assert_int_equal(backend_after(pool, NULL), pid); /* the last one stays */
    pg_pool_free(pool);
}

static void test_old_ones_are_replaced(void **state)
{
    (void)state;
    struct pg_pool *pool = tidy_pool(pgtest_url(), 600000, 300);
    int64_t pid = backend_after(pool, NULL);
    pgtest_sleep_ms(700);
    assert_int_not_equal(backend_after(pool, NULL), pid);
    assert_int_equal(stats_of(pool).failures, 0);
    pg_pool_free(pool);
}

/* Nobody asks for a connection, and still the outage is noticed, and its end. */
static void test_outage_is_noticed_while_idle(void **state)
{
    (void)state;
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    struct pg_pool *pool = tidy_pool(pg_proxy_url(proxy), 600000, 600000);
    pg_proxy_refuse(proxy, true);
    pg_proxy_cut_all(proxy);
    pgtest_wait_outage(pool, "refused");
    pg_proxy_refuse(proxy, false);
    pgtest_wait_outage(pool, NULL);
    pgtest_wait_for(pool, 1, 1);
    pg_pool_free(pool);
    pg_proxy_free(proxy);
}

/* ---- what is not lent again ---- */

static void test_dead_connection_is_not_lent(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    int64_t first = backend_after(pool, NULL);
    pgtest_kill("cicada test");
    assert_int_not_equal(backend_after(pool, NULL), first);
    assert_int_equal(stats_of(pool).failures, 0);
    pg_pool_free(pool);
}

static void test_changed_session_is_not_lent(void **state)
{
    (void)state;
    static const char *const changing[] = {
        "SELECT set_config('cicada.test', 'x', false)",
        "CREATE TEMP TABLE leftover (id int)",
        "SELECT pg_advisory_lock(1)",
        "DO $$ BEGIN SET TIME ZONE 'Asia/Tokyo'; END $$", /* noticed by what the server reports */
        "DO $$ BEGIN SET application_name = 'x'; END $$",
    };
    static const char *const harmless[] = {
        "SELECT set_config('cicada.test', 'x', true)",
        "CREATE TEMP TABLE gone (id int) ON COMMIT DROP",
        "SELECT pg_advisory_xact_lock(1)",
        "SET LOCAL TIME ZONE 'Asia/Tokyo'",
        "DO $$ BEGIN RAISE NOTICE 'hello'; END $$",
        "NOTIFY nobody",
    };
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    for (size_t i = 0; i < ARRAY_SIZE(changing); i++) {
        int64_t pid = backend_after(pool, changing[i]);
        if (backend_after(pool, NULL) == pid)
            fail_msg("lent again after: %s", changing[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(harmless); i++) {
        int64_t pid = backend_after(pool, harmless[i]);
        if (backend_after(pool, NULL) != pid)
            fail_msg("not lent again after: %s", harmless[i]);
    }
    pg_pool_free(pool);
}

/* ---- outages ---- */

static void test_server_down_at_start(void **state)
{
    (void)state;
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    pg_proxy_refuse(proxy, true);
    struct pg_pool *pool = pgtest_pool_with(pg_proxy_url(proxy), 2, PG_READ_COMMITTED, 300);
    pgtest_wait_outage(pool, "refused");
    assert_false(pg_pool_authentication_failed(pool));

    /* Who waits gives up long before the deadline... */
    int64_t start_ms = clock_monotonic_ms();
    struct pg_transaction *tx = begin(pool, 30000);
    struct pg_error error = pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_UNREACHABLE);
    assert_true(clock_monotonic_ms() - start_ms < 5000);
    assert_non_null(strstr(error.message, "refused"));
    assert_int_equal(pg_error_http_status(&error), 503);
    pg_transaction_free(tx);
    /* ... or at the deadline, if that is sooner. */
    tx = begin(pool, 50);
    (void)pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_UNREACHABLE);
    pg_transaction_free(tx);
    assert_true(stats_of(pool).connect_failures > 0);

    pg_proxy_refuse(proxy, false);
    pgtest_wait_outage(pool, NULL);
    (void)backend_after(pool, NULL);
    pg_pool_free(pool);
    pg_proxy_free(proxy);
}

static void test_restart_is_waited_for(void **state)
{
    (void)state;
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    struct pg_pool *pool = pgtest_pool(pg_proxy_url(proxy), 1);
    (void)backend_after(pool, NULL);
    pg_proxy_refuse(proxy, true);
    pg_proxy_cut_all(proxy);
    atomic_int served = 0;
    struct in_line one = {.pool = pool, .served = &served, .place = -1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_in_line, &one), 0);
    pgtest_wait_outage(pool, "refused");
    pgtest_sleep_ms(200);
    pg_proxy_refuse(proxy, false);
    (void)pthread_join(thread, NULL);
    assert_int_equal(one.place, 0);
    assert_null(pg_pool_outage(pool));
    pg_pool_free(pool);
    pg_proxy_free(proxy);
}

static void test_silent_server_is_a_timeout(void **state)
{
    (void)state;
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    pg_proxy_stall(proxy, true);
    struct pg_pool *pool = pgtest_pool_with(pg_proxy_url(proxy), 1, PG_READ_COMMITTED, 150);
    pgtest_wait_outage(pool, "timeout");
    struct pg_transaction *tx = begin(pool, 50);
    (void)pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_UNREACHABLE);
    pg_transaction_free(tx);
    pg_pool_free(pool);

    /* Freeing does not wait for a connect under way. */
    pool = pgtest_pool_with(pg_proxy_url(proxy), 1, PG_READ_COMMITTED, 30000);
    pgtest_sleep_ms(30);
    int64_t start_ms = clock_monotonic_ms();
    pg_pool_free(pool);
    assert_true(clock_monotonic_ms() - start_ms < 3000);
    pg_proxy_free(proxy);
}

static void check_authentication(const char *url)
{
    struct pg_pool *pool = pgtest_pool(url, 1);
    struct pg_transaction *tx = begin(pool, 5000);
    int64_t start_ms = clock_monotonic_ms();
    struct pg_error error = pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_AUTHENTICATION);
    assert_true(clock_monotonic_ms() - start_ms < 3000);
    assert_true(pg_pool_authentication_failed(pool));
    assert_string_equal(pg_pool_outage(pool), "authentication");
    assert_null(strstr(error.message, "test_pool_role"));
    assert_string_equal(pg_error_code(&error), "database_authentication");
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

/* A server that rejects new connections only (its rules were just changed) ends nobody who still has one. */
static void check_rejected_while_open(struct pg_pool *pool)
{
    struct pg_transaction *first = begin(pool, 5000), *second = begin(pool, 300);
    char sql[128];
    (void)snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%s)",
                   pgtest_value(first, "SELECT pg_backend_pid()"));
    pgtest_exec("ALTER ROLE test_pool_role PASSWORD 'changed'");
    (void)pgtest_query_fails(second, "SELECT 1", PG_FAILURE_DEADLINE);
    pg_transaction_free(second);
    assert_false(pg_pool_authentication_failed(pool));
    pg_transaction_free(first);

    pgtest_exec(sql);
    struct pg_transaction *third = begin(pool, 5000);
    struct pg_error error;
    struct pg_result *result = NULL;
    assert_int_equal(pg_query(third, "SELECT 1", 0, NULL, &result, &error), -1);
    pg_transaction_free(third);
    pgtest_wait_outage(pool, "authentication");
    assert_true(pg_pool_authentication_failed(pool));
}

static void test_rejected_role_and_password(void **state)
{
    (void)state;
    char url[256];
    const char *data_dir = getenv("TEST_DATABASE_DIR");
    (void)snprintf(url, sizeof(url), "postgresql://nobody_here@127.0.0.1:%d/postgres", pgtest_port());
    check_authentication(url);
    if (!data_dir) /* somebody's own server: its access rules are left alone */
        return;

    char path[512], line[] = "host all test_pool_role 127.0.0.1/32 scram-sha-256\n";
    (void)snprintf(path, sizeof(path), "%s/pg_hba.conf", data_dir);
    char *rules;
    size_t len;
    struct err err = ERR_INIT;
    assert_int_equal(file_read(path, 1 << 20, &rules, &len, &err), 0);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file, "%s%s", line, rules);
    assert_int_equal(fclose(file), 0);
    pgtest_exec("DROP ROLE IF EXISTS test_pool_role; CREATE ROLE test_pool_role LOGIN PASSWORD 'right'");
    pgtest_exec("SELECT pg_reload_conf()");
    pgtest_sleep_ms(200);

    (void)snprintf(url, sizeof(url), "postgresql://test_pool_role:wrong@127.0.0.1:%d/postgres",
                   pgtest_port());
    check_authentication(url);
    (void)snprintf(url, sizeof(url), "postgresql://test_pool_role@127.0.0.1:%d/postgres", pgtest_port());
    check_authentication(url); /* no password at all */
    (void)snprintf(url, sizeof(url), "postgresql://test_pool_role:right@127.0.0.1:%d/postgres",
                   pgtest_port());
    struct pg_pool *pool = pgtest_pool(url, 2);
    (void)backend_after(pool, NULL);
    assert_false(pg_pool_authentication_failed(pool));
    check_rejected_while_open(pool);
    pg_pool_free(pool);

    file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file, "%s", rules);
    assert_int_equal(fclose(file), 0);
    free(rules);
    pgtest_exec("SELECT pg_reload_conf()");
    pgtest_exec("DROP ROLE test_pool_role");
}

static void test_other_outages(void **state)
{
    (void)state;
    char url[256];
    (void)snprintf(url, sizeof(url), "postgresql://postgres@127.0.0.1:%d/no_such_database", pgtest_port());
    struct pg_pool *pool = pgtest_pool(url, 1);
    pgtest_wait_outage(pool, "database_missing");
    pg_pool_free(pool);
    (void)snprintf(url, sizeof(url), "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=require",
                   pgtest_port());
    pool = pgtest_pool(url, 1);
    pgtest_wait_outage(pool, "tls");
    pg_pool_free(pool);
    (void)snprintf(url, sizeof(url),
                   "postgresql://postgres@127.0.0.1:%d/postgres?target_session_attrs=standby", pgtest_port());
    pool = pgtest_pool(url, 1);
    pgtest_wait_outage(pool, "read_only");
    pg_pool_free(pool);
    pool = pgtest_pool("host=/nonexistent user=postgres dbname=x", 1);
    pgtest_wait_outage(pool, "refused");
    pg_pool_free(pool);
    pool = pgtest_pool("postgresql://no-such-host.invalid/x?sslmode=disable", 1);
    pgtest_wait_outage(pool, "name");
    pg_pool_free(pool);
}

/* ---- all together ---- */

struct crowd {
    struct pg_pool *pool;
    atomic_int done, lost, other;
    atomic_bool stop;
};

static void *crowd_run(void *arg)
{
    struct crowd *crowd = arg;
    while (!atomic_load(&crowd->stop)) {
        struct pg_transaction *tx = begin(crowd->pool, 5000);
        struct pg_result *result;
        struct pg_error error;
        if (pg_query(tx, "UPDATE test_pool_count SET n = n + 1", 0, NULL, &result, &error) == 0 &&
            pg_transaction_commit(tx, &error) == 0)
            atomic_fetch_add(&crowd->done, 1);
        else if (error.failure == PG_FAILURE_LOST)
            atomic_fetch_add(&crowd->lost, 1);
        else
            atomic_fetch_add(&crowd->other, 1);
        pg_transaction_free(tx);
    }
    return NULL;
}

/* Backends die at random; what was reported as committed is there, and nothing else. */
static void test_crowd_with_dying_backends(void **state)
{
    (void)state;
    enum { THREADS = 8 };
    pgtest_exec("DROP TABLE IF EXISTS test_pool_count; CREATE TABLE test_pool_count (n int); INSERT INTO "
                "test_pool_count VALUES (0)");
    struct crowd crowd = {.pool = pgtest_pool(NULL, 3)};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_run, &crowd), 0);
    for (int i = 0; i < 10; i++) {
        pgtest_sleep_ms(100);
        pgtest_exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cicada "
                    "test' LIMIT 1");
    }
    atomic_store(&crowd.stop, true);
    for (int i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    assert_int_equal(pgtest_int("SELECT n FROM test_pool_count"), atomic_load(&crowd.done));
    assert_int_equal(atomic_load(&crowd.other), 0);
    assert_true(atomic_load(&crowd.done) > 50);
    struct pg_pool_stats stats = stats_of(crowd.pool);
    assert_int_equal(stats.lent, 0);
    assert_int_equal(stats.waiting, 0);
    assert_true(stats.open <= 3);
    pg_pool_free(crowd.pool);
    pgtest_exec("DROP TABLE test_pool_count");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_are_checked),
        cmocka_unit_test(test_session_is_set_up),
        cmocka_unit_test(test_unix_socket_and_second_host),
        cmocka_unit_test(test_first_connection_opens_by_itself),
        cmocka_unit_test(test_exhausted_waits_until_the_deadline),
        cmocka_unit_test(test_first_come_first_served),
        cmocka_unit_test(test_grows_with_those_who_wait),
        cmocka_unit_test(test_surplus_is_closed),
        cmocka_unit_test(test_old_ones_are_replaced),
        cmocka_unit_test(test_outage_is_noticed_while_idle),
        cmocka_unit_test(test_dead_connection_is_not_lent),
        cmocka_unit_test(test_changed_session_is_not_lent),
        cmocka_unit_test(test_server_down_at_start),
        cmocka_unit_test(test_restart_is_waited_for),
        cmocka_unit_test(test_silent_server_is_a_timeout),
        cmocka_unit_test(test_rejected_role_and_password),
        cmocka_unit_test(test_other_outages),
        cmocka_unit_test(test_crowd_with_dying_backends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
