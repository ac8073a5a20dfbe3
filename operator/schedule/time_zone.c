#include "operator/schedule/time_zone.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "operator/schedule/time_zone_internal.h"
#include "runtime/base/civil_date.h"
#include "runtime/base/text.h"

#define DAY_S 86400LL

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '+';
}

/* Elements of letters, digits, '_', '-' and '+', as all names of the database are: no dot, so no way out of the directory. Two of its
 * files are whatever the machine's owner chose. */
bool time_zone_is_name(const char *name)
{
    if (strlen(name) > TIME_ZONE_NAME_MAX_BYTES || strcmp(name, "localtime") == 0 ||
        strcmp(name, "posixrules") == 0) {
        return false;
    }
    char before = '/';
    for (const char *at = name; *at; at++) {
        if (*at == '/' ? before == '/' : !is_name_char(*at)) {
            return false;
        }
        before = *at;
    }
    return before != '/';
}

/* What opening or reading it said: a folder ("Europe") and what would be below a file are no zones, either. */
static int no_zone(const char *directory, const char *name, struct err *err)
{
    bool is_absent = err->code == ERR_NOT_FOUND || err->sys_errno == EISDIR || err->sys_errno == ENOTDIR;
    if (is_absent && access(directory, X_OK) == 0) {
        return err_set(err, ERR_NOT_FOUND, "there is no time zone \"%s\"", name);
    }
    if (is_absent) {
        err->code = ERR_IO;
    }
    return err_wrap(err, "time zone \"%s\"", name);
}

int time_zone_load(const char *directory, const char *name, struct time_zone **ret_zone, struct err *err)
{
    if (!time_zone_is_name(name)) {
        return err_set(err, ERR_INVALID, "\"%.*s\" is not the name of a time zone", TIME_ZONE_NAME_MAX_BYTES,
                       name);
    }
    if (strcmp(name, "UTC") == 0 || strcmp(name, "Etc/UTC") == 0) {
        *ret_zone = xcalloc(1, sizeof(**ret_zone));
        return 0;
    }
    CLEANUP_FREE char *path = xasprintf("%s/%s", directory, name);
    CLEANUP_FREE char *data = NULL;
    size_t len;
    if (file_read(path, TIME_ZONE_FILE_MAX_BYTES, &data, &len, err) < 0) {
        return no_zone(directory, name, err);
    }
    if (time_zone_parse(data, len, ret_zone, err) < 0) {
        return err_wrap(err, "the file of time zone \"%s\"", name);
    }
    return 0;
}

static int64_t clamp(int64_t utc_s)
{
    return utc_s < TIME_ZONE_MIN_S ? TIME_ZONE_MIN_S : utc_s > TIME_ZONE_MAX_S ? TIME_ZONE_MAX_S : utc_s;
}

/* How many changes there were until then. */
static size_t changes_until(const struct time_zone *zone, int64_t utc_s)
{
    size_t low = 0, high = zone->change_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->changes[middle].at_s <= utc_s) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct time_zone_span time_zone_span_at(const struct time_zone *zone, int64_t utc_s)
{
    utc_s = clamp(utc_s);
    size_t next = changes_until(zone, utc_s);
    struct time_zone_span span = {INT64_MIN, INT64_MAX, zone->first_offset_s};
    if (next == zone->change_count && zone->has_rule) {
        span = time_zone_rule_span(&zone->rule, utc_s);
    } else if (next > 0) {
        span.offset_s = zone->changes[next - 1].offset_s;
    }
    if (next > 0 && span.start_s < zone->changes[next - 1].at_s) {
        span.start_s = zone->changes[next - 1].at_s;
    }
    if (next < zone->change_count) {
        span.end_s = zone->changes[next].at_s;
    }
    return span;
}

void time_zone_local(const struct time_zone *zone, int64_t utc_s, struct local_time *ret_local)
{
    utc_s = clamp(utc_s);
    int32_t offset_s = time_zone_span_at(zone, utc_s).offset_s;
    int64_t local_s = utc_s + offset_s;
    int64_t day = local_s / DAY_S - (local_s % DAY_S < 0);
    int second_of_day = (int)(local_s - day * DAY_S);
    struct civil_date date = civil_date_from_days(day);
    *ret_local = (struct local_time){
        .year = date.year,
        .month = date.month,
        .day = date.day,
        .hour = second_of_day / 3600,
        .minute = second_of_day / 60 % 60,
        .second = second_of_day % 60,
        .weekday = civil_weekday(day),
        .offset_s = offset_s,
    };
}

static bool is_time(const struct local_time *local)
{
    return local->year >= 0 && local->year <= 10000 && local->month >= 1 && local->month <= 12 &&
           local->day >= 1 && local->day <= civil_month_length(local->year, local->month) &&
           local->hour >= 0 && local->hour <= 23 && local->minute >= 0 && local->minute <= 59 &&
           local->second >= 0 && local->second <= 59;
}

size_t time_zone_instants(const struct time_zone *zone, const struct local_time *local, int64_t ret_utc_s[2])
{
    if (!is_time(local)) {
        return 0;
    }
    int64_t day = civil_date_days((struct civil_date){local->year, local->month, local->day});
    int64_t local_s = day * DAY_S + local->hour * 3600 + local->minute * 60 + local->second;
    int64_t last_s = local_s + TIME_ZONE_OFFSET_MAX_S;
    struct time_zone_span span = time_zone_span_at(zone, local_s - TIME_ZONE_OFFSET_MAX_S);
    size_t count = 0;
    for (;;) {
        int64_t utc_s = local_s - span.offset_s;
        if (utc_s >= span.start_s && utc_s < span.end_s) {
            ret_utc_s[count++] = utc_s;
        }
        if (count == 2 || span.end_s > last_s || span.end_s > TIME_ZONE_MAX_S) {
            return count;
        }
        span = time_zone_span_at(zone, span.end_s);
    }
}
