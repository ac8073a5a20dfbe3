#include "operator/queue/workqueue.h"

#include <pthread.h>
#include <sys/queue.h>

#include "runtime/base/heap.h"
#include "runtime/base/mem.h"

#define uthash_malloc(size) xmalloc(size)
#include <uthash.h>

#define BACKOFF_BASE_MS    5
#define BUCKET_INTERVAL_MS 100 /* 10 a second */
#define BUCKET_BURST       100

/* One key. It lives as long as anything is known about it: waiting, delayed, processed, or failed before. */
struct item {
    UT_hash_handle hh;
    TAILQ_ENTRY(item) ready_link; /* in ready while dirty and not processing */
    struct heap_node delay;       /* in delayed, key: when to add it */
    bool dirty;
    bool processing;
    int failures;
    size_t name_offset;
    char key[]; /* "namespace/name" */
};
TAILQ_HEAD(item_list, item);

struct workqueue {
    const struct clock *clock;
    int64_t max_backoff_ms;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    struct item *items;     /* guarded by mu; by key */
    struct item_list ready; /* guarded by mu */
    size_t ready_count;     /* guarded by mu */
    struct heap delayed;    /* guarded by mu */
    int64_t bucket_full_ms; /* guarded by mu; when the bucket would be full again */
    bool closed, shut_down; /* guarded by mu */
};

void object_key_release(struct object_key *key)
{
    free(key->namespace);
    free(key->name);
    key->namespace = key->name = NULL;
}

struct workqueue *workqueue_new(const struct clock *clock, int64_t max_backoff_ms)
{
    struct workqueue *queue = xcalloc(1, sizeof(*queue));
    queue->clock = clock;
    queue->max_backoff_ms = max_backoff_ms;
    pthread_mutex_init(&queue->mu, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    TAILQ_INIT(&queue->ready);
    heap_init(&queue->delayed);
    return queue;
}

void workqueue_free(struct workqueue *queue)
{
    if (!queue)
        return;
    struct item *item = queue->items;
    HASH_CLEAR(hh, queue->items);
    while (item) {
        struct item *next = item->hh.next;
        free(item);
        item = next;
    }
    heap_release(&queue->delayed);
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->mu);
    free(queue);
}

static char *key_text(const char *namespace, const char *name)
{
    return xasprintf("%s/%s", namespace ? namespace : "", name);
}

static struct item *item_find(struct workqueue *queue, const char *namespace, const char *name)
{
    CLEANUP_FREE char *key = key_text(namespace, name);
    struct item *item;
    HASH_FIND_STR(queue->items, key, item);
    return item;
}

static struct item *item_find_or_add(struct workqueue *queue, const char *namespace, const char *name)
{
    CLEANUP_FREE char *key = key_text(namespace, name);
    struct item *item;
    HASH_FIND_STR(queue->items, key, item);
    if (item)
        return item;
    size_t len = strlen(key);
    item = xcalloc(1, sizeof(*item) + len + 1);
    memcpy(item->key, key, len + 1);
    item->name_offset = len - strlen(name);
    heap_node_init(&item->delay);
    HASH_ADD_KEYPTR(hh, queue->items, item->key, len, item);
    return item;
}

static void item_drop_if_idle(struct workqueue *queue, struct item *item)
{
    if (item->dirty || item->processing || item->failures > 0 || heap_contains(&item->delay))
        return;
    HASH_DEL(queue->items, item);
    free(item);
}

static void item_make_ready(struct workqueue *queue, struct item *item)
{
    TAILQ_INSERT_TAIL(&queue->ready, item, ready_link);
    queue->ready_count++;
    pthread_cond_signal(&queue->changed);
}

static void item_mark_dirty(struct workqueue *queue, struct item *item)
{
    if (item->dirty)
        return;
    item->dirty = true;
    if (!item->processing)
        item_make_ready(queue, item);
}

static void delay_item(struct workqueue *queue, struct item *item, int64_t delay_ms)
{
    if (delay_ms <= 0) {
        item_mark_dirty(queue, item);
        return;
    }
    int64_t due_ms = queue->clock->monotonic_ms(queue->clock) + delay_ms;
    if (heap_contains(&item->delay)) {
        if (item->delay.key <= due_ms)
            return;
        heap_remove(&queue->delayed, &item->delay);
    }
    heap_insert(&queue->delayed, &item->delay, due_ms);
    /* All of them: whoever sleeps may do so until a later time, or for ever. */
    if (heap_min(&queue->delayed) == &item->delay)
        pthread_cond_broadcast(&queue->changed);
}

static void move_due(struct workqueue *queue)
{
    int64_t now_ms = queue->clock->monotonic_ms(queue->clock);
    for (;;) {
        struct heap_node *node = heap_min(&queue->delayed);
        if (!node || node->key > now_ms)
            return;
        heap_remove(&queue->delayed, node);
        item_mark_dirty(queue, container_of(node, struct item, delay));
    }
}

static void set_closed(struct workqueue *queue, bool closed)
{
    pthread_mutex_lock(&queue->mu);
    queue->closed = closed;
    pthread_mutex_unlock(&queue->mu);
}

void workqueue_close(struct workqueue *queue)
{
    set_closed(queue, true);
}

void workqueue_open(struct workqueue *queue)
{
    set_closed(queue, false);
}

void workqueue_add(struct workqueue *queue, const char *namespace, const char *name)
{
    workqueue_add_after(queue, namespace, name, 0);
}

void workqueue_add_after(struct workqueue *queue, const char *namespace, const char *name, int64_t delay_ms)
{
    pthread_mutex_lock(&queue->mu);
    if (!queue->shut_down && !queue->closed)
        delay_item(queue, item_find_or_add(queue, namespace, name), delay_ms);
    pthread_mutex_unlock(&queue->mu);
}

static int64_t item_backoff_ms(const struct workqueue *queue, struct item *item)
{
    int64_t delay_ms = BACKOFF_BASE_MS;
    for (int i = 0; i < item->failures && delay_ms < queue->max_backoff_ms; i++)
        delay_ms *= 2;
    if (item->failures < INT32_MAX)
        item->failures++;
    return delay_ms < queue->max_backoff_ms ? delay_ms : queue->max_backoff_ms;
}

/* Takes a token of the bucket, on credit if it is empty; returns how long the credit lasts. */
static int64_t bucket_wait_ms(struct workqueue *queue)
{
    int64_t now_ms = queue->clock->monotonic_ms(queue->clock);
    if (queue->bucket_full_ms < now_ms)
        queue->bucket_full_ms = now_ms;
    queue->bucket_full_ms += BUCKET_INTERVAL_MS;
    int64_t wait_ms = queue->bucket_full_ms - now_ms - (int64_t)BUCKET_BURST * BUCKET_INTERVAL_MS;
    return wait_ms > 0 ? wait_ms : 0;
}

void workqueue_add_backoff(struct workqueue *queue, const char *namespace, const char *name)
{
    pthread_mutex_lock(&queue->mu);
    if (!queue->shut_down && !queue->closed) {
        struct item *item = item_find_or_add(queue, namespace, name);
        int64_t item_ms = item_backoff_ms(queue, item);
        int64_t bucket_ms = bucket_wait_ms(queue);
        delay_item(queue, item, item_ms > bucket_ms ? item_ms : bucket_ms);
    }
    pthread_mutex_unlock(&queue->mu);
}

void workqueue_forget(struct workqueue *queue, const char *namespace, const char *name)
{
    pthread_mutex_lock(&queue->mu);
    struct item *item = item_find(queue, namespace, name);
    if (item) {
        item->failures = 0;
        item_drop_if_idle(queue, item);
    }
    pthread_mutex_unlock(&queue->mu);
}

static void wait_for_change(struct workqueue *queue)
{
    struct heap_node *next = heap_min(&queue->delayed);
    if (!next) {
        pthread_cond_wait(&queue->changed, &queue->mu);
        return;
    }
    int64_t wait_ms = next->key - queue->clock->monotonic_ms(queue->clock);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&queue->changed, &queue->mu, &until);
}

bool workqueue_get(struct workqueue *queue, struct object_key *ret_key)
{
    pthread_mutex_lock(&queue->mu);
    struct item *item = NULL;
    while (!queue->shut_down) {
        move_due(queue);
        item = TAILQ_FIRST(&queue->ready);
        if (item)
            break;
        wait_for_change(queue);
    }
    if (item) {
        TAILQ_REMOVE(&queue->ready, item, ready_link);
        queue->ready_count--;
        item->dirty = false;
        item->processing = true;
        ret_key->namespace = xstrndup(item->key, item->name_offset - 1);
        ret_key->name = xstrdup(item->key + item->name_offset);
    }
    pthread_mutex_unlock(&queue->mu);
    return item != NULL;
}

void workqueue_done(struct workqueue *queue, const struct object_key *key)
{
    pthread_mutex_lock(&queue->mu);
    struct item *item = item_find(queue, key->namespace, key->name);
    if (item && item->processing) {
        item->processing = false;
        if (item->dirty)
            item_make_ready(queue, item);
        item_drop_if_idle(queue, item);
    }
    pthread_mutex_unlock(&queue->mu);
}

void workqueue_shutdown(struct workqueue *queue)
{
    pthread_mutex_lock(&queue->mu);
    queue->shut_down = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->mu);
}

size_t workqueue_depth(struct workqueue *queue)
{
    pthread_mutex_lock(&queue->mu);
    move_due(queue);
    size_t depth = queue->ready_count;
    pthread_mutex_unlock(&queue->mu);
    return depth;
}
