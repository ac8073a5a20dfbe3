/* postgres_command.h - PostgreSQL's programs that run to their end (initdb, psql), while the loop turns.
 *
 * Threads: the loop's.
 */
#ifndef CICADA_LOCAL_POSTGRES_COMMAND_H
#define CICADA_LOCAL_POSTGRES_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "operator/gateway/loop.h"
#include "operator/local/line_tail.h"
#include "runtime/base/strbuf.h"

#define POSTGRES_PATH_VARIABLE "PATH=/usr/local/bin:/usr/bin:/bin"

struct postgres_context {
    struct loop *loop;
    const volatile bool *give_up; /* becomes true: what is waited for is ended; NULL: it never does */
};

/* As whom a program runs. */
struct postgres_user {
    bool is_another; /* than ours */
    uid_t uid;
    gid_t gid;
    const char *folder;   /* which that user can enter */
    const char *password; /* of the role it connects as; NULL: none is asked for */
};

/* what: names it in errors. The error holds its last lines. */
int postgres_command_run(const struct postgres_context *context, const struct postgres_user *user,
                         char *const *argv, const char *what, int64_t timeout_ms, struct err *err) MUST_CHECK;
/* One turn of the loop, of a few milliseconds. ERR_TIMEOUT, ERR_CANCELLED. */
int postgres_turn(const struct postgres_context *context, int64_t deadline_ms, const char *what,
                  struct err *err) MUST_CHECK;
/* Turns until *over. */
int postgres_turn_until(const struct postgres_context *context, const bool *over, int64_t deadline_ms,
                        const char *what, struct err *err) MUST_CHECK;

/* The lines, each on a line of its own; and an error made of them. */
void postgres_tail_append(const struct line_tail *tail, struct strbuf *out);
int postgres_tail_fail(const struct line_tail *tail, const char *what, struct err *err);

#endif
