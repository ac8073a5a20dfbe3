/* sql_builtin.h - the types that every PostgreSQL server has, under the same OIDs: known without asking. */
#ifndef CICADA_SQL_SQL_BUILTIN_H
#define CICADA_SQL_SQL_BUILTIN_H

#include <stdbool.h>

#include "runtime/sql/sql_types.h"

/* False: not in the table, which says nothing about the type. */
bool sql_builtin_find(unsigned oid, struct sql_type *ret_type);

#endif
