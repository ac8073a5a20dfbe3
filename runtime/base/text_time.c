/* RFC 3339 for text.h. */
#include <stdio.h>
#include <string.h>

#include "runtime/base/civil_date.h"
#include "runtime/base/text.h"

#define MS_PER_DAY 86400000LL
#define US_PER_DAY 86400000000LL
/* 0000-01-01 and 9999-12-31 in days of the Unix epoch: the years that RFC 3339 can write. */
#define FIRST_DAY (-719528LL)
#define LAST_DAY  2932896LL

static void format_time(int64_t wall_us, bool micro, char out[RFC3339_SIZE])
{
    if (wall_us < FIRST_DAY * US_PER_DAY) {
        wall_us = FIRST_DAY * US_PER_DAY;
    } else if (wall_us >= (LAST_DAY + 1) * US_PER_DAY) {
        wall_us = (LAST_DAY + 1) * US_PER_DAY - 1;
    }
    int64_t days = wall_us / US_PER_DAY - (wall_us % US_PER_DAY < 0);
    int64_t us = wall_us - days * US_PER_DAY;
    struct civil_date date = civil_date_from_days(days);
    int seconds = (int)(us / 1000000);
    int len = snprintf(out, RFC3339_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u", (unsigned)date.year % 10000,
                       (unsigned)date.month % 100, (unsigned)date.day % 100, (unsigned)(seconds / 3600) % 100,
                       (unsigned)(seconds / 60 % 60), (unsigned)(seconds % 60));
    if (micro) {
        snprintf(out + len, RFC3339_SIZE - (size_t)len, ".%06uZ", (unsigned)(us % 1000000));
    } else {
        snprintf(out + len, RFC3339_SIZE - (size_t)len, "Z");
    }
}

void format_rfc3339(int64_t wall_ms, char out[RFC3339_SIZE])
{
    int64_t limit = INT64_MAX / 1000;
    wall_ms = wall_ms > limit ? limit : wall_ms < -limit ? -limit : wall_ms;
    format_time(wall_ms * 1000, false, out);
}

void format_rfc3339_micro(int64_t wall_us, char out[RFC3339_SIZE])
{
    format_time(wall_us, true, out);
}

/* Reads exactly `digits` digits in [min, max] and the character after them (0: none), and moves on. */
static bool take_number(const char **text, int digits, char after, int min, int max, int *ret_value)
{
    int value = 0;
    for (int i = 0; i < digits; i++) {
        char c = (*text)[i];
        if (c < '0' || c > '9') {
            return false;
        }
        value = value * 10 + (c - '0');
    }
    *text += digits;
    if (value < min || value > max || (after && *(*text)++ != after)) {
        return false;
    }
    *ret_value = value;
    return true;
}

/* ".123456789", optional; digits below the millisecond are dropped. */
static bool take_fraction(const char **text, int *ret_ms)
{
    *ret_ms = 0;
    if (**text != '.') {
        return true;
    }
    (*text)++;
    int weight = 100, digits = 0;
    for (; **text >= '0' && **text <= '9'; (*text)++, digits++) {
        *ret_ms += (**text - '0') * weight;
        weight /= 10;
    }
    return digits > 0;
}

static bool take_zone(const char **text, int *ret_minutes)
{
    char sign = *(*text)++;
    if (sign == 'Z') {
        *ret_minutes = 0;
        return true;
    }
    int hours, minutes;
    if ((sign != '+' && sign != '-') || !take_number(text, 2, ':', 0, 23, &hours) ||
        !take_number(text, 2, '\0', 0, 59, &minutes)) {
        return false;
    }
    *ret_minutes = (sign == '-' ? -1 : 1) * (hours * 60 + minutes);
    return true;
}

bool parse_rfc3339(const char *text, int64_t *ret_wall_ms)
{
    struct civil_date date;
    int hour, minute, second, ms, zone_minutes;
    if (!take_number(&text, 4, '-', 0, 9999, &date.year) || !take_number(&text, 2, '-', 1, 12, &date.month) ||
        !take_number(&text, 2, 'T', 1, 31, &date.day) || !take_number(&text, 2, ':', 0, 23, &hour) ||
        !take_number(&text, 2, ':', 0, 59, &minute) || !take_number(&text, 2, '\0', 0, 59, &second) ||
        !take_fraction(&text, &ms) || !take_zone(&text, &zone_minutes) || *text != '\0') {
        return false;
    }
    int64_t days = civil_date_days(date);
    if (date.day > civil_month_length(date.year, date.month)) {
        return false; /* 31 April */
    }
    *ret_wall_ms = days * MS_PER_DAY + ((hour * 60LL + minute - zone_minutes) * 60 + second) * 1000 + ms;
    return true;
}
