/* test_local_change.c - manifests and handlers change under load: the new answer comes soon, no request fails.
 *
 * LOCAL_EDITS: how many edits the last test makes.
 */
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "operator/tests/support_local.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_test.h"

#define RUNTIME         "cicada-runtime"
#define EDITS_DEFAULT   25
#define EDITS_MAX       1000000
#define WARM_UP_EDITS   20
#define BURST_MS        320 /* longer than a burst is waited for */
#define BURSTS_END      110
#define LOADERS         2
#define GAP_MS          3
#define GROWTH_KIB      4096
#define DESCRIPTORS_MAX 4 /* clients and processes that come and go at the moment of counting */

/* ---- load ---- */

struct load {
    pthread_t threads[LOADERS];
    const struct local *local;
    const char *targets[LOADERS];
    atomic_bool stop;
    atomic_int next, answered, failed;
    bool runs;
    char first_failure[512]; /* of the loader that saw failed go from 0 to 1 */
};

static void *load_main(void *arg)
{
    struct load *load = arg;
    const char *target = load->targets[atomic_fetch_add(&load->next, 1)];
    while (!atomic_load(&load->stop)) {
        struct http_answer answer = http_ask(load->local->port, "GET", target, "", NULL);
        if (answer.status == 200) {
            atomic_fetch_add(&load->answered, 1);
        } else if (atomic_fetch_add(&load->failed, 1) == 0) {
            snprintf(load->first_failure, sizeof load->first_failure, "%s: %s", target, answer.text);
        }
        http_answer_release(&answer);
        poll(NULL, 0, GAP_MS);
    }
    return NULL;
}

static struct load load; /* outlives a test that fails */

static void load_start(const struct local *local, const char *first, const char *second)
{
    load = (struct load){.local = local, .targets = {first, second}, .runs = true};
    for (size_t i = 0; i < LOADERS; i++) {
        assert_int_equal(pthread_create(&load.threads[i], NULL, load_main, &load), 0);
    }
}

static void load_end(void)
{
    atomic_store(&load.stop, true);
    for (size_t i = 0; load.runs && i < LOADERS; i++) {
        pthread_join(load.threads[i], NULL);
    }
    load.runs = false;
}

static void load_stop(void)
{
    load_end();
    if (atomic_load(&load.failed) > 0) {
        CLEANUP_FREE char *what =
            xasprintf("%d failed, %d answered; the first: %s", atomic_load(&load.failed),
                      atomic_load(&load.answered), load.first_failure);
        local_fail(load.local, what);
    }
    assert_true(atomic_load(&load.answered) > 0);
}

static int teardown(void **state)
{
    load_end();
    return local_teardown(state);
}

static void expect_within(const struct local *local, const char *target, const char *text, int64_t limit_ms)
{
    int64_t before_ms = clock_monotonic_ms();
    local_await_answer(local, target, 200, text);
    int64_t took_ms = clock_monotonic_ms() - before_ms;
    if (took_ms > limit_ms) {
        fail_msg("%s: <%s> after %d ms", target, text, (int)took_ms);
    }
}

/* ---- manifests ---- */

static void test_sql_changes(void **state)
{
    struct local *local = *state;
    local_sql(local, "f", "SELECT 'one' AS v", NULL);
    local_start(local, NULL);
    local_expect(local, "/fn/default/f/", 200, "\"one\"");
    load_start(local, "/fn/default/f/", "/fn/default/f/");
    local_sql(local, "f", "SELECT 'two' AS v", NULL);
    expect_within(local, "/fn/default/f/", "\"two\"", 3000);
    local_replace(local, "manifests/g.yaml~", "not a manifest by its name");
    local_sql(local, "f", "SELECT 'three' AS v", "  concurrency: 2\n");
    expect_within(local, "/fn/default/f/", "\"three\"", 3000);
    load_stop();
    local_await_children(local, RUNTIME, 1); /* the old ones are gone */
    assert_int_equal(local_stop(local, SIGTERM), 0);
    assert_int_equal(local_log_count(local, "ended by itself"), 0);
}

/* The old version goes on, what is wrong is said once, the repaired one is taken. */
static void test_broken_edit(void **state)
{
    struct local *local = *state;
    local_sql(local, "f", "SELECT 'one' AS v", NULL);
    local_sql(local, "other", "SELECT 'other' AS v", NULL);
    local_start(local, NULL);
    local_expect(local, "/fn/default/f/", 200, "\"one\"");
    load_start(local, "/fn/default/f/", "/fn/default/other/");
    local_sql(local, "f", "SELECT 'two' AS v", "  concurrency: many\n");
    local_await_log(local, "/manifests/f.yaml:8:3: spec.concurrency: must be a whole number");
    local_sql(local, "other", "SELECT 'another' AS v", NULL); /* reads all again */
    expect_within(local, "/fn/default/other/", "\"another\"", 3000);
    local_expect(local, "/fn/default/f/", 200, "\"one\"");
    assert_int_equal(local_log_count(local, "spec.concurrency"), 1);
    local_write(local, "manifests/f.yaml", "a: [\n");
    local_await_log(local, "/manifests/f.yaml:2:1: ");
    local_write(local, "manifests/f.yaml", ""); /* as an editor may for a moment */
    poll(NULL, 0, 200);
    local_sql(local, "f", "SELECT 'three' AS v", NULL);
    local_await_outcome(local, "/fn/default/f/", 200, "\"three\"");
    atomic_store(&load.failed, 0); /* an empty file has no Function: that it was gone is right */
    load_stop();
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* SQL that PostgreSQL refuses: the old processes go on. */
static void test_rejected_sql(void **state)
{
    struct local *local = *state;
    local_sql(local, "f", "SELECT 'one' AS v", NULL);
    local_start(local, NULL);
    local_expect(local, "/fn/default/f/", 200, "\"one\"");
    load_start(local, "/fn/default/f/", "/fn/default/f/");
    local_sql(local, "f", "SELECT nothing FROM no_such_table", NULL);
    local_await_log(local, "SqlRejected: ");
    poll(NULL, 0, 1000);
    local_expect(local, "/fn/default/f/", 200, "\"one\"");
    assert_int_equal(local_log_count(local, "default/f | SqlRejected: "),
                     1); /* beside the processes' own lines */
    local_sql(local, "f", "SELECT 'two' AS v", NULL);
    expect_within(local, "/fn/default/f/", "\"two\"", 3000);
    load_stop();
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* Written again and again, faster than anybody reads: the last one counts, however alike the files' times are. */
static void test_burst_of_edits(void **state)
{
    struct local *local = *state;
    local_sql(local, "f", "SELECT 'version 000' AS v", NULL);
    local_start(local, NULL);
    local_expect(local, "/fn/default/f/", 200, "version 000");
    load_start(local, "/fn/default/f/", "/fn/default/f/");
    for (int number = 100; number < BURSTS_END; number++) {
        CLEANUP_FREE char *last = xasprintf("version %d", number);
        int64_t until_ms = clock_monotonic_ms() + BURST_MS;
        while (deadline_left_ms(until_ms) > 0) {
            local_sql(local, "f", "SELECT 'version 000' AS v", NULL);
        }
        CLEANUP_FREE char *sql = xasprintf("SELECT '%s' AS v", last);
        local_sql(local, "f", sql, NULL);
        expect_within(local, "/fn/default/f/", last, 4000);
    }
    load_stop();
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

static void test_files_come_and_go(void **state)
{
    struct local *local = *state;
    local_sql(local, "f", "SELECT 'one' AS v", NULL);
    local_start(local, NULL);
    load_start(local, "/fn/default/f/", "/fn/default/f/");
    local_expect(local, "/fn/default/g/", 404, "");
    local_sql(local, "g", "SELECT 'g' AS v", NULL);
    local_await_outcome(local, "/fn/default/g/", 200, "\"g\"");
    local_await_children(local, RUNTIME, 2);
    local_remove(local, "manifests/g.yaml");
    local_await_outcome(local, "/fn/default/g/", 404, "");
    local_await_children(local, RUNTIME, 1);
    local_sql(local, "g", "SELECT 'again' AS v", NULL);
    local_await_outcome(local, "/fn/default/g/", 200, "\"again\"");
    /* An editor's way: the new one beside it, the old one away, the new one in its place. */
    local_sql(local, ".tmp", "SELECT 'two' AS v", NULL);
    CLEANUP_FREE char *text =
        xasprintf("apiVersion: cicada.dev/v1alpha1\nkind: Function\nmetadata: {name: f}\n"
                  "spec:\n  sql: SELECT 'two' AS v\n  http: {}\n"
                  "  database: {secretRef: {name: test-db}}\n");
    local_replace(local, "manifests/f.yaml", text);
    expect_within(local, "/fn/default/f/", "\"two\"", 3000);
    load_stop();
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* The same Function moves to another file: it never goes. */
static void test_function_moves(void **state)
{
    struct local *local = *state;
    local_sql(local, "f", "SELECT 'one' AS v", NULL);
    local_start(local, NULL);
    local_expect(local, "/fn/default/f/", 200, "\"one\"");
    load_start(local, "/fn/default/f/", "/fn/default/f/");
    CLEANUP_FREE char *from = local_path(local, "manifests/f.yaml"),
                      *to = local_path(local, "manifests/a.yaml");
    assert_int_equal(rename(from, to), 0);
    poll(NULL, 0, 1000);
    load_stop();
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* All is replaced, as by a checkout: the folder itself is another one. */
static void test_folder_is_replaced(void **state)
{
    struct local *local = *state;
    local_sql(local, "f", "SELECT 'one' AS v", NULL);
    local_start(local, NULL);
    local_expect(local, "/fn/default/f/", 200, "\"one\"");
    load_start(local, "/fn/default/f/", "/fn/default/f/");
    CLEANUP_FREE char *command = xasprintf(
        "cd '%s' && cp -r manifests next && sed -i s/one/two/ next/f.yaml && mv manifests tmp/answer.old && "
        "sleep 0.3 && mv next manifests",
        local->folder);
    assert_int_equal(system(command), 0);
    expect_within(local, "/fn/default/f/", "\"two\"", 4000);
    local_sql(local, "f", "SELECT 'three' AS v", NULL); /* the new folder is watched */
    expect_within(local, "/fn/default/f/", "\"three\"", 4000);
    load_stop();
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

static void in_folder(const struct local *local, const char *command)
{
    CLEANUP_FREE char *whole = xasprintf("cd '%s' && %s", local->folder, command);
    assert_int_equal(system(whole), 0);
}

/* A file that is elsewhere, and a folder of them behind a link that is swapped, as Kubernetes mounts a ConfigMap. */
static void test_linked_manifests(void **state)
{
    struct local *local = *state;
    local_sql(local, "f", "SELECT 'f one' AS v", NULL);
    local_sql(local, "g", "SELECT 'g one' AS v", NULL);
    in_folder(local, "mkdir elsewhere manifests/..1 && mv manifests/f.yaml elsewhere && "
                     "ln -s ../elsewhere/f.yaml manifests && mv manifests/g.yaml manifests/..1 && "
                     "ln -s ..1 manifests/..data && ln -s ..data/g.yaml manifests");
    local_start(local, NULL);
    local_expect(local, "/fn/default/f/", 200, "\"f one\"");
    local_expect(local, "/fn/default/g/", 200, "\"g one\"");
    load_start(local, "/fn/default/f/", "/fn/default/g/");
    in_folder(local, "sed -i 's/f one/f two/' elsewhere/f.yaml");
    expect_within(local, "/fn/default/f/", "\"f two\"", 4000);
    in_folder(local,
              "mkdir manifests/..2 && sed 's/g one/g two/' manifests/..1/g.yaml > manifests/..2/g.yaml && "
              "ln -s ..2 manifests/..tmp && mv -T manifests/..tmp manifests/..data && "
              "rm -r manifests/..1");
    expect_within(local, "/fn/default/g/", "\"g two\"", 4000);
    in_folder(local, "sed -i 's/g two/g three/' manifests/..2/g.yaml");
    expect_within(local, "/fn/default/g/", "\"g three\"", 4000);
    load_stop();
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* The argument itself is a link, made anew to lead to another folder. */
static void test_linked_folder(void **state)
{
    struct local *local = *state;
    CLEANUP_FREE char *link = local_path(local, "current");
    const char *const args[] = {link, NULL};
    local_sql(local, "f", "SELECT 'one' AS v", NULL);
    in_folder(local, "cp -r manifests next && sed -i s/one/two/ next/f.yaml && ln -s manifests current");
    local->no_manifests = true;
    local_start(local, args);
    local_expect(local, "/fn/default/f/", 200, "\"one\"");
    load_start(local, "/fn/default/f/", "/fn/default/f/");
    in_folder(local, "rm current && sleep 0.5 && ln -s next current");
    expect_within(local, "/fn/default/f/", "\"two\"", 4000);
    in_folder(local, "sed -i s/two/three/ next/f.yaml");
    expect_within(local, "/fn/default/f/", "\"three\"", 4000);
    load_stop();
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

static const char show_source[] =
    "#include <cicada/function.h>\n"
    "#include <stdlib.h>\n"
    "#include <string.h>\n"
    "static int show(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)\n"
    "{ (void)req; (void)ctx; const char *text = getenv(\"SHOWN\");\n"
    "  cicada_response_body(res, text ? text : \"none\", text ? strlen(text) : 4); return CICADA_OK; }\n"
    "CICADA_FUNCTION(show);\n";

static void write_data(const struct local *local, const char *kind, const char *field, const char *value)
{
    CLEANUP_FREE char *text = xasprintf(
        "apiVersion: v1\nkind: %s\nmetadata: {name: settings}\n%s: {shown: %s}\n", kind, field, value);
    local_write(local, "manifests/settings.yaml", text);
}

static void build_show(const struct local *local)
{
    local_write(local, "tmp/answer-show.c", show_source);
    CLEANUP_FREE char *command =
        xasprintf("cd '%s/tmp' && cc -std=gnu11 -fPIC -shared -I'%s/runtime/sdk' -o ../functions/show.so "
                  "answer-show.c",
                  local->folder, getenv("CICADA_TEST_ROOT"));
    assert_int_equal(system(command), 0);
}

static void test_data_changes(void **state)
{
    struct local *local = *state;
    build_show(local);
    write_data(local, "Secret", "stringData", "one");
    local_handler(local, "show", "show.so:show",
                  "  env:\n  - {name: SHOWN, valueFrom: {secretKeyRef: {name: settings, key: shown}}}\n");
    local_start(local, NULL);
    load_start(local, "/fn/default/show/", "/fn/default/show/");
    local_expect(local, "/fn/default/show/", 200, "one");
    write_data(local, "Secret", "stringData", "two");
    expect_within(local, "/fn/default/show/", "two", 3000);
    /* Its Secret becomes a ConfigMap, which it does not name: the old process goes on, and why is said. */
    write_data(local, "ConfigMap", "data", "three");
    local_await_log(local, "SecretMissing: secret \"settings\" is in no manifest");
    local_expect(local, "/fn/default/show/", 200, "two");
    local_handler(local, "show", "show.so:show",
                  "  env:\n  - {name: SHOWN, valueFrom: {configMapKeyRef: {name: settings, key: shown}}}\n");
    expect_within(local, "/fn/default/show/", "three", 3000);
    local_handler(local, "show", "show.so:show", "  env:\n  - {name: SHOWN, value: four}\n");
    expect_within(local, "/fn/default/show/", "four", 3000);
    load_stop();
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* ---- handlers ---- */

static void test_handler_is_rebuilt(void **state)
{
    struct local *local = *state;
    static const char ways[] = "rwsd";
    local_build(local, "answer.so", 1, 'w');
    local_handler(local, "answer", "answer.so:answer", NULL);
    local_start(local, NULL);
    local_expect(local, "/fn/default/answer/", 200, "version 000001");
    load_start(local, "/fn/default/answer/", "/fn/default/answer/");
    for (int i = 0; ways[i]; i++) {
        CLEANUP_FREE char *text = xasprintf("version %06d", i + 2);
        local_build(local, "answer.so", i + 2, ways[i]);
        expect_within(local, "/fn/default/answer/", text, 3000);
    }
    load_stop();
    local_await_children(local, RUNTIME, 1);
    assert_int_equal(local_log_count(local, "HandlerLoadFailed"), 0);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* What happens in the folder while a file is half written does not make it a whole one. */
static void test_half_written_handler(void **state)
{
    struct local *local = *state;
    local_build(local, "answer.so", 1, 'w');
    local_handler(local, "answer", "answer.so:answer", "  scaling: {idleSeconds: 1}\n");
    local_start(local, NULL);
    local_expect(local, "/fn/default/answer/", 200, "version 000001");
    CLEANUP_FREE char *path = local_path(local, "functions/answer.so");
    FILE *half = fopen(path, "r+");
    assert_non_null(half);
    assert_int_equal(ftruncate(fileno(half), 4096), 0);
    for (int i = 0; i < 3; i++) {
        local_write(local, "functions/other.o", "something"); /* another part of the same build */
        poll(NULL, 0, 150);
    }
    local_await_children(local, RUNTIME, 0);
    local_expect(local, "/fn/default/answer/", 200, "version 000001"); /* also one that was asleep */
    fclose(half);
    assert_int_equal(local_log_count(local, "HandlerLoadFailed"), 0);
    local_build(local, "answer.so", 2, 'r');
    local_await_outcome(local, "/fn/default/answer/", 200, "version 000002");
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* Not there at the start, and built later; in a folder that comes with it. */
static void test_handler_comes_later(void **state)
{
    struct local *local = *state;
    local_handler(local, "answer", "sub/answer.so:answer", NULL);
    local_start(local, NULL);
    local_await_log(local, "HandlerLoadFailed: ");
    local_expect(local, "/fn/default/answer/", 503, "HandlerLoadFailed");
    CLEANUP_FREE char *folder = xasprintf("mkdir '%s/functions/sub'", local->folder);
    assert_int_equal(system(folder), 0);
    local_build(local, "sub/answer.so", 3, 'w');
    local_await_outcome(local, "/fn/default/answer/", 200, "version 000003");
    assert_int_equal(local_log_count(local, "HandlerLoadFailed: "), 1);
    assert_int_equal(local_stop(local, SIGTERM), 0);
}

/* ---- many ---- */

static int wanted_edits(void)
{
    const char *text = getenv("LOCAL_EDITS");
    int64_t edits = EDITS_DEFAULT;
    assert_true(!text || parse_int64(text, 1, EDITS_MAX, &edits));
    return (int)edits;
}

/* Waits until the new answer is there, whatever it takes. */
static void edit(const struct local *local, int number)
{
    static const char ways[] = "rwsd";
    CLEANUP_FREE char *version = xasprintf("version %06d", number);
    if (number % 2 == 0) {
        local_build(local, "answer.so", number, ways[number / 2 % 4]);
        local_await_answer(local, "/fn/default/answer/", 200, version);
        return;
    }
    CLEANUP_FREE char *sql = xasprintf("SELECT '%s' AS v", version);
    local_sql(local, "f", sql, NULL);
    local_await_answer(local, "/fn/default/f/", 200, version);
}

static void test_many_edits(void **state)
{
    struct local *local = *state;
    int edits = wanted_edits();
    local_build(local, "answer.so", 0, 'w');
    local_handler(local, "answer", "answer.so:answer", NULL);
    local_sql(local, "f", "SELECT 'none' AS v", NULL);
    local_start(local, NULL);
    local_expect(local, "/fn/default/answer/", 200, "version 000000");
    local_expect(local, "/fn/default/f/", 200, "none");
    load_start(local, "/fn/default/answer/", "/fn/default/f/");
    for (int i = 1; i <= WARM_UP_EDITS; i++) {
        edit(local, i);
    }
    local_await_children(local, RUNTIME, 2);
    size_t descriptors = local_descriptors(local), before_kib = local_pss_kib(local);
    int64_t before_ms = clock_monotonic_ms();
    for (int i = 1; i <= edits; i++) {
        edit(local, WARM_UP_EDITS + i);
    }
    int64_t took_ms = clock_monotonic_ms() - before_ms;
    local_await_children(local, RUNTIME, 2);
    size_t after = local_descriptors(local), after_kib = local_pss_kib(local);
    load_stop();
    print_message(
        "%d edits, %d ms each on average, %d requests, none failed; descriptors %zu -> %zu, PSS %zu -> "
        "%zu KiB\n",
        edits, (int)(took_ms / edits), atomic_load(&load.answered), descriptors, after, before_kib,
        after_kib);
    assert_true(after <= descriptors + DESCRIPTORS_MAX);
    if (!strstr(getenv("CICADA_TEST_BUILD"), "san")) { /* sanitizers keep what was freed */
        assert_true(after_kib <= before_kib + GROWTH_KIB);
    }
    assert_int_equal(local_stop(local, SIGTERM), 0);
    assert_int_equal(local_log_count(local, "HandlerLoadFailed"), 0);
    assert_int_equal(local_log_count(local, "ended by itself"), 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, local_setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_sql_changes),         CASE(test_broken_edit),        CASE(test_rejected_sql),
        CASE(test_burst_of_edits),      CASE(test_files_come_and_go),  CASE(test_function_moves),
        CASE(test_folder_is_replaced),  CASE(test_linked_manifests),   CASE(test_linked_folder),
        CASE(test_data_changes),        CASE(test_handler_is_rebuilt), CASE(test_half_written_handler),
        CASE(test_handler_comes_later), CASE(test_many_edits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
