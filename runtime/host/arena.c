#include "runtime/host/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

struct arena_chunk {
    struct arena_chunk *next;
    alignas(max_align_t) unsigned char data[];
};

void arena_init(struct arena *arena)
{
    arena_init_with(arena, NULL, 0);
}

void arena_init_with(struct arena *arena, void *storage, size_t size)
{
    arena->at = storage;
    arena->end = storage ? arena->at + size : NULL;
    arena->chunks = NULL;
}

void arena_release(struct arena *arena)
{
    while (arena->chunks != NULL) {
        struct arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        free(chunk);
    }
    arena->at = arena->end = NULL;
}

static unsigned char *add_chunk(struct arena *arena, size_t size)
{
    struct arena_chunk *chunk = xmalloc(sizeof(*chunk) + size);

    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk->data;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    const size_t align = alignof(max_align_t);
    size_t rounded = (size + align - 1) / align * align;
    unsigned char *block;

    if (rounded < size)
        abort();      /* every size was checked against a limit far below this */
    if (rounded == 0) /* of an arena without memory there is no address, not even of nothing */
        rounded = align;
    if (rounded > ARENA_CHUNK_BYTES && rounded > (size_t)(arena->end - arena->at))
        return add_chunk(arena, rounded); /* and go on filling what there is */
    if (rounded > (size_t)(arena->end - arena->at)) {
        arena->at = add_chunk(arena, ARENA_CHUNK_BYTES);
        arena->end = arena->at + ARENA_CHUNK_BYTES;
    }
    block = arena->at;
    arena->at += rounded;
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
