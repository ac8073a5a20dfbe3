/* TLS to a server with a certificate of its own authority. Skipped on a server that is not the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_postgres.h"

static const char *data_dir;
static char ca_path[512];

static void run(const char *command)
{
    if (system(command) != 0) /* NOLINT(cert-env33-c): fixed text of the test's own */
        fail_msg("failed: %s", command);
}

/* A certificate for localhost in the server's folder, readable by the server alone, as it demands. */
static int set_up(void **state)
{
    (void)state;
    data_dir = getenv("TEST_DATABASE_DIR");
    if (!data_dir || system("command -v openssl >/dev/null") != 0) { /* NOLINT(cert-env33-c) */
        data_dir = NULL;
        return 0;
    }
    CLEANUP_FREE char *command =
        xasprintf("cd '%s' && openssl req -new -x509 -days 2 -nodes -newkey rsa:2048 -subj /CN=localhost"
                  " -addext 'subjectAltName=DNS:localhost' -keyout server.key -out server.crt 2>/dev/null"
                  " && chmod 600 server.key && chown --reference=. server.key server.crt",
                  data_dir);
    run(command);
    (void)snprintf(ca_path, sizeof(ca_path), "%s/server.crt", data_dir);
    pgtest_exec("ALTER SYSTEM SET ssl = on");
    pgtest_exec("SELECT pg_reload_conf()");
    pgtest_sleep_ms(200);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!data_dir)
        return 0;
    pgtest_exec("ALTER SYSTEM RESET ssl");
    pgtest_exec("SELECT pg_reload_conf()");
    return 0;
}

static struct pg_pool *pool_with(const char *host, const char *parameters)
{
    if (!data_dir)
        skip();
    CLEANUP_FREE char *url =
        xasprintf("postgresql://postgres@%s:%d/postgres?%s", host, pgtest_port(), parameters);
    return pgtest_pool(url, 1);
}

static void check_outage(const char *host, const char *parameters, const char *expected)
{
    struct pg_pool *pool = pool_with(host, parameters);
    pgtest_wait_outage(pool, expected);
    struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(100));
    (void)pgtest_query_fails(tx, "SELECT 1", PG_FAILURE_UNREACHABLE);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void test_verified(void **state)
{
    (void)state;
    CLEANUP_FREE char *verify = xasprintf("sslmode=verify-full&sslrootcert=%s", ca_path);
    struct pg_pool *pool = pool_with("localhost", verify);
    struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(5000));
    assert_string_equal(pgtest_value(tx, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"),
                        "true");
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

static void test_not_verified(void **state)
{
    (void)state;
    CLEANUP_FREE char *verify = xasprintf("sslmode=verify-full&sslrootcert=%s", ca_path);
    check_outage("127.0.0.1", verify, "tls");                /* another name than the certificate's */
    check_outage("localhost", "sslmode=verify-full", "tls"); /* an authority that nobody knows */
}

/* Bytes that OpenSSL has read and decrypted do not make the socket readable. */
static void test_large_messages(void **state)
{
    (void)state;
    struct pg_pool *pool = pool_with("localhost", "sslmode=require");
    for (int round = 0; round < 30; round++) {
        struct pg_transaction *tx = pg_transaction_new(pool, true, pgtest_deadline(10000));
        char sql[128];
        (void)snprintf(sql, sizeof(sql), "SELECT repeat('x', %d + g * 7) FROM generate_series(1, 300) g",
                       1000 + round * 997);
        struct pg_result *result = pgtest_query(tx, sql);
        assert_int_equal(pg_result_rows(result), 300);
        const size_t size = 300000;
        CLEANUP_FREE char *large = xmalloc(size + 1);
        memset(large, 'y', size);
        large[size] = '\0';
        const char *params[] = {large};
        struct pg_error error;
        assert_int_equal(pg_query(tx, "SELECT $1::text, length($1::text)", 1, params, &result, &error), 0);
        assert_string_equal(pg_result_value(result, 0, 1, NULL), "300000");
        pgtest_commit(tx);
        pg_transaction_free(tx);
    }
    pg_pool_free(pool);
}

static void test_deadline_and_cancel(void **state)
{
    (void)state;
    struct pg_pool *pool = pool_with("localhost", "sslmode=require");
    struct pg_transaction *tx = pg_transaction_new(pool, false, pgtest_deadline(300));
    (void)pgtest_query_fails(tx, "SELECT pg_sleep(10)", PG_FAILURE_DEADLINE);
    pg_transaction_free(tx);
    pg_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verified),
        cmocka_unit_test(test_not_verified),
        cmocka_unit_test(test_large_messages),
        cmocka_unit_test(test_deadline_and_cancel),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
