/* text.h - checks and conversions of text: numbers, names, UTF-8, times, random ids, hashes. No allocation unless said. */
#ifndef CICADA_BASE_TEXT_H
#define CICADA_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

/* The whole text must be a decimal integer within [min, max]. No spaces, no '+'. */
bool parse_int64(const char *text, int64_t min, int64_t max, int64_t *ret_value);
bool parse_int64_n(const char *text, size_t len, int64_t min, int64_t max, int64_t *ret_value);

bool str_starts_with(const char *text, const char *prefix);
bool str_ends_with(const char *text, const char *suffix);
bool str_equal_or_both_null(const char *a, const char *b);
bool ascii_equal_nocase(const char *a, size_t a_len, const char *b); /* b NUL-terminated */
void ascii_lower(char *text);

/* RFC 1123 label / subdomain as Kubernetes checks them (lower case). */
bool is_dns_label(const char *text);     /* at most 63 */
bool is_dns_subdomain(const char *text); /* at most 253 */

int hex_digit_value(char c); /* -1: it is none */

bool is_valid_utf8(const char *text, size_t len);
/* Length of the UTF-8 sequence at the start of text, 1 to 4; 0 if there is none that is valid. */
size_t utf8_sequence_len(const char *text, size_t len);
/* For text that was cut at len: the length without the part of a sequence that may stand at its end. */
size_t utf8_cut_len(const char *text, size_t len);

/* Writes the first character of text (len >= 1) as it stands inside a JSON string; returns how many bytes of text that
 * took. A byte that is not UTF-8 becomes U+FFFD. */
#define TEXT_JSON_ESCAPE_SIZE 8
size_t text_json_escape(const char *text, size_t len, char out[TEXT_JSON_ESCAPE_SIZE], size_t *ret_out_len);

/* A formatted text of its own, which the caller frees; what is longer is cut between characters. */
char *format_text(size_t max_bytes, const char *format, va_list args)
    __attribute__((format(printf, 2, 0), returns_nonnull));

/* Shortest text that reads back as the same value; integers of up to 2^53 in plain digits. Not for NaN and infinity.
 * Returns the length. */
#define FORMAT_DOUBLE_SIZE 32
size_t format_double(double value, char out[FORMAT_DOUBLE_SIZE]);

/* Decimal digits, without printf(); no NUL. Returns how many. */
#define FORMAT_UINT64_MAX_BYTES 20
size_t format_uint64(uint64_t value, char out[FORMAT_UINT64_MAX_BYTES]);
/* The same with a sign, and with a NUL behind them, which is not counted. */
#define FORMAT_INT64_SIZE 21
size_t format_int64(int64_t value, char out[FORMAT_INT64_SIZE]);

/* "2026-11-22T10:40:48Z" and with microseconds "...48.123456Z" (Kubernetes MicroTime). */
#define RFC3339_SIZE 32
void format_rfc3339(int64_t wall_ms, char out[RFC3339_SIZE]);
void format_rfc3339_micro(int64_t wall_us, char out[RFC3339_SIZE]);
bool parse_rfc3339(const char *text, int64_t *ret_wall_ms);

/* Two digits for each byte, lower case, without a NUL. */
void hex_encode(char *out, const void *data, size_t byte_count);

/* Kernel randomness. hex: writes 2*count characters and NUL. */
void random_bytes(void *out, size_t count);
void random_hex(char *out, size_t byte_count);
uint64_t random_u64(void);
/* Between half of most (0 or more) and most: how long to wait, so that those who wait for the same do not knock together. */
int64_t random_from_half(int64_t most);
#define UUID_TEXT_SIZE 37
void random_uuid(char out[UUID_TEXT_SIZE]); /* version 4 */

/* FNV-1a, 64 bit: for tables and change detection, not against attackers. */
#define HASH_FNV1A_START 14695981039346656037ULL
uint64_t hash_fnv1a(uint64_t start, const void *data, size_t len);

/* Reads a whole file of at most max_bytes; the caller frees *ret_data (NUL-terminated). ret_len may be NULL.
 * ERR_NOT_FOUND if there is no such file, ERR_TOO_LARGE, ERR_IO. */
int file_read(const char *path, size_t max_bytes, char **ret_data, size_t *ret_len,
              struct err *err) MUST_CHECK;

#endif
