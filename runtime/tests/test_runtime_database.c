/* The real runtime when its database goes away, comes back, or rejects it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_relay.h"
#include "runtime/tests/support_runtime.h"

#define SPEC                                                                                                 \
    "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":2,\"concurrency\":8,\"database\":{\"poolSize\":4}}"

struct fixture {
    struct relay relay;
    struct runtime_process process;
};

/* TEST_DATABASE_URL is postgresql://user@host:port/name: its port, and a URL to the same database by another. */
static int database_port(void)
{
    const char *url = getenv("TEST_DATABASE_URL");
    const char *colon = strrchr(url, ':');
    int64_t port = 0;

    assert_true(parse_int64_n(colon + 1, strcspn(colon + 1, "/"), 1, 65535, &port));
    return (int)port;
}

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    CLEANUP_FREE char *url = NULL;
    struct runtime_process_settings settings = {.functions = "test-functions", .spec = SPEC};

    free(database_value("DROP SCHEMA IF EXISTS runtime_test CASCADE; CREATE SCHEMA runtime_test;"
                        "CREATE TABLE runtime_test.notes (id serial PRIMARY KEY, text text UNIQUE)"));
    relay_start(&fixture->relay, database_port());
    url = xasprintf("postgresql://postgres@127.0.0.1:%d/postgres", fixture->relay.port);
    settings.database_url = url;
    runtime_process_start(&fixture->process, &settings, /* serving= */ true);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    runtime_process_release(&fixture->process);
    relay_stop(&fixture->relay);
    free(database_value("DROP SCHEMA runtime_test CASCADE"));
    free(fixture);
    return 0;
}

static bool works(void *arg)
{
    struct fixture *fixture = arg;
    struct http_answer answer = http_ask(fixture->process.port, "GET", "/?do=select", "", NULL);
    bool ok = answer.status == 200;

    if (!ok)
        assert_int_equal(answer.status, 503);
    http_answer_release(&answer);
    return ok;
}

static void test_outage_is_503_and_heals(void **state)
{
    struct fixture *fixture = *state;
    int port = fixture->process.port;

    wait_until(works, fixture, "the database answers");
    relay_cut(&fixture->relay);
    http_expect(port, "GET", "/?do=select", NULL, 503, "Retry-After: 1\r\n");
    http_expect(port, "GET", "/?do=select", NULL, 503, "\"code\":\"database_unreachable\"");
    http_expect(port, "GET", "/", NULL, 200, "\"path\":\"/\""); /* what needs no database goes on */
    http_expect(fixture->process.admin_port, "GET", "/readyz", NULL, 200, "ok");
    relay_restore(&fixture->relay);
    wait_until(works, fixture, "the database answers again");
    http_expect(port, "POST", "/?do=note&text=healed", NULL, 200, "healed");
}

struct backend_wait {
    const char *sql;
};

static bool has_backend(void *arg)
{
    const struct backend_wait *wait = arg;
    CLEANUP_FREE char *count = database_value(wait->sql);
    return strcmp(count, "0") != 0;
}

static void test_connection_that_dies_in_the_middle(void **state)
{
    struct fixture *fixture = *state;
    struct backend_wait wait = {"SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
                                " AND application_name LIKE 'cicada %'"};
    struct http_call call;
    CLEANUP_FREE char *count = NULL;

    wait_until(works, fixture, "the database answers");
    http_call_start(&call, fixture->process.port, "POST", "/?do=note&text=torn&ms=500", NULL);
    wait_until(has_backend, &wait, "the note is written");
    free(database_value("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                        " WHERE state = 'idle in transaction' AND application_name LIKE 'cicada %'"));
    http_call_join(&call);
    assert_int_equal(call.answer.status, 503); /* nothing was written, so it may be tried again */
    assert_true(http_answer_has(&call.answer, "Retry-After: 1\r\n"));
    http_answer_release(&call.answer);
    count = database_value("SELECT count(*) FROM runtime_test.notes WHERE text = 'torn'");
    assert_string_equal(count, "0");
}

static void test_starts_and_drains_without_a_database(void **state)
{
    struct runtime_process process;
    CLEANUP_FREE char *url = xasprintf("postgresql://postgres@127.0.0.1:%d/postgres", free_port());
    struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = SPEC, .database_url = url};

    (void)state;
    runtime_process_start(&process, &settings, /* serving= */ true);
    http_expect(process.port, "GET", "/?do=select", NULL, 503, "\"code\":\"database_unreachable\"");
    http_expect(process.admin_port, "GET", "/readyz", NULL, 200, "ok");
    assert_int_equal(runtime_process_stop(&process), 0);
    runtime_process_release(&process);
}

static void test_rejected_role_ends_the_process(void **state)
{
    struct runtime_process process;
    CLEANUP_FREE char *url =
        xasprintf("postgresql://nobody_here:secret@127.0.0.1:%d/postgres", database_port());
    CLEANUP_FREE char *message = NULL;
    CLEANUP_FREE char *log = NULL;
    struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = SPEC, .database_url = url};

    (void)state;
    runtime_process_start(&process, &settings, /* serving= */ false);
    assert_int_equal(runtime_process_wait(&process), 1);
    message = runtime_process_read(process.termination_path);
    assert_non_null(strstr(message, "{\"reason\":\"DatabaseUnreachable\",\"message\":\"authentication: "));
    log = runtime_process_read(process.log_path);
    assert_null(strstr(log, "secret"));
    runtime_process_release(&process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outage_is_503_and_heals),
        cmocka_unit_test(test_connection_that_dies_in_the_middle),
        cmocka_unit_test(test_starts_and_drains_without_a_database),
        cmocka_unit_test(test_rejected_role_ends_the_process),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
