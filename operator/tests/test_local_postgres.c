/* test_local_postgres.c - the PostgreSQL that cicada-local brings along: new, kept, fresh, killed at any moment, as any user. */
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "operator/tests/support_local.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_shell.h"
#include "runtime/tests/support_test.h"

#define SCHEMA                                                                                               \
    "CREATE TABLE public.visits (name text PRIMARY KEY, count int NOT NULL);\n"                              \
    "INSERT INTO public.visits VALUES ('seed', 7);\n"
#define COUNT_SQL                                                                                            \
    "INSERT INTO public.visits AS v VALUES ('me', 1) ON CONFLICT (name) DO UPDATE SET count = v.count + 1 "  \
    "RETURNING count"
#define POSTGRES        "/postgres -D"
#define GONE_MS         8000
#define NEXT_START_MS   15000
#define SIGNAL_DELAY_MS 40

static const char *const with_schema[] = {"--init-sql=schema.sql", NULL};

static int setup(void **state)
{
    (void)local_setup(state);
    struct local *local = *state;
    local->no_database = true;
    local_write(local, "manifests/../schema.sql", SCHEMA);
    local_sql(local, "count", COUNT_SQL, "  result: Row\n  scaling: {idleSeconds: 60}\n");
    local_sql(local, "seed", "SELECT count AS seed FROM public.visits WHERE name = 'seed'",
              "  result: Row\n");
    return 0;
}

static void expect_count(const struct local *local, int count)
{
    CLEANUP_FREE char *text = xasprintf("{\"count\":%d}", count);
    http_expect(local->port, "POST", "/fn/default/count/", "{}", 200, text);
}

/* A POSIX shared memory file would be seen in its maps. */
static void expect_no_shared_file(const struct local_processes *processes)
{
    for (size_t i = 0; i < processes->count; i++) {
        CLEANUP_FREE char *path = xasprintf("/proc/%d/maps", (int)processes->pids[i]),
                          *maps = runtime_process_read(path);
        assert_null(strstr(maps, "/dev/shm/"));
    }
}

static void expect_gone(struct local *local, const struct local_processes *processes)
{
    local_await_over(processes, 0);
    local_remove(local, "schema.sql");
    local_expect_nothing_left(local, processes);
    local_write(local, "schema.sql", SCHEMA);
    assert_false(local_has(local, "state/postgres/data/postmaster.pid"));
}

static void test_data_is_kept_unless_fresh(void **state)
{
    struct local *local = *state;
    struct local_processes processes;
    static const char *const fresh[] = {"--fresh", "--init-sql=schema.sql", NULL};
    local_start(local, with_schema);
    assert_int_equal(local_log_count(local, " a new database: "), 1);
    local_expect(local, "/fn/default/seed/", 200, "{\"seed\":7}");
    expect_count(local, 1);
    expect_count(local, 2);
    local_processes(local, &processes);
    expect_no_shared_file(&processes);
    assert_int_equal(local_stop(local, SIGTERM), 0);
    expect_gone(local, &processes);
    local_start(local, with_schema);
    assert_int_equal(local_log_count(local, "the database: "), 1);
    expect_count(local, 3);
    assert_int_equal(local_stop(local, SIGINT), 0);
    local_start(local, fresh);
    expect_count(local, 1);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* The first keyed request finds no schema cicada and has it installed: all is well, and nobody is told of an error. */
static void test_schema_is_installed_quietly(void **state)
{
    struct local *local = *state;
    local_write(local, "manifests/keyed.yaml",
                "apiVersion: cicada.dev/v1alpha1\nkind: Function\nmetadata: {name: keyed}\n"
                "spec:\n  sql: SELECT 1 AS n\n  result: Row\n"
                "  http: {idempotency: Optional}\n  database: {secretRef: {name: db}}\n");
    local_start(local, with_schema);
    local_expect(local, "/fn/default/keyed/", 200, "{\"n\":1}");
    CLEANUP_FREE char *log = local_log(local);
    if (strstr(log, "ERROR")) {
        local_fail(local, "an error is said");
    }
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* By the socket and by loopback, as people are told. */
static void test_command_has_the_database(void **state)
{
    struct local *local = *state;
    static const char *const args[] = {"--init-sql=schema.sql",
                                       "--exec=psql -XAt \"$DATABASE_URL\" -c 'SELECT count * 6 FROM visits' "
                                       "&& curl -s $CICADA_URL/fn/default/seed/",
                                       NULL};
    local_expect_end(local, args, 0, "42\n");
    assert_int_equal(local_log_count(local, "{\"seed\":7}"), 1);
    local_start(local, NULL);
    CLEANUP_FREE char *log = local_log(local);
    char *line = strstr(log, "psql -h ");
    assert_non_null(line);
    assert_non_null(strchr(line, '\n'));
    *strchr(line, '\n') = '\0';
    CLEANUP_FREE char *command = xasprintf("%s -XAt -c 'SELECT count FROM visits'", line);
    shell_expect(command, "7");
    CLEANUP_FREE char *program = xasprintf(
        "%s/state/psql -XAt -c \"SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user\"",
        local->folder);
    shell_expect(program, "false");
    assert_int_equal(local_stop(local, SIGTERM), 0);
    assert_false(local_has(local, "state/psql"));
}

static void test_wrong_init_sql(void **state)
{
    struct local *local = *state;
    static const char *const missing[] = {"--init-sql=no_such.sql", NULL};
    local_expect_end(local, missing, 1, "--init-sql: no_such.sql: No such file");
    local_write(local, "schema.sql", "CREATE TABLE public.visits (name text);\nCREATE TABBLE x;\n");
    local_expect_end(local, with_schema, 1, "schema.sql:2: ERROR:  syntax error at or near \"TABBLE\"");
    local_write(local, "schema.sql", SCHEMA);
    local_start(local, with_schema); /* begins anew */
    expect_count(local, 1);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* The server's own processes are ended by it; ours answer again when it is back, without an edit. */
static void test_postmaster_is_killed(void **state)
{
    struct local *local = *state;
    local_start(local, with_schema);
    expect_count(local, 1);
    for (int round = 0; round < 2; round++) {
        pid_t postmaster = local_child(local, POSTGRES);
        kill(postmaster, SIGKILL);
        int64_t before_ms = clock_monotonic_ms();
        while (local_log_count(local, "PostgreSQL ended by itself: SIGKILL (signal 9)") <= round) {
            assert_true(clock_monotonic_ms() - before_ms < 5000);
            poll(NULL, 0, 5);
        }
        local_await_outcome(local, "/fn/default/seed/", 200, "seed");
        assert_true(clock_monotonic_ms() - before_ms < 10000);
        assert_int_not_equal(local_child(local, POSTGRES), postmaster);
    }
    struct local_processes processes;
    local_processes(local, &processes);
    assert_int_equal(local_stop(local, SIGTERM), 0);
    expect_gone(local, &processes);
}

static void test_stop_while_postgres_is_down(void **state)
{
    struct local *local = *state;
    struct local_processes processes;
    local_start(local, with_schema);
    expect_count(local, 1);
    local_processes(local, &processes);
    kill(local_child(local, POSTGRES), SIGKILL);
    local_await_log(local, "PostgreSQL ended by itself: SIGKILL (signal 9)");
    assert_int_equal(local_stop(local, SIGTERM), 0);
    local_await_over(&processes, GONE_MS);
    local_start(local, NULL); /* recovers */
    expect_count(local, 2);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

static void kill_and_start_again(struct local *local, const char *const *args)
{
    struct local_processes processes;
    local_processes(local, &processes);
    assert_int_equal(local_stop(local, SIGKILL), 128 + SIGKILL);
    int64_t before_ms = clock_monotonic_ms();
    local_start(local, args); /* at once: it waits for what is still ending */
    if (clock_monotonic_ms() - before_ms > NEXT_START_MS) {
        local_fail(local, "the next start took too long");
    }
    local_await_over(&processes, GONE_MS);
}

static void test_kill_keeps_the_data(void **state)
{
    struct local *local = *state;
    struct local_processes processes;
    local_start(local, with_schema);
    expect_count(local, 1);
    local_processes(local, &processes);
    assert_int_equal(local_stop(local, SIGKILL), 128 + SIGKILL);
    local_await_over(&processes, GONE_MS); /* by themselves */
    local_start(local, NULL);
    expect_count(local, 2);
    kill_and_start_again(local, NULL);
    expect_count(local, 3);
    local_processes(local, &processes);
    assert_int_equal(local_stop(local, SIGTERM), 0);
    expect_gone(local, &processes);
}

/* All was killed, and the number of its pid file is another program's now, as in a container that begins anew. */
static void test_stale_pid_file(void **state)
{
    struct local *local = *state;
    local_start(local, with_schema);
    expect_count(local, 1);
    assert_int_equal(local_stop(local, SIGTERM), 0);
    CLEANUP_FREE char *text =
        xasprintf("%d\n%s/state/postgres/data\n1\n5432\n\n127.0.0.1\n", (int)getpid(), local->folder);
    local_write(local, "state/postgres/data/postmaster.pid", text);
    int64_t before_ms = clock_monotonic_ms();
    local_start(local, NULL);
    assert_true(clock_monotonic_ms() - before_ms < 8000);
    expect_count(local, 2);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* At several moments of initdb; the password file, the half folder: nothing of it confuses the next start. */
static void test_kill_during_initdb(void **state)
{
    struct local *local = *state;
    for (int i = 0; i < 4; i++) {
        local_launch(local, with_schema);
        local_await_children(local, "initdb", 1);
        poll(NULL, 0, 10 + i * 250);
        struct local_processes processes;
        local_processes(local, &processes);
        assert_int_equal(local_stop(local, SIGKILL), 128 + SIGKILL);
        if (i % 2 == 0) {
            local_await_over(&processes, GONE_MS);
        }
    }
    local_start(local, with_schema);
    local_expect(local, "/fn/default/seed/", 200, "{\"seed\":7}");
    struct local_processes processes;
    local_processes(local, &processes);
    assert_int_equal(local_stop(local, SIGTERM), 0);
    expect_gone(local, &processes);
}

static void test_kill_during_init_sql(void **state)
{
    struct local *local = *state;
    local_write(local, "schema.sql", "CREATE TABLE public.half (a int);\nSELECT pg_sleep(30);\n");
    local_launch(local, with_schema);
    local_await_children(local, "psql", 0);
    local_await_children(local, "schema.sql", 1);
    poll(NULL, 0, 200);
    struct local_processes processes;
    local_processes(local, &processes);
    local_write(local, "schema.sql", SCHEMA);
    kill_and_start_again(local, with_schema);
    local_expect(local, "/fn/default/seed/", 200, "{\"seed\":7}");
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* Ctrl-C does not wait for what the start is busy with. */
static void test_signal_during_start(void **state)
{
    struct local *local = *state;
    struct local_processes processes;
    local_launch(local, with_schema);
    local_await_children(local, "initdb", 1);
    poll(NULL, 0, SIGNAL_DELAY_MS);
    local_processes(local, &processes);
    int64_t before_ms = clock_monotonic_ms();
    int status = local_stop(local, SIGINT);
    assert_true(status == 0 || status == 1);
    assert_true(clock_monotonic_ms() - before_ms < 5000);
    local_await_over(&processes, GONE_MS);
    local_write(local, "schema.sql", "SELECT pg_sleep(30);\n");
    local_launch(local, with_schema);
    local_await_children(local, "initdb", 1);
    local_await_children(local, "initdb", 0);
    local_await_children(local, "schema.sql", 1);
    local_processes(local, &processes);
    before_ms = clock_monotonic_ms();
    (void)local_stop(local, SIGTERM);
    assert_true(clock_monotonic_ms() - before_ms < 8000);
    local_await_over(&processes, GONE_MS);
    local_write(local, "schema.sql", SCHEMA);
    local_start(local, with_schema);
    expect_count(local, 1);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* Requests that come while the database is being made are held, and then answered. */
static void test_request_during_start(void **state)
{
    struct local *local = *state;
    struct http_call call;
    int port = free_port();
    CLEANUP_FREE char *listen = xasprintf("--listen=127.0.0.1:%d", port);
    const char *const args[] = {listen, "--init-sql=schema.sql", NULL};
    local_launch(local, args);
    local_await_children(local, "initdb", 1);
    http_call_start(&call, port, "GET", "/fn/default/seed/", NULL);
    local_await(local);
    http_call_join(&call);
    if (call.answer.status != 200) {
        local_fail(local, call.answer.text);
    }
    http_answer_release(&call.answer);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* ---- users ---- */

/* Where root runs the tests; else all of them are this one. */
static void test_ordinary_user(void **state)
{
    struct local *local = *state;
    struct local_processes processes;
    CLEANUP_FREE char *program = local_path(local, "home/cicada-local");
    CLEANUP_FREE char *command =
        xasprintf("cp '%s'/bin/cicada-local '%s'/bin/cicada-runtime '%s/home/'", getenv("CICADA_TEST_BUILD"),
                  getenv("CICADA_TEST_BUILD"), local->folder);
    shell_expect(command, "");
    local->program = program;
    if (geteuid() == 0) {
        CLEANUP_FREE char *give = xasprintf("chown -R nobody '%s'", local->folder);
        shell_expect(give, "");
        local->user = "nobody";
    }
    local_start(local, with_schema);
    expect_count(local, 1);
    local_processes(local, &processes);
    assert_int_equal(local_stop(local, SIGTERM), 0);
    local_await_over(&processes, 0);
    local_start(local, NULL);
    expect_count(local, 2);
    local_processes(local, &processes);
    assert_int_equal(local_stop(local, SIGKILL), 128 + SIGKILL);
    local_await_over(&processes, GONE_MS);
    local_start(local, NULL);
    expect_count(local, 3);
    kill(local_child(local, POSTGRES), SIGKILL);
    local_await_log(local, "PostgreSQL ended by itself");
    local_await_outcome(local, "/fn/default/seed/", 200, "{\"seed\":7}");
    expect_count(local, 4);
    local_processes(local, &processes);
    assert_int_equal(local_stop(local, SIGTERM), 0);
    local_await_over(&processes, 0);
}

/* As root PostgreSQL is another user; a folder that it can't enter is told by name. */
/* As root PostgreSQL is another user, and its files are elsewhere then. */
static void test_folder_closed_to_postgres(void **state)
{
    struct local *local = *state;
    CLEANUP_FREE char *close = xasprintf("mkdir -m 700 '%s/home/closed'", local->folder);
    CLEANUP_FREE char *folder = xasprintf("--state-dir=%s/home/closed/state", local->folder);
    const char *const args[] = {folder, "--init-sql=schema.sql", NULL};
    static const char said[] = "/home/closed is closed to PostgreSQL's user: its files are in ";
    shell_expect(close, "");
    local_start(local, args);
    expect_count(local, 1);
    CLEANUP_FREE char *log = local_log(local);
    const char *elsewhere = strstr(log, said);
    assert_int_equal(elsewhere != NULL, geteuid() == 0);
    assert_int_equal(local_stop(local, SIGTERM), 0);
    local_start(local, args);
    expect_count(local, 2); /* found again */
    assert_int_equal(local_stop(local, SIGTERM), 0);
    if (elsewhere) {
        elsewhere += strlen(said);
        assert_memory_equal(elsewhere, "/var/tmp/cicada-postgres-", strlen("/var/tmp/cicada-postgres-"));
        CLEANUP_FREE char *remove = xasprintf("rm -r '%.*s'", (int)strcspn(elsewhere, "\n"), elsewhere);
        shell_expect(remove, "");
    }
}

static void test_no_server_programs(void **state)
{
    struct local *local = *state;
    static const char *const args[] = {"--postgres-dir=/no/such/folder", NULL};
    local_expect_end(local, args, 1, "no PostgreSQL server programs (initdb, postgres) in /no/such/folder");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, local_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_data_is_kept_unless_fresh),
        CASE(test_schema_is_installed_quietly),
        CASE(test_command_has_the_database),
        CASE(test_wrong_init_sql),
        CASE(test_postmaster_is_killed),
        CASE(test_stop_while_postgres_is_down),
        CASE(test_kill_keeps_the_data),
        CASE(test_kill_during_initdb),
        CASE(test_kill_during_init_sql),
        CASE(test_signal_during_start),
        CASE(test_request_during_start),
        CASE(test_ordinary_user),
        CASE(test_folder_closed_to_postgres),
        CASE(test_no_server_programs),
        CASE(test_stale_pid_file),
    };
    /* Whoever loses its parent is ours to reap, and not hidden by an init that is slow. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
