/* The end of a pool whose thread hangs where nothing can cancel it: in the resolution of a name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>
#include <netdb.h>

#include "runtime/base/clock.h"
#include "runtime/tests/support_postgres.h"

#define HANG_MS 600

static atomic_int resolving;

/* Is the program's getaddrinfo(), also for libpq: no name is found, slowly. */
__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
                                                       const struct addrinfo *req, struct addrinfo **pai)
{
    (void)name;
    (void)service;
    (void)req;
    (void)pai;
    atomic_fetch_add(&resolving, 1);
    pgtest_sleep_ms(HANG_MS);
    return EAI_AGAIN;
}

static void test_stop_does_not_wait_for_a_name(void **state)
{
    struct pg_pool *pool = pgtest_pool("postgresql://u@database.test/d", 1);
    int64_t start_ms;

    (void)state;
    while (atomic_load(&resolving) == 0)
        pgtest_sleep_ms(1);
    start_ms = clock_monotonic_ms();
    assert_false(pg_pool_stop(pool, start_ms + 100));
    assert_in_range(clock_monotonic_ms() - start_ms, 100, 400);
    assert_true(pg_pool_stop(pool, start_ms + 10000)); /* as soon as the name is given up */
    assert_in_range(clock_monotonic_ms() - start_ms, 100, HANG_MS + 2000);
    pg_pool_free(pool);
}

static void test_stop_is_prompt_otherwise(void **state)
{
    struct pg_pool *never_started, *pool = pgtest_pool("postgresql://u@127.0.0.1:1/d", 1);
    struct pg_pool_settings settings = {
        .url = "postgresql://u@127.0.0.1:1/d", .size = 1, .connect_timeout_ms = 1000};
    struct err err = ERR_INIT;
    int64_t start_ms = clock_monotonic_ms();

    (void)state;
    assert_true(pg_pool_stop(pool, start_ms + 5000));
    pg_pool_free(pool);
    assert_int_equal(pg_pool_new(&settings, &never_started, &err), 0);
    assert_true(pg_pool_stop(never_started, 1));
    pg_pool_free(never_started);
    assert_true(pg_pool_stop(NULL, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_does_not_wait_for_a_name),
        cmocka_unit_test(test_stop_is_prompt_otherwise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
