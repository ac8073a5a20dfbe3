#include "runtime/http/http_crowd.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

void http_crowd_init(struct http_crowd *crowd, int threads)
{
    *crowd = (struct http_crowd){.threads = threads};
    crowd->event_fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
    if (crowd->event_fd < 0) {
        abort(); /* as in stop_init() */
    }
}

void http_crowd_release(struct http_crowd *crowd)
{
    close(crowd->event_fd);
}

void http_crowd_accepted(struct http_crowd *crowd)
{
    const uint64_t one = 1;
    atomic_fetch_add(&crowd->queued, 1);
    if (atomic_fetch_add(&crowd->open, 1) + 1 > crowd->threads) {
        (void)!write(crowd->event_fd, &one, sizeof(one));
    }
}

void http_crowd_taken(struct http_crowd *crowd, bool yielded)
{
    atomic_fetch_sub(&crowd->queued, 1);
    if (yielded) {
        atomic_fetch_sub(&crowd->yielding, 1);
    }
}

void http_crowd_closed(struct http_crowd *crowd)
{
    atomic_fetch_sub(&crowd->open, 1);
}

bool http_crowd_yield(struct http_crowd *crowd)
{
    uint64_t one;
    if (read(crowd->event_fd, &one, sizeof(one)) != sizeof(one)) {
        return false; /* another thread was asked */
    }
    /* Those in line may have got a thread meanwhile. */
    int yielding = atomic_load(&crowd->yielding);
    while (yielding < atomic_load(&crowd->queued)) {
        if (atomic_compare_exchange_weak(&crowd->yielding, &yielding, yielding + 1)) {
            return true;
        }
    }
    return false;
}
