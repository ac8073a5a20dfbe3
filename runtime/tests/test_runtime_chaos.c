/* The real runtime under load while its database connections break at random, and while PostgreSQL is killed, restarted and
 * paused: every 2xx has its row, and every row was answered with 2xx or commit_unknown.
 *
 * CHAOS_CUTS: how many cuts (default 60).
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <postgresql/libpq-fe.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_pg_cluster.h"
#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_runtime.h"

#define CALLERS         12
#define CALLS_MAX       200000 /* of each caller */
#define CUTS_DEFAULT    60
#define CUT_MAX_MS      1000 /* for each, on average, or the test fails */
#define RECOVERY_MAX_MS 5000

enum outcome { OUTCOME_NONE, OUTCOME_SUCCESS, OUTCOME_UNKNOWN, OUTCOME_REFUSED };

/* What was answered to whom, by the name of the row that was to be. */
struct load {
    struct pg_cluster cluster; /* or */
    struct pg_proxy *proxy;
    struct runtime_process process;
    const char *url; /* of the database, by the side */
    atomic_bool stop;
    _Atomic int64_t last_success_ms;
    struct caller {
        struct load *load;
        pthread_t thread;
        int number, calls;
        unsigned char *outcomes; /* by call */
    } callers[CALLERS];
    int running; /* callers */
    int counts[OUTCOME_REFUSED + 1];
};

static enum outcome read_outcome(const struct http_answer *answer)
{
    if (answer->status >= 200 && answer->status < 300)
        return OUTCOME_SUCCESS;
    if (answer->status == 500 && http_answer_has(answer, "\"code\":\"commit_unknown\""))
        return OUTCOME_UNKNOWN;
    if (answer->status == 503 || answer->status == 504)
        return OUTCOME_REFUSED;
    print_error("unexpected answer: %s\n", answer->text);
    return OUTCOME_NONE;
}

static void *caller_main(void *arg)
{
    struct caller *caller = arg;
    struct load *load = caller->load;

    while (!atomic_load(&load->stop) && caller->calls < CALLS_MAX) {
        CLEANUP_FREE char *target = xasprintf("/?do=note&text=%d-%d", caller->number, caller->calls);
        struct http_answer answer = http_ask(load->process.port, "POST", target, "", NULL);
        enum outcome outcome = read_outcome(&answer);

        caller->outcomes[caller->calls++] = (unsigned char)outcome;
        if (outcome == OUTCOME_SUCCESS)
            atomic_store(&load->last_success_ms, clock_monotonic_ms());
        else
            poll(NULL, 0, 2);
        http_answer_release(&answer);
    }
    return NULL;
}

/* As database_value(), for the load's own server. */
static PGresult *ask_database(const struct load *load, const char *sql)
{
    PGconn *connection = PQconnectdb(load->url);
    PGresult *result = PQexec(connection, sql);

    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    PQfinish(connection);
    return result;
}

/* The same row, by a handler in three round trips or by SQL in one. */
#define HANDLER "\"handler\":\"probe.so:probe\""
#define SQL     "\"sql\":\"INSERT INTO runtime_test.notes (text) VALUES (:text) RETURNING id\",\"result\":\"Row\""

static void load_start(struct load *load, const char *function, const char *database_url,
                       const char *runtime_url)
{
    CLEANUP_FREE char *spec =
        xasprintf("{%s,\"timeoutSeconds\":3,\"concurrency\":16,\"database\":{\"poolSize\":6}}", function);
    struct runtime_process_settings settings = {
        .functions = "test-functions",
        .database_url = runtime_url,
        .spec = spec,
        .env = {"CICADA_LOG_LEVEL=error", "CICADA_STUCK_GRACE_MS=4000"},
    };

    load->url = database_url;
    PQclear(ask_database(load, "DROP SCHEMA IF EXISTS runtime_test CASCADE; CREATE SCHEMA runtime_test;"
                               "CREATE TABLE runtime_test.notes (id serial PRIMARY KEY, text text UNIQUE)"));
    runtime_process_start(&load->process, &settings, /* serving= */ true);
    for (int i = 0; i < CALLERS; i++) {
        struct caller *caller = &load->callers[i];
        *caller = (struct caller){.load = load, .number = i, .outcomes = xcalloc(CALLS_MAX, 1)};
        assert_int_equal(pthread_create(&caller->thread, NULL, caller_main, caller), 0);
        load->running++;
    }
}

static void load_stop(struct load *load)
{
    atomic_store(&load->stop, true);
    while (load->running > 0)
        pthread_join(load->callers[--load->running].thread, NULL);
}

/* Each row's name is "caller-call". */
static struct caller *find_call(struct load *load, const char *name, int64_t *ret_call)
{
    size_t dash = strcspn(name, "-");
    int64_t number = 0;

    assert_true(parse_int64_n(name, dash, 0, CALLERS - 1, &number));
    assert_true(parse_int64(name + dash + 1, 0, CALLS_MAX - 1, ret_call));
    return &load->callers[number];
}

static void check_rows(struct load *load)
{
    PGresult *rows = ask_database(load, "SELECT text FROM runtime_test.notes");
    int successes_there = 0, unknown_there = 0;

    for (int i = 0; i < PQntuples(rows); i++) {
        int64_t call;
        const struct caller *caller = find_call(load, PQgetvalue(rows, i, 0), &call);
        switch (caller->outcomes[call]) {
        case OUTCOME_SUCCESS:
            successes_there++;
            break;
        case OUTCOME_UNKNOWN:
            unknown_there++;
            break;
        default:
            fail_msg("row %s was answered as if it were not there", PQgetvalue(rows, i, 0));
        }
    }
    PQclear(rows);
    assert_int_equal(successes_there, load->counts[OUTCOME_SUCCESS]); /* names are unique: none is missing */
    print_message("%d answered 2xx and there; commit_unknown %d, of them %d there; %d refused\n",
                  successes_there, load->counts[OUTCOME_UNKNOWN], unknown_there,
                  load->counts[OUTCOME_REFUSED]);
}

static void load_end(struct load *load)
{
    int code;

    load_stop(load);
    for (int i = 0; i < CALLERS; i++) {
        for (int call = 0; call < load->callers[i].calls; call++)
            load->counts[load->callers[i].outcomes[call]]++;
    }
    assert_int_equal(load->counts[OUTCOME_NONE], 0);
    code = runtime_process_stop(&load->process);
    if (code != 0) { /* a sanitizer has something to say */
        CLEANUP_FREE char *log = runtime_process_read(load->process.log_path);
        fail_msg("the runtime exited with %d: %s", code, log);
    }
    check_rows(load);
}

static int setup(void **state)
{
    *state = xcalloc(1, sizeof(struct load));
    return 0;
}

/* Also after a failure: nothing is left running. */
static int teardown(void **state)
{
    struct load *load = *state;

    load_stop(load);
    runtime_process_release(&load->process);
    pg_proxy_free(load->proxy);
    pg_cluster_remove(&load->cluster);
    for (int i = 0; i < CALLERS; i++)
        free(load->callers[i].outcomes);
    free(load);
    return 0;
}

static bool has_succeeded(void *arg)
{
    struct load *load = arg;
    return atomic_load(&load->last_success_ms) != 0;
}

/* Time from now until the next success. */
static int64_t measure_recovery_ms(struct load *load)
{
    int64_t start_ms = clock_monotonic_ms();

    atomic_store(&load->last_success_ms, 0);
    wait_until(has_succeeded, load, "a request succeeds again");
    return clock_monotonic_ms() - start_ms;
}

static int cuts_wanted(void)
{
    const char *text = getenv("CHAOS_CUTS");
    int64_t cuts = CUTS_DEFAULT;

    if (text != NULL)
        assert_true(parse_int64(text, 1, 1000000, &cuts));
    return (int)cuts;
}

static void cut_at_random(struct load *load, const char *function)
{
    static const struct pg_proxy_chaos chaos = {.bytes_max = 40000, .commit_percent = 3}, calm = {0};
    struct pg_proxy *proxy;
    int wanted = cuts_wanted();
    int64_t until_ms = clock_monotonic_ms() + (int64_t)wanted * CUT_MAX_MS;
    int64_t recovery_ms;
    int cuts, at_commit;

    load->proxy = proxy = pg_proxy_new(pgtest_port());
    load_start(load, function, pgtest_url(), pg_proxy_url(proxy));
    wait_until(has_succeeded, load, "the first request succeeds");
    pg_proxy_set_chaos(proxy, &chaos);
    pg_proxy_cut_all(proxy);
    while (pg_proxy_cuts(proxy, NULL) < wanted && clock_monotonic_ms() < until_ms)
        poll(NULL, 0, 20);
    cuts = pg_proxy_cuts(proxy, &at_commit);
    assert_in_range(cuts, wanted, INT32_MAX);
    assert_in_range(at_commit, wanted / 10, cuts - wanted / 10); /* a good part of each kind */
    pg_proxy_set_chaos(proxy, &calm);
    recovery_ms = measure_recovery_ms(load);
    print_message("%d cuts, %d of them at COMMIT; success %lld ms after the last\n", cuts, at_commit,
                  (long long)recovery_ms);
    assert_in_range(recovery_ms, 0, RECOVERY_MAX_MS);
    load_end(load);
    PQclear(ask_database(load, "DROP SCHEMA runtime_test CASCADE"));
}

static void test_cuts_at_random(void **state)
{
    cut_at_random(*state, HANDLER);
}

static void test_cuts_at_random_of_sql(void **state)
{
    cut_at_random(*state, SQL);
}

static void calm_for(struct load *load, int ms)
{
    (void)measure_recovery_ms(load);
    poll(NULL, 0, ms);
}

static void expect_recovery(struct load *load, const char *from)
{
    int64_t recovery_ms = measure_recovery_ms(load);

    print_message("%s: success %lld ms after its return\n", from, (long long)recovery_ms);
    assert_in_range(recovery_ms, 0, RECOVERY_MAX_MS);
}

static void kill_restart_and_pause(struct load *load, const char *function)
{
    struct pg_cluster *cluster = &load->cluster;

    pg_cluster_start(cluster);
    load_start(load, function, cluster->url, cluster->url);
    calm_for(load, 300);
    pg_cluster_kill(cluster);
    poll(NULL, 0, 1500);
    pg_cluster_recover(cluster);
    expect_recovery(load, "killed");
    calm_for(load, 300);
    pg_cluster_restart(cluster);
    expect_recovery(load, "restarted");
    calm_for(load, 300);
    pg_cluster_pause(cluster); /* longer than the deadline of the requests */
    poll(NULL, 0, 4000);
    pg_cluster_resume(cluster);
    expect_recovery(load, "paused");
    calm_for(load, 300);
    load_end(load);
}

static void test_server_killed_restarted_and_paused(void **state)
{
    kill_restart_and_pause(*state, HANDLER);
}

static void test_server_killed_restarted_and_paused_with_sql(void **state)
{
    kill_restart_and_pause(*state, SQL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cuts_at_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cuts_at_random_of_sql, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_killed_restarted_and_paused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_killed_restarted_and_paused_with_sql, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
