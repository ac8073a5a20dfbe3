/* The text of expressions, for cron.h. */
#include <string.h>

#include "operator/schedule/cron.h"
#include "runtime/base/civil_date.h"
#include "runtime/base/text.h"

#define STEP_MAX  999 /* of a step above all values only the first is left, as in cron(8) */
#define LEAP_YEAR 2000

struct field {
    const char *what;
    int low, high;
    const char *const *names; /* NULL: numbers only */
    int first_name;           /* the value of names[0] */
};

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
                                          "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };
static const struct field fields[FIELDS] = {
    {"minute", 0, 59, NULL, 0},
    {"hour", 0, 23, NULL, 0},
    {"day of the month", 1, 31, NULL, 0},
    {"month", 1, 12, month_names, 1},
    {"day of the week", 0, 7, weekday_names, 0},
};

struct scanner {
    const char *text;
    size_t at;
    const struct field *field;
    struct err *err;
};

/* What was read of one field. */
struct parsed {
    uint64_t bits;
    bool begins_with_star;
    size_t at;
};

static int __attribute__((format(printf, 3, 4)))
fail(const struct scanner *scanner, size_t at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    CLEANUP_FREE char *reason = format_text(CRON_TEXT_MAX_BYTES, format, args);
    va_end(args);
    return err_set(scanner->err, ERR_INVALID, "column %zu, %s: %s", at + 1, scanner->field->what, reason);
}

static char next(const struct scanner *scanner)
{
    return scanner->text[scanner->at];
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void skip_blanks(struct scanner *scanner)
{
    while (is_blank(next(scanner))) {
        scanner->at++;
    }
}

static int fail_char(const struct scanner *scanner)
{
    char c = next(scanner);
    if (c == '\0' || is_blank(c)) {
        return fail(scanner, scanner->at, "a value is missing");
    }
    if (c > ' ' && c <= '~') {
        return fail(scanner, scanner->at, "unexpected '%c'", c);
    }
    return fail(scanner, scanner->at, "unexpected character");
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word_char(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* What the letters and digits at *at are; names as well if the field has them. */
static int take_value(struct scanner *scanner, int low, int high, const char *const *names, int *ret_value)
{
    size_t at = scanner->at, len = 0;
    const char *word = scanner->text + at;
    while (is_word_char(word[len])) {
        len++;
    }
    if (len == 0) {
        return fail_char(scanner);
    }
    scanner->at += len;
    for (int i = 0; names && names[i]; i++) {
        if (ascii_equal_nocase(word, len, names[i])) {
            *ret_value = scanner->field->first_name + i;
            return 0;
        }
    }
    int64_t value = 0;
    if (strspn(word, "0123456789") < len) {
        return fail(scanner, at, "\"%.*s\" is no number%s", (int)len, word,
                    names ? " and no name (the first three letters)" : "");
    }
    if (!parse_int64_n(word, len, low, high, &value)) {
        return fail(scanner, at, "%.*s is not within %d and %d", (int)len, word, low, high);
    }
    *ret_value = (int)value;
    return 0;
}

/* "*", a value, or a value and another one behind a '-'. */
static int take_ends(struct scanner *scanner, int *ret_first, int *ret_last, bool *ret_is_range)
{
    const struct field *field = scanner->field;
    size_t at = scanner->at;
    *ret_first = field->low;
    *ret_last = field->high;
    *ret_is_range = true;
    if (next(scanner) == '*') {
        scanner->at++;
        return 0;
    }
    if (take_value(scanner, field->low, field->high, field->names, ret_first) < 0) {
        return -1;
    }
    if (next(scanner) != '-') {
        *ret_last = *ret_first;
        *ret_is_range = false;
        return 0;
    }
    scanner->at++;
    if (take_value(scanner, field->low, field->high, field->names, ret_last) < 0) {
        return -1;
    }
    if (*ret_last < *ret_first) {
        return fail(scanner, at, "the range ends before it begins%s",
                    field == &fields[WEEKDAY] ? " (Sunday is 0, and 7 at the end)" : "");
    }
    return 0;
}

static int take_values(struct scanner *scanner, uint64_t *bits)
{
    int first, last, step = 1;
    bool is_range;
    if (take_ends(scanner, &first, &last, &is_range) < 0) {
        return -1;
    }
    if (next(scanner) == '/') {
        if (!is_range) {
            return fail(scanner, scanner->at, "a step needs a range or '*' before it");
        }
        scanner->at++;
        if (take_value(scanner, 1, STEP_MAX, /* names= */ NULL, &step) < 0) {
            return -1;
        }
    }
    for (int value = first; value <= last; value += step) {
        *bits |= UINT64_C(1) << value;
    }
    return 0;
}

static int take_field(struct scanner *scanner, const struct field *field, struct parsed *ret_parsed)
{
    scanner->field = field;
    skip_blanks(scanner);
    struct parsed parsed = {.at = scanner->at, .begins_with_star = next(scanner) == '*'};
    for (;;) {
        if (take_values(scanner, &parsed.bits) < 0) {
            return -1;
        }
        if (next(scanner) != ',') {
            break;
        }
        scanner->at++;
    }
    if (next(scanner) != '\0' && !is_blank(next(scanner))) {
        return fail_char(scanner);
    }
    *ret_parsed = parsed;
    return 0;
}

/* Whether a month of those has one of the days. In a leap year: each date falls on each day of the week some time. */
static bool has_date(uint64_t days, uint64_t months)
{
    for (int month = 1; month <= 12; month++) {
        uint64_t all = (UINT64_C(2) << civil_month_length(LEAP_YEAR, month)) - 1;
        if (months >> month & 1 && (days & all)) {
            return true;
        }
    }
    return false;
}

static int parse_fields(struct scanner *scanner, struct cron *ret_cron)
{
    struct parsed parsed[FIELDS] = {0};
    for (size_t i = 0; i < FIELDS; i++) {
        if (take_field(scanner, &fields[i], &parsed[i]) < 0) {
            return -1;
        }
    }
    skip_blanks(scanner);
    if (next(scanner) != '\0') {
        return err_set(scanner->err, ERR_INVALID, "column %zu: something follows the fifth field",
                       scanner->at + 1);
    }
    uint64_t weekdays = parsed[WEEKDAY].bits;
    struct cron cron = {
        .minutes = parsed[MINUTE].bits,
        .hours = (uint32_t)parsed[HOUR].bits,
        .days = (uint32_t)parsed[DAY].bits,
        .months = (uint16_t)parsed[MONTH].bits,
        .weekdays = (uint8_t)((weekdays | weekdays >> 7) & 0x7F),
        .either_day = !parsed[DAY].begins_with_star && !parsed[WEEKDAY].begins_with_star,
        .follows_clock = parsed[MINUTE].begins_with_star || parsed[HOUR].begins_with_star,
    };
    if (!cron.either_day && !has_date(cron.days, cron.months)) {
        scanner->field = &fields[DAY];
        return fail(scanner, parsed[DAY].at, "no month of the fourth field has such a day");
    }
    *ret_cron = cron;
    return 0;
}

/* What stands behind the '@'. */
static int parse_word(const char *word, struct cron *ret_cron, struct err *err)
{
    static const struct {
        const char *word, *fields;
    } words[] = {
        {"hourly", "0 * * * *"},  {"daily", "0 0 * * *"},  {"midnight", "0 0 * * *"}, {"weekly", "0 0 * * 0"},
        {"monthly", "0 0 1 * *"}, {"yearly", "0 0 1 1 *"}, {"annually", "0 0 1 1 *"},
    };
    size_t len = strcspn(word, " \t");
    if (word[len + strspn(word + len, " \t")] != '\0') {
        return err_set(err, ERR_INVALID, "something follows the word with '@'");
    }
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (ascii_equal_nocase(word, len, words[i].word)) {
            struct scanner scanner = {.text = words[i].fields, .err = err};
            return parse_fields(&scanner, ret_cron);
        }
    }
    if (ascii_equal_nocase(word, len, "reboot")) {
        return err_set(err, ERR_INVALID, "@reboot is no time");
    }
    return err_set(err, ERR_INVALID,
                   "after '@' comes hourly, daily, midnight, weekly, monthly, yearly or annually");
}

int cron_parse(const char *text, struct cron *ret_cron, struct err *err)
{
    if (strnlen(text, CRON_TEXT_MAX_BYTES + 1) > CRON_TEXT_MAX_BYTES) {
        return err_set(err, ERR_TOO_LARGE, "longer than %d bytes", CRON_TEXT_MAX_BYTES);
    }
    struct scanner scanner = {.text = text, .err = err};
    skip_blanks(&scanner);
    return next(&scanner) == '@' ? parse_word(text + scanner.at + 1, ret_cron, err)
                                 : parse_fields(&scanner, ret_cron);
}
