/* support_pg_cluster.h - a PostgreSQL of a test's own, to be killed, restarted and paused: it is gone afterwards.
 *
 * What goes wrong fails the test (cmocka).
 */
#ifndef CICADA_TESTS_SUPPORT_PG_CLUSTER_H
#define CICADA_TESTS_SUPPORT_PG_CLUSTER_H

struct pg_cluster {
    char directory[64];
    int port;
    char url[96];
};

void pg_cluster_start(struct pg_cluster *cluster);  /* initialises it, and waits until it accepts */
void pg_cluster_remove(struct pg_cluster *cluster); /* also one that is all zero, and was not started */

/* Changes a setting, as the administrator. */
void pg_cluster_set(struct pg_cluster *cluster, const char *name, const char *value);

/* SIGKILL to one backend; waits until the others, whom the server then ends, are gone and it accepts again. */
void pg_cluster_crash_backend(struct pg_cluster *cluster);
void pg_cluster_kill(struct pg_cluster *cluster);    /* SIGKILL to all its processes */
void pg_cluster_recover(struct pg_cluster *cluster); /* starts it again after that, and waits */
void pg_cluster_restart(struct pg_cluster *cluster); /* fast: sessions are ended */
void pg_cluster_pause(struct pg_cluster *cluster);   /* SIGSTOP to all its processes */
void pg_cluster_resume(struct pg_cluster *cluster);

#endif
