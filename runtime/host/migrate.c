#include "runtime/host/migrate.h"

#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/host/spec.h"
#include "runtime/schema/schema.h"

#define CONNECT_TIMEOUT_MS 5000
#define MIGRATE_TIMEOUT_MS 60000

static int make_pool(const struct runtime_options *options, struct pg_pool **ret_pool, struct err *err)
{
    const struct spec_source source = {options->database_url, "DATABASE_URL", options->database_url_file,
                                       "DATABASE_URL_FILE"};
    CLEANUP_FREE char *url = NULL;
    struct pg_pool_settings settings = {
        .size = 1,
        .isolation = PG_READ_COMMITTED,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .application_name = "cicada migrate",
    };

    if (spec_source_read(&source, SPEC_URL_MAX_BYTES, &url, err) != 0)
        return -1;
    settings.url = url;
    if (pg_pool_new(&settings, ret_pool, err) != 0)
        return err_wrap(err, "DATABASE_URL");
    pg_pool_start(*ret_pool);
    return 0;
}

static int fail(const struct pg_error *error)
{
    fprintf(stderr, "cicada-runtime: %s%s%s\n", error->message, error->sqlstate[0] ? ", SQLSTATE " : "",
            error->sqlstate);
    return MIGRATE_EXIT_REFUSED;
}

static int migrate(const struct runtime_options *options, struct pg_pool *pool)
{
    int64_t deadline_ms = clock_monotonic_ms() + MIGRATE_TIMEOUT_MS;
    struct pg_error error;
    int from, to;

    if (schema_migrate(pool, deadline_ms, &from, &to, &error) != 0)
        return fail(&error);
    if (from == to)
        printf("schema cicada is at version %d: nothing to do\n", to);
    else if (from == 0)
        printf("schema cicada was installed: version %d\n", to);
    else
        printf("schema cicada was upgraded from version %d to %d\n", from, to);
    if (options->grant_to == NULL || options->grant_to[0] == '\0')
        return MIGRATE_EXIT_DONE;
    if (schema_grant(pool, options->grant_to, deadline_ms, &error) != 0)
        return fail(&error);
    printf("role %s may use it\n", options->grant_to);
    return MIGRATE_EXIT_DONE;
}

int migrate_run(const struct runtime_options *options)
{
    struct pg_pool *pool;
    struct err err = ERR_INIT;
    int code;

    if (make_pool(options, &pool, &err) != 0) {
        fprintf(stderr, "cicada-runtime: %s\n", err.msg);
        return MIGRATE_EXIT_USAGE;
    }
    code = migrate(options, pool);
    pg_pool_free(pool);
    return code;
}
