#include "operator/cache/reflector.h"

#include "operator/cache/backoff.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define PAGE_ITEMS            500
#define PAGE_RESTARTS_MAX     3 /* expired continue tokens in one list */
#define WATCH_MIN_SECONDS     300
#define WATCH_MAX_SECONDS     600
#define SHORT_WATCH_MS        1000  /* a watch that ends so soon and says nothing would spin */
#define RELIST_AT_ONCE_MIN_MS 10000 /* between lists, else 410 after 410 would spin */
#define RETRY_AFTER_MAX_MS    60000

struct reflector {
    const struct reflector_settings *settings;
    const struct reflector_sink *sink;
    void *arg;
    const struct stop *stop;
    struct backoff backoff;
    char *resource_version; /* to watch from */
    int64_t listed_ms;      /* monotonic, of the last whole list */
    int64_t watch_events;   /* of the watch in progress */
};

static int check_stop(const struct reflector *reflector, struct err *err)
{
    return stop_is_set(reflector->stop) ? err_set(err, ERR_CANCELLED, "stopping") : 0;
}

static int on_item(void *arg, cJSON *object, struct err *err)
{
    struct reflector *reflector = arg;
    CLEANUP_JSON cJSON *owned = object;
    reflector->sink->alive(reflector->arg);
    if (check_stop(reflector, err) != 0)
        return -1;
    return reflector->sink->object(reflector->arg, owned, err);
}

static struct kube_list_options options_of(const struct reflector *reflector)
{
    return (struct kube_list_options){
        .label_selector = reflector->settings->label_selector,
        .field_selector = reflector->settings->field_selector,
    };
}

static int list_page(struct reflector *reflector, const char *continue_token, struct kube_list_meta *ret_meta,
                     struct err *err)
{
    struct kube_list_options options = options_of(reflector);
    options.limit = PAGE_ITEMS;
    options.continue_token = continue_token;
    if (kube_list(reflector->settings->client, reflector->settings->resource, reflector->settings->namespace,
                  &options, on_item, reflector, ret_meta, err) != 0)
        return -1;
    reflector->sink->alive(reflector->arg);
    return check_stop(reflector, err);
}

static int list_pages(struct reflector *reflector, struct kube_list_meta *meta, struct err *err)
{
    int restarts = 0;
    reflector->sink->list_begin(reflector->arg);
    for (;;) {
        struct kube_list_meta page = {0};
        int rc = list_page(reflector, meta->continue_token, &page, err);
        bool has_expired = rc != 0 && err->code == ERR_GONE && meta->continue_token;
        kube_list_meta_release(meta);
        *meta = page;
        if (has_expired && ++restarts <= PAGE_RESTARTS_MAX) {
            kube_list_meta_release(meta);
            err_clear(err);
            reflector->sink->list_begin(reflector->arg);
            continue;
        }
        if (rc != 0)
            return -1;
        if (!meta->resource_version)
            return err_set(err, ERR_INVALID, "list without resourceVersion");
        if (!meta->continue_token)
            return 0;
    }
}

static int list_all(struct reflector *reflector, struct err *err)
{
    CLEANUP(kube_list_meta_release) struct kube_list_meta meta = {0};
    if (list_pages(reflector, &meta, err) != 0)
        return -1;
    free(reflector->resource_version);
    reflector->resource_version = steal_ptr(&meta.resource_version);
    reflector->listed_ms = clock_monotonic_ms();
    reflector->sink->list_end(reflector->arg);
    return 0;
}

static int on_event(void *arg, enum kube_watch_type type, cJSON *object, struct err *err)
{
    struct reflector *reflector = arg;
    CLEANUP_JSON cJSON *owned = object;
    reflector->sink->alive(reflector->arg);
    reflector->watch_events++;
    if (check_stop(reflector, err) != 0)
        return -1;
    const char *resource_version = json_string(json_object(owned, "metadata"), "resourceVersion");
    if (!resource_version)
        return err_set(err, ERR_INVALID, "watch: object without resourceVersion");
    int rc = 0;
    if (type == KUBE_WATCH_DELETED)
        rc = reflector->sink->deleted(reflector->arg, owned, err);
    else if (type != KUBE_WATCH_BOOKMARK)
        rc = reflector->sink->object(reflector->arg, owned, err);
    if (rc != 0)
        return -1;
    if (strcmp(reflector->resource_version, resource_version) != 0) {
        free(reflector->resource_version);
        reflector->resource_version = xstrdup(resource_version);
    }
    return 0;
}

static int watch_once(struct reflector *reflector, struct err *err)
{
    int seconds = WATCH_MIN_SECONDS + (int)(random_u64() % (WATCH_MAX_SECONDS - WATCH_MIN_SECONDS + 1));
    int64_t started_ms = clock_monotonic_ms();
    struct kube_list_options options = options_of(reflector);
    options.resource_version = reflector->resource_version;
    reflector->watch_events = 0;
    if (kube_watch(reflector->settings->client, reflector->settings->resource, reflector->settings->namespace,
                   &options, seconds, on_event, reflector, err) != 0)
        return -1;
    reflector->sink->alive(reflector->arg);
    if (reflector->watch_events == 0 && clock_monotonic_ms() - started_ms < SHORT_WATCH_MS)
        return err_set(err, ERR_UNAVAILABLE, "watch ended at once without an event");
    return 0;
}

static void pause_after(struct reflector *reflector, const struct err *err)
{
    if (stop_is_set(reflector->stop))
        return;
    reflector->sink->failed(reflector->arg, err);
    int64_t delay_ms = backoff_next(&reflector->backoff, clock_monotonic_ms(), random_u64());
    int64_t asked_ms = err->retry_after_ms < RETRY_AFTER_MAX_MS ? err->retry_after_ms : RETRY_AFTER_MAX_MS;
    stop_wait(reflector->stop, delay_ms > asked_ms ? delay_ms : asked_ms);
}

static void watch_until_relist(struct reflector *reflector)
{
    int64_t failing_since_ms = -1;
    while (!stop_is_set(reflector->stop)) {
        struct err err = ERR_INIT;
        int rc = watch_once(reflector, &err);
        int64_t now_ms = clock_monotonic_ms();
        if (rc == 0 || reflector->watch_events > 0)
            failing_since_ms = -1;
        if (rc == 0)
            continue;
        if (err.code == ERR_GONE) {
            if (now_ms - reflector->listed_ms < RELIST_AT_ONCE_MIN_MS)
                pause_after(reflector, &err);
            return;
        }
        if (failing_since_ms < 0)
            failing_since_ms = now_ms;
        if (err.code != ERR_THROTTLED && now_ms - failing_since_ms >= reflector->settings->relist_after_ms)
            return;
        pause_after(reflector, &err);
    }
}

void reflector_run(const struct reflector_settings *settings, const struct reflector_sink *sink, void *arg,
                   const struct stop *stop)
{
    struct reflector reflector = {.settings = settings, .sink = sink, .arg = arg, .stop = stop};
    backoff_init(&reflector.backoff, settings->max_backoff_ms);
    while (!stop_is_set(stop)) {
        struct err err = ERR_INIT;
        if (list_all(&reflector, &err) == 0)
            watch_until_relist(&reflector);
        else
            pause_after(&reflector, &err);
    }
    free(reflector.resource_version);
}
