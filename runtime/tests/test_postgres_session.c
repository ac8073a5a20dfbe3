/* What a connection sets and asks when it is new: settings that the server refuses, and when it learns of the server's run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/base/text.h"
#include "runtime/postgres/pg_pool.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_postgres.h"

static void assert_setting(struct pg_pool *pool, const char *name, const char *value)
{
    char sql[128];
    (void)snprintf(sql, sizeof(sql), "SELECT setting FROM pg_settings WHERE name = '%s'", name);
    struct pg_transaction *tx = pg_transaction_new(pool, /* read_only= */ true, pgtest_deadline(5000));
    assert_string_equal(pgtest_value(tx, sql), value);
    pg_transaction_free(tx);
}

/* A pool whose connection asks for `wrong` instead of `right`, of the same length. */
static struct pg_pool *pool_with_setting(struct pg_proxy *proxy, const char *right, const char *wrong)
{
    assert_int_equal(strlen(right), strlen(wrong));
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_REPLACE, right, strlen(right), wrong);
    return pgtest_pool(pg_proxy_url(proxy), 1);
}

static void test_refused_settings_are_left_out(void **state)
{
    (void)state;
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    struct pg_pool *pool = pool_with_setting(proxy, "client_connection_check", "client_connection_chekk");
    assert_setting(pool, "client_connection_check_interval", "0");
    assert_setting(pool, "tcp_user_timeout", "30000");
    assert_setting(pool, "default_transaction_read_only", "on");
    pg_pool_free(pool);

    /* It takes its group along, but no other. */
    pool = pool_with_setting(proxy, "tcp_keepalives_idle", "tcp_keepalives_idol");
    assert_setting(pool, "tcp_user_timeout", "0");
    assert_setting(pool, "idle_in_transaction_session_timeout", "0");
    assert_setting(pool, "default_transaction_read_only", "on");
    assert_setting(pool, "client_connection_check_interval", "5000");
    pg_pool_free(pool);
    pg_proxy_free(proxy);
}

static void test_needed_setting_refused_is_an_outage(void **state)
{
    (void)state;
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    struct pg_pool *pool = pool_with_setting(proxy, "datestyle = ISO", "datestyle = IOS");
    pgtest_wait_outage(pool, "unreachable");
    pgtest_wait_outage(pool, NULL); /* the rule has acted: the next attempt succeeds */
    assert_setting(pool, "DateStyle", "ISO, MDY");
    pg_pool_free(pool);
    pg_proxy_free(proxy);
}

static bool run_is_known(struct pg_pool *pool, bool read_only)
{
    struct pg_transaction *tx = pg_transaction_new(pool, read_only, pgtest_deadline(5000));
    (void)pgtest_value(tx, "SELECT 1");
    pg_transaction_free(tx);
    return pool->idle->server_run[0] != '\0'; /* the pool's only one, and nobody else is there */
}

static void test_run_is_asked_for_before_writing(void **state)
{
    (void)state;
    struct pg_pool *pool = pgtest_pool(NULL, 1);
    assert_false(run_is_known(pool, /* read_only= */ true));
    assert_true(run_is_known(pool, /* read_only= */ false));
    assert_true(run_is_known(pool, /* read_only= */ true));
    pg_pool_free(pool);
}

/* Nothing was sent but the question: nothing can be in doubt. */
static void test_death_while_run_is_asked_for(void **state)
{
    (void)state;
    struct pg_error error;
    struct pg_proxy *proxy = pg_proxy_new(pgtest_port());
    struct pg_pool *pool = pgtest_pool(pg_proxy_url(proxy), 1);
    assert_false(run_is_known(pool, /* read_only= */ true));
    pg_proxy_rule(proxy, PG_PROXY_TO_SERVER, PG_PROXY_CUT_ANSWER, "pg_postmaster_start", 19, NULL);
    struct pg_transaction *tx = pg_transaction_new(pool, /* read_only= */ false, pgtest_deadline(5000));
    assert_int_equal(pg_query_commit(tx, "SELECT 1", 0, NULL, NULL, &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_LOST);
    pg_transaction_free(tx);
    assert_true(run_is_known(pool, /* read_only= */ false)); /* on a new one */
    pg_pool_free(pool);
    pg_proxy_free(proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_settings_are_left_out),
        cmocka_unit_test(test_needed_setting_refused_is_an_outage),
        cmocka_unit_test(test_run_is_asked_for_before_writing),
        cmocka_unit_test(test_death_while_run_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
