/* support_database.h - databases and roles of a test's own, on the test's server, for what is one per database.
 *
 * As the server's superuser; a failure fails the test.
 */
#ifndef CICADA_TESTS_SUPPORT_DATABASE_H
#define CICADA_TESTS_SUPPORT_DATABASE_H

/* TEST_DATABASE_URL with another role (NULL: the superuser), port (0: the server's) and database. The caller frees. */
char *test_database_url(const char *role, int port, const char *database);

/* Makes it anew, owned by `owner` (NULL: the superuser); test_database_drop() also ends who is connected. */
void test_database_create(const char *name, const char *owner);
void test_database_drop(const char *name);
/* A role that may log in, and no more. */
void test_role_create(const char *name);
void test_role_drop(const char *name);

/* Runs SQL at this URL; the first value of the last result, or "". The caller frees it. */
char *test_database_value(const char *url, const char *sql);
void test_database_exec(const char *url, const char *sql);
void test_database_expect(const char *url, const char *sql, const char *value);

#endif
