#include "runtime/sql/sql_types.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/sql/sql_builtin.h"

#define BUCKETS           1024
#define OID_LIST_MAX_SIZE (64 << 10)
#define RECORD_OID        2249
#define RECORD_ARRAY_OID  2287
#define ANY_ARRAY_OID     2277

/* One type as pg_type has it. Fixed once it is in its bucket, but for `stale`; freed with the cache. */
struct entry {
    struct entry *next;
    unsigned oid;
    unsigned base_oid;    /* of a domain, else 0 */
    unsigned element_oid; /* of an array, else 0 */
    char delimiter;       /* of the element */
    bool server;          /* composite, or with a cast to json */
    char *name;
    atomic_bool stale;
};

struct sql_types {
    _Atomic(struct entry *) buckets[BUCKETS]; /* newest first */
    pthread_mutex_t lock;                     /* for who adds */
    size_t count;                             /* guarded by lock */
};

/* The types asked for, and all that they are made of. The input function tells arrays from types such as point and name, which
 * have elements too. The condition on casts is that of json_categorize_type. */
static const char ask[] = "WITH RECURSIVE wanted(oid) AS ("
                          " SELECT pg_catalog.unnest($1::pg_catalog.oid[])"
                          " UNION"
                          " SELECT part FROM wanted JOIN pg_catalog.pg_type AS t USING (oid),"
                          " LATERAL (VALUES (t.typelem), (t.typbasetype)) AS parts(part) WHERE part <> 0)"
                          " SELECT t.oid, t.typbasetype,"
                          " CASE WHEN t.typinput = 'pg_catalog.array_in'::pg_catalog.regproc"
                          " THEN t.typelem ELSE 0 END,"
                          " element.typdelim,"
                          " t.typtype = 'c' OR t.oid >= 16384 AND EXISTS (SELECT FROM pg_catalog.pg_cast AS c"
                          " WHERE c.castsource = t.oid AND c.casttarget = 114 AND c.castmethod = 'f'),"
                          " pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname)"
                          " FROM wanted JOIN pg_catalog.pg_type AS t USING (oid)"
                          " JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace"
                          " LEFT JOIN pg_catalog.pg_type AS element ON element.oid = t.typelem";

struct sql_types *sql_types_new(void)
{
    struct sql_types *types = xcalloc(1, sizeof(*types));
    (void)pthread_mutex_init(&types->lock, NULL);
    return types;
}

void sql_types_free(struct sql_types *types)
{
    if (!types)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        struct entry *next = atomic_load(&types->buckets[i]);
        while (next) {
            struct entry *entry = next;
            next = entry->next;
            free(entry->name);
            free(entry);
        }
    }
    (void)pthread_mutex_destroy(&types->lock);
    free(types);
}

static struct entry *find(struct sql_types *types, unsigned oid)
{
    struct entry *entry = atomic_load_explicit(&types->buckets[oid % BUCKETS], memory_order_acquire);
    while (entry && (entry->oid != oid || atomic_load_explicit(&entry->stale, memory_order_relaxed)))
        entry = entry->next;
    return entry;
}

bool sql_types_get(struct sql_types *types, unsigned oid, struct sql_type *ret_type)
{
    struct sql_type outer = {0}, builtin;
    for (;;) {
        if (sql_builtin_find(oid, &builtin)) {
            *ret_type = outer.oid ? outer : builtin;
            return true;
        }
        const struct entry *entry = find(types, oid);
        if (!entry)
            return false;
        if (entry->base_oid) {
            oid = entry->base_oid;
            continue;
        }
        if (!outer.oid)
            outer = (struct sql_type){.oid = oid,
                                      .kind = entry->element_oid ? SQL_TYPE_ARRAY : SQL_TYPE_TEXT,
                                      .element_oid = entry->element_oid,
                                      .delimiter = entry->delimiter};
        if (!entry->element_oid) {
            if (entry->server)
                outer = (struct sql_type){.oid = outer.oid, .kind = SQL_TYPE_SERVER};
            *ret_type = outer;
            return true;
        }
        oid = entry->element_oid;
    }
}

/* The newest entry, even if it is stale: another thread may have forgotten it since this one got the type. */
const char *sql_types_name(struct sql_types *types, unsigned oid)
{
    const struct entry *entry = atomic_load_explicit(&types->buckets[oid % BUCKETS], memory_order_acquire);
    while (entry && entry->oid != oid)
        entry = entry->next;
    return entry ? entry->name : NULL;
}

void sql_types_forget(struct sql_types *types, unsigned oid)
{
    struct entry *entry = find(types, oid);
    if (entry)
        atomic_store(&entry->stale, true);
}

const char *sql_types_unsupported(unsigned oid)
{
    switch (oid) {
    case RECORD_OID:
    case RECORD_ARRAY_OID:
        return "its type is record, whose fields only the statement knows: write to_json(...) around it";
    case ANY_ARRAY_OID:
        return "its type is anyarray, whose elements only the statement knows: write to_json(...) around it";
    default:
        return NULL;
    }
}

static unsigned oid_at(const struct pg_result *result, int row, int column)
{
    int64_t oid = 0;
    (void)parse_int64(pg_result_value(result, row, column, NULL), 0, UINT32_MAX, &oid);
    return (unsigned)oid;
}

static struct entry *entry_new(const struct pg_result *result, int row)
{
    struct entry *entry = xcalloc(1, sizeof(*entry));
    entry->oid = oid_at(result, row, 0);
    entry->base_oid = oid_at(result, row, 1);
    entry->element_oid = oid_at(result, row, 2);
    entry->delimiter = pg_result_is_null(result, row, 3) ? 0 : pg_result_value(result, row, 3, NULL)[0];
    entry->server = pg_result_value(result, row, 4, NULL)[0] == 't';
    entry->name = xstrdup(pg_result_value(result, row, 5, NULL));
    return entry;
}

/* False: the cache is full. */
static bool add(struct sql_types *types, const struct pg_result *result)
{
    struct sql_type builtin;
    bool room = true;
    (void)pthread_mutex_lock(&types->lock);
    for (int row = 0; row < pg_result_rows(result) && room; row++) {
        unsigned oid = oid_at(result, row, 0);
        if (sql_builtin_find(oid, &builtin) || find(types, oid))
            continue;
        room = types->count < SQL_TYPES_MAX;
        if (!room)
            break;
        struct entry *entry = entry_new(result, row);
        entry->next = atomic_load(&types->buckets[oid % BUCKETS]);
        atomic_store_explicit(&types->buckets[oid % BUCKETS], entry, memory_order_release);
        types->count++;
    }
    (void)pthread_mutex_unlock(&types->lock);
    return room;
}

static int too_many(struct pg_error *error)
{
    *error = (struct pg_error){.failure = PG_FAILURE_REFUSED};
    (void)snprintf(error->message, sizeof(error->message), "results have more than %d types", SQL_TYPES_MAX);
    return -1;
}

int sql_types_resolve(struct sql_types *types, struct pg_transaction *tx, const unsigned *oids, size_t count,
                      struct pg_error *error)
{
    CLEANUP_STRBUF struct strbuf unknown;
    struct sql_type known;
    strbuf_init(&unknown, OID_LIST_MAX_SIZE);
    for (size_t i = 0; i < count; i++) {
        if (!sql_types_get(types, oids[i], &known))
            (void)strbuf_appendf(&unknown, "%c%u", unknown.len ? ',' : '{', oids[i]);
    }
    if (unknown.len == 0)
        return 0;
    if (strbuf_append_char(&unknown, '}') < 0)
        return too_many(error);
    const char *params[] = {unknown.buf};
    struct pg_result *result;
    if (pg_query(tx, ask, 1, params, &result, error) < 0)
        return -1;
    bool room = add(types, result);
    pg_result_free(result);
    return room ? 0 : too_many(error);
}
