#include "runtime/base/base64.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "runtime/base/mem.h"

static int digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

int base64_decode(const char *encoded, char **ret_bytes, size_t *ret_len, struct err *err)
{
    CLEANUP_FREE char *text = xmalloc(strlen(encoded) / 4 * 3 + 4);
    size_t len = 0, digits = 0, padding = 0;
    uint32_t bits = 0;
    for (const char *p = encoded; *p; p++) {
        if (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')
            continue;
        if (*p == '=') {
            padding++;
            continue;
        }
        int value = digit_value(*p);
        if (value < 0 || padding > 0)
            return err_set(err, ERR_INVALID, "not base64");
        bits = bits << 6 | (uint32_t)value;
        if (++digits % 4 == 0) {
            text[len++] = (char)(bits >> 16);
            text[len++] = (char)(bits >> 8);
            text[len++] = (char)bits;
        }
    }
    if (digits % 4 == 1 || (digits + padding) % 4 != 0 || padding > 2)
        return err_set(err, ERR_INVALID, "not base64: wrong length");
    if (digits % 4 == 2) {
        text[len++] = (char)(bits >> 4);
    } else if (digits % 4 == 3) {
        text[len++] = (char)(bits >> 10);
        text[len++] = (char)(bits >> 2);
    }
    text[len] = '\0';
    *ret_bytes = steal_ptr(&text);
    *ret_len = len;
    return 0;
}

int base64_decode_text(const char *encoded, char **ret_text, struct err *err)
{
    CLEANUP_FREE char *text = NULL;
    size_t len = 0;
    if (base64_decode(encoded, &text, &len, err) != 0)
        return -1;
    if (!text || strlen(text) != len)
        return err_set(err, ERR_INVALID, "a NUL byte where text is expected");
    *ret_text = steal_ptr(&text);
    return 0;
}
