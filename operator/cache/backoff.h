/* backoff.h - how long to wait before the next try: 0.8 s doubling to a limit, half of it at random, back to the start after two
 * minutes in which nobody asked.
 *
 * Threads: one owner at a time.
 */
#ifndef CICADA_CACHE_BACKOFF_H
#define CICADA_CACHE_BACKOFF_H

#include <stdint.h>

struct backoff {
    int64_t max_ms;
    int64_t next_ms;
    int64_t asked_ms; /* monotonic, of the last call */
};

void backoff_init(struct backoff *backoff, int64_t max_ms);
/* In [n/2, n] for the n-th step n; random: any 64 random bits. */
int64_t backoff_next(struct backoff *backoff, int64_t now_ms, uint64_t random);

#endif
