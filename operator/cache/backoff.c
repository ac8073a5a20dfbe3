#include "operator/cache/backoff.h"

#define FIRST_MS 800
#define QUIET_MS 120000

static int64_t first_ms(const struct backoff *backoff)
{
    return FIRST_MS < backoff->max_ms ? FIRST_MS : backoff->max_ms;
}

void backoff_init(struct backoff *backoff, int64_t max_ms)
{
    backoff->max_ms = max_ms > 2 ? max_ms : 2;
    backoff->next_ms = first_ms(backoff);
    backoff->asked_ms = 0;
}

int64_t backoff_next(struct backoff *backoff, int64_t now_ms, uint64_t random)
{
    if (now_ms - backoff->asked_ms > QUIET_MS)
        backoff->next_ms = first_ms(backoff);
    backoff->asked_ms = now_ms;
    int64_t step_ms = backoff->next_ms;
    backoff->next_ms = step_ms < backoff->max_ms / 2 ? step_ms * 2 : backoff->max_ms;
    int64_t half_ms = step_ms / 2;
    return half_ms + (int64_t)(random % (uint64_t)(step_ms - half_ms + 1));
}
