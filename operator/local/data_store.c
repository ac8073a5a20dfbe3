#include "operator/local/data_store.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "runtime/base/mem.h"

struct record {
    UT_hash_handle hh; /* key: kind/namespace/name */
    char *key;
    struct data_object object;
    struct data_entry *entries; /* object's, to be freed */
};

struct data_store {
    struct record *records;
};

struct data_store *data_store_new(void)
{
    return xcalloc(1, sizeof(struct data_store));
}

static void remove_record(struct data_store *store, struct record *record)
{
    HASH_DEL(store->records, record);
    for (size_t i = 0; i < record->object.count; i++) {
        free(record->entries[i].key);
        free(record->entries[i].value);
    }
    free(record->entries);
    free(record->key);
    free(record);
}

void data_store_clear(struct data_store *store)
{
    while (store->records) {
        remove_record(store, store->records);
    }
}

void data_store_free(struct data_store *store)
{
    if (store) {
        data_store_clear(store);
        free(store);
    }
}

static char *record_key(enum data_kind kind, const char *namespace, const char *name)
{
    return xasprintf("%d/%s/%s", (int)kind, namespace, name);
}

static struct record *find(const struct data_store *store, enum data_kind kind, const char *namespace,
                           const char *name)
{
    CLEANUP_FREE char *key = record_key(kind, namespace, name);
    struct record *record;
    HASH_FIND_STR(store->records, key, record);
    return record;
}

void data_store_set(struct data_store *store, enum data_kind kind, const char *namespace, const char *name,
                    const struct data_object *object)
{
    struct record *record = find(store, kind, namespace, name);
    if (record) {
        remove_record(store, record);
    }
    record = xcalloc(1, sizeof *record);
    record->key = record_key(kind, namespace, name);
    record->entries = xcalloc(object->count + 1, sizeof *record->entries);
    for (size_t i = 0; i < object->count; i++) {
        const struct data_entry *entry = &object->entries[i];
        char *value = xmalloc(entry->len + 1);
        memcpy(value, entry->value, entry->len);
        value[entry->len] = '\0';
        record->entries[i] =
            (struct data_entry){.key = xstrdup(entry->key), .value = value, .len = entry->len};
    }
    record->object = (struct data_object){.entries = record->entries, .count = object->count};
    HASH_ADD_KEYPTR(hh, store->records, record->key, strlen(record->key), record);
}

const struct data_object *data_store_get(const struct data_store *store, enum data_kind kind,
                                         const char *namespace, const char *name)
{
    const struct record *record = find(store, kind, namespace, name);
    return record ? &record->object : NULL;
}

const struct data_entry *data_object_entry(const struct data_object *object, const char *key)
{
    for (size_t i = 0; object && i < object->count; i++) {
        if (strcmp(object->entries[i].key, key) == 0) {
            return &object->entries[i];
        }
    }
    return NULL;
}
