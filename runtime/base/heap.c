#include "runtime/base/heap.h"

#include <assert.h>

#include "runtime/base/mem.h"

void heap_init(struct heap *heap)
{
    *heap = (struct heap){0};
}

void heap_release(struct heap *heap)
{
    free(heap->nodes);
    heap_init(heap);
}

static void place(struct heap *heap, struct heap_node *node, size_t index)
{
    heap->nodes[index] = node;
    node->index = index;
}

static void sift_up(struct heap *heap, struct heap_node *node, size_t index)
{
    while (index > 0) {
        size_t parent = (index - 1) / 2;
        if (heap->nodes[parent]->key <= node->key) {
            break;
        }
        place(heap, heap->nodes[parent], index);
        index = parent;
    }
    place(heap, node, index);
}

static void sift_down(struct heap *heap, struct heap_node *node, size_t index)
{
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count && heap->nodes[child + 1]->key < heap->nodes[child]->key) {
            child++;
        }
        if (node->key <= heap->nodes[child]->key) {
            break;
        }
        place(heap, heap->nodes[child], index);
        index = child;
    }
    place(heap, node, index);
}

void heap_insert(struct heap *heap, struct heap_node *node, int64_t key)
{
    assert(!heap_contains(node));
    if (heap->count == heap->alloc) {
        heap->alloc = heap->alloc ? heap->alloc * 2 : 16;
        heap->nodes = xreallocarray(heap->nodes, heap->alloc, sizeof(struct heap_node *));
    }
    node->key = key;
    sift_up(heap, node, heap->count++);
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    if (!heap_contains(node)) {
        return;
    }
    size_t index = node->index;
    assert(index < heap->count && heap->nodes[index] == node);
    struct heap_node *last = heap->nodes[--heap->count];
    node->index = HEAP_ABSENT;
    if (last == node) {
        return;
    }
    /* The last node takes the gap; it may belong above or below it. */
    if (index > 0 && last->key < heap->nodes[(index - 1) / 2]->key) {
        sift_up(heap, last, index);
    } else {
        sift_down(heap, last, index);
    }
}

struct heap_node *heap_min(const struct heap *heap)
{
    return heap->count > 0 ? heap->nodes[0] : NULL;
}
