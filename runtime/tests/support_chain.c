#include "runtime/tests/support_chain.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_postgres.h"
#include "runtime/tests/support_test.h"

struct chain chain;

void chain_start_at(struct runtime_process *one, const char *name, const char *what, const char *more,
                    const char *database, const char *url)
{
    CLEANUP_FREE char *spec =
        xasprintf("{%s,\"timeoutSeconds\":5,\"database\":{\"poolSize\":2%s}%s}", what, database, more);
    CLEANUP_FREE char *env = xasprintf("CICADA_FUNCTION_NAME=%s", name);
    const struct runtime_process_settings settings = {
        .functions = "test-functions", .spec = spec, .database_url = url, .env = {env}};

    runtime_process_start(one, &settings, /* serving= */ true);
}

void chain_start_one(struct runtime_process *one, const char *name, const char *what, const char *more)
{
    chain_start_at(one, name, what, more, "", chain.events->guest_url);
}

void chain_start(const char *what, const char *more)
{
    chain_start_one(&chain.process, "function", what, more);
}

int chain_setup(void **state)
{
    void *fixture;

    (void)state;
    assert_int_equal(events_setup(&fixture), 0);
    chain.events = fixture;
    session_exec(chain.events->owner,
                 "CREATE SCHEMA event_test; GRANT USAGE ON SCHEMA event_test TO " EVENTS_GUEST ";"
                 "CREATE TABLE event_test.notes (id bigserial, text text, request_id text);"
                 "CREATE TABLE event_test.total (n bigint); INSERT INTO event_test.total VALUES (0);"
                 "GRANT ALL ON event_test.total TO " EVENTS_GUEST ";"
                 "GRANT ALL ON event_test.notes TO " EVENTS_GUEST ";"
                 "GRANT ALL ON SEQUENCE event_test.notes_id_seq TO " EVENTS_GUEST);
    return 0;
}

int chain_teardown(void **state)
{
    void *fixture = chain.events;

    (void)state;
    return events_teardown(&fixture);
}

int chain_clear(void **state)
{
    (void)state;
    runtime_process_release(&chain.process);
    runtime_process_release(&chain.second);
    chain.process = chain.second = (struct runtime_process){0};
    session_exec(chain.events->owner, "TRUNCATE event_test.notes; UPDATE event_test.total SET n = 0;"
                                      "DELETE FROM cicada.dead_letter;"
                                      "SELECT cicada.purge('q'), cicada.purge('other')");
    return 0;
}

/* ---- what is asked and expected ---- */

void chain_ask(const char *method, const char *target, const char *headers, const char *body, int status,
               const char *text)
{
    struct http_answer answer = http_ask(chain.process.port, method, target, headers, body);

    if (answer.status != status || !http_answer_has(&answer, text))
        fail_msg("%s: expected %d with %s, got: %s", body, status, text, answer.text);
    http_answer_release(&answer);
}

void chain_post(const char *body, int status, const char *text)
{
    chain_ask("POST", "/", "", body, status, text);
}

void chain_expect(const char *sql, const char *answer)
{
    session_expect(chain.events->owner, sql, answer);
}

struct wish {
    const char *sql, *answer;
};

static bool is_fulfilled(void *arg)
{
    const struct wish *wish = arg;
    CLEANUP_FREE char *answer = session_answer(chain.events->owner, wish->sql);

    return strcmp(answer, wish->answer) == 0;
}

void chain_becomes(const char *sql, const char *answer)
{
    struct wish wish = {sql, answer};

    for (int i = 0; i < 300 && !is_fulfilled(&wish); i++)
        pgtest_sleep_ms(100);
    if (!is_fulfilled(&wish)) {
        CLEANUP_FREE char *log = runtime_process_read(chain.process.log_path);
        print_error("%s", log);
    }
    chain_expect(sql, answer);
}

void chain_send(const char *payload)
{
    CLEANUP_FREE char *sql = xasprintf("SELECT cicada.enqueue('q', $payload$%s$payload$)", payload);

    session_exec(chain.events->a, sql);
}
