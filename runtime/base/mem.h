/* mem.h - allocation that aborts when memory is out, cleanup attributes, ownership helpers.
 *
 * Out of memory aborts the process (a container restarts); therefore every size that comes from outside is
 * checked against a named limit before it gets here.
 */
#ifndef CICADA_BASE_MEM_H
#define CICADA_BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
/* Of things whose size is a multiple of their alignment, as sizeof() gives it. */
void *xcalloc_aligned(size_t count, size_t size, size_t alignment) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *ptr, size_t size) __attribute__((returns_nonnull));
void *xreallocarray(void *ptr, size_t count, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *text) __attribute__((malloc, returns_nonnull));
char *xstrdup_or_null(const char *text);
char *xstrndup(const char *text, size_t max_len) __attribute__((malloc, returns_nonnull));
void *xmemdup(const void *data, size_t size) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2), malloc, returns_nonnull));
char *xvasprintf(const char *format, va_list args)
    __attribute__((format(printf, 1, 0), malloc, returns_nonnull));

static inline void mem_free_p(void *pointer_to_pointer)
{
    free(*(void **)pointer_to_pointer);
}

/* CLEANUP(f): f is called with the address of the variable when it goes out of scope. */
#define CLEANUP(function) __attribute__((cleanup(function)))
#define CLEANUP_FREE      CLEANUP(mem_free_p)

/* Hands a pointer over: yields its value and leaves NULL behind, so that CLEANUP does nothing. */
#define steal_ptr(pointer_address)                                                                           \
    __extension__({                                                                                          \
        __typeof__(*(pointer_address)) *sp_ = (pointer_address);                                             \
        __typeof__(*(pointer_address)) taken_ = *sp_;                                                        \
        *sp_ = NULL;                                                                                         \
        taken_;                                                                                              \
    })

/* Closes *fd if it is >= 0; for CLEANUP. */
void fd_close_p(int *fd);
#define CLEANUP_FD CLEANUP(fd_close_p)

#define ARRAY_SIZE(array)                   (sizeof(array) / sizeof((array)[0]))
#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
