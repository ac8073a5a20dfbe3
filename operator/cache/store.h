/* store.h - cached objects by namespace and name.
 *
 * Threads: any number of readers, one writer (the informer's thread). References of removed objects go to the writer, so that
 * nothing is released under the lock.
 */
#ifndef CICADA_CACHE_STORE_H
#define CICADA_CACHE_STORE_H

#include <stdint.h>

#include "operator/cache/informer.h"

struct store;

struct store *store_new(void);
void store_free(struct store *store); /* NULL is fine */

struct cached_object *store_get(struct store *store, const char *namespace,
                                const char *name); /* a reference, or NULL */
void store_each(struct store *store, void (*fn)(void *arg, struct cached_object *object), void *arg);
size_t store_count(struct store *store);

/* Writer. pass: number of the list during which this was seen, any value outside lists. */
struct cached_object *store_set(struct store *store, struct cached_object *object /* taken */,
                                uint64_t pass); /* the old one */
void store_mark(struct store *store, const char *namespace, const char *name, uint64_t pass);
struct cached_object *store_remove(struct store *store, const char *namespace, const char *name);
/* Removes all that was not seen in this pass, one by one; fn gets the store's reference, and is called without the lock. */
void store_remove_unseen(struct store *store, uint64_t pass,
                         void (*fn)(void *arg, struct cached_object *taken), void *arg);

#endif
