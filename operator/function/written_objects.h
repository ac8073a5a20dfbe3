/* written_objects.h - what was written and not yet seen by a watch, so that no decision is made on a state from before
 * one's own write.
 *
 * An entry is put in after a write and dropped as soon as the watch tells anything of that object. Few exist at a time. One of which
 * the watch never tells (the object was gone again before a list that the watch began with) counts no more after
 * WRITTEN_OBJECTS_MAX_AGE_MS.
 *
 * Threads: any. Ownership: objects are returned with a reference for the caller.
 */
#ifndef CICADA_FUNCTION_WRITTEN_OBJECTS_H
#define CICADA_FUNCTION_WRITTEN_OBJECTS_H

#include "operator/cache/informer.h"
#include "runtime/base/clock.h"

#define WRITTEN_OBJECTS_MAX_AGE_MS 60000

struct written_objects;

struct written_objects *written_objects_new(const struct clock *clock);
void written_objects_free(struct written_objects *objects); /* NULL is fine */
/* kind: any number that tells resources apart. Replaces an older entry; takes a reference of its own. */
void written_objects_put(struct written_objects *objects, int kind, struct cached_object *object);
struct cached_object *written_objects_get(struct written_objects *objects, int kind, const char *namespace,
                                          const char *name);
/* Drops the entry and returns its version, for the caller to free; NULL if there is none. */
char *written_objects_forget(struct written_objects *objects, int kind, const char *namespace,
                             const char *name);

#endif
