#include "runtime/base/json_number.h"

#include <math.h>
#include <string.h>

#include "runtime/base/mem.h"

/* The exponent after 'e'; saturates far beyond any text length that is accepted. */
static int64_t read_exponent(const char *at, const char *end)
{
    const int64_t limit = INT64_C(1) << 40;
    bool negative = *at == '-';
    if (*at == '-' || *at == '+') {
        at++;
    }
    int64_t value = 0;
    for (; at < end; at++) {
        value = value < limit ? value * 10 + (*at - '0') : limit;
    }
    return negative ? -value : value;
}

static bool append_digit(int64_t *value, int digit)
{
    return !__builtin_mul_overflow(*value, 10, value) && !__builtin_sub_overflow(*value, digit, value);
}

bool json_number_int64(const char *text, size_t len, int64_t *ret_value)
{
    const char *at = text, *end = text + len;
    bool negative = at < end && *at == '-';
    at += negative;
    /* The value is mantissa * 10^exponent, the mantissa being the digits without the point. */
    const char *mantissa = at, *point = NULL;
    while (at < end && *at != 'e' && *at != 'E') {
        if (*at == '.') {
            point = at;
        }
        at++;
    }
    const char *mantissa_end = at;
    int64_t exponent = at < end ? read_exponent(at + 1, end) : 0;
    exponent -= point ? mantissa_end - point - 1 : 0;
    while (mantissa < mantissa_end && (mantissa_end[-1] == '0' || mantissa_end[-1] == '.')) {
        exponent += mantissa_end[-1] == '0';
        mantissa_end--;
    }
    /* Built downwards: the negative range holds one value more. */
    int64_t value = 0;
    for (at = mantissa; at < mantissa_end; at++) {
        if (*at != '.' && !append_digit(&value, *at - '0')) {
            return false;
        }
    }
    if (value != 0) {
        if (exponent < 0) {
            return false;
        }
        for (; exponent > 0; exponent--) {
            if (!append_digit(&value, 0)) {
                return false;
            }
        }
    }
    if (!negative && __builtin_sub_overflow((int64_t)0, value, &value)) {
        return false;
    }
    *ret_value = value;
    return true;
}

bool json_number_double(const char *text, size_t len, double *ret_value)
{
    char small[64];
    CLEANUP_FREE char *large = NULL;
    if (len >= sizeof(small)) {
        large = xmalloc(len + 1);
    }
    char *copy = large ? large : small;
    memcpy(copy, text, len);
    copy[len] = '\0';
    double value = strtod(copy, NULL);
    if (!isfinite(value)) {
        return false;
    }
    *ret_value = value;
    return true;
}
