/* migrate.h - cicada-runtime --migrate: installs or upgrades schema cicada, lets a role in, and ends. */
#ifndef CICADA_HOST_MIGRATE_H
#define CICADA_HOST_MIGRATE_H

#include "runtime/host/runtime.h"

#define MIGRATE_EXIT_DONE    0
#define MIGRATE_EXIT_REFUSED 1 /* by the database, or it is away */
#define MIGRATE_EXIT_USAGE   2

/* Says what it did on standard output, what went wrong on standard error. Returns the exit code. */
int migrate_run(const struct runtime_options *options);

#endif
