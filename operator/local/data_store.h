/* data_store.h - the Secrets and ConfigMaps that manifests provide, by name. Threads: one. */
#ifndef CICADA_LOCAL_DATA_STORE_H
#define CICADA_LOCAL_DATA_STORE_H

#include <stdbool.h>
#include <stddef.h>

enum data_kind { DATA_SECRET, DATA_CONFIG_MAP };

struct data_entry {
    char *key, *value; /* value ends in NUL, and may have others inside */
    size_t len;
};

struct data_object {
    const struct data_entry *entries;
    size_t count;
};

struct data_store;
struct data_store *data_store_new(void);
void data_store_free(struct data_store *store); /* NULL is fine */
/* Copies. Replaces one of that kind and name. */
void data_store_set(struct data_store *store, enum data_kind kind, const char *namespace, const char *name,
                    const struct data_object *object);
void data_store_clear(struct data_store *store);
/* Borrowed until the store changes; NULL: there is none. */
const struct data_object *data_store_get(const struct data_store *store, enum data_kind kind,
                                         const char *namespace, const char *name);
const struct data_entry *data_object_entry(const struct data_object *object,
                                           const char *key); /* NULL: none */

#endif
