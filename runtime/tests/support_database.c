#include "runtime/tests/support_database.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <postgresql/libpq-fe.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_postgres.h"

char *test_database_url(const char *role, int port, const char *database)
{
    return xasprintf("postgresql://%s@127.0.0.1:%d/%s", role ? role : "postgres",
                     port > 0 ? port : pgtest_port(), database);
}

void test_database_drop(const char *name)
{
    CLEANUP_FREE char *sql = xasprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name);

    pgtest_exec(sql);
}

void test_database_create(const char *name, const char *owner)
{
    CLEANUP_FREE char *sql = xasprintf("CREATE DATABASE %s OWNER %s", name, owner ? owner : "postgres");

    test_database_drop(name);
    pgtest_exec(sql);
}

void test_role_drop(const char *name)
{
    CLEANUP_FREE char *sql = xasprintf("DROP ROLE IF EXISTS %s", name);

    pgtest_exec(sql);
}

void test_role_create(const char *name)
{
    CLEANUP_FREE char *sql = xasprintf("CREATE ROLE %s LOGIN", name);

    test_role_drop(name);
    pgtest_exec(sql);
}

char *test_database_value(const char *url, const char *sql)
{
    PGconn *connection = PQconnectdb(url);
    PGresult *result = PQexec(connection, sql);
    char *value;

    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    value = xstrdup(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(connection);
    return value;
}

void test_database_exec(const char *url, const char *sql)
{
    free(test_database_value(url, sql));
}

void test_database_expect(const char *url, const char *sql, const char *value)
{
    CLEANUP_FREE char *found = test_database_value(url, sql);

    if (strcmp(found, value) != 0)
        fail_msg("%s: expected <%s>, found <%s>", sql, value, found);
}
