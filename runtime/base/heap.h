/* heap.h - an intrusive binary min-heap for timers and delays.
 *
 * Embed struct heap_node; key is the caller's 64-bit priority (a deadline in ms). Equal keys come out in any order.
 * Threads: none of its own.
 */
#ifndef CICADA_BASE_HEAP_H
#define CICADA_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
    int64_t key;
    size_t index; /* HEAP_ABSENT when in no heap: initialise with heap_node_init() */
};
#define HEAP_ABSENT SIZE_MAX

struct heap {
    struct heap_node **nodes;
    size_t count, alloc;
};

static inline void heap_node_init(struct heap_node *node)
{
    node->index = HEAP_ABSENT;
}
static inline bool heap_contains(const struct heap_node *node)
{
    return node->index != HEAP_ABSENT;
}

void heap_init(struct heap *heap);
void heap_release(struct heap *heap); /* nodes stay the caller's */
void heap_insert(struct heap *heap, struct heap_node *node, int64_t key);
void heap_remove(struct heap *heap, struct heap_node *node); /* nothing if absent */
struct heap_node *heap_min(const struct heap *heap);         /* NULL: empty */

#endif
