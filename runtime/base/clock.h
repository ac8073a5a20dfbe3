/* clock.h - time, injected where a decision depends on it.
 *
 * Monotonic time is for durations and deadlines, wall time (Unix epoch) for people and for the API. A deadline is
 * a monotonic millisecond value; 0 is never a valid deadline, DEADLINE_NONE means "no limit".
 */
#ifndef CICADA_BASE_CLOCK_H
#define CICADA_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_monotonic_ms(void);
int64_t clock_monotonic_us(void);
/* The time of the kernel's last tick, up to some 4 ms ago: costs next to nothing. For what is asked with each request and
 * counts in tens of ms and more. */
int64_t clock_coarse_ms(void);
int64_t clock_wall_ms(void);
int64_t clock_wall_us(void);

/* A clock that a test can replace. */
struct clock {
    int64_t (*monotonic_ms)(const struct clock *self);
    int64_t (*wall_ms)(const struct clock *self);
};
extern const struct clock clock_system;

#define DEADLINE_NONE INT64_MAX

/* What is left until `deadline_ms` in ms: >= 0, clamped to INT_MAX so that it fits poll(); -1 for DEADLINE_NONE. */
int deadline_left_ms(int64_t deadline_ms);
int deadline_left_at_ms(int64_t deadline_ms, int64_t now_ms);

#endif
