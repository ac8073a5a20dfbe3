#include "runtime/tests/support_pg_cluster.h"

#include <errno.h>
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

/* The postmaster first: it starts no further ones then. */
static void signal_all(const struct pg_cluster *cluster, int number)
{
    pid_t postmaster = postmaster_of(cluster);
    CLEANUP_FREE char *path = xasprintf("/proc/%d/task/%d/children", (int)postmaster, (int)postmaster);
    CLEANUP_FREE char *children = NULL;

    if (number != SIGKILL)
        assert_int_equal(kill(postmaster, number), 0);
    children = runtime_process_read(path); /* of a killed one there would be none to read */
    if (number == SIGKILL)
        assert_int_equal(kill(postmaster, number), 0);
    for (char *at = children, *end; *at != '\0'; at = end + strspn(end, " ")) {
        pid_t child = (pid_t)strtol(at, &end, 10);
        if (end == at)
            break;
        if (kill(child, number) != 0)
            assert_int_equal(errno, ESRCH);
    }
}

void pg_cluster_kill(struct pg_cluster *cluster)
{
    signal_all(cluster, SIGKILL);
}

void pg_cluster_recover(struct pg_cluster *cluster)
{
    /* The processes that were killed may need a moment to let go of the shared memory. */
    run(cluster, "for i in 1 2 3 4 5; do if " PG_CTL
                 "-w -t 30 -l $dir/log start >/dev/null; then exit 0; fi; sleep 0.2; done; exit 1");
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
