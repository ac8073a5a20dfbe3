/* pg_url.h - a database URL taken apart and checked, without libpq and without connecting.
 *
 * Accepts what libpq accepts as a connection string: a URI (postgresql:// or postgres://) or "key=value ..." text, with
 * several hosts. The keys are an allow-list: what reads files of its own choice, changes the session, or starts another
 * protocol (service, passfile, options, replication, Kerberos) is refused by name. Messages never hold a value.
 *
 * What is not said is made explicit, so that neither the environment nor a probe decides: host, port, sslmode
 * (verify-full, but disable for hosts that are local: a Unix socket or loopback), gssencmode, keepalives, client_encoding.
 *
 * Threads: read-only after pg_url_parse().
 */
#ifndef CICADA_POSTGRES_PG_URL_H
#define CICADA_POSTGRES_PG_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define PG_URL_MAX_BYTES  8192
#define PG_URL_HOSTS_MAX  16
#define PG_URL_PARAMS_MAX 32

struct pg_url;

/* ERR_INVALID: says which key or part is wrong. */
int pg_url_parse(const char *text, struct pg_url **ret_url, struct err *err) MUST_CHECK;
void pg_url_free(struct pg_url *url);

size_t pg_url_host_count(const struct pg_url *url); /* at least 1 */
int64_t pg_url_connect_timeout_ms(const struct pg_url *url, int64_t absent);

/* Who connects refuses peers for which pg_peer_is_near(). */
void pg_url_set_remote_only(struct pg_url *url);
bool pg_url_is_remote_only(const struct pg_url *url);
/* What a socket is connected to, whatever the name was that led there: this machine (Unix socket, loopback) or one of its own link
 * (link-local, where cloud machines find their credentials). False for one that is not connected. */
bool pg_peer_is_near(int socket_fd);

/* Arguments for PQconnectStartParams() to one of the hosts. Values are borrowed from the URL or `application_name`. */
struct pg_url_params {
    const char *keywords[PG_URL_PARAMS_MAX];
    const char *values[PG_URL_PARAMS_MAX];
};
void pg_url_params(const struct pg_url *url, size_t host_index, const char *application_name,
                   struct pg_url_params *ret_params);

#endif
