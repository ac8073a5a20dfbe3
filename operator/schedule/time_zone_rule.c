#include "operator/schedule/time_zone_rule.h"

#include "runtime/base/civil_date.h"
#include "runtime/base/text.h"

#define DAY_S            86400LL
#define OFFSET_HOURS_MAX 24
#define CHANGE_HOURS_MAX 167 /* since version 3 of TZif; POSIX has 24 */
#define NAME_LETTERS_MIN 3
#define CHANGE_DEFAULT_S 7200
#define WEEK_LAST        5

struct scanner {
    const char *start, *at, *end;
};

static bool is_next(const struct scanner *scanner, char c)
{
    return scanner->at < scanner->end && *scanner->at == c;
}

static bool take(struct scanner *scanner, char c)
{
    bool there = is_next(scanner, c);
    scanner->at += there;
    return there;
}

static bool is_digit(const struct scanner *scanner)
{
    return scanner->at < scanner->end && *scanner->at >= '0' && *scanner->at <= '9';
}

static bool is_letter(const struct scanner *scanner)
{
    return scanner->at < scanner->end &&
           ((*scanner->at >= 'A' && *scanner->at <= 'Z') || (*scanner->at >= 'a' && *scanner->at <= 'z'));
}

/* False: there is none, or not within [min, max]; the scanner stays. */
static bool take_number(struct scanner *scanner, int min, int max, int *ret_value)
{
    const char *from = scanner->at;
    while (is_digit(scanner)) {
        scanner->at++;
    }
    int64_t value = 0;
    if (!parse_int64_n(from, (size_t)(scanner->at - from), min, max, &value)) {
        scanner->at = from;
        return false;
    }
    *ret_value = (int)value;
    return true;
}

/* What people call the time: "CEST", or "<+0530>". Nobody here wants to know. */
static bool take_name(struct scanner *scanner)
{
    bool quoted = take(scanner, '<');
    const char *from = scanner->at;
    while (is_letter(scanner) ||
           (quoted && (is_digit(scanner) || is_next(scanner, '+') || is_next(scanner, '-')))) {
        scanner->at++;
    }
    return scanner->at - from >= NAME_LETTERS_MIN && (!quoted || take(scanner, '>'));
}

/* [+-]hh[:mm[:ss]] */
static bool take_time(struct scanner *scanner, int max_hours, int *ret_s)
{
    bool negative = take(scanner, '-');
    int hours, minutes = 0, seconds = 0;
    if (!negative) {
        (void)take(scanner, '+');
    }
    if (!take_number(scanner, 0, max_hours, &hours) ||
        (take(scanner, ':') && (!take_number(scanner, 0, 59, &minutes) ||
                                (take(scanner, ':') && !take_number(scanner, 0, 59, &seconds))))) {
        return false;
    }
    int time_s = hours * 3600 + minutes * 60 + seconds;
    *ret_s = negative ? -time_s : time_s;
    return true;
}

/* POSIX counts westwards. */
static bool take_offset(struct scanner *scanner, int32_t *ret_offset_s)
{
    int west_s;
    if (!take_time(scanner, OFFSET_HOURS_MAX, &west_s)) {
        return false;
    }
    *ret_offset_s = -west_s;
    return true;
}

static bool take_day(struct scanner *scanner, struct time_zone_change_rule *change)
{
    if (take(scanner, 'J')) {
        change->kind = TIME_ZONE_DAY_WITHOUT_LEAP;
        return take_number(scanner, 1, 365, &change->day);
    }
    if (take(scanner, 'M')) {
        change->kind = TIME_ZONE_DAY_OF_WEEK;
        return take_number(scanner, 1, 12, &change->month) && take(scanner, '.') &&
               take_number(scanner, 1, WEEK_LAST, &change->week) && take(scanner, '.') &&
               take_number(scanner, 0, 6, &change->day);
    }
    change->kind = TIME_ZONE_DAY_FROM_ZERO;
    return take_number(scanner, 0, 365, &change->day);
}

static bool take_change(struct scanner *scanner, struct time_zone_change_rule *change)
{
    change->time_s = CHANGE_DEFAULT_S;
    return take(scanner, ',') && take_day(scanner, change) &&
           (!take(scanner, '/') || take_time(scanner, CHANGE_HOURS_MAX, &change->time_s));
}

static bool take_rule(struct scanner *scanner, struct time_zone_rule *rule)
{
    if (!take_name(scanner) || !take_offset(scanner, &rule->standard_s)) {
        return false;
    }
    if (scanner->at == scanner->end) {
        return true;
    }
    rule->has_summer = true;
    rule->summer_s = rule->standard_s + 3600;
    return take_name(scanner) && (is_next(scanner, ',') || take_offset(scanner, &rule->summer_s)) &&
           take_change(scanner, &rule->begin) && take_change(scanner, &rule->end) &&
           scanner->at == scanner->end;
}

int time_zone_rule_parse(const char *text, size_t len, struct time_zone_rule *ret_rule, struct err *err)
{
    struct scanner scanner = {text, text, text + len};
    struct time_zone_rule rule = {0};
    if (!take_rule(&scanner, &rule)) {
        return err_set(err, ERR_INVALID, "the rule in its last line is malformed at column %td",
                       scanner.at - scanner.start + 1);
    }
    *ret_rule = rule;
    return 0;
}

static int64_t day_of_change(const struct time_zone_change_rule *change, int year)
{
    if (change->kind == TIME_ZONE_DAY_FROM_ZERO) {
        return civil_date_days((struct civil_date){year, 1, 1}) + change->day;
    }
    if (change->kind == TIME_ZONE_DAY_WITHOUT_LEAP) {
        bool after_leap_day = change->day >= 60 && civil_month_length(year, 2) == 29;
        return civil_date_days((struct civil_date){year, 1, 1}) + change->day - 1 + after_leap_day;
    }
    int64_t first = civil_date_days((struct civil_date){year, change->month, 1});
    int day = (change->day - civil_weekday(first) + 7) % 7 + (change->week - 1) * 7;
    return first + (day < civil_month_length(year, change->month) ? day : day - 7);
}

struct change {
    int64_t at_s;
    int32_t offset_s;
};

/* Those of one year; returns how many. */
static size_t add_changes(const struct time_zone_rule *rule, int year, struct change *changes)
{
    changes[0] = (struct change){
        day_of_change(&rule->begin, year) * DAY_S + rule->begin.time_s - rule->standard_s, rule->summer_s};
    changes[1] = (struct change){day_of_change(&rule->end, year) * DAY_S + rule->end.time_s - rule->summer_s,
                                 rule->standard_s};
    return 2;
}

/* Of changes at the same instant the later one is the last that was added: a summer time that ends as the next year's begins lasts for
 * ever. */
static void sort_changes(struct change *changes, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct change change = changes[i];
        size_t at = i;
        for (; at > 0 && changes[at - 1].at_s > change.at_s; at--) {
            changes[at] = changes[at - 1];
        }
        changes[at] = change;
    }
}

/* A change may be up to a week outside of its year, so that two years on either side have one before utc_s and one after it. */
#define YEARS_AROUND 2

struct time_zone_span time_zone_rule_span(const struct time_zone_rule *rule, int64_t utc_s)
{
    if (!rule->has_summer) {
        return (struct time_zone_span){INT64_MIN, INT64_MAX, rule->standard_s};
    }
    int64_t day = utc_s / DAY_S - (utc_s % DAY_S < 0);
    int year = civil_date_from_days(day).year;
    struct change changes[2 * (2 * YEARS_AROUND + 1)];
    size_t count = 0, next = 0;
    for (int around = -YEARS_AROUND; around <= YEARS_AROUND; around++) {
        count += add_changes(rule, year + around, changes + count);
    }
    sort_changes(changes, count);
    while (changes[next].at_s <= utc_s) {
        next++;
    }
    return (struct time_zone_span){changes[next - 1].at_s, changes[next].at_s, changes[next - 1].offset_s};
}
