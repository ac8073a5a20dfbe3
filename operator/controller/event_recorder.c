/* event_recorder.c - Events of core/v1, sent by a thread so that no reconciliation waits for them. */
#include <pthread.h>
#include <sys/queue.h>

#include "operator/controller/controller.h"
#include "operator/queue/thread.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define uthash_malloc(size) xmalloc(size)
#include <uthash.h>

#define QUEUE_MAX         256
#define SENT_MAX          256 /* events whose repeats are counted */
#define WINDOW_MS         600000
#define MESSAGE_MAX_BYTES 1024
#define NAME_MAX_BYTES    253
#define REQUEST_LIMIT_MS  3000
#define FLUSH_LIMIT_MS    3000
#define TRIES             3
#define RETRY_MS          1000

struct event {
    TAILQ_ENTRY(event) link;
    char *api_version, *kind, *namespace, *name, *uid, *type, *reason, *message;
    int64_t wall_ms;
};
TAILQ_HEAD(event_list, event);

/* What a repeat is counted on. */
struct sent {
    UT_hash_handle hh;
    char *namespace, *name; /* of the Event object */
    int64_t count;
    int64_t last_ms; /* monotonic */
    char key[];
};

struct event_recorder {
    struct kube_client *client; /* derived */
    char *component;
    struct metrics *own_metrics; /* when the program gave none */
    struct metric *sent_total, *dropped_total, *failed_total;
    pthread_t thread;
    bool is_started;
    struct stop stop;
    int64_t flush_deadline_ms; /* written before stop is set */
    struct sent *sent;         /* recorder's thread only; longest unused first */
    pthread_mutex_t mu;
    pthread_cond_t changed;
    struct event_list queue; /* guarded by mu */
    size_t queued;           /* guarded by mu */
};

static void register_metrics(struct event_recorder *recorder, struct metrics *metrics)
{
    static const char *const by_result[] = {"result", NULL};
    struct metric_family *family = metrics_counter(metrics, "cicada_operator_events_total",
                                                   "Events: sent, dropped (queue full), failed.", by_result);
    recorder->sent_total = metric_family_get(family, (const char *const[]){"sent"});
    recorder->dropped_total = metric_family_get(family, (const char *const[]){"dropped"});
    recorder->failed_total = metric_family_get(family, (const char *const[]){"failed"});
}

struct event_recorder *event_recorder_new(struct kube_client *client, const char *component,
                                          struct metrics *metrics)
{
    struct event_recorder *recorder = xcalloc(1, sizeof(*recorder));
    recorder->client = kube_client_new_derived(client, REQUEST_LIMIT_MS);
    recorder->component = xstrdup(component);
    stop_init(&recorder->stop);
    pthread_mutex_init(&recorder->mu, NULL);
    pthread_cond_init(&recorder->changed, NULL);
    TAILQ_INIT(&recorder->queue);
    if (!metrics)
        metrics = recorder->own_metrics = metrics_new();
    register_metrics(recorder, metrics);
    return recorder;
}

static void event_free(struct event *event)
{
    if (!event)
        return;
    free(event->api_version);
    free(event->kind);
    free(event->namespace);
    free(event->name);
    free(event->uid);
    free(event->type);
    free(event->reason);
    free(event->message);
    free(event);
}

static void event_free_p(struct event **event)
{
    event_free(*event);
}

static void sent_drop(struct event_recorder *recorder, struct sent *sent)
{
    HASH_DEL(recorder->sent, sent);
    free(sent->namespace);
    free(sent->name);
    free(sent);
}

void event_recorder_free(struct event_recorder *recorder)
{
    if (!recorder)
        return;
    struct event *event;
    while ((event = TAILQ_FIRST(&recorder->queue))) {
        TAILQ_REMOVE(&recorder->queue, event, link);
        event_free(event);
    }
    struct sent *sent, *next;
    HASH_ITER(hh, recorder->sent, sent, next)
    sent_drop(recorder, sent);
    kube_client_free(recorder->client);
    stop_release(&recorder->stop);
    pthread_cond_destroy(&recorder->changed);
    pthread_mutex_destroy(&recorder->mu);
    metrics_free(recorder->own_metrics);
    free(recorder->component);
    free(recorder);
}

/* ---- in ---- */

/* At most max bytes, cut between characters. */
static char *text_cut(const char *text, size_t max)
{
    size_t len = strlen(text);
    if (len > max) {
        len = max;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
            len--;
    }
    return xstrndup(text, len);
}

bool event_recorder_emit(struct event_recorder *recorder, const char *api_version, const char *kind,
                         const char *namespace, const char *name, const char *uid, const char *type,
                         const char *reason, const char *message)
{
    struct event *event = xcalloc(1, sizeof(*event));
    event->api_version = xstrdup(api_version);
    event->kind = xstrdup(kind);
    event->namespace = xstrdup(namespace ? namespace : "");
    event->name = xstrdup(name);
    event->uid = xstrdup(uid ? uid : "");
    event->type = xstrdup(type);
    event->reason = xstrdup(reason);
    event->message = text_cut(message, MESSAGE_MAX_BYTES);
    event->wall_ms = clock_wall_ms();
    pthread_mutex_lock(&recorder->mu);
    bool fits = recorder->queued < QUEUE_MAX;
    if (fits) {
        TAILQ_INSERT_TAIL(&recorder->queue, event, link);
        recorder->queued++;
        pthread_cond_signal(&recorder->changed);
    }
    pthread_mutex_unlock(&recorder->mu);
    if (!fits) {
        metric_add(recorder->dropped_total, 1);
        event_free(event);
    }
    return fits;
}

/* ---- out ---- */

static const char *namespace_of(const struct event *event)
{
    return event->namespace[0] ? event->namespace : "default";
}

/* "<object>.<16 hex digits>", as client-go names them. */
static char *object_name(const struct event *event)
{
    char suffix[17];
    random_hex(suffix, 8);
    size_t len = strnlen(event->name, NAME_MAX_BYTES - 17);
    while (len > 0 && (event->name[len - 1] == '-' || event->name[len - 1] == '.'))
        len--;
    return xasprintf("%.*s.%s", (int)len, event->name, suffix);
}

static cJSON *object_build(const struct event_recorder *recorder, const struct event *event, const char *name)
{
    char time[RFC3339_SIZE];
    format_rfc3339(event->wall_ms, time);
    cJSON *object = cJSON_CreateObject();
    json_add_string(object, "apiVersion", "v1");
    json_add_string(object, "kind", "Event");
    cJSON *metadata = json_add_object(object, "metadata");
    json_add_string(metadata, "name", name);
    json_add_string(metadata, "namespace", namespace_of(event));
    cJSON *involved = json_add_object(object, "involvedObject");
    json_add_string(involved, "apiVersion", event->api_version);
    json_add_string(involved, "kind", event->kind);
    if (event->namespace[0])
        json_add_string(involved, "namespace", event->namespace);
    json_add_string(involved, "name", event->name);
    if (event->uid[0])
        json_add_string(involved, "uid", event->uid);
    json_add_string(object, "type", event->type);
    json_add_string(object, "reason", event->reason);
    json_add_string(object, "message", event->message);
    json_add_string(json_add_object(object, "source"), "component", recorder->component);
    json_add_string(object, "reportingComponent", recorder->component);
    json_add_int64(object, "count", 1);
    json_add_string(object, "firstTimestamp", time);
    json_add_string(object, "lastTimestamp", time);
    return object;
}

static char *sent_key(const struct event *event)
{
    return xasprintf("%s\n%s\n%s\n%s\n%s\n%s\n%s", event->kind, event->namespace, event->name, event->uid,
                     event->type, event->reason, event->message);
}

static struct sent *sent_find(struct event_recorder *recorder, const struct event *event)
{
    CLEANUP_FREE char *key = sent_key(event);
    struct sent *sent;
    HASH_FIND_STR(recorder->sent, key, sent);
    if (sent && clock_monotonic_ms() - sent->last_ms > WINDOW_MS) {
        sent_drop(recorder, sent);
        return NULL;
    }
    return sent;
}

static void sent_add(struct event_recorder *recorder, const struct event *event, const char *name)
{
    CLEANUP_FREE char *key = sent_key(event);
    size_t len = strlen(key);
    struct sent *sent = xcalloc(1, sizeof(*sent) + len + 1);
    memcpy(sent->key, key, len + 1);
    sent->namespace = xstrdup(namespace_of(event));
    sent->name = xstrdup(name);
    sent->count = 1;
    sent->last_ms = clock_monotonic_ms();
    HASH_ADD_KEYPTR(hh, recorder->sent, sent->key, len, sent);
    if (HASH_COUNT(recorder->sent) > SENT_MAX)
        sent_drop(recorder, recorder->sent);
}

static int send_new(struct event_recorder *recorder, const struct event *event, struct err *err)
{
    CLEANUP_FREE char *name = object_name(event);
    CLEANUP_JSON cJSON *object = object_build(recorder, event, name);
    if (kube_create(recorder->client, &kube_events, namespace_of(event), object, NULL, err) != 0)
        return -1;
    sent_add(recorder, event, name);
    return 0;
}

static int send_repeat(struct event_recorder *recorder, const struct event *event, struct sent *sent,
                       struct err *err)
{
    char time[RFC3339_SIZE];
    format_rfc3339(event->wall_ms, time);
    CLEANUP_JSON cJSON *patch = cJSON_CreateObject();
    json_add_int64(patch, "count", sent->count + 1);
    json_add_string(patch, "lastTimestamp", time);
    if (kube_merge_patch(recorder->client, &kube_events, sent->namespace, sent->name, /* subresource= */ NULL,
                         /* field_manager= */ NULL, patch, NULL, err) != 0)
        return -1;
    sent->count++;
    sent->last_ms = clock_monotonic_ms();
    /* To the end of the table's order: what repeats stays, what is over leaves first. */
    HASH_DEL(recorder->sent, sent);
    HASH_ADD_KEYPTR(hh, recorder->sent, sent->key, strlen(sent->key), sent);
    return 0;
}

static int send_once(struct event_recorder *recorder, const struct event *event, struct err *err)
{
    struct sent *sent = sent_find(recorder, event);
    if (!sent)
        return send_new(recorder, event, err);
    if (send_repeat(recorder, event, sent, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err); /* the server keeps Events for an hour, or less */
    sent_drop(recorder, sent);
    return send_new(recorder, event, err);
}

static bool may_succeed_later(const struct err *err)
{
    return err->code == ERR_UNAVAILABLE || err->code == ERR_TIMEOUT || err->code == ERR_THROTTLED;
}

static void send_event(struct event_recorder *recorder, const struct event *event)
{
    struct err err = ERR_INIT;
    for (int try = 1; try <= TRIES; try++) {
        if (stop_is_set(&recorder->stop)) {
            int64_t left_ms = recorder->flush_deadline_ms - clock_monotonic_ms();
            kube_client_set_timeout(recorder->client, left_ms > 1 ? left_ms : 1);
        }
        err_clear(&err);
        if (send_once(recorder, event, &err) == 0) {
            metric_add(recorder->sent_total, 1);
            return;
        }
        if (!may_succeed_later(&err) || try == TRIES || stop_wait(&recorder->stop, (int64_t)try * RETRY_MS))
            break;
    }
    metric_add(recorder->failed_total, 1);
    log_warn("event %s of %s %s/%s: %s", event->reason, event->kind, event->namespace, event->name, err.msg);
}

/* The next event, or NULL at the end: stopped, and nothing left or no time left. */
static struct event *take(struct event_recorder *recorder)
{
    pthread_mutex_lock(&recorder->mu);
    while (!TAILQ_FIRST(&recorder->queue) && !stop_is_set(&recorder->stop))
        pthread_cond_wait(&recorder->changed, &recorder->mu);
    struct event *event = TAILQ_FIRST(&recorder->queue);
    if (event && stop_is_set(&recorder->stop) && clock_monotonic_ms() >= recorder->flush_deadline_ms)
        event = NULL;
    if (event) {
        TAILQ_REMOVE(&recorder->queue, event, link);
        recorder->queued--;
    }
    pthread_mutex_unlock(&recorder->mu);
    return event;
}

static void *run(void *arg)
{
    struct event_recorder *recorder = arg;
    for (;;) {
        CLEANUP(event_free_p) struct event *event = take(recorder);
        if (!event)
            return NULL;
        send_event(recorder, event);
    }
}

void event_recorder_start(struct event_recorder *recorder)
{
    recorder->is_started = true;
    recorder->thread = thread_start("events", run, recorder);
}

void event_recorder_stop(struct event_recorder *recorder)
{
    pthread_mutex_lock(&recorder->mu);
    recorder->flush_deadline_ms = clock_monotonic_ms() + FLUSH_LIMIT_MS;
    stop_set(&recorder->stop);
    pthread_cond_broadcast(&recorder->changed);
    pthread_mutex_unlock(&recorder->mu);
    if (!recorder->is_started)
        return;
    pthread_join(recorder->thread, NULL);
    recorder->is_started = false;
}
