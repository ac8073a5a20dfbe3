#include "runtime/tests/support_pg_cluster.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <postgresql/libpq-fe.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_runtime.h"

/* As .ci/with-postgres does it: the newest version, as user postgres if we are root. */
#define PRELUDE                                                                                              \
    "set -eu; cd \"$dir\"; "                                                                                 \
    "pgbin=${PGBIN:-$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -1)}; "    \
    "as_pg=; if [ $(id -u) = 0 ]; then "                                                                     \
    "as_pg='setpriv --reuid=postgres --regid=postgres --clear-groups --'; fi; "
#define PG_CTL "$as_pg $pgbin/pg_ctl -D $dir/data -s "

static void pause_ms(int ms)
{
    poll(NULL, 0, ms);
}

static void run(const struct pg_cluster *cluster, const char *script)
{
    CLEANUP_FREE char *command =
        xasprintf("dir=%s; port=%d; " PRELUDE "%s", cluster->directory, cluster->port, script);

    if (system(command) != 0) // NOLINT(cert-env33-c): a test's own text
        fail_msg("failed: %s", command);
}

void pg_cluster_start(struct pg_cluster *cluster)
{
    memset(cluster, 0, sizeof(*cluster));
    snprintf(cluster->directory, sizeof(cluster->directory), "/tmp/cicada-cluster.XXXXXX");
    assert_non_null(mkdtemp(cluster->directory));
    cluster->port = free_port();
    snprintf(cluster->url, sizeof(cluster->url), "postgresql://postgres@127.0.0.1:%d/postgres",
             cluster->port);
    run(cluster,
        "if [ $(id -u) = 0 ]; then chown postgres $dir; fi; "
        "$as_pg $pgbin/initdb -D $dir/data -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync "
        ">/dev/null; "
        "printf \"listen_addresses = '127.0.0.1'\\nport = $port\\nunix_socket_directories = '$dir'\\n"
        "fsync = off\\n\" >>$dir/data/postgresql.conf; " PG_CTL "-w -t 30 -l $dir/log start >/dev/null");
}

void pg_cluster_remove(struct pg_cluster *cluster)
{
    if (cluster->directory[0] == '\0')
        return;
    run(cluster, PG_CTL "-m immediate stop >/dev/null 2>&1 || true; rm -rf $dir");
}

static pid_t postmaster_of(const struct pg_cluster *cluster)
{
    CLEANUP_FREE char *path = xasprintf("%s/data/postmaster.pid", cluster->directory);
    CLEANUP_FREE char *text = runtime_process_read(path);
    int64_t pid = 0;

    assert_true(parse_int64_n(text, strcspn(text, "\n"), 2, INT32_MAX, &pid));
    return (pid_t)pid;
}

/* Or a zombie, as long as nobody reaps it. */
static bool is_dead(void *arg)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/stat", *(const pid_t *)arg);
    CLEANUP_FREE char *text = runtime_process_read(path);

    return text[0] == '\0' || strstr(text, ") Z ") != NULL;
}

static void send_signal(pid_t pid, int number)
{
    assert_int_equal(kill(pid, number), 0);
    if (number == SIGKILL)
        wait_until(is_dead, &pid, "a process of the server is dead");
}

static void signal_children(pid_t postmaster, int number)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/task/%d/children", (int)postmaster, (int)postmaster);
    CLEANUP_FREE char *children = runtime_process_read(path);

    for (char *at = children, *end; *at != '\0'; at = end + strspn(end, " ")) {
        pid_t child = (pid_t)strtol(at, &end, 10);
        if (end == at)
            break;
        send_signal(child, number);
    }
}

/* The postmaster is held first: it neither starts nor reaps any then, and the list of its children is whole. */
static void signal_all(const struct pg_cluster *cluster, int number)
{
    pid_t postmaster = postmaster_of(cluster);

    assert_int_equal(kill(postmaster, SIGSTOP), 0);
    signal_children(postmaster, number);
    send_signal(postmaster, number);
}

void pg_cluster_kill(struct pg_cluster *cluster)
{
    signal_all(cluster, SIGKILL);
}

void pg_cluster_recover(struct pg_cluster *cluster)
{
    /* A killed postmaster that nobody reaped looks as if it still ran. */
    run(cluster,
        "rm -f $dir/data/postmaster.pid $dir/.s.PGSQL.*; " PG_CTL "-w -t 30 -l $dir/log start >/dev/null");
}

void pg_cluster_restart(struct pg_cluster *cluster)
{
    run(cluster, PG_CTL "-w -t 30 -m fast -l $dir/log restart >/dev/null");
}

void pg_cluster_pause(struct pg_cluster *cluster)
{
    signal_all(cluster, SIGSTOP);
}

void pg_cluster_resume(struct pg_cluster *cluster)
{
    signal_all(cluster, SIGCONT);
}

static PGconn *connect_to(const struct pg_cluster *cluster)
{
    PGconn *conn = PQconnectdb(cluster->url);

    if (PQstatus(conn) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(conn));
    return conn;
}

void pg_cluster_set(struct pg_cluster *cluster, const char *name, const char *value)
{
    CLEANUP_FREE char *set = xasprintf("ALTER SYSTEM SET %s = '%s'", name, value);
    PGconn *conn = connect_to(cluster);

    PQclear(PQexec(conn, set));
    PQclear(PQexec(conn, "SELECT pg_reload_conf()"));
    PQfinish(conn);
    pause_ms(200); /* its processes look at the signal when they wake */
}

static bool accepts_again(void *arg)
{
    const struct pg_cluster *cluster = arg;
    return PQping(cluster->url) == PQPING_OK;
}

void pg_cluster_crash_backend(struct pg_cluster *cluster)
{
    PGconn *conn = connect_to(cluster);

    assert_int_equal(kill(PQbackendPID(conn), SIGKILL), 0);
    PQclear(PQexec(conn, "SELECT")); /* its end is noticed */
    PQfinish(conn);
    pause_ms(200);
    wait_until(accepts_again, cluster, "the server accepts again");
}
