#include "operator/cache/store.h"

#include <pthread.h>

#include "runtime/base/mem.h"

#define uthash_malloc(size) xmalloc(size)
#include <uthash.h>

struct entry {
    UT_hash_handle hh;
    struct cached_object *object;
    uint64_t pass;
    char key[]; /* "namespace/name" */
};

struct store {
    pthread_rwlock_t lock;
    struct entry *entries; /* guarded by lock; written by the writer only, who may read without it */
};

struct store *store_new(void)
{
    struct store *store = xcalloc(1, sizeof(*store));
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    /* glibc's default lets a stream of readers starve the writer, and with it the whole cache. */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&store->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    return store;
}

void store_free(struct store *store)
{
    if (!store)
        return;
    struct entry *entry = store->entries;
    HASH_CLEAR(hh, store->entries);
    while (entry) {
        struct entry *next = entry->hh.next;
        cached_object_unref(entry->object);
        free(entry);
        entry = next;
    }
    pthread_rwlock_destroy(&store->lock);
    free(store);
}

static struct entry *find(struct store *store, const char *namespace, const char *name)
{
    CLEANUP_FREE char *key = xasprintf("%s/%s", namespace ? namespace : "", name);
    struct entry *entry;
    HASH_FIND_STR(store->entries, key, entry);
    return entry;
}

struct cached_object *store_get(struct store *store, const char *namespace, const char *name)
{
    pthread_rwlock_rdlock(&store->lock);
    struct entry *entry = find(store, namespace, name);
    struct cached_object *object = entry ? cached_object_ref(entry->object) : NULL;
    pthread_rwlock_unlock(&store->lock);
    return object;
}

void store_each(struct store *store, void (*fn)(void *arg, struct cached_object *object), void *arg)
{
    pthread_rwlock_rdlock(&store->lock);
    for (struct entry *entry = store->entries; entry; entry = entry->hh.next)
        fn(arg, entry->object);
    pthread_rwlock_unlock(&store->lock);
}

size_t store_count(struct store *store)
{
    pthread_rwlock_rdlock(&store->lock);
    size_t count = HASH_COUNT(store->entries);
    pthread_rwlock_unlock(&store->lock);
    return count;
}

struct cached_object *store_set(struct store *store, struct cached_object *object, uint64_t pass)
{
    struct entry *entry = find(store, object->namespace, object->name);
    struct cached_object *old = NULL;
    pthread_rwlock_wrlock(&store->lock);
    if (entry) {
        old = entry->object;
    } else {
        size_t len = strlen(object->namespace) + 1 + strlen(object->name);
        entry = xcalloc(1, sizeof(*entry) + len + 1);
        snprintf(entry->key, len + 1, "%s/%s", object->namespace, object->name);
        HASH_ADD_KEYPTR(hh, store->entries, entry->key, len, entry);
    }
    entry->object = object;
    entry->pass = pass;
    pthread_rwlock_unlock(&store->lock);
    return old;
}

void store_mark(struct store *store, const char *namespace, const char *name, uint64_t pass)
{
    struct entry *entry = find(store, namespace, name);
    if (entry)
        entry->pass = pass;
}

static struct cached_object *remove_entry(struct store *store, struct entry *entry)
{
    struct cached_object *object = entry->object;
    pthread_rwlock_wrlock(&store->lock);
    HASH_DEL(store->entries, entry);
    pthread_rwlock_unlock(&store->lock);
    free(entry);
    return object;
}

struct cached_object *store_remove(struct store *store, const char *namespace, const char *name)
{
    struct entry *entry = find(store, namespace, name);
    return entry ? remove_entry(store, entry) : NULL;
}

void store_remove_unseen(struct store *store, uint64_t pass,
                         void (*fn)(void *arg, struct cached_object *taken), void *arg)
{
    struct entry *entry, *next;
    HASH_ITER(hh, store->entries, entry, next)
    {
        if (entry->pass != pass)
            fn(arg, remove_entry(store, entry));
    }
}
