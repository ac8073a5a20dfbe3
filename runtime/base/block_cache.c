#include "runtime/base/block_cache.h"

#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/mem.h"

#define LINE_BYTES  64
#define SHELVES_MAX 16 /* processors beyond these share them */
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
    unsigned shelf_count;
    struct shelf shelves[SHELVES_MAX];
};

struct block_cache *block_cache_new(size_t block_bytes)
{
    struct block_cache *cache = xcalloc_aligned(1, sizeof(*cache), alignof(struct block_cache));

    long processors = sysconf(_SC_NPROCESSORS_CONF);

    cache->shelf_count = processors < 1 ? 1 : processors > SHELVES_MAX ? SHELVES_MAX : (unsigned)processors;
    cache->block_bytes = (block_bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    return cache;
}

void block_cache_free(struct block_cache *cache)
{
    if (cache == NULL)
        return;
    for (unsigned i = 0; i < cache->shelf_count; i++)
        for (int j = 0; j < KEPT; j++)
            free(atomic_load(&cache->shelves[i].places[j]));
    free(cache);
}

/* The thread may be on another processor before it is used: then it is only less likely to be near. */
static unsigned shelf_here(const struct block_cache *cache)
{
    int cpu = sched_getcpu();

    return cpu > 0 ? (unsigned)cpu % cache->shelf_count : 0;
}

static void *take_from(struct shelf *shelf)
{
    for (int i = 0; i < KEPT; i++) {
        if (atomic_load_explicit(&shelf->places[i], memory_order_relaxed) == NULL)
            continue;
        void *block = atomic_exchange_explicit(&shelf->places[i], NULL, memory_order_acquire);
        if (block != NULL)
            return block;
    }
    return NULL;
}

static bool give_to(struct shelf *shelf, void *block)
{
    for (int i = 0; i < KEPT; i++) {
        void *empty = NULL;
        if (atomic_load_explicit(&shelf->places[i], memory_order_relaxed) == NULL &&
            atomic_compare_exchange_strong_explicit(&shelf->places[i], &empty, block, memory_order_release,
                                                    memory_order_relaxed))
            return true;
    }
    return false;
}

/* Who waits in between may go on elsewhere: one shelf runs empty while another is full. */
void *block_cache_take(struct block_cache *cache)
{
    unsigned here = shelf_here(cache);

    for (unsigned i = 0; i < cache->shelf_count; i++) {
        void *block = take_from(&cache->shelves[(here + i) % cache->shelf_count]);
        if (block != NULL)
            return block;
    }
    return xcalloc_aligned(1, cache->block_bytes, LINE_BYTES);
}

void block_cache_give(struct block_cache *cache, void *block)
{
    unsigned here = shelf_here(cache);

    for (unsigned i = 0; i < cache->shelf_count; i++) {
        if (give_to(&cache->shelves[(here + i) % cache->shelf_count], block))
            return;
    }
    free(block);
}
