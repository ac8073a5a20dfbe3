/* The test double of the SDK (cicada/function_test.h) beside the real runtime with a real database: the same handler, the same
 * requests, the same answers. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cicada/function_test.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/tests/support_runtime.h"

#define SPEC(handler)                                                                                        \
    "{\"handler\":\"double.so:" handler "\",\"concurrency\":2,\"database\":{\"poolSize\":1}}"

struct fixture {
    struct runtime_process both, lines;
    void *object;
};

static void start(struct runtime_process *process, const char *spec)
{
    const struct runtime_process_settings settings = {
        .functions = "test-functions", .database_url = getenv("TEST_DATABASE_URL"), .spec = spec};

    runtime_process_start(process, &settings, /* serving= */ true);
}

static int set_up(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    CLEANUP_FREE char *path = xasprintf("%s/test-functions/double.so", getenv("CICADA_TEST_BUILD"));

    free(database_value("DROP SCHEMA IF EXISTS double_test CASCADE; CREATE SCHEMA double_test;"
                        "CREATE TABLE double_test.item (id int PRIMARY KEY);"
                        "CREATE TABLE double_test.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"));
    fixture->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(fixture->object);
    start(&fixture->both, SPEC("both"));
    start(&fixture->lines, SPEC("lines"));
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    runtime_process_release(&fixture->both);
    runtime_process_release(&fixture->lines);
    dlclose(fixture->object);
    free(database_value("DROP SCHEMA double_test CASCADE"));
    free(fixture);
    return 0;
}

/* ---- what is compared ---- */

struct outcome {
    int status;
    bool committed, cut;
    char *type, *code, *body; /* body: of error answers "" */
};

static void outcome_release(struct outcome *outcome)
{
    free(outcome->type);
    free(outcome->code);
    free(outcome->body);
}

/* The text from `begin` to `end` (not included) after `start`; "" if it is not there. */
static char *between(const char *text, const char *start_text, const char *end)
{
    const char *at = strstr(text, start_text);

    return at != NULL ? xstrndup(at + strlen(start_text), strcspn(at + strlen(start_text), end))
                      : xstrdup("");
}

/* Chunks put together; *ret_cut: the last one is missing. */
static char *join_chunks(const char *body, bool *ret_cut)
{
    struct strbuf text;
    char *end;

    strbuf_init(&text, 1 << 20);
    for (;;) {
        unsigned long len = strtoul(body, &end, 16);
        *ret_cut = end == body;
        if (len == 0)
            return strbuf_detach(&text, NULL);
        strbuf_append(&text, end + 2, len);
        body = end + 2 + len + 2;
    }
}

/* The same event as that of put_event(). */
#define EVENT_HEADERS                                                                                        \
    "ce-specversion: 1.0\r\nce-id: 7\r\nce-source: /shop\r\nce-type: com.example.paid\r\n"                   \
    "ce-subject: a%20b\r\nce-cicadaattempt: 3\r\n"

static void put_event(struct cicada_test *test)
{
    cicada_test_event(test, "7", "/shop", "com.example.paid");
    cicada_test_event_attribute(test, "subject", "a b");
    cicada_test_event_attribute(test, "cicadaattempt", "3");
}

static struct outcome outcome_of_runtime(const struct runtime_process *process, const char *what,
                                         const char *body)
{
    CLEANUP_FREE char *target = xasprintf("/a/b?do=%s", what);
    struct http_answer answer;
    struct outcome outcome = {0};
    CLEANUP_FREE char *count = NULL;

    free(database_value("TRUNCATE double_test.item, double_test.late"));
    answer = http_ask(process->port, "POST", target,
                      strcmp(what, "event") == 0 ? EVENT_HEADERS : "X-Given: yes\r\n", body);
    count = database_value("SELECT count(*) FROM double_test.item");
    outcome.status = answer.status;
    outcome.committed = strcmp(count, "0") != 0;
    outcome.type = between(answer.text, "Content-Type: ", "\r");
    outcome.code =
        strstr(outcome.type, "problem") != NULL ? between(answer.body, "\"code\":\"", "\"") : xstrdup("");
    if (http_answer_has(&answer, "Transfer-Encoding: chunked"))
        outcome.body = join_chunks(answer.body, &outcome.cut);
    else
        outcome.body = xstrdup(outcome.code[0] == '\0' ? answer.body : "");
    http_answer_release(&answer);
    return outcome;
}

static void script(struct cicada_test *test, const char *what)
{
    static const char *const values[] = {"1", "1.50", "t", "{\"a\": 1}", NULL, "NaN", "x\"y"};
    static const char *const numbers[] = {"1", "a", "2", "a", "3", "a"};
    bool violates = strstr(what, "violation") != NULL || strncmp(what, "undo", 4) == 0;

    if (strcmp(what, "insert") == 0)
        cicada_test_fails(test, "INSERT INTO double_test.item", "25006", "");
    cicada_test_affects(test, "INSERT INTO double_test.item", 1);
    if (violates)
        cicada_test_fails(test, "INSERT INTO double_test.item", "23505", "item_pkey");
    cicada_test_affects(test, "INSERT INTO double_test.item", 1);
    if (strcmp(what, "commit-deferred") == 0) {
        cicada_test_affects(test, "INSERT INTO double_test.late", 2);
        cicada_test_commit_fails(test, "23505");
    }
    cicada_test_rows(test, "SELECT id", "id:int n:numeric yes:bool j:json nil:int nan:float text:text", 1,
                     values);
    cicada_test_rows(test, "SELECT g", "n:int t:text", 3, numbers);
}

static struct outcome outcome_of_double(void *object, const char *handler, const char *what, const char *body)
{
    CLEANUP_FREE char *symbol = xasprintf("cicada_function_%s", handler);
    const struct cicada_function *function = dlsym(object, symbol);
    struct cicada_test *test = cicada_test_new("POST", "/a/b", body);
    struct outcome outcome = {0};
    const char *type;

    assert_non_null(function);
    cicada_test_query(test, "do", what);
    cicada_test_header(test, "X-Given", "yes");
    if (strcmp(what, "event") == 0)
        put_event(test);
    script(test, what);
    outcome.status = cicada_test_call(test, function);
    outcome.committed =
        cicada_test_committed(test) && cicada_test_statements(test) > 0 && strcmp(handler, "lines") != 0;
    outcome.cut = cicada_test_cut(test);
    type = cicada_test_answer_header(test, "Content-Type");
    outcome.type = xstrdup(type != NULL ? type : "");
    outcome.code = xstrdup(cicada_test_code(test));
    outcome.body = xstrdup(outcome.code[0] == '\0' ? cicada_test_body(test) : "");
    cicada_test_free(test);
    return outcome;
}

static void compare(const struct fixture *fixture, const char *handler, const char *what, const char *body)
{
    const struct runtime_process *process = strcmp(handler, "both") == 0 ? &fixture->both : &fixture->lines;
    struct outcome real = outcome_of_runtime(process, what, body);
    struct outcome fake = outcome_of_double(fixture->object, handler, what, body);

    if (real.status != fake.status || real.committed != fake.committed || real.cut != fake.cut ||
        strcmp(real.type, fake.type) != 0 || strcmp(real.code, fake.code) != 0 ||
        strcmp(real.body, fake.body) != 0)
        fail_msg(
            "%s %s\nruntime: %d %s %s committed %d cut %d: %s\ndouble:  %d %s %s committed %d cut %d: %s",
            what, body, real.status, real.type, real.code, real.committed, real.cut, real.body, fake.status,
            fake.type, fake.code, fake.committed, fake.cut, fake.body);
    outcome_release(&real);
    outcome_release(&fake);
}

/* ---- the cases ---- */

static void test_requests(void **state)
{
    static const char *const bodies[] = {
        "{\"a\":1,\"b\":\"x\\u00e4\\n\\\"\\\\\\/\\ud83d\\ude00\",\"c\":[true,false,null,[]]}",
        "[0,-1,1.5,1.0,1e3,1e400,9007199254740993,9223372036854775807,9223372036854775808,-"
        "9223372036854775808,0.1]",
        " {\"b\" : {} } ",
        "\"text\"",
        "7",
        "",
        "{",
        "[1,]",
        "[01]",
        "{\"a\":1}x",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"a\tb\"",
        "+1",
        "nul",
        "[1 2]",
    };

    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++)
        compare(*state, "both", "request", bodies[i]);
}

static void test_events(void **state)
{
    compare(*state, "both", "event", "{\"order_id\":7}");
    compare(*state, "both", "event", "");
    compare(*state, "both", "no-event", "{}");
}

static void test_transactions(void **state)
{
    static const char *const cases[] = {"rows",        "violation",   "violation-told", "violation-ignored",
                                        "undo",        "undo-late",   "no-savepoint",   "commit",
                                        "commit-fail", "commit-late", "commit-deferred"};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        compare(*state, "both", cases[i], "");
    compare(*state, "lines", "insert", "");
}

static void test_answers(void **state)
{
    static const char *const cases[] = {
        "answer-body",    "answer-take",       "answer-empty",   "answer-problem", "answer-fail",
        "answer-doubles", "answer-open",       "mistake-name",   "mistake-end",    "mistake-open",
        "mistake-two",    "mistake-raw",       "mistake-status", "mistake-header", "mistake-ours",
        "mistake-code",   "mistake-not-at-all"};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        compare(*state, "both", cases[i], "");
}

static void test_streams(void **state)
{
    static const char *const cases[] = {"stream", "stream-404", "stream-header", "stream-open",
                                        "stream-fail"};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        compare(*state, "both", cases[i], "");
    compare(*state, "lines", "rows", "");
}

/* What the double alone has: what was asked of the database. */
static void test_what_is_asked_for(void **state)
{
    struct fixture *fixture = *state;
    struct cicada_test *test = cicada_test_new("POST", "/", NULL);

    cicada_test_query(test, "do", "rows");
    cicada_test_affects(test, "INSERT INTO double_test.item", 1);
    assert_int_equal(cicada_test_call(test, dlsym(fixture->object, "cicada_function_both")), 500);
    assert_non_null(strstr(cicada_test_body(test), "no answer is scripted for: SELECT id"));
    assert_int_equal(cicada_test_statements(test), 2);
    assert_string_equal(cicada_test_param(test, 0, 0), "1");
    assert_null(cicada_test_param(test, 0, 1));
    assert_null(cicada_test_param(test, 2, 0));
    assert_string_equal(cicada_test_log(test), "");
    assert_false(cicada_test_committed(test));
    cicada_test_free(test);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),     cmocka_unit_test(test_events),
        cmocka_unit_test(test_transactions), cmocka_unit_test(test_answers),
        cmocka_unit_test(test_streams),      cmocka_unit_test(test_what_is_asked_for),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
