#include "runtime/host/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    alignas(max_align_t) unsigned char data[];
};

void arena_init(struct arena *arena)
{
    arena->chunks = NULL;
}

void arena_release(struct arena *arena)
{
    while (arena->chunks != NULL) {
        struct arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        free(chunk);
    }
}

static struct arena_chunk *chunk_new(size_t size)
{
    struct arena_chunk *chunk = xmalloc(sizeof(*chunk) + size);
    chunk->used = 0;
    chunk->size = size;
    return chunk;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    const size_t align = alignof(max_align_t);
    struct arena_chunk *chunk = arena->chunks;
    size_t rounded = (size + align - 1) / align * align;
    void *block;

    if (rounded < size)
        abort(); /* every size was checked against a limit far below this */
    if (chunk == NULL || chunk->size - chunk->used < rounded) {
        struct arena_chunk *fresh = chunk_new(rounded > ARENA_CHUNK_BYTES ? rounded : ARENA_CHUNK_BYTES);
        if (chunk != NULL && rounded > ARENA_CHUNK_BYTES) { /* go on filling the chunk in front */
            fresh->next = chunk->next;
            chunk->next = fresh;
        } else {
            fresh->next = chunk;
            arena->chunks = fresh;
        }
        chunk = fresh;
    }
    block = chunk->data + chunk->used;
    chunk->used += rounded;
    return block;
}

char *arena_strndup(struct arena *arena, const char *text, size_t len)
{
    char *copy = arena_alloc(arena, len + 1);
    if (len > 0)
        memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    return arena_strndup(arena, text, strlen(text));
}
