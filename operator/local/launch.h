/* launch.h - all that a process of a Function is started with. Two that are equal make the same process.
 *
 * Ownership: reference-counted, immutable once made. Threads: one.
 */
#ifndef CICADA_LOCAL_LAUNCH_H
#define CICADA_LOCAL_LAUNCH_H

#include <stdbool.h>

#include "operator/function/function_spec.h"
#include "operator/local/data_store.h"
#include "operator/local/handler_store.h"

/* Why a Function can't run, as `kubectl get fn` would say it. */
struct launch_failure {
    const char *reason; /* "SecretMissing"; a literal */
    struct err err;     /* what and where */
};

struct launch_sources {
    struct handler_store *handlers; /* borrowed, all of them */
    struct data_store *data;        /* Secrets and ConfigMaps */
    const char *database_url;       /* for a Secret that no manifest has; NULL: none */
    const char *log_level;
};

struct launch {
    int refs;
    char **variables;              /* NAME=value, ended by NULL: what the Function decides */
    struct handler_copy *handlers; /* NULL: an SQL function */
};

/* The URL of a Function's database in that Secret: a Secret of the manifests counts; without one it is the database that everything
 * here uses. Borrowed. */
int launch_database(const struct launch_sources *sources, const char *namespace, const char *secret_name,
                    const char *key, const char **ret_url, struct launch_failure *ret_failure) MUST_CHECK;
/* before: what the Function was started with until now, or NULL; its handler goes on while a build replaces the file. */
int launch_new(const struct launch_sources *sources, const struct function_spec *spec,
               const struct launch *before, struct launch **ret_launch,
               struct launch_failure *ret_failure) MUST_CHECK;
struct launch *launch_ref(struct launch *launch);
void launch_unref(struct launch *launch);                          /* NULL is fine */
bool launch_equal(const struct launch *a, const struct launch *b); /* both NULL: equal */

#endif
