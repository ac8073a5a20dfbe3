/* A connection of somebody's own, on a real server: transactions, errors, notifications, its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/postgres/pg_session.h"
#include "runtime/tests/support_postgres.h"

#define SCHEMA  "session_test"
#define WAIT_MS 5000

struct fixture {
    struct pg_pool *pool;
    struct stop stop;
    struct pg_session *session;
    int wake_fd;
};

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    struct pg_error error;

    pgtest_exec("DROP SCHEMA IF EXISTS " SCHEMA " CASCADE; CREATE SCHEMA " SCHEMA ";"
                "CREATE TABLE " SCHEMA ".rows (id integer PRIMARY KEY)");
    fixture->pool = pgtest_pool(NULL, 1);
    stop_init(&fixture->stop);
    fixture->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fixture->session = pg_session_open(fixture->pool, &fixture->stop, &error);
    assert_non_null(fixture->session);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    pg_session_close(fixture->session);
    assert_true(pg_pool_stop(fixture->pool, pgtest_deadline(WAIT_MS)));
    pg_pool_free(fixture->pool);
    stop_release(&fixture->stop);
    close(fixture->wake_fd);
    free(fixture);
    pgtest_exec("DROP SCHEMA " SCHEMA " CASCADE");
    return 0;
}

static int run(struct fixture *fixture, const char *const *texts, size_t count, struct pg_result **ret_result,
               struct pg_error *error)
{
    struct pg_command commands[PG_SESSION_COMMANDS_MAX] = {{0}};

    for (size_t i = 0; i < count; i++)
        commands[i].sql = texts[i];
    return pg_session_run(fixture->session, commands, count, pgtest_deadline(WAIT_MS), ret_result, error);
}

static void expect_answer(struct fixture *fixture, const char *sql, const char *value)
{
    struct pg_result *result;
    struct pg_error error;

    assert_int_equal(run(fixture, &sql, 1, &result, &error), 0);
    assert_string_equal(pg_result_value(result, 0, 0, NULL), value);
    pg_result_free(result);
}

static void test_commands_are_one_transaction(void **state)
{
    static const char *const good[] = {"INSERT INTO " SCHEMA ".rows VALUES (1)",
                                       "INSERT INTO " SCHEMA ".rows VALUES (2)"};
    static const char *const bad[] = {"INSERT INTO " SCHEMA ".rows VALUES (3)",
                                      "INSERT INTO " SCHEMA ".rows VALUES (1)"};
    struct fixture *fixture = *state;
    struct pg_error error;

    assert_int_equal(run(fixture, good, 2, NULL, &error), 0);
    assert_int_equal(run(fixture, bad, 2, NULL, &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_SQL);
    assert_string_equal(error.sqlstate, "23505");
    assert_false(pg_session_is_lost(fixture->session));
    expect_answer(fixture, "SELECT count(*) FROM " SCHEMA ".rows", "2");
    expect_answer(fixture, "SHOW synchronous_commit", "off");
    expect_answer(fixture, "SHOW transaction_isolation", "read committed");
}

static void test_parameters_outlive_ddl(void **state)
{
    static const char *const params[] = {"1"};
    const struct pg_command command = {
        .sql = "SELECT * FROM " SCHEMA ".rows WHERE id = $1", .param_count = 1, .params = params};
    struct fixture *fixture = *state;
    struct pg_error error;
    int failures = 0;

    assert_int_equal(pg_session_run(fixture->session, &command, 1, pgtest_deadline(WAIT_MS), NULL, &error),
                     0);
    pgtest_exec("ALTER TABLE " SCHEMA ".rows ADD COLUMN more text");
    for (int i = 0; i < 3; i++) /* the old plan fails once, and is forgotten */
        failures +=
            pg_session_run(fixture->session, &command, 1, pgtest_deadline(WAIT_MS), NULL, &error) != 0;
    assert_int_equal(failures, 1);
}

static void test_notifications_are_heard(void **state)
{
    static const char *const listen[] = {"LISTEN session_test_news"};
    struct fixture *fixture = *state;
    struct pg_error error;
    int64_t start_ms;

    assert_true(pg_session_can_listen(fixture->session));
    assert_int_equal(run(fixture, listen, 1, NULL, &error), 0);
    start_ms = clock_monotonic_ms();
    assert_false(pg_session_wait(fixture->session, fixture->wake_fd, start_ms + 50));
    assert_in_range(clock_monotonic_ms() - start_ms, 50, WAIT_MS);
    pgtest_exec("NOTIFY session_test_news");
    assert_true(pg_session_wait(fixture->session, fixture->wake_fd, pgtest_deadline(WAIT_MS)));
    pgtest_exec("NOTIFY session_test_news");
    expect_answer(fixture, "SELECT 1", "1"); /* it comes with this answer */
    assert_true(pg_session_wait(fixture->session, fixture->wake_fd, pgtest_deadline(WAIT_MS)));
    assert_int_equal(eventfd_write(fixture->wake_fd, 1), 0);
    assert_false(pg_session_wait(fixture->session, fixture->wake_fd, DEADLINE_NONE));
}

static void note_payload(void *arg, const char *payload)
{
    (void)snprintf(arg, 16, "%s", payload);
}

static void test_payloads_are_told(void **state)
{
    static const char *const listen[] = {"LISTEN session_test_news"};
    struct fixture *fixture = *state;
    struct pg_error error;
    char payload[16] = "";

    assert_int_equal(run(fixture, listen, 1, NULL, &error), 0);
    pg_session_on_notification(fixture->session, note_payload, payload);
    pgtest_exec("NOTIFY session_test_news, '17'");
    assert_true(pg_session_wait(fixture->session, fixture->wake_fd, pgtest_deadline(WAIT_MS)));
    assert_string_equal(payload, "17");
}

static void test_hint_of_the_last_error(void **state)
{
    static const char *const hinted[] = {"DO $$BEGIN RAISE 'no' USING HINT = 'ask again'; END$$"};
    static const char *const bare[] = {"DO $$BEGIN RAISE 'no'; END$$"};
    struct fixture *fixture = *state;
    struct pg_error error;

    assert_string_equal(pg_session_hint(fixture->session), "");
    assert_int_equal(run(fixture, hinted, 1, NULL, &error), -1);
    assert_string_equal(pg_session_hint(fixture->session), "ask again");
    assert_int_equal(run(fixture, bare, 1, NULL, &error), -1);
    assert_string_equal(pg_session_hint(fixture->session), "");
}

static void test_what_is_near_is_refused(void **state)
{
    const struct pg_pool_settings settings = {
        .url = pgtest_url(), .size = 1, .connect_timeout_ms = WAIT_MS, .remote_only = true};
    struct fixture *fixture = *state;
    struct pg_error error;
    struct err err = ERR_INIT;
    struct pg_pool *pool;

    assert_int_equal(pg_pool_new(&settings, &pool, &err), 0);
    assert_null(pg_session_open(pool, &fixture->stop, &error));
    assert_string_equal(error.message, "no connection: refused");
    pg_pool_free(pool);
}

static void test_its_stop_ends_waits_and_opening(void **state)
{
    struct fixture *fixture = *state;
    struct pg_error error;

    stop_set(&fixture->stop);
    assert_false(pg_session_wait(fixture->session, fixture->wake_fd, DEADLINE_NONE));
    assert_null(pg_session_open(fixture->pool, &fixture->stop, &error));
    assert_int_equal(error.failure, PG_FAILURE_UNREACHABLE);
}

static void test_server_gives_up_first(void **state)
{
    static const struct pg_command slow = {.sql = "SELECT pg_sleep(3)"};
    static const struct pg_command locked = {.sql = "LOCK " SCHEMA ".rows"};
    struct fixture *fixture = *state;
    struct pg_transaction *tx = pg_transaction_new(fixture->pool, false, pgtest_deadline(WAIT_MS));
    struct pg_error error;

    assert_int_equal(pg_session_run(fixture->session, &slow, 1, pgtest_deadline(400), NULL, &error), -1);
    assert_string_equal(error.sqlstate, "57014");
    (void)pgtest_query(tx, "LOCK " SCHEMA ".rows");
    assert_int_equal(pg_session_run(fixture->session, &locked, 1, pgtest_deadline(WAIT_MS), NULL, &error),
                     -1);
    assert_string_equal(error.sqlstate, "55P03");
    pg_transaction_free(tx);
    assert_false(pg_session_is_lost(fixture->session));
    expect_answer(fixture, "SELECT 1", "1");
}

static void test_end_of_the_backend_ends_a_wait(void **state)
{
    struct fixture *fixture = *state;
    struct pg_result *result;
    struct pg_error error;
    const char *sql = "SELECT pg_backend_pid()";

    assert_int_equal(run(fixture, &sql, 1, &result, &error), 0);
    CLEANUP_FREE char *kill =
        xasprintf("SELECT pg_terminate_backend(%s)", pg_result_value(result, 0, 0, NULL));
    pg_result_free(result);
    pgtest_exec(kill);
    assert_false(pg_session_wait(fixture->session, fixture->wake_fd, pgtest_deadline(WAIT_MS)));
    assert_true(pg_session_is_lost(fixture->session));
    assert_int_equal(run(fixture, &sql, 1, NULL, &error), -1);
    assert_int_equal(error.failure, PG_FAILURE_LOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_commands_are_one_transaction, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parameters_outlive_ddl, setup, teardown),
        cmocka_unit_test_setup_teardown(test_notifications_are_heard, setup, teardown),
        cmocka_unit_test_setup_teardown(test_payloads_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hint_of_the_last_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_near_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_its_stop_ends_waits_and_opening, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_gives_up_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_of_the_backend_ends_a_wait, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
