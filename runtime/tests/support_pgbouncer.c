#include "runtime/tests/support_pgbouncer.h"

#include <fcntl.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <postgresql/libpq-fe.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_runtime.h"
#include "runtime/tests/support_shell.h"

static void write_file(const struct pgbouncer *pgbouncer, const char *name, const char *text)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", pgbouncer->directory, name);
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, 0644), 0);
}

static void write_settings(const struct pgbouncer *pgbouncer, int server_port, int sessions)
{
    CLEANUP_FREE char *settings = xasprintf("[databases]\n"
                                            "* = host=127.0.0.1 port=%d\n"
                                            "[pgbouncer]\n"
                                            "listen_addr = 127.0.0.1\n"
                                            "listen_port = %d\n"
                                            "unix_socket_dir =\n"
                                            "auth_type = trust\n"
                                            "auth_file = %s/users\n"
                                            "pool_mode = transaction\n"
                                            "default_pool_size = %d\n"
                                            "max_client_conn = 200\n",
                                            server_port, pgbouncer->port, pgbouncer->directory, sessions);

    write_file(pgbouncer, "settings", settings);
    write_file(pgbouncer, "users", "\"postgres\" \"\"\n");
}

static bool accepts(void *arg)
{
    struct pgbouncer *pgbouncer = arg;
    PGconn *connection = PQconnectdb(pgbouncer->url);
    bool ok = PQstatus(connection) == CONNECTION_OK;

    PQfinish(connection);
    return ok;
}

/* As root it would not run. */
static void become_postgres(void)
{
    const struct passwd *user = getpwnam("postgres");

    if (geteuid() == 0 && (user == NULL || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0))
        _exit(126);
}

void pgbouncer_start(struct pgbouncer *pgbouncer, int server_port, int sessions)
{
    CLEANUP_FREE char *settings = NULL;
    CLEANUP_FREE char *log = NULL;

    memset(pgbouncer, 0, sizeof(*pgbouncer));
    snprintf(pgbouncer->directory, sizeof(pgbouncer->directory), "/tmp/cicada-pgbouncer.XXXXXX");
    assert_non_null(mkdtemp(pgbouncer->directory));
    assert_int_equal(chmod(pgbouncer->directory, 0755), 0);
    pgbouncer->port = free_port();
    snprintf(pgbouncer->url, sizeof(pgbouncer->url), "postgresql://postgres@127.0.0.1:%d/postgres",
             pgbouncer->port);
    write_settings(pgbouncer, server_port, sessions);
    settings = xasprintf("%s/settings", pgbouncer->directory);
    log = xasprintf("%s/log", pgbouncer->directory);
    pgbouncer->pid = fork();
    assert_true(pgbouncer->pid >= 0);
    if (pgbouncer->pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT, 0644);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        become_postgres();
        child_ends_with_test();
        execlp("pgbouncer", "pgbouncer", settings, (char *)NULL);
        _exit(127);
    }
    wait_until(accepts, pgbouncer, "PgBouncer accepts");
}

void pgbouncer_stop(struct pgbouncer *pgbouncer)
{
    static const char *const names[] = {"settings", "users", "log"};

    kill(pgbouncer->pid, SIGKILL);
    waitpid(pgbouncer->pid, NULL, 0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP_FREE char *path = xasprintf("%s/%s", pgbouncer->directory, names[i]);
        unlink(path);
    }
    rmdir(pgbouncer->directory);
}
