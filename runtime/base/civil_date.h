/* civil_date.h - dates of the proleptic Gregorian calendar, as days since 1970-01-01. No time zone, no libc: gmtime_r() and
 * timegm() read the time zone database.
 *
 * For years whose numbers are far from the limits of an int. Threads: values, no state.
 */
#ifndef CICADA_BASE_CIVIL_DATE_H
#define CICADA_BASE_CIVIL_DATE_H

#include <stdint.h>

struct civil_date {
    int year, month, day; /* month and day begin with 1 */
};

/* A day beyond the end of its month is one of the next month: 31 April is 1 May. */
int64_t civil_date_days(struct civil_date date);
struct civil_date civil_date_from_days(int64_t days);
int civil_month_length(int year, int month);
int civil_weekday(int64_t days); /* 0: Sunday */

#endif
