#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_test.h"

static void parses_integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t min, max, value;
        bool ok;
    } cases[] = {
        {"0", 0, 10, 0, true},
        {"-0", 0, 10, 0, true},
        {"10", 0, 10, 10, true},
        {"11", 0, 10, 0, false},
        {"-1", 0, 10, 0, false},
        {"007", 0, 10, 7, true},
        {"", INT64_MIN, INT64_MAX, 0, false},
        {"-", INT64_MIN, INT64_MAX, 0, false},
        {"+1", INT64_MIN, INT64_MAX, 0, false},
        {" 1", INT64_MIN, INT64_MAX, 0, false},
        {"1 ", INT64_MIN, INT64_MAX, 0, false},
        {"1x", INT64_MIN, INT64_MAX, 0, false},
        {"--1", INT64_MIN, INT64_MAX, 0, false},
        {"9223372036854775807", INT64_MIN, INT64_MAX, INT64_MAX, true},
        {"9223372036854775808", INT64_MIN, INT64_MAX, 0, false},
        {"-9223372036854775808", INT64_MIN, INT64_MAX, INT64_MIN, true},
        {"-9223372036854775809", INT64_MIN, INT64_MAX, 0, false},
        {"99999999999999999999999", INT64_MIN, INT64_MAX, 0, false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int64_t value = 77;
        assert_int_equal(parse_int64(cases[i].text, cases[i].min, cases[i].max, &value), cases[i].ok);
        assert_int_equal(value, cases[i].ok ? cases[i].value : 77);
    }
    int64_t value;
    assert_true(parse_int64_n("123abc", 3, 0, 1000, &value));
    assert_int_equal(value, 123);
}

static void reads_hexadecimal_digits(void **state)
{
    (void)state;
    static const char digits[] = "0123456789abcdef";
    for (int c = -128; c < 128; c++) {
        const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + ('a' - 'A') : c) : NULL;
        assert_int_equal(hex_digit_value((char)c), at ? (int)(at - digits) : -1);
    }
}

static void compares_strings(void **state)
{
    (void)state;
    assert_true(str_starts_with("abc", "ab"));
    assert_true(str_starts_with("abc", ""));
    assert_false(str_starts_with("a", "ab"));
    assert_true(str_ends_with("abc", "bc"));
    assert_false(str_ends_with("c", "bc"));
    assert_true(str_equal_or_both_null(NULL, NULL));
    assert_false(str_equal_or_both_null("a", NULL));
    assert_false(str_equal_or_both_null(NULL, "a"));
    assert_true(str_equal_or_both_null("a", "a"));
    assert_true(ascii_equal_nocase("HoSt", 4, "host"));
    assert_false(ascii_equal_nocase("hos", 3, "host"));
    assert_false(ascii_equal_nocase("host", 4, "hos"));
    assert_false(ascii_equal_nocase("\xC3\x84", 2, "\xC3\xA4"));
    char text[] = "MiXed 1\xC3\x84";
    ascii_lower(text);
    assert_string_equal(text, "mixed 1\xC3\x84");
}

static void checks_dns_names(void **state)
{
    (void)state;
    char label[70], name[300];
    memset(label, 'a', sizeof(label));
    label[63] = '\0';
    assert_true(is_dns_label(label));
    assert_true(is_dns_label("a"));
    assert_true(is_dns_label("a-1"));
    assert_true(is_dns_label("0a"));
    label[63] = 'a';
    label[64] = '\0';
    assert_false(is_dns_label(label));
    static const char *const bad[] = {"", "-a", "a-", "A", "a.b", "a_b", "a b", "\xC3\xA4", "a\n"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(is_dns_label(bad[i]));
    }
    assert_true(is_dns_subdomain("a.b-c.d1"));
    assert_true(is_dns_subdomain(label)); /* as Kubernetes: labels are not limited there */
    assert_false(is_dns_subdomain("a..b"));
    assert_false(is_dns_subdomain(".a"));
    assert_false(is_dns_subdomain("a."));
    assert_false(is_dns_subdomain("a.-b"));
    memset(name, 'a', sizeof(name));
    name[253] = '\0';
    assert_true(is_dns_subdomain(name));
    name[253] = 'a';
    name[254] = '\0';
    assert_false(is_dns_subdomain(name));
}

static void checks_utf8(void **state)
{
    (void)state;
    assert_true(is_valid_utf8("", 0));
    assert_true(is_valid_utf8("a\0b", 3));
    assert_true(is_valid_utf8("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", 9));
    assert_true(is_valid_utf8("\xF4\x8F\xBF\xBF", 4));
    static const char *const bad[] = {
        "\x80",         "\xC0\x80",         "\xC1\xBF",         "\xE0\x9F\xBF",
        "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
        "\xC3",         "\xE2\x82",         "\xF0\x9F\x98",     "\xFE",
        "\xC3(",        "\xE2(\xA1",        "\xF0\x9F\x98("};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(is_valid_utf8(bad[i], strlen(bad[i])));
    }
}

static void finds_the_end_of_cut_text(void **state)
{
    (void)state;
    static const char text[] = "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80";
    static const size_t lens[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10};
    for (size_t len = 0; len < ARRAY_SIZE(lens); len++) {
        assert_int_equal(utf8_cut_len(text, len), lens[len]);
    }
    assert_int_equal(utf8_cut_len("\x80\x80\x80\x80\x80", 5), 5); /* not cut, but wrong: left to others */
}

static char *__attribute__((format(printf, 2, 3))) formatted(size_t max_bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = format_text(max_bytes, format, args);
    va_end(args);
    return text;
}

static void formats_texts_of_limited_size(void **state)
{
    (void)state;
    CLEANUP_FREE char *whole = formatted(5, "%d-%s", 12, "ab"), *cut = formatted(5, "%d-%s", 123, "ab"),
                      *between = formatted(5, "1234%s", "\xC3\xA4"), *empty = formatted(0, "%d", 1);
    assert_string_equal(whole, "12-ab");
    assert_string_equal(cut, "123-a");
    assert_string_equal(between, "1234");
    assert_string_equal(empty, "");
}

static void writes_and_reads_times(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00Z"},
        {-1000, "1969-12-31T23:59:59Z"},
        {951782400000, "2000-02-29T00:00:00Z"},
        {1709164800000, "2024-02-29T00:00:00Z"},
        {4107542400000, "2100-03-01T00:00:00Z"},
        {1795344048000, "2026-11-22T10:40:48Z"},
        {253402300799000, "9999-12-31T23:59:59Z"},
        {-62167219200000, "0000-01-01T00:00:00Z"},
    };
    char text[RFC3339_SIZE];
    int64_t ms;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        format_rfc3339(cases[i].ms, text);
        assert_string_equal(text, cases[i].text);
        assert_true(parse_rfc3339(text, &ms));
        assert_int_equal(ms, cases[i].ms);
    }
    format_rfc3339_micro(1795344048123456, text);
    assert_string_equal(text, "2026-11-22T10:40:48.123456Z");
    format_rfc3339_micro(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999999Z");
    format_rfc3339(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59Z");
    format_rfc3339_micro(INT64_MIN, text);
    assert_string_equal(text, "0000-01-01T00:00:00.000000Z");
    /* Every day of some centuries, so that each rule of leap years is met. */
    for (int64_t day = -141427; day < 200000; day++) {
        format_rfc3339(day * 86400000 + 12345678, text);
        assert_true(parse_rfc3339(text, &ms));
        assert_int_equal(ms, day * 86400000 + 12345000);
    }
}

static void reads_other_forms_of_time(void **state)
{
    (void)state;
    int64_t ms;
    assert_true(parse_rfc3339("2026-11-22T10:40:48.123456Z", &ms));
    assert_int_equal(ms, 1795344048123);
    assert_true(parse_rfc3339("2026-11-22T10:40:48.1Z", &ms));
    assert_int_equal(ms, 1795344048100);
    assert_true(parse_rfc3339("2026-11-22T12:10:48+01:30", &ms));
    assert_int_equal(ms, 1795344048000);
    assert_true(parse_rfc3339("2026-11-22T05:40:48-05:00", &ms));
    assert_int_equal(ms, 1795344048000);
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-11-22",
                                      "2026-11-22T10:40:48",
                                      "2026-11-22 10:40:48Z",
                                      "2026-13-22T10:40:48Z",
                                      "2026-00-22T10:40:48Z",
                                      "2026-02-29T10:40:48Z",
                                      "2026-04-31T10:40:48Z",
                                      "2026-11-00T10:40:48Z",
                                      "2026-11-22T24:00:00Z",
                                      "2026-11-22T10:60:48Z",
                                      "2026-11-22T10:40:60Z",
                                      "2026-11-22T10:40:48.Z",
                                      "2026-11-22T10:40:48Zx",
                                      "2026-11-22T10:40:48+0100",
                                      "2026-11-22T10:40:48+24:00",
                                      "-026-11-22T10:40:48Z",
                                      "2026-11-22T10:40:48z"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(parse_rfc3339(bad[i], &ms));
    }
}

static void formats_doubles(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0, "0"},
        {-0.0, "0"},
        {1, "1"},
        {-17, "-17"},
        {0.1, "0.1"},
        {0.25, "0.25"},
        {1e15, "1000000000000000"},
        {9007199254740992.0, "9007199254740992"},
        {-9007199254740992.0, "-9007199254740992"},
        {1e20, "1e+20"},
        {1e-7, "1e-07"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {5e-324, "4.94065645841247e-324"},
    };
    char text[FORMAT_DOUBLE_SIZE];
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        size_t len = format_double(cases[i].value, text);
        assert_int_equal(len, strlen(text));
        assert_string_equal(text, cases[i].text);
        assert_true(strtod(text, NULL) == cases[i].value);
    }
}

static void writes_hexadecimal_digits(void **state)
{
    (void)state;
    unsigned char bytes[256];
    char digits[2 * sizeof(bytes) + 1], expected[3];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)i;
    }
    for (size_t count = 0; count <= sizeof(bytes); count += count < 12 ? 1 : 61) {
        memset(digits, '!', sizeof(digits));
        hex_encode(digits, bytes, count);
        for (size_t i = 0; i < count; i++) {
            (void)snprintf(expected, sizeof(expected), "%02x", bytes[i]);
            assert_memory_equal(digits + 2 * i, expected, 2);
        }
        assert_int_equal(digits[2 * count], '!');
    }
}

static void random_values_differ_and_have_their_form(void **state)
{
    (void)state;
    char first[UUID_TEXT_SIZE], second[UUID_TEXT_SIZE];
    random_uuid(first);
    random_uuid(second);
    assert_string_not_equal(first, second);
    assert_int_equal(strlen(first), 36);
    assert_int_equal(strspn(first, "0123456789abcdef-"), 36);
    assert_int_equal(first[14], '4');
    assert_non_null(strchr("89ab", first[19]));
    char hex[2 * 100 + 1];
    random_hex(hex, 100);
    assert_int_equal(strlen(hex), 200);
    assert_int_equal(strspn(hex, "0123456789abcdef"), 200);
    random_hex(hex, 0);
    assert_string_equal(hex, "");
    assert_true(random_u64() != random_u64());
}

static void hashes_as_published(void **state)
{
    (void)state;
    assert_true(hash_fnv1a(HASH_FNV1A_START, "", 0) == 0xcbf29ce484222325ULL);
    assert_true(hash_fnv1a(HASH_FNV1A_START, "a", 1) == 0xaf63dc4c8601ec8cULL);
    assert_true(hash_fnv1a(HASH_FNV1A_START, "foobar", 6) == 0x85944171f73967e8ULL);
    uint64_t part = hash_fnv1a(HASH_FNV1A_START, "foo", 3);
    assert_true(hash_fnv1a(part, "bar", 3) == 0x85944171f73967e8ULL);
}

static void reads_files_up_to_a_limit(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char path[] = "/tmp/cicada-test-text-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    char data[10000];
    memset(data, 'd', sizeof(data));
    assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
    close(fd);
    char *text = NULL;
    size_t len = 0;
    assert_ok(file_read(path, sizeof(data), &text, &len, &err));
    assert_int_equal(len, sizeof(data));
    assert_memory_equal(text, data, len);
    assert_int_equal(text[len], '\0');
    free(text);
    assert_fails(file_read(path, sizeof(data) - 1, &text, &len, &err), ERR_TOO_LARGE);
    unlink(path);
    assert_fails(file_read(path, 100, &text, &len, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, path));
    assert_fails(file_read("/proc", 100, &text, &len, &err), ERR_IO);
    assert_ok(file_read("/proc/self/status", 1 << 20, &text, NULL, &err)); /* has no size */
    assert_non_null(strstr(text, "Name:"));
    free(text);
    assert_ok(file_read("/dev/null", 0, &text, &len, &err));
    assert_int_equal(len, 0);
    free(text);
}

static void formats_integers(void **state)
{
    (void)state;
    static const int64_t values[] = {0,         1,         -1,       9, 10, -10, 1234567890123456789,
                                     INT32_MIN, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        char text[FORMAT_INT64_SIZE], expected[FORMAT_INT64_SIZE];
        int len = snprintf(expected, sizeof(expected), "%" PRId64, values[i]);
        assert_int_equal(format_int64(values[i], text), len);
        assert_string_equal(text, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_integers),
        cmocka_unit_test(formats_integers),
        cmocka_unit_test(reads_hexadecimal_digits),
        cmocka_unit_test(compares_strings),
        cmocka_unit_test(checks_dns_names),
        cmocka_unit_test(checks_utf8),
        cmocka_unit_test(formats_texts_of_limited_size),
        cmocka_unit_test(finds_the_end_of_cut_text),
        cmocka_unit_test(writes_and_reads_times),
        cmocka_unit_test(reads_other_forms_of_time),
        cmocka_unit_test(formats_doubles),
        cmocka_unit_test(writes_hexadecimal_digits),
        cmocka_unit_test(random_values_differ_and_have_their_form),
        cmocka_unit_test(hashes_as_published),
        cmocka_unit_test(reads_files_up_to_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
