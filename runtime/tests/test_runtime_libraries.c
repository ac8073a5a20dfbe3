/* The real runtime: which libraries it has in memory once it serves. */
#include "runtime/tests/support_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_runtime.h"

#define HANDLER      "{\"handler\":\"probe.so:probe\"}"
#define HANDLER_ROWS "{\"handler\":\"probe.so:probe\",\"database\":{\"poolSize\":1}}"
#define SQL          "{\"sql\":\"SELECT 1 AS one\",\"database\":{\"poolSize\":1}}"
#define STAND_IN     "/lib/cicada/without-ldap.so"
#define LIBLDAP      "/libldap"

static char *memory_map(const struct runtime_process *process)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/maps", (int)runtime_process_worker(process));
    return runtime_process_read(path);
}

/* The map of a worker that serves `spec`; if it has a database, after a request over a connection of its libpq: in the middle of
 * loading libpq is there before what it needs. `more`: of the environment. */
static char *map_of(const char *spec, const char *const more[2])
{
    struct runtime_process process;
    const struct runtime_process_settings settings = {.functions = "test-functions",
                                                      .spec = spec,
                                                      .database_url = getenv("TEST_DATABASE_URL"),
                                                      .env = {more[0], more[1]}};
    char *map;

    runtime_process_start(&process, &settings, /* serving= */ true);
    if (strcmp(spec, HANDLER_ROWS) == 0)
        http_expect(process.port, "GET", "/?do=select", NULL, 200, "");
    if (strcmp(spec, SQL) == 0)
        http_expect(process.port, "GET", "/", NULL, 200, "\"one\":1");
    map = memory_map(&process);
    assert_int_equal(runtime_process_stop(&process), 0);
    runtime_process_release(&process);
    return map;
}

static const char *const nothing_more[2] = {NULL, NULL};

static void test_handler_without_database_has_no_libpq(void **state)
{
    CLEANUP_FREE char *map = map_of(HANDLER, nothing_more);

    (void)state;
    assert_non_null(strstr(map, "/libcivetweb"));
    assert_null(strstr(map, "/libpq"));
    assert_null(strstr(map, STAND_IN));
}

/* It may load a library that needs libldap. */
static void test_handler_has_the_whole_of_libpq(void **state)
{
    CLEANUP_FREE char *map = map_of(HANDLER_ROWS, nothing_more);

    (void)state;
    assert_non_null(strstr(map, LIBLDAP));
    assert_null(strstr(map, STAND_IN));
}

static void test_sql_function_goes_without_ldap(void **state)
{
    CLEANUP_FREE char *map = map_of(SQL, nothing_more);

    (void)state;
    assert_non_null(strstr(map, STAND_IN));
    assert_null(strstr(map, LIBLDAP));
    assert_null(strstr(map, "/libgnutls"));
    assert_non_null(strstr(map, "/libgssapi"));
}

/* Its file may name an LDAP server. */
static void test_service_needs_ldap(void **state)
{
    char path[] = "/tmp/cicada-service.XXXXXX";
    int fd = mkstemp(path);
    CLEANUP_FREE char *file = xasprintf("PGSERVICEFILE=%s", path);
    const char *const more[2] = {"PGSERVICE=test", file};
    CLEANUP_FREE char *map = NULL;

    (void)state;
    assert_int_equal(write(fd, "[test]\n", 7), 7);
    (void)close(fd);
    map = map_of(SQL, more);
    (void)unlink(path);
    assert_non_null(strstr(map, LIBLDAP));
    assert_null(strstr(map, STAND_IN));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handler_without_database_has_no_libpq),
        cmocka_unit_test(test_handler_has_the_whole_of_libpq),
        cmocka_unit_test(test_sql_function_goes_without_ldap),
        cmocka_unit_test(test_service_needs_ldap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
