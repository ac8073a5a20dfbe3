/* block_cache.h - memory of one size that many threads need for a short while each: whoever takes a block gets the one that was given back
 * last on its processor, which is still in that processor's caches.
 *
 * A thread's own stack is not: with a thread for each of many connections, what a request needs of it was last touched a hundred requests ago.
 * Few blocks are kept for each processor (BLOCK_CACHE_KEPT): one that has none takes another's, and more than all of these are allocated
 * and freed.
 * Threads: any. Out of memory aborts.
 */
#ifndef CICADA_BASE_BLOCK_CACHE_H
#define CICADA_BASE_BLOCK_CACHE_H

#include <stddef.h>

#define BLOCK_CACHE_KEPT 8

struct block_cache;
struct block_cache *block_cache_new(size_t block_bytes);
/* All blocks have to be back. NULL is fine. */
void block_cache_free(struct block_cache *cache);

/* Aligned to a line of cache; what is in it is not defined. */
void *block_cache_take(struct block_cache *cache);
void block_cache_give(struct block_cache *cache, void *block); /* of this cache */

#endif
