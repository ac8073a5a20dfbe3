#include "operator/cache/informer.h"

#include <poll.h>

#include "operator/cache/reflector.h"
#include "operator/cache/store.h"
#include "operator/queue/thread.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

struct informer {
    struct informer_settings settings; /* its strings are the three below */
    char *namespace, *label_selector, *field_selector;
    struct kube_client *client;
    struct store *store;
    const struct stop *stop;
    pthread_t thread;
    bool is_started;
    uint64_t pass;         /* number of the list in progress; informer's thread only */
    struct stop synced;    /* set once the first list is whole */
    atomic_llong heard_ms; /* monotonic */
    atomic_bool failing;
    pthread_mutex_t mu;
    struct err last_error; /* guarded by mu */
};

struct informer *informer_new(struct kube_client *client, const struct informer_settings *settings)
{
    struct informer *informer = xcalloc(1, sizeof(*informer));
    informer->settings = *settings;
    informer->settings.namespace = informer->namespace = xstrdup_or_null(settings->namespace);
    informer->settings.label_selector = informer->label_selector = xstrdup_or_null(settings->label_selector);
    informer->settings.field_selector = informer->field_selector = xstrdup_or_null(settings->field_selector);
    informer->client = client;
    informer->store = store_new();
    stop_init(&informer->synced);
    atomic_init(&informer->heard_ms, clock_monotonic_ms());
    pthread_mutex_init(&informer->mu, NULL);
    return informer;
}

void informer_free(struct informer *informer)
{
    if (!informer)
        return;
    store_free(informer->store);
    stop_release(&informer->synced);
    pthread_mutex_destroy(&informer->mu);
    free(informer->namespace);
    free(informer->label_selector);
    free(informer->field_selector);
    free(informer);
}

/* ---- what the reflector says ---- */

/* Hands the change to the owner and drops both references. */
static void tell(struct informer *informer, struct cached_object *old, struct cached_object *new)
{
    if (informer->settings.on_change && (old || new))
        informer->settings.on_change(informer->settings.arg, old, new);
    cached_object_unref(old);
    cached_object_unref(new);
}

static void sink_list_begin(void *arg)
{
    struct informer *informer = arg;
    informer->pass++;
}

static bool is_same_version(const struct cached_object *object, const char *uid, const char *resource_version)
{
    return uid && resource_version && strcmp(object->uid, uid) == 0 &&
           strcmp(object->resource_version, resource_version) == 0;
}

static int names_of(const cJSON *metadata, const char **ret_namespace, const char **ret_name, struct err *err)
{
    const char *namespace = json_string(metadata, "namespace");
    *ret_name = json_string(metadata, "name");
    *ret_namespace = namespace ? namespace : "";
    return *ret_name ? 0 : err_set(err, ERR_INVALID, "object without a name");
}

static int sink_object(void *arg, const cJSON *tree, struct err *err)
{
    struct informer *informer = arg;
    const cJSON *metadata = json_object(tree, "metadata");
    const char *namespace, *name, *uid = json_string(metadata, "uid");
    if (names_of(metadata, &namespace, &name, err) != 0)
        return -1;
    struct cached_object *old = store_get(informer->store, namespace, name);
    if (old && is_same_version(old, uid, json_string(metadata, "resourceVersion"))) {
        store_mark(informer->store, namespace, name, informer->pass);
        cached_object_unref(old);
        return 0;
    }
    bool is_other_object = old && (!uid || strcmp(old->uid, uid) != 0);
    cached_object_unref(old);
    struct cached_object *new = informer->settings.project(informer->settings.arg, tree);
    /* Deleted and made again while nobody looked: its owner must see both. */
    if (!new || is_other_object)
        tell(informer, store_remove(informer->store, namespace, name), NULL);
    if (!new)
        return 0;
    old = store_set(informer->store, cached_object_ref(new), informer->pass);
    tell(informer, old, new);
    return 0;
}

static int sink_deleted(void *arg, const cJSON *tree, struct err *err)
{
    struct informer *informer = arg;
    const char *namespace, *name;
    if (names_of(json_object(tree, "metadata"), &namespace, &name, err) != 0)
        return -1;
    tell(informer, store_remove(informer->store, namespace, name), NULL);
    return 0;
}

static void tell_gone(void *arg, struct cached_object *object)
{
    tell(arg, object, NULL);
}

static void sink_list_end(void *arg)
{
    struct informer *informer = arg;
    store_remove_unseen(informer->store, informer->pass, tell_gone, informer);
    if (!stop_is_set(&informer->synced))
        stop_set(&informer->synced);
}

static void sink_alive(void *arg)
{
    struct informer *informer = arg;
    atomic_store(&informer->heard_ms, clock_monotonic_ms());
    atomic_store(&informer->failing, false);
}

static void sink_failed(void *arg, const struct err *err)
{
    struct informer *informer = arg;
    pthread_mutex_lock(&informer->mu);
    informer->last_error = *err;
    pthread_mutex_unlock(&informer->mu);
    atomic_store(&informer->failing, true);
}

static void *run(void *arg)
{
    static const struct reflector_sink sink = {
        .list_begin = sink_list_begin,
        .object = sink_object,
        .deleted = sink_deleted,
        .list_end = sink_list_end,
        .alive = sink_alive,
        .failed = sink_failed,
    };
    struct informer *informer = arg;
    struct reflector_settings settings = {
        .client = informer->client,
        .resource = informer->settings.resource,
        .namespace = informer->settings.namespace,
        .label_selector = informer->settings.label_selector,
        .field_selector = informer->settings.field_selector,
        .max_backoff_ms = informer->settings.max_backoff_ms,
        .relist_after_ms = REFLECTOR_RELIST_AFTER_MS,
    };
    reflector_run(&settings, &sink, informer, informer->stop);
    return NULL;
}

/* ---- the owner's side ---- */

void informer_start(struct informer *informer, const struct stop *stop)
{
    CLEANUP_FREE char *name = xasprintf("watch-%s", informer->settings.resource->plural);
    informer->stop = stop;
    informer->is_started = true;
    informer->thread = thread_start(name, run, informer);
}

void informer_join(struct informer *informer)
{
    if (!informer->is_started)
        return;
    pthread_join(informer->thread, NULL);
    informer->is_started = false;
}

bool informer_synced(const struct informer *informer)
{
    return stop_is_set(&informer->synced);
}

bool informer_wait_synced(struct informer *informer, const struct stop *stop, int64_t timeout_ms)
{
    int64_t deadline_ms = timeout_ms < 0 ? DEADLINE_NONE : clock_monotonic_ms() + timeout_ms;
    struct pollfd fds[2] = {
        {.fd = stop_fd(&informer->synced), .events = POLLIN},
        {.fd = stop ? stop_fd(stop) : -1, .events = POLLIN},
    };
    while (!informer_synced(informer)) {
        int left_ms = deadline_left_ms(deadline_ms);
        if (left_ms == 0 || (stop && stop_is_set(stop)))
            return false;
        (void)poll(fds, ARRAY_SIZE(fds), left_ms);
    }
    return true;
}

int64_t informer_silence_ms(const struct informer *informer)
{
    return clock_monotonic_ms() - atomic_load(&informer->heard_ms);
}

bool informer_failing(struct informer *informer, struct err *ret_err)
{
    if (!atomic_load(&informer->failing))
        return false;
    pthread_mutex_lock(&informer->mu);
    *ret_err = informer->last_error;
    pthread_mutex_unlock(&informer->mu);
    return true;
}

struct cached_object *informer_get(struct informer *informer, const char *namespace, const char *name)
{
    return store_get(informer->store, namespace, name);
}

void informer_each(struct informer *informer, void (*fn)(void *arg, struct cached_object *object), void *arg)
{
    store_each(informer->store, fn, arg);
}

size_t informer_count(struct informer *informer)
{
    return store_count(informer->store);
}
