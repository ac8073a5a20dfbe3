/* sql_guard_cache.h - what sql_guard_check() said of texts that come again and again, from the same place in memory.
 *
 * A slot, found by the text's address, keeps the first text that came there; the text itself is compared. Nothing is replaced, so
 * readers need no lock.
 *
 * Threads: any. Ownership: texts are copied.
 */
#ifndef CICADA_POSTGRES_SQL_GUARD_CACHE_H
#define CICADA_POSTGRES_SQL_GUARD_CACHE_H

#include <stdatomic.h>

#include "runtime/postgres/sql_guard.h"

#define SQL_GUARD_CACHE_SLOTS     64
#define SQL_GUARD_CACHE_MAX_BYTES 8192 /* longer texts are looked at each time */

struct sql_guard_entry;

struct sql_guard_cache { /* zero it to begin */
    _Atomic(struct sql_guard_entry *) slots[SQL_GUARD_CACHE_SLOTS];
};

void sql_guard_cache_check(struct sql_guard_cache *cache, const char *sql,
                           struct sql_guard_report *ret_report);
void sql_guard_cache_release(struct sql_guard_cache *cache); /* nobody uses it any more */

#endif
