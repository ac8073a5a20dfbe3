#include "runtime/base/clock.h"

#include <limits.h>
#include <time.h>

static int64_t now_us(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_monotonic_us(void)
{
    return now_us(CLOCK_MONOTONIC);
}

int64_t clock_monotonic_ms(void)
{
    return clock_monotonic_us() / 1000;
}

int64_t clock_coarse_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_wall_us(void)
{
    return now_us(CLOCK_REALTIME);
}

int64_t clock_wall_ms(void)
{
    return clock_wall_us() / 1000;
}

static int64_t system_monotonic_ms(const struct clock *self)
{
    (void)self;
    return clock_monotonic_ms();
}

static int64_t system_wall_ms(const struct clock *self)
{
    (void)self;
    return clock_wall_ms();
}

const struct clock clock_system = {.monotonic_ms = system_monotonic_ms, .wall_ms = system_wall_ms};

int deadline_left_at_ms(int64_t deadline_ms, int64_t now_ms)
{
    if (deadline_ms == DEADLINE_NONE) {
        return -1;
    }
    if (deadline_ms <= now_ms) {
        return 0;
    }
    int64_t left = deadline_ms - now_ms;
    return left < INT_MAX ? (int)left : INT_MAX;
}

int deadline_left_ms(int64_t deadline_ms)
{
    return deadline_ms == DEADLINE_NONE ? -1 : deadline_left_at_ms(deadline_ms, clock_monotonic_ms());
}
