/* reflector.h - the list-watch loop of one kind: keeps a sink told of what the API server has. After client-go tools/cache.
 *
 * Lists all pages, then watches from the list's resourceVersion; goes on from the last one seen after a watch has ended or failed;
 * lists again after 410, or when watching has failed for relist_after_ms (not for 429: that would ask for more).
 *
 * Threads: reflector_run() blocks; the sink is called on its thread.
 */
#ifndef CICADA_CACHE_REFLECTOR_H
#define CICADA_CACHE_REFLECTOR_H

#include "operator/kube/kube_client.h"
#include "runtime/base/stop.h"

#define REFLECTOR_RELIST_AFTER_MS 60000

struct reflector_settings {
    struct kube_client *client;
    const struct kube_resource *resource;
    const char *namespace;
    const char *label_selector, *field_selector;
    int64_t max_backoff_ms;
    int64_t relist_after_ms;
};

struct reflector_sink {
    void (*list_begin)(void *arg);
    /* An object as it is now, from a list or a watch; borrowed. */
    int (*object)(void *arg, const cJSON *object, struct err *err);
    int (*deleted)(void *arg, const cJSON *object, struct err *err);
    void (*list_end)(void *arg);                      /* the list is whole: what it did not name is gone */
    void (*alive)(void *arg);                         /* the server was heard of */
    void (*failed)(void *arg, const struct err *err); /* a list or watch failed; it is tried again */
};

/* Returns when stop is set. */
void reflector_run(const struct reflector_settings *settings, const struct reflector_sink *sink, void *arg,
                   const struct stop *stop);

#endif
