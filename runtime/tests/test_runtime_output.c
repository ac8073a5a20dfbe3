/* A function's output through the real runtime and a real PostgreSQL: which answers become events, and that they do so exactly once. */
#include "runtime/tests/support_test.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_events.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_runtime.h"

#define ANSWER   "\"handler\":\"output.so:answer\""
#define READER   "\"handler\":\"output.so:reader\""
#define SETTINGS "\"handler\":\"output.so:settings\""
#define OUTPUT   ",\"output\":{\"queue\":\"other\"}"
#define TRIGGER                                                                                              \
    ",\"triggers\":[{\"name\":\"work\",\"queue\":{\"name\":\"q\"},\"delivery\":{\"maxAttempts\":2,"          \
    "\"backoffSeconds\":1,\"maxBackoffSeconds\":1}}]"

#define TRACE  "0af7651916cd43dd8448eb211c80319c"
#define PARENT "00-" TRACE "-b7ad6b7169203331-01"

#define NOTES "SELECT count(*) FROM event_test.notes"
#define SENT                                                                                                 \
    "SELECT count(*) FROM cicada.event e JOIN cicada.queue q ON q.id = e.queue WHERE q.name = 'other'"
#define LAST                                                                                                 \
    "SELECT payload FROM cicada.event e JOIN cicada.queue q ON q.id = e.queue WHERE q.name = 'other'"        \
    " ORDER BY e.id DESC LIMIT 1"
#define DONE "SELECT count(*) FROM cicada.event e JOIN cicada.queue q ON q.id = e.queue WHERE q.name = 'q'"

static struct event_fixture *events;
static struct runtime_process process, second;

static void start_one(struct runtime_process *one, const char *name, const char *what, const char *more)
{
    CLEANUP_FREE char *spec =
        xasprintf("{%s,\"timeoutSeconds\":5,\"database\":{\"poolSize\":2}%s}", what, more);
    CLEANUP_FREE char *env = xasprintf("CICADA_FUNCTION_NAME=%s", name);
    const struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = spec, .database_url = events->guest_url, .env = {env}};

    runtime_process_start(one, &settings, /* serving= */ true);
}

static void start(const char *what, const char *more)
{
    start_one(&process, "function", what, more);
}

static int group_setup(void **state)
{
    void *fixture;

    (void)state;
    assert_int_equal(events_setup(&fixture), 0);
    events = fixture;
    session_exec(events->owner,
                 "CREATE SCHEMA event_test; GRANT USAGE ON SCHEMA event_test TO " EVENTS_GUEST ";"
                 "CREATE TABLE event_test.notes (id bigserial, text text, request_id text);"
                 "GRANT ALL ON event_test.notes TO " EVENTS_GUEST ";"
                 "GRANT ALL ON SEQUENCE event_test.notes_id_seq TO " EVENTS_GUEST);
    return 0;
}

static int group_teardown(void **state)
{
    void *fixture = events;

    (void)state;
    return events_teardown(&fixture);
}

static int teardown(void **state)
{
    (void)state;
    runtime_process_release(&process);
    runtime_process_release(&second);
    process = second = (struct runtime_process){0};
    session_exec(events->owner, "TRUNCATE event_test.notes; DELETE FROM cicada.dead_letter;"
                                "SELECT cicada.purge('q'), cicada.purge('other')");
    return 0;
}

/* ---- what is asked and expected ---- */

static void ask(const char *method, const char *target, const char *headers, const char *body, int status,
                const char *text)
{
    struct http_answer answer = http_ask(process.port, method, target, headers, body);

    if (answer.status != status || !http_answer_has(&answer, text))
        fail_msg("%s: expected %d with %s, got: %s", body, status, text, answer.text);
    http_answer_release(&answer);
}

static void post(const char *body, int status, const char *text)
{
    ask("POST", "/", "", body, status, text);
}

/* `answer` as the text of a JSON string. */
static void post_answer(const char *answer, int status, const char *text)
{
    CLEANUP_FREE char *body = xasprintf("{\"text\":\"a\",\"answer\":\"%s\"}", answer);

    post(body, status, text);
}

static void expect(const char *sql, const char *answer)
{
    session_expect(events->owner, sql, answer);
}

struct wish {
    const char *sql, *answer;
};

static bool is_fulfilled(void *arg)
{
    const struct wish *wish = arg;
    CLEANUP_FREE char *answer = session_answer(events->owner, wish->sql);

    return strcmp(answer, wish->answer) == 0;
}

static void becomes(const char *sql, const char *answer)
{
    struct wish wish = {sql, answer};

    for (int i = 0; i < 300 && !is_fulfilled(&wish); i++)
        pgtest_sleep_ms(100);
    expect(sql, answer);
}

static void send(const char *payload)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT cicada.enqueue('q', $payload$%s$payload$)", payload);

    session_exec(events->a, sql);
}

/* ---- HTTP ---- */

static void test_answers_that_are_sent(void **state)
{
    (void)state;
    start(ANSWER, OUTPUT);
    post_answer("{\\\"n\\\":1}", 200, "{\"n\":1}");
    expect(LAST, "{\"n\": 1}");
    post_answer(" [null] ", 200, "[null]");
    expect(LAST, "[null]");
    post_answer("false", 200, "false");
    post_answer("0", 200, "0");
    post_answer("\\\"\\\"", 200, "\"\"");
    post_answer("{}", 200, "{}");
    ask("PUT", "/", "", "{\"answer\":\"[1]\",\"type\":\"application/x+json; a=b\"}", 200, "[1]");
    post("{\"answer\":\"7\",\"status\":202}", 202, "7");
    expect(LAST, "7");
    expect(SENT, "8");
    expect(NOTES, "6");
    post("{\"fill\":262144}", 200, "\"xxx");
    expect("SELECT max(octet_length(payload)) FROM cicada.event", "262144");
}

static void test_answers_that_say_nothing(void **state)
{
    (void)state;
    start(ANSWER, OUTPUT);
    post_answer("", 200, "");
    post_answer("null", 200, "null");
    post_answer("\\t null\\n", 200, "null");
    post_answer("[]", 200, "[]");
    post_answer(" [ ] ", 200, "[ ]");
    expect(NOTES, "5");
    post("{\"text\":\"a\",\"answer\":\"{}\",\"status\":400}", 400, "{}");
    post("{\"text\":\"a\",\"answer\":\"no JSON\",\"status\":500}", 500, "no JSON");
    expect(NOTES, "5");
    ask("GET", "/", "", NULL, 200, "");
    ask("GET", "/?stream=1", "", NULL, 200, "{}");
    ask("HEAD", "/", "", NULL, 200, "");
    expect(SENT, "0");
}

static void test_answers_that_cannot_be_sent(void **state)
{
    static const char *const bodies[] = {
        "\"answer\":\"{\"",
        "\"answer\":\"text\"",
        "\"answer\":\"{\\\"a\\\":1,\\\"a\\\":2}\"",
        "\"answer\":\"\\\"\\\\u0000\\\"\"",
        "\"answer\":\"1 2\"",
        "\"answer\":\"{}\",\"type\":\"text/plain\"",
        "\"fill\":262145",
        "\"answer\":\"1e131073\"",                     /* no numeric holds it */
        "\"answer\":\"[1e131000,1e131000,1e131000]\"", /* PostgreSQL writes all of the digits */
        "\"answer\":\"{}\",\"stream\":1",
        "\"answer\":\"{}\",\"commit\":1",
    };

    (void)state;
    start(ANSWER, OUTPUT);
    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        CLEANUP_FREE char *body = xasprintf("{\"text\":\"a\",%s}", bodies[i]);
        post(body, 500, "\"code\":\"output_not_storable\"");
    }
    expect(NOTES, "0");
    expect(SENT, "0");
    post("{\"answer\":\"{}\",\"stream\":1,\"status\":409}", 409, "{}"); /* is not to be sent */
    expect(SENT, "0");
    post_answer("1", 200, "1"); /* no connection was lost */
}

/* Which is not enqueue()'s to say. */
static void test_error_of_commit_is_its_own(void **state)
{
    (void)state;
    session_exec(
        events->owner,
        "CREATE FUNCTION event_test.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM 1 / 0; RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON event_test.notes DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION event_test.refuse()");
    start(ANSWER, OUTPUT);
    post_answer("1", 422, "\"code\":\"data_exception\"");
    expect(SENT, "0");
    session_exec(events->owner, "DROP TRIGGER refuse ON event_test.notes");
}

static void test_replay_sends_nothing(void **state)
{
    static const char key[] = "Idempotency-Key: \"k\"\r\n";

    (void)state;
    start(ANSWER, OUTPUT ",\"http\":{\"idempotency\":\"Optional\"}");
    for (int i = 0; i < 3; i++)
        ask("POST", "/", key, "{\"text\":\"a\",\"answer\":\"{}\"}", 200,
            i > 0 ? "Idempotency-Replayed: true" : "{}");
    expect(SENT, "1");
    ask("POST", "/", "Idempotency-Key: \"l\"\r\n", "{\"text\":\"a\",\"answer\":\"x\"}", 500,
        "output_not_storable");
    ask("POST", "/", "Idempotency-Key: \"l\"\r\n", "{\"text\":\"a\",\"answer\":\"x\"}", 500,
        "output_not_storable");
    expect(SENT, "1");
    expect(NOTES, "1");
}

/* ---- SQL ---- */

static void test_results_of_sql_are_sent(void **state)
{
    static const char sql[] = "\"sql\":\"INSERT INTO event_test.notes (text) SELECT g::text FROM"
                              " generate_series(1, :n::int) g RETURNING text AS t\"";

    (void)state;
    start(sql, OUTPUT);
    post("{\"n\":2}", 200, "[{\"t\":\"1\"}");
    expect(LAST, "[{\"t\": \"1\"}, {\"t\": \"2\"}]");
    post("{\"n\":0}", 200, "[]");
    expect(SENT, "1");
    ask("POST", "/", "Accept: text/csv\r\n", "{\"n\":1}", 200, "[{\"t\":\"1\"}]"); /* as it is sent on */
    expect(SENT, "2");
    post("{\"n\":40000}", 500, "output_not_storable");
    expect(NOTES, "3");
}

static void test_one_value_is_sent(void **state)
{
    (void)state;
    start("\"sql\":\"SELECT :v::jsonb AS v\",\"result\":\"Value\"", OUTPUT);
    post("{\"v\":{\"a\":[1]}}", 200, "{\"a\": [1]}");
    expect(LAST, "{\"a\": [1]}");
    post("{\"v\":null}", 200, "null");
    post("{\"v\":[]}", 200, "[]");
    expect(SENT, "1");
}

/* ---- handlers that only read ---- */

static void test_reader_sends_and_writes_nothing(void **state)
{
    static const char insert[] = "{\"sql\":\"INSERT INTO event_test.notes (text) VALUES ('a')\"}";

    (void)state;
    start(READER, OUTPUT TRIGGER ",\"http\":{\"idempotency\":\"Optional\"}");
    post("{\"rows\":3}", 200, "{\"count\":3}");
    expect(LAST, "{\"count\": 3}");
    post(insert, 500, "read_only_transaction");
    ask("POST", "/", "Idempotency-Key: reader\r\n", "{\"rows\":1}", 200, "{\"count\":1}");
    ask("POST", "/", "Idempotency-Key: reader\r\n", "{\"rows\":1}", 200, "Idempotency-Replayed: true");
    expect(SENT, "2");
    post("{\"rows\":1,\"release\":1}", 500, ""); /* there is but one of its own */
    expect(SENT, "2");
    send("{\"rows\":100000}");
    becomes(SENT, "3");
    expect(LAST, "{\"count\": 100000}");
    expect(DONE, "0");
    send(insert);
    becomes("SELECT reason, error FROM cicada.dead_letters('q')",
            "attempts read_only_transaction 25006: cannot execute INSERT in a read-only transaction");
    expect(SENT, "3");
    expect(NOTES, "0");
}

static void test_reader_of_events_without_output(void **state)
{
    (void)state;
    start(READER, TRIGGER);
    send("{\"rows\":1000}");
    becomes(DONE, "0");
    send("{\"sql\":\"SELECT 1/0\"}");
    becomes("SELECT reason FROM cicada.dead_letters('q')", "data");
}

/* ---- events ---- */

static void test_answer_to_an_event_is_sent_with_its_settlement(void **state)
{
    (void)state;
    start(ANSWER, OUTPUT TRIGGER);
    send("{\"text\":\"a\",\"answer\":\"{\\\"n\\\":1}\"}");
    becomes(DONE, "0");
    expect(LAST, "{\"n\": 1}");
    send("{\"text\":\"b\",\"answer\":\"[]\"}");
    becomes(DONE, "0");
    send("{\"text\":\"c\",\"answer\":\"{}\",\"status\":422}");
    becomes("SELECT reason, attempt FROM cicada.dead_letters('q')", "rejected 1");
    expect(SENT, "1");
    expect(NOTES, "2");
}

static void test_event_whose_answer_cannot_be_sent_is_a_dead_letter(void **state)
{
    (void)state;
    start(ANSWER, OUTPUT TRIGGER);
    send("{\"text\":\"a\",\"answer\":\"text\"}");
    send("{\"text\":\"b\",\"answer\":\"{}\",\"stream\":1}");
    send("{\"text\":\"c\",\"answer\":\"{}\",\"commit\":1}");
    send("{\"text\":\"d\",\"answer\":\"1e131073\"}");
    becomes("SELECT count(*), min(reason), count(*) FILTER (WHERE error LIKE '500: %output_not_storable%')"
            " FROM cicada.dead_letters('q')",
            "4 attempts 4");
    expect(SENT, "0");
    expect(NOTES, "0");
}

/* ---- chains ---- */

static void test_request_is_the_begin_of_a_chain(void **state)
{
    (void)state;
    start(ANSWER, OUTPUT);
    ask("POST", "/", "traceparent: " PARENT "\r\n", "{\"answer\":\"1\"}", 200, "1");
    expect("SELECT depth, substr(traceparent, 4, 32) FROM cicada.event", "1 " TRACE);
    post_answer("1", 200, "1");
    expect("SELECT depth, length(traceparent) FROM cicada.event ORDER BY id DESC LIMIT 1", "1 55");
}

#define EVENT(more) "ce-specversion: 1.0\r\nce-id: 7\r\nce-source: /s\r\nce-type: t\r\n" more
#define BODY        "{\"answer\":\"1\"}"

static void test_event_by_http_goes_on_with_its_chain(void **state)
{
    (void)state;
    start(ANSWER, OUTPUT);
    ask("POST", "/", EVENT("ce-cicadadepth: 3\r\nce-traceparent: " PARENT "\r\n"), BODY, 200, "1");
    expect("SELECT depth, traceparent FROM cicada.event", "4 " PARENT);
    ask("POST", "/", EVENT("ce-cicadadepth: 16\r\n"), BODY, 200, "1");
    expect("SELECT depth, reason FROM cicada.dead_letter", "17 depth");
    ask("POST", "/", EVENT("ce-cicadadepth: 1000\r\nce-traceparent: x\r\n"), BODY, 200, "1");
    expect("SELECT max(depth), max(length(traceparent)) FROM cicada.dead_letter", "1001 55");
    ask("POST", "/", EVENT("ce-cicadadepth: 1001\r\n"), BODY, 400, "invalid_event");
    ask("POST", "/", EVENT("ce-cicadadepth: -1\r\n"), BODY, 400, "invalid_event");
    ask("POST", "/", EVENT("ce-cicadadepth: 1x\r\n"), BODY, 400, "invalid_event");
    expect(SENT, "1");
}

/* What each transaction has to set costs each of them. */
static void test_other_functions_set_nothing(void **state)
{
    static const char nothing[] = "{\"depth\":null,\"traceparent\":null}";

    (void)state;
    start(SETTINGS, "");
    post("{}", 200, nothing);
    ask("POST", "/", EVENT("ce-traceparent: " PARENT "\r\n"), "{}", 200, nothing);
    ask("GET", "/", "", NULL, 200, nothing);
    ask("POST", "/", EVENT("ce-cicadadepth: 2\r\n"), "{}", 200, "{\"depth\":\"2\",\"traceparent\":\"00-");
    runtime_process_release(&process);
    start(SETTINGS, OUTPUT);
    ask("GET", "/", "", NULL, 200, nothing);
    post("{}", 200, "{\"depth\":\"0\",\"traceparent\":\"00-");
}

static void test_loop_ends(void **state)
{
    (void)state;
    start("\"sql\":\"WITH n AS (INSERT INTO event_test.notes (text) VALUES (:hop) RETURNING text::int)"
          " SELECT text + 1 AS hop FROM n\",\"result\":\"Row\"",
          ",\"output\":{\"queue\":\"q\"}" TRIGGER);
    ask("POST", "/", "traceparent: " PARENT "\r\n", "{\"hop\":0}", 200, "{\"hop\":1}");
    becomes("SELECT depth, reason, payload, substr(traceparent, 4, 32) FROM cicada.dead_letter",
            "17 depth {\"hop\": 17} " TRACE);
    expect(DONE, "0");
    expect("SELECT count(*), count(DISTINCT text), max(text::int) FROM event_test.notes", "17 17 16");
}

/* Some of whose runs fall victim to others, as it were: each event has its effects once in each of the two. */
static void test_chain_of_two_does_each_once(void **state)
{
    (void)state;
    start_one(&second, "second",
              "\"sql\":\"INSERT INTO event_test.notes (text, request_id) VALUES (:n, "
              "'second')\",\"result\":\"None\"",
              ",\"triggers\":[{\"name\":\"work\",\"queue\":{\"name\":\"other\"}}]");
    start("\"sql\":\"INSERT INTO event_test.notes (text, request_id) VALUES (:n, 'first');"
          "DO $$ BEGIN IF random() < 0.3 THEN RAISE serialization_failure; END IF; END $$;"
          "SELECT :n::int * 2 AS n\",\"result\":\"Row\"",
          OUTPUT TRIGGER);
    session_exec(events->a, "SELECT count(*) FROM cicada.enqueue_many('q', ARRAY(SELECT"
                            " jsonb_build_object('n', i) FROM generate_series(1, 100) i))");
    becomes("SELECT (SELECT count(*) FROM cicada.event), (SELECT count(*) FROM cicada.dead_letter)", "0 0");
    expect("SELECT request_id, count(*), count(DISTINCT text), sum(text::int) FROM event_test.notes"
           " GROUP BY 1 ORDER BY 1",
           "first 100 100 5050; second 100 100 10100");
}

/* ---- the start ---- */

static void test_queue_is_made_at_the_start(void **state)
{
    (void)state;
    start(ANSWER, ",\"output\":{\"queue\":\"made-by.output\"}");
    expect("SELECT name FROM cicada.queue WHERE name LIKE 'made%'", "made-by.output");
    post_answer("1", 200, "1");
    session_exec(events->owner, "SELECT cicada.purge('made-by.output')");
}

static void test_start_without_the_right_says_what_to_do(void **state)
{
    const struct runtime_process_settings settings = {
        .spec = "{" ANSWER ",\"database\":{}" OUTPUT "}",
        .functions = "test-functions",
        .database_url = events->guest_url,
    };
    CLEANUP_FREE char *message = NULL;

    (void)state;
    session_exec(events->owner, "REVOKE EXECUTE ON FUNCTION cicada.create_queue FROM " EVENTS_GUEST);
    runtime_process_start(&process, &settings, /* serving= */ false);
    assert_int_equal(runtime_process_wait(&process), 1);
    message = runtime_process_read(process.termination_path);
    assert_non_null(strstr(message, "\"reason\":\"SchemaMissing\""));
    assert_non_null(strstr(message, "queue \\\"other\\\""));
    assert_non_null(strstr(message, "cicada.grant_to("));
    session_exec(events->owner, "SELECT cicada.grant_to('" EVENTS_GUEST "')");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_answers_that_are_sent, teardown),
        cmocka_unit_test_teardown(test_answers_that_say_nothing, teardown),
        cmocka_unit_test_teardown(test_answers_that_cannot_be_sent, teardown),
        cmocka_unit_test_teardown(test_error_of_commit_is_its_own, teardown),
        cmocka_unit_test_teardown(test_replay_sends_nothing, teardown),
        cmocka_unit_test_teardown(test_results_of_sql_are_sent, teardown),
        cmocka_unit_test_teardown(test_one_value_is_sent, teardown),
        cmocka_unit_test_teardown(test_reader_sends_and_writes_nothing, teardown),
        cmocka_unit_test_teardown(test_reader_of_events_without_output, teardown),
        cmocka_unit_test_teardown(test_answer_to_an_event_is_sent_with_its_settlement, teardown),
        cmocka_unit_test_teardown(test_event_whose_answer_cannot_be_sent_is_a_dead_letter, teardown),
        cmocka_unit_test_teardown(test_request_is_the_begin_of_a_chain, teardown),
        cmocka_unit_test_teardown(test_event_by_http_goes_on_with_its_chain, teardown),
        cmocka_unit_test_teardown(test_other_functions_set_nothing, teardown),
        cmocka_unit_test_teardown(test_loop_ends, teardown),
        cmocka_unit_test_teardown(test_chain_of_two_does_each_once, teardown),
        cmocka_unit_test_teardown(test_queue_is_made_at_the_start, teardown),
        cmocka_unit_test_teardown(test_start_without_the_right_says_what_to_do, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
