/* A function's output through the real runtime and a real PostgreSQL: which answers become events, and what is said of others. */
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_chain.h"
#include "runtime/tests/support_test.h"

/* ---- HTTP ---- */

/* `answer` as the text of a JSON string. */
static void post_answer(const char *answer, int status, const char *text)
{
    CLEANUP_FREE char *body = xasprintf("{\"text\":\"a\",\"answer\":\"%s\"}", answer);

    chain_post(body, status, text);
}

static void test_answers_that_are_sent(void **state)
{
    (void)state;
    chain_start(ANSWER, OUTPUT);
    post_answer("{\\\"n\\\":1}", 200, "{\"n\":1}");
    chain_expect(LAST, "{\"n\": 1}");
    post_answer(" [null] ", 200, "[null]");
    chain_expect(LAST, "[null]");
    post_answer("false", 200, "false");
    post_answer("0", 200, "0");
    post_answer("\\\"\\\"", 200, "\"\"");
    post_answer("{}", 200, "{}");
    chain_ask("PUT", "/", "", "{\"answer\":\"[1]\",\"type\":\"application/x+json; a=b\"}", 200, "[1]");
    chain_post("{\"answer\":\"7\",\"status\":202}", 202, "7");
    chain_expect(LAST, "7");
    chain_expect(SENT, "8");
    chain_expect(NOTES, "6");
    chain_post("{\"fill\":262144}", 200, "\"xxx");
    chain_expect("SELECT max(octet_length(payload)) FROM cicada.event", "262144");
}

static void test_answers_that_say_nothing(void **state)
{
    (void)state;
    chain_start(ANSWER, OUTPUT);
    post_answer("", 200, "");
    post_answer("null", 200, "null");
    post_answer("\\t null\\n", 200, "null");
    post_answer("[]", 200, "[]");
    post_answer(" [ ] ", 200, "[ ]");
    chain_expect(NOTES, "5");
    chain_post("{\"text\":\"a\",\"answer\":\"{}\",\"status\":400}", 400, "{}");
    chain_post("{\"text\":\"a\",\"answer\":\"no JSON\",\"status\":500}", 500, "no JSON");
    chain_expect(NOTES, "5");
    chain_ask("GET", "/", "", NULL, 200, "");
    chain_ask("GET", "/?stream=1", "", NULL, 200, "{}");
    chain_ask("HEAD", "/", "", NULL, 200, "");
    chain_expect(SENT, "0");
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
    chain_start(ANSWER, OUTPUT);
    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        CLEANUP_FREE char *body = xasprintf("{\"text\":\"a\",%s}", bodies[i]);
        chain_post(body, 500, "\"code\":\"output_not_storable\"");
    }
    chain_expect(NOTES, "0");
    chain_expect(SENT, "0");
    chain_post("{\"answer\":\"{}\",\"stream\":1,\"status\":409}", 409, "{}"); /* is not to be sent */
    chain_expect(SENT, "0");
    post_answer("1", 200, "1"); /* no connection was lost */
}

/* Which is not enqueue()'s to say. */
static void test_error_of_commit_is_its_own(void **state)
{
    (void)state;
    session_exec(
        chain.events->owner,
        "CREATE FUNCTION event_test.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM 1 / 0; RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON event_test.notes DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION event_test.refuse()");
    chain_start(ANSWER, OUTPUT);
    post_answer("1", 422, "\"code\":\"data_exception\"");
    chain_expect(SENT, "0");
    session_exec(chain.events->owner, "DROP TRIGGER refuse ON event_test.notes");
}

static void test_replay_sends_nothing(void **state)
{
    static const char key[] = "Idempotency-Key: \"k\"\r\n";

    (void)state;
    chain_start(ANSWER, OUTPUT ",\"http\":{\"idempotency\":\"Optional\"}");
    for (int i = 0; i < 3; i++)
        chain_ask("POST", "/", key, "{\"text\":\"a\",\"answer\":\"{}\"}", 200,
                  i > 0 ? "Idempotency-Replayed: true" : "{}");
    chain_expect(SENT, "1");
    chain_ask("POST", "/", "Idempotency-Key: \"l\"\r\n", "{\"text\":\"a\",\"answer\":\"x\"}", 500,
              "output_not_storable");
    chain_ask("POST", "/", "Idempotency-Key: \"l\"\r\n", "{\"text\":\"a\",\"answer\":\"x\"}", 500,
              "output_not_storable");
    chain_expect(SENT, "1");
    chain_expect(NOTES, "1");
}

/* ---- SQL ---- */

static void test_results_of_sql_are_sent(void **state)
{
    static const char sql[] = "\"sql\":\"INSERT INTO event_test.notes (text) SELECT g::text FROM"
                              " generate_series(1, :n::int) g RETURNING text AS t\"";

    (void)state;
    chain_start(sql, OUTPUT);
    chain_post("{\"n\":2}", 200, "[{\"t\":\"1\"}");
    chain_expect(LAST, "[{\"t\": \"1\"}, {\"t\": \"2\"}]");
    chain_post("{\"n\":0}", 200, "[]");
    chain_expect(SENT, "1");
    chain_ask("POST", "/", "Accept: text/csv\r\n", "{\"n\":1}", 200,
              "[{\"t\":\"1\"}]"); /* as it is sent on */
    chain_expect(SENT, "2");
    chain_post("{\"n\":40000}", 500, "output_not_storable");
    chain_expect(NOTES, "3");
}

static void test_one_value_is_sent(void **state)
{
    (void)state;
    chain_start("\"sql\":\"SELECT :v::jsonb AS v\",\"result\":\"Value\"", OUTPUT);
    chain_post("{\"v\":{\"a\":[1]}}", 200, "{\"a\": [1]}");
    chain_expect(LAST, "{\"a\": [1]}");
    chain_post("{\"v\":null}", 200, "null");
    chain_post("{\"v\":[]}", 200, "[]");
    chain_expect(SENT, "1");
}

/* ---- the start ---- */

static void test_queue_is_made_at_the_start(void **state)
{
    (void)state;
    chain_start(ANSWER, ",\"output\":{\"queue\":\"made-by.output\"}");
    chain_expect("SELECT name FROM cicada.queue WHERE name LIKE 'made%'", "made-by.output");
    post_answer("1", 200, "1");
    session_exec(chain.events->owner, "SELECT cicada.purge('made-by.output')");
}

static void test_start_without_the_right_says_what_to_do(void **state)
{
    const struct runtime_process_settings settings = {
        .spec = "{" ANSWER ",\"database\":{}" OUTPUT "}",
        .functions = "test-functions",
        .database_url = chain.events->guest_url,
    };
    CLEANUP_FREE char *message = NULL;

    (void)state;
    session_exec(chain.events->owner, "REVOKE EXECUTE ON FUNCTION cicada.create_queue FROM " EVENTS_GUEST);
    runtime_process_start(&chain.process, &settings, /* serving= */ false);
    assert_int_equal(runtime_process_wait(&chain.process), 1);
    message = runtime_process_read(chain.process.termination_path);
    assert_non_null(strstr(message, "\"reason\":\"SchemaMissing\""));
    assert_non_null(strstr(message, "queue \\\"other\\\""));
    assert_non_null(strstr(message, "cicada.grant_to("));
    session_exec(chain.events->owner, "SELECT cicada.grant_to('" EVENTS_GUEST "')");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_answers_that_are_sent, chain_clear),
        cmocka_unit_test_teardown(test_answers_that_say_nothing, chain_clear),
        cmocka_unit_test_teardown(test_answers_that_cannot_be_sent, chain_clear),
        cmocka_unit_test_teardown(test_error_of_commit_is_its_own, chain_clear),
        cmocka_unit_test_teardown(test_replay_sends_nothing, chain_clear),
        cmocka_unit_test_teardown(test_results_of_sql_are_sent, chain_clear),
        cmocka_unit_test_teardown(test_one_value_is_sent, chain_clear),
        cmocka_unit_test_teardown(test_queue_is_made_at_the_start, chain_clear),
        cmocka_unit_test_teardown(test_start_without_the_right_says_what_to_do, chain_clear),
    };
    return cmocka_run_group_tests(tests, chain_setup, chain_teardown);
}
