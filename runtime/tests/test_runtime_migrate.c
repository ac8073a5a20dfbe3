/* Schema `cicada` and the real runtime: installed by its start, by --migrate, or missed with a reason. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_relay.h"
#include "runtime/tests/support_runtime.h"

#define DATABASE "cicada_test_migrate"
#define OWNER    "cicada_test_migrate_owner" /* of the database; no superuser */
#define GUEST    "cicada_test_migrate_guest" /* may log in */
#define SPEC     "{\"handler\":\"probe.so:probe\",\"http\":{\"idempotency\":\"Optional\"},\"database\":{}}"

struct fixture {
    char *super_url, *owner_url, *guest_url;
};

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));

    test_database_drop(DATABASE);
    test_role_create(OWNER);
    test_role_create(GUEST);
    test_database_create(DATABASE, OWNER);
    fixture->super_url = test_database_url(NULL, 0, DATABASE);
    fixture->owner_url = test_database_url(OWNER, 0, DATABASE);
    fixture->guest_url = test_database_url(GUEST, 0, DATABASE);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    test_database_drop(DATABASE);
    test_role_drop(GUEST);
    test_role_drop(OWNER);
    free(fixture->super_url);
    free(fixture->owner_url);
    free(fixture->guest_url);
    free(fixture);
    return 0;
}

static void start(struct runtime_process *process, const char *url, bool serving)
{
    const struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = SPEC, .database_url = url};

    runtime_process_start(process, &settings, serving);
}

static void expect_failed_start(const char *url, const char *reason, const char *text)
{
    CLEANUP_FREE char *beginning = xasprintf("{\"reason\":\"%s\",\"message\":\"", reason);
    CLEANUP_FREE char *message = NULL;
    struct runtime_process process;

    start(&process, url, /* serving= */ false);
    assert_int_equal(runtime_process_wait(&process), 1);
    message = runtime_process_read(process.termination_path);
    if (strncmp(message, beginning, strlen(beginning)) != 0 || strstr(message, text) == NULL)
        fail_msg("expected %s with <%s>, found <%s>", reason, text, message);
    runtime_process_release(&process);
}

/* Serves, and keeps an answer. */
static void expect_works(const char *url)
{
    struct runtime_process process;

    start(&process, url, /* serving= */ true);
    for (int i = 0; i < 2; i++) {
        struct http_answer answer = http_ask(process.port, "POST", "/", "Idempotency-Key: k\r\n", "");
        assert_int_equal(answer.status, 200);
        assert_int_equal(http_answer_has(&answer, "Idempotency-Replayed: true\r\n"), i == 1);
        http_answer_release(&answer);
    }
    assert_int_equal(runtime_process_stop(&process), 0);
    runtime_process_release(&process);
}

/* Runs the program; its exit code, and all that it said. */
static int migrate(const char *url, const char *arguments, char *output, size_t size)
{
    CLEANUP_FREE char *database = url ? xasprintf("DATABASE_URL='%s'", url) : xstrdup("");
    CLEANUP_FREE char *command = xasprintf("%s '%s/bin/cicada-runtime' --migrate %s 2>&1", database,
                                           getenv("CICADA_TEST_BUILD"), arguments);
    FILE *pipe = popen(command, "r"); /* NOLINT(cert-env33-c): a test's own command */
    size_t len;
    int status;

    assert_non_null(pipe);
    len = fread(output, 1, size - 1, pipe);
    output[len] = '\0';
    status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_migration(const char *url, const char *arguments, int code, const char *text)
{
    char output[4096];
    int found = migrate(url, arguments, output, sizeof(output));

    if (found != code || strstr(output, text) == NULL)
        fail_msg("expected %d and <%s>, found %d and <%s>", code, text, found, output);
}

static void test_start_installs_what_is_missing(void **state)
{
    struct fixture *fixture = *state;

    expect_works(fixture->owner_url);
    test_database_expect(fixture->owner_url, "SELECT version FROM cicada.schema_state()", "3");
}

static void test_eight_starts_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct runtime_process processes[8];

    for (size_t i = 0; i < ARRAY_SIZE(processes); i++)
        start(&processes[i], fixture->owner_url, /* serving= */ false);
    for (size_t i = 0; i < ARRAY_SIZE(processes); i++) {
        runtime_process_await(&processes[i]);
        assert_int_equal(runtime_process_stop(&processes[i]), 0);
        runtime_process_release(&processes[i]);
    }
    test_database_expect(fixture->owner_url, "SELECT count(*) FROM cicada.schema_version", "3");
}

static void test_role_that_may_not_is_told_what_to_run(void **state)
{
    struct fixture *fixture = *state;

    expect_failed_start(fixture->guest_url, "SchemaMissing",
                        "schema cicada is not in the database: run cicada-runtime --migrate"
                        " --grant-to='" GUEST "' with the DATABASE_URL of the database's owner");
    expect_migration(fixture->owner_url, "--grant-to='" GUEST "'", 0,
                     "schema cicada was installed: version 3\nrole " GUEST " may use it\n");
    expect_works(fixture->guest_url); /* with no right but that, to a schema of another role */
}

static void test_role_that_was_not_let_in(void **state)
{
    struct fixture *fixture = *state;

    expect_migration(fixture->owner_url, "", 0, "schema cicada was installed: version 3\n");
    expect_failed_start(fixture->guest_url, "SchemaMissing",
                        "run SELECT cicada.grant_to('" GUEST "') as the schema's owner");
    test_database_exec(fixture->owner_url, "SELECT cicada.grant_to('" GUEST "')");
    expect_works(fixture->guest_url);
}

static void test_runtime_below_min_runtime(void **state)
{
    struct fixture *fixture = *state;

    expect_migration(fixture->owner_url, "", 0, "installed");
    test_database_exec(fixture->owner_url, "INSERT INTO cicada.schema_version VALUES (4, '99.0')");
    expect_failed_start(fixture->owner_url, "SchemaMissing", "needs runtime 99.0 or newer");
    test_database_exec(fixture->owner_url,
                       "UPDATE cicada.schema_version SET min_runtime = '0.1.0' WHERE version = 4");
    expect_works(fixture->owner_url);
}

static void test_functions_that_need_no_schema(void **state)
{
    struct fixture *fixture = *state;
    struct runtime_process process;
    const struct runtime_process_settings settings = {.functions = "test-functions",
                                                      .spec =
                                                          "{\"handler\":\"probe.so:probe\",\"database\":{}}",
                                                      .database_url = fixture->guest_url};
    struct http_answer answer;

    runtime_process_start(&process, &settings, /* serving= */ true);
    answer = http_ask(process.port, "POST", "/?do=select", "Idempotency-Key: \"\r\n", "");
    assert_int_equal(answer.status, 200); /* the header is not looked at */
    http_answer_release(&answer);
    runtime_process_release(&process);
    test_database_expect(fixture->super_url, "SELECT to_regnamespace('cicada') IS NULL", "t");
}

static void test_migrate_says_what_it_did(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_FREE char *away = test_database_url(NULL, 1, DATABASE);

    expect_migration(fixture->guest_url, "", 1,
                     "cicada-runtime: permission denied for database " DATABASE ", SQLSTATE 42501\n");
    expect_migration(fixture->owner_url, "", 0, "schema cicada was installed: version 3\n");
    expect_migration(fixture->owner_url, "", 0, "schema cicada is at version 3: nothing to do\n");
    expect_migration(fixture->super_url, "", 1, "schema cicada belongs to role " OWNER);
    expect_migration(fixture->owner_url, "--grant-to=nobody_here", 1, "SQLSTATE 42704");
    expect_migration(NULL, "", 2, "neither DATABASE_URL nor DATABASE_URL_FILE is set");
    expect_migration("postgresql://h/d?nonsense=1", "", 2, "DATABASE_URL: ");
    expect_migration("postgresql://nobody_here@127.0.0.1:1/none", "", 1, "cicada-runtime: ");
    expect_migration(away, "", 1, "cicada-runtime: ");
    expect_migration(fixture->owner_url, "--help", 0, "--migrate");
}

static bool is_waiting(void *arg)
{
    struct runtime_process *process = arg;
    struct http_answer answer = http_ask(process->admin_port, "GET", "/readyz", "", NULL);
    bool waiting = answer.status == 503 &&
                   http_answer_has(&answer, "{\"reason\":\"DatabaseUnreachable\",\"message\":\"");

    http_answer_release(&answer);
    return waiting;
}

static void test_start_waits_for_the_database(void **state)
{
    struct runtime_process process;
    struct relay relay;
    CLEANUP_FREE char *url = NULL;

    (void)state;
    relay_start(&relay, pgtest_port());
    relay_cut(&relay);
    url = test_database_url(OWNER, relay.port, DATABASE);
    start(&process, url, /* serving= */ false);
    wait_until(is_waiting, &process, "the start waits for the database");
    relay_restore(&relay);
    runtime_process_await(&process);
    http_expect(process.port, "GET", "/?do=select", NULL, 200, "");
    assert_int_equal(runtime_process_stop(&process), 0);
    runtime_process_release(&process);
    relay_cut(&relay);
    start(&process, url, /* serving= */ false);
    wait_until(is_waiting, &process, "the next start waits too");
    assert_int_equal(runtime_process_stop(&process), 0); /* and can be told to end */
    runtime_process_release(&process);
    relay_stop(&relay);
}

static void test_rejected_role_at_start(void **state)
{
    CLEANUP_FREE char *url = test_database_url("nobody_here", 0, DATABASE);

    (void)state;
    expect_failed_start(url, "DatabaseUnreachable", "authentication: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_start_installs_what_is_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eight_starts_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_role_that_may_not_is_told_what_to_run, setup, teardown),
        cmocka_unit_test_setup_teardown(test_role_that_was_not_let_in, setup, teardown),
        cmocka_unit_test_setup_teardown(test_runtime_below_min_runtime, setup, teardown),
        cmocka_unit_test_setup_teardown(test_functions_that_need_no_schema, setup, teardown),
        cmocka_unit_test_setup_teardown(test_migrate_says_what_it_did, setup, teardown),
        cmocka_unit_test_setup_teardown(test_start_waits_for_the_database, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rejected_role_at_start, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
