/* informer.h - a live local copy of one kind of objects: list, watch, projection, handlers.
 *
 * A thread of its own lists all pages, then watches with bookmarks (timeoutSeconds random 5..10 min), resumes from the last
 * resourceVersion, relists on 410, backs off 0.8 s doubling to `max_backoff_ms` with jitter. resourceVersion is opaque.
 *
 * Each object is turned into the owner's projection when it arrives; the JSON tree is dropped at once. The
 * projection begins with struct cached_object and is reference-counted and immutable: readers take a ref.
 *
 * Handlers run on the informer's thread, without any lock held, in the order of the API: on_change(old, new): old NULL =
 * added, new NULL = deleted (also synthesised after a relist). A relist that finds the same resourceVersion calls nothing.
 *
 * Threads: all functions from any thread; new/start/stop/free from the owner's.
 */
#ifndef CICADA_CACHE_INFORMER_H
#define CICADA_CACHE_INFORMER_H

#include <cjson/cJSON.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "operator/kube/kube_client.h"
#include "runtime/base/stop.h"

struct cached_object {
    atomic_int refs;                             /* managed by cached_object_ref()/_unref() */
    void (*release)(struct cached_object *self); /* frees the whole projection, including itself */
    char *namespace;                             /* "" for cluster-scoped */
    char *name;
    char *uid;
    char *resource_version;
};
/* Fills the four names from metadata and sets refs to 1; for projections. release_names frees them. */
void cached_object_init(struct cached_object *object, const cJSON *tree,
                        void (*release)(struct cached_object *self));
void cached_object_release_names(struct cached_object *object);
struct cached_object *cached_object_ref(struct cached_object *object);
void cached_object_unref(struct cached_object *object); /* NULL is fine */

struct informer_settings {
    const struct kube_resource *resource;
    const char *namespace;                       /* NULL: all */
    const char *label_selector, *field_selector; /* NULL: none */
    int64_t max_backoff_ms;                      /* 30000; 1000 in the gateway */
    /* Projection of one object, or NULL to leave it out of the cache (then it counts as absent). */
    struct cached_object *(*project)(void *arg, const cJSON *tree);
    void (*on_change)(void *arg, struct cached_object *old, struct cached_object *new);
    void *arg;
};

struct informer;
struct informer *informer_new(struct kube_client *client, const struct informer_settings *settings);
/* stop ends the thread; so that a watch in progress ends at once too, the client's stop must be the same or be set with it. */
void informer_start(struct informer *informer, const struct stop *stop);
void informer_join(struct informer *informer);
void informer_free(struct informer *informer);
bool informer_synced(const struct informer *informer);
bool informer_wait_synced(struct informer *informer, const struct stop *stop, int64_t timeout_ms);
/* ms since the last byte, bookmark or list from the server; for /livez and metrics. */
int64_t informer_silence_ms(const struct informer *informer);
/* True, with the error of the last list or watch in *ret_err, while the informer waits to try again. For a program to log: this
 * library does not. */
bool informer_failing(struct informer *informer, struct err *ret_err);

/* A reference for the caller (unref it), or NULL. namespace "" for cluster-scoped. */
struct cached_object *informer_get(struct informer *informer, const char *namespace, const char *name);
/* Calls fn for each object under the store's read lock: fn must be short, may take refs, and calls no informer function. */
void informer_each(struct informer *informer, void (*fn)(void *arg, struct cached_object *object), void *arg);
size_t informer_count(struct informer *informer);

#endif
