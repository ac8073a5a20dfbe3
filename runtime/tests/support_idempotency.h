/* support_idempotency.h - the real runtime with http.idempotency, on a database of its own, behind a proxy that breaks connections.
 *
 * A failure fails the test.
 */
#ifndef CICADA_TESTS_SUPPORT_IDEMPOTENCY_H
#define CICADA_TESTS_SUPPORT_IDEMPOTENCY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/tests/support_pg_proxy.h"
#include "runtime/tests/support_runtime.h"

#define PROBE  "\"handler\":\"probe.so:probe\""
#define STORED "SELECT count(*) FROM cicada.idempotency WHERE function = 'default/function'"
#define NOTES  "SELECT count(*) FROM runtime_test.notes"

struct keyed_runtime {
    char *url;              /* of the database, as its superuser */
    struct pg_proxy *proxy; /* between the runtime and the database */
    struct runtime_process process;
};

/* For cmocka: *state becomes a struct keyed_runtime. `function`: the members of the spec that say what it does; `mode`:
 * http.idempotency. */
int idempotency_setup(void **state, const char *function, const char *mode, const char *isolation);
int idempotency_teardown(void **state);

/* key NULL: none. */
struct http_answer keyed_ask(struct keyed_runtime *fixture, const char *method, const char *target,
                             const char *key, const char *body);
/* A POST on a thread of its own. */
struct keyed_caller {
    struct keyed_runtime *fixture;
    const char *target;
    char key[32];
    pthread_t thread;
    struct http_answer answer; /* once it was joined */
};
void keyed_call_start(struct keyed_caller *caller);
void keyed_call_join(struct keyed_caller *caller);
/* By POST. */
void keyed_expect(struct keyed_runtime *fixture, const char *target, const char *key, int status,
                  const char *text);
bool is_replay(const struct http_answer *answer);
/* But for what belongs to the single exchange: X-Request-Id, Date, Idempotency-Replayed. */
void expect_same_answer(const struct http_answer *first, const struct http_answer *second);

void database_count(struct keyed_runtime *fixture, const char *sql, int64_t count);
/* Waits until it is so. */
void database_becomes(struct keyed_runtime *fixture, const char *sql, const char *value);

#endif
