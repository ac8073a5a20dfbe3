/* pg_session.h - a connection of somebody's own, outside of the pool: short transactions one after the other, and notifications.
 *
 * For what belongs to one connection as long as that lives. It goes to the pool's server, as the pool's role, and does not count in its
 * size. Once it is lost (an error of the network, a deadline that passed) it is only good to be closed; whether the last transaction was
 * committed is then not known.
 *
 * Each transaction is READ COMMITTED and READ WRITE. It does not wait for the disk (synchronous_commit = off): after a crash of the server
 * the last ones may be undone. A lock is waited for for 2 s at most, and the server gives a statement up before the
 * deadline: such a transaction fails, and the session goes on.
 *
 * Threads: one at a time. The pool must outlive it.
 */
#ifndef CICADA_POSTGRES_PG_SESSION_H
#define CICADA_POSTGRES_PG_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/stop.h"
#include "runtime/postgres/postgres.h"

#define PG_SESSION_COMMANDS_MAX 8

struct pg_session;

/* Connects, within the pool's time-out; `stop`, which must outlive the session, ends that early, and every later wait. NULL: *error tells
 * why (UNREACHABLE, AUTHENTICATION). */
struct pg_session *pg_session_open(struct pg_pool *pool, const struct stop *stop, struct pg_error *error);
void pg_session_close(struct pg_session *session); /* NULL is fine; no round trip */
/* Results from now on have at most this many bytes (64 MiB unless said): the session is lost with one that has more. */
void pg_session_set_result_max(struct pg_session *session, size_t max_bytes);
bool pg_session_is_lost(const struct pg_session *session);

/* One transaction of `count` commands in one round trip. ret_results (or NULL): the rows of the last one; the caller frees them. -1: nothing
 * of it stays, unless the session is lost. */
int pg_session_run(struct pg_session *session, const struct pg_command *commands, size_t count,
                   int64_t deadline_ms, struct pg_result **ret_result, struct pg_error *error)
    __attribute__((warn_unused_result));

/* Behind a pooler in transaction mode nothing is heard: false. */
bool pg_session_can_listen(const struct pg_session *session);

/* Waits until a notification of a channel that was LISTENed to has come (true: all that have come are taken), `wake_fd` is readable, the
 * session is lost, its `stop` is set, or until the deadline. */
bool pg_session_wait(struct pg_session *session, int wake_fd, int64_t deadline_ms);
/* Each notification that a wait takes is told to `heard`, with its payload, on the thread that waits. */
typedef void pg_session_heard_fn(void *arg, const char *payload);
void pg_session_on_notification(struct pg_session *session, pg_session_heard_fn *heard, void *arg);

/* The hint of the last error that the server raised in pg_session_run(), "" if it gave none. A hint may hold whatever the function that
 * raised it has put there: for errors of our own. */
const char *pg_session_hint(const struct pg_session *session);

#endif
