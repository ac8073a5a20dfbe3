#include "operator/gateway/kube_node_ranges.h"

#include <pthread.h>
#include <string.h>

#include "operator/gateway/address_range.h"
#include "operator/queue/thread.h"
#include "operator/queue/workqueue.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define NODES_MAX            20000 /* four times the largest cluster that Kubernetes supports; then all are forgotten */
#define RANGES_MAX           4
#define REREAD_MS            10000 /* a node may have been made anew under its name: an address outside asks again */
#define UNKNOWN_REREAD_MS    600000 /* no right to read it, or it has no range (yet) */
#define QUEUE_MAX_BACKOFF_MS 1000

struct node {
    char *name;
    int64_t read_ms;
    size_t range_count;
    struct address_range ranges[RANGES_MAX];
};

struct kube_node_ranges {
    struct kube_client *client;
    struct workqueue *queue; /* of names to prefetch */
    pthread_t thread;
    bool started;
    pthread_mutex_t mu;
    struct node *nodes;         /* sorted by name; guarded by mu */
    size_t count, alloc;        /* guarded by mu */
    int64_t forbidden_until_ms; /* guarded by mu; 0: allowed as far as is known */
    bool not_used;              /* guarded by mu: pods have other addresses */
};

struct kube_node_ranges *kube_node_ranges_new(struct kube_client *client)
{
    struct kube_node_ranges *ranges = xcalloc(1, sizeof(*ranges));
    ranges->client = client;
    ranges->queue = workqueue_new(&clock_system, QUEUE_MAX_BACKOFF_MS);
    pthread_mutex_init(&ranges->mu, NULL);
    return ranges;
}

/* Where the node is, or where it belongs. Called with mu held. */
static size_t position_of(const struct kube_node_ranges *ranges, const char *name, bool *ret_found)
{
    size_t low = 0, high = ranges->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(ranges->nodes[middle].name, name);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_found = false;
    return low;
}

static struct node *find(const struct kube_node_ranges *ranges, const char *name)
{
    bool found;
    size_t at = position_of(ranges, name, &found);
    return found ? &ranges->nodes[at] : NULL;
}

static void forget_all(struct kube_node_ranges *ranges)
{
    for (size_t i = 0; i < ranges->count; i++) {
        free(ranges->nodes[i].name);
    }
    ranges->count = 0;
}

/* Takes node->name over. Called with mu held. */
static void put(struct kube_node_ranges *ranges, const struct node *node)
{
    if (ranges->count >= NODES_MAX) {
        forget_all(ranges);
    }
    bool found;
    size_t at = position_of(ranges, node->name, &found);
    if (found) {
        free(ranges->nodes[at].name);
        ranges->nodes[at] = *node;
        return;
    }
    if (ranges->count == ranges->alloc) {
        ranges->alloc = ranges->alloc ? ranges->alloc * 2 : 8;
        ranges->nodes = xreallocarray(ranges->nodes, ranges->alloc, sizeof(*ranges->nodes));
    }
    memmove(&ranges->nodes[at + 1], &ranges->nodes[at], (ranges->count - at) * sizeof(*ranges->nodes));
    ranges->nodes[at] = *node;
    ranges->count++;
}

/* "10.244.3.0/24"; IPv6 ranges are left out. */
static void add_range(struct node *node, const char *text)
{
    if (text && node->range_count < RANGES_MAX &&
        address_range_parse(text, strlen(text), &node->ranges[node->range_count])) {
        node->range_count++;
    }
}

static enum kube_node_range range_of(const struct node *node, struct in_addr address)
{
    if (node->range_count == 0) {
        return KUBE_NODE_UNKNOWN;
    }
    return address_ranges_have(node->ranges, node->range_count, address) ? KUBE_NODE_INSIDE
                                                                         : KUBE_NODE_OUTSIDE;
}

static int read_node(struct kube_node_ranges *ranges, const char *name, struct err *err)
{
    CLEANUP_JSON cJSON *tree = NULL;
    int64_t now = clock_monotonic_ms();
    struct node node = {.read_ms = now};
    if (kube_get(ranges->client, &kube_nodes, /* namespace= */ NULL, name, &tree, err) < 0) {
        if (err->code == ERR_FORBIDDEN) {
            pthread_mutex_lock(&ranges->mu);
            ranges->forbidden_until_ms = now + UNKNOWN_REREAD_MS;
            pthread_mutex_unlock(&ranges->mu);
            return 0;
        }
        if (err->code != ERR_NOT_FOUND) {
            return -1;
        }
    }
    const cJSON *spec = json_object(tree, "spec"), *item;
    cJSON_ArrayForEach(item, json_array(spec, "podCIDRs"))
    {
        add_range(&node, cJSON_GetStringValue(item));
    }
    if (node.range_count == 0) {
        add_range(&node, json_string(spec, "podCIDR"));
    }
    node.name = xstrdup(name);
    pthread_mutex_lock(&ranges->mu);
    put(ranges, &node);
    pthread_mutex_unlock(&ranges->mu);
    return 0;
}

/* What is known without asking; true if asking could tell more. */
static bool look_up(struct kube_node_ranges *ranges, const char *name, struct in_addr address,
                    enum kube_node_range *ret_range)
{
    int64_t now = clock_monotonic_ms();
    pthread_mutex_lock(&ranges->mu);
    const struct node *node = find(ranges, name);
    *ret_range = node && !ranges->not_used ? range_of(node, address) : KUBE_NODE_UNKNOWN;
    bool ask = !ranges->not_used && now >= ranges->forbidden_until_ms;
    if (node) {
        int64_t age_ms = now - node->read_ms;
        ask = ask && ((*ret_range == KUBE_NODE_OUTSIDE && age_ms >= REREAD_MS) ||
                      (*ret_range == KUBE_NODE_UNKNOWN && age_ms >= UNKNOWN_REREAD_MS));
    }
    pthread_mutex_unlock(&ranges->mu);
    return ask;
}

int kube_node_ranges_check(struct kube_node_ranges *ranges, const char *name, struct in_addr address,
                           enum kube_node_range *ret_range, struct err *err)
{
    enum kube_node_range range;
    if (look_up(ranges, name, address, &range)) {
        if (read_node(ranges, name, err) < 0) {
            return err_wrap(err, "node %s", name);
        }
        (void)look_up(ranges, name, address, &range);
    }
    *ret_range = range;
    return 0;
}

void kube_node_ranges_saw(struct kube_node_ranges *ranges, const char *name, struct in_addr address)
{
    pthread_mutex_lock(&ranges->mu);
    const struct node *node = find(ranges, name);
    bool news = !ranges->not_used && node && range_of(node, address) == KUBE_NODE_OUTSIDE;
    ranges->not_used = ranges->not_used || news;
    pthread_mutex_unlock(&ranges->mu);
    if (news) {
        log_info(
            "pods have addresses outside of the podCIDR of their node (%s): these ranges are not looked at",
            name);
    }
}

void kube_node_ranges_prefetch(struct kube_node_ranges *ranges, const char *name)
{
    enum kube_node_range range;
    if (look_up(ranges, name, (struct in_addr){0}, &range) && range == KUBE_NODE_UNKNOWN) {
        workqueue_add(ranges->queue, "", name);
    }
}

static void *run(void *arg)
{
    struct kube_node_ranges *ranges = arg;
    struct object_key key;
    while (workqueue_get(ranges->queue, &key)) {
        struct err err = ERR_INIT;
        if (read_node(ranges, key.name, &err) < 0) {
            log_debug("node %s: %s", key.name, err.msg); /* the check itself asks again */
        }
        workqueue_done(ranges->queue, &key);
        object_key_release(&key);
    }
    return NULL;
}

void kube_node_ranges_start(struct kube_node_ranges *ranges)
{
    ranges->thread = thread_start("node-ranges", run, ranges);
    ranges->started = true;
}

void kube_node_ranges_stop(struct kube_node_ranges *ranges)
{
    workqueue_shutdown(ranges->queue);
    if (ranges->started) {
        pthread_join(ranges->thread, NULL);
        ranges->started = false;
    }
}

void kube_node_ranges_free(struct kube_node_ranges *ranges)
{
    if (!ranges) {
        return;
    }
    workqueue_free(ranges->queue);
    forget_all(ranges);
    free(ranges->nodes);
    pthread_mutex_destroy(&ranges->mu);
    free(ranges);
}
