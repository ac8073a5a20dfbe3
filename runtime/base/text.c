#include "runtime/base/text.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/mem.h"

bool parse_int64_n(const char *text, size_t len, int64_t min, int64_t max, int64_t *ret_value)
{
    bool negative = len > 0 && text[0] == '-';
    size_t i = negative ? 1 : 0;
    if (i == len) {
        return false;
    }
    /* Built downwards: the negative range holds one value more. */
    int64_t value = 0;
    for (; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, text[i] - '0', &value)) {
            return false;
        }
    }
    if (!negative && __builtin_sub_overflow((int64_t)0, value, &value)) {
        return false;
    }
    if (value < min || value > max) {
        return false;
    }
    *ret_value = value;
    return true;
}

bool parse_int64(const char *text, int64_t min, int64_t max, int64_t *ret_value)
{
    return parse_int64_n(text, strlen(text), min, max, ret_value);
}

char *format_text(size_t max_bytes, const char *format, va_list args)
{
    char *text = xvasprintf(format, args);
    if (strnlen(text, max_bytes + 1) > max_bytes) {
        text[utf8_cut_len(text, max_bytes)] = '\0';
    }
    return text;
}

size_t format_double(double value, char out[FORMAT_DOUBLE_SIZE])
{
    int len = 0;
    if (value == trunc(value) && fabs(value) <= 9007199254740992.0) {
        return format_int64((int64_t)value, out);
    }
    for (int digits = 15; digits <= 17; digits++) {
        len = snprintf(out, FORMAT_DOUBLE_SIZE, "%.*g", digits, value);
        if (strtod(out, NULL) == value) {
            break;
        }
    }
    return (size_t)len;
}

size_t format_uint64(uint64_t value, char out[FORMAT_UINT64_MAX_BYTES])
{
    char digits[FORMAT_UINT64_MAX_BYTES];
    size_t first = sizeof(digits);
    do {
        digits[--first] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    memcpy(out, digits + first, sizeof(digits) - first);
    return sizeof(digits) - first;
}

size_t format_int64(int64_t value, char out[FORMAT_INT64_SIZE])
{
    size_t sign = value < 0 ? 1 : 0;
    out[0] = '-';
    size_t digits = format_uint64(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, out + sign);
    out[sign + digits] = '\0';
    return sign + digits;
}

bool str_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool str_ends_with(const char *text, const char *suffix)
{
    size_t text_len = strlen(text), suffix_len = strlen(suffix);
    return text_len >= suffix_len && memcmp(text + text_len - suffix_len, suffix, suffix_len) == 0;
}

bool str_equal_or_both_null(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static unsigned char lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + ('a' - 'A')) : c;
}

bool ascii_equal_nocase(const char *a, size_t a_len, const char *b)
{
    for (size_t i = 0; i < a_len; i++) {
        if (b[i] == '\0' || lower((unsigned char)a[i]) != lower((unsigned char)b[i])) {
            return false;
        }
    }
    return b[a_len] == '\0';
}

void ascii_lower(char *text)
{
    for (; *text; text++) {
        *text = (char)lower((unsigned char)*text);
    }
}

int hex_digit_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_label_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Length of the label at text, 0 if there is none. */
static size_t dns_label_len(const char *text)
{
    size_t len = 0;
    while (is_label_char(text[len]) || text[len] == '-') {
        len++;
    }
    return len > 0 && text[0] != '-' && text[len - 1] != '-' ? len : 0;
}

bool is_dns_label(const char *text)
{
    size_t len = dns_label_len(text);
    return len > 0 && len <= 63 && text[len] == '\0';
}

bool is_dns_subdomain(const char *text)
{
    /* Like Kubernetes: only the whole is limited, not each label. */
    if (strlen(text) > 253) {
        return false;
    }
    for (;;) {
        size_t len = dns_label_len(text);
        if (len == 0) {
            return false;
        }
        text += len;
        if (*text == '\0') {
            return true;
        }
        if (*text++ != '.') {
            return false;
        }
    }
}

size_t utf8_sequence_len(const char *text, size_t len)
{
    if (len == 0) {
        return 0;
    }
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) {
        return 1;
    }
    size_t need = s[0] >= 0xC2 && s[0] <= 0xDF   ? 2
                  : (s[0] & 0xF0) == 0xE0        ? 3
                  : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4
                                                 : 0;
    if (need == 0 || need > len) {
        return 0;
    }
    /* The second byte's range is what excludes overlong forms, surrogates and code points above U+10FFFF. */
    unsigned char low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < low || s[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < need; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return need;
}

size_t utf8_cut_len(const char *text, size_t len)
{
    size_t start = len;
    while (start > 0 && len - start < 3 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) {
        start--;
    }
    if (start == 0 || ((unsigned char)text[start - 1] & 0xC0) != 0xC0) {
        return len;
    }
    start--;
    return utf8_sequence_len(text + start, len - start) == 0 ? start : len;
}

bool is_valid_utf8(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t step = utf8_sequence_len(text + i, len - i);
        if (step == 0) {
            return false;
        }
        i += step;
    }
    return true;
}

size_t text_json_escape(const char *text, size_t len, char out[TEXT_JSON_ESCAPE_SIZE], size_t *ret_out_len)
{
    static const char hex[] = "0123456789abcdef";
    static const char named[][2] = {{'"', '"'},  {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'},
                                    {'\n', 'n'}, {'\r', 'r'},  {'\t', 't'}};
    unsigned char c = (unsigned char)text[0];
    for (size_t i = 0; i < ARRAY_SIZE(named); i++) {
        if (text[0] == named[i][0]) {
            out[0] = '\\';
            out[1] = named[i][1];
            *ret_out_len = 2;
            return 1;
        }
    }
    if (c < 0x20 || c == 0x7F) {
        const char code[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        memcpy(out, code, sizeof(code));
        *ret_out_len = sizeof(code);
        return 1;
    }
    size_t sequence = utf8_sequence_len(text, len);
    if (sequence == 0) {
        static const char replacement[3] = {'\xEF', '\xBF', '\xBD'};
        memcpy(out, replacement, sizeof(replacement));
        *ret_out_len = sizeof(replacement);
        return 1;
    }
    memcpy(out, text, sequence);
    *ret_out_len = sequence;
    return sequence;
}

static void kernel_random_bytes(void *out, size_t count)
{
    unsigned char *bytes = out;
    while (count > 0) {
        ssize_t got = getrandom(bytes, count, 0);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            perror("getrandom");
            abort(); /* predictable ids would be worse than none */
        }
        bytes += got;
        count -= (size_t)got;
    }
}

/* Small requests are served from a stock: the system call would cost more than all else that a request's id does. */
#define RANDOM_STOCK_BYTES 256

void random_bytes(void *out, size_t count)
{
    static _Thread_local unsigned char stock[RANDOM_STOCK_BYTES];
    static _Thread_local size_t left;
    if (count > sizeof(stock)) {
        kernel_random_bytes(out, count);
        return;
    }
    if (count > left) {
        kernel_random_bytes(stock, sizeof(stock));
        left = sizeof(stock);
    }
    left -= count;
    memcpy(out, stock + left, count);
    memset(stock + left, 0, count); /* nobody gets them twice */
}

/* The digits of four bytes, all at once: each byte is spread to two of 4 bits, and those above 9 go on at 'a'. */
static uint64_t hex_of(uint32_t bytes)
{
    const uint64_t ones = 0x0101010101010101;
    uint64_t x = le32toh(bytes);
    x = (x | (x << 16)) & 0x0000FFFF0000FFFF;
    x = (x | (x << 8)) & 0x00FF00FF00FF00FF;
    x = ((x >> 4) | (x << 8)) & (0x0F * ones);
    uint64_t letters = ((x + 6 * ones) >> 4) & ones;
    return htole64(x + '0' * ones + letters * ('a' - '0' - 10));
}

void hex_encode(char *out, const void *data, size_t byte_count)
{
    const unsigned char *bytes = data;
    uint32_t some;
    uint64_t digits;
    for (; byte_count >= sizeof(some); byte_count -= sizeof(some)) {
        memcpy(&some, bytes, sizeof(some));
        digits = hex_of(some);
        memcpy(out, &digits, sizeof(digits));
        bytes += sizeof(some);
        out += sizeof(digits);
    }
    if (byte_count > 0) {
        some = 0;
        memcpy(&some, bytes, byte_count);
        digits = hex_of(some);
        memcpy(out, &digits, 2 * byte_count);
    }
}

void random_hex(char *out, size_t byte_count)
{
    unsigned char bytes[64];
    while (byte_count > 0) {
        size_t step = byte_count < sizeof(bytes) ? byte_count : sizeof(bytes);
        random_bytes(bytes, step);
        hex_encode(out, bytes, step);
        out += 2 * step;
        byte_count -= step;
    }
    *out = '\0';
}

uint64_t random_u64(void)
{
    uint64_t value;
    random_bytes(&value, sizeof(value));
    return value;
}

int64_t random_from_half(int64_t most)
{
    return most / 2 + (int64_t)(random_u64() % (uint64_t)(most / 2 + 1));
}

void random_uuid(char out[UUID_TEXT_SIZE])
{
    unsigned char bytes[16];
    random_bytes(bytes, sizeof(bytes));
    bytes[6] = (unsigned char)((bytes[6] & 0x0F) | 0x40);
    bytes[8] = (unsigned char)((bytes[8] & 0x3F) | 0x80);
    char hex[2 * sizeof(bytes)];
    hex_encode(hex, bytes, sizeof(bytes));
    snprintf(out, UUID_TEXT_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

uint64_t hash_fnv1a(uint64_t start, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    uint64_t hash = start;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ bytes[i]) * 1099511628211ULL;
    }
    return hash;
}

int file_read(const char *path, size_t max_bytes, char **ret_data, size_t *ret_len, struct err *err)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int error = errno;
        err_set_errno(err, error, "%s", path);
        if (error == ENOENT) {
            err->code = ERR_NOT_FOUND;
        }
        return -1;
    }
    /* The size is a hint only: files of /proc and of projected volumes may say 0 or change. */
    struct stat info;
    size_t alloc = 4096;
    if (fstat(fd, &info) == 0 && info.st_size > 0 && (uint64_t)info.st_size <= max_bytes) {
        alloc = (size_t)info.st_size + 2;
    }
    CLEANUP_FREE char *data = xmalloc(alloc);
    size_t len = 0;
    for (;;) {
        if (len + 1 == alloc) {
            alloc *= 2;
            data = xrealloc(data, alloc);
        }
        ssize_t got = read(fd, data + len, alloc - len - 1);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return err_set_errno(err, errno, "%s", path);
        }
        if (got == 0) {
            break;
        }
        len += (size_t)got;
        if (len > max_bytes) {
            return err_set(err, ERR_TOO_LARGE, "%s: larger than %zu bytes", path, max_bytes);
        }
    }
    data[len] = '\0';
    if (ret_len) {
        *ret_len = len;
    }
    *ret_data = steal_ptr(&data);
    return 0;
}
