/* strbuf.h - a growing byte buffer with a cap.
 *
 * Invariants: buf is never NULL and always NUL-terminated at buf[len]; len <= cap. The cap is given at init. An
 * append that would exceed it changes nothing, sets `overflow`, and returns -1; later appends fail too until
 * strbuf_clear(). So a builder may ignore single results and test strbuf_failed() once at the end.
 *
 * Threads: none of its own; one owner at a time.
 */
#ifndef CICADA_BASE_STRBUF_H
#define CICADA_BASE_STRBUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf {
    char *buf;
    size_t len;
    size_t alloc; /* 0: buf points to a shared empty string */
    size_t cap;   /* bytes, without the final NUL */
    bool overflow;
    bool is_lent; /* buf is the caller's storage */
};

void strbuf_init(struct strbuf *sb, size_t cap_bytes);
/* Begins with the caller's storage, which outlives the buffer or its first growth, and allocates when that is full. */
void strbuf_init_with(struct strbuf *sb, char *storage, size_t size, size_t cap_bytes);
/* Uses the caller's storage and never allocates. Such a buffer need not be released. */
void strbuf_init_fixed(struct strbuf *sb, char *storage, size_t size);
void strbuf_release(struct strbuf *sb); /* frees; the struct may be used again after strbuf_init() */
void strbuf_clear(struct strbuf *sb);   /* len 0, memory kept, overflow reset */

int strbuf_append(struct strbuf *sb, const void *data, size_t len);
int strbuf_append_str(struct strbuf *sb, const char *text);
int strbuf_append_char(struct strbuf *sb, char c);
int strbuf_append_uint(struct strbuf *sb, uint64_t value); /* decimal; a tenth of what printf takes */
int strbuf_appendf(struct strbuf *sb, const char *format, ...) __attribute__((format(printf, 2, 3)));
int strbuf_vappendf(struct strbuf *sb, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
/* A JSON string literal with its quotes. Bytes that are not UTF-8 become U+FFFD. */
int strbuf_append_json_string(struct strbuf *sb, const char *text, size_t len);
/* The same in at most max_bytes (5 or more): a longer text is cut between characters and ends in "…". */
int strbuf_append_json_cut(struct strbuf *sb, const char *text, size_t len, size_t max_bytes);
/* Base64 (RFC 4648), padded, without line breaks. */
int strbuf_append_base64(struct strbuf *sb, const void *data, size_t len);
/* Percent-encodes everything but RFC 3986 unreserved characters. */
int strbuf_append_percent_encoded(struct strbuf *sb, const char *text);

/* Makes room for `len` more bytes; NULL above the cap. After writing call strbuf_advance(). */
char *strbuf_reserve(struct strbuf *sb, size_t len);
void strbuf_advance(struct strbuf *sb, size_t len);
void strbuf_consume(struct strbuf *sb, size_t len); /* drops `len` bytes at the front */
void strbuf_truncate(struct strbuf *sb, size_t len);

static inline bool strbuf_failed(const struct strbuf *sb)
{
    return sb->overflow;
}

/* The caller owns the result (free()); the buffer is empty afterwards. */
char *strbuf_detach(struct strbuf *sb, size_t *ret_len);

#define CLEANUP_STRBUF __attribute__((cleanup(strbuf_release)))

#endif
