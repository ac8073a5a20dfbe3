#include "runtime/base/yaml_plain.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define NUMBER_MAX_BYTES 512 /* a longer one of kubectl's dialect is text */
#define UINT64_END       18446744073709551616.0

static bool is_one_of(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_null(const char *text)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    return is_one_of(text, words, ARRAY_SIZE(words));
}

/* The words of YAML 1.1 come after those of the core schema. */
static bool is_bool(const char *text, enum yaml_dialect dialect, bool *ret_value)
{
    static const char *const yes[] = {"true", "True", "TRUE", "y",  "Y", "yes",
                                      "Yes",  "YES",  "on",   "On", "ON"};
    static const char *const no[] = {"false", "False", "FALSE", "n",   "N",  "no",
                                     "No",    "NO",    "off",   "Off", "OFF"};
    bool core = dialect == YAML_DIALECT_CORE;
    *ret_value = is_one_of(text, yes, core ? 3 : ARRAY_SIZE(yes));
    return *ret_value || is_one_of(text, no, core ? 3 : ARRAY_SIZE(no));
}

static bool is_not_finite(const char *text)
{
    static const char *const words[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"};
    bool sign = *text == '+' || *text == '-';
    return is_one_of(text + sign, words, sign ? 3 : ARRAY_SIZE(words));
}

/* The whole text is digits of that base. */
static bool read_digits(const char *text, int base, double *ret_value)
{
    size_t len = strspn(text, base == 2 ? "01" : base == 8 ? "01234567" : "0123456789abcdefABCDEF");
    if (len == 0 || text[len] != '\0') {
        return false;
    }
    *ret_value = 0;
    for (; *text; text++) {
        int digit = *text <= '9' ? *text - '0' : (*text | 0x20) - 'a' + 10;
        *ret_value = *ret_value * base + digit;
    }
    return true;
}

/* 0o17 and 0x1F; no sign, as the core schema has it. */
static bool is_core_radix(const char *text, double *ret_value)
{
    return (str_starts_with(text, "0o") && read_digits(text + 2, 8, ret_value)) ||
           (str_starts_with(text, "0x") && read_digits(text + 2, 16, ret_value));
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_decimal(const char *text, double *ret_value)
{
    static const char digits[] = "0123456789";
    const char *at = text + (*text == '+' || *text == '-');
    size_t whole = strspn(at, digits);
    at += whole;
    if (*at == '.') {
        at++;
        size_t fraction = strspn(at, digits);
        at += fraction;
        whole += fraction;
    }
    if (whole == 0) {
        return false;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '+' || *at == '-';
        size_t exponent = strspn(at, digits);
        if (exponent == 0) {
            return false;
        }
        at += exponent;
    }
    if (*at != '\0') {
        return false;
    }
    *ret_value = strtod(text, NULL);
    return true;
}

/* Whole numbers as Go's ParseInt(text, 0, 64) reads them, unless they are decimal: -0x1F, 0o17, 017, 0b11. */
static bool is_kubectl_radix(const char *text, double *ret_value)
{
    bool minus = *text == '-';
    text += *text == '+' || *text == '-';
    if (text[0] != '0' || text[1] == '\0') {
        return false;
    }
    int letter = text[1] | 0x20;
    int base = letter == 'x' ? 16 : letter == 'b' ? 2 : 8;
    bool prefixed = letter == 'x' || letter == 'b' || letter == 'o';
    if (!read_digits(text + (prefixed ? 2 : 1), base, ret_value) || *ret_value >= UINT64_END) {
        return false;
    }
    *ret_value = minus ? -*ret_value : *ret_value;
    return true;
}

/* kubectl leaves '_' out of what begins like a number. */
static bool is_kubectl_number(const char *text, double *ret_value)
{
    if (*text == '.') {
        return is_decimal(text, ret_value);
    }
    char plain[NUMBER_MAX_BYTES];
    size_t len = 0;
    if (!strchr("+-0123456789", *text) || strlen(text) >= sizeof plain) {
        return false;
    }
    for (const char *c = text; *c; c++) {
        if (*c != '_') {
            plain[len++] = *c;
        }
    }
    plain[len] = '\0';
    return is_kubectl_radix(plain, ret_value) || is_decimal(plain, ret_value);
}

enum yaml_plain yaml_plain_resolve(const char *text, enum yaml_dialect dialect, double *ret_number)
{
    bool truth;
    if (is_null(text)) {
        return PLAIN_NULL;
    }
    if (is_bool(text, dialect, &truth)) {
        return truth ? PLAIN_TRUE : PLAIN_FALSE;
    }
    if (dialect == YAML_DIALECT_CORE ? is_core_radix(text, ret_number) || is_decimal(text, ret_number)
                                     : is_kubectl_number(text, ret_number)) {
        return PLAIN_NUMBER;
    }
    return is_not_finite(text) ? PLAIN_NOT_FINITE : PLAIN_STRING;
}
