#include "runtime/base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Nothing here may allocate. */
static _Noreturn void out_of_memory(void)
{
    static const char line[] = "{\"level\":\"error\",\"message\":\"out of memory, aborting\"}\n";
    ssize_t written = write(STDERR_FILENO, line, sizeof(line) - 1);
    (void)written;
    abort();
}

void *xmalloc(size_t size)
{
    void *ptr = malloc(size ? size : 1);
    if (!ptr) {
        out_of_memory();
    }
    return ptr;
}

void *xcalloc(size_t count, size_t size)
{
    void *ptr = calloc(count ? count : 1, size ? size : 1);
    if (!ptr) {
        out_of_memory();
    }
    return ptr;
}

void *xcalloc_aligned(size_t count, size_t size, size_t alignment)
{
    size_t bytes;
    void *ptr = __builtin_mul_overflow(count, size, &bytes)
                    ? NULL
                    : aligned_alloc(alignment, bytes ? bytes : alignment);
    if (!ptr) {
        out_of_memory();
    }
    return memset(ptr, 0, bytes);
}

void *xrealloc(void *ptr, size_t size)
{
    void *moved = realloc(ptr, size ? size : 1);
    if (!moved) {
        out_of_memory();
    }
    return moved;
}

void *xreallocarray(void *ptr, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        out_of_memory();
    }
    return xrealloc(ptr, bytes);
}

char *xstrdup(const char *text)
{
    return xmemdup(text, strlen(text) + 1);
}

char *xstrdup_or_null(const char *text)
{
    return text ? xstrdup(text) : NULL;
}

char *xstrndup(const char *text, size_t max_len)
{
    size_t len = strnlen(text, max_len);
    char *copy = xmalloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

void *xmemdup(const void *data, size_t size)
{
    void *copy = xmalloc(size);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

char *xvasprintf(const char *format, va_list args)
{
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0) {
        out_of_memory();
    }
    return text;
}

char *xasprintf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = xvasprintf(format, args);
    va_end(args);
    return text;
}

void fd_close_p(int *fd)
{
    if (*fd >= 0) {
        int saved_errno = errno;
        close(*fd);
        errno = saved_errno;
        *fd = -1;
    }
}
