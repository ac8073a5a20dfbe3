/* The real runtime with `database.pooler: Transaction`, through a real PgBouncer with fewer sessions than the runtime has
 * connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_pgbouncer.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_runtime.h"

#define CALLS 24

#define SPEC(handler)                                                                                        \
    "{\"handler\":\"stream.so:" handler "\",\"timeoutSeconds\":5,\"concurrency\":24,"                        \
    "\"database\":{\"poolSize\":8,\"pooler\":\"Transaction\"}}"

struct fixture {
    struct pgbouncer pgbouncer;
    struct runtime_process writer, reader;
};

static int set_up(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    struct runtime_process_settings settings = {.functions = "test-functions"};

    pgtest_exec("DROP SCHEMA IF EXISTS stream_test CASCADE; CREATE SCHEMA stream_test;"
                "CREATE TABLE stream_test.notes (id int PRIMARY KEY);"
                "CREATE TABLE stream_test.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
    pgbouncer_start(&fixture->pgbouncer, pgtest_port(), 2);
    settings.database_url = fixture->pgbouncer.url;
    settings.spec = SPEC("writer");
    runtime_process_start(&fixture->writer, &settings, /* serving= */ true);
    settings.spec = SPEC("reader");
    runtime_process_start(&fixture->reader, &settings, /* serving= */ true);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    runtime_process_release(&fixture->writer);
    runtime_process_release(&fixture->reader);
    pgbouncer_stop(&fixture->pgbouncer);
    free(fixture);
    pgtest_exec("DROP SCHEMA stream_test CASCADE");
    return 0;
}

static void test_one_after_the_other(void **state)
{
    struct fixture *fixture = *state;
    int port = fixture->writer.port;

    http_expect(port, "POST", "/?do=each&ids=12131", NULL, 200, "\r\n\r\n3");
    http_expect(port, "POST", "/?do=commit&id=4&then=fail", NULL, 500, "\"code\":\"handler_failed\"");
    http_expect(port, "POST", "/?do=commit&id=5&then=deferred", NULL, 409, "\"code\":\"unique_violation\"");
    http_expect(port, "POST", "/?do=pieces&pieces=2&bytes=1&id=6", NULL, 200,
                "1\r\np\r\n1\r\np\r\n0\r\n\r\n");
    http_expect(fixture->reader.port, "GET", "/?rows=3&then=count", NULL, 200,
                "2\r\n3\n\r\n5\r\nend,5\r\n0\r\n\r\n");
    http_expect(fixture->reader.port, "POST", "/?do=insert", NULL, 500, "\"code\":\"read_only_transaction\"");
    assert_int_equal(pgtest_int("SELECT count(*) FROM stream_test.notes"), 5);
    pgtest_exec("TRUNCATE stream_test.notes");
}

static void test_many_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct http_call calls[CALLS];
    char targets[CALLS][64];

    for (int i = 0; i < CALLS; i++) {
        snprintf(targets[i], sizeof(targets[i]), "/?do=commit&id=%d&then=sleep&ms=50", i);
        http_call_start(&calls[i], fixture->writer.port, "POST", targets[i], NULL);
    }
    for (int i = 0; i < CALLS; i++) {
        http_call_join(&calls[i]);
        if (calls[i].answer.status != 200)
            fail_msg("%s", calls[i].answer.text);
        http_answer_release(&calls[i].answer);
    }
    assert_int_equal(pgtest_int("SELECT count(*) FROM stream_test.notes"), CALLS);
    assert_true(pgtest_int("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'cicada %'") <=
                2);
    http_expect(fixture->writer.admin_port, "GET", "/metrics", NULL, 200,
                "cicada_runtime_transactions_total{outcome=\"committed\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_after_the_other),
        cmocka_unit_test(test_many_at_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
