/* support_chain.h - functions with an output: a database with queues, the real runtime, and what is asked and expected.
 *
 * One of them in a process. A failure fails the test.
 */
#ifndef CICADA_TESTS_SUPPORT_CHAIN_H
#define CICADA_TESTS_SUPPORT_CHAIN_H

#include "runtime/tests/support_events.h"
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

struct chain {
    struct event_fixture *events;
    struct runtime_process process, second;
};
extern struct chain chain;

/* For cmocka: the database, of a group of tests; then what a test has left is cleared. */
int chain_setup(void **state);
int chain_teardown(void **state);
int chain_clear(void **state);

/* what: the function, more: further members of its spec, each with a comma before it. */
void chain_start(const char *what, const char *more);
void chain_start_one(struct runtime_process *one, const char *name, const char *what, const char *more);
/* database: further members of that, each with a comma before it; url: its. */
void chain_start_at(struct runtime_process *one, const char *name, const char *what, const char *more,
                    const char *database, const char *url);

void chain_ask(const char *method, const char *target, const char *headers, const char *body, int status,
               const char *text);
void chain_post(const char *body, int status, const char *text);
/* To queue q. */
void chain_send(const char *payload);

void chain_expect(const char *sql, const char *answer);
/* Within 30 s. */
void chain_becomes(const char *sql, const char *answer);

#endif
