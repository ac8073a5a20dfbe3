#include "runtime/tests/support_idempotency.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_postgres.h"

#define DATABASE "cicada_test_idempotency"

/* `function`: the members of the spec that say what it does. */
static void start(struct keyed_runtime *fixture, const char *function, const char *mode,
                  const char *isolation)
{
    CLEANUP_FREE char *url = test_database_url(NULL, pg_proxy_port(fixture->proxy), DATABASE);
    CLEANUP_FREE char *spec = xasprintf("{%s,\"timeoutSeconds\":5,\"concurrency\":60,"
                                        "\"http\":{\"idempotency\":\"%s\"},"
                                        "\"database\":{\"poolSize\":20,\"isolation\":\"%s\"}}",
                                        function, mode, isolation);
    struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = spec, .database_url = url};

    runtime_process_start(&fixture->process, &settings, /* serving= */ true);
}

static struct keyed_runtime *make_fixture(void)
{
    struct keyed_runtime *fixture = xcalloc(1, sizeof(*fixture));

    test_database_create(DATABASE, NULL);
    fixture->url = test_database_url(NULL, 0, DATABASE);
    test_database_exec(fixture->url,
                       "CREATE SCHEMA runtime_test;"
                       "CREATE TABLE runtime_test.notes (id serial PRIMARY KEY, text text);"
                       "CREATE TABLE runtime_test.answers (note_id integer REFERENCES runtime_test.notes"
                       " DEFERRABLE INITIALLY DEFERRED)");
    fixture->proxy = pg_proxy_new(pgtest_port());
    return fixture;
}

int idempotency_setup(void **state, const char *function, const char *mode, const char *isolation)
{
    struct keyed_runtime *fixture = make_fixture();

    start(fixture, function, mode, isolation);
    *state = fixture;
    return 0;
}

int idempotency_teardown(void **state)
{
    struct keyed_runtime *fixture = *state;

    runtime_process_release(&fixture->process);
    pg_proxy_free(fixture->proxy);
    test_database_drop(DATABASE);
    free(fixture->url);
    free(fixture);
    return 0;
}

struct http_answer keyed_ask(struct keyed_runtime *fixture, const char *method, const char *target,
                             const char *key, const char *body)
{
    CLEANUP_FREE char *header = key ? xasprintf("Idempotency-Key: %s\r\n", key) : xstrdup("");

    return http_ask(fixture->process.port, method, target, header, body);
}

static void *call_main(void *arg)
{
    struct keyed_caller *caller = arg;

    caller->answer = keyed_ask(caller->fixture, "POST", caller->target, caller->key, "");
    return NULL;
}

void keyed_call_start(struct keyed_caller *caller)
{
    assert_int_equal(pthread_create(&caller->thread, NULL, call_main, caller), 0);
}

void keyed_call_join(struct keyed_caller *caller)
{
    pthread_join(caller->thread, NULL);
}

void keyed_expect(struct keyed_runtime *fixture, const char *target, const char *key, int status,
                  const char *text)
{
    struct http_answer answer = keyed_ask(fixture, "POST", target, key, "");

    if (answer.status != status || !http_answer_has(&answer, text))
        fail_msg("%s %s: expected %d with <%s>, got: %s", target, key ? key : "-", status, text, answer.text);
    http_answer_release(&answer);
}

bool is_replay(const struct http_answer *answer)
{
    return http_answer_has(answer, "\r\nIdempotency-Replayed: true\r\n");
}

/* The answer without what belongs to the single exchange. */
static char *essence(const struct http_answer *answer)
{
    static const char *const own[] = {
        "X-Request-Id: ", "Idempotency-Replayed: ", "Date: ", "Server-Timing: "};
    struct strbuf out;
    const char *line = answer->text, *next;
    bool keep;

    strbuf_init(&out, 1 << 20);
    for (; line < answer->body; line = next) {
        next = strchr(line, '\n') + 1;
        keep = true;
        for (size_t i = 0; i < ARRAY_SIZE(own); i++)
            keep = keep && strncmp(line, own[i], strlen(own[i])) != 0;
        if (keep)
            strbuf_append(&out, line, (size_t)(next - line));
    }
    strbuf_append_str(&out, answer->body);
    return strbuf_detach(&out, NULL);
}

void expect_same_answer(const struct http_answer *first, const struct http_answer *second)
{
    CLEANUP_FREE char *a = essence(first);
    CLEANUP_FREE char *b = essence(second);

    assert_string_equal(a, b);
}

void database_count(struct keyed_runtime *fixture, const char *sql, int64_t count)
{
    CLEANUP_FREE char *text = xasprintf("%lld", (long long)count);

    test_database_expect(fixture->url, sql, text);
}

static bool has_text(void *arg)
{
    const char **wait = arg; /* URL, SQL, value */
    CLEANUP_FREE char *value = test_database_value(wait[0], wait[1]);

    return strcmp(value, wait[2]) == 0;
}

void database_becomes(struct keyed_runtime *fixture, const char *sql, const char *value)
{
    const char *wait[] = {fixture->url, sql, value};

    wait_until(has_text, wait, sql);
}
