/* postgres_server.h - a PostgreSQL of our own: a private cluster in the state folder, started and ended with us.
 *
 * initdb when the folder is new; a Unix socket in the same folder (open to whoever may enter it: root, or the one user) and a free port
 * of loopback (with a password, kept beside it). The role of functions owns the database and is no superuser. PostgreSQL refuses to run
 * as root: then it, and its folder, are those of the user postgres, and where that user can't get to the state folder, the folder is
 * /var/tmp/cicada-postgres-<hash of the state folder's path>.
 *
 * One that ends by itself is explained and started again, with growing delays if it does not last.
 *
 * Threads: the loop's. Starting runs turns of the loop until it is done.
 */
#ifndef CICADA_LOCAL_POSTGRES_SERVER_H
#define CICADA_LOCAL_POSTGRES_SERVER_H

#include <stdbool.h>

#include "operator/gateway/loop.h"
#include "operator/local/console.h"
#include "runtime/base/stop.h"

struct postgres_server;

struct postgres_server_settings {
    struct loop *loop;       /* borrowed, all of them */
    struct console *console; /* what the server says goes there */
    const char *folder;      /* absolute; made if it is not there */
    const char *programs; /* the folder with initdb and postgres; NULL: the newest of Debian's, or PATH's */
    const char *const *init_files; /* SQL, by psql, when the database is new; ended by NULL */
    bool fresh;                    /* what is there is removed first */
    const char
        *psql_path; /* a program that is made there while it runs: psql with the database; NULL: none */
    const volatile bool *give_up; /* becomes true: the start is ended */
};

int postgres_server_start(const struct postgres_server_settings *settings,
                          struct postgres_server **ret_server, struct err *err) MUST_CHECK;
const char *postgres_server_url(const struct postgres_server *server);  /* libpq URI, by the socket */
const char *postgres_server_psql(const struct postgres_server *server); /* what a person types */
bool postgres_server_is_new(const struct postgres_server *server);      /* initdb was run */
/* Ends it (fast shutdown; at once after 10 s) and frees. NULL is fine. */
void postgres_server_stop(struct postgres_server *server);

#endif
