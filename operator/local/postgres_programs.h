/* postgres_programs.h - where the programs of a PostgreSQL server are. Threads: none of its own. */
#ifndef CICADA_LOCAL_POSTGRES_PROGRAMS_H
#define CICADA_LOCAL_POSTGRES_PROGRAMS_H

#include "runtime/base/err.h"

/* asked: a folder, or NULL: that of the newest version which Debian's packages installed, else the first of PATH that has them. The
 * caller frees *ret_folder. ERR_NOT_FOUND. */
int postgres_programs_find(const char *asked, char **ret_folder, struct err *err) MUST_CHECK;

#endif
