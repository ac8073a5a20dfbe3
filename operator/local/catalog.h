/* catalog.h - the manifests that cicada-local was given, and what is in them, kept up to date in the fleet.
 *
 * A file that became invalid keeps the objects that it had, and its problems are said; one that is gone takes its objects along.
 *
 * Threads: the loop's.
 */
#ifndef CICADA_LOCAL_CATALOG_H
#define CICADA_LOCAL_CATALOG_H

#include "operator/local/console.h"
#include "operator/local/data_store.h"
#include "operator/local/fleet.h"

struct catalog;

struct catalog_settings {
    struct loop *loop; /* borrowed, all of them */
    struct console *console;
    struct data_store *data;
    const char *const *paths; /* as on the command line */
    size_t path_count;
    const char *namespace; /* of objects without one */
    const char *handler_folder;
};

/* Reads all. ERR_INVALID: there are problems, which were said. */
int catalog_new(const struct catalog_settings *settings, struct catalog **ret_catalog,
                struct err *err) MUST_CHECK;
/* Whether a Function has a database whose Secret is in no manifest. */
bool catalog_needs_database(const struct catalog *catalog);
size_t catalog_function_count(const struct catalog *catalog);
/* Gives the fleet what there is, and from now on what changes. */
int catalog_start(struct catalog *catalog, struct fleet *fleet, struct err *err) MUST_CHECK;
void catalog_free(struct catalog *catalog); /* NULL is fine */

#endif
