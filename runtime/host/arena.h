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
    struct arena_chunk *chunks; /* the first is the one being filled */
};

#define ARENA_CHUNK_BYTES 4096

void arena_init(struct arena *arena);
void arena_release(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t size); /* aligned for any type, not zeroed */
char *arena_strndup(struct arena *arena, const char *text, size_t len);
char *arena_strdup(struct arena *arena, const char *text);

#endif
