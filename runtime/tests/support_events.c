#include "runtime/tests/support_events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/schema/schema.h"
#include "runtime/tests/support_database.h"
#include "runtime/tests/support_postgres.h"

#define WAIT_ROUNDS 1000 /* of 5 ms */

static PGconn *open_session(const char *url)
{
    PGconn *session = PQconnectdb(url);

    if (PQstatus(session) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(session));
    session_exec(session, "SET client_min_messages = warning");
    return session;
}

int events_setup(void **state)
{
    struct event_fixture *fixture = xcalloc(1, sizeof(*fixture));

    /* Tests run beside each other: each program has its own. */
    snprintf(fixture->database, sizeof(fixture->database), "cicada_test_events_%d", (int)getpid());
    pgtest_exec("DO $$ BEGIN CREATE ROLE " EVENTS_OWNER " LOGIN;"
                " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;"
                "DO $$ BEGIN CREATE ROLE " EVENTS_GUEST " LOGIN;"
                " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$");
    test_database_create(fixture->database, EVENTS_OWNER);
    fixture->owner_url = test_database_url(EVENTS_OWNER, 0, fixture->database);
    fixture->guest_url = test_database_url(EVENTS_GUEST, 0, fixture->database);
    fixture->owner = open_session(fixture->owner_url);
    session_exec(fixture->owner, schema_sql);
    session_exec(fixture->owner, "SELECT cicada.grant_to('" EVENTS_GUEST "')");
    fixture->a = open_session(fixture->guest_url);
    fixture->b = open_session(fixture->guest_url);
    fixture->c = open_session(fixture->guest_url);
    session_expect(fixture->a, "SELECT cicada.create_queue('q'), cicada.create_queue('other')", "1 2");
    *state = fixture;
    return 0;
}

int events_teardown(void **state)
{
    struct event_fixture *fixture = *state;

    PQfinish(fixture->owner);
    PQfinish(fixture->a);
    PQfinish(fixture->b);
    PQfinish(fixture->c);
    test_database_drop(fixture->database);
    free(fixture->owner_url);
    free(fixture->guest_url);
    free(fixture);
    return 0;
}

static char *answer_of(PGresult *result)
{
    struct strbuf text;

    strbuf_init(&text, 1 << 22);
    for (int row = 0; row < PQntuples(result); row++)
        for (int column = 0; column < PQnfields(result); column++) {
            strbuf_appendf(&text, "%s%s",
                           column > 0 ? " "
                           : row > 0  ? "; "
                                      : "",
                           PQgetisnull(result, row, column) ? "-" : PQgetvalue(result, row, column));
        }
    PQclear(result);
    return strbuf_detach(&text, NULL);
}

char *session_answer(PGconn *session, const char *sql)
{
    PGresult *result = PQexec(session, sql);

    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%.200s: %s", sql, PQerrorMessage(session));
    return answer_of(result);
}

void session_exec(PGconn *session, const char *sql)
{
    free(session_answer(session, sql));
}

void session_expect(PGconn *session, const char *sql, const char *answer)
{
    CLEANUP_FREE char *found = session_answer(session, sql);

    if (strcmp(found, answer) != 0)
        fail_msg("%s: expected <%s>, found <%s>", sql, answer, found);
}

int64_t session_int(PGconn *session, const char *sql)
{
    CLEANUP_FREE char *found = session_answer(session, sql);
    int64_t value;

    if (!parse_int64(found, INT64_MIN, INT64_MAX, &value))
        fail_msg("%s: <%s>", sql, found);
    return value;
}

void session_fails(PGconn *session, const char *sql, const char *sqlstate, const char *text)
{
    PGresult *result = PQexec(session, sql);
    const char *found = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (found == NULL || strcmp(found, sqlstate) != 0 ||
        (text != NULL && strstr(PQresultErrorMessage(result), text) == NULL))
        fail_msg("%s: expected %s %s, found %s", sql, sqlstate, text ? text : "",
                 PQresultErrorMessage(result));
    PQclear(result);
}

void session_block(struct event_fixture *fixture, PGconn *session, const char *sql)
{
    CLEANUP_FREE char *waits =
        xasprintf("SELECT count(*) FROM pg_locks WHERE pid = %d AND NOT granted", PQbackendPID(session));

    assert_int_equal(PQsendQuery(session, sql), 1);
    for (int i = 0; session_int(fixture->owner, waits) == 0; i++) {
        if (i == WAIT_ROUNDS)
            fail_msg("%s: waits for nobody", sql);
        pgtest_sleep_ms(5);
    }
}

char *session_finish(PGconn *session)
{
    PGresult *result = PQgetResult(session);
    PGresult *more;

    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s", PQerrorMessage(session));
    while ((more = PQgetResult(session)) != NULL)
        PQclear(more);
    return answer_of(result);
}

void session_finish_expect(PGconn *session, const char *answer)
{
    CLEANUP_FREE char *found = session_finish(session);

    assert_string_equal(found, answer);
}

int64_t session_pages(PGconn *session, const char *sql)
{
    static const char label[] = "\"Shared Hit Blocks\": ";
    CLEANUP_FREE char *explain = xasprintf("EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT json) %s", sql);
    CLEANUP_FREE char *plan = session_answer(session, explain);
    const char *hit = strstr(plan, label);
    int64_t pages;

    assert_non_null(hit);
    hit += strlen(label);
    assert_true(parse_int64_n(hit, strspn(hit, "0123456789"), 0, INT64_MAX, &pages));
    return pages;
}
