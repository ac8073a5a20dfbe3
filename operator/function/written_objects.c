#include "operator/function/written_objects.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

struct entry {
    struct entry *next;
    int kind;
    struct cached_object *object;
    int64_t put_ms; /* monotonic */
};

struct written_objects {
    const struct clock *clock;
    pthread_mutex_t mu;
    struct entry *entries; /* guarded by mu */
};

struct written_objects *written_objects_new(const struct clock *clock)
{
    struct written_objects *objects = xcalloc(1, sizeof *objects);
    objects->clock = clock;
    pthread_mutex_init(&objects->mu, NULL);
    return objects;
}

void written_objects_free(struct written_objects *objects)
{
    if (!objects) {
        return;
    }
    while (objects->entries) {
        struct entry *entry = objects->entries;
        objects->entries = entry->next;
        cached_object_unref(entry->object);
        free(entry);
    }
    pthread_mutex_destroy(&objects->mu);
    free(objects);
}

/* Where the pointer to the entry is; *result is NULL if there is none. The lock is held. */
static struct entry **find(struct written_objects *objects, int kind, const char *namespace, const char *name)
{
    struct entry **at = &objects->entries;
    while (*at && ((*at)->kind != kind || strcmp((*at)->object->name, name) != 0 ||
                   strcmp((*at)->object->namespace, namespace) != 0)) {
        at = &(*at)->next;
    }
    return at;
}

void written_objects_put(struct written_objects *objects, int kind, struct cached_object *object)
{
    struct cached_object *replaced = NULL;
    struct entry *fresh = xcalloc(1, sizeof *fresh);
    pthread_mutex_lock(&objects->mu);
    struct entry **at = find(objects, kind, object->namespace, object->name);
    if (*at) {
        replaced = (*at)->object;
    } else {
        *at = steal_ptr(&fresh);
        (*at)->kind = kind;
    }
    (*at)->object = cached_object_ref(object);
    (*at)->put_ms = objects->clock->monotonic_ms(objects->clock);
    pthread_mutex_unlock(&objects->mu);
    cached_object_unref(replaced);
    free(fresh);
}

struct cached_object *written_objects_get(struct written_objects *objects, int kind, const char *namespace,
                                          const char *name)
{
    pthread_mutex_lock(&objects->mu);
    struct entry *entry = *find(objects, kind, namespace, name);
    int64_t now_ms = objects->clock->monotonic_ms(objects->clock);
    bool counts = entry && now_ms - entry->put_ms <= WRITTEN_OBJECTS_MAX_AGE_MS;
    struct cached_object *object = counts ? cached_object_ref(entry->object) : NULL;
    pthread_mutex_unlock(&objects->mu);
    return object;
}

char *written_objects_forget(struct written_objects *objects, int kind, const char *namespace,
                             const char *name)
{
    pthread_mutex_lock(&objects->mu);
    struct entry **at = find(objects, kind, namespace, name), *entry = *at;
    if (entry) {
        *at = entry->next;
    }
    pthread_mutex_unlock(&objects->mu);
    if (!entry) {
        return NULL;
    }
    char *version = xstrdup(entry->object->resource_version);
    cached_object_unref(entry->object);
    free(entry);
    return version;
}
