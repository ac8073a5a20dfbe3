/* support_events.h - schema `cicada` in a database of a test's own, and sessions to it.
 *
 * Made by its owner, who is no superuser; the sessions are of a role that grant_to() has let in. A failure fails the test.
 */
#ifndef CICADA_TESTS_SUPPORT_EVENTS_H
#define CICADA_TESTS_SUPPORT_EVENTS_H

#include <stdint.h>

#include <postgresql/libpq-fe.h>

#define EVENTS_OWNER "cicada_test_events_owner"
#define EVENTS_GUEST "cicada_test_events_guest"

struct event_fixture {
    char database[40];
    char *owner_url, *guest_url;
    PGconn *owner;
    PGconn *a, *b, *c; /* the guest's */
};

/* For cmocka: *state becomes a struct event_fixture with the queues q (1) and other (2). */
int events_setup(void **state);
int events_teardown(void **state);

/* One statement, or several. What it answers: values with blanks between, a NULL is "-", rows with "; " between. The caller
 * frees it. */
char *session_answer(PGconn *session, const char *sql);
void session_exec(PGconn *session, const char *sql);
void session_expect(PGconn *session, const char *sql, const char *answer);
int64_t session_int(PGconn *session, const char *sql);
/* text NULL: any. */
void session_fails(PGconn *session, const char *sql, const char *sqlstate, const char *text);

/* Sends a statement and waits until it waits for a lock; session_finish() takes its answer. */
void session_block(struct event_fixture *fixture, PGconn *session, const char *sql);
char *session_finish(PGconn *session);
void session_finish_expect(PGconn *session, const char *answer);

/* Pages that a statement looked at, by EXPLAIN: what it costs, whatever else the machine does. */
int64_t session_pages(PGconn *session, const char *sql);

#endif
