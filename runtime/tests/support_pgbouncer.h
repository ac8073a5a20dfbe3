/* support_pgbouncer.h - a real PgBouncer in transaction mode in front of the test's server, with few sessions for many clients.
 *
 * It refuses startup parameters that it does not know, as it does by default. What goes wrong fails the test (cmocka).
 */
#ifndef CICADA_TESTS_SUPPORT_PGBOUNCER_H
#define CICADA_TESTS_SUPPORT_PGBOUNCER_H

#include <sys/types.h>

struct pgbouncer {
    pid_t pid;
    int port;
    char directory[64];
    char url[128];
};

/* server_port: of the server behind it; sessions: most of them. */
void pgbouncer_start(struct pgbouncer *pgbouncer, int server_port, int sessions);
void pgbouncer_stop(struct pgbouncer *pgbouncer);

#endif
