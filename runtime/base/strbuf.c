#include "runtime/base/strbuf.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define STRBUF_FIRST_ALLOC 64

/* What an empty buffer points to; never written. */
static char shared_empty[1];

static void check(const struct strbuf *sb)
{
    assert(sb->buf && sb->len <= sb->cap && (sb->alloc == 0 ? sb->len == 0 : sb->len < sb->alloc));
}

void strbuf_init(struct strbuf *sb, size_t cap_bytes)
{
    assert(cap_bytes < SIZE_MAX / 2);
    *sb = (struct strbuf){.buf = shared_empty, .cap = cap_bytes};
}

void strbuf_init_with(struct strbuf *sb, char *storage, size_t size, size_t cap_bytes)
{
    assert(size > 0 && cap_bytes < SIZE_MAX / 2);
    storage[0] = '\0';
    size_t usable = size <= cap_bytes ? size : cap_bytes + 1;
    *sb = (struct strbuf){.buf = storage, .alloc = usable, .cap = cap_bytes, .is_lent = true};
}

void strbuf_init_fixed(struct strbuf *sb, char *storage, size_t size)
{
    strbuf_init_with(sb, storage, size, size - 1);
}

void strbuf_release(struct strbuf *sb)
{
    if (sb->alloc > 0 && !sb->is_lent) {
        free(sb->buf);
    }
    *sb = (struct strbuf){.buf = shared_empty, .cap = sb->cap};
}

void strbuf_clear(struct strbuf *sb)
{
    sb->overflow = false;
    strbuf_truncate(sb, 0);
}

char *strbuf_reserve(struct strbuf *sb, size_t len)
{
    check(sb);
    if (sb->overflow || len > sb->cap - sb->len) {
        sb->overflow = true;
        return NULL;
    }
    size_t need = sb->len + len + 1;
    if (need > sb->alloc && len > 0) {
        size_t grown = sb->alloc < STRBUF_FIRST_ALLOC / 2 ? STRBUF_FIRST_ALLOC : sb->alloc * 2;
        if (grown > sb->cap + 1) {
            grown = sb->cap + 1;
        }
        if (grown < need) {
            grown = need;
        }
        bool is_ours = sb->alloc > 0 && !sb->is_lent;
        char *moved = xrealloc(is_ours ? sb->buf : NULL, grown);
        if (!is_ours) {
            memcpy(moved, sb->buf, sb->len);
        }
        sb->buf = moved;
        sb->alloc = grown;
        sb->is_lent = false;
        sb->buf[sb->len] = '\0';
    }
    return sb->buf + sb->len;
}

void strbuf_advance(struct strbuf *sb, size_t len)
{
    if (len > 0) {
        assert(sb->len + len < sb->alloc);
        sb->len += len;
        sb->buf[sb->len] = '\0';
    }
}

int strbuf_append(struct strbuf *sb, const void *data, size_t len)
{
    if (len > 0 && len < sb->alloc - sb->len && !sb->overflow) { /* the usual case, as short as it can be */
        memcpy(sb->buf + sb->len, data, len);
        sb->len += len;
        sb->buf[sb->len] = '\0';
        return 0;
    }
    char *room = strbuf_reserve(sb, len);
    if (!room) {
        return -1;
    }
    if (len > 0) {
        memcpy(room, data, len);
        strbuf_advance(sb, len);
    }
    return 0;
}

int strbuf_append_str(struct strbuf *sb, const char *text)
{
    return strbuf_append(sb, text, strlen(text));
}

int strbuf_append_char(struct strbuf *sb, char c)
{
    if (sb->alloc - sb->len > 1 && !sb->overflow) { /* the usual case */
        sb->buf[sb->len++] = c;
        sb->buf[sb->len] = '\0';
        return 0;
    }
    return strbuf_append(sb, &c, 1);
}

int strbuf_append_uint(struct strbuf *sb, uint64_t value)
{
    char digits[FORMAT_UINT64_MAX_BYTES];
    return strbuf_append(sb, digits, format_uint64(value, digits));
}

int strbuf_appendf(struct strbuf *sb, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int result = strbuf_vappendf(sb, format, args);
    va_end(args);
    return result;
}

int strbuf_vappendf(struct strbuf *sb, const char *format, va_list args)
{
    char small[256];
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(small, sizeof(small), format, args);
    assert(len >= 0);
    int result = -1;
    if ((size_t)len < sizeof(small)) {
        result = strbuf_append(sb, small, (size_t)len);
    } else {
        char *room = strbuf_reserve(sb, (size_t)len);
        if (room) {
            vsnprintf(room, (size_t)len + 1, format, again);
            strbuf_advance(sb, (size_t)len);
            result = 0;
        }
    }
    va_end(again);
    return result;
}

/* How many bytes at the start of the text stand for themselves in a JSON string. */
static size_t plain_json_len(const char *text, size_t len)
{
    static const bool plain[256] = {[' ' ... '!'] = true, ['#' ... '['] = true, [']' ... '~'] = true};
    size_t i = 0;
    while (i < len && plain[(unsigned char)text[i]]) {
        i++;
    }
    return i;
}

int strbuf_append_json_string(struct strbuf *sb, const char *text, size_t len)
{
    size_t start_len = sb->len, done = plain_json_len(text, len);
    strbuf_append_char(sb, '"');
    strbuf_append(sb, text, done);
    while (done < len) {
        char escaped[TEXT_JSON_ESCAPE_SIZE];
        size_t escaped_len;
        done += text_json_escape(text + done, len - done, escaped, &escaped_len);
        if (strbuf_append(sb, escaped, escaped_len) < 0) {
            break;
        }
        size_t run = plain_json_len(text + done, len - done);
        strbuf_append(sb, text + done, run);
        done += run;
    }
    if (strbuf_append_char(sb, '"') < 0) {
        strbuf_truncate(sb, start_len);
        return -1;
    }
    return 0;
}

/* How much of the text, in whole characters, takes at most max_bytes; *ret_bytes: as it stands inside a JSON string. */
static size_t json_prefix_len(const char *text, size_t len, size_t max_bytes, size_t *ret_bytes)
{
    size_t i = 0;
    *ret_bytes = 0;
    while (i < len) {
        char escaped[TEXT_JSON_ESCAPE_SIZE];
        size_t escaped_len;
        size_t step = text_json_escape(text + i, len - i, escaped, &escaped_len);
        if (*ret_bytes + escaped_len > max_bytes) {
            break;
        }
        *ret_bytes += escaped_len;
        i += step;
    }
    return i;
}

int strbuf_append_json_cut(struct strbuf *sb, const char *text, size_t len, size_t max_bytes)
{
    static const char ellipsis_and_quote[] = "\xE2\x80\xA6\"";
    size_t room = max_bytes - 2, bytes;
    bool surely_fits = len <= room / 6; /* no byte takes more */
    if (surely_fits || json_prefix_len(text, len, room, &bytes) == len) {
        return strbuf_append_json_string(sb, text, len);
    }
    size_t start_len = sb->len;
    size_t cut_len = json_prefix_len(text, len, room - 3, &bytes);
    if (strbuf_append_json_string(sb, text, cut_len) < 0) {
        return -1;
    }
    strbuf_truncate(sb, sb->len - 1);
    if (strbuf_append_str(sb, ellipsis_and_quote) < 0) {
        strbuf_truncate(sb, start_len);
        return -1;
    }
    return 0;
}

int strbuf_append_base64(struct strbuf *sb, const void *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *bytes = data;
    size_t out_len = len / 3 * 4 + (len % 3 > 0 ? 4 : 0);
    char *out = strbuf_reserve(sb, out_len);
    if (!out)
        return -1;
    for (size_t i = 0; i < len; i += 3, out += 4) {
        size_t left = len - i;
        uint32_t bits = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                        (left > 2 ? bytes[i + 2] : 0);
        out[0] = digits[bits >> 18];
        out[1] = digits[bits >> 12 & 63];
        out[2] = left > 1 ? digits[bits >> 6 & 63] : '=';
        out[3] = left > 2 ? digits[bits & 63] : '=';
    }
    strbuf_advance(sb, out_len);
    return 0;
}

int strbuf_append_percent_encoded(struct strbuf *sb, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t start_len = sb->len;
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                          c == '-' || c == '.' || c == '_' || c == '~';
        char encoded[3] = {'%', hex[c >> 4], hex[c & 15]};
        if (unreserved ? strbuf_append_char(sb, *p) < 0 : strbuf_append(sb, encoded, 3) < 0) {
            strbuf_truncate(sb, start_len);
            return -1;
        }
    }
    return 0;
}

void strbuf_consume(struct strbuf *sb, size_t len)
{
    assert(len <= sb->len);
    if (len > 0) {
        memmove(sb->buf, sb->buf + len, sb->len - len + 1);
        sb->len -= len;
    }
}

void strbuf_truncate(struct strbuf *sb, size_t len)
{
    assert(len <= sb->len);
    if (sb->alloc > 0) {
        sb->len = len;
        sb->buf[len] = '\0';
    }
}

char *strbuf_detach(struct strbuf *sb, size_t *ret_len)
{
    check(sb);
    char *text = sb->alloc > 0 && !sb->is_lent ? sb->buf : xmemdup(sb->buf, sb->len + 1);
    if (ret_len) {
        *ret_len = sb->len;
    }
    *sb = (struct strbuf){.buf = shared_empty, .cap = sb->cap};
    return text;
}
