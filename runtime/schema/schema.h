/* schema.h - the schema `cicada` of a function's database: is it there, may we use it, install it.
 *
 * Its SQL is cicada.sql in this folder, compiled in word for word. Installing and upgrading are one statement that may be run
 * at any time, by many at once; see there.
 *
 * Threads: any. Each call waits for the database, until its deadline.
 */
#ifndef CICADA_SCHEMA_SCHEMA_H
#define CICADA_SCHEMA_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/postgres/postgres.h"

/* The version that this program needs, which is the one that its cicada.sql makes. */
#define SCHEMA_VERSION 3

#define SCHEMA_RELEASE_SIZE 32
#define SCHEMA_ROLE_SIZE    256 /* 63 bytes, quoted */

enum schema_state {
    SCHEMA_READY,
    SCHEMA_ABSENT,
    SCHEMA_OLDER,     /* than this program needs */
    SCHEMA_FORBIDDEN, /* the role was not let in */
    SCHEMA_TOO_NEW,   /* for this program, by its min_runtime */
};

struct schema_view {
    enum schema_state state;
    int version;                           /* 0: not known */
    char min_runtime[SCHEMA_RELEASE_SIZE]; /* "": not known */
    char role[SCHEMA_ROLE_SIZE];           /* of the pool, as an SQL string literal; "" if READY */
    char refusal[256];                     /* why it could not be installed; "": not tried */
};

/* -1: the database could not be asked. */
int schema_look(struct pg_pool *pool, const char *release, int64_t deadline_ms, struct schema_view *ret_view,
                struct pg_error *error) MUST_CHECK;
/* Installs or upgrades as the pool's role. *ret_from, *ret_to: versions before and after, 0: none; equal: nothing was to be
 * done. -1: SQLSTATE 42501: the role may not; 55P03: others kept it waiting. */
int schema_migrate(struct pg_pool *pool, int64_t deadline_ms, int *ret_from, int *ret_to,
                   struct pg_error *error) MUST_CHECK;
/* Looks, and installs or upgrades if that is needed and the role may. -1: the database could not be asked; try again. */
int schema_ensure(struct pg_pool *pool, const char *release, int64_t deadline_ms,
                  struct schema_view *ret_view, struct pg_error *error) MUST_CHECK;
/* Lets a role in, as the owner. */
int schema_grant(struct pg_pool *pool, const char *role, int64_t deadline_ms,
                 struct pg_error *error) MUST_CHECK;

/* What is to be done about a state that is not READY, in a sentence that names the command. */
void schema_explain(const struct schema_view *view, const char *release, char *ret_message, size_t size);

/* -1, 0, 1: by the numbers of "major.minor.patch"; what follows them ("-dev") and what is missing counts as 0. */
int schema_compare_releases(const char *a, const char *b);

/* The text of cicada.sql. */
extern const char schema_sql[];

#endif
