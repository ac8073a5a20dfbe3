#include "runtime/base/stop.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/base/clock.h"

void stop_init(struct stop *stop)
{
    atomic_init(&stop->set, false);
    stop->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop->event_fd < 0) {
        /* Out of file descriptors at start-up: the same class of failure as out of memory. */
        perror("eventfd");
        abort();
    }
}

void stop_release(struct stop *stop)
{
    if (stop->event_fd >= 0) {
        close(stop->event_fd);
        stop->event_fd = -1;
    }
}

void stop_set(struct stop *stop)
{
    if (atomic_exchange(&stop->set, true)) {
        return;
    }
    eventfd_write(stop->event_fd, 1);
}

bool stop_is_set(const struct stop *stop)
{
    return atomic_load(&stop->set);
}

int stop_fd(const struct stop *stop)
{
    return stop->event_fd;
}

bool stop_wait(const struct stop *stop, int64_t timeout_ms)
{
    int64_t now = clock_monotonic_ms();
    int64_t deadline_ms =
        timeout_ms < 0 || timeout_ms > INT64_MAX - now - 1 ? DEADLINE_NONE : now + timeout_ms;
    while (!stop_is_set(stop)) {
        int left_ms = deadline_left_ms(deadline_ms);
        if (left_ms == 0) {
            return false;
        }
        struct pollfd entry = {.fd = stop->event_fd, .events = POLLIN};
        poll(&entry, 1, left_ms);
    }
    return true;
}
