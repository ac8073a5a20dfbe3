/* support_postgres.h - the real server for tests: an administrator's connection beside the pool under test.
 *
 * Every test program works in a schema of its own name, so that several may run against one server.
 */
#ifndef CICADA_TESTS_SUPPORT_POSTGRES_H
#define CICADA_TESTS_SUPPORT_POSTGRES_H

#include <stdint.h>

#include "runtime/postgres/postgres.h"

const char *pgtest_url(void); /* TEST_DATABASE_URL; without it the test fails */
int pgtest_port(void);

/* As the administrator; a failure fails the test. */
void pgtest_exec(const char *sql);
int64_t pgtest_int(const char *sql);                     /* first column of the first row */
void pgtest_wait_int(const char *sql, int64_t expected); /* until it is so, at most 5 s */

/* A pool of `size` at that URL (NULL: pgtest_url()), started. */
struct pg_pool *pgtest_pool(const char *url, int size);
struct pg_pool *pgtest_pool_with(const char *url, int size, enum pg_isolation isolation,
                                 int64_t connect_timeout_ms);

int64_t pgtest_deadline(int64_t from_now_ms);
void pgtest_sleep_ms(int64_t ms);

/* Runs a statement that must succeed; the result lives as long as the transaction. */
struct pg_result *pgtest_query(struct pg_transaction *tx, const char *sql);
const char *pgtest_value(struct pg_transaction *tx, const char *sql); /* the one value */
/* Runs a statement that must fail in this way. */
struct pg_error pgtest_query_fails(struct pg_transaction *tx, const char *sql, enum pg_failure failure);
void pgtest_commit(struct pg_transaction *tx);
struct pg_error pgtest_commit_fails(struct pg_transaction *tx, enum pg_failure failure);

/* Waits until the pool's figures say so, at most 5 s. */
void pgtest_wait_for(struct pg_pool *pool, int open, int idle);
/* Until the pool's outage is this one (NULL: none), at most 5 s. */
void pgtest_wait_outage(struct pg_pool *pool, const char *expected);
/* Ends every backend of that application name but the administrator's, and waits until they are gone. */
void pgtest_kill(const char *application_name);

#endif
