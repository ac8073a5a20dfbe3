#include "runtime/postgres/sql_guard_cache.h"

#include <stdint.h>
#include <string.h>

#include "runtime/base/mem.h"

#define ADDRESS_SHIFT 4 /* allocations are that far apart */

struct sql_guard_entry {
    struct sql_guard_report report;
    char sql[];
};

static _Atomic(struct sql_guard_entry *) *slot_of(struct sql_guard_cache *cache, const char *sql)
{
    uintptr_t address = (uintptr_t)sql >> ADDRESS_SHIFT;
    return &cache->slots[(address ^ address >> 6) % SQL_GUARD_CACHE_SLOTS];
}

static void keep(_Atomic(struct sql_guard_entry *) *slot, const char *sql,
                 const struct sql_guard_report *report)
{
    size_t len = strnlen(sql, SQL_GUARD_CACHE_MAX_BYTES + 1);
    if (len > SQL_GUARD_CACHE_MAX_BYTES)
        return;
    struct sql_guard_entry *entry = xmalloc(sizeof(*entry) + len + 1), *none = NULL;
    entry->report = *report;
    memcpy(entry->sql, sql, len + 1);
    if (!atomic_compare_exchange_strong(slot, &none, entry))
        free(entry); /* another was faster */
}

void sql_guard_cache_check(struct sql_guard_cache *cache, const char *sql,
                           struct sql_guard_report *ret_report)
{
    _Atomic(struct sql_guard_entry *) *slot = slot_of(cache, sql);
    const struct sql_guard_entry *entry = atomic_load_explicit(slot, memory_order_acquire);
    if (entry && strcmp(entry->sql, sql) == 0) {
        *ret_report = entry->report;
        return;
    }
    sql_guard_check(sql, ret_report);
    if (!entry)
        keep(slot, sql, ret_report);
}

void sql_guard_cache_release(struct sql_guard_cache *cache)
{
    for (size_t i = 0; i < SQL_GUARD_CACHE_SLOTS; i++)
        free(atomic_load(&cache->slots[i]));
}
