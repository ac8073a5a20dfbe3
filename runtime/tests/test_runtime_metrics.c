/* /metrics and /statz of the real runtime: what is there, that it is right, and that it can be read under load. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_runtime.h"

#define SPEC                                                                                                 \
    "{\"handler\":\"probe.so:probe\",\"timeoutSeconds\":3,\"concurrency\":4,"                                \
    "\"database\":{\"poolSize\":2,\"isolation\":\"ReadCommitted\",\"retryable\":true},"                      \
    "\"http\":{\"successStatus\":202}}"

/* Each test has a runtime of its own, so that its figures are known. */
static int setup(void **state)
{
    struct runtime_process *process = xcalloc(1, sizeof(*process));
    struct runtime_process_settings settings = {
        .functions = "test-functions", .database_url = getenv("TEST_DATABASE_URL"), .spec = SPEC};

    runtime_process_start(process, &settings, /* serving= */ true);
    *state = process;
    return 0;
}

static int teardown(void **state)
{
    runtime_process_release(*state);
    free(*state);
    return 0;
}

/* The body of an answer of the admin port; the caller frees it. */
static char *admin_body(const struct runtime_process *process, const char *path)
{
    struct http_answer answer = http_ask(process->admin_port, "GET", path, "", NULL);
    char *body;

    assert_int_equal(answer.status, 200);
    body = xstrdup(answer.body);
    http_answer_release(&answer);
    return body;
}

/* The value of one series, "name{label=\"value\"}". */
static double value_of(const char *metrics, const char *series)
{
    size_t len = strlen(series);

    for (const char *line = metrics; *line != '\0'; line = strchr(line, '\n') + 1)
        if (strncmp(line, series, len) == 0 && line[len] == ' ')
            return strtod(line + len, NULL);
    fail_msg("%s is not there:\n%s", series, metrics);
    return 0;
}

/* The sum of a family's series. */
static double sum_of(const char *metrics, const char *family)
{
    size_t len = strlen(family);
    double sum = 0;

    for (const char *line = metrics; *line != '\0'; line = strchr(line, '\n') + 1)
        if (strncmp(line, family, len) == 0 && line[len] == '{')
            sum += strtod(strchr(line, '}') + 1, NULL);
    return sum;
}

static double statz_value(const char *statz, const char *member)
{
    CLEANUP_FREE char *key = xasprintf("\"%s\":", member);
    const char *at = strstr(statz, key);

    assert_non_null(at);
    return strtod(at + strlen(key), NULL);
}

struct expectation {
    const struct runtime_process *process;
    const char *series;
    double value;
};

static bool has_value(void *arg)
{
    struct expectation *expected = arg;
    CLEANUP_FREE char *metrics = admin_body(expected->process, "/metrics");

    return value_of(metrics, expected->series) == expected->value;
}

/* Soon: an answer is counted after it was sent. */
static void await_value(const struct runtime_process *process, const char *series, double value)
{
    struct expectation expected = {process, series, value};

    wait_until(has_value, &expected, series);
}

/* ---- what is there ---- */

/* "name type label" of each family, a line each. */
static void families_served(const char *metrics, struct strbuf *out)
{
    for (const char *line = metrics; *line != '\0'; line = strchr(line, '\n') + 1) {
        char name[100], type[20], label[40] = "", sample[100];
        if (sscanf(line, "# TYPE %99s %19s", name, type) != 2)
            continue;
        assert_int_equal(sscanf(strchr(line, '\n') + 1, "%99[^ ]", sample), 1);
        if (sscanf(sample + strlen(name), "{%39[^=]", label) == 1 && strcmp(label, "le") == 0)
            label[0] = '\0';
        strbuf_appendf(out, "%s %s %s\n", name, type, label);
    }
}

/* The same from the page's table. */
static void families_documented(struct strbuf *out)
{
    CLEANUP_FREE char *path = xasprintf("%s/docs/reference/metrics.md", getenv("CICADA_TEST_ROOT"));
    CLEANUP_FREE char *text = runtime_process_read(path);
    const char *section = strstr(text, "\n## cicada-runtime\n");

    assert_non_null(section);
    for (const char *line = strchr(section + 1, '\n') + 1; strncmp(line, "## ", 3) != 0;
         line = strchr(line, '\n') + 1) {
        char name[100], type[20], label[40] = "";
        if (strncmp(line, "| `cicada_", 10) == 0 &&
            sscanf(line, "| `%99[a-z_]` | %19[a-z] | `%39[^`]`", name, type, label) >= 2)
            strbuf_appendf(out, "%s %s %s\n", name, type, label);
    }
}

/* Each line of one is in the other. */
static void expect_lines(const char *lines, const char *of)
{
    for (const char *line = lines; *line != '\0'; line = strchr(line, '\n') + 1) {
        CLEANUP_FREE char *family = xstrndup(line, strcspn(line, "\n") + 1);
        if (strstr(of, family) == NULL)
            fail_msg("not in both: %s", family);
    }
}

static void test_the_reference_lists_what_is_served(void **state)
{
    CLEANUP_FREE char *metrics = admin_body(*state, "/metrics");
    CLEANUP_STRBUF struct strbuf served, documented;

    strbuf_init(&served, 100000);
    strbuf_init(&documented, 100000);
    families_served(metrics, &served);
    families_documented(&documented);
    assert_true(served.len > 500);
    expect_lines(served.buf, documented.buf);
    expect_lines(documented.buf, served.buf);
}

static void test_all_begins_at_0(void **state)
{
    CLEANUP_FREE char *metrics = admin_body(*state, "/metrics");
    static const char *const series[] = {
        "cicada_runtime_requests_total{code=\"202\"}", /* http.successStatus */
        "cicada_runtime_requests_total{code=\"504\"}",
        "cicada_runtime_request_duration_seconds_bucket{le=\"0.0001\"}",
        "cicada_runtime_request_duration_seconds_bucket{le=\"+Inf\"}",
        "cicada_runtime_request_duration_seconds_count",
        "cicada_runtime_retries_total",
        "cicada_runtime_in_flight",
        "cicada_runtime_waiting",
        "cicada_runtime_pool_connections{state=\"lent\"}",
        "cicada_runtime_pool_waiting",
        "cicada_runtime_pool_connect_failures_total",
        "cicada_runtime_transactions_total{outcome=\"committed\"}",
        "cicada_runtime_transactions_total{outcome=\"rolled_back\"}",
        "cicada_runtime_transactions_total{outcome=\"failed\"}",
        "cicada_runtime_transactions_total{outcome=\"unreachable\"}",
        "cicada_runtime_transactions_total{outcome=\"lost\"}",
        "cicada_runtime_transactions_total{outcome=\"commit_unknown\"}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(series); i++)
        assert_true(value_of(metrics, series[i]) == 0);
    assert_true(sum_of(metrics, "cicada_build_info") == 1);
}

static bool has_served(void *process)
{
    CLEANUP_FREE char *metrics = admin_body(process, "/metrics");

    return value_of(metrics, "cicada_runtime_start_phase_seconds{phase=\"serving\"}") > 0;
}

static void test_phases_of_the_start(void **state)
{
    static const char *const phases[] = {"admin", "load", "listen", "serving"};
    double before = 0;

    await_value(*state, "cicada_runtime_pool_connects_total", 1);
    wait_until(has_served, *state, "the start has ended"); /* the port accepts a moment before */
    CLEANUP_FREE char *metrics = admin_body(*state, "/metrics");
    for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
        CLEANUP_FREE char *series = xasprintf("cicada_runtime_start_phase_seconds{phase=\"%s\"}", phases[i]);
        double ended = value_of(metrics, series);
        assert_true(ended > 0 && ended >= before && ended < 5);
        before = ended;
    }
    assert_true(value_of(metrics, "cicada_runtime_start_phase_seconds{phase=\"database\"}") > 0);
}

static void test_promtool_has_no_complaint(void **state)
{
    struct runtime_process *process = *state;
    CLEANUP_FREE char *path = xasprintf("%s/metrics", process->directory);
    CLEANUP_FREE char *command =
        xasprintf("\"$(\"%s/.ci/promtool\")\" check metrics < %s 2>&1", getenv("CICADA_TEST_ROOT"), path);
    CLEANUP_FREE char *metrics = admin_body(process, "/metrics");
    char said[2000] = "";
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(metrics, file) >= 0);
    assert_int_equal(fclose(file), 0);
    file = popen(command, "r");
    assert_non_null(file);
    said[fread(said, 1, sizeof(said) - 1, file)] = '\0';
    if (pclose(file) != 0 || said[0] != '\0')
        fail_msg("promtool: %s", said);
    unlink(path);
}

/* ---- that it is right ---- */

static void test_requests_by_code(void **state)
{
    struct runtime_process *process = *state;
    int port = process->port;

    http_expect(port, "GET", "/?do=body", NULL, 202, "");
    http_expect(port, "GET", "/?do=body", NULL, 202, "");
    http_expect(port, "GET", "/?do=nothing", NULL, 400, "");
    http_expect(port, "POST", "/?do=body&status=418", NULL, 418, "");
    http_expect(port, "GET", "/?do=fail", NULL, 500, "");
    http_expect(port, "GET", "/?do=sleep&ms=3500", NULL, 504, "");
    http_expect(port, "GET", "/ x", NULL, 400, ""); /* not HTTP */
    await_value(process, "cicada_runtime_request_duration_seconds_count", 6);
    CLEANUP_FREE char *metrics = admin_body(process, "/metrics");
    assert_true(value_of(metrics, "cicada_runtime_requests_total{code=\"202\"}") == 2);
    assert_true(value_of(metrics, "cicada_runtime_requests_total{code=\"400\"}") == 1);
    assert_true(value_of(metrics, "cicada_runtime_requests_total{code=\"418\"}") == 1);
    assert_true(value_of(metrics, "cicada_runtime_requests_total{code=\"500\"}") == 1);
    assert_true(value_of(metrics, "cicada_runtime_requests_total{code=\"504\"}") == 1);
    assert_true(value_of(metrics, "cicada_runtime_refused_requests_total") == 1);
    assert_true(value_of(metrics, "cicada_runtime_request_duration_seconds_bucket{le=\"2.5\"}") == 5);
    assert_true(value_of(metrics, "cicada_runtime_request_duration_seconds_bucket{le=\"5\"}") == 6);
    assert_true(value_of(metrics, "cicada_runtime_request_duration_seconds_sum") > 2.9);
}

static void test_transactions_by_outcome(void **state)
{
    struct runtime_process *process = *state;
    int port = process->port;

    http_expect(port, "GET", "/?do=select", NULL, 202, "");
    http_expect(port, "GET", "/?do=sql&sql=SELECT+2", NULL, 202, "");
    http_expect(port, "GET", "/?do=sql&sql=SELECT+3&status=409", NULL, 409, "");
    http_expect(port, "GET", "/?do=sql&sql=SELECT+1/0", NULL, 422, "");
    http_expect(port, "GET", "/?do=body", NULL, 202, ""); /* no transaction */
    http_expect(port, "GET", "/?do=sql&sql=DO+$$+BEGIN+RAISE+SQLSTATE+'40001';+END+$$", NULL, 503,
                "serialization_failure"); /* five attempts */
    await_value(process, "cicada_runtime_request_duration_seconds_count", 6);
    CLEANUP_FREE char *metrics = admin_body(process, "/metrics");
    assert_true(value_of(metrics, "cicada_runtime_transactions_total{outcome=\"committed\"}") == 2);
    assert_true(value_of(metrics, "cicada_runtime_transactions_total{outcome=\"rolled_back\"}") == 1);
    assert_true(value_of(metrics, "cicada_runtime_transactions_total{outcome=\"failed\"}") == 6);
    assert_true(sum_of(metrics, "cicada_runtime_transactions_total") == 9);
    assert_true(value_of(metrics, "cicada_runtime_retries_total") == 4);
    assert_true(value_of(metrics, "cicada_runtime_pool_connections{state=\"idle\"}") == 1);
}

static void test_an_unreachable_database_is_counted(void **state)
{
    struct runtime_process process;
    CLEANUP_FREE char *url = xasprintf("postgresql://nobody@127.0.0.1:%d/none?sslmode=disable", free_port());
    struct runtime_process_settings settings = {
        .functions = "test-functions", .database_url = url, .spec = SPEC};

    (void)state;
    runtime_process_start(&process, &settings, /* serving= */ true);
    http_expect(process.port, "GET", "/?do=select", NULL, 503, "database_unreachable");
    await_value(&process, "cicada_runtime_transactions_total{outcome=\"unreachable\"}", 1);
    CLEANUP_FREE char *metrics = admin_body(&process, "/metrics");
    assert_true(value_of(metrics, "cicada_runtime_pool_connect_failures_total") >= 1);
    assert_true(value_of(metrics, "cicada_runtime_start_phase_seconds{phase=\"database\"}") == 0);
    assert_true(sum_of(metrics, "cicada_runtime_transactions_total") == 1);
    runtime_process_release(&process);
}

/* ---- under load ---- */

#define CALLS   60
#define AT_WORK 4             /* concurrency */
#define IN_LINE (AT_WORK + 4) /* places to wait */

/* Every place and every waiting place is taken, every thread of the function port busy, connections queue: the admin port
 * answers at once, and its two answers say the same. */
static void test_figures_agree_under_load(void **state)
{
    struct runtime_process *process = *state;
    struct http_call calls[CALLS];
    int looks = 0, full = 0;
    double served = 0;

    for (size_t i = 0; i < CALLS; i++)
        http_call_start(&calls[i], process->port, "GET", "/?do=sleep&ms=400", NULL);
    for (int64_t until_ms = clock_monotonic_ms() + 1500; clock_monotonic_ms() < until_ms; looks++) {
        int64_t start_ms = clock_monotonic_ms();
        CLEANUP_FREE char *before = admin_body(process, "/statz");
        CLEANUP_FREE char *metrics = admin_body(process, "/metrics");
        CLEANUP_FREE char *after = admin_body(process, "/statz");
        assert_true(clock_monotonic_ms() - start_ms < 1000);
        assert_true(statz_value(before, "served") <= statz_value(after, "served"));
        assert_true(statz_value(before, "inFlight") <= AT_WORK && statz_value(before, "waiting") <= IN_LINE);
        if (statz_value(before, "served") != statz_value(after, "served") ||
            statz_value(before, "inFlight") != statz_value(after, "inFlight") ||
            statz_value(before, "waiting") != statz_value(after, "waiting"))
            continue; /* something happened meanwhile */
        assert_true(value_of(metrics, "cicada_runtime_in_flight") == statz_value(before, "inFlight"));
        assert_true(value_of(metrics, "cicada_runtime_waiting") == statz_value(before, "waiting"));
        assert_true(value_of(metrics, "cicada_runtime_request_duration_seconds_count") ==
                    statz_value(before, "served"));
        full += statz_value(before, "inFlight") == AT_WORK && statz_value(before, "waiting") == IN_LINE;
        poll(NULL, 0, 5);
    }
    for (size_t i = 0; i < CALLS; i++) {
        http_call_join(&calls[i]);
        assert_true(calls[i].answer.status == 202 || calls[i].answer.status == 503);
        http_answer_release(&calls[i].answer);
    }
    assert_true(looks > 20);
    assert_true(full > 5);
    await_value(process, "cicada_runtime_request_duration_seconds_count", CALLS);
    CLEANUP_FREE char *statz = admin_body(process, "/statz");
    CLEANUP_FREE char *metrics = admin_body(process, "/metrics");
    served = statz_value(statz, "served");
    assert_true(served == CALLS);
    assert_true(sum_of(metrics, "cicada_runtime_requests_total") == served);
    assert_true(value_of(metrics, "cicada_runtime_in_flight") == 0);
    assert_true(value_of(metrics, "cicada_runtime_waiting") == 0);
    assert_true(value_of(metrics, "cicada_runtime_busy_seconds_total") * 1000 ==
                statz_value(statz, "busyMs"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_reference_lists_what_is_served, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_begins_at_0, setup, teardown),
        cmocka_unit_test_setup_teardown(test_phases_of_the_start, setup, teardown),
        cmocka_unit_test_setup_teardown(test_promtool_has_no_complaint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_by_code, setup, teardown),
        cmocka_unit_test_setup_teardown(test_transactions_by_outcome, setup, teardown),
        cmocka_unit_test(test_an_unreachable_database_is_counted),
        cmocka_unit_test_setup_teardown(test_figures_agree_under_load, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
