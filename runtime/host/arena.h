/* arena.h - memory of one request, freed as a whole.
 *
 * Blocks live until arena_release(); there is no free of a single one. Large blocks get a chunk of their own.
 * Threads: none of its own; one owner at a time.
 */
#ifndef CICADA_HOST_ARENA_H
#define CICADA_HOST_ARENA_H

#include <stddef.h>

struct arena_chunk;
struct arena {
    unsigned char *at, *end;    /* what is left of the memory being filled */
    struct arena_chunk *chunks; /* to be freed */
};

#define ARENA_CHUNK_BYTES 4096

void arena_init(struct arena *arena);
/* The same, but begins with `storage`, which outlives the arena and is aligned for any type: little takes no allocation. */
void arena_init_with(struct arena *arena, void *storage, size_t size);
void arena_release(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t size); /* aligned for any type, not zeroed */
char *arena_strndup(struct arena *arena, const char *text, size_t len);
char *arena_strdup(struct arena *arena, const char *text);

#endif
