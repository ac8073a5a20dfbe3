#include "runtime/base/heap.h"
#include "runtime/tests/support_test.h"

#define COUNT 200

static void assert_sane(const struct heap *heap)
{
    for (size_t i = 0; i < heap->count; i++) {
        assert_int_equal(heap->nodes[i]->index, i);
        assert_true(i == 0 || heap->nodes[(i - 1) / 2]->key <= heap->nodes[i]->key);
    }
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void comes_out_in_order(void **state)
{
    (void)state;
    struct heap heap;
    struct heap_node nodes[COUNT];
    uint32_t seed = 1;
    heap_init(&heap);
    assert_null(heap_min(&heap));
    for (int i = 0; i < COUNT; i++) {
        heap_node_init(&nodes[i]);
        assert_false(heap_contains(&nodes[i]));
        heap_insert(&heap, &nodes[i], next_random(&seed) % 50);
        assert_sane(&heap);
    }
    int64_t last = INT64_MIN;
    for (int i = 0; i < COUNT; i++) {
        struct heap_node *min = heap_min(&heap);
        assert_true(min->key >= last);
        last = min->key;
        heap_remove(&heap, min);
        assert_false(heap_contains(min));
        assert_sane(&heap);
    }
    assert_null(heap_min(&heap));
    heap_release(&heap);
}

/* Random inserts and removals from anywhere, against a plain search for the smallest. */
static void agrees_with_a_search(void **state)
{
    (void)state;
    struct heap heap;
    struct heap_node nodes[COUNT];
    uint32_t seed = 7;
    heap_init(&heap);
    for (int i = 0; i < COUNT; i++) {
        heap_node_init(&nodes[i]);
    }
    for (int step = 0; step < 5000; step++) {
        struct heap_node *node = &nodes[next_random(&seed) % COUNT];
        if (heap_contains(node)) {
            heap_remove(&heap, node);
            heap_remove(&heap, node); /* absent: nothing */
        } else {
            heap_insert(&heap, node, (int64_t)(next_random(&seed) % 1000) - 500);
        }
        assert_sane(&heap);
        const struct heap_node *smallest = NULL;
        for (int i = 0; i < COUNT; i++) {
            if (heap_contains(&nodes[i]) && (!smallest || nodes[i].key < smallest->key)) {
                smallest = &nodes[i];
            }
        }
        assert_true(smallest ? heap_min(&heap)->key == smallest->key : !heap_min(&heap));
    }
    heap_release(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_out_in_order),
        cmocka_unit_test(agrees_with_a_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
