/* Functions with an output that work on events, through the real runtime and a real PostgreSQL: each once, however many at once, and no chain
 * without an end. */
#include "runtime/base/mem.h"
#include "runtime/tests/support_chain.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_pgbouncer.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_test.h"

#define BODY "{\"answer\":\"1\"}"

/* ---- handlers that only read ---- */

static void test_reader_sends_and_writes_nothing(void **state)
{
    static const char insert[] = "{\"sql\":\"INSERT INTO event_test.notes (text) VALUES ('a')\"}";

    (void)state;
    chain_start(READER, OUTPUT TRIGGER ",\"http\":{\"idempotency\":\"Optional\"}");
    chain_post("{\"rows\":3}", 200, "{\"count\":3}");
    chain_expect(LAST, "{\"count\": 3}");
    chain_post(insert, 500, "read_only_transaction");
    chain_ask("POST", "/", "Idempotency-Key: reader\r\n", "{\"rows\":1}", 200, "{\"count\":1}");
    chain_ask("POST", "/", "Idempotency-Key: reader\r\n", "{\"rows\":1}", 200, "Idempotency-Replayed: true");
    chain_expect(SENT, "2");
    chain_post("{\"rows\":1,\"release\":1}", 500, ""); /* there is but one of its own */
    chain_expect(SENT, "2");
    chain_send("{\"rows\":2000}");
    chain_becomes(SENT, "3");
    chain_expect(LAST, "{\"count\": 2000}");
    chain_expect(DONE, "0");
    chain_send(insert);
    chain_becomes("SELECT reason, error FROM cicada.dead_letters('q')",
                  "attempts read_only_transaction 25006: cannot execute INSERT in a read-only transaction");
    chain_expect(SENT, "3");
    chain_expect(NOTES, "0");
}

static void test_reader_of_events_without_output(void **state)
{
    (void)state;
    chain_start(READER, TRIGGER);
    chain_send("{\"rows\":1000}");
    chain_becomes(DONE, "0");
    chain_send("{\"sql\":\"SELECT 1/0\"}");
    chain_becomes("SELECT reason FROM cicada.dead_letters('q')", "data");
}

/* ---- events ---- */

static void test_answer_to_an_event_is_sent_with_its_settlement(void **state)
{
    (void)state;
    chain_start(ANSWER, OUTPUT TRIGGER);
    chain_send("{\"text\":\"a\",\"answer\":\"{\\\"n\\\":1}\"}");
    chain_becomes(DONE, "0");
    chain_expect(LAST, "{\"n\": 1}");
    chain_send("{\"text\":\"b\",\"answer\":\"[]\"}");
    chain_becomes(DONE, "0");
    chain_send("{\"text\":\"c\",\"answer\":\"{}\",\"status\":422}");
    chain_becomes("SELECT reason, attempt FROM cicada.dead_letters('q')", "rejected 1");
    chain_expect(SENT, "1");
    chain_expect(NOTES, "2");
}

static void test_event_whose_answer_cannot_be_sent_is_a_dead_letter(void **state)
{
    (void)state;
    chain_start(ANSWER, OUTPUT TRIGGER);
    chain_send("{\"text\":\"a\",\"answer\":\"text\"}");
    chain_send("{\"text\":\"b\",\"answer\":\"{}\",\"stream\":1}");
    chain_send("{\"text\":\"c\",\"answer\":\"{}\",\"commit\":1}");
    chain_send("{\"text\":\"d\",\"answer\":\"1e131073\"}");
    chain_becomes(
        "SELECT count(*), min(reason), count(*) FILTER (WHERE error LIKE '500: %output_not_storable%')"
        " FROM cicada.dead_letters('q')",
        "4 attempts 4");
    chain_expect(SENT, "0");
    chain_expect(NOTES, "0");
}

/* `payload` with i, of 1 to 20, in one transaction: they are claimed, and may be committed, together. */
static void send_twenty(const char *payload)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT count(*) FROM cicada.enqueue_many('q', ARRAY(SELECT %s"
                                       " FROM generate_series(1, 20) i))",
                                       payload);

    session_exec(chain.events->a, sql);
}

#define BURIED "SELECT count(*), min(reason), max(reason) FROM cicada.dead_letters('q')"

static void test_one_of_several_cannot_be_sent(void **state)
{
    (void)state;
    chain_start(ANSWER, OUTPUT TRIGGER);
    send_twenty(
        "jsonb_build_object('text', i, 'answer', CASE WHEN i % 5 = 0 THEN '1e131073' ELSE i::text END)");
    chain_becomes(BURIED, "4 attempts attempts");
    chain_becomes(DONE, "0");
    chain_expect(
        "SELECT count(DISTINCT payload), sum(payload::int), min(depth), max(depth) FROM cicada.event",
        "16 160 1 1");
}

static void test_one_of_several_readers_writes(void **state)
{
    (void)state;
    chain_start(READER, OUTPUT TRIGGER);
    send_twenty("CASE WHEN i % 5 = 0 THEN jsonb_build_object('sql', 'CREATE TABLE event_test.t ()')"
                " ELSE jsonb_build_object('rows', i) END");
    chain_becomes(BURIED, "4 attempts attempts");
    chain_becomes(DONE, "0");
    chain_expect("SELECT count(*), sum((payload::jsonb ->> 'count')::int) FROM cicada.event", "16 160");
}

/* One answer, one event. */
static void test_answer_to_a_batch_is_one_event(void **state)
{
    (void)state;
    chain_start(
        "\"sql\":\"SELECT count(*) AS n FROM jsonb_array_elements(:_events)\",\"result\":\"Row\"", OUTPUT
        ",\"triggers\":[{\"name\":\"work\",\"queue\":{\"name\":\"q\"},\"delivery\":{\"batchSize\":7}}]");
    send_twenty("jsonb_build_object('n', i)");
    chain_becomes(DONE, "0");
    chain_expect("SELECT sum((payload::jsonb ->> 'n')::int), count(*) < 20, max(depth) FROM cicada.event",
                 "20 t 1");
}

/* ---- chains ---- */

static void test_request_is_the_begin_of_a_chain(void **state)
{
    (void)state;
    chain_start(ANSWER, OUTPUT);
    chain_ask("POST", "/", "traceparent: " PARENT "\r\n", "{\"answer\":\"1\"}", 200, "1");
    chain_expect("SELECT depth, substr(traceparent, 4, 32) FROM cicada.event", "1 " TRACE);
    chain_post(BODY, 200, "1");
    chain_expect("SELECT depth, length(traceparent) FROM cicada.event ORDER BY id DESC LIMIT 1", "1 55");
}

#define EVENT(more) "ce-specversion: 1.0\r\nce-id: 7\r\nce-source: /s\r\nce-type: t\r\n" more

static void test_event_by_http_goes_on_with_its_chain(void **state)
{
    (void)state;
    chain_start(ANSWER, OUTPUT);
    chain_ask("POST", "/", EVENT("ce-cicadadepth: 3\r\nce-traceparent: " PARENT "\r\n"), BODY, 200, "1");
    chain_expect("SELECT depth, traceparent FROM cicada.event", "4 " PARENT);
    chain_ask("POST", "/", EVENT("ce-cicadadepth: 16\r\n"), BODY, 200, "1");
    chain_expect("SELECT depth, reason FROM cicada.dead_letter", "17 depth");
    chain_ask("POST", "/", EVENT("ce-cicadadepth: 1000\r\nce-traceparent: x\r\n"), BODY, 200, "1");
    chain_expect("SELECT max(depth), max(length(traceparent)) FROM cicada.dead_letter", "1001 55");
    chain_ask("POST", "/", EVENT("ce-cicadadepth: 1001\r\n"), BODY, 400, "invalid_event");
    chain_ask("POST", "/", EVENT("ce-cicadadepth: -1\r\n"), BODY, 400, "invalid_event");
    chain_ask("POST", "/", EVENT("ce-cicadadepth: 1x\r\n"), BODY, 400, "invalid_event");
    chain_expect(SENT, "1");
}

/* What each transaction has to set costs each of them. */
static void test_other_functions_set_nothing(void **state)
{
    static const char nothing[] = "{\"depth\":null,\"traceparent\":null}";

    (void)state;
    chain_start(SETTINGS, "");
    chain_post("{}", 200, nothing);
    chain_ask("POST", "/", EVENT("ce-traceparent: " PARENT "\r\n"), "{}", 200, nothing);
    chain_ask("GET", "/", "", NULL, 200, nothing);
    chain_ask("POST", "/", EVENT("ce-cicadadepth: 2\r\n"), "{}", 200,
              "{\"depth\":\"2\",\"traceparent\":\"00-");
    runtime_process_release(&chain.process);
    chain_start(SETTINGS, OUTPUT);
    chain_ask("GET", "/", "", NULL, 200, nothing);
    chain_post("{}", 200, "{\"depth\":\"0\",\"traceparent\":\"00-");
}

static void test_loop_ends(void **state)
{
    (void)state;
    chain_start("\"sql\":\"WITH n AS (INSERT INTO event_test.notes (text) VALUES (:hop) RETURNING text::int)"
                " SELECT text + 1 AS hop FROM n\",\"result\":\"Row\"",
                ",\"output\":{\"queue\":\"q\"}" TRIGGER);
    chain_ask("POST", "/", "traceparent: " PARENT "\r\n", "{\"hop\":0}", 200, "{\"hop\":1}");
    chain_becomes("SELECT depth, reason, payload, substr(traceparent, 4, 32) FROM cicada.dead_letter",
                  "17 depth {\"hop\": 17} " TRACE);
    chain_expect(DONE, "0");
    chain_expect("SELECT count(*), count(DISTINCT text), max(text::int) FROM event_test.notes", "17 17 16");
}

/* Some of whose runs fall victim to others, as it were, and all to each other where the isolation sees to that: each event has its effects
 * once in each of the two. */
static void does_each_once(const char *database, const char *url)
{
    chain_start_at(&chain.second, "second",
                   "\"sql\":\"INSERT INTO event_test.notes (text, request_id) VALUES (:n, "
                   "'second')\",\"result\":\"None\"",
                   ",\"triggers\":[{\"name\":\"work\",\"queue\":{\"name\":\"other\"}}]", database, url);
    chain_start_at(&chain.process, "function",
                   "\"sql\":\"UPDATE event_test.total SET n = n + :n::int;"
                   "INSERT INTO event_test.notes (text, request_id) VALUES (:n, 'first');"
                   "DO $$ BEGIN IF random() < 0.3 THEN RAISE serialization_failure; END IF; END $$;"
                   "SELECT :n::int * 2 AS n\",\"result\":\"Row\"",
                   OUTPUT TRIGGER, database, url);
    session_exec(chain.events->a, "SELECT count(*) FROM cicada.enqueue_many('q', ARRAY(SELECT"
                                  " jsonb_build_object('n', i) FROM generate_series(1, 100) i))");
    chain_becomes("SELECT (SELECT count(*) FROM cicada.event), (SELECT count(*) FROM cicada.dead_letter)",
                  "0 0");
    chain_expect("SELECT request_id, count(*), count(DISTINCT text), sum(text::int) FROM event_test.notes"
                 " GROUP BY 1 ORDER BY 1",
                 "first 100 100 5050; second 100 100 10100");
    chain_expect("SELECT n FROM event_test.total", "5050");
}

static void test_chain_of_two_does_each_once(void **state)
{
    (void)state;
    does_each_once("", chain.events->guest_url);
}

static void test_chain_of_two_in_repeatable_read(void **state)
{
    (void)state;
    does_each_once(",\"isolation\":\"RepeatableRead\"", chain.events->guest_url);
}

static void test_chain_of_two_in_serializable(void **state)
{
    (void)state;
    does_each_once(",\"isolation\":\"Serializable\"", chain.events->guest_url);
}

/* With fewer sessions than connections, so that each transaction may meet another one. */
static void test_chain_of_two_behind_a_pooler(void **state)
{
    CLEANUP_FREE char *url = NULL;
    struct pgbouncer pgbouncer;

    (void)state;
    pgbouncer_start(&pgbouncer, pgtest_port(), 3);
    url = test_database_url(NULL, pgbouncer.port, chain.events->database);
    does_each_once(",\"pooler\":\"Transaction\"", url);
    runtime_process_release(&chain.process);
    runtime_process_release(&chain.second);
    pgbouncer_stop(&pgbouncer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_reader_sends_and_writes_nothing, chain_clear),
        cmocka_unit_test_teardown(test_reader_of_events_without_output, chain_clear),
        cmocka_unit_test_teardown(test_answer_to_an_event_is_sent_with_its_settlement, chain_clear),
        cmocka_unit_test_teardown(test_event_whose_answer_cannot_be_sent_is_a_dead_letter, chain_clear),
        cmocka_unit_test_teardown(test_one_of_several_cannot_be_sent, chain_clear),
        cmocka_unit_test_teardown(test_one_of_several_readers_writes, chain_clear),
        cmocka_unit_test_teardown(test_answer_to_a_batch_is_one_event, chain_clear),
        cmocka_unit_test_teardown(test_request_is_the_begin_of_a_chain, chain_clear),
        cmocka_unit_test_teardown(test_event_by_http_goes_on_with_its_chain, chain_clear),
        cmocka_unit_test_teardown(test_other_functions_set_nothing, chain_clear),
        cmocka_unit_test_teardown(test_loop_ends, chain_clear),
        cmocka_unit_test_teardown(test_chain_of_two_does_each_once, chain_clear),
        cmocka_unit_test_teardown(test_chain_of_two_in_repeatable_read, chain_clear),
        cmocka_unit_test_teardown(test_chain_of_two_in_serializable, chain_clear),
        cmocka_unit_test_teardown(test_chain_of_two_behind_a_pooler, chain_clear),
    };
    return cmocka_run_group_tests(tests, chain_setup, chain_teardown);
}
