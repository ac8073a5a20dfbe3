#include "runtime/base/block_cache.h"

#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/base/mem.h"

#define LINE_BYTES 64
#define SHELVES    16 /* processors beyond these share them */
#ifdef __SANITIZE_ADDRESS__
#define KEPT 0 /* so that what is used after it was given back is found */
#else
#define KEPT BLOCK_CACHE_KEPT
#endif

/* A place holds a block or NULL, and is only ever exchanged as a whole: nobody waits for anybody. */
struct shelf {
    alignas(LINE_BYTES) _Atomic(void *) places[BLOCK_CACHE_KEPT];
};

struct block_cache {
    size_t block_bytes;
    struct shelf shelves[SHELVES];
};

struct block_cache *block_cache_new(size_t block_bytes)
{
    struct block_cache *cache = xcalloc_aligned(1, sizeof(*cache), alignof(struct block_cache));

    cache->block_bytes = (block_bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    return cache;
}

void block_cache_free(struct block_cache *cache)
{
    if (cache == NULL)
        return;
    for (int i = 0; i < SHELVES; i++)
        for (int j = 0; j < KEPT; j++)
            free(atomic_load(&cache->shelves[i].places[j]));
    free(cache);
}

/* The thread may be on another processor before it is used: then it is only less likely to be near. */
static struct shelf *shelf_here(struct block_cache *cache)
{
    int cpu = sched_getcpu();

    return &cache->shelves[cpu > 0 ? cpu % SHELVES : 0];
}

void *block_cache_take(struct block_cache *cache)
{
    struct shelf *shelf = shelf_here(cache);

    for (int i = 0; i < KEPT; i++) {
        if (atomic_load_explicit(&shelf->places[i], memory_order_relaxed) == NULL)
            continue;
        void *block = atomic_exchange_explicit(&shelf->places[i], NULL, memory_order_acquire);
        if (block != NULL)
            return block;
    }
    return xcalloc_aligned(1, cache->block_bytes, LINE_BYTES);
}

void block_cache_give(struct block_cache *cache, void *block)
{
    struct shelf *shelf = shelf_here(cache);

    for (int i = 0; i < KEPT; i++) {
        void *empty = NULL;
        if (atomic_compare_exchange_strong_explicit(&shelf->places[i], &empty, block, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    free(block);
}
